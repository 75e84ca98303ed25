"""Recall against the ratio: dots are seeds to scale, and the picture says what the record says."""

import plotly.graph_objects as go
import pytest
from miniatures import GUESS, SEEDS, install

from intuitive.common.runtime import never
from intuitive.common.training import silent
from intuitive.lclm.experiments import recall as experiment
from intuitive.widgets.lclm import recall as widget
from intuitive.widgets.lclm import recall_scene as scene


@pytest.fixture
def made_up(monkeypatch):
    yield install(monkeypatch, experiment, widget)
    widget.sets.cache_clear()


def result_of(**settings):
    shown = widget.Shown(**settings)
    return widget.compute(shown, stale=never, progress=silent)


def test_options_are_what_was_trained(made_up):
    told = {name: widget.title(one) for name, one in widget.sets().items()}
    assert next(iter(told)) == widget.FIRST
    assert told[widget.FIRST] == "recall, 4 records in 32 tokens"
    assert told["recall-large-equal-64"] == "recall, 64 records in 256 tokens"
    assert told["bytes-large-equal-0"] == "say it again: 256 bytes of real text"
    assert told["recall-small-plateau-4"].endswith(", longer")
    for name in told:
        assert widget.present(result_of(what=name)).timeline.frames


def test_dots_stand_at_their_seeds_accuracy(made_up):
    result = result_of(ratio=16)
    picture = scene.Picture(result)
    assert picture.steps() == (0, 100, 200, 400)
    for step, frame in zip(picture.steps(), picture.frames(), strict=True):
        for one in picture.columns:
            link = scene.link_of(one)
            for curve in one.curves:
                dot = frame.scene[f"dot:{link}:{curve.seed}"]
                want = curve.accuracy[curve.steps.index(step)]
                assert dot.y == pytest.approx(scene.height(want))
    guess = picture.frames()[0].scene["guess"]
    assert guess.y == guess.y2 == pytest.approx(scene.height(GUESS))


def test_a_curve_that_ended_stays_where_it_was():
    curve = experiment.SeedCurve(seed=0, steps=(10, 20), accuracy=(0.2, 0.7))
    assert [scene._reached(curve, step) for step in (0, 10, 19, 20, 99)] == [
        0.2,
        0.2,
        0.2,
        0.7,
        0.7,
    ]


def test_long_trainings_are_thinned(made_up):
    picture = scene.Picture(result_of())
    long = tuple(range(0, 1000, 10))
    curve = experiment.SeedCurve(seed=0, steps=long, accuracy=tuple(0.5 for _ in long))
    picture.columns = (widget.replace(picture.columns[0], curves=(curve,)),)
    steps = picture.steps()
    assert len(steps) == scene.MOST_FRAMES and (steps[0], steps[-1]) == (0, 990)


