"""A ring of modes in the plane: learned and closed-form flow side by side, and a reward to move.

`ring` is the explorer's compute function. The velocity net is trained once per number of modes and
seed; the reward's peak may move without it. The critic is the reward itself, or a net fitted to
the reward of the data's actions, anew for every peak.
"""

import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from .learn import fit_critic, fit_velocity
from .mixture import GaussianMixture
from .model import BoundCritic, Field
from .sampling import guided_velocity, sample_guided

STD = 0.1  # of every mode
REWARD_WIDTH = 0.5  # standard deviation of the reward's bump
N_DATA = 4000  # samples that the nets learn from
N_TILT = 20000  # samples behind the exact tilt's mean reward
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

T = TypeVar("T")


def ring_mixture(n_modes: int) -> GaussianMixture:
    """Equal modes of width 0.1 on the unit circle, the first at the right."""
    angles = [2 * math.pi * mode / n_modes for mode in range(n_modes)]
    means = [[math.cos(angle), math.sin(angle)] for angle in angles]
    return GaussianMixture(means, [STD] * n_modes, [1 / n_modes] * n_modes)


@dataclass(frozen=True)
class RewardBump:
    """R(a) = exp(-|a - peak|² / (2 · 0.5²)), from actions [n, 2] to rewards [n]."""

    x: float
    y: float

    def __call__(self, actions: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        way = actions - actions.new_tensor([self.x, self.y])
        return (way.square().sum(-1) / (-2 * REWARD_WIDTH**2)).exp()


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
        for name, least, most in (
            ("n_modes", 5, 8),
            ("peak_x", -EXTENT, EXTENT),
            ("peak_y", -EXTENT, EXTENT),
            ("weight", 0, 100),
            ("n_steps", 1, 200),
            ("t", 0, 1),
            ("n_particles", 10, 20000),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(
                    f"{name}={getattr(self, name)} must lie in [{least}, {most}]: choose one in "
                    "there."
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class RingResult:
    """What guidance makes of the ring; arrays are read-only."""

    params: RingParams
    modes: Float[np.ndarray, "k 2"]
    samples: Float[np.ndarray, "n 2"]
    trajectories: Float[np.ndarray, "t1 n_shown 2"]
    queries: Float[np.ndarray, "n_queried n_shown 2"]  # where the critic was asked
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


class _Nets:
    """Trained nets used last, by key; may be asked from several threads."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._kept: OrderedDict[Hashable, object] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return made


_fields, _critics = _Nets(8), _Nets(32)


def ring_data(n_modes: int, seed: int) -> Float[Tensor, "n 2"]:
    """The actions that flow and critic learn from."""
    return ring_mixture(n_modes).sample(N_DATA, seeded(seed))


def learned_field(
    n_modes: int,
    seed: int,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Field:
    """The velocity net of a ring: trained at the first call, then kept.

    Raises:
        Cancelled: `stale()` became true while it was trained.
    """
    return _fields.get(
        (n_modes, seed),
        lambda: fit_velocity(ring_data(n_modes, seed), seed=seed, stale=stale, progress=progress),
    )


def fitted_critic(
    n_modes: int,
    seed: int,
    reward: RewardBump,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> BoundCritic:
    """The critic net of a ring and a reward, fitted on the data's actions alone; kept likewise.

    Raises:
        Cancelled: `stale()` became true while it was trained.
    """

    def fit() -> BoundCritic:
        actions = ring_data(n_modes, seed)
        return fit_critic(actions, reward(actions), seed=seed, stale=stale, progress=progress)

    return _critics.get((n_modes, seed, reward), fit)


def ring(
    params: RingParams,
    *,
    stale: Callable[[], bool] = never,
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
    grid = torch.linspace(-EXTENT, EXTENT, GRID)
    surface = torch.linspace(-EXTENT, EXTENT, SURFACE)
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
        error = _field_error(field, params.n_modes, t) if field is not mixture else 0.0
        bc_reward, tilt_reward = _tilted_reward(params.n_modes, reward, params.weight)
        return RingResult(
            params=params,
            modes=_array(mixture.means),
            samples=_array(sample.actions),
            trajectories=_array(sample.trajectory[:, :N_SHOWN]),
            queries=_array(sample.queries[:, :N_SHOWN]),
            grid=_array(grid),
            arrow_time=t,
            velocity=_array(velocity[0].reshape(GRID, GRID, 2)),
            guidance=_array(guidance[0].reshape(GRID, GRID, 2)),
            closed_form=_array(mixture.velocity(arrows, t).reshape(GRID, GRID, 2)),
            surface=_array(surface),
            reward=_array(reward(points).reshape(SURFACE, SURFACE)),
            critic=_array(critic(points).reshape(SURFACE, SURFACE)),
            mode_shares=_array(counts / params.n_particles),
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


@functools.lru_cache(maxsize=32)
def _field_error(field: Field, n_modes: int, t: float) -> float:
    mixture, generator = ring_mixture(n_modes), seeded(0)
    x_1 = mixture.sample(N_DATA, generator)
    x = (1 - t) * torch.randn(x_1.shape, generator=generator) + t * x_1
    want = mixture.velocity(x, t)
    return ((field.velocity(x, t) - want).square().mean() / want.square().mean()).sqrt().item()


@functools.lru_cache(maxsize=128)
def _tilted_reward(n_modes: int, reward: RewardBump, weight: float) -> tuple[float, float]:
    """Mean reward of p_1 and of its exact tilt, from the same samples of p_1."""
    values = reward(ring_mixture(n_modes).sample(N_TILT, seeded(0)))
    return values.mean().item(), (values * (weight * values).softmax(0)).sum().item()


def _array(values: Tensor) -> np.ndarray:
    array = values.numpy(force=True)
    array.setflags(write=False)
    return array
