"""Shipped weights load as they were saved; committed results, and the explorer that shows them."""

import dataclasses
import importlib.util
import itertools
import json
import sys
from pathlib import Path

import msgspec
import plotly.graph_objects as go
import pytest
import torch
from prose import FIGURE, cut

from intuitive.common import records
from intuitive.trd import config
from intuitive.trd.config import SETTINGS, setting_config, student_decoder, teacher_decoder
from intuitive.trd.experiments import results
from intuitive.trd.model import StackedDecoder
from intuitive.trd.results import (
    REAL_TEXT,
    Methods,
    Rewrites,
    controls,
    methods,
    methods_name,
    real_text,
)
from intuitive.trd.teacher import TeacherConfig
from intuitive.trd.trained import load_shipped, save_shipped
from intuitive.widgets.kit import percent
from intuitive.widgets.trd import results as widget
from intuitive.widgets.trd import results_figures as figures
from intuitive.widgets.trd.results_figures import thousands
from intuitive.widgets.trd.results_scene import Picture, apart, hundred
from intuitive.widgets.trd.styles import METHOD_STYLES, METHOD_WORDS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"benchmarks/{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def untrained(tmp_path) -> Path:
    config = setting_config("small")
    teacher = StackedDecoder.fresh(teacher_decoder(config), [0])
    students = StackedDecoder.fresh(student_decoder(config), range(2))
    save_shipped(tmp_path, "small", teacher, students, {"command": "a test"})
    return tmp_path


def test_weights_come_back_rounded_to_half(untrained):
    models = load_shipped("small", folder=untrained)
    want = StackedDecoder.fresh(student_decoder(models.config), range(2)).weights
    assert torch.equal(models.students.weights, want.half().float())
    assert models.made["command"] == "a test"
    assert not models.students.weights.requires_grad


def test_weights_of_another_config_are_refused(untrained, monkeypatch):
    changed = dataclasses.replace(
        setting_config("small"),
        student=dataclasses.replace(setting_config("small").student, n_steps=1),
    )
    monkeypatch.setitem(config.SETTINGS, "small", changed)
    with pytest.raises(ValueError, match="trained with another config: run benchmarks/trd_methods"):
        load_shipped("small", folder=untrained)
    with pytest.raises(ValueError, match="setting='big' must be one of small, late"):
        load_shipped("big")
    with pytest.raises(FileNotFoundError):
        load_shipped("late", folder=untrained)


def test_the_benchmark_writes_what_the_package_reads(untrained, monkeypatch):
    bench = script("trd_methods")
    tiny = dataclasses.replace(
        bench.Sweep.small("small"),
        lrs=(1e-3,),
        plan=bench.Plan(n_problems=8, n_steps=2, batch=4),
        rounds=(1,),
        methods=("trd",),
        ablations=("opd_forward_x3",),
        doses=(0.5,),
        n_traces=2,
    )
    monkeypatch.setattr(bench.Sweep, "small", lambda setting: tiny)
    monkeypatch.setattr(bench, "rewrites", lambda name, teacher, students: _rewrites(name))
    where = ["--folder", str(untrained), "--weights", str(untrained), "--small"]
    assert bench.main([*where, "--stage", "teachers", "ablations"]) == 0
    assert bench.main([*where, "--stage", "methods", "dose"]) == 0  # adds to what is there
    values, made = records.load(untrained / f"{methods_name('small')}.json")
    found = msgspec.convert(values, Methods)
    assert found.row("trd").accuracy.low <= found.row("trd").accuracy.high
    assert found.row("opd_forward_x3", teacher="learned").student_generated > 0
    assert {row.repair for row in found.dose} == {0.5}
    assert [one.teacher for one in found.wait_maps] == ["exact", "learned"]
    assert made["config"]["sweep"]["setting"] == "small"
    with pytest.raises(ValueError, match="name='opd' with teacher='exact' and rounds=1"):
        found.row("opd")


def _rewrites(name: str) -> Rewrites:
    numbers = {field.name: 0.0 for field in dataclasses.fields(Rewrites)}
    return Rewrites(**numbers | {"teacher": name})


