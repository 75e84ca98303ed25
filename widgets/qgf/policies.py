"""Policies on the fork world: episodes live, and averages over seeds from the committed runs."""

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

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
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Table,
    Timeline,
    View,
    chosen,
    fixed,
    percent,
)
from . import styles
from .labels import end_names
from .policies_figures import Picture, at_weight
from .styles import Style

MEASURES = {"success": "episodes won", "returns": "mean return"}
LIMITS = {"success": (0, 1.02), "returns": (-50, 0)}
METHODS, OVER_WEIGHT = "Methods, five seeds", "Over the weight"  # tabs
FADED = 0.35  # opacity of what is not looked at
PACE_MS = 170
OFFERED = {
    "bc": "imitation alone",
    "qgf": "QGF: ask at the estimate",
    "ood": "OOD: ask at the noisy chunk",
    "robust_q": "RobustQ: a critic for noisy chunks",
    "qgf_jacobian": "QGF-Jacobian",
    "chain": "QGF-chain",
    "bptt": "BPTT: through the whole chain",
    "grad_step": "GradStep: climb afterwards",
    "cfgrl": "CFGRL: a second policy",
    "best_of_n_4": "best of 4",
    "best_of_n_16": "best of 16",
}


def style(way: str) -> Style:
    """How a way of acting is drawn: by its estimator's dashes and marker, in grey, since the
    lesson's colours belong to modes; best of 16 with longer dashes than of 4."""
    plain = styles.ESTIMATOR_STYLES[WAYS[way].estimator]._replace(colour=theme.GREY)
    return plain._replace(dash="longdashdot") if WAYS[way].n_candidates > 4 else plain


# -------------------------------------------------------------------------- what the tabs show


def methods_figure(runs: ForkRuns, way: str) -> theme.Figure:
    """Return over the time of a decision, every way at its chosen weight; the one looked at is
    strong. Whiskers go from the least to the greatest of the scored seeds.
    """
    traces = []
    for curve in runs.curves:
        name, earned = curve.way, runs.score(curve.way, "returns")
        mean, here = statistics.mean(earned), curve.way == way
        traces.append(
            {
                "type": "scatter",
                "x": [runs.relative_time(name)],
                "y": [mean],
                "error_y": {
                    "type": "data",
                    "array": [max(earned) - mean],
                    "arrayminus": [mean - min(earned)],
                    "color": style(name).colour,
                    "thickness": 1.5,
                },
                "mode": "markers+text",
                "marker": style(name).marker(12 if here else 8),
                "text": [f"<b>{WAYS[name].label}</b>" if here else WAYS[name].label],
                "textposition": _beside(name),
                "opacity": 1.0 if here else 0.6,
                "hovertemplate": f"{WAYS[name].label}: return %{{y:.1f}}, time %{{x:.1f}}"
                "<extra></extra>",
                "name": WAYS[name].label,
            }
        )
    return theme.figure(
        traces,
        x="time of a decision, imitation = 1",
        y="mean return",
        x_range=(-0.12, 1.32),
        y_range=(-43, -6),
        xaxis={"type": "log", "tickvals": [1, 2, 4, 8, 16]},
    )


def _beside(name: str) -> str:
    """Where a method's name stands beside its point, so that none covers another."""
    return {
        "qgf": "bottom center",
        "robust_q": "top center",
        "ood": "top center",
        "qgf_jacobian": "top right",
        "best_of_n_16": "top left",
    }.get(name, "middle right")


