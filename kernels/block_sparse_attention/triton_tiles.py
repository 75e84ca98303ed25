"""Tiles of queries, and the list of distinct key blocks each tile reads.

Neighbouring queries choose mostly the same blocks. A tile of a few queries times the heads of one
GQA group makes enough rows for the tensor cores; it walks the union of its selections once, and
one bit per query says who reads the block at hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from .. import limits
from ..addressing import group_and_batch, head_start, load_rows, row_of, vectors


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How one kernel cuts its work; rows are queries times heads."""

    queries: int  # a power of two, at most 16
    heads: int  # of one GQA group, a power of two
    split: int  # tiles that share one group's heads
    keys: int  # tokens per step, at most one block
    num_warps: int
    num_stages: int

    @property
    def rows(self) -> int:
        return self.queries * self.heads


def attention_tiles(group: int, block_size: int, itemsize: int) -> Iterator[Tile]:
    """Tiles for groups of so many heads, from the one timed on an H100 to the smallest.

    The first holds all heads, however many: 64 rows for warpgroup products, 32 without tensor
    cores (where `itemsize` is 4), or one row a head; a wide group gets more warps. Others split it.
    """
    rows, num_warps = (64, 4) if itemsize == 2 else (32, 8)
    keys = min(block_size, rows)
    heads = triton.next_power_of_2(group)
    wide = max(heads // rows, 1)
    shapes = [(rows * wide, keys, min(num_warps * wide, 8))] if wide > 1 else []
    while rows > 16 or keys > 16:
        shapes.append((rows, keys, num_warps))
        rows, keys = (rows, keys // 2) if keys >= rows else (rows // 2, keys)
    shapes.append((16, 16, 4))
    for rows, keys, num_warps in shapes:
        queries = min(max(rows // heads, 1), 16)
        yield Tile(
            queries=queries, heads=max(min(heads, rows), 16 // queries),
            split=max(heads // rows, 1), keys=keys, num_warps=num_warps, num_stages=2,
        )  # fmt: skip


@dataclass(frozen=True)
class BlockLists:
    """For each tile of queries and each group, the distinct blocks in ascending order.

    blocks: int32 [b, h_kv, n_tiles, capacity]; entries past the end are uninitialised.
    members: likewise; bit i is set if query i of the tile reads the block.
    ends: int32 [b, h_kv, n_tiles, 2]; entries before ends[0] are visible to every query of the
        tile in full, those before ends[1] in part.
    """

    blocks: Tensor
    members: Tensor
    ends: Tensor

    @property
    def capacity(self) -> int:
        return self.blocks.shape[-1]


@triton.jit
@no_type_check
def write_list(
    ids, n_blk, first_position, block_size, blocks_ptr, members_ptr, QUERIES: tl.constexpr
):
    """Take the smallest id of a tile, [QUERIES, SLOTS], until all are n_blk.

    Returns the `ends` of `BlockLists`; `first_position` is that of the tile's first query.
    """
    n_full, n_all = 0, 0
    block = tl.min(ids)
    while block < n_blk:
        hit = tl.max((ids == block).to(tl.int32), axis=1)  # [QUERIES]
        tl.store(blocks_ptr + n_all, block)
        tl.store(members_ptr + n_all, tl.sum(hit << tl.arange(0, QUERIES)))
        n_all += 1
        n_full += ((block + 1) * block_size <= first_position + 1).to(tl.int32)
        ids = tl.where(ids == block, n_blk, ids)
        block = tl.min(ids)
    return n_full, n_all


@triton.jit(do_not_specialize=["n", "m", "h_kv", "n_blk", "n_selected", "block_size", "capacity"])
@no_type_check
def list_blocks_kernel(
    block_idx_ptr,
    blocks_ptr,
    members_ptr,
    ends_ptr,
    n,
    m,
    h_kv,
    n_blk,
    n_selected,
    block_size,
    capacity,
    QUERIES: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Write one tile's list."""
    tile = tl.program_id(0)
    group, batch = group_and_batch(1)
    query = tile * QUERIES + tl.arange(0, QUERIES)
    slot = tl.arange(0, SLOTS)
    row = row_of(batch, n, query, h_kv, group, 1, 0)  # [QUERIES]
    mask = (query < n)[:, None] & (slot < n_selected)[None, :]
    ids = tl.load(block_idx_ptr + row[:, None] * n_selected + slot[None, :], mask=mask, other=-1)
    position = m - n + query
    readable = (ids >= 0) & (ids < n_blk)
    readable &= tl.where(readable, ids, 0) * block_size <= position[:, None]
    ids = tl.where(readable, ids, n_blk)  # [QUERIES, SLOTS]

    list_id = (batch * h_kv + group) * tl.num_programs(0) + tile
    blocks_ptr += list_id * capacity
    members_ptr += list_id * capacity
    n_full, n_all = write_list(
        ids, n_blk, m - n + tile * QUERIES, block_size, blocks_ptr, members_ptr, QUERIES
    )
    tl.store(ends_ptr + list_id * 2, n_full)
    tl.store(ends_ptr + list_id * 2 + 1, n_all)


def list_blocks(block_idx: Tensor, m: int, block_size: int, queries: int) -> BlockLists:
    """Lists of the tiles of `queries` queries each; block_idx is contiguous int32."""
    b, n, h_kv, n_selected = block_idx.shape
    n_blk, n_tiles = triton.cdiv(m, block_size), triton.cdiv(n, queries)
    shape = (b, h_kv, n_tiles)
    capacity = min(queries * n_selected, n_blk)
    lists = BlockLists(
        blocks=block_idx.new_empty((*shape, capacity)),
        members=block_idx.new_empty((*shape, capacity)),
        ends=block_idx.new_empty((*shape, 2)),
    )
    list_blocks_kernel[(n_tiles, h_kv, b)](
        block_idx, lists.blocks, lists.members, lists.ends,
        n, m, h_kv, n_blk, n_selected, block_size, capacity,
        QUERIES=queries, SLOTS=triton.next_power_of_2(n_selected), num_warps=1,
    )  # fmt: skip
    return lists


@dataclass(frozen=True)
class Stretches:
    """For each block the list entries that name it, cut into stretches of bounded length.

    Axis g runs over b * h_kv lists, axis p over stretches; p is bounded by shapes alone, and
    stretches past the last one are empty.

    entry: [g, entries], positions in the flattened lists, by block and then by position: those
        of a list of tiles hold the tile in entry // capacity.
    block: [g, p], the block of each stretch; n_blk past the last stretch.
    bounds: [g, p, 2], where in `entry` each stretch begins and ends.
    first: [g, n_blk + 1], each block's first stretch.
    """

    entry: Tensor
    block: Tensor
    bounds: Tensor
    first: Tensor


def stretches(listed: Tensor, n_blk: int, longest: int) -> Stretches:
    """Cut lists [g, entries] of block ids, n_blk in unused entries, by block and by length.

    A block that every query reads, such as the first of a sequence, would keep one program busy
    long after the others; stretches bound that. The sort is stable, which fixes the order of
    every later sum.
    """
    listed, entry = listed.sort(dim=-1, stable=True)
    groups, entries = listed.shape
    ids = torch.arange(n_blk + 1, device=listed.device, dtype=listed.dtype)
    start = torch.searchsorted(listed, ids.expand(groups, -1).contiguous())  # [g, n_blk + 1]
    per_block = (start.diff() + longest - 1) // longest
    first = F.pad(per_block.cumsum(-1), (1, 0))

    stretch = torch.arange(entries // longest + n_blk, device=listed.device).expand(groups, -1)
    block = torch.searchsorted(first[:, 1:].contiguous(), stretch.contiguous(), right=True)
    known = block.clamp(max=n_blk - 1)
    begin = start.gather(-1, known) + (stretch - first.gather(-1, known)) * longest
    end = torch.minimum(begin + longest, start.gather(-1, known + 1))
    return Stretches(entry=entry, block=block, bounds=torch.stack((begin, end), -1), first=first)


@triton.jit
@no_type_check
def keys_of_part(
    k_ptr,
    v_ptr,
    batch,
    group,
    block,
    part,
    m,
    stride_kb,
    stride_km,
    stride_kh,
    stride_vb,
    stride_vm,
    stride_vh,
    BLOCK_SIZE: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
):
    """Positions of a block's KEYS keys, and the keys and values themselves."""
    key = block * BLOCK_SIZE + part * KEYS + tl.arange(0, KEYS)
    k_ptr = head_start(k_ptr, batch, group, stride_kb, stride_kh)
    v_ptr = head_start(v_ptr, batch, group, stride_vb, stride_vh)
    k = load_rows(k_ptr, key.to(tl.int64), stride_km, key < m, D)  # [KEYS, D]
    v = load_rows(v_ptr, key.to(tl.int64), stride_vm, key < m, D)  # [KEYS, D]
    return key, k, v


@triton.jit
@no_type_check
def write_shares(
    dk_ptr,
    dv_ptr,
    dk,
    dv,
    stretch,
    part,
    BLOCK_SIZE: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
):
    """Store what one stretch adds to dk / scale and dv of a part of its block."""
    row = stretch * BLOCK_SIZE + part * KEYS + tl.arange(0, KEYS)
    tl.store(vectors(dk_ptr, row, D, D), dk)
    tl.store(vectors(dv_ptr, row, D, D), dv)


def invert(lists: BlockLists, n_blk: int) -> Stretches:
    """Turn lists of blocks per tile into lists of tiles per block."""
    used = torch.arange(lists.capacity, device=lists.blocks.device) < lists.ends[..., 1:]
    listed = torch.where(used, lists.blocks, n_blk).flatten(0, 1).flatten(1)
    return stretches(listed, n_blk, limits.STRETCH)


def distinct_ids(block_idx: Tensor, m: int, block_size: int) -> Tensor:
    """Each row's readable blocks once, ascending, and n_blk in slots that hold none."""
    n, n_blk = block_idx.shape[1], triton.cdiv(m, block_size)
    position = torch.arange(m - n, m, device=block_idx.device, dtype=torch.int32)[:, None, None]
    readable = (block_idx >= 0) & (block_idx < n_blk)
    readable &= torch.where(readable, block_idx, 0) * block_size <= position
    ids = torch.where(readable, block_idx, n_blk).sort(-1).values
    repeated = F.pad(ids[..., 1:] == ids[..., :-1], (1, 0))
    return ids.masked_fill(repeated, n_blk)
