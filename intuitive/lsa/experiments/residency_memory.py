"""What the committed run of `benchmarks/lsa_residency.py` found: memory, speed, copies.

    run(ResidencyParams(context=524_288))

reads the file and computes nothing but shares of what stands there. Memory is that of the caches,
everything counted; a step is the attention of 21 CSA and 20 HCA layers and nothing else. What
triggers ask for was replayed from a made-up trace, no model having been trained at these lengths.

`goals` compares what was measured with what was aimed at. Not every goal was met.
"""

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from intuitive.common import results
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

RUN = "lsa_residency"  # the file is named by its card
ARMS = ("everything", "lsa_sync", "lsa_overlapped", "reactive")
CATEGORIES = ("csa_entries", "index_keys", "hca_entries", "window", "tables", "staging")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm at one context; what an arm has not is None or empty."""

    arm: str
    context: int  # tokens
    bytes: dict[str, int]  # resident on the device, by category
    allocated_bytes: int  # the same as the allocator counts it; 0 without a GPU
    scratch_bytes: int  # most held besides during a step that is launched anew
    graph: bool  # whether steps_per_s is of recorded steps
    steps_per_s: float
    eager_steps_per_s: float  # of steps that Python launches
    cycle_ms: tuple[float, ...]  # of the cycles timed
    kept_share: float | None = None  # of all chunks
    cells: int | None = None
    exchange: float | None = None  # share of the fetched chunks that a trigger exchanges
    refetch_rate: float | None = None  # share of those that come that were there before
    copied_chunks: tuple[int, ...] = ()  # of each cycle timed
    copied_bytes: tuple[int, ...] = ()
    copy_ms: tuple[float, ...] = ()  # how long they travelled
    stall_ms: tuple[float, ...] = ()  # how long decoding stood still for them
    fetched_share: float | None = None  # of the entries that selectors chose, those fetched
    bytes_per_step: float | None = None

    @property
    def resident_bytes(self) -> int:
        """Bytes of all categories."""
        return sum(self.bytes.values())

    @property
    def hidden(self) -> float | None:
        """Share of the copy time that decoding did not wait for; None where nothing was copied."""
        travelled = sum(self.copy_ms)
        if not travelled or len(self.stall_ms) != len(self.copy_ms):
            return None
        return 1 - min(sum(self.stall_ms) / travelled, 1.0)

    @property
    def copy_gb_per_s(self) -> float | None:
        """What the copies reached; None where nothing was copied."""
        travelled = sum(self.copy_ms)
        return sum(self.copied_bytes) / travelled / 1e6 if travelled else None


@dataclass(frozen=True, kw_only=True)
class TokenCheck:
    """Moving against masked memory, token for token, of a small model."""

    layout: str
    mode: str
    delay: int  # steps
    steps: int
    requests: int
    equal: bool
    fetched: int  # chunks
    refetched: int
    late: int  # chunks that decoding waited for, the first set left out


@dataclass(frozen=True, kw_only=True)
class Capped:
    """What ran under a cap on GPU memory."""

    context: int  # tokens
    cap_bytes: int
    everything: str  # the error, or "ran"
    lsa: Row


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A stage that failed."""

    stage: str
    error: str


@dataclass(frozen=True, kw_only=True)
class ResidencyFile:
    """The values of the file."""

    rows: tuple[Row, ...]
    checks: tuple[TokenCheck, ...]
    bandwidth: dict[str, float] = field(
        default_factory=dict
    )  # GB/s from page-locked memory, by what
    capped: Capped | None = None
    faults: tuple[Fault, ...] = ()
    stages: dict[str, float] = field(default_factory=dict)  # seconds; what is not named was not run


@dataclass(frozen=True, kw_only=True)
class ResidencyParams(Settings):
    """The context that is looked at."""

    context: int = 2**19

    def __post_init__(self) -> None:
        known = contexts()
        if self.context not in known:
            raise ValueError(f"context={self.context} was not measured; choose from {known}.")


@dataclass(frozen=True, kw_only=True)
class ResidencyResult:
    """All rows of the main trace, and shares at one context."""

    params: ResidencyParams
    device: str
    commit: str
    rows: tuple[Row, ...]  # by context, then by arm
    exchanged: tuple[Row, ...]  # LSA where triggers exchange more
    checks: tuple[TokenCheck, ...]
    ceiling_gb_per_s: float | None  # one piece from page-locked memory
    bandwidth: dict[str, float]
    capped: Capped | None
    memory_share: dict[str, float]  # of everything resident, by arm
    speed: dict[str, float]  # against everything resident, by arm
    hidden: float | None  # share of the copy time, overlapped
    faults: tuple[Fault, ...]
    stages: dict[str, float]  # seconds of those that were run

    def at(self, context: int) -> dict[str, Row]:
        """The rows of a context, by arm."""
        return {row.arm: row for row in self.rows if row.context == context}


