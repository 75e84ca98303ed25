"""The hero of "Does a real model stop to repair?": a wrong solution as SmolLM2 reads it.

Line by line; above every token how surprising the model finds it, before every line a sign with the
mass that the model puts on words that begin a repair, to the scale of a teacher that was taught to.
"""

import itertools
import math

from intuitive.trd.experiments.real_text import Read
from intuitive.trd.real_text import KeptItem, RealText, Trajectory

from ..kit import (
    Arithmetic,
    Frame,
    Line,
    Mark,
    Readout,
    Rectangle,
    Scene,
    Timeline,
    Words,
    fixed,
    number,
    percent,
)

Number = int | float

WIDTH, HEIGHT = 1000, 404
TEXT, ROOM = 236, 520  # where the tokens of a line begin, and what they may take
TOP, PITCH, TALL = 108, 60, 25
SCALE = 150 / 0.3  # pixels for a probability: the taught teacher's sign fills its box
TAUGHT = 0.3  # λ of the lesson's teachers
NATS = 2.4  # pixels for a nat of surprise
HIGHEST = 12.0  # nats that are drawn
SIDE = 782  # where the means stand
WRONG, RIGHT, MODEL = "vermilion", "green", "purple"
PACE_MS = 1300
SHOWN = {"\n": "⏎", " ": "␣"}


def shown(token: str) -> str:
    """A token as it stands on its tile."""
    return SHOWN.get(token, token.strip() or "␣")


def wrong_places(kept: KeptItem) -> tuple[int, ...]:
    """Tokens of the wrong solution that differ from the right one in the line of the error."""
    line = kept.item.error_line
    wrong, right = (
        [place for place, at in enumerate(one.lines) if at == line]
        for one in (kept.wrong, kept.right)
    )
    pairs = itertools.zip_longest(wrong, right)
    return tuple(
        at
        for at, other in pairs
        if at is not None and (other is None or kept.wrong.tokens[at] != kept.right.tokens[other])
    )


def number_at(kept: KeptItem, which: str) -> tuple[str, float]:
    """The number that the line of the error comes to, and its surprise in nats.

    Args:
        kept: an item with both solutions.
        which: "right" or "wrong", the solution that is read. Up to this number they are one text.
    """
    solution: Trajectory = getattr(kept, which)
    places = [at for at, line in enumerate(solution.lines) if line == kept.item.error_line]
    tokens = [solution.tokens[at] for at in places]
    start = max((i + 1 for i, token in enumerate(tokens) if "=" in token), default=0)
    digits = [i for i in range(start, len(tokens)) if tokens[i].strip().isdigit()]
    number = "".join(tokens[i].strip() for i in digits)
    return number, sum(solution.nll[places[i]] for i in digits)


def signs(solution: Trajectory) -> list[float]:
    """Mass on repair words where each line begins."""
    return [mass for mass, first in zip(solution.onset_mass, solution.first, strict=True) if first]


