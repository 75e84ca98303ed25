"""Block selection: records consistent with each other, figures that draw them, the explorer."""

import dataclasses
import threading
import time

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from drawn import bars, on_axis, ranges

from intuitive.common import smollm
from intuitive.common.runtime import Cancelled
from intuitive.msa import reference, shipped_index
from intuitive.msa.experiments.block_selection import SelectionParams, select_in_text
from intuitive.msa.reference import SELECTORS
from intuitive.msa.texts import read_text, synthetic_sample
from intuitive.widgets.msa import block_selection as widget
from intuitive.widgets.msa import styles

PARAMS = SelectionParams(layer=1, block_size=16, n_selected=4)


@pytest.fixture(scope="module")
def sample():
    return synthetic_sample(n=200, seed=0)  # 16 leaves a ragged last block


def change(**settings):
    return dataclasses.replace(PARAMS, **settings)


@pytest.mark.parametrize("query", [0, 70, 199])
def test_selection_is_consistent_with_itself(sample, query):
    result = select_in_text(sample, change(query=query))
    assert result.query == query and result.n_visible == query + 1
    assert result.n_tokens == 200 and result.n_blocks == 13
    for r in range(3):
        ids = {b for b in result.block_idx[query, r].tolist() if b >= 0}
        assert ids == set(np.flatnonzero(result.selected[r, query]))
        assert query // 16 in ids and max(ids) == result.local_block  # local, never the future
        read = {t for b in ids for t in range(16 * b, 16 * b + 16) if t <= query}
        assert read == set(np.flatnonzero(result.tokens_read[r]))
        assert result.n_read[r] == len(read)
        captured = result.token_mass[r][result.tokens_read[r]].sum()
        assert captured == pytest.approx(result.captured["main_max"][r], abs=1e-5)
    assert result.local_visible == query % 16 + 1
    np.testing.assert_allclose(result.token_mass.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(result.block_mass.sum(-1), 1, atol=1e-5)
    assert not result.token_mass[:, query + 1 :].any()
    assert np.isneginf(result.block_scores[:, query // 16 + 1 :]).all()


@pytest.mark.parametrize(
    ("selector", "pool"),
    [
        ("main_max", reference.block_max),
        ("main_mean", reference.block_mean),
        ("block_mean_keys", reference.block_mean),
        ("oracle", lambda x, size: reference.split_blocks(x.clamp(min=0), size, fill=0.0).sum(-1)),
    ],
)
def test_block_scores_pool_the_token_scores_shown(sample, selector, pool):
    result = select_in_text(sample, change(query=150, selector=selector))
    pooled = pool(torch.from_numpy(result.token_scores.copy()), 16).numpy()
    seen = slice(0, 150 // 16 + 1)
    np.testing.assert_allclose(pooled[:, seen], result.block_scores[:, seen], atol=1e-5)


def test_the_oracle_captures_most_and_all_at_full_budget(sample):
    tight = select_in_text(sample, change(query=180, n_selected=3))
    for name, captured in tight.captured.items():
        assert (captured <= tight.captured["oracle"] + 1e-6).all(), name
        assert (tight.captured_mean[name] <= tight.captured_mean["oracle"] + 1e-6).all(), name
    assert tight.n_choosing == 200 - 3 * 16
    full = select_in_text(sample, change(query=180, n_selected=13))
    assert full.n_choosing == 0
    assert (full.n_read == 181).all()
    for name, captured in full.captured.items():
        np.testing.assert_allclose(captured, 1, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(full.captured_mean[name], 1, atol=1e-5, err_msg=name)


def test_overlap_and_recall(sample):
    result = select_in_text(sample, change(query=199))
    np.testing.assert_allclose(np.diag(result.overlap), 1)
    np.testing.assert_allclose(result.overlap, result.overlap.T)
    sets = [set(row.tolist()) for row in result.block_idx[199]]
    assert result.overlap[0, 1] == pytest.approx(len(sets[0] & sets[1]) / 4)
    oracle = select_in_text(sample, change(query=199, selector="oracle"))
    np.testing.assert_allclose(oracle.block_recall, 1)
    best = set(oracle.block_idx[199, 2].tolist())
    assert result.block_recall[2] == pytest.approx(len(best & sets[2]) / 4)


def test_switching_the_local_block_off_lets_it_go(sample):
    """A sink-and-window budget of one block is block 0, unless the local block is forced."""
    settings = {"query": 199, "selector": "window_sink", "n_selected": 1}
    assert select_in_text(sample, change(n_local=0, **settings)).block_idx[199, 0, 0] == 0
    assert select_in_text(sample, change(n_local=1, **settings)).block_idx[199, 0, 0] == 12


def test_only_a_new_layer_or_block_size_scores_again(monkeypatch):
    fresh = synthetic_sample(n=120, seed=42)
    calls = []
    score = reference.selector_scores
    monkeypatch.setattr(
        reference, "selector_scores", lambda *a, **k: calls.append(a[0]) or score(*a, **k)
    )
    select_in_text(fresh, change())
    assert calls == list(reference.SELECTORS)
    for quick in ({"query": 5}, {"n_selected": 2}, {"selector": "oracle"}, {"group": 2}):
        select_in_text(fresh, change(**quick))
    assert len(calls) == 5
    select_in_text(fresh, change(block_size=32))
    select_in_text(fresh, change(layer=0))
    assert len(calls) == 15


def test_stale_work_is_cancelled_and_can_be_repeated():
    fresh = synthetic_sample(n=80, seed=43)
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        select_in_text(fresh, change(), stale=lambda: next(answers))
    assert select_in_text(fresh, change()).n_tokens == 80


def test_results_cannot_be_changed(sample):
    result = select_in_text(sample, PARAMS)
    with pytest.raises(ValueError, match="read-only"):
        result.token_mass[0, 0] = 1
    again = select_in_text(sample, PARAMS)
    np.testing.assert_array_equal(result.block_idx, again.block_idx)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 2}, "layer=2 must lie from 0 to 1: there are 2 layers"),
        ({"group": 3}, "group=3 must lie from 0 to 2"),
        ({"query": 200}, "query=200 must lie from 0 to 199, or be -1 for the last"),
        ({"selector": "best"}, "selector='best' is unknown; choose one of oracle"),
        ({"n_selected": 0}, "n_selected=0 must be at least 1"),
        ({"n_selected": 1, "n_init": 1}, "force more blocks than n_selected=1"),
    ],
)
def test_settings_that_do_not_fit(sample, settings, message):
    with pytest.raises(ValueError, match=message):
        select_in_text(sample, change(**settings))


def test_settings_survive_as_text():
    params = change(query=7, selector="oracle")
    assert type(params).from_text(params.to_text()) == params
    assert type(params).from_text("") == type(params)()


def test_settings_text_says_what_is_wrong():
    assert SelectionParams.from_text("layer=3").layer == 3
    with pytest.raises(ValueError, match="'depth=3' is no setting: write name=value with one of"):
        SelectionParams.from_text("depth=3")
    with pytest.raises(ValueError, match="layer=x is not of type int: write for instance layer=10"):
        SelectionParams.from_text("layer=x")


@pytest.mark.model
def test_real_attention_is_kept_by_max_pooling_and_lost_by_mean_pooling():
    """Measured on this model: max pooling stays near the oracle, mean pooling loses the sink."""
    from intuitive.common import corpus
    from intuitive.common.smollm import load_smollm2

    sample = read_text(corpus.DEFAULT_TEXT, model=load_smollm2(), max_tokens=512)
    captured = select_in_text(sample, SelectionParams(layer=10, n_selected=4)).captured_mean
    mean = {name: float(share.mean()) for name, share in captured.items()}
    assert mean["oracle"] >= mean["main_max"] > mean["oracle"] - 0.05
    assert mean["main_mean"] < mean["main_max"] - 0.1
    assert mean["window_sink"] < mean["main_max"] - 0.05


# ------------------------------------------------------------------------------------- figures


SAMPLE = synthetic_sample(n=320, seed=0)  # no model needed


SETTINGS = {
    "common": {},
    "other query": {"query": 77},
    "first token": {"query": 0},
    "few blocks": {"n_selected": 1, "block_size": 64},
    "all blocks": {"n_selected": 16},
    "nothing forced": {"n_local": 0, "query": 250, "layer": 0},
    "oracle": {"selector": "oracle"},
    "window": {"selector": "window_sink", "n_selected": 3},
    "mean": {"selector": "main_mean", "group": 2},
}


settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


def select(**changes):
    params = {"layer": 1, "query": 300, "block_size": 32, "n_selected": 4} | changes
    return select_in_text(SAMPLE, SelectionParams(**params))


@settings
def test_blue_bars_are_the_blocks_read(setting):
    result = select(**setting)
    figure = go.Figure(widget.scores_figure(result))
    for group in range(3):
        drawn = bars(figure, group)
        assert sorted(drawn) == list(range(result.local_block + 1))
        read = {b for b, (colour, _) in drawn.items() if colour in (styles.READ, styles.LOCAL)}
        assert read == set(result.block_idx[result.query, group].tolist()) - {-1}
        green = {b for b, (colour, _) in drawn.items() if colour == styles.LOCAL}
        assert green == read & {result.local_block}


def test_a_bar_ends_at_the_largest_score_of_its_block():
    result = select(selector="main_max")
    figure = go.Figure(widget.scores_figure(result))
    for group in range(3):
        (line,) = (trace for trace in on_axis(figure, group) if trace.type == "scatter")
        assert len(line.y) == result.n_visible and max(line.y) == 0
        for block, (_, top) in bars(figure, group).items():
            inside = line.y[block * 32 : (block + 1) * 32]
            assert top == pytest.approx(max(inside), abs=1e-5)


def test_a_window_that_scores_no_token_shows_the_attention_itself():
    result = select(selector="window_sink")
    figure = go.Figure(widget.scores_figure(result))
    (line,) = (trace for trace in on_axis(figure, 0) if trace.type == "scatter")
    mass = result.token_mass[0, : result.n_visible]
    expected = np.clip(np.log(mass / mass.max()), widget.LOWEST, widget.HIGHEST)
    np.testing.assert_allclose(line.y, expected, atol=1e-5)


@settings
def test_map_shows_what_every_query_reads(setting):
    result = select(**setting)
    figure = go.Figure(widget.map_figure(result))
    for group, trace in enumerate(figure.data):
        for row, kinds in enumerate(trace.z):
            query = trace.y0 + row * trace.dy
            read = set(result.block_idx[query, group].tolist()) - {-1}
            assert set(np.flatnonzero(kinds == 2)) == read
            seen = query // result.params.block_size + 1
            assert (kinds[:seen] > 0).all() and (kinds[seen:] == 0).all()


def test_long_texts_are_drawn_with_every_other_query():
    sample = synthetic_sample(n=600, n_layers=1)
    result = select_in_text(sample, SelectionParams(layer=0))
    (trace, *_) = (go.Figure(widget.map_figure(result))).data
    assert len(trace.z) <= widget.MAP_ROWS
    assert trace.y0 + (len(trace.z) - 1) * trace.dy < 600


@settings
def test_both_plots_mark_the_query(setting):
    result = select(**setting)
    for figure, end in (
        (go.Figure(widget.scores_figure(result)), "x0"),
        (go.Figure(widget.map_figure(result)), "y0"),
    ):
        assert [shape[end] for shape in figure.layout.shapes] == [result.query] * 3


@settings
def test_captured_bars_are_means_and_diamonds_this_query(setting):
    result = select(**setting)
    bar, diamonds = go.Figure(widget.captured_figure(result)).data
    group = result.params.group
    by_name = {text: name for name, text in styles.SELECTOR_NAMES.items()}
    names = [by_name[label.removeprefix("<b>").removesuffix("</b>")] for label in bar.y]
    assert set(names) == set(result.captured) and tuple(diamonds.y) == tuple(bar.y)
    assert list(bar.x) == [float(result.captured_mean[name][group]) for name in names]
    assert list(diamonds.x) == [float(result.captured[name][group]) for name in names]
    bold = [name for name, label in zip(names, bar.y, strict=True) if label.startswith("<b>")]
    assert bold == [result.params.selector]
    best = names.index("oracle")  # no other choice of as many blocks can hold more
    assert max(bar.x) <= bar.x[best] + 1e-6 and max(diamonds.x) <= diamonds.x[best] + 1e-6


@pytest.mark.parametrize(
    "draw",
    [
        widget.scores_figure,
        widget.map_figure,
        widget.captured_figure,
    ],
)
def test_selection_axes_stand_still(draw):
    assert all(limits is not None for limits in ranges(draw(select())).values()) or (
        draw is widget.captured_figure  # its y axis holds names
    )
    moves = (
        *({"query": q} for q in (0, 40, 319)),
        *({"n_selected": k} for k in (1, 16)),
        *({"layer": 0}, {"group": 2}, {"n_local": 3}, {"n_init": 1}),
        *({"selector": name} for name in SELECTORS),
    )
    still = ranges(draw(select()))
    for move in moves:
        assert ranges(draw(select(**move))) == still, move


def test_figures_do_not_change_their_records():
    result = select()
    before = {
        field.name: np.copy(value)
        for field in dataclasses.fields(result)
        if isinstance(value := getattr(result, field.name), np.ndarray)
    }
    for draw in (widget.scores_figure, widget.map_figure, widget.captured_figure):
        draw(result)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(result, name), value)


