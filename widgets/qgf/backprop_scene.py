"""The hero of "Through all steps, or one": two neighbours run to the end, the slope comes back.

Above, time runs from left to right, position upwards, between the roads of unguided particles.
Below stands, under every time, what a slope at the end has been multiplied by when it has come back
to there: one bar for each of the two, on a scale of powers of ten. At the right their gradients
stand side by side, by one jump (QGF) and through all steps (backpropagation through time, BPTT).
"""

from functools import cached_property

import numpy as np

from intuitive.qgf.experiments.backprop import Shaken

from ..kit import (
    Arithmetic,
    Arrow,
    Circle,
    Drag,
    Frame,
    Line,
    Mark,
    Path,
    Rectangle,
    Scene,
    Words,
    chosen,
    fixed,
    number,
    percent,
)
from .styles import MODE_NAMES
from .ways import Way

Number = int | float

WIDTH, HEIGHT = 1000, 420
LEFT, RIGHT, TOP, BOTTOM = 66, 596, 34, 244  # of the paths
CEILING, FLOOR = 284, 392  # of the bars below
DECADES = (-2.0, 2.5)  # powers of ten of the bars
PANEL, PANEL_END = 690, 970  # of the gradients
REACH = {"A": 3.0, "B": 1.7, "C": 1.7}
N_SHOWN = 60  # roads
LOOKS = ({"fill": "ink"}, {"fill": "page"})  # of the lower and the upper particle
LEAST, MOST = 0.01, 300.0  # of the gradients' lengths, on a scale of powers of ten
AXIS = 324  # of these lengths


