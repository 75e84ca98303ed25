"""The hero of "What every method made of the same students": the dose curve and a hundred texts.

On the left accuracy against the teacher's λ, a curve for each of the methods that were measured at
several λ, drawn as far as λ has come. On the right one square for each of a hundred texts of the
method that is followed: right, wrong, or interrupted by WAIT. A square stays the same text.
"""

import itertools

from intuitive.trd.experiments.results import Results
from intuitive.trd.methods import ABLATIONS, METHODS
from intuitive.trd.results import MethodRow

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
    Timeline,
    Words,
    percent,
)
from .styles import METHOD_STYLES

Number = int | float

WIDTH, HEIGHT = 1000, 372
LEFT, RIGHT, HIGH, LOW = 62, 390, 40, 324  # of the curves
SQUARES_X, SQUARES_Y, PITCH, SIDE = 590, 42, 28, 24
TEXT_X = SQUARES_X + 10 * PITCH + 14
LAST = 0.8  # the largest λ
COLOURS = {"#D55E00": "vermilion", "#009E73": "green", "#0072B2": "blue"}
WAIT, WRONG, RIGHT_TEXT = "green", "vermilion", "page"
PACE_MS = 900


def colour(name: str) -> str:
    """A method's colour by its name in the theme."""
    return COLOURS.get(METHOD_STYLES[name].colour, "purple")


def short_name(name: str) -> str:
    return METHOD_STYLES[name].name


def outcome(row: MethodRow) -> str:
    """A method's students in words."""
    after = ""
    if row.wait >= 0.001:
        share = row.correct_after_wait or 0.0
        after = f", and {'none' if share == 0 else percent(share)} of those come out right"
    return f"{percent(row.accuracy.estimate)} of its texts are right; {waits(row)} say WAIT{after}"


def waits(row: MethodRow) -> str:
    """The share of texts with WAIT: to a tenth where it is small."""
    return percent(row.wait, 0 if row.wait >= 0.1 else 1)


def readouts(row: MethodRow) -> tuple[Readout, ...]:
    return (
        Readout("right", percent(row.accuracy.estimate), link=row.name),
        Readout("say WAIT", waits(row), link="wait"),
        Readout("keep their order", percent(row.order_kept)),
    )


def hundred(row: MethodRow) -> tuple[int, int, int, int]:
    """Of a hundred texts: WAIT and right, WAIT and wrong, wrong without WAIT, right without."""
    says = round(100 * row.wait)
    mended = round(100 * row.wait * (row.correct_after_wait or 0.0))
    right = round(100 * row.accuracy.estimate)
    clean = min(right - mended, 100 - says)
    return mended, says - mended, 100 - says - clean, clean


