"""A pair without weights or a vocabulary of words: every character is a token.

It has the real pair's class and rooms, so that whatever is computed on it takes the real way.
"""

from types import SimpleNamespace

from intuitive.common.decoder import DecoderConfig
from intuitive.common.runtime import seeded
from intuitive.lclm.config import LCLMConfig
from intuitive.lclm.model import LatentContextModel
from intuitive.lclm.smollm import RATIOS, Pair


class Letters:
    """A tokenizer of single characters."""

    vocab_size = 256

    def encode(self, text):
        return [min(ord(letter), 255) for letter in text]

    def decode(self, ids, *, skip_special=False):
        return "".join(chr(int(i)) for i in ids)

    def token_strings(self, ids):
        return [chr(int(i)) for i in ids]


def letter_pair(seed=0):
    """A pair of random weights over letters."""
    sizes = DecoderConfig(
        vocab_size=256,
        d_model=32,
        n_layers=2,
        n_q_heads=2,
        n_kv_heads=2,
        d_head=16,
        d_ff=32,
        max_positions=8192,
    )
    config = LCLMConfig(
        ratio=RATIOS[0], ratios=RATIOS[1:], window=256, encoder=sizes, decoder=sizes
    )
    model = LatentContextModel(config, generator=seeded(seed)).requires_grad_(False).eval()
    smollm = SimpleNamespace(tokenizer=Letters(), decoder=model.decoder)
    return Pair(smollm, model, {})
