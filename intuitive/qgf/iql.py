"""Offline training of what Q-guided flow needs: an IQL critic and a flow policy, both on chunks.

    chunks = stack([make_chunks(..., horizon=5, gamma=0.98)])   # one data set per seed
    agent = train(IQLConfig(state_size=2, action_size=2), chunks, seeds=(0,))

Policy and critic never meet while they learn: the critic is trained in sample (Kostrikov et al.
2022, arXiv:2110.06169), the policy by flow matching. All seeds learn at once, each from its own
data and its own randomness, so that a seed's agent does not depend on its company. On CUDA the
gradients are recorded once as a graph and replayed.

Source: arXiv:2606.11087v1, section 4 and Table 1; chunk weights as in its released code.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from intuitive.common.checks import whole_fields
from intuitive.common.replay import Replayed
from intuitive.common.runtime import never, seeded
from intuitive.common.training import Progress, silent
from intuitive.common.training import train as take_steps
from intuitive.common.weights import load_weights, save_weights

from .model import CriticNet, StackedMLP, VelocityNet

N_CRITICS = 2
BLOCK = 50  # steps whose random numbers are drawn together


@dataclass(frozen=True, kw_only=True)
class IQLConfig:
    """Sizes and choices of one offline training; defaults are the fork world's."""

    state_size: int = 2
    action_size: int = 2  # of one step
    horizon: int = 5  # steps per chunk
    width: int = 128
    depth: int = 3
    gamma: float = 0.98  # discount per step
    expectile: float = 0.9
    polyak: float = 0.005  # share of the critic that its target takes over per step
    learning_rate: float = 1e-3  # of Adam, falling to zero as a cosine
    batch_size: int = 256  # chunks
    n_steps: int = 6000
    threshold: float = 0.0  # CFGRL's second flow learns chunks whose Q - V exceeds it

    def __post_init__(self) -> None:
        whole_fields(self, state_size=1, action_size=1, horizon=1, batch_size=1, n_steps=1)
        for name in ("gamma", "expectile", "polyak"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in (0, 1].")

    @property
    def chunk_size(self) -> int:
        """Numbers in a flattened action chunk."""
        return self.horizon * self.action_size


# ------------------------------------------------------------------------------------- chunks


@dataclass(frozen=True, eq=False)
class Chunks:
    """Transitions of `horizon` steps, one starting at every recorded step; s data sets of n."""

    states: Float[Tensor, "s n d"]
    actions: Float[Tensor, "s n a"]  # flattened chunks, steps first
    rewards: Float[Tensor, "s n"]  # discounted over the chunk, up to an end by success
    discounts: Float[Tensor, "s n"]  # of the value afterwards: gamma^horizon, 0 after success
    next_states: Float[Tensor, "s n d"]
    complete: Float[Tensor, "s n"]  # 0 where the chunk crosses the end of its episode

    def to(self, device: torch.device | str) -> "Chunks":
        """The same data elsewhere."""
        return Chunks(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))


def make_chunks(
    states: Float[Tensor, "n d"],
    next_states: Float[Tensor, "n d"],
    actions: Float[Tensor, "n a"],
    rewards: Float[Tensor, " n"],
    alive: Bool[Tensor, " n"],
    ends: Bool[Tensor, " n"],
    *,
    horizon: int,
    gamma: int | float,
) -> Chunks:
    """Cut recorded steps into chunks, one per step.

    Args:
        states, next_states, actions, rewards: of every step, episode after episode.
        alive: False where a step ends in success, after which nothing is paid.
        ends: True at the last recorded step of every episode.
        horizon: steps per chunk.
        gamma: discount per step.

    Returns:
        One data set, s = 1. The reward is Σ γ^i r_i over the steps before and including the first
        success; the discount is γ^horizon, or 0 with a success in the chunk.

    Raises:
        ValueError: a horizon below 1.

    Differs: a chunk that crosses an episode's end repeats the last action, where the released code
    runs on into the next episode; such chunks train the policy only, here as there.
    """
    if horizon < 1:
        raise ValueError(f"horizon={horizon} must be at least 1 step.")
    n = len(states)
    first = torch.arange(n, device=states.device)
    last = torch.where(ends, first, n - 1).flip(0).cummin(0).values.flip(0)
    steps = first[:, None] + torch.arange(horizon, device=states.device)  # [n, horizon]
    complete = steps[:, -1] <= last
    steps = steps.minimum(last[:, None])
    survives = alive[steps].to(rewards.dtype).cumprod(1)
    before = torch.cat([torch.ones_like(survives[:, :1]), survives[:, :-1]], 1)
    powers = gamma ** torch.arange(horizon, device=states.device, dtype=rewards.dtype)
    return Chunks(
        states=states[None],
        actions=actions[steps].flatten(1)[None],
        rewards=(powers * before * rewards[steps]).sum(1)[None],
        discounts=(gamma**horizon * survives[:, -1])[None],
        next_states=next_states[steps[:, -1]][None],
        complete=complete.to(rewards.dtype)[None],
    )


