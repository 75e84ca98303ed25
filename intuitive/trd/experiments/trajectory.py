"""One failed rollout and what the teacher makes of it, token by token.

    run      charges along the rollout y_o and its rewrite y_r, with the teacher's own solution y_T
    ladder   the pairs that a repair needs, beside those that the frozen rollout supplies
    marks    which of y_o's steps a rewrite kept, fixed or moved

Source: arXiv:2606.08432, sections 3, 4 and 6.4.
"""

import threading
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from cachetools import LRUCache, cached
from jaxtyping import Int
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.decoder import Decoder
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..config import setting_config
from ..distillation import roll
from ..divergences import DIVERGENCES, WHOLE
from ..rollout import response_logits
from ..signals import Stale
from ..sums import (
    Problem,
    SumsConfig,
    fit_drafts,
    parse_trace,
    prompts,
    read,
    sample_digits,
    verify,
)
from ..teacher import ExactTeacher, TeacherConfig
from ..trained import check_teacher, named_teacher, shipped

N_PROBLEMS = 256  # that a student tries, to find failures
LAST = 40  # rollouts that one may look at with an error in one place
LEAST_MASS = 0.02  # of the teacher on a target, for a student to be taught it


@dataclass(frozen=True, kw_only=True)
class TrajectoryParams(Settings):
    """One failed rollout of the first student, and what it is charged for."""

    setting: str = "small"
    teacher: str = "exact"
    repair: float = 0.3  # λ of the exact teacher
    item: int = 0  # which of the failed rollouts
    divergence: str = "forward_kl"  # a name in divergences.WHOLE
    context: str = "refine"  # what the teacher sees on y_r: refine, or x
    beta: float = 0.5
    cap: float = 0.1
    top_k: int = 4
    seed: int = 0  # of the student and of the problems

    def __post_init__(self) -> None:
        setting_config(self.setting)
        check_teacher(self.teacher)
        if self.divergence not in WHOLE:
            raise ValueError(f"divergence={self.divergence!r} must be one of {', '.join(WHOLE)}.")
        if self.context not in ("refine", "x"):
            raise ValueError(f"context={self.context!r} must be 'refine' or 'x'.")
        whole_fields(self, item=0, top_k=1, seed=0)


@dataclass(frozen=True, kw_only=True)
class Path:
    """One trajectory as teacher and student see it, token by token."""

    name: str  # "y_o", "y_r" or "y_t"
    tokens: tuple[str, ...]
    marks: tuple[str, ...]  # per token: "kept", "fixed", "moved", "wrong", "follows", "" (`run`)
    nats: tuple[float, ...]  # the divergence; empty for y_t
    wait_mass: tuple[float, ...]  # of the teacher; empty for y_t
    nll: tuple[float, ...]  # of the student
    mean_nll: float
    first_error: int | None
    correct: bool


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One pair that a repair needs: after this context, this token."""

    context: tuple[str, ...]  # the repair written so far, after the prefix y_o[:t]
    target: str
    opd_context: tuple[str, ...]  # what OPD puts there instead
    opd_target: str  # the teacher's likeliest move there; "" where the rollout has ended
    shared: bool  # OPD supplies it: the contexts are one, and the teacher there offers the target
    onset_mass: float  # of the teacher in OPD's context
    boundary: bool  # OPD's context stands at a step boundary, where WAIT may be said


@dataclass(frozen=True, kw_only=True)
class TrajectoryResult:
    """A failed rollout, its rewrite, the teacher's own solution, and the ladder."""

    params: TrajectoryParams
    digits: tuple[int, ...]
    y_o: Path
    y_r: Path
    y_t: Path
    onset_at: int  # position in y_o of the first boundary where the error can be seen
    ladder: tuple[Rung, ...]


