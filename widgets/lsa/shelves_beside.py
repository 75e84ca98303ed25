"""What stands around the shelves: the word, the gauge, the link, the strip of time, the text."""

from functools import cached_property

import numpy as np

from ..kit import Arrow, Line, Mark, Path, Rectangle, Words, percent
from .shelves_words import Account, size_text

Number = int | float

WIDTH, HEIGHT = 1000, 436
LEFT, RIGHT = 128, 992  # ends of the shelves
PEN, PEN_FOOT = 520, 31  # middle and foot of the box with the token that is being written
UP, DOWN = 74, 235  # tops of the books on the two shelves
TALL, BOARD = 74, 16
STRIP, STRIP_TALL = 350, 28
ROWS = (412, 430)  # base lines of what has been written
GAUGE = 8  # left of the shelves: a narrow page shows the numbers without being scrolled
MONO = 0.602  # width of a letter of the monospaced type, by its size
PEN_SIZE, ROW_SIZE, SMALL = 15, 13, 12
CONTEXT = 46  # letters before the token
ASIDE = 260  # room for a note under the strip
UNKNOWN = 9  # empty boxes that stand for the tokens to come
LETTER = 6.4  # width of a small letter, about
GROUND, BARS, VEIL, BOOKS, GLOW, THREADS, FRONT = range(7)


