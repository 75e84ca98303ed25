"""The oracle: every token score, then the maximum of each block."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F


def block_scores(
    q_idx: Float[Tensor, "b n h_kv d_idx"], k_idx: Float[Tensor, "b m d_idx"], block_size: int
) -> Float32[Tensor, "b n h_kv n_blk"]:
    """Block maxima of causal dot products, in float32 (float64 inside for float64 inputs)."""
    inner = torch.promote_types(q_idx.dtype, torch.float32)
    scores = torch.einsum("bnhd,bmd->bnhm", q_idx.to(inner), k_idx.to(inner))
    n, m = scores.shape[1], scores.shape[3]
    block_size = min(block_size, m)
    key = torch.arange(m, device=scores.device)
    position = key[m - n :]  # of the queries
    visible = key <= position[:, None]  # [n, m]
    scores = scores.masked_fill(~visible[:, None], float("-inf"))
    scores = F.pad(scores, (0, -m % block_size), value=float("-inf"))
    return scores.unflatten(-1, (-1, block_size)).amax(-1).float()
