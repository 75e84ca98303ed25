"""The numbers behind the lesson's explorers, as frozen records.

    two_modes        one target with two modes: what every divergence charges and where it pulls
    mode_map         where a teacher says WAIT: error position × delay, false alarms beside it
    along            one failed rollout and its rewrite, token by token; the pair ladder; the diff
    train_live       students trained while one watches
    canonical_order  TRD becomes SFT when there is only one order

`wait_map` and `rewrites` measure a teacher for the benchmark too. Every function is pure: params
in, record out, the shipped weights of `committed` apart. Work that takes long asks `stale()`.

Source: arXiv:2606.08432, sections 4 and 6.4.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.decoder import Decoder
from intuitive.common.runtime import Cancelled, check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, one_thread, silent

from . import divergences
from .committed import Rewrites, Shipped, WaitMap, setting_config, shipped
from .methods import METHODS, Arm, Method, Plan, Teacher, distil, grade, roll, trajectories
from .metrics import pass_at_k, transitions
from .model import StackedDecoder
from .rollout import response_logits
from .sums import (
    Problem,
    SumsConfig,
    advance,
    parse_trace,
    prompts,
    read,
    sample_digits,
    sample_orders,
    verify,
    write_traces,
)
from .teacher import ExactTeacher, TeacherConfig

__all__ = [
    "DIVERGENCES",
    "AlongParams",
    "AlongResult",
    "Cancelled",
    "CanonicalParams",
    "CanonicalResult",
    "LiveParams",
    "LiveResult",
    "ModeMapParams",
    "ModeMapResult",
    "TwoModesParams",
    "TwoModesResult",
    "along",
    "canonical_order",
    "mode_map",
    "rewrites",
    "train_live",
    "two_modes",
    "wait_map",
]

TEACHERS = ("exact", "learned")
Stale = Callable[[], bool]


def _check_teacher(name: str) -> None:
    if name not in TEACHERS:
        raise ValueError(f"teacher={name!r} must be one of {', '.join(TEACHERS)}.")


def _teacher(name: str, setting: str, repair: float) -> Teacher:
    if name == "learned":
        return shipped(setting).teacher
    sums = setting_config(setting).sums
    return ExactTeacher(sums=sums, config=TeacherConfig(repair=repair))


# ------------------------------------------------------------------------ a target with two modes


@dataclass(frozen=True, kw_only=True)
class TwoModesParams(Settings):
    """A teacher that puts λ on WAIT and a student that puts ε there."""

    repair: float = 0.3  # λ
    onset: float = 1e-4  # ε, the student's mass on the onset
    temperature: float = 1.0  # divides both sides' logits before they are compared
    beta: float = 0.5  # of Jensen–Shannon
    cap: float = 0.1  # nats, of the clip
    top_k: int = 1  # tokens kept of the teacher's
    full: bool = False  # all tokens of the small setting instead of two
    distance: float = 4.0  # between the two humps that one Gaussian is fitted to

    def __post_init__(self) -> None:
        for name in ("repair", "onset"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name}={getattr(self, name)} must lie in (0, 1): both moves are possible."
                )
        if self.temperature <= 0 or self.distance < 0:
            raise ValueError(
                f"temperature={self.temperature} must be above 0 and distance={self.distance} "
                "not below."
            )


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What one divergence makes of the target."""

    name: str
    loss: float  # nats
    gradient: tuple[float, ...]  # on the student's logits; a step goes against it


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One Gaussian in the place of two."""

    name: str  # "forward_kl" or "reverse_kl"
    mean: float
    std: float
    divergence: float  # nats


@dataclass(frozen=True, kw_only=True)
class TwoModesResult:
    """Bars, charges and fits."""

    params: TwoModesParams
    tokens: tuple[str, ...]
    onset_token: int  # its place among the tokens
    teacher: tuple[float, ...]  # probabilities, at the temperature
    student: tuple[float, ...]
    charges: tuple[Charge, ...]
    humps: tuple[tuple[float, float, float], ...]  # weight, mean, std of the two to be fitted
    fits: tuple[Fit, ...]

    def charge(self, name: str) -> Charge:
        """The charge of a divergence by name."""
        return next(one for one in self.charges if one.name == name)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor, TwoModesParams], Tensor]] = {
    "forward_kl": lambda t, s, p: divergences.forward_kl(t, s),
    "reverse_kl": lambda t, s, p: divergences.reverse_kl(t, s),
    "jensen_shannon": lambda t, s, p: divergences.jensen_shannon(t, s, p.beta),
    "clipped_forward_kl": lambda t, s, p: divergences.clipped_forward_kl(t, s, p.cap),
    "entrywise_clipped_forward_kl": lambda t, s, p: divergences.entrywise_clipped_forward_kl(
        t, s, p.cap
    ),
    "entropy_weighted_forward_kl": lambda t, s, p: divergences.entropy_weighted_forward_kl(t, s),
    "topk_reverse_kl": lambda t, s, p: divergences.topk_reverse_kl(t, s, p.top_k),
    "topk_reverse_kl_tail": lambda t, s, p: divergences.topk_reverse_kl(t, s, p.top_k, tail=True),
}


def two_modes(params: TwoModesParams) -> TwoModesResult:
    """Losses and gradients of every divergence on one two-mode target, and two Gaussian fits.

    With two tokens the teacher is (1 − λ, λ) on continue and WAIT and the student (1 − ε, ε). With
    all tokens the teacher is the exact one at a boundary after a wrong total, and the student has
    its distribution without a repair, with ε moved to WAIT.

    Raises:
        ValueError: `top_k`, `cap` or `beta` out of range, as in `divergences`.
    """
    if params.full:
        names, teacher, student, onset = _boundary(params)
    else:
        names, onset = ("continue", "WAIT"), 1
        teacher = torch.tensor([1 - params.repair, params.repair], dtype=torch.float64)
        student = torch.tensor([1 - params.onset, params.onset], dtype=torch.float64)
    teacher_logits = teacher.log() / params.temperature
    student_logits = student.log() / params.temperature
    charges = []
    for name, charge in DIVERGENCES.items():
        logits = student_logits.clone().requires_grad_()
        loss = charge(teacher_logits, logits, params)
        (gradient,) = torch.autograd.grad(loss, logits)
        charges.append(Charge(name=name, loss=loss.item(), gradient=tuple(gradient.tolist())))
    humps = ((1 - params.repair, 0.0, 1.0), (params.repair, params.distance, 0.6))
    return TwoModesResult(
        params=params,
        tokens=names,
        onset_token=onset,
        teacher=tuple(teacher_logits.softmax(-1).tolist()),
        student=tuple(student_logits.softmax(-1).tolist()),
        charges=tuple(charges),
        humps=humps,
        fits=(_forward_fit(humps), _reverse_fit(humps)),
    )


def _boundary(params: TwoModesParams) -> tuple[tuple[str, ...], Tensor, Tensor, int]:
    """Token names, teacher, student and the onset after one wrong total of the small setting."""
    sums = SumsConfig()
    digits = torch.tensor([[3, 5, 2, 6]])
    order = torch.tensor([[3, 2, 1, 0]])
    tokens = write_traces(sums, digits, order, shifts=torch.tensor([[1, 0, 0, 0]])).tokens[:, :3]
    teacher, without = (
        ExactTeacher(sums=sums, config=TeacherConfig(repair=repair))
        .logits(digits, tokens)[0, 2]
        .double()
        .softmax(-1)
        for repair in (params.repair, 0.0)
    )
    onset = torch.arange(sums.vocab_size) == sums.wait
    student = torch.where(onset, params.onset, without * (1 - params.onset) / (1 - without[onset]))
    return tuple(sums.name(i) for i in range(sums.vocab_size)), teacher, student, sums.wait


Humps = Sequence[tuple[float, float, float]]


def _log_density(x: Tensor, humps: Humps) -> Tensor:
    parts = [
        math.log(w) - math.log(std * math.sqrt(2 * math.pi)) - 0.5 * ((x - mean) / std) ** 2
        for w, mean, std in humps
    ]
    return torch.stack(parts).logsumexp(0)


def _forward_fit(humps: Humps) -> Fit:
    """The Gaussian nearest by KL(humps ‖ Gaussian): it has their mean and variance."""
    mean = sum(w * m for w, m, _ in humps)
    std = math.sqrt(sum(w * (s**2 + (m - mean) ** 2) for w, m, s in humps))
    x = torch.linspace(-8.0, 24.0, 6401, dtype=torch.float64)
    log_p, log_q = _log_density(x, humps), _log_density(x, [(1.0, mean, std)])
    kl = float(torch.trapezoid(log_p.exp() * (log_p - log_q), x))
    return Fit(name="forward_kl", mean=mean, std=std, divergence=kl)


def _reverse_fit(humps: Humps) -> Fit:
    """The Gaussian nearest by KL(Gaussian ‖ humps), found on a grid made finer three times."""
    z = torch.linspace(-6.0, 6.0, 241, dtype=torch.float64)
    weight = (-0.5 * z**2).exp()
    weight = weight / weight.sum()
    low, high = min(m for _, m, _ in humps) - 1, max(m for _, m, _ in humps) + 1
    means = torch.linspace(low, high, 41, dtype=torch.float64)
    stds = torch.logspace(math.log10(0.2), math.log10(4.0), 31, dtype=torch.float64)
    for _ in range(3):
        m, s = means[:, None, None], stds[None, :, None]
        log_q = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - s.log()
        kl = (weight * (log_q - _log_density(m + s * z, humps))).sum(-1)  # [means, stds]
        i, j = divmod(int(kl.argmin()), kl.shape[1])
        best = Fit(
            name="reverse_kl", mean=float(means[i]), std=float(stds[j]), divergence=float(kl[i, j])
        )
        gap, ratio = float(means[1] - means[0]), float(stds[1] / stds[0])
        means = torch.linspace(best.mean - gap, best.mean + gap, 21, dtype=torch.float64)
        stds = best.std * ratio ** torch.linspace(-1.0, 1.0, 21, dtype=torch.float64)
    return best


# ------------------------------------------------------------------------------- measuring teachers


@torch.no_grad()
def wait_map(
    name: str, teacher: Teacher, *, n_traces: int = 256, seed: int = 0, stale: Stale = never
) -> WaitMap:
    """Where a teacher says WAIT, from x, on traces with one planted error and on right ones.

    Args:
        name: for the record.
        teacher: exact or learned.
        n_traces: per error position; half from left to right, half in any order.
        seed: of problems, orders and errors.
        stale: turns true when nobody waits any more.

    Raises:
        Cancelled: `stale()` became true.
    """
    sums, generator = teacher.sums, seeded(seed)
    device = _device(teacher)
    k, off = sums.n_digits, int(sums.plan)
    boundaries = [off + 2 * steps for steps in range(1, k + 1)]
    by_error, consistent, repaired = {}, [], []
    for error in ("none", *range(k), *(("plan",) if sums.plan else ())):
        check(stale)
        digits = sample_digits(sums, n_traces, generator=generator)
        orders = sample_orders(sums, n_traces, left_to_right=0.5, generator=generator)
        shifts = torch.zeros_like(digits)
        shift = torch.randint(1, sums.modulus, (n_traces,), generator=generator)
        plan_shifts = torch.randint(1, sums.n_plans, (n_traces,), generator=generator)
        if isinstance(error, int):
            shifts[:, error] = shift
        tokens = write_traces(
            sums,
            digits,
            orders,
            shifts=shifts,
            plan_shifts=plan_shifts if error == "plan" else None,
        ).tokens[:, : sums.clean_length]
        p = teacher.logits(digits.to(device), tokens.to(device)).softmax(-1).cpu()
        waits = p[:, boundaries, sums.wait].mean(0).tolist()
        by_error[str(error)] = tuple(waits[error:] if isinstance(error, int) else waits)
        if isinstance(error, int) and error < k - 1:
            at = boundaries[error] + 1  # the next total
            rows, written = torch.arange(n_traces), tokens[:, at]
            consistent.append(float(p[rows, at, written].mean()))
            repaired.append(float(p[rows, at, (written - shift) % sums.modulus].mean()))
    clean = by_error.pop("none")
    return WaitMap(
        teacher=name,
        by_error=by_error,
        clean=clean,
        worst_clean=max(clean),
        consistent=sum(consistent) / len(consistent),
        repaired=sum(repaired) / len(repaired),
    )


def _device(teacher: Teacher) -> torch.device:
    decoder = getattr(teacher, "decoder", None)
    return torch.device("cpu") if decoder is None else decoder.embedding.weight.device


@torch.no_grad()
def rewrites(
    name: str,
    teacher: Teacher,
    students: StackedDecoder,
    *,
    n_problems: int = 256,
    seed: int = 0,
    stale: Stale = never,
) -> Rewrites:
    """What a teacher makes of the first students' rollouts: transitions, support and signals.

    All students read the same problems; every number is over all of their rollouts together.

    Raises:
        Cancelled: `stale()` became true.
    """
    sums, device = teacher.sums, students.weights.device
    digits = sample_digits(sums, n_problems, generator=seeded(seed)).to(device)
    y_o = roll(sums, students, digits, seeds=range(students.n_models), salt=seed, stale=stale)
    rows = digits.repeat(students.n_models, 1)
    sets = {}
    for key, method in (
        ("y_o", METHODS["opd_forward"]),
        ("y_r", METHODS["trd"]),
        ("y_r from x", METHODS["trd_from_x"]),
        ("y_t", replace(METHODS["sft_teacher"], loss="forward")),
    ):
        generator = seeded(seed, device)  # the same rewrites in both contexts
        sets[key] = trajectories(
            method, teacher, rows, y_o.flatten(0, 1), generator=generator, stale=stale
        )
    student = {}
    for key, found in sets.items():
        given = torch.cat([found.prompts, found.tokens[:, :-1]], 1).unflatten(
            0, (students.n_models, -1)
        )
        student[key] = students(given)[:, :, sums.prompt_length - 1 :].flatten(0, 1)
    nll = {
        key: float(F.cross_entropy(student[key][found.counted], found.tokens[found.counted]))
        for key, found in sets.items()
    }
    mass = {
        key: float(found.teacher_logits.softmax(-1)[..., sums.wait][found.counted].mean())
        for key, found in sets.items()
    }
    before = verify(sums, rows, sets["y_o"].tokens)
    after = verify(sums, rows, sets["y_r"].tokens)
    own = verify(sums, rows, sets["y_t"].tokens)
    table, n = transitions(before.correct, after.correct), len(rows)
    complete = (before.order >= 0).all(-1)
    kept = (before.order == after.order).all(-1)[complete]

    place = torch.arange(sets["y_o"].tokens.shape[1], device=device)
    first = before.first_error[:, None]
    failed = sets["y_o"].counted & (first >= 0)
    parts = {"before": place < first, "at": place == first, "after": place > first}
    teacher_logits = sets["y_o"].teacher_logits
    split = {}
    for direction, kl in (
        ("forward", divergences.forward_kl),
        ("reverse", divergences.reverse_kl),
    ):
        nats = kl(teacher_logits, student["y_o"], check=False)
        for part, where in parts.items():
            split[f"{direction}_{part}"] = _mean_where(nats, failed & where)
    return Rewrites(
        teacher=name,
        fail_fail=table.fail_fail / n,
        fail_pass=table.fail_pass / n,
        pass_fail=table.pass_fail / n,
        pass_pass=table.pass_pass / n,
        order_kept=float(kept.float().mean()),
        solve_accuracy=float(own.correct.float().mean()),
        nll_y_o=nll["y_o"],
        nll_y_r=nll["y_r"],
        nll_y_t=nll["y_t"],
        wait_mass_y_o=mass["y_o"],
        wait_mass_y_r=mass["y_r"],
        wait_mass_y_r_from_x=mass["y_r from x"],
        tokens_after_error=_mean_where((place > first).float(), failed),
        **split,
    )


def _mean_where(values: Tensor, where: Tensor) -> float:
    return float((values * where).sum() / where.sum().clamp(min=1))


# ------------------------------------------------------------------------------------- mode map


@dataclass(frozen=True, kw_only=True)
class ModeMapParams(Settings):
    """Which teacher is asked."""

    setting: str = "small"
    repair: float = 0.3  # λ of the exact teacher
    n_traces: int = 64  # per error position
    seed: int = 0

    def __post_init__(self) -> None:
        setting_config(self.setting)
        if self.n_traces < 1:
            raise ValueError(f"n_traces={self.n_traces} must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class ModeMapResult:
    """Both teachers on the same traces."""

    params: ModeMapParams
    exact: WaitMap
    learned: WaitMap


def mode_map(params: ModeMapParams, *, stale: Stale = never) -> ModeMapResult:
    """WAIT mass by error position and delay, and false alarms, of both teachers.

    Raises:
        FileNotFoundError: the setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    maps = {
        name: wait_map(
            name,
            _teacher(name, params.setting, params.repair),
            n_traces=params.n_traces,
            seed=params.seed,
            stale=stale,
        )
        for name in TEACHERS
    }
    return ModeMapResult(params=params, **maps)


