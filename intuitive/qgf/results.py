"""What the committed runs found, as typed records.

`trimodal` and `sweep` are `benchmarks/qgf_trimodal.py`, `fork` is `benchmarks/qgf_fork.py`,
`ogbench` is `benchmarks/qgf_ogbench.py`; none needs the extras that made it.
"""

from dataclasses import dataclass

from intuitive.common import results
from intuitive.common.results import Committed

from .policies import Curve

FORK, OGBENCH = "qgf_fork", "qgf_ogbench"
TRIMODAL, SWEEP = "qgf_trimodal", "qgf_sweep"  # the second is named by its card

# ------------------------------------------------------------------------- the tri-modal flow


@dataclass(frozen=True, kw_only=True)
class TrimodalSeed:
    """What one seed's particles came to."""

    critic: float  # mean
    true_return: float  # mean
    mean: float  # of the actions
    largest: float  # |action|
    masses: tuple[float, ...]  # share in each mode
    off_mode: float  # and in none


@dataclass(frozen=True, kw_only=True)
class TrimodalRow:
    """One way to guide, in one setting."""

    name: str  # estimator and setting, such as "qgf, w=1"
    seeds: tuple[TrimodalSeed, ...]


@dataclass(frozen=True, kw_only=True)
class TrimodalRuns:
    """Presets A, B and C under every estimator."""

    tables: dict[str, tuple[TrimodalRow, ...]]  # by preset

    def row(self, preset: str, name: str) -> TrimodalRow:
        """One row.

        Raises:
            ValueError: it was not measured.
        """
        for row in self.tables[preset]:
            if row.name == name:
                return row
        raise ValueError(
            f"{name!r} was not measured in preset {preset}: choose among "
            f"{'; '.join(row.name for row in self.tables[preset])}."
        )


def trimodal() -> Committed[TrimodalRuns]:
    """The runs of `benchmarks/qgf_trimodal.py` over five seeds.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load(TRIMODAL, TrimodalRuns)


@dataclass(frozen=True, kw_only=True)
class SweptEstimator:
    """One estimator at every weight; means over seeds."""

    critic: tuple[float, ...]
    true_return: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class WeightSweep:
    """Preset B from small to large weights."""

    weights: tuple[float, ...]
    estimators: dict[str, SweptEstimator]


def sweep() -> Committed[WeightSweep]:
    """The sweep of weights of `benchmarks/qgf_trimodal.py --device cuda`.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load(results.of_a_card(SWEEP), WeightSweep)


# ------------------------------------------------------------------------------ the fork world


@dataclass(frozen=True, kw_only=True)
class ForkRuns:
    """What `benchmarks/qgf_fork.py` measured, on some device."""

    scored: tuple[int, ...]  # seeds that the results are of
    tuning: tuple[int, ...]  # seeds that the weights were chosen on
    n_episodes: int  # per seed and weight
    curves: tuple[Curve, ...]
    chosen: dict[str, float]  # way -> its weight, chosen on the tuning seeds
    decision_ms: dict[str, float]  # way -> median for 300 states, one seed, one CPU thread
    decision_device: str
    decision_cuda_ms: dict[str, float] | None  # likewise on the GPU; None where there was none

    def curve(self, way: str) -> Curve:
        """One way's curve.

        Raises:
            ValueError: it was not measured.
        """
        for curve in self.curves:
            if curve.way == way:
                return curve
        raise ValueError(
            f"way {way!r} was not measured: choose among {', '.join(c.way for c in self.curves)}."
        )

    def score(self, way: str, measure: str = "success") -> list[float]:
        """One measure of a way at its chosen weight, for every scored seed."""
        return self.curve(way).at(self.chosen[way], self.scored, measure)

    def count_better(self, one: str, other: str) -> int:
        """In how many scored seeds one way returns more than another, at their chosen weights."""
        pairs = zip(self.score(one, "returns"), self.score(other, "returns"), strict=True)
        return sum(mine > theirs for mine, theirs in pairs)

    def relative_time(self, way: str) -> float:
        """Time of a decision over BC's."""
        return self.decision_ms[way] / self.decision_ms["bc"]


def fork() -> Committed[ForkRuns]:
    """The runs of `benchmarks/qgf_fork.py`, and how they were made.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load(FORK, ForkRuns)


# ------------------------------------------------------------------------------------ OGBench


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One way of acting on one OGBench task, over some episodes."""

    way: str
    weight: float
    success: float  # share of episodes
    steps: float  # mean; an episode without success counts in full
    promised: float  # what the critic says of the first decisions, mean
    discounted_return: float  # what was earned, mean
    episodes: int
    critic: str = "final"  # which critic was asked: the step of its training, or the final one


@dataclass(frozen=True, kw_only=True)
class TaskRuns:
    """What was measured on one OGBench task."""

    scored: tuple[TaskRow, ...]  # at the chosen weights
    tuning: tuple[TaskRow, ...]  # other episodes, on which the weights were chosen
    exploitation: tuple[TaskRow, ...]  # larger and larger weights, and critics of several ages


@dataclass(frozen=True, kw_only=True)
class OGBenchRuns:
    """What `benchmarks/qgf_ogbench.py` measured."""

    tasks: dict[str, TaskRuns]


def ogbench() -> Committed[OGBenchRuns]:
    """The runs of `benchmarks/qgf_ogbench.py`, and how they were made.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load(OGBENCH, OGBenchRuns)
