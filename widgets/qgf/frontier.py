"""Optimiser or sampler? Return against the distance from the data, for every estimator."""

from functools import partial
from typing import Any

import numpy as np

from intuitive.qgf.experiments import frontier
from intuitive.qgf.experiments.frontier import Compared, FrontierParams
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.sweep import COMPARED, Sweep, best_at, least_kl
from intuitive.qgf.trimodal import PRESETS

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
    Timeline,
    View,
    fixed,
    percent,
)
from . import styles
from .frontier_scene import Picture, told_weight
from .labels import end_names
from .styles import distance, reading

PACE_MS = 900


def weight_figure(sweep: Sweep, estimator: str, low: float, high: float) -> theme.Figure:
    """Return over the guidance weight, with the exact tilt at the same weight.

    Args:
        sweep: the estimators over the weight.
        estimator: the chosen one.
        low, high: ends of the axis; what earns less stands at the lower end as a triangle.
    """
    weights = np.array(sweep.weights)
    curves = [("exact tilt", sweep.by_critic.true_return, theme.GREEN, 3.0, 1.0)]
    for curve in sorted(sweep.curves, key=lambda c: c.estimator == estimator):
        strong = curve.estimator == estimator
        name = ESTIMATOR_NAMES[curve.estimator]
        look = (theme.GREY, 3.5, 1.0) if strong else (theme.GREY, 1.2, 0.6)
        curves.append((name, curve.true_return, *look))
    traces: list[dict[str, Any]] = []
    ends: list[tuple[str, float, int]] = []
    for name, earned, colour, width, opacity in sorted(curves, key=lambda c: -c[1][-2]):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": weights,
                "y": np.clip(earned, low, None).round(4),
                "line": {"color": colour, "width": width},
                "marker": {
                    "color": colour,
                    "size": 8 if width > 3 else 5,
                    "symbol": ["triangle-down" if v < low else "circle" for v in earned],
                },
                "opacity": opacity,
                "name": name,
                "hovertemplate": f"{name}: %{{y:.2f}}<extra></extra>",
            }
        )
        ends.append((name, max(float(earned[-1]), low), 14 if width > 3 else 12))
    last = float(np.log10(weights[-1]))
    notes = end_names(ends, x=last, tail=last + 0.07, gap=(high - low) * 0.055, low=low)
    return theme.figure(
        traces,
        x="guidance weight w",
        y="mean true return",
        x_range=(np.log10(weights[0]) - 0.05, np.log10(weights[-1]) + 0.5),
        y_range=(low, high),
        xaxis={"type": "log", "tickvals": [0.1, 1, 10]},
        annotations=notes,
    )


# ----------------------------------------------------------------------------------- the view


def present(found: Compared) -> View:
    sweep, picture = found.sweep, Picture(found)
    first, last = (told_weight(sweep.weights[place]) for place in (0, -1))
    curve = partial(weight_figure, sweep, found.estimator, picture.low, picture.high)
    return View(
        summary=(
            f"Preset {found.params.preset}, T = {found.params.n_steps}: "
            f"{len(sweep.curves)} methods over w from {first} to {last}, "
            f"{sweep.params.n_particles} particles each, seed {found.params.seed}; "
            f"{ESTIMATOR_NAMES[found.estimator]} is followed."
        ),
        timeline=Timeline(frames=picture.frames(), axis="weight w", start=0, pace_ms=PACE_MS),
        figures={"over_weight": curve},
        readouts=picture.readouts(0),
        table=_table(sweep),
        code=styles.code(
            "frontier",
            found.params,
            "found.curve.kl_to_bc[found.place], found.curve.true_return[found.place]",
        ),
    )


def _table(sweep: Sweep) -> Table:
    """Every method at every weight."""
    front, rows = sweep.by_return, []
    for place, w in enumerate(sweep.weights):
        parts = [
            (ESTIMATOR_NAMES[c.estimator], c.true_return, c.critic, c.kl_to_bc, c.off_mode)
            for c in sweep.curves
        ]
        tilt = sweep.by_critic
        parts.append(("exact tilt", tilt.true_return, tilt.critic, tilt.kl, None))
        for name, earned, critic, kl, off in parts:
            rows.append(
                (
                    told_weight(w),
                    name,
                    reading(earned[place]),
                    reading(critic[place]),
                    distance(kl[place]),
                    fixed(best_at(front, float(kl[place])), 3),
                    fixed(least_kl(front, float(earned[place]))),
                    "–" if off is None else percent(off[place]),
                )
            )
    header = (
        "w",
        "method",
        "true return",
        "critic's Q",
        "KL from the data, nats",
        "most return at this KL",
        "least KL for this return",
        "off every mode",
    )
    return Table(header, tuple(rows))


