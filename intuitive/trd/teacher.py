"""The exact teacher: a program whose next-token distribution is known at every prefix.

It carries on consistently or breaks off and repairs, in a mixture with a weight of our choosing:

    π_T(v | prefix) = (1 − λ) q_continue(v) + λ q_repair(v),    smoothed by ε / v

λ is `repair` at every step boundary, and before ANS, where an error stands that the teacher can
see; 0 elsewhere. q_repair is WAIT; after WAIT the way back is certain. q_continue takes the next
index from the posterior over orders (left to right, or any order), the total from what is written,
the answer from the last total. A wrong total can be seen at once; a wrong plan only when all steps
stand (`sums`). A trace that can no longer be read is ended by EOS.

Its context is a matter of what it starts from (`Teacher`, the interface of all teachers, says how):

    from x          nothing: any order, and the plan guessed with `plan_skill`
    with a draft    the draft's order; the plan too if the draft got to its end and so shows it
    with a solution the solution's order, unless there is a draft, and the plan (OPSD)

Source: arXiv:2606.08432, sections 3 and 4. Differs: the paper's teacher is a language model with
weights of its own making; here λ is a slider, which the paper does not have.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.inputs import plain_fields
from intuitive.common.runtime import check, never

from .sums import Mode, SumsConfig, TraceState, advance, check_rows, fit_drafts, read, start


@dataclass(frozen=True, eq=False)
class Refined:
    """What a teacher makes of drafts; filled up with PAD."""

    y_r: Int[Tensor, "b n"]  # its rewrites
    logits: Float[Tensor, "b n v"]  # of them, in the context in which they were written
    y_t: Int[Tensor, "b n_own"]  # its own solutions, from x


@runtime_checkable
class Teacher(Protocol):
    """Whoever can teach: `ExactTeacher`, and `learned.LearnedTeacher`.

    What a teacher sees beside the problem is given to every method alike: `drafts` [b, n] the
    students' attempts, `solutions` [b, n] privileged traces, `keep_order=False` to ignore the
    drafts' order. Without any of them it works from x.
    """

    sums: SumsConfig

    @property
    def device(self) -> torch.device:
        """Where its inputs have to be."""
        ...

    @property
    def rows_at_once(self) -> int | None:
        """Rows after which it should be asked whether anybody still waits; None: any number."""
        ...

    def logits(
        self,
        digits: Tensor,
        tokens: Tensor,
        *,
        drafts: Tensor | None = None,
        solutions: Tensor | None = None,
        keep_order: bool = True,
    ) -> Tensor:
        """Logits of every token of a trace, given those before it, [b, n, v]."""
        ...

    def sample(
        self,
        digits: Tensor,
        *,
        generator: torch.Generator,
        drafts: Tensor | None = None,
        solutions: Tensor | None = None,
        keep_order: bool = True,
        stale: Callable[[], bool] = never,
    ) -> Tensor:
        """Traces of its own at temperature 1, [b, trace_length]."""
        ...

    def refine(self, digits: Tensor, drafts: Tensor, *, generator: torch.Generator) -> Refined:
        """Rewrites of drafts, and its own solutions beside them."""
        ...


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Habits of the exact teacher; all are probabilities."""

    repair: float = 0.3  # λ: WAIT at a boundary where an error can be seen
    left_to_right: float = 0.5  # orders from left to right; the others are uniform
    plan_skill: float = 0.6  # the right plan from x; the rest goes to the other plans evenly
    smoothing: float = 1e-3  # ε, spread over the whole vocabulary

    def __post_init__(self) -> None:
        plain_fields(self)
        for name in ("repair", "left_to_right", "plan_skill"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1].")
        if not 0 <= self.smoothing < 1:
            raise ValueError(
                f"smoothing={self.smoothing} must lie in [0, 1): at 1 the teacher only guesses."
            )


