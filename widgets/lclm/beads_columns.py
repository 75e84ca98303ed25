"""The text of "Words fold into beads": its words, their ghosts, and what is read of them."""

from functools import cached_property

from ..kit import Mark, Path, Rectangle, Words, percent
from .beads_layout import FRONT, HEAD, LEFT, NAME, TEXTS, TINT, Layout
from .beads_text import MARGIN, Place, letters
from .beads_words import ASK, FOLD, RETURN, TEXT, TRAVEL


class Columns(Layout):
    """The text, chunk by chunk."""

    def _words(self, stage: str) -> list[Mark]:
        """The text, then only its ghost, then what the decoder reads from the beads."""
        if stage == TEXT:
            return [*self.tints, *self._heads(stage), *self.text_words]
        if stage in (FOLD, TRAVEL):
            return [*self.ghosts, *self._heads(stage), *self.folded_words]
        return [*self._heads(stage), *self._read_words(returned=stage in (RETURN, ""))]

    @cached_property
    def _look(self) -> dict[str, object]:
        return {"mono": True, "size": self.size, "layer": TEXTS}

    @cached_property
    def text_words(self) -> list[Mark]:
        return [
            Words(key=f"w:{p.token}", text=p.text, link=self._link(p), **self.spot(p), **self._look)
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
            spot = self.spot(p)
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
                    **self.spot(p),
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
            own |= {"click": {"expand": self.say.click_on(chunk)}, "words": self.say.chunk(chunk)}
            marks.append(Words(key=f"head:{chunk}", x=x, y=HEAD - 2, text=text, **look, **own))
        return marks
