"""Name, colour, dash and marker of every move, trajectory and method of the TRD lesson.

A colour says what is trained along: vermilion the student's failed rollout y_o (and the move that
carries on from its error), green the rewrite y_r (and the move that repairs), blue the teacher's
own solution y_T and the teacher itself, purple the student, grey what was there before training.
Dash and marker tell the losses apart: forward KL is solid, reverse KL is dashed.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from intuitive.trd.divergences import DIVERGENCES, WHOLE

from .. import theme

CONTINUE, REPAIR, TEACHER, STUDENT, FIRST = (
    theme.VERMILION,
    theme.GREEN,
    theme.BLUE,
    theme.PURPLE,
    theme.GREY,
)
TRAJECTORIES = {"y_o": CONTINUE, "y_r": REPAIR, "y_t": TEACHER}
TRAJECTORY_NAMES = {
    "y_o": "y_o, the student's attempt",
    "y_r": "y_r, the teacher's rewrite",
    "y_t": "y_T, the teacher's own solution",
}
DIVERGENCE_NAMES = {name: DIVERGENCES[name].label for name in WHOLE}


class Style(NamedTuple):
    """How one method is called and drawn."""

    name: str
    colour: str
    dash: str
    symbol: str

    def line(self, width: int | float = 2) -> dict[str, Any]:
        """As plotly's `line`."""
        return {"color": self.colour, "dash": self.dash, "width": width}

    def marker(self, size: int | float = 9) -> dict[str, Any]:
        """As plotly's `marker`."""
        return {"color": self.colour, "symbol": self.symbol, "size": size}


def _y_o(name: str, dash: str, symbol: str) -> Style:
    return Style(name, CONTINUE, dash, symbol)


def _y_r(name: str, dash: str, symbol: str) -> Style:
    return Style(name, REPAIR, dash, symbol)


METHOD_STYLES = {
    "opd_forward": _y_o("OPD forward", "solid", "circle"),
    "opd_forward_entropy": _y_o("OPD forward, entropy", "solid", "circle-open"),
    "opd_forward_clip": _y_o("OPD forward, clip", "solid", "diamond"),
    "opd_jensen_shannon": _y_o("OPD Jensen–Shannon", "longdash", "cross"),
    "opd_reverse": _y_o("OPD reverse", "dash", "square"),
    "opd_reverse_topk": _y_o("OPD reverse, top-k", "dash", "triangle-up"),
    "opd_reverse_topk_tail": _y_o("OPD reverse, top-k + tail", "dash", "triangle-up-open"),
    "opd_policy_gradient": _y_o("OPD policy gradient", "dot", "x"),
    "opsd_forward": _y_o("OPSD forward", "longdashdot", "circle"),
    "opsd_reverse": _y_o("OPSD reverse", "longdashdot", "square"),
    "sft_teacher": Style("SFT on y_T", TEACHER, "dot", "pentagon"),
    "sft_refined": _y_r("SFT on y_r", "dot", "pentagon"),
    "trd": _y_r("TRD", "solid", "star"),
    "trd_from_x": _y_r("TRD scored from x", "longdash", "star-open"),
    "trd_reverse": _y_r("TRD with reverse KL", "dash", "square"),
    "trd_opsd": _y_r("TRD, privileged", "longdashdot", "star-diamond"),
    "opd_forward_x3": _y_o("OPD forward, 3 rollouts", "solid", "hexagram"),
    "opd_reverse_x3": _y_o("OPD reverse, 3 rollouts", "dash", "hexagram-open"),
    "opd_forward_first_6": _y_o("OPD forward, first 6 tokens", "dot", "triangle-left"),
    "opd_monte_carlo_forward": _y_o("OPD, sampled forward KL", "dot", "hourglass"),
    "trd_wrong_only": _y_r("TRD, wrong y_o only", "dot", "triangle-down"),
    "trd_right_only": _y_r("TRD, right y_o only", "dot", "triangle-up"),
    "trd_fail_pass": _y_r("TRD, fail → pass only", "dash", "diamond"),
    "trd_corrupted_30": _y_r("TRD, 30% of y_r corrupted", "dash", "x"),
    "trd_any_order": _y_r("TRD, y_r in any order", "dash", "circle-open"),
}

