"""A decoder of SmolLM2's shape with random weights, so that tests need no file."""

import functools

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import seeded

CONFIG = DecoderConfig(
    vocab_size=97,
    d_model=576,
    n_layers=30,
    n_q_heads=9,
    n_kv_heads=3,
    d_head=64,
    d_ff=32,
    max_positions=512,
    rope_base=100_000.0,
)


@functools.cache
def random_smollm() -> Decoder:
    """The decoder; its attention is made sharp enough to prefer some tokens."""
    decoder = Decoder(CONFIG, generator=seeded(0)).requires_grad_(False)
    for layer in decoder.layers:
        layer.attention.w_q.weight *= 3
        layer.attention.w_k.weight *= 3
    return decoder
