"""What committed runs of LSA found, as typed records."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from intuitive.common import results

from .experiments.topical_arms import Point

NAME = "lsa_arms"
SMOLLM = "lsa_smollm"


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """What was checked on the device before anything was measured; shares in [0, 1]."""

    everything_resident_is_unrestricted: bool
    reactive_accuracy: float  # run with what it fetched at each step
    unrestricted_accuracy: float
    live_accuracy: float  # LSA deciding from what the masked run itself had read
    replayed_accuracy: float  # LSA deciding from the unrestricted run, as everywhere else here
    live_sets_differ: float  # share of the chunks about which the two decide otherwise


@dataclass(frozen=True, kw_only=True)
class MadeBefore:
    """How an earlier stage was made, perhaps elsewhere."""

    command: str
    commit: str
    device: str
    torch: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the decoder was trained, by stage; every tenth step is kept."""

    made: MadeBefore
    steps: dict[str, int]
    losses: dict[str, tuple[float, ...]]
    accuracy: dict[str, tuple[float, ...]]  # of answers, in the batches trained on


@dataclass(frozen=True, kw_only=True)
class Indexers:
    """How the Memory Indexers were trained, all seeds on one harvest of the frozen decoder."""

    made: MadeBefore
    documents: int
    focal_loss: dict[str, tuple[float, ...]]  # by seed, every tenth step


@dataclass(frozen=True, kw_only=True)
class LSAArms:
    """All that `benchmarks/lsa_arms.py` writes."""

    training: Training
    weights: int  # numbers in the decoder
    indexers: Indexers
    exactness: Exactness
    points: dict[str, tuple[Point, ...]]  # by sweep
    seconds: float

    def select(self, sweep: str, **fields: Any) -> tuple[Point, ...]:
        """Points of a sweep with these fields, in the order of the file.

        Raises:
            KeyError: no such sweep; the message lists those there are.
        """
        if sweep not in self.points:
            raise KeyError(f"no sweep {sweep!r}; there are {', '.join(self.points)}.")
        return tuple(
            point
            for point in self.points[sweep]
            if all(getattr(point, name) == value for name, value in fields.items())
        )

    def mean(self, sweep: str, measure: str, **fields: Any) -> float:
        """Mean of a measure over the seeds of one setting.

        Raises:
            ValueError: no such point, or points that differ in more than the seed.
        """
        points = self.select(sweep, **fields)
        settings = {tuple(_setting(point)) for point in points}
        if len(settings) != 1:
            raise ValueError(
                f"{fields} fits {len(settings)} settings of {sweep!r}: name as many fields as "
                "tell one from the others."
            )
        return sum(getattr(point, measure) for point in points) / len(points)


def _setting(point: Point) -> Iterator[Any]:
    names = ("length", "mode", "section", "offset", "arm", "rule", "threshold", "size")
    for name in (*names, "lookahead", "lag", "layers"):
        yield getattr(point, name)


@functools.cache
def arms() -> results.Committed[LSAArms]:
    """The committed comparison of all arms."""
    return results.load(NAME, LSAArms)


# ----------------------------------------------------------------------------------- SmolLM2


@dataclass(frozen=True, kw_only=True)
class SmolPoint:
    """One policy on held-out texts in which passages return; shares in [0, 1]."""

    arm: str
    seed: int  # of the indexers, and of the random arm; the others have the first alone
    rule: str
    size: int | None  # chunks beside tail and sink
    threshold: float | None
    lookahead: int  # steps
    lag: int  # windows
    layers: int | None  # target layers joined; None: all
    texts: int  # measured, over which the other fields are means
    golden_recall: float  # of the chunks that a window needed
    kept: float  # of the chunks that could be left out
    mass_recall: float  # of the attention
    perplexity_returned: float  # of tokens in a passage that has returned, once noticed
    perplexity_other: float  # of all others
    perplexity_returned_each: tuple[float, ...]  # of every text, in the order of `heldout`
    chunks_copied_per_64_steps: float
    refetch_rate: float  # of the copied chunks, those that had been there before


@dataclass(frozen=True, kw_only=True)
class SmolTraining:
    """One training of Memory Indexers; recall is golden recall on texts kept back."""

    seed: int
    from_random: bool  # or from the layer's own key projection (`smollm.first_indexers`)
    recall_at_start: float
    best_step: int  # 0: the start
    best_recall: float
    last_recall: float
    loss_first: float  # mean focal loss of the first steps
    loss_last: float


@dataclass(frozen=True, kw_only=True)
class SmolArms:
    """What `benchmarks/lsa_smollm.py` writes of SmolLM2."""

    arms: tuple[SmolPoint, ...]
    heldout: tuple[str, ...]  # the files of the texts measured
    training: tuple[SmolTraining, ...]  # by seed; the first one is shipped
    from_random: SmolTraining | None = None  # the same from random weights, where it was reached

    def select(self, **fields: Any) -> tuple[SmolPoint, ...]:
        """Points with these fields, in the order of the file."""
        return tuple(
            point
            for point in self.arms
            if all(getattr(point, name) == value for name, value in fields.items())
        )

    def extent(self, measure: str, **fields: Any) -> tuple[float, float]:
        """Least and greatest value of a measure over the seeds of one setting.

        Raises:
            ValueError: no such point, or points that differ in more than the seed.
        """
        values = [getattr(point, measure) for point in self._of_one(fields)]
        return min(values), max(values)

    def by_text(self, **fields: Any) -> tuple[tuple[float, float], ...]:
        """Least and greatest perplexity in returned passages over the seeds, text by text.

        Raises:
            ValueError: as in `extent`.
        """
        each = zip(*(p.perplexity_returned_each for p in self._of_one(fields)), strict=True)
        return tuple((min(values), max(values)) for values in each)

    def _of_one(self, fields: dict[str, Any]) -> tuple[SmolPoint, ...]:
        """The points of one setting, by seed."""
        points = self.select(**fields)
        names = ("arm", "rule", "size", "threshold", "lookahead", "lag", "layers")
        settings = {tuple(getattr(point, name) for name in names) for point in points}
        if len(settings) != 1:
            raise ValueError(
                f"{fields} fits {len(settings)} settings: name as many fields as tell one from "
                "the others."
            )
        return points


@functools.cache
def smollm() -> results.Committed[SmolArms]:
    """The committed comparison on SmolLM2."""
    return results.load(SMOLLM, SmolArms)
