"""The arena: every method on every task at equal memory, and how long each takes.

    python benchmarks/arena.py --device cuda             1K to 4K tokens, three seeds
    python benchmarks/arena.py --small --out FILE        a tiny cut for two CPU cores
    python benchmarks/arena.py --join FILE FILE ...      parts of a run (--lengths) as one result

Each cell is a task, a length, a method and a budget; the rows of a cell are drawn anew for each
seed. A method that does not fit into a budget is recorded with the reason under `absent`. Times are
of one text at a time. Matrices are multiplied in TF32 on a GPU. Everything is saved after each
stage; no stage begins after --seconds. A method or stage that fails is recorded under `faults`.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import helpers
import torch

from intuitive.arena import (
    METHODS,
    RATIOS,
    TASKS,
    Contestants,
    OverBudget,
    Reading,
    draw,
    outcome,
    timing,
)
from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.smollm import load_smollm2

RESULT = helpers.RESULTS / "arena.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured; lengths in tokens."""

    lengths: tuple[int, ...] = (1024, 4096, 2048)  # in the order of the run
    tasks: tuple[str, ...] = TASKS
    methods: tuple[str, ...] = tuple(METHODS)
    ratios: tuple[int, ...] = RATIOS
    seeds: tuple[int, ...] = (0, 1, 2)
    count: int = 16  # questions of a task, a length and a seed
    batch_tokens: int = 16_384  # read at once
    timed: tuple[int, ...] = (1024, 4096)
    repeats: int = 2
    steps: int = 4  # tokens that are timed

    @classmethod
    def small(cls) -> "Plan":
        """A few minutes on two CPU cores."""
        return cls(
            lengths=(256,),
            ratios=(4, 8),
            seeds=(0,),
            count=2,
            batch_tokens=512,
            timed=(256,),
            repeats=1,
        )


