"""Forward pass block by block, for selections that neighbouring queries hardly share.

A program takes one block and the queries that chose it, 64 rows at a time, so that no row is
multiplied by a block it did not choose. Each query's parts wait in memory, one a slot, until a
second kernel merges them by their log-sum-exps; queries go in chunks whose parts fit
`limits.PART_BYTES`.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from .. import limits
from ..addressing import group_and_batch, head_start, load_rows, row_of, vectors
from ..shared_memory import SPARE_BYTES, card
from .triton_forward import LN_2, LOG2_E
from .triton_tiles import distinct_ids, stretches

ROWS = 64  # queries times heads of one product

SIZES = ["n", "h_kv", "group_size", "n_selected", "n_blk", "chunk", "chunk_queries"]


@triton.jit(do_not_specialize=[*SIZES, "m", "chunks"])
@no_type_check
def attend_block_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    part_out_ptr,
    part_lse_ptr,
    entry_ptr,
    block_ptr,
    bounds_ptr,
    n,
    m,
    h_kv,
    group_size,
    n_selected,
    n_blk,
    chunk,
    chunks,
    chunk_queries,
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
    D: tl.constexpr,
):
    """Attention of the queries of one stretch to its block.

    The parts are [b, h_kv, chunk_queries, n_selected, group_size, D].
    """
    group, batch = group_and_batch(1)
    lists = (batch * h_kv + group) * chunks + chunk
    stretch = lists * tl.num_programs(0) + tl.program_id(0)
    block = tl.load(block_ptr + stretch).to(tl.int32)
    if block == n_blk:  # past the last stretch
        return
    begin = tl.load(bounds_ptr + stretch * 2).to(tl.int32)
    end = tl.load(bounds_ptr + stretch * 2 + 1).to(tl.int32)
    key = block * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    k_ptr = head_start(k_ptr, batch, group, stride_kb, stride_kh)
    v_ptr = head_start(v_ptr, batch, group, stride_vb, stride_vh)
    k = load_rows(k_ptr, key.to(tl.int64), stride_km, key < m, D)  # [BLOCK_SIZE, D]
    v = load_rows(v_ptr, key.to(tl.int64), stride_vm, key < m, D)  # [BLOCK_SIZE, D]
    entry_ptr += lists * chunk_queries * n_selected
    local = tl.arange(0, QUERIES * HEADS)
    head = local % HEADS
    for place in range(begin, end, QUERIES):
        mine = place + local // HEADS
        there = mine < end
        entry = tl.load(entry_ptr + mine, mask=there, other=0)
        query = chunk * chunk_queries + entry // n_selected
        exists = there & (head < group_size)
        row = row_of(batch, n, query, h_kv, group, group_size, head)
        q = load_rows(q_ptr, row, D, exists, D)  # [ROWS, D]
        s = tl.dot(q, tl.trans(k), input_precision="ieee")  # [ROWS, BLOCK_SIZE]
        position = m - n + query
        s = tl.where(key[None, :] <= position[:, None], s, float("-inf"))
        top = tl.max(s, axis=1) * scale
        p = tl.exp2(s * scale - top[:, None])
        total = tl.sum(p, axis=1)
        out = tl.dot(p.to(v.dtype), v, input_precision="ieee") / total[:, None]  # [ROWS, D]
        part = ((batch * h_kv + group) * chunk_queries * n_selected + entry) * group_size + head
        out = out.to(part_out_ptr.dtype.element_ty)
        tl.store(vectors(part_out_ptr, part, D, D), out, mask=exists[:, None])
        tl.store(part_lse_ptr + part, top + tl.log2(total), mask=exists)


@triton.jit(do_not_specialize=SIZES)
@no_type_check
def merge_slots_kernel(
    part_out_ptr,
    part_lse_ptr,
    ids_ptr,
    out_ptr,
    lse_ptr,
    n,
    h_kv,
    group_size,
    n_selected,
    n_blk,
    chunk,
    chunk_queries,
    HEADS: tl.constexpr,
    D: tl.constexpr,
):
    """Weighted mean of one query's slots, all heads of a group at once; lse leaves in base e."""
    group, batch = group_and_batch(1)
    within = tl.program_id(0)
    query = chunk * chunk_queries + within
    if query >= n:
        return
    head = tl.arange(0, HEADS)
    exists = head < group_size
    ids_ptr += ((batch * n + query) * h_kv + group) * n_selected
    base = ((batch * h_kv + group) * chunk_queries + within) * n_selected
    top = tl.full((HEADS,), float("-inf"), tl.float32)
    total = tl.zeros((HEADS,), tl.float32)
    acc = tl.zeros((HEADS, D), tl.float32)
    for slot in tl.range(0, n_selected, num_stages=4):
        valid = exists & (tl.load(ids_ptr + slot) < n_blk)
        part = (base + slot) * group_size + head
        lse = tl.load(part_lse_ptr + part, mask=valid, other=float("-inf"))
        o = load_rows(part_out_ptr, part, D, valid, D)  # [HEADS, D]
        new_top = tl.maximum(top, lse)
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp2(lse - shift)
        decay = tl.exp2(top - shift)
        total = total * decay + weight
        acc = acc * decay[:, None] + weight[:, None] * o.to(tl.float32)
        top = new_top
    safe = tl.where(total > 0, total, 1.0)
    row = row_of(batch, n, query, h_kv, group, group_size, head)
    out = (acc / safe[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(vectors(out_ptr, row, D, D), out, mask=exists[:, None])
    tl.store(lse_ptr + row, (top + tl.log2(safe)) * LN_2, mask=exists)


def scattered_serves(q: Tensor, k: Tensor, block_size: int, scale: float) -> bool:
    """Whether the kernels here take these sizes on this card."""
    d, group = q.shape[3], q.shape[2] // k.shape[2]
    taken = 2 * d * (2 * block_size + 2 * ROWS) + 2 * ROWS * block_size + SPARE_BYTES
    half = q.dtype in (torch.float16, torch.bfloat16)
    return half and card().arch >= 80 and group <= ROWS and scale > 0 and taken <= card().shared


def attend_scattered(
    q: Tensor, k: Tensor, v: Tensor, block_idx: Tensor, block_size: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Launch: as `triton_forward.attend`."""
    (b, n, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    n_selected, group, n_blk = block_idx.shape[-1], h_q // h_kv, triton.cdiv(m, block_size)
    query_bytes = b * h_q * n_selected * d * q.element_size()
    chunk_queries = max(min(limits.PART_BYTES // query_bytes, n), 1)
    chunks = triton.cdiv(n, chunk_queries)
    ids = distinct_ids(block_idx, m, block_size)
    padded = F.pad(ids, (0, 0, 0, 0, 0, chunks * chunk_queries - n), value=n_blk)
    listed = padded.unflatten(1, (chunks, chunk_queries)).permute(0, 3, 1, 2, 4)
    listed = listed.reshape(b * h_kv * chunks, chunk_queries * n_selected)
    lists = stretches(listed, n_blk, limits.SCATTER_STRETCH)
    entry, n_stretches = lists.entry.int(), lists.block.shape[-1]
    out, lse = torch.empty_like(q), q.new_empty((b, n, h_q), dtype=torch.float32)
    part_out = q.new_empty((b, h_kv, chunk_queries, n_selected, group, d))
    part_lse = part_out.new_empty(part_out.shape[:-1], dtype=torch.float32)
    heads = max(triton.next_power_of_2(group), 16)
    for chunk in range(chunks):
        attend_block_kernel[(n_stretches, h_kv, b)](
            q, k, v, part_out, part_lse, entry, lists.block, lists.bounds,
            n, m, h_kv, group, n_selected, n_blk, chunk, chunks, chunk_queries,
            scale * LOG2_E.value, *k.stride()[:3], *v.stride()[:3],
            BLOCK_SIZE=block_size, QUERIES=ROWS // heads, HEADS=heads, D=d,
            num_warps=4, num_stages=2,
        )  # fmt: skip
        merge_slots_kernel[(chunk_queries, h_kv, b)](
            part_out, part_lse, ids, out, lse,
            n, h_kv, group, n_selected, n_blk, chunk, chunk_queries, HEADS=heads, D=d, num_warps=4,
        )  # fmt: skip
    return out, lse
