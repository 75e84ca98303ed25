"""The committed results as figures: the table of methods, curves, transitions, the WAIT funnel."""

from collections.abc import Sequence
from typing import Any

from intuitive.trd.results import MethodRow, Rewrites

from .. import theme
from ..kit import percent
from .styles import CONTINUE, FIRST, METHOD_STYLES, REPAIR, TEACHER, fade, under

MEASURES = {"accuracy": "Avg@n", "pass_at_4": "pass@4"}
LEAST_WAIT = 0.02  # share of rollouts from which it is marked how many of them end right
COLUMNS = (  # of the table's picture
    ("accuracy", "accuracy<br>Avg@16"),
    ("wait", "WAIT →<br>right<br>after"),
    ("order_kept", "keeps<br>its order"),
    ("plan_right", "right<br>plan"),  # only in the task that has a plan
)


def table_figure(
    rows: Sequence[MethodRow],
    rounds: Sequence[int],
    first: int | float,
    order: int | float,
    chosen: str,
) -> theme.Figure:
    """Every method in a line of its own: accuracy, WAIT, order, plan; open marks: many rounds.

    Methods of one colour share their traces: plotly looks at each trace of a new figure in turn.
    """
    names = list(dict.fromkeys(row.name for row in rows))[::-1]
    traces: list[dict[str, Any]] = []
    for number, n_rounds in enumerate(sorted(rounds)):
        offset = 0.14 * (1 - 2 * number) if len(rounds) > 1 else 0.0
        for colour in (CONTINUE, TEACHER, REPAIR):
            of = [
                (row, names.index(row.name) + offset)
                for row in rows
                if row.rounds == n_rounds and METHOD_STYLES[row.name].colour == colour
            ]
            traces += _marks(of, colour, filled=number == 0)
    titles = [title for name, title in COLUMNS if getattr(rows[0], name) is not None]
    gap = 0.1  # wide enough for "100%" beside "0"
    layout = theme.columns(titles, x="", x_range=(-0.02, 1.04), gap=gap)
    for name, axis in layout.items():
        if name.startswith("xaxis"):
            axis |= {
                "tickvals": [0, 0.5, 1],
                "ticktext": ["0", "", "100%"],
                "tickangle": 0,
                "ticklabeloverflow": "allow",
            }
            axis["zeroline"] = False
    for heading in layout["annotations"]:
        heading["font"] = {"size": 12}
    labels = [METHOD_STYLES[name].name for name in names]
    return theme.figure(
        traces,
        y_range=(-0.6, len(names) - 0.4),
        margin={"l": 190, "r": 22, "t": 56, "b": 34},
        shapes=[
            theme.line(x=first, colour=FIRST),
            theme.line(x=order, axis="x3", colour=FIRST),
        ],
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": [
                f"<b>{label}</b>" if name == chosen else label
                for name, label in zip(names, labels, strict=True)
            ],
            "zeroline": False,
        },
        **layout,
    )


def _marks(
    rows: Sequence[tuple[MethodRow, int | float]], colour: str, *, filled: bool
) -> list[dict[str, Any]]:
    """Rows of one colour with their heights: accuracy, order, WAIT, and right after it."""

    def points(
        found: Sequence[tuple[MethodRow, int | float]],
        x: list[float | None],
        axis: str,
        **more: Any,
    ) -> dict[str, Any]:
        return {
            "type": "scatter",
            "x": x,
            "y": [y for _, y in found],
            "text": [_said(row) for row, _ in found],
            "mode": "markers",
            "marker": {
                "color": colour,
                "size": 9,
                "symbol": "circle" if filled else "circle-open",
                "line": {"width": 2, "color": colour},
            },
            "xaxis": axis,
            "hovertemplate": "%{text}: %{x:.1%}<extra></extra>",
            **more,
        }

    waits = [(row, y) for row, y in rows for _ in range(3)]  # from 0 to its share, and a gap
    after = [
        (row, y) for row, y in rows if row.correct_after_wait is not None and row.wait >= LEAST_WAIT
    ]
    interval = {
        "type": "data",
        "symmetric": False,
        "array": [row.accuracy.high - row.accuracy.estimate for row, _ in rows],
        "arrayminus": [row.accuracy.estimate - row.accuracy.low for row, _ in rows],
        "thickness": 2,
        "width": 3,
        "color": colour,
    }
    planned = [(row, y) for row, y in rows if row.plan_right is not None]
    plans = [points(planned, [row.plan_right for row, _ in planned], "x4")] if planned else []
    tick = {
        "color": REPAIR,
        "size": 12,
        "symbol": "line-ns-open",
        "line": {"width": 3, "color": REPAIR},
    }
    return [
        points(rows, [row.accuracy.estimate for row, _ in rows], "x", error_x=interval),
        points(rows, [row.order_kept for row, _ in rows], "x3"),
        *plans,
        points(
            waits,
            [share for row, _ in rows for share in (0.0, row.wait, None)],
            "x2",
            mode="lines",
            line={"color": fade(colour, 0.7 if filled else 0.35), "width": 5},
        ),
        points(after, [row.wait * row.correct_after_wait for row, _ in after], "x2", marker=tick),
    ]


