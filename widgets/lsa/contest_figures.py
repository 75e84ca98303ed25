"""Plots in the tabs of the contest: replayed here, and answered in the committed run."""

import dataclasses
import math
from collections.abc import Callable, Iterable

from intuitive.lsa.experiments import contest as experiment
from intuitive.lsa.experiments.contest import ROOMS, SHOWN, Answered, ContestResult

from .. import theme
from . import styles
from .contest_scene import MEASURES, NAMES, STRONG

LOOKAHEADS = (8, 16, 32, 64, 128)
ROOM = ROOMS.index(64)  # at which the prediction is judged: fetching on demand fits into it
DASHES = {"oracle": "dash", "quest": "dash", "recency": "dot", "random": "dot"}
DASHES |= {"everything": "dashdot", "yours": "dash"}  # LSA's own line may lie under it
LINES = {
    arm: (colour, DASHES.get(arm, "solid"), 3 if arm in STRONG else 1.5)
    for arm, (_, colour) in styles.ARM_COLOURS.items()
}
SYMBOLS = {"everything": "star", "random": "diamond-open", "reactive": "square"}  # else circles

ANSWERS = "right answers"
PERCENT = {"tickformat": ".0%"}
MARGIN = {"l": 66}  # “100%” keeps off the axis title


def windows_figure(result: ContestResult) -> theme.Figure:
    """What is found against the window's length, with room for `ROOMS[ROOM]` chunks."""
    measure = result.params.measure
    traces = []
    for arm in SHOWN:
        colour, dash, width = LINES[arm]
        shares = []
        for lookahead in LOOKAHEADS:
            params = dataclasses.replace(result.params, lookahead=lookahead, measure="needed")
            shares.append(experiment.entry(params, arm, ROOMS[ROOM]).share(measure))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": NAMES[arm],
                "x": LOOKAHEADS,
                "y": shares,
                "line": {"color": colour, "dash": dash, "width": width},
            }
        )
    return theme.figure(
        traces,
        x="steps between two decisions, τ",
        y=MEASURES[measure],
        x_range=(math.log10(7), math.log10(150)),
        y_range=(0, 1.05),
        yaxis=PERCENT,
        margin=MARGIN,
        xaxis={"type": "log", "tickvals": LOOKAHEADS, "ticktext": [str(t) for t in LOOKAHEADS]},
        showlegend=True,
        legend={"font": {"size": 12}},
    )


def rooms_figure(result: ContestResult) -> theme.Figure:
    """What is found against the share of old chunks that is on the GPU."""
    measure = result.params.measure
    most = max(e.kept for arm in result.entries for e in result.entries[arm])
    traces = []
    for arm in result.entries:
        colour, dash, width = LINES[arm]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": NAMES[arm],
                "x": [e.kept for e in result.entries[arm]],
                "y": [e.share(measure) for e in result.entries[arm]],
                "line": {"color": colour, "dash": dash, "width": width},
            }
        )
    return theme.figure(
        traces,
        x="share of the old chunks on the GPU",
        y=MEASURES[measure],
        x_range=(0, 1.08 * most),
        y_range=(0, 1.05),
        xaxis={"tickformat": ".0%"},
        yaxis=PERCENT,
        margin=MARGIN,
        showlegend=True,
        legend={"font": {"size": 12}},
    )


# ------------------------------------------------------------------------------- answered


def answers_by_bytes() -> theme.Figure:
    """Right answers against bytes copied per token, one curve per arm over its rooms."""
    traces = _curves(_budgets(), lambda point: max(point.n_bytes, 1.0))
    return _answers(
        traces, x="bytes copied per token", xaxis={"type": "log", "dtick": 1, "ticksuffix": " B"}
    )


def answers_by_room() -> theme.Figure:
    """Right answers against the share of old chunks that is resident."""
    return _answers(
        _curves(_budgets(), lambda point: point.kept),
        x="share of the old chunks on the GPU",
        xaxis={"tickformat": ".0%"},
    )


def answers_by_window() -> theme.Figure:
    """Right answers against the lookahead, decisions in time and one window late."""
    if not experiment.is_answered():
        return _answers([], x="")
    points = experiment.answered("lookahead")
    traces = []
    for lag in (0, 1):
        late = [point for point in points if point.lag == lag]
        for trace in _curves(late, lambda point: point.lookahead):
            if lag:
                trace["line"] = trace["line"] | {"dash": "dot"}
                trace["name"] += ", late"
            traces.append(trace)
    ticks = {"tickvals": LOOKAHEADS, "ticktext": [str(t) for t in LOOKAHEADS]}
    return _answers(traces, x="steps between two decisions, τ", xaxis={"type": "log", **ticks})


