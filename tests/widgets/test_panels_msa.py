"""The MSA explorers without a browser: they say what their results say, and last values win."""

import json
import threading
import time
from functools import partial

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.common import smollm
from intuitive.common.runtime import Cancelled, Measurement
from intuitive.msa import experiment
from intuitive.msa.experiment import CostParams, Measured, NeedleParams, SelectionParams
from intuitive.msa.measured import kernel_times
from intuitive.msa.reference import SELECTORS
from intuitive.widgets import panels
from intuitive.widgets.figures import msa as figures
from intuitive.widgets.kit.soak import soak
from intuitive.widgets.panels import msa as msa_panels

MIB = 2**20
SOAK_EVENTS = 200  # per explorer; `make soak` fires 2,000
PROSE = "The March Hare took the watch and looked at it gloomily: then he dipped it into his tea. "


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


@pytest.fixture
def no_model(monkeypatch):
    """As on a machine without the model file."""

    def load(*_, **__):
        raise smollm.ModelMissing(smollm.MISSING_MODEL_SENTENCE)

    monkeypatch.setattr(smollm, "find_model", lambda: None)
    monkeypatch.setattr(smollm, "load_smollm2", load)


@pytest.fixture
def opened():
    """Makes explorers, and closes them after the test."""
    made = []

    def make(maker, **values):
        made.append(maker(**values))
        return made[-1]

    yield make
    for explorer in made:
        explorer.close()


def settle(explorer, **values):
    explorer.set(**values)
    assert explorer.wait(30)
    return explorer


def drawn(explorer, plot):
    return explorer.view.figures[plot].to_dict()


# ----------------------------------------------------------------------------- what is presented


def selection(**changes):
    params = {"layer": 1, "query": 300, "n_selected": 4, "group": 1} | changes
    return experiment.select_in_text(experiment.synthetic_sample(), SelectionParams(**params))


@pytest.mark.parametrize("selector", SELECTORS)
def test_selection_view_says_what_the_result_says(selector):
    result = selection(selector=selector)
    view = msa_panels.present_selection(result)
    captured = result.captured[selector][1]
    assert f"captures {captured:.2f} of the attention mass" in view.summary
    assert f"captures {result.captured['oracle'][1]:.2f}, the window " in view.summary
    assert f"reads {result.n_read[1]} of 301 visible tokens" in view.summary
    said = {readout.label: readout.value for readout in view.readouts}
    assert said["mass captured"] == f"{captured:.3f}"
    assert said["tokens read"] == f"{result.n_read[1]} of 301"
    assert said["local block"] == f"{300 % 32 + 1} of 32 visible"
    rows = {row[0]: row[1:] for row in view.table.rows}
    assert len(rows) == len(result.captured)
    expected = [*result.captured[selector], *result.captured_mean[selector]]
    assert list(rows[figures.SELECTOR_NAMES[selector]]) == [f"{share:.3f}" for share in expected]


def test_marked_tokens_are_the_tokens_read():
    result = selection()
    marks = np.frombuffer(msa_panels.present_selection(result).tokens.marks, np.uint8)
    kinds = [name for name, _ in msa_panels.TOKEN_CLASSES]
    assert kinds[marks[300]] == "here"
    assert all(kinds[mark] == "future" for mark in marks[301:])
    for token in range(300):
        expected = "skipped"
        if result.tokens_read[1, token]:
            expected = "local" if token // 32 == 300 // 32 else "read"
        assert kinds[marks[token]] == expected


def test_shown_code_makes_the_result_again():
    result = selection()
    view = msa_panels.present_selection(result)
    assert result.params.to_text() in view.code
    assert SelectionParams.from_text(result.params.to_text()) == result.params
    compile(view.code, "shown code", "exec")
    namespace = {}
    exec(msa_panels.present_needle(experiment.needle(NeedleParams())).code, namespace)
    assert namespace["result"].found_by_max and not namespace["result"].found_by_mean


def test_cost_view_says_what_the_result_says():
    view = msa_panels.present_costs(
        msa_panels.Costs(
            curves=experiment.cost_curves(CostParams(context=2**20)), recorded=kernel_times()
        )
    )
    said = {readout.label: readout.value for readout in view.readouts}
    assert said["FLOPs, dense ÷ MSA"] == "28.4×"  # the paper's figure at a million tokens
    assert said["decode bytes, dense ÷ MSA"] == "7.88×"
    assert said["cache"] == "+12.5%"
    assert "28.4 times less" in view.summary and "(ceiling 32)" in view.summary
    assert "(ceiling 8)" in view.summary and "89% of its FLOPs" in view.summary


