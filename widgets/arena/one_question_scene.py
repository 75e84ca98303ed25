"""The hero of the arena: one text as a strip per method, green where it is kept, blue where it is
folded, with bars where the attention falls while the answer is said.

Who holds everything stands apart from those that are held to the same memory, and of these who
knows the question when it chooses from those who do not.
"""

import math
from itertools import groupby
from textwrap import shorten

from intuitive.arena.experiments.one_question import SHOWN, WHOLE, OneQuestion, Row
from intuitive.arena.memories import budget_of
from intuitive.arena.methods import YOURS, about
from intuitive.arena.words import blocks_and_index, finding, reason

from ..kit import Circle, Frame, Line, Mark, Readout, Rectangle, Scene, Words, percent
from .styles import ASKED, BEAD, KEPT, READ, RIGHT, WRONG, label

WIDTH = 1000
LEFT, END = 158, 590  # of the strips
SAID, MARK = 600, 724  # columns to their right, …
HOLDS, AWAY, READS = 842, 928, 992  # … and three that end there
TOP, PITCH, TALL = 106, 30, 9  # first strip, from one to the next, its height
APART = 24  # between the groups
BAR = 15  # height of a bar that has all of the attention
LEVELS = 5  # of green
PER_DOT = 2  # latents
LEAST = 0.004  # of the attention, to be drawn
QUOTED = 88  # signs of what is asked for, above the strips
SIGNS, WHY = 15, 72  # signs of an answer, and of why the reader's own takes no part
TEXT, SHORT = "text", "shortened"


