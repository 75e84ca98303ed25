"""Policies on the fork world: rollouts live, curves over the weight from the committed runs."""

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from intuitive.common.runtime import never
from intuitive.common.training import Progress, silent
from intuitive.qgf.policies import (
    WAYS,
    WEIGHTS,
    ForkRuns,
    PolicyParams,
    PolicyResult,
    committed_runs,
    rollouts,
)

from ..figures import qgf_policies as figures
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View

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


def policies(
    params: PolicyParams,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Policies:
    """`rollouts` and `committed_runs`."""
    return Policies(live=rollouts(params, stale=stale, progress=progress), runs=committed_runs())


def _number(value: float, form: str = ".1f") -> str:
    return f"{value:{form}}".replace("-", "−")


def _spread(values: list[float], form: str = ".1f") -> str:
    mean, least, most = (
        _number(v, form) for v in (statistics.mean(values), min(values), max(values))
    )
    return f"{mean} ({least} to {most})"


def _seeds(n: int) -> str:
    return f"{n} seed" + "s" * (n != 1)


def present_policies(found: Policies) -> View:
    live, runs = found.live, found.runs
    params = live.params
    won = ", ".join(f"{way.label} {way.success:.0%}" for way in live.ways)
    best = max(params.names, key=lambda name: statistics.mean(runs.score(name, "returns")))
    rows = tuple(
        (
            WAYS[curve.way].label,
            f"{runs.chosen[curve.way]:g}" if len(curve.weights) > 1 else "–",
            _spread(runs.score(curve.way), ".0%"),
            _spread(runs.score(curve.way, "returns")),
            _number(statistics.mean(runs.score(curve.way, "first_q"))),
            f"{runs.relative_time(curve.way):.1f}",
        )
        for curve in runs.curves
    )
    return View(
        summary=(
            f"At w = {params.weight:g}, of {params.n_episodes} episodes are won: {won}. Over "
            f"{_seeds(len(runs.scored))}, with weights chosen on {_seeds(len(runs.tuning))} not "
            f"scored, {WAYS[best].label} has the highest return of these, "
            f"{_number(statistics.mean(runs.score(best, 'returns')))}."
        ),
        figures={
            "paths": figures.paths_figure(live),
            "success": figures.curves_figure(runs, "success", params.names, params.weight),
            "returns": figures.curves_figure(runs, "returns", params.names, params.weight),
            "time": figures.time_figure(runs, params.names),
        },
        readouts=tuple(
            Readout(f"{way.label}, return", _number(way.mean_return)) for way in live.ways
        ),
        table=Table(
            (
                f"{_seeds(len(runs.scored))}: mean (least to greatest)",
                "chosen w",
                "won",
                "return",
                "critic's Q at the start",
                "time, BC = 1",
            ),
            rows,
        ),
        code=(
            "from intuitive.qgf.policies import PolicyParams, rollouts\n\n"
            f'result = rollouts(PolicyParams.from_text(\n    "{params.to_text()}"\n))\n'
            "{way.label: (way.success, way.mean_return) for way in result.ways}"
        ),
    )


def guided_policies(*, predict: Predict | None = None, **values: object) -> Explorer:
    """Guided policies act on the fork world: paths, winnings over the weight, time.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `weight=30.0`.
    """
    first = dataclasses.asdict(PolicyParams(ways=next(iter(SETS))))
    controls = (
        Choice(name="ways", label="Compare", options=SETS),
        Range(name="weight", label="Guidance weight w", values=WEIGHTS, live=False),
        Range(name="n_episodes", label="Episodes", values=(10, 20, 40, 100), live=False, more=True),
        Range(name="n_steps", label="Euler steps T", values=(5, 10, 20, 40), live=False, more=True),
        Range(name="seed", label="Seed", min=0, max=20, live=False, more=True),
    )
    return Explorer(
        name="qgf_policies",
        title="Policies on the fork world",
        params=PolicyParams,
        compute=policies,
        present=present_policies,
        controls=controls,
        plots=(
            Plot(
                name="paths",
                label="Paths of the same agent acting in several ways, from the same starts",
                caption="Only the filled goal pays. Strong lines won, faint ones did not. BC "
                "imitates the data, which goes to every goal equally often.",
                height=290,
            ),
            Plot(
                name="success",
                label="Share of episodes won over the guidance weight",
                caption="Lines: mean over seeds; bands: least to greatest. Markers: the weight "
                "chosen on seeds that are not scored. Dotted: the weight of the paths above.",
                span=4,
                height=330,
            ),
            Plot(
                name="returns",
                label="Mean return over the guidance weight",
                caption="A return of −10 is a goal reached after 10 steps; −50 is never.",
                span=4,
                height=330,
            ),
            Plot(
                name="time",
                label="Time of a decision relative to BC",
                caption="Measured for 300 states at once on one CPU thread.",
                span=4,
                height=330,
            ),
        ),
        predict=predict,
        defaults={**first, **values},
    )
