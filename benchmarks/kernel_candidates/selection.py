import triton
import triton.language as tl

TOP_ID = tl.constexpr(2**31 - 1)


@triton.jit
def _insert(best, ids, x, block, SLOTS: tl.constexpr):
    ahead = x > best[0]
    out_best = (tl.maximum(best[0], x),)
    out_ids = (tl.where(ahead, block, ids[0]),)
    for i in tl.static_range(1, SLOTS):
        before = ahead
        ahead = x > best[i]
        out_best = out_best + (tl.maximum(best[i], tl.minimum(best[i - 1], x)),)
        out_ids = out_ids + (tl.where(ahead, tl.where(before, ids[i - 1], block), ids[i]),)
    return out_best, out_ids


@triton.jit
def _rank(scores_ptr, row, exists, block, n_visible, local, stride, n_local, n_init):
    x = tl.load(
        scores_ptr + tl.cast(block, tl.int64) * stride + row,
        mask=exists & (block < n_visible),
        other=float("-inf"),
    )
    x = tl.where(tl.abs(x) < float("inf"), x, float("-inf"))
    forced = (block < n_init) | ((block > local - n_local) & (block <= local))
    return tl.where(forced & (x > float("-inf")), float("inf"), x)


@triton.jit(
    do_not_specialize=[
        "rows",
        "n",
        "h_kv",
        "n_blk",
        "block_size",
        "first_visible",
        "n_selected",
        "n_local",
        "n_init",
    ]
)
def select_rows_kernel(
    scores_ptr,
    out_ptr,
    rows,
    n,
    h_kv,
    n_blk,
    block_size,
    first_visible,
    n_selected,
    n_local,
    n_init,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    UNROLL: tl.constexpr,
    GUARD: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    row = (tl.num_programs(0) - 1 - tl.program_id(0)) * ROWS + tl.arange(0, ROWS)
    exists = row < rows
    n_visible = tl.minimum(n_blk, (first_visible + row // h_kv - 1) // block_size + 1)
    scores_ptr += batch * n_blk * rows
    local = tl.where(exists, n_visible - 1, -1)
    s = tl.load(scores_ptr + local.to(tl.int64) * rows + row, mask=local >= 0, other=0.0)
    bad = (local >= 0) & ((tl.abs(s) < float("inf")) == 0)
    while tl.max(bad.to(tl.int32)) == 1:
        local = tl.where(bad, local - 1, local)
        s = tl.load(scores_ptr + local.to(tl.int64) * rows + row, mask=local >= 0, other=0.0)
        bad = (local >= 0) & ((tl.abs(s) < float("inf")) == 0)
    best = ()
    ids = ()
    for _ in tl.static_range(SLOTS):
        best = best + (tl.full((ROWS,), float("-inf"), tl.float32),)
        ids = ids + (tl.full((ROWS,), TOP_ID, tl.int32),)
    stop = tl.max(tl.where(exists, n_visible, 0))
    for start in range(0, stop, UNROLL):
        xs = ()
        for u in tl.static_range(UNROLL):
            xs = xs + (
                _rank(scores_ptr, row, exists, start + u, n_visible, local, rows, n_local, n_init),
            )
        for u in tl.static_range(UNROLL):
            x = xs[u]
            if GUARD:
                if tl.max((x > best[SLOTS - 1]).to(tl.int32)) == 1:
                    best, ids = _insert(best, ids, x, start + u, SLOTS)
            else:
                best, ids = _insert(best, ids, x, start + u, SLOTS)
    # unfilled slots hold TOP_ID; slots beyond n_selected are dropped
    out = ()
    for i in tl.static_range(SLOTS):
        out = out + (tl.where((best[i] > float("-inf")) & (i < n_selected), ids[i], TOP_ID),)
    # ascending: odd-even transposition
    for r in tl.static_range(SLOTS):
        moved = ()
        if r % 2 == 1:
            moved = moved + (out[0],)
        for i in tl.static_range((SLOTS - r % 2) // 2):
            a = out[r % 2 + 2 * i]
            b = out[r % 2 + 2 * i + 1]
            moved = moved + (tl.minimum(a, b), tl.maximum(a, b))
        if r % 2 == 1:
            moved = moved + (out[SLOTS - 1],)
        out = moved
    out_ptr += (batch * rows + row) * n_selected
    for i in tl.static_range(SLOTS):
        tl.store(
            out_ptr + i, tl.where(out[i] == TOP_ID, -1, out[i]), mask=exists & (i < n_selected)
        )
