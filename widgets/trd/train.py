"""Ten texts while a student learns: recorded trainings, and others trained here and now."""

import threading
from dataclasses import dataclass, replace
from typing import Any

from intuitive.common.runtime import check
from intuitive.trd.experiments.train import TrainParams, TrainResult, recorded
from intuitive.trd.experiments.train import run as train_students
from intuitive.trd.trained import WEIGHTS

from ..kit import (
    Action,
    Choice,
    Explorer,
    Hero,
    Predict,
    Range,
    Step,
    Table,
    Timeline,
    View,
    percent,
)
from .styles import MAKE, METHOD_STYLES, TEACHER_NAMES
from .train_figures import Picture

SETS = (
    "opd_forward,trd",
    "opd_forward,opd_reverse",
    "opd_reverse,trd",
    "trd,trd_from_x",
    "sft_teacher,sft_refined",
    "opd_reverse_topk,opd_reverse_topk_tail",
)
REPAIRS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8)  # those of the benchmark's doses
RATES = (3e-4, 1e-3, 3e-3)
PACE_MS = 650
NO_RECORD = "The recorded trainings are not there: run `python benchmarks/trd_train.py`."


@dataclass(frozen=True, kw_only=True)
class TrainSetting:
    """What is to be trained, and how often the reader pressed the button."""

    params: TrainParams
    train: int

    @classmethod
    def of(cls, *, train: int, **settings: Any) -> "TrainSetting":
        return cls(params=TrainParams(**settings), train=train)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training to look at: a recorded one, or one that was or is trained here."""

    params: TrainParams  # as the controls stand
    shown: TrainResult
    live: bool

    @property
    def fits(self) -> bool:
        """Whether it is the one that the controls ask for."""
        return replace(self.shown.params, seed=self.params.seed) == self.params


class Trainer:
    """Trains when the button was pressed, never because a control moved."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[int, TrainResult] | None = None

    def __call__(self, setting: TrainSetting, *, stale: Any, progress: Any) -> Trained:
        """The training of this press, each on other problems; before the first, a recorded one."""
        check(stale)
        params = setting.params
        if setting.train == 0:
            return Trained(params=params, shown=_closest(params), live=False)
        with self._lock:
            last = self._last
        if last is not None and last[0] == setting.train:
            trained = Trained(params=params, shown=last[1], live=True)
            # Whoever turns to something else sees what is recorded of it, and finds this again.
            if not trained.fits and (kept := _kept(params)) is not None:
                return Trained(params=params, shown=kept, live=False)
            if not trained.fits and last[1].params.methods != params.methods:
                return Trained(params=params, shown=_closest(params), live=False)
        else:
            done = self._train(replace(params, seed=setting.train), stale, progress)
            last = (setting.train, done)
            with self._lock:
                self._last = last
        return Trained(params=params, shown=last[1], live=True)

    @staticmethod
    def _train(asked: TrainParams, stale: Any, progress: Any) -> TrainResult:
        said: list[tuple[float, str]] = [(0.0, "Before the first step")]

        def heard(fraction: float, sentence: str) -> None:
            said[:] = [(fraction, sentence)]
            progress(fraction, sentence)

        def watch(so_far: TrainResult) -> None:
            if len(so_far.runs[0].points) > 1:  # a timeline of one frame does not grow
                progress(*said[0], Trained(params=asked, shown=so_far, live=True))

        return train_students(asked, stale=stale, progress=heard, watch=watch)


def _kept(params: TrainParams) -> TrainResult | None:
    """The recorded training with these very settings."""
    try:
        return recorded(params)
    except FileNotFoundError as error:
        raise FileNotFoundError(NO_RECORD) from error


def _closest(params: TrainParams) -> TrainResult:
    """The recorded training with these settings, or else the one of these methods."""
    for asked in (params, TrainParams(methods=params.methods), TrainParams()):
        found = _kept(asked)
        if found is not None:
            return found
    raise FileNotFoundError(NO_RECORD)


def present_training(trained: Trained) -> View:
    shown, params = trained.shown, trained.shown.params
    names = " and ".join(METHOD_STYLES[name].name for name in params.names)
    how = "Trained here" if trained.live else "Recorded"
    note = f"{how}: λ = {params.repair:g}, seed {params.seed}"
    rounds = f"{params.rounds} rounds" if params.rounds > 1 else "one round"
    summary = (
        f"{how}: ten texts of {names} over {params.n_steps} steps and {rounds}, "
        f"{TEACHER_NAMES[params.teacher]} as teacher with λ = {params.repair:g}, "
        f"seed {params.seed}, {params.n_problems} problems and one learning rate for both."
    )
    if not trained.fits:
        summary += " The controls ask for another: press the button to train it."
    picture = Picture(shown, live=trained.live, note=note)
    growing = shown.runs[0].points[-1].step < params.n_steps
    return View(
        summary=summary,
        timeline=Timeline(
            frames=picture.frames(), axis="training step", start=-1 if growing else 0,
            pace_ms=PACE_MS,
        ),
        arithmetic=picture.arithmetic(),
        readouts=picture.readouts(-1),
        table=_table(shown),
        code=(
            "from intuitive.trd.experiments import train\n\n"
            f'params = train.TrainParams.from_text(\n    "{params.to_text()}"\n)\n'
            "result = train.run(params)\n"
            "result.runs[0].points[-1].accuracy, result.runs[0].texts[-1]"
        ),
    )  # fmt: skip


