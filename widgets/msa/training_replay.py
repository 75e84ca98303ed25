"""Training replay: five arms of associative recall, step by step."""

from functools import partial
from typing import Any

import numpy as np

from intuitive.msa.experiments.training_replay import (
    ReplayParams,
    ReplayResult,
    run,
    snapshot_steps,
)
from intuitive.msa.recall import Snapshot
from intuitive.msa.task import ARMS

from .. import theme
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View, fixed
from . import styles

STYLES = {  # one arm, one colour, one dash
    "dense": (theme.GREY, "solid"),
    "msa_warmup": (theme.BLUE, "solid"),
    "msa": (theme.GREEN, "dash"),
    "msa_untrained": (theme.VERMILION, "dot"),
    "window": (theme.PURPLE, "dashdot"),
}
MEASURES = {  # of held-out sequences: label and limits of the axis
    "accuracy": ("accuracy", (0, 1.02)),
    "kl": ("KL to the main attention (nats)", (0, 1.5)),
    "mass_captured": ("mass captured, all tokens", (0, 1.02)),
    "mass_at_queries": ("mass captured, at questions", (0, 1.02)),
    "block_recall": ("block recall", (0, 1.02)),
    "needle_selected": ("answer's block selected", (0, 1.02)),
    "teacher_entropy": ("entropy of the main attention (nats)", (0, 5)),
    "loss": ("loss (nats)", (0, 4)),
}
MEASURE_NAMES = {name: label for name, (label, _) in MEASURES.items()}
ANSWERS = {"msa_warmup": 0, "msa": 0, "window": 1, "msa_untrained": 2}  # choice of each arm


def _most_mass() -> tuple[int, str]:
    found = run(ReplayParams())

    def end(arm: str, measure: str) -> float:
        return float(np.mean([getattr(run.heldout[-1], measure) for run in found.of(arm)]))

    most = max(ANSWERS, key=lambda arm: end(arm, "mass_captured"))
    trained = max(("msa_warmup", "msa"), key=lambda arm: end(arm, "mass_captured"))
    return ANSWERS[most], (
        f"“{ARMS[most].title}” captures {fixed(end(most, 'mass_captured'))} of its own attention, "
        f"the better trained index {fixed(end(trained, 'mass_captured'))}; their accuracies are "
        f"{fixed(end(most, 'accuracy'))} and {fixed(end(trained, 'accuracy'))}. Attention shrinks "
        "to what it is given to read."
    )


PREDICT = Predict(
    question=(
        "One arm never trains its selector and reads whatever that picks. Which arm will "
        "capture the largest share of its own attention in the end?"
    ),
    choices=(
        "an arm with a trained index",
        "the window",
        "the arm with the untrained selector",
    ),
    answer=_most_mass,
)


