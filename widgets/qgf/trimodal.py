"""The tri-modal flow: where each guidance estimator sends the particles."""

import dataclasses
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from intuitive.qgf.critics import STABILITY_LIMIT
from intuitive.qgf.experiments import trimodal
from intuitive.qgf.experiments.trimodal import SWEPT, Flow, FlowSetting, Run, TrimodalResult
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.trimodal import PRESETS

from ..kit import (
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Readout,
    Step,
    Table,
    Timeline,
    Toggle,
    View,
    chosen,
    fixed,
    number,
    percent,
)
from . import styles
from . import trimodal_figures as figures
from .styles import distance, reading, short
from .trimodal_scene import Picture

WEIGHTS = (0.0, *SWEPT)
SCHEDULE_NAMES = {"constant": "constant", "score": "times (1 − t)/t"}
PACE_MS = 600
SIDES = ("all", "left", "right")


def present(flow: Flow) -> View:
    result = flow.at
    params, runs, picture = result.params, result.runs, Picture(result)
    mode = picture.peak_mode
    asked, tilted = _tilt_share(result, mode), reading(result.tilt_return)
    shares = [
        Readout(f"{side}, peak's mode", percent(run.mode_masses[mode]), link=f"mode:{mode}")
        for side, run in zip(SIDES[len(runs) - 1 :], runs, strict=False)
    ]
    earned = " · ".join(short(run.return_mean) for run in runs)
    overshoots = (
        f" The stability number {fixed(result.stability)} is above {STABILITY_LIMIT}: near the "
        "critic's sharpest bend steps overshoot; raise T."
        if picture.overshoots
        else ""
    )
    summary = (
        f"Preset {params.preset}, w = {chosen(params.weight)}, T = {params.n_steps}. "
        + " ".join(_sentence(result, run, mode) for run in runs)
        + f" The exact tilt has {percent(asked)} there and earns {tilted}, the data "
        f"{reading(result.bc_return)}.{overshoots}"
    )
    return View(
        summary=summary,
        timeline=Timeline(frames=picture.frames(), axis="time t", start=0, pace_ms=PACE_MS),
        figures={
            "velocity": partial(figures.velocity_figure, result),
            "densities": partial(figures.density_figure, result),
            "gap": partial(figures.weight_figure, result, flow.over_weights),
        },
        readouts=(*shares, Readout("they earn", earned)),
        table=_table(result),
        code=styles.code(
            "trimodal",
            params,
            "[(run.w1, run.critic_mean, run.return_mean) for run in found.runs]",
        ),
    )


def _tilt_share(result: TrimodalResult, mode: int) -> float:
    """What the exact tilt puts into a mode, counted as the particles are."""
    near = np.abs(result.fine - result.means[mode]) <= 3 * result.std
    return float(result.fine_tilted[near].sum() / result.fine_tilted.sum())


def _sentence(result: TrimodalResult, run: Run, mode: int) -> str:
    name = ESTIMATOR_NAMES[run.estimator]
    if run.outside > 0.99:
        return f"{name}: all particles have left the picture."
    left = f", {percent(run.outside)} out of sight" if run.outside > 0.01 else ""
    return (
        f"{name}: {percent(run.mode_masses[mode])} of the particles end in the peak's mode, "
        f"{percent(run.off_mode)} in none{left}; the critic reads {reading(run.critic_mean)}, "
        f"they earn {reading(run.return_mean)}."
    )


def _table(result: TrimodalResult) -> Table:
    modes = tuple(f"mode at {chosen(mean)}" for mean in result.means)
    header = ("", "true return", "critic Q", "W1 to tilt", "KL to tilt, nats", "KL to data, nats")
    rows = [
        (
            ESTIMATOR_NAMES[run.estimator],
            *map(reading, (run.return_mean, run.critic_mean)),
            *map(distance, (run.w1, run.kl_to_tilt, run.kl_to_bc)),
            *(fixed(mass, 3) for mass in run.mode_masses),
            fixed(run.off_mode, 3),
            f"{run.passes}",
            number(run.ms),
        )
        for run in result.runs
    ]
    ends = (
        ("exact tilt", result.tilt_return, result.tilt_critic),
        ("data", result.bc_return, result.bc_critic),
    )
    for name, earned, read in ends:
        rows.append((name, number(earned), number(read), *["–"] * (len(header) + len(modes))))
    return Table((*header, *modes, "in no mode", "passes", "sampling, ms"), tuple(rows))


