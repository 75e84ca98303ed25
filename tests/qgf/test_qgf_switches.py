"""No global switch that a notebook may hold changes or breaks an explorer."""

import contextlib

import numpy as np
import pytest
import torch

from intuitive.qgf.experiments import backprop, frontier, particle, policies, ring, trimodal
from intuitive.widgets.qgf import backprop as backprop_shown
from intuitive.widgets.qgf import frontier as frontier_shown
from intuitive.widgets.qgf import policies as policies_shown
from intuitive.widgets.qgf import ring as ring_shown
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


def compared():
    frontier.swept.cache.clear()
    found = frontier.run(frontier.FrontierParams(n_steps=5))
    return found, *(curve.kl_to_bc for curve in found.sweep.curves)


def shaken():
    backprop._neighbours.cache.clear()
    backprop.jacobians.cache.clear()
    found = backprop.run(backprop.BackpropParams(n_steps=5))
    return found, found.whole.cosine, found.here.chain


def guided():
    found = ring.run(ring.RingParams(n_particles=50, n_steps=5, field="closed_form"))
    return found, found.samples, found.guidance


def trained():
    """A net of its own, shortly trained and thrown away."""
    from intuitive.qgf.learn import fit_velocity
    from intuitive.qgf.ring import ring_data

    net = fit_velocity(ring_data(6, 0), seed=0, n_steps=20)
    return None, net.velocity(torch.zeros(1, 2, dtype=torch.float32), 0.5).numpy()


def acted():
    found = policies.run(policies.PolicyParams(ways="bc,qgf,cfgrl,robust_q", n_episodes=3))
    runs = policies_shown.act(policies.PolicyParams(ways="bc", n_episodes=1)).runs
    return policies_shown.Policies(live=found, runs=runs), *(way.paths for way in found.ways)


def followed():
    particle._walked.cache.clear()
    found = particle.run(particle.ParticleParams(n_particles=20, peak=0.0))
    return None, found.walk.x, found.hills, found.ghosts["ood"].push


MAKERS = {
    "trimodal": (flow, trimodal_shown.present),
    "trimodal at a huge weight": (
        lambda: flow(weight=32.0, estimator="ood"),
        trimodal_shown.present,
    ),
    "frontier": (compared, frontier_shown.present),
    "backprop": (shaken, backprop_shown.present),
    "ring": (guided, ring_shown.present),
    "a trained net": (trained, None),
    "policies": (acted, policies_shown.present),
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
