"""Students trained while one watches, several methods side by side, on ten problems that stay.

At every look each student writes its solutions of the same problems with the same random numbers,
so that a text changes only because the student has. The first rollouts of the first `N_TEXTS`
problems are kept, token by token; all of them make the curves.

Source: arXiv:2606.08432, section 6.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from cachetools import LRUCache, cached
from jaxtyping import Int
from torch import Tensor

from intuitive.common import results
from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, one_thread, silent

from ..config import setting_config
from ..distillation import Arm, Plan, distil, grade, roll
from ..methods import METHODS
from ..metrics import pass_at_k
from ..model import StackedDecoder
from ..signals import Stale
from ..sums import Problem, SumsConfig, parse_trace, sample_digits
from ..trained import check_teacher, named_teacher, shipped

N_TEXTS = 10  # problems whose solutions are kept, token by token
N_LOOKS = 24  # a training is looked at so often while it begins, half as often later
EARLY = 6  # looks that are dense
RECORDED = "trd_train"  # the committed run of `benchmarks/trd_train.py`


@dataclass(frozen=True, kw_only=True)
class TrainParams(Settings):
    """Students trained side by side in the small setting."""

    methods: str = "opd_forward,trd"  # names in METHODS, with commas
    teacher: str = "exact"
    repair: float = 0.3  # λ of the exact teacher
    rounds: int = 1
    n_steps: int = 120
    batch: int = 64
    n_problems: int = 256  # drawing their rollouts takes less than half a second
    lr: float = 1e-3  # the same for all
    n_test: int = 48  # problems, with 4 rollouts each
    seed: int = 0

    def __post_init__(self) -> None:
        check_teacher(self.teacher)
        whole_fields(self, rounds=1, n_steps=1, batch=1, n_problems=1, n_test=N_TEXTS, seed=0)
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
            observe_every=max(1, round(self.n_steps / N_LOOKS)),
        )

    @property
    def looks(self) -> tuple[int, ...]:
        """Steps after which the students are looked at: often at first, when most changes."""
        every = self.plan.observe_every
        looks = [every * i for i in range(N_LOOKS) if i <= EARLY or i % 2 == 0]
        return (*(step for step in looks if step < self.n_steps), self.n_steps)


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
    """One method's course: numbers and texts at every look."""

    name: str
    points: tuple[TrainPoint, ...]
    texts: tuple[tuple[str, ...], ...]  # by look and problem, tokens apart by spaces


@dataclass(frozen=True, kw_only=True)
class Text:
    """A solution that a student wrote, as it is graded; places count its tokens."""

    tokens: tuple[str, ...]
    right: bool
    first_error: int | None  # the first wrong number
    broken: int | None  # the first token that cannot stand there, or one past the end
    reason: str  # why it cannot; empty where all can
    idle: tuple[int, ...]  # every WAIT that was said while no error stood


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """All methods on common problems and random numbers."""

    params: TrainParams
    problems: tuple[tuple[int, ...], ...]  # digits of those whose texts are kept
    runs: tuple[TrainRun, ...]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Trainings that were run once, by `benchmarks/trd_train.py`."""

    results: tuple[TrainResult, ...]


Watch = Callable[[TrainResult], object]


@one_thread()
def run(
    params: TrainParams,
    *,
    stale: Stale = never,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> TrainResult:
    """Train students on the CPU, several methods at once.

    Args:
        params: what is trained, and how long.
        stale: turns true when nobody waits any more.
        progress: called after every step.
        watch: called at every look with what there is so far.

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
    texts: list[list[tuple[Text, ...]]] = [[] for _ in arms]
    problems = tuple(tuple(row) for row in held_out[:N_TEXTS].tolist())

    def so_far() -> TrainResult:
        return TrainResult(
            params=params,
            problems=problems,
            runs=tuple(
                TrainRun(name=arm.name, points=tuple(points[i]), texts=tuple(texts[i]))
                for i, arm in enumerate(arms)
            ),
        )

    def observe(step: int, stack: StackedDecoder, cost: list) -> None:
        if step not in params.looks:
            return
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
            texts[arm].append(tuple(_written(sums, row) for row in rolled[arm][:N_TEXTS].tolist()))
        if watch is not None:
            watch(so_far())

    first = models.students.copies([0])
    distil(
        first, arms, teachers, digits, params.plan, observe=observe, stale=stale, progress=progress
    )
    return so_far()


def recorded(params: TrainParams) -> TrainResult | None:
    """The committed training with these settings; None where there is none.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    found = results.load(RECORDED, Recorded).values.results
    return next((result for result in found if result.params == params), None)


@cached(cache=LRUCache(4096), lock=threading.Lock())
def read(written: str, digits: tuple[int, ...]) -> Text:
    """A solution of the small setting, graded as `parse_trace` does."""
    sums, tokens = setting_config("small").sums, tuple(written.split())
    ids = {sums.name(token): token for token in range(sums.vocab_size)}
    problem = Problem(digits=digits, config=sums)
    trace = parse_trace([ids[token] for token in tokens], problem)
    return Text(
        tokens=tokens,
        right=trace.correct,
        first_error=trace.first_error,
        broken=trace.malformed_at,
        reason=trace.reason or "",
        idle=tuple(wait.position for wait in trace.waits if not wait.error_stands),
    )


def _written(sums: SumsConfig, tokens: list[int]) -> str:
    return " ".join(sums.name(token) for token in tokens if token != sums.pad)


def right_to_left(sums: SumsConfig, order: Int[Tensor, "b n_digits"]) -> Tensor:
    """Which traces visit the digits from the last to the first, the first student's habit."""
    return (order == torch.arange(sums.n_digits - 1, -1, -1, device=order.device)).all(-1)
