"""The sweep: cells are seeds to scale, and pairs are counted as a loop counts them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from miniatures import QUALITY, SEEDS, install

from intuitive.common.runtime import never
from intuitive.common.training import silent
from intuitive.lclm.experiments import sweep as experiment
from intuitive.widgets.lclm import sweep as widget
from intuitive.widgets.lclm import sweep_scene as scene
from intuitive.widgets.lclm import sweep_sheets


@pytest.fixture
def made_up(monkeypatch):
    yield install(monkeypatch, experiment, widget)
    widget.there.cache_clear()


def result_of(what):
    return widget.compute(widget.Shown(what=what), stale=never, progress=silent)


@pytest.mark.parametrize("what", widget.TITLES)
def test_dots_and_means_are_the_records(made_up, what):
    sheet = result_of(what).sheet
    picture = scene.Picture(sheet)
    frames = picture.frames()
    assert [frame.label for frame in frames] == ["1 seed", "2 seeds", "3 seeds"]
    last = frames[-1].scene
    for key, values in sheet.cells.items():
        link = scene.link_of(key)
        mean = sum(values.values()) / len(values)
        assert last[f"mean:{link}"].text == widget.fixed(mean)
        low, high = picture.limits[key[1]]
        box = last[f"cell:{link}"]
        for seed, value in values.items():
            share = (last[f"dot:{link}:{seed}"].x - box.x - 8) / (box.w - 16)
            assert share == pytest.approx((value - low) / (high - low))
            assert f"dot:{link}:{seed}" in {m.key for m in frames[seed].scene.marks}
    first = {m.key for m in frames[0].scene.marks}
    assert not any(key.endswith(":1") for key in first if key.startswith("dot:"))
    for mark in last.marks:
        assert 0 <= mark.x <= scene.WIDTH and 0 <= mark.y <= scene.HEIGHT, mark.key


def sheet_of(scale, measure):
    found = experiment.run(experiment.SweepParams(scale=scale, measure=measure))
    return found, sweep_sheets.press_sheet(found, "")


@pytest.mark.parametrize("given", [("small", "reconstruction"), ("large", "continuation")])
def test_pairs_are_those_of_the_record(made_up, given):
    found, sheet = sheet_of(*given)
    for ours, theirs in zip(sheet.versus, found.comparisons, strict=True):
        assert ours.count(SEEDS) == (theirs.wins, len(theirs.gains))
        assert ours.decided(SEEDS) == theirs.decided
        counts = [ours.count((seed,)) for seed in SEEDS]
        assert tuple(map(sum, zip(*counts, strict=True))) == ours.count(SEEDS)


def told_apart(sheet):
    """The made-up cells of one row are alike: the best of each scale gets a little more."""
    cells = dict(sheet.cells)
    for scale in sheet.scales:
        sign = 1 if scale.higher else -1
        key = max(
            (key for key in cells if key[1] in scale.columns),
            key=lambda key: sign * sum(cells[key].values()),
        )
        cells[key] = {seed: value + sign * 0.02 for seed, value in cells[key].items()}
    return replace(sheet, cells=cells)


@pytest.mark.parametrize("given", [("small", "reconstruction"), ("large", "continuation")])
def test_the_ring_is_at_the_best_mean(made_up, given):
    """For a loss the best is the least."""
    picture = scene.Picture(told_apart(sheet_of(*given)[1]))
    (key,) = picture.best(SEEDS)
    assert QUALITY[key[0]] == max(QUALITY.values())
    ringed = [
        m.link for m in picture.frames()[-1].scene.marks if getattr(m, "stroke", "") == "green"
    ]
    assert ringed == [scene.link_of(key)]


def test_means_that_read_the_same_have_no_ring(made_up):
    sheet = sheet_of("small", "reconstruction")[1]
    cells = {key: dict.fromkeys(cell, 0.52) for key, cell in sheet.cells.items()}
    picture = scene.Picture(replace(sheet, cells=cells))
    assert picture.best(SEEDS) == ()
    assert "no mean stands out" in picture.frames()[-1].sentence
    assert not [m for m in picture.frames()[-1].scene.marks if m.key.startswith("ring:")]
    low, high = next(iter(picture.limits.values()))
    assert high - low == pytest.approx(scene.LEAST), "equal values are drawn as equal"


def test_the_diet_has_two_scales(made_up):
    sheet = told_apart(result_of("diet").sheet)
    picture = scene.Picture(sheet)
    again, loss = picture.best(SEEDS)
    assert again[0] == "1.0" and again[1] in ("again:joint", "again:staged")
    assert loss[0] == "0.0" and loss[1].startswith("loss:")
    assert set(sheet.rows) == {"1.0", "0.5", "0.0"}
    assert picture.limits["again:joint"] != picture.limits["loss:joint"]
    titles = {one.title: one for one in sheet.versus}
    assert titles["goes on: both over “say it again”"].count(SEEDS) == (9, 9)
    assert titles["goes on: all over frozen"].count(SEEDS) == (9, 9)
    assert titles["goes on: both over “go on”"].count(SEEDS) == (0, 9)
    assert ("1.0", "again:scratch") not in sheet.cells


def test_only_what_is_committed_is_offered(made_up, monkeypatch):
    few = tuple(p for p in made_up.points if p.scale == "small")
    object.__setattr__(made_up, "points", few)
    widget.there.cache_clear()
    assert widget.there() == ("symbols",)
    monkeypatch.setattr(widget, "names", lambda: ())
    widget.there.cache_clear()
    assert widget.there() == tuple(widget.TITLES)


def test_an_unknown_comparison_is_told():
    with pytest.raises(ValueError, match="'taste' is unknown; there are symbols"):
        result_of("taste")


def test_the_summary_names_what_is_no_luck(made_up):
    summary = widget.present(result_of("symbols")).summary
    assert "always: " in summary and "mean over last state" in summary and "stay open" in summary
    assert widget.present(result_of("diet")).summary.count("never: goes on: both over “go on”") == 1


def test_the_prediction_is_judged_by_the_record(made_up):
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "far larger"
    assert "4.51 nats per byte" in sentence and "both 2.01" in sentence and "80%" in sentence


def open_comparisons(seen):
    return int(seen.summary.split("seeds ")[1].split(" of")[0])


def comparisons_open_up(seen):
    alike = [int(s.split("; ")[1].split(" of")[0]) for s in seen.sentences]
    assert len(alike) == 3 and alike[-1] <= alike[0]
    assert open_comparisons(seen) > 0


def decided(seen):
    """Comparisons that the readout counts as decided; the summary says the same."""
    alike, of = map(int, seen.readouts["same in all pairs"].split(" of "))
    assert open_comparisons(seen) == of - alike
    return alike


def the_grid_is_of_real_text(seen):
    assert seen.values["what"] == "bytes" and seen.summary.startswith("The press, on real text")
    assert decided(seen) >= 0


def another_measure(seen):
    assert seen.values["what"] == "use" and seen.summary.startswith("The press, for going on")
    assert decided(seen) >= 0


def the_halves_differ(seen):
    """Going on teaches little of saying it again; the rest the reader judges."""
    assert seen.values["what"] == "diet"
    always = seen.summary.split("always: ")[1].split("; never")[0]
    assert "says again: both over “go on”" in always
    assert decided(seen) >= 1


def decided_are_named(seen):
    """The summary names as many as the readout counts."""
    named = 0
    for word in ("always: ", "never: "):
        if word in seen.summary:
            named += seen.summary.split(word)[1].split("; never")[0].count(" over ")
    assert decided(seen) == named


CLAIMS = {
    "Seed by seed": comparisons_open_up,
    "All seeds": decided_are_named,
    "On real text": the_grid_is_of_real_text,
    "Going on": another_measure,
    "The diet": the_halves_differ,
}
STEPS = tuple(CLAIMS[step.title] for step in widget._steps())


@pytest.mark.parametrize("step", widget.STEPS, ids=lambda step: step.title)
def test_the_claims_hold_of_the_made_up(made_up, step):
    values = {"what": "symbols", **step.sets}
    view = widget.present(result_of(values["what"]))
    seen = SimpleNamespace(
        summary=view.summary,
        sentences=[frame.sentence for frame in view.timeline.frames],
        readouts={readout.label: readout.value for readout in view.readouts},
        values=values,
    )
    CLAIMS[step.title](seen)
