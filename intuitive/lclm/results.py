"""What committed runs of LCLM found, as typed records."""

import functools
from dataclasses import dataclass
from typing import Any

from intuitive.common import results

MINIATURE = "lclm_miniature"

# ------------------------------------------------------------------------------- the miniatures


@dataclass(frozen=True, kw_only=True)
class Point:
    """One miniature, trained and measured on held-out examples."""

    study: str  # "recall", "reconstruction", "sweep" or "stages"
    scale: str  # "small" (d = 64, 2 + 2 layers) or "large" (d = 256, 4 + 4 layers)
    data: str  # "records", "symbols" or "bytes"
    budget: str  # "equal" steps in a study, or "plateau"
    reader: str  # "latents", "raw" or "smeared"
    ratio: int  # tokens per latent
    window: int  # tokens per encoder pass
    pooling: str
    mask: str
    training: str  # "joint", "staged", "frozen" (the decoder) or "scratch" (no raw training before)
    reconstruction: float  # share of the rows that reconstruct; the rest recalls or goes on
    n_records: int  # 0 without records
    seed: int
    steps: int  # taken
    reached: bool  # whether a plateau was reached; False at equal steps
    context: int  # tokens of a span
    curve_steps: tuple[int, ...]
    curve: dict[str, tuple[float, ...]]  # by measure, on held-out examples

    def last(self, measure: str) -> float:
        """A measure after training.

        Raises:
            KeyError: it was not measured; the message lists those that were.
        """
        if measure not in self.curve:
            raise KeyError(f"no measure {measure!r} here; there are {', '.join(self.curve)}.")
        return self.curve[measure][-1]

    @property
    def records_per_latent(self) -> float:
        """The most records that begin within one latent's tokens; 0 without records."""
        if not self.n_records:
            return 0.0
        return max(1.0, self.ratio * self.n_records / self.context)


@dataclass(frozen=True, kw_only=True)
class Part:
    """How one part of the studies was made."""

    command: str
    commit: str
    device: str
    torch: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Miniatures:
    """What `benchmarks/lclm_miniature.py` writes, all parts put together."""

    parts: dict[str, Part]
    points: tuple[Point, ...]
    guesses: dict[str, float]  # what needs no binding, by "data scale n_records"

    def select(self, **fields: Any) -> tuple[Point, ...]:
        """Points with these fields, in the order of the file."""
        return tuple(
            point
            for point in self.points
            if all(getattr(point, name) == value for name, value in fields.items())
        )


@functools.cache
def miniatures() -> results.Committed[Miniatures]:
    """The committed miniatures."""
    return results.load(MINIATURE, Miniatures)
