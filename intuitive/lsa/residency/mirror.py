"""Everything of one request's CSA layers in host memory, page-locked where that is possible."""

import numpy as np
import torch
from torch import Tensor

from ..packing import Part
from .pool import CellLayout


class HostMirror:
    """One row of bytes per chunk, laid out as a cell, so that one copy moves a chunk in all layers.

    Index keys that are on the device for good have their copy beside the rows.

    Args:
        layout: of a cell.
        n_chunks: room.
        always: layers whose index keys stay on the device.
        device: that is copied to.

    `pinned` says whether the rows are page-locked, which copies beside the decoding need: they are
    not on a machine without a GPU, or where the system refuses. `why` says what it answered then;
    copies are slower, and waited for.
    """

    def __init__(
        self, layout: CellLayout, n_chunks: int, always: tuple[int, ...], device: torch.device
    ) -> None:
        self.layout, self.always, self.why = layout, always, ""
        width = layout.storage.row_bytes("index_keys")
        sizes = {"rows": layout.n_bytes, "others": width * len(always)}
        self.pinned = device.type == "cuda"
        with torch.inference_mode(False):
            try:
                made = {name: self._room(n_chunks, n) for name, n in sizes.items()}
            except RuntimeError as error:  # the system allows no more page-locked memory
                self.pinned, self.why = False, str(error).splitlines()[0]
                made = {name: self._room(n_chunks, n) for name, n in sizes.items()}
        self.rows, self.others = made["rows"], made["others"]
        self._written: torch.cuda.Event | None = None  # after the last copy from the device
        self._written_from = n_chunks

    def _room(self, n: int, width: int) -> Tensor:
        return torch.empty(n, width, dtype=torch.uint8, pin_memory=self.pinned)

    def part(self, part: Part, layer: int) -> Tensor:
        """One layer's rows [chunks, width] of a part."""
        if part == "index_keys" and layer in self.always:
            width = self.layout.storage.row_bytes("index_keys")
            first = self.always.index(layer) * width
            return self.others[:, first : first + width].view(self.layout.storage.dtype)
        return self.layout.view(self.rows, part, layer)

    def take_back(self, chunk: int, cell: Tensor) -> None:
        """Copy a cell [n_bytes] that decoding has filled; the device is not waited for."""
        self.rows[chunk].copy_(cell, non_blocking=self.pinned)
        if self.pinned:
            self._written = torch.cuda.current_stream(cell.device).record_event(self._written)
            self._written_from = min(self._written_from, chunk)

    def settle(self, chunks: np.ndarray) -> None:
        """Wait until these rows have come back from the device, if any may be on its way."""
        if self._written is not None and len(chunks) and chunks.max() >= self._written_from:
            self._written.synchronize()
