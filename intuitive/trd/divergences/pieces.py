"""From logits to nats: normalised, tempered, masked, and piece by piece where they are many."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .inputs import check_logits

CHUNK = 1 << 22  # logits that are worked on at once: 16 MiB in float32

Terms = Callable[..., Tensor]  # (log teacher, log student[, tokens]) of some rows -> nats


def charged(
    terms: Terms,
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    check: bool,
    mask: Tensor | None,
    temperature: int | float,
    tokens: Tensor | None = None,
) -> Tensor:
    """`terms` of the normalised distributions, [...], in pieces where they are many."""
    check_logits(teacher_logits, student_logits, mask, check)
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature={temperature} must be finite and above 0: it divides the logits."
        )
    teacher_logits = teacher_logits.detach()

    def charge(teacher: Tensor, student: Tensor, *rest: Tensor | None) -> Tensor:
        """Nats of some rows; `rest` are their mask and tokens."""
        counts, ids = rest
        if counts is not None:
            teacher, student = (torch.where(counts[..., None], x, 0.0) for x in (teacher, student))
            ids = None if ids is None else torch.where(counts, ids, 0)
        log_t, log_s = (_normalised(x, dtype, temperature) for x in (teacher, student))
        nats = terms(log_t, log_s) if ids is None else terms(log_t, log_s, ids)
        return nats if counts is None else torch.where(counts, nats, 0.0)

    dtype = torch.promote_types(teacher_logits.dtype, student_logits.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    rest = (mask, tokens)
    if student_logits.numel() <= CHUNK:
        return charge(teacher_logits, student_logits, *rest)
    return _InPieces.apply(student_logits, teacher_logits, charge, dtype, *rest)


def _normalised(logits: Tensor, dtype: torch.dtype, temperature: int | float) -> Tensor:
    logits = logits.to(dtype)
    if temperature < 1e-6:  # the division would leave the numbers there are: count from the top
        logits = logits - logits.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(dtype).min)
        temperature = max(temperature, torch.finfo(dtype).tiny)
    return (logits if temperature == 1 else logits / temperature).log_softmax(-1)


class _InPieces(torch.autograd.Function):
    """A charge of many rows, piece by piece, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, charge: Terms, dtype: torch.dtype,
                *rest: Tensor | None) -> Tensor:  # fmt: skip
        ctx.charge = charge
        ctx.save_for_backward(student, teacher, *rest)
        nats = student.new_empty(student.shape[:-1], dtype=dtype)
        for piece in _pieces(student.shape):
            nats[piece] = charge(teacher[piece], student[piece], *_cut(rest, piece))
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        student, teacher, *rest = ctx.saved_tensors
        gradient = torch.empty_like(student)
        for piece in _pieces(student.shape):
            with torch.enable_grad():
                rows = student[piece].detach().requires_grad_()
                nats = ctx.charge(teacher[piece], rows, *_cut(rest, piece))
            (gradient[piece],) = torch.autograd.grad(nats, rows, upstream[piece])
        return (gradient, None, None, None, *(None for _ in rest))


def _cut(tensors: Any, piece: tuple[int | slice, ...]) -> Iterator[Tensor | None]:
    return (None if one is None else one[piece] for one in tensors)


def _pieces(shape: torch.Size) -> Iterator[tuple[int | slice, ...]]:
    """Indices that cut the leading axes of [..., v] into parts of at most CHUNK entries.

    One row is never cut, and no axis is merged with another: that could copy the input.
    """
    *axes, entries = shape
    axis = len(axes)
    while axis and entries * axes[axis - 1] <= CHUNK:
        axis -= 1
        entries *= axes[axis]
    if axis == 0:
        yield ()
        return
    rows = max(1, CHUNK // entries)
    for outer in itertools.product(*map(range, axes[: axis - 1])):
        for first in range(0, axes[axis - 1], rows):
            yield (*outer, slice(first, first + rows))
