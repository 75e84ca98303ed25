"""Data and evaluation of the OGBench tasks; most tests need no OGBench."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.qgf import ogbench_tasks
from intuitive.qgf.iql import IQLConfig, make_agent
from intuitive.qgf.ogbench_tasks import (
    TASKS,
    Evaluator,
    Recorded,
    chunks_of,
    generate,
    guided_policy,
    have_ogbench,
    load_recorded,
    promised,
    save_recorded,
)
from intuitive.qgf.policies import WAYS

MAZE = TASKS["pointmaze-medium"]
needs_ogbench = pytest.mark.skipif(
    not have_ogbench(), reason="OGBench is not installed: pip install 'intuitive[ogbench]'"
)


@pytest.fixture(scope="module")
def agent():
    return make_agent(IQLConfig(width=16, depth=1), seeds=(0,))


def walk_into_goal() -> Recorded:
    """Two trajectories of four states; the first enters the goal at its third state."""
    n = 8
    row = torch.arange(n, dtype=torch.float32)
    goal_reached = torch.tensor([0, 0, 1, 1, 0, 0, 0, 0], dtype=torch.bool)
    return Recorded(
        observations=torch.stack([row, -row], -1),
        actions=torch.stack([row, row], -1) / 10,
        rewards=goal_reached.float() - 1,
        goal_reached=goal_reached,
        last=torch.tensor([0, 0, 0, 1, 0, 0, 0, 1], dtype=torch.bool),
    )


# ------------------------------------------------------------------------------- the chunks


def test_chunks_stop_paying_at_the_goal_and_at_the_trajectory_end():
    config = IQLConfig(horizon=3, gamma=0.5)
    chunks = chunks_of(walk_into_goal(), MAZE, config)
    assert chunks.states.shape == (1, 6, 2)  # a chunk for every state but the two last ones
    assert chunks.complete[0].tolist() == [1, 0, 0, 1, 0, 0]
    # -1 - 1/2 up to the goal; the second trajectory pays three steps, -1 - 1/2 - 1/4.
    torch.testing.assert_close(chunks.rewards[0, [0, 3]], torch.tensor([-1.5, -1.75]))
    torch.testing.assert_close(chunks.discounts[0, [0, 3]], torch.tensor([0.0, 0.125]))
    assert chunks.rewards[0, 2] == 0 and chunks.discounts[0, 2] == 0  # in the goal


def test_chunks_hold_normalised_states_three_steps_apart():
    recorded = walk_into_goal()
    chunks = chunks_of(recorded, MAZE, IQLConfig(horizon=3))
    ahead = MAZE.normalised(recorded.observations)
    torch.testing.assert_close(chunks.states[0, 0], ahead[0])
    torch.testing.assert_close(chunks.next_states[0, 0], ahead[3])
    torch.testing.assert_close(chunks.next_states[0, 3], ahead[7])
    assert chunks.actions[0, 3].tolist() == pytest.approx([0.4, 0.4, 0.5, 0.5, 0.6, 0.6])


def test_recorded_data_come_back_from_the_file(tmp_path):
    recorded = walk_into_goal()
    save_recorded(tmp_path / "walk.npz", recorded)
    again = load_recorded(tmp_path / "walk.npz")
    for part in dataclasses.fields(Recorded):
        # Half precision holds tenths to 2^-12.
        torch.testing.assert_close(
            getattr(again, part.name), getattr(recorded, part.name), rtol=0, atol=2e-4
        )


def test_missing_data_name_the_stage_that_makes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="--generate"):
        load_recorded(tmp_path / "none.npz")


# ------------------------------------------------------------------------------- the policy


@pytest.mark.parametrize("way", ["qgf", "ood", "grad_step"])
def test_weight_zero_is_behaviour_cloning(agent, way):
    observations = torch.tensor([[0.0, 0.0], [20.0, 20.0]])
    act = guided_policy(MAZE, agent, WAYS[way], 0.0)
    cloned = guided_policy(MAZE, agent, WAYS["bc"], 0.0)
    got = act(observations, seeded(3))
    assert got.shape == (2, 10)
    torch.testing.assert_close(got, cloned(observations, seeded(3)), rtol=0, atol=1e-6)


def test_actions_stay_in_bounds_under_a_large_weight(agent):
    act = guided_policy(MAZE, agent, WAYS["qgf"], 1e4)
    assert act(torch.zeros(4, 2), seeded(0)).abs().max() <= 1


# ------------------------------------------------------------------------------- the errors


def test_unknown_task_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'antmaze'.*pointmaze-medium, cube-single"):
        generate("antmaze", n_transitions=10, seed=0)


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="n_transitions=0"):
        generate("pointmaze-medium", n_transitions=0, seed=0)
    with pytest.raises(ValueError, match="n_episodes=0"):
        Evaluator("pointmaze-medium", 0)


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(ogbench_tasks, "have_ogbench", lambda: False)
    with pytest.raises(ModuleNotFoundError, match=r"intuitive\[ogbench\].*results.ogbench"):
        generate("pointmaze-medium", n_transitions=10, seed=0)


# -------------------------------------------------------------------------- with OGBench


@needs_ogbench
def test_maze_data_move_as_their_actions_say():
    before = np.random.get_state()[1].copy()
    recorded = generate("pointmaze-medium", n_transitions=200, seed=0)
    assert (np.random.get_state()[1] == before).all()  # the caller's generator is left alone
    assert recorded.observations.shape == (201, 2) and recorded.last.sum() == 1
    assert recorded.actions.abs().max() <= 1
    moved = recorded.observations.diff(dim=0)
    free = (moved - 0.2 * recorded.actions[:-1]).abs().amax(-1) < 1e-3
    assert free.float().mean() > 0.8  # the rest touches a wall
    same = generate("pointmaze-medium", n_transitions=200, seed=0)
    assert torch.equal(same.observations, recorded.observations)
    other = generate("pointmaze-medium", n_transitions=200, seed=1)
    assert not torch.equal(other.observations, recorded.observations)


@needs_ogbench
def test_rewards_are_zero_exactly_within_reach_of_the_goal():
    recorded = generate("pointmaze-medium", n_transitions=3000, seed=1)
    goal = torch.tensor([20.0, 20.0])  # the cell in the last row and column
    inside = (recorded.observations - goal).norm(dim=-1) <= 1
    assert torch.equal(recorded.goal_reached, inside)
    assert torch.equal(recorded.rewards, inside.float() - 1)


@needs_ogbench
def test_cube_data_have_their_shapes():
    recorded = generate("cube-single", n_transitions=20, seed=0)
    assert recorded.observations.shape == (21, 28)
    assert recorded.actions.shape == (21, 5) and recorded.actions.abs().max() <= 1
    assert torch.equal(recorded.rewards, recorded.goal_reached.float() - 1)


@needs_ogbench
def test_generation_can_be_cancelled():
    with pytest.raises(Cancelled):
        generate("pointmaze-medium", n_transitions=10, seed=0, stale=lambda: True)


@needs_ogbench
def test_a_path_follower_reaches_the_goal_and_a_sleeper_does_not(agent):
    evaluator = Evaluator("pointmaze-medium", 2)
    maze = evaluator.envs[0].unwrapped

    def follow(observations, generator):
        subgoals = [
            maze.get_oracle_subgoal(position, maze.ij_to_xy((6, 6)))[0]
            for position in observations.numpy()
        ]
        way = torch.from_numpy(np.stack(subgoals)).float() - observations
        return way / way.norm(dim=-1, keepdim=True).clamp(min=0.2)

    awake = evaluator.run(follow, seed=0)
    asleep = evaluator.run(lambda s, generator: torch.zeros(len(s), 10), seed=0)
    evaluator.close()
    assert awake.success.all() and (awake.steps < 400).all()
    assert not asleep.success.any() and (asleep.steps == MAZE.max_steps).all()
    assert torch.equal(awake.first_states, asleep.first_states)  # starts depend on the seed alone
    assert promised(MAZE, agent, asleep).shape == (2,)


@needs_ogbench
@pytest.mark.slow
def test_the_committed_result_is_of_data_that_can_be_made_again():
    script = Path(__file__).parents[2] / "benchmarks/qgf_ogbench.py"
    done = subprocess.run([sys.executable, script, "--slice"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