class Picture:
    """All frames of one item, and the means in the last."""

    def __init__(self, read: Read) -> None:
        self.read, self.found, self.kept = read, read.found, read.kept
        self.wrong, self.right = read.kept.wrong, read.kept.right
        self.error = read.kept.item.error_line
        self.places = wrong_places(read.kept)
        self.n_lines = len(read.kept.item.wrong)
        self.signs = signs(self.wrong), signs(self.right)
        self.numbers = {which: number_at(read.kept, which) for which in ("wrong", "right")}
        self.rewrites = read.params.ending == "rewrite"

    def timeline(self) -> Timeline:
        frames = tuple(self._frame(n, n > self.n_lines) for n in range(self.n_lines + 2))
        return Timeline(frames=frames, axis="line", start=0, pace_ms=PACE_MS)

    def _frame(self, n: int, means: bool) -> Frame:
        marks = [*self._ground(), *self._means(means)]
        for line in range(self.n_lines):
            marks += self._line(line, line < n)
        labels = ["problem", *(f"line {i + 1}" for i in range(self.n_lines))]
        labels.append(self.read.params.ending)
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
            label=labels[n],
            sentence=self.sentence(n),
            readouts=self.readouts(n),
        )

    # ------------------------------------------------------------------------------- words

    def sentence(self, n: int) -> str:
        if n == 0:
            return "The problem. Next, SmolLM2 reads a solution with one wrong number."
        if n > self.n_lines:
            return rewrite_sentence(self.found) if self.rewrites else means_sentence(self.read)
        line = n - 1
        mass, beside = (sign[line] for sign in self.signs)
        if line < self.error:
            return f"Line {n} is right. Before it: {percent(mass, 2)} on repair words."
        if line == self.error:
            (written, nats), (due, beside) = (self.numbers[w] for w in ("wrong", "right"))
            compared = (
                "here it tells them apart"
                if nats > beside + 1
                else "here it would rather have the wrong one"
                if nats < beside - 1
                else "here it hardly tells them apart"
            )
            before = [at for at, own in enumerate(self.wrong.lines) if own < line]
            other = max(before, key=self.wrong.nll.__getitem__, default=None)
            more = (
                ""
                if other is None
                else f" Yet {shown(self.wrong.tokens[other])!r}, a right token before it, costs "
                f"{fixed(self.wrong.nll[other], 1)}."
            )
            return (
                f"Line {n} has the wrong number, {written}, at {fixed(nats, 1)} nats. The right "
                f"one, {due}, costs {fixed(beside, 1)} nats at the same place: {compared}.{more}"
            )
        return (
            f"Line {n} carries on from the error. Before it: {percent(mass, 2)} on repair words, "
            f"and {percent(beside, 2)} at the same place of the right solution."
        )

    def readouts(self, n: int) -> tuple[Readout, ...]:
        after = [line for line in range(self.error + 1, self.n_lines) if line < n]
        largest = percent(max(self.signs[0][line] for line in after), 2) if after else "?"
        seen = n > self.error
        both = {
            which: f"{fixed(nats, 1)} nats" if seen else "?"
            for which, (_, nats) in self.numbers.items()
        }
        return (
            Readout("repair words after the error, at most", largest, link="sign"),
            Readout("surprise, wrong number", both["wrong"], link="error"),
            Readout("right one at its place", both["right"], link="error"),
        )

    # ------------------------------------------------------------------------------- what stays

    def _ground(self) -> list[Mark]:
        problem = self.kept.item.problem
        rows = [problem]
        if len(problem) > 125:  # in two rows, parted at a sentence
            cut = problem.rfind(". ", 0, 110) + 2
            rows = [problem[:cut], problem[cut:]]
        marks: list[Mark] = [
            Words(key=f"problem:{row}", text=text, x=6, y=18 + 18 * row, size=14, bold=True)
            for row, text in enumerate(rows)
        ]
        marks += [
            Words(key="taught's name", text=f"a taught teacher: {percent(TAUGHT)}", x=6, y=64,
                  size=12, fill="faint"),
            Rectangle(key="taught", x=6, y=69, w=TAUGHT * SCALE, h=8, fill=RIGHT, opacity=0.45,
                      link="taught", words="To scale: the program of this lesson puts 30% on WAIT "
                      "at every line after an error."),
            Words(key="how", text="bars above the tokens: surprise, nats", x=TEXT, y=64, size=12,
                  fill="faint"),
        ]  # fmt: skip
        return marks

    def _line(self, line: int, read: bool) -> list[Mark]:
        y = TOP + PITCH * line
        marks: list[Mark] = []
        mass, beside = (sign[line] for sign in self.signs)
        text = f"repair words {percent(mass, 2)}" if read else "repair words ?"
        words = (
            f"Where line {line + 1} begins SmolLM2 puts {percent(mass, 3)} on Wait, However and "
            f"their like; {percent(beside, 3)} in the right solution."
        )
        marks += [
            Words(key=f"sign:{line}", text=text, x=6, y=y + 9, size=12, opacity=1 if read else 0.4,
                  bold=read and line > self.error, link="sign" if read else "",
                  words=words if read else ""),
            Rectangle(key=f"board:{line}", x=6, y=y + 13, w=TAUGHT * SCALE, h=8, stroke="faint",
                      width=0.8, opacity=0.7),
            Rectangle(key=f"mass:{line}", x=6, y=y + 13, w=mass * SCALE if read else 0, h=8,
                      fill=WRONG),
        ]  # fmt: skip
        places = [at for at, own in enumerate(self.wrong.lines) if own == line]
        widths = [14 + 7.2 * len(shown(self.wrong.tokens[at])) for at in places]
        scale = min(1, ROOM / (sum(widths) + 2 * len(widths)))
        x = float(TEXT)
        for at, width in zip(places, widths, strict=True):
            w = round(scale * width, 1)
            wrong = at in self.places
            nats = self.wrong.nll[at]
            token, likeliest = self.wrong.tokens[at], self.wrong.likeliest[at]
            expected = "as it expected" if token == likeliest else f"it expected {likeliest!r}"
            marks.append(
                Rectangle(
                    key=f"token:{at}", x=round(x, 1), y=y, w=w, h=TALL, corner=4,
                    fill=WRONG if wrong and read else "page",
                    stroke=WRONG if wrong and read else "ink" if read else "faint",
                    width=1, opacity=1 if read else 0.45, label=shown(token), size=12,
                    link=f"token:{at}" if read else "",
                    words=f"{token!r}: {fixed(nats)} nats of surprise; {expected}." if read else "",
                )
            )  # fmt: skip
            if wrong and read and at == self.places[-1]:
                (written, cost), (due, beside) = (self.numbers[w] for w in ("wrong", "right"))
                end = round(max(x + w, TEXT + 330), 1)
                marks += [
                    Words(key="error", text=f"wrong {written}: {fixed(cost, 1)} nats",
                          x=end - 176, y=y + TALL + 13, anchor="end", size=12, bold=True,
                          fill=WRONG, link="error"),
                    Words(key="due", text=f"right {due}: {fixed(beside, 1)} nats", x=end,
                          y=y + TALL + 13, anchor="end", size=12, bold=True, fill=RIGHT,
                          link="error"),
                ]  # fmt: skip
            tall = NATS * min(nats, HIGHEST) if read else 0
            marks.append(
                Rectangle(key=f"nats:{at}", x=round(x + 1, 1), y=y - 2 - tall, w=max(w - 2, 1),
                          h=round(tall, 1), fill=WRONG if wrong else MODEL, opacity=0.75)
            )  # fmt: skip
            x += w + 2 * scale
        return marks

    def _means(self, seen: bool) -> list[Mark]:
        """Two comparisons over many problems, in the last frame."""
        if not seen:
            return []
        kind = self.read.params.kind
        after = {
            name: sum(by[delay].mean * by[delay].n for delay in by if int(delay) >= 0)
            / sum(by[delay].n for delay in by if int(delay) >= 0)
            for name, by in self.found.onset_by_delay[kind].items()
        }
        n = self.found.onset_difference[kind].n
        which = "" if kind == "all" else f" {kind}"
        marks: list[Mark] = [
            Line(key="edge", x=SIDE - 14, y=92, x2=SIDE - 14, y2=HEIGHT - 10, stroke="faint"),
            Words(key="means", text=f"{n}{which} problems", x=SIDE, y=106, size=14, bold=True),
            Words(key="means:1", text="repair words after", x=SIDE, y=132, size=13),
            Words(key="means:2", text="line starts past the error", x=SIDE, y=148, size=13),
        ]
        for row, name in enumerate(("wrong", "right")):
            y = 160 + 30 * row
            fill = WRONG if name == "wrong" else RIGHT
            marks += [
                Rectangle(key=f"mean:{name}:board", x=SIDE, y=y, w=TAUGHT * SCALE, h=8,
                          stroke="faint", width=0.8),
                Rectangle(key=f"mean:{name}", x=SIDE, y=y, w=after[name] * SCALE, h=8, fill=fill),
                Words(key=f"mean:{name}:name", text=f"{percent(after[name], 2)} in {name} ones",
                      x=SIDE, y=y + 21, size=12, fill=fill),
            ]  # fmt: skip
        if not self.rewrites:
            return marks
        every = self.found.params.n_items
        marks += [
            Words(key="means:3", text="shown the wrong one,", x=SIDE, y=254, size=13),
            Words(key="means:4", text="asked to rewrite: nats", x=SIDE, y=270, size=13),
            Words(key="means:5", text=f"per token (all {every})", x=SIDE, y=286, size=13),
        ]
        for row, name in enumerate(("wrong", "right")):
            y = 298 + 30 * row
            fill = WRONG if name == "wrong" else RIGHT
            nats = self.found.surprise[f"{name}|refine"].mean
            marks += [
                Rectangle(key=f"rewrite:{name}", x=SIDE, y=y, w=400 * nats, h=8, fill=fill),
                Words(key=f"rewrite:{name}:name", text=f"{fixed(nats)} nats, the {name} one",
                      x=SIDE, y=y + 21, size=12, fill=fill),
            ]  # fmt: skip
        return marks

    def arithmetic(self) -> dict[str, Arithmetic]:
        """What a surprise is made of."""
        lines = {}
        for at, nats in enumerate(self.wrong.nll):
            p = math.exp(-nats)
            lines[f"token:{at}"] = Arithmetic(
                text=f"−ln p = −ln {number(p)} = {fixed(nats)} nats",
                tex=rf"-\ln p = -\ln {p:.3g} = {nats:.2f}" if p >= 1e-3 else "",
            )
        return lines


def rewrite_sentence(found: RealText) -> str:
    """Which solution a model prefers that was shown the wrong one and asked to rewrite it."""
    right, wrong = (found.surprise[f"{name}|refine"].mean for name in ("right", "wrong"))
    prefers = "copies the error rather than mend it" if wrong < right else "mends the error"
    return (
        f"Shown the wrong solution and asked to rewrite it: {fixed(wrong)} nats per token for the "
        f"wrong one, {fixed(right)} for the right one, over {found.params.n_items} problems. It "
        f"{prefers}."
    )


def means_sentence(read: Read) -> str:
    """What the problems of the chosen kind show together."""
    found, kind = read.found, read.params.kind
    difference = found.onset_difference[kind]
    which = "" if kind == "all" else f" {kind}"
    compared = (
        "larger than on right solutions"
        if difference.low > 0
        else "smaller than on right solutions"
        if difference.high < 0
        else "not told apart from that on right solutions"
    )
    span = f"{number(difference.low, 2)} to {number(difference.high, 2)}"
    return (
        f"Over {difference.n}{which} problems the mass on repair words after an error is "
        f"{compared} (difference {number(difference.mean, 2)}, {span})."
    )
