"""The tri-modal flow: where each guidance estimator sends the particles."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.trimodal import (
    PRESETS,
    Run,
    Sweep,
    TrimodalParams,
    TrimodalResult,
    sweep_weights,
    trimodal,
)

from ..figures import qgf as figures
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
)

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
SWEPT_PARTICLES = 1_000
PRESET_NAMES = {
    "A": "A: perfect critic, wide modes",
    "B": "B: bump outside the data",
    "C": "C: deceptive mean",
}
SCHEDULE_NAMES = {"constant": "constant", "score": "times (1 − t)/t"}
_SWEEPS: dict[TrimodalParams, Sweep] = {}  # the last one: moving w or t needs no other


@dataclass(frozen=True, kw_only=True)
class FlowSetting:
    """A setting of the flow, and whether the weight is swept as well."""

    flow: TrimodalParams
    sweep: bool

    @classmethod
    def of(cls, *, sweep: bool = False, **settings: Any) -> "FlowSetting":
        return cls(flow=TrimodalParams(**settings), sweep=sweep)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The flow at one weight, and over all of them where that was asked for."""

    at: TrimodalResult
    over_weights: Sweep | None


def flow_and_sweep(setting: FlowSetting, *, stale: Any, progress: Any) -> Flow:
    """Sample the flow; the sweep takes fewer particles, and its own sentence of progress."""
    flow = setting.flow
    at = trimodal(flow, stale=stale, progress=progress)
    if not setting.sweep:
        return Flow(at=at, over_weights=None)
    fewer = min(flow.n_particles, SWEPT_PARTICLES)
    key = dataclasses.replace(flow, n_particles=fewer, weight=1.0, time=1.0)
    swept = _SWEEPS.get(key)
    if swept is None:
        names = tuple(dict.fromkeys(run.estimator for run in at.runs))
        swept = sweep_weights(key, WEIGHTS[1:], names, stale=stale, progress=progress)
        _SWEEPS.clear()
        _SWEEPS[key] = swept
    return Flow(at=at, over_weights=swept)


def present_flow(flow: Flow) -> View:
    result = flow.at
    params, runs = result.params, result.runs
    several = len(runs) > 1
    readouts = [_stability(result)]
    for run in runs:
        of = f"{ESTIMATOR_NAMES[run.estimator]}: " if several else ""
        readouts += [
            Readout(f"{of}W1 to the exact tilt", _number(run.w1)),
            Readout(f"{of}KL to the exact tilt", f"{_number(run.kl_to_tilt)} nats"),
            Readout(f"{of}critic Q", _number(run.critic_mean)),
            Readout(f"{of}true return", _number(run.return_mean)),
        ]
    overshoots = (
        f" The stability number {result.stability:.2f} is above {figures.STABILITY_LIMIT}: near "
        "the critic's sharpest bend steps overshoot, so raise T before blaming the guidance."
        if _overshoots(result)
        else ""
    )
    summary = (
        f"Preset {params.preset}, w = {params.weight:g}, T = {params.n_steps}. "
        + " ".join(_sentence(result, run) for run in runs)
        + f" The exact tilt earns {_number(result.tilt_return)}, unguided data "
        f"{_number(result.bc_return)}.{overshoots}"
    )
    return View(
        summary=summary,
        figures={
            "flow": figures.flow_figure(result),
            "densities": figures.density_figure(result),
            "gap": figures.weight_figure(result, flow.over_weights),
        },
        readouts=tuple(readouts),
        table=_table(result),
        code=_code(params),
    )


def _sentence(result: TrimodalResult, run: Run) -> str:
    most = max(range(len(result.means)), key=lambda k: run.mode_masses[k])
    return (
        f"{ESTIMATOR_NAMES[run.estimator]}: {run.mode_masses[most]:.0%} of the particles end in "
        f"the mode at {_plain(result.means[most])} and {run.off_mode:.0%} in none; the critic "
        f"reads {_number(run.critic_mean)}, the true return is {_number(run.return_mean)}, and "
        f"the exact tilt is {_number(run.w1)} away in W1."
    )


def _overshoots(result: TrimodalResult) -> bool:
    steered = any(run.estimator in figures.STEERED for run in result.runs)
    return steered and result.stability > figures.STABILITY_LIMIT


def _stability(result: TrimodalResult) -> Readout:
    label, number = "stability number, w/T · sharpest bend", f"{result.stability:.2f}"
    if _overshoots(result):
        return Readout(label, f"{number} ▲ above {figures.STABILITY_LIMIT}", alarm=True)
    if result.stability > figures.STABILITY_LIMIT:
        return Readout(label, f"{number}, no gradient steps")
    return Readout(label, f"{number}, below {figures.STABILITY_LIMIT}")


