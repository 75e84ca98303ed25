"""The committed conversion of SmolLM2, read as curves: what it shows."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from statistics import mean

import msa_conversion
import msa_index_merge
import msa_reads
import plotly.graph_objects as go
import pytest
import torch

from intuitive.common import records
from intuitive.msa import results, shipped_index
from intuitive.msa.experiments.conversion import (
    EARLIER,
    MEASURES,
    PASSAGE,
    PERPLEXITIES,
    QUALITIES,
    READERS,
    ConversionParams,
    curves,
    passages,
)
from intuitive.msa.index import WEIGHTS
from intuitive.widgets.kit import fixed, number
from intuitive.widgets.msa import conversion as widget
from intuitive.widgets.msa import conversion_scene as scene

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def prose(cell):
    """A cell of the lesson."""
    told = json.loads((ROOT / "notebooks" / "01_msa.ipynb").read_text(encoding="utf-8"))["cells"]
    return next("".join(one["source"]) for one in told if one["id"] == cell)


def values(measure, context=4096):
    found = curves(ConversionParams(measure=measure, context=context))
    return found, {
        name: {point.n_selected: point.mean for point in points}
        for name, points in found.curves.items()
    }


@pytest.mark.parametrize("context", [2048, 4096])
@pytest.mark.parametrize("measure", ["perplexity", "mass_captured", "block_recall"])
def test_every_selector_was_measured_and_the_indexes_with_three_seeds(measure, context):
    found, by_name = values(measure, context)
    assert set(by_name) == set(READERS)
    assert found.seeds == (0, 1, 2)
    for name in ("trained_index", EARLIER):
        assert all(len(point.by_seed) == 3 for point in found.curves[name])
    assert all(set(curve) == {2, 4, 8, 16} for curve in by_name.values())


@pytest.mark.parametrize("measure", QUALITIES[:2])
def test_nothing_captures_more_than_the_oracle(measure):
    _, by_name = values(measure)
    for name, curve in by_name.items():
        for budget, value in curve.items():
            assert value <= by_name["oracle"][budget] + 1e-6, (name, budget)


def test_more_blocks_bring_perplexity_down_to_the_dense_model():
    found, by_name = values("perplexity")
    for curve in by_name.values():
        ordered = [curve[budget] for budget in sorted(curve)]
        assert ordered == sorted(ordered, reverse=True)
        assert ordered[-1] > found.dense - 0.02
    assert by_name["trained_index"][16] < 1.01 * found.dense


@pytest.mark.parametrize("name", ["trained_index", EARLIER])
def test_an_index_captures_more_mass_than_the_window_at_every_budget(name):
    _, by_name = values("mass_captured")
    assert all(by_name[name][k] > by_name["window_sink"][k] for k in (2, 4, 8, 16))


def test_the_trained_index_does_what_the_main_scores_do_from_four_blocks_on():
    _, by_name = values("perplexity")
    for k in (4, 8, 16):
        assert by_name["trained_index"][k] < by_name["main_max"][k]
    assert 1.15 < by_name["trained_index"][2] / by_name["main_max"][2] < 1.25  # not with two


def test_only_the_trained_index_finds_a_passage_read_before():
    """A finding that the lesson reports: attention captured did not tell."""
    found, _ = values("returning_passage")
    for seed in (0, 1, 2):
        trained, earlier = (
            {point.n_selected: point.by_seed[seed] for point in found.curves[name]}
            for name in ("trained_index", EARLIER)
        )
        assert trained[8] < 1.1 * found.dense and trained[16] < found.dense
        assert earlier[8] > 10 * found.dense
    _, mass = values("mass_captured")
    at_8 = {name: round(100 * mass[name][8]) for name in ("trained_index", EARLIER, "window_sink")}
    assert at_8 == {"trained_index": 87, EARLIER: 86, "window_sink": 81}


def test_beyond_the_training_s_context_it_loses_more_and_in_prose_to_the_window():
    found, by_name = values("perplexity", 8192)
    assert by_name["trained_index"][8] < by_name["window_sink"][8]
    assert by_name["main_max"][8] < by_name["trained_index"][8] - 1
    assert round(100 * (by_name["trained_index"][8] / found.dense - 1)) == 19
    _, prose = values("perplexity_prose", 8192)
    assert all(prose["trained_index"][k] > prose["window_sink"][k] + 1 for k in (8, 16))


def adapted(measure, arm, n_selected):
    found = curves(ConversionParams())
    rows = [
        r for r in found.adapted if (r.measure, r.arm, r.n_selected) == (measure, arm, n_selected)
    ]
    assert {row.seed for row in rows} == {0, 1, 2}
    return mean(row.all for row in rows)


def test_adapting_the_model_narrows_the_gap_at_four_blocks():
    """Each against the dense model that had as many steps: none, or as many."""
    gaps = {}
    for measure in ("perplexity", "returning_passage"):
        frozen, dense = (adapted(measure, "frozen", k) for k in (4, None))
        through, trained = (
            adapted(measure, arm, k) for arm, k in (("adapted", 4), ("dense", None))
        )
        gaps[measure] = frozen / dense - 1, through / trained - 1
    assert [round(100 * gap) for gap in gaps["perplexity"]] == [11, 7]
    assert [round(100 * gap) for gap in gaps["returning_passage"]] == [50, 4]


def test_the_adapted_tab_s_index_is_the_chart_s_after_more_steps():
    """The frozen arm is the same model on the same texts; its index learned some 275 steps on."""
    committed = results.conversion()
    assert {arm.steps for arm in committed.values.adaptation_arms} == {274, 275}
    assert committed.made.config["plan"]["schedule"]["adapted_n_selected"] == 4
    found, chart = values("returning_passage")
    assert adapted("returning_passage", "frozen", None) == pytest.approx(found.dense)
    text, frozen = prose("41d47398"), {}
    for k in (8, 4):
        frozen[k] = adapted("returning_passage", "frozen", k)
        assert f"{fixed(chart['trained_index'][k])} becomes {fixed(frozen[k])}" in text
    assert "some 275 more steps" in text
    plain = values("perplexity")[1]["trained_index"][4], adapted("perplexity", "frozen", 4)
    assert f"{plain[0]:.2f} and {plain[1]:.2f}" in text
    cost = chart["trained_index"][4] / found.dense - 1
    assert f"{cost:.0%} with the chart's index" in text


def test_with_16_blocks_it_reads_the_passage_better_than_the_dense_model():
    found, _ = values("returning_passage")
    at = {name: points[-1] for name, points in found.curves.items()}
    assert at["trained_index"].n_selected == 16 and len(at["trained_index"].by_seed) == 3
    assert max(at["trained_index"].by_seed) < found.dense
    plain, everything = values("perplexity")
    assert everything["trained_index"][16] > plain.dense
    said = [at["trained_index"].mean, found.dense, at["oracle"].mean]
    said += [everything["trained_index"][16], plain.dense]
    text = prose("41d47398").partition("With 16 blocks")[2].partition("\n")[0]
    assert re.findall(r"\d+\.\d+", text) == [fixed(value) for value in said]


def test_what_the_lesson_says_of_the_training():
    """13,700 steps that read densely and some 580 sparse ones; from 6.4 to 1.5 on the way."""
    committed = results.conversion().values
    same = [r for name, r in committed.training.items() if name.startswith("d128-r64-main-")]
    assert len(same) == 3
    assert {round(run.warmup_steps, -3) for run in same} == {14000}
    assert all(560 < run.sparse_steps < 600 for run in same)
    assert all(350 < run.seconds < 360 and run.device == "NVIDIA H200" for run in same)
    assert all(6.3 < run.validation["start"]["returning 8"] < 6.45 for run in same)
    assert all(1.42 < run.validation["end"]["returning 8"] < 1.49 for run in same)
    assert len(committed.before.kl[0]) == 180


def test_half_the_channels_find_the_passage_as_well_and_a_quarter_does_not():
    """1.62 and 4.68 with 8 blocks, where the earlier index of 64 channels has 15.7."""
    committed = results.conversion().values
    at_8 = {(row.d_index, row.seed): row for row in committed.curve if row.n_selected == 8}
    assert set(at_8) == {(128, 0), (128, 1), (128, 2), (64, 0), (32, 0)}
    assert round(at_8[64, 0].returning_passage, 2) == 1.62
    assert round(at_8[32, 0].returning_passage, 2) == 4.68
    assert committed.before.d_index == 64
    assert all(row.perplexity < 1.01 * at_8[128, 0].perplexity for row in at_8.values())


def test_what_storing_in_four_bits_costs():
    kept, _ = records.load(RESULTS / "msa_index.json")
    for row in kept["stored"]:
        points = values(row["measure"])[0].curves["trained_index"]
        by_k = {point.n_selected: point.by_seed for point in points}
        assert by_k[row["n_selected"]][row["seed"]] < 1.02 * row["all"], row


def test_the_file_that_is_shipped_is_the_one_that_was_chosen():
    committed = results.conversion().values
    assert WEIGHTS.stat().st_size == committed.shipped_bytes < 5e6
    assert shipped_index().made["student"] == msa_index_merge.named(committed.shipped)


@pytest.mark.model
def test_a_slice_of_the_committed_results_comes_out_again():
    assert msa_index_merge.compare_slice(RESULTS) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"measure": "taste"}, "must be one of"),
        ({"measure": "block_recall", "context": 8192}, "2048, 4096"),
        ({"n_selected": 3}, "2, 4, 8, 16"),
    ],
)
def test_what_was_not_measured_is_refused_with_what_was(settings, words):
    with pytest.raises(ValueError, match=words):
        curves(ConversionParams(**settings))


def marks_of(**settings):
    found = curves(ConversionParams(**settings))
    view = widget.present(found)
    return found, view, {mark.key: mark for mark in view.scene.marks}


@pytest.mark.parametrize("measure", MEASURES)
def test_points_stand_on_one_scale_with_ticks_in_order(measure):
    found, _, marks = marks_of(measure=measure)
    ticks = {float(key[5:]): mark.y for key, mark in marks.items() if key.startswith("grid:")}
    assert len(ticks) >= 3 and list(ticks) == sorted(ticks)
    assert sorted(ticks.values(), reverse=True) == list(ticks.values())  # larger is higher
    of_scale = math.log if measure in PERPLEXITIES else float
    at = sorted((of_scale(tick), y) for tick, y in ticks.items())
    slope = (at[-1][1] - at[0][1]) / (at[-1][0] - at[0][0])
    for name, points in found.curves.items():
        for point in points:
            want = at[0][1] + slope * (of_scale(point.mean) - at[0][0])
            assert marks[f"point:{name}:{point.n_selected}"].y == pytest.approx(want)
            if len(point.by_seed) > 1:
                span = marks[f"span:{name}:{point.n_selected}"]
                assert span.y <= marks[f"point:{name}:{point.n_selected}"].y <= span.y2
    if found.dense is not None:
        want = at[0][1] + slope * (of_scale(found.dense) - at[0][0])
        assert marks["dense"].y == pytest.approx(want)


def test_names_carry_the_values_at_the_cursor_and_keep_apart():
    for measure in MEASURES:
        for k in (2, 4, 8, 16):
            found, view, marks = marks_of(measure=measure, n_selected=k)
            for name, points in found.curves.items():
                value = next(point.mean for point in points if point.n_selected == k)
                told = scene.value_text(value, measure)
                assert marks[f"name:{name}"].text == f"{scene.NAMES[name]} {told}"
                point = marks[f"point:{name}:{k}"]
                start = marks[f"leader:{name}"].d[1:].split("L")[0]
                assert start == f"{point.x + 8:.1f},{point.y:.1f}"
            in_order = sorted(found.curves, key=lambda name: marks[f"point:{name}:{k}"].y)
            assert in_order == sorted(found.curves, key=lambda name: marks[f"name:{name}"].y)
            heights = sorted(mark.y for key, mark in marks.items() if key.startswith("name:"))
            assert min(b - a for a, b in pairwise(heights)) >= scene.GAP - 1e-9
            assert heights[0] >= scene.TOP and heights[-1] <= scene.HEIGHT - 4
            shown = {readout.label: readout.value for readout in view.readouts}
            index = next(p.mean for p in found.curves["trained_index"] if p.n_selected == k)
            assert shown["trained index"] == scene.value_text(index, measure)


def read_of(marks):
    """Share of the strip's height that is lit, by block."""
    tall = marks["block:0"].h
    return {b: marks[f"read:{b}"].h / tall for b in range(64)}


