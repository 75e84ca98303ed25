"""The committed conversion of SmolLM2, read as curves: what it shows."""

import math

import plotly.graph_objects as go
import pytest

from intuitive.msa.experiments.conversion import QUALITIES, READERS, ConversionParams, curves
from intuitive.widgets.msa import conversion as widget
from intuitive.widgets.msa import styles


def values(measure, context=4096):
    found = curves(ConversionParams(measure=measure, context=context))
    return found, {
        name: {point.n_selected: point.mean for point in points}
        for name, points in found.curves.items()
    }


@pytest.mark.parametrize("context", [2048, 4096])
@pytest.mark.parametrize("measure", ["perplexity", "mass_captured", "block_recall"])
def test_every_selector_was_measured_and_the_index_with_three_seeds(measure, context):
    found, by_name = values(measure, context)
    assert set(by_name) == set(READERS)
    assert all(len(point.by_seed) == 3 for point in found.curves["trained_index"])
    assert all(set(curve) == {2, 4, 8, 16} for curve in by_name.values())


@pytest.mark.parametrize("measure", QUALITIES[:2])
def test_nothing_captures_more_than_the_oracle(measure):
    _, by_name = values(measure)
    for name, curve in by_name.items():
        for budget, value in curve.items():
            assert value <= by_name["oracle"][budget] + 1e-6, (name, budget)


def test_more_blocks_bring_perplexity_down_to_the_dense_model():
    found, by_name = values("perplexity")
    for curve in by_name.values():
        ordered = [curve[budget] for budget in sorted(curve)]
        assert ordered == sorted(ordered, reverse=True)
        assert ordered[-1] > found.dense - 0.02
    assert by_name["trained_index"][16] < 1.1 * found.dense


def test_the_index_captures_more_mass_than_the_window_at_every_budget():
    _, by_name = values("mass_captured")
    assert all(by_name["trained_index"][k] > by_name["window_sink"][k] for k in (2, 4, 8, 16))


def test_the_index_does_not_find_a_passage_read_before():
    """A finding that the lesson reports: looking back for known words was not learned."""
    found, by_name = values("returning_passage")
    assert by_name["main_max"][8] < 1.1 * found.dense
    assert by_name["trained_index"][8] > 5 * found.dense


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
        curves(ConversionParams(**settings))


def test_curves_bars_and_the_dense_level_are_the_records():
    found = curves(ConversionParams(measure="perplexity", n_selected=4))
    view = widget.present(found)
    figure = go.Figure(view.figures["curves"])
    line = next(t for t in figure.data if t.name == styles.SELECTOR_NAMES["trained_index"])
    points = found.curves["trained_index"]
    assert list(line.y) == [point.mean for point in points]
    assert list(line.error_y.array) == [max(p.by_seed) - p.mean for p in points]
    level = next(shape for shape in figure.layout.shapes if shape.y0 == shape.y1)
    assert level.y0 == found.dense
    assert figure.layout.yaxis.range[0] < math.log10(found.dense)
    shown = {readout.label: readout.value for readout in view.readouts}
    assert shown[styles.SELECTOR_NAMES["trained_index"]] == f"{points[1].mean:.3g}"
    layers = go.Figure(view.figures["layers"])
    oracle = next(t for t in layers.data if t.name == styles.SELECTOR_NAMES["oracle"])
    assert tuple(oracle.y) == found.mass_by_layer["oracle"] and len(oracle.y) == 30


def test_at_a_context_that_was_not_measured_the_nearest_one_is_shown():
    explorer = widget.explorer(measure="block_recall")
    explorer.set(context=8192).wait()
    assert explorer.status["state"] == "done"
    assert "4,096" in explorer.summary and "8,192" not in explorer.summary
    explorer.set(measure="perplexity", context=8192).wait()
    assert "8,192" in explorer.summary
    explorer.set(measure="returning_passage").wait()
    assert "4,096" in explorer.summary
    explorer.close()


def test_a_budget_without_a_value_is_said():
    view = widget.present(curves(ConversionParams(context=8192, n_selected=2)))
    assert "was measured at k = 8, 16, not at 2" in view.summary


def test_the_prediction_is_judged_by_the_committed_run():
    right, sentence = widget.PREDICT.answer()
    _, by_name = values("perplexity")
    index, window = by_name["trained_index"][8], by_name["window_sink"][8]
    assert abs(index / window - 1) < 0.03
    assert widget.PREDICT.choices[right] == "about the same"
    assert f"{window:.3g}" in sentence and f"{index:.3g}" in sentence
