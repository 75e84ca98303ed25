"""The hero of "Two shelves": the chunks of a text as books on a GPU and a CPU shelf.

A chunk keeps its column. Below stands a copy of everything; what is on the GPU stands above, and
only that can attention read. At a trigger the scores grow as bars out of the lower shelf, a line
cuts them, and what is above it rises. Then tokens are written: threads lead from each to the chunks
that it needs, green where these are there; where they are not, a broken one ends in a cross.
"""

from functools import cached_property

import numpy as np

from intuitive.lsa.experiments.measures import Measures
from intuitive.lsa.recording import Recording

from ..kit import Circle, Drag, Frame, Line, Mark, Path, Rectangle, Scene, Words, percent
from .shelves_beside import (
    BARS,
    BOARD,
    BOOKS,
    DOWN,
    FRONT,
    GLOW,
    GROUND,
    HEIGHT,
    LEFT,
    LETTER,
    PEN,
    PEN_FOOT,
    RIGHT,
    SMALL,
    TALL,
    THREADS,
    UP,
    VEIL,
    WIDTH,
    Beside,
    Number,
)
from .shelves_figures import residency_until
from .shelves_words import CUT, RISE, SCORE, STAGES, Account

BASE, BAND = DOWN - 4, 54  # foot of the score bars, height of a score of 1
ABOVE = UP + TALL + BOARD + 13  # foot of the words over the bars, clear of them
N_FRAMES = 12  # frames between the triggers, about, beside those of the triggers themselves
FEW_FRAMES = 26  # where no trigger is told
EACH = 6  # tokens that are shown one by one where the words part
MOST_TOLD = 8  # triggers that are told in stages
MOST_THREADS, MOST_NAMES = 4, 4
LINES = 7  # of mock print on a book
BOLD = 8.4  # width of a bold letter of names on a small page, about
HALO = {"stroke": "page", "width": 6}
LOOKS = {
    "lifted": {"fill": "blue", "stroke": "page", "y": UP},
    "always": {"fill": "sky", "stroke": "page", "y": UP},
    "away": {"fill": "grey", "stroke": "page", "y": DOWN, "opacity": 0.5},
}
WRITE = "write"