def _qgf_and_the_front() -> tuple[int, str]:
    """Preset B at w = 1: QGF's return beside the most at its distance."""
    found = frontier.run(FrontierParams())
    kl, got = (
        float(values[found.place]) for values in (found.curve.kl_to_bc, found.curve.true_return)
    )
    front = found.sweep.by_return
    most, needed = best_at(front, kl), least_kl(front, got)
    right = min(range(3), key=lambda i: abs(needed / kl - (0.95, 0.67, 0.4)[i]))
    return right, (
        f"QGF earns {fixed(got, 3)} at {fixed(kl, unit='nats')} from the data; "
        f"{fixed(needed, unit='nats')} would do for that. With QGF's distance {fixed(most, 3)} "
        "could be earned. It optimises, and wastes distance."
    )


PREDICT = Predict(
    question=(
        "Preset B, w = 1. QGF earns far more than the exact tilt of the same w, and goes farther "
        "from the data for it. Another tilt earns just what QGF earns. How far from the data "
        "must it go?"
    ),
    choices=("nearly as far as QGF", "about two thirds as far", "less than half as far"),
    answer=_qgf_and_the_front,
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Every estimator's return against its distance from the data, under the provable front.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `preset="C"`.
    """
    brought = {
        name: {"peak": preset.peak, "bump_height": preset.bump_height}
        for name, preset in PRESETS.items()
    }
    first = {"preset": "B", **brought["B"]}
    if "preset" in values:
        first |= brought.get(values["preset"], {})
    sweeps = {"live": False, "more": True, "heavy": True}
    controls = (
        Choice(
            name="estimator",
            label="Follow",
            options={name: ESTIMATOR_NAMES[name] for name in COMPARED},
        ),
        Choice(
            name="preset", label="Preset", options=styles.PRESET_NAMES, sets=brought, heavy=True
        ),
        Range(name="peak", label="Critic's peak a*", min=-2, max=2, step=0.05, **sweeps),
        Range(name="bump_height", label="Height of the bump", min=0, max=3, step=0.1, **sweeps),
        Range(name="n_steps", label="Euler steps T", values=(10, 20, 50), **sweeps),
        Range(name="seed", label="Seed", min=0, max=20, **sweeps),
    )
    return Explorer(
        name="qgf_frontier",
        title="Optimiser or sampler?",
        params=FrontierParams,
        compute=frontier.run,
        present=present,
        hero=Hero(
            label="Mean true return against KL from the data, for each method over the weight w, "
            "and the frontier that no distribution crosses"
        ),
        controls=controls,
        steps=(
            Step(
                title="Turn up w",
                text="Each dot is a method; w grows from frame to frame. Nothing can rise above "
                "the green edge. Watch the strong dot, until steps of ascent become too long.",
                sets={"estimator": "qgf"},
                frame="play",
            ),
            Step(
                title="Read one weight",
                text="At w = 1: what does the strong dot earn, how far from the data, and for how "
                "many nats could the same be had? Even exact guidance misses the edge a little: "
                "its T steps are finite.",
                sets={"estimator": "qgf"},
                frame="w = 1",
            ),
            Step(
                title="Keep the derivative",
                text="flow-DPS keeps the derivative that QGF drops and weighs it by (1 − t)/t. At "
                "w = 1 it earns less and stays nearer to the edge.",
                sets={"estimator": "flow_dps"},
                frame="w = 1",
            ),
            Step(
                title="Ask the noise",
                text="OOD climbs the bump that no return pays. From some w on its dot leaves the "
                "picture; the arrow says how far it is.",
                sets={"estimator": "ood"},
                frame="w = 1",
            ),
            Step(
                title="No error",
                text="Preset A, a critic without error: at w = 0.22 OOD earns about as much as QGF "
                "and stays nearer to the data. From w = 1 on QGF earns more.",
                sets={"preset": "A", "estimator": "ood"},
                frame="w = 0.22",
            ),
        ),
        plots=(
            Plot(
                name="over_weight",
                label="Mean true return over the guidance weight, by method",
                caption="The same curves over w. Green: the exact tilt. Triangles: out of sight. "
                "The same w means something else to every method.",
                height=380,
                tab="Over the weight",
            ),
        ),
        predict=predict,
        defaults={
            **first,
            "estimator": "qgf",
            "n_steps": 20,
            "seed": 0,
            **values,
        },
    )
