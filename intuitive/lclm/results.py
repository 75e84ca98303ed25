"""What committed runs of LCLM found, as typed records."""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

from intuitive.common import results

# ------------------------------------------------------------------ time and memory on the GPU

PAIR = "lclm_pair_h200"
PAIR_PARTS = ("beside", "evictions")  # of a later run, each with its own comparison
EVICTION = "lclm_eviction_h200"


@dataclass(frozen=True, kw_only=True)
class PairPoint:
    """One prompt read by the untrained pair; memory by term as in `cost.MemoryTerms`, GiB."""

    arm: str  # "raw" or "lclm"
    n_tokens: int  # before compression
    ratio: int  # 1 where raw
    logits: str  # "last" or "all"
    way: str  # "whole": in one pass; "pieces": through the cache, a few thousand tokens at a time
    backend: str  # of attention
    repeats: int
    ttft_s: float  # median
    slowest_s: float
    encoder_s: float  # of the median run's first token
    decoder_s: float
    peak_gib: float  # allocated, weights included
    weights_gib: float
    kv_gib: float
    logits_gib: float
    encoder_peak_gib: float  # while encoding; the decoder's cache is not there yet

    @property
    def activations_gib(self) -> float:
        """What else the peak holds; where the encoder peaks there are neither cache nor logits."""
        held = self.weights_gib
        if self.encoder_peak_gib < self.peak_gib:
            held += self.kv_gib + self.logits_gib
        return self.peak_gib - held


@dataclass(frozen=True, kw_only=True)
class EncoderPoint:
    """The encoder in batches of windows beside a plain forward pass at the same shapes."""

    windows: int  # in a batch
    tokens_per_s: float  # windows, pooling and adapter included
    plain_tokens_per_s: float

    @property
    def share(self) -> float:
        """Throughput as a share of the plain forward pass."""
        return self.tokens_per_s / self.plain_tokens_per_s


@dataclass(frozen=True, kw_only=True)
class EvictionTime:
    """A prompt is read and the cache made small; medians, seconds."""

    method: str
    n_tokens: int
    budget: int  # entries kept per layer and KV head
    prefill_s: float  # until the first token's logits
    ready_s: float  # until decoding can go on from the small cache
    peak_mib: float  # beyond weights
    cache_mib: float  # kept


@dataclass(frozen=True, kw_only=True)
class Pair:
    """All that `benchmarks/lclm_pair.py` writes."""

    points: tuple[PairPoint, ...]
    encoder: tuple[EncoderPoint, ...]
    faults: tuple[dict[str, str], ...]  # what did not run, for want of time or memory
    evictions: tuple[EvictionTime, ...] = ()  # the decoder alone

    def select(self, **fields: object) -> tuple[PairPoint, ...]:
        """Points with these fields, in the order of the file."""
        return tuple(
            point
            for point in self.points
            if all(getattr(point, name) == value for name, value in fields.items())
        )


@functools.cache
def pair() -> results.Committed[Pair]:
    """The committed run of the untrained Qwen3-shaped pair."""
    return results.load(PAIR, Pair)


@functools.cache
def pair_part(part: str) -> results.Committed[Pair]:
    """What a later run of it found: the encoder "beside" a plain pass, or "evictions".

    Raises:
        ValueError: no such part.
    """
    if part not in PAIR_PARTS:
        raise ValueError(f"part={part!r} is unknown; choose one of {', '.join(PAIR_PARTS)}.")
    return results.load(PAIR.replace("pair", f"pair_{part}"), Pair)


@dataclass(frozen=True, kw_only=True)
class EvictionQuality:
    """How well held-out text is continued from a cache of one size."""

    method: str
    texts: str  # "prose", "code", or "returning": a passage of the context is what follows
    context: int  # tokens read
    budget: int  # entries kept per layer and KV head
    pieces: int  # texts
    perplexity: float  # of the tokens that follow


@dataclass(frozen=True, kw_only=True)
class FirstLoss:
    """Mean loss of what follows the first piece of a kind of text, to be met again elsewhere."""

    method: str
    texts: str
    context: int
    budget: int
    loss: float  # nats


@dataclass(frozen=True, kw_only=True)
class Eviction:
    """All that `benchmarks/lclm_eviction.py` writes."""

    times: tuple[EvictionTime, ...]
    quality: tuple[EvictionQuality, ...]
    first_losses: tuple[FirstLoss, ...]


