"""What committed runs found, as typed records: kernel times, memory, recall, the conversion.

The files lie in `benchmarks/results`; each names its command, commit, device and seed.
"""

import functools
from dataclasses import dataclass

from intuitive.common import results

from .recall import KSweep, RecallRun

MS_PER_UNIT = {"ms": 1.0, "us": 1e-3}

# ------------------------------------------------------------------------------ kernel times


@dataclass(frozen=True, kw_only=True)
class KernelRow:
    """One row of `benchmarks/kernels.py`; None where something was not timed."""

    task: str
    queries: int
    tokens: int
    unit: str  # of the times, a key of MS_PER_UNIT
    cudnn: float | None = None
    flash: float | None = None
    score: float | None = None  # block scores alone
    select: float | None = None  # of scores that are there
    score_and_select: float | None = None  # in chunks of queries
    attend: float | None = None
    attend_near: float | None = None  # selections with the sharing of a served model
    attend_random: float | None = None
    distinct_near: dict[str, float] | None = None  # blocks among so many neighbouring queries
    distinct_random: dict[str, float] | None = None
    msa: float | None = None
    dense_peak_bytes: int | None = None
    score_and_select_peak_bytes: int | None = None
    attend_near_peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class KernelFile:
    """The values of `kernels_h100.json`."""

    rows: tuple[KernelRow, ...]


@dataclass(frozen=True, kw_only=True)
class KernelProfile:
    """Part of what `benchmarks/kernel_profile.py` found of later kernels on one card."""

    decode: dict[str, float | dict[str, float]]  # µs
    counters: dict[str, dict[str, str]]  # of ncu, by kernel and then by name: "5.31 %"

    def empty_us(self, launches: int) -> float:
        """Time of launches that do nothing, in one captured graph."""
        return self.decode[f"{launches} empty launches_us"]

    def decode_us(self, context: str, part: str) -> float:
        """Time of a decode step after "8K", "32K" or "128K", or of one of its kernels alone.

        Args:
            context: tokens.
            part: "whole", "scores", "attend" or "merge".
        """
        return self.decode[f"{context}, hopper"][f"{part}_us"]

    def busy(self, kernel: str, unit: str) -> float:
        """Share of its peak that a unit reached: "dram", or "lts", which is the L2 cache."""
        name = f"{unit}__throughput.avg.pct_of_peak_sustained_elapsed"
        return float(self.counters[kernel][name].removesuffix(" %")) / 100


@dataclass(frozen=True, kw_only=True)
class KernelTime:
    """One layer's attention at one context, dense and MSA; the selection of a served model."""

    task: str  # "prefill", "last queries" (of a long context) or "decode"
    queries: int
    context: int  # tokens
    dense_ms: float  # the fastest backend of PyTorch's SDPA
    select_ms: float  # index scores, block maxima and top-k
    attend_ms: float
    msa_ms: float  # both together
    dense_peak_bytes: int | None  # beyond the inputs; None where it was not measured
    msa_peak_bytes: int | None

    @property
    def speedup(self) -> float:
        """Dense time over MSA time."""
        return self.dense_ms / self.msa_ms


@dataclass(frozen=True, kw_only=True)
class KernelTimes:
    """All rows of one run on one device."""

    device: str
    commit: str
    rows: tuple[KernelTime, ...]

    def of(self, task: str) -> tuple[KernelTime, ...]:
        """The rows of one task, by context."""
        return tuple(sorted((r for r in self.rows if r.task == task), key=lambda r: r.context))


@functools.cache
def kernel_rows() -> results.Committed[KernelFile]:
    """The committed rows of `benchmarks/kernels.py` as they were written.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load("kernels_h100", KernelFile)


@functools.cache
def kernel_profile() -> results.Committed[KernelProfile]:
    """Launches, parts of a decode step and counters.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load("kernel_profile", KernelProfile)


@functools.cache
def kernel_times() -> KernelTimes:
    """The committed times of `benchmarks/kernels.py`, dense and MSA.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    found = kernel_rows()
    rows = tuple(_kernel_time(row) for row in found.values.rows if row.msa is not None)
    return KernelTimes(device=found.made.device, commit=found.made.commit, rows=rows)


def _kernel_time(row: KernelRow) -> KernelTime:
    unit = MS_PER_UNIT[row.unit]
    peaks = (row.score_and_select_peak_bytes, row.attend_near_peak_bytes)
    attend = row.attend if row.attend_near is None else row.attend_near
    return KernelTime(
        task=row.task,
        queries=row.queries,
        context=row.tokens,
        dense_ms=unit * min(time for time in (row.cudnn, row.flash) if time is not None),
        select_ms=unit * row.score_and_select,
        attend_ms=unit * attend,
        msa_ms=unit * row.msa,
        dense_peak_bytes=row.dense_peak_bytes,
        msa_peak_bytes=None if None in peaks else max(peaks),
    )


# ------------------------------------------------------------------------------------ memory


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Bytes held, by category, at one context; dense where `n_selected` is None."""

    what: str  # "layer" of the paper's sizes, or "SmolLM2" whole
    context: int  # tokens
    n_selected: int | None  # blocks
    weights: int | None = None  # None for a layer's attention without projections
    keys_values: int
    index_keys: int
    prefill_scratch: int  # most held besides while the context, or its last queries, are prefilled
    decode_scratch: int  # the same for one decoded token