@pytest.mark.parametrize("ratio", [1, 4, 16])
def test_every_bead_stands_under_its_tokens(made_up, ratio):
    frame = scene.Picture(result_of(ratio=ratio)).frames()[0]
    keys = [m for m in frame.scene.marks if m.key.startswith("cell:") and "a key" in m.words]
    assert len(keys) == 4
    beads = [m for m in frame.scene.marks if m.key.startswith("bead:")]
    assert len(beads) == 32 // ratio
    inside = [int(m.words.split("; ")[1].split()[0]) for m in beads]
    assert sum(inside) == 4 and max(inside) == max(1, ratio // 8)
    under = frame.scene[f"under:latents:{ratio}:equal"].text
    assert under == {1: "a key or a value", 4: "0 or 1 record", 16: "2 records"}[ratio]


def test_the_nearest_trained_ratio_is_taken(made_up, monkeypatch):
    found = made_up.points
    few = tuple(p for p in found if p.reader != "latents" or p.ratio in (4, 8))
    object.__setattr__(made_up, "points", few)
    view = widget.present(result_of(ratio=16))
    assert view.values == {"ratio": 8}


def test_the_table_has_every_seed(made_up):
    view = widget.present(result_of())
    assert len(view.table.rows) == 8  # three raw readers, five ratios
    assert view.table.header[2:5] == tuple(f"seed {seed}" for seed in SEEDS)
    plateau = widget.present(result_of(what="recall-small-plateau-4"))
    assert {row[-1] for row in plateau.table.rows if row[0].startswith("N")} == {"yes"}


def test_tabs_draw_the_same_numbers(made_up):
    result = result_of()
    view = widget.present(result)
    curves = go.Figure(view.figure("curves")).data
    assert len(curves) == 12 and list(curves[0].y) == list(result.chosen.curves[0].accuracy)


def test_without_records_there_are_no_brackets_of_records(made_up):
    view = widget.present(result_of(what="symbols-small-equal-0"))
    assert view.timeline.frames[0].scene["guess:text"].words == "A guess: chance."
    assert "tokens" in view.summary and "6%" in view.summary
    real = widget.present(result_of(what="bytes-large-equal-0"))
    assert "guess" not in {m.key for m in real.timeline.frames[0].scene.marks}


def test_an_unknown_set_is_told(made_up):
    with pytest.raises(ValueError, match="'nothing' was not trained; there are recall-small"):
        result_of(what="nothing")


def test_before_anything_is_committed_the_explorer_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(widget, "names", lambda: ())
    widget.sets.cache_clear()
    assert list(widget.sets()) == [widget.FIRST]
    widget.sets.cache_clear()


def test_the_prediction_is_judged_by_the_record(made_up):
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "the one that reads beads"
    assert "99% by seed, raw text 41% (trained longer, 97%)" in sentence
    assert "a guess 41%" in sentence


def dots(seen, name):
    """Least and greatest accuracy of a reader, from the summary."""
    told = seen.summary.split(f", {name} ")[1].split(",")[0].split(";")[0].rstrip(".")
    ends = [float(part.rstrip("%").split("over ")[-1]) for part in told.split("–")]
    return ends[0], ends[-1]


def guess(seen):
    return float(seen.summary.split("a guess has ")[1].split("%")[0])


def some_leave_the_line(seen):
    assert len(seen.sentences) > 3
    assert dots(seen, "N = 8")[0] > guess(seen) + 20


def two_in_a_bead_stay(seen):
    assert seen.values["ratio"] == 16
    assert dots(seen, "N = 16")[1] < guess(seen) + 10


def one_token_each_is_hard(seen):
    assert seen.values["ratio"] == 1
    assert dots(seen, "N = 1")[0] < guess(seen) + 10


def one_in_a_bead_is_solved(seen):
    assert seen.values["ratio"] == 4
    assert dots(seen, "N = 4")[0] > 95


STEPS = (
    some_leave_the_line,
    two_in_a_bead_stay,
    one_token_each_is_hard,
    one_in_a_bead_is_solved,
)


@pytest.mark.parametrize("index", range(len(STEPS)))
def test_the_claims_hold_of_the_made_up(made_up, index):
    from types import SimpleNamespace

    step = widget._steps()[index]
    view = widget.present(result_of(**{"ratio": 8, **step.sets}))
    sentences = [frame.sentence for frame in view.timeline.frames]
    STEPS[index](SimpleNamespace(summary=view.summary, sentences=sentences, values={**step.sets}))


def test_who_trained_no_more_is_told_apart(made_up):
    picture = scene.Picture(result_of())
    assert picture._sentence(400).startswith("After 400 steps ")
    longer = next(one for one in picture.columns if one.budget == "plateau")
    curve = experiment.SeedCurve(seed=0, steps=(0, 400, 2250), accuracy=(0.1, 0.4, 0.97))
    picture.columns = tuple(
        widget.replace(one, curves=(curve,)) if one is longer else one for one in picture.columns
    )
    told, rest = picture._sentence(2250).split(". ")
    assert told == (
        "Only raw text, longer trained on, 2250 steps now: "
        "raw text, longer is clear of the dashed line, every seed"
    )
    assert rest.startswith("The others stopped at 400: ") and "longer" not in rest


def test_a_spread_of_small_shares_has_one_percent_sign():
    assert scene.spread((0.0, 0.004)) == "0–0.4%"
    assert scene.spread((0.997, 1.0)) == "99.7–100%"
    assert scene.spread((0.4, 0.63)) == "40–63%"
