"""Offline RL on OGBench: data from its scripted oracles, and evaluation.

The environments come with the extra `ogbench` (`pip install intuitive[ogbench]`). Data are
generated here, not downloaded: a noisy path-following oracle in the point maze, a pick-and-place
plan in the cube task, both after random goals. Rewards are labelled afterwards for one fixed task.
`benchmarks/qgf_ogbench.py` trains on them and writes the result that results.py reads, which
needs no extra.

Differs: the benchmark's own data sets hold a million transitions a task; ours are smaller.
Source: Park et al., OGBench (arXiv:2410.20092); the QGF paper uses its manipulation tasks.
"""

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from intuitive.common.runtime import check, never, seeded

from .iql import Agent, Chunks, IQLConfig, make_chunks
from .policies import Way, critic_at, decide

TRAJECTORY = 1000  # recorded steps between two resets
MAZE_NOISE = 0.5  # standard deviation of what is added to the oracle's unit direction

ChunkPolicy = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class OGBenchTask:
    """One environment with one fixed goal."""

    name: str  # as in `TASKS`
    collect_id: str  # environment that data are collected in
    task_id: str  # single-task environment of the same name
    action_size: int
    centre: float  # of the observations
    scale: float
    max_steps: int  # of an evaluation episode: the benchmark's own limit

    def normalised(self, observations: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Observations as the nets read them."""
        return (observations - self.centre) / self.scale


TASKS = {
    task.name: task
    for task in (
        OGBenchTask(
            name="pointmaze-medium",
            collect_id="pointmaze-medium-v0",
            task_id="pointmaze-medium-singletask-task1-v0",
            action_size=2,
            centre=10.0,
            scale=12.0,
            max_steps=1000,
        ),
        OGBenchTask(
            name="cube-single",
            collect_id="cube-single-v0",
            task_id="cube-single-singletask-task2-v0",
            action_size=5,
            centre=0.0,
            scale=1.0,
            max_steps=200,
        ),
    )
}


@dataclass(frozen=True)
class Recorded:
    """Trajectories one after another; the last row of each is a state without a next one.

    Rewards are -1 per step until the task's goal is reached, and 0 there.
    """

    observations: Float[Tensor, "n d"]  # as the environment gives them
    actions: Float[Tensor, "n a"]  # in [-1, 1]
    rewards: Float[Tensor, " n"]
    goal_reached: Bool[Tensor, " n"]  # in the row's state: nothing is earned or lost from here on
    last: Bool[Tensor, " n"]  # last row of a trajectory


@dataclass(frozen=True)
class Episodes:
    """What a policy did from a number of starts."""

    success: Bool[Tensor, " n"]
    steps: Float[Tensor, " n"]  # until the goal, or the limit
    first_states: Float[Tensor, "n d"]
    first_chunks: Float[Tensor, "n a"]  # the actions of the first decision


def have_ogbench() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("ogbench") is not None


def find_task(name: str) -> OGBenchTask:
    """A task by its name.

    Raises:
        ValueError: no such task.
    """
    if name not in TASKS:
        raise ValueError(f"task={name!r} is none of {', '.join(TASKS)}: choose one of these.")
    return TASKS[name]


# ------------------------------------------------------------------------------------ data


def generate(
    name: str,
    *,
    n_transitions: int,
    seed: int,
    stale: Callable[[], bool] = never,
    progress: Callable[[int, int], None] | None = None,
) -> Recorded:
    """Collect transitions after random goals and label their rewards for the task's fixed goal.

    Trajectories hold `TRAJECTORY` steps; each has its own seed, so that a shorter run gives the
    beginning of a longer one.

    Args:
        name: a key of `TASKS`.
        n_transitions: steps in all, cut to whole trajectories unless below one.
        seed: of the resets, the goals and the oracle's noise.
        stale: turns true when nobody waits for the result any more.
        progress: called with (trajectories made, trajectories to make).

    Raises:
        ValueError: an unknown task, or no transition asked for.
        ModuleNotFoundError: the extra is not installed.
        Cancelled: `stale()` became true between two trajectories.
    """
    task = find_task(name)
    if n_transitions < 1:
        raise ValueError(f"n_transitions={n_transitions}: at least one is needed.")
    length = min(n_transitions, TRAJECTORY)
    env = _make(task.collect_id, cube_collects=name.startswith("cube"))
    collect = _collect_maze if name.startswith("pointmaze") else _collect_cube
    made = []
    for i in range(n_transitions // length):
        check(stale)
        with _numpy_seed(1_000_000 * seed + i) as trajectory_seed:
            made.append(collect(env, length, trajectory_seed))
        if progress is not None:
            progress(i + 1, n_transitions // length)
    env.close()
    observations, actions, positions = (np.concatenate(parts) for parts in zip(*made, strict=True))
    rewards, masks = _relabel(task, positions)
    last = torch.zeros(len(made), length + 1, dtype=torch.bool)
    last[:, -1] = True
    return Recorded(
        observations=torch.from_numpy(observations).float(),
        actions=torch.from_numpy(actions).float(),
        rewards=torch.from_numpy(rewards),
        goal_reached=torch.from_numpy(masks) == 0,
        last=last.flatten(),
    )


def chunks_of(recorded: Recorded, task: OGBenchTask, config: IQLConfig) -> Chunks:
    """The data set as a learner wants it: nets' states, and one chunk per step."""
    states = task.normalised(recorded.observations)
    starts = ~recorded.last
    follows = torch.cat([starts.new_zeros(1), starts[:-1]])  # rows that are someone's next state
    return make_chunks(
        states[starts],
        states[follows],
        recorded.actions[starts],
        recorded.rewards[starts],
        ~recorded.goal_reached[starts],
        recorded.last[follows],
        horizon=config.horizon,
        gamma=config.gamma,
    )


def save_recorded(path: str | Path, recorded: Recorded) -> None:
    """Write a data set as compressed half-precision arrays (a cube's position to 0.2 mm)."""
    np.savez_compressed(
        path,
        observations=recorded.observations.numpy().astype(np.float16),
        actions=recorded.actions.numpy().astype(np.float16),
        rewards=recorded.rewards.numpy().astype(np.float16),
        goal_reached=recorded.goal_reached.numpy(),
        last=recorded.last.numpy(),
    )


def load_recorded(path: str | Path) -> Recorded:
    """Read what `save_recorded` wrote.

    Raises:
        FileNotFoundError: no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist: run the stage --generate first.")
    with np.load(path) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    return Recorded(
        observations=arrays["observations"].float(),
        actions=arrays["actions"].float(),
        rewards=arrays["rewards"].float(),
        goal_reached=arrays["goal_reached"],
        last=arrays["last"],
    )


def _make(identifier: str, *, cube_collects: bool = False) -> Any:
    if not have_ogbench():
        raise ModuleNotFoundError(
            "OGBench is not installed: pip install 'intuitive[ogbench]'. "
            "`results.ogbench()` shows the committed result without it."
        )
    with warnings.catch_warnings():
        gymnasium = importlib.import_module("gymnasium")  # sets filters of its own
        warnings.simplefilter("ignore")  # there is no display; bounds are cast to float32
        importlib.import_module("ogbench")
        options = {"mode": "data_collection", "visualize_info": False} if cube_collects else {}
        return gymnasium.make(
            identifier,
            max_episode_steps=TRAJECTORY + 1,
            disable_env_checker=True,  # it warns about the precision of bounds at every step
            **options,
        )


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[int]:
    """NumPy's global generator, which OGBench draws from, seeded here and restored afterwards.

    Warnings are held back: the cube's action space casts its bounds whenever it is looked at.
    """
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield seed
    finally:
        np.random.set_state(state)


Trajectory = tuple[np.ndarray, np.ndarray, np.ndarray]  # observations, actions, positions


def _collect_maze(env: Any, length: int, seed: int) -> Trajectory:
    """Follow shortest paths to one random cell after another, with noise in every action."""
    maze = env.unwrapped
    maze._terminate_at_goal = False
    cells = list(zip(*np.where(maze.maze_map == 0), strict=True))

    def draw_cell() -> tuple[int, int]:
        i, j = cells[np.random.randint(len(cells))]
        return int(i), int(j)

    env.action_space.seed(seed)
    observation, _ = env.reset(
        seed=seed, options={"task_info": {"init_ij": draw_cell(), "goal_ij": draw_cell()}}
    )
    observations, actions = [observation], []
    for _ in range(length):
        position = maze.get_xy()
        subgoal, _ = maze.get_oracle_subgoal(position, maze.cur_goal_xy)
        if maze.xy_to_ij(position) == maze.xy_to_ij(maze.cur_goal_xy):
            subgoal = np.asarray(maze.cur_goal_xy)
        direction = (subgoal - position) / (np.linalg.norm(subgoal - position) + 1e-6)
        action = np.clip(direction + np.random.normal(0, MAZE_NOISE, size=2), -1, 1)
        observation, _, _, _, info = env.step(action)
        observations.append(observation)
        actions.append(action)
        if info["success"]:
            goal = maze.add_noise(maze.ij_to_xy(draw_cell()))
            maze.set_goal(goal_xy=goal)
    states = np.stack(observations)
    return states, _padded(actions), states


def _collect_cube(env: Any, length: int, seed: int) -> Trajectory:
    """Carry the cube to one random place after another by the scripted plan."""
    plan = importlib.import_module("ogbench.manipspace.oracles.plan.cube_plan")
    cube = env.unwrapped
    cube._terminate_at_goal = False
    oracle = plan.CubePlanOracle(env=env)
    env.action_space.seed(seed)
    observation, info = env.reset(seed=seed)
    oracle.reset(observation, info)
    observations, actions, positions = [observation], [], [info["qpos"]]
    for _ in range(length):
        action = np.clip(oracle.select_action(observation, info), -1, 1)
        observation, _, _, _, info = env.step(action)
        observations.append(observation)
        actions.append(action)
        positions.append(info["qpos"])
        if oracle.done:
            oracle.reset(*cube.set_new_target())
    return np.stack(observations), _padded(actions), np.stack(positions)


def _padded(actions: list[np.ndarray]) -> np.ndarray:
    """Actions with a row of zeros for the last state."""
    return np.stack([*actions, np.zeros_like(actions[0])])


def _relabel(task: OGBenchTask, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rewards, masks) of every row by OGBench's own rule for the task."""
    relabel = importlib.import_module("ogbench.relabel_utils").relabel_dataset
    env = _make(task.task_id)
    labelled = {"qpos": positions}
    with _numpy_seed(0):
        relabel(task.task_id, env, labelled)
    env.close()
    return labelled["rewards"], labelled["masks"]


# ------------------------------------------------------------------------------ evaluation


def guided_policy(
    task: OGBenchTask, agent: Agent, way: Way, weight: int | float, *, n_steps: int = 10
) -> ChunkPolicy:
    """The agent acting one way in a task.

    Args:
        task: where it acts.
        agent: of one seed.
        way: such as one of `intuitive.qgf.policies.WAYS`.
        weight: of the guidance.
        n_steps: Euler steps T.
    """

    def act(observations: Tensor, generator: torch.Generator) -> Tensor:
        states = task.normalised(observations)[None]
        return decide(agent, states, way, weight, generator, n_steps=n_steps).actions[0]

    return act


def promised(task: OGBenchTask, agent: Agent, episodes: Episodes) -> Float[Tensor, " n"]:
    """The return that the agent's critic expects of the first decision of every episode."""
    states = task.normalised(episodes.first_states)[None]
    return critic_at(agent, states)(episodes.first_chunks)


class Evaluator:
    """A number of copies of one task that step together, kept between evaluations.

    Args:
        name: a key of `TASKS`.
        n_episodes: copies, hence episodes per evaluation.

    Raises:
        ValueError: an unknown task, or no episode.
        ModuleNotFoundError: the extra is not installed.
    """

    def __init__(self, name: str, n_episodes: int) -> None:
        self.task = find_task(name)
        if n_episodes < 1:
            raise ValueError(f"n_episodes={n_episodes}: at least one is needed.")
        self.envs = [_make(self.task.task_id) for _ in range(n_episodes)]

    def run(
        self,
        policy: ChunkPolicy,
        *,
        seed: int,
        stale: Callable[[], bool] = never,
    ) -> Episodes:
        """One episode per copy; starts depend on the seed alone, so policies can be compared.

        Args:
            policy: from observations [n, d] and a generator to action chunks [n, h * a]; only
                episodes that still run are passed.
            seed: of the starts and of the policy's noise.
            stale: turns true when nobody waits for the result any more.

        Raises:
            Cancelled: `stale()` became true between two chunks.
        """
        task, generator = self.task, seeded(seed)
        success = torch.zeros(len(self.envs), dtype=torch.bool)
        steps = torch.full((len(self.envs),), float(task.max_steps))
        observations = [self._reset(i, 10_000 * seed + i) for i in range(len(self.envs))]
        running, first = list(range(len(self.envs))), None
        step = 0
        while running and step < task.max_steps:
            check(stale)
            states = torch.from_numpy(np.stack([observations[i] for i in running])).float()
            decided = policy(states, generator).clamp(-1, 1)
            first = first or (states, decided)
            chunks = decided.reshape(len(running), -1, task.action_size).numpy()
            for offset in range(min(chunks.shape[1], task.max_steps - step)):
                for row, i in enumerate(running):
                    if success[i]:
                        continue
                    observations[i], _, reached, _, _ = self.envs[i].step(chunks[row, offset])
                    if reached:
                        success[i], steps[i] = True, step + offset
            step += chunks.shape[1]
            running = [i for i in running if not success[i]]
        return Episodes(success, steps, *first)

    def close(self) -> None:
        """Free the copies."""
        for env in self.envs:
            env.close()

    def _reset(self, i: int, seed: int) -> np.ndarray:
        with _numpy_seed(seed):
            self.envs[i].action_space.seed(seed)
            observation, _ = self.envs[i].reset(seed=seed)
        return observation
