"""Optimiser or sampler? Return against the distance from the data, for every estimator."""

from functools import partial
from typing import Any

import numpy as np

from intuitive.qgf.experiments import frontier
from intuitive.qgf.experiments.frontier import SWEPT, Compared, FrontierParams
from intuitive.qgf.guidance import ESTIMATOR_NAMES, ESTIMATORS
from intuitive.qgf.sweep import COMPARED, Front, Sweep, best_at, least_kl
from intuitive.qgf.trimodal import PRESETS

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


FARTHEST = 4.0  # nats; what lies farther from the data is left to the table
BELOW = 0.5  # of the possible gain, shown below the return of the data


def _returns(sweep: Sweep) -> tuple[float, float]:
    """Limits of the return's axis: from somewhat below the data's to the best."""
    least, most = float(sweep.by_return.true_return[0]), float(sweep.by_return.true_return[-1])
    return least - BELOW * (most - least), most + 0.06 * (most - least)


def _curve(
    estimator: str, x: np.ndarray, y: np.ndarray, shown: np.ndarray, chosen: str
) -> dict[str, Any]:
    """One estimator's curve, thicker if it is the chosen one."""
    look = styles.ESTIMATOR_STYLES[estimator]
    here = estimator == chosen
    return {
        "type": "scatter",
        "x": [float(v) if s else None for v, s in zip(x, shown, strict=True)],
        "y": y.round(4),
        "mode": "lines+markers",
        "line": look.line(3.5 if here else 1.5),
        "marker": look.marker(9 if here else 6),
        "name": ESTIMATOR_NAMES[estimator],
        "hovertemplate": f"{ESTIMATOR_NAMES[estimator]}: %{{y:.3f}}<extra></extra>",
    }


def front_figure(sweep: Sweep, estimator: str, place: int) -> theme.Figure:
    """Return over KL from the data.

    Args:
        sweep: the estimators over the weight.
        estimator: the one looked at.
        place: of the weight looked at, in `sweep.weights`.
    """
    low, high = _returns(sweep)
    front = sweep.by_return
    near = front.kl <= 1.2 * FARTHEST
    kl = [*front.kl[near].round(4).tolist(), FARTHEST]
    best = [*front.true_return[near].round(4).tolist(), float(front.true_return[near][-1])]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "x": [*kl, kl[-1], 0, kl[0]],
            "y": [*best, high, high, best[0]],
            "mode": "lines",
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": "rgba(127,127,127,0.18)",
            "hoverinfo": "skip",
            "name": "impossible",
        },
        {
            "type": "scatter",
            "x": kl,
            "y": best,
            "mode": "lines",
            "line": {"color": theme.GREEN, "width": 3},
            "hoverinfo": "skip",
            "name": "front (tilts)",
        },
    ]
    chosen = next(curve for curve in sweep.curves if curve.estimator == estimator)
    traces += [
        _curve(
            curve.estimator,
            curve.kl_to_bc.round(4),
            curve.true_return,
            curve.kl_to_bc <= FARTHEST,
            estimator,
        )
        for curve in sweep.curves
    ]
    x = [float(sweep.by_critic.kl[place]), float(chosen.kl_to_bc[place])]
    y = [float(sweep.by_critic.true_return[place]), float(chosen.true_return[place])]
    traces.append(
        {
            "type": "scatter",
            "x": x,
            "y": y,
            "mode": "lines+markers",
            "line": {"color": theme.GREY, "width": 1.5, "dash": "dot"},
            "marker": {
                "size": 16,
                "symbol": ["star-open", "circle-open"],
                "color": [theme.GREEN, styles.ESTIMATOR_STYLES[estimator].colour],
                "line": {"width": 2.5},
            },
            "showlegend": False,
            "hoverinfo": "skip",
        }
    )
    return theme.figure(
        traces,
        x="KL from the data (nats)",
        y="mean true return",
        x_range=(0, FARTHEST),
        y_range=(low, high),
        showlegend=True,
        margin={"t": 96},
    )


def weight_figure(sweep: Sweep, estimator: str, place: int) -> theme.Figure:
    """Return over the guidance weight, with the exact tilt at the same weight."""
    low, high = _returns(sweep)
    weights = np.array(sweep.weights)
    everywhere = np.ones(len(weights), dtype=bool)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "x": weights,
            "y": sweep.by_critic.true_return.round(4),
            "mode": "lines",
            "line": {"color": theme.GREEN, "width": 3},
            "hoverinfo": "skip",
        }
    ]
    traces += [
        _curve(
            curve.estimator,
            weights,
            np.clip(curve.true_return, 3 * low - 2 * high, None),  # off the plot, but no farther
            everywhere,
            estimator,
        )
        for curve in sweep.curves
    ]
    return theme.figure(
        traces,
        x="guidance weight w",
        y="mean true return",
        x_range=(np.log10(weights[0]) - 0.05, np.log10(weights[-1]) + 0.05),
        y_range=(low, high),
        xaxis={"type": "log", "tickvals": [0.1, 1, 10]},
        margin={"t": 96},
        shapes=[theme.line(x=sweep.weights[place], colour=theme.GREY)],
    )


# ----------------------------------------------------------------------------------- the view


