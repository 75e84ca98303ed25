"""The explorer without a kernel: values in, picture, status and summary out."""

import dataclasses
import email.message
import functools
import gc
import json
import threading
import time
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from intuitive.common import own_text
from intuitive.common.runtime import Cancelled
from intuitive.widgets.kit import (
    Action,
    Choice,
    Circle,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Scene,
    Step,
    Table,
    Text,
    Toggle,
    View,
    showing,
)
from intuitive.widgets.kit.controls import ControlError
from intuitive.widgets.kit.latest import PATIENCE


@dataclass(frozen=True, kw_only=True)
class Params:
    power: int
    sign: str
    shifted: bool
    presses: int = 0


def compute(params, *, stale, progress):
    if params.power == 13:
        raise ValueError("power=13: unlucky; choose another.")
    if params.power == 15:
        raise ValueError(f"sign={params.sign} needs an even power, and sign={params.sign!r} too.")
    if params.power == 14:
        raise ZeroDivisionError("deep inside")
    if params.power == 20:
        for step in range(2000):
            if stale():
                raise Cancelled
            progress(step / 2000, f"step {step}")
            time.sleep(0.005)
    value = 2**params.power * (-1 if params.sign == "minus" else 1)
    return value + params.shifted + params.presses


def present(value):
    return View(
        summary=f"The value is {value}.",
        figures={"line": {"data": [{"type": "scatter", "y": [0, value]}], "layout": {}}},
        code=f"compute({value})",
    )


@pytest.fixture
def explorer(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    made = make()
    yield made
    made.close()


def make(**changes):
    settings = {
        "name": "powers",
        "title": "Powers",
        "params": Params,
        "compute": compute,
        "present": present,
        "controls": [
            Range(name="power", label="Power", min=0, max=20),
            Choice(name="sign", label="Sign", options={"plus": "+", "minus": "−"}),
            Toggle(name="shifted", label="Shifted", more=True),
            Action(name="presses", label="Press"),
        ],
        "plots": [
            Plot(name="line", label="a line", on_click=lambda event: {"power": round(event["x"])})
        ],
        "defaults": {"power": 3, "sign": "plus", "shifted": False, "presses": 0},
    }
    return Explorer(**(settings | changes))


def drawn(explorer):
    return list(explorer.figure_line["data"][0]["y"])[-1]


def test_first_picture_exists_before_any_event(explorer):
    assert explorer.result == 8 and drawn(explorer) == 8
    assert explorer.status["state"] == "done"
    assert explorer.summary == "The value is 8."


@pytest.mark.parametrize("from_thread", [False, True], ids=["main thread", "other thread"])
def test_values_from_the_browser_are_drawn(explorer, from_thread):
    state = {"values": {**explorer.values, "power": 5}}
    if from_thread:
        thread = threading.Thread(target=explorer.set_state, args=(state,))
        thread.start()
        thread.join()
    else:
        explorer.set_state(state)
    assert explorer.wait(5)
    assert drawn(explorer) == 32 and explorer.status["values"]["power"] == 5


def test_a_menu_says_why_it_changes_nothing_and_no_other_control_can():
    def idle(name):
        return lambda value: dataclasses.replace(present(value), idle={name: "not here"})

    made = make(present=idle("sign"))
    assert made.info["idle"] == {"sign": "not here"} and made.status["state"] == "done"
    made.close()
    other = make(present=idle("power"))
    assert "'power' cannot stand idle: it is no Choice" in other.status["text"]
    other.close()


def test_away_and_back_ends_where_the_slider_is(explorer):
    for power in (7, 3, 9, 3):
        explorer.set(power=power)
    assert explorer.wait(5)
    assert drawn(explorer) == 8 and explorer.status["values"]["power"] == 3


@pytest.mark.parametrize(
    ("power", "words"),
    [
        (13, "Power = 13: unlucky; choose another."),
        (14, "ZeroDivisionError: deep inside"),
        (15, "Sign “+” needs an even power, and Sign “+” too."),  # as its list says it
    ],
)
def test_a_failing_callback_shows_and_leaves_the_picture(explorer, power, words):
    explorer.set(power=power)
    assert explorer.wait(5)
    assert explorer.status["state"] == "error" and explorer.status["text"] == words
    assert drawn(explorer) == 8
    explorer.set(power=4)
    assert explorer.wait(5)
    assert explorer.status["state"] == "done" and drawn(explorer) == 16


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"power": "five"}, "Power takes a number, got 'five'"),
        ({"power": float("nan")}, "Power takes a finite number"),
        ({"sign": "times"}, "Sign is one of plus, minus, got 'times'"),
        ({"shifted": 1}, "Shifted is True or False, got 1"),
        ({"presses": -1}, "Press counts presses from 0, got -1"),
        ({"depth": 2}, "no control is named depth; there are power, sign"),
    ],
)
def test_bad_values_are_refused_in_words(explorer, values, words):
    with pytest.raises(ControlError, match="^" + words.replace("(", r"\(")):
        explorer.set(**values)
    explorer.set_state({"values": {**explorer.values, **values}})
    assert explorer.status["state"] == "error" and explorer.status["text"].startswith(words)
    assert drawn(explorer) == 8


