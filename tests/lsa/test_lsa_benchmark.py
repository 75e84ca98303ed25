"""The benchmark of LSA's kernels: it finds what is wrong, says so, and goes on."""

import dataclasses

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed on this platform")

import chunk_checks
import lsa_kernels
import lsa_plan
from test_compile import launches  # noqa: F401
from test_compile_chunks import call_attention

from intuitive.common import records
from intuitive.kernels import tuning

CPU = torch.device("cpu")
TINY = dataclasses.replace(
    lsa_plan.SMALL, chunks=(20,), cells=60, reads=((1, 5),), copied=(2,), check_shapes=2
)


@pytest.fixture
def bench(tmp_path):
    return lsa_kernels.Bench(TINY, CPU, tmp_path / "times.json", seconds=1e6, commit="none")


def checks(shapes=2):
    return chunk_checks.Checks(CPU, "auto", shapes, longest=80)


def test_the_oracles_pass_every_check():
    found = checks().everything()
    assert len(found) > 12
    assert [check for check in found if not check.ok] == []
    assert sum(check.worst > 0 for check in found) > 6  # float32 against float64, for the most


def test_a_wrong_kernel_is_found_and_told(monkeypatch, capsys):
    right = chunk_checks.score_chunks

    def wrong(*args, impl, **kwargs):
        return right(*args, impl=impl, **kwargs) * (1.0 if impl == "reference" else 1.01)

    monkeypatch.setattr(chunk_checks, "score_chunks", wrong)
    some = checks()
    some.score(16, 32, torch.float16, "plain", 1e-4, False)
    some.select()
    scores, selection = some.done
    assert not scores.ok and 0.009 < scores.worst < 0.011
    assert selection.ok
    told = capsys.readouterr().out
    assert told.startswith("FAILED score plain float16, 16 x 32: q (")
    assert "torch.float16, plain (" in told and "error 0.01, bound 0.0001" in told