def curves_figure(runs: ForkRuns, measure: str, way: str, weight: int | float) -> theme.Figure:
    """One measure over the weight: means of the scored seeds; the chosen way with its spread.

    Args:
        runs: the committed runs.
        measure: a key of `MEASURES`.
        way: the one that is strong; the others are faded.
        weight: where the vertical line stands.
    """
    weighted = [curve for curve in runs.curves if WAYS[curve.way].takes_weight]
    tried = sorted({w for curve in weighted for w in curve.weights})
    low, high = tried[0], tried[-1]
    traces, ends = [], []
    names = [curve.way for curve in weighted if curve.way != way]
    for name in dict.fromkeys([*names, "bc", way]):
        curve, look, here = runs.curve(name), style(name), name == way
        table = np.array([curve.at(w, runs.scored, measure) for w in curve.weights])  # [w, seeds]
        x = list(curve.weights)
        if len(x) == 1:
            x, table = [low, high], table.repeat(2, 0)
        ends.append((WAYS[name].label, float(table[-1].mean()), 14 if here else 11))
        if here:
            traces.append(
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
                }
            )
        traces.append(
            {
                "type": "scatter",
                "x": x,
                "y": table.mean(1),
                "mode": "lines",
                "line": look.line(3 if here else 1.5),
                "opacity": 1.0 if here or name == "bc" else FADED,
                "name": WAYS[name].label,
                "hovertemplate": f"{WAYS[name].label}: %{{y:.2f}} at w = %{{x}}<extra></extra>",
            }
        )
        if here and WAYS[name].takes_weight:
            best = runs.chosen[name]
            traces.append(
                {
                    "type": "scatter",
                    "x": [best],
                    "y": [statistics.mean(curve.at(best, runs.scored, measure))],
                    "mode": "markers",
                    "marker": look.marker(10),
                    "name": f"{WAYS[name].label}, weight chosen on other seeds",
                }
            )
    bottom, top = LIMITS[measure]
    end, gap = float(np.log10(high)), (top - bottom) * 0.062
    notes = end_names(ends, x=end, tail=end + 0.12, gap=gap, low=bottom + 0.3 * gap)
    return theme.figure(
        traces,
        annotations=notes,
        x="guidance weight w",
        y=MEASURES[measure],
        x_range=(end - float(np.log10(high / low)) - 0.05, end + 1.2),
        y_range=LIMITS[measure],
        xaxis={"type": "log", "tickvals": WEIGHTS},
        shapes=[theme.line(x=weight, colour=theme.GREY)],
    )


# ----------------------------------------------------------------------------------- the view


@dataclass(frozen=True, kw_only=True, eq=False)
class Policies:
    """Live rollouts of one agent, and the committed runs of several."""

    live: PolicyResult
    runs: ForkRuns


def settings(*, way: str, **rest: Any) -> PolicyParams:
    """The chosen way beside imitation; imitation alone."""
    return PolicyParams(ways=way if way == "bc" else f"bc,{way}", **rest)


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


def present(found: Policies) -> View:
    live, runs, params = found.live, found.runs, found.live.params
    picture = Picture(live, runs)
    way, n_seeds = picture.way, len(runs.scored)
    name, takes = at_weight(way), WAYS[way.name].takes_weight
    aside = "" if takes else " The weight plays no part in it."
    recorded = runs.chosen[way.name]  # where the weight in sight was not recorded
    if takes and params.weight in runs.curve(way.name).weights:
        recorded = params.weight
    best = f", each at w = {chosen(recorded)}" if takes else ""
    won, earned = (
        statistics.mean(runs.curve(way.name).at(recorded, runs.scored, measure))
        for measure in MEASURES
    )
    return View(
        summary=(
            f"{name[0].upper() + name[1:]}: {params.n_episodes} episodes of one agent, walked here "
            f"and now.{aside} Recorded average of {n_seeds} trained agents{best}: "
            f"{percent(won)} won, return {fixed(earned, 1)}."
        ),
        timeline=Timeline(frames=picture.frames(), axis="step", start=0, pace_ms=PACE_MS),
        arithmetic=picture.arithmetic(),
        figures={
            "methods": partial(methods_figure, runs, way.name),
            "success": partial(curves_figure, runs, "success", way.name, params.weight),
            "returns": partial(curves_figure, runs, "returns", way.name, params.weight),
        },
        table=_table(found),
        code=styles.code(
            "policies", params, "{way.label: (way.success, way.mean_return) for way in found.ways}"
        ),
    )


def _table(found: Policies) -> Table:
    """The committed runs, and what the episodes in sight earn."""
    live, runs = found.live, found.runs
    here = {way.name: way.mean_return for way in live.ways}
    rows = tuple(
        (
            WAYS[curve.way].label,
            chosen(runs.chosen[curve.way]) if WAYS[curve.way].takes_weight else "–",
            _spread(runs.score(curve.way), percent),
            _spread(runs.score(curve.way, "returns"), partial(fixed, decimals=1)),
            fixed(statistics.mean(runs.score(curve.way, "first_q")), 1),
            fixed(runs.relative_time(curve.way), 1),
            fixed(here[curve.way], 1) if curve.way in here else "–",
        )
        for curve in runs.curves
    )
    header = (
        f"{len(runs.scored)} agents: mean (least to greatest)",
        "chosen w",
        "won",
        "return",
        "critic's promise at the start",
        "time, imitation = 1",
        f"return of these episodes, w = {chosen(live.params.weight)}",
    )
    return Table(header, rows)


