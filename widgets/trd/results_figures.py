"""The committed results in the tabs of `results` and `results_late`: one plot for each claim.

Names stand on the marks. The method that is followed is strong, the others are faded.
"""

import math
from collections.abc import Sequence
from typing import Any

from intuitive.trd.experiments.results import Results
from intuitive.trd.results import MethodRow, Rewrites

from .. import theme
from ..kit import fixed, percent
from .results_scene import apart
from .styles import METHOD_STYLES, TEACHER_NAMES, fade

FADED = 0.45
LABEL = 0.072  # height of a label, in shares
PALE, DARK = "#ffffff", "#000000"  # numbers on the cells of a heatmap, in either theme
AT = {"tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]}


def _look(row: MethodRow, chosen: str) -> tuple[str, bool]:
    style, strong = METHOD_STYLES[row.name], row.name == chosen
    return style.colour if strong else fade(style.colour, FADED), strong


def order_figure(results: Results) -> theme.Figure:
    """Who keeps the first student's order, and in how many orders a right text can come."""

    def told(row: MethodRow) -> str:
        orders = f"{fixed(row.distinct_orders, 1)} orders"
        alone = ": collapse" if row.distinct_orders < 1.1 else ""
        return f"{percent(row.order_kept)}, {orders}{alone}"

    return _bars(
        results,
        lambda row: row.order_kept,
        told,
        before=(results.found.first_order, "first student"),
        x="in the first student's order; different right orders in 16 texts",
    )


def plan_figure(results: Results) -> theme.Figure:
    """Who ends with the right plan, and how many texts are right then."""
    return _bars(
        results,
        lambda row: row.plan_right or 0.0,
        lambda row: f"{percent(row.plan_right or 0)}; {percent(row.accuracy.estimate)} right",
        x="texts with the right plan",
    )


def _bars(
    results: Results,
    share: Any,
    told: Any,
    *,
    x: str,
    before: tuple[float, str] | None = None,
) -> theme.Figure:
    """One bar for each method after as many rounds as are looked at, its numbers at its end."""
    rows = [row for row in results.beside if row.rounds == results.params.rounds][::-1]
    looks = [_look(row, results.params.method) for row in rows]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [share(row) for row in rows],
        "y": list(range(len(rows))),
        "marker": {"color": [colour for colour, _ in looks]},
        "width": 0.62,
        "hoverinfo": "skip",
    }
    # The numbers stand in a column of their own, where no line of the grid runs through them.
    words = {
        "type": "scatter",
        "mode": "text",
        "x": [1.03] * len(rows),
        "y": list(range(len(rows))),
        "text": [told(row) for row in rows],
        "textposition": "middle right",
        "textfont": {"size": 12},
        "cliponaxis": False,
        "hoverinfo": "skip",
    }
    names = [METHOD_STYLES[row.name].name for row in rows]
    names = [
        f"<b>{name}</b>" if strong else name for name, (_, strong) in zip(names, looks, strict=True)
    ]
    shapes, notes = [], []
    if before is not None:
        shapes = [theme.line(x=before[0], colour=theme.GREY)]
        notes = [
            {"text": f"{before[1]} {percent(before[0])}", "x": before[0], "y": 1, "yref": "paper",
             "yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
        ]  # fmt: skip
    return theme.figure(
        [bars, words],
        x=x,
        x_range=(0, 1.66),
        y_range=(-0.6, len(rows) - 0.4),
        xaxis=AT | {"zeroline": False},
        yaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": names,
            "tickfont": {"size": 12},
            "zeroline": False,
            "showgrid": False,
        },
        shapes=shapes,
        annotations=notes,
        margin={"l": 206, "t": 26},
    )


def fresh_figure(results: Results, what: str) -> theme.Figure:
    """Every method once and with fresh rollouts: texts that are "right", or that "wait"."""
    traces: list[dict[str, Any]] = []
    names = list(dict.fromkeys(row.name for row in results.beside))
    chosen, is_wait = results.params.method, what == "wait"

    def share(row: MethodRow) -> float:
        return row.wait if is_wait else row.accuracy.estimate

    pairs = []
    for name in names:
        pair = sorted((r for r in results.beside if r.name == name), key=lambda r: r.rounds)
        if len(pair) == 2:
            pairs.append(pair)
    told = [
        pair
        for pair in pairs
        if not is_wait or max(map(share, pair)) > 0.01 or _look(pair[0], chosen)[1]
    ]
    heights = apart([-share(pair[1]) for pair in told], LABEL, -1.03, 0.0)
    ends = dict(zip([pair[0].name for pair in told], heights, strict=True))
    for pair in pairs:
        style, (colour, strong) = METHOD_STYLES[pair[0].name], _look(pair[0], chosen)
        values = [share(row) for row in pair]
        traces.append(
            {
                "type": "scatter",
                "x": [0, 1],
                "y": values,
                "mode": "lines+markers",
                "line": {"color": colour, "dash": style.dash, "width": 3.5 if strong else 2},
                "marker": {"color": colour, "size": 9 if strong else 7},
                "cliponaxis": False,
                "name": style.name,
                "hovertemplate": f"{style.name}: %{{y:.1%}}<extra></extra>",
            }
        )
        if pair[0].name in ends:
            first, last = (percent(v, 0 if v >= 0.1 or not is_wait else 1) for v in values)
            label = _brief(f"{style.name}, {first} → {last}")
            traces.append(_label(label, 1.08, -ends[pair[0].name], style.colour, strong))
    rounds = max((row.rounds for row in results.beside), default=1)
    return theme.figure(
        traces,
        y="texts that say WAIT" if is_wait else "texts that are right",
        x_range=(-0.15, 4.4),
        y_range=(-0.03, 1.06),
        xaxis={
            "tickvals": [0, 1],
            "ticktext": ["once", f"{rounds} times"],
            "zeroline": False,
        },
        yaxis=AT,
        margin={"l": 66},
    )


