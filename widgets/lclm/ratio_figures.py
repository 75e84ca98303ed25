"""Plots of committed runs against the tokens of a bead: a line for each arm, bars for the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import theme

Spread = tuple[float, float, float]  # mean, least and greatest over the seeds


@dataclass(frozen=True)
class Curve:
    """One line: how it looks, and its values by ratio."""

    name: str
    colour: str
    dash: str
    values: Mapping[int, Spread]


def against_ratio(
    curves: Sequence[Curve],
    y: str,
    *,
    y_range: tuple[float, float] = (0.0, 1.05),
    ticks: str = ".0%",
) -> theme.Figure:
    """Lines with error bars; a sentence where nothing was measured."""
    traces: list[dict[str, Any]] = []
    for curve in curves:
        spreads = curve.values.values()
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": curve.name,
                "x": list(curve.values),
                "y": [mean for mean, _, _ in spreads],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - mean for mean, _, high in spreads],
                    "arrayminus": [mean - low for mean, low, _ in spreads],
                    "thickness": 1,
                    "width": 3,
                },
                "line": {"color": curve.colour, "dash": curve.dash},
                "marker": {"size": 7},
            }
        )
    if not traces:
        note = {"text": "Nothing was measured yet.", "showarrow": False, "x": 0.5, "y": 0.5}
        return theme.figure([], annotations=[note | {"xref": "paper", "yref": "paper"}])
    ratios = sorted({ratio for curve in curves for ratio in curve.values})
    return theme.figure(
        traces,
        x="tokens per bead",
        y=y,
        xaxis={"type": "log", "tickvals": ratios, "ticktext": [str(r) for r in ratios]},
        y_range=y_range,
        yaxis={"tickformat": ticks},
        showlegend=True,
        legend={"font": {"size": 12}},
    )
