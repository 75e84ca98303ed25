"""What the explorer of beads asks the pair: here and now, or as it was recorded.

`Live` asks a pair. `Recorded` answers in its place for the lesson's passages, from what
`benchmarks/lclm_beads.py` wrote down, so that pictures move at once and need no model.
"""

import functools
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from cachetools import LRUCache
from jaxtyping import Bool, Float, Int

from intuitive.common import results
from intuitive.common.arrays import read_only

from ..smollm import ANSWER, REPEAT, WINDOW, chunk_map
from ..splice import Latents, Piece, Raw
from .passages import PASSAGES, Passage

CHUNK = 64  # tokens of a chunk that EXPAND can bring back
N_NEW = 16  # tokens that the decoder writes at most
TOP = 3  # likeliest readings that are kept
NOTHING, NAMED = "nothing", "named"  # for EXPAND
RESULT = "lclm_beads"


def chunks_of(n_tokens: int) -> tuple[range, ...]:
    """The tokens of every chunk; the last may be shorter."""
    return tuple(range(i, min(i + CHUNK, n_tokens)) for i in range(0, n_tokens, CHUNK))


@dataclass(frozen=True, eq=False)
class Reading:
    """What the decoder expects at every token when it repeats what it was given as beads."""

    log_probability: Float[np.ndarray, " n"]  # of the true token, nats
    top_ids: Int[np.ndarray, "n top"]
    top_probability: Float[np.ndarray, "n top"]
    top_words: tuple[tuple[str, ...], ...]  # texts of `top_ids`


@dataclass(frozen=True)
class Cut:
    """A passage in tokens."""

    ids: tuple[int, ...]
    words: tuple[str, ...]  # one piece of text per token
    question: tuple[str, ...]  # of what stands after the text
    n_id: int  # tokens of a chunk's number, "[3] "
    n_opened: int  # tokens before the words that come back

    @functools.cached_property
    def chunks(self) -> tuple[range, ...]:
        return chunks_of(len(self.ids))


@runtime_checkable
class PairLike(Protocol):
    """What is asked of a pair (`intuitive.lclm.smollm.Pair`)."""

    @property
    def tokenizer(self) -> Any: ...
    def encode(self, tokens: Any, ratio: int) -> Any: ...
    def reconstruct(self, tokens: Any, ratio: int) -> Any: ...
    def likeliest(self, pieces: Any, tokens: Any) -> Any: ...
    def continuation(self, pieces: Any, n: int, *, ratio: int, stop: str = "") -> Any: ...
    def where(self, chunks: Any, question: str, ratio: int) -> Any: ...


class Reader(Protocol):
    """Who answers; `expanded` is the chunk whose words come back, from 0, or None."""

    def cut(self, passage: Passage) -> Cut: ...
    def fold(self, passage: Passage, ratio: int, *, chunked: bool) -> None: ...
    def reading(self, passage: Passage, ratio: int, *, chunked: bool) -> Reading: ...
    def guessed(self, passage: Passage) -> Bool[np.ndarray, " n"]: ...
    def named(self, passage: Passage, ratio: int) -> Float[np.ndarray, " chunk"]: ...
    def answer(self, passage: Passage, ratio: int, expanded: int | None) -> tuple[str, ...]: ...


# ------------------------------------------------------------------------------- here and now