# ------------------------------------------------------------------------------ what they show


@pytest.fixture(scope="module", params=["small", "late"])
def found(request):
    return methods(request.param)


TEACHERS = ("exact", "learned")


def test_every_method_was_run_with_both_teachers_and_both_numbers_of_rounds(found):
    from intuitive.trd.methods import METHODS

    for name in METHODS:
        for teacher in TEACHERS:
            for rounds in (1, 8):
                row = found.row(name, teacher=teacher, rounds=rounds)
                assert len(row.accuracy_by_seed) == found.seeds == 5
                assert len(row.validation) == 4


def test_forward_opd_falls_with_the_repair_weight(found):
    rows = sorted((r for r in found.dose if r.name == "opd_forward"), key=lambda r: r.repair)
    accuracy = {row.repair: row.accuracy for row in rows}
    assert accuracy[0.0].low > accuracy[0.3].high > accuracy[0.3].low > accuracy[0.6].high


def test_forward_opd_says_wait_and_cannot_go_on(found):
    for teacher in TEACHERS:
        row = found.row("opd_forward", teacher=teacher)
        assert row.wait > 0.1 and row.correct_after_wait < 0.2


def test_trd_is_above_forward_opd_and_not_below_sft_on_solutions(found):
    for teacher in TEACHERS:
        trd, opd, sft = (
            found.row(name, teacher=teacher).accuracy
            for name in ("trd", "opd_forward", "sft_teacher")
        )
        assert trd.low > opd.high
        assert trd.high > sft.low


def test_what_the_teacher_sees_decides_on_the_plan_where_errors_show_late():
    """The lesson's account: asked from x nobody teaches the right plan, with an attempt they do."""
    late = methods("late")
    for teacher in TEACHERS:
        for name in ("opd_forward", "sft_teacher", "trd_from_x"):
            assert late.row(name, teacher=teacher).plan_right < 0.7
        for name in ("trd", "sft_refined", "opsd_reverse"):
            assert late.row(name, teacher=teacher).plan_right > 0.97


def test_rewrites_are_nearer_to_the_student_than_its_own_rollouts(found):
    for one in found.rewrites:
        assert one.nll_y_r < one.nll_y_o < one.nll_y_t
        assert one.pass_fail < 0.02 and one.order_kept > 0.95


def test_order_is_kept_by_training_on_rewrites_alone(found):
    for teacher in TEACHERS:
        kept = {n: found.row(n, teacher=teacher).order_kept for n in
                ("trd", "sft_refined", "opd_forward", "opd_reverse", "sft_teacher")}  # fmt: skip
        assert min(kept["trd"], kept["sft_refined"]) > 0.6
        assert max(kept["opd_forward"], kept["opd_reverse"], kept["sft_teacher"]) < 0.5


def test_learned_teacher_repairs_at_every_delay_and_hardly_interrupts(found):
    learned = next(one for one in found.wait_maps if one.teacher == "learned")
    seen = {name: waits for name, waits in learned.by_error.items() if name != "plan"}
    for waits in seen.values():
        assert all(0.2 < wait < 0.4 for wait in waits)
    assert learned.worst_clean < 0.02
    assert learned.repaired < 0.05
    if "plan" in learned.by_error:
        *early, last = learned.by_error["plan"]
        assert max(early) < 0.02 and 0.2 < last < 0.4


def test_how_they_were_made_is_recorded():
    for setting in SETTINGS:
        _, made = records.load(RESULTS / f"{methods_name(setting)}.json")
        assert len(made["commit"]) == 40 and made["config"]["sweep"]["setting"] == setting
        assert load_shipped(setting).made["commit"] == made["commit"]


@pytest.mark.slow
def test_slice_agrees_with_the_committed_run():
    assert script("trd_methods").compare_slice(RESULTS) == []


@pytest.mark.slow
def test_controls_agree_with_students_trained_again():
    assert script("trd_controls").compare_slice(RESULTS) == []


@pytest.mark.slow
def test_recorded_trainings_agree_with_one_trained_again():
    assert script("trd_train").compare_slice(RESULTS) == []


