"""The hero of "Words fold into beads": a text, its beads, and the decoder's ruler.

Above stands the text, chunk by chunk, each over its own part of the raw ruler, which has one mark
per token. N marks fold into a bead; beads travel to the decoder's ruler, which has the same pitch,
so that shortening is length. Then the words come back as the decoder reads them from the beads. One
bead is open: for each of its tokens, the three likeliest readings. EXPAND lets the raw marks of one
chunk travel to the decoder's ruler too.
"""

import math
from functools import cached_property

from intuitive.lclm.smollm import WINDOW

from ..kit import Circle, Frame, Line, Mark, Path, Rectangle, Scene, Words
from .beads_columns import Columns
from .beads_layout import (
    BEAD_TALL,
    BEADS,
    CELLS,
    FRONT,
    GROUND,
    HEAD,
    LEFT,
    NAME,
    RAW_TALL,
    RIGHT,
    THREADS,
    WIDTH,
)
from .beads_open import OpenBead
from .beads_text import LETTER, Number, letters
from .beads_words import ASK, FOLD, READ, RETURN, TEXT, TRAVEL

TOGETHER = 16  # tokens whose marks are one path
WRITTEN = 6  # frames in which the answer is written
LOOKS = {"id": "purple", "opened": "purple", "start": "grey", "end": "grey", "question": "purple"}


