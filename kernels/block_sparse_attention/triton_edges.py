"""dk and dv from the queries that chose a block, two at a time, instead of from tiles of queries.

Tiles multiply by every block of their union; here each query meets only blocks that it chose.
"""

from dataclasses import dataclass
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import limits
from ..addressing import group_and_batch, row_of
from ..plans import WIDEST_GROUP, on_hopper
from .triton_forward import LOG2_E
from .triton_tiles import Stretches, distinct_ids, keys_of_part, stretches, write_shares

HEADS = 16  # of one product


@dataclass(frozen=True, kw_only=True)
class EdgeTile:
    """How `dkv_edges_kernel` cuts its work."""

    queries: int = 2  # of one product
    keys: int = 64  # of one product, a block or a part of it
    num_warps: int = 4
    num_stages: int = 2  # in which queries are loaded ahead; from 3 on their ids as well
    together: bool = False  # whether both first products come before what is made of them


TILE = EdgeTile()


@triton.jit(do_not_specialize=["n", "m", "h_kv", "group_size", "n_selected", "n_blk"])
@no_type_check
def dkv_edges_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    lse_ptr,
    dout_ptr,
    delta_ptr,
    dk_ptr,
    dv_ptr,
    entry_ptr,
    block_ptr,
    bounds_ptr,
    n,
    m,
    h_kv,
    group_size,
    n_selected,
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
    KEYS: tl.constexpr,
    D: tl.constexpr,
    TOGETHER: tl.constexpr,
):
    """As `dkv_part_kernel`, but an entry is a slot of one query: entry // n_selected."""
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
    entry_ptr += lists * n * n_selected
    begin = tl.load(bounds_ptr + stretch * 2).to(tl.int32)
    end = tl.load(bounds_ptr + stretch * 2 + 1).to(tl.int32)
    local = tl.arange(0, QUERIES * HEADS)
    head = local % HEADS
    dk = tl.zeros((KEYS, D), tl.float32)
    dv = tl.zeros((KEYS, D), tl.float32)
    for place in range(begin, end, QUERIES):
        mine = place + local // HEADS
        exists = (mine < end) & (head < group_size)
        query = tl.load(entry_ptr + mine, mask=mine < end, other=0) // n_selected
        row = row_of(batch, n, query, h_kv, group, group_size, head)
        offset = row[:, None] * D + tl.arange(0, D)  # shared by q and the output's gradient
        q = tl.load(q_ptr + offset, mask=exists[:, None], other=0.0)  # [ROWS, D]
        dout = tl.load(dout_ptr + offset, mask=exists[:, None], other=0.0)  # [ROWS, D]
        lse = tl.load(lse_ptr + row, mask=exists, other=float("inf")) * LOG2_E
        delta = tl.load(delta_ptr + row, mask=exists, other=0.0)
        s = tl.dot(k, tl.trans(q), input_precision="ieee")  # [KEYS, ROWS]
        if TOGETHER:
            dp = tl.dot(v, tl.trans(dout), input_precision="ieee")
        p = tl.exp2(s * (scale * LOG2_E) - lse[None, :])
        position = m - n + query
        p = tl.where(key[:, None] <= position[None, :], p, 0.0)
        dv = tl.dot(p.to(dout.dtype), dout, dv, input_precision="ieee")
        if not TOGETHER:
            dp = tl.dot(v, tl.trans(dout), input_precision="ieee")
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    write_shares(dk_ptr, dv_ptr, dk, dv, stretch, part, BLOCK_SIZE, KEYS, D)


def edges_serve(arch: int, q: Tensor, k: Tensor, block_size: int) -> bool:
    """Whether `dkv_edges_kernel` is tried here: it was timed on an H100 in half precision."""
    group = q.shape[2] // k.shape[2]
    return on_hopper(arch, q.dtype) and group <= WIDEST_GROUP and block_size >= TILE.keys


def write_edges(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    dout: Tensor,
    delta: Tensor,
    block_idx: Tensor,
    block_size: int,
    scale: float,
) -> tuple[Tensor, Tensor, Stretches]:
    """Launch: the shares of dk / scale and dv of every stretch, and the stretches."""
    (b, n, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    n_blk = triton.cdiv(m, block_size)
    listed = distinct_ids(block_idx, m, block_size).transpose(1, 2).flatten(0, 1).flatten(1)
    lists = stretches(listed, n_blk, limits.EDGE_STRETCH)
    n_stretches = lists.block.shape[-1]
    dk_part, dv_part = q.new_empty((2, b * h_kv, n_stretches, block_size, d), dtype=torch.float32)
    dkv_edges_kernel[(n_stretches * (block_size // TILE.keys), h_kv, b)](
        q, k, v, lse, dout, delta, dk_part, dv_part, lists.entry.int(), lists.block, lists.bounds,
        n, m, h_kv, h_q // h_kv, block_idx.shape[-1], n_blk, scale,
        *k.stride()[:3], *v.stride()[:3],
        BLOCK_SIZE=block_size, QUERIES=TILE.queries, HEADS=HEADS, KEYS=TILE.keys, D=d,
        TOGETHER=TILE.together, num_warps=TILE.num_warps, num_stages=TILE.num_stages,
    )  # fmt: skip
    return dk_part, dv_part, lists
