"""The tri-modal flow as figures.

Particles take the colour of the mode in which they end; the exact answer is green, the unguided
flow grey, and all that concerns the critic is golden: its curve, its peak, and the points where
it is asked. An estimator set beside another takes a column of its own in every figure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from intuitive.qgf.critics import STABILITY_LIMIT
from intuitive.qgf.experiments.trimodal import Run, TrimodalResult
from intuitive.qgf.guidance import ESTIMATOR_NAMES, ESTIMATORS
from intuitive.qgf.sweep import Sweep

from .. import theme
from ..kit import chosen, fixed
from .styles import CRITIC, EXACT, MODES, UNGUIDED

PARTICLES = "rgba(127,127,127,0.45)"
EXPLOITED = "rgba(213,94,0,0.22)"

N_POINTS = 3_000  # points of all paths; fewer paths when there are many Euler steps
N_PATHS = 100
N_ASKED = 30  # particles whose queries are drawn
MARK = 0.012  # length of a query's mark in time
COARSER = 3  # every third of the fine positions is drawn beside the paths
FAR = 50.0  # particles farther out of sight are drawn this far
TOP_SPEED = {"A": 8.0, "B": 5.0, "C": 5.0}  # of the colours; faster is drawn as fast as this
SHADES = 254
CRITIC_SHARE = 0.17  # of the width, at the right end
BAR_SHARE = 0.1  # likewise, for the velocities' colours
TIME = "time t: noise → action"
GAP = 0.05
UPPER_HALF, LOWER_HALF = (0.54, 1.0), (0.0, 0.46)
Q_LINE, RETURN = {"color": CRITIC}, {"color": CRITIC, "dash": "dot"}
WEIGHT_ENDS = (-1.15, 1.6)  # exponents of ten; a weight of 0 is drawn at the left end
DENSITY_TOPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


# ------------------------------------------------------------------------------------ columns


def _domains(n: int, *, right: float = 1.0) -> list[tuple[float, float]]:
    """Shares of the width for `n` plots side by side, up to `right`."""
    width = (right - GAP * (n - 1)) / n
    return [(i * (width + GAP), i * (width + GAP) + width) for i in range(n)]


def _heading(text: str, domain: tuple[float, float]) -> dict[str, Any]:
    return {
        "text": text,
        "align": "left",
        "x": domain[0],
        "xanchor": "left",
        "xref": "paper",
        "y": 1.0,
        "yanchor": "bottom",
        "yref": "paper",
        "showarrow": False,
        "font": {"size": 14},
    }


def _axis(
    title: str, ends: Sequence[int | float], domain: tuple[float, float], **more: Any
) -> dict[str, Any]:
    return {
        **theme.AXIS,
        "title": {"text": title, "standoff": 6},
        "range": tuple(ends),
        "domain": domain,
        **more,
    }


def _columns(
    result: TrimodalResult,
    title: str,
    ends: Sequence[int | float],
    *,
    first: int = 0,
    right: float = 1.0,
    anchor: str = "y",
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Axes of one column per run, and their headings; axes count from `first`."""
    layout, headings = {}, []
    for column, (run, domain) in enumerate(
        zip(result.runs, _domains(len(result.runs), right=right), strict=True), start=first
    ):
        name = theme.x_axis(column).replace("x", "xaxis")
        layout[name] = _axis(title, ends, domain, anchor=anchor)
        headings.append(_heading(ESTIMATOR_NAMES[run.estimator], domain))
    return layout, headings


def _line(x: Any, y: Any, name: str, line: dict[str, Any], **more: Any) -> dict[str, Any]:
    kind = {"type": "scatter", "mode": "lines", "name": name, "hoverinfo": "skip"}
    return {**kind, "x": _short(x), "y": _short(y), "line": line, **more}


@np.errstate(under="ignore")  # whatever a notebook has set
def _short(numbers: Any) -> np.ndarray:
    return np.asarray(numbers, dtype=np.float32)


# ------------------------------------------------------------------------------------ through time


