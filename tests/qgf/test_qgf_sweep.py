"""Estimators over the weight, and the front that nobody crosses."""

from dataclasses import replace

import numpy as np
import pytest

from intuitive.qgf.sweep import sweep_weights
from intuitive.qgf.trimodal import PRESETS

SMALL = replace(PRESETS["B"], n_particles=1000)


def test_the_tilt_family_is_the_front_and_nobody_beats_it():
    """At its KL from the data no estimator earns more, save by the histogram's error."""
    sweep = sweep_weights(replace(SMALL, n_particles=2000), (0.5, 1.0), ("ood", "qgf", "best_of_n"))
    front = sweep.by_return
    assert (np.diff(front.kl) > 0).all() and (np.diff(front.true_return) > -1e-9).all()
    for curve in sweep.curves:
        best = np.interp(curve.kl_to_bc, front.kl, front.true_return)
        assert (curve.true_return < best + 0.03).all(), curve.estimator


def test_tilt_family_at_one_nat():
    sweep = sweep_weights(SMALL, (1.0,), ("bc",))
    got = np.interp(1.06, sweep.by_return.kl, sweep.by_return.true_return)
    assert got == pytest.approx(0.983, abs=0.002)


def test_a_sweep_names_the_gap_between_critic_and_return():
    said = []
    sweep = sweep_weights(
        SMALL, (0.0, 1.0, 2.0), ("ood", "qgf"), progress=lambda share, words: said.append(words)
    )
    ood, qgf = sweep.curves
    assert (ood.critic - ood.true_return)[1:].min() > 0.1  # exploitation
    assert np.abs(qgf.critic - qgf.true_return)[1:].max() < 0.01
    assert ood.critic[0] == pytest.approx(qgf.critic[0], abs=0)
    assert sweep.stability[2] == pytest.approx(2 / 10 / 0.35**2, rel=0.01)
    assert len(said) == 2 and "ood" in said[0]
    with pytest.raises(ValueError, match="at least one guidance weight"):
        sweep_weights(SMALL, ())
