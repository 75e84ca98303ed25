"""Words fold into beads: positions and readings are those of the pair, and the hero shows them."""

import dataclasses
import hashlib
import itertools
import re

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from stand_in import StandIn

from intuitive.common.runtime import Cancelled, never
from intuitive.common.smollm import load_smollm2
from intuitive.lclm import cost, effective_ratio, label_mask, smollm
from intuitive.lclm import results as smollm_results
from intuitive.lclm.experiments import beads, reading
from intuitive.lclm.experiments.beads import BeadsParams
from intuitive.lclm.experiments.passages import PASSAGES, Passage
from intuitive.lclm.splice import Raw
from intuitive.widgets.kit import Path, Rectangle, Words
from intuitive.widgets.lclm import beads as widget
from intuitive.widgets.lclm import beads_figures, beads_many
from intuitive.widgets.lclm.beads_layout import HEAD, LEFT, RIGHT, WIDTH
from intuitive.widgets.lclm.beads_scene import Picture, wedge
from intuitive.widgets.lclm.beads_text import letters, shown, wrapped
from intuitive.widgets.lclm.styles import KIND_NAMES

MOST_BYTES = 250_000  # of the timeline on the wire, at the settings of the steps
RATIOS = (4, 8, 16)


@pytest.fixture(scope="module")
def pair():
    return StandIn()


def found_by(pair, text="", **settings):
    return beads.run(BeadsParams(**settings), text=text, pair=pair)


def view_of(pair, text="", **settings):
    page = widget.Page.of(text=text, **settings)
    return widget.present(widget.compute(page, stale=never, progress=print_nothing, pair=pair))


def print_nothing(*_):
    pass


def frame_of(view, stage):
    return next(frame for frame in view.timeline.frames if frame.stage == stage)


def marks_of(frame, prefix):
    return [mark for mark in frame.scene.marks if mark.key.startswith(prefix)]


def text_of(n):
    return " ".join(["word"] * n)


# ------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("n", [1, 3, 4, 15, 16, 17, 64, 65, 255, 256, 257, 511, 512])
@pytest.mark.parametrize("ratio", RATIOS)
def test_without_expand_the_text_is_one_span_with_two_tags(pair, n, ratio):
    found = found_by(pair, text_of(n), ratio=ratio)
    assert found.n_tokens == n
    assert found.effective_ratio == pytest.approx(effective_ratio(n, ratio=ratio))
    assert [cell.kind for cell in found.cells][:: found.n_positions - 1] == ["start", "end"]
    assert [token for group in found.groups for token in group] == list(range(n))


