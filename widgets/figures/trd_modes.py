"""One target with two modes as figures: bars and arrows, every divergence's push, one Gaussian."""

import functools
from typing import Any

import numpy as np
import plotly.graph_objects as go

from intuitive.trd.two_modes import TwoModesResult

from .. import theme
from .trd_styles import CONTINUE, DIVERGENCE_NAMES, REPAIR, STUDENT, fade, minus

LEAST_ARROW = 0.04  # pushes below this are smaller than an arrow's head
DENSITY_ENDS, DENSITY_TOP = (-4.0, 12.0), 0.7
GRID = np.linspace(*DENSITY_ENDS, 161)
FIT_DASHES = {"forward_kl": "solid", "reverse_kl": "dash"}


def push_text(push: int | float) -> str:
    """A push with its sign, in three digits or as a power of ten."""
    if abs(push) < 1e-12:
        return "0"
    return minus(f"{push:+.3f}" if abs(push) >= 0.001 else f"{push:+.1e}")


def bars_figure(result: TwoModesResult, divergence: str) -> go.Figure:
    """Teacher's bars, student's bars over them, and the push on every logit as an arrow."""
    places = list(range(len(result.tokens)))
    colours = [REPAIR if place == result.onset_token else CONTINUE for place in places]
    pushes = [-g for g in result.charge(divergence).gradient]
    few = len(places) == 2
    notes = []
    for place, push in zip(places, pushes, strict=True):
        start = result.student[place]
        notes.append(_arrow(place + 0.26, start, start + push))  # beside the bar's middle
        if few or place == result.onset_token:
            tallest = max(result.teacher[place], start, start + push)
            text = f"push {push_text(push)}"
            notes.append(_note(text, x=place, y=tallest + 0.02, yanchor="bottom"))
    return theme.figure(
        [
            {
                "type": "bar",
                "x": places,
                "y": list(result.teacher),
                "width": 0.7,
                "marker": {"color": [fade(c, 0.55) for c in colours]},
                "name": "teacher",
                "showlegend": False,
                "hovertemplate": "teacher %{y:.4f}<extra></extra>",
            },
            {
                "type": "bar",
                "x": places,
                "y": list(result.student),
                "width": 0.35,
                "marker": {"color": "rgba(0,0,0,0)", "line": {"color": STUDENT, "width": 2.5}},
                "name": "student",
                "hovertemplate": "student %{y:.6f}<extra></extra>",
            },
            *(
                {"type": "bar", "x": [None], "y": [None], "name": name, "marker": {"color": colour}}
                for name, colour in (
                    ("teacher: continue", fade(CONTINUE, 0.55)),
                    ("teacher: repair", fade(REPAIR, 0.55)),
                )
            ),
        ],
        y="probability",
        x_range=(-0.6, len(places) - 0.4),
        y_range=(-0.08, 1.12),
        barmode="overlay",
        showlegend=True,
        legend={"y": 1.03, "traceorder": "reversed"},
        margin={"t": 40, "b": 62 if not few else 30},
        annotations=notes,
        xaxis={
            "tickvals": places,
            "ticktext": list(result.tokens),
            "tickangle": 0 if few else -60,
            "zeroline": False,
        },
        yaxis={"tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1]},
    )


def _note(text: str, **where: Any) -> dict[str, Any]:
    return {"text": text, "showarrow": False, "font": {"size": 13}, **where}


def _arrow(x: int | float, start: int | float, end: int | float) -> dict[str, Any]:
    """An upright arrow; one that is too short to draw is kept, unseen, for quick figures."""
    return {
        "visible": abs(end - start) >= LEAST_ARROW,
        "text": "",
        "showarrow": True,
        "axref": "x",
        "ayref": "y",
        "x": x,
        "ax": x,
        "y": end,
        "ay": start,
        "arrowhead": 2,
        "arrowwidth": 3,
        "arrowcolor": STUDENT,
        "xref": "x",
        "yref": "y",
    }


def pushes_figure(result: TwoModesResult, divergence: str) -> go.Figure:
    """The push on the onset's logit under every divergence, the chosen one in full colour."""
    names = list(DIVERGENCE_NAMES)[::-1]
    pushes = [-result.charge(name).gradient[result.onset_token] for name in names]
    notes = []
    for row, (name, push) in enumerate(zip(names, pushes, strict=True)):
        colour = STUDENT if name == divergence else fade(STUDENT, 0.45)
        notes.append(
            _arrow(row, 0.0, push)
            | {"x": push, "ax": 0.0, "y": row, "ay": row, "arrowcolor": colour}
        )
        loss = result.charge(name).loss
        text = f"{push_text(push)}  (loss {minus(f'{loss:.3f}')} nats)"
        notes.append(
            _note(
                f"<b>{text}</b>" if name == divergence else text,
                x=max(push, 0.0) + 0.015,
                y=row,
                xanchor="left",
            )
        )
    labels = [DIVERGENCE_NAMES[name] for name in names]
    labels = [f"<b>{x}</b>" if n == divergence else x for n, x in zip(names, labels, strict=True)]
    return theme.figure(
        [{"type": "scatter", "x": [0.0] * len(names), "y": list(range(len(names))),
          "mode": "markers", "marker": {"color": STUDENT, "size": 6}, "hoverinfo": "skip"}],
        x="push on the logit of WAIT, −∂loss/∂logit",
        x_range=(-0.6, 1.25),
        y_range=(-0.6, len(names) - 0.4),
        annotations=notes,
        margin={"l": 210, "t": 10},
        shapes=[theme.line(x=0, colour=theme.GREY)],
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": labels,
            "zeroline": False,
            "showgrid": False,
        },
        xaxis={"tickvals": [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1]},
    )  # fmt: skip


def gaussian_figure(result: TwoModesResult, divergence: str) -> go.Figure:
    """Two humps, and the one Gaussian that each direction of KL puts in their place."""
    parts = [w * _density(mean, std) for w, mean, std in result.humps]
    traces = [
        {
            "type": "scatter",
            "x": GRID,
            "y": part,
            "mode": "lines",
            "line": {"color": colour, "width": 1},
            "fill": "tozeroy",
            "fillcolor": fade(colour, 0.35),
            "name": name,
            "hoverinfo": "skip",
        }
        for part, colour, name in zip(
            parts, (CONTINUE, REPAIR), ("continue", "repair"), strict=True
        )
    ]
    chosen = "reverse_kl" if "reverse" in divergence else "forward_kl"
    for fit in result.fits:
        line = {"color": STUDENT, "dash": FIT_DASHES[fit.name]}
        traces.append(
            {
                "type": "scatter",
                "x": GRID,
                "y": _density(fit.mean, fit.std),
                "mode": "lines",
                "line": {**line, "width": 4 if fit.name == chosen else 2},
                "name": f"{DIVERGENCE_NAMES[fit.name]} fit",
                "hoverinfo": "skip",
            }
        )
    return theme.figure(
        traces,
        x="a line on which the two moves lie apart",
        y="density",
        x_range=DENSITY_ENDS,
        y_range=(0, DENSITY_TOP),
        xaxis={"zeroline": False},
        showlegend=True,
        margin={"t": 40},
        legend={"y": 1.03},
    )


@functools.lru_cache(maxsize=256)
def _density(mean: float, std: float) -> np.ndarray:
    return np.exp(-0.5 * ((GRID - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
