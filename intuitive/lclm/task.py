"""Tasks of one span: recall and reconstruction of made-up tokens, and bytes of real text.

    recall          a span of records (key, value) spread among filler; questions are keys
    reconstruction  a span of random symbols; say it again
    bytes           a span of real text; say it again, or go on

Each task draws `Examples` on the device of the generator that it is given.

Differs: a recall question's answer is not written behind it; the question's own position must say
it. Sixteen questions about four records ask again for what was answered before, and an answer in
sight would be read instead of the latents. So every question stands alone, as the no-binding guess
assumes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from intuitive.common.checks import whole, whole_fields

from .splice import NOT_TRAINED


@dataclass(frozen=True, eq=False)
class Examples:
    """Spans to compress, raw tokens behind each, and what the model must say there."""

    spans: Int[Tensor, "*s b n"]
    raw: Int[Tensor, "*s b m"]
    # of the closing tag and of each raw token; NOT_TRAINED where nothing is asked
    targets: Int[Tensor, "*s b m1"]

    def step(self, index: int) -> "Examples":
        """Those of one step, where the first axis is steps."""
        return Examples(self.spans[index], self.raw[index], self.targets[index])

    def to(self, device: torch.device | str) -> "Examples":
        """The same on a device."""
        return Examples(*(x.to(device, non_blocking=True) for x in self.tensors()))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three tensors, for a recorded graph that takes no records."""
        return self.spans, self.raw, self.targets


def continuing(spans: Int[Tensor, "*s b n"], raw: Int[Tensor, "*s b m"]) -> Examples:
    """Next-token prediction of raw text behind a span; the closing tag says its first token.

    Continuation where `raw` follows the span in the text, reconstruction where it is the span.
    The last raw token only ends the targets: nothing is predicted from it.
    """
    return Examples(spans, raw[..., :-1], raw)


def joined(parts: Sequence[Examples]) -> Examples:
    """Rows of several kinds in one batch; shorter raw parts are padded to the right, untrained.

    Raises:
        ValueError: no parts, or spans of different lengths.
    """
    lengths = sorted({part.spans.shape[-1] for part in parts})
    if len(lengths) != 1:
        raise ValueError(f"spans have lengths {lengths}; rows of one batch share one length.")
    longest = max(part.raw.shape[-1] for part in parts)

    def padded(x: Tensor, length: int, value: int) -> Tensor:
        return F.pad(x, (0, length - x.shape[-1]), value=value)

    return Examples(
        torch.cat([part.spans for part in parts], dim=-2),
        torch.cat([padded(part.raw, longest, 0) for part in parts], dim=-2),
        torch.cat([padded(part.targets, longest + 1, NOT_TRAINED) for part in parts], dim=-2),
    )


# ---------------------------------------------------------------------------------------- recall


@dataclass(frozen=True, kw_only=True)
class RecallTask:
    """Records spread over a span, and questions drawn independently of each other.

    Tokens are: filler (one), then keys, then values. Keys of a context differ, values are drawn
    independently.

    Raises:
        ValueError: a size out of range, more records than keys, or records that do not fit.
    """

    n_keys: int = 16
    n_values: int = 8
    n_records: int = 4
    context: int = 32  # tokens of a span
    questions: int = 16

    def __post_init__(self) -> None:
        whole_fields(self, n_keys=1, n_values=1, n_records=1, context=2, questions=1)
        if self.n_records > self.n_keys:
            raise ValueError(
                f"n_records={self.n_records} exceeds n_keys={self.n_keys}: the keys of a context "
                "differ."
            )
        if 2 * self.n_records > self.context:
            raise ValueError(
                f"n_records={self.n_records} need {2 * self.n_records} tokens, "
                f"context={self.context}: lengthen it or ask for fewer."
            )
        if self.context % self.n_records:
            raise ValueError(
                f"context={self.context} must be a multiple of n_records={self.n_records}: "
                "records are spread evenly."
            )

    @property
    def vocabulary(self) -> int:
        """Tokens that there are."""
        return 1 + self.n_keys + self.n_values

    @property
    def spacing(self) -> int:
        """Tokens from one record to the next."""
        return self.context // self.n_records

    def records_per_latent(self, ratio: int) -> float:
        """The most records that begin within one latent's tokens."""
        return max(1.0, whole("ratio", ratio, low=1) / self.spacing)

    @property
    def no_binding(self) -> float:
        """What is right at best without knowing which value belongs to which key."""
        return most_frequent_share(self.n_records, self.n_values)

    def draw(self, *shape: int, generator: torch.Generator) -> Examples:
        """Examples of this shape, such as (batch,) or (steps, batch)."""
        device = generator.device
        ordered = torch.rand(*shape, self.n_keys, generator=generator, device=device).argsort(-1)
        keys = 1 + ordered[..., : self.n_records]
        values = torch.randint(self.n_values, keys.shape, generator=generator, device=device) + (
            1 + self.n_keys
        )
        spans = torch.zeros(*shape, self.context, dtype=torch.int64, device=device)
        spans[..., :: self.spacing] = keys
        spans[..., 1 :: self.spacing] = values
        asked = torch.randint(
            self.n_records, (*shape, self.questions), generator=generator, device=device
        )
        closing = torch.full((*shape, 1), NOT_TRAINED, device=device)
        targets = torch.cat((closing, values.gather(-1, asked)), dim=-1)
        return Examples(spans, keys.gather(-1, asked), targets)


