"""The benchmarks of generation and of MiniMax-M3's layer, at their small sizes."""

import dataclasses
import sys

import generation
import pytest
import torch

from intuitive.common import records

CPU = torch.device("cpu")


def test_generation_compares_both_loops(tmp_path):
    bench = generation.Bench(generation.SMALL, CPU, tmp_path / "g.json", 60, "a commit")
    bench.run()
    assert [row["attention"] for row in bench.values["rows"]] == ["dense", "msa"]
    for row in bench.values["rows"]:
        assert row["same_tokens"] == row["compared_tokens"] == generation.SMALL.ordinary
        assert not row["graph"]
    speeds = [row["fixed_tokens_per_s"] for row in bench.values["rows"]]
    (ratio,) = bench.ratios()
    assert ratio["msa_over_dense"] == pytest.approx(speeds[1] / speeds[0])
    values, made = records.load(tmp_path / "g.json")
    assert len(values["rows"]) == 2
    assert made["commit"] == "a commit"
    late = generation.Bench(generation.SMALL, CPU, tmp_path / "l.json", 0, None)
    late.run()
    assert len(late.values["skipped"]) == 2


def test_a_layer_of_minimax_reads_the_same_in_every_arm(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    import msa_transformers

    bench = msa_transformers.Bench(msa_transformers.SMALL, CPU, tmp_path / "m.json", 60, None)
    bench.run()
    rows = bench.values["rows"]
    assert [row["arm"] for row in rows] == 2 * list(msa_transformers.ARMS)
    assert all(row["apart"] < 1e-5 for row in rows)
    whole = dataclasses.replace(bench.plan, sizes=bench.plan.sizes | {"index_topk_blocks": 9})
    other = msa_transformers.Bench(whole, CPU, tmp_path / "o.json", 60, None)
    hidden = torch.randn(1, 150, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        reads = [each.call("ours", hidden)() for each in (bench, other)]
    assert msa_transformers.apart(*reads) > 1e-2  # so the selection leaves blocks out
    monkeypatch.setattr(sys, "argv", ["x", "--small", "--out", str(tmp_path / "m.json")])
    assert msa_transformers.main() == 0
