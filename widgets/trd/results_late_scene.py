"""The hero of "Who knows the plan?": a text that meets or misses its target, and three teachers.

Above, the problem with its target and the text, token by token; below, what a teacher offers in the
place of the plan, by what it has seen; at the end, what the methods that ask it so came to.
"""

from functools import cached_property

from intuitive.trd.experiments.results_late import Late
from intuitive.trd.results import MethodRow

from ..kit import (
    Arithmetic,
    Arrow,
    Frame,
    Line,
    Mark,
    Readout,
    Rectangle,
    Scene,
    Timeline,
    Words,
    fixed,
    percent,
)
from .results_figures import thousands
from .styles import METHOD_STYLES

Number = int | float

WIDTH, HEIGHT = 1000, 406
LEFT, PITCH, WIDE, TALL = 24, 48, 42, 32
DIGITS, ROAD = 40, 96  # tops of the problem's and of the text's tiles
COLUMN, FIRST = 312, 24  # of the three teachers
FOOT, BAR = 292, 26  # of their bars
HIGH = 80
WRONG, RIGHT, SOUGHT = "vermilion", "green", "blue"
UNKNOWN = "?"
PACE_MS = 800
COLOURS = {"#D55E00": "vermilion", "#009E73": "green", "#0072B2": "blue"}
TEACHERS = (  # what it has seen, by the field of `Planned`, and who asks it so
    (
        "from_x",
        "x",
        "the problem alone",
        ("opd_forward", "opd_reverse", "trd_from_x", "sft_teacher"),
    ),
    ("from_text", "text", "the student’s text, to its end", ("trd", "sft_refined")),
    ("from_solution", "solution", "a solution", ("opsd_reverse",)),
)


NUMBERS = (("plan", 180), ("right", 230), ("tokens", 288))  # of a method: where they end


def colour(name: str) -> str:
    return COLOURS.get(METHOD_STYLES[name].colour, "purple")


