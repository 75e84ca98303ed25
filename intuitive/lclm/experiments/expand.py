"""One EXPAND on the real pair, step by step: chunks, latents, the id it names, and its answers.

The text is cut into chunks, each of them compressed, with its id in front. The model says which id
it needs (the arg-max over the ids' own tokens) and answers from latents alone; then the chunks that
were chosen come back as raw text behind the latents, and it answers again.

What happens is a play of `intuitive.lclm.expand`; beside it stand answers that the protocol does
not give: from latents alone, and with the right chunk whatever was named.

Differs: chunks are paragraphs of some sixty tokens instead of the paper's 512, and the model goes
one round, in which it asks for as many chunks as fit.
"""

import functools
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from cachetools import LRUCache, cached
from torch import Tensor

from intuitive.common import results as committed
from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.smollm import load_smollm2
from intuitive.common.training import Progress, silent

from .. import results, smollm
from ..exercise import Choose, best_that_fit, ids_of
from ..expand import Answer, Expand, Trace, Turn, play, positions_of
from ..inference import Prefilled, answer, prefill
from ..splice import Latents, Piece, Raw
from .expand_texts import TEXTS

RATIOS = smollm.RATIOS  # tokens per latent that the pair has adapters for
KEPT = 4  # texts as latents that stay in memory
LABEL = 8  # tokens that an id before raw text takes at most
SHUFFLE_SEED = 1  # of the places that latents trade


