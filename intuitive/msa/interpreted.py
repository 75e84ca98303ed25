"""Kernels step by step on any CPU: Triton's interpreter, in a Python of its own.

Triton decides when it is imported whether kernels are compiled or interpreted, and an interpreted
kernel that reads beside its tensors may end the process. So a small case runs in another one:

    walk()                 what this package's attention kernel fetches, program by program
    simulate(source, …)    a kernel of the reader's own

Where Triton is not installed (it is for Linux only) both raise a RuntimeError that says so.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from intuitive.common.runtime import seeded
from intuitive.kernels import block_sparse_attention, dispatch

from .experiments.loop_orders import LoopParams, drifting_selection

PATIENCE_S = 120
BLOCK, D, HEADS = 16, 64, 16  # of the small case: tokens per block, head size, heads of its group
WALKED = LoopParams(n_queries=8, n_blocks=8, n_selected=4, tile=4, drift=0.4)


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """One load of keys or values from memory."""

    program: int  # the tile of queries
    what: str  # "keys" or "values"
    block: int
    bytes: int


def walk() -> tuple[Fetch, ...]:
    """The loads of this package's attention kernel over a small selection, in their order.

    One group of 16 heads, float16, the selection of `WALKED`: 8 queries at the end of 8 blocks.

    Raises:
        RuntimeError: Triton is not installed, or the interpreter failed.
    """
    return tuple(Fetch(**one) for one in _elsewhere("walk"))


def walk_in_words() -> str:
    """`walk` as text, a line for every block that a program fetches, or why there is none."""
    chosen = walked_selection()
    try:
        fetches = walk()
    except RuntimeError as error:
        return str(error)
    lines, moved = [], 0
    for keys, values in zip(fetches[::2], fetches[1::2], strict=True):
        tile = np.arange(keys.program * WALKED.tile, (keys.program + 1) * WALKED.tile)
        readers = [int(query) for query in tile if chosen[query, keys.block]]
        moved += keys.bytes + values.bytes
        place = f"program {keys.program}: block {keys.block}"
        who = " ".join(map(str, readers))
        lines.append(f"{place}, for queries {who:8s} {moved:6,} bytes so far")
    return "\n".join(lines)


def walked_selection() -> np.ndarray:
    """Which block each query of `walk` chose: bool [n, n_blk]."""
    return drifting_selection(WALKED)


def simulate(source: str, name: str, runs: Sequence[dict]) -> list[list[float] | str]:
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
        return _elsewhere("simulate", str(file), name, json.dumps(list(runs)))


def _elsewhere(*job: str) -> list:
    """What a job prints as JSON when another Python does it with TRITON_INTERPRET=1."""
    if not dispatch.TRITON_INSTALLED:
        raise RuntimeError("Triton is not installed here (it is for Linux only).")
    done = subprocess.run(
        [sys.executable, "-m", __name__, *job],
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


# ------------------------------------------------------------------ in the other process


def _recorded() -> list[tuple[int, np.ndarray]]:
    """From now on every load is noted: its program and the addresses that its mask lets through."""
    from triton.runtime.interpreter import interpreter_builder as builder

    found, load = [], builder.create_masked_load

    def noted(ptrs, mask, *rest):
        found.append(
            (int(builder.grid_idx[0]), ptrs.data[np.broadcast_to(mask.data, ptrs.data.shape)])
        )
        return load(ptrs, mask, *rest)

    builder.create_masked_load = noted
    return found


def _walk() -> list[Fetch]:
    chosen, generator = torch.from_numpy(walked_selection()), seeded(0)
    n, n_blk = chosen.shape
    m = n_blk * BLOCK

    def draw(length: int, heads: int) -> torch.Tensor:
        return torch.randn(1, length, heads, D, generator=generator).half()

    q, k, v = draw(n, HEADS), draw(m, 1), draw(m, 1)
    ids = torch.stack([row.nonzero()[:, 0] for row in chosen])[None, :, None].int()
    loads = _recorded()
    sizes = {"block_size": BLOCK, "return_lse": False}
    got = block_sparse_attention(q, k, v, ids, impl="triton", **sizes)
    want = block_sparse_attention(q, k, v, ids, impl="reference", **sizes)
    torch.testing.assert_close(got, want, atol=2e-3, rtol=2e-3)
    fetches = []
    for program, addresses in loads:
        for what, tensor in (("keys", k), ("values", v)):
            first = (addresses - tensor.data_ptr()) // (BLOCK * D * tensor.element_size())
            inside = first[(first >= 0) & (first < n_blk)]
            if len(inside):
                size = len(inside) * tensor.element_size()
                fetches.append(Fetch(program=program, what=what, block=int(inside[0]), bytes=size))
    return fetches


def _simulate(file: str, name: str, runs: str) -> list[list[float] | str]:
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
    todo, *given = sys.argv[1:]
    found = [asdict(one) for one in _walk()] if todo == "walk" else _simulate(*given)
    print(json.dumps(found))