def curves_figure(found: ReplayResult, measure: str) -> theme.Figure:
    """One measure over steps for every arm: mean over seeds, band from least to greatest."""
    label, limits = MEASURES[measure]
    traces = []
    for name in ARMS:
        of_arm = found.of(name)
        if not of_arm or of_arm[0].curve(measure)[0] is None:
            continue
        colour, dash = STYLES[name]
        steps = of_arm[0].steps
        table = np.array([run.curve(measure) for run in of_arm], dtype=float)  # [seeds, steps]
        edge = np.concatenate([table.max(0), table.min(0)[::-1]])
        traces.append(
            {
                "type": "scatter",
                "x": [*steps, *steps[::-1]],
                "y": edge,
                "mode": "lines",
                "line": {"width": 0},
                "fill": "toself",
                "fillcolor": colour,
                "opacity": 0.15,
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
        traces.append(
            {
                "type": "scatter",
                "x": list(steps),
                "y": table.mean(0),
                "mode": "lines",
                "line": {
                    "color": colour,
                    "dash": dash,
                    "width": 3.5 if name == found.params.arm else 2,
                },
                "name": ARMS[name].title,
            }
        )
    return theme.figure(
        traces,
        x="training step",
        y=label,
        x_range=(0, max(found.run.steps)),
        y_range=limits,
        showlegend=True,
        margin={"t": 76},
        shapes=[theme.line(x=found.snapshot.step, colour=theme.PURPLE)],
    )


def maps_figure(snapshot: Snapshot) -> theme.Figure:
    """Where the main attention lies and what is read, group beside group, on one sequence."""
    teacher, selected = snapshot.teacher(), snapshot.selected()
    traces, headings = [], []
    for group in range(len(teacher)):
        for kind, values, scale, top in (
            ("attention", teacher[group], theme.ORDERED, 0.5),
            (
                "read",
                selected[group].astype(np.uint8),
                [[0, "rgba(150,150,150,0.2)"], [1, styles.READ]],
                1,
            ),
        ):
            traces.append(
                {
                    "type": "heatmap",
                    "z": values,
                    "zmin": 0,
                    "zmax": top,
                    "colorscale": scale,
                    "showscale": False,
                    "xaxis": theme.x_axis(len(headings)),
                    "hovertemplate": "query %{y}, block %{x}: %{z:.2f}<extra></extra>",
                }
            )
            headings.append(f"group {group}:<br>{kind}")
    n, n_blk = teacher.shape[1:]
    return theme.figure(
        traces,
        y="query position",
        y_range=(n - 0.5, -0.5),
        yaxis={"showgrid": False},
        margin={"t": 50},
        **theme.columns(headings, x="key block", x_range=(-0.5, n_blk - 0.5), gap=0.02),
    )


def present(found: ReplayResult) -> View:
    params, shot = found.params, found.snapshot
    here = found.run.at(shot.step)
    finals = [run.heldout[-1] for run in found.of(params.arm)]

    def told(value: float | None, decimals: int = 2) -> str:
        return "–" if value is None else fixed(value, decimals)

    def spread(arm: str, measure: str) -> str:
        values = [getattr(run.heldout[-1], measure) for run in found.of(arm)]
        if not values or values[0] is None:
            return "–"
        return f"{fixed(sum(values) / len(values))} ({fixed(min(values))} to {fixed(max(values))})"

    columns = (
        "accuracy",
        "mass_captured",
        "mass_at_queries",
        "block_recall",
        "needle_selected",
        "kl",
        "teacher_entropy",
    )
    now = f"{ARMS[params.arm].title}, step {shot.step} of seed {found.run.seed}"
    rows = (
        (now, *(told(getattr(here, measure), 3) for measure in columns)),
        *((ARMS[arm].title, *(spread(arm, measure) for measure in columns)) for arm in ARMS),
    )
    reads = "only selected blocks are read"
    if shot.reads_all:
        always = ARMS[params.arm].reads == "all"
        reads = "everything is read, at every step" if always else "everything is read (warm-up)"
    accuracy = [point.accuracy for point in finals]
    return View(
        summary=(
            f"{ARMS[params.arm].title}, step {shot.step}: accuracy {told(here.accuracy)}, mass "
            f"captured {told(here.mass_captured)}; {reads}. After {found.run.steps[-1]} steps "
            f"its {len(finals)} seeds reach accuracy {fixed(min(accuracy))} to "
            f"{fixed(max(accuracy))}."
        ),
        figures={
            "maps": maps_figure(shot),
            "curves": partial(curves_figure, found, params.measure),
            "second": partial(curves_figure, found, params.beside),
        },
        readouts=(
            Readout("accuracy", told(here.accuracy)),
            Readout("mass captured", told(here.mass_captured)),
            Readout("teacher entropy", f"{fixed(here.teacher_entropy)} nats"),
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


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Five ways to train one attention layer on associative recall, replayed step by step.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `arm="msa_untrained"`.
    """
    steps = snapshot_steps()
    first = ReplayParams(step=steps[len(steps) // 2])
    controls = (
        Choice(name="arm", label="Arm", options={arm: how.title for arm, how in ARMS.items()}),
        Range(name="step", label="Training step", values=steps),
        Choice(name="measure", label="First measure", options=MEASURE_NAMES),
        Choice(name="beside", label="Second measure", options=MEASURE_NAMES, more=True),
    )
    return Explorer(
        name="msa_training_replay",
        title="Training replay",
        params=ReplayParams,
        compute=run,
        present=present,
        controls=controls,
        plots=(
            Plot(
                name="maps",
                label="Where the main attention lies and which blocks are read, for both groups",
                caption="One held-out sequence of 128 tokens. Bright: much of the main attention; "
                "blue: read. A good selector's blue follows the bright cells.",
                height=356,
            ),
            Plot(
                name="curves",
                label="A measure on held-out sequences over training steps, for every arm",
                caption="Lines: mean over seeds; bands: from the least to the greatest seed. The "
                "dotted line is the step of the maps.",
                tab="First measure",
                height=330,
            ),
            Plot(
                name="second",
                label="A second measure on held-out sequences over training steps, for every arm",
                tab="Second measure",
                height=330,
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
