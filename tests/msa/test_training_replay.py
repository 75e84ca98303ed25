"""Training replay: it shows the committed runs."""

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.msa.experiments.training_replay import ReplayParams, run
from intuitive.msa.task import ARMS
from intuitive.widgets.msa import training_replay as widget


def test_replay_shows_the_committed_run_at_the_step():
    params = ReplayParams(arm="msa", step=130)
    found = run(params)
    assert found.run.config.arm == "msa" and found.snapshot.step == 120  # the last one before
    view = widget.present(found)
    assert view.values == {"step": 120}
    accuracy = found.run.at(120).accuracy
    assert ("accuracy", f"{accuracy:.2f}") in [(r.label, r.value) for r in view.readouts]


def test_curves_are_means_and_bands_over_seeds():
    found = run(ReplayParams(arm="msa"))
    figure = go.Figure(widget.curves_figure(found, "accuracy"))
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert set(lines) == {arm.title for arm in ARMS.values()}
    seeds = [run.curve("accuracy") for run in found.of("msa")]
    assert len(seeds) >= 3
    np.testing.assert_allclose(lines[ARMS["msa"].title].y, np.mean(seeds, 0))
    band = next(t for t in figure.data if t.fill and len(t.y) == 2 * len(seeds[0]))
    assert max(band.y) <= 1


def test_an_arm_without_the_measure_has_no_curve():
    figure = go.Figure(widget.curves_figure(run(ReplayParams(arm="msa")), "kl"))
    names = {trace.name for trace in figure.data if trace.name}
    assert ARMS["dense"].title not in names and ARMS["msa"].title in names


def test_what_is_read_is_said_of_every_arm():
    said = {arm: widget.present(run(ReplayParams(arm=arm, step=300))).summary for arm in ARMS}
    assert "everything is read, at every step" in said["dense"]
    assert all("only selected blocks" in said[arm] for arm in ARMS if arm != "dense")
    warming = widget.present(run(ReplayParams(arm="msa_warmup", step=0))).summary
    assert "everything is read (warm-up)" in warming


def test_an_unknown_arm_is_refused_in_words():
    with pytest.raises(ValueError, match="arm='leg' is unknown; choose one of dense, "):
        run(ReplayParams(arm="leg"))


def test_the_prediction_is_judged_by_the_committed_runs():
    right, sentence = widget.PREDICT.answer()
    found = run(ReplayParams())
    ends = {
        arm: np.mean([one.heldout[-1].mass_captured for one in found.of(arm)])
        for arm in ARMS
        if arm != "dense"
    }
    assert max(ends, key=ends.get) == "msa_untrained"
    assert widget.PREDICT.choices[right] == "the arm with the untrained selector"
    assert f"{ends['msa_untrained']:.2f}" in sentence
