"""One particle and its swarm: where the critic is asked, its slope there, and the step it makes."""

import dataclasses
from collections.abc import Mapping
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
from .particle_words import signed

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
        f" Where the critic bends most, w/T times its bend is {fixed(stability)}: above "
        f"{STABILITY_LIMIT}, steps overshoot there."
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
    """Preset A, w = 1, peak 0.8: the share in the peak's mode."""
    params = ParticleParams(preset="A", peak=0.8, weight=1.0, estimator="ood", n_particles=4000)
    found = particle.run(params)
    share = found.swarm.shares[found.peak_mode]
    farther = found.swarm.shares[2]
    return (0, 1, 2)[(share > 0.25) + (share > 0.75)], (
        f"{percent(share)} do, and {percent(farther)} overshoot to the mode at "
        f"{chosen(found.means[2])}, although this critic is right everywhere: a noisy action is a "
        "shrunken one, so what looks like a* on the way becomes more than a* at the end."
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


def _share_of_the_deceived() -> tuple[int, str]:
    """Preset C: the share in the mode with the peak, guided and unguided."""
    found = particle.run(ParticleParams(**_preset("C"), preset="C", n_particles=4000))
    peak = found.peak_mode
    share, alone = found.swarm.shares[peak], found.ghost_swarms["bc"].shares[peak]
    right = 2 if share < 0.5 * alone else 1 if share < 0.7 else 0
    slope = found.walk.slope[0]
    return right, (
        f"{percent(share)} do; unguided it is {percent(alone)}. At t = 0 every clean estimate is "
        f"the mean of the data, {fixed(found.walk.estimate[0])}. There the narrow peak cannot be "
        f"felt and the broad hill can: the slope is {signed(slope)}, and the whole swarm goes the "
        "wrong way."
    )


DECEIVED = Predict(
    question=(
        "Another critic, without any error: a narrow high peak on the lowest mode, −0.8, and a "
        "broad low hill on the highest, 0.8. QGF asks at the clean estimate, w = 4, T = 20. Which "
        "share of the particles ends in the mode of the high peak?"
    ),
    choices=("nearly all", "about a third, as without a critic", "hardly any"),
    answer=_share_of_the_deceived,
)


def _preset(name: str) -> dict[str, Any]:
    preset = PRESETS[name]
    settings = {"peak": preset.peak, "bump": preset.bump_position, "weight": preset.weight}
    return {**settings, "n_steps": preset.n_steps}


UNGUIDED = (
    Step(
        title="The data",
        text="Three hills at the right: what the teachers did. Each is a habit, a third of all "
        "actions. The policy has learned to end in one of them; its noise decides in which.",
        sets={"estimator": "bc"},
        frame="first",
    ),
    Step(
        title="Let it flow",
        text="No critic yet. A particle always heads for its clean estimate: the mean of all that "
        "it can still become. Watch how late the swarm parts.",
        sets={"estimator": "bc"},
        frame="play",
    ),
    Step(
        title="Another start",
        text="From 0.8 the particle ends in another hill. Drag its start up and down: where do "
        "the borders lie?",
        sets={"estimator": "bc", "start": 0.8},
        frame="last",
    ),
)
GUIDED = (
    Step(
        title="Unguided",
        text="The same particle without a critic: it drifts away from 0.8.",
        sets={"estimator": "bc"},
        frame="play",
    ),
    Step(
        title="Ask at the particle",
        text="OOD, “out of distribution”, asks the critic about the noisy action itself. It stands "
        "at a* and the critic says: stay. Follow the dashed ray: where does that height lead?",
        sets={"estimator": "ood"},
        frame="play",
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
        text="Now the peak lies where no data are. Guess where they end, then play; drag the "
        "golden point to either side.",
        sets={"estimator": "qgf", "peak": -0.6},
        frame="first",
    ),
)
FAILURES = (
    Step(
        title="The mean deceives",
        text="The particle starts beside the high peak. Look where its clean estimate lies, and "
        "which way the critic slopes there.",
        sets={"preset": "C", "estimator": "qgf", "start": -0.9},
        frame="play",
    ),
    Step(
        title="A bump in the noise",
        text="This critic has learned a bump where no data are. Noisy actions come by there, and "
        "OOD asks about those. No return pays for it.",
        sets={"preset": "B", "estimator": "ood", "start": -1.2},
        frame="play",
    ),
    Step(
        title="The same bump, QGF",
        text="Clean estimates never come near the bump: QGF does not see it. Drag the hollow "
        "golden point nearer to the data.",
        sets={"preset": "B", "estimator": "qgf", "start": -1.2},
        frame="play",
    ),
    Step(
        title="Steps too long",
        text="Guidance is gradient ascent with step w/T. With w = 8 and T = 10 it jumps over the "
        "peak, there and back. Raise T under More controls.",
        sets={"preset": "B", "estimator": "qgf", "weight": 8.0, "n_steps": 10},
        frame="play",
    ),
)
ABOUT = {  # what the steps speak of, and the state it begins in
    "unguided": (UNGUIDED, {"estimator": "bc", "start": -0.6}),
    "guided": (GUIDED, {}),
    "failure": (FAILURES, {"preset": "C", **_preset("C"), "start": -0.9}),
}


def explorer(
    about: str = "guided",
    *,
    yours: GuidedStep | None = None,
    predict: Predict | None = None,
    **values: Any,
) -> Explorer:
    """One particle's way from noise to action, stage by stage, and the swarm around it.

    Args:
        about: "unguided", "guided" or "failure": what the steps speak of.
        yours: a `guided_step` of the reader's own, drawn beside the package's.
        predict: a question asked before the sliders unlock, such as `PREDICT`.
        values: first control values, such as `estimator="ood"` or `start=0.8`.

    Raises:
        ValueError: an unknown `about`.
    """
    if about not in ABOUT:
        raise ValueError(f"about={about!r}: choose one of {', '.join(ABOUT)}.")
    steps, begin = ABOUT[about]
    first = dataclasses.asdict(ParticleParams(start=0.8))
    return Explorer(
        name="qgf_particle",
        title="One particle and its swarm",
        params=ParticleParams,
        compute=partial(particle.run, yours=yours),
        present=present,
        hero=Hero(
            label="One particle and its swarm between noise and action, the data, and the critic"
        ),
        controls=(
            Choice(name="estimator", label="Ask the critic", options=METHODS),
            Range(name="peak", label="Peak a*", min=-2.4, max=2.4, step=0.05),
            Range(
                name="weight", label="Weight w", values=WEIGHTS, texts=tuple(map(chosen, WEIGHTS))
            ),
            Range(
                name="start", label="Start of the particle", min=-2.4, max=2.4, step=0.05, more=True
            ),
            Range(name="bump", label="Critic's bump", min=-2.4, max=2.4, step=0.05, more=True),
            Range(name="n_steps", label="Euler steps T", values=(5, 10, 20, 30), more=True),
            Choice(
                name="preset",
                label="Preset",
                options=styles.PRESET_NAMES,
                sets={name: _preset(name) for name in PRESETS},
                help="Sets the modes, the critic, w and T.",
                more=True,
            ),
            Range(name="n_particles", label="Particles", values=(50, 100, 200, 400), more=True),
            Range(name="seed", label="Seed", min=0, max=20, more=True),
        ),
        steps=steps,
        defaults={**first, **begin, **values},
        predict=predict,
    )
