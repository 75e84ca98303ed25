"""What each method leaves of a text when the text has been read: one memory per method and budget.

    reading = Reading(contestants, questions)
    memory = reading.memory("kvzip", ratio=8)
    logits = memory.answer_logits(questions.answer)

The budget of a ratio is what n tokens folded into latents at this ratio take: n/ratio entries of
all layers' keys and values, and two for the tags. `Memory` refuses to be larger, unless its
method has no way to be: then `own` says why, and the method is compared at its own size.

What reads the question is added to every memory alike and is not counted. For most methods the
question comes when the text has been read and shortened; four know it when they choose:

    snapkv    keeps what the question attends to (as published); `snapkv_blind` has the last tokens
              of the text in the place of the question
    lsa       reads the question with what it holds, asks its indexer, fetches, and reads it again
    msa       keeps all, and selects anew for every token
    lclm_expand   folds without it, and opens the chunk that it names when it is asked

Differs: LSA's paper reads prompt and question with everything in memory, and fetches for decoding
alone. Here a short answer would then be dense attention's.
Differs: LSA's tail is a quarter of its budget, where its indexers were trained with 256 tokens.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.decoder import Decoder, DecoderCache, Probe, Seen
from intuitive.common.eviction import (
    ExpectedAttention,
    KVzip,
    Method,
    Scored,
    SnapKV,
    keep_places,
    scored,
)
from intuitive.common.inputs import public
from intuitive.common.runtime import check, never
from intuitive.common.smollm import SmolLM2
from intuitive.lclm.smollm import Pair, digits, load_pair
from intuitive.lclm.splice import Latents, Raw, Span
from intuitive.lsa.smollm import NEWEST, SmolIndexers, load_indexers
from intuitive.lsa.smollm import index_keys as chunk_keys
from intuitive.lsa.smollm_decoding import masked_decoder
from intuitive.msa.config import MSAConfig
from intuitive.msa.conversion import convert
from intuitive.msa.index import TrainedIndex, load_index

from .exercise import NEWEST as NEWEST_KEPT
from .exercise import Keep, places_of
from .methods import METHODS, RATIOS, YOURS
from .tasks import Questions

TAGS = 2  # entries of a text's latents beside the latents
SINK = 4  # first tokens that the window never leaves
BLOCK = 32  # tokens of an MSA block
CHUNKS = 8  # that EXPAND chooses among
REPEAT = "\n\nRepeat the previous context exactly:\n\n"
ROOM = 512  # tokens that can follow a text


@public(n=0)
def budget_of(n: int, ratio: int) -> int:
    """Entries that a text of n tokens may keep.

    Raises:
        ValueError: another ratio than the latents are made at.
    """
    if ratio not in RATIOS:
        raise ValueError(f"ratio={ratio!r} must be one of {', '.join(map(str, RATIOS))}.")
    return -(-n // ratio) + TAGS


def folded_spans(start: int, end: int, ratio: int) -> list[tuple[int, int]]:
    """The tokens behind each latent of a text, the last of which may have fewer."""
    return [(i, min(i + ratio, end)) for i in range(start, end, ratio)]


class OverBudget(ValueError):
    """A memory is larger than its budget, or cannot be made as small."""


@dataclass(frozen=True, eq=False)
class Memory:
    """What is left of texts, and who reads it. Bytes are per text.

    Raises:
        OverBudget: it holds more than the budget, and `own` gives no reason.
    """

    method: str
    ratio: int  # of the budget
    decoder: Decoder
    cache: DecoderCache
    rest: Int[Tensor, "b r"]  # tokens of the question that are yet to be read
    n: int  # tokens of the text
    budget_bytes: int
    resident_bytes: int  # entries of the text in memory, and whatever chooses among them
    read_bytes: int  # by each new token
    elsewhere_bytes: int = 0  # in another, larger memory
    places: Sequence[Int[Tensor, "b h_kv kept"]] | None = None  # kept, by layer; None: see below
    beads: int = 0  # tokens per latent; 0 where there are none
    spans: Sequence[
        tuple[int, int] | None
    ] = ()  # tokens behind each entry, where there are latents
    opened: Int[Tensor, " b"] | None = None  # chunk that EXPAND brought back
    own: str = ""  # why it is compared at its own size

    def __post_init__(self) -> None:
        if self.resident_bytes > self.budget_bytes and not self.own:
            raise OverBudget(
                f"{self.method} holds {self.resident_bytes} bytes of a text, the budget at 1/"
                f"{self.ratio} is {self.budget_bytes}."
            )

    @torch.no_grad()
    def answer_logits(self, answer: Int[Tensor, "b a"]) -> Float[Tensor, "b a v"]:
        """Logits of each token of an answer, given the question and the true tokens before it.

        The memory is the same afterwards.
        """
        length = self.cache.length
        tokens = torch.cat((self.rest, answer[:, :-1]), 1)
        try:
            hidden = self.decoder.hidden(tokens, cache=self.cache)
        finally:
            self.cache.crop(length)
        return self.decoder.logits(hidden[:, -answer.shape[1] :])


class Contestants:
    """SmolLM2, once for every method, with what was trained for it.

    Args:
        model: on its device, in its dtype.
        index, indexers, pair: in the place of the shipped ones.
    """

    def __init__(
        self,
        model: SmolLM2,
        *,
        index: TrainedIndex | None = None,
        indexers: SmolIndexers | None = None,
        pair: Pair | None = None,
    ) -> None:
        weight = model.decoder.embedding.weight
        self.model, self.dense = model, model.decoder
        self.device, self.dtype = weight.device, weight.dtype
        self.index = load_index() if index is None else index
        self.indexers = (load_indexers() if indexers is None else indexers).to(self.device)
        self.pair = load_pair(model) if pair is None else pair
        self.windowed, self.view = masked_decoder(model.decoder)
        encode = model.tokenizer.encode
        self.kvzip = KVzip(request=tuple(encode(REPEAT)))
        self.digits = torch.tensor(digits(model.tokenizer), device=self.device)
        self.sparse = functools.lru_cache(8)(self._sparse)

    @property
    def entry_bytes(self) -> int:
        """Keys and values of one token in all layers."""
        config = self.model.config
        numbers = 2 * config.n_layers * config.n_kv_heads * config.d_head
        return numbers * self.dense.embedding.weight.element_size()

    def ids(self, text: str) -> Tensor:
        """A text's tokens on the device."""
        return torch.tensor(self.model.tokenizer.encode(text), device=self.device)

    def msa(self, n_selected: int) -> MSAConfig:
        """MSA's sizes here."""
        size = self.model.config
        return self.index.sized(
            MSAConfig(
                n_q_heads=size.n_q_heads,
                n_kv_heads=size.n_kv_heads,
                d_head=size.d_head,
                block_size=BLOCK,
                n_selected=n_selected,
            )
        )

    def _sparse(self, n_selected: int) -> Decoder:
        return convert(self.dense, self.msa(n_selected), self.index)


