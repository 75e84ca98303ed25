"""The tabs of "Block selection": the map of all queries, the selectors and the groups compared."""

import math

import numpy as np

from intuitive.msa.experiments.block_selection import SelectionResult

from .. import theme
from ..kit import percent
from . import styles
from .block_selection_scene import RIDDLE

MAP_ROWS = 256  # rows of the selected map that are drawn
CLEAR, VISIBLE = "rgba(0,0,0,0)", "rgba(150,150,150,0.28)"
MAP_COLOURS = [
    [0, CLEAR],
    [0.33, CLEAR],
    [0.34, VISIBLE],
    [0.66, VISIBLE],
    [0.67, styles.READ],
    [1, styles.READ],
]


def map_figure(result: SelectionResult) -> theme.Figure:
    """Which blocks every query of the layer reads, by group; the future is left clear."""
    step = math.ceil(result.n_tokens / MAP_ROWS)
    rows = np.arange(step - 1, result.n_tokens, step)
    visible = np.arange(result.n_blocks) <= rows[:, None] // result.params.block_size
    riddle = sorted({token // result.params.block_size for token in result.riddle})
    groups = range(len(result.selected))
    headings = [
        f"<b>group {group}</b>" if group == result.params.group else f"group {group}"
        for group in groups
    ]
    columns = theme.columns(headings, x="key block", x_range=(-0.5, result.n_blocks - 0.5))
    traces, shapes = [], []
    for group in groups:
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
        if riddle:
            shapes.append(
                {
                    "type": "rect",
                    "xref": axis,
                    "yref": "y",
                    "x0": riddle[0] - 0.5,
                    "x1": riddle[-1] + 0.5,
                    "y0": riddle[0] * result.params.block_size,
                    "y1": result.n_tokens,
                    "line": {"color": styles.RIDDLE, "width": 1.5},
                }
            )
            columns["annotations"].append(
                {
                    "text": RIDDLE,
                    "x": riddle[0] - 0.5,
                    "xref": axis,
                    "xanchor": "left",
                    "y": riddle[0] * result.params.block_size,
                    "yref": "y",
                    "yanchor": "bottom",
                    "showarrow": False,
                    "font": {"color": styles.RIDDLE, "size": 13},
                }
            )
    return theme.figure(
        traces,
        y="query position",
        y_range=(result.n_tokens, 0),
        yaxis={"showgrid": False},
        shapes=shapes,
        **columns,
    )


def selectors_figure(result: SelectionResult) -> theme.Figure:
    """Attention that every selector's blocks hold: for this query, and on average."""
    group = result.params.group
    names = list(result.captured)[::-1]
    labels = [styles.SELECTOR_NAMES[name] for name in names]
    labels = [
        f"<b>{label}</b>" if name == result.params.selector else label
        for name, label in zip(names, labels, strict=True)
    ]
    sides = (("this query", result.captured), ("mean over queries", result.captured_mean))
    traces = []
    for index, (heading, shares) in enumerate(sides):
        held = [float(shares[name][group]) for name in names]
        strong = [1.0 if name == result.params.selector else 0.45 for name in names]
        traces.append(
            {
                "type": "bar",
                "x": held,
                "y": labels,
                "orientation": "h",
                "marker": {"color": styles.READ, "opacity": strong},
                "name": heading,
                "xaxis": theme.x_axis(index),
                "hoverinfo": "skip",
            }
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "text",
                "x": held,
                "y": labels,
                "text": [f" {percent(share)}" for share in held],
                "textposition": "middle right",
                "cliponaxis": False,
                "xaxis": theme.x_axis(index),
                "hoverinfo": "skip",
            }
        )
    headings = [heading for heading, _ in sides]
    return theme.figure(
        traces,
        margin={"l": 158},
        yaxis={"showgrid": False},
        **theme.columns(headings, x="attention captured", x_range=(0, 1.15), gap=0.06),
    )


def groups_figure(result: SelectionResult) -> theme.Figure:
    """What each group's heads attend to for this query, and which blocks it reads of that."""
    blocks, traces = np.arange(result.local_block + 1), []
    for group in range(len(result.block_mass)):
        read = np.isin(blocks, result.chosen[result.params.selector][group])
        colours = np.where(read, styles.READ, styles.SKIPPED)
        traces.append(
            {
                "type": "bar",
                "x": blocks,
                "y": result.block_mass[group, : len(blocks)],
                "marker": {
                    "color": np.where(
                        read & (blocks == result.local_block), styles.LOCAL, colours
                    ).tolist()
                },
                "xaxis": theme.x_axis(group),
                "hovertemplate": "block %{x}: %{y:.1%}<extra></extra>",
            }
        )
    headings = [
        f"<b>group {group}</b>" if group == result.params.group else f"group {group}"
        for group in range(len(result.block_mass))
    ]
    return theme.figure(
        traces,
        y="share of attention",
        y_range=(0, 1),
        **theme.columns(headings, x="key block", x_range=(-0.7, result.n_blocks - 0.3)),
    )
