"""Training students while one watches, beside those of the benchmark."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from intuitive.common.runtime import check
from intuitive.trd.experiments.train import TrainParams, TrainResult, TrainRun
from intuitive.trd.experiments.train import run as train_students
from intuitive.trd.results import MethodRow, methods
from intuitive.trd.trained import WEIGHTS

from .. import theme
from ..kit import (
    Action,
    Choice,
    Explorer,
    Plot,
    Predict,
    Range,
    Readout,
    Table,
    TokenMarks,
    Tokens,
    View,
    fixed,
    percent,
)
from .styles import MAKE, METHOD_STYLES, TEACHER_NAMES, fade

SETS = (
    "opd_forward,trd",
    "opd_forward,opd_reverse,trd",
    "opd_forward,opd_forward_clip,trd",
    "opd_reverse,opd_reverse_topk,opd_reverse_topk_tail",
    "sft_teacher,sft_refined,trd",
    "trd,trd_from_x,trd_reverse",
    "opsd_forward,opsd_reverse,trd_opsd",
)
REPAIRS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8)  # those of the benchmark's doses
RATES = (3e-4, 1e-3, 3e-3)
N_PROBLEMS = 256  # few enough for a round of rollouts to take less than half a second
N_SHOWN = 6  # rollouts per method
TEXT, WAIT, HEADING = range(3)
CLASSES = (
    ("skipped", "what the student writes"),
    ("here", "WAIT"),
    ("future", "which student"),
)


@dataclass(frozen=True, kw_only=True)
class TrainSetting:
    """What is to be trained, and how often the reader pressed the button."""

    params: TrainParams
    train: int

    @classmethod
    def of(cls, *, train: int, **settings: Any) -> "TrainSetting":
        return cls(params=TrainParams(n_problems=N_PROBLEMS, **settings), train=train)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The last training, if there was one, and the shipped students of the same setting."""

    params: TrainParams  # as the controls stand
    live: TrainResult | None
    shipped: Mapping[str, MethodRow]

    @property
    def names(self) -> tuple[str, ...]:
        """Methods that are shown."""
        return self.params.names if self.live is None else self.live.params.names


