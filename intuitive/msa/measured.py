"""What the MSA kernels took on a data-centre GPU, from the committed benchmarks.

`benchmarks/kernels.py` and `benchmarks/msa_memory.py` write the files; command, commit and
versions stand in them.
"""

import functools
import json
from dataclasses import dataclass
from importlib import resources

RESULT = "kernels_h100.json"
MEMORY_RESULT = "msa_memory_h100.json"
DENSE_BACKENDS = ("cudnn", "flash")
MS_PER_UNIT = {"ms": 1.0, "us": 1e-3}


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


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Bytes held, by category, at one context; dense where `n_selected` is None."""

    what: str  # "layer" of the paper's sizes, or "SmolLM2" whole
    context: int  # tokens
    n_selected: int | None  # blocks
    weights: int | None  # None for a layer's attention without projections
    keys_values: int
    index_keys: int
    prefill_scratch: int  # most held besides while the context, or its last queries, are prefilled
    decode_scratch: int  # the same for one decoded token


@functools.cache
def memory_use() -> tuple[MemoryUse, ...]:
    """The committed rows of `benchmarks/msa_memory.py`.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    file = resources.files("intuitive.results").joinpath(MEMORY_RESULT)
    saved = json.loads(file.read_text(encoding="utf-8"))
    return tuple(MemoryUse(**{"weights": None, **row}) for row in saved["values"]["rows"])


@functools.cache
def kernel_times() -> KernelTimes:
    """The committed times of `benchmarks/kernels.py`.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    file = resources.files("intuitive.results").joinpath(RESULT)
    saved = json.loads(file.read_text(encoding="utf-8"))
    rows = tuple(_row(row) for row in saved["rows"] if "msa" in row)
    return KernelTimes(device=saved["device"], commit=saved["commit"], rows=rows)


def _row(row: dict) -> KernelTime:
    unit = MS_PER_UNIT[row["unit"]]
    peaks = [
        row[name]
        for name in ("score_and_select_peak_bytes", "attend_near_peak_bytes")
        if name in row
    ]
    return KernelTime(
        task=row["task"],
        queries=row["queries"],
        context=row["tokens"],
        dense_ms=unit * min(row[name] for name in DENSE_BACKENDS if name in row),
        select_ms=unit * row["score_and_select"],
        attend_ms=unit * row.get("attend_near", row.get("attend", 0.0)),
        msa_ms=unit * row["msa"],
        dense_peak_bytes=row.get("dense_peak_bytes"),
        msa_peak_bytes=max(peaks) if len(peaks) == 2 else None,
    )
