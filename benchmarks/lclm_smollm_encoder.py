"""What trains beside the shipped weights: a whole encoder, and heads that read latents directly.

A whole encoder is trained in every weight and stored as its best low-rank change of the first
layers. The heads tell the encoder at once what a latent has to hold; they are thrown away.
"""

import torch
import torch.nn.functional as F
from lclm_fast_step import encoder_states
from torch import Tensor, nn

from intuitive.common.low_rank import LowRankLinear
from intuitive.lclm.reference import mean_pool
from intuitive.lclm.smollm import RATIOS, SmolLatents

LEAST = 0.05  # standard deviation that a channel of pooled states is taken to have at least


def _owners(model: SmolLatents, kind: type) -> list[tuple[str, nn.Module, str, nn.Module]]:
    """Name, parent, name in it and module, of the encoder's modules of a kind."""
    found = []
    for name, module in list(model.encoder.named_modules()):
        if isinstance(module, kind):
            parent, leaf = name.rsplit(".", 1)
            found.append((name, model.encoder.get_submodule(parent), leaf, module))
    return found


def open_encoder(model: SmolLatents) -> dict[str, tuple[nn.Parameter, LowRankLinear]]:
    """Put weights of their own, that all train, in the place of the encoder's low-rank changes.

    Returns:
        By name, the new weight and the layer that it stands for, which `close_encoder` needs.
    """
    opened = {}
    for name, parent, leaf, low in _owners(model, LowRankLinear):
        n_out, n_in = low.frozen.shape
        with torch.device("meta"):
            layer = nn.Linear(n_in, n_out, bias=False)
        layer.weight = nn.Parameter(low.frozen.clone())
        setattr(parent, leaf, layer)
        opened[f"encoder.{name}"] = (layer.weight, low)
    return opened


@torch.no_grad()
def close_encoder(
    model: SmolLatents,
    opened: dict[str, tuple[nn.Parameter, LowRankLinear]],
    wide: dict[int, Tensor],
) -> tuple[dict[str, Tensor], float]:
    """Put the low-rank layers back, with the best change of their rank for each trained weight.

    Args:
        model: with an open encoder.
        opened: what `open_encoder` returned.
        wide: trained weights in float32, by the id of their parameter.

    Returns:
        The changes by name in float32, and which share of the squared change they hold.
    """
    found, kept, whole = {}, 0.0, 0.0
    for name, (weight, low) in opened.items():
        change = wide.get(id(weight), weight.detach()).float() - low.frozen.float()
        u, s, vh = torch.linalg.svd(change, full_matrices=False)
        rank = low.a.shape[0]
        root = s[:rank].sqrt()
        found[f"{name}.a"] = root[:, None] * vh[:rank]
        found[f"{name}.b"] = u[:, :rank] * root
        kept += float(s[:rank].square().sum())
        whole += float(s.square().sum())
        parent, leaf = name.removeprefix("encoder.").rsplit(".", 1)
        setattr(model.encoder.get_submodule(parent), leaf, low)
        low.a.copy_(found[f"{name}.a"])
        low.b.copy_(found[f"{name}.b"])
    return found, kept / max(whole, 1e-30)


def trained_parts(
    model: SmolLatents, opened: dict, heads: "PlaceHeads | None"
) -> dict[str, dict[str, nn.Parameter]]:
    """All weights that train, by part: those of `SmolLatents.trained`, places apart, and heads."""
    parts = model.trained()
    places = {n: p for n, p in parts["encoder"].items() if n.startswith("places.")}
    low = {n: p for n, p in parts["encoder"].items() if n not in places}
    parts["encoder"] = {name: weight for name, (weight, _) in opened.items()} if opened else low
    parts["places"] = places
    if heads is not None:
        parts["heads"] = dict(heads.named_parameters())
    return parts


@torch.no_grad()
def standardise(model: SmolLatents, tokens: Tensor) -> None:
    """Let every adapter begin with channels of mean 0 and deviation 1 on these texts [b, n].

    Three quarters of the squared length of SmolLM2's pooled states are the same in all of them.
    """
    for ratio in RATIOS:
        adapter = model.adapter_for(ratio)
        if ratio != RATIOS[0] and adapter is model.adapter_for(ratio // 2):
            continue
        states = mean_pool(encoder_states(model, tokens, ratio)[:, ratio:], ratio)
        flat = states.flatten(0, 1).float()
        flat = flat / (flat.square().mean(1, keepdim=True) + adapter.norm.eps).sqrt()
        gain = 1 / flat.std(0).clamp(min=LEAST)
        adapter.norm.weight.copy_(gain)
        adapter.w_1.bias.copy_(-(adapter.w_1.weight.float() @ (gain * flat.mean(0))))


class PlaceHeads(nn.Module):
    """For each ratio and place in a group, a linear map from a latent to its token's embedding.

    Args:
        model: whose embeddings and widths these are.
        generator: of the first weights.
    """

    def __init__(self, model: SmolLatents, generator: torch.Generator | None = None) -> None:
        super().__init__()
        like = model.tags
        width = like.shape[1]
        self.maps = nn.ParameterDict()
        for ratio in RATIOS:
            drawn = like.new_empty(ratio * width, width).normal_(
                std=width**-0.5, generator=generator
            )
            self.maps[str(ratio)] = nn.Parameter(drawn)

    def forward(self, model: SmolLatents, latents: Tensor, tokens: Tensor, ratio: int) -> Tensor:
        """Mean loss of naming each token [b, n] from its group's latent [b, m, d] alone."""
        whole = tokens.shape[1] // ratio  # a last group that is not full is left out
        read = F.linear(latents[:, :whole], self.maps[str(ratio)])
        read = read.reshape(-1, latents.shape[-1])
        norm = model.decoder.norm
        read = F.rms_norm(read, (read.shape[-1],), norm.weight, norm.eps)
        logits = F.linear(read, model.decoder.head.weight).float()
        return F.cross_entropy(logits, tokens[:, : whole * ratio].flatten())
