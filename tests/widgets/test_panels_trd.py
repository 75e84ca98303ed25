"""The explorers of the TRD lesson and its questions: they show what was computed.

Weights and results ship later than the code, so models here are untrained, failed rollouts are
written by hand, and results are made up where the figures have to show them as they are.
"""

import dataclasses
import json
import math
import threading
import time

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.common.runtime import never
from intuitive.trd import along, canonical, committed, experiment, live, signals
from intuitive.trd.along import FailedRollouts
from intuitive.trd.committed import MethodRow, Methods, Point, Rewrites, WaitMap
from intuitive.trd.experiment import LiveParams, TwoModesParams, two_modes
from intuitive.trd.methods import ABLATIONS, METHODS
from intuitive.trd.metrics import Interval
from intuitive.trd.model import StackedDecoder
from intuitive.trd.real_text import Estimate, Item, KeptItem, RealText, RealTextParams, Trajectory
from intuitive.trd.sums import sample_digits, write_traces
from intuitive.trd.task import LearnedTeacher, student_decoder, teacher_decoder
from intuitive.widgets import panels
from intuitive.widgets.figures import trd_along as along_figures
from intuitive.widgets.figures import trd_map as map_figures
from intuitive.widgets.figures import trd_modes as mode_figures
from intuitive.widgets.figures import trd_real as real_figures
from intuitive.widgets.figures import trd_results as result_figures
from intuitive.widgets.figures.trd_styles import DIVERGENCE_NAMES, METHOD_STYLES
from intuitive.widgets.panels import (
    trd_along,
    trd_map,
    trd_real,
    trd_results,
    trd_train,
)

QUIET = {"stale": never, "progress": lambda fraction, sentence: None}


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def readouts(view):
    return {readout.label: readout for readout in view.readouts}


# ------------------------------------------------------------------------------- what stands in


@pytest.fixture(scope="module")
def both_models():
    """Untrained models of either setting."""
    return {name: untrained(name) for name in committed.SETTINGS}


def untrained(name):
    config = committed.setting_config(name)
    teacher = StackedDecoder.fresh(teacher_decoder(config), [0]).decoder()
    students = StackedDecoder.fresh(student_decoder(config), range(2))
    for module in (teacher, students):
        module.requires_grad_(False)
    return committed.Shipped(name, config, LearnedTeacher(config.sums, teacher), students, {})


@pytest.fixture(scope="module")
def models(both_models):
    return both_models["small"]


@pytest.fixture(scope="module")
def late_failures(both_models):
    """Rollouts from right to left: a wrong plan, and a wrong total at step 2."""
    models = both_models["late"]
    sums = models.config.sums
    digits = sample_digits(sums, 2, generator=torch.Generator().manual_seed(0))
    order = torch.arange(sums.n_digits).flip(0).expand(2, -1)
    shifts = torch.zeros_like(digits)
    shifts[1, 1] = 5
    plan_shifts = torch.tensor([1, 0])
    traces = write_traces(sums, digits, order, shifts=shifts, plan_shifts=plan_shifts)
    return FailedRollouts(
        models.students.copies([0]).decoder(), digits, traces.tokens, torch.tensor([0, 4])
    )


@pytest.fixture(scope="module")
def failures(models):
    """Rollouts from right to left, three with an error at step 2 and two at step 4."""
    sums = models.config.sums
    digits = sample_digits(sums, 5, generator=torch.Generator().manual_seed(0))
    order = torch.arange(sums.n_digits).flip(0).expand(5, -1)
    shifts = torch.zeros_like(digits)
    for row, step in enumerate((1, 3, 1, 3, 1)):
        shifts[row, step] = 2
    return FailedRollouts(
        models.students.copies([0]).decoder(),
        digits,
        write_traces(sums, digits, order, shifts=shifts).tokens[:, : sums.clean_length],
        2 * shifts.argmax(-1) + 1,
    )


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch, both_models, failures, late_failures, results):
    failed = {"small": failures, "late": late_failures}
    for room in (along, canonical, live, signals):
        monkeypatch.setattr(room, "shipped", both_models.__getitem__)
    for room in (along, trd_along):
        monkeypatch.setattr(room, "failed_rollouts", lambda setting, seed: failed[setting])
    for panel in (trd_results, trd_train):
        monkeypatch.setattr(panel, "methods", lambda setting: results)
    monkeypatch.setattr(trd_real, "real_text", real)
    forget()
    yield
    forget()


