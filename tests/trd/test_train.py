"""Students trained while one watches: what is trained, when, and how it is shown."""

import itertools
import re
import time
from dataclasses import replace

import pytest
import torch

from intuitive.common import results
from intuitive.common.runtime import Cancelled, never
from intuitive.trd.experiments import train
from intuitive.trd.experiments.train import TrainParams
from intuitive.trd.trained import WEIGHTS
from intuitive.widgets.trd import train as widget
from intuitive.widgets.trd.train_figures import CHART, CHARTS, WIDTH, Picture, fate, wait_words

needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "small.safetensors").is_file(), reason="no weights of the small setting"
)
QUIET = {"stale": never, "progress": lambda fraction, sentence, so_far=None: None}
LIVE = TrainParams(n_steps=16, batch=32, n_problems=48, n_test=10)
BRIEF = {"n_steps": 40, "methods": "opd_forward,trd"}


def setting(train, **changed):
    settings = {"rounds": 1, "repair": 0.3, "lr": 1e-3, "teacher": "exact", **BRIEF, **changed}
    return widget.TrainSetting.of(train=train, **settings)


# ---- what the steps claim


def _ends(seen):
    """Right, WAIT and order kept in percent, by method, in the last frame."""
    number = r"(?:under |over )?(\d+)%"
    found = re.findall(
        rf"([A-Z][\w ]*): {number} right, {number} say WAIT, {number} keep", seen.sentences[-1]
    )
    return {name: tuple(map(int, numbers)) for name, *numbers in found}


def half_are_right_and_none_says_wait(seen):
    assert 40 <= seen.number("right, OPD forward") <= 60
    assert seen.readouts["right, OPD forward"] == seen.readouts["right, TRD"]
    assert seen.number("say WAIT, OPD forward") == 0


def the_left_side_learns_to_say_wait(seen):
    assert seen.number("say WAIT, OPD forward") > 10
    assert _ends(seen)["TRD"][1] == 0
    assert seen.number("right, TRD") > seen.number("right, OPD forward") + 20


def there_are_waits_to_read_on_from(seen):
    assert seen.number("say WAIT, OPD forward") > 10


def without_waits_the_left_side_does_well(seen):
    assert seen.values["repair"] == 0
    assert seen.number("say WAIT, OPD forward") == 0
    assert seen.number("right, OPD forward") > 85


def only_who_saw_the_text_keeps_its_order(seen):
    ends = _ends(seen)
    assert ends["TRD"][2] > 70 and ends["TRD scored from x"][2] < 10


STEPS = (
    half_are_right_and_none_says_wait,
    the_left_side_learns_to_say_wait,
    there_are_waits_to_read_on_from,
    without_waits_the_left_side_does_well,
    only_who_saw_the_text_keeps_its_order,
)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_contrast_holds_for_three_seeds(seed):
    found = train.recorded(TrainParams(seed=seed))
    opd, trd = (run.points[-1] for run in found.runs)
    assert opd.wait > 0.1 and trd.wait < 0.01
    assert trd.accuracy > opd.accuracy + 0.2
    assert trd.order_kept > 0.7 and opd.order_kept < 0.1
    assert (opd.correct_after_wait or 0) < 0.3


# ---- what is computed


@needs_weights
def test_a_training_reports_both_methods_and_their_texts():
    said, looked = [], []
    found = train.run(
        LIVE, progress=lambda share, sentence: said.append(share), watch=looked.append
    )
    assert [run.name for run in found.runs] == ["opd_forward", "trd"]
    for run in found.runs:
        assert tuple(point.step for point in run.points) == LIVE.looks
        assert len(run.texts) == len(LIVE.looks)
        assert {len(texts) for texts in run.texts} == {train.N_TEXTS}
    opd, trd = found.runs
    assert opd.texts[0] == trd.texts[0]  # one first student, common random numbers
    assert replace(opd.points[0], teacher_tokens=0) == replace(trd.points[0], teacher_tokens=0)
    assert said == sorted(said) and len(said) >= 16
    assert [len(one.runs[1].points) for one in looked] == list(range(1, len(LIVE.looks) + 1))
    assert looked[-1] == found == train.run(LIVE)


@pytest.mark.parametrize("n_steps", [1, 16, 40, 120, 240])
def test_looks_begin_densely_and_end_at_the_end(n_steps):
    looks = TrainParams(n_steps=n_steps).looks
    assert looks[0] == 0 and looks[-1] == n_steps and list(looks) == sorted(set(looks))
    gaps = [late - early for early, late in itertools.pairwise(looks)]
    assert gaps[0] == min(gaps) and len(looks) <= 25


@needs_weights
def test_live_training_stops_within_a_second():
    calls = 0

    def stale() -> bool:
        nonlocal calls, asked
        calls += 1
        if calls == 40:
            asked = time.process_time()
        return calls >= 40

    asked = 0.0
    with pytest.raises(Cancelled):
        train.run(TrainParams(), stale=stale)
    assert time.process_time() - asked < 1.0


