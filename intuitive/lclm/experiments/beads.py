"""What is left of a text when N of its tokens become one position of the decoder's.

A text is folded into latents, "beads". What they still hold is read out by asking the decoder to
repeat the text: at every token, with the right ones before it, which token does it expect? Then it
goes on after a question. With EXPAND the text is cut into numbered chunks, each compressed by
itself, and the words of one chunk come back as they were.

Differs: chunks of 64 tokens instead of the paper's 512, since the text has at most 512.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from intuitive.common.checks import whole
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.smollm import load_smollm2
from intuitive.common.training import Progress, silent

from ..config import check_ratio
from ..cost import ttft_seconds
from ..reference import N_TAGS, group_spans
from ..smollm import RATIOS, WINDOW, Pair, load_pair
from ..splice import layout
from .passages import PASSAGES, Passage
from .reading import CHUNK, NAMED, NOTHING, Cut, PairLike, Reading, chunks_of, live, recorded

Stale = Callable[[], bool]

LONGEST = 512  # tokens of a text
FAR = 262_144  # tokens for which the paper's time to first token is told
MOST_CHUNKS = LONGEST // CHUNK
EXPANDS = (NOTHING, NAMED, *map(str, range(1, MOST_CHUNKS + 1)))

CODE = r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[0-9A-Za-z]+(?:-[0-9A-Za-z]+)+\b"
KINDS = {  # the first that fits a token
    "code": re.compile(CODE),
    "number": re.compile(r"\d+(?:[.,]\d+)*"),
    "name": re.compile(r"(?<=[\w,;] )[A-Z][a-z]+"),  # not at the start of a sentence
    "word": re.compile(r"[^\W\d_]+"),
}


@dataclass(frozen=True, kw_only=True)
class BeadsParams(Settings):
    """The controls of the explorer, all but a text and a question of the reader's own.

    Attributes:
        passage: one of `PASSAGES`.
        ratio: tokens per bead, N.
        expand: which chunk's words come back: "nothing", "named" (the one that the model names),
            or a number from "1".
        token: whose bead is opened, from 0; -1 leaves it to the passage.
    """

    passage: str = "letter"
    ratio: int = 8
    expand: str = NOTHING
    token: int = -1

    def __post_init__(self) -> None:
        if self.passage not in PASSAGES:
            raise ValueError(
                f"passage={self.passage!r} is unknown; choose one of {', '.join(PASSAGES)}."
            )
        if self.expand not in EXPANDS:
            raise ValueError(
                f"expand={self.expand!r} names no chunk; choose {NOTHING}, {NAMED}, or a number "
                f"from 1 to {MOST_CHUNKS}."
            )
        object.__setattr__(self, "ratio", whole("ratio", self.ratio, low=1))
        object.__setattr__(self, "token", whole("token", self.token, low=-1))


@dataclass(frozen=True)
class Cell:
    """One position of the decoder's.

    Attributes:
        kind: "id", "start", "bead", "end", "opened" (the id before words that come back), "raw"
            (these words) or "question".
        at: number of a bead; of a chunk for an id and a tag (0 where all is one span); of a token
            for raw words; place in the question.
    """

    kind: str
    at: int


@dataclass(frozen=True, eq=False)
class Beads:
    """A text, its beads, and what was read from them. Chunks and beads are counted from 0."""

    params: BeadsParams
    passage: Passage
    is_recorded: bool  # whether it was read before, with the same weights
    cut: Cut = field(repr=False)
    kinds: tuple[str, ...] = field(repr=False)  # "code", "number", "name", "word" or "mark"
    groups: tuple[range, ...]  # tokens of each bead
    cells: tuple[Cell, ...] = field(repr=False)  # up to where the answer begins
    expanded: int | None = None  # the chunk whose words came back
    named: Float[np.ndarray, " chunk"] | None = None  # probability of each chunk's number
    reading: Reading | None = field(default=None, repr=False)  # None while it is still to come
    guessed: Bool[np.ndarray, " n"] | None = field(default=None, repr=False)  # without any bead
    answer: tuple[str, ...] = ()  # tokens that the decoder wrote

    @property
    def ids(self) -> tuple[int, ...]:
        return self.cut.ids

    @property
    def words(self) -> tuple[str, ...]:
        """One piece of text per token."""
        return self.cut.words

    @property
    def chunks(self) -> tuple[range, ...]:
        """Tokens of each chunk."""
        return self.cut.chunks

    @cached_property
    def reads_right(self) -> Bool[np.ndarray, " n"]:
        """Whether the likeliest reading is the token itself."""
        right = self.reading.top_ids[:, 0] == np.array(self.ids)
        right.setflags(write=False)
        return right

    @property
    def n_tokens(self) -> int:
        return len(self.ids)

    @cached_property
    def kept(self) -> Bool[np.ndarray, " n"]:
        """Whether a token is the likeliest reading, or stands there raw."""
        kept = self.reads_right.copy()
        if self.expanded is not None:
            kept[self.chunks[self.expanded]] = True
        kept.setflags(write=False)
        return kept

    def is_kind(self, kind: str) -> Bool[np.ndarray, " n"]:
        return np.array([own == kind for own in self.kinds])

    def read_of(self, kind: str) -> tuple[int, int]:
        """(read right from beads, all) among the tokens of a kind."""
        mine = self.is_kind(kind)
        return int(self.reads_right[mine].sum()), int(mine.sum())

    @property
    def n_positions(self) -> int:
        """Decoder positions that stand for the text: beads, tags, ids, words that came back."""
        return sum(cell.kind != "question" for cell in self.cells)

    @property
    def effective_ratio(self) -> float:
        """Tokens of the text per decoder position that stands for it."""
        return self.n_tokens / self.n_positions

    @property
    def far_seconds(self) -> float:
        """Seconds to the first token of an answer about `FAR` tokens, by the paper's figure.

        EXPAND asks first which chunk is needed: as in the released code, everything is encoded and
        read a second time then.
        """
        once = ttft_seconds(FAR, ratio=self.params.ratio)
        return once * (1 if self.expanded is None else 2)

    @property
    def far_raw_seconds(self) -> float:
        """The same for raw text."""
        return ttft_seconds(FAR, ratio=1)

    @property
    def opened(self) -> int:
        """The bead that is opened: that of a chosen token, or of the secret's first."""
        token = self.params.token if self.params.token >= 0 else self.secret_tokens.start
        token = min(token, self.n_tokens - 1)
        return next(i for i, group in enumerate(self.groups) if token < group.stop)

    @cached_property
    def secret_tokens(self) -> range:
        """Tokens of the passage's secret; the first token where it has none."""
        start = "".join(self.words).find(self.passage.secret) if self.passage.secret else -1
        if start < 0:
            return range(1)
        ends = np.cumsum([len(word) for word in self.words])
        last = start + len(self.passage.secret) - 1
        first, last = np.searchsorted(ends, (start, last), side="right").tolist()
        return range(first, last + 1)

    @property
    def right_letters(self) -> int:
        """How many letters of the secret the answer begins with."""
        given = "".join(self.answer).strip()
        pairs = zip(given, self.passage.secret, strict=False)
        differ = [i for i, (a, b) in enumerate(pairs) if a != b]
        return differ[0] if differ else min(len(given), len(self.passage.secret))

    def chunk_of(self, token: int) -> int:
        return token // CHUNK


