"""The hero of "Ten texts while a student learns": what stands in it, one frame for each look.

Rows are ten problems that stay; beside each stands what the student of either method writes. A
tile is one token. Its key says which step of which problem it is, so that a step that moves to
another place of the text glides there. Below, the shares of right texts and of texts with WAIT
grow with the training.
"""

import itertools
import re
import threading
from functools import cached_property

from cachetools import LRUCache, cached

from intuitive.trd.experiments.train import Text, TrainPoint, TrainResult, TrainRun, read

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
    percent,
)
from .styles import METHOD_STYLES

Number = int | float

WIDTH, HEIGHT = 1000, 424
TOP, PITCH, TALL = 32, 23, 20  # of the rows
PANELS, PANEL = (142, 580), 418  # where the texts of a method begin, and their width
GAP = 3
WIDE = {"WAIT": 46, "ANS": 36, "EOS": 36, "REV": 38}
NARROW, INDEX = 20, 26  # a number, and the name of a digit
ROOM = 380  # for the longest text; one that needs more is drawn narrower
CHARTS, CHART = (150, 618), 204  # left edges and width of the two charts
HIGH, LOW = 292, 396  # their top and bottom
DASHED = "6 4"
WRONG, WAIT = "vermilion", "green"
COLOURS = {"#D55E00": "vermilion", "#009E73": "green", "#0072B2": "blue"}
MEASURES = (("accuracy", "right"), ("wait", "say WAIT"))
REV = "REV (the token before a rewrite, which belongs in no text)"
VERBS = {"accuracy": "are right", "wait": "say WAIT"}


def wide(token: str) -> int:
    """Width of a tile where there is room."""
    return WIDE.get(token, INDEX if token.startswith("#") else NARROW)


def short_name(name: str) -> str:
    return METHOD_STYLES[name].name


def colour(name: str) -> str:
    """A method's colour by its name in the theme; two of one colour differ in their dash."""
    return COLOURS.get(METHOD_STYLES[name].colour, "purple")


def outcome(point: TrainPoint) -> str:
    """A student in words."""
    return (
        f"{percent(point.accuracy)} right, {percent(point.wait)} say WAIT, "
        f"{percent(point.order_kept)} keep the first student's order"
    )


def curve_name(name: str) -> str:
    """A method's name beside its curve: of a long one what tells it from its neighbour."""
    whole = short_name(name)
    return re.split(", | scored ", whole)[-1] if len(whole) > 12 else whole


def fate(text: Text) -> str:
    """Why a text counts as right or wrong, in the order of its tokens."""
    if text.right:
        return "right"
    found = [(at, f"token {at + 1} is WAIT, though nothing is wrong") for at in text.idle]
    if text.first_error is not None:
        wrong = text.tokens[text.first_error]
        found.append((text.first_error, f"token {text.first_error + 1}, the {wrong}, is wrong"))
    if text.broken is not None:
        found.append((text.broken, reason(text)))
    return f"wrong: {', then '.join(said for _, said in sorted(found))}" if found else "wrong"


def reason(text: Text) -> str:
    """Why a text cannot be read on, in the words of the lesson."""
    if text.broken == len(text.tokens):
        return "it has no EOS: the room for a text is used up"
    said = re.sub(r"index (\d+) is visited", r"#\1 is taken", text.reason)
    return said.replace("REV where", f"{REV} where")


def wait_words(text: Text, place: int) -> str:
    """What stands before one WAIT of a text."""
    if place in text.idle:
        return "WAIT, though nothing is wrong before it: the teacher would not say it here."
    if text.broken is not None and place >= text.broken:
        return f"WAIT, in a text that could not be read any more: {reason(text)}."
    return "WAIT after an error, where the teacher says it too. What follows it was never taught."


