"""A road of tokens that forks at an error: what teacher and student say at every token of it.

    run      the attempt y_o with a number written by the reader, its rewrite y_r, both charged
    ladder   the pairs of context and target that a repair needs, and which of them y_o supplies

The attempt visits the digits from right to left, as most attempts of the first students do. One
number of it is the reader's: a total, or the plan where there is one. What follows it is written
consistently, so that there is one error and no other.

Source: arXiv:2606.08432, sections 3, 4 and 6.4.
"""

import functools
import threading
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from cachetools import LRUCache, cached
from jaxtyping import Int
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.decoder import Decoder
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..attempts import N_PROBLEMS, Attempt, attempt, marks_of
from ..config import setting_config
from ..divergences import DIVERGENCES, WHOLE
from ..rollout import response_logits, sample_rollouts
from ..signals import Stale
from ..sums import (
    Problem,
    SumsConfig,
    advance,
    parse_trace,
    prompts,
    refine_prompts,
    start,
)
from ..teacher import ExactTeacher, TeacherConfig, stacked
from ..trained import named_teacher, shipped

LEAST_MASS = 0.02  # of the teacher on a target, for a student to be taught it
TEACHERS = ("follows", "exact", "learned")


@dataclass(frozen=True, kw_only=True)
class TrajectoryParams(Settings):
    """One attempt, what is written into it, and how it is charged.

    Teachers: "follows" is the program that writes its steps in the student's order; "exact" the
    program with an order of its own, as in the training runs; "learned" the trained network.
    """

    setting: str = "small"
    teacher: str = "follows"
    repair: float = 0.3  # λ of the program
    problem: int = 0
    step: int = 2  # where the reader writes, from 1; 0 is the plan, in the task that has one
    written: int = 3  # what stands there, modulo the numbers that may
    divergence: str = "forward_kl"  # a name in divergences.WHOLE
    context: str = "refine"  # what the teacher sees on y_r: refine, or x
    beta: float = 0.5
    cap: float = 0.1
    top_k: int = 4
    seed: int = 0  # of the student

    def __post_init__(self) -> None:
        sums = setting_config(self.setting).sums
        if self.teacher not in TEACHERS:
            raise ValueError(f"teacher={self.teacher!r} must be one of {', '.join(TEACHERS)}.")
        if self.divergence not in WHOLE:
            raise ValueError(f"divergence={self.divergence!r} must be one of {', '.join(WHOLE)}.")
        if self.context not in ("refine", "x"):
            raise ValueError(f"context={self.context!r} must be 'refine' or 'x'.")
        if not 0 <= self.repair <= 1:
            raise ValueError(f"repair={self.repair} must lie in [0, 1]: it is a probability.")
        whole_fields(self, problem=0, step=0, written=0, top_k=1, seed=0)
        if self.problem >= N_PROBLEMS:
            raise ValueError(
                f"problem={self.problem} must be below {N_PROBLEMS}: so many are kept."
            )
        object.__setattr__(self, "step", min(max(self.step, 1 - sums.plan), sums.n_digits))
        object.__setattr__(self, "written", self.written % self.n_numbers)

    @property
    def n_numbers(self) -> int:
        """How many numbers may stand at the step."""
        sums = setting_config(self.setting).sums
        return sums.modulus if self.step else sums.n_plans


@dataclass(frozen=True, kw_only=True)
class Split:
    """A next-token distribution in three parts, and one token of the rest."""

    wait: float  # mass on WAIT
    expected: float  # on the token that carries on from what is written
    rest: float
    drawn: float  # on the token that stands in the text


