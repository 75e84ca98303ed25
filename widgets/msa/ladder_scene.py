"""The hero of "The ladder": a roofline and a row of times, both moving with the context.

Left, every rung is a point: how many FLOPs it has for each byte that its loops ask for, and how
many it computes a second, useless ones too. The slope is what memory allows, the flat line what the
tensor cores do; a dotted line leads from the slope up to a point whose bytes came in part from the
cache.
Right, the same rungs in time, each with a line from its floor. Full points were measured; an open
one is only counted, and stands where memory and tensor cores would let it if nothing were cached.
"""

import math

from intuitive.msa import cost
from intuitive.msa.experiments.ladder import LadderResult, Landing, Rung, label_of
from intuitive.msa.results import kernel_profile

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
    fixed,
    number,
    percent,
)
from .what_it_costs_scene import tokens_text

Number = int | float

WIDTH, HEIGHT = 1000, 412
LEFT, RIGHT, TOP, BOTTOM = 58, 520, 40, 336  # of the roofline
PROMPT = ((10, 500), (20, 1500))  # ends of the axes: FLOP a byte, TFLOP a second
ENDS = {"attend": PROMPT, "select": PROMPT, "decode": ((2, 60), (0.3, 300))}
TICKS = (0.3, 1, 3, 10, 30, 100, 300, 1000)
TIMES = (610, 984)  # left and right end of the times
TIME_RANGES = {"attend": (-1, 3), "select": (-2, 3), "decode": (-4, 0)}  # exponents of ms
ROW = 66
DENSE = "everything"
PLACES = {  # of a name beside its point; where it stands on the slope, below the slope
    "everything": "left", "query_outer": "right", "kv_outer": "right", "union_tile": "left",
    "every_score": "right", "maxima": "right", "in_chunks": "left",
    "select_one": "below", "attend_one": "right", "step": "right",
}  # fmt: skip
LAUNCHES = 3  # of a decode step of the profile
LAST = {"attend": "union_tile", "select": "in_chunks", "decode": "step"}  # the package's rung


def time_text(ms: Number) -> str:
    """A time with three digits, in ms or µs."""
    return f"{number(ms)} ms" if ms >= 1 else f"{number(1e3 * ms)} µs"


def place_text(landing: Landing) -> str:
    """What a landing is of: "128K", or "the last 8K of 1M" where only those were timed."""
    context = tokens_text(landing.context)
    if landing.queries in (1, landing.context):
        return context
    return f"the last {tokens_text(landing.queries)} of {context}"