@pytest.mark.parametrize("n", [5, 64, 65, 130, 512])
def test_with_expand_every_chunk_is_a_span_behind_its_number(pair, n):
    found = found_by(pair, text_of(n), ratio=8, expand="1")
    chunks = [min(64, n - at) for at in range(0, n, 64)]
    assert [len(chunk) for chunk in found.chunks] == chunks
    number = len(pair.tokenizer.encode("[1] "))
    opened = len(pair.tokenizer.encode("\n[1] "))
    spans = sum(number + 2 + -(-size // 8) for size in chunks)
    assert found.n_positions == spans + opened + chunks[0]
    raw = [cell.at for cell in found.cells if cell.kind == "raw"]
    assert raw == list(found.chunks[0])


@pytest.mark.parametrize("expand", ["nothing", "2"])
def test_the_pair_is_asked_about_these_very_tokens(expand):
    pair = StandIn()
    found = found_by(pair, passage="letter", ratio=4, expand=expand)
    sizes = [len(chunk) for chunk in found.chunks] if expand == "2" else [found.n_tokens]
    assert [n for what, n in pair.asked if what == "reconstruct"] == sizes
    found_by(pair, passage="letter", ratio=4, expand=expand)
    # each span is encoded, and read; one answer; the second time all is remembered
    assert len(pair.asked) == 2 * len(sizes) + 1


def test_kept_is_the_likeliest_reading_or_raw(pair):
    ids = pair.tokenizer.encode(PASSAGES["letter"].text)
    found = found_by(pair, ratio=16, expand="3")
    spans = [torch.tensor(ids[chunk.start : chunk.stop]) for chunk in found.chunks]
    top = torch.cat([pair.reconstruct(span, 16).top_ids[:, 0] for span in spans])
    right = (top == torch.tensor(ids)).numpy()
    np.testing.assert_array_equal(found.reads_right, right)
    raw = np.isin(np.arange(len(ids)), list(found.chunks[2]))
    np.testing.assert_array_equal(found.kept, right | raw)
    assert found.kept.mean() > right.mean()


def test_the_chunk_that_is_named_comes_back(pair):
    found = found_by(pair, ratio=16, expand="named")
    assert found.named.sum() == pytest.approx(1)
    assert found.expanded == int(found.named.argmax())
    asked = pair.where(
        [torch.tensor(found.ids[c.start : c.stop]) for c in found.chunks],
        found.passage.question,
        16,
    )
    np.testing.assert_allclose(found.named, asked.softmax(-1).numpy(), rtol=1e-5)


def test_an_answer_is_judged_letter_by_letter(pair):
    found = found_by(pair, ratio=16, expand="named")
    secret = found.passage.secret
    for answer, right in (
        ((" " + secret, "."), len(secret)),
        ((secret[:2], "x"), 2),
        (("x",), 0),
        ((secret[:3],), 3),
    ):
        assert dataclasses.replace(found, answer=answer).right_letters == right
    first, last = found.secret_tokens.start, found.secret_tokens.stop
    assert "".join(found.words[first:last]).strip() == secret


@pytest.mark.parametrize("name", PASSAGES)
def test_a_passage_holds_its_secret_and_fits(name, pair):
    passage = PASSAGES[name]
    assert passage.text.count(passage.secret) >= 1
    found = found_by(pair, passage=name, ratio=16)
    assert found.n_tokens <= beads.LONGEST
    assert found.opened == next(
        i for i, group in enumerate(found.groups) if found.secret_tokens.start in group
    )


def test_kinds_of_tokens():
    words = ["He", " met", " Ann", " Lee", ",", " twice", " in", " ", "1", "9", " at", " 7f", "3-"]
    words += ["9a", ".", " Then", " ", "5"]
    kinds = beads.kinds_of(words)
    assert kinds[:7] == ("word", "word", "name", "name", "mark", "word", "word")
    assert kinds[7:11] == ("mark", "number", "number", "word")
    assert kinds[11:14] == ("code", "code", "code")
    assert kinds[14:] == ("mark", "word", "mark", "number")


def test_time_is_that_of_the_fits(pair):
    found = found_by(pair, ratio=16)
    assert found.far_seconds == pytest.approx(cost.ttft_seconds(beads.FAR, ratio=16))
    again = found_by(pair, ratio=16, expand="3")
    assert again.far_seconds == pytest.approx(2 * found.far_seconds)
    assert found.far_raw_seconds > 20 * found.far_seconds


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("  \n ", {}, "the text is empty"),
        (text_of(513), {}, "513 tokens, and 512 fit: shorten it by 1"),
        ("", {"ratio": 6}, "ratio=6 must divide window=256"),
        ("", {"ratio": 2}, "ratio=2 has no trained adapter: this pair folds 4, 8, 16"),
        ("a b c", {"expand": "2"}, "expand=2 names no chunk of this text: it has 1"),
        ("a b c", {"expand": "named"}, "expand=named needs a question"),
    ],
    ids=["blank", "long", "no divisor", "untrained", "no such chunk", "no question"],
)
def test_bad_input_says_what_to_do(pair, text, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        found_by(pair, text, **settings)


def test_bad_settings_are_refused_at_once():
    for settings, message in (
        ({"passage": "bible"}, "passage='bible' is unknown"),
        ({"expand": "9"}, "expand='9' names no chunk; choose nothing, named, or a number from 1"),
        ({"ratio": 0}, "ratio=0 must be at least 1"),
        ({"token": -2}, "token=-2 must be at least -1"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            BeadsParams(**settings)
    with pytest.raises(ValueError, match="source='x' is unknown"):
        widget.Page.of(source="x")


def test_missing_weights_are_said_on_the_page(monkeypatch):
    def absent(_model):
        raise FileNotFoundError("latents.safetensors does not exist: train the pair.")

    monkeypatch.setattr(beads, "load_pair", absent)
    monkeypatch.setattr(beads, "load_smollm2", lambda: None)
    monkeypatch.setattr(beads, "recorded", lambda: None)
    made = widget.explorer()
    assert made.status["state"] == "error"
    assert made.status["text"] == "latents.safetensors does not exist: train the pair."
    made.close()


def test_whoever_no_longer_waits_gets_nothing(pair):
    with pytest.raises(Cancelled):
        beads.run(BeadsParams(), pair=pair, stale=lambda: True)


def test_an_edit_is_folded_at_once_and_costs_its_own_window():
    pair, first = StandIn(), text_of(512)
    found_by(pair, first, ratio=8)
    before, begun = len(pair.asked), []

    def told(_share, _sentence, so_far=None):
        if so_far is not None:
            begun.append(len(pair.asked))

    again = beads.run(BeadsParams(ratio=8), text=first[:-4] + "end", pair=pair, progress=told)
    assert begun[0] == before, "the first picture waits for no model"
    read = [n for what, n in pair.asked[before:] if what == "reconstruct"]
    assert read == [256], "the first window is as it was"
    assert len(again.reading.log_probability) == 512


def test_what_is_known_is_drawn_before_the_rest_comes(pair):
    told = []
    page = widget.Page.of(ratio=16, expand="3")
    whole = widget.compute(page, stale=never, progress=lambda *now: told.append(now), pair=pair)
    folded, read = [shown for _, _, shown in told if shown is not None]
    assert folded.found.reading is None and not read.found.answer
    views = [widget.present(shown) for shown in (folded, read, whole)]
    frames = [view.timeline.frames for view in views]
    assert [some[-1].stage for some in frames] == ["travel", "EXPAND", ""]
    for early, late in itertools.pairwise(frames):
        for one, other in zip(early, late, strict=False):
            assert (one.stage, one.sentence, one.readouts) == (
                other.stage,
                other.sentence,
                other.readouts,
            )
    assert views[2].summary.startswith(views[0].summary)
    for name in ("map", "places", "kinds", "labels"):
        go.Figure(views[0].figure(name))


# ------------------------------------------------------------------------------- the record


@pytest.fixture(scope="module")
def taken(pair):
    recorder = reading.Recorder(pair, "0" * 64)
    recorder.take("letter", 16, reading.NOTHING, "3")
    recorder.take("uuids", 4, reading.NOTHING)
    return reading.Recorded(recorder.record)


def test_a_record_answers_as_the_pair_did(pair, taken):
    live, passage = reading.live(pair), PASSAGES["letter"]
    assert taken.cut(passage) == live.cut(passage)
    for chunked in (False, True):
        ours = taken.reading(passage, 16, chunked=chunked)
        theirs = live.reading(passage, 16, chunked=chunked)
        np.testing.assert_array_equal(ours.top_ids, theirs.top_ids)
        assert ours.top_words == theirs.top_words
        np.testing.assert_allclose(ours.log_probability, theirs.log_probability, atol=6e-4)
        np.testing.assert_allclose(ours.top_probability, theirs.top_probability, atol=6e-4)
    np.testing.assert_allclose(taken.named(passage, 16), live.named(passage, 16), atol=6e-5)
    np.testing.assert_array_equal(taken.guessed(passage), live.guessed(passage))
    for expanded in (None, 2):
        assert taken.answer(passage, 16, expanded) == live.answer(passage, 16, expanded)


def test_only_what_was_recorded_is_taken_from_there(monkeypatch, taken):
    letter, uuids = PASSAGES["letter"], PASSAGES["uuids"]
    assert taken.has(letter, 16, "nothing") and taken.has(letter, 16, "3")
    assert not taken.has(letter, 4, "nothing") and not taken.has(letter, 16, "2")
    assert taken.has(uuids, 4, "nothing") and not taken.has(uuids, 4, "named")
    assert not taken.has(dataclasses.replace(letter, text=letter.text + "!"), 16, "nothing")
    monkeypatch.setattr(beads, "recorded", lambda: taken)
    assert beads.run(BeadsParams(ratio=16)).is_recorded
    other = StandIn(seed=1)
    assert not beads.run(BeadsParams(ratio=16), pair=other).is_recorded
    assert other.asked
    assert not beads.run(BeadsParams(ratio=16), text="Hello.", pair=other).is_recorded


def test_an_edited_passage_is_no_longer_the_recorded_one(monkeypatch, taken):
    edited = {**PASSAGES, "letter": dataclasses.replace(PASSAGES["letter"], question="Why?")}
    monkeypatch.setattr(reading, "PASSAGES", edited)
    again = reading.Recorded(taken.record)
    assert not again.has(edited["letter"], 16, "nothing")
    assert again.has(edited["uuids"], 4, "nothing")


@pytest.mark.model
def test_the_real_pair_is_asked_in_its_own_words():
    pair = smollm.untrained_pair(load_smollm2())
    passage = Passage(
        title="mill",
        text="The pass code of the mill is 4711. It rained all day.",
        question="What is the pass code of the mill?",
        secret="4711",
    )
    live = reading.live(pair)
    cut = live.cut(passage)
    assert "".join(cut.words) == passage.text and len(cut.chunks) == 1
    pieces = smollm.chunk_map(pair.tokenizer, [torch.tensor(cut.ids)], 1)
    raw = [len(piece.tokens) for piece in pieces if isinstance(piece, Raw)]
    assert raw == [cut.n_id, cut.n_opened, len(cut.ids)]
    ours, theirs = live.reading(passage, 4, chunked=False), pair.reconstruct(cut.ids, 4)
    np.testing.assert_array_equal(ours.top_ids, theirs.top_ids.numpy())
    answer = pair.answer(
        [torch.tensor(cut.ids)], passage.question, 4, open_chunk=1, n=reading.N_NEW
    )
    assert "".join(live.answer(passage, 4, 0)).strip() == answer
    assert live.named(passage, 4).tolist() == [1.0]
    assert live.guessed(passage).shape == (len(cut.ids),)


@pytest.mark.model
@pytest.mark.skipif(not smollm.WEIGHTS.is_file(), reason="the pair's weights are not shipped")
def test_a_slice_of_the_record_is_made_again():
    """The committed record is of the shipped weights, and they still read what it says."""
    told = reading.recorded()
    digest = hashlib.sha256(smollm.WEIGHTS.read_bytes()).hexdigest()
    assert told.record.weights == digest, "run benchmarks/lclm_beads.py with these weights"
    passage = PASSAGES["letter"]
    live = reading.Live(smollm.load_pair(load_smollm2()))
    ours, theirs = (who.reading(passage, 16, chunked=False) for who in (told, live))
    np.testing.assert_allclose(ours.top_probability, theirs.top_probability, atol=0.03)
    np.testing.assert_allclose(ours.log_probability, theirs.log_probability, atol=0.1)
    sure = theirs.top_probability[:, 0] - theirs.top_probability[:, 1] > 0.03
    np.testing.assert_array_equal(ours.top_ids[sure, 0], theirs.top_ids[sure, 0])


# ------------------------------------------------------------------------------- the words


def test_words_stand_where_they_fit():
    texts = ("One", " two", " three", "-", "four", "\n   ", "five", " ", "6", " incomprehensible")
    places = wrapped(texts, range(len(texts)), 10)
    assert [(p.text, p.letter, p.line) for p in places] == [
        ("One", 0, 0),
        ("two", 4, 0),
        ("three", 0, 1),
        ("-", 5, 1),
        ("four", 6, 1),
        ("↵", 10, 1),
        ("five", 3, 2),
        ("", 7, 2),
        ("6", 8, 2),
        ("incomprehensible", 0, 3),
    ]
    assert shown("\u200b\x07 a\n") == "a↵" and letters("日本e\u0301") == 5


@pytest.mark.parametrize("name", PASSAGES)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_two_words_of_a_column_lie_over_each_other(name, seed):
    picture = Picture(found_by(StandIn(seed=seed), passage=name, ratio=16))
    for places in (picture.true, picture.read):
        rows = {}
        for p in places:
            rows.setdefault((p.token // 64, p.line), []).append(p)
        for row in rows.values():
            for one, other in itertools.pairwise(row):
                assert one.letter + letters(one.text) <= other.letter


# ------------------------------------------------------------------------------- the hero


def heights(d):
    return [float(v) for v in re.findall(r"v(-?[\d.]+)", d)]


def starts(mark):
    return [tuple(map(float, at)) for at in re.findall(r"M(-?[\d.]+),(-?[\d.]+)", mark.d)]


def cells_of(frame):
    return [at for mark in marks_of(frame, "cells:") for at in starts(mark)]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("expand", ["nothing", "3"])
def test_shortening_is_length(pair, ratio, expand):
    """Both rulers have one pitch: a token's mark, and a position's, take the same room."""
    view = view_of(pair, ratio=ratio, expand=expand)
    found = found_by(pair, ratio=ratio, expand=expand)
    raw, fold, there = (cells_of(frame_of(view, stage)) for stage in ("text", "fold", "travel"))
    n = found.n_tokens
    assert len(raw) == len(fold) == len(there) == n
    pitch = (RIGHT - LEFT) / max(64 * len(found.chunks), len(found.cells) + reading.N_NEW)
    np.testing.assert_allclose(np.diff([x for x, _ in raw]), pitch, atol=0.11)
    places = [i for i, cell in enumerate(found.cells) if cell.kind == "bead"]
    for bead, group in enumerate(found.groups):
        assert len({fold[i] for i in group}) == 1  # N marks lie in one bead
        ((x, _),) = {there[i] for i in group}
        assert x == pytest.approx(LEFT + pitch * places[bead], abs=0.06)


def test_marks_of_one_token_glide_between_any_two_ratios(pair):
    keys = {
        tuple(mark.key for mark in marks_of(frame, "cells:"))
        for ratio in RATIOS
        for frame in view_of(pair, ratio=ratio).timeline.frames
    }
    assert len(keys) == 1


def test_a_pie_shows_what_its_bead_tells_and_what_needs_none(pair):
    view, found = view_of(pair, ratio=16), found_by(pair, ratio=16)
    drawn = marks_of(frame_of(view, "read"), "kept:")
    assert len(drawn) == len(found.groups)
    r = float(re.search(r"A([\d.]+),", drawn[0].d)[1])
    also = marks_of(frame_of(view, "read"), "also:")
    for green, grey, group in zip(drawn, also, found.groups, strict=True):
        right = found.reads_right[group.start : group.stop]
        guessed = found.guessed[group.start : group.stop]
        assert green.d == wedge((right & ~guessed).mean(), r)
        assert grey.d == wedge(right.mean(), r)
    x, y = map(float, re.findall(r"1 (-?[\d.]+),(-?[\d.]+)", wedge(0.5, 10))[-1])
    assert (x, y) == pytest.approx((0, 10))


@pytest.mark.parametrize("stage", ["read", "EXPAND"])
def test_words_are_coloured_by_what_is_left_of_them(pair, stage):
    view, found = view_of(pair, ratio=16, expand="3"), found_by(pair, ratio=16, expand="3")
    for mark in marks_of(frame_of(view, stage), "w:"):
        token = int(mark.key.removeprefix("w:"))
        back = stage == "EXPAND" and token in found.chunks[2]
        right = "ink" if found.guessed[token] else "green"
        want = "gold" if back else right if found.reads_right[token] else "vermilion"
        assert mark.fill == want
        text = found.words[token]
        if not back and not found.reads_right[token]:
            text = found.reading.top_words[token][0]
        assert mark.text in (shown(text), "·")


def test_an_open_bead_shows_three_readings_with_their_probabilities(pair):
    found = found_by(pair, ratio=8, token=43)
    view = view_of(pair, ratio=8, token=43)
    frame = frame_of(view, "read")
    group, widest = found.groups[5], {}
    for place, token in enumerate(group):
        bars = marks_of(frame, f"bar:{place}:")
        p = found.reading.top_probability[token]
        wide = [bar.w for bar in bars]
        assert wide[0] / wide[1] == pytest.approx(p[0] / p[1], rel=1e-3)
        widest[place] = wide[0] / p[0]
        texts = [mark.text for mark in marks_of(frame, f"top:{place}:")]
        for text, word in zip(texts, found.reading.top_words[token], strict=True):
            assert text.split()[0].rstrip("…") in (shown(word) or "·")
    assert max(widest.values()) == pytest.approx(min(widest.values()), rel=1e-3)


def test_a_bead_opens_by_a_click_and_a_chunk_comes_back(pair):
    frame = frame_of(view_of(pair, ratio=16), "read")
    groups = found_by(pair, ratio=16).groups
    clicks = [mark.click for mark in marks_of(frame, "bead:")]
    assert clicks == [{"token": group.start} for group in groups]
    assert frame.scene["box:2"].click == {"expand": "3"}
    frame = frame_of(view_of(pair, ratio=16, expand="3"), "read")
    assert frame.scene["box:2"].click == {"expand": "nothing"}
    assert frame.scene["box:1"].click == {"expand": "2"}


def test_the_bill_goes_up_when_words_come_back(pair):
    view, found = view_of(pair, ratio=16, expand="3"), found_by(pair, ratio=16, expand="3")
    before, after = (
        int(frame_of(view, stage).readouts[0].value.split()[0]) for stage in ("ask", "EXPAND")
    )
    assert after == found.n_positions
    assert after - before == len(found.chunks[2]) + found.cut.n_opened
    ask, back = (starts(frame_of(view, stage).scene["back"]) for stage in ("ask", "EXPAND"))
    assert len(ask) == len(back) == len(found.chunks[2])
    assert frame_of(view, "ask").scene["back"].opacity == 0


def test_nothing_is_read_before_it_is_shown(pair):
    view = view_of(pair, ratio=16, expand="named")
    for stage in ("text", "fold", "travel"):
        frame = frame_of(view, stage)
        assert frame.readouts[1].value == "–"
        assert not marks_of(frame, "kept:") and not marks_of(frame, "top:")
        assert all(mark.fill != "vermilion" for mark in frame.scene.marks)
    assert not marks_of(frame_of(view, "read"), "named:")


@pytest.mark.parametrize("text", ["x", "a b c", text_of(65), text_of(512), "日本語の\n\n\ttext"])
@pytest.mark.parametrize("settings", [{"ratio": 4}, {"ratio": 16, "expand": "1"}], ids=str)
def test_the_hero_fits_its_surface(pair, text, settings):
    view = view_of(pair, text, **settings)
    for frame in view.timeline.frames:
        height = frame.scene.height
        assert height < 560 and frame.sentence and len(frame.readouts) == 3
        for mark in frame.scene.marks:
            assert 0 <= mark.x <= WIDTH and 0 <= mark.y <= height, mark
            if isinstance(mark, Rectangle):
                assert mark.x + mark.w <= WIDTH + 0.1 and mark.y + mark.h <= height, mark
            if isinstance(mark, Path):
                assert all(-20 <= x <= WIDTH + 1 and y <= height for x, y in starts(mark)), mark
    for name in ("map", "places", "kinds", "labels"):
        go.Figure(view.figure(name))


def test_the_first_line_of_the_text_is_below_the_names(pair):
    frame = frame_of(view_of(pair), "text")
    assert min(mark.y for mark in marks_of(frame, "w:")) > HEAD


# ------------------------------------------------------------------------------- the tabs


def test_the_map_shows_every_token_once(pair):
    found = found_by(pair, ratio=8)
    heat = beads_figures.map_figure(found)["data"][0]
    z = np.array([[np.nan if v is None else v for v in row] for row in heat["z"]], dtype=float)
    seen = z.ravel()[: found.n_tokens]
    np.testing.assert_allclose(seen, np.maximum(found.reading.log_probability, -6), rtol=1e-6)
    assert np.isnan(z.ravel()[found.n_tokens :]).all()


@pytest.mark.parametrize("ratio", RATIOS)
def test_places_and_kinds_are_means(pair, ratio):
    found = found_by(pair, ratio=ratio)
    bars = beads_figures.place_figure(found)["data"][0]["y"]
    for place, share in enumerate(bars):
        assert share == pytest.approx(found.reads_right[place::ratio].mean())
    kinds = beads_figures.kinds_figure(found)["data"]
    for read, guessed, name in zip(*(trace["y"] for trace in kinds), kinds[0]["x"], strict=True):
        mine = found.is_kind(next(k for k, n in KIND_NAMES.items() if n == name))
        assert read == pytest.approx(found.reads_right[mine].mean())
        assert guessed == pytest.approx((np.arange(found.n_tokens) % 3 == 0)[mine].mean())
    total = sum(found.read_of(kind)[0] for kind in ("word", "mark", "name", "number", "code"))
    assert total == found.reads_right.sum()


def test_labels_are_those_of_the_mask(pair):
    found = found_by(pair, ratio=8)
    for name, strip in beads_figures.strips(found).items():
        kinds, states = [kind for kind, _, _ in strip], [state for _, state, _ in strip]
        mask = label_mask(kinds).tolist()
        for state, may, kind in zip(states, mask, kinds, strict=True):
            assert state != beads_figures.TRAINED or may
            assert (state in (beads_figures.TAG, beads_figures.BEAD)) == (kind != "raw")
        assert beads_figures.TRAINED in states, name
    inter = beads_figures.strips(found)["interleaved"]
    after = [i + 1 for i, (kind, _, _) in enumerate(inter) if kind == "end"]
    assert all(inter[i][1] == beads_figures.TRAINED for i in after)
    assert "predicted from that tag" in beads_figures.why(inter, after[0])


# ------------------------------------------------------------------------------- the page


@pytest.mark.parametrize("settings", [step.sets for step in widget.STEPS], ids=str)
def test_a_timeline_is_small_on_the_wire(pair, settings):
    made = widget.explorer(pair=pair, **settings)
    sent = len(made.picture)
    made.close()
    assert 100_000 < sent < MOST_BYTES


def test_the_readers_own_text_counts_for_more(pair):
    made = widget.explorer(pair=pair)
    made.set(text="The cat sat on the mat.", ratio=4)
    assert made.wait()
    assert made.values["source"] == widget.OWN
    assert made.summary.startswith(
        "Your text, 4 tokens per bead: 7 tokens take 4 decoder positions"
    )
    made.set(text=text_of(600))
    assert made.wait()
    assert "600 tokens, and 512 fit" in made.status["text"]
    made.set(text="")
    assert made.wait()
    assert made.summary.startswith(widget.PASTE)
    made.close()


def test_the_readers_own_question_is_asked(pair):
    made = widget.explorer(pair=pair, ratio=16)
    made.set(question=" Who is\nthe captain? ", expand="named")
    assert made.wait()
    asked = [frame.sentence for frame in made.view.timeline.frames if frame.stage == "ask"]
    assert asked[0].startswith("“Who is the captain?”")
    assert "characters right" not in made.summary and "question=..." in made.view.code
    told = "No right answer was given with this question, so none is judged."
    assert made.summary.endswith(told) and made.view.timeline.frames[-1].sentence.endswith(told)
    made.set(source="code")
    assert made.wait()
    assert made.values["question"] == "" and told not in made.summary
    made.set(text="One two three.", question="Which comes second?", expand="named")
    assert made.wait() and made.status["state"] == "done"
    assert made.result.found.expanded == 0
    made.close()


def test_the_code_on_the_page_makes_the_result_again(pair):
    view = view_of(pair, ratio=16, expand="3")
    settings = re.search(r'"(passage=.*)"', view.code)[1]
    assert BeadsParams.from_text(settings) == BeadsParams(ratio=16, expand="3")


def test_own_texts_are_no_passages():
    own = Passage.own("Some text.")
    assert not own.secret and not own.question and own not in PASSAGES.values()


def test_words_on_every_mark_that_lights(pair):
    for frame in view_of(pair, ratio=16, expand="named").timeline.frames:
        for mark in frame.scene.marks:
            if mark.click:
                assert mark.words and mark.link, mark
            if isinstance(mark, Words) and "nan" in mark.text.split():
                raise AssertionError(mark)


# ------------------------------------------------------------------------------- the steps


def read_of(sentences, kind):
    """(right, all) of a kind, as the sentence about the reading says."""
    told = next(said for said in sentences if said.startswith("Asked to repeat"))
    right, n = map(int, re.search(rf"{kind} (\d+) of (\d+)", told.lower()).groups())
    return right, n


def letter(ratio):
    """The letter as it stands in the lesson."""
    return beads.run(BeadsParams(ratio=ratio))


def share(found):
    return 100 * found.reads_right.mean()


def four_tokens_become_one_bead(seen):
    assert seen.values["ratio"] == 4
    assert "256 tokens" in seen.sentences[0] and "64 beads" in seen.sentences[1]
    assert seen.number("decoder positions") == 66
    found = letter(4)
    right, guessed = found.reads_right.sum(), (found.guessed & found.reads_right).sum()
    assert f"{right} of 256 tokens can be read back, {guessed} of these without" in seen.summary
    assert 0 < guessed < right < 256  # each of the three colours is there
    assert right > 200 and right - guessed > 100  # most is read back, and from the beads
    digits, n = read_of(seen.sentences, "digits")
    assert digits > 0.8 * n
    assert "every character is right" in seen.sentences[-1]


def the_ruler_is_a_quarter_as_long_and_half_is_lost(seen):
    assert seen.values["ratio"] == 16
    assert seen.number("decoder positions") == 18
    assert seen.number("tokens read from beads") < 0.6 * share(letter(4))
    (four, n), (sixteen, _) = (letter(ratio).read_of("number") for ratio in (4, 16))
    assert read_of(seen.sentences, "digits") == (sixteen, n)
    assert sixteen < 0.6 * four
    assert "every character is right" not in seen.sentences[-1]


def the_chunk_that_it_names_holds_the_code_and_costs(seen):
    assert (seen.values["ratio"], seen.values["expand"]) == (8, "named")
    found = letter(8)
    assert found.right_letters == 0  # from beads alone
    digits, n = found.read_of("number")
    assert digits < n  # "digits are lost"
    assert "every character is right" in seen.sentences[-1]
    holder = found.chunk_of(found.secret_tokens.start) + 1
    raw = next(said for said in seen.sentences if said.startswith(f"EXPAND({holder})"))
    positions = int(re.search(r"(\d+) positions in all", raw)[1])
    assert seen.number("decoder positions") == positions > 64 + 34


def the_chunk_that_it_names_does_not_hold_the_code(seen):
    assert (seen.values["ratio"], seen.values["expand"]) == (16, "named")
    found = letter(16)
    holder = found.chunk_of(found.secret_tokens.start) + 1
    assert any(said.startswith("EXPAND(") for said in seen.sentences)
    assert not any(said.startswith(f"EXPAND({holder})") for said in seen.sentences)
    assert "every character is right" not in seen.sentences[-1]
    clicked = beads.run(BeadsParams(ratio=16, expand=str(holder)))
    assert clicked.right_letters == len(clicked.passage.secret)


def keys_are_lost_at_sixteen_and_partly_back_at_four(seen):
    assert (seen.values["source"], seen.values["ratio"]) == ("uuids", 16)
    assert seen.number("tokens read from beads") < 0.6 * share(letter(16))
    sixteen, four = (beads.run(BeadsParams(passage="uuids", ratio=ratio)) for ratio in (16, 4))
    right, n = sixteen.read_of("code")
    assert read_of(seen.sentences, "codes") == (right, n)
    assert right <= (sixteen.guessed & sixteen.is_kind("code")).sum()  # no more than a guess
    assert four.read_of("code")[0] > 2 * right


STEPS = (
    four_tokens_become_one_bead,
    the_ruler_is_a_quarter_as_long_and_half_is_lost,
    the_chunk_that_it_names_holds_the_code_and_costs,
    the_chunk_that_it_names_does_not_hold_the_code,
    keys_are_lost_at_sixteen_and_partly_back_at_four,
)


# ------------------------------------------------------------------------------- the question


def test_the_prediction_is_answered_by_the_reading(monkeypatch, pair):
    found = found_by(pair, ratio=16)
    monkeypatch.setattr(beads, "run", lambda params: found if params.ratio == 16 else None)
    right, why = widget.PREDICT.answer()
    kept, n = found.read_of("number")
    assert n == 12 and why.startswith(f"{kept} of its {n} digits")
    nearest = min(range(3), key=lambda place: abs((0.0, 0.5, 1.0)[place] - kept / n))
    assert right == nearest


def test_the_picture_before_play_does_not_answer_the_question(pair):
    view = view_of(pair)
    first = view.timeline.frames[0]
    assert first.stage == "text" and first.readouts[1].value == "–"
    assert not re.search(r"codes \d", first.sentence.lower())


# ------------------------------------------------------------------------------- many texts


def test_many_texts_are_those_of_the_committed_run():
    smol = smollm_results.smollm().values
    again = {t["name"]: t["y"] for t in beads_many.again_figure()["data"]}
    prose = smol.extent("reconstruction", "right", texts="prose", ratio=4)[0]
    assert again["prose"][0] == prose and len(again) == 3
    fact, on = (
        {t["name"]: t["y"] for t in figure()["data"]}
        for figure in (beads_many.fact_figure, beads_many.on_figure)
    )
    for beads_, cut in zip(fact["as beads"], fact["cut to as many positions"], strict=True):
        assert beads_ > cut  # asked for something, beads win
    for beads_, cut in zip(on["as beads"], on["cut to as many positions"], strict=True):
        assert beads_ > cut  # perplexity: going on, they lose
    low, high = beads_many.on_figure()["layout"]["yaxis"]["range"]
    assert all(low < y < high for ys in on.values() for y in ys)


def test_without_a_committed_run_there_is_no_such_tab(monkeypatch):
    monkeypatch.setattr(beads_many.committed, "names", lambda: ())
    assert beads_many.plots() == ()


def test_no_tab_before_section_four_answers_its_question(pair):
    made = widget.explorer(pair=pair)
    assert made.declaration.tabs == ("What is trained", "Token by token")
    made.close()


def test_expand_offers_what_the_text_has(pair):
    def offered(text="", **own):
        page = widget.Page.of(ratio=8, text=text, **own)
        done = {"stale": lambda: False, "progress": print_nothing, "pair": pair}
        return widget.present(widget.compute(page, **done)).bounds["expand"]

    assert offered() == ("nothing", "named", "1", "2", "3", "4")  # the letter, 256 tokens
    assert offered(text_of(70)) == ("nothing", "1", "2")  # nothing is asked: nothing to name
    assert offered(text_of(512), question="Which?")[-1] == "8"


def test_what_expand_refuses_is_called_as_its_list_does(pair):
    made = widget.explorer(pair=pair)
    made.set(text=text_of(70), expand="named")
    assert made.wait()
    assert made.status["text"].startswith("EXPAND “the chunk that it names” needs a question, and")
    made.set(expand="5")
    assert made.wait()
    assert made.status["text"].startswith("EXPAND “chunk 5” names no chunk of this text: it has 2")
    made.close()


def test_time_of_a_far_longer_text_is_no_time_of_this_one(pair):
    once, twice = (
        view_of(pair, ratio=8, expand=expand).timeline.frames[-1].readouts[2]
        for expand in ("nothing", "1")
    )
    assert once.label == twice.label == "first token, were it 256K"
    assert twice.value == f"2 × {once.value}"


def test_a_result_is_told_when_it_was_seen(pair):
    assert view_of(pair).timeline.told_last
