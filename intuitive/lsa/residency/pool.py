"""The cells on the device, and one request's places among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from intuitive.common.checks import whole

from ..config import LSAConfig
from ..packing import Part, Storage
from .mover import Mover
from .table import CellTable


class NoRoomOnDevice(RuntimeError):
    """The device has no memory for what must be there."""


@dataclass(frozen=True)
class CellLayout:
    """Where in a cell's bytes each CSA layer's entry and index key lie.

    Args:
        storage: how rows are stored.
        layers: CSA layers whose entries are in a cell.
        keyed: of these, the layers whose index keys come along.
    """

    storage: Storage
    layers: tuple[int, ...]
    keyed: tuple[int, ...]

    @classmethod
    def of(cls, config: LSAConfig, dtype: torch.dtype) -> "CellLayout":
        """Entries of all CSA layers, index keys where the Memory Indexer does not read them."""
        layers = tuple(range(config.n_csa))
        keyed = tuple(i for i in layers if i not in config.memory_layers)
        return cls(Storage(config, dtype), layers, keyed)

    @cached_property
    def places(self) -> dict[tuple[Part, int], slice]:
        """Bytes of each part of each layer."""
        parts = [("entries", i) for i in self.layers] + [("index_keys", i) for i in self.keyed]
        found, first = {}, 0
        for part, layer in parts:
            last = first + self.storage.row_bytes(part)
            found[part, layer] = slice(first, last)
            first = last
        return found

    @property
    def n_bytes(self) -> int:
        """Of one cell."""
        return max((place.stop for place in self.places.values()), default=0)

    def view(self, rows: Tensor, part: Part, layer: int) -> Tensor:
        """One layer's part [rows, width] of cells [rows, n_bytes]; writing it writes them."""
        return rows[:, self.places[part, layer]].view(self.storage.dtype)


class Places:
    """A request's resident chunks and their cells on the device, in tensors that stay the same."""

    def __init__(self, n_cells: int, device: torch.device) -> None:
        self.n = 0
        self.last = -1  # the highest of the chunks
        with torch.inference_mode(False):
            both = torch.full((2, 1, n_cells), -1, dtype=torch.int32, device=device)
        self.both: Int[Tensor, "2 1 n_cells"] = both
        self.chunks, self.slots = both  # [1, n_cells]; -1 behind the last

    def write(self, chunks: np.ndarray, cells: np.ndarray) -> None:
        """Everything anew; chunks rise."""
        self.n, self.last = len(chunks), int(chunks[-1]) if len(chunks) else -1
        both = np.full(self.both.shape, -1, np.int32)
        both[:, 0, : self.n] = chunks, cells
        self.both.copy_(_fast(both, self.both.device), non_blocking=True)

    def append(self, chunk: int, cell: int) -> None:
        """One more, after all others."""
        self.chunks[0, self.n : self.n + 1].fill_(chunk)
        self.slots[0, self.n : self.n + 1].fill_(cell)
        self.n, self.last = self.n + 1, chunk


