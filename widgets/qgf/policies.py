"""Policies on the fork world: rollouts live, curves over the weight from the committed runs."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from intuitive.common.runtime import never
from intuitive.common.training import Progress, silent
from intuitive.qgf import results
from intuitive.qgf.experiments import policies
from intuitive.qgf.experiments.policies import PolicyParams, PolicyResult
from intuitive.qgf.guidance import Stale
from intuitive.qgf.policies import WAYS, WEIGHTS
from intuitive.qgf.results import ForkRuns

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
    percent,
)
from . import styles
from .styles import Style

# ------------------------------------------------------------------------------------- figures


MEASURES = {"success": "episodes won", "returns": "mean return"}
LIMITS = {"success": (0, 1.02), "returns": (-50, 0)}
REACH = 1.05  # of the plane that is shown
LOST = "rgba(140,140,140,0.4)"


def style(way: str) -> Style:
    """How a way of acting is drawn: as its estimator, best of 16 with longer dashes than of 4."""
    plain = styles.ESTIMATOR_STYLES[WAYS[way].estimator]
    return plain._replace(dash="longdashdot") if WAYS[way].n_candidates > 4 else plain


def _joined(paths: np.ndarray) -> dict[str, list[float | None]]:
    """Several paths as one line with gaps, each as far as it moves."""
    x: list[float | None] = []
    y: list[float | None] = []
    for path in paths.astype(float).round(3):
        moving = np.flatnonzero((path != path[-1]).any(1))
        path = path[: moving[-1] + 2] if len(moving) else path[:1]
        x += [*path[:, 0].tolist(), None]
        y += [*path[:, 1].tolist(), None]
    return {"x": x, "y": y}


def paths_figure(result: PolicyResult) -> theme.Figure:
    """Where each way of acting went, side by side; the paying goal is filled."""
    traces, shapes = [], []
    layout = theme.columns(
        [f"{way.label}:<br>{percent(way.success)} won" for way in result.ways],
        x="",
        x_range=(-REACH, REACH),
    )
    for column, way in enumerate(result.ways):
        axis = theme.x_axis(column)
        layout[axis.replace("x", "xaxis")] |= {"scaleanchor": "y", "constrain": "domain"}
        for won, line in (
            (False, {"color": LOST, "width": 0.8}),
            (True, style(way.name).line(1.3)),
        ):
            if (way.won == won).any():
                traces.append(
                    {
                        "type": "scatter",
                        **_joined(way.paths[way.won == won]),
                        "mode": "lines",
                        "line": line | {"dash": "solid"},
                        "xaxis": axis,
                        "hoverinfo": "skip",
                    }
                )
        for index, (x, y) in enumerate(result.goals.tolist()):
            shapes.append(
                {
                    "type": "circle",
                    **{"x0": x - result.reach, "x1": x + result.reach},
                    **{"y0": y - result.reach, "y1": y + result.reach},
                    **{"xref": axis, "yref": "y"},
                    "line": {"color": theme.GREEN if index == 0 else theme.GREY, "width": 2},
                    "fillcolor": "rgba(0,158,115,0.35)" if index == 0 else "rgba(0,0,0,0)",
                    "layer": "below",
                }
            )
    return theme.figure(
        traces,
        y_range=(-REACH, REACH),
        yaxis={"constrain": "domain"},
        margin={"t": 50, "b": 30},
        shapes=shapes,
        **layout,
    )


def curves_figure(
    runs: ForkRuns, measure: str, ways: Sequence[str], weight: int | float
) -> theme.Figure:
    """One measure over the weight: mean of the scored seeds, band from the least to the greatest.

    Args:
        runs: the committed runs.
        measure: a key of `MEASURES`.
        ways: those shown; one without a weight is a level line.
        weight: where the vertical line stands.
    """
    tried = sorted(
        {w for curve in runs.curves for w in curve.weights if WAYS[curve.way].takes_weight}
    )
    low, high = tried[0], tried[-1]
    traces = []
    for way in ways:
        curve, look = runs.curve(way), style(way)
        table = np.array([curve.at(w, runs.scored, measure) for w in curve.weights])  # [w, seeds]
        x = list(curve.weights)
        if len(x) == 1:
            x, table = [low, high], table.repeat(2, 0)
        traces += [
            {
                "type": "scatter",
                "x": [*x, *x[::-1]],
                "y": np.concatenate([table.max(1), table.min(1)[::-1]]),
                "mode": "lines",
                "line": {"width": 0},
                "fill": "toself",
                "fillcolor": look.colour,
                "opacity": 0.15,
                "hoverinfo": "skip",
                "showlegend": False,
            },
            {
                "type": "scatter",
                "x": x,
                "y": table.mean(1),
                "mode": "lines",
                "line": look.line(),
                "name": WAYS[way].label,
            },
        ]
        if WAYS[way].takes_weight:
            chosen = runs.chosen[way]
            traces.append(
                {
                    "type": "scatter",
                    "x": [chosen],
                    "y": [statistics.mean(curve.at(chosen, runs.scored, measure))],
                    "mode": "markers",
                    "marker": look.marker(10),
                    "showlegend": False,
                    "name": f"{WAYS[way].label}, weight chosen on other seeds",
                }
            )
    return theme.figure(
        traces,
        x="guidance weight w",
        y=MEASURES[measure],
        x_range=(np.log10(low) - 0.05, np.log10(high) + 0.05),
        y_range=LIMITS[measure],
        xaxis={"type": "log", "tickvals": WEIGHTS},
        showlegend=True,
        margin={"t": 76},
        shapes=[theme.line(x=weight, colour=theme.GREY)],
    )


def time_figure(runs: ForkRuns, ways: Sequence[str]) -> theme.Figure:
    """Time of a decision over BC's, for every way; those looked at are opaque."""
    order = sorted(runs.decision_ms, key=runs.relative_time, reverse=True)
    times = [runs.relative_time(way) for way in order]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": times,
        "y": [WAYS[way].label for way in order],
        "marker": {
            "color": [style(way).colour for way in order],
            "opacity": [1.0 if way in ways else 0.4 for way in order],
        },
        "text": [fixed(time, 1) for time in times],
        "textposition": "outside",
        "hovertemplate": "%{y}: %{x:.3g} times BC<extra></extra>",
    }
    return theme.figure(
        [bars],
        x="time, BC = 1",
        x_range=(0, 1.3 * max(times)),
        margin={"l": 104},
    )


