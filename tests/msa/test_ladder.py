"""The ladder's FLOPs and bytes are those of the equations, its times those of the committed run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from intuitive.msa import cost
from intuitive.msa.config import MSAConfig
from intuitive.msa.experiments.ladder import FUNCTIONS, SHARINGS, LadderParams, Work, run
from intuitive.msa.experiments.loop_orders import LoopParams
from intuitive.msa.experiments.loop_orders import run as loop
from intuitive.widgets.msa import ladder as widget
from intuitive.widgets.msa import ladder_scene as scene

PAPER = MSAConfig.paper()
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
ROWS = json.loads((RESULTS / "kernels_h100.json").read_text())["values"]["rows"]
PREFILLS = [row for row in ROWS if row["task"] == "prefill"]


@pytest.fixture(params=FUNCTIONS)
def result(request):
    return run(LadderParams(function=request.param))


def climb(function, **rest):
    return run(LadderParams(function=function, **rest))


def test_prompts_have_the_flops_and_bytes_of_the_equations():
    for row in PREFILLS:
        n = row["tokens"]
        rungs = climb("attend").at(n)
        assert rungs["everything"].work.flops == pytest.approx(n * cost.dense_flops(PAPER, n))
        assert rungs["query_outer"].work.flops == pytest.approx(n * cost.main_flops(PAPER, n))
        index = n * cost.index_flops(PAPER, n)
        assert climb("select").at(n)["maxima"].work.flops == pytest.approx(index)
        assert rungs["kv_outer"].work.bytes == pytest.approx(cost.kv_outer_bytes(PAPER, n))


def test_full_selections_have_the_bytes_of_equation_13():
    """The last queries of a long context all read k blocks; a prompt's first ones read fewer."""
    long = climb("attend").at(2**20)
    full = cost.query_outer_bytes(PAPER, long.queries)
    assert long["query_outer"].work.bytes == pytest.approx(full)
    prompt = climb("attend").at(2**17)["query_outer"]
    assert 0.99 < prompt.work.bytes / cost.query_outer_bytes(PAPER, 2**17) < 1


def test_orders_differ_as_in_the_small_prefill():
    """Query-outer asks for 16 FLOP a byte, in the small case as in the large."""
    small = loop(LoopParams())
    trace = small.traces["query_outer"]
    pairs = small.useful_pairs * 4 * 16 * 128 * 128
    large = climb("attend").at(2**20)["query_outer"].work
    assert pairs / trace.total_bytes == pytest.approx(large.intensity, rel=0.03)
    assert large.intensity == pytest.approx(16, rel=0.02)


def test_one_token_reads_the_bytes_of_the_cost_model():
    for landing in climb("decode").landings:
        m = landing.context
        assert landing["everything"].work.bytes == cost.dense_decode_bytes(PAPER, m)
        assert landing["step"].work.bytes == cost.msa_decode_bytes(PAPER, m)
        assert landing["select_one"].work.bytes + landing["attend_one"].work.bytes == (
            landing["step"].work.bytes
        )


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_union_is_the_one_that_was_counted(sharing):
    for row in PREFILLS:
        rungs = climb("attend", sharing=sharing).at(row["tokens"])
        union = row[f"distinct_{sharing}"]["4"] / 16
        assert rungs["union_tile"].work.flops == pytest.approx(
            union * rungs["query_outer"].work.flops
        )
        assert rungs["union_tile"].measured_ms == row[f"attend_{sharing}"]


def test_times_are_the_committed_ones():
    for row in PREFILLS:
        fastest = min(row["cudnn"], row["flash"])
        assert climb("attend").at(row["tokens"])["everything"].measured_ms == fastest
        chosen = climb("select").at(row["tokens"])
        assert chosen["maxima"].measured_ms == pytest.approx(row["score"] + row["select"])
        assert chosen["in_chunks"].measured_ms == row["score_and_select"]
        assert chosen["every_score"].measured_ms is None
    for row in (r for r in ROWS if r["task"] == "decode"):
        step = climb("decode").at(row["tokens"])["step"]
        assert step.measured_ms == pytest.approx(row["msa"] / 1e3)


def test_nothing_is_quicker_than_its_floor(result):
    for landing in result.landings:
        for rung in landing.rungs:
            assert rung.ms >= rung.least.floor_ms
            assert rung.work.flops >= rung.least.flops * (1 - 1e-12)
            if rung.measured_ms is None:
                assert rung.ms == rung.work.floor_ms


def test_a_floor_is_the_longer_of_two_times():
    work = Work(flops=989e12, bytes=3.35e12 / 2)
    assert work.floor_ms == pytest.approx(1000)
    assert replace(work, bytes=2 * 3.35e12).floor_ms == pytest.approx(2000)
    assert work.intensity == pytest.approx(2 * 989 / 3.35)


