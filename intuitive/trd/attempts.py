"""Attempts with a number of the reader's in them, and what a rewrite made of their numbers."""

import threading
from dataclasses import dataclass

import torch
from cachetools import LRUCache, cached
from jaxtyping import Int
from torch import Tensor

from intuitive.common.runtime import seeded

from .config import setting_config
from .sums import Problem, sample_digits, write_traces

N_PROBLEMS = 20  # to choose from


@cached(cache=LRUCache(8), lock=threading.Lock())
def problem_digits(setting: str) -> Int[Tensor, "b n_digits"]:
    """The problems to choose from; the small setting's first one is the lesson's."""
    sums = setting_config(setting).sums
    with torch.inference_mode(False):
        digits = sample_digits(sums, N_PROBLEMS, generator=seeded(0))
        if setting == "small":
            digits[0] = torch.tensor([3, 5, 2, 6])
    return digits


@dataclass(frozen=True, eq=False)
class Attempt:
    """An attempt with one number written by the reader, and the same without it."""

    problem: Problem
    digits: Int[Tensor, "1 n_digits"]
    order: tuple[int, ...]
    y_o: Int[Tensor, "1 trace_length"]  # filled up with PAD
    faultless: Int[Tensor, "1 trace_length"]
    repaired: Int[Tensor, "1 trace_length"]  # y_o to its first sign, WAIT, and the way back
    right: int  # number that should stand where the reader writes


@cached(cache=LRUCache(64), lock=threading.Lock())
def attempt(setting: str, problem: int, step: int, written: int) -> Attempt:
    """A problem's attempt from right to left in which `written` stands at `step` (0: the plan)."""
    sums = setting_config(setting).sums
    digits = problem_digits(setting)[problem][None]
    order = torch.arange(sums.n_digits).flip(0)[None]
    faultless = write_traces(sums, digits, order).tokens
    at = int(sums.plan) + 2 * step - 1 if step else 0
    right = int(faultless[0, at])
    shifts, plan_shifts = torch.zeros_like(digits), None
    if step:
        shifts[0, step - 1] = written - right
    else:
        plan_shifts = torch.tensor([written - right])
    planted = {"shifts": shifts, "plan_shifts": plan_shifts}
    seen_after = 0 if written == right else step or sums.n_digits  # steps
    waits = torch.tensor([seen_after])
    return Attempt(
        problem=Problem(digits=tuple(digits[0].tolist()), config=sums),
        digits=digits,
        order=tuple(order[0].tolist()),
        y_o=write_traces(sums, digits, order, **planted).tokens,
        faultless=faultless,
        repaired=write_traces(sums, digits, order, **planted, wait_after=waits).tokens,
        right=right,
    )


def marks_of(tokens: list[int], y_o: list[int], problem: Problem) -> tuple[str, ...]:
    """What became of the numbers of a draft `y_o`, one mark per token of a text.

    "wrong": it does not follow from what stands before it. "follows": it does, but from an error,
    and so it is not what it should be. Of the right ones, compared with the draft by digit: "kept"
    (same place, same number), "fixed" (same place, another number), "moved" (another place).
    Tokens that are neither a number nor its index have the mark "".
    """
    own = tokens == y_o[: len(tokens)]  # y_o itself
    drafted, drafted_answer = _steps(y_o, problem)
    marks = [""] * len(tokens)
    base, places, index = 0, [], -1  # the plan as written; (index token, total) that stand
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else None
        is_number = token < problem.config.first_index
        last = places[-1][1] if places else base
        if problem.config.first_index <= token < problem.config.bos:
            index = i
            visited = [known for known, _ in places]
            if token in visited:  # taken back after WAIT
                del places[visited.index(token) :]
        elif is_number and i and index == i - 1:
            digits = [problem.digits[t - problem.config.first_index] for t, _ in places]
            digit = problem.digits[before - problem.config.first_index]
            last = places[-1][1] if places else base
            true = (problem.plan + sum(digits) + digit) % problem.config.modulus
            wrong = token != (last + digit) % problem.config.modulus
            was = drafted.get(before)
            mark = _number(token, true, wrong, own or (was is not None and was[1] == token))
            if mark in ("kept", "fixed") and not own and (was is None or was[0] != len(places)):
                mark = "moved"
            marks[index], marks[i] = (mark if mark == "moved" else "kept"), mark
            places.append((before, token))
        elif is_number and before == problem.config.ans:
            marks[i] = _number(token, problem.answer, token != last, token == drafted_answer)
        elif is_number:  # a plan, the first or a new one
            base, places = token, []
            marks[i] = _number(token, problem.plan, token != problem.plan, own or token == y_o[0])
    return tuple(marks)


def _number(token: int, true: int, errs: bool, same: bool) -> str:
    """The mark of a number that should be `true`; `errs`: it does not follow from those before."""
    if errs:
        return "wrong"
    if token != true:
        return "follows"
    return "kept" if same else "fixed"


def _steps(trace: list[int], problem: Problem) -> tuple[dict[int, tuple[int, int]], int | None]:
    """index token -> (steps before it, total), as last visited; and the answer, if there is one."""
    sums = problem.config
    at = [i for i, t in enumerate(trace[:-1]) if sums.first_index <= t < sums.bos]
    answer = trace[trace.index(sums.ans) + 1] if sums.ans in trace[:-1] else None
    return {trace[i]: (place, trace[i + 1]) for place, i in enumerate(at)}, answer
