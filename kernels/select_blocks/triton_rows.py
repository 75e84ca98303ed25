"""Block selection of many rows: a thread a row, whose best scores are sorted in registers.

Scores come [b, block, row], so that the threads of a warp read neighbours. An insertion moves every
register of a row; it is skipped for blocks that enter no row of the warp, which are most of them.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_kernel import TOP_ID, is_forced

MOST_SLOTS = 16  # registers of a thread for scores, and as many for ids
ROWS = 32  # of one program, which is a warp
AHEAD = 8  # blocks whose scores are loaded at a time


@triton.jit
@no_type_check
def _insert(best, ids, x, block, SLOTS: tl.constexpr):
    """Scores and ids, descending, with one more block; equal scores keep the earlier one ahead."""
    ahead = x > best[0]
    out_best = (tl.maximum(best[0], x),)
    out_ids = (tl.where(ahead, block, ids[0]),)
    for i in tl.static_range(1, SLOTS):
        before = ahead
        ahead = x > best[i]
        out_best = out_best + (tl.maximum(best[i], tl.minimum(best[i - 1], x)),)
        out_ids = out_ids + (tl.where(ahead, tl.where(before, ids[i - 1], block), ids[i]),)
    return out_best, out_ids


@triton.jit
@no_type_check
def _rank(scores_ptr, row, exists, block, n_visible, local, stride, n_local, n_init):
    """Scores of one block, +inf where it is forced and -inf where it cannot be read."""
    x = tl.load(
        scores_ptr + tl.cast(block, tl.int64) * stride + row,
        mask=exists & (block < n_visible),
        other=float("-inf"),
    )
    x = tl.where(tl.abs(x) < float("inf"), x, float("-inf"))  # NaN too
    forced = is_forced(block, local, n_local, n_init)
    return tl.where(forced & (x > float("-inf")), float("inf"), x)


SIZES = ["rows", "h_kv", "n_blk", "block_size", "first_visible", "n_selected", "n_local", "n_init"]


@triton.jit(do_not_specialize=SIZES)
@no_type_check
def select_rows_kernel(
    scores_ptr,
    out_ptr,
    rows,
    h_kv,
    n_blk,
    block_size,
    first_visible,
    n_selected,
    n_local,
    n_init,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """As `select_blocks_kernel`, from scores [b, n_blk, rows]; late rows, the longest, begin."""
    batch = tl.program_id(1).to(tl.int64)
    row = (tl.num_programs(0) - 1 - tl.program_id(0)) * ROWS + tl.arange(0, ROWS)
    exists = row < rows
    n_visible = tl.minimum(n_blk, (first_visible + row // h_kv - 1) // block_size + 1)
    scores_ptr += batch * n_blk * rows
    local = tl.where(exists, n_visible - 1, -1)
    s = tl.load(scores_ptr + local.to(tl.int64) * rows + row, mask=local >= 0, other=0.0)
    bad = (local >= 0) & ((tl.abs(s) < float("inf")) == 0)
    while tl.max(bad.to(tl.int32)) == 1:  # the last block with a finite score
        local = tl.where(bad, local - 1, local)
        s = tl.load(scores_ptr + local.to(tl.int64) * rows + row, mask=local >= 0, other=0.0)
        bad = (local >= 0) & ((tl.abs(s) < float("inf")) == 0)

    best = ()
    ids = ()
    for _ in tl.static_range(SLOTS):
        best = best + (tl.full((ROWS,), float("-inf"), tl.float32),)
        ids = ids + (tl.full((ROWS,), TOP_ID, tl.int32),)
    stop = tl.max(tl.where(exists, n_visible, 0))
    for start in range(0, stop, AHEAD):
        xs = ()
        for u in tl.static_range(AHEAD):
            xs = xs + (
                _rank(scores_ptr, row, exists, start + u, n_visible, local, rows, n_local, n_init),
            )
        for u in tl.static_range(AHEAD):
            x = xs[u]
            if tl.max((x > best[SLOTS - 1]).to(tl.int32)) == 1:
                best, ids = _insert(best, ids, x, start + u, SLOTS)

    out = ()
    for i in tl.static_range(SLOTS):
        out = out + (tl.where((best[i] > float("-inf")) & (i < n_selected), ids[i], TOP_ID),)
    for r in tl.static_range(SLOTS):  # ascending, by exchanges of neighbours
        moved = ()
        if r % 2 == 1:
            moved = moved + (out[0],)
        for i in tl.static_range((SLOTS - r % 2) // 2):
            a = out[r % 2 + 2 * i]
            b = out[r % 2 + 2 * i + 1]
            moved = moved + (tl.minimum(a, b), tl.maximum(a, b))
        if r % 2 == 1:
            moved = moved + (out[SLOTS - 1],)
        out = moved
    out_ptr += (batch * rows + row) * n_selected
    for i in tl.static_range(SLOTS):
        block = tl.where(out[i] == TOP_ID, -1, out[i])
        tl.store(out_ptr + i, block, mask=exists & (i < n_selected))


def write_row_selection(
    scores: Tensor,
    out: Tensor,
    *,
    block_size: int,
    n_local: int,
    n_init: int,
    first_visible: int,
) -> None:
    """Launch: `scores` [b, n_blk, n, h_kv] to `out` [b, n, h_kv, n_selected], contiguous.

    Query i may look at the blocks that start before token `first_visible` + i.
    """
    b, n_blk, n, h_kv = scores.shape
    n_selected = out.shape[-1]
    with torch.cuda.device_of(scores):
        select_rows_kernel[(triton.cdiv(n * h_kv, ROWS), b)](
            scores, out, n * h_kv, h_kv, n_blk, block_size, first_visible,
            n_selected, n_local, n_init,
            ROWS=ROWS, SLOTS=max(triton.next_power_of_2(n_selected), 2), AHEAD=AHEAD, num_warps=1,
        )  # fmt: skip
