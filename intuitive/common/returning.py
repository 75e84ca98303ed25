"""Texts in which passages return: something worth remembering.

Ordinary prose hardly repeats itself. Whoever learns from it what of a long past will be read again
learns that the newest is, and little else. Here passages of a real text stand in it once more,
word for word, at places and distances that are known:

    new new new [passage] new new new ... new [passage] new [another] new

A text keeps the split of the file it is made of, so that nothing of a held-out file is trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from . import corpus
from .checks import whole, whole_fields
from .runtime import seeded

FOREIGN = tuple(
    f"human-rights-{language}.txt"
    for language in ("arabic", "chinese", "french", "russian", "spanish")
)


@dataclass(frozen=True)
class Return:
    """One passage that stands in a text again; places are counted in tokens."""

    at: int  # where it begins again
    start: int  # where it began before
    length: int

    @property
    def gap(self) -> int:
        """Tokens between the end of its former place and its return."""
        return self.at - self.start - self.length


@dataclass(frozen=True, eq=False)
class ReturningText:
    """A text and where its passages return, in order."""

    tokens: Int[Tensor, " n"]
    returns: tuple[Return, ...]
    source: str  # the file it is made of

    @property
    def returned(self) -> Bool[Tensor, " n"]:
        """True at tokens that belong to a passage which has returned."""
        marked = torch.zeros(len(self.tokens), dtype=torch.bool)
        for passage in self.returns:
            marked[passage.at : passage.at + passage.length] = True
        return marked


@dataclass(frozen=True, kw_only=True)
class ReturningConfig:
    """How such a text is made; lengths are in tokens, and both ends of a range may be drawn.

    Raises:
        ValueError: a length below 1, a range whose ends are swapped, or a text that is too short
            for anything to return in it.
    """

    n: int = 2048  # of the whole text
    first: int = 1024  # nothing returns before
    passage: tuple[int, int] = (64, 256)  # of a passage that returns
    fresh: tuple[int, int] = (32, 128)  # new text between two of them
    least_gap: int = 256  # between a passage's end and its return

    def __post_init__(self) -> None:
        whole_fields(self, n=1, first=1, least_gap=0)
        for name in ("passage", "fresh"):
            low, high = (whole(name, end, low=1) for end in getattr(self, name))
            if low > high:
                raise ValueError(f"{name}={(low, high)} must be a range from low to high.")
            object.__setattr__(self, name, (low, high))
        if self.first < self.least_gap + self.passage[0]:
            raise ValueError(
                f"first={self.first} leaves no passage of {self.passage[0]} tokens that ends "
                f"least_gap={self.least_gap} before it: let the first return come later."
            )
        if self.first + self.passage[0] > self.n:
            raise ValueError(
                f"n={self.n} ends before a passage could return at first={self.first}: take a "
                "longer text."
            )


def returning_text(
    source: Int[Tensor, " m"],
    config: ReturningConfig,
    generator: torch.Generator,
    *,
    starts: Bool[Tensor, " m"] | None = None,
    name: str = "",
) -> ReturningText:
    """Let passages of a text return in it.

    Args:
        source: tokens of the text, at least `config.n`; the new text is taken from a place of it
            that is drawn, in order.
        config: lengths and gaps.
        generator: draws, on the CPU.
        starts: True where a passage may begin, such as at sentences; anywhere if None.
        name: of the source.

    Raises:
        ValueError: the source is too short.
    """
    if len(source) < config.n:
        raise ValueError(f"the source has {len(source)} tokens, n={config.n} are needed.")

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    begin = draw(0, len(source) - config.n)
    new = source[begin : begin + config.n].tolist()
    may_start = [True] * config.n if starts is None else starts[begin : begin + config.n].tolist()
    tokens, places = new[: config.first], may_start[: config.first]
    used, returns = config.first, []
    while len(tokens) < config.n:
        at = len(tokens)
        length = min(draw(*config.passage), config.n - at, at - config.least_gap)
        last = at - config.least_gap - length
        if length >= config.passage[0]:
            allowed = [i for i in range(last + 1) if places[i]] or range(last + 1)
            start = allowed[draw(0, len(allowed) - 1)]
            returns.append(Return(at, start, length))
            tokens += tokens[start : start + length]
            places += [False] * length  # what returns is the first copy, always
        fresh = min(draw(*config.fresh), config.n - len(tokens))
        tokens += new[used : used + fresh]
        places += may_start[used : used + fresh]
        used += fresh
    return ReturningText(torch.tensor(tokens), tuple(returns), name)


def with_returns(
    tokens: Int[Tensor, " n"],
    generator: torch.Generator,
    *,
    count: tuple[int, int] = (3, 7),
    passage: tuple[int, int] = (48, 512),
    least_gap: int = 64,
    name: str = "",
) -> ReturningText:
    """A text over parts of which passages from before are written once more, at any place.

    Args:
        tokens: the text, which is not changed.
        generator: draws, on the CPU.
        count: how many passages return, from the least to the most.
        passage: their lengths in tokens, likewise; at most a quarter of the text.
        least_gap: tokens between a passage's end and its return.
        name: of the text's source.

    Raises:
        ValueError: a text in which no passage of the least length could return.
    """
    n, (shortest, longest) = len(tokens), passage
    longest = min(longest, n // 4)
    if longest < shortest or 2 * longest + least_gap > n:
        raise ValueError(
            f"{n} tokens are too few for passages of {shortest} to return {least_gap} after their "
            "end: take a longer text, or shorter passages."
        )

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    made, returns = tokens.clone(), []
    for _ in range(draw(*count)):
        length = draw(shortest, longest)
        at = draw(length + least_gap, n - length)
        start = draw(0, at - least_gap - length)
        made[at : at + length] = made[start : start + length].clone()
        returns.append(Return(at, start, length))
    return ReturningText(made, tuple(sorted(returns, key=lambda passage: passage.at)), name)


def sentence_starts(pieces: Sequence[str]) -> Bool[Tensor, " n"]:
    """True at tokens that begin a sentence or a line, by the pieces of text of all tokens."""
    ends = [piece.rstrip(" ”’\"')")[-1:] in (*".!?", "\n") for piece in pieces]
    return torch.tensor([True, *ends[:-1]])


def returning_texts(
    encode: Callable[[str], Sequence[int]],
    pieces: Callable[[Sequence[int]], Sequence[str]],
    config: ReturningConfig,
    *,
    split: str,
    count: int,
    seed: int,
    kind: str | None = None,
    part: tuple[float, float] = (0.0, 1.0),
    in_turn: bool = False,
) -> list[ReturningText]:
    """Texts of one split of the corpus in which passages return; the same for the same seed.

    Args:
        encode: a text's token ids.
        pieces: the text of each of these tokens; passages begin at sentences or lines.
        config: lengths and gaps.
        split: "train" or "heldout".
        count: how many.
        seed: of everything drawn.
        kind: "prose", "code", or both if None. Declarations in other languages are left out.
        part: shares of each file between which its tokens are taken, to keep something back.
        in_turn: whether the files come one after the other, as often as `count` allows. Else each
            is drawn, with a probability that grows with its length.

    Raises:
        ValueError: as in `corpus.load`; a part out of order; or no file of the split has enough
            tokens there.
    """
    count = whole("count", count, low=1)
    if not 0 <= part[0] < part[1] <= 1:
        raise ValueError(f"part={part} must be two rising shares in [0, 1].")
    sources, weights = [], []
    for document in corpus.load(split, kind):
        if document.name in FOREIGN:
            continue
        ids = encode(document.text)
        ids = ids[int(part[0] * len(ids)) : int(part[1] * len(ids))]
        if len(ids) >= config.n:
            starts = sentence_starts(pieces(ids))
            sources.append((torch.tensor(ids), starts, document.name))
            weights.append(float(len(ids)))
    if not sources:
        raise ValueError(
            f"no text of split={split!r} has n={config.n} tokens in part={part}: make them shorter."
        )
    generator = seeded(seed)
    if in_turn:
        lots = [i % len(sources) for i in range(count)]
    else:
        drawn = torch.tensor(weights, dtype=torch.float64)
        lots = torch.multinomial(drawn, count, replacement=True, generator=generator).tolist()
    return [
        returning_text(ids, config, generator, starts=starts, name=name)
        for ids, starts, name in (sources[lot] for lot in lots)
    ]
