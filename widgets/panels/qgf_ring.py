"""Modes on a ring in the plane: a flow to train, and a reward to drag."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from intuitive.common.runtime import never
from intuitive.common.training import Progress, silent
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.ring import ESTIMATORS, RingParams, RingResult, ring

from ..figures import qgf_ring as figures
from ..figures.qgf import CRITIC
from ..kit import (
    Action,
    Choice,
    Explorer,
    Handle,
    Plot,
    Predict,
    Range,
    Readout,
    Table,
    Toggle,
    View,
)

FLOWS = {"learned": "a flow trained on samples", "closed_form": "the closed-form flow"}
CRITICS = {"reward": "the reward itself", "fitted": "a net fitted to the data's rewards"}
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True, kw_only=True)
class RingSettings:
    """Settings of the ring, and how often the reader had a net trained.

    Every training draws its own data: net number i has seed + i - 1.
    """

    params: RingParams
    train: int
    closed_form: bool

    @classmethod
    def of(cls, *, train: int, closed_form: bool, seed: int, **settings: Any) -> "RingSettings":
        learned = train > 0 and not closed_form
        params = RingParams(
            field="learned" if learned else "closed_form",
            seed=seed + max(train - 1, 0),
            **settings,
        )
        return cls(params=params, train=train, closed_form=closed_form)


def guide(
    settings: RingSettings,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> RingResult:
    """`ring`; a net that is not trained yet is trained first."""
    return ring(settings.params, stale=stale, progress=progress)


def present_ring(result: RingResult) -> View:
    params = result.params
    estimator = ESTIMATOR_NAMES[params.estimator]
    learned = params.field == "learned"
    return View(
        summary=(
            f"{estimator} at w = {params.weight:g} on {FLOWS[params.field]}: mean reward "
            f"{result.mean_reward:.2f} (data {result.bc_reward:.2f}, exact tilt "
            f"{result.tilt_reward:.2f}); {result.off_mode:.0%} of the samples lie more than 3σ "
            "from every mode."
        ),
        figures={
            "field": figures.field_figure(result),
            "samples": figures.samples_figure(result),
        },
        readouts=(
            Readout("mean reward", f"{result.mean_reward:.3f}"),
            Readout("what the critic says", f"{result.mean_critic:.3f}"),
            Readout("exact tilt, same w", f"{result.tilt_reward:.3f}"),
            Readout("off every mode", f"{result.off_mode:.0%}"),
            Readout("passes per sample", f"{result.passes}"),
            Readout("error of the net", f"{result.field_error:.1%}" if learned else "–"),
        ),
        table=Table(
            ("mode", "place", "share of samples"),
            tuple(
                (f"{index + 1}", f"({x:.2f}, {y:.2f})", f"{share:.1%}")
                for index, ((x, y), share) in enumerate(
                    zip(result.modes.tolist(), result.mode_shares.tolist(), strict=True)
                )
            ),
        ),
        code=(
            "from intuitive.qgf.ring import RingParams, ring\n\n"
            f'result = ring(RingParams.from_text(\n    "{params.to_text()}"\n))\n'
            "result.mean_reward, result.off_mode"
        ),
    )


def guided_ring(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Samples of a ring of modes, guided to a reward that can be dragged.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `n_modes=8`.
    """
    first = dataclasses.asdict(RingParams(peak_x=0.5, peak_y=0.85))
    del first["field"]
    edge = {"min": -1.5, "max": 1.5, "step": 0.05, "more": True}
    controls = (
        Choice(
            name="estimator",
            label="Estimator",
            options={name: ESTIMATOR_NAMES[name] for name in ESTIMATORS},
        ),
        Range(name="weight", label="Guidance weight w", values=WEIGHTS),
        Action(
            name="train",
            label="Train a flow on samples",
            help="A net of 64 x 2 units learns the ring from 4,000 samples; each press trains "
            "another one.",
        ),
        Range(name="peak_x", label="Peak, first action", **edge),
        Range(name="peak_y", label="Peak, second action", **edge),
        Range(name="t", label="Time of the arrows", min=0, max=1, step=0.05, more=True),
        Toggle(name="closed_form", label="Closed-form flow", more=True),
        Choice(name="critic", label="Critic", options=CRITICS, more=True),
        Range(name="n_modes", label="Modes", min=5, max=8, live=False, more=True),
        Range(name="n_steps", label="Euler steps T", values=(5, 10, 20, 50), more=True),
        Range(name="n_particles", label="Particles", values=(200, 1000, 4000), more=True),
        Range(name="seed", label="Seed", min=0, max=20, live=False, more=True),
    )
    peak = Handle(x="peak_x", y="peak_y", label="reward", colour=CRITIC)
    reach = f"{figures.OFF_MODE:.1f}"
    return Explorer(
        name="qgf_ring",
        title="A ring of modes",
        params=RingSettings.of,
        compute=guide,
        present=present_ring,
        controls=controls,
        plots=(
            Plot(
                name="field",
                label="Velocity of the flow and guidance added to it, as arrows over the plane",
                caption="Drag the reward. Arrows: the flow (grey) and the guidance added, at the "
                "time set under More controls; longer is faster, up to a limit. Crosses: where the "
                "critic is asked for these particles.",
                span=6,
                height=500,
                drag=(peak,),
            ),
            Plot(
                name="samples",
                label="Where the samples end, and the paths of some",
                caption=f"Dotted circles: 3σ = {reach} around each mode. Golden lines: what the "
                "critic says, 0.2 to 0.8.",
                span=6,
                height=500,
            ),
        ),
        predict=predict,
        defaults={**first, "train": 0, "closed_form": False, **values},
    )
