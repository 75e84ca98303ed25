"""What the benchmark measured: methods, budgets, transitions, and the WAIT funnel."""

import functools
from typing import Any

from intuitive.trd.experiments.results import GROUPS, ResultParams, Results, run
from intuitive.trd.results import MethodRow, methods

from ..kit import Choice, Explorer, Plot, Predict, Readout, Table, View, fixed, percent
from . import results_figures as figures
from .styles import METHOD_STYLES, SETTING_NAMES, TEACHER_NAMES, told


def look_up(params: ResultParams, *, stale: Any, progress: Any) -> Results:
    """`run` of the compute module."""
    with told("results"):
        return run(params, stale=stale, progress=progress)


def present_results(results: Results) -> View:
    params, found, rows = results.params, results.found, results.rows
    rounds = sorted({row.rounds for row in rows})
    first = sum(found.first_accuracy) / len(found.first_accuracy)
    rewrites = next(one for one in found.rewrites if one.teacher == params.teacher)
    doses = {row.name for row in found.dose}
    funnel = params.method if params.method in doses else "opd_forward"
    own, absent = next((row for row in rows if row.name == params.method), None), ""
    if own is None:
        own = rows[0]
        wanted = METHOD_STYLES[params.method].name
        absent = f"{wanted} was not measured with {TEACHER_NAMES[params.teacher]}. "
    style = METHOD_STYLES[own.name]
    best = max((row for row in rows if row.rounds == own.rounds), key=_accuracy)
    waits = "hardly one says WAIT"
    if own.wait >= 0.001:
        waits = (
            f"{percent(own.wait, 1)} say WAIT, of which {percent(own.correct_after_wait)} end right"
        )
    plan = "" if own.plan_right is None else f"; {percent(own.plan_right)} end with the right plan"
    return View(
        summary=(
            f"{absent}{style.name}, {TEACHER_NAMES[params.teacher]}, {own.rounds} round: "
            f"{_interval(own)} of the rollouts right (first student {percent(first)}); "
            f"{waits}; {percent(own.order_kept)} keep the student's order{plan}. Of the methods "
            f"shown {METHOD_STYLES[best.name].name} is best with {_interval(best)}."
        ),
        figures={
            "methods": functools.partial(
                figures.table_figure, rows, rounds, first, found.first_order, params.method
            ),
            "curves": functools.partial(
                figures.curves_figure, rows, rounds, params.measure, params.method
            ),
            "transitions": functools.partial(figures.transitions_figure, rewrites),
            "funnel": functools.partial(figures.funnel_figure, found.dose, funnel),
        },
        readouts=(
            Readout("teacher's own solutions right", f"{percent(rewrites.solve_accuracy, 1)}"),
            Readout(
                "student NLL of y_o / y_r / y_T",
                " / ".join(map(fixed, (rewrites.nll_y_o, rewrites.nll_y_r, rewrites.nll_y_t))),
            ),
            Readout(
                f"{style.name}: teacher tokens written + scored",
                f"{fixed(own.teacher_generated / 1e3, 0)} + "
                f"{fixed(own.teacher_scored / 1e3, 0)} thousand",
            ),
        ),
        table=_table(rows, found.seeds),
        code=(
            "from intuitive.trd.results import methods\n\n"
            f'row = methods("{params.setting}").row('
            f'"{own.name}", teacher="{params.teacher}", rounds={own.rounds})\n'
            "row.accuracy, row.wait, row.correct_after_wait, row.order_kept"
        ),
    )


def _accuracy(row: MethodRow) -> float:
    return row.accuracy.estimate


def _interval(row: MethodRow) -> str:
    found = row.accuracy
    return f"{percent(found.estimate)} ({percent(found.low)} to {percent(found.high)})"


