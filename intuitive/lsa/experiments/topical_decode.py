"""Documents of the task, decoded by the frozen model: recorded, harvested, or with chunks masked.

Every document is read as it stands, its prompt at once and then the decoded part, many documents
side by side. `observe` runs with everything resident and keeps what the CSA layers did;
`masked_accuracy` runs with a given resident set for every window, and counts right answers.

Source: arXiv:2606.09079v2, sections 2.2 and 3.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.decoder import Decoder, DecoderCache, Probe

from ..attention import Look, watching
from ..config import LSAConfig
from ..indexer import MemoryIndexers
from ..indexer_training import Document
from ..labels import golden_chunks
from ..recording import Recording
from ..selection import above, always_resident
from ..task import Documents

QUEST_PAGE = 4  # chunks, 16 tokens as in Quest


@dataclass(frozen=True, eq=False)
class Observed:
    """What a run with everything resident left behind, for b documents."""

    documents: Documents
    config: LSAConfig
    hidden: Float[Tensor, "b layers steps d_model"]  # target layers; of the token before each step
    keys: Float[Tensor, "b layers chunks d_idx"]  # target layers
    closed: Int[Tensor, " steps"]  # chunks that exist before each step
    golden: Bool[Tensor, "b steps chunks"]
    native: Float[Tensor, "b steps chunks"]  # over each layer's own cut, best of all CSA layers
    wanted: Bool[Tensor, "b steps chunks"]  # read by at least one CSA layer
    mass: Float[Tensor, "b steps chunks"]  # mean of heads and CSA layers
    bounds: Float[Tensor, "b steps chunks"]  # Quest's, of the token before each step
    right: Bool[Tensor, "b steps"]  # answers that were right

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return int(self.right.sum()) / int(self.documents.answers.sum())

    @property
    def positions(self) -> Int[Tensor, " steps"]:
        """Of the token before each step."""
        start = self.documents.config.n_prompt - 1
        return torch.arange(start, start + len(self.closed), device=self.closed.device)

    def document(self, row: int, *, stride: int) -> Document:
        """One document for the training of the Memory Indexer."""
        return Document.of(
            self.hidden[row],
            self.positions,
            self.keys[row],
            self.golden[row],
            self.closed,
            self.config,
            stride=stride,
            decoding=True,
        )

    def recording(
        self, row: int, indexers: MemoryIndexers, *, name: str = "", source: str = ""
    ) -> Recording:
        """One document as a recording, on the CPU."""
        documents = self.documents
        scores = indexers(self.hidden[row], self.positions, self.keys[row])
        there = torch.arange(scores.shape[-1], device=scores.device) < self.closed[:, None]
        titles = [
            "everything" if topic < 0 else documents.config.words(torch.tensor([token]))[0].strip()
            for topic, token in (
                (topic, int(documents.config.topic_token(max(topic, 0))))
                for topic in documents.topics[row].tolist()
            )
        ]
        parts = {
            "closed": self.closed,
            "needed": self.golden[row],
            "mass": self.mass[row],
            "scores": scores.masked_fill(~there[:, None], -torch.inf),
            "native": self.native[row],
            "bounds": self.bounds[row],
        }
        return Recording(
            name=name or f"{documents.config.mode}, document {row}",
            words=documents.config.words(documents.tokens[row]),
            n_prompt=documents.config.n_prompt,
            chunk_size=self.config.chunk_size,
            sections=tuple(zip(documents.sections, titles, strict=True)),
            source=source,
            **{part: values.cpu() for part, values in parts.items()},
        )


@torch.no_grad()
def read_prompts(decoder: Decoder, documents: Documents) -> DecoderCache:
    """Caches that hold each prompt but its last token."""
    tokens = documents.tokens
    cache = decoder.make_cache(len(tokens), tokens.shape[1])
    decoder.hidden(tokens[:, : documents.config.n_prompt - 1], cache=cache)
    return cache


@torch.no_grad()
def observe(
    decoder: Decoder,
    config: LSAConfig,
    documents: Documents,
    *,
    prompts: DecoderCache | None = None,
) -> Observed:
    """Decode with everything resident and keep what the CSA layers did.

    Args:
        decoder: frozen; its CSA layers should select by now.
        config: of its attention.
        documents: to read.
        prompts: of `read_prompts`, which this takes further; read anew if None.
    """
    cache = read_prompts(decoder, documents) if prompts is None else prompts
    n_prompt = documents.config.n_prompt
    looks: dict[int, Look] = {}
    with watching(decoder, looks.__setitem__):
        hidden = decoder.hidden(documents.tokens[:, n_prompt - 1 :], cache=cache)
    every = [looks[i] for i in range(config.n_csa)]
    targets = [looks[i] for i in config.memory_layers]
    n_steps = documents.config.n_steps
    steps = torch.arange(n_steps, device=hidden.device)
    scores = torch.stack([look.scores[:, 1:] for look in every], 2)  # [b, steps, csa, chunks]
    golden = golden_chunks(
        scores.flatten(0, 1),
        top_k=config.label_top_k,
        top_p=config.label_top_p,
        votes=config.label_votes,
    )
    cut = scores.topk(min(config.top_k, scores.shape[-1]), -1).values[..., -1:]
    least = scores.masked_fill(scores == -torch.inf, torch.inf).amin(-1, keepdim=True)
    margin = scores - torch.where(cut == -torch.inf, least, cut)
    return Observed(
        documents=documents,
        config=config,
        hidden=torch.stack([look.hidden[:, :-1] for look in targets], 1),
        keys=torch.stack([look.index_keys for look in targets], 1),
        closed=(n_prompt + steps) // config.chunk_size,
        golden=golden.unflatten(0, scores.shape[:2]),
        native=margin.amax(2),
        wanted=_read(every, scores.shape[-1]),
        mass=torch.stack([look.mass[:, 1:] for look in every]).mean(0),
        bounds=_bounds(decoder, config, cache, every, n_prompt // config.chunk_size),
        right=_right(decoder, hidden[:, :-1], documents),
    )


def _read(looks: Sequence[Look], chunks: int) -> Bool[Tensor, "b steps chunks"]:
    """Chunks that at least one layer read in each step."""
    read = None
    for look in looks:
        ids = look.selected[:, 1:]
        ids = torch.where(ids < 0, chunks, ids)  # an empty slot
        flags = torch.zeros(*ids.shape[:2], chunks + 1, dtype=torch.bool, device=ids.device)
        flags.scatter_(-1, ids, True)
        read = flags if read is None else read | flags
    return read[..., :chunks]


def _bounds(
    decoder: Decoder, config: LSAConfig, cache: DecoderCache, looks: Sequence[Look], n: int
) -> Float[Tensor, "b steps chunks"]:
    """Quest's bound of each page of the prompt's entries: the best of all heads and CSA layers.

    The queries are those of the token before each step. Decoded chunks, which are always
    resident, have no bound: 0.
    """
    best = None
    for layer, look in zip(config.csa_layers, looks, strict=True):
        attention = decoder.layers[layer].attention
        low = attention.norm_q(attention.w_dq(look.hidden[:, :-1]))
        q = attention.queries(low, look.positions[:, :-1]).float()
        entries = cache.layers[layer].readable().entries[:, :n].float()
        short = -n % QUEST_PAGE
        entries = torch.cat((entries, entries[:, -1:].expand(-1, short, -1)), 1)
        pages = entries.unflatten(1, (-1, QUEST_PAGE))
        high, low_end = pages.amax(2), pages.amin(2)
        bound = torch.einsum("bnhd,bpd->bnhp", q.clamp(min=0), high)
        bound = bound + torch.einsum("bnhd,bpd->bnhp", q.clamp(max=0), low_end)
        bound = bound.amax(2) * config.d_head**-0.5
        best = bound if best is None else torch.maximum(best, bound)
    chunks = best.repeat_interleave(QUEST_PAGE, -1)[..., :n]
    more = looks[0].scores.shape[-1] - n
    return torch.cat((chunks, chunks.new_zeros(*chunks.shape[:2], more)), -1)


def _right(
    decoder: Decoder, hidden: Float[Tensor, "b n d_model"], documents: Documents
) -> Bool[Tensor, "b n"]:
    """Whether the token after each of the last hidden states was an answer, and the model's."""
    config = documents.config
    logits = decoder.norm(hidden) @ decoder.head.weight[: config.n_said].T
    steps = documents.tokens[:, config.n_prompt :]
    return (logits.argmax(-1) == steps) & documents.answers