def test_settings_are_checked():
    with pytest.raises(ValueError, match="'opd' is none of"):
        TrainParams(methods="trd,opd")
    with pytest.raises(ValueError, match="must be a multiple of rounds=7"):
        TrainParams(rounds=7)
    with pytest.raises(ValueError, match="n_test=9"):
        TrainParams(n_test=9)


@needs_weights
def test_training_runs_whatever_the_callers_mode_is():
    small = TrainParams(n_steps=4, batch=8, n_problems=16, n_test=10)
    want = train.run(small)
    with torch.inference_mode():  # which turns gradients off as well
        assert train.run(small) == want


def test_a_text_is_read_up_to_its_fault():
    digits = (3, 4, 1, 6)
    right = train.read("#3 6 #2 0 #1 4 #0 0 ANS 0 EOS", digits)
    assert right.right and right.first_error is right.broken is None
    wrong = train.read("#3 6 #2 1 #1 5 #0 1 ANS 1 EOS", digits)
    assert not wrong.right and wrong.first_error == 3 and wrong.broken is None
    broken = train.read("#3 6 WAIT #2 EOS", digits)
    assert broken.broken == 4 and broken.reason == "EOS where a total should stand"
    assert broken.idle == (2,) and wrong.idle == ()
    assert train.read("#3 6 #2 1 WAIT #2 0", digits).idle == ()


def test_why_a_text_is_wrong_is_told_in_the_words_of_the_lesson():
    def told(written):
        return fate(train.read(written, (3, 4, 1, 6)))

    assert told("#1 4 #2 5 #0 1 WAIT #3 6 #2 EOS") == (
        "wrong: token 7 is WAIT, though nothing is wrong, then token 9, the 6, is wrong, then "
        "#2 is taken again without WAIT"
    )
    assert told("#3 6 REV #2 0 EOS") == (
        "wrong: REV (the token before a rewrite, which belongs in no text) where a step should "
        "stand"
    )
    assert "it has no EOS" in told("#3 6 #2 0 #1 4")
    idle, after = (
        wait_words(train.read(written, (3, 4, 1, 6)), 4)
        for written in ("#3 6 #2 0 WAIT", "#3 6 #2 1 WAIT")
    )
    assert "nothing is wrong before it" in idle and "after an error" in after


def test_a_strange_token_is_explained_where_it_stands():
    found = train.recorded(TrainParams(methods="opd_reverse_topk,opd_reverse_topk_tail"))
    frames = Picture(found).frames()
    for frame in (frames[0], frames[-1]):
        there = any(mark.label == "REV" for mark in frame.scene.marks)
        assert there == ("There is a REV (the token before" in frame.sentence)
    assert "REV" in frames[-1].sentence


def test_names_beside_the_curves_end_before_the_next_picture():
    for names in widget.SETS:
        scene = Picture(train.recorded(TrainParams(methods=names))).frames()[-1].scene
        for left, ends in zip(CHARTS, (CHARTS[1] - 40, WIDTH), strict=True):
            labels = [m for m in scene.marks if m.key.endswith(":label") and m.x > left + CHART]
            near = [m for m in labels if m.x < left + CHART + 40]
            assert len(near) == 2
            assert all(m.x + 7.6 * len(m.text) < ends for m in near)


def test_pairs_have_short_names_of_their_own():
    names = [widget.pair_name(names) for names in widget.SETS]
    assert names[0] == "OPD forward | TRD" and "TRD | from x" in names
    assert len(set(names)) == len(names) and max(map(len, names)) < 26


def test_another_pair_shows_its_record_after_a_training(monkeypatch):
    def trained(params, *, stale, progress, watch):
        return replace(train.recorded(TrainParams()), params=params)

    monkeypatch.setattr(widget, "train_students", trained)
    trainer = widget.Trainer()
    live = trainer(setting(1, n_steps=120), **QUIET)
    assert live.live and live.fits
    other = trainer(setting(1, n_steps=120, methods="sft_teacher,sft_refined"), **QUIET)
    assert not other.live and other.fits
    assert other.shown.params.methods == "sft_teacher,sft_refined"
    dose = trainer(setting(1, n_steps=120, repair=0.6), **QUIET)
    assert not dose.live and dose.fits
    back = trainer(setting(1, n_steps=120), **QUIET)
    assert back.live and back.shown is live.shown


def test_the_recorded_trainings_are_those_that_the_controls_offer():
    found = results.load(train.RECORDED, train.Recorded).values.results
    kept = {result.params for result in found}
    assert {TrainParams(methods=names) for names in widget.SETS} <= kept
    assert {TrainParams(repair=repair) for repair in widget.REPAIRS} <= kept
    assert train.recorded(TrainParams(n_steps=40)) is None


# ---- what is shown


def test_a_tile_keeps_its_key_where_its_step_moves():
    found = train.recorded(TrainParams())
    frames = Picture(found).frames()
    before, after = frames[0].scene, frames[-1].scene
    row = next(
        row
        for row, text in enumerate(found.runs[0].texts[-1])
        if text.startswith("#0") and found.runs[0].texts[0][row].startswith("#3")
    )
    key = f"opd_forward:{row}:#3:1"
    assert before[key].label == after[key].label == "#3" and before[key].x < after[key].x


