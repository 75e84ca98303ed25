"""The paper's three kinds of training data, as rules over token lists.

    interleaved          a document alternates between compressed and raw segments
    compressed_prompt    messages compressed whole or in parts, and a raw reply
    reconstruction       a compressed text, a request, and the text again
    Mixture              rows of several kinds, in shares of the tokens trained on

Each row is a list of pieces, which `LatentContextModel.batch_rows` makes a batch of; the loss
counts the raw tokens that the pieces mark.

Source: arXiv:2606.09659v1, Fig. 2, Tables 2 and 3, and appendix C.4 (segments, regions).
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from intuitive.common.checks import whole

from .splice import Piece, Raw, Span, as_tokens

LEAST = 128  # tokens of a segment
LONG, LONG_RAW = 16_384, 8_192  # beyond LONG tokens a document keeps LONG_RAW raw
PAIRS = ((2_047, 1, 1), (4_096, 1, 2), (8_192, 2, 4), (16_384, 4, 6))  # up to n tokens: from, to
PAIRS_BEYOND = (4, 8)
FIRST_WRAPPED, LAST_RAW = (0.3, 0.4), (0.4, 0.5)  # of all that is wrapped, or raw
JITTER = 0.2  # of the other segments, around equal lengths

WHOLE = 0.5  # of messages, that are compressed as a whole whatever their length
WHOLE_BELOW = 32  # tokens: such a message is always compressed as a whole
REGIONS = ((200, 1), (600, 2))  # up to n tokens: most regions of a message
MOST_REGIONS = 3
COVERED = 0.8  # at least this share of a message is to be compressed
LEAST_COVERED = 0.7  # where ends of lines leave less, it is compressed as a whole

# Ours; the paper has about a hundred for each of its sources.
REQUESTS = {
    "text": (
        "\nRepeat:\n",
        "\nSay the text above again, word for word:\n",
        "\nWrite out what you have just read, leaving nothing out:\n",
        "\nThe same text once more:\n",
        "\nQuote the passage in full:\n",
    ),
    "code": (
        "\nRepeat the code:\n",
        "\nThe same source, character for character:\n",
        "\nPrint the file above with its spaces and line ends:\n",
        "\nWrite this code out again without changing it:\n",
    ),
    "maths": (
        "\nRepeat the solution:\n",
        "\nCopy the formulas and the steps between them:\n",
        "\nWrite the derivation out again, every symbol as it stands:\n",
        "\nThe same mathematics once more:\n",
    ),
}


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    drawn = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)
    return low + (high - low) * float(drawn)


def _between(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number in [low, high]."""
    return int(torch.randint(low, high + 1, (), generator=generator, device=generator.device))


def _line(tokens: Tensor | Sequence[int], what: str) -> Tensor:
    """Token ids [n].

    Raises:
        ValueError: no integers, or rows of a batch.
    """
    tokens = as_tokens(tokens, what)
    if tokens.dim() != 1:
        raise ValueError(
            f"{what} has token ids of shape {tuple(tokens.shape)}: rows are laid out each in its "
            "own way, so give one text at a time, [n]."
        )
    return tokens


# ------------------------------------------------------------------------------- interleaved


def segment_lengths(n_tokens: int, generator: torch.Generator) -> tuple[tuple[int, int], ...]:
    """Lengths of a document's segments: pairs of a compressed and a raw one.

    Half of the tokens stay raw, rounded down; of a document over 16,384 tokens 8,192. There is 1
    pair below 2,048 tokens, 1 or 2 up to 4,096, 2 to 4 up to 8,192, 4 to 6 up to 16,384, 4 to 8
    above. Of several, the first compressed segment holds 30 to 40% of what is compressed and the
    last raw one 40 to 50% of what stays raw; the others share the rest equally, within 20%. A
    document of 256 tokens or more thereby has no segment below 128; a shorter one is refused, and
    is to be joined with others or left to `reconstruction`.

    Args:
        n_tokens: of the document, at least 256.
        generator: of the number of pairs and of the lengths.

    Raises:
        ValueError: too short for two segments.

    Source: appendix C.4.
    """
    n_tokens = whole(
        "n_tokens", n_tokens, low=2 * LEAST, why="a segment has at least 128 tokens; join documents"
    )
    raw = LONG_RAW if n_tokens > LONG else n_tokens // 2
    fewest, most = next(((a, b) for limit, a, b in PAIRS if n_tokens <= limit), PAIRS_BEYOND)
    n_pairs = _between(fewest, most, generator)
    covers = _shared(n_tokens - raw, n_pairs, FIRST_WRAPPED, generator)
    raws = _shared(raw, n_pairs, LAST_RAW, generator)[::-1]
    return tuple(zip(covers, raws, strict=True))


