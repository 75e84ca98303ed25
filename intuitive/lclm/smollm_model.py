"""The weights of the real pair: an encoder and a decoder around one frozen SmolLM2.

`intuitive.lclm.smollm` says what it is and where it departs from the paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from intuitive.common.low_rank import changes, low_rank_decoder
from intuitive.common.smollm import SmolLM2

from .adapter import Adapter
from .config import LCLMConfig
from .model import LatentContextModel
from .reference import POOL, Window, mean_pool, pool_ragged

RATIOS = (4, 8, 16)
OWN = (4, 8)  # ratios with an adapter of their own
WINDOW = 256  # tokens per encoder pass
ENCODER_LAYERS = 4
SMALL = 0.1  # factor on the adapter's output; a channel of an embedding has about this size
LIMIT = 0.25  # of the root mean square of the adapter's output


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Ranks of the low-rank changes; 0 for none."""

    encoder_attention: int = 48
    encoder_mlp: int = 48
    decoder_attention: int = 16
    decoder_mlp: int = 0


class SmallAdapter(Adapter):
    """An adapter whose output is about as small as a token's embedding, and cannot grow far.

    It is multiplied by a factor, and shortened so that its root mean square stays below a limit.
    A step of AdamW moves every weight by about the learning rate, and 576 of them add up in each
    channel: without the two, a step at 1e-3 moved latents by twice an embedding's size. They grew
    to six times a token's length, the mean embedding drowned, and a decoder that trained for
    2,400 steps learnt to look away.
    """

    factor, limit = SMALL, LIMIT  # 1 and infinity in weights from before they were introduced

    def forward(self, pooled: Float[Tensor, "b m wide"]) -> Float[Tensor, "b m d_dec"]:
        small = self.factor * super().forward(pooled)
        over = small.float().square().mean(-1, keepdim=True) / self.limit**2
        return small * (1 + over).rsqrt().to(small.dtype)


class SmolLatents(LatentContextModel):
    """Encoder, adapters and decoder around one frozen SmolLM2.

    Args:
        model: SmolLM2, on the device and in the dtype that everything gets.
        ranks: of the low-rank changes; those of the shipped weights if None.
        own: ratios with an adapter of their own; another takes that of the ratio below it.
        factor: on the adapters' output.
        limit: of the root mean square of the adapters' output.
        generator: of the first weights.
    """

    def __init__(
        self,
        model: SmolLM2,
        ranks: Ranks | None = None,
        *,
        own: Sequence[int] = OWN,
        factor: float = SMALL,
        limit: float = LIMIT,
        generator: torch.Generator | None = None,
    ) -> None:
        ranks = ranks or Ranks()
        encoder = low_rank_decoder(
            model.decoder,
            n_layers=ENCODER_LAYERS,
            attention=ranks.encoder_attention,
            mlp=ranks.encoder_mlp,
            generator=generator,
        )
        decoder = low_rank_decoder(
            model.decoder,
            attention=ranks.decoder_attention,
            mlp=ranks.decoder_mlp,
            generator=generator,
        )
        config = LCLMConfig(
            ratio=RATIOS[0],
            ratios=RATIOS[1:],
            window=WINDOW,
            residual=True,
            encoder=encoder.config,
            decoder=decoder.config,
        )
        super().__init__(config, encoder=encoder, decoder=decoder, generator=generator)
        self.ranks, self.factor, self.limit = ranks, factor, limit
        like = self.tags
        with torch.inference_mode(False), torch.no_grad():
            for adapter in self.adapters.values():
                adapter.__class__ = SmallAdapter
                adapter.factor, adapter.limit = factor, limit
                adapter.w_2.weight.zero_()  # latents begin as mean embeddings
            for below, ratio in pairwise(RATIOS):
                if ratio not in own:
                    self.adapters[str(ratio)] = self.adapters[str(below)]
            self.places = nn.ParameterDict(
                {str(n): self._drawn(n, like.shape[1], like, generator) for n in RATIOS}
            )

    def trained(self) -> dict[str, dict[str, nn.Parameter]]:
        """All trained weights by part: "adapter", "encoder", "decoder" and "tags"."""
        encoder = {f"encoder.{name}": p for name, p in changes(self.encoder).items()}
        encoder |= {f"places.{name}": p for name, p in self.places.items()}
        return {
            "adapter": {f"adapters.{n}": p for n, p in self.adapters.named_parameters()},
            "encoder": encoder,
            "decoder": {f"decoder.{name}": p for name, p in changes(self.decoder).items()},
            "tags": {"tags": self.tags},
        }

    def weights(self) -> dict[str, nn.Parameter]:
        """All trained weights by name."""
        return {name: p for part in self.trained().values() for name, p in part.items()}

    @torch.no_grad()
    def put(self, weights: Mapping[str, Tensor]) -> None:
        """Set trained weights by name.

        Raises:
            ValueError: other names or shapes than `weights()` has.
        """
        ours = self.weights()
        if ours.keys() != weights.keys():
            odd = sorted(ours.keys() ^ weights.keys())
            raise ValueError(f"{len(odd)} names do not fit, such as {odd[0]}: other ranks?")
        for name, weight in weights.items():
            if ours[name].shape != weight.shape:
                raise ValueError(
                    f"{name} has shape {tuple(weight.shape)}, {tuple(ours[name].shape)} is needed."
                )
            ours[name].copy_(weight)

    def _pass(
        self,
        tokens: Int[Tensor, "r length"],
        place: Window,
        ratio: int,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        embedded = self.encoder.embedding(tokens)  # [r, length, d]; also the decoder's
        if str(ratio) in self.places:
            where = torch.arange(tokens.shape[1], device=tokens.device) % ratio
            stream = embedded + self.places[str(ratio)][where]
        else:
            stream = embedded
        states = self.encoder.norm(self.encoder.hidden(embeddings=stream))
        if lengths is None:
            return POOL["mean"](states, ratio), mean_pool(embedded, ratio)
        pooled = pool_ragged("mean", states, ratio, lengths)
        return pooled, pool_ragged("mean", embedded, ratio, lengths)
