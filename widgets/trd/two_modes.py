"""The two-mode teacher: one target, and a student under every divergence on its way there."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from intuitive.trd.experiments.two_modes import (
    N_STEPS,
    STEP_SIZE,
    TwoModesParams,
    TwoModesResult,
    run,
)

from .. import theme
from ..kit import (
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Table,
    Timeline,
    Toggle,
    View,
    chosen,
    number,
)
from .styles import CONTINUE, DIVERGENCE_NAMES, REPAIR, STUDENT, TEACHER, fade
from .two_modes_scene import Lanes, push_text

REPAIRS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ONSETS = (1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
LANES = {"few": "two directions and a clip", "all": "all of them"}
CAPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def _answer() -> tuple[int, str]:
    found = run(TwoModesParams())
    forward, reverse = (
        -found.charge(name).gradient[found.onset_token] for name in ("forward_kl", "reverse_kl")
    )
    ratio = forward / reverse
    return 0 if ratio > 10 else 1 if ratio < 0.1 else 2, (
        f"Forward KL pushes the logit of WAIT by {number(forward, sign=True)}, reverse KL by "
        f"{number(reverse, sign=True)}: {number(ratio)} times as hard."
    )


PREDICT = Predict(
    question=(
        "After a mistake the teacher puts 30 % on WAIT. The student has never said WAIT: it "
        "puts 1 in 10,000 there. Which divergence pushes that logit up harder?"
    ),
    choices=("forward KL, by far", "reverse KL, by far", "both about the same"),
    answer=_answer,
)


@dataclass(frozen=True, kw_only=True)
class TwoModesSetting:
    """The target, and the divergence looked at."""

    params: TwoModesParams
    divergence: str
    lanes: str

    @classmethod
    def of(
        cls, *, divergence: str, lanes: str, full: bool, top_k: int, **settings: Any
    ) -> "TwoModesSetting":
        top_k = top_k if full else min(top_k, 2)  # there are only two tokens
        params = TwoModesParams(full=full, top_k=top_k, **settings)
        return cls(params=params, divergence=divergence, lanes=lanes)


@dataclass(frozen=True, kw_only=True)
class Charged:
    """All charges, and the one looked at."""

    result: TwoModesResult
    divergence: str
    lanes: str = "few"


def charge(setting: TwoModesSetting, *, stale: Any, progress: Any) -> Charged:
    """`run` of the compute module, and the divergence that is looked at."""
    result = run(setting.params, stale=stale)
    return Charged(result=result, divergence=setting.divergence, lanes=setting.lanes)


def present_modes(charged: Charged) -> View:
    """The lanes of all divergences, and the two Gaussians."""
    result, name = charged.result, charged.divergence
    params, one, onset = result.params, result.charge(name), result.onset_token
    lanes, below = Lanes(result, name, every=charged.lanes == "all"), ""
    if one.loss < -1e-12:
        below = (
            " The charge is below zero: single terms of a KL may be, the cap cuts only large ones, "
            "and what is left over is negative."
        )
    hot = "" if params.temperature == 1 else f" at temperature {params.temperature:g}"
    rows = []
    for key, label in DIVERGENCE_NAMES.items():
        found = result.charge(key)
        rest = [-g for place, g in enumerate(found.gradient) if place != onset]
        rows.append(
            (
                label,
                number(found.loss, 4),
                push_text(-found.gradient[onset]),
                push_text(min(rest)),
                number(found.walk[1]),
                number(found.walk[-1]),
            )
        )
    return View(
        summary=(
            f"The teacher says WAIT with {number(result.teacher[onset])}, the student with "
            f"{number(result.student[onset])}{hot}. {N_STEPS} steps of size {chosen(STEP_SIZE)} "
            f"under {DIVERGENCE_NAMES[name]} bring it to {number(one.walk[-1])}.{below}"
        ),
        timeline=Timeline(frames=lanes.frames(), axis="gradient step", pace_ms=420),
        arithmetic=lanes.arithmetic(),
        related={"teacher": ("student",), "student": ("teacher",)},
        figures={"gaussian": functools.partial(gaussian_figure, result, name)},
        table=Table(
            (
                "divergence",
                "loss, nats",
                "push on WAIT",
                "least push elsewhere",
                "WAIT after one step",
                f"after {N_STEPS}",
            ),
            tuple(rows),
        ),
        code=(
            "from intuitive.trd.experiments import two_modes\n\n"
            f'params = two_modes.TwoModesParams.from_text(\n    "{params.to_text()}"\n)\n'
            f'charge = two_modes.run(params).charge("{name}")\n'
            "charge.loss, charge.pushes, charge.walk"
        ),
        bounds={"top_k": (1, len(result.tokens))},
        values={"top_k": params.top_k},
    )


STEPS = (
    Step(
        title="See the pushes",
        text="Every dot is the same student under another divergence. The arrow: how hard a "
        "gradient step pushes the logit of WAIT. A dot without one is not pushed, or too little "
        "to be seen.",
        frame="push",
    ),
    Step(
        title="Follow forward KL",
        text="Play the steps. The dot walks until the student says WAIT as often as the teacher.",
        frame="play",
    ),
    Step(
        title="Follow reverse KL",
        text="Same student, same teacher. Reverse KL weighs a token by the student's own mass "
        "there. How far does it come?",
        sets={"divergence": "reverse_kl"},
        frame="play",
    ),
    Step(
        title="Let it begin higher",
        text="ε = 0.03: a student that does say WAIT now and then. Now reverse KL sees it.",
        sets={"divergence": "reverse_kl", "onset": 0.03},
        frame="play",
    ),
    Step(
        title="Clip the loss",
        text="A cap of 0.1 nats on the sum: above it the loss no longer changes, so nothing "
        "pushes. A gate, not a brake.",
        sets={"divergence": "clipped_forward_kl"},
        frame="last",
    ),
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Continue and repair as bars, and a student under every divergence, step by step.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `divergence="reverse_kl"`.
    """
    first = TwoModesParams()
    controls = (
        Range(
            name="repair",
            label="Teacher's λ",
            values=REPAIRS,
            texts=tuple(f"{value:g}" for value in REPAIRS),
        ),
        Range(
            name="onset",
            label="Student's ε",
            values=ONSETS,
            texts=("10⁻⁶", "10⁻⁵", *(f"{value:g}" for value in ONSETS[2:])),
        ),
        Choice(name="divergence", label="Divergence", options=DIVERGENCE_NAMES),
        Choice(name="lanes", label="Losses drawn", options=LANES, more=True),
        Range(
            name="cap",
            label="Cap of the clip",
            values=CAPS,
            texts=tuple(f"{value:g}" for value in CAPS),
            unit="nats",
            more=True,
        ),
        Range(name="beta", label="Jensen–Shannon: β", min=0.05, max=0.95, step=0.05, more=True),
        Range(name="top_k", label="Top-k: tokens kept, k", min=1, max=2, more=True),
        Range(
            name="temperature",
            label="Temperature",
            min=0.25,
            max=4,
            step=0.25,
            help="Divides both sides' logits first; the bars and dots show what is compared.",
            more=True,
        ),
        Range(name="distance", label="Distance of the humps", min=0, max=8, step=0.25, more=True),
        Toggle(name="full", label="All tokens of running sums instead of two", more=True),
    )
    return Explorer(
        name="trd_two_modes",
        title="A teacher of two minds",
        params=TwoModesSetting.of,
        compute=charge,
        present=present_modes,
        hero=Hero(label="Teacher and student as bars; one student per divergence on its lane"),
        controls=controls,
        steps=STEPS,
        plots=(
            Plot(
                name="gaussian",
                tab="One Gaussian",
                label="Two humps and the one Gaussian fitted to them under either direction of KL",
                caption="The textbook's picture of the same: a student of one mode. Forward KL "
                "spreads it over both humps, reverse KL puts it into one. Only the teacher's λ and "
                "the distance play a part; clipped and mixed losses are not fitted here.",
                height=320,
            ),
        ),
        defaults={
            "repair": first.repair,
            "onset": first.onset,
            "divergence": "forward_kl",
            "lanes": "few",
            "cap": first.cap,
            "beta": first.beta,
            "top_k": first.top_k,
            "temperature": first.temperature,
            "distance": 6.0,  # far enough for reverse KL to choose a hump
            "full": first.full,
            **values,
        },
        predict=predict,
    )


