"""The idea on a real model: SmolLM2 reads text that its own first layers have folded up.

    model = load_smollm2()
    pair = load_pair(model)                  # or untrained_pair(model)
    latents = pair.encode(tokens, 4)         # [⌈n/4⌉, 576]
    pair.reconstruct(tokens, 4)              # what is left of every word
    pair.continuation([Span(text), Raw(question)], 20, ratio=4)

The encoder is SmolLM2's first four layers with low-rank changes to all their matrices, windows of
256 tokens, causal, mean pooling; the decoder is SmolLM2 with low-rank changes. All weights of
SmolLM2 stay as they are, and are shared: what is trained fits into a few MB.

Differs: one model for three ratios, with adapters for 4 and 8 of which 16 takes the second, where
the paper has a checkpoint each.
Differs: the adapter's output is added to the mean of the group's token embeddings, so that
training starts from latents that the decoder can make something of.
Differs: the encoder is told each token's place in its group, by a learned vector that is added to
the token's embedding. A mean keeps no order, and four layers trained for minutes do not find one
by themselves.
Differs: low-rank changes instead of training every weight; training takes minutes, not weeks.

Source: arXiv:2606.09659v1, sections 3, 4 and 7.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.decoder import generate
from intuitive.common.runtime import never, seeded
from intuitive.common.smollm import SmolLM2, Tokenizer
from intuitive.common.weights import from_int8, load_weights, save_weights, to_int8

from .expand import PromptForm, Trace, play
from .player import ModelPlayer
from .smollm_model import LIMIT, OWN, RATIOS, SMALL, WINDOW, Ranks, SmolLatents
from .splice import Latents, Piece, Raw, Span, as_tokens

MOST_CHUNKS = 9  # of a map: their ids are one digit
WEIGHTS = Path(__file__).parent / "weights" / "smollm2-135m-latents.safetensors"

# What the pair was trained on, word for word; other words work less well.
REPEAT = "\nRepeat:\n"
WHERE = "\nQuestion: {question}\nLook in chunk ["
ANSWER = "\nQuestion: {question}\nAnswer:"


# ------------------------------------------------------------------------------------ the pair


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What can be read back from a text's latents, each token after the true ones before it."""

    ratio: int
    tokens: Int[Tensor, " n"]
    log_probability: Float[Tensor, " n"]  # of the true token, in nats
    top_ids: Int[Tensor, "n 3"]  # the three likeliest, first the likeliest
    top_probability: Float[Tensor, "n 3"]

    @property
    def right(self) -> Tensor:
        """[n] whether the likeliest token is the true one."""
        return self.top_ids[:, 0] == self.tokens


def _ids(tokenizer: Tokenizer, text: str) -> Tensor:
    return torch.tensor(tokenizer.encode(text))


def digits(tokenizer: Tokenizer) -> list[int]:
    """Token ids of "1" to "9", the ids of chunks."""
    return [tokenizer.encode(str(i))[0] for i in range(1, MOST_CHUNKS + 1)]


def prompt_form(tokenizer: Tokenizer) -> PromptForm:
    """How chunks stand in a prompt: compressed ones behind "[3] ", those brought back on a line."""
    return PromptForm(
        lambda number: tokenizer.encode(f"[{number}] "),
        lambda number: tokenizer.encode(f"\n[{number}] "),
    )


def chunk_map(
    tokenizer: Tokenizer,
    chunks: Sequence[Tensor],
    open_chunk: int | None = None,
    *,
    raw: bool = False,
) -> list[Piece]:
    """All chunks compressed, each behind its id; and one of them in its own words at the end.

    Args:
        tokenizer: of the ids.
        chunks: token ids [n] each, or [m, d] latents that were encoded before.
        open_chunk: the id, from 1 on, of a chunk to be appended raw; None for none.
        raw: leave all chunks uncompressed, for comparison.

    Raises:
        ValueError: no chunks, more than nine, or no such id.
    """
    if not 1 <= len(chunks) <= MOST_CHUNKS:
        raise ValueError(
            f"{len(chunks)} chunks: from 1 to {MOST_CHUNKS} have an id here, since an id is one "
            "digit. Make the chunks longer."
        )
    shown: list[Piece] = []
    for chunk in chunks:
        if chunk.is_floating_point():
            shown.append(Latents(chunk))
        else:
            shown.append(Raw(chunk, trained=False) if raw else Span(chunk))
    brought = []
    if open_chunk is not None:
        number = whole("open_chunk", open_chunk, low=1, high=len(chunks), why="name a chunk's id")
        if chunks[number - 1].is_floating_point():
            raise ValueError(f"chunk {number} is given as latents: its words are not known.")
        brought.append((number, Raw(chunks[number - 1], trained=False)))
    return list(prompt_form(tokenizer).prompt(shown, (), brought)[:-1])


