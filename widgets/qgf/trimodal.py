"""The tri-modal flow: where each guidance estimator sends the particles."""

import dataclasses
from functools import partial
from typing import Any

from intuitive.qgf.critics import STABILITY_LIMIT
from intuitive.qgf.experiments import trimodal
from intuitive.qgf.experiments.trimodal import SWEPT, Flow, FlowSetting, Run, TrimodalResult
from intuitive.qgf.guidance import ESTIMATOR_NAMES, ESTIMATORS
from intuitive.qgf.trimodal import PRESETS

from ..kit import (
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
    chosen,
    fixed,
    number,
    percent,
)
from . import styles
from . import trimodal_figures as figures

WEIGHTS = (0.0, *SWEPT)
SCHEDULE_NAMES = {"constant": "constant", "score": "times (1 − t)/t"}


def present(flow: Flow) -> View:
    result = flow.at
    params, runs = result.params, result.runs
    readouts = [styles.stability(result.stability, ascends=_ascends(result))]
    if len(runs) == 1:
        readouts.append(Readout("W1 to the exact tilt", number(runs[0].w1)))
    for run in runs:
        of = f"{ESTIMATOR_NAMES[run.estimator]}: " if len(runs) > 1 else ""
        readouts.append(Readout(f"{of}true return", number(run.return_mean)))
    overshoots = (
        f" The stability number {fixed(result.stability)} is above {STABILITY_LIMIT}: near the "
        "critic's sharpest bend steps overshoot, so raise T before blaming the guidance."
        if _ascends(result) and result.stability > STABILITY_LIMIT
        else ""
    )
    summary = (
        f"Preset {params.preset}, w = {chosen(params.weight)}, T = {params.n_steps}. "
        + " ".join(_sentence(result, run) for run in runs)
        + f" The exact tilt earns {number(result.tilt_return)}, unguided data "
        f"{number(result.bc_return)}.{overshoots}"
    )
    return View(
        summary=summary,
        figures={
            "flow": figures.flow_figure(result),
            "velocity": partial(figures.velocity_figure, result),
            "densities": partial(figures.density_figure, result),
            "gap": partial(figures.weight_figure, result, flow.over_weights),
        },
        readouts=tuple(readouts),
        table=_table(result),
        code=styles.code(
            "trimodal",
            params,
            "[(run.w1, run.critic_mean, run.return_mean) for run in found.runs]",
        ),
    )


def _sentence(result: TrimodalResult, run: Run) -> str:
    most = max(range(len(result.means)), key=lambda k: run.mode_masses[k])
    left = ""
    if run.outside > 0.01:
        left = f" {percent(run.outside)} have left the picture."
    return (
        f"{ESTIMATOR_NAMES[run.estimator]}: {percent(run.mode_masses[most])} of the particles end "
        f"in the mode at {chosen(result.means[most])} and {percent(run.off_mode)} in none; the "
        f"critic reads {number(run.critic_mean)}, the true return is {number(run.return_mean)}, "
        f"and the exact tilt is {number(run.w1)} away in W1.{left}"
    )


def _ascends(result: TrimodalResult) -> bool:
    return any(ESTIMATORS[run.estimator].ascends for run in result.runs)


