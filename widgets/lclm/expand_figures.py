"""Plots of the trace stepper's committed run: which chunk, and what it says, over many texts."""

from collections.abc import Callable, Mapping

from intuitive.lclm.experiments import expand as experiment
from intuitive.lclm.experiments.expand import Asked

from .. import theme
from .ratio_figures import Curve, Spread, against_ratio

GOLD = "#B58100"
WHERE = {
    "model": ("the model", theme.PURPLE, "solid"),
    "search": ("word search", theme.GREY, "solid"),
    "shuffled": ("latents shuffled", theme.VERMILION, "dot"),
    "chance": ("chance", theme.GREY, "dash"),
}
VALUE = {
    "oracle": ("the right chunk", theme.GREEN, "dash"),
    "own": ("what it named", GOLD, "solid"),
    "lexical": ("what search named", theme.GREY, "solid"),
    "random": ("any chunk", theme.VERMILION, "dot"),
    "alone": ("nothing", theme.BLUE, "solid"),
}


def where_figure() -> theme.Figure:
    """Share of the questions in which the right chunk was named, against the ratio."""
    return _against_ratio(lambda one: one.where, WHERE, "right chunk named")


def value_figure() -> theme.Figure:
    """Share of the questions whose whole answer was right, against the ratio."""
    return _against_ratio(lambda one: one.value, VALUE, "whole answer right")


def paper_figure() -> theme.Figure:
    """The paper's right answers at 16 tokens per latent, alone and with EXPAND."""
    colours = (theme.GREY, theme.BLUE, theme.PURPLE)
    traces = []
    for (task, rows), colour in zip(experiment.PRINTED.items(), colours, strict=True):
        for place, (how, dash) in enumerate((("alone", "dot"), ("with EXPAND", "solid"))):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": f"{task}, {how}",
                    "x": list(rows),
                    "y": [shares[place] / 100 for shares in rows.values()],
                    "line": {"color": colour, "dash": dash},
                }
            )
    lengths = list(next(iter(experiment.PRINTED.values())))
    ticks = {"tickvals": lengths, "ticktext": [f"{n // 1024}K" for n in lengths]}
    return theme.figure(
        traces,
        x="tokens of the text",
        y="right answers",
        xaxis={"type": "log", **ticks},
        y_range=(0, 1.03),
        yaxis={"tickformat": ".0%"},
        showlegend=True,
        legend={"font": {"size": 11}},
    )


def _against_ratio(
    shares: Callable[[Asked], Mapping[str, Spread]],
    styles: Mapping[str, tuple[str, str, str]],
    y: str,
) -> theme.Figure:
    found = experiment.asked()
    curves = [
        Curve(*look, {one.ratio: shares(one)[name] for one in found if name in shares(one)})
        for name, look in styles.items()
    ]
    return against_ratio([curve for curve in curves if curve.values], y)
