"""What guidance does to samples of the ring: what the critic promises, and what is earned.

One run samples all `WEIGHTS` from the same noise and is kept, so that moving the weight costs
nothing and every particle has its counterpart at every weight.
"""

import dataclasses
import threading
from dataclasses import dataclass

import numpy as np
import torch
from cachetools import LRUCache, cached
from jaxtyping import Float
from torch import Tensor

from intuitive.common.arrays import read_only
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..checks import settle
from ..critics import stability_number
from ..guidance import Stale
from ..ring import (
    STD,
    TEACHINGS,
    RewardBump,
    field_error,
    fitted_critic,
    learned_field,
    ring_mixture,
    sharpest_bend,
    tilted_reward,
)
from ..sampling import guided_velocity, sample_guided

REACH = 1.5  # the peak's coordinates stay within
SIGHT = ((-2.2, 3.0), (-1.8, 1.8))  # the part of the plane that is drawn, along x and y
ARROWS = (13, 9)  # guidance arrows along x and y
SURFACE = (53, 37)  # points of the critic along x and y
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

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
UNPUSHED = ("bc", "grad_step", "best_of_n")  # add nothing to the velocity
FIELDS = ("learned", "closed_form")
CRITICS = ("reward", *TEACHINGS)


@dataclass(frozen=True, kw_only=True)
class RingParams(Settings):
    """Settings of the ring; lengths in units of the ring's radius."""

    n_modes: int = 6
    peak_x: float = 1.0  # of the reward
    peak_y: float = 0.0
    estimator: str = "qgf"
    weight: float = 1.0
    n_steps: int = 20  # Euler steps T
    field: str = "learned"
    critic: str = "brief"  # how a net was taught, or the reward itself
    n_particles: int = 200
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
                "peak_x": (-REACH, REACH),
                "peak_y": (-REACH, REACH),
                "weight": (0, 100),
                "n_steps": (1, 200),
                "n_particles": (10, 20000),
            },
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampled:
    """One run at several weights; arrays are read-only."""

    weights: tuple[float, ...]
    modes: Float[np.ndarray, "k 2"]
    trajectories: Float[np.ndarray, "t1 n_w n 2"]
    pushes: Float[np.ndarray, "t n_w n 2"]  # guidance added to the velocity, w included
    queries: Float[np.ndarray, "n_queried n_w n 2"]  # where the critic was asked
    query_times: Float[np.ndarray, " n_queried"]
    arrows_x: Float[np.ndarray, " gx"]
    arrows_y: Float[np.ndarray, " gy"]
    slopes: Float[np.ndarray, "t gy gx 2"]  # guidance at weight 1
    surface_x: Float[np.ndarray, " mx"]
    surface_y: Float[np.ndarray, " my"]
    critic: Float[np.ndarray, "my mx"]  # what it says of the plane
    promised: Float[np.ndarray, "n_w n"]  # by the critic, of the actions
    earned: Float[np.ndarray, "n_w n"]  # the reward of the actions
    nearest: Float[np.ndarray, "n_w n"]  # distance to the nearest mode's centre
    shares: Float[np.ndarray, "n_w k"]  # of the actions, by nearest mode
    bend: float  # λ_max(-∇²Q) around the data
    field_error: float  # rms of the field's error over x_t at t = 0.5, over its rms
    passes: int  # network passes per action

    @property
    def off_mode(self) -> Float[np.ndarray, " n_w"]:
        """Share of the actions farther than 3σ from every mode."""
        return (self.nearest > 3 * STD).mean(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class RingResult:
    """A run, and which of its weights is looked at."""

    params: RingParams
    sampled: Sampled
    place: int  # of the weight
    bc_reward: float  # mean reward of p_1
    tilt_reward: float  # of the exact tilt ∝ p_1 exp(w R), by weighting samples of p_1

    @property
    def path(self) -> Float[np.ndarray, "t1 n 2"]:
        """Positions of all particles at this weight."""
        return self.sampled.trajectories[:, self.place]

    @property
    def promised(self) -> float:
        """What the critic says of the actions, mean."""
        return float(self.sampled.promised[self.place].mean())

    @property
    def earned(self) -> float:
        """Their mean reward."""
        return float(self.sampled.earned[self.place].mean())

    @property
    def off_mode(self) -> float:
        """Share of the actions farther than 3σ from every mode."""
        return float(self.sampled.off_mode[self.place])

    @property
    def stability(self) -> float:
        """(w/T) λ_max(-∇²Q); nothing where no gradient is added."""
        if self.params.estimator in UNPUSHED:
            return 0.0
        return stability_number(self.sampled.bend, self.params.weight, self.params.n_steps)


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
    weights = tuple(sorted({*WEIGHTS, params.weight}))
    all_but_weight = dataclasses.replace(params, weight=0.0)
    sampled = _sample(all_but_weight, weights, stale=stale, progress=progress)
    reward = RewardBump(params.peak_x, params.peak_y)
    bc_reward, tilt_reward = tilted_reward(params.n_modes, reward, params.weight)
    return RingResult(
        params=params,
        sampled=sampled,
        place=weights.index(params.weight),
        bc_reward=bc_reward,
        tilt_reward=tilt_reward,
    )


@cached(
    cache=LRUCache(8), key=lambda params, weights, **_: (params, weights), lock=threading.Lock()
)
def _sample(
    params: RingParams, weights: tuple[float, ...], *, stale: Stale, progress: Progress
) -> Sampled:
    mixture = ring_mixture(params.n_modes)
    reward = RewardBump(params.peak_x, params.peak_y)
    field, critic = mixture, reward
    waiting = {"stale": stale, "progress": progress}
    if params.field == "learned":
        field = learned_field(params.n_modes, params.seed, **waiting)
    if params.critic != "reward":
        teaching = TEACHINGS[params.critic]
        critic = fitted_critic(params.n_modes, params.seed, reward, teaching, **waiting)
    check(stale)
    shape = (len(weights), params.n_particles)
    noise = torch.randn(
        params.n_particles, 2, generator=seeded(params.seed), dtype=torch.float32
    ).expand(*shape, 2)
    sample = sample_guided(
        field,
        critic,
        estimator=params.estimator,
        weight=torch.tensor(weights, dtype=torch.float32)[:, None],
        n_steps=params.n_steps,
        n_particles=shape,
        generator=seeded(params.seed),
        start=noise.contiguous(),
        stale=stale,
    )
    arrows, surface = _axes(ARROWS, 0.2), _axes(SURFACE)
    _, slopes = guided_velocity(
        field,
        critic,
        _plane(*arrows),
        estimator=params.estimator,
        weight=1.0,
        n_steps=params.n_steps,
        stale=stale,
    )
    with torch.inference_mode():
        actions = sample.actions.reshape(-1, 2)
        nearest = torch.cdist(actions, mixture.means.to(actions)).min(1)
        ends = torch.nn.functional.one_hot(nearest.indices, params.n_modes)
        shares = ends.to(torch.float32).reshape(*shape, -1).mean(1)
        return Sampled(
            weights=weights,
            modes=read_only(mixture.means),
            trajectories=read_only(sample.trajectory),
            pushes=read_only(sample.guidance),
            queries=read_only(sample.queries),
            query_times=read_only(sample.query_times),
            arrows_x=read_only(arrows[0]),
            arrows_y=read_only(arrows[1]),
            slopes=read_only(slopes.reshape(params.n_steps, ARROWS[1], ARROWS[0], 2)),
            surface_x=read_only(surface[0]),
            surface_y=read_only(surface[1]),
            critic=read_only(critic(_plane(*surface)).reshape(SURFACE[::-1])),
            promised=read_only(critic(actions).reshape(shape)),
            earned=read_only(reward(actions).reshape(shape)),
            nearest=read_only(nearest.values.reshape(shape)),
            shares=read_only(shares),
            bend=sharpest_bend(critic),
            field_error=field_error(field, params.n_modes, 0.5) if field is not mixture else 0.0,
            passes=sample.passes.total,
        )


def _axes(counts: tuple[int, int], inset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Positions along x and y, in sight and `inset` from its edges."""
    x, y = (
        torch.linspace(low + inset, high - inset, count, dtype=torch.float32)
        for (low, high), count in zip(SIGHT, counts, strict=True)
    )
    return x, y


def _plane(x: Tensor, y: Tensor) -> Float[Tensor, "n 2"]:
    """All points of a grid, row by row from below."""
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], -1).reshape(-1, 2)
