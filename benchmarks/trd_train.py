"""Ten texts while students learn: the trainings that the lesson shows at once.

    python benchmarks/trd_train.py [--commit HASH]     a minute of one core
    python benchmarks/trd_train.py --slice             the first of them again, compared

Writes FOLDER/trd_train.json (default: benchmarks/results), from which the lesson draws.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import helpers
import msgspec
from helpers import rounded

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.training import one_thread
from intuitive.trd.experiments.train import RECORDED, Recorded, TrainParams, run

FILE = f"{RECORDED}.json"
TOLERANCE = 0.15  # share of 192 rollouts: other processors round otherwise, and rollouts fork
PAIRS = (  # side by side, each at the default λ
    "opd_forward,trd",
    "opd_forward,opd_reverse",
    "opd_reverse,trd",
    "trd,trd_from_x",
    "sft_teacher,sft_refined",
    "opd_reverse_topk,opd_reverse_topk_tail",
)
REPAIRS = (0.0, 0.15, 0.45, 0.6, 0.8)  # further λ, of the first pair
SEEDS = (1, 2)  # further problems, likewise
TRAININGS = (
    *(TrainParams(methods=pair) for pair in PAIRS),
    *(TrainParams(methods=PAIRS[0], repair=repair) for repair in REPAIRS),
    *(TrainParams(methods=PAIRS[0], seed=seed) for seed in SEEDS),
)


def compare_slice(folder: Path) -> list[str]:
    """Train the first pair again; what differs from the committed numbers."""
    values, _ = records.load(folder / FILE)
    kept = msgspec.convert(values, Recorded).results[0]
    again, faults = run(kept.params), []
    if again.problems != kept.problems:
        return [f"{FILE} holds other problems: run the benchmark again"]
    for old, new in zip(kept.runs, again.runs, strict=True):
        for name in ("accuracy", "wait", "order_kept"):
            differs = abs(getattr(old.points[-1], name) - getattr(new.points[-1], name))
            if differs > TOLERANCE:
                faults.append(f"{name} of {old.name} differs by {differs:.2f}")
    return faults


@one_thread()
def main(arguments: Sequence[str] | None = None) -> int:
    options = helpers.options(__doc__).parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options.folder))
    done = []
    for params in TRAININGS:
        done.append(run(params))
        ends = ", ".join(
            f"{one.name} {one.points[-1].accuracy:.2f} right, {one.points[-1].wait:.2f} WAIT, "
            f"{one.points[-1].order_kept:.2f} in order"
            for one in done[-1].runs
        )
        print(f"λ = {params.repair:g}, seed {params.seed}: {ends}", flush=True)
    path = records.save(
        options.folder / FILE,
        rounded(Recorded(results=tuple(done)), digits=4),
        config={"trainings": [params.to_text() for params in TRAININGS]},
        seed=(0, *SEEDS),
        device=device_name("cpu"),
        commit=options.commit,
    )
    print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
