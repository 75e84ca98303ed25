"""Learned nets: stacks are independent members, and binding keeps every action with its state."""

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.qgf.model import (
    BoundCritic,
    CriticNet,
    Field,
    StackedMLP,
    VelocityNet,
    time_features,
)


def test_a_member_of_a_stack_is_the_net_of_its_seed_alone():
    both = StackedMLP(3, 2, seeds=(4, 7), width=8, layer_norm=True)
    alone = StackedMLP(3, 2, seeds=(7,), width=8, layer_norm=True)
    x = torch.randn(2, 5, 3, generator=seeded(0))
    torch.testing.assert_close(both(x)[1:], alone(x[1:]))
    assert not torch.allclose(both(x[:1].expand(2, 5, 3))[0], both(x[:1].expand(2, 5, 3))[1])


def test_a_stack_refuses_empty_sizes():
    with pytest.raises(ValueError, match="width=0"):
        StackedMLP(3, 2, width=0)
    with pytest.raises(ValueError, match="0 seeds"):
        StackedMLP(3, 2, seeds=())


def test_times_can_be_told_apart_and_neighbours_lie_close():
    t = torch.linspace(0, 1, 101)[:, None]
    features = time_features(t)
    assert features.shape == (101, 16)
    apart = torch.cdist(features, features) + 9 * torch.eye(101)
    assert apart.min() > 0.05
    assert (features[1:] - features[:-1]).norm(dim=-1).max() < 0.5


def test_a_bound_field_gives_every_state_its_own_velocity():
    """Positions [c, s, b, a] of bound states equal one call per seed, repetition and state."""
    net = VelocityNet(3, state_size=2, seeds=(0, 1), width=8)
    states = torch.randn(2, 4, 2, generator=seeded(1))
    x = torch.randn(5, 2, 4, 3, generator=seeded(2))
    got = Field(net, states).velocity(x, 0.25)
    times = torch.full((2, 4, 1), 0.25)
    want = torch.stack([net(x[c], times, states) for c in range(5)])
    torch.testing.assert_close(got, want)


def test_a_bound_ensemble_takes_the_smaller_member():
    net = CriticNet(3, state_size=2, seeds=(0, 1, 2, 3), width=8)  # two members of two seeds
    states = torch.randn(2, 4, 2, generator=seeded(1))
    x = torch.randn(5, 2, 4, 3, generator=seeded(2))
    got = BoundCritic(net, states, n_members=2)(x.reshape(-1, 3))
    members = torch.stack(
        [net(x[c].repeat(2, 1, 1), states.repeat(2, 1, 1)).unflatten(0, (2, 2)) for c in range(5)]
    )  # [c, members, s, b]
    torch.testing.assert_close(got, members.amin(1).flatten())


def test_scalar_fields_keep_the_shape_of_positions():
    field = Field(VelocityNet(1, width=8), scalar=True)
    assert field.action_size is None
    assert field.velocity(torch.zeros(6, 7), 0.5).shape == (6, 7)
    x = torch.tensor([0.3, -2.0])
    torch.testing.assert_close(field.posterior_mean(x, 0.75), x + 0.25 * field.velocity(x, 0.75))


def test_binding_names_what_does_not_fit():
    net = VelocityNet(3, state_size=2, width=8)
    with pytest.raises(ValueError, match="states of size 2 and got none"):
        Field(net)
    with pytest.raises(ValueError, match="do not fit 1 x 4 states"):
        Field(net, torch.zeros(1, 4, 2)).velocity(torch.zeros(3, 3), 0.5)
