"""Why backpropagation through time shakes: Jacobians, neighbours, and how they are shown."""

from dataclasses import replace

import numpy as np
import pytest

from intuitive.qgf.experiments.backprop import jacobians, jitter
from intuitive.qgf.trimodal import PRESETS

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
