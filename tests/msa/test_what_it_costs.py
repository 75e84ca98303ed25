"""What it costs: the formulas as curves, what was measured beside them, and the explorer."""

import dataclasses
import re
from functools import partial

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.common.runtime import Cancelled, Measurement
from intuitive.msa import cost, reference
from intuitive.msa.config import MSAConfig
from intuitive.msa.experiments import what_it_costs as experiment
from intuitive.msa.experiments.what_it_costs import CostParams, Measured
from intuitive.msa.results import kernel_times
from intuitive.widgets.msa import checks
from intuitive.widgets.msa import what_it_costs as widget
from intuitive.widgets.msa import what_it_costs_figures as figures


def test_cost_here_lies_on_the_curves():
    result = experiment.run(CostParams(context=2**17))
    at = result.curves.contexts.tolist().index(2**17)
    for field in dataclasses.fields(experiment.CostCurves):
        here, curve = getattr(result.here, field.name), getattr(result.curves, field.name)
        assert here[0] == curve[at], field.name
    assert result.curves.contexts[0] == 4096 and result.curves.contexts[-1] == 2**20
    assert result.curves.flop_ratio[-1] == cost.flop_ratio(MSAConfig.paper(), 2**20)
    assert (np.diff(result.curves.flop_ratio) > 0).all()
    assert (result.flop_ceiling, result.byte_ceiling, result.cache_growth) == (32, 8, 0.125)
    assert result.break_even == pytest.approx(2488, abs=1)


@pytest.mark.parametrize("context", [1000, 2**13, 2**20])
def test_memory_is_that_of_the_last_queries_at_most_8192(context):
    params = CostParams(context=context, n_selected=8, element_bytes=4)
    result = experiment.run(params)
    assert result.n_prefilled == min(context, 8192)
    want = cost.prefill_memory(params.config, context, result.n_prefilled, element_bytes=4)
    assert result.memory == want
    assert result.largest_memory >= max(sum(parts.values()) for parts in want.values())


def test_the_largest_memory_depends_on_the_layer_alone():
    moves = ({"context": 4096}, {"n_selected": 2}, {"n_selected": 64, "context": 2**20})
    found = {experiment.run(CostParams(**move)).largest_memory for move in moves}
    assert len(found) == 1


def test_cost_without_break_even():
    dear = experiment.run(CostParams(d_index=4096))
    assert dear.break_even is None and (dear.curves.flop_ratio < 1).all()


def test_cost_messages():
    with pytest.raises(ValueError, match="context=0 must be at least 1 token"):
        CostParams(context=0)
    with pytest.raises(ValueError, match="element_bytes=3 must be 1"):
        CostParams(element_bytes=3)
    with pytest.raises(ValueError, match="n_q_heads=6 must be a multiple of n_kv_heads=4"):
        CostParams(n_q_heads=6)


def test_measuring_without_cuda_says_what_to_do():
    with pytest.raises(ValueError, match=r"needs a CUDA device, and device='cpu'.*NVIDIA GPU"):
        experiment.measure_here(MSAConfig.paper(), 4096, device="cpu")


@pytest.mark.parametrize(("n", "m"), [(6, 6), (3, 9), (1, 9)])
def test_what_is_timed_against_is_dense_attention(n, m):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, n, 4, 8, generator=generator)
    k, v = (torch.randn(1, m, 2, 8, generator=generator) for _ in range(2))
    torch.testing.assert_close(
        experiment._dense_call(q, k, v)().transpose(1, 2), reference.dense_attention(q, k, v)
    )


@pytest.mark.gpu
def test_measuring_on_a_gpu():
    measured = experiment.measure_here(MSAConfig.paper(), 8192, max_queries=1024)
    assert measured.n_queries == 1024
    assert measured.prefill_speedup > 0 and measured.decode_speedup > 0
    assert measured.dense_prefill.peak_bytes is not None


@pytest.mark.gpu
def test_decoding_a_long_context_is_faster_than_dense():
    measured = experiment.measure_here(MSAConfig.paper(), 2**19, max_queries=128)
    assert measured.decode_speedup > 2


def ranges(figure):
    figure = go.Figure(figure)
    axes = [name for name in figure.layout if name.startswith(("xaxis", "yaxis"))]
    return {name: figure.layout[name].range for name in axes}


