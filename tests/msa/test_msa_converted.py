"""The committed conversion of SmolLM2, read as curves: what it shows."""

import pytest

from intuitive.msa.converted import QUALITIES, READERS, ConvertedParams, converted


def values(measure, context=4096):
    found = converted(ConvertedParams(measure=measure, context=context))
    return found, {
        name: {point.n_selected: point.mean for point in points}
        for name, points in found.curves.items()
    }


@pytest.mark.parametrize("context", [2048, 4096])
@pytest.mark.parametrize("measure", ["perplexity", "mass_captured", "block_recall"])
def test_every_selector_was_measured_and_the_index_with_three_seeds(measure, context):
    found, curves = values(measure, context)
    assert set(curves) == set(READERS)
    assert all(len(point.by_seed) == 3 for point in found.curves["trained_index"])
    assert all(set(curve) == {2, 4, 8, 16} for curve in curves.values())


@pytest.mark.parametrize("measure", QUALITIES[:2])
def test_nothing_captures_more_than_the_oracle(measure):
    _, curves = values(measure)
    for name, curve in curves.items():
        for budget, value in curve.items():
            assert value <= curves["oracle"][budget] + 1e-6, (name, budget)


def test_more_blocks_bring_perplexity_down_to_the_dense_model():
    found, curves = values("perplexity")
    for curve in curves.values():
        ordered = [curve[budget] for budget in sorted(curve)]
        assert ordered == sorted(ordered, reverse=True)
        assert ordered[-1] > found.dense - 0.02
    assert curves["trained_index"][16] < 1.1 * found.dense


def test_the_index_captures_more_mass_than_the_window_at_every_budget():
    _, curves = values("mass_captured")
    assert all(curves["trained_index"][k] > curves["window_sink"][k] for k in (2, 4, 8, 16))


def test_the_index_does_not_find_a_passage_read_before():
    """A finding that the lesson reports: looking back for known words was not learned."""
    found, curves = values("returning_passage")
    assert curves["main_max"][8] < 1.1 * found.dense
    assert curves["trained_index"][8] > 5 * found.dense


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"measure": "taste"}, "must be one of"),
        ({"measure": "block_recall", "context": 8192}, "2048, 4096"),
        ({"n_selected": 3}, "2, 4, 8, 16"),
    ],
)
def test_what_was_not_measured_is_refused_with_what_was(settings, words):
    with pytest.raises(ValueError, match=words):
        converted(ConvertedParams(**settings))
