"""One target with two modes: what every divergence charges, where it pushes, where that leads.

The teacher puts λ on WAIT and the rest on going on; the student puts ε there, and then takes some
steps of gradient descent on its logits. Beside it stands the textbook's picture of the same: one
Gaussian fitted to two humps by either KL.

Source: arXiv:2606.08432, section 4.
"""

import functools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from cachetools import LRUCache, cached
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..divergences import DIVERGENCES, WHOLE
from ..sums import SumsConfig, write_traces
from ..teacher import ExactTeacher, TeacherConfig

N_STEPS, STEP_SIZE = 12, 2.0  # of gradient descent on the student's logits


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
        whole_fields(self, top_k=1)
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
    gradient: tuple[float, ...]  # on the student's own logits; a step goes against it
    walk: tuple[float, ...]  # the student's mass on WAIT after 0 ... N_STEPS steps
    losses: tuple[float, ...]  # nats, likewise
    pushes: tuple[float, ...]  # on the logit of WAIT, −∂loss/∂logit, likewise


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
    student: tuple[float, ...]  # likewise
    charges: tuple[Charge, ...]
    humps: tuple[tuple[float, float, float], ...]  # weight, mean, std of the two to be fitted
    fits: tuple[Fit, ...]

    def charge(self, name: str) -> Charge:
        """The charge of a divergence by name."""
        return next(one for one in self.charges if one.name == name)


def run(
    params: TwoModesParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> TwoModesResult:
    """Losses and gradients of every divergence on one two-mode target, and two Gaussian fits.

    With two tokens the teacher is (1 − λ, λ) on continue and WAIT and the student (1 − ε, ε). With
    all tokens the teacher is the exact one at a boundary after a wrong total, and the student has
    its distribution without a repair, with ε moved to WAIT. The temperature divides both sides'
    logits before they are compared: probabilities are those that are compared, and gradients, on
    the logits before that, carry a factor 1/T.

    Raises:
        ValueError: `top_k`, `cap` or `beta` out of range, as in `divergences`.
        Cancelled: `stale()` became true.
    """
    check(stale)
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode is
        target = _target(replace(params, distance=TwoModesParams.distance))
    check(stale)
    humps = ((1 - params.repair, 0.0, 1.0), (params.repair, params.distance, 0.6))
    fits = (_forward_fit(humps), _reverse_fit(humps))
    return TwoModesResult(params=params, humps=humps, fits=fits, **target)


@cached(cache=LRUCache(64), lock=threading.Lock())
def _target(params: TwoModesParams) -> dict[str, Any]:
    """All of a result that does not depend on the humps."""
    if params.full:
        names, teacher, student, onset = _boundary(params)
    else:
        names, onset = ("continue", "WAIT"), 1
        teacher = torch.tensor([1 - params.repair, params.repair], dtype=torch.float64)
        student = torch.tensor([1 - params.onset, params.onset], dtype=torch.float64)
    teacher_logits, temperature = teacher.log(), params.temperature
    logits = student.log().expand(len(WHOLE), -1)  # one student per divergence
    walk, losses, pushes, first = [], [], [], None
    for step in range(N_STEPS + 1):
        logits = logits.detach().requires_grad_()
        charged = torch.stack(
            [
                DIVERGENCES[name](
                    teacher_logits, own, params, temperature=temperature, check=step == 0
                )
                for name, own in zip(WHOLE, logits, strict=True)
            ]
        )
        (gradient,) = torch.autograd.grad(charged.sum(), logits)
        gradient = gradient + 0.0  # no negative zeros
        first = gradient if first is None else first
        walk.append((logits.detach() / temperature).softmax(-1)[:, onset])
        losses.append(charged.detach() + 0.0)
        pushes.append(-gradient[:, onset] + 0.0)
        logits = logits - STEP_SIZE * gradient
    walk, losses, pushes = (torch.stack(part, 1).tolist() for part in (walk, losses, pushes))
    return {
        "tokens": names,
        "onset_token": onset,
        "teacher": tuple((teacher_logits / temperature).softmax(-1).tolist()),
        "student": tuple((student.log() / temperature).softmax(-1).tolist()),
        "charges": tuple(
            Charge(
                name=name,
                loss=losses[i][0],
                gradient=tuple(first[i].tolist()),
                walk=tuple(walk[i]),
                losses=tuple(losses[i]),
                pushes=tuple(pushes[i]),
            )
            for i, name in enumerate(WHOLE)
        ),
    }


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


Humps = tuple[tuple[float, float, float], ...]


def _log_density(x: Tensor, humps: Humps) -> Tensor:
    parts = [
        math.log(w) - math.log(std * math.sqrt(2 * math.pi)) - 0.5 * ((x - mean) / std) ** 2
        for w, mean, std in humps
    ]
    return functools.reduce(torch.logaddexp, parts)


def _forward_fit(humps: Humps) -> Fit:
    """The Gaussian nearest by KL(humps ‖ Gaussian): it has their mean and variance."""
    mean = sum(w * m for w, m, _ in humps)
    std = math.sqrt(sum(w * (s**2 + (m - mean) ** 2) for w, m, s in humps))
    x = torch.linspace(-8.0, 24.0, 6401, dtype=torch.float64)
    log_p, log_q = _log_density(x, humps), _log_density(x, ((1.0, mean, std),))
    kl = float(torch.trapezoid(log_p.exp() * (log_p - log_q), x))
    return Fit(name="forward_kl", mean=mean, std=std, divergence=kl)


@cached(cache=LRUCache(64), lock=threading.Lock())  # most sliders leave the humps as they are
def _reverse_fit(humps: Humps) -> Fit:
    """The Gaussian nearest by KL(Gaussian ‖ humps), found on a grid made finer three times."""
    z = torch.linspace(-6.0, 6.0, 241, dtype=torch.float64)
    weight = (-0.5 * z**2).exp()
    weight = weight / weight.sum()
    low, high = min(m for _, m, _ in humps) - 1, max(m for _, m, _ in humps) + 1
    means = torch.linspace(low, high, 41, dtype=torch.float64)
    stds = torch.logspace(math.log10(0.2), math.log10(4.0), 31, dtype=torch.float64)
    for _ in range(3):
        s = stds[None, :, None]
        log_q = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - s.log()
        some = [  # a few means at a time stay in a core's cache
            (weight * (log_q - _log_density(m + s * z, humps))).sum(-1)
            for m in means[:, None, None].split(4)
        ]
        kl = torch.cat(some)  # [means, stds]
        i, j = divmod(int(kl.argmin()), kl.shape[1])
        best = Fit(
            name="reverse_kl", mean=float(means[i]), std=float(stds[j]), divergence=float(kl[i, j])
        )
        gap, ratio = float(means[1] - means[0]), float(stds[1] / stds[0])
        means = torch.linspace(best.mean - gap, best.mean + gap, 21, dtype=torch.float64)
        stds = best.std * ratio ** torch.linspace(-1.0, 1.0, 21, dtype=torch.float64)
    return best
