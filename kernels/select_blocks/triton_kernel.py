"""Block selection by replacement, over one integer key per block.

Score and id pack into a 64-bit key whose integer order is the order wanted: higher score first,
then lower id. The best keys so far stay in registers; while a tile of the row holds a key above
the least of them, that one is replaced. Keys are unique, so there are no ties to break, and after
the first tiles few keys pass.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

UNREADABLE = tl.constexpr(-(2**63))  # below the key of every readable block
LOW_WORD = tl.constexpr(2**32 - 1)
TOP_ID = tl.constexpr(2**31 - 1)  # xor with it reverses the order of ids
FORCED = tl.constexpr(2**31 - 1)  # above the ordered bits of every finite score


@triton.jit
@no_type_check
def _load(scores_ptr, block, n_visible):
    """Scores of the given blocks, and which of them may be selected."""
    score = tl.load(scores_ptr + block, mask=block < n_visible, other=float("-inf"))
    return score, tl.abs(score) < float("inf")  # false for NaN too


@triton.jit
@no_type_check
def is_forced(block, local, n_local, n_init):
    """Whether blocks are chosen whatever their scores."""
    return (block < n_init) | ((block > local - n_local) & (block <= local))


@triton.jit
@no_type_check
def packed(score, readable, block, local, n_local, n_init):
    """One integer per block, in the order wanted, and UNREADABLE for those that cannot be read."""
    bits = tl.where(score == 0, 0.0, score).to(tl.int32, bitcast=True)  # -0 becomes +0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # same order as the floats
    ordered = tl.where(is_forced(block, local, n_local, n_init), FORCED, ordered)
    key = (ordered.to(tl.int64) << 32) | (block ^ TOP_ID).to(tl.int64)
    return tl.where(readable, key, UNREADABLE)


@triton.jit
@no_type_check
def block_of(key):
    """The block that a key of `packed` stands for."""
    return (key & LOW_WORD).to(tl.int32) ^ TOP_ID


@triton.jit
@no_type_check
def write_ids(out_ptr, key, valid, n_selected, SLOTS: tl.constexpr):
    """Store the blocks of valid keys [SLOTS], ascending, then -1 up to n_selected."""
    slot = tl.arange(0, SLOTS)
    n_valid = tl.sum(valid.to(tl.int32))
    ids = tl.where(valid, block_of(key), TOP_ID)
    ascending = tl.sum((ids[None, :] < ids[:, None]).to(tl.int32), axis=1)  # place of each id
    tl.store(out_ptr + ascending, ids, mask=valid)
    unused = (slot >= n_valid) & (slot < n_selected)
    tl.store(out_ptr + slot, tl.full((SLOTS,), -1, tl.int32), mask=unused)


@triton.jit
@no_type_check
def select_row(
    scores_ptr,
    out_ptr,
    n_visible,
    n_selected,
    n_local,
    n_init,
    TILE: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The first `n_visible` scores of a row -> the ids of its best blocks, ascending."""
    lane = tl.arange(0, TILE)

    local = -1
    for start in range(0, n_visible, TILE):
        _, readable = _load(scores_ptr, start + lane, n_visible)
        local = tl.maximum(local, tl.max(tl.where(readable, start + lane, -1)))

    slot = tl.arange(0, SLOTS)
    empty = UNREADABLE + 1 + slot.to(tl.int64)  # below every key, and unique too
    best = tl.where(slot < n_selected, empty, tl.full((SLOTS,), 2**63 - 1, tl.int64))
    for start in range(0, n_visible, TILE):
        block = start + lane
        score, readable = _load(scores_ptr, block, n_visible)
        key = packed(score, readable, block, local, n_local, n_init)  # [TILE]
        largest, least = tl.max(key), tl.min(best)
        while largest > least:
            best = tl.where(best == least, largest, best)
            key = tl.where(key == largest, UNREADABLE, key)
            largest, least = tl.max(key), tl.min(best)

    valid = (best > UNREADABLE + SLOTS) & (slot < n_selected)
    write_ids(out_ptr, best, valid, n_selected, SLOTS)


SIZES = ["n", "h_kv", "n_blk", "block_size", "first_visible", "n_selected", "n_local", "n_init"]


@triton.jit(do_not_specialize=SIZES)
@no_type_check
def select_blocks_kernel(
    scores_ptr,
    out_ptr,
    n,
    h_kv,
    n_blk,
    block_size,
    first_visible,
    n_selected,
    n_local,
    n_init,
    TILE: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """`select_row` of every row.

    Query i looks at blocks that start before token `first_visible` + i only; what lies beyond is
    never read, so it may be uninitialised memory.
    """
    row = tl.program_id(0)
    query = (row // h_kv) % n
    n_visible = tl.minimum(n_blk, (first_visible + query - 1) // block_size + 1)
    scores_ptr += row.to(tl.int64) * n_blk
    out_ptr += row.to(tl.int64) * n_selected
    select_row(scores_ptr, out_ptr, n_visible, n_selected, n_local, n_init, TILE, SLOTS)


def write_selection(
    scores: Tensor,
    out: Tensor,
    *,
    block_size: int,
    n_local: int,
    n_init: int,
    first_visible: int,
) -> None:
    """Launch: rows of `scores` [b, n, h_kv, n_blk] to `out` [b, n, h_kv, n_selected], contiguous.

    Query i may look at the blocks that start before token `first_visible` + i.
    """
    b, n, h_kv, n_blk = scores.shape
    n_selected = out.shape[-1]
    rows = b * n * h_kv
    # many rows: one warp each, in short tiles; a few, as in decoding: wide tiles, several warps
    tile = min(max(triton.next_power_of_2(n_blk), 256), 256 if rows > 1024 else 8192)
    with torch.cuda.device_of(scores):
        select_blocks_kernel[(rows,)](
            scores, out, n, h_kv, n_blk, block_size, first_visible, n_selected, n_local, n_init,
            TILE=tile, SLOTS=max(triton.next_power_of_2(n_selected), 16),
            num_warps=min(tile // 256, 8),
        )  # fmt: skip


@torch.library.custom_op("intuitive::select_blocks", mutates_args=())
def select_blocks(scores: Tensor, n_selected: int, n_local: int, n_init: int) -> Tensor:
    """Custom operator behind the public function: int32 [b, n, h_kv, n_selected]."""
    scores = scores.contiguous()
    out = scores.new_empty((*scores.shape[:-1], n_selected), dtype=torch.int32)
    write_selection(
        scores, out, block_size=1, n_local=n_local, n_init=n_init, first_visible=scores.shape[-1]
    )
    return out


@select_blocks.register_fake
def _(scores, n_selected, n_local, n_init):
    return scores.new_empty((*scores.shape[:-1], n_selected), dtype=torch.int32)