class Picture:
    """All frames of one training, or of one that has come so far."""

    def __init__(self, result: TrainResult, *, live: bool = False, note: str = "") -> None:
        self.result, self.live, self.note = result, live, note
        self.runs = result.runs
        self.steps = [point.step for point in self.runs[0].points]

    def label(self, step: int) -> str:
        """Frames of a live training have labels of their own: it is another timeline."""
        return f"step {step}, here" if self.live else f"step {step}"

    def frames(self) -> tuple[Frame, ...]:
        return tuple(self.frame(look) for look in range(len(self.steps)))

    def frame(self, look: int) -> Frame:
        marks = list(self.ground)
        for panel, run in zip(PANELS, self.runs, strict=False):
            marks += self._panel(panel, run, look)
        marks += self._charts(look)
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
            label=self.label(self.steps[look]),
            sentence=self.sentence(look),
            readouts=self.readouts(look),
        )

    def sentence(self, look: int) -> str:
        step = self.steps[look]
        if step == 0:
            start = self.runs[0].points[0]
            ten = sum(
                read(text, digits).right
                for text, digits in zip(self.runs[0].texts[0], self.result.problems, strict=True)
            )
            return (
                f"Before training both sides hold the same student. Of its "
                f"{self.result.params.n_test * 4} test texts {outcome(start)}. Ten of them stand "
                f"here, of which {ten} are right."
            )
        ends = "; ".join(
            f"{short_name(run.name)}: {outcome(run.points[look])}" for run in self.runs
        )
        strange = any("REV" in text.split() for run in self.runs for text in run.texts[look])
        return f"After {step} steps. {ends}.{f' There is a {REV}.' if strange else ''}"

    def readouts(self, look: int) -> tuple[Readout, ...]:
        first = self.runs[0]
        right = [
            Readout(f"right, {short_name(run.name)}", percent(run.points[look].accuracy))
            for run in self.runs
        ]
        wait = Readout(f"say WAIT, {short_name(first.name)}", percent(first.points[look].wait))
        return (*right, wait)

    # ------------------------------------------------------------------------------- what stays

    @cached_property
    def ground(self) -> tuple[Mark, ...]:
        """Problems, names, axes."""
        marks: list[Mark] = [
            Words(key="modulus", text="sum modulo 7", x=4, y=20, fill="faint", size=13)
        ]
        for row, digits in enumerate(self.result.problems):
            marks.append(
                Words(
                    key=f"problem:{row}",
                    text=f"{'+'.join(map(str, digits))} ≡ {sum(digits) % 7}",
                    x=4,
                    y=self._y(row) + 15,
                    size=13,
                    link=f"text:{row}",
                    words=f"Add the digits: #0 is {digits[0]}, #1 is {digits[1]}, #2 is "
                    f"{digits[2]}, #3 is {digits[3]}. Right answer modulo 7: {sum(digits) % 7}.",
                )
            )
        for left, (_, name) in zip(CHARTS, MEASURES, strict=True):
            for share in (0, 0.5, 1):
                y = self._height(share)
                look = {"stroke": "faint", "width": 0.8, "opacity": 0.5}
                marks.append(
                    Line(key=f"grid:{name}:{share}", x=left, y=y, x2=left + CHART, y2=y, **look)
                )
                marks.append(
                    self._tick(f"at:{name}:{share}", percent(share), left - 6, y + 4, "end")
                )
            marks.append(self._tick(f"name:{name}", name, left - 40, HIGH - 12, "start", True))
            last = self.result.params.n_steps
            for step in (0, last // 2, last):
                text = "0 steps" if step == 0 else f"{step}"
                marks.append(
                    self._tick(f"step:{name}:{step}", text, self._x(left, step), LOW + 20, "middle")
                )
        if self.note:
            at = {"x": WIDTH - 6, "y": HIGH - 12, "anchor": "end", "size": 12}
            marks.append(Words(key="note", text=self.note, fill="faint", **at))
        return tuple(marks)

    @staticmethod
    def _tick(
        key: str, text: str, x: Number, y: Number, anchor: str, strong: bool = False
    ) -> Words:
        fill = "ink" if strong else "faint"
        return Words(key=key, text=text, x=x, y=y, anchor=anchor, fill=fill, size=12, bold=strong)

    @staticmethod
    def _y(row: int) -> int:
        return TOP + PITCH * row

    @staticmethod
    def _height(share: Number) -> Number:
        return LOW - (LOW - HIGH) * share

    def _x(self, left: Number, step: Number) -> Number:
        return left + CHART * step / self.result.params.n_steps

    # ------------------------------------------------------------------------------- texts

    def _panel(self, left: Number, run: TrainRun, look: int) -> list[Mark]:
        name = short_name(run.name)
        texts = [
            read(written, digits)
            for written, digits in zip(run.texts[look], self.result.problems, strict=True)
        ]
        right = sum(text.right for text in texts)
        marks: list[Mark] = [
            Words(key=f"{run.name}:name", text=name, x=left, y=20, fill=colour(run.name), bold=True,
                  size=15),
            Words(key=f"{run.name}:right", text=f"{right} of these {len(texts)} right",
                  x=left + PANEL - 4, y=20, anchor="end"),
        ]  # fmt: skip
        for row, text in enumerate(texts):
            marks += self._text(left, run.name, row, text)
        return marks

    @staticmethod
    @cached(cache=LRUCache(1024), lock=threading.Lock())
    def _text(left: Number, method: str, row: int, text: Text) -> tuple[Mark, ...]:
        """A text as it stands in its row; many stand there at several looks."""
        marks: list[Mark] = []
        x, y = left, Picture._y(row)
        seen: dict[str, int] = {}
        needed = sum(wide(token) + GAP for token in text.tokens)
        scale = min(1, ROOM / max(needed, 1))
        index = ""
        for place, token in enumerate(text.tokens):
            name = token
            if not token.startswith("#") and token.isdigit():
                name, index = f"{index}=", ""
            else:
                index = token
            seen[name] = seen.get(name, 0) + 1
            w = round(scale * (wide(token) + GAP) - GAP, 1)
            broken = text.broken is not None and place >= text.broken
            carried = text.first_error is not None and place > text.first_error
            fill, stroke = "page", "faint"
            if token == "WAIT":
                fill = stroke = WAIT
            elif place in (text.first_error, text.broken):
                fill = stroke = WRONG
            elif carried or broken:
                stroke = WRONG
            hint = {}
            if token == "WAIT":
                hint = {"link": f"text:{row}", "words": wait_words(text, place)}
            marks.append(
                Rectangle(
                    key=f"{method}:{row}:{name}:{seen[name]}",
                    x=round(x, 1),
                    y=y,
                    w=w,
                    h=TALL,
                    corner=3,
                    fill=fill,
                    stroke=stroke,
                    width=1,
                    label=token,
                    size=12 if scale > 0.9 else 10,
                    **hint,
                )
            )
            x += w + GAP
        if text.tokens[-1:] != ("EOS",):
            marks.append(
                Words(key=f"more:{method}:{row}", text="…", x=round(x + 2, 1), y=y + 14, fill=WRONG,
                      bold=True)
            )  # fmt: skip
        sign, look = ("✓", "ink") if text.right else ("✗", WRONG)
        marks.append(
            Words(
                key=f"{method}:{row}",
                text=sign,
                x=left + PANEL - 10,
                y=y + 16,
                anchor="middle",
                fill=look,
                bold=True,
                size=16,
                link=f"text:{row}",
                words=f"{short_name(method)} wrote {' '.join(text.tokens)}, {fate(text)}.",
            )
        )
        return tuple(marks)

    def arithmetic(self) -> dict[str, Arithmetic]:
        """What each problem comes to."""
        lines = {}
        for row, digits in enumerate(self.result.problems):
            total = sum(digits)
            text = f"{' + '.join(map(str, digits))} = {total} = 7 · {total // 7} + {total % 7}"
            tex = rf"{'+'.join(map(str, digits))} = {total} \equiv {total % 7} \pmod 7"
            lines[f"text:{row}"] = Arithmetic(text=text, tex=tex)
        return lines

    # ------------------------------------------------------------------------------- curves

    def _charts(self, look: int) -> list[Mark]:
        marks: list[Mark] = []
        for left, (measure, _) in zip(CHARTS, MEASURES, strict=True):
            ends, verb = [], VERBS[measure]
            for place, run in enumerate(self.runs):
                shares = [getattr(point, measure) for point in run.points]
                # What has not been trained yet lies folded at the end, so that frames blend.
                until = [min(i, look) for i in range(len(self.steps))]
                marks.append(
                    Path.through(
                        [self._x(left, self.steps[i]) for i in until],
                        [self._height(shares[i]) for i in until],
                        key=f"{run.name}:{measure}",
                        stroke=colour(run.name),
                        width=2.5,
                        dash="6 4"
                        if place and colour(run.name) == colour(self.runs[0].name)
                        else "",
                    )
                )
                ends.append((run.name, shares[look]))
            x = self._x(left, self.steps[look])
            heights = _apart([self._height(share) for _, share in ends])
            for (method, share), y in zip(ends, heights, strict=True):
                marks.append(
                    Circle(key=f"{method}:{measure}:end", x=x, y=self._height(share), r=4,
                           fill=colour(method))
                )  # fmt: skip
                marks.append(
                    Words(
                        key=f"{method}:{measure}:label",
                        text=f"{curve_name(method)} {percent(share)}",
                        x=x + 9,
                        y=y + 4.5,
                        fill=colour(method),
                        bold=True,
                        size=13,
                        words=f"{short_name(method)}: {percent(share)} {verb} after "
                        f"{self.steps[look]} steps.",
                    )
                )
        return marks


def _apart(heights: list[Number], least: Number = 16) -> list[Number]:
    """Heights of labels: in their order, never on each other, and above the axis."""
    placed = list(heights)
    order = sorted(range(len(placed)), key=placed.__getitem__)
    for above, below in itertools.pairwise(order):
        overlap = least - (placed[below] - placed[above])
        if overlap > 0:
            placed[above] -= overlap / 2
            placed[below] += overlap / 2
    lowest = max(placed, default=LOW)
    return [y - max(0, lowest - LOW) for y in placed]
