"""Training replay, loop orders, continuation: they show what was computed."""

import numpy as np
import pytest

from intuitive.common import smollm
from intuitive.msa import shipped_index
from intuitive.msa.continuation import Continuation, ContinueParams
from intuitive.msa.loops import LoopParams, loop_orders
from intuitive.msa.recall import committed_runs
from intuitive.msa.task import ARMS
from intuitive.widgets import panels
from intuitive.widgets.figures import msa_loops as loop_figures
from intuitive.widgets.figures import msa_training as training_figures
from intuitive.widgets.panels import msa_continue, msa_loops, msa_training


def test_replay_shows_the_committed_run_at_the_step():
    params = msa_training.ReplayParams(arm="msa", step=130)
    found = msa_training.replay(params, stale=lambda: False, progress=None)
    assert found.run.config.arm == "msa" and found.snapshot.step == 120  # the last one before
    view = msa_training.present_replay(found)
    assert view.values == {"step": 120}
    accuracy = found.run.at(120).accuracy
    assert ("accuracy", f"{accuracy:.2f}") in [(r.label, r.value) for r in view.readouts]


def test_curves_are_means_and_bands_over_seeds():
    runs = committed_runs()
    figure = training_figures.curves_figure(runs, "accuracy", "msa", 100)
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert set(lines) == {arm.title for arm in ARMS.values()}
    seeds = [run.curve("accuracy") for run in runs if run.config.arm == "msa"]
    assert len(seeds) >= 3
    np.testing.assert_allclose(lines[ARMS["msa"].title].y, np.mean(seeds, 0))
    band = next(t for t in figure.data if t.fill and len(t.y) == 2 * len(seeds[0]))
    assert max(band.y) <= 1


def test_an_arm_without_the_measure_has_no_curve():
    figure = training_figures.curves_figure(committed_runs(), "kl", "msa", 100)
    names = {trace.name for trace in figure.data if trace.name}
    assert ARMS["dense"].title not in names and ARMS["msa"].title in names


def test_pairs_are_waiting_in_work_done_or_in_vain():
    result = loop_orders(LoopParams(order="union_tile", drift=1.0))
    trace = result.traces["union_tile"]
    last = loop_figures.pair_kinds(result, trace, trace.n_steps)  # after the end
    assert (last[result.chosen] == 2).all() and (last[trace.masked] == 4).all()
    first = loop_figures.pair_kinds(result, trace, 0)
    assert set(np.unique(first)) <= {0, 1, 3} and (first == 3).any()


def test_traffic_bars_end_at_the_totals():
    result = loop_orders(LoopParams())
    figure = loop_figures.traffic_figure(result, 1.0)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    ends = next(trace for trace in figure.data if trace.type == "scatter")
    np.testing.assert_allclose(np.sum([bar.x for bar in bars], 0), ends.x)


def test_loop_summary_names_the_order_with_fewest_bytes():
    scrubbed = msa_loops.Scrubbed(params=LoopParams(drift=1.0), percent=100)
    view = msa_loops.present_loops(msa_loops.trace(scrubbed, stale=lambda: False, progress=None))
    assert "KV-outer needs least" in view.summary


def continued(dense, sparse):
    return Continuation(
        params=ContinueParams(reader="main_max"),
        prompt=("Why", " is"),
        dense=tuple(map(str, dense)),
        sparse=tuple(map(str, sparse)),
        dense_ids=tuple(dense),
        sparse_ids=tuple(sparse),
        agreement=0.5,
        read_share=0.25,
    )


def test_tokens_are_marked_from_the_first_difference_on():
    view = msa_continue.present_continuation(continued([1, 2, 3, 4], [1, 2, 9, 4]))
    marks = list(view.tokens.marks)
    assert marks.count(msa_continue.SAME) == 4  # two in each text
    assert marks.count(msa_continue.DENSE) == marks.count(msa_continue.SPARSE) == 2
    assert "part at token 3 of 4" in view.summary


def test_equal_texts_have_no_difference():
    result = continued([1, 2], [1, 2])
    assert result.first_difference is None
    assert "all 2 tokens are the same" in msa_continue.present_continuation(result).summary


@pytest.mark.model
def test_reading_every_block_continues_like_the_dense_model():
    explorer = msa_continue.continuation(
        reader="main_max", n_selected=16, block_size=16, n_prompt=128, n_new=8
    )
    assert explorer.status["state"] == "done", explorer.status
    assert explorer.result.first_difference is None and explorer.result.agreement == 1
    explorer.set(text="too short")
    assert explorer.wait(60)
    assert "at least two blocks" in explorer.status["text"]
    assert explorer.result.first_difference is None  # the old picture stays
    explorer.close()


def test_without_the_model_the_explorer_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(smollm, "find_model", lambda: None)
    explorer = msa_continue.continuation()
    assert explorer.status["text"] == smollm.MISSING_MODEL_SENTENCE
    explorer.close()


@pytest.mark.model
def test_block_selection_offers_the_trained_index_that_is_shipped():
    assert shipped_index() is not None
    explorer = panels.block_selection(selector="trained_index", layer=10)
    assert explorer.status["state"] == "done", explorer.status
    captured = explorer.result.captured_mean
    assert captured["trained_index"].mean() > captured["window_sink"].mean() + 0.05
    assert (captured["trained_index"] <= captured["oracle"] + 1e-6).all()
    explorer.close()
