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
from intuitive.lsa.experiments import residency_memory, residency_words
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


@pytest.fixture(scope="module")
def committed():
    """The values as they stand in the file, and the card."""
    name = results.of_a_card(residency_memory.RUN)
    values, made = records.load(results.path(name))
    assert name.rpartition("_")[2].upper() in made["device"]
    return values


def at(context):
    return residency_memory.run(ResidencyParams(context=context))


def goals(context):
    return {(goal.what, goal.arm): goal for goal in residency_memory.goals(at(context))}


def row_of(committed, arm, context, exchange=0.1):
    """One row of the file."""
    (row,) = (
        row
        for row in committed["rows"]
        if (row["arm"], row["context"]) == (arm, context)
        and row.get("exchange") in (None, exchange)
    )
    return row


def held(row):
    return sum(row["bytes"].values())


def test_tokens_are_equal_over_512_steps_in_all_three_layouts():
    result = at(2**19)
    assert residency_memory.contexts() == (2**15, 2**17, 2**19, 2**20)
    assert [(check.layout, check.mode) for check in result.checks] == [
        ("float32", "sync"), ("float32", "overlapped"), ("v4", "overlapped"),
    ]  # fmt: skip
    for found in result.checks:
        assert found.equal and found.steps == 512 and found.requests == 2
        assert found.refetched > 1000 and (found.late > 0) == (found.mode == "sync")


def test_goals_are_shares_of_what_the_file_holds(committed):
    for context in residency_memory.contexts():
        whole, mine = row_of(committed, "everything", context), goals(context)
        for arm in ("lsa_sync", "lsa_overlapped"):
            row = row_of(committed, arm, context)
            share = mine[residency_memory.MEMORY, arm]
            assert share.measured == pytest.approx(held(row) / held(whole))
            assert share.met == (held(row) <= 0.16 * held(whole))
            speed = mine[residency_memory.SPEED, arm]
            assert row["graph"] and whole["graph"]
            assert speed.measured == pytest.approx(row["steps_per_s"] / whole["steps_per_s"])
            assert speed.met == (row["steps_per_s"] >= 0.95 * whole["steps_per_s"])
        hidden = mine[residency_memory.HIDDEN, "lsa_overlapped"]
        if not row["copied_chunks"] or not sum(row["copied_chunks"]):
            assert hidden.met is None and context == 2**15  # the tail is all that is kept there
        else:
            waited = sum(row["stall_ms"]) / sum(row["copy_ms"])
            assert hidden.measured == pytest.approx(max(1 - waited, 0))


def test_memory_meets_its_goal_where_it_was_set():
    """Bytes are arithmetic: another card does not change them."""
    for arm in ("lsa_sync", "lsa_overlapped"):
        assert goals(2**19)[residency_memory.MEMORY, arm].met


def test_fetching_on_demand_is_slow_and_was_not_recorded_as_a_graph():
    """Its steps ask the host, so that it is compared with steps that Python launches."""
    for context in residency_memory.contexts():
        result = at(context)
        assert result.speed["reactive"] < 0.6 and not result.at(context)["reactive"].graph


def test_lsa_runs_under_a_cap_that_everything_resident_does_not_fit():
    capped, free = at(2**20).capped, at(2**20).at(2**20)
    assert (capped.context, capped.cap_bytes) == (2**20, 2 * 2**30)
    assert capped.everything.startswith("OutOfMemoryError")
    assert goals(2**20)[residency_memory.CAPPED, "lsa_overlapped"].met
    assert free["everything"].resident_bytes > 1.8 * capped.cap_bytes


def test_the_page_says_what_the_record_says():
    """After a new run: `python benchmarks/lsa_residency.py --page`."""
    page = lsa_residency.PAGE.read_text("utf-8")
    assert residency_words.page() in page
    assert f"{residency_memory.RUN}_<card>.json" in page