class Bench:
    """All stages and their results."""

    def __init__(self, plan: Plan, device: torch.device, seconds: float) -> None:
        self.plan, self.device, self.seconds = plan, device, seconds
        self.start = time.perf_counter()
        self.contestants = Contestants(load_smollm2(device=device))
        self.tokenizer = self.contestants.model.tokenizer
        self.values: dict = {"cells": [], "texts": [], "times": [], "absent": [], "faults": []}
        self.values["seconds"] = {}

    def pairs(self) -> list[tuple[str, int]]:
        """Methods with the budgets that they are tried at."""
        first = self.plan.ratios[:1]
        of = {m: first if METHODS[m].own_size else self.plan.ratios for m in self.plan.methods}
        return [(method, ratio) for method, ratios in of.items() for ratio in ratios]

    def accuracy(self, task: str, n: int) -> None:
        """Every method and budget on one task at one length."""
        rows = max(1, self.plan.batch_tokens // n)
        for seed in self.plan.seeds:
            questions = draw(task, self.tokenizer, n=n, count=self.plan.count, seed=seed)
            found: dict[tuple[str, int], list] = {}
            for first in range(0, self.plan.count, rows):
                part = questions.rows(slice(first, first + rows)).to(self.device)
                reading = Reading(self.contestants, part)
                for method, ratio in self.pairs():
                    try:
                        one = outcome(reading, reading.memory(method, ratio))
                    except OverBudget as error:
                        self.absent(task, n, method, ratio, str(error))
                    except Exception as error:
                        self.fault(f"{task} {n} {method} 1/{ratio} seed {seed}", error)
                    else:
                        found.setdefault((method, ratio), []).append(one)
            about = {"task": task, "n": n, "seed": seed}
            depth = [round(at / n, 3) for at in questions.place[:, 0].tolist()]
            self.values["texts"].append(about | {"depth": depth})
            for parts in found.values():
                self.values["cells"].append(about | joined(parts))

    def absent(self, task: str, n: int, method: str, ratio: int, why: str) -> None:
        row = {"task": task, "n": n, "method": method, "ratio": ratio, "why": why}
        if row not in self.values["absent"]:
            self.values["absent"].append(row)

    def fault(self, stage: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {str(error)[:300]}"
        self.values["faults"].append({"stage": stage, "error": text})
        print(f"FAULT in {stage}: {text}", flush=True)

    def times(self, n: int) -> None:
        """Every method on one text of n tokens."""
        question = draw("needle", self.tokenizer, n=n, count=1, seed=0).to(self.device)
        for method, ratio in self.pairs():
            try:
                one = timing(
                    self.contestants,
                    question,
                    method,
                    ratio,
                    repeats=self.plan.repeats,
                    steps=self.plan.steps,
                )
            except OverBudget as error:
                self.absent("needle", n, method, ratio, str(error))
            except Exception as error:
                self.fault(f"times {n} {method} 1/{ratio}", error)
            else:
                self.values["times"].append(helpers.rounded(one, digits=4))

    def run(self, save: Callable[[dict], None]) -> None:
        """All stages, as far as there is time."""
        stages = []
        for n in self.plan.lengths:
            stages += [(f"{task} {n}", partial(self.accuracy, task, n)) for task in self.plan.tasks]
            if n in self.plan.timed:
                stages.append((f"times {n}", partial(self.times, n)))
        for name, stage in stages:
            begun = time.perf_counter()
            try:
                if begun - self.start > self.seconds:
                    raise TimeoutError(f"not begun after {begun - self.start:.0f} s")
                stage()
            except Exception as error:
                self.fault(name, error)
            taken = time.perf_counter() - begun
            self.values["seconds"][name] = round(taken, 1)
            print(f"{name}: {taken:.1f} s", flush=True)
            save(self.values)
        print(table(self.values))
        print(f"in all {time.perf_counter() - self.start:.0f} s")


def joined(parts: list) -> dict:
    """Outcomes of batches of one cell as one row."""
    weights = [len(part.hits) for part in parts]

    def mean(name: str) -> float | None:
        values = [getattr(part, name) for part in parts]
        if any(value is None for value in values):
            return None
        return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)

    names = ("nats", "resident", "read", "elsewhere", "kept", "found")
    numbers = helpers.rounded({name: mean(name) for name in names}, digits=4)
    first = parts[0]
    hits = "".join(part.hits for part in parts)
    return {"method": first.method, "ratio": first.ratio, "hits": hits, **numbers, "own": first.own}


def table(values: dict) -> str:
    """Share right (nats for the gist) by task and length, a line per method and budget."""
    kinds = list(dict.fromkeys((row["task"], row["n"]) for row in values["cells"]))
    lines: dict[tuple[str, int], dict] = {}
    for row in values["cells"]:
        cell = lines.setdefault((row["method"], row["ratio"]), {}).setdefault(
            (row["task"], row["n"]), []
        )
        cell.append(
            row["nats"] if row["task"] == "gist" else row["hits"].count("1") / len(row["hits"])
        )
    rows = [("method", "1/", *(f"{task} {n}" for task, n in kinds))]
    for (method, ratio), cells in lines.items():
        numbers = [helpers.spread(cells.get(kind, ())) for kind in kinds]
        rows.append((method, str(ratio), *numbers))
    return helpers.aligned(rows)


def joined_files(paths: list[Path], out: Path) -> None:
    """Parts of one run, which differ in their lengths, as one result.

    Raises:
        ValueError: the parts come from different trees, devices or plans.
    """
    values: dict = {}
    made: list[dict] = []
    for path in paths:
        part, about = records.load(path)
        for name, rows in part.items():
            if isinstance(rows, dict):
                values.setdefault(name, {}).update(rows)
            else:
                values.setdefault(name, []).extend(rows)
        made.append(about)
    lengths = [n for about in made for n in about["config"]["lengths"]]
    kinds = [
        (about["commit"], about["device"], about["config"] | {"lengths": None, "timed": None})
        for about in made
    ]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(f"{[str(p) for p in paths]} are not of one tree, device and plan: {kinds}")
    if len(set(lengths)) < len(lengths):
        raise ValueError(f"the parts hold a length twice: {lengths}. Join each part once.")
    values["parts"] = [about["command"] for about in made]
    timed = [n for about in made for n in about["config"]["timed"]]
    records.save(
        out,
        values,
        config=made[0]["config"] | {"lengths": lengths, "timed": timed},
        device=made[0]["device"],
        commit=made[0]["commit"],
        seed=made[0]["seed"],
    )
    print(table(values))


def main() -> None:
    """Measure what there is time for, saving after every stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="a tiny setting, for a CPU")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the result goes")
    parser.add_argument("--seconds", type=float, default=170, help="no stage begins later")
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    parser.add_argument("--lengths", nargs="+", type=int, help="of the texts, in tokens")
    parser.add_argument("--join", nargs="+", type=Path, help="results of parts; nothing is run")
    arguments = parser.parse_args()
    if arguments.join:
        joined_files(arguments.join, arguments.out)
        return
    device = torch.device(arguments.device)
    plan = Plan.small() if arguments.small else Plan()
    if arguments.lengths:
        timed = tuple(n for n in plan.timed if n in arguments.lengths)
        plan = replace(plan, lengths=tuple(arguments.lengths), timed=timed)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")

    def save(values: dict) -> None:
        records.save(
            arguments.out,
            values,
            config=plan,
            device=device_name(device),
            commit=arguments.commit,
            seed=plan.seeds,
        )

    with torch.inference_mode():
        Bench(plan, device, arguments.seconds).run(save)


if __name__ == "__main__":
    main()
