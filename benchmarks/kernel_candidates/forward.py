"""prototype forward"""

import triton
import triton.language as tl

from intuitive.kernels.addressing import (
    group_and_batch,
    head_start,
    load_keys,
    load_rows,
    row_of,
    tile_rows,
    vectors,
)

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _step(
    q,
    top,
    total,
    acc,
    step,
    blocks_ptr,
    members_ptr,
    k_src,
    v_src,
    stride_km,
    stride_vm,
    batch,
    group,
    query,
    position,
    m,
    scale,
    BLOCK_SIZE: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    FULL: tl.constexpr,
    TMA: tl.constexpr,
):
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    block = tl.load(blocks_ptr + step // PARTS)
    members = tl.load(members_ptr + step // PARTS)
    first_key = block * BLOCK_SIZE + (step % PARTS) * KEYS
    if TMA:
        k = k_src.load([batch, first_key, group, 0]).reshape(KEYS, D)
        v = v_src.load([batch, first_key, group, 0]).reshape(KEYS, D)
    else:
        k = load_keys(k_src, first_key, m, stride_km, KEYS, D, FULL)
        v = load_keys(v_src, first_key, m, stride_vm, KEYS, D, FULL)
    reads = ((members >> query) & 1) == 1
    s = tl.dot(q, tl.trans(k), input_precision="ieee")
    if not FULL:
        key = first_key + tl.arange(0, KEYS)
        s = tl.where(key[None, :] <= position[:, None], s, float("-inf"))
    new_top = tl.maximum(top, tl.where(reads, tl.max(s, axis=1) * scale, float("-inf")))
    shift = tl.where(new_top == float("-inf"), 0.0, new_top)
    decay = tl.exp2(top - shift)
    shift = tl.where(reads, shift, float("inf"))
    p = tl.exp2(s * scale - shift[:, None])
    total = total * decay + tl.sum(p, axis=1)
    acc = tl.dot(p.to(v.dtype), v, acc * decay[:, None], input_precision="ieee")
    return new_top, total, acc


@triton.jit(do_not_specialize=["n", "m", "h_kv", "group_size", "capacity"])
def attend_kernel(
    q_ptr,
    k_src,
    v_src,
    out_ptr,
    lse_ptr,
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
    QREG: tl.constexpr,
    TMA: tl.constexpr,
    ONE: tl.constexpr,
):
    tile = tl.program_id(0)
    group, batch = group_and_batch(SPLIT)
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    local_query, query, position, head, exists = tile_rows(
        tile, m, n, group_size, tl.program_id(1) % SPLIT, QUERIES, HEADS
    )
    row = row_of(batch, n, query, h_kv, group, group_size, head)
    q = load_rows(q_ptr, row, D, exists, D)
    if QREG:
        lane = tl.arange(0, D)
        eye = (lane[:, None] == lane[None, :]).to(q.dtype)
        q = tl.dot(q, eye).to(q.dtype)
    list_id = (batch * h_kv + group) * tl.num_programs(0) + tile
    blocks_ptr += list_id * capacity
    members_ptr += list_id * capacity
    n_full = tl.load(ends_ptr + list_id * 2)
    if ONE:
        n_full = 0
    n_all = tl.load(ends_ptr + list_id * 2 + 1)
    if not TMA:
        k_src = head_start(k_src, batch, group, stride_kb, stride_kh)
        v_src = head_start(v_src, batch, group, stride_vb, stride_vh)
    batch32, group32 = batch.to(tl.int32), group.to(tl.int32)
    top = tl.full((QUERIES * HEADS,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES * HEADS,), tl.float32)
    acc = tl.zeros((QUERIES * HEADS, D), tl.float32)
    for step in range(0, n_full * PARTS):
        top, total, acc = _step(
            q,
            top,
            total,
            acc,
            step,
            blocks_ptr,
            members_ptr,
            k_src,
            v_src,
            stride_km,
            stride_vm,
            batch32,
            group32,
            local_query,
            position,
            m,
            scale,
            BLOCK_SIZE,
            KEYS,
            D,
            True,
            TMA,
        )
    for step in range(n_full * PARTS, n_all * PARTS):
        top, total, acc = _step(
            q,
            top,
            total,
            acc,
            step,
            blocks_ptr,
            members_ptr,
            k_src,
            v_src,
            stride_km,
            stride_vm,
            batch32,
            group32,
            local_query,
            position,
            m,
            scale,
            BLOCK_SIZE,
            KEYS,
            D,
            False,
            TMA,
        )
    out = acc / tl.where(total > 0, total, 1.0)[:, None]
    lse = (top + tl.log2(tl.where(total > 0, total, 1.0))) * LN_2
    out_ptrs = vectors(out_ptr, row, D, D)
    tl.store(out_ptrs, out.to(out_ptr.dtype.element_ty), mask=exists[:, None])
    tl.store(lse_ptr + row, lse, mask=exists)
