"""Estimators over the weight, and the front that nobody crosses."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intuitive.qgf import results
from intuitive.qgf.sweep import sweep_weights
from intuitive.qgf.trimodal import MEANS, PRESETS
from intuitive.widgets.kit import fixed
from intuitive.widgets.qgf.ways import Way

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
    """Without vector instructions the numbers are those that the lesson holds."""
    lesson = json.loads((ROOT / "notebooks/06_qgf.ipynb").read_text(encoding="utf-8"))
    (cell,) = (cell for cell in lesson["cells"] if cell["id"] == "qgf-10")
    body, shown = "".join(cell["source"]).rsplit("\n", 1)
    printed = subprocess.run(
        [sys.executable, "-c", f"from dataclasses import replace\n{body}\nprint({shown})"],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (saved,) = ("".join(output["data"]["text/plain"]) for output in cell["outputs"])
    assert printed.strip() == saved and "BPTT" in printed


def test_the_lesson_tells_bptts_five_means_and_oods_time_as_they_were_recorded():
    lesson = json.loads((ROOT / "notebooks/06_qgf.ipynb").read_text(encoding="utf-8"))
    (told,) = ("".join(c["source"]) for c in lesson["cells"] if c["id"] == "qgf-37")
    seeds = results.trimodal().values.row("A", "bptt, w=1").seeds
    peak = MEANS["A"].index(PRESETS["A"].peak)
    means, masses = zip(*((s.true_return, s.masses[peak]) for s in seeds), strict=True)
    assert len(seeds) == 5
    assert f"five seeds run from {fixed(min(means), 1)} to {fixed(max(means), 1)}" in told
    assert f"at least {math.floor(100 * min(masses))}% of the actions" in told
    fork = results.fork().values
    ood, qgf = (fixed(fork.relative_time(name), 1) for name in ("ood", "qgf"))
    assert f"takes it {ood} times imitation's time, QGF {qgf}" in told
    assert fork.decision_device == "cpu, 1 threads"


def test_steps_more_than_counting_hold_exact_guidance_off_the_edge():
    """What section 2 of the lesson says: with more steps both arrive, unguided and guided."""
    gaps, seeds = {}, []
    for n_steps in (10, 20, 200):
        params = replace(PRESETS["B"], n_steps=n_steps, n_particles=4000)
        sweep = sweep_weights(params, (1.0,), ("bc", "exact"))
        bc, exact = sweep.curves
        gaps[n_steps] = (bc.kl_to_bc[0], exact.kl_to_bc[0] - sweep.by_critic.kl[0])
        data, tilt = sweep.by_return.true_return[0], sweep.by_critic.true_return[0]
        gains = bc.true_return[0] - data, exact.true_return[0] - tilt
        assert gains == pytest.approx((0, 0), abs=0.015) if n_steps == 200 else min(gains) > 0.015
    for many, few in ((10, 20), (20, 200)):
        assert all(a > 1.5 * b for a, b in zip(gaps[many], gaps[few], strict=True))
    assert max(gaps[200]) < 0.04 < min(gaps[20])
    for seed in range(3):
        params = replace(PRESETS["B"], n_steps=20, n_particles=1000, seed=seed)
        seeds.append(sweep_weights(params, (1.0,), ("exact",)).curves[0].kl_to_bc[0])
    assert np.ptp(seeds) < 0.1


def test_a_path_beyond_the_range_is_not_drawn_along_the_frame():
    xs, ys = np.arange(5.0), np.array([0.0, 9, 9, 9, 0])
    way = Way(xs, ys, np.array([False, True, True, True, False]))
    assert way.upto(4) == "M0,0l1,9m1,0m1,0l1,-9"
    assert way.upto(1) == "M0,0l1,9m0,0m0,0l0,0"  # the same commands, so that two moments blend
