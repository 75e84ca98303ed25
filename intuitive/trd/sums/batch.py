"""Many traces, read and graded at once: what `reading` does for one."""

from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from intuitive.common.inputs import public

from .problems import SumsConfig, answers, check_rows, plans


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


@public(empty="*")
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
