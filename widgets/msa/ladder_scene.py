"""The hero of "The ladder": a roofline and a row of times, both moving with the context.

Left, every rung is a point: how many FLOPs it has for each byte that its loops ask for, and how
many it computes a second. The slope is what memory allows, the flat line what the tensor cores do.
Right, the same rungs in time, each with a line from its floor. Full points were measured; an open
one is only counted, and stands where memory and tensor cores would let it if nothing were cached.
"""

import math

from intuitive.msa import cost
from intuitive.msa.experiments.ladder import LadderResult, Landing, Rung
from intuitive.msa.experiments.loop_orders import ORDER_NAMES

from ..kit import Arithmetic, Circle, Frame, Line, Mark, Path, Readout, Scene, Words, fixed, number
from .what_it_costs_scene import tokens_text

Number = int | float

WIDTH, HEIGHT = 1000, 392
LEFT, RIGHT, TOP, BOTTOM = 58, 520, 40, 336  # of the roofline
INTENSITY, RATE = (0.0, 3.0), (-0.3, 3.3)  # exponents of ten: FLOP a byte, TFLOP a second
TIMES = (610, 984)  # left and right end of the times
TIME_RANGES = {"attend": (-1, 3), "select": (-2, 3), "decode": (-4, 0)}  # exponents of ms
ROW = 66
NAMES = ORDER_NAMES | {
    "every_score": "every score stored",
    "maxima": "one maximum a block",
    "in_chunks": "in chunks of queries",
    "select_one": "MSA, select",
    "attend_one": "MSA, attend",
    "step": "MSA, whole step",
}
DENSE = "everything"
PLACES = {  # of a name beside its point
    "everything": "above", "query_outer": "below", "kv_outer": "right", "union_tile": "left",
    "every_score": "below", "maxima": "left", "in_chunks": "right",
    "select_one": "left", "attend_one": "right", "step": "below",
}  # fmt: skip
LAST = {"attend": "union_tile", "select": "in_chunks", "decode": "step"}  # the package's rung


def time_text(ms: Number) -> str:
    """A time with three digits, in ms or µs."""
    return f"{number(ms)} ms" if ms >= 1 else f"{number(1e3 * ms)} µs"


def place_text(landing: Landing) -> str:
    """Name of a context: "128K", or "last 8K of 1M" where only the last queries were timed."""
    context = tokens_text(landing.context)
    if landing.queries in (1, landing.context):
        return context
    return f"last {tokens_text(landing.queries)} of {context}"


def label_of(name: str, function: str) -> str:
    """A rung's name; in decoding nothing is masked."""
    return "dense" if (name, function) == (DENSE, "decode") else NAMES[name]