# -------------------------------------------------------------------------- along one trajectory


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
        _check_teacher(self.teacher)
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
    student, digits, y_o = _failures(params.setting, params.seed)
    if params.item >= len(digits):
        raise ValueError(
            f"item={params.item} must be below {len(digits)}, the failed rollouts among 256."
        )
    digits, y_o = digits[params.item][None], y_o[params.item][None]
    check(stale)
    teacher = _teacher(params.teacher, params.setting, params.repair)
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


def _one(models: Shipped, seed: int) -> StackedDecoder:
    if not 0 <= seed < models.students.n_models:
        raise ValueError(
            f"seed={seed} must lie in [0, {models.students.n_models}): so many first students "
            "were trained."
        )
    return models.students.copies([seed])


@functools.lru_cache(maxsize=8)
@torch.no_grad()
def _failures(setting: str, seed: int) -> tuple[Decoder, Tensor, Tensor]:
    """A first student with digits and rollouts of its failures among 256 problems.

    They are well formed, without WAIT, and not wrong in the answer alone.
    """
    models = shipped(setting)
    sums, student = models.config.sums, _one(models, seed)
    digits = sample_digits(sums, 256, generator=seeded(seed))
    y_o = roll(sums, student, digits, seeds=[seed])[0]
    found = verify(sums, digits, y_o)
    in_step = (found.first_error >= 0) & (found.first_error < sums.clean_length - 2)
    rows = found.well_formed & ~found.correct & (found.n_waits == 0) & in_step
    return student.decoder(), digits[rows], y_o[rows]


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
    assert first_error is not None  # `_failures` picks rollouts with an error
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