def forget():
    """What is kept belongs to other models."""
    for kept in (along._seen, signals._learned_map):
        kept.cache_clear()


def row(name, *, rounds=1, teacher="exact", repair=0.3, **changed):
    """A made-up row; its numbers differ from method to method."""
    place = (list(METHODS) + list(ABLATIONS)).index(name)
    accuracy = 0.3 + 0.02 * place
    values = {
        "lr": 1e-3,
        "validation": {"0.001": 0.5},
        "accuracy": Interval(accuracy, accuracy - 0.04, accuracy + 0.03),
        "accuracy_by_seed": (accuracy,),
        "pass_at": {"1": accuracy, "4": accuracy + 0.1, "16": 0.99},
        "wait": 0.4,
        "correct_after_wait": 0.1,
        "idle_wait": 0.01,
        "plan_right": None,
        "order_kept": 0.2 + 0.01 * place,
        "distinct_orders": 2.5,
        "well_formed": 0.9,
        "length": 11.0,
        "teacher_generated": 2000.0,
        "teacher_scored": 7000.0,
        "student_generated": 5000.0,
        "curve": tuple(
            Point(step=step, teacher_tokens=9000.0 * share, student_tokens=1.0,
                  accuracy=0.2 + share / 10, pass_at_4=0.5)
            for step, share in ((0, 0.5), (240, 1.0))
        ),
    }  # fmt: skip
    return MethodRow(
        name=name, teacher=teacher, repair=repair, rounds=rounds, **{**values, **changed}
    )


@pytest.fixture(scope="module")
def results():
    numbers = {field.name: 0.25 for field in dataclasses.fields(Rewrites)}
    return Methods(
        setting="small",
        seeds=2,
        first_accuracy=(0.5, 0.6),
        first_order=0.8,
        rewrites=(
            Rewrites(**numbers | {"teacher": "exact", "fail_pass": 0.4, "pass_fail": 0.01}),
            Rewrites(**numbers | {"teacher": "learned"}),
        ),
        wait_maps=(),
        rows=tuple(
            row(name, rounds=rounds, teacher=teacher)
            for rounds in (1, 8)
            for teacher in ("exact", "learned")
            for name in METHODS
        ),
        ablations=tuple(row(name) for name in ABLATIONS),
        dose=tuple(
            row(name, repair=repair, wait=repair / 2)
            for name in ("opd_forward", "trd")
            for repair in (0.0, 0.3, 0.6)
        ),
    )


def real():
    """Two made-up items; the wrong solution has 9 in the place of 5."""
    item = Item(kind="arithmetic", problem="Compute 2 + 3 + 1.", right=("5.\n", "6.\n"),
                wrong=("9.\n", "10.\n"), error_line=0)  # fmt: skip

    def read(first, surprise):
        return Trajectory(
            tokens=(first, ".\n", "1", ".\n"), nll=(surprise, 0.1, 0.2, 0.1),
            onset_mass=(0.1, 0.0, 0.02, 0.0), entropy=(1.0, 0.5, 0.5, 0.1), lines=(0, 0, 1, 1),
            first=(True, False, True, False), likeliest=("5", ".", "1", "."),
        )  # fmt: skip

    def end(mean):
        return Estimate(mean=mean, low=mean - 0.01, high=mean + 0.02, n=2)

    delays = {"right": {"-1": end(0.1), "0": end(0.05)}, "wrong": {"-1": end(0.1), "0": end(0.3)}}
    kept = KeptItem(item=item, right=read("5", 0.5), wrong=read("9", 3.0))
    return RealText(
        params=RealTextParams(n_items=2, n_kept=2),
        onset_words=("Wait",),
        onset_by_delay={"all": delays, "arithmetic": delays, "reasoning": delays},
        onset_difference={kind: end(0.25) for kind in ("all", "arithmetic", "reasoning")},
        onset_per_token={"right": end(0.1), "wrong": end(0.1)},
        largest_onset=0.3,
        surprise={"right|plain": end(0.5), "right|refine": end(0.2), "wrong|plain": end(0.9),
                  "wrong|refine": end(0.4)},
        perplexity_gap={"right": end(0.4), "wrong": end(0.8)},
        surprise_at_error={"right": end(1.0), "wrong": end(3.0)},
        error_preferred=end(0.2),
        kept=(kept, kept),
    )  # fmt: skip


