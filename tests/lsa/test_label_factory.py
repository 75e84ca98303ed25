"""The label factory: counts are those of `make_labels`, and the picture says them."""

import plotly.graph_objects as go
import pytest
import torch

from intuitive.lsa import golden_chunks
from intuitive.lsa.experiments.label_factory import (
    CHUNKS,
    LAYERS,
    LabelParams,
    draw_trace,
    run,
    strictness,
)
from intuitive.widgets.lsa import label_factory as widget
from intuitive.widgets.lsa import label_factory_scene as scene


@pytest.mark.parametrize("settings", [{}, {"votes": 1}, {"lookahead": 8}, {"lookahead": 128}])
def test_the_last_step_has_the_labels_of_the_window(settings):
    result = run(LabelParams(**settings))
    assert torch.equal(result.found[-1], result.labels.windows[0])
    assert torch.equal(result.naive[-1], result.labels.naive[0])
    assert result.labels.windows.shape[0] == 1
    golden = golden_chunks(result.logits, top_k=32, top_p=0.6, votes=settings.get("votes", 3)).any(
        0
    )
    assert torch.equal(golden, result.found[-1] | result.late[-1])
    assert not (result.found[-1] & result.late[-1]).any()
    assert int(result.found[-1].nonzero().max()) < result.at_trigger  # none that came later


@pytest.mark.parametrize("seed", range(3))
def test_the_filter_leaves_little_for_every_seed(seed):
    def left(**settings):
        return int(run(LabelParams(seed=seed, **settings)).found[-1].sum())

    result = run(LabelParams(seed=seed))
    assert int(result.naive[-1].sum()) == result.at_trigger == 96
    assert left() < 0.3 * 96
    assert left(votes=1) > 0.85 * 96
    assert left(top_p=0.9) > 2 * left()
    assert 1.5 * left() < left(lookahead=128) <= 2 * left()
    assert left(lookahead=16) > 0.8 * left()  # one topic needs what it needs


def test_the_trace_is_drawn_anew_from_its_seed():
    one, closed = draw_trace(0)
    other, _ = draw_trace(1)
    assert one.shape == (128, LAYERS, CHUNKS) and not torch.equal(one, other)
    assert closed[0] == 96 and closed[-1] == 127
    assert bool((one[0, :, 96:] == -torch.inf).all()) and bool(one[0, :, :96].isfinite().all())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"top_p": 1.0}, "top_p=1.0 must lie between 0 and 1"),
        ({"votes": 9}, "votes=9 exceeds the 8 layers"),
        ({"lookahead": 129}, "lookahead=129 is longer than the trace"),
    ],
)
def test_bad_settings_are_told(settings, told):
    with pytest.raises(ValueError, match=told):
        LabelParams(**settings)


def test_settings_survive_as_text():
    params = LabelParams(votes=2, top_p=0.8)
    assert LabelParams.from_text(params.to_text()) == params


def frames(**settings):
    return widget.present(run(LabelParams(**settings))).timeline.frames


def test_the_first_step_has_five_stages_and_tells_nothing_early():
    shown = frames()
    assert [f.stage for f in shown[:6]] == [*scene.STAGES, ""]
    assert {f.label for f in shown[:5]} == {"step 1"} and shown[5].label == "step 2"
    first = {r.label: r.value for r in shown[0].readouts}
    assert set(first.values()) == {"none yet"}
    keys = {m.key for m in shown[2].scene.marks}
    assert not any(key.startswith(("vote:", "label:")) for key in keys)


@pytest.mark.parametrize("settings", [{}, {"votes": 1}, {"lookahead": 4}])
def test_votes_and_labels_stand_over_their_chunks(settings):
    result, shown = run(LabelParams(**settings)), frames(**settings)
    for frame in (shown[4], shown[-1]):
        step = int(frame.label.split()[1]) - 1
        marks = {m.key: m for m in frame.scene.marks}
        votes = result.labels.votes[step]
        drawn = {k: m for k, m in marks.items() if k.startswith("vote:")}
        assert len(drawn) == int((votes > 0).sum())
        for key, mark in drawn.items():
            chunk = int(key.split(":")[1])
            assert mark.h == scene.VOTES[1] * int(votes[chunk])
            assert (mark.fill == "gold") == bool(result.labels.golden[step, chunk])
            label = marks.get(f"label:{chunk}")
            if label is not None:
                assert label.x == mark.x
        labels = {k for k, m in marks.items() if k.startswith("label:") and m.fill == "gold"}
        assert len(labels) == int(result.found[step].sum())
        said = {r.label: r.value for r in frame.readouts}
        assert said["labels"] == f"{len(labels)} of 96"


def test_a_click_opens_the_sum_and_the_votes():
    shown = frames()[3]
    line = shown.arithmetic["layer:2"].text
    total = float(line.split(" = ")[1].split()[0])
    assert total >= 0.6 and line.endswith("≥ 0.6")
    golden = [k for k, a in shown.arithmetic.items() if k.startswith("chunk") and "≥" in a.text]
    assert f"{len(golden)} have 3 votes" in shown.sentence


def test_the_prediction_is_judged_by_the_factory():
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "about a tenth of it" and "9 of 96" in sentence


def test_the_curves_are_runs_of_the_factory():
    params = LabelParams(votes=2, top_p=0.9)
    curves = strictness(params)
    for top_p, votes in ((0.3, 1), (0.6, 3), (0.9, 8)):
        found = run(LabelParams(top_p=top_p, votes=votes)).found[-1]
        assert curves[top_p][votes - 1] == int(found.sum())
    assert all(tuple(sorted(counts, reverse=True)) == counts for counts in curves.values())
    figure = go.Figure(widget.present(run(params)).figure("strictness"))
    assert figure.data[-1].x == (2,) and figure.data[-1].y[0] == curves[0.9][1]


def labels_fill_slower_than_the_union(seen):
    found, naive = seen.number("labels"), seen.number("every layer's best")
    assert naive == 96 and found < 30
    assert seen.sentences[-1].startswith("After 64 steps")


def most_of_the_text_is_marked(seen):
    assert seen.values["votes"] == 1 and seen.number("labels") > 80


def they_agree_by_chance(seen):
    assert seen.values["top_p"] == 0.9 and seen.number("labels") > 2 * 9


def two_topics_pile_up(seen):
    assert seen.values["lookahead"] == 128 and 1.5 * 9 < seen.number("labels") < 30
    so_far = {int(s.split()[1]): int(s.split(": ")[1].split()[0]) for s in seen.sentences[5:]}
    first = max(found for step, found in so_far.items() if step <= 64)
    assert so_far[128] > 1.5 * first


STEPS = (
    labels_fill_slower_than_the_union,
    most_of_the_text_is_marked,
    they_agree_by_chance,
    two_topics_pile_up,
)
