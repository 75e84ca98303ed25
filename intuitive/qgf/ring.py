"""A ring of modes in the plane: the closed-form flow, a learned one, and a reward's bump.

The velocity net is trained once per number of modes and seed; the reward's peak may move without
it. A critic is the reward itself, or a net fitted to ratings of the data's actions, anew for every
peak: `TEACHINGS` says to how many of them and for how long.
"""

import functools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from cachetools import LRUCache, cached
from jaxtyping import Float
from torch import Tensor

from intuitive.common.runtime import never, seeded
from intuitive.common.training import Progress, silent

from .learn import fit_critic, fit_velocity
from .mixture import GaussianMixture
from .model import BoundCritic, Field

STD = 0.1  # of every mode
REWARD_WIDTH = 0.5  # standard deviation of the reward's bump
N_DATA = 4000  # samples that the velocity net learns from
RATING_ERROR = 0.2  # standard deviation of a rating around the reward
BENT = 1.5, 41  # half the side of the square where a critic's bend is looked for; points per side
N_TILT = 20000  # samples behind the exact tilt's mean reward


@functools.cache
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


@dataclass(frozen=True)
class Teaching:
    """How a critic is fitted."""

    n_rated: int  # of the data's actions, each with one rating
    n_steps: int  # of training


TEACHINGS = {"brief": Teaching(200, 200), "long": Teaching(N_DATA, 1500)}


def ring_data(n_modes: int, seed: int) -> Float[Tensor, "n 2"]:
    """The actions that flow and critic learn from."""
    return ring_mixture(n_modes).sample(N_DATA, seeded(seed))


@cached(
    cache=LRUCache(8),
    key=lambda n_modes, seed, **_: (
        n_modes,
        seed,
    ),
    lock=threading.Lock(),
)
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
    return fit_velocity(ring_data(n_modes, seed), seed=seed, stale=stale, progress=progress)


@cached(
    cache=LRUCache(32),
    key=lambda n_modes, seed, reward, teaching, **_: (n_modes, seed, reward, teaching),
    lock=threading.Lock(),
)
def fitted_critic(
    n_modes: int,
    seed: int,
    reward: RewardBump,
    teaching: Teaching,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> BoundCritic:
    """The critic net of a ring and a reward, fitted on rated actions of the data; kept likewise.

    A rating is the reward and an error of standard deviation `RATING_ERROR`, which stays the same
    for an action while the reward moves.

    Raises:
        Cancelled: `stale()` became true while it was trained.
    """
    actions = ring_data(n_modes, seed)[: teaching.n_rated]
    errors = torch.randn(len(actions), generator=seeded(seed + 1), dtype=torch.float32)
    return fit_critic(
        actions,
        reward(actions) + RATING_ERROR * errors,
        seed=seed,
        n_steps=teaching.n_steps,
        stale=stale,
        progress=progress,
    )


@cached(cache=LRUCache(32), lock=threading.Lock())
def sharpest_bend(critic: RewardBump | BoundCritic) -> float:
    """The largest eigenvalue of -∇²Q on a grid over the data's square, |a_i| at most 1.5.

    Times w/T it is the stability number of critics.py.
    """
    axis = torch.linspace(-BENT[0], BENT[0], BENT[1], dtype=torch.float32)
    with torch.inference_mode(False), torch.enable_grad():
        points = torch.cartesian_prod(axis, axis).requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
        rows = [
            torch.autograd.grad(slope[:, i].sum(), points, retain_graph=True)[0] for i in range(2)
        ]
    return -torch.linalg.eigvalsh(torch.stack(rows, -1))[:, 0].min().item()


@cached(cache=LRUCache(32), lock=threading.Lock())
def field_error(field: Field, n_modes: int, t: float) -> float:
    """Rms error of a field over x_t at one time, as a share of the closed form's rms."""
    mixture, generator = ring_mixture(n_modes), seeded(0)
    x_1 = mixture.sample(N_DATA, generator)
    x = (1 - t) * torch.randn(x_1.shape, generator=generator, dtype=torch.float32) + t * x_1
    want = mixture.velocity(x, t)
    return ((field.velocity(x, t) - want).square().mean() / want.square().mean()).sqrt().item()


@cached(cache=LRUCache(128), lock=threading.Lock())
def tilted_reward(n_modes: int, reward: RewardBump, weight: float) -> tuple[float, float]:
    """Mean reward of p_1 and of its exact tilt, from the same samples of p_1."""
    values = reward(ring_mixture(n_modes).sample(N_TILT, seeded(0)))
    return values.mean().item(), (values * (weight * values).softmax(0)).sum().item()