# ------------------------------------------------------------------------------- training, live


@dataclass(frozen=True, kw_only=True)
class LiveParams(Settings):
    """Students trained side by side in the small setting."""

    methods: str = "opd_forward,trd"  # names in METHODS, with commas
    teacher: str = "exact"
    repair: float = 0.3  # λ of the exact teacher
    rounds: int = 1
    n_steps: int = 120
    batch: int = 64
    n_problems: int = 512
    lr: float = 1e-3
    n_test: int = 48  # problems, with 4 rollouts each
    seed: int = 0

    def __post_init__(self) -> None:
        _check_teacher(self.teacher)
        for name in self.names:
            if name not in METHODS:
                raise ValueError(
                    f"methods={self.methods!r}: {name!r} is none of {', '.join(METHODS)}."
                )
        self.plan  # noqa: B018  (its own checks)

    @property
    def names(self) -> tuple[str, ...]:
        """The methods, one by one."""
        return tuple(self.methods.split(","))

    @property
    def plan(self) -> Plan:
        """The same for all of them."""
        return Plan(
            n_problems=self.n_problems,
            n_steps=self.n_steps,
            batch=self.batch,
            rounds=self.rounds,
            observe_every=max(1, self.n_steps // 4),
        )


@dataclass(frozen=True, kw_only=True)
class LivePoint:
    """A student after some steps."""

    step: int
    teacher_tokens: int
    accuracy: float
    pass_at_4: float
    wait: float  # share of rollouts that say WAIT
    correct_after_wait: float | None  # of those
    order_kept: float  # share from right to left


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """One method's course and some of its last rollouts."""

    name: str
    points: tuple[LivePoint, ...]
    rollouts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class LiveResult:
    """All methods on common problems and random numbers."""

    params: LiveParams
    runs: tuple[LiveRun, ...]


@one_thread()
def train_live(
    params: LiveParams, *, stale: Stale = never, progress: Progress = silent
) -> LiveResult:
    """Train students on the CPU, several methods at once.

    Raises:
        FileNotFoundError: the small setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    models = shipped("small")
    sums = models.config.sums
    teachers = {params.teacher: _teacher(params.teacher, "small", params.repair)}
    found = sample_digits(
        sums, params.n_problems + params.n_test, generator=seeded(params.seed), distinct=True
    )
    digits, held_out = found[: params.n_problems], found[params.n_problems :]
    arms = [
        Arm(name=n, method=METHODS[n], teacher=params.teacher, seed=0, lr=params.lr)
        for n in params.names
    ]
    points: list[list[LivePoint]] = [[] for _ in arms]
    last: list[Tensor] = []

    def observe(step: int, stack: StackedDecoder, cost: list) -> None:
        rolled = roll(
            sums, stack, held_out, seeds=[0] * len(arms), n_samples=4, salt=99, stale=stale
        )
        for arm, verdict in enumerate(grade(sums, held_out, rolled)):
            correct, waits = verdict.correct, verdict.n_waits > 0
            passed = pass_at_k(4, correct.view(4, -1).sum(0), 4)
            points[arm].append(
                LivePoint(
                    step=step,
                    teacher_tokens=cost[arm].teacher,
                    accuracy=float(correct.float().mean()),
                    pass_at_4=float(passed.mean()),
                    wait=float(waits.float().mean()),
                    correct_after_wait=float(correct[waits].float().mean())
                    if waits.any()
                    else None,
                    order_kept=float(right_to_left(sums, verdict.order).float().mean()),
                )
            )
        last[:] = [own[:8] for own in rolled]

    first = _one(models, 0)
    distil(
        first, arms, teachers, digits, params.plan, observe=observe, stale=stale, progress=progress
    )
    return LiveResult(
        params=params,
        runs=tuple(
            LiveRun(name=arm.name, points=tuple(points[i]), rollouts=_words(sums, last[i]))
            for i, arm in enumerate(arms)
        ),
    )


def right_to_left(sums: SumsConfig, order: Int[Tensor, "b n_digits"]) -> Tensor:
    """Which traces visit the digits from the last to the first, the first student's habit."""
    return (order == torch.arange(sums.n_digits - 1, -1, -1, device=order.device)).all(-1)


def _words(sums: SumsConfig, rollouts: Tensor) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(sums.name(token) for token in row if token != sums.pad) for row in rollouts.tolist()
    )


