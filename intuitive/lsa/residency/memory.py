"""One request's memory: a mirror on the host, cells on the device, and a cache per CSA layer.

Whoever decides what shall be resident calls `apply`, at once or some steps after `prefetch`:

    memory = RequestMemory(pool, capacity)
    memory.prefetch(chunks)     # their copies travel beside the next steps
    memory.apply(chunks)        # from here on exactly these are read
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from intuitive.common.checks import whole

from .cells import CellCache
from .mirror import HostMirror
from .mover import Job
from .pool import CellPool


@dataclass(frozen=True, eq=False)
class Moved:
    """What making a set resident took."""

    chunks: np.ndarray  # that were copied for it, beside the decoding or not
    late: int  # of these, chunks that had to be waited for
    waited_s: float  # for copies, on the host
    events: tuple[torch.cuda.Event, ...] = ()  # on a GPU, before and after each wait

    def stall_ms(self) -> float:
        """How long decoding stood still for copies: the device's time if there is one."""
        if not self.events:
            return 1e3 * self.waited_s
        self.events[-1].synchronize()
        pairs = zip(self.events[::2], self.events[1::2], strict=True)
        return sum(max(before.elapsed_time(after), 0.0) for before, after in pairs)


NOTHING = np.zeros(0, np.int64)


class RequestMemory:
    """The CSA caches of one request, and the moving of their chunks.

    Args:
        pool: the cells.
        capacity: tokens.

    Raises:
        ValueError: no room.
        NoRoomOnDevice, RuntimeError: there is no memory for it, on the device or the host.

    `timed` has `Moved` tell the device's time; its events cost little, but are not free.
    """

    def __init__(self, pool: CellPool, capacity: int) -> None:
        config = pool.config
        capacity = whole("capacity", capacity, low=1)
        self.pool, self.timed = pool, False
        always = tuple(i for i in range(config.n_csa) if not pool.has_keys(i))
        self.mirror = HostMirror(pool.layout, capacity // config.chunk_size, always, pool.device)
        self.request = pool.open()
        self.caches = tuple(
            CellCache(config, i, capacity, pool, self.request, self.mirror, pool.dtype)
            for i in pool.layout.layers
        )
        for cache in self.caches:
            cache.settle = self._settle
        self._job: Job | None = None
        self._on_the_way = NOTHING  # chunks that the job copies
        self._came = NOTHING  # chunks copied since the last set was applied

    @property
    def n_chunks(self) -> int:
        """Chunks held, on the host."""
        return self.caches[0].n_entries

    def prefetch(self, wanted: Sequence[int] | np.ndarray, *, spare: int = 0) -> int:
        """Begin to copy those of the chunks that are not here, as far as there are cells.

        What is resident stays so and is read meanwhile. What finds no cell, or fails, is copied
        when the chunks are applied, and waited for.

        Args:
            wanted: numbers of chunks.
            spare: cells to leave for chunks that decoding closes meanwhile.

        Returns:
            Chunks on their way.
        """
        self._settle()
        chunks, cells = self.pool.prefetch(self.request, wanted, spare=spare)
        if len(chunks):
            self._job = self.pool.mover.start(self.mirror, chunks, cells)
            self._on_the_way = chunks
        return len(chunks)

    def apply(self, wanted: Sequence[int] | np.ndarray) -> Moved:
        """Make exactly these chunks resident; copies what has not come yet, and waits for it.

        Raises:
            PoolFull: there are not enough cells. What was resident still is.
            Exception: whatever a copy raises. The chunks that it was to bring are not resident
                then; call again.
        """
        marks: list[torch.cuda.Event] = []
        waited = 0.0
        if self._job is not None:
            start = self._mark(marks)
            self._settle()
            waited += self._mark(marks) - start
        chunks, cells = self.pool.place_arrays(self.request, wanted)
        if len(chunks):
            start = self._mark(marks)
            try:
                self.pool.mover.copy(self.mirror, chunks, cells)
            except BaseException:
                self.pool.drop(self.request, chunks)
                raise
            waited += self._mark(marks) - start
        for cache in self.caches:
            cache.offloaded = True
        here = self.pool.table_of_cells.are_resident(self.request, self._came)
        came, self._came = self._came[here], NOTHING
        return Moved(np.union1d(came, chunks), len(chunks), waited, tuple(marks))

    def _mark(self, marks: list[torch.cuda.Event]) -> float:
        """The time; and, if it is asked for, an event on the device."""
        if self.timed and self.pool.device.type == "cuda":
            marks.append(torch.cuda.Event(enable_timing=True))
            marks[-1].record()
        return time.perf_counter()

    def _settle(self) -> None:
        """Wait for the copy that is on its way; chunks of one that failed are not here."""
        job, chunks = self._job, self._on_the_way
        self._job, self._on_the_way = None, NOTHING
        if job is None:
            return
        try:
            job.wait()
        except Exception:
            self.pool.drop(self.request, chunks)
        else:
            self._came = np.union1d(self._came, chunks)

    def close(self) -> None:
        """Give the cells back; once more does nothing."""
        self._settle()
        self.pool.release(self.request)
