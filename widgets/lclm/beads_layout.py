"""Where all of "Words fold into beads" stands: columns of text, and two rulers of one pitch."""

import math
from functools import cached_property

from intuitive.lclm.experiments.beads import Beads
from intuitive.lclm.experiments.reading import CHUNK, N_NEW, TOP

from .beads_text import LETTER, MARGIN, SIZES, Number, Place, wrapped
from .beads_words import Account

WIDTH, LEFT, RIGHT = 1000, 68, 990
HEAD = 16  # of the columns
RAW_TALL, BEAD_TALL = 11, 16  # of the marks of the two rulers
ROW = 15  # height of a row in the open bead
OPEN = 24 + (1 + TOP) * ROW  # height of the open bead
MOST_R, LEAST_R = 9.5, 2.6
NAME = 12.0  # size of names
GROUND, TINT, CELLS, THREADS, BEADS, TEXTS, FRONT = range(7)  # layers


class Layout:
    """Places of one result's marks."""

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

    @property
    def wide(self) -> Number:
        """Width of a mark on a ruler."""
        return max(self.pitch - 0.7, 0.6)

    def spot(self, place: Place) -> dict[str, Number]:
        """Where a token of the text stands: its left end, on its line."""
        column = self.found.chunk_of(place.token)
        x = LEFT + self.column * column + MARGIN + self.letter * place.letter
        return {"x": x, "y": HEAD + 2 + self.line * (place.line + 0.95)}
