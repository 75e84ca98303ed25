"""The benchmark of candidates: what it checks, at sizes for Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from intuitive.common import records

pytest.importorskip("triton", reason="Triton is not installed on this platform")
LADDER = Path(__file__).parents[2] / "benchmarks" / "kernel_ladder.py"


@pytest.mark.slow
def test_candidates_are_checked_before_they_are_timed(tmp_path):
    parts = ["decode", "select"]
    done = subprocess.run(
        [sys.executable, LADDER, "--small", "--part", *parts, "--out", tmp_path],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for part in parts:
        values, made = records.load(tmp_path / f"ladder_{part}.json")
        assert "as is" in values["rows"]
        assert len(values["rows"]) > 1
        assert [name for name, row in values["rows"].items() if not row.get("passed")] == []
        assert made["config"] == {"part": part}


def test_a_table_of_candidates_is_read_by_name():
    import ladder_base

    table = "\nkeys=128 tma=False\nstages=3\n"
    want = {"keys=128 tma=False": {"keys": 128, "tma": False}, "stages=3": {"stages": 3}}
    assert ladder_base.settings(table) == want
