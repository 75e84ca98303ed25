"""Why backpropagation through time shakes: Jacobians, neighbours, cost."""

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
    Plot,
    Predict,
    Range,
    Readout,
    Table,
    View,
    chosen,
    fixed,
    number,
    percent,
)
from . import styles

# ------------------------------------------------------------------------------------- figures


DECADES = (-2.5, 3.0)  # of the Jacobians' axis
STEEP = 0.4  # largest height of the drawn density, in decades


def jacobians_figure(here: Jacobians) -> theme.Figure:
    """J_1 and p_t/p_1 over x on a logarithmic axis, above the density of the particles."""
    x = here.x.astype(np.float32)
    hill = 10 ** (DECADES[0] + STEEP * here.density / here.density.max())
    jacobians = (
        ("J₁, one Euler step", here.one_step, styles.ESTIMATOR_STYLES["qgf_jacobian"]),
        ("pₜ/p₁, whole chain", here.chain, styles.ESTIMATOR_STYLES["bptt"]),
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
                "line": look.line(2.5),
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


def cosine_figure(whole: Jitter, t: float) -> theme.Figure:
    """Cosine between the guidance of particles and of their neighbours, over time."""
    traces = []
    for name, cosine, same in zip(whole.estimators, whole.cosine, whole.same_sign, strict=True):
        look = styles.ESTIMATOR_STYLES[name]
        guided = zip(cosine.round(4).tolist(), same > 0, strict=True)  # else nothing to compare
        traces.append(
            {
                "type": "scatter",
                "x": whole.times,
                "y": [value if some else None for value, some in guided],
                "mode": "lines+markers",
                "line": look.line(2.5),
                "marker": look.marker(7),
                "name": ESTIMATOR_NAMES[name],
                "hovertemplate": f"{ESTIMATOR_NAMES[name]}: %{{y:.3f}}<extra></extra>",
            }
        )
    return theme.figure(
        traces,
        x="time t",
        y="cosine between neighbours",
        x_range=(-0.02, 1),
        y_range=(-0.3, 1.05),
        showlegend=True,
        margin={"t": 76},
        shapes=[theme.line(x=t, colour=theme.GREY)],
    )


def cost_figure(whole: Jitter) -> theme.Figure:
    """Network passes per action, and measured milliseconds, as bars."""
    names = [ESTIMATOR_NAMES[name] for name in whole.estimators]
    colours = [styles.ESTIMATOR_STYLES[name].colour for name in whole.estimators]
    traces: list[dict[str, Any]] = []
    layout = theme.columns(["network passes", "measured ms"], x="", x_range=(0, 1), gap=0.08)
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
                "marker": {"color": colours},
                "text": [number(value, 2) for value in values],
                "textposition": "outside",
                "hoverinfo": "skip",
            }
        )
    return theme.figure(traces, yaxis={"autorange": "reversed"}, margin={"l": 110}, **layout)


# ----------------------------------------------------------------------------------- the view


DISTANCES = (0.005, 0.01, 0.02, 0.05, 0.1)