def test_every_method_has_a_look_of_its_own():
    assert set(METHOD_STYLES) == set(METHODS) | set(ABLATIONS)
    looks = [(style.colour, style.dash, style.symbol) for style in METHOD_STYLES.values()]
    assert len(set(looks)) == len(looks)
    assert set(DIVERGENCE_NAMES) == set(experiment.DIVERGENCES)


# ------------------------------------------------------------------------------------ two modes


def arrows(figure):
    return [note for note in figure.layout.annotations if note.showarrow and note.visible]


@pytest.mark.parametrize("full", [False, True], ids=["two tokens", "all tokens"])
def test_under_forward_kl_arrows_lead_from_the_student_to_the_teacher(full):
    result = two_modes(TwoModesParams(repair=0.4, onset=0.01, full=full))
    drawn = arrows(mode_figures.bars_figure(result, "forward_kl"))
    assert len(drawn) >= 2
    for arrow in drawn:
        place = round(arrow.x - 0.26)
        assert arrow.ay == pytest.approx(result.student[place])
        assert arrow.y == pytest.approx(result.teacher[place], abs=1e-6)


def test_a_clipped_or_invisible_target_has_no_arrow():
    result = two_modes(TwoModesParams())
    for name, push in (("clipped_forward_kl", "push 0"), ("reverse_kl", "push +8.4e−04")):
        figure = mode_figures.bars_figure(result, name)
        assert not arrows(figure)
        assert any(note.text == push for note in figure.layout.annotations)


def test_pushes_are_drawn_for_every_divergence():
    result = two_modes(TwoModesParams(repair=0.5, onset=0.1))
    figure = mode_figures.pushes_figure(result, "reverse_kl")
    rows = dict(enumerate(list(DIVERGENCE_NAMES)[::-1]))
    drawn = {rows[arrow.y]: arrow.x for arrow in arrows(figure)}
    for name in DIVERGENCE_NAMES:
        push = -result.charge(name).gradient[result.onset_token]
        assert drawn.get(name, 0.0) == pytest.approx(push if name in drawn else 0.0)
        assert (abs(push) >= mode_figures.LEAST_ARROW) == (name in drawn)


def test_humps_and_fits_are_densities():
    result = two_modes(TwoModesParams(distance=3.0))
    figure = mode_figures.gaussian_figure(result, "reverse_kl")
    areas = {t.name: np.trapezoid(t.y, t.x) for t in figure.data}
    assert areas["continue"] + areas["repair"] == pytest.approx(1, abs=1e-3)
    assert areas["reverse KL fit"] == pytest.approx(1, abs=1e-3)
    widths = {t.name: t.line.width for t in figure.data}
    assert widths["reverse KL fit"] > widths["forward KL fit"]


def test_k_falls_back_to_two_where_there_are_two_tokens():
    explorer = panels.two_mode_teacher(full=True, top_k=5)
    assert explorer.bounds["top_k"][1] == len(explorer.result.result.tokens) > 5
    explorer.set(full=False)
    assert explorer.wait() and explorer.status["state"] == "done"
    assert explorer.values["top_k"] == 2
    explorer.close()


# --------------------------------------------------------------------------------------- mode map