def kinds_of(words: Sequence[str]) -> tuple[str, ...]:
    """By token: piece of a code, of a number, of a name, of another word, or a mark."""
    text, kinds = "".join(words), []
    spans = {kind: [m.span() for m in form.finditer(text)] for kind, form in KINDS.items()}
    at = 0
    for word in words:
        start, end = at + len(word) - len(word.lstrip()), at + len(word)
        at = end
        inside = (
            kind
            for kind, found in spans.items()
            if any(a < end and start < b for a, b in found) and start < end
        )
        kinds.append(next(inside, "mark"))
    return tuple(kinds)


def _check_ratio(ratio: int) -> None:
    check_ratio(ratio, WINDOW)
    if ratio not in RATIOS:
        trained = ", ".join(map(str, RATIOS))
        raise ValueError(
            f"ratio={ratio} has no trained adapter: this pair folds {trained} tokens into one "
            "bead; choose one of these."
        )


def _check_text(n: int, params: BeadsParams, passage: Passage) -> None:
    if n > LONGEST:
        raise ValueError(
            f"the text has {n} tokens, and {LONGEST} fit: shorten it by {n - LONGEST} tokens, "
            f"about {math.ceil((n - LONGEST) * 0.75)} words."
        )
    n_chunks = len(chunks_of(n))
    if params.expand == NAMED and not passage.question:
        raise ValueError(
            f"expand={params.expand} needs a question, and a text of your own has none yet: write "
            "one, or choose a chunk by its number."
        )
    if params.expand not in (NOTHING, NAMED) and int(params.expand) > n_chunks:
        raise ValueError(
            f"expand={params.expand} names no chunk of this text: it has {n_chunks} of {CHUNK} "
            "tokens at most; choose one of them."
        )