def curves_of(figure):
    figure = go.Figure(figure)
    lines = (trace for trace in figure.data if trace.mode == "lines")
    return {trace.name: (np.asarray(trace.x), np.asarray(trace.y)) for trace in lines}


def test_flop_curves_follow_equation_12():
    params = CostParams()
    drawn = curves_of(figures.flops_figure(experiment.run(params)))
    contexts, dense = drawn["dense"]
    assert contexts[0] == 4096 and contexts[-1] == 2**20
    np.testing.assert_allclose(dense, 2 * 64 * 128 * contexts)
    np.testing.assert_allclose(drawn["index"][1], 4 * 128 * contexts)
    read = 16 * 128 - (16 * 128) ** 2 / (2 * contexts)  # tokens, averaged over the context
    np.testing.assert_allclose(drawn["selected"][1], 4 * 64 * 128 * read)
    parts = drawn["index"][1] + drawn["selected"][1]
    np.testing.assert_allclose(drawn["MSA"][1], parts)


def test_byte_curves_add_up():
    read = curves_of(figures.bytes_figure(experiment.run(CostParams())))
    assert len(read) == 4
    contexts, dense = read["dense"]
    np.testing.assert_allclose(dense, 2 * 4 * 128 * 2 * contexts)  # keys and values, bf16
    np.testing.assert_allclose(read["MSA"][1], read["index"][1] + read["selected"][1], rtol=1e-12)


@pytest.mark.parametrize("context", [4096, 2**20])
def test_memory_bars_are_the_categories_stacked(context):
    result = experiment.run(CostParams(context=context))
    figure = go.Figure(figures.memory_figure(result))
    assert figure.layout.barmode == "stack"
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [trace.name for trace in bars] == [
        "weights",
        "keys, values",
        "index keys",
        "scratch",
    ]
    for place, method in enumerate(("dense", "msa")):
        drawn = [trace.x[place] * 2**30 for trace in bars]
        assert drawn == pytest.approx(list(result.memory[method].values()))
        assert sum(drawn) <= figure.layout.xaxis.range[1] * 2**30


@pytest.mark.parametrize("n_selected", [4, 16, 64])
@pytest.mark.parametrize("context", [2**15, 2**17, 2**20])
def test_measured_memory_stands_where_the_model_ends(context, n_selected):
    result = experiment.run(CostParams(context=context, n_selected=n_selected))
    (diamonds,) = [
        t for t in (go.Figure(figures.memory_figure(result))).data if t.type == "scatter"
    ]
    ends = [sum(result.memory[method].values()) / 2**30 for method in ("dense", "msa")]
    assert list(diamonds.x) == pytest.approx(ends, rel=0.03)


@pytest.mark.parametrize("other", [{"n_selected": 8}, {"d_index": 64}, {"context": 8192}])
def test_memory_that_was_not_measured_has_no_diamonds(other):
    figure = go.Figure(figures.memory_figure(experiment.run(CostParams(**other))))
    assert all(trace.type == "bar" for trace in figure.data)


def test_ratios_stay_below_the_ceilings_that_are_drawn():
    result = experiment.run(CostParams())
    figure = go.Figure(figures.ratio_figure(result))
    ceilings = [shape.y0 for shape in figure.layout.shapes if shape.y0 == shape.y1]
    assert ceilings == [32, 8]
    assert {note.text for note in figure.layout.annotations} == {
        "FLOP ceiling 32×",
        "byte ceiling 8×",
        "FLOPs of a prompt",
        "bytes of a token",
    }
    for (_, ratio), ceiling in zip(curves_of(figure).values(), ceilings, strict=True):
        assert (np.diff(ratio) > 0).all() and ratio[-1] < ceiling
        assert ceiling < figure.layout.yaxis.range[1]


def measured(context, config, dense_ms=12.0):
    once = partial(
        Measurement, fastest_ms=1.0, slowest_ms=1.0, repeats=1, peak_bytes=2**20, device="a GPU"
    )
    parts = ("prefill", "decode")
    times = {f"dense_{part}": once(median_ms=dense_ms) for part in parts}
    times |= {f"{step}_{part}": once(median_ms=1.5) for part in parts for step in ("select",)}
    times |= {f"{step}_{part}": once(median_ms=2.5) for part in parts for step in ("attend",)}
    return Measured(config=config, context=context, n_queries=8, device="a GPU", **times)


