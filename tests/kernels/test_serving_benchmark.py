"""The benchmark of batches: its checks at sizes for the interpreter, and its committed run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from intuitive.common import records

pytest.importorskip("triton", reason="Triton is not installed on this platform")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"


@pytest.mark.slow
def test_every_kind_of_batch_is_checked(tmp_path):
    out = tmp_path / "serving.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--small", "--out", out],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    values, made = records.load(out)
    assert sorted(values["checks"]) == ["packed prefill", "paged decode", "paged prefill"]
    assert all(row["over_one_sequence"] <= 2 for row in values["checks"].values())
    assert made["config"]["page"] == 32


def test_a_batch_that_differs_from_its_sequences_does_not_pass(monkeypatch):
    import serving
    import torch

    option = serving.argparse.Namespace(seconds=9, small=True, out=None, commit=None)
    bench = serving.Bench(serving.SMALL, torch.device("cpu"), option)
    bench.impl, bench.dtype = {"impl": "reference"}, torch.float32
    monkeypatch.setattr(bench, "save", lambda: None)
    attend = serving.attend_varlen
    monkeypatch.setattr(serving, "attend_varlen", lambda *x, **y: attend(*x, **y) * 1.001)
    with pytest.raises(RuntimeError, match="a batch differs from its sequences"):
        bench.check()


# ------------------------------------------------------------------------------ the committed run


def test_the_page_holds_the_table_and_what_it_says_of_the_times():
    import serving

    page = (SCRIPT.parents[1] / "docs" / "kernels.md").read_text("utf-8")
    values, made = records.load(serving.RESULT)
    assert serving.table(values) in page
    assert values["skipped"] == []
    prefill, decode = values["times"]["prefill, ms"], values["times"]["decode, µs"]
    checks = values["checks"].values()
    assert {row["same_blocks"] for row in checks} == {1.0}
    worst = max(row["over_one_sequence"] for row in checks)
    config = made["config"]
    prompts, caches = config["prompts"], config["caches"]
    index_mb = sum(caches) * config["d"] * 2 / 1e6
    read = len(caches) * config["h_kv"] * config["n_selected"] * config["block_size"]
    attended_mb = read * config["d"] * 2 * 2 / 1e6
    sums_mb = len(caches) * config["h_q"] * config["n_selected"] * 2 * config["d"] * 4 / 1e6
    for said in (
        f"{min(prompts):,} to {max(prompts):,} tokens, {sum(prompts):,} in all",
        f"decode at {min(caches):,} to {max(caches):,} tokens",
        f"at most {worst:.2f} times theirs",
        f"{prefill['attend packed']:.3g} and {prefill['attend in a loop']:.3g} ms, and "
        f"{prefill['attend from pages']:.3g} ms from pages",
        f"without TMA it takes {prefill['attend packed, general']:.3g}",
        f"in {prefill['select packed']:.3g} ms instead of {prefill['select in a loop']:.3g}",
        f"Of its {decode['from pages']:.2g} µs from pages the selection takes "
        f"{decode['select from pages']:.2g}",
        f"its {index_mb:.0f} MB of index keys at the 4.2 TB/s of a large copy would take "
        f"{index_mb / 4.2:.0f}",
        f"are {attended_mb:.0f} MB, {attended_mb / 4.2:.0f} µs",
        f"write and read {sums_mb:.0f} MB",
        f"with a mask takes {decode['dense, masked cache']:.0f} µs",
    ):
        assert said in page, said
    assert "varlen_attn does not run" in " ".join(prefill)
