"""The hero of "A teacher of two minds": one student per divergence, walking along WAIT's share.

Above, teacher and student as bars of continue and WAIT: the target, and the student under the
chosen divergence. Below, a lane for each divergence drawn, on a logarithmic scale: its student is
a dot, an arrow is the push of the next step, and the green line is the share that the teacher asks
for.

The frames are the student as it is, the pushes on it, and then step after step. No push is told
before its frame.
"""

import math

from intuitive.trd.experiments.two_modes import N_STEPS, Charge, TwoModesResult

from ..kit import (
    Arithmetic,
    Arrow,
    Circle,
    Frame,
    Line,
    Mark,
    Readout,
    Rectangle,
    Scene,
    Words,
    fixed,
    number,
)
from .styles import DIVERGENCE_NAMES

Number = int | float

WIDTH, HEIGHT = 960, 392
BAR, SHARE = 150, 540  # where the bars begin, and how long they are
LANES, LAST = 122, 325  # the first lane and the last
FEW = ("forward_kl", "reverse_kl", "clipped_forward_kl")  # drawn at first
LEFT, RIGHT = 226, 706  # of the lanes' scale
LOW = -7  # power of ten at its left end
ARROW = 130  # length of a push of 1
PUSH, LOSS = 800, 892  # columns of numbers
UNKNOWN = "?"
GO, REPAIR, STUDENT = "vermilion", "green", "purple"


def push_text(push: Number) -> str:
    """A push with its sign; what rounding leaves is none."""
    return "0" if abs(push) < 1e-7 else number(push, sign=True)


def x_of(mass: Number) -> Number:
    """Where a probability stands on the lanes."""
    power = max(math.log10(max(mass, 1e-300)), LOW)
    return LEFT + (RIGHT - LEFT) * (power - LOW) / -LOW


def short(mass: Number) -> str:
    """A probability in a picture."""
    return fixed(mass) if mass >= 0.095 else number(mass, 2)