@functools.cache
def eviction() -> results.Committed[Eviction]:
    """The committed comparison of evictions on SmolLM2."""
    return results.load(EVICTION, Eviction)


# ------------------------------------------------------------------ trained miniatures

MINIATURE = "lclm_miniature"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One miniature, trained and measured on held-out examples."""

    part: str  # of the script that made it
    study: str  # "recall", "reconstruction", "sweep", "stages", "expand", "raw" (before stages)
    scale: str  # "small" (d = 64, 2 + 2 layers) or "large" (d = 256, 4 + 4 layers)
    data: str  # "records", "symbols", "bytes" or "chunks"
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
    """How one part of a study was made."""

    command: str
    commit: str
    device: str
    torch: str


@dataclass(frozen=True, kw_only=True)
class Miniatures:
    """What `benchmarks/lclm_miniature.py` writes, all parts put together."""

    parts: dict[str, Part]
    points: tuple[Point, ...]
    guesses: dict[str, float]  # right without binding or reading, by "data scale n_records"

    def select(self, **fields: Any) -> tuple[Point, ...]:
        """Points with these fields, in the order of the file."""
        return tuple(
            point
            for point in self.points
            if all(getattr(point, name) == value for name, value in fields.items())
        )

    def part_of(self, point: Point) -> Part:
        """How a point was made."""
        return self.parts[point.part]


@functools.cache
def miniatures() -> results.Committed[Miniatures]:
    """The committed miniatures."""
    return results.load(MINIATURE, Miniatures)


# ------------------------------------------------------------------ the pair around SmolLM2

SMOLLM = "lclm_smollm"


@dataclass(frozen=True, kw_only=True)
class SmolTraining:
    """One training of the real pair, or of the decoder on raw text alone (`control`)."""

    control: bool
    seed: int
    steps: int
    seconds: float
    recorded: int  # forms of a step that were recorded and replayed; without, steps are slow
    curve: tuple[dict[str, float], ...]  # losses by kind of data, every 30 s


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """How well 256 raw tokens are predicted after 768, the context given in one form."""

    seed: int
    texts: str  # "prose", "docs" or "code"
    adaptation: str  # of the decoder: "shared" with the encoder, "raw only", or "none"
    arm: str  # "raw", "none", "truncated to 4", "compressed 4", "... + tail": the last 128 raw
    positions: int  # of the decoder, for the context
    pieces: int
    perplexity: float
    perplexity_first_32: float  # of the first 32 tokens alone


@dataclass(frozen=True, kw_only=True)
class Far:
    """The same where the needed words are far away."""

    seed: int
    texts: str
    adaptation: str
    what: str  # "passage": one that returns; "fact": one that is asked for
    arm: str
    perplexity: float  # of the returning tokens, or of the answer
    tokens_right: float
    all_right: float  # share of answers of which every token is the likeliest


@dataclass(frozen=True, kw_only=True)
class KindShare:
    """Share of the tokens of one kind that are read back right."""

    share: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class ReadBack:
    """Windows of 256 tokens repeated from their latents, told the true tokens before each."""

    seed: int
    texts: str
    ratio: int
    right: float
    perplexity: float
    bits_per_latent: float  # that the latents leave open
    by_kind: dict[str, KindShare]  # "word", "name", "number", "other"
    by_place: tuple[float, ...]  # in the group
    by_quarter: tuple[float, ...]  # of the window


@dataclass(frozen=True, kw_only=True)
class ChunkMap:
    """Needles in compressed chunks; shares of questions, `ratio` 1 for chunks left raw."""

    seed: int
    ratio: int
    chunks: int
    chunk_tokens: int
    questions: int
    chance: float
    where: float  # the right chunk's id was the likeliest
    where_lexical: float  # the right chunk shares most tokens with the question
    where_shuffled: float | None  # with the latents shuffled among the chunks
    value: dict[str, float]  # the whole value: "alone", or a chunk opened: "own", "oracle", ...
    value_shuffled: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class SmolCost:
    """Time to first token and peak memory beside the weights, in one run; medians."""

    arm: str  # "raw" or "compressed 4"
    prompts: int  # at once
    tokens: int  # of each
    positions: int
    ttft_ms: float
    fastest_ms: float
    slowest_ms: float
    times_faster: float  # than raw
    peak_mib: float | None


@dataclass(frozen=True, kw_only=True)
class Longer:
    """The first seed's pair once more, trained for more steps; it is not shipped."""

    training: SmolTraining
    continuations: tuple[Continuation, ...]
    far: tuple[Far, ...]
    reconstruction: tuple[ReadBack, ...]
    maps: tuple[ChunkMap, ...]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What one pair was worth on held-out prose after its steps, by ratio."""

    seed: int
    steps: int
    right: dict[int, float]  # share of the tokens said again
    gap: dict[int, float]  # closed, as `Smol.gap_closed` counts it
    over_cut: dict[int, float]  # perplexity, beads over cut text, before 128 raw tokens


@dataclass(frozen=True, kw_only=True)
class Smol:
    """All that `benchmarks/lclm_smollm.py` writes."""

    training: tuple[SmolTraining, ...]
    continuations: tuple[Continuation, ...]
    far: tuple[Far, ...]
    reconstruction: tuple[ReadBack, ...]
    maps: tuple[ChunkMap, ...]
    costs: tuple[SmolCost, ...]
    parts: dict[str, Part] = field(default_factory=dict)  # "pair", "control", "longer"
    longer: Longer | None = None

    def extent(self, table: str, measure: str, **fields: object) -> tuple[float, float, float]:
        """Mean, least and greatest value over the seeds of one setting.

        Args:
            table: "continuations", "far", "reconstruction" or "maps".
            measure: a field of its rows.
            fields: that tell one setting from the others.

        Raises:
            ValueError: no such row, or two of one seed.
        """
        rows = [
            row
            for row in getattr(self, table)
            if all(getattr(row, name) == value for name, value in fields.items())
        ]
        if not rows or len({row.seed for row in rows}) != len(rows):
            raise ValueError(
                f"{fields} fits {len(rows)} rows of {table}: name as many fields as leave one row "
                "per seed."
            )
        values = [getattr(row, measure) for row in rows]
        return sum(values) / len(values), min(values), max(values)

    def gap_closed(
        self, ratio: int, *, texts: str = "prose", tail: bool = False, longer: bool = False
    ) -> dict[int, float]:
        """By seed, how much of the way from no context to the raw one the latents go, in nats.

        Both ends are the best of all decoders: untouched, adapted together with the encoder, and
        adapted to raw text alone. The longer training is measured between the same ends.
        """
        best = {
            arm: min(
                row.perplexity for row in self.continuations if (row.texts, row.arm) == (texts, arm)
            )
            for arm in ("raw", "none")
        }
        arm = f"compressed {ratio}" + " + tail" * tail
        whole = math.log(best["none"] / best["raw"])
        rows = self._longer().continuations if longer else self.continuations
        return {
            row.seed: math.log(best["none"] / row.perplexity) / whole
            for row in rows
            if (row.texts, row.arm, row.adaptation) == (texts, arm, "shared")
        }

    def by_steps(self) -> tuple[Steps, ...]:
        """Every pair, the longer one too, from the fewest steps to the most."""
        pairs = [(run, self, False) for run in self.training if not run.control]
        pairs += [(self.longer.training, self.longer, True)] if self.longer else []
        found = []
        for run, tables, longer in sorted(pairs, key=lambda pair: pair[0].steps):
            perplexity = {
                row.arm: row.perplexity
                for row in tables.continuations
                if (row.seed, row.texts, row.adaptation) == (run.seed, "prose", "shared")
            }
            right = {
                row.ratio: row.right
                for row in tables.reconstruction
                if (row.seed, row.texts) == (run.seed, "prose")
            }
            cut = {n: perplexity[f"truncated to {n} + tail"] for n in right}
            found.append(
                Steps(
                    seed=run.seed,
                    steps=run.steps,
                    right=right,
                    gap={n: self.gap_closed(n, longer=longer)[run.seed] for n in right},
                    over_cut={n: perplexity[f"compressed {n} + tail"] / cut[n] for n in right},
                )
            )
        return tuple(found)

    def _longer(self) -> Longer:
        if self.longer is None:
            raise ValueError("no longer training was committed with these runs.")
        return self.longer


@functools.cache
def smollm() -> results.Committed[Smol]:
    """The committed runs of the real pair."""
    return results.load(SMOLLM, Smol)