@dataclass(frozen=True, kw_only=True)
class Path:
    """One trajectory as teacher and student see it, token by token."""

    name: str  # "y_o", "y_r" or "y_t"
    tokens: tuple[str, ...]
    marks: tuple[str, ...]  # per token: of what became of y_o (`attempts.marks_of`)
    expected: tuple[str, ...]  # what carries on from the tokens before it; empty for y_t
    teacher: tuple[Split, ...]  # empty for y_t
    student: tuple[Split, ...]
    terms: tuple[tuple[float, float, float], ...]  # forward KL's, by the parts of a Split
    nats: tuple[float, ...]  # the divergence; empty for y_t
    nll: tuple[float, ...]  # of the student
    mean_nll: float
    first_error: int | None
    answer: int | None  # as written
    correct: bool

    @property
    def wait_mass(self) -> tuple[float, ...]:
        """The teacher's, at every token."""
        return tuple(split.wait for split in self.teacher)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One pair that a repair needs: after this context, this token."""

    context: tuple[str, ...]  # the repair written so far, after the prefix y_o[:t]
    target: str
    opd_context: tuple[str, ...]  # what OPD puts there instead
    opd_target: str  # the teacher's likeliest move there; "" where the attempt has ended
    shared: bool  # OPD supplies it: the contexts are one, and the teacher there offers the target
    onset_mass: float  # of the teacher in OPD's context
    boundary: bool  # OPD's context stands at a step boundary, where WAIT may be said


@dataclass(frozen=True, kw_only=True)
class TrajectoryResult:
    """An attempt, its rewrite, the teacher's own solution, and the ladder."""

    params: TrajectoryParams
    digits: tuple[int, ...]
    order: tuple[int, ...]  # in which the attempt visits them
    target: int  # the right answer
    right: int  # number that should stand where the reader writes
    y_o: Path
    y_r: Path
    y_t: Path
    onset_at: int | None  # first boundary of y_o where the error can be seen; None without one
    ladder: tuple[Rung, ...]  # empty without an error
    n_right_supplied: int  # leading pairs of y_r that y_o supplies too, by context and target


