"""The hero of "Optimiser or sampler?": every method's way through return and distance, over w.

Distance from the data (KL, in nats) runs to the right, mean return upwards. Nothing can lie in the
grey corner: its green edge are the exact tilts by the return. Every frame is one weight; a method's
point moves on and draws its curve behind it. The chosen method is strong, the others are faint, and
what leaves the picture stays at its edge with an arrow and its value.
"""

import itertools
from functools import cached_property

import numpy as np

from intuitive.qgf.experiments.frontier import Compared
from intuitive.qgf.guidance import ESTIMATOR_NAMES, ESTIMATORS
from intuitive.qgf.sweep import Curve, best_at, least_kl

from ..kit import (
    Arithmetic,
    Circle,
    Frame,
    Line,
    Mark,
    Path,
    Readout,
    Scene,
    Words,
    chosen,
    fixed,
    number,
)
from .labels import Box, Labels, text_box
from .styles import distance, short, stability

Number = int | float

WIDTH, HEIGHT = 1000, 428
LEFT, RIGHT, TOP, BOTTOM = 62, 930, 22, 384
ROOM = Box(LEFT + 2, 4, WIDTH - 4, BOTTOM + 2)
FARTHEST = 4.0  # nats; what lies farther stands at the edge
BELOW = 0.5  # of the possible gain, shown below the return of the data


def told_weight(w: Number) -> str:
    """A weight of the sweep, in two digits."""
    return chosen(round(w, 2))