def run(
    params: BeadsParams,
    *,
    text: str = "",
    question: str = "",
    pair: PairLike | None = None,
    stale: Stale = never,
    progress: Progress = silent,
) -> Beads:
    """Fold a text into beads, read out what is left, and let the decoder answer.

    Args:
        params: the controls.
        text: the reader's own; the passage's if empty.
        question: the reader's own; the passage's if empty, and none after a text of their own.
        pair: encoder and decoder, asked here and now. If None, what was recorded of the shipped
            pair, or the shipped pair itself where nothing was.
        stale: turns true when nobody waits.
        progress: called with a share in [0, 1], a sentence, and what there is so far.

    Raises:
        ValueError: a text that is blank or longer than `LONGEST` tokens, a ratio that does not
            divide the window or was not trained, a chunk that the text does not have, or a
            choice by the model where there is no question.
        FileNotFoundError: no model, or no trained weights.
        Cancelled: `stale()` became true.
    """
    passage = PASSAGES[params.passage] if not text else Passage.own(text)
    if question.strip():
        passage = dataclasses.replace(passage, question=" ".join(question.split()), secret="")
    if not passage.text.strip():
        raise ValueError("the text is empty: paste some, or choose one of the lesson's.")
    _check_ratio(params.ratio)
    told = recorded() if pair is None else None
    from_record = told is not None and told.has(passage, params.ratio, params.expand)
    reader = told if from_record else live(pair or shipped_pair(progress))
    cut = reader.cut(passage)
    _check_text(len(cut.ids), params, passage)
    check(stale)
    chunked, asks = params.expand != NOTHING, params.expand == NAMED
    named = None
    if asks:
        progress(0.1, "Asking which chunk holds the answer")
        named = reader.named(passage, params.ratio)
        check(stale)
    expanded = None
    if chunked:
        expanded = int(named.argmax()) if asks else int(params.expand) - 1
    found = Beads(
        params=params,
        passage=passage,
        is_recorded=from_record,
        cut=cut,
        kinds=kinds_of(cut.words),
        groups=_groups(cut.chunks if chunked else (range(len(cut.ids)),), params.ratio),
        cells=_cells(cut, params.ratio, expanded),
        named=named,
        expanded=expanded,
    )
    # What was recorded is whole before it could be drawn. Else: which tokens fold into which bead
    # needs no model, so this much is seen at once.
    growing = None if from_record else found
    progress(0.2, f"Folding {len(cut.ids)} tokens, {params.ratio} to a bead", growing)
    check(stale)
    reader.fold(passage, params.ratio, chunked=chunked)
    if chunked and passage.question:
        found = dataclasses.replace(found, named=reader.named(passage, params.ratio))
    progress(0.3, f"Reading {counted(len(found.groups), 'bead')}, token by token")
    check(stale)
    reading = reader.reading(passage, params.ratio, chunked=chunked)
    check(stale)
    found = dataclasses.replace(found, reading=reading, guessed=reader.guessed(passage))
    progress(0.7, "Writing on after the beads", None if from_record else found)
    check(stale)
    return dataclasses.replace(found, answer=reader.answer(passage, params.ratio, expanded))


def counted(n: int, what: str) -> str:
    """A number with its thing, in the plural where there are several."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def shipped_pair(progress: Progress = silent) -> Pair:
    """The trained pair that comes with the package.

    Raises:
        FileNotFoundError: the model or the weights are not there; the message says what to do.
    """
    progress(0.0, "Loading SmolLM2 and the encoder")
    return load_pair(load_smollm2())


# ------------------------------------------------------------------------------- the prompt


def _groups(spans: Sequence[range], ratio: int) -> tuple[range, ...]:
    """The tokens of every bead."""
    return tuple(
        range(span.start + a, span.start + b)
        for span in spans
        for a, b in group_spans(len(span), ratio=ratio, window=WINDOW)
    )


def _cells(cut: Cut, ratio: int, expanded: int | None) -> tuple[Cell, ...]:
    """What stands at each of the decoder's positions, up to the answer."""
    question = tuple(Cell("question", i) for i in range(len(cut.question)))
    if expanded is None:
        return (*_spanned(len(cut.ids), ratio, 0, 0), *question)
    cells, beads = [], 0
    for place, chunk in enumerate(cut.chunks):
        span = _spanned(len(chunk), ratio, place, beads)
        cells += [*[Cell("id", place)] * cut.n_id, *span]
        beads += len(span) - N_TAGS
    opened = [Cell("opened", expanded)] * cut.n_opened
    raw = [Cell("raw", token) for token in cut.chunks[expanded]]
    return (*cells, *opened, *raw, *question)


def _spanned(n_tokens: int, ratio: int, chunk: int, beads: int) -> list[Cell]:
    """Cells of one span, whose first bead is the one after `beads` others."""
    cells = []
    for slot in layout([("span", n_tokens)], ratio=ratio, window=WINDOW):
        is_bead = slot.kind == "latent"
        cells.append(Cell("bead", beads) if is_bead else Cell(slot.kind, chunk))
        beads += is_bead
    return cells
