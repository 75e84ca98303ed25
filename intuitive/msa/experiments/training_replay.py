"""Training replay: the committed runs of the five arms, and one question of one sequence."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..recall import RecallRun
from ..results import recall_runs


@dataclass(frozen=True, kw_only=True)
class ReplayParams(Settings):
    """Which arm is looked at, and which question of the sequence that was kept."""

    arm: str = "msa_warmup"
    question: int = 96  # its token
    measure: str = "accuracy"
    beside: str = "mass_captured"

    def __post_init__(self) -> None:
        whole_fields(self, question=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayResult:
    """The committed runs, and the one that is looked at."""

    params: ReplayParams
    runs: tuple[RecallRun, ...]
    run: RecallRun  # the one with snapshots

    def of(self, arm: str) -> tuple[RecallRun, ...]:
        """The runs of one arm, one per seed."""
        return tuple(run for run in self.runs if run.config.arm == arm)

    @property
    def block_of_answer(self) -> int:
        """The block that holds the pair which the question asks for."""
        return self.run.example.needles[self.params.question] // self.run.config.msa.block_size


@functools.cache
def questions() -> tuple[int, ...]:
    """Tokens of the kept sequence that ask for a pair outside of their own block."""
    run = next(run for run in recall_runs() if run.snapshots)
    size, needles = run.config.msa.block_size, run.example.needles
    return tuple(
        token
        for token, needle in enumerate(needles)
        if needle >= 0 and needle // size < token // size
    )


def run(
    params: ReplayParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> ReplayResult:
    """The committed runs, with the one of this arm whose snapshots were kept.

    Raises:
        ValueError: no such arm, or the token asks for nothing that lies in another block.
        FileNotFoundError: the package was installed without its results.
    """
    runs = recall_runs()
    of_arm = [run for run in runs if run.config.arm == params.arm and run.snapshots]
    if not of_arm:
        known = ", ".join(dict.fromkeys(run.config.arm for run in runs))
        raise ValueError(f"arm={params.arm!r} is unknown; choose one of {known}.")
    if params.question not in questions():
        listed = ", ".join(map(str, questions()))
        raise ValueError(
            f"question={params.question} is no token that asks for an earlier block; choose one "
            f"of {listed}."
        )
    return ReplayResult(params=params, runs=runs, run=of_arm[0])