class Picture:
    """The timeline of one row: over λ where that was measured, else of one moment."""

    def __init__(self, results: Results) -> None:
        self.results, self.params = results, results.params
        self.doses = results.found.dose
        self.followed = results.doses or (results.row,)
        self.names = tuple(dict.fromkeys(row.name for row in self.doses))

    def timeline(self) -> Timeline:
        frames = tuple(self.frame(row) for row in self.followed)
        return Timeline(frames=frames, axis="teacher's λ", start=0, pace_ms=PACE_MS)

    def frame(self, row: MethodRow) -> Frame:
        marks = [*self._ground(), *self._curves(row), *self._squares(row)]
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
            label=f"λ = {row.repair:g}",
            sentence=self.sentence(row),
            readouts=readouts(row),
        )

    def sentence(self, row: MethodRow) -> str:
        drawn = f", rollouts drawn anew {row.rounds} times" if row.rounds > 1 else ""
        return f"λ = {row.repair:g}{drawn}. {short_name(row.name)}: {outcome(row)}."

    # ------------------------------------------------------------------------------- places

    @staticmethod
    def x(repair: Number) -> Number:
        return LEFT + (RIGHT - LEFT) * repair / LAST

    @staticmethod
    def y(share: Number) -> Number:
        return LOW - (LOW - HIGH) * share

    # ------------------------------------------------------------------------------- the curves

    def _ground(self) -> list[Mark]:
        marks: list[Mark] = []
        small = {"size": 13, "fill": "faint"}
        for share in (0, 0.25, 0.5, 0.75, 1):
            y = self.y(share)
            grid = {"stroke": "faint", "width": 0.8, "opacity": 0.45}
            marks.append(Line(key=f"grid:{share}", x=LEFT, y=y, x2=RIGHT, y2=y, **grid))
            text = percent(share)
            marks.append(
                Words(key=f"at:{share}", text=text, x=LEFT - 8, y=y + 4.5, anchor="end", **small)
            )
        for repair in sorted({row.repair for row in self.doses}) or (0, 0.3, 0.6):
            marks.append(
                Words(key=f"λ:{repair:g}", text=f"{repair:g}", x=self.x(repair), y=LOW + 20,
                      anchor="middle", **small)
            )  # fmt: skip
        marks += [
            Words(key="right", text="texts that are right", x=LEFT - 44, y=20, size=14),
            Words(key="λ", text="λ: how often the teacher says WAIT after an error",
                  x=(LEFT + RIGHT) / 2, y=LOW + 42, anchor="middle", **small),
        ]  # fmt: skip
        return marks

    def _curves(self, now: MethodRow) -> list[Mark]:
        marks: list[Mark] = []
        ends: list[tuple[str, Number, Number, MethodRow]] = []
        upto = now.repair if self.results.doses else LAST
        for name in self.names:
            rows = [row for row in self.doses if row.name == name]
            strong = name == now.name and bool(self.results.doses)
            seen = [row for row in rows if row.repair <= upto] or rows[:1]
            # What λ has not reached yet lies folded at the end, so that frames blend.
            folded = [row if row.repair <= upto else seen[-1] for row in rows]
            look = {"stroke": colour(name), "opacity": 1 if strong else 0.4, "layer": int(strong)}
            dash = "7 5" if METHOD_STYLES[name].dash != "solid" else ""
            marks.append(
                Path.through(
                    [self.x(row.repair) for row in folded],
                    [self.y(row.accuracy.estimate) for row in folded],
                    key=f"curve:{name}",
                    width=3.5 if strong else 2,
                    dash=dash,
                    link=name,
                    words=f"{short_name(name)} at λ = {seen[-1].repair:g}: {outcome(seen[-1])}.",
                    **look,
                )
            )
            for place, row in enumerate(folded):
                low, high = row.accuracy.low, row.accuracy.high
                x = self.x(row.repair)
                marks.append(
                    Line(key=f"interval:{name}:{place}", x=x, y=self.y(low), x2=x,
                         y2=self.y(high), width=2, **look)
                )  # fmt: skip
            end = seen[-1]
            ends.append((name, self.x(end.repair), self.y(end.accuracy.estimate), end))
        if not self.results.doses:  # one mark at its λ, beside the curves of the others
            x, y = self.x(now.repair), self.y(now.accuracy.estimate)
            before = next(
                (row for row in self.doses
                 if row.name == now.name and row.repair == now.repair and now.teacher == "exact"),
                None,
            )  # fmt: skip
            if before is not None:
                arrow = {"stroke": colour(now.name), "width": 2, "dash": "3 4"}
                start = self.y(before.accuracy.estimate)
                marks.append(Line(key="anew", x=x, y=start, x2=x, y2=y, **arrow))
            told = [short_name(now.name), *["drawn anew"] * (now.rounds > 1)]
            marks += [
                Words(key=f"now:{line}", text=text, x=x + 12, y=y + 20 + 17 * line,
                      fill=colour(now.name), bold=True, size=14, layer=2)
                for line, text in enumerate(told)
            ]  # fmt: skip
        x, y = self.x(now.repair), self.y(now.accuracy.estimate)
        words = f"{short_name(now.name)} at λ = {now.repair:g}: {outcome(now)}."
        marks.append(
            Circle(key="now", x=x, y=y, r=7, fill=colour(now.name), link=now.name, words=words,
                   layer=2)
        )  # fmt: skip
        heights = apart([y for _, _, y, _ in ends], 17, HIGH - 4, LOW)
        for (name, x, _, end), y in zip(ends, heights, strict=True):
            strong = name == now.name and bool(self.results.doses)
            marks.append(
                Words(
                    key=f"name:{name}",
                    text=f"{short_name(name)} {percent(end.accuracy.estimate)}",
                    x=x + 12,
                    y=y + 4.5,
                    fill=colour(name),
                    bold=strong,
                    size=14,
                    opacity=1 if strong else 0.75,
                    link=name,
                )
            )
        return marks

    # ------------------------------------------------------------------------------- the texts

    def _squares(self, row: MethodRow) -> list[Mark]:
        counts = hundred(row)
        kinds = [kind for kind, count in enumerate(counts) for _ in range(count)]
        looks = (
            {"fill": WAIT, "stroke": WAIT, "label": "✓", "link": "wait"},
            {"fill": WAIT, "stroke": WAIT, "label": "✗", "link": "wait"},
            {"fill": RIGHT_TEXT, "stroke": WRONG, "label": "✗", "link": "wrong"},
            {"fill": RIGHT_TEXT, "stroke": "faint", "label": "✓", "link": "clean"},
        )
        marks: list[Mark] = [
            Words(key="hundred", text=f"a hundred texts of {short_name(row.name)}", x=SQUARES_X,
                  y=20, size=14),
        ]  # fmt: skip
        for place, kind in enumerate(kinds):
            line, column = divmod(place, 10)
            marks.append(
                Rectangle(
                    key=f"text:{place}",
                    x=SQUARES_X + PITCH * column,
                    y=SQUARES_Y + PITCH * line,
                    w=SIDE,
                    h=SIDE,
                    corner=4,
                    width=1.2,
                    size=12,
                    **looks[kind],
                )
            )
        if (trd := self._trd(row)) is not None:
            text = (
                f"TRD: {percent(trd.accuracy.estimate)} right, {percent(trd.order_kept)} keep "
                "their order"
            )
            marks.append(
                Words(key="trd", text=text, x=SQUARES_X, y=SQUARES_Y + 10 * PITCH + 20, size=13,
                      fill=colour("trd"), opacity=0.85)
            )  # fmt: skip
        mended, stopped, wrong, right = counts
        lines = [
            ("wait", f"{mended + stopped}", "say WAIT", WAIT),
            ("mended", f"{mended}", "of them right", WAIT),
            ("wrong", f"{wrong}", "wrong without", WRONG),
            ("clean", f"{right}", "right without", "ink"),
        ]
        for place, (key, count, told, fill) in enumerate(lines):
            y = SQUARES_Y + 26 + 62 * place
            words = f"Of a hundred texts {count}: {told}" + (" a WAIT." if place > 1 else ".")
            marks += [
                Words(key=f"count:{key}", text=count, x=TEXT_X, y=y, size=24, bold=True, fill=fill,
                      link=key, words=words),
                Words(key=f"told:{key}", text=told, x=TEXT_X, y=y + 18, size=12, fill="faint"),
            ]  # fmt: skip
        return marks

    def _trd(self, row: MethodRow) -> MethodRow | None:
        """TRD's row, to be compared with who else learns along its rewrites."""
        if row.name == "trd" or {**METHODS, **ABLATIONS}[row.name].trajectory != "y_r":
            return None
        rows = (*self.results.beside, *self.doses)
        asked = ("trd", row.teacher, row.repair, row.rounds)
        return next((r for r in rows if (r.name, r.teacher, r.repair, r.rounds) == asked), None)

    def arithmetic(self) -> dict[str, Arithmetic]:
        """What the shares of the row come from."""
        row = self.results.row
        share = row.correct_after_wait or 0.0
        product = row.wait * share
        lines = {
            "mended": Arithmetic(
                text=f"say WAIT · right after it = {percent(row.wait, 1)} · {percent(share, 1)} = "
                f"{percent(product, 2)}",
                tex=rf"{row.wait:.3f}\cdot{share:.3f} = {product:.4f}",
            )
        }
        seeds = " + ".join(f"{one:.3f}" for one in row.accuracy_by_seed)
        n = len(row.accuracy_by_seed)
        lines[row.name] = Arithmetic(
            text=f"mean over {n} students: ({seeds}) / {n} = {row.accuracy.estimate:.3f}",
            tex=rf"\tfrac{{1}}{{{n}}}({seeds}) = {row.accuracy.estimate:.3f}",
        )
        return lines


def apart(heights: list[Number], least: Number, top: Number, bottom: Number) -> list[Number]:
    """Heights of labels in the order of their marks, `least` apart, between `top` and `bottom`."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for _ in range(60):
        for above, below in itertools.pairwise(order):
            overlap = least - (placed[below] - placed[above])
            if overlap > 0:
                placed[above] -= overlap / 2
                placed[below] += overlap / 2
        for place in order:
            placed[place] = min(max(placed[place], top), bottom)
    for above, below in itertools.pairwise(order):  # what is left where many meet
        placed[below] = max(placed[below], placed[above] + least)
    for below, above in itertools.pairwise(reversed(order)):
        placed[below] = min(placed[below], bottom)
        placed[above] = min(placed[above], placed[below] - least)
    return placed
