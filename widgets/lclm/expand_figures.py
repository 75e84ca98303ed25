"""Plots of the trace stepper's committed run: which chunk, and what it says, over many texts."""

from collections.abc import Callable, Mapping
from typing import Any

from intuitive.lclm.experiments import expand as experiment
from intuitive.lclm.experiments.expand import Asked

from .. import theme

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
    shares: Callable[[Asked], Mapping[str, tuple[float, float, float]]],
    styles: Mapping[str, tuple[str, str, str]],
    y: str,
) -> theme.Figure:
    found = experiment.asked()
    traces: list[dict[str, Any]] = []
    for name, (title, colour, dash) in styles.items():
        mine = [(one.ratio, *shares(one)[name]) for one in found if name in shares(one)]
        if not mine:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": title,
                "x": [ratio for ratio, *_ in mine],
                "y": [mean for _, mean, _, _ in mine],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - mean for _, mean, _, high in mine],
                    "arrayminus": [mean - low for _, mean, low, _ in mine],
                    "thickness": 1,
                    "width": 3,
                },
                "line": {"color": colour, "dash": dash},
                "marker": {"size": 7},
            }
        )
    if not traces:
        note = {"text": "Nothing was measured yet.", "showarrow": False, "x": 0.5, "y": 0.5}
        return theme.figure([], annotations=[note | {"xref": "paper", "yref": "paper"}])
    ratios = [one.ratio for one in found]
    return theme.figure(
        traces,
        x="tokens per latent",
        y=y,
        xaxis={"type": "log", "tickvals": ratios, "ticktext": [str(r) for r in ratios]},
        y_range=(0, 1.05),
        yaxis={"tickformat": ".0%"},
        showlegend=True,
        legend={"font": {"size": 12}},
    )
