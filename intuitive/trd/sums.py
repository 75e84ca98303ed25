"""Running sums with WAIT: problems, traces with planted errors, their reading and their grading.

A problem is K digits modulo P. A trace visits the digits in any order and writes after each
index the running total, then the answer:

    prompt   BOS d_1 ... d_K =
    trace    i_1 t_1 i_2 t_2 ... i_K t_K ANS t_K EOS          t_j = t_(j-1) + d_(i_j) mod P

The order is free so that a rewrite can keep it. WAIT may stand wherever an index may. If a visited
index follows, its step and all later ones are taken back and the trace goes on from there:

    2 t 0 t' WAIT 2 t ...                                     the first total was wrong

With `plan=True` a trace begins with a number written before any work: the total to start from.
Right is the count of large digits (at least P/2), so that a student can learn it. The prompt shows
the target, that count plus all digits, after the digits: whether the plan was right is seen when
the last total meets the target or misses it, and at no step before. After WAIT a number in place
of an index is a new plan, and every step is to be done again.

Every position is counted within the trace, from 0. Every teacher and every student shares one
vocabulary: P numbers, K indices, BOS, =, WAIT, ANS, EOS, REV, PAD.

`parse_trace` reads one trace and is easy to follow; `read` and `verify` do the same for a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SumsConfig:
    """Sizes of the problem; token ids and lengths follow from them."""

    n_digits: int = 4  # K
    modulus: int = 7  # P
    plan: bool = False  # a plan comes first, and its error shows last

    def __post_init__(self) -> None:
        if self.n_digits < 1 or self.modulus < 2:
            raise ValueError(
                f"n_digits={self.n_digits} must be at least 1 and modulus={self.modulus} "
                "at least 2: there has to be something to add."
            )
        if self.plan and self.modulus <= self.n_digits:
            raise ValueError(
                f"modulus={self.modulus} must be above n_digits={self.n_digits} with a plan: "
                "it is a count from 0 to n_digits, written as a number."
            )

    @classmethod
    def large(cls) -> "SumsConfig":
        """Eight digits modulo 23: guessing the answer hardly helps."""
        return cls(n_digits=8, modulus=23)

    @classmethod
    def late(cls) -> "SumsConfig":
        """The large setting with a plan: errors that show only at the end."""
        return cls(n_digits=8, modulus=23, plan=True)

    @property
    def first_index(self) -> int:
        """Token of index 0; numbers are the tokens below it."""
        return self.modulus

    @property
    def bos(self) -> int:
        return self.modulus + self.n_digits

    @property
    def equals(self) -> int:
        return self.bos + 1

    @property
    def wait(self) -> int:
        return self.bos + 2

    @property
    def ans(self) -> int:
        return self.bos + 3

    @property
    def eos(self) -> int:
        return self.bos + 4

    @property
    def rev(self) -> int:
        return self.bos + 5

    @property
    def pad(self) -> int:
        return self.bos + 6

    @property
    def vocab_size(self) -> int:
        return self.bos + 7

    @property
    def n_plans(self) -> int:
        """Plans there are: counts from 0 to n_digits."""
        return self.n_digits + 1

    @property
    def prompt_length(self) -> int:
        """Tokens of BOS, the digits, the target where there is one, and =."""
        return self.n_digits + 2 + self.plan

    @property
    def clean_length(self) -> int:
        """Tokens of a trace without WAIT."""
        return 2 * self.n_digits + 3 + self.plan

    @property
    def trace_length(self) -> int:
        """Tokens of the longest trace with one WAIT; no trace here is longer."""
        return self.clean_length + 1 + 2 * self.n_digits + self.plan

    @property
    def refine_length(self) -> int:
        """Tokens of a refinement prompt: prompt, draft filled up with PAD, REV."""
        return self.prompt_length + self.trace_length + 1

    def name(self, token: int) -> str:
        """A token in letters: numbers as they are, index i as #i."""
        self.check_tokens(torch.tensor([token]))
        if token < self.first_index:
            return str(token)
        if token < self.bos:
            return f"#{token - self.first_index}"
        return ("BOS", "=", "WAIT", "ANS", "EOS", "REV", "PAD")[token - self.bos]

    def check_tokens(self, tokens: Tensor) -> None:
        """Do nothing if these are token ids of this vocabulary.

        Raises:
            ValueError: no tokens, not integers, or an id out of range.
        """
        if tokens.numel() == 0:
            raise ValueError(
                f"the rollout is empty (shape {tuple(tokens.shape)}): give at least one token."
            )
        if not _are_integers(tokens):
            raise ValueError(f"tokens are {tokens.dtype}: token ids are integers.")
        ids = tokens.long()  # uint16 and wider have no min
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.vocab_size:
            raise ValueError(
                f"token ids from {low} to {high} must lie in [0, {self.vocab_size}): were they "
                "made with another n_digits or modulus?"
            )

    def check_digits(self, digits: Tensor) -> None:
        """Do nothing if these are problems of this setting, [b, n_digits].

        Raises:
            ValueError: another shape, not integers, or a digit out of range.
        """
        if digits.dim() != 2 or digits.shape[1] != self.n_digits or not _are_integers(digits):
            raise ValueError(
                f"digits are {digits.dtype} of shape {tuple(digits.shape)}: integers "
                f"[b, n_digits={self.n_digits}] are needed."
            )
        if digits.numel() and not 0 <= int(digits.min()) <= int(digits.max()) < self.modulus:
            raise ValueError(
                f"digits from {int(digits.min())} to {int(digits.max())} must lie in "
                f"[0, modulus={self.modulus})."
            )