# ---- the tab


DENSITY_ENDS, DENSITY_TOP = (-4.0, 12.0), 0.7
GRID = np.linspace(*DENSITY_ENDS, 161)
FIT_DASHES = {"forward_kl": "solid", "reverse_kl": "dash"}


def gaussian_figure(result: TwoModesResult, divergence: str) -> theme.Figure:
    """Two humps, and the one Gaussian that each direction of KL puts in their place."""
    parts = [w * _density(mean, std) for w, mean, std in result.humps]
    traces = [
        {
            "type": "scatter",
            "x": GRID,
            "y": part,
            "mode": "lines",
            "line": {"color": colour, "width": 1},
            "fill": "tozeroy",
            "fillcolor": fade(colour, 0.35),
            "name": name,
            "hoverinfo": "skip",
        }
        for part, colour, name in zip(
            parts, (CONTINUE, REPAIR), ("continue", "repair"), strict=True
        )
    ]
    traces.append(
        {
            "type": "scatter",
            "x": GRID,
            "y": np.sum(parts, axis=0),
            "mode": "lines",
            "line": {"color": TEACHER, "width": 3},
            "name": "teacher, both together",
            "hoverinfo": "skip",
        }
    )
    for fit in result.fits:
        line = {"color": STUDENT, "dash": FIT_DASHES[fit.name]}
        traces.append(
            {
                "type": "scatter",
                "x": GRID,
                "y": _density(fit.mean, fit.std),
                "mode": "lines",
                "line": {**line, "width": 4 if fit.name == divergence else 2},
                "name": f"student, {DIVERGENCE_NAMES[fit.name]}",
                "hoverinfo": "skip",
            }
        )
    return theme.figure(
        traces,
        x="a line on which the two moves lie apart",
        y="density",
        x_range=DENSITY_ENDS,
        y_range=(0, DENSITY_TOP),
        xaxis={"zeroline": False},
        showlegend=True,
        margin={"t": 40},
        legend={"y": 1.03},
    )


def _density(mean: float, std: float) -> np.ndarray:
    with np.errstate(under="ignore"):  # far from the mean it is 0
        return np.exp(-0.5 * ((GRID - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
