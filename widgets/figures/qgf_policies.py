"""Fork-world policies as figures: paths, curves over the weight, and the time of a decision."""

import statistics
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from intuitive.qgf.policies import WAYS, WEIGHTS, ForkRuns, PolicyResult

from .. import theme
from .qgf_styles import ESTIMATOR_STYLES, Style

MEASURES = {"success": "episodes won", "returns": "mean return"}
LIMITS = {"success": (0, 1.02), "returns": (-50, 0)}
REACH = 1.05  # of the plane that is shown
LOST = "rgba(140,140,140,0.4)"


def style(way: str) -> Style:
    """How a way of acting is drawn: as its estimator, best of 16 with longer dashes than of 4."""
    plain = ESTIMATOR_STYLES[WAYS[way].estimator]
    return plain._replace(dash="longdashdot") if WAYS[way].n_candidates > 4 else plain


def _joined(paths: np.ndarray) -> dict[str, list[float | None]]:
    """Several paths as one line with gaps, each as far as it moves."""
    x: list[float | None] = []
    y: list[float | None] = []
    for path in paths.astype(float).round(3):
        moving = np.flatnonzero((path != path[-1]).any(1))
        path = path[: moving[-1] + 2] if len(moving) else path[:1]
        x += [*path[:, 0].tolist(), None]
        y += [*path[:, 1].tolist(), None]
    return {"x": x, "y": y}


def paths_figure(result: PolicyResult) -> go.Figure:
    """Where each way of acting went, side by side; the paying goal is filled."""
    traces, shapes = [], []
    layout = theme.columns(
        [f"{way.label}: {way.success:.0%} won" for way in result.ways],
        x="",
        x_range=(-REACH, REACH),
    )
    for column, way in enumerate(result.ways):
        axis = theme.x_axis(column)
        layout[axis.replace("x", "xaxis")] |= {"scaleanchor": "y", "constrain": "domain"}
        for won, line in (
            (False, {"color": LOST, "width": 0.8}),
            (True, style(way.name).line(1.3)),
        ):
            if (way.won == won).any():
                traces.append(
                    {
                        "type": "scatter",
                        **_joined(way.paths[way.won == won]),
                        "mode": "lines",
                        "line": line | {"dash": "solid"},
                        "xaxis": axis,
                        "hoverinfo": "skip",
                    }
                )
        for index, (x, y) in enumerate(result.goals.tolist()):
            shapes.append(
                {
                    "type": "circle",
                    **{"x0": x - result.reach, "x1": x + result.reach},
                    **{"y0": y - result.reach, "y1": y + result.reach},
                    **{"xref": axis, "yref": "y"},
                    "line": {"color": theme.GREEN if index == 0 else theme.GREY, "width": 2},
                    "fillcolor": "rgba(0,158,115,0.35)" if index == 0 else "rgba(0,0,0,0)",
                    "layer": "below",
                }
            )
    return theme.figure(
        traces,
        y_range=(-REACH, REACH),
        yaxis={"constrain": "domain"},
        margin={"b": 30},
        shapes=shapes,
        **layout,
    )


def curves_figure(
    runs: ForkRuns, measure: str, ways: Sequence[str], weight: int | float
) -> go.Figure:
    """One measure over the weight: mean of the scored seeds, band from the least to the greatest.

    Args:
        runs: the committed runs.
        measure: a key of `MEASURES`.
        ways: those shown; one without a weight is a level line.
        weight: where the vertical line stands.
    """
    tried = sorted({w for curve in runs.curves for w in curve.weights if len(curve.weights) > 1})
    low, high = tried[0], tried[-1]
    traces = []
    for way in ways:
        curve, look = runs.curve(way), style(way)
        table = np.array([curve.at(w, runs.scored, measure) for w in curve.weights])  # [w, seeds]
        x = list(curve.weights)
        if len(x) == 1:
            x, table = [low, high], table.repeat(2, 0)
        traces += [
            {
                "type": "scatter",
                "x": [*x, *x[::-1]],
                "y": np.concatenate([table.max(1), table.min(1)[::-1]]),
                "mode": "lines",
                "line": {"width": 0},
                "fill": "toself",
                "fillcolor": look.colour,
                "opacity": 0.15,
                "hoverinfo": "skip",
                "showlegend": False,
            },
            {
                "type": "scatter",
                "x": x,
                "y": table.mean(1),
                "mode": "lines",
                "line": look.line(),
                "name": WAYS[way].label,
            },
        ]
        if len(curve.weights) > 1:
            chosen = runs.chosen[way]
            traces.append(
                {
                    "type": "scatter",
                    "x": [chosen],
                    "y": [statistics.mean(curve.at(chosen, runs.scored, measure))],
                    "mode": "markers",
                    "marker": look.marker(10),
                    "showlegend": False,
                    "name": f"{WAYS[way].label}, weight chosen on other seeds",
                }
            )
    return theme.figure(
        traces,
        x="guidance weight w",
        y=MEASURES[measure],
        x_range=(np.log10(low) - 0.05, np.log10(high) + 0.05),
        y_range=LIMITS[measure],
        xaxis={"type": "log", "tickvals": WEIGHTS},
        showlegend=True,
        margin={"t": 76},
        shapes=[theme.line(x=weight, colour=theme.GREY)],
    )


def time_figure(runs: ForkRuns, ways: Sequence[str]) -> go.Figure:
    """Time of a decision over BC's, for every way; those looked at are opaque."""
    order = sorted(runs.decision_ms, key=runs.relative_time, reverse=True)
    times = [runs.relative_time(way) for way in order]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": times,
        "y": [WAYS[way].label for way in order],
        "marker": {
            "color": [style(way).colour for way in order],
            "opacity": [1.0 if way in ways else 0.4 for way in order],
        },
        "text": [f"{time:.1f}" for time in times],
        "textposition": "outside",
        "hovertemplate": "%{y}: %{x:.3g} times BC<extra></extra>",
    }
    return theme.figure(
        [bars],
        x="time, BC = 1",
        x_range=(0, 1.3 * max(times)),
        margin={"l": 104},
    )
