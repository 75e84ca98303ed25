"""The hero of "A needle under two poolings": scores of tokens become one number per block, twice.

Above, the score of every token, the needle among them; below, a bar for each block by its largest
score and a bar by its mean, each row on its own scale. The strongest token of a block falls from
its place into the bar of the upper row, the level of the mean into the bar of the lower one.
"""

import math
from collections.abc import Callable

import numpy as np

from intuitive.msa.experiments.needle import NeedleResult

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
)

WIDTH, HEIGHT = 1000, 404
LEFT, RIGHT = 132, 868  # of the part where tokens run
TOKENS = (14, 170)  # top and bottom of the scores
ROWS = {"max": (206, 282), "mean": (318, 394)}  # the same of the bars
NAMES = {"max": "largest score", "mean": "mean score"}
Number = int | float
LOWEST, HIGHEST = -3.6, 12.8  # scores on the scale above
STAGES = ("scores", "pool", "compare", "keep")
STEP = 0.05  # the scales of the bars end at multiples of it
GROUND = "grey"


def place(rank: int) -> str:
    """1st, 2nd, 3rd, 4th, …"""
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10)
    return f"{rank}{ending or 'th'}"


class Picture:
    """All frames of one result."""

    def __init__(self, result: NeedleResult) -> None:
        self.result, self.params = result, result.params
        self.size, self.n = self.params.block_size, self.params.n
        self.n_blocks = len(result.block_max)
        both = {"max": result.block_max, "mean": result.block_mean}
        self.pooled = {kind: values.astype(float) for kind, values in both.items()}
        self.selected = {"max": result.selected_max, "mean": result.selected_mean}
        self.ranks = {
            kind: (1 + (values[None, :] > values[:, None]).sum(1)).tolist()
            for kind, values in self.pooled.items()
        }
        best = [
            start + int(np.argmax(result.token_scores[start : start + self.size]))
            for start in range(0, self.n, self.size)
        ]
        self.best = best  # the strongest token of each block
        self.scales = {kind: self._scale(values) for kind, values in self.pooled.items()}
        self.still = self._still()

    # ------------------------------------------------------------------------------- places

    def x(self, token: Number | np.ndarray):
        return LEFT + (RIGHT - LEFT) * (token + 0.5) / self.n

    def left(self, block: int) -> Number:
        return LEFT + (RIGHT - LEFT) * block * self.size / self.n

    @property
    def pitch(self) -> Number:
        return (RIGHT - LEFT) * self.size / self.n

    def y(self, score: Number | np.ndarray):
        """Height of a token's score; what is off the scale stands at its end."""
        top, bottom = TOKENS
        shown = np.clip(score, LOWEST, HIGHEST)
        return bottom - (bottom - top) * (shown - LOWEST) / (HIGHEST - LOWEST)

    def bar_y(self, kind: str, value: Number) -> Number:
        (top, bottom), (low, high) = ROWS[kind], self.scales[kind]
        return bottom - (bottom - top) * (value - low) / (high - low)

    @staticmethod
    def _scale(values: np.ndarray) -> tuple[Number, Number]:
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        return math.floor(low / STEP) * STEP, math.ceil(high / STEP) * STEP

    # -------------------------------------------------------------------------------- marks

    def _still(self) -> list[Mark]:
        """What stands in every frame: tokens, the needle, names and scales."""
        scores, needle = self.result.token_scores, self.params.needle
        x, y = self.x(needle), float(self.y(self.params.strength))
        marks: list[Mark] = [
            Words(key="name:tokens", x=8, y=84, text="score of each", size=14, bold=True),
            Words(key="name:tokens2", x=8, y=102, text="token", size=14, bold=True),
            Line(key="zero", x=LEFT, y=self.y(0), x2=RIGHT, y2=self.y(0), stroke="faint", width=1),
            Words(key="tick:0", x=LEFT - 6, y=self.y(0) + 4, text="0", anchor="end", size=12),
            Words(key="tick:10", x=LEFT - 6, y=self.y(10) + 4, text="10", anchor="end", size=12),
            Words(
                key="order",
                x=RIGHT,
                y=TOKENS[1] + 18,
                text=f"{self.n:,} tokens in reading order".replace(",", "\u2009"),
                anchor="end",
                size=12,
                fill="ink",
                opacity=0.75,
            ),
            Swarm(
                key="tokens",
                xs=self.x(np.arange(self.n)),
                ys=self.y(scores),
                colours=("vermilion",),
                r=1.7,
                opacity=0.75,
            ),
        ]
        for block in range(self.n_blocks):
            marks.append(
                Rectangle(
                    key=f"band:{block}",
                    link=f"block:{block}",
                    words=self._words(block),
                    x=self.left(block),
                    y=TOKENS[0],
                    w=self.pitch,
                    h=TOKENS[1] - TOKENS[0],
                    fill=GROUND,
                    opacity=0.16 if block % 2 else 0.07,
                    layer=-2,
                )
            )
        right = needle > 0.8 * self.n
        marks += [
            Line(
                key="plumb",
                x=x,
                y=y + 8,
                x2=x,
                y2=ROWS["mean"][1],
                stroke="gold",
                dash="3 3",
                layer=-1,
            ),
            Circle(
                key="needle",
                link="needle",
                x=x,
                y=y,
                r=8,
                fill="gold",
                stroke="ink",
                width=1.5,
                layer=4,
                words=(
                    f"The needle: token {needle} in block {self.result.needle_block}, score "
                    f"{chosen(self.params.strength)}. Drag it along the tokens, up or down."
                ),
                drag=Drag(
                    x="needle",
                    y="strength",
                    x_scale=((0, self.x(0)), (self.n - 1, self.x(self.n - 1))),
                    y_scale=((0, self.y(0)), (12, self.y(12))),
                ),
            ),
            Words(
                key="needle:name",
                x=x + (-14 if right else 14),
                y=min(max(y + 5, TOKENS[0] + 12), float(self.y(4.8))),  # above the crowd
                text=f"needle, score {chosen(self.params.strength)} – drag it",
                anchor="end" if right else "start",
                size=14,
                bold=True,
                layer=3,
            ),
        ]
        return marks

    def _words(self, block: int) -> str:
        told = f"Block {block}, tokens {block * self.size} to {(block + 1) * self.size - 1}"
        told += ", with the needle" if block == self.result.needle_block else ""
        for kind, name in NAMES.items():
            told += f"; {name} {fixed(self.pooled[kind][block])}"
            told += f", {place(self.ranks[kind][block])} of {self.n_blocks}"
        return told + "."

    def frames(self) -> tuple[Frame, ...]:
        frames = []
        for stage in STAGES:
            marks = [*self.still, *self._carriers(stage)]
            if stage in ("compare", "keep"):
                for kind in ROWS:
                    marks += self._row(kind, kept=stage == "keep")
            else:
                marks += self._empty_rows()
            frames.append(
                Frame(
                    scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
                    stage=stage,
                    sentence=SENTENCES[stage](self),
                    readouts=self.readouts(stage),
                )
            )
        return tuple(frames)

    def readouts(self, stage: str) -> tuple[Readout, ...]:
        """What is read, and whether each row finds the needle: only once its blocks are kept."""
        reads = min(self.params.n_selected * self.size, self.n)
        told = {"max": "–", "mean": "–"}
        if stage == "keep":
            block = self.result.needle_block
            for kind, selected in self.selected.items():
                found = "found" if block in selected else "lost"
                ranked = place(self.ranks[kind][block])
                newest = block == self.n_blocks - 1
                told[kind] = "newest" if newest else f"{found}, {ranked}"
        return (
            Readout("tokens read", f"{reads} of {self.n}"),
            *(Readout(f"{kind} pooling", outcome) for kind, outcome in told.items()),
        )

    def _empty_rows(self) -> list[Mark]:
        """Rows that wait for their bars."""
        marks: list[Mark] = []
        for kind, (top, bottom) in ROWS.items():
            marks += self._names(kind)
            marks.append(
                Rectangle(
                    key=f"ground:{kind}",
                    x=LEFT,
                    y=top,
                    w=RIGHT - LEFT,
                    h=bottom - top,
                    fill=GROUND,
                    opacity=0.08,
                    layer=-3,
                )
            )
        return marks

    def _names(self, kind: str) -> list[Mark]:
        top, bottom = ROWS[kind]
        first, second = NAMES[kind].split()
        middle = (top + bottom) / 2
        style = {"size": 14, "bold": True}
        return [
            Words(key=f"name:{kind}", x=8, y=middle - 2, text=f"{first} {second}", **style),
            Words(key=f"name2:{kind}", x=8, y=middle + 16, text="of each block", size=13),
        ]

    def _carriers(self, stage: str) -> list[Mark]:
        """What each block hands down: its strongest token, and the level of its mean."""
        if stage == "scores":
            return []
        marks: list[Mark] = []
        fallen = stage != "pool"
        for block in range(self.n_blocks):
            link = f"block:{block}"
            largest, mean = float(self.pooled["max"][block]), float(self.pooled["mean"][block])
            centre = self.left(block) + self.pitch / 2
            marks += [
                Circle(
                    key=f"best:{block}",
                    link=link,
                    x=centre if fallen else self.x(self.best[block]),
                    y=self.bar_y("max", largest) if fallen else self.y(largest),
                    r=3.4,
                    fill="vermilion",
                    layer=2,
                ),
                Line(
                    key=f"level:{block}",
                    link=link,
                    x=self.left(block) + 2,
                    x2=self.left(block) + self.pitch - 2,
                    y=self.bar_y("mean", mean) if fallen else self.y(mean),
                    y2=self.bar_y("mean", mean) if fallen else self.y(mean),
                    stroke="vermilion",
                    width=3,
                    layer=2,
                ),
            ]
        return marks

    def _row(self, kind: str, *, kept: bool) -> list[Mark]:
        values, selected = self.pooled[kind], set(self.selected[kind])
        marks = [*self._names(kind)]
        (top, bottom), (low, high) = ROWS[kind], self.scales[kind]
        floor = self.bar_y(kind, 0.0)
        for block, value in enumerate(values):
            fill, opacity = "vermilion", 0.35
            if kept:
                local = block == self.n_blocks - 1
                fill = ("green" if local else "blue") if block in selected else "grey"
                opacity = 1.0 if block in selected else 0.35
            tip = self.bar_y(kind, float(value))
            marks.append(
                Rectangle(
                    key=f"bar:{kind}:{block}",
                    link=f"block:{block}",
                    words=self._words(block),
                    x=self.left(block) + 0.1 * self.pitch,
                    w=0.8 * self.pitch,
                    y=min(tip, floor),
                    h=max(abs(tip - floor), 1),
                    fill=fill,
                    opacity=opacity,
                )
            )
            if kept and block in selected:
                marks.append(
                    Rectangle(
                        key=f"lit:{kind}:{block}",
                        x=self.left(block),
                        w=self.pitch,
                        y=top - 3,
                        h=bottom - top + 6,
                        fill="green" if block == self.n_blocks - 1 else "blue",
                        opacity=0.16,
                        layer=-1,
                    )
                )
        marks.append(
            Line(key=f"floor:{kind}", x=LEFT, x2=RIGHT, y=floor, y2=floor, stroke="faint", width=1)
        )
        for at in (low, high):
            if at:
                marks.append(
                    Words(
                        key=f"tick:{kind}:{'low' if at == low else 'high'}",
                        x=LEFT - 6,
                        y=self.bar_y(kind, at) + (10 if at == high else 0),
                        text=fixed(at, 2).rstrip("0").rstrip("."),
                        anchor="end",
                        size=12,
                    )
                )
        if kept:
            marks += self._verdict(kind)
        return marks

    def _verdict(self, kind: str) -> list[Mark]:
        """The cut of a row, and what became of the needle's block."""
        block, local = self.result.needle_block, self.n_blocks - 1
        values, selected = self.pooled[kind], self.selected[kind]
        chosen_ones = [float(values[b]) for b in selected if b != local]
        top = ROWS[kind][0]
        read = block in selected
        ranked = f"{place(self.ranks[kind][block])} of {self.n_blocks}"
        marks: list[Mark] = []
        if chosen_ones and len(selected) < self.n_blocks:
            y = self.bar_y(kind, min(chosen_ones)) + 1
            marks.append(
                Line(
                    key=f"cut:{kind}",
                    x=LEFT,
                    x2=RIGHT,
                    y=y,
                    y2=y,
                    stroke="ink",
                    width=1,
                    dash="5 4",
                )
            )
        colour = ("green" if block == local else "blue") if read else "ink"
        marks += [
            Words(key=f"of:{kind}", x=RIGHT + 10, y=top + 20, text="needle's block", size=13),
            Words(
                key=f"rank:{kind}",
                x=RIGHT + 10,
                y=top + 40,
                text=ranked,
                size=15,
                bold=True,
                fill=colour,
            ),
            Words(
                key=f"read:{kind}",
                x=RIGHT + 10,
                y=top + 59,
                text=("read: newest" if block == local else "read") if read else "not read",
                size=14,
                bold=True,
                fill=colour,
            ),
        ]
        return marks

    # --------------------------------------------------------------------------- arithmetic

    def arithmetic(self) -> dict[str, Arithmetic]:
        """Both numbers of every block, from its scores."""
        return {f"block:{block}": self._arithmetic(block) for block in range(self.n_blocks)}

    def _arithmetic(self, block: int) -> Arithmetic:
        scores = self.result.token_scores[block * self.size : (block + 1) * self.size]
        strongest = ", ".join(fixed(float(score)) for score in np.sort(scores)[::-1][:3])
        largest, mean, total = float(scores.max()), float(scores.mean()), float(scores.sum())
        counted = f"{fixed(total)} / {self.size}"
        return Arithmetic(
            text=(
                f"Block {block}: max({strongest}, …) = {fixed(largest)}, "
                f"{place(self.ranks['max'][block])}; mean = {counted} = {fixed(mean)}, "
                f"{place(self.ranks['mean'][block])} of {self.n_blocks}."
            ),
            tex=(
                rf"\max_{{j \in b}} s_j = {largest:.2f} \qquad "
                rf"\frac{{1}}{{B}} \sum_{{j \in b}} s_j = \frac{{{total:.2f}}}{{{self.size}}} "
                rf"= {mean:.2f}"
            ),
        )


