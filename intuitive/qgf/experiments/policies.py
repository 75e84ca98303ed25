"""Guided policies act on the fork world: paths of the shipped agent, live."""

from dataclasses import dataclass

import numpy as np
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


@dataclass(frozen=True, kw_only=True)
class PolicyParams(Settings):
    """Which ways of acting roll out, and how."""

    ways: str = "bc,qgf,ood,best_of_n_4"  # names of `WAYS`, separated by commas
    weight: float = 3.0  # of those that take one
    n_episodes: int = 40
    n_steps: int = 10  # Euler steps T
    seed: int = 0

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
    success: float  # share of episodes won
    mean_return: float
    first_q: float  # the critic's mean value of the first chunks


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyResult:
    """Rollouts of several ways from the same first positions."""

    params: PolicyParams
    goals: Float[np.ndarray, "n_goals 2"]  # the paying one first
    reach: float
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
        agent: trained nets; the first of its seeds acts. The shipped ones if None.
        stale: turns true when nobody waits.
        progress: called after every decision.

    Raises:
        FileNotFoundError: no agent is given, and none was installed.
        Cancelled: `stale()` became true.
    """
    agent = agent or shipped_agent()
    agent = agent.members(agent.seeds[0])
    world, made = ForkWorld(), []
    for place, name in enumerate(params.names):
        check(stale)
        way = WAYS[name]
        weight = params.weight if way.takes_weight else way.weights[0]
        done, first_q = roll_out_way(
            agent,
            world,
            way,
            weights=(weight,),
            n_episodes=params.n_episodes,
            seed=params.seed,
            n_steps=params.n_steps,
            stale=stale,
            progress=lambda share, sentence, place=place, way=way: progress(
                (place + share) / len(params.names), f"{way.label}: {sentence}"
            ),
        )
        won = done.won[0, 0]
        made.append(
            WayRollouts(
                name=name,
                label=way.label,
                weight=weight,
                paths=read_only(done.paths[0, 0]),
                won=read_only(won),
                success=won.float().mean().item(),
                mean_return=done.returns.mean().item(),
                first_q=first_q.item(),
            )
        )
    return PolicyResult(
        params=params, goals=read_only(world.goals()), reach=world.reach, ways=tuple(made)
    )
