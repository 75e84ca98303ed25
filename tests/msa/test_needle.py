"""The needle: found by the largest score of its block, lost by the mean; drawn and said so."""

import math

import numpy as np
import plotly.graph_objects as go
import pytest
from drawn import bars, on_axis, ranges

from intuitive.msa.experiments.needle import NeedleParams, run
from intuitive.widgets.msa import checks, styles
from intuitive.widgets.msa import needle as widget


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


@pytest.mark.parametrize("strength", [0.0, 8.0, 12.0])
@pytest.mark.parametrize("block_size", [16, 128])
def test_needle_plots_both_poolings_of_the_same_scores(strength, block_size):
    result = run(NeedleParams(strength=strength, block_size=block_size))
    figure = go.Figure(widget.needle_figure(result))
    for column, (pooled, selected) in enumerate(
        ((result.block_max, result.selected_max), (result.block_mean, result.selected_mean))
    ):
        drawn = bars(figure, column)
        read = {b for b, (colour, _) in drawn.items() if colour != styles.SKIPPED}
        assert read == set(selected)
        tops = [drawn[block][1] for block in range(len(pooled))]
        np.testing.assert_allclose(tops, pooled, atol=1e-5)
        (line,) = (trace for trace in on_axis(figure, column) if trace.type == "scatter")
        np.testing.assert_allclose(line.y, result.token_scores)
        low, high = figure.layout.yaxis.range
        assert low <= min(line.y) and max(line.y) <= high


def test_the_needle_is_pointed_out():
    params = NeedleParams(needle=517)
    result = run(params)
    arrows = [
        note
        for note in (go.Figure(widget.needle_figure(result))).layout.annotations
        if note.showarrow
    ]
    assert [note.x for note in arrows] == [517, 517]
    assert all(note.y == pytest.approx(params.strength, abs=1e-4) for note in arrows)


def test_needle_axes_stand_still():
    still = ranges(widget.needle_figure(run(NeedleParams())))
    for move in ({"strength": 12.0}, {"n_selected": 32}, {"block_size": 128}, {"drag": 2.0}):
        assert ranges(widget.needle_figure(run(NeedleParams(**move)))) == still


@pytest.mark.parametrize(("strength", "word"), [(8.0, "finds"), (0.0, "loses")])
def test_needle_view_says_what_the_result_says(strength, word):
    result = run(NeedleParams(strength=strength))
    assert result.found_by_max == (word == "finds") and not result.found_by_mean
    view = widget.present(result)
    assert view.summary.startswith(f"A needle of score {strength:g}: reading 4 blocks of 32")
    assert f"max pooling {word} it (its block ranks {result.rank_max})" in view.summary
    assert f"mean pooling loses it (rank {result.rank_mean} of 32)" in view.summary


def test_shown_code_makes_the_result_again():
    namespace = {}
    exec(widget.present(run(NeedleParams())).code, namespace)
    assert namespace["result"].found_by_max and not namespace["result"].found_by_mean


def test_the_prediction_and_the_question_are_judged_by_the_experiment():
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "only the largest"
    assert f"by its mean {run(NeedleParams()).rank_mean} of 32" in sentence
    assert checks.weak_needle().choose(1)["verdict"] == "right"