@torch.no_grad()
def masked_right(
    decoder: Decoder,
    config: LSAConfig,
    documents: Documents,
    resident: Bool[Tensor, "b windows chunks"],
    *,
    lookahead: int,
    prompts: DecoderCache | None = None,
) -> Bool[Tensor, "b steps"]:
    """Answers that are right while each window reads its resident chunks only.

    The token before the first step is read with everything resident, as in prefill. Chunks that a
    window's own tokens close are at hand.

    Args:
        decoder: frozen.
        config: of its attention.
        documents: to decode, the true text read whatever the model says.
        resident: chunks of each window of `lookahead` steps.
        lookahead: steps of a window.
        prompts: of `read_prompts`, left as they were; read anew if None.
    """
    cache = read_prompts(decoder, documents) if prompts is None else copy.deepcopy(prompts)
    n_prompt, n_steps = documents.config.n_prompt, documents.config.n_steps
    parts = [decoder.hidden(documents.tokens[:, n_prompt - 1 : n_prompt], cache=cache)]
    for window, start in enumerate(range(0, n_steps, lookahead)):
        for layer in config.csa_layers:
            held = cache.layers[layer]
            held.confine(resident[:, window, : held.n_entries])
        stop = min(start + lookahead, n_steps)
        taken = documents.tokens[:, n_prompt + start : n_prompt + stop]
        parts.append(decoder.hidden(taken, cache=cache))
    return _right(decoder, torch.cat(parts, 1)[:, :-1], documents)


