"""Which way of teaching works on running sums: every method, learned and exact teacher, five seeds.

    python benchmarks/trd_methods.py --setting small --device cuda [--commit HASH]
    python benchmarks/trd_methods.py --setting late --device cuda
    python benchmarks/trd_methods.py --slice                  a little of the small setting again

Stages, in this order (`--stage` picks one or more): train (teacher and first students), teachers
(WAIT maps, rewrites, signals), methods (the table: one and eight rounds), ablations, dose (the
exact teacher at several λ). Every stage adds its part to FOLDER/trd_methods_SETTING.json; `train`
writes WEIGHTS/SETTING.safetensors, which the package ships and the later stages read. The two
settings share nothing and may run at the same time.

Equal for all methods: first students, problems, optimiser steps and batch. The learning rate of
each is chosen by accuracy on validation problems that are not scored. Intervals are bootstrap
intervals over problems and seeds.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import helpers
import torch
from helpers import rounded
from torch import Tensor

from intuitive.common import records
from intuitive.common.runtime import device_name, seeded
from intuitive.trd.config import setting_config
from intuitive.trd.distillation import Arm, Distilled, Plan, distil, grade, roll
from intuitive.trd.experiments.train import right_to_left
from intuitive.trd.methods import ABLATIONS, METHODS, Method
from intuitive.trd.metrics import bootstrap_mean, distinct_correct_orders, pass_at_k
from intuitive.trd.results import MethodRow, Point, methods_name
from intuitive.trd.rollout import Tokens
from intuitive.trd.signals import rewrites, wait_map
from intuitive.trd.sums import Verdict, plans, sample_digits
from intuitive.trd.teacher import ExactTeacher, Teacher, TeacherConfig
from intuitive.trd.trained import WEIGHTS, Shipped, load_shipped, save_shipped
from intuitive.trd.training import first_students, learned_teacher

STAGES = ("train", "teachers", "methods", "ablations", "dose")
DOSE_METHODS = ("opd_forward", "opd_reverse", "sft_teacher", "trd")
PROBLEMS_SEED = 2026  # of the problems, the same for all students
SLICE = ("opd_forward", "trd")  # trained again by --slice, first seed, exact teacher
SLICE_TOLERANCE = 0.12  # on accuracy: another device draws other random numbers


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is trained and on what it is scored."""

    setting: str
    seeds: int = 5
    tuning_seeds: int = 2  # of these, for the choice of learning rates
    lrs: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 6e-3)
    plan: Plan = field(default_factory=Plan)
    rounds: tuple[int, ...] = (1, 8)
    repair: float = 0.3  # λ of the exact teacher
    doses: tuple[float, ...] = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8)
    n_validation: int = 128  # problems, 4 rollouts each
    n_test: int = 128  # problems, 16 rollouts each
    n_samples: int = 16
    n_traces: int = 512  # per error position of the WAIT maps
    methods: tuple[str, ...] = tuple(METHODS)
    ablations: tuple[str, ...] = tuple(ABLATIONS)

    @classmethod
    def small(cls, setting: str) -> "Sweep":
        """A cut to try the script on a CPU; its numbers mean little."""
        return cls(
            setting=setting,
            seeds=1,
            tuning_seeds=1,
            lrs=(1e-3, 2e-3),
            plan=Plan(n_problems=64, n_steps=8, batch=16),
            rounds=(1, 2),
            doses=(0.0, 0.5),
            n_validation=8,
            n_test=8,
            n_samples=4,
            n_traces=8,
            methods=("opd_forward", "sft_teacher", "trd"),
            ablations=("opd_forward_x3", "trd_any_order"),
        )


@dataclass(frozen=True)
class Bench:
    """The sweep on its device, with the problems of training, validation and test."""

    sweep: Sweep
    device: torch.device
    models: Shipped
    train: Tensor
    validation: Tensor
    test: Tensor

    @classmethod
    def of(cls, sweep: Sweep, models: Shipped, device: torch.device) -> "Bench":
        sizes = [sweep.plan.n_problems, sweep.n_validation, sweep.n_test]
        digits = sample_digits(
            models.config.sums, sum(sizes), generator=seeded(PROBLEMS_SEED), distinct=True
        )
        return cls(sweep, device, models, *digits.to(device).split(sizes))

    def teacher(self, name: str, repair: float | None = None) -> Teacher:
        """The learned teacher, or the exact one with some λ."""
        if name == "learned":
            return self.models.teacher
        repair = self.sweep.repair if repair is None else repair
        return ExactTeacher(sums=self.models.config.sums, config=TeacherConfig(repair=repair))

    def grade(self, done: Distilled, digits: Tensor, n_samples: int, salt: int) -> list[Verdict]:
        seeds = [arm.seed for arm in done.arms]
        sums = self.models.config.sums
        rolled = roll(sums, done.stack, digits, seeds=seeds, n_samples=n_samples, salt=salt)
        return grade(sums, digits, rolled)


