"""Fetching on demand: the other way to keep entries off the device, exact and at every step.

The index keys of all layers stay on the device. Each layer's own selector chooses among all
entries, and those of its choice that are in no cell are copied before the layer reads them; the
cells unused longest give way. Nothing is ever missed, and every layer of every step may wait.

Source: the mechanism of ESS (arXiv:2512.10576) and of HiSparse, which LSA stands against.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.decoder import Decoder, DecoderCache

from ..cache import LSACache
from ..config import LSAConfig
from ..fast import Stored
from ..packing import Part, Storage
from .mirror import HostMirror
from .pool import CellLayout, CellPool


class ReactiveCache(LSACache):
    """The cache of one CSA layer, whose entries are fetched when its selector has chosen them.

    Args:
        config: sizes.
        ordinal: of the layer among CSA layers.
        capacity: tokens.
        n_cells: entries that fit on the device; at least what one step reads.
        device: of the cells and the index keys.
        dtype: of the model.

    Raises:
        ValueError: fewer cells than `top_k`.

    `fetched` counts entries copied while decoding, `asked` those chosen.
    """

    def __init__(
        self,
        config: LSAConfig,
        ordinal: int,
        capacity: int,
        n_cells: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        why = "one step reads so many entries"
        n_cells = whole("n_cells", n_cells, low=config.top_k, why=why)
        layout = CellLayout(Storage(config, dtype), (ordinal,), ())
        self.ordinal, self.fetched, self.asked = ordinal, 0, 0
        self.pool = CellPool(config, n_cells, device=device, dtype=dtype, layout=layout)
        rows = capacity // config.chunk_size
        self.mirror = HostMirror(layout, rows, (), self.pool.device)
        none, nothing = n_cells, rows  # a cell and a chunk that do not exist
        with torch.inference_mode(False):
            self._cell_of = torch.full((rows + 1,), none, dtype=torch.int64, device=device)
            self._chunk_in = torch.full((n_cells,), nothing, dtype=torch.int64, device=device)
            self._used = torch.zeros(n_cells + 1, dtype=torch.int64, device=device)
        self._clock = 0
        super().__init__(config, "csa", 1, capacity, device, dtype)

    def _make_pools(self, device: torch.device | str) -> dict[Part, Tensor]:
        """On the device all index keys, on the host the entries."""
        rows, width = self.capacity // self.size, self.storage.width("index_keys")
        keys = torch.zeros(1, rows, width, device=device, dtype=self.storage.dtype)
        return {"index_keys": keys, "entries": self.mirror.part("entries", self.ordinal)[None]}

    def stored(self) -> Stored:
        keys, cells = self._pools["index_keys"], self.pool.view("entries", self.ordinal)
        return Stored(cells, keys, self._slots, self.storage, fetch=self._fetch)

    def _fetch(self, chunks: Int[Tensor, "1 k"]) -> Int[Tensor, "1 k"]:
        """Cells of the chosen chunks, which are copied if they are in none; -1 stays."""
        n_cells = self.pool.n_cells
        if int(chunks.shape[1]) > n_cells:
            chunks = self._closed_only(chunks)
        there = chunks[0] >= 0
        chosen = chunks[0].long().masked_fill(~there, len(self._cell_of) - 1)
        cells = self._cell_of[chosen]
        self._clock += 1
        self._used[cells] = self._clock
        missing = chosen[there & (cells == n_cells)]  # the device is waited for
        self.asked += len(chosen)
        if n := len(missing):
            self.fetched += n
            oldest = self._used[:n_cells].topk(n, largest=False).indices
            self._cell_of[self._chunk_in[oldest]] = n_cells
            self._cell_of[missing], self._chunk_in[oldest] = oldest, missing
            self._used[oldest] = self._clock
            self.pool.mover.copy(self.mirror, missing.cpu().numpy(), oldest.cpu().numpy())
            cells = self._cell_of[chosen]
        return cells.masked_fill(~there, -1).int()[None]

    def _closed_only(self, chunks: Int[Tensor, "1 n"]) -> Int[Tensor, "1 k"]:
        """The chunks that exist, where there is room for more."""
        chunks = chunks[:, : self._n_entries]
        if chunks.shape[1] > self.pool.n_cells:
            raise ValueError(
                f"{chunks.shape[1]} entries are to be read at once, from {self.pool.n_cells} "
                "cells: a layer that selects nothing cannot fetch on demand."
            )
        return chunks

    def confine(self, resident: Bool[Tensor, "b chunks"] | None) -> None:
        """Not here: whatever the selector chooses is fetched."""
        raise ValueError("this cache reads what its selector chooses: nothing confines it.")

    def crop(self, length: int) -> None:
        """As in `LSACache`; chunks that are gone lose their cells."""
        super().crop(length)
        gone = torch.arange(self._n_entries, len(self._cell_of) - 1, device=self.pool.device)
        cells = self._cell_of[gone]
        self._used[cells] = 0
        self._chunk_in[cells[cells < self.pool.n_cells]] = len(self._cell_of) - 1
        self._cell_of[gone] = self.pool.n_cells

    def readable(self):
        host = self._pools["entries"]
        self._pools["entries"] = host[:, : self._n_entries].to(self.pool.device)
        try:
            return super().readable()
        finally:
            self._pools["entries"] = host

    def device_bytes(self) -> dict[str, int]:
        """Bytes on the device, by category, used or not."""
        tables = (self._cell_of, self._chunk_in, self._used, self._slots)
        keys = self._pools["index_keys"]
        found = self.pool.nbytes()
        found["index_keys"] += keys.numel() * keys.element_size()
        found["tables"] += sum(t.numel() * t.element_size() for t in tables)
        return found


def reactive_cache(
    decoder: Decoder, config: LSAConfig, capacity: int, n_cells: int
) -> DecoderCache:
    """A decoder's cache whose CSA layers fetch on demand; `n_cells` in each of them."""
    weight = decoder.embedding.weight
    caches, ordinal = [], 0
    for layer in decoder.layers:
        place = weight.device, weight.dtype
        if layer.attention.kind == "csa":
            caches.append(ReactiveCache(config, ordinal, capacity, n_cells, *place))
            ordinal += 1
        else:
            caches.append(layer.attention.make_cache(1, capacity, *place))
    return DecoderCache(caches)
