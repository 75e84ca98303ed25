"""Training students while one watches, beside those of the benchmark."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from intuitive.common.runtime import check
from intuitive.trd.committed import WEIGHTS, MethodRow, methods
from intuitive.trd.live import LiveParams, LiveResult, train_live

from ..figures import trd_train as figures
from ..figures.trd_styles import METHOD_STYLES
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
)
from .trd_shipped import MAKE

SETS = (
    "opd_forward,trd",
    "opd_forward,opd_reverse,trd",
    "opd_forward,opd_forward_clip,trd",
    "opd_reverse,opd_reverse_topk,opd_reverse_topk_tail",
    "sft_teacher,sft_refined,trd",
    "trd,trd_from_x,trd_reverse",
    "opsd_forward,opsd_reverse,trd_opsd",
)
TEACHERS = {"exact": "the program", "learned": "the trained network"}
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

    params: LiveParams
    train: int

    @classmethod
    def of(cls, *, train: int, **settings: Any) -> "TrainSetting":
        return cls(params=LiveParams(n_problems=N_PROBLEMS, **settings), train=train)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The last training, if there was one, and the shipped students of the same setting."""

    params: LiveParams  # as the controls stand
    live: LiveResult | None
    shipped: Mapping[str, MethodRow]

    @property
    def names(self) -> tuple[str, ...]:
        """Methods that are shown."""
        return self.params.names if self.live is None else self.live.params.names


class Trainer:
    """Trains when the button was pressed, never because a control moved."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[int, LiveResult] | None = None

    def __call__(self, setting: TrainSetting, *, stale: Any, progress: Any) -> Trained:
        """The training of this press of the button; each press draws other problems."""
        check(stale)
        if setting.train == 0:
            return self._beside(setting.params, None)
        with self._lock:
            last = self._last
        if last is None or last[0] != setting.train:
            asked = replace(setting.params, seed=setting.train - 1)
            last = (setting.train, train_live(asked, stale=stale, progress=progress))
            with self._lock:
                self._last = last
        return self._beside(setting.params, last[1])

    @staticmethod
    def _beside(params: LiveParams, live: LiveResult | None) -> Trained:
        like = params if live is None else live.params
        return Trained(params=params, live=live, shipped=shipped_like(like))


def shipped_like(params: LiveParams) -> dict[str, MethodRow]:
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
    readouts = []
    if live is None:
        summary = (
            f"Nothing trained yet. Press the button to train {listed} side by side, with a "
            f"teacher whose λ is {params.repair:g}."
        )
    else:
        ends = "; ".join(
            f"{METHOD_STYLES[run.name].name} {run.points[-1].accuracy:.0%} right, "
            f"{run.points[-1].wait:.0%} with WAIT"
            for run in runs
        )
        summary = (
            f"After {n_steps} steps from a student with {runs[0].points[0].accuracy:.0%} right: "
            f"{ends}."
        )
        if replace(params, seed=live.params.seed) != live.params:
            summary += " The controls have moved since: press the button to train as they stand."
        readouts += [
            Readout(
                f"{METHOD_STYLES[run.name].name}: right after WAIT",
                _share(run.points[-1].correct_after_wait),
            )
            for run in runs
        ]
    if shipped:
        readouts += [
            Readout(
                f"{METHOD_STYLES[name].name}, shipped",
                f"{row.accuracy.estimate:.0%} ({row.accuracy.low:.0%} to {row.accuracy.high:.0%})",
            )
            for name, row in shipped.items()
        ]
    else:
        readouts.append(Readout("shipped results", f"none with this setting: {MAKE['results']}"))
    shown = params if live is None else live.params
    return View(
        summary=summary,
        figures={
            "course": figures.course_figure(names, runs, shipped, n_steps),
            "ends": figures.ends_figure(names, runs, shipped),
        },
        readouts=tuple(readouts),
        table=_table(live) if live else None,
        tokens=_rollouts(live),
        code=(
            "from intuitive.trd.experiment import LiveParams, train_live\n\n"
            f'params = LiveParams.from_text(\n    "{shown.to_text()}"\n)\n'
            "result = train_live(params)\n"
            "result.runs[-1].points[-1].accuracy, result.runs[-1].rollouts[0]"
        ),
    )


def _share(value: float | None) -> str:
    return "none says it" if value is None else f"{value:.0%}"


def _table(live: LiveResult) -> Table:
    return Table(
        ("method", "step", "right", "pass@4", "says WAIT", "right after WAIT", "order kept",
         "teacher tokens"),
        tuple(
            (
                METHOD_STYLES[run.name].name,
                f"{point.step}",
                f"{point.accuracy:.1%}",
                f"{point.pass_at_4:.1%}",
                f"{point.wait:.1%}",
                _share(point.correct_after_wait),
                f"{point.order_kept:.1%}",
                f"{point.teacher_tokens}",
            )
            for run in live.runs
            for point in run.points
        ),
    )  # fmt: skip


def _rollouts(live: LiveResult | None) -> TokenMarks:
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


def train_students(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """A button that trains students of some methods side by side.

    Args:
        predict: a question asked before the controls unlock.
        values: first control values, such as `methods="sft_teacher,sft_refined,trd"`.
    """
    first = LiveParams()
    there = (WEIGHTS / "small.safetensors").is_file()
    controls = (
        Action(
            name="train",
            label="Train these students",
            disabled="" if there else f"The models are not there: run {MAKE['models']}.",
            help="Some seconds on a processor; every press draws other problems.",
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
        Choice(name="teacher", label="Teacher", options=TEACHERS, more=True),
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
