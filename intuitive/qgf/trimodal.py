"""Three modes in one dimension: the settings of the tri-modal flow, and presets A, B, C.

A: the critic is perfect, and only the scale of noisy actions misleads. B: a bump of the critic,
outside the data but inside the noise, that no return pays. C: the mean of the data deceives QGF.
Presets and numbers are ours: the paper's figure gives neither positions nor weights.

Everything is computed in float64, in which even guidance beyond the stability limit stays finite.

Source: Zhou et al. 2026, arXiv:2606.11087, Section 4 (a flow to three modes).
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from intuitive.common.runtime import never, seeded
from intuitive.common.settings import Settings

from .checks import settle
from .critics import (
    Critic,
    GaussianBumps,
    QuadraticCritic,
    Sum,
    largest_curvature,
    stability_number,
)
from .guidance import ESTIMATORS, SCHEDULES, Quadratures, Stale
from .mixture import GaussianMixture
from .sampling import GuidedSample, sample_guided

MEANS = {"A": (-2.0, 0.8, 2.0), "B": (-0.8, 0.3, 0.8), "C": (-0.8, 0.3, 0.8)}
STDS = {"A": 0.15, "B": 0.06, "C": 0.06}
VIEWS = {"A": (-4.0, 4.0), "B": (-3.0, 3.0), "C": (-3.0, 3.0)}
CRITICS = ("gaussian", "quadratic")
OFF_MODE = 3.0  # standard deviations from every mean


@functools.cache
def _mixture(preset: str) -> GaussianMixture:
    """The same for all settings, since it keeps what it works out for a time."""
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    return GaussianMixture(MEANS[preset], [STDS[preset]] * 3, third)


@dataclass(frozen=True, kw_only=True)
class TrimodalParams(Settings):
    """One setting of the tri-modal flow; `PRESETS` holds the three to start from."""

    preset: str = "B"  # decides the mixture
    peak: float = 0.3  # a*, where the main part of the critic is highest
    critic: str = "gaussian"  # or "quadratic": the main part
    width: float = 0.35  # of the Gaussian main part
    bump_position: float = -1.8
    bump_height: float = 2.0
    bump_width: float = 0.35
    bump_real: bool = False  # does the return pay for the bump?
    weight: float = 1.0  # w
    n_steps: int = 10  # Euler steps T
    estimator: str = "qgf"
    second: str = "none"  # another estimator beside it
    n_particles: int = 4000
    n_candidates: int = 4  # of best_of_n
    seed: int = 0
    schedule: str = "constant"  # or "score", the factor (1 - t)/t
    time: float = 1.0  # t, in [0, 1]; committed runs name it, and nothing computed hangs on it

    def __post_init__(self) -> None:
        for name, known in (
            ("preset", tuple(MEANS)),
            ("critic", CRITICS),
            ("estimator", tuple(ESTIMATORS)),
            ("second", ("none", *ESTIMATORS)),
            ("schedule", SCHEDULES),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {known}.")
        settle(
            self,
            {
                "peak": (-4, 4),
                "width": (0.05, 4),
                "bump_position": (-6, 6),
                "bump_height": (-10, 10),
                "bump_width": (0.05, 4),
                "weight": (0, 100),
                "n_steps": (1, 200),
                "n_particles": (100, 100_000),
                "n_candidates": (1, 64),
                "time": (0, 1),
            },
        )

    @property
    def mixture(self) -> GaussianMixture:
        """The behaviour-cloned policy's distribution of actions."""
        return _mixture(self.preset)

    @property
    def main(self) -> Critic:
        """The critic without its bump."""
        if self.critic == "quadratic":
            return QuadraticCritic(self.peak)
        return GaussianBumps((self.peak,), (self.width,), (1.0,))

    @property
    def q(self) -> Critic:
        """The critic: main part and bump."""
        bump = GaussianBumps((self.bump_position,), (self.bump_width,), (self.bump_height,))
        return Sum((self.main, bump)) if self.bump_height else self.main

    @property
    def true_return(self) -> Critic:
        """What an action really earns."""
        return self.q if self.bump_real else self.main

    @property
    def stability(self) -> float:
        """(w/T) times the critic's largest curvature on the data; Euler's limit is 2."""
        means, reach = MEANS[self.preset], OFF_MODE * STDS[self.preset]
        curvature = largest_curvature(self.q, means[0] - reach, means[-1] + reach)
        return stability_number(curvature, self.weight, self.n_steps)


PRESETS = {
    "A": TrimodalParams(preset="A", peak=0.8, critic="quadratic", bump_height=0.0),
    "B": TrimodalParams(),
    "C": TrimodalParams(
        preset="C",
        peak=-0.8,
        width=0.12,
        bump_position=0.8,
        bump_height=0.5,
        bump_width=0.6,
        bump_real=True,
        weight=4.0,
        n_steps=20,
    ),
}


def sample(
    params: TrimodalParams,
    name: str,
    weight: float | Tensor,
    n_particles: int | tuple[int, ...],
    stale: Stale = never,
    *,
    quadratures: Quadratures | None = None,
) -> GuidedSample:
    """Particles of a setting under one estimator, at its own weight or others.

    Args:
        params: the setting; its weight, estimator and n_particles are not used.
        name: in `ESTIMATORS`.
        weight: a number, or a tensor that broadcasts against the batch.
        n_particles: samples, or a batch shape.
        stale: turns true when nobody waits.
        quadratures: as in `sample_guided`.
    """
    return sample_guided(
        params.mixture,
        params.q,
        estimator=name,
        weight=weight,
        n_steps=params.n_steps,
        n_particles=n_particles,
        generator=seeded(params.seed),
        schedule=params.schedule,
        n_candidates=params.n_candidates,
        quadratures=quadratures,
        stale=stale,
    )


def modes(params: TrimodalParams, actions: Tensor) -> Tensor:
    """The nearest mode of each action, -1 beyond `OFF_MODE` standard deviations."""
    means = torch.tensor(MEANS[params.preset], dtype=torch.float64)
    away, mode = (actions[:, None] - means).abs().min(1)
    return torch.where(away <= OFF_MODE * STDS[params.preset], mode, -1)
