"""Texts of a scene that keep out of each other's way.

A text comes with the places where it may stand, best first, and takes the first one that is free;
one that finds none is left out. A box is estimated from the number of characters.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .. import theme
from ..kit import Words

Number = int | float

EM = 0.7  # width of a character, in font sizes; generous, since small pages have larger texts
ANCHORED = {"start": 0, "middle": 0.5, "end": 1}  # share of a text left of its x
ASCENT, DESCENT = 0.78, 0.24  # of a line, in font sizes


def end_names(
    ends: Iterable[tuple[str, float, Number]],
    *,
    x: float,
    tail: float,
    gap: float,
    low: float,
) -> list[dict[str, Any]]:
    """Names of a figure's curves beside their right ends, with a thin line to each that moved.

    Args:
        ends: of every curve its name, its last value and the size of its text.
        x: where the curves end, on a logarithmic axis the power of ten.
        tail: where the names begin, in the same unit.
        gap: least distance of two names, in the unit of the values.
        low: no name stands lower.
    """
    order = sorted(ends, key=lambda end: -end[1])
    places: list[float] = []
    for _, value, _ in order:
        places.append(min(value, places[-1] - gap) if places else value)
    for i in range(len(order) - 1, -1, -1):
        places[i] = max(places[i], low + (len(order) - 1 - i) * gap)
    return [
        {
            "x": x,
            "y": value,
            "ax": tail,
            "ay": place,
            "axref": "x",
            "ayref": "y",
            "text": name,
            "xanchor": "left",
            "showarrow": True,
            "arrowhead": 0,
            "arrowwidth": 0.8,
            "arrowcolor": theme.GREY,
            "font": {"size": size},
        }
        for (name, value, size), place in zip(order, places, strict=True)
    ]


class Box(NamedTuple):
    """A rectangle of the scene."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, x: Number, y: Number, r: Number) -> "Box":
        """A square around a disc."""
        return cls(x - r, y - r, x + r, y + r)

    def meets(self, other: "Box") -> bool:
        across = self.left < other.right and other.left < self.right
        return bool(across and self.top < other.bottom and other.top < self.bottom)

    def inside(self, other: "Box") -> bool:
        across = other.left <= self.left and self.right <= other.right
        return bool(across and other.top <= self.top and self.bottom <= other.bottom)


def text_box(text: str, size: Number, x: Number, y: Number, anchor: str) -> Box:
    """About the room that a text takes."""
    width = EM * size * len(text)
    left = x - width * ANCHORED[anchor]
    return Box(left, y - ASCENT * size, left + width, y + DESCENT * size)


class Labels:
    """Places the texts of one frame, the most important first.

    Attributes:
        marks: the texts that found a place.
        room: what no text may leave.
    """

    def __init__(self, room: Box, taken: Iterable[Box] = ()) -> None:
        self.room = room
        self._taken = list(taken)
        self._crossed: list[Box] = []  # may be covered where nothing else is free
        self.marks: list[Words] = []

    def keep_off(self, *boxes: Box) -> None:
        """No later text may cover these."""
        self._taken += boxes

    def keep_off_line(self, x: Number, y: Number, x2: Number, y2: Number, r: Number = 4) -> None:
        """No later text may stand on this line."""
        self.keep_off(*_along(x, y, x2, y2, r))

    def prefer_off_line(self, x: Number, y: Number, x2: Number, y2: Number, r: Number = 4) -> None:
        """A later text stands on this line only where it finds no other place."""
        self._crossed += _along(x, y, x2, y2, r)

    def put(
        self,
        key: str,
        text: str,
        places: Sequence[tuple[Number, Number, str]],
        *,
        size: Number = 13,
        **look: Any,
    ) -> None:
        """Write `text` at the first free one of `places`, each (x, base line, anchor)."""
        free = []
        for x, y, anchor in places:
            box = text_box(text, size, x, y, anchor)
            if box.inside(self.room) and not any(map(box.meets, self._taken)):
                free.append((any(map(box.meets, self._crossed)), box, (x, y, anchor)))
        if not free:
            return
        _, box, (x, y, anchor) = min(free, key=lambda spot: spot[0])  # the first that crosses none
        self._taken.append(box)
        halo = {"stroke": "page", "width": 3, "layer": 5}
        place = {"x": x, "y": y, "anchor": anchor, "size": size}
        self.marks.append(Words(key=key, text=text, **place, **halo, **look))


def _along(x: Number, y: Number, x2: Number, y2: Number, r: Number) -> list[Box]:
    """Squares that cover a line."""
    pieces = max(int(max(abs(x2 - x), abs(y2 - y)) / (2 * r)), 1)
    shares = [i / pieces for i in range(pieces + 1)]
    return [Box.around(x + (x2 - x) * s, y + (y2 - y) * s, r) for s in shares]
