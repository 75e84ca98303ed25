"""Guided policies act on the fork world: paths of the shipped agent, live."""

import threading
from dataclasses import dataclass

import numpy as np
import torch
from cachetools import LRUCache, cached
from jaxtyping import Bool, Float

from intuitive.common.arrays import read_only
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, one_thread, silent

from ..checks import settle
from ..fork import ForkWorld
from ..guidance import Stale
from ..iql import Agent
from ..policies import WAYS, known, roll_out_way, shipped_agent

SIGHT = ((-1.0, 1.55), (-1.0, 1.0))  # the part of the plane that is drawn, along x and y
SURFACE = (52, 41)  # points of the critic's value along x and y


@dataclass(frozen=True, kw_only=True)
class PolicyParams(Settings):
    """Which ways of acting roll out, and how."""

    ways: str = "bc,qgf"  # names of `WAYS`, separated by commas
    weight: float = 3.0  # of those that take one
    n_episodes: int = 60
    n_steps: int = 10  # Euler steps T
    seed: int = 0  # of first positions and noise; the agent is always the same

    def __post_init__(self) -> None:
        for name in self.names:
            known(name)
        settle(self, {"weight": (0, 1000), "n_episodes": (1, 1000), "n_steps": (1, 100)})

    @property
    def names(self) -> tuple[str, ...]:
        """The ways' names."""
        return tuple(self.ways.split(","))


@dataclass(frozen=True, kw_only=True, eq=False)
class WayRollouts:
    """Episodes of one way."""

    name: str
    label: str
    weight: float  # 0 for BC, 1 for best of N, whatever the slider says
    paths: Float[np.ndarray, "n t1 2"]
    won: Bool[np.ndarray, " n"]
    mean_return: float  # minus steps until the goal
    discounted: float  # mean return as the critic counts it
    first_q: float  # the critic's mean value of the first chunks

    @property
    def success(self) -> float:
        """Share of episodes won."""
        return float(self.won.mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyResult:
    """Rollouts of several ways from the same first positions."""

    params: PolicyParams
    goals: Float[np.ndarray, "n_goals 2"]  # the paying one first
    reach: float
    value_x: Float[np.ndarray, " mx"]
    value_y: Float[np.ndarray, " my"]
    value: Float[np.ndarray, "my mx"]  # what IQL thinks a position is worth
    ways: tuple[WayRollouts, ...]


@one_thread()
def run(
    params: PolicyParams,
    *,
    agent: Agent | None = None,
    stale: Stale = never,
    progress: Progress = silent,
) -> PolicyResult:
    """Let an agent act on the fork world in several ways.

    Args:
        params: the ways, their weight, and sizes.
        agent: trained nets; the first of its seeds acts. The shipped ones if None, whose episodes
            are kept.
        stale: turns true when nobody waits.
        progress: called after every decision.

    Raises:
        FileNotFoundError: no agent is given, and none was installed.
        Cancelled: `stale()` became true.
    """
    act = _kept if agent is None else _act
    agent = agent or shipped_agent()
    agent = agent.members(agent.seeds[0])
    world, made = ForkWorld(), []
    for place, name in enumerate(params.names):
        check(stale)
        way = WAYS[name]
        weight = params.weight if way.takes_weight else way.weights[0]
        sizes = weight, params.n_episodes, params.n_steps, params.seed

        def told(share: float, sentence: str, place=place, way=way) -> None:
            progress((place + share) / len(params.names), f"{way.label}: {sentence}")

        made.append(act(name, *sizes, agent=agent, stale=stale, progress=told))
    x, y = (
        torch.linspace(*ends, count, dtype=torch.float32)
        for ends, count in zip(SIGHT, SURFACE, strict=True)
    )
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    with torch.inference_mode():
        value = agent.value(torch.stack([columns, rows], -1).reshape(1, -1, 2))
        return PolicyResult(
            params=params,
            goals=read_only(world.goals()),
            reach=world.reach,
            value_x=read_only(x),
            value_y=read_only(y),
            value=read_only(value.reshape(SURFACE[::-1])),
            ways=tuple(made),
        )


def _act(
    name: str,
    weight: float,
    n_episodes: int,
    n_steps: int,
    seed: int,
    *,
    agent: Agent,
    stale: Stale,
    progress: Progress,
) -> WayRollouts:
    way = WAYS[name]
    done, first_q = roll_out_way(
        agent,
        ForkWorld(),
        way,
        weights=(weight,),
        n_episodes=n_episodes,
        seed=seed,
        n_steps=n_steps,
        stale=stale,
        progress=progress,
    )
    gamma = agent.config.gamma
    discounted = (gamma**-done.returns - 1) / (1 - gamma)  # -1 for each step before the goal
    return WayRollouts(
        name=name,
        label=way.label,
        weight=weight,
        paths=read_only(done.paths[0, 0]),
        won=read_only(done.won[0, 0]),
        mean_return=done.returns.mean().item(),
        discounted=discounted.mean().item(),
        first_q=first_q.item(),
    )


_kept = cached(cache=LRUCache(32), key=lambda *settings, **_: settings, lock=threading.Lock())(_act)