def _plain(value: float) -> str:
    return figures.minus(f"{value:g}")


def _number(value: float) -> str:
    return figures.minus(f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}")


def _table(result: TrimodalResult) -> Table:
    modes = tuple(f"mode at {_plain(mean)}" for mean in result.means)
    header = ("", "true return", "critic Q", "W1 to tilt", "KL to tilt", "KL to data")
    rows = [
        (
            ESTIMATOR_NAMES[run.estimator],
            *map(_number, (run.return_mean, run.critic_mean)),
            *map(_number, (run.w1, run.kl_to_tilt, run.kl_to_bc)),
            *(f"{mass:.3f}" for mass in run.mode_masses),
            f"{run.off_mode:.3f}",
            f"{run.passes}",
            f"{run.ms:.0f}",
        )
        for run in result.runs
    ]
    ends = (
        ("exact tilt", result.tilt_return, result.tilt_critic),
        ("data", result.bc_return, result.bc_critic),
    )
    for name, earned, read in ends:
        rows.append((name, _number(earned), _number(read), *["–"] * (len(header) + len(modes))))
    return Table((*header, *modes, "in no mode", "passes", "sampling, ms"), tuple(rows))


def _code(params: TrimodalParams) -> str:
    changed = {
        field.name: getattr(params, field.name)
        for field in dataclasses.fields(params)
        if getattr(params, field.name) != field.default
    }
    text = " ".join(f"{name}={value}" for name, value in changed.items())
    return (
        "from intuitive.qgf import trimodal\n\n"
        f'params = trimodal.TrimodalParams.from_text("{text}")\n'
        "result = trimodal.trimodal(params)\n"
        "result.runs[0].w1, result.runs[0].critic_mean, result.runs[0].return_mean"
    )


def _preset(name: str) -> dict[str, Any]:
    """The control values that a preset brings: what it says of critic, weight and steps."""
    free = ("estimator", "second", "n_particles", "n_candidates", "seed", "schedule", "time")
    settings = dataclasses.asdict(PRESETS[name])
    return {key: value for key, value in settings.items() if key not in ("preset", *free)}


def trimodal_flow(preset: str = "B", *, predict: Predict | None = None, **values: Any) -> Explorer:
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
            texts=tuple(f"{weight:g}" for weight in WEIGHTS),
        ),
        Choice(name="estimator", label="Estimator", options=ESTIMATOR_NAMES),
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
            options=PRESET_NAMES,
            sets={name: _preset(name) for name in PRESETS},
            help="Sets the modes, the critic, w and T.",
            more=True,
        ),
        Choice(
            name="second",
            label="Beside it",
            options={"none": "no other estimator", **ESTIMATOR_NAMES},
            more=True,
        ),
        Range(
            name="n_steps",
            label="Euler steps T",
            values=(5, 10, 20, 50, 100),
            more=True,
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
        ),
    )
    return Explorer(
        name="qgf_trimodal",
        title="The tri-modal flow",
        params=FlowSetting.of,
        compute=flow_and_sweep,
        present=present_flow,
        controls=controls,
        plots=(
            Plot(
                name="flow",
                label="Particles from noise to action over time with the critic beside them, and "
                "below them the guided velocity over time and position",
                caption="Drag the golden point to move the critic's peak. Lines have the colour "
                "of the mode in which they end (dotted grey: none); golden dashes are the points "
                "where the estimator asks the critic. The dotted upright is the time looked at. "
                "On the right: what the critic says (golden), what actions earn (golden, dotted) "
                "and where the data are (grey). Below: red pushes particles up, blue down.",
                height=580,
                drag=(Handle(x=1.1, y="peak", label="a*", colour=figures.CRITIC),),
            ),
            Plot(
                name="densities",
                label="Densities of the particles at the time looked at and of the actions, "
                "beside the exact tilt",
                caption="Above: all particles at the time looked at. Below: the actions, coloured "
                "as the paths. Green line: an exact sampler of the tilt p e^(wQ); dotted: without "
                "guidance. One tall bar is an optimiser at work, not a sampler.",
                span=6,
                height=400,
            ),
            Plot(
                name="gap",
                label="Critic's opinion and true return of the actions over the weight",
                caption="Full point: what the critic says of the actions; open point: what they "
                "earn; the gap is exploitation. Dotted: what the data (grey) and the exact tilt "
                "(green) earn. Right of the red line Euler steps overshoot. Sweep over the weight, "
                "under More controls, for the whole curves.",
                span=6,
                height=400,
            ),
        ),
        defaults={**first, **values},
        predict=predict,
    )
