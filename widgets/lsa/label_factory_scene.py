"""The hero of "The label factory": from numbers of every layer to the few chunks that are needed.

One column is one chunk in all rows. Above, a row of bars for each layer: its logits, which shrink
to probabilities of its best chunks, of which the fewest that reach top-p are lit. Below them the
votes of the layers, and the union of what had enough votes, which fills while the window's steps
go by; in the last row everything that any layer had among its best.
"""

from collections.abc import Callable, Iterable
from functools import cached_property, wraps
from typing import Any

import numpy as np
import torch

from intuitive.lsa.experiments.label_factory import CHUNKS, LAYERS, LabelResult

from ..kit import (
    Arithmetic,
    Frame,
    Line,
    Mark,
    Path,
    Readout,
    Rectangle,
    Scene,
    Words,
    chosen,
    fixed,
    percent,
)

WIDTH, HEIGHT = 1000, 372
LEFT, RIGHT = 134, 884  # of the columns
ROW, BAR, FIRST = 20, 16, 40  # pitch and height of a layer's bars, base line of the first
VOTES = (276, 7)  # base line, height of one vote
LABELS, NAIVE, CELL = 296, 338, 22  # tops of the two unions, height of a cell
NONE_YET = "none yet"
STAGES = ("logits", "softmax", "top-p", "votes", "union")
MOST_FRAMES = 18  # of steps after the first


def once(draw: Callable) -> Callable:
    """A method whose answer the stages of one step share."""

    @wraps(draw)
    def kept(self: "Picture", *asked: Any) -> Any:
        key = (draw.__name__, *asked)
        if key not in self.made:
            self.made[key] = draw(self, *asked)
        return self.made[key]

    return kept


