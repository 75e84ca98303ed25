"""The two-mode teacher: one target, and what every divergence makes of it."""

from dataclasses import dataclass
from typing import Any

from intuitive.common.runtime import check
from intuitive.trd.two_modes import TwoModesParams, TwoModesResult, two_modes

from ..figures import trd_modes as figures
from ..figures.trd_styles import DIVERGENCE_NAMES, minus
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, Toggle, View

REPAIRS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ONSETS = (1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
CAPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class TwoModesSetting:
    """The target, and the divergence looked at."""

    params: TwoModesParams
    divergence: str

    @classmethod
    def of(cls, *, divergence: str, full: bool, top_k: int, **settings: Any) -> "TwoModesSetting":
        top_k = top_k if full else min(top_k, 2)  # there are only two tokens
        params = TwoModesParams(full=full, top_k=top_k, **settings)
        return cls(params=params, divergence=divergence)


@dataclass(frozen=True, kw_only=True)
class Charged:
    """All charges, and the one looked at."""

    result: TwoModesResult
    divergence: str


def charge(setting: TwoModesSetting, *, stale: Any, progress: Any) -> Charged:
    """`two_modes`."""
    check(stale)
    return Charged(result=two_modes(setting.params), divergence=setting.divergence)


def present_modes(charged: Charged) -> View:
    result, name = charged.result, charged.divergence
    params, chosen, onset = result.params, result.charge(name), result.onset_token
    push = -chosen.gradient[onset]
    forward, reverse = (
        -result.charge(direction).gradient[onset] for direction in ("forward_kl", "reverse_kl")
    )
    ratio = f"{forward / reverse:,.3g} times" if abs(reverse) > 1e-15 else "–"
    rows = []
    for key, label in DIVERGENCE_NAMES.items():
        one = result.charge(key)
        rest = [-g for place, g in enumerate(one.gradient) if place != onset]
        rows.append(
            (
                label,
                minus(f"{one.loss:.4g}"),
                figures.push_text(-one.gradient[onset]),
                figures.push_text(min(rest)),
            )
        )
    return View(
        summary=(
            f"The teacher says WAIT with {params.repair:g}, the student with {params.onset:g}: "
            f"{DIVERGENCE_NAMES[name]} charges {minus(f'{chosen.loss:.3g}')} nats and pushes the "
            f"logit of WAIT by {figures.push_text(push)}. One Gaussian in the place of the two "
            f"humps stands at {_place(result, 'forward_kl')} under forward KL and at "
            f"{_place(result, 'reverse_kl')} under reverse KL."
        ),
        figures={
            "bars": figures.bars_figure(result, name),
            "gaussian": figures.gaussian_figure(result, name),
            "pushes": figures.pushes_figure(result, name),
        },
        readouts=(
            Readout("loss", f"{minus(f'{chosen.loss:.3g}')} nats"),
            Readout("push on WAIT", figures.push_text(push)),
            Readout("forward push ÷ reverse push", minus(ratio)),
        ),
        table=Table(
            ("divergence", "loss, nats", "push on WAIT", "least push elsewhere"), tuple(rows)
        ),
        code=(
            "from intuitive.trd.experiment import TwoModesParams, two_modes\n\n"
            f'params = TwoModesParams.from_text(\n    "{params.to_text()}"\n)\n'
            f'charge = two_modes(params).charge("{name}")\n'
            "charge.loss, charge.gradient"
        ),
        bounds={"top_k": (1, len(result.tokens))},
        values={"top_k": params.top_k},
    )


def _place(result: TwoModesResult, direction: str) -> str:
    fit = next(fit for fit in result.fits if fit.name == direction)
    return f"{minus(f'{fit.mean:.2f}')} (width {fit.std:.2f})"


def two_mode_teacher(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Continue and repair as two bars, and the push of every divergence on their logits.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `divergence="reverse_kl"`.
    """
    first = TwoModesParams()
    controls = (
        Range(
            name="repair",
            label="Teacher's mass on repair, λ",
            values=REPAIRS,
            texts=tuple(f"{value:g}" for value in REPAIRS),
        ),
        Range(
            name="onset",
            label="Student's mass on WAIT, ε",
            values=ONSETS,
            texts=tuple(f"{value:g}" for value in ONSETS),
        ),
        Choice(name="divergence", label="Divergence", options=DIVERGENCE_NAMES),
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
        Range(name="temperature", label="Temperature", min=0.25, max=4, step=0.25, more=True),
        Range(name="distance", label="Distance of the humps", min=0, max=8, step=0.25, more=True),
        Toggle(name="full", label="All tokens of running sums instead of two", more=True),
    )
    return Explorer(
        name="trd_two_modes",
        title="A teacher of two minds",
        params=TwoModesSetting.of,
        compute=charge,
        present=present_modes,
        controls=controls,
        plots=(
            Plot(
                name="bars",
                label="Teacher's and student's probabilities of continue and repair, with pushes",
                caption="Filled: the teacher after an error. Purple outline: the student. An arrow "
                "starts at the student's mass and is as long as the push on that logit; under "
                "forward KL it ends at the teacher's bar.",
                span=6,
                height=360,
            ),
            Plot(
                name="gaussian",
                label="Two humps and the one Gaussian fitted to them under either direction of KL",
                caption="A student of one mode: forward KL (solid) spreads it over both humps, "
                "reverse KL (dashed) puts it into one. The thick one is of the chosen direction.",
                span=6,
                height=360,
            ),
            Plot(
                name="pushes",
                label="Push on the logit of WAIT under every divergence",
                caption="The same target under every divergence. No arrow: too small to draw; the "
                "number stands beside it.",
                height=320,
            ),
        ),
        defaults={
            "repair": first.repair,
            "onset": first.onset,
            "divergence": "forward_kl",
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
