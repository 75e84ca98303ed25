"""What guidance does to samples of the ring, on a learned or the closed-form flow."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.arrays import read_only
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..checks import settle
from ..guidance import Stale
from ..ring import (
    STD,
    RewardBump,
    field_error,
    fitted_critic,
    learned_field,
    ring_mixture,
    tilted_reward,
)
from ..sampling import guided_velocity, sample_guided

EXTENT = 1.8  # half the side of the square that is drawn
GRID = 21  # arrows per side
SURFACE = 61  # points per side of the reward and critic
N_SHOWN = 200  # trajectories kept

ESTIMATORS = (
    "bc",
    "ood",
    "qgf",
    "qgf_jacobian",
    "flow_dps",
    "chain",
    "bptt",
    "grad_step",
    "best_of_n",
)
FIELDS = ("learned", "closed_form")
CRITICS = ("fitted", "reward")


@dataclass(frozen=True, kw_only=True)
class RingParams(Settings):
    """Settings of the ring; lengths in units of the ring's radius."""

    n_modes: int = 6
    peak_x: float = 0.9  # of the reward
    peak_y: float = 0.6
    estimator: str = "qgf"
    weight: float = 2.0
    n_steps: int = 20  # Euler steps T
    field: str = "learned"
    critic: str = "reward"
    t: float = 0.5  # time at which the arrows are drawn
    n_particles: int = 1000
    seed: int = 0  # of data, nets and particles

    def __post_init__(self) -> None:
        for name, names in (("estimator", ESTIMATORS), ("field", FIELDS), ("critic", CRITICS)):
            if getattr(self, name) not in names:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown: choose among {', '.join(names)}."
                )
        settle(
            self,
            {
                "n_modes": (5, 8),
                "peak_x": (-EXTENT, EXTENT),
                "peak_y": (-EXTENT, EXTENT),
                "weight": (0, 100),
                "n_steps": (1, 200),
                "t": (0, 1),
                "n_particles": (10, 20000),
            },
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RingResult:
    """What guidance makes of the ring; arrays are read-only."""

    params: RingParams
    modes: Float[np.ndarray, "k 2"]
    samples: Float[np.ndarray, "n 2"]
    trajectories: Float[np.ndarray, "t1 n_shown 2"]
    queries: Float[np.ndarray, "n_queried n_shown 2"]  # where the critic was asked
    query_times: Float[np.ndarray, " n_queried"]
    grid: Float[np.ndarray, " g"]  # positions along either axis
    arrow_time: float  # the Euler time nearest to `params.t`, of the next three
    velocity: Float[np.ndarray, "g g 2"]  # of the chosen field; [y, x]
    guidance: Float[np.ndarray, "g g 2"]  # what the estimator adds to it
    closed_form: Float[np.ndarray, "g g 2"]  # the closed-form field's velocity
    surface: Float[np.ndarray, " m"]  # positions along either axis
    reward: Float[np.ndarray, "m m"]  # [y, x]
    critic: Float[np.ndarray, "m m"]  # what the estimator sees of it
    mode_shares: Float[np.ndarray, " k"]  # of samples, by the nearest mode
    off_mode: float  # share of samples farther than 3σ from every mode
    mean_reward: float
    mean_critic: float
    bc_reward: float  # of the data
    tilt_reward: float  # of the exact tilt ∝ p_1 exp(w R), by weighting samples of p_1
    field_error: float  # rms of the chosen field's error over x_t at `arrow_time`, over its rms
    passes: int  # network passes per sample


def run(
    params: RingParams,
    *,
    stale: Stale = never,
    progress: Progress = silent,
) -> RingResult:
    """Guide samples of the ring towards a reward.

    Args:
        params: the settings.
        stale: turns true when nobody waits.
        progress: called while a net is trained.

    Raises:
        Cancelled: `stale()` became true.
    """
    mixture = ring_mixture(params.n_modes)
    reward = RewardBump(params.peak_x, params.peak_y)
    field, critic = mixture, reward
    waiting = {"stale": stale, "progress": progress}
    if params.field == "learned":
        field = learned_field(params.n_modes, params.seed, **waiting)
    if params.critic == "fitted":
        critic = fitted_critic(params.n_modes, params.seed, reward, **waiting)
    check(stale)
    sample = sample_guided(
        field,
        critic,
        estimator=params.estimator,
        weight=params.weight,
        n_steps=params.n_steps,
        n_particles=params.n_particles,
        generator=seeded(params.seed),
        stale=stale,
    )
    grid = torch.linspace(-EXTENT, EXTENT, GRID, dtype=torch.float32)
    surface = torch.linspace(-EXTENT, EXTENT, SURFACE, dtype=torch.float32)
    arrows, points = _square(grid), _square(surface)
    step = min(round(params.t * params.n_steps), params.n_steps - 1)
    velocity, guidance = guided_velocity(
        field,
        critic,
        arrows,
        estimator=params.estimator,
        weight=params.weight,
        n_steps=params.n_steps,
        steps=[step],
        stale=stale,
    )
    with torch.inference_mode():
        t = step / params.n_steps
        nearest = torch.cdist(sample.actions, mixture.means.to(sample.actions)).min(1)
        counts: Int[Tensor, " k"] = nearest.indices.bincount(minlength=params.n_modes)
        error = field_error(field, params.n_modes, t) if field is not mixture else 0.0
        bc_reward, tilt_reward = tilted_reward(params.n_modes, reward, params.weight)
        return RingResult(
            params=params,
            modes=read_only(mixture.means),
            samples=read_only(sample.actions),
            trajectories=read_only(sample.trajectory[:, :N_SHOWN]),
            query_times=read_only(sample.query_times),
            queries=read_only(sample.queries[:, :N_SHOWN]),
            grid=read_only(grid),
            arrow_time=t,
            velocity=read_only(velocity[0].reshape(GRID, GRID, 2)),
            guidance=read_only(guidance[0].reshape(GRID, GRID, 2)),
            closed_form=read_only(mixture.velocity(arrows, t).reshape(GRID, GRID, 2)),
            surface=read_only(surface),
            reward=read_only(reward(points).reshape(SURFACE, SURFACE)),
            critic=read_only(critic(points).reshape(SURFACE, SURFACE)),
            mode_shares=read_only(counts.to(torch.float32) / params.n_particles),
            off_mode=(nearest.values > 3 * STD).float().mean().item(),
            mean_reward=reward(sample.actions).mean().item(),
            mean_critic=critic(sample.actions).mean().item(),
            bc_reward=bc_reward,
            tilt_reward=tilt_reward,
            field_error=error,
            passes=sample.passes.total,
        )


def _square(axis: Tensor) -> Float[Tensor, "n 2"]:
    """All points of a square grid, row by row from below."""
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)
