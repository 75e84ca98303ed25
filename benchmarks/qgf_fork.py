"""Every way of acting on the fork world: trained once per seed, rolled out at many weights.

    python benchmarks/qgf_fork.py --device cuda    five scored seeds, three for the weights
    python benchmarks/qgf_fork.py --small          one of each on the CPU; some ten minutes
    python benchmarks/qgf_fork.py --paths          rollouts of the trained nets alone, seconds
    python benchmarks/qgf_fork.py --slice          the same, compared with the committed ones

Prints the table and writes FOLDER/qgf_fork.json (default: benchmarks/results) and seed 0's nets,
WEIGHTS/fork.safetensors (default: intuitive/qgf/weights), from which lesson and explorer roll out
live. Weights are chosen on seeds that are not scored; the whole curves are kept. Times of a
decision are of one CPU thread, whatever device trained. FOLDER/qgf_fork_paths.json holds what the
nets so written do on the CPU, every way at its chosen weight, and some paths.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import helpers
import msgspec
import torch
from helpers import aligned, rounded, spread

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.training import one_thread
from intuitive.qgf.experiments import policies as acting
from intuitive.qgf.experiments.policies import PolicyParams
from intuitive.qgf.fork import ForkWorld
from intuitive.qgf.iql import Agent, IQLConfig, load_agent, save_agent, stack, train
from intuitive.qgf.policies import WAYS, WEIGHTS_FILE, decision_time, evaluate, fork_chunks
from intuitive.qgf.results import FORK, ForkRuns

SCORED, TUNING = (0, 1, 2, 3, 4), (5, 6, 7)
SMALL = {"scored": (0,), "tuning": (5,), "n_episodes": 100}
N_DATA = 2000  # scripted episodes per seed
N_EPISODES = 300  # rolled out per seed, way and weight
EVALUATION_SEED = 1000
RESULT, PATHS = f"{FORK}.json", "qgf_fork_paths.json"
N_PATHS = 4  # episodes kept per way

# Orderings that are counted over seeds, by return at the chosen weights.
PAIRS = (
    ("qgf", "qgf_jacobian"),
    ("qgf_jacobian", "chain"),
    ("chain", "bptt"),
    ("bptt", "bc"),
    ("qgf", "ood"),
    ("qgf", "grad_step"),
    ("qgf", "cfgrl"),
    ("qgf", "robust_q"),
    ("qgf", "best_of_n_4"),
    ("qgf", "best_of_n_16"),
)

# Paths of another processor part after many decisions: a few episodes may end otherwise.
SLICE_SUCCESS = 0.15  # absolute
SLICE_Q = 0.005  # relative, of the critic's value of the first chunks, before any path parts
SLICE_WAYS = ("bc", "qgf", "best_of_n_4")


def plan(scored: Sequence[int], tuning: Sequence[int], n_episodes: int) -> dict[str, Any]:
    """Everything that decides the numbers, for the record."""
    return {
        "world": dataclasses.asdict(ForkWorld()),
        "training": dataclasses.asdict(IQLConfig()),
        "data_episodes": N_DATA,
        "ways": {name: dataclasses.asdict(way) for name, way in WAYS.items()},
        "scored": list(scored),
        "tuning": list(tuning),
        "n_episodes": n_episodes,
    }


def path_plan(chosen: dict[str, float]) -> dict[str, str]:
    """Settings of every way's rollouts."""
    return {name: PolicyParams(ways=name, weight=w).to_text() for name, w in chosen.items()}


def paths(agent: Agent, settings: dict[str, str]) -> dict[str, Any]:
    """What an agent does on this processor: summary of every way, and some paths."""
    found = {}
    for name, text in settings.items():
        (way,) = acting.run(PolicyParams.from_text(text), agent=agent).ways
        found[name] = {
            "weight": way.weight,
            "success": round(way.success, 4),
            "mean_return": round(way.mean_return, 4),
            "first_q": round(way.first_q, 4),
            "paths": rounded(way.paths[:N_PATHS].tolist(), decimals=3),
        }
    return found


