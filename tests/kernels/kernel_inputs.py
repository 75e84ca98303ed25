"""Inputs shared by the kernel tests."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Inputs(NamedTuple):
    q: Tensor  # [b, n, h_q, d]
    k: Tensor  # [b, m, h_kv, d]
    v: Tensor  # [b, m, h_kv, d]
    block_idx: Tensor  # [b, n, h_kv, n_sel]


def draw_index(b, n, m, h_kv, d, *, seed, dtype=torch.float32, device="cpu"):
    """Index queries [b, n, h_kv, d] and index keys [b, m, d]."""
    generator = torch.Generator(device).manual_seed(seed)
    q_idx = torch.randn(b, n, h_kv, d, generator=generator, device=device)
    k_idx = torch.randn(b, m, d, generator=generator, device=device)
    return q_idx.to(dtype), k_idx.to(dtype)


def draw_blocks(b, n, m, h_kv, *, block_size, n_selected, seed, empty=0.2, device="cpu"):
    """Distinct visible blocks in random order, each slot emptied with probability `empty`."""
    generator = torch.Generator(device).manual_seed(seed)
    n_blk = -(-m // block_size)
    visible = torch.arange(m - n, m, device=device) // block_size + 1  # blocks a query may read
    order = torch.rand(b, n, h_kv, n_blk, generator=generator, device=device)
    order = order.masked_fill(torch.arange(n_blk, device=device) >= visible[:, None, None], 2.0)
    score, block = order.sort(dim=-1)
    drop = torch.rand(score.shape, generator=generator, device=device) < empty
    block = torch.where((score > 1) | drop, -1, block)[..., :n_selected]
    return F.pad(block, (0, n_selected - block.shape[-1]), value=-1).int()


def draw_inputs(
    b, n, m, h_kv, group, d, *, block_size, n_selected, seed, dtype=torch.float32, device="cpu"
):
    """Normal q, k, v and a random selection."""
    generator = torch.Generator(device).manual_seed(seed)
    shapes = ((b, n, h_kv * group, d), (b, m, h_kv, d), (b, m, h_kv, d))
    q, k, v = (torch.randn(s, generator=generator, device=device).to(dtype) for s in shapes)
    blocks = draw_blocks(
        b, n, m, h_kv, block_size=block_size, n_selected=n_selected, seed=seed + 1, device=device
    )
    return Inputs(q, k, v, blocks)