@pytest.mark.parametrize("measure", ["returning_passage", "perplexity", "mass_captured"])
@pytest.mark.parametrize("name", READERS)
def test_the_strip_lights_what_the_selector_that_is_looked_at_reads(measure, name):
    text = "returning" if measure == "returning_passage" else "plain"
    recorded = {
        (row.text, row.selector, row.n_selected): row.percent for row in results.reads().values.rows
    }
    for k in (2, 4, 8, 16):
        found, _, marks = marks_of(measure=measure, n_selected=k, selector=name)
        lit, percents = read_of(marks), recorded[text, name, k]
        assert [round(100 * lit[b]) for b in range(len(percents))] == list(percents)
        assert sum(lit.values()) == pytest.approx(k, abs=0.1)  # a choice has k blocks
        assert lit[found.reads.block] == 1 and not any(lit[b] for b in range(61, 64))
        assert {marks[f"read:{b}"].fill for b in lit} == {scene.COLOURS[name]}
        assert f"how often {scene.NAMES[name]}, k = {k}," in marks["strip:name"].text
        if text == "returning":
            assert marks["stood"].text.endswith(f"block 20, where it stood: {percents[20]}%")


def test_a_window_reads_the_first_block_and_the_newest():
    _, _, marks = marks_of(measure="returning_passage", n_selected=8, selector="window_sink")
    assert {b for b, share in read_of(marks).items() if share} == {0, *range(54, 61)}