@pytest.mark.parametrize(("strength", "word"), [(8.0, "finds"), (0.0, "loses")])
def test_needle_view_says_what_the_result_says(strength, word):
    result = experiment.needle(NeedleParams(strength=strength))
    assert result.found_by_max == (word == "finds") and not result.found_by_mean
    view = msa_panels.present_needle(result)
    assert view.summary.startswith(f"A needle of score {strength:g}: reading 4 blocks of 32")
    assert f"max pooling {word} it (its block ranks {result.rank_max})" in view.summary
    assert f"mean pooling loses it (rank {result.rank_mean} of 32)" in view.summary


@pytest.mark.parametrize(
    ("token", "name"),
    [(" Alice", "'Alice'"), ("\n", "a line break"), (" ", "a space"), ("\n\n ", "white space")],
)
def test_white_space_has_a_name_in_sentences(token, name):
    assert msa_panels.token_name(token) == name


def test_first_picture_names_the_block_with_most_attention():
    result = selection()
    view = msa_panels.present_look(result)
    best = int(result.block_mass[1].argmax())
    assert f"{result.block_mass[1, best]:.0%} of its attention" in view.summary
    assert f"begins {300 - 32 * best} tokens earlier" in view.summary
    kinds = [name for name, _ in msa_panels.LOOK_CLASSES]
    shown = {kind: [] for kind in kinds}
    for text, mark in zip(view.tokens.texts, view.tokens.marks, strict=True):
        shown[kinds[mark]].append(text)
    assert shown["read"] == list(result.tokens[32 * best : 32 * (best + 1)])
    assert shown["here"] == [result.tokens[300]]
    assert shown["future"] and shown["future"][0] == result.tokens[301]


# ------------------------------------------------------------------------- moved by their readers

MOVES = {
    "msa_needle": ("strength", (3.0, 7.5, 1.0)),
    "msa_where_it_looks": ("group", (0, 2)),
    "msa_block_selection": ("query", (10, 200, 471)),
    "msa_what_it_costs": ("context", (4096, 65536)),
    "msa_conversion": ("n_selected", (2, 16)),
    "msa_loop_orders": ("percent", (0, 63, 100)),
    "msa_training_replay": ("step", (0, 30, 300)),
}


def test_every_explorer_is_moved_here():
    own = {name for name in panels.EXPLORERS if name.startswith("msa_")}
    assert {*MOVES, "msa_continuation"} == own  # that one needs the model


@pytest.mark.parametrize("from_thread", [False, True], ids=["main thread", "other thread"])
@pytest.mark.parametrize("name", MOVES)
def test_browser_events_change_picture_and_summary(name, from_thread, opened, no_model):
    explorer = opened(panels.EXPLORERS[name])
    control, values = MOVES[name]
    first, summary = explorer.view.figures, explorer.summary

    def fire():
        for value in values:
            explorer.set_state({"values": {**explorer.values, control: value}})

    if from_thread:
        thread = threading.Thread(target=fire)
        thread.start()
        thread.join()
    else:
        fire()
    assert explorer.wait(30)
    assert explorer.status["state"] == "done" and explorer.status["values"] == explorer.values
    assert explorer.values[control] == values[-1]
    assert explorer.summary != summary
    for plot in explorer.declaration.plots:
        sent = getattr(explorer, f"figure_{plot.name}")
        assert sent == explorer.view.figures[plot.name].to_dict()
    assert any(explorer.view.figures[n].to_dict() != f.to_dict() for n, f in first.items())


@pytest.mark.parametrize("name", MOVES)
def test_first_settings_are_admissible_and_stable(name, opened, no_model):
    one, other = opened(panels.EXPLORERS[name]), opened(panels.EXPLORERS[name])
    assert one.status["state"] == "done"
    assert one.summary == other.summary  # nbval compares it


