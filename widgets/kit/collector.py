"""Python's garbage collector waits while a picture is on its way.

A picture is thousands of small objects, and making them sets the collector off. It looks through
everything that lives, which beside torch takes a tenth of a second or more: a slider that moves
would stumble. While anybody holds it, the collector waits; what it has to do then it does when
the picture has left. And what stands before the first explorer, nearly all of it libraries that
stay for good, it is told once to look at no more: a round then takes some milliseconds.
"""

import gc
import threading

_lock = threading.Lock()
_holders: set[int] = set()  # threads
_was_on = False
_set_aside = False


def set_aside() -> None:
    """The collector looks no more at what lives now, cycles that nobody needs cleared before.

    It does so once: an explorer, unlike a library, is to go when its cell runs again.
    """
    global _set_aside
    with _lock:
        if _set_aside:
            return
        _set_aside = True
        gc.collect()
        gc.freeze()


def hold() -> None:
    """The collector waits until this thread calls `release`."""
    global _was_on
    with _lock:
        if not _holders:
            _was_on = gc.isenabled()
            gc.disable()
        _holders.add(threading.get_ident())


def release() -> None:
    """The collector need not wait for this thread any more; does nothing if it never had to."""
    with _lock:
        if threading.get_ident() in _holders:
            _holders.discard(threading.get_ident())
            if not _holders and _was_on:
                gc.enable()
