"""Students trained live as figures, beside those that ship with the lesson."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from intuitive.trd.committed import MethodRow
from intuitive.trd.live import LiveRun

from .. import theme
from .trd_styles import METHOD_STYLES, fade

ENDS = ("right", "says WAIT", "keeps its order")


def course_figure(
    names: Sequence[str], runs: Sequence[LiveRun], shipped: Mapping[str, MethodRow], n_steps: int
) -> go.Figure:
    """Accuracy over training steps: live in full colour, shipped faded with its interval."""
    traces: list[dict[str, Any]] = []
    for name in names:
        style, row = METHOD_STYLES[name], shipped.get(name)
        if row is not None:
            traces.append(
                {
                    "type": "scatter",
                    "x": [point.step for point in row.curve],
                    "y": [point.accuracy for point in row.curve],
                    "mode": "lines+markers",
                    "line": style.line(2) | {"color": fade(style.colour, 0.55)},
                    "marker": style.marker(6) | {"color": fade(style.colour, 0.55)},
                    "name": f"{style.name}, shipped",
                    "showlegend": not runs,
                    "hovertemplate": f"{style.name}, shipped: %{{y:.1%}}<extra></extra>",
                }
            )
    for run in runs:
        style = METHOD_STYLES[run.name]
        traces.append(
            {
                "type": "scatter",
                "x": [point.step for point in run.points],
                "y": [point.accuracy for point in run.points],
                "mode": "lines+markers",
                "line": style.line(4),
                "marker": style.marker(13),
                "name": f"{style.name}, yours",
                "hovertemplate": f"{style.name}: %{{y:.1%}} at step %{{x}}<extra></extra>",
            }
        )
    last = max([n_steps, *(point.step for row in shipped.values() for point in row.curve)])
    return theme.figure(
        traces,
        x="training step",
        y="rollouts that are right",
        x_range=(-0.03 * last, 1.03 * last),
        y_range=(0, 1.03),
        yaxis={"tickformat": ".0%"},
        showlegend=True,
        legend={"y": -0.2, "yanchor": "top"},
        margin={"l": 66, "b": 100},
    )


def ends_figure(
    names: Sequence[str], runs: Sequence[LiveRun], shipped: Mapping[str, MethodRow]
) -> go.Figure:
    """How the students ended: bars live, diamonds shipped."""
    live = {run.name: run.points[-1] for run in runs}
    places = list(range(len(names)))
    colours = [METHOD_STYLES[name].colour for name in names]
    traces: list[dict[str, Any]] = []
    for column, field in enumerate(("accuracy", "wait", "order_kept")):
        heights = [getattr(live[name], field) if name in live else None for name in names]
        rows = [shipped.get(name) for name in names]
        known = [None if row is None else getattr(row, field) for row in rows]
        if field == "accuracy":
            known = [None if end is None else end.estimate for end in known]
        axis = theme.x_axis(column)
        traces += [
            {
                "type": "bar",
                "x": places,
                "y": heights,
                "width": 0.6,
                "marker": {"color": [fade(colour, 0.7) for colour in colours]},
                "name": "yours",
                "xaxis": axis,
                "text": ["" if height is None else f"{height:.0%}" for height in heights],
                "textposition": "outside",
                "textangle": 0,
                "constraintext": "none",
                "cliponaxis": False,
                "showlegend": column == 0,
                "hoverinfo": "skip",
            },
            {
                "type": "scatter",
                "x": places,
                "y": known,
                "mode": "markers",
                "marker": {
                    "symbol": "diamond-open",
                    "size": 12,
                    "color": colours,
                    "line": {"width": 3, "color": colours},
                },
                "name": "shipped",
                "xaxis": axis,
                "showlegend": column == 0,
                "hovertemplate": "%{y:.1%}<extra></extra>",
            },
        ]
    layout = theme.columns(list(ENDS), x="", x_range=(-0.6, len(names) - 0.4), gap=0.05)
    for name, axis in layout.items():
        if name.startswith("xaxis"):
            axis |= {
                "tickvals": places,
                "ticktext": [METHOD_STYLES[key].name for key in names],
                "tickangle": -30,
                "ticklabeloverflow": "allow",
                "zeroline": False,
            }
    return theme.figure(
        traces,
        y_range=(0, 1.12),
        yaxis={"tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]},
        showlegend=False,
        margin={"l": 90, "b": 100, "r": 24},
        **layout,
    )
