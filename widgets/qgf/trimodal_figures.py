"""The swarm in the tabs: the map of velocities, the actions, and the weight.

The exact answer is green, the data grey, and all that concerns the critic golden; modes have the
colours of the hero. An estimator set beside another takes a column of its own in every figure.
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
from .styles import CRITIC, EXACT, MODES, OFF_THE_SCALE, UNGUIDED, distance

PARTICLES = "rgba(127,127,127,0.45)"
EXPLOITED = "rgba(166,124,0,0.22)"

TOP_SPEED = {"A": 8.0, "B": 5.0, "C": 5.0}  # of the colours; faster is drawn as fast as this
SHADES = 254
TIME = "time t: noise → action"
GAP = 0.05
Q_LINE, RETURN = {"color": CRITIC}, {"color": CRITIC, "dash": "dot"}
WEIGHT_ENDS = (-1.15, 1.6)  # exponents of ten; a weight of 0 is drawn at the left end
DENSITY_TOPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


# ------------------------------------------------------------------------------------ columns


def _domains(n: int) -> list[tuple[float, float]]:
    """Shares of the width for `n` plots side by side."""
    width = (1 - GAP * (n - 1)) / n
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
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Axes of one column per run, and their headings."""
    layout, headings = {}, []
    for column, (run, domain) in enumerate(
        zip(result.runs, _domains(len(result.runs)), strict=True)
    ):
        name = theme.x_axis(column).replace("x", "xaxis")
        layout[name] = _axis(title, ends, domain, anchor="y")
        headings.append(_heading(ESTIMATOR_NAMES[run.estimator], domain))
    return layout, headings


def _line(x: Any, y: Any, name: str, line: dict[str, Any], **more: Any) -> dict[str, Any]:
    kind = {"type": "scatter", "mode": "lines", "name": name, "hoverinfo": "skip"}
    return {**kind, "x": _short(x), "y": _short(y), "line": line, **more}


@np.errstate(under="ignore")  # whatever a notebook has set
def _short(numbers: Any) -> np.ndarray:
    return np.asarray(numbers, dtype=np.float32)


# ------------------------------------------------------------------------------------ through time


def velocity_figure(result: TrimodalResult) -> theme.Figure:
    """The guided velocity over time and position."""
    layout, headings = _columns(result, TIME, (0, 1))
    axes = [theme.x_axis(column) for column in range(len(result.runs))]
    top = chosen(TOP_SPEED[result.params.preset])
    for axis, heading in zip(layout.values(), headings, strict=True):
        axis["dtick"] = 0.5
        heading["text"] += f": blue −{top}, red +{top}"
    return theme.figure(
        [_velocity(result, run, axis) for run, axis in zip(result.runs, axes, strict=True)],
        annotations=headings,
        y="position x",
        y_range=result.view,
        **layout,
    )


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
        "showscale": False,
        "xaxis": axis,
        "hoverinfo": "skip",
    }


def _shades(velocity: np.ndarray, top: float) -> np.ndarray:
    """Velocities as shades of one byte each."""
    share = np.clip(velocity / top, -1, 1)
    return np.rint((share + 1) / 2 * SHADES).astype(np.uint8)


# ------------------------------------------------------------------------------------ densities


def density_figure(result: TrimodalResult) -> theme.Figure:
    """The actions as a histogram, over the data and the exact tilt, with their distances."""
    layout, _ = _columns(result, "action", [0.75 * end for end in result.view])
    traces: list[dict[str, Any]] = []
    headings = []
    for run, drawn in zip(result.runs, layout.values(), strict=True):
        where = {"xaxis": theme.x_axis(len(headings)), "yaxis": "y"}
        for colour, heights in _by_mode(result, run):
            traces.append(_steps(result.final_edges, heights, colour, **where))
        traces += _exact(result.fine, result.fine_density, result.fine_tilted, **where)
        kl = distance(run.kl_to_tilt, "nats")
        said = f"{ESTIMATOR_NAMES[run.estimator]}: W1 {distance(run.w1)}, KL to the tilt {kl}"
        if run.outside > 0.99:
            said = f"{ESTIMATOR_NAMES[run.estimator]}: all particles have left the picture"
        headings.append(_heading(said, drawn["domain"]) | {"font": {"size": 12}})
    final = [run.histogram for run in result.runs]
    return theme.figure(
        traces,
        annotations=headings,
        y="density of actions",
        y_range=_heights(final, result.fine_density, result.fine_tilted),
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
            traces += _swept(sweep, run.estimator, low, showlegend=column == 0, **axis)
        ends = np.array((run.return_mean, run.critic_mean))
        seen = ends.clip(min=low)
        traces.append(
            {
                "type": "scatter",
                "x": [at, at],
                "y": _short(seen),
                "mode": "lines+markers",
                "line": {"color": CRITIC, "width": 3},
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
                dashed = {"colour": theme.GREY, "dash": "dash"}
                shapes.append(theme.line(x=limit, axis=axis["xaxis"], **dashed))
        gap = run.critic_mean - run.return_mean
        told = "off every scale" if gap > OFF_THE_SCALE else fixed(gap, sign=True)
        said = f"{ESTIMATOR_NAMES[run.estimator]}: exploitation {told}"
        headings.append(_heading(said, drawn["domain"]) | {"font": {"size": 13}})
    return theme.figure(
        traces,
        y="mean over the actions",
        y_range=(low, top + 0.05 * (top - low)),
        annotations=headings,
        shapes=shapes,
        margin={"t": 54 if sweep else 34, "l": 64},
        showlegend=sweep is not None,
        legend={"y": 1.09},
        **layout,
    )


def _swept(sweep: Sweep, estimator: str, low: float, **where: Any) -> list[dict[str, Any]]:
    """Curves up to the last weight in sight; from the next one on, triangles at the edge."""
    curve = next(curve for curve in sweep.curves if curve.estimator == estimator)
    exact = {"color": EXACT, "width": 1.5, "dash": "dash"}
    gap = {"fill": "tonexty", "fillcolor": EXPLOITED}
    weights = np.array(sweep.weights)
    lost = curve.true_return < low
    paid, read = (np.where(lost, np.nan, values) for values in (curve.true_return, curve.critic))
    edge = {
        "type": "scatter",
        "mode": "markers",
        "x": weights[lost],
        "y": np.full(int(lost.sum()), low),
        "marker": {"symbol": "triangle-down", "size": 9, "color": CRITIC},
        "hovertemplate": "out of sight: the particles run away<extra></extra>",
        **where,
        "showlegend": False,
    }
    return [
        _line(weights, sweep.by_critic.true_return, "exact tilt", exact, **where),
        _line(weights, paid, "return", {**RETURN, "width": 2}, **where),
        _line(weights, read, "critic Q", {**Q_LINE, "width": 2.5}, **where, **gap),
        edge,
    ]