def flow_figure(result: TrimodalResult) -> theme.Figure:
    """Particles from noise to action beside the critic.

    Paths and marks are shapes: plotly makes an element of the page for every particle of a
    trace, and one for all of them here.
    """
    layout, headings = _columns(result, TIME, (0, 1), first=1, right=1 - CRITIC_SHARE - 0.03)
    side = (1 - CRITIC_SHARE, 1.0)
    headings.append(_heading("critic<br>and data", side))
    looked = result.frame_times[result.frame]
    traces, shapes = _critic(result), []
    for column, run in enumerate(result.runs, start=1):
        axis = theme.x_axis(column)
        traces.append(_line([np.nan], [np.nan], "", {"width": 1}, xaxis=axis))  # shapes need axes
        shapes += [*_paths(result, run, axis), *_asked(result, run, axis)]
        shapes.append(theme.line(x=looked, axis=axis, colour=theme.GREY))
    return theme.figure(
        traces,
        annotations=headings,
        shapes=shapes,
        margin={"t": 50},
        xaxis=_axis("", (0, 1.2), side, showticklabels=False, anchor="y"),
        yaxis=_axis("position x", result.view, (0.0, 1.0), anchor="x2"),
        **layout,
    )


def velocity_figure(result: TrimodalResult) -> theme.Figure:
    """The guided velocity over time and position."""
    layout, headings = _columns(result, TIME, (0, 1), right=1 - BAR_SHARE)
    axes = [theme.x_axis(column) for column in range(len(result.runs))]
    return theme.figure(
        [_velocity(result, run, axis) for run, axis in zip(result.runs, axes, strict=True)],
        annotations=headings,
        shapes=[
            theme.line(x=result.frame_times[result.frame], axis=axis, colour=theme.GREY)
            for axis in axes
        ],
        y="position x",
        y_range=result.view,
        **layout,
    )


