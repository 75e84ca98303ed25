"""Students trained while one watches, several methods side by side.

Source: arXiv:2606.08432, section 6.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, one_thread, silent

from ..distillation import Arm, Plan, distil, grade, roll
from ..methods import METHODS
from ..metrics import pass_at_k
from ..model import StackedDecoder
from ..signals import Stale
from ..sums import SumsConfig, sample_digits
from ..trained import check_teacher, named_teacher, shipped


@dataclass(frozen=True, kw_only=True)
class TrainParams(Settings):
    """Students trained side by side in the small setting."""

    methods: str = "opd_forward,trd"  # names in METHODS, with commas
    teacher: str = "exact"
    repair: float = 0.3  # λ of the exact teacher
    rounds: int = 1
    n_steps: int = 120
    batch: int = 64
    n_problems: int = 512
    lr: float = 1e-3
    n_test: int = 48  # problems, with 4 rollouts each
    seed: int = 0

    def __post_init__(self) -> None:
        check_teacher(self.teacher)
        whole_fields(self, rounds=1, n_steps=1, batch=1, n_problems=1, n_test=1, seed=0)
        for name in self.names:
            if name not in METHODS:
                raise ValueError(
                    f"methods={self.methods!r}: {name!r} is none of {', '.join(METHODS)}."
                )
        self.plan  # noqa: B018  (its own checks)

    @property
    def names(self) -> tuple[str, ...]:
        """The methods, one by one."""
        return tuple(self.methods.split(","))

    @property
    def plan(self) -> Plan:
        """The same for all of them."""
        return Plan(
            n_problems=self.n_problems,
            n_steps=self.n_steps,
            batch=self.batch,
            rounds=self.rounds,
            observe_every=max(1, self.n_steps // 4),
        )


@dataclass(frozen=True, kw_only=True)
class TrainPoint:
    """A student after some steps."""

    step: int
    teacher_tokens: int
    accuracy: float
    pass_at_4: float
    wait: float  # share of rollouts that say WAIT
    correct_after_wait: float | None  # of those
    order_kept: float  # share from right to left


@dataclass(frozen=True, kw_only=True)
class TrainRun:
    """One method's course and some of its last rollouts."""

    name: str
    points: tuple[TrainPoint, ...]
    rollouts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """All methods on common problems and random numbers."""

    params: TrainParams
    runs: tuple[TrainRun, ...]


@one_thread()
def run(params: TrainParams, *, stale: Stale = never, progress: Progress = silent) -> TrainResult:
    """Train students on the CPU, several methods at once.

    Raises:
        FileNotFoundError: the small setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    models = shipped("small")
    sums = models.config.sums
    teachers = {params.teacher: named_teacher(params.teacher, "small", params.repair)}
    found = sample_digits(
        sums, params.n_problems + params.n_test, generator=seeded(params.seed), distinct=True
    )
    digits, held_out = found[: params.n_problems], found[params.n_problems :]
    arms = [
        Arm(name=n, method=METHODS[n], teacher=params.teacher, seed=0, lr=params.lr)
        for n in params.names
    ]
    points: list[list[TrainPoint]] = [[] for _ in arms]
    last: list[Tensor] = []

    def observe(step: int, stack: StackedDecoder, cost: list) -> None:
        rolled = roll(
            sums, stack, held_out, seeds=[0] * len(arms), n_samples=4, salt=99, stale=stale
        )
        for arm, verdict in enumerate(grade(sums, held_out, rolled)):
            correct, waits = verdict.correct, verdict.n_waits > 0
            passed = pass_at_k(4, correct.view(4, -1).sum(0), 4)
            points[arm].append(
                TrainPoint(
                    step=step,
                    teacher_tokens=cost[arm].teacher,
                    accuracy=float(correct.float().mean()),
                    pass_at_4=float(passed.mean()),
                    wait=float(waits.float().mean()),
                    correct_after_wait=float(correct[waits].float().mean())
                    if waits.any()
                    else None,
                    order_kept=float(right_to_left(sums, verdict.order).float().mean()),
                )
            )
        last[:] = [own[:8] for own in rolled]

    first = models.students.copies([0])
    distil(
        first, arms, teachers, digits, params.plan, observe=observe, stale=stale, progress=progress
    )
    return TrainResult(
        params=params,
        runs=tuple(
            TrainRun(name=arm.name, points=tuple(points[i]), rollouts=_words(sums, last[i]))
            for i, arm in enumerate(arms)
        ),
    )


def right_to_left(sums: SumsConfig, order: Int[Tensor, "b n_digits"]) -> Tensor:
    """Which traces visit the digits from the last to the first, the first student's habit."""
    return (order == torch.arange(sums.n_digits - 1, -1, -1, device=order.device)).all(-1)


def _words(sums: SumsConfig, rollouts: Tensor) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(sums.name(token) for token in row if token != sums.pad) for row in rollouts.tolist()
    )