def run(
    params: TrajectoryParams, *, stale: Stale = never, progress: Progress = silent
) -> TrajectoryResult:
    """What teacher and student say along an attempt and its rewrite, and what that costs.

    The rewrite y_r and the teacher's own solution y_T are its likeliest, token by token.

    Raises:
        ValueError: a divergence's setting out of range, or no student of this seed.
        FileNotFoundError: the setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    check(stale)
    seen = _seen(
        params.setting, params.teacher, params.repair, params.problem, params.step, params.written,
        params.seed,
    )  # fmt: skip
    check(stale)
    charge = DIVERGENCES[params.divergence]
    paths = {"y_t": seen.paths["y_t", "x"]}
    for name, context in (("y_o", "x"), ("y_r", params.context)):
        teacher, student = seen.teacher_logits[name, context], seen.student_logits[name]
        with torch.no_grad():
            nats = charge(teacher, student, params)
        paths[name] = replace(seen.paths[name, context], nats=tuple(nats.tolist()))
    return TrajectoryResult(
        params=params,
        digits=seen.problem.digits,
        order=seen.order,
        target=seen.problem.answer,
        right=seen.right,
        onset_at=seen.onset_at,
        ladder=seen.ladder,
        n_right_supplied=seen.n_right_supplied,
        **paths,
    )


# ------------------------------------------------------------------------------- what is said


@dataclass(frozen=True, eq=False)
class _Seen:
    """All of `run` that no divergence changes."""

    problem: Problem
    order: tuple[int, ...]
    right: int
    paths: dict[tuple[str, str], Path]  # by path and the teacher's context, without `nats`
    student_logits: dict[str, Tensor]  # [n, v] along each path
    teacher_logits: dict[tuple[str, str], Tensor]  # [n, v] by path and context
    onset_at: int | None
    ladder: tuple[Rung, ...]
    n_right_supplied: int


@cached(cache=LRUCache(64), lock=threading.Lock())
def _seen(
    setting: str,
    teacher: str,
    repair: int | float,
    problem: int,
    step: int,
    written: int,
    seed: int,
) -> _Seen:
    with torch.inference_mode(False), torch.no_grad():  # kept for callers of any mode
        return _look(setting, teacher, repair, attempt(setting, problem, step, written), seed)


@cached(cache=LRUCache(8), lock=threading.Lock())
def first_student(setting: str, seed: int) -> Decoder:
    """The trained first student of a seed.

    Raises:
        ValueError: no student of this seed.
        FileNotFoundError: the setting's weights are not there.
    """
    students = shipped(setting).students
    if seed >= students.n_models:
        raise ValueError(
            f"seed={seed} must lie in [0, {students.n_models}): so many first students were "
            "trained."
        )
    with torch.inference_mode(False):
        return students.copies([seed]).decoder()


def _look(setting: str, teacher_name: str, repair: int | float, given: Attempt, seed: int) -> _Seen:
    sums, digits = setting_config(setting).sums, given.digits
    said = _program_says(setting, repair, given)
    y_r, y_t = said.y_r, said.y_t
    if teacher_name == "learned":
        y_r, y_t = _learned_texts(setting, given)
        said = _program_says(setting, repair, given, y_r=y_r)
    rows = {name: _trim(sums, row) for name, row in
            {"y_o": given.y_o[0], "y_r": y_r, "y_t": y_t}.items()}  # fmt: skip
    student = _student_logits(sums, first_student(setting, seed), digits, rows)
    if teacher_name == "learned":
        teacher = _learned_logits(setting, given, rows)
    else:
        start = "order" if teacher_name == "follows" else "x"
        teacher = {
            ("y_o", "x"): said.logits["y_o", start],
            ("y_r", "x"): said.logits["y_r", start],
            ("y_r", "refine"): said.logits["y_r", "refine"],
        }
    teacher = {key: logits[: len(rows[key[0]])] for key, logits in teacher.items()}
    paths = {("y_t", "x"): _path("y_t", rows["y_t"], student["y_t"], given)}
    for name in ("y_o", "y_r"):
        plain = _path(name, rows[name], student[name], given)
        for at, context in (key for key in teacher if key[0] == name):
            expected = said.expected[name][: len(rows[name])]
            paths[at, context] = _told(
                plain, sums, rows[name], student[name], teacher[at, context], expected
            )
    onset_at, ladder = None, ()
    first_error = paths["y_o", "x"].first_error
    if first_error is not None:
        off = int(sums.plan)
        onset_at = off + 2 * sums.n_digits if first_error < off else first_error + 1
        ladder = _ladder(sums, rows["y_o"], given.repaired[0], onset_at, teacher["y_o", "x"])
    return _Seen(
        problem=given.problem,
        order=given.order,
        right=given.right,
        paths=paths,
        student_logits=student,
        teacher_logits=teacher,
        onset_at=onset_at,
        ladder=ladder,
        n_right_supplied=_n_supplied(rows["y_r"], rows["y_o"], teacher["y_o", "x"]),
    )


@functools.cache
def _names(sums: SumsConfig) -> tuple[str, ...]:
    return tuple(map(sums.name, range(sums.vocab_size)))


def _named(sums: SumsConfig, tokens: list[int]) -> tuple[str, ...]:
    names = _names(sums)
    return tuple(names[token] for token in tokens)


def _trim(sums: SumsConfig, tokens: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
    return tokens[: int((tokens != sums.pad).sum())]


def _student_logits(
    sums: SumsConfig, student: Decoder, digits: Tensor, rows: dict[str, Tensor]
) -> dict[str, Tensor]:
    longest = max(map(len, rows.values()))
    padded = [F.pad(row, (0, longest - len(row)), value=sums.pad) for row in rows.values()]
    given = prompts(sums, digits.expand(len(rows), -1))
    found = response_logits(student, given, torch.stack(padded))
    return {name: found[i, : len(row)] for i, (name, row) in enumerate(rows.items())}


@dataclass(frozen=True, eq=False)
class _Program:
    """What a program writes and says, and what would carry on from every prefix."""

    y_r: Int[Tensor, " n_r"]
    y_t: Int[Tensor, " n_t"]
    logits: dict[tuple[str, str], Tensor]  # [n, v] by path and what it knows: x, order, refine
    expected: dict[str, Tensor]  # tokens [n] that carry on in the student's order


def _program_says(
    setting: str, repair: int | float, given: Attempt, *, y_r: Tensor | None = None
) -> _Program:
    """Everything of a program in one pass. Its likeliest rewrite is the attempt without its error.

    It knows nothing (x), the student's order alone (order), or the whole attempt, and so the plan
    as well (refine): each is where `ExactTeacher.context` would stand.
    """
    program = named_teacher("exact", setting, repair)
    sums = program.sums
    y_r = given.faultless[0] if y_r is None else y_r
    asked = {
        ("y_o", "order"): given.y_o[0], ("y_r", "order"): y_r, ("y_r", "refine"): y_r,
        ("y_o", "x"): given.y_o[0], ("y_r", "x"): y_r,
    }  # fmt: skip
    texts = [_trim(sums, text) for text in asked.values()]
    longest = max(map(len, texts))
    rows = [F.pad(text, (0, longest - len(text)), value=sums.pad) for text in texts]
    state = start(sums, given.digits.expand(len(asked), -1))
    knows = [what for _, what in asked]
    in_order = torch.tensor(given.order).argsort()  # the step of each digit
    rank = torch.stack([state.rank[0] if what == "x" else in_order for what in knows])
    state = replace(state, rank=rank, plan_known=torch.tensor([what == "refine" for what in knows]))
    states = []
    for column in torch.stack(rows).unbind(1):
        states.append(state)
        state = advance(sums, state, column)
    seen = stacked(states)
    logits = program.distribution(seen).log()
    carry_on = TeacherConfig(repair=0.0, plan_skill=1.0, smoothing=0.0)
    consistent = ExactTeacher(sums=sums, config=carry_on).distribution(seen).argmax(-1)
    return _Program(
        y_r=y_r,
        y_t=_own_solution(setting, given.problem.digits),
        logits=dict(zip(asked, logits, strict=True)),
        expected={"y_o": consistent[0], "y_r": consistent[1]},
    )


@cached(cache=LRUCache(64), lock=threading.Lock())
def _own_solution(setting: str, digits: tuple[int, ...]) -> Int[Tensor, " n"]:
    """A program's likeliest solution, token by token; λ plays no part where nothing is wrong."""
    program = named_teacher("exact", setting, 0.0)
    begin = program.context(torch.tensor([digits]))
    return program.write(begin, program.sums.trace_length, lambda p: p.argmax(-1))[0][0]


