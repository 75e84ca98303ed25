"""The contest: what each residency policy had at hand, and what it moved, at equal room on the GPU.

Policies are replayed over a recorded decode (`arms`), with room for more and more chunks. Bytes are
those of DeepSeek-V4-Flash's entries, as if the recorded chunks were its own.
"""

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache, cached

from intuitive.common import results
from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from .. import results as arms_results
from .. import shipped
from ..arms import Arm, Policy, Residency, replay
from ..config import LSAConfig
from ..exercise import Choose, replay_verdicts
from ..recording import Recording
from .threshold import load
from .topical_arms import Point

ROOMS = (4, 8, 16, 32, 64)  # chunks beside those that always stay
SHOWN: tuple[Arm, ...] = ("lsa", "reactive", "oracle", "quest", "recency", "random")
YOURS = "yours"
SMOLLM = "lsa_smollm"  # the committed run on SmolLM2, where there is one


@dataclass(frozen=True, kw_only=True)
class ContestParams(Settings):
    """The controls of the contest; what depends on the recording, `run` checks."""

    text: str = "topical"
    lookahead: int = 64  # steps between two decisions
    lag: int = 0  # windows by which they come late
    layers: int = 3  # target layers joined
    measure: str = "needed"  # or "attention"
    tail: int = 16  # newest chunks, always resident

    def __post_init__(self) -> None:
        whole_fields(self, layers=1, tail=0)
        if self.measure not in ("needed", "attention"):
            raise ValueError(f"measure={self.measure!r} is unknown: 'needed' or 'attention'.")
        self.policy("lsa", ROOMS[0])

    def policy(self, arm: Arm, room: int) -> Policy:
        """One arm with room for so many chunks."""
        return Policy(
            arm=arm,
            lookahead=self.lookahead,
            rule="budget",
            size=room,
            lag=self.lag,
            layers=self.layers,
            tail_chunks=self.tail,
            sink=1,
        )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One arm with one room; shares in [0, 1]."""

    arm: str  # one of SHOWN, or YOURS
    room: int  # chunks
    needed: float  # of the chunks needed, those that were there whenever needed
    attention: float  # of the attention, what lay on chunks that were there
    kept: float  # of the old chunks, on average
    copied: float  # chunks per step, without those that are always there
    n_bytes: float  # per step, at the paper's sizes
    refetched: float  # of the copied chunks, those that had been there before

    def share(self, measure: str) -> float:
        """What was found, as asked for by `ContestParams.measure`."""
        return self.needed if measure == "needed" else self.attention


@dataclass(frozen=True, kw_only=True)
class ContestResult:
    """Every arm with every room."""

    params: ContestParams
    entries: dict[str, tuple[Entry, ...]]  # of ROOMS
    n_steps: int
    n_old: int  # chunks that may leave the GPU at the first step

    @property
    def n_decisions(self) -> int:
        """Of all arms but the one that fetches on demand."""
        return -(-self.n_steps // self.params.lookahead)


def run(
    params: ContestParams,
    *,
    choose: Choose | None = None,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> ContestResult:
    """Replay every arm with every room.

    Args:
        params: the settings.
        choose: a reader's own rule (`exercise`), replayed beside the others as "yours".
        stale: turns true when nobody waits; asked between arms.
        progress: called with a share in [0, 1] and a sentence.

    Raises:
        ValueError: an unknown recording, more layers than were recorded, or a rule that names no
            chunks that may be fetched.
        Cancelled: `stale()` became true.
    """
    entries: dict[str, tuple[Entry, ...]] = {}
    plain = dataclasses.replace(params, measure="needed")
    for i, arm in enumerate(SHOWN):
        check(stale)
        progress(i / len(SHOWN), f"Replaying {arm}")
        entries[arm] = tuple(entry(plain, arm, room) for room in ROOMS)
    recording = load(params.text)
    if choose is not None:
        entries[YOURS] = tuple(_yours(choose, recording, params, room) for room in ROOMS)
    policy = params.policy("lsa", ROOMS[0])
    n_old = max(int(recording.closed[0]) - policy.tail_chunks - policy.sink, 0)
    return ContestResult(params=params, entries=entries, n_steps=recording.n_steps, n_old=n_old)


@cached(LRUCache(1024), lock=threading.Lock())
def entry(params: ContestParams, arm: Arm, room: int) -> Entry:
    """One arm with one room; the measure of the params plays no part."""
    return _entry(replay(load(params.text), params.policy(arm, room)), arm, room)


def _yours(choose: Choose, recording: Recording, params: ContestParams, room: int) -> Entry:
    policy = params.policy("lsa", room)
    found = replay_verdicts(lambda z: choose(z.tolist(), room), recording, policy, most=room)
    return _entry(found, YOURS, room)


def _entry(found: Residency, arm: str, room: int) -> Entry:
    steps = len(found.resident)
    return Entry(
        arm=arm,
        room=room,
        needed=found.golden_recall,
        attention=found.mass_recall,
        kept=found.kept,
        copied=int(found.chosen.sum()) / steps,
        n_bytes=int(found.moved_bytes(LSAConfig.paper(), chosen=True).sum()) / steps,
        refetched=found.chosen_again,
    )


# ------------------------------------------------------------------------------- answered


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One policy in the committed run, which lets the model answer; means over seeds.

    Attributes:
        accuracy, low, high: share of right answers, and its least and greatest of the seeds.
        n_bytes: copied per token, in all CSA layers of the small model.
    """

    arm: str
    rule: str
    size: int | None
    lookahead: int
    lag: int
    length: float  # of the prompt, in lengths of the training's longest
    mode: str
    accuracy: float
    low: float
    high: float
    needed: float
    attention: float
    kept: float
    n_bytes: float


