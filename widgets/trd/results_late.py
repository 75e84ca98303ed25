"""Who knows the plan? A text that misses its target, and what the methods came to."""

import functools
from typing import Any

from intuitive.trd.experiments.results_late import N_PROBLEMS, Late, LateParams, run
from intuitive.trd.results import methods

from ..kit import Choice, Explorer, Hero, Plot, Predict, Range, Step, View, percent
from . import results_figures as figures
from .results import ROUNDS, code, shared_plots, table
from .results_late_scene import Picture
from .styles import METHOD_STYLES, METHOD_WORDS, TEACHER_NAMES, told


def look_up(params: LateParams, *, stale: Any, progress: Any) -> Late:
    """`run` of the compute module."""
    with told("results"):
        return run(params, stale=stale, progress=progress)


def present_late(late: Late) -> View:
    results, one, picture = late.results, late.planned, Picture(late)
    found, row = results.found, results.row
    rewrites = next(r for r in found.rewrites if r.teacher == results.params.teacher)
    off = abs(one.missed_by)
    met = f"misses its target {one.target} by {off}" if off else f"meets its target {one.target}"
    first = sum(found.first_accuracy) / len(found.first_accuracy)
    return View(
        summary=(
            f"A text with the plan {one.plan} {met}. "
            f"{METHOD_STYLES[row.name].name}, texts {ROUNDS[row.rounds]}, "
            f"{TEACHER_NAMES[late.params.teacher]} as teacher, λ = {row.repair:g}. "
            f"{METHOD_WORDS[row.name]} Means of {found.seeds} students, recorded; the first "
            f"students had {percent(first)} right."
        ),
        timeline=picture.timeline(),
        arithmetic=picture.arithmetic(),
        related={"target": ("plan",), "plan": ("target",)},
        figures={
            "plans": functools.partial(figures.plan_figure, results),
            "fresh": functools.partial(figures.fresh_figure, results, "right"),
            "fresh_wait": functools.partial(figures.fresh_figure, results, "wait"),
            "order": functools.partial(figures.order_figure, results),
            "cost": functools.partial(figures.cost_figure, results),
            "transitions": functools.partial(figures.transitions_figure, rewrites),
        },
        readouts=picture.readouts(known=False),
        table=table(found),
        code=code(results.params),
    )


def _answer() -> tuple[int, str]:
    with told("results"):
        found = methods("late")
    reverse, trd = (found.row(name).accuracy.estimate for name in ("opd_reverse", "trd"))
    high = 0.8
    right = {(True, True): 0, (False, True): 1, (False, False): 2}[reverse > high, trd > high]
    return right, (
        f"Reverse KL comes to {percent(reverse)}, TRD to {percent(trd)}: from the problem alone "
        "the teacher only guesses the plan, and after a finished text it knows it."
    )


PREDICT = Predict(
    question=(
        "Two ways of section 4 again, reverse KL along the student's own texts and TRD. Here the "
        "first students are right in about 37% of their texts. How far do the two get?"
    ),
    choices=(
        "both nearly always right",
        "TRD nearly always right, reverse KL far from it",
        "neither nearly always right",
    ),
    answer=_answer,
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """A planned text with its target, what teachers know of its plan, and the methods' outcomes.

    Args:
        predict: a question asked before the controls unlock, such as `PREDICT`.
        values: first control values, such as `teacher="learned"`.
    """
    first = LateParams()
    return Explorer(
        name="trd_results_late",
        title="Who knows the plan?",
        params=_params,
        compute=look_up,
        present=present_late,
        hero=Hero(
            label="A text with a plan and a target, and what three teachers offer as the plan",
        ),
        controls=(
            Range(name="plan", label="Plan that is written", min=0, max=8),
            Choice(
                name="method",
                label="Follow",
                options={name: style.name for name, style in METHOD_STYLES.items()},
            ),
            Choice(
                name="rounds",
                label="Student's texts",
                options={str(rounds): label for rounds, label in ROUNDS.items()},
            ),
            Choice(name="teacher", label="Teacher", options=TEACHER_NAMES, more=True),
            Range(name="problem", label="Problem", min=0, max=N_PROBLEMS - 1, more=True),
        ),
        steps=(
            Step(
                title="Walk to the target",
                text="A wrong plan, then eight right additions. Where does the error show, and "
                "how far back does it lie?",
                frame="target",
            ),
            Step(
                title="A lucky plan",
                text="The right plan. Does any token on the way look different? Find the one that "
                "does.",
                sets={"plan": 5},
                frame="target",
            ),
            Step(
                title="Who could know?",
                text="Three teachers are asked for the plan. They differ only in what they have "
                "seen. Whose targets can teach it?",
                frame="play",
            ),
            Step(
                title="Fresh texts, TRD",
                text="TRD with texts drawn anew eight times. Does it help this time? Below its "
                "numbers stand, paler, those of texts drawn once.",
                sets={"method": "trd", "rounds": "8"},
                frame="last",
            ),
            Step(
                title="Fresh texts, OPSD",
                text="OPSD by reverse KL, the same eight draws: a solution in the teacher's "
                "context, no rewriting. Compare its line with TRD's, beside it: right texts, and "
                "tokens of the teacher.",
                sets={"method": "opsd_reverse", "rounds": "8"},
                frame="last",
            ),
        ),
        plots=(
            # The tab that is open first must not tell who gets it right.
            Plot(
                name="order",
                tab="Order",
                label="Share of texts in the first student's order, by method",
                caption="One order only is no style kept, but a collapse.",
                height=330,
            ),
            Plot(
                name="plans",
                tab="Who ends with the plan",
                label="Share of texts with the right plan at the end, by method",
                height=330,
            ),
            *shared_plots(),
        ),
        defaults={
            "plan": first.plan,
            "method": first.method,
            "rounds": str(first.rounds),
            "teacher": first.teacher,
            "problem": first.problem,
            **values,
        },
        predict=predict,
    )


def _params(*, rounds: str, **settings: Any) -> LateParams:
    return LateParams(rounds=int(rounds), **settings)
