"""MSA records as figures. Blocks read are blue, the local block green, the rest grey."""

import math
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go

from intuitive.msa.config import MSAConfig
from intuitive.msa.experiment import CostResult, Measured, NeedleResult, SelectionResult
from intuitive.msa.measured import KernelTime, KernelTimes, MemoryUse, memory_use

from .. import theme

READ, LOCAL, SKIPPED = theme.BLUE, theme.GREEN, "rgba(127,127,127,0.5)"
SELECTOR_NAMES = {
    "oracle": "oracle (true mass)",
    "main_max": "main scores, max",
    "main_mean": "main scores, mean",
    "block_mean_keys": "block-mean keys",
    "window_sink": "window + first block",
    "trained_index": "trained index",
    "untrained_index": "untrained index",
}
LOWEST, HIGHEST = -14.0, 4.0  # of scores below the strongest token, in nats
MAP_ROWS = 256  # rows of the selected map that are drawn


def _block_bars(
    heights: np.ndarray, chosen: np.ndarray, *, floor: float, size: int, axis: str
) -> dict:
    """Block values as bars: read, not read, and the last, outlined, as the local block if read."""
    blocks = np.arange(len(heights))
    colours = np.where(chosen, READ, SKIPPED)
    local = chosen & (blocks == len(blocks) - 1)
    return {
        "type": "bar",
        "x": (blocks + 0.5) * size,
        "y": (heights - floor).astype(np.float32),
        "base": floor,
        "width": size * np.where(chosen, 0.94, 0.5),
        "marker": {
            "color": np.where(local, LOCAL, colours).tolist(),
            "line": {"color": theme.PURPLE, "width": np.where(local, 2, 0)},
        },
        "xaxis": axis,
        "customdata": blocks,
        "hovertemplate": "block %{customdata}<extra></extra>",
    }


def _token_line(scores: np.ndarray, *, axis: str) -> dict:
    return {
        "type": "scatter",
        "x": np.arange(len(scores)),
        "y": scores.astype(np.float32),
        "mode": "lines",
        "line": {"width": 1, "color": theme.VERMILION},
        "xaxis": axis,
        "hovertemplate": "token %{x}<extra></extra>",
    }


def mass_figure(result: SelectionResult) -> go.Figure:
    """Share of one query's attention in every key block, by group."""
    traces, headings = [], []
    for group, mass in enumerate(result.block_mass):
        traces.append(
            {
                "type": "bar",
                "x": np.arange(result.n_blocks),
                "y": mass.astype(np.float32),
                "marker": {"color": READ if group == result.params.group else theme.GREY},
                "xaxis": theme.x_axis(group),
                "hovertemplate": "block %{x}: %{y:.2f}<extra></extra>",
            }
        )
        headings.append(f"group {group}")
    return theme.figure(
        traces,
        y="share of attention",
        y_range=(0, 1),
        **theme.columns(headings, x="key block", x_range=(-0.5, result.n_blocks - 0.5)),
    )


def scores_figure(result: SelectionResult) -> go.Figure:
    """Token scores of one query, their block values, and the blocks chosen, by group."""
    seen, blocks = result.n_visible, result.local_block + 1
    pools_mass = result.params.selector in ("oracle", "window_sink")
    headings, traces, shapes = [], [], []
    for group in range(len(result.token_scores)):
        tokens = result.token_scores[group, :seen]
        pooled = (result.block_mass if pools_mass else result.block_scores)[group, :blocks]
        if pools_mass:
            with np.errstate(divide="ignore"):
                tokens, pooled = np.log(tokens), np.log(pooled)
        top = tokens.max()
        axis = theme.x_axis(group)
        traces += [
            _block_bars(
                np.clip(pooled - top, LOWEST, HIGHEST),
                result.selected[group, result.query, :blocks],
                floor=LOWEST,
                size=result.params.block_size,
                axis=axis,
            ),
            _token_line(np.clip(tokens - top, LOWEST, HIGHEST), axis=axis),
        ]
        shapes.append(theme.line(x=result.query, axis=axis, colour=theme.PURPLE))
        followed = ", in the text" if group == result.params.group else ""
        headings.append(f"group {group}{followed}")
    return theme.figure(
        traces,
        barmode="overlay",
        y="score below strongest (nats)",
        y_range=(LOWEST, HIGHEST),
        shapes=shapes,
        **theme.columns(headings, x="token position", x_range=(0, result.n_tokens)),
    )


