"""Through all steps, or one: neighbours, Jacobians, cost."""

from functools import partial
from typing import Any

import numpy as np

from intuitive.qgf.experiments import backprop
from intuitive.qgf.experiments.backprop import BackpropParams, Jacobians, Jitter, Shaken
from intuitive.qgf.guidance import ESTIMATOR_NAMES

from .. import theme
from ..kit import (
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Readout,
    Step,
    Table,
    Timeline,
    View,
    fixed,
    number,
    percent,
)
from . import styles
from .backprop_scene import Picture
from .labels import end_names

# ------------------------------------------------------------------------------------- figures


DECADES = (-2.5, 3.0)  # of the Jacobians' axis
STEEP = 0.4  # largest height of the drawn density, in decades


def jacobians_figure(here: Jacobians) -> theme.Figure:
    """J_1 and p_t/p_1 over x on a logarithmic axis, above the density of the particles."""
    x = here.x.astype(np.float32)
    hill = 10 ** (DECADES[0] + STEEP * here.density / here.density.max())
    jacobians = (
        ("J₁, one Euler step", here.one_step, {"color": theme.GREY, "dash": "dash", "width": 2}),
        ("pₜ/p₁, whole chain", here.chain, {"color": theme.GREY, "width": 3}),
    )
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "x": x,
            "y": hill.astype(np.float32),
            "mode": "lines",
            "line": {"color": theme.GREY, "width": 1},
            "hoverinfo": "skip",
            "name": "particles",
        }
    ]
    for name, values, look in jacobians:
        traces.append(
            {
                "type": "scatter",
                "x": x,
                "y": np.where(values > 0, values, np.nan).astype(np.float32),
                "mode": "lines",
                "line": look,
                "name": name,
                "hovertemplate": "%{y:.3g}<extra></extra>",
            }
        )
    return theme.figure(
        traces,
        x="position x at time t",
        y="Jacobian",
        x_range=(float(here.x[0]), float(here.x[-1])),
        y_range=DECADES,
        yaxis={
            "type": "log",
            "tickvals": [0.01, 0.1, 1, 10, 100, 1000],
            "ticktext": ["0.01", "0.1", "1", "10", "100", "1000"],
        },
        showlegend=True,
        margin={"t": 60, "l": 64},
        shapes=[theme.line(y=1, colour=theme.GREY)],
    )


def pairs_figure(whole: Jitter) -> theme.Figure:
    """How much the gradients of the median pair differ, over time."""
    traces, ends = [], []
    strong = ("qgf", "bptt")
    for name, differs, same in sorted(
        zip(whole.estimators, whole.difference, whole.same_sign, strict=True),
        key=lambda row: row[1][-1],
    ):
        guided = [
            value if some else None
            for value, some in zip((100 * differs).tolist(), same > 0, strict=True)
        ]
        traces.append(
            {
                "type": "scatter",
                "x": whole.times,
                "y": guided,
                "mode": "lines+markers",
                "line": {"color": theme.GREY, "width": 3.5 if name in strong else 1.2},
                "marker": {"color": theme.GREY, "size": 7 if name in strong else 4},
                "opacity": 1 if name in strong else 0.6,
                "name": ESTIMATOR_NAMES[name],
                "hovertemplate": f"{ESTIMATOR_NAMES[name]}: %{{y:.1f}}%<extra></extra>",
            }
        )
        ends.append((ESTIMATOR_NAMES[name], 100 * float(differs[-1]), 14 if name in strong else 12))
    last, top = float(whole.times[-1]), max(25.0, 1.1 * 100 * float(whole.difference.max()))
    notes = end_names(ends, x=last, tail=last + 0.03, gap=0.075 * top, low=0.0)
    return theme.figure(
        traces,
        x="time t",
        y="median pair differs by, %",
        x_range=(-0.02, 1.14),
        y_range=(0, top),
        annotations=notes,
    )


def cost_figure(whole: Jitter) -> theme.Figure:
    """Network passes per action, and measured milliseconds, as bars."""
    names = [ESTIMATOR_NAMES[name] for name in whole.estimators]
    traces: list[dict[str, Any]] = []
    titles = ["network passes", "measured ms, median"]
    layout = theme.columns(titles, x="", x_range=(0, 1), gap=0.08)
    for column, values in enumerate((whole.passes, whole.ms)):
        axis = theme.x_axis(column)
        layout[axis.replace("x", "xaxis")]["range"] = (0, 1.35 * max(values))
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "x": list(values),
                "y": names,
                "xaxis": axis,
                "marker": {"color": theme.GREY},
                "text": [number(value, 2) for value in values],
                "textposition": "outside",
                "hoverinfo": "skip",
            }
        )
    return theme.figure(traces, yaxis={"autorange": "reversed"}, margin={"l": 110}, **layout)


# ----------------------------------------------------------------------------------- the view


DISTANCES = (0.005, 0.01, 0.02, 0.05, 0.1)
PACE_MS = 550


