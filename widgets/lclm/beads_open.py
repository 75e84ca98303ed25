"""One open bead of "Words fold into beads": its tokens, their mean, and what is read from it."""

from functools import cached_property

from intuitive.lclm.experiments.reading import TOP

from ..kit import Circle, Line, Mark, Path, Rectangle, Words, percent
from .beads_layout import (
    BEADS,
    FRONT,
    LEFT,
    NAME,
    OPEN,
    RAW_TALL,
    RIGHT,
    ROW,
    TEXTS,
    THREADS,
    TINT,
    Layout,
)
from .beads_text import LETTER, Number, letters, shown
from .beads_words import FOLD, TEXT, TRAVEL


class OpenBead(Layout):
    """The box below the rulers."""

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
                sure = percent(p).replace("under ", "<").replace("over ", ">").rjust(4)
                if pitch > 100:
                    text = f"{cut(text, fits - 5).ljust(fits - 4)}{sure}"
                elif letters(text) + len(sure) <= fits:
                    text = f"{text}{sure}"
                at = {"x": x + 2, "y": top + ROW - 4}
                own = {"link": f"reading:{place}", "words": say.token(token, read=True)}
                marks.append(Words(key=f"top:{place}:{rank}", text=text, **at, **own, **look))
        return marks


def cut(text: str, room: int) -> str:
    """A text, or its beginning where it is too long."""
    return text if letters(text) <= room else text[: max(room - 1, 1)] + "…"
