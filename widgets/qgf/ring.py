"""Modes on a ring in the plane: a flow to train, and a reward to drag."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from intuitive.common.runtime import never
from intuitive.common.training import Progress, silent
from intuitive.qgf.experiments import ring
from intuitive.qgf.experiments.ring import ESTIMATORS, EXTENT, RingParams, RingResult
from intuitive.qgf.guidance import ESTIMATOR_NAMES, Stale
from intuitive.qgf.ring import STD

from .. import theme
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
    chosen,
    fixed,
    percent,
)
from . import styles

# ------------------------------------------------------------------------------------- figures


RANGE = (-EXTENT, EXTENT)
LEVELS = {"start": 0.2, "end": 0.8, "size": 0.2}  # of the critic, whose reward lies in [0, 1]
SPEED = 2.0  # at which an arrow has three quarters of its greatest length
N_PATHS = 40  # trajectories drawn
N_ASKED = 80  # particles drawn with their queries
N_SAMPLES = 400  # drawn
THIN = 2  # every second arrow along either axis is drawn
OFF_MODE = 3 * STD


def _plane(traces: list[dict[str, Any]], **layout: Any) -> theme.Figure:
    """A square plot of the plane with equal scales.

    The upright title keeps its distance from the axis, which equal scales move.
    """
    upright = {
        "text": "second action",
        "textangle": -90,
        "x": 0,
        "xanchor": "center",
        "xref": "x domain",
        "xshift": -48,
        "y": 0.5,
        "yref": "y domain",
        "showarrow": False,
        "font": {"size": 14},
    }
    return theme.figure(
        traces,
        x="first action",
        x_range=RANGE,
        y_range=RANGE,
        xaxis={"constrain": "domain", "zeroline": False},
        yaxis={"scaleanchor": "x", "constrain": "domain", "zeroline": False},
        showlegend=True,
        margin={"l": 62, "t": 60},
        annotations=[upright],
        **layout,
    )


def _critic(result: RingResult, *, labels: bool) -> dict[str, Any]:
    return {
        "type": "contour",
        "x": result.surface,
        "y": result.surface,
        "z": result.critic.round(3),
        "contours": {"coloring": "none", "showlabels": labels, **LEVELS},
        "line": {"color": styles.CRITIC, "width": 1, "smoothing": 0},  # quicker to label
        "hoverinfo": "skip",
        "name": "critic",
        "showlegend": True,
    }


def _modes(result: RingResult) -> list[dict[str, Any]]:
    return [
        {
            "type": "circle",
            **{"x0": x - OFF_MODE, "x1": x + OFF_MODE, "y0": y - OFF_MODE, "y1": y + OFF_MODE},
            "line": {"color": theme.GREY, "width": 1, "dash": "dot"},
            "layer": "below",
        }
        for x, y in result.modes.tolist()
    ]


def _arrows(result: RingResult, field: np.ndarray, colour: str, name: str) -> dict[str, Any]:
    """Arrows whose length grows with speed up to the distance between two of them."""
    grid, field = result.grid[::THIN], field[::THIN, ::THIN]
    x, y = np.meshgrid(grid, grid)
    speed = np.linalg.norm(field, axis=-1)
    spacing = grid[1] - grid[0]
    scale = spacing * np.tanh(speed / SPEED) / np.maximum(speed, 1e-9)
    seen = np.tanh(speed / SPEED) > 0.04
    return {
        "type": "quiver",
        "x": x[seen].round(3),
        "y": y[seen].round(3),
        "u": (field[..., 0] * scale)[seen].round(4),
        "v": (field[..., 1] * scale)[seen].round(4),
        "arrowref": "data",
        "lengthmode": "raw",
        "marker": {"color": colour, "line": {"width": 1.6}, "arrowsize": 1.1},
        "hoverinfo": "skip",
        "name": name,
        "showlegend": True,
    }


def _points(x: np.ndarray, name: str, **marker: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": x[:, 0].round(3),
        "y": x[:, 1].round(3),
        "mode": "markers",
        "marker": marker,
        "hoverinfo": "skip",
        "name": name,
    }


def field_figure(result: RingResult) -> theme.Figure:
    """Velocity and guidance at one time, the particles then, and where they ask the critic."""
    params = result.params
    step = round(result.arrow_time * params.n_steps)
    look = styles.ESTIMATOR_STYLES[params.estimator]
    traces = [
        _critic(result, labels=True),
        _arrows(result, result.velocity, theme.GREY, "flow"),
        _arrows(result, result.guidance, look.colour, "guidance"),
        _points(
            result.trajectories[step, :N_ASKED],
            "particles",
            color=look.colour,
            size=5,
        ),
    ]
    if result.arrow_time in result.query_times:
        traces.append(
            _points(
                result.queries[step, :N_ASKED],
                "Q asked",
                color=styles.CRITIC,
                size=7,
                symbol="x-thin-open",
            )
        )
    return _plane(traces, shapes=_modes(result))


def samples_figure(result: RingResult) -> theme.Figure:
    """Where samples end, and the way of some of them."""
    look = styles.ESTIMATOR_STYLES[result.params.estimator]
    paths = result.trajectories[:, :N_PATHS]  # [t1, n, 2]
    gaps = np.full((1, paths.shape[1], 2), np.nan, dtype=paths.dtype)
    joined = np.concatenate([paths, gaps]).transpose(1, 0, 2).reshape(-1, 2)
    traces = [
        _critic(result, labels=False),  # as beside it, where labels stand
        {
            "type": "scatter",
            "x": joined[:, 0],
            "y": joined[:, 1],
            "mode": "lines",
            "line": {"color": theme.GREY, "width": 0.7},
            "opacity": 0.6,
            "hoverinfo": "skip",
            "name": "paths from noise",
        },
        _points(result.samples[:N_SAMPLES], "samples", color=look.colour, size=4, opacity=0.6),
        _points(
            np.array([[result.params.peak_x, result.params.peak_y]]),
            "reward's peak",
            color=styles.CRITIC,
            size=14,
            symbol="cross-thin-open",
            line={"width": 3},
        ),
    ]
    return _plane(traces, shapes=_modes(result))


# ----------------------------------------------------------------------------------- the view


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
    stale: Stale = never,
    progress: Progress = silent,
) -> RingResult:
    """`ring`; a net that is not trained yet is trained first."""
    return ring.run(settings.params, stale=stale, progress=progress)


def present(result: RingResult) -> View:
    params = result.params
    estimator = ESTIMATOR_NAMES[params.estimator]
    return View(
        summary=(
            f"{estimator} at w = {chosen(params.weight)} on {FLOWS[params.field]}: mean reward "
            f"{fixed(result.mean_reward)} (data {fixed(result.bc_reward)}, exact tilt "
            f"{fixed(result.tilt_reward)}); {percent(result.off_mode)} of the samples lie more "
            "than 3σ from every mode."
        ),
        figures={
            "field": field_figure(result),
            "samples": samples_figure(result),
        },
        readouts=(
            Readout("mean reward", fixed(result.mean_reward, 3)),
            Readout("what the critic says", fixed(result.mean_critic, 3)),
            Readout("off every mode", percent(result.off_mode)),
        ),
        table=Table(("", "value"), _rows(result)),
        code=styles.code("ring", params, "found.mean_reward, found.off_mode"),
    )


def _rows(result: RingResult) -> tuple[tuple[str, str], ...]:
    """Rewards, what the samples cost, and the share of them in every mode."""
    learned = result.params.field == "learned"
    shares = zip(result.modes.tolist(), result.mode_shares.tolist(), strict=True)
    return (
        ("mean reward of the data", fixed(result.bc_reward, 3)),
        ("mean reward of the exact tilt, same w", fixed(result.tilt_reward, 3)),
        ("network passes per sample", f"{result.passes}"),
        ("error of the trained flow", percent(result.field_error, 1) if learned else "–"),
        *(
            (f"samples in mode {index}, at ({fixed(x)}, {fixed(y)})", percent(share, 1))
            for index, ((x, y), share) in enumerate(shares, 1)
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
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
            heavy=True,
        ),
        Range(name="weight", label="Guidance weight w", values=WEIGHTS),
        Action(
            name="train",
            label="Train a flow on samples",
            help="A net of 64 x 2 units learns the ring from 4,000 samples; each press trains "
            "another one.",
            heavy=True,
        ),
        Range(name="peak_x", label="Peak, first action", **edge),
        Range(name="peak_y", label="Peak, second action", **edge),
        Range(name="t", label="Time of the arrows", min=0, max=1, step=0.05, more=True),
        Toggle(name="closed_form", label="Closed-form flow", more=True),
        Choice(name="critic", label="Critic", options=CRITICS, more=True, heavy=True),
        Range(name="n_modes", label="Modes", min=5, max=8, live=False, more=True),
        Range(name="n_steps", label="Euler steps T", values=(5, 10, 20, 50), more=True),
        Range(name="n_particles", label="Particles", values=(200, 1000, 4000), more=True),
        Range(name="seed", label="Seed", min=0, max=20, live=False, more=True),
    )
    peak = Handle(x="peak_x", y="peak_y", label="reward", colour=styles.CRITIC)
    reach = f"{chosen(OFF_MODE)}"
    return Explorer(
        name="qgf_ring",
        title="A ring of modes",
        params=RingSettings.of,
        compute=guide,
        present=present,
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