def test_maps_show_every_mass_and_nothing_where_no_step_is_left():
    exact = WaitMap(teacher="exact", by_error={"0": (0.3, 0.2), "1": (0.1,)}, clean=(0.0, 0.01),
                    worst_clean=0.01, consistent=1.0, repaired=0.0)  # fmt: skip
    learned = dataclasses.replace(exact, teacher="learned", clean=(0.0, 0.05), worst_clean=0.05)
    maps = {"exact": exact, "learned": learned}
    figure = map_figures.map_figure(maps)
    assert [list(line) for line in figure.data[0].z] == [[0.3, 0.2], [0.1, None]]
    assert list(figure.layout.yaxis.ticktext) == ["step 1", "step 2"]
    drawn = named(map_figures.clean_figure(maps), "the trained network")
    assert list(drawn.y) == [0.0, 0.05] and list(drawn.x) == [1, 2]
    params = experiment.ModeMapParams()
    view = trd_map.present_map(
        experiment.ModeMapResult(params=params, exact=exact, learned=learned)
    )
    alarms = {label: readout.alarm for label, readout in readouts(view).items() if "alarm" in label}
    assert list(alarms.values()) == [False, True]
    assert trd_map.after_errors(exact) == pytest.approx(0.2)


def test_the_program_says_wait_with_the_sliders_mass():
    explorer = panels.wait_maps(repair=0.6, n_traces=16)
    assert explorer.status["state"] == "done", explorer.status
    drawn = np.array(explorer.view.figures["maps"].data[0].z, dtype=float)
    assert np.nanmin(drawn) == pytest.approx(0.6, abs=0.002) == np.nanmax(drawn)
    assert np.isnan(drawn).sum() == 6  # an error at step 2 of 4 has 3 boundaries left, and so on
    explorer.close()


def test_a_wrong_plan_is_a_row_of_its_own():
    """In the late setting: 8 totals and the plan by 8 delays; the program sees the plan last."""
    explorer = panels.wait_maps(setting="late", repair=0.6, n_traces=16)
    assert explorer.status["state"] == "done", explorer.status
    figure = explorer.view.figures["maps"]
    drawn = np.array(figure.data[0].z, dtype=float)
    assert drawn.shape == (9, 8) and figure.layout.yaxis.ticktext[-1] == "plan"
    assert drawn[-1] == pytest.approx([0.0] * 7 + [0.6], abs=0.002)
    assert np.nanmin(drawn[:-1]) == pytest.approx(0.6, abs=0.002) == np.nanmax(drawn[:-1])
    assert readouts(explorer.view)["the program: WAIT after a wrong total"].value == "0.60"
    assert "A wrong plan shows when all steps stand: there they say it with 0.60" in (
        explorer.summary
    )
    explorer.close()


# --------------------------------------------------------------------------- along one trajectory


def follow(**changed):
    setting = trd_along.AlongSetting.of(**{"error": 2, "which": 1, "delay": 0, **changed})
    return trd_along.follow(setting, **QUIET)


def test_a_rollout_is_found_by_the_place_of_its_error():
    for error, alike in ((2, 3), (4, 2)):
        found = follow(error=error)
        first = found.result.y_o.first_error
        assert first == 2 * (error - 1) + 1 and found.n_alike == alike
        assert found.place == found.result.onset_at == first + 1
    assert follow(error=2, which=9).setting.which == 3
    assert follow(error=1).setting.error == 2  # no rollout fails at step 1: the nearest
    assert follow(error=2, delay=1).place == follow(error=2).place + 2
    assert follow(error=4, delay=7).setting.delay == 0  # no boundary is left


def test_a_wrong_plan_is_looked_at_where_it_shows():
    found = follow(setting="late", error=0)
    view = trd_along.present_along(found)
    assert found.place == found.result.onset_at == 1 + 2 * 8 and found.n_delays == 1
    assert "goes wrong at the plan" in view.summary and "–" not in view.summary
    assert "Once all steps stand the teacher says WAIT with 0.30" in view.summary
    assert view.bounds["error"] == (0, 2) and view.bounds["delay"] == (0, 0)
    wrong = named(view.figures["diff"], "wrong (struck)")
    assert list(wrong.x) == [0] and list(wrong.y) == [0]
    rest = follow(setting="late", error=2)
    assert rest.place == 5 and "Right after it" in trd_along.present_along(rest).summary