def is_answered() -> bool:
    """Whether the run that lets the model answer is committed."""
    return arms_results.NAME in results.names()


def trained_lookahead() -> int:
    """Steps of the windows that the shipped Memory Indexer was trained for."""
    return shipped.topical().config.lookahead


def answered(sweep: str) -> tuple[Answered, ...]:
    """One sweep of the committed run, seeds joined, in the order of the file.

    Raises:
        FileNotFoundError: no such run is committed.
        KeyError: it has no such sweep.
    """
    groups: dict[tuple, list[Point]] = {}
    for point in arms_results.arms().values.select(sweep):
        groups.setdefault(_setting(point), []).append(point)
    return tuple(_joined(group) for group in groups.values())


def _setting(point: Point) -> tuple:
    """Everything but the seed and what was found."""
    rule = (point.rule, point.threshold, point.size, point.layers)
    task = (point.length, point.mode, point.section, point.offset)
    return (point.arm, *rule, point.lookahead, point.lag, *task)


def _joined(group: list[Point]) -> Answered:
    one, n = group[0], len(group)
    accuracies = [point.accuracy for point in group]
    return Answered(
        arm=one.arm,
        rule=one.rule,
        size=one.size,
        lookahead=one.lookahead,
        lag=one.lag,
        length=one.length,
        mode=one.mode,
        accuracy=sum(accuracies) / n,
        low=min(accuracies),
        high=max(accuracies),
        needed=sum(point.golden_recall for point in group) / n,
        attention=sum(point.mass_recall for point in group) / n,
        kept=sum(point.kept for point in group) / n,
        n_bytes=sum(point.bytes_per_token for point in group) / n,
    )


# ------------------------------------------------------------------------- SmolLM2 predicts


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """One policy on SmolLM2, from `benchmarks/lsa_smollm.py`; with several seeds, one of them."""

    texts: int  # held-out ones, over which the measures are means
    arm: str
    rule: str
    size: int | None  # chunks of a budget
    threshold: float | None
    lookahead: int
    lag: int
    layers: int | None  # joined; all if None
    seed: int
    perplexity_returned: float  # of passages that return, once they have been noticed
    chunks_copied_per_64_steps: float
    kept: float  # of the old chunks


@dataclass(frozen=True, kw_only=True)
class PredictedFile:
    """The values of the committed run."""

    arms: tuple[Predicted, ...]


def predicted() -> tuple[Predicted, ...]:
    """Every policy of the committed run on SmolLM2, means over seeds; nothing without a run."""
    if SMOLLM not in results.names():
        return ()
    groups: dict[tuple, list[Predicted]] = {}
    for row in results.load(SMOLLM, PredictedFile).values.arms:
        rule = (row.rule, row.size, row.threshold)
        key = (row.arm, *rule, row.lookahead, row.lag, row.layers)
        groups.setdefault(key, []).append(row)
    measures = ("perplexity_returned", "chunks_copied_per_64_steps", "kept")
    return tuple(
        dataclasses.replace(
            group[0],
            **{name: sum(getattr(row, name) for row in group) / len(group) for name in measures},
        )
        for group in groups.values()
    )