def save_paths(options: argparse.Namespace) -> Path:
    """Roll out the nets that were written, at the weights that were chosen."""
    values, _ = records.load(options.folder / RESULT)
    settings = path_plan(values["chosen"])
    return records.save(
        options.folder / PATHS,
        paths(load_agent(options.weights / WEIGHTS_FILE), settings),
        config=settings,
        device=device_name("cpu"),
        commit=options.commit,
        seed=PolicyParams().seed,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train, roll out, choose, time, and write the shipped nets."""
    world, config = ForkWorld(), IQLConfig()
    seeds = (*options.scored, *options.tuning)
    started = time.perf_counter()
    chunks = stack([fork_chunks(world, config, N_DATA, seed) for seed in seeds])
    agent = train(
        config,
        chunks,
        seeds=seeds,
        device=options.device,
        progress=lambda share, sentence: print(f"\r{sentence}", end="", flush=True),
    )
    training_s = time.perf_counter() - started
    print(f"\nTrained {len(seeds)} seeds in {training_s:.0f} s")

    curves = []
    for name in WAYS:
        started = time.perf_counter()
        curves.append(
            evaluate(agent, world, name, n_episodes=options.n_episodes, seed=EVALUATION_SEED)
        )
        print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
    chosen = {curve.way: curve.best_weight(options.tuning) for curve in curves}

    cuda_ms = None
    if torch.device(options.device).type == "cuda":
        cuda_ms = {name: round(decision_time(agent, name).median_ms, 3) for name in WAYS}
    made = {
        "command": "benchmarks/qgf_fork.py",
        "commit": options.commit or records.commit_here() or "unknown",
    }
    nets = save_agent(options.weights / WEIGHTS_FILE, agent.members(0).to("cpu"), made)
    print(f"Written to {nets}, {nets.stat().st_size / 1e3:.0f} kB")
    shipped = load_agent(nets)
    cpu_ms = {name: round(decision_time(shipped, name).median_ms, 3) for name in WAYS}
    return {
        "scored": list(options.scored),
        "tuning": list(options.tuning),
        "n_episodes": options.n_episodes,
        "training_s": round(training_s, 1),
        "curves": [
            {name: rounded(entry, decimals=4) for name, entry in dataclasses.asdict(curve).items()}
            for curve in curves
        ],
        "chosen": chosen,
        "decision_ms": cpu_ms,
        "decision_device": device_name("cpu"),
        "decision_cuda_ms": cuda_ms,
    }


# ------------------------------------------------------------------------------------ tables


def table(runs: ForkRuns) -> str:
    """Every way at its chosen weight: mean and range over the scored seeds."""
    rows = [["way", "w", "won", "return", "Q of the first chunk", "time / BC"]]
    for curve in runs.curves:
        rows.append(
            [
                WAYS[curve.way].label,
                f"{runs.chosen[curve.way]:g}" if WAYS[curve.way].takes_weight else "",
                spread(runs.score(curve.way), to=" to "),
                spread(runs.score(curve.way, "returns"), ".1f", to=" to "),
                spread(runs.score(curve.way, "first_q"), ".1f", to=" to "),
                f"{runs.relative_time(curve.way):.1f}",
            ]
        )
    return aligned(rows)


def curve_table(runs: ForkRuns, measure: str) -> str:
    """One measure at every weight, mean over the scored seeds."""
    guided = [curve for curve in runs.curves if WAYS[curve.way].takes_weight]
    rows = [["way", "weight: mean over scored seeds"]]
    for curve in guided:
        cells = [
            f"{w:g}: {statistics.mean(curve.at(w, runs.scored, measure)):.2f}"
            for w in curve.weights
        ]
        rows.append([WAYS[curve.way].label, "   ".join(cells)])
    return aligned(rows)


def orderings(runs: ForkRuns) -> str:
    """In how many scored seeds one way returns more than another."""
    lines = []
    for one, other in PAIRS:
        count = runs.count_better(one, other)
        lines.append(
            f"{WAYS[one].label} > {WAYS[other].label}: {count} of {len(runs.scored)} seeds"
        )
    return "\n".join(lines)


# ------------------------------------------------------------------------------------- slice


def compare_slice(options: argparse.Namespace) -> list[str]:
    """Roll out the trained nets again; what differs from the committed numbers."""
    values, made = records.load(options.folder / RESULT)
    known, settings = records.load(options.folder / PATHS)
    faults = []
    sizes = (values["scored"], values["tuning"], values["n_episodes"])
    if made["config_hash"] != records.config_hash(plan(*sizes)):
        faults.append(f"{RESULT} was made with other settings: run the benchmark again")
    if settings["config_hash"] != records.config_hash(path_plan(values["chosen"])):
        faults.append(f"{PATHS} was made with other settings: run the benchmark with --paths")
    wanted = {name: settings["config"][name] for name in SLICE_WAYS}
    for name, now in paths(load_agent(options.weights / WEIGHTS_FILE), wanted).items():
        won = abs(now["success"] - known[name]["success"])
        q = abs(now["first_q"] / known[name]["first_q"] - 1)
        print(f"{name}: success differs by {won:.2f}, the first chunks' Q by {q:.1e} (relative)")
        if won > SLICE_SUCCESS or q > SLICE_Q:
            faults.append(f"{name}: success differs by {won:.2f}, Q by {q:.1e}")
    return faults


@one_thread()
def main(arguments: Sequence[str] | None = None) -> int:
    parser = helpers.options(__doc__)
    parser.add_argument("--paths", action="store_true", help="roll out the trained nets only")
    parser.add_argument("--small", action="store_true", help="few seeds and episodes")
    parser.add_argument("--device", default="cpu", help="where to train and roll out")
    parser.add_argument("--weights", type=Path, default=helpers.ROOT / "intuitive/qgf/weights")
    parser.set_defaults(scored=SCORED, tuning=TUNING, n_episodes=N_EPISODES)
    options = parser.parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options))
    if options.paths:
        print(f"Written to {save_paths(options)}")
        return 0
    if options.small:
        vars(options).update(SMALL)

    path = records.save(
        options.folder / RESULT,
        run(options),
        config=plan(options.scored, options.tuning, options.n_episodes),
        device=device_name(options.device),
        commit=options.commit,
        seed=[*options.scored, *options.tuning, EVALUATION_SEED],
    )
    runs = msgspec.convert(records.load(path)[0], ForkRuns)
    print(f"\nMean (range) over seeds {runs.scored}; weights chosen on seeds {runs.tuning}\n")
    parts = (table(runs), curve_table(runs, "success"), curve_table(runs, "returns"))
    print("\n\n".join((*parts, orderings(runs))))
    print(f"\nWritten to {path} and {save_paths(options)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
