"""Launches of the prefill candidates."""

import torch
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from intuitive.kernels.block_sparse_attention.triton_tiles import list_blocks

from . import forward as F_
from . import score as S_
from . import selection as L_


def attend(
    q,
    k,
    v,
    block_idx,
    *,
    block_size=128,
    scale=None,
    queries=4,
    keys=64,
    warps=4,
    stages=2,
    reg=True,
    tma=True,
    maxnreg=None,
    one=False,
):
    (b, n, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    lists = list_blocks(block_idx, m, block_size, queries)
    out, lse = torch.empty_like(q), q.new_empty((b, n, h_q), dtype=torch.float32)
    ks, vs = (TensorDescriptor.from_tensor(x, [1, keys, 1, d]) for x in (k, v)) if tma else (k, v)
    scale = (d**-0.5 if scale is None else scale) * 1.4426950408889634
    extra = {"maxnreg": maxnreg} if maxnreg else {}
    F_.attend_kernel[(triton.cdiv(n, queries), h_kv, b)](
        q,
        ks,
        vs,
        out,
        lse,
        lists.blocks,
        lists.members,
        lists.ends,
        n,
        m,
        h_kv,
        h_q // h_kv,
        lists.capacity,
        scale,
        *k.stride()[:3],
        *v.stride()[:3],
        BLOCK_SIZE=block_size,
        QUERIES=queries,
        HEADS=max(triton.next_power_of_2(h_q // h_kv), 16),
        SPLIT=1,
        KEYS=keys,
        D=d,
        QREG=reg,
        TMA=tma,
        ONE=one,
        num_warps=warps,
        num_stages=stages,
        **extra,
    )
    return out, lse


def write_scores(
    q_idx,
    k_idx,
    scores,
    block_size,
    *,
    rows=128,
    keys=128,
    warps=4,
    stages=2,
    reg=True,
    tma=True,
    maxnreg=None,
    programs=1056,
    longest=64,
    transposed=True,
):
    b, n, h_kv, d = q_idx.shape
    m = k_idx.shape[1]
    n_blk = triton.cdiv(m, block_size)
    ks = TensorDescriptor.from_tensor(k_idx, [1, keys, d]) if tma else k_idx
    span = max(keys, block_size)
    row_tiles, key_steps = triton.cdiv(n * h_kv, rows), triton.cdiv(m, span)
    steps = min(max(row_tiles * b * key_steps // programs, 1), longest)
    strides = (n * h_kv * n_blk, 1, n * h_kv) if transposed else (n * h_kv * n_blk, n_blk, 1)
    extra = {"maxnreg": maxnreg} if maxnreg else {}
    S_.block_scores_kernel[(row_tiles, triton.cdiv(key_steps, steps), b)](
        q_idx,
        ks,
        scores,
        n,
        m,
        h_kv,
        n_blk,
        steps,
        q_idx.stride(0),
        k_idx.stride(0),
        k_idx.stride(1),
        *strides,
        BLOCK_SIZE=block_size,
        ROWS=rows,
        SPAN=span,
        KEYS=keys,
        D=d,
        QREG=reg,
        TMA=tma,
        num_warps=warps,
        num_stages=stages,
        **extra,
    )


def write_selection(
    scores, out, *, block_size, n_local, n_init, first_visible, sel_rows=32, unroll=8, guard=True
):
    b, n, h_kv, n_selected = out.shape
    rows, n_blk = n * h_kv, scores.shape[1]
    L_.select_rows_kernel[(triton.cdiv(rows, sel_rows), b)](
        scores,
        out,
        rows,
        n,
        h_kv,
        n_blk,
        block_size,
        first_visible,
        n_selected,
        n_local,
        n_init,
        ROWS=sel_rows,
        SLOTS=max(triton.next_power_of_2(n_selected), 2),
        UNROLL=unroll,
        GUARD=guard,
        num_warps=sel_rows // 32,
    )


def select(
    q_idx,
    k_idx,
    *,
    n_selected=16,
    block_size=128,
    n_local=1,
    n_init=0,
    chunk_bytes=2**28,
    score=None,
    pick=None,
):
    (b, n, h_kv, _), m = q_idx.shape, k_idx.shape[1]
    out = torch.empty((b, n, h_kv, n_selected), dtype=torch.int32, device=q_idx.device)
    size = max(chunk_bytes // (4 * b * h_kv * triton.cdiv(m, block_size)), 1)
    for start in range(0, n, size):
        stop = min(start + size, n)
        seen = m - n + stop
        rows = (stop - start) * h_kv
        scores = torch.empty(
            (b, triton.cdiv(seen, block_size), rows), dtype=torch.float32, device=q_idx.device
        )
        write_scores(q_idx[:, start:stop], k_idx[:, :seen], scores, block_size, **(score or {}))
        part = (
            out[:, start:stop]
            if b == 1
            else torch.empty(
                (b, stop - start, h_kv, n_selected), dtype=torch.int32, device=q_idx.device
            )
        )
        write_selection(
            scores,
            part,
            block_size=block_size,
            n_local=n_local,
            n_init=n_init,
            first_visible=m - n + start + 1,
            **(pick or {}),
        )
        if b > 1:
            out[:, start:stop] = part
        del scores
    return out
