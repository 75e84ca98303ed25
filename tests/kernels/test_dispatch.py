"""Which implementation runs, and that asking is cheap."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from intuitive.kernels import dispatch

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def no_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_auto_follows_the_device(monkeypatch):
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", True)
    assert dispatch.choose("auto", CPU) == "reference"
    assert dispatch.choose("auto", CUDA) == "triton"
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", False)
    assert dispatch.choose("auto", CUDA) == "reference"


def test_an_explicit_request_is_honoured(monkeypatch):
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", True)
    assert dispatch.choose("reference", CUDA) == "reference"
    assert dispatch.choose("triton", CUDA) == "triton"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert dispatch.choose("triton", CPU) == "triton"
    assert dispatch.choose("auto", CPU) == "reference"


def test_an_explicit_request_is_refused_rather_than_swapped(monkeypatch):
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", True)
    with pytest.raises(
        RuntimeError, match=r"CUDA tensor, got one on 'cpu'\. Pass impl='reference'"
    ):
        dispatch.choose("triton", CPU)
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", False)
    with pytest.raises(RuntimeError, match="not installed here"):
        dispatch.choose("triton", CUDA)
    with pytest.raises(
        ValueError, match="impl='cuda' must be one of 'auto', 'reference', 'triton'"
    ):
        dispatch.choose("cuda", CUDA)


def test_importing_and_running_oracles_leaves_triton_alone():
    code = (
        "import sys, torch, intuitive.kernels as kernels\n"
        "kernels.block_scores(torch.ones(1, 1, 1, 4), torch.ones(1, 3, 4), block_size=2)\n"
        "print([name for name in sys.modules if name.endswith('triton_kernel')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nobody_reaches_below_the_public_functions():
    root = Path(__file__).parents[2]
    operations = [path.parent.name for path in (root / "kernels").glob("*/reference.py")]
    names = "|".join(operations)  # imported; a lesson may show the source of what is inside
    inside = re.compile(rf"(?:from|import) intuitive\.kernels\.({names})(\.\w| import (?!\1\b))")
    assert inside.search("from intuitive.kernels.select_blocks.reference import select_blocks")
    assert inside.search("from intuitive.kernels.select_blocks import triton_kernel")
    files = [*root.glob("*.py"), *root.glob("notebooks/*.ipynb")]
    for folder in ("intuitive", "widgets", "benchmarks", "tools", "tests"):
        files += (root / folder).rglob("*.py")
    assert [p.name for p in files if p != Path(__file__) and inside.search(p.read_text())] == []
