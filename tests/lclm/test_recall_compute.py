"""What the recall explorer reads from the miniatures."""

import dataclasses

import pytest

from intuitive.common.runtime import Cancelled
from intuitive.lclm import results
from intuitive.lclm.experiments import recall
from intuitive.lclm.experiments.recall import RecallParams
from intuitive.lclm.task import RecallTask


@pytest.fixture(scope="module")
def found():
    return results.miniatures().values


def test_every_combination_that_is_offered_can_be_drawn(found):
    offered = recall.options(found)
    assert {(one.task, one.scale) for one in offered} >= {
        ("recall", "small"), ("recall", "large"), ("symbols", "small"), ("bytes", "large"),
    }  # fmt: skip
    for params in offered:
        result = recall.run(params)
        ratios = [one.ratio for one in result.points]
        assert ratios == sorted(set(ratios)) and result.chosen.ratio == params.ratio
        assert RecallParams.from_text(params.to_text()) == params
        for one in (*result.points, *result.controls):
            assert len(one.seeds) == len(set(one.seeds)) == len(one.accuracy) == len(one.curves)
            assert all(0 <= a <= 1 for a in one.accuracy)
            low, high = one.extent
            assert low <= one.mean <= high
            for curve, accuracy in zip(one.curves, one.accuracy, strict=True):
                assert curve.accuracy[-1] == accuracy
                assert len(curve.steps) == len(curve.accuracy)


def test_recall_has_its_guess_and_its_controls():
    result = recall.run(RecallParams())
    assert result.guess == pytest.approx(RecallTask().no_binding, abs=1e-3)
    assert {(one.reader, one.budget) for one in result.controls} >= {
        ("raw", "equal"), ("raw", "plateau"), ("smeared", "equal"),
    }  # fmt: skip
    assert [one.records_per_latent for one in result.points] == [1, 1, 1, 1, 2]
    assert result.measure == "answers" and result.context == 32
    assert result.part.command.startswith("lclm_miniature.py")


def test_symbols_have_chance_and_bytes_have_no_guess():
    assert recall.run(RecallParams(task="symbols")).guess == pytest.approx(1 / 16)
    result = recall.run(RecallParams(task="bytes", scale="large"))
    assert result.guess is None and result.measure == "tokens"
    assert not any(one.records_per_latent for one in result.points)


def test_grouping_keeps_seeds_of_a_setting_together(found):
    (point, *_) = found.select(study="recall", scale="small", reader="latents", budget="equal")
    again = dataclasses.replace(point, seed=77)
    other = dataclasses.replace(point, ratio=point.ratio + 1)
    groups = recall.grouped([other, point, again], "recall accuracy")
    assert [one.seeds for one in groups] == [(point.seed, 77), (point.seed,)]
    with pytest.raises(KeyError, match="no measure 'taste'"):
        point.last("taste")


def test_what_is_not_there_is_told_with_what_is():
    with pytest.raises(ValueError, match="ratio=3 was not trained here: choose from 1, 2"):
        recall.run(RecallParams(ratio=3))
    with pytest.raises(ValueError, match=r"n_records=5; there are: .*recall small equal"):
        recall.run(RecallParams(n_records=5))
    with pytest.raises(ValueError, match="task='smell' is unknown"):
        RecallParams(task="smell")
    with pytest.raises(Cancelled):
        recall.run(RecallParams(), stale=lambda: True)
