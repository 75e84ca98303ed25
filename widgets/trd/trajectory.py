"""A road that forks at the error: an attempt, the way back that a repair needs, and the rewrite."""

import functools
from dataclasses import dataclass
from typing import Any

from intuitive.common.runtime import never
from intuitive.common.training import silent
from intuitive.trd.attempts import N_PROBLEMS
from intuitive.trd.config import setting_config
from intuitive.trd.exercise import Own, Rewrite, try_rewrite
from intuitive.trd.experiments.trajectory import (
    TrajectoryParams,
    TrajectoryResult,
    run,
)
from intuitive.trd.sums import Problem

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
    number,
)
from . import trajectory_figures as figures
from .styles import DIVERGENCE_NAMES, SETTING_NAMES, TRAJECTORY_NAMES, told
from .trajectory_scene import Picture
from .trajectory_words import summary

ALONG = {"opd": "own road (OPD)", "trd": "rewrite (TRD)"}
TEACHERS = {
    "follows": "the program, in the student's order",
    "exact": "the program, in an order of its own",
    "learned": "the trained network, λ its own",
}
CONTEXTS = {"refine": "x and y_o, as it rewrote", "x": "x alone"}
REPAIRS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CAPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LATE = {"setting": "late", "step": 0, "written": 0}  # a wrong plan and nothing else
PACE_MS = 620


@dataclass(frozen=True, kw_only=True)
class RoadSetting:
    """What is computed, the road trained along, and the token that was opened."""

    params: TrajectoryParams
    along: str
    look: int  # token that is open, from 1; 0: the one just walked

    @classmethod
    def of(cls, *, along: str, look: int, **settings: Any) -> "RoadSetting":
        return cls(params=TrajectoryParams(**settings), along=along, look=look)


@dataclass(frozen=True)
class Walked:
    """A result, how it is looked at, and the reader's own rewrite where there is one."""

    setting: RoadSetting
    result: TrajectoryResult
    own: Own | None


def walk(
    setting: RoadSetting,
    *,
    yours: Rewrite | None = None,
    stale: Any = never,
    progress: Any = silent,
) -> Walked:
    """`run` of the compute module, and the reader's rewrite of the same attempt."""
    with told("models"):
        result = run(setting.params, stale=stale, progress=progress)
    own = None
    if yours is not None:
        problem = Problem(digits=result.digits, config=setting_config(setting.params.setting).sums)
        y_o = result.y_o
        own = try_rewrite(
            yours, y_o.tokens, y_o.first_error, problem, result.order, result.y_r.tokens
        )
    return Walked(setting, result, own)


def _answer() -> tuple[int, str]:
    with told("models"):
        ladder = run(TrajectoryParams()).ladder
    shared = sum(rung.shared for rung in ladder)
    right = {len(ladder): 0, 1: 1, 0: 2}.get(shared, -1)
    return right, (
        f"Of the {len(ladder)} pairs of context and next token that the way back needs, the "
        f"attempt supplies {shared} of {len(ladder)}: what leads to {ladder[0].target}. After that "
        "the attempt goes on as if nothing had been said."
    )


PREDICT = Predict(
    question=(
        "After a wrong total a repair reads: WAIT, the digit again, the right total, and on to the "
        "answer. The student trains along its own text, where nobody repaired anything. How many "
        "of the repair's tokens can it be taught there?"
    ),
    choices=("all of them", "only the first one", "none of them"),
    answer=_answer,
)


def present(walked: Walked) -> View:
    """The hero and the comparison of three texts."""
    setting, result = walked.setting, walked.result
    picture = Picture(result, setting.along, setting.look, walked.own)
    frames, say = picture.frames(), picture.say
    related: dict[str, tuple[str, ...]] = {}
    for i in range(max(picture.n, picture.n_r)):
        own = () if walked.own is None else (f"own:{i}",)
        slots = {f"y_o:{i}", f"y_r:{i}", *own}
        back = i - picture.begin
        if result.ladder and 0 < back < len(result.ladder) and picture.small:
            slots.add(f"pair:{back}")
        kind = say.kind(i)
        digit = set()
        if kind in ("index", "total"):
            token = result.y_o.tokens[i if kind == "index" else i - 1]
            digit = {f"digit:{token[1:]}"}
        for link in slots:
            related[link] = tuple(sorted((slots | digit) - {link}))
    params = result.params
    start = 0 if walked.own is None else -2  # a rewrite of one's own is there to be compared
    return View(
        summary=summary(result, setting.along, walked.own),
        timeline=Timeline(frames=frames, axis="token", start=start, pace_ms=PACE_MS),
        arithmetic=say.arithmetic(),
        related=related,
        figures={"diff": functools.partial(figures.diff_figure, result)},
        readouts=frames[-1].readouts,
        table=_table(result),
        code=(
            "from intuitive.trd.experiments import trajectory\n\n"
            f'params = trajectory.TrajectoryParams.from_text(\n    "{params.to_text()}"\n)\n'
            "result = trajectory.run(params)\n"
            "result.y_o.nats, result.ladder, result.y_r.nats"
        ),
        bounds={
            "step": (1 - say.off, say.k),
            "written": (0, params.n_numbers - 1),
            "look": (0, picture.length),
        },
        values={"step": params.step, "written": params.written, "look": picture.look},
    )


