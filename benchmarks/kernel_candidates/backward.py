import triton
import triton.language as tl

from intuitive.kernels.addressing import (
    group_and_batch,
    head_start,
    load_rows,
    row_of,
    tile_rows,
    vectors,
)

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _identity(x, D: tl.constexpr):
    lane = tl.arange(0, D)
    eye = (lane[:, None] == lane[None, :]).to(x.dtype)
    return tl.dot(x, eye).to(x.dtype)


@triton.jit(do_not_specialize=["n", "m", "h_kv", "group_size", "capacity"])
def dq_kernel(
    q_ptr,
    k_src,
    v_src,
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
    QREG: tl.constexpr,
    TMA: tl.constexpr,
):
    tile = tl.program_id(0)
    group, batch = group_and_batch(SPLIT)
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    local_query, query, position, head, exists = tile_rows(
        tile, m, n, group_size, tl.program_id(1) % SPLIT, QUERIES, HEADS
    )
    row = row_of(batch, n, query, h_kv, group, group_size, head)
    offset = row[:, None] * D + tl.arange(0, D)
    q = tl.load(q_ptr + offset, mask=exists[:, None], other=0.0)
    dout = tl.load(dout_ptr + offset, mask=exists[:, None], other=0.0)
    out = tl.load(out_ptr + offset, mask=exists[:, None], other=0.0)
    lse = tl.load(lse_ptr + row, mask=exists, other=0.0) * LOG2_E
    dlse = tl.load(dlse_ptr + row, mask=exists, other=0.0)
    delta = tl.sum(dout.to(tl.float32) * out.to(tl.float32), axis=1) - dlse
    tl.store(delta_ptr + row, delta, mask=exists)
    if QREG:
        q = _identity(q, D)
        dout = _identity(dout, D)
    list_id = (batch * h_kv + group) * tl.num_programs(0) + tile
    blocks_ptr += list_id * capacity
    members_ptr += list_id * capacity
    n_all = tl.load(ends_ptr + list_id * 2 + 1)
    if not TMA:
        k_src = head_start(k_src, batch, group, stride_kb, stride_kh)
        v_src = head_start(v_src, batch, group, stride_vb, stride_vh)
    b32, g32 = batch.to(tl.int32), group.to(tl.int32)
    dq = tl.zeros((QUERIES * HEADS, D), tl.float32)
    for step in range(0, n_all * PARTS):
        block = tl.load(blocks_ptr + step // PARTS)
        members = tl.load(members_ptr + step // PARTS)
        first_key = block * BLOCK_SIZE + (step % PARTS) * KEYS
        key = first_key + tl.arange(0, KEYS)
        if TMA:
            k = k_src.load([b32, first_key, g32, 0]).reshape(KEYS, D)
            v = v_src.load([b32, first_key, g32, 0]).reshape(KEYS, D)
        else:
            k = load_rows(k_src, key.to(tl.int64), stride_km, key < m, D)
            v = load_rows(v_src, key.to(tl.int64), stride_vm, key < m, D)
        reads = ((members >> local_query) & 1) == 1
        last = tl.where(reads, position, -1)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        p = tl.exp2(s * (scale * LOG2_E) - lse[:, None])
        p = tl.where(key[None, :] <= last[:, None], p, 0.0)
        dp = tl.dot(dout, tl.trans(v), input_precision="ieee")
        ds = p * (dp - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")
    tl.store(dq_ptr + offset, (dq * scale).to(dq_ptr.dtype.element_ty), mask=exists[:, None])


@triton.jit(do_not_specialize=["n", "m", "h_kv", "group_size", "n_selected", "n_blk"])
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
    KREG: tl.constexpr,
):
    """As dkv_part_kernel, but each entry is one query that chose the block: entry // n_selected."""
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    ROWS: tl.constexpr = QUERIES * HEADS
    stretch, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    group, batch = group_and_batch(1)
    lists = batch * h_kv + group
    stretch += lists * (tl.num_programs(0) // PARTS)
    block = tl.load(block_ptr + stretch)
    if block == n_blk:
        return
    first_key = block * BLOCK_SIZE + part * KEYS
    key = first_key + tl.arange(0, KEYS)
    k_ptr = head_start(k_ptr, batch, group, stride_kb, stride_kh)
    v_ptr = head_start(v_ptr, batch, group, stride_vb, stride_vh)
    k = load_rows(k_ptr, key.to(tl.int64), stride_km, key < m, D)
    v = load_rows(v_ptr, key.to(tl.int64), stride_vm, key < m, D)
    if KREG:
        k = _identity(k, D)
        v = _identity(v, D)
    entry_ptr += lists * n * n_selected
    begin, end = tl.load(bounds_ptr + stretch * 2), tl.load(bounds_ptr + stretch * 2 + 1)
    begin, end = begin.to(tl.int32), end.to(tl.int32)
    local = tl.arange(0, ROWS)
    head = local % HEADS
    dk = tl.zeros((KEYS, D), tl.float32)
    dv = tl.zeros((KEYS, D), tl.float32)
    for place in range(begin, end, QUERIES):
        mine = place + local // HEADS
        exists = (mine < end) & (head < group_size)
        query = tl.load(entry_ptr + mine, mask=mine < end, other=0)
        row = row_of(batch, n, query, h_kv, group, group_size, head)
        offset = row[:, None] * D + tl.arange(0, D)
        q = tl.load(q_ptr + offset, mask=exists[:, None], other=0.0)
        dout = tl.load(dout_ptr + offset, mask=exists[:, None], other=0.0)
        lse = tl.load(lse_ptr + row, mask=exists, other=float("inf")) * LOG2_E
        delta = tl.load(delta_ptr + row, mask=exists, other=0.0)
        s = tl.dot(k, tl.trans(q), input_precision="ieee")
        p = tl.exp2(s * (scale * LOG2_E) - lse[None, :])
        position = m - n + query
        p = tl.where(key[:, None] <= position[None, :], p, 0.0)
        dv = tl.dot(p.to(dout.dtype), dout, dv, input_precision="ieee")
        dp = tl.dot(v, tl.trans(dout), input_precision="ieee")
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    row = stretch * BLOCK_SIZE + part * KEYS + tl.arange(0, KEYS)
    tl.store(vectors(dk_ptr, row, D, D), dk)
    tl.store(vectors(dv_ptr, row, D, D), dv)
