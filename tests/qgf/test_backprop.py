"""Why backpropagation through time shakes: Jacobians, neighbours, and how they are shown."""

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.qgf.experiments.backprop import BackpropParams, Shaken, jacobians, jitter
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.trimodal import PRESETS
from intuitive.widgets.qgf import backprop as shown

SMALL = replace(PRESETS["B"], n_particles=1000)


def test_backpropagation_shakes_and_the_euler_jump_does_not():
    result = jitter(replace(SMALL, time=0.9), ("qgf", "qgf_jacobian", "bptt"))
    qgf, jacobian, bptt = result.cosine[:, 1:8].mean(1)
    assert qgf > 0.99 and jacobian > 0.9 and bptt < 0.3
    assert result.passes[0] < result.passes[1] + 1 < result.passes[2]
    assert (result.cosine[1, 0], result.same_sign[1, 0]) == (0, 0)  # no guidance at t = 0
    with pytest.raises(ValueError, match="distance=0"):
        jitter(SMALL, distance=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_chains_jacobian_is_the_slope_of_the_flow(preset):
    """By differences, where particles are; between modes it is too steep for them."""
    found = jacobians(preset, 0.5)
    slope = np.gradient(found.endpoint, found.x)
    some = found.density > 0.1
    assert np.quantile(np.abs(slope / found.chain - 1)[some], 0.8) < 0.02
    assert (found.chain > 0).all() and (found.one_step >= 0).all()
    assert np.trapezoid(found.density, found.x) == pytest.approx(1, abs=0.005)
    assert jacobians(preset, 1.0).t == 0.999
    with pytest.raises(ValueError, match="preset='D'"):
        jacobians("D", 0.5)


# --------------------------------------------------------------------------- what is drawn and said


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def readouts(view):
    return {readout.label: readout.value for readout in view.readouts}


@pytest.fixture(scope="module")
def shaken():
    whole = jitter(replace(PRESETS["B"], n_particles=400))
    return Shaken(params=BackpropParams(), whole=whole, here=jacobians("B", 0.5))


def test_jacobians_are_drawn_as_computed(shaken):
    figure = go.Figure(shown.jacobians_figure(shaken.here))
    drawn = named(figure, "pₜ/p₁, whole chain")
    np.testing.assert_allclose(drawn.y, shaken.here.chain, rtol=1e-3)
    view = shown.present(shaken)
    most = shaken.here.one_step.max()
    assert f"J₁ reaches {most:.2g}" in view.summary
    told = dict(zip(shaken.whole.estimators, (row[1] for row in view.table.rows), strict=True))
    assert told["qgf_jacobian"].endswith(f"to {most:.2g}")
    assert told["bptt"] == readouts(view)["pₜ/p₁, from least to greatest"]


def test_where_there_is_no_guidance_no_cosine_is_drawn_or_averaged(shaken):
    whole = shaken.whole
    place = whole.estimators.index("qgf_jacobian")
    assert whole.same_sign[place, 0] == 0  # J_1 is 0 at t = 0
    drawn = named(go.Figure(shown.cosine_figure(whole, 0.5)), ESTIMATOR_NAMES["qgf_jacobian"])
    assert drawn.y[0] is None and drawn.y[1] is not None
    row = shown.present(shaken).table.rows[place]
    assert float(row[2]) == pytest.approx(whole.cosine[place, 1:].mean(), abs=1e-3)


def test_neighbours_agree_under_qgf_more_than_under_bptt(shaken):
    told = readouts(shown.present(shaken))
    assert float(told["mean cosine, QGF"]) > 0.9 > float(told["mean cosine, BPTT"])
