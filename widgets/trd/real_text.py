"""A real language model along right and wrong solutions: is there a second mode?"""

import functools
from collections.abc import Callable
from typing import Any

from intuitive.trd.experiments.real_text import Read, RealParams, run
from intuitive.trd.real_text import KINDS, Estimate, KeptItem, RealText, RealTextParams, Trajectory
from intuitive.trd.results import real_text

from .. import theme
from ..kit import (
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Table,
    View,
    fixed,
    number,
    percent,
)
from .real_text_scene import Picture, means_sentence, rewrite_sentence
from .styles import CONTINUE, REPAIR, told


def read_real(params: RealParams, *, stale: Any, progress: Any) -> Read:
    """`run` of the compute module."""
    with told("measurements of SmolLM2"):
        return run(params, stale=stale, progress=progress)


def present_real(read: Read) -> View:
    params, found, kept = read.params, read.found, read.kept
    picture = Picture(read)
    return View(
        summary=(
            f"Problem {params.item}: {kept.item.problem} {means_sentence(read)} Over all "
            f"{found.params.n_items} the largest such mass is {percent(found.largest_onset, 1)}."
            + (f" {rewrite_sentence(found)}" if params.ending == "rewrite" else "")
        ),
        timeline=picture.timeline(),
        arithmetic=picture.arithmetic(),
        figures={
            "delay": functools.partial(delay_figure, found, params.kind),
            "prompts": functools.partial(prompts_figure, found),
            "along": functools.partial(along_figure, kept, params.measure),
        },
        readouts=picture.readouts(0),
        table=_table(found),
        code=(
            "from intuitive.trd.results import real_text\n\n"
            "found = real_text()\n"
            f'found.onset_difference["{params.kind}"], found.kept[{params.item - 1}].item.problem'
        ),
        bounds={"item": (1, len(found.kept))},
    )


def _estimate(found: Estimate, form: Callable[[float], str]) -> str:
    return f"{form(found.mean)} ({form(found.low)} to {form(found.high)})"


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
    for name, end in found.surprise_at_error.items():
        rows.append(("surprise by the line of the error", f"with the {name} number",
                     _estimate(end, fixed), f"{end.n}"))  # fmt: skip
    preferred = found.error_preferred
    rows.append(("wrong number likelier", "in the line of the error",
                 _estimate(preferred, percent), f"{preferred.n}"))  # fmt: skip
    return Table(("measure", "where", "mean (95 %)", "items"), tuple(rows))


def _after_an_error() -> tuple[int, str]:
    with told("measurements of SmolLM2"):
        found = real_text()
    difference = found.onset_difference["all"]
    right = 0 if difference.low > 0 else 2 if difference.high < 0 else 1
    return right, (
        f"{means_sentence(run(RealParams()))} The largest mass at any line was "
        f"{percent(found.largest_onset, 1)}. One model of 135 million parameters says nothing "
        "about larger ones."
    )


PREDICT = Predict(
    question=(
        "SmolLM2, a model of 135 million parameters, reads a solution with a wrong number. Where "
        "the next line begins, how much does it expect a Wait or However, compared with the same "
        "place of the right solution?"
    ),
    choices=("clearly more", "neither more nor less", "clearly less"),
    answer=_after_an_error,
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """A wrong solution as SmolLM2 reads it, as measured by the benchmark.

    Args:
        predict: a question asked before the controls unlock, such as `PREDICT`.
        values: first control values, such as `item=2`.
    """
    first = RealParams()
    controls = (
        Range(name="item", label="Problem", min=1, max=RealTextParams().n_kept),
        Choice(
            name="kind",
            label="Means over",
            options={"all": "all problems", **{kind: f"{kind} problems" for kind in KINDS}},
        ),
        Choice(
            name="ending",
            label="At the end",
            options={"means": "repair words, all means", "rewrite": "and asked to rewrite"},
            more=True,
        ),
        Choice(
            name="measure",
            label="In the tab Every token",
            options={name: label for name, (label, _) in MEASURES.items()},
            more=True,
        ),
    )
    return Explorer(
        name="trd_real_text",
        title="Does a real model stop to repair?",
        params=RealParams,
        compute=read_real,
        present=present_real,
        hero=Hero(label="A wrong solution as SmolLM2 reads it, with a sign before every line"),
        controls=controls,
        steps=(
            Step(
                title="Read the wrong solution",
                text="Line by line. The signs are to the scale of a teacher that was taught to "
                "repair: how much of each is filled after the error?",
                frame="play",
            ),
            Step(
                title="Is it surprised?",
                text="The wrong number, and what the right one would cost at the same place. Now "
                "look at the other bars: would you find the error by its height?",
                frame="line 2",
            ),
            Step(
                title="A story instead",
                text="A problem in words, and means over the reasoning problems alone. Do the "
                "signs fill there?",
                sets={"item": 4, "kind": "reasoning"},
                frame="play",
            ),
            Step(
                title="Ask it to rewrite",
                text="Shown the wrong solution and asked to rewrite it, as TRD's teacher would be: "
                "which of the two does it find less surprising? The last bars on the right tell.",
                sets={"ending": "rewrite"},
                frame="last",
            ),
        ),
        plots=(
            Plot(
                name="delay",
                tab="Means by line",
                label="Mass on repair words where a line begins, by lines since the error",
                caption="A second mode would lift the wrong solution above the right one after "
                "the error. Bars: 95% over problems.",
                height=320,
            ),
            Plot(
                name="prompts",
                tab="Two prompts",
                label="Surprise per token under two prompts, all problems",
                caption="Shown a wrong attempt to rewrite, a teacher should prefer the right "
                "solution. Bars: 95% over problems.",
                height=320,
            ),
            Plot(
                name="along",
                tab="Every token",
                label="A measure at every token of a right and of a wrong solution",
                caption="Shaded: the line with the error. Grey lines: where lines begin, and a "
                "repair could.",
                height=320,
            ),
        ),
        defaults={
            "item": first.item,
            "measure": first.measure,
            "kind": first.kind,
            "ending": first.ending,
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


def _names() -> list[dict[str, Any]]:
    """The two solutions' names in their colours, above the plot."""
    told = {"right": "— right solution", "wrong": "- - wrong solution"}
    return [
        {"text": told[name], "x": 0.27 * place, "xref": "paper", "xanchor": "left", "y": 1.01,
         "yref": "paper", "yanchor": "bottom", "showarrow": False,
         "font": {"color": LOOKS[name][0], "size": 13}}
        for place, name in enumerate(LOOKS)
    ]  # fmt: skip


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
        annotations=_names(),
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
        annotations=_names(),
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
        annotations=_names(),
    )
