"""Jacobians of the flow, agreement of guidance between neighbours, and what guidance costs."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.trimodal import Jacobians, Jitter

from .. import theme
from .qgf_styles import ESTIMATOR_STYLES

DECADES = (-2.5, 3.0)  # of the Jacobians' axis
STEEP = 0.4  # largest height of the drawn density, in decades


def jacobians_figure(here: Jacobians) -> go.Figure:
    """J_1 and p_t/p_1 over x on a logarithmic axis, above the density of the particles."""
    x = here.x.astype(np.float32)
    hill = 10 ** (DECADES[0] + STEEP * here.density / here.density.max())
    jacobians = (
        ("J₁, one Euler step", here.one_step, ESTIMATOR_STYLES["qgf_jacobian"]),
        ("pₜ/p₁, whole chain", here.chain, ESTIMATOR_STYLES["bptt"]),
    )
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "x": x,
            "y": hill.astype(np.float32),
            "mode": "lines",
            "line": {"color": theme.GREY, "width": 1},
            "hoverinfo": "skip",
            "name": "particles",
        }
    ]
    for name, values, look in jacobians:
        traces.append(
            {
                "type": "scatter",
                "x": x,
                "y": np.where(values > 0, values, np.nan).astype(np.float32),
                "mode": "lines",
                "line": look.line(2.5),
                "name": name,
                "hovertemplate": "%{y:.3g}<extra></extra>",
            }
        )
    return theme.figure(
        traces,
        x="position x at time t",
        y="Jacobian",
        x_range=(float(here.x[0]), float(here.x[-1])),
        y_range=DECADES,
        yaxis={
            "type": "log",
            "tickvals": [0.01, 0.1, 1, 10, 100, 1000],
            "ticktext": ["0.01", "0.1", "1", "10", "100", "1000"],
        },
        showlegend=True,
        margin={"t": 60, "l": 64},
        shapes=[theme.line(y=1, colour=theme.GREY)],
    )


def cosine_figure(whole: Jitter, t: float) -> go.Figure:
    """Cosine between the guidance of particles and of their neighbours, over time."""
    traces = []
    for name, cosine, same in zip(whole.estimators, whole.cosine, whole.same_sign, strict=True):
        look = ESTIMATOR_STYLES[name]
        guided = zip(cosine.round(4).tolist(), same > 0, strict=True)  # else nothing to compare
        traces.append(
            {
                "type": "scatter",
                "x": whole.times,
                "y": [value if some else None for value, some in guided],
                "mode": "lines+markers",
                "line": look.line(2.5),
                "marker": look.marker(7),
                "name": ESTIMATOR_NAMES[name],
                "hovertemplate": f"{ESTIMATOR_NAMES[name]}: %{{y:.3f}}<extra></extra>",
            }
        )
    return theme.figure(
        traces,
        x="time t",
        y="cosine between neighbours",
        x_range=(-0.02, 1),
        y_range=(-0.3, 1.05),
        showlegend=True,
        margin={"t": 76},
        shapes=[theme.line(x=t, colour=theme.GREY)],
    )


def cost_figure(whole: Jitter) -> go.Figure:
    """Network passes per action, and measured milliseconds, as bars."""
    names = [ESTIMATOR_NAMES[name] for name in whole.estimators]
    traces: list[dict[str, Any]] = []
    layout = theme.columns(["network passes", "measured ms"], x="", x_range=(0, 1), gap=0.08)
    for column, values in enumerate((whole.passes, whole.ms)):
        axis = theme.x_axis(column)
        layout[axis.replace("x", "xaxis")]["range"] = (0, 1.35 * max(values))
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "x": list(values),
                "y": names,
                "xaxis": axis,
                "marker": {"color": [ESTIMATOR_STYLES[name].colour for name in whole.estimators]},
                "text": [f"{value:.0f}" for value in values],
                "textposition": "outside",
                "hoverinfo": "skip",
            }
        )
    return theme.figure(traces, yaxis={"autorange": "reversed"}, margin={"l": 110}, **layout)
