"""What a row of the ledger is made of: a claim as the paper states it, and what was found here.

A paper's figure is typed, with its source. Nothing else is: what was found here is computed from
committed records whenever the ledger is asked for, and so is the verdict.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from intuitive.common import results
from intuitive.common.results import Committed

from .rules import Judged

FACTS = "claims_facts"  # the record of `benchmarks/claims.py`


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a paper's claims stand, and how far it was read for them."""

    title: str
    arxiv: str  # its number there, with the version where one was read
    read: str  # goes on from "Read "

    @property
    def link(self) -> str:
        """In Markdown."""
        return f"[arXiv:{self.arxiv}](https://arxiv.org/abs/{self.arxiv})"


@dataclass(frozen=True)
class Spread:
    """A measure over several seeds, texts or runs; formatted as mean (least to greatest)."""

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, form: str) -> str:
        return f"{self.mean:{form}} ({self.low:{form}} to {self.high:{form}})"


def over(values: Iterable[int | float]) -> Spread:
    """The spread of some values.

    Raises:
        ValueError: there are none.
    """
    values = [float(value) for value in values]
    if not values:
        raise ValueError("no values to take the spread of: the record lacks this setting.")
    low, high = min(values), max(values)
    mean = min(max(math.fsum(values) / len(values), low), high)  # rounding leaves no mean outside
    return Spread(mean, low, high, len(values))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found of one claim."""

    value: str  # our figure and its setting, in words
    judged: Judged
    numbers: dict[str, int | float | Spread] = field(default_factory=dict)
    records: tuple[Committed[Any], ...] = ()  # that the numbers were read from


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One headline claim of a paper, and how it is tested."""

    id: str
    claim: str
    paper_value: str  # its figure and setting
    source: str  # section, table or figure of the paper
    measure: Callable[[], Measured]
    command: str = ""  # that makes our value again; empty where nothing here can
    quick: Callable[[], dict[str, int | float]] | None = (
        None  # some of the numbers, made again on a CPU
    )
    within: int | float = 1e-6  # how near these come, relatively
    floor: int | float = 1e-9  # or absolutely


def fact(
    id: str,
    quick: Callable[[], dict[str, int | float]],
    told: Callable[[dict[str, float]], tuple[str, Judged]],
    **fields: Any,
) -> Claim:
    """A claim about something exact that a CPU works out in seconds.

    Args:
        id: of the claim.
        quick: works it out; `benchmarks/claims.py` commits what it returned.
        told: makes our value, in words, and the verdict of the numbers committed.
        fields: the other fields of `Claim`.
    """

    def measure() -> Measured:
        found = results.load(FACTS, Facts)
        if id not in found.values.facts:
            raise ValueError(f"{FACTS}.json lacks {id!r}: run python benchmarks/claims.py again.")
        numbers = found.values.facts[id]
        value, judged = told(numbers)
        return Measured(value=value, judged=judged, numbers=dict(numbers), records=(found,))

    command = f"intuitive claims --verify {id}"
    return Claim(id=id, measure=measure, quick=quick, command=command, **fields)


def untested(why: str) -> Callable[[], Measured]:
    """The measure of a claim that nothing here can test, and why not."""
    return lambda: Measured(value="not measured", judged=Judged("not testable here", why))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The values of `claims_facts.json`: numbers by claim."""

    facts: dict[str, dict[str, float]]
