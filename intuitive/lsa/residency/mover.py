"""Copying chunks from the mirror into cells: waited for, or beside the decoding.

On a GPU all copies run on a stream of their own. It first waits for the work that was there when
the copy was asked for, so that a cell which a step still reads is not overwritten; and whoever
reads the new cells waits for the copy. A kernel reads page-locked rows where they lie; else rows
are gathered on the host into one of two buffers, travel as one piece and are spread over their
cells. On a CPU the same thread copies from memory to memory.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .. import fast

if TYPE_CHECKING:
    from .mirror import HostMirror

STAGED = 256  # chunks that travel as one piece


@dataclass(frozen=True, eq=False)
class CopyTime:
    """How long one copy took."""

    n_bytes: int
    host_s: float  # of the thread that drove it
    events: tuple[torch.cuda.Event, torch.cuda.Event] | None  # its begin and end on a GPU

    def ms(self) -> float:
        """From the begin to the end, the device's if there is one; waits for it."""
        if self.events is None:
            return 1e3 * self.host_s
        self.events[1].synchronize()
        return max(self.events[0].elapsed_time(self.events[1]), 0.0)


class Job:
    """A copy that runs beside the decoding."""

    def __init__(self, mover: "Mover", future: Future) -> None:
        self._mover, self._future = mover, future

    def wait(self) -> None:
        """Let all later work on the device wait for it; raises what went wrong in it."""
        done = self._future.result()
        if done is not None:
            torch.cuda.current_stream(self._mover.device).wait_event(done)


class Mover:
    """Copies rows of mirrors into the cells of one pool; one copy at a time.

    Args:
        cells: [n_cells, bytes].

    `log`, if set to a list, receives the `CopyTime` of every copy. `direct` may be set to False, to
    have rows gathered on the host where a kernel could read them.
    """

    def __init__(self, cells: Tensor) -> None:
        self.cells, self.device = cells, cells.device
        self.log: list[CopyTime] | None = None
        self.direct = True
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._stream: torch.cuda.Stream | None = None
        self._buffers: list[Tensor] = []
        self._sent: list[torch.cuda.Event] = []
        self._stage: Tensor | None = None

    @property
    def device_bytes(self) -> int:
        """Held on the device for pieces on their way."""
        return 0 if self._stage is None else self._stage.numel()

    def copy(self, mirror: "HostMirror", chunks: np.ndarray, cells: np.ndarray) -> None:
        """Copy now; later work on the device finds the chunks in their cells."""
        if not len(chunks):
            return
        done = self._run(mirror, chunks, cells, self._here())
        if done is not None:
            torch.cuda.current_stream(self.device).wait_event(done)

    def start(self, mirror: "HostMirror", chunks: np.ndarray, cells: np.ndarray) -> Job:
        """Copy beside whatever else happens; nobody may read the cells before `Job.wait`."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="lsa-mover")
        return Job(self, self._worker.submit(self._run, mirror, chunks, cells, self._here()))

    def _here(self) -> "torch.cuda.Event | None":
        """A mark after all work that the device has been given so far."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.current_stream(self.device).record_event()

    def _run(
        self,
        mirror: "HostMirror",
        chunks: np.ndarray,
        cells: np.ndarray,
        after: "torch.cuda.Event | None",
    ) -> "torch.cuda.Event | None":
        start = time.perf_counter()
        events = done = None
        with self._lock, torch.inference_mode(False), torch.no_grad():
            mirror.settle(chunks)
            if self.device.type != "cuda":
                self._copy_on_host(mirror, chunks, cells)
            else:
                if self._stream is None:
                    self._stream = torch.cuda.Stream(self.device)
                with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
                    self._stream.wait_event(after)
                    begin = torch.cuda.Event(enable_timing=True)
                    done = torch.cuda.Event(enable_timing=True)
                    begin.record()
                    self._copy_to_device(mirror, chunks, cells)
                    done.record()
                    events = (begin, done)
        if self.log is not None:
            n_bytes = len(chunks) * self.cells.shape[1]
            self.log.append(CopyTime(n_bytes, time.perf_counter() - start, events))
        return done

    def _copy_on_host(self, mirror: "HostMirror", chunks: np.ndarray, cells: np.ndarray) -> None:
        source, target = _wide(mirror.rows), _wide(self.cells)
        for first in range(0, len(chunks), STAGED):
            piece = slice(first, first + STAGED)
            rows, to = (torch.from_numpy(x[piece]) for x in (chunks, cells))
            target.index_copy_(0, to, source.index_select(0, rows))

    def _copy_to_device(self, mirror: "HostMirror", chunks: np.ndarray, cells: np.ndarray) -> None:
        both = torch.from_numpy(np.stack((chunks, cells)))
        rows, to = both.pin_memory().to(self.device, non_blocking=True)
        if self.direct and fast.copies_from_host(mirror.rows, self.cells):
            fast.copy_rows(mirror.rows, self.cells, rows, to)
            return
        self._make_buffers()
        source, target, stage = _wide(mirror.rows), _wide(self.cells), _wide(self._stage)
        for piece, first in enumerate(range(0, len(chunks), STAGED)):
            buffer, sent = self._buffers[piece % 2], self._sent[piece % 2]
            sent.synchronize()  # what it held has arrived
            n = min(STAGED, len(chunks) - first)
            gathered = _wide(buffer)[:n]
            torch.index_select(source, 0, both[0, first : first + n], out=gathered)
            stage[:n].copy_(gathered, non_blocking=True)
            sent.record()
            target.index_copy_(0, to[first : first + n], stage[:n])

    def _make_buffers(self) -> None:
        if self._stage is None:
            shape = (STAGED, self.cells.shape[1])
            try:
                buffers = [torch.empty(shape, dtype=torch.uint8).pin_memory() for _ in range(2)]
            except RuntimeError:  # no page-locked memory: copies are waited for
                buffers = [torch.empty(shape, dtype=torch.uint8) for _ in range(2)]
            self._buffers, self._sent = buffers, [torch.cuda.Event() for _ in range(2)]
            self._stage = torch.empty(shape, dtype=torch.uint8, device=self.device)


def _wide(rows: Tensor) -> Tensor:
    """The same bytes as 64-bit numbers, where they divide; copying those is quicker."""
    return rows.view(torch.int64) if rows.shape[1] % 8 == 0 else rows
