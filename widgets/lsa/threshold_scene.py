"""The hero of "Threshold or budget": every old chunk as a dot over the score that it was given.

Dots stack up over their probability; the threshold is a line that can be dragged, and what is
right of it is fetched. Needed chunks lie in a lane of their own above. From frame to frame the text
grows: more chunks that nobody needs rain down, spread as before. Right, what a threshold and a
budget of fixed size fetch, and how much of it is needed.
"""

import math

import numpy as np

from intuitive.lsa.experiments.threshold import LENGTHS, ThresholdResult

from ..kit import (
    Arithmetic,
    Circle,
    Drag,
    Frame,
    Line,
    Mark,
    Readout,
    Rectangle,
    Scene,
    Swarm,
    Words,
    chosen,
    fixed,
    percent,
)

WIDTH, HEIGHT = 1000, 380
LEFT, RIGHT = 30, 640  # probability 0 and 1
FLOOR, TOP = 338, 132  # of the heap of dots
LANE = (46, 104)  # top and bottom of the needed chunks' lane
BINS = 50
MOST_DOTS = 3000
COLUMNS = {"threshold": (726, 88), "budget": (866, 88)}  # left edge and width
GROUND, TALLEST = 312, 236  # of the columns
THIN = "\u202f"  # and no line breaks there


def whole(value: int | float) -> str:
    """A whole number, a thin space between thousands."""
    return f"{round(value):,}".replace(",", THIN)


