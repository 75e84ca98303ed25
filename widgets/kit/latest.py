"""One worker thread per explorer: a newer request makes the running one stale.

A slider sends values faster than a model can answer. `LatestWins` keeps only the newest
request, tells a slow computation through `stale()` that nobody waits for it any more, and
always finishes with the last value submitted, so that picture and slider agree. A quick
computation is let finish and shown, or nothing would move while a slider is dragged.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from intuitive.common.runtime import Cancelled

Stale = Callable[[], bool]

PATIENCE = 0.1  # seconds that an overtaken computation may still take to finish
REST = 5.0  # seconds without a request after which the thread ends; the next request starts another

_log = logging.getLogger(__name__)


class LatestWins:
    """Run `compute(request, stale)` on one worker; deliver only the newest result.

    Args:
        compute: called on the worker; asks `stale()` in its loops and may raise `Cancelled`.
        apply: called on the worker with `(request, result, stale)`. A request may be refused while
            its result is on the way: `apply` asks `stale()` again once it holds its own lock.
        on_error: called on the worker with `(request, exception, stale)`.
        patience: seconds before an overtaken computation counts as stale.
        after: called on the worker after every request, however it ended.
    """

    def __init__(
        self,
        compute: Callable[[Any, Stale], Any],
        apply: Callable[[Any, Any, Stale], None],
        on_error: Callable[[Any, Exception, Stale], None],
        *,
        patience: int | float = PATIENCE,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._compute, self._apply, self._on_error = compute, apply, on_error
        self._changed = threading.Condition()
        self._waiting: tuple[int, Any] | None = None
        self._generation = 0  # of the newest request
        self._unwanted = 0  # requests up to this one were cancelled
        self._patience = patience
        self._after = after
        self._closed = False
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None

    @property
    def requests(self) -> int:
        """How many there have been."""
        return self._generation

    def submit(self, request: Any) -> None:
        """Ask for `request`; what waits is dropped, what runs becomes stale."""
        with self._changed:
            if self._closed:
                return
            self._generation += 1
            self._waiting = (self._generation, request)
            self._idle.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self._changed.notify()

    def cancel(self) -> None:
        """Make the running and the waiting request stale without asking for another."""
        with self._changed:
            self._unwanted = self._generation
            self._waiting = None

    def wait(self, timeout: int | float = 30) -> bool:
        """Block until nothing runs or waits; False when `timeout` seconds pass first."""
        return self._idle.wait(timeout)

    def close(self) -> None:
        """Stop the worker; later requests are ignored."""
        with self._changed:
            self._closed = True
            self._unwanted = self._generation
            self._waiting = None
            self._changed.notify()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            generation, request = taken
            begun = time.monotonic()

            def stale(generation: int = generation, begun: float = begun) -> bool:
                if generation <= self._unwanted:
                    return True
                overtaken = generation != self._generation
                return overtaken and time.monotonic() - begun > self._patience

            try:
                result = self._compute(request, stale)
                if not stale():
                    self._apply(request, result, stale)
            except Cancelled:
                pass
            except Exception as error:  # otherwise nobody would ever see it
                try:
                    if not stale():
                        self._on_error(request, error, stale)
                except Exception:  # the worker outlives whatever a handler does
                    _log.exception("the error handler of a request failed")
            finally:
                self._after()

    def _take(self) -> tuple[int, Any] | None:
        """The next request; None when the thread is to end."""
        with self._changed:
            if self._waiting is None:
                self._idle.set()
                self._changed.wait_for(lambda: self._waiting or self._closed, timeout=REST)
            if self._waiting is None:
                self._thread = None
                return None
            taken, self._waiting = self._waiting, None
            return taken
