"""Plots in the tabs of the cost meter: every length, and what was measured."""

import math
from collections.abc import Sequence
from typing import Any

from intuitive.lclm.experiments.cost import CostResult

from .. import theme
from .cost_lanes import tokens_text

Number = int | float

LINES = {
    "raw": ("raw text", theme.GREY, "solid"),
    "eviction": ("eviction", theme.VERMILION, "dot"),
    "latents": ("latents", theme.BLUE, "solid"),
}
METHODS = {
    "raw": ("everything", theme.GREY),
    "truncation": ("the newest", "#3A9BD9"),
    "snapkv": ("SnapKV-style", theme.BLUE),
    "kvzip": ("KVzip-style", theme.GREEN),
    "expected": ("Expected-Attention-style", theme.PURPLE),
}
SECONDS = (0.01, 0.1, 1, 10, 100, 1000)
GIBS = (5, 10, 20, 50, 100, 200, 500)
NOTHING = "Nothing was measured here yet."


def time_figure(result: CostResult) -> theme.Figure:
    """Seconds to the first token against context, with the paper's points."""
    return _against_context(result, "ttft_s", 1, y="seconds to the first token", ticks=SECONDS)


def memory_figure(result: CostResult) -> theme.Figure:
    """GiB at the peak against context, with the paper's points."""
    return _against_context(result, "memory_gib", 2, y="GiB at the peak", ticks=GIBS)


def _against_context(
    result: CostResult, name: str, column: int, *, y: str, ticks: Sequence[Number]
) -> theme.Figure:
    contexts = result.curves.contexts.tolist()
    traces = []
    for arm, heights in getattr(result.curves, name).items():
        title, colour, dash = LINES[arm]
        traces.append(_line(title, contexts, heights.tolist(), colour, dash))
        points = result.figure[arm]
        if points:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": f"the paper's {title}",
                    "showlegend": False,
                    "x": [point[0] for point in points],
                    "y": [point[column] for point in points],
                    "marker": {"color": colour, "symbol": "circle-open", "size": 9},
                }
            )
    return _logarithmic(traces, y=y, ticks=ticks)


def measured_time_figure(result: CostResult) -> theme.Figure:
    """Seconds that the untrained pair took, beside the fits."""
    return _measured(result, "ttft_s", "ttft_s", y="seconds to the first token", ticks=SECONDS)


def measured_memory_figure(result: CostResult) -> theme.Figure:
    """GiB that the untrained pair held at its peak, beside the fits."""
    return _measured(result, "peak_gib", "memory_gib", y="GiB at the peak", ticks=GIBS)


def _measured(
    result: CostResult, field: str, fit: str, *, y: str, ticks: Sequence[Number]
) -> theme.Figure:
    traces = []
    for arm, points in result.measured_curves.items():
        if not points:
            continue
        title, colour, _ = LINES[arm]
        contexts = [point.n_tokens for point in points]
        heights = [getattr(point, field) for point in points]
        traces.append(_line(title, contexts, heights, colour, "solid") | {"mode": "lines+markers"})
        fitted = [
            (context, height)
            for context, height in zip(
                result.curves.contexts.tolist(), getattr(result.curves, fit)[arm], strict=True
            )
            if min(contexts) <= context <= max(contexts)
        ]
        traces.append(
            _line("", [c for c, _ in fitted], [float(h) for _, h in fitted], colour, "dot")
            | {"showlegend": False}
        )
    return _logarithmic(traces, y=y, ticks=ticks)


def eviction_quality_figure(result: CostResult, texts: str) -> theme.Figure:
    """Perplexity of what follows against the entries kept, by method.

    Args:
        result: with what was measured.
        texts: "prose", "code", or "returning" for passages of the context that come back.
    """
    rows = [row for row in result.eviction_quality if row.texts == texts]
    context = max((row.context for row in rows), default=0)
    traces = []
    for method in dict.fromkeys(row.method for row in rows):
        mine = sorted(
            (row for row in rows if (row.method, row.context) == (method, context)),
            key=lambda row: row.budget,
        )
        if not mine:
            continue
        title, colour = METHODS.get(method, (method, theme.GREY))
        budgets = [row.budget for row in mine]
        heights = [row.perplexity for row in mine]
        dash = "dash" if method == "truncation" else "solid"  # seen where others lie under it
        traces.append(_line(title, budgets, heights, colour, dash) | {"mode": "lines+markers"})
    if not traces:
        return theme.figure([], annotations=[_note()])
    traces.sort(key=lambda trace: trace["line"]["dash"] == "dash")  # drawn last, over them
    ticks = sorted({budget for trace in traces for budget in trace["x"]})
    top = 1.08 * max(height for trace in traces for height in trace["y"])
    return theme.figure(
        traces,
        x=f"entries kept of {context}",
        y="perplexity of what follows",
        x_range=(math.log10(ticks[0]) - 0.06, math.log10(ticks[-1]) + 0.06),
        y_range=(0, top),
        xaxis={"type": "log", "tickvals": ticks, "ticktext": [str(tick) for tick in ticks]},
        annotations=_names(traces, apart=0.075 * top),
    )


def _names(traces: Sequence[dict[str, Any]], *, apart: float) -> list[dict[str, Any]]:
    """A name at the right end of every line, no two closer than `apart`; of a point, below it."""
    found, last = [], -math.inf
    for trace in sorted(traces, key=lambda trace: trace["y"][-1]):
        is_line = len(trace["x"]) > 1
        height = max(trace["y"][-1], last + apart) if is_line else trace["y"][-1]
        last = height if is_line else last
        found.append(
            {
                "text": trace["name"],
                "font": {"color": trace["line"]["color"], "size": 12},
                "x": math.log10(trace["x"][-1]),
                "y": height,
                "xanchor": "left" if is_line else "right",
                "yanchor": "middle" if is_line else "top",
                "xshift": 8,
                "yshift": 0 if is_line else -6,
                "showarrow": False,
            }
        )
    return found


def _line(
    name: str, x: Sequence[Number], y: Sequence[Number], colour: str, dash: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "dash": dash},
    }


def _logarithmic(traces: list[dict], *, y: str, ticks: Sequence[Number]) -> theme.Figure:
    if not traces:
        return theme.figure([], annotations=[_note()])
    contexts = [2**power for power in range(12, 21, 2)]
    heights = [height for trace in traces for height in trace["y"] if height > 0]
    low, high = math.log10(min(heights)), math.log10(max(heights))
    return theme.figure(
        traces,
        x="tokens of the prompt",
        y=y,
        x_range=(math.log10(contexts[0]) - 0.08, math.log10(contexts[-1]) + 0.08),
        y_range=(low - 0.1, high + 0.1),
        xaxis={"type": "log", "tickvals": contexts, "ticktext": list(map(tokens_text, contexts))},
        yaxis={"type": "log", "tickvals": list(ticks), "ticktext": [f"{t:g}" for t in ticks]},
        showlegend=True,
        legend={"font": {"size": 12}},
    )


def _note() -> dict[str, Any]:
    place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
    return {"text": NOTHING, "showarrow": False, **place}
