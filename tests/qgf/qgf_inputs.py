"""Random mixtures for the tests of the closed-form flow."""

from hypothesis import strategies as st

from intuitive.qgf import GaussianMixture


@st.composite
def mixtures(draw):
    """One to six modes between -3 and 3, uneven shares and widths."""
    k = draw(st.integers(1, 6))
    numbers = {
        "means": st.floats(-3, 3),
        "stds": st.floats(0.02, 1.5),
        "weights": st.floats(0.05, 1.0),
    }
    means, stds, weights = (draw(st.lists(s, min_size=k, max_size=k)) for s in numbers.values())
    return GaussianMixture(means, stds, [w / sum(weights) for w in weights])
