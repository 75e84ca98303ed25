"""The benchmark of plans: what it checks, at sizes for Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from intuitive.common import records

pytest.importorskip("triton", reason="Triton is not installed on this platform")
LADDER = Path(__file__).parents[2] / "benchmarks" / "kernel_ladder.py"


@pytest.mark.slow
def test_every_plan_is_checked(tmp_path):
    done = subprocess.run(
        [sys.executable, LADDER, tmp_path, "--small", "--part", "decode", "backward"],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for part, plans in (
        ("decode", ["codes", "codes, overlapped", "general", "hopper", "hopper, overlapped"]),
        ("backward", ["general", "hopper"]),
    ):
        values, made = records.load(tmp_path / f"ladder_{part}.json")
        assert sorted(values["rows"]) == plans
        assert all(row["passed"] for row in values["rows"].values())
        assert made["config"] == {"part": part}
    assert "## backward" in (tmp_path / "ladder.txt").read_text()


def test_what_differs_between_runs_does_not_pass():
    import ladder_base
    import torch

    part = ladder_base.Part("cpu", small=True)
    assert torch.equal(*part.twice(lambda: (torch.ones(2), torch.ones(2))))
    with pytest.raises(RuntimeError, match="two runs differ"):
        part.twice(lambda: (torch.rand(9),))


def test_a_block_left_out_must_not_be_better():
    import ladder_prefill
    import torch

    exact = torch.tensor([[[[4.0, 1.0, 3.0, 2.0, float("-inf")]]]])

    def gap(*ids, n_local=0, n_init=0):
        return ladder_prefill.worst_gap(torch.tensor([[[ids]]]), exact, n_local, n_init)

    assert gap(0, 2) == gap(0, 2, 3) == 0
    assert gap(0, 3) == pytest.approx(1 / 4)
    assert gap(0, 3, n_local=1) == 0  # the last readable block is forced
    assert gap(0, 2, n_local=1) == gap(2, 3, n_init=1) == gap(0, 4) == float("inf")
    with pytest.raises(RuntimeError, match="selected twice"):
        gap(0, 0)
