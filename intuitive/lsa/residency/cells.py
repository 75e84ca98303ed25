"""A CSA layer's cache whose entries live on the host, and in cells while they are resident."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..cache import LSACache, Readable
from ..config import LSAConfig
from ..fast import Stored
from ..packing import Part
from .mirror import HostMirror
from .pool import CellPool


class CellCache(LSACache):
    """The cache of one CSA layer of one request; `RequestMemory` makes them and moves chunks.

    Until it is `offloaded` it reads everything from the host, as prefill does.

    Args:
        config: sizes.
        ordinal: of the layer among CSA layers.
        capacity: tokens.
        pool: the cells.
        request: from `CellPool.open`.
        mirror: the request's host memory.
        dtype: of the model.
    """

    def __init__(
        self,
        config: LSAConfig,
        ordinal: int,
        capacity: int,
        pool: CellPool,
        request: int,
        mirror: HostMirror,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.ordinal, self.pool, self.request, self.mirror = ordinal, pool, request, mirror
        self.offloaded = False
        self.settle: Callable[[], object] = bool  # waits for copies on their way
        super().__init__(config, "csa", 1, capacity, pool.device, dtype)

    @property
    def pinned(self) -> bool:
        """Whether the host memory is page-locked."""
        return self.mirror.pinned

    def _make_slots(self, device: torch.device | str) -> Tensor:
        """None of its own: the pool says which places there are."""
        return torch.empty(1, 0, dtype=torch.int32, device=device)

    def _make_pools(self, device: torch.device | str) -> dict[Part, Tensor]:
        """On the device only the index keys that the Memory Indexer reads."""
        if self.pool.has_keys(self.ordinal):
            return {}
        rows, width = self.capacity // self.size, self.storage.width("index_keys")
        keys = torch.zeros(1, rows, width, device=device, dtype=self.storage.dtype)
        return {"index_keys": keys}

    def _write(self, part: Part, start: int, rows: Tensor) -> None:
        """To the host and, once offloaded, to cells of their own; index keys that stay, too."""
        n = rows.shape[1]
        stays = part in self._pools
        if stays:
            super()._write(part, start, rows)
        if not self.offloaded:
            self.mirror.part(part, self.ordinal)[start : start + n] = rows[0].cpu()
            return
        if stays:
            for i in range(n):
                host = self.mirror.part(part, self.ordinal)[start + i]
                host.copy_(rows[0, i], non_blocking=self.pinned)
            return
        cells = self.pool.view(part, self.ordinal)
        for i in range(n):
            cells[self.pool.add(self.request, start + i)] = rows[0, i]

    def add_entries(self, **new: Tensor) -> None:
        start = self._n_entries
        super().add_entries(**new)
        if self.offloaded and self.ordinal == max(self.pool.layout.layers):
            for chunk in range(start, self._n_entries):
                cell = self.pool.add(self.request, chunk)
                self.mirror.take_back(chunk, self.pool.cells[cell])

    def index_keys(self) -> Float[Tensor, "b r d_idx"]:
        """All index keys of a layer that votes; they are on the device.

        Raises:
            ValueError: a layer that does not vote has them on the host.
        """
        if "index_keys" not in self._pools:
            raise ValueError(
                f"CSA layer {self.ordinal} is not among memory_layers="
                f"{self.config.memory_layers}: its index keys are not all on the device."
            )
        return super().index_keys()

    def key_rows(self) -> Tensor:
        """Index keys [1, rows, width] of a layer that votes, as stored; the room for more too."""
        return self._pools["index_keys"]

    def stored(self) -> Stored:
        if not self.offloaded:
            held = self._from_host()
            numbers = torch.arange(self._n_entries, device=self.pool.device, dtype=torch.int32)
            return Stored(held["entries"][0], held["index_keys"], numbers[None], self.storage)
        places = self.pool.places(self.request)
        if "index_keys" in self._pools:
            keys, numbers = self._pools["index_keys"][0], places.chunks
        else:
            keys, numbers = self.pool.view("index_keys", self.ordinal), places.slots
        entries = self.pool.view("entries", self.ordinal)
        return Stored(entries, keys, places.slots, self.storage, numbers)

    def readable(self) -> Readable:
        if not self.offloaded:
            held, device = self._from_host(), self.pool.device
            ids = torch.arange(self._n_entries, device=device)[None]
        else:
            places = self.pool.places(self.request)
            ids, cells = places.chunks[:, : places.n].long(), places.slots[0, : places.n]
            held = {
                part: (
                    self._pools[part][:, ids[0]]
                    if part in self._pools
                    else self.pool.view(part, self.ordinal)[cells][None]
                )
                for part in self.parts
            }
        parts = (self.storage.load(part, held[part]) for part in self.parts)
        return Readable(*parts, ids, torch.ones_like(ids, dtype=torch.bool))

    def _from_host(self) -> dict[Part, Tensor]:
        return {
            part: self.mirror.part(part, self.ordinal)[None, : self._n_entries].to(self.pool.device)
            for part in self.parts
        }

    def confine(self, resident: Bool[Tensor, "b chunks"] | None) -> None:
        """Not here: a pool says what is resident."""
        raise ValueError("this cache moves its entries: use RequestMemory.apply.")

    def crop(self, length: int) -> None:
        super().crop(length)
        if self.offloaded:
            if length == 0:
                self.settle()
            self.pool.forget(self.request, self._n_entries)
        if length == 0:
            self.offloaded = False

    def reorder(self, batch_index: Int[Tensor, " b"]) -> None:
        """Not here: a request is one row."""
        raise ValueError("a request has one row, which cannot change places: open another one.")

    def nbytes(self) -> dict[str, int]:
        """Bytes on the device, by category; reserve cells are the pool's, and in no request's."""
        total = {name: n for name, n in super().nbytes().items() if name not in self.parts}
        n = self.pool.places(self.request).n if self.offloaded else 0
        for part in self.parts:
            rows = self._n_entries if part in self._pools else n
            total[part] = rows * self.storage.row_bytes(part)
        return total

    def host_nbytes(self) -> int:
        """Bytes of the copy on the host."""
        return self._n_entries * sum(self.storage.row_bytes(part) for part in self.parts)