def _table(result: TrajectoryResult) -> Table:
    label = DIVERGENCE_NAMES[result.params.divergence]
    rows = [
        ("the problem", f"#{at}", f"{digit}", "–", "–", "–", "–", "–")
        for at, digit in enumerate(result.digits)
    ]
    for path in (result.y_o, result.y_r, result.y_t):
        for at, token in enumerate(path.tokens):
            said = ("–", "–", "–")
            if path.nats:
                teacher, student = path.teacher[at], path.student[at]
                said = (
                    fixed(path.nats[at], 3),
                    number(teacher.wait, 2),
                    f"{fixed(teacher.expected)}, {fixed(student.expected)} on {path.expected[at]}",
                )
            row = (TRAJECTORY_NAMES[path.name], f"{at + 1}", token, path.marks[at] or "–")
            rows.append((*row, *said, fixed(path.nll[at], 3)))
    header = (
        "trajectory",
        "place",
        "token",
        "mark",
        f"{label}, nats",
        "teacher's WAIT",
        "teacher, student",
        "student NLL",
    )
    return Table(header, tuple(rows))


STEPS = (
    Step(
        title="Read a step",
        text="“#3 6”: take digit #3, which is 6, and write the total so far. Under each token two "
        "bars: what teacher and student expect there.",
        sets={"written": 1},
        frame="2 tokens",
    ),
    Step(
        title="Write it wrong",
        text="The second total should be 1; here stands 3. Walk on. Which token costs the student "
        "most: the wrong one?",
        sets={"written": 3},
        frame="play",
    ),
    Step(
        title="Let it insist",
        text="λ = 1: at every sign the teacher says WAIT and nothing else. The losses grow, "
        "and the count of pairs stays what it was.",
        sets={"written": 3, "repair": 1.0},
        frame="last",
    ),
    Step(
        title="Pave the rewrite",
        text="TRD trains along y_r instead. Watch the losses, and look for a sign.",
        sets={"written": 3, "along": "trd"},
        frame="play",
    ),
    Step(
        title="An error that shows late",
        text="Eight digits, totals modulo 23, and a plan, 0 to 8, to start from: 0 is wrong. No "
        "total shows it, only the target. Where is the first sign?",
        sets=LATE,
        frame="last",
    ),
)


def explorer(
    *, predict: Predict | None = None, yours: Rewrite | None = None, **values: Any
) -> Explorer:
    """An attempt in which you write a wrong number, what that costs, and who repairs it.

    Args:
        predict: a question asked before the sliders unlock, such as `PREDICT`.
        yours: a rewrite of your own (`intuitive.trd.exercise`), drawn under the package's.
        values: first control values, such as `divergence="reverse_kl"`.
    """
    first = TrajectoryParams()
    controls = (
        Range(
            name="repair",
            label="Share of WAIT, λ",
            values=REPAIRS,
            texts=tuple(f"{value:g}" for value in REPAIRS),
        ),
        Range(
            name="written",
            label="Number you write",
            min=0,
            max=22,
        ),
        Choice(name="along", label="Trained along", options=ALONG),
        Range(
            name="step",
            label="Step where you write; 0 is the plan",
            min=0,
            max=8,
            more=True,
        ),
        Choice(name="divergence", label="Divergence", options=DIVERGENCE_NAMES, more=True),
        Choice(
            name="setting",
            label="Task",
            options=SETTING_NAMES,
            sets={"late": {"step": 0, "written": 0}, "small": {"step": 2, "written": 3}},
            more=True,
            heavy=True,
        ),
        Choice(name="teacher", label="Teacher", options=TEACHERS, more=True, heavy=True),
        Choice(name="context", label="Teacher scores y_r from", options=CONTEXTS, more=True),
        Range(
            name="cap",
            label="Cap of the clip",
            values=CAPS,
            texts=tuple(f"{value:g}" for value in CAPS),
            unit="nats",
            more=True,
        ),
        Range(name="beta", label="Jensen–Shannon: β", min=0.05, max=0.95, step=0.05, more=True),
        Range(name="top_k", label="Top-k: tokens kept, k", min=1, max=16, more=True),
        Range(name="problem", label="Problem", min=0, max=N_PROBLEMS - 1, more=True),
        Range(name="seed", label="Student, seed", min=0, max=4, more=True, heavy=True),
        Range(
            name="look", label="Token that is open; 0 follows the walk", min=0, max=20, more=True
        ),
    )
    defaults = {
        "repair": first.repair,
        "written": first.written,
        "along": "opd" if yours is None else "trd",
        "step": first.step,
        "divergence": first.divergence,
        "setting": first.setting,
        "teacher": first.teacher,
        "context": first.context,
        "cap": first.cap,
        "beta": first.beta,
        "top_k": first.top_k,
        "problem": first.problem,
        "seed": first.seed,
        "look": 0,
        **values,
    }
    return Explorer(
        name="trd_trajectory",
        title="A road that forks at the error",
        params=RoadSetting.of,
        compute=functools.partial(walk, yours=yours),
        present=present,
        hero=Hero(
            label="A student's attempt as a road of tokens, the way back after its error, and the "
            "teacher's rewrite",
        ),
        controls=controls,
        steps=STEPS,
        plots=(
            Plot(
                name="diff",
                tab="Three texts",
                label="The attempt, its rewrite and the teacher's own solution, token by token",
                caption="Wrong or underlined: not the right number. Of the right ones, compared "
                "with y_o: kept, fixed in its place, or in another place. NLL: what the student "
                "pays per token to write it, in nats; small means near to what it would write.",
                height=230,
            ),
        ),
        defaults=defaults,
        predict=predict,
    )