@functools.lru_cache(maxsize=8)
def _tokens_holding(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """All tokens whose own text holds this one."""
    return tuple(i for i in range(tokenizer.vocab_size) if text in tokenizer.decode([i]))


@dataclass(frozen=True, eq=False)
class Pair:
    """SmolLM2 as a decoder, with the encoder that goes with it."""

    smollm: SmolLM2
    model: SmolLatents
    made: Mapping[str, str]  # how the weights were trained; empty if they were not

    @property
    def tokenizer(self) -> Tokenizer:
        """SmolLM2's."""
        return self.smollm.tokenizer

    @property
    def is_trained(self) -> bool:
        """Whether the weights are trained ones."""
        return bool(self.made)

    @torch.no_grad()
    def encode(self, tokens: Tensor | Sequence[int], ratio: int) -> Float[Tensor, "m d"]:
        """The latents of one text, one for every `ratio` tokens.

        Raises:
            ValueError: no tokens, ids out of range, or a ratio that is not among `RATIOS`.
        """
        self._check(ratio)
        return self.model.encode(as_tokens(tokens, "the text")[None], ratio=ratio)[0]

    @torch.no_grad()
    def prompt(self, pieces: Sequence[Piece], ratio: int) -> Float[Tensor, "1 n d"]:
        """Embeddings of raw text and spans, as the decoder reads them."""
        self._check(ratio)
        return self.model.spliced(pieces, ratio=ratio).embeddings

    @torch.no_grad()
    def log_probabilities(
        self, pieces: Sequence[Piece], tokens: Tensor | Sequence[int], *, ratio: int = RATIOS[0]
    ) -> Float[Tensor, "n v"]:
        """Log-probabilities of every token at each place of a text that follows the pieces.

        Args:
            pieces: at least one, not empty.
            tokens: the text; place i has seen its first i tokens.
            ratio: of the spans among the pieces.
        """
        return self._logits(pieces, tokens, ratio).float().log_softmax(-1)

    @torch.no_grad()
    def likeliest(
        self, pieces: Sequence[Piece], tokens: Tensor | Sequence[int], *, ratio: int = RATIOS[0]
    ) -> Int[Tensor, " n"]:
        """The likeliest token at each place of a text; arguments as in `log_probabilities`."""
        return self._logits(pieces, tokens, ratio).argmax(-1)

    def _logits(
        self, pieces: Sequence[Piece], tokens: Tensor | Sequence[int], ratio: int
    ) -> Float[Tensor, "n v"]:
        tokens = as_tokens(tokens, "the text")
        prompt = self.prompt([*pieces, Raw(tokens)], ratio)
        hidden = self.model.decoder.hidden(embeddings=prompt)[:, -len(tokens) - 1 : -1]
        return self.model.decoder.logits(hidden)[0]

    def score(
        self, pieces: Sequence[Piece], tokens: Tensor | Sequence[int], *, ratio: int = RATIOS[0]
    ) -> Float[Tensor, " n"]:
        """Log-probability of each token of a text that follows the pieces, in nats."""
        tokens = as_tokens(tokens, "the text").to(self.model.tags.device)
        scores = self.log_probabilities(pieces, tokens, ratio=ratio)
        return scores.gather(-1, tokens[:, None].long())[:, 0]

    def reconstruct(self, tokens: Tensor | Sequence[int], ratio: int) -> Reconstruction:
        """What the decoder can say of a text from its latents alone, asked to repeat it.

        Every window of 256 tokens is a prompt of its own; place i is told the true tokens before.

        Raises:
            ValueError: as in `encode`.
        """
        tokens = as_tokens(tokens, "the text").to(self.model.tags.device)
        repeat = Raw(_ids(self.tokenizer, REPEAT))
        found = []
        for part in tokens.split(WINDOW):
            scores = self.log_probabilities([Span(part), repeat], part, ratio=ratio)
            top = scores.topk(3)
            true = scores.gather(-1, part[:, None].long())[:, 0]
            found.append((true, top.indices, top.values.exp()))
        true, ids, probability = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Reconstruction(ratio, tokens, true, ids, probability)

    @torch.no_grad()
    def continuation(
        self,
        pieces: Sequence[Piece],
        n: int,
        *,
        ratio: int = RATIOS[0],
        stop: str = "",
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, " n_new"]:
        """Tokens that the decoder writes after the pieces, at most n, without the text's end.

        Args:
            pieces: raw text, spans, and latents from before.
            n: at most so many tokens.
            ratio: of the spans.
            stop: ends with the first token whose text holds this; "" for none.
            temperature: 0 takes the likeliest token.
            generator: of the draws, where the temperature is above 0.

        Raises:
            ValueError: as in `encode`, or a text beyond the decoder's positions.
        """
        ends = (self.smollm.end_of_text, self.smollm.end_of_turn)
        new = generate(
            self.model.decoder,
            self.prompt(pieces, ratio),
            max_new_tokens=whole("n", n, low=1),
            temperature=temperature,
            generator=generator,
            stop_tokens=(*ends, *(self._holding(stop) if stop else ())),
        )[0].cpu()
        return new[:-1] if int(new[-1]) in ends else new

    def where(
        self, chunks: Sequence[Tensor], question: str, ratio: int
    ) -> Float[Tensor, " n_chunks"]:
        """The decoder's logits for the ids 1, 2, ... of chunks that it sees compressed.

        Args:
            chunks: token ids of up to nine chunks, or their latents.
            question: such as "What is the pass code of the harbour?".
            ratio: of the chunks.

        Raises:
            ValueError: as in `chunk_map` and `encode`.
        """
        asked = _ids(self.tokenizer, WHERE.format(question=question))
        pieces = [*chunk_map(self.tokenizer, chunks), Raw(asked)]
        prompt = self.prompt(pieces, ratio)
        with torch.no_grad():
            logits = self.model.decoder(embeddings=prompt, last_only=True)[0, -1]
        return logits[digits(self.tokenizer)[: len(chunks)]].float()

    def answer(
        self,
        chunks: Sequence[Tensor],
        question: str,
        ratio: int,
        *,
        open_chunk: int | None = None,
        n: int = 12,
    ) -> str:
        """A short answer to a question, from the chunks' latents and at most one chunk's words.

        Arguments and errors as in `where` and `chunk_map`; n is the longest answer in tokens.
        """
        asked = _ids(self.tokenizer, ANSWER.format(question=question))
        pieces = [*chunk_map(self.tokenizer, chunks, open_chunk), Raw(asked)]
        new = self.continuation(pieces, n, ratio=ratio, stop="\n")
        return self.tokenizer.decode(new, skip_special=True).split("\n")[0].strip()

    def expand(
        self,
        chunks: Sequence[Tensor],
        question: str,
        ratio: int,
        *,
        max_rounds: int = 1,
        n: int = 12,
        stale: Callable[[], bool] = never,
    ) -> Trace:
        """Let the decoder open chunks by their ids, then answer; a record of the whole play.

        Each round opens the chunk whose id is likeliest among those still closed. The pair was
        trained to open one; it is never asked whether it wants another.

        Args:
            chunks: token ids of up to nine chunks.
            question: in words.
            ratio: of the chunks.
            max_rounds: chunks that are opened, at most as many as there are.
            n: longest answer, in tokens.
            stale: turns true when nobody waits for the result any more.

        Raises:
            ValueError: as in `chunk_map` and `encode`.
            Cancelled: `stale()` became true between two turns.
        """
        max_rounds = whole("max_rounds", max_rounds, low=1, high=len(chunks))
        chunk_map(self.tokenizer, chunks)  # checks them
        latents = [Latents(self.encode(chunk, ratio)) for chunk in chunks]
        where, said = (
            self.tokenizer.encode(form.format(question=question)) for form in (WHERE, ANSWER)
        )
        pairs = enumerate(zip(where, said, strict=False))
        shared = next(i for i, (a, b) in pairs if a != b)  # tokens; then each asks its own thing
        player = ModelPlayer(
            self.model,
            digits(self.tokenizer),
            look=where[shared:],
            say=said[shared:],
            n_looks=max_rounds,
            max_new_tokens=n,
            stop_tokens=self.line_ends,
        )
        form = prompt_form(self.tokenizer)
        return play(
            player, chunks, latents, said[:shared], form, max_rounds=max_rounds, stale=stale
        )

    @functools.cached_property
    def line_ends(self) -> tuple[int, ...]:
        """Tokens that end a line, or a whole text."""
        return (*self._holding("\n"), self.smollm.end_of_text, self.smollm.end_of_turn)

    def _holding(self, text: str) -> tuple[int, ...]:
        return _tokens_holding(self.tokenizer, text)

    def _check(self, ratio: int) -> None:
        if ratio not in RATIOS:
            raise ValueError(
                f"ratio={ratio!r} has no adapter; the pair was made for "
                f"{', '.join(map(str, RATIOS))} tokens per latent."
            )


def untrained_pair(
    model: SmolLM2,
    *,
    seed: int = 0,
    ranks: Ranks | None = None,
    own: Sequence[int] = OWN,
    factor: float = SMALL,
    limit: float = LIMIT,
) -> Pair:
    """A pair before any training: latents are the mean embeddings of their groups."""
    with torch.inference_mode(False):
        made = SmolLatents(
            model,
            ranks or Ranks(),
            own=own,
            factor=factor,
            limit=limit,
            generator=seeded(seed, model.decoder.embedding.weight.device),
        )
    return Pair(model, made.requires_grad_(False).eval(), {})


def save_pair(path: str | Path, model: SmolLatents, made: Mapping[str, str]) -> Path:
    """Write the trained weights, matrices in 8 bits with one scale per row; `load_pair` reads it.

    Args:
        path: a file ending in .safetensors.
        model: its low-rank changes, adapters, places and tags are written.
        made: short texts, such as the command and the commit; at least one.
    """
    ranks = {f"rank_{name}": str(rank) for name, rank in vars(model.ranks).items()}
    ranks |= {"factor": str(model.factor), "limit": str(model.limit)}
    packed = to_int8(model.weights(), keep=("tags", "places"))
    return save_weights(path, packed, {**made, **ranks})


def as_stored(model: SmolLatents) -> None:
    """Round the trained weights to what a file of `save_pair` holds."""
    model.put(from_int8(to_int8(model.weights(), keep=("tags", "places"))))


def load_pair(model: SmolLM2, path: str | Path | None = None) -> Pair:
    """The trained pair around this SmolLM2; the shipped weights if no path is given.

    Loaded once for each model; leave its weights as they are.

    Raises:
        FileNotFoundError: no such file; the message says which command writes it.
        ValueError: the file is damaged or of another kind.
    """
    return _load(model, WEIGHTS if path is None else Path(path))


@functools.lru_cache(maxsize=2)
def _load(model: SmolLM2, path: Path) -> Pair:
    try:
        packed, made = load_weights(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist: train the pair with `python benchmarks/lclm_smollm.py`, or "
            "use untrained_pair(model)."
        ) from None
    try:
        made = dict(made)
        ranks = Ranks(**{name: int(made.pop(f"rank_{name}")) for name in vars(Ranks())})
        # files from before these two had names have none
        factor, limit = float(made.pop("factor", 1.0)), float(made.pop("limit", math.inf))
        own = [ratio for ratio in RATIOS if f"adapters.{ratio}.w_1.weight" in packed]
        pair = untrained_pair(model, ranks=ranks, own=own, factor=factor, limit=limit)
        pair.model.put(from_int8(packed))
    except KeyError as error:
        raise ValueError(f"{path} holds no pair: {error} is missing. Restore the file.") from error
    return replace(pair, made=made)