def stack(chunks: Sequence[Chunks]) -> Chunks:
    """Data sets of equal size, one per seed.

    Raises:
        ValueError: none, or sizes that differ.
    """
    sizes = {tuple(one.states.shape[1:]) for one in chunks}
    if len(sizes) != 1:
        raise ValueError(f"data sets of sizes {sorted(sizes)}: give at least one, all of one size.")
    names = [field.name for field in dataclasses.fields(Chunks)]
    return Chunks(*(torch.cat([getattr(one, name) for one in chunks]) for name in names))


# -------------------------------------------------------------------------------------- agent


@dataclass(frozen=True, eq=False)
class Agent:
    """The trained nets of some seeds, stacked in the order of `seeds`."""

    config: IQLConfig
    seeds: tuple[int, ...]
    policy: VelocityNet  # behaviour cloning
    improved: VelocityNet  # CFGRL's v+: cloned from chunks of positive advantage
    critics: CriticNet  # the targets, [2 * s], members first
    robust: CriticNet  # RobustQ: from noisy chunks and t to the clean chunk's Q
    value: StackedMLP

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The nets by name."""
        names = ("policy", "improved", "critics", "robust", "value")
        return {name: getattr(self, name) for name in names}

    @torch.inference_mode(False)  # nets made inside it could take no part in gradients
    def members(self, *seeds: int) -> "Agent":
        """The agent of some of the seeds alone; a copy.

        Raises:
            ValueError: a seed that was not trained.
        """
        missing = set(seeds) - set(self.seeds)
        if missing or not seeds:
            raise ValueError(f"seeds={seeds} must be among the trained ones, {self.seeds}.")
        places = torch.tensor([self.seeds.index(seed) for seed in seeds])
        part = make_agent(self.config, seeds)
        for name, net in self.nets.items():
            copies = N_CRITICS if name == "critics" else 1
            for mine, theirs in zip(part.nets[name].parameters(), net.parameters(), strict=True):
                chosen = theirs.detach().unflatten(0, (copies, -1))[:, places.to(theirs.device)]
                mine.data = chosen.flatten(0, 1).clone()
        return part

    def to(self, device: torch.device | str) -> "Agent":
        """Move all nets; returns itself."""
        for net in self.nets.values():
            net.to(device)
        return self


@torch.inference_mode(False)  # nets made inside it could take no part in gradients
def make_agent(config: IQLConfig, seeds: Sequence[int]) -> Agent:
    """Untrained nets, whose weights are drawn from the seeds and take no gradient."""
    sizes = {"width": config.width, "depth": config.depth, "layer_norm": True}
    state = {"state_size": config.state_size}
    # Every net of a seed has first weights of its own; the critics are two.
    own = [[10 * seed + place for seed in seeds] for place in range(6)]
    agent = Agent(
        config,
        tuple(seeds),
        policy=VelocityNet(config.chunk_size, seeds=own[0], **state, **sizes),
        improved=VelocityNet(config.chunk_size, seeds=own[1], **state, **sizes),
        critics=CriticNet(config.chunk_size, seeds=own[2] + own[3], **state, **sizes),
        robust=CriticNet(config.chunk_size, timed=True, seeds=own[4], **state, **sizes),
        value=StackedMLP(config.state_size, 1, seeds=own[5], **sizes),
    )
    for net in agent.nets.values():
        net.requires_grad_(False)
    return agent


def save_agent(path: str | Path, agent: Agent, made: dict[str, str]) -> Path:
    """Write the nets as float16 safetensors, with config and seeds beside `made`."""
    held = {
        f"{name}.{key}": value.half()
        for name, net in agent.nets.items()
        for key, value in net.state_dict().items()
    }
    config = {"config": json.dumps(dataclasses.asdict(agent.config))}
    return save_weights(path, held, made | config | {"seeds": json.dumps(agent.seeds)})


@torch.inference_mode(False)  # nets made inside it could take no part in gradients
def load_agent(path: str | Path) -> Agent:
    """Read `save_agent`'s file, as float32 on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds something else.
    """
    held, made = load_weights(path)
    if "config" not in made:
        raise ValueError(f"{path} holds no trained policy: write it with save_agent.")
    agent = make_agent(IQLConfig(**json.loads(made["config"])), json.loads(made["seeds"]))
    for name, net in agent.nets.items():
        keys = [key for key in held if key.startswith(f"{name}.")]
        net.load_state_dict({key.removeprefix(f"{name}."): held[key].float() for key in keys})
    return agent


# ----------------------------------------------------------------------------------- training


class _Learner:
    """The nets that learn, their losses and gradients, and the targets that follow each step."""

    def __init__(self, config: IQLConfig, chunks: Chunks, seeds: Sequence[int]) -> None:
        self.config, self.chunks = config, chunks
        device = chunks.states.device
        self.agent = make_agent(config, seeds).to(device)
        s, n, d = chunks.states.shape
        sizes = {"width": config.width, "depth": config.depth, "layer_norm": True}
        self.online = CriticNet(
            config.chunk_size, state_size=d, seeds=[0] * N_CRITICS * s, **sizes
        ).to(device)
        self.online.load_state_dict(self.agent.critics.state_dict())
        agent = self.agent
        nets = (agent.policy, agent.improved, agent.robust, agent.value, self.online)
        parameters = [p.requires_grad_() for net in nets for p in net.parameters()]
        on_cuda = device.type == "cuda"
        self.rate = torch.tensor(config.learning_rate, device=device, dtype=torch.float32)
        self.optimizer = torch.optim.Adam(parameters, lr=self.rate, fused=True, capturable=on_cuda)
        self.optimizer.register_step_post_hook(lambda *_: self.follow())
        self.first_rows = torch.arange(s, device=device)[:, None] * n
        self.gradients = Replayed(self.backward, parameters, device)

    def backward(
        self,
        rows: Int[Tensor, "s b"],
        times: Float[Tensor, "s b 1"],
        noise: Float[Tensor, "s b a"],
    ) -> Float[Tensor, " losses"]:
        """The gradients of all losses on one batch."""
        losses = self.losses(rows, times, noise)
        losses.sum().backward()
        return losses.detach()

    @torch.no_grad()
    def follow(self) -> None:
        """The targets' small step after each step of the critics."""
        for target, online in zip(
            self.agent.critics.parameters(), self.online.parameters(), strict=True
        ):
            target.lerp_(online, self.config.polyak)

    def losses(self, chosen: Tensor, times: Tensor, noise: Tensor) -> Float[Tensor, " losses"]:
        """The losses, summed over seeds; no net is reached by two of them."""
        agent, config = self.agent, self.config
        rows = (chosen + self.first_rows).flatten()

        def batch(name: str) -> Tensor:
            held = getattr(self.chunks, name)
            return held.flatten(0, 1)[rows].unflatten(0, chosen.shape)

        states, actions, complete = batch("states"), batch("actions"), batch("complete")
        with torch.no_grad():
            ahead = agent.value(batch("next_states"))[..., 0]
            wanted = batch("rewards") + batch("discounts") * ahead  # [s, b]
            twice, states_twice = actions.repeat(N_CRITICS, 1, 1), states.repeat(N_CRITICS, 1, 1)
            q = agent.critics(twice, states_twice).unflatten(0, (N_CRITICS, -1)).amin(0)
        value = agent.value(states)[..., 0]
        over = q - value  # the advantage
        share = (config.expectile - (over.detach() < 0).float()).abs()
        critic_error = self.online(twice, states_twice).unflatten(0, (N_CRITICS, -1)) - wanted

        x_t = (1 - times) * noise + times * actions
        velocity = actions - noise
        good = complete * (over.detach() > config.threshold)

        def flow_loss(net: VelocityNet) -> Tensor:
            return (net(x_t, times, states) - velocity).square().mean(-1)  # [s, b]

        robust_error = agent.robust(x_t, states, times) - q
        parts = (
            flow_loss(agent.policy),
            good * flow_loss(agent.improved),
            complete * critic_error.square().sum(0),
            complete * share * over.square(),
            complete * robust_error.square(),
        )
        return torch.stack([part.mean(-1).sum() for part in parts])