# ------------------------------------------------------------------------------------ real text


@pytest.fixture(scope="module")
def text():
    return real_text()


def test_real_text_covers_two_hundred_items_with_intervals(text):
    assert text.params.n_items >= 200
    for found in (*text.surprise.values(), *text.perplexity_gap.values()):
        assert found.n == text.params.n_items and found.low < found.mean < found.high
    assert len(text.kept) == text.params.n_kept


def test_real_text_survives_its_file(text):
    values, _ = records.load(RESULTS / f"{REAL_TEXT}.json")
    assert json.loads(json.dumps(dataclasses.asdict(text))) == values


@pytest.mark.model
def test_real_text_slice_agrees(text):
    assert script("trd_real_text").compare_slice(RESULTS, n_items=1) == []


# ------------------------------------------------------------------------- what the steps claim


def _right_after_wait(seen):
    """What the last frame's sentence says of the texts with WAIT."""
    return seen.sentences[-1].partition(" say WAIT, and ")[2]


def the_dose_turns_texts_green_and_wrong(seen):
    assert seen.sentences[0].startswith("λ = 0. OPD forward: 97%")
    assert seen.number("say WAIT") > 50 and seen.number("right") < 35
    assert _right_after_wait(seen).startswith("none of those")


def trd_hardly_says_wait_at_any_dose(seen):
    assert seen.number("say WAIT") < 1 and seen.number("right") > 97


def reverse_kl_does_not_listen_and_is_as_good(seen):
    assert seen.number("say WAIT") < 1 and seen.number("right") > 97


def fresh_rollouts_help_since_wait_vanishes(seen):
    assert seen.number("right") > 94
    assert seen.readouts["say WAIT"] == "0.8%"
    assert _right_after_wait(seen) == "18% of those come out right."


def trd_from_x_does_not_keep_the_order(seen):
    assert seen.number("keep their order") == 2 and seen.number("right") == 98
    assert round(100 * methods("small").row("trd").order_kept) == 79


STEPS = (
    the_dose_turns_texts_green_and_wrong,
    trd_hardly_says_wait_at_any_dose,
    reverse_kl_does_not_listen_and_is_as_good,
    fresh_rollouts_help_since_wait_vanishes,
    trd_from_x_does_not_keep_the_order,
)


def test_the_prediction_is_answered_from_the_dose():
    right, words = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "about as many as with TRD"
    assert words.startswith("99% come out right with reverse KL, 99% with TRD and 28% with forward")
    assert "64% say WAIT" in words


def test_the_summary_holds_no_numbers_of_one_frame(found):
    explorer = widget.explorer()
    assert "measured at λ = 0, 0.15, 0.3, 0.45, 0.6 and 0.8. Own text y_o" in explorer.summary
    row = found.row("opd_forward")
    for share in (row.accuracy.estimate, row.wait, row.order_kept):
        assert percent(share) not in explorer.summary
    explorer.close()


def test_every_method_is_explained_in_the_lesson_as_in_the_explorer():
    assert METHOD_WORDS.keys() == METHOD_STYLES.keys()
    lesson = prose("trd-12b")
    for name, style in METHOD_STYLES.items():
        assert f"| {style.name} | {METHOD_WORDS[name]} |" in lesson, name


def test_the_programs_wrong_rewrites_are_its_stray_tokens(found):
    """The caption of the tab: a token in a thousand is drawn at random, whoever teaches."""
    stray = TeacherConfig().smoothing
    assert stray == 1e-3
    program, network = (
        next(one for one in found.rewrites if one.teacher == name) for name in ("exact", "learned")
    )
    wrong = program.fail_fail + program.pass_fail
    assert 0.3 * 11 * stray < wrong < 3 * 11 * stray  # of a text of eleven tokens
    assert network.pass_fail < program.pass_fail


# ------------------------------------------------------------------------- what the prose says


def prose(cell):
    """A markdown cell of the lesson."""
    lesson = json.loads((ROOT / "notebooks/07_trd.ipynb").read_text(encoding="utf-8"))
    return "".join(next(c["source"] for c in lesson["cells"] if c["id"] == cell))