def test_missing_values_are_refused(explorer):
    explorer.set_state({"values": {"power": 2}})
    assert "presses" in explorer.status["text"] and explorer.status["state"] == "error"


def test_slow_work_shows_progress_and_cancel_returns_the_controls(explorer):
    explorer.set(power=20)
    deadline = time.monotonic() + 5
    while explorer.status["state"] != "computing" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert explorer.status["state"] == "computing"
    explorer._on_message(explorer, {"type": "cancel"}, None)
    assert explorer.wait(5)
    assert explorer.status["text"].startswith("Cancelled")
    assert explorer.values["power"] == 3 and drawn(explorer) == 8


def test_clicks_and_buttons_are_control_values(explorer):
    event = {"curve": 0, "x": 6.2, "y": 1, "point": 0}
    explorer._on_message(explorer, {"type": "click", "plot": "line", "event": event}, None)
    explorer.set(presses=1)
    assert explorer.wait(5)
    assert drawn(explorer) == 65


def test_view_can_correct_values_and_bounds(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))

    def corrected(value):
        view = present(value)
        return View(
            summary=view.summary,
            figures=view.figures,
            bounds={"power": (0, 6)},
            values={"power": 6} if value > 64 else {},
        )

    explorer = make(present=corrected)
    explorer.set(power=9)
    assert explorer.wait(5)
    assert explorer.values["power"] == 6 and explorer.bounds == {"power": [0, 6]}
    assert explorer.status["state"] == "done"
    explorer.close()


def test_first_picture_that_fails_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    explorer = make(defaults={"power": 13, "sign": "plus", "shifted": False, "presses": 0})
    assert explorer.status["state"] == "error"
    assert explorer.summary == "Power = 13: unlucky; choose another."
    explorer.set(power=1)
    assert explorer.wait(5) and drawn(explorer) == 2
    explorer.close()


def test_a_prediction_unlocks_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    predict = Predict(question="Bigger?", choices=("yes", "no"))
    explorer = make(predict=predict)
    assert explorer.prediction is None
    with pytest.raises(ControlError, match="one of: yes; no; got 'maybe'"):
        explorer.predict("maybe")
    explorer._on_message(explorer, {"type": "predict", "choice": "yes"}, None)
    assert explorer.prediction == "yes"
    again = make(predict=predict)
    assert again.prediction == "yes"
    again._on_message(again, {"type": "forget"}, None)
    assert make(predict=predict).prediction is None


