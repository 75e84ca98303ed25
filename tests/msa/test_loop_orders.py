"""The loop orders compute the same pairs and move the bytes that the equations count."""

import re

import numpy as np
import pytest

from intuitive.msa import cost
from intuitive.msa.config import MSAConfig
from intuitive.msa.experiments.loop_orders import (
    ORDER_NAMES,
    ORDERS,
    LoopParams,
    drifting_selection,
    run,
)
from intuitive.widgets.msa import loop_orders as widget
from intuitive.widgets.msa import loop_orders_scene as scene


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


def test_everything_reads_all_blocks_once_per_tile(result):
    trace = result.traces["everything"]
    n_tiles, (n, n_blk) = -(-result.params.n_queries // 8), result.chosen.shape
    assert trace.n_steps == n_tiles * n_blk
    assert (trace.step_of >= 0).all() and trace.masked.sum() == n * n_blk - result.useful_pairs


def test_a_step_takes_the_longer_of_its_bytes_and_its_products(result):
    for trace in result.traces.values():
        moved = trace.key_value_bytes + trace.query_bytes + trace.partial_bytes
        assert (trace.clock_s >= moved / 3.35e12 * (1 - 1e-12)).all()
        assert (trace.clock_s >= trace.multiplying_s).all()
    alone = result.traces["query_outer"]  # 16 FLOP a byte: memory is what it waits for
    assert alone.total_s == pytest.approx(alone.total_bytes / 3.35e12)
    wide = run(LoopParams(tile=16, n_queries=16)).traces["everything"]
    pairs = 16 * 32 * 4 * 16 * 128 * 128
    assert wide.multiplying_s[-1] == pytest.approx(pairs / 989e12)


def test_where_an_order_stands_at_a_time(result):
    trace = result.traces["union_tile"]
    assert [trace.step_at(s) for s in trace.clock_s] == list(range(trace.n_steps))
    assert trace.step_at(0.0) == -1 and trace.step_at(1.0) == trace.n_steps - 1
    assert trace.step_at(float(trace.clock_s[1:3].mean())) == 1


def test_counters_only_grow(result):
    for trace in result.traces.values():
        for counter in (
            trace.key_value_bytes,
            trace.query_bytes,
            trace.partial_bytes,
            trace.clock_s,
            trace.multiplying_s,
        ):
            assert (np.diff(counter) >= 0).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"order": "sideways"}, "order='sideways' is unknown; choose one of everything"),
        ({"n_selected": 1}, "n_selected=1 must lie from 2"),
        ({"n_selected": 40}, "n_selected=40 must lie from 2 .* to n_blocks=32"),
        ({"drift": 1.5}, "drift=1.5 must be a chance"),
        ({"tile": 0}, "tile=0 must be at least 1"),
    ],
)
def test_bad_settings_are_refused_in_words(settings, words):
    with pytest.raises(ValueError, match=words):
        LoopParams(**settings)


def frames_of(**settings):
    result = run(LoopParams(**settings))
    return result, widget.present(result).timeline.frames


def pairs_of(frame):
    cells = (mark for mark in frame.scene.marks if mark.key.startswith("pair:"))
    return {tuple(map(int, mark.key.split(":")[1:])): mark.fill for mark in cells}


def test_pairs_are_waiting_in_work_done_or_in_vain():
    result, frames = frames_of(order="union_tile", drift=1.0)
    trace = result.traces["union_tile"]
    first, last = pairs_of(frames[0]), pairs_of(frames[-1])
    assert set(first.values()) == {"grey", "vermilion"}
    in_vain = {pair for pair, fill in last.items() if fill == "purple"}
    late = {tuple(pair) for pair in np.argwhere(trace.step_of > scene_step(frames[-2]))}
    assert in_vain == {tuple(pair) for pair in np.argwhere(trace.masked)} - late
    assert {p for p, fill in last.items() if fill in ("green", "vermilion")} - late == {
        tuple(pair) for pair in np.argwhere(result.chosen)
    } - late


def scene_step(frame):
    return int(frame.label.split()[1]) - 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n_queries", [4, 32])