def _kept_words(picture: Picture) -> str:
    blocks = len(picture.selected["max"])
    if blocks == picture.n_blocks:
        return f"All {blocks} blocks are read: there is nothing left to choose."
    told = []
    for kind, row in (("max", "upper"), ("mean", "lower")):
        lit = picture.result.needle_block in picture.selected[kind]
        told.append(f"the {row} row {'reads' if lit else 'misses'} the needle's block")
    if picture.result.needle_block == picture.n_blocks - 1:
        return (
            f"Each row keeps {blocks} of {picture.n_blocks} blocks. The needle's is the newest "
            "(green), which is read whatever its rank."
        )
    lost = [picture.result.needle_block not in kept for kept in picture.selected.values()]
    if all(lost):
        told = ["both rows miss the needle's block"]
    return (
        f"Each row keeps {blocks} of {picture.n_blocks} blocks, the newest (green) always among "
        f"them: {', '.join(told)}."
    )


SENTENCES: dict[str, Callable[[Picture], str]] = {
    "scores": lambda picture: (
        f"Every dot is a token's score for the newest token; {picture.size} neighbours make one "
        f"block. The needle is the golden one."
    ),
    "pool": lambda _: (
        "From each block two numbers: its largest score (dot) and the mean of its scores (dash)."
    ),
    "compare": lambda _: (
        "They fall into two rows. Each row has its own scale, since only the order in it counts."
    ),
    "keep": _kept_words,
}
