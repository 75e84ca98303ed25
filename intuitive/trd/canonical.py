"""Where there is one order of solutions, TRD is SFT.

Source: arXiv:2606.08432, section 6.4.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings

from . import divergences
from .methods import METHODS, Method
from .signals import Stale
from .sums import sample_digits, sample_orders, write_traces
from .teacher import ExactTeacher, Teacher, TeacherConfig
from .teaching import trajectories
from .trained import Shipped, shipped


@dataclass(frozen=True, kw_only=True)
class CanonicalParams(Settings):
    """How free the order is, for teacher and drafts alike."""

    left_to_right: float = 1.0  # share of traces in the one canonical order
    n_problems: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        whole_fields(self, n_problems=1, seed=0)
        if not 0 <= self.left_to_right <= 1:
            raise ValueError(f"left_to_right={self.left_to_right} must lie in [0, 1].")


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
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode is
        return _compare(params, stale)


def _compare(params: CanonicalParams, stale: Stale) -> CanonicalResult:
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
