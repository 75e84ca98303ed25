"""What a window, CSA or HCA layer has read: recent tokens, and entries of everything before.

A token's own key-value vector is kept for the window only. What the compressor still needs of it
is kept until its last chunk is closed: with the overlap, two chunks long.

A resident set confines reading: entries outside it stay where they are and are not read. Chunks
that close while it is set are decoded ones, and resident.

With `LSAConfig.layout="v4"` entries and index keys are stored as V4's bytes (`packing.py`), and
reading unpacks what it reads.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .config import Kind, LSAConfig
from .fast import Stored
from .packing import Part, Storage


@dataclass(frozen=True, eq=False)
class Readable:
    """Entries that a layer may read, in the order of their chunks."""

    entries: Float[Tensor, "b r d"]
    keys: Float[Tensor, "b r d_idx"] | None  # index keys; None where nothing selects
    ids: Int[Tensor, "b r"]  # which chunk each one is
    there: Bool[Tensor, "b r"]  # False where a row is filled up, or not resident


class LSACache:
    """The cache of one layer, a `LayerCache` of the common decoder.

    Args:
        config: sizes.
        kind: of the layer.
        batch: rows.
        capacity: tokens.
        device: where everything lives.
        dtype: of vectors, and of entries unless the layout packs them.

    Raises:
        ValueError: no row, or no room.
    """

    def __init__(
        self,
        config: LSAConfig,
        kind: Kind,
        batch: int,
        capacity: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if batch < 1 or capacity < 1:
            raise ValueError(f"batch={batch} and capacity={capacity} must be at least 1.")
        self.config, self.kind, self.batch, self.capacity = config, kind, batch, capacity
        self.storage = Storage(config, dtype)
        self.length = 0
        self.size = {"window": 0, "csa": config.chunk_size, "hca": config.hca_size}[kind]
        self.gathers = False  # whether a resident set is gathered, or the rest masked
        self._resident: Bool[Tensor, "b chunks"] | None = None
        self._tail: dict[str, Tensor] = {}  # the newest tokens, from self._first on
        self._first = 0
        self._floor = 0  # the shortest length that the tail allows going back to
        self._n_entries = 0
        with torch.inference_mode(False):  # else it could be written in inference mode only
            self._pools = self._make_pools(device)
            self._slots = self._make_slots(device)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is stored: entries, and index keys where something selects."""
        return {"window": (), "hca": ("entries",), "csa": ("entries", "index_keys")}[self.kind]

    @property
    def room(self) -> int:
        """Entries that fit."""
        return self.capacity // self.size if self.size else 0

    def _make_slots(self, device: torch.device | str) -> Int[Tensor, "b room"]:
        """Which rows may be read; none yet."""
        return torch.full((self.batch, self.room), -1, dtype=torch.int32, device=device)

    def _make_pools(self, device: torch.device | str) -> dict[Part, Tensor]:
        """Room for all rows of each part."""
        storage = self.storage
        return {
            part: torch.zeros(
                self.batch, self.room, storage.width(part), device=device, dtype=storage.dtype
            )
            for part in self.parts
        }

    # tokens

    @property
    def kept_tokens(self) -> int:
        """Tokens before a call that it may still need: for the window, and for open chunks."""
        chunks = 2 * self.size if self.kind == "csa" else self.size
        return max(self.config.window, chunks) - 1

    def append(self, **new: Tensor) -> tuple[dict[str, Tensor], int]:
        """Add n tokens; returns the newest tokens, these n among them, and the first one's number.

        Raises:
            ValueError: no room left, another batch size, or tensors that carry gradients.
        """
        some = next(iter(new.values()))
        if some.shape[0] != self.batch:
            raise ValueError(f"{some.shape[0]} rows, this cache has {self.batch}.")
        n = some.shape[1]
        if self.length + n > self.capacity:
            raise ValueError(
                f"{n} new tokens after {self.length} exceed the cache's capacity of "
                f"{self.capacity}: make a larger cache or crop this one."
            )
        if any(part.requires_grad for part in new.values()):
            raise ValueError(
                "a cache is overwritten in place and keeps no gradients: wrap the call in "
                "torch.no_grad(), or train without a cache."
            )
        if self._tail:
            first = max(self._first, self.length - self.kept_tokens)
            old = {name: part[:, first - self._first :] for name, part in self._tail.items()}
            self._tail = {name: torch.cat((old[name], part), 1) for name, part in new.items()}
        else:
            first, self._tail = self.length, dict(new)
        self._first, self._floor = first, self.length
        self.length += n
        return self._tail, first

    # entries

    @property
    def n_entries(self) -> int:
        """Entries held."""
        return self._n_entries

    def add_entries(self, **new: Tensor) -> None:
        """Add the entries that the newest tokens closed, and their index keys.

        Args:
            new: of each part vectors [b, r, d], or rows that are stored already, as a prefill
                elsewhere ships them.

        Raises:
            ValueError: rows of another length, or no room for them.
        """
        start = self._n_entries
        end = start + next(iter(new.values())).shape[1]
        if end == start:
            return
        if end > self.room:
            raise ValueError(f"{end} entries exceed the room for {self.room}: make a larger cache.")
        for part, vectors in new.items():
            self._write(part, start, self.storage.store(part, vectors))
        self._n_entries = end
        if self._resident is not None:
            self._resident[:, start:end] = True
        if self._slots.numel():
            self._slots[:, start:end] = self._numbers(start, end)

    def _write(self, part: Part, start: int, rows: Tensor) -> None:
        self._pools[part][:, start : start + rows.shape[1]] = rows

    def _numbers(self, start: int, end: int) -> Int[Tensor, "b r"]:
        """Places of rows among those of the whole batch."""
        (b, n), place = self._slots.shape, {"device": self._slots.device, "dtype": torch.int32}
        numbers = torch.arange(start, end, **place)[None]
        return numbers if b == 1 else torch.arange(b, **place)[:, None] * n + numbers

    def _find_slots(self) -> None:
        """Say anew which rows may be read; the tensor stays the same one."""
        n = self._n_entries
        numbers = self._numbers(0, n)
        if self._resident is not None:
            numbers = numbers.masked_fill(~self._resident[:, :n], -1)
        self._slots[:, :n] = numbers
        self._slots[:, n:] = -1

    def index_keys(self) -> Float[Tensor, "b r d_idx"]:
        """All index keys held."""
        rows = self._pools["index_keys"][:, : self._n_entries]
        return self.storage.load("index_keys", rows)

    @property
    def resident(self) -> Bool[Tensor, "b chunks"] | None:
        """Chunks that may be read among those held; None for all."""
        return None if self._resident is None else self._resident[:, : self._n_entries]

    def confine(self, resident: Bool[Tensor, "b chunks"] | None) -> None:
        """Let the layer read resident chunks only, from now on; None lifts that.

        Raises:
            ValueError: not one verdict for each chunk held.
        """
        if resident is None:
            self._resident = None
            self._find_slots()
            return
        if resident.shape != (self.batch, self._n_entries):
            raise ValueError(
                f"resident has shape {tuple(resident.shape)}, "
                f"{(self.batch, self._n_entries)} chunks are held."
            )
        rows = self._pools["entries"].shape[1]
        device = self._pools["entries"].device
        with torch.inference_mode(False):
            self._resident = torch.zeros(self.batch, rows, dtype=torch.bool, device=device)
            self._resident[:, : self._n_entries] = resident
        self._find_slots()

    def readable(self) -> Readable:
        """What may be read now: everything with a mask, or what is resident alone."""
        device = self._pools["entries"].device
        pools = {name: pool[:, : self._n_entries] for name, pool in self._pools.items()}
        if self.gathers and self.resident is not None:
            ids, there, pools = self._gathered()
        else:
            ids = torch.arange(self._n_entries, device=device).expand(self.batch, -1)
            there = self.resident
            there = torch.ones_like(ids, dtype=torch.bool) if there is None else there
        pools = {name: self.storage.load(name, pool) for name, pool in pools.items()}
        return Readable(pools["entries"], pools.get("index_keys"), ids, there)

    def stored(self) -> Stored:
        """What one token may read now, as it lies in memory; rows that may not be read are -1."""
        pools, slots = self._pools, self._slots
        if self.gathers and self.resident is not None:
            _, there, pools = self._gathered()
            slots = torch.arange(there.numel(), dtype=torch.int32, device=there.device)
            slots = slots.view(there.shape).masked_fill(~there, -1)
        return Stored(pools["entries"].flatten(0, 1), pools.get("index_keys"), slots, self.storage)

    def _gathered(self) -> tuple[Int[Tensor, "b r"], Bool[Tensor, "b r"], dict[Part, Tensor]]:
        """Numbers of the resident chunks, which of these are there, and their rows."""
        ids, there = cells_in_order(self.resident)
        gathered = {
            part: pool.gather(1, ids[..., None].expand(-1, -1, pool.shape[-1]))
            for part, pool in self._pools.items()
        }
        return ids, there, gathered

    # what the decoder asks for

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens.

        Raises:
            ValueError: more than are held; or fewer than before the last call, whose chunks can
                no longer be opened again. 0 is always possible.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"length={length} must lie in [0, {self.length}], the tokens held.")
        if 0 < length < self._floor:
            raise ValueError(
                f"length={length} lies before the last call, at {self._floor}: tokens of closed "
                "chunks are gone. Crop to 0 and read the text again."
            )
        self._tail = {name: part[:, : length - self._first] for name, part in self._tail.items()}
        if length == 0:
            self._tail, self._first, self._floor = {}, 0, 0
        self.length = length
        self._n_entries = min(self._n_entries, length // self.size) if self.size else 0
        self._slots[:, self._n_entries :] = -1

    def reorder(self, batch_index: Int[Tensor, " b"]) -> None:
        """Let row i of the batch continue from former row `batch_index[i]`.

        Raises:
            ValueError: no such row.
        """
        if not 0 <= int(batch_index.min()) <= int(batch_index.max()) < self.batch:
            raise ValueError(f"batch_index={batch_index.tolist()} must lie in [0, {self.batch}).")
        self.batch = len(batch_index)
        self._tail = {name: part[batch_index] for name, part in self._tail.items()}
        with torch.inference_mode(False):
            self._pools = {name: pool[batch_index] for name, pool in self._pools.items()}
            if self._resident is not None:
                self._resident = self._resident[batch_index]
            self._slots = self._slots.new_full((self.batch, self._slots.shape[1]), -1)
        self._find_slots()

    def device_bytes(self) -> dict[str, int]:
        """Bytes that the rows take on the device, used or not, by part; and `tables`."""
        found = {
            part: pool.numel() * pool.element_size()
            for part, pool in self._pools.items()
            if pool.device == self._slots.device
        }
        return found | {"tables": self._slots.numel() * self._slots.element_size()}

    def nbytes(self) -> dict[str, int]:
        """Bytes held, by category: `window`, `open_chunks`, `entries`, `index_keys`.

        Entries count from the first to the last, resident or not. After a call with many tokens
        the tail holds more than the next call will need; what it will need is counted.
        """
        total = {
            name: pool[:, : self._n_entries].numel() * pool.element_size()
            for name, pool in self._pools.items()
        }
        n = min(self.length, self.kept_tokens)
        for name, part in self._tail.items():
            category = "window" if name == "kv" else "open_chunks"
            size = part[:, :1].numel() * part.element_size() * n
            total[category] = total.get(category, 0) + size
        return total


def cells_in_order(
    resident: Bool[Tensor, "b chunks"],
) -> tuple[Int[Tensor, "b r"], Bool[Tensor, "b r"]]:
    """Resident chunks of each row, rising, and where a row is filled up with chunk 0."""
    most = int(resident.sum(-1).max()) if resident.numel() else 0
    order = (~resident).to(torch.int8).sort(dim=-1, stable=True).indices[:, :most]
    there = torch.arange(most, device=resident.device) < resident.sum(-1, keepdim=True)
    return order.masked_fill(~there, 0), there
