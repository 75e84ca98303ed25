"""The learned nets: several equal MLPs in one stack, and what binds them to states.

Every net here has a leading axis s of independent members (seeds, or critics of an ensemble), so
that five seeds train and roll out in one batched matrix product. A flow or a critic of one
problem without states is a stack of one.

    net = VelocityNet(2, width=64, depth=2)          # 2-D actions, one member, no states
    Field(net).velocity(x, 0.5)                      # x [..., 2], what `sample_guided` asks for
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from intuitive.common.runtime import seeded

N_TIME_FEATURES = 16


def time_features(t: Float[Tensor, "*shape 1"]) -> Float[Tensor, "*shape f"]:
    """Sines and cosines of a flow's time at eight frequencies from 1 to 16 rad per unit.

    Differs: the released code scales time by 10⁴ first, which fits times drawn from a grid of 11
    values; times are continuous here, so the fastest wave must stay learnable.
    """
    rates = torch.logspace(0, math.log10(16), N_TIME_FEATURES // 2, dtype=t.dtype, device=t.device)
    return torch.cat([(t * rates).sin(), (t * rates).cos()], -1)


class StackedMLP(nn.Module):
    """s independent MLPs with GELU (and LayerNorm after it), evaluated together.

    Args:
        n_in, n_out: features.
        seeds: of the first weights, one per member; equal seeds give equal members.
        width, depth: of the hidden layers.
        layer_norm: normalise every hidden layer; without gain and bias, which the next layer
            would absorb.

    Raises:
        ValueError: a size below 1, or no seed.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        seeds: Sequence[int] = (0,),
        width: int = 64,
        depth: int = 2,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        if min(n_in, n_out, width, depth) < 1 or not seeds:
            raise ValueError(
                f"n_in={n_in}, n_out={n_out}, width={width}, depth={depth} with "
                f"{len(seeds)} seeds: each must be at least 1."
            )
        self.n_nets, self.layer_norm = len(seeds), layer_norm
        generators = [seeded(seed) for seed in seeds]
        sizes = [n_in, *[width] * depth, n_out]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            bound = fan_in**-0.5
            for shape, held in (((fan_in, fan_out), self.weights), ((1, fan_out), self.biases)):
                drawn = [
                    torch.empty(shape, dtype=torch.float32).uniform_(-bound, bound, generator=g)
                    for g in generators
                ]
                held.append(nn.Parameter(torch.stack(drawn)))

    def forward(self, x: Float[Tensor, "s b n_in"]) -> Float[Tensor, "s b n_out"]:
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = nn.functional.gelu(x)
                if self.layer_norm:
                    x = nn.functional.layer_norm(x, x.shape[-1:])
            x = torch.baddbmm(bias, x, weight)
        return x