def _table(rows: tuple[MethodRow, ...], seeds: int) -> Table:
    header = (
        "method", "rounds", "seeds", "accuracy (95 %)", "pass@4", "pass@16", "says WAIT",
        "right after WAIT", "order kept", "correct orders of 16", "right plan",
        "teacher tokens, k", "learning rate",
    )  # fmt: skip

    def share(value: float | None) -> str:
        return "–" if value is None else f"{percent(value, 1)}"

    return Table(
        header,
        tuple(
            (
                METHOD_STYLES[row.name].name,
                f"{row.rounds}",
                f"{seeds}",
                _interval(row),
                share(row.pass_at.get("4")),
                share(row.pass_at.get("16")),
                share(row.wait),
                share(row.correct_after_wait),
                share(row.order_kept),
                f"{fixed(row.distinct_orders)}",
                share(row.plan_right),
                f"{fixed((row.teacher_generated + row.teacher_scored) / 1e3, 1)}",
                f"{row.lr:g}",
            )
            for row in rows
        ),
    )


def _answer() -> tuple[int, str]:
    with told("results"):
        row = methods("small").row("opd_forward")
    share = row.correct_after_wait or 0.0
    return 0 if share > 0.6 else 1 if share > 0.3 else 2, (
        f"{percent(row.wait)} of its attempts say WAIT, and of those {percent(share)} come out "
        "right: what follows a WAIT was never taught."
    )


PREDICT = Predict(
    question=(
        "Forward KL on the student's own attempts, one round: the student learns to say WAIT. "
        "Of the attempts in which it does, how many come out right?"
    ),
    choices=("most", "about half", "hardly any"),
    answer=_answer,
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """The methods beside one another: accuracy, cost, WAIT and style.

    Args:
        predict: a question asked before the controls unlock.
        values: first control values, such as `teacher="learned"`.
    """
    title = "What every method made of the same students"
    return declare("trd_results", title, ResultParams(), predict, values)


def declare(
    name: str, title: str, first: ResultParams, predict: Predict | None, values: dict[str, Any]
) -> Explorer:
    """The explorer of one setting; the dose curve stands in sight, the rest waits in tabs."""
    controls = (
        Choice(
            name="method",
            label="Look at",
            options={name: style.name for name, style in METHOD_STYLES.items()},
        ),
        Choice(name="teacher", label="Teacher", options=TEACHER_NAMES),
        Choice(
            name="group",
            label="Beside",
            options={name: label for name, (label, _) in GROUPS.items()},
        ),
        Choice(name="measure", label="Curves show", options=figures.MEASURES, more=True),
        Choice(name="setting", label="Task", options=SETTING_NAMES, more=True),
    )
    return Explorer(
        name=name,
        title=title,
        params=ResultParams,
        compute=look_up,
        present=present_results,
        controls=controls,
        plots=(
            Plot(
                name="funnel",
                label="Share of rollouts that say WAIT and that end right, against the teacher's λ",
                caption="The dose: the more a perfect teacher says WAIT, the more the student "
                "says it. Right: what that does to accuracy. One round, the program as teacher.",
                height=450,
            ),
            Plot(
                name="methods",
                tab="All methods",
                label="Accuracy, WAIT, order and plan of every method, after one round and many",
                caption="Full: rollouts drawn once. Open: drawn anew eight times. Bars: 95 % over "
                "problems and seeds. Second: how many rollouts say WAIT; the green tick marks how "
                "many of all say it and end right. Dotted: before training. Vermilion trains on "
                "y_o, green on y_r, blue on y_T.",
                height=436,
            ),
            Plot(
                name="curves",
                tab="Cost",
                label="Accuracy or pass@4 against teacher tokens, one round and many",
                caption="In one round all tokens are spent before the first step, so a curve is a "
                "vertical line. Large marks: the final students, with 95 % intervals.",
                height=450,
            ),
            Plot(
                name="transitions",
                label="Rollouts by whether they and their rewrites are right",
                caption="What the teacher's rewrites mend (top right) and break (bottom left).",
                tab="Rewrites",
                height=380,
            ),
        ),
        defaults={
            "method": first.method,
            "teacher": first.teacher,
            "group": first.group,
            "measure": first.measure,
            "setting": first.setting,
            **values,
        },
        predict=predict,
    )
