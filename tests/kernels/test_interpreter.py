"""The Triton kernels on the CPU, simulated by Triton's interpreter.

Triton decides at import whether to interpret, so the cases run in a process of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = [
    Path(__file__).with_name(f"interpreter_{name}.py")
    for name in ("cases", "plans", "chunks", "varlen")
]


@pytest.mark.slow
@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_kernels_match_their_oracles_under_the_interpreter(cases):
    pytest.importorskip("triton", reason="Triton is not installed on this platform")
    plain = [
        "-q",
        "-p",
        "no:cacheprovider",
        "--noconftest",
        "-o",
        "addopts=--import-mode=importlib",
        "-o",
        f"pythonpath={cases.parent}",  # kernel_inputs, which conftest would find
    ]
    quick = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, str(cases)],
        env=os.environ | quick | {"TRITON_INTERPRET": "1"},
        cwd=cases.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