def test_measured_points_are_drawn_where_they_were_measured():
    params = CostParams()
    points = (measured(8192, params.config), measured(65536, params.config, dense_ms=40.0))
    figure = go.Figure(figures.ratio_figure(experiment.run(params), points))
    markers = [trace for trace in figure.data if trace.mode == "markers"]
    assert [trace.name for trace in markers] == ["measured prefill", "measured decode"]
    for trace in markers:
        assert list(trace.x) == [8192, 65536]
        assert list(trace.y) == [3.0, 10.0]  # dense over select plus attend


@pytest.mark.parametrize(
    "draw",
    [
        figures.flops_figure,
        figures.bytes_figure,
        figures.memory_figure,
        figures.ratio_figure,
    ],
)
def test_cost_axes_stand_still(draw):
    still = ranges(draw(experiment.run(CostParams())))
    moves = [{"context": 2**power} for power in range(12, 21)]
    moves += [{"n_selected": k} for k in (2, 64)] + [{"block_size": 32}]
    for move in moves:
        result = experiment.run(CostParams(**move))
        assert ranges(draw(result)) == still, move


@pytest.mark.parametrize("draw", [figures.flops_figure, figures.bytes_figure])
def test_no_slider_moves_a_curve_out_of_sight(draw):
    smallest = {"n_q_heads": 16, "n_kv_heads": 1, "d_head": 64, "element_bytes": 1}
    largest = {"n_q_heads": 64, "n_kv_heads": 8, "d_head": 128, "element_bytes": 4}
    for sizes in (smallest, largest, {"n_selected": 64}, {"d_index": 16}, {"n_selected": 2}):
        figure = go.Figure(draw(experiment.run(CostParams(**sizes))))
        low, high = (10.0**exponent for exponent in figure.layout.yaxis.range)
        for name, (_, y) in curves_of(figure).items():
            assert y.max() <= high, f"{name} leaves the plot with {sizes}"
            assert y.max() >= low, f"{name} is nowhere in the plot with {sizes}"


MIB = 2**20


def test_cost_view_says_what_the_result_says():
    view = widget.present(
        widget.Costs(curves=experiment.run(CostParams(context=2**20)), recorded=kernel_times())
    )
    said = {readout.label: readout.value for readout in view.timeline.frames[-1].readouts}
    assert said["FLOPs, dense ÷ MSA"] == "28.4×"  # the paper's figure at a million tokens
    assert said["the index's part"] == "89%" and said["cache"] == "+12.5%"
    assert ("index share of MSA's FLOPs", "89%") in view.table.rows
    assert "28.4 times less" in view.summary and "(ceiling 32)" in view.summary
    assert "(ceiling 8)" in view.summary and "89% of MSA's FLOPs" in view.summary


def frames_of(counts="flops", **settings):
    costs = widget.Costs(
        curves=experiment.run(CostParams(**settings)), recorded=kernel_times(), counts=counts
    )
    return widget.present(costs).timeline.frames


def area(mark):
    return mark.w * mark.h


@pytest.mark.parametrize("counts", ["flops", "bytes"])
@pytest.mark.parametrize("settings", [{}, {"d_index": 16}, {"n_q_heads": 16, "n_kv_heads": 8}])
def test_areas_are_costs_to_scale(counts, settings):
    result = experiment.run(CostParams(**settings))
    moments = result.moments[counts]
    columns = []
    for i, frame in enumerate(frames_of(counts, **settings)):
        parts = {
            part: getattr(moments, f"{part}_{counts}")[i] for part in ("dense", "index", "main")
        }
        marks = {mark.key: mark for mark in frame.scene.marks}
        for part, cost_here in parts.items():
            if min(marks[part].w, marks[part].h) > 1:  # nothing is drawn thinner than a pixel
                want = cost_here / parts["dense"]
                assert area(marks[part]) / area(marks["dense"]) == pytest.approx(want, rel=1e-6)
            columns.append((marks[f"column:{part}"].h, cost_here))
        stacked = marks["column:main"].y + marks["column:main"].h
        assert stacked == pytest.approx(marks["column:index"].y)
        assert all(
            mark.y >= 0 and mark.y + mark.h <= frame.scene.height
            for mark in (marks["dense"], marks["main"], marks["index"], marks["column:dense"])
        )
    heights, costs = np.array(columns).T
    np.testing.assert_allclose(heights / costs, heights[0] / costs[0])  # one scale for all lengths


