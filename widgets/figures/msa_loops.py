"""Loop orders as figures: what is computed when, and what travels."""

import numpy as np
import plotly.graph_objects as go

from intuitive.msa.loops import LoopResult, LoopTrace

from .. import theme

ORDER_NAMES = {
    "query_outer": "query-outer",
    "union_tile": "union tile",
    "kv_outer": "KV-outer",
}
WAITING, DONE, NOW, WASTED = "rgba(150,150,150,0.35)", theme.BLUE, theme.VERMILION, theme.PURPLE
KINDS = ("rgba(0,0,0,0)", WAITING, DONE, NOW, WASTED)  # of a (query, block) pair, by number


def pair_kinds(result: LoopResult, trace: LoopTrace, step: int) -> np.ndarray:
    """Number in KINDS of every (query, block) pair after `step`: [n, n_blk] uint8."""
    kinds = np.where(result.chosen, 1, 0)
    kinds = np.where(result.chosen & (trace.step_of >= 0) & (trace.step_of < step), 2, kinds)
    kinds = np.where(trace.masked & (trace.step_of < step), 4, kinds)
    return np.where(trace.step_of == step, 3, kinds).astype(np.uint8)


def pairs_figure(result: LoopResult, step: int) -> go.Figure:
    """Which pairs of query and block are done, in work, waiting, or computed in vain."""
    trace = result.traces[result.params.order]
    edges = np.linspace(0, 1, len(KINDS) + 1)
    scale = [
        stop
        for kind, colour in enumerate(KINDS)
        for stop in ([edges[kind], colour], [edges[kind + 1], colour])
    ]
    traces = [
        {
            "type": "heatmap",
            "z": pair_kinds(result, trace, step),
            "zmin": -0.5,
            "zmax": len(KINDS) - 0.5,
            "colorscale": scale,
            "showscale": False,
            "xgap": 1,
            "ygap": 1,
            "hovertemplate": "query %{y}, block %{x}<extra></extra>",
        }
    ]
    n, n_blk = result.chosen.shape
    return theme.figure(
        traces,
        x="key block",
        y="query",
        x_range=(-0.5, n_blk - 0.5),
        y_range=(n - 0.5, -0.5),
        xaxis={"showgrid": False},
        yaxis={"showgrid": False},
    )


def traffic_figure(result: LoopResult, share: int | float) -> go.Figure:
    """Bytes moved by each order at the same share of its steps, and in the end."""
    names = list(result.traces)[::-1]
    labels = [
        f"<b>{ORDER_NAMES[name]}</b>" if name == result.params.order else ORDER_NAMES[name]
        for name in names
    ]
    parts = (
        ("keys and values", "key_value_bytes", theme.BLUE, ""),
        ("queries and outputs", "query_bytes", theme.GREEN, "/"),
        ("partial outputs", "partial_bytes", "#8A5A78", "x"),
    )
    traces = []
    for legend, field, colour, pattern in parts:
        moved = [
            getattr(result.traces[name], field)[round(share * (result.traces[name].n_steps - 1))]
            for name in names
        ]
        traces.append(
            {
                "type": "bar",
                "x": [float(value) / 2**20 for value in moved],
                "y": labels,
                "orientation": "h",
                "name": legend,
                "marker": {
                    "color": colour,
                    "pattern": {
                        "shape": pattern,
                        "size": 7,
                        "fillmode": "overlay",
                        "solidity": 0.15,
                    },
                },
            }
        )
    ends = [result.traces[name].total_bytes / 2**20 for name in names]
    traces.append(
        {
            "type": "scatter",
            "x": ends,
            "y": labels,
            "mode": "markers",
            "name": "in the end",
            "marker": {"symbol": "line-ns-open", "size": 22, "color": theme.VERMILION},
        }
    )
    return theme.figure(
        traces,
        x="MiB moved, one group",
        x_range=(0, 1.05 * max(ends)),
        barmode="stack",
        showlegend=True,
        legend={"traceorder": "normal"},
        margin={"l": 104, "t": 76},
    )