@pytest.mark.parametrize("name", ["function", "sharing", "queries"])
def test_unknown_settings_are_refused_in_words(name):
    with pytest.raises(ValueError, match=f"{name}='sideways' is unknown; choose one of"):
        LadderParams(**{name: "sideways"})


# ------------------------------------------------------------------------------------ picture


def test_points_stand_on_the_roof_or_where_they_were_measured(result):
    view, place = widget.present(result), scene.Picture(result).place
    for landing, frame in zip(result.shown, view.timeline.frames, strict=True):
        for rung in landing.rungs:
            mark = frame.scene[f"point:{rung.name}"]
            want = place(rung.work.intensity, rung.flops_per_s)
            assert (mark.x, mark.y) == pytest.approx(want)
            assert mark.fill == ("page" if rung.measured_ms is None else mark.fill)
            assert (mark.fill == "page") == (rung.measured_ms is None)
            on_roof = place(
                rung.work.intensity, min(cost.H100_FLOPS, rung.work.intensity * cost.H100_BYTES)
            )
            if rung.measured_ms is None:
                assert mark.y == pytest.approx(on_roof[1])


@pytest.mark.parametrize("function", ["attend", "select"])
def test_a_prompt_and_its_last_queries_are_never_on_one_slider(function):
    whole, last = (
        widget.present(run(LadderParams(function=function, queries=queries))).timeline.frames
        for queries in ("prompt", "last")
    )
    assert [frame.label for frame in whole] == ["8K", "16K", "32K", "64K", "128K"]
    assert [frame.label for frame in last] == ["256K", "512K", "1M"]
    assert all(frame.sentence.startswith("The last 8K of ") for frame in last)
    decode = run(LadderParams(function="decode", queries="last"))
    assert decode.shown == decode.landings


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_menu_stands_idle_where_it_changes_nothing_and_nowhere_else(function):
    def drawn(**settings):
        view = widget.present(climb(function, **settings))
        return view.timeline, view.readouts, view.summary, view.table

    changed = {"queries": "last", "sharing": "random"}
    same = {name for name, value in changed.items() if drawn(**{name: value}) == drawn()}
    assert set(widget.IDLE[function]) == same


def test_no_point_lies_beyond_the_ends_of_the_axes(result):
    (least, most), (slow, quick) = scene.ENDS[result.params.function]
    for landing in result.landings:
        for rung in landing.rungs:
            assert least < rung.work.intensity < most
            assert slow < rung.flops_per_s / 1e12 < quick


def test_a_time_starts_at_its_floor(result):
    picture = scene.Picture(result)
    for landing, frame in zip(result.shown, picture.frames(), strict=True):
        for rung in landing.rungs:
            line = frame.scene[f"from:{rung.name}"]
            assert line.x == pytest.approx(picture.time_x(rung.least.floor_ms))
            assert line.x2 == pytest.approx(picture.time_x(rung.ms)) and line.x <= line.x2
            low, high = picture.times
            assert 10**low <= rung.least.floor_ms and rung.ms <= 10**high  # nothing is cut off


def test_what_is_above_the_slope_came_from_the_cache(result):
    """Bytes over time is more than the memory's rate: the rest, at least, it did not bring."""
    picture = scene.Picture(result)
    for landing, frame in zip(result.shown, picture.frames(), strict=True):
        keys = {mark.key for mark in frame.scene.marks}
        for rung in landing.rungs:
            rate = rung.work.bytes / rung.ms * 1e3
            above = rung.measured_ms is not None and rate > cost.H100_BYTES
            assert (f"cache:{rung.name}" in keys) == above == (rung.cached > 0)
            if above:
                assert rung.cached == pytest.approx(1 - cost.H100_BYTES / rate)
                line = frame.scene[f"cache:{rung.name}"]
                point = frame.scene[f"point:{rung.name}"]
                assert (line.x2, line.y2) == (point.x, point.y) and line.y > line.y2
        last = landing[scene.LAST[result.params.function]]
        assert ("cache:told:1" in keys) == (last.cached > 0)
        if last.cached:
            told = f"{picture.name(last)}: at least {last.cached:.0%} of its bytes"
            assert frame.scene["cache:told:1"].text == told


def test_a_column_that_a_measurement_may_beat_says_on_what_it_stands():
    """With the cache's help a rung is quicker than its own work with all bytes from memory."""
    table = widget.present(climb("attend")).table
    columns = dict(zip(table.header, zip(*table.rows, strict=True), strict=True))
    own = columns["for its own work, if every byte came from memory (ms)"]
    measured = columns["measured (ms)"]
    assert any(float(b) < float(a) for a, b in zip(own, measured, strict=True) if b[0].isdigit())
    assert not any("at least" in name for name in table.header)


