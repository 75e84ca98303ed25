"""The tabs "Read back" and "Go on" of "Look closer": what trained pairs do on unseen texts."""

from intuitive.common import results as committed
from intuitive.lclm import results
from intuitive.lclm.smollm import RATIOS

from .. import theme
from ..kit import Plot
from .ratio_figures import Curve, Spread, against_ratio

READ, GO_ON = "Read back", "Go on"
TEXTS = {
    "prose": ("prose", theme.BLUE, "solid"),
    "docs": ("documentation", theme.PURPLE, "dash"),
    "code": ("code", theme.GREEN, "dot"),
}
FORMS = {
    "raw": ("all raw", theme.GREEN, "dash"),
    "compressed {}": ("as beads", theme.BLUE, "solid"),
    "truncated to {}": ("cut to as many positions", theme.VERMILION, "solid"),
    "none": ("nothing", theme.GREY, "dash"),
}


def again_figure() -> theme.Figure:
    """Share of the tokens that are said again, against the ratio."""
    curves = [
        Curve(*look, {r: _found("reconstruction", "right", texts=texts, ratio=r) for r in RATIOS})
        for texts, look in TEXTS.items()
    ]
    return against_ratio(curves, "tokens said again")


def fact_figure() -> theme.Figure:
    """Share of the facts that are said whole, by what form the text has."""
    return against_ratio(_forms("far", "all_right", what="fact"), "whole fact right")


def on_figure() -> theme.Figure:
    """Perplexity of going on, by what form the text before has."""
    curves = _forms("continuations", "perplexity")
    return against_ratio(curves, "perplexity of what follows", y_range=(20.0, 31.0), ticks="")


FIGURES = {"again": again_figure, "fact": fact_figure, "on": on_figure}


def plots() -> tuple[Plot, ...]:
    """The plots of the tab; none where no run is committed."""
    if results.SMOLLM not in committed.names():
        return ()
    made = "Three pairs, trained alike from three seeds, on texts that they were not trained on. "
    return (
        Plot(
            name="again",
            label="Tokens said again from beads, by tokens per bead",
            caption=made + "Bars are the range of the seeds.",
            tab=READ,
            span=6,
            height=300,
        ),
        Plot(
            name="fact",
            label="Facts in a text said whole when asked for, by tokens per bead",
            caption="768 tokens of prose hold a fact that is asked for. Higher is better.",
            tab=READ,
            span=6,
            height=300,
        ),
        Plot(
            name="on",
            label="Perplexity of going on with a text, by tokens per bead",
            caption="256 tokens of prose after 768 in one of these forms; nobody asks for "
            "anything. Lower is better. Recorded by python benchmarks/lclm_smollm.py.",
            tab=GO_ON,
            height=300,
        ),
    )


def _forms(table: str, measure: str, **fields: str) -> list[Curve]:
    fields |= {"texts": "prose", "adaptation": "shared"}
    return [
        Curve(*look, {r: _found(table, measure, arm=arm.format(r), **fields) for r in RATIOS})
        for arm, look in FORMS.items()
    ]


def _found(table: str, measure: str, **fields: str | int) -> Spread:
    return results.smollm().values.extent(table, measure, **fields)
