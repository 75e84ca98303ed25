"""OGBench: a flow policy guided by its critic, in a point maze and with a robot arm and a cube.

    python benchmarks/qgf_ogbench.py --generate FOLDER                needs OGBench
    python benchmarks/qgf_ogbench.py --train FOLDER --device cuda     needs a GPU, no OGBench
    python benchmarks/qgf_ogbench.py --evaluate FOLDER                needs OGBench; writes the JSON
    python benchmarks/qgf_ogbench.py --slice                          needs OGBench; some seconds

`pip install 'intuitive[ogbench]'` brings OGBench. The stages hand on files in FOLDER: data sets as
npz, then agents as safetensors, one from the end of training and some from its beginning. Weights
are chosen on some episodes and scored on others. Early critics guide the final policy too, at
weights far above those: what a critic promises then rises while success does not, which is what
exploiting a critic looks like.
`--task NAME` restricts a stage to one task (two may be evaluated side by side), and `--slice`
recomputes the first trajectory of every task and compares it with what the result file says of it.
"""

import dataclasses
import functools
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import helpers
import torch

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.weights import load_weights
from intuitive.qgf.iql import Agent, IQLConfig, load_agent, save_agent, train
from intuitive.qgf.ogbench_tasks import (
    TASKS,
    TRAJECTORY,
    Evaluator,
    Recorded,
    chunks_of,
    generate,
    guided_policy,
    load_recorded,
    promised,
    save_recorded,
)
from intuitive.qgf.policies import WAYS
from intuitive.qgf.results import OGBENCH

rounded = functools.partial(helpers.rounded, decimals=4)
NETS = {"width": 512, "depth": 4, "batch_size": 1024, "learning_rate": 3e-4}
SLICE_TOLERANCE = 1e-3  # of means over a trajectory: the simulator may differ in its last digits


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """How one task is learned and measured."""

    n_transitions: int
    training: IQLConfig
    early: tuple[int, ...] = (4_000, 12_000)  # training steps whose critics are kept
    n_tuning: int = 30  # episodes that choose the weights
    n_scored: int = 60  # other episodes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run does; seeds 0 and 1 start the tuning and the scored episodes."""

    seed: int = 0  # of data and training
    tuning_seed: int = 0
    scored_seed: int = 1
    ways: tuple[str, ...] = ("bc", "best_of_n_4", "best_of_n_16", "qgf", "ood", "grad_step")
    exploiting: tuple[str, ...] = ("qgf", "ood")
    large_weights: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0)  # of these
    tasks: dict[str, TaskPlan] = field(
        default_factory=lambda: {
            "pointmaze-medium": TaskPlan(
                n_transitions=100_000,
                training=IQLConfig(
                    state_size=2, action_size=2, gamma=0.995, n_steps=60_000, **NETS
                ),
            ),
            "cube-single": TaskPlan(
                n_transitions=200_000,
                training=IQLConfig(
                    state_size=28, action_size=5, gamma=0.99, n_steps=120_000, **NETS
                ),
            ),
        }
    )


# -------------------------------------------------------------------------------- the stages


def data_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npz"


def agent_path(folder: Path, name: str, stage: str) -> Path:
    return folder / f"{name}-{stage}.safetensors"


def generate_data(plan: Plan, name: str, folder: Path) -> None:
    recorded = generate(
        name,
        n_transitions=plan.tasks[name].n_transitions,
        seed=plan.seed,
        progress=lambda done, n: report(name, done / n, f"{done} of {n} trajectories"),
    )
    save_recorded(data_path(folder, name), recorded)


