"""Four orders of the same loops, step by step: the bytes each one moves, and the time they take.

A sparse prefill computes one tile of scores for every (query, chosen block) pair. The pairs are
fixed; the order decides how often a key block, a group's queries and partial outputs travel
between memory and the compute units:

    everything    for each tile of queries: fetch every block, compute all pairs, mask afterwards
    query_outer   for each query: fetch its own blocks
    union_tile    for each tile of queries: fetch the union of their blocks once
    kv_outer      for each block: fetch the queries that chose it, write partial outputs, merge

The counts are those of Eqs. 13 and 15 on a small selection, for one GQA group. The clock takes for
each step what an H100 needs at the least: the longer of its bytes at the rate of the memory and its
products at the rate of the tensor cores.

Differs: a real card keeps what it fetched lately in a cache, and fetches from there are quicker.

Source: arXiv:2606.13392v2, section 4.2; the union tile is a later, public kernel design.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from .. import cost
from ..config import MSAConfig

ORDER_NAMES = {  # one name for each, wherever the lesson speaks of it
    "everything": "everything, masked",
    "query_outer": "query by query",
    "union_tile": "tile by tile",
    "kv_outer": "block by block",
}
ORDERS = tuple(ORDER_NAMES)


@dataclass(frozen=True, kw_only=True)
class LoopParams(Settings):
    """A small prefill: the last `n_queries` tokens of a context of `n_blocks` key blocks."""

    order: str = "everything"
    n_queries: int = 24
    n_blocks: int = 32
    n_selected: int = 6
    tile: int = 8  # queries of a union tile
    drift: float = 0.15  # chance that a query changes one of its neighbour's far blocks; 1 = all
    seed: int = 0

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order={self.order!r} is unknown; choose one of {', '.join(ORDERS)}.")
        whole_fields(self, n_queries=None, n_blocks=1, n_selected=None, tile=None, seed=None)
        if self.n_queries < 1 or self.tile < 1:
            raise ValueError(f"n_queries={self.n_queries} and tile={self.tile} must be at least 1.")
        if not 2 <= self.n_selected <= self.n_blocks:
            raise ValueError(
                f"n_selected={self.n_selected} must lie from 2 (the first and the local block) to "
                f"n_blocks={self.n_blocks}."
            )
        if not 0 <= self.drift <= 1:
            raise ValueError(f"drift={self.drift} must be a chance from 0 to 1.")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoopTrace:
    """One order, step by step; a step fetches one block (or one query's slab) and uses it.

    Bytes are cumulative after each step and count one GQA group at bfloat16.
    """

    order: str
    step_of: Int[np.ndarray, "n n_blk"]  # when the pair is computed; -1 where it never is
    masked: Bool[np.ndarray, "n n_blk"]  # computed although not chosen, then thrown away
    key_value_bytes: Int[np.ndarray, " steps"]
    query_bytes: Int[np.ndarray, " steps"]  # queries read and outputs written
    partial_bytes: Int[np.ndarray, " steps"]  # partial outputs written and read again
    clock_s: Float[np.ndarray, " steps"]  # seconds after each step
    multiplying_s: Float[np.ndarray, " steps"]  # of these, with the tensor cores at work

    @property
    def n_steps(self) -> int:
        return len(self.key_value_bytes)

    @property
    def total_bytes(self) -> int:
        return int(self.key_value_bytes[-1] + self.query_bytes[-1] + self.partial_bytes[-1])

    @property
    def total_s(self) -> float:
        return float(self.clock_s[-1])

    def step_at(self, seconds: float) -> int:
        """The last step that is done by then; -1 before the first."""
        return int(np.searchsorted(self.clock_s, seconds * (1 + 1e-9), side="right")) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class LoopResult:
    """All orders over one selection."""

    params: LoopParams
    config: MSAConfig
    chosen: Bool[np.ndarray, "n n_blk"]
    traces: dict[str, LoopTrace]

    @property
    def useful_pairs(self) -> int:
        """(query, block) pairs that have to be computed in any order."""
        return int(self.chosen.sum())


def drifting_selection(params: LoopParams) -> Bool[np.ndarray, "n n_blk"]:
    """Blocks chosen by consecutive queries: the first, the local one, and far ones that drift."""
    generator = seeded(params.seed)
    last = params.n_blocks - 1  # all these queries lie in the last block
    middle = np.arange(1, last)
    n_far = params.n_selected - 2

    def draw(count: int) -> np.ndarray:
        order = torch.randperm(len(middle), generator=generator).numpy()
        return middle[order[:count]]

    far = list(draw(n_far))
    chosen = np.zeros((params.n_queries, params.n_blocks), dtype=bool)
    for query in range(params.n_queries):
        chosen[query, [0, last, *far]] = True
        for slot in range(n_far):
            if float(torch.rand((), generator=generator, dtype=torch.float32)) < params.drift:
                far[slot] = next(b for b in draw(len(middle)) if b not in far)
    return chosen


def run(
    params: LoopParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> LoopResult:
    """Trace all orders over the same selection, at the paper's head and block sizes.

    Nothing here takes long enough to be given up.
    """
    config = MSAConfig.paper()
    chosen = drifting_selection(params)
    steps = {
        "everything": _by_tile(np.ones_like(chosen), params.tile),
        "query_outer": _one_by_one(chosen),
        "union_tile": _by_tile(chosen, params.tile),
        "kv_outer": _by_block(chosen),
    }
    traces = {order: _trace(order, steps[order], chosen, config) for order in ORDERS}
    return LoopResult(params=params, config=config, chosen=chosen, traces=traces)


# A step: the queries and the block it computes, and the slabs that it moves.


@dataclass(frozen=True)
class _Step:
    queries: np.ndarray
    block: int
    slabs: int = 0  # query or output slabs read or written
    partials: int = 0  # partial-output slabs written or read


def _one_by_one(chosen: np.ndarray) -> list[_Step]:
    steps = []
    for query, row in enumerate(chosen):
        blocks = row.nonzero()[0]
        for block in blocks:
            ends = (block == blocks[0]) + (block == blocks[-1])  # read q first, write o last
            steps.append(_Step(np.array([query]), int(block), slabs=int(ends)))
    return steps


def _by_tile(chosen: np.ndarray, tile: int) -> list[_Step]:
    steps = []
    for first in range(0, len(chosen), tile):
        queries = np.arange(first, min(first + tile, len(chosen)))
        blocks = chosen[queries].any(0).nonzero()[0]
        for block in blocks:
            ends = (block == blocks[0]) + (block == blocks[-1])
            steps.append(_Step(queries, int(block), slabs=int(ends) * len(queries)))
    return steps


def _by_block(chosen: np.ndarray) -> list[_Step]:
    steps = []
    for block in chosen.any(0).nonzero()[0]:
        queries = chosen[:, block].nonzero()[0]
        steps.append(_Step(queries, int(block), slabs=len(queries), partials=len(queries)))
    merge = _Step(np.array([], dtype=int), -1, slabs=len(chosen), partials=int(chosen.sum()))
    return [*steps, merge]


def pair_flops(config: MSAConfig) -> int:
    """FLOPs of one query's heads of a group with one block: scores and weighted values."""
    return 4 * config.group_size * config.block_size * config.d_head


def block_bytes(config: MSAConfig) -> int:
    """One block's keys and values in bfloat16."""
    return 2 * config.block_size * config.d_head * 2


def slab_bytes(config: MSAConfig) -> int:
    """One query's heads of a group, or their outputs, in bfloat16."""
    return config.group_size * config.d_head * 2


def _trace(
    order: str, steps: list[_Step], chosen: Bool[np.ndarray, "n n_blk"], config: MSAConfig
) -> LoopTrace:
    step_of = np.full(chosen.shape, -1)
    for number, step in enumerate(steps):
        if step.block >= 0:
            step_of[step.queries, step.block] = number
    fetched = np.array([step.block >= 0 for step in steps]) * block_bytes(config)
    slabs = np.array([step.slabs for step in steps]) * slab_bytes(config)
    partials = np.array([step.partials for step in steps]) * slab_bytes(config)
    pairs = np.array([len(step.queries) for step in steps])
    multiplying = pairs * pair_flops(config) / cost.H100_FLOPS
    moving = (fetched + slabs + partials) / cost.H100_BYTES
    return LoopTrace(
        order=order,
        step_of=step_of,
        masked=(step_of >= 0) & ~chosen,
        key_value_bytes=np.cumsum(fetched),
        query_bytes=np.cumsum(slabs),
        partial_bytes=np.cumsum(partials),
        clock_s=np.cumsum(np.maximum(multiplying, moving)),
        multiplying_s=np.cumsum(multiplying),
    )
