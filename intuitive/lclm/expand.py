"""EXPAND: a model that reads compressed chunks asks for the words of some of them.

The text is cut into chunks, each compressed and labelled with a whole number from 1. Each turn the
model asks for chunks or answers; what it asked for is appended as raw text while all chunks stay
compressed. The model here is anything that maps a `Turn` to `Expand` or `Answer`: a trained pair,
a rule, or a script.

Differs: the official code encodes every chunk anew in every round; latents do not change, so here
they are encoded once.

Source: arXiv:2606.09659v1, section 7; rounds, first turn and forced answer after the official
repository (`agent/`).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.runtime import check, never

from .reference import N_TAGS
from .splice import Latents, Piece, Raw, Span

MAX_ROUNDS = 5
MAX_FROM_ANSWER = 5  # ids that an early answer is turned into

Must = Literal["expand", "either", "answer"]


def cut(tokens: Tensor, *, size: int = 512, ends: Collection[int] = ()) -> tuple[Tensor, ...]:
    """Cut a text into chunks of at most `size` tokens, where possible at the end of a sentence.

    Args:
        tokens: [n] ids.
        size: of a chunk; the paper's 512 (its code's default is 256).
        ends: ids that end a sentence; a chunk ends with the last of them that it holds, if any.

    Raises:
        ValueError: an empty text, or a size below 1.
    """
    size = whole("size", size, low=1)
    if tokens.dim() != 1 or not len(tokens):
        raise ValueError(
            f"the text has token ids of shape {tuple(tokens.shape)}; [n] with at least one token "
            "is needed."
        )
    ids, chunks, start = tokens.tolist(), [], 0
    while start < len(ids):
        stop = min(start + size, len(ids))
        if stop < len(ids):
            stop = next((i + 1 for i in range(stop - 1, start - 1, -1) if ids[i] in ends), stop)
        chunks.append(tokens[start:stop])
        start = stop
    return tuple(chunks)


@dataclass(frozen=True)
class Expand:
    """The model asks for chunks by their ids, one or several."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """The model answers."""

    tokens: tuple[int, ...]
    mentions: tuple[int, ...] = ()  # ids that the answer names


@dataclass(frozen=True, eq=False)
class Turn:
    """What the model is shown."""

    number: int  # from 1
    must: Must
    n_chunks: int
    expanded: tuple[int, ...]  # ids brought back so far, in order
    pieces: tuple[Piece, ...]  # the whole prompt, the question last

    @property
    def n_positions(self) -> int:
        """Decoder positions of the prompt."""
        return sum(positions_of(piece) for piece in self.pieces)


Player = Callable[[Turn], Expand | Answer]  # whoever plays: a function of the turn


@dataclass(frozen=True)
class PromptForm:
    """Raw tokens around chunks.

    Args:
        label: of a compressed chunk, such as "[3] ".
        expanded_label: of a chunk brought back, such as "\\n[3] in full: "; `label`'s if None.
        before_question: what stands between the last chunk and the question.
    """

    label: Callable[[int], Sequence[int]]
    expanded_label: Callable[[int], Sequence[int]] | None = None
    before_question: Sequence[int] = ()

    def prompt(
        self,
        chunks: Sequence[Piece],
        question: Sequence[int],
        expanded: Sequence[tuple[int, Piece]] = (),
    ) -> tuple[Piece, ...]:
        """All chunks compressed, then those brought back, then the question."""
        pieces: list[Piece] = []
        for number, chunk in enumerate(chunks, start=1):
            pieces += [Raw(self.label(number), trained=False), chunk]
        for number, piece in expanded:
            label = (self.expanded_label or self.label)(number)
            pieces += [Raw(label, trained=False), piece]
        return (*pieces, Raw([*self.before_question, *question], trained=False))


@dataclass(frozen=True)
class Round:
    """One turn: what was asked, what came of it, what it cost."""

    number: int
    must: Must
    asked: tuple[int, ...]  # as the model said, or as its early answer was read
    from_answer: bool  # an answer came on the first turn and was turned into this expansion
    brought: tuple[int, ...]  # ids whose words were appended
    repeated: tuple[int, ...]  # ids that were there already
    refused: tuple[int, ...]  # ids that no chunk has
    raw_tokens: int  # brought back by this turn
    positions: int  # decoder positions of the prompt that the model read
    answer: tuple[int, ...] | None

    @property
    def note(self) -> str:
        """Why ids were refused, in words; empty where none were."""
        if not self.refused:
            return ""
        return f"no chunk has the id {', '.join(map(str, self.refused))}."


@dataclass(frozen=True)
class Trace:
    """A whole play of EXPAND."""

    question: tuple[int, ...]
    chunk_sizes: tuple[int, ...]  # tokens
    rounds: tuple[Round, ...]
    answer: tuple[int, ...]
    ended: Literal["chosen", "rounds", "nothing new"]  # why the answer came when it did

    @property
    def expanded(self) -> tuple[int, ...]:
        """Ids brought back, in order."""
        return tuple(number for one in self.rounds for number in one.brought)

    @property
    def raw_tokens(self) -> int:
        """Tokens brought back in all."""
        return sum(one.raw_tokens for one in self.rounds)

    @property
    def positions(self) -> int:
        """Decoder positions read in all; every round reads its prompt anew."""
        return sum(one.positions for one in self.rounds)

    @property
    def text_tokens(self) -> int:
        """Tokens of the whole text, what reading it raw would take."""
        return sum(self.chunk_sizes)


def play(
    player: Player,
    chunks: Sequence[Tensor],
    latents: Sequence[Latents],
    question: Sequence[int],
    form: PromptForm,
    *,
    max_rounds: int = MAX_ROUNDS,
    bring: Callable[[int], Piece] | None = None,
    stale: Callable[[], bool] = never,
) -> Trace:
    """Let a model expand chunks until it answers, and keep a record.

    The first turn must expand: an answer there becomes an expansion of the ids that it mentions,
    at most 5, or of chunk 1 if no chunk has any of them. A turn that asks for no new chunk, or the
    last of `max_rounds`, is followed by one that must answer. Ids that no chunk has are refused
    and recorded.

    Args:
        player: answers each `Turn`.
        chunks: [n] token ids each; chunk i + 1 in the order of the text.
        latents: of each chunk.
        question: token ids.
        form: of the prompt.
        max_rounds: turns that may expand, at least 1.
        bring: what is appended for an id; the chunk's raw tokens if None.
        stale: turns true when nobody waits for the result any more.

    Raises:
        ValueError: no chunks, not one set of latents per chunk, or a model that asks again when
            it must answer.
        Cancelled: `stale()` became true between two turns.
    """
    max_rounds = whole("max_rounds", max_rounds, low=1)
    if not len(chunks) or len(chunks) != len(latents):
        raise ValueError(
            f"{len(chunks)} chunks and latents of {len(latents)}: give at least one chunk, each "
            "with its latents."
        )
    if bring is None:

        def bring(number: int) -> Piece:
            return Raw(chunks[number - 1], trained=False)

    brought: list[tuple[int, Piece]] = []
    rounds: list[Round] = []
    must: Must = "expand"
    ended: Literal["chosen", "rounds", "nothing new"] = "chosen"
    while True:
        check(stale)
        there = tuple(number for number, _ in brought)
        pieces = form.prompt(latents, question, brought)
        turn = Turn(len(rounds) + 1, must, len(chunks), there, pieces)
        move = player(turn)
        early = isinstance(move, Answer) and must == "expand"
        if early:
            named = tuple(dict.fromkeys(move.mentions))[:MAX_FROM_ANSWER]
            move = Expand(named if any(_is_id(i, len(chunks)) for i in named) else (*named, 1))
        if isinstance(move, Answer):
            rounds.append(_round(turn, (), False, (), (), (), 0, tuple(move.tokens)))
            sizes = tuple(len(chunk) for chunk in chunks)
            return Trace(tuple(question), sizes, tuple(rounds), tuple(move.tokens), ended)
        if must == "answer":
            raise ValueError(
                f"the model asked for {list(move.ids)} on turn {turn.number}, which must answer "
                f"({ended}): return an Answer when turn.must is 'answer'."
            )
        asked = tuple(dict.fromkeys(move.ids))  # once each, in order
        refused = tuple(i for i in asked if not _is_id(i, len(chunks)))
        repeated = tuple(i for i in asked if i in there and i not in refused)
        new = tuple(i for i in asked if i not in there and i not in refused)
        brought += [(i, bring(i)) for i in new]
        raw_tokens = sum(len(chunks[i - 1]) for i in new)
        rounds.append(_round(turn, asked, early, new, repeated, refused, raw_tokens, None))
        if not new:
            must, ended = "answer", "nothing new"
        elif len(rounds) == max_rounds:
            must, ended = "answer", "rounds"
        else:
            must = "either"


def _round(turn: Turn, asked, from_answer, brought, repeated, refused, raw_tokens, answer) -> Round:
    return Round(
        turn.number,
        turn.must,
        asked,
        from_answer,
        brought,
        repeated,
        refused,
        raw_tokens,
        turn.n_positions,
        answer,
    )


def _is_id(value: object, n_chunks: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= n_chunks


def positions_of(piece: Piece) -> int:
    """Decoder positions that a piece takes; a span must have been encoded.

    Raises:
        ValueError: a span that is not encoded, whose latents depend on the model.
    """
    if isinstance(piece, Raw):
        return piece.tokens.shape[-1]
    if isinstance(piece, Span):
        raise ValueError("a span has no latents yet: encode it first, with encode_ahead.")
    return piece.values.shape[-2] + N_TAGS


def scripted(*moves: Expand | Answer) -> Player:
    """A model that plays given moves in order, whatever it is shown.

    Raises:
        ValueError: (from the model) more turns than moves.
    """
    left = list(moves)

    def model(turn: Turn) -> Expand | Answer:
        if not left:
            raise ValueError(f"the script has no move for turn {turn.number}.")
        return left.pop(0)

    return model


def id_logits(logits: Tensor, id_tokens: Sequence[int], *, without: Collection[int] = ()) -> Tensor:
    """Logits of the ids 1 .. k out of those of the whole vocabulary.

    Args:
        logits: [v], of the next token.
        id_tokens: the token of each id.
        without: ids that may not be chosen, such as those brought back already; -inf.

    Returns:
        [k]; the answer to "where?" is the arg-max plus 1.
    """
    chosen = logits[torch.tensor(list(id_tokens), device=logits.device)]
    for number in without:
        chosen[number - 1] = -torch.inf
    return chosen
