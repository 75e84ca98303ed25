"""One trace, read and graded token by token; easy to follow, and the oracle of `batch`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from .problems import Problem, as_tensor


@dataclass(frozen=True)
class Wait:
    """One WAIT in a trace."""

    position: int
    error_stands: bool  # a wrong total or a wrong plan had been written and not been taken back
    kept: int | None  # steps left standing; -1 if the plan went too; None if nothing was taken back


@dataclass(frozen=True)
class Trace:
    """What a trace says and whether it is right; a malformed one is read up to its fault."""

    order: tuple[int, ...]  # digits visited, by their index, without steps taken back
    totals: tuple[int, ...]  # their totals as written
    plan: int | None  # the plan that stands; None where there is none
    first_error: int | None  # position of the first wrong number, even if taken back later
    waits: tuple[Wait, ...]
    answer: int | None
    answer_correct: bool
    correct: bool  # well formed, and every number that stands is right
    well_formed: bool
    malformed_at: int | None  # position of the first token that cannot stand there; n if one lacks
    reason: str | None  # why it is malformed


def parse_trace(tokens: Tensor | np.ndarray | Sequence, problem: Problem) -> Trace:
    """Read one trace, without its prompt; PAD after EOS is skipped.

    A total is wrong if it is not the previous written one plus the digit, so what follows an
    error consistently is no second error. A malformed trace is reported, not refused.

    Args:
        tokens: token ids [n].
        problem: what the trace is about.

    Raises:
        ValueError: no `Problem`; no tokens, more than one axis, not integers, or an id out of
            range.
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"problem={problem!r} must be a Problem(digits=..., config=...).")
    config = problem.config
    tokens = as_tensor("tokens", tokens)
    config.check_tokens(tokens)
    if tokens.dim() != 1:
        raise ValueError(
            f"tokens have shape {tuple(tokens.shape)}: one trace [n] is needed; `verify` grades "
            "a batch."
        )
    reader = _Reader(problem)
    ids = tokens.tolist()
    for position, token in enumerate(ids):
        reader.take(position, token)
        if reader.reason is not None:
            break
    else:
        if reader.expects != "PAD":
            reader.fail(len(ids), f"the trace ends where {reader.expects} should follow")
    return reader.result()


class _Reader:
    """Reads token after token; `expects` names what may come next."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.config = problem, problem.config
        self.plan: int | None = None
        self.steps: list[tuple[int, int]] = []  # (index, total), those that stand
        self.wrong: list[bool] = []  # of each standing step
        self.index = -1  # whose total comes next
        self.after_wait = False
        self.waits: list[Wait] = []
        self.first_error: int | None = None
        self.answer: int | None = None
        self.malformed_at: int | None = None
        self.reason: str | None = None
        self.expects = "a plan" if self.config.plan else "a step"

    def fail(self, position: int, reason: str) -> None:
        self.malformed_at, self.reason = position, reason

    def take(self, position: int, token: int) -> None:
        config = self.config
        is_number = token < config.first_index
        if self.expects == "a step":
            self.take_boundary(position, token)
        elif self.expects in ("a plan", "a total", "the answer") and is_number:
            self.take_number(position, token)
        elif self.expects == "EOS" and token == config.eos:
            self.expects = "PAD"
        elif not (self.expects == "PAD" and token == config.pad):
            self.fail(position, f"{config.name(token)} where {self.expects} should stand")

    def take_boundary(self, position: int, token: int) -> None:
        config = self.config
        visited = [index for index, _ in self.steps]
        if token == config.wait:
            self.waits.append(Wait(position, self.error_stands(), None))
            self.after_wait = True
        elif config.first_index <= token < config.bos:
            index = token - config.first_index
            if index in visited:
                if not self.after_wait:
                    self.fail(position, f"index {index} is visited again without WAIT")
                    return
                self.take_back(visited.index(index))
            self.index, self.after_wait, self.expects = index, False, "a total"
        elif token == config.ans:
            if len(visited) < config.n_digits:
                self.fail(position, f"ANS after {len(visited)} of {config.n_digits} digits")
            else:
                self.expects = "the answer"
        elif token < config.first_index and self.after_wait and config.plan:
            self.take_back(-1)
            self.after_wait = False
            self.take_plan(position, token)
        else:
            self.fail(position, f"{config.name(token)} where a step should stand")

    def take_number(self, position: int, number: int) -> None:
        if self.expects == "a plan":
            self.take_plan(position, number)
        elif self.expects == "a total":
            before = self.steps[-1][1] if self.steps else (self.plan or 0)
            right = (before + self.problem.digits[self.index]) % self.config.modulus
            self.steps.append((self.index, number))
            self.wrong.append(number != right)
            self.note_error(position, number != right)
            self.expects = "a step"
        else:
            self.answer = number
            self.note_error(position, number != self.steps[-1][1])
            self.expects = "EOS"

    def take_plan(self, position: int, number: int) -> None:
        self.plan = number
        self.note_error(position, number != self.problem.plan)
        self.expects = "a step"

    def take_back(self, kept: int) -> None:
        last = self.waits[-1]
        self.waits[-1] = replace(last, kept=kept)
        del self.steps[max(kept, 0) :], self.wrong[max(kept, 0) :]

    def note_error(self, position: int, wrong: bool) -> None:
        if wrong and self.first_error is None:
            self.first_error = position

    def error_stands(self) -> bool:
        return any(self.wrong) or (self.config.plan and self.plan != self.problem.plan)

    def result(self) -> Trace:
        well_formed = self.reason is None
        answer_correct = self.answer == self.problem.answer
        return Trace(
            order=tuple(index for index, _ in self.steps),
            totals=tuple(total for _, total in self.steps),
            plan=self.plan,
            first_error=self.first_error,
            waits=tuple(self.waits),
            answer=self.answer,
            answer_correct=answer_correct,
            correct=well_formed and answer_correct and not self.error_stands(),
            well_formed=well_formed,
            malformed_at=self.malformed_at,
            reason=self.reason,
        )
