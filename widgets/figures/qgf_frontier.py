"""Return against distance from the data: the provable front, and each estimator's curve."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.trimodal import Sweep

from .. import theme
from .qgf_styles import ESTIMATOR_STYLES

FARTHEST = 4.0  # nats; what lies farther from the data is left to the table
BELOW = 0.5  # of the possible gain, shown below the return of the data


def _returns(sweep: Sweep) -> tuple[float, float]:
    """Limits of the return's axis: from somewhat below the data's to the best."""
    least, most = float(sweep.by_return.true_return[0]), float(sweep.by_return.true_return[-1])
    return least - BELOW * (most - least), most + 0.06 * (most - least)


def _curve(
    estimator: str, x: np.ndarray, y: np.ndarray, shown: np.ndarray, chosen: str
) -> dict[str, Any]:
    """One estimator's curve, thicker if it is the chosen one."""
    look = ESTIMATOR_STYLES[estimator]
    here = estimator == chosen
    return {
        "type": "scatter",
        "x": [float(v) if s else None for v, s in zip(x, shown, strict=True)],
        "y": y.round(4),
        "mode": "lines+markers",
        "line": look.line(3.5 if here else 1.5),
        "marker": look.marker(9 if here else 6),
        "name": ESTIMATOR_NAMES[estimator],
        "hovertemplate": f"{ESTIMATOR_NAMES[estimator]}: %{{y:.3f}}<extra></extra>",
    }


def front_figure(sweep: Sweep, estimator: str, place: int) -> go.Figure:
    """Return over KL from the data.

    Args:
        sweep: the estimators over the weight.
        estimator: the one looked at.
        place: of the weight looked at, in `sweep.weights`.
    """
    low, high = _returns(sweep)
    front = sweep.by_return
    near = front.kl <= 1.2 * FARTHEST
    kl = [*front.kl[near].round(4).tolist(), FARTHEST]
    best = [*front.true_return[near].round(4).tolist(), float(front.true_return[near][-1])]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "x": [*kl, kl[-1], 0, kl[0]],
            "y": [*best, high, high, best[0]],
            "mode": "lines",
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": "rgba(127,127,127,0.18)",
            "hoverinfo": "skip",
            "name": "impossible",
        },
        {
            "type": "scatter",
            "x": kl,
            "y": best,
            "mode": "lines",
            "line": {"color": theme.GREEN, "width": 3},
            "hoverinfo": "skip",
            "name": "front (tilts)",
        },
    ]
    chosen = next(curve for curve in sweep.curves if curve.estimator == estimator)
    traces += [
        _curve(
            curve.estimator,
            curve.kl_to_bc.round(4),
            curve.true_return,
            curve.kl_to_bc <= FARTHEST,
            estimator,
        )
        for curve in sweep.curves
    ]
    x = [float(sweep.by_critic.kl[place]), float(chosen.kl_to_bc[place])]
    y = [float(sweep.by_critic.true_return[place]), float(chosen.true_return[place])]
    traces.append(
        {
            "type": "scatter",
            "x": x,
            "y": y,
            "mode": "lines+markers",
            "line": {"color": theme.GREY, "width": 1.5, "dash": "dot"},
            "marker": {
                "size": 16,
                "symbol": ["star-open", "circle-open"],
                "color": [theme.GREEN, ESTIMATOR_STYLES[estimator].colour],
                "line": {"width": 2.5},
            },
            "showlegend": False,
            "hoverinfo": "skip",
        }
    )
    return theme.figure(
        traces,
        x="KL from the data (nats)",
        y="mean true return",
        x_range=(0, FARTHEST),
        y_range=(low, high),
        showlegend=True,
        margin={"t": 96},
    )


def weight_figure(sweep: Sweep, estimator: str, place: int) -> go.Figure:
    """Return over the guidance weight, with the exact tilt at the same weight."""
    low, high = _returns(sweep)
    weights = np.array(sweep.weights)
    everywhere = np.ones(len(weights), dtype=bool)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "x": weights,
            "y": sweep.by_critic.true_return.round(4),
            "mode": "lines",
            "line": {"color": theme.GREEN, "width": 3},
            "hoverinfo": "skip",
        }
    ]
    traces += [
        _curve(
            curve.estimator,
            weights,
            np.clip(curve.true_return, 3 * low - 2 * high, None),  # off the plot, but no farther
            everywhere,
            estimator,
        )
        for curve in sweep.curves
    ]
    return theme.figure(
        traces,
        x="guidance weight w",
        y="mean true return",
        x_range=(np.log10(weights[0]) - 0.05, np.log10(weights[-1]) + 0.05),
        y_range=(low, high),
        xaxis={"type": "log", "tickvals": [0.1, 1, 10]},
        margin={"t": 96},
        shapes=[theme.line(x=sweep.weights[place], colour=theme.GREY)],
    )
