"""What the attention kernel fetches, program by program, in Triton's interpreter on the CPU.

The small case runs in a Python of its own (`intuitive.kernels.interpreting`).
"""

import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool

from intuitive.common.runtime import seeded
from intuitive.kernels import block_sparse_attention
from intuitive.kernels.interpreting import elsewhere, recorded_loads

from .experiments.loop_orders import LoopParams, drifting_selection

BLOCK, D, HEADS = 16, 64, 16  # tokens per block, head size, heads of the group
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
    return tuple(Fetch(**one) for one in elsewhere(__name__))


def walked_selection() -> Bool[np.ndarray, "n n_blk"]:
    """Which blocks each query of `walk` chose."""
    return drifting_selection(WALKED)


def walk_in_words() -> str:
    """`walk` as text, a line for every block that a program fetches, or why there is none."""
    chosen = walked_selection()
    try:
        fetches = walk()
    except RuntimeError as error:
        return str(error)
    pairs, size = int(chosen.sum()), fetches[0].bytes + fetches[1].bytes
    lines, moved = [], 0
    for keys, values in zip(fetches[::2], fetches[1::2], strict=True):
        tile = range(keys.program * WALKED.tile, (keys.program + 1) * WALKED.tile)
        who = " ".join(str(query) for query in tile if chosen[query, keys.block])
        moved += keys.bytes + values.bytes
        place = f"program {keys.program}: block {keys.block}"
        lines.append(f"{place}, for queries {who:8s} {moved:6,} bytes so far")
    lines.append(
        f"tile by tile: {len(lines)} blocks, {moved:,} bytes; query by query it would be "
        f"{pairs} blocks, {pairs * size:,} bytes"
    )
    lines.append(
        f"a block: keys and values, {BLOCK} tokens × {D} numbers × 2 bytes each = {size:,} bytes"
    )
    return "\n".join(lines)


def _walked() -> list[Fetch]:
    """In the other process: run the kernel, compare it with its oracle, sort out its loads."""
    chosen, generator = torch.from_numpy(walked_selection()), seeded(0)
    n, n_blk = chosen.shape
    m = n_blk * BLOCK

    def draw(length: int, heads: int) -> torch.Tensor:
        return torch.randn(1, length, heads, D, generator=generator).half()

    q, k, v = draw(n, HEADS), draw(m, 1), draw(m, 1)
    ids = torch.stack([row.nonzero()[:, 0] for row in chosen])[None, :, None].int()
    loads = recorded_loads()
    got = block_sparse_attention(q, k, v, ids, impl="triton", block_size=BLOCK, plan="general")
    want = block_sparse_attention(q, k, v, ids, impl="reference", block_size=BLOCK)
    torch.testing.assert_close(got, want, atol=2e-3, rtol=2e-3)
    fetches = []
    for program, addresses in loads:
        for what, tensor in (("keys", k), ("values", v)):
            size = tensor.element_size()
            blocks = (addresses - tensor.data_ptr()) // (BLOCK * D * size)
            inside = blocks[(blocks >= 0) & (blocks < n_blk)]
            if len(inside):
                first, moved = int(inside[0]), len(inside) * size
                fetches.append(Fetch(program=program, what=what, block=first, bytes=moved))
    return fetches


if __name__ == "__main__":
    print(json.dumps([asdict(fetch) for fetch in _walked()]))