def _preset(name: str) -> dict[str, Any]:
    """The control values that a preset brings: what it says of critic, weight and steps."""
    free = ("estimator", "second", "n_particles", "n_candidates", "seed", "schedule", "time")
    settings = dataclasses.asdict(PRESETS[name])
    return {key: value for key, value in settings.items() if key not in ("preset", *free)}


def _how_many_under_qgf() -> tuple[int, str]:
    """Preset B at w = 1: the share in the peak's mode under QGF and under the exact tilt."""
    result = trimodal.run(replace(PRESETS["B"], second="exact"))
    mode = Picture(result).peak_mode
    qgf, exact = (run.mode_masses[mode] for run in result.runs)
    asked, third = _tilt_share(result, mode), 1 / len(result.means)
    right = min(range(3), key=lambda i: abs(qgf - (third, asked, 1.0)[i]))
    return right, (
        f"QGF puts {percent(qgf)} there, where the exact tilt asks for {percent(asked)} (exact "
        f"guidance: {percent(exact)}). It earns more, and is no sampler of the tilt: before "
        "there are modes, every clean estimate is nearly the same, and the whole swarm is "
        "pushed one way."
    )


PREDICT = Predict(
    question=(
        "Preset B, w = 1: three narrow modes, and a critic whose peak is on the middle one. A "
        "perfect sampler of the data times e^(wQ), the exact tilt, puts about half of the actions "
        "there. How many does QGF?"
    ),
    choices=("about a third, as the data", "about half, as the tilt asks", "nearly all"),
    answer=_how_many_under_qgf,
)

STEPS = (
    Step(
        title="Sampler?",
        text="Green: what this w asks for, at every time. Exact guidance fills the outline; "
        "does QGF? Compare what they earn.",
        sets={"preset": "B", "estimator": "exact", "second": "qgf"},
        frame="play",
    ),
    Step(
        title="A bump",
        text="The critic has learned a bump at −1.8, the thin golden line; no return pays it. OOD "
        "climbs it: at the end the critic reads more than the actions earn.",
        sets={"preset": "B", "estimator": "ood", "second": "qgf"},
        frame="play",
    ),
    Step(
        title="Long steps",
        text="At w = 8 and T = 10 QGF jumps over the peak, there and back. Exact guidance, which "
        "is no gradient ascent, does not. Raise T under More controls.",
        sets={"preset": "B", "estimator": "exact", "second": "qgf", "weight": 8.0},
        frame="play",
    ),
    Step(
        title="Ask where?",
        text="Preset A again: a critic that is never wrong. Golden points are where it is asked "
        "now. Whose paths cross the golden line at a*, and where do they end?",
        sets={"preset": "A", "estimator": "ood", "second": "qgf"},
        frame="play",
    ),
    Step(
        title="Peak at 2",
        text="OOD overshoots here as well, but no mode lies beyond that could catch the "
        "particles: nearly all end in the right one.",
        sets={"preset": "A", "estimator": "ood", "second": "qgf", "peak": 2.0},
        frame="play",
    ),
)


