"""One particle and its swarm: where the critic is asked, its slope there, and the step it makes."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from intuitive.qgf.critics import STABILITY_LIMIT
from intuitive.qgf.exercise import GuidedStep
from intuitive.qgf.experiments import particle
from intuitive.qgf.experiments.particle import ParticleParams, ParticleResult, Swarm, Yours
from intuitive.qgf.trimodal import PRESETS

from ..kit import (
    Choice,
    Explorer,
    Hero,
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
from .particle_figures import Picture

METHODS = {
    "bc": "unguided",
    "ood": "OOD: at particle",
    "qgf": "QGF: at estimate",
}
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
PACE_MS = 420


def present(result: ParticleResult) -> View:
    params, picture = result.params, Picture(result)
    who = {
        "bc": "the critic is not asked",
        "ood": "the critic is asked at the noisy action",
    }.get(params.estimator, "the critic is asked at the clean estimate")
    stability = params.flow.stability
    warning = (
        f" The stability number {fixed(stability)} (w/T times the critic's sharpest bend) is above "
        f"{STABILITY_LIMIT}: steps overshoot there."
        if params.estimator != "bc" and stability > STABILITY_LIMIT
        else ""
    )
    guided = f"w = {chosen(params.weight)}, peak at {fixed(params.peak)}, "
    return View(
        summary=(
            f"Preset {params.preset}, {styles.SHORT_NAMES[params.estimator]}, "
            f"{guided if picture.asks else ''}T = {params.n_steps}: "
            f"{who} by a particle from {fixed(params.start)} and {params.n_particles} others."
            f"{warning}{_said_of(result.yours)}"
        ),
        timeline=Timeline(frames=picture.frames(), axis="time t", start=0, pace_ms=PACE_MS),
        related={"estimate": ("asked",), "asked": ("estimate",), "particle": ("start",)},
        readouts=picture.say.readouts(params.n_steps, "actions"),
        table=_table(result, {name: result.ghost_swarms[name] for name in picture.ghosts}),
        code=styles.code("particle", params, "(found.walk.x[-1], found.swarm.shares)"),
    )


def _said_of(yours: Yours | None) -> str:
    """What came of the reader's own step; where it ends is told when it has been played."""
    if yours is None:
        return ""
    if yours.fault:
        return f" Your step: {yours.fault}"
    return f" Dotted: the same particle by your guided_step, with {yours.swarm.shape[1]} others."


def _table(result: ParticleResult, beside: Mapping[str, Swarm]) -> Table:
    walk = result.walk
    parts = (walk.x, walk.velocity, walk.estimate, walk.asked, walk.slope, walk.push)
    rows = [
        (fixed(float(t)), *("–" if value != value else fixed(float(value)) for value in values))
        for t, *values in zip(result.times, *parts, strict=True)
    ]
    for name, swarm in {result.params.estimator: result.swarm, **beside}.items():
        shares = [
            f"{percent(share)} at {chosen(mean)}"
            for share, mean in zip(swarm.shares, result.means, strict=True)
        ]
        ends = f"swarm, {styles.SHORT_NAMES[name]}"
        rows.append((ends, *shares, f"{percent(swarm.off_mode)} in no mode", "", ""))
    header = (
        "t",
        "position",
        "velocity",
        "clean estimate",
        "critic asked at",
        "slope",
        "push w·Q′",
    )
    return Table(header, tuple(rows))


def _share_under_ood() -> tuple[int, str]:
    """Preset A, w = 1, peak 0.8: the share in the peak's mode, of the particles in sight."""
    found = particle.run(ParticleParams(start=0.8, estimator="ood"))
    share = found.swarm.shares[found.peak_mode]
    farther = found.swarm.shares[2]
    return (0, 1, 2)[(share > 0.25) + (share > 0.75)], (
        f"Of {found.params.n_particles} particles {percent(share)} do, and {percent(farther)} "
        f"overshoot to the mode at {chosen(found.means[2])}, although this critic is right "
        "everywhere: a noisy action is a shrunken one, so what looks like a* on the way becomes "
        "more than a* at the end."
    )