@dataclass(frozen=True, kw_only=True)
class ExactTeacher:
    """The programmed teacher of one setting; it has no weights and draws on every device."""

    sums: SumsConfig
    config: TeacherConfig = TeacherConfig()

    @property
    def device(self) -> torch.device:
        """The CPU, though it answers wherever its inputs are."""
        return torch.device("cpu")

    @property
    def rows_at_once(self) -> None:
        """A program answers many rows as fast as a few."""
        return None

    def context(
        self,
        digits: Int[Tensor, "b n_digits"],
        *,
        drafts: Int[Tensor, "n_drafts n_draft"] | None = None,
        solutions: Int[Tensor, "n_solutions n_solution"] | None = None,
        keep_order: bool = True,
    ) -> TraceState:
        """Where the teacher stands before the first token of a trace.

        Raises:
            ValueError: a draft or solution is longer than `trace_length`; token ids or digits
                out of range; not one draft per problem.
        """
        state = start(self.sums, digits)
        told = [] if solutions is None else [(solutions, True)]
        told += [] if drafts is None else [(drafts, keep_order)]
        for traces, gives_order in told:
            fitted = fit_drafts(self.sums, digits, traces)
            rank = read(self.sums, start(self.sums, digits), fitted).rank
            shown = (rank < self.sums.n_digits).all(-1)  # it came to its end
            state = replace(
                state,
                rank=rank if gives_order else state.rank,
                plan_known=state.plan_known | shown,
            )
        return state

    def logits(
        self,
        digits: Int[Tensor, "b n_digits"],
        tokens: Int[Tensor, "n_traces n"],
        *,
        drafts: Int[Tensor, "n_drafts n_draft"] | None = None,
        solutions: Int[Tensor, "n_solutions n_solution"] | None = None,
        keep_order: bool = True,
    ) -> Float[Tensor, "n_traces n v"]:
        """Log-probabilities of every token of a trace, given those before it.

        Row i speaks about `tokens[:, i]` itself: it has seen `tokens[:, :i]`.

        Raises:
            ValueError: as in `context`; tokens empty or out of range; not one trace per problem.
        """
        state = self.context(digits, drafts=drafts, solutions=solutions, keep_order=keep_order)
        check_rows(self.sums, digits, tokens)
        states = [state]
        for token in tokens[:, :-1].long().unbind(1):
            states.append(advance(self.sums, states[-1], token))
        return self.distribution(stacked(states)).log()

    def distribution(self, state: TraceState) -> Float[Tensor, "*axes v"]:
        """Probabilities of the next token in every state."""
        sums, config = self.sums, self.config
        k, p, v = sums.n_digits, sums.modulus, sums.vocab_size
        rank, depth, mode = state.rank, state.depth[..., None], state.mode[..., None]

        def one(token: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(token.clamp(0, v - 1), v).to(torch.float32)

        def at_index(weights: Tensor) -> Tensor:
            return torch.nn.functional.pad(weights.to(torch.float32), (p, v - p - k))

        def alone(token: int) -> Tensor:
            return one(torch.tensor(token, device=rank.device))

        all_stand = depth == k
        carry_on = torch.where(all_stand, alone(sums.ans), at_index(self._next_index(state)))
        bad_total = (state.first_bad < k)[..., None]
        bad_plan = state.plan_wrong[..., None] & (all_stand | state.plan_known[..., None])
        lam = config.repair * (bad_total | bad_plan).to(torch.float32)
        way_back = torch.where(bad_plan, one(state.plan), carry_on)
        way_back = torch.where(bad_total, at_index(rank == state.first_bad[..., None]), way_back)
        written = state.totals.gather(-1, depth)[..., 0]
        digit = (state.digits * (rank == depth)).sum(-1)

        result = one(torch.full_like(state.mode, sums.eos))  # END and LOST
        for at, then in (
            (Mode.PLAN, self._first_plan(state, one(state.plan))),
            (Mode.STEP, (1 - lam) * carry_on + lam * alone(sums.wait)),
            (Mode.REDO, way_back),
            (Mode.TOTAL, one((written + digit) % p)),
            (Mode.ANSWER, one(written)),
            (Mode.DONE, alone(sums.pad)),
        ):
            result = torch.where(mode == at, then, result)
        return (1 - config.smoothing) * result + config.smoothing / v

    def _next_index(self, state: TraceState) -> Tensor:
        """Probabilities of the next digit to visit [..., K]; no meaning where all are visited."""
        k, w = self.sums.n_digits, self.config.left_to_right
        rank, depth = state.rank, state.depth[..., None]
        places = torch.arange(k, device=rank.device)
        in_order = ((rank == places) | (places >= depth)).all(-1, keepdim=True)
        left = k - depth  # digits to visit
        # Chance of the order so far: 1 from left to right, (K − depth)! / K! among all orders.
        table = [w / (w + (1 - w) * math.exp(math.lgamma(n + 1) - math.lgamma(k + 1)))
                 if w else 0.0 for n in range(k + 1)]  # fmt: skip
        habit = torch.tensor(table, device=rank.device, dtype=torch.float32)[left] * in_order
        free = (rank >= depth).to(torch.float32) / left.clamp(min=1)
        fresh = habit * (places == depth) + (1 - habit) * free
        known = rank == depth  # this step was done or shown before
        return torch.where(known.any(-1, keepdim=True), known.to(fresh.dtype), fresh)

    def _first_plan(self, state: TraceState, right: Tensor) -> Tensor:
        """Probabilities of the plan [..., v] before any work."""
        skill, n = self.config.plan_skill, self.sums.n_plans
        is_plan = torch.arange(self.sums.vocab_size, device=right.device) < n
        guess = skill * right + (1 - skill) / (n - 1) * (is_plan.to(right.dtype) - right)
        return torch.where(state.plan_known[..., None], right, guess)

    @torch.no_grad()
    def sample(
        self,
        digits: Int[Tensor, "b n_digits"],
        *,
        generator: torch.Generator,
        drafts: Int[Tensor, "n_drafts n_draft"] | None = None,
        solutions: Int[Tensor, "n_solutions n_solution"] | None = None,
        keep_order: bool = True,
        stale: Callable[[], bool] = never,
    ) -> Int[Tensor, "b n"]:
        """Traces of the teacher's own at temperature 1, filled up with PAD to `trace_length`.

        From x they are its solutions y_T; with drafts they are its rewrites y_r. The generator has
        to be on the digits' device.

        Raises:
            ValueError: as in `context`.
            Cancelled: `stale()` became true between two tokens.
        """
        state = self.context(digits, drafts=drafts, solutions=solutions, keep_order=keep_order)
        ended = torch.zeros_like(state.mode, dtype=torch.bool)
        tokens = []
        for _ in range(self.sums.trace_length):
            check(stale)
            drawn = torch.multinomial(self.distribution(state), 1, generator=generator)[:, 0]
            token = torch.where(ended, self.sums.pad, drawn)
            tokens.append(token)
            ended = ended | (token == self.sums.eos)
            state = advance(self.sums, state, token)
        return torch.stack(tokens, dim=1)

    @torch.no_grad()
    def write(
        self, state: TraceState, n: int, pick: Callable[[Tensor], Tensor]
    ) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n v"]]:
        """Up to n tokens from `state` on, and the probabilities that `pick` took them from.

        It ends where every row has; `sample` goes on to `trace_length`.
        """
        sums, tokens, seen = self.sums, [], []
        ended = torch.zeros_like(state.mode, dtype=torch.bool)
        while len(tokens) < n and not ended.all():
            seen.append(self.distribution(state))
            tokens.append(torch.where(ended, sums.pad, pick(seen[-1])))
            ended = ended | (tokens[-1] == sums.eos)
            state = advance(sums, state, tokens[-1])
        return torch.stack(tokens, dim=1), torch.stack(seen, dim=1)

    def refine(
        self,
        digits: Int[Tensor, "b n_digits"],
        drafts: Int[Tensor, "b n_draft"],
        *,
        generator: torch.Generator,
    ) -> Refined:
        """Rewrites and own solutions in one batch: a draft of PAD tells the program nothing.

        Raises:
            ValueError: as in `context`.
        """
        b, length = len(digits), drafts.shape[1]
        both = torch.cat([drafts, torch.full_like(drafts, self.sums.pad)])
        state = self.context(digits.repeat(2, 1), drafts=both)
        tokens, p = self.write(state, length, lambda p: p.multinomial(1, generator=generator)[:, 0])
        return Refined(tokens[:b], p[:b].log(), tokens[b:])


def stacked(states: Sequence[TraceState]) -> TraceState:
    """States [b] one after the other, as one state [b, n]."""
    fields = {
        field.name: torch.stack([getattr(state, field.name) for state in states], dim=1)
        for field in dataclasses.fields(TraceState)
        if field.name != "position"
    }
    return TraceState(**fields)