CLEAR, VISIBLE = "rgba(0,0,0,0)", "rgba(150,150,150,0.28)"
MAP_COLOURS = [
    [0, CLEAR],
    [0.33, CLEAR],
    [0.34, VISIBLE],
    [0.66, VISIBLE],
    [0.67, READ],
    [1, READ],
]


def map_figure(result: SelectionResult) -> go.Figure:
    """Which blocks every query of the layer reads, by group; the future is left clear."""
    step = math.ceil(result.n_tokens / MAP_ROWS)
    rows = np.arange(step - 1, result.n_tokens, step)
    visible = np.arange(result.n_blocks) <= rows[:, None] // result.params.block_size
    traces, shapes = [], []
    for group in range(len(result.selected)):
        axis = theme.x_axis(group)
        traces.append(
            {
                "type": "heatmap",
                "z": visible.astype(np.uint8) + (result.selected[group, rows] & visible),
                "y0": int(rows[0]),
                "dy": step,
                "zmin": 0,
                "zmax": 2,
                "colorscale": MAP_COLOURS,
                "showscale": False,
                "xaxis": axis,
                "hovertemplate": "query %{y}, block %{x}<extra></extra>",
            }
        )
        shapes.append(theme.line(y=result.query, axis=axis, colour=theme.PURPLE, dash="solid"))
    headings = [f"group {group}" for group in range(len(result.selected))]
    return theme.figure(
        traces,
        y="query position",
        y_range=(result.n_tokens, 0),
        yaxis={"showgrid": False},
        shapes=shapes,
        **theme.columns(headings, x="key block", x_range=(-0.5, result.n_blocks - 0.5)),
    )


def captured_figure(result: SelectionResult) -> go.Figure:
    """Attention mass captured by every selector at the same budget."""
    group = result.params.group
    names = list(result.captured)[::-1]
    labels = [
        f"<b>{SELECTOR_NAMES[name]}</b>" if name == result.params.selector else SELECTOR_NAMES[name]
        for name in names
    ]
    mean = [float(result.captured_mean[name][group]) for name in names]
    traces = [
        {
            "type": "bar",
            "x": mean,
            "y": labels,
            "orientation": "h",
            "marker": {"color": READ},
            "text": [f"{value:.2f}" for value in mean],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textfont": {"color": "white"},
            "name": "mean over queries",
        },
        {
            "type": "scatter",
            "x": [float(result.captured[name][group]) for name in names],
            "y": labels,
            "mode": "markers",
            "marker": {
                "symbol": "diamond",
                "size": 12,
                "color": theme.VERMILION,
                "line": {"color": "white", "width": 1},
            },
            "name": "this query",
        },
    ]
    return theme.figure(
        traces,
        x="attention mass",
        x_range=(0, 1.02),
        showlegend=True,
        margin={"l": 158},
    )


CONTEXT_AXIS = {
    **theme.AXIS,
    "type": "log",
    "tickvals": [4096, 16384, 65536, 262144, 1048576],
    "ticktext": ["4K", "16K", "64K", "256K", "1M"],
    "range": [math.log10(3500), math.log10(1.3e6)],
    "title": {"text": "context (tokens)", "standoff": 6},
}


def _curve(x: np.ndarray, y: np.ndarray, name: str, colour: str, dash: str) -> dict:
    style = {"color": colour, "dash": dash, "width": 2.5}
    return {"type": "scatter", "x": x, "y": y, "name": name, "mode": "lines", "line": style}


def _against_context(
    result: CostResult,
    parts: dict[str, np.ndarray],
    *,
    y: str,
    exponents: tuple[int | float, int | float],
) -> go.Figure:
    """Costs against the context, both axes logarithmic; `parts` maps a legend to a curve."""
    styles = (
        (theme.VERMILION, "solid"),
        (theme.BLUE, "solid"),
        (theme.GREEN, "dash"),
        (theme.PURPLE, "dot"),
    )
    return theme.figure(
        [
            _curve(result.curves.contexts, values, name, *style)
            for (name, values), style in zip(parts.items(), styles, strict=False)
        ],
        y=y,
        y_range=exponents,
        xaxis=CONTEXT_AXIS,
        yaxis={"type": "log", "dtick": 1, "exponentformat": "power"},
        showlegend=True,
        margin={"l": 62},
        shapes=[theme.line(x=result.params.context, colour=theme.PURPLE)],
    )