@dataclass(frozen=True)
class Cell:
    """One row of a table before it is measured."""

    name: str
    method: Method
    teacher: str  # a key of the teachers given with it
    repair: float


def choose_rates(
    bench: Bench, cells: Sequence[Cell], teachers: Mapping[str, Teacher], rounds: int
) -> list[dict[float, float]]:
    """Accuracy on the validation problems by learning rate, for every cell."""
    sweep = bench.sweep
    plan = dataclasses.replace(sweep.plan, rounds=rounds, observe_every=0)
    tuning = [
        Arm(name=cell.name, method=cell.method, teacher=cell.teacher, seed=seed, lr=lr)
        for cell in cells
        for lr in sweep.lrs
        for seed in range(sweep.tuning_seeds)
    ]
    done = distil(bench.models.students, tuning, teachers, bench.train, plan)
    found = [v.correct.float().mean().item() for v in bench.grade(done, bench.validation, 4, 50)]
    by_lr = torch.tensor(found).view(len(cells), len(sweep.lrs), -1).mean(-1)  # [cells, lrs]
    return [dict(zip(sweep.lrs, scores, strict=True)) for scores in by_lr.tolist()]


def measure_rows(
    bench: Bench,
    cells: Sequence[Cell],
    teachers: Mapping[str, Teacher],
    rounds: int,
    validation: Sequence[dict[float, float]] | None = None,
) -> list[MethodRow]:
    """Choose each cell's learning rate, train its students on all seeds, score them.

    `validation` holds accuracies by learning rate where they are known already.
    """
    sweep = bench.sweep
    plan = dataclasses.replace(
        sweep.plan, rounds=rounds, observe_every=max(1, sweep.plan.n_steps // 4)
    )
    validation = validation or choose_rates(bench, cells, teachers, rounds)
    chosen = [max(scores, key=scores.__getitem__) for scores in validation]
    arms = [
        Arm(name=cell.name, method=cell.method, teacher=cell.teacher, seed=seed, lr=lr)
        for cell, lr in zip(cells, chosen, strict=True)
        for seed in range(sweep.seeds)
    ]
    seen: list[tuple[int, list[Tokens], list[Tensor]]] = []

    def observe(step: int, stack: Any, cost: list[Tokens]) -> None:
        state = Distilled(stack, tuple(arms), cost)
        correct = [v.correct.view(4, -1) for v in bench.grade(state, bench.test, 4, 60)]
        seen.append((step, list(cost), correct))

    done = distil(bench.models.students, arms, teachers, bench.train, plan, observe=observe)
    verdicts = bench.grade(done, bench.test, sweep.n_samples, 70)
    return [
        _row(bench, cell, rounds, lr, scores, done, verdicts,
             seen, slice(place * sweep.seeds, (place + 1) * sweep.seeds))
        for place, (cell, lr, scores) in enumerate(zip(cells, chosen, validation, strict=True))
    ]  # fmt: skip


def _row(
    bench: Bench,
    cell: Cell,
    rounds: int,
    lr: float,
    validation: Mapping[float, float],
    done: Distilled,
    verdicts: Sequence[Verdict],
    seen: Sequence[tuple[int, list[Tokens], list[Tensor]]],
    arms: slice,
) -> MethodRow:
    sums, n, own = bench.models.config.sums, bench.sweep.n_samples, verdicts[arms]

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(verdict, name) for verdict in own])

    correct, waits = joined("correct"), joined("n_waits") > 0
    table = correct.view(len(own), n, -1).cpu()  # [seeds, n, problems]
    counts = table.sum(1)  # [seeds, problems]
    orders = joined("order").view(len(own), n, -1, sums.n_digits).cpu()
    distinct = [
        distinct_correct_orders(orders[i].transpose(0, 1), table[i].T).double().mean().item()
        for i in range(len(own))
    ]
    right = plans(sums, bench.test).repeat(n * len(own))
    cost = done.cost[arms]
    return MethodRow(
        name=cell.name,
        teacher=cell.teacher.split()[0],
        repair=cell.repair,
        rounds=rounds,
        lr=lr,
        validation={f"{rate:g}": score for rate, score in validation.items()},
        accuracy=bootstrap_mean(counts.double() / n),
        accuracy_by_seed=tuple((counts.double() / n).mean(1).tolist()),
        pass_at={str(k): float(pass_at_k(n, counts, k).mean()) for k in (1, 4, 16) if k <= n},
        wait=_mean(waits),
        correct_after_wait=_mean(correct[waits]) if bool(waits.any()) else None,
        idle_wait=_mean(joined("n_idle_waits") > 0),
        plan_right=_mean(joined("plan") == right) if sums.plan else None,
        order_kept=_mean(right_to_left(sums, joined("order"))),
        distinct_orders=sum(distinct) / len(distinct),
        well_formed=_mean(joined("well_formed")),
        length=_mean(joined("length")),
        teacher_generated=_average(one.teacher_generated for one in cost),
        teacher_scored=_average(one.teacher_scored for one in cost),
        student_generated=_average(one.student_generated for one in cost),
        curve=tuple(
            Point(
                step=step,
                teacher_tokens=_average(one.teacher for one in so_far[arms]),
                student_tokens=_average(one.student_generated for one in so_far[arms]),
                accuracy=_average(_mean(one) for one in found[arms]),
                pass_at_4=_average(_mean(one.any(0)) for one in found[arms]),
            )
            for step, so_far, found in seen
        ),
    )


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _average(values: Iterator[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


# -------------------------------------------------------------------------------------- stages


def train(sweep: Sweep, device: torch.device, weights: Path, commit: str | None) -> None:
    """Stage 1: the teacher and the first students."""
    config = setting_config(sweep.setting)

    def report(title: str, every: int, n_steps: int) -> Callable[[float, str], None]:
        def progress(share: float, sentence: str) -> None:
            if round(share * n_steps) % every == 0:
                print(f"{title}: {sentence}", flush=True)

        return progress

    students = first_students(
        config, range(sweep.seeds), device=device,
        progress=report("students", 500, config.student.n_steps),
    )  # fmt: skip
    teacher = learned_teacher(
        config, 0, device=device, progress=report("teacher", 1000, config.teacher.n_steps)
    )
    command = f"{Path(__file__).name} --setting {sweep.setting} --stage train"
    made = {"command": command, "device": device_name(device), "commit": commit or ""}
    path = save_shipped(weights, sweep.setting, teacher, students, made)
    print(f"Written to {path}", flush=True)


def teachers_part(bench: Bench) -> Iterator[dict[str, Any]]:
    """First students, WAIT maps and rewrites."""
    students, n = bench.models.students, bench.sweep.seeds
    arms = tuple(Arm(name="first", method=Method(), teacher="", seed=s) for s in range(n))
    first = Distilled(students.copies(range(n)), arms, [])
    verdicts = bench.grade(first, bench.test, bench.sweep.n_samples, 70)
    sums, found = bench.models.config.sums, {"exact": [], "learned": []}
    for name, parts in found.items():
        teacher = bench.teacher(name)
        parts.append(wait_map(name, teacher, n_traces=bench.sweep.n_traces))
        parts.append(rewrites(name, teacher, first.stack))
        print(f"{name}: {parts[0]}\n{parts[1]}", flush=True)
    yield {
        "first_accuracy": [_mean(v.correct) for v in verdicts],
        "first_order": _average(_mean(right_to_left(sums, v.order)) for v in verdicts),
        "wait_maps": [parts[0] for parts in found.values()],
        "rewrites": [parts[1] for parts in found.values()],
    }


def methods_part(bench: Bench) -> Iterator[dict[str, Any]]:
    """The table: every method, both teachers, one round and many."""
    rows = []
    for rounds in bench.sweep.rounds:
        for name in ("exact", "learned"):
            cells = [Cell(m, METHODS[m], name, bench.sweep.repair) for m in bench.sweep.methods]
            rows += measure_rows(bench, cells, {name: bench.teacher(name)}, rounds)
            show(rows[-len(cells) :])
            yield {"rows": rows}


def ablations_part(bench: Bench) -> Iterator[dict[str, Any]]:
    """Variations on the methods, one round."""
    rows = []
    for name in ("exact", "learned"):
        names = [m for m in bench.sweep.ablations if name == "exact" or ABLATIONS[m].keep_order]
        cells = [Cell(m, ABLATIONS[m], name, bench.sweep.repair) for m in names]
        rows += measure_rows(bench, cells, {name: bench.teacher(name)}, 1)
        show(rows[-len(cells) :])
        yield {"ablations": rows}


def dose_part(bench: Bench, table: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The exact teacher at several λ, one round, with the learning rates of the table."""
    names = {f"exact {repair:g}": repair for repair in bench.sweep.doses}
    teachers = {name: bench.teacher("exact", repair) for name, repair in names.items()}
    known = {
        row["name"]: {float(lr): accuracy for lr, accuracy in row["validation"].items()}
        for row in table
        if (row["teacher"], row["rounds"]) == ("exact", 1)
    }
    rows = []
    for method in DOSE_METHODS:
        cells = [Cell(method, METHODS[method], name, repair) for name, repair in names.items()]
        rates = [known[method]] * len(cells) if method in known else None
        rows += measure_rows(bench, cells, teachers, 1, rates)
        show(rows[-len(cells) :])
        yield {"dose": rows}


PARTS = {
    "teachers": lambda bench, table: teachers_part(bench),
    "methods": lambda bench, table: methods_part(bench),
    "ablations": lambda bench, table: ablations_part(bench),
    "dose": dose_part,
}


def show(rows: Sequence[MethodRow]) -> None:
    """Rows as text."""
    for row in rows:
        after = "   –" if row.correct_after_wait is None else f"{row.correct_after_wait:4.0%}"
        plan = "" if row.plan_right is None else f" plan {row.plan_right:4.0%}"
        print(
            f"{row.teacher:8}{row.repair:4.2f} {row.rounds} {row.name:24} lr {row.lr:g}  "
            f"{row.accuracy.estimate:6.1%} [{row.accuracy.low:.1%}, {row.accuracy.high:.1%}]  "
            f"wait {row.wait:4.0%} then right {after}  order {row.order_kept:4.0%}{plan}  "
            f"teacher {row.teacher_generated + row.teacher_scored:.0f} tokens",
            flush=True,
        )


def plan_of(sweep: Sweep) -> dict[str, Any]:
    """Everything that decides the numbers, for the record."""
    config = {"setting": setting_config(sweep.setting), "methods": METHODS | ABLATIONS}
    return rounded({"sweep": sweep} | config, digits=5)


def compare_slice(folder: Path, weights: Path = WEIGHTS) -> list[str]:
    """Train two methods of the small setting again, first seed; what differs from the table."""
    values, made = records.load(folder / f"{methods_name('small')}.json")
    if made["config_hash"] != records.config_hash(plan_of(Sweep(setting="small"))):
        return ["the result was made with other settings: run the benchmark again"]
    sweep = Sweep(setting="small", n_test=64, n_samples=8)
    bench = Bench.of(sweep, load_shipped("small", folder=weights), torch.device("cpu"))
    rows = {r["name"]: r for r in values["rows"] if (r["teacher"], r["rounds"]) == ("exact", 1)}
    arms = [
        Arm(name=name, method=METHODS[name], teacher="exact", seed=0, lr=rows[name]["lr"])
        for name in SLICE
    ]
    teachers = {"exact": bench.teacher("exact")}
    done = distil(bench.models.students, arms, teachers, bench.train, sweep.plan)
    faults = []
    for name, verdict in zip(SLICE, bench.grade(done, bench.test, 8, 70), strict=True):
        now, known = _mean(verdict.correct), rows[name]["accuracy_by_seed"][0]
        print(f"{name}: accuracy {now:.3f}, committed {known:.3f}")
        if abs(now - known) > SLICE_TOLERANCE:
            faults.append(f"{name}: accuracy {now:.3f}, committed {known:.3f}")
    return faults


def main(arguments: Sequence[str] | None = None) -> int:
    parser = helpers.options(__doc__)
    parser.add_argument("--setting", choices=("small", "late"), default="small")
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where weights lie")
    parser.add_argument("--small", action="store_true", help="a cut, to try the script")
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing after these")
    options = parser.parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options.folder, options.weights))

    begun, device = time.monotonic(), torch.device(options.device)
    sweep = (Sweep.small if options.small else Sweep)(setting=options.setting)
    path = options.folder / f"{methods_name(options.setting)}.json"

    def minutes() -> float:
        return (time.monotonic() - begun) / 60

    if "train" in options.stage:
        train(sweep, device, options.weights, options.commit)
        print(f"train took {minutes():.1f} minutes", flush=True)
    models = load_shipped(options.setting, folder=options.weights, device=device)
    bench = Bench.of(sweep, models, device)
    values: dict[str, Any] = {"setting": sweep.setting, "seeds": sweep.seeds}
    if path.is_file():  # parts of an earlier call with the same settings are kept
        known, made = records.load(path)
        if made["config_hash"] == records.config_hash(plan_of(sweep)):
            values = known | values
    for stage in STAGES[1:]:
        if stage not in options.stage:
            continue
        for part in PARTS[stage](bench, values.get("rows", ())):
            values |= rounded(part, digits=5)
            values["devices"] = values.get("devices", {}) | {stage: device_name(device)}
            records.save(
                path,
                values,
                config=plan_of(sweep),
                device="; ".join(sorted(set(values["devices"].values()))),
                commit=options.commit,
                seed=[*range(sweep.seeds), PROBLEMS_SEED],
            )
            print(f"{stage}: {minutes():.1f} minutes so far", flush=True)
            if minutes() > options.minutes:
                print(f"Stopped after {options.minutes} minutes; {path} holds what is done.")
                return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
