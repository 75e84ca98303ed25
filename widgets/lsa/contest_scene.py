"""The hero of "The contest": every policy as a disc, by what it moves and by what it had at hand.

From left to right the chunks copied in an average step, on a logarithmic axis; upwards the share
of what was needed that was there. Good is up and left. From frame to frame all get more room on the
GPU, and each leaves a trail.
"""

import math
from typing import Any

from intuitive.lsa.experiments.contest import ROOMS, ContestResult, Entry

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
    Words,
    chosen,
    fixed,
    percent,
)
from . import styles

WIDTH, HEIGHT = 1000, 392
LEFT, RIGHT, TOP, FLOOR = 92, 772, 34, 330
LEAST, MOST = 0.01, 100.0  # chunks per step at the ends of the axis
COLOURS = {arm: name for arm, (name, _) in styles.ARM_COLOURS.items()}
NAMES = {**styles.ARM_NAMES, "lsa": "LSA: trained indexer", "yours": "yours"}
STRONG = ("lsa", "reactive", "yours")
MEASURES = {"needed": "needed chunks found", "attention": "attention found"}
EQUAL = 1.05  # rooms that differ by less are called the same
Number = int | float


def amount(n_bytes: Number) -> str:
    """Bytes per step with their prefix."""
    for size, prefix in ((1e6, "M"), (1e3, "k")):
        if n_bytes >= size:
            return f"{fixed(n_bytes / size, 0 if n_bytes >= 10 * size else 1)} {prefix}B"
    return f"{round(n_bytes)} B"


def _mean(heights: list[Number]) -> Number:
    return sum(heights) / len(heights)


def rooms_until(result: ContestResult, i: int) -> dict[str, Any]:
    """What lies over the plot of rooms while the hero is at one: rooms that it has not shown."""
    last = result.entries["lsa"][-1]
    edge = result.entries["lsa"][i].kept if i >= 0 else 0.0
    shapes = []
    if i < len(ROOMS) - 1:
        cover = {
            "type": "rect",
            "x0": edge + 0.02 * last.kept * (i >= 0),
            "x1": 1,
            "y0": 0,
            "y1": 1,
        }
        shapes = [{**cover, "yref": "paper", "fillcolor": "page", "line": {"width": 0}}]
    return {"layout": {"shapes": shapes}}


