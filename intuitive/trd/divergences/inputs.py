"""What a divergence takes: probabilities, logits, masks, and what is wrong with them."""

import torch
from torch import Tensor

from intuitive.common.inputs import public

# Shapes are checked here, not by annotations: these are inputs that learners supply.


@public
def check_distribution(p: Tensor, *, name: str = "p") -> None:
    """Do nothing if p [..., v] holds probabilities that sum to one over its last axis.

    Raises:
        ValueError: no tensor, not floating, empty, NaN, below 0, or a sum further from 1 than 1e-4
            or the dtype's rounding.
    """
    check_tensor(name, p)
    if not p.is_floating_point() or p.dim() == 0 or p.shape[-1] == 0:
        raise ValueError(
            f"{name} is {p.dtype} of shape {tuple(p.shape)}: floating probabilities [..., v] with "
            "at least one entry are needed."
        )
    if p.isnan().any():
        raise ValueError(f"{name} holds NaN: look for the step that made it.")
    if (p < 0).any():
        raise ValueError(f"{name} holds {float(p.min()):g}: probabilities are not negative.")
    off = (p.double().sum(-1) - 1).abs()
    if (off > max(1e-4, torch.finfo(p.dtype).eps)).any():
        worst = float(p.double().sum(-1).flatten()[off.argmax()])
        raise ValueError(
            f"{name} sums to {worst:g} over its last axis, not to 1: divide it by its sum."
        )


def check_tensor(name: str, value: object) -> None:
    """Raises ValueError where `value` is no tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}: pass torch.tensor(...) instead.")


@public
def as_logits(p: Tensor) -> Tensor:
    """Logits of probabilities [..., v], log p; zero becomes -inf. Errors as `check_distribution`.

    The gradient of a zero entry is left out rather than infinite.
    """
    check_distribution(p)
    possible = p > 0
    return torch.where(possible, p, 1.0).log().masked_fill(~possible, -torch.inf)


def check_logits(teacher: Tensor, student: Tensor, mask: Tensor | None, check: bool) -> None:
    """Errors as in `divergences`' opening lines."""
    named = {"teacher_logits": teacher, "student_logits": student}
    for name, logits in named.items():
        check_tensor(name, logits)
    if teacher.shape != student.shape:
        raise ValueError(
            f"teacher_logits have shape {tuple(teacher.shape)} and student_logits "
            f"{tuple(student.shape)}: both need one shape [..., v]."
        )
    for name, logits in named.items():
        if not logits.is_floating_point() or logits.dim() == 0 or logits.shape[-1] == 0:
            raise ValueError(
                f"{name} are {logits.dtype} of shape {tuple(logits.shape)}: floating numbers "
                "[..., v] with at least one token are needed."
            )
    if mask is not None:
        check_tensor("mask", mask)
        if mask.dtype != torch.bool or mask.shape != teacher.shape[:-1]:
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}: booleans of shape "
                f"{tuple(teacher.shape[:-1])}, one per position, are needed."
            )
    if check:
        for name, logits in named.items():
            _check_values(name, logits.detach(), mask)


def _check_values(name: str, logits: Tensor, mask: Tensor | None) -> None:
    largest = logits.amax(-1)  # [...]: NaN where any is
    if mask is not None:
        largest = torch.where(mask, largest, 0.0)
    if largest.isnan().any():
        raise ValueError(f"{name} hold NaN: look for the step that made it.")
    if (largest == torch.inf).any():
        raise ValueError(f"{name} hold +inf: make it the only finite logit of its row instead.")
    empty = largest == -torch.inf
    if empty.any():
        raise ValueError(
            f"{name} are all -inf in {int(empty.sum())} of {empty.numel()} rows: every row needs "
            "at least one possible token."
        )