@pytest.mark.parametrize(("counts", "even"), [("flops", 2488), ("bytes", 2341)])
def test_the_break_even_is_named_on_the_scrubber(counts, even):
    frames = frames_of(counts)
    (named,) = [frame for frame in frames if "break-even" in frame.label]
    assert named.label == f"2\u2009{even % 1000}: break-even"
    assert "both cost the same" in named.sentence
    labels = [frame.label for frame in frames]
    assert labels[0] == "1K" and labels[-1] == "1M" and len(labels) == 12
    before, after = (frames[labels.index(named.label) + step].sentence for step in (-1, 1))
    assert "times more: the index comes on top" in before and "times less" in after


def test_where_msa_never_pays_no_frame_says_that_it_does():
    frames = frames_of(d_index=4096)
    assert len(frames) == 11
    assert not any(
        "both cost" in frame.sentence or "times less" in frame.sentence for frame in frames
    )


def test_a_click_opens_length_times_height():
    last = frames_of()[-1].arithmetic
    assert last["dense"].text.startswith("524\u2009288 tokens × 32\u2009768 FLOP = 17.2 GFLOP")
    assert last["index"].text.startswith("524\u2009288 tokens × 1\u2009024 FLOP = 537 MFLOP")
    assert "= 67.0 MFLOP" in last["main"].text


def the_ratio_grows_with_the_text(seen):
    said = [sentence for sentence in seen.sentences if "times less" in sentence]
    ratios = [float(sentence.split(" times less")[0].split()[-1]) for sentence in said]
    assert ratios == sorted(ratios) and ratios[0] < 2 and ratios[-1] == 28.4


def both_cost_the_same_at_the_break_even(seen):
    (even,) = [i for i, said in enumerate(seen.sentences) if "both cost the same" in said]
    assert "2\u2009488 tokens" in seen.sentences[even]
    assert "1.03 times more: the index comes on top" in seen.sentences[even - 1]


def a_smaller_index_lifts_the_ratio(seen):
    assert seen.values["d_index"] == 64
    assert "MSA computes 51.2 times less" in seen.sentences[-1]
    assert "ceiling 64" in seen.summary


def decoding_saves_less(seen):
    assert "MSA reads 7.9 times less" in seen.sentences[-1]
    assert "computes 28.4 times less" in seen.summary


STEPS = (
    the_ratio_grows_with_the_text,
    both_cost_the_same_at_the_break_even,
    a_smaller_index_lifts_the_ratio,
    decoding_saves_less,
)


def test_the_steps_stand_at_frames_that_there_are():
    for step in widget.explorer().declaration.steps:
        counts = step.sets.get("counts", "flops")
        rest = {name: value for name, value in step.sets.items() if name != "counts"}
        labels = {frame.label for frame in frames_of(counts, **rest)}
        assert step.frame in labels | {"play"}


def spec_of(explorer, control):
    return next(spec for spec in explorer.spec["controls"] if spec["name"] == control)


def test_measuring_needs_cuda_and_says_so(opened, monkeypatch, settle):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    explorer = opened(widget.explorer)
    reason = spec_of(explorer, "measure")["disabled"]
    assert reason == "Needs a CUDA device; this machine has none."
    summary = explorer.summary
    settle(explorer, measure=1)  # from code the button can be pressed all the same
    assert explorer.status["state"] == "error"
    assert explorer.status["text"].startswith("Measuring needs a CUDA device")
    assert explorer.summary == summary
    settle(explorer, context=8192)  # the press has been answered: sliders work again
    assert explorer.status["state"] == "done"


def fake_measurement(config, context, *, stale, progress):
    progress(0.5, "Measuring dense prefill")
    once = partial(
        Measurement, fastest_ms=1.0, slowest_ms=9.0, repeats=1, peak_bytes=3 * MIB, device="a GPU"
    )
    times = {"dense": 12.0, "select": 1.0, "attend": 3.0}
    parts = {
        f"{step}_{phase}": once(median_ms=ms)
        for step, ms in times.items()
        for phase in ("prefill", "decode")
    }
    return Measured(config=config, context=context, n_queries=8, device="a GPU", **parts)


