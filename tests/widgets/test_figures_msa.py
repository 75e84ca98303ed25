"""The MSA figures draw the numbers of their records, on axes that stand still."""

import dataclasses
from functools import partial

import numpy as np
import pytest

from intuitive.common.runtime import Measurement
from intuitive.msa import experiment
from intuitive.msa.experiment import CostParams, Measured, NeedleParams, SelectionParams
from intuitive.msa.reference import SELECTORS
from intuitive.widgets import theme
from intuitive.widgets.figures import msa as figures

SAMPLE = experiment.synthetic_sample(n=320, seed=0)  # no model needed
SETTINGS = {
    "common": {},
    "other query": {"query": 77},
    "first token": {"query": 0},
    "few blocks": {"n_selected": 1, "block_size": 64},
    "all blocks": {"n_selected": 16},
    "nothing forced": {"n_local": 0, "query": 250, "layer": 0},
    "oracle": {"selector": "oracle"},
    "window": {"selector": "window_sink", "n_selected": 3},
    "mean": {"selector": "main_mean", "group": 2},
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


def select(**changes):
    params = {"layer": 1, "query": 300, "block_size": 32, "n_selected": 4} | changes
    return experiment.select_in_text(SAMPLE, SelectionParams(**params))


def on_axis(figure, group):
    return [trace for trace in figure.data if (trace.xaxis or "x") == theme.x_axis(group)]


def ranges(figure):
    axes = [name for name in figure.layout if name.startswith(("xaxis", "yaxis"))]
    return {name: figure.layout[name].range for name in axes}


def bars(figure, group):
    """{block: (colour, height of its top)} of the bars in one group's plot."""
    (trace,) = (trace for trace in on_axis(figure, group) if trace.type == "bar")
    tops = [trace.base + float(height) for height in trace.y]
    drawn = zip(trace.customdata.tolist(), trace.marker.color, tops, strict=True)
    return {block: (colour, top) for block, colour, top in drawn}


# ------------------------------------------------------------------------------ block selection


@settings
def test_blue_bars_are_the_blocks_read(setting):
    result = select(**setting)
    figure = figures.scores_figure(result)
    for group in range(3):
        drawn = bars(figure, group)
        assert sorted(drawn) == list(range(result.local_block + 1))
        read = {b for b, (colour, _) in drawn.items() if colour in (figures.READ, figures.LOCAL)}
        assert read == set(result.block_idx[result.query, group].tolist()) - {-1}
        green = {b for b, (colour, _) in drawn.items() if colour == figures.LOCAL}
        assert green == read & {result.local_block}


def test_a_bar_ends_at_the_largest_score_of_its_block():
    result = select(selector="main_max")
    figure = figures.scores_figure(result)
    for group in range(3):
        (line,) = (trace for trace in on_axis(figure, group) if trace.type == "scatter")
        assert len(line.y) == result.n_visible and max(line.y) == 0
        for block, (_, top) in bars(figure, group).items():
            inside = line.y[block * 32 : (block + 1) * 32]
            assert top == pytest.approx(max(inside), abs=1e-5)


def test_a_window_that_scores_no_token_shows_the_attention_itself():
    result = select(selector="window_sink")
    figure = figures.scores_figure(result)
    (line,) = (trace for trace in on_axis(figure, 0) if trace.type == "scatter")
    mass = result.token_mass[0, : result.n_visible]
    expected = np.clip(np.log(mass / mass.max()), figures.LOWEST, figures.HIGHEST)
    np.testing.assert_allclose(line.y, expected, atol=1e-5)


@settings
def test_map_shows_what_every_query_reads(setting):
    result = select(**setting)
    figure = figures.map_figure(result)
    for group, trace in enumerate(figure.data):
        for row, kinds in enumerate(trace.z):
            query = trace.y0 + row * trace.dy
            read = set(result.block_idx[query, group].tolist()) - {-1}
            assert set(np.flatnonzero(kinds == 2)) == read
            seen = query // result.params.block_size + 1
            assert (kinds[:seen] > 0).all() and (kinds[seen:] == 0).all()


def test_long_texts_are_drawn_with_every_other_query():
    sample = experiment.synthetic_sample(n=600, n_layers=1)
    result = experiment.select_in_text(sample, SelectionParams(layer=0))
    (trace, *_) = figures.map_figure(result).data
    assert len(trace.z) <= figures.MAP_ROWS
    assert trace.y0 + (len(trace.z) - 1) * trace.dy < 600


@settings
def test_both_plots_mark_the_query(setting):
    result = select(**setting)
    for figure, end in ((figures.scores_figure(result), "x0"), (figures.map_figure(result), "y0")):
        assert [shape[end] for shape in figure.layout.shapes] == [result.query] * 3


@settings
def test_captured_bars_are_means_and_diamonds_this_query(setting):
    result = select(**setting)
    bar, diamonds = figures.captured_figure(result).data
    group = result.params.group
    by_name = {text: name for name, text in figures.SELECTOR_NAMES.items()}
    names = [by_name[label.removeprefix("<b>").removesuffix("</b>")] for label in bar.y]
    assert set(names) == set(result.captured) and tuple(diamonds.y) == tuple(bar.y)
    assert list(bar.x) == [float(result.captured_mean[name][group]) for name in names]
    assert list(diamonds.x) == [float(result.captured[name][group]) for name in names]
    bold = [name for name, label in zip(names, bar.y, strict=True) if label.startswith("<b>")]
    assert bold == [result.params.selector]
    best = names.index("oracle")  # no other choice of as many blocks can hold more
    assert max(bar.x) <= bar.x[best] + 1e-6 and max(diamonds.x) <= diamonds.x[best] + 1e-6


def test_first_picture_draws_all_the_attention():
    result = select(group=1)
    figure = figures.mass_figure(result)
    assert len(figure.data) == 3
    for trace in figure.data:
        assert float(np.sum(trace.y)) == pytest.approx(1, abs=1e-5)
    assert [t.marker.color == figures.READ for t in figure.data] == [False, True, False]


@pytest.mark.parametrize(
    "draw",
    [
        figures.scores_figure,
        figures.map_figure,
        figures.captured_figure,
        figures.mass_figure,
    ],
)
def test_selection_axes_stand_still(draw):
    assert all(limits is not None for limits in ranges(draw(select())).values()) or (
        draw is figures.captured_figure  # its y axis holds names
    )
    moves = (
        *({"query": q} for q in (0, 40, 319)),
        *({"n_selected": k} for k in (1, 16)),
        *({"layer": 0}, {"group": 2}, {"n_local": 3}, {"n_init": 1}),
        *({"selector": name} for name in SELECTORS),
    )
    still = ranges(draw(select()))
    for move in moves:
        assert ranges(draw(select(**move))) == still, move


# ------------------------------------------------------------------------------- what it costs


def curves_of(figure):
    lines = (trace for trace in figure.data if trace.mode == "lines")
    return {trace.name: (np.asarray(trace.x), np.asarray(trace.y)) for trace in lines}


def test_flop_curves_follow_equation_12():
    params = CostParams()
    drawn = curves_of(figures.flops_figure(experiment.cost_curves(params)))
    contexts, dense = drawn["dense"]
    assert contexts[0] == 4096 and contexts[-1] == 2**20
    np.testing.assert_allclose(dense, 2 * 64 * 128 * contexts)
    np.testing.assert_allclose(drawn["index"][1], 4 * 128 * contexts)
    np.testing.assert_allclose(drawn["main branch"][1], 4 * 64 * 128 * 16 * 128)
    parts = drawn["index"][1] + drawn["main branch"][1]
    np.testing.assert_allclose(drawn["MSA"][1], parts)


def test_byte_curves_add_up():
    read = curves_of(figures.bytes_figure(experiment.cost_curves(CostParams())))
    assert len(read) == 4
    contexts, dense = read["dense"]
    np.testing.assert_allclose(dense, 2 * 4 * 128 * 2 * contexts)  # keys and values, bf16
    np.testing.assert_allclose(
        read["MSA"][1], read["index"][1] + read["main branch"][1], rtol=1e-12
    )


@pytest.mark.parametrize("context", [4096, 2**20])
def test_memory_bars_are_the_categories_stacked(context):
    result = experiment.cost_curves(CostParams(context=context))
    figure = figures.memory_figure(result)
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
    result = experiment.cost_curves(CostParams(context=context, n_selected=n_selected))
    (diamonds,) = [t for t in figures.memory_figure(result).data if t.type == "scatter"]
    ends = [sum(result.memory[method].values()) / 2**30 for method in ("dense", "msa")]
    assert list(diamonds.x) == pytest.approx(ends, rel=0.03)


@pytest.mark.parametrize("other", [{"n_selected": 8}, {"d_index": 64}, {"context": 8192}])
def test_memory_that_was_not_measured_has_no_diamonds(other):
    figure = figures.memory_figure(experiment.cost_curves(CostParams(**other)))
    assert all(trace.type == "bar" for trace in figure.data)


def test_ratios_stay_below_the_ceilings_that_are_drawn():
    result = experiment.cost_curves(CostParams())
    figure = figures.ratio_figure(result)
    ceilings = [shape.y0 for shape in figure.layout.shapes if shape.y0 == shape.y1]
    assert ceilings == [32, 8]
    assert {note.text for note in figure.layout.annotations} == {
        "FLOP ceiling 32×",
        "byte ceiling 8×",
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
    figure = figures.ratio_figure(experiment.cost_curves(params), points)
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
    still = ranges(draw(experiment.cost_curves(CostParams())))
    moves = [{"context": 2**power} for power in range(12, 21)]
    moves += [{"n_selected": k} for k in (2, 64)] + [{"block_size": 32}]
    for move in moves:
        result = experiment.cost_curves(CostParams(**move))
        assert ranges(draw(result)) == still, move


@pytest.mark.parametrize("draw", [figures.flops_figure, figures.bytes_figure])
def test_no_slider_moves_a_curve_out_of_sight(draw):
    smallest = {"n_q_heads": 16, "n_kv_heads": 1, "d_head": 64, "element_bytes": 1}
    largest = {"n_q_heads": 64, "n_kv_heads": 8, "d_head": 128, "element_bytes": 4}
    for sizes in (smallest, largest, {"n_selected": 64}, {"d_index": 16}, {"n_selected": 2}):
        figure = draw(experiment.cost_curves(CostParams(**sizes)))
        low, high = (10.0**exponent for exponent in figure.layout.yaxis.range)
        for name, (_, y) in curves_of(figure).items():
            assert y.max() <= high, f"{name} leaves the plot with {sizes}"
            assert y.max() >= low, f"{name} is nowhere in the plot with {sizes}"


# ------------------------------------------------------------------------------------ the needle


@pytest.mark.parametrize("strength", [0.0, 8.0, 12.0])
@pytest.mark.parametrize("block_size", [16, 128])
def test_needle_plots_both_poolings_of_the_same_scores(strength, block_size):
    result = experiment.needle(NeedleParams(strength=strength, block_size=block_size))
    figure = figures.needle_figure(result)
    for column, (pooled, selected) in enumerate(
        ((result.block_max, result.selected_max), (result.block_mean, result.selected_mean))
    ):
        drawn = bars(figure, column)
        read = {b for b, (colour, _) in drawn.items() if colour != figures.SKIPPED}
        assert read == set(selected)
        tops = [drawn[block][1] for block in range(len(pooled))]
        np.testing.assert_allclose(tops, pooled, atol=1e-5)
        (line,) = (trace for trace in on_axis(figure, column) if trace.type == "scatter")
        np.testing.assert_allclose(line.y, result.token_scores)
        low, high = figure.layout.yaxis.range
        assert low <= min(line.y) and max(line.y) <= high


def test_the_needle_is_pointed_out():
    params = NeedleParams(needle=517)
    result = experiment.needle(params)
    arrows = [note for note in figures.needle_figure(result).layout.annotations if note.showarrow]
    assert [note.x for note in arrows] == [517, 517]
    assert all(note.y == pytest.approx(params.strength, abs=1e-4) for note in arrows)


def test_needle_axes_stand_still():
    still = ranges(figures.needle_figure(experiment.needle(NeedleParams())))
    for move in ({"strength": 12.0}, {"n_selected": 32}, {"block_size": 128}, {"drag": 2.0}):
        assert ranges(figures.needle_figure(experiment.needle(NeedleParams(**move)))) == still


def test_figures_do_not_change_their_records():
    result = select()
    before = {
        field.name: np.copy(value)
        for field in dataclasses.fields(result)
        if isinstance(value := getattr(result, field.name), np.ndarray)
    }
    for draw in (figures.scores_figure, figures.map_figure, figures.captured_figure):
        draw(result)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(result, name), value)