class Picture(Columns, OpenBead):
    """All frames of one result."""

    def frames(self) -> tuple[Frame, ...]:
        stages = [TEXT, FOLD, TRAVEL]
        if self.found.reading is not None:
            stages += [READ, *[ASK] * bool(self.found.cut.question)]
            stages += [RETURN] * (self.found.expanded is not None)
        frames = [self._frame(stage) for stage in stages]
        n = len(self.found.answer)
        if n:
            parts = min(WRITTEN, n)
            ends = [round((i + 1) * n / parts) for i in range(parts)]
            frames += [self._frame("", end) for end in ends]
        return tuple(frames)

    def _frame(self, stage: str, written: int = 0) -> Frame:
        marks = [
            *self.ground,
            *self._words(stage),
            *self._cells(stage),
            *self._beads(stage),
            *self._ruler(stage, written),
            *self._open(stage),
            *self._answer(stage, written),
        ]
        return Frame(
            scene=Scene(width=WIDTH, height=self.height, marks=tuple(marks)),
            label=f"{written} of {len(self.found.answer)} written" if written else "",
            stage=stage,
            sentence=self.say.sentence(stage, written),
            readouts=self.say.readouts(stage, written),
        )

    # ------------------------------------------------------------------------------- what stays

    @cached_property
    def ground(self) -> tuple[Mark, ...]:
        """Columns, their names, borders of chunks and windows, and the names of the rows."""
        found, marks = self.found, []
        for chunk in range(self.n_columns):
            x = LEFT + self.column * chunk
            box = {"x": x + 1, "y": HEAD + 2, "w": self.column - 2, "corner": 3}
            own = {"link": f"chunk:{chunk}", "words": self.say.chunk(chunk)}
            own["click"] = {"expand": self.say.click_on(chunk)}
            lit = chunk == found.expanded
            look = {"stroke": "gold" if lit else "faint", "width": 1.6 if lit else 0.8}
            h = self.text_foot - HEAD - 2
            marks.append(Rectangle(key=f"box:{chunk}", h=h, fill="page", **box, **look, **own))
        for name, y, text in (
            ("raw", self.raw_y + RAW_TALL / 2, "raw"),
            ("beads", self.bead_y, "beads"),
            ("ruler", self.ruler_y + BEAD_TALL / 2, "decoder"),
        ):
            look = {"size": NAME, "fill": "faint", "anchor": "end"}
            marks.append(Words(key=f"row:{name}", x=LEFT - 4, y=y + 4, text=text, **look))
        end = self.raw_x(found.n_tokens)
        count = {"x": end + 7, "y": self.raw_y + RAW_TALL - 1, "size": NAME, "bold": True}
        if end + 70 < WIDTH:
            marks.append(Words(key="raw:count", text=f"{found.n_tokens} tokens", **count))
        axis = {"stroke": "faint", "width": 0.8, "layer": GROUND}
        y = self.ruler_y + BEAD_TALL + 1.5
        marks.append(Line(key="axis", x=LEFT, y=y, x2=RIGHT, y2=y, **axis))
        return (*marks, *self._borders())

    def _borders(self) -> list[Mark]:
        """Where the encoder begins anew: no attention crosses these lines."""
        found, marks = self.found, []
        ends = range(WINDOW, found.n_tokens, WINDOW)
        if found.expanded is not None:
            ends = [chunk.start for chunk in found.chunks[1:]]
        for end in (0, *ends, found.n_tokens):
            x = self.raw_x(end) - (0.5 if 0 < end < found.n_tokens else 0)
            line = {"x": x, "y": self.raw_y - 4, "x2": x, "y2": self.bead_y + 14}
            own = {"link": "window", "words": self.say.border()}
            look = {"stroke": "ink", "width": 1.3, "dash": "4 3", "layer": BEADS}
            marks.append(Line(key=f"border:{end}", **line, **look, **own))
        return marks

    # ------------------------------------------------------------------------------- the rulers

    def _cells(self, stage: str) -> list[Mark]:
        """One mark per token: on the raw ruler, in its bead, on the decoder's ruler."""
        place = 0 if stage == TEXT else 1 if stage == FOLD else 2
        return [*self._slots(stage), *self.cells_at[place]]

    @cached_property
    def cells_at(self) -> tuple[list[Mark], ...]:
        """On the raw ruler, in the beads, on the decoder's ruler.

        Marks of `TOGETHER` tokens are one path, whatever N is: it glides between all rulers.
        """
        w, r = round(self.wide, 1), self.r
        side, drawn = 1.3 * r, ([], [], [])
        for start in range(0, self.found.n_tokens, TOGETHER):
            tokens = range(start, min(start + TOGETHER, self.found.n_tokens))
            parts: tuple[list[str], ...] = ([], [], [])
            for token in tokens:
                bead = self.say.bead_of[token]
                x, end = self.bead_x(bead) - side / 2, self.ruler_x(self.at["bead", bead])
                spots = (
                    (self.raw_x(token), self.raw_y, w, RAW_TALL),
                    (x, self.bead_y - side / 2, round(side, 1), round(side, 1)),
                    (end, self.ruler_y, w, BEAD_TALL),
                )
                for part, (x, y, wide, tall) in zip(parts, spots, strict=True):
                    part.append(f"M{x:.1f},{y:.1f}h{wide}v{tall}h-{wide}z")
            for marks, part in zip(drawn, parts, strict=True):
                key = f"cells:{start}"
                marks.append(Path(key=key, d="".join(part), fill="blue", layer=CELLS))
        drawn[0].append(self._odd())
        return drawn

    def _odd(self) -> Mark:
        """Every other group on the raw ruler, paler."""
        d = "".join(
            f"M{self.raw_x(g.start):.1f},{self.raw_y:.1f}h{self.pitch * len(g):.1f}v{RAW_TALL}"
            f"h-{self.pitch * len(g):.1f}z"
            for g in self.found.groups[1::2]
        )
        return Path(key="odd", d=d, fill="page", opacity=0.55, layer=CELLS)

    def _slots(self, stage: str) -> list[Mark]:
        """What is left of the raw ruler where its marks have gone."""
        if stage == TEXT:
            return []
        box = {"x": LEFT, "y": self.raw_y + RAW_TALL - 2.5, "h": 2}
        w = self.raw_x(self.found.n_tokens) - LEFT
        return [Rectangle(key="slots", w=w, fill="grey", opacity=0.5, layer=GROUND, **box)]

    def _beads(self, stage: str) -> list[Mark]:
        if stage == TEXT:
            return self._windows()
        if stage == FOLD:
            return self._rings(read=False, full=True)
        read = stage not in (TRAVEL,)
        return [self.threads, *self._rings(read=read), *(self.pies if read else ())]

    def _windows(self) -> list[Mark]:
        """What lies between the borders, while there are no beads yet."""
        found, marks = self.found, []
        if found.expanded is not None:
            parts = list(found.chunks)
        else:
            size, n = WINDOW, found.n_tokens
            parts = [range(at, min(at + size, n)) for at in range(0, n, size)]
        for place, part in enumerate(parts):
            x = self.raw_x((part.start + part.stop) / 2)
            look = {"size": NAME, "fill": "faint", "anchor": "middle", "layer": FRONT}
            look |= {"stroke": "page", "width": 4}
            room = self.pitch * len(part)
            text = self.say.window(part, room)
            marks.append(Words(key=f"window:{place}", x=x, y=self.bead_y + 4, text=text, **look))
        return marks

    def _rings(self, *, read: bool, full: bool = False) -> list[Mark]:
        marks = []
        for bead in range(len(self.found.groups)):
            at = {"x": self.bead_x(bead), "y": self.bead_y, "r": self.r}
            lit = bead == self.found.opened
            look = {"stroke": "ink" if lit else "blue", "width": 2.4 if lit else 1.4}
            look["fill"] = "blue" if full else "page"
            own = {"link": f"bead:{bead}", "words": self.say.bead(bead, read=read), "layer": BEADS}
            own["click"] = {"token": self.found.groups[bead].start}
            marks.append(Circle(key=f"bead:{bead}", **at, **look, **own))
        return marks

    @cached_property
    def pies(self) -> list[Mark]:
        """In each bead: green what only it tells, black what needs no bead, then what is lost."""
        marks, r = [], max(self.r - 1.6, 1.5)
        for bead, group in enumerate(self.found.groups):
            told, guessed = self.say.shares(group)
            at = {"x": self.bead_x(bead), "y": self.bead_y, "layer": BEADS}
            whole = {"r": r, "fill": "vermilion"}
            marks.append(Circle(key=f"lost:{bead}", **at, **whole))
            marks.append(Path(key=f"also:{bead}", d=wedge(told + guessed, r), fill="ink", **at))
            marks.append(Path(key=f"kept:{bead}", d=wedge(told, r), fill="green", **at))
        return marks

    @cached_property
    def threads(self) -> Mark:
        """From every bead to its place on the decoder's ruler."""
        top, foot, lines = self.bead_y + self.r, self.ruler_y, []
        for bead in range(len(self.found.groups)):
            x = self.bead_x(bead)
            end = self.ruler_x(self.at["bead", bead]) + self.pitch / 2
            bend = (foot - top) * 0.6
            lines.append(
                f"M{x:.1f},{top:.1f}C{x:.1f},{top + bend:.1f} {end:.1f},{foot - bend:.1f} "
                f"{end:.1f},{foot:.1f}"
            )
        look = {"stroke": "blue", "width": 0.9, "opacity": 0.4, "layer": THREADS}
        return Path(key="threads", d="".join(lines), **look)

    def _ruler(self, stage: str, written: int) -> list[Mark]:
        """Tags, numbers, words that came back, the question and the answer on the ruler."""
        if stage in (TEXT, FOLD):
            return []
        asked, back = stage in (ASK, RETURN, ""), stage in (RETURN, "")
        found, end = self.found, 0
        marks: list[Mark] = []
        for position, cell in enumerate(found.cells):
            if (cell.kind == "raw" and not back) or (cell.kind == "question" and not asked):
                continue
            if cell.kind in LOOKS:
                fill = LOOKS[cell.kind]
                key = f"{cell.kind}:{position}"
                marks.append(self._cell(key, end, fill))
            end += 1
        if found.expanded is not None:
            marks.append(self._returned(back))
        for place in range(written):
            marks.append(self._cell(f"answer:{place}", end + place, "green"))
        count, _ = self.say.positions(stage, written)
        at = {"x": self.ruler_x(end + written) + 7, "y": self.ruler_y + BEAD_TALL - 3}
        look = {"size": 13, "bold": True, "fill": "blue", "layer": FRONT, "link": "count"}
        look |= {"stroke": "page", "width": 4}
        told = f"{count} positions" + " for the text" * (asked and bool(found.cut.question))
        marks.append(Words(key="count", text=told, **at, **look))
        return [*marks, *self._ruler_names(stage)]

    def _cell(self, key: str, position: Number, fill: str) -> Mark:
        at = {"x": self.ruler_x(position), "y": self.ruler_y, "h": BEAD_TALL}
        return Rectangle(key=key, w=self.wide, fill=fill, layer=CELLS, **at)

    def _returned(self, back: bool) -> Mark:
        """The raw marks of the chunk that is asked for: on the raw ruler, then on the decoder's."""
        w, parts = round(self.wide, 1), []
        for token in self.found.chunks[self.found.expanded]:
            x, y, tall = self.raw_x(token), self.raw_y, RAW_TALL
            if back:
                x, y, tall = self.ruler_x(self.at["raw", token]), self.ruler_y, BEAD_TALL
            parts.append(f"M{x:.1f},{y:.1f}h{w}v{tall}h-{w}z")
        shown = {"opacity": 1.0 if back else 0.0, "layer": FRONT}
        return Path(key="back", d="".join(parts), fill="gold", **shown)

    def _ruler_names(self, stage: str) -> list[Mark]:
        """Below the ruler: numbers of chunks, the words that came back, the question."""
        found, y = self.found, self.ruler_y + BEAD_TALL + 14
        marks, look = [], {"size": NAME, "layer": FRONT}
        if found.expanded is not None:
            for chunk in range(self.n_columns):
                x = self.ruler_x(self.at["id", chunk])
                lit = chunk == found.expanded and stage in (RETURN, "")
                own = {"fill": "gold" if lit else "purple", "bold": lit}
                text = f"[{chunk + 1}]"
                marks.append(Words(key=f"id:name:{chunk}", x=x, y=y, text=text, **own, **look))
            if stage in (RETURN, ""):
                first = self.at["raw", found.chunks[found.expanded].start]
                x = self.ruler_x(first + len(found.chunks[found.expanded]) / 2)
                text = f"raw words of chunk {found.expanded + 1}"
                own = {"anchor": "middle", "fill": "gold", "bold": True}
                marks.append(Words(key="back:name", x=x, y=y, text=text, **own, **look))
        else:
            own = {"fill": "faint"}
            if stage in (TRAVEL, READ):
                text = self.say.tags()
                marks.append(Words(key="tags:name", x=LEFT, y=y, text=text, **own, **look))
        if found.cut.question and stage in (ASK, RETURN, ""):
            n_raw = self.say.n_back * (stage == ASK)
            x = self.ruler_x(self.at["question", 0] - n_raw)
            own = {"fill": "purple", "bold": True}
            marks.append(Words(key="asks", x=x, y=y, text="question", **own, **look))
        return marks

    # ------------------------------------------------------------------------------- the answer

    def _answer(self, stage: str, written: int) -> list[Mark]:
        if stage not in (ASK, RETURN, ""):
            return []
        question = self.say.question()
        look = {"mono": True, "size": 13, "layer": FRONT, "y": self.answer_y}
        marks: list[Mark] = [
            Words(key="question", x=LEFT, text=question, fill="purple", bold=True, **look)
        ]
        x = LEFT + LETTER * 13 * (letters(question) + 1)
        for text, fill in self.say.answer(written):
            key = f"said:{len(marks)}"
            marks.append(Words(key=key, x=x, text=text, fill=fill, bold=True, **look))
            x += LETTER * 13 * letters(text)
        return marks


def wedge(share: Number, r: Number) -> str:
    """A path around a share of a disc, clockwise from its top."""
    half = [2 * math.pi * share * part for part in (0.5, 1.0)]
    ends = [f"{r * math.sin(a):.2f},{-r * math.cos(a):.2f}" for a in half]
    arcs = "".join(f"A{r:.2f},{r:.2f} 0 0 1 {end}" for end in ends)
    return f"M0,0L0,{-r:.2f}{arcs}Z"
