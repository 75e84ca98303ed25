"""Two explorers of the benchmark's table, `results` and `results_late`, with made-up numbers."""

import dataclasses
import math

import plotly.graph_objects as go
import pytest

from intuitive.trd.experiments import results
from intuitive.trd.methods import METHODS
from intuitive.widgets.trd import results as widget
from intuitive.widgets.trd import results_figures as figures
from intuitive.widgets.trd import results_late
from intuitive.widgets.trd import train as train_widget
from intuitive.widgets.trd.styles import METHOD_STYLES

pytestmark = pytest.mark.usefixtures("stand_ins")


def looked(**changed):
    return results.run(results.ResultParams(**changed))


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_table_draws_estimates_intervals_and_who_is_right_after_wait(measured):
    found = looked(method="trd")
    figure = go.Figure(figures.table_figure(found.rows, (1, 8), 0.55, 0.8, "trd"))
    want = measured.row("trd")
    points = [
        (trace, place)
        for trace in figure.data
        for place, x in enumerate(trace.x)
        if trace.xaxis == "x" and math.isclose(x, want.accuracy.estimate)
    ]
    assert [trace.text[place] for trace, place in points] == ["TRD, 1 round", "TRD, 8 rounds"]
    trace, place = points[0]
    above = want.accuracy.high - want.accuracy.estimate
    assert trace.error_x.array[place] == pytest.approx(above)
    assert figure.layout.yaxis.ticktext[round(trace.y[place])] == "<b>TRD</b>"
    ticks = {x for t in figure.data if t.xaxis == "x2" and t.mode == "markers" for x in t.x}
    assert list(ticks) == pytest.approx([want.wait * want.correct_after_wait])
    drawn = sum(len(t.x) for t in figure.data if t.xaxis == "x")
    assert drawn == len(found.rows)  # nobody is left out


def test_curves_end_at_the_cost_of_their_students(measured):
    found = looked(group="methods")
    figure = go.Figure(figures.curves_figure(found.rows, (1, 8), "pass_at_4", "trd"))
    style = METHOD_STYLES["sft_refined"]
    ends = [trace for trace in figure.data if trace.name == style.name]
    want = measured.row("sft_refined")
    assert {end.xaxis for end in ends} == {"x", "x2"}
    for end in ends:
        assert (end.x[0], end.y[0]) == (9.0, pytest.approx(want.pass_at["4"]))
    shown = {trace.name for trace in figure.data if trace.name}
    assert shown == {METHOD_STYLES[name].name for name in METHODS}


def test_the_funnel_narrows_and_follows_the_dose(measured):
    figure = go.Figure(figures.funnel_figure(measured.dose, "opd_forward"))
    everyone, waits, right = (list(trace.y) for trace in figure.data[:3])
    assert everyone == [1, 1, 1] and waits == pytest.approx([0, 0.15, 0.3])
    assert right == pytest.approx([0, 0.015, 0.03])
    line = named(figure, "TRD")
    assert list(line.x) == [0, 0.3, 0.6]


def test_a_task_without_doses_says_so():
    (note,) = go.Figure(figures.funnel_figure((), "trd")).layout.annotations
    assert note.text == "not measured for this task"


def test_transitions_stand_in_their_cells(measured):
    (table,) = go.Figure(figures.transitions_figure(measured.rewrites[0])).data
    assert [list(line) for line in table.z] == [[0.25, 0.4], [0.01, 0.25]]
    assert (table.y[0], table.x[1]) == ("wrong", "right")


def test_summary_names_the_method_and_the_best_of_those_shown(measured):
    view = widget.present_results(looked(method="opd_reverse", group="main"))
    want = measured.row("opd_reverse")
    assert view.summary.startswith("OPD reverse, the program, 1 round: ")
    assert f"{want.accuracy.estimate:.0%}" in view.summary
    assert "TRD is best" in view.summary  # the last of the six in the made-up order
    assert len(view.table.rows) == 2 * len(results.MAIN)


def test_right_plans_have_a_column_where_there_is_a_plan(measured, monkeypatch):
    planned = tuple(
        dataclasses.replace(row, plan_right=row.order_kept / 2 + row.rounds / 100)
        for row in measured.rows
    )
    late = dataclasses.replace(measured, setting="late", rows=planned)
    monkeypatch.setattr(results, "methods", {"small": measured, "late": late}.__getitem__)
    views = {
        setting: widget.present_results(looked(setting=setting, group="seen", method="trd"))
        for setting in ("small", "late")
    }
    axes = {trace.xaxis for trace in go.Figure(views["small"].figure("methods")).data}
    assert axes == {"x", "x2", "x3"}
    shown = [
        share
        for trace in go.Figure(views["late"].figure("methods")).data
        if trace.xaxis == "x4"
        for share in trace.x
    ]
    names = results.GROUPS["seen"][1]
    rows = [late.row(name, rounds=rounds) for name in names for rounds in (1, 8)]
    assert sorted(shown) == sorted(row.plan_right for row in rows)
    assert "end with the right plan" in views["late"].summary
    assert "plan" not in views["small"].summary


def test_a_method_that_was_not_measured_is_named_as_such():
    view = widget.present_results(looked(method="trd_corrupted_30", teacher="learned"))
    assert view.summary.startswith(
        "TRD, 30 % of y_r corrupted was not measured with the trained network. OPD forward, "
    )


def test_missing_results_are_told_with_the_command_that_makes_them(monkeypatch):
    def missing(setting):
        raise FileNotFoundError("trd_methods_small.json")

    monkeypatch.setattr(results, "methods", missing)
    monkeypatch.setattr(train_widget, "methods", missing)
    explorer = widget.explorer()
    assert explorer.status["state"] == "error"
    assert explorer.status["text"].endswith("run `python benchmarks/trd_methods.py`.")
    explorer.close()
    assert "none with this setting" in str(train_widget.explorer().view.readouts)


@pytest.mark.parametrize("make", [widget.explorer, results_late.explorer])
def test_the_dose_curve_stands_in_sight_and_the_rest_in_tabs(make):
    explorer = make()
    in_sight = [plot.name for plot in explorer.declaration.plots if not plot.tab]
    assert in_sight == ["funnel"] and len(explorer.declaration.tabs) == 3
    explorer.close()
