"""Where two teachers say WAIT: maps over error position and delay, and false alarms."""

from collections.abc import Mapping

import plotly.graph_objects as go

from intuitive.trd.committed import WaitMap

from .. import theme
from .trd_styles import TEACHER

LIMIT = 0.02  # of the probability of WAIT where nothing is wrong
TOPS = (0.05, 0.1, 0.2, 0.5, 1.0)
TEACHER_NAMES = {"exact": "the program", "learned": "the trained network"}
LOOKS = {"exact": ("solid", "circle"), "learned": ("dash", "square")}


def error_name(error: str) -> str:
    """As the figures call it: steps count from 1."""
    return "plan" if error == "plan" else f"step {int(error) + 1}"


def map_figure(maps: Mapping[str, WaitMap]) -> go.Figure:
    """WAIT mass by the place of the error and the steps since, one map per teacher."""
    rows = list(next(iter(maps.values())).by_error)
    width = max(len(masses) for found in maps.values() for masses in found.by_error.values())
    traces = []
    for place, found in enumerate(maps.values()):
        table = [[*found.by_error[row], *[None] * width][:width] for row in rows]
        traces.append(
            {
                "type": "heatmap",
                "z": table,
                "zmin": 0,
                "zmax": 1,
                "colorscale": theme.ORDERED,
                "showscale": place == 0,
                "colorbar": {"thickness": 12, "title": {"text": "WAIT", "side": "top"}},
                "xgap": 2,
                "ygap": 2,
                # Hundredths in narrow cells: "30" for 0.30.
                "text": [["" if z is None else f"{100 * z:.0f}" for z in row] for row in table],
                "texttemplate": "%{z:.2f}" if width <= 5 else "%{text}",
                "textfont": {"size": 13 if width <= 5 else 11},
                "hovertemplate": "%{y}, %{x} steps later: %{z:.3f}<extra></extra>",
                "hoverongaps": False,
                "xaxis": theme.x_axis(place),
            }
        )
    headings = [TEACHER_NAMES[name] for name in maps]
    layout = theme.columns(headings, x="steps since the error", x_range=(-0.5, width - 0.5))
    for name, axis in layout.items():
        if name.startswith("xaxis"):
            axis |= {"dtick": 1, "showgrid": False, "zeroline": False}
    return theme.figure(
        traces,
        y_range=(len(rows) - 0.5, -0.5),
        margin={"l": 66},
        yaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": [error_name(row) for row in rows],
            "showgrid": False,
            "zeroline": False,
        },
        **layout,
    )


def clean_figure(maps: Mapping[str, WaitMap]) -> go.Figure:
    """False alarms: WAIT mass after right steps alone."""
    traces = []
    for name, found in maps.items():
        dash, symbol = LOOKS[name]
        traces.append(
            {
                "type": "scatter",
                "x": list(range(1, len(found.clean) + 1)),
                "y": list(found.clean),
                "mode": "lines+markers",
                "line": {"color": TEACHER, "dash": dash, "width": 2.5},
                "marker": {"color": TEACHER, "symbol": symbol, "size": 9},
                "name": TEACHER_NAMES[name],
            }
        )
    worst = max(found.worst_clean for found in maps.values())
    n = len(next(iter(maps.values())).clean)
    return theme.figure(
        traces,
        x="right steps so far",
        y="WAIT mass, false alarms",
        x_range=(0.7, n + 0.3),
        y_range=(-0.002, next((top for top in TOPS if top > 1.05 * worst), 1.05)),
        xaxis={"dtick": 1},
        shapes=[theme.line(y=LIMIT, colour=theme.VERMILION)],
        showlegend=True,
    )
