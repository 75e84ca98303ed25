"""No global switch that a notebook may hold changes or breaks what QGF's experiments compute.

First pictures of explorers: tests/widgets/test_every_explorer.py.
"""

import contextlib

import numpy as np
import pytest
import torch

from intuitive.qgf.experiments import particle, policies, trimodal
from intuitive.widgets.qgf import trimodal as trimodal_shown


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SWITCHES = {
    "gradients off": lambda: torch.set_grad_enabled(False),
    "inference mode": torch.inference_mode,
    "numpy raises": lambda: np.errstate(all="raise"),
    "float64": default_dtype,
}


def flow(**changes):
    setting = {"n_particles": 200, "second": "bptt", "sweep": True, **changes}
    trimodal._sampled.cache.clear()
    trimodal._swept.cache.clear()
    found = trimodal.run_and_sweep(trimodal.FlowSetting.of(**setting))
    return found, found.at.runs[0].actions, found.over_weights.curves[0].critic


def trained():
    """A net of its own, shortly trained and thrown away."""
    from intuitive.qgf.learn import fit_velocity
    from intuitive.qgf.ring import ring_data

    net = fit_velocity(ring_data(6, 0), seed=0, n_steps=20)
    return None, net.velocity(torch.zeros(1, 2, dtype=torch.float32), 0.5).numpy()


def acted():
    """Ways that the explorer does not begin with."""
    found = policies.run(policies.PolicyParams(ways="cfgrl,robust_q", n_episodes=2, n_steps=5))
    return None, *(way.paths for way in found.ways)


def followed():
    particle._walked.cache.clear()
    found = particle.run(particle.ParticleParams(n_particles=20, peak=0.0))
    return None, found.walk.x, found.hills, found.ghosts["ood"].push


MAKERS = {
    "trimodal at a huge weight": (
        lambda: flow(weight=32.0, estimator="ood"),
        trimodal_shown.present,
    ),
    "a trained net": (trained, None),
    "policies": (acted, None),
    "particle": (followed, None),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_no_switch_changes_numbers_or_breaks_pictures(maker):
    make, present = MAKERS[maker]
    _, *want = make()
    for name, switch in SWITCHES.items():
        with switch():
            found, *got = make()
            if present is not None:
                view = present(found)
                for plot in view.figures:
                    assert view.figure(plot)["data"], plot
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