# ----------------------------------------------------------------------------------- the view


SETS = {
    "bc,ood,qgf,best_of_n_4": "BC, OOD, QGF, best of 4",
    "qgf,qgf_jacobian,chain,bptt": "QGF and its more exact versions",
    "qgf,ood,robust_q,grad_step": "where the gradient is taken",
    "qgf,cfgrl,best_of_n_4,best_of_n_16": "QGF and methods without a gradient",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Policies:
    """Live rollouts of one agent, and the committed runs of several."""

    live: PolicyResult
    runs: ForkRuns


def act(
    params: PolicyParams,
    *,
    stale: Stale = never,
    progress: Progress = silent,
) -> Policies:
    """Roll out now, and read the committed runs."""
    live = policies.run(params, stale=stale, progress=progress)
    return Policies(live=live, runs=results.fork().values)


def _spread(values: list[float], write: Callable[[float], str]) -> str:
    mean, least, most = map(write, (statistics.mean(values), min(values), max(values)))
    return f"{mean} ({least} to {most})"


def _seeds(n: int) -> str:
    return f"{n} seed" + "s" * (n != 1)


def present(found: Policies) -> View:
    live, runs = found.live, found.runs
    params = live.params
    won = ", ".join(f"{way.label} {percent(way.success)}" for way in live.ways)
    here = {way.name: way.mean_return for way in live.ways}
    ranked = sorted(live.ways, key=lambda way: way.mean_return)
    best = max(params.names, key=lambda name: statistics.mean(runs.score(name, "returns")))
    rows = tuple(
        (
            WAYS[curve.way].label,
            chosen(runs.chosen[curve.way]) if WAYS[curve.way].takes_weight else "–",
            _spread(runs.score(curve.way), percent),
            _spread(runs.score(curve.way, "returns"), partial(fixed, decimals=1)),
            fixed(statistics.mean(runs.score(curve.way, "first_q")), 1),
            fixed(here[curve.way], 1) if curve.way in here else "–",
            fixed(runs.relative_time(curve.way), 1),
        )
        for curve in runs.curves
    )
    return View(
        summary=(
            f"At w = {chosen(params.weight)}, of {params.n_episodes} episodes are won: {won}. Over "
            f"{_seeds(len(runs.scored))}, with weights chosen on {_seeds(len(runs.tuning))} not "
            f"scored, {WAYS[best].label} has the highest return of these, "
            f"{fixed(statistics.mean(runs.score(best, 'returns')), 1)}."
        ),
        figures={
            "paths": paths_figure(live),
            "success": partial(curves_figure, runs, "success", params.names, params.weight),
            "returns": partial(curves_figure, runs, "returns", params.names, params.weight),
            "time": partial(time_figure, runs, params.names),
        },
        readouts=tuple(
            Readout(f"{place} return here, {way.label}", fixed(way.mean_return, 1))
            for place, way in (("highest", ranked[-1]), ("lowest", ranked[0]))
        ),
        table=Table(
            (
                f"{_seeds(len(runs.scored))}: mean (least to greatest)",
                "chosen w",
                "won",
                "return",
                "critic's Q at the start",
                f"return here, w = {chosen(params.weight)}",
                "time, BC = 1",
            ),
            rows,
        ),
        code=styles.code(
            "policies", params, "{way.label: (way.success, way.mean_return) for way in found.ways}"
        ),
    )


def _how_much() -> tuple[int, str]:
    """The committed runs: won by imitation and by QGF at its chosen weight."""
    runs = results.fork().values
    bc, qgf = (statistics.mean(runs.score(way)) for way in ("bc", "qgf"))
    right = min(range(3), key=lambda i: abs(qgf - (bc, 0.5, 0.9)[i]))
    return right, (
        f"Imitation wins {percent(bc)}, QGF {percent(qgf)} of the episodes, mean of "
        f"{_seeds(len(runs.scored))} with the weight chosen on others. Only the sampling differs."
    )


PREDICT = Predict(
    question=(
        "Imitation wins about a quarter of its episodes. How much can guidance alone add, "
        "with no training at all?"
    ),
    choices=("a little", "to about one half", "to nine out of ten"),
    answer=_how_much,
)


def explorer(*, predict: Predict | None = None, **values: object) -> Explorer:
    """Guided policies act on the fork world: paths, winnings over the weight, time.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `weight=30.0`.
    """
    first = dataclasses.asdict(PolicyParams(ways=next(iter(SETS))))
    controls = (
        Choice(name="ways", label="Compare", options=SETS, heavy=True),
        Range(name="weight", label="Guidance weight w", values=WEIGHTS, live=False, heavy=True),
        Range(
            name="n_episodes",
            label="Episodes",
            values=(10, 20, 40, 100),
            live=False,
            more=True,
            heavy=True,
        ),
        Range(
            name="n_steps",
            label="Euler steps T",
            values=(5, 10, 20, 40),
            live=False,
            more=True,
            heavy=True,
        ),
        Range(name="seed", label="Seed", min=0, max=20, live=False, more=True, heavy=True),
    )
    return Explorer(
        name="qgf_policies",
        title="Policies on the fork world",
        params=PolicyParams,
        compute=act,
        present=present,
        controls=controls,
        plots=(
            Plot(
                name="paths",
                label="Paths of the same agent acting in several ways, from the same starts",
                caption="Only the filled goal pays. Strong lines won, faint ones did not. BC "
                "imitates the data, which goes to every goal equally often.",
                height=306,
            ),
            Plot(
                name="success",
                label="Share of episodes won over the guidance weight",
                caption="Lines: mean over seeds; bands: least to greatest. Markers: the weight "
                "chosen on seeds that are not scored. Dotted: the weight of the paths above.",
                span=6,
                height=330,
                tab="Over the weight",
            ),
            Plot(
                name="returns",
                label="Mean return over the guidance weight",
                caption="A return of −10 is a goal reached after 10 steps; −50 is never.",
                span=6,
                height=330,
                tab="Over the weight",
            ),
            Plot(
                name="time",
                label="Time of a decision relative to BC",
                caption="Measured for 300 states at once on one CPU thread.",
                height=330,
                tab="Time",
            ),
        ),
        predict=predict,
        defaults={**first, **values},
    )