class Picture:
    """All frames of one question."""

    def __init__(self, made: OneQuestion) -> None:
        self.made = made
        self.bins = -(-made.n // made.stretch)
        self.pitch = (END - LEFT) / (made.n / made.stretch)
        extra = any(row.method == YOURS for row in made.rows)
        self.height = TOP + PITCH * (len(SHOWN) + extra) + 2 * APART
        groups = [[m for m in SHOWN if m in WHOLE]]
        groups += [
            [m for m in SHOWN if m not in WHOLE and about(m).asked == when]
            for when in ("after", "before")
        ]
        groups[1] += [YOURS] * extra
        rows = {row.method: row for row in made.rows}
        self.places, self.tops, y = [], [], TOP  # of the rows; first strips of the groups
        for group in groups:
            self.tops.append(y)
            self.places += [(rows[m], y + PITCH * i) for i, m in enumerate(group) if m in rows]
            y += PITCH * len(group) + APART
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
                f" What is asked for stands in the dashed box: “{made.fact}”" if made.fact else ""
            )
            return f"Every method reads the same {made.n} tokens.{place}"
        if step == 0:
            budget = budget_of(made.n, made.ratio)
            return (
                f"Room for one entry in {made.ratio}: {budget} entries for {made.n} tokens. Green "
                f"is kept in its own words, faint where of {made.stretch} neighbours few tokens "
                "are, or in few layers and heads; blue is folded into latents."
            )
        if step < self.steps:
            return (
                f"Token {step} of the answer. Each method goes on from what it has said itself; "
                "bars are where its attention falls."
            )
        if len(made.rows) < len(SHOWN):
            return f"{len(made.rows)} of {len(SHOWN)} methods are there so far."
        if not made.answer:
            return "Every method has finished the sentence."
        return f"It was “{made.answer}”. {finding(made)}"

    def readouts(self, step: int) -> tuple[Readout, ...]:
        """The memory, and who of those held to it is right, once all have answered."""
        made, over = self.made, step >= self.steps
        taking = [row for row in made.same if row.right is not None]
        right = f"{sum(row.right is True for row in taking)} of {len(taking)}"
        return (
            Readout("room", f"{budget_of(made.n, made.ratio)} entries"),
            Readout("text", f"{made.n} tokens"),
            Readout("right, same memory", right if over and taking else "–"),
        )

    # ------------------------------------------------------------------------------- marks

    def _marks(self, step: int) -> list[Mark]:
        made = self.made
        fact = shorten(made.fact, QUOTED, placeholder="")
        quoted = f"… {fact} …" if fact else f"{made.opening[:QUOTED]} …"
        head = {"y": TOP - 26, "size": 13}
        group = {"x": 8, "size": 12, "bold": True}
        marks: list[Mark] = [
            Words(
                key="quoted",
                x=LEFT,
                y=20,
                text=quoted,
                size=13,
                bold=bool(fact),
                fill=ASKED if fact else "ink",
            ),
            Words(key="ask", x=LEFT, y=42, text=f"{made.ask} …", size=14, bold=True),
            Words(key="asked", x=8, y=42, text="Question", size=13),
            Words(key="whole", y=TOP - 26, text="hold everything", **group),
            *(
                Words(
                    key=key,
                    y=top - 22,
                    **group,
                    text=f"the same memory, 1/{made.ratio}, asked {when} shortening",
                )
                for key, when, top in zip(
                    ("after", "before"), ("after", "before"), self.tops[1:], strict=True
                )
            ),
            Words(key="says", x=SAID, text="says", **head),
            Words(key="holds", x=HOLDS, anchor="end", text="holds", **head),
            Words(key="away", x=AWAY, anchor="end", text="elsewhere", **head),
            Words(key="reads", x=READS, anchor="end", text="reads", **head),
            *self._legend(),
        ]
        msa = next((row for row in made.rows if row.method == "msa"), None)
        if msa and step >= 0:
            blocks, index = map(percent, blocks_and_index(msa))
            told = f"MSA reads {blocks} in blocks and its index keys, {index}"
            marks.append(Words(key="index", x=LEFT, y=TOP - 26, text=told, size=12))
        if made.place[0] >= 0:
            x, x2 = (LEFT + at / made.stretch * self.pitch for at in made.place)
            marks.append(
                Rectangle(
                    key="place", x=x - 2, y=TOP - 18, w=max(x2 - x, 3) + 4,
                    h=self.height - TOP + 14, stroke=ASKED, dash="3 3", corner=3,
                    words=f"What is asked for: {made.fact}",
                )
            )  # fmt: skip
        for row, y in self.places:
            marks += self._row(row, y, step)
        return marks

    def _legend(self) -> list[Mark]:
        """What the colours of the strips say."""
        y, box, marks = 63, 12, []
        x = float(LEFT)
        for shade in range(1, LEVELS + 1):
            marks.append(
                Rectangle(
                    key=f"key:kept:{shade}", x=x, y=y - 9, w=box, h=TALL, fill=KEPT,
                    opacity=_opacity(shade),
                )
            )  # fmt: skip
            x += box
        told = [("kept", "kept, a little to all", 0, ""), ("bead", "two latents", 176, BEAD)]
        told += [("held", "held, not read", 302, KEPT), ("read", "attention", 432, READ)]
        told += [("place", "asked for", 532, ASKED)] if self.made.place[0] >= 0 else []
        for key, text, at, colour in told:
            name = x + 8 + at
            marks.append(Words(key=f"key:{key}:name", x=name, y=y, text=text, size=12))
            mark = {"key": f"key:{key}", "x": name - 14}
            if key == "bead":
                marks.append(Circle(r=TALL / 2, y=y - 4, fill=colour, **{**mark, "x": name - 9}))
            elif key == "held":
                box = {**mark, "x": name - 18}
                marks.append(Rectangle(y=y - 9, w=13, h=TALL, stroke=colour, **box))
            elif key == "read":
                marks.append(Rectangle(y=y - 11, w=5, h=BAR - 3, fill=colour, **mark))
            elif key == "place":
                marks.append(Rectangle(y=y - 11, w=8, h=BAR - 3, stroke=colour, dash="3 3", **mark))
        return marks

    def _row(self, row: Row, y: int, step: int) -> list[Mark]:
        link = f"method:{row.method}"
        words = f"{label(row.method)} {about(row.method).does}."
        if row.absent or step >= self.steps:
            words = reason(row, self.made)
        marks: list[Mark] = [
            Rectangle(
                key=f"row:{row.method}", x=2, y=y - BAR + 1, w=WIDTH - 4, h=PITCH - 4, fill="page",
                corner=3, link=link, words=words, layer=-1,
            ),
            Words(
                key=f"name:{row.method}", x=8, y=y + 9, text=label(row.method), size=13,
                bold=row.method == "dense",
            ),
            Line(
                key=f"ground:{row.method}", x=LEFT, y=y + TALL + 2, x2=END, y2=y + TALL + 2,
                stroke="faint", width=1,
            ),
        ]  # fmt: skip
        if row.absent and step >= 0:
            why = "does not fit into this budget"
            if row.method == YOURS:
                why = shorten(row.absent, WHY, placeholder="…")
            text = f"takes no part: {why}"
            no = {"key": f"no:{row.method}", "x": LEFT + 6, "y": y + 8, "size": 12}
            return [*marks, Words(text=text, fill="grey", **no)]
        marks += self._strip(row, y, step)
        if step > 0:
            marks += self._reads(row, y, min(step, len(row.reads)) - 1)
            marks += self._said(row, y, step)
        if step >= 0:
            columns = (
                ("bytes", HOLDS, percent(row.resident)),
                ("away", AWAY, elsewhere(row)),
                ("each", READS, percent(row.read)),
            )
            for key, x, text in columns:
                told = {"key": f"{key}:{row.method}", "x": x, "y": y + 9, "anchor": "end"}
                marks.append(Words(text=text, size=12, **told))
        return marks

    def _strip(self, row: Row, y: int, step: int) -> list[Mark]:
        """Stretches of one shade side by side are one box; what one head holds is not blank.

        Of MSA, which holds all, the green is what it reads, in the mean of its answer's tokens.
        """
        shares, marks, at = row.kept, [], 0
        if row.method == "msa" and step >= 0:
            shares = row.opened if step else ()
            held = {"key": "held:msa", "x": LEFT, "y": y, "w": END - LEFT, "h": TALL}
            marks.append(Rectangle(stroke=KEPT, width=1, **held))
        shades = [math.ceil(share * LEVELS) for share in shares]
        if step < 0:
            shades = [LEVELS] * self.bins
        for shade, run in groupby(shades):
            n = len(list(run))
            x, w = LEFT + at * self.pitch, min(n * self.pitch, END - LEFT - at * self.pitch)
            if shade:
                marks.append(
                    Rectangle(
                        key=f"kept:{row.method}:{at}", x=x, y=y, w=w, h=TALL,
                        fill="grey" if step < 0 else KEPT,
                        opacity=0.35 if step < 0 else _opacity(shade),
                    )
                )  # fmt: skip
            elif row.beads:
                marks += self._beads(row, x, w, y)
            at += n
        return marks

    def _beads(self, row: Row, x: float, w: float, y: int) -> list[Mark]:
        """A disc for each two latents, as wide as their tokens."""
        pitch = PER_DOT * row.beads * self.pitch / self.made.stretch
        r = min(0.42 * pitch, TALL / 2)
        return [
            Circle(
                key=f"bead:{row.method}:{int(x)}:{i}", x=x + (i + 0.5) * pitch, y=y + TALL / 2,
                r=r, fill=BEAD,
            )
            for i in range(int(w / pitch + 0.01))
        ]  # fmt: skip

    def _reads(self, row: Row, y: int, step: int) -> list[Mark]:
        marks: list[Mark] = []
        for i, share in enumerate(row.reads[step] if row.reads else ()):
            if share >= LEAST:
                tall = max(1.5, BAR * min(1.0, share) ** 0.5)
                marks.append(
                    Rectangle(
                        key=f"read:{row.method}:{i}", x=LEFT + i * self.pitch + 0.5, y=y - 1 - tall,
                        w=max(self.pitch - 1, 1.5), h=tall, fill=READ,
                    )
                )  # fmt: skip
        return marks

    def _said(self, row: Row, y: int, step: int) -> list[Mark]:
        text = "".join(row.said[:step]).strip() or "…"
        text = text if len(text) <= SIGNS else f"{text[: SIGNS - 1]}…"
        marks: list[Mark] = [
            Words(key=f"said:{row.method}", x=SAID, y=y + 9, text=text, size=13, mono=True)
        ]
        if step >= self.steps and row.right is not None:
            marks.append(
                Words(
                    key=f"mark:{row.method}", x=MARK, y=y + 10, size=14, bold=True,
                    text="✓ right" if row.right else "✗ wrong",
                    fill=RIGHT if row.right else WRONG,
                )
            )  # fmt: skip
        return marks


def elsewhere(row: Row) -> str:
    """What lies in another, larger memory: a share of the dense cache, or the text's own words."""
    if row.method == "lclm_expand" and not row.absent:
        return "the text"
    return percent(row.elsewhere) if row.elsewhere else "–"


def _opacity(shade: int) -> float:
    """Of a green by which a stretch is held to so many of the LEVELS."""
    return 0.06 + 0.9 * shade / LEVELS
