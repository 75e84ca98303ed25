"""What forward KL fails by, and what slips of the program do to TRD: controls to the lesson.

    python benchmarks/trd_controls.py [--commit HASH]     ten minutes of one core
    python benchmarks/trd_controls.py --slice             two students again, compared

Each method is run with the program as it is and with one that never slips (none of its tokens is
drawn at random). *In order* is forward KL along the student's own text, where the teacher takes the
digits in the order of that text. In the small setting problems, steps and learning rate are of the
size of the ten texts; in the late one TRD is trained as in `trd_methods.py`, at the learning rates
that were chosen there. Writes FOLDER/trd_controls.json (default: benchmarks/results).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import helpers
import msgspec
import torch
from helpers import rounded

from intuitive.common import records
from intuitive.common.runtime import device_name, seeded
from intuitive.common.training import one_thread
from intuitive.trd.distillation import Arm, Plan, distil, grade, roll
from intuitive.trd.experiments.train import TrainParams, right_to_left
from intuitive.trd.methods import METHODS, Method
from intuitive.trd.results import CONTROLS, Control, Controls, methods
from intuitive.trd.sums import SumsConfig, sample_digits, verify
from intuitive.trd.teacher import ExactTeacher, TeacherConfig
from intuitive.trd.trained import shipped

FILE = f"{CONTROLS}.json"
SEED = 7  # of the problems
N_TEST, N_SAMPLES = 128, 8
TOLERANCE = 0.1  # share of 1024 rollouts: other processors round otherwise, and rollouts fork
REPAIR = 0.3
SLIPS = {True: TeacherConfig().smoothing, False: 1e-12}
ARMS: dict[str, Method] = {
    "opd_forward": METHODS["opd_forward"],
    "opd_forward_in_order": Method(trajectory="y_o", context="refine"),
    "trd": METHODS["trd"],
    "trd_from_x": METHODS["trd_from_x"],
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Students that are trained at once, on the same problems."""

    setting: str
    names: tuple[str, ...]
    n_seeds: int  # first students
    rounds: int
    lr: float
    slips: tuple[bool, ...] = (True, False)

    @property
    def plan(self) -> Plan:
        if self.setting == "late":
            return Plan(rounds=self.rounds)
        return TrainParams(rounds=self.rounds).plan


def runs() -> tuple[Run, ...]:
    """All that are committed."""
    late = methods("late")
    return (
        Run(setting="small", names=tuple(ARMS), n_seeds=5, rounds=1, lr=TrainParams().lr),
        *(
            Run(
                setting="late",
                names=("trd",),
                n_seeds=3,
                rounds=rounds,
                lr=late.row("trd", rounds=rounds).lr,
            )
            for rounds in (1, 8)
        ),
    )


def measure(run: Run) -> list[Control]:
    """Train every method with every program, all at once, and grade what the students write."""
    models = shipped(run.setting)
    sums, plan = models.config.sums, run.plan
    found = sample_digits(sums, plan.n_problems + N_TEST, generator=seeded(SEED), distinct=True)
    digits, test = found.split([plan.n_problems, N_TEST])
    cells = [(name, slips) for slips in run.slips for name in run.names]
    arms = [
        Arm(name=name, method=ARMS[name], teacher=str(slips), seed=seed, lr=run.lr)
        for name, slips in cells
        for seed in range(run.n_seeds)
    ]
    programs = {
        str(slips): ExactTeacher(
            sums=sums, config=TeacherConfig(repair=REPAIR, smoothing=SLIPS[slips])
        )
        for slips in run.slips
    }
    done = distil(models.students, arms, programs, digits, plan)
    seeds = [arm.seed for arm in arms]
    rolled = roll(sums, done.stack, test, seeds=seeds, n_samples=N_SAMPLES, salt=99)
    verdicts = grade(sums, test, rolled)
    rows = []
    for place, (name, slips) in enumerate(cells):
        mine = slice(place * run.n_seeds, (place + 1) * run.n_seeds)
        graded = verdicts[mine]
        says = torch.cat([one.n_waits > 0 for one in graded])
        right = torch.cat([one.correct for one in graded])
        kept = torch.cat([right_to_left(sums, one.order) for one in graded])
        rows.append(
            Control(
                setting=run.setting,
                name=name,
                slips=slips,
                rounds=run.rounds,
                accuracy_by_seed=_means([one.correct for one in graded]),
                wait_by_seed=_means([one.n_waits > 0 for one in graded]),
                idle_first=_idle_first(sums, test, rolled[mine], says),
                correct_after_wait=float(right[says].float().mean()) if says.any() else None,
                order_kept=float(kept.float().mean()),
            )
        )
    return rows


def _means(parts: Sequence[torch.Tensor]) -> tuple[float, ...]:
    return tuple(float(part.float().mean()) for part in parts)


def _idle_first(
    sums: SumsConfig, test: torch.Tensor, texts: torch.Tensor, says: torch.Tensor
) -> float | None:
    """Of the texts with WAIT, the share whose first WAIT stands where nothing is wrong."""
    if not says.any():
        return None
    rows, flat = says.nonzero()[:, 0], texts.flatten(0, 1)
    digits = test.repeat(len(flat) // len(test), 1)[rows]
    first = (flat[rows] == sums.wait).int().argmax(-1, keepdim=True)  # [rows, 1]
    begun = torch.where(torch.arange(flat.shape[1]) <= first, flat[rows], sums.pad)
    return float((verify(sums, digits, begun).n_idle_waits > 0).float().mean())


def compare_slice(folder: Path) -> list[str]:
    """Two methods with the first student again; what differs from the committed numbers."""
    values, _ = records.load(folder / FILE)
    kept, faults = msgspec.convert(values, Controls), []
    again = Run(setting="small", names=("opd_forward_in_order", "trd"), n_seeds=1, rounds=1,
                lr=TrainParams().lr, slips=(True,))  # fmt: skip
    for new in measure(again):
        old = kept.row(new.name)
        for name in ("accuracy_by_seed", "wait_by_seed"):
            before, after = getattr(old, name)[0], getattr(new, name)[0]
            if abs(before - after) > TOLERANCE:
                faults.append(f"{name} of {new.name}: {before:.2f}, now {after:.2f}")
    return faults


@one_thread()
def main(arguments: Sequence[str] | None = None) -> int:
    options = helpers.options(__doc__).parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options.folder))
    rows = []
    for run in runs():
        for row in measure(run):
            rows.append(row)
            print(row, flush=True)
    path = records.save(
        options.folder / FILE,
        rounded(Controls(rows=tuple(rows)), digits=4),
        config={"runs": [msgspec.to_builtins(run) for run in runs()], "test": [N_TEST, N_SAMPLES]},
        seed=SEED,
        device=device_name("cpu"),
        commit=options.commit,
    )
    print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