def shares(row):
    return percent(row.accuracy.estimate), percent(row.order_kept)


def test_figures_of_section_4_are_those_of_the_table():
    found, text = methods("small"), prose("trd-15")
    dose = {row.repair: row for row in found.dose if row.name == "opd_forward"}
    fresh = found.row("opd_forward", rounds=8)
    rows = {name: found.row(name) for name in (
        "opd_forward", "opd_reverse", "sft_teacher", "sft_refined", "trd", "trd_from_x",
        "trd_reverse", "opd_reverse_topk", "opd_reverse_topk_tail")}  # fmt: skip
    kept = {name: row.order_kept for name, row in rows.items()}
    (reverse, _), (trd, order) = shares(rows["opd_reverse"]), shares(rows["trd"])
    clip = found.row("opd_forward_clip").accuracy
    phrases = (
        f"gets {percent(dose[0.0].accuracy.estimate)} right; with $\\lambda = 0.8$ it gets "
        f"{percent(dose[0.8].accuracy.estimate)}, and {percent(dose[0.8].wait)} say WAIT",
        f"{reverse} and {trd} right with the program",
        f"comes to {percent(fresh.accuracy.estimate)}",
        f"{percent(fresh.wait, 1)} still say it, and of those "
        f"{percent(fresh.correct_after_wait)} come out right",
        f"in {order} of the texts, SFT on $y_r$ in {percent(kept['sft_refined'])}",
        f"in 1 to {percent(max(kept[n] for n in ('opd_forward', 'opd_reverse', 'sft_teacher')))}",
        f"keeps it in {percent(kept['trd_from_x'])}",
        f"after these 240 steps, {trd} and {shares(rows['trd_from_x'])[0]}",
        f"in {percent(kept['trd_reverse'])}: that is a collapse, with "
        f"{rows['trd_reverse'].distinct_orders:.1f} different",
        f"where TRD has {rows['trd'].distinct_orders:.1f}",
        f"from {percent(clip.low)} to {percent(clip.high)}",
        f"falls to {shares(rows['opd_reverse_topk'])[0]} with",
        f"back to {shares(rows['opd_reverse_topk_tail'])[0]}",
    )
    text = cut(text, phrases)
    learned = [found.row(name, teacher="learned") for name in ("opd_reverse", "trd")]
    assert {shares(row)[0] for row in learned} == {"over 99%"}
    assert FIGURE.findall(text) == ["over 99%"]