class Picture:
    """All frames of one result."""

    def __init__(self, result: Shaken) -> None:
        self.result, self.params, self.pair = result, result.params, result.pair
        self.reach = REACH[self.params.preset]
        self.n = len(self.pair.times)

    # ------------------------------------------------------------------------------- places

    def x(self, t: Number) -> float:
        return LEFT + (RIGHT - LEFT) * float(t)

    def ys(self, positions: np.ndarray) -> np.ndarray:
        shown = np.clip(positions, -self.reach, self.reach)
        return BOTTOM - (BOTTOM - TOP) * (shown + self.reach) / (2 * self.reach)

    def y(self, position: Number) -> float:
        return float(self.ys(np.array([position]))[0])

    def bar(self, factor: Number) -> float:
        """Height at which a factor's bar ends; the line of 1 is where it begins."""
        power = np.log10(max(abs(float(factor)), 1e-9))
        share = (np.clip(power, *DECADES) - DECADES[0]) / (DECADES[1] - DECADES[0])
        return FLOOR - (FLOOR - CEILING) * float(share)

    # ------------------------------------------------------------------------------- frames

    def frames(self) -> tuple[Frame, ...]:
        last = self.n - 1
        frames = [self._frame("pair", 0, None)]
        frames += [self._frame("forward", k, None) for k in range(1, self.n)]
        frames += [self._frame("slope", last, last)]
        frames += [self._frame("back", last, k) for k in range(last - 1, -1, -1)]
        return (*frames, self._frame("gradients", last, 0))

    def _frame(self, stage: str, walked: int, back: int | None) -> Frame:
        marks = [*self.ground, *self._paths(walked)]
        if back is not None:
            marks += [*self._slopes(), *self._bars(back)]
        if stage == "gradients":
            marks += self._gradients()
        at = walked if back is None else back
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
            label="gradients" if stage == "gradients" else f"t = {fixed(self.pair.times[at])}",
            stage=stage,
            sentence=self._sentence(stage, at),
            arithmetic=self._arithmetic(at) if back is not None else {},
        )

    def _sentence(self, stage: str, at: int) -> str:
        pair, t = self.pair, fixed(self.pair.times[at])
        if stage == "pair":
            return (
                f"Two particles {chosen(self.params.distance)} apart at t = {t}. How would their "
                "final actions change, if they moved a little?"
            )
        if stage == "forward":
            apart = number(abs(float(pair.x[at, 1] - pair.x[at, 0])), 2)
            return f"Both run on, unguided. At t = {t} they are {apart} apart."
        if stage == "slope":
            one, two = (fixed(s, sign=True) for s in pair.slope)
            return f"At the end the critic slopes by {one} at the one and {two} at the other."
        if stage == "back":
            one, two = (number(d, 2) for d in pair.derivative[at])
            so_far = " and ".join(number(d, 2) for d in pair.back[at])
            return f"Back through the step at t = {t}: times {one} and {two}. So far {so_far}."
        return self.outcome

    @cached_property
    def outcome(self) -> str:
        """Both gradients by both ways."""
        qgf, bptt = (
            " and ".join(number(value, 3, sign=True) for value in values)
            for values in (self.pair.qgf, self.pair.bptt)
        )
        return f"QGF's gradients: {qgf}. Through all steps: {bptt}."

    # ------------------------------------------------------------------------------- what stays

    @cached_property
    def ground(self) -> tuple[Mark, ...]:
        faint = {"fill": "faint", "size": 12.5}
        marks: list[Mark] = [
            Words(key="position", text="position ↑", x=8, y=18, **faint),
            Words(key="factor", text="slope from the end, multiplied by", x=8, y=272, **faint),
        ]
        for at in np.arange(-3, 4) * (1.0 if self.reach > 2 else 0.8):
            if abs(at) < self.reach:
                text, y = chosen(round(float(at), 1)), self.y(at) + 4
                marks.append(Words(key=f"at:{at:.1f}", text=text, x=46, y=y, anchor="end", **faint))
        for at in (0, 0.2, 0.4, 0.6, 0.8, 1):
            text = {0: "t = 0", 1: "t = 1, action"}.get(at, chosen(at))
            place = {"x": self.x(at), "y": FLOOR + 18, "anchor": "middle"}
            marks.append(Words(key=f"time:{at}", text=text, **place, **faint))
        for factor in (0.01, 0.1, 1, 10, 100):
            y, plain = self.bar(factor), factor != 1
            line = {"stroke": "faint", "width": 0.6, "opacity": 0.5} if plain else {"stroke": "ink"}
            marks.append(Line(key=f"factor:{factor}", x=LEFT, y=y, x2=RIGHT, y2=y, **line))
            place = {"x": 46, "y": y + 4, "anchor": "end", **faint}
            marks.append(Words(key=f"factor's name:{factor}", text=f"×{chosen(factor)}", **place))
        edge = {"stroke": "faint", "width": 1}
        marks.append(Line(key="edge", x=RIGHT, y=TOP, x2=RIGHT, y2=BOTTOM, **edge))
        return (*marks, *self._roads())

    def _roads(self) -> list[Mark]:
        """Where unguided particles go, and the hills of data where they end."""
        result, mixture = self.result, self.params.flow.mixture
        xs = np.rint([self.x(k / self.params.n_steps) for k in range(len(result.roads))])
        marks: list[Mark] = []
        for mode, colour in enumerate(MODE_NAMES):
            members = np.flatnonzero(result.modes[:N_SHOWN] == mode)
            lines = [self._way(xs, path, len(path)) for path in result.roads[:, members].T]
            look = {"stroke": colour, "width": 1, "opacity": 0.28}
            marks.append(Path(key=f"road:{mode}", d="".join(lines), **look))
            mean, std = float(mixture.means[mode]), float(mixture.stds[mode])
            places = mean + std * np.linspace(-3.5, 3.5, 29)
            tall = 30 * np.exp(-((places - mean) ** 2) / (2 * std**2))
            words = f"The data's mode at {chosen(mean)}."
            hill = {"fill": colour, "opacity": 0.5, "link": f"mode:{mode}", "words": words}
            marks.append(
                Path.through(
                    RIGHT + 1 + tall, self.ys(places), closed=True, key=f"hill:{mode}", **hill
                )
            )
        return marks

    def _way(self, xs: np.ndarray, positions: np.ndarray, upto: int) -> str:
        """A path up to a step."""
        return Way(xs, self.ys(positions), np.abs(positions) > self.reach).upto(upto)

    # ------------------------------------------------------------------------------- what moves

    def _paths(self, walked: int) -> list[Mark]:
        pair, marks = self.pair, []
        times = np.array([self.x(t) for t in pair.times])
        scale = {
            "y": "place",
            "y_scale": ((-self.reach, self.y(-self.reach)), (self.reach, self.y(self.reach))),
            "x": "time",
            "x_scale": ((0.0, self.x(0)), (1.0, self.x(1))),
        }
        for i, look in enumerate(LOOKS):
            at = float(pair.x[walked, i])
            words = f"The {('lower', 'upper')[i]} of the two is at {fixed(at)}."
            own = {"link": f"particle:{i}", "words": words}
            dash = {} if i == 0 else {"dash": "5 3"}
            line = {"stroke": "ink", "width": 2.5, "layer": 3, **dash, **own}
            d = self._way(times, pair.x[:, i], walked)
            marks.append(Path(key=f"path:{i}", d=d, **line))
            x, y = self.x(pair.times[walked]), self.y(at)
            disc = {"r": 6, "stroke": "ink", "width": 2, "layer": 4, **look, **own}
            marks.append(Circle(key=f"now:{i}", x=x, y=y, **disc))
        start = {"x": self.x(pair.times[0]), "y": self.y(pair.x[0].mean())}
        words = (
            f"The pair starts at {fixed(pair.x[0, 0])} at t = {fixed(pair.times[0])}. Drag it up, "
            "down, or through time."
        )
        look = {"r": 12, "stroke": "ink", "width": 1.5, "fill": "page", "opacity": 0.9, "layer": 5}
        look |= {"label": "✥", "size": 14, "link": "start", "words": words, "drag": Drag(**scale)}
        return [*marks, Circle(key="start", **start, **look)]

    def _slopes(self) -> list[Mark]:
        """The critic's slope where each path ends."""
        marks = []
        for i in range(2):
            slope, y = float(self.pair.slope[i]), self.y(self.pair.x[-1, i])
            x = RIGHT + 40 + 16 * i
            words = f"The critic's slope where the path ends: {fixed(slope, sign=True)}."
            look = {"stroke": "gold", "width": 3, "layer": 4, "link": f"slope:{i}", "words": words}
            y2 = min(max(y - 26 * slope, 22), BOTTOM + 16)
            marks.append(Arrow(key=f"slope:{i}", x=x, y=y, x2=x, y2=y2, head=8, **look))
        return marks

    def _bars(self, back: int) -> list[Mark]:
        """The product of the derivatives, from the end back to a step."""
        pair, one, marks = self.pair, self.bar(1), []
        wide = min((RIGHT - LEFT) / self.params.n_steps * 0.36, 13)
        for k in range(self.n - 1, back - 1, -1):
            for i, look in enumerate(LOOKS):
                factor = float(pair.back[k, i])
                top = self.bar(factor)
                words = (
                    f"Back at t = {fixed(pair.times[k])} the slope has been multiplied by "
                    f"{number(factor, 2)}."
                )
                link = f"back:{k}:{i}"
                size = {"w": wide, "h": max(abs(top - one), 1.5), "stroke": "ink", "width": 1.2}
                x = self.x(pair.times[k]) + (i - 1) * wide
                own = {"link": link, "words": words, "layer": 2, **look}
                marks.append(Rectangle(key=link, x=x, y=min(top, one), **size, **own))
        so_far = " and ".join(f"×{number(float(value), 2)}" for value in pair.back[back])
        place = {"x": RIGHT, "y": 272, "size": 13, "bold": True, "anchor": "end"}
        marks.append(Words(key="so far", text=so_far, **place))
        return marks

    def _gradients(self) -> list[Mark]:
        """Both gradients, by one jump and through all steps, as bars of powers of ten."""
        marks: list[Mark] = self._jumps()
        parts = (
            ("qgf", "QGF: one jump, derivative left out", self.pair.qgf, 96),
            ("bptt", "BPTT: back through all steps", self.pair.bptt, 226),
        )
        for name, title, values, y in parts:
            place = {"x": PANEL, "y": y - 16}
            marks.append(Words(key=f"{name}'s name", text=title, bold=True, size=14, **place))
            for i, look in enumerate(LOOKS):
                value = float(values[i])
                long = self._long(value)
                words = f"{title}: the gradient is {number(value, 3, sign=True)}."
                own = {"link": f"gradient:{name}:{i}", "words": words, "layer": 3, **look}
                box = {"x": PANEL, "y": y + 28 * i, "w": long, "h": 18, "corner": 2}
                marks.append(Rectangle(key=f"{name}:{i}", stroke="ink", width=1.5, **box, **own))
                text = number(value, 3, sign=True)
                place = {"x": PANEL + long + 8, "y": y + 28 * i + 14}
                look = {"fill": "gold", "bold": True, "size": 15}
                marks.append(Words(key=f"{name}'s value:{i}", text=text, **place, **look))
            told = {"size": 13, "fill": "faint", "x": PANEL, "y": y + 74}
            marks.append(Words(key=f"{name} apart", text=apart(values), **told))
        return [*marks, *self._lengths()]

    def _long(self, length: Number) -> float:
        """How long the bar of a gradient is, by powers of ten."""
        power = np.log10(min(max(abs(float(length)), LEAST), MOST) / LEAST)
        return 4 + 150 * float(power) / np.log10(MOST / LEAST)

    def _lengths(self) -> list[Mark]:
        """The axis of the gradients' bars: every mark is ten times the one before."""
        look = {"fill": "faint", "size": 12.5}
        end = {"x": PANEL, "x2": PANEL + self._long(MOST), "y": AXIS, "y2": AXIS}
        marks: list[Mark] = [Line(key="lengths", stroke="faint", width=1, **end)]
        for length in (0.01, 0.1, 1, 10, 100):
            x = PANEL + self._long(length)
            tick = {"x": x, "x2": x, "y": AXIS, "y2": AXIS + 5, "stroke": "faint", "width": 1}
            marks.append(Line(key=f"length:{length}", **tick))
            if length in (0.01, 1, 100):
                at = {"x": x, "y": AXIS + 19, "anchor": "middle"}
                marks.append(
                    Words(key=f"length's name:{length}", text=chosen(length), **at, **look)
                )
        said = "bars by powers of ten"
        return [*marks, Words(key="scale", text=said, x=PANEL, y=AXIS + 38, **look)]

    def _jumps(self) -> list[Mark]:
        """QGF's straight jumps to the clean estimates."""
        marks: list[Mark] = []
        for i in range(2):
            at, estimate = float(self.pair.x[0, i]), float(self.pair.estimate[i])
            words = f"QGF's jump from {fixed(at)} to the clean estimate {fixed(estimate)}."
            line = {"x": self.x(self.pair.times[0]), "y": self.y(at)}
            line |= {"x2": RIGHT - 4, "y2": self.y(estimate), "head": 7}
            own = {"link": f"gradient:qgf:{i}", "words": words}
            look = {"stroke": "gold", "width": 1.6, "layer": 4, **own}
            marks.append(Arrow(key=f"jump:{i}", **line, **look))
        return marks

    def _arithmetic(self, at: int) -> dict[str, Arithmetic]:
        pair, lines = self.pair, {}
        for i in range(2):
            for k in range(self.n - 1, at - 1, -1):
                parts = [float(d) for d in pair.derivative[k:, i]]
                told = " · ".join(number(d, 2) for d in parts) or "1"
                tex = r" \cdot ".join(f"{d:.2f}" for d in parts) or "1"
                total = float(pair.back[k, i])
                lines[f"back:{k}:{i}"] = Arithmetic(
                    text=f"{told} = {number(total, 2)}",
                    tex=rf"\partial x_1/\partial x_t = {tex} = {total:.3g}",
                )
            slope, first = float(pair.slope[i]), float(pair.back[0, i])
            lines[f"gradient:bptt:{i}"] = Arithmetic(
                text=f"Q′ · ∂x₁/∂x = {fixed(slope)} · {number(first, 3)} = "
                f"{number(float(pair.bptt[i]), 3)}",
                tex=rf"Q'(x_1)\,\partial x_1/\partial x_t = {slope:.2f}\cdot {first:.3g} = "
                rf"{float(pair.bptt[i]):.3g}",
            )
            at_estimate = float(pair.estimate[i])
            lines[f"gradient:qgf:{i}"] = Arithmetic(
                text=f"Q′({fixed(at_estimate)}) = {fixed(float(pair.qgf[i]))}",
                tex=rf"Q'(\hat x_1) = Q'({at_estimate:.2f}) = {float(pair.qgf[i]):.2f}",
            )
        return lines


def apart(values: np.ndarray) -> str:
    """How much two gradients differ, in words."""
    one, two = (float(value) for value in values)
    larger, smaller = max(abs(one), abs(two)), min(abs(one), abs(two))
    if larger < 1e-9:
        return "both are nothing"
    if one * two < 0:
        return "they point in opposite directions"
    if smaller < 1e-9 * larger:
        return "one of them is nothing"
    if larger / smaller > 2:
        return f"one is {number(float(f'{larger / smaller:.1e}'), 2)} times the other"
    if 1 - smaller / larger < 5e-4:
        return "they are equal"
    return f"they differ by {percent(1 - smaller / larger, 1)}"