def test_waits_and_first_errors_are_marked_and_rows_signed():
    found = train.recorded(TrainParams())
    scene = Picture(found).frames()[-1].scene
    signs = [mark for mark in scene.marks if getattr(mark, "text", "") in ("✓", "✗")]
    texts = [
        train.read(text, digits)
        for run in found.runs
        for text, digits in zip(run.texts[-1], found.problems, strict=True)
    ]
    assert [mark.text == "✓" for mark in signs] == [text.right for text in texts]
    waits = [mark for mark in scene.marks if mark.label == "WAIT"]
    assert waits and {mark.fill for mark in waits} == {"green"}
    assert len(waits) == sum(text.tokens.count("WAIT") for text in texts)
    orange = sum(mark.fill == "vermilion" and bool(mark.label) for mark in scene.marks)
    faults = [{text.first_error, text.broken} - {None, len(text.tokens)} for text in texts]
    assert orange == sum(map(len, faults))


def test_the_longest_text_stays_in_its_panel():
    digits = (3, 4, 1, 6)
    text = "#0 3 #1 0 #2 1 WAIT #0 3 #1 0 #2 1 WAIT #3 0 ANS 0"
    point = train.recorded(TrainParams()).runs[0].points[0]
    run = train.TrainRun(name="trd", points=(point,), texts=((text,) * train.N_TEXTS,))
    found = train.TrainResult(params=TrainParams(), problems=(digits,) * train.N_TEXTS, runs=(run,))
    (frame,) = Picture(found).frames()
    tiles = [mark for mark in frame.scene.marks if mark.key.startswith("trd:0:")]
    assert frame.scene["more:trd:0"].text == "…"  # it has no EOS
    sign = frame.scene["trd:0"]
    assert len(tiles) == len(text.split())
    assert all(tile.x + tile.w < sign.x - 8 for tile in tiles)


@pytest.mark.usefixtures("stand_ins")
def test_the_button_trains_and_no_slider_does(monkeypatch):
    asked = []

    def counted(params, *, stale, progress, watch):
        asked.append(params)
        return replace(train.recorded(TrainParams()), params=params)

    monkeypatch.setattr(widget, "train_students", counted)
    trainer = widget.Trainer()
    first = trainer(setting(0, n_steps=120), **QUIET)
    assert not first.live and first.fits and not asked
    other = trainer(setting(0, repair=0.6), **QUIET)
    assert not other.live and not other.fits and not asked
    live = trainer(setting(1), **QUIET)
    moved = trainer(setting(1, repair=0.6), **QUIET)
    assert len(asked) == 1 and moved.shown is live.shown and live.fits and not moved.fits
    trainer(setting(2, repair=0.6), **QUIET)
    assert len(asked) == 2 and (asked[1].repair, asked[1].seed) == (0.6, 2)


def test_what_is_recorded_is_called_recorded_and_where_it_does_not_fit_it_says_so():
    explorer = widget.explorer()
    assert explorer.summary.startswith("Recorded: ten texts of OPD forward and TRD over 120 steps")
    assert "The controls ask" not in explorer.summary
    explorer.set(n_steps=40)
    assert explorer.wait() and "press the button to train it" in explorer.summary
    explorer.close()


@pytest.mark.usefixtures("stand_ins")
def test_training_streams_is_cancelled_within_a_second_and_ends():
    explorer = widget.explorer(**BRIEF)
    recorded = explorer.result
    said, grown = [], []
    explorer.observe(lambda change: said.append(change["new"]["text"]), "status")
    explorer.observe(lambda change: grown.append(len(explorer.view.timeline.frames)), "picture")
    explorer.set(train=1)
    for _ in range(1000):
        if any(text.startswith("Step") for text in said):
            break
        time.sleep(0.01)
    start = time.process_time()  # of this process, so that a busy machine passes too
    explorer.cancel()
    assert explorer.wait(60) and time.process_time() - start < 1
    assert explorer.values["train"] == 0 and explorer.result.shown == recorded.shown
    grown.clear()
    explorer.set(train=2)
    assert explorer.wait(60) and explorer.status["state"] == "done", explorer.status
    found = explorer.result
    assert found.live and found.shown.params.seed == 2
    assert grown == sorted(grown) and grown[-1] == len(found.shown.params.looks)
    assert explorer.summary.startswith("Trained here: ten texts")
    explorer.set(repair=0.6)
    assert explorer.wait() and "press the button to train it" in explorer.summary
    explorer.close()


def test_missing_recordings_are_told_with_the_command_that_makes_them(monkeypatch):
    def missing(params):
        raise FileNotFoundError("no committed result 'trd_train'")

    monkeypatch.setattr(widget, "recorded", missing)
    explorer = widget.explorer()
    assert explorer.status["state"] == "error"
    assert "run `python benchmarks/trd_train.py`" in explorer.status["text"]
    explorer.close()
