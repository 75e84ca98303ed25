"""Forward pass of a single query: one program per stretch of keys, then a merge.

With one query there is no tile to share blocks with, and 16 blocks are too few programs to fill
a GPU when walked in turn. Each program attends to a part of one block, and a second kernel merges
the parts by their log-sum-exps. The number of parts depends on shapes alone.
"""

from collections.abc import Iterator
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import cuda

from ..addressing import group_and_batch, head_start, load_rows, row_of, vectors
from ..merging import merge_parts
from ..shared_memory import SPARE_BYTES, card, first_fit
from .triton_forward import LN_2, LOG2_E
from .triton_tiles import Tile

MERGED = 16  # parts merged at a time


@triton.jit
@no_type_check
def attend_part(
    q, k, v, visible, scale, part_out_ptr, part_lse_ptr, place, exists, D: tl.constexpr
):
    """Attention of q [HEADS, D] to the visible keys; an empty part has lse -inf."""
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [HEADS, KEYS]
    s = tl.where(visible[None, :], s, float("-inf"))
    top = tl.max(s, axis=1)
    p = tl.exp2(s - tl.where(top == float("-inf"), 0.0, top)[:, None])
    total = tl.sum(p, axis=1)
    safe = tl.where(total > 0, total, 1.0)
    out = tl.dot(p.to(v.dtype), v, input_precision="ieee") / safe[:, None]  # [HEADS, D]
    tl.store(vectors(part_out_ptr, place, D, D), out, mask=exists[:, None])
    tl.store(part_lse_ptr + place, top + tl.log2(safe), mask=exists)


