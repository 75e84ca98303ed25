"""The reader of the residency benchmark, the benchmark's plumbing, and the committed run."""

import dataclasses
import json

import lsa_residency
import lsa_steps
import msgspec
import numpy as np
import pytest
import residency_arms
import torch

from intuitive.common import records, results
from intuitive.lsa import cost
from intuitive.lsa.config import LSAConfig
from intuitive.lsa.experiments import residency_memory
from intuitive.lsa.experiments.residency_memory import ResidencyFile, ResidencyParams

# ------------------------------------------------------------------------------ the traces


def test_a_made_up_trace_exchanges_what_it_says():
    given = {"exchange": 0.25, "returning": 0.5, "seed": 1}
    trace = lsa_steps.made_up_trace(500, 80, 40, **given)
    assert {len(chunks) for chunks in trace.fetched} == {80}
    for before, after in zip(trace.fetched, trace.fetched[1:], strict=False):
        assert len(np.setdiff1d(after, before)) == 20
        assert after.max() < 500
    seen, came, again = set(trace.fetched[0].tolist()), 0, 0
    for before, after in zip(trace.fetched, trace.fetched[1:], strict=False):
        new = set(after.tolist()) - set(before.tolist())
        came, again = came + len(new), again + len(new & seen)
        seen |= new
    assert trace.refetch_rate == again / came
    assert 0.4 < trace.refetch_rate < 0.9


def test_what_a_trace_asks_for_has_the_tail_and_what_was_decoded():
    config = dataclasses.replace(LSAConfig(), tail=16)
    trace = lsa_steps.made_up_trace(40, 5, 3, exchange=0.2, returning=0.0, seed=0)
    wanted = trace.wanted(1, 52, 50, config)
    assert np.setdiff1d(wanted, trace.fetched[1]).tolist() == [48, 49, 50, 51]
    assert np.isin(trace.fetched[1], wanted).all()


# --------------------------------------------------------------------- the run, very small


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """All stages on a CPU, at one context."""
    plan = dataclasses.replace(
        residency_arms.Plan.small(), contexts=(1024,), check_steps=20, cycles=2, reactive_steps=2
    )
    config = dataclasses.replace(residency_arms.sizes(True), lookahead=4)
    plan = dataclasses.replace(plan, delay=2, asked_after=1)
    bench = lsa_residency.Bench(plan, config, torch.device("cpu"), 1e9)
    saved = tmp_path_factory.mktemp("run") / "small.json"
    with torch.inference_mode():
        bench.run(
            lambda values: records.save(saved, values, config=dataclasses.asdict(plan), seed=0)
        )
    return bench, saved


def test_every_stage_runs_and_moving_gives_the_tokens_of_masking(small):
    bench, _ = small
    values = bench.values
    assert values["faults"] == []
    assert [row["arm"] for row in values["rows"][:4]] == list(residency_memory.ARMS)
    assert {(c["layout"], c["mode"]) for c in values["checks"]} == {
        ("float32", "sync"), ("float32", "overlapped"), ("v4", "overlapped"),
    }  # fmt: skip
    for found in values["checks"]:
        assert found["equal"] and found["fetched"] > 0
        assert (found["late"] > 0) == (found["mode"] == "sync")
    assert values["full_size"]["staged"] == values["full_size"]["direct"] == 0.0
    assert values["full_size"]["largest"] > 0


def test_bytes_are_those_of_the_cost_model(small):
    bench, _ = small
    config, plan = bench.config, bench.plan
    rows = {row["arm"]: row for row in bench.values["rows"][:4]}
    more = (plan.cycles + 4) * config.lookahead  # room for what is decoded
    full = cost.kv_bytes(config, 1024 + more)
    for part, n in full.items():
        assert rows["everything"]["bytes"][part] == n
    kept, _, cells, double = bench.cells(1024, plan.exchange)
    assert kept == 64
    assert double - cells == round(plan.exchange * (64 - config.tail_chunks))
    for arm, n in (("lsa_sync", cells), ("lsa_overlapped", double)):
        found = rows[arm]["bytes"]
        assert found["csa_entries"] == n * config.n_csa * config.entry_bytes
        room = (1024 + 2 * (plan.cycles + 3) * config.lookahead) // config.chunk_size
        keyless = config.n_csa - len(config.memory_layers)
        keys = len(config.memory_layers) * room + keyless * n
        assert found["index_keys"] == keys * config.index_key_bytes
    assert rows["reactive"]["bytes"]["csa_entries"] == 64 * config.n_csa * config.entry_bytes


