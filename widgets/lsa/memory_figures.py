"""Plots in the tabs of "What stays on the GPU": every length, and what was measured."""

import itertools
import math

from intuitive.lsa.experiments import memory as experiment
from intuitive.lsa.experiments.memory import GIB, PRINTED, MemoryParams, MemoryResult

from .. import theme
from .memory_scene import tokens_text

GIBS = (0.05, 0.1, 0.2, 0.5, 1, 2, 4)
NAME_GAP = 0.26  # decades between the names of two lines
MEASURED = {
    "everything": ("everything", theme.BLUE, "circle"),
    "lsa_sync": ("LSA, waits", theme.GREEN, "square"),
    "lsa_overlapped": ("LSA, overlapped", theme.GREEN, "diamond"),
    "reactive": ("on demand", "#B58100", "cross"),
}


def lengths_figure(result: MemoryResult) -> theme.Figure:
    """GiB against context, with the figures that the paper prints."""
    contexts = [held.context for held in result.at]
    lines = {
        "everything resident": ([h.all_bytes / GIB for h in result.at], theme.BLUE, "solid"),
        "LSA": ([h.lsa_bytes / GIB for h in result.at], theme.GREEN, "solid"),
        "its floor": ([h.floor / GIB for h in result.at], theme.PURPLE, "dash"),
    }
    traces, notes = [], []
    for name, (heights, colour, dash) in lines.items():
        if not any(heights):
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": contexts,
                "y": heights,
                "line": {"color": colour, "dash": dash},
            }
        )
        notes.append(
            {
                "text": name,
                "x": math.log10(contexts[-1]),
                "y": math.log10(heights[-1]),
                "xanchor": "left",
                "xshift": 6,
                "showarrow": False,
                "font": {"color": colour},
            }
        )
    for upper, lower in itertools.pairwise(notes):  # from the top down, a line's height apart
        lower["y"] = min(lower["y"], upper["y"] - NAME_GAP)
    for place, (name, colour) in enumerate((("baseline", theme.BLUE), ("LSA", theme.GREEN)), 1):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"the paper's {name}",
                "x": [row[0] for row in PRINTED],
                "y": [row[place] for row in PRINTED],
                "marker": {"color": colour, "symbol": "diamond-open", "size": 9},
            }
        )
    ticks = {"tickvals": contexts, "ticktext": [tokens_text(c) for c in contexts]}
    return theme.figure(
        traces,
        x="tokens of context",
        y="GiB on the GPU",
        x_range=(math.log10(contexts[0]) - 0.03, math.log10(contexts[-1]) + 0.35),
        y_range=(-2.5, 0.8),
        xaxis={"type": "log", **ticks},
        yaxis={"type": "log", "tickvals": [0.01, 0.1, 1], "ticktext": ["0.01", "0.1", "1"]},
        annotations=notes,
    )


def used_figure() -> theme.Figure:
    """GiB that were in use on the GPU by arm, beside the byte model."""
    found, model = experiment.measured(), experiment.run(MemoryParams())
    if found is None:
        return _nothing()
    traces = []
    for name, colour in (("all_bytes", theme.BLUE), ("lsa_bytes", theme.GREEN)):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "",
                "showlegend": False,
                "x": [held.context for held in model.at],
                "y": [getattr(held, name) / GIB for held in model.at],
                "line": {"color": colour, "width": 1, "dash": "dot"},
            }
        )
    traces += _marks(found, lambda row: row.held / GIB)
    return _against_context(traces, "GiB on the GPU", log=True)


def speed_figure() -> theme.Figure:
    """Decode steps of the attention per second, by arm."""
    found = experiment.measured()
    if found is None:
        return _nothing()
    return _against_context(_marks(found, lambda row: row.steps_per_s), "decode steps per second")


def _marks(found: experiment.Measured, value) -> list[dict]:
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": MEASURED[arm][0],
            "x": [row.context for row in rows],
            "y": [value(row) for row in rows],
            "line": {"color": MEASURED[arm][1], "dash": "solid" if arm != "lsa_sync" else "dash"},
            "marker": {"size": 8, "symbol": MEASURED[arm][2]},
        }
        for arm, rows in found.rows.items()
        if arm in MEASURED
    ]


def _against_context(traces: list[dict], y: str, *, log: bool = False) -> theme.Figure:
    contexts = sorted({c for trace in traces for c in trace["x"]})
    ticks = {"tickvals": contexts, "ticktext": [tokens_text(c) for c in contexts]}
    return theme.figure(
        traces,
        x="tokens of context",
        y=y,
        xaxis={"type": "log", **ticks},
        yaxis=(
            {"type": "log", "tickvals": GIBS, "ticktext": [f"{gib:g}" for gib in GIBS]}
            if log
            else {"rangemode": "tozero"}
        ),
        showlegend=True,
        legend={"font": {"size": 12}},
    )


def _nothing() -> theme.Figure:
    note = {"text": "Nothing was measured yet.", "showarrow": False, "xref": "paper", "x": 0.5}
    return theme.figure([], annotations=[note | {"yref": "paper", "y": 0.5}])
