"""The hero of recall against ratio: one text as beads would hold it, and all readers on one scale.

Top, the text as cells, each group of N over the bead that it becomes. Below, one column per reader,
raw text at the left, then rising N: a dot for each seed, which rises while it learns. The dashed
line is what can be right without knowing which value belongs to which key.
"""

from intuitive.lclm.experiments.recall import RecallResult, Scores, SeedCurve

from ..kit import Circle, Frame, Line, Mark, Readout, Rectangle, Scene, Words, percent
from .methods import ASKED, LATENT, RAW, RIGHT

Number = int | float

WIDTH, HEIGHT = 1000, 388
LEFT, RIGHT_END = 60, 976
STRIP, CELL_TALL = 26, 20  # top of the text
SHOWN = 64  # cells that fit
BEADS = 66
CEILING, FLOOR = 128, 332  # of accuracy 1 and 0
MOST_FRAMES = 13
READERS = {"raw": "raw text", "smeared": "raw, smeared"}


class Picture:
    """All moments of the training of one set of miniatures."""

    def __init__(self, result: RecallResult) -> None:
        self.result = result
        self.columns: tuple[Scores, ...] = (*result.controls, *result.points)
        self.pitch = (RIGHT_END - LEFT) / len(self.columns)
        self.cells = min(result.context, SHOWN)

    def steps(self) -> tuple[int, ...]:
        """Training steps that are shown, at most `MOST_FRAMES`."""
        every = sorted({step for one in self.columns for c in one.curves for step in c.steps})
        if len(every) <= MOST_FRAMES:
            return tuple(every)
        last = len(every) - 1
        return tuple(every[round(i * last / (MOST_FRAMES - 1))] for i in range(MOST_FRAMES))

    def frames(self) -> tuple[Frame, ...]:
        return tuple(
            Frame(
                scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(self._marks(step))),
                label=f"step {step}",
                sentence=self._sentence(step),
                readouts=self.readouts(step),
            )
            for step in self.steps()
        )

    def readouts(self, step: int) -> tuple[Readout, ...]:
        result = self.result
        raw = [one for one in result.controls if name_of(one) == READERS["raw"]]
        told = {f"beads of {result.chosen.ratio}": result.chosen}
        told |= {"raw text": raw[0]} if raw else {}
        found = [
            Readout(name, spread(at(one, step)), link=link_of(one)) for name, one in told.items()
        ]
        if result.guess is not None:
            found.append(Readout("a guess", percent(result.guess), link="guess"))
        return tuple(found)

    def _sentence(self, step: int) -> str:
        ended = [one for one in self.columns if last_step(one) < step]
        going = [one for one in self.columns if last_step(one) >= step]
        if not ended:
            return f"After {step} steps {self._clear(going, step)}."
        on = ", ".join(map(name_of, going))
        stops = sorted({last_step(one) for one in ended})
        when = str(stops[0]) if len(stops) == 1 else f"{stops[0]} to {stops[-1]}"
        return (
            f"Only {on} trained on, {step} steps now: {self._clear(going, step)}. The others "
            f"stopped at {when}: {self._clear(ended, step)}."
        )

    def _clear(self, columns: list[Scores], step: int) -> str:
        """Which of these readers are above the guess with every seed."""
        guess = self.result.guess or 0.0
        above = [name_of(one) for one in columns if min(at(one, step)) > guess + 0.15]
        if not above:
            return "nobody is clear of the dashed line with every seed"
        is_ = "is" if len(above) == 1 else "are"
        return f"{', '.join(above)} {is_} clear of the dashed line, every seed"

    # ------------------------------------------------------------------------------- marks

    def _marks(self, step: int) -> list[Mark]:
        return [*self._text(), *self._axis(), *self._columns(step)]

    def _text(self) -> list[Mark]:
        """The text in cells, and the beads of the chosen ratio."""
        result, chosen = self.result, self.result.chosen
        wide = (RIGHT_END - LEFT) / self.cells
        spacing = self.spacing
        more = f", the first {self.cells}" if self.cells < result.context else ""
        what = f"{result.params.n_records} records" if self._records else "no records"
        marks: list[Mark] = [
            Words(
                key="text",
                x=LEFT,
                y=STRIP - 9,
                text=f"A text of {result.context} tokens{more}, {what}; beads of {chosen.ratio}",
                bold=True,
                size=14,
            )
        ]
        for x, fill, told in (
            (RIGHT_END - 170, ASKED, "key"),
            (RIGHT_END - 110, RIGHT, "its value"),
        ):
            if spacing:
                at = {"key": f"legend:{told}", "y": STRIP - 19}
                marks.append(Rectangle(x=x, w=11, h=11, corner=2, fill=fill, **at))
                name = {"key": f"legend:text:{told}", "y": STRIP - 9}
                marks.append(Words(x=x + 16, text=told, size=13, **name))
        for i in range(self.cells):
            key, value = spacing and i % spacing == 0, spacing and i % spacing == 1
            role = "a key" if key else "its value" if value else "filler" if spacing else "a token"
            marks.append(
                Rectangle(
                    key=f"cell:{i}",
                    x=LEFT + i * wide + 1,
                    y=STRIP,
                    w=wide - 2,
                    h=CELL_TALL,
                    corner=2,
                    fill=ASKED if key else RIGHT if value else RAW,
                    opacity=1.0 if key or value or not spacing else 0.3,
                    words=f"Token {i + 1}: {role}.",
                )
            )
        for i in range(0, self.cells, chosen.ratio):
            span = min(chosen.ratio, self.cells - i)
            inside = sum(1 for j in range(i, i + span) if spacing and j % spacing == 0)
            middle = LEFT + (i + span / 2) * wide
            ends = {"y": STRIP + CELL_TALL + 5, "y2": STRIP + CELL_TALL + 5}
            told = f"; {inside} records begin in it" if spacing else ""
            marks += [
                Line(
                    key=f"group:{i}",
                    x=LEFT + i * wide + 2,
                    x2=LEFT + (i + span) * wide - 2,
                    stroke=LATENT,
                    width=2,
                    **ends,
                ),
                Circle(
                    key=f"bead:{i}",
                    x=middle,
                    y=BEADS,
                    r=min(0.4 * span * wide, 9),
                    fill=LATENT,
                    link=link_of(chosen),
                    words=f"One bead of {span} tokens{told}.",
                ),
            ]
        return marks

    @property
    def _records(self) -> bool:
        return self.result.params.task == "recall"

    @property
    def spacing(self) -> int:
        """Tokens from one record to the next; 0 where there are none."""
        return self.result.context // self.result.params.n_records if self._records else 0

    def packed(self, ratio: int) -> str:
        """What of the records a bead of so many tokens holds; empty where there are none."""
        if not self._records:
            return ""
        if ratio == 1:
            return "a key or a value"
        starts = range(0, self.result.context, ratio)
        held = [sum(j % self.spacing == 0 for j in range(i, i + ratio)) for i in starts]
        low, high = min(held), max(held)
        told = f"{high}" if low == high else f"{low} or {high}"
        return f"{told} record{'s' * (high > 1)}"

    def _axis(self) -> list[Mark]:
        result = self.result
        marks: list[Mark] = [
            Words(
                key="head",
                x=LEFT,
                y=CEILING - 22,
                text=f"Right {result.measure}, held-out texts; one dot per seed",
                bold=True,
                size=14,
            )
        ]
        for share in (0.0, 0.5, 1.0):
            y = height(share)
            marks += [
                Line(key=f"tick:{share}", x=LEFT, x2=RIGHT_END, y=y, y2=y, stroke="faint", width=1),
                Words(
                    key=f"tick:text:{share}",
                    x=LEFT - 8,
                    y=y + 4,
                    text=percent(share),
                    anchor="end",
                    size=12,
                ),
            ]
        if result.guess is not None:
            y = height(result.guess)
            why = "it knows which values occur, not whose" if self._records else "chance"
            marks += [
                Line(
                    key="guess",
                    link="guess",
                    x=LEFT,
                    x2=RIGHT_END,
                    y=y,
                    y2=y,
                    stroke="ink",
                    width=1.5,
                    dash="6 4",
                    words=f"A guess that needs no binding: {percent(result.guess, 1)}.",
                ),
                Words(
                    key="guess:text",
                    x=LEFT - 8,
                    y=y + 4,
                    text="guess",
                    anchor="end",
                    size=12,
                    bold=True,
                    link="guess",
                    words=f"A guess: {why}.",
                ),
            ]
        return marks

    def _columns(self, step: int) -> list[Mark]:
        marks: list[Mark] = []
        for i, one in enumerate(self.columns):
            x = LEFT + (i + 0.5) * self.pitch
            marks += self._column(one, x, step)
        return marks

    def _column(self, one: Scores, x: float, step: int) -> list[Mark]:
        mine = one is self.result.chosen
        beads = one.reader == "latents"
        link, name = link_of(one), name_of(one)
        click = {"ratio": one.ratio} if beads else None
        under = self.packed(one.ratio) if beads else ""
        values = at(one, step)
        marks: list[Mark] = [
            Rectangle(
                key=f"column:{link}",
                x=x - self.pitch / 2 + 6,
                y=CEILING - 8,
                w=self.pitch - 12,
                h=FLOOR - CEILING + 12,
                corner=4,
                fill=LATENT if mine else "faint",
                opacity=0.14 if mine else 0.25,
                link=link,
                click=click,
                layer=-2,
                words=f"{name}: {spread(values)} after {step} steps.",
            ),
            Words(
                key=f"name:{link}",
                x=x,
                y=FLOOR + 22,
                text=name,
                anchor="middle",
                size=14 if beads else 13,
                bold=mine,
                link=link,
                click=click,
            ),
            Words(key=f"under:{link}", x=x, y=FLOOR + 40, text=under, anchor="middle", size=12),
        ]
        for j, (seed, value) in enumerate(zip(one.seeds, values, strict=True)):
            marks.append(
                Circle(
                    key=f"dot:{link}:{seed}",
                    x=x + (j - (len(values) - 1) / 2) * 16,
                    y=height(value),
                    r=7 if mine else 6,
                    fill=LATENT if beads else RAW,
                    opacity=1.0 if mine or not beads else 0.5,
                    link=link,
                    words=f"{name}, seed {seed}: {percent(value, 1)}.",
                )
            )
        return marks


