"""The hero of "Training replay": the recall task itself as a strip, step by step of training.

A column is a block of four tokens: a pair is a key and its value, such as 47b, a question is a key
with "?". Arcs lead from the chosen question to where its attention lies, blue what is read, grey
what is missed; the golden frame is the block that holds the answer. Below, what each group wants
and what its index picks.
"""

import functools

import numpy as np

from intuitive.msa.experiments.training_replay import ReplayResult, questions
from intuitive.msa.recall import Example, Snapshot

from ..kit import Arithmetic, Frame, Line, Mark, Path, Readout, Rectangle, Scene, Words, fixed

Number = int | float

WIDTH, HEIGHT = 1000, 404
LEFT, RIGHT = 92, 992
STRIP, ROW = 124, 20  # top of the strip, height of a token
LETTERS = 13  # three of one width fit into the narrowest block
LANES = (224, 306)  # tops of the groups' lanes
TALL, PICK = 50, 9  # height of a whole attention, of a picked mark
READ = "sky"  # of the blues the one that is clear in both themes
VALUES = "abcdefghijklmnopqrstuvwxyzABCDEF"
RIGHT_ANSWER, WRONG_ANSWER = "✓", "✗"
FOLDED = 64
LEAST = 0.02  # shares of attention below it are not drawn as an arc


def folded(here: int, n_blocks: int) -> Number:
    """Width left to the blocks that are not yet written: they tell nothing, so they get little."""
    return min(FOLDED, (RIGHT - LEFT) / n_blocks * (n_blocks - here - 1))


def pitch_of(here: int, n_blocks: int) -> Number:
    """From block to block, of those that are written when the question in block `here` is asked."""
    return (RIGHT - LEFT - folded(here, n_blocks)) / (here + 1)


