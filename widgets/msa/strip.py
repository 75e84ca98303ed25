"""The text as one strip of blocks: a line for each, its words inside, bands of attention beside it.

`Strip` lays a text out: which blocks are shown, what is folded between them, where every token
stands. Its methods draw the parts that explorers share: lines and words, score bars, bands of
attention to scale, pipes of what is missed, and tags. One colour has one meaning in the lesson:
vermilion a score, blue what is read, green the local block, purple the query, gold the riddle.

A scene is `WIDTH` units wide and usually shown half as large again, so that its words stay apart
in narrow windows too. Words are set in a font of one width, because their places are computed here.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ..kit import Mark, Path, Rectangle, Words, percent

Number = int | float
Numbers = Sequence[Number] | np.ndarray

WIDTH = 640
TOP, BOTTOM = 14, 13  # room for headings and for the axis of scores
PITCH, FOLD = 12.6, 9.0  # height of a line, and of one that stands for folded blocks
LEFT, CELLS, CELL = 70, 79, 5.2  # where the text begins, its characters, the width of one
RIGHT = LEFT + CELLS * CELL
NUMBER = RIGHT + 18  # where a block's number ends
LANE, LANE_END = RIGHT + 26, RIGHT + 88
OUTCOME = LANE_END + 6
SIZE, SMALL = 8.6, 8.2  # of words and of names
FULL = 15.0  # width of a band of all the attention
THROUGH = 5.0  # a narrower band ends at its line: it would strike the words out
LEAST, LEAST_MISSED = 0.015, 0.01  # less has no band, or pipe, of its own
TALL = 10.2  # of the bar of the greatest score
FOLDED, GROUND, BANDS, BARS, TAGS, TEXT, VEIL, FRONT, HANDLE = range(9)  # layers


def share_text(share: Number) -> str:
    """A share in as few letters as a mark has room for."""
    return percent(share) if share >= 0.01 or share == 0 else "<1%"


def quoted(token: str) -> str:
    """A token as a sentence shows it; white space in words."""
    names = {" ": "a space", "\n": "a line break", "\t": "a tab", "": "part of a character"}
    text = token.strip()
    return f"“{text}”" if text else names.get(token, "white space")


@lru_cache(16_384)
def shown(token: str) -> str:
    """A token as the strip shows it: line breaks as arrows, nothing that cannot be seen."""
    text = "".join("↵" if c == "\n" else "→" if c == "\t" else c for c in token)
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Zs") else c for c in text)
    return text if cells(text) else ""


@lru_cache(16_384)
def cells(text: str) -> int:
    """How many columns of a font of one width a text takes."""
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


@dataclass(frozen=True)
class Word:
    """A token in its place."""

    token: int
    text: str
    x: Number
    w: Number


@dataclass(frozen=True)
class Row:
    """A line of the strip: one block, or a run of folded ones."""

    blocks: range
    y: Number
    words: tuple[Word, ...] = ()
    more: tuple[bool, bool] = (False, False)  # whether words before and after are left out

    @property
    def is_fold(self) -> bool:
        return not self.words

    @property
    def block(self) -> int:
        return self.blocks.start

    @property
    def middle(self) -> Number:
        return self.y + (FOLD if self.is_fold else PITCH - 1) / 2


def window(
    n_blocks: int, wanted: Sequence[Iterable[int]], *, room: Number, last: int
) -> list[range]:
    """Which blocks to show, so that they and the folds between them fit.

    Args:
        n_blocks: of the whole text.
        wanted: groups of blocks, the most important first, and so within a group.
        room: height for lines and folds.
        last: block of the query, always shown; what is left is filled with those before it, then
            after it.

    Returns:
        In order, a range of one block for each line, and of several for each fold.
    """

    def runs(blocks: set[int]) -> list[range]:
        found, at = [], 0
        for block in (*sorted(blocks), n_blocks):
            if block > at:
                found.append(range(at, block))
            if block < n_blocks:
                found.append(range(block, block + 1))
            at = block + 1
        return found

    def height(blocks: set[int]) -> Number:
        """A hole of one block is no fold: the block is shown."""
        return sum(PITCH if len(run) == 1 else FOLD for run in runs(blocks))

    seen = {last}
    near = [*range(last, -1, -1), *range(last + 1, n_blocks)]
    left = room - height(seen)
    for block in [block for group in wanted for block in group] + near:
        if left < PITCH:
            break  # no hole of several blocks can be opened any more
        if 0 <= block < n_blocks and block not in seen:
            taller = height(seen | {block})
            if taller <= room:
                seen.add(block)
                left = room - taller
    return runs(seen)


def excerpt(widths: Sequence[int], anchor: int, room: int) -> range:
    """The tokens around `anchor` that fit into so many columns, ellipses counted in."""
    if sum(widths) <= room:
        return range(len(widths))
    first, end, used = anchor, anchor + 1, widths[anchor] + 2
    while True:
        before = first > 0 and used + widths[first - 1] <= room
        after = end < len(widths) and used + widths[end] <= room
        if before and (not after or anchor - first <= 2 * (end - 1 - anchor)):
            first -= 1
            used += widths[first]
        elif after:
            used += widths[end]
            end += 1
        else:
            return range(first, end)


class Strip:
    """A text laid out.

    Args:
        tokens: of the whole text.
        block_size: tokens of a line.
        height: of the scene.
        wanted: groups of blocks for `window`.
        last: block of the query.
        anchors: by block, the token that a line too long for its place is cut around.
        tags: by block, a word at the end of its line, and its colour.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        block_size: int,
        *,
        height: Number,
        wanted: Sequence[Iterable[int]],
        last: int,
        anchors: Mapping[int, int],
        tags: Mapping[int, tuple[str, str]],
    ) -> None:
        self.tokens, self.block_size, self.height, self.tags = tokens, block_size, height, tags
        n_blocks = -(-len(tokens) // block_size)
        rows, y = [], float(TOP)
        for run in window(n_blocks, wanted, room=height - TOP - BOTTOM, last=last):
            if len(run) == 1:
                block = run.start
                rows.append(self._row(block, y, anchors.get(block, block * block_size)))
                y += PITCH
            else:
                rows.append(Row(run, y))
                y += FOLD
        self.rows = tuple(rows)
        self._made: dict[tuple, Mark] = {}

    def _row(self, block: int, y: Number, anchor: int) -> Row:
        start = block * self.block_size
        texts = [shown(token) for token in self.tokens[start : start + self.block_size]]
        texts[0] = texts[0].lstrip() or texts[0]
        widths = [cells(text) for text in texts]
        room = CELLS - (len(self.tags[block][0]) + 2 if block in self.tags else 0)
        kept = excerpt(widths, anchor - start, room)
        x = LEFT + 2 + CELL * (kept.start > 0)
        words = []
        for place in kept:
            text, w = texts[place], widths[place] * CELL
            lead = len(text) - len(text.lstrip())
            words.append(Word(start + place, text.strip(), x + lead * CELL, w - lead * CELL))
            x += w
        return Row(
            range(block, block + 1), y, tuple(words), (kept.start > 0, kept.stop < len(texts))
        )

    @cached_property
    def lines(self) -> dict[int, Row]:
        """The lines by their block."""
        return {row.block: row for row in self.rows if not row.is_fold}

    @cached_property
    def folds(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.is_fold)

    @cached_property
    def words(self) -> dict[int, Word]:
        """The words in sight by their token."""
        return {word.token: word for row in self.rows for word in row.words}

    def row_of(self, block: int) -> Row:
        """The line of a block, or the fold that holds it."""
        return next(row for row in self.rows if block in row.blocks)

    # ------------------------------------------------------------------------------- the text

    def texts(self, query: int, told: Mapping[int, str], *, click: str = "query") -> list[Mark]:
        """The words; what comes after the query is faint."""
        marks: list[Mark] = []
        for row in self.lines.values():
            for word in row.words:
                if not word.text:
                    continue
                marks.append(
                    Words(
                        key=f"t:{word.token}",
                        x=word.x,
                        y=row.y + 8.4,
                        text=word.text,
                        mono=True,
                        size=SIZE,
                        fill="ink" if word.token <= query else "faint",
                        link=f"t:{word.token}",
                        words=told.get(word.token, ""),
                        click={click: word.token} if click else None,
                        layer=TEXT,
                    )
                )
            ends = ((row.more[0], LEFT + 2, "<"), (row.more[1], self._end(row), ">"))
            for left_out, x, side in ends:
                if left_out:
                    look = {"mono": True, "size": SIZE, "fill": "faint", "layer": TEXT}
                    key = f"more:{row.block}{side}"
                    marks.append(Words(key=key, x=x, y=row.y + 8.4, text="…", **look))
        return marks

    @staticmethod
    def _end(row: Row) -> Number:
        return row.words[-1].x + row.words[-1].w if row.words else LEFT

    def grounds(self, told: Mapping[int, str]) -> list[Mark]:
        """A line's ground and number, for every block in sight; `told` says what it is."""
        marks: list[Mark] = []
        for block, row in self.lines.items():
            box = {"x": LEFT, "y": row.y, "w": RIGHT - LEFT, "h": PITCH - 1, "corner": 2}
            own = {"link": f"b:{block}", "words": told.get(block, "")}
            look = {"fill": "faint", "opacity": 0.6, "layer": FOLDED}
            marks.append(Rectangle(key=f"b:{block}", **box, **look, **own))
        return marks

    def numbers(self, colours: Mapping[int, str]) -> list[Mark]:
        """The blocks' numbers; those with a colour are strong."""
        return [
            self._once("n", row, colours.get(block, ""), self._number)
            for block, row in self.lines.items()
        ]

    def _once(self, kind: str, row: Row, state: Any, make: Callable[[Row, Any], Mark]) -> Mark:
        """A mark that frames share where nothing of it changes."""
        key = (kind, row.block, state)
        if key not in self._made:
            self._made[key] = make(row, state)
        return self._made[key]

    @staticmethod
    def _number(row: Row, colour: str) -> Mark:
        return Words(
            key=f"n:{row.block}",
            x=NUMBER,
            y=row.y + 8.2,
            text=str(row.block),
            anchor="end",
            size=SMALL,
            fill=colour or "faint",
            bold=bool(colour),
            link=f"b:{row.block}",
            layer=FRONT,
        )

    def folded(self, mass: Numbers | None, last: int, read: Iterable[int] = ()) -> list[Mark]:
        """One thin line for each run of blocks that is folded.

        Args:
            mass: share of the attention, by block; none where nothing is to be said of it.
            last: block of the query.
            read: blocks that are read.
        """
        read = set(read)
        marks: list[Mark] = []
        for row in self.folds:
            seen = range(row.blocks.start, min(row.blocks.stop, last + 1))
            text = f"⋯ {len(row.blocks)} blocks"
            if among := read & set(row.blocks):
                text += f", {len(among)} of them read"
            if not seen:
                text += ", after the query"
            elif mass is not None:
                held = float(sum(mass[block] for block in seen))
                text += f", {percent(held, 1)} of the attention"
            marks.append(
                Words(
                    key=f"fold:{row.blocks.start}",
                    x=LEFT + 4,
                    y=row.y + 7,
                    text=text,
                    size=SMALL,
                    fill="faint",
                    layer=TEXT,
                )
            )
        return marks

    def tagged(self) -> list[Mark]:
        """The words at the ends of lines."""
        return [
            Words(
                key=f"tag:{text}:{block}",
                x=RIGHT - 3,
                y=self.lines[block].y + 8.2,
                text=text,
                anchor="end",
                size=SMALL,
                bold=True,
                fill=colour,
                layer=FRONT,
            )
            for block, (text, colour) in self.tags.items()
            if block in self.lines
        ]

    def around(self, tokens: Iterable[int], *, key: str, colour: str) -> list[Mark]:
        """A frame of colour around some tokens, line by line."""
        lines: dict[int, list[Word]] = {}
        for token in tokens:
            if token in self.words:
                lines.setdefault(token // self.block_size, []).append(self.words[token])
        return [
            Rectangle(
                key=f"{key}:{block}",
                x=words[0].x - 1.5,
                y=self.lines[block].y + 0.3,
                w=words[-1].x + words[-1].w - words[0].x + 3,
                h=PITCH - 1.6,
                corner=2,
                stroke=colour,
                width=1.1,
                layer=TAGS,
            )
            for block, words in lines.items()
        ]

    def veils(self, lit: Iterable[int], last: int) -> list[Mark]:
        """A thin veil over every line up to the last that is not lit."""
        lit = set(lit)
        return [
            self._once("veil", row, block in lit, self._veil)
            for block, row in self.lines.items()
            if block <= last
        ]

    @staticmethod
    def _veil(row: Row, lit: bool) -> Mark:
        return Rectangle(
            key=f"veil:{row.block}",
            x=LEFT - 1,
            y=row.y - 0.5,
            w=RIGHT - LEFT + 2,
            h=PITCH,
            fill="page",
            opacity=0.0 if lit else 0.36,
            layer=VEIL,
        )

    def lights(self, lit: Mapping[int, str]) -> list[Mark]:
        """Colour over the lines that are read, strongest at their left end."""
        return [
            self._once(kind, row, lit.get(block, ""), make)
            for block, row in self.lines.items()
            for kind, make in (("lit", self._over), ("edge", self._edge))
        ]

    @staticmethod
    def _over(row: Row, colour: str) -> Mark:
        box = {"x": LEFT, "y": row.y, "w": RIGHT - LEFT, "h": PITCH - 1, "corner": 2}
        look = {"fill": colour or "grey", "opacity": 0.24 if colour else 0, "layer": GROUND}
        return Rectangle(key=f"lit:{row.block}", **box, **look)

    @staticmethod
    def _edge(row: Row, colour: str) -> Mark:
        box = {"x": LEFT - 2.5, "y": row.y, "w": 3, "h": PITCH - 1, "corner": 1}
        look = {"fill": colour or "grey", "opacity": 1 if colour else 0, "layer": GROUND}
        return Rectangle(key=f"edge:{row.block}", **box, **look)

    # ------------------------------------------------------------------------------- the scores

    def bars(self, scores: Numbers, low: Number, high: Number, query: int) -> list[Mark]:
        """Behind each word a bar as tall as its score, between two ends; none after the query."""
        marks: list[Mark] = []
        for block, row in self.lines.items():
            foot, steps = row.y + PITCH - 1, []
            for word in row.words:
                if word.token <= query and word.w:
                    tall = self.tall(float(scores[word.token]), low, high)
                    steps.append(f"M{word.x:.1f},{foot:.1f}v-{tall:.1f}h{word.w:.1f}v{tall:.1f}z")
            look = {"fill": "vermilion", "opacity": 0.42, "layer": BARS}
            marks.append(Path(key=f"bars:{block}", d="".join(steps), **look))
        return marks

    @staticmethod
    def tall(score: Number, low: Number, high: Number) -> Number:
        """Height of the bar of a score."""
        share = (score - low) / max(high - low, 1e-9)
        return TALL * min(max(share, 0.0), 1.0)

    # ------------------------------------------------------------------------------- attention

    def bands(
        self,
        mass: Numbers,
        query: int,
        read: Iterable[int],
        *,
        open_: bool,
        told: Mapping[int, str],
        blocks_told: Mapping[int, str],
    ) -> list[Mark]:
        """Attention from the query's line to each block's, to scale.

        What is read is a blue band to every token that holds enough, and one for the rest of its
        block; what is missed is an empty pipe to the block.

        Args:
            mass: share of the attention, by token.
            query: position of the query.
            read: blocks that are read.
            open_: whether attention flows; before, all bands lie folded at the query.
            told: by token, words of its band.
            blocks_told: by block, words of its pipe and of the rest.
        """
        read, local = set(read), query // self.block_size
        home = self.row_of(local).middle
        at, marks = home + FULL / 2, []
        for row in self.rows:
            for block in row.blocks:
                if block > local:
                    break
                start = block * self.block_size
                inside = range(start, min(start + self.block_size, query + 1))
                total = FULL * float(sum(mass[token] for token in inside))
                to = row.middle - total / 2
                if block in read:
                    own = [t for t in inside if mass[t] >= LEAST and t in self.words]
                    rest = total - FULL * float(sum(mass[t] for t in own))
                    parts = [(f"r:{t}", f"t:{t}", FULL * float(mass[t]), t) for t in own]
                    if rest > 0.25:
                        parts.append((f"rest:{block}", f"b:{block}", rest, None))
                    spot = at
                    for key, link, w, token in parts:
                        end = LEFT - 2
                        if token is not None and w > THROUGH:
                            end = self.words[token].x + self.words[token].w
                        words = blocks_told.get(block, "") if token is None else told.get(token, "")
                        band = self._band(spot - w / 2, to + w / 2, home, end, open_)
                        look = {"stroke": "blue", "width": max(w, 0.3), "layer": BANDS}
                        look |= {"opacity": 0.62 if open_ else 0, "link": link, "words": words}
                        marks.append(Path(key=key, d=band, **look))
                        spot, to = spot - w, to + w
                elif total > FULL * LEAST_MISSED:
                    own = {"layer": BANDS}
                    if not row.is_fold:
                        own |= {"link": f"b:{block}", "words": blocks_told.get(block, "")}
                    band = self._band(at - total / 2, row.middle, home, LEFT - 3, open_)
                    look = {"stroke": "faint", "width": total, "opacity": 0.28 if open_ else 0}
                    marks.append(Path(key=f"hollow:{block}", d=band, **look, **own))
                    pipe = self._pipe(at, to, total, home, open_)
                    look = {"stroke": "ink", "width": 0.8, "dash": "2.5 2"}
                    look |= {"opacity": 0.8 if open_ else 0, "layer": BANDS}
                    marks.append(Path(key=f"missed:{block}", d=pipe, **look))
                at -= total
        return marks

    def _bulge(self, y: Number, home: Number) -> Number:
        far = min(abs(home - y) / (self.height - TOP - BOTTOM), 1)
        return (LEFT - 12) * (0.16 + 0.84 * far) * 4 / 3

    def _band(self, y: Number, to: Number, home: Number, end: Number, open_: bool) -> str:
        edge = LEFT - 3
        if not open_:
            return f"M{edge},{y:.1f}C{edge},{y:.1f} {edge},{y:.1f} {edge},{y:.1f}H{edge}"
        out = edge - self._bulge(to, home)
        return f"M{edge},{y:.1f}C{out:.1f},{y:.1f} {out:.1f},{to:.1f} {edge},{to:.1f}H{end:.1f}"

    def _pipe(self, y: Number, to: Number, w: Number, home: Number, open_: bool) -> str:
        edge = LEFT - 3
        if not open_:
            flat = f"{edge},{y:.1f}"
            side = f"C{flat} {flat} {flat}"
            return f"M{flat}{side}M{flat}{side}"
        out = edge - self._bulge(to + w / 2, home)
        wide = w if w > 1.8 else 0  # what is thinner is one line
        spread = 2 / 3 * wide  # so that the sides lie half a width from the middle where it turns
        middle = (y - w / 2, to + w / 2)
        sides = ((wide / 2, -wide / 2, out - spread), (-wide / 2, wide / 2, out + spread))
        return "".join(
            f"M{edge},{middle[0] + a:.1f}C{turn:.1f},{middle[0] + a:.1f} "
            f"{turn:.1f},{middle[1] + b:.1f} {edge},{middle[1] + b:.1f}"
            for a, b, turn in sides
        )


def heading(key: str, text: str, x: Number, *, anchor: str = "start") -> Words:
    """The name of a column."""
    return Words(key=f"head:{key}", x=x, y=8.5, text=text, anchor=anchor, size=SMALL, fill="faint")


def dot(key: str, x: Number, y: Number, colour: str, **rest) -> Rectangle:
    """A disc that takes no more of the pointer than is seen of it."""
    look = {"w": 5, "h": 5, "corner": 2.5, "fill": colour, "layer": FRONT}
    return Rectangle(key=key, x=x - 2.5, y=y - 2.5, **look, **rest)
