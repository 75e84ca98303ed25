"""The hero of "A dense model made sparse": the text as a strip, and a curve for each selector.

Above, the text in blocks, each lit as high as the chosen selector reads it for the tokens of one
block, which lies in the passage that returns where the measure is of that. Below, what comes of it:
the measure against the blocks read, one labelled curve for each selector. A cursor stands at the
budget. All from committed runs.
"""

import math

from intuitive.msa.experiments.conversion import (
    EARLIER,
    PERPLEXITIES,
    ConversionResult,
    Point,
)

from ..kit import (
    Arithmetic,
    Circle,
    Line,
    Mark,
    Path,
    Scene,
    Words,
    fixed,
    number,
)
from . import styles
from .conversion_strip import COLOURS, NAMES, strip

Number = int | float

WIDTH, HEIGHT = 1000, 424
LEFT, RIGHT, TOP, BOTTOM = 76, 680, 136, 374  # of the curves
DASHES = {EARLIER: "6 5"}
TICKS = (1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
GAP = 20  # between two names
WHAT = {
    "trained_index": "an Index Branch in every layer, trained to imitate its attention where "
    "passages return",
    EARLIER: "the same, trained for 180 steps on texts in which little returns",
    "window_sink": "the first block and the most recent ones, whatever the text says",
    "main_max": "the largest score of the model's own heads in each block",
    "oracle": "the blocks that hold most of the dense model's attention",
    "main_mean": "the mean score of the model's own heads in each block",
    "block_mean_keys": "the score of each block's mean key",
}


def value_text(value: Number, measure: str) -> str:
    """A value of the measure: three digits of a perplexity, two decimals of a share."""
    return number(value) if measure in PERPLEXITIES else fixed(value)


class Picture:
    """The scene of one setting."""

    def __init__(self, found: ConversionResult, name: str) -> None:
        self.found, self.params, self.name = found, found.params, name
        self.measure = found.params.measure
        self.logarithmic = self.measure in PERPLEXITIES
        values = [point.mean for points in found.curves.values() for point in points]
        values += [] if found.dense is None else [found.dense]
        self.low, self.high = (
            (0.93 * min(values), 1.08 * max(values)) if self.logarithmic else (0.0, 1.02)
        )
        self.budgets = sorted({p.n_selected for points in found.curves.values() for p in points})
        self.drawn = (2, 4, 8, 16)

    # ------------------------------------------------------------------------------- places

    def x(self, n_selected: Number) -> Number:
        share = math.log2(n_selected / self.drawn[0]) / math.log2(self.drawn[-1] / self.drawn[0])
        return LEFT + 26 + (RIGHT - LEFT - 52) * share

    def y(self, value: Number) -> Number:
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return BOTTOM - (BOTTOM - TOP) * share

    def scene(self) -> Scene:
        return Scene(
            width=WIDTH,
            height=HEIGHT,
            marks=(*strip(self.found), *self._axes(), *self._curves(), *self._names()),
        )

    # -------------------------------------------------------------------------------- marks

    def _axes(self) -> list[Mark]:
        marks: list[Mark] = [
            Words(key="y:name", x=24, y=TOP - 14, text=self.name, size=14, bold=True),
            Words(
                key="x:name",
                x=(LEFT + RIGHT) / 2,
                y=BOTTOM + 44,
                text=f"blocks of {self.found.block_size} tokens that may be read, k",
                anchor="middle",
                size=13,
            ),
        ]
        ticks = TICKS if self.logarithmic else SHARES
        shown = [tick for tick in ticks if self.low <= tick <= self.high]
        for tick in shown:
            y = self.y(tick)
            marks += [
                Line(key=f"grid:{tick:g}", x=LEFT, x2=RIGHT, y=y, y2=y, stroke="faint", width=1),
                Words(
                    key=f"tick:{tick:g}",
                    x=LEFT - 8,
                    y=y + 4,
                    text=f"{tick:g}",
                    anchor="end",
                    size=13,
                ),
            ]
        for budget in self.drawn:
            here = budget == self.params.n_selected
            marks.append(
                Words(
                    key=f"k:{budget}",
                    x=self.x(budget),
                    y=BOTTOM + 22,
                    text=str(budget),
                    anchor="middle",
                    size=15 if here else 13,
                    bold=here,
                    click={"n_selected": budget},
                    words=f"Read {budget} blocks.",
                )
            )
        x = self.x(self.params.n_selected)
        marks.append(
            Line(key="cursor", x=x, x2=x, y=TOP - 6, y2=BOTTOM + 6, stroke="ink", dash="4 4")
        )
        if self.found.dense is not None:
            y = self.y(self.found.dense)
            marks += [
                Line(key="dense", x=LEFT, x2=RIGHT, y=y, y2=y, stroke="ink", width=2),
                Words(
                    key="dense:name",
                    x=LEFT + 8,
                    y=y - 6,
                    text=f"dense model {value_text(self.found.dense, self.measure)}",
                    size=13,
                ),
            ]
        return marks

    def _curves(self) -> list[Mark]:
        marks: list[Mark] = []
        for name, points in self.found.curves.items():
            ours = name == self.params.selector
            xs = [self.x(point.n_selected) for point in points]
            ys = [self.y(point.mean) for point in points]
            style = {
                "link": name,
                "opacity": 1.0 if ours else 0.45,
                "layer": 2 if ours else 1,
            }
            marks.append(
                Path.through(
                    xs,
                    ys,
                    key=f"curve:{name}",
                    stroke=COLOURS[name],
                    width=4 if ours else 2,
                    dash=DASHES.get(name, ""),
                    words=f"{self._title(name)}: {WHAT[name]}.",
                    **style,
                )
            )
            for x, y, point in zip(xs, ys, points, strict=True):
                if len(point.by_seed) > 1:
                    marks.append(self._span(name, x, point, ours))
                marks.append(
                    Circle(
                        key=f"point:{name}:{point.n_selected}",
                        x=x,
                        y=y,
                        r=6 if ours else 4,
                        fill=COLOURS[name],
                        words=self._told(name, point),
                        click={"n_selected": point.n_selected, "selector": name},
                        **style,
                    )
                )
        return marks

    def _span(self, name: str, x: Number, point: Point, ours: bool) -> Line:
        """From the least to the greatest seed."""
        return Line(
            key=f"span:{name}:{point.n_selected}",
            link=name,
            x=x,
            x2=x,
            y=self.y(max(point.by_seed)),
            y2=self.y(min(point.by_seed)),
            stroke=COLOURS[name],
            width=3 if ours else 2,
            layer=2,
        )

    def _title(self, name: str) -> str:
        return NAMES[name].capitalize()

    def _told(self, name: str, point: Point) -> str:
        seeds = len(point.by_seed)
        average = f", mean of {seeds} seeds" if seeds > 1 else ""
        return (
            f"{self._title(name)}, k = {point.n_selected}: {self.name} "
            f"{value_text(point.mean, self.measure)}{average}."
        )

    def _names(self) -> list[Mark]:
        """A name for each curve at the height of its value at the cursor, and a leader to there."""
        k = self.params.n_selected
        at_k = {
            name: next((point for point in points if point.n_selected == k), None)
            for name, points in self.found.curves.items()
        }
        heights = {
            name: self.y((here or self.found.curves[name][-1]).mean) for name, here in at_k.items()
        }
        places = styles.spread(heights, GAP, TOP + 8, BOTTOM + 4)
        marks: list[Mark] = [
            Words(key="at", x=RIGHT + 34, y=TOP - 14, text=f"at k = {k}", size=14, bold=True)
        ]
        for name, here in at_k.items():
            told = "not measured" if here is None else value_text(here.mean, self.measure)
            ours = name == self.params.selector
            if here is not None:
                marks.append(self._leader(name, heights[name], places[name] - 4, ours))
            marks.append(
                Words(
                    key=f"name:{name}",
                    link=name,
                    x=RIGHT + 34,
                    y=places[name],
                    text=f"{NAMES[name]} {told}",
                    fill=COLOURS[name],
                    size=15 if ours else 14,
                    bold=ours,
                    click={"selector": name},
                    words=f"{self._title(name)}: {WHAT[name]}.",
                )
            )
        return marks

    def _leader(self, name: str, height: Number, place: Number, ours: bool) -> Path:
        """From a curve's point at the cursor to its name, level as far as the curves reach."""
        start = self.x(self.params.n_selected) + 8
        return Path(
            key=f"leader:{name}",
            link=name,
            d=f"M{start:.1f},{height:.1f}L{RIGHT:.1f},{height:.1f}L{RIGHT + 28:.1f},{place:.1f}",
            stroke=COLOURS[name],
            width=1.5 if ours else 1,
            dash="2 4",
            opacity=0.9 if ours else 0.55,
        )

    # --------------------------------------------------------------------------- arithmetic

    def arithmetic(self) -> dict[str, Arithmetic]:
        """By selector, the value at the cursor beside the dense model's."""
        return {name: self._arithmetic(name, points) for name, points in self.found.curves.items()}

    def _arithmetic(self, name: str, points: tuple[Point, ...]) -> Arithmetic:
        here = next((p for p in points if p.n_selected == self.params.n_selected), None)
        if here is None:
            measured = ", ".join(str(point.n_selected) for point in points)
            return Arithmetic(text=f"{self._title(name)} was measured at k = {measured} only.")
        seeds = " + ".join(value_text(value, self.measure) for value in here.by_seed)
        mean = value_text(here.mean, self.measure)
        told = f"({seeds}) / {len(here.by_seed)} = {mean}" if len(here.by_seed) > 1 else mean
        if self.found.dense is not None:
            ratio = f"{fixed(here.mean / self.found.dense)} times the dense model's"
            told += f", {ratio} {value_text(self.found.dense, self.measure)}"
        return Arithmetic(text=f"{self._title(name)}, k = {here.n_selected}: {told}.")