@triton.jit
@no_type_check
def write_part(
    q,
    k_ptr,
    v_ptr,
    part_out_ptr,
    part_lse_ptr,
    batch,
    group,
    row,
    exists,
    block,
    readable,
    m,
    scale,
    stride_kb,
    stride_km,
    stride_kh,
    stride_vb,
    stride_vm,
    stride_vh,
    BLOCK_SIZE: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
):
    """Attention of q [HEADS, D] to this program's KEYS keys of a block, if it is readable."""
    part, n_parts = tl.program_id(0), tl.num_programs(0)
    first = (part % (BLOCK_SIZE // KEYS)) * KEYS
    key = tl.where(readable, block, 0) * BLOCK_SIZE + first + tl.arange(0, KEYS)
    visible = readable & (key < m)  # all keys are in the past of the last position
    k_ptr = head_start(k_ptr, batch, group, stride_kb, stride_kh)
    v_ptr = head_start(v_ptr, batch, group, stride_vb, stride_vh)
    k = load_rows(k_ptr, key.to(tl.int64), stride_km, visible, D)  # [KEYS, D]
    v = load_rows(v_ptr, key.to(tl.int64), stride_vm, visible, D)  # [KEYS, D]
    place = row * n_parts + part
    attend_part(q, k, v, visible, scale, part_out_ptr, part_lse_ptr, place, exists, D)


@triton.jit
@no_type_check
def slot_block(block_idx_ptr, this_slot, n_blk, SLOTS: tl.constexpr):
    """The block in a slot, and whether it may be read: no earlier slot of the row names it."""
    slot = tl.arange(0, SLOTS)
    block = tl.load(block_idx_ptr + this_slot)
    earlier = tl.load(block_idx_ptr + slot, mask=slot < this_slot, other=-1)
    repeated = tl.max((earlier == block).to(tl.int32)) == 1
    return block, (block >= 0) & (block < n_blk) & (repeated == 0)


@triton.jit(do_not_specialize=["m", "h_kv", "group_size", "n_blk", "n_selected"])
@no_type_check
def attend_part_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    block_idx_ptr,
    part_out_ptr,
    part_lse_ptr,
    m,
    h_kv,
    group_size,
    n_blk,
    n_selected,
    scale,
    stride_kb,
    stride_km,
    stride_kh,
    stride_vb,
    stride_vm,
    stride_vh,
    BLOCK_SIZE: tl.constexpr,
    SLOTS: tl.constexpr,
    HEADS: tl.constexpr,
    SPLIT: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
):
    """Attention of the last position to KEYS keys of one slot."""
    part = tl.program_id(0)
    group, batch = group_and_batch(SPLIT)
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    this_slot = part // PARTS
    block_idx_ptr += (batch * h_kv + group) * n_selected
    block, readable = slot_block(block_idx_ptr, this_slot, n_blk, SLOTS)

    head = (tl.program_id(1) % SPLIT) * HEADS + tl.arange(0, HEADS)
    row = row_of(batch, 1, 0, h_kv, group, group_size, head)
    exists = head < group_size
    q = load_rows(q_ptr, row, D, exists, D)  # [HEADS, D]
    write_part(
        q, k_ptr, v_ptr, part_out_ptr, part_lse_ptr, batch, group, row, exists, block, readable,
        m, scale, stride_kb, stride_km, stride_kh, stride_vb, stride_vm, stride_vh,
        BLOCK_SIZE, KEYS, D,
    )  # fmt: skip


@triton.jit(do_not_specialize=["n_parts"])
@no_type_check
def merge_kernel(
    part_out_ptr,
    part_lse_ptr,
    out_ptr,
    lse_ptr,
    n_parts,
    MERGED: tl.constexpr,
    D: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Weighted mean of the parts of one query head; lse comes in base 2 and leaves in base e."""
    if OVERLAP == 1:
        cuda.gdc_launch_dependents()
    if OVERLAP > 0:  # begun before the parts were whole
        cuda.gdc_wait()
    if OVERLAP == 2:
        cuda.gdc_launch_dependents()
    row = tl.program_id(0).to(tl.int64)
    dim = tl.arange(0, D)
    top = tl.full((), float("-inf"), tl.float32)
    total = tl.full((), 0.0, tl.float32)
    acc, total, top = merge_parts(
        part_out_ptr + row * n_parts * D, part_lse_ptr + row * n_parts, top, total, n_parts, D,
        MERGED, D,
    )  # fmt: skip
    safe = tl.where(total > 0, total, 1.0)
    tl.store(out_ptr + row * D + dim, (acc / safe).to(out_ptr.dtype.element_ty))
    tl.store(lse_ptr + row, (top + tl.log2(safe)) * LN_2)


def new_parts(q: Tensor, n_parts: int) -> tuple[Tensor, Tensor]:
    """Memory for the parts of one query: outputs and log-sum-exps."""
    b, _, h_q, d = q.shape
    part_out = q.new_empty((b, h_q, n_parts, d), dtype=torch.float32)
    return part_out, q.new_empty((b, h_q, n_parts), dtype=torch.float32)


def merged(
    q: Tensor, part_out: Tensor, part_lse: Tensor, *, overlap: int = 0
) -> tuple[Tensor, Tensor]:
    """Launch: output [b, 1, h_q, d] and log-sum-exp [b, 1, h_q] of whole parts.

    Args:
        overlap: begin while the launch before this one ends; see `decode_step`.
    """
    b, _, h_q, d = q.shape
    out, lse = torch.empty_like(q), q.new_empty((b, 1, h_q), dtype=torch.float32)
    merge_kernel[(b * h_q,)](
        part_out, part_lse, out, lse, part_lse.shape[-1], MERGED=MERGED, D=d, OVERLAP=overlap,
        num_warps=4, launch_pdl=overlap > 0,
    )  # fmt: skip
    return out, lse


def decode_tiles(group: int, block_size: int, itemsize: int) -> Iterator[Tile]:
    """Tiles for groups of so many heads, from the one timed on an H100 to the smallest."""
    heads = max(triton.next_power_of_2(group), 16)
    keys = min(block_size, 64 if itemsize == 2 else 32)
    split = 1
    while True:
        yield Tile(queries=1, heads=heads, split=split, keys=keys, num_warps=4, num_stages=3)
        if heads > 16 and heads >= keys:
            heads, split = heads // 2, split * 2
        elif keys > 16:
            keys //= 2
        else:
            return


def decode_bytes(tile: Tile, d: int, itemsize: int) -> int:
    """Bound on the shared memory of `attend_part_kernel`."""
    operands, result = itemsize * d * (tile.heads + 2 * tile.keys), 4 * d * tile.heads
    return max(operands, result) + SPARE_BYTES


def attend_one(
    q: Tensor, k: Tensor, v: Tensor, block_idx: Tensor, block_size: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Launch for n = 1: output [b, 1, h_q, d] and log-sum-exp [b, 1, h_q]."""
    (b, _, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    n_selected = block_idx.shape[-1]
    tile = first_fit(decode_tiles, decode_bytes, card(), q.dtype, h_q // h_kv, block_size, d)
    n_parts = n_selected * (block_size // tile.keys)
    part_out, part_lse = new_parts(q, n_parts)
    attend_part_kernel[(n_parts, h_kv * tile.split, b)](
        q, k, v, block_idx, part_out, part_lse,
        m, h_kv, h_q // h_kv, triton.cdiv(m, block_size), n_selected, scale * LOG2_E.value,
        *k.stride()[:3], *v.stride()[:3],
        BLOCK_SIZE=block_size, SLOTS=triton.next_power_of_2(n_selected),
        HEADS=tile.heads, SPLIT=tile.split, KEYS=tile.keys, D=d,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
    return merged(q, part_out, part_lse)