def test_figures_of_section_5_are_those_of_the_table():
    late, text = methods("late"), prose("trd-late-2")

    def right(name, **how):
        return percent(late.row(name, **how).accuracy.estimate)

    first = percent(sum(late.first_accuracy) / len(late.first_accuracy))
    own, anew = (late.row("sft_teacher", rounds=rounds) for rounds in (1, 8))
    program = next(one for one in late.rewrites if one.teacher == "exact")
    tokens = {name: thousands(late.row(name, rounds=8)) for name in ("opsd_reverse", "trd")}
    phrases = (
        f"reverse KL ends at {right('opd_reverse')} right",
        f"ends at {right('opd_forward')}, *below* the first students' {first}",
        f"TRD comes to {right('trd')}",
        f"offers the guess again: {right('trd_from_x')}",
        f"in the teacher's context: {right('opsd_reverse')}",
        f"asks for no scores: {right('sft_refined')}",
        f"ends at {right('sft_teacher')} right. The teacher's own solutions begin with its guess "
        f"too, and {percent(program.solve_accuracy)} of them are right",
        f"of the {percent(own.wait)} of its student's texts that say WAIT, "
        f"{percent(own.correct_after_wait)} come out right, and "
        f"{percent(anew.correct_after_wait)} where texts are drawn anew",
        f"({percent(late.row('opsd_reverse').order_kept)} against TRD's "
        f"{percent(late.row('trd').order_kept)})",
        f"TRD *falls* from {right('trd')} to {right('trd', rounds=8)}",
        f"*rises* from {right('opsd_reverse')} to {right('opsd_reverse', rounds=8)}",
        f"{tokens['opsd_reverse']} against {tokens['trd']}",
        f"({late.row('opsd_reverse', rounds=8).distinct_orders:.1f} per problem)",
        f"{right('trd_reverse')} right, drawn once, and {right('trd_reverse', rounds=8)} anew",
        f"({late.row('trd_reverse').distinct_orders:.1f} per problem each time)",
        f"it goes from {right('trd', teacher='learned')} to "
        f"{right('trd', teacher='learned', rounds=8)}",
    )
    text = cut(text, phrases)
    slips = {
        (rounds, slips): percent(
            controls().row("trd", setting="late", rounds=rounds, slips=slips).accuracy
        )
        for rounds in (1, 8)
        for slips in (True, False)
    }
    phrases = (
        f"three students come to {slips[1, False]} drawn once and {slips[8, False]} anew, where "
        f"the program as it is brings {slips[1, True]} and {slips[8, True]}",
    )
    text = cut(text, phrases)
    assert FIGURE.findall(text) == []
    for rounds in (1, 8):  # and each of the three falls with the slips, none of them without
        with_slips, without = (
            controls().row("trd", setting="late", rounds=rounds, slips=slips).accuracy_by_seed
            for slips in (True, False)
        )
        assert len(without) == 3 and min(without) > max(with_slips)
    once, anew = (
        controls().row("trd", setting="late", rounds=rounds).accuracy_by_seed for rounds in (1, 8)
    )
    assert max(anew) < min(once)
    low, high = (late.row("trd", rounds=rounds).accuracy for rounds in (8, 1))
    assert low.high < high.low  # TRD falls by more than its intervals


def test_figures_of_the_real_model_are_those_measured(text):
    said = prose("trd-31")
    copied, mended = (text.surprise[f"{name}|refine"].mean for name in ("wrong", "right"))
    assert f"never above {percent(text.largest_onset, 1)}" in said
    assert f"{copied:.2f} nats per token against {mended:.2f}" in said
    wrong, right = (text.surprise_at_error[name].mean for name in ("wrong", "right"))
    assert f"costs {wrong:.1f} nats on average, and {right:.1f} with the right number" in said
    assert f"in {percent(text.error_preferred.mean)} of the problems" in said
    assert f"{text.params.n_items} problems" in prose("trd-29")
    assert text.onset_difference["all"].low < 0 < text.onset_difference["all"].high


# ---------------------------------------------------------------------------- what is looked up


def looked(**changed):
    return results.run(results.ResultParams(**changed))


@pytest.mark.usefixtures("stand_ins")
def test_one_row_is_looked_up_with_its_doses(measured):
    found = looked(method="trd")
    assert found.row == measured.row("trd")
    assert [row.repair for row in found.doses] == [0.0, 0.3, 0.6]
    assert looked(method="trd", rounds=8).doses == looked(method="sft_refined").doses == ()
    assert {row.name for row in found.beside} == set(results.BESIDE)
    other = looked(method="opd_forward_clip").beside
    assert {row.name for row in other} == {*results.BESIDE, "opd_forward_clip"}


@pytest.mark.usefixtures("stand_ins")
def test_what_was_not_measured_is_refused_with_what_was():
    explorer = widget.explorer().set(method="trd_corrupted_30", teacher="learned")
    assert explorer.wait() and explorer.status["state"] == "error"
    assert "was not measured with" in explorer.status["text"]
    assert "Take one of these" in explorer.status["text"]
    explorer.close()


# ------------------------------------------------------------------------------ what is drawn


def test_a_hundred_squares_are_the_shares_of_the_row():
    forward = methods("small").row("opd_forward")
    assert hundred(forward) == (0, 31, 7, 62)
    assert "7 of a hundred texts fail without a WAIT and 31 with one" in prose("trd-12a")
    for row in methods("late").rows:
        counts = hundred(row)
        assert sum(counts) == 100 and min(counts) >= 0
        assert abs(counts[0] + counts[3] - 100 * row.accuracy.estimate) <= 1