def run(
    params: TrajectoryParams, *, stale: Stale = never, progress: Progress = silent
) -> TrajectoryResult:
    """Follow one failed rollout and what the teacher makes of it.

    Marks say of every number whether it is right. "wrong": it does not follow from what stands
    before it. "follows": it does, but from an error, and so it is not what it should be. Of the
    right ones, compared with y_o by digit: "kept" (same place, same number), "fixed" (same place,
    another number), "moved" (another place).

    Raises:
        ValueError: fewer failed rollouts than `item`, or a divergence's setting out of range.
        FileNotFoundError: the setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    check(stale)
    seen = _seen(params.setting, params.teacher, params.repair, params.item, params.seed)
    check(stale)
    charge = DIVERGENCES[params.divergence]
    wait = setting_config(params.setting).sums.wait
    paths = {"y_t": seen.paths["y_t"]}
    for name, context in (("y_o", "x"), ("y_r", params.context)):
        teacher, student = seen.teacher_logits[name, context], seen.student_logits[name]
        with torch.no_grad():
            nats = charge(teacher, student, params)
        waits = teacher.softmax(-1)[:, wait]
        paths[name] = replace(
            seen.paths[name], nats=tuple(nats.tolist()), wait_mass=tuple(waits.tolist())
        )
    return TrajectoryResult(
        params=params, digits=seen.digits, **paths, onset_at=seen.onset_at, ladder=seen.ladder
    )


@dataclass(frozen=True, eq=False)
class FailedRollouts:
    """A first student and those of its rollouts that `run` can follow."""

    student: Decoder
    digits: Int[Tensor, "b n_digits"]
    y_o: Int[Tensor, "b n"]  # filled up with PAD
    first_error: Int[Tensor, " b"]  # its position in y_o


@cached(cache=LRUCache(8), lock=threading.Lock())
def failed_rollouts(setting: str, seed: int) -> FailedRollouts:
    """The failures of one first student among N_PROBLEMS problems, which `item` counts.

    They are well formed, without WAIT, and not wrong in the answer alone. Kept for the next call.

    Args:
        setting: a name in `config.SETTINGS`.
        seed: of the student, of the problems and of its rollouts.

    Raises:
        ValueError: no such setting, or no student of this seed.
        FileNotFoundError: the setting's weights are not there.
    """
    with torch.inference_mode(False), torch.no_grad():  # kept for callers of any mode
        return _failed_rollouts(setting, seed)


def _failed_rollouts(setting: str, seed: int) -> FailedRollouts:
    models = shipped(setting)
    sums, n_students = models.config.sums, models.students.n_models
    if not 0 <= seed < n_students:
        raise ValueError(
            f"seed={seed} must lie in [0, {n_students}): so many first students were trained."
        )
    student = models.students.copies([seed])
    digits = sample_digits(sums, N_PROBLEMS, generator=seeded(seed))
    y_o = roll(sums, student, digits, seeds=[seed])[0]
    found = verify(sums, digits, y_o)
    in_step = (found.first_error >= 0) & (found.first_error < sums.clean_length - 2)
    rows = found.well_formed & ~found.correct & (found.n_waits == 0) & in_step
    return FailedRollouts(student.decoder(), digits[rows], y_o[rows], found.first_error[rows])


@dataclass(frozen=True, eq=False)
class _Seen:
    """All of `run` that no divergence changes."""

    digits: tuple[int, ...]
    paths: dict[str, Path]  # without `nats` and `wait_mass`
    student_logits: dict[str, Tensor]  # [n, v] along each path
    teacher_logits: dict[tuple[str, str], Tensor]  # [n, v] by path and context
    onset_at: int
    ladder: tuple[Rung, ...]


@cached(cache=LRUCache(64), lock=threading.Lock())
def _seen(setting: str, teacher_name: str, repair: int | float, item: int, seed: int) -> _Seen:
    with torch.inference_mode(False), torch.no_grad():  # kept for callers of any mode
        return _look(setting, teacher_name, repair, item, seed)


def _look(setting: str, teacher_name: str, repair: int | float, item: int, seed: int) -> _Seen:
    sums, failed = setting_config(setting).sums, failed_rollouts(setting, seed)
    n_failed = len(failed.digits)
    if item >= n_failed:
        raise ValueError(
            f"item={item} must be below {n_failed}, the failed rollouts among {N_PROBLEMS}: take "
            "a smaller one, or another seed."
        )
    digits = failed.digits[item][None]
    y_o = fit_drafts(sums, digits, failed.y_o[item][None])
    teacher = named_teacher(teacher_name, setting, repair)
    refined = teacher.refine(digits, y_o, generator=seeded(seed + 1))
    traces = {"y_o": y_o, "y_r": refined.y_r, "y_t": refined.y_t}
    lengths = {name: int((tokens != sums.pad).sum()) for name, tokens in traces.items()}
    tokens = torch.cat([fit_drafts(sums, digits, trace) for trace in traces.values()])
    tokens = tokens[:, : max(lengths.values())]
    found = response_logits(failed.student, prompts(sums, digits.expand(3, -1)), tokens)
    student = {name: logits[:n] for (name, n), logits in zip(lengths.items(), found, strict=True)}
    from_x = teacher.logits(digits.expand(2, -1), tokens[:2])
    asked = {("y_o", "x"): from_x[0], ("y_r", "x"): from_x[1], ("y_r", "refine"): refined.logits[0]}
    problem = Problem(digits=tuple(digits[0].tolist()), config=sums)
    paths = {
        name: _path(name, row[: lengths[name]], student[name], problem, y_o[0])
        for name, row in zip(traces, tokens, strict=True)
    }
    onset_at = _onset_at(sums, paths["y_o"].first_error)
    return _Seen(
        digits=problem.digits,
        paths=paths,
        student_logits=student,
        teacher_logits={key: logits[: lengths[key[0]]] for key, logits in asked.items()},
        onset_at=onset_at,
        ladder=_ladder(sums, digits, y_o[0, : lengths["y_o"]], onset_at, asked["y_o", "x"]),
    )


def _path(name: str, tokens: Tensor, logits: Tensor, problem: Problem, y_o: Tensor) -> Path:
    """A path [n] by the student's logits [n, v], without what the teacher says."""
    nll = F.cross_entropy(logits, tokens, reduction="none")
    trace, ids = parse_trace(tokens, problem), tokens.tolist()
    return Path(
        name=name,
        tokens=tuple(map(problem.config.name, ids)),
        marks=_marks(ids, y_o.tolist(), problem),
        nats=(),
        wait_mass=(),
        nll=tuple(nll.tolist()),
        mean_nll=float(nll.mean()),
        first_error=trace.first_error,
        correct=trace.correct,
    )