def test_losses_are_drawn_at_their_tokens_with_the_error_marked():
    found = follow(error=2, delay=1)
    figure = along_figures.loss_figure(found.result, found.place, "forward KL")
    for trace, path in zip(figure.data, (found.result.y_o, found.result.y_r), strict=True):
        np.testing.assert_allclose(trace.y, path.nats)
    assert list(figure.layout.xaxis.ticktext) == list(found.result.y_o.tokens)
    lines = {shape.x0 for shape in figure.layout.shapes}
    assert lines == {found.place, found.result.y_o.first_error}


def test_the_first_rung_alone_is_lit_and_no_context_of_opd_holds_a_wait():
    found = follow(error=2)
    figure = along_figures.ladder_figure(found.result, found.place)
    fills = [shape.fillcolor for shape in figure.layout.shapes]
    lit = [fill for fill in fills if fill.endswith("0.5)")]
    assert len(lit) == 2 and len(fills) == 2 * len(found.result.ladder)
    assert along_figures.shared_rungs(found.result.ladder) == 1
    said = [note.text for note in figure.layout.annotations]
    assert "c → <b>WAIT</b>" in said and any("<b>WAIT</b> 0.30, else" in text for text in said)
    assert not any("WAIT" in rung.opd_context for rung in found.result.ladder)


def test_every_token_stands_once_in_the_comparison_under_its_mark():
    found = follow(error=2).result
    figure = along_figures.diff_figure(found)
    places = [(x, y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True)]
    paths = (found.y_o, found.y_r, found.y_t)
    assert len(places) == len(set(places)) == sum(len(path.tokens) for path in paths)
    wrong = named(figure, "wrong (struck)")
    assert list(wrong.x) == [found.y_o.first_error] and list(wrong.y) == [0]
    assert wrong.text[0] == f"<s>{found.y_o.tokens[found.y_o.first_error]}</s>"
    for path, label in zip(paths, figure.layout.yaxis.ticktext, strict=True):
        assert f"NLL {path.mean_nll:.2f}" in label


def test_another_delay_charge_or_context_draws_and_scores_nothing_again(monkeypatch):
    explorer = panels.along_a_rollout()
    monkeypatch.setattr(along, "response_logits", None)
    monkeypatch.setattr(along, "named_teacher", None)
    for move in ({"delay": 1}, {"divergence": "jensen_shannon"}, {"beta": 0.2}, {"context": "x"}):
        before = explorer.summary
        explorer.set(**move)
        assert explorer.wait() and explorer.status["state"] == "done", explorer.status
        assert explorer.summary != before
    explorer.close()


def test_another_lambda_asks_the_network_nothing_again(monkeypatch):
    explorer = panels.wait_maps(n_traces=16)
    learned = explorer.result.learned
    monkeypatch.setattr(signals, "shipped", None)
    explorer.set(repair=0.6)
    assert explorer.wait() and explorer.status["state"] == "done", explorer.status
    assert explorer.result.learned is learned and "λ = 0.6" in explorer.summary
    explorer.close()


# ---------------------------------------------------------------------------------------- results


def looked(**changed):
    return trd_results.look_up(trd_results.ResultParams(**changed), **QUIET)


def test_the_table_draws_estimates_intervals_and_who_is_right_after_wait(results):
    found = looked(method="trd")
    figure = result_figures.table_figure(found.rows, (1, 8), 0.55, 0.8, "trd")
    want = results.row("trd")
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