def _fast(array: np.ndarray, device: torch.device) -> Tensor:
    """As a tensor that can be copied to the device without waiting for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _left(device: torch.device | str) -> str:
    """In words, what a GPU has left."""
    if torch.device(device).type != "cuda":
        return ""
    free, total = (n / 2**20 for n in torch.cuda.mem_get_info(torch.device(device)))
    return f" ({free:.0f} of {total:.0f} MiB are free, less what this process may not use)"


class CellPool:
    """Cells for the chunks of all requests, and the table of what is where.

    Args:
        config: sizes.
        n_cells: chunks that fit, of all requests together. Copies that travel beside the
            decoding need cells besides those that are read meanwhile.
        reserve: cells that may keep chunks which are not resident at the moment, so that they
            need not be copied again; the one unused longest goes first. They are among `n_cells`
            and never in the way of a resident chunk.
        device: of the cells.
        dtype: of the model; `config.layout` may pack what is stored.
        layout: which layers' parts a cell holds; those of LSA if None.

    Raises:
        ValueError: no cell, or a negative reserve.
        NoRoomOnDevice: the device cannot hold so many cells.
    """

    def __init__(
        self,
        config: LSAConfig,
        n_cells: int,
        *,
        reserve: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        layout: CellLayout | None = None,
    ) -> None:
        self.config, self.dtype = config, dtype
        self.layout = CellLayout.of(config, dtype) if layout is None else layout
        self.storage = self.layout.storage
        self.n_cells = whole("n_cells", n_cells, low=1)
        with torch.inference_mode(False):
            try:
                self.cells = torch.zeros(
                    self.n_cells, self.layout.n_bytes, dtype=torch.uint8, device=device
                )
            except torch.OutOfMemoryError as error:
                raise NoRoomOnDevice(
                    f"{n_cells} cells take {n_cells * self.layout.n_bytes / 2**20:.1f} MiB, which "
                    f"{device} does not have{_left(device)}: make the pool smaller, or free memory "
                    "first."
                ) from error
        # After the cells: what the device cannot hold may be more than the host can list.
        self.table_of_cells = CellTable(self.n_cells, reserve)
        self.reserve = self.table_of_cells.reserve
        self.mover = Mover(self.cells)
        self._places: dict[int, Places] = {}

    @property
    def device(self) -> torch.device:
        """Where the cells are."""
        return self.cells.device

    @property
    def cell_bytes(self) -> int:
        """Bytes of one cell, in all layers: what one fetched chunk moves."""
        return self.layout.n_bytes

    @property
    def n_free(self) -> int:
        """Cells that hold nothing."""
        return self.table_of_cells.n_free

    @property
    def n_reserved(self) -> int:
        """Cells that hold a chunk which is not resident."""
        return self.table_of_cells.n_reserved

    def nbytes(self) -> dict[str, int]:
        """Bytes held on the device, by category, whether cells are in use or not."""
        per_cell = {"entries": 0, "index_keys": 0}
        for (part, _), place in self.layout.places.items():
            per_cell[part] += place.stop - place.start
        found = {part: n * self.n_cells for part, n in per_cell.items()}
        tables = [places.both for places in self._places.values()]
        found["tables"] = sum(t.numel() * t.element_size() for t in tables)
        found["staging"] = self.mover.device_bytes
        return found

    def view(self, part: Part, layer: int) -> Tensor:
        """One layer's rows [n_cells, width] of a part."""
        return self.layout.view(self.cells, part, layer)

    def has_keys(self, layer: int) -> bool:
        """Whether cells hold a layer's index keys."""
        return ("index_keys", layer) in self.layout.places

    # ------------------------------------------------------------------------ requests

    def open(self) -> int:
        """A number for a new request, which has never been used before."""
        request = self.table_of_cells.open()
        self._places[request] = Places(self.n_cells, self.device)
        return request

    def places(self, request: int) -> Places:
        """Where a request's resident chunks are, for the device."""
        return self._places[request]

    def table(self, request: int) -> dict[int, int]:
        """Cell of each resident chunk of a request, in the order of chunks."""
        chunks, cells = self.table_of_cells.resident(request)
        return dict(zip(chunks.tolist(), cells.tolist(), strict=True))

    def place(self, request: int, wanted: Sequence[int] | np.ndarray) -> dict[int, int]:
        """Make exactly these chunks of a request resident.

        Returns:
            Cell of each chunk that must be copied: it was neither resident nor in reserve.

        Raises:
            PoolFull: there are not enough cells. Nothing has changed then.
        """
        return dict(zip(*(x.tolist() for x in self.place_arrays(request, wanted)), strict=True))

    def place_arrays(
        self, request: int, wanted: Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`place`, the chunks and the cells as arrays."""
        copies = self.table_of_cells.place(request, wanted)
        self._publish(request)
        return copies

    def prefetch(
        self, request: int, wanted: Sequence[int] | np.ndarray, *, spare: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cells for chunks that will be resident soon; see `CellTable.prefetch`."""
        return self.table_of_cells.prefetch(request, wanted, spare=spare)

    def add(self, request: int, chunk: int) -> int:
        """A cell for a chunk that decoding has closed; the same one if asked again.

        Raises:
            PoolFull: no cell is left.
        """
        places, known = self._places[request], self.table_of_cells.is_resident(request, chunk)
        cell = self.table_of_cells.add(request, chunk)
        if known:
            return cell
        if chunk > places.last:
            places.append(chunk, cell)
        else:
            self._publish(request)
        return cell

    def drop(self, request: int, chunks: Sequence[int] | np.ndarray) -> None:
        """Free the cells of these chunks, which hold nothing of use."""
        self.table_of_cells.drop(request, chunks)
        self._publish(request)

    def forget(self, request: int, first: int) -> None:
        """Free the cells of a request's chunks from the first on, if they have any."""
        self.table_of_cells.forget(request, first)
        self._publish(request)

    def release(self, request: int) -> None:
        """Free all cells of a request, which is over; once more does nothing."""
        self.table_of_cells.release(request)
        self._places.pop(request, None)

    def _publish(self, request: int) -> None:
        self._places[request].write(*self.table_of_cells.resident(request))
