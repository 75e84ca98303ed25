"""Recall and reconstruction against the ratio: what committed miniatures got right.

Nothing is trained here; the miniatures are those of `benchmarks/lclm_miniature.py`. With each goes
the score of a guess: for recall what is right at best without binding values to keys, for random
symbols chance. Bytes of real text have none that is as plain.
"""

from collections.abc import Callable
from dataclasses import dataclass

from intuitive.common.checks import whole_fields
from intuitive.common.results import Made
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..results import Miniatures, Part, Point, miniatures

TASKS = ("recall", "symbols", "bytes")
SCALES = ("small", "large")
BUDGETS = ("equal", "plateau")


@dataclass(frozen=True, kw_only=True)
class RecallParams(Settings):
    """The controls of the recall explorer; which combinations there are, `run` checks."""

    task: str = "recall"  # or the reconstruction of random "symbols", or of "bytes" of real text
    scale: str = "small"  # d = 64 and 32 tokens, or "large": d = 256 and 256 tokens
    budget: str = "equal"  # steps; or trained to its "plateau"
    n_records: int = 4  # of recall; small: 4
    ratio: int = 8  # whose learning curves are shown

    def __post_init__(self) -> None:
        whole_fields(self, n_records=0, ratio=1)
        for name, known in (("task", TASKS), ("scale", SCALES), ("budget", BUDGETS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; choose from {', '.join(known)}."
                )


@dataclass(frozen=True, kw_only=True)
class SeedCurve:
    """How one seed's accuracy rose on held-out examples."""

    seed: int
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Miniatures that differ in the seed alone."""

    reader: str  # "latents", "raw" or "smeared"
    budget: str
    ratio: int
    records_per_latent: float  # the most that begin in one; 0 without records
    seeds: tuple[int, ...]
    accuracy: tuple[float, ...]  # after training, by seed
    steps: tuple[int, ...]  # taken, by seed
    reached: tuple[bool, ...]  # whether each came to its plateau, by seed
    curves: tuple[SeedCurve, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return sum(self.accuracy) / len(self.accuracy)

    @property
    def extent(self) -> tuple[float, float]:
        """Least and greatest over seeds."""
        return min(self.accuracy), max(self.accuracy)


@dataclass(frozen=True, kw_only=True)
class RecallResult:
    """What the explorer draws."""

    params: RecallParams
    points: tuple[Scores, ...]  # by ascending ratio
    controls: tuple[Scores, ...]  # the decoder reading raw tokens, without and with a smear
    guess: float | None  # what needs no binding, or chance
    chosen: Scores  # the ratio whose curves are shown
    context: int  # tokens of a span
    part: Part  # how it was made
    made: Made

    @property
    def measure(self) -> str:
        """What the accuracy counts."""
        return "answers" if self.params.task == "recall" else "tokens"


def options(found: Miniatures) -> tuple[RecallParams, ...]:
    """Every combination of task, scale, budget and records that the miniatures hold."""
    seen = {}
    for point in found.points:
        if point.study in ("recall", "reconstruction") and point.reader == "latents":
            task = "recall" if point.study == "recall" else point.data
            key = (task, point.scale, point.budget, point.n_records)
            ratios = seen.setdefault(key, set())
            ratios.add(point.ratio)
    return tuple(
        RecallParams(
            task=task,
            scale=scale,
            budget=budget,
            n_records=n_records,
            ratio=8 if 8 in ratios else max(ratios),
        )
        for (task, scale, budget, n_records), ratios in seen.items()
    )


def run(
    params: RecallParams,
    *,
    seed: int = 0,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> RecallResult:
    """Look up what the miniatures of one task and scale found.

    Args:
        params: the controls; `n_records` counts for recall only.
        seed: not used; every committed seed is shown.
        stale: turns true when nobody waits for the result any more.
        progress: not used.

    Raises:
        ValueError: no such miniatures; the message lists those there are.
        Cancelled: `stale()` became true.
    """
    check(stale)
    committed = miniatures()
    found = committed.values
    recalls = params.task == "recall"
    fields = {
        "study": "recall" if recalls else "reconstruction",
        "data": "records" if recalls else params.task,
        "scale": params.scale,
        "n_records": params.n_records if recalls else 0,
    }
    mine = found.select(reader="latents", budget=params.budget, **fields)
    points = grouped(mine, _measure(params))
    chosen = next((one for one in points if one.ratio == params.ratio), None)
    if chosen is None:
        raise ValueError(_missing(params, points, found))
    readers = [point for point in found.select(**fields) if point.reader != "latents"]
    return RecallResult(
        params=params,
        points=points,
        controls=grouped(readers, _measure(params)),
        guess=found.guesses.get(f"{fields['data']} {params.scale} {fields['n_records']}"),
        chosen=chosen,
        context=mine[0].context,
        part=found.part_of(mine[0]),
        made=committed.made,
    )


def grouped(points: tuple[Point, ...] | list[Point], measure: str) -> tuple[Scores, ...]:
    """Seeds of one setting together, by ascending ratio."""
    settings: dict[tuple, list[Point]] = {}
    for point in points:
        key = (point.ratio, point.reader, point.budget)
        settings.setdefault(key, []).append(point)
    return tuple(
        Scores(
            reader=reader,
            budget=budget,
            ratio=ratio,
            records_per_latent=same[0].records_per_latent,
            seeds=tuple(point.seed for point in same),
            accuracy=tuple(point.last(measure) for point in same),
            steps=tuple(point.steps for point in same),
            reached=tuple(point.reached for point in same),
            curves=tuple(
                SeedCurve(seed=point.seed, steps=point.curve_steps, accuracy=point.curve[measure])
                for point in same
            ),
        )
        for (ratio, reader, budget), same in sorted(settings.items())
    )


def _measure(params: RecallParams) -> str:
    return "recall accuracy" if params.task == "recall" else "reconstruction accuracy"


def _missing(params: RecallParams, points: tuple[Scores, ...], found: Miniatures) -> str:
    if points:
        ratios = ", ".join(str(one.ratio) for one in points)
        return f"ratio={params.ratio} was not trained here: choose from {ratios}."
    there = "; ".join(
        f"{one.task} {one.scale} {one.budget}"
        + f" with {one.n_records} records" * bool(one.n_records)
        for one in options(found)
    )
    return (
        f"no miniatures of task={params.task!r}, scale={params.scale!r}, "
        f"budget={params.budget!r} with n_records={params.n_records}; there are: {there}."
    )
