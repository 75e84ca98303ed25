"""Colour, dash and marker of every estimator, the same in all figures of the QGF lesson.

Colours tell families apart by where the critic is asked: blue at the one-step estimate, vermilion
at or after the sample itself, purple at the end of the whole chain, grey nowhere along the way,
green for the exact answer. Dashes and markers tell the members of a family apart.
"""

from typing import Any, NamedTuple

from .. import theme


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
