"""All divergences by name."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from intuitive.common.inputs import public

from .sampled import k3, monte_carlo_forward_kl, policy_gradient_loss
from .vocabulary import (
    clipped_forward_kl,
    entropy_weighted_forward_kl,
    entrywise_clipped_forward_kl,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    topk_reverse_kl,
)


@runtime_checkable
class Knobs(Protocol):
    """The settings that some divergences take."""

    beta: float
    cap: float  # nats
    top_k: int


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """One of them, for whoever lets a reader or a table choose."""

    name: str
    label: str  # in words
    direction: str  # "forward" KL(teacher ‖ student), "reverse", or "between"
    function: Callable[..., Tensor]
    takes: str = ""  # "beta", "cap" or "top_k": its setting, after the logits
    sampled: bool = False  # it reads sampled tokens, not the whole vocabulary

    def __call__(
        self,
        teacher_logits: Tensor,
        student_logits: Tensor,
        knobs: Knobs,
        *,
        tokens: Tensor | None = None,
        check: bool = True,
        mask: Tensor | None = None,
        temperature: int | float = 1.0,
    ) -> Tensor:
        """Nats [...]; errors as the function's, and ValueError where it lacks `tokens`."""
        if self.sampled and tokens is None:
            raise ValueError(f"{self.label} reads sampled tokens: pass tokens=.")
        more = [tokens] if self.sampled else [getattr(knobs, self.takes)] if self.takes else []
        return self.function(
            teacher_logits,
            student_logits,
            *more,
            check=check,
            mask=mask,
            temperature=temperature,
        )


DIVERGENCES: dict[str, Divergence] = {
    one.name: one
    for one in (
        Divergence(name="forward_kl", label="forward KL", direction="forward", function=forward_kl),
        Divergence(name="reverse_kl", label="reverse KL", direction="reverse", function=reverse_kl),
        Divergence(
            name="jensen_shannon",
            label="Jensen–Shannon β",
            direction="between",
            function=jensen_shannon,
            takes="beta",
        ),
        Divergence(
            name="clipped_forward_kl",
            label="forward KL, clipped",
            direction="forward",
            function=clipped_forward_kl,
            takes="cap",
        ),
        Divergence(
            name="entrywise_clipped_forward_kl",
            label="forward KL, clipped per entry",
            direction="forward",
            function=entrywise_clipped_forward_kl,
            takes="cap",
        ),
        Divergence(
            name="entropy_weighted_forward_kl",
            label="forward KL, entropy-weighted",
            direction="forward",
            function=entropy_weighted_forward_kl,
        ),
        Divergence(
            name="topk_reverse_kl",
            label="reverse KL, top-k",
            direction="reverse",
            function=topk_reverse_kl,
            takes="top_k",
        ),
        Divergence(
            name="topk_reverse_kl_tail",
            label="reverse KL, top-k with tail",
            direction="reverse",
            function=functools.partial(topk_reverse_kl, tail=True),
            takes="top_k",
        ),
        Divergence(
            name="policy_gradient",
            label="reverse KL by policy gradient",
            direction="reverse",
            function=policy_gradient_loss,
            sampled=True,
        ),
        Divergence(
            name="monte_carlo_forward",
            label="forward KL, sampled",
            direction="forward",
            function=monte_carlo_forward_kl,
            sampled=True,
        ),
        Divergence(
            name="k3", label="reverse KL by k3", direction="reverse", function=k3, sampled=True
        ),
    )
}
WHOLE = tuple(name for name, one in DIVERGENCES.items() if not one.sampled)


@public
def divergence(name: str) -> Divergence:
    """A divergence by name.

    Raises:
        ValueError: no such divergence.
    """
    if name not in DIVERGENCES:
        raise ValueError(f"divergence={name!r} must be one of {', '.join(DIVERGENCES)}.")
    return DIVERGENCES[name]
