"""The paper's three kinds of training data, as rules over token lists.

    interleaved          a document alternates between compressed and raw segments
    compressed_prompt    a prompt compressed as a whole or in parts, its reply raw
    reconstruction       a compressed text, a request, and the text again

Each returns the pieces of one training row; the loss counts the raw tokens that they mark.

Source: arXiv:2606.09659v1, Fig. 2 and appendix C.4 (segments, regions).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from intuitive.common.checks import whole

from .splice import Piece, Raw, Span, as_tokens

LEAST = 128  # tokens of a segment
LONG, LONG_RAW = 16_384, 8_192  # beyond LONG tokens a document keeps LONG_RAW raw
PAIRS = ((2_047, 1, 1), (4_096, 1, 2), (8_192, 2, 4), (16_384, 4, 6))  # up to n tokens: from, to
PAIRS_BEYOND = (4, 8)
REGIONS = ((200, 1), (600, 2))  # up to n tokens: most regions of a prompt
MOST_REGIONS = 3
WHOLE_BELOW = 32  # tokens: such a prompt is always compressed as a whole
LEAST_COVERED = 0.7  # below this share a prompt is compressed as a whole

# Ours; the paper has about a hundred for each of its sources.
REQUESTS = (
    "\nRepeat:\n",
    "\nSay the text above again, word for word:\n",
    "\nCopy of the text:\n",
    "\nWrite out what you have just read:\n",
    "\nThe same text once more:\n",
)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _between(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _chance(share: float, generator: torch.Generator) -> bool:
    return _uniform(0.0, 1.0, generator) < share


# ------------------------------------------------------------------------------- interleaved


def segment_lengths(n_tokens: int, generator: torch.Generator) -> tuple[tuple[int, int], ...]:
    """Lengths of a document's segments: pairs of a compressed and a raw one.

    Half of the tokens stay raw, of a document over 16,384 tokens 8,192. The first compressed
    segment holds 30 to 40% of what is compressed, the last raw one 40 to 50% of what stays raw;
    the others share the rest, each up to 20% more or less than evenly; none is below 128.

    Args:
        n_tokens: of the document, at least 256.
        generator: of the number of pairs and of the lengths.

    Raises:
        ValueError: too short for two segments.
    """
    n_tokens = whole(
        "n_tokens", n_tokens, low=2 * LEAST, why="a segment has at least 128 tokens; join documents"
    )
    raw = LONG_RAW if n_tokens > LONG else n_tokens // 2
    wrapped = n_tokens - raw
    fewest, most = next(((a, b) for limit, a, b in PAIRS if n_tokens <= limit), PAIRS_BEYOND)
    n_pairs = _between(fewest, most, generator)
    first = _uniform(0.3, 0.4, generator)
    last = _uniform(0.4, 0.5, generator)
    covers = _shared(wrapped, n_pairs, first, generator)
    raws = _shared(raw, n_pairs, last, generator)[::-1]
    return tuple(zip(covers, raws, strict=True))


def _shared(total: int, n: int, first: float, generator: torch.Generator) -> list[int]:
    """Shares of a total: the first one given, the others about even."""
    if n == 1:
        return [total]
    weights = [_uniform(0.8, 1.2, generator) for _ in range(n - 1)]
    rest = (1 - first) / sum(weights)
    edges = [0.0, first]
    for weight in weights:
        edges.append(edges[-1] + weight * rest)
    places = [round(edge * total) for edge in edges[:-1]] + [total]
    lengths = [b - a for a, b in pairwise(places)]
    for i, length in enumerate(lengths):  # what is too short takes from the longest
        if length < LEAST:
            longest = max(range(n), key=lengths.__getitem__)
            lengths[longest] -= LEAST - length
            lengths[i] = LEAST
    return lengths


def interleaved(tokens: Tensor | Sequence[int], generator: torch.Generator) -> list[Piece]:
    """A document that begins compressed, ends raw, and alternates; all raw tokens are trained.

    Raises:
        ValueError: as in `segment_lengths`.
    """
    tokens = as_tokens(tokens, "the document")
    pieces: list[Piece] = []
    at = 0
    for covered, raw in segment_lengths(len(tokens), generator):
        pieces += [Span(tokens[at : at + covered])]
        at += covered
        pieces += [Raw(tokens[at : at + raw])]
        at += raw
    return pieces


# ------------------------------------------------------------------------------- instructions


def regions(n_tokens: int, generator: torch.Generator) -> tuple[tuple[int, int], ...]:
    """Which tokens of a prompt are compressed: starts and ends (excluded), in order.

    Half of the prompts are one region, and so is every prompt below 32 tokens. The others have
    one region up to 200 tokens, one or two up to 600, one to three above; together they cover 80
    to 100%. Where rounding leaves less than 70%, the whole prompt is one region.

    Args:
        n_tokens: of the prompt, at least 1.
        generator: of the choice.
    """
    n_tokens = whole("n_tokens", n_tokens, low=1)
    if n_tokens < WHOLE_BELOW or _chance(0.5, generator):
        return ((0, n_tokens),)
    most = next((count for limit, count in REGIONS if n_tokens <= limit), MOST_REGIONS)
    count = _between(1, most, generator)
    covered = _uniform(0.8, 1.0, generator) * n_tokens
    sizes = [_uniform(0.8, 1.2, generator) for _ in range(count)]
    gaps = [_uniform(0.0, 1.0, generator) for _ in range(count + 1)]
    sizes = [int(size / sum(sizes) * covered) for size in sizes]
    left = n_tokens - sum(sizes)
    found, at = [], 0
    for size, gap in zip(sizes, gaps, strict=False):
        at += int(gap / sum(gaps) * left)
        if size:
            found.append((at, at + size))
        at += size
    if sum(end - start for start, end in found) < LEAST_COVERED * n_tokens:
        return ((0, n_tokens),)
    return tuple(found)


def compressed_prompt(
    prompt: Tensor | Sequence[int],
    reply: Tensor | Sequence[int],
    generator: torch.Generator,
    *,
    instruction: Tensor | Sequence[int] = (),
) -> list[Piece]:
    """A prompt with compressed regions, a raw instruction if given, and the reply, alone trained.

    Raises:
        ValueError: an empty prompt or reply.
    """
    prompt, reply = as_tokens(prompt, "the prompt"), as_tokens(reply, "the reply")
    if not len(prompt) or not len(reply):
        raise ValueError(
            f"a prompt of {len(prompt)} tokens and a reply of {len(reply)}: both need at least one."
        )
    pieces: list[Piece] = []
    at = 0
    for start, end in regions(len(prompt), generator):
        if start > at:
            pieces.append(Raw(prompt[at:start], trained=False))
        pieces.append(Span(prompt[start:end]))
        at = end
    if at < len(prompt):
        pieces.append(Raw(prompt[at:], trained=False))
    asked = as_tokens(instruction, "the instruction")
    if len(asked):
        pieces.append(Raw(asked, trained=False))
    return [*pieces, Raw(reply)]


# ------------------------------------------------------------------------------- reconstruction


def reconstruction(tokens: Tensor | Sequence[int], request: Tensor | Sequence[int]) -> list[Piece]:
    """A compressed text, a raw request to repeat it, and the text again, alone trained.

    Args:
        tokens: of the text.
        request: token ids, such as of one of `REQUESTS`.

    Raises:
        ValueError: an empty text.
    """
    tokens = as_tokens(tokens, "the text")
    return [Span(tokens), Raw(request, trained=False), Raw(tokens)]
