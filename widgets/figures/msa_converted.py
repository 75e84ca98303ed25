"""The conversion of SmolLM2 as figures: cost against budget, and mass by layer."""

import math

import plotly.graph_objects as go

from intuitive.msa.converted import PERPLEXITIES, Converted

from .. import theme

STYLES = {  # one selector, one colour, one dash, one marker
    "oracle": (theme.GREY, "solid", "circle"),
    "trained_index": (theme.BLUE, "solid", "square"),
    "main_max": (theme.GREEN, "dash", "diamond"),
    "main_mean": (theme.PURPLE, "dashdot", "cross"),
    "block_mean_keys": ("#8A5A78", "dot", "x"),
    "window_sink": (theme.VERMILION, "dash", "triangle-up"),
}
MEASURE_NAMES = {
    "perplexity": "perplexity, all texts",
    "perplexity_prose": "perplexity, prose",
    "perplexity_code": "perplexity, code",
    "returning_passage": "perplexity of a passage read before",
    "mass_captured": "attention mass captured",
    "block_recall": "block recall",
    "group_overlap": "blocks shared between groups",
}
MAPPED = ("oracle", "trained_index", "main_max", "window_sink")  # drawn by layer


def curves_figure(found: Converted, names: dict[str, str]) -> go.Figure:
    """One measure against the blocks read, for every selector."""
    perplexity = found.params.measure in PERPLEXITIES
    traces, budgets = [], sorted({p.n_selected for curve in found.curves.values() for p in curve})
    for name, points in found.curves.items():
        colour, dash, symbol = STYLES[name]
        means = [point.mean for point in points]
        spread = any(len(point.by_seed) > 1 for point in points)
        traces.append(
            {
                "type": "scatter",
                "x": [point.n_selected for point in points],
                "y": means,
                "mode": "lines+markers",
                "name": names[name],
                "line": {"color": colour, "dash": dash, "width": 2},
                "marker": {"symbol": symbol, "size": 8},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [max(point.by_seed) - point.mean for point in points],
                    "arrayminus": [point.mean - min(point.by_seed) for point in points],
                    "visible": spread,
                },
            }
        )
    values = [point.mean for curve in found.curves.values() for point in curve]
    shapes = [theme.line(x=found.params.n_selected, colour=theme.PURPLE)]
    if perplexity:
        low = found.dense if found.dense is not None else min(values)
        limits = (math.log10(low) - 0.03, math.log10(max(values)) + 0.05)
        shapes.append(theme.line(y=low, colour=theme.GREY, dash="solid"))
    else:
        limits = (0.0, 1.05)
    return theme.figure(
        traces,
        xaxis={
            "type": "log",
            "title": {"text": f"blocks of {found.block_size} tokens that may be read, k"},
            "tickvals": budgets,
            "range": (math.log10(budgets[0]) - 0.1, math.log10(budgets[-1]) + 0.1),
        },
        yaxis={
            "type": "log" if perplexity else "linear",
            "title": {"text": MEASURE_NAMES[found.params.measure]},
            "range": limits,
            **({"dtick": "D2"} if perplexity else {}),
        },
        showlegend=True,
        margin={"t": 76},
        shapes=shapes,
    )


def layers_figure(found: Converted, names: dict[str, str]) -> go.Figure:
    """Attention mass captured in every layer at the chosen budget."""
    traces = []
    for name in MAPPED:
        colour, dash, _ = STYLES[name]
        mass = found.mass_by_layer[name]
        traces.append(
            {
                "type": "scatter",
                "x": list(range(len(mass))),
                "y": list(mass),
                "mode": "lines",
                "name": names[name],
                "line": {"color": colour, "dash": dash, "width": 2},
            }
        )
    return theme.figure(
        traces,
        x="layer",
        y=f"mass captured, k = {found.params.n_selected}",
        x_range=(0, len(found.mass_by_layer["oracle"]) - 1),
        y_range=(0.0, 1.02),
        showlegend=True,
        margin={"t": 76},
    )