@dataclass(frozen=True, kw_only=True)
class MemoryFile:
    """The values of `msa_memory_h100.json`."""

    rows: tuple[MemoryUse, ...]


def memory_use() -> tuple[MemoryUse, ...]:
    """The committed rows of `benchmarks/msa_memory.py`.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load("msa_memory_h100", MemoryFile).values.rows


# ------------------------------------------------------------------------------------ recall


@dataclass(frozen=True, kw_only=True)
class RecallFile:
    """The values of `msa_arms.json`."""

    runs: tuple[RecallRun, ...]
    k_sweep: tuple[KSweep, ...]
    variants: dict[str, tuple[RecallRun, ...]]


def recall() -> RecallFile:
    """All that `benchmarks/msa_arms.py` committed: the arms, the k-sweeps and the variants.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load("msa_arms", RecallFile).values


def recall_runs() -> tuple[RecallRun, ...]:
    """The runs of the five arms; snapshots stand with those of the first seed."""
    return recall().runs


# -------------------------------------------------------------------------------- conversion


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Perplexities of one reader of the texts: of all, of the prose, of the code."""

    selector: str  # or "dense"
    context: int  # tokens
    all: float
    prose: float
    code: float
    n_selected: int | None = None  # blocks; None for the dense model
    seed: int | None = None  # of a trained index
    dense_layers: tuple[int, ...] | None = None  # layers that stayed dense, if some did


@dataclass(frozen=True, kw_only=True)
class QualityRow:
    """How well one selector's choice serves the dense model's attention; averages over layers."""

    selector: str
    context: int  # tokens
    block_size: int
    n_selected: int  # blocks
    mass_captured: float
    block_recall: float
    group_overlap: float
    mass_by_layer: tuple[float, ...]
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class DecodeRow:
    """One token after another, by the same loop, in bfloat16."""

    selector: str  # "dense" or "trained_index"
    prompt_tokens: int
    decode_tokens_per_s: float
    decode_ms_per_token: float
    gpu_busy_ms_per_token: float  # of the milliseconds per token
    kernels_per_token: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """How one student's index was trained."""

    warmup_steps: int
    sparse_steps: int
    seconds: float
    device: str
    kl: tuple[float, ...]  # averaged over layers, at equal distances of steps, in nats
    validation: dict[str, dict[str, float]]  # perplexities at the "start" and the "end"


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """Held-out perplexities of one student at one budget."""

    student: str
    d_index: int
    seed: int
    warmup_steps: int
    sparse_steps: int
    n_selected: int  # blocks
    context: int  # tokens
    perplexity: float
    returning_passage: float | None  # None where it was not measured


@dataclass(frozen=True, kw_only=True)
class AdaptedRow:
    """Perplexity of a model that was trained on, or of the frozen one."""

    arm: str  # "frozen", "adapted" (through its index) or "dense" (without one)
    seed: int
    measure: str  # "perplexity" or "returning_passage"
    n_selected: int | None  # blocks; None where it reads densely
    all: float


@dataclass(frozen=True, kw_only=True)
class AdaptedArm:
    """How one arm of the adaptation was trained."""

    arm: str
    seed: int
    steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class EarlierIndex:
    """The index that was shipped before, three seeds: 180 steps, on texts in which little returns.

    No command here makes it any more; its rows stay for comparison.
    """

    d_index: int
    kl: tuple[tuple[float, ...], ...]  # by seed, then by step
    perplexity: tuple[Losses, ...]
    returning_passage: tuple[Losses, ...]
    quality: tuple[QualityRow, ...]
    decode: tuple[DecodeRow, ...]  # of the dense model too


@dataclass(frozen=True, kw_only=True)
class ConversionFile:
    """The values of `msa_index.json`."""

    perplexity: tuple[Losses, ...]
    returning_passage: tuple[Losses, ...]
    quality: tuple[QualityRow, ...]
    training: dict[str, TrainingRow]  # by student
    curve: tuple[SizeRow, ...]
    adaptation: tuple[AdaptedRow, ...]
    adaptation_arms: tuple[AdaptedArm, ...]
    shipped: str  # the student whose index comes with the package
    shipped_bytes: int
    before: EarlierIndex


def conversion() -> results.Committed[ConversionFile]:
    """What making SmolLM2 sparse cost, from `benchmarks/msa_index.py`, and how it was made.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load("msa_index", ConversionFile)


# ------------------------------------------------------------------------------------- reads


@dataclass(frozen=True, kw_only=True)
class ReadsRow:
    """How often the tokens of one block read each block that they see."""

    text: str  # "returning", where a passage comes back, or "plain"
    selector: str
    n_selected: int  # blocks
    percent: tuple[int, ...]  # of the choices of all layers, groups, tokens and texts, by block


@dataclass(frozen=True, kw_only=True)
class ReadsFile:
    """The values of `msa_reads.json`."""

    block: int  # whose tokens ask
    block_size: int
    rows: tuple[ReadsRow, ...]
    index: str  # the student whose index was asked


def reads() -> results.Committed[ReadsFile]:
    """Which blocks every selector reads, from `benchmarks/msa_reads.py`.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load("msa_reads", ReadsFile)