def test_fetches_and_bytes_are_those_of_the_trace(order, n_queries):
    result, frames = frames_of(order=order, n_queries=n_queries)
    trace = result.traces[order]
    longest = max(one.total_bytes for one in result.traces.values())
    for frame in (frames[0], frames[len(frames) // 2], frames[-1]):
        step = scene_step(frame)
        shown = {readout.label: readout.value for readout in frame.readouts}
        assert shown["clock"] == f"{1e6 * trace.clock_s[step]:.2f} µs"
        moved = trace.key_value_bytes[step] + trace.query_bytes[step] + trace.partial_bytes[step]
        assert shown["moved so far"] == f"{moved / 2**20:.2f} MiB"
        lengths = [mark.w for mark in frame.scene.marks if mark.key.startswith(f"bytes:{order}:")]
        full = scene.BARS[1] - scene.BARS[0]
        assert sum(lengths) / full == pytest.approx(moved / longest)
    assert len(frames) <= scene.MOST_FRAMES
    assert scene_step(frames[-1]) == trace.n_steps - 1
    assert all(
        mark.y + mark.h <= scene.HEIGHT
        for mark in frames[-1].scene.marks
        if mark.kind == "rectangle"
    )


def test_a_click_opens_a_count_times_a_size():
    result, _ = frames_of()
    lines = widget.present(result).arithmetic
    assert lines["query_outer:key_value_bytes"].text.endswith(
        "144 fetches of a block × 64 KiB = 9.00 MiB."
    )
    assert "48 slabs of a query × 4 KiB = 0.19 MiB" in lines["query_outer:query_bytes"].text


def ends_of(frame):
    return {mark.key.split(":")[1] for mark in frame.scene.marks if mark.key.startswith("end:")}


def test_a_bar_of_the_race_is_as_long_as_all_that_its_order_moves():
    result, frames = frames_of(order="union_tile")
    longest = max(trace.total_bytes for trace in result.traces.values())
    for order, trace in result.traces.items():
        whole = frames[1].scene[f"whole:{order}"]
        assert whole.w / (scene.BARS[1] - scene.BARS[0]) == pytest.approx(
            trace.total_bytes / longest
        )
        told = frames[-1].scene[f"moved:{order}"].text
        done = trace.total_s <= result.traces["union_tile"].total_s
        ends = f"✓ {1e6 * trace.total_s:.2f} µs", f" of {trace.total_bytes / 2**20:.2f} MiB"
        assert told.endswith(ends[not done])
    first = frames[0].scene.marks  # the poster, which asks
    assert not any(mark.key.startswith("whole:") for mark in first)
    moved = [mark.text for mark in first if mark.key.startswith("moved:")]
    assert len(moved) == 4 and all(re.fullmatch(r"0\.\d\d MiB", text) for text in moved)
    ticks = [mark.text for mark in frames[0].scene.marks if mark.key.endswith(":name")]
    assert "0 MiB" in ticks and "8" in ticks


def test_the_orders_race_on_one_clock():
    result, frames = frames_of(order="query_outer")
    assert ends_of(frames[0]) == set() and ends_of(frames[-1]) == set(ORDERS)
    for frame in frames:
        now = result.traces["query_outer"].clock_s[scene_step(frame)]
        assert ends_of(frame) == {o for o, t in result.traces.items() if t.total_s <= now}


def test_the_last_frame_names_the_order_that_is_done_first():
    last = widget.present(run(LoopParams(drift=1.0))).timeline.frames[-1]
    assert "First of all: block by block" in last.sentence


def test_the_prediction_is_answered_by_the_clock():
    right, why = widget.PREDICT.answer()
    assert right == 1 and "1.94 µs" in why and "2.88 µs" in why
    assert "Shorter selections or smaller tiles would turn it" in why
    for turned in (LoopParams(n_selected=3), LoopParams(tile=4)):
        traces = run(turned).traces
        assert traces["query_outer"].total_s < traces["everything"].total_s


def test_a_picture_of_several_steps_marks_and_names_all_their_blocks():
    """There are at most 48 pictures of 96 or 144 steps."""
    result, frames = frames_of(order="everything")
    trace, before = result.traces["everything"], -1
    for frame in frames[:-1]:
        step = scene_step(frame)
        done = (trace.step_of > before) & (trace.step_of <= step)
        now = set(np.flatnonzero(done.any(0)).tolist())
        columns = {
            int(mark.key.split(":")[1])
            for mark in frame.scene.marks
            if mark.key.startswith("fetches:") and mark.fill == "vermilion"
        }
        assert columns == now
        told = re.search(r"blocks? ([\d, and]+) (?:is|are) used", frame.sentence)[1]
        assert set(map(int, re.findall(r"\d+", told))) == now
        before = step


def test_a_cell_says_who_chose_it_and_how_often_its_block_comes():
    result, frames = frames_of(order="query_outer")
    assert frames[-1].scene["pair:3:0"].words == (
        "Query 3 chose block 0: the pair was computed. This order fetches the block 24 times "
        "in all."
    )
    result, frames = frames_of(order="everything")
    query, block = map(int, np.argwhere(~result.chosen)[0])
    assert frames[-1].scene[f"pair:{query}:{block}"].words == (
        f"Query {query} did not choose block {block}: the pair was computed with its tile, "
        "and is thrown away. This order fetches the block 3 times in all."
    )


def test_the_last_sentence_says_who_is_not_done_yet():
    for order, late in (("everything", {"query by query"}), ("query_outer", set())):
        result, frames = frames_of(order=order)
        slower = {
            ORDER_NAMES[one.order]
            for one in result.traces.values()
            if one.total_s > result.traces[order].total_s
        }
        assert slower == late
        told = re.search(r"not done yet: (.*)\.", frames[-1].sentence)
        assert set(told[1].split(" and ") if told else ()) == late


def pairs_told(seen):
    told = re.search(r"(\d+) pairs computed, (\d+) useful", seen.sentences[-1])
    return tuple(map(int, told.groups()))


def everything_takes_pairs_that_nobody_chose(seen):
    assert "96 fetches" in seen.sentences[-1]
    assert "768 pairs computed, 144 useful" in seen.sentences[-1]


def every_query_fetches_the_first_block(seen):
    assert (
        "144 fetches for" in seen.sentences[-1] and "block 0 alone 24 times" in seen.sentences[-1]
    )
    assert "144 pairs computed, 144 useful" in seen.sentences[-1]


def the_tile_shares_and_wastes(seen):
    assert "block 0 alone 3 times" in seen.sentences[-1]
    assert "First of all: tile by tile" in seen.sentences[-1]
    assert pairs_told(seen)[0] > pairs_told(seen)[1] == 144


def every_block_comes_once(seen):
    assert "block 0 alone once (most: 1)" in seen.sentences[-1]
    assert "144 pairs computed, 144 useful" in seen.sentences[-1]


def without_agreement_most_pairs_are_in_vain(seen):
    assert not any("First of all" in said for said in (seen.summary, *seen.sentences[:-1]))
    computed, useful = pairs_told(seen)
    assert computed - useful > computed / 2
    lengths = {key: mark["w"] for key, mark in seen.marks.items() if key.startswith("whole:")}
    assert min(lengths, key=lengths.get) == "whole:kv_outer"
    assert "First of all: block by block" in seen.sentences[-1]


STEPS = (
    everything_takes_pairs_that_nobody_chose,
    every_query_fetches_the_first_block,
    the_tile_shares_and_wastes,
    every_block_comes_once,
    without_agreement_most_pairs_are_in_vain,
)


@pytest.mark.parametrize("seed", range(3))
def test_what_the_steps_say_holds_for_every_seed(seed):
    for drift, best in ((0.0, "union_tile"), (0.15, "union_tile"), (1.0, "kv_outer")):
        traces = run(LoopParams(drift=drift, seed=seed)).traces
        assert min(traces, key=lambda name: traces[name].total_s) == best
        assert traces["everything"].total_s < traces["query_outer"].total_s
        in_vain = int(traces["union_tile"].masked.sum())
        assert in_vain == 0 if drift == 0 else in_vain > (144 if drift == 1 else 0)