PREDICT = Predict(
    question=(
        "A flow turns noise into actions around −2, 0.8 and 2. A critic that is never wrong likes "
        "a* = 0.8 best. OOD follows its slope, asked at the noisy action itself, with w = 1. Which "
        "share of the particles ends in the mode at 0.8?"
    ),
    choices=("hardly any", "about half", "nearly all"),
    answer=_share_under_ood,
)


def preset(name: str) -> dict[str, Any]:
    """What a preset says of critic, weight and steps, as control values."""
    flow = PRESETS[name]
    settings = {"peak": flow.peak, "bump": flow.bump_position, "weight": flow.weight}
    return {**settings, "n_steps": flow.n_steps}


STEPS = (
    Step(
        title="Ask at the particle",
        text="OOD, “out of distribution”, asks the critic about the noisy action itself. This is "
        "t = 0.4: the dashed ray says what action height a* decodes to now. Then play on.",
        sets={"estimator": "ood"},
        frame="t = 0.40",
    ),
    Step(
        title="Ask at the estimate",
        text="QGF: same particle, same critic. It first jumps to the clean estimate and asks "
        "there. Compare the slopes.",
        sets={"estimator": "qgf"},
        frame="play",
    ),
    Step(
        title="A peak in a gap",
        text="Now the peak lies where no data are: the critic pulls one way, the flow the other. "
        "Guess which wins, then play; drag the golden point to either side.",
        sets={"estimator": "qgf", "peak": -0.6},
        frame="first",
    ),
)


def explorer(
    *, yours: GuidedStep | None = None, predict: Predict | None = None, **values: Any
) -> Explorer:
    """One particle's way from noise to action, stage by stage, and the swarm around it.

    Args:
        yours: a `guided_step` of the reader's own, drawn beside the package's.
        predict: a question asked before the sliders unlock, such as `PREDICT`.
        values: first control values, such as `estimator="ood"` or `start=0.8`.
    """
    title, steps = "One particle and its swarm", STEPS
    first = "ood"
    if yours is not None:  # a step of QGF
        first, steps = "qgf", STEPS[1:]
    values = {"estimator": first, **values}
    return made("qgf_particle", title, steps, yours=yours, predict=predict, **values)


def made(
    name: str,
    title: str,
    steps: Sequence[Step],
    *,
    in_sight: Sequence[str] = ("estimator", "peak", "weight"),
    yours: GuidedStep | None = None,
    predict: Predict | None = None,
    **values: Any,
) -> Explorer:
    """The particle in one of the lesson's explorers.

    Args:
        name, title, steps: what tells them apart.
        in_sight: controls that do not wait under "More controls".
        yours, predict, values: as in `explorer`.
    """
    first = dataclasses.asdict(ParticleParams(start=0.8))
    return Explorer(
        name=name,
        title=title,
        params=ParticleParams,
        compute=partial(particle.run, yours=yours),
        present=present,
        hero=Hero(
            label="One particle and its swarm between noise and action, the data, and the critic"
        ),
        controls=tuple(replace(c, more=c.name not in in_sight) for c in _controls()),
        steps=tuple(steps),
        defaults={**first, **values},
        predict=predict,
    )


def _controls() -> tuple[Choice | Range, ...]:
    return (
        Choice(name="estimator", label="Ask the critic", options=METHODS),
        Range(name="peak", label="Peak a*", min=-2.4, max=2.4, step=0.05),
        Range(name="weight", label="Weight w", values=WEIGHTS, texts=tuple(map(chosen, WEIGHTS))),
        Range(name="start", label="Its start", min=-2.4, max=2.4, step=0.05),
        Range(
            name="bump",
            label="Critic's bump",
            min=-2.4,
            max=2.4,
            step=0.05,
            help="Where the critic's second hill is, in presets B and C. Preset A has none.",
        ),
        Range(name="n_steps", label="Euler steps T", values=(5, 10, 20, 30)),
        Choice(
            name="preset",
            label="Preset",
            options=styles.PRESET_NAMES,
            sets={key: preset(key) for key in PRESETS},
        ),
        Range(name="n_particles", label="Particles", values=(50, 100, 200, 400)),
        Range(name="seed", label="Seed", min=0, max=20),
    )