def most_frequent_share(n_draws: int, n_values: int) -> float:
    """Expected share of the most frequent value among independent uniform draws.

    E[max_v count_v] / n_draws, from the exact distribution of the largest count: of the
    n_values^n_draws outcomes, n_draws! times the coefficient of x^n_draws in
    (sum_{i <= c} x^i / i!)^n_values have no count above c.

    Args:
        n_draws: at least 1.
        n_values: values that can be drawn, at least 1.
    """
    n_draws, n_values = whole("n_draws", n_draws, low=1), whole("n_values", n_values, low=1)
    total = Fraction(n_values**n_draws, math.factorial(n_draws))
    expected = Fraction(0)
    for most in range(n_draws):  # E[max] = sum over c >= 0 of P(max > c)
        series = [Fraction(1, math.factorial(i)) for i in range(min(most, n_draws) + 1)]
        power = [Fraction(1)]
        for _ in range(n_values):
            longer = [Fraction(0)] * min(n_draws + 1, len(power) + len(series) - 1)
            for i, a in enumerate(power):
                for j, b in enumerate(series[: len(longer) - i]):
                    longer[i + j] += a * b
            power = longer
        at_most = power[n_draws] if len(power) > n_draws else Fraction(0)
        expected += 1 - at_most / total
    return float(expected / n_draws)


# -------------------------------------------------------------------------------- reconstruction


@dataclass(frozen=True, kw_only=True)
class ReconstructionTask:
    """Uniformly random symbols, to be said again; the chance of a guess is 1 / n_symbols."""

    n_symbols: int = 16
    context: int = 32  # tokens of a span

    def __post_init__(self) -> None:
        whole_fields(self, n_symbols=2, context=2)

    @property
    def vocabulary(self) -> int:
        """Tokens that there are."""
        return self.n_symbols

    @property
    def chance(self) -> float:
        """What guessing gets right."""
        return 1 / self.n_symbols

    def bits_per_latent(self, ratio: int) -> float:
        """What a latent must hold, if every symbol is to come back."""
        return whole("ratio", ratio, low=1) * math.log2(self.n_symbols)

    def draw(self, *shape: int, generator: torch.Generator) -> Examples:
        """Examples of this shape, such as (batch,) or (steps, batch)."""
        spans = torch.randint(
            self.n_symbols, (*shape, self.context), generator=generator, device=generator.device
        )
        return continuing(spans, spans)


# ------------------------------------------------------------------------------------ real bytes


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """Pieces of real text as bytes: a span, and either itself again or what follows it.

    Tokens 0 to 255 are bytes; 256 (AGAIN) asks for the span once more and 257 (GO_ON) for what
    comes next. One of the two is the first raw token, so the closing tag itself is not trained.
    """

    context: int = 256  # bytes of a span
    continued: int = 128  # bytes behind it

    def __post_init__(self) -> None:
        whole_fields(self, context=1, continued=1)

    @property
    def vocabulary(self) -> int:
        """Tokens that there are."""
        return 258

    def draw(
        self,
        data: Int[Tensor, " bytes"],
        *shape: int,
        reconstruct: bool,
        generator: torch.Generator,
    ) -> Examples:
        """Examples of this shape, each from a place of its own in the text.

        Args:
            data: the text's bytes, on the generator's device.
            shape: such as (batch,) or (steps, batch).
            reconstruct: say the span again, or else go on.
            generator: of the places.

        Raises:
            ValueError: the text is shorter than one piece.
        """
        length = self.context + self.continued
        if len(data) < length:
            raise ValueError(
                f"the text has {len(data)} bytes, one piece needs {length}: give a longer one."
            )
        at = torch.randint(
            len(data) - length + 1, shape, generator=generator, device=generator.device
        )
        pieces = data[at[..., None] + torch.arange(length, device=data.device)]  # [*shape, length]
        spans = pieces[..., : self.context]
        said = spans if reconstruct else pieces[..., self.context :]
        asked = torch.full((*shape, 1), AGAIN if reconstruct else GO_ON, device=data.device)
        closing = torch.full_like(asked, NOT_TRAINED)
        return Examples(
            spans,
            torch.cat((asked, said[..., :-1]), dim=-1),
            torch.cat((closing, said), dim=-1),
        )


AGAIN, GO_ON = 256, 257