def _how_much() -> tuple[int, str]:
    """The committed runs: won by imitation and by QGF at its chosen weight."""
    runs = results.fork().values
    bc, qgf = (statistics.mean(runs.score(way)) for way in ("bc", "qgf"))
    right = min(range(3), key=lambda i: abs(qgf - (bc, 0.5, 0.9)[i]))
    return right, (
        f"Imitation wins {percent(bc)}, QGF {percent(qgf)} of the episodes, averaged over "
        f"{len(runs.scored)} trained agents, with the weight chosen on "
        f"{len(runs.tuning)} others. Only the sampling differs."
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
    """Episodes on the fork world, guided and by imitation alone; all methods in tabs.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `way="robust_q"` or `weight=30.0`.
    """
    runs = results.fork().values
    first = dataclasses.asdict(PolicyParams())
    del first["ways"]
    weights = tuple(sorted({*WEIGHTS, *runs.chosen.values()} - {0.0}))
    best = {name: {"weight": runs.chosen[name]} for name in OFFERED if WAYS[name].takes_weight}
    controls = (
        Choice(
            name="way",
            label="How it acts",
            options=OFFERED,
            sets=best,
            heavy=True,
        ),
        Range(
            name="weight",
            label="Weight w",
            values=weights,
            texts=tuple(map(chosen, weights)),
            help="Imitation and best of N have none.",
            live=False,
            heavy=True,
        ),
        Range(
            name="n_episodes",
            label="Episodes",
            values=(10, 20, 40, 60, 100),
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
        title="A policy at the fork",
        params=settings,
        compute=act,
        present=present,
        hero=Hero(
            label="Episodes walking from the middle of the plane to its goals, guided and by "
            "imitation; beside it the share that has arrived and the cost"
        ),
        controls=controls,
        plots=(
            Plot(
                name="methods",
                label="Mean return of every method over the time of its decisions",
                caption="Recorded: five trained agents, 300 episodes each, every weight chosen on "
                "three others. A return of −10 is the goal after ten steps, −50 is never. Up and "
                "to the left is better.",
                height=360,
                tab=METHODS,
            ),
            Plot(
                name="success",
                label="Share of episodes won over the guidance weight",
                caption="Recorded, means of five trained agents; the band goes from the least to "
                "the greatest. Grey: imitation.",
                span=6,
                height=320,
                tab=OVER_WEIGHT,
            ),
            Plot(
                name="returns",
                label="Mean return over the guidance weight",
                caption="The point: the weight chosen on other agents. The line: the weight of "
                "the episodes above.",
                span=6,
                height=320,
                tab=OVER_WEIGHT,
            ),
        ),
        steps=(
            Step(
                title="Imitation",
                text="Imitation learned from walkers to all four goals. Play, and count who "
                "reaches the one that pays.",
                sets={"way": "bc"},
                frame="play",
            ),
            Step(
                title="QGF steers",
                text="The same network, the same starts: only the sampling is guided. Compare the "
                "two curves.",
                sets={"way": "qgf"},
                frame="play",
            ),
            Step(
                title="RobustQ",
                text="Its critic was trained on noisy chunks. In these episodes it wins more than "
                "QGF, in less time; averages are in the tab.",
                sets={"way": "robust_q"},
                frame="play",
            ),
            Step(
                title="Too much weight",
                text="QGF at w = 30: here the critic promises more than at w = 3, and less is "
                "earned. Where do those go that never turn green?",
                sets={"way": "qgf", "weight": 30.0},
                frame="play",
            ),
            Step(
                title="No gradient at all",
                text="Best of 16 draws whole chunks and keeps the one that the critic likes "
                "best. Look at its time.",
                sets={"way": "best_of_n_16"},
                frame="play",
            ),
        ),
        predict=predict,
        defaults={**first, "way": "qgf", **values},
    )
