"""The hero of "Words fold into beads": a text, its beads, and the decoder's ruler.

Above stands the text, chunk by chunk, each over its own part of the raw ruler, which has one mark
per token. N marks fold into a bead; beads travel to the decoder's ruler, which has the same pitch,
so that shortening is length. Then the words come back as the decoder reads them from the beads. One
bead is open: for each of its tokens, the three likeliest readings. EXPAND lets the raw marks of one
chunk travel to the decoder's ruler too.
"""

import math
from functools import cached_property

from intuitive.lclm.experiments.beads import Beads
from intuitive.lclm.experiments.reading import CHUNK, N_NEW, TOP
from intuitive.lclm.smollm import WINDOW

from ..kit import Circle, Frame, Line, Mark, Path, Rectangle, Scene, Words, percent
from .beads_text import LETTER, MARGIN, SIZES, Number, Place, letters, shown, wrapped
from .beads_words import ASK, FOLD, READ, RETURN, TEXT, TRAVEL, Account

WIDTH, LEFT, RIGHT = 1000, 62, 990
HEAD = 16  # of the columns
RAW_TALL, BEAD_TALL = 11, 16  # of the marks of the two rulers
ROW = 15  # height of a row in the open bead
OPEN = 24 + (1 + TOP) * ROW  # height of the open bead
MOST_R, LEAST_R = 9.5, 2.6
NAME = 12.0  # size of names
TOGETHER = 16  # tokens whose marks are one path
WRITTEN = 6  # frames in which the answer is written
GROUND, TINT, CELLS, THREADS, BEADS, TEXTS, FRONT = range(7)  # layers
LOOKS = {"id": "purple", "opened": "purple", "start": "grey", "end": "grey", "question": "purple"}


