"""Optimiser or sampler? Return against the distance from the data, for every estimator."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intuitive.common.runtime import never
from intuitive.common.training import Progress, silent
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.trimodal import (
    COMPARED,
    PRESETS,
    WEIGHTS,
    Curve,
    Front,
    Sweep,
    TrimodalParams,
    frontier,
)

from ..figures import qgf_frontier as figures
from ..figures.qgf import STABILITY_LIMIT
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View
from .qgf import PRESET_NAMES

SWEPT = WEIGHTS[::2]


class Last:
    """The last result of a slow computation, for settings that look at the same one."""

    def __init__(self) -> None:
        self._key: Any = None
        self._value: Any = None

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The result under `key`; made anew when another one was last."""
        if key != self._key:
            self._value, self._key = make(), key
        return self._value


@dataclass(frozen=True, kw_only=True)
class FrontierSettings:
    """One sweep, and the estimator and weight looked at."""

    params: TrimodalParams
    estimator: str
    weight: float

    @classmethod
    def of(
        cls, *, preset: str, estimator: str, weight: float, **settings: Any
    ) -> "FrontierSettings":
        params = replace(PRESETS[preset], weight=1.0, n_particles=1000, **settings)
        return cls(params=params, estimator=estimator, weight=weight)


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """A sweep, and what is looked at in it."""

    sweep: Sweep
    estimator: str
    place: int  # of the weight, in `sweep.weights`

    @property
    def curve(self) -> Curve:
        """The curve of the estimator looked at."""
        return next(c for c in self.sweep.curves if c.estimator == self.estimator)


def best_at(front: Front, kl: float) -> float:
    """The highest mean return of any distribution at some KL from the data, in nats."""
    return float(np.interp(kl, front.kl, front.true_return))


def least_kl(front: Front, true_return: float) -> float:
    """The KL from the data, in nats, that a mean return takes at least; infinite if none has it."""
    if true_return > front.true_return[-1]:
        return float("inf")
    return float(np.interp(true_return, front.true_return, front.kl))


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _stability(number: float) -> Readout:
    if number > STABILITY_LIMIT:
        return Readout("stability number", f"{number:.1f} ▲ steps overshoot", alarm=True)
    return Readout("stability number", f"{number:.1f}")


def present_frontier(found: Compared) -> View:
    sweep, place, curve = found.sweep, found.place, found.curve
    params, front = sweep.params, sweep.by_return
    name, weight = ESTIMATOR_NAMES[found.estimator], sweep.weights[place]
    kl, got = float(curve.kl_to_bc[place]), float(curve.true_return[place])
    tilt_kl, tilt_got = float(sweep.by_critic.kl[place]), float(sweep.by_critic.true_return[place])
    needed, nothing = least_kl(front, got), float(front.true_return[0])
    verdict = f"{needed:.2f} nats would do for {_number(got)}"
    if got < nothing:
        verdict = f"doing nothing has {_number(nothing)}"
    rows = tuple(
        (
            ESTIMATOR_NAMES[c.estimator],
            f"{c.true_return[place]:.3f}",
            f"{c.critic[place]:.3f}",
            f"{c.kl_to_bc[place]:.3g}",
            f"{least_kl(front, float(c.true_return[place])):.2f}",
            f"{c.off_mode[place]:.0%}",
        )
        for c in sweep.curves
    )
    tilt_row = (
        *("exact tilt, same w", f"{tilt_got:.3f}", f"{sweep.by_critic.critic[place]:.3f}"),
        *(f"{tilt_kl:.3g}", f"{least_kl(front, tilt_got):.2f}", "–"),
    )
    return View(
        summary=(
            f"Preset {params.preset}, {name} at w = {weight:.2g}: return {_number(got)} at "
            f"{kl:.2f} nats from the data. The exact tilt at this w has {_number(tilt_got)} at "
            f"{tilt_kl:.2f} nats, and {verdict}."
        ),
        figures={
            "front": figures.front_figure(sweep, found.estimator, place),
            "over_weight": figures.weight_figure(sweep, found.estimator, place),
        },
        readouts=(
            Readout("return", f"{got:.3f}"),
            Readout("KL from the data", f"{kl:.2f} nats"),
            Readout("most at this KL", f"{best_at(front, kl):.3f}"),
            Readout("least KL for this return", f"{needed:.2f} nats"),
            Readout("critic's Q", f"{curve.critic[place]:.3f}"),
            _stability(float(sweep.stability[place])),
        ),
        table=Table(
            (
                f"w = {weight:.2g}",
                "true return",
                "critic's Q",
                "KL from the data (nats)",
                "least KL for it",
                "off every mode",
            ),
            (*rows, tilt_row),
        ),
        code=(
            "from intuitive.qgf.trimodal import TrimodalParams, frontier\n\n"
            f'sweep = frontier(TrimodalParams.from_text(\n    "{params.to_text()}"\n))\n'
            "{curve.estimator: (curve.kl_to_bc, curve.true_return) for curve in sweep.curves}"
        ),
    )


def optimiser_or_sampler(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Every estimator's return against its distance from the data, under the provable front.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `preset="C"`.
    """
    last = Last()

    def compare(
        settings: FrontierSettings,
        *,
        stale: Callable[[], bool] = never,
        progress: Progress = silent,
    ) -> Compared:
        sweep = last.get(
            settings.params,
            lambda: frontier(settings.params, SWEPT, stale=stale, progress=progress),
        )
        place = int(np.abs(np.array(SWEPT) - settings.weight).argmin())
        return Compared(sweep=sweep, estimator=settings.estimator, place=place)

    brought = {
        name: {"peak": preset.peak, "bump_height": preset.bump_height}
        for name, preset in PRESETS.items()
    }
    first = {"preset": "B", **brought["B"]}
    if "preset" in values:
        first |= brought.get(values["preset"], {})
    sweeps = {"live": False, "more": True}
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
            texts=tuple(f"{w:.2g}" for w in SWEPT),
        ),
        Choice(name="preset", label="Preset", options=PRESET_NAMES, sets=brought),
        Range(name="peak", label="Critic's peak a*", min=-2, max=2, step=0.05, **sweeps),
        Range(name="bump_height", label="Height of the bump", min=0, max=3, step=0.1, **sweeps),
        Range(name="n_steps", label="Euler steps T", values=(10, 20, 50), **sweeps),
        Range(name="seed", label="Seed", min=0, max=20, **sweeps),
    )
    return Explorer(
        name="qgf_frontier",
        title="Optimiser or sampler?",
        params=FrontierSettings.of,
        compute=compare,
        present=present_frontier,
        controls=controls,
        plots=(
            Plot(
                name="front",
                label="Mean true return against KL from the data, for each estimator over w",
                caption="Each curve follows one estimator from small to large w. Nothing can lie "
                "in the grey area: the tilts of the data by the return are its edge. Star: the "
                "exact tilt at this w; circle: the estimator. KL is counted in bins of σ/3, which "
                f"reads low when samples collapse; beyond {figures.FARTHEST:g} nats, see Values.",
                span=7,
                height=440,
            ),
            Plot(
                name="over_weight",
                label="Mean true return over the guidance weight",
                caption="The same curves over w. Green: the exact tilt. The same w means something "
                "else to every estimator.",
                span=5,
                height=440,
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
