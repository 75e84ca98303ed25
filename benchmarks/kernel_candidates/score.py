import triton
import triton.language as tl

from intuitive.kernels.addressing import load_keys, load_rows


@triton.jit
def _maxima(
    q,
    k_src,
    batch,
    position,
    first_key,
    m,
    stride_km,
    BLOCKS: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    FULL: tl.constexpr,
    TMA: tl.constexpr,
):
    if TMA:
        k = k_src.load([batch, first_key.to(tl.int32), 0]).reshape(KEYS, D)
    else:
        k = load_keys(k_src, first_key, m, stride_km, KEYS, D, FULL)
    s = tl.dot(q, tl.trans(k), input_precision="ieee")
    if not FULL:
        key = tl.cast(first_key, tl.int32) + tl.arange(0, KEYS)
        s = tl.where(key[None, :] <= position[:, None], s, float("-inf"))
    return tl.max(tl.reshape(s, (s.shape[0], BLOCKS, KEYS // BLOCKS)), axis=2)


@triton.jit
def _step(
    q,
    k_src,
    scores_ptr,
    batch,
    rows,
    position,
    row_mask,
    step,
    m,
    n_blk,
    stride_km,
    stride_row,
    stride_block,
    BLOCK_SIZE: tl.constexpr,
    SPAN: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    FULL: tl.constexpr,
    TMA: tl.constexpr,
):
    BLOCKS: tl.constexpr = SPAN // BLOCK_SIZE
    first_key = tl.cast(step, tl.int64) * SPAN
    best = _maxima(q, k_src, batch, position, first_key, m, stride_km, BLOCKS, KEYS, D, FULL, TMA)
    for _ in tl.static_range(1, SPAN // KEYS):
        first_key += KEYS
        more = _maxima(
            q, k_src, batch, position, first_key, m, stride_km, BLOCKS, KEYS, D, FULL, TMA
        )
        best = tl.maximum(best, more)
    block = step * BLOCKS + tl.arange(0, BLOCKS)
    mask = row_mask[:, None] & (block < n_blk)[None, :]
    tl.store(
        scores_ptr + rows[:, None] * stride_row + block[None, :].to(tl.int64) * stride_block,
        best,
        mask=mask,
    )


@triton.jit(do_not_specialize=["n", "m", "h_kv", "n_blk", "steps"])
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
    stride_batch,
    stride_row,
    stride_block,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    SPAN: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    QREG: tl.constexpr,
    TMA: tl.constexpr,
):
    batch = tl.program_id(2).to(tl.int64)
    first_row = tl.program_id(0) * ROWS
    last_row = tl.minimum(first_row + ROWS, n * h_kv) - 1
    rows = (first_row + tl.arange(0, ROWS)).to(tl.int64)
    row_mask = rows < n * h_kv
    position = m - n + first_row // h_kv
    first_step = tl.program_id(1) * steps
    stop = tl.minimum(first_step + steps, (m - n + last_row // h_kv) // SPAN + 1)
    full_stop = tl.minimum(stop, (position + 1) // SPAN)
    q = load_rows(q_ptr + batch * stride_qb, rows, D, row_mask, D)
    if QREG:
        lane = tl.arange(0, D)
        eye = (lane[:, None] == lane[None, :]).to(q.dtype)
        q = tl.dot(q, eye).to(q.dtype)
    position = m - n + (first_row + tl.arange(0, ROWS)) // h_kv
    if not TMA:
        k_src += batch * stride_kb
    scores_ptr += batch * stride_batch
    b32 = batch.to(tl.int32)
    for step in range(first_step, full_stop):
        _step(
            q,
            k_src,
            scores_ptr,
            b32,
            rows,
            position,
            row_mask,
            step,
            m,
            n_blk,
            stride_km,
            stride_row,
            stride_block,
            BLOCK_SIZE,
            SPAN,
            KEYS,
            D,
            True,
            TMA,
        )
    for step in range(tl.maximum(first_step, full_stop), stop):
        _step(
            q,
            k_src,
            scores_ptr,
            b32,
            rows,
            position,
            row_mask,
            step,
            m,
            n_blk,
            stride_km,
            stride_row,
            stride_block,
            BLOCK_SIZE,
            SPAN,
            KEYS,
            D,
            False,
            TMA,
        )
