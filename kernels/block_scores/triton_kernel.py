"""Block scores as one matrix product with a maximum in its epilogue.

All groups share the index keys, so [n, h_kv] flattens into the rows of a single product: four
groups of 32 queries fill a tile of 128 rows and read each key once. A program owns one tile of
rows and a stretch of keys, and writes its own columns; nothing is reduced across programs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..addressing import load_keys, load_rows, through_registers
from ..index_codes import CODES
from ..plans import copies_in_bulk
from ..shared_memory import SPARE_BYTES, card, first_fit

PROGRAMS = 1056  # programs to aim at: 8 for each of the 132 multiprocessors of an H100
LONGEST = 64  # steps of one program at most, so that late rows do not trail behind


@triton.jit
@no_type_check
def maxima(
    q,
    k_src,
    page,
    row,
    position,
    first_key,
    m,
    stride_km,
    BLOCKS: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    FULL: tl.constexpr,
    BULK: tl.constexpr,
):
    """Largest score of each of BLOCKS equal parts of KEYS keys, [ROWS, BLOCKS].

    With BULK keys are rows of a page of the descriptor `k_src`, and those at no query's position
    may be anything.
    """
    if BULK:
        k = k_src.load([page.to(tl.int32), row.to(tl.int32), 0]).reshape(KEYS, D)
    else:
        k = load_keys(k_src, first_key, m, stride_km, KEYS, D, FULL)  # [KEYS, D]
    s = tl.dot(q, tl.trans(k), input_precision="ieee")  # [ROWS, KEYS]
    if not FULL:
        key = tl.cast(first_key, tl.int32) + tl.arange(0, KEYS)
        s = tl.where(key[None, :] <= position[:, None], s, float("-inf"))
    return tl.max(tl.reshape(s, (s.shape[0], BLOCKS, KEYS // BLOCKS)), axis=2)


@triton.jit
@no_type_check
def _step(
    q,
    k_src,
    scores_ptr,
    batch,
    rows,
    n_rows,
    position,
    row_mask,
    step,
    m,
    n_blk,
    stride_km,
    BLOCK_SIZE: tl.constexpr,
    SPAN: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    FULL: tl.constexpr,
    BULK: tl.constexpr,
    BY_BLOCK: tl.constexpr,
):
    """Score SPAN keys, KEYS at a time, and store the maxima of their blocks.

    FULL means all rows see all keys.
    """
    BLOCKS: tl.constexpr = SPAN // BLOCK_SIZE
    first_key = tl.cast(step, tl.int64) * SPAN
    best = maxima(
        q, k_src, batch, first_key, position, first_key, m, stride_km, BLOCKS, KEYS, D, FULL, BULK
    )
    for _ in tl.static_range(1, SPAN // KEYS):  # keys that are part of one block
        first_key += KEYS
        more = maxima(
            q, k_src, batch, first_key, position, first_key, m, stride_km, BLOCKS, KEYS, D, FULL,
            BULK,
        )  # fmt: skip
        best = tl.maximum(best, more)
    block = step * BLOCKS + tl.arange(0, BLOCKS)
    mask = row_mask[:, None] & (block < n_blk)[None, :]
    if BY_BLOCK:
        place = rows[:, None] + block[None, :].to(tl.int64) * n_rows
    else:
        place = rows[:, None] * n_blk + block[None, :]
    tl.store(scores_ptr + place, best, mask=mask)


@triton.jit(do_not_specialize=["n", "m", "h_kv", "n_blk", "steps"])
@no_type_check
def block_scores_kernel(
    q_ptr,
    k_src,
    scores_ptr,
    n,
    m,
    h_kv,
    n_blk,
    steps,
    stride_qb,
    stride_kb,
    stride_km,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    SPAN: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    BULK: tl.constexpr,
    REGISTERS: tl.constexpr,
    BY_BLOCK: tl.constexpr,
):
    """Write scores[b, row, block] for rows = (query, group), `steps` steps of SPAN keys each.

    Blocks that lie wholly after the last query of a tile of rows are left as they are. BULK:
    `k_src` is a descriptor of [1, KEYS, D]; REGISTERS: queries are multiplied from there;
    BY_BLOCK: scores are [b, block, row].
    """
    batch = tl.program_id(2).to(tl.int64)
    first_row = tl.program_id(0) * ROWS
    last_row = tl.minimum(first_row + ROWS, n * h_kv) - 1
    rows = (first_row + tl.arange(0, ROWS)).to(tl.int64)
    row_mask = rows < n * h_kv
    position = m - n + first_row // h_kv  # of the first query
    first_step = tl.program_id(1) * steps
    stop = tl.minimum(first_step + steps, (m - n + last_row // h_kv) // SPAN + 1)
    full_stop = tl.minimum(stop, (position + 1) // SPAN)

    q = load_rows(q_ptr + batch * stride_qb, rows, D, row_mask, D)  # [ROWS, D]
    position = m - n + (first_row + tl.arange(0, ROWS)) // h_kv  # [ROWS]
    if REGISTERS:
        q = through_registers(q, D)
    if not BULK:
        k_src += batch * stride_kb
    scores_ptr += batch * n * h_kv * n_blk
    for step in range(first_step, full_stop):
        _step(
            q, k_src, scores_ptr, batch, rows, n * h_kv, position, row_mask, step, m, n_blk,
            stride_km, BLOCK_SIZE, SPAN, KEYS, D, True, BULK, BY_BLOCK,
        )  # fmt: skip
    for step in range(tl.maximum(first_step, full_stop), stop):
        _step(
            q, k_src, scores_ptr, batch, rows, n * h_kv, position, row_mask, step, m, n_blk,
            stride_km, BLOCK_SIZE, SPAN, KEYS, D, False, BULK, BY_BLOCK,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScoreTile:
    """How `block_scores_kernel` cuts its work; rows are queries times groups."""

    rows: int
    keys: int  # per product: several whole blocks, or a part of one
    num_warps: int
    num_stages: int


def score_tiles(decoding: bool, block_size: int, itemsize: int) -> Iterator[ScoreTile]:
    """Tiles for few rows or many, from the one timed on an H100 to the smallest."""
    if decoding:  # at most 16 rows in all: bound by reading the keys
        shapes, num_warps = ((16, 128), (16, 64), (16, 32), (16, 16)), 8
    elif itemsize == 4:  # no tensor cores, and wider keys
        shapes, num_warps = ((32, 128), (32, 64), (32, 32), (16, 32), (16, 16)), 8
    else:
        shapes, num_warps = ((128, 128), (64, 128), (64, 64), (32, 64), (32, 32), (16, 16)), 4
    for num_rows, keys in shapes:
        # parts of a block would all be loaded ahead of their products, which saves no memory
        num_stages = 2 if keys >= block_size else 1
        yield ScoreTile(rows=num_rows, keys=keys, num_warps=num_warps, num_stages=num_stages)


def score_bytes(tile: ScoreTile, d: int, itemsize: int) -> int:
    """Bound on the shared memory of `block_scores_kernel`."""
    ahead = 2 if itemsize == 2 else 1  # without tensor cores no keys load ahead
    return itemsize * d * (tile.rows + ahead * tile.keys) + SPARE_BYTES


def write_scores(
    q_idx: Tensor,
    k_idx: Tensor,
    scores: Tensor,
    block_size: int,
    *,
    by_block: bool = False,
    bulk: bool = False,
) -> None:
    """Launch: fill the visible part of `scores` [b, n, h_kv, n_blk], which is contiguous.

    Args:
        by_block: `scores` is [b, n_blk, n, h_kv].
        bulk: keys come by TMA where strides allow it.
    """
    b, n, h_kv, d_idx = q_idx.shape
    m, n_blk = k_idx.shape[1], triton.cdiv(k_idx.shape[1], block_size)
    if q_idx.stride()[1:] != (h_kv * d_idx, d_idx, 1):
        q_idx = q_idx.contiguous()
    if k_idx.stride(-1) != 1:
        k_idx = k_idx.contiguous()
    with torch.cuda.device_of(q_idx):
        tile = first_fit(
            score_tiles, score_bytes, card(), q_idx.dtype, n * h_kv <= 16, block_size, d_idx
        )
        codes = q_idx.dtype == CODES
        bulk = bulk and copies_in_bulk(k_idx) and m >= tile.keys
        source = TensorDescriptor.from_tensor(k_idx, [1, tile.keys, d_idx]) if bulk else k_idx
        span = max(tile.keys, block_size)
        row_tiles, key_steps = triton.cdiv(n * h_kv, tile.rows), triton.cdiv(m, span)
        steps = min(max(row_tiles * b * key_steps // PROGRAMS, 1), LONGEST)
        grid = (row_tiles, triton.cdiv(key_steps, steps), b)
        block_scores_kernel[grid](
            q_idx, source, scores, n, m, h_kv, n_blk, steps,
            q_idx.stride(0), k_idx.stride(0), k_idx.stride(1),
            BLOCK_SIZE=block_size, ROWS=tile.rows, SPAN=span, KEYS=tile.keys, D=d_idx,
            BULK=bulk, REGISTERS=bulk and not codes, BY_BLOCK=by_block,
            num_warps=tile.num_warps, num_stages=3 if codes else tile.num_stages,
        )  # fmt: skip


@torch.library.custom_op("intuitive::block_scores", mutates_args=())
def block_scores(q_idx: Tensor, k_idx: Tensor, block_size: int) -> Tensor:
    """Custom operator behind the public function: float32 [b, n, h_kv, n_blk]."""
    n_blk = triton.cdiv(k_idx.shape[1], block_size)
    scores = q_idx.new_full((*q_idx.shape[:3], n_blk), float("-inf"), dtype=torch.float32)
    write_scores(q_idx, k_idx, scores, block_size)
    return scores


@block_scores.register_fake
def _(q_idx, k_idx, block_size):
    n_blk = -(-k_idx.shape[1] // block_size)
    return q_idx.new_empty((*q_idx.shape[:3], n_blk), dtype=torch.float32)
