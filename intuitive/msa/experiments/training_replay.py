"""Training replay: the committed runs of the five arms, at one moment of one of them."""

from collections.abc import Callable
from dataclasses import dataclass

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..recall import RecallRun, Snapshot
from ..results import recall_runs


@dataclass(frozen=True, kw_only=True)
class ReplayParams(Settings):
    """Where in the training of which arm."""

    arm: str = "msa_warmup"
    step: int = 100
    measure: str = "accuracy"
    beside: str = "mass_at_queries"

    def __post_init__(self) -> None:
        whole_fields(self, step=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayResult:
    """The committed runs, and the moment looked at."""

    params: ReplayParams
    runs: tuple[RecallRun, ...]
    run: RecallRun  # the one with snapshots
    snapshot: Snapshot

    def of(self, arm: str) -> tuple[RecallRun, ...]:
        """The runs of one arm, one per seed."""
        return tuple(run for run in self.runs if run.config.arm == arm)


def snapshot_steps() -> tuple[int, ...]:
    """Steps at which snapshots were kept."""
    run = next(run for run in recall_runs() if run.snapshots)
    return tuple(shot.step for shot in run.snapshots)


def run(
    params: ReplayParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> ReplayResult:
    """The last snapshot of an arm at or before a step, from the committed runs.

    Raises:
        ValueError: no such arm.
        FileNotFoundError: the package was installed without its results.
    """
    runs = recall_runs()
    of_arm = [run for run in runs if run.config.arm == params.arm and run.snapshots]
    if not of_arm:
        known = ", ".join(dict.fromkeys(run.config.arm for run in runs))
        raise ValueError(f"arm={params.arm!r} is unknown; choose one of {known}.")
    shots = (shot for shot in of_arm[0].snapshots if shot.step <= params.step)
    return ReplayResult(
        params=params,
        runs=runs,
        run=of_arm[0],
        snapshot=max(shots, key=lambda shot: shot.step),
    )
