"""Signals that teachers give: where they say WAIT, and what they make of a student's rollouts.

    wait_map   WAIT mass by error position and delay, false alarms beside it
    rewrites   rollouts and rewrites: who is right, how near to the student, where the loss sits

The benchmark measures with both, and the mode map draws the first.

Source: arXiv:2606.08432, sections 4 and 6.4.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from cachetools import LRUCache, cached
from jaxtyping import Int
from torch import Tensor

from intuitive.common.runtime import check, never, seeded

from . import divergences
from .distillation import roll
from .methods import METHODS
from .metrics import transitions
from .model import StackedDecoder
from .results import Rewrites, WaitMap
from .sums import SumsConfig, sample_digits, sample_orders, verify, write_traces
from .teacher import Teacher
from .teaching import trajectories

Stale = Callable[[], bool]


@torch.no_grad()
def wait_map(
    name: str, teacher: Teacher, *, n_traces: int = 256, seed: int = 0, stale: Stale = never
) -> WaitMap:
    """Where a teacher says WAIT, from x, on traces with one planted error and on right ones.

    Args:
        name: for the record.
        teacher: exact or learned.
        n_traces: per error position; half from left to right, half in any order.
        seed: of problems, orders and errors.
        stale: turns true when nobody waits any more.

    Raises:
        Cancelled: `stale()` became true.
    """
    sums, k = teacher.sums, teacher.sums.n_digits
    boundaries = [int(sums.plan) + 2 * steps for steps in range(1, k + 1)]
    planted = _plant(sums, n_traces, seed)
    batch = teacher.rows_at_once or len(planted.tokens)
    device, found = teacher.device, []
    for digits, tokens in zip(
        planted.digits.split(batch), planted.tokens.split(batch), strict=True
    ):
        check(stale)
        found.append(teacher.logits(digits.to(device), tokens.to(device)).softmax(-1).cpu())
    by_error, consistent, repaired = {}, [], []
    for error, p, tokens, shift in zip(
        planted.errors,
        torch.cat(found).split(n_traces),
        planted.tokens.split(n_traces),
        planted.shift.split(n_traces),
        strict=True,
    ):
        waits = p[:, boundaries, sums.wait].mean(0).tolist()
        by_error[str(error)] = tuple(waits[error:] if isinstance(error, int) else waits)
        if isinstance(error, int) and error < k - 1:
            at = boundaries[error] + 1  # the next total
            rows, written = torch.arange(n_traces), tokens[:, at]
            consistent.append(float(p[rows, at, written].mean()))
            repaired.append(float(p[rows, at, (written - shift) % sums.modulus].mean()))
    clean = by_error.pop("none")
    return WaitMap(
        teacher=name,
        by_error=by_error,
        clean=clean,
        worst_clean=max(clean),
        consistent=sum(consistent) / len(consistent),
        repaired=sum(repaired) / len(repaired),
    )


@dataclass(frozen=True, eq=False)
class _Planted:
    """Traces by error position, one position after the other."""

    errors: tuple[str | int, ...]  # "none", the step of a wrong total, "plan"; n_traces of each
    digits: Int[Tensor, "b n_digits"]
    tokens: Int[Tensor, "b n"]
    shift: Int[Tensor, " b"]  # added to the wrong total where there is one


@cached(cache=LRUCache(16), lock=threading.Lock())
def _plant(sums: SumsConfig, n_traces: int, seed: int) -> _Planted:
    generator = seeded(seed)
    errors = ("none", *range(sums.n_digits), *(("plan",) if sums.plan else ()))
    drawn = []
    for error in errors:
        digits = sample_digits(sums, n_traces, generator=generator)
        orders = sample_orders(sums, n_traces, left_to_right=0.5, generator=generator)
        shifts = torch.zeros_like(digits)
        shift = torch.randint(1, sums.modulus, (n_traces,), generator=generator)
        plan_shifts = torch.randint(1, sums.n_plans, (n_traces,), generator=generator)
        if isinstance(error, int):
            shifts[:, error] = shift
        planted = {"plan_shifts": plan_shifts} if error == "plan" else {}
        tokens = write_traces(sums, digits, orders, shifts=shifts, **planted).tokens
        drawn.append((digits, tokens[:, : sums.clean_length], shift))
    return _Planted(errors, *(torch.cat(parts) for parts in zip(*drawn, strict=True)))


@torch.no_grad()
def rewrites(
    name: str,
    teacher: Teacher,
    students: StackedDecoder,
    *,
    n_problems: int = 256,
    seed: int = 0,
    stale: Stale = never,
) -> Rewrites:
    """What a teacher makes of the first students' rollouts: transitions, support and signals.

    All students read the same problems; every number is over all of their rollouts together.

    Raises:
        Cancelled: `stale()` became true.
    """
    sums, device = teacher.sums, students.weights.device
    digits = sample_digits(sums, n_problems, generator=seeded(seed)).to(device)
    y_o = roll(sums, students, digits, seeds=range(students.n_models), salt=seed, stale=stale)
    rows = digits.repeat(students.n_models, 1)
    sets = {}
    for key, method in (
        ("y_o", METHODS["opd_forward"]),
        ("y_r", METHODS["trd"]),
        ("y_r from x", METHODS["trd_from_x"]),
        ("y_t", replace(METHODS["sft_teacher"], loss="forward")),
    ):
        generator = seeded(seed, device)  # the same rewrites in both contexts
        sets[key] = trajectories(
            method, teacher, rows, y_o.flatten(0, 1), generator=generator, stale=stale
        )
    student = {}
    for key, found in sets.items():
        given = torch.cat([found.prompts, found.tokens[:, :-1]], 1).unflatten(
            0, (students.n_models, -1)
        )
        student[key] = students(given)[:, :, sums.prompt_length - 1 :].flatten(0, 1)
    nll = {
        key: float(F.cross_entropy(student[key][found.counted], found.tokens[found.counted]))
        for key, found in sets.items()
    }
    mass = {
        key: float(found.teacher_logits.softmax(-1)[..., sums.wait][found.counted].mean())
        for key, found in sets.items()
    }
    before = verify(sums, rows, sets["y_o"].tokens)
    after = verify(sums, rows, sets["y_r"].tokens)
    own = verify(sums, rows, sets["y_t"].tokens)
    table, n = transitions(before.correct, after.correct), len(rows)
    complete = (before.order >= 0).all(-1)
    kept = (before.order == after.order).all(-1)[complete]

    place = torch.arange(sets["y_o"].tokens.shape[1], device=device)
    first = before.first_error[:, None]
    failed = sets["y_o"].counted & (first >= 0)
    parts = {"before": place < first, "at": place == first, "after": place > first}
    teacher_logits = sets["y_o"].teacher_logits
    split = {}
    for direction, kl in (
        ("forward", divergences.forward_kl),
        ("reverse", divergences.reverse_kl),
    ):
        nats = kl(teacher_logits, student["y_o"], check=False)
        for part, where in parts.items():
            split[f"{direction}_{part}"] = _mean_where(nats, failed & where)
    return Rewrites(
        teacher=name,
        fail_fail=table.fail_fail / n,
        fail_pass=table.fail_pass / n,
        pass_fail=table.pass_fail / n,
        pass_pass=table.pass_pass / n,
        order_kept=float(kept.float().mean()),
        solve_accuracy=float(own.correct.float().mean()),
        nll_y_o=nll["y_o"],
        nll_y_r=nll["y_r"],
        nll_y_t=nll["y_t"],
        wait_mass_y_o=mass["y_o"],
        wait_mass_y_r=mass["y_r"],
        wait_mass_y_r_from_x=mass["y_r from x"],
        tokens_after_error=_mean_where((place > first).float(), failed),
        **split,
    )


def _mean_where(values: Tensor, where: Tensor) -> float:
    return float((values * where).sum() / where.sum().clamp(min=1))
