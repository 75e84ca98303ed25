"""Committed runs: what they found, and that they come out again."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from intuitive.common import records
from intuitive.qgf import results
from intuitive.qgf.ogbench_tasks import TASKS
from intuitive.qgf.policies import WAYS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


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


# --------------------------------------------------------------------------------- the fork world


def test_fork_runs_tell_their_parts_apart():
    runs = results.fork().values
    assert not set(runs.scored) & set(runs.tuning)
    assert {curve.way for curve in runs.curves} == set(WAYS) == set(runs.decision_ms)
    for curve in runs.curves:
        assert runs.chosen[curve.way] == curve.best_weight(runs.tuning)
    assert runs.relative_time("bc") == 1
    assert runs.count_better("qgf", "qgf") == 0
    with pytest.raises(ValueError, match="way 'dsrl' was not measured"):
        runs.curve("dsrl")


def test_a_slice_of_the_fork_world_comes_out_again(capsys):
    path = ROOT / "benchmarks/qgf_fork.py"
    spec = importlib.util.spec_from_file_location("qgf_fork_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    assert benchmark.main(["--slice"]) == 0, capsys.readouterr().out


# ---------------------------------------------------------------------------------------- OGBench


def test_ogbench_weights_are_chosen_on_other_episodes():
    runs = results.ogbench()
    assert runs.made.config["tuning_seed"] != runs.made.config["scored_seed"]
    for name, task in runs.values.tasks.items():
        assert name in TASKS
        for row in task.scored:
            rivals = [other for other in task.tuning if other.way == row.way]
            best = max(rivals, key=lambda other: (other.success, -other.steps))
            assert row.weight == best.weight
            assert 0 <= row.success <= 1
            assert row.steps <= TASKS[name].max_steps


def test_ogbench_critics_promise_more_for_the_best_of_more():
    """The candidates of best-of-16 hold those of best-of-4, and these the cloned action."""
    for task in results.ogbench().values.tasks.values():
        for critic in {row.critic for row in task.exploitation}:
            said = {row.way: row.promised for row in task.exploitation if row.critic == critic}
            assert said["bc"] <= said["best_of_n_4"] <= said["best_of_n_16"]


def test_the_lesson_says_of_ogbench_what_the_committed_run_says():
    """The maze, the cube at its small weight, and both critics over larger and larger ones."""
    tasks = results.ogbench().values.tasks
    maze, cube = tasks["pointmaze-medium"], tasks["cube-single"]
    steps = {row.way: row.steps for row in maze.scored}
    won = {row.way: row.success for row in maze.scored}
    assert won["bc"] < 0.1
    assert {won[way] for way in ("qgf", "ood", "best_of_n_4", "best_of_n_16")} == {1.0}
    assert steps["qgf"] < steps["best_of_n_16"] < min(steps["best_of_n_4"], steps["ood"])
    won = {row.way: row.success for row in cube.scored}
    assert 3 * won["bc"] < won["qgf"] < won["best_of_n_16"]
    for critic in ("4000", "final"):
        rows = [row for row in cube.exploitation if row.critic == critic]
        named = {row.way: row for row in rows if row.way != "qgf"}
        qgf = {row.weight: row for row in rows if row.way == "qgf"}
        promised = [named["bc"].promised, *(qgf[w].promised for w in (1.0, 10.0, 100.0))]
        assert promised == sorted(promised)
        assert all(qgf[w].success < 0.05 for w in (10.0, 100.0, 1000.0))
        assert named["best_of_n_16"].success > 0.5
        over = [row.promised - row.discounted_return for row in (named["bc"], *qgf.values())]
        if critic == "4000":
            assert min(over) > 20
        else:
            assert max(over) < 0 and max(over) > -2
