"""Estimators on the fork world: a trained agent acts, and what it wins is compared.

`evaluate` rolls out one estimator at many weights and for many seeds in one batch;
`Curve.best_weight` picks its weight on seeds that are not scored. What `benchmarks/qgf_fork.py`
measured so is read by results.py.
"""

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from intuitive.common.runtime import Measurement, measure, never, seeded
from intuitive.common.training import Progress, silent

from .fork import ForkWorld, Rollouts, roll_out, scripted_episodes
from .iql import N_CRITICS, Agent, Chunks, IQLConfig, load_agent, make_chunks
from .model import BoundCritic, Field
from .sampling import GuidedSample, sample_guided

WEIGHTS_FILE = "fork.safetensors"
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Way:
    """One way of acting: an estimator of `sample_guided` and what belongs to it."""

    estimator: str
    weights: tuple[float, ...] = WEIGHTS  # those that are tried
    n_candidates: int = 1
    label: str = ""

    @property
    def takes_weight(self) -> bool:
        """Is there a weight to choose?"""
        return len(self.weights) > 1


WAYS = {
    "bc": Way("bc", (0.0,), label="BC"),
    "ood": Way("ood", label="OOD"),
    "qgf": Way("qgf", label="QGF"),
    "qgf_jacobian": Way("qgf_jacobian", label="QGF-Jacobian"),
    "chain": Way("chain", label="QGF-chain"),
    "bptt": Way("bptt", label="BPTT"),
    "robust_q": Way("robust_q", label="RobustQ"),
    "grad_step": Way("grad_step", label="GradStep"),
    "cfgrl": Way("cfgrl", (0.3, 0.6, 1.0, 1.5, 2.0, 3.0), label="CFGRL"),
    "best_of_n_4": Way("best_of_n", (1.0,), 4, "best of 4"),
    "best_of_n_16": Way("best_of_n", (1.0,), 16, "best of 16"),
}


def fork_chunks(world: ForkWorld, config: IQLConfig, n_episodes: int, seed: int) -> Chunks:
    """The training data of one seed: scripted episodes cut into chunks."""
    episodes = scripted_episodes(world, n_episodes, seeded(seed))
    ends = torch.zeros_like(episodes.alive)
    ends[:, -1] = True
    return make_chunks(
        episodes.states[:, :-1].flatten(0, 1),
        episodes.states[:, 1:].flatten(0, 1),
        episodes.actions.flatten(0, 1),
        episodes.rewards.flatten(),
        episodes.alive.flatten(),
        ends.flatten(),
        horizon=config.horizon,
        gamma=config.gamma,
    )


# ------------------------------------------------------------------------------------ deciding


def critic_at(agent: Agent, states: Float[Tensor, "s *b d"]) -> BoundCritic:
    """The smaller of the two target critics at some states, for flat chunks [n, a]."""
    return BoundCritic(agent.critics, states.flatten(1, -2), n_members=N_CRITICS)


def decide(
    agent: Agent,
    states: Float[Tensor, "s *b d"],
    way: Way,
    weight: int | float | Float[Tensor, "*w"],
    generator: torch.Generator,
    *,
    n_steps: int = 10,
    stale: Callable[[], bool] = never,
) -> GuidedSample:
    """One chunk for every state.

    Args:
        agent: nets of s seeds, on the states' device.
        states: their states; any further axes.
        way: what to do.
        weight: a number, or weights that broadcast against [s, *b].
        generator: draws the noise, on the states' device.
        n_steps: Euler steps T.
        stale: turns true when nobody waits.

    Returns:
        The sample; its `actions` are [s, *b, chunk_size], clipped to [-1, 1].

    Raises:
        ValueError: what `sample_guided` refuses.
        Cancelled: `stale()` became true.
    """
    with torch.inference_mode(False):  # what the nets are bound to takes part in gradients
        flat = states.flatten(1, -2).clone()
    return sample_guided(
        Field(agent.policy, flat),
        critic_at(agent, states),
        estimator=way.estimator,
        weight=weight,
        n_steps=n_steps,
        n_particles=tuple(states.shape[:-1]),
        generator=generator,
        clip=(-1.0, 1.0),
        n_candidates=way.n_candidates,
        stale=stale,
        robust_critic=BoundCritic(agent.robust, flat),
        positive_field=Field(agent.improved, flat),
    )