def test_a_prediction_is_dropped_once_the_question_is_asked_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    for said, kept in (("less", "less"), (None, ""), ("more", None)):
        make(predict=Predict(question="Which?", choices=("less", "more"))).predict(said).close()
        reworded = make(predict=Predict(question="Which?", choices=("less", "far more")))
        assert reworded.prediction == kept
        reworded.close()


def test_a_cell_shows_picture_note_and_widget(explorer):
    picture, note, live = explorer.outputs()
    assert picture == {"text/plain": "Powers: The value is 8."}
    assert "Run this cell to move it." in note["text/html"]
    assert list(live) == ["application/vnd.jupyter.widget-view+json"]


def test_a_poster_leads_to_the_book_once_there_is_one(explorer, monkeypatch):
    told = email.message.Message()
    monkeypatch.setattr(showing.importlib.metadata, "metadata", lambda name: told)
    for address, link in (("", False), ("https://x.org/book", True), ("https://x.org/book/", True)):
        showing.book.cache_clear()
        if address:
            del told["Project-URL"]
            told["Project-URL"] = "Source, https://y.org"
            told["Project-URL"] = f"Book, {address}"
        note = explorer.outputs()[1]["text/html"]
        page = f'<a href="https://x.org/book/explorers/{explorer.name}.html">'
        assert (page in note) == link and ("<a " in note) == link
    showing.book.cache_clear()


def test_an_open_question_is_not_answered_by_the_saved_text(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    asking = make(predict=Predict(question="How much?", choices=("8", "9")))
    assert asking.outputs()[0] == {"text/plain": "Powers: How much?"}
    asking.predict("9")
    assert asking.outputs()[0] == {"text/plain": "Powers: The value is 8."}


def verdict_of(tmp_path, monkeypatch, choice, answer=lambda: (0, "2³ is 8.")):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    asking = make(predict=Predict(question="How much?", choices=("8", "9"), answer=answer))
    assert asking.verdict == {}
    assert asking.predict(choice).wait(5)
    return asking.verdict


@pytest.mark.parametrize(
    ("choice", "state", "words"),
    [
        ("8", "right", "You said “8”, and so it is. 2³ is 8."),
        ("9", "wrong", "You said “9”; it is “8”. 2³ is 8."),
        (None, "told", "2³ is 8."),
    ],
    ids=["right", "wrong", "skipped"],
)
def test_a_prediction_gets_its_verdict(tmp_path, monkeypatch, choice, state, words):
    verdict = verdict_of(tmp_path, monkeypatch, choice)
    assert verdict == {"state": state, "right": 0, "text": words}


def test_a_verdict_that_fails_says_so(tmp_path, monkeypatch):
    def broken():
        raise ValueError("power=13: unlucky.")

    verdict = verdict_of(tmp_path, monkeypatch, "8", broken)
    assert verdict["text"] == "The answer could not be computed: Power = 13: unlucky."


def test_a_restored_prediction_gets_its_verdict_when_the_page_asks(tmp_path, monkeypatch):
    verdict_of(tmp_path, monkeypatch, "9")
    predict = Predict(question="How much?", choices=("8", "9"), answer=lambda: (0, "2³ is 8."))
    again = make(predict=predict)
    assert again.prediction == "9" and again.verdict == {}
    again._on_message(again, {"type": "verdict"}, None)
    assert again.wait(5) and again.verdict["state"] == "wrong"


def test_the_page_hears_with_the_picture_that_python_took_its_change(explorer):
    sent = []
    explorer.send_state = lambda names: sent.append(set(names))
    explorer.set_state({"asked": 7, "values": {**explorer.values, "power": 5}})
    assert explorer.wait(5) and explorer.heard == 7
    assert [{"heard", "status", "figure_line", "info"} <= names for names in sent] == [True]


def test_the_page_hears_at_once_where_nothing_begins(explorer):
    explorer.set_state({"asked": 8})
    assert explorer.heard == 8
    explorer.set_state({"asked": 9, "values": {**explorer.values, "power": 20}})
    deadline = time.monotonic() + 5
    while explorer.heard != 9:  # long before the end of what takes so long
        assert time.monotonic() < deadline
        time.sleep(0.01)
    explorer.set_state({"asked": 10, "values": {**explorer.values, "power": 4}})
    assert explorer.heard == 10  # it waits for the one before
    assert explorer.wait(5) and explorer.result == 16


def test_a_quick_computation_says_nothing_of_its_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))

    def counted(params, *, stale, progress):
        progress(0.5, "half of it")
        return compute(params, stale=stale, progress=progress)

    explorer = make(compute=counted)
    said = []
    explorer.observe(lambda change: said.append(change["new"]["state"]), "status")
    explorer.set(power=5).wait(5)
    assert said == ["done"]
    explorer.close()


