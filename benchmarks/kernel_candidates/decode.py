import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from intuitive.kernels.addressing import group_and_batch, head_start, load_rows, row_of, vectors

LN_2 = tl.constexpr(0.6931471805599453)
UNREADABLE = tl.constexpr(-(2**63))
LOW_WORD = tl.constexpr(2**32 - 1)
TOP_ID = tl.constexpr(2**31 - 1)
FORCED = tl.constexpr(2**31 - 1)


@triton.jit(do_not_specialize=["m", "h_kv", "n_blk", "steps"])
def decode_scores_kernel(
    q_ptr,
    k_src,
    scores_ptr,
    counters_ptr,
    m,
    h_kv,
    n_blk,
    steps,
    stride_kb,
    stride_km,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    TMA: tl.constexpr,
    PDL: tl.constexpr,
    FP8: tl.constexpr,
    STAGES: tl.constexpr,
):
    """scores [b, h_kv, n_blk]; KEYS a multiple of BLOCK_SIZE; also zeroes counters [b, h_kv]."""
    BLOCKS: tl.constexpr = KEYS // BLOCK_SIZE
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    batch = tl.program_id(1).to(tl.int64)
    row = tl.arange(0, ROWS)
    real = row < h_kv
    if tl.program_id(0) == 0:
        tl.store(counters_ptr + batch * h_kv + row, tl.zeros((ROWS,), tl.int32), mask=real)
    q = load_rows(q_ptr, batch * h_kv + row, D, real, D)
    if FP8:
        q = q.to(tl.float16)
    first = tl.program_id(0) * steps
    stop = tl.minimum(first + steps, tl.cdiv(m, KEYS))
    if not TMA:
        k_src += batch * stride_kb
    within = tl.arange(0, KEYS)
    for step in tl.range(first, stop, num_stages=STAGES):
        if TMA:
            k = k_src.load([batch.to(tl.int32), step * KEYS, 0]).reshape(KEYS, D)
        else:
            key64 = tl.cast(step, tl.int64) * KEYS + within
            k = tl.load(
                k_src + key64[:, None] * stride_km + tl.arange(0, D),
                mask=(key64 < m)[:, None],
                other=0.0,
            )
        if FP8:
            k = k.to(tl.float16)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        s = tl.where((step * KEYS + within < m)[None, :], s, float("-inf"))
        best = tl.max(tl.reshape(s, (ROWS, BLOCKS, BLOCK_SIZE)), axis=2)
        block = step * BLOCKS + tl.arange(0, BLOCKS)
        mask = real[:, None] & (block < n_blk)[None, :]
        tl.store(
            scores_ptr + (batch * h_kv + row)[:, None] * n_blk + block[None, :], best, mask=mask
        )


@triton.jit
def _keys(score, block, n_blk, local, n_local, n_init):
    readable = (tl.abs(score) < float("inf")) & (block < n_blk)
    bits = tl.where(score == 0, 0.0, score).to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    forced = (block < n_init) | ((block > local - n_local) & (block <= local))
    ordered = tl.where(forced, FORCED, ordered)
    key = (ordered.to(tl.int64) << 32) | (block ^ TOP_ID).to(tl.int64)
    return tl.where(readable, key, UNREADABLE)


@triton.jit
def _take(key, count, SLOTS: tl.constexpr):
    """The `count` greatest of the keys, descending; unique keys."""
    slot = tl.arange(0, SLOTS)
    taken = tl.full((SLOTS,), UNREADABLE, tl.int64)
    for i in range(count):
        largest = tl.max(key)
        taken = tl.where(slot == i, largest, taken)
        key = tl.where(key == largest, UNREADABLE, key)
    return taken


