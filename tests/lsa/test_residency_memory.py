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
    late.run(saved.append)
    assert all("not begun" in fault["error"] for fault in late.values["faults"])


# ------------------------------------------------------------------------ the committed run


def test_the_committed_run_holds_what_the_lesson_says():
    """Tokens equal, bytes as the allocator counts them, and the goals at 512K."""
    result = residency_memory.run(ResidencyParams(context=2**19))
    assert result.faults == ()
    assert {check.mode for check in result.checks} == {"sync", "overlapped"}
    assert all(check.equal and check.steps >= 512 for check in result.checks)
    assert residency_memory.largest_disagreement(result.rows) < 0.02
    assert max(result.memory_share[arm] for arm in ("lsa_sync", "lsa_overlapped")) <= 0.16
    assert min(result.speed[arm] for arm in ("lsa_sync", "lsa_overlapped")) >= 0.95
    assert result.hidden >= 0.9
    assert "OutOfMemory" in result.capped.everything
    assert result.capped.lsa.resident_bytes < result.capped.cap_bytes


def test_a_context_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="context=1000 was not measured; choose from"):
        ResidencyParams(context=1000)
