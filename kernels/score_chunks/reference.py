"""The oracle: every agreement of head and chunk, then the weighted sum."""

import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

LIFT = 128.0  # the greatest value of a head lies in [128, 256): e4m3 ends at 448


def rounded_queries(
    q: Float[Tensor, "b heads d"],
) -> tuple[Float[Tensor, "b heads d"], Float[Tensor, "b heads"]]:
    """Queries rounded to e4m3 values, in float32, and the power of two that each head's bear."""
    q = q.float()
    exponent = q.abs().amax(-1).view(torch.int32) & 0x7F800000
    unit = torch.where(exponent == 0, 1.0, exponent.view(torch.float32)) / LIFT
    return (q / unit[..., None]).to(torch.float8_e4m3fn).float(), unit


def score_chunks(
    q: Float[Tensor, "b heads d"],
    weights: Float[Tensor, "b heads"],
    keys: Float[Tensor, "b chunks d"],
    scales: Float[Tensor, "b chunks"] | None,
    slots: Int32[Tensor, "b places"] | None,
    gather: bool,
    round_q: bool,
) -> Float32[Tensor, "b places"]:
    """The logits, in float32 (float64 inside for float64 queries)."""
    there = None if slots is None else slots >= 0
    if gather:
        there = there & (slots < keys.shape[1])
        places = torch.where(there, slots, 0).long()
        batch = torch.arange(len(keys), device=keys.device)[:, None]
        keys = keys.view(torch.uint8) if keys.dtype == torch.float8_e4m3fn else keys
        keys = keys[batch, places]
        if scales is not None:
            keys, scales = keys.view(torch.float8_e4m3fn), scales[batch, places]
    inner = torch.promote_types(q.dtype, torch.float32)
    if round_q:
        q, unit = rounded_queries(q)
        weights = weights.float() * unit
    agreement = torch.einsum("bhd,bsd->bhs", q.to(inner), keys.to(inner)).relu()
    logits = torch.einsum("bh,bhs->bs", weights.to(inner), agreement)
    logits = (logits if scales is None else logits * scales).float() + 0.0
    return logits if there is None else logits.masked_fill(~there, -torch.inf)
