"""Five ways to train one attention layer on associative recall, at equal budget, over three seeds.

    python benchmarks/msa_arms.py            all arms, the k-sweep and the variants; half an hour
    python benchmarks/msa_arms.py --slice    rerun the first steps of two runs and compare

Prints mean and range over seeds and writes FOLDER/msa_arms.json (default: benchmarks/results),
from which the lesson replays. One CPU thread: at these sizes more do not help. Arms of one seed
share first weights, batches and held-out sequences.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import helpers
import msgspec
from helpers import aligned, rounded, spread

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.training import one_thread
from intuitive.msa.recall import KSweep, Measures, RecallRun, k_sweep, run
from intuitive.msa.task import ARMS, RecallConfig

FILE = "msa_arms.json"
SEEDS = (0, 1, 2)
TABLE_STEPS = (50, 100, 150, 200, 300)
TABLE = (
    "accuracy",
    "needle_selected",
    "needle_in_reach",
    "mass_captured",
    "mass_at_queries",
    "block_recall",
    "kl",
    "teacher_entropy",
)
VARIANTS = {
    "kl_weight=0.05": RecallConfig(arm="msa", kl_weight=0.05),
    "kl_weight=5": RecallConfig(arm="msa", kl_weight=5.0),
    "kl_weight=1 without detach": RecallConfig(arm="msa", kl_weight=1.0, detach=False),
    "kl_weight=5 without detach": RecallConfig(arm="msa", kl_weight=5.0, detach=False),
}

# The slice: enough steps to notice a changed gradient, few enough for rounding to stay small.
# Rounding grows faster where blocks are selected, since a near tie may fall the other way.
SLICE = {"msa_warmup": 20, "msa": 5}  # arm -> steps
SLICE_TOLERANCE = 1e-3  # relative, on losses and KL


def measure_all(seeds: Sequence[int]) -> dict[str, Any]:
    """Every run of the result file; snapshots are kept of the first seed only."""
    runs, variants, sweeps = [], {}, []
    for seed in seeds:
        for arm in ARMS:
            shots = {} if seed == seeds[0] else {"snapshot_at": ()}
            runs.append(timed(f"{arm}, seed {seed}", run, RecallConfig(arm=arm), seed, **shots))
        sweeps.append(timed(f"k-sweep, seed {seed}", k_sweep, RecallConfig(), seed))
        for name, config in VARIANTS.items():
            done = timed(f"{name}, seed {seed}", run, config, seed, snapshot_at=())
            variants.setdefault(name, []).append(done)
    return {"runs": runs, "k_sweep": sweeps, "variants": variants}


def timed(
    title: str, work: Callable[..., Any], config: RecallConfig, seed: int, **more: Any
) -> Any:
    """Do one piece of work and say so."""
    done = work(config, seed=seed, **more)
    print(title, f"{done.seconds:.0f} s" if isinstance(done, RecallRun) else "", flush=True)
    return done


# ------------------------------------------------------------------------------------ tables


def arms_table(runs: Sequence[RecallRun]) -> str:
    """Held-out measures of every arm at some steps: mean and range over seeds."""
    rows = [["arm", "step", *TABLE]]
    for arm in ARMS:
        for step in TABLE_STEPS:
            points = [done.at(step) for done in runs if done.config.arm == arm]
            rows.append([arm, str(step), *measured(points)])
    return aligned(rows)


def variants_table(variants: dict[str, Sequence[RecallRun]]) -> str:
    """The same at the end of training, for other weights of the KL and without the detach."""
    rows = [["variant", *TABLE]]
    for name, runs in variants.items():
        rows.append([name, *measured([done.heldout[-1] for done in runs])])
    return aligned(rows)


def sweep_table(sweeps: Sequence[KSweep]) -> str:
    """A dense model read through an index distilled from it, by blocks read."""
    rows = [["k", *TABLE[:6]], ["dense", *measured([sweep.dense for sweep in sweeps])[:6]]]
    for place, k in enumerate(sweeps[0].n_selected):
        rows.append([str(k), *measured([sweep.sparse[place] for sweep in sweeps])[:6]])
    return aligned(rows)


def measured(points: Sequence[Measures]) -> list[str]:
    """One cell per measure of `TABLE`."""
    return [spread(getattr(point, name) for point in points) for name in TABLE]


# ------------------------------------------------------------------------------------- files


def plan(seeds: Sequence[int]) -> dict[str, Any]:
    """Everything that decides the numbers, for the record."""
    arms = {arm: RecallConfig(arm=arm) for arm in ARMS}
    return rounded({"arms": arms, "variants": VARIANTS, "seeds": list(seeds)}, decimals=5)


def compare_slice(folder: Path) -> list[str]:
    """Train the first steps of some runs again; what differs from the committed numbers."""
    values, made = records.load(folder / FILE)
    faults = []
    if made["config_hash"] != records.config_hash(plan(made["config"]["seeds"])):
        faults.append(f"{FILE} was made with other settings: run the benchmark again")
    for arm, steps in SLICE.items():
        committed = msgspec.convert(
            next(one for one in values["runs"] if one["config"]["arm"] == arm), RecallRun
        )
        warmup_steps = min(steps, committed.config.warmup_steps)
        short = dataclasses.replace(committed.config, n_steps=steps, warmup_steps=warmup_steps)
        again = run(short, seed=committed.seed, snapshot_at=())
        seen_before = [committed.at(step) for step in again.steps[:-1]]  # the last may warm up
        for name, got, known in (
            ("training loss", again.train_loss, committed.train_loss),
            ("training KL", again.train_kl, committed.train_kl),
            ("held-out loss", again.curve("loss"), [point.loss for point in seen_before]),
            ("mass", again.curve("mass_captured"), [point.mass_captured for point in seen_before]),
        ):
            worst = max(abs(new - old) / abs(old) for new, old in zip(got, known, strict=False))
            print(f"{arm}: {name} of {steps} steps differs by {worst:.1e} at most (relative)")
            if worst > SLICE_TOLERANCE:
                faults.append(f"{arm}: {name} differs by {worst:.1e}, over {SLICE_TOLERANCE}")
    return faults


@one_thread()
def main(arguments: Sequence[str] | None = None) -> int:
    parser = helpers.options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options.folder))

    values = measure_all(options.seeds)
    path = records.save(
        options.folder / FILE,
        rounded(values, decimals=5),
        config=plan(options.seeds),
        device=device_name("cpu"),
        commit=options.commit,
        seed=options.seeds,
    )
    print(f"\nMean (range) over seeds {options.seeds}, on held-out sequences\n")
    for table in (
        arms_table(values["runs"]),
        sweep_table(values["k_sweep"]),
        variants_table(values["variants"]),
    ):
        print(table, end="\n\n")
    print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