def test_curves_end_at_the_cost_of_their_students(results):
    found = looked(group="methods")
    figure = result_figures.curves_figure(found.rows, (1, 8), "pass_at_4", "trd")
    style = METHOD_STYLES["sft_refined"]
    ends = [trace for trace in figure.data if trace.name == style.name]
    want = results.row("sft_refined")
    assert {end.xaxis for end in ends} == {"x", "x2"}
    for end in ends:
        assert (end.x[0], end.y[0]) == (9.0, pytest.approx(want.pass_at["4"]))
    shown = {trace.name for trace in figure.data if trace.name}
    assert shown == {METHOD_STYLES[name].name for name in METHODS}


def test_the_funnel_narrows_and_follows_the_dose(results):
    figure = result_figures.funnel_figure(results.dose, "opd_forward")
    everyone, waits, right = (list(trace.y) for trace in figure.data[:3])
    assert everyone == [1, 1, 1] and waits == pytest.approx([0, 0.15, 0.3])
    assert right == pytest.approx([0, 0.015, 0.03])
    line = named(figure, "TRD")
    assert list(line.x) == [0, 0.3, 0.6]


def test_a_task_without_doses_says_so():
    (note,) = result_figures.funnel_figure((), "trd").layout.annotations
    assert note.text == "not measured for this task"


def test_transitions_stand_in_their_cells(results):
    (table,) = result_figures.transitions_figure(results.rewrites[0]).data
    assert [list(line) for line in table.z] == [[0.25, 0.4], [0.01, 0.25]]
    assert (table.y[0], table.x[1]) == ("wrong", "right")


def test_summary_names_the_method_and_the_best_of_those_shown(results):
    view = trd_results.present_results(looked(method="opd_reverse", group="main"))
    want = results.row("opd_reverse")
    assert view.summary.startswith("OPD reverse, the program, 1 round: ")
    assert f"{want.accuracy.estimate:.0%}" in view.summary
    assert "TRD is best" in view.summary  # the last of the six in the made-up order
    assert len(view.table.rows) == 2 * len(result_figures.MAIN)


def test_right_plans_have_a_column_where_there_is_a_plan(results, monkeypatch):
    planned = tuple(
        dataclasses.replace(row, plan_right=row.order_kept / 2 + row.rounds / 100)
        for row in results.rows
    )
    late = dataclasses.replace(results, setting="late", rows=planned)
    monkeypatch.setattr(trd_results, "methods", {"small": results, "late": late}.__getitem__)
    views = {
        setting: trd_results.present_results(looked(setting=setting, group="seen", method="trd"))
        for setting in ("small", "late")
    }
    axes = {trace.xaxis for trace in views["small"].figures["methods"].data}
    assert axes == {"x", "x2", "x3"}
    shown = [
        share
        for trace in views["late"].figures["methods"].data
        if trace.xaxis == "x4"
        for share in trace.x
    ]
    names = trd_results.GROUPS["seen"][1]
    rows = [late.row(name, rounds=rounds) for name in names for rounds in (1, 8)]
    assert sorted(shown) == sorted(row.plan_right for row in rows)
    assert "end with the right plan" in views["late"].summary
    assert "plan" not in views["small"].summary


def test_a_method_that_was_not_measured_is_named_as_such():
    view = trd_results.present_results(looked(method="trd_corrupted_30", teacher="learned"))
    assert view.summary.startswith(
        "TRD, 30 % of y_r corrupted was not measured with the trained network. OPD forward, "
    )


def test_missing_results_are_told_with_the_command_that_makes_them(monkeypatch):
    def missing(setting):
        raise FileNotFoundError("trd_methods_small.json")

    monkeypatch.setattr(trd_results, "methods", missing)
    monkeypatch.setattr(trd_train, "methods", missing)
    explorer = panels.method_results()
    assert explorer.status["state"] == "error"
    assert explorer.status["text"].endswith("run `python benchmarks/trd_methods.py`.")
    explorer.close()
    assert "none with this setting" in str(panels.train_students().view.readouts)


# --------------------------------------------------------------------------------------- training

BRIEF = {"n_steps": 40, "methods": "opd_forward,trd"}