def present(found: Shaken) -> View:
    whole, here = found.whole, found.here
    params, t = found.params, found.params.time
    names = whole.estimators
    mean = {  # over the times at which there is guidance
        name: float(cosine[same > 0].mean())
        for name, cosine, same in zip(names, whole.cosine, whole.same_sign, strict=True)
    }
    bends = {  # the factor on the critic's gradient
        name: f"{number(float(j.min()), 2)} to {number(float(j.max()), 2)}"
        for name, j in (("qgf_jacobian", here.one_step), ("bptt", here.chain))
    }
    one, chain = (number(float(j.max()), 2) for j in (here.one_step, here.chain))
    qgf, bptt = names.index("qgf"), names.index("bptt")
    return View(
        summary=(
            f"Preset {params.preset}, t = {fixed(t)}: J₁ reaches {one}, the chain's "
            f"Jacobian {chain}. Neighbours {chosen(whole.distance)} apart: mean "
            f"cosine of the guidance {fixed(mean['qgf'])} for QGF, {fixed(mean['bptt'])} for BPTT, "
            f"which takes {fixed(whole.passes[bptt] / whole.passes[qgf], 1)} times the network "
            "passes."
        ),
        figures={
            "jacobians": jacobians_figure(here),
            "cosine": cosine_figure(whole, t),
            "cost": partial(cost_figure, whole),
        },
        readouts=(
            Readout("pₜ/p₁, from least to greatest", bends["bptt"]),
            Readout("mean cosine, QGF", fixed(mean["qgf"], 3)),
            Readout("mean cosine, BPTT", fixed(mean["bptt"], 3)),
        ),
        table=Table(
            (
                "estimator",
                f"Jacobian at t = {fixed(t)}",
                "mean cosine",
                "mean share of equal sign",
                "typical pair differs by",
                "network passes",
                "ms",
            ),
            tuple(
                (
                    ESTIMATOR_NAMES[name],
                    bends.get(name, "–"),
                    fixed(mean[name], 3),
                    fixed(same[same > 0].mean(), 3),
                    percent(difference[same > 0].mean()),
                    f"{passes}",
                    number(ms),
                )
                for name, same, difference, passes, ms in zip(
                    names, whole.same_sign, whole.difference, whole.passes, whole.ms, strict=True
                )
            ),
        ),
        code=styles.code(
            "backprop",
            params,
            "found.here.one_step.max(), found.here.chain.max(), "
            "dict(zip(found.whole.estimators, found.whole.cosine))",
        ),
    )


def _how_alike() -> tuple[int, str]:
    """Preset B: BPTT's guidance at neighbours 0.02 apart, over all steps."""
    whole = backprop.run(BackpropParams()).whole
    place = whole.estimators.index("bptt")
    same, difference, cosine = (
        float(values[place].mean()) for values in (whole.same_sign, whole.difference, whole.cosine)
    )
    right = 0 if difference < 0.02 else 1 if same > 0.9 else 2
    return right, (
        f"{percent(same, 1)} of the pairs have one sign, and a typical pair differs by "
        f"{percent(difference)}. Taken together their gradients look unrelated all the same, "
        f"cosine {fixed(cosine)}: a few pairs on ridges between modes are so large that they "
        "decide."
    )


PREDICT = Predict(
    question=(
        "The exact way to ask “how would the final action change?” is to differentiate "
        "through all remaining steps. Two particles stand 0.02 apart. How alike are their "
        "gradients, for a typical pair?"
    ),
    choices=("nearly equal", "of the same sign mostly", "hardly related"),
    answer=_how_alike,
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """How gradients through one step and through the whole flow differ from point to point.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `time=0.9`.
    """
    controls = (
        Range(name="time", label="Time t", min=0.05, max=0.95, step=0.05),
        Range(
            name="distance",
            label="Distance of neighbours",
            values=DISTANCES,
            live=False,
            heavy=True,
        ),
        Choice(name="preset", label="Preset", options=styles.PRESET_NAMES, heavy=True),
        Range(
            name="n_steps",
            label="Euler steps T",
            values=(5, 10, 20, 50),
            live=False,
            more=True,
            heavy=True,
        ),
        Range(name="seed", label="Seed", min=0, max=20, live=False, more=True, heavy=True),
    )
    return Explorer(
        name="qgf_backprop",
        title="Why backpropagation through time shakes",
        params=BackpropParams,
        compute=backprop.run,
        present=present,
        controls=controls,
        plots=(
            Plot(
                name="jacobians",
                label="Jacobians of the one-step estimate and of the whole flow over x",
                caption="How far the estimate moves when x moves. Dotted: 1, which QGF assumes "
                "everywhere. Grey: where particles are at this time.",
                span=6,
                height=360,
            ),
            Plot(
                name="cosine",
                label="Cosine between guidance at neighbouring points over time",
                caption="All particles' guidance as one vector, against that of their neighbours: "
                "1 means that a small step changes nothing. Few large entries decide it.",
                span=6,
                height=360,
            ),
            Plot(
                name="cost",
                label="Network passes per action and measured time",
                caption="Passes as if field and critic were networks; milliseconds for 1,000 "
                "particles of the closed-form field, measured once, here.",
                height=230,
                tab="Cost",
            ),
        ),
        predict=predict,
        defaults={
            "time": 0.5,
            "distance": 0.02,
            "preset": "B",
            "n_steps": 10,
            "seed": 0,
            **values,
        },
    )