class Picture:
    """All frames of one ladder."""

    def __init__(self, result: LadderResult) -> None:
        self.result, self.function = result, result.params.function
        self.times = TIME_RANGES[self.function]
        self.labels = tuple(place_text(landing) for landing in result.landings)

    @property
    def start(self) -> int:
        """The frame that opens: a context of 128K."""
        return self.labels.index("128K")

    def name(self, rung: Rung) -> str:
        return label_of(rung.name, self.function)

    def frames(self) -> tuple[Frame, ...]:
        still = self._still()
        return tuple(
            Frame(
                scene=Scene(
                    width=WIDTH,
                    height=HEIGHT,
                    marks=(*still, *self._points(landing), *self._rows(landing)),
                ),
                label=label,
                sentence=self._sentence(landing, label),
                readouts=self.readouts(landing),
                arithmetic=self._arithmetic(landing),
            )
            for landing, label in zip(self.result.landings, self.labels, strict=True)
        )

    # --------------------------------------------------------------------------------- words

    def readouts(self, landing: Landing) -> tuple[Readout, ...]:
        last = landing[LAST[self.function]]
        first = landing.rungs[0]
        told = f"{self.name(first)} ÷ {self.name(last)}"
        return (
            Readout("floor", time_text(last.least.floor_ms)),
            Readout(self.name(last), time_text(last.ms)),
            Readout(told, f"{fixed(first.ms / last.ms)}"),
        )

    def _sentence(self, landing: Landing, label: str) -> str:
        last, first = landing[LAST[self.function]], landing.rungs[0]
        over = f"{fixed(last.over_floor, 1)} times the floor"
        if self.function == "attend":
            alone = landing["query_outer"]
            extra = last.work.flops / last.least.flops
            return (
                f"{label}: everything takes {time_text(first.ms)} at "
                f"{rate_text(first)}, the union tile {time_text(last.ms)}, {over}; it "
                f"computes {fixed(extra, 1)} times what is useful. Query by query it would "
                f"be {time_text(alone.ms)} if every fetch came from memory."
            )
        if self.function == "select":
            return (
                f"{label}: with every score stored, writing and reading takes "
                f"{time_text(first.ms)} at the least. One maximum a block is 1/128 of that: "
                f"{time_text(last.ms)} in chunks, {over}."
            )
        attend = landing["attend_one"]
        fewer = first.work.bytes / last.work.bytes
        return (
            f"{label}: MSA reads {fixed(fewer, 1)} times fewer bytes than dense attention and "
            f"takes {time_text(last.ms)} instead of {time_text(first.ms)}. Its attend takes "
            f"{time_text(attend.ms)}, {fixed(attend.over_floor, 1)} times its floor."
        )

    # ------------------------------------------------------------------------------ roofline

    def _still(self) -> list[Mark]:
        ridge = cost.H100_FLOPS / cost.H100_BYTES
        roof = [(1, cost.H100_BYTES), (ridge, cost.H100_FLOPS), (1000, cost.H100_FLOPS)]
        places = [place(x, y) for x, y in roof]
        heading = {"bold": True, "size": 14}
        marks: list[Mark] = [
            Path.through(*zip(*places, strict=True), key="roof", stroke="ink", width=2),
            Line(key="axis:x", x=LEFT, x2=RIGHT, y=BOTTOM, y2=BOTTOM, stroke="faint"),
            Line(key="axis:y", x=LEFT, x2=LEFT, y=TOP, y2=BOTTOM, stroke="faint"),
            Words(key="head:roof", x=LEFT, y=18, text="TFLOP a second", **heading),
            Words(key="head:times", x=TIMES[0], y=18, text="time, from its floor", **heading),
            Words(
                key="roof:flat", x=RIGHT, y=places[1][1] - 18, anchor="end", size=12,
                text="tensor cores, 989 TFLOP/s",
            ),
            Words(
                key="roof:slope", x=places[0][0] + 14, y=places[0][1] + 20, size=12,
                text="memory, 3.35 TB/s",
            ),
            Words(
                key="axis:name", x=(LEFT + RIGHT) / 2, y=BOTTOM + 42, anchor="middle", size=13,
                text="FLOP for each byte that the loops ask for",
            ),
        ]  # fmt: skip
        for power in range(4):
            x, _ = place(10**power, 1e12)
            tick = {"anchor": "middle", "size": 12}
            marks.append(Words(key=f"x:{power}", x=x, y=BOTTOM + 20, text=str(10**power), **tick))
            _, y = place(1, 10 ** (power + 12))
            marks.append(
                Words(
                    key=f"y:{power}",
                    x=LEFT - 8,
                    y=y + 4,
                    text=str(10**power),
                    anchor="end",
                    size=12,
                )
            )
            marks.append(
                Line(key=f"grid:{power}", x=LEFT, x2=RIGHT, y=y, y2=y, stroke="faint", width=0.5)
            )
        low, high = self.times
        base = self._row_y(4) - 22
        for power in range(low, high + 1):
            x = self.time_x(10**power)
            text = (
                "1 s"
                if power == 3
                else f"{10**power} ms"
                if power >= 0
                else (f"{10 ** (power + 3):g} µs")
            )
            marks += [
                Words(key=f"t:{power}", x=x, y=base + 18, text=text, anchor="middle", size=12),
                Line(key=f"tgrid:{power}", x=x, x2=x, y=TOP, y2=base, stroke="faint", width=0.5),
            ]
        y, left = HEIGHT - 14, TIMES[0]
        marks += [
            Circle(key="key:full", x=left + 6, y=y - 4, r=6, fill="blue"),
            Words(key="key:full:name", x=left + 20, y=y, text="measured", size=13),
            Circle(key="key:open", x=left + 106, y=y - 4, r=6, stroke="ink", fill="page"),
            Words(key="key:open:name", x=left + 120, y=y, text="counted, without a cache", size=13),
            self._tick("key:floor", left + 324, y - 4),
            Words(key="key:floor:name", x=left + 334, y=y, text="floor", size=13),
        ]
        return marks

    def _look(self, rung: Rung) -> dict:
        """Full where measured; dense attention grey."""
        if rung.measured_ms is None:
            return {"fill": "page", "stroke": "ink", "width": 2}
        return {"fill": "grey" if rung.name == DENSE else "blue"}

    def _told(self, rung: Rung) -> str:
        how = "measured" if rung.measured_ms is not None else "counted"
        return (
            f"{self.name(rung)}: {number(rung.work.intensity)} FLOP a byte, {rate_text(rung)}, "
            f"{time_text(rung.ms)}, {how}."
        )

    def _points(self, landing: Landing) -> list[Mark]:
        marks: list[Mark] = []
        for rung in landing.rungs:
            x, y = place(rung.work.intensity, rung.flops_per_s)
            marks.append(
                Circle(
                    key=f"point:{rung.name}",
                    link=f"rung:{rung.name}",
                    x=x,
                    y=y,
                    r=8,
                    label=self.name(rung),
                    place=PLACES[rung.name],
                    words=self._told(rung),
                    layer=1,
                    **self._look(rung),
                )
            )
        return marks

    # --------------------------------------------------------------------------------- times

    def time_x(self, ms: Number) -> float:
        low, high = self.times
        share = (math.log10(ms) - low) / (high - low)
        return TIMES[0] + (TIMES[1] - TIMES[0]) * min(max(share, 0.0), 1.0)

    @staticmethod
    def _tick(key: str, x: Number, y: Number) -> Line:
        """A floor."""
        return Line(key=key, x=x, x2=x, y=y - 9, y2=y + 9, stroke="ink", width=3)

    @staticmethod
    def _row_y(number_of: int) -> int:
        return TOP + 44 + ROW * number_of

    def _rows(self, landing: Landing) -> list[Mark]:
        marks: list[Mark] = []
        for place_of, rung in enumerate(landing.rungs):
            y, name = self._row_y(place_of), rung.name
            floor, here = self.time_x(rung.least.floor_ms), self.time_x(rung.ms)
            marks += [
                Words(
                    key=f"row:{name}",
                    x=TIMES[0],
                    y=y - 20,
                    text=f"{self.name(rung)}: {time_text(rung.ms)}, "
                    f"{fixed(rung.over_floor, 1)}× its floor",
                    size=14,
                    bold=name == LAST[self.function],
                ),
                Line(key=f"from:{name}", x=floor, x2=here, y=y, y2=y, stroke="grey", width=3),
                self._tick(f"floor:{name}", floor, y),
                Circle(
                    key=f"time:{name}",
                    link=f"rung:{name}",
                    x=here,
                    y=y,
                    r=8,
                    words=self._told(rung),
                    layer=1,
                    **self._look(rung),
                ),
            ]  # fmt: skip
        return marks

    # --------------------------------------------------------------------------- arithmetic

    def _arithmetic(self, landing: Landing) -> dict[str, Arithmetic]:
        """Both floors of a rung's own work, and its time."""
        lines = {}
        for rung in landing.rungs:
            computing, moving = (
                1e3 * amount / most
                for amount, most in (
                    (rung.work.flops, cost.H100_FLOPS),
                    (rung.work.bytes, cost.H100_BYTES),
                )
            )
            measured = (
                "not measured"
                if rung.measured_ms is None
                else f"measured {time_text(rung.measured_ms)}"
            )
            lines[f"rung:{rung.name}"] = Arithmetic(
                text=(
                    f"{self.name(rung)}: {number(rung.work.flops / 1e12)} TFLOP ÷ 989 TFLOP/s = "
                    f"{time_text(computing)}; {number(rung.work.bytes / 1e9)} GB ÷ 3.35 TB/s = "
                    f"{time_text(moving)}; {measured}."
                )
            )
        return lines


def rate_text(rung: Rung) -> str:
    """FLOPs a second."""
    return f"{number(rung.flops_per_s / 1e12)} TFLOP/s"


def place(intensity: Number, rate: Number) -> tuple[float, float]:
    """Where a point of the roofline stands."""
    shares = [
        (math.log10(value) - low) / (high - low)
        for value, (low, high) in ((intensity, INTENSITY), (rate / 1e12, RATE))
    ]
    across, up = (min(max(share, 0.0), 1.0) for share in shares)
    return LEFT + (RIGHT - LEFT) * across, BOTTOM - (BOTTOM - TOP) * up