@pytest.mark.parametrize("name", MOVES)
def test_plotly_would_leave_every_figure_as_it_is(name, opened, no_model):
    """So figures of a make seen before go without plotly's check."""
    explorer = opened(panels.EXPLORERS[name])
    for figure in explorer._present(explorer.result).figures.values():
        sent = json.loads(figure.to_json())
        assert json.loads(go.Figure(sent).to_json()) == sent


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_selected": 1, "n_local": 2, "n_init": 1}, "n_selected"),
        ({"n_selected": 99, "block_size": 33}, "Block size is one of 16, 32, 64, 128, got 33"),
        ({"selector": "best"}, "Selector is one of"),
        ({"query": None}, "Query position takes a number, got None"),
        ({"n_selected": 0}, "n_selected=0"),
    ],
    ids=["more forced than read", "block size", "selector", "query", "no blocks"],
)
def test_bad_settings_are_refused_in_words(values, words, opened, no_model):
    explorer = opened(panels.block_selection)
    picture, summary = drawn(explorer, "map"), explorer.summary
    explorer.set_state({"values": {**explorer.values, **values}})
    assert explorer.wait(30)
    assert explorer.status["state"] == "error" and words in explorer.status["text"]
    assert drawn(explorer, "map") == picture and explorer.summary == summary
    settle(explorer, **{name: explorer.defaults[name] for name in values})
    assert explorer.status["state"] == "done"


def test_a_click_on_the_map_sets_the_query(opened, no_model):
    explorer = opened(panels.block_selection)
    event = {"curve": 0, "x": 3, "y": 211.0, "point": [1, 2]}
    explorer._on_message(explorer, {"type": "click", "plot": "map", "event": event}, None)
    assert explorer.wait(30)
    assert explorer.values["query"] == 211 and "token 211 " in explorer.summary


# -------------------------------------------------------------------------- without the model file


def test_without_the_model_made_up_heads_are_shown(opened, no_model):
    explorer = opened(panels.block_selection)
    assert explorer.status["state"] == "done"
    assert explorer.summary.startswith("These queries and keys are made up: the language model")
    sample = experiment.synthetic_sample()
    assert explorer.bounds["layer"] == [0, sample.n_layers - 1]
    assert explorer.bounds["query"] == [0, sample.n_tokens - 1]
    assert explorer.values["layer"] < sample.n_layers  # brought into range
    assert explorer.values["query"] < sample.n_tokens


def test_without_the_model_own_text_says_how_to_get_it(opened, no_model):
    explorer = opened(panels.block_selection)
    summary = explorer.summary
    settle(explorer, text=20 * PROSE)
    assert explorer.status["state"] == "error"
    assert explorer.status["text"] == smollm.MISSING_MODEL_SENTENCE
    assert explorer.summary == summary
    settle(explorer, text="")
    assert explorer.status["state"] == "done"


# ------------------------------------------------------------------------------------- own text


@pytest.mark.model
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Too short.", "The text has 3 tokens; at least 64 are needed"),
        (" \n\t ", "The text is empty: paste a page or so"),
        ("PK\x00\x01" * 200, "holds NUL characters, as binary files do"),
        (PROSE + "\ud83d", "half of a surrogate pair"),
    ],
    ids=["short", "blank", "binary", "surrogate"],
)
def test_odd_texts_get_a_sentence(text, words, opened):
    explorer = opened(panels.block_selection)
    summary = explorer.summary
    settle(explorer, text=text)
    assert explorer.status["state"] == "error" and words in explorer.status["text"]
    assert explorer.summary == summary  # the old picture stays


@pytest.mark.model
def test_a_long_text_is_cut_and_says_so(opened):
    explorer = opened(panels.block_selection)
    shown = []
    explorer.observe(lambda change: shown.append(change["new"]), "status")
    settle(explorer, text=200 * PROSE)
    assert explorer.summary.startswith("Only the first 1,024 tokens of the text are used. Layer")
    working = [status for status in shown if status["state"] == "computing"]
    assert any(status["text"].startswith("Read by layer") for status in working)
    fractions = [status["fraction"] for status in working if status["fraction"] is not None]
    assert fractions == sorted(fractions) and 0 <= fractions[0] <= fractions[-1] <= 1


@pytest.mark.model
def test_a_text_shorter_than_the_query_brings_the_query_back(opened):
    explorer = opened(panels.block_selection)
    settle(explorer, text=5 * PROSE)
    n = explorer.result.n_tokens
    assert 64 <= n < 681 and explorer.values["query"] == n - 1
    assert explorer.bounds["query"] == [0, n - 1]
    assert "".join(explorer.token_texts) == 5 * PROSE
    settle(explorer, query=70)
    assert explorer.result.query == 70


