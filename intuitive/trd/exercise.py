"""The lesson's "your turn": the reader writes TRD's rewrite of an attempt.

    def rewrite(attempt, error, teacher):
        '''y_r: what the teacher makes of an attempt that is wrong at `attempt[error]`.'''

    check_rewrite(rewrite)

`attempt` is a list of tokens such as ["#3", "6", ..., "EOS"], `error` the place of its first wrong
number, or None, and `teacher(tokens)` the token that the teacher would write after these, in the
student's order. The result is a list of tokens that ends with "EOS".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from intuitive.common.exercise import Check, ExerciseReport, Tried

from .sums import Problem, SumsConfig, advance, write_traces
from .teacher import ExactTeacher, TeacherConfig

Tokens = list[str]
TeacherSays = Callable[[Sequence[str]], str]
Rewrite = Callable[[Tokens, int | None, TeacherSays], Tokens]
MOST_QUESTIONS = 200  # that a rewrite may ask of the teacher


class AskedTooOften(RuntimeError):
    """A rewrite that does not come to its end."""


def token_ids(sums: SumsConfig, tokens: object) -> list[int]:
    """Ids of tokens by their names.

    Raises:
        ValueError: not a list of names of this vocabulary.
    """
    names = {sums.name(token): token for token in range(sums.vocab_size)}
    if isinstance(tokens, str) or not isinstance(tokens, Sequence):
        raise ValueError(f"{tokens!r} is no list of tokens: return a list such as ['#3', '6'].")
    for token in tokens:
        if not isinstance(token, str) or token not in names:
            raise ValueError(
                f"{token!r} is no token: numbers are '0' to '{sums.modulus - 1}', digits '#0' to "
                f"'#{sums.n_digits - 1}', and there are WAIT, ANS and EOS."
            )
    return [names[token] for token in tokens]


def asks(problem: Problem, order: Sequence[int], *, repair: int | float = 1.0) -> TeacherSays:
    """`teacher(tokens)` of the exercise: the program's likeliest next token, in this order.

    It has read no attempt. Where a wrong total stands it says WAIT, if λ = `repair` is above a
    half, and else goes on from it.

    Raises:
        ValueError: tokens that are none; λ outside [0, 1].
        AskedTooOften: it was asked MOST_QUESTIONS times.
    """
    sums = problem.config
    program = ExactTeacher(sums=sums, config=TeacherConfig(repair=repair, plan_skill=1.0))
    digits = torch.tensor([problem.digits])
    told = write_traces(sums, digits, torch.tensor([list(order)])).tokens
    begin = program.context(digits, drafts=told)
    asked = 0

    def teacher(tokens: Sequence[str]) -> str:
        nonlocal asked
        asked += 1
        if asked > MOST_QUESTIONS:
            raise AskedTooOften(
                f"the teacher was asked {MOST_QUESTIONS} times: does the loop stop at 'EOS'?"
            )
        state = begin
        for token in token_ids(sums, tokens):
            state = advance(sums, state, torch.tensor([token]))
        return sums.name(int(program.distribution(state)[0].argmax()))

    return teacher


@dataclass(frozen=True)
class Own:
    """What a reader's `rewrite` made of an attempt."""

    tokens: tuple[str, ...]  # empty where it failed
    told: str  # one sentence about it


def try_rewrite(
    rewrite: Rewrite,
    attempt: Sequence[str],
    error: int | None,
    problem: Problem,
    order: Sequence[int],
    want: Sequence[str],
) -> Own:
    """A reader's rewrite of an attempt beside the package's `want`; nothing is raised."""
    tokens, fault = _called(rewrite, attempt, error, asks(problem, order), problem.config)
    if fault:
        return Own((), f"Your rewrite cannot be drawn: {fault}")
    if tokens == list(want):
        return Own(tuple(tokens), "Your rewrite is the package's, token by token.")
    place = next(
        (i for i, (a, b) in enumerate(zip(tokens, want, strict=False)) if a != b),
        min(len(tokens), len(want)),
    )
    got, wanted = ((text[place] if place < len(text) else "nothing") for text in (tokens, want))
    return Own(
        tuple(tokens), f"Your rewrite has {got} as token {place + 1}; the package writes {wanted}."
    )


