"""Chunks and offline training: returns and masks by hand, values known in closed form."""

import dataclasses

import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.qgf.iql import (
    Chunks,
    IQLConfig,
    load_agent,
    make_agent,
    make_chunks,
    save_agent,
    stack,
    train,
)

SMALL = IQLConfig(
    state_size=1, action_size=1, horizon=2, width=16, depth=2, batch_size=32, n_steps=40
)


def steps(rewards, alive, ends):
    n = len(rewards)
    states = torch.arange(n)[:, None].float()
    return make_chunks(
        states,
        states + 1,
        10 * states,
        torch.tensor(rewards),
        torch.tensor(alive),
        torch.tensor(ends),
        horizon=3,
        gamma=0.5,
    )


def random_chunks(n=200, seed=0, config=SMALL):
    g = seeded(seed)
    return Chunks(
        states=torch.randn(1, n, config.state_size, generator=g),
        actions=torch.randn(1, n, config.chunk_size, generator=g),
        rewards=-torch.rand(1, n, generator=g),
        discounts=torch.full((1, n), 0.5),
        next_states=torch.randn(1, n, config.state_size, generator=g),
        complete=torch.ones(1, n),
    )


def test_chunks_discount_within_an_episode_and_mark_those_that_cross_its_end():
    made = steps([-1.0] * 5, [True] * 5, [False, False, False, True, True])
    assert made.complete[0].tolist() == [1, 1, 0, 0, 0]
    assert made.rewards[0, :2].tolist() == [-1.75, -1.75]
    assert made.discounts[0, :2].tolist() == [0.125, 0.125]
    assert made.next_states[0, :2, 0].tolist() == [3, 4]
    assert made.actions[0].tolist()[:4] == [[0, 10, 20], [10, 20, 30], [20, 30, 30], [30, 30, 30]]


def test_nothing_is_paid_after_success():
    made = steps([-1.0, 0.0, -1.0, -1.0], [True, False, True, True], [False, False, False, True])
    assert made.rewards[0, :2].tolist() == [-1.0, 0.0]
    assert made.discounts[0, :2].tolist() == [0.0, 0.0]


def test_a_recording_cut_short_ends_with_its_last_step():
    made = steps([-1.0] * 4, [True] * 4, [False] * 4)
    assert made.complete[0].tolist() == [1, 1, 0, 0]


def test_chunks_of_unequal_sizes_do_not_stack():
    with pytest.raises(ValueError, match="all of one size"):
        stack([random_chunks(5), random_chunks(6)])
    with pytest.raises(ValueError, match="at least one"):
        stack([])
    with pytest.raises(ValueError, match="horizon=0"):
        make_chunks(
            *[torch.zeros(2, 1)] * 3,
            torch.zeros(2),
            *[torch.ones(2, dtype=bool)] * 2,
            horizon=0,
            gamma=0.9,
        )


def test_a_seed_learns_the_same_in_company_as_alone():
    """Data, first weights and batches belong to the seed; what remains is rounding."""
    one, two = random_chunks(seed=1), random_chunks(seed=2)
    both = train(SMALL, stack([one, two]), seeds=(1, 2)).members(2)
    alone = train(SMALL, two, seeds=(2,))
    for name, net in alone.nets.items():
        for got, want in zip(both.nets[name].parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(got, want, atol=2e-4, rtol=1e-3)


def test_critic_and_value_learn_a_problem_of_one_step():
    """Q(s, a) = a_0 with no future; V is the expectile of Q. Uniform a_0 in [-1, 1], τ = .9:
    the expectile e solves .9 (1 - e)² = .1 (1 + e)², so e = .5."""
    n = 4000
    config = dataclasses.replace(
        SMALL, width=32, batch_size=128, n_steps=400, polyak=0.05, learning_rate=1e-2
    )
    chunks = random_chunks(n, seed=3, config=config)
    actions = 2 * torch.rand(1, n, 2, generator=seeded(4)) - 1
    chunks = dataclasses.replace(
        chunks, actions=actions, rewards=actions[..., 0], discounts=torch.zeros(1, n)
    )
    agent = train(config, chunks, seeds=(0,))
    q = agent.critics(actions.repeat(2, 1, 1), chunks.states.repeat(2, 1, 1))
    assert (q - actions[..., 0]).abs().mean() < 0.05
    value = agent.value(chunks.states[:, :500])[0, :, 0]
    assert abs(value.mean() - 0.5) < 0.05
    t, x_0 = torch.zeros(1, n, 1), torch.randn(1, n, 2, generator=seeded(5))
    robust = agent.robust(x_0, chunks.states, t)  # at t = 0 nothing is known of the action
    assert abs(robust.mean()) < 0.1


def test_incomplete_chunks_teach_the_policy_alone():
    chunks = random_chunks()
    chunks = dataclasses.replace(chunks, complete=torch.zeros_like(chunks.complete))
    first, trained = make_agent(SMALL, (0,)), train(SMALL, chunks, seeds=(0,))
    for name, net in trained.nets.items():
        pairs = zip(net.parameters(), first.nets[name].parameters(), strict=True)
        moved = any(not torch.equal(a, b) for a, b in pairs)
        assert moved == (name == "policy"), name


def test_training_can_be_watched_and_stopped():
    seen = []
    train(
        SMALL,
        random_chunks(),
        seeds=(0,),
        observe=lambda step, agent: seen.append((step, agent.members(0))),
        observe_at=(10, 40),
    )
    assert [step for step, _ in seen] == [10, 40]
    early, late = (agent.policy.mlp.weights[0] for _, agent in seen)
    assert not torch.equal(early, late)
    with pytest.raises(Cancelled):
        train(SMALL, random_chunks(), seeds=(0,), stale=lambda: True)


def test_data_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="1 data sets for 2 seeds"):
        train(SMALL, random_chunks(), seeds=(0, 1))
    with pytest.raises(ValueError, match="do not fit the config's 3 and 2"):
        train(dataclasses.replace(SMALL, state_size=3), random_chunks(), seeds=(0,))
    with pytest.raises(ValueError, match=r"gamma=1.5 must lie in \(0, 1\]"):
        IQLConfig(gamma=1.5)
    with pytest.raises(ValueError, match=r"seeds=\(3,\) must be among"):
        make_agent(SMALL, (0, 1)).members(3)


def test_a_saved_agent_comes_back_to_half_precision(tmp_path):
    agent = make_agent(SMALL, (3,))
    path = save_agent(tmp_path / "agent.safetensors", agent, {"command": "test"})
    with torch.inference_mode():
        back = load_agent(path)
    assert (back.config, back.seeds) == (SMALL, (3,))
    for name, net in agent.nets.items():
        for got, want in zip(back.nets[name].parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)
            assert not got.is_inference()
