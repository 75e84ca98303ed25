"""Students trained while one watches: what is trained, when, and how it is shown."""

import dataclasses
import time

import plotly.graph_objects as go
import pytest
import torch

from intuitive.common.runtime import Cancelled, never
from intuitive.trd.experiments import train
from intuitive.trd.experiments.train import TrainParams
from intuitive.trd.trained import WEIGHTS
from intuitive.widgets.trd import train as widget

needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "small.safetensors").is_file(), reason="no weights of the small setting"
)
QUIET = {"stale": never, "progress": lambda fraction, sentence: None}
LIVE = TrainParams(n_steps=16, batch=32, n_problems=48, n_test=8)
BRIEF = {"n_steps": 40, "methods": "opd_forward,trd"}


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def setting(train, **changed):
    settings = {"rounds": 1, "repair": 0.3, "lr": 1e-3, "teacher": "exact", **BRIEF, **changed}
    return widget.TrainSetting.of(train=train, **settings)


@needs_weights
def test_live_training_reports_both_methods():
    said = []
    found = train.run(LIVE, progress=lambda share, sentence: said.append(share))
    assert [run.name for run in found.runs] == ["opd_forward", "trd"]
    for run in found.runs:
        assert [point.step for point in run.points] == [0, 4, 8, 12, 16]
        assert len(run.rollouts) == 8
    first = [run.points[0] for run in found.runs]
    assert dataclasses.replace(first[0], teacher_tokens=0) == dataclasses.replace(
        first[1], teacher_tokens=0
    )  # one first student, common random numbers
    assert said == sorted(said) and len(said) >= 16
    assert train.run(LIVE) == found


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


def test_live_settings_are_checked():
    with pytest.raises(ValueError, match="'opd' is none of"):
        TrainParams(methods="trd,opd")
    with pytest.raises(ValueError, match="must be a multiple of rounds=7"):
        TrainParams(rounds=7)


@pytest.mark.usefixtures("stand_ins")
def test_the_button_trains_and_no_slider_does(monkeypatch):
    asked = []

    def counted(params, *, stale, progress):
        asked.append(params)
        return train.TrainResult(params=params, runs=())

    monkeypatch.setattr(widget, "train_students", counted)
    trainer = widget.Trainer()
    assert trainer(setting(0), **QUIET).live is None and not asked
    first = trainer(setting(1), **QUIET)
    moved = trainer(setting(1, repair=0.6), **QUIET)
    assert len(asked) == 1 and moved.live is first.live and moved.params.repair == 0.6
    trainer(setting(2, repair=0.6), **QUIET)
    assert len(asked) == 2 and (asked[1].repair, asked[1].seed) == (0.6, 1)


@pytest.mark.usefixtures("stand_ins")
def test_shipped_students_are_those_of_the_same_teacher_and_rounds():
    assert widget.shipped_like(TrainParams(rounds=1))["trd"].rounds == 1
    assert widget.shipped_like(TrainParams(rounds=8))["trd"].rounds == 8
    assert widget.shipped_like(TrainParams(rounds=4)) == {}
    assert widget.shipped_like(TrainParams(repair=0.6))["opd_forward"].wait == 0.3
    learned = widget.shipped_like(TrainParams(repair=0.6, teacher="learned"))
    assert set(learned) == {"opd_forward", "trd"}


@pytest.mark.usefixtures("stand_ins")
def test_training_shows_progress_is_cancelled_within_a_second_and_ends():
    explorer = widget.explorer(**BRIEF)
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
    course = go.Figure(explorer.view.figure("course"))
    drawn = named(course, "TRD, yours")
    assert list(drawn.y) == [point.accuracy for point in found.runs[1].points]
    assert f"After {BRIEF['n_steps']} steps" in explorer.summary
    explorer.set(repair=0.6)
    assert explorer.wait() and "controls have moved since" in explorer.summary
    assert explorer.result.live is found
    explorer.close()


def test_every_wait_in_the_rollouts_is_marked():
    point = train.TrainPoint(step=40, teacher_tokens=1, accuracy=0.5, pass_at_4=0.5, wait=0.5,
                                 correct_after_wait=None, order_kept=0.1)  # fmt: skip
    run = train.TrainRun(
        name="trd", points=(point,), rollouts=(("#1", "4", "WAIT", "#1"), ("WAIT",))
    )
    found = train.TrainResult(params=TrainParams(), runs=(run,))
    tokens = widget._rollouts(found)
    marked = [t for t, m in zip(tokens.texts, tokens.marks, strict=True) if m == widget.WAIT]
    assert marked == ["WAIT ", "WAIT "]


@needs_weights
def test_training_runs_whatever_the_callers_mode_is():
    small = TrainParams(n_steps=4, batch=8, n_problems=16, n_test=4)
    want = train.run(small)
    with torch.inference_mode():  # which turns gradients off as well
        assert train.run(small) == want
