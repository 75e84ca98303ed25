"""Backward pass: dq along each tile's block list, dk and dv along the inverted lists.

Probabilities are recomputed from the log-sum-exp. Every sum is made by one program in a fixed
order, in float32, so gradients are the same on every run and need no atomics.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..addressing import (
    group_and_batch,
    head_start,
    load_rows,
    row_of,
    tile_rows,
    vectors,
)
from ..shared_memory import SPARE_BYTES, card, first_fit
from .triton_edges import edges_serve, write_edges
from .triton_forward import LOG2_E
from .triton_tiles import (
    Tile,
    attention_tiles,
    invert,
    keys_of_part,
    list_blocks,
    write_shares,
)


@triton.jit(do_not_specialize=["n", "m", "h_kv", "group_size", "capacity"])
@no_type_check
def dq_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    dout_ptr,
    dlse_ptr,
    dq_ptr,
    delta_ptr,
    blocks_ptr,
    members_ptr,
    ends_ptr,
    n,
    m,
    h_kv,
    group_size,
    capacity,
    scale,
    stride_kb,
    stride_km,
    stride_kh,
    stride_vb,
    stride_vm,
    stride_vh,
    BLOCK_SIZE: tl.constexpr,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    SPLIT: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
):
    """dq of one tile and group, and delta = rowsum(dout * out) - dlse for `dkv_part_kernel`."""
    tile = tl.program_id(0)
    group, batch = group_and_batch(SPLIT)
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    local_query, query, position, head, exists = tile_rows(
        tile, m, n, group_size, tl.program_id(1) % SPLIT, QUERIES, HEADS
    )
    row = row_of(batch, n, query, h_kv, group, group_size, head)
    offset = row[:, None] * D + tl.arange(0, D)  # shared by q, out and their gradients
    q = tl.load(q_ptr + offset, mask=exists[:, None], other=0.0)  # [ROWS, D]
    dout = tl.load(dout_ptr + offset, mask=exists[:, None], other=0.0)  # [ROWS, D]
    out = tl.load(out_ptr + offset, mask=exists[:, None], other=0.0)  # [ROWS, D]
    lse = tl.load(lse_ptr + row, mask=exists, other=0.0) * LOG2_E
    dlse = tl.load(dlse_ptr + row, mask=exists, other=0.0)
    delta = tl.sum(dout.to(tl.float32) * out.to(tl.float32), axis=1) - dlse
    tl.store(delta_ptr + row, delta, mask=exists)

    list_id = (batch * h_kv + group) * tl.num_programs(0) + tile
    blocks_ptr += list_id * capacity
    members_ptr += list_id * capacity
    n_all = tl.load(ends_ptr + list_id * 2 + 1)
    k_ptr = head_start(k_ptr, batch, group, stride_kb, stride_kh)
    v_ptr = head_start(v_ptr, batch, group, stride_vb, stride_vh)
    dq = tl.zeros((QUERIES * HEADS, D), tl.float32)
    for step in range(0, n_all * PARTS):
        block = tl.load(blocks_ptr + step // PARTS)
        members = tl.load(members_ptr + step // PARTS)
        key = block * BLOCK_SIZE + (step % PARTS) * KEYS + tl.arange(0, KEYS)
        k = load_rows(k_ptr, key.to(tl.int64), stride_km, key < m, D)  # [KEYS, D]
        v = load_rows(v_ptr, key.to(tl.int64), stride_vm, key < m, D)  # [KEYS, D]
        reads = ((members >> local_query) & 1) == 1
        reads = reads[:, None] & (key[None, :] <= position[:, None])
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2_E)  # [ROWS, KEYS]
        p = tl.where(reads, tl.exp2(s - lse[:, None]), 0.0)
        dp = tl.dot(dout, tl.trans(v), input_precision="ieee")
        ds = p * (dp - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")
    tl.store(dq_ptr + offset, (dq * scale).to(dq_ptr.dtype.element_ty), mask=exists[:, None])


@triton.jit(do_not_specialize=["n", "m", "h_kv", "group_size", "capacity", "n_tiles", "n_blk"])
@no_type_check
def dkv_part_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    lse_ptr,
    dout_ptr,
    delta_ptr,
    dk_ptr,
    dv_ptr,
    members_ptr,
    entry_ptr,
    block_ptr,
    bounds_ptr,
    n,
    m,
    h_kv,
    group_size,
    capacity,
    n_tiles,
    n_blk,
    scale,
    stride_kb,
    stride_km,
    stride_kh,
    stride_vb,
    stride_vm,
    stride_vh,
    BLOCK_SIZE: tl.constexpr,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    SPLIT: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
):
    """Share of dk / scale and dv of KEYS keys that comes from one stretch of their block's tiles.

    dk and dv are float32 [b * h_kv, stretches, BLOCK_SIZE, D].
    """
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    stretch, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    group, batch = group_and_batch(1)
    lists = batch * h_kv + group
    stretch += lists * (tl.num_programs(0) // PARTS)
    block = tl.load(block_ptr + stretch)
    if block == n_blk:  # past the last stretch
        return
    key, k, v = keys_of_part(
        k_ptr, v_ptr, batch, group, block, part, m,
        stride_kb, stride_km, stride_kh, stride_vb, stride_vm, stride_vh, BLOCK_SIZE, KEYS, D,
    )  # fmt: skip

    entry_ptr += lists * n_tiles * capacity
    members_ptr += lists * n_tiles * capacity
    begin, end = tl.load(bounds_ptr + stretch * 2), tl.load(bounds_ptr + stretch * 2 + 1)
    dk = tl.zeros((KEYS, D), tl.float32)
    dv = tl.zeros((KEYS, D), tl.float32)
    for place in range(begin * SPLIT, end * SPLIT):
        entry = tl.load(entry_ptr + place // SPLIT)
        members = tl.load(members_ptr + entry)
        local_query, query, position, head, exists = tile_rows(
            entry // capacity, m, n, group_size, place % SPLIT, QUERIES, HEADS
        )
        row = row_of(batch, n, query, h_kv, group, group_size, head)
        offset = row[:, None] * D + tl.arange(0, D)  # shared by q, out and their gradients
        q = tl.load(q_ptr + offset, mask=exists[:, None], other=0.0)  # [ROWS, D]
        dout = tl.load(dout_ptr + offset, mask=exists[:, None], other=0.0)  # [ROWS, D]
        lse = tl.load(lse_ptr + row, mask=exists, other=0.0) * LOG2_E
        delta = tl.load(delta_ptr + row, mask=exists, other=0.0)
        reads = ((members >> local_query) & 1) == 1
        reads = reads[None, :] & (key[:, None] <= position[None, :])
        s = tl.dot(k, tl.trans(q), input_precision="ieee") * (scale * LOG2_E)  # [KEYS, ROWS]
        p = tl.where(reads, tl.exp2(s - lse[None, :]), 0.0)
        dv = tl.dot(p.to(dout.dtype), dout, dv, input_precision="ieee")
        dp = tl.dot(v, tl.trans(dout), input_precision="ieee")
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    write_shares(dk_ptr, dv_ptr, dk, dv, stretch, part, BLOCK_SIZE, KEYS, D)


@triton.jit(do_not_specialize=["m", "h_kv", "n_blk", "n_stretches"])
@no_type_check
def dkv_sum_kernel(
    dk_part_ptr,
    dv_part_ptr,
    first_ptr,
    dk_ptr,
    dv_ptr,
    m,
    h_kv,
    n_blk,
    n_stretches,
    scale,
    BLOCK_SIZE: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
):
    """Add the stretches of KEYS keys in order; keys that nobody reads get zeros."""
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    block, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    group, batch = group_and_batch(1)
    lists = batch * h_kv + group
    first_ptr += lists * (n_blk + 1) + block
    within = part * KEYS + tl.arange(0, KEYS)
    dk = tl.zeros((KEYS, D), tl.float32)
    dv = tl.zeros((KEYS, D), tl.float32)
    for stretch in range(tl.load(first_ptr), tl.load(first_ptr + 1)):
        row = (lists * n_stretches + stretch) * BLOCK_SIZE + within
        dk += tl.load(vectors(dk_part_ptr, row, D, D))
        dv += tl.load(vectors(dv_part_ptr, row, D, D))
    key = block * BLOCK_SIZE + within
    offset = row_of(batch, m, key, h_kv, group, 1, 0)[:, None] * D + tl.arange(0, D)
    tl.store(dk_ptr + offset, (dk * scale).to(dk_ptr.dtype.element_ty), mask=(key < m)[:, None])
    tl.store(dv_ptr + offset, dv.to(dv_ptr.dtype.element_ty), mask=(key < m)[:, None])


def backward_bytes(tile: Tile, d: int, itemsize: int) -> int:
    """Bound on the shared memory of `dq_kernel` and `dkv_part_kernel`, which walk one list."""
    rows, keys = tile.rows, tile.keys
    if itemsize == 4:
        return 8 * d * (rows + keys) + 4 * rows * keys + SPARE_BYTES
    return 4 * d * (rows + keys + max(rows, keys)) + 8 * rows + SPARE_BYTES


def attend_backward(
    dout: Tensor,
    dlse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    block_idx: Tensor,
    block_size: int,
    scale: float,
    plan: str = "general",
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch: contiguous dq, dk, dv; all inputs but k and v are contiguous."""
    (b, n, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    group, n_blk = h_q // h_kv, triton.cdiv(m, block_size)
    dq, delta = torch.empty_like(q), torch.empty_like(lse)
    dk, dv = (x.new_empty(x.shape) for x in (k, v))
    strides = (*k.stride()[:3], *v.stride()[:3])

    tile = first_fit(attention_tiles, backward_bytes, card(), q.dtype, group, block_size, d)
    lists = list_blocks(block_idx, m, block_size, tile.queries)
    n_tiles = lists.blocks.shape[2]
    dq_kernel[(n_tiles, h_kv * tile.split, b)](
        q, k, v, out, lse, dout, dlse, dq, delta, lists.blocks, lists.members, lists.ends,
        n, m, h_kv, group, lists.capacity, scale, *strides,
        BLOCK_SIZE=block_size, QUERIES=tile.queries, HEADS=tile.heads, SPLIT=tile.split,
        KEYS=tile.keys, D=d, num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip

    if plan == "hopper" and edges_serve(card().arch, q, k, block_size):
        dk_part, dv_part, inverse = write_edges(
            q, k, v, lse, dout, delta, block_idx, block_size, scale
        )
        n_stretches = inverse.block.shape[-1]
    else:
        inverse = invert(lists, n_blk)
        n_stretches = inverse.block.shape[-1]
        shape = (2, b * h_kv, n_stretches, block_size, d)
        dk_part, dv_part = q.new_empty(shape, dtype=torch.float32)
        dkv_part_kernel[(n_stretches * (block_size // tile.keys), h_kv, b)](
            q, k, v, lse, dout, delta, dk_part, dv_part, lists.members,
            inverse.entry, inverse.block, inverse.bounds,
            n, m, h_kv, group, lists.capacity, n_tiles, n_blk, scale, *strides,
            BLOCK_SIZE=block_size, QUERIES=tile.queries, HEADS=tile.heads, SPLIT=tile.split,
            KEYS=tile.keys, D=d, num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
    dkv_sum_kernel[(n_blk * (block_size // 16), h_kv, b)](
        dk_part, dv_part, inverse.first, dk, dv, m, h_kv, n_blk, n_stretches, scale,
        BLOCK_SIZE=block_size, KEYS=16, D=d, num_warps=4,
    )  # fmt: skip
    return dq, dk, dv
