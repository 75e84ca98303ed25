"""The text of a recording as "Two shelves" shows it: chunks, their titles, and what is written."""

import re
from collections import Counter
from functools import cached_property
from typing import NamedTuple

from cachetools import LRUCache, cached

from intuitive.lsa.recording import Recording

LINE = 112  # letters in a line of what is written
WORD = re.compile(r"[^\W\d_]{3,}(?:['’-][^\W\d_]+)*")
SPACES = re.compile(r"\s+")
QUOTE = 52  # letters of a chunk that are quoted beside it
VERSUS = ("all at hand:  ", "this one:     ")  # before what both decodes write
LONGEST = 10  # letters up to which a longer word makes a better title


class Row(NamedTuple):
    """A line of what has been written, and where the newest token is in it."""

    number: int
    text: str
    lit: tuple[int, int] | None  # its first letter and its length


def plain(text: str) -> str:
    """A text on one line: line breaks as signs, other spaces single."""
    return SPACES.sub(" ", text.replace("\n", "↵")).strip()


class Writing:
    """The words of one recording.

    Args:
        recording: of this decode.
        whole: of the decode with everything at hand, where this one is another; it is shown above.
    """

    def __init__(self, recording: Recording, whole: Recording | None = None) -> None:
        self.recording, self.whole = recording, whole

    @cached_property
    def parted(self) -> int | None:
        """The first step whose word is not that of the whole decode, the last step's end if none.

        None without a whole decode beside it.
        """
        if self.whole is None:
            return None
        ours, theirs = (made.words[made.n_prompt :] for made in (self.recording, self.whole))
        pairs = enumerate(zip(ours, theirs, strict=False))
        return next((step for step, (a, b) in pairs if a != b), len(ours))

    @cached_property
    def chunks(self) -> list[str]:
        """Words of every chunk, on one line."""
        recording = self.recording
        return [plain(recording.text(c).replace("\n", " ")) for c in range(recording.n_chunks)]

    @cached_property
    def titles(self) -> list[str]:
        """Of each chunk's words the one that the fewest chunks hold, the longest of these."""
        words = [list(dict.fromkeys(WORD.findall(text))) for text in self.chunks]
        seen = Counter(word.lower() for each in words for word in each)
        titles = []
        for chunk, each in enumerate(words):
            whole = each[1:-1] if len(each) > 3 else each  # those at the ends may be cut
            best = min(
                whole, key=lambda word: (seen[word.lower()], -min(len(word), LONGEST)), default=""
            )
            titles.append(f"“{best}”" if best else f"chunk {chunk}")
        return titles

    def quote(self, chunk: int) -> str:
        """The beginning of a chunk's words."""
        text = self.chunks[chunk]
        if len(text) > QUOTE:
            text = text[:QUOTE].rpartition(" ")[0] + " …"
        return f"“{text}”"

    def token(self, step: int) -> str:
        """What a step writes."""
        return plain(self.recording.words[self.recording.n_prompt + step]) or "·"

    def before(self, step: int, letters: int) -> str:
        """The end of what stands before a step's token."""
        at = self.recording.n_prompt + step
        text = plain("".join(self.recording.words[max(at - letters, 0) : at]).replace("\n", " "))
        return "… " + text[-letters:].partition(" ")[2]

    @cached_property
    def _placed(self) -> tuple[list[tuple[int, int, int]], list[str]]:
        """(line, first letter, letters) of every step's token, and the whole lines."""
        lines, places = [""], []
        for token in self.recording.words[self.recording.n_prompt :]:
            text = SPACES.sub(" ", token)
            if len(lines[-1]) + len(text.rstrip()) > LINE:
                lines.append("")
            if not lines[-1]:
                text = text.lstrip()
            start = len(lines[-1]) + len(text) - len(text.lstrip())
            places.append((len(lines) - 1, start, len(text.strip())))
            lines[-1] += text
        return places, lines

    def rows(self, step: int, *, waits: bool) -> list[Row]:
        """The last two lines of what is written with a step's token, or before it.

        Beside a whole decode, the end of its text and the end of this one.
        """
        places, lines = self._placed
        step -= waits
        if step < 0:
            return []
        if self.whole is not None:
            return self._versus(step, waits=waits)
        line, start, length = places[step]
        rows = [Row(line - 1, lines[line - 1], None)] if line else []
        lit = None if waits else (start, max(length, 1))
        return [*rows, Row(line, lines[line][: start + length], lit)]

    def _versus(self, step: int, *, waits: bool) -> list[Row]:
        rows = []
        for number, recording in enumerate((self.whole, self.recording)):
            first = recording.n_prompt
            words = recording.words[first : first + step + 1]
            text = SPACES.sub(" ", "".join(words)).strip()
            room = LINE - len(VERSUS[number])
            shown = text
            if len(text) > room:
                shown = ("… " + text[2 - room :].partition(" ")[2]).rjust(room)
            token = max(len(SPACES.sub(" ", words[-1]).strip()), 1)
            line = VERSUS[number] + shown
            lit = None if waits or not number else (len(line) - token, token)
            rows.append(Row(number, line, lit))
        return rows


@cached(LRUCache(8))
def writing_of(recording: Recording, whole: Recording | None = None) -> Writing:
    """The words of a recording, which do not hang on any policy."""
    return Writing(recording, whole)
