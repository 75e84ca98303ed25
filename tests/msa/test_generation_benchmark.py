"""The benchmarks of generation and of MiniMax-M3's layer, at their small sizes."""

import argparse
import dataclasses
import sys

import generation
import helpers
import pytest
import torch

from intuitive.common import records


def told(out, seconds=60, commit=None):
    """The options of a script, as from `helpers.rows_options`."""
    return argparse.Namespace(
        out=out, seconds=seconds, commit=commit, small=True, device=torch.device("cpu")
    )


def test_generation_compares_both_loops(tmp_path):
    bench = generation.Bench(generation.SMALL, told(tmp_path / "g.json", commit="a commit"))
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
    late = generation.Bench(generation.SMALL, told(tmp_path / "l.json", seconds=0))
    late.run()
    assert len(late.values["skipped"]) == 2


def test_a_layer_of_minimax_reads_the_same_in_every_arm(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    import msa_transformers

    bench = msa_transformers.Bench(msa_transformers.SMALL, told(tmp_path / "m.json"))
    bench.run()
    rows = bench.values["rows"]
    assert [row["arm"] for row in rows] == 2 * list(msa_transformers.ARMS)
    assert all(row["apart"] < 1e-5 for row in rows)
    whole = dataclasses.replace(bench.plan, sizes=bench.plan.sizes | {"index_topk_blocks": 9})
    other = msa_transformers.Bench(whole, told(tmp_path / "o.json"))
    hidden = torch.randn(1, 150, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        reads = [each.call("ours", hidden)() for each in (bench, other)]
    assert msa_transformers.apart(*reads) > 1e-2  # so the selection leaves blocks out
    monkeypatch.setattr(sys, "argv", ["x", "--small", "--out", str(tmp_path / "m.json")])
    assert msa_transformers.main() == 0


def test_the_page_on_the_decoder_tells_what_was_measured():
    values, _ = records.load(generation.RESULT)
    rows = {(row["attention"], row["dtype"]): row for row in values["rows"]}
    speed = {key: f"{row['fixed_tokens_per_s']:.0f}" for key, row in rows.items()}
    said = (
        f"makes {speed['dense', 'bfloat16']} tokens a second with dense attention and "
        f"{speed['msa', 'bfloat16']} with MSA in bfloat16, {speed['dense', 'float32']} and "
        f"{speed['msa', 'float32']} in float32"
    )
    assert said in (helpers.ROOT / "docs" / "decoder.md").read_text(encoding="utf-8")
    ratio = next(r["msa_over_dense"] for r in values["ratios"] if r["dtype"] == "bfloat16")
    lesson = (helpers.ROOT / "notebooks" / "01_msa.ipynb").read_text(encoding="utf-8")
    assert f"is {ratio:.1f} times as fast with MSA" in lesson
    for row in values["rows"]:
        assert row["same_as_uncaptured"]
        if row["dtype"] == "float32":
            assert row["same_tokens"] == row["compared_tokens"]
    read = [rows[kind, "float32"]["key_value_bytes_read_per_token"] for kind in ("msa", "dense")]
    assert 0.35 < read[0] / read[1] < 0.45  # two fifths