@triton.jit(
    do_not_specialize=["m", "h_kv", "group_size", "n_blk", "n_selected", "n_local", "n_init"]
)
def decode_attend_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    scores_ptr,
    ids_ptr,
    part_out_ptr,
    part_lse_ptr,
    counters_ptr,
    out_ptr,
    lse_ptr,
    m,
    h_kv,
    group_size,
    n_blk,
    n_selected,
    n_local,
    n_init,
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
    KEYS: tl.constexpr,
    D: tl.constexpr,
    CHUNKS: tl.constexpr,
    PER: tl.constexpr,
    MERGED: tl.constexpr,
    PDL: tl.constexpr,
    MERGE: tl.constexpr,
):
    """Each program finds its slot's block in the scores and attends to KEYS of it.

    With MERGE the last one merges.
    """
    part = tl.program_id(0)
    n_parts = tl.num_programs(0)
    group, batch = group_and_batch(1)
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    this_slot = part // PARTS
    head = tl.arange(0, HEADS)
    exists = head < group_size
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    row = row_of(batch, 1, 0, h_kv, group, group_size, head)
    q = load_rows(q_ptr, row, D, exists, D)
    scores_ptr += (batch * h_kv + group) * n_blk
    local = n_blk - 1
    count = tl.minimum(this_slot + 1, n_selected)
    if PER == 1:
        block = tl.arange(0, CHUNKS)
        score = tl.load(scores_ptr + block, mask=block < n_blk, other=float("-inf"))
        key = _keys(score, block, n_blk, local, n_local, n_init)
        taken = _take(key, count, SLOTS)
    else:
        block = tl.arange(0, CHUNKS)[:, None] * PER + tl.arange(0, PER)[None, :]
        score = tl.load(scores_ptr + block, mask=block < n_blk, other=float("-inf"))
        key = tl.max(_keys(score, block, n_blk, local, n_local, n_init), axis=1)
        taken = _take(key, count, SLOTS)
        chunk = ((taken & LOW_WORD).to(tl.int32) ^ TOP_ID) // PER
        block = chunk[:, None] * PER + tl.arange(0, PER)[None, :]
        block = tl.where((taken > UNREADABLE)[:, None], block, n_blk)
        score = tl.load(scores_ptr + block, mask=block < n_blk, other=float("-inf"))
        key = tl.reshape(_keys(score, block, n_blk, local, n_local, n_init), (SLOTS * PER,))
        taken = _take(key, count, SLOTS)
    slot = tl.arange(0, SLOTS)
    mine = tl.max(tl.where(slot == this_slot, taken, UNREADABLE))
    readable = mine > UNREADABLE
    block = (mine & LOW_WORD).to(tl.int32) ^ TOP_ID
    if part == n_parts - 1:
        valid = taken > UNREADABLE
        ids = tl.where(valid, (taken & LOW_WORD).to(tl.int32) ^ TOP_ID, TOP_ID)
        place = tl.sum((ids[None, :] < ids[:, None]).to(tl.int32), axis=1)
        n_valid = tl.sum(valid.to(tl.int32))
        ids_ptr += (batch * h_kv + group) * n_selected
        tl.store(ids_ptr + place, ids, mask=valid)
        tl.store(
            ids_ptr + slot,
            tl.full((SLOTS,), -1, tl.int32),
            mask=(slot >= n_valid) & (slot < n_selected),
        )

    key_id = tl.where(readable, block, 0) * BLOCK_SIZE + (part % PARTS) * KEYS + tl.arange(0, KEYS)
    visible = readable & (key_id < m)
    k_ptr = head_start(k_ptr, batch, group, stride_kb, stride_kh)
    v_ptr = head_start(v_ptr, batch, group, stride_vb, stride_vh)
    k = load_rows(k_ptr, key_id.to(tl.int64), stride_km, visible, D)
    v = load_rows(v_ptr, key_id.to(tl.int64), stride_vm, visible, D)
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    s = tl.where(visible[None, :], s, float("-inf"))
    top = tl.max(s, axis=1)
    p = tl.exp2(s - tl.where(top == float("-inf"), 0.0, top)[:, None])
    total = tl.sum(p, axis=1)
    safe = tl.where(total > 0, total, 1.0)
    out = tl.dot(p.to(v.dtype), v, input_precision="ieee") / safe[:, None]
    # parts [row, part, D]
    place = row * n_parts + part
    tl.store(vectors(part_out_ptr, place, D, D), out, mask=exists[:, None])
    tl.store(part_lse_ptr + place, top + tl.log2(safe), mask=exists)
    if MERGE:
        tl.debug_barrier()
        before = tl.atomic_add(counters_ptr + batch * h_kv + group, 1, sem="acq_rel")
        if before == n_parts - 1:
            dim = tl.arange(0, D)
            all_top = tl.full((HEADS,), float("-inf"), tl.float32)
            all_total = tl.zeros((HEADS,), tl.float32)
            acc = tl.zeros((HEADS, D), tl.float32)
            for start in range(0, n_parts, MERGED):
                p_id = start + tl.arange(0, MERGED)
                there = exists[:, None] & (p_id < n_parts)[None, :]
                place2 = row[:, None] * n_parts + p_id[None, :]
                lse = tl.load(
                    part_lse_ptr + place2, mask=there, other=float("-inf"), cache_modifier=".cg"
                )
                o = tl.load(
                    part_out_ptr + place2[:, :, None] * D + dim[None, None, :],
                    mask=there[:, :, None],
                    other=0.0,
                    cache_modifier=".cg",
                )
                new_top = tl.maximum(all_top, tl.max(lse, axis=1))
                shift = tl.where(new_top == float("-inf"), 0.0, new_top)
                weight = tl.exp2(lse - shift[:, None])
                decay = tl.exp2(all_top - shift)
                all_total = all_total * decay + tl.sum(weight, axis=1)
                acc = acc * decay[:, None] + tl.sum(weight[:, :, None] * o, axis=1)
                all_top = new_top
            safe2 = tl.where(all_total > 0, all_total, 1.0)
            tl.store(
                vectors(out_ptr, row, D, D),
                (acc / safe2[:, None]).to(out_ptr.dtype.element_ty),
                mask=exists[:, None],
            )
            tl.store(lse_ptr + row, (all_top + tl.log2(safe2)) * LN_2, mask=exists)


@triton.jit(do_not_specialize=["n_parts"])
def decode_merge_kernel(
    part_out_ptr,
    part_lse_ptr,
    out_ptr,
    lse_ptr,
    n_parts,
    PARTS: tl.constexpr,
    D: tl.constexpr,
    PDL: tl.constexpr,
):
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, PARTS)
    lse = tl.load(part_lse_ptr + row * n_parts + part, mask=part < n_parts, other=float("-inf"))
    o = load_rows(part_out_ptr, row * n_parts + part, D, part < n_parts, D)
    top = tl.max(lse)
    shift = tl.where(top == float("-inf"), 0.0, top)
    weight = tl.exp2(lse - shift)
    total = tl.sum(weight)
    acc = tl.sum(weight[:, None] * o, axis=0)
    safe = tl.where(total > 0, total, 1.0)
    tl.store(out_ptr + row * D + tl.arange(0, D), (acc / safe).to(out_ptr.dtype.element_ty))
    tl.store(lse_ptr + row, (top + tl.log2(safe)) * LN_2)