# ---------------------------------------------------------------------- the view and the explorer


def selection(**changes):
    params = {"layer": 1, "query": 300, "n_selected": 4, "group": 1} | changes
    return select_in_text(synthetic_sample(), SelectionParams(**params))


@pytest.mark.parametrize("selector", SELECTORS)
def test_selection_view_says_what_the_result_says(selector):
    result = selection(selector=selector)
    view = widget.present(result)
    captured = result.captured[selector][1]
    assert f"captures {captured:.2f} of the attention mass" in view.summary
    assert f"captures {result.captured['oracle'][1]:.2f}, the window " in view.summary
    assert f"reads {result.n_read[1]} of 301 visible tokens" in view.summary
    said = {readout.label: readout.value for readout in view.readouts}
    assert said["mass captured"] == f"{captured:.3f}"
    assert said["tokens read"] == f"{result.n_read[1]} of 301"
    assert said["block recall"] == f"{result.block_recall[1]:.2f}"
    rows = {row[0]: row[1:] for row in view.table.rows}
    assert set(rows["tokens visible in the local block"][:3]) == {f"{300 % 32 + 1} of 32"}
    overlap = (result.overlap[1, 0] + result.overlap[1, 2]) / 2
    assert rows["blocks shared with other groups"][1] == f"{overlap:.3f}"
    expected = [*result.captured[selector], *result.captured_mean[selector]]
    assert list(rows[styles.SELECTOR_NAMES[selector]]) == [f"{share:.3f}" for share in expected]