def _learned_texts(setting: str, given: Attempt) -> tuple[Tensor, Tensor]:
    """The network's likeliest rewrite and solution, token by token."""
    learned = named_teacher("learned", setting, 0.0)
    sums, digits = learned.sums, given.digits
    both = (refine_prompts(sums, digits, given.y_o), prompts(sums, digits))
    y_r, y_t = (sample_rollouts(learned.decoder, sums, p, temperature=0)[0] for p in both)
    return y_r, y_t


def _learned_logits(
    setting: str, given: Attempt, rows: dict[str, Tensor]
) -> dict[tuple[str, str], Tensor]:
    learned = named_teacher("learned", setting, 0.0)
    return {
        ("y_o", "x"): learned.logits(given.digits, rows["y_o"][None])[0],
        ("y_r", "x"): learned.logits(given.digits, rows["y_r"][None])[0],
        ("y_r", "refine"): learned.logits(given.digits, rows["y_r"][None], drafts=given.y_o)[0],
    }


def _path(name: str, tokens: Tensor, student: Tensor, given: Attempt) -> Path:
    """A path [n] by the student's logits [n, v], without what the teacher says."""
    sums, ids = given.problem.config, tokens.tolist()
    nll = F.cross_entropy(student, tokens, reduction="none")
    trace = parse_trace(tokens, given.problem)
    return Path(
        name=name,
        tokens=_named(sums, ids),
        marks=marks_of(ids, given.y_o[0].tolist(), given.problem),
        expected=(),
        teacher=(),
        student=(),
        terms=(),
        nats=(),
        nll=tuple(nll.tolist()),
        mean_nll=float(nll.mean()),
        first_error=trace.first_error,
        answer=trace.answer,
        correct=trace.correct,
    )


