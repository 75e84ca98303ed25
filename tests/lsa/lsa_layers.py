"""Layers with weights that matter, for the tests that compare them."""

import torch

from intuitive.common.decoder import DecoderConfig
from intuitive.common.runtime import seeded
from intuitive.lsa import LSAConfig
from intuitive.lsa.attention import LSAAttention, lsa_decoder

SMALL = LSAConfig(
    d_model=24,
    layers=("window", "csa", "hca", "csa"),
    memory_layers=(0, 1),
    n_heads=4,
    d_head=16,
    d_rope=8,
    q_rank=12,
    o_groups=2,
    o_rank=6,
    window=5,
    chunk_size=4,
    hca_size=6,
    n_index_heads=3,
    d_index=8,
    top_k=3,
)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def make_layer(kind, config=SMALL, seed=0):
    """A layer whose softmaxes are far from flat, and whose gains and sinks are all different."""
    attention = LSAAttention(config, kind).requires_grad_(False)
    draw = seeded(seed)
    for name, weight in attention.named_parameters():
        if weight.dim() == 2 and "slot_bias" not in name:
            weight.normal_(std=2 * weight.shape[1] ** -0.5, generator=draw)
        else:
            weight.normal_(generator=draw)
        if "norm" in name:
            weight.add_(1.5)
    return attention


def make_decoder(config=SMALL, seed=0, max_positions=256):
    """A decoder of such layers, whose text wanders and hangs on what its attention reads."""
    sizes = DecoderConfig(
        d_model=config.d_model,
        n_layers=len(config.layers),
        positions="none",
        tied_embeddings=False,  # tied, a random decoder repeats its last token for ever
        max_positions=max_positions,
    )
    decoder = lsa_decoder(config, sizes, generator=seeded(seed)).requires_grad_(False).eval()
    for i, layer in enumerate(decoder.layers):
        layer.attention = make_layer(config.layers[i], config, seed + i)
    decoder.embedding.weight.mul_(50)
    decoder.head.weight.mul_(20)
    return decoder


def draw_hidden(b, n, config=SMALL, seed=1):
    return torch.randn(b, n, config.d_model, generator=seeded(seed), dtype=torch.float32)


def draw_tokens(b, n, seed=1):
    return torch.randint(256, (b, n), generator=seeded(seed))


def places(b, n, start=0):
    return torch.arange(start, start + n).expand(b, n)


def run(attention, hidden, pieces=None, cache=None, before=None):
    """Output for a text in pieces with a cache, or whole; `before(cache)` comes before each."""
    b, n = hidden.shape[:2]
    if pieces is None:
        return attention(hidden, places(b, n))
    cache = cache or attention.make_cache(b, n, "cpu", hidden.dtype)
    parts, start = [], cache.length
    for part in hidden.split(pieces, 1):
        if before is not None:
            before(cache)
        parts.append(attention(part, places(b, part.shape[1], start), cache=cache))
        start += part.shape[1]
    return torch.cat(parts, 1)