class Live:
    """Asks a pair; what it was asked before it knows."""

    def __init__(self, pair: PairLike) -> None:
        self.pair = pair
        self._kept: LRUCache[Hashable, Any] = LRUCache(96)
        self._lock = threading.Lock()

    def _once(self, key: Hashable, ask: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._kept:
                return self._kept[key]
        found = ask()
        with self._lock:
            self._kept[key] = found
        return found

    def cut(self, passage: Passage) -> Cut:
        return self._once(("cut", passage), lambda: self._cut(passage))

    def _cut(self, passage: Passage) -> Cut:
        encode, strings = self.pair.tokenizer.encode, self.pair.tokenizer.token_strings
        ids = encode(passage.text)
        return Cut(
            ids=tuple(ids),
            words=tuple(strings(ids)),
            question=tuple(strings(self._asked(passage))),
            n_id=len(encode("[1] ")),
            n_opened=len(encode("\n[1] ")),
        )

    def _asked(self, passage: Passage) -> list[int]:
        if not passage.question:
            return []
        return self.pair.tokenizer.encode(ANSWER.format(question=passage.question))

    def _spans(self, passage: Passage, *, chunked: bool) -> list[torch.Tensor]:
        cut = self.cut(passage)
        ids = torch.tensor(cut.ids)
        return [ids[part.start : part.stop] for part in cut.chunks] if chunked else [ids]

    def fold(self, passage: Passage, ratio: int, *, chunked: bool) -> list[torch.Tensor]:
        """The latents of each span."""

        def ask() -> list[torch.Tensor]:
            spans = self._spans(passage, chunked=chunked)
            return [self.pair.encode(span, ratio) for span in spans]

        return self._once(("fold", passage, ratio, chunked), ask)

    def reading(self, passage: Passage, ratio: int, *, chunked: bool) -> Reading:
        key = "reading", passage, ratio, chunked
        return self._once(key, lambda: self._read(passage, ratio, chunked=chunked))

    def _read(self, passage: Passage, ratio: int, *, chunked: bool) -> Reading:
        # Windows are read each by itself, so that an edit in one costs no other.
        found = [
            self._once(
                ("window", ratio, *part.tolist()),
                lambda part=part: self.pair.reconstruct(part, ratio),
            )
            for span in self._spans(passage, chunked=chunked)
            for part in span.split(WINDOW)
        ]
        parts = ("log_probability", "top_ids", "top_probability")
        log_p, ids, p = (torch.cat([getattr(one, name) for one in found]) for name in parts)
        strings = self.pair.tokenizer.token_strings
        words = tuple(tuple(strings([index])[0] for index in row) for row in ids.tolist())
        return Reading(read_only(log_p), read_only(ids), read_only(p), words)

    def guessed(self, passage: Passage) -> Bool[np.ndarray, " n"]:
        """Whether each token is the likeliest with those before it and no bead at all."""

        def ask() -> np.ndarray:
            ids = torch.tensor(self.cut(passage).ids)
            repeat = Raw(self.pair.tokenizer.encode(REPEAT))
            best = self.pair.likeliest([repeat], ids)
            return read_only(best.cpu() == ids)

        return self._once(("guessed", passage), ask)

    def named(self, passage: Passage, ratio: int) -> Float[np.ndarray, " chunk"]:
        def ask() -> np.ndarray:
            spans = self._spans(passage, chunked=True)
            return read_only(self.pair.where(spans, passage.question, ratio).softmax(-1))

        return self._once(("named", passage, ratio), ask)

    def answer(self, passage: Passage, ratio: int, expanded: int | None) -> tuple[str, ...]:
        key = "answer", passage, ratio, expanded
        return self._once(key, lambda: self._answer(passage, ratio, expanded))

    def _answer(self, passage: Passage, ratio: int, expanded: int | None) -> tuple[str, ...]:
        """Up to the end of a line where a question was asked."""
        pieces: list[Piece]
        if expanded is None:
            pieces = [Latents(values) for values in self.fold(passage, ratio, chunked=False)]
        else:
            spans = self._spans(passage, chunked=True)
            pieces = chunk_map(self.pair.tokenizer, spans, expanded + 1)
        asked = self._asked(passage)
        stop = "\n" if asked else ""
        if asked:
            pieces.append(Raw(asked))
        new = self.pair.continuation(pieces, N_NEW, ratio=ratio, stop=stop).tolist()
        words = self.pair.tokenizer.token_strings(new)
        return tuple(words[:-1] if stop and len(words) > 1 and stop in words[-1] else words)


@functools.lru_cache(maxsize=2)
def live(pair: PairLike) -> Live:
    """The one who asks a pair, and remembers what it was asked."""
    return Live(pair)


# ------------------------------------------------------------------------------- recorded


@dataclass(frozen=True)
class RecordedCut:
    """`Cut`, its ids as text, and as digits whether each token is guessed without beads."""

    ids: str
    guessed: str
    words: tuple[str, ...]
    question: tuple[str, ...]
    n_id: int
    n_opened: int


@dataclass(frozen=True)
class RecordedReading:
    """`Reading` as text: logarithms in thousandths of a nat, probabilities in thousandths."""

    log_probability: str
    top_ids: str
    top_probability: str


@dataclass(frozen=True)
class Record:
    """What `benchmarks/lclm_beads.py` writes down.

    Attributes:
        weights: SHA-256 of the pair's weights.
        pieces: the text of each token id that was read.
        cuts: by passage.
        readings: by "passage ratio whole" or "passage ratio chunks".
        named: by "passage ratio", the probability of each chunk's number.
        answers: by "passage ratio" and, where words came back, the chunk from 1.
    """

    weights: str
    pieces: dict[str, str]
    cuts: dict[str, RecordedCut]
    readings: dict[str, RecordedReading]
    named: dict[str, tuple[float, ...]]
    answers: dict[str, tuple[str, ...]]


def _numbers(text: str) -> list[int]:
    return list(map(int, text.split()))


class Recorded:
    """Answers from a record, for the passages as they are now."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._names = {PASSAGES[name]: name for name in record.cuts if self._is_current(name)}

    def _is_current(self, name: str) -> bool:
        passage, cut = PASSAGES.get(name), self.record.cuts[name]
        if passage is None or "".join(cut.words) != passage.text:
            return False
        return "".join(cut.question) == ANSWER.format(question=passage.question)

    def has(self, passage: Passage, ratio: int, expand: str) -> bool:
        """Whether this was recorded: a passage as it is now, a ratio, what EXPAND is asked for."""
        if passage not in self._names:
            return False
        key, record = f"{self._names[passage]} {ratio}", self.record
        if expand == NOTHING:
            return f"{key} whole" in record.readings and key in record.answers
        if f"{key} chunks" not in record.readings or key not in record.named:
            return False
        named = int(np.argmax(record.named[key])) + 1
        return f"{key} {named if expand == NAMED else expand}" in record.answers

    @functools.lru_cache(maxsize=16)  # noqa: B019  there is one of these per record
    def cut(self, passage: Passage) -> Cut:
        cut = self.record.cuts[self._names[passage]]
        ids = tuple(_numbers(cut.ids))
        return Cut(ids, cut.words, cut.question, cut.n_id, cut.n_opened)

    def fold(self, passage: Passage, ratio: int, *, chunked: bool) -> None:
        """Nothing to be done: what was read from the latents is known."""

    @functools.lru_cache(maxsize=32)  # noqa: B019
    def reading(self, passage: Passage, ratio: int, *, chunked: bool) -> Reading:
        form = "chunks" if chunked else "whole"
        found = self.record.readings[f"{self._names[passage]} {ratio} {form}"]
        ids = torch.tensor(_numbers(found.top_ids)).view(-1, TOP)
        p = torch.tensor(_numbers(found.top_probability)).view(-1, TOP) / 1000
        log_p = torch.tensor(_numbers(found.log_probability)) / 1000
        words = tuple(tuple(self.record.pieces[str(i)] for i in row) for row in ids.tolist())
        return Reading(read_only(log_p), read_only(ids), read_only(p), words)

    def guessed(self, passage: Passage) -> Bool[np.ndarray, " n"]:
        digits = self.record.cuts[self._names[passage]].guessed
        return read_only(torch.tensor([digit == "1" for digit in digits]))

    def named(self, passage: Passage, ratio: int) -> Float[np.ndarray, " chunk"]:
        return read_only(torch.tensor(self.record.named[f"{self._names[passage]} {ratio}"]))

    def answer(self, passage: Passage, ratio: int, expanded: int | None) -> tuple[str, ...]:
        return self.record.answers[_answer_key(self._names[passage], ratio, expanded)]


def _answer_key(name: str, ratio: int, expanded: int | None) -> str:
    return f"{name} {ratio}" + ("" if expanded is None else f" {expanded + 1}")


class Recorder:
    """Asks a pair and writes down what it said.

    Args:
        pair: encoder and decoder.
        weights: SHA-256 of its weights.
    """

    def __init__(self, pair: PairLike, weights: str) -> None:
        self.reader, self.record = Live(pair), Record(weights, {}, {}, {}, {}, {})

    def take(self, name: str, ratio: int, *expands: str) -> None:
        """A passage at one ratio, under some settings of EXPAND."""
        passage, record = PASSAGES[name], self.record
        cut = self.reader.cut(passage)
        ids = " ".join(map(str, cut.ids))
        guessed = "".join(str(int(right)) for right in self.reader.guessed(passage))
        rest = cut.words, cut.question, cut.n_id, cut.n_opened
        record.cuts[name] = RecordedCut(ids, guessed, *rest)
        for expand in expands:
            form, expanded = "whole", None
            if expand != NOTHING:
                named = self.reader.named(passage, ratio)
                record.named[f"{name} {ratio}"] = tuple(round(p, 4) for p in named.tolist())
                form = "chunks"
                expanded = int(named.argmax()) if expand == NAMED else int(expand) - 1
            found = self.reader.reading(passage, ratio, chunked=expanded is not None)
            record.readings[f"{name} {ratio} {form}"] = _as_text(found)
            for index, word in zip(found.top_ids.ravel(), sum(found.top_words, ()), strict=True):
                record.pieces[str(index)] = word
            key = _answer_key(name, ratio, expanded)
            record.answers[key] = self.reader.answer(passage, ratio, expanded)


def _as_text(found: Reading) -> RecordedReading:
    def packed(values: np.ndarray, scale: int = 1) -> str:
        return " ".join(map(str, np.rint(scale * values).astype(int).ravel().tolist()))

    return RecordedReading(
        packed(found.log_probability, 1000),
        packed(found.top_ids),
        packed(found.top_probability, 1000),
    )


@functools.cache
def recorded() -> Recorded | None:
    """The committed record; None where there is none yet."""
    if not results.path(RESULT).is_file():
        return None
    return Recorded(results.load(RESULT, Record).values)