def _table(shown: TrainResult) -> Table:
    """What the students did at every look."""
    header = ("method", "step", "right", "pass@4", "says WAIT", "right after WAIT", "order kept",
              "teacher tokens")  # fmt: skip
    rows = (
        (
            METHOD_STYLES[run.name].name,
            f"{point.step}",
            percent(point.accuracy, 1),
            percent(point.pass_at_4, 1),
            percent(point.wait, 1),
            "none says it"
            if point.correct_after_wait is None
            else percent(point.correct_after_wait),
            percent(point.order_kept, 1),
            f"{point.teacher_tokens}",
        )
        for run in shown.runs
        for point in run.points
    )
    return Table(header, tuple(rows))


def _share(value: float | None) -> str:
    return "none says it" if value is None else percent(value)


def _right_after_wait() -> tuple[int, str]:
    found = _closest(TrainParams())
    end = next(run for run in found.runs if run.name == "opd_forward").points[-1]
    share = end.correct_after_wait or 0.0
    return 0 if share > 0.6 else 1 if share > 0.3 else 2, (
        f"After {found.params.n_steps} steps {percent(end.wait)} of its texts say WAIT, and "
        f"{'none' if share == 0 else percent(share)} of those come out right: no text that it "
        "learned from had a WAIT in it, so what follows one was never taught."
    )


PREDICT = Predict(
    question=(
        "The teacher is perfect, and after an error it says WAIT with probability 0.3. A student "
        "learns by forward KL along its own texts. Of its texts that say WAIT in the end, how many "
        "come out right?"
    ),
    choices=("most of them", "about half", "hardly any"),
    answer=_right_after_wait,
)


def pair_name(names: str) -> str:
    """Two methods in a list: a word that both begin with is said once, as the list is narrow."""
    left, right = (
        METHOD_STYLES[name].name.replace("reverse, ", "").replace("scored ", "")
        for name in names.split(",")
    )
    family = f"{left.split()[0]} "
    return f"{left} | {right.removeprefix(family)}"


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Ten texts of two students while they learn, with a button that trains others.

    Args:
        predict: a question asked before the controls unlock, such as `PREDICT`.
        values: first control values, such as `methods="sft_teacher,sft_refined"`.
    """
    first = TrainParams()
    there = (WEIGHTS / "small.safetensors").is_file()
    controls = (
        Choice(
            name="methods",
            label="Side by side",
            options={names: pair_name(names) for names in SETS},
        ),
        Range(
            name="repair",
            label="Teacher’s λ",
            values=REPAIRS,
            texts=tuple(f"{value:g}" for value in REPAIRS),
        ),
        Action(
            name="train",
            label="Train here and now",
            disabled="" if there else f"The models are not there: run {MAKE['models']}.",
            heavy=True,
        ),
        Range(name="rounds", label="Rounds of fresh rollouts", values=(1, 2, 4, 8), more=True),
        Range(name="n_steps", label="Steps", values=(40, 80, 120, 240), more=True),
        Range(
            name="lr",
            label="Learning rate of both",
            values=RATES,
            texts=tuple(f"{value:g}" for value in RATES),
            more=True,
        ),
        Choice(name="teacher", label="Teacher", options=TEACHER_NAMES, more=True),
    )
    return Explorer(
        name="trd_train",
        title="Ten texts while a student learns",
        params=TrainSetting.of,
        compute=Trainer(),
        present=present_training,
        hero=Hero(
            label="Ten problems, what two students write while they learn, and how many are right",
            caption="“#3 4”: take digit number 3; the total is then 4. Orange: the first wrong "
            "number, or a token that cannot stand there, and what follows. …: no EOS.",
        ),
        controls=controls,
        steps=(
            Step(
                title="Before training",
                text="One student on both sides. It adds from right to left, #3 first. About half "
                "of its test texts are right, fewer of these ten. None says WAIT.",
                frame="first",
            ),
            Step(
                title="Let both learn",
                text="Same problems, same teacher, as many steps. A text changes only because its "
                "student has. Which side begins to say WAIT? What happens near step 15?",
                frame="play",
            ),
            Step(
                title="After a WAIT",
                text="Read on from a green tile on the left: does a repair follow? Then look "
                "before it: a wrong number would be orange.",
                frame="last",
            ),
            Step(
                title="Nobody says WAIT",
                text="λ = 0: the same loss along the same kind of text, but the teacher never "
                "stops to repair. What becomes of the left side?",
                sets={"repair": 0.0},
                frame="play",
            ),
            Step(
                title="Whose order?",
                text="The same rewrites on both sides. On the right, the teacher that scores has "
                "not seen the student's text. Which side still begins with #3? One "
                "student each; five are compared below.",
                sets={"methods": "trd,trd_from_x"},
                frame="play",
            ),
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