@dataclass(frozen=True, kw_only=True)
class ExpandParams(Settings):
    """The controls of the trace stepper.

    Attributes:
        ratio: tokens per latent.
        room: raw tokens that may come back.
        shuffled: whether the chunks' latents trade places, so that ids say nothing.
        text: one of `TEXTS`.
    """

    ratio: int = 8
    room: int = 64
    shuffled: bool = False
    text: str = "palace"

    def __post_init__(self) -> None:
        whole_fields(self, ratio=1, room=0)
        if self.ratio not in RATIOS:
            listed = ", ".join(map(str, RATIOS))
            raise ValueError(f"ratio={self.ratio} has no adapter: the pair has {listed}.")
        if self.text not in TEXTS:
            raise ValueError(f"text={self.text!r} is unknown; choose one of {', '.join(TEXTS)}.")


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One chunk of the text.

    Attributes:
        id: from 1 on.
        text: its words.
        n_tokens: raw.
        n_latents: that stand under its id, at this ratio.
        latents_of: id of the chunk that they were made of, its own unless they are shuffled.
        share: the model's probability of this id among all ids.
        fact: first character of the sentence that answers, and the one behind it; None elsewhere.
    """

    id: int
    text: str
    n_tokens: int
    n_latents: int
    latents_of: int
    share: float
    fact: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class ExpandResult:
    """One trace.

    Attributes:
        params: the setting.
        chunks: in the order of the text.
        question: what is asked, raw.
        answer: what is right.
        holder: id of the chunk that holds it.
        chosen: id that the model gives most to.
        lexical: id of the chunk that shares most rare words with the question.
        trace: the play, one round that expands and one that answers.
        before, after: what the model says from latents alone, and with the raw text.
        oracle: what it says with the right chunk raw, whatever it named.
        positions_raw: decoder positions with all chunks raw, and the question.
        positions_question: of the question alone.
        trained: whether the pair's trained weights were there.
        finding: what was wrong with the reader's own rule; empty if nothing was.
    """

    params: ExpandParams
    chunks: tuple[Chunk, ...]
    question: str
    answer: str
    holder: int
    chosen: int
    lexical: int
    trace: Trace
    before: str
    after: str
    oracle: str
    positions_raw: int
    positions_question: int
    trained: bool
    finding: str = ""

    @property
    def expanded(self) -> tuple[int, ...]:
        """Ids that came back as raw text, in the order in which they were taken."""
        return self.trace.expanded

    @property
    def positions_before(self) -> int:
        """Decoder positions with latents, and the question."""
        return self.trace.rounds[0].positions

    @property
    def positions_after(self) -> int:
        """Decoder positions with the raw text behind the latents, and the question."""
        return self.trace.rounds[-1].positions

    def at(self, id: int) -> Chunk:
        """The chunk with this id."""
        return self.chunks[id - 1]


def run(
    params: ExpandParams,
    *,
    choose: Choose | None = None,
    pair: smollm.Pair | None = None,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> ExpandResult:
    """Read a text as latents, name a chunk, expand what fits, and answer before and after.

    Args:
        params: the setting.
        choose: decides what comes back; `best_that_fit` if None. Where it fails, nothing comes
            back and `finding` says why.
        pair: an encoder with its decoder; the shipped one, or an untrained one where there are no
            weights, if None.
        stale: turns true when nobody waits for the result any more.
        progress: told what is done.

    Raises:
        ModelMissing: no file of SmolLM2.
        Cancelled: `stale()` became true.
    """
    pair = pair or the_pair()
    reading = _reading(pair, params.text, params.ratio, params.shuffled)
    with reading.lock:  # its cache is one
        return _trace(reading, params, choose or best_that_fit, stale, progress)


@torch.inference_mode()
def _trace(
    reading: "Reading",
    params: ExpandParams,
    choose: Choose,
    stale: Callable[[], bool],
    progress: Progress,
) -> ExpandResult:
    text, lengths = reading.text, [len(one) for one in reading.tokens]

    def tell(fraction: float, sentence: str) -> None:
        check(stale)
        progress(fraction, sentence)

    tell(0.1, "Folding the chunks")
    reading.context  # noqa: B018  read here, so that what is told is what is done
    tell(0.4, "Asking for the chunk")
    shares, finding = reading.shares, ""
    try:
        expanded = ids_of(choose(list(shares), lengths, params.room), lengths, params.room)
    except Exception as error:  # a reader's function may fail in any way
        expanded, finding = (), str(error) or type(error).__name__
    holder = text.holder + 1
    tell(0.5, "Answering")
    trace = reading.play(expanded, stale)
    tell(0.65, "Answering")
    before = reading.said((), stale)
    tell(0.8, "Answering")
    oracle = reading.said((holder,), stale)
    chunks = tuple(
        Chunk(
            id=i + 1,
            text=part,
            n_tokens=lengths[i],
            n_latents=len(reading.latents[i]),
            latents_of=reading.order[i] + 1,
            share=shares[i],
            fact=text.fact if i == text.holder else None,
        )
        for i, part in enumerate(text.paragraphs)
    )
    raw = smollm.chunk_map(reading.pair.tokenizer, reading.tokens, raw=True)
    n_asked = len(reading.asked)
    return ExpandResult(
        params=params,
        chunks=chunks,
        question=text.question,
        answer=text.answer,
        holder=holder,
        chosen=max(range(len(shares)), key=shares.__getitem__) + 1,
        lexical=lexical(text.paragraphs, text.question),
        trace=trace,
        before=before,
        after=reading.said(expanded, stale),
        oracle=oracle,
        positions_raw=sum(map(positions_of, raw)) + n_asked,
        positions_question=n_asked,
        trained=reading.pair.is_trained,
        finding=finding,
    )


class Reading:
    """One text as latents in the decoder's cache; each question behind it is asked once.

    Args:
        pair: reads and answers.
        text: a name of `TEXTS`.
        ratio: tokens per latent.
        shuffled: whether latents trade places among the chunks.
    """

    def __init__(self, pair: smollm.Pair, text: str, ratio: int, shuffled: bool) -> None:
        self.pair, self.text, self.ratio, self.shuffled = pair, TEXTS[text], ratio, shuffled
        encode = pair.tokenizer.encode
        self.tokens = tuple(torch.tensor(encode(part)) for part in self.text.paragraphs)
        question = {"question": self.text.question}
        self.asked = encode(smollm.ANSWER.format(**question))
        self.asked_where = encode(smollm.WHERE.format(**question))
        self.n_new = len(encode(f" {self.text.answer}")) + 2
        self.lock = threading.Lock()
        self.form = smollm.prompt_form(pair.tokenizer)
        self._told: dict[tuple[int, ...], tuple[int, ...]] = {}

    @property
    def order(self) -> list[int]:
        """Of each place, from 0, the chunk whose latents stand there."""
        n = len(self.tokens)
        return derangement(n, seed=SHUFFLE_SEED) if self.shuffled else list(range(n))

    @functools.cached_property
    def latents(self) -> tuple[Tensor, ...]:
        """Latents of each chunk, [m, d]; in each other's places if they are shuffled."""
        found = tuple(self.pair.encode(one, self.ratio) for one in self.tokens)
        return tuple(found[i] for i in self.order)

    @functools.cached_property
    def context(self) -> Prefilled:
        """The chunk map, read once, with room for all chunks and a question."""
        read = smollm.chunk_map(self.pair.tokenizer, self.latents)  # whose check counts the ids
        raw = sum(len(one) + LABEL for one in self.tokens)
        most = raw + max(len(self.asked) + self.n_new, len(self.asked_where))
        return prefill(self.pair.model, read, room=most)

    @functools.cached_property
    def shares(self) -> tuple[float, ...]:
        """The model's probability of each id, of all ids."""
        logits = prefill(self.pair.model, [Raw(self.asked_where)], after=self.context).logits
        ids = smollm.digits(self.pair.tokenizer)[: len(self.tokens)]
        return tuple(logits[ids].float().softmax(-1).tolist())

    def play(self, expanded: Sequence[int], stale: Callable[[], bool] = never) -> Trace:
        """One round that asks for these chunks, and the answer.

        Raises:
            Cancelled: `stale()` became true between two tokens.
        """

        def player(turn: Turn) -> Expand | Answer:
            if turn.must == "expand":
                return Expand(tuple(expanded))
            return Answer(self.told(turn.expanded, turn.pieces, stale))

        latents = [Latents(one) for one in self.latents]
        return play(player, self.tokens, latents, self.asked, self.form, max_rounds=1, stale=stale)

    def told(
        self, expanded: tuple[int, ...], prompt: Sequence[Piece], stale: Callable[[], bool]
    ) -> tuple[int, ...]:
        """What the model writes behind a prompt, whose map of chunks has been read already."""
        if expanded not in self._told:
            new = answer(
                self.pair.model,
                self.context,
                prompt[2 * len(self.tokens) :],
                max_new_tokens=self.n_new,
                stale=stale,
            )
            self._told[expanded] = tuple(new.tolist())
        return self._told[expanded]

    def said(self, expanded: tuple[int, ...], stale: Callable[[], bool] = never) -> str:
        """What the model answers, up to the end of the line; what comes back stands behind.

        Raises:
            Cancelled: `stale()` became true between two tokens.
        """
        brought = [(i, Raw(self.tokens[i - 1], trained=False)) for i in expanded]
        latents = [Latents(one) for one in self.latents]
        new = self.told(expanded, self.form.prompt(latents, self.asked, brought), stale)
        told = self.pair.tokenizer.decode(new, skip_special=True)
        return told.lstrip().split("\n")[0].strip().rstrip(".")


