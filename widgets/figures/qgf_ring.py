"""The ring as figures: the vector field at one time, and where the samples end."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from intuitive.qgf.ring import EXTENT, STD, RingResult

from .. import theme
from .qgf import CRITIC
from .qgf_styles import ESTIMATOR_STYLES

RANGE = (-EXTENT, EXTENT)
LEVELS = {"start": 0.2, "end": 0.8, "size": 0.2}  # of the critic, whose reward lies in [0, 1]
SPEED = 2.0  # at which an arrow has three quarters of its greatest length
N_PATHS = 40  # trajectories drawn
N_ASKED = 80  # particles drawn with their queries
N_SAMPLES = 400  # drawn
THIN = 2  # every second arrow along either axis is drawn
OFF_MODE = 3 * STD


def _plane(traces: list[dict[str, Any]], **layout: Any) -> go.Figure:
    """A square plot of the plane with equal scales."""
    return theme.figure(
        traces,
        x="first action",
        y="second action",
        x_range=RANGE,
        y_range=RANGE,
        xaxis={"constrain": "domain", "zeroline": False},
        yaxis={"scaleanchor": "x", "constrain": "domain", "zeroline": False},
        showlegend=True,
        margin={"t": 60},
        **layout,
    )


def _critic(result: RingResult, *, labels: bool) -> dict[str, Any]:
    return {
        "type": "contour",
        "x": result.surface,
        "y": result.surface,
        "z": result.critic.round(3),
        "contours": {"coloring": "none", "showlabels": labels, **LEVELS},
        "line": {"color": CRITIC, "width": 1, "smoothing": 0},  # quicker to label
        "hoverinfo": "skip",
        "name": "critic",
        "showlegend": True,
    }


def _modes(result: RingResult) -> list[dict[str, Any]]:
    return [
        {
            "type": "circle",
            **{"x0": x - OFF_MODE, "x1": x + OFF_MODE, "y0": y - OFF_MODE, "y1": y + OFF_MODE},
            "line": {"color": theme.GREY, "width": 1, "dash": "dot"},
            "layer": "below",
        }
        for x, y in result.modes.tolist()
    ]


def _arrows(result: RingResult, field: np.ndarray, colour: str, name: str) -> dict[str, Any]:
    """Arrows whose length grows with speed up to the distance between two of them."""
    grid, field = result.grid[::THIN], field[::THIN, ::THIN]
    x, y = np.meshgrid(grid, grid)
    speed = np.linalg.norm(field, axis=-1)
    spacing = grid[1] - grid[0]
    scale = spacing * np.tanh(speed / SPEED) / np.maximum(speed, 1e-9)
    seen = np.tanh(speed / SPEED) > 0.04
    return {
        "type": "quiver",
        "x": x[seen].round(3),
        "y": y[seen].round(3),
        "u": (field[..., 0] * scale)[seen].round(4),
        "v": (field[..., 1] * scale)[seen].round(4),
        "arrowref": "data",
        "lengthmode": "raw",
        "marker": {"color": colour, "line": {"width": 1.6}, "arrowsize": 1.1},
        "hoverinfo": "skip",
        "name": name,
        "showlegend": True,
    }


def _points(x: np.ndarray, name: str, **marker: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": x[:, 0].round(3),
        "y": x[:, 1].round(3),
        "mode": "markers",
        "marker": marker,
        "hoverinfo": "skip",
        "name": name,
    }


def field_figure(result: RingResult) -> go.Figure:
    """Velocity and guidance at one time, the particles then, and where they ask the critic."""
    params = result.params
    step = round(result.arrow_time * params.n_steps)
    look = ESTIMATOR_STYLES[params.estimator]
    traces = [
        _critic(result, labels=True),
        _arrows(result, result.velocity, theme.GREY, "flow"),
        _arrows(result, result.guidance, look.colour, "guidance"),
        _points(
            result.trajectories[step, :N_ASKED],
            "particles",
            color=look.colour,
            size=5,
        ),
    ]
    if len(result.queries) == params.n_steps and params.estimator != "best_of_n":
        traces.append(
            _points(
                result.queries[step, :N_ASKED],
                "Q asked",
                color=CRITIC,
                size=7,
                symbol="x-thin-open",
            )
        )
    return _plane(traces, shapes=_modes(result))


def samples_figure(result: RingResult) -> go.Figure:
    """Where samples end, and the way of some of them."""
    look = ESTIMATOR_STYLES[result.params.estimator]
    paths = result.trajectories[:, :N_PATHS]  # [t1, n, 2]
    gaps = np.full((1, paths.shape[1], 2), np.nan, dtype=paths.dtype)
    joined = np.concatenate([paths, gaps]).transpose(1, 0, 2).reshape(-1, 2)
    traces = [
        _critic(result, labels=False),  # as beside it, where labels stand
        {
            "type": "scatter",
            "x": joined[:, 0],
            "y": joined[:, 1],
            "mode": "lines",
            "line": {"color": theme.GREY, "width": 0.7},
            "opacity": 0.6,
            "hoverinfo": "skip",
            "name": "paths from noise",
        },
        _points(result.samples[:N_SAMPLES], "samples", color=look.colour, size=4, opacity=0.6),
        _points(
            np.array([[result.params.peak_x, result.params.peak_y]]),
            "reward's peak",
            color=CRITIC,
            size=14,
            symbol="cross-thin-open",
            line={"width": 3},
        ),
    ]
    return _plane(traces, shapes=_modes(result))