def test_the_reader_reads_what_the_run_writes(small):
    _, saved = small
    values, made = records.load(saved)
    found = results.Committed(
        msgspec.convert(values, ResidencyFile), msgspec.convert(made, results.Made)
    )
    params = object.__new__(ResidencyParams)
    object.__setattr__(params, "context", 1024)
    result = residency_memory.of(found, params)
    assert [row.arm for row in result.rows] == list(residency_memory.ARMS)
    assert {row.exchange for row in result.exchanged} == {0.5}
    assert result.memory_share["everything"] == result.speed["everything"] == 1.0
    assert 0 < result.memory_share["lsa_sync"] < result.memory_share["lsa_overlapped"] < 1
    assert 0 <= result.hidden <= 1
    row = result.at(1024)["lsa_overlapped"]
    assert row.resident_bytes == sum(row.bytes.values())
    assert sum(row.copied_chunks) > 0
    assert row.copied_bytes[0] == row.copied_chunks[0] * (
        row.copied_bytes[0] // row.copied_chunks[0]
    )
    assert json.loads(saved.read_text())["made"]["seed"] == 0


def test_a_stage_that_fails_is_recorded_and_the_next_one_goes_on(monkeypatch):
    bench = lsa_residency.Bench(
        residency_arms.Plan.small(), residency_arms.sizes(True), torch.device("cpu"), 1e9
    )

    def fail(*given):
        raise RuntimeError("lost")

    stages = ("token_equality", "full_size", "everything", "lsa", "reactive", "other_exchanges")
    for name in stages:
        monkeypatch.setattr(bench, name, fail)
    saved = []
    bench.run(lambda values: saved.append(len(values["faults"])))
    assert saved[:2] == [1, 2]
    assert len(bench.values["faults"]) == 2 + 2 * 3 + 1
    assert bench.values["faults"][0]["error"] == "RuntimeError: lost"
    late = lsa_residency.Bench(
        residency_arms.Plan.small(), residency_arms.sizes(True), torch.device("cpu"), -1.0
    )
    told = []
    late.run(lambda values: told.append(len(values["faults"])))
    assert all("not begun" in fault["error"] for fault in late.values["faults"])
    assert told[-1] == len(late.values["faults"]) == 7  # also what is never begun is saved


# ------------------------------------------------------------------------ the committed run


ARMS_OF_LSA = ("sync", "overlapped")
CONTEXTS = (2**15, 2**17, 2**19, 2**20)


def at(context):
    return residency_memory.run(ResidencyParams(context=context))


def goals(context):
    return {(goal.what, goal.arm): goal for goal in residency_memory.goals(at(context))}


def test_tokens_are_equal_over_512_steps_in_all_three_layouts():
    result = at(2**19)
    assert residency_memory.contexts() == CONTEXTS and "H200" in result.device
    assert [(check.layout, check.mode) for check in result.checks] == [
        ("float32", "sync"), ("float32", "overlapped"), ("v4", "overlapped"),
    ]  # fmt: skip
    for found in result.checks:
        assert found.equal and found.steps == 512 and found.requests == 2
        assert found.refetched > 1000 and (found.late > 0) == (found.mode == "sync")


@pytest.mark.parametrize(
    ("context", "sync", "overlapped"),
    [(2**17, 0.1589, 0.1624), (2**19, 0.1517, 0.1597), (2**20, 0.1505, 0.1592)],
)
def test_memory_meets_its_goal_from_512k_on(context, sync, overlapped):
    """At 128K the tail and cells of copies under way bring the overlapped arm above it."""
    goal = {arm: goals(context)[residency_memory.MEMORY, f"lsa_{arm}"] for arm in ARMS_OF_LSA}
    assert goal["sync"].met
    assert goal["overlapped"].met == (context >= 2**19)
    assert goal["sync"].measured == pytest.approx(sync, abs=1e-4)
    assert goal["overlapped"].measured == pytest.approx(overlapped, abs=1e-4)


@pytest.mark.parametrize(
    ("context", "sync", "overlapped"),
    [(2**15, 1.082, 1.103), (2**17, 1.047, 1.064), (2**19, 0.922, 0.936), (2**20, 0.995, 1.021)],
)
def test_speed_misses_its_goal_at_512k_alone(context, sync, overlapped):
    goal = {arm: goals(context)[residency_memory.SPEED, f"lsa_{arm}"] for arm in ARMS_OF_LSA}
    assert {one.met for one in goal.values()} == {context != 2**19}
    assert goal["sync"].measured == pytest.approx(sync, abs=1e-3)
    assert goal["overlapped"].measured == pytest.approx(overlapped, abs=1e-3)