LOSSES = ("policy", "improved", "critic", "value", "robust")


def train(
    config: IQLConfig,
    chunks: Chunks,
    *,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    observe: Callable[[int, Agent], object] | None = None,
    observe_at: Collection[int] = (),
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Agent:
    """Train critics, value and flows of all seeds together.

    Args:
        config: sizes and choices.
        chunks: one data set per seed.
        seeds: of first weights and batches.
        device: where to train; the agent stays there.
        observe: called with the number of steps taken and the agent as it is then, which goes on
            changing: `agent.members(...)` is a copy.
        observe_at: the numbers at which it is called, from 1 to `config.n_steps`.
        stale: turns true when nobody waits; asked before every step.
        progress: called every 50 steps.

    Raises:
        ValueError: the data do not fit the config or the seeds.
        RuntimeError: a loss is no longer finite.
        Cancelled: `stale()` became true.
    """
    s, n, d = chunks.states.shape
    if s != len(seeds) or not seeds:
        raise ValueError(f"{s} data sets for {len(seeds)} seeds: give one data set per seed.")
    if (d, chunks.actions.shape[-1]) != (config.state_size, config.chunk_size):
        raise ValueError(
            f"states of size {d} and chunks of size {chunks.actions.shape[-1]} do not fit the "
            f"config's {config.state_size} and {config.chunk_size}."
        )
    n_steps, b, a = config.n_steps, config.batch_size, config.chunk_size
    with torch.inference_mode(False), torch.enable_grad():
        learner = _Learner(config, chunks.to(device), seeds)
    generators = [seeded(seed, device) for seed in seeds]
    batches: list[Tensor] = []

    def gradients(step: int) -> dict[str, float]:
        place = step % BLOCK
        if place == 0:
            count = min(BLOCK, n_steps - step)
            drawn = [_draw(count, n, b, a, generator) for generator in generators]
            batches[:] = [torch.stack(parts, 1) for parts in zip(*drawn, strict=True)]
        fall = 0.5 * (1 + math.cos(math.pi * step / n_steps))
        learner.rate.fill_(config.learning_rate * fall)
        losses = learner.gradients(*(block[place] for block in batches))
        if place != BLOCK - 1 and step != n_steps - 1:
            return {}  # reading them makes a device wait
        return {name: loss / s for name, loss in zip(LOSSES, losses.tolist(), strict=True)}

    def told(share: float, sentence: str) -> None:
        step = round(share * n_steps)
        if step % BLOCK == 0 or step == n_steps:
            progress(share, sentence)

    take_steps(
        gradients,
        learner.optimizer,
        n_steps=n_steps,
        observe=None if observe is None else lambda step: observe(step, learner.agent),
        observe_at=observe_at,
        stale=stale,
        progress=told,
    )
    for net in learner.agent.nets.values():
        net.requires_grad_(False)
    return learner.agent


def _draw(count: int, n: int, b: int, a: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Rows, times and noise of some steps' batches."""
    device = generator.device
    return (
        torch.randint(n, (count, b), generator=generator, device=device),
        torch.rand(count, b, 1, generator=generator, device=device, dtype=torch.float32),
        torch.randn(count, b, a, generator=generator, device=device, dtype=torch.float32),
    )
