"""Colours, line styles and the common figure layout.

Every concept keeps one colour and one dash through a lesson, so meaning never rests on
colour alone. Text, grid and background colours are left to the page, which takes them
from JupyterLab's light or dark theme.
"""

from typing import Any

import plotly.graph_objects as go

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#7F7F7F"  # 4:1 on white, 4.7:1 on Lab's dark page
SEQUENCE = (BLUE, VERMILION, GREEN, PURPLE)
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "cross")
ORDERED = "Cividis"  # ordered data, with a stated range
SIGNED = "RdBu_r"  # signed data, centred on zero


def figure(
    traces: list[Any],
    *,
    x: str = "",
    y: str = "",
    title: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    **layout: Any,
) -> go.Figure:
    """A figure with the lessons' common margins and fonts.

    Args:
        traces: plotly traces.
        x, y: axis titles with units.
        title: short heading inside the figure.
        x_range, y_range: fixed limits, so that a moving slider shows change; a logarithmic
            axis takes exponents of ten, as plotly does.
        layout: anything more for `update_layout`.
    """
    fig = go.Figure(traces)
    axis = {"automargin": True, "showline": True, "ticks": "outside", "ticklen": 4}
    fig.update_layout(
        template="none",
        title={"text": title, "font": {"size": 14}, "x": 0, "xref": "paper", "y": 0.98},
        margin={"l": 56, "r": 14, "t": 34 if title else 12, "b": 46},
        font={"size": 13},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        xaxis={"title": {"text": x, "standoff": 6}, "range": x_range, **axis},
        yaxis={"title": {"text": y, "standoff": 6}, "range": y_range, **axis},
        showlegend=False,
        uirevision="kept",
    )
    return fig.update_layout(**layout) if layout else fig