def _brief(label: str) -> str:
    return label.replace("under ", "<").replace("over ", ">")


def _label(text: str, x: float, y: float, colour: str, strong: bool) -> dict[str, Any]:
    """A name right of a mark."""
    return {
        "type": "scatter",
        "x": [x],
        "y": [y],
        "mode": "text",
        "text": [f"<b>{text}</b>" if strong else text],
        "textposition": "middle right",
        "textfont": {"color": colour, "size": 12},
        "cliponaxis": False,
        "hoverinfo": "skip",
    }


def cost_figure(results: Results) -> theme.Figure:
    """Accuracy against teacher tokens, drawn once and anew, with the methods' names."""
    traces: list[dict[str, Any]] = []
    names = list(dict.fromkeys(row.name for row in results.beside))
    tokens = [_tokens(row) for row in results.beside]
    low, high = math.log10(min(tokens)), math.log10(max(tokens))
    for name in names:
        pair = sorted((r for r in results.beside if r.name == name), key=lambda r: r.rounds)
        style, (colour, strong) = METHOD_STYLES[name], _look(pair[0], results.params.method)
        traces.append(
            {
                "type": "scatter",
                "x": [_tokens(row) for row in pair],
                "y": [row.accuracy.estimate for row in pair],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [row.accuracy.high - row.accuracy.estimate for row in pair],
                    "arrayminus": [row.accuracy.estimate - row.accuracy.low for row in pair],
                    "color": colour,
                },
                "mode": "lines+markers",
                "line": {"color": colour, "dash": style.dash, "width": 3.5 if strong else 2},
                "marker": {"color": colour, "size": 10 if strong else 8},
                "cliponaxis": False,
                "name": style.name,
                "hovertemplate": f"{style.name}: %{{y:.1%}} for %{{x:.3s}} tokens<extra></extra>",
            }
        )
    last = [
        max((r for r in results.beside if r.name == name), key=lambda r: r.rounds) for name in names
    ]
    ends = apart([-row.accuracy.estimate for row in last], LABEL, -1.03, 0.0)
    for row, end in zip(last, ends, strict=True):
        style, strong = METHOD_STYLES[row.name], row.name == results.params.method
        label = _brief(f"{style.name}, {percent(row.accuracy.estimate)} for {thousands(row)}")
        traces.append(_label(label, 10 ** (high + 0.06), -end, style.colour, strong))
    wide = high - low
    ticks = [10**k * m for k in range(3, 7) for m in (1, 3) if low - 0.1 < math.log10(10**k * m)]
    return theme.figure(
        traces,
        x="teacher tokens per student, written and scored",
        y="texts that are right",
        x_range=(low - 0.06 * wide, high + 1.15 * wide),
        y_range=(-0.03, 1.06),
        xaxis={
            "type": "log",
            "tickvals": [tick for tick in ticks if math.log10(tick) < high + 0.05],
            "ticktext": [_short(tick) for tick in ticks if math.log10(tick) < high + 0.05],
        },
        yaxis=AT,
        margin={"l": 66},
    )


def _tokens(row: MethodRow) -> float:
    return row.teacher_generated + row.teacher_scored


def thousands(row: MethodRow) -> str:
    """Teacher tokens of one student, such as 885k."""
    return _short(_tokens(row))


def _short(tokens: int | float) -> str:
    return f"{fixed(tokens / 1e6, 2)}M" if tokens > 1e6 else f"{fixed(tokens / 1e3, 0)}k"


def transitions_figure(found: Rewrites) -> theme.Figure:
    """Which drafts a rewrite mended, and which it broke."""
    table = [[found.fail_fail, found.fail_pass], [found.pass_fail, found.pass_pass]]
    return theme.figure(
        [
            {
                "type": "heatmap",
                "z": table,
                "x": ["rewrite wrong", "rewrite right"],
                "y": ["text wrong", "text right"],
                "zmin": 0,
                "zmax": 1,
                "colorscale": theme.ORDERED,
                "showscale": False,
                "xgap": 3,
                "ygap": 3,
                "hoverinfo": "skip",
            }
        ],
        annotations=[
            {
                "x": j,
                "y": i,
                "text": f"<b>{percent(share, 1)}</b>",
                "showarrow": False,
                "font": {"size": 17, "color": PALE if share < 0.4 else DARK},
            }
            for i, row in enumerate(table)
            for j, share in enumerate(row)
        ],
        yaxis={"autorange": "reversed", "showgrid": False},
        margin={"l": 92},
    )


def rows_for_table(rows: Sequence[MethodRow]) -> tuple[tuple[str, ...], tuple]:
    """Header and rows of the full table."""
    header = (
        "method", "teacher", "rounds", "right (95%)", "pass@4", "pass@16", "says WAIT",
        "right after it", "order kept", "orders of 16", "right plan", "teacher tokens",
        "rate",
    )  # fmt: skip

    def share(value: float | None) -> str:
        return "–" if value is None else percent(value, 1)

    return header, tuple(
        (
            METHOD_STYLES[row.name].name,
            TEACHER_NAMES[row.teacher],
            f"{row.rounds}",
            interval(row),
            share(row.pass_at.get("4")),
            share(row.pass_at.get("16")),
            share(row.wait),
            share(row.correct_after_wait),
            share(row.order_kept),
            fixed(row.distinct_orders),
            share(row.plan_right),
            thousands(row),
            f"{row.lr:g}",
        )
        for row in rows
    )


def interval(row: MethodRow) -> str:
    """Accuracy with its ends."""
    found = row.accuracy
    return f"{percent(found.estimate)} ({percent(found.low)} to {percent(found.high)})"