# ------------------------------------------------------------------------------- canonical order


@dataclass(frozen=True, kw_only=True)
class CanonicalParams(Settings):
    """How free the order is, for teacher and drafts alike."""

    left_to_right: float = 1.0  # share of traces in the one canonical order
    n_problems: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.left_to_right <= 1 or self.n_problems < 1:
            raise ValueError(
                f"left_to_right={self.left_to_right} must lie in [0, 1] and "
                f"n_problems={self.n_problems} be at least 1."
            )


@dataclass(frozen=True, kw_only=True)
class CanonicalResult:
    """How far TRD differs from SFT on the teacher's own solutions."""

    params: CanonicalParams
    same_trace: float  # share of rewrites y_r that equal the teacher's solution y_T
    gradient_cosine: float  # of the two methods' first gradients
    gradient_difference: float  # norm of their difference by the norm of SFT's


def canonical_order(params: CanonicalParams, *, stale: Stale = never) -> CanonicalResult:
    """Compare the first gradient of TRD with that of SFT on y_T.

    Drafts have one wrong total and the order habit of the teacher. Where there is one order alone
    the rewrite can only be the teacher's own solution, and TRD is SFT with soft labels.

    Raises:
        FileNotFoundError: the small setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    models, generator = shipped("small"), seeded(params.seed)
    sums = models.config.sums
    habits = TeacherConfig(left_to_right=params.left_to_right)
    teacher = ExactTeacher(sums=sums, config=habits)
    n = params.n_problems
    digits = sample_digits(sums, n, generator=generator)
    orders = sample_orders(sums, n, left_to_right=params.left_to_right, generator=generator)
    at = torch.randint(sums.n_digits, (n, 1), generator=generator)
    shifts = torch.zeros_like(digits).scatter(1, at, 1)
    drafts = write_traces(sums, digits, orders, shifts=shifts).tokens
    gradients, traces = [], []
    for name in ("trd", "sft_teacher"):
        check(stale)
        found = _first_gradient(METHODS[name], teacher, models, digits, drafts, seeded(params.seed))
        gradients.append(found[0])
        traces.append(found[1])
    trd, sft = gradients
    return CanonicalResult(
        params=params,
        same_trace=float((traces[0] == traces[1]).all(-1).float().mean()),
        gradient_cosine=float(F.cosine_similarity(trd, sft, dim=0)),
        gradient_difference=float((trd - sft).norm() / sft.norm()),
    )


def _first_gradient(
    method: Method,
    teacher: Teacher,
    models: Shipped,
    digits: Tensor,
    drafts: Tensor,
    generator: torch.Generator,
) -> tuple[Float[Tensor, " p"], Tensor]:
    """Gradient on the first student's weights, and the trajectories it comes from."""
    found = trajectories(method, teacher, digits, drafts, generator=generator)
    student = models.students.copies([0])
    given = torch.cat([found.prompts, found.tokens[:, :-1]], 1)[None]
    logits = student(given)[0, :, found.prompts.shape[1] - 1 :]
    if found.teacher_logits is None:
        nats = F.cross_entropy(logits.flatten(0, 1), found.tokens.flatten(), reduction="none")
        nats = nats.view(found.tokens.shape)
    else:
        nats = divergences.forward_kl(found.teacher_logits, logits)
    (nats * found.counted).sum().div(found.counted.sum()).backward()
    return student.weights.grad[0], found.tokens