@pytest.mark.parametrize(
    ("context", "hidden"), [(2**15, None), (2**17, 0.887), (2**19, 0.983), (2**20, 0.994)]
)
def test_copies_are_hidden_where_there_are_enough(context, hidden):
    """At 32K the tail is all that is kept: nothing is fetched.

    At 128K a copy takes 0.05 ms: the 0.006 ms of waiting without any are more than a tenth.
    """
    goal = goals(context)[residency_memory.HIDDEN, "lsa_overlapped"]
    if hidden is None:
        assert goal.met is None and not sum(at(context).at(context)["lsa_overlapped"].copied_chunks)
    else:
        assert goal.met == (context >= 2**19) and goal.measured == pytest.approx(hidden, abs=1e-3)
    waits = at(context).at(context)["lsa_overlapped"].stall_ms
    assert max(waits) < 0.0062  # also where nothing is copied


def test_the_allocator_agrees_but_for_small_caches_and_fetching_on_demand():
    """Within 2%, with five exceptions, up to 3%."""
    missed = {}
    for context in CONTEXTS:
        for (what, arm), goal in goals(context).items():
            if what == residency_memory.ALLOCATOR and not goal.met:
                missed[context, arm] = round(goal.measured, 3)
    assert missed == {
        (2**15, "everything"): 0.025, (2**15, "lsa_sync"): 0.024, (2**15, "lsa_overlapped"): 0.024,
        (2**19, "reactive"): 0.030, (2**20, "reactive"): 0.025,
    }  # fmt: skip


def test_fetching_on_demand_is_slow_and_was_not_recorded_as_a_graph():
    """Its steps ask the host, so that it is compared with steps that Python launches."""
    for context in CONTEXTS:
        result = at(context)
        assert 0.27 < result.speed["reactive"] < 0.49
        assert not result.at(context)["reactive"].graph


def test_every_stage_was_run_without_a_fault():
    result = at(2**19)
    assert result.faults == ()
    others = {"full_size", "token_equality", "bandwidth", "capped", "other_exchanges"}
    assert set(result.stages) == others | {f"context_{context}" for context in CONTEXTS}


def test_lsa_runs_under_a_cap_that_everything_resident_does_not_fit():
    """At 1M tokens and 2 GiB; it holds a third of the cap and decodes as without it."""
    capped, free = at(2**20).capped, at(2**20).at(2**20)
    assert (capped.context, capped.cap_bytes) == (2**20, 2 * 2**30)
    assert capped.everything.startswith("OutOfMemoryError")
    assert goals(2**20)[residency_memory.CAPPED, "lsa_overlapped"].met
    assert capped.lsa.resident_bytes / capped.cap_bytes == pytest.approx(0.302, abs=1e-3)
    assert free["everything"].resident_bytes > 1.8 * capped.cap_bytes
    ours = capped.lsa.steps_per_s / free["lsa_overlapped"].steps_per_s
    assert ours == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("exchange", "sync", "overlapped", "memory"),
    [(0.3, 0.906, 0.929, 0.176), (1.0, 0.925, 0.948, 0.231)],
)
def test_larger_exchanges_cost_memory_and_no_speed(exchange, sync, overlapped, memory):
    """At 512K; copies under way need cells of their own."""
    result = at(2**19)
    rows = {row.arm: row for row in result.exchanged if row.exchange == exchange}
    everything = result.at(2**19)["everything"]
    for arm, speed in (("sync", sync), ("overlapped", overlapped)):
        found = rows[f"lsa_{arm}"].steps_per_s / everything.steps_per_s
        assert found == pytest.approx(speed, abs=1e-3)
    share = rows["lsa_overlapped"].resident_bytes / everything.resident_bytes
    assert share == pytest.approx(memory, abs=1e-3)
    assert rows["lsa_overlapped"].hidden > 0.99


def test_a_goal_without_a_number_is_neither_met_nor_missed():
    given = {"what": "x", "arm": "", "bound": 0.5, "at_most": True}
    found = [residency_memory.Goal(measured=m, **given).met for m in (0.5, 0.6, None)]
    assert found == [True, False, None]
    given["at_most"] = False
    assert [residency_memory.Goal(measured=m, **given).met for m in (0.5, 0.4)] == [True, False]


def test_a_context_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="context=1000 was not measured; choose from"):
        ResidencyParams(context=1000)
