"""Critics as formulas: differentiable functions from actions [n] (or [n, d]) to values [n].

The curvature of a critic bounds the weight that Euler's method bears: a step of size 1/T along
w∇Q comes closer to a peak only while (w/T) λ_max(-∇²Q) < 2.

Source: Zhou et al. 2026, arXiv:2606.11087, Section 4; the stability number is derived here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from intuitive.common.inputs import plain_fields

Critic = Callable[[Tensor], Tensor]
STABILITY_LIMIT = 2
N_CURVATURE = 801  # points at which a curvature is looked for


@dataclass(frozen=True)
class QuadraticCritic:
    """Q(a) = -(a - peak)²; for vectors -|a - peak|², every coordinate with the same peak."""

    peak: int | float = 0.8

    def __post_init__(self) -> None:
        plain_fields(self)
        _finite(peak=self.peak)

    def __call__(self, actions: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        return -_square(actions - self.peak)


@dataclass(frozen=True)
class GaussianBumps:
    """Q(a) = Σ height * exp(-|a - peak|² / (2 width²)), one term per bump."""

    peaks: tuple[int | float, ...] = (0.3,)
    widths: tuple[int | float, ...] = (0.35,)
    heights: tuple[int | float, ...] = (1.0,)

    def __post_init__(self) -> None:
        plain_fields(self)
        n = len(self.peaks)
        if n == 0 or len(self.widths) != n or len(self.heights) != n:
            raise ValueError(
                f"{n} peaks, {len(self.widths)} widths and {len(self.heights)} heights: "
                "give the same number of each, at least one."
            )
        for peak, width, height in zip(self.peaks, self.widths, self.heights, strict=True):
            _finite(peak=peak, width=width, height=height)
            if width <= 0:
                raise ValueError(f"width={width} must be above 0: choose the bump's spread.")

    def __call__(self, actions: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        return sum(
            height * (_square(actions - peak) / (-2 * width * width)).exp()
            for peak, width, height in zip(self.peaks, self.widths, self.heights, strict=True)
        )


@dataclass(frozen=True)
class Sum:
    """Q(a) = the sum of other critics."""

    parts: tuple[Critic, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts=() is empty: a sum needs at least one critic.")

    def __call__(self, actions: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        return sum(part(actions) for part in self.parts)


def largest_curvature(critic: Critic, low: int | float, high: int | float) -> float:
    """The largest -Q'' of a critic of numbers on an interval, by second differences.

    Args:
        critic: of actions [n].
        low: where the interval begins.
        high: where it ends, above `low`.

    Raises:
        ValueError: the interval is empty.
    """
    if not low < high:
        raise ValueError(f"the interval [{low}, {high}] is empty: high must lie above low.")
    x = torch.linspace(low, high, N_CURVATURE, dtype=torch.float64)
    h = (high - low) / 1000
    return float((2 * critic(x) - critic(x - h) - critic(x + h)).max()) / h**2


def stability_number(curvature: int | float, weight: int | float, n_steps: int) -> float:
    """(w/T) λ_max(-∇²Q): above 2, guided Euler steps jump further and further over a peak.

    Args:
        curvature: λ_max(-∇²Q) of the critic.
        weight: guidance weight w.
        n_steps: Euler steps T.
    """
    return weight / n_steps * curvature


def _square(offset: Tensor) -> Tensor:
    return offset.square() if offset.ndim == 1 else offset.square().flatten(1).sum(1)


def _finite(**values: int | float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}={value} must be finite: choose a number.")