class Picture:
    """All frames of one arm and question."""

    def __init__(self, found: ReplayResult) -> None:
        self.found, self.run = found, found.run
        self.example: Example = found.run.example
        self.question = found.params.question
        self.size = found.run.config.msa.block_size
        self.n_blocks = len(self.example.keys) // self.size
        self.here = self.question // self.size  # the block of the question
        self.target = found.block_of_answer
        self.pitch = pitch_of(self.here, self.n_blocks)
        self.how = found.run.config.how
        self.names = key_names(self.example)
        self._looked_at: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def _at(self, shot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
        """The question's attention and picks, by group and block."""
        if shot.step not in self._looked_at:
            rows = shot.teacher()[:, self.question], shot.selected()[:, self.question]
            self._looked_at[shot.step] = rows
        return self._looked_at[shot.step]

    # ------------------------------------------------------------------------------- places

    def x(self, block: Number) -> Number:
        return LEFT + self.pitch * block

    def centre(self, block: int) -> Number:
        return self.x(block + 0.5)

    def frames(self) -> tuple[Frame, ...]:
        still = _still(self.question, self.size, self.example)
        return tuple(
            Frame(
                scene=Scene(
                    width=WIDTH,
                    height=HEIGHT,
                    marks=(
                        *still,
                        *self._asked(shot),
                        *self._blocks(shot),
                        *self._arcs(shot),
                        *self._answers(shot),
                        *self._lanes(shot),
                    ),
                ),
                label=f"step {shot.step}",
                sentence=self.sentence(shot),
                readouts=self.readouts(shot),
                arithmetic=self._arithmetic(shot),
            )
            for shot in self.run.snapshots
        )

    # --------------------------------------------------------------------------------- words

    def said(self, shot: Snapshot) -> str:
        return VALUES[shot.answered[self.question]]

    def right(self, shot: Snapshot) -> bool:
        return shot.answered[self.question] == self.example.answers[self.question]

    def picks(self, shot: Snapshot) -> int:
        """How many groups pick the block with the answer."""
        return int(self._at(shot)[1][:, self.target].sum())

    def sentence(self, shot: Snapshot) -> str:
        groups = shot.shape[0]
        picked = {0: "no group", groups: "both groups"}.get(self.picks(shot), "one group")
        does = {"index": "picks", "window": "reads"}.get(self.how.reads, "")
        does = does.removesuffix("s") if picked == "both groups" else does
        verdict = "right" if self.right(shot) else "wrong"
        told = f"Step {shot.step}: "
        if self.how.reads == "all":
            told += "everything is read, as always in this arm"
        elif shot.reads_all:
            told += f"everything is read (warm-up); {picked} would {does.rstrip('s')} the answer's"
            told += " block"
        else:
            told += f"only selected blocks are read; {picked} {does} the answer's block"
        return f"{told}. The model says “{self.said(shot)}”, {verdict}."

    def readouts(self, shot: Snapshot) -> tuple[Readout, ...]:
        here = self.run.at(shot.step)

        def told(value: float | None) -> str:
            return "–" if value is None else fixed(value, 2)

        return (
            Readout(f"accuracy, seed {self.run.seed}", told(here.accuracy)),
            Readout("answer's block picked", told(here.needle_selected)),
            Readout(
                "mass captured · at questions",
                f"{told(here.mass_captured)} · {told(here.mass_at_queries)}",
            ),
        )

    # -------------------------------------------------------------------------------- marks

    def _asked(self, shot: Snapshot) -> list[Mark]:
        key, right = self.names[self.example.keys[self.question]], self.right(shot)
        answer = VALUES[self.example.answers[self.question]]
        mark = RIGHT_ANSWER if right else WRONG_ANSWER
        says = f"the model says “{self.said(shot)}” {mark}"
        return [
            Words(
                key="asked",
                x=8,
                y=18,
                text=f"“{key}?” asks for the value beside key {key}: it is “{answer}”, in block "
                f"{self.target}",
                size=15,
                bold=True,
            ),
            Words(
                key="says",
                x=RIGHT,
                y=18,
                anchor="end",
                text=says,
                size=15,
                bold=True,
                fill="ink" if right else "vermilion",
            ),
        ]

    def _state(self, shot: Snapshot, block: int) -> str:
        """What becomes of a block in the strip: "read", "local", "skipped" or "future"."""
        if block > self.here:
            return "future"
        if shot.reads_all or self._at(shot)[1][:, block].any():
            return "local" if block == self.here else "read"
        return "skipped"

    def _blocks(self, shot: Snapshot) -> list[Mark]:
        marks: list[Mark] = []
        share = self._shares(shot)
        for block in range(self.here + 1):
            state = self._state(shot, block)
            fill = {"read": READ, "local": "green", "skipped": "grey"}[state]
            marks.append(
                Rectangle(
                    key=f"block:{block}",
                    link=f"block:{block}",
                    words=(
                        f"Block {block}: {state if state != 'local' else 'read, the local block'}; "
                        f"it holds {fixed(float(share[block]))} of the attention, mean of both "
                        "groups."
                    ),
                    x=self.x(block) + 1,
                    y=STRIP,
                    w=self.pitch - 2,
                    h=ROW * self.size + 4,
                    fill=fill,
                    opacity=0.12 if state == "skipped" else 0.34,
                    corner=3,
                    layer=-2,
                )
            )
        return marks

    def _shares(self, shot: Snapshot) -> np.ndarray:
        """Attention on each block, mean of both groups."""
        return self._at(shot)[0].mean(0)

    def _arcs(self, shot: Snapshot) -> list[Mark]:
        """Attention from the question to each block, as wide as its share; read or missed."""
        teacher, picked = self._at(shot)
        reads = picked | shot.reads_all
        parts = {
            "read": (teacher * reads).mean(0),
            "missed": (teacher * ~reads).mean(0),
        }
        marks: list[Mark] = []
        for block in range(self.here):
            for name, shares in parts.items():
                if shares[block] < LEAST:
                    continue
                marks.append(
                    Path(
                        key=f"{name}:{block}",
                        link=f"block:{block}",
                        d=self._arc(block),
                        stroke=READ if name == "read" else "grey",
                        width=1 + 22 * float(shares[block]),
                        dash="" if name == "read" else "5 4",
                        opacity=0.75,
                        layer=-1,
                    )
                )
        return marks

    def _arc(self, block: int) -> str:
        start, end = self.centre(self.here), self.centre(block)
        top = STRIP - 4 - 104 * (0.25 + 0.75 * (self.here - block) / self.n_blocks)
        return (
            f"M{start:.1f},{STRIP - 2}C{start:.1f},{top:.1f} {end:.1f},{top:.1f} "
            f"{end:.1f},{STRIP - 2}"
        )

    def _answers(self, shot: Snapshot) -> list[Mark]:
        """The questions, each with whether the model answers it at this step."""
        marks: list[Mark] = []
        asked = [token for token, value in enumerate(self.example.values) if value < 0]
        choosable = set(questions())
        for token in asked:
            block, row = divmod(token, self.size)
            if block > self.here:
                continue
            right = shot.answered[token] == self.example.answers[token]
            future = token > self.question
            sign = "?" if future else RIGHT_ANSWER if right else WRONG_ANSWER
            ours, name = token == self.question, self.names[self.example.keys[token]]
            marks.append(
                Words(
                    key=f"token:{token}",
                    x=self.centre(block),
                    y=STRIP + ROW * row + 16,
                    text=f"{name}{sign}",
                    anchor="middle",
                    size=LETTERS,
                    mono=True,
                    bold=ours,
                    fill="purple" if ours else "ink" if right or future else "vermilion",
                    opacity=0.4 if future else 1.0,
                    link=f"token:{token}",
                    words=(
                        f"A question: which value stands beside key {name}? "
                        f"At this step the model is {'right' if right else 'wrong'}."
                    ),
                    click={"question": token} if token in choosable else None,
                    layer=1,
                )
            )
        return marks

    def _lanes(self, shot: Snapshot) -> list[Mark]:
        teacher, selected = self._at(shot)
        indexed = self.how.reads != "all"
        marks: list[Mark] = []
        for group, top in enumerate(LANES):
            floor = top + TALL
            for block in range(self.here + 1):
                share, picked = float(teacher[group, block]), bool(selected[group, block])
                read = picked or shot.reads_all
                place = {"x": self.x(block) + 3, "w": self.pitch - 6}
                link = f"block:{block}"
                marks.append(
                    Rectangle(
                        key=f"share:{group}:{block}",
                        link=link,
                        y=floor - max(TALL * share, 0.5),
                        h=max(TALL * share, 0.5),
                        fill=READ if read else "grey",
                        opacity=0.9 if read else 0.5,
                        words=f"Group {group} gives block {block} {fixed(share)} of its attention.",
                        **place,
                    )
                )
                if indexed and picked:
                    marks.append(
                        Rectangle(
                            key=f"pick:{group}:{block}",
                            link=link,
                            y=floor + 4,
                            h=PICK,
                            fill="green" if block == self.here else READ,
                            corner=2,
                            words=f"Group {group} picks block {block}.",
                            **place,
                        )
                    )
            share = float(teacher[group, self.target])
            marks.append(
                Words(
                    key=f"told:{group}",
                    x=self.x(self.target + 1) + 4,
                    y=floor - TALL + 12,
                    text=fixed(share),
                    size=13,
                    bold=True,
                    layer=2,
                )
            )
        return marks

    # --------------------------------------------------------------------------- arithmetic

    def _arithmetic(self, shot: Snapshot) -> dict[str, Arithmetic]:
        """What a group captures of this question's attention, and of which blocks that is made."""
        told = []
        for group, (teacher, picks) in enumerate(zip(*self._at(shot), strict=True)):
            picked = np.flatnonzero(picks)
            parts = " + ".join(fixed(float(teacher[b])) for b in picked[:8])
            more = " + …" if len(picked) > 8 else ""
            whole = fixed(float(teacher[picked].sum()))
            told.append(f"group {group}: {parts}{more} = {whole} captured")
        line = Arithmetic(
            text=f"This question's attention on the picked blocks, {'; '.join(told)}."
        )
        return {f"block:{block}": line for block in range(self.here + 1)}


@functools.cache
def key_names(example: Example) -> dict[int, int]:
    """Short names of a sequence's keys, 0, 1, 2, … by size, for so many do not fit in a block."""
    return {key: name for name, key in enumerate(sorted(set(example.keys)))}


@functools.lru_cache(maxsize=64)
def _still(question: int, size: int, example: Example) -> tuple[Mark, ...]:
    """What does not change while it trains: the pairs, the frames, names of the lanes."""
    n_blocks = len(example.keys) // size
    here, target = question // size, example.needles[question] // size
    pitch = pitch_of(here, n_blocks)
    bottom = LANES[1] + TALL + 16
    marks: list[Mark] = [
        Words(key="name:strip", x=8, y=STRIP + 30, text="the text,", size=13, bold=True),
        Words(key="name:strip2", x=8, y=STRIP + 48, text="4 tokens", size=13),
        Words(key="name:strip3", x=8, y=STRIP + 64, text="a block", size=13),
        Rectangle(
            key="answer",
            link=f"block:{target}",
            x=LEFT + pitch * target - 1,
            y=STRIP - 3,
            w=pitch + 2,
            h=bottom - STRIP + 6,
            stroke="gold",
            width=2.5,
            corner=4,
            words=f"Block {target} holds the pair that the question asks for.",
            layer=2,
        ),
        Words(
            key="answer:name",
            x=LEFT + pitch * (target + 0.5),
            y=bottom + 18,
            text="the answer is here",
            anchor="middle",
            size=13,
            bold=True,
        ),
    ]
    for group, top in enumerate(LANES):
        floor = top + TALL
        marks += [
            Words(key=f"name:{group}", x=8, y=top + 16, text=f"group {group}", size=13, bold=True),
            Words(key=f"wants:{group}", x=8, y=top + 34, text="attention", size=13),
            Words(key=f"picks:{group}", x=8, y=floor + 13, text="picked", size=13),
            Line(
                key=f"floor:{group}",
                x=LEFT,
                x2=LEFT + pitch * (here + 1),
                y=floor + 1,
                y2=floor + 1,
                stroke="faint",
                width=1,
            ),
        ]
    if here + 1 < n_blocks:
        marks += [
            Rectangle(
                key="future",
                x=LEFT + pitch * (here + 1) + 2,
                y=STRIP,
                w=folded(here, n_blocks) - 4,
                h=ROW * size + 4,
                stroke="faint",
                dash="3 4",
                width=1,
                corner=3,
                words="Not yet written when the question is asked.",
            ),
        ]
    if folded(here, n_blocks) == FOLDED:
        marks += [
            Words(
                key=f"future:name:{row}",
                x=RIGHT - FOLDED / 2,
                y=STRIP + ROW * (row + 1) + 6,
                text=text,
                anchor="middle",
                size=13,
                opacity=0.75,
            )
            for row, text in enumerate(("not yet", "written"))
        ]
    names = key_names(example)
    for token, (key, value) in enumerate(zip(example.keys, example.values, strict=True)):
        block, row = divmod(token, size)
        if value < 0 or block > here:
            continue
        future = token > question
        sought = token == example.needles[question]
        marks.append(
            Words(
                key=f"token:{token}",
                x=LEFT + pitch * (block + 0.5),
                y=STRIP + ROW * row + 16,
                text=f"{names[key]}{VALUES[value]}",
                anchor="middle",
                size=LETTERS,
                mono=True,
                bold=sought,
                opacity=0.4 if future else 1.0 if sought else 0.8,
                link=f"token:{token}",
                words=f"A pair: key {names[key]}, value {VALUES[value]}, in block {block}.",
                layer=1,
            )
        )
    return tuple(marks)
