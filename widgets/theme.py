"""Colours, line styles and the common figure layout.

Every concept keeps one colour and one dash through a lesson, so meaning never rests on
colour alone. Text, grid and background colours are left to the page, which takes them
from JupyterLab's light or dark theme.
"""

from typing import Any

from plotly.colors import get_colorscale

Figure = dict[str, Any]  # {"data": [trace, …], "layout": {…}}, as plotly.js draws it

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#7F7F7F"  # 4:1 on white, 4.7:1 on Lab's dark page
SEQUENCE = (BLUE, VERMILION, GREEN, PURPLE)
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "cross")
ORDERED = get_colorscale("Cividis")  # ordered data, with a stated range
SIGNED = get_colorscale("RdBu_r")  # signed data, centred on zero
NO_TEMPLATE = {"data": {"scatter": [{"type": "scatter"}]}}  # plotly's own "none"
AXIS = {
    "automargin": False,
    "showline": True,
    "ticks": "outside",
    "ticklen": 4,
    # Where plotly.js hides every tick label, as in a plot of a few pixels that is about to be
    # hidden, it puts the axis title at minus infinity.
    "ticklabeloverflow": "allow",
}


def figure(
    traces: list[dict[str, Any]],
    *,
    x: str = "",
    y: str = "",
    x_range: tuple[int | float, int | float] | None = None,
    y_range: tuple[int | float, int | float] | None = None,
    **layout: Any,
) -> Figure:
    """A figure with the lessons' common margins and fonts.

    A plain dictionary, which plotly.js draws as it is: checking every figure with plotly would take
    most of the time that a slider waits, so the tests do it, for every explorer.

    Args:
        traces: plotly traces as dictionaries with their `type`.
        x, y: axis titles with units; an empty one is left to `layout`.
        x_range, y_range: fixed limits, so that a moving slider shows change; a logarithmic
            axis takes exponents of ten, as plotly does.
        layout: more of plotly's layout; dictionaries are merged into the common ones.
    """
    common = {
        "template": NO_TEMPLATE,
        "margin": {"l": 56, "r": 14, "t": 34, "b": 46},
        "font": {"size": 13},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {**AXIS, "title": {"text": x, "standoff": 6}, "range": x_range},
        "yaxis": {**AXIS, "title": {"text": y, "standoff": 6}, "range": y_range},
        "showlegend": False,
        "uirevision": "kept",
    }
    for name, value in layout.items():
        merged = {**common[name], **value} if isinstance(common.get(name), dict) else value
        common[name] = merged
    return {"data": list(map(_plain, traces)), "layout": _plain(common)}


def _plain(part: Any) -> Any:
    """Tuples are lists, and what is None is absent."""
    if isinstance(part, dict):
        return {name: _plain(value) for name, value in part.items() if value is not None}
    return [_plain(value) for value in part] if isinstance(part, list | tuple) else part


def columns(
    headings: list[str],
    *,
    x: str,
    x_range: tuple[int | float, int | float],
    gap: int | float = 0.03,
) -> dict[str, Any]:
    """Layout of plots side by side under one y axis.

    Args:
        headings: one per plot.
        x: title of every x axis.
        x_range: limits of every x axis.
        gap: share of the width between two plots.

    Returns:
        Keyword arguments for `figure`; a trace picks its plot with `xaxis=x_axis(index)`.
    """
    width = (1 - gap * (len(headings) - 1)) / len(headings)
    layout: dict[str, Any] = {"annotations": []}
    for index, heading in enumerate(headings):
        start = index * (width + gap)
        layout[x_axis(index).replace("x", "xaxis")] = {
            **AXIS,
            "domain": [start, min(start + width, 1)],
            "anchor": "y",
            "title": {"text": x, "standoff": 6},
            "range": x_range,
            "ticklabeloverflow": "hide past domain",
        }
        layout["annotations"].append(
            {
                "text": heading,
                "align": "left",
                "x": start,
                "xanchor": "left",
                "xref": "paper",
                "y": 1.0,
                "yref": "paper",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 14},
            }
        )
    return layout


def x_axis(index: int) -> str:
    """Plotly's name for the x axis of a column: x, x2, x3, …"""
    return "x" if index == 0 else f"x{index + 1}"


def line(*, axis: str = "x", **ends: Any) -> dict[str, Any]:
    """A straight line across a plot: give `x` for a vertical one, `y` for a horizontal one."""
    colour, dash = ends.pop("colour"), ends.pop("dash", "dot")
    if len(ends) != 1 or not {"x", "y"}.issuperset(ends):
        given = ", ".join(f"{name}={value}" for name, value in ends.items()) or "neither"
        raise ValueError(
            f"a line takes x or y, got {given}: give x for a vertical line, y for a horizontal one."
        )
    ((name, value),) = ends.items()
    shape = {"type": "line", "line": {"color": colour, "width": 1.5, "dash": dash}}
    if name == "x":
        return shape | {"xref": axis, "yref": "paper", "x0": value, "x1": value, "y0": 0, "y1": 1}
    whole = f"{axis} domain"
    return shape | {"xref": whole, "yref": "y", "x0": 0, "x1": 1, "y0": value, "y1": value}
