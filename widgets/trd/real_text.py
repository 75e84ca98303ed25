"""A real language model along right and wrong solutions: is there a second mode?"""

import functools
from collections.abc import Callable
from typing import Any

from intuitive.trd.experiments.real_text import Read, RealParams, run
from intuitive.trd.real_text import KINDS, Estimate, KeptItem, RealText, RealTextParams, Trajectory

from .. import theme
from ..kit import (
    Choice,
    Explorer,
    Plot,
    Predict,
    Range,
    Readout,
    Table,
    TokenMarks,
    Tokens,
    View,
    fixed,
    number,
    percent,
)
from .styles import CONTINUE, REPAIR, told

TEXT, ERROR, ONSET = range(3)
CLASSES = (
    ("skipped", "the wrong solution"),
    ("here", "where it is wrong"),
    ("local", "where a repair would begin: starts of the lines after it"),
)


def read_real(params: RealParams, *, stale: Any, progress: Any) -> Read:
    """`run` of the compute module."""
    with told("measurements of SmolLM2"):
        return run(params, stale=stale, progress=progress)


def present_real(read: Read) -> View:
    params, found, kept = read.params, read.found, read.kept
    difference = found.onset_difference[params.kind]
    n = difference.n
    mended, copied = (found.surprise[f"{name}|refine"].mean for name in ("right", "wrong"))
    second = (
        "larger than on right solutions"
        if difference.low > 0
        else "smaller than on right solutions"
        if difference.high < 0
        else "not told apart from that on right solutions"
    )
    return View(
        summary=(
            f"Problem {params.item}: {kept.item.problem} Over {n} problems SmolLM2 puts at "
            f"most {number(found.largest_onset, 2)} on repair words at a line's start after an "
            f"error; the mean after errors is {second} ({_estimate(difference, _short)}). Shown "
            f"the wrong attempt to rewrite, it finds "
            f"{'the wrong' if copied < mended else 'the right'} solution likelier: "
            f"{fixed(mended)} nats per token for the right one, {fixed(copied)} for the wrong one."
        ),
        figures={
            "along": along_figure(kept, params.measure),
            "delay": functools.partial(delay_figure, found, params.kind),
            "prompts": functools.partial(prompts_figure, found),
        },
        readouts=(
            Readout(
                "repair mass, wrong − right",
                _estimate(difference, _short),
            ),
            Readout(
                "wrong number preferred", f"{percent(found.error_preferred.mean)} of the items"
            ),
            Readout(
                "surprise by the line with the right / wrong number",
                f"{fixed(found.surprise_at_error['right'].mean)} / "
                f"{fixed(found.surprise_at_error['wrong'].mean)} nats",
            ),
        ),
        table=_table(found),
        tokens=_marked(kept),
        code=(
            "from intuitive.trd.results import real_text\n\n"
            "found = real_text()\n"
            f'found.onset_difference["{params.kind}"], found.kept[{params.item - 1}].item.problem'
        ),
        bounds={"item": (1, len(found.kept))},
    )


def _short(value: float) -> str:
    return number(value, 2)


def _estimate(found: Estimate, form: Callable[[float], str]) -> str:
    return f"{form(found.mean)} ({form(found.low)} to {form(found.high)})"


def _marked(kept: KeptItem) -> TokenMarks:
    """The wrong solution; the number that is wrong, and where a repair would begin."""
    wrong, error = kept.wrong, kept.item.error_line
    at = [place for place, line in enumerate(wrong.lines) if line == error]
    right = [kept.right.tokens[p] for p, line in enumerate(kept.right.lines) if line == error]
    differ = [
        place for place, token in zip(at, right, strict=False) if wrong.tokens[place] != token
    ]
    marks = [
        ERROR if place in differ else ONSET if first and wrong.lines[place] > error else TEXT
        for place, first in enumerate(wrong.first)
    ]
    return TokenMarks(wrong.tokens, bytes(marks), focus=at[0])


def _table(found: RealText) -> Table:
    rows = []
    for kind, by_name in found.onset_by_delay.items():
        for name, by_delay in by_name.items():
            for delay, end in by_delay.items():
                where = "before it" if delay == "-1" else f"{delay} lines after it"
                mass = _estimate(end, number)
                rows.append((f"repair mass, {kind}", f"{name} solution, {where}", mass, f"{end.n}"))
    for key, end in found.surprise.items():
        name, context = key.split("|")
        rows.append(("surprise, nats per token", f"{name} solution, {context} prompt",
                     _estimate(end, functools.partial(fixed, decimals=3)), f"{end.n}"))  # fmt: skip
    for name, end in found.perplexity_gap.items():
        rows.append(("perplexity gap", f"{name} solution", _estimate(end, fixed), f"{end.n}"))
    return Table(("measure", "where", "mean (95 %)", "items"), tuple(rows))


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """SmolLM2's distribution along right and wrong solutions, as measured by the benchmark.

    Args:
        predict: a question asked before the controls unlock.
        values: first control values, such as `measure="nll"`.
    """
    first = RealParams()
    controls = (
        Range(name="item", label="Problem", min=1, max=RealTextParams().n_kept),
        Choice(
            name="measure",
            label="Along it",
            options={name: label for name, (label, _) in MEASURES.items()},
        ),
        Choice(
            name="kind",
            label="Means over",
            options={"all": "all problems", **{kind: f"{kind} problems" for kind in KINDS}},
        ),
    )
    return Explorer(
        name="trd_real_text",
        title="Does a real model stop to repair?",
        params=RealParams,
        compute=read_real,
        present=present_real,
        controls=controls,
        plots=(
            Plot(
                name="along",
                label="A measure at every token of a right and of a wrong solution",
                caption="Shaded: the line with the error. Grey lines: where lines begin, and a "
                "repair could. Repair words: Wait, Actually, However and their like.",
                height=320,
            ),
            Plot(
                name="delay",
                tab="Means",
                label="Mass on repair words where a line begins, by lines since the error",
                caption="A second mode would lift the wrong solution above the right one after "
                "the error. Bars: 95 % over problems.",
                height=320,
            ),
            Plot(
                name="prompts",
                tab="Two prompts",
                label="Surprise per token under two prompts",
                caption="Shown a wrong attempt to rewrite, the model should prefer the right "
                "solution. Bars: 95 % over problems.",
                height=320,
            ),
        ),
        tokens=Tokens(label="The wrong solution, as tokens", classes=CLASSES, height=150),
        defaults={
            "item": first.item,
            "measure": first.measure,
            "kind": first.kind,
            **values,
        },
        predict=predict,
    )


# ---- figures


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


def along_figure(kept: KeptItem, measure: str) -> theme.Figure:
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


def delay_figure(found: RealText, kind: str) -> theme.Figure:
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


def prompts_figure(found: RealText) -> theme.Figure:
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
