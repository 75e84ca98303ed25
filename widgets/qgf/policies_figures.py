"""The hero of "Policies on the fork world": episodes walk, guided and by imitation alone.

Left the plane with its goals, of which the filled one pays, and golden lines of what the critic
thinks a position is worth. Right the share that has arrived, step by step, and what a decision
costs. The chosen way is strong, imitation from the same first positions is faded beside it.
"""

from functools import cached_property

import numpy as np

from intuitive.qgf.experiments.policies import SIGHT, PolicyResult, WayRollouts
from intuitive.qgf.policies import WAYS
from intuitive.qgf.results import ForkRuns

from ..kit import (
    Arithmetic,
    Circle,
    Frame,
    Line,
    Mark,
    Path,
    Readout,
    Rectangle,
    Scene,
    Swarm,
    Words,
    chosen,
    fixed,
    percent,
)
from .contours import crossings
from .labels import Box, Labels, text_box
from .ways import Way, beyond

WIDTH, HEIGHT = 1000, 438
UNIT, LEFT, TOP = 216, 1, 2
(LOW_X, HIGH_X), (LOW_Y, HIGH_Y) = SIGHT
WIDE, TALL = UNIT * (HIGH_X - LOW_X), UNIT * (HIGH_Y - LOW_Y)
CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 640, 976, 40, 250
COST_LEFT, COST_TOP, COST_UNIT = 696, 336, 17
LEVELS = (-40, -30, -20, -10, -5)  # of the value
EVERY = 2  # steps between two frames
N_TRAILS = 14  # episodes whose way is drawn, for each of the two
NEAR = 1.6  # times its reach, an episode is counted at a goal
ARRIVED = "episodes that have reached the goal that pays"
SAID = {"bc": "imitation"}
UNKNOWN = "?"


def label(way: WayRollouts) -> str:
    """A way's name within a sentence."""
    return SAID.get(way.name, way.label)


