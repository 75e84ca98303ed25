"""What SmolLM2 leaves behind for a Memory Indexer and for recordings.

A text is read as it stands; its last part counts as decoded. `smollm` says what is taken.

Source: arXiv:2606.09079v2, section 2.2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from intuitive.common.checks import whole
from intuitive.common.decoder import Decoder, DecoderCache, Probe, Seen, block_mass
from intuitive.common.runtime import check, never

from .config import LSAConfig
from .indexer_training import Document
from .labels import positive_weights, window_labels
from .smollm import (
    D_KV,
    N_LAYERS,
    NEWEST,
    VOTERS,
    SmolIndexers,
    golden_of,
    index_keys,
    newest_mean,
    page_bounds,
    side_by_side,
)


@dataclass(frozen=True, eq=False)
class SmolTrace:
    """What SmolLM2's layers did in the decoded part of one text, with everything to be read.

    The last chunk may still be open at the last step; it is among `chunks` nevertheless.
    """

    config: LSAConfig
    hidden: Float[Tensor, "layers steps d_model"]  # target layers; newest tokens before each step
    positions: Int[Tensor, " steps"]  # of the token before each step
    keys: Float[Tensor, "layers closed_chunks d_kv"]  # target layers; each chunk's own
    closed: Int[Tensor, " steps"]  # chunks that exist before each step
    golden: Bool[Tensor, "steps chunks"]  # chunks that enough voters need; the sink never is
    # What training does not need, and `harvest` leaves out for it:
    mass: Float[Tensor, "steps chunks"] | None  # share of attention, mean over heads and layers
    native: Float[Tensor, "steps chunks"] | None  # mean over heads, the greatest of all layers
    bounds: Float[Tensor, "steps chunks"] | None  # Quest's, before each step, a softmax; likewise

    @property
    def n_chunks(self) -> int:
        """Chunks that are whole before the last step."""
        return int(self.closed[-1])

    def document(self, centre: Float[Tensor, "layers d_kv"], *, stride: int = 1) -> Document:
        """All that the training of Memory Indexers needs, at every `stride`th step.

        Args:
            centre: mean index key of each target layer over all training texts.
            stride: steps between triggers.
        """
        stride = whole("stride", stride, low=1)
        n, config = self.keys.shape[1], self.config
        golden = pad(self.golden, (0, max(0, n - self.golden.shape[1])))[:, :n]
        closed = self.closed[::stride]
        chunk = torch.arange(n, device=closed.device)
        return Document(
            hidden=self.hidden[:, ::stride],
            positions=self.positions[::stride],
            keys=side_by_side(self.keys, centre, config.d_index // D_KV),
            closed=closed,
            labels=window_labels(golden, self.closed, lookahead=config.lookahead, stride=stride),
            candidates=(chunk >= config.sink) & (chunk < closed[:, None] - config.tail_chunks),
            weights=positive_weights(golden),
        )


class Watcher:
    """Gathers a `SmolTrace` while a decoder reads, in one call or token by token.

    First the prompt is read with `prompt`, then any number of calls with `steps` follow, each with
    the same cache.

    Args:
        decoder: SmolLM2, or one that only masks what it reads.
        config: from `smollm_config`.
        capacity: tokens of the whole text.

    Raises:
        ValueError: a decoder of another size than the config's.
    """

    def __init__(self, decoder: Decoder, config: LSAConfig, capacity: int) -> None:
        if (decoder.config.n_layers, decoder.config.d_model) != (
            len(config.layers),
            config.d_model,
        ):
            raise ValueError(
                f"the decoder has {decoder.config.n_layers} layers of {decoder.config.d_model} "
                f"channels, the config {len(config.layers)} of {config.d_model}."
            )
        self.decoder, self.config, self.capacity = decoder, config, capacity
        self.cache: DecoderCache = decoder.make_cache(1, capacity)
        self._hidden: dict[int, list[Tensor]] = {layer: [] for layer in config.memory_layers}
        self._keys: dict[int, list[Tensor]] = {layer: [] for layer in config.memory_layers}
        self._closed: list[Tensor] = []
        self._parts: dict[str, list[Tensor]] = {name: [] for name in ("golden", "mass", "native")}
        self._bounds: list[Tensor] = []
        self._n_prompt = 0

    @torch.no_grad()
    def prompt(self, tokens: Int[Tensor, " n"]) -> Float[Tensor, " d_model"]:
        """Read the prompt; returns the stream of its last token, before the final norm."""
        n = self._n_prompt = len(tokens)
        bounds = self._no_bounds(1, n)

        def receive(seen: Seen) -> None:
            self._remember(seen)
            self._bound(bounds, seen.q[0, -1:], seen.k[0], first=n - 1)

        stream = self.decoder.hidden(
            tokens[None], cache=self.cache, probe=Probe(tuple(range(N_LAYERS)), receive)
        )
        for layer, parts in self._hidden.items():
            self._hidden[layer] = [parts[0][-NEWEST:]]
        self._bounds = [bounds]
        return stream[0, -1]

    @torch.no_grad()
    def steps(
        self, tokens: Int[Tensor, " steps"], *, stale: Callable[[], bool] = never
    ) -> Float[Tensor, "steps d_model"]:
        """Read tokens, each of which is a decode step; returns their stream."""
        size, first = self.config.chunk_size, self.cache.length
        closed = torch.arange(first, first + len(tokens), device=tokens.device) // size
        n_chunks = -(-(first + len(tokens)) // size)
        there = torch.arange(n_chunks, device=tokens.device) < closed[:, None]
        mean = torch.zeros(len(tokens), n_chunks, device=tokens.device, dtype=torch.float32)
        native, shares = mean.clone(), []
        bounds = self._no_bounds(len(tokens), first + len(tokens))

        def receive(seen: Seen) -> None:
            check(stale)
            self._remember(seen)
            share = block_mass(seen.q[0], seen.k[0], block_size=size).mean(1)
            mean.add_(share, alpha=1 / N_LAYERS)
            torch.maximum(native, share, out=native)
            if seen.layer in VOTERS:
                shares.append(share)
            self._bound(bounds, seen.q[0], seen.k[0], first=first)

        stream = self.decoder.hidden(
            tokens[None], cache=self.cache, probe=Probe(tuple(range(N_LAYERS)), receive)
        )
        golden = golden_of(shares, self.config)
        self._closed.append(closed)
        self._bounds.append(bounds)
        for name, part in zip(self._parts, (golden & there, mean, native), strict=True):
            self._parts[name].append(part)
        return stream[0]

    def _no_bounds(self, rows: int, n: int) -> Float[Tensor, "rows pages"]:
        device = self.decoder.embedding.weight.device
        return torch.zeros(rows, n // self.config.chunk_size, device=device, dtype=torch.float32)

    def _bound(self, bounds: Tensor, q: Tensor, k: Tensor, *, first: int) -> None:
        """Raise bounds to what one layer's queries, the first at `first`, think of each page."""
        size = self.config.chunk_size
        bound = page_bounds(q, k, size)  # [n, h_q, pages]
        page = torch.arange(bound.shape[-1], device=bound.device)
        closed = torch.arange(first + 1, first + 1 + len(q), device=bound.device) // size
        there = (page < closed[:, None]) & (page >= self.config.sink)
        likely = bound.masked_fill(~there[:, None], -torch.inf).softmax(-1).nan_to_num(0.0).mean(1)
        torch.maximum(bounds, likely, out=bounds)

    def _remember(self, seen: Seen) -> None:
        if seen.layer in self._hidden:
            hidden = seen.hidden[0]
            self._hidden[seen.layer].append(hidden)
            self._keys[seen.layer].append(self.decoder.layers[seen.layer].attention.w_k(hidden))

    @torch.no_grad()
    def ask(self, indexers: SmolIndexers) -> Float[Tensor, "layers chunks"]:
        """Logits of the chunks that exist now, from the last token read."""
        newest = torch.stack(
            [torch.cat(parts)[-NEWEST:].mean(0, keepdim=True) for parts in self._hidden.values()]
        )
        position = torch.tensor([self.cache.length - 1], device=newest.device)
        return indexers(newest, position, self.index_keys())[0]

    def bounds(self) -> Float[Tensor, " pages"]:
        """What Quest thinks of the chunks that exist now, from the last token read."""
        return self._bounds[-1][-1]

    def index_keys(self) -> Float[Tensor, "layers chunks d_kv"]:
        """Index keys of all whole chunks so far, of the target layers."""
        return torch.stack(
            [index_keys(torch.cat(parts), self.config.chunk_size) for parts in self._keys.values()]
        )

    def trace(self) -> SmolTrace:
        """Everything gathered so far.

        Raises:
            ValueError: no step has been taken.
        """
        if not self._closed:
            raise ValueError("no step was read: let `steps` follow `prompt`.")
        closed = torch.cat(self._closed)
        n, width = len(closed), self._parts["mass"][-1].shape[1]
        first = min(self._n_prompt, NEWEST) - 1  # of the rows kept, the token before the steps
        padded = {
            name: torch.cat([pad(part, (0, width - part.shape[1])) for part in parts])[:n]
            for name, parts in (*self._parts.items(), ("bounds", self._bounds))
        }
        return SmolTrace(
            config=self.config,
            hidden=torch.stack(
                [
                    newest_mean(torch.cat(parts))[first : first + n]
                    for parts in self._hidden.values()
                ]
            ),
            positions=torch.arange(self._n_prompt - 1, self._n_prompt - 1 + n).to(closed.device),
            keys=self.index_keys(),
            closed=closed,
            **padded,
        )


