"""The hero of the arena: one text as a strip per method, green where it is kept, blue where it is
folded, with bars where the attention falls while the answer is said.
"""

from itertools import groupby
from textwrap import shorten

from intuitive.arena.experiments.one_question import SHOWN, OneQuestion, Row, reason, said
from intuitive.arena.methods import YOURS

from ..kit import Circle, Frame, Line, Mark, Readout, Rectangle, Scene, Words, percent
from .styles import ASKED, BEAD, KEPT, READ, RIGHT, WRONG, label

WIDTH = 1000
LEFT, END = 158, 700  # of the strips
SAID, MARK, HOLDS = 714, 864, 990  # columns to their right
TOP, PITCH, TALL = 92, 37, 9  # first strip, from one to the next, its height
BAR = 17  # height of a bar that has all of the attention
LEVELS = 4  # of green
LEAST = 0.004  # of the attention, to be drawn
QUOTED = 105  # signs of what is asked for, above the strips
TEXT, SHORT = "text", "shortened"


class Picture:
    """All frames of one question."""

    def __init__(self, made: OneQuestion) -> None:
        self.made = made
        self.bins = -(-made.n // made.stretch)
        self.pitch = (END - LEFT) / (made.n / made.stretch)
        extra = any(row.method == YOURS for row in made.rows)
        self.height = TOP + PITCH * (len(SHOWN) + extra)
        self.steps = max((len(row.reads) for row in made.rows), default=0)

    def frames(self) -> tuple[Frame, ...]:
        """The text, what is left of it, and the answers token by token."""
        names = [TEXT, SHORT, *map(str, range(1, self.steps + 1))]
        return tuple(
            Frame(
                scene=Scene(width=WIDTH, height=self.height, marks=tuple(self._marks(i - 1))),
                label=f"token {name}" if i > 1 else name,
                sentence=self._sentence(i - 1),
                readouts=self.readouts(i - 1),
            )
            for i, name in enumerate(names)
        )

    def _sentence(self, step: int) -> str:
        made = self.made
        if step < 0:
            place = (
                f" What is asked for stands at the purple mark: “{made.fact}”" if made.fact else ""
            )
            return f"Every method reads the same {made.n} tokens.{place}"
        if step == 0:
            return (
                f"Room for one entry in {made.ratio}: green is kept in its own words, blue is "
                "folded into latents."
            )
        if step < self.steps:
            return f"Token {step} of the answer: bars are where the attention falls."
        if len(made.rows) < len(SHOWN):
            return f"{len(made.rows)} of {len(SHOWN)} methods are there so far."
        if not made.answer:
            return "Every method has finished the sentence."
        right = ", ".join(label(row.method) for row in made.rows if row.right)
        wrong = ", ".join(label(row.method) for row in made.rows if row.right is False)
        return f"It was “{made.answer}”: {right or 'nobody'} right; {wrong or 'nobody'} wrong."

    def readouts(self, step: int) -> tuple[Readout, ...]:
        """The memory, and who is right once all have answered."""
        made, over = self.made, step >= self.steps
        taking = [row for row in made.rows if row.right is not None]
        right = f"{sum(row.right is True for row in taking)} of {len(taking)}"
        return (
            Readout("room", f"1 entry in {made.ratio}"),
            Readout("text", f"{made.n} tokens"),
            Readout("right", right if over and taking else "–"),
        )

    # ------------------------------------------------------------------------------- marks

    def _marks(self, step: int) -> list[Mark]:
        made = self.made
        quoted = f"… {made.fact[:QUOTED]} …" if made.fact else f"{made.opening[:90]} …"
        marks: list[Mark] = [
            Words(
                key="quoted", x=LEFT, y=20, text=quoted, size=13, fill=ASKED, bold=bool(made.fact)
            ),
            Words(key="ask", x=LEFT, y=42, text=f"{made.ask} …", size=14, bold=True),
            Words(key="asked", x=8, y=42, text="Question", size=13),
            Words(key="says", x=SAID, y=66, text="says", size=13),
            Words(key="holds", x=HOLDS, y=66, anchor="end", text="holds", size=13),
        ]
        if made.place[0] >= 0:
            x, x2 = (LEFT + at / made.stretch * self.pitch for at in made.place)
            marks.append(
                Rectangle(
                    key="place", x=x - 2, y=TOP - 24, w=max(x2 - x, 3) + 4,
                    h=PITCH * len(made.rows) + 4, stroke=ASKED, dash="3 3", corner=3,
                    words=f"What is asked for: {made.fact}",
                )
            )  # fmt: skip
        for i, row in enumerate(made.rows):
            marks += self._row(row, TOP + i * PITCH, step)
        return marks

    def _row(self, row: Row, y: int, step: int) -> list[Mark]:
        link = f"method:{row.method}"
        words = reason(row, self.made) if step >= self.steps else f"{label(row.method)}."
        marks: list[Mark] = [
            Words(
                key=f"name:{row.method}", x=8, y=y + 9, text=label(row.method), size=13,
                bold=row.method == "dense", link=link, words=words,
            ),
            Line(
                key=f"ground:{row.method}", x=LEFT, y=y + TALL + 2, x2=END, y2=y + TALL + 2,
                stroke="faint", width=1,
            ),
        ]  # fmt: skip
        if row.absent and step >= 0:
            why = "does not fit into this budget"
            if row.method == YOURS:
                why = shorten(row.absent, QUOTED - 30, placeholder="…")
            text = f"takes no part: {why}"
            no = Words(key=f"no:{row.method}", x=LEFT + 6, y=y + 8, text=text, size=12, fill="grey",
                       link=link, words=row.absent)  # fmt: skip
            return [*marks, no]
        marks += self._strip(row, y, step, link)
        if step > 0:
            marks += self._reads(row, y, min(step, len(row.reads)) - 1, link)
            marks += self._said(row, y, step, link)
        if step >= 0:
            marks.append(
                Words(
                    key=f"bytes:{row.method}", x=HOLDS, y=y + 9, anchor="end",
                    text=percent(row.resident), size=12, link=link,
                )
            )  # fmt: skip
        return marks

    def _strip(self, row: Row, y: int, step: int, link: str) -> list[Mark]:
        """Stretches of one shade side by side are one box."""
        shades = [round(share * LEVELS) for share in row.kept]
        if step < 0 or row.absent:
            shades = [LEVELS] * self.bins
        marks: list[Mark] = []
        at = 0
        for shade, run in groupby(shades):
            n = len(list(run))
            x, w = LEFT + at * self.pitch, min(n * self.pitch, END - LEFT - at * self.pitch)
            if shade:
                marks.append(
                    Rectangle(
                        key=f"kept:{row.method}:{at}", x=x, y=y, w=w, h=TALL,
                        fill="grey" if step < 0 else KEPT, opacity=0.2 + 0.75 * shade / LEVELS if
                        step >= 0 else 0.35, link=link,
                    )
                )  # fmt: skip
            elif row.beads:
                marks += self._beads(row, x, w, y, link)
            at += n
        return marks

    def _beads(self, row: Row, x: float, w: float, y: int, link: str) -> list[Mark]:
        """Discs as far apart as a latent has tokens: the more are folded, the fewer they are."""
        pitch = row.beads
        r = min(pitch / 2 - 0.6, TALL / 2)
        return [
            Circle(
                key=f"bead:{row.method}:{int(x)}:{i}", x=x + (i + 0.5) * pitch, y=y + TALL / 2,
                r=r, fill=BEAD, link=link,
            )
            for i in range(int(w // pitch))
        ]  # fmt: skip

    def _reads(self, row: Row, y: int, step: int, link: str) -> list[Mark]:
        marks: list[Mark] = []
        for i, share in enumerate(row.reads[step] if row.reads else ()):
            if share >= LEAST:
                tall = max(1.5, BAR * min(1.0, share) ** 0.5)
                marks.append(
                    Rectangle(
                        key=f"read:{row.method}:{i}", x=LEFT + i * self.pitch + 0.5, y=y - 1 - tall,
                        w=max(self.pitch - 1, 1.5), h=tall, fill=READ, link=link,
                    )
                )  # fmt: skip
        return marks

    def _said(self, row: Row, y: int, step: int, link: str) -> list[Mark]:
        text = "".join(row.said[:step]).strip() or "…"
        text = text if len(text) <= 18 else f"{text[:17]}…"
        over = step >= self.steps
        marks: list[Mark] = [
            Words(key=f"said:{row.method}", x=SAID, y=y + 9, text=text, size=13, mono=True,
                  link=link, words=f"{label(row.method)} says “{said(row)}”." if over else "")
        ]  # fmt: skip
        if over and row.right is not None:
            marks.append(
                Words(
                    key=f"mark:{row.method}", x=MARK, y=y + 10, size=14, bold=True, link=link,
                    text="✓ right" if row.right else "✗ wrong",
                    fill=RIGHT if row.right else WRONG,
                )
            )  # fmt: skip
        return marks
