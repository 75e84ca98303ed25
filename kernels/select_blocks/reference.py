"""The oracle: one stable sort by score."""

import torch
from jaxtyping import Float32, Int32
from torch import Tensor
from torch.nn import functional as F


def select_blocks(
    scores: Float32[Tensor, "b n h_kv n_blk"], n_selected: int, n_local: int, n_init: int
) -> Int32[Tensor, "b n h_kv n_selected"]:
    """Forced blocks first, then by score, ties to the lower id; returned in ascending order."""
    n_blk = scores.shape[-1]
    block = torch.arange(n_blk, device=scores.device)
    readable = torch.isfinite(scores)
    local = torch.where(readable, block, -1).amax(-1, keepdim=True)
    forced = (block < n_init) | ((block > local - n_local) & (block <= local))

    rank = torch.where(forced, float("inf"), scores + 0.0)  # adding 0 turns -0 into +0
    rank = torch.where(readable, rank, float("-inf"))
    best = rank.argsort(dim=-1, descending=True, stable=True)[..., :n_selected]
    best = torch.where(readable.gather(-1, best), best, n_blk).sort(-1).values
    best = torch.where(best == n_blk, -1, best)
    return F.pad(best, (0, n_selected - best.shape[-1]), value=-1).int()
