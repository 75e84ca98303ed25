"""Exact facts of Latent Context Language Models: how many latents, and what formulas say."""

import math

from intuitive.lclm import cost, effective_ratio, latent_count

MILLION = 2**20


def latents() -> dict[str, int | float]:
    """Lengths at which windows add up to ⌈T/N⌉ latents, and tokens per position, tags counted."""
    lengths = range(1, 5001)
    right = sum(
        latent_count(n, ratio=16, window=1024) == math.ceil(n / 16)
        and latent_count(n, ratio=4, window=1024) == math.ceil(n / 4)
        for n in lengths
    )
    return {
        "lengths": len(lengths),
        "right": right,
        "effective_512": effective_ratio(512, ratio=16),
        "effective_million": effective_ratio(MILLION, ratio=16),
    }


def million_tokens() -> dict[str, int | float]:
    """GiB at the peak and seconds to the first token at a million tokens, by the formulas."""
    return {
        "raw_gib": cost.memory_gib(MILLION, ratio=1),
        "gib_16": cost.memory_gib(MILLION, ratio=16),
        "seconds_16": cost.ttft_seconds(MILLION, ratio=16),
    }
