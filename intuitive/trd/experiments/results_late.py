"""The task where errors show late: one planned text, and who knows its plan.

The text is written by program: the plan that is asked for, then eight right additions from right
to left. The teachers' distributions at the plan are computed here and now; the methods' outcomes
are committed results.

Source: arXiv:2606.08432, section 6 (methods). Differs: the task with a plan is ours.
"""

import threading
from dataclasses import dataclass

import torch
from cachetools import LRUCache, cached

from intuitive.common.checks import whole, whole_fields
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, one_thread, silent

from ..config import setting_config
from ..signals import Stale
from ..sums import Problem, SumsConfig, sample_digits, write_traces
from ..trained import check_teacher, named_teacher
from .results import ResultParams, Results
from .results import run as look_up

REPAIR = 0.3  # λ of the committed results
N_PROBLEMS = 20


@dataclass(frozen=True, kw_only=True)
class LateParams(Settings):
    """Which plan is written, and which of the results is looked at."""

    plan: int = 3  # what the text starts from
    problem: int = 0
    method: str = "trd"
    teacher: str = "exact"
    rounds: int = 1

    def __post_init__(self) -> None:
        check_teacher(self.teacher)
        whole_fields(self, rounds=1)
        whole("plan", self.plan, low=0, high=setting_config("late").sums.n_plans - 1)
        whole("problem", self.problem, low=0, high=N_PROBLEMS - 1)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One text with a plan, and what three teachers offer in the place of its plan."""

    digits: tuple[int, ...]
    target: int  # the right last total, which the prompt shows
    right_plan: int
    plan: int  # as written
    tokens: tuple[str, ...]
    totals: tuple[int, ...]  # after the plan and after each digit
    from_x: tuple[float, ...]  # the teacher's probability of each plan, from the problem alone
    from_text: tuple[float, ...]  # after reading the text to its end, as TRD's teacher does
    from_solution: tuple[float, ...]  # with a solution in hand, as OPSD's teacher has

    @property
    def missed_by(self) -> int:
        """How far the last total is above the target, the shorter way round; 0 where it is met."""
        modulus = setting_config("late").sums.modulus
        above = (self.totals[-1] - self.target) % modulus
        return above - modulus * (2 * above > modulus)


@dataclass(frozen=True, kw_only=True)
class Late:
    """The text, and the committed results."""

    params: LateParams
    planned: Planned
    results: Results


@one_thread()
def run(params: LateParams, *, stale: Stale = never, progress: Progress = silent) -> Late:
    """Write the text, ask the teachers for its plan, look up the method.

    Raises:
        ValueError: this method was not measured so.
        FileNotFoundError: the results, or the learned teacher's weights, are not there.
        Cancelled: `stale()` became true.
    """
    check(stale)
    asked = ResultParams(
        setting="late", method=params.method, teacher=params.teacher, rounds=params.rounds
    )
    one = planned(params.plan, params.problem, params.teacher)
    return Late(params=params, planned=one, results=look_up(asked))


@cached(cache=LRUCache(64), lock=threading.Lock())
@torch.no_grad()
def planned(plan: int, problem: int, teacher: str) -> Planned:
    """The text that starts from `plan`, and the plans that this teacher offers."""
    sums = setting_config("late").sums
    found = sample_digits(sums, N_PROBLEMS, generator=seeded(4), distinct=True)
    digits = found[problem : problem + 1]
    posed = Problem(digits=tuple(digits[0].tolist()), config=sums)
    text, solution = (_text(sums, digits, off) for off in (plan - posed.plan, 0))
    asked = named_teacher(teacher, "late", REPAIR)

    def offered(**seen: torch.Tensor) -> tuple[float, ...]:
        logits = asked.logits(digits, text[:, :1], **seen)[0, 0]  # before any token
        return tuple(logits.softmax(-1)[: sums.n_plans].tolist())

    written = [token for token in text[0].tolist() if token != sums.pad]
    return Planned(
        digits=posed.digits,
        target=posed.answer,
        right_plan=posed.plan,
        plan=plan,
        tokens=tuple(map(sums.name, written)),
        totals=(plan, *written[2 : 2 * sums.n_digits + 1 : 2]),
        from_x=offered(),
        from_text=offered(drafts=text),
        from_solution=offered(solutions=solution),
    )


def _text(sums: SumsConfig, digits: torch.Tensor, off: int) -> torch.Tensor:
    """A text from right to left whose plan is off by so much, [1, trace_length]."""
    order = torch.arange(sums.n_digits - 1, -1, -1)[None]
    shifts = torch.tensor([off % sums.n_plans])
    return write_traces(sums, digits, order, plan_shifts=shifts).tokens
