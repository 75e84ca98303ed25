"""The exact tilt: on a grid, as distances, and as posterior means along the flow."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qgf_inputs import mixtures

from intuitive.common.runtime import seeded
from intuitive.qgf import GaussianMixture, QuadraticCritic, tilt, wasserstein1
from intuitive.qgf import tilting as room
from intuitive.qgf.tilting import Posterior, kl_divergence, sample_kl
from intuitive.qgf.trimodal import PRESETS

GRID = torch.linspace(-16, 16, 16_001, dtype=torch.float64)
NORMAL = GaussianMixture([0.0], [1.0], [1.0])
few = settings(max_examples=20, deadline=None, derandomize=True)


def quadratic_tilt(mixture, peak, weight):
    """Closed form: again a mixture."""
    means, variance = mixture.means, mixture.stds.square()
    narrowed = 1 / (1 / variance + 2 * weight)
    apart = variance + 1 / (2 * weight)
    log_share = mixture.weights.log() - 0.5 * apart.log() - (means - peak) ** 2 / (2 * apart)
    centres = narrowed * (means / variance + 2 * weight * peak)
    return GaussianMixture(centres, narrowed.sqrt(), log_share.softmax(0))


def critics(kind, peak, width):
    return {
        "quadratic": QuadraticCritic(peak),
        "gaussian": lambda a: (-((a - peak) ** 2) / (2 * width**2)).exp(),
        "jump": lambda a: (a > peak).to(a.dtype),
        "roof": lambda a: -(a - peak).abs(),
    }[kind]


# ----------------------------------------------------------------------------------- on a grid


@few
@given(mixture=mixtures(), peak=st.floats(-3, 3), weight=st.floats(0.01, 50))
def test_tilt_by_a_quadratic_is_the_closed_form(mixture, peak, weight):
    got = tilt(mixture, QuadraticCritic(peak), weight, GRID)
    want = quadratic_tilt(mixture, peak, weight).log_prob(GRID).exp()
    torch.testing.assert_close(got, want, atol=1e-6 * float(want.max()), rtol=1e-5)


@few
@given(mixture=mixtures(), shift=st.floats(-1e3, 1e3))
def test_a_constant_critic_changes_nothing(mixture, shift):
    got = tilt(mixture, lambda a: torch.full_like(a, shift), 7.0, GRID)
    torch.testing.assert_close(got, mixture.log_prob(GRID).exp(), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_weights_neither_overflow_nor_vanish(dtype):
    grid = GRID.to(dtype)
    p = tilt(PRESETS["B"].mixture, QuadraticCritic(0.3), 1e5, grid)
    assert p.dtype == dtype and p.isfinite().all()
    assert float(torch.trapezoid(p.double(), GRID)) == pytest.approx(1, abs=1e-5)
    assert float(grid[p.argmax()]) == pytest.approx(0.3, abs=2e-3)


def test_front_door_gives_the_function_not_a_module():
    import intuitive.qgf as qgf

    assert callable(qgf.tilt) and qgf.tilt is room.tilt


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": -1.0}, "weight=-1.0 must be finite and at least 0"),
        ({"weight": math.nan}, "weight=nan"),
        ({"grid": torch.tensor([0.0, 0.0, 1.0])}, "increasing"),
        ({"grid": torch.tensor([0.0])}, "at least two"),
        ({"critic": lambda a: a[:, None]}, r"\(16001, 1\).*one value per action.*squeeze"),
        ({"critic": lambda a: a.sum()}, r"returned \(\)"),
        ({"critic": lambda a: 1.0}, "returned float"),
        ({"critic": lambda a: a / 0}, "returned (-inf|nan|inf) at the action"),
        ({"mixture": GaussianMixture([[0.0, 0.0]], [1.0], [1.0])}, "last axis must have size 2"),
    ],
)
def test_impossible_tilts_are_refused(change, message):
    setting = {"mixture": NORMAL, "critic": QuadraticCritic(), "weight": 1.0, "grid": GRID}
    with pytest.raises(ValueError, match=message):
        tilt(**(setting | change))


# ----------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("shift", [0.0, 0.7, -3.0])
def test_w1_of_shifted_quantiles_is_the_shift(shift):
    n = 20_000
    x = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n) + shift
    density = NORMAL.log_prob(GRID).exp()
    assert wasserstein1(x, density, GRID) == pytest.approx(abs(shift), abs=1e-3)


def test_w1_counts_samples_beyond_the_grid():
    grid = torch.linspace(0, 1, 101)
    uniform = torch.ones(101)
    assert wasserstein1(torch.tensor([5.0]), uniform, grid) == pytest.approx(4.5, abs=1e-6)
    assert wasserstein1(torch.tensor([-2.0]), uniform, grid) == pytest.approx(2.5, abs=1e-6)
    assert wasserstein1(torch.tensor([0.5]), uniform, grid) == pytest.approx(0.25, abs=1e-6)


@few
@given(seed=st.integers(0, 99), n=st.integers(1, 60))
def test_w1_is_the_area_between_distribution_functions(seed, n):
    x = torch.randn(n, generator=seeded(seed), dtype=torch.float64)
    density = PRESETS["A"].mixture.log_prob(GRID).exp()
    reached = torch.cat((torch.zeros(1), torch.cumulative_trapezoid(density, GRID)))
    below = (x[:, None] <= GRID).double().mean(0)
    area = torch.trapezoid((below - reached).abs(), GRID)
    assert wasserstein1(x, density, GRID) == pytest.approx(float(area), abs=2e-3)


@pytest.mark.parametrize(
    ("samples", "density", "message"),
    [
        (torch.zeros(0), NORMAL.log_prob(GRID).exp(), "at least one finite"),
        (torch.tensor([math.nan]), NORMAL.log_prob(GRID).exp(), "finite"),
        (torch.zeros(2, 2), NORMAL.log_prob(GRID).exp(), r"shape \(2, 2\)"),
        (torch.zeros(3), torch.ones(16_001), "integrates to 32"),
        (torch.zeros(3), torch.ones(5), r"density has shape \(5,\)"),
        (torch.zeros(3), -NORMAL.log_prob(GRID).exp(), "at least 0"),
    ],
)
def test_impossible_distances_are_refused(samples, density, message):
    with pytest.raises(ValueError, match=message):
        wasserstein1(samples, density, GRID)


def test_kl_of_two_gaussians():
    p = GaussianMixture([0.5], [0.8], [1.0]).log_prob(GRID).exp()
    q = NORMAL.log_prob(GRID).exp()
    want = math.log(1 / 0.8) + (0.64 + 0.25) / 2 - 0.5
    assert kl_divergence(p, q, GRID) == pytest.approx(want, abs=1e-6)
    assert kl_divergence(q, q, GRID) == 0


def test_kl_by_histogram_finds_that_of_two_gaussians():
    x = GaussianMixture([0.5], [0.8], [1.0]).sample(20_000, seeded(0))
    want = math.log(1 / 0.8) + (0.64 + 0.25) / 2 - 0.5
    assert sample_kl(x, NORMAL.log_prob, bin_width=0.2) == pytest.approx(want, abs=0.02)
    same = NORMAL.sample(20_000, seeded(1))
    assert abs(sample_kl(same, NORMAL.log_prob, bin_width=0.2)) < 0.003
    assert sample_kl(torch.tensor([1e4]), NORMAL.log_prob, bin_width=0.1) > 1e7  # and finite
    with pytest.raises(ValueError, match="bin_width=0"):
        sample_kl(same, NORMAL.log_prob, bin_width=0)


# ----------------------------------------------------------------------------------- as a flow


@few
@given(
    mixture=mixtures(),
    peak=st.floats(-3, 3),
    weight=st.floats(0.1, 50),
    t=st.sampled_from([0.0, 0.2, 0.7, 0.95, 0.999, 0.99999]),
)
def test_posterior_of_a_quadratic_tilt_is_that_of_the_tilted_mixture(mixture, peak, weight, t):
    tilted = quadratic_tilt(mixture, peak, weight)
    posterior = Posterior(mixture, lambda a: weight * QuadraticCritic(peak)(a))
    x = t * tilted.sample(20, seeded(0)).double()
    x += (1 - t) * torch.randn(20, generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close(
        posterior.mean(x, t), tilted.posterior_mean(x, t), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        posterior.log_prob_t(x, t), tilted.log_prob_t(x, t), atol=1e-3, rtol=1e-3
    )


@few
@given(
    mixture=mixtures(),
    kind=st.sampled_from(["gaussian", "jump", "roof"]),
    peak=st.floats(-2, 2),
    width=st.floats(0.05, 1),
    weight=st.floats(0.1, 30),
    t=st.sampled_from([0.0, 0.3, 0.8, 0.97]),
)
def test_posterior_of_any_tilt_is_a_sum_over_a_fine_grid(mixture, kind, peak, width, weight, t):
    critic = critics(kind, peak, width)
    y = torch.linspace(-8, 8, 64_001, dtype=torch.float64)
    p = tilt(mixture, critic, weight, y)
    data = y[torch.multinomial(p, 5, replacement=True, generator=seeded(0))]
    x = t * data + (1 - t) * torch.randn(5, generator=seeded(1), dtype=torch.float64)
    share = (p.log() - 0.5 * ((x[:, None] - t * y) / (1 - t)).square()).softmax(1)
    got = Posterior(mixture, lambda a: weight * critic(a)).mean(x, t)
    torch.testing.assert_close(got, (share * y).sum(1), atol=2e-3, rtol=0)


def test_many_positions_are_interpolated_between_their_own():
    """Between 257 of 5,000 positions, against all of them computed; the answer never falls."""
    mixture, t = PRESETS["B"].mixture, 0.8
    posterior = Posterior(mixture, PRESETS["B"].q)
    x = t * mixture.sample(5_000, seeded(0)).double() + 0.2 * torch.randn(
        5_000, generator=seeded(1)
    )
    got = posterior.mean(x, t)
    want = torch.cat([posterior.mean(part, t) for part in x.split(200)])
    assert float((got - want).abs().mean()) < 2e-4
    assert (got[x.argsort()].diff() >= -1e-12).all()


@pytest.mark.parametrize("kind", ["gaussian", "jump", "quadratic"])
def test_gradient_of_a_conditional_mean_is_its_finite_difference(kind):
    mixture, t, h = PRESETS["B"].mixture, 0.7, 1e-4
    critic = critics(kind, 0.25, 0.1)
    posterior = Posterior(mixture, torch.zeros_like, function=critic)
    y = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    x = torch.linspace(-0.9, 0.9, 11, dtype=torch.float64)

    def expected(x):
        share = (mixture.log_prob(y) - 0.5 * ((x[:, None] - t * y) / (1 - t)).square()).softmax(1)
        return (share * critic(y)).sum(1)

    want = (expected(x + h) - expected(x - h)) / (2 * h)
    torch.testing.assert_close(posterior.mean_gradient(x, t), want, atol=5e-3, rtol=5e-3)


def test_a_factor_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="zero at every node"):
        Posterior(NORMAL, lambda a: torch.full_like(a, -math.inf))
