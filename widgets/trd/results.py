"""What the benchmark measured: the dose curve with a hundred texts, and one plot for each claim."""

import functools
from collections.abc import Callable
from typing import Any

from intuitive.trd.experiments.results import ResultParams, Results, chosen_rows, run
from intuitive.trd.methods import ABLATIONS, METHODS
from intuitive.trd.results import Methods, methods

from ..kit import Choice, Explorer, Hero, Plot, Predict, Step, Table, View, percent
from . import results_figures as figures
from .results_scene import Picture, outcome, readouts
from .styles import METHOD_STYLES, TEACHER_NAMES, told

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
            f"{METHOD_STYLES[row.name].name}, {TEACHER_NAMES[params.teacher]} as teacher, rollouts "
            f"{ROUNDS[params.rounds]}, λ = {row.repair:g}: {outcome(row)}; "
            f"{percent(row.order_kept)} keep the first student's order. Means of {found.seeds} "
            f"students, recorded; the first students had "
            f"{percent(sum(found.first_accuracy) / len(found.first_accuracy))} right."
        ),
        timeline=picture.timeline(),
        arithmetic=picture.arithmetic(),
        figures={
            "order": functools.partial(figures.order_figure, results),
            "fresh": functools.partial(figures.fresh_figure, results),
            "cost": functools.partial(figures.cost_figure, results),
            "transitions": functools.partial(figures.transitions_figure, rewrites),
        },
        readouts=readouts(picture.followed[0]),
        table=table(found),
        code=code(params),
    )


def table(found: Methods) -> Table:
    """All rows with both teachers."""
    names = (*METHODS, *ABLATIONS)
    rows = [row for teacher in TEACHER_NAMES for row in chosen_rows(found, teacher, names)]
    return Table(*figures.rows_for_table(rows, found.seeds))


def code(params: ResultParams) -> str:
    """The call that looks the row up."""
    return (
        "from intuitive.trd.results import methods\n\n"
        f'row = methods("{params.setting}").row('
        f'"{params.method}", teacher="{params.teacher}", rounds={params.rounds})\n'
        "row.accuracy, row.wait, row.correct_after_wait, row.order_kept"
    )


def _with_the_dose() -> tuple[int, str]:
    with told("results"):
        found = methods("small").dose
    rows = [row for row in found if row.name == "opd_forward"]
    none, most = (pick(rows, key=lambda row: row.repair) for pick in (min, max))
    change = most.accuracy.estimate - none.accuracy.estimate
    return 0 if change > 0.1 else 2 if change < -0.1 else 1, (
        f"With λ = {none.repair:g}, {percent(none.accuracy.estimate)} come out right; with λ = "
        f"{most.repair:g} it is {percent(most.accuracy.estimate)}, and {percent(most.wait)} say "
        "WAIT. "
        "The more eagerly a perfect teacher repairs, the worse its student, since only the first "
        "word of a repair is taught."
    )


PREDICT = Predict(
    question=(
        "The teacher is always right. The larger its λ, the more often it says WAIT and repairs "
        "an error. A student learns by forward KL along its own texts. As λ goes from 0 to 0.8, "
        "how many more of its texts come out right?"
    ),
    choices=("clearly more", "as many as before", "clearly fewer"),
    answer=_with_the_dose,
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
                text="Reverse KL along the student's own texts: the loss hardly hears a word that "
                "the student never says. Compare with TRD.",
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
                "text. As many are right; look at the third number, and at TRD's.",
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
            Plot(
                name="fresh",
                tab="Fresh rollouts",
                label="Accuracy and WAIT with rollouts drawn once and eight times",
                height=340,
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
            caption="Top right: what a rewrite mends. Bottom left: what it breaks.",
            height=300,
        ),
    )


def defaults(first: ResultParams, values: dict[str, Any]) -> dict[str, Any]:
    """First control values."""
    known = {"method": first.method, "rounds": str(first.rounds), "teacher": first.teacher}
    return {**known, **values}