@torch.no_grad()
def live_right(
    decoder: Decoder,
    indexers: MemoryIndexers,
    documents: Documents,
    *,
    prompts: DecoderCache | None = None,
) -> tuple[Bool[Tensor, "b steps"], Bool[Tensor, "b windows chunks"]]:
    """The same where the Memory Indexer decides from what the masked run itself has read.

    Returns:
        Right answers, and the resident set of each window, by the config's threshold.
    """
    config, lookahead = indexers.config, indexers.config.lookahead
    cache = read_prompts(decoder, documents) if prompts is None else copy.deepcopy(prompts)
    n_prompt, n_steps = documents.config.n_prompt, documents.config.n_steps
    seen: dict[int, Tensor] = {}
    layers = tuple(config.csa_layers[i] for i in config.memory_layers)
    probe = Probe(layers, lambda part: seen.__setitem__(part.layer, part.hidden[:, -1]))
    last = documents.tokens[:, n_prompt - 1 : n_prompt]
    parts = [decoder.hidden(last, cache=cache, probe=probe)]
    first, sets = None, []
    for start in range(0, n_steps, lookahead):
        held = [cache.layers[layer] for layer in config.csa_layers]
        closed = held[0].n_entries
        first = closed if first is None else first
        at = torch.tensor([n_prompt + start - 1], device=last.device)
        keys = [held[i].index_keys() for i in config.memory_layers]
        rows = [
            indexers(
                torch.stack([seen[layer][row] for layer in layers])[:, None],
                at,
                torch.stack([k[row] for k in keys]),
            )[0]
            for row in range(len(documents))
        ]
        always = always_resident(closed, closed, config, decoded_from=first).to(last.device)
        resident = above(torch.stack(rows), config.threshold) | always
        for part in held:
            part.confine(resident)
        wide = torch.zeros(
            len(documents), documents.config.n_tokens // config.chunk_size,
            dtype=torch.bool, device=last.device,
        )  # fmt: skip
        wide[:, :closed] = resident
        sets.append(wide)
        stop = min(start + lookahead, n_steps)
        taken = documents.tokens[:, n_prompt + start : n_prompt + stop]
        parts.append(decoder.hidden(taken, cache=cache, probe=probe))
    return _right(decoder, torch.cat(parts, 1)[:, :-1], documents), torch.stack(sets, 1)
