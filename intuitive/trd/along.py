"""One failed rollout and what the teacher makes of it, token by token.

    along    charges along the rollout y_o and its rewrite y_r, with the teacher's own solution y_T
    ladder   the pairs that a repair needs, beside those that the frozen rollout supplies
    marks    which of y_o's steps a rewrite kept, fixed or moved

Source: arXiv:2606.08432, sections 3, 4 and 6.4.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from intuitive.common.decoder import Decoder
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings

from .committed import setting_config, shipped
from .methods import Teacher, roll
from .rollout import response_logits
from .signals import Stale, check_teacher, named_teacher
from .sums import (
    Problem,
    SumsConfig,
    TraceState,
    advance,
    fit_drafts,
    parse_trace,
    prompts,
    read,
    sample_digits,
    verify,
)
from .teacher import ExactTeacher, TeacherConfig
from .two_modes import DIVERGENCES, TwoModesParams

N_PROBLEMS = 256  # that a student tries, to find failures


@dataclass(frozen=True, kw_only=True)
class AlongParams(Settings):
    """One failed rollout of the first student, and what it is charged for."""

    setting: str = "small"
    teacher: str = "exact"
    repair: float = 0.3  # λ of the exact teacher
    item: int = 0  # which of the failed rollouts
    divergence: str = "forward_kl"  # a name in DIVERGENCES
    context: str = "refine"  # what the teacher sees on y_r: refine, or x
    beta: float = 0.5
    cap: float = 0.1
    top_k: int = 4
    seed: int = 0  # of the student and of the problems

    def __post_init__(self) -> None:
        setting_config(self.setting)
        check_teacher(self.teacher)
        if self.divergence not in DIVERGENCES:
            raise ValueError(
                f"divergence={self.divergence!r} must be one of {', '.join(DIVERGENCES)}."
            )
        if self.context not in ("refine", "x"):
            raise ValueError(f"context={self.context!r} must be 'refine' or 'x'.")
        if self.item < 0:
            raise ValueError(f"item={self.item} must be at least 0.")


@dataclass(frozen=True, kw_only=True)
class Path:
    """One trajectory as teacher and student see it, token by token."""

    name: str  # "y_o", "y_r" or "y_t"
    tokens: tuple[str, ...]
    marks: tuple[str, ...]  # per token: "kept", "fixed", "moved", "wrong" or "" (see `along`)
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
    opd_target: str  # the teacher's likeliest move there
    shared: bool  # the two contexts are one
    onset_mass: float  # of the teacher in OPD's context


@dataclass(frozen=True, kw_only=True)
class AlongResult:
    """A failed rollout, its rewrite, the teacher's own solution, and the ladder."""

    params: AlongParams
    digits: tuple[int, ...]
    y_o: Path
    y_r: Path
    y_t: Path
    onset_at: int  # position in y_o of the first boundary where the error can be seen
    ladder: tuple[Rung, ...]


def along(params: AlongParams, *, stale: Stale = never) -> AlongResult:
    """Follow one failed rollout and what the teacher makes of it.

    Marks compare steps with those of y_o by digit: "kept" (same place, same total), "fixed" (same
    place, other total), "moved" (another place); in y_o itself a wrong number is "wrong".

    Raises:
        ValueError: fewer failed rollouts than `item`, or a divergence's setting out of range.
        FileNotFoundError: the setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    check(stale)
    seen = _seen(params.setting, params.teacher, params.repair, params.item, params.seed)
    check(stale)
    settings = TwoModesParams(beta=params.beta, cap=params.cap, top_k=params.top_k)
    wait = setting_config(params.setting).sums.wait
    paths = {"y_t": seen.paths["y_t"]}
    for name, context in (("y_o", "x"), ("y_r", params.context)):
        teacher, student = seen.teacher_logits[name, context], seen.student_logits[name]
        nats = DIVERGENCES[params.divergence](teacher, student, settings)
        waits = teacher.softmax(-1)[:, wait]
        paths[name] = replace(
            seen.paths[name], nats=tuple(nats.tolist()), wait_mass=tuple(waits.tolist())
        )
    return AlongResult(
        params=params, digits=seen.digits, **paths, onset_at=seen.onset_at, ladder=seen.ladder
    )


@dataclass(frozen=True, eq=False)
class FailedRollouts:
    """A first student and those of its rollouts that `along` can follow."""

    student: Decoder
    digits: Int[Tensor, "b n_digits"]
    y_o: Int[Tensor, "b n"]  # filled up with PAD
    first_error: Int[Tensor, " b"]  # its position in y_o


@functools.lru_cache(maxsize=8)
@torch.no_grad()
def failed_rollouts(setting: str, seed: int) -> FailedRollouts:
    """The failures of one first student among N_PROBLEMS problems; `AlongParams.item` counts them.

    They are well formed, without WAIT, and not wrong in the answer alone. Kept for the next call.

    Args:
        setting: a name in `committed.SETTINGS`.
        seed: of the student, of the problems and of its rollouts.

    Raises:
        ValueError: no such setting, or no student of this seed.
        FileNotFoundError: the setting's weights are not there.
    """
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
    """All of `along` that no divergence changes."""

    digits: tuple[int, ...]
    paths: dict[str, Path]  # without `nats` and `wait_mass`
    student_logits: dict[str, Tensor]  # [n, v] along each path
    teacher_logits: dict[tuple[str, str], Tensor]  # [n, v] by path and context
    onset_at: int
    ladder: tuple[Rung, ...]


@functools.lru_cache(maxsize=64)
@torch.no_grad()
def _seen(setting: str, teacher_name: str, repair: int | float, item: int, seed: int) -> _Seen:
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
    y_r, refined, y_t = _refine(teacher, digits, y_o, seeded(seed + 1))
    traces = {"y_o": y_o, "y_r": y_r, "y_t": y_t}
    lengths = {name: int((tokens != sums.pad).sum()) for name, tokens in traces.items()}
    tokens = torch.cat([fit_drafts(sums, digits, trace) for trace in traces.values()])
    tokens = tokens[:, : max(lengths.values())]
    found = response_logits(failed.student, prompts(sums, digits.expand(3, -1)), tokens)
    student = {name: logits[:n] for (name, n), logits in zip(lengths.items(), found, strict=True)}
    from_x = teacher.logits(digits.expand(2, -1), tokens[:2])
    asked = {("y_o", "x"): from_x[0], ("y_r", "x"): from_x[1], ("y_r", "refine"): refined[0]}
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


def _refine(
    teacher: Teacher, digits: Tensor, y_o: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The rewrite y_r [1, n], its logits [1, n, v] in the refine context, the own solution y_T."""
    if isinstance(teacher, ExactTeacher):  # one batch for both: a draft of PAD tells it nothing
        drafts = torch.cat([y_o, torch.full_like(y_o, teacher.sums.pad)])
        state = teacher.context(digits.expand(2, -1), drafts=drafts)
        tokens, p = _write(
            teacher, state, y_o.shape[1], lambda p: p.multinomial(1, generator=generator)[:, 0]
        )
        return tokens[:1], p[:1].log(), tokens[1:]
    y_r = teacher.sample(digits, generator=generator, drafts=y_o)
    y_t = teacher.sample(digits, generator=generator)
    return y_r, teacher.logits(digits, y_r, drafts=y_o), y_t


