"""One EXPAND on the real pair, step by step: chunks, latents, the id it names, and its answers.

The text is cut into chunks, each of them compressed, with its id in front. The model says which id
it needs (the arg-max over the ids' own tokens) and answers from latents alone; then the chunks that
were chosen come back as raw text behind the latents, and it answers again.

Differs: chunks are paragraphs of some sixty tokens instead of the paper's 512, and the model goes
one round, in which it asks for as many chunks as fit.
"""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from cachetools import LRUCache, cached
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.smollm import load_smollm2
from intuitive.common.training import Progress, silent

from .. import smollm
from ..exercise import Choose, best_that_fit, ids_of
from ..expand import positions_of
from ..inference import Prefilled, answer, prefill
from ..splice import Piece, Raw
from .expand_texts import TEXTS, Text

RATIOS = smollm.RATIOS  # tokens per latent that the pair has adapters for
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
    room: int = 96
    shuffled: bool = False
    text: str = "storm"

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
        n_latents: at this ratio.
        share: the model's probability of this id among all ids.
        fact: first character of the sentence that answers, and the one behind it; None elsewhere.
    """

    id: int
    text: str
    n_tokens: int
    n_latents: int
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
        expanded: ids that came back as raw text, in the order in which they were taken.
        before, after: what the model says from latents alone, and with the raw text.
        oracle: what it says with the right chunk raw, whatever it named.
        positions_raw: decoder positions with all chunks raw, and the question.
        positions_before, positions_after: with latents, and with the raw text behind them.
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
    expanded: tuple[int, ...]
    before: str
    after: str
    oracle: str
    positions_raw: int
    positions_before: int
    positions_after: int
    positions_question: int
    trained: bool
    finding: str = ""

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
    return Trace(params, pair or the_pair(), stale, progress).result(choose or best_that_fit)


class Trace:
    """What is read and said in one trace; prompts that came before are not read again."""

    def __init__(
        self,
        params: ExpandParams,
        pair: smollm.Pair,
        stale: Callable[[], bool] = never,
        progress: Progress = silent,
    ) -> None:
        self.params, self.pair, self.stale, self.progress = params, pair, stale, progress
        self.text: Text = TEXTS[params.text]
        self.tokens = tuple(
            torch.tensor(pair.tokenizer.encode(part)) for part in self.text.paragraphs
        )
        self.asked = torch.tensor(
            pair.tokenizer.encode(smollm.ANSWER.format(question=self.text.question))
        )
        self.n_new = len(pair.tokenizer.encode(self.text.answer)) + 2

    @torch.inference_mode()
    def result(self, choose: Choose) -> ExpandResult:
        """The whole trace."""
        params, text = self.params, self.text
        latents, lengths = self.latents(), [len(one) for one in self.tokens]
        read = smollm.chunk_map(self.pair.tokenizer, latents)
        most = sum(lengths) + 8 * len(lengths) + len(self.asked) + self.n_new
        context = prefill(self.pair.model, read, room=most)
        shares = self.shares(context)
        finding = ""
        try:
            expanded = ids_of(choose(list(shares), lengths, params.room), lengths, params.room)
        except Exception as error:  # a reader's function may fail in any way
            expanded, finding = (), str(error) or type(error).__name__
        holder = text.holder + 1
        said = {ids: self.said(context, ids) for ids in {(), expanded, (holder,)}}
        n_read = context.n_positions
        chunks = tuple(
            Chunk(
                id=i + 1,
                text=part,
                n_tokens=lengths[i],
                n_latents=len(latents[i]),
                share=shares[i],
                fact=text.fact if i == text.holder else None,
            )
            for i, part in enumerate(text.paragraphs)
        )
        raw = smollm.chunk_map(self.pair.tokenizer, self.tokens, raw=True)
        return ExpandResult(
            params=params,
            chunks=chunks,
            question=text.question,
            answer=text.answer,
            holder=holder,
            chosen=max(range(len(shares)), key=shares.__getitem__) + 1,
            lexical=lexical(text.paragraphs, text.question),
            expanded=expanded,
            before=said[()],
            after=said[expanded],
            oracle=said[(holder,)],
            positions_raw=sum(map(positions_of, raw)) + len(self.asked),
            positions_before=n_read + sum(map(positions_of, self.returned(()))),
            positions_after=n_read + sum(map(positions_of, self.returned(expanded))),
            positions_question=len(self.asked),
            trained=self.pair.is_trained,
            finding=finding,
        )

    def latents(self) -> tuple[Tensor, ...]:
        """Latents of each chunk, [m, d]; in each other's places if they are shuffled."""
        self._tell(0.1, "Folding the chunks")
        found = tuple(self.pair.encode(one, self.params.ratio) for one in self.tokens)
        if not self.params.shuffled:
            return found
        return tuple(found[i] for i in derangement(len(found), seed=SHUFFLE_SEED))

    def shares(self, context: Prefilled) -> tuple[float, ...]:
        """The model's probability of each id, of all ids."""
        self._tell(0.3, "Asking for the chunk")
        asked = self.pair.tokenizer.encode(smollm.WHERE.format(question=self.text.question))
        logits = prefill(self.pair.model, [Raw(asked)], after=context).logits
        ids = smollm.digits(self.pair.tokenizer)[: len(self.tokens)]
        return tuple(logits[ids].float().softmax(-1).tolist())

    def returned(self, expanded: Sequence[int]) -> list[Piece]:
        """What comes back, with its ids, and the question."""
        pieces: list[Piece] = []
        for number in expanded:
            label = self.pair.tokenizer.encode(f"\n[{number}] ")
            pieces += [Raw(label, trained=False), Raw(self.tokens[number - 1], trained=False)]
        return [*pieces, Raw(self.asked, trained=False)]

    def said(self, context: Prefilled, expanded: Sequence[int]) -> str:
        """What the model answers; what comes back stands behind the latents."""
        self._tell(0.6, "Answering")
        tokenizer = self.pair.tokenizer
        new = answer(
            self.pair.model,
            context,
            self.returned(expanded),
            max_new_tokens=self.n_new,
            stale=self.stale,
        )
        told = tokenizer.decode(new, skip_special=True)
        return told.split("\n")[0].strip()[: len(self.text.answer)]

    def _tell(self, fraction: float, sentence: str) -> None:
        check(self.stale)
        self.progress(fraction, sentence)


def the_pair() -> smollm.Pair:
    """The shipped pair, or an untrained one where no weights are shipped."""
    model = load_smollm2()
    if smollm.WEIGHTS.is_file():
        return smollm.load_pair(model)
    return _untrained(model)


@cached(cache=LRUCache(1), key=id, lock=threading.Lock())
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