def _shared(
    total: int, n: int, first: tuple[float, float], generator: torch.Generator
) -> list[int]:
    """Shares of a total: the first one within limits, the others equal up to the jitter."""
    if n == 1:
        return [total]
    share = _uniform(*first, generator)
    away = [_uniform(-JITTER, JITTER, generator) for _ in range(n - 1)]
    middle = sum(away) / len(away)
    away = [one - middle for one in away]  # so that the rest is shared out, no more and no less
    shrink = min(1.0, JITTER / max(JITTER, *map(abs, away)))
    edges = [0.0, share]
    for one in away:
        edges.append(edges[-1] + (1 - share) * (1 + shrink * one) / (n - 1))
    places = [*(round(edge * total) for edge in edges[:-1]), total]
    return [b - a for a, b in pairwise(places)]


def interleaved(tokens: Tensor | Sequence[int], generator: torch.Generator) -> list[Piece]:
    """A document that begins compressed, ends raw, and alternates; all raw tokens are trained.

    Args:
        tokens: [n], at least 256.
        generator: of the segments.

    Raises:
        ValueError: as in `segment_lengths`, or rows of a batch.
    """
    tokens = _line(tokens, "the document")
    pieces: list[Piece] = []
    at = 0
    for covered, raw in segment_lengths(len(tokens), generator):
        pieces += [Span(tokens[at : at + covered]), Raw(tokens[at + covered : at + covered + raw])]
        at += covered + raw
    return pieces


# ------------------------------------------------------------------------------- instructions


def regions(
    n_tokens: int, generator: torch.Generator, *, ends: Collection[int] | None = None
) -> tuple[tuple[int, int], ...]:
    """Which tokens of a message are compressed: starts and ends (excluded), in order.

    Half of the messages are one region, and so is every message below 32 tokens. The others have
    one region up to 200 tokens, one or two up to 600, one to three above; together they cover 80
    to 100%. Where `ends` leave less than 70% of that, the whole message is one region.

    Args:
        n_tokens: of the message, at least 1.
        generator: of the choice.
        ends: where a region may begin or end beside the message's own ends, such as behind each
            line: every region shrinks to the nearest of them. Anywhere if None.

    Raises:
        ValueError: an empty message.

    Source: appendix C.4. Regions that touch are one.
    """
    n_tokens = whole("n_tokens", n_tokens, low=1, why="an empty message has nothing to compress")
    everything = ((0, n_tokens),)
    if n_tokens < WHOLE_BELOW or _uniform(0.0, 1.0, generator) < WHOLE:
        return everything
    count = _between(
        1, next((m for limit, m in REGIONS if n_tokens <= limit), MOST_REGIONS), generator
    )
    covered = _between(math.ceil(COVERED * n_tokens - 1e-9), n_tokens, generator)
    sizes = _parts(covered, [_uniform(0.8, 1.2, generator) for _ in range(count)])
    gaps = _parts(n_tokens - covered, [_uniform(0.0, 1.0, generator) for _ in range(count + 1)])
    found: list[tuple[int, int]] = []
    at = 0
    for gap, size in zip(gaps, sizes, strict=False):
        start, at = at + gap, at + gap + size
        if ends is None:
            found.append((start, at))
            continue
        allowed = [end for end in (0, *sorted(ends), n_tokens) if start <= end <= at]
        if len(allowed) > 1 and allowed[0] < allowed[-1]:
            found.append((allowed[0], allowed[-1]))
    if sum(end - start for start, end in found) < LEAST_COVERED * n_tokens:
        return everything
    return tuple(_touching(found))


def _parts(total: int, weights: Sequence[float]) -> list[int]:
    """A whole number in parts by weights, which add up to it."""
    scale, edges, reached = total / sum(weights), [0], 0.0
    for weight in weights[:-1]:
        reached += weight * scale
        edges.append(min(round(reached), total))
    return [b - a for a, b in pairwise([*edges, total])]