def _paths(result: TrimodalResult, run: Run, axis: str) -> list[dict[str, Any]]:
    """The first particles through time, one shape for each final mode."""
    n_times, n_shown = run.trajectory.shape
    shown = slice(min(N_PATHS, N_POINTS // n_times, n_shown))
    paths, ends = _in_reach(result, run.trajectory[:, shown]), run.final_mode[shown]
    times = result.times.tolist()
    shapes = []
    for mode, colour in ((-1, theme.GREY), *enumerate(MODES)):
        drawn = "".join(_path(times, path) for path in paths[:, ends == mode].T.tolist())
        line = {"color": colour, "width": 1, "dash": "solid" if mode >= 0 else "dot"}
        shapes += _shape(drawn, axis, line, layer="below")
    return shapes


def _asked(result: TrimodalResult, run: Run, axis: str) -> list[dict[str, Any]]:
    """A mark at every point where the critic was asked for some of the particles."""
    asked = _in_reach(result, run.queries[:, :N_ASKED]).tolist()
    marks = "".join(
        _path((time - MARK / 2, time + MARK / 2), (at, at))
        for time, row in zip(run.query_times.tolist(), asked, strict=True)
        for at in row
    )
    return _shape(marks, axis, {"color": CRITIC, "width": 3})


def _in_reach(result: TrimodalResult, positions: np.ndarray) -> np.ndarray:
    """Positions far out of sight brought nearer, which keeps the page's numbers short."""
    low, high = result.view
    return positions.clip(low - FAR, high + FAR)


def _path(times: Sequence[float], positions: Sequence[float]) -> str:
    points = [f"{time:.4g},{at:.3f}" for time, at in zip(times, positions, strict=True)]
    return "M" + "L".join(points)


def _shape(path: str, axis: str, line: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    if not path:
        return []
    return [{"type": "path", "path": path, "xref": axis, "yref": "y", "line": line, **more}]


def _critic(result: TrimodalResult) -> list[dict[str, Any]]:
    """Density, return and critic over the positions, upright, each as a share of its height."""
    at = result.fine[::COARSER]
    density, value, paid = (
        values[::COARSER]
        for values in (result.fine_density, result.fine_critic, result.fine_return)
    )
    low, high = value.min(), value.max()
    scale = max(high - low, 1e-9)
    filled = {"fill": "tozerox", "fillcolor": PARTICLES}
    return [
        _line(density / density.max(), at, "data", {"color": UNGUIDED, "width": 1}, **filled),
        _line((paid - low) / scale, at, "return", {**RETURN, "width": 2}),
        _line((value - low) / scale, at, "critic Q", {**Q_LINE, "width": 2.5}),
    ]


def _velocity(result: TrimodalResult, run: Run, axis: str) -> dict[str, Any]:
    """The guided velocity at every position and time; red moves up, blue moves down."""
    top = TOP_SPEED[result.params.preset]
    step = result.map_times[1] - result.map_times[0] if len(result.map_times) > 1 else 1.0
    return {
        "type": "heatmap",
        "x": _short(result.map_times + step / 2),
        "y": _short(result.map_x),
        "z": _shades(run.velocity, top),
        "zmin": 0,
        "zmax": SHADES,
        "colorscale": theme.SIGNED,
        "showscale": axis == "x",
        "colorbar": {
            "thickness": 12,
            "x": 1 - BAR_SHARE + 0.02,
            "xanchor": "left",
            "tickvals": [0, SHADES / 2, SHADES],
            "ticktext": [f"−{chosen(top)} down", "0", f"+{chosen(top)} up"],
            "title": {"text": "velocity", "side": "top"},
        },
        "xaxis": axis,
        "hoverinfo": "skip",
    }


def _shades(velocity: np.ndarray, top: float) -> np.ndarray:
    """Velocities as shades of one byte each."""
    share = np.clip(velocity / top, -1, 1)
    return np.rint((share + 1) / 2 * SHADES).astype(np.uint8)


# ------------------------------------------------------------------------------------ densities


def density_figure(result: TrimodalResult) -> theme.Figure:
    """All particles at the chosen time, and as actions, over the unguided and the exact density."""
    frame = result.frame
    at, unguided, tilted = result.x, result.density, result.tilted
    if frame == len(result.frame_times) - 1:  # narrow modes ask for a finer grid
        at, unguided, tilted = result.fine, result.fine_density, result.fine_tilted
    layout, headings = _columns(
        result, "position x", [0.75 * end for end in result.view], anchor="y2"
    )
    traces: list[dict[str, Any]] = []
    for column, run in enumerate(result.runs):
        upper = {"xaxis": theme.x_axis(column), "yaxis": "y"}
        lower = upper | {"yaxis": "y2"}
        traces.append(_steps(result.bin_edges, run.marginals[frame], PARTICLES, **upper))
        traces += _exact(at, unguided, tilted, **upper)
        for colour, heights in _by_mode(result, run):
            traces.append(_steps(result.final_edges, heights, colour, **lower))
        traces += _exact(result.fine, result.fine_density, result.fine_tilted, **lower)
    now = [run.marginals[frame] for run in result.runs]
    final = [run.histogram for run in result.runs]
    said = f"density at t = {chosen(result.frame_times[frame])}"
    upper_ends = _heights(now, unguided, tilted)
    lower_ends = _heights(final, result.fine_density, result.fine_tilted)
    return theme.figure(
        traces,
        annotations=headings,
        yaxis=_axis(said, upper_ends, UPPER_HALF, anchor="x"),
        yaxis2=_axis("density of actions", lower_ends, LOWER_HALF, anchor="x"),
        **layout,
    )


def _by_mode(result: TrimodalResult, run: Run) -> list[tuple[str, np.ndarray]]:
    """The histogram of the actions in parts: off every mode, and in each of them."""
    middles = (result.final_edges[:-1] + result.final_edges[1:]) / 2
    offsets = np.abs(middles[:, None] - np.asarray(result.means))
    mode = np.where(offsets.min(1) <= 3 * result.std, offsets.argmin(1), -1)
    return [
        (colour, np.where(mode == number, run.histogram, 0.0))
        for number, colour in ((-1, PARTICLES), *enumerate(MODES))
    ]


def _exact(at: np.ndarray, unguided: np.ndarray, tilted: np.ndarray, **where: Any) -> list[dict]:
    dotted = {"color": UNGUIDED, "width": 2, "dash": "dot"}
    return [
        _line(at, unguided, "unguided, exact", dotted, **where),
        _line(at, tilted, "exact tilt", {"color": EXACT, "width": 2.5}, **where),
    ]


def _heights(
    histograms: list[np.ndarray], unguided: np.ndarray, tilted: np.ndarray
) -> tuple[float, float]:
    """Ends of an axis of densities, which jump seldom; a collapsed sample may leave the plot."""
    exact = float(max(unguided.max(), tilted.max()))
    reached = max(float(histogram.max()) for histogram in histograms)
    tallest = max(exact, min(2 * exact, reached))
    return 0.0, next((top for top in DENSITY_TOPS if top > 1.1 * tallest), 1.1 * tallest)


def _steps(edges: np.ndarray, heights: np.ndarray, colour: str, **where: Any) -> dict[str, Any]:
    """A histogram as one filled outline."""
    outline = np.concatenate(([0.0], np.repeat(heights, 2), [0.0]))
    line = {"color": colour, "width": 0}
    filled = {"fill": "tozeroy", "fillcolor": colour}
    return _line(np.repeat(edges, 2), outline, "particles", line, **filled, **where)


# ------------------------------------------------------------------------------ over the weight


def weight_figure(result: TrimodalResult, sweep: Sweep | None) -> theme.Figure:
    """What the critic says of the actions and what they earn, over the weight if it was swept."""
    layout, _ = _columns(result, "weight w", WEIGHT_ENDS)
    top = max(float(result.fine_critic.max()), float(result.fine_return.max()))
    low = result.bc_return - 0.3 * (top - result.bc_return)
    at = max(result.params.weight, 10 ** WEIGHT_ENDS[0])
    traces: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    headings: list[dict[str, Any]] = []
    for column, (run, drawn) in enumerate(zip(result.runs, layout.values(), strict=True)):
        drawn |= {"type": "log", "dtick": 1}
        axis = {"xaxis": theme.x_axis(column)}
        if sweep is not None:
            traces += _swept(sweep, run.estimator, showlegend=column == 0, **axis)
        ends = np.array((run.return_mean, run.critic_mean))
        seen = ends.clip(min=low)
        traces.append(
            {
                "type": "scatter",
                "x": [at, at],
                "y": _short(seen),
                "mode": "lines+markers",
                "line": {"color": theme.VERMILION, "width": 3},
                "marker": {
                    "color": CRITIC,
                    "size": 11,
                    "symbol": [
                        "triangle-down" if end < low else symbol
                        for end, symbol in zip(ends, ("circle-open", "circle"), strict=True)
                    ],
                    "line": {"width": 2, "color": CRITIC},
                },
                "hoverinfo": "skip",
                "showlegend": False,
                **axis,
            }
        )
        shapes += [
            theme.line(y=result.bc_return, axis=axis["xaxis"], colour=UNGUIDED),
            theme.line(y=result.tilt_return, axis=axis["xaxis"], colour=EXACT),
        ]
        if result.stability > 0 and ESTIMATORS[run.estimator].ascends:
            limit = STABILITY_LIMIT * result.params.weight / result.stability
            if np.log10(limit) < WEIGHT_ENDS[1]:
                red = {"colour": theme.VERMILION, "dash": "dash"}
                shapes.append(theme.line(x=limit, axis=axis["xaxis"], **red))
        gap = run.critic_mean - run.return_mean
        said = f"{ESTIMATOR_NAMES[run.estimator]}: exploitation {fixed(gap, sign=True)}"
        headings.append(_heading(said, drawn["domain"]) | {"font": {"size": 13}})
    return theme.figure(
        traces,
        y="mean over the actions",
        y_range=(low, top + 0.05 * (top - low)),
        annotations=headings,
        shapes=shapes,
        margin={"t": 54 if sweep else 34},
        showlegend=sweep is not None,
        legend={"y": 1.09},
        **layout,
    )


def _swept(sweep: Sweep, estimator: str, **where: Any) -> list[dict[str, Any]]:
    curve = next(curve for curve in sweep.curves if curve.estimator == estimator)
    exact = {"color": EXACT, "width": 1.5, "dash": "dash"}
    gap = {"fill": "tonexty", "fillcolor": EXPLOITED}
    return [
        _line(sweep.weights, sweep.by_critic.true_return, "exact tilt", exact, **where),
        _line(sweep.weights, curve.true_return, "return", {**RETURN, "width": 2}, **where),
        _line(sweep.weights, curve.critic, "critic Q", {**Q_LINE, "width": 2.5}, **where, **gap),
    ]