def _as_tensor(name: str, values: object) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):  # no numbers, ragged, beyond 64 bits
        raise ValueError(f"{name}={values!r} must be one row of integers: pass a list.") from None


def _are_integers(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


# ------------------------------------------------------------------------------------ problems


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem; a batch of them is a tensor of digits [b, n_digits] beside its config."""

    digits: tuple[int, ...]
    config: SumsConfig

    def __post_init__(self) -> None:
        digits = _as_tensor("digits", self.digits)
        self.config.check_digits(digits[None])
        object.__setattr__(self, "digits", tuple(digits.tolist()))  # whatever kind of integers

    @property
    def plan(self) -> int:
        """The right total to start from; 0 where there is no plan."""
        return sum(2 * d >= self.config.modulus for d in self.digits) if self.config.plan else 0

    @property
    def answer(self) -> int:
        """The right last total; with a plan this is the target that the prompt shows."""
        return (self.plan + sum(self.digits)) % self.config.modulus


def plans(config: SumsConfig, digits: Int[Tensor, "b n_digits"]) -> Int[Tensor, " b"]:
    """The right total to start from, of each problem; 0 where there is no plan."""
    return (2 * digits >= config.modulus).sum(-1) * int(config.plan)


def answers(config: SumsConfig, digits: Int[Tensor, "b n_digits"]) -> Int[Tensor, " b"]:
    """The right last total of each problem."""
    return (plans(config, digits) + digits.sum(-1)) % config.modulus


def sample_digits(
    config: SumsConfig, b: int, *, generator: torch.Generator, distinct: bool = False
) -> Int[Tensor, "b n_digits"]:
    """Problems drawn uniformly, on the generator's device.

    Args:
        config: sizes.
        b: how many.
        generator: the source of randomness.
        distinct: no problem twice; cut the result to have sets that do not overlap.

    Raises:
        ValueError: more distinct problems than there are.
    """
    n, device = config.modulus**config.n_digits, generator.device
    if not distinct:
        shape = (b, config.n_digits)
        return torch.randint(config.modulus, shape, generator=generator, device=device)
    if b > n:
        raise ValueError(f"b={b} distinct problems are more than the {n} there are.")
    if n <= 1 << 20:
        codes = torch.randperm(n, generator=generator, device=device)[:b]
    else:  # repeats are rare: draw some more, keep first occurrences in the order drawn
        drawn = torch.randint(n, (b + b // 8 + 64,), generator=generator, device=device)
        codes = torch.tensor(list(dict.fromkeys(drawn.tolist()))[:b], device=device)
    powers = config.modulus ** torch.arange(config.n_digits, device=device)
    return codes[:, None] // powers % config.modulus


def prompts(config: SumsConfig, digits: Int[Tensor, "b n_digits"]) -> Int[Tensor, "b m"]:
    """BOS, the digits, the target where there is a plan, and =; m is `prompt_length`."""
    config.check_digits(digits)
    b = len(digits)
    parts = [digits.new_full((b, 1), config.bos), digits]
    if config.plan:
        parts.append(answers(config, digits)[:, None])
    return torch.cat([*parts, digits.new_full((b, 1), config.equals)], dim=1)


def refine_prompts(
    config: SumsConfig, digits: Int[Tensor, "b n_digits"], drafts: Int[Tensor, "n_drafts n"]
) -> Int[Tensor, "b m"]:
    """Prompt, draft filled up with PAD to `trace_length`, REV; m is `refine_length`.

    Raises:
        ValueError: a draft is longer than `trace_length`, PAD at its end not counted; token ids
            out of range; another number of drafts than problems.
    """
    drafts = fit_drafts(config, digits, drafts)
    rev = drafts.new_full((len(drafts), 1), config.rev)
    return torch.cat([prompts(config, digits), drafts, rev], dim=1)


def check_rows(
    config: SumsConfig, digits: Int[Tensor, "b n_digits"], tokens: Tensor, *, name: str = "traces"
) -> None:
    """Do nothing if these are token ids [b, n], one row per problem.

    Raises:
        ValueError: as `SumsConfig.check_tokens`; another number of axes, or of rows.
    """
    config.check_tokens(tokens)
    if tokens.dim() != 2:
        raise ValueError(f"{name} have shape {tuple(tokens.shape)}: [b, n] is needed.")
    if len(tokens) != len(digits):
        raise ValueError(
            f"{len(tokens)} {name} for {len(digits)} problems: one each is needed, so repeat the "
            "digits where a problem has several."
        )


def fit_drafts(
    config: SumsConfig, digits: Int[Tensor, "b n_digits"], drafts: Int[Tensor, "n_drafts n"]
) -> Int[Tensor, "b trace_length"]:
    """Drafts with exactly `trace_length` columns; errors as in `refine_prompts`."""
    check_rows(config, digits, drafts, name="drafts")
    limit = config.trace_length
    columns = torch.arange(1, drafts.shape[1] + 1, device=drafts.device)
    used = int(((drafts != config.pad) * columns).max())
    if used > limit:
        raise ValueError(
            f"a draft of {used} tokens is longer than the {limit} that the refinement context "
            "holds: cut the rollouts at trace_length."
        )
    fitted = drafts.new_full((len(drafts), limit), config.pad)
    fitted[:, :used] = drafts[:, :used]
    return fitted


# -------------------------------------------------------------------------------------- traces


def sample_orders(
    config: SumsConfig,
    b: int,
    *,
    left_to_right: int | float = 0.0,
    right_to_left: int | float = 0.0,
    generator: torch.Generator,
) -> Int[Tensor, "b n_digits"]:
    """Orders in which to visit the digits: two habits with given shares, the rest uniform.

    Raises:
        ValueError: the shares are negative or exceed 1 together.
    """
    if min(left_to_right, right_to_left) < 0 or left_to_right + right_to_left > 1:
        raise ValueError(
            f"left_to_right={left_to_right} and right_to_left={right_to_left} are shares: none "
            "below 0, together at most 1."
        )
    device = generator.device
    forwards = torch.arange(config.n_digits, device=device)
    orders = torch.rand(b, config.n_digits, generator=generator, device=device).argsort(-1)
    habit = torch.rand(b, 1, generator=generator, device=device)
    orders = torch.where(habit < left_to_right + right_to_left, forwards.flip(0), orders)
    return torch.where(habit < left_to_right, forwards, orders)


def sample_shifts(
    config: SumsConfig, b: int, *, probability: int | float, generator: torch.Generator
) -> Int[Tensor, "b n_digits"]:
    """What is added to each total by mistake: 0, or with this probability one of 1 ... P − 1.

    Raises:
        ValueError: `probability` outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability={probability} must lie in [0, 1].")
    shape, device = (b, config.n_digits), generator.device
    shifts = torch.randint(1, config.modulus, shape, generator=generator, device=device)
    return shifts * (torch.rand(shape, generator=generator, device=device) < probability)


def sample_repair_steps(
    config: SumsConfig,
    first_seen: Int[Tensor, " b"],
    *,
    repair: int | float,
    generator: torch.Generator,
) -> Int[Tensor, " b"]:
    """After how many steps each trace says WAIT; 0 if it never does.

    Args:
        config: sizes.
        first_seen: steps after which the error can first be seen, in [1, K]: one more than the
            step of the first wrong total (counted from 0), K for a wrong plan; 0 for no error.
        repair: chance of WAIT at every boundary from there on, the one before ANS included.
        generator: the source of randomness.
    """
    b, k, device = len(first_seen), config.n_digits, generator.device
    says = torch.rand(b, k, generator=generator, device=device) < repair  # after 1 ... K steps
    steps = torch.arange(1, k + 1, device=device)
    says &= (first_seen[:, None] > 0) & (steps >= first_seen[:, None])
    return torch.where(says.any(-1), says.int().argmax(-1) + 1, 0)


@dataclass(frozen=True)
class Traces:
    """Written traces, filled up with PAD to `trace_length`."""

    tokens: Int[Tensor, "b n"]
    planted: Bool[Tensor, "b n"]  # the wrong numbers that were asked for; not what follows them


def write_traces(
    config: SumsConfig,
    digits: Int[Tensor, "b n_digits"],
    orders: Int[Tensor, "b n_digits"],
    *,
    shifts: Int[Tensor, "b n_digits"] | None = None,
    plan_shifts: Int[Tensor, " b"] | None = None,
    wait_after: Int[Tensor, " b"] | None = None,
) -> Traces:
    """Traces in given orders, right or with planted errors, with or without a repair.

    After a wrong number the trace goes on consistently from it. After WAIT it goes back to the
    first wrong total or, if none is wrong and all steps stand, to the plan, and does right, in the
    same order, what it has taken back.

    Args:
        config: sizes.
        digits: the problems.
        orders: a permutation of 0 ... K − 1 per row.
        shifts: added to the j-th total; 0 is right.
        plan_shifts: added to the plan modulo K + 1; 0 is right. Only with a plan.
        wait_after: steps after which the trace says WAIT; 0 is never.

    Raises:
        ValueError: an order is no permutation; a plan where there is none; WAIT without an error
            that can be seen there; digits out of range.
    """
    config.check_digits(digits)
    b, k, p, off = len(digits), config.n_digits, config.modulus, int(config.plan)
    if not torch.equal(orders.sort(-1).values, torch.arange(k, device=orders.device).expand(b, k)):
        raise ValueError(f"orders must be permutations of 0 ... {k - 1}, one per problem.")
    zeros = digits.new_zeros(b)
    shifts = torch.zeros_like(digits) if shifts is None else shifts % p
    if plan_shifts is not None and not config.plan:
        raise ValueError("plan_shifts were given, but plan=False: use SumsConfig(plan=True).")
    plan_shifts = zeros if plan_shifts is None else plan_shifts % config.n_plans
    wait_after = zeros if wait_after is None else wait_after
    steps = torch.arange(k, device=digits.device)

    wrong = shifts != 0
    first_bad = torch.where(wrong.any(-1), wrong.int().argmax(-1), k)
    waits = wait_after > 0
    redo_step = first_bad < wait_after
    redo_plan = waits & ~redo_step & (plan_shifts != 0) & (wait_after == k)
    if (waits & ~redo_step & ~redo_plan | (wait_after > k)).any():
        row = int((waits & ~redo_step & ~redo_plan | (wait_after > k)).int().argmax())
        raise ValueError(
            f"row {row} says WAIT after {int(wait_after[row])} of {k} steps, where no error can "
            "be seen: plant one before, or take 0."
        )

    visited = digits.gather(1, orders)  # [b, k], in the order of the trace
    later = shifts * (steps >= wait_after[:, None])  # errors that the repair does not undo
    plan = plans(config, digits)
    start = (plan + plan_shifts) % config.n_plans if config.plan else plan
    restart = torch.where(redo_plan, plan, start)
    first = _steps(config, start, orders, (start[:, None] + (visited + shifts).cumsum(-1)) % p)
    second = _steps(config, restart, orders, (restart[:, None] + (visited + later).cumsum(-1)) % p)
    planted = _steps(config, plan_shifts != 0, torch.zeros_like(wrong), wrong)
    planted_again = _steps(config, zeros != 0, torch.zeros_like(wrong), later != 0)

    # Each row is cut from: first attempt, second attempt, WAIT, ANS, answer, EOS, PAD.
    n = off + 2 * k
    answer = torch.where(waits, second[:, -1], first[:, -1])
    single = [zeros + config.wait, zeros + config.ans, answer, zeros + config.eos]
    source = torch.cat([first, second, torch.stack([*single, zeros + config.pad], 1)], dim=1)
    marks = torch.cat([planted, planted_again, planted.new_zeros(b, 5)], dim=1)
    at = torch.arange(config.trace_length, device=digits.device).expand(b, -1)
    before = torch.where(waits, off + 2 * wait_after, n)[:, None]  # tokens before WAIT or ANS
    back_to = torch.where(redo_plan, 0, off + 2 * first_bad.clamp(max=k))[:, None]
    again = torch.where(waits[:, None], n - back_to, 0)  # tokens after WAIT, before ANS
    after = at - before - waits[:, None].long()
    column = torch.where(
        at < before,
        at,
        torch.where(
            after < 0,
            2 * n,
            torch.where(after < again, n + back_to + after, (2 * n + 1 + after - again)),
        ),
    ).clamp(max=2 * n + 4)
    return Traces(source.gather(1, column), marks.gather(1, column))


def _steps(config: SumsConfig, start: Tensor, orders: Tensor, totals: Tensor) -> Tensor:
    """Plan where there is one, then index and total in turn; for marks too, [b, n]."""
    indices = orders if orders.dtype == torch.bool else orders + config.first_index
    steps = torch.stack([indices, totals], dim=-1).flatten(1)
    return torch.cat([start[:, None], steps], dim=1) if config.plan else steps


# ---------------------------------------------------------------------------- reading one trace


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
    tokens = _as_tensor("tokens", tokens)
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


# ----------------------------------------------------------------------------- reading a batch


class Mode(IntEnum):
    """What a trace needs next."""

    PLAN = 0  # the first token, with a plan
    STEP = 1  # an index, WAIT or ANS
    REDO = 2  # the same, just after WAIT: a visited index or a new plan too
    TOTAL = 3  # the number after an index
    ANSWER = 4  # the number after ANS
    END = 5  # EOS
    DONE = 6  # PAD
    LOST = 7  # nothing: the trace is malformed


@dataclass(frozen=True, kw_only=True)
class TraceState:
    """How far traces have come; every field has the same leading axes, [b] or [b, n]."""

    digits: Int[Tensor, "... n_digits"]
    plan: Int[Tensor, "..."]  # the right one
    plan_known: Bool[Tensor, "..."]  # a teacher was told the right plan
    mode: Int[Tensor, "..."]
    depth: Int[Tensor, "..."]  # steps that stand
    rank: Int[Tensor, "... n_digits"]  # step of each digit; below depth: it stands; K: never seen
    totals: Int[Tensor, "... n_totals"]  # written: plan or 0, then one per step
    first_bad: Int[Tensor, "..."]  # first standing step with a wrong total; K: none
    first_error: Int[Tensor, "..."]  # position of the first wrong number; -1: none
    n_waits: Int[Tensor, "..."]
    n_idle_waits: Int[Tensor, "..."]  # those said while no error stood
    answer: Int[Tensor, "..."]  # as written; -1: none yet
    position: int = 0  # tokens read

    @property
    def plan_wrong(self) -> Bool[Tensor, "..."]:
        """A wrong plan stands."""
        return (self.mode != Mode.PLAN) & (self.totals[..., 0] != self.plan)

    @property
    def error_stands(self) -> Bool[Tensor, "..."]:
        """A wrong total or a wrong plan stands."""
        return (self.first_bad < self.digits.shape[-1]) | self.plan_wrong


def start(config: SumsConfig, digits: Int[Tensor, "b n_digits"]) -> TraceState:
    """Before the first token of a trace."""
    config.check_digits(digits)
    digits = digits.long()
    b, k = digits.shape
    zeros = digits.new_zeros(b)
    return TraceState(
        digits=digits,
        plan=plans(config, digits),
        plan_known=zeros != 0,
        mode=zeros + (Mode.PLAN if config.plan else Mode.STEP),
        depth=zeros,
        rank=torch.full_like(digits, k),
        totals=digits.new_zeros(b, k + 1),
        first_bad=zeros + k,
        first_error=zeros - 1,
        n_waits=zeros,
        n_idle_waits=zeros,
        answer=zeros - 1,
    )


def advance(config: SumsConfig, state: TraceState, token: Int[Tensor, " b"]) -> TraceState:
    """The state after one more token per trace; token ids are not checked here."""
    k, p = config.n_digits, config.modulus
    mode, depth, rank, totals = state.mode, state.depth, state.rank, state.totals
    is_number, is_index = token < p, (token >= p) & (token < config.bos)
    boundary, redo = (mode == Mode.STEP) | (mode == Mode.REDO), mode == Mode.REDO

    index = (token - p).clamp(0, k - 1)[:, None]
    step = rank.gather(1, index)[:, 0]  # where the named digit stands, or would be done again
    back = redo & is_index & (step < depth)
    ahead = boundary & is_index & (step >= depth)
    planned = is_number & ((mode == Mode.PLAN) | (redo & config.plan))
    waited = boundary & (token == config.wait)
    asked = boundary & (token == config.ans) & (depth == k)
    totalled = is_number & (mode == Mode.TOTAL)
    answered = is_number & (mode == Mode.ANSWER)
    ended = (mode == Mode.END) & (token == config.eos)
    padded = (mode == Mode.DONE) & (token == config.pad)

    # The digit now at `depth` is the one whose total comes.
    digit = (state.digits * (rank == depth[:, None])).sum(-1)
    before = totals.gather(1, depth[:, None])[:, 0]
    wrong_total = totalled & (token != (before + digit) % p)
    wrong = wrong_total | (planned & (token != state.plan)) | (answered & (token != totals[:, k]))

    strays = ahead & (step != depth)  # leaves the order that was known
    written = torch.where(planned, 0, depth + 1)
    slots = torch.arange(k + 1, device=token.device)
    writes = (planned | totalled)[:, None] & (slots == written[:, None])
    first_bad = torch.where(wrong_total & (state.first_bad == k), depth, state.first_bad)
    first_bad = torch.where(planned | (back & (first_bad >= step)), k, first_bad)
    rank = torch.where(strays[:, None] & (rank >= depth[:, None]), k, rank)
    rank = torch.where(strays[:, None] & (slots[:k] == index), depth[:, None], rank)
    depth = torch.where(back, step, torch.where(planned, 0, depth + totalled.long()))

    following = torch.full_like(mode, Mode.LOST)
    for happened, then in (
        (planned | totalled, Mode.STEP),
        (back | ahead, Mode.TOTAL),
        (waited, Mode.REDO),
        (asked, Mode.ANSWER),
        (answered, Mode.END),
        (ended | padded, Mode.DONE),
    ):
        following = torch.where(happened, int(then), following)
    return replace(
        state,
        mode=following,
        depth=depth,
        rank=rank,
        totals=torch.where(writes, token[:, None], totals),
        first_bad=first_bad,
        first_error=torch.where(wrong & (state.first_error < 0), state.position, state.first_error),
        n_waits=state.n_waits + waited.long(),
        n_idle_waits=state.n_idle_waits + (waited & ~state.error_stands).long(),
        answer=torch.where(answered, token, state.answer),
        position=state.position + 1,
    )


def read(config: SumsConfig, state: TraceState, tokens: Int[Tensor, "n_traces n"]) -> TraceState:
    """The state after all tokens of [b, n].

    Raises:
        ValueError: no tokens, not integers, an id out of range, or another number of traces.
    """
    check_rows(config, state.digits, tokens)
    for token in tokens.long().unbind(1):
        state = advance(config, state, token)
    return state


@dataclass(frozen=True)
class Verdict:
    """Grades of a batch of traces; the words mean what they mean in `Trace`."""

    correct: Bool[Tensor, " b"]
    answer_correct: Bool[Tensor, " b"]
    well_formed: Bool[Tensor, " b"]
    order: Int[Tensor, "b n_digits"]  # indices of the steps that stand; -1 after the last
    plan: Int[Tensor, " b"]  # as written; 0 where there is none
    first_error: Int[Tensor, " b"]  # position; -1: none
    n_waits: Int[Tensor, " b"]
    n_idle_waits: Int[Tensor, " b"]  # WAIT while no error stood
    length: Int[Tensor, " b"]  # tokens, PAD not counted


def verify(
    config: SumsConfig, digits: Int[Tensor, "b n_digits"], tokens: Int[Tensor, "n_traces n"]
) -> Verdict:
    """Grade a batch of traces as `parse_trace` does; errors as in `read`."""
    state = read(config, start(config, digits), tokens)
    well_formed = state.mode == Mode.DONE
    answer_correct = state.answer == answers(config, digits)
    stands = torch.arange(config.n_digits, device=digits.device) < state.depth[:, None]
    return Verdict(
        correct=well_formed & answer_correct & ~state.error_stands,
        answer_correct=answer_correct,
        well_formed=well_formed,
        order=torch.where(stands, state.rank.argsort(-1), -1),
        plan=state.totals[:, 0],
        first_error=state.first_error,
        n_waits=state.n_waits,
        n_idle_waits=state.n_idle_waits,
        length=(tokens != config.pad).sum(-1),
    )