class Reading:
    """Texts of one length and their questions, read by each method when its memory is asked for.

    What methods share, such as the dense model's pass over the text, is read once.

    Args:
        contestants: the model and what was trained for it.
        questions: on the model's device.
        room: tokens that can follow a text.
        stale: turns true when nobody waits for the result any more.
    """

    def __init__(
        self,
        contestants: Contestants,
        questions: Questions,
        *,
        room: int = ROOM,
        stale: Callable[[], bool] = never,
    ) -> None:
        self.all, self.questions, self.stale = contestants, questions, stale
        self.context, self.question = questions.context, questions.question
        self.b, self.n = self.context.shape
        self.room = room

    def memory(self, method: str, ratio: int = RATIOS[0]) -> Memory:
        """What a method leaves of the texts.

        Args:
            method: one of `METHODS`.
            ratio: of the budget; "dense" and "nothing" have none.

        Raises:
            ValueError: an unknown method or ratio.
            OverBudget: the method does not fit into this budget, in words.
            Cancelled: `stale()` became true between two passes.
        """
        if method not in METHODS:
            raise ValueError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}.")
        check(self.stale)
        budget = budget_of(self.n, ratio)
        with torch.no_grad():
            return getattr(self, f"_{method}")(ratio, budget)

    # ---------------------------------------------------------------- what several methods share

    @functools.cached_property
    def _full(self) -> tuple[DecoderCache, dict[int, tuple[Tensor, Tensor]]]:
        """The dense model's cache of the texts, and what LSA's indexers read meanwhile."""
        cache = self.all.dense.make_cache(self.b, self.n + self.room)
        return cache, self._watched(self.context, cache)

    def _watched(self, tokens: Tensor, cache: DecoderCache) -> dict[int, tuple[Tensor, Tensor]]:
        """By target layer, attention inputs of the newest tokens and keys before RoPE of all."""
        found = {}

        def receive(seen: Seen) -> None:
            keys = self.all.dense.layers[seen.layer].attention.w_k(seen.hidden)
            found[seen.layer] = seen.hidden[:, -NEWEST:], keys

        targets = self.all.indexers.config.memory_layers
        self.all.dense.hidden(tokens, cache=cache, probe=Probe(tuple(targets), receive))
        return found

    def _made(self, method: str, ratio: int, cache: DecoderCache, **more) -> Memory:
        """A memory whose bytes are those of its cache, where nothing else is said."""
        held = sum(cache.nbytes().values()) // self.b
        fields = {
            "decoder": self.all.dense,
            "rest": self.question,
            "n": self.n,
            "budget_bytes": budget_of(self.n, ratio) * self.all.entry_bytes,
            "resident_bytes": held,
            "read_bytes": held,
        }
        return Memory(method=method, ratio=ratio, cache=cache, **(fields | more))

    def _everywhere(self, places: Tensor) -> list[Tensor]:
        """The same places [b, kept] in every layer and head."""
        config = self.all.model.config
        wide = places[:, None].expand(-1, config.n_kv_heads, -1)
        return [wide] * config.n_layers

    def _scored(self, method: Method, tokens: Tensor) -> Scored:
        return scored(self.all.dense, tokens, method=method, stale=self.stale)

    def _kept(self, method: str, ratio: int, read: Scored, budget: int, **more) -> Memory:
        small = read.keep(min(budget, read.full.length), room=self.room)
        return self._made(method, ratio, small.cache, places=small.kept, **more)

    # ------------------------------------------------------------------------------- the methods

    def _dense(self, ratio: int, budget: int) -> Memory:
        cache, _ = self._full
        return self._made("dense", ratio, cache, own="it keeps everything: what others aim at")

    def _nothing(self, ratio: int, budget: int) -> Memory:
        first = self.context.new_full((self.b, 1), self.all.model.end_of_text)
        cache = self.all.dense.make_cache(self.b, 1 + self.room)
        self.all.dense.hidden(first, cache=cache)
        return self._made("nothing", ratio, cache)

    def _window(self, ratio: int, budget: int) -> Memory:
        sink = min(SINK, budget - 1)
        place = torch.arange(self.n, device=self.all.device)
        back = place[:, None] - place
        allowed = (back >= 0) & ((back < budget - sink) | (place < sink))
        cache = self.all.windowed.make_cache(self.b, self.n)
        self.all.view.allowed = allowed
        try:
            self.all.windowed.hidden(self.context, cache=cache)
        finally:
            self.all.view.allowed = None
        kept = place if budget >= self.n else torch.cat((place[:sink], place[sink - budget :]))
        places = self._everywhere(kept.expand(self.b, -1))
        small = keep_places(cache, places, room=self.room)
        return self._made("window", ratio, small, places=places)

    @functools.cached_property
    def _snapkv_read(self) -> Scored:
        tokens = torch.cat((self.context, self.question[:, :-1]), 1)
        return self._scored(SnapKV(window=max(1, self.question.shape[1] - 1)), tokens)

    def _snapkv(self, ratio: int, budget: int) -> Memory:
        q = self.question.shape[1] - 1
        if not q:
            raise OverBudget("the question is one token: there is nothing to observe it by.")
        of_question = q * self.all.entry_bytes  # kept too, as it is in every other cache
        more = {"rest": self.question[:, -1:]}
        small = self._snapkv_read.keep(min(budget + q, self.n + q), room=self.room)
        held = sum(small.cache.nbytes().values()) // self.b - of_question
        kept = [places[..., :-q] for places in small.kept]
        return self._made(
            "snapkv", ratio, small.cache, places=kept, resident_bytes=held, read_bytes=held, **more
        )

    @functools.cached_property
    def _snapkv_blind_read(self) -> Scored:
        return self._scored(SnapKV(), self.context)

    def _snapkv_blind(self, ratio: int, budget: int) -> Memory:
        return self._kept("snapkv_blind", ratio, self._snapkv_blind_read, budget)

    def yours(self, keep: Keep, ratio: int) -> Memory:
        """A memory of the places that a reader's function keeps, the same in all layers and heads.

        Raises:
            ValueError: what it returned cannot be kept.
        """
        with torch.no_grad():
            budget, read = budget_of(self.n, ratio), self._snapkv_blind_read
            newest = [score[..., : self.n - NEWEST_KEPT] for score in read.scores]
            mean = torch.stack(newest).mean((0, 2))[0].tolist() + [0.0] * NEWEST_KEPT
            places = sorted(places_of(keep(mean, budget), self.n, budget))
            everywhere = self._everywhere(self.context.new_tensor([places]))
            small = keep_places(read.full, everywhere, room=self.room)
            return self._made(YOURS, ratio, small, places=everywhere)

    @functools.cached_property
    def _expected_read(self) -> Scored:
        return self._scored(ExpectedAttention(), self.context)

    def _expected(self, ratio: int, budget: int) -> Memory:
        return self._kept("expected", ratio, self._expected_read, budget)

    @functools.cached_property
    def _kvzip_read(self) -> Scored:
        return self._scored(self.all.kvzip, self.context)

    def _kvzip(self, ratio: int, budget: int) -> Memory:
        return self._kept("kvzip", ratio, self._kvzip_read, budget)

    def _msa(self, ratio: int, budget: int) -> Memory:
        decoder = self.all.sparse(max(1, budget // BLOCK))
        cache = decoder.make_cache(self.b, self.n + self.room)
        decoder.hidden(self.context, cache=cache)
        parts = cache.nbytes()
        read = min(max(1, budget // BLOCK) * BLOCK, self.n) * self.all.entry_bytes
        read += parts["index_keys"] // self.b
        return self._made(
            "msa",
            ratio,
            cache,
            decoder=decoder,
            read_bytes=read,
            own="it keeps all keys and values, and an index: it reads less, it does not hold less",
        )

    def _lsa(self, ratio: int, budget: int) -> Memory:
        indexers, size = self.all.indexers, self.all.indexers.config.chunk_size
        full, watched = self._full
        keys = torch.stack([keys for _, keys in watched.values()])  # [layers, b, n, d_kv]
        of_chunks = torch.stack(
            [torch.stack([chunk_keys(row, size) for row in layer]) for layer in keys]
        )
        index_bytes = of_chunks[:, 0].numel() * of_chunks.element_size()
        entry = self.all.entry_bytes
        there = -(-self.n // size)  # chunks, the last of which may be open
        room_for = min((budget * entry - index_bytes) // (size * entry), there)
        if room_for < 3:
            raise OverBudget(
                f"the budget has room for {room_for} chunks of {size} tokens, and LSA needs three: "
                "the first one, the newest and one that it fetches."
            )
        tail = max(1, room_for // 4)
        n_picks = room_for - tail - 1

        def fetch(newest: Sequence[Tensor], position: int) -> Tensor:
            """Chunks to hold: the first, the newest, and those that the indexers want most."""
            rows = []
            at = torch.tensor([position], device=keys.device)
            for row in range(self.b):
                hidden = torch.stack([h[row].mean(0, keepdim=True) for h in newest])
                logits = indexers(hidden.float(), at, of_chunks[:, row].float())[0].amax(0)
                logits = logits[: there - tail].clone()
                logits[:1] = -torch.inf
                picks = logits.topk(n_picks).indices
                rows.append(picks.sort().values)
            return torch.stack(rows)

        def holding(picks: Tensor) -> tuple[DecoderCache, list[Tensor]]:
            first = picks.new_zeros(self.b, 1)
            last = torch.arange(there - tail, there, device=picks.device).expand(self.b, -1)
            chunks = torch.cat((first, picks, last), 1)
            tokens = chunks[..., None] * size + torch.arange(size, device=picks.device)
            kept = tokens.flatten(1)
            kept = kept[:, : kept.shape[1] - (there * size - self.n)]  # the open chunk's end
            places = self._everywhere(kept)
            return keep_places(full, places, room=self.room), places

        before, _ = holding(fetch([hidden for hidden, _ in watched.values()], self.n - 1))
        asked = self._watched(self.question, before)
        newest = [
            torch.cat((text, now), 1)[:, -NEWEST:]
            for (text, _), (now, _) in zip(watched.values(), asked.values(), strict=True)
        ]
        picks = fetch(newest, self.n + self.question.shape[1] - 1)
        cache, places = holding(picks)
        held = sum(cache.nbytes().values()) // self.b
        return self._made(
            "lsa",
            ratio,
            cache,
            places=places,
            resident_bytes=held + index_bytes,
            elsewhere_bytes=self.n * entry,
        )

    def _lclm(self, ratio: int, budget: int) -> Memory:
        pair = self.all.pair
        joined = pair.model.join([Span(self.context)], ratio=ratio).embeddings
        cache = pair.model.decoder.make_cache(self.b, joined.shape[1] + self.room)
        pair.model.decoder.hidden(embeddings=joined, cache=cache)
        decoder, spans = pair.model.decoder, [None, *folded_spans(0, self.n, ratio), None]
        return self._made("lclm", ratio, cache, decoder=decoder, beads=ratio, spans=spans)

    def _lclm_expand(self, ratio: int, budget: int) -> Memory:
        pair, where = self.all.pair, self.questions.where
        if where is None:
            raise OverBudget("there is no question by which a chunk could be chosen.")
        chunks = self.context.split(self.chunk_size, 1)
        ids = [self.all.ids(f"[{i}] ") for i in range(1, len(chunks) + 1)]
        opening = len(self.all.ids("\n[1] ")) + max(chunk.shape[1] for chunk in chunks)
        overhead = sum(map(len, ids)) + len(chunks) * TAGS + opening
        fits = [r for r in RATIOS if sum(-(-c.shape[1] // r) for c in chunks) + overhead <= budget]
        if not fits:
            raise OverBudget(
                f"the latents and one of {len(chunks)} chunks in its own words take more than "
                f"1/{ratio} of the text."
            )
        folded = fits[0]
        pieces, spans, at = [], [], 0
        for number, chunk in zip(ids, chunks, strict=True):
            latents = Latents(pair.model.encode(chunk, ratio=folded))
            pieces += [Raw(number, False), latents]
            mine = folded_spans(at, at + chunk.shape[1], folded)
            spans += [None] * (len(number) + 1) + mine + [None]
            at += chunk.shape[1]
        decoder = pair.model.decoder
        joined = pair.model.join(pieces, ratio=folded).embeddings
        cache = decoder.make_cache(self.b, joined.shape[1] + opening + self.room)
        decoder.hidden(embeddings=joined, cache=cache)
        length = cache.length
        logits = decoder(where, cache=cache, last_only=True)[:, -1]
        cache.crop(length)
        named = logits[:, self.all.digits[: len(chunks)]].argmax(-1)
        rows = []
        for row, number in enumerate(named.tolist()):
            words = chunks[number][row]
            head = self.all.ids(f"\n[{number + 1}] ")
            rows.append(torch.cat((head, words)))
        decoder.hidden(torch.stack(rows), cache=cache)
        first = int(named[0]) * self.chunk_size  # the entries of the first row
        of_words = [(first + i, first + i + 1) for i in range(len(rows[0]) - len(head))]
        return self._made(
            "lclm_expand",
            ratio,
            cache,
            decoder=decoder,
            beads=folded,
            spans=[*spans, *[None] * len(head), *of_words],
            opened=named,
            elsewhere_bytes=2 * self.n,  # the text itself, two bytes a token
        )

    @property
    def chunk_size(self) -> int:
        """Tokens of a chunk that EXPAND can open."""
        return -(-self.n // (CHUNKS * 16)) * 16