def test_only_where_the_passage_stood_does_its_return_change_what_is_read():
    """What the lesson says: 24% of the choices, the earlier index 6% with a passage or without."""
    at = {}
    for measure in ("returning_passage", "perplexity"):
        found, _, _ = marks_of(measure=measure, n_selected=8)
        at[measure] = {name: round(100 * s[20]) for name, s in found.reads.shares.items()}
    returns, plain = at["returning_passage"], at["perplexity"]
    assert (returns["trained_index"], plain["trained_index"]) == (24, 7)
    assert (returns[EARLIER], plain[EARLIER]) == (6, 5)
    assert returns["main_max"] == 22 and returns["window_sink"] == 0
    two = curves(ConversionParams(measure="returning_passage", n_selected=2)).reads.shares
    assert [round(100 * two[name][20]) for name in ("main_max", "oracle")] == [6, 2]


def test_the_reads_are_of_the_shipped_index():
    assert results.reads().values.index == shipped_index().made["student"]


def test_the_strip_shows_where_the_passage_stands():
    found, _, marks = marks_of(measure="returning_passage", n_selected=8)
    blocks = {b: marks[f"block:{b}"] for b in range(64)}
    tokens = torch.arange(4096)
    returning = msa_conversion.with_returning_passage(tokens)
    first, again = passages(4096)
    assert (returning[again:] == tokens[first : first + PASSAGE]).all()
    assert (returning[:again] == tokens[:again]).all()
    asks, stood = (64 * block for block in (found.reads.block, found.reads.stood))
    assert (returning[asks : asks + 64] == tokens[stood : stood + 64]).all()
    for place, start in (("first", first), ("again", again)):
        frame = marks[f"passage:{place}"]
        inside = [b for b, mark in blocks.items() if frame.x <= mark.x < frame.x + frame.w]
        assert inside == list(range(start // 64, (start + PASSAGE) // 64))
    _, _, without = marks_of(measure="perplexity")
    assert not any(key.startswith(("passage", "stood")) for key in without)
    assert without["asks"].x == marks["asks"].x == pytest.approx(blocks[60].x - 1.5)


@pytest.mark.model
def test_the_reads_come_out_again():
    assert msa_reads.compare(RESULTS) == []


def test_a_click_opens_the_seeds_and_the_dense_model():
    found, view, _ = marks_of(n_selected=4)
    point = found.curves["trained_index"][1]
    seeds = " + ".join(number(value) for value in point.by_seed)
    line = view.arithmetic["trained_index"].text
    assert f"({seeds}) / 3 = {number(point.mean)}" in line
    assert f"{fixed(point.mean / found.dense)} times the dense model's" in line
    assert marks_of(measure="mass_captured")[1].arithmetic["oracle"].text.endswith(": 0.88.")


def test_layers_are_the_records_and_say_their_context():
    found, view, _ = marks_of(measure="perplexity", context=8192)
    layers = go.Figure(view.figure("layers"))
    oracle = next(t for t in layers.data if t.name == scene.NAMES["oracle"])
    assert tuple(oracle.y) == found.mass_by_layer["oracle"] and len(oracle.y) == 30
    assert found.mass_context == 4096
    assert "4,096 tokens" in layers.layout.yaxis.title.text


def test_what_the_lesson_says_of_the_oracle_and_of_speed():
    """Best for mass, not for the next word; slower after a short prompt, ahead after a long one."""
    for measure in ("perplexity", "returning_passage"):
        _, by_name = values(measure)
        assert by_name["main_max"][2] < by_name["oracle"][2]
    found, _ = values("returning_passage")
    speed = {(row.selector, row.prompt_tokens): row for row in found.decode}
    for prompt, ahead in ((1024, "dense"), (8128, EARLIER)):
        both = {name: speed[name, prompt] for name in ("dense", EARLIER)}
        assert max(both, key=lambda name: both[name].decode_tokens_per_s) == ahead
        assert both[EARLIER].kernels_per_token > both["dense"].kernels_per_token
        for row in both.values():
            assert row.gpu_busy_ms_per_token < 0.1 * row.decode_ms_per_token


def the_trained_index_does_what_the_main_scores_do(seen):
    trained, earlier, window = indexes_and_window(seen)
    main = float(seen.summary.split("main scores, max ")[1].split(",")[0])
    assert trained == pytest.approx(main, rel=0.01)
    assert abs(earlier / window - 1) < 0.03
    assert seen.values["n_selected"] == 8


def the_earlier_index_lies_above_the_window(seen):
    trained, earlier, window = indexes_and_window(seen)
    assert window + 0.04 < earlier and trained - 0.02 < earlier < trained


def only_the_trained_index_looks_where_the_passage_stood(seen):
    trained, earlier, window = indexes_and_window(seen)
    assert trained < 2 and min(earlier, window) > 15
    assert "4,096 tokens" in seen.summary
    tall = seen.marks["block:20"]["h"]
    assert seen.marks["read:20"]["h"] > 0.2 * tall > 2 * seen.marks["read:19"]["h"]
    assert "block 20" in seen.marks["stood"]["text"]
    assert seen.marks["asks:name"]["text"].endswith("block 60 asks")


def the_oracle_and_the_index_fall_behind_at_two_blocks(seen):
    oracle = float(seen.summary.split("oracle (true mass) ")[1].split(";")[0])
    main = float(seen.summary.split("main scores, max ")[1].split(",")[0])
    assert main < oracle / 3 and main < indexes_and_window(seen)[0] / 3
    assert seen.marks["read:20"]["fill"] == scene.COLOURS["oracle"]
    assert seen.marks["read:20"]["h"] < 0.05 * seen.marks["block:20"]["h"]


def indexes_and_window(seen):
    names = ("trained index", "earlier index", "window + first block")
    return tuple(seen.number(name) for name in names)


STEPS = (
    the_trained_index_does_what_the_main_scores_do,
    the_earlier_index_lies_above_the_window,
    only_the_trained_index_looks_where_the_passage_stood,
    the_oracle_and_the_index_fall_behind_at_two_blocks,
)


def test_every_tab_draws_the_records():
    found, view, _ = marks_of(measure="returning_passage", n_selected=8)
    sizes = go.Figure(view.figure("sizes"))
    trained = found.curves["trained_index"][2].mean
    assert list(sizes.data[0].x) == [64, 128, 256] and sizes.data[0].y[-1] == pytest.approx(trained)
    assert 256 / found.kv_bytes == pytest.approx(1 / 3)
    arms = {trace.name: trace.y for trace in go.Figure(view.figure("adapted")).data}
    assert arms["model frozen, index trained on"][0] == pytest.approx(found.dense, abs=1e-3)
    learned = {trace.name: trace for trace in go.Figure(view.figure("learning")).data}
    assert len(learned["earlier index"].x) == 180 and learned["trained index"].x[-1] > 14_000
    assert learned["trained index"].y[-1] < 0.08 < 0.3 < learned["earlier index"].y[-1]


def test_at_a_context_that_was_not_measured_the_nearest_one_is_shown():
    explorer = widget.explorer(measure="block_recall")
    explorer.set(context=8192).wait()
    assert explorer.status["state"] == "done"
    assert "4,096" in explorer.summary and "8,192" not in explorer.summary
    explorer.set(measure="perplexity", context=8192).wait()
    assert "8,192" in explorer.summary
    explorer.set(measure="returning_passage").wait()
    assert "4,096" in explorer.summary
    assert explorer.values["context"] == 4096  # the slider says what the picture shows
    explorer.close()


def test_a_budget_without_a_value_is_said():
    view = widget.present(curves(ConversionParams(context=8192, n_selected=2)))
    assert "was measured at k = 8, 16, not at 2" in view.summary


def test_the_prediction_is_judged_by_the_committed_run():
    right, sentence = widget.PREDICT.answer()
    _, by_name = values("returning_passage")
    index, window = by_name[EARLIER][8], by_name["window_sink"][8]
    assert abs(index / window - 1) < 0.03
    assert widget.PREDICT.choices[right] == "about the same"
    for value in (window, index, by_name["trained_index"][8]):
        assert f"{value:.3g}" in sentence