class Picture:
    """All frames of one policy's decode; `whole` as in `Writing`."""

    def __init__(self, measures: Measures, whole: Recording | None = None) -> None:
        self.measures, self.recording = measures, measures.recording
        self.say = Account(measures, whole)
        self.beside = Beside(self.say)
        self.n_steps, self.n_chunks = self.recording.n_steps, self.recording.n_chunks
        self.pitch = (RIGHT - LEFT) / self.n_chunks
        self.wide = max(self.pitch - max(1.0, 0.16 * self.pitch), 1.0)
        self._outlines: dict[int, Path] = {}
        self._books: dict[tuple[int, str], Path] = {}
        self._drawn: dict[tuple[int, bool], list[Mark]] = {}
        self._filled: dict[tuple[int, bytes, bytes], list[Mark]] = {}

    def x(self, chunk: Number) -> Number:
        """Left edge of a chunk's column."""
        return LEFT + self.pitch * chunk

    def middle(self, chunk: int) -> Number:
        return self.x(chunk) + self.wide / 2

    # ------------------------------------------------------------------------------- frames

    @cached_property
    def moments(self) -> list[tuple[int, str]]:
        """(step, stage) of every frame; the stage is empty where a token is written.

        Every cycle's greatest miss is among them. Where there are many cycles, none is told by
        itself.
        """
        stride = -(-self.n_steps // (N_FRAMES if self._told else FEW_FRAMES))
        if not self._told:
            return [(step, "") for step in self._spread(0, self.n_steps, stride)]
        stages = STAGES if self.say.scores.exist else (RISE,)
        moments: list[tuple[int, str]] = []
        for start, end in zip(self._told, [*self._told[1:], self.n_steps], strict=True):
            moments += [(start, stage) for stage in stages]
            moments += [(step, "") for step in self._spread(start, end, stride)]
        return moments

    @property
    def _told(self) -> list[int]:
        """Triggers that have frames of their own."""
        return self.say.triggers if len(self.say.triggers) <= MOST_TOLD else []

    def _spread(self, start: int, end: int, stride: int) -> list[int]:
        """Every so many steps, the last, the one with the greatest miss, and where words part.

        From there on some follow token by token.
        """
        steps = {*range(start, end, stride), end - 1}
        missed = (self.measures.wanted - self.measures.found)[start:end]
        if missed.max() > 0:
            steps.add(start + int(missed.argmax()))
        if self.say.parted is not None and start <= self.say.parted < end:
            steps.update(range(self.say.parted, min(self.say.parted + EACH, end)))
        return sorted(steps)

    def frames(self) -> tuple[Frame, ...]:
        frames, before = [], -1
        for step, stage in self.moments:
            frames.append(self._frame(step, stage, before))
            before = before if stage else step
        return tuple(frames)

    def _frame(self, step: int, stage: str, before: int) -> Frame:
        there = self._there(step, stage)
        marks = [
            *self.beside.still,
            self._ghosts(self.say.closed[step]),
            *self._shelves(step, there),
            *self._scored(step, stage),
            *self.beside.moment(there, step, stage, before),
        ]
        if not stage:
            marks += self._threads(step)
        if self.say.keeps_all:
            marks.append(self._used(step))
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
            label=_label(step),
            stage=stage or (WRITE if step in self._told else ""),
            sentence=self.say.sentence(step, stage),
            readouts=self.say.readouts(step, stage),
            arithmetic=self.say.arithmetic(step, stage),
            figures={"residency": residency_until(self.measures, step, waits=bool(stage))},
        )

    def _there(self, step: int, stage: str) -> np.ndarray:
        """Chunks on the GPU in a frame; before the rise, those of the cycle before."""
        resident, evictable = self.say.resident, self.say.evictable
        if stage not in (SCORE, CUT):
            return resident[step]
        if step == 0:
            return resident[0] & ~evictable[0]
        return resident[step - 1] | (resident[step] & ~evictable[step])

    # ------------------------------------------------------------------------------- the books

    def _ghosts(self, closed: int) -> Mark:
        """Outlines of the copies that never leave the lower shelf, where a book may stand above."""
        if closed not in self._outlines:
            w = round(self.wide, 1)
            d = "".join(f"M{self.x(c):.1f},{DOWN}h{w}v{TALL}h-{w}z" for c in range(closed))
            look = {"stroke": "faint", "width": 0.8, "dash": "2 3", "opacity": 0.7}
            self._outlines[closed] = Path(key="ghosts", d=d, layer=GROUND, **look)
        return self._outlines[closed]

    def _shelves(self, step: int, there: np.ndarray) -> list[Mark]:
        old, closed = self.say.evictable[step], self.say.closed[step]
        key = closed, there.tobytes(), old.tobytes()
        if key not in self._filled:
            states = np.where(there, np.where(old, "lifted", "always"), "away")[:closed].tolist()
            marks: list[Mark] = [self._book(chunk, state) for chunk, state in enumerate(states)]
            look = {"size": SMALL, "bold": True, "fill": "sky", "anchor": "end", "layer": FRONT}
            at = {"x": self.x(closed), "y": UP + TALL + 13}
            if not self.say.keeps_all:
                marks.append(Words(key="newest", text="the newest: always here", **at, **look))
            self._filled[key] = marks
        return self._filled[key]

    def _book(self, chunk: int, state: str) -> Path:
        """A chunk's spine: a cover with lines of mock print as long as its words."""
        if (chunk, state) not in self._books:
            self._books[chunk, state] = Path(
                key=f"chunk:{chunk}",
                link=f"chunk:{chunk}",
                x=self.x(chunk),
                d=self._print[chunk],
                width=1,
                words=self.say.chunk(chunk, state),
                layer=BOOKS,
                **LOOKS[state],
            )
        return self._books[chunk, state]

    @cached_property
    def _print(self) -> list[str]:
        """Cover and print of every chunk."""
        w, margin = round(self.wide, 1), min(0.2 * self.wide, 2.5)
        room, step = self.wide - 2 * margin, (TALL - 20) / LINES
        drawn = []
        for text in self.say.writing.chunks:
            lengths = [min(len(word), 8) / 8 for word in text.split()[:LINES]]
            rows = "".join(
                f"M{margin:.0f},{10 + step * row:.0f}h{max(room * length, 1):.0f}"
                for row, length in enumerate(lengths)
            )
            drawn.append(f"M0,0h{w}v{TALL}h-{w}z{rows}")
        return drawn

    # ------------------------------------------------------------------------------- the scores

    def _scored(self, step: int, stage: str) -> list[Mark]:
        """Scores of the cycle as bars between the shelves, and the line that cuts them."""
        if not self.say.scores.exist:
            return [self._no_scores, *self._idle()]
        key = self.say.scores.cycle(step), stage != SCORE
        if key not in self._drawn:
            self._drawn[key] = self._bars(*key)
        box = {"x": LEFT - 2, "y": BASE - BAND - 2, "w": RIGHT - LEFT + 4, "h": BAND + 2}
        fade = Rectangle(key="fade", fill="page", opacity=0 if stage else 0.55, layer=VEIL, **box)
        return [*self._drawn[key], fade, *self._named(key[0], stage), *self._idle()]

    def _named(self, cycle: int, stage: str) -> list[Mark]:
        """What bars and line are, while they are looked at."""
        if not stage:
            return []
        say, look = self.say, {"size": SMALL, "fill": "purple", "layer": FRONT, "y": ABOVE}
        marks: list[Mark] = [Words(key="bars:name", x=LEFT, text=say.score_name(cycle), **look)]
        if stage != SCORE:
            at = {"x": RIGHT, "anchor": "end"}
            marks.append(Words(key="cut:name", text=say.cut_name(), **at, **look))
        return marks

    @cached_property
    def _no_scores(self) -> Mark:
        at = {"x": RIGHT - 10, "y": BASE - BAND / 2 + 8, "anchor": "end"}
        return Words(key="bars:none", text=self.say.no_scores(), size=13, fill="faint", **at)

    def _bars(self, cycle: int, is_cut: bool) -> list[Mark]:
        scores, cut = self.say.scores.of(cycle), self.say.scores.cut(cycle)
        over = (scores > cut) & is_cut
        wide = round(self.wide, 1)
        gap, marks = round(self.pitch - wide, 3), []
        for name, chosen, opacity in (("low", ~over, 0.45), ("high", over, 1)):
            tall = [f"{BAND * score:.0f}" for score in (scores * chosen).tolist()]
            d = "".join(f"v-{t}h{wide}v{t}h{gap}" for t in tall)
            look = {"fill": "purple", "opacity": opacity, "layer": BARS}
            marks.append(Path(key=f"bars:{name}", d=f"M{LEFT},{BASE}{d}", **look))
        return [*marks, *(self._cut(cut) if is_cut else ())]

    def _cut(self, cut: float) -> list[Mark]:
        """The line, and the handle that moves it."""
        y, say = BASE - BAND * cut, self.say
        drag = None
        if say.scores.has_threshold:
            drag = Drag(y="threshold", y_scale=((0.0, BASE), (1.0, BASE - BAND)))
        line = {"x": LEFT, "y": y, "x2": RIGHT, "y2": y, "stroke": "purple", "width": 1.4}
        handle = {"x": RIGHT, "y": y, "r": 5, "fill": "page", "stroke": "purple", "width": 2}
        told = {"link": "threshold", "words": say.cut_words(), "drag": drag, "layer": FRONT}
        return [
            Line(key="cut", layer=THREADS, **line),
            Circle(key="cut:handle", **handle, **told),
        ]

    def _idle(self) -> list[Mark]:
        """The threshold where it cuts nothing here: its handle, and what it does instead."""
        say = self.say
        if say.scores.has_threshold:
            return []
        y = BASE - BAND * say.policy.threshold
        drag = Drag(y="threshold", y_scale=((0.0, BASE), (1.0, BASE - BAND)))
        ring = {"r": 4, "fill": "page", "stroke": "purple", "width": 1.5, "opacity": 0.8}
        told = {"link": "threshold", "words": say.idle_words(), "drag": drag, "layer": FRONT}
        look = {"size": SMALL, "fill": "purple", "layer": FRONT, **HALO}
        text, at = say.idle_name(), {"x": LEFT + 8, "y": y + 4}
        box = {"x": LEFT + 5, "y": y - 9, "w": LETTER * len(text) + 6, "h": 18, "corner": 3}
        return [  # bars and line end at the words
            Circle(key="idle", x=LEFT - 2, y=y, **ring, **told),
            Rectangle(key="idle:box", fill="page", layer=FRONT, **box),
            Words(key="idle:name", text=text, **at, **look),
        ]

    # ------------------------------------------------------------------------------- the threads

    def _threads(self, step: int) -> list[Mark]:
        """From the token to the chunks that it needs."""
        mass, marks = self.say.mass[step], []
        found, missed = self.say.needed(step)
        for chunks, top, colour, key in (
            (found, UP, "green", "glow"),
            (missed, DOWN, "vermilion", "miss"),
        ):
            marks += [self._glow(chunk, top, colour, key) for chunk in chunks]
        for chunk in found[:MOST_THREADS]:
            x, look = self.middle(chunk), {"stroke": "green", "opacity": 0.85, "layer": THREADS}
            d = f"M{PEN},{PEN_FOOT}C{PEN},{PEN_FOOT + 19} {x:.1f},20 {x:.1f},{UP - 2}"
            marks.append(Path(key=f"thread:{chunk}", d=d, width=_width(float(mass[chunk])), **look))
        for chunk in missed[:MOST_THREADS]:
            marks += self._broken(chunk, float(mass[chunk]))
        marks += self._names(found, UP - 6, "green", "name", step)
        marks += self._names(missed, DOWN + TALL + BOARD + 15, "vermilion", "lost", step)
        return marks

    def _glow(self, chunk: int, top: Number, colour: str, key: str) -> Rectangle:
        box = {"x": self.x(chunk), "y": top, "w": self.wide, "h": TALL, "corner": 1}
        look = {"fill": colour, "stroke": colour, "width": 4, "opacity": 0.85, "layer": GLOW}
        return Rectangle(key=f"{key}:{chunk}", **box, **look)

    def _broken(self, chunk: int, mass: float) -> list[Mark]:
        """A thread that ends in a cross below the upper shelf."""
        x, end = self.middle(chunk), UP + TALL + BOARD + 10
        bend = f"C{PEN},{PEN_FOOT + 19} {x:.1f},20 {x:.1f},{UP - 2}"
        thread = f"M{PEN},{PEN_FOOT}{bend}V{end - 6}"
        cross = f"M{x - 5:.1f},{end - 5}l10,10M{x + 5:.1f},{end - 5}l-10,10"
        look = {"stroke": "vermilion", "layer": THREADS}
        thin = {"width": _width(mass), "dash": "5 4", "opacity": 0.8}
        out = {"x": x, "y": end + 7, "x2": x, "y2": DOWN - 3, "width": 1.2, "dash": "2 3"}
        return [
            Path(key=f"broken:{chunk}", d=thread, **thin, **look),
            Path(key=f"cross:{chunk}", d=cross, width=2.6, **look),
            Line(key=f"out:{chunk}", opacity=0.8, **out, **look),
        ]

    def _names(self, chunks: list[int], y: Number, colour: str, key: str, step: int) -> list[Mark]:
        """Words of the chunks and their share of the attention, where there is room; old first."""
        mass = self.say.mass[step]
        marks: list[Mark] = []
        taken: list[tuple[Number, Number]] = []
        look = {"size": SMALL, "bold": True, "fill": colour, "anchor": "middle", "layer": FRONT}
        old = self.say.evictable[step]
        ordered = sorted(chunks, key=lambda chunk: not old[chunk])  # the rest stays as it is
        for place, chunk in enumerate(ordered):
            title = self.say.writing.titles[chunk] if place else self.say.writing.quote(chunk)
            text = f"{title} {percent(float(mass[chunk]))}"
            half = BOLD * len(text) / 2
            x = min(max(self.middle(chunk), LEFT + half), RIGHT - half)
            if all(x - half > end or x + half < start for start, end in taken):
                taken.append((x - half - 6, x + half + 6))
                marks.append(Words(key=f"{key}:{chunk}", x=x, y=y, text=text, **look, **HALO))
            if len(taken) == MOST_NAMES:
                break
        return marks

    def _used(self, step: int) -> Path:
        """A foot of green under each book that some token has needed so far."""
        used, w = np.flatnonzero(self.say.used[step]).tolist(), round(self.wide, 1)
        d = "".join(f"M{self.x(c):.1f},{UP + TALL - 8}h{w}v8h-{w}z" for c in used)
        return Path(key="used", d=d, fill="green", layer=GLOW)


def _width(mass: Number) -> Number:
    """Of a thread, by the attention that goes along it."""
    return min(1.5 + 14 * mass, 9)


def _label(step: int) -> str:
    return f"step {step}"
