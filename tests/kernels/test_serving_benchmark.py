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
