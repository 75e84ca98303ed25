"""What the benchmark measured: the dose curve with a hundred texts, and one plot for each claim."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from intuitive.trd.experiments.results import ResultParams, Results, chosen_rows, run
from intuitive.trd.methods import ABLATIONS, METHODS
from intuitive.trd.results import MethodRow, Methods, methods

from ..kit import Choice, Explorer, Hero, Plot, Predict, Step, Table, View, percent
from . import results_figures as figures
from .results_scene import Picture, readouts
from .styles import METHOD_STYLES, METHOD_WORDS, TEACHER_NAMES, told

ROUNDS = {1: "drawn once", 8: "drawn anew 8 times"}


def look_up(params: ResultParams, *, stale: Any, progress: Any) -> Results:
    """`run` of the compute module."""
    with told("results"):
        return run(params, stale=stale, progress=progress)


def present_results(results: Results) -> View:
    params, found, row = results.params, results.found, results.row
    picture = Picture(results)
    rewrites = next(one for one in found.rewrites if one.teacher == params.teacher)
    return View(
        summary=(
            f"{METHOD_STYLES[row.name].name}, {TEACHER_NAMES[params.teacher]} as teacher, texts "
            f"{ROUNDS[params.rounds]}, {doses(picture.followed)}. {METHOD_WORDS[row.name]} Means "
            f"of {found.seeds} students, recorded; the first students had "
            f"{percent(sum(found.first_accuracy) / len(found.first_accuracy))} right."
        ),
        timeline=picture.timeline(),
        arithmetic=picture.arithmetic(),
        figures={
            "order": functools.partial(figures.order_figure, results),
            "fresh": functools.partial(figures.fresh_figure, results, "right"),
            "fresh_wait": functools.partial(figures.fresh_figure, results, "wait"),
            "cost": functools.partial(figures.cost_figure, results),
            "transitions": functools.partial(figures.transitions_figure, rewrites),
        },
        readouts=readouts(picture.followed[0]),
        table=table(found),
        code=code(params),
    )


def doses(rows: Sequence[MethodRow]) -> str:
    """At which λ a method was measured."""
    repairs = [f"{row.repair:g}" for row in rows]
    if len(repairs) == 1:
        return f"measured at λ = {repairs[0]}"
    return f"measured at λ = {', '.join(repairs[:-1])} and {repairs[-1]}"


def table(found: Methods) -> Table:
    """All rows with both teachers."""
    names = (*METHODS, *ABLATIONS)
    rows = [row for teacher in TEACHER_NAMES for row in chosen_rows(found, teacher, names)]
    return Table(*figures.rows_for_table(rows))


def code(params: ResultParams) -> str:
    """The call that looks the row up."""
    return (
        "from intuitive.trd.results import methods\n\n"
        f'row = methods("{params.setting}").row('
        f'"{params.method}", teacher="{params.teacher}", rounds={params.rounds})\n'
        "row.accuracy, row.wait, row.correct_after_wait, row.order_kept"
    )


EAGER = 0.8  # λ of the question


def _deaf_to_the_repair() -> tuple[int, str]:
    with told("results"):
        found = methods("small").dose
    forward, reverse, trd = (
        next(row for row in found if (row.name, row.repair) == (name, EAGER))
        for name in ("opd_forward", "opd_reverse", "trd")
    )
    right = [row.accuracy.estimate for row in (forward, reverse, trd)]
    place = 0 if right[1] < right[0] else 2 if right[1] > right[2] - 0.03 else 1
    return place, (
        f"{percent(right[1])} come out right with reverse KL, {percent(right[2])} with TRD "
        f"and {percent(right[0])} with forward KL, of whose texts {percent(forward.wait)} "
        "say WAIT. Section 2 stands: reverse KL cannot teach a repair that the student never "
        "begins. Here it need not. Before an error it hears the right next token, which the "
        "student does say now and then, and to the WAIT after an error, whose continuation is "
        "never taught, it is deaf."
    )


PREDICT = Predict(
    question=(
        "The teacher says WAIT after nearly every error, λ = 0.8, and students learn along their "
        "own texts. How many texts come out right with reverse KL?"
    ),
    choices=(
        "fewer than with forward KL",
        "more than with forward KL, clearly fewer than with TRD",
        "about as many as with TRD",
    ),
    answer=_deaf_to_the_repair,
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """The dose curve, a hundred texts of one method, and the claims in tabs.

    Args:
        predict: a question asked before the controls unlock, such as `PREDICT`.
        values: first control values, such as `teacher="learned"`.
    """
    return Explorer(
        name="trd_results",
        title="A teacher that says WAIT more often",
        params=params_of("small"),
        compute=look_up,
        present=present_results,
        hero=Hero(
            label="Right texts against the teacher's λ, and a hundred texts of one method",
            caption="Green: the text says WAIT. ✓ right, ✗ wrong. Bars on the curves: 95% over "
            "problems and five students.",
        ),
        controls=controls(),
        steps=(
            Step(
                title="Raise the dose",
                text="λ goes from 0 to 0.8. Watch the hundred texts: which of them turn green, "
                "and what sign do they get?",
                sets={"method": "opd_forward"},
                frame="play",
            ),
            Step(
                title="Pave the rewrite",
                text="TRD, the same doses: the teacher puts its repair into the text before the "
                "student learns along it. Count the green texts.",
                sets={"method": "trd"},
                frame="play",
            ),
            Step(
                title="Do not listen",
                text="Reverse KL along the student's own texts. It hardly hears the WAIT that the "
                "student never says, so it cannot be misled by it either. Compare with TRD.",
                sets={"method": "opd_reverse"},
                frame="play",
            ),
            Step(
                title="Fresh rollouts",
                text="Texts drawn anew eight times: forward KL recovers. Because its repairs work "
                "now, or because it no longer says WAIT?",
                sets={"method": "opd_forward", "rounds": "8"},
                frame="last",
            ),
            Step(
                title="Whose order?",
                text="TRD's rewrites, but scored by a teacher that has not seen the student's "
                "text. Compare the third number with TRD's, below the hundred texts.",
                sets={"method": "trd_from_x"},
                frame="last",
            ),
        ),
        plots=(
            Plot(
                name="order",
                tab="Order",
                label="Share of texts in the first student's order, by method",
                caption="The first students add from right to left. One order only is no style "
                "kept, but a collapse.",
                height=330,
            ),
            *shared_plots(),
        ),
        defaults=defaults(ResultParams(), values),
        predict=predict,
    )


def _params(setting: str, *, method: str, teacher: str, rounds: str) -> ResultParams:
    return ResultParams(setting=setting, method=method, teacher=teacher, rounds=int(rounds))


def params_of(setting: str) -> Callable[..., ResultParams]:
    """How control values make the params of a setting."""
    return functools.partial(_params, setting)


def controls() -> tuple[Choice, ...]:
    """What the explorers of both settings are moved by."""
    return (
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
        Choice(name="teacher", label="Teacher", options=TEACHER_NAMES),
    )


def shared_plots() -> tuple[Plot, ...]:
    """Tabs of both settings."""
    return (
        Plot(
            name="fresh",
            tab="Fresh rollouts",
            label="Accuracy with rollouts drawn once and eight times",
            span=6,
            height=340,
        ),
        Plot(
            name="fresh_wait",
            tab="Fresh rollouts",
            label="Texts that say WAIT with rollouts drawn once and eight times",
            span=6,
            height=340,
        ),
        Plot(
            name="cost",
            tab="Cost",
            label="Accuracy against teacher tokens, drawn once and eight times",
            caption="From the left end of each line (drawn once) to its right (eight times). "
            "Bars: 95%.",
            height=340,
        ),
        Plot(
            name="transitions",
            tab="Rewrites",
            label="Texts by whether they and their rewrites are right",
            caption="Top right: what a rewrite mends. Bottom left: what it breaks. The program "
            "never adds wrongly, but one token in a thousand it draws at random, so that no "
            "probability is 0: over whole texts that spoils a rewrite now and then.",
            height=300,
        ),
    )


def defaults(first: ResultParams, values: dict[str, Any]) -> dict[str, Any]:
    """First control values."""
    known = {"method": first.method, "rounds": str(first.rounds), "teacher": first.teacher}
    return {**known, **values}