def present(found: Shaken) -> View:
    whole, pair, picture = found.whole, found.pair, Picture(found)
    params, names = found.params, found.whole.estimators
    typical = {  # over the times at which there is guidance
        name: float(difference[same > 0].mean())
        for name, difference, same in zip(names, whole.difference, whole.same_sign, strict=True)
    }
    passes = [whole.passes[names.index(name)] for name in ("qgf", "bptt")]
    one, two = (fixed(x) for x in pair.x[0])
    cost = Readout("passes, QGF · BPTT", f"{passes[0]} · {passes[1]}")
    medians = {name: percent(typical[name]) for name in ("qgf", "bptt")}
    told = (
        Readout("median pair, QGF", medians["qgf"]),
        Readout("median pair, BPTT", medians["bptt"]),
        cost,
    )
    return View(
        summary=(
            f"Preset {params.preset}: neighbours at {one} and {two}, t = {fixed(pair.times[0])}. "
            f"An action takes {passes[0]} network passes with QGF, {passes[1]} through all steps."
        ),
        timeline=Timeline(frames=picture.frames(), axis="time t", start=0, pace_ms=PACE_MS),
        figures={
            "pairs": partial(pairs_figure, whole),
            "jacobians": partial(jacobians_figure, found.here),
            "cost": partial(cost_figure, whole),
        },
        readouts=told,
        table=Table(
            (
                "estimator",
                "median pair differs by",
                "pairs of one sign",
                "squared length in the top 1% of pairs",
                "cosine of all, pooled",
                "network passes",
                "ms, median",
            ),
            tuple(
                (
                    ESTIMATOR_NAMES[name],
                    percent(typical[name]),
                    percent(same[same > 0].mean(), 1),
                    percent(top[same > 0].mean()),
                    fixed(cosine[same > 0].mean(), 3),
                    f"{passes}",
                    number(ms),
                )
                for name, same, top, cosine, passes, ms in zip(
                    names,
                    whole.same_sign,
                    whole.top_share,
                    whole.cosine,
                    whole.passes,
                    whole.ms,
                    strict=True,
                )
            ),
        ),
        code=styles.code("backprop", params, "found.pair.qgf, found.pair.bptt"),
    )


def _how_alike() -> tuple[int, str]:
    """Preset B: BPTT's guidance at neighbours 0.02 apart, over all steps."""
    whole = backprop.run(BackpropParams()).whole
    place = whole.estimators.index("bptt")
    same, difference, top = (
        float(values[place].mean())
        for values in (whole.same_sign, whole.difference, whole.top_share)
    )
    right = 0 if difference < 0.02 else 1 if difference < 0.3 and same > 0.9 else 2
    return right, (
        f"{percent(same, 1)} of the pairs have one sign, and the median pair differs by "
        f"{percent(difference)}. The trouble is in the few others: on ridges between two roads "
        f"gradients are huge, and 1% of the pairs hold {percent(top)} of all squared length."
    )


PREDICT = Predict(
    question=(
        "The exact way to ask “how would the final action change?” is to differentiate "
        "through all remaining steps. Two particles stand 0.02 apart. By how much do their "
        "gradients differ, for a typical pair?"
    ),
    choices=("less than 2%", "2% to 30%, of one sign", "hardly related, either sign"),
    answer=_how_alike,
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Two neighbours run to the end, and the critic's slope comes back through every step.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `place=-0.25`.
    """
    controls = (
        Range(name="place", label="They stand at", min=-1.6, max=1.6, step=0.01),
        Range(name="time", label="at time t", min=0.0, max=0.9, step=0.1),
        Choice(name="preset", label="Preset", options=styles.PRESET_NAMES, heavy=True),
        Range(
            name="distance",
            label="Distance of neighbours",
            values=DISTANCES,
            live=False,
            more=True,
            heavy=True,
        ),
        Range(
            name="n_steps",
            label="Euler steps T",
            values=(5, 10, 20),
            live=False,
            more=True,
            heavy=True,
        ),
        Range(name="seed", label="Seed", min=0, max=20, live=False, more=True, heavy=True),
    )
    return Explorer(
        name="qgf_backprop",
        title="Through all steps, or one",
        params=BackpropParams,
        compute=backprop.run,
        present=present,
        hero=Hero(
            label="Two neighbouring particles, their way to the end, and the critic's slope on "
            "its way back through every step"
        ),
        controls=controls,
        steps=(
            Step(
                title="On a road",
                text="Two neighbours on one road. They run to the end; the critic's slope there "
                "comes back, multiplied by every step's derivative.",
                sets={"place": 0.6, "time": 0.5},
                frame="play",
            ),
            Step(
                title="On a ridge",
                text="Here the roads part. A small nudge decides where one ends, so its "
                "derivative explodes; its neighbour's does not. QGF's two slopes hardly differ.",
                sets={"place": -0.25, "time": 0.5},
                frame="play",
            ),
            Step(
                title="At the start",
                text="At t = 0 every clean estimate is the mean of the data: QGF's two slopes are "
                "equal. Through all steps there is a ridge already.",
                sets={"place": -0.5, "time": 0.0},
                frame="play",
            ),
        ),
        plots=(
            Plot(
                name="pairs",
                label="How much the gradients of the median pair differ, over time",
                caption="A thousand pairs, by method: half of them differ by less. Ridges do not "
                "show in a median; see the top 1% in Values.",
                height=330,
                tab="Typical pair",
            ),
            Plot(
                name="jacobians",
                label="Jacobians of the one-step estimate and of the whole flow over x",
                caption="How far the estimate moves when x moves. Dotted: 1, which QGF assumes "
                "everywhere. Thin: where particles are at this time.",
                height=340,
                tab="Jacobians",
            ),
            Plot(
                name="cost",
                label="Network passes per action and measured time",
                caption="Passes as if field and critic were networks; milliseconds for 1,000 "
                "particles of the closed-form field: medians of five runs, here and now.",
                height=230,
                tab="Cost",
            ),
        ),
        predict=predict,
        defaults={
            "time": 0.5,
            "place": 0.6,
            "distance": 0.02,
            "preset": "B",
            "n_steps": 10,
            "seed": 0,
            **values,
        },
    )