def setting(train, **changed):
    settings = {"rounds": 1, "repair": 0.3, "lr": 1e-3, "teacher": "exact", **BRIEF, **changed}
    return trd_train.TrainSetting.of(train=train, **settings)


def test_the_button_trains_and_no_slider_does(monkeypatch):
    asked = []

    def counted(params, *, stale, progress):
        asked.append(params)
        return experiment.LiveResult(params=params, runs=())

    monkeypatch.setattr(trd_train, "train_live", counted)
    trainer = trd_train.Trainer()
    assert trainer(setting(0), **QUIET).live is None and not asked
    first = trainer(setting(1), **QUIET)
    moved = trainer(setting(1, repair=0.6), **QUIET)
    assert len(asked) == 1 and moved.live is first.live and moved.params.repair == 0.6
    trainer(setting(2, repair=0.6), **QUIET)
    assert len(asked) == 2 and (asked[1].repair, asked[1].seed) == (0.6, 1)


def test_shipped_students_are_those_of_the_same_teacher_and_rounds(results):
    assert trd_train.shipped_like(LiveParams(rounds=1))["trd"].rounds == 1
    assert trd_train.shipped_like(LiveParams(rounds=8))["trd"].rounds == 8
    assert trd_train.shipped_like(LiveParams(rounds=4)) == {}
    assert trd_train.shipped_like(LiveParams(repair=0.6))["opd_forward"].wait == 0.3
    learned = trd_train.shipped_like(LiveParams(repair=0.6, teacher="learned"))
    assert set(learned) == {"opd_forward", "trd"}


def test_training_shows_progress_is_cancelled_within_a_second_and_ends():
    explorer = panels.train_students(**BRIEF)
    assert "Nothing trained yet" in explorer.summary
    said = []
    explorer.observe(lambda change: said.append(change["new"]["text"]), "status")
    explorer.set(train=1)
    for _ in range(500):
        if any(text.startswith("Step") for text in said):
            break
        time.sleep(0.01)
    start = time.perf_counter()
    explorer.cancel()
    assert explorer.wait(5) and time.perf_counter() - start < 1
    assert explorer.values["train"] == 0 and explorer.result.live is None
    explorer.set(train=1)
    assert explorer.wait(60) and explorer.status["state"] == "done", explorer.status
    found = explorer.result.live
    assert [run.name for run in found.runs] == ["opd_forward", "trd"]
    course = explorer.view.figures["course"]
    drawn = named(course, "TRD, yours")
    assert list(drawn.y) == [point.accuracy for point in found.runs[1].points]
    assert f"After {BRIEF['n_steps']} steps" in explorer.summary
    explorer.set(repair=0.6)
    assert explorer.wait() and "controls have moved since" in explorer.summary
    assert explorer.result.live is found
    explorer.close()


def test_every_wait_in_the_rollouts_is_marked():
    point = live.LivePoint(step=40, teacher_tokens=1, accuracy=0.5, pass_at_4=0.5, wait=0.5,
                                 correct_after_wait=None, order_kept=0.1)  # fmt: skip
    run = live.LiveRun(name="trd", points=(point,), rollouts=(("#1", "4", "WAIT", "#1"), ("WAIT",)))
    found = live.LiveResult(params=LiveParams(), runs=(run,))
    tokens = trd_train._rollouts(found)
    marked = [t for t, m in zip(tokens.texts, tokens.marks, strict=True) if m == trd_train.WAIT]
    assert marked == ["WAIT ", "WAIT "]


# -------------------------------------------------------------------------------------- real text


def test_real_text_is_drawn_as_measured():
    found = real()
    figure = real_figures.along_figure(found.kept[0], "nll")
    assert list(named(figure, "wrong solution").y) == [3.0, 0.1, 0.2, 0.1]
    shaded = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (shaded.x0, shaded.x1) == (-0.5, 1.5)  # the line with the error
    drawn = named(real_figures.delay_figure(found, "all"), "wrong solution")
    assert list(drawn.y) == [0.1, 0.3]
    np.testing.assert_allclose(drawn.error_y.array, 0.02)
    np.testing.assert_allclose(drawn.error_y.arrayminus, 0.01)
    prompts = named(real_figures.prompts_figure(found), "right solution")
    assert list(prompts.y) == [0.5, 0.2]


