"""The oracle: a mask, and a stable sort that brings the chosen to the front."""

import torch
from jaxtyping import Float32, Int32
from torch import Tensor


def select_chunks(
    logits: Float32[Tensor, "layers chunks"], cut: float, forced_from: int
) -> tuple[Int32[Tensor, " chunks"], Int32[Tensor, ""]]:
    """Chosen ids in ascending order, then -1; and their number. Nothing waits for the device."""
    chunk = torch.arange(logits.shape[1], device=logits.device)
    chosen = (logits > cut).any(0) | (chunk >= forced_from)
    order = (~chosen).int().argsort(stable=True)
    count = chosen.sum().int()
    return torch.where(chunk < count, order, -1).int(), count