class Picture:
    """All frames of one result."""

    def __init__(self, result: Compared) -> None:
        self.result, self.sweep, self.curve = result, result.sweep, result.curve
        front = self.sweep.by_return
        least, most = float(front.true_return[0]), float(front.true_return[-1])
        self.nothing = least
        self.low, self.high = least - BELOW * (most - least), most + 0.09 * (most - least)

    # ------------------------------------------------------------------------------- places

    def x(self, kl: Number) -> float:
        return LEFT + (RIGHT - LEFT) * min(float(kl), FARTHEST) / FARTHEST

    def y(self, earned: Number) -> float:
        share = (max(float(earned), self.low) - self.low) / (self.high - self.low)
        return BOTTOM - (BOTTOM - TOP) * min(share, 1)

    def outside(self, kl: Number, earned: Number) -> str:
        """An arrow with the values that are out of sight, or nothing."""
        right, below = kl > FARTHEST, earned < self.low
        far = f"→ {distance(kl, 'nats')}" if right else ""
        deep = f"↓ {short(earned)}" if below else ""
        return ", ".join(filter(None, (far, deep)))

    # ------------------------------------------------------------------------------- frames

    def frames(self) -> tuple[Frame, ...]:
        return tuple(self._frame(place) for place in range(len(self.sweep.weights)))

    def _frame(self, place: int) -> Frame:
        labels = Labels(ROOM, self.taken)
        marks = [*self.ground, *self._methods(place, labels)]
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=(*marks, *labels.marks)),
            label=f"w = {told_weight(self.sweep.weights[place])}",
            sentence=self.sentence(place),
            readouts=self.readouts(place),
            arithmetic=self._arithmetic(place),
        )

    def sentence(self, place: int) -> str:
        """The chosen method beside the exact tilt of the same weight."""
        w, name = told_weight(self.sweep.weights[place]), ESTIMATOR_NAMES[self.result.estimator]
        kl, got = float(self.curve.kl_to_bc[place]), float(self.curve.true_return[place])
        tilt = self.sweep.by_critic
        reached = f"{name} earns {short(got)} at {distance(kl, 'nats')}"
        return (
            f"w = {w}: {reached}; {self.verdict(kl, got)}. "
            f"Exact tilt: {short(tilt.true_return[place])} at {number(tilt.kl[place], 2)}."
        )

    def verdict(self, kl: float, got: float) -> str:
        """What the front says of a return at a distance."""
        needed = least_kl(self.sweep.by_return, got)
        if got < self.nothing:
            return f"the data alone have {fixed(self.nothing)}"
        if needed > kl:  # no sample can: its distance was counted in bins
            return "too narrow a sample for bins of σ/3"
        return f"{fixed(needed, unit='nats')} would do"

    def readouts(self, place: int) -> tuple[Readout, ...]:
        kl, got = float(self.curve.kl_to_bc[place]), float(self.curve.true_return[place])
        ascends = ESTIMATORS[self.result.estimator].ascends
        return (
            Readout("return", short(got), link=f"method:{self.result.estimator}"),
            Readout("nats from the data", distance(kl)),
            stability(float(self.sweep.stability[place]), ascends=ascends),
        )

    # ------------------------------------------------------------------------------- what stays

    @cached_property
    def ground(self) -> tuple[Mark, ...]:
        faint = {"fill": "faint", "size": 12.5}
        marks: list[Mark] = [
            Words(key="return", text="mean return ↑", x=6, y=13, **faint),
            Words(
                key="kl",
                text="KL from the data, nats →",
                x=RIGHT,
                y=HEIGHT - 6,
                anchor="end",
                **faint,
            ),
        ]
        for at in range(int(FARTHEST) + 1):
            place = {"x": self.x(at), "y": BOTTOM + 18, "anchor": "middle"}
            marks.append(Words(key=f"kl:{at}", text=f"{at}", **place, **faint))
        for at in self._ticks():
            y = self.y(at)
            line = {"stroke": "faint", "width": 0.6, "opacity": 0.4}
            marks.append(Line(key=f"grid:{at:.2f}", x=LEFT, y=y, x2=RIGHT, y2=y, **line))
            place = {"x": LEFT - 8, "y": y + 4, "anchor": "end"}
            marks.append(Words(key=f"at:{at:.2f}", text=chosen(round(at, 2)), **place, **faint))
        front = self.sweep.by_return
        near = front.kl <= FARTHEST
        xs = [self.x(0), *(self.x(kl) for kl in front.kl[near]), RIGHT]
        ys = [self.y(v) for v in front.true_return[near]]
        ys = [ys[0], *ys, ys[-1]]
        words = "No distribution gets here: none earns more at the same distance from the data."
        look = {"fill": "grey", "opacity": 0.22, "words": words, "link": "impossible"}
        corner = ([*xs, RIGHT, self.x(0)], [*ys, TOP, TOP])
        marks.append(Path.through(*corner, closed=True, key="impossible", **look))
        words = "The frontier: exact tilts of the data by the return, from weak to strong."
        look = {"stroke": "green", "width": 3, "words": words, "link": "front", "layer": 1}
        marks.append(Path.through(xs, ys, key="front", **look))
        said = "no distribution gets here"
        marks.append(Words(key="said", text=said, x=LEFT + 10, y=TOP + 15, size=13))
        said = "frontier: the most at this distance"
        look = {"fill": "green", "bold": True, "size": 13, "anchor": "end"}
        marks.append(Words(key="front's name", text=said, x=RIGHT - 8, y=TOP + 15, **look))
        y = self.y(self.nothing)
        marks.append(Circle(key="data", x=self.x(0), y=y, r=5, fill="grey", words="The data."))
        look = {"fill": "faint", "size": 12.5}
        marks.append(Words(key="data's name", text="the data", x=LEFT + 10, y=y + 17, **look))
        return tuple(marks)

    def _ticks(self) -> list[float]:
        """Round values of the return in sight."""
        span = self.high - self.low
        step = next(s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0) if span / s <= 6)
        first = int(np.ceil(self.low / step))
        return [k * step for k in range(first, int(self.high / step) + 1)]

    @cached_property
    def taken(self) -> list[Box]:
        """Where no name may move."""
        boxes = [
            text_box(m.text, m.size, m.x, m.y, m.anchor)
            for m in self.ground
            if isinstance(m, Words)
        ]
        return boxes

    # ------------------------------------------------------------------------------- what moves

    def _methods(self, place: int, labels: Labels) -> list[Mark]:
        chosen_one = self.result.estimator
        order = sorted(self.sweep.curves, key=lambda c: c.estimator == chosen_one)
        marks: list[Mark] = []
        tilt = self.sweep.by_critic
        tx, ty = self.x(tilt.kl[place]), self.y(tilt.true_return[place])
        spots = [self._spot(curve, place) for curve in order]
        labels.keep_off(Box.around(tx, ty, 8), *(Box.around(x, y, 6) for x, y in spots))
        for curve in order:
            corners = [self._spot(curve, k) for k in range(place + 1)]
            for one, other in itertools.pairwise(corners):
                labels.prefer_off_line(*one, *other)
        link = {"stroke": "grey", "width": 1.2, "dash": "2 3"}
        (cx, cy), name = spots[-1], ESTIMATOR_NAMES[chosen_one]
        marks.append(Line(key="beside the tilt", x=tx, y=ty, x2=cx, y2=cy, **link))
        words = (
            f"The exact tilt at this w: return {fixed(tilt.true_return[place])} at "
            f"{number(tilt.kl[place], 2, unit='nats')}."
        )
        look = {"r": 7, "fill": "green", "stroke": "page", "width": 2, "layer": 4}
        marks.append(Circle(key="tilt", x=tx, y=ty, link="tilt", words=words, **look))
        self._name(labels, "chosen's name", name, self.curve, place, cx, cy, strong=True)
        places = [(tx + dx, ty + dy, a) for dx, dy, a in _AROUND]
        labels.put("tilt's name", "exact tilt, this w", places, fill="green", bold=True)
        for curve, (x, y) in zip(order, spots, strict=True):
            strong = curve.estimator == chosen_one
            marks += self._method(curve, place, x, y, strong=strong)
            if not strong:
                said = ESTIMATOR_NAMES[curve.estimator]
                key = f"name:{curve.estimator}"
                self._name(labels, key, said, curve, place, x, y, strong=False)
        return marks

    def _spot(self, curve: Curve, place: int) -> tuple[float, float]:
        return self.x(curve.kl_to_bc[place]), self.y(curve.true_return[place])

    def _method(self, curve: Curve, place: int, x: float, y: float, *, strong: bool) -> list[Mark]:
        ks = np.minimum(np.arange(len(self.sweep.weights)), place)
        xs = [self.x(curve.kl_to_bc[k]) for k in ks]
        ys = [self.y(curve.true_return[k]) for k in ks]
        name = ESTIMATOR_NAMES[curve.estimator]
        kl, got = float(curve.kl_to_bc[place]), float(curve.true_return[place])
        words = f"{name} earns {short(got)} at {distance(kl, 'nats')} from the data."
        own = {"link": f"method:{curve.estimator}", "words": words}
        own |= {"click": {"estimator": curve.estimator}}
        line = {"stroke": "ink" if strong else "grey", "width": 3 if strong else 1.2}
        line |= {"opacity": 1 if strong else 0.65, "layer": 3 if strong else 1}
        disc = {"r": 8 if strong else 5, "fill": "ink" if strong else "grey", "stroke": "page"}
        disc |= {"layer": 4 if strong else 3, "width": 2 if strong else 1}
        key = f"way:{curve.estimator}"
        return [
            Path.through(xs, ys, key=key, **line, **own),
            Circle(key=f"point:{curve.estimator}", x=x, y=y, **disc, **own),
        ]

    def _name(
        self,
        labels: Labels,
        key: str,
        name: str,
        curve: Curve,
        place: int,
        x: float,
        y: float,
        *,
        strong: bool,
    ) -> None:
        out = self.outside(float(curve.kl_to_bc[place]), float(curve.true_return[place]))
        text = f"{name} {out}" if out else name
        around = _AROUND if x < RIGHT - 60 else _LEFT_OF
        if strong and around is _LEFT_OF:  # not where the line to the exact tilt arrives
            below = self.y(self.sweep.by_critic.true_return[place]) > y
            around = sorted(_LEFT_OF, key=lambda spot: spot[1] > -10 if below else spot[1] < 18)
        places = [(x + dx, y + dy, anchor) for dx, dy, anchor in around]
        look = {"fill": "ink" if strong else "faint", "bold": strong}
        labels.put(key, text, places, size=15 if strong else 12.5, **look)

    def _arithmetic(self, place: int) -> dict[str, Arithmetic]:
        front, lines = self.sweep.by_return, {}
        for curve in self.sweep.curves:
            kl, got = float(curve.kl_to_bc[place]), float(curve.true_return[place])
            if not np.isfinite(kl) or kl > FARTHEST:
                continue
            most = best_at(front, kl)
            lines[f"method:{curve.estimator}"] = Arithmetic(
                text=f"{fixed(got)} of the {fixed(most)} that are possible at {fixed(kl)} nats",
                tex=rf"{got:.2f} \le \max_{{\mathrm{{KL}}\,\le\,{kl:.2f}}} E[r] = {most:.2f}",
            )
        return lines


_AROUND = (
    (12, -8, "start"),
    (12, 16, "start"),
    (-12, -8, "end"),
    (-12, 16, "end"),
    (12, 4, "start"),
    (-12, 4, "end"),
    (0, 26, "middle"),
    (0, -18, "middle"),
    (12, 32, "start"),
    (-12, 32, "end"),
    (12, 48, "start"),
    (12, -24, "start"),
)
_LEFT_OF = tuple((-12, dy, "end") for dy in (4, -10, 18, -24, 32, -38, 46, 60, 74))
