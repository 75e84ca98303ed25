"""SmolLM2 on right and wrong solutions: by token, by distance from the error, by prompt."""

import plotly.graph_objects as go

from intuitive.trd.real_text import KeptItem, RealText, Trajectory

from .. import theme
from .trd_styles import CONTINUE, REPAIR

LOOKS = {  # a right solution and a wrong one
    "right": (REPAIR, "solid", "circle"),
    "wrong": (CONTINUE, "dash", "square"),
}
MEASURES = {  # of `Trajectory`: what it is called, and whether its axis is logarithmic
    "onset_mass": ("mass on repair words", True),
    "nll": ("surprise, nats", False),
    "entropy": ("entropy, nats", False),
}
FLOOR = 1e-8  # smaller masses are drawn here


def along_figure(kept: KeptItem, measure: str) -> go.Figure:
    """A measure at every token of the right and of the wrong solution; the error's line marked."""
    label, logarithmic = MEASURES[measure]
    traces = []
    for name in ("right", "wrong"):
        trajectory: Trajectory = getattr(kept, name)
        colour, dash, symbol = LOOKS[name]
        values = getattr(trajectory, measure)
        traces.append(
            {
                "type": "scatter",
                "x": list(range(len(values))),
                "y": [max(value, FLOOR) for value in values] if logarithmic else list(values),
                "mode": "lines+markers",
                "line": {"color": colour, "dash": dash, "width": 2},
                "marker": {"color": colour, "symbol": symbol, "size": 7},
                "name": f"{name} solution",
                "text": list(trajectory.tokens),
                "hovertemplate": "%{text}: %{y:.3g}<extra></extra>",
            }
        )
    wrong = kept.wrong
    starts = [at for at, first in enumerate(wrong.first) if first]
    shapes = [theme.line(x=at - 0.5, colour=theme.GREY) for at in starts]
    inside = [at for at, line in enumerate(wrong.lines) if line == kept.item.error_line]
    shapes.append(
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": inside[0] - 0.5,
            "x1": inside[-1] + 0.5,
            "y0": 0,
            "y1": 1,
            "fillcolor": CONTINUE,
            "opacity": 0.15,
            "line": {"width": 0},
        }
    )
    longest = max(len(kept.right.tokens), len(wrong.tokens))
    if logarithmic:
        y = {
            "y_range": (-8.2, 0.1),
            "yaxis": {"type": "log", "dtick": 2, "exponentformat": "power"},
        }
    else:
        most = max(max(getattr(getattr(kept, name), measure)) for name in LOOKS)
        y = {"y_range": (-0.2, next((t for t in (2, 5, 10, 15, 20) if t > most), most) * 1.03)}
    return theme.figure(
        traces,
        x="token of the solution",
        y=label,
        x_range=(-1, longest),
        xaxis={"zeroline": False},
        shapes=shapes,
        showlegend=True,
        margin={"l": 76},
        **y,
    )


def delay_figure(found: RealText, kind: str) -> go.Figure:
    """Mass on repair words where a line begins, by lines since the error, with intervals."""
    traces, delays = [], []
    for shift, (name, (colour, dash, symbol)) in zip((-0.06, 0.06), LOOKS.items(), strict=True):
        by_delay = found.onset_by_delay[kind][name]
        delays = sorted(map(int, by_delay))
        ends = [by_delay[str(delay)] for delay in delays]
        traces.append(
            {
                "type": "scatter",
                "x": [delay + shift for delay in delays],
                "y": [end.mean for end in ends],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [end.high - end.mean for end in ends],
                    "arrayminus": [end.mean - end.low for end in ends],
                    "color": colour,
                },
                "mode": "lines+markers",
                "line": {"color": colour, "dash": dash, "width": 2},
                "marker": {"color": colour, "symbol": symbol, "size": 9},
                "name": f"{name} solution",
                "hovertemplate": "%{y:.2e}<extra></extra>",
            }
        )
    return theme.figure(
        traces,
        x="lines since the error",
        y="mass on repair words",
        x_range=(-1.4, max(delays) + 0.4),
        xaxis={
            "tickvals": delays,
            "ticktext": ["before" if delay < 0 else f"{delay}" for delay in delays],
            "zeroline": False,
        },
        yaxis={"rangemode": "tozero", "exponentformat": "power", "nticks": 6},
        margin={"l": 70},
        showlegend=True,
    )


def prompts_figure(found: RealText) -> go.Figure:
    """Surprise per token by the right and the wrong solution under either prompt."""
    contexts = {"plain": "the problem alone", "refine": "and the attempt to rewrite"}
    traces = []
    for name, (colour, _, symbol) in LOOKS.items():
        ends = [found.surprise[f"{name}|{context}"] for context in contexts]
        traces.append(
            {
                "type": "scatter",
                "x": [place + (-0.06 if name == "right" else 0.06) for place in range(2)],
                "y": [end.mean for end in ends],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [end.high - end.mean for end in ends],
                    "arrayminus": [end.mean - end.low for end in ends],
                    "color": colour,
                    "thickness": 2.5,
                    "width": 6,
                },
                "mode": "markers",
                "marker": {"color": colour, "symbol": symbol, "size": 12},
                "name": f"{name} solution",
                "hovertemplate": "%{y:.3f} nats<extra></extra>",
            }
        )
    return theme.figure(
        traces,
        x="what the model sees before it",
        y="surprise, nats per token",
        x_range=(-0.5, 1.5),
        xaxis={"tickvals": [0, 1], "ticktext": list(contexts.values()), "zeroline": False},
        yaxis={"rangemode": "tozero"},
        showlegend=True,
    )
