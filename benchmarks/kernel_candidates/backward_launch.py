import torch
import triton
from torch.nn import functional as F
from triton.tools.tensor_descriptor import TensorDescriptor

from intuitive.kernels.block_sparse_attention import triton_backward as B0
from intuitive.kernels.block_sparse_attention import triton_tiles as T

from . import backward as K


def invert_edges(block_idx, m, block_size, longest):
    """For each block the queries that chose it, in order; as Stretches with entry = query."""
    b, n, h_kv, ns = block_idx.shape
    n_blk = -(-m // block_size)
    ids = torch.where((block_idx < 0) | (block_idx >= n_blk), n_blk, block_idx)
    position = torch.arange(m - n, m, device=ids.device)[:, None, None]
    ids = torch.where(ids * block_size > position, n_blk, ids)
    ids = ids.sort(-1).values
    ids = torch.cat(
        (ids[..., :1], torch.where(ids[..., 1:] == ids[..., :-1], n_blk, ids[..., 1:])), -1
    )
    listed = ids.transpose(1, 2).reshape(b * h_kv, n * ns)
    listed, entry = listed.sort(dim=-1, stable=True)
    groups, entries = listed.shape
    all_ids = torch.arange(n_blk + 1, device=listed.device, dtype=listed.dtype)
    start = torch.searchsorted(listed, all_ids.expand(groups, -1).contiguous())
    per_block = (start.diff() + longest - 1) // longest
    first = F.pad(per_block.cumsum(-1), (1, 0))
    stretch = torch.arange(entries // longest + n_blk, device=listed.device).expand(groups, -1)
    block = torch.searchsorted(first[:, 1:].contiguous(), stretch.contiguous(), right=True)
    known = block.clamp(max=n_blk - 1)
    begin = start.gather(-1, known) + (stretch - first.gather(-1, known)) * longest
    end = torch.minimum(begin + longest, start.gather(-1, known + 1))
    return T.Stretches(
        entry=(entry // ns).int(), block=block, bounds=torch.stack((begin, end), -1), first=first
    )


def backward(
    dout,
    dlse,
    q,
    k,
    v,
    out,
    lse,
    block_idx,
    block_size,
    scale,
    *,
    dq,
    dkv,
):
    (b, n, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    group, n_blk = h_q // h_kv, triton.cdiv(m, block_size)
    heads = max(triton.next_power_of_2(group), 16)
    d_q, delta = torch.empty_like(q), torch.empty_like(lse)
    dk, dv = (x.new_empty(x.shape) for x in (k, v))
    strides = (*k.stride()[:3], *v.stride()[:3])
    lists = T.list_blocks(block_idx, m, block_size, dq["queries"])
    n_tiles = lists.blocks.shape[2]
    ks, vs = (
        (TensorDescriptor.from_tensor(x, [1, dq["keys"], 1, d]) for x in (k, v))
        if dq["tma"]
        else (k, v)
    )
    extra = {"maxnreg": dq["maxnreg"]} if dq.get("maxnreg") else {}
    K.dq_kernel[(n_tiles, h_kv, b)](
        q,
        ks,
        vs,
        out,
        lse,
        dout,
        dlse,
        d_q,
        delta,
        lists.blocks,
        lists.members,
        lists.ends,
        n,
        m,
        h_kv,
        group,
        lists.capacity,
        scale,
        *strides,
        BLOCK_SIZE=block_size,
        QUERIES=dq["queries"],
        HEADS=heads,
        SPLIT=1,
        KEYS=dq["keys"],
        D=d,
        QREG=dq["reg"],
        TMA=dq["tma"],
        num_warps=dq["warps"],
        num_stages=dq["stages"],
        **extra,
    )
    inverse = invert_edges(block_idx, m, block_size, dkv["longest"])
    n_stretches = inverse.block.shape[-1]
    dk_part, dv_part = q.new_empty((2, b * h_kv, n_stretches, block_size, d), dtype=torch.float32)
    extra = {"maxnreg": dkv["maxnreg"]} if dkv.get("maxnreg") else {}
    K.dkv_edges_kernel[(n_stretches * (block_size // dkv["keys"]), h_kv, b)](
        q,
        k,
        v,
        lse,
        dout,
        delta,
        dk_part,
        dv_part,
        inverse.entry,
        inverse.block,
        inverse.bounds,
        n,
        m,
        h_kv,
        group,
        block_idx.shape[-1],
        n_blk,
        scale,
        *strides,
        BLOCK_SIZE=block_size,
        QUERIES=dkv["queries"],
        HEADS=heads,
        KEYS=dkv["keys"],
        D=d,
        KREG=dkv["reg"],
        num_warps=dkv["warps"],
        num_stages=dkv["stages"],
        **extra,
    )
    B0.dkv_sum_kernel[(n_blk * (block_size // 16), h_kv, b)](
        dk_part,
        dv_part,
        inverse.first,
        dk,
        dv,
        m,
        h_kv,
        n_blk,
        n_stretches,
        scale,
        BLOCK_SIZE=block_size,
        KEYS=16,
        D=d,
        num_warps=4,
    )
    return d_q, dk, dv
