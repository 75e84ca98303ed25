"""The two-mode teacher: one target, and what every divergence makes of it."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from intuitive.trd.experiments.two_modes import TwoModesParams, TwoModesResult, run

from .. import theme
from ..kit import (
    Choice,
    Explorer,
    Plot,
    Predict,
    Range,
    Readout,
    Table,
    Toggle,
    View,
    fixed,
    number,
)
from .styles import CONTINUE, DIVERGENCE_NAMES, REPAIR, STUDENT, fade

REPAIRS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ONSETS = (1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
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
    """`run` of the compute module, and the divergence that is looked at."""
    return Charged(result=run(setting.params, stale=stale), divergence=setting.divergence)


def present_modes(charged: Charged) -> View:
    result, name = charged.result, charged.divergence
    params, chosen, onset = result.params, result.charge(name), result.onset_token
    push, below = -chosen.gradient[onset], ""
    if chosen.loss < -1e-12:
        below = " The charge is below zero: terms of a KL may be, and the cap cuts only large ones."
    forward, reverse = (
        -result.charge(direction).gradient[onset] for direction in ("forward_kl", "reverse_kl")
    )
    ratio = f"{number(forward / reverse)} times" if abs(reverse) > 1e-15 else "–"
    hot = "" if params.temperature == 1 else f" at temperature {params.temperature:g}"
    rows = []
    for key, label in DIVERGENCE_NAMES.items():
        one = result.charge(key)
        rest = [-g for place, g in enumerate(one.gradient) if place != onset]
        rows.append(
            (
                label,
                number(one.loss, 4),
                push_text(-one.gradient[onset]),
                push_text(min(rest)),
            )
        )
    return View(
        summary=(
            f"The teacher says WAIT with {number(result.teacher[onset])}, the student with "
            f"{number(result.student[onset])}{hot}: "
            f"{DIVERGENCE_NAMES[name]} charges {number(chosen.loss)} nats and pushes the "
            f"logit of WAIT by {push_text(push)}. One Gaussian in the place of the two "
            f"humps stands at {_place(result, 'forward_kl')} under forward KL and at "
            f"{_place(result, 'reverse_kl')} under reverse KL." + below
        ),
        figures={
            "bars": bars_figure(result, name),
            "gaussian": functools.partial(gaussian_figure, result, name),
            "pushes": functools.partial(pushes_figure, result, name),
        },
        readouts=(
            Readout("loss", number(chosen.loss, unit="nats")),
            Readout("push on WAIT", push_text(push)),
            Readout("forward push ÷ reverse push", ratio),
        ),
        table=Table(
            ("divergence", "loss, nats", "push on WAIT", "least push elsewhere"), tuple(rows)
        ),
        code=(
            "from intuitive.trd.experiments import two_modes\n\n"
            f'params = two_modes.TwoModesParams.from_text(\n    "{params.to_text()}"\n)\n'
            f'charge = two_modes.run(params).charge("{name}")\n'
            "charge.loss, charge.gradient"
        ),
        bounds={"top_k": (1, len(result.tokens))},
        values={"top_k": params.top_k},
    )


def _place(result: TwoModesResult, direction: str) -> str:
    fit = next(fit for fit in result.fits if fit.name == direction)
    return f"{fixed(fit.mean)} (width {fixed(fit.std)})"


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
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
                "forward KL, at temperature 1, it ends at the teacher's bar.",
                height=360,
            ),
            Plot(
                name="pushes",
                tab="Every divergence",
                label="Push on the logit of WAIT under every divergence",
                caption="The same target under every divergence. No arrow: too small to draw; the "
                "number stands beside it.",
                height=430,
            ),
            Plot(
                name="gaussian",
                tab="One Gaussian",
                label="Two humps and the one Gaussian fitted to them under either direction of KL",
                caption="A student of one mode: forward KL (solid) spreads it over both humps, "
                "reverse KL (dashed) puts it into one. The thick one is of the chosen direction.",
                height=360,
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


# ---- figures


LEAST_ARROW = 0.04  # pushes below this are smaller than an arrow's head
DENSITY_ENDS, DENSITY_TOP = (-4.0, 12.0), 0.7
GRID = np.linspace(*DENSITY_ENDS, 161)
FIT_DASHES = {"forward_kl": "solid", "reverse_kl": "dash"}


def push_text(push: int | float) -> str:
    """A push with its sign; what rounding leaves is none."""
    if abs(push) < 1e-12:
        return "0"
    return number(push, sign=True)


def bars_figure(result: TwoModesResult, divergence: str) -> theme.Figure:
    """Teacher's bars, student's bars over them, and the push on every logit as an arrow."""
    places = list(range(len(result.tokens)))
    colours = [REPAIR if place == result.onset_token else CONTINUE for place in places]
    pushes = [-g for g in result.charge(divergence).gradient]
    few = len(places) == 2
    notes = []
    for place, push in zip(places, pushes, strict=True):
        start = result.student[place]
        notes.append(_arrow(place + 0.26, start, start + push))  # beside the bar's middle
        if few or place == result.onset_token:
            tallest = max(result.teacher[place], start, start + push)
            text = f"push {push_text(push)}"
            notes.append(_note(text, x=place, y=tallest + 0.02, yanchor="bottom"))
    return theme.figure(
        [
            {
                "type": "bar",
                "x": places,
                "y": list(result.teacher),
                "width": 0.7,
                "marker": {"color": [fade(c, 0.55) for c in colours]},
                "name": "teacher",
                "showlegend": False,
                "hovertemplate": "teacher %{y:.4f}<extra></extra>",
            },
            {
                "type": "bar",
                "x": places,
                "y": list(result.student),
                "width": 0.35,
                "marker": {"color": "rgba(0,0,0,0)", "line": {"color": STUDENT, "width": 2.5}},
                "name": "student",
                "hovertemplate": "student %{y:.6f}<extra></extra>",
            },
            *(
                {"type": "bar", "x": [None], "y": [None], "name": name, "marker": {"color": colour}}
                for name, colour in (
                    ("teacher: continue", fade(CONTINUE, 0.55)),
                    ("teacher: repair", fade(REPAIR, 0.55)),
                )
            ),
        ],
        y="probability",
        x_range=(-0.6, len(places) - 0.4),
        y_range=(-0.08, 1.12),
        barmode="overlay",
        showlegend=True,
        legend={"y": 1.03, "traceorder": "reversed"},
        margin={"t": 40, "b": 62 if not few else 30},
        annotations=notes,
        xaxis={
            "tickvals": places,
            "ticktext": list(result.tokens),
            "tickangle": 0 if few else -60,
            "zeroline": False,
        },
        yaxis={"tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1]},
    )


def _note(text: str, **where: Any) -> dict[str, Any]:
    return {"text": text, "showarrow": False, "font": {"size": 13}, **where}


def _arrow(x: int | float, start: int | float, end: int | float) -> dict[str, Any]:
    """An upright arrow; one that is too short to draw is kept, unseen."""
    return {
        "visible": abs(end - start) >= LEAST_ARROW,
        "text": "",
        "showarrow": True,
        "axref": "x",
        "ayref": "y",
        "x": x,
        "ax": x,
        "y": end,
        "ay": start,
        "arrowhead": 2,
        "arrowwidth": 3,
        "arrowcolor": STUDENT,
        "xref": "x",
        "yref": "y",
    }


def pushes_figure(result: TwoModesResult, divergence: str) -> theme.Figure:
    """The push on the onset's logit under every divergence, the chosen one in full colour."""
    names = list(DIVERGENCE_NAMES)[::-1]
    pushes = [-result.charge(name).gradient[result.onset_token] for name in names]
    notes = []
    for row, (name, push) in enumerate(zip(names, pushes, strict=True)):
        colour = STUDENT if name == divergence else fade(STUDENT, 0.45)
        notes.append(
            _arrow(row, 0.0, push)
            | {"x": push, "ax": 0.0, "y": row, "ay": row, "arrowcolor": colour}
        )
        loss = result.charge(name).loss
        text = f"{push_text(push)}<br>(loss {fixed(loss, 3)} nats)"
        notes.append(
            _note(
                f"<b>{text}</b>" if name == divergence else text,
                x=max(push, 0.0) + 0.015,
                y=row,
                xanchor="left",
                align="left",
            )
        )
    labels = [DIVERGENCE_NAMES[name].replace(", ", ",<br>") for name in names]
    labels = [f"<b>{x}</b>" if n == divergence else x for n, x in zip(names, labels, strict=True)]
    return theme.figure(
        [{"type": "scatter", "x": [0.0] * len(names), "y": list(range(len(names))),
          "mode": "markers", "marker": {"color": STUDENT, "size": 6}, "hoverinfo": "skip"}],
        x_range=(-0.6, 1.25),
        y_range=(-0.6, len(names) - 0.4),
        annotations=notes,
        margin={"l": 145, "t": 10, "b": 62},
        shapes=[theme.line(x=0, colour=theme.GREY)],
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": labels,
            "zeroline": False,
            "showgrid": False,
        },
        xaxis={
            "tickvals": [-0.5, 0, 0.5, 1],
            "tickangle": 0,
            "title": {"text": "push on the logit of WAIT,<br>−∂loss/∂logit", "standoff": 6},
        },
    )  # fmt: skip


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
    chosen = "reverse_kl" if "reverse" in divergence else "forward_kl"
    for fit in result.fits:
        line = {"color": STUDENT, "dash": FIT_DASHES[fit.name]}
        traces.append(
            {
                "type": "scatter",
                "x": GRID,
                "y": _density(fit.mean, fit.std),
                "mode": "lines",
                "line": {**line, "width": 4 if fit.name == chosen else 2},
                "name": f"{DIVERGENCE_NAMES[fit.name]} fit",
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