def _table(result: TrimodalResult) -> Table:
    modes = tuple(f"mode at {chosen(mean)}" for mean in result.means)
    header = ("", "true return", "critic Q", "W1 to tilt", "KL to tilt", "KL to data")
    rows = [
        (
            ESTIMATOR_NAMES[run.estimator],
            *map(number, (run.return_mean, run.critic_mean)),
            *map(number, (run.w1, run.kl_to_tilt, run.kl_to_bc)),
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


def _where_ood_ends() -> tuple[int, str]:
    """Preset A at w = 2: into which mode, and how far from the peak."""
    params = dataclasses.replace(PRESETS["A"], weight=2.0, estimator="ood")
    result = trimodal.run(params)
    (run,) = result.runs
    share, mean = max(run.mode_masses), float(run.actions.mean())
    together = share > 0.9
    right = (0 if abs(mean - params.peak) < result.std / 3 else 1) if together else 2
    return right, (
        f"{percent(share)} of the particles end in one mode, at {number(mean)} on average: "
        f"{number(mean - params.peak, sign=True)} from the critic's peak. A noisy action stands "
        "near t times the action it becomes, so one that OOD has pulled to a* decodes to about "
        "a*/t."
    )


PREDICT = Predict(
    question=(
        "This critic makes no error: it is −(a − a*)², highest at a* = 0.8, where the data "
        "has a mode. OOD guidance follows its gradient at the noisy action, with w = 2. Where do "
        "the particles end?"
    ),
    choices=("at 0.8", "together, but beside 0.8", "spread over the three modes"),
    answer=_where_ood_ends,
)


def explorer(preset: str = "B", *, predict: Predict | None = None, **values: Any) -> Explorer:
    """Particles of a flow to three modes under one estimator, or two side by side.

    Args:
        preset: "A" (perfect critic), "B" (a bump outside the data) or "C" (deceptive mean).
        predict: a question asked before the sliders unlock.
        values: first control values, such as `estimator="ood"` or `weight=4.0`.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset={preset!r}: choose one of {', '.join(PRESETS)}.")
    first = dataclasses.asdict(PRESETS[preset]) | {"sweep": False, "time": 0.5}
    controls = (
        Range(name="peak", label="Critic's peak a*", min=-2.5, max=2.5, step=0.05),
        Range(
            name="weight",
            label="Weight w",
            values=WEIGHTS,
            texts=tuple(map(chosen, WEIGHTS)),
        ),
        Choice(name="estimator", label="Estimator", options=ESTIMATOR_NAMES, heavy=True),
        Range(
            name="time",
            label="Look at time t",
            min=0.0,
            max=1.0,
            step=0.05,
            help="0 is noise, 1 the action; the nearest Euler step is shown.",
            more=True,
        ),
        Choice(
            name="preset",
            label="Preset",
            options=styles.PRESET_NAMES,
            sets={name: _preset(name) for name in PRESETS},
            help="Sets the modes, the critic, w and T.",
            more=True,
        ),
        Choice(
            name="second",
            label="Beside it",
            options={"none": "no other estimator", **ESTIMATOR_NAMES},
            more=True,
            heavy=True,
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
        title="The tri-modal flow",
        params=FlowSetting.of,
        compute=trimodal.run_and_sweep,
        present=present,
        controls=controls,
        plots=(
            Plot(
                name="flow",
                label="Particles from noise to action over time, with the critic beside them",
                caption="Drag the golden point to move the critic's peak. Lines have the colour "
                "of the mode in which they end (dotted grey: none); golden dashes are the points "
                "where the estimator asks the critic. The dotted upright is the time looked at. "
                "On the right: what the critic says (golden), what actions earn (golden, dotted) "
                "and where the data are (grey).",
                height=380,
                drag=(Handle(x=1.1, y="peak", label="a*", colour=styles.CRITIC),),
            ),
            Plot(
                name="velocity",
                label="The guided velocity over time and position",
                caption="Red pushes particles up, blue down. The dotted upright is the time looked "
                "at.",
                height=300,
                tab="Velocity map",
            ),
            Plot(
                name="densities",
                label="Densities of the particles at the time looked at and of the actions, "
                "beside the exact tilt",
                caption="Above: all particles at the time looked at. Below: the actions, coloured "
                "as the paths. Green line: an exact sampler of the tilt p e^(wQ); dotted: without "
                "guidance. One tall bar is an optimiser at work, not a sampler.",
                height=400,
                tab="Densities",
            ),
            Plot(
                name="gap",
                label="Critic's opinion and true return of the actions over the weight",
                caption="Full point: what the critic says of the actions; open point: what they "
                "earn; the gap is exploitation. Dotted: what the data (grey) and the exact tilt "
                "(green) earn. Right of the red line Euler steps overshoot. Sweep over the weight, "
                "under More controls, for the whole curves.",
                height=360,
                tab="Over the weight",
            ),
        ),
        defaults={**first, **values},
        predict=predict,
    )