def test_marked_tokens_are_the_tokens_read():
    result = selection()
    marks = np.frombuffer(widget.present(result).tokens.marks, np.uint8)
    kinds = [name for name, _ in widget.TOKEN_CLASSES]
    assert kinds[marks[300]] == "here"
    assert all(kinds[mark] == "future" for mark in marks[301:])
    for token in range(300):
        expected = "skipped"
        if result.tokens_read[1, token]:
            expected = "local" if token // 32 == 300 // 32 else "read"
        assert kinds[marks[token]] == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_selected": 1, "n_local": 2, "n_init": 1}, "Blocks read, k"),
        ({"n_selected": 99, "block_size": 33}, "Block size is one of 16, 32, 64, 128, got 33"),
        ({"selector": "best"}, "Selector is one of"),
        ({"query": None}, "Query position takes a number, got None"),
        ({"n_selected": 0}, "Blocks read, k = 0"),
    ],
    ids=["more forced than read", "block size", "selector", "query", "no blocks"],
)
def test_bad_settings_are_refused_in_words(values, words, opened, no_model, settle):
    explorer = opened(widget.explorer)
    picture = explorer.view.figure("map")["data"][0]["z"].tolist()
    summary = explorer.summary
    explorer.set_state({"values": {**explorer.values, **values}})
    assert explorer.wait(30)
    assert explorer.status["state"] == "error" and words in explorer.status["text"]
    assert (
        explorer.view.figure("map")["data"][0]["z"].tolist() == picture
        and explorer.summary == summary
    )
    settle(explorer, **{name: explorer.defaults[name] for name in values})
    assert explorer.status["state"] == "done"