class Picture:
    """All frames of one result."""

    def __init__(self, result: ContestResult) -> None:
        self.result, self.measure = result, result.params.measure

    @staticmethod
    def x(copied: Number) -> Number:
        """Place of a number of chunks per step; what is less stands at the left edge."""
        shown = min(max(copied, LEAST), MOST)
        span = math.log(MOST / LEAST)
        return LEFT + (RIGHT - LEFT) * math.log(shown / LEAST) / span

    @staticmethod
    def y(share: Number) -> Number:
        return FLOOR - (FLOOR - TOP) * share

    def at(self, arm: str, i: int) -> Entry:
        return self.result.entries[arm][i]

    def frames(self) -> tuple[Frame, ...]:
        empty = Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=(*self._axes(), *self._waiting())),
            label="start",
            sentence="Upwards what was at hand, to the right what was copied for it. Press play.",
            readouts=(
                Readout("old chunks", str(self.result.n_old)),
                Readout("steps", str(self.result.n_steps)),
                Readout("decisions", str(self.result.n_decisions)),
            ),
            figures={"rooms": rooms_until(self.result, -1)},
        )
        played = tuple(
            Frame(
                scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(self._marks(i))),
                label=f"{room} chunks",
                sentence=self._sentence(i),
                readouts=self.readouts(i),
                arithmetic=self._arithmetic(i),
                figures={"rooms": rooms_until(self.result, i)},
            )
            for i, room in enumerate(ROOMS)
        )
        return (empty, *played)

    def _waiting(self) -> list[Mark]:
        """Names and discs at the right, before anything is played."""
        marks: list[Mark] = []
        for i, arm in enumerate(self.result.entries):
            y = TOP + 10 + 40 * i
            marks += self._disc(arm, RIGHT + 20, y, "")
            marks.append(
                Words(
                    key=f"name:{arm}",
                    x=RIGHT + 40,
                    y=y + 5,
                    text=NAMES[arm],
                    size=13,
                    bold=arm in STRONG,
                    link=f"arm:{arm}",
                )
            )
        return marks

    def times_more(self, i: int) -> float:
        """Chunks that fetching on demand moves, over those that LSA moves."""
        lsa, reactive = self.at("lsa", i), self.at("reactive", i)
        return reactive.copied / lsa.copied if lsa.copied else math.inf

    def readouts(self, i: int) -> tuple[Readout, ...]:
        lsa, reactive = self.at("lsa", i), self.at("reactive", i)
        return (
            Readout("LSA finds", percent(lsa.share(self.measure)), link="arm:lsa"),
            Readout("LSA copies per step", fixed(lsa.copied), link="arm:lsa"),
            Readout("on demand copies", fixed(reactive.copied), link="arm:reactive"),
        )

    def _sentence(self, i: int) -> str:
        lsa, reactive = self.at("lsa", i), self.at("reactive", i)
        shares = [percent(e.share(self.measure)) for e in (lsa, reactive)]
        what = "needed chunks" if self.measure == "needed" else "attention"
        more = self.times_more(i)
        times = f"{fixed(more, 0 if more >= 10 else 1)} times as much"
        return (
            f"Room for {ROOMS[i]} old chunks: LSA has {shares[0]} of the {what} at hand, fetching "
            f"on demand {shares[1]} and moves {times if more < 1e6 else 'all that is moved'}"
            f"{self.excess(i)}."
        )

    def excess(self, i: int) -> str:
        """What fetching on demand keeps beyond the room, for the tail of a sentence."""
        lsa, reactive = self.at("lsa", i), self.at("reactive", i)
        if reactive.kept <= EQUAL * lsa.kept:
            return ""
        return (
            f", in more room: it keeps {percent(reactive.kept, 1)} of the old chunks, LSA "
            f"{percent(lsa.kept, 1)}"
        )

    # -------------------------------------------------------------------------------- marks

    def _marks(self, i: int) -> list[Mark]:
        marks = self._axes()
        places = self._name_places(i)
        for arm in self.result.entries:
            marks += self._arm(arm, i, places[arm])
        return marks

    def _axes(self) -> list[Mark]:
        faint = {"stroke": "faint", "width": 1, "layer": -2}
        marks: list[Mark] = [
            Rectangle(
                key="good",
                x=LEFT,
                y=TOP,
                w=0.5 * (RIGHT - LEFT),
                h=0.28 * (FLOOR - TOP),
                fill="green",
                opacity=0.07,
                layer=-3,
            ),
            Words(
                key="good:name",
                x=LEFT + 8,
                y=TOP + 16,
                text="good: much found, little moved",
                size=13,
                layer=4,
                stroke="page",
                width=4,
            ),
            Words(key="title", x=8, y=16, text=MEASURES[self.measure], size=14, bold=True),
            Words(
                key="axis",
                x=(LEFT + RIGHT) / 2,
                y=FLOOR + 44,
                anchor="middle",
                size=14,
                bold=True,
                text="chunks copied to the GPU in an average step",
            ),
        ]
        for share in (0, 0.25, 0.5, 0.75, 1):
            y = self.y(share)
            marks += [
                Line(key=f"y:{share}", x=LEFT, x2=RIGHT, y=y, y2=y, **faint),
                Words(
                    key=f"y:text:{share}",
                    x=LEFT - 8,
                    y=y + 4,
                    text=percent(share),
                    anchor="end",
                    size=12,
                ),
            ]
        for copied in (0.01, 0.1, 1, 10, 100):
            x = self.x(copied)
            text = "nearly none" if copied == LEAST else chosen(copied)
            marks += [
                Line(key=f"x:{copied}", x=x, x2=x, y=TOP, y2=FLOOR, **faint),
                Words(
                    key=f"x:text:{copied}", x=x, y=FLOOR + 20, text=text, anchor="middle", size=12
                ),
            ]
        return marks

    def _name_places(self, i: int) -> dict[str, Number]:
        """Heights of the names in their column at the right, in the order of the discs."""
        gap, low, high = 21.0, TOP + 6.0, FLOOR - 10  # off the line of 0%
        ordered = sorted(
            self.result.entries, key=lambda arm: (-self.at(arm, i).share(self.measure), arm)
        )
        heights = [self.y(self.at(arm, i).share(self.measure)) for arm in ordered]
        groups: list[list[Number]] = []  # of neighbours that share their room: heights, less gaps
        for place, y in enumerate(heights):
            groups.append([y - gap * place])
            while len(groups) > 1 and _mean(groups[-2]) >= _mean(groups[-1]):
                groups[-2:] = [groups[-2] + groups[-1]]
        top = high - gap * (len(ordered) - 1)
        flat = [min(max(_mean(group), low), top) for group in groups for _ in group]
        return {
            arm: y + gap * place for place, (arm, y) in enumerate(zip(ordered, flat, strict=True))
        }

    def _arm(self, arm: str, i: int, name_y: Number) -> list[Mark]:
        entries, strong = self.result.entries[arm], arm in STRONG
        here = entries[i]
        x, y = self.x(here.copied), self.y(here.share(self.measure))
        link, colour = f"arm:{arm}", COLOURS[arm]
        words = (
            f"{NAMES[arm]}: {percent(here.needed)} of the needed chunks and "
            f"{percent(here.attention)} of the attention at hand, {percent(here.kept)} of the old "
            f"chunks on the GPU, {fixed(here.copied)} copied per step."
        )
        marks: list[Mark] = []
        if i:
            trail = [(self.x(e.copied), self.y(e.share(self.measure))) for e in entries[: i + 1]]
            marks.append(
                Path.through(
                    *zip(*trail, strict=True),
                    key=f"trail:{arm}",
                    stroke=colour,
                    width=2,
                    opacity=0.5,
                    link=link,
                    layer=-1,
                )
            )
        marks += [
            Line(
                key=f"thread:{arm}",
                x=x,
                y=y,
                x2=RIGHT + 14,
                y2=name_y,
                stroke=colour,
                width=1.2,
                opacity=0.8,
                dash="2 4",
                layer=-1,
            ),
            *self._disc(arm, x, y, words),
            Words(
                key=f"name:{arm}",
                x=RIGHT + 18,
                y=name_y + 5,
                text=NAMES[arm],
                size=13,
                bold=strong,
                link=link,
                words=words,
            ),
        ]
        return marks

    @staticmethod
    def _disc(arm: str, x: Number, y: Number, words: str) -> list[Mark]:
        ring = arm == "oracle"  # it may stand around another
        open_disc = arm == "recency"  # its blue is near another one
        return [
            Circle(
                key=f"disc:{arm}",
                link=f"arm:{arm}",
                words=words,
                x=x,
                y=y,
                r=15 if ring else 11 if arm in STRONG else 7,
                fill="" if ring else "page" if open_disc else COLOURS[arm],
                stroke=COLOURS[arm] if ring or open_disc else "page",
                width=2.5 if ring or open_disc else 2,
                layer=3 if arm in STRONG else 2,
            )
        ]

    # --------------------------------------------------------------------------- arithmetic

    def _arithmetic(self, i: int) -> dict[str, Arithmetic]:
        steps = self.result.n_steps
        lines = {}
        for arm in self.result.entries:
            here = self.at(arm, i)
            lines[f"arm:{arm}"] = Arithmetic(
                text=f"{round(here.copied * steps)} chunks in {steps} steps = {fixed(here.copied)} "
                f"per step, {amount(here.n_bytes)} at DeepSeek-V4-Flash's sizes; "
                f"{percent(here.refetched)} of them had been there before"
            )
        return lines