def _said(row: MethodRow) -> str:
    return f"{METHOD_STYLES[row.name].name}, {row.rounds} round{'s' if row.rounds > 1 else ''}"


def curves_figure(
    rows: Sequence[MethodRow], rounds: Sequence[int], measure: str, chosen: str
) -> theme.Figure:
    """Avg@n or pass@4 against teacher tokens, a plot for each number of rounds."""
    rounds = sorted(rounds)
    traces = []
    for row in rows:
        style = METHOD_STYLES[row.name]
        bold = row.name == chosen
        tokens = [point.teacher_tokens / 1e3 for point in row.curve]
        heights = [getattr(point, measure) for point in row.curve]
        traces.append(
            {
                "type": "scatter",
                "x": tokens,
                "y": heights,
                "mode": "lines+markers",
                "line": style.line(3.5 if bold else 1.5),
                "marker": {**style.marker(5), "opacity": 0.6},
                "xaxis": theme.x_axis(rounds.index(row.rounds)),
                "showlegend": False,
                "hovertemplate": f"{style.name}: %{{y:.1%}} at %{{x:.3g}}k<extra></extra>",
            }
        )
        final = row.accuracy.estimate if measure == "accuracy" else row.pass_at["4"]
        last = {
            "type": "scatter",
            "x": tokens[-1:],
            "y": [final],
            "mode": "markers",
            "marker": style.marker(14 if bold else 10),
            "xaxis": theme.x_axis(rounds.index(row.rounds)),
            "name": style.name,
            "showlegend": row.rounds == rounds[0],
            "hovertemplate": f"{style.name}: %{{y:.1%}} at %{{x:.3g}}k<extra></extra>",
        }
        if measure == "accuracy":
            last["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": [row.accuracy.high - final],
                "arrayminus": [final - row.accuracy.low],
                "color": style.colour,
            }
        traces.append(last)
    headings = [f"{n} round{'s' if n > 1 else ''}" for n in rounds]
    layout = theme.columns(headings, x="", x_range=(0, 1))
    layout["annotations"].append(under("teacher tokens per student, thousands"))
    most = [
        max(p.teacher_tokens for row in rows if row.rounds == n for p in row.curve) / 1e3
        for n in rounds
    ]
    for place, top in enumerate(most):
        layout[theme.x_axis(place).replace("x", "xaxis")]["range"] = (-0.03 * top, 1.08 * top)
    return theme.figure(
        traces,
        y=MEASURES[measure],
        y_range=(0, 1.03),
        yaxis={"tickformat": ".0%"},
        showlegend=True,
        legend={"y": 0, "yref": "container", "yanchor": "bottom"},
        margin={"b": 150},
        **layout,
    )


