"""Rows of the ledger, built from committed records; and the quick ones, made again."""

import functools
import importlib
import math
import pkgutil
from dataclasses import dataclass
from typing import Any

from intuitive.common.results import Committed

from . import papers
from .claim import Claim, Paper, Spread
from .rules import Verdict


@dataclass(frozen=True, kw_only=True)
class Record:
    """A committed result that a row was read from."""

    name: str
    command: str
    commit: str
    device: str
    written: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One claim: the paper's figure, ours, and what follows."""

    id: str
    paper: str
    claim: str
    paper_value: str
    source: str
    our_value: str
    verdict: Verdict
    why: str
    command: str  # empty where nothing here can make it
    quick: bool  # whether `verify` makes it again
    numbers: dict[str, float]  # means, where there are several seeds
    spread: dict[str, tuple[float, float]]  # least and greatest of these
    seeds: tuple[int, ...]
    records: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One number of a row beside the same, made again."""

    name: str
    row: int | float
    now: int | float
    equal: bool  # within the claim's tolerance


def paper_names() -> tuple[str, ...]:
    """The papers that have claims here, found by looking."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(papers.__path__)))


def paper_of(name: str) -> Paper:
    """What a paper is, and how far it was read.

    Raises:
        ValueError: no such paper.
    """
    return _module(name).PAPER


@functools.cache
def claims_of(paper: str) -> tuple[Claim, ...]:
    """A paper's claims.

    Raises:
        ValueError: no such paper.
    """
    return _module(paper).CLAIMS


def _module(paper: str) -> Any:
    if paper not in paper_names():
        raise ValueError(f"no paper {paper!r}; there are {', '.join(paper_names())}.")
    return importlib.import_module(f"{papers.__name__}.{paper}")


def ledger(paper: str | None = None) -> tuple[Row, ...]:
    """All rows, or those of one paper.

    Raises:
        ValueError: no such paper.
        FileNotFoundError: the package was installed without its results.
    """
    names = paper_names() if paper is None else (paper,)
    return tuple(_row(name, claim) for name in names for claim in claims_of(name))


def row(id: str) -> Row:
    """One row.

    Raises:
        ValueError: no such claim.
    """
    return _row(*_find(id))


def quick_ids(paper: str | None = None) -> tuple[str, ...]:
    """The claims that `verify` makes again, of all papers or of one.

    Raises:
        ValueError: no such paper.
    """
    names = paper_names() if paper is None else (paper,)
    return tuple(c.id for name in names for c in claims_of(name) if c.quick)


def make_again(id: str) -> dict[str, int | float]:
    """Some numbers of a row, made again on this machine's CPU.

    Raises:
        ValueError: no such claim, or one that is not quick; the message says what makes it.
    """
    _, claim = _find(id)
    if claim.quick is None:
        if not claim.command:
            raise ValueError(f"{id} is not testable here: {claim.measure().judged.why}.")
        raise ValueError(f"{id} takes longer, or a GPU. This makes it again: {claim.command}")
    return claim.quick()


def verify(id: str) -> tuple[Checked, ...]:
    """Compare some numbers of a row with the same, made again.

    Raises:
        ValueError: as in `make_again`.
    """
    _, claim = _find(id)
    now, before = make_again(id), row(id).numbers
    return tuple(
        Checked(
            name=name,
            row=before[name],
            now=value,
            equal=math.isclose(value, before[name], rel_tol=claim.within, abs_tol=claim.floor),
        )
        for name, value in now.items()
    )


def _find(id: str) -> tuple[str, Claim]:
    for name in paper_names():
        for claim in claims_of(name):
            if claim.id == id:
                return name, claim
    raise ValueError(f"no claim {id!r}: `intuitive claims` lists those there are.")


def _row(paper: str, claim: Claim) -> Row:
    found = claim.measure()
    spreads = {k: v for k, v in found.numbers.items() if isinstance(v, Spread)}
    return Row(
        id=claim.id,
        paper=paper,
        claim=claim.claim,
        paper_value=claim.paper_value,
        source=claim.source,
        our_value=found.value,
        verdict=found.judged.verdict,
        why=found.judged.why,
        command=claim.command,
        quick=claim.quick is not None,
        numbers={k: v.mean if k in spreads else float(v) for k, v in found.numbers.items()},
        spread={name: (value.low, value.high) for name, value in spreads.items()},
        seeds=_seeds(found.records),
        records=tuple(_record(each) for each in found.records),
    )


def _seeds(records: tuple[Committed[Any], ...]) -> tuple[int, ...]:
    """Every seed of the records once."""
    found: set[int] = set()
    for record in records:
        seed = record.made.seed
        found |= set(seed) if isinstance(seed, tuple) else {seed} - {None}
    return tuple(sorted(found))


def _record(committed: Committed[Any]) -> Record:
    made = committed.made
    return Record(
        name=committed.name,
        command=" ".join(made.command),
        commit=made.commit,
        device=made.device,
        written=made.written,
    )
