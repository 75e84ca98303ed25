"""The tri-modal flow: Spec B's ordering, the record behind the explorer, and the committed run."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from intuitive.common import records
from intuitive.common.runtime import Cancelled
from intuitive.qgf.guidance import ESTIMATORS
from intuitive.qgf.trimodal import (
    PRESETS,
    TrimodalParams,
    frontier,
    jacobians,
    jitter,
    sweep_weights,
    trimodal,
)

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SMALL = replace(PRESETS["B"], n_particles=1000)


@pytest.fixture(scope="module")
def benchmark():
    path = ROOT / "benchmarks" / "qgf_trimodal.py"
    spec = importlib.util.spec_from_file_location("qgf_trimodal", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["qgf_trimodal"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def committed():
    values, made = records.load(RESULTS / "qgf_trimodal.json")
    return values["tables"], values["tilt"], made


def entry(tables, preset, name):
    return next(e for e in tables[preset] if e["name"] == name)


def mean(tables, preset, name, measure):
    return entry(tables, preset, name)[measure][0]


# ------------------------------------------------------------------------------- the settings


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_as_text(preset):
    assert TrimodalParams.from_text(PRESETS[preset].to_text()) == PRESETS[preset]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "D"}, "preset='D': choose one of"),
        ({"critic": "cubic"}, "critic='cubic'"),
        ({"estimator": "dps"}, "estimator='dps'"),
        ({"second": "dps"}, "second='dps'.*none"),
        ({"schedule": "linear"}, "schedule='linear'"),
        ({"peak": 9.0}, r"peak=9.0 must lie in \[-4, 4\]"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"width": 0.0}, "width=0.0"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"n_particles": 5}, "n_particles=5"),
        ({"time": 1.5}, "time=1.5"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrimodalParams(**change)


def test_stability_number_of_spec_b():
    """The bump bends the critic too, but not where the data is."""
    number = replace(PRESETS["B"], weight=2.0).stability
    assert number == pytest.approx(2 / 10 / 0.35**2, rel=0.01)
    assert replace(PRESETS["A"], weight=10.0).stability == pytest.approx(2.0, rel=1e-3)


# --------------------------------------------------------------------------------- the record


@pytest.mark.parametrize("preset", PRESETS)
def test_the_exact_answer_is_a_density_at_every_time(preset):
    setting = replace(PRESETS[preset], n_particles=500, estimator="bc")
    for t in (0.0, 0.3, 0.8, 1.0):
        result = trimodal(replace(setting, time=t))
        assert result.frame_times[result.frame] == pytest.approx(t)
        for density in (result.density, result.tilted):
            # a little of the noise lies beyond the view
            assert np.trapezoid(density, result.x) == pytest.approx(1, abs=0.005)
    np.testing.assert_allclose(np.trapezoid(result.fine_tilted, result.fine), 1, atol=1e-6)
    at_fine = np.interp(result.x, result.fine, result.fine_tilted)
    np.testing.assert_allclose(result.tilted, at_fine, atol=0.02 * at_fine.max())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_run_counts_all_its_particles(estimator):
    result = trimodal(replace(SMALL, estimator=estimator))
    (run,) = result.runs
    assert sum(run.mode_masses) + run.off_mode == pytest.approx(1)
    width = np.diff(result.final_edges)[0]
    assert run.histogram.sum() * width == pytest.approx(1 - run.outside, abs=1e-9)
    assert run.trajectory.shape == (11, 300) and len(run.query_times) == len(run.queries)
    assert run.velocity.shape == run.guidance.shape == (len(result.map_x), 10)
    assert run.marginals.shape == (11, len(result.bin_edges) - 1)
    np.testing.assert_array_equal(run.trajectory[-1], run.actions[:300])
    assert run.ms > 0 and run.passes >= 10
    assert not run.actions.flags.writeable


def test_two_estimators_stand_side_by_side_on_the_same_noise():
    result = trimodal(replace(SMALL, estimator="qgf", second="ood"))
    qgf, ood = result.runs
    assert (qgf.estimator, ood.estimator) == ("qgf", "ood")
    np.testing.assert_array_equal(qgf.trajectory[0], ood.trajectory[0])
    np.testing.assert_array_equal(ood.queries, ood.trajectory[:-1])


def test_without_weight_the_map_is_the_field_and_the_tilt_the_data():
    result = trimodal(replace(SMALL, weight=0.0))
    assert (result.runs[0].guidance == 0).all()
    np.testing.assert_allclose(result.fine_tilted, result.fine_density, atol=1e-6)
    assert result.tilt_return == pytest.approx(result.bc_return)
    assert abs(result.runs[0].kl_to_bc - result.runs[0].kl_to_tilt) < 1e-6


def test_looking_at_another_time_samples_nothing_anew():
    first, later = (trimodal(replace(SMALL, time=t)) for t in (0.2, 0.8))
    assert first.runs is later.runs and later.params.time == 0.8
    assert later.tilted.max() > 1.5 * first.tilted.max()  # noise is wider than the modes


def test_many_steps_are_shown_by_few():
    result = trimodal(replace(SMALL, n_steps=60, n_particles=200))
    assert len(result.frame_times) == 21 and len(result.map_times) == 40
    assert result.frame_times[0] == 0 and result.frame_times[-1] == 1


def test_a_stale_request_stops():
    with pytest.raises(Cancelled):
        trimodal(replace(SMALL, seed=99), stale=lambda: True)


# ----------------------------------------------------------------- weights, front, neighbours


def test_the_tilt_family_is_the_front_and_nobody_beats_it():
    """At its KL from the data no estimator earns more, save by the histogram's error."""
    sweep = frontier(replace(SMALL, n_particles=2000), (0.5, 1.0), ("ood", "qgf", "best_of_n"))
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