def present(found: Compared) -> View:
    sweep, place, curve = found.sweep, found.place, found.curve
    front = sweep.by_return
    name, weight = ESTIMATOR_NAMES[found.estimator], sweep.weights[place]
    kl, got = float(curve.kl_to_bc[place]), float(curve.true_return[place])
    tilt_kl, tilt_got = float(sweep.by_critic.kl[place]), float(sweep.by_critic.true_return[place])
    rows = tuple(
        (
            ESTIMATOR_NAMES[c.estimator],
            fixed(c.true_return[place], 3),
            fixed(c.critic[place], 3),
            number(c.kl_to_bc[place]),
            fixed(best_at(front, float(c.kl_to_bc[place])), 3),
            fixed(least_kl(front, float(c.true_return[place]))),
            percent(c.off_mode[place]),
        )
        for c in sweep.curves
    )
    tilt_row = (
        "exact tilt, same w",
        fixed(tilt_got, 3),
        fixed(sweep.by_critic.critic[place], 3),
        number(tilt_kl),
        fixed(best_at(front, tilt_kl), 3),
        fixed(least_kl(front, tilt_got)),
        "–",
    )
    return View(
        summary=(
            f"Preset {found.params.preset}, {name} at w = {chosen(weight)}: return "
            f"{fixed(got)} at {fixed(kl, unit='nats')} from the data. The exact tilt at this w has "
            f"{fixed(tilt_got)} at {fixed(tilt_kl, unit='nats')}, and {_verdict(front, kl, got)}."
        ),
        figures={
            "front": front_figure(sweep, found.estimator, place),
            "over_weight": partial(weight_figure, sweep, found.estimator, place),
        },
        readouts=(
            Readout("return", fixed(got, 3)),
            Readout("KL from the data", fixed(kl, unit="nats")),
            styles.stability(
                float(sweep.stability[place]), ascends=ESTIMATORS[found.estimator].ascends
            ),
        ),
        table=Table(
            (
                f"w = {chosen(weight)}",
                "true return",
                "critic's Q",
                "KL from the data (nats)",
                "most return at this KL",
                "least KL for this return",
                "off every mode",
            ),
            (*rows, tilt_row),
        ),
        code=styles.code(
            "frontier",
            found.params,
            "found.curve.kl_to_bc[found.place], found.curve.true_return[found.place]",
        ),
    )


def _verdict(front: Front, kl: float, got: float) -> str:
    """What the front says of a return at a distance."""
    nothing, needed = float(front.true_return[0]), least_kl(front, got)
    if got < nothing:
        return f"doing nothing has {fixed(nothing)}"
    if needed > kl:  # no sample can: its distance was counted in bins
        return (
            f"{fixed(got)} takes at least {fixed(needed, unit='nats')}: bins of σ/3 are too wide "
            "for so narrow a sample"
        )
    return f"{fixed(needed, unit='nats')} would do for {fixed(got)}"


def _qgf_and_the_front() -> tuple[int, str]:
    """Preset B at w = 1: QGF's return beside the most at its distance."""
    found = frontier.run(FrontierParams())
    kl, got = (
        float(values[found.place]) for values in (found.curve.kl_to_bc, found.curve.true_return)
    )
    most = best_at(found.sweep.by_return, kl)
    right = 1 if abs(got - most) < 0.005 else 0 if got > most else 2
    return right, (
        f"QGF earns {fixed(got, 3)} at {fixed(kl, unit='nats')} from the data, where "
        f"{fixed(most, 3)} is possible; {fixed(least_kl(found.sweep.by_return, got), unit='nats')} "
        "would do for its return. Nothing lies above the frontier: it holds the best of all "
        "distributions."
    )


PREDICT = Predict(
    question=(
        "Preset B, w = 1. Of all distributions with the same mean return, the exact tilt "
        "stays closest to the data. QGF earns far more than the tilt of the same w. Does it "
        "beat the green frontier?"
    ),
    choices=("yes, it lies above", "it lies on it", "no, it lies below"),
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
            label="Estimator",
            options={name: ESTIMATOR_NAMES[name] for name in COMPARED},
        ),
        Range(
            name="weight",
            label="Guidance weight w",
            values=SWEPT,
            texts=tuple(map(chosen, SWEPT)),
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
        controls=controls,
        plots=(
            Plot(
                name="front",
                label="Mean true return against KL from the data, for each estimator over w",
                caption="Each curve follows one estimator from small to large w. Nothing can lie "
                "in the grey area: the tilts of the data by the return are its edge. Star: the "
                "exact tilt at this w; circle: the estimator. KL is counted in bins of σ/3, which "
                f"reads low when samples collapse; beyond {chosen(FARTHEST)} nats, see Values.",
                height=440,
            ),
            Plot(
                name="over_weight",
                label="Mean true return over the guidance weight",
                caption="The same curves over w. Green: the exact tilt. The same w means something "
                "else to every estimator.",
                height=400,
                tab="Over the weight",
            ),
        ),
        predict=predict,
        defaults={
            **first,
            "estimator": "qgf",
            "weight": 1.0,
            "n_steps": 20,
            "seed": 0,
            **values,
        },
    )
