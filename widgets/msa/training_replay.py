"""Training replay: five arms of associative recall, step by step."""

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from intuitive.msa.experiments.training_replay import (
    ReplayParams,
    ReplayResult,
    questions,
    run,
)
from intuitive.msa.task import ARMS

from .. import theme
from ..kit import (
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Table,
    Timeline,
    View,
    fixed,
    percent,
)
from . import styles
from .training_replay_scene import Picture

CLEAR_BLUE = "#1F82C4"  # above 4:1 on a white page and on Lab's dark one
STYLES = {  # one arm, one colour, one dash
    "dense": (theme.GREY, "solid"),
    "msa_warmup": (CLEAR_BLUE, "solid"),
    "msa": (theme.GREEN, "dash"),
    "msa_untrained": (theme.VERMILION, "dot"),
    "window": (theme.PURPLE, "dashdot"),
}
SHORT_NAMES = {
    "dense": "dense",
    "msa_warmup": "warm-up",
    "msa": "no warm-up",
    "msa_untrained": "untrained",
    "window": "window",
}
MEASURES = {  # of held-out sequences: label and limits of the axis
    "accuracy": ("accuracy", (0, 1.02)),
    "kl": ("KL to attention (nats)", (0, 1.5)),
    "mass_captured": ("mass captured, all tokens", (0, 1.02)),
    "mass_at_queries": ("mass captured, at questions", (0, 1.02)),
    "block_recall": ("block recall", (0, 1.02)),
    "needle_selected": ("answer's block selected", (0, 1.02)),
    "teacher_entropy": ("entropy of attention (nats)", (0, 5)),
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
        f"Averaged over all tokens “{ARMS[most].title}” captures "
        f"{percent(end(most, 'mass_captured'))} of its own attention, the better trained index "
        f"{percent(end(trained, 'mass_captured'))}. At the questions alone it is "
        f"{percent(end(most, 'mass_at_queries'))} and {percent(end(trained, 'mass_at_queries'))}: "
        "these still want their answer's block. So they answer "
        f"{percent(end(most, 'accuracy'))} and {percent(end(trained, 'accuracy'))} of the "
        "questions (means of all seeds)."
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
    """One measure over steps for every arm: each seed thin, their mean thick, named at its end."""
    label, limits = MEASURES[measure]
    traces, ends = [], {}
    for name in ARMS:
        of_arm = found.of(name)
        if not of_arm or of_arm[0].curve(measure)[0] is None:
            continue
        colour, dash = STYLES[name]
        steps = list(of_arm[0].steps)
        table = np.array([run.curve(measure) for run in of_arm], dtype=float)  # [seeds, steps]
        ours = name == found.params.arm
        # All seeds of an arm are one trace with gaps between them: plotly takes its time for each.
        traces.append(
            {
                "type": "scatter",
                "x": [*steps, None] * len(of_arm),
                "y": np.pad(table, ((0, 0), (0, 1)), constant_values=np.nan).ravel(),
                "text": [f"seed {run.seed}" for run in of_arm for _ in range(len(steps) + 1)],
                "mode": "lines",
                "line": {"color": colour, "width": 1},
                "opacity": 0.6 if ours else 0.35,
                "hovertemplate": f"{ARMS[name].title}, %{{text}}: %{{y:.2f}}<extra></extra>",
            }
        )
        traces.append(
            {
                "type": "scatter",
                "x": steps,
                "y": table.mean(0),
                "mode": "lines",
                "line": {"color": colour, "dash": dash, "width": 3.5 if ours else 2},
                "opacity": 1.0 if ours else 0.8,
                "name": ARMS[name].title,
            }
        )
        ends[SHORT_NAMES[name]] = float(table[:, -1].mean())
    last = max(found.run.steps)
    return theme.figure(
        traces,
        x="training step",
        x_range=(0, last),
        y_range=limits,
        margin={"l": 44, "r": 108},
        title={"text": label, "x": 0, "xref": "paper", "font": {"size": 14}},
        annotations=styles.end_names(
            ends,
            {SHORT_NAMES[name]: colour for name, (colour, _) in STYLES.items()},
            gap=0.075 * (limits[1] - limits[0]),
            low=limits[0],
            high=limits[1],
        ),
    )


def present(found: ReplayResult) -> View:
    params, picture = found.params, Picture(found)
    finals = [run.heldout[-1] for run in found.of(params.arm)]
    seed, last = found.run.seed, found.run.steps[-1]

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
    rows = (
        *(
            (
                f"{ARMS[params.arm].title}, step {shot.step} of seed {seed}",
                *(told(getattr(found.run.at(shot.step), measure), 3) for measure in columns),
            )
            for shot in found.run.snapshots
        ),
        *(
            (
                f"{ARMS[arm].title}, step {last}: mean (least to greatest)",
                *(spread(arm, measure) for measure in columns),
            )
            for arm in ARMS
        ),
    )
    right = [shot.step for shot in found.run.snapshots if picture.right(shot)]
    ends = sorted({fixed(pick(point.accuracy for point in finals)) for pick in (min, max)})
    return View(
        summary=(
            f"{ARMS[params.arm].title}: the question at token {params.question} is answered right "
            f"{_steps(right, [shot.step for shot in found.run.snapshots])}. After {last} steps the "
            f"{len(finals)} seeds of this arm reach accuracy {' to '.join(ends)}."
        ),
        timeline=Timeline(frames=picture.frames(), axis="training", pace_ms=1100),
        figures={
            "curves": partial(curves_figure, found, params.measure),
            "second": partial(curves_figure, found, params.beside),
        },
        readouts=picture.readouts(found.run.snapshots[0]),
        table=Table(("held-out sequences", *(MEASURE_NAMES[m] for m in columns)), rows),
        code=(
            "from intuitive.msa.experiments.training_replay import ReplayParams, run\n\n"
            f'found = run(ReplayParams(arm="{params.arm}", question={params.question}))\n'
            f'found.run.steps, found.run.curve("{params.measure}")  # of the committed run'
        ),
    )


def _steps(right: list[int], looked_at: list[int]) -> str:
    """When a question was answered right, of the steps that were looked at."""
    if not right:
        return "at none of the steps kept"
    if right == looked_at[-len(right) :]:
        return f"from step {right[0]} on"
    return f"at {'step' if len(right) == 1 else 'steps'} {', '.join(map(str, right))} only"


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Five ways to train one attention layer on associative recall, replayed step by step.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `arm="msa_untrained"`.
    """
    first = ReplayParams()
    asked = questions()
    controls = (
        Choice(name="arm", label="Arm", options={arm: how.title for arm, how in ARMS.items()}),
        Range(
            name="question",
            label="Question",
            values=asked,
            texts=tuple(f"token {token}" for token in asked),
        ),
        Choice(name="measure", label="First curve", options=MEASURE_NAMES, more=True),
        Choice(name="beside", label="Second curve", options=MEASURE_NAMES, more=True),
    )
    return Explorer(
        name="msa_training_replay",
        title="How the index learns: a recorded training",
        params=ReplayParams,
        compute=run,
        present=present,
        controls=controls,
        hero=Hero(
            label="A recall task as a strip of blocks: what is attended and what is read while "
            "the layer trains"
        ),
        steps=(
            Step(
                title="Watch it learn",
                text="In its warm-up this arm reads everything, while the index already practises. "
                "Play: the arcs gather on the golden block, and then the answer turns right.",
                frame="play",
            ),
            Step(
                title="No warm-up",
                text="Here the index must learn while only its own picks are read. Compare step 60 "
                "with the arm before.",
                sets={"arm": "msa"},
                frame="step 60",
            ),
            Step(
                title="Nobody trains it",
                text="Random picks to the end. The question's attention would go to the golden "
                "block: why is its arc grey?",
                sets={"arm": "msa_untrained"},
                frame="last",
            ),
            Step(
                title="Only a window",
                text="The first block and the last three are read, whatever is asked. Click other "
                "questions: which ones can it answer?",
                sets={"arm": "window"},
                frame="last",
            ),
        ),
        plots=(
            Plot(
                name="curves",
                label="A measure on held-out sequences over training steps, for every arm",
                caption="Thick: mean of three seeds. Thin: each seed. The strip above shows seed "
                "0. More controls choose what is drawn.",
                tab="Curves",
                span=6,
                height=320,
            ),
            Plot(
                name="second",
                label="A second measure on held-out sequences over training steps, for every arm",
                tab="Curves",
                span=6,
                height=320,
            ),
        ),
        predict=predict,
        defaults={**dataclasses.asdict(first), **values},
    )