class Picture:
    """All frames of one result: the chosen way, and imitation beside it."""

    def __init__(self, result: PolicyResult, runs: ForkRuns) -> None:
        self.result, self.runs = result, runs
        self.way = result.ways[-1]
        self.beside = result.ways[0] if len(result.ways) > 1 else None
        self.shown = [way for way in (self.beside, self.way) if way is not None]
        self.colours = {self.way.name: "ink"}  # hues belong to modes, goals and the critic
        if self.beside is not None:
            self.colours[self.beside.name] = "grey"
        self.n_steps = self.way.paths.shape[1] - 1
        self.told = sorted({*range(0, self.n_steps + 1, EVERY), self.n_steps})
        lost = ~self.beside.won if self.beside is not None else np.ones_like(self.way.won)
        self.one = int((lost & self.way.won).argmax())

    # ------------------------------------------------------------------------------- places

    def at(self, positions: np.ndarray):
        """Where positions [..., 2] stand; what is out of sight stands at the edge."""
        x = np.clip(positions[..., 0], LOW_X + 0.01, HIGH_X - 0.01)
        y = np.clip(positions[..., 1], LOW_Y + 0.01, HIGH_Y - 0.01)
        return LEFT + UNIT * (x - LOW_X), TOP + UNIT * (HIGH_Y - y)

    def step_x(self, step: int):
        return CURVE_LEFT + (CURVE_RIGHT - CURVE_LEFT) * step / self.n_steps

    def share_y(self, share: int | float):
        return CURVE_BOTTOM - (CURVE_BOTTOM - CURVE_TOP) * share

    @cached_property
    def arrived(self) -> dict[str, np.ndarray]:
        """Share of episodes that have won, by way and step: a won episode stays where it is."""
        goal, found = self.result.goals[0], {}
        for way in self.shown:
            gap = np.linalg.norm(way.paths - goal, axis=-1)
            found[way.name] = (gap < self.result.reach).mean(0)
        return found

    # ------------------------------------------------------------------------------- what stays

    @cached_property
    def ground(self) -> tuple[Mark, ...]:
        """Goals, the critic's lines, axes, and what a decision costs."""
        result = self.result
        side = {"w": WIDE, "h": TALL, "stroke": "faint", "width": 1, "corner": 3}
        marks: list[Mark] = [Rectangle(key="plane", x=LEFT, y=TOP, **side)]
        marks += self._worth()
        for i, goal in enumerate(result.goals):
            x, y = map(float, self.at(goal))
            pays = i == 0
            words = (
                "The goal that pays: reaching it ends the episode."
                if pays
                else ("A goal that pays nothing; the data goes to it as often.")
            )
            look = {"stroke": "green" if pays else "faint", "fill": "green" if pays else ""}
            look |= {"width": 2, "link": f"goal:{i}", "words": words}
            marks.append(
                Circle(key=f"goal:{i}", x=x, y=y, r=UNIT * result.reach, opacity=0.55, **look)
            )
        return (*marks, *self._axes(), *self._costs())

    def _worth(self) -> list[Mark]:
        """Lines of equal value: how many more steps the critic expects, at best."""
        result, marks = self.result, []
        labels = Labels(Box(LEFT + 2, TOP + 2, LEFT + WIDE - 2, TOP + TALL - 2))
        for level in (v for v in LEVELS if result.value.min() < v < result.value.max()):
            pieces = crossings(result.value_x, result.value_y, result.value, level)
            xs, ys = self.at(pieces)
            ends = zip(xs.tolist(), ys.tolist(), strict=True)
            d = "".join(f"M{a:.0f},{c:.0f}L{b:.0f},{e:.0f}" for (a, b), (c, e) in ends)
            text = fixed(level, 0)
            words = f"On this line the critic expects a return of {text} from good play."
            look = {"stroke": "gold", "width": 1.1, "opacity": 0.6, "link": "value"}
            marks.append(Path(key=f"value:{level}", d=d, words=words, **look))
            middle = pieces.mean(1)
            far = middle[np.argsort(-middle[:, 1])][::4]
            text = f"critic {text}" if level == LEVELS[0] else text
            places = [(*map(float, self.at(spot)), "middle") for spot in far]
            labels.put(f"value's name:{level}", text, places, size=12, fill="gold")
        return marks + labels.marks

    def _axes(self) -> list[Mark]:
        line = {"stroke": "faint", "width": 1}
        foot = {"x": CURVE_LEFT, "y": CURVE_BOTTOM, "x2": CURVE_RIGHT, "y2": CURVE_BOTTOM}
        marks: list[Mark] = [Line(key="foot", **foot, **line)]
        for share in (0.5, 1.0):
            y = self.share_y(share)
            level = {"x": CURVE_LEFT, "y": y, "x2": CURVE_RIGHT, "y2": y, "opacity": 0.4}
            marks.append(Line(key=f"level:{share}", **level, **line))
        for share in (0, 0.5, 1):
            at = CURVE_LEFT - 8, self.share_y(share) + 4.5
            marks.append(_text(f"share:{share}", percent(share), *at, "end"))
        for step in range(0, self.n_steps + 1, 10):
            at = self.step_x(step), CURVE_BOTTOM + 20
            marks.append(_text(f"step:{step}", str(step), *at, "middle"))
        marks.append(_text("steps", "step →", CURVE_RIGHT, CURVE_BOTTOM + 38, "end"))
        at = CURVE_LEFT - 44, CURVE_TOP - 18
        marks.append(
            _text("arrived", "episodes that have reached the goal that pays", *at, "start")
        )
        return marks

    def _costs(self) -> list[Mark]:
        """Recorded time of a decision, imitation's as the unit."""
        at = CURVE_LEFT - 44, COST_TOP - 14
        marks: list[Mark] = [_text("costs", "time of a decision (recorded)", *at, "start")]
        for place, way in enumerate(self.shown):
            y, times = COST_TOP + 30 * place, self.runs.relative_time(way.name)
            bar = {"w": COST_UNIT * times, "h": 16, "corner": 2, "link": "cost"}
            words = (
                f"A decision of {label(way)} takes {fixed(times, 1)} times as long as imitation."
            )
            colour = self.colours[way.name]
            marks += [
                Rectangle(key=f"cost:{place}", x=COST_LEFT, y=y, fill=colour, words=words, **bar),
                _text(f"cost's name:{place}", label(way), COST_LEFT - 10, y + 13, "end", colour),
                _text(
                    f"cost's number:{place}",
                    fixed(times, 1),
                    COST_LEFT + COST_UNIT * times + 8,
                    y + 13,
                    "start",
                    colour,
                    True,
                ),
            ]
        return marks

    # ------------------------------------------------------------------------------- the frames

    def frames(self) -> tuple[Frame, ...]:
        return tuple(self._frame(k) for k in self.told)

    def _frame(self, k: int) -> Frame:
        marks = [*self._crowds(k), *self._trails(k), *self._followed(k), *self._curves(k)]
        labels = self._counts(k)
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=(*self.ground, *marks, *labels)),
            label=f"step {k}",
            sentence=self.sentence(k),
            readouts=self.readouts(k),
        )

    def _crowds(self, k: int) -> list[Mark]:
        marks = []
        for way in self.shown:
            x, y = self.at(way.paths[:, k])
            strong = way is self.way
            # episodes that have won lie in one place: spread them over the goal
            turn = np.arange(len(x)) * 2.39996
            home = np.linalg.norm(way.paths[:, k] - self.result.goals[0], axis=-1)
            there = home < self.result.reach
            home = there[:, None] * 0.06 * UNIT
            x, y = x + (home[:, 0] * np.cos(turn)), y + (home[:, 0] * np.sin(turn))
            look = {"r": 3.2 if strong else 2.6, "opacity": 0.9 if strong else 0.5}
            look |= {"colours": (self.colours[way.name], "green"), "shades": there & strong}
            marks.append(Swarm(key=f"crowd:{strong}", xs=x, ys=y, **look))
        return marks

    @cached_property
    def ways(self) -> dict[str, list[Way]]:
        """The ways of some episodes and of the followed one, which comes last."""
        found = {}
        for way in self.shown:
            episodes = [*range(min(N_TRAILS, len(way.paths))), self.one]
            x, y = self.at(way.paths[episodes][:, self.told])
            out = beyond(way.paths[episodes][:, self.told], SIGHT)
            found[way.name] = [Way(*corners) for corners in zip(x, y, out, strict=True)]
        return found

    def _trails(self, k: int) -> list[Mark]:
        marks, last = [], self.told.index(k)
        for way in self.shown:
            strong = way is self.way
            d = "".join(trail.upto(last) for trail in self.ways[way.name][:-1])
            look = {"opacity": 0.5 if strong else 0.3, "width": 1.2 if strong else 1}
            marks.append(Path(key=f"trails:{strong}", d=d, stroke=self.colours[way.name], **look))
        return marks

    def _followed(self, k: int) -> list[Mark]:
        """One episode that imitation loses and the chosen way wins, if there is one."""
        marks: list[Mark] = []
        for way in self.shown:
            strong = way is self.way
            path = way.paths[self.one]
            x, y = map(float, self.at(path[k]))
            words = (
                f"One episode with {label(way)}, at step {k}"
                f"{': it wins.' if way.won[self.one] else ': it does not win.'}"
            )
            own = {"link": f"one:{strong}", "words": words}
            own_way = self.ways[way.name][-1].upto(self.told.index(k))
            colour = self.colours[way.name]
            line = {"stroke": colour, "width": 3 if strong else 2, "dash": "" if strong else "6 4"}
            marks += [
                Path(key=f"way:{strong}", d=own_way, layer=3 + strong, **line, **own),
                Circle(
                    key=f"walker:{strong}",
                    x=x,
                    y=y,
                    r=7 if strong else 5,
                    fill=colour if strong else "page",
                    stroke="page" if strong else colour,
                    width=2,
                    layer=5 + strong,
                    **own,
                ),
            ]
        return marks

    def _curves(self, k: int) -> list[Mark]:
        marks: list[Mark] = []
        told = np.minimum(self.told, k).tolist()
        for way in self.shown:
            strong, shares = way is self.way, self.arrived[way.name]
            xs, ys = [self.step_x(step) for step in told], [self.share_y(shares[s]) for s in told]
            colour = self.colours[way.name]
            words = f"{percent(shares[k])} of the episodes have arrived with {label(way)}."
            own = {"link": f"arrived:{strong}", "words": words}
            line = {"stroke": colour, "width": 3 if strong else 2}
            marks += [
                Path.through(xs, ys, key=f"curve:{strong}", **line, **own),
                Circle(key=f"head:{strong}", x=xs[-1], y=ys[-1], r=5, fill=colour, layer=2, **own),
            ]
        return marks

    def _counts(self, k: int) -> list[Words]:
        """How many are at each goal, and the names at the heads of the curves."""
        result = self.result
        labels = Labels(Box(2, 2, WIDTH - 2, HEIGHT - 2))
        labels.keep_off(text_box(ARRIVED, 13, CURVE_LEFT - 44, CURVE_TOP - 18, "start"))
        for step in range(0, self.n_steps + 1, 10):
            at = self.step_x(step), CURVE_BOTTOM + 20
            labels.keep_off(text_box(str(step), 13, *at, "middle"))
        for i, goal in enumerate(result.goals):
            x, y = map(float, self.at(goal))
            r = UNIT * result.reach
            # counts stand towards the middle of the plane
            rows = 0
            for way in self.shown[::-1]:
                gap = np.linalg.norm(way.paths[:, k] - goal, axis=-1)
                n = int((gap < NEAR * result.reach).sum())
                if not n:
                    continue
                at = (x + r + 6, y - 3 + 18 * rows, "start")
                if i == 0:
                    at = (x, y + r + 20 + 18 * rows, "middle")
                look = {"fill": self.colours[way.name], "bold": way is self.way}
                labels.put(f"at:{i}:{way is self.way}", f"{label(way)} {n}", (at,), **look)
                rows += 1
        for way in self.shown[::-1]:
            share = float(self.arrived[way.name][k])
            x, y = self.step_x(k), self.share_y(share)
            places = [(x + 10, y + up, "start") for up in (-8, 18, -26, 36)]
            places += [(x - 10, y + up, "end") for up in (-10, 20, -28, 38)]
            text = f"{label(way)} {percent(share)}"
            look = {"fill": self.colours[way.name], "bold": way is self.way}
            labels.put(f"head's name:{way is self.way}", text, places, **look)
        return labels.marks

    # ------------------------------------------------------------------------------- the words

    def sentence(self, k: int) -> str:
        n, name = len(self.way.won), label(self.way)
        beside = ""
        if k == 0:
            return (
                f"{n} episodes start near the middle. The filled goal pays; which will they take?"
            )
        if k < self.n_steps:
            won = round(float(self.arrived[self.way.name][k]) * n)
            if self.beside is not None:
                beside = f", {round(float(self.arrived[self.beside.name][k]) * n)} by imitation"
            return f"Step {k}: {won} of {n} have arrived with {name}{beside}."
        if self.beside is not None:
            beside = f", imitation {int(self.beside.won.sum())}"
        return (
            f"{int(self.way.won.sum())} of these {n} are won with {name}{beside}. The critic "
            f"promised {fixed(self.way.first_q, 1)} at the start; as it counts, "
            f"{fixed(self.way.discounted, 1)} is earned."
        )

    def readouts(self, k: int) -> tuple[Readout, ...]:
        """Of these episodes, known at their end; the time is the recorded one."""
        end, n = k == self.n_steps, len(self.way.won)
        return (
            Readout(f"won of these {n}", percent(self.way.success) if end else UNKNOWN),
            Readout("return here", fixed(self.way.mean_return, 1) if end else UNKNOWN),
            Readout("time, imitation = 1", fixed(self.runs.relative_time(self.way.name), 1)),
        )

    def arithmetic(self) -> dict[str, Arithmetic]:
        won, n = int(self.way.won.sum()), len(self.way.won)
        own, unit = self.runs.decision_ms[self.way.name], self.runs.decision_ms["bc"]
        times = self.runs.relative_time(self.way.name)
        return {
            "arrived:True": Arithmetic(
                text=f"{won} of {n} = {percent(won / n)}",
                tex=rf"\frac{{{won}}}{{{n}}} = {100 * won / n:.0f}\,\%",
            ),
            "cost": Arithmetic(
                text=f"{fixed(own, 1)} ms / {fixed(unit, 1)} ms = {fixed(times, 1)}",
                tex=rf"\frac{{{own:.1f}\,\text{{ms}}}}{{{unit:.1f}\,\text{{ms}}}} = {times:.1f}",
            ),
        }


def _text(key, text, x, y, anchor, fill="faint", bold=False) -> Words:
    return Words(key=key, text=text, x=x, y=y, anchor=anchor, fill=fill, bold=bold, size=13)


def at_weight(way: WayRollouts) -> str:
    """A way and its weight, for a sentence."""
    return (
        f"{label(way)} at w = {chosen(way.weight)}" if WAYS[way.name].takes_weight else label(way)
    )