def answers_by_length() -> theme.Figure:
    """Right answers against the length of the text, by the threshold."""
    if not experiment.is_answered():
        return _answers([], x="")
    points = (*experiment.answered("arms"), *experiment.answered("length"))
    points = [point for point in points if point.rule == "threshold"]
    traces = _curves(points, lambda point: point.length)
    return _answers(traces, x="length of the text, in lengths of the training")


def _budgets() -> tuple[Answered, ...]:
    return experiment.answered("budget") if experiment.is_answered() else ()


def _curves(points: Iterable[Answered], x: Callable[[Answered], int | float]) -> list[dict]:
    """One curve per arm, with the range of the seeds as bars."""
    arms: dict[str, list[Answered]] = {}
    for point in points:
        arms.setdefault(point.arm, []).append(point)
    traces = []
    for arm, mine in arms.items():
        mine.sort(key=x)
        colour, dash, width = LINES[arm]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": NAMES[arm],
                "x": [x(point) for point in mine],
                "y": [point.accuracy for point in mine],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [point.high - point.accuracy for point in mine],
                    "arrayminus": [point.accuracy - point.low for point in mine],
                    "thickness": 1,
                    "width": 3,
                },
                "line": {"color": colour, "dash": dash, "width": width},
                "marker": {"symbol": SYMBOLS.get(arm, "circle")},
            }
        )
    return traces


def _answers(traces: list[dict], *, x: str, **layout) -> theme.Figure:
    if not traces:
        layout["annotations"] = [_nothing()]
    return theme.figure(
        traces,
        x=x,
        y=ANSWERS,
        y_range=(0, 1.05),
        yaxis=PERCENT,
        margin=MARGIN,
        showlegend=True,
        legend={"font": {"size": 11}},
        **layout,
    )


# ------------------------------------------------------------------------ SmolLM2 predicts


def perplexity_by_copies() -> theme.Figure:
    """Perplexity of returning passages against the chunks copied, one curve per arm."""
    rows = [
        row
        for row in experiment.predicted()
        if row.lookahead == 64 and not row.lag and row.layers is None
    ]
    traces, arms = [], {}
    for row in rows:
        threshold = row.rule == "threshold" and row.arm == "lsa"
        arms.setdefault((row.arm, threshold), []).append(row)
    for (arm, threshold), mine in arms.items():
        mine.sort(key=lambda row: row.chunks_copied_per_64_steps)
        colour, dash, width = LINES[arm]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(mine) > 1 else "markers",
                "name": f"{NAMES[arm]}{', threshold' * threshold}",
                "x": [row.chunks_copied_per_64_steps for row in mine],
                "y": [row.perplexity_returned for row in mine],
                "line": {
                    "color": colour,
                    "dash": "longdash" if threshold else dash,
                    "width": width,
                },
                "marker": {
                    "size": 11 if len(mine) == 1 else 7,
                    "symbol": SYMBOLS.get(arm, "circle"),
                },
            }
        )
    return _perplexity(traces, x="chunks copied in 64 steps")


def perplexity_by_window() -> theme.Figure:
    """Perplexity of returning passages against the lookahead, with room for eight old chunks."""
    rows = [
        row
        for row in experiment.predicted()
        if (row.arm, row.rule, row.size, row.layers) == ("lsa", "budget", 8, None)
    ]
    traces = []
    for lag, name, symbol in ((0, NAMES["lsa"], "circle"), (1, "one window late", "x")):
        mine = sorted((r for r in rows if r.lag == lag), key=lambda row: row.lookahead)
        if mine:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(mine) > 1 else "markers",
                    "name": name,
                    "x": [row.lookahead for row in mine],
                    "y": [row.perplexity_returned for row in mine],
                    "line": {"color": LINES["lsa"][0]},
                    "marker": {"size": 9, "symbol": symbol},
                }
            )
    ticks = {"tickvals": LOOKAHEADS, "ticktext": [str(t) for t in LOOKAHEADS]}
    return _perplexity(traces, x="steps between two decisions, τ", xaxis={"type": "log", **ticks})


def _perplexity(traces: list[dict], *, x: str, **layout) -> theme.Figure:
    if not traces:
        layout["annotations"] = [_nothing()]
    return theme.figure(
        traces, x=x, y="perplexity", showlegend=True, legend={"font": {"size": 11}}, **layout
    )


def _nothing() -> dict:
    note = {"text": "Nothing was measured yet.", "showarrow": False, "xref": "paper", "x": 0.5}
    return note | {"yref": "paper", "y": 0.5}
