"""Where the words of a text stand: one column for each chunk, set in a font of one width.

What was read from beads is set in the same columns, so every token keeps its column and lies
somewhere else only where other words became longer or shorter.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

Number = int | float

LETTER = 0.605  # width of a letter over its size
MARGIN = 6  # between a column's edge and its words
SIZES = {1: 13.0, 2: 13.0, 3: 12.5, 4: 12.0, 5: 10.5, 6: 10.0, 7: 9.5, 8: 9.5}  # by columns


@lru_cache(maxsize=4096)
def shown(token: str) -> str:
    """A token without the space around it; line breaks as signs, nothing that cannot be seen."""
    seen = ("↵" if c == "\n" else " " if c.isspace() else c for c in token)
    return "".join(c for c in seen if unicodedata.category(c) not in ("Cc", "Cf")).strip()


def quoted(token: str) -> str:
    """A token as a sentence names it."""
    text = shown(token)
    return f"“{text}”" if text else "a space" if token else "part of a character"


@lru_cache(maxsize=4096)
def letters(text: str) -> int:
    """How many letters' room a text takes."""
    marks = ("Mn", "Me", "Cf")
    wide = (1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
    return sum(w for c, w in zip(text, wide, strict=True) if unicodedata.category(c) not in marks)


@dataclass(frozen=True)
class Place:
    """A token in its column: its first letter and its line, counted from 0."""

    token: int
    text: str
    letter: int
    line: int


def wrapped(texts: Sequence[str], tokens: range, room: int) -> list[Place]:
    """The tokens of a column, `room` letters wide.

    A line breaks before a word, after the sign of a line break, and inside a word that is longer
    than a line.
    """
    places: list[Place] = []
    at = line = 0
    for word in _by_word(texts, tokens):
        parts = [(token, texts[token]) for token in word]
        first = parts[0][1]
        ends = first[:1] == "\n"
        lead = at > 0 and first[:1].isspace() and bool(shown(first)) and not ends
        wide = sum(letters(shown(text)) for _, text in parts) + lead
        if at and not ends and at + wide > room and wide <= room + lead:
            line, at, lead = line + 1, 0, False
        at += lead
        for token, text in parts:
            seen = shown(text)
            if at and at + letters(seen) > room and "\n" not in text:
                line, at = line + 1, 0
            places.append(Place(token, seen, at, line))
            at += letters(seen)
            if not seen and text:
                at += at > 0  # a space by itself
            if "\n" in text:
                indent = len(text) - text.rfind("\n") - 1
                line, at = line + 1, min(indent, room // 3)
    return places


def _by_word(texts: Sequence[str], tokens: range) -> list[list[int]]:
    words: list[list[int]] = []
    for token in tokens:
        broke = token > tokens.start and "\n" in texts[token - 1]
        if not words or broke or texts[token][:1].isspace():
            words.append([])
        words[-1].append(token)
    return words
