"""Embeddings, a stack of layers, a norm and an output head; and what may go into it."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .cache import DecoderCache
from .config import DecoderConfig
from .layers import DecoderLayer, DenseAttention, RMSNorm
from .probe import Probe


def _table(n_rows: int, width: int) -> nn.Embedding:
    """An embedding that draws nothing: on the meta device a draw imports for a second."""
    return nn.Embedding.from_pretrained(torch.empty(n_rows, width), freeze=False)


class Decoder(nn.Module):
    """Embeddings, a stack of layers, a norm and an output head.

    Args:
        config: sizes.
        make_attention: called once per layer with the config; returns a module that keeps the
            attention contract of `intuitive.common.decoder`.
        dtype: of all weights, whatever torch's default is.
        generator: of the first weights, on the device they are made on; torch's own if None.

    Weights start normal with standard deviation 0.02 (layers that write to the residual stream:
    divided by sqrt(2 * n_layers)), gains at 1. Under `torch.device("meta")` nothing is drawn.
    """

    def __init__(
        self,
        config: DecoderConfig,
        make_attention: Callable[[DecoderConfig], nn.Module] = DenseAttention,
        *,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        device = torch.get_default_device()
        with torch.device("meta"):  # sizes only: the modules draw nothing of their own
            self.embedding = _table(config.vocab_size, config.d_model)
            if config.positions == "learned":
                self.position_embedding = _table(config.max_positions, config.d_model)
            self.layers = nn.ModuleList(
                DecoderLayer(config, make_attention(config)) for _ in range(config.n_layers)
            )
            self.norm = RMSNorm(config.d_model, config.norm_eps)
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.to(dtype)
        if device.type != "meta":
            self.to_empty(device=device)
            self._draw_weights(generator)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight

    @torch.no_grad()
    def _draw_weights(self, generator: torch.Generator | None) -> None:
        weights = dict(self.named_parameters())
        # Thrown away, as nn.Linear's own first weights were when the committed numbers were made.
        for name, weight in weights.items():
            if weight.dim() == 2 and "embedding" not in name:
                weight.uniform_(generator=generator)
        for name, weight in weights.items():
            into_stream = name.endswith(("w_o.weight", "w_down.weight"))
            std = 0.02 / (2 * self.config.n_layers) ** 0.5 if into_stream else 0.02
            if weight.dim() == 2:
                weight.normal_(std=std, generator=generator)
            else:
                weight.fill_(1.0)

    def exchange_attention(self, layer: int, module: nn.Module) -> nn.Module:
        """Put another attention module into one layer; returns the one that was there.

        Raises:
            ValueError: no such layer, or the module cannot make a cache.
        """
        if not 0 <= layer < self.config.n_layers:
            raise ValueError(f"layer={layer} must lie in [0, {self.config.n_layers}).")
        if not callable(getattr(module, "make_cache", None)):
            raise ValueError(
                f"{type(module).__name__} has no make_cache(batch, capacity, device, dtype): "
                "see the attention contract in the docstring of intuitive.common.decoder."
            )
        former = self.layers[layer].attention
        self.layers[layer].attention = module
        return former

    def make_cache(self, batch: int = 1, capacity: int | None = None) -> DecoderCache:
        """Empty caches for `batch` rows of up to `capacity` tokens (default: max_positions)."""
        weight = self.embedding.weight
        return DecoderCache(
            [
                layer.attention.make_cache(
                    batch, capacity or self.config.max_positions, weight.device, weight.dtype
                )
                for layer in self.layers
            ]
        )

    def hidden(
        self,
        tokens: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        cache: DecoderCache | None = None,
        probe: Probe | None = None,
        until_layer: int | None = None,
    ) -> Float[Tensor, "b n d_model"]:
        """The residual stream after the layers, before the final norm.

        Args:
            tokens: [b, n] token ids; or else
            embeddings: [b, n, d_model], in the place of embedded tokens.
            positions: [b, n] in [0, max_positions); default: counted on from the cache. They
                place the tokens for RoPE or learned positions; who sees whom follows the order.
            cache: from `make_cache`; it grows by n tokens, or stays as it was if anything raises.
            probe: is shown the tensors of its layers.
            until_layer: run only the first so many layers; not together with a cache.

        Raises:
            ValueError: an input with the wrong shape, dtype or range; the cache is full.
        """
        # The shapes are checked here, not by annotations: these are the inputs learners supply.
        start = 0 if cache is None else cache.length
        stream = self._enter(tokens, embeddings)
        b, n, _ = stream.shape
        if cache is not None and start + n > cache.capacity:
            raise ValueError(
                f"{n} new tokens after {start} exceed the cache's capacity of {cache.capacity}: "
                "make a larger cache or crop this one."
            )
        positions = self._place(positions, b, n, start, stream.device)
        if self.config.positions == "learned":
            stream = stream + self.position_embedding(positions)
        until_layer = self.config.n_layers if until_layer is None else until_layer
        if not 0 <= until_layer <= self.config.n_layers:
            raise ValueError(f"until_layer={until_layer} must lie in [0, {self.config.n_layers}].")
        if cache is not None and until_layer < self.config.n_layers:
            raise ValueError(
                f"until_layer={until_layer} with a cache would leave the later layers' caches "
                "behind: drop one of the two."
            )
        if probe is not None and not set(probe.layers) <= set(range(self.config.n_layers)):
            raise ValueError(
                f"probe.layers={probe.layers} must lie in [0, {self.config.n_layers})."
            )
        try:
            for index in range(until_layer):
                stream = self.layers[index](
                    stream,
                    positions,
                    cache=None if cache is None else cache.layers[index],
                    probe=None if probe is None else probe.at(index),
                )
        except BaseException:
            if cache is not None:
                cache.crop(start)
            raise
        return stream

    def logits(self, hidden: Float[Tensor, "b n d_model"]) -> Float[Tensor, "b n v"]:
        """Final norm and output head; also reads the stream between layers (logit lens)."""
        return self.head(self.norm(hidden))

    def forward(
        self,
        tokens: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        cache: DecoderCache | None = None,
        probe: Probe | None = None,
        last_only: bool = False,
        until_layer: int | None = None,
    ) -> Float[Tensor, "b n v"]:
        """Logits of the next token at every position, or at the last one only (then n = 1).

        Arguments and errors as in `hidden`.
        """
        hidden = self.hidden(
            tokens,
            embeddings=embeddings,
            positions=positions,
            cache=cache,
            probe=probe,
            until_layer=until_layer,
        )
        return self.logits(hidden[:, -1:] if last_only else hidden)

    def _enter(self, tokens: Tensor | None, embeddings: Tensor | None) -> Tensor:
        if (tokens is None) == (embeddings is None):
            given = "neither" if tokens is None else "both"
            raise ValueError(f"got {given} of tokens and embeddings; pass exactly one.")
        if embeddings is not None:
            if embeddings.dim() != 3 or embeddings.shape[-1] != self.config.d_model:
                raise ValueError(
                    f"embeddings have shape {tuple(embeddings.shape)}; "
                    f"[b, n, d_model={self.config.d_model}] is needed."
                )
            if embeddings.dtype != self.embedding.weight.dtype:
                raise ValueError(
                    f"embeddings are {embeddings.dtype}, the decoder is "
                    f"{self.embedding.weight.dtype}: convert one with .to(dtype)."
                )
            entered = embeddings
        else:
            if tokens.dtype not in (torch.int64, torch.int32):
                raise ValueError(
                    f"tokens are {tokens.dtype}; token ids must be int64 or int32. "
                    "Embeddings go into the embeddings= argument."
                )
            if tokens.dim() != 2:
                raise ValueError(f"tokens have shape {tuple(tokens.shape)}; [b, n] is needed.")
            entered = tokens
        if entered.shape[0] == 0 or entered.shape[1] == 0:
            raise ValueError(
                f"the prompt is empty (shape {tuple(entered.shape)}): give at least one token."
            )
        if entered.device != self.embedding.weight.device:
            raise ValueError(
                f"the prompt is on {entered.device}, the decoder on "
                f"{self.embedding.weight.device}: move one with .to(device)."
            )
        if embeddings is not None:
            return embeddings
        lowest, highest = int(tokens.min()), int(tokens.max())
        if lowest < 0 or highest >= self.config.vocab_size:
            raise ValueError(
                f"token ids from {lowest} to {highest} must lie in "
                f"[0, {self.config.vocab_size}): were they made by another tokenizer?"
            )
        return self.embedding(tokens)

    def _place(
        self, positions: Tensor | None, b: int, n: int, start: int, device: torch.device
    ) -> Tensor:
        limit = self.config.max_positions
        if positions is None:
            if start + n > limit:
                raise ValueError(
                    f"{start + n} tokens are longer than max_positions={limit}: shorten the text."
                )
            return torch.arange(start, start + n, device=device).expand(b, n)
        if positions.shape != (b, n) or positions.is_floating_point():
            raise ValueError(
                f"positions are {positions.dtype} of shape {tuple(positions.shape)}; "
                f"integers of shape {(b, n)} are needed."
            )
        if not 0 <= int(positions.min()) <= int(positions.max()) < limit:
            raise ValueError(
                f"positions from {int(positions.min())} to {int(positions.max())} "
                f"must lie in [0, max_positions={limit})."
            )
        return positions
