"""Rotary positions as DeepSeek-V4 turns them, YaRN, and the Walsh-Hadamard transform.

Neighbouring channels form a pair, and only the last `d_rope` channels of a head are turned.
`intuitive.common.decoder.rotate` pairs channel i with i + d/2 and turns them all: the same
mathematics in another order of channels, and not exchangeable for trained weights.

Source: Su et al. 2021, arXiv:2104.09864; Peng et al. 2023, arXiv:2309.00071 (YaRN).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .config import LSAConfig

BETA_FAST, BETA_SLOW = (
    32.0,
    1.0,
)  # turns within the first length: above the one kept, below stretched


def rates(
    d_rope: int, base: float, *, yarn_factor: float = 1.0, yarn_length: int = 65_536
) -> Float[Tensor, " pairs"]:
    """Radians per token of each pair of channels, from fast to slow.

    Args:
        d_rope: channels turned; even.
        base: the slowest pair turns about once in 2π·base tokens.
        yarn_factor: pairs that turn less than once in `yarn_length` tokens are slowed by so much,
            pairs that turn 32 times stay as they are, those between are mixed. 1 changes nothing.
        yarn_length: tokens that the model was first trained on.

    Differs: YaRN's rescaling of the logits is left out, as in V4.
    """
    plain = base ** (-torch.arange(0, d_rope, 2, dtype=torch.float32) / max(d_rope, 1))
    if yarn_factor == 1:
        return plain

    def pair_that_turns(times: float) -> float:
        return d_rope * math.log(yarn_length / (times * 2 * math.pi)) / (2 * math.log(base))

    first = max(math.floor(pair_that_turns(BETA_FAST)), 0)
    last = min(math.ceil(pair_that_turns(BETA_SLOW)), d_rope - 1)
    ramp = (torch.arange(d_rope // 2, dtype=torch.float32) - first) / max(last - first, 1e-3)
    stretched = ramp.clamp(0, 1)
    return plain / yarn_factor * stretched + plain * (1 - stretched)


def layer_rates(config: LSAConfig, *, compressed: bool) -> Float[Tensor, " pairs"]:
    """`rates` of the CSA and HCA layers, or of those that have a window only."""
    if not compressed:
        return rates(config.d_rope, config.rope_base)
    return rates(
        config.d_rope,
        config.compressed_rope_base,
        yarn_factor=config.yarn_factor,
        yarn_length=config.yarn_length,
    )


def turn(
    x: Float[Tensor, "*axes d"],
    positions: Int[Tensor, "*places"],
    rates: Float[Tensor, " pairs"],
    *,
    back: bool = False,
) -> Float[Tensor, "*axes d"]:
    """Turn the last channels of each vector by its position; `back` undoes it.

    Args:
        x: vectors; their leading axes are those of `positions`, with or without one of heads.
        positions: counted from 0.
        rates: radians per token of each pair.
        back: turn the other way.
    """
    if not len(rates):
        return x
    wide = torch.promote_types(x.dtype, torch.float32)
    angles = positions[..., None].to(wide) * rates.to(x.device, wide)  # [*places, pairs]
    if x.dim() > angles.dim():
        angles = angles[..., None, :]  # the same for every head
    cos, sin = angles.cos(), -angles.sin() if back else angles.sin()
    still, turned = x.split((x.shape[-1] - 2 * len(rates), 2 * len(rates)), dim=-1)
    pairs = turned.to(wide).unflatten(-1, (-1, 2))
    first, second = pairs.unbind(-1)
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), -1)
    return torch.cat((still, turned.flatten(-2).to(x.dtype)), dim=-1)


def hadamard(x: Float[Tensor, "*axes d"]) -> Float[Tensor, "*axes d"]:
    """Normalised Walsh-Hadamard transform of the last axis: it spreads one channel over all.

    A rotation, and its own inverse, so that products of two transformed vectors are unchanged;
    it is there because spread values lose less in fp8.

    Raises:
        ValueError: the axis is no power of two long.
    """
    d = x.shape[-1]
    if d & (d - 1) or not d:
        raise ValueError(f"{d} channels: the Walsh-Hadamard transform needs a power of two.")
    spread, half = x, 1
    while half < d:
        spread = spread.unflatten(-1, (-1, 2, half))
        first, second = spread.unbind(-2)
        spread = torch.stack((first + second, first - second), -2).flatten(-3)
        half *= 2
    return spread / math.sqrt(d)
