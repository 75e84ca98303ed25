"""How the kernels of LSA cut their work, and a way to try another cut.

Each launcher takes the first of its tiles that fits the card, unless `force` names one:

    with tuning.force(score_chunks=tile):
        score_chunks(...)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_forced: ContextVar[Mapping[str, object]] = ContextVar("forced tiles", default={})  # noqa: B039


@dataclass(frozen=True, kw_only=True)
class ScoreTile:
    """How `score_chunks` is cut: each program walks over tiles of chunks, all heads at once."""

    chunks: int  # per product
    num_warps: int
    num_stages: int  # tiles of keys that are in memory at a time
    programs: int  # for each batch entry; 3 for each of an H100's multiprocessors is 396
    registers: int | None = None  # of a thread at most, so that these programs fit beside others
    prefetch: int = (
        0  # tiles of keys that are sent for ahead, into L2: the first before the queries
    )


@dataclass(frozen=True, kw_only=True)
class CellTile:
    """How `cell_attention` is cut: a program serves some heads and a stretch of cells."""

    heads: int
    keys: int  # per product
    num_warps: int
    num_stages: int
    programs: int  # to aim at: few cells are one product each


@dataclass(frozen=True, kw_only=True)
class CopyTile:
    """How `copy_cells` is cut: each program walks over stretches of words."""

    words: int
    num_warps: int
    programs: int


def forced(operation: str) -> object | None:
    """The tile that `force` gave the operation, or None."""
    return _forced.get().get(operation)


@contextmanager
def force(**tiles: object) -> Iterator[None]:
    """Inside, the operations named run with these tiles, whether or not they fit the card."""
    before = _forced.set({**_forced.get(), **tiles})
    try:
        yield
    finally:
        _forced.reset(before)