def test_a_click_on_the_map_sets_the_query(opened, no_model):
    explorer = opened(widget.explorer)
    event = {"curve": 0, "x": 3, "y": 211.0, "point": [1, 2]}
    explorer._on_message(explorer, {"type": "click", "plot": "map", "event": event}, None)
    assert explorer.wait(30)
    assert explorer.values["query"] == 211 and "token 211 " in explorer.summary


def test_without_the_model_made_up_heads_are_shown(opened, no_model):
    explorer = opened(widget.explorer)
    assert explorer.status["state"] == "done"
    assert explorer.summary.startswith("These queries and keys are made up: the language model")
    sample = synthetic_sample()
    assert explorer.bounds["layer"] == [0, sample.n_layers - 1]
    assert explorer.bounds["query"] == [0, sample.n_tokens - 1]
    assert explorer.values["layer"] < sample.n_layers  # brought into range
    assert explorer.values["query"] < sample.n_tokens


def test_without_the_model_own_text_says_how_to_get_it(opened, no_model, settle):
    explorer = opened(widget.explorer)
    summary = explorer.summary
    settle(explorer, text=20 * PROSE)
    assert explorer.status["state"] == "error"
    assert explorer.status["text"] == smollm.MISSING_MODEL_SENTENCE
    assert explorer.summary == summary
    settle(explorer, text="")
    assert explorer.status["state"] == "done"


