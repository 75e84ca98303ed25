"""What holds of every explorer, found by looking: nothing here names one."""

import sys
import threading
from functools import cache, partial
from unittest import mock

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from looking import BADLY_WRITTEN, WAIT_S, look_at
from sheets import listed

from intuitive.widgets import catalogue
from intuitive.widgets.kit import Action, Choice, Explorer, Range, Text, Toggle
from intuitive.widgets.kit.soak import soak

pytestmark = pytest.mark.model  # some read a text with the language model

EXPLORERS = tuple(catalogue.explorers())
SOAK_EVENTS = 200
# Of these, a heavy control takes longest at its upper end: there `make sweep` goes.
COUNTS = ("n_new", "n_prompt", "n_steps", "n_episodes", "n_particles")


@cache
def quick(name: str) -> dict[str, int | float]:
    """The least work for an explorer's heavy controls, read from its declaration."""
    with mock.patch.object(Explorer, "_first_picture", lambda self: None):
        declared = catalogue.explorers()[name]()
    declared.close()
    controls = declared.declaration.controls
    return {c.name: ends(declared, c)[0] for c in controls if c.heavy and c.name in COUNTS}


def make(name: str) -> Explorer:
    return catalogue.explorers()[name](**quick(name))


@pytest.fixture(scope="module", params=EXPLORERS)
def explorer(request) -> Explorer:
    made = make(request.param)
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


def cheaper_ends(explorer: Explorer, control) -> list:
    """Of a heavy slider only the end that takes less; of a heavy list the first and the middle."""
    values = ends(explorer, control)
    if not control.heavy or isinstance(control, Toggle):
        return values
    if isinstance(control, Choice):
        return list(dict.fromkeys((values[0], values[len(values) // 2])))
    return values[:1]


def test_first_picture_stands(home):
    look_at(home, "at the defaults")
    assert home.status["state"] == "done", home.status["text"]


def test_no_two_points_of_a_trace_share_an_id(home):
    """plotly joins points by their ids: of two with the same only one has a marker."""
    for plot in home.declaration.plots:
        for trace in go.Figure(home.view.figure(plot.name)).data:
            assert trace.ids is None or len(set(trace.ids)) == len(trace.ids), plot.name


def test_every_control_moves_to_its_ends(home):
    for control in home.declaration.controls:
        for value in cheaper_ends(home, control):
            home.set(**{control.name: value})
            look_at(home, f"{control.name}={value!r}")
        home.reset()
        assert home.wait(WAIT_S)
    look_at(home, "back at the defaults")


@pytest.mark.sweep
def test_heavy_controls_move_to_their_other_ends(home):
    for control in home.declaration.controls:
        near = cheaper_ends(home, control)
        for value in ends(home, control):
            if value not in near:
                home.reset()
                home.set(**{control.name: value})
                look_at(home, f"{control.name}={value!r}")


def test_at_first_a_page_holds_little(explorer):
    """At most three controls, three readouts and two plots in sight (the hero counts as one)."""
    declared = explorer.declaration
    assert sum(not control.more for control in declared.controls) <= 3
    in_sight = sum(plot.tab == "" for plot in declared.plots) + (declared.hero is not None)
    assert in_sight <= 2
    assert len(explorer.view.readouts) <= 3


def test_its_name_is_where_it_lives(explorer):
    made_by = catalogue.explorers()[explorer.name]
    paper, _, module = explorer.name.partition("_")
    assert made_by.__module__ == f"intuitive.widgets.{paper}.{module}"
    assert catalogue.poster(explorer.name).is_file(), "make lessons takes its poster"


def test_random_events_from_two_threads(explorer):
    report = soak(
        partial(make, explorer.name),
        events=SOAK_EVENTS,
        still=tuple(quick(explorer.name)),
        seed=0,
        memory=False,  # `make soak` measures it
    )
    assert report.ok, report.errors


def forget(paper: str) -> None:
    """Empty the caches of a paper's experiments, so that the next picture is computed."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"intuitive.{paper}.experiments."):
            for member in vars(module).values():
                if hasattr(member, "cache_lock"):  # what cachetools keeps
                    with member.cache_lock:
                        member.cache.clear()


def seen(explorer: Explorer) -> tuple:
    """All that stands in sight, as plain data."""
    plots = [plot.name for plot in explorer.declaration.plots if not plot.tab]
    figures = [go.Figure(explorer.view.figure(name)).to_json() for name in plots]
    status = explorer.status["text"] if explorer.status["state"] == "error" else ""
    return status, explorer.summary, explorer.view.readouts, explorer.picture, *figures


def test_no_switch_of_the_notebook_changes_the_first_picture(home):
    """Nor does what it drew from the global generators, which stay as they were."""
    want, told = seen(home), []
    forget(home.name.partition("_")[0])

    def build():
        with torch.set_grad_enabled(False), torch.inference_mode(), np.errstate(all="raise"):
            again = make(home.name)
            for plot in again.declaration.plots:
                assert go.Figure(again.view.figure(plot.name))
            told.append(seen(again))
            again.close()

    thread = threading.Thread(target=build)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()
        torch.set_default_dtype(torch.float64)
        try:
            thread.start()
            thread.join(WAIT_S)
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == np.random.get_state()[1].tolist()
    assert told == [want]


@pytest.mark.parametrize("name", catalogue.questions())
def test_every_question_is_answered_by_computing(name):
    question = catalogue.questions()[name]()
    assert question.chosen == -1
    verdicts = {question.choose(index)["verdict"] for index in range(len(question._choices))}
    assert verdicts == {"right", "wrong"}
    assert not BADLY_WRITTEN.search(question.feedback["text"]), question.feedback["text"]
    if name in listed():
        assert listed()[name][0] == question.spec["choices"][question.feedback["right"]]
    question.close()
