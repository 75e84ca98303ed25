"""The tabs of "A dense model made sparse": layers, training, index size, the model adapted."""

import math

from intuitive.msa.experiments.conversion import EARLIER, ConversionResult

from .. import theme
from ..kit import fixed, number, percent
from . import styles
from .conversion_scene import NAMES

STYLES = {  # of the selectors drawn by layer: colour and dash
    "oracle": (theme.GREY, "solid"),
    "trained_index": (theme.BLUE, "solid"),
    EARLIER: (theme.BLUE, "dot"),
    "main_max": (theme.VERMILION, "dash"),
    "window_sink": (theme.GREEN, "dash"),
}
SIZE_MEASURES = {  # of the curve of index bytes: name, colour, dash
    "returning_passage": ("returning passage", theme.BLUE, "solid"),
    "perplexity": ("all texts", theme.GREY, "dash"),
}
ARMS = {  # name, colour, dash
    "frozen": ("model frozen, index trained on", theme.BLUE, "solid"),
    "adapted": ("model adapted", theme.VERMILION, "solid"),
    "dense": ("trained, no index", theme.GREY, "dash"),
}


def _curve(x: list, y: list, name: str, colour: str, dash: str, **more) -> dict:
    line = {"color": colour, "dash": dash, "width": 2}
    return {"type": "scatter", "x": x, "y": y, "name": name, "line": line, "mode": "lines", **more}


def _name(text: str, x: int | float | str, y: int | float, colour: str, **where) -> dict:
    """A name beside a point; places on a logarithmic axis as exponents of ten."""
    font = {"color": colour, "size": 13}
    return {"text": text, "x": x, "y": y, "showarrow": False, "font": font, **where}


def layers_figure(found: ConversionResult) -> theme.Figure:
    """Attention mass captured in every layer at the chosen budget."""
    traces, ends, colours = [], {}, {}
    for name, (colour, dash) in STYLES.items():
        mass, title = found.mass_by_layer[name], NAMES[name]
        ends[title], colours[title] = mass[-1], colour
        traces.append(_curve(list(range(len(mass))), list(mass), title, colour, dash))
    return theme.figure(
        traces,
        x="layer",
        y=f"mass, k = {found.params.n_selected}, {found.mass_context:,} tokens",
        x_range=(0, len(found.mass_by_layer["oracle"]) - 1),
        y_range=(0.0, 1.02),
        margin={"r": 150},
        annotations=styles.end_names(ends, colours, gap=0.08, low=0.0, high=1.0),
    )


def learning_figure(found: ConversionResult) -> theme.Figure:
    """The KL of the trained index and of the earlier one against the steps, both logarithmic."""
    traces, names = [], []
    for name, learning in found.learning.items():
        colour, dash = STYLES[name]
        x, y = list(learning.steps), list(learning.kl)
        marked = {"mode": "lines+markers", "marker": {"size": 5, "color": colour}}
        few = marked if len(x) < 100 else {}  # what was kept of many steps
        traces.append(_curve(x, y, NAMES[name], colour, dash, **few))
        names.append((NAMES[name], x[-1], y[-1], colour))
    return theme.figure(
        traces,
        x="step",
        y="KL, nats, mean of all layers",
        xaxis={"type": "log", "dtick": 1},
        yaxis={"type": "log", "tickvals": [0.05, 0.1, 0.2, 0.5, 1, 2, 5]},
        margin={"r": 130},
        annotations=[
            _name(text, math.log10(x), math.log10(y), colour, xanchor="left", xshift=6)
            for text, x, y, colour in names
        ],
    )


def sizes_figure(found: ConversionResult) -> theme.Figure:
    """Perplexity against the bytes of an index key, at the chosen budget."""
    k = found.params.n_selected
    rows = [row for row in found.sizes if row.n_selected == k]
    widths = sorted({row.d_index for row in rows})
    traces, names = [], []
    for measure, (name, colour, dash) in SIZE_MEASURES.items():
        means = []
        for width in widths:
            values = [getattr(row, measure) for row in rows if row.d_index == width]
            known = [value for value in values if value is not None]
            means.append(sum(known) / len(known) if known else None)
        texts = [number(mean) if mean else "" for mean in means]
        about = {"mode": "lines+markers+text", "text": texts, "textposition": "top center"}
        about |= {"marker": {"size": 9, "color": colour}, "textfont": {"color": colour, "size": 13}}
        x = [2 * width for width in widths]
        traces.append(_curve(x, means, name, colour, dash, cliponaxis=False, **about))
        at = math.log10(x[0]), math.log10(means[0])
        below = -13 if measure == "perplexity" else 6
        names.append(_name(name, *at, colour, xanchor="left", xshift=20, yshift=below))
    ticks = [2 * width for width in widths]
    shares = [f"{b} B, {percent(b / found.kv_bytes)}" for b in ticks]
    return theme.figure(
        traces,
        x="index key of a token and layer",
        y=f"perplexity, k = {k}",
        xaxis={
            "type": "log",
            "tickvals": ticks,
            "ticktext": shares,
            "range": [math.log10(ticks[0] / 1.4), math.log10(ticks[-1] * 1.4)],
        },
        yaxis={"type": "log", "tickvals": [1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30]},
        margin={"r": 24, "t": 44},
        annotations=names,
    )


def adapted_figure(found: ConversionResult) -> theme.Figure:
    """Perplexity of the model frozen and trained on, read densely and with few blocks."""
    passage = found.params.measure == "returning_passage"
    measure = "returning_passage" if passage else "perplexity"
    rows = [row for row in found.adapted if row.measure == measure]
    traces, names = [], []
    for arm, (name, colour, dash) in ARMS.items():
        means = {}
        for budget in (None, 8, 4):
            values = [row.all for row in rows if (row.arm, row.n_selected) == (arm, budget)]
            if values:
                read = "all blocks" if budget is None else f"k = {budget}"
                means[read] = sum(values) / len(values)
        if not means:
            continue
        x, y = list(means), list(means.values())
        about = {"mode": "lines+markers+text", "text": [fixed(value) for value in y]}
        about |= {"textposition": "bottom center" if arm == "dense" else "top center"}
        about |= {"textfont": {"color": colour, "size": 13}}
        about |= {"marker": {"size": 9, "color": colour}, "cliponaxis": False}
        traces.append(_curve(x, y, name, colour, dash, **about))
        where = {"xanchor": "left", "xshift": 24, "yshift": 13 if arm == "adapted" else -12}
        names.append(_name(name, x[0], y[0], colour, **where))
    low, high = min(min(t["y"]) for t in traces), max(max(t["y"]) for t in traces)
    margin = 0.2 * (high - low)
    return theme.figure(
        traces,
        x="read, of 64 blocks",
        y="perplexity, returning passage" if passage else "perplexity, all texts",
        xaxis={"type": "category", "categoryarray": ["all blocks", "k = 8", "k = 4"]},
        y_range=(low - margin, high + margin),
        margin={"r": 36},
        annotations=names,
    )