class Trainer:
    """Trains when the button was pressed, never because a control moved."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[int, TrainResult] | None = None

    def __call__(self, setting: TrainSetting, *, stale: Any, progress: Any) -> Trained:
        """The training of this press of the button; each press draws other problems."""
        check(stale)
        if setting.train == 0:
            return self._beside(setting.params, None)
        with self._lock:
            last = self._last
        if last is None or last[0] != setting.train:
            asked = replace(setting.params, seed=setting.train - 1)
            last = (setting.train, train_students(asked, stale=stale, progress=progress))
            with self._lock:
                self._last = last
        return self._beside(setting.params, last[1])

    @staticmethod
    def _beside(params: TrainParams, live: TrainResult | None) -> Trained:
        like = params if live is None else live.params
        return Trained(params=params, live=live, shipped=shipped_like(like))


def shipped_like(params: TrainParams) -> dict[str, MethodRow]:
    """Rows of the benchmark with the same teacher, λ and number of rounds, by method."""
    try:
        found = methods("small")
    except FileNotFoundError:
        return {}  # the readouts say that they are missing
    return {
        row.name: row
        for row in (*found.dose, *found.rows)
        if (row.teacher, row.rounds) == (params.teacher, params.rounds)
        and (params.teacher == "learned" or row.repair == params.repair)
        and row.name in params.names
    }


def present_training(trained: Trained) -> View:
    params, live, shipped, names = trained.params, trained.live, trained.shipped, trained.names
    runs = () if live is None else live.runs
    n_steps = params.n_steps if live is None else live.params.n_steps
    listed = ", ".join(METHOD_STYLES[name].name for name in names)
    if live is None:
        readouts = _shipped(shipped)
        summary = (
            f"Nothing trained yet. Press the button to train {listed} side by side, with a "
            f"teacher whose λ is {params.repair:g}."
        )
    else:
        ends = "; ".join(
            f"{METHOD_STYLES[run.name].name} {percent(run.points[-1].accuracy)} right, "
            f"{percent(run.points[-1].wait)} with WAIT"
            for run in runs
        )
        summary = (
            f"After {n_steps} steps from a student with "
            f"{percent(runs[0].points[0].accuracy)} right: {ends}."
        )
        if replace(params, seed=live.params.seed) != live.params:
            summary += " The controls have moved since: press the button to train as they stand."
        readouts = [
            Readout(
                f"{METHOD_STYLES[run.name].name}: right after WAIT",
                _share(run.points[-1].correct_after_wait),
            )
            for run in runs
        ]
    shown = params if live is None else live.params
    return View(
        summary=summary,
        figures={
            "course": course_figure(names, runs, shipped, n_steps),
            "ends": ends_figure(names, runs, shipped),
        },
        readouts=tuple(readouts),
        table=_table(live, shipped) if live else None,
        tokens=_rollouts(live),
        code=(
            "from intuitive.trd.experiments import train\n\n"
            f'params = train.TrainParams.from_text(\n    "{shown.to_text()}"\n)\n'
            "result = train.run(params)\n"
            "result.runs[-1].points[-1].accuracy, result.runs[-1].rollouts[0]"
        ),
    )


def _share(value: float | None) -> str:
    return "none says it" if value is None else f"{percent(value)}"


def _shipped(shipped: Mapping[str, MethodRow]) -> list[Readout]:
    if not shipped:
        return [Readout("shipped results", f"none with this setting: {MAKE['results']}")]
    return [
        Readout(f"{METHOD_STYLES[name].name}, shipped", _interval(row))
        for name, row in shipped.items()
    ]


def _interval(row: MethodRow) -> str:
    found = row.accuracy
    return f"{percent(found.estimate)} ({percent(found.low)} to {percent(found.high)})"


def _table(live: TrainResult, shipped: Mapping[str, MethodRow]) -> Table:
    """What the live students did at every look, and the shipped ones at their end."""
    return Table(
        ("method", "step", "right", "pass@4", "says WAIT", "right after WAIT", "order kept",
         "teacher tokens"),
        tuple(
            (
                METHOD_STYLES[run.name].name,
                f"{point.step}",
                f"{percent(point.accuracy, 1)}",
                f"{percent(point.pass_at_4, 1)}",
                f"{percent(point.wait, 1)}",
                _share(point.correct_after_wait),
                f"{percent(point.order_kept, 1)}",
                f"{point.teacher_tokens}",
            )
            for run in live.runs
            for point in run.points
        )
        + tuple(
            (
                f"{METHOD_STYLES[name].name}, shipped",
                f"{row.curve[-1].step}" if row.curve else "–",
                _interval(row),
                percent(row.pass_at["4"], 1) if "4" in row.pass_at else "–",
                percent(row.wait, 1),
                _share(row.correct_after_wait),
                percent(row.order_kept, 1),
                fixed(row.teacher_generated + row.teacher_scored, 0),
            )
            for name, row in shipped.items()
        ),
    )  # fmt: skip


def _rollouts(live: TrainResult | None) -> TokenMarks:
    if live is None:
        return TokenMarks(("What your students write will stand here.",), bytes([HEADING]))
    texts, marks = [], []
    for run in live.runs:
        texts.append(f"{METHOD_STYLES[run.name].name}\n")
        marks.append(HEADING)
        for rollout in run.rollouts[:N_SHOWN]:
            texts += [f"{token} " for token in rollout]
            marks += [WAIT if token == "WAIT" else TEXT for token in rollout]
            texts.append("\n")
            marks.append(TEXT)
    return TokenMarks(tuple(texts), bytes(marks))


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """A button that trains students of some methods side by side.

    Args:
        predict: a question asked before the controls unlock.
        values: first control values, such as `methods="sft_teacher,sft_refined,trd"`.
    """
    first = TrainParams()
    there = (WEIGHTS / "small.safetensors").is_file()
    controls = (
        Action(
            name="train",
            label="Train these students",
            disabled="" if there else f"The models are not there: run {MAKE['models']}.",
            help="Some seconds on a processor; every press draws other problems.",
            heavy=True,
        ),
        Choice(
            name="methods",
            label="Methods",
            options={
                names: ", ".join(METHOD_STYLES[name].name for name in names.split(","))
                for names in SETS
            },
        ),
        Range(
            name="repair",
            label="The program's λ",
            values=REPAIRS,
            texts=tuple(f"{value:g}" for value in REPAIRS),
        ),
        Range(name="rounds", label="Rounds of fresh rollouts", values=(1, 2, 4, 8), more=True),
        Range(name="n_steps", label="Steps", values=(40, 80, 120, 240), more=True),
        Range(
            name="lr",
            label="Learning rate",
            values=RATES,
            texts=tuple(f"{value:g}" for value in RATES),
            more=True,
        ),
        Choice(name="teacher", label="Teacher", options=TEACHER_NAMES, more=True),
    )
    return Explorer(
        name="trd_train",
        title="Train a student yourself",
        params=TrainSetting.of,
        compute=Trainer(),
        present=present_training,
        controls=controls,
        plots=(
            Plot(
                name="course",
                label="Share of right rollouts over training steps, live and shipped",
                caption=f"Thick: your students, on {first.n_test} problems with 4 rollouts each. "
                "Faded: the mean of the shipped ones, with tuned learning rates.",
                span=6,
                height=380,
            ),
            Plot(
                name="ends",
                label="Accuracy, WAIT and order of the trained students, live and shipped",
                caption="Bars: yours, at the end. Diamonds: shipped.",
                span=6,
                height=380,
            ),
        ),
        tokens=Tokens(
            label="What your students write: #i is an index, the number after it the running total",
            classes=CLASSES,
            height=260,
        ),
        defaults={
            "train": 0,
            "methods": first.methods,
            "repair": first.repair,
            "rounds": first.rounds,
            "n_steps": first.n_steps,
            "lr": first.lr,
            "teacher": first.teacher,
            **values,
        },
        predict=predict,
    )


# ---- figures


ENDS = ("right", "says WAIT", "keeps its order")


def course_figure(
    names: Sequence[str], runs: Sequence[TrainRun], shipped: Mapping[str, MethodRow], n_steps: int
) -> theme.Figure:
    """Accuracy over training steps: live in full colour, shipped faded with its interval."""
    traces: list[dict[str, Any]] = []
    for name in names:
        style, row = METHOD_STYLES[name], shipped.get(name)
        if row is not None:
            traces.append(
                {
                    "type": "scatter",
                    "x": [point.step for point in row.curve],
                    "y": [point.accuracy for point in row.curve],
                    "mode": "lines+markers",
                    "line": style.line(2) | {"color": fade(style.colour, 0.55)},
                    "marker": style.marker(6) | {"color": fade(style.colour, 0.55)},
                    "name": f"{style.name}, shipped",
                    "showlegend": not runs,
                    "hovertemplate": f"{style.name}, shipped: %{{y:.1%}}<extra></extra>",
                }
            )
    for run in runs:
        style = METHOD_STYLES[run.name]
        traces.append(
            {
                "type": "scatter",
                "x": [point.step for point in run.points],
                "y": [point.accuracy for point in run.points],
                "mode": "lines+markers",
                "line": style.line(4),
                "marker": style.marker(13),
                "name": f"{style.name}, yours",
                "hovertemplate": f"{style.name}: %{{y:.1%}} at step %{{x}}<extra></extra>",
            }
        )
    last = max([n_steps, *(point.step for row in shipped.values() for point in row.curve)])
    return theme.figure(
        traces,
        x="training step",
        y="rollouts that are right",
        x_range=(-0.03 * last, 1.03 * last),
        y_range=(0, 1.03),
        yaxis={"tickformat": ".0%"},
        showlegend=True,
        legend={"y": -0.2, "yanchor": "top"},
        margin={"l": 66, "b": 100},
    )


def ends_figure(
    names: Sequence[str], runs: Sequence[TrainRun], shipped: Mapping[str, MethodRow]
) -> theme.Figure:
    """How the students ended: bars live, diamonds shipped."""
    live = {run.name: run.points[-1] for run in runs}
    places = list(range(len(names)))
    colours = [METHOD_STYLES[name].colour for name in names]
    traces: list[dict[str, Any]] = []
    for column, field in enumerate(("accuracy", "wait", "order_kept")):
        heights = [getattr(live[name], field) if name in live else None for name in names]
        rows = [shipped.get(name) for name in names]
        known = [None if row is None else getattr(row, field) for row in rows]
        if field == "accuracy":
            known = [None if end is None else end.estimate for end in known]
        axis = theme.x_axis(column)
        traces += [
            {
                "type": "bar",
                "x": places,
                "y": heights,
                "width": 0.6,
                "marker": {"color": [fade(colour, 0.7) for colour in colours]},
                "name": "yours",
                "xaxis": axis,
                "text": ["" if height is None else f"{percent(height)}" for height in heights],
                "textposition": "outside",
                "textangle": 0,
                "constraintext": "none",
                "cliponaxis": False,
                "showlegend": column == 0,
                "hoverinfo": "skip",
            },
            {
                "type": "scatter",
                "x": places,
                "y": known,
                "mode": "markers",
                "marker": {
                    "symbol": "diamond-open",
                    "size": 12,
                    "color": colours,
                    "line": {"width": 3, "color": colours},
                },
                "name": "shipped",
                "xaxis": axis,
                "showlegend": column == 0,
                "hovertemplate": "%{y:.1%}<extra></extra>",
            },
        ]
    layout = theme.columns(list(ENDS), x="", x_range=(-0.6, len(names) - 0.4), gap=0.05)
    for name, axis in layout.items():
        if name.startswith("xaxis"):
            axis |= {
                "tickvals": places,
                "ticktext": [METHOD_STYLES[key].name for key in names],
                "tickangle": -30,
                "ticklabeloverflow": "allow",
                "zeroline": False,
            }
    return theme.figure(
        traces,
        y_range=(0, 1.12),
        yaxis={"tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]},
        showlegend=False,
        margin={"l": 90, "b": 100, "r": 24},
        **layout,
    )