def flops_figure(result: CostResult) -> go.Figure:
    """FLOPs per token of one layer."""
    curves = result.curves
    parts = {
        "dense": curves.dense_flops,
        "MSA": curves.index_flops + curves.main_flops,
        "index": curves.index_flops,
        "main branch": curves.main_flops,
    }
    return _against_context(result, parts, y="FLOPs per token", exponents=(6, 10.8))


def bytes_figure(result: CostResult) -> go.Figure:
    """Bytes of the cache that one decoded token reads in one layer."""
    curves = result.curves
    parts = {
        "dense": curves.dense_bytes,
        "MSA": curves.index_bytes + curves.main_bytes,
        "index": curves.index_bytes,
        "main branch": curves.main_bytes,
    }
    return _against_context(result, parts, y="bytes per token", exponents=(5, 10.3))


MEMORY_PARTS = {  # category: legend, colour, pattern
    "weights": ("weights", theme.GREY, ""),
    "keys_values": ("keys, values", theme.BLUE, ""),
    "index_keys": ("index keys", theme.GREEN, "x"),
    "scratch": ("scratch", theme.VERMILION, "/"),
}


def measured_memory(result: CostResult) -> dict[str, MemoryUse]:
    """What was measured of "dense" and "msa" at the context and k of the sliders, if both were.

    Only the paper's layer was measured, with several k.
    """
    paper, params = MSAConfig.paper(), result.params
    if replace(params.config, n_selected=paper.n_selected) != paper:
        return {}
    at_context = [u for u in memory_use() if (u.what, u.context) == ("layer", params.context)]
    wanted = {"dense": None, "msa": params.config.n_selected}
    found = {
        method: use
        for method, n_selected in wanted.items()
        for use in at_context
        if use.n_selected == n_selected
    }
    return found if len(found) == len(wanted) else {}


def memory_figure(result: CostResult) -> go.Figure:
    """Bytes that one layer holds while it prefills, by category: MSA holds more, not less.

    Diamonds stand where the bars end by what was measured at this context and k, with the
    weights of the model.
    """
    methods = {"dense": "dense", "MSA": "msa"}
    traces = [
        {
            "type": "bar",
            "x": [result.memory[method][category] / 2**30 for method in methods.values()],
            "y": list(methods),
            "orientation": "h",
            "name": name,
            "marker": {
                "color": colour,
                "pattern": {"shape": pattern, "size": 6, "fillmode": "overlay", "solidity": 0.2},
            },
            "hovertemplate": "%{x:.3f} GiB",
        }
        for category, (name, colour, pattern) in MEMORY_PARTS.items()
    ]
    measured = measured_memory(result)
    if measured:
        ends = [
            result.memory[method]["weights"]
            + measured[method].keys_values
            + measured[method].index_keys
            + measured[method].prefill_scratch
            for method in methods.values()
        ]
        traces.append(
            {
                "type": "scatter",
                "x": [end / 2**30 for end in ends],
                "y": list(methods),
                "mode": "markers",
                "marker": {
                    "symbol": "diamond-open",
                    "size": 13,
                    "color": theme.PURPLE,
                    "line": {"width": 2},
                },
                "showlegend": False,
                "hovertemplate": "measured: %{x:.3f} GiB",
            }
        )
    return theme.figure(
        traces,
        x="GiB in one layer",
        x_range=(0, 1.05 * result.largest_memory / 2**30),
        yaxis={"autorange": "reversed"},
        barmode="stack",
        showlegend=True,
        legend={"traceorder": "normal"},
    )


def _speedups(
    rows: tuple[KernelTime, ...], name: str, colour: str, symbol: str | list[str]
) -> dict:
    return {
        "type": "scatter",
        "x": [row.context for row in rows],
        "y": [row.speedup for row in rows],
        "mode": "markers",
        "marker": {"size": 10, "color": colour, "symbol": symbol},
        "name": name,
    }


