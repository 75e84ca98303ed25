"""First weights of an Index Branch from the main heads that it is to imitate.

A main head finds a word that was read before with its slowest channels: RoPE turns them so little
that even far apart they compare what tokens say. An Index Branch has one key for all groups, so
each group gets some of its channels: those that RoPE leaves alone take the slowest channels of the
group's key and mean query, the slowest first and the groups in turn; the others take channels that
turn about as fast as they do.

Source: ours; the paper says nothing of first weights.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from intuitive.common.decoder import DenseAttention

from .config import MSAConfig

SPREAD = 0.04  # standard deviation of what is taken over, so that one learning rate fits all
NOISE = 0.005  # of what is drawn besides
GAIN = 1.5  # of the norms: about the sharpness of a main head


def main_start(
    attention: DenseAttention, msa: MSAConfig, generator: torch.Generator
) -> tuple[Float[Tensor, "h_kv_d_idx d_model"], Float[Tensor, "d_idx d_model"]]:
    """Index query and key projections made of the main heads'; norms should start at `GAIN`.

    Args:
        attention: the dense layer.
        msa: sizes.
        generator: of the small noise that is added, on the CPU.

    Returns:
        Both in float32, on the CPU.
    """
    h, d, width = msa.n_kv_heads, msa.d_index, attention.config.d_model
    rotary = d if msa.d_rotary is None else msa.d_rotary
    main_q = attention.w_q.weight.detach().float().cpu().view(h, -1, msa.d_head, width).mean(1)
    main_q = main_q * math.sqrt(msa.group_size)
    main_k = attention.w_k.weight.detach().float().cpu().view(h, msa.d_head, width)
    w_q = torch.empty(h, d, width).normal_(std=NOISE, generator=generator)
    w_k = torch.empty(d, width).normal_(std=NOISE, generator=generator)
    scale = SPREAD / main_k.std()
    for first, pairs in _channels(h, msa.d_head, d, rotary):
        for i, (group, pair) in enumerate(pairs):
            for part in (0, 1):  # RoPE pairs channel i with channel i + d/2
                to, of = first + i + part * len(pairs), pair + part * (msa.d_head // 2)
                w_k[to] += scale * main_k[group, of]
                w_q[group, to] += scale * main_q[group, of]
    return w_q.flatten(0, 1), w_k


def _channels(h: int, d_head: int, d: int, rotary: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """For the turned channels and for the others: the first one, and (group, pair) of each pair."""
    of_head, turned = d_head // 2, rotary // 2
    alike = [(i % h, min(of_head - 1, round(i * of_head / turned))) for i in range(turned)]
    slowest = [(group, pair) for pair in range(of_head - 1, -1, -1) for group in range(h)]
    return [(0, alike), (rotary, slowest[: (d - rotary) // 2])]
