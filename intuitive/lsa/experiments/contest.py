"""The contest: what each residency policy had at hand, and what it moved, at equal room on the GPU.

Policies are replayed over a recorded decode (`arms`), with room for more and more chunks. Bytes are
those of DeepSeek-V4-Flash's entries, as if the recorded chunks were its own.
"""

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache, cached

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..arms import Arm, Policy, Residency, replay
from ..config import LSAConfig
from ..exercise import Choose, replay_verdicts
from ..recording import Recording
from .threshold import load

ROOMS = (4, 8, 16, 32, 64)  # chunks beside those that always stay
SHOWN: tuple[Arm, ...] = ("lsa", "reactive", "oracle", "quest", "recency", "random")
YOURS = "yours"


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
    copied: float  # chunks per step
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
    return ContestResult(params=params, entries=entries, n_steps=recording.n_steps)


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
        copied=int(found.copied.sum()) / steps,
        n_bytes=int(found.moved_bytes(LSAConfig.paper()).sum()) / steps,
        refetched=found.refetch_rate,
    )