def _touching(found: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same regions, those that touch made one."""
    joined = [found[0]]
    for start, end in found[1:]:
        if start == joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def message(
    tokens: Tensor | Sequence[int],
    generator: torch.Generator,
    *,
    ends: Collection[int] | None = None,
) -> list[Piece]:
    """One message with compressed regions; what is left of it stays raw, and nothing is trained.

    Arguments and errors as in `regions`.
    """
    tokens = _line(tokens, "the message")
    pieces: list[Piece] = []
    at = 0
    for start, end in regions(len(tokens), generator, ends=ends):
        if start > at:
            pieces.append(Raw(tokens[at:start], trained=False))
        pieces.append(Span(tokens[start:end]))
        at = end
    return [*pieces, Raw(tokens[at:], trained=False)] if at < len(tokens) else pieces


def compressed_prompt(
    messages: Sequence[Tensor | Sequence[int]],
    reply: Tensor | Sequence[int],
    generator: torch.Generator,
    *,
    instruction: Tensor | Sequence[int] = (),
) -> list[Piece]:
    """Messages with compressed regions, a raw instruction if given, and the reply, alone trained.

    Args:
        messages: at least one; each of them is compressed by its own draw.
        reply: what the model is to say.
        generator: of the regions.
        instruction: what stands raw between the messages and the reply.

    Raises:
        ValueError: no list of messages, or an empty message or reply.
    """
    if isinstance(messages, Tensor) or any(isinstance(one, int) for one in messages):
        raise ValueError("messages is one text; give a list of them, such as [tokens].")
    reply, asked = _line(reply, "the reply"), _line(instruction, "the instruction")
    if not len(messages) or not len(reply):
        raise ValueError(
            f"{len(messages)} messages and a reply of {len(reply)} tokens: a prompt has at least "
            "one message, and without a reply nothing is trained."
        )
    pieces = [piece for tokens in messages for piece in message(tokens, generator)]
    return [*pieces, *([Raw(asked, trained=False)] if len(asked) else []), Raw(reply)]


# ------------------------------------------------------------------------------- reconstruction


def request(kind: str, generator: torch.Generator) -> str:
    """One of our ways to ask for a text again.

    Args:
        kind: of the text: "text", "code" or "maths".
        generator: of the choice.

    Raises:
        ValueError: another kind.
    """
    if kind not in REQUESTS:
        raise ValueError(f"kind={kind!r} is unknown; a text is one of {', '.join(REQUESTS)}.")
    return REQUESTS[kind][_between(0, len(REQUESTS[kind]) - 1, generator)]


def reconstruction(tokens: Tensor | Sequence[int], asked: Tensor | Sequence[int]) -> list[Piece]:
    """A compressed text, a raw request to repeat it, and the text again, alone trained.

    Args:
        tokens: of the text.
        asked: token ids of the request, such as those of `request(...)`.

    Raises:
        ValueError: an empty text.
    """
    tokens = _line(tokens, "the text")
    return [Span(tokens), Raw(_line(asked, "the request"), trained=False), Raw(tokens)]


# ------------------------------------------------------------------------------------ the mix


def trained_tokens(pieces: Sequence[Piece]) -> int:
    """How many tokens of a row the loss counts; nothing is predicted before the first one."""
    count, before = 0, False
    for piece in pieces:
        if not isinstance(piece, Raw):
            before = True
            continue
        n = piece.tokens.shape[-1]
        marked = torch.as_tensor(piece.trained).expand(n)
        count += int(marked.sum()) - (n > 0 and not before and bool(marked[0]))
        before = before or n > 0
    return count


class Mixture:
    """Rows of several kinds, in shares of the tokens trained on.

    The next row is always of the kind that has had least for its share so far. So at no time is a
    kind above its share by more than one of its own rows, however much longer the rows of one kind
    are than those of another.

    Args:
        draws: by kind, a function that draws a row, a list of pieces.
        shares: by kind, of the trained tokens; they need not add up to 1, and a kind with 0 is
            never drawn.

    Attributes:
        trained: tokens trained on so far, by kind.

    Raises:
        ValueError: a share without a kind or a kind without a share, a share below 0, or all 0.

    Source: shares of trained tokens as in Tables 2 and 3.
    """

    def __init__(
        self,
        draws: Mapping[str, Callable[[torch.Generator], Sequence[Piece]]],
        shares: Mapping[str, float],
    ) -> None:
        if set(draws) != set(shares):
            raise ValueError(
                f"shares are given for {', '.join(shares) or 'nothing'} and rows for "
                f"{', '.join(draws) or 'nothing'}: both name the same kinds."
            )
        if not shares or min(shares.values()) < 0 or not sum(shares.values()) > 0:
            raise ValueError(f"shares {dict(shares)} must not be below 0, and one must be above.")
        self._draws = {kind: draws[kind] for kind, share in shares.items() if share > 0}
        self.shares = {kind: shares[kind] / sum(shares.values()) for kind in self._draws}
        self.trained = dict.fromkeys(self._draws, 0)

    def row(self, generator: torch.Generator) -> tuple[str, Sequence[Piece]]:
        """The next row, and its kind.

        Raises:
            ValueError: it trains nothing, so that its kind could never reach its share.
        """
        kind = min(self.shares, key=lambda kind: self.trained[kind] / self.shares[kind])
        pieces = self._draws[kind](generator)
        n = trained_tokens(pieces)
        if not n:
            raise ValueError(f"a row of kind {kind!r} trains no token: mark what it is to say.")
        self.trained[kind] += n
        return kind, pieces

    def rows(self, n: int, generator: torch.Generator) -> list[Sequence[Piece]]:
        """The next n rows, for `LatentContextModel.batch_rows`."""
        return [self.row(generator)[1] for _ in range(whole("n", n, low=1))]