def measured() -> results.Committed[ResidencyFile]:
    """The committed run.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load(results.of_a_card(RUN), ResidencyFile)


@functools.cache
def contexts() -> tuple[int, ...]:
    """Contexts with a row of everything resident, rising."""
    rows = measured().values.rows
    return tuple(sorted({row.context for row in rows if row.arm == "everything"}))


def run(
    params: ResidencyParams,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> ResidencyResult:
    """What was measured, and shares at one context.

    Raises:
        Cancelled: `stale()` was true.
    """
    check(stale)
    return of(measured(), params)


def of(found: results.Committed[ResidencyFile], params: ResidencyParams) -> ResidencyResult:
    """The result that a file holds."""
    values = found.values
    main = min((row.exchange for row in values.rows if row.exchange is not None), default=None)
    rows = [row for row in values.rows if row.exchange in (None, main)]
    rows.sort(key=lambda row: (row.context, ARMS.index(row.arm)))
    here = {row.arm: row for row in rows if row.context == params.context}
    everything, overlapped = here.get("everything"), here.get("lsa_overlapped")
    shares, speed = {}, {}
    if everything is not None:
        for arm, row in here.items():
            shares[arm] = row.resident_bytes / everything.resident_bytes
            alike = row.graph and everything.graph
            ours, theirs = (
                r.steps_per_s if alike else r.eager_steps_per_s for r in (row, everything)
            )
            speed[arm] = ours / theirs
    return ResidencyResult(
        params=params,
        device=found.made.device,
        commit=found.made.commit,
        rows=tuple(rows),
        exchanged=tuple(row for row in values.rows if row.exchange not in (None, main)),
        checks=values.checks,
        ceiling_gb_per_s=values.bandwidth.get("contiguous"),
        bandwidth=values.bandwidth,
        capped=values.capped,
        memory_share=shares,
        speed=speed,
        hidden=None if overlapped is None else overlapped.hidden,
        faults=values.faults,
        stages=values.stages,
    )


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One aim of the benchmark, and what was measured."""

    what: str
    arm: str  # "" where it concerns all
    bound: float
    at_most: bool  # or at least
    measured: float | None  # None: this was not reached

    @property
    def met(self) -> bool | None:
        """Whether the aim was reached; None where nothing was measured."""
        if self.measured is None:
            return None
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound


MEMORY, SPEED, HIDDEN, ALLOCATOR, CAPPED = (
    "memory, of everything resident",
    "steps per second, of everything resident",
    "copy time hidden",
    "allocator against the sum of categories",
    "LSA under a cap that everything resident does not fit, of the cap",
)


def goals(result: ResidencyResult) -> tuple[Goal, ...]:
    """The aims at the context of a result, met and missed.

    The allocator's count is compared for each arm there; under the cap, the fraction is what LSA
    held, and counts only if everything resident ran out of memory.
    """
    found = []
    for arm in ("lsa_sync", "lsa_overlapped"):
        share, speed = result.memory_share.get(arm), result.speed.get(arm)
        found.append(Goal(what=MEMORY, arm=arm, bound=0.16, at_most=True, measured=share))
        found.append(Goal(what=SPEED, arm=arm, bound=0.95, at_most=False, measured=speed))
    found.append(
        Goal(what=HIDDEN, arm="lsa_overlapped", bound=0.9, at_most=False, measured=result.hidden)
    )
    for arm, row in result.at(result.params.context).items():
        apart = largest_disagreement((row,)) if row.allocated_bytes else None
        found.append(Goal(what=ALLOCATOR, arm=arm, bound=0.02, at_most=True, measured=apart))
    capped = result.capped
    held = None
    if capped is not None and "OutOfMemory" in capped.everything:
        held = capped.lsa.resident_bytes / capped.cap_bytes
    found.append(Goal(what=CAPPED, arm="lsa_overlapped", bound=1.0, at_most=True, measured=held))
    return tuple(found)


def largest_disagreement(rows: tuple[Row, ...]) -> float:
    """Largest relative difference between the sum of categories and the allocator's count."""
    counted = [row for row in rows if row.allocated_bytes]
    return max((abs(row.allocated_bytes / row.resident_bytes - 1) for row in counted), default=0.0)


def spread(row: Row) -> float:
    """Spread of the cycles timed: the widest distance from their median, relative to it."""
    middle = statistics.median(row.cycle_ms)
    return max(abs(ms - middle) for ms in row.cycle_ms) / middle