class VelocityNet(nn.Module):
    """v(state, x_t, t) of a flow policy, as a stack.

    Args:
        action_size: of the flattened action chunk.
        state_size: 0 for a flow without states.
        seeds, width, depth, layer_norm: as in `StackedMLP`.
    """

    def __init__(
        self,
        action_size: int,
        *,
        state_size: int = 0,
        seeds: Sequence[int] = (0,),
        width: int = 64,
        depth: int = 2,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.action_size, self.state_size = action_size, state_size
        n_in = state_size + action_size + N_TIME_FEATURES
        sizes = {"seeds": seeds, "width": width, "depth": depth, "layer_norm": layer_norm}
        self.mlp = StackedMLP(n_in, action_size, **sizes)

    def forward(
        self,
        x: Float[Tensor, "s b a"],
        t: Float[Tensor, "s b 1"],
        states: Float[Tensor, "s b d"] | None = None,
    ) -> Float[Tensor, "s b a"]:
        parts = [x, time_features(t)] if states is None else [states, x, time_features(t)]
        return self.mlp(torch.cat(parts, -1))


class CriticNet(nn.Module):
    """Q(state, action), or RobustQ's Q(state, x_t, t), as a stack.

    Args:
        action_size, state_size: as in `VelocityNet`; one of them may be 0.
        timed: whether the flow's time is an input.
        seeds, width, depth, layer_norm: as in `StackedMLP`.
    """

    def __init__(
        self,
        action_size: int,
        *,
        state_size: int = 0,
        timed: bool = False,
        seeds: Sequence[int] = (0,),
        width: int = 64,
        depth: int = 2,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.action_size, self.state_size, self.timed = action_size, state_size, timed
        n_in = state_size + action_size + N_TIME_FEATURES * timed
        sizes = {"seeds": seeds, "width": width, "depth": depth, "layer_norm": layer_norm}
        self.mlp = StackedMLP(n_in, 1, **sizes)

    def forward(
        self,
        actions: Float[Tensor, "s b a"],
        states: Float[Tensor, "s b d"] | None = None,
        t: Float[Tensor, "s b 1"] | None = None,
    ) -> Float[Tensor, "s b"]:
        parts = [actions] if states is None else [states, actions]
        if self.timed:
            parts.append(time_features(t))
        return self.mlp(torch.cat(parts, -1))[..., 0]


# ------------------------------------------------------------------------------ bound to states


class Bound:
    """A net held to the states in which actions are wanted.

    Positions come with any leading axes: [..., s, b, a] for states [s, b, d], flattened or not, as
    long as they are whole repetitions of the states; or any positions at all without states.
    """

    def __init__(self, net: nn.Module, states: Float[Tensor, "s b d"] | None = None) -> None:
        if (states is None) != (net.state_size == 0):
            raise ValueError(
                f"the net reads states of size {net.state_size} and got "
                f"{'none' if states is None else tuple(states.shape)}: give both or neither."
            )
        self.net, self.states = net, states

    def stacked(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Positions as the net wants them, [s, c * b, a], and the states that belong to them."""
        if self.states is None:
            return x.reshape(1, -1, self.net.action_size), None
        s, b, d = self.states.shape
        if x.numel() % (s * b * self.net.action_size):
            raise ValueError(
                f"positions of shape {tuple(x.shape)} do not fit {s} x {b} states and actions of "
                f"size {self.net.action_size}: draw a whole number of actions per state."
            )
        x = x.reshape(-1, s, b, self.net.action_size)  # [c, s, b, a]
        c = x.shape[0]
        states = self.states[:, None].expand(s, c, b, d).reshape(s, c * b, d)
        return x.transpose(0, 1).reshape(s, c * b, -1), states

    def unstacked(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Results [s, c * b, ...] in the order of the positions, as `shape`."""
        if self.states is None:
            return values.reshape(shape)
        s, b, _ = self.states.shape
        return values.reshape(s, -1, b, *values.shape[2:]).transpose(0, 1).reshape(shape)


class Field(Bound):
    """A learned velocity field, with the interface of `GaussianMixture`.

    Args:
        net: the velocity net; without states, a stack of one.
        states: where the net wants them.
        scalar: whether positions are numbers, [...], rather than [..., a]; only for a = 1.
    """

    def __init__(
        self,
        net: VelocityNet,
        states: Float[Tensor, "s b d"] | None = None,
        *,
        scalar: bool = False,
    ) -> None:
        super().__init__(net, states)
        self.action_size = None if scalar else net.action_size

    def velocity(
        self, x: Float[Tensor, "*shape"], t: int | float | Tensor
    ) -> Float[Tensor, "*shape"]:
        """v(x, t) at one time t in [0, 1]; shape [...] in 1D, else [..., a]."""
        stacked, states = self.stacked(x)
        times = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(*stacked.shape[:2], 1)
        return self.unstacked(self.net(stacked, times, states), x.shape)

    def posterior_mean(self, x: Float[Tensor, "*shape"], t: int | float) -> Float[Tensor, "*shape"]:
        """The one-step estimate of x_1, x + (1 - t) v."""
        return x + (1 - t) * self.velocity(x, t)


class BoundCritic(Bound):
    """A learned critic as a function of flat actions, [n, a] or [n] to values [n].

    Args:
        net: a critic net. With `n_members` > 1 its stack is an ensemble, members in the first
            place, [n_members * s]; the smallest value counts.
        states: where the net wants them.
    """

    def __init__(
        self,
        net: CriticNet,
        states: Float[Tensor, "s b d"] | None = None,
        *,
        n_members: int = 1,
    ) -> None:
        super().__init__(net, states)
        self.n_members = n_members

    def __call__(self, actions: Float[Tensor, "*shape"], t: int | float | None = None) -> Tensor:
        stacked, states = self.stacked(actions)  # [s, c * b, a]
        times = None
        if t is not None:
            times = torch.as_tensor(t, dtype=actions.dtype, device=actions.device)
            times = times.expand(*stacked.shape[:2], 1)
        if self.n_members > 1:
            stacked = stacked.repeat(self.n_members, 1, 1)
            states = None if states is None else states.repeat(self.n_members, 1, 1)
        values = self.net(stacked, states, times)  # [members * s, c * b]
        values = values.unflatten(0, (self.n_members, -1)).min(0).values
        return self.unstacked(values, (-1,))