class Picture:
    """All frames of one result."""

    def __init__(self, result: LabelResult) -> None:
        self.result, self.params, labels = result, result.params, result.labels
        # Frames look at single numbers thousands of times, at which numpy is quicker than torch.
        self.p, self.nucleus, self.votes, self.golden = (
            part.numpy()
            for part in (labels.probabilities, labels.nucleus, labels.votes, labels.golden)
        )
        self.logits, self.found, self.late, self.naive = (
            part.numpy() for part in (result.logits, result.found, result.late, result.naive)
        )
        self.made: dict[tuple, Any] = {}
        self.there = result.at_trigger
        self.pitch = (RIGHT - LEFT) / CHUNKS
        self.still = self._still()

    def x(self, chunk: int) -> float:
        """Left edge of a chunk's bar."""
        return LEFT + self.pitch * chunk + 0.6

    @cached_property
    def steps(self) -> list[int]:
        """Steps that get a frame: the first few, then evenly spaced ones, and the last."""
        n = self.params.lookahead
        if n <= MOST_FRAMES:
            return list(range(n))
        rest = torch.linspace(8, n - 1, MOST_FRAMES - 7).round().int().tolist()
        return sorted({*range(8), *rest})

    def frames(self) -> tuple[Frame, ...]:
        made = [self._frame(0, stage) for stage in STAGES]
        return (*made, *(self._frame(step, "") for step in self.steps[1:]))

    def _frame(self, step: int, stage: str) -> Frame:
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(self._marks(step, stage))),
            label=f"step {step + 1}",
            stage=stage,
            sentence=self._sentence(step, stage),
            readouts=self.readouts(step, stage),
            arithmetic=self._arithmetic(step, stage),
        )

    def _past(self, stage: str, other: str) -> bool:
        """Whether a frame shows what the stage `other` adds."""
        return not stage or STAGES.index(stage) >= STAGES.index(other)

    def counts(self, step: int) -> tuple[int, int, int]:
        """Golden chunks of this step, labels and the unfiltered union so far."""
        counted = self.golden[step], self.found[step], self.naive[step]
        golden, found, naive = (int(chunks.sum()) for chunks in counted)
        return golden, found, naive

    def readouts(self, step: int, stage: str) -> tuple[Readout, ...]:
        golden, found, naive = self.counts(step)
        if not self._past(stage, "union"):
            return (
                Readout("labels", NONE_YET, link="labels"),
                Readout("every layer's best", NONE_YET, link="naive"),
                Readout("golden now", str(golden) if self._past(stage, "votes") else NONE_YET),
            )
        return (
            Readout("labels", f"{found} of {self.there}", link="labels"),
            Readout("every layer's best", f"{naive} of {self.there}", link="naive"),
            Readout("golden now", str(golden)),
        )

    def _sentence(self, step: int, stage: str) -> str:
        params, (golden, found, naive) = self.params, self.counts(step)
        votes = f"{params.votes} {'vote' if params.votes == 1 else 'votes'}"
        cast = int(self.nucleus[step].sum())
        if stage == "logits":
            return f"One step: {LAYERS} layers, each with a number for every chunk."
        if stage == "softmax":
            return f"In each layer the best {params.top_k} compete in a softmax; the rest is out."
        if stage == "top-p":
            return (
                f"A layer votes for the fewest chunks that together reach {percent(params.top_p)}: "
                f"{cast} votes in all."
            )
        if stage == "votes":
            return f"Of the {self.there} chunks, {golden} have {votes} or more: they are golden."
        done = step + 1 == params.lookahead
        where = f"After {step + 1} steps" if done else f"Step {step + 1} of {params.lookahead}"
        late = int(self.late[step].sum())
        told = f"{where}: {found} of {self.there} chunks are labels; of every layer's best, {naive}"
        return told + (f". {late} were written too late to count." if late and done else ".")

    # -------------------------------------------------------------------------------- marks

    def _still(self) -> list[Mark]:
        """Names, grounds and the line of the trigger."""
        edge, (base, vote) = self.x(self.there) - 1, VOTES
        name = {"x": 8, "size": 13}
        bold = {"x": 8, "size": 14, "bold": True}
        rule = base - vote * self.params.votes
        marks: list[Mark] = [
            Words(key="name:votes", y=base - 34, text="votes of", **bold),
            Words(key="name:votes2", y=base - 16, text="the layers", **bold),
            Words(key="name:labels", y=LABELS + 15, text="labels so far", **bold),
            Words(key="name:naive", y=NAIVE + 9, text="every layer's", **name),
            Words(key="name:naive2", y=NAIVE + 24, text=f"best {self.params.top_k}", **name),
            Rectangle(
                key="late",
                x=edge,
                y=FIRST - 24,
                w=RIGHT - edge,
                h=HEIGHT - FIRST + 18,
                fill="grey",
                opacity=0.12,
                layer=-3,
                words="Chunks that do not exist yet at the trigger: they are never labels.",
                link="late",
            ),
            Words(key="late:name", x=RIGHT + 8, y=34, text="not there yet", size=12),
            Words(key="late:name2", x=RIGHT + 8, y=49, text="at the trigger", size=12),
            Line(key="rule", x=LEFT, x2=RIGHT, y=rule, y2=rule, stroke="ink", dash="5 4", width=1),
            Words(
                key="rule:name",
                x=RIGHT + 8,
                y=rule + 4,
                text=f"{self.params.votes} of {LAYERS}",
                size=13,
            ),
            Line(key="base", x=LEFT, x2=RIGHT, y=base, y2=base, stroke="faint", width=1),
        ]
        for top, key in ((LABELS, "labels"), (NAIVE, "naive")):
            marks.append(
                Rectangle(
                    key=f"ground:{key}",
                    x=LEFT,
                    y=top,
                    w=RIGHT - LEFT,
                    h=CELL,
                    fill="grey",
                    opacity=0.1,
                    layer=-2,
                )
            )
        return marks

    def _marks(self, step: int, stage: str) -> list[Mark]:
        marks = [*self.still]
        rows = stage if stage in STAGES[:2] else stage and "top-p"  # no later stage changes them
        for layer in range(LAYERS):
            marks += self._layer(step, rows, layer)
        if self._past(stage, "votes"):
            marks += self._votes(step)
        if self._past(stage, "union"):
            marks += self._unions(step)
        return marks

    @once
    def _layer(self, step: int, stage: str, layer: int) -> list[Mark]:
        base = FIRST + ROW * layer
        link = f"layer:{layer}"
        logits, p, voted = (part[step, layer] for part in (self.logits, self.p, self.nucleus))
        words = (
            f"Layer {layer + 1}: its {int(voted.sum())} best chunks hold "
            f"{percent(float(p[voted].sum()))}."
        )
        marks: list[Mark] = [
            Words(
                key=f"name:{layer}",
                x=8,
                y=base - 3,
                text=f"layer {layer + 1}",
                size=13,
                link=link,
                words=words if self._past(stage, "top-p") else "",
            ),
            Line(
                key=f"base:{layer}",
                x=LEFT,
                x2=RIGHT,
                y=base,
                y2=base,
                stroke="faint",
                width=1,
                opacity=0.6,
            ),
        ]
        if stage:
            if stage == "logits":
                low = float(logits[: self.there].min())
                heights = (np.maximum(logits, low) - low) / (float(logits.max()) - low)
            else:
                heights = p / p.max()
            marks.append(
                Path(
                    key=f"bars:{layer}",
                    stroke="grey" if stage == "logits" else "purple",
                    width=4,
                    opacity=0.45 if self._past(stage, "top-p") else 0.9,
                    d=self._bars(heights.tolist(), range(CHUNKS), base),
                    layer=-1,
                )
            )
        if self._past(stage, "top-p"):
            chunks = np.flatnonzero(voted).tolist()
            marks.append(
                Path(
                    key=f"voting:{layer}",
                    stroke="blue",
                    width=4.5,
                    link=link,
                    words=words,
                    d=self._bars((p[voted] / p.max()).tolist(), chunks, base),
                )
            )
        return marks

    def _bars(self, heights: list, chunks: Iterable[int], base: int | float) -> str:
        """Upright strokes, one for each chunk."""
        half = self.pitch / 2
        return "".join(
            f"M{LEFT + self.pitch * c + half:.1f},{base}v{-max(BAR * h, 0.01):.1f}"
            for h, c in zip(heights, chunks, strict=True)
        )

    @once
    def _votes(self, step: int) -> list[Mark]:
        base, vote = VOTES
        marks: list[Mark] = []
        for chunk, count in enumerate(self.votes[step].tolist()):
            if not count:
                continue
            golden = count >= self.params.votes
            late = ", but it was not there at the trigger" if chunk >= self.there else ""
            said = f"golden{late}" if golden else "too few"
            marks.append(
                Rectangle(
                    key=f"vote:{chunk}",
                    link=f"chunk:{chunk}",
                    x=self.x(chunk),
                    w=self.pitch - 1.2,
                    y=base - vote * count,
                    h=vote * count,
                    fill="gold" if golden else "blue",
                    opacity=1.0 if golden else 0.4,
                    words=f"Chunk {chunk}: {count} of {LAYERS} layers vote for it: {said}.",
                )
            )
        return marks

    def _unions(self, step: int) -> list[Mark]:
        marks: list[Mark] = []
        found, late, now = self.found[step], self.late[step], self.golden[step]
        for chunk in np.flatnonzero(found | late).tolist():
            label = bool(found[chunk])
            said = "is a label" if label else "was written inside the window: no label"
            marks.append(
                Rectangle(
                    key=f"label:{chunk}",
                    link=f"chunk:{chunk}",
                    x=self.x(chunk),
                    w=self.pitch - 1.2,
                    y=LABELS,
                    h=CELL,
                    fill="gold" if label else "",
                    stroke="" if label else "gold",
                    width=1,
                    opacity=1.0 if bool(now[chunk]) or not label else 0.6,
                    words=f"Chunk {chunk} {said}.",
                )
            )
        naive = np.flatnonzero(self.naive[step]).tolist()
        strokes = "".join(
            f"M{LEFT + self.pitch * (c + 0.5):.1f},{NAIVE + CELL}v{-CELL}" for c in naive
        )
        counts = self.counts(step)
        marks += [
            Path(
                key="naive",
                stroke="purple",
                width=self.pitch - 1.2,
                opacity=0.7,
                d=strokes,
                link="naive",
                words=f"Among the best of any layer in any step: {counts[2]}.",
            ),
            Words(
                key="count:labels",
                x=RIGHT + 8,
                y=LABELS + 17,
                text=str(counts[1]),
                size=20,
                bold=True,
                link="labels",
            ),
            Words(
                key="count:naive",
                x=RIGHT + 8,
                y=NAIVE + 17,
                text=str(counts[2]),
                size=20,
                bold=True,
                link="naive",
            ),
        ]
        return marks

    # --------------------------------------------------------------------------- arithmetic

    def _arithmetic(self, step: int, stage: str) -> dict[str, Arithmetic]:
        lines: dict[str, Arithmetic] = {}
        if self._past(stage, "top-p"):
            lines |= self._sums(step)
        if self._past(stage, "votes"):
            lines |= self._tallies(step)
        return lines

    @once
    def _sums(self, step: int) -> dict[str, Arithmetic]:
        lines = {}
        for layer in range(LAYERS):
            held = np.sort(self.p[step, layer][self.nucleus[step, layer]])[::-1].tolist()
            shown = " + ".join(fixed(value) for value in held[:4])
            rest = f" + … ({len(held)} chunks)" if len(held) > 4 else ""
            lines[f"layer:{layer}"] = Arithmetic(
                text=f"{shown}{rest} = {fixed(sum(held))} ≥ {chosen(self.params.top_p)}"
            )
        return lines

    @once
    def _tallies(self, step: int) -> dict[str, Arithmetic]:
        lines = {}
        for chunk in np.flatnonzero(self.votes[step]).tolist():
            voters = np.flatnonzero(self.nucleus[step, :, chunk]).tolist()
            enough = len(voters) >= self.params.votes
            lines[f"chunk:{chunk}"] = Arithmetic(
                text=f"chunk {chunk}: layers {', '.join(str(v + 1) for v in voters)} = "
                f"{len(voters)} {'≥' if enough else '<'} {self.params.votes}"
            )
        return lines