class Picture:
    """All frames of one ladder."""

    def __init__(self, result: LadderResult) -> None:
        self.result, self.function = result, result.params.function
        self.times, self.ends = TIME_RANGES[self.function], ENDS[self.function]
        self.labels = tuple(tokens_text(landing.context) for landing in result.shown)

    @property
    def start(self) -> int:
        """The frame that opens: a context of 128K, where there is one."""
        return self.labels.index("128K") if "128K" in self.labels else 0

    def place(self, intensity: Number, rate: Number) -> tuple[float, float]:
        """Where a point of the roofline stands."""
        across, up = (
            min(max(math.log(value / low) / math.log(high / low), 0.0), 1.0)
            for value, (low, high) in zip((intensity, rate / 1e12), self.ends, strict=True)
        )
        return LEFT + (RIGHT - LEFT) * across, BOTTOM - (BOTTOM - TOP) * up

    def name(self, rung: Rung) -> str:
        return label_of(rung.name, self.function)

    def frames(self) -> tuple[Frame, ...]:
        still = self._still()
        return tuple(
            Frame(
                scene=Scene(
                    width=WIDTH,
                    height=HEIGHT,
                    marks=(
                        *still,
                        *self._cached(landing),
                        *self._points(landing),
                        *self._rows(landing),
                    ),
                ),
                label=label,
                sentence=self._sentence(landing),
                readouts=self.readouts(landing),
                arithmetic=self._arithmetic(landing),
            )
            for landing, label in zip(self.result.shown, self.labels, strict=True)
        )

    # --------------------------------------------------------------------------------- words

    def readouts(self, landing: Landing) -> tuple[Readout, ...]:
        last = landing[LAST[self.function]]
        first = landing.rungs[0]
        told = f"{self.name(first)} ÷ {self.name(last)}"
        return (
            Readout("floor", time_text(last.least.floor_ms)),
            Readout(self.name(last), time_text(last.ms)),
            Readout(told, f"{number(first.ms / last.ms)}×"),
        )

    def _sentence(self, landing: Landing) -> str:
        last, first = landing[LAST[self.function]], landing.rungs[0]
        label, over = place_text(landing), f"{fixed(last.over_floor, 1)} times the floor"
        label = label[0].upper() + label[1:]
        if self.function == "attend":
            alone = landing["query_outer"]
            extra = last.work.flops / last.least.flops
            return (
                f"{label}: everything takes {time_text(first.ms)} at {rate_text(first)}, tile by "
                f"tile {time_text(last.ms)}, {over}; a tile computes {fixed(extra, 1)} times what "
                f"is useful. Query by query it would be {time_text(alone.ms)} if every fetch came "
                "from memory."
            )
        if self.function == "select":
            return (
                f"{label}: with every score stored, writing and reading takes "
                f"{time_text(first.ms)} at the least. One maximum a block writes 1/128 as much: "
                f"{time_text(landing['maxima'].ms)}, and in chunks of queries "
                f"{time_text(last.ms)}, {over}."
            )
        attend = landing["attend_one"]
        fewer = first.work.bytes / last.work.bytes
        return (
            f"{label}: MSA reads {fixed(fewer, 1)} times fewer bytes than dense attention and "
            f"takes {time_text(last.ms)} instead of {time_text(first.ms)}. Its attend takes "
            f"{time_text(attend.ms)}, {fixed(attend.over_floor, 1)} times its floor. Each part "
            "was timed alone: together they need not give the step."
        )

    # ------------------------------------------------------------------------------ roofline

    def _still(self) -> list[Mark]:
        ridge = cost.H100_FLOPS / cost.H100_BYTES
        (least, most), rates = self.ends
        roof = [least, *[ridge] * (ridge < most), most]
        places = [self.place(x, min(x * cost.H100_BYTES, cost.H100_FLOPS)) for x in roof]
        heading = {"bold": True, "size": 14}
        marks: list[Mark] = [
            Path.through(*zip(*places, strict=True), key="roof", stroke="ink", width=2),
            Line(key="axis:x", x=LEFT, x2=RIGHT, y=BOTTOM, y2=BOTTOM, stroke="faint"),
            Line(key="axis:y", x=LEFT, x2=LEFT, y=TOP, y2=BOTTOM, stroke="faint"),
            Words(key="head:roof", x=LEFT, y=18, text="TFLOP computed a second", **heading),
            Words(key="head:times", x=TIMES[0], y=18, text="time, from its floor", **heading),
            Words(
                key="axis:name", x=(LEFT + RIGHT) / 2, y=BOTTOM + 42, anchor="middle", size=13,
                text="FLOP computed for each byte that the loops ask for",
            ),
            *self._roof_names(ridge < most),
        ]  # fmt: skip
        for number_of in TICKS:
            tick = {"text": f"{number_of:g}", "size": 12}
            if least <= number_of <= most:
                x, _ = self.place(number_of, 1e12)
                marks.append(
                    Words(key=f"x:{number_of}", x=x, y=BOTTOM + 20, anchor="middle", **tick)
                )
            if rates[0] <= number_of <= rates[1]:
                _, y = self.place(least, 1e12 * number_of)
                grid = {"y": y, "y2": y, "stroke": "faint", "width": 0.5}
                marks += [
                    Words(key=f"y:{number_of}", x=LEFT - 8, y=y + 4, anchor="end", **tick),
                    Line(key=f"grid:{number_of}", x=LEFT, x2=RIGHT, **grid),
                ]
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
        left, y = TIMES[0], HEIGHT - 36
        dense = label_of(DENSE, self.function)
        marks += [
            Circle(key="key:full", x=left + 6, y=y - 4, r=6, fill="blue"),
            Words(key="key:full:name", x=left + 20, y=y, text="measured", size=13),
            Circle(key="key:dense", x=left + 146, y=y - 4, r=6, fill="grey"),
            Words(key="key:dense:name", x=left + 160, y=y, text=f"{dense}, measured", size=13),
        ]  # fmt: skip
        return marks + self._second_line(left, y + 18)

    def _second_line(self, left: Number, y: Number) -> list[Mark]:
        """Of the legend: in decoding nothing is only counted, and launches are marked."""
        name = {"y": y + 4, "size": 13}
        if self.function == "decode":
            profile = kernel_profile()
            card = profile.made.device.removeprefix("NVIDIA ")
            took = time_text(profile.values.empty_us(LAUNCHES) / 1e3)
            told = f"{LAUNCHES} empty launches, {card}: {took}"
            return [
                self._tick("key:floor", left + 6, y),
                Words(key="key:floor:name", x=left + 20, text="floor", **name),
                self._launches("key:launches", left + 86, y),
                Words(key="key:launches:name", x=left + 100, text=told, **name),
            ]
        floor = "floor, of the useful work"
        return [
            Circle(key="key:open", x=left + 6, y=y, r=6, stroke="ink", fill="page"),
            Words(key="key:open:name", x=left + 20, text="counted", **name),
            self._tick("key:floor", left + 146, y),
            Words(key="key:floor:name", x=left + 160, text=floor, **name),
        ]

    def _roof_names(self, has_ridge: bool) -> list[Mark]:
        """Names of the flat part and the slope, away from the points."""
        if not has_ridge:  # the tensor cores are far above, and the points below the slope
            x, y = self.place(12, 12 * cost.H100_BYTES)
            slope = {"x": x - 14, "y": y, "anchor": "end"}
            flat_y = TOP + 14
        else:
            slope = {"x": LEFT + 26, "y": BOTTOM - 22}
            flat_y = self.place(1, cost.H100_FLOPS)[1] - 18
        far = "" if has_ridge else " far above"
        return [
            Words(
                key="roof:flat", x=RIGHT, y=flat_y, anchor="end", size=12,
                text=f"tensor cores{far}, 989 TFLOP/s",
            ),
            Words(key="roof:slope", text="all from memory, 3.35 TB/s", size=12, **slope),
        ]  # fmt: skip

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

    def _cached(self, landing: Landing) -> list[Mark]:
        """From the slope to each point above it, and what that says of the package's rung."""
        marks: list[Mark] = []
        for rung in landing.rungs:
            if rung.cached:
                x, y = self.place(rung.work.intensity, rung.flops_per_s)
                _, slope = self.place(rung.work.intensity, rung.work.intensity * cost.H100_BYTES)
                words = (
                    f"{self.name(rung)}: at least {percent(rung.cached)} of its bytes came from "
                    f"the L2 cache, for memory brings no more in {time_text(rung.ms)}."
                )
                marks.append(
                    Line(key=f"cache:{rung.name}", link=f"rung:{rung.name}", x=x, x2=x, y=slope,
                         y2=y, stroke="ink", dash="2 4", width=2, words=words)
                )  # fmt: skip
        last = landing[LAST[self.function]]
        if last.cached:
            least = f"{self.name(last)}: at least {percent(last.cached)} of its bytes"
            told = ("dotted: from the L2 cache", least)
            marks += [
                Words(key=f"cache:told:{i}", x=LEFT + 10, y=TOP + 20 + 16 * i, text=text, size=12)
                for i, text in enumerate(told)
            ]
        return marks

    def _points(self, landing: Landing) -> list[Mark]:
        marks: list[Mark] = []
        for rung in landing.rungs:
            x, y = self.place(rung.work.intensity, rung.flops_per_s)
            counted = rung.measured_ms is None
            marks.append(
                Circle(
                    key=f"point:{rung.name}",
                    link=f"rung:{rung.name}",
                    x=x,
                    y=y,
                    r=6 if counted else 8,
                    label=self.name(rung),
                    place="right"
                    if self.function == "decode" and rung.name == DENSE
                    else PLACES[rung.name],
                    words=self._told(rung),
                    layer=2 if counted else 1,  # small and above: neither hides the other
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
    def _launches(key: str, x: Number, y: Number) -> Line:
        """The time of launches that do nothing."""
        return Line(key=key, x=x, x2=x, y=y - 9, y2=y + 9, stroke="vermilion", dash="3 2", width=3)

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
            if name == "step":
                x = self.time_x(kernel_profile().values.empty_us(LAUNCHES) / 1e3)
                marks.append(self._launches(f"launches:{name}", x, y))
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