class Picture:
    """All frames of one result."""

    def __init__(self, result: ThresholdResult) -> None:
        self.result, self.threshold = result, result.params.threshold
        self.others = np.flatnonzero(~result.needed)
        self.top = max(result.longer[-1].fetched, 8.0)
        self._heap()

    def x(self, probability: int | float) -> int | float:
        return LEFT + (RIGHT - LEFT) * probability

    def _heap(self) -> None:
        """Places of all dots of the longest text; a shorter one has the first of them."""
        n, most = len(self.others), LENGTHS[-1]
        self.per_dot = max(1, math.ceil(n * most / MOST_DOTS))
        scores = self.result.scores[self.others]
        # Every text has the same scores as often as it is long; a dot stands for `per_dot` chunks.
        ranked = np.sort(scores)
        copies = []
        taken = 0
        for times in LENGTHS:
            wanted = round(n * times / self.per_dot)
            extra = wanted - taken
            if extra > 0 and n:
                at = ((np.arange(extra) + 0.5) / extra * n).astype(int)
                copies.append(ranked[at])
            taken = max(wanted, taken)
        self.born = np.repeat(np.arange(len(copies)), [len(part) for part in copies])
        self.dots = np.concatenate(copies) if copies else np.zeros(0)
        place = np.clip((self.dots * BINS).astype(int), 0, BINS - 1)
        count = np.bincount(place, minlength=BINS).max() if len(self.dots) else 1
        pitch = (RIGHT - LEFT) / BINS
        row = 2  # dots side by side in a bin, as few as let the highest heap fit
        while math.ceil(count / row) * pitch / row > FLOOR - TOP:
            row += 1
        self.gap = pitch / row
        height = np.zeros(len(self.dots))
        across = np.zeros(len(self.dots))
        filled = np.zeros(BINS, dtype=int)
        for i, b in enumerate(place):
            across[i] = (filled[b] % row + 0.5) / row
            height[i] = filled[b] // row
            filled[b] += 1
        self.dot_x = self.x(0) + (place + across) * pitch
        self.dot_y = FLOOR - (height + 0.5) * self.gap
        self.shade = (self.dots > self.threshold).astype(np.uint8)

    def frames(self) -> tuple[Frame, ...]:
        return tuple(
            Frame(
                scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(self._marks(i))),
                label=f"{times} ×",
                sentence=self._sentence(i),
                readouts=self.readouts(i),
                arithmetic=self._arithmetic(i),
            )
            for i, times in enumerate(LENGTHS)
        )

    def _found(self, found: int) -> str:
        n = self.result.n_needed
        return f"{found} of {n}" if n else "–"

    def readouts(self, i: int) -> tuple[Readout, ...]:
        at = self.result.longer[i]
        return (
            Readout("needed, fetched", self._found(self.result.n_found), link="needed"),
            Readout("threshold fetches", whole(at.fetched), link="threshold"),
            Readout("budget finds", self._found(at.budget_found), link="budget"),
        )

    def _sentence(self, i: int) -> str:
        result, at = self.result, self.result.longer[i]
        rate = percent(result.false_rate, 1)
        took = f"the threshold takes {whole(at.fetched)} of {whole(at.chunks)} old chunks"
        if i == 0:
            needed = f"{result.n_found} of {result.n_needed} needed ones among them"
            return f"As recorded {took}, {needed if result.n_needed else 'and none is needed'}."
        return f"{at.times} times as long: {took}; {rate} of those not needed pass it, as before."

    # -------------------------------------------------------------------------------- marks

    def _marks(self, i: int) -> list[Mark]:
        return [*self._axis(i), *self._heap_marks(i), *self._lane(), *self._columns(i)]

    def _axis(self, i: int) -> list[Mark]:
        at, line = self.result.longer[i], self.x(self.threshold)
        marks: list[Mark] = [
            Words(
                key="title",
                x=LEFT,
                y=16,
                size=14,
                bold=True,
                text=f"{whole(at.chunks)} old chunks, each over its score at this trigger",
            ),
            Line(key="floor", x=LEFT, x2=RIGHT, y=FLOOR, y2=FLOOR, stroke="ink", width=1),
        ]
        for p in (0, 0.25, 0.5, 0.75, 1):
            marks += [
                Line(
                    key=f"tick:{p}",
                    x=self.x(p),
                    x2=self.x(p),
                    y=FLOOR,
                    y2=FLOOR + 4,
                    stroke="ink",
                    width=1,
                ),
                Words(
                    key=f"tick:text:{p}",
                    x=self.x(p),
                    y=FLOOR + 18,
                    text=chosen(p),
                    anchor="middle",
                    size=12,
                ),
            ]
        marks += [
            Words(
                key="axis",
                x=(LEFT + RIGHT) / 2,
                y=FLOOR + 36,
                anchor="middle",
                size=13,
                text="probability that the Memory Indexer gives",
            ),
            Line(
                key="threshold",
                x=line,
                x2=line,
                y=LANE[0] - 14,
                y2=FLOOR,
                stroke="purple",
                width=2.5,
                layer=2,
            ),
            Rectangle(
                key="fetched",
                x=line,
                y=LANE[0] - 14,
                w=RIGHT - line,
                h=FLOOR - LANE[0] + 14,
                fill="blue",
                opacity=0.08,
                layer=-3,
            ),
            Circle(
                key="handle",
                link="threshold",
                x=line,
                y=118,
                r=9,
                fill="purple",
                stroke="ink",
                width=1.5,
                layer=4,
                words=f"The threshold, {chosen(self.threshold)}: drag it left or right.",
                drag=Drag(x="threshold", x_scale=((0, self.x(0)), (1, self.x(1)))),
            ),
            Words(
                key="handle:name",
                x=line + (14 if self.threshold < 0.75 else -14),
                y=123,
                anchor="start" if self.threshold < 0.75 else "end",
                text="fetched: drag the line" if self.threshold < 0.75 else "drag the line",
                size=13,
                bold=True,
                layer=3,
            ),
        ]
        return marks

    def _heap_marks(self, i: int) -> list[Mark]:
        here = self.born <= i
        rain = TOP - 0.48 * HEIGHT - 40  # above the picture
        marks: list[Mark] = [
            Swarm(
                key="others",
                xs=self.dot_x,
                ys=np.where(here, self.dot_y, min(rain, -20.0)),
                colours=("grey", "blue"),
                shades=self.shade,
                r=max(0.42 * self.gap, 0.6),
                opacity=0.85,
            ),
        ]
        if self.per_dot > 1:
            marks.append(
                Words(
                    key="per",
                    x=RIGHT,
                    y=LANE[0] - 8,
                    anchor="end",
                    size=12,
                    opacity=0.8,
                    layer=3,
                    text=f"grey and blue: one dot is {self.per_dot} chunks",
                )
            )
        return marks

    def _lane(self) -> list[Mark]:
        result = self.result
        marks: list[Mark] = [
            Words(key="lane", x=LEFT, y=LANE[0] - 8, text="needed in the window", size=13),
            Line(
                key="lane:floor",
                x=LEFT,
                x2=RIGHT,
                y=LANE[1] + 2,
                y2=LANE[1] + 2,
                stroke="faint",
                width=1,
            ),
        ]
        wanted = np.flatnonzero(result.needed)
        if not len(wanted):
            marks.append(
                Words(
                    key="lane:none",
                    x=(LEFT + RIGHT) / 2,
                    y=LANE[1] - 20,
                    anchor="middle",
                    text="no old chunk is needed here",
                    size=14,
                )
            )
        filled: dict[int, int] = {}
        for j in wanted.tolist():
            p, chunk = float(result.scores[j]), int(result.chunks[j])
            column = int(p * 60)
            level = filled.get(column, 0)
            filled[column] = level + 1
            found = bool(result.taken[j])
            text = " ".join(result.recording.text(chunk).split())
            marks.append(
                Circle(
                    key=f"needed:{chunk}",
                    link=f"chunk:{chunk}",
                    x=self.x(p),
                    y=LANE[1] - 7 - 11 * min(level, 4),
                    r=5,
                    fill="green" if found else "",
                    stroke="green" if found else "vermilion",
                    width=2,
                    layer=2,
                    words=f"Chunk {chunk} “{text}” is needed; its score is {fixed(p)}: "
                    f"{'fetched' if found else 'missed'}.",
                )
            )
        return marks

    def _columns(self, i: int) -> list[Mark]:
        result, at = self.result, self.result.longer[i]
        unit = TALLEST / self.top
        marks: list[Mark] = [
            Line(key="divider", x=684, x2=684, y=10, y2=HEIGHT - 8, stroke="faint", width=1),
            Words(
                key="columns",
                x=704,
                y=16,
                text=f"chunks fetched, up to {whole(self.top)}",
                size=14,
                bold=True,
            ),
            Line(key="ground", x=704, x2=976, y=GROUND, y2=GROUND, stroke="ink", width=1),
        ]
        parts = {
            "threshold": (result.n_found, at.fetched),
            "budget": (at.budget_found, float(at.budget)),
        }
        for rule, (found, total) in parts.items():
            x, w = COLUMNS[rule]
            green, rest = unit * found, unit * (total - found)
            words = (
                f"The {rule} fetches {whole(total)} chunks: {found} are needed, "
                f"{whole(total - found)} are not."
            )
            style = {"x": x, "w": w, "link": rule, "words": words}
            told = f"finds {found} of {result.n_needed}" if result.n_needed else ""
            centre = {"x": x + w / 2, "anchor": "middle"}
            marks += [
                Rectangle(key=f"found:{rule}", y=GROUND - green, h=green, fill="green", **style),
                Rectangle(
                    key=f"false:{rule}",
                    y=GROUND - green - rest,
                    h=rest,
                    fill="blue",
                    opacity=0.5,
                    **style,
                ),
                Words(
                    key=f"total:{rule}",
                    y=GROUND - green - rest - 8,
                    text=whole(total),
                    size=18,
                    bold=True,
                    **centre,
                ),
                Words(key=f"under:{rule}", y=GROUND + 18, text=rule, size=14, bold=True, **centre),
                Words(
                    key=f"recall:{rule}",
                    y=GROUND + 37,
                    size=13,
                    text=told,
                    **centre,
                ),
            ]
        return marks

    # --------------------------------------------------------------------------- arithmetic

    def _arithmetic(self, i: int) -> dict[str, Arithmetic]:
        result, at = self.result, self.result.longer[i]
        others = len(self.others)
        return {
            "threshold": Arithmetic(
                text=f"{result.n_found} needed + {percent(result.false_rate, 1)} × {at.times} × "
                f"{whole(others)} others = {whole(at.fetched)}"
            ),
            "budget": Arithmetic(
                text=f"the best {at.budget} of {whole(at.chunks)}: {at.budget_found} needed + "
                f"{at.budget - at.budget_found} others"
            ),
        }
