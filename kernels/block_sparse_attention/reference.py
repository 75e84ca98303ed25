"""The oracle: dense attention under the mask that the selection spells out."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def readable_tokens(
    block_idx: Int[Tensor, "b n h_kv n_sel"], m: int, block_size: int
) -> Bool[Tensor, "b n h_kv m"]:
    """True where a query may read a token: its block is selected and it is not in the future."""
    n = block_idx.shape[1]
    n_blk = -(-m // block_size)
    slot = torch.where((block_idx >= 0) & (block_idx < n_blk), block_idx, n_blk).long()
    selected = slot.new_zeros((*slot.shape[:-1], n_blk + 1), dtype=torch.bool)
    selected.scatter_(-1, slot, True)  # the extra block collects empty slots
    key = torch.arange(m, device=slot.device)
    position = key[m - n :]  # of the queries
    visible = key <= position[:, None]  # [n, m]
    return selected[..., key // block_size] & visible[:, None]


def block_sparse_attention(
    q: Float[Tensor, "b n h_q d"],
    k: Float[Tensor, "b m h_kv d"],
    v: Float[Tensor, "b m h_kv d"],
    block_idx: Int[Tensor, "b n h_kv n_sel"],
    block_size: int,
    scale: float,
) -> tuple[Float[Tensor, "b n h_q d"], Float[Tensor, "b n h_q"]]:
    """Output and log-sum-exp, in float32 inside (float64 for float64 inputs)."""
    group = q.shape[2] // k.shape[2]
    inner = torch.promote_types(q.dtype, torch.float32)
    k, v = (x.to(inner).repeat_interleave(group, dim=2) for x in (k, v))  # [b, m, h_q, d]
    reads = readable_tokens(block_idx, k.shape[1], block_size)
    reads = reads.repeat_interleave(group, dim=2)  # [b, n, h_q, m]
    idle = ~reads.any(-1, keepdim=True)  # queries with nothing to read

    s = torch.einsum("bnhd,bmhd->bnhm", q.to(inner), k) * scale
    s = s.masked_fill(~reads, float("-inf")).masked_fill(idle, 0.0)  # keeps gradients free of NaN
    lse = s.logsumexp(-1).masked_fill(idle[..., 0], float("-inf"))
    p = s.softmax(-1).masked_fill(idle, 0.0)
    return torch.einsum("bnhm,bmhd->bnhd", p, v).to(q.dtype), lse