def test_the_dose_grows_over_the_frames_and_squares_keep_their_keys():
    picture = Picture(results.run(results.ResultParams()))
    frames = picture.timeline().frames
    assert [frame.label for frame in frames] == [
        f"λ = {repair}" for repair in ("0", "0.15", "0.3", "0.45", "0.6", "0.8")
    ]
    for frame in frames:
        keys = {mark.key for mark in frame.scene.marks}
        assert {f"text:{i}" for i in range(100)} <= keys
    green = [sum(m.fill == "green" and m.key.startswith("text:") for m in frame.scene.marks)
             for frame in frames]  # fmt: skip
    assert green == sorted(green) and green[0] == 0 and green[-1] == 64
    assert "OPD forward 97%" in {getattr(m, "text", "") for m in frames[0].scene.marks}
    first = {getattr(mark, "text", "") for mark in frames[0].scene.marks}
    assert not any("28%" in text for text in first)  # the poster does not tell the end


@pytest.mark.parametrize("rounds", [1, 8])
def test_trd_stands_beside_who_learns_along_the_same_rewrites(rounds):
    def beside(method):
        frame = Picture(looked(method=method, rounds=rounds)).timeline().frames[-1]
        return [mark.text for mark in frame.scene.marks if mark.key == "trd"]

    trd = methods("small").row("trd", rounds=rounds)
    right, kept = percent(trd.accuracy.estimate), percent(trd.order_kept)
    told = [f"TRD: {right} right, {kept} keep their order"]
    assert beside("trd_from_x") == beside("sft_refined") == told
    assert beside("trd") == beside("opd_forward") == []


def test_labels_do_not_lie_on_each_other():
    placed = apart([10.0, 11.0, 12.0, 80.0], 15, 10, 100)
    gaps = [late - early for early, late in itertools.pairwise(placed)]
    assert placed[0] >= 10 and min(gaps) > 15 - 1e-9 and placed[3] == pytest.approx(80, abs=1)


@pytest.mark.usefixtures("stand_ins")
def test_tabs_draw_one_claim_each(measured):
    found = looked(method="trd")
    bars, words = go.Figure(figures.order_figure(found)).data
    assert min(words.x) > 1  # where no line of the grid runs
    at = [METHOD_STYLES[row.name].name for row in found.beside if row.rounds == 1][::-1]
    assert bars.x[at.index("TRD")] == measured.row("trd").order_kept
    lines = [t for t in go.Figure(figures.fresh_figure(found, "right")).data if t.name == "TRD"]
    assert list(lines[0].y) == [
        measured.row("trd", rounds=rounds).accuracy.estimate for rounds in (1, 8)
    ]
    cost = next(t for t in go.Figure(figures.cost_figure(found)).data if t.name == "TRD")
    assert list(cost.x) == [9000.0, 9000.0]
    (table,) = go.Figure(figures.transitions_figure(measured.rewrites[0])).data
    assert [list(line) for line in table.z] == [[0.25, 0.4], [0.01, 0.25]]


def test_values_hold_the_full_table():
    explorer = widget.explorer()
    found = methods("small")
    assert len(explorer.view.table.rows) == len(found.rows) + len(found.ablations)
    in_sight = [plot.name for plot in explorer.declaration.plots if not plot.tab]
    assert in_sight == [] and explorer.declaration.tabs[0] == "Order"
    explorer.close()


def test_one_order_only_is_called_a_collapse():
    drawn = figures.order_figure(results.run(results.ResultParams(method="trd_reverse")))
    _, words = go.Figure(drawn).data
    assert sum("collapse" in text for text in words.text) == 2  # TRD and OPSD by reverse KL


def test_missing_results_are_told_with_the_command_that_makes_them(monkeypatch):
    def missing(setting):
        raise FileNotFoundError("trd_methods_small.json")

    monkeypatch.setattr(results, "methods", missing)
    explorer = widget.explorer()
    assert explorer.status["state"] == "error"
    assert explorer.status["text"].endswith("run `python benchmarks/trd_methods.py`.")
    explorer.close()