def _called(
    rewrite: Rewrite,
    attempt: Sequence[str],
    error: int | None,
    teacher: TeacherSays,
    sums: SumsConfig,
) -> tuple[Tokens, str]:
    """The tokens of a reader's rewrite, or what is wrong with it."""
    given = list(attempt)
    try:
        got = rewrite(given, error, teacher)
        if got is None:
            return [], "it returned nothing: end it with `return`."
        got = list(got) if isinstance(got, tuple) else got
        token_ids(sums, got)
    except NotImplementedError:
        return [], "nothing is written yet."
    except Exception as failure:  # a reader's function may fail in any way
        return [], f"it raised {type(failure).__name__}: {failure}"
    if len(got) > sums.trace_length:
        return [], f"it returned {len(got)} tokens; no attempt is longer than {sums.trace_length}."
    if given != list(attempt):
        return [], "it changed the attempt that it was given: build a new list."
    return got, ""


WRITE_FIRST = (
    "rewrite leaves the attempt as it is. Keep first what stands before `error`, and ask `teacher` "
    "for the token that follows."
)
_PROBLEM = Problem(digits=(3, 5, 2, 6), config=SumsConfig())
_ORDER = (3, 2, 1, 0)


@dataclass(frozen=True)
class Rule:
    """What one check asks of a rewrite, and of nothing else in it."""

    name: str
    part: Callable[[int], slice]  # of the rewrite, by the place of the error: what is compared
    step: int | None  # of the attempt's wrong total
    shift: int = 0  # what is added to it


_RULES = (
    Rule("An attempt without an error stays as it is.", lambda error: slice(None), None),
    Rule("Tokens before the error are kept.", lambda error: slice(error), 3, 2),
    Rule("The wrong total is put right.", lambda error: slice(error, error + 1), 2, 2),
    Rule(
        "The teacher goes on from what is right, to the answer.",
        lambda error: slice(error + 1, None),
        1,
        4,
    ),
    Rule(
        "If the last total is wrong, it and the answer are put right.",
        lambda error: slice(error, None),
        4,
        1,
    ),
)


def check_rewrite(rewrite: Rewrite) -> ExerciseReport:
    """Try the reader's `rewrite(attempt, error, teacher)` on attempts with one wrong total.

    Whatever the function does, nothing is raised: what goes wrong stands in the report.

    Args:
        rewrite: gets the attempt, the place of its first wrong number (None where there is none)
            and `teacher(tokens)`; returns the rewritten tokens.
    """
    tried = Tried(rewrite, lambda attempt, error, teacher: list(attempt))
    return tried.report(tuple(_check(tried, rule) for rule in _RULES), WRITE_FIRST)


def _check(rewrite: Rewrite, rule: Rule) -> Check:
    sums, digits, step = _PROBLEM.config, torch.tensor([_PROBLEM.digits]), rule.step
    order, shifts = torch.tensor([_ORDER]), torch.zeros(1, sums.n_digits, dtype=torch.int64)
    want = _names(write_traces(sums, digits, order).tokens[0])
    if step is not None:
        shifts[0, step - 1] = rule.shift
    attempt = _names(write_traces(sums, digits, order, shifts=shifts).tokens[0])
    error = None if step is None else 2 * step - 1
    got, fault = _called(rewrite, attempt, error, asks(_PROBLEM, _ORDER), sums)
    given = f"rewrite({' '.join(attempt)}, {error})"
    if fault:
        return Check(rule.name, False, f"{given}: {fault}")
    part = rule.part(error or 0)
    if got[part] == want[part]:
        return Check(rule.name, True, "")
    where = _where(part, error)
    hint = ""
    if "WAIT" in got[part]:
        hint = " Where the error still stands, the teacher says WAIT: leave it out."
    elif error is not None and part.start == error and got[part][:1] == attempt[error : error + 1]:
        hint = " The wrong total is still there."
    elif got == want[: len(got)]:
        hint = " It stops before EOS."
    asked, made = (" ".join(tokens) or "nothing" for tokens in (want[part], got[part]))
    return Check(rule.name, False, f"{given}: {where} should be {asked}, not {made}.{hint}")


def _where(part: slice, error: int | None) -> str:
    """A part of a rewrite in words."""
    if error is None:
        return "it"
    if part.start is None:
        return f"what stands before token {error + 1}"
    if part.stop is not None:
        return f"token {error + 1}"
    return f"what stands from token {part.start + 1} on"


def _names(tokens: torch.Tensor) -> Tokens:
    sums = _PROBLEM.config
    return [sums.name(token) for token in tokens.tolist() if token != sums.pad]
