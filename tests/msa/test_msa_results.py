"""The committed runs of the five arms: what they show, and that this code still makes them."""

import dataclasses
import importlib.util
import json
import statistics
import sys
from pathlib import Path

import pytest

from intuitive.common import records
from intuitive.msa.results import recall_runs
from intuitive.msa.task import ARMS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("msa_arms", ROOT / "benchmarks" / "msa_arms.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["msa_arms"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def values():
    return records.load(RESULTS / "msa_arms.json")[0]


def of(arm):
    return [run for run in recall_runs() if run.config.arm == arm]


def mean(arm, measure, step=300):
    return statistics.mean(getattr(run.at(step), measure) for run in of(arm))


# ----------------------------------------------------------------------------- it is ours


def test_the_first_steps_come_out_again(benchmark):
    assert benchmark.compare_slice(RESULTS) == []


@pytest.mark.parametrize("changed", ["train_loss", "train_kl", "config"])
def test_the_comparison_finds_a_difference(benchmark, changed, tmp_path, monkeypatch):
    saved = json.loads((RESULTS / benchmark.FILE).read_text(encoding="utf-8"))
    if changed == "config":
        saved["made"]["config"]["arms"]["dense"]["learning_rate"] = 4e-3
        saved["made"]["config_hash"] = records.config_hash(saved["made"]["config"])
    else:
        run = next(one for one in saved["values"]["runs"] if one["config"]["arm"] == "msa")
        run[changed][3] *= 1.003
    (tmp_path / benchmark.FILE).write_text(json.dumps(saved), encoding="utf-8")
    monkeypatch.setattr(benchmark, "SLICE", {"msa": 5})
    (fault,) = benchmark.compare_slice(tmp_path)
    want = {"train_loss": "training loss", "train_kl": "training KL", "config": "other settings"}
    assert want[changed] in fault


def test_how_they_were_made_is_recorded():
    _, made = records.load(RESULTS / "msa_arms.json")
    assert made["command"] == ["msa_arms.py"]
    assert len(made["commit"]) == 40  # no + of a changed tree


# -------------------------------------------------------------------------- equal budgets


def test_fifteen_runs_differ_in_arm_and_seed_alone():
    runs = recall_runs()
    assert {(run.config.arm, run.seed) for run in runs} == {(a, s) for a in ARMS for s in range(3)}
    settings = {dataclasses.replace(run.config, arm="dense") for run in runs}
    assert len(settings) == 1
    for seed in range(3):
        assert len({run.example for run in runs if run.seed == seed}) == 1
    assert {len(run.train_loss) for run in runs} == {300}


def test_the_first_seed_carries_snapshots_for_the_replay():
    for run in recall_runs():
        steps = [shot.step for shot in run.snapshots]
        assert steps == ([0, 30, 60, 80, 100, 120, 150, 200, 300] if run.seed == 0 else [])
        for shot in run.snapshots:
            assert shot.selected().shape == shot.teacher().shape == (2, 128, 32)


# -------------------------------------------------------------------------- what they show


def test_msa_solves_the_task_as_dense_attention_does():
    for arm in ("dense", "msa_warmup", "msa"):
        assert all(run.at(300).accuracy > 0.98 for run in of(arm)), arm
    assert mean("msa_warmup", "needle_selected") > 0.98


def test_neither_window_nor_untrained_selector_solves_it():
    for arm in ("window", "msa_untrained"):
        assert all(0.2 < run.at(300).accuracy < 0.6 for run in of(arm)), arm


def test_accuracy_is_bounded_by_what_some_group_selects():
    """Guessing adds at most a few per cent: there are 32 values."""
    for arm in ("window", "msa_untrained"):
        for run in of(arm):
            point = run.at(300)
            assert point.accuracy < point.needle_in_reach + 0.1
    assert mean("msa_untrained", "needle_in_reach") > mean("window", "needle_in_reach") + 0.05


def test_warm_up_reads_like_dense_attention_until_it_ends():
    for dense, warm in zip(of("dense"), of("msa_warmup"), strict=True):
        assert warm.at(50).accuracy == pytest.approx(dense.at(50).accuracy, abs=0.02)
    assert mean("msa_warmup", "accuracy", 50) > mean("msa", "accuracy", 50) + 0.2


def test_mass_alone_does_not_tell_a_good_selector():
    """The untrained selector's main attention shrinks to what it is given to read."""
    assert mean("msa_untrained", "mass_captured") > mean("msa", "mass_captured")
    assert mean("msa_untrained", "accuracy") < mean("msa", "accuracy") - 0.3
    assert mean("msa_untrained", "teacher_entropy") < mean("msa", "teacher_entropy") - 1
    assert mean("msa_untrained", "mass_at_queries") < mean("msa", "mass_at_queries") - 0.3


def test_two_blocks_are_enough_and_the_local_one_alone_is_not(values):
    for sweep in values["k_sweep"]:
        accuracy = dict(zip(sweep["n_selected"], sweep["sparse"], strict=True))
        assert accuracy[1]["accuracy"] < 0.15
        assert accuracy[2]["accuracy"] > 0.98
        masses = [point["mass_captured"] for point in sweep["sparse"]]
        assert masses == sorted(masses)


def test_the_weight_of_the_kl_hardly_matters_while_it_is_detached(values):
    for name in ("kl_weight=0.05", "kl_weight=5"):
        for run in values["variants"][name]:
            assert run["heldout"][-1]["accuracy"] > 0.98
            assert run["heldout"][-1]["kl"] < 0.05


def test_without_detach_the_main_attention_flattens_to_please_a_heavy_kl(values):
    """The KL falls lower than anywhere else, since nothing is left to imitate."""
    for run in values["variants"]["kl_weight=5 without detach"]:
        end = run["heldout"][-1]
        assert end["kl"] < 0.01
        assert end["accuracy"] < 0.15
        assert end["teacher_entropy"] > 4


def test_without_detach_a_light_kl_still_lets_the_task_be_learned(values):
    for run in values["variants"]["kl_weight=1 without detach"]:
        assert run["heldout"][-1]["accuracy"] > 0.98
        assert run["heldout"][-1]["kl"] < 0.02
