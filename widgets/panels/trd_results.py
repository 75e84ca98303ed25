"""What the benchmark measured: methods, budgets, transitions, and the WAIT funnel."""

from dataclasses import dataclass
from typing import Any

from intuitive.common.runtime import check
from intuitive.common.settings import Settings
from intuitive.trd.committed import MethodRow, Methods, methods
from intuitive.trd.methods import ABLATIONS, METHODS

from ..figures import trd_results as figures
from ..figures.trd_styles import METHOD_STYLES
from ..kit import Choice, Explorer, Plot, Predict, Readout, Table, View
from .trd_shipped import SETTING_NAMES, told

TEACHERS = {"exact": "the program", "learned": "the trained network"}
GROUPS = {
    "main": ("six methods", figures.MAIN),
    "methods": ("all methods", tuple(METHODS)),
    "seen": (
        "by what the teacher sees",
        (
            "opd_forward",
            "opd_reverse",
            "opsd_reverse",
            "sft_teacher",
            "sft_refined",
            "trd",
            "trd_from_x",
        ),
    ),
    "ablations": ("variations", ("opd_forward", "opd_reverse", "trd", *ABLATIONS)),
}


@dataclass(frozen=True, kw_only=True)
class ResultParams(Settings):
    """Which part of the results is looked at."""

    setting: str = "small"
    teacher: str = "exact"
    method: str = "opd_forward"  # drawn thick
    group: str = "main"
    measure: str = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Results:
    """The committed results, and the rows looked at."""

    params: ResultParams
    found: Methods
    rows: tuple[MethodRow, ...]


def look_up(params: ResultParams, *, stale: Any, progress: Any) -> Results:
    """Rows of `methods(setting)`."""
    check(stale)
    with told("results"):
        found = methods(params.setting)
    names = (*GROUPS[params.group][1], params.method)
    rows = figures.chosen_rows(found, params.teacher, names)
    if not rows:
        raise ValueError(f"teacher={params.teacher!r}: nothing was measured with it; take another.")
    return Results(params=params, found=found, rows=rows)


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
        absent = f"{wanted} was not measured with {TEACHERS[params.teacher]}. "
    style = METHOD_STYLES[own.name]
    best = max((row for row in rows if row.rounds == own.rounds), key=_accuracy)
    waits = "hardly one says WAIT"
    if own.wait >= 0.001:
        waits = f"{own.wait:.1%} say WAIT, of which {own.correct_after_wait:.0%} end right"
    plan = "" if own.plan_right is None else f"; {own.plan_right:.0%} end with the right plan"
    return View(
        summary=(
            f"{absent}{style.name}, {TEACHERS[params.teacher]}, {own.rounds} round: "
            f"{_interval(own)} of the rollouts right (first student {first:.0%}); "
            f"{waits}; {own.order_kept:.0%} keep the student's order{plan}. Of the methods shown "
            f"{METHOD_STYLES[best.name].name} is best with {_interval(best)}."
        ),
        figures={
            "methods": figures.table_figure(rows, rounds, first, found.first_order, params.method),
            "curves": figures.curves_figure(rows, rounds, params.measure, params.method),
            "transitions": figures.transitions_figure(rewrites),
            "funnel": figures.funnel_figure(found.dose, funnel),
        },
        readouts=(
            Readout("seeds", f"{found.seeds}"),
            Readout("teacher's own solutions right", f"{rewrites.solve_accuracy:.1%}"),
            Readout(
                "student NLL of y_o / y_r / y_T",
                f"{rewrites.nll_y_o:.2f} / {rewrites.nll_y_r:.2f} / {rewrites.nll_y_t:.2f}",
            ),
            Readout(
                f"{style.name}: teacher tokens written + scored",
                f"{own.teacher_generated / 1e3:.0f} + {own.teacher_scored / 1e3:.0f} thousand",
            ),
            Readout(f"{style.name}: learning rate chosen", f"{own.lr:g}"),
        ),
        table=_table(rows),
        code=(
            "from intuitive.trd.committed import methods\n\n"
            f'row = methods("{params.setting}").row('
            f'"{own.name}", teacher="{params.teacher}", rounds={own.rounds})\n'
            "row.accuracy, row.wait, row.correct_after_wait, row.order_kept"
        ),
    )


def _accuracy(row: MethodRow) -> float:
    return row.accuracy.estimate


def _interval(row: MethodRow) -> str:
    found = row.accuracy
    return f"{found.estimate:.0%} ({found.low:.0%} to {found.high:.0%})"


def _table(rows: tuple[MethodRow, ...]) -> Table:
    header = (
        "method", "rounds", "accuracy (95 %)", "pass@4", "pass@16", "says WAIT", "right after WAIT",
        "order kept", "correct orders of 16", "right plan", "teacher tokens, k", "learning rate",
    )  # fmt: skip

    def share(value: float | None) -> str:
        return "–" if value is None else f"{value:.1%}"

    return Table(
        header,
        tuple(
            (
                METHOD_STYLES[row.name].name,
                f"{row.rounds}",
                _interval(row),
                share(row.pass_at.get("4")),
                share(row.pass_at.get("16")),
                share(row.wait),
                share(row.correct_after_wait),
                share(row.order_kept),
                f"{row.distinct_orders:.2f}",
                share(row.plan_right),
                f"{(row.teacher_generated + row.teacher_scored) / 1e3:.1f}",
                f"{row.lr:g}",
            )
            for row in rows
        ),
    )


def method_results(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """The methods beside one another: accuracy, cost, WAIT and style.

    Args:
        predict: a question asked before the controls unlock.
        values: first control values, such as `teacher="learned"`.
    """
    title = "What every method made of the same students"
    return _results("trd_results", title, ResultParams(), predict, values)


def late_results(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """The same where errors show late, by what the teacher sees; arguments as there."""
    first = ResultParams(setting="late", group="seen", method="trd")
    title = "The same methods where errors show late"
    return _results("trd_results_late", title, first, predict, values)


def _results(
    name: str, title: str, first: ResultParams, predict: Predict | None, values: dict[str, Any]
) -> Explorer:
    controls = (
        Choice(
            name="method",
            label="Look at",
            options={name: style.name for name, style in METHOD_STYLES.items()},
        ),
        Choice(name="teacher", label="Teacher", options=TEACHERS),
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
                name="methods",
                label="Accuracy, WAIT, order and plan of every method, after one round and many",
                caption="Full: rollouts drawn once. Open: drawn anew eight times. Bars: 95 % over "
                "problems and seeds. Second: how many rollouts say WAIT; the green tick marks how "
                "many of all say it and end right. Dotted: before training. Vermilion trains on "
                "y_o, green on y_r, blue on y_T.",
                height=420,
            ),
            Plot(
                name="funnel",
                label="Share of rollouts that say WAIT and that end right, against the teacher's λ",
                caption="The dose: the more a perfect teacher says WAIT, the more the student "
                "says it. Right: what that does to accuracy. One round, the program as teacher.",
                span=8,
                height=380,
            ),
            Plot(
                name="transitions",
                label="Rollouts by whether they and their rewrites are right",
                caption="What the teacher's rewrites mend (top right) and break (bottom left).",
                span=4,
                height=380,
            ),
            Plot(
                name="curves",
                label="Accuracy or pass@4 against teacher tokens, one round and many",
                caption="In one round all tokens are spent before the first step, so a curve is a "
                "vertical line. Large marks: the final students, with 95 % intervals.",
                height=420,
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