class Lanes:
    """All frames of one result under one chosen divergence."""

    def __init__(self, result: TwoModesResult, divergence: str, *, every: bool = False) -> None:
        self.result, self.divergence = result, divergence
        self.chosen: Charge = result.charge(divergence)
        self.target = result.teacher[result.onset_token]
        self.start = result.student[result.onset_token]
        self.names = [
            name for name in DIVERGENCE_NAMES if every or name in FEW or name == divergence
        ]
        self.pitch = (LAST - LANES) / (len(self.names) - 1)
        self.label = DIVERGENCE_NAMES[divergence]

    def frames(self) -> tuple[Frame, ...]:
        kinds = [(0, False), *((k, True) for k in range(N_STEPS + 1))]
        return tuple(self._frame(k, pushed) for k, pushed in kinds)

    def _frame(self, k: int, pushed: bool) -> Frame:
        label = f"step {k}" if k else "push" if pushed else "start"
        now = self.chosen
        push = push_text(now.pushes[k]) if pushed else UNKNOWN
        loss = fixed(now.losses[k], 3, unit="nats") if pushed else UNKNOWN
        return Frame(
            scene=Scene(
                width=WIDTH,
                height=HEIGHT,
                marks=(*self._bars(k), *self._scale(), *self._lanes(k, pushed)),
            ),
            label=label,
            sentence=self.sentence(k, pushed),
            readouts=(
                Readout("push on WAIT", push, link=self.divergence),
                Readout("loss", loss, link=self.divergence),
                Readout("student's WAIT", short(now.walk[k]), link=self.divergence),
            ),
        )

    def sentence(self, k: int, pushed: bool) -> str:
        name = self.label[0].upper() + self.label[1:]
        mass = short(self.chosen.walk[k])
        if not pushed:
            return (
                f"The teacher says WAIT with {short(self.target)}, the student with {mass}. Which "
                "divergence brings it there?"
            )
        if k == 0:
            push = self.chosen.pushes[0]
            how = f"pushes the logit of WAIT by {push_text(push)}"
            if abs(push) < 1e-12:
                how = "does not push WAIT at all"
            return f"{name} charges {number(self.chosen.loss)} nats and {how}."
        steps = "one step" if k == 1 else f"{k} steps"
        return f"{name}, after {steps}: the student says WAIT with {mass}."

    # ------------------------------------------------------------------------------ the marks

    def _bars(self, k: int) -> list[Mark]:
        marks = []
        rows = (("teacher", self.target, 20), ("student", self.chosen.walk[k], 52))
        for who, wait, y in rows:
            marks.append(Words(key=who, text=who, x=BAR - 10, y=y + 16, anchor="end"))
            w = SHARE * wait
            words = f"The {who} says WAIT with {short(wait)}, and goes on with {short(1 - wait)}."
            for part, x, wide, colour, p in (
                ("wait", BAR, max(w, 1.5), REPAIR, wait),
                ("on", BAR + w, SHARE - w, GO, 1 - wait),
            ):
                name = "WAIT" if part == "wait" else "continue"
                text = f"{name}: {short(p)}"
                fits = 7.4 * len(text) < wide
                marks.append(
                    Rectangle(
                        key=f"{who}:{part}", x=x, y=y, w=wide, h=24, fill=colour, words=words,
                        label=text if fits else "", size=13, link=who,
                    )
                )  # fmt: skip
        mass = f"← WAIT: {short(self.chosen.walk[k])}"
        if SHARE * self.chosen.walk[k] < 80:
            marks.append(Words(key="sliver", text=mass, x=BAR, y=92, fill=REPAIR, size=13))
        told = f"under {self.label}"
        marks.append(Words(key="under", text=told, x=BAR + SHARE + 10, y=69, fill=STUDENT))
        return marks

    def _scale(self) -> list[Mark]:
        bottom = LANES + self.pitch * (len(self.names) - 1) + 17
        marks: list[Mark] = []
        look = {"stroke": "faint", "width": 0.8, "opacity": 0.5}
        for power in range(LOW, 1):
            x = LEFT + (RIGHT - LEFT) * (power - LOW) / -LOW
            marks.append(Line(key=f"tick:{power}", x=x, y=LANES - 14, x2=x, y2=bottom, **look))
            text = "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
            text = {0: "1", -1: "0.1", -2: "0.01", -3: "0.001"}.get(power, text)
            style = {"anchor": "middle", "fill": "faint", "size": 13}
            marks.append(Words(key=f"tick's:{power}", text=text, x=x, y=bottom + 16, **style))
        x = x_of(self.target)
        marks.append(
            Line(
                key="target", x=x, y=LANES - 16, x2=x, y2=bottom, stroke=REPAIR, width=2,
                link="teacher", words=f"The teacher's share of WAIT, {short(self.target)}.",
            )
        )  # fmt: skip
        told = {"size": 13, "y": LANES - 21}
        marks.append(
            Words(key="target's", text="teacher", x=x, anchor="middle", fill=REPAIR, **told)
        )
        axis = {"size": 13, "fill": "faint", "y": bottom + 16}
        marks.append(Words(key="axis", text="share of WAIT, student", x=8, **axis))
        for key, text, x in (("push", "push", PUSH), ("loss", "loss, nats", LOSS)):
            head = {"size": 13, "fill": "faint", "anchor": "end", "y": LANES - 21}
            marks.append(Words(key=f"{key}'s head", text=text, x=x + 56, **head))
        return marks

    def _lanes(self, k: int, pushed: bool) -> list[Mark]:
        marks: list[Mark] = []
        for row, name in enumerate(self.names):
            one, y = self.result.charge(name), LANES + self.pitch * row
            strong = name == self.divergence
            opacity = 1 if strong else 0.6
            x, begin, push = x_of(one.walk[k]), x_of(self.start), one.pushes[k]
            words = f"{DIVERGENCE_NAMES[name]}: the student says WAIT with {short(one.walk[k])}" + (
                f"; push {push_text(push)}, loss {number(one.losses[k])} nats." if pushed else "."
            )
            link = {"link": name, "words": words, "click": {"divergence": name}}
            marks.append(
                Words(
                    key=f"name:{name}", text=DIVERGENCE_NAMES[name], x=8, y=y + 5, bold=strong,
                    fill="ink" if strong else "faint", size=13, **link,
                )
            )  # fmt: skip
            rail = {"stroke": "faint", "width": 1, "opacity": 0.5}
            marks.append(Line(key=f"rail:{name}", x=LEFT, y=y, x2=RIGHT, y2=y, **rail))
            marks.append(
                Line(
                    key=f"trail:{name}", x=begin, y=y, x2=x, y2=y, stroke=STUDENT,
                    width=4 if strong else 2.5, opacity=opacity * (abs(x - begin) > 0.5),
                )
            )  # fmt: skip
            length = ARROW * max(min(push, 1), -1)
            seen = pushed and abs(length) >= 4
            marks.append(
                Arrow(
                    key=f"arrow:{name}", x=x, y=y, x2=x + (length if seen else 0), y2=y,
                    stroke=STUDENT, width=3 if strong else 2, opacity=opacity if seen else 0,
                )
            )  # fmt: skip
            marks.append(
                Circle(
                    key=f"dot:{name}", x=x, y=y, r=8 if strong else 5.5, fill=STUDENT,
                    stroke="page", opacity=opacity, layer=1, **link,
                )
            )  # fmt: skip
            if pushed:
                for key, text, at in (
                    ("push", push_text(push), PUSH), ("loss", fixed(one.losses[k], 3), LOSS),
                ):  # fmt: skip
                    look = {"anchor": "end", "bold": strong, "fill": STUDENT if strong else "faint"}
                    marks.append(
                        Words(key=f"{key}:{name}", text=text, x=at + 56, y=y + 5, size=13, **look)
                    )
        return marks

    # ------------------------------------------------------------------------------ the sums

    def arithmetic(self) -> dict[str, Arithmetic]:
        """The pushes of the worked example, for the two plain directions."""
        result, t = self.result, self.target
        lines = {}
        if result.params.full or result.params.temperature != 1:
            return lines
        e = self.start
        forward, reverse = result.charge("forward_kl"), result.charge("reverse_kl")
        lines["forward_kl"] = Arithmetic(
            text=f"push = λ − ε = {number(t)} − {number(e)} = {push_text(forward.pushes[0])}",
            tex=rf"-\frac{{\partial}}{{\partial z}} = \lambda - \epsilon = {_tex(t)} - {_tex(e)} = "
            rf"{_tex(forward.pushes[0])}",
        )
        lines["reverse_kl"] = Arithmetic(
            text=(
                f"push = ε (1 − ε) [ln λ/ε − ln (1 − λ)/(1 − ε)] = {push_text(reverse.pushes[0])}"
            ),
            tex=r"-\frac{\partial}{\partial z} = \epsilon(1-\epsilon)\Bigl[\ln"
            rf"\tfrac{{\lambda}}{{\epsilon}} - \ln\tfrac{{1-\lambda}}{{1-\epsilon}}\Bigr] = "
            rf"{_tex(e)}\,"
            rf"\Bigl[{math.log(t / e):.2f} - ({math.log((1 - t) / (1 - e)):.2f})\Bigr] = "
            rf"{_tex(reverse.pushes[0])}",
        )
        return lines


def _tex(value: Number) -> str:
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"{mantissa}\cdot 10^{{{int(exponent)}}}"