def test_a_refused_value_never_ends_as_done(tmp_path, monkeypatch):
    """The refusal may come while the result of an earlier value is on its way to the page."""
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    on_the_way, go_on = threading.Event(), threading.Event()

    def slow_figure(value):
        if value != 8:
            on_the_way.set()
            go_on.wait(5)
        return {"data": [{"type": "scatter", "y": [0, value]}], "layout": {}}

    def slow_present(value):
        return View(summary=f"{value}", figures={"line": lambda: slow_figure(value)})

    explorer = make(present=slow_present)
    explorer.set(power=5)
    assert on_the_way.wait(5)
    explorer.set_state({"values": {**explorer.values, "power": "refused"}})
    go_on.set()
    assert explorer.wait(5)
    assert explorer.status["state"] == "error" and "refused" in explorer.status["text"]
    assert drawn(explorer) == 8


def test_a_raising_observer_does_not_deafen_the_explorer(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))

    def corrected(value):
        return dataclasses.replace(present(value), values={"power": 6} if value > 64 else {})

    explorer = make(present=corrected)

    def raising(change):
        if change["new"]["power"] == 6:
            raise RuntimeError("an observer of the reader's own")

    explorer.observe(raising, "values")
    explorer.set(power=9)
    assert explorer.wait(5)
    explorer.unobserve(raising, "values")
    explorer.set(power=4)
    assert explorer.wait(5)
    assert drawn(explorer) == 16 and explorer.status["state"] == "done"


