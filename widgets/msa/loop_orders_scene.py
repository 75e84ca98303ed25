"""The hero of "Loop orders": pairs of query and block computed in the order of the loops.

Each cell is a pair that has to be computed. Above, a column grows by one for every time that its
block is fetched from memory; right, a clock, and a race: every order's bar is as long as all that
it has to move, fills with what it has moved by that time, and says when it is done.
"""

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from intuitive.msa.experiments.loop_orders import (
    ORDER_NAMES,
    LoopResult,
    LoopTrace,
    block_bytes,
    slab_bytes,
)

from ..kit import (
    Arithmetic,
    Frame,
    Line,
    Mark,
    Readout,
    Rectangle,
    Scene,
    Words,
    fixed,
    percent,
)

Number = int | float

WIDTH, HEIGHT = 1000, 400
LEFT, RIGHT, TOP, BOTTOM = 66, 640, 112, 384  # of the pairs
FETCHED = (36, 100)  # top and bottom of the columns that count fetches
BARS = (700, 984)  # of the bytes
KEY = 862  # left edge of the key of pairs
FETCH = "sky"  # of the blues the one that is clear in both themes
PARTS = {  # what is moved: field of a trace, name, colour
    "key_value_bytes": ("keys and values", FETCH),
    "query_bytes": ("queries, outputs", "grey"),
    "partial_bytes": ("partial outputs", "gold"),
}
MOST_FRAMES = 48
VAIN = "purple"
KINDS = {"waiting": ("grey", 0.45), "now": ("vermilion", 1.0), "done": ("green", 0.95)}
RACE, LANE, TALL = 34, 58, 18  # first bar's heading, from one to the next, height of a bar
TICKS = (0.25, 0.5, 1, 2, 3, 5, 10, 20)  # MiB from one tick of the race to the next
MIB = 2**20


