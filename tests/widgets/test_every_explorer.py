"""What holds of every explorer, found by looking: nothing here names one."""

import re
import threading

import plotly.graph_objects as go
import pytest

from intuitive.widgets import catalogue
from intuitive.widgets.kit import Action, Choice, Explorer, Predict, Range, Text, Toggle
from intuitive.widgets.kit.soak import soak

pytestmark = pytest.mark.model  # some read a text with the language model

EXPLORERS = tuple(catalogue.explorers())
SOAK_EVENTS = 120
WAIT_S = 120
# A hyphen in the place of a minus, a zero below zero, powers of ten and parameters as programs
# write them.
BADLY_WRITTEN = re.compile(r"(?<![\w.)])-\d|[-−]0(\.0+)?(?![\d.,])|\d[eE][+-]?\d\d|\bnan\b|\binf\b")


def alone(name: str):
    """A parameter whose tests stay with one worker, which builds the explorer once."""
    return pytest.param(name, marks=pytest.mark.xdist_group(name))


@pytest.fixture(scope="module", params=map(alone, EXPLORERS))
def explorer(request) -> Explorer:
    made = catalogue.explorers()[request.param]()
    yield made
    made.close()


@pytest.fixture
def home(explorer) -> Explorer:
    """The explorer at its defaults."""
    explorer.reset()
    assert explorer.wait(WAIT_S)
    return explorer


def ends(explorer: Explorer, control) -> list:
    """The values of a control at which pictures break first."""
    match control:
        case Range(values=listed) if listed:
            return [listed[0], listed[-1]]
        case Range():
            return list(explorer.bounds.get(control.name, (control.min, control.max)))
        case Choice():
            return list(control.options)
        case Toggle():
            return [False, True]
        case Text():
            return [""]
        case Action():
            return []
    raise AssertionError(f"no ends are known for {control}")


def look_at(explorer: Explorer, after: str) -> None:
    """The picture is whole, drawable and well written; or a sentence refuses the setting."""
    assert explorer.wait(WAIT_S), f"{after}: still computing"
    state, text = explorer.status["state"], explorer.status["text"]
    if state == "error":
        assert not re.match(r"\w+(Error|Exception): ", text), f"{after}: {text}"
        assert len(text) > 20, f"{after}: {text!r} is no sentence"
        for name in explorer.declaration.by_name:
            assert "_" not in name or not re.search(rf"\b{name}\b", text), f"{after}: {text}"
        return
    assert state == "done", f"{after}: {state}"
    view = explorer.view
    for plot in explorer.declaration.plots:
        figure = go.Figure(view.figure(plot.name))  # plotly refuses what it does not know
        assert figure.data or figure.layout.annotations, f"{after}: {plot.name} is empty"
    written = [view.summary, *(f"{part.label} {part.value}" for part in view.readouts)]
    written += [cell for row in (view.table.rows if view.table else ()) for cell in row]
    bad = [text for text in written if BADLY_WRITTEN.search(text)]
    assert not bad, f"{after}: {bad[:3]}"
    assert view.summary.endswith((".", "!", "?", "”")), f"{after}: {view.summary!r}"


def test_first_picture_stands(home):
    look_at(home, "at the defaults")
    assert home.status["state"] == "done", home.status["text"]


def test_every_control_moves_to_its_ends(home):
    for control in home.declaration.controls:
        for value in ends(home, control):
            home.set(**{control.name: value})
            look_at(home, f"{control.name}={value!r}")
        home.reset()
        assert home.wait(WAIT_S)
    look_at(home, "back at the defaults")


def test_every_step_has_its_picture(home):
    for index, step in enumerate(home.declaration.steps):
        home.take(index)
        look_at(home, f"step {index + 1}")
        assert home.status["state"] == "done", f"step {index + 1}: {home.status['text']}"
        labels = [frame.label for frame in home.view.timeline.frames] if home.view.timeline else []
        assert step.frame in (None, "first", "last", "play", *labels), step


def test_at_first_a_page_holds_little(explorer):
    """At most three controls, three readouts and two plots in sight (the hero counts as one)."""
    declared = explorer.declaration
    assert sum(not control.more for control in declared.controls) <= 3
    in_sight = sum(plot.tab == "" for plot in declared.plots) + (declared.hero is not None)
    assert in_sight <= 2
    assert len(explorer.view.readouts) <= 3


def test_its_name_is_where_it_lives(explorer):
    make = catalogue.explorers()[explorer.name]
    paper, _, module = explorer.name.partition("_")
    assert make.__module__ == f"intuitive.widgets.{paper}.{module}"
    assert catalogue.poster(explorer.name).is_file(), "make lessons takes its poster"


def test_random_events_from_two_threads(explorer):
    report = soak(catalogue.explorers()[explorer.name], events=SOAK_EVENTS, seed=0)
    assert report.ok, report.errors


def test_a_switch_of_the_notebook_breaks_no_first_picture(explorer):
    import numpy as np
    import torch

    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    told = []

    def build():
        with torch.inference_mode(), np.errstate(all="raise"):
            again = catalogue.explorers()[explorer.name]()
            told.append((again.status["state"], again.summary))
            again.close()

    thread = threading.Thread(target=build)
    thread.start()
    thread.join(WAIT_S)
    explorer.reset().wait(WAIT_S)
    assert told == [("done", explorer.summary)]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def predictions() -> dict[str, Predict]:
    import sys

    found = {}
    for name, make in catalogue.explorers().items():
        predict = getattr(sys.modules[make.__module__], "PREDICT", None)
        if predict is not None:
            found[name] = predict
    return found


@pytest.mark.parametrize("name", predictions())
def test_every_prediction_is_answered_by_computing(name):
    predict = predictions()[name]
    right, why = predict.answer()
    assert 0 <= right < len(predict.choices)
    assert why.endswith((".", "!")) and not BADLY_WRITTEN.search(why), why
    assert why not in predict.question


@pytest.mark.parametrize("name", catalogue.questions())
def test_every_question_is_answered_by_computing(name):
    question = catalogue.questions()[name]()
    assert question.chosen == -1
    verdicts = {question.choose(index)["verdict"] for index in range(len(question._choices))}
    assert verdicts == {"right", "wrong"}
    assert not BADLY_WRITTEN.search(question.feedback["text"]), question.feedback["text"]
    question.close()
