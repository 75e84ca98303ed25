"""Rotary positions (RoPE)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def angles(
    positions: Int[Tensor, "b n"], d: int, base: float, dtype: torch.dtype
) -> tuple[Float[Tensor, "b n 1 half_d"], Float[Tensor, "b n 1 half_d"]]:
    """Cosine and sine of the angles by which RoPE turns the channel pairs of heads of size d."""
    rates = base ** (-torch.arange(0, d, 2, device=positions.device, dtype=dtype) / d)  # [d/2]
    turns = positions[..., None, None].to(dtype) * rates
    return turns.cos(), turns.sin()


def rotate(
    x: Float[Tensor, "b n h d"], positions: Int[Tensor, "b n"], base: float
) -> Float[Tensor, "b n h d"]:
    """Turn each pair of channels by an angle proportional to the token's position (RoPE).

    Channel i is paired with channel i + d/2, the half-split order of the model files on the Hub,
    and turned by positions * base^(-2i/d) radians, computed in float32 or wider.

    Args:
        x: queries or keys.
        positions: token positions, counted from 0.
        base: the slowest pair turns about once in 2*pi*base tokens.

    Source: Su et al. 2021, arXiv:2104.09864, Eq. 34.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    cos, sin = angles(positions, x.shape[-1], base, wide)
    first, second = x.to(wide).chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)
