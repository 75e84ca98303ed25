"""The fork world: a point in the plane, four goals, and scripted episodes that reach any of them.

Episodes start near the middle. The scripted walker picks a goal at random and goes there by a left
or a right curve: eight routes from the start. Only goal 1 pays, so imitation succeeds one time in
four and a policy has to choose among its own modes.

Everything runs over any number of episodes at once, on the device of its generator or states.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.training import Progress, silent

GOAL = 0  # index of the goal that pays


@dataclass(frozen=True, kw_only=True)
class ForkWorld:
    """Sizes of the world; lengths in the plane's unit, time in steps."""

    n_goals: int = 4
    radius: float = 0.8  # of the circle of goals
    reach: float = 0.12  # within this distance of the goal the episode is won
    stride: float = 0.08  # way of one step at action length 1
    start_spread: float = 0.1  # standard deviation of the first position
    n_steps: int = 50  # per episode
    bend: float = 0.6  # sideways share of the scripted action, far from the goal
    noise: float = 0.2  # standard deviation of the scripted action's noise
    slowest: float = 0.6  # scripted speed is uniform between this and 1

    def __post_init__(self) -> None:
        whole_fields(self, n_goals=1, n_steps=1)
        if not 0 < self.reach < self.radius:
            raise ValueError(
                f"reach={self.reach} must lie between 0 and radius={self.radius}: else every "
                "episode is won at the start."
            )

    def goals(self, like: Tensor | None = None) -> Float[Tensor, "n_goals 2"]:
        """Places of the goals, the paying one first, at the right."""
        angles = 2 * math.pi * torch.arange(self.n_goals, dtype=torch.float32) / self.n_goals
        goals = self.radius * torch.stack([angles.cos(), angles.sin()], -1)
        return goals if like is None else goals.to(like)

    def starts(self, *shape: int, generator: torch.Generator) -> Float[Tensor, "*shape 2"]:
        """First positions."""
        drawn = torch.randn(
            *shape, 2, generator=generator, device=generator.device, dtype=torch.float32
        )
        return self.start_spread * drawn

    def step(
        self, states: Float[Tensor, "*b 2"], actions: Float[Tensor, "*b 2"]
    ) -> Float[Tensor, "*b 2"]:
        """The next positions; actions are clipped to [-1, 1]."""
        return states + self.stride * actions.clamp(-1, 1)

    def won(self, states: Float[Tensor, "*b 2"]) -> Bool[Tensor, "*b"]:
        """Whether a position is within reach of the paying goal."""
        return (states - self.goals(states)[GOAL]).norm(dim=-1) < self.reach


@dataclass(frozen=True, eq=False)
class Episodes:
    """Recorded episodes of equal length; they go on after the goal is reached."""

    states: Float[Tensor, "n t1 2"]  # one more than steps
    actions: Float[Tensor, "n t 2"]
    rewards: Float[Tensor, "n t"]  # -1 unless the step ends within reach of the goal, then 0
    alive: Bool[Tensor, "n t"]  # False where the step ends there: nothing is paid after it
    targets: Float[Tensor, "n 2"]  # the goal that the walker chose


def scripted_episodes(world: ForkWorld, n_episodes: int, generator: torch.Generator) -> Episodes:
    """Episodes of the scripted walker.

    Its action is speed · (u ± bend · u⊥ · min(1, r / radius)) · min(1, r / stride) + noise, clipped
    to [-1, 1], where u is the unit vector to its goal, r the distance, and the side of the bend and
    the speed are drawn once per episode.

    Raises:
        ValueError: fewer than one episode.
    """
    if n_episodes < 1:
        raise ValueError(f"n_episodes={n_episodes} must be at least 1.")
    device = generator.device

    def uniform() -> Tensor:
        return torch.rand(n_episodes, 1, generator=generator, device=device, dtype=torch.float32)

    state = world.starts(n_episodes, generator=generator)
    targets = world.goals(state)[
        (uniform()[:, 0] * world.n_goals).long().clamp(max=world.n_goals - 1)
    ]
    side = torch.where(uniform() < 0.5, -1.0, 1.0)
    speed = world.slowest + (1 - world.slowest) * uniform()
    states, actions = [state], []
    for _ in range(world.n_steps):
        way = targets - state
        r = way.norm(dim=-1, keepdim=True)
        u = way / r.clamp(min=1e-6)
        across = torch.stack([-u[:, 1], u[:, 0]], -1)
        bent = u + side * world.bend * across * (r / world.radius).clamp(max=1)
        noise = torch.randn(n_episodes, 2, generator=generator, device=device, dtype=torch.float32)
        action = speed * bent * (r / world.stride).clamp(max=1) + world.noise * noise
        actions.append(action.clamp(-1, 1))
        state = world.step(state, actions[-1])
        states.append(state)
    alive = torch.stack([~world.won(state) for state in states[1:]], 1)
    return Episodes(
        torch.stack(states, 1), torch.stack(actions, 1), -alive.to(torch.float32), alive, targets
    )


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Episodes of a policy, with any leading axes; a won episode stays where it was won."""

    paths: Float[Tensor, "*b t1 2"]
    won: Bool[Tensor, "*b"]
    returns: Float[Tensor, "*b"]  # minus the number of steps that did not end within reach


def roll_out(
    world: ForkWorld,
    starts: Float[Tensor, "*b 2"],
    act: Callable[[Tensor], Tensor],
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Rollouts:
    """Let a policy of action chunks act until the episodes end.

    Args:
        world: the world.
        starts: first positions.
        act: positions [*b, 2] to chunks [*b, horizon * 2], carried out in full before the next.
        stale: turns true when nobody waits; asked before every decision.
        progress: called after every decision.

    Raises:
        ValueError: `act` returns another shape.
        Cancelled: `stale()` became true.
    """
    state, paths = starts, [starts]
    won = world.won(starts)
    returns = torch.zeros(starts.shape[:-1], device=starts.device, dtype=torch.float32)
    while len(paths) <= world.n_steps:
        check(stale)
        chunk = act(state)
        if chunk.shape[:-1] != state.shape[:-1] or chunk.shape[-1] % 2:
            raise ValueError(
                f"act returned {tuple(chunk.shape)} for positions {tuple(state.shape)}: return "
                "[*b, horizon * 2]."
            )
        for action in chunk.unflatten(-1, (-1, 2)).unbind(-2):
            if len(paths) > world.n_steps:
                break
            state = torch.where(won[..., None], state, world.step(state, action))
            won = won | world.won(state)
            returns = returns - (~won).float()
            paths.append(state)
        progress((len(paths) - 1) / world.n_steps, f"Step {len(paths) - 1} of {world.n_steps}")
    return Rollouts(torch.stack(paths, -2), won, returns)