def height(share: Number) -> float:
    """Where an accuracy stands."""
    return FLOOR - (FLOOR - CEILING) * share


def at(one: Scores, step: int) -> tuple[float, ...]:
    """Accuracy of each seed when it had trained so far; the last one where it had ended."""
    return tuple(_reached(curve, step) for curve in one.curves)


def last_step(one: Scores) -> int:
    """When its last seed had ended."""
    return max(curve.steps[-1] for curve in one.curves)


def _reached(curve: SeedCurve, step: int) -> float:
    seen = [a for s, a in zip(curve.steps, curve.accuracy, strict=True) if s <= step]
    return seen[-1] if seen else curve.accuracy[0]


def spread(values: tuple[float, ...]) -> str:
    """Least and greatest, or one where they agree."""
    ends = [percent(end) for end in (min(values), max(values))]
    if {"over", "under"} & set(" ".join(ends).split()):
        ends = [
            percent(end, 1).replace("100.0", "100").replace("0.0%", "0%")
            for end in (min(values), max(values))
        ]
    return ends[0] if ends[0] == ends[1] else f"{ends[0].rstrip('%')}–{ends[1]}"


def name_of(one: Scores) -> str:
    """What a reader is called."""
    if one.reader == "latents":
        return f"N = {one.ratio}"
    return READERS[one.reader] + ", longer" * (one.budget == "plateau")


def link_of(one: Scores) -> str:
    """The thing that a reader's marks stand for."""
    return f"{one.reader}:{one.ratio}:{one.budget}"
