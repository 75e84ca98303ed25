"""The needle: found by the largest score of its block, lost by the mean; drawn and said so."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from intuitive.msa.experiments.needle import NeedleParams, run
from intuitive.widgets.kit import fixed
from intuitive.widgets.msa import checks
from intuitive.widgets.msa import needle as widget
from intuitive.widgets.msa import needle_figures as figures


@pytest.mark.parametrize("seed", range(5))
def test_needle_is_found_by_max_and_lost_by_mean(seed):
    result = run(NeedleParams(seed=seed))
    assert result.found_by_max and not result.found_by_mean
    assert result.rank_max == 1 and result.rank_mean > 4
    assert len(result.selected_max) == len(result.selected_mean) == 4
    assert result.captured_max > 0.5 > result.captured_mean
    assert result.captured_max == pytest.approx(
        sum(result.block_mass[b] for b in result.selected_max), abs=1e-5
    )
    assert math.isclose(result.block_mass.sum(), 1, abs_tol=1e-5)


def test_a_weak_needle_is_lost_by_both_and_a_full_budget_finds_it():
    weak = run(NeedleParams(strength=0.0))
    assert not weak.found_by_max and not weak.found_by_mean
    full = run(NeedleParams(strength=0.0, n_selected=32))
    assert full.found_by_max and full.found_by_mean
    assert full.captured_mean == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="needle=2000 must be a position from 0 to 1023"):
        NeedleParams(needle=2000)


def test_settings_survive_as_text():
    params = NeedleParams(drag=0.25)
    assert NeedleParams.from_text(params.to_text()) == params


def scene(stage="keep", **settings):
    frames = widget.present(run(NeedleParams(**settings))).timeline.frames
    return next(frame.scene for frame in frames if frame.stage == stage)


@pytest.mark.parametrize("strength", [0.0, 8.0, 12.0])
@pytest.mark.parametrize("block_size", [16, 128])
def test_both_rows_draw_their_numbers_on_their_own_scale(strength, block_size):
    settings = {"strength": strength, "block_size": block_size}
    result, drawn = run(NeedleParams(**settings)), scene(**settings)
    keys = {mark.key for mark in drawn.marks}
    for kind, pooled, selected in (
        ("max", result.block_max, result.selected_max),
        ("mean", result.block_mean, result.selected_mean),
    ):
        read = {b for b in range(len(pooled)) if f"lit:{kind}:{b}" in keys}
        assert read == set(selected)
        bars = [drawn[f"bar:{kind}:{b}"] for b in range(len(pooled))]
        floor = drawn[f"floor:{kind}"].y
        heights = np.array(
            [
                floor - b.y if v >= 0 else floor - b.y - b.h
                for b, v in zip(bars, pooled, strict=True)
            ]
        )
        tall = np.abs(pooled) > 0.1 * np.abs(pooled).max()  # a bar is never thinner than a pixel
        scale = heights[tall] / pooled[tall]
        np.testing.assert_allclose(scale, scale.mean(), rtol=1e-3)
        top, bottom = figures.ROWS[kind]
        assert all(top - 1 <= b.y and b.y + b.h <= bottom + 1.01 for b in bars)
        assert max(abs(heights)) > 0.4 * (bottom - top)


def test_the_rows_are_pooled_from_the_tokens_above():
    """What falls into a bar starts at the token or level that it is made of."""
    result, picked, pooled = run(NeedleParams()), scene("pool"), scene("compare")
    scores = result.token_scores.reshape(-1, 32)
    for block in (0, result.needle_block, 31):
        dot, bar = picked[f"best:{block}"], pooled[f"bar:max:{block}"]
        at = int(np.argmin(np.abs(picked["tokens"].xs - dot.x)))
        assert result.token_scores[at] == scores[block].max() == result.block_max[block]
        assert pooled[f"best:{block}"].y == pytest.approx(bar.y)
        assert bar.x < pooled[f"best:{block}"].x < bar.x + bar.w
    frames = widget.present(result).timeline.frames
    assert [frame.readouts[1].value for frame in frames] == ["–", "–", "–", "found, 1st"]
    keys = {mark.key for mark in scene("scores").marks}
    assert not any(key.startswith(("bar:", "lit:", "rank:")) for key in keys)


def test_the_needle_is_a_handle_of_its_two_sliders():
    for needle, strength in ((517, 8.0), (1023, 12.0), (0, 0.0)):
        mark = scene("scores", needle=needle, strength=strength)["needle"]
        assert (mark.drag.x, mark.drag.y) == ("needle", "strength")
        for (low, high), value, at in (
            (mark.drag.x_scale, needle, mark.x),
            (mark.drag.y_scale, strength, mark.y),
        ):
            share = (value - low[0]) / (high[0] - low[0])
            assert low[1] + share * (high[1] - low[1]) == pytest.approx(at)
        label = scene("scores", needle=needle)["needle:name"]
        assert label.anchor == ("end" if needle > 800 else "start")


def test_a_click_opens_both_numbers_of_the_block():
    view = widget.present(run(NeedleParams()))
    line = view.arithmetic["block:9"].text
    assert "max(8.00, " in line and ") = 8.00, 1st" in line and "32nd of 32" in line
    assert f"mean = {fixed(float(run(NeedleParams()).token_scores[288:320].sum()))} / 32 = " in line


@pytest.mark.parametrize(("rank", "word"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th")])
def test_places_are_written_out(rank, word):
    assert figures.place(rank) == word
    assert figures.place(rank + 20) == f"{rank + 20}{word[1:]}"
    assert figures.place(11) == "11th" and figures.place(12) == "12th"


@pytest.mark.parametrize(("strength", "outcome"), [(8.0, "found, "), (0.0, "lost, ")])
def test_needle_view_says_what_the_result_says_once_blocks_are_kept(strength, outcome):
    result = run(NeedleParams(strength=strength))
    assert result.found_by_max == (outcome == "found, ") and not result.found_by_mean
    view = widget.present(result)
    assert view.summary.startswith(f"A needle of score {strength:g} in block 9 of 32: 4 blocks")
    told = {one.label: one.value for one in view.timeline.frames[-1].readouts}
    assert told["max pooling"] == f"{outcome}{figures.place(result.rank_max)}"
    assert told["mean pooling"] == f"lost, {figures.place(result.rank_mean)}"


def test_nothing_gives_the_answer_away_before_it_plays():
    view = widget.present(run(NeedleParams()))
    before = [view.summary, *(frame.sentence for frame in view.timeline.frames[:-1])]
    assert not any(word in text for text in before for word in ("finds", "loses", "lost", "found"))
    lesson = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
    cells = {c["id"]: c for c in json.loads(lesson.read_text(encoding="utf-8"))["cells"]}
    heading = "".join(cells["00-03"]["source"]).split("</summary>")[0]
    assert "finds" not in heading and "found" not in "".join(cells["00-06"]["source"])


def test_the_neighbours_are_told_before_the_prediction():
    params = NeedleParams()
    scores = run(params).token_scores
    block = scores[288:320].tolist()
    del block[params.needle - 288]
    assert "its neighbours spread around -1" in widget.PREDICT.question
    assert np.mean(block) == pytest.approx(-params.drag, abs=0.3)


def test_more_blocks_cannot_be_read_than_there_are():
    view = widget.present(run(NeedleParams(block_size=128, n_selected=15)))
    assert view.bounds == {"n_selected": (1, 8)}
    assert view.timeline.frames[-1].sentence.startswith("All 8 blocks are read")


def solutions():
    """Settings of the fold "Some solutions", and the one that it says is not enough."""
    lesson = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    (fold,) = [cell for cell in cells if "Some solutions" in "".join(cell["source"])]
    for line in fold["source"]:
        if line.startswith("- `"):
            yield line.split("`")[1], "not enough" not in line


@pytest.mark.parametrize(("settings", "enough"), [*solutions()])
def test_the_solutions_of_the_exercise_are_solutions(settings, enough):
    assert run(eval(f"NeedleParams({settings})")).found_by_mean == enough


def test_the_lesson_tells_the_ranks_that_there_are():
    """Fold and solutions of 00: the mean moves by a quarter; rank 12 without the drag."""
    with_it, without = (run(NeedleParams(drag=0.0, strength=s)).block_mean for s in (8.0, 0.0))
    moved = with_it - without
    assert moved[9] == pytest.approx(0.25, abs=1e-5) and np.abs(np.delete(moved, 9)).max() < 1e-5
    assert run(NeedleParams(drag=0.0)).rank_mean == 12
    assert (np.delete(run(NeedleParams()).token_scores, 300) > 2).sum() > 10


def the_largest_finds_it_and_the_mean_does_not(seen):
    assert seen.readouts["max pooling"] == "found, 1st"
    assert seen.readouts["mean pooling"] == "lost, 32nd"
    assert "the upper row reads the needle's block, the lower row misses" in seen.sentences[-1]


def half_of_the_tokens_does_not_help_the_mean(seen):
    assert seen.readouts["tokens read"] == "512 of 1024"
    assert seen.readouts["mean pooling"] == "lost, 32nd"


def without_the_drag_it_climbs_and_is_still_lost(seen):
    outcome, ranked = seen.readouts["mean pooling"].split(", ")
    assert outcome == "lost" and 4 < int(ranked[:2]) < 32


def a_weak_needle_is_lost_in_both_rows(seen):
    assert all(seen.readouts[f"{kind} pooling"].startswith("lost") for kind in ("max", "mean"))
    assert "both rows miss the needle's block" in seen.sentences[-1]


def the_newest_block_is_read_whatever_its_rank(seen):
    assert seen.readouts["mean pooling"] == "newest"
    assert "which is read whatever its rank" in seen.sentences[-1]
    assert seen.values["needle"] // seen.values["block_size"] == 31


STEPS = (
    the_largest_finds_it_and_the_mean_does_not,
    half_of_the_tokens_does_not_help_the_mean,
    without_the_drag_it_climbs_and_is_still_lost,
    a_weak_needle_is_lost_in_both_rows,
    the_newest_block_is_read_whatever_its_rank,
)


@pytest.mark.parametrize("seed", range(3))
def test_the_steps_hold_for_several_seeds(seed):
    read_half, lifted, weak, newest = (
        run(NeedleParams(seed=seed, **step.sets))
        for step in widget.explorer().declaration.steps[1:]
    )
    assert read_half.rank_mean == 32 and not read_half.found_by_mean
    assert not lifted.found_by_mean and lifted.rank_mean < 32
    assert not weak.found_by_max and not weak.found_by_mean
    assert newest.found_by_mean and newest.rank_mean >= 31


def test_shown_code_makes_the_result_again():
    namespace = {}
    exec(widget.present(run(NeedleParams())).code, namespace)
    assert namespace["result"].found_by_max and not namespace["result"].found_by_mean


def test_the_prediction_and_the_question_are_judged_by_the_experiment():
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "only the largest"
    assert f"by its mean {run(NeedleParams()).rank_mean} of 32" in sentence
    assert f"rank would be {run(NeedleParams(drag=0.0)).rank_mean}." in sentence
    assert checks.weak_needle().choose(1)["verdict"] == "right"