def ratio_figure(
    result: CostResult,
    measured: tuple[Measured, ...] = (),
    recorded: KernelTimes | None = None,
) -> go.Figure:
    """How many times less MSA computes and reads, under its ceilings, and how much faster it was.

    `measured` was timed on this machine, `recorded` is the committed run of the same layer.
    """
    curves = result.curves
    kinds = (
        ("FLOP", "prefill", curves.flop_ratio, result.flop_ceiling, theme.BLUE, "solid", "circle"),
        (
            "byte",
            "decode",
            curves.byte_ratio,
            result.byte_ceiling,
            theme.VERMILION,
            "dash",
            "square",
        ),
    )
    traces, notes = [], []
    shapes = [theme.line(x=result.params.context, colour=theme.PURPLE)]
    for unit, phase, ratio, ceiling, colour, dash, symbol in kinds:
        traces.append(_curve(curves.contexts, ratio, f"{phase} {unit}s", colour, dash))
        if measured:
            traces.append(
                {
                    "type": "scatter",
                    "x": [point.context for point in measured],
                    "y": [getattr(point, f"{phase}_speedup") for point in measured],
                    "mode": "markers",
                    "marker": {"size": 11, "color": colour, "symbol": symbol},
                    "name": f"measured {phase}",
                }
            )
        shapes.append(theme.line(y=ceiling, colour=colour))
        notes.append(
            {
                "text": f"{unit} ceiling {ceiling:.3g}×",
                "xref": "paper",
                "x": 0.02,
                "y": ceiling,
                "yanchor": "bottom",
                "showarrow": False,
            }
        )
    if recorded is not None:
        whole, last = recorded.of("prefill"), recorded.of("last queries")
        symbols = ["circle-open"] * len(whole) + ["diamond-open"] * len(last)
        traces += [
            _speedups(whole + last, "H100 prefill", theme.BLUE, symbols),
            _speedups(recorded.of("decode"), "H100 decode", theme.VERMILION, "square-open"),
        ]
    return theme.figure(
        traces,
        y="dense ÷ MSA",
        y_range=(0, 1.15 * max(40.0, result.flop_ceiling, result.byte_ceiling)),
        xaxis=CONTEXT_AXIS,
        showlegend=True,
        shapes=shapes,
        annotations=notes,
    )


TIME_EXPONENTS = {"prefill": (-1, 3), "decode": (-3, 0.2)}  # limits in powers of ten, ms


def times_figure(result: CostResult, recorded: KernelTimes, task: str) -> go.Figure:
    """Measured milliseconds against context: dense, MSA, and MSA's two steps."""
    rows = recorded.of(task)
    contexts = np.array([row.context for row in rows])
    parts = (
        ("dense", "dense_ms", theme.VERMILION, "solid", "circle"),
        ("MSA", "msa_ms", theme.BLUE, "solid", "square"),
        ("select", "select_ms", theme.GREEN, "dash", "diamond"),
        ("attend", "attend_ms", theme.PURPLE, "dot", "cross"),
    )
    traces = []
    for name, field, colour, dash, symbol in parts:
        values = np.array([getattr(row, field) for row in rows])
        marker = {"size": 8, "color": colour, "symbol": symbol}
        trace = _curve(contexts, values, name, colour, dash)
        traces.append(trace | {"mode": "lines+markers", "marker": marker})
    return theme.figure(
        traces,
        y=f"{task}, milliseconds",
        y_range=TIME_EXPONENTS[task],
        xaxis=CONTEXT_AXIS,
        yaxis={"type": "log", "dtick": 1, "exponentformat": "power"},
        showlegend=True,
        margin={"l": 62},
        shapes=[theme.line(x=result.params.context, colour=theme.PURPLE)],
    )


def needle_figure(result: NeedleResult) -> go.Figure:
    """Token scores, and the same blocks under max- and under mean-pooling."""
    params, floor, top = result.params, -6.0, 13.0
    layout = theme.columns(
        ["max of each block", "mean of each block"], x="token position", x_range=(0, params.n)
    )
    traces = []
    for column, (pooled, selected) in enumerate(
        ((result.block_max, result.selected_max), (result.block_mean, result.selected_mean))
    ):
        axis = theme.x_axis(column)
        chosen = np.isin(np.arange(len(pooled)), selected)
        traces += [
            _block_bars(pooled, chosen, floor=floor, size=params.block_size, axis=axis),
            _token_line(result.token_scores, axis=axis),
        ]
        layout["annotations"].append(
            {
                "text": "needle",
                "xref": axis,
                "x": params.needle,
                "yref": "y",
                "y": float(result.token_scores[params.needle]),
                "ax": 34,
                "ay": -14,
                "arrowwidth": 1.5,
                "showarrow": True,
            }
        )
    return theme.figure(traces, barmode="overlay", y="score", y_range=(floor, top), **layout)
