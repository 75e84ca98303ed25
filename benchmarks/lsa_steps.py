"""What `lsa_residency.py` runs: decode steps of V4's attention alone, and the traces they follow.

A step reads every CSA and HCA layer once, with queries that turn slowly from step to step, so that
a layer's choice changes a little each time. There are no projections and no feed-forward layers.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import seeded
from intuitive.lsa.attention import lsa_decoder
from intuitive.lsa.cache import LSACache
from intuitive.lsa.config import LSAConfig
from intuitive.lsa.fast import read_one
from intuitive.lsa.packing import Storage
from intuitive.lsa.selection import always_resident

ROWS_AT_A_TIME = 16_384  # drawn and packed together


def fill(cache: LSACache, n_entries: int, seed: int, device: torch.device | str) -> None:
    """Give a cache so many more entries (and index keys), drawn at random and packed."""
    generator, storage = seeded(seed, device), cache.storage
    widths = {"entries": cache.config.d_head, "index_keys": cache.config.d_index}
    while n_entries:
        n = min(n_entries, ROWS_AT_A_TIME)
        drawn = {
            part: torch.randn(1, n, widths[part], generator=generator, device=device)
            for part in cache.parts
        }
        cache.add_entries(**{part: storage.store(part, rows) for part, rows in drawn.items()})
        n_entries -= n


class Steps:
    """Decode steps over the caches of CSA and HCA layers.

    Args:
        config: sizes.
        csa, hca: filled caches.
        device, dtype: of the queries.
        drift: radians by which the index queries turn in each step.
        seed: of all queries and of the entries that close.
    """

    def __init__(
        self,
        config: LSAConfig,
        csa: Sequence[LSACache],
        hca: Sequence[LSACache],
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        drift: float,
        seed: int,
    ) -> None:
        self.config, self.csa, self.hca, self.drift = config, csa, hca, drift
        generator = seeded(seed, device)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=device, dtype=dtype)

        layers = len(csa) + len(hca)
        heads, d = config.n_heads, config.d_head
        self.q, self.window = draw(layers, 1, heads, d), draw(layers, 1, config.window, d)
        self.sinks = draw(heads)
        self.turns = draw(2, len(csa), 1, config.n_index_heads, config.d_index)
        scale = (config.n_index_heads * config.d_index) ** -0.5
        self.weights = draw(len(csa), 1, config.n_index_heads) * scale
        self.angle = torch.zeros((), device=device)
        self.out = torch.zeros(layers, 1, heads, d, device=device, dtype=dtype)
        self.closed = 0  # tokens since the caches were filled
        self._graph: torch.cuda.CUDAGraph | None = None
        storage = Storage(config, dtype)
        self._new = {
            "entries": storage.store("entries", draw(1, 1, d)),
            "index_keys": storage.store("index_keys", draw(1, 1, config.d_index)),
        }

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What a step works on besides caches."""
        return (self.q, self.window, self.sinks, self.turns, self.weights, self.out)

    def read(self) -> None:
        """One step, launched anew."""
        self.angle.add_(self.drift)
        index_q = self.turns[0] * self.angle.cos() + self.turns[1] * self.angle.sin()
        index_q = index_q.to(self.q.dtype)
        for i, cache in enumerate((*self.csa, *self.hca)):
            index = None
            if i < len(self.csa):
                index = index_q[i], self.weights[i]
            self.out[i] = read_one(
                self.q[i],
                self.window[i],
                self.sinks,
                cache.stored(),
                index,
                top_k=self.config.top_k,
            )

    def capture(self) -> None:
        """From now on `decode` replays one recorded step; tables and cells change under it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self.read()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.read()
        self._graph = graph

    def forget_graph(self) -> None:
        """Launch every step anew."""
        self._graph = None

    def decode(self) -> None:
        """One step, and the entries that it closes."""
        if self._graph is None:
            self.read()
        else:
            self._graph.replay()
        self.closed += 1
        if self.closed % self.config.chunk_size == 0:
            for cache in self.csa:
                cache.add_entries(**self._new)
        if self.closed % self.config.hca_size == 0:
            for cache in self.hca:
                cache.add_entries(entries=self._new["entries"])


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """Which chunks each trigger asks for; made up, with stated rates, where none is recorded."""

    fetched: tuple[np.ndarray, ...]  # chunks besides those that are resident anyhow
    refetch_rate: float  # of the chunks that come anew, the share that was resident before

    def wanted(
        self, trigger: int, closed: int, prompt_chunks: int, config: LSAConfig
    ) -> np.ndarray:
        """All chunks that shall be resident from a trigger on."""
        always = always_resident(closed, closed, config, decoded_from=prompt_chunks)
        always[torch.from_numpy(self.fetched[trigger % len(self.fetched)])] = True
        return always.nonzero().flatten().numpy()


def made_up_trace(
    n_chunks: int, n_fetched: int, triggers: int, *, exchange: float, returning: float, seed: int
) -> Trace:
    """A trace that exchanges a share of its chunks at every trigger.

    Args:
        n_chunks: that may be fetched.
        n_fetched: of them at a time.
        triggers: how many sets.
        exchange: share of the set that leaves at each trigger.
        returning: share of those that come that were there before, as far as there are any.
        seed: of what comes and goes.
    """
    generator = seeded(seed)

    def pick(among: np.ndarray, n: int) -> np.ndarray:
        order = torch.randperm(len(among), generator=generator)[:n].numpy()
        return among[order]

    here, seen = np.zeros(n_chunks, bool), np.zeros(n_chunks, bool)
    here[pick(np.arange(n_chunks), n_fetched)] = True
    sets, came, again = [np.flatnonzero(here)], 0, 0
    n_moved = min(round(exchange * n_fetched), n_chunks - n_fetched)
    for _ in range(triggers - 1):
        seen |= here
        back = pick(np.flatnonzero(seen & ~here), round(returning * n_moved))
        fresh = here | seen
        new = pick(np.flatnonzero(~fresh), n_moved - len(back))
        if len(new) + len(back) < n_moved:  # everything was there before
            rest = seen & ~here
            rest[back] = False
            more = pick(np.flatnonzero(rest), n_moved - len(new) - len(back))
            back = np.concatenate((back, more))
        here[pick(np.flatnonzero(here), n_moved)] = False
        here[np.concatenate((back, new))] = True
        came, again = came + len(back) + len(new), again + len(back)
        sets.append(np.flatnonzero(here))
    return Trace(tuple(sets), again / came if came else 0.0)


def wandering_decoder(config: LSAConfig, max_positions: int, seed: int) -> Decoder:
    """A small random decoder whose text wanders and hangs on what its attention reads."""
    sizes = DecoderConfig(
        d_model=config.d_model,
        n_layers=len(config.layers),
        positions="none",
        tied_embeddings=False,
        max_positions=max_positions,
    )
    decoder = lsa_decoder(config, sizes, generator=seeded(seed)).requires_grad_(False).eval()
    generator = seeded(seed + 1)
    for layer in decoder.layers:
        for name, weight in layer.attention.named_parameters():
            if weight.dim() == 2 and "slot_bias" not in name:
                weight.normal_(std=2 * weight.shape[1] ** -0.5, generator=generator)
            else:
                weight.normal_(generator=generator)
            if "norm" in name:
                weight.add_(1.5)
    decoder.embedding.weight.mul_(50)
    decoder.head.weight.mul_(20)
    return decoder


def tenth(seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Asks for another tenth of the chunks at every trigger, whatever the Memory Indexer says."""

    def choose(logits: Tensor, always: Tensor) -> Tensor:
        return torch.rand(len(always), generator=seeded(seed + len(always))) < 0.1

    return choose