# ----------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One way of acting at all its weights and for all seeds; lists are [seed][weight]."""

    way: str
    weights: tuple[float, ...]
    seeds: tuple[int, ...]
    success: tuple[tuple[float, ...], ...]  # share of episodes won
    returns: tuple[tuple[float, ...], ...]  # mean; minus steps until the goal
    first_q: tuple[tuple[float, ...], ...]  # what the critic says of the first chunk, mean

    def at(
        self, weight: int | float, seeds: Sequence[int], measure: str = "success"
    ) -> list[float]:
        """One measure at one weight, for some seeds.

        Raises:
            ValueError: the weight or a seed was not measured.
        """
        if weight not in self.weights or not set(seeds) <= set(self.seeds):
            raise ValueError(
                f"weight={weight} and seeds={tuple(seeds)} must be among {self.weights} and "
                f"{self.seeds}: nothing else was measured."
            )
        column = self.weights.index(weight)
        return [getattr(self, measure)[self.seeds.index(seed)][column] for seed in seeds]

    def best_weight(self, seeds: Sequence[int]) -> float:
        """The weight of the highest mean return over some seeds, which should not be scored."""
        return max(self.weights, key=lambda w: statistics.mean(self.at(w, seeds, "returns")))


@torch.inference_mode(False)  # gradients want ordinary tensors
@torch.no_grad()
def roll_out_way(
    agent: Agent,
    world: ForkWorld,
    way: Way,
    *,
    weights: Sequence[int | float],
    n_episodes: int,
    seed: int,
    n_steps: int = 10,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> tuple[Rollouts, Float[Tensor, "s n_w"]]:
    """Episodes [s, n_w, n] of one way, and the critic's mean opinion of the first chunks.

    First positions are the same for every weight and every way of one `seed`.
    """
    device = agent.value.biases[0].device
    generator = seeded(seed, device)
    shape = (len(agent.seeds), len(weights), n_episodes)
    starts = world.starts(shape[0], 1, n_episodes, generator=generator).expand(*shape, 2)
    weight = torch.tensor(weights, device=device, dtype=torch.float32)[:, None]
    first_q: list[Tensor] = []

    def act(states: Tensor) -> Tensor:
        chunk = decide(agent, states, way, weight, generator, n_steps=n_steps, stale=stale).actions
        if not first_q:
            q = critic_at(agent, states)(chunk.reshape(-1, chunk.shape[-1]))
            first_q.append(q.reshape(shape).mean(-1))
        return chunk

    done = roll_out(world, starts.contiguous(), act, stale=stale, progress=progress)
    return done, first_q[0]


def evaluate(
    agent: Agent,
    world: ForkWorld,
    name: str,
    *,
    n_episodes: int = 300,
    seed: int = 0,
    n_steps: int = 10,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Curve:
    """Roll out one of `WAYS` at all its weights, for all seeds of the agent at once.

    Raises:
        ValueError: no such way.
        Cancelled: `stale()` became true.
    """
    way = known(name)
    done, first_q = roll_out_way(
        agent,
        world,
        way,
        weights=way.weights,
        n_episodes=n_episodes,
        seed=seed,
        n_steps=n_steps,
        stale=stale,
        progress=progress,
    )

    def rows(values: Tensor) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(row) for row in values.tolist())

    return Curve(
        way=name,
        weights=way.weights,
        seeds=agent.seeds,
        success=rows(done.won.float().mean(-1)),
        returns=rows(done.returns.mean(-1)),
        first_q=rows(first_q),
    )


def decision_time(
    agent: Agent, name: str, *, n: int = 300, repeats: int = 5, n_steps: int = 10
) -> Measurement:
    """Time of deciding for n states at once with one of `WAYS`, for the agent's first seed.

    Raises:
        ValueError: no such way.
    """
    way = known(name)
    device = agent.value.biases[0].device
    one = agent.members(agent.seeds[0]).to(device)
    states = torch.zeros(1, n, agent.config.state_size, device=device, dtype=torch.float32)
    generator = seeded(0, device)
    return measure(
        lambda: decide(one, states, way, 1.0, generator, n_steps=n_steps),
        device=device,
        repeats=repeats,
    )


def known(name: str) -> Way:
    """A way by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in WAYS:
        raise ValueError(f"way {name!r} is unknown: choose among {', '.join(WAYS)}.")
    return WAYS[name]


# ------------------------------------------------------------------------------ the shipped nets


@functools.cache
def shipped_agent() -> Agent:
    """Seed 0 of `benchmarks/qgf_fork.py`, as installed with the package.

    Raises:
        FileNotFoundError: the package was installed without it.
    """
    return load_agent(Path(__file__).parent / "weights" / WEIGHTS_FILE)
