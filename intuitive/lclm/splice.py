"""Spans of latents among raw text, as one prompt for the decoder.

A span costs its latents and two tags. Decoder positions are consecutive over the shortened
sequence, one per latent, and attention is the decoder's own.

Source: arXiv:2606.09659v1, section 3; the official repository (tags, labels).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.checks import truth
from intuitive.common.inputs import plain_fields

from .reference import group_spans, label_mask

NOT_TRAINED = -100  # what cross_entropy ignores


def as_tokens(tokens: Tensor | Sequence[int], what: str) -> Tensor:
    """Token ids as an integer tensor [n] or [b, n].

    Raises:
        ValueError: no integers, or another number of axes.
    """
    if not isinstance(tokens, Tensor):
        try:
            kind = None if len(tokens) else torch.int64
            tokens = torch.tensor(list(tokens), dtype=kind, device="cpu")
        except (TypeError, ValueError, RuntimeError):  # no numbers, ragged, beyond 64 bits
            raise ValueError(f"{what} holds {tokens!r}; token ids are integers.") from None
    if tokens.dtype not in (torch.int64, torch.int32) or tokens.dim() not in (1, 2):
        raise ValueError(
            f"{what} holds {tokens.dtype} of shape {tuple(tokens.shape)}; token ids are integers "
            "of shape [n], or [b, n] for rows of equal length."
        )
    return tokens


@dataclass(frozen=True, eq=False)
class Raw:
    """Text that the decoder reads as it is.

    Args:
        tokens: [n] ids, or [b, n] in a batch of rows that are laid out alike.
        trained: whether the loss counts these tokens; or which of them, a bool tensor like
            `tokens`.
    """

    tokens: Tensor | Sequence[int]
    trained: bool | Tensor = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", as_tokens(self.tokens, "Raw"))
        if not isinstance(self.trained, Tensor) or not self.trained.dim():
            object.__setattr__(self, "trained", truth("trained", self.trained))
        if isinstance(self.trained, Tensor) and (
            self.trained.dtype != torch.bool or self.trained.shape[-1:] != self.tokens.shape[-1:]
        ):
            raise ValueError(
                f"trained is {self.trained.dtype} of shape {tuple(self.trained.shape)}; "
                f"one bool for each of the tokens, {tuple(self.tokens.shape)}, is needed."
            )


@dataclass(frozen=True, eq=False)
class Span:
    """Text to be compressed: [n] ids, or [b, n] in a batch of rows that are laid out alike."""

    tokens: Tensor | Sequence[int]

    def __post_init__(self) -> None:
        tokens = as_tokens(self.tokens, "Span")
        if not tokens.shape[-1]:
            raise ValueError(
                "an empty span has no latents: leave the Span out, or give it at least one token."
            )
        object.__setattr__(self, "tokens", tokens)


@dataclass(frozen=True, eq=False)
class Latents:
    """A span that was encoded before: [m, d_dec], or [b, m, d_dec] in a batch."""

    values: Tensor

    def __post_init__(self) -> None:
        plain_fields(self)
        if self.values.dim() not in (2, 3) or not self.values.shape[-2]:
            raise ValueError(
                f"latents have shape {tuple(self.values.shape)}; [m, d_dec] with m >= 1 is needed."
            )


Piece = Raw | Span | Latents


@dataclass(frozen=True, eq=False)
class Spliced:
    """One prompt; entry i of everything belongs to decoder position i."""

    embeddings: Float[Tensor, "1 n d"]
    kinds: tuple[str, ...]
    tokens: Int[Tensor, " n"]  # -1 where no token stands

    @property
    def positions(self) -> Int[Tensor, " n"]:
        """0 .. n - 1: one per raw token, tag and latent."""
        return torch.arange(len(self.kinds), device=self.tokens.device)


@dataclass(frozen=True, eq=False)
class Batch:
    """Prompts for training, filled up at the right."""

    embeddings: Float[Tensor, "b n d"]
    targets: Int[Tensor, "b n"]  # what output i should predict; NOT_TRAINED where nothing
    runs: tuple[tuple[int, int], ...]  # outputs that any row trains: start and end (excluded)


@dataclass(frozen=True)
class Slot:
    """One decoder position, for whoever draws it."""

    kind: str
    position: int  # on the decoder's ruler
    piece: int  # which of the pieces
    start: int  # its tokens on the raw ruler; a tag has none
    stop: int
    trained: bool


def layout(
    pieces: Sequence[tuple[str, int]], *, ratio: int, window: int, tags: bool = True
) -> tuple[Slot, ...]:
    """Where everything stands, on the raw ruler and on the decoder's; needs no model.

    Args:
        pieces: ("raw" or "span", tokens) in order.
        ratio: tokens per latent.
        window: tokens per encoder pass.
        tags: whether a span stands between two tags.

    Raises:
        ValueError: another kind of piece, an empty span, a ratio that does not divide the window.
    """
    found, raw = [], 0  # (kind, piece, start, stop)
    for number, (what, n) in enumerate(pieces):
        if what == "raw":
            found += [("raw", number, raw + i, raw + i + 1) for i in range(n)]
        elif what == "span" and n > 0:
            groups = group_spans(n, ratio=ratio, window=window)
            inside = [("latent", number, raw + a, raw + b) for a, b in groups]
            start, end = ("start", number, raw, raw), ("end", number, raw + n, raw + n)
            found += [start, *inside, end] if tags else inside
        else:
            raise ValueError(f"piece {number} is {(what, n)}; give ('raw', n) or ('span', n >= 1).")
        raw += n
    mask = label_mask([kind for kind, *_ in found]).tolist()
    return tuple(
        Slot(kind, position, piece, start, stop, trained)
        for position, ((kind, piece, start, stop), trained) in enumerate(
            zip(found, mask, strict=True)
        )
    )


@dataclass(frozen=True, eq=False)
class Joined:
    """Pieces one after the other; rows are laid out alike."""

    embeddings: Float[Tensor, "b n d"]
    kinds: tuple[str, ...]
    tokens: Int[Tensor, "b n"]  # -1 where no token stands
    trained: tuple[tuple[int, int, bool | Tensor], ...]  # raw pieces: start, end, which


def join(
    pieces: Sequence[Raw | Latents],
    *,
    embed: Callable[[Tensor], Tensor],
    tags: Float[Tensor, "2 d"] | None,
) -> Joined:
    """Put raw text and encoded spans into one sequence of embeddings.

    Args:
        pieces: all with the same number of rows; what has none counts for every row.
        embed: token ids [b, n] to the decoder's embeddings [b, n, d].
        tags: what stands before and behind the latents of a span; None for nothing, which the
            models here never do, but which makes N = 1 the raw decoder.

    Raises:
        ValueError: no pieces, or different numbers of rows.
    """
    parts, kinds, tokens, trained = [], [], [], []
    for piece in pieces:
        if isinstance(piece, Raw):
            ids = piece.tokens if piece.tokens.dim() == 2 else piece.tokens[None]
            if not ids.shape[1]:
                continue
            trained.append((len(kinds), len(kinds) + ids.shape[1], piece.trained))
            parts.append(embed(ids))
            kinds += ["raw"] * ids.shape[1]
            tokens.append(ids.long())
            continue
        values = piece.values if piece.values.dim() == 3 else piece.values[None]
        inside = ["latent"] * values.shape[1]
        if tags is not None:
            start, end = (tag.expand(len(values), 1, -1) for tag in tags)
            values, inside = torch.cat((start, values, end), 1), ["start", *inside, "end"]
        parts.append(values)
        kinds += inside
        tokens.append(torch.full(values.shape[:2], -1, device=values.device))
    if not parts:
        raise ValueError("the prompt is empty: give at least one piece with a token.")
    rows = {len(part) for part in parts} - {1}
    if len(rows) > 1:
        raise ValueError(f"pieces with {sorted(rows)} rows cannot stand in one batch.")
    b = rows.pop() if rows else 1
    return Joined(
        torch.cat([part.expand(b, -1, -1) for part in parts], 1),
        tuple(kinds),
        torch.cat([ids.expand(b, -1) for ids in tokens], 1),
        tuple(trained),
    )


def targets(joined: Joined) -> tuple[Int[Tensor, "b n"], list[bool]]:
    """What each output should predict, and which outputs any row may train.

    Output i is read for token i + 1: trained are the raw tokens that something precedes, where
    their piece says so.
    """
    may = [False] * len(joined.kinds)
    wanted = torch.full_like(joined.tokens, NOT_TRAINED)
    mask = label_mask(joined.kinds).tolist()
    for start, stop, which in joined.trained:
        if which is False:
            continue
        if not mask[start]:
            start, which = start + 1, which if which is True else which[..., 1:]
        if start == stop:
            continue
        ids = joined.tokens[:, start:stop]
        if which is not True:
            ids = ids.masked_fill(~which.to(ids.device), NOT_TRAINED)
        wanted[:, start - 1 : stop - 1] = ids
        may[start - 1 : stop - 1] = [True] * (stop - start)
    return wanted, may


def runs_of(flags: Sequence[bool]) -> tuple[tuple[int, int], ...]:
    """Where flags are up: start and end (excluded) of each run."""
    padded = [False, *flags, False]
    edges = [i for i in range(len(flags) + 1) if padded[i] != padded[i + 1]]
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def batch_of(rows: Sequence[Joined]) -> Batch:
    """Rows laid out alike (one `Joined`), or each in its own way, filled up at the right.

    Raises:
        ValueError: nothing is trained.
    """
    each = [targets(row) for row in rows]
    n = max(len(row.kinds) for row in rows)
    may = [any(i < len(flags) and flags[i] for _, flags in each) for i in range(n)]
    if not any(may):
        raise ValueError(
            "no raw token is trained here: the loss needs a Raw piece with trained=True that "
            "something precedes."
        )
    if len(rows) == 1:
        return Batch(rows[0].embeddings, each[0][0], runs_of(may))
    pad = torch.nn.functional.pad
    return Batch(
        torch.cat([pad(row.embeddings, (0, 0, 0, n - len(row.kinds))) for row in rows]),
        torch.cat([pad(wanted, (0, n - wanted.shape[1]), value=NOT_TRAINED) for wanted, _ in each]),
        runs_of(may),
    )