class Beside:
    """The marks beside the books, moment by moment."""

    def __init__(self, say: Account) -> None:
        self.say, self.measures, self.recording = say, say.measures, say.recording
        self.n_steps = say.n_steps

    def time_x(self, step: Number) -> Number:
        """Where a step begins on the strip."""
        return LEFT + (RIGHT - LEFT) * step / self.n_steps

    @cached_property
    def still(self) -> tuple[Mark, ...]:
        """What does not change: boards, gauges, the strip."""
        size, say = self.recording.chunk_size, self.say
        reads = say.is_masked or say.keeps_all
        here = "attention reads only what stands here" if reads else "what is at hand"
        boards = (
            ("gpu", UP, f"GPU memory: {here}"),
            ("cpu", DOWN, f"CPU memory: every chunk of {size} tokens; dashed: on the GPU too"),
        )
        marks: list[Mark] = []
        for name, top, text in boards:
            y = top + TALL + 1
            box = {"x": LEFT - 4, "y": y, "w": RIGHT - LEFT + 8, "h": BOARD, "corner": 2}
            look = {"fill": "faint", "stroke": "faint", "width": 1}
            marks.append(Rectangle(key=f"board:{name}", layer=VEIL, **box, **look))
            look = {"size": SMALL, "bold": True, "layer": FRONT}
            marks.append(Words(key=f"board:{name}:name", x=LEFT + 4, y=y + 12, text=text, **look))
        tube = {"x": GAUGE, "w": 18, "h": TALL, "corner": 3, "stroke": "faint", "width": 1.2}
        marks += [
            Rectangle(key="gauge", y=UP, **tube),
            Rectangle(key="gauge:cpu", y=DOWN, fill="grey", opacity=0.5, **tube),
        ]
        at = {"x": GAUGE + 24, "size": SMALL}
        marks.append(Words(key="gauge:cpu:name", y=DOWN + 29, text="everything", **at))
        return (*marks, *self._strip(), *self._sections())

    # ------------------------------------------------------------------------------- the strip

    def _strip(self) -> list[Mark]:
        """Attention on needed old chunks, step by step: what was found, what was missed."""
        found, wanted = self.measures.found, self.measures.wanted
        high, foot = max(float(wanted.max()), 1e-9), STRIP + STRIP_TALL
        w = (RIGHT - LEFT) / self.n_steps
        parts: dict[str, list[str]] = {"found": [], "missed": []}
        for step in np.flatnonzero(wanted).tolist():
            x = self.time_x(step)
            tall = STRIP_TALL * float(found[step]) / high
            rest = STRIP_TALL * float(wanted[step] - found[step]) / high
            for name, bottom, part in (("found", foot, tall), ("missed", foot - tall, rest)):
                if part > 0.2:
                    bar = f"M{x:.1f},{bottom:.1f}v-{part:.1f}h{w:.1f}v{part:.1f}z"
                    parts[name].append(bar)
        marks: list[Mark] = [
            Path(
                key=f"strip:{name}",
                d="".join(d),
                fill=colour,
                layer=GROUND,
                link="found" if name == "found" else "",
                words=f"Token by token, the attention on needed old chunks that was {name}.",
            )
            for (name, d), colour in zip(parts.items(), ("green", "vermilion"), strict=True)
        ]
        look = {"stroke": "faint", "width": 1, "layer": VEIL}
        marks.append(Line(key="strip:foot", x=LEFT, y=foot, x2=RIGHT, y2=foot, **look))
        look = {"stroke": "purple", "width": 1.2, "dash": "3 3", "layer": THREADS}
        for trigger in self.say.triggers:
            x = self.time_x(trigger)
            marks.append(Line(key=f"trigger:{trigger}", x=x, y=STRIP - 2, x2=x, y2=foot, **look))
        at = {"x": GAUGE, "size": SMALL}
        bold = {"bold": True, **at}
        marks += [
            Words(key="strip:name", y=STRIP + 2, text=f"scale: {percent(high)}", **at),
            Words(key="strip:green", y=STRIP + 16, text="found", fill="green", **bold),
            Words(key="strip:red", y=STRIP + 30, text="or missed", fill="vermilion", **bold),
        ]
        return marks

    def _sections(self) -> list[Mark]:
        """Names of the text's sections under the strip, where there is room."""
        marks: list[Mark] = []
        free = 0.0
        for start, title in self.say.sections:
            x, look = self.time_x(start), {"size": SMALL, "fill": "faint"}
            wide = LETTER * len(title)
            if x >= free and x + wide < WIDTH:
                y = STRIP + STRIP_TALL + 14
                marks.append(Words(key=f"section:{start}", x=x, y=y, text=title, **look))
                free = x + wide + 10
        return marks

    # ------------------------------------------------------------------------------- moments

    def moment(self, there: np.ndarray, step: int, stage: str, before: int) -> list[Mark]:
        """All that changes beside the books.

        Args:
            there: chunks on the GPU.
            step, stage: of the frame; the stage is empty where a token is written.
            before: last step that was drawn as written, -1 for none.
        """
        return [
            *self._gauge(there, step),
            *self._link(*self.say.copied(step, stage, before)),
            *(self._unwritten(step) if stage else self._pen(step, self.say.writing.token(step))),
            *self._time(step, waits=bool(stage)),
            *self._parted(step - bool(stage)),
        ]

    def _gauge(self, there: np.ndarray, step: int) -> list[Mark]:
        share = self.say.share(there, step)
        tall, at = TALL * share, {"x": GAUGE + 24, "layer": FRONT}
        y = min(max(UP + TALL - tall + 5, UP + 14), UP + TALL - 16)
        box = {"x": GAUGE, "y": UP + TALL - tall, "w": 18, "h": tall, "corner": 3}
        words = self.say.memory_words(there, step)
        whole = size_text(self.say.closed[step] * self.measures.chunk_bytes)
        return [
            Words(key="gauge:cpu:all", x=GAUGE + 24, y=DOWN + 14, text=whole, size=SMALL),
            Rectangle(key="gauge:on", fill="blue", link="memory", words=words, layer=BARS, **box),
            Words(key="gauge:share", y=y, text=percent(share), size=15, bold=True, **at),
            Words(key="gauge:of", y=y + 14, text="of all", size=SMALL, **at),
        ]

    def _link(self, copied: int, since: str) -> list[Mark]:
        """The way up, as wide as what goes over it."""
        width = 2 + 9 * min(copied / self.say.most_copied, 1) if copied else 1.2
        low, high = DOWN - 6, UP + TALL + BOARD + 6
        middle, at = (low + high) / 2, {"x": GAUGE + 24, "layer": FRONT}
        colour = "gold" if copied else "faint"
        text = size_text(copied * self.measures.chunk_bytes) if copied else "nothing"
        look = {"size": 13, "bold": True, "fill": "gold" if copied else "ink"}
        small = {"size": SMALL}
        return [
            Arrow(
                key="link",
                x=GAUGE + 9,
                y=low,
                x2=GAUGE + 9,
                y2=high,
                stroke=colour,
                width=width,
                head=8 + width,
                link="moved",
                words=self.say.link_words(copied, since),
                layer=BARS,
            ),
            Words(key="link:size", y=middle, text=text, **look, **at),
            *(
                Words(key=f"link:name:{row}", y=middle + 14 + 14 * row, text=text, **small, **at)
                for row, text in enumerate(since.rsplit(" ", 1))
            ),
        ]

    def _pen(self, step: int, token: str) -> list[Mark]:
        """The token that is being written, after what came before it."""
        w = PEN_SIZE * MONO * len(token) + 14
        past = {"size": ROW_SIZE, "mono": True, "fill": "faint", "anchor": "end"}
        text = self.say.writing.before(step, CONTEXT)
        box = {"x": PEN - w / 2, "y": PEN_FOOT - 24, "w": w, "h": 24, "corner": 4}
        look = {"fill": "page", "stroke": "ink", "width": 1.6, "layer": FRONT}
        word = {"size": PEN_SIZE, "mono": True, "bold": True, "anchor": "middle", "layer": FRONT}
        return [
            Words(key="past", x=PEN - w / 2 - 6, y=PEN_FOOT - 7, text=text, **past),
            Rectangle(key="pen", dash="" if token != "?" else "3 3", **box, **look),
            Words(key="pen:token", x=PEN, y=PEN_FOOT - 7, text=token, **word),
        ]

    def _unwritten(self, step: int) -> list[Mark]:
        """The tokens that a trigger serves, which nobody has seen yet."""
        n = self.say.served(step)
        shown, left = min(n, UNKNOWN), PEN + 20
        boxes = "".join(f"M{left + 22 * i},{PEN_FOOT - 19}h16v14h-16z" for i in range(shown))
        look = {"stroke": "faint", "width": 1, "dash": "2 2"}
        text = f"{n} tokens that nobody knows yet"
        at = {"x": left + 22 * shown + 4, "y": PEN_FOOT - 7}
        return [
            *self._pen(step, "?"),
            Path(key="unknown", d=boxes, **look),
            Words(key="unknown:name", text=text, size=SMALL, fill="faint", **at),
        ]

    def _parted(self, last: int) -> list[Mark]:
        """Where the words are no longer those with all at hand, once that is written."""
        if not self.say.is_astray(last):
            return []
        first = self.say.parted or 0
        x, foot = self.time_x(first), STRIP + STRIP_TALL
        veil = {"x": x, "y": STRIP - 2, "w": self.time_x(last + 1) - x, "h": STRIP_TALL + 2}
        line = {"x": x, "y": STRIP - 4, "x2": x, "y2": foot + 4, "stroke": "vermilion"}
        at = {"x": min(max(x, LEFT + ASIDE), WIDTH - ASIDE), "y": foot + 14}
        text = f"from step {first} on, another text"
        told = {"link": "parted", "words": f"{text}: green and orange are what that one needs."}
        look = {"size": SMALL, "bold": True, "fill": "vermilion", "layer": FRONT}
        return [
            Rectangle(key="parted:veil", fill="page", opacity=0.6, layer=BARS, **veil),
            Line(key="parted", width=2, layer=THREADS, **line, **told),
            Words(key="parted:name", text=text, **at, **look),
        ]

    def _time(self, step: int, *, waits: bool) -> list[Mark]:
        """What of the strip is still to come, and the text that has been written."""
        x, foot = self.time_x(step if waits else step + 1), STRIP + STRIP_TALL
        rest = {"x": x, "y": STRIP - 2, "w": max(RIGHT - x, 0) + 2, "h": STRIP_TALL + 4}
        now = {"x": x, "y": STRIP - 4, "x2": x, "y2": foot + 4, "stroke": "ink", "width": 2}
        marks: list[Mark] = [
            Rectangle(key="to come", fill="page", layer=BARS, **rest),
            Line(key="now", layer=FRONT, **now),
        ]
        rows = self.say.writing.rows(step, waits=waits)
        for row, y in zip(rows, ROWS[-len(rows) :] if len(rows) > 1 else ROWS, strict=False):
            look = {"x": GAUGE, "mono": True, "size": ROW_SIZE}
            marks.append(Words(key=f"row:{row.number}", y=y, text=row.text, **look))
            if row.lit:
                start, length = row.lit
                w = ROW_SIZE * MONO
                box = {"x": GAUGE + w * start - 2, "y": y - 12.5, "w": w * length + 4, "h": 17}
                look = {"corner": 3, "fill": "gold", "opacity": 0.45, "layer": GROUND}
                marks.append(Rectangle(key="lit", **box, **look))
        return marks
