"""Estimators over the weight, and the front that nobody crosses."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intuitive.qgf.sweep import sweep_weights
from intuitive.qgf.trimodal import PRESETS

ROOT = Path(__file__).parents[2]
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


def test_what_the_lesson_prints_does_not_hang_on_the_processor():
    """BPTT's KL moves by 0.009 without vector instructions; the lesson prints one decimal of it."""
    lesson = json.loads((ROOT / "notebooks/06_qgf.ipynb").read_text(encoding="utf-8"))
    (cell,) = ("".join(c["source"]) for c in lesson["cells"] if c["id"] == "qgf-10")
    code = "from dataclasses import replace\nfrom intuitive.qgf.trimodal import PRESETS\n" + cell
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ({}, {"ATEN_CPU_CAPABILITY": "default"})
    }
    assert len(printed) == 1 and "BPTT" in printed.pop()
