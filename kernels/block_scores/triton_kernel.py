"""Block scores as one matrix product with a maximum in its epilogue.

All groups share the index keys, so [n, h_kv] flattens into the rows of a single product: four
groups of 32 queries fill a tile of 128 rows and read each key once. A program owns one tile of
rows and a stretch of keys, and writes its own columns; nothing is reduced across programs.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

KEYS = 128  # keys per step, one or more whole blocks
PROGRAMS = 1056  # programs to aim at: 8 for each of the 132 multiprocessors of an H100
LONGEST = 64  # steps of one program at most, so that late rows do not trail behind


@triton.jit
@no_type_check
def _step(
    q,
    k_ptr,
    scores_ptr,
    rows,
    position,
    row_mask,
    step,
    m,
    n_blk,
    stride_km,
    BLOCK_SIZE: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    FULL: tl.constexpr,
):
    """Score KEYS keys and store the maxima of their blocks; FULL means all rows see all keys."""
    BLOCKS: tl.constexpr = KEYS // BLOCK_SIZE
    first_key = tl.cast(step, tl.int64) * KEYS
    within = tl.arange(0, KEYS)
    k_ptrs = k_ptr + first_key * stride_km + within[:, None] * stride_km + tl.arange(0, D)
    if FULL:
        k = tl.load(k_ptrs)  # [KEYS, D]
    else:
        k = tl.load(k_ptrs, mask=(first_key + within < m)[:, None], other=0.0)
    s = tl.dot(q, tl.trans(k), input_precision="ieee")  # [ROWS, KEYS]
    if not FULL:
        s = tl.where((step * KEYS + within)[None, :] <= position[:, None], s, float("-inf"))
    best = tl.max(tl.reshape(s, (s.shape[0], BLOCKS, BLOCK_SIZE)), axis=2)  # [ROWS, BLOCKS]
    block = step * BLOCKS + tl.arange(0, BLOCKS)
    mask = row_mask[:, None] & (block < n_blk)[None, :]
    tl.store(scores_ptr + rows[:, None] * n_blk + block[None, :], best, mask=mask)


@triton.jit(do_not_specialize=["n", "m", "h_kv", "n_blk", "steps"])
@no_type_check
def block_scores_kernel(
    q_ptr,
    k_ptr,
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
    KEYS: tl.constexpr,
    D: tl.constexpr,
):
    """Write scores[b, row, block] for rows = (query, group), `steps` steps of KEYS keys each.

    Blocks that lie wholly after the last query of a tile of rows are left as they are.
    """
    batch = tl.program_id(2).to(tl.int64)
    first_row = tl.program_id(0) * ROWS
    last_row = tl.minimum(first_row + ROWS, n * h_kv) - 1
    rows = (first_row + tl.arange(0, ROWS)).to(tl.int64)
    row_mask = rows < n * h_kv
    position = m - n + first_row // h_kv  # of the first query
    first_step = tl.program_id(1) * steps
    stop = tl.minimum(first_step + steps, (m - n + last_row // h_kv) // KEYS + 1)
    full_stop = tl.minimum(stop, (position + 1) // KEYS)

    q_ptrs = q_ptr + batch * stride_qb + rows[:, None] * D + tl.arange(0, D)
    q = tl.load(q_ptrs, mask=row_mask[:, None], other=0.0)  # [ROWS, D]
    position = m - n + (first_row + tl.arange(0, ROWS)) // h_kv  # [ROWS]
    k_ptr += batch * stride_kb
    scores_ptr += batch * n * h_kv * n_blk
    for step in range(first_step, full_stop):
        _step(
            q, k_ptr, scores_ptr, rows, position, row_mask, step, m, n_blk, stride_km,
            BLOCK_SIZE, KEYS, D, True,
        )  # fmt: skip
    for step in range(tl.maximum(first_step, full_stop), stop):
        _step(
            q, k_ptr, scores_ptr, rows, position, row_mask, step, m, n_blk, stride_km,
            BLOCK_SIZE, KEYS, D, False,
        )  # fmt: skip


def write_scores(q_idx: Tensor, k_idx: Tensor, scores: Tensor, block_size: int) -> None:
    """Launch: fill the visible part of `scores` [b, n, h_kv, n_blk], which is contiguous."""
    b, n, h_kv, d_idx = q_idx.shape
    m = k_idx.shape[1]
    if q_idx.stride()[1:] != (h_kv * d_idx, d_idx, 1):
        q_idx = q_idx.contiguous()
    if k_idx.stride(-1) != 1:
        k_idx = k_idx.contiguous()
    exact = q_idx.dtype == torch.float32  # no tensor cores, and wider keys
    if n * h_kv <= 16:  # decoding: bound by reading the keys
        rows, num_warps = 16, 8
    else:
        rows, num_warps = (32, 8) if exact else (128, 4)
    row_tiles, key_steps = triton.cdiv(n * h_kv, rows), triton.cdiv(m, KEYS)
    steps = min(max(row_tiles * b * key_steps // PROGRAMS, 1), LONGEST)
    grid = (row_tiles, triton.cdiv(key_steps, steps), b)
    with torch.cuda.device_of(q_idx):
        block_scores_kernel[grid](
            q_idx, k_idx, scores, n, m, h_kv, scores.shape[-1], steps,
            q_idx.stride(0), k_idx.stride(0), k_idx.stride(1),
            BLOCK_SIZE=block_size, ROWS=rows, KEYS=KEYS, D=d_idx,
            num_warps=num_warps, num_stages=2,
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