class Picture:
    """All frames of one text and one row of the results."""

    def __init__(self, late: Late) -> None:
        self.late, self.planned, self.row = late, late.planned, late.results.row
        self.n_steps = len(self.planned.digits)
        self.good = self.planned.plan == self.planned.right_plan

    def timeline(self) -> Timeline:
        frames = [self._frame(n, "", -1) for n in self.walked]
        end = self.walked[-1]
        frames += [self._frame(end, what, k) for k, (_, what, _, _) in enumerate(TEACHERS)]
        frames.append(self._frame(end, "outcome", len(TEACHERS)))
        return Timeline(frames=tuple(frames), axis="token", start=0, pace_ms=PACE_MS)

    @cached_property
    def walked(self) -> tuple[int, ...]:
        """How many tokens stand in each frame of the walk."""
        steps = tuple(1 + 2 * step for step in range(self.n_steps + 1))
        return (0, *steps, len(self.planned.tokens))

    def _frame(self, n: int, stage: str, asked: int) -> Frame:
        labels = ["problem", "plan", *(f"step {k}" for k in range(1, self.n_steps + 1)), "target"]
        label = stage or labels[self.walked.index(n)]
        marks = [*self._problem(n), *self._road(n, asked), *self._teachers(asked)]
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
            label=label,
            sentence=self.sentence(n, stage),
            readouts=self.readouts(known=stage == "outcome"),
        )

    # ------------------------------------------------------------------------------- words

    def sentence(self, n: int, stage: str) -> str:
        one = self.planned
        if stage in ("x", "text", "solution"):
            field, seen = next((field, seen) for field, what, seen, _ in TEACHERS if what == stage)
            share = fixed(getattr(one, field)[one.right_plan])
            more = ""
            if stage == "text":
                off = abs(one.missed_by)
                shown = f"{'missed' if off else 'met'} its target{f' by {off}' if off else ''}"
                more = f": the text {shown}, which tells the plan"
            return f"A teacher that has seen {seen} gives the right plan {share}{more}."
        if stage == "outcome":
            return f"Recorded. {outcome(self.row)}."
        if n == 0:
            return (
                f"Add eight digits modulo 23, beginning from a plan, so as to end at the target "
                f"{one.target}. Before any work the plan is a guess."
            )
        if n == 1:
            return f"The student writes the plan {one.plan}. Nothing shows yet whether it is right."
        if n == len(one.tokens):
            off = one.missed_by
            if off == 0:
                return f"The last total is {one.totals[-1]}, the target {one.target}: met."
            return (
                f"The last total is {one.totals[-1]}, the target {one.target}: missed by "
                f"{abs(off)}. No addition was wrong; the plan was, sixteen tokens before."
            )
        step = (n - 1) // 2
        index = self.n_steps - step
        before, after, digit = one.totals[step - 1], one.totals[step], one.digits[index]
        return f"#{index} is {digit}: {before} + {digit} ≡ {after}. A right addition."

    def readouts(self, *, known: bool) -> tuple[Readout, ...]:
        row = self.row
        name = METHOD_STYLES[row.name].name
        return (
            Readout(f"right, {name}", percent(row.accuracy.estimate) if known else UNKNOWN),
            Readout("right plan", percent(row.plan_right or 0) if known else UNKNOWN),
            Readout("teacher tokens", thousands(row) if known else UNKNOWN),
        )

    # ------------------------------------------------------------------------------- the text

    @staticmethod
    def _x(place: Number) -> Number:
        return LEFT + PITCH * place

    def _problem(self, n: int) -> list[Mark]:
        """Each digit stands above the token that adds it, the target above the last total."""
        one, marks = self.planned, []
        marks.append(Words(key="problem", text="problem x", x=LEFT, y=18, size=13, fill="faint"))
        for index, digit in enumerate(one.digits):
            step = self.n_steps - index  # 1 for the first digit that is added
            now = n == 1 + 2 * step
            marks.append(
                Rectangle(
                    key=f"digit:{index}", x=self._x(2 * step - 1), y=DIGITS, w=WIDE + PITCH,
                    h=TALL - 4, corner=5, fill="page", stroke="ink" if now else "faint",
                    width=2 if now else 1, label=f"#{index}: {digit}", size=13,
                    link=f"step:{step}",
                )
            )  # fmt: skip
        x = self._x(2 * self.n_steps + 1)
        marks.append(
            Rectangle(
                key="target", x=x, y=DIGITS, w=2 * PITCH + WIDE, h=TALL - 4, corner=5,
                fill="page", stroke=SOUGHT, width=2.5, label=f"target: {one.target}", size=14,
                link="target", words=f"The target, shown in the problem: {one.target}. The last "
                "total has to meet it.",
            )
        )  # fmt: skip
        return marks

    def _road(self, n: int, asked: int) -> list[Mark]:
        one, marks = self.planned, []
        last = len(one.tokens)
        for place, token in enumerate(one.tokens):
            there = place < n
            stroke = fill = ""
            if place == 0 and n == last:  # what is known at the end
                stroke = fill = RIGHT if self.good else WRONG
            elif there and n == last and not self.good and place % 2 == 0:
                stroke = WRONG
            words, link = "", ""
            if there and place == 0:
                words, link = f"The plan as written: {token}.", "plan"
            elif there and place % 2 == 0 and place <= 2 * self.n_steps:
                link = f"step:{place // 2}"
                words = self.sentence(place + 1, "")
            marks.append(
                Rectangle(
                    key=f"token:{place}", x=self._x(place), y=ROAD, w=WIDE, h=TALL, corner=6,
                    fill=fill or "page", stroke=stroke or ("ink" if there else "faint"),
                    width=1.5 if there else 1, opacity=1 if there else 0.45,
                    label=token if there else "", size=14, link=link, words=words,
                )
            )  # fmt: skip
        marks.append(
            Words(key="plan's name", text="plan", x=self._x(0) + WIDE / 2, y=ROAD + TALL + 16,
                  anchor="middle", size=13, bold=True)
        )  # fmt: skip
        if n == last:
            place = 2 * self.n_steps  # the last total
            x = self._x(place) + WIDE / 2
            look = {"stroke": RIGHT if self.good else WRONG, "width": 2.5}
            marks.append(
                Line(
                    key="compared", x=x, y=ROAD, x2=self._x(place + 1), y2=DIGITS + TALL - 8, **look
                )
            )
            off = abs(one.missed_by)
            told = f"missed by {off}" if off else "target met"
            marks.append(
                Words(key="verdict", text=told, x=self._x(place + 2), y=ROAD + TALL + 18,
                      anchor="middle", bold=True, size=15, fill=look["stroke"])
            )  # fmt: skip
            if off:
                y = ROAD + TALL + 26
                marks.append(
                    Arrow(key="back", x=self._x(place - 1), y=y, x2=self._x(1) + 20, y2=y,
                          stroke=WRONG, dash="5 4", width=1.5)
                )  # fmt: skip
                marks.append(
                    Words(key="back's name", text="all additions right: the plan was wrong",
                          x=self._x(self.n_steps), y=y - 7, anchor="middle", size=13, fill=WRONG)
                )  # fmt: skip
        if asked >= 0:
            marks.append(
                Rectangle(key="asked", x=self._x(0) - 5, y=ROAD - 5, w=WIDE + 10, h=TALL + 10,
                          corner=9, stroke=SOUGHT, width=2.5)
            )  # fmt: skip
        return marks

    # ------------------------------------------------------------------------------- the teachers

    def _teachers(self, asked: int) -> list[Mark]:
        marks: list[Mark] = []
        for k, (field, what, seen, methods) in enumerate(TEACHERS):
            left = FIRST + COLUMN * k
            shown = asked >= k
            look = {"opacity": 1 if shown else 0.3}
            marks.append(
                Words(key=f"seen:{what}", text=f"saw {seen}", x=left, y=FOOT - HIGH - 24, size=14,
                      bold=asked == k, **look)
            )  # fmt: skip
            offered = getattr(self.planned, field)
            for plan, share in enumerate(offered):
                x = left + (BAR + 4) * plan
                right, written = plan == self.planned.right_plan, plan == self.planned.plan
                fill = RIGHT if right else WRONG if written else "grey"
                tall = max(HIGH * share, 1) if shown else 1
                known = shown and fill != "grey"
                words = f"Having seen {seen}, it gives the plan {plan} {fixed(share)}."
                marks.append(
                    Rectangle(
                        key=f"bar:{what}:{plan}", x=x, y=FOOT - tall, w=BAR, h=tall,
                        fill=fill if shown else "grey", opacity=1 if shown else 0.3,
                        link=f"{what}:{plan}" if shown else "", words=words if shown else "",
                    )
                )  # fmt: skip
                marks.append(
                    Words(key=f"plan:{what}:{plan}", text=f"{plan}", x=x + BAR / 2, y=FOOT + 15,
                          anchor="middle", size=12, fill=fill if known else "faint", bold=known)
                )  # fmt: skip
                if right and shown:
                    marks.append(
                        Words(key=f"share:{what}", text=fixed(share), x=x + BAR / 2,
                              y=FOOT - tall - 5, anchor="middle", size=13, bold=True, fill=RIGHT)
                    )  # fmt: skip
            if asked == len(TEACHERS):
                marks += self._outcomes(left, methods)
        return marks

    def _outcomes(self, left: Number, names: tuple[str, ...]) -> list[Mark]:
        """A line for each method; of the one that is followed another one, drawn once."""
        beside = self.late.results.beside
        lines = []
        for name in names:
            of = {row.rounds: row for row in beside if row.name == name}
            if (row := of.get(self.row.rounds)) is None:
                continue
            lines.append((f"outcome:{name}", short_name(name), row))
            if name == self.row.name and row.rounds > 1 and 1 in of:
                lines.append((f"once:{name}", "  drawn once", of[1]))
        if not lines:
            return []
        marks: list[Mark] = [
            Words(key=f"column:{names[0]}:{told}", text=told, x=left + x, y=FOOT + 38,
                  anchor="end", size=12, fill="faint")
            for told, x in NUMBERS
        ]  # fmt: skip
        for place, (key, text, row) in enumerate(lines):
            strong = key == f"outcome:{self.row.name}"
            look = {
                "y": FOOT + 55 + 18 * place, "size": 13, "bold": strong, "fill": colour(row.name),
                "opacity": 1 if strong else 0.8,
            }  # fmt: skip
            told = (share(row.plan_right or 0), share(row.accuracy.estimate), thousands(row))
            marks.append(
                Words(key=key, text=text, x=left, link=row.name, words=f"{outcome(row)}.", **look)
            )
            marks += [
                Words(key=f"{key}:{column}", text=number, x=left + x, anchor="end", **look)
                for (column, x), number in zip(NUMBERS, told, strict=True)
            ]
        return marks

    def arithmetic(self) -> dict[str, Arithmetic]:
        one = self.planned
        lines = {}
        for step in range(1, self.n_steps + 1):
            before, after = one.totals[step - 1 : step + 1]
            digit = one.digits[self.n_steps - step]
            lines[f"step:{step}"] = Arithmetic(
                text=f"{before} + {digit} = {before + digit} ≡ {after} (mod 23)",
                tex=rf"{before} + {digit} = {before + digit} \equiv {after} \pmod{{23}}",
            )
        total = sum(one.digits)
        plan = (one.target - total) % 23
        lines["target"] = lines["plan"] = Arithmetic(
            text=f"right plan = target − digits = {one.target} − {total} ≡ {plan} (mod 23)",
            tex=rf"{one.target} - {total} \equiv {plan} \pmod{{23}}",
        )
        return lines


def short_name(name: str) -> str:
    """A method's name where there is little room."""
    return METHOD_STYLES[name].name.replace(" scored", "")


def share(value: Number) -> str:
    """`percent`, short."""
    return percent(value).replace("over ", ">").replace("under ", "<")


def outcome(row: MethodRow) -> str:
    """A method's students in words."""
    name = METHOD_STYLES[row.name].name
    drawn = "drawn once" if row.rounds == 1 else f"drawn anew {row.rounds} times"
    return (
        f"{name}, texts {drawn}: {percent(row.accuracy.estimate)} right, "
        f"{percent(row.plan_right or 0)} with the right plan, {percent(row.order_kept)} in the "
        f"first student's order, for {thousands(row)} teacher tokens"
    )