def train_agent(plan: Plan, name: str, folder: Path, *, device: str, commit: str | None) -> None:
    task_plan, task = plan.tasks[name], TASKS[name]
    n_steps = task_plan.training.n_steps
    chunks = chunks_of(load_recorded(data_path(folder, name)), task, task_plan.training)
    started = time.perf_counter()
    made = {"device": device_name(device), "torch": torch.__version__, "commit": commit or ""}

    def keep(step: int, agent: Agent) -> None:
        words = {"steps": str(step), "seconds": f"{time.perf_counter() - started:.1f}"}
        stage = str(step) if step in task_plan.early else "final"  # halfway too, if cut short
        save_agent(agent_path(folder, name, stage), agent, made | words)

    train(
        task_plan.training,
        chunks.to(device),
        seeds=(plan.seed,),
        device=device,
        observe=keep,
        observe_at={*task_plan.early, n_steps // 2, n_steps},
        progress=lambda share, words: report(
            name, share, f"{words}, {time.perf_counter() - started:.0f} s"
        ),
    )


def evaluate_agent(plan: Plan, name: str, folder: Path) -> dict[str, Any]:
    """Everything the result file says of one task."""
    task_plan = plan.tasks[name]
    agent = load_agent(agent_path(folder, name, "final"))
    _, made = load_weights(agent_path(folder, name, "final"))
    recorded = load_recorded(data_path(folder, name))
    tuning = Bench(plan, name, task_plan.n_tuning, plan.tuning_seed)
    rows = tuning.sweep(agent)
    exploitation = []
    for stage in (*map(str, task_plan.early), "final"):
        critics = load_agent(agent_path(folder, name, stage)).critics
        exploited = tuning.exploit(dataclasses.replace(agent, critics=critics))
        exploitation += [{"critic": stage, **row} for row in exploited]
    tuning.evaluator.close()
    scoring = Bench(plan, name, task_plan.n_scored, plan.scored_seed)
    scored = [scoring.row(agent, name, weight) for name, weight in chosen(rows).items()]
    scoring.evaluator.close()
    return {
        "data": {
            "transitions": int((~recorded.last).sum()),
            "goal_entries": entries(recorded),
            "digest": digest(first_trajectory(recorded)),
        },
        "training": {
            "steps": int(made["steps"]),
            "seconds": float(made["seconds"]),
            "device": made["device"],
            "torch": made["torch"],
            "commit": made["commit"],
        },
        "tuning": rows,
        "exploitation": exploitation,  # "critic": the training step that it is from
        "scored": scored,
    }


class Bench:
    """Episodes of one task from the same starts for every policy."""

    def __init__(self, plan: Plan, name: str, n_episodes: int, seed: int) -> None:
        self.plan, self.task, self.seed = plan, TASKS[name], seed
        self.gamma = plan.tasks[name].training.gamma
        self.evaluator = Evaluator(name, n_episodes)

    def sweep(self, agent: Agent) -> list[dict[str, Any]]:
        """Rows for every way of acting at all its weights."""
        ways = self.plan.ways
        return [self.row(agent, name, weight) for name in ways for weight in WAYS[name].weights]

    def exploit(self, agent: Agent) -> list[dict[str, Any]]:
        """Rows for what follows the critic as far as it can, beginning with what does not."""
        plan = self.plan
        rows = [self.row(agent, name, 1.0) for name in ("bc", "best_of_n_4", "best_of_n_16")]
        return rows + [self.row(agent, n, w) for n in plan.exploiting for w in plan.large_weights]

    def row(self, agent: Agent, name: str, weight: float) -> dict[str, Any]:
        """Success, steps and the critic's promise for one way of acting."""
        started = time.perf_counter()
        policy = guided_policy(self.task, agent, WAYS[name], weight)
        episodes = self.evaluator.run(policy, seed=self.seed)
        paid = -(1 - self.gamma**episodes.steps) / (1 - self.gamma)
        row = {
            "way": name,
            "weight": weight,
            "episodes": len(episodes.success),
            "success": rounded(episodes.success.float().mean()),
            "steps": rounded(episodes.steps.mean()),
            "promised": rounded(promised(self.task, agent, episodes).mean()),
            "discounted_return": rounded(paid.mean()),
        }
        report(self.task.name, 1.0, f"{row} {time.perf_counter() - started:.0f} s")
        return row


def chosen(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The best weight of every way of acting: by success, then by speed."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row["way"]
        if name not in best or rank(row) > rank(best[name]):
            best[name] = row
    return {name: row["weight"] for name, row in best.items()}


def rank(row: dict[str, Any]) -> tuple[float, float]:
    return row["success"], -row["steps"]


# ---------------------------------------------------------------------------------- the data


def entries(recorded: Recorded) -> int:
    """How often a trajectory enters the goal."""
    inside = recorded.goal_reached
    return int((inside[1:] & ~inside[:-1] & ~recorded.last[:-1]).sum())


def first_trajectory(recorded: Recorded) -> Recorded:
    end = int(recorded.last.nonzero()[0]) + 1
    return Recorded(*(getattr(recorded, f.name)[:end] for f in dataclasses.fields(recorded)))


def digest(recorded: Recorded) -> dict[str, Any]:
    """A few numbers that change when the data do."""
    return {
        "rows": len(recorded.last),
        "goal_rows": int(recorded.goal_reached.sum()),
        "observations": rounded(recorded.observations.mean(0)),
        "actions": rounded(recorded.actions.mean(0)),
    }


def compare_slice(path: Path) -> list[str]:
    """What the first trajectories, made again, have otherwise than the result file at `path`."""
    values, made = records.load(path)
    wrong = []
    for name, task in values["tasks"].items():
        again = generate(name, n_transitions=TRAJECTORY, seed=made["config"]["seed"])
        found, expected = digest(again), task["data"]["digest"]
        for key in ("observations", "actions"):
            pairs = zip(found.pop(key), expected.pop(key), strict=True)
            if any(abs(a - b) > SLICE_TOLERANCE for a, b in pairs):
                wrong.append(f"{name}: mean {key} differ by more than {SLICE_TOLERANCE}")
        if found != expected:
            wrong.append(f"{name}: {found}, the file says {expected}")
    return wrong


# ----------------------------------------------------------------------------------- the run


def already_evaluated(path: Path, plan: Plan) -> dict[str, Any]:
    """Tasks that an earlier or parallel run of the same plan has written."""
    if not path.is_file():
        return {}
    values, made = records.load(path)
    return values["tasks"] if made["config_hash"] == records.config_hash(plan) else {}


def report(name: str, share: float, words: str) -> None:
    print(f"{name} {share:.0%} {words}", flush=True)


def small(plan: Plan) -> Plan:
    """A cut that two CPU cores can train, to try the stages."""
    nets = {"width": 128, "depth": 3, "batch_size": 256, "n_steps": 10_000, "polyak": 0.02}
    tasks = {
        name: dataclasses.replace(
            task, training=dataclasses.replace(task.training, **nets), early=(1000,), n_tuning=20
        )
        for name, task in plan.tasks.items()
    }
    return dataclasses.replace(plan, tasks=tasks)


def main() -> int:
    parser = helpers.options(__doc__, folder=False, slices=False)
    stages = parser.add_mutually_exclusive_group(required=True)
    for stage in ("generate", "train", "evaluate"):
        stages.add_argument(f"--{stage}", type=Path, metavar="FOLDER")
    stages.add_argument("--slice", action="store_true")
    parser.add_argument("--task", choices=TASKS, action="append")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, help="training steps, instead of the plan's")
    parser.add_argument("--small", action="store_true", help="nets and steps for a CPU")
    parser.add_argument("--output", type=Path, default=helpers.RESULTS / f"{OGBENCH}.json")
    options = parser.parse_args()
    if options.slice:
        return helpers.told(compare_slice(options.output))
    plan = small(Plan()) if options.small else Plan()
    if options.steps:
        tasks = {
            name: dataclasses.replace(
                task, training=dataclasses.replace(task.training, n_steps=options.steps)
            )
            for name, task in plan.tasks.items()
        }
        plan = dataclasses.replace(plan, tasks=tasks)
    folder = options.generate or options.train or options.evaluate
    folder.mkdir(parents=True, exist_ok=True)
    names = options.task or list(plan.tasks)
    for name in names:
        if options.generate:
            generate_data(plan, name, folder)
        elif options.train:
            torch.set_float32_matmul_precision("high")  # TF32 where there is one
            train_agent(plan, name, folder, device=options.device, commit=options.commit)
        else:
            found = evaluate_agent(plan, name, folder)
            tasks = already_evaluated(options.output, plan) | {name: found}
            made = {"device": device_name("cpu"), "commit": options.commit}
            made["seed"] = [plan.seed, plan.tuning_seed, plan.scored_seed]
            records.save(options.output, {"tasks": tasks}, config=plan, **made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