def _marks(tokens: list[int], y_o: list[int], problem: Problem) -> tuple[str, ...]:
    """One mark per token; `run` says what they mean."""
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


def _onset_at(sums: SumsConfig, first_error: int | None) -> int:
    """Position of the boundary where an error can first be answered by WAIT."""
    assert first_error is not None  # `failed_rollouts` picks rollouts with an error
    off = int(sums.plan)
    return off + 2 * sums.n_digits if first_error < off else first_error + 1


def _ladder(
    sums: SumsConfig, digits: Tensor, y_o: Tensor, onset_at: int, teacher_logits: Tensor
) -> tuple[Rung, ...]:
    """The exact teacher's repair after WAIT, beside what the frozen rollout [n] has there."""
    ideal = ExactTeacher(sums=sums, config=TeacherConfig(repair=1.0, smoothing=0.0))
    written = y_o.tolist()
    repair = [*written[:onset_at], sums.wait]
    state = read(sums, ideal.context(digits), torch.tensor([repair]))
    rest, _ = ideal.write(state, sums.trace_length - len(repair), lambda p: p.argmax(-1))
    repair += rest[0].tolist()
    p = teacher_logits.softmax(-1)
    rungs = []
    for place in range(onset_at, len(repair)):
        needed, given, target = repair[onset_at:place], written[onset_at:place], repair[place]
        there = place < len(written)  # the frozen rollout may have ended
        rungs.append(
            Rung(
                context=tuple(map(sums.name, needed)),
                target=sums.name(target),
                opd_context=tuple(map(sums.name, given)),
                opd_target=sums.name(int(p[place].argmax())) if there else "",
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


# ------------------------------------------------------------------- by the place of the error


@dataclass(frozen=True, kw_only=True)
class RolloutSetting:
    """Which failed rollout, by the place of its error, and how far after it one looks."""

    params: TrajectoryParams  # its item is left to `follow`
    error: int  # step of the first error, from 1; 0 is the plan
    which: int  # of the rollouts with that error
    delay: int  # steps

    @classmethod
    def of(cls, *, error: int, which: int, delay: int, **settings: object) -> "RolloutSetting":
        return cls(params=TrajectoryParams(**settings), error=error, which=which, delay=delay)


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A rollout, and the setting that led to it."""

    setting: RolloutSetting  # as it came out: with an error, a rollout and a delay that there are
    errors: tuple[int, ...]  # places of errors to choose from
    n_alike: int  # rollouts with the error there
    n_delays: int
    place: int  # token looked at
    result: TrajectoryResult


def error_steps(sums: SumsConfig, first_errors: list[int]) -> list[int]:
    """The step of each first error, from 1; 0 is the plan."""
    off = int(sums.plan)
    return [0 if at < off else (at - off) // 2 + 1 for at in first_errors]


def follow(
    setting: RolloutSetting, *, stale: Stale = never, progress: Progress = silent
) -> Followed:
    """`run` along the chosen rollout; without an error at the wanted step, the nearest."""
    check(stale)
    params, sums = setting.params, setting_config(setting.params.setting).sums
    failed = failed_rollouts(params.setting, params.seed)
    steps = error_steps(sums, failed.first_error.tolist())
    if not steps:
        raise ValueError(f"seed={params.seed}: this student has no failed rollout here.")
    error = min(set(steps), key=lambda step: (abs(step - setting.error), step))
    alike = [item for item, step in enumerate(steps) if step == error][:LAST]
    which = min(setting.which, len(alike))
    chosen = replace(params, item=alike[which - 1])
    result = run(chosen, stale=stale)
    n_tokens = len(result.y_o.tokens)
    n_delays = len(range(result.onset_at, n_tokens - 2, 2))  # boundaries up to the answer
    delay = min(setting.delay, n_delays - 1)
    return Followed(
        setting=RolloutSetting(params=chosen, error=error, which=which, delay=delay),
        errors=tuple(sorted(set(steps))),
        n_alike=len(alike),
        n_delays=n_delays,
        place=result.onset_at + 2 * delay,
        result=result,
    )
