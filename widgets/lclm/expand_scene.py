"""The hero of the trace stepper: a text in chunks, what the model sees of it, and one EXPAND.

Top, one box per chunk with its words: black where the decoder may read them, pale where it has
nothing but latents. Below each its latents (shuffled, those of another, which is named), then the
model's own probability of that id as a bar. Then the decoder's ruler to scale, under a ruler of the
raw text; and the answers, before and after, with every character that is right in green.
"""

import textwrap
from dataclasses import dataclass

from intuitive.lclm.experiments.expand import Chunk, ExpandResult

from ..kit import Arithmetic, Frame, Line, Mark, Readout, Rectangle, Scene, Words, percent
from .methods import ASKED, LATENT, RAW, RETURNED, RIGHT, WRONG

Number = int | float

WIDTH, HEIGHT = 1000, 400
LEFT, RIGHT_END = 24, 976
BOXES, BOX_TALL, GAP = 24, 124, 8  # top, height, gap between boxes
BEADS = 158  # first row of latents
BARS, BAR_TALL = 236, 44  # ground line, height of a certain id
RULER = 276
ANSWERS = 358
LINE_TALL, CHARACTER = 13, 6.66  # of the words in a box
STAGES = ("text", "fold", "ask", "answer", "which", "expand", "answer again")
SHUFFLED = ("text", "fold", "shuffle", *STAGES[2:])
OF = 42  # of a row of latents, for the chunk that they are of


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What stands in one frame."""

    stage: str
    sentence: str

    def reached(self, stage: str) -> bool:
        """Whether a stage is over or under way."""
        return SHUFFLED.index(self.stage) >= SHUFFLED.index(stage)


class Picture:
    """All frames of one trace."""

    def __init__(self, result: ExpandResult) -> None:
        self.result = result
        n = len(result.chunks)
        self.pitch = (RIGHT_END - LEFT + GAP) / n
        self.wide = self.pitch - GAP
        self.unit = (RIGHT_END - LEFT - 165) / max(
            result.positions_raw, result.positions_before, result.positions_after
        )

    def frames(self) -> tuple[Frame, ...]:
        return tuple(
            Frame(
                scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(self._marks(moment))),
                label=moment.stage,
                sentence=moment.sentence,
                readouts=self.readouts(moment),
            )
            for moment in self.moments()
        )

    def moments(self) -> tuple[Moment, ...]:
        result = self.result
        n, chosen = len(result.chunks), result.at(result.chosen)
        held = "which holds it" if result.chosen == result.holder else "which does not hold it"
        told = {
            "text": f"{n} chunks, {result.positions_raw} positions if all is read as it is.",
            "fold": f"Each run of {result.params.ratio} tokens becomes one latent: the decoder "
            f"reads {result.positions_before} positions.",
            "shuffle": "The latents trade places among the ids, the words keep theirs. Beside each "
            "row stands the chunk that it was made of.",
            "ask": f"The question stays raw: “{result.question}”",
            "answer": f"From latents alone the model says “{result.before}”; right would be "
            f"“{result.answer}”.",
            "which": f"Asked which chunk it needs, it gives {percent(chosen.share)} to id "
            f"{result.chosen}, {held}.{self._whose(chosen)}",
            "expand": self._returned(),
            "answer again": f"Now it says “{result.after}”.",
        }
        stages = SHUFFLED if result.params.shuffled else STAGES
        return tuple(Moment(stage=stage, sentence=told[stage]) for stage in stages)

    def _whose(self, chosen: Chunk) -> str:
        """Whose latents it named, where that is another's."""
        if not self.result.params.shuffled:
            return ""
        (at,) = (one.id for one in self.result.chunks if one.latents_of == self.result.holder)
        if at == chosen.id:
            return f" Under it stand the latents of chunk {self.result.holder}, which does."
        return f" The latents of chunk {self.result.holder}, which does, stand under id {at}."

    def _returned(self) -> str:
        result = self.result
        if not result.expanded:
            return f"Nothing comes back: no chunk fits into room for {result.params.room} tokens."
        ids = ", ".join(map(str, result.expanded))
        tokens = sum(result.at(one).n_tokens for one in result.expanded)
        return (
            f"EXPAND({ids}) puts {tokens} raw tokens behind the latents: {result.positions_after} "
            "positions."
        )

    def readouts(self, moment: Moment) -> tuple[Readout, ...]:
        result = self.result
        after, before = moment.reached("expand"), moment.reached("fold")
        positions = result.positions_raw
        if before:
            positions = result.positions_after if after else result.positions_before
        right = "–"
        if moment.reached("answer"):
            said = result.after if moment.reached("answer again") else result.before
            right = f"{matching(said, result.answer)} of {len(result.answer)}"
        which = "–"
        if moment.reached("which"):
            which = f"{result.chosen}, {percent(result.at(result.chosen).share)}"
        return (
            Readout("decoder positions", str(positions), link="ruler"),
            Readout("chunk named", which, link=f"chunk:{result.chosen}"),
            Readout("characters right", right, link="answer"),
        )

    # ------------------------------------------------------------------------------- marks

    def _marks(self, moment: Moment) -> list[Mark]:
        marks: list[Mark] = []
        for chunk in self.result.chunks:
            marks += self._chunk(chunk, moment)
        return [*marks, *self._rulers(moment), *self._answers(moment)]

    def _left(self, chunk: Chunk) -> float:
        return LEFT + (chunk.id - 1) * self.pitch

    def _chunk(self, chunk: Chunk, moment: Moment) -> list[Mark]:
        result, x, link = self.result, self._left(chunk), f"chunk:{chunk.id}"
        folded, named = moment.reached("fold"), moment.reached("which")
        mine = named and chunk.id == result.chosen
        back = chunk.id in result.expanded and moment.reached("expand")
        words = f"Chunk {chunk.id}: {chunk.n_tokens} tokens, {chunk.n_latents} latents" + (
            "; it holds the answer." if chunk.id == result.holder else "."
        )
        marks: list[Mark] = [
            Words(
                key=f"id:{chunk.id}",
                x=x,
                y=BOXES - 8,
                text=f"[{chunk.id}]",
                size=14,
                bold=True,
                link=link,
                fill=ASKED if mine else "ink",
            ),
            Rectangle(
                key=f"box:{chunk.id}",
                x=x,
                y=BOXES,
                w=self.wide,
                h=BOX_TALL,
                corner=4,
                stroke=RETURNED if back else ASKED if mine else "faint",
                width=2.5 if mine or back else 1,
                link=link,
                words=words,
            ),
        ]
        marks += self._text(chunk, clear=not folded or back, back=back)
        if folded:
            marks += self._beads(chunk, moved=moment.reached("shuffle"))
        if named:
            marks += self._bar(chunk, mine=mine)
        return marks

    def _text(self, chunk: Chunk, *, clear: bool, back: bool) -> list[Mark]:
        """The words of a chunk, the lines that hold the answer among them."""
        marks: list[Mark] = []
        for i, (line, holds) in enumerate(self._lines(chunk)):
            if holds and self.result.holder == chunk.id:
                fill = RETURNED if back else "ink" if clear else "grey"
            else:
                fill = "ink" if clear else "grey"
            marks.append(
                Words(
                    key=f"line:{chunk.id}:{i}",
                    x=self._left(chunk) + 6,
                    y=BOXES + 15 + i * LINE_TALL,
                    text=line,
                    mono=True,
                    size=11,
                    bold=holds,
                    fill=fill,
                    opacity=1.0 if clear else 0.45,
                    link=f"chunk:{chunk.id}",
                )
            )
        return marks

    def _lines(self, chunk: Chunk) -> list[tuple[str, bool]]:
        """Lines that fit into a box, and whether each has a part of the fact; the rest is dots."""
        room = int((self.wide - 12) / CHARACTER)
        rows = (BOX_TALL - 10) // LINE_TALL
        start, end = chunk.fact or (0, 0)
        if not chunk.fact:
            lines = textwrap.wrap(" ".join(chunk.text.split()), room)
            cut = [*lines[: rows - 1], "…"] if len(lines) > rows else lines
            return [(line, False) for line in cut]
        before = textwrap.wrap(" ".join(chunk.text[:start].split()), room)
        fact = textwrap.wrap(" ".join(chunk.text[start:end].split()), room)[:rows]
        after = textwrap.wrap(" ".join(chunk.text[end:].split()), room)
        spare = max(rows - len(fact), 0)
        first = before[: max(spare // 2, spare - len(after))]
        if len(first) < len(before) and first:
            first[-1] = first[-1][: room - 1] + "…"
        rest = after[: spare - len(first)]
        return [(x, False) for x in first] + [(x, True) for x in fact] + [(x, False) for x in rest]

    def _beads(self, chunk: Chunk, *, moved: bool) -> list[Mark]:
        """One disc per latent, in rows: below the chunk that they are of until they have moved."""
        n, whose, shuffled = chunk.n_latents, chunk.latents_of, self.result.params.shuffled
        room = self.wide - OF * shuffled
        pitch = min(11.0, max(5.0, room / max(-(-n // 3), 1)))
        across = max(int(room // pitch), 1)
        size = min(pitch - 1.5, 8.0)
        place = chunk if moved else self.result.at(whose)
        under = f", under id {chunk.id}" if moved and shuffled else ""
        marks: list[Mark] = [
            Rectangle(
                key=f"bead:{whose}:{i}",
                x=self._left(place) + (i % across) * pitch,
                y=BEADS + (i // across) * pitch,
                w=size,
                h=size,
                corner=size / 2,
                fill=LATENT,
                link=f"chunk:{place.id}",
                words=f"Latent {i + 1} of chunk {whose}, of {self.result.params.ratio} tokens"
                f"{under}.",
            )
            for i in range(n)
        ]
        if shuffled:
            marks.append(
                Words(
                    key=f"of:{whose}",
                    x=self._left(place) + self.wide,
                    y=BEADS + 8,
                    text=f"of [{whose}]",
                    anchor="end",
                    size=12,
                    bold=whose == self.result.holder,
                    link=f"chunk:{place.id}",
                )
            )
        return marks

    def _bar(self, chunk: Chunk, *, mine: bool) -> list[Mark]:
        x, link = self._left(chunk), f"chunk:{chunk.id}"
        tall, middle = max(BAR_TALL * chunk.share, 1), x + self.wide / 2
        marks: list[Mark] = [
            Rectangle(
                key=f"share:{chunk.id}",
                x=x + self.wide / 2 - 16,
                y=BARS - tall,
                w=32,
                h=tall,
                fill=ASKED,
                opacity=1.0 if mine else 0.55,
                link=link,
                words=f"Id {chunk.id} gets {percent(chunk.share, 1)} of the probability of all "
                "ids.",
            ),
            Words(
                key=f"share:text:{chunk.id}",
                x=middle,
                y=BARS - tall - 5,
                text=percent(chunk.share),
                anchor="middle",
                size=13,
                bold=mine,
                link=link,
            ),
        ]
        told = [
            text
            for text, at in (
                ("holds it", self.result.holder),
                ("search finds it", self.result.lexical),
            )
            if at == chunk.id
        ]
        if told:
            marks.append(
                Words(
                    key=f"told:{chunk.id}",
                    x=middle,
                    y=BARS + 15,
                    text=" · ".join(told),
                    anchor="middle",
                    size=12,
                    fill=RIGHT if chunk.id == self.result.holder else "ink",
                )
            )
        return marks

    def _rulers(self, moment: Moment) -> list[Mark]:
        """Positions of the raw text, and what the decoder reads now, on one scale."""
        result = self.result
        marks: list[Mark] = [
            Line(
                key="raw",
                x=LEFT,
                x2=LEFT + result.positions_raw * self.unit,
                y=RULER - 12,
                y2=RULER - 12,
                stroke=RAW,
                width=3,
                opacity=0.6,
            ),
            Words(
                key="raw:text",
                x=LEFT + result.positions_raw * self.unit + 8,
                y=RULER - 8,
                text=f"{result.positions_raw} raw",
                size=13,
            ),
        ]
        parts = [("text", RAW, result.positions_raw)]
        if moment.reached("fold"):
            latents = sum(chunk.n_latents for chunk in result.chunks)
            rest = result.positions_before - latents - result.positions_question
            parts = [("latents", LATENT, latents), ("tags, ids", "grey", rest)]
            if moment.reached("expand"):
                back = result.positions_after - result.positions_before
                parts.append(("came back", RETURNED, back))
            if moment.reached("ask"):
                parts.append(("question", ASKED, result.positions_question))
        x, total = LEFT, sum(count for _, _, count in parts)
        for name, colour, count in parts:
            marks.append(
                Rectangle(
                    key=f"ruler:{name}",
                    x=x,
                    y=RULER,
                    w=max(count * self.unit, 0.5),
                    h=20,
                    fill=colour,
                    link="ruler",
                    words=f"{name}: {count} positions.",
                )
            )
            if count * self.unit > 6.4 * len(name) + 8:
                marks.append(
                    Words(
                        key=f"named:{name}",
                        x=x + count * self.unit / 2,
                        y=RULER + 34,
                        text=name,
                        anchor="middle",
                        size=11,
                    )
                )
            x += count * self.unit
        marks.append(
            Words(
                key="ruler:total",
                x=x + 8,
                y=RULER + 15,
                text=f"{total} for the decoder",
                size=13,
                bold=True,
                link="ruler",
            )
        )
        return marks

    def _answers(self, moment: Moment) -> list[Mark]:
        result, marks = self.result, []
        if moment.reached("ask"):
            marks.append(
                Words(
                    key="question",
                    x=LEFT,
                    y=ANSWERS - 18,
                    text=result.question,
                    fill=ASKED,
                    bold=True,
                    size=14,
                )
            )
        ids = ", ".join(map(str, result.expanded))
        back = f"chunk{'s' * (len(result.expanded) > 1)} {ids}" if ids else "nothing"
        for key, stage, name, said, x in (
            ("before", "answer", "from latents alone", result.before, LEFT),
            ("after", "answer again", f"with {back} raw", result.after, 0.36 * WIDTH),
            ("oracle", "answer again", "with the right chunk raw", result.oracle, 0.68 * WIDTH),
        ):
            if moment.reached(stage):
                marks += self._said(key, name, said, x)
        return marks

    def _said(self, key: str, name: str, said: str, x: Number) -> list[Mark]:
        """An answer by its characters: green is right, struck grey is wrong."""
        result = self.result
        marks: list[Mark] = [Words(key=f"{key}:name", x=x, y=ANSWERS + 8, text=name, size=13)]
        for i, character in enumerate(said[:40]):
            right = i < len(result.answer) and character == result.answer[i]
            marks.append(
                Words(
                    key=f"{key}:{i}",
                    x=x + i * 11,
                    y=ANSWERS + 30,
                    text=character,
                    mono=True,
                    bold=right,
                    size=17,
                    fill=RIGHT if right else WRONG,
                    link="answer",
                    words=f"Character {i + 1} is {'right' if right else 'wrong'}.",
                )
            )
        return marks

    # -------------------------------------------------------------------------- arithmetic

    def arithmetic(self) -> dict[str, Arithmetic]:
        result = self.result
        chosen = result.at(result.chosen)
        spent = result.positions_before + result.positions_after
        lines = {
            "ruler": Arithmetic(
                text=f"two rounds: {result.positions_before} + {result.positions_after} = {spent} "
                f"positions; raw text: {result.positions_raw}"
            ),
            f"chunk:{result.chosen}": Arithmetic(
                text=f"{chosen.n_tokens} tokens at {result.params.ratio}: {chosen.n_latents} "
                f"latents + 2 tags + id"
            ),
        }
        return lines


def matching(said: str, answer: str) -> int:
    """How many characters of the answer stand where they should."""
    return sum(a == b for a, b in zip(said, answer, strict=False))