def test_decoding_shows_what_launches_take_and_prompts_do_not(result):
    profile = json.loads((RESULTS / "kernel_profile.json").read_text())
    empty = profile["values"]["decode"]["3 empty launches_us"]
    picture = scene.Picture(result)
    for frame in picture.frames():
        lines = {mark.key: mark for mark in frame.scene.marks if mark.key.startswith("launches:")}
        if result.params.function != "decode":
            assert not lines
            continue
        assert set(lines) == {"launches:step"}  # a part is not launched three times
        assert {line.x for line in lines.values()} == {picture.time_x(empty / 1e3)}
        named = frame.scene["key:launches:name"].text
        assert named == f"3 empty launches, H200: {empty:.2f} µs"
        assert profile["made"]["device"] == "NVIDIA H200"


def test_a_click_divides_flops_and_bytes_by_the_data_sheet():
    frame = widget.present(climb("attend")).timeline.frames[4]
    rung = climb("attend").at(2**17)["union_tile"]
    text = frame.arithmetic["rung:union_tile"].text
    assert f"÷ 989 TFLOP/s = {scene.time_text(rung.work.flops / 989e9)}" in text
    assert f"÷ 3.35 TB/s = {scene.time_text(rung.work.bytes / 3.35e9)}" in text
    assert f"measured {scene.time_text(rung.measured_ms)}" in text


def test_the_prediction_holds_the_ratio_of_bytes_and_is_answered_by_the_record():
    ratio = cost.decode_byte_ratio(PAPER, 8192)
    assert f"reads {ratio:.1f} times fewer bytes" in widget.PREDICT.question
    (row,) = (r for r in ROWS if r["task"] == "decode" and r["tokens"] == 8192)
    speed = min(row["cudnn"], row["flash"]) / row["msa"]
    right, why = widget.PREDICT.answer()
    assert right == (0 if speed > 1.25 else 1 if speed > 0.95 else 2)
    assert f"{row['msa']:.1f} µs instead of" in why
    profile = json.loads((RESULTS / "kernel_profile.json").read_text())["values"]["decode"]
    step = profile["8K, hopper"]
    assert f"on another card, an H200, with a later version: {step['whole_us']:.1f} µs" in why
    parts = [step[f"{part}_us"] for part in ("scores", "attend", "merge")]
    assert sum(parts) == pytest.approx(step["whole_us"], rel=0.1)  # nothing large is unnamed
    for us, told in zip(parts, ("the scores", "searching and attending", "the merge"), strict=True):
        assert f"{us:.2f} µs for {told}" in why
    assert f"3 kernels that do nothing takes {profile['3 empty launches_us']:.2f} µs" in why


def landing_of(seen):
    settings = {name: seen.values[name] for name in ("function", "sharing", "queries")}
    return run(LadderParams(**settings)), settings


def busy_is_not_fast(seen):
    result, _ = landing_of(seen)
    rungs = result.at(2**17).rungs
    assert max(rungs, key=lambda r: r.flops_per_s).name == "everything"
    assert seen.number("everything, masked ÷ tile by tile") > 10
    assert max(rungs, key=lambda r: r.ms).name == "everything"


def alone_is_slower_than_everything(seen):
    result, _ = landing_of(seen)
    assert result.at(2**13)["query_outer"].ms > 2 * result.at(2**13)["everything"].ms
    assert any(said.startswith("8K: everything takes") for said in seen.sentences)


def the_tile_computes_in_vain(seen):
    result, settings = landing_of(seen)
    assert settings["sharing"] == "random"
    tile = result.at(2**17)["union_tile"]
    assert tile.work.flops > 3 * tile.least.flops


def scores_cost_more_than_products(seen):
    result, _ = landing_of(seen)
    stored = result.at(2**17)["every_score"]
    assert stored.ms > 5 * 1e3 * stored.work.flops / cost.H100_FLOPS
    assert seen.number("every score stored ÷ in chunks of queries") > 3


def attend_takes_as_long_everywhere(seen):
    result, _ = landing_of(seen)
    times = [landing["attend_one"].ms for landing in result.landings]
    assert 0.75 * times[0] < times[-1] < times[0] and max(times) < 1.3 * min(times)
    assert min(landing["attend_one"].over_floor for landing in result.landings) > 4
    assert seen.sentences[-1].startswith("1M")


STEPS = (
    busy_is_not_fast,
    alone_is_slower_than_everything,
    the_tile_computes_in_vain,
    scores_cost_more_than_products,
    attend_takes_as_long_everywhere,
)