@pytest.mark.parametrize(
    ("token", "name"),
    [(" Alice", "'Alice'"), ("\n", "a line break"), (" ", "a space"), ("\n\n ", "white space")],
)
def test_white_space_has_a_name_in_sentences(token, name):
    assert styles.token_name(token) == name


PROSE = "The March Hare took the watch and looked at it gloomily: then he dipped it into his tea. "


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
def test_odd_texts_get_a_sentence(text, words, opened, settle):
    explorer = opened(widget.explorer)
    summary = explorer.summary
    settle(explorer, text=text)
    assert explorer.status["state"] == "error" and words in explorer.status["text"]
    assert explorer.summary == summary  # the old picture stays


@pytest.mark.model
def test_a_long_text_is_cut_and_says_so(opened, settle):
    explorer = opened(widget.explorer)
    shown = []
    explorer.observe(lambda change: shown.append(change["new"]), "status")
    settle(explorer, text=200 * PROSE)
    assert explorer.summary.startswith("Only the first 1,024 tokens of the text are used. Layer")
    working = [status for status in shown if status["state"] == "computing"]
    assert any(status["text"].startswith("Read by layer") for status in working)
    fractions = [status["fraction"] for status in working if status["fraction"] is not None]
    assert fractions == sorted(fractions) and 0 <= fractions[0] <= fractions[-1] <= 1


@pytest.mark.model
def test_a_text_shorter_than_the_query_brings_the_query_back(opened, settle):
    explorer = opened(widget.explorer)
    settle(explorer, text=5 * PROSE)
    n = explorer.result.n_tokens
    assert 64 <= n < 681 and explorer.values["query"] == n - 1
    assert explorer.bounds["query"] == [0, n - 1]
    assert "".join(explorer.token_texts) == 5 * PROSE
    settle(explorer, query=70)
    assert explorer.result.query == 70


@pytest.mark.model
def test_cancel_while_a_text_is_read_returns_the_controls(opened):
    explorer = opened(widget.explorer)
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


@pytest.mark.model
def test_block_selection_offers_the_trained_index_that_is_shipped():
    assert shipped_index() is not None
    explorer = widget.explorer(selector="trained_index", layer=10)
    assert explorer.status["state"] == "done", explorer.status
    captured = explorer.result.captured_mean
    assert captured["trained_index"].mean() > captured["window_sink"].mean() + 0.05
    assert (captured["trained_index"] <= captured["oracle"] + 1e-6).all()
    explorer.close()


def test_shown_code_makes_the_result_again():
    result = selection()
    code = widget.present(result).code
    assert SelectionParams.from_text(result.params.to_text()) == result.params
    assert result.params.to_text() in code
    compile(code, "shown code", "exec")


@pytest.mark.model
def test_the_prediction_is_judged_by_what_the_blocks_hold():
    right, sentence = widget.PREDICT.answer()
    held = widget.experiment.run(widget.experiment.FIRST).captured["main_max"][1]
    assert held > 0.75 and widget.PREDICT.choices[right] == "nearly all"
    assert f"hold {100 * held:.0f}%" in sentence