class Picture:
    """All frames of one order."""

    def __init__(self, result: LoopResult) -> None:
        self.result, self.trace = result, result.traces[result.params.order]
        self.order = self.trace.order
        self.n, self.n_blocks = result.chosen.shape
        self.wide = (RIGHT - LEFT) / self.n_blocks
        self.tall = min((BOTTOM - TOP) / self.n, 17)
        count = min(self.trace.n_steps, MOST_FRAMES)
        self.steps = sorted({round(s) for s in np.linspace(0, self.trace.n_steps - 1, count)})
        self.blocks = block_of_step(self.trace)
        self.most = max(max(self.fetches(one, one.n_steps - 1)) for one in result.traces.values())
        self.longest = max(one.total_bytes for one in result.traces.values())
        self.counts = self.fetches(self.trace, self.trace.n_steps - 1)
        self.pairs = tuple(self._cells())
        self.column = functools.cache(self._column)

    def fetches(self, trace: LoopTrace, step: int) -> tuple[int, ...]:
        """How often each block was fetched, up to a step."""
        blocks = (self.blocks if trace is self.trace else block_of_step(trace))[: step + 1]
        return tuple(np.bincount(blocks[blocks >= 0], minlength=self.n_blocks).tolist())

    def frames(self) -> tuple[Frame, ...]:
        still = self._still()
        before = [-1, *self.steps[:-1]]
        return tuple(
            Frame(
                scene=Scene(
                    width=WIDTH,
                    height=HEIGHT,
                    marks=(
                        *still,
                        *self._pairs(first, step),
                        *self._columns(first, step),
                        *self._bytes(step),
                    ),
                ),
                label=f"step {step + 1} of {self.trace.n_steps}",
                sentence=self._sentence(first, step),
                readouts=self.readouts(step),
            )
            for first, step in zip(before, self.steps, strict=True)
        )

    # --------------------------------------------------------------------------------- words

    def moved(self, trace: LoopTrace, step: int) -> int:
        return sum(int(getattr(trace, part)[step]) for part in PARTS) if step >= 0 else 0

    def computed(self, step: int) -> tuple[int, int]:
        """Pairs computed so far, and those of them that a query chose."""
        there = (self.trace.step_of >= 0) & (self.trace.step_of <= step)
        return int(there.sum()), int((there & ~self.trace.masked).sum())

    def readouts(self, step: int) -> tuple[Readout, ...]:
        computed, useful = self.computed(step)
        return (
            Readout("moved so far", f"{fixed(self.moved(self.trace, step) / MIB)} MiB"),
            Readout("clock", microseconds(self.trace.clock_s[step])),
            Readout("pairs useful", f"{useful} of {computed}"),
        )

    def used(self, first: int, step: int) -> list[int]:
        """The blocks of the steps from one picture to the next."""
        return sorted({int(block) for block in self.blocks[first + 1 : step + 1] if block >= 0})

    def _sentence(self, first: int, step: int) -> str:
        block, moved = self.blocks[step], fixed(self.moved(self.trace, step) / MIB)
        total = fixed(self.trace.total_bytes / MIB)
        if step == self.trace.n_steps - 1:
            counts = self.fetches(self.trace, step)
            most, used = max(counts), sum(count > 0 for count in counts)
            computed, useful = self.computed(step)
            quickest = min(self.result.traces.values(), key=lambda one: one.total_s)
            late = [
                ORDER_NAMES[one.order]
                for one in self.result.traces.values()
                if one.total_s > self.trace.total_s
            ]
            not_yet = f"; not done yet: {' and '.join(late)}" if late else ""
            busy = float(self.trace.multiplying_s[-1]) / self.trace.total_s
            return (
                f"Done after {microseconds(self.trace.total_s)}: {sum(counts)} fetches for {used} "
                f"blocks, block 0 alone {times(counts[0])} (most: {most}); {total} MiB moved, "
                f"{computed} pairs computed, {useful} useful. For {percent(busy)} of the time "
                f"there was something to multiply. First of all: {ORDER_NAMES[quickest.order]}, "
                f"{microseconds(quickest.total_s)}{not_yet}."
            )
        queries = np.flatnonzero(self.trace.step_of[:, block] == step)
        who = f"query {queries[0]}"
        if len(queries) > 1:
            who = f"queries {queries[0]} to {queries[-1]}"
            who = who if np.ptp(queries) + 1 == len(queries) else f"{len(queries)} queries"
        clock = microseconds(self.trace.clock_s[step])
        blocks = self.used(first, step)
        told = f"block {block} is used for {who}"
        if len(blocks) > 1:
            others = ", ".join(map(str, blocks[:-1]))
            told = f"blocks {others} and {blocks[-1]} are used, block {block} for {who}"
        return f"{clock}: {told}; {moved} of {total} MiB moved."

    # --------------------------------------------------------------------------------- marks

    def _still(self) -> list[Mark]:
        bottom = TOP + self.tall * self.n
        texts = [
            ("fetched", LEFT, 16, "how often each block was fetched", "start", True),
            ("queries", LEFT - 10, TOP + 12, "query 0", "end", False),
            ("queries:last", LEFT - 10, bottom - 2, str(self.n - 1), "end", False),
            ("blocks", LEFT, bottom + 14, "block 0", "start", False),
            ("blocks:last", RIGHT, bottom + 14, str(self.n_blocks - 1), "end", False),
            ("bytes", BARS[0], 16, "the race: bytes to move", "start", True),
            ("key", BARS[0], 296, "bytes of", "start", True),
            ("key:pairs", KEY, 296, "cells, on the left", "start", True),
        ]
        marks: list[Mark] = [
            Words(key=key, x=x, y=y, text=text, anchor=anchor, size=14 if bold else 12, bold=bold)
            for key, x, y, text, anchor, bold in texts
            if not (key.startswith("blocks") and bottom + 14 > HEIGHT - 2)
        ]
        for number, (name, colour) in enumerate(PARTS.values()):
            marks += self._key(name, BARS[0], number, colour)
        told = {"waiting": "waits", "now": "computed now", "done": "computed"}
        for number, (kind, name) in enumerate(told.items()):
            marks += self._key(name, KEY, number, *KINDS[kind])
        return [*marks, *self._key("useless", KEY, len(told), VAIN, 0.9), *self._scale()]

    def _scale(self) -> list[Mark]:
        """The axis of the race: MiB from nothing to the longest of the orders."""
        left, right = BARS
        y, most = RACE + LANE * len(self.result.traces) - 6, self.longest / MIB
        every = next(tick for tick in TICKS if most / tick <= 5 or tick == TICKS[-1])
        marks: list[Mark] = [Line(key="scale", x=left, x2=right, y=y, y2=y, stroke="faint")]
        for number in range(int(most / every) + 1):
            at = every * number
            x, unit = left + (right - left) * at / most, " MiB" * (number == 0)
            marks += [
                Line(key=f"scale:{number}", x=x, x2=x, y=y - 3, y2=y + 3, stroke="ink", width=1),
                Words(
                    key=f"scale:{number}:name", x=x, y=y + 17, text=f"{at:g}{unit}", size=12,
                    anchor="middle" if number else "start",
                ),
            ]  # fmt: skip
        return marks

    def _key(
        self, name: str, x: Number, row: int, colour: str, opacity: Number = 1.0
    ) -> list[Mark]:
        """A colour and what it means."""
        y = 318 + 21 * row
        return [
            Rectangle(key=f"key:{name}", x=x, y=y - 11, w=14, h=14, fill=colour, opacity=opacity),
            Words(key=f"key:{name}:name", x=x + 22, y=y + 1, text=name, size=13),
        ]

    def _cell(self, query: int, block: int, kind: str) -> Rectangle:
        chosen = bool(self.result.chosen[query, block])
        colour, opacity = KINDS[kind]
        told = {"waiting": "waits", "now": "is computed now", "done": "was computed"}[kind]
        if not chosen:
            told += " with its tile, and is thrown away"
            colour = VAIN if kind == "done" else colour
        chose = f"Query {query} {'chose' if chosen else 'did not choose'} block {block}"
        often = times(self.counts[block])
        return Rectangle(
            key=f"pair:{query}:{block}",
            link=f"block:{block}",
            x=LEFT + self.wide * block + 1,
            y=TOP + self.tall * query + 1,
            w=self.wide - 2,
            h=self.tall - 2,
            fill=colour,
            opacity=opacity,
            words=f"{chose}: the pair {told}. This order fetches the block {often} in all.",
        )

    def _cells(self) -> Iterator[tuple[int, Mark | None, Mark, Mark]]:
        """Of each pair that has its time: when, and how it looks before, then and afterwards."""
        at, chosen = self.trace.step_of.tolist(), self.result.chosen.tolist()
        for query, block in itertools.product(range(self.n), range(self.n_blocks)):
            when, wanted = at[query][block], chosen[query][block]
            if wanted or when >= 0:
                waiting = self._cell(query, block, "waiting") if wanted else None
                yield when, waiting, *(self._cell(query, block, kind) for kind in ("now", "done"))

    def _pairs(self, first: int, step: int) -> list[Mark]:
        looks = [
            waiting if when > step else now if when > first else done
            for when, waiting, now, done in self.pairs
        ]
        return [look for look in looks if look is not None]

    def _columns(self, first: int, step: int) -> list[Mark]:
        top, bottom = FETCHED
        now = self.used(first, step)
        counts = self.fetches(self.trace, step)
        marks: list[Mark] = [
            self.column(block, count, block in now) for block, count in enumerate(counts) if count
        ]
        block = int(np.argmax(counts))
        marks.append(
            Words(
                key="most",
                x=LEFT + self.wide * (block + 0.5),
                y=bottom - max((bottom - top) * counts[block] / self.most, 2) - 5,
                text=f"{counts[block]}×",
                anchor="middle",
                size=14,
                bold=True,
                layer=2,
            )
        )
        return marks

    def _column(self, block: int, count: int, now: bool) -> Rectangle:
        """How often a block has been fetched."""
        top, bottom = FETCHED
        height = max((bottom - top) * count / self.most, 2)
        return Rectangle(
            key=f"fetches:{block}",
            link=f"block:{block}",
            x=LEFT + self.wide * block + 2,
            y=bottom - height,
            w=self.wide - 4,
            h=height,
            fill="vermilion" if now else FETCH,
            words=f"Block {block} was fetched {times(count)}.",
        )

    def _bytes(self, step: int) -> list[Mark]:
        """How far every order has come by the time at which this one does its step."""
        now = float(self.trace.clock_s[step])
        begun = step > self.steps[0]  # the first picture asks, and says of no order how long it is
        left, right = BARS
        scale = (right - left) / self.longest
        marks: list[Mark] = [
            Words(
                key="clock", x=right, y=16, text=microseconds(now), anchor="end", size=16, bold=True
            )
        ]
        for number, (order, trace) in enumerate(self.result.traces.items()):
            y, ours = RACE + LANE * number, order == self.order
            here = step if ours else trace.step_at(now)
            moved, done = self.moved(trace, here), here == trace.n_steps - 1
            whole = f" of {fixed(trace.total_bytes / MIB)}" * begun
            told = f"✓ {microseconds(trace.total_s)}"
            press = {
                "click": {"order": order},
                "words": f"{ORDER_NAMES[order]}. Press to see its loops.",
            }
            marks += [
                Words(
                    key=f"order:{order}", x=left, y=y + 12, text=ORDER_NAMES[order], size=14,
                    bold=ours, **press,
                ),
                Words(
                    key=f"moved:{order}", x=right, y=y + 12, anchor="end", size=12, bold=done,
                    text=told if done else f"{fixed(moved / MIB)}{whole} MiB",
                ),
            ]  # fmt: skip
            if begun:
                marks.append(
                    Rectangle(
                        key=f"whole:{order}", x=left, y=y + 20, w=scale * trace.total_bytes,
                        h=TALL, stroke="ink", **press,
                    )
                )  # fmt: skip
            x = float(left)
            for part, (name, colour) in PARTS.items():
                length = scale * int(getattr(trace, part)[here]) if here >= 0 else 0.0
                marks.append(
                    Rectangle(
                        key=f"bytes:{order}:{part}",
                        link=f"{order}:{part}",
                        x=x,
                        y=y + 20,
                        w=length,
                        h=TALL,
                        fill=colour,
                        words=f"{ORDER_NAMES[order]}: {name}.",
                        opacity=1.0 if ours else 0.7,
                    )
                )
                x += length
            if done:
                end = {"x": x, "x2": x, "y": y + 16, "y2": y + 24 + TALL}
                marks.append(Line(key=f"end:{order}", stroke="ink", width=3, **end))
        return marks

    # --------------------------------------------------------------------------- arithmetic

    def arithmetic(self) -> dict[str, Arithmetic]:
        """What is moved in the end, as a count times a size."""
        config = self.result.config
        lines = {}
        for order, trace in self.result.traces.items():
            for part, (name, _) in PARTS.items():
                total = int(getattr(trace, part)[-1])
                count = block_bytes if part == "key_value_bytes" else slab_bytes
                size = count(config)
                unit = "fetches of a block" if part == "key_value_bytes" else "slabs of a query"
                lines[f"{order}:{part}"] = Arithmetic(
                    text=(
                        f"{ORDER_NAMES[order]}, {name} in the end: {total // size} {unit} × "
                        f"{size // 1024} KiB = {fixed(total / MIB)} MiB."
                    )
                )
        return lines


def block_of_step(trace: LoopTrace) -> np.ndarray:
    """The block that each step fetches; -1 for a step that only merges."""
    blocks = np.full(trace.n_steps, -1)
    queries, columns = np.nonzero(trace.step_of >= 0)
    blocks[trace.step_of[queries, columns]] = columns
    return blocks


def microseconds(seconds: float) -> str:
    """A time of the clock."""
    return f"{fixed(1e6 * seconds)} µs"


def times(count: int) -> str:
    """Once, or so many times."""
    return "once" if count == 1 else f"{count} times"
