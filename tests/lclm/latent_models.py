"""Small models and texts that the tests of this folder share."""

import torch
from torch import Tensor

from intuitive.common.decoder import DecoderConfig
from intuitive.lclm import LatentContextModel, LCLMConfig

VOCABULARY = 64
SMALL = DecoderConfig(vocab_size=VOCABULARY, d_model=32, d_head=8, d_ff=64)


def model_of(seed: int = 0, dtype: torch.dtype = torch.float32, **settings) -> LatentContextModel:
    sizes = {"encoder": SMALL, "decoder": SMALL, "ratio": 4, "window": 8}
    generator = torch.Generator().manual_seed(seed)
    return LatentContextModel(LCLMConfig(**sizes | settings), dtype=dtype, generator=generator)


def text(n: int, seed: int = 0, rows: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (n,) if rows is None else (rows, n), generator=generator)