METHOD_WORDS = {  # one sentence for each name of METHOD_STYLES
    "opd_forward": "Own text y_o, the teacher sees the problem x, forward KL.",
    "opd_forward_entropy": "OPD forward, where a place counts the more, the surer the teacher is "
    "there: the smaller its entropy.",
    "opd_forward_clip": "OPD forward, where a token may cost 0.1 nats at most.",
    "opd_jensen_shannon": "OPD with the Jensen–Shannon divergence: half-way between forward and "
    "reverse KL.",
    "opd_reverse": "Own text y_o, the teacher sees the problem x, reverse KL.",
    "opd_reverse_topk": "OPD reverse over the teacher's four likeliest tokens, as if there were no "
    "others.",
    "opd_reverse_topk_tail": "OPD reverse over the teacher's four likeliest tokens, with one more "
    "place for all the rest: the tail.",
    "opd_policy_gradient": "OPD reverse, estimated: each token that was drawn is pushed up or down "
    "by how much likelier the teacher finds it.",
    "opsd_forward": "OPD forward with a privileged teacher, who has a solution in sight.",
    "opsd_reverse": "OPD reverse with a privileged teacher, who has a solution in sight.",
    "sft_teacher": "The teacher's own solution y_T, its tokens as labels.",
    "sft_refined": "The rewrite y_r, its tokens as labels.",
    "trd": "The rewrite y_r, the teacher sees x and the student's text, forward KL.",
    "trd_from_x": "The rewrite y_r, but the teacher that scores it sees x alone.",
    "trd_reverse": "TRD, charged by reverse KL.",
    "trd_opsd": "TRD with a privileged teacher: it rewrites and scores with a solution in sight.",
    "opd_forward_x3": "OPD forward with three own texts for each problem instead of one.",
    "opd_reverse_x3": "OPD reverse with three own texts for each problem instead of one.",
    "opd_forward_first_6": "OPD forward on the first six tokens of each text alone.",
    "opd_monte_carlo_forward": "OPD with the estimate of section 6 that only looks like forward "
    "KL.",
    "trd_wrong_only": "TRD on those texts alone that the student got wrong.",
    "trd_right_only": "TRD on those texts alone that the student got right.",
    "trd_fail_pass": "TRD on those texts alone that were wrong and whose rewrite is right.",
    "trd_corrupted_30": "TRD with one number changed in 30% of the rewrites.",
    "trd_any_order": "TRD with rewrites in an order of the teacher's own.",
}


def under(title: str) -> dict[str, Any]:
    """One title for the x axes of all columns, centred under their ticks, as an annotation."""
    return {
        "text": title,
        "x": 0.5,
        "xref": "paper",
        "y": 0,
        "yref": "paper",
        "yanchor": "top",
        "yshift": -24,
        "showarrow": False,
        "font": {"size": 14},
    }


def fade(colour: str, opacity: int | float) -> str:
    """A colour of the theme, let through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


TEACHER_NAMES = {"exact": "the program", "learned": "the trained network"}
SETTING_NAMES = {
    "small": "4 digits modulo 7",
    "late": "8 digits modulo 23, with a plan",
}
MAKE = {  # the command that makes each of them
    "models": "python benchmarks/trd_methods.py --stage train",
    "results": "python benchmarks/trd_methods.py",
    "measurements of SmolLM2": "python benchmarks/trd_real_text.py",
}


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Say which command makes what is missing; `what` is a key of MAKE."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"The {what} of this lesson are not there: run `{MAKE[what]}`."
        ) from error