def test_real_text_marks_the_wrong_number_and_says_what_the_intervals_allow(monkeypatch):
    explorer = panels.real_model()
    tokens = explorer.view.tokens
    assert list(tokens.marks) == [trd_real.ERROR, trd_real.TEXT, trd_real.ONSET, trd_real.TEXT]
    assert "larger than on right solutions" in explorer.summary
    assert "finds the right solution likelier" in explorer.summary
    assert explorer.bounds["item"] == [1, 2]
    explorer.close()
    level = Estimate(mean=0.0, low=-0.1, high=0.1, n=2)
    flat = dataclasses.replace(real(), onset_difference={"all": level})
    monkeypatch.setattr(trd_real, "real_text", lambda: flat)
    assert "not told apart" in panels.real_model().summary


def test_a_problem_that_was_not_kept_is_refused_in_words():
    explorer = panels.real_model().set(item=9)
    assert explorer.wait()
    assert explorer.status["text"] == "item=9 must lie in [1, 2]."
    explorer.close()


# ------------------------------------------------------------------------- moved by their readers

MOVES = {
    "trd_two_modes": ("onset", (0.1, 0.5)),
    "trd_mode_map": ("repair", (0.5, 0.8)),
    "trd_trajectory": ("error", (3, 4)),
    "trd_results": ("method", ("opd_reverse", "trd")),
    "trd_results_late": ("method", ("opd_reverse", "opsd_reverse")),
    "trd_train": ("methods", ("trd,trd_from_x,trd_reverse", "sft_teacher,sft_refined,trd")),
    "trd_real_text": ("measure", ("nll", "entropy")),
}


@pytest.mark.parametrize("name", MOVES)
def test_events_from_another_thread_change_the_picture(name):
    explorer = panels.EXPLORERS[name]()
    assert explorer.status["state"] == "done", explorer.status
    assert sum(not control.more for control in explorer.declaration.controls) <= 3
    control, values = MOVES[name]
    before, summary = explorer.view.figures, explorer.summary

    def fire():
        for value in values:
            explorer.set_state({"values": {**explorer.values, control: value}})

    thread = threading.Thread(target=fire)
    thread.start()
    thread.join()
    assert explorer.wait(60)
    assert explorer.status["state"] == "done" and explorer.status["values"] == explorer.values
    assert explorer.values[control] == values[-1]
    after = explorer.view.figures
    assert any(after[plot].to_dict() != figure.to_dict() for plot, figure in before.items())
    for figure in after.values():  # plotly's own check leaves them as they are
        sent = json.loads(figure.to_json())
        assert json.loads(go.Figure(sent).to_json()) == sent
    explorer.set(**{control: explorer.defaults[control]})
    assert explorer.wait(60) and explorer.summary == summary  # nbval compares it
    explorer.close()


# ------------------------------------------------------------------------------------- questions


@pytest.mark.parametrize(
    ("make", "right", "words"),
    [
        (panels.says_wait_and_fails, 2, "supplies 1 of them"),
        (panels.opposite_failures, 0, "invisible"),
        (panels.just_sft, 0, "100% of the rewrites equal y_T"),
    ],
    ids=["says WAIT", "opposite", "just SFT"],
)
def test_questions_are_answered_by_computing(make, right, words, failures, monkeypatch):
    twice = {
        name: torch.cat([getattr(failures, name)] * 2) for name in ("digits", "y_o", "first_error")
    }
    more = dataclasses.replace(failures, **twice)
    monkeypatch.setattr(along, "failed_rollouts", lambda setting, seed: more)
    question = make()
    feedback = question.choose(right)
    assert feedback["verdict"] == "right" and words in feedback["text"], feedback
    assert question.choose(1)["verdict"] == "wrong"
