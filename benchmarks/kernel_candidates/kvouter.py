import torch
import triton
import triton.language as tl
from torch.nn import functional as F

from intuitive.kernels.addressing import group_and_batch, head_start, load_rows, row_of, vectors

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit(
    do_not_specialize=[
        "n",
        "m",
        "h_kv",
        "group_size",
        "n_selected",
        "n_blk",
        "chunk",
        "chunks",
        "chunk_queries",
    ]
)
def kv_outer_kernel(
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

    The parts are [b, h_kv, chunk_queries, slot, heads, D].
    """
    ROWS: tl.constexpr = QUERIES * HEADS
    group, batch = group_and_batch(1)
    lists = (batch * h_kv + group) * chunks + chunk
    stretch = lists * tl.num_programs(0) + tl.program_id(0)
    block = tl.load(block_ptr + stretch).to(tl.int32)
    if block == n_blk:
        return
    begin = tl.load(bounds_ptr + stretch * 2).to(tl.int32)
    end = tl.load(bounds_ptr + stretch * 2 + 1).to(tl.int32)
    key = block * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    k_ptr = head_start(k_ptr, batch, group, stride_kb, stride_kh)
    v_ptr = head_start(v_ptr, batch, group, stride_vb, stride_vh)
    k = load_rows(k_ptr, key.to(tl.int64), stride_km, key < m, D)
    v = load_rows(v_ptr, key.to(tl.int64), stride_vm, key < m, D)
    entry_ptr += lists * chunk_queries * n_selected
    local = tl.arange(0, ROWS)
    head = local % HEADS
    for place in range(begin, end, QUERIES):
        mine = place + local // HEADS
        there = mine < end
        entry = tl.load(entry_ptr + mine, mask=there, other=0)
        within = entry // n_selected
        query = chunk * chunk_queries + within
        exists = there & (head < group_size)
        row = row_of(batch, n, query, h_kv, group, group_size, head)
        q = load_rows(q_ptr, row, D, exists, D)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        position = m - n + query
        s = tl.where(key[None, :] <= position[:, None], s, float("-inf"))
        top = tl.max(s, axis=1) * scale
        p = tl.exp2(s * scale - top[:, None])
        total = tl.sum(p, axis=1)
        out = tl.dot(p.to(v.dtype), v, input_precision="ieee") / total[:, None]
        part = ((batch * h_kv + group) * chunk_queries * n_selected + entry) * group_size + head
        tl.store(
            vectors(part_out_ptr, part, D, D),
            out.to(part_out_ptr.dtype.element_ty),
            mask=exists[:, None],
        )
        tl.store(part_lse_ptr + part, top + tl.log2(total), mask=exists)


@triton.jit(
    do_not_specialize=["n", "h_kv", "group_size", "n_selected", "n_blk", "chunk", "chunk_queries"]
)
def kv_merge_kernel(
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
        o = load_rows(part_out_ptr, part, D, valid, D)
        new_top = tl.maximum(top, lse)
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp2(lse - shift)
        decay = tl.exp2(top - shift)
        total = total * decay + weight
        acc = acc * decay[:, None] + weight[:, None] * o.to(tl.float32)
        top = new_top
    safe = tl.where(total > 0, total, 1.0)
    row = row_of(batch, n, query, h_kv, group, group_size, head)
    tl.store(
        vectors(out_ptr, row, D, D),
        (acc / safe[:, None]).to(out_ptr.dtype.element_ty),
        mask=exists[:, None],
    )
    tl.store(lse_ptr + row, (top + tl.log2(safe)) * LN_2, mask=exists)


def attend(
    q,
    k,
    v,
    block_idx,
    *,
    block_size=128,
    scale=None,
    queries=4,
    warps=4,
    stages=2,
    longest=256,
    chunk_bytes=2**30,
):
    (b, n, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    ns, n_blk, group = block_idx.shape[-1], triton.cdiv(m, block_size), h_q // h_kv
    cq = max(min(chunk_bytes // (b * h_q * ns * d * 2), n), 1)
    chunks = triton.cdiv(n, cq)
    ids = torch.where((block_idx < 0) | (block_idx >= n_blk), n_blk, block_idx)
    position = torch.arange(m - n, m, device=ids.device, dtype=torch.int32)[:, None, None]
    ids = torch.where(ids * block_size > position, n_blk, ids).sort(-1).values
    ids = torch.cat(
        (ids[..., :1], torch.where(ids[..., 1:] == ids[..., :-1], n_blk, ids[..., 1:])), -1
    ).contiguous()
    padded = F.pad(ids, (0, 0, 0, 0, 0, chunks * cq - n), value=n_blk)
    listed = (
        padded.reshape(b, chunks, cq, h_kv, ns)
        .permute(0, 3, 1, 2, 4)
        .reshape(b * h_kv * chunks, cq * ns)
    )
    listed, entry = listed.sort(dim=-1, stable=True)
    groups, entries = listed.shape
    every = torch.arange(n_blk + 1, device=listed.device, dtype=listed.dtype)
    start = torch.searchsorted(listed, every.expand(groups, -1).contiguous())
    per_block = (start.diff() + longest - 1) // longest
    first = F.pad(per_block.cumsum(-1), (1, 0))
    n_stretches = entries // longest + n_blk
    stretch = torch.arange(n_stretches, device=listed.device).expand(groups, -1)
    block = torch.searchsorted(first[:, 1:].contiguous(), stretch.contiguous(), right=True)
    known = block.clamp(max=n_blk - 1)
    begin = start.gather(-1, known) + (stretch - first.gather(-1, known)) * longest
    end = torch.minimum(begin + longest, start.gather(-1, known + 1))
    bounds = torch.stack((begin, end), -1)
    entry = entry.int()
    out, lse = torch.empty_like(q), q.new_empty((b, n, h_q), dtype=torch.float32)
    part_out = q.new_empty((b, h_kv, cq, ns, group, d))
    part_lse = q.new_empty((b, h_kv, cq, ns, group), dtype=torch.float32)
    heads = max(triton.next_power_of_2(group), 16)
    scale = (d**-0.5 if scale is None else scale) * 1.4426950408889634
    for chunk in range(chunks):
        kv_outer_kernel[(n_stretches, h_kv, b)](
            q,
            k,
            v,
            part_out,
            part_lse,
            entry,
            block,
            bounds,
            n,
            m,
            h_kv,
            group,
            ns,
            n_blk,
            chunk,
            chunks,
            cq,
            scale,
            *k.stride()[:3],
            *v.stride()[:3],
            BLOCK_SIZE=block_size,
            QUERIES=queries,
            HEADS=heads,
            D=d,
            num_warps=warps,
            num_stages=stages,
        )
        kv_merge_kernel[(cq, h_kv, b)](
            part_out,
            part_lse,
            ids,
            out,
            lse,
            n,
            h_kv,
            group,
            ns,
            n_blk,
            chunk,
            cq,
            HEADS=heads,
            D=d,
            num_warps=4,
        )
    return out, lse
