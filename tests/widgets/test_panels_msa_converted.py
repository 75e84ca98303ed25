"""The conversion explorer shows the committed numbers."""

import math

from intuitive.msa.converted import ConvertedParams, converted
from intuitive.widgets import panels
from intuitive.widgets.figures.msa import SELECTOR_NAMES
from intuitive.widgets.panels.msa_converted import present_converted


def test_curves_bars_and_the_dense_level_are_the_records():
    found = converted(ConvertedParams(measure="perplexity", n_selected=4))
    view = present_converted(found)
    figure = view.figures["curves"]
    line = next(t for t in figure.data if t.name == SELECTOR_NAMES["trained_index"])
    points = found.curves["trained_index"]
    assert list(line.y) == [point.mean for point in points]
    assert list(line.error_y.array) == [max(p.by_seed) - p.mean for p in points]
    level = next(shape for shape in figure.layout.shapes if shape.y0 == shape.y1)
    assert level.y0 == found.dense
    assert figure.layout.yaxis.range[0] < math.log10(found.dense)
    shown = {readout.label: readout.value for readout in view.readouts}
    assert shown[SELECTOR_NAMES["trained_index"]] == f"{points[1].mean:.3g}"
    layers = view.figures["layers"]
    oracle = next(t for t in layers.data if t.name == SELECTOR_NAMES["oracle"])
    assert tuple(oracle.y) == found.mass_by_layer["oracle"] and len(oracle.y) == 30


def test_at_a_context_that_was_not_measured_the_nearest_one_is_shown():
    explorer = panels.conversion(measure="block_recall")
    explorer.set(context=8192).wait()
    assert explorer.status["state"] == "done"
    assert "4,096" in explorer.summary and "8,192" not in explorer.summary
    explorer.set(measure="perplexity", context=8192).wait()
    assert "8,192" in explorer.summary
    explorer.set(measure="returning_passage").wait()
    assert "4,096" in explorer.summary
    explorer.close()


def test_a_budget_without_a_value_is_said():
    view = present_converted(converted(ConvertedParams(context=8192, n_selected=2)))
    assert "was measured at k = 8, 16, not at 2" in view.summary
