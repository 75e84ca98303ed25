"""Which chunk is in which cell: bookkeeping alone, on the host, whole arrays at a time."""

from collections.abc import Sequence

import numpy as np

from intuitive.common.checks import whole

ABSENT, RESIDENT, RESERVED, ARRIVING = range(4)  # what a chunk is


class PoolFull(RuntimeError):
    """More chunks must be resident than the pool has cells."""


class _Held:
    """Where the chunks of one request are."""

    def __init__(self) -> None:
        self.state = np.zeros(0, np.int8)
        self.cell = np.zeros(0, np.int64)
        self.since = np.zeros(0, np.int64)  # in reserve: when it was put there

    def grow(self, n: int) -> None:
        more = max(n, 2 * len(self.state)) - len(self.state)
        if n > len(self.state):
            self.state = np.concatenate((self.state, np.zeros(more, np.int8)))
            self.cell = np.concatenate((self.cell, np.full(more, -1, np.int64)))
            self.since = np.concatenate((self.since, np.zeros(more, np.int64)))


class CellTable:
    """Cells of all requests.

    A chunk is absent, resident (its cell is read), in reserve (its cell is kept but may be taken,
    the one unused longest first) or arriving (its cell is being filled and is not read yet).

    Args:
        n_cells: of all requests together.
        reserve: cells that may keep chunks which are not resident at the moment.

    Raises:
        ValueError: no cell, or a negative reserve.
    """

    def __init__(self, n_cells: int, reserve: int = 0) -> None:
        self.n_cells = whole("n_cells", n_cells, low=1)
        self.reserve = whole("reserve", reserve, low=0)
        self._free = np.arange(self.n_cells)[::-1].copy()  # a stack
        self.n_free = self.n_cells
        self.n_reserved = 0
        self._held: dict[int, _Held] = {}
        self._next_request = 0
        self._clock = 0

    def open(self) -> int:
        """A number for a new request, which has never been used before."""
        request, self._next_request = self._next_request, self._next_request + 1
        self._held[request] = _Held()
        return request

    def resident(self, request: int) -> tuple[np.ndarray, np.ndarray]:
        """A request's resident chunks, rising, and the cell of each."""
        held = self._held[request]
        chunks = np.flatnonzero(held.state == RESIDENT)
        return chunks, held.cell[chunks]

    def are_resident(self, request: int, chunks: np.ndarray) -> np.ndarray:
        """Which of these chunks, all of them asked for before, are resident."""
        return self._held[request].state[chunks] == RESIDENT

    def is_resident(self, request: int, chunk: int) -> bool:
        """Whether a chunk is resident, asked for before or not."""
        state = self._held[request].state
        return chunk < len(state) and bool(state[chunk] == RESIDENT)

    def place(
        self, request: int, wanted: Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make exactly these chunks of a request resident.

        Args:
            wanted: their numbers.

        Returns:
            The chunks that must be copied, rising, and the cell of each: they were neither
            resident, nor in reserve, nor arriving.

        Raises:
            PoolFull: there are not enough cells. Nothing has changed then.
        """
        held, is_wanted = self._mark(request, wanted)
        state = held.state
        missing = np.flatnonzero(is_wanted & (state == ABSENT))
        back = int((is_wanted & (state == RESERVED)).sum())
        leaving = np.flatnonzero(~is_wanted & ((state == RESIDENT) | (state == ARRIVING)))
        room = self.n_free + len(leaving) + self.n_reserved - back
        if len(missing) > room:
            raise PoolFull(
                f"{int(is_wanted.sum())} chunks must be resident, {len(missing)} of them new, and "
                f"{room} of {self.n_cells} cells can be had: make a larger pool, or choose less."
            )
        self._clock += 1
        state[is_wanted & (state != ABSENT)] = RESIDENT
        state[leaving], held.since[leaving] = RESERVED, self._clock
        self.n_reserved += len(leaving) - back
        cells = self._take(len(missing))
        state[missing], held.cell[missing] = RESIDENT, cells
        self._give(self._evict(max(self.n_reserved - self.reserve, 0)))
        return missing, cells

    def prefetch(
        self, request: int, wanted: Sequence[int] | np.ndarray, *, spare: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give cells to those of the chunks that have none, as far as there are cells.

        They arrive: nobody reads them until `place` makes them resident. What is resident stays.

        Args:
            wanted: their numbers.
            spare: cells to leave for chunks that decoding closes meanwhile.

        Returns:
            The chunks to be copied, rising, and the cell of each.
        """
        held, is_wanted = self._mark(request, wanted)
        back = is_wanted & (held.state == RESERVED)
        held.state[back] = ARRIVING
        self.n_reserved -= int(back.sum())
        missing = np.flatnonzero(is_wanted & (held.state == ABSENT))
        missing = missing[: max(self.n_free + self.n_reserved - spare, 0)]
        cells = self._take(len(missing))
        held.state[missing], held.cell[missing] = ARRIVING, cells
        return missing, cells

    def add(self, request: int, chunk: int) -> int:
        """A cell for a chunk that decoding has closed; the same one if asked again.

        Raises:
            PoolFull: no cell is left.
        """
        held = self._held[request]
        held.grow(chunk + 1)
        if held.state[chunk] == ABSENT:
            if not (self.n_free or self.n_reserved):
                raise PoolFull(
                    f"decoding has closed chunk {chunk} and all {self.n_cells} cells hold resident "
                    "chunks: make a larger pool, or choose less."
                )
            held.cell[chunk] = self._take(1)[0]
        elif held.state[chunk] == RESERVED:
            self.n_reserved -= 1
        held.state[chunk] = RESIDENT
        return int(held.cell[chunk])

    def drop(self, request: int, chunks: Sequence[int] | np.ndarray) -> None:
        """Free the cells of these chunks, if they have any."""
        held = self._held[request]
        chunks = np.asarray(chunks, np.int64)
        chunks = chunks[held.state[chunks] != ABSENT]
        self.n_reserved -= int((held.state[chunks] == RESERVED).sum())
        held.state[chunks] = ABSENT
        self._give(held.cell[chunks])

    def forget(self, request: int, first: int) -> None:
        """Free the cells of a request's chunks from the first on, if they have any."""
        self.drop(request, np.arange(first, len(self._held[request].state)))

    def release(self, request: int) -> None:
        """Free all cells of a request, which is over; once more does nothing."""
        if request in self._held:
            self.forget(request, 0)
            del self._held[request]

    def _mark(self, request: int, wanted: Sequence[int] | np.ndarray) -> tuple[_Held, np.ndarray]:
        held, wanted = self._held[request], np.asarray(wanted, np.int64)
        held.grow(int(wanted.max()) + 1 if len(wanted) else 0)
        marked = np.zeros(len(held.state), bool)
        marked[wanted] = True
        return held, marked

    def _take(self, n: int) -> np.ndarray:
        """n cells, free ones first, then the oldest of the reserve."""
        free = min(n, self.n_free)
        cells = self._free[self.n_free - free : self.n_free][::-1].copy()
        self.n_free -= free
        return np.concatenate((cells, self._evict(n - free)))

    def _give(self, cells: np.ndarray) -> None:
        self._free[self.n_free : self.n_free + len(cells)] = cells
        self.n_free += len(cells)

    def _evict(self, n: int) -> np.ndarray:
        """Cells of the n chunks that are in reserve longest; the lower chunk first."""
        if not n:
            return np.zeros(0, np.int64)
        rows = []
        for request, held in self._held.items():
            chunks = np.flatnonzero(held.state == RESERVED)
            rows.append(np.stack((np.full_like(chunks, request), chunks, held.since[chunks])))
        requests, chunks, since = np.concatenate(rows, 1)
        oldest = np.lexsort((chunks, requests, since))[:n]
        cells = np.empty(n, np.int64)
        for at, i in enumerate(oldest) if len(self._held) > 1 else ():
            held = self._held[int(requests[i])]
            held.state[chunks[i]], cells[at] = ABSENT, held.cell[chunks[i]]
        if len(self._held) == 1:
            held = next(iter(self._held.values()))
            held.state[chunks[oldest]] = ABSENT
            cells = held.cell[chunks[oldest]]
        self.n_reserved -= n
        return cells
