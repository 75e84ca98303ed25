"""The training replay of the MSA lesson: five arms of associative recall, step by step."""

from dataclasses import dataclass
from typing import Any

from intuitive.common.settings import Settings
from intuitive.msa.recall import RecallRun, Snapshot, committed_runs
from intuitive.msa.task import ARMS

from ..figures import msa_training as figures
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View

MEASURE_NAMES = {name: label for name, (label, _) in figures.MEASURES.items()}


@dataclass(frozen=True, kw_only=True)
class ReplayParams(Settings):
    """Where in the training of which arm."""

    arm: str = "msa_warmup"
    step: int = 100
    measure: str = "accuracy"
    beside: str = "mass_at_queries"


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """The committed runs, and the moment looked at."""

    params: ReplayParams
    runs: tuple[RecallRun, ...]
    run: RecallRun  # the one with snapshots
    snapshot: Snapshot


def replay(params: ReplayParams, *, stale: Any, progress: Any) -> Replay:
    """The last snapshot of an arm at or before a step, from the committed runs."""
    runs = committed_runs()
    run = next(run for run in runs if run.config.arm == params.arm and run.snapshots)
    snapshot = max(
        (shot for shot in run.snapshots if shot.step <= params.step), key=lambda shot: shot.step
    )
    return Replay(params=params, runs=runs, run=run, snapshot=snapshot)


def present_replay(found: Replay) -> View:
    params, shot = found.params, found.snapshot
    here = found.run.at(shot.step)
    same = [run for run in found.runs if run.config.arm == params.arm]
    finals = [run.heldout[-1] for run in same]

    def number(value: float | None, digits: int = 2) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    def spread(arm: str, measure: str) -> str:
        values = [getattr(run.heldout[-1], measure) for run in figures.by_arm(found.runs)[arm]]
        if not values or values[0] is None:
            return "–"
        return f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    columns = (
        "accuracy",
        "mass_captured",
        "mass_at_queries",
        "block_recall",
        "needle_selected",
        "kl",
        "teacher_entropy",
    )
    rows = tuple((ARMS[arm].title, *(spread(arm, measure) for measure in columns)) for arm in ARMS)
    reads = "everything is read (warm-up)" if shot.reads_all else "only selected blocks are read"
    accuracy = [point.accuracy for point in finals]
    return View(
        summary=(
            f"{ARMS[params.arm].title}, step {shot.step}: accuracy {number(here.accuracy)}, mass "
            f"captured {number(here.mass_captured)}; {reads}. After {found.run.steps[-1]} steps "
            f"its {len(finals)} seeds reach accuracy {min(accuracy):.2f} to {max(accuracy):.2f}."
        ),
        figures={
            "curves": figures.curves_figure(found.runs, params.measure, params.arm, shot.step),
            "second": figures.curves_figure(found.runs, params.beside, params.arm, shot.step),
            "maps": figures.maps_figure(shot),
        },
        readouts=(
            Readout("step", f"{shot.step}"),
            Readout("accuracy", number(here.accuracy)),
            Readout("mass captured", number(here.mass_captured)),
            Readout("block recall", number(here.block_recall)),
            Readout("KL", number(here.kl, 3)),
            Readout("teacher entropy", f"{here.teacher_entropy:.2f} nats"),
        ),
        table=Table(
            ("after training: mean (least to greatest)", *(MEASURE_NAMES[m] for m in columns)), rows
        ),
        code=(
            "from intuitive.msa.recall import run\n"
            "from intuitive.msa.task import RecallConfig\n\n"
            f'record = run(RecallConfig(arm="{params.arm}"), seed={found.run.seed})\n'
            f'record.steps, record.curve("{params.measure}")'
        ),
        values={"step": shot.step},
    )


def training_replay(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Five ways to train one attention layer on associative recall, replayed step by step.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `arm="msa_untrained"`.
    """
    steps = tuple(
        shot.step for shot in next(run for run in committed_runs() if run.snapshots).snapshots
    )
    first = ReplayParams(step=steps[len(steps) // 2])
    controls = (
        Choice(name="arm", label="Arm", options={arm: how.title for arm, how in ARMS.items()}),
        Range(name="step", label="Training step", values=steps),
        Choice(name="measure", label="Left curve", options=MEASURE_NAMES),
        Choice(name="beside", label="Right curve", options=MEASURE_NAMES, more=True),
    )
    return Explorer(
        name="msa_training_replay",
        title="Training replay",
        params=ReplayParams,
        compute=replay,
        present=present_replay,
        controls=controls,
        plots=(
            Plot(
                name="curves",
                label="A measure on held-out sequences over training steps, for every arm",
                caption="Lines: mean over seeds; bands: from the least to the greatest seed. The "
                "dotted line is the step shown below.",
                span=6,
                height=330,
            ),
            Plot(
                name="second",
                label="A second measure over training steps, for every arm",
                span=6,
                height=330,
            ),
            Plot(
                name="maps",
                label="Where the main attention lies and which blocks are read, for both groups",
                caption="One held-out sequence of 128 tokens. Bright: much of the main attention; "
                "blue: read. A good selector's blue follows the bright cells.",
                height=340,
            ),
        ),
        predict=predict,
        defaults={
            "arm": first.arm,
            "step": first.step,
            "measure": first.measure,
            "beside": first.beside,
            **values,
        },
    )
