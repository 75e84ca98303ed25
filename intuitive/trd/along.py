"""One failed rollout and what the teacher makes of it, token by token.

    along    charges along the rollout y_o and its rewrite y_r, with the teacher's own solution y_T
    ladder   the pairs that a repair needs, beside those that the frozen rollout supplies
    marks    which of y_o's steps a rewrite kept, fixed or moved

Source: arXiv:2606.08432, sections 3, 4 and 6.4.
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from intuitive.common.decoder import Decoder
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings

from .committed import setting_config, shipped
from .methods import roll
from .rollout import response_logits
from .signals import Stale, check_teacher, named_teacher
from .sums import Problem, SumsConfig, advance, parse_trace, prompts, read, sample_digits, verify
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


@torch.no_grad()
def along(params: AlongParams, *, stale: Stale = never) -> AlongResult:
    """Follow one failed rollout and what the teacher makes of it.

    Marks compare steps with those of y_o by digit: "kept" (same place, same total), "fixed" (same
    place, other total), "moved" (another place); in y_o itself a wrong number is "wrong".

    Raises:
        ValueError: fewer failed rollouts than `item`, or a divergence's setting out of range.
        FileNotFoundError: the setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    sums = setting_config(params.setting).sums
    failed = failed_rollouts(params.setting, params.seed)
    n_failed = len(failed.digits)
    if params.item >= n_failed:
        raise ValueError(
            f"item={params.item} must be below {n_failed}, the failed rollouts among "
            f"{N_PROBLEMS}: take a smaller one, or another seed."
        )
    student = failed.student
    digits, y_o = failed.digits[params.item][None], failed.y_o[params.item][None]
    check(stale)
    teacher = named_teacher(params.teacher, params.setting, params.repair)
    generator = seeded(params.seed + 1)
    y_r = teacher.sample(digits, generator=generator, drafts=y_o)
    y_t = teacher.sample(digits, generator=generator)
    check(stale)
    problem = Problem(digits=tuple(digits[0].tolist()), config=sums)
    drafts = {"drafts": y_o} if params.context == "refine" else {}
    scores = {"y_o": teacher.logits(digits, y_o), "y_r": teacher.logits(digits, y_r, **drafts)}
    paths = {
        name: _path(name, params, student, digits, tokens, scores.get(name), problem, y_o)
        for name, tokens in (("y_o", y_o), ("y_r", y_r), ("y_t", y_t))
    }
    onset_at = _onset_at(sums, paths["y_o"].first_error)
    return AlongResult(
        params=params,
        digits=problem.digits,
        **paths,
        onset_at=onset_at,
        ladder=_ladder(sums, digits, y_o, onset_at, scores["y_o"]),
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


def _path(
    name: str,
    params: AlongParams,
    student: Decoder,
    digits: Tensor,
    tokens: Tensor,
    teacher_logits: Tensor | None,
    problem: Problem,
    y_o: Tensor,
) -> Path:
    sums = problem.config
    n = int((tokens != sums.pad).sum())
    logits = response_logits(student, prompts(sums, digits), tokens)[0, :n]
    nll = F.cross_entropy(logits, tokens[0, :n], reduction="none")
    settings = TwoModesParams(beta=params.beta, cap=params.cap, top_k=params.top_k)
    nats: Tensor = torch.zeros(0)
    waits: Tensor = torch.zeros(0)
    if teacher_logits is not None:
        nats = DIVERGENCES[params.divergence](teacher_logits[0, :n], logits, settings)
        waits = teacher_logits[0, :n].softmax(-1)[:, sums.wait]
    trace = parse_trace(tokens[0], problem)
    return Path(
        name=name,
        tokens=tuple(sums.name(t) for t in tokens[0, :n].tolist()),
        marks=_marks(name, tokens[0, :n].tolist(), y_o[0].tolist(), problem),
        nats=tuple(nats.tolist()),
        wait_mass=tuple(waits.tolist()),
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
    """The exact teacher's repair after WAIT, beside what the frozen rollout has there."""
    ideal = ExactTeacher(sums=sums, config=TeacherConfig(repair=1.0, smoothing=0.0))
    repair = [*y_o[0, :onset_at].tolist(), sums.wait]
    state = read(sums, ideal.context(digits), torch.tensor([repair]))
    while len(repair) < sums.trace_length and repair[-1] != sums.eos:
        best = ideal.distribution(state).argmax(-1)
        repair.append(int(best))
        state = advance(sums, state, best)
    p = teacher_logits[0].softmax(-1)
    written = y_o[0][y_o[0] != sums.pad].tolist()
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