def explorer(preset: str = "B", *, predict: Predict | None = None, **values: Any) -> Explorer:
    """Particles of a flow to three modes under one estimator, or two side by side.

    Args:
        preset: "A" (perfect critic), "B" (a bump outside the data) or "C" (deceptive mean).
        predict: a question asked before the sliders unlock.
        values: first control values, such as `estimator="ood"` or `weight=4.0`.

    Raises:
        ValueError: an unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset={preset!r}: choose one of {', '.join(PRESETS)}.")
    beside = {"estimator": "exact", "second": "qgf", "sweep": False}
    first = dataclasses.asdict(PRESETS[preset]) | beside
    del first["time"]  # all times are shown
    controls = (
        Choice(name="estimator", label="Left", options=ESTIMATOR_NAMES, heavy=True),
        Choice(
            name="second",
            label="Right",
            options={"none": "no other", **ESTIMATOR_NAMES},
            heavy=True,
        ),
        Range(
            name="weight",
            label="Weight w",
            values=WEIGHTS,
            texts=tuple(map(chosen, WEIGHTS)),
        ),
        Range(name="peak", label="Critic's peak a*", min=-2.4, max=2.4, step=0.05, more=True),
        Choice(
            name="preset",
            label="Preset",
            options=styles.PRESET_NAMES,
            sets={name: _preset(name) for name in PRESETS},
            help="Sets the modes, the critic, w and T.",
            more=True,
        ),
        Range(
            name="n_steps",
            label="Euler steps T",
            values=(5, 10, 20, 50, 100),
            more=True,
            heavy=True,
        ),
        Choice(
            name="critic",
            label="Critic's main part",
            options={"gaussian": "Gaussian hill", "quadratic": "−(a − a*)²"},
            more=True,
        ),
        Range(name="width", label="Hill: width", min=0.05, max=1.0, step=0.01, more=True),
        Range(name="bump_position", label="Bump: position", min=-3.0, max=3.0, step=0.1, more=True),
        Range(name="bump_height", label="Bump: height", min=-2.0, max=4.0, step=0.25, more=True),
        Range(name="bump_width", label="Bump: width", min=0.05, max=1.5, step=0.05, more=True),
        Toggle(name="bump_real", label="The return pays for the bump too", more=True),
        Choice(name="schedule", label="Weight over time", options=SCHEDULE_NAMES, more=True),
        Range(
            name="n_candidates",
            label="Candidates of best of N",
            values=(2, 4, 8, 16, 32),
            more=True,
        ),
        Range(
            name="n_particles",
            label="Particles",
            values=(500, 1000, 2000, 4000, 8000, 16000),
            more=True,
        ),
        Range(name="seed", label="Seed", min=0, max=20, more=True),
        Toggle(
            name="sweep",
            label="Sweep over the weight (slower)",
            more=True,
            heavy=True,
        ),
    )
    return Explorer(
        name="qgf_trimodal",
        title="The swarm, two ways side by side",
        params=FlowSetting.of,
        compute=trimodal.run_and_sweep,
        present=present,
        hero=Hero(
            label="All particles from noise to action under two estimators, where each asks the "
            "critic, and how they lie beside the exact tilt"
        ),
        controls=controls,
        plots=(
            Plot(
                name="densities",
                label="Histogram of the actions beside the exact tilt and the data",
                caption="Coloured by mode. Green: an exact sampler of the tilt p e^(wQ); dotted: "
                "the data. W1 and KL are distances to the exact tilt: W1 is how far, on average, "
                "mass must be moved to make the one of the other; KL is counted in bins of σ/3. "
                "One tall bar is an optimiser at work.",
                height=300,
                tab="Actions",
            ),
            Plot(
                name="gap",
                label="Critic's opinion and true return of the actions over the weight",
                caption="Full point: what the critic says of the actions; open point: what they "
                "earn; the gap is exploitation. Dotted: what the data (grey) and the exact tilt "
                "(green) earn. Right of the grey dashes steps overshoot; triangles: particles "
                "have run away. Sweep over the weight, under More controls, for whole curves.",
                height=360,
                tab="Over the weight",
            ),
            Plot(
                name="velocity",
                label="The guided velocity over time and position",
                caption="Red pushes particles up, blue down; white stands still.",
                height=300,
                tab="Velocity map",
            ),
        ),
        steps=STEPS,
        defaults={**first, **values},
        predict=predict,
    )