def test_a_kernel_that_raises_is_told_with_its_place(monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise RuntimeError("no such launch")

    monkeypatch.setattr(chunk_checks, "copy_cells", broken)
    some = checks()
    some.copy(16)
    assert not some.done[0].ok and some.done[0].worst == 1e30  # a number that JSON can hold
    assert "RuntimeError at test_lsa_benchmark.py:" in capsys.readouterr().out


def test_nan_is_an_error():
    some = checks()
    some.run("nan", 1.0, lambda seed: (float("nan"), "everywhere"))
    assert not some.done[0].ok and some.done[0].where == "everywhere NaN"


def test_every_stage_is_saved_and_a_failing_one_stops_no_other(bench):
    bench.stage("ceilings", bench.ceilings)
    assert set(records.load(bench.out)[0]["ceilings"]) == {"copy", "host_to_device", "matmul"}

    def fails():
        raise RuntimeError("out of luck")

    bench.stage("broken", fails)
    for name in ("scores", "selection", "attention", "calls", "score_tiles", "attention_tiles"):
        bench.stage(name, getattr(bench, name))
    bench.stage("copies", lambda: bench.copies(host=False))
    values, made = records.load(bench.out)
    assert values["errors"] == {"broken": "RuntimeError: out of luck"}
    assert values["broken"] == []
    assert made["seed"] == 0 and set(made["versions"]) >= {"torch", "triton"}
    rows = [row for name in ("scores", "attention", "copies") for row in values[name]]
    assert len(rows) == 6 + 2 + 2
    assert all(row["us"] > 0 for row in rows)
    tiles = values["score_tiles"] + values["attention_tiles"]
    assert all(row["us"] > 0 for row in tiles)
    text = lsa_plan.table(values)
    assert text.count("\n| memory, ") == 3 and "5 cells, packed" in text


def test_floors_are_bytes_and_flops_at_the_measured_rates(bench):
    bench.values["ceilings"] = {"copy": 2e12, "matmul": 5e14, "matmul_fp8": 1e15}
    # a million tokens: 132 bytes of each chunk and 4 of its logit
    floors = bench.floors(262_144 * 136, 2 * 128 * 128 * 262_144)
    assert floors["bytes_us"] == pytest.approx(17.8, abs=0.05)
    assert floors["flop_us"] == pytest.approx(17.2, abs=0.05)
    assert floors["floor_us"] == floors["bytes_us"]
    assert bench.floors(0, 1e9, fp8=True)["floor_us"] == pytest.approx(1.0)


def test_one_bad_row_stops_no_other_and_late_tiles_are_left_out(bench, capsys):
    rows = []
    bench.safely(rows, {"row": 1}, lambda: 1 / 0)
    bench.safely(rows, {"row": 2}, lambda: {"us": 1.0})
    assert "ZeroDivisionError" in rows[0]["error"] and rows[1] == {"row": 2, "us": 1.0}
    assert "FAILED {'row': 1}" in capsys.readouterr().err
    bench.seconds = 0
    tile = tuning.CopyTile(words=16, num_warps=1, programs=1)
    late = bench.tried({}, "copy_cells", [tile], [lambda: None])
    assert [row["error"] for row in late] == ["no time left"]


def test_steps_read_other_keys_and_other_cells(bench):
    bench.cold = 3 * 20 * lsa_plan.ROW_BYTES
    keys, width = bench.stores("rows")
    assert width == lsa_plan.ROW_BYTES and len(keys) == 60
    steps, plain = bench.score_steps(keys, 20, 64, "rows")
    results = [step() for step in steps]
    assert len(results) == 3 and not torch.equal(results[0], results[1])
    for fused, torches in zip(results, plain, strict=True):
        want = fused[0]
        assert chunk_checks.rms(torches(), want) < 0.05  # in half precision
    source, target = bench.copy_setup(host=False)
    steps, n_bytes = bench.copy_steps(source.fill_(1), target, 2, by_layer=True)
    assert n_bytes == 2 * 21 * 584 and len(steps) == 16
    for step in steps:
        step()
    assert int(target.sum()) == 16 * n_bytes


# ----------------------------------------------------------------------------- the committed run


@pytest.fixture(scope="module")
def committed():
    return lsa_kernels.committed()


def test_the_page_holds_the_tables_of_the_committed_runs(committed):
    page = (lsa_kernels.helpers.ROOT / "docs" / "kernels.md").read_text("utf-8")
    assert lsa_plan.table(committed) in page
    assert lsa_kernels.lsa_floor.floor_table(committed) in page


def test_every_check_passed_and_no_stage_failed(committed):
    assert len(committed["checks"]) == 19
    assert [check["name"] for check in committed["checks"] if not check["ok"]] == []
    assert "errors" not in committed
    later = records.load(lsa_kernels.SCORES)[0]
    assert [check["name"] for check in later["checks"] if not check["ok"]] == []
    assert len(later["checks"]) == 11 and "errors" not in later
    rows = [row for stage in committed.values() if isinstance(stage, list) for row in stage]
    assert [row for row in rows if "error" in row] == []


def longest_scores(committed):
    most = max(row["chunks"] for row in committed["scores"])
    return {(r["indexer"], r["keys"]): r for r in committed["scores"] if r["chunks"] == most}


def test_plain_keys_meet_the_goal_and_stored_rows_miss_it(committed):
    over = {}
    for (indexer, keys), row in longest_scores(committed).items():
        other = lsa_plan.best_tried(committed["score_tiles"], indexer=indexer, keys=keys)
        over[indexer, keys] = min(row["us"], other or row["us"]) / row["floor_us"]
    assert max(times for (_, keys), times in over.items() if keys == "bfloat16") < 1.35
    rows = sorted(times for (_, keys), times in over.items() if keys != "bfloat16")
    assert rows[0] == pytest.approx(1.67, abs=0.005) and rows[-1] == pytest.approx(2.03, abs=0.005)


def test_a_plain_read_tells_what_launches_reach(committed):
    floor = {r["keys"]: r["floor_us"] for r in longest_scores(committed).values()}
    read = {
        keys: lsa_kernels.lsa_floor.line(points)
        for keys, points in lsa_kernels.lsa_floor.fastest_reads(committed).items()
    }
    assert {k: round(c, 1) for k, (c, _) in read.items()} == {"rows": 1.8, "plain": 2.4}
    first = {k: min(p)[1] for k, p in lsa_kernels.lsa_floor.fastest_reads(committed).items()}
    assert first["rows"] / floor["rows, queries rounded"] == pytest.approx(1.2, abs=0.005)
    assert first["plain"] / floor["bfloat16"] == pytest.approx(1.12, abs=0.005)
    constants = [c for c, _ in map(lsa_kernels.lsa_floor.line, lengths(committed).values())]
    assert min(constants) > 4.45 and max(constants) < 6.35
    nothing = next(r["us"] for r in committed["reads"] if r["keys"] == "nothing")
    assert nothing == pytest.approx(2.0, abs=0.05)


def lengths(committed):
    return lsa_kernels.lsa_floor.by_length(committed)


def fastest(rows, **about):
    alike = [row for row in rows if all(row[name] == value for name, value in about.items())]
    return min(alike, key=lambda row: row["us"])


def test_what_other_tiles_of_scores_gain(committed):
    """At a million tokens, two programs to a multiprocessor; sending ahead gains nothing."""
    own, changes = longest_scores(committed), {}
    for row in committed["score_tiles"]:
        key = row["indexer"], row["keys"]
        changes.setdefault((key, row["tile"]["prefetch"] > 0), []).append(
            row["us"] / own[key]["us"] - 1
        )
    best = {
        key: min(changes[key, False], default=0) for key, _ in changes if (key, False) in changes
    }
    assert best["memory", "rows, queries rounded"] == pytest.approx(-0.05, abs=0.005)
    assert best["native", "rows, queries rounded"] == pytest.approx(-0.07, abs=0.005)
    assert best["native", "rows"] == pytest.approx(-0.03, abs=0.005)
    assert min(change for key, change in best.items() if key[1] != "rows, queries rounded") > -0.031
    assert min(c for (_, ahead), list_ in changes.items() if ahead for c in list_) > -0.014


@pytest.mark.parametrize("batch", [1, 8])
def test_packed_cells_take_the_fastest_tile_that_was_tried(committed, launches, batch):  # noqa: F811
    call_attention(90, torch.bfloat16, packed=True, b=batch)
    options = launches[0][3]
    best = fastest(committed["attention_tiles"], packed=True, batch=batch)
    found = [options[name] for name in ("HEADS", "KEYS", "num_warps")]
    assert found == [best["tile"][name] for name in ("heads", "keys", "num_warps")]
    about = {"packed": True, "batch": batch, "cells": 512}
    (timed,) = (r for r in committed["attention"] if all(r[n] == about[n] for n in about))
    assert best["us"] / timed["us"] == pytest.approx(1, abs=0.006)


def test_no_other_tile_of_the_attention_is_much_better(committed):
    for row in committed["attention_tiles"]:
        about = {name: row[name] for name in ("batch", "cells", "packed")}
        (own,) = (r for r in committed["attention"] if all(r[n] == about[n] for n in about))
        assert row["us"] > 0.965 * own["us"]


def test_copies_keep_their_cut(committed):
    default, *others = committed["copy_tiles"]
    assert default["tile"] is None
    faster = [1 - row["us"] / default["us"] for row in others]
    assert min(faster) > 0 and max(faster) == pytest.approx(0.06, abs=0.003)
    beside = {row["tile"]["programs"]: row["products_beside_us"] for row in others}
    assert beside[132] / default["products_us"] == pytest.approx(1.86, abs=0.01)
    assert default["products_beside_us"] / default["products_us"] == pytest.approx(1.42, abs=0.01)


def test_what_the_kernel_reads_from_the_host(committed):
    rows = [row for row in committed["copies"] if row["source"] == "host"]
    large = [row for row in rows if row["chunks"] == 12288]
    rate = sorted(row["bytes"] / row["us"] / 1e3 for row in large)
    assert rate == pytest.approx([41.5, 45.2], abs=0.06)
    torchs = sorted(row["bytes"] / row["torch_us"] / 1e3 for row in large)
    assert torchs == pytest.approx([1.8, 2.0], abs=0.06)
    assert committed["ceilings"]["host_to_device"] == pytest.approx(55e9, abs=0.6e9)
