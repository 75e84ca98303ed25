"""What the sweep explorer reads from the miniatures, and when a comparison counts as decided."""

import dataclasses

import pytest

from intuitive.common.runtime import Cancelled
from intuitive.lclm import results
from intuitive.lclm.experiments import sweep
from intuitive.lclm.experiments.sweep import Comparison, SweepParams

ALL = [
    SweepParams(),
    *(SweepParams(scale="large", measure=measure) for measure in sweep.MEASURES),
]


@pytest.mark.parametrize("params", ALL, ids=lambda params: f"{params.scale}-{params.measure}")
def test_the_grid_is_whole(params):
    result = sweep.run(params)
    poolings, masks, windows = (
        {getattr(cell, name) for cell in result.cells} for name in ("pooling", "mask", "window")
    )
    assert poolings == {"mean", "concat", "last", "eos", "queries"}
    assert masks == {"causal", "bidirectional"}
    assert windows == ({8, 32} if params.scale == "small" else {256}) and result.ratio == 8
    assert len(result.cells) == 10 * len(windows)
    for cell in result.cells:
        assert result.cell(pooling=cell.pooling, mask=cell.mask, window=cell.window) is cell
        low, high = cell.extent
        assert low <= cell.mean <= high and len(cell.seeds) == len(set(cell.seeds))
    assert result.higher_is_better == (params.measure != "continuation")


def test_comparisons_pair_arms_that_differ_in_one_choice():
    result = sweep.run(SweepParams())
    by = {(one.choice, one.worse): one for one in result.comparisons}
    assert set(by) == {
        *(("pooling", other) for other in ("concat", "last", "eos", "queries")),
        ("mask", "bidirectional"),
        ("window", "8"),
    }
    n_seeds = len(result.cells[0].seeds)
    assert len(by["pooling", "queries"].gains) == 2 * 2 * n_seeds  # masks, windows
    assert len(by["mask", "bidirectional"].gains) == 5 * 2 * n_seeds
    one = result.cell(pooling="mean", mask="causal", window=32).values[0]
    other = result.cell(pooling="queries", mask="causal", window=32).values[0]
    assert pytest.approx(one - other) in by["pooling", "queries"].gains


def test_less_loss_is_a_gain():
    """The same cells, with the sign of the measure: fewer nats win."""
    cells = tuple(
        sweep.Cell(pooling=pooling, mask="causal", window=8, seeds=(0, 1), values=values)
        for pooling, values in (("mean", (1.0, 2.0)), ("eos", (1.5, 1.5)))
    )
    (more,) = sweep._comparisons(cells, 1)
    (less,) = sweep._comparisons(cells, -1)
    assert more.gains == (-0.5, 0.5) and less.gains == (0.5, -0.5)
    assert more.wins == less.wins == 1 and not more.decided


def test_a_comparison_is_decided_when_all_pairs_agree():
    made = {"choice": "mask", "better": "causal", "worse": "bidirectional"}
    assert Comparison(gains=(0.1, 0.2), **made).decided
    assert Comparison(gains=(-0.1, -0.2), **made).decided
    assert not Comparison(gains=(0.1, -0.2), **made).decided


def test_use_is_what_the_right_latents_save():
    (point, *_) = results.miniatures().values.select(study="sweep", scale="large")
    saved = point.last("without loss") - point.last("continuation loss")
    assert sweep.value_of(point, "use") == pytest.approx(saved)


def test_mixes_hold_every_way_to_train():
    rows = sweep.run(SweepParams()).mixes
    assert {(row.training, row.share) for row in rows} >= {
        *((training, share) for training in ("joint", "frozen") for share in (0, 0.5, 1)),
        ("staged", 0.5),
        ("scratch", 0.5),
    }
    assert all(row.seeds == (0, 1, 2) for row in rows)
    assert all(len(row.seeds) == len(row.reconstruction) == len(row.continuation) for row in rows)


def test_what_is_not_there_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="random symbols cannot be continued"):
        sweep.run(SweepParams(measure="use"))
    with pytest.raises(ValueError, match="measure='colour' is unknown"):
        SweepParams(measure="colour")
    with pytest.raises(KeyError, match="no cell mean, causal, window 5"):
        sweep.run(SweepParams()).cell(pooling="mean", mask="causal", window=5)
    with pytest.raises(Cancelled):
        sweep.run(SweepParams(), stale=lambda: True)
    committed = results.miniatures()
    empty = dataclasses.replace(committed, values=dataclasses.replace(committed.values, points=()))
    monkeypatch.setattr(sweep, "miniatures", lambda: empty)
    with pytest.raises(ValueError, match="no sweep of scale='small'"):
        sweep.run(SweepParams())
