"""Plots in the tabs of "What stays on the GPU": every length, and what was measured."""

import itertools
import math

from intuitive.lsa.experiments import memory as experiment
from intuitive.lsa.experiments.live_memory import LiveMemory
from intuitive.lsa.experiments.memory import GIB, PRINTED, MemoryParams, MemoryResult

from .. import theme
from . import styles
from .memory_scene import tokens_text

EVERYTHING, LSA = (styles.ARM_COLOURS[arm][1] for arm in ("everything", "lsa"))
GIBS = (0.05, 0.1, 0.2, 0.5, 1, 2, 4)
NAME_GAP = 0.26  # decades between the names of two lines
MEASURED = {
    "everything": ("everything", EVERYTHING, "circle"),
    "lsa_sync": ("LSA, waits", LSA, "square"),
    "lsa_overlapped": ("LSA, overlapped", LSA, "diamond"),
    "reactive": ("on demand", styles.ARM_COLOURS["reactive"][1], "cross"),
}


def lengths_figure(result: MemoryResult) -> theme.Figure:
    """GiB against context, with the figures that the paper prints."""
    contexts = [held.context for held in result.at]
    lines = {
        "everything resident": ([h.all_bytes / GIB for h in result.at], EVERYTHING, "solid"),
        "LSA": ([h.lsa_bytes / GIB for h in result.at], LSA, "solid"),
        "its floor": ([h.floor / GIB for h in result.at], LSA, "dash"),
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
            }
        )
    for upper, lower in itertools.pairwise(notes):  # from the top down, a line's height apart
        lower["y"] = min(lower["y"], upper["y"] - NAME_GAP)
    for place, (name, colour) in enumerate((("baseline", EVERYTHING), ("LSA", LSA)), 1):
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
        x_range=(math.log10(contexts[0]) - 0.03, math.log10(contexts[-1]) + 0.45),
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
    for name, colour in (("all_bytes", EVERYTHING), ("lsa_bytes", LSA)):
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
    traces += _marks(found, lambda row: row.resident_bytes / GIB)
    return _against_context(traces, "GiB on the GPU", log=True)


def speed_figure() -> theme.Figure:
    """Decode steps of the attention per second, by arm."""
    found = experiment.measured()
    if found is None:
        return _nothing()
    traces = _marks(found, lambda row: row.steps_per_s)
    rows = found.rows["everything"]
    anew = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "everything, launched anew",
        "x": [row.context for row in rows],
        "y": [row.eager_steps_per_s for row in rows],
        "line": {"color": EVERYTHING, "dash": "dot"},
        "marker": {"size": 8, "symbol": "circle-open"},
    }
    for trace in traces:
        if trace["name"] == MEASURED["reactive"][0]:
            trace["name"] += ", launched anew"
    return _against_context([*traces, anew], "decode steps per second")


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


LIVE = {  # from the foot up
    "index_keys": ("index keys", theme.PURPLE),
    "hca": ("HCA entries", styles.GOLD),
    "window": ("newest tokens", styles.SKY),
    "tables": ("tables", theme.GREY),
    "cells": ("cells", styles.RESIDENT),
}


def live_figure(live: LiveMemory | None) -> theme.Figure:
    """Kilobytes by category over the tokens decoded so far, and the cells in use."""
    if live is None:
        return _nothing("Press “Decode here”, under More controls.")
    traces: list[dict] = [
        {
            "type": "scatter",
            "mode": "lines",
            "stackgroup": "held",
            "name": name,
            "x": live.steps,
            "y": [size / 1e3 for size in live.bytes[part]],
            "line": {"color": colour, "width": 0.5},
        }
        for part, (name, colour) in LIVE.items()
    ]
    rest = [live.total(i) - size for i, size in enumerate(live.bytes["cells"])]
    lines = {"cells in use": [sum(pair) for pair in zip(rest, live.in_use, strict=True)]}
    if live.allocated:
        lines["the allocator's count"] = list(live.allocated)
    looks = ((theme.GREEN, "dot"), (theme.VERMILION, "dash"))
    for (name, heights), (colour, dash) in zip(lines.items(), looks, strict=False):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": live.steps,
                "y": [size / 1e3 for size in heights],
                "line": {"color": colour, "dash": dash, "width": 2.5},
            }
        )
    top = max(live.everything, *live.allocated, live.total(-1)) / 1e3
    return theme.figure(
        traces,
        x="tokens decoded",
        y="kB on the device",
        x_range=(0, live.n_steps),
        y_range=(0, 1.08 * top),
        shapes=[theme.line(y=live.everything / 1e3, colour=EVERYTHING)],
        annotations=[
            {
                "text": "everything resident",
                "x": 0,
                "xanchor": "left",
                "y": live.everything / 1e3,
                "yanchor": "top",
                "showarrow": False,
            }
        ],
        title={
            "text": live_words(live).replace(" (", "<br>("),
            "x": 0,
            "xref": "paper",
            "y": 0.97,
            "font": {"size": 14},
        },
        showlegend=True,
        legend={"font": {"size": 12}},
        margin={"t": 76},
    )


def live_words(live: LiveMemory) -> str:
    """What is held where, in one sentence."""
    total, host = (f"{size / 1e3:.0f} kB" for size in (live.total(-1), live.host))
    if not live.on_gpu:
        return f"No GPU here: both pools are host memory. A GPU would hold {total}, the CPU {host}"
    own, reserved = f"{live.allocated[-1] / 1e3:.0f} kB", f"{live.reserved[-1] / 1e6:.0f} MB"
    return (
        f"{live.device} holds {total} (its allocator says {own}, and that it has reserved "
        f"{reserved} for all of this process), the CPU {host}"
    )


def _nothing(text: str = "Nothing was measured yet.") -> theme.Figure:
    note = {"text": text, "showarrow": False, "xref": "paper", "x": 0.5}
    hidden = {"visible": False}
    note |= {"yref": "paper", "y": 0.5}
    return theme.figure([], annotations=[note], xaxis=hidden, yaxis=hidden)