def test_only_the_open_tab_is_built(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    built = []

    def figure(name, value):
        built.append(name)
        return {"data": [{"type": "scatter", "y": [0, value]}], "layout": {}}

    names = ("line", "map", "cost")
    explorer = make(
        plots=[Plot(name=name, label=name, tab="" if name == "line" else name) for name in names],
        present=lambda value: View(
            summary="", figures={name: functools.partial(figure, name, value) for name in names}
        ),
    )
    assert built == ["line", "map"] and explorer.tab == "map"
    explorer.set(power=4).wait(5)
    assert built == ["line", "map"] * 2
    explorer.show_tab("cost").wait(5)
    assert built == [*["line", "map"] * 2, "cost"]
    assert explorer.figure_cost["data"][0]["y"] == [0, 16]
    with pytest.raises(ControlError, match="no tab is named 'x'; there are map, cost"):
        explorer.show_tab("x")


def test_values_are_made_and_sent_while_their_fold_is_open():
    made = []

    def rows(at):
        made.append(at)
        return ((str(at),),)

    explorer = Explorer(
        name="kit_values",
        title="Values",
        params=lambda at: at,
        compute=lambda at, *, stale, progress: at,
        present=lambda at: View(summary="Here.", table=Table(("at",), functools.partial(rows, at))),
        controls=[Range(name="at", label="at", min=0, max=9)],
        defaults={"at": 1},
    )
    explorer.set(at=2).wait(5)
    assert explorer.info["table"] == {"header": ("at",), "rows": None} and not made
    explorer.set_state({"unfolded": True})
    explorer._opener.wait(5)
    assert explorer.info["table"]["rows"] == (("2",),)
    explorer.set(at=3).wait(5)
    assert explorer.info["table"]["rows"] == (("3",),) and made == [2, 3]
    explorer.set_state({"unfolded": False})
    explorer._opener.wait(5)
    explorer.set(at=4).wait(5)
    assert explorer.info["table"]["rows"] is None and made == [2, 3]


def test_a_tab_opened_while_something_runs_lets_it_finish(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    began, go_on = threading.Event(), threading.Event()

    def slow(params, *, stale, progress):
        if params.power == 5:
            began.set()
            assert go_on.wait(10)
        return compute(params, stale=stale, progress=progress)

    def figures(value):
        data = [{"type": "scatter", "y": [0, value]}]
        return {name: {"data": data, "layout": {}} for name in ("line", "map", "cost")}

    explorer = make(
        compute=slow,
        plots=[Plot(name=name, label=name, tab=name) for name in ("line", "map", "cost")],
        present=lambda value: View(summary="", figures=figures(value)),
    )
    explorer.set(power=5)
    assert began.wait(5)
    explorer.set_state({"tab": "map", "asked": 1})
    assert explorer.heard == 1
    assert explorer._opener.wait(5)
    assert explorer.figure_map["data"][0]["y"] == [0, 8]  # of the picture that stands there
    time.sleep(2 * PATIENCE)  # a request that had been overtaken would be stale now
    explorer.show_tab("cost")
    go_on.set()
    assert explorer.wait(5)
    assert explorer.values["power"] == 5 and explorer.result == 32
    assert explorer.status["values"]["power"] == 5 and explorer.status["state"] == "done"
    assert explorer.figure_cost["data"][0]["y"] == [0, 32]
    explorer.close()


def test_a_tab_opened_after_an_error_leaves_its_words(explorer):
    explorer.set(power=13).wait(5)
    explorer.set_state({"tab": "another"})
    assert explorer.wait(5)
    assert explorer.status["state"] == "error" and "unlucky" in explorer.status["text"]


def test_steps_set_their_state_from_the_defaults(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    steps = (
        Step(title="Up", text="See it grow.", sets={"power": 6}),
        Step(title="Down", text="Now down.", sets={"sign": "minus"}),
    )
    explorer = make(steps=steps)
    explorer.take(0).wait(5)
    assert explorer.result == 64
    explorer.take(1).wait(5)
    assert explorer.result == -8  # power is back at its default
    explorer.reset().wait(5)
    assert explorer.values == explorer.defaults
    with pytest.raises(ControlError, match="no control is named hue"):
        make(steps=(Step(title="x", text="x", sets={"hue": 1}),))


def test_closing_frees_what_was_held(explorer):
    result = weakref.ref(explorer.view)
    explorer.set(power=4).wait(5)
    explorer.close()
    gc.collect()
    assert explorer.result is None and result() is None


def test_running_a_cell_again_closes_what_it_made_before(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    running = ["cell", "first run"]
    monkeypatch.setattr(showing, "_running_cell", lambda: tuple(running))
    one, other = make(), make()
    assert one.comm is not None and other.comm is not None
    running[1] = "second run"
    again = make()
    assert one.comm is None and other.comm is None and again.comm is not None
    running[:] = "another cell", "third run"
    make()
    assert again.comm is not None


def test_a_mark_of_the_hero_reaches_the_page_once_per_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))

    def drawn_scene(value):
        scene = Scene(width=100, height=50, marks=(Circle(key="dot", x=value % 100, y=9),))
        return View(summary="", scene=scene)

    explorer = make(plots=(), hero=Hero(label="a dot"), present=drawn_scene)
    picture = json.loads(explorer.picture)
    assert picture["frames"][0]["marks"] == [{"kind": "circle", "key": "dot", "x": 8, "y": 9}]
    with_none = make(plots=(), hero=Hero(label="a dot"), present=lambda value: View(summary=""))
    assert "no scene for its hero" in with_none.status["text"]


def test_declarations_speak_up_early():
    with pytest.raises(ValueError, match="no default for"):
        make(defaults={"power": 3})
    with pytest.raises(ValueError, match=r"names \['power'\] are used twice"):
        make(plots=[Plot(name="power", label="x")])
    with pytest.raises(ValueError, match="min may not exceed max"):
        Range(name="x", label="x", min=2, max=1)


def test_answers_file_that_cannot_be_read_is_set_aside(tmp_path, monkeypatch):
    from intuitive.widgets.kit import answers

    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    (tmp_path / "answers.json").write_text("{broken")
    assert answers.recall("x") is None
    assert answers.remember("x", "y") and answers.recall("x") == "y"
    assert (tmp_path / "answers.unreadable.json").read_text() == "{broken"


def test_without_a_home_folder_nothing_is_kept_and_the_explorer_is_built(monkeypatch):
    from intuitive.widgets.kit import answers

    for name in ("HOME", "INTUITIVE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert answers.recall("x") is None
    assert answers.remember("x", "y") is False
    explorer = make(predict=Predict(question="Which?", choices=("one", "other")))
    assert explorer.status["state"] == "done"
    assert explorer.summary == "The value is 8."
    explorer.predict("one")
    assert explorer.wait(5)
    explorer.set(power=4)
    assert explorer.wait(5) and explorer.result == 16
    explorer.close()


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    "library",
    [np.array, torch.tensor, lambda value: np.array(value)[()]],
    ids=["array", "torch", "numpy"],
)
def test_fault_l_single_values_of_numpy_and_torch_set_controls(explorer, library):
    explorer.set(power=library(5), shifted=library(True), presses=library(2))
    assert explorer.wait(5) and explorer.result == 2**5 + 1 + 2
    kinds = [type(explorer.values[name]) for name in ("power", "shifted", "presses")]
    assert kinds == [int, bool, int]
    with pytest.raises(ControlError, match="Power takes a number"):
        explorer.set(power=library(True))
    with pytest.raises(ControlError, match="Shifted is True or False"):
        explorer.set(shifted=library(1))
    with pytest.raises(ControlError, match="Press counts presses from 0"):
        explorer.set(presses=library(-1))
    with pytest.raises(ControlError, match="Power takes a number"):
        explorer.set(power=library([5]))


def test_an_option_brings_the_values_it_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    sign = Choice(
        name="sign",
        label="Sign",
        options={"plus": "+", "minus": "−"},
        sets={"minus": {"power": 6, "shifted": True}},
    )
    controls = [
        Range(name="power", label="Power", min=0, max=20),
        sign,
        Toggle(name="shifted", label="Shifted"),
    ]
    defaults = {"power": 3, "sign": "plus", "shifted": False}
    explorer = make(controls=controls, defaults=defaults)
    explorer.set(sign="minus").wait(5)
    assert explorer.values == {"power": 6, "sign": "minus", "shifted": True}
    assert drawn(explorer) == -63
    explorer.set(sign="plus").wait(5)
    explorer.set(sign="minus", power=2).wait(5)  # what is asked for counts for more
    assert explorer.values == {"power": 2, "sign": "minus", "shifted": True}
    explorer.close()


def test_a_text_brings_what_there_is():
    brings = Text(name="own", label="Own", sets={"sign": "minus"})
    assert brings.spec()["sets"] == {"sign": "minus"}
    with pytest.raises(ControlError, match="no control is named hue"):
        make(
            controls=[
                Range(name="power", label="Power"),
                Text(name="own", label="Own", sets={"hue": 1}),
            ],
            defaults={"power": 0, "own": ""},
        )


def test_an_option_sets_what_there_is():
    sign = Choice(name="sign", label="Sign", options={"plus": "+"}, sets={"plus": {"hue": 6}})
    with pytest.raises(ControlError, match="no control is named hue"):
        make(controls=[sign], defaults={"sign": "plus"})


def test_a_growing_result_is_drawn_while_it_grows(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    drawn_now, go_on = threading.Event(), threading.Event()

    def grow(params, *, stale, progress):
        if params.power == 3:
            return 8
        progress(0.5, "half of it", 7)
        drawn_now.set()
        go_on.wait(10)
        return 2**params.power

    explorer = make(compute=grow)
    sent = []
    try:
        explorer.send_state = lambda key: sent.append((set(key), explorer.status["growing"]))
        explorer.set(power=5)
        assert drawn_now.wait(10)
        assert explorer.summary == "The value is 7." and drawn(explorer) == 7
        assert explorer.status["state"] == "computing" and explorer.status["growing"]
        # The page is told with the picture whose it is, and not before.
        told = [("info" in names, growing) for names, growing in sent if "status" in names]
        assert told == [(False, False), (True, True)]
        go_on.set()
        assert explorer.wait() and explorer.summary == "The value is 32."
        assert not explorer.status["growing"]
    finally:
        go_on.set()
        explorer.close()


def test_who_cancels_a_growing_result_gets_the_old_picture_back(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    drawn_now = threading.Event()

    def grow(params, *, stale, progress):
        if params.power == 3:
            return 8
        progress(0.5, "half of it", 7)
        drawn_now.set()
        while not stale():
            time.sleep(0.01)
        raise Cancelled

    explorer = make(compute=grow)
    try:
        explorer.set(power=5)
        assert drawn_now.wait(10)
        explorer.cancel()
        assert explorer.wait()
        assert explorer.values["power"] == 3
        assert explorer.summary == "The value is 8." and drawn(explorer) == 8
    finally:
        explorer.close()


# ------------------------------------------------------------------ the reader's own document


def counted(text: str = "", opens: int = 100) -> Explorer:
    """Counts words; refuses what has fewer than two."""

    def words(params, *, stale, progress):
        if params["text"] == "short":
            raise ValueError("the text has 1 word; at least 2 are needed.")
        return len((params["text"] or "the lesson's own text").split())

    return Explorer(
        name="counted",
        title="Words",
        params=lambda **values: frozendict(values),
        compute=words,
        present=lambda count: View(summary=f"{count} words."),
        controls=(
            Text(name="text", label="Your own text", opens=opens),
            Text(name="ask", label="Your question"),
        ),
        defaults={"text": text, "ask": ""},
    )


class frozendict(dict):
    def __hash__(self):
        return hash(tuple(self.items()))


@pytest.fixture
def letter(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(own_text.TEXT_VARIABLE, str(tmp_path / "letter.txt"))
    (tmp_path / "letter.txt").write_text("To whom it may concern: hello")
    return tmp_path / "letter.txt"


def test_an_explorer_starts_on_the_document_that_was_named(letter):
    explorer = counted()
    assert explorer.wait()
    assert explorer.summary == "6 words."
    assert explorer.status["text"].startswith("From letter.txt. Done")
    boxes = [control.get("own") for control in explorer.spec["controls"]]
    assert boxes == ["To whom it may concern: hello", None]
    explorer.reset().wait()
    assert explorer.summary == "4 words."
    assert explorer.status["text"].startswith("Done")
    explorer.close()


def test_a_document_that_is_refused_leaves_the_lessons_own_picture(letter):
    letter.write_text("short")
    explorer = counted()
    assert explorer.wait()
    assert explorer.summary == "4 words."
    assert explorer.status["text"] == "the text has 1 word; at least 2 are needed."
    letter.unlink()
    explorer = counted()
    assert explorer.summary == "4 words."
    assert "letter.txt cannot be read" in explorer.status["text"]


@pytest.mark.parametrize("made", [{"text": "given in code"}, {"opens": 0}])
def test_what_the_cell_asks_for_counts_for_more(letter, made):
    explorer = counted(**made)
    assert explorer.wait()
    assert explorer.values["text"] == made.get("text", "")
