"""The pair around a small decoder of random weights, for which every character is a token.

It has the real pair's class and rooms, so that whatever is computed on it takes the real way.
"""

import torch

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import seeded
from intuitive.common.smollm import SmolLM2, Tokenizer
from intuitive.lclm.smollm import Pair, Ranks, untrained_pair

SIZES = DecoderConfig(
    vocab_size=256,
    d_model=32,
    n_layers=4,
    n_q_heads=2,
    n_kv_heads=2,
    d_head=16,
    d_ff=32,
    max_positions=8192,
)


class Letters(Tokenizer):
    """A tokenizer of single characters."""

    def __init__(self):
        pass  # no vocabulary

    @property
    def vocab_size(self):
        return 256

    def encode(self, text):
        return [min(ord(letter), 255) for letter in text]

    def decode(self, ids, *, skip_special=False):
        return "".join(chr(int(i)) for i in ids)

    def token_strings(self, ids):
        return [chr(int(i)) for i in ids]


def letter_pair(seed: int = 0) -> Pair:
    """A pair of random weights over letters; its adapters do something, unlike untrained ones."""
    decoder = Decoder(SIZES, generator=seeded(seed)).requires_grad_(False).eval()
    model = SmolLM2(decoder, Letters(), SIZES, end_of_text=0, end_of_turn=1)
    pair = untrained_pair(model, seed=seed, ranks=Ranks(encoder_attention=2, encoder_mlp=2))
    with torch.no_grad():
        for adapter in pair.model.adapters.values():
            adapter.w_2.weight.normal_(std=0.2, generator=seeded(seed))
    return pair
