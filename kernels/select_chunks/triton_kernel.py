"""Compaction in two passes: count the chosen chunks of every tile, then write them in place.

A program of the second pass adds the counts of all tiles before its own, which says where its ids
begin. There are no atomics, so the order is the same on every run.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 1024  # chunks of one program
COUNTS = 1024  # counts added at a time


@triton.jit
@no_type_check
def _chosen(logits_ptr, chunk, layers, chunks, cut, forced_from):
    """Which of these chunks are selected, as 0 and 1."""
    exists = chunk < chunks
    chosen = chunk >= forced_from
    for layer in range(layers):
        row = logits_ptr + tl.cast(layer, tl.int64) * chunks
        chosen |= tl.load(row + chunk, mask=exists, other=float("-inf")) > cut
    return (chosen & exists).to(tl.int32)


@triton.jit(do_not_specialize=["layers", "chunks", "forced_from"])
@no_type_check
def count_chunks_kernel(
    logits_ptr, counts_ptr, layers, chunks, cut, forced_from, TILE: tl.constexpr
):
    """How many chunks of each tile are selected."""
    tile = tl.program_id(0)
    chunk = tile * TILE + tl.arange(0, TILE)
    chosen = _chosen(logits_ptr, chunk, layers, chunks, cut, forced_from)
    tl.store(counts_ptr + tile, tl.sum(chosen))


@triton.jit(do_not_specialize=["layers", "chunks", "forced_from", "tiles"])
@no_type_check
def write_chunks_kernel(
    logits_ptr,
    counts_ptr,
    ids_ptr,
    count_ptr,
    layers,
    chunks,
    cut,
    forced_from,
    tiles,
    TILE: tl.constexpr,
    COUNTS: tl.constexpr,
):
    """Each tile's ids behind those of the tiles before it, and -1 behind them all."""
    tile = tl.program_id(0)
    before, total = 0, 0
    for start in range(0, tiles, COUNTS):
        other = start + tl.arange(0, COUNTS)
        counts = tl.load(counts_ptr + other, mask=other < tiles, other=0)
        total += tl.sum(counts)
        before += tl.sum(tl.where(other < tile, counts, 0))
    chunk = tile * TILE + tl.arange(0, TILE)
    chosen = _chosen(logits_ptr, chunk, layers, chunks, cut, forced_from)
    place = before + tl.cumsum(chosen) - 1
    tl.store(ids_ptr + place, chunk, mask=chosen == 1)
    unused = (chunk >= total) & (chunk < chunks)
    tl.store(ids_ptr + chunk, tl.full((TILE,), -1, tl.int32), mask=unused)
    if tile == 0:
        tl.store(count_ptr, total)


@torch.library.custom_op("intuitive::select_chunks", mutates_args=())
def select_chunks(logits: Tensor, cut: float, forced_from: int) -> tuple[Tensor, Tensor]:
    """Custom operator behind the public function: int32 [chunks] and int32 without axes."""
    logits = logits.contiguous()
    layers, chunks = logits.shape
    tiles = triton.cdiv(chunks, TILE)
    ids = logits.new_empty(chunks, dtype=torch.int32)
    counts = logits.new_empty(tiles, dtype=torch.int32)
    count = logits.new_empty((), dtype=torch.int32)
    with torch.cuda.device_of(logits):
        count_chunks_kernel[(tiles,)](
            logits, counts, layers, chunks, cut, forced_from, TILE=TILE, num_warps=4
        )
        write_chunks_kernel[(tiles,)](
            logits, counts, ids, count, layers, chunks, cut, forced_from, tiles,
            TILE=TILE, COUNTS=COUNTS, num_warps=4,
        )  # fmt: skip
    return ids, count


@select_chunks.register_fake
def _(logits, cut, forced_from):
    return (
        logits.new_empty(logits.shape[1], dtype=torch.int32),
        logits.new_empty((), dtype=torch.int32),
    )
