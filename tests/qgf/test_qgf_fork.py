"""The fork world: its scripted episodes, and rollouts of policies that are known."""

import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.qgf.fork import ForkWorld, roll_out, scripted_episodes

WORLD = ForkWorld()


def straight(states):
    """Chunks of five full steps to the right, where the paying goal is."""
    return torch.tensor([1.0, 0.0]).expand(*states.shape[:-1], 5, 2).flatten(-2)


def test_the_paying_goal_is_one_of_four_at_the_radius():
    goals = WORLD.goals()
    torch.testing.assert_close(goals.norm(dim=-1), torch.full((4,), WORLD.radius))
    torch.testing.assert_close(goals[0], torch.tensor([WORLD.radius, 0.0]))
    assert WORLD.won(goals).tolist() == [True, False, False, False]


def test_scripted_episodes_follow_the_world_and_reach_their_goals():
    """Seed 0: every walker ends near the goal it chose, and each goal takes about a quarter."""
    episodes = scripted_episodes(WORLD, 2000, seeded(0))
    torch.testing.assert_close(
        episodes.states[:, 1:], WORLD.step(episodes.states[:, :-1], episodes.actions)
    )
    assert episodes.actions.abs().max() <= 1
    away = (episodes.states[:, -1] - episodes.targets).norm(dim=-1)
    assert away.max() < 0.3
    won = (~episodes.alive).any(1)
    assert torch.equal(won, episodes.targets[:, 0] > 0.5)
    assert abs(won.float().mean() - 0.25) < 0.04  # four standard deviations
    assert torch.equal(episodes.rewards, -episodes.alive.float())


def test_scripted_walkers_part_to_both_sides():
    """Seed 1: half of those on their way to the right pass above the middle line, half below."""
    episodes = scripted_episodes(WORLD, 2000, seeded(1))
    right = episodes.targets[:, 0] > 0.5
    height = episodes.states[right, 8, 1]
    assert abs((height > 0).float().mean() - 0.5) < 0.1
    assert height.abs().median() > 0.1


def test_a_straight_walk_is_won_after_as_many_steps_as_it_is_long():
    starts = torch.zeros(3, 2, 2)
    done = roll_out(WORLD, starts, straight)
    steps = 9  # 9 x .08 = .72 > .8 - .12; eight steps end at .64
    assert done.won.all()
    assert torch.equal(done.returns, torch.full((3, 2), -steps + 1.0))
    torch.testing.assert_close(done.paths[0, 0, steps], torch.tensor([0.72, 0.0]))
    torch.testing.assert_close(done.paths[0, 0, -1], done.paths[0, 0, steps])
    assert done.paths.shape == (3, 2, WORLD.n_steps + 1, 2)


def test_standing_still_loses_every_step():
    done = roll_out(WORLD, torch.zeros(4, 2), lambda s: torch.zeros(*s.shape[:-1], 6))
    assert not done.won.any()
    assert torch.equal(done.returns, torch.full((4,), -float(WORLD.n_steps)))


def test_rollouts_stop_when_nobody_waits_and_refuse_odd_chunks():
    with pytest.raises(Cancelled):
        roll_out(WORLD, torch.zeros(4, 2), straight, stale=lambda: True)
    with pytest.raises(ValueError, match=r"act returned \(4, 3\)"):
        roll_out(WORLD, torch.zeros(4, 2), lambda s: torch.zeros(4, 3))


def test_worlds_and_data_of_no_size_are_refused():
    with pytest.raises(ValueError, match=r"reach=0.9 must lie between 0 and radius=0.8"):
        ForkWorld(reach=0.9)
    with pytest.raises(ValueError, match="n_episodes=0"):
        scripted_episodes(WORLD, 0, seeded(0))