class Picture:
    """All frames of one result."""

    def __init__(self, found: Beads) -> None:
        self.found, self.say = found, Account(found)
        self.n_columns = len(found.chunks)
        self.size = SIZES[self.n_columns]
        self.letter, self.line = LETTER * self.size, 1.24 * self.size
        self.column = (RIGHT - LEFT) / self.n_columns
        most = max(len(found.cells) + N_NEW, CHUNK * self.n_columns)
        self.pitch = (RIGHT - LEFT) / most
        room = int((self.column - 2 * MARGIN) / self.letter)
        self.true = self._set(found.words, room)
        self.read = self._set(self.say.readings, room)
        lines = 1 + max(place.line for place in (*self.true, *self.read))
        self.text_foot = HEAD + 8 + lines * self.line
        self.raw_y = self.text_foot + 8
        self.bead_y = self.raw_y + RAW_TALL + 24
        self.ruler_y = self.bead_y + 30
        self.open_y = self.ruler_y + BEAD_TALL + 34
        self.answer_y = self.open_y + OPEN + 20
        self.height = math.ceil(self.answer_y + 10)

    def _set(self, texts: tuple[str, ...], room: int) -> list[Place]:
        return [place for chunk in self.found.chunks for place in wrapped(texts, chunk, room)]

    # ------------------------------------------------------------------------------- places

    def raw_x(self, token: Number) -> Number:
        return LEFT + self.pitch * token

    def bead_x(self, bead: int) -> Number:
        group = self.found.groups[bead]
        return self.raw_x((group.start + group.stop) / 2)

    def ruler_x(self, position: Number) -> Number:
        return LEFT + self.pitch * position

    @cached_property
    def r(self) -> Number:
        """Radius of a bead: as large as fits between two."""
        widest = max(map(len, self.found.groups))
        return min(MOST_R, max(LEAST_R, 0.42 * widest * self.pitch))

    @cached_property
    def at(self) -> dict[tuple[str, int], int]:
        """(kind, number) of a cell → its position on the decoder's ruler."""
        places = enumerate(self.found.cells)
        return {(cell.kind, cell.at): place for place, cell in reversed(list(places))}

    # ------------------------------------------------------------------------------- frames

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
            marks.append(Words(key=f"row:{name}", x=LEFT - 8, y=y + 4, text=text, **look))
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

    # ------------------------------------------------------------------------------- the text

    def _words(self, stage: str) -> list[Mark]:
        """The text, then only its ghost, then what the decoder reads from the beads."""
        if stage == TEXT:
            return [*self.tints, *self._heads(stage), *self.text_words]
        if stage in (FOLD, TRAVEL):
            return [*self.ghosts, *self._heads(stage), *self.folded_words]
        return [*self._heads(stage), *self._read_words(returned=stage in (RETURN, ""))]

    def _xy(self, place: Place) -> dict[str, Number]:
        column = self.found.chunk_of(place.token)
        x = LEFT + self.column * column + MARGIN + self.letter * place.letter
        return {"x": x, "y": HEAD + 2 + self.line * (place.line + 0.95)}

    @cached_property
    def _look(self) -> dict[str, object]:
        return {"mono": True, "size": self.size, "layer": TEXTS}

    @cached_property
    def text_words(self) -> list[Mark]:
        return [
            Words(key=f"w:{p.token}", text=p.text, link=self._link(p), **self._xy(p), **self._look)
            for p in self.true
            if p.text
        ]

    def _link(self, place: Place) -> str:
        return f"bead:{self.say.bead_of[place.token]}"

    @cached_property
    def folded_words(self) -> list[Mark]:
        """The words where their bead is, out of sight."""
        marks = []
        for p in self.true:
            if p.text:
                at = {"x": self.bead_x(self.say.bead_of[p.token]), "y": self.bead_y + 4}
                key = f"w:{p.token}"
                marks.append(Words(key=key, text=p.text, opacity=0, **at, **self._look))
        return marks

    @cached_property
    def ghosts(self) -> list[Mark]:
        """The lines of the text, faint: what was there."""
        lines: dict[tuple[int, int], str] = {}
        for p in self.true:
            key = self.found.chunk_of(p.token), p.line
            lines[key] = lines.get(key, "").ljust(p.letter) + p.text
        return [
            Words(
                key=f"ghost:{chunk}:{line}",
                x=LEFT + self.column * chunk + MARGIN,
                y=HEAD + 2 + self.line * (line + 0.95),
                text=text,
                fill="faint",
                opacity=0.22,
                **self._look,
            )
            for (chunk, line), text in lines.items()
        ]

    @cached_property
    def tints(self) -> list[Mark]:
        """Behind the words, which of them become one bead: pale and paler by turns."""
        marks, lines = [], {}
        for p in self.true:
            spot = self._xy(p)
            key = self.say.bead_of[p.token], round(spot["y"], 1)
            first, _ = lines.get(key, (spot["x"], 0))
            lines[key] = min(first, spot["x"]), spot["x"] + self.letter * letters(p.text)
        for bead in range(len(self.found.groups)):
            mine = [(y, *ends) for (own, y), ends in lines.items() if own == bead]
            d = "".join(
                f"M{a - 2:.0f},{y - 0.8 * self.size:.1f}h{b - a + 4:.0f}v{self.line - 1.5:.1f}"
                f"h-{b - a + 4:.0f}z"
                for y, a, b in mine
            )
            look = {"fill": "blue", "opacity": (0.24, 0.08)[bead % 2], "layer": TINT}
            marks.append(Path(key=f"tint:{bead}", d=d, **look))
        return marks

    def _read_words(self, *, returned: bool) -> list[Mark]:
        key = returned and self.found.expanded is not None
        if key not in self._read_cache:
            self._read_cache[key] = self._drawn_reading(returned=key)
        return self._read_cache[key]

    @cached_property
    def _read_cache(self) -> dict[bool, list[Mark]]:
        return {}

    def _drawn_reading(self, *, returned: bool) -> list[Mark]:
        raw = self.found.chunks[self.found.expanded] if returned else range(0)
        places = [p for p in self.read if p.token not in raw]
        places += [p for p in self.true if p.token in raw]
        marks = []
        for p in sorted(places, key=lambda p: p.token):
            right = self.say.reads_right[p.token]
            fill = "gold" if p.token in raw else self.say.colour(p.token)
            words = self.say.returned(p.token) if p.token in raw else self.say.token(p.token)
            marks.append(
                Words(
                    key=f"w:{p.token}",
                    text=p.text or "·" * (not right),
                    fill=fill,
                    bold=not right and p.token not in raw,
                    link=self._link(p),
                    words=words,
                    **self._xy(p),
                    **self._look,
                )
            )
        return marks

    def _heads(self, stage: str) -> list[Mark]:
        """Names of the chunks; when the question was asked, how likely each number is."""
        marks, found = [], self.found
        asked = found.named is not None and stage in (ASK, RETURN, "")
        for chunk in range(self.n_columns):
            x = LEFT + self.column * chunk + 2
            text, look = self.say.head(chunk), {"fill": "faint"}
            if asked:
                share = float(found.named[chunk])
                text = f"[{chunk + 1}] {percent(share)}"
                look = {"fill": "purple", "bold": chunk == int(found.named.argmax())}
                room = self.column - 14 - 7.2 * len(text)
                bar = {"x": x + 7.2 * len(text) + 6, "y": HEAD - 10, "h": 9, "corner": 1}
                bar |= {"w": max(room * share, 0.5), "fill": "purple", "layer": TEXTS}
                marks.append(Rectangle(key=f"named:{chunk}", **bar))
            own = {"link": f"chunk:{chunk}", "layer": FRONT, "size": NAME}
            marks.append(Words(key=f"head:{chunk}", x=x, y=HEAD - 2, text=text, **look, **own))
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

    @property
    def wide(self) -> Number:
        """Width of a mark on a ruler."""
        return max(self.pitch - 0.7, 0.6)

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
        """In each bead: green what only it tells, grey what is guessed without it, red the rest."""
        marks, r = [], max(self.r - 1.6, 1.5)
        for bead, group in enumerate(self.found.groups):
            told, guessed = self.say.shares(group)
            at = {"x": self.bead_x(bead), "y": self.bead_y, "layer": BEADS}
            whole = {"r": r, "fill": "vermilion"}
            marks.append(Circle(key=f"lost:{bead}", **at, **whole))
            marks.append(Path(key=f"also:{bead}", d=wedge(told + guessed, r), fill="grey", **at))
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
        marks.append(Words(key="count", text=f"{count} positions", **at, **look))
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

    # ------------------------------------------------------------------------------- an open bead

    def _open(self, stage: str) -> list[Mark]:
        """The open bead: its tokens, how they become one vector, what is read from it."""
        read = stage not in (TEXT, FOLD, TRAVEL)
        x, y, w = LEFT, self.open_y, RIGHT - LEFT
        marks = [
            *self._stem(stage),
            Rectangle(
                key="open", x=x, y=y, w=w, h=OPEN, corner=4, stroke="ink", width=1, layer=TINT
            ),
            Words(
                key="open:name",
                x=x + 8,
                y=y + 14,
                text=self.say.opened(stage),
                size=NAME,
                layer=FRONT,
            ),
            *self._were(read=read),
        ]
        if read:
            return [*marks, *self.readings]
        return [*marks, *self._pooled(folded=stage != TEXT)]

    def _stem(self, stage: str) -> list[Mark]:
        """From the bead to its box; from its words, while they are still there."""
        x = self.bead_x(self.found.opened)
        top = self.raw_y + RAW_TALL if stage == TEXT else self.bead_y + self.r
        look = {"stroke": "ink", "width": 1.2, "dash": "2 3", "layer": THREADS}
        return [Line(key="stem", x=x, y=top, x2=x, y2=self.open_y, **look)]

    @cached_property
    def _slot(self) -> tuple[Number, Number, int]:
        """Width of a token's place in the box, size of its words, letters that fit."""
        group = self.found.groups[self.found.opened]
        pitch = min((RIGHT - LEFT - 8) / len(group), 150)
        size = 12 if pitch > 80 else 11
        return pitch, size, int((pitch - 8) / (LETTER * size))

    def _were(self, *, read: bool) -> list[Mark]:
        """The tokens of the open bead."""
        found, marks = self.found, []
        pitch, size, fits = self._slot
        for place, token in enumerate(found.groups[found.opened]):
            text = cut(shown(found.words[token]) or "·", fits)
            fill = self.say.colour(token) if read else "ink"
            at = {"x": LEFT + 8 + pitch * place, "y": self.open_y + 20 + ROW - 4}
            own = {"link": f"reading:{place}", "words": self.say.token(token, read=read)}
            look = {"fill": fill, "bold": True, "mono": True, "size": size, "layer": FRONT}
            marks.append(Words(key=f"was:{place}", text=text, **at, **own, **look))
        return marks

    def _pooled(self, *, folded: bool) -> list[Mark]:
        """The states of the tokens run together in one bead."""
        group = self.found.groups[self.found.opened]
        pitch, size, fits = self._slot
        top, foot = self.open_y + 20 + ROW + 2, self.open_y + OPEN - 14
        middle, lines = LEFT + 8 + pitch * len(group) / 2, []
        for place in range(len(group)):
            text = cut(shown(self.found.words[group[place]]) or "·", fits)
            x = LEFT + 8 + pitch * place + LETTER * size * letters(text) / 2
            end = (middle, foot - 9) if folded else (x, top)
            lines.append(f"M{x:.1f},{top:.1f}L{end[0]:.1f},{end[1]:.1f}")
        look = {"stroke": "blue", "width": 1.4, "layer": THREADS}
        look["opacity"] = 0.6 if folded else 0
        marks: list[Mark] = [Path(key="pooled", d="".join(lines), **look)]
        if not folded:
            at = {"x": LEFT + 8, "y": foot, "size": NAME, "fill": "faint", "layer": FRONT}
            marks.append(Words(key="pooled:asked", text="What will be left of them?", **at))
        else:
            bead = {"x": middle, "y": foot, "r": 9, "fill": "blue", "layer": BEADS}
            marks.append(Circle(key="pooled:bead", **bead))
            at = {"x": middle + 18, "y": foot + 4, "size": NAME, "layer": FRONT}
            marks.append(Words(key="pooled:name", text=self.say.mechanism(), **at))
        return marks

    @cached_property
    def readings(self) -> list[Mark]:
        """Below every token of the open bead, its three likeliest readings."""
        found, say, marks = self.found, self.say, []
        pitch, size, fits = self._slot
        look = {"mono": True, "size": size, "layer": FRONT}
        for place, token in enumerate(found.groups[found.opened]):
            x = LEFT + 6 + pitch * place
            for rank in range(TOP):
                top = self.open_y + 20 + ROW * (rank + 1)
                p = float(found.reading.top_probability[token, rank])
                hit = int(found.reading.top_ids[token, rank]) == found.ids[token]
                bar = {"x": x, "y": top + 1, "h": ROW - 2, "w": max((pitch - 6) * p, 0.5)}
                fill = "green" if hit else "vermilion" if rank == 0 else "grey"
                box = {"fill": fill, "opacity": 0.34, "corner": 1, "layer": TEXTS}
                marks.append(Rectangle(key=f"bar:{place}:{rank}", **bar, **box))
                text = cut(shown(found.reading.top_words[token][rank]) or "·", fits)
                if pitch > 100:
                    text = f"{cut(text, fits - 5).ljust(fits - 4)} {percent(p)}"
                at = {"x": x + 2, "y": top + ROW - 4}
                own = {"link": f"reading:{place}", "words": say.token(token, read=True)}
                marks.append(Words(key=f"top:{place}:{rank}", text=text, **at, **own, **look))
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


def cut(text: str, room: int) -> str:
    """A text, or its beginning where it is too long."""
    return text if letters(text) <= room else text[: max(room - 1, 1)] + "…"


def wedge(share: Number, r: Number) -> str:
    """A path around a share of a disc, clockwise from its top."""
    half = [2 * math.pi * share * part for part in (0.5, 1.0)]
    ends = [f"{r * math.sin(a):.2f},{-r * math.cos(a):.2f}" for a in half]
    arcs = "".join(f"A{r:.2f},{r:.2f} 0 0 1 {end}" for end in ends)
    return f"M0,0L0,{-r:.2f}{arcs}Z"
