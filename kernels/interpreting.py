"""Kernels step by step on any CPU: Triton's interpreter, in a Python of its own.

Triton decides when it is imported whether kernels are compiled or interpreted, and an interpreted
kernel that reads beside its tensors may end the process. So a small case runs in another one:

    simulate(source, …)         a kernel of a reader's own, on rows of numbers
    elsewhere("package.module") a module of ours whose main part prints JSON
    recorded_loads()            there: what every load reads from then on

`triton` and `tl` are Triton itself, or stand-ins where it cannot be installed (it is for Linux
only): there a kernel can be written and not be run.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from . import dispatch

try:
    import triton
    import triton.language as tl
except ImportError:
    triton, tl = SimpleNamespace(jit=lambda kernel: kernel), SimpleNamespace(constexpr=int)

PATIENCE_S = 240  # a machine may be busy


def misfit() -> str | None:
    """Why Triton and numpy as installed cannot interpret a kernel together; None if they can.

    Triton's interpreter before 3.7 takes arrays of one number for numbers (its issue 9171).
    """
    installed = version("triton"), version("numpy")
    first, second = (tuple(int(part) for part in v.split(".")[:2]) for v in installed)
    if first >= (3, 7) or second < (2, 4):
        return None
    return (
        "Triton {} cannot interpret kernels beside numpy {}: install triton>=3.7 or numpy<2.4. "
        "On a GPU kernels run all the same.".format(*installed)
    )


def elsewhere(module: str, *job: str) -> list:
    """What a module prints as JSON when another Python runs it with TRITON_INTERPRET=1.

    Raises:
        RuntimeError: Triton is not installed or does not fit, or the other Python failed.
    """
    if not dispatch.TRITON_INSTALLED:
        raise RuntimeError("Triton is not installed here (it is for Linux only).")
    fault = misfit()
    if fault is not None:
        raise RuntimeError(fault)
    done = subprocess.run(
        [sys.executable, "-m", module, *job],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    if done.returncode < 0:
        raise RuntimeError(
            "The kernel read or wrote far outside its tensors and ended its process."
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"The interpreter ended with status {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def simulate(source: str, name: str, runs: Sequence[dict[str, Any]]) -> list[list[float] | str]:
    """Run a kernel on rows of scores; for each run what it wrote, or why it failed.

    Args:
        source: of a module that defines it.
        name: the kernel's.
        runs: each with `row` (numbers in memory), `visible`, `n_out` (programs and results) and
            `block` (tokens).

    Raises:
        RuntimeError: Triton is not installed, or the interpreter ended the process.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.py")
        file.write_text(source, encoding="utf-8")
        return elsewhere(__name__, str(file), name, json.dumps(list(runs)))


def recorded_loads() -> list[tuple[int, Any]]:
    """From now on every load is noted: its program, and the addresses that its mask lets through.

    Only where kernels are interpreted. Addresses come as an array of whole numbers.
    """
    from triton.runtime.interpreter import interpreter_builder as builder

    found, load = [], builder.create_masked_load

    def noted(ptrs: Any, mask: Any, *rest: Any) -> Any:
        found.append((int(builder.grid_idx[0]), ptrs.data[mask.data]))
        return load(ptrs, mask, *rest)

    builder.create_masked_load = noted
    return found


def _simulated(file: str, name: str, runs: str) -> list[list[float] | str]:
    spec = importlib.util.spec_from_file_location("kernel", file)
    module = importlib.util.module_from_spec(spec)
    results: list[list[float] | str] = []
    try:
        spec.loader.exec_module(module)
        kernel = getattr(module, name)
    except Exception as error:  # a reader's source may fail in any way
        return [f"{type(error).__name__}: {error}"] * len(json.loads(runs))
    for run in json.loads(runs):
        row = torch.tensor(run["row"], dtype=torch.float32)
        out = torch.full((run["n_out"],), float("nan"))
        try:
            kernel[(run["n_out"],)](row, out, run["visible"], BLOCK=run["block"])
            results.append(out.tolist())
        except Exception as error:
            cause = error.__cause__ or error  # the interpreter wraps what went wrong
            results.append(f"{type(cause).__name__}: {cause}".splitlines()[0])
    return results


if __name__ == "__main__":
    print(json.dumps(_simulated(*sys.argv[1:])))