def harvest(
    decoder: Decoder,
    tokens: Int[Tensor, " n"],
    config: LSAConfig,
    *,
    n_prompt: int,
    stale: Callable[[], bool] = never,
) -> SmolTrace:
    """Read a text with everything resident and keep what the layers did from `n_prompt` on.

    Args:
        decoder: SmolLM2.
        tokens: the text, on the decoder's device.
        config: from `smollm_config`.
        n_prompt: tokens that count as the prompt; each of the others is a decode step.
        stale: turns true when nobody waits; asked before every layer.

    Raises:
        ValueError: no token left to decode, or a decoder of another size.
        Cancelled: `stale()` became true.
    """
    n_prompt = _check_prompt(n_prompt, len(tokens))
    watcher = Watcher(decoder, config, len(tokens))
    watcher.prompt(tokens[:n_prompt])
    watcher.steps(tokens[n_prompt:], stale=stale)
    return watcher.trace()


@torch.no_grad()
def harvest_for_training(
    decoder: Decoder, tokens: Int[Tensor, " n"], config: LSAConfig, *, n_prompt: int
) -> SmolTrace:
    """The same without masses and bounds, in one pass that ends at the last layer needed.

    Arguments and errors as in `harvest`.
    """
    n_prompt = _check_prompt(n_prompt, len(tokens))
    n, size = len(tokens), config.chunk_size
    hidden, keys, shares = {}, {}, []

    def receive(seen: Seen) -> None:
        if seen.layer in config.memory_layers:
            hidden[seen.layer] = newest_mean(seen.hidden[0])[n_prompt - 1 : n - 1]
            own = decoder.layers[seen.layer].attention.w_k(seen.hidden[0])
            keys[seen.layer] = index_keys(own, size)
        if seen.layer in VOTERS:
            shares.append(block_mass(seen.q[0, n_prompt:], seen.k[0], block_size=size).mean(1))

    layers = tuple(sorted({*VOTERS, *config.memory_layers}))
    decoder.hidden(tokens[None], probe=Probe(layers, receive), until_layer=layers[-1] + 1)
    before = torch.arange(n_prompt - 1, n - 1, device=tokens.device)
    closed = (before + 1) // size
    golden = golden_of(shares, config)
    there = torch.arange(golden.shape[1], device=tokens.device) < closed[:, None]
    return SmolTrace(
        config=config,
        hidden=torch.stack([hidden[layer] for layer in config.memory_layers]),
        positions=before,
        keys=torch.stack([keys[layer] for layer in config.memory_layers]),
        closed=closed,
        golden=golden & there,
        mass=None,
        native=None,
        bounds=None,
    )


def _check_prompt(n_prompt: int, n: int) -> int:
    return whole("n_prompt", n_prompt, low=1, high=n - 1, why="the others are decode steps")
