"""Why backpropagation through time shakes: Jacobians, neighbours, cost."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from intuitive.common.runtime import never
from intuitive.common.training import Progress, silent
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.trimodal import PRESETS, Jacobians, Jitter, TrimodalParams, jacobians, jitter

from ..figures import qgf_backprop as figures
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View
from .qgf import PRESET_NAMES
from .qgf_frontier import Last

DISTANCES = (0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True, kw_only=True)
class JitterSettings:
    """A preset at a time, and how far apart neighbours stand."""

    params: TrimodalParams
    distance: float

    @classmethod
    def of(cls, *, preset: str, distance: float, **settings: Any) -> "JitterSettings":
        params = replace(PRESETS[preset], weight=1.0, n_particles=1000, **settings)
        return cls(params=params, distance=distance)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shaken:
    """Neighbours at all times, and the Jacobians at one."""

    params: TrimodalParams
    whole: Jitter
    here: Jacobians


def present_jitter(found: Shaken) -> View:
    whole, here = found.whole, found.here
    params, t = found.params, found.params.time
    names = whole.estimators
    mean = {  # over the times at which there is guidance
        name: float(cosine[same > 0].mean())
        for name, cosine, same in zip(names, whole.cosine, whole.same_sign, strict=True)
    }
    one, chain = ((float(j.min()), float(j.max())) for j in (here.one_step, here.chain))
    qgf, bptt = names.index("qgf"), names.index("bptt")
    return View(
        summary=(
            f"Preset {params.preset}, t = {t:.2f}: J₁ reaches {one[1]:.2g}, the chain's Jacobian "
            f"{chain[1]:.2g}. Neighbours {whole.distance:g} apart: mean cosine of the guidance "
            f"{mean['qgf']:.2f} for QGF, {mean['bptt']:.2f} for BPTT, which takes "
            f"{whole.passes[bptt] / whole.passes[qgf]:.1f} times the network passes."
        ),
        figures={
            "jacobians": figures.jacobians_figure(here),
            "cosine": figures.cosine_figure(whole, t),
            "cost": figures.cost_figure(whole),
        },
        readouts=(
            Readout("J₁, from least to greatest", f"{one[0]:.2g} to {one[1]:.2g}"),
            Readout("pₜ/p₁, from least to greatest", f"{chain[0]:.2g} to {chain[1]:.2g}"),
            Readout("mean cosine, QGF", f"{mean['qgf']:.3f}"),
            Readout("mean cosine, BPTT", f"{mean['bptt']:.3f}"),
        ),
        table=Table(
            ("estimator", "mean cosine", "mean share of equal sign", "network passes", "ms"),
            tuple(
                (
                    ESTIMATOR_NAMES[name],
                    f"{mean[name]:.3f}",
                    f"{same[same > 0].mean():.3f}",
                    f"{passes}",
                    f"{ms:.0f}",
                )
                for name, same, passes, ms in zip(
                    names, whole.same_sign, whole.passes, whole.ms, strict=True
                )
            ),
        ),
        code=(
            "from intuitive.qgf.trimodal import TrimodalParams, jacobians, jitter\n\n"
            f'here = jacobians("{params.preset}", {params.time})\n'
            f'result = jitter(TrimodalParams.from_text(\n    "{params.to_text()}"\n), '
            f"distance={whole.distance})\n"
            "here.one_step.max(), here.chain.max(), dict(zip(result.estimators, result.cosine))"
        ),
    )


def shaking_gradients(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """How gradients through one step and through the whole flow differ from point to point.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `time=0.9`.
    """
    last = Last()

    def shake(
        settings: JitterSettings,
        *,
        stale: Callable[[], bool] = never,
        progress: Progress = silent,
    ) -> Shaken:
        params, distance = settings.params, settings.distance
        timeless = replace(params, time=1.0)

        def measure() -> Jitter:
            jitter(timeless, ("ood",), stale=stale)  # warms up what is timed next
            return jitter(timeless, distance=distance, stale=stale, progress=progress)

        whole = last.get((timeless, distance), measure)
        return Shaken(params=params, whole=whole, here=jacobians(params.preset, params.time))

    controls = (
        Range(name="time", label="Time t", min=0.05, max=0.95, step=0.05),
        Range(name="distance", label="Distance of neighbours", values=DISTANCES, live=False),
        Choice(name="preset", label="Preset", options=PRESET_NAMES),
        Range(name="n_steps", label="Euler steps T", values=(5, 10, 20, 50), live=False, more=True),
        Range(name="seed", label="Seed", min=0, max=20, live=False, more=True),
    )
    return Explorer(
        name="qgf_backprop",
        title="Why backpropagation through time shakes",
        params=JitterSettings.of,
        compute=shake,
        present=present_jitter,
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
