"""Low-rank changes to frozen linear layers.

Source: Hu et al. 2021, arXiv:2106.09685 (LoRA).
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .checks import whole
from .decoder import Decoder, DecoderLayer, DenseAttention

ATTENTION = ("w_q", "w_k", "w_v", "w_o")
MLP = ("w_gate", "w_up", "w_down")


class LowRankLinear(nn.Module):
    """W x + B A x: the weight W is another module's and stays frozen, A and B train.

    Args:
        weight: [out, in], shared and not copied.
        rank: rows of A.
        generator: of A, normal with standard deviation 1/√in; B starts at 0.
    """

    def __init__(
        self, weight: Tensor, rank: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        rank = whole("rank", rank, low=1)
        n_out, n_in = weight.shape
        self.register_buffer("frozen", weight.detach(), persistent=False)  # the same memory
        a = torch.empty(rank, n_in, dtype=weight.dtype, device=weight.device)
        self.a = nn.Parameter(a.normal_(std=n_in**-0.5, generator=generator))
        self.b = nn.Parameter(a.new_zeros(n_out, rank))

    def forward(self, x: Float[Tensor, "*b d_in"]) -> Float[Tensor, "*b d_out"]:
        return F.linear(x, self.frozen) + F.linear(F.linear(x, self.a), self.b)


def low_rank_decoder(
    base: Decoder,
    *,
    n_layers: int | None = None,
    attention: int = 0,
    mlp: int = 0,
    generator: torch.Generator | None = None,
) -> Decoder:
    """A decoder that shares all weights with `base` and adds low-rank changes of its own.

    Args:
        base: frozen; it stays as it is and computes what it did.
        n_layers: its first so many layers; all if None.
        attention: rank in the four matrices of each layer's attention; 0 for no change there.
        mlp: rank in the three of each feed-forward layer.
        generator: of the first weights; the changes themselves start at 0.

    Raises:
        ValueError: more layers than `base` has, or a layer whose attention is not dense.
    """
    n_layers = base.config.n_layers if n_layers is None else n_layers
    n_layers = whole("n_layers", n_layers, low=1, high=base.config.n_layers)
    config = replace(base.config, n_layers=n_layers)
    with torch.device("meta"):
        made = Decoder(config)
    made.embedding, made.norm, made.head = base.embedding, base.norm, base.head
    if config.positions == "learned":
        made.position_embedding = base.position_embedding
    ranks = dict.fromkeys(ATTENTION, whole("attention", attention, low=0))
    ranks |= dict.fromkeys(MLP, whole("mlp", mlp, low=0))
    for layer, theirs in zip(made.layers, base.layers, strict=False):
        if type(theirs.attention) is not DenseAttention:
            raise ValueError(
                f"the base has {type(theirs.attention).__name__} in a layer: low-rank changes are "
                "made for DenseAttention."
            )
        layer.attention_norm, layer.mlp_norm = theirs.attention_norm, theirs.mlp_norm
        for name, rank in ranks.items():
            ours, other = _owner(layer, name), getattr(_owner(theirs, name), name)
            if rank:
                other = LowRankLinear(other.weight, rank, generator=generator)
            setattr(ours, name, other)
    return made


def _owner(layer: DecoderLayer, name: str) -> nn.Module:
    return layer.attention if name in ATTENTION else layer.mlp


def changes(decoder: nn.Module) -> dict[str, nn.Parameter]:
    """The low-rank weights of a module by name, without the frozen ones."""
    return {
        f"{name}.{part}": parameter
        for name, module in decoder.named_modules()
        if isinstance(module, LowRankLinear)
        for part, parameter in module.named_parameters()
    }