@cached(cache=LRUCache(KEPT), lock=threading.Lock())
def _reading(pair: smollm.Pair, text: str, ratio: int, shuffled: bool) -> Reading:
    return Reading(pair, text, ratio, shuffled)


def the_pair() -> smollm.Pair:
    """The shipped pair, or an untrained one where no weights are shipped."""
    model = load_smollm2()
    if smollm.WEIGHTS.is_file():
        return smollm.load_pair(model)
    return _untrained(model)


@cached(cache=LRUCache(1), lock=threading.Lock())
def _untrained(model) -> smollm.Pair:
    return smollm.untrained_pair(model)


def derangement(n: int, *, seed: int) -> list[int]:
    """An order in which nothing stays in its place (for n of at least 2)."""
    order = torch.randperm(n, generator=seeded(seed)).tolist()
    places = dict(zip(order, [*order[1:], order[0]], strict=True))  # one cycle through all
    return [places[i] for i in range(n)]


def lexical(paragraphs: Sequence[str], question: str) -> int:
    """Id of the paragraph that shares most with the question, each word over how many have it."""
    having = [set(_words(part)) for part in paragraphs]

    def score(words: set[str]) -> float:
        return sum((1 / sum(w in other for other in having) for w in asked & words), 0.0)

    asked = set(_words(question))
    return max(range(len(having)), key=lambda i: score(having[i])) + 1


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


# --------------------------------------------------------------------- over many held-out texts


# Right answers in percent at 16 tokens per latent, alone and with EXPAND, by tokens of the text.
# arXiv:2606.09659v1, Table 33.
PRINTED = {
    "all eight tasks": {4096: (76.89, 93.99), 8192: (72.51, 92.46), 16384: (70.18, 89.91)},
    "a UUID": {4096: (55.2, 97.6), 8192: (55.8, 97.0), 16384: (58.0, 98.0)},
    "UUID for a UUID": {4096: (49.0, 89.6), 8192: (37.6, 83.0), 16384: (31.6, 72.0)},
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the committed run found at one ratio, each a mean, least and greatest over seeds.

    Attributes:
        ratio: tokens per latent; 1 where all chunks are raw.
        where: shares in which the right chunk was named, by who named it: "model", "search",
            "shuffled" (the model, latents shuffled) and "chance".
        value: shares in which the whole answer was right, by what came back: "alone" (nothing),
            "own" (what the model named), "lexical", "oracle" and "random".
        questions: of each seed.
        chunks: of each text.
    """

    ratio: int
    where: dict[str, tuple[float, float, float]]
    value: dict[str, tuple[float, float, float]]
    questions: int
    chunks: int


def asked() -> tuple[Asked, ...]:
    """The committed run by rising ratio; empty where none is committed."""
    if results.SMOLLM not in committed.names():
        return ()
    rows = results.smollm().values.maps
    return tuple(
        _asked([row for row in rows if row.ratio == ratio])
        for ratio in sorted({row.ratio for row in rows})
    )


def _asked(rows: Sequence[results.ChunkMap]) -> Asked:
    first = rows[0]
    where = {"model": [row.where for row in rows], "search": [row.where_lexical for row in rows]}
    shuffled = [row.where_shuffled for row in rows if row.where_shuffled is not None]
    where |= {"shuffled": shuffled} if shuffled else {}
    where["chance"] = [row.chance for row in rows]
    value = {name: [row.value[name] for row in rows] for name in first.value}
    return Asked(
        ratio=first.ratio,
        where={name: _spread(shares) for name, shares in where.items()},
        value={name: _spread(shares) for name, shares in value.items()},
        questions=first.questions,
        chunks=first.chunks,
    )


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return sum(values) / len(values), min(values), max(values)