def _write(
    teacher: ExactTeacher, state: TraceState, n: int, pick: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Up to n tokens from `state` on, [b, n], and the probabilities [b, n, v] picked from.

    It ends where every row has; `ExactTeacher.sample` goes on to `trace_length`.
    """
    sums, tokens, seen = teacher.sums, [], []
    ended = torch.zeros_like(state.mode, dtype=torch.bool)
    while len(tokens) < n and not ended.all():
        seen.append(teacher.distribution(state))
        tokens.append(torch.where(ended, sums.pad, pick(seen[-1])))
        ended = ended | (tokens[-1] == sums.eos)
        state = advance(sums, state, tokens[-1])
    return torch.stack(tokens, dim=1), torch.stack(seen, dim=1)


def _path(name: str, tokens: Tensor, logits: Tensor, problem: Problem, y_o: Tensor) -> Path:
    """A path [n] by the student's logits [n, v], without what the teacher says."""
    nll = F.cross_entropy(logits, tokens, reduction="none")
    trace, ids = parse_trace(tokens, problem), tokens.tolist()
    return Path(
        name=name,
        tokens=tuple(map(problem.config.name, ids)),
        marks=_marks(name, ids, y_o.tolist(), problem),
        nats=(),
        wait_mass=(),
        nll=tuple(nll.tolist()),
        mean_nll=float(nll.mean()),
        first_error=trace.first_error,
        correct=trace.correct,
    )


def _marks(name: str, tokens: list[int], y_o: list[int], problem: Problem) -> tuple[str, ...]:
    """One mark per token; `along` says what they mean."""
    sums = problem.config
    first, last = sums.first_index, sums.bos

    def steps(trace: list[int]) -> dict[int, tuple[int, int]]:
        """index token -> (how many steps before it, total), the last time it is visited."""
        at = [i for i, t in enumerate(trace[:-1]) if first <= t < last]
        return {trace[i]: (place, trace[i + 1]) for place, i in enumerate(at)}

    marks = [""] * len(tokens)
    drafted = steps(y_o)
    total, index = (tokens[0] if sums.plan else 0), -1
    if sums.plan:
        right = tokens[0] == problem.plan
        marks[0] = "wrong" if not right else "kept" if tokens[0] == y_o[0] else "fixed"
    place = 0
    for i, token in enumerate(tokens):
        if first <= token < last:
            index = i
        elif index == i - 1 >= 0 and token < first:
            digit = problem.digits[tokens[index] - first]
            wrong = token != (total + digit) % sums.modulus
            before = drafted.get(tokens[index])
            if name == "y_o":
                mark = "wrong" if wrong else "kept"
            elif before is None or before[0] != place:
                mark = "moved"
            else:
                mark = "kept" if before[1] == token else "fixed"
            marks[index], marks[i] = (mark if mark == "moved" else "kept"), mark
            total, place, index = token, place + 1, -1
    return tuple(marks)


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
    n_left = len(written) - len(repair)
    repair += _write(ideal, state, n_left, lambda p: p.argmax(-1))[0][0].tolist()
    p = teacher_logits.softmax(-1)
    rungs = []
    for place in range(onset_at, min(len(repair), len(written))):
        needed, given = repair[onset_at:place], written[onset_at:place]
        rungs.append(
            Rung(
                context=tuple(map(sums.name, needed)),
                target=sums.name(repair[place]),
                opd_context=tuple(map(sums.name, given)),
                opd_target=sums.name(int(p[place].argmax())),
                shared=needed == given,
                onset_mass=float(p[place, sums.wait]),
            )
        )
    return tuple(rungs)