def test_the_words_follow_the_record(committed):
    told = "\n".join(residency_words.sentences())
    row, whole = (row_of(committed, arm, 2**19) for arm in ("lsa_overlapped", "everything"))
    speed, share = row["steps_per_s"] / whole["steps_per_s"], held(row) / held(whole)
    met = "met" if speed >= 0.95 else "missed"
    assert f"LSA with copies beside the steps {speed:.2f}, {met}." in told
    assert f"LSA with copies beside the steps {share:.1%}, met." in told
    assert f"{held(row) / 2**20:.1f} MiB for LSA with copies" in told
    everywhere = [
        row_of(committed, "lsa_overlapped", c)["steps_per_s"]
        / row_of(committed, "everything", c)["steps_per_s"]
        for c in residency_memory.contexts()
    ]
    assert f"makes {min(everywhere):.2f} to {max(everywhere):.2f} of the steps" in told
    for share in (0.3, 1.0):
        late = row_of(committed, "lsa_overlapped", 2**19, share)
        late_speed = late["steps_per_s"] / whole["steps_per_s"]
        assert (
            f"exchanges {share:.0%} of the fetched chunks, copies beside the steps leave " in told
        )
        assert f"leave {late_speed:.2f} of the speed" in told
        assert f"the memory to {held(late) / held(whole):.1%}." in told
    for c in residency_memory.contexts():
        for arm in residency_memory.ARMS:
            row = row_of(committed, arm, c)
            apart = abs(row["allocated_bytes"] / held(row) - 1)
            named = f"{residency_words.ARM_WORDS[arm]} at {residency_words.tokens(c)} ({apart:.1%})"
            assert (named in told) == (apart > 0.02)


def test_printed_lines_are_the_sentences_and_short():
    lines = residency_words.printed().splitlines()
    assert max(map(len, lines)) <= residency_words.WIDE
    joined = " ".join(line.strip() for line in lines)
    assert joined == " ".join(residency_words.sentences())


def test_other_numbers_give_other_words(monkeypatch):
    """A run in which LSA is slower, copies wait, tokens differ and everything fits the cap."""
    found = residency_memory.measured()
    rows = tuple(
        dataclasses.replace(row, steps_per_s=row.steps_per_s / 2, stall_ms=row.copy_ms)
        if row.arm.startswith("lsa")
        else row
        for row in found.values.rows
    )
    worse = dataclasses.replace(
        found.values,
        rows=rows,
        checks=tuple(dataclasses.replace(c, equal=False) for c in found.values.checks),
        capped=dataclasses.replace(found.values.capped, everything="ran"),
        faults=(residency_memory.Fault(stage="bandwidth", error="lost"),),
    )
    other = results.Committed(worse, found.made)
    monkeypatch.setattr(residency_memory, "measured", lambda: other)
    told = "\n".join(residency_words.sentences())
    assert (
        "Goal at 512K tokens: copies beside the steps hide at least 90% of their time. 0%" in told
    )
    assert "missed at other lengths by memory" in told and "copy time hidden: 0% at 1M" in told
    assert told.count("missed") >= 3 and "Moving and masked memory differed over 512" in told
    assert "Under the cap everything resident did otherwise than expected: ran." in told
    assert "At 1M a copy takes" in told and "What failed: bandwidth: lost" in told
    assert "**0%**" in residency_words.page()


def test_a_file_is_named_by_its_card(monkeypatch):
    for device, name in (
        ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H200", "h200"), ("cpu, 2 threads", "cpu"),
    ):  # fmt: skip
        monkeypatch.setattr(lsa_residency, "device_name", lambda _, device=device: device)
        assert lsa_residency.place(torch.device("cpu")).name == f"lsa_residency_{name}.json"


def test_the_page_is_rewritten_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    marks = [f"<!-- lsa_residency: {end} -->" for end in ("begin", "end")]
    page.write_text("\n".join(["before", marks[0], "old", marks[1], "after", ""]))
    lsa_residency.rewrite_page(page)
    told = page.read_text().splitlines()
    assert told[:2] == ["before", marks[0]] and told[-2:] == [marks[1], "after"]
    assert "\n".join(told[2:-2]) == residency_words.page()


def test_a_goal_without_a_number_is_neither_met_nor_missed():
    given = {"what": "x", "arm": "", "bound": 0.5, "at_most": True}
    found = [residency_memory.Goal(measured=m, **given).met for m in (0.5, 0.6, None)]
    assert found == [True, False, None]
    given["at_most"] = False
    assert [residency_memory.Goal(measured=m, **given).met for m in (0.5, 0.4)] == [True, False]


def test_a_context_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="context=1000 was not measured; choose from"):
        ResidencyParams(context=1000)