def test_a_press_measures_once(opened, monkeypatch, settle):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    calls = []

    def counted(config, context, **rest):
        calls.append(context)
        return fake_measurement(config, context, **rest)

    monkeypatch.setattr(experiment, "measure_here", counted)
    explorer = opened(widget.explorer)
    assert spec_of(explorer, "measure")["disabled"] == ""
    settle(explorer, context=65536)
    assert calls == []
    settle(explorer, measure=1)
    told = "Measured here at 65\u2009536 tokens: prefill 3.0× as fast, decoding 3.0×."
    assert explorer.summary.endswith(told)
    assert ("3", "3", "3") in [tuple(row[1].split("; ")) for row in explorer.view.table.rows]
    settle(explorer, context=8192)
    settle(explorer, measure=2)
    assert calls == [65536, 8192]
    assert len(explorer.result.measured) == 2
    settle(explorer, n_selected=8)  # another layer: these times are not its own
    assert explorer.result.measured == () and calls == [65536, 8192]


def test_a_failed_measurement_leaves_the_curves(opened, monkeypatch, settle):
    def fail(config, context, **_):
        raise ValueError("context=8192 does not fit this GPU: choose a shorter one.")

    monkeypatch.setattr(experiment, "measure_here", fail)
    explorer = opened(widget.explorer)
    summary = explorer.summary
    settle(explorer, measure=1)
    assert (
        explorer.status["text"]
        == "Context in the tabs = 8192 does not fit this GPU: choose a shorter one."
    )
    assert explorer.summary == summary
    settle(explorer, n_selected=8)
    assert explorer.status["state"] == "done"


def test_a_cancelled_measurement_can_be_asked_for_again():
    meter, request = widget.CostMeter(), partial(widget.CostRequest, params=CostParams())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "measure_here", _cancelled)
        with pytest.raises(Cancelled):
            meter(request(presses=1), stale=lambda: True, progress=lambda *_: None)
        patch.setattr(experiment, "measure_here", fake_measurement)
        costs = meter(request(presses=1), stale=lambda: False, progress=lambda *_: None)
    assert len(costs.measured) == 1


def _cancelled(*_, **__):
    raise Cancelled


def test_settings_survive_as_text():
    params = CostParams(d_index=64)
    assert CostParams.from_text(params.to_text()) == params


def test_where_the_selection_covers_the_context_only_the_index_comes_on_top():
    """64 blocks of 128 in 4,096 tokens: nothing is left out, so the main branch is dense."""
    result = experiment.run(CostParams(context=4096, n_selected=64))
    assert result.here.main_flops[0] == result.here.dense_flops[0]
    assert result.here.flop_ratio[0] == pytest.approx(1 / (1 + 1 / 32))
    view = widget.present(widget.Costs(curves=result, recorded=kernel_times()))
    assert "MSA computes 1.03 times more than dense attention" in view.summary


def test_two_numbers_of_tokens_that_differ_are_told_apart():
    """At the break-even both round to 1.2K; elsewhere numbers stay short."""
    view = widget.present(
        widget.Costs(curves=experiment.run(CostParams()), recorded=kernel_times())
    )
    told = {}
    for frame in view.timeline.frames:
        texts = {mark.key: getattr(mark, "text", "") for mark in frame.scene.marks}
        both = [texts[f"{part}:text"] for part in ("dense", "main")]
        pair = [text.split(" tokens at full")[0].split(": ")[-1] for text in both]
        told[frame.label] = pair, [text.split(" = ")[1] for text in both]
    for pair, costs in told.values():
        assert (pair[0] == pair[1]) == (costs[0] == costs[1])
    assert told["4K"][0] == ["2K", "1.5K"]


def test_the_prediction_and_the_questions_are_judged_by_the_formulas():
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "the index that selects them"
    assert f"{100 * cost.index_flop_share(MSAConfig.paper(), 2**20):.0f}%" in sentence
    halved = checks.halving_k().choose(2)
    assert halved["verdict"] == "right" and "8,192 tokens" in checks.halving_k().spec["question"]
    assert re.findall(r"\d+%", halved["text"]) == ["43%", "7%", "6%"]
    wider = checks.decode_ceiling().choose(1)
    assert wider["verdict"] == "right"
    assert "from 8 to 16" in wider["text"] and "from 32 to 16" in wider["text"]
    order = checks.loop_order().choose(1)
    assert order["verdict"] == "right"
    assert "are 8 fetches for each query, against 6" in order["text"]