def transitions_figure(found: Rewrites) -> theme.Figure:
    """Which drafts a rewrite mended, and which it broke."""
    table = [[found.fail_fail, found.fail_pass], [found.pass_fail, found.pass_pass]]
    return theme.figure(
        [
            {
                "type": "heatmap",
                "z": table,
                "x": ["wrong", "right"],
                "y": ["wrong", "right"],
                "zmin": 0,
                "zmax": 1,
                "colorscale": theme.ORDERED,
                "showscale": False,
                "xgap": 3,
                "ygap": 3,
                "texttemplate": "%{z:.1%}",
                "textfont": {"size": 16},
                "hoverinfo": "skip",
            }
        ],
        x="rewrite y_r",
        y="rollout y_o",
        yaxis={"autorange": "reversed", "showgrid": False},
    )


def funnel_figure(dose: Sequence[MethodRow], chosen: str) -> theme.Figure:
    """Rollouts → with WAIT → right after it, against λ; accuracy of all methods beside it.

    No doses, as in a setting where they were not measured, leave the plot empty and say so.
    """
    if not dose:
        said = {"text": "not measured for this task", "x": 0.5, "y": 0.5, "showarrow": False}
        place = {"xref": "paper", "yref": "paper", "font": {"size": 15}}
        hidden = {"visible": False}
        return theme.figure([], annotations=[{**said, **place}], xaxis=hidden, yaxis=hidden)
    doses = sorted({row.repair for row in dose})
    own = {row.repair: row for row in dose if row.name == chosen}
    waits = [own[repair].wait if repair in own else None for repair in doses]
    right = [
        own[repair].wait * (own[repair].correct_after_wait or 0.0) if repair in own else None
        for repair in doses
    ]
    places = list(range(len(doses)))
    bars = [
        ("all rollouts", [1.0] * len(doses), fade(FIRST, 0.2), FIRST),
        ("contain WAIT", waits, fade(CONTINUE, 0.55), CONTINUE),
        ("and end right", right, REPAIR, REPAIR),
    ]
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "x": places,
            "y": heights,
            "width": 0.8 - 0.2 * number,
            "marker": {"color": fill, "line": {"color": edge, "width": 1}},
            "name": name,
            "text": ["" if h is None or number == 0 else f"{percent(h)}" for h in heights],
            "textposition": "outside" if number == 1 else "none",
            "cliponaxis": False,
            "hovertemplate": f"{name}: %{{y:.1%}}<extra></extra>",
        }
        for number, (name, heights, fill, edge) in enumerate(bars)
    ]
    for name in dict.fromkeys(row.name for row in dose):
        style, of = METHOD_STYLES[name], [row for row in dose if row.name == name]
        traces.append(
            {
                "type": "scatter",
                "x": [row.repair for row in of],
                "y": [row.accuracy.estimate for row in of],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [row.accuracy.high - row.accuracy.estimate for row in of],
                    "arrayminus": [row.accuracy.estimate - row.accuracy.low for row in of],
                    "color": style.colour,
                },
                "mode": "lines+markers",
                "line": style.line(4 if name == chosen else 2),
                "marker": style.marker(),
                "name": style.name,
                "xaxis": "x2",
                "hovertemplate": f"{style.name}, λ = %{{x}}: %{{y:.1%}}<extra></extra>",
            }
        )
    headings = [f"WAIT funnel,<br>{METHOD_STYLES[chosen].name}", "accuracy,<br>Avg@16"]
    layout = theme.columns(
        headings, x="the teacher's λ", x_range=(-0.6, len(doses) - 0.4), gap=0.06
    )
    layout["xaxis"] |= {
        "tickvals": places,
        "ticktext": [f"{repair:g}" for repair in doses],
        "tickangle": 0,
    }
    layout["xaxis2"] |= {"range": (-0.04, max(doses) + 0.04), "tickangle": 0}
    return theme.figure(
        traces,
        y_range=(0, 1.1),
        yaxis={
            "tickformat": ".0%",
            "tickvals": [0, 0.25, 0.5, 0.75, 1],
            "title": {"text": "share of the rollouts", "standoff": 10},
        },
        barmode="overlay",
        showlegend=True,
        legend={"y": 0, "yref": "container", "yanchor": "bottom"},
        margin={"l": 68, "t": 50, "b": 150},
        **layout,
    )
