"""Which block stands in a slot: each program of a decode step finds it in the group's scores.

Blocks are compared by the keys of `select_blocks`. A row is searched in pieces: the best blocks lie
in the pieces whose own best are greatest. A long row has been cut into stretches already, one for
each program that scored it, and the best stretches are searched for first.
"""

from typing import no_type_check

import triton
import triton.language as tl

from ..select_blocks.triton_kernel import UNREADABLE, block_of, is_forced, packed

PART = tl.constexpr(4)  # blocks of a stretch that are compared as one


@triton.jit
@no_type_check
def _keys(ptr, block, exists, local, n_local, n_init):
    """Keys of the scores of these blocks; forced ones as `select_blocks` has them."""
    score = tl.load(ptr + block, mask=exists, other=float("-inf"))
    return packed(score, tl.abs(score) < float("inf"), block, local, n_local, n_init)


@triton.jit
@no_type_check
def _greatest(key, count, SLOTS: tl.constexpr, RANKED: tl.constexpr):
    """The `count` greatest of unique keys, descending; then UNREADABLE, or the next greatest.

    RANKED: a key's place is the number of keys ahead of it, all counted at once.
    """
    slot = tl.arange(0, SLOTS)
    if RANKED:
        ahead = tl.sum((key[None, :] > key[:, None]).to(tl.int32), axis=1)
        placed = tl.where(ahead[:, None] == slot[None, :], key[:, None], UNREADABLE)
        return tl.max(placed, axis=0)
    else:
        taken = tl.full((SLOTS,), UNREADABLE, tl.int64)
        for i in range(count):
            largest = tl.max(key)
            taken = tl.where(slot == i, largest, taken)
            key = tl.where(key == largest, UNREADABLE, key)
        return taken


@triton.jit
@no_type_check
def best_blocks(
    ptr,
    n,
    local,
    n_local,
    n_init,
    count,
    PIECES: tl.constexpr,
    PER: tl.constexpr,
    SLOTS: tl.constexpr,
    RANKED: tl.constexpr,
):
    """Keys [SLOTS] of the `count` best of n scores, descending; PIECES pieces of PER scores.

    `local` is the last block with a finite score, or None if it is to be found.
    """
    block = tl.arange(0, PIECES)[:, None] * PER + tl.arange(0, PER)[None, :]
    score = tl.load(ptr + block, mask=block < n, other=float("-inf"))
    readable = tl.abs(score) < float("inf")
    if local is None:
        local = tl.max(tl.where(readable, block, -1))
    key = tl.max(packed(score, readable, block, local, n_local, n_init), axis=1)  # [PIECES]
    taken = _greatest(key, count, SLOTS, RANKED)
    if PER > 1:
        piece = block_of(taken) // PER
        block = piece[:, None] * PER + tl.arange(0, PER)[None, :]
        exists = (taken > UNREADABLE)[:, None] & (block < n)
        key = tl.reshape(_keys(ptr, block, exists, local, n_local, n_init), (SLOTS * PER,))
        taken = _greatest(key, count, SLOTS, RANKED)
    return taken


@triton.jit
@no_type_check
def best_of_stretches(
    scores_ptr,
    best_ptr,
    last_ptr,
    n_blk,
    n_stretches,
    span,
    n_local,
    n_init,
    count,
    PIECES: tl.constexpr,
    PER: tl.constexpr,
    SPAN: tl.constexpr,
    SLOTS: tl.constexpr,
    RANKED: tl.constexpr,
):
    """As `best_blocks`, from the best score and the last finite block of each stretch.

    A stretch has `span` blocks, at most SPAN. Forced blocks are compared by themselves, since
    nobody knew them when the stretches were scored.
    """
    every = tl.arange(0, PIECES * PER)
    local = tl.max(tl.load(last_ptr + every, mask=every < n_stretches, other=-1))
    taken = best_blocks(best_ptr, n_stretches, -1, 0, 0, count, PIECES, PER, SLOTS, RANKED)

    first = (block_of(taken) * span)[:, None, None]
    within = tl.arange(0, SPAN // PART)[None, :, None] * PART + tl.arange(0, PART)[None, None, :]
    block = first + within
    exists = (taken > UNREADABLE)[:, None, None] & (within < span) & (block < n_blk)
    key = tl.max(_keys(scores_ptr, block, exists, local, 0, 0), axis=2)  # [SLOTS, SPAN // PART]
    taken = _greatest(tl.reshape(key, (SLOTS * (SPAN // PART),)), count, SLOTS, RANKED)

    best = block_of(taken)
    stretch = best // span
    place = (best % span) // PART * PART
    column = tl.arange(0, 2 * PART)[None, :]
    within = place[:, None] + column
    block = (stretch * span)[:, None] + within
    exists = (taken > UNREADABLE)[:, None] & (within < span) & (block < n_blk)
    exists = exists & (column < PART) & (is_forced(block, local, n_local, n_init) == 0)
    slot = tl.arange(0, SLOTS)
    recent = local - (slot - n_init)
    forced = tl.where(slot < n_init, slot, recent)
    chosen = (slot < n_init) | ((slot < n_init + n_local) & (recent >= n_init))
    chosen = chosen & (forced <= local)
    block = tl.where(column == PART, forced[:, None], block)
    exists = tl.where(column == PART, chosen[:, None], exists)
    key = _keys(scores_ptr, block, exists, local, n_local, n_init)  # [SLOTS, 2 * PART]
    return _greatest(tl.reshape(key, (SLOTS * 2 * PART,)), count, SLOTS, RANKED)
