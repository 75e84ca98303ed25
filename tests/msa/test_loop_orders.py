"""The three loop orders compute the same pairs and move the bytes that the equations count."""

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.common.runtime import never
from intuitive.common.training import silent
from intuitive.msa import cost
from intuitive.msa.config import MSAConfig
from intuitive.msa.experiments.loop_orders import ORDERS, LoopParams, drifting_selection, run
from intuitive.widgets.msa import loop_orders as widget


@pytest.fixture(params=[0.0, 0.15, 1.0], ids="drift={}".format)
def result(request):
    return run(LoopParams(drift=request.param, n_queries=20, tile=8))


def test_every_chosen_pair_is_computed_once_in_every_order(result):
    for order in ORDERS:
        trace = result.traces[order]
        assert ((trace.step_of >= 0) & result.chosen).sum() == result.useful_pairs
    for order in ("query_outer", "kv_outer"):
        assert not result.traces[order].masked.any()


def test_selection_holds_first_and_local_block_and_the_budget():
    params = LoopParams(n_selected=5)
    chosen = drifting_selection(params)
    assert chosen[:, 0].all() and chosen[:, -1].all()
    assert (chosen.sum(1) == 5).all()


@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_drift_sets_how_much_neighbours_share(drift):
    chosen = drifting_selection(LoopParams(drift=drift, n_blocks=200, n_selected=10))
    same = (chosen[1:] & chosen[:-1]).sum(1)
    assert (same == 10).all() if drift == 0 else same.mean() < 4


def test_bytes_agree_with_equations_13_and_15(result):
    """One group, a context of n_queries tokens whose whole selection is k blocks."""
    params, paper = result.params, MSAConfig.paper()
    n, k = params.n_queries, params.n_selected
    sizes = {"n_q_heads": paper.group_size, "n_kv_heads": 1, "n_selected": k}
    config = MSAConfig(d_head=128, d_index=128, block_size=128, **sizes)
    assert result.traces["query_outer"].total_bytes == cost.query_outer_bytes(config, n)
    every_key_once = 2 * n * config.d_head * 2  # the equation's: a context as long as the queries
    blocks_once = int(result.chosen.any(0).sum()) * 2 * 128 * 128 * 2  # here: blocks ever chosen
    kv_outer = cost.kv_outer_bytes(config, n) - every_key_once + blocks_once
    assert result.traces["kv_outer"].total_bytes == kv_outer


def test_union_tile_reads_each_block_once_per_tile(result):
    trace = result.traces["union_tile"]
    unions = sum(
        int(result.chosen[first : first + 8].any(0).sum())
        for first in range(0, result.params.n_queries, 8)
    )
    assert trace.n_steps == unions
    assert trace.partial_bytes[-1] == 0


def test_identical_selections_waste_nothing():
    same = run(LoopParams(drift=0.0))
    assert not same.traces["union_tile"].masked.any()
    apart = run(LoopParams(drift=1.0))
    assert apart.traces["union_tile"].masked.sum() > apart.useful_pairs


def test_counters_only_grow(result):
    for trace in result.traces.values():
        for counter in (trace.key_value_bytes, trace.query_bytes, trace.partial_bytes):
            assert (np.diff(counter) >= 0).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"order": "sideways"}, "order='sideways' is unknown; choose one of query_outer"),
        ({"n_selected": 1}, "n_selected=1 must lie from 2"),
        ({"n_selected": 40}, "n_selected=40 must lie from 2 .* to n_blocks=32"),
        ({"drift": 1.5}, "drift=1.5 must be a chance"),
        ({"tile": 0}, "tile=0 must be at least 1"),
    ],
)
def test_bad_settings_are_refused_in_words(settings, words):
    with pytest.raises(ValueError, match=words):
        LoopParams(**settings)


def test_pairs_are_waiting_in_work_done_or_in_vain():
    result = run(LoopParams(order="union_tile", drift=1.0))
    trace = result.traces["union_tile"]
    last = widget.pair_kinds(result, trace, trace.n_steps)  # after the end
    assert (last[result.chosen] == 2).all() and (last[trace.masked] == 4).all()
    first = widget.pair_kinds(result, trace, 0)
    assert set(np.unique(first)) <= {0, 1, 3} and (first == 3).any()


def test_traffic_bars_end_at_the_totals():
    result = run(LoopParams())
    figure = go.Figure(widget.traffic_figure(result, 1.0))
    bars = [trace for trace in figure.data if trace.type == "bar"]
    ends = next(trace for trace in figure.data if trace.type == "scatter")
    np.testing.assert_allclose(np.sum([bar.x for bar in bars], 0), ends.x)


def test_loop_summary_names_the_order_with_fewest_bytes():
    scrubbed = widget.Scrubbed(params=LoopParams(drift=1.0), percent=100)
    view = widget.present(widget.trace(scrubbed, stale=never, progress=silent))
    assert "KV-outer needs least" in view.summary
