"""Committed results, read once and as typed records.

`load("kernels_h100", KernelTimes)` reads `benchmarks/results/kernels_h100.json`, which the package
carries as `intuitive.results`, checks the hash of its config, and turns its values into the record
that is asked for. Who reads it again gets the same object.
"""

import re
import threading
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from cachetools import LRUCache, cached

from . import records

T = TypeVar("T")

KEPT = 32  # files that stay in memory
CARD = re.compile(r"_[a-z]+\d+$")  # the end of a name: h100, h200


@dataclass(frozen=True)
class Made:
    """How a committed result came about."""

    record: str
    command: tuple[str, ...]
    commit: str
    python: str
    torch: str
    device: str
    written: str  # UTC, ISO 8601
    config: Any
    config_hash: str
    seed: int | tuple[int, ...] | None = None


@dataclass(frozen=True)
class Committed(Generic[T]):
    """A result's values and how they were made."""

    values: T
    made: Made
    name: str = ""  # of its file, without the ending


def path(name: str) -> Path:
    """Where the result `name` lies."""
    return Path(str(resources.files("intuitive.results").joinpath(f"{name}.json")))


def names() -> tuple[str, ...]:
    """Every committed result."""
    return tuple(sorted(file.stem for file in path("x").parent.glob("*.json")))


def of_a_card(run: str) -> str:
    """The name of the one result of a run whose file is called by its card, as in `run_h100`.

    Raises:
        FileNotFoundError: none is committed.
        ValueError: several are, of which a reader could take only one.
    """
    found = [name for name in names() if name.rpartition("_")[0] == run and CARD.search(name)]
    if len(found) > 1:
        raise ValueError(f"{', '.join(found)} are results of one run: keep the newest of them.")
    if not found:
        raise FileNotFoundError(
            f"no committed result {run}_<card>; there are {', '.join(names())}."
        )
    return found[0]


@cached(cache=LRUCache(KEPT), lock=threading.Lock())
def load(name: str, kind: type[T]) -> Committed[T]:
    """The committed result `name`, its values as a `kind`.

    Args:
        name: file name without its ending.
        kind: a dataclass, or any type that msgspec converts JSON to. Fields of the file that a
            dataclass does not name are left out.

    Raises:
        FileNotFoundError: no such result; the message lists those there are.
        ValueError: the file was changed by hand, or does not hold a `kind`.
    """
    file = path(name)
    if not file.is_file():
        raise FileNotFoundError(f"no committed result {name!r}; there are {', '.join(names())}.")
    values, made = records.load(file)
    try:
        return Committed(msgspec.convert(values, kind), msgspec.convert(made, Made), name)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{file.name} does not hold a {kind.__name__}: {error}. Run its command again: "
            f"{' '.join(made['command'])}."
        ) from error