@pytest.mark.model
def test_cancel_while_a_text_is_read_returns_the_controls(opened):
    explorer = opened(panels.block_selection)
    summary = explorer.summary
    reading = threading.Event()

    def notice(change):
        if change["new"]["text"].startswith("Read by layer"):
            reading.set()

    explorer.observe(notice, "status")
    explorer.set(text="Cancelled. " + 200 * PROSE)
    assert reading.wait(30)
    started = time.monotonic()
    explorer._on_message(explorer, {"type": "cancel"}, None)
    assert explorer.wait(30)
    assert time.monotonic() - started < 5  # a layer, not a whole text
    assert explorer.values["text"] == "" and explorer.summary == summary
    assert explorer.status["text"].startswith("Cancelled")


# ------------------------------------------------------------------------------- measuring here


def spec_of(explorer, control):
    return next(spec for spec in explorer.spec["controls"] if spec["name"] == control)


def test_measuring_needs_cuda_and_says_so(opened, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    explorer = opened(panels.what_it_costs)
    reason = spec_of(explorer, "measure")["disabled"]
    assert reason == "Needs a CUDA device; this machine has none."
    summary = explorer.summary
    settle(explorer, measure=1)  # from code the button can be pressed all the same
    assert explorer.status["state"] == "error"
    assert explorer.status["text"].startswith("Measuring needs a CUDA device")
    assert explorer.summary == summary
    settle(explorer, context=8192)  # the press has been answered: sliders work again
    assert explorer.status["state"] == "done"


def fake_measurement(config, context, *, stale, progress):
    progress(0.5, "Measuring dense prefill")
    once = partial(
        Measurement, fastest_ms=1.0, slowest_ms=9.0, repeats=1, peak_bytes=3 * MIB, device="a GPU"
    )
    times = {"dense": 12.0, "select": 1.0, "attend": 3.0}
    parts = {
        f"{step}_{phase}": once(median_ms=ms)
        for step, ms in times.items()
        for phase in ("prefill", "decode")
    }
    return Measured(config=config, context=context, n_queries=8, device="a GPU", **parts)


def test_a_press_measures_once(opened, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    calls = []

    def counted(config, context, **rest):
        calls.append(context)
        return fake_measurement(config, context, **rest)

    monkeypatch.setattr(experiment, "measure_here", counted)
    explorer = opened(panels.what_it_costs)
    assert spec_of(explorer, "measure")["disabled"] == ""
    settle(explorer, context=65536)
    assert calls == []
    settle(explorer, measure=1)
    said = {readout.label: readout.value for readout in explorer.view.readouts}
    assert said["measured at 65,536"] == "prefill 3.0×, decode 3.0×"
    assert ("3", "3", "3") in [tuple(row[1].split("; ")) for row in explorer.view.table.rows]
    settle(explorer, context=8192)
    settle(explorer, measure=2)
    assert calls == [65536, 8192]
    assert len(explorer.result.measured) == 2
    settle(explorer, n_selected=8)  # another layer: these times are not its own
    assert explorer.result.measured == () and calls == [65536, 8192]


def test_a_failed_measurement_leaves_the_curves(opened, monkeypatch):
    def fail(config, context, **_):
        raise ValueError("context=8192 does not fit this GPU: choose a shorter one.")

    monkeypatch.setattr(experiment, "measure_here", fail)
    explorer = opened(panels.what_it_costs)
    summary = explorer.summary
    settle(explorer, measure=1)
    assert explorer.status["text"] == "context=8192 does not fit this GPU: choose a shorter one."
    assert explorer.summary == summary
    settle(explorer, n_selected=8)
    assert explorer.status["state"] == "done"


def test_a_cancelled_measurement_can_be_asked_for_again():
    meter, request = msa_panels.CostMeter(), partial(msa_panels.CostRequest, params=CostParams())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "measure_here", _cancelled)
        with pytest.raises(Cancelled):
            meter(request(presses=1), stale=lambda: True, progress=lambda *_: None)
        patch.setattr(experiment, "measure_here", fake_measurement)
        costs = meter(request(presses=1), stale=lambda: False, progress=lambda *_: None)
    assert len(costs.measured) == 1


def _cancelled(*_, **__):
    raise Cancelled


# ---------------------------------------------------------------------------------------- stress


@pytest.mark.parametrize("name", panels.EXPLORERS)
def test_random_events_from_two_threads(name):
    report = soak(panels.EXPLORERS[name], events=SOAK_EVENTS, seed=0)
    assert report.ok, f"{report}: {report.errors[:3]}"
    assert report.events == SOAK_EVENTS
    # Caches fill up: 16 tables of block scores and 32 choices of a 1,024-token text, 32 views.
    assert report.grown_bytes < 300 * MIB, str(report)