def _told(
    path: Path,
    sums: SumsConfig,
    tokens: Tensor,
    student: Tensor,
    teacher: Tensor,
    expected: Tensor,
) -> Path:
    """A path with both distributions, from logits [n, v] and the tokens [n] that carry on."""
    p, q = teacher.softmax(-1), student.softmax(-1)
    per_token = p * (teacher.log_softmax(-1) - student.log_softmax(-1))
    return replace(
        path,
        expected=_named(sums, expected.tolist()),
        teacher=_splits(sums, p, expected, tokens),
        student=_splits(sums, q, expected, tokens),
        terms=tuple(
            (split.wait, split.expected, split.rest)
            for split in _splits(sums, per_token, expected, tokens)
        ),
    )


def _splits(sums: SumsConfig, p: Tensor, expected: Tensor, drawn: Tensor) -> tuple[Split, ...]:
    """The parts of every row [n, v]; `expected` and `drawn` [n] are tokens."""
    wait = p[:, sums.wait]
    best, there = (p.gather(1, tokens[:, None])[:, 0] for tokens in (expected, drawn))
    rest = p.sum(-1) - wait - best
    columns = zip(wait.tolist(), best.tolist(), rest.tolist(), there.tolist(), strict=True)
    return tuple(Split(wait=w, expected=e, rest=r, drawn=d) for w, e, r, d in columns)


def _n_supplied(y_r: Tensor, y_o: Tensor, teacher_logits: Tensor) -> int:
    """Leading pairs of y_r [n] that y_o [m] supplies: same context, and the teacher's target."""
    p = teacher_logits.softmax(-1)
    for place, target in enumerate(y_r.tolist()):
        there = place < len(y_o) and torch.equal(y_r[:place], y_o[:place])
        if not there or p[place, target] < LEAST_MASS:
            return place
    return len(y_r)


def _ladder(
    sums: SumsConfig, y_o: Tensor, repaired: Tensor, onset_at: int, teacher_logits: Tensor
) -> tuple[Rung, ...]:
    """The way back after WAIT, beside what the frozen attempt [n] has there."""
    written, repair = y_o.tolist(), _trim(sums, repaired).tolist()
    p = teacher_logits.softmax(-1)
    rungs = []
    for place in range(onset_at, len(repair)):
        needed, given, target = repair[onset_at:place], written[onset_at:place], repair[place]
        there = place < len(written)  # the frozen rollout may have ended
        rungs.append(
            Rung(
                context=_named(sums, needed),
                target=_names(sums)[target],
                opd_context=_named(sums, given),
                opd_target=_names(sums)[int(p[place].argmax())] if there else "",
                shared=there and needed == given and float(p[place, target]) >= LEAST_MASS,
                onset_mass=float(p[place, sums.wait]) if there else 0.0,
                boundary=there and _at_boundary(sums, written[:place]),
            )
        )
    return tuple(rungs)


def _at_boundary(sums: SumsConfig, written: list[int]) -> bool:
    """Whether a well-formed trace stands where a step may begin, or ANS: there WAIT may be said."""
    steps = len(written) - int(sums.plan)
    return 0 <= steps <= 2 * sums.n_digits and steps % 2 == 0