# ------------------------------------------------------------------------- the committed tables


def test_spec_b_in_the_order_of_the_specification(committed):
    """Mean true return at w = 1, each within 0.015 of the specification's 20,000 particles."""
    tables, _, _ = committed
    want = {
        **{"bc": 0.496, "ood": 0.790, "bptt": 0.613, "chain": 0.693, "qgf_jacobian": 0.834},
        **{"flow_dps": 0.814, "robust_q": 0.753, "qgf": 0.973, "exact": 0.662},
        **{"best_of_n": 0.907, "grad_step": 0.621},
    }
    got = {name: mean(tables, "B", f"{name}, w=1", "true_return") for name in want}
    for name, value in want.items():
        assert got[name] == pytest.approx(value, abs=0.015), name
    order = ["qgf", "best_of_n", "qgf_jacobian", "chain", "bptt", "bc"]
    assert [*sorted(order, key=got.get, reverse=True)] == order


def test_qgf_is_the_best_optimiser_and_the_worst_sampler(committed):
    tables, _, _ = committed
    gradients = ["ood", "qgf", "qgf_jacobian", "flow_dps", "chain", "bptt", "robust_q", "exact"]
    w1 = {name: mean(tables, "B", f"{name}, w=1", "w1") for name in gradients}
    earned = {name: mean(tables, "B", f"{name}, w=1", "true_return") for name in gradients}
    assert max(w1, key=w1.get) == max(earned, key=earned.get) == "qgf"
    assert min(w1, key=w1.get) == "exact"


def test_spec_a_misleads_by_scale_alone(committed):
    tables, tilts, _ = committed
    assert tilts["A, w=1"]["critic"] == pytest.approx(-0.29, abs=0.01)
    assert entry(tables, "A", "ood, w=1")["masses"][2][0] == pytest.approx(0.38, abs=0.01)
    assert mean(tables, "A", "ood, w=2", "mean") == pytest.approx(0.99, abs=0.01)
    assert mean(tables, "A", "qgf, w=2", "mean") == pytest.approx(0.79, abs=0.01)
    assert mean(tables, "A", "bptt, w=1", "largest") > 50


def test_spec_c_deceives_qgf(committed):
    tables, _, _ = committed
    got = {e["name"].split(",")[0]: e["true_return"][0] for e in tables["C"]}
    assert got["qgf"] < got["bc"] < got["exact"] < got["best_of_n"]
    assert entry(tables, "C", "qgf, w=4, T=20")["masses"][2][0] > 0.95


def test_beyond_eulers_limit_reward_falls_and_more_steps_mend_it(committed):
    tables, _, _ = committed
    assert mean(tables, "B", "qgf, w=4, T=10", "true_return") == pytest.approx(0.936, abs=0.01)
    assert mean(tables, "B", "qgf, w=4, T=20", "true_return") > 0.999


def test_the_committed_run_says_how_it_was_made(committed):
    _, _, made = committed
    assert made["command"][0] == "qgf_trimodal.py" and len(made["commit"]) == 40
    assert made["config"]["seeds"] == [0, 1, 2, 3, 4]


def test_the_slice_comes_out_again(benchmark):
    assert benchmark.compare_slice(RESULTS, ("ood", "qgf")) == []


def test_the_comparison_finds_a_difference(benchmark, tmp_path):
    saved = json.loads((RESULTS / benchmark.FILE).read_text(encoding="utf-8"))
    saved["values"]["tables"]["C"][0]["seeds"][0]["w1"] += 0.01
    (tmp_path / benchmark.FILE).write_text(json.dumps(saved), encoding="utf-8")
    (fault,) = benchmark.compare_slice(tmp_path, ("bc",))
    assert "C, bc" in fault and "w1" in fault


def test_the_large_sweep_runs_small_on_the_cpu(benchmark):
    found = benchmark.sweep(torch.device("cpu"), 3, 2, 50)
    assert set(found["estimators"]) == set(benchmark.SWEEP)
    assert len(found["estimators"]["bptt"]["true_return"]) == 3


def test_qgf_costs_what_ood_costs():
    """At 10,000 particles and T = 10, as committed: QGF at most 1.3 times OOD."""
    values, _ = records.load(RESULTS / "qgf_speed.json")
    assert values["qgf_over_ood"] <= 1.3
    assert values["bptt_over_qgf"] > 2
