"""Random numbers."""

import torch
from jaxtyping import Float
from torch import Tensor


def uniform(*shape: int, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Numbers in [0, 1) on the generator's device, float32 whatever torch's default is."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)
