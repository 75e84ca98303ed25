"""What the cache of DeepSeek-V4-Flash holds on the GPU, with everything resident and with LSA.

`run` splits the bytes of `cost` by what they are for, at contexts from 32K to 1M tokens: what is
held for every token of the context (the floor), the tail, and what was fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from .. import cost
from ..config import LSAConfig
from . import residency_memory
from .residency_memory import Row

CONTEXTS = tuple(2**power for power in range(15, 21))  # tokens: 32K to 1M
GIB = 2**30
# GB as printed: context, everything resident, LSA. arXiv:2606.09079v2, Table 1 (RULER rows); the
# last row is Fig. 1 of v3.
PRINTED = (
    (65_536, 0.23, 0.04),
    (131_072, 0.47, 0.06),
    (262_144, 0.94, 0.09),
    (524_288, 1.87, 0.18),
    (1_048_576, 3.73, 0.37),
)


@dataclass(frozen=True, kw_only=True)
class MemoryParams(Settings):
    """The controls of the memory explorer.

    Attributes:
        kept: share of all chunks that is on the GPU, the tail among them; where the tail alone is
            more, the tail.
        accounting: "everything", or "paper" for kept chunks alone.
        all_index_keys: whether the index keys of all CSA layers stay on the GPU, not only of those
            that the Memory Indexer reads. Not in the paper's accounting.
        tail: newest tokens that always stay.
    """

    kept: float = 0.1
    accounting: str = "everything"
    all_index_keys: bool = False
    tail: int = 8192

    def __post_init__(self) -> None:
        whole_fields(self, tail=0)
        if not 0 <= self.kept <= 1:
            raise ValueError(f"kept={self.kept} must lie in [0, 1]: it is a share of all chunks.")
        if self.accounting not in ("everything", "paper"):
            raise ValueError(f"accounting={self.accounting!r} is unknown: 'everything' or 'paper'.")


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes on the GPU at one context, over all layers.

    Attributes:
        context: tokens.
        chunks: all that there are, resident or not.
        kept: chunks that LSA keeps.
        tail: how many of them are the tail.
        everything: "entries", "index_keys" and "hca" with everything resident.
        lsa: "hca" and "floor_keys", held for every token; "tail" and "fetched" with the index
            keys that come along. Categories that are not counted are 0.
    """

    context: int
    chunks: int
    kept: int
    tail: int
    everything: dict[str, int]
    lsa: dict[str, int]

    @property
    def all_bytes(self) -> int:
        return sum(self.everything.values())

    @property
    def lsa_bytes(self) -> int:
        return sum(self.lsa.values())

    @property
    def left(self) -> float:
        """Share of the memory that LSA leaves."""
        return self.lsa_bytes / self.all_bytes

    @property
    def floor(self) -> int:
        """Bytes that LSA holds for every token, chosen or not."""
        return self.lsa["hca"] + self.lsa["floor_keys"]


@dataclass(frozen=True, kw_only=True)
class MemoryResult:
    """The same setting at all contexts."""

    params: MemoryParams
    config: LSAConfig
    at: tuple[Held, ...]  # of CONTEXTS


def run(
    params: MemoryParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> MemoryResult:
    """Bytes by category at every context; nothing here takes long enough to be given up."""
    config = LSAConfig.paper()
    held = tuple(hold(params, config, context) for context in CONTEXTS)
    return MemoryResult(params=params, config=config, at=held)


def hold(params: MemoryParams, config: LSAConfig, context: int) -> Held:
    """Bytes by category at one context.

    Raises:
        ValueError: the context is no whole number, or negative.
    """
    chunks = cost.n_chunks(config, context)
    tail = min(-(-params.tail // config.chunk_size), chunks)
    kept = max(round(params.kept * chunks), tail)
    full = cost.kv_bytes(config, context)
    how = {"accounting": params.accounting, "all_index_keys": params.all_index_keys}
    lsa = cost.resident_bytes(config, context, kept=kept / max(chunks, 1), **how)
    empty = cost.resident_bytes(config, context, kept=0.0, **how)
    with_chunks = sum(lsa.values()) - sum(empty.values())  # grows with the kept chunks alone
    of_tail = with_chunks * tail // max(kept, 1)
    return Held(
        context=context,
        chunks=chunks,
        kept=kept,
        tail=tail,
        everything={
            "entries": full["csa_entries"],
            "index_keys": full["index_keys"],
            "hca": full["hca_entries"],
        },
        lsa={
            "hca": empty["hca_entries"],
            "floor_keys": empty["index_keys"],
            "tail": of_tail,
            "fetched": with_chunks - of_tail,
        },
    )


# ------------------------------------------------------------------------------- measured


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured, by arm, in the order of contexts; and where."""

    rows: dict[str, tuple[Row, ...]]
    device: str

    def at(self, arm: str, context: int) -> Row:
        """The row of an arm at a context.

        Raises:
            KeyError: it was not measured there.
        """
        found = [row for row in self.rows.get(arm, ()) if row.context == context]
        if not found:
            raise KeyError(f"{arm!r} was not measured at {context} tokens.")
        return found[0]


def wait_ms() -> float | None:
    """What fetching on demand adds to a step, for each layer that fetches; None if not measured.

    All that it costs is in there: asking, copying, going on. Steps are launched one by one, and of
    the lengths measured the one with the shortest wait is taken.
    """
    found = measured()
    if found is None:
        return None
    slow, fast = ({r.context: r for r in found.rows[arm]} for arm in ("reactive", "everything"))
    waits = [
        1e3 / slow[context].eager_steps_per_s - 1e3 / fast[context].eager_steps_per_s
        for context in slow.keys() & fast.keys()
    ]
    return min(waits) / LSAConfig.paper().n_csa if waits else None


def measured() -> Measured | None:
    """What the committed run measured; None where none is committed.

    Of several exchange rates an arm's rows are those of the lowest.
    """
    try:
        found = residency_memory.measured()
    except FileNotFoundError:
        return None
    rows: dict[str, dict[int, Row]] = {}
    for row in found.values.rows:
        best = rows.setdefault(row.arm, {})
        kept = best.get(row.context)
        if kept is None or (row.exchange or 0) < (kept.exchange or 0):
            best[row.context] = row
    in_order = {arm: tuple(by[c] for c in sorted(by)) for arm, by in rows.items()}
    return Measured(rows=in_order, device=found.made.device)
