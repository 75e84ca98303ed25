"""Launch of the decode candidates."""

import torch
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from . import decode as D_


def step(
    q,
    k,
    v,
    q_idx,
    k_idx,
    *,
    n_selected,
    block_size,
    scale=None,
    n_local=1,
    n_init=0,
    programs=396,
    keys=128,
    stages=3,
    warps=4,
    tma=False,
    pdl=True,
    merge=True,
    part_keys=128,
    attend_warps=4,
    merged=4,
):
    (b, _, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    n_blk = triton.cdiv(m, block_size)
    dev = q.device
    scores = torch.empty((b, 1, h_kv, n_blk), dtype=torch.float32, device=dev)
    counters = torch.empty((b, h_kv), dtype=torch.int32, device=dev)
    fp8 = k_idx.dtype == torch.float8_e4m3fn
    k_src = TensorDescriptor.from_tensor(k_idx, [1, keys, d]) if tma else k_idx
    n_steps = triton.cdiv(m, keys)
    steps = triton.cdiv(n_steps, min(programs, n_steps))
    opts = {"launch_pdl": True} if pdl else {}
    D_.decode_scores_kernel[(triton.cdiv(n_steps, steps), b)](
        q_idx,
        k_src,
        scores,
        counters,
        m,
        h_kv,
        n_blk,
        steps,
        k_idx.stride(0),
        k_idx.stride(1),
        BLOCK_SIZE=block_size,
        ROWS=16,
        KEYS=keys,
        D=d,
        TMA=tma,
        PDL=pdl,
        FP8=fp8,
        STAGES=stages,
        num_warps=warps,
        **opts,
    )
    ids = torch.empty((b, 1, h_kv, n_selected), dtype=torch.int32, device=dev)
    n_parts = n_selected * (block_size // part_keys)
    part_out = torch.empty((b, h_q, n_parts, d), dtype=torch.float32, device=dev)
    part_lse = torch.empty((b, h_q, n_parts), dtype=torch.float32, device=dev)
    out, lse = torch.empty_like(q), torch.empty((b, 1, h_q), dtype=torch.float32, device=dev)
    per = triton.next_power_of_2(triton.cdiv(n_blk, 1024))
    chunks = min(max(triton.next_power_of_2(triton.cdiv(n_blk, per)), 16), 1024)
    scale = (d**-0.5 if scale is None else scale) * 1.4426950408889634
    D_.decode_attend_kernel[(n_parts, h_kv, b)](
        q,
        k,
        v,
        scores,
        ids,
        part_out,
        part_lse,
        counters,
        out,
        lse,
        m,
        h_kv,
        h_q // h_kv,
        n_blk,
        n_selected,
        n_local,
        n_init,
        scale,
        *k.stride()[:3],
        *v.stride()[:3],
        BLOCK_SIZE=block_size,
        SLOTS=max(triton.next_power_of_2(n_selected), 16),
        HEADS=max(triton.next_power_of_2(h_q // h_kv), 16),
        KEYS=part_keys,
        D=d,
        CHUNKS=chunks,
        PER=per,
        MERGED=merged,
        PDL=pdl,
        MERGE=merge,
        num_warps=attend_warps,
        **opts,
    )
    if not merge:
        D_.decode_merge_kernel[(b * h_q,)](
            part_out,
            part_lse,
            out,
            lse,
            n_parts,
            PARTS=triton.next_power_of_2(n_parts),
            D=d,
            PDL=pdl,
            num_warps=4,
            **opts,
        )
    return out, lse, ids
