"""What the QGF explorers share: how every estimator is drawn, colours by meaning, names, words.

Colours tell families apart by where the critic is asked: blue at the one-step estimate, vermilion
at or after the sample itself, purple at the end of the whole chain, grey nowhere along the way,
green for the exact answer. Dashes and markers tell the members of a family apart.
"""

from typing import Any, NamedTuple

from intuitive.common.settings import Settings
from intuitive.qgf.critics import STABILITY_LIMIT

from .. import theme
from ..kit import Readout, fixed, number

CRITIC = "#A67C00"  # 3.9:1 on white, 4.9:1 on Lab's dark page
EXACT, UNGUIDED = theme.GREEN, theme.GREY
MODES = (theme.BLUE, theme.VERMILION, theme.PURPLE)  # from left to right
MODE_NAMES = ("blue", "vermilion", "purple")  # the same for marks, from the lowest
SHORT_NAMES = {"bc": "unguided", "ood": "OOD", "qgf": "QGF"}
PRESET_NAMES = {
    "A": "A: perfect critic",
    "B": "B: bump in noise",
    "C": "C: deceptive mean",
}


class Style(NamedTuple):
    """How one estimator is drawn."""

    colour: str
    dash: str
    symbol: str

    def line(self, width: int | float = 2) -> dict[str, Any]:
        """As plotly's `line`."""
        return {"color": self.colour, "dash": self.dash, "width": width}

    def marker(self, size: int | float = 8) -> dict[str, Any]:
        """As plotly's `marker`."""
        return {"color": self.colour, "symbol": self.symbol, "size": size}


ESTIMATOR_STYLES = {
    "bc": Style(theme.GREY, "solid", "circle"),
    "ood": Style(theme.VERMILION, "solid", "square"),
    "qgf": Style(theme.BLUE, "solid", "circle"),
    "qgf_jacobian": Style(theme.BLUE, "dash", "diamond"),
    "flow_dps": Style(theme.BLUE, "dot", "triangle-up"),
    "chain": Style(theme.PURPLE, "dash", "diamond"),
    "bptt": Style(theme.PURPLE, "solid", "cross"),
    "robust_q": Style(theme.VERMILION, "dash", "diamond"),
    "grad_step": Style(theme.VERMILION, "dot", "triangle-up"),
    "best_of_n": Style(theme.GREY, "dash", "square"),
    "cfgrl": Style(theme.GREY, "dot", "triangle-up"),
    "exact": Style(theme.GREEN, "solid", "star"),
}


OFF_THE_SCALE = 1e4  # beyond it a mean or a distance says only that particles have run away


def reading(value: float) -> str:
    """A mean of returns or values; in words where the particles have run away."""
    if abs(value) > OFF_THE_SCALE:
        return "off every scale"
    return number(value)


def short(value: float) -> str:
    """`reading` with two decimals, for readouts."""
    return reading(value) if abs(value) > OFF_THE_SCALE else fixed(value)


def distance(value: float, unit: str = "") -> str:
    """A distance, such as a KL in nats; in words where the particles have run away."""
    if value > OFF_THE_SCALE:
        return "off every scale"
    return number(value, unit=unit)


def stability(number: float, *, ascends: bool = True) -> Readout:
    """The stability number, red where an estimator that ascends by w/T overshoots."""
    label, value = "stability number", fixed(number)
    if not ascends:
        return Readout(label, f"{value}, no ascent")
    if number <= STABILITY_LIMIT:
        return Readout(label, value)
    return Readout(label, f"{value} ▲ above {STABILITY_LIMIT}", alarm=True)


def code(explorer: str, params: Settings, shown: str, *, run: str = "run") -> str:
    """The call that makes an explorer's result again, and what to look at in `found`."""
    kind = type(params).__name__
    return (
        f"from intuitive.qgf.experiments import {explorer}\n\n"
        f'params = {explorer}.{kind}.from_text(\n    "{params.to_text()}"\n)\n'
        f"found = {explorer}.{run}(params)\n"
        f"{shown}"
    )
