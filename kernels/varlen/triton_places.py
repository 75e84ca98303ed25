"""Where the tiles of a batch of sequences begin, and where keys lie in memory.

Tiles belong to one sequence each. Sequence s begins with tile (rows before it) // TILE + s, which
leaves each sequence at least the tiles that it needs: so the grid has (all rows) // TILE + b tiles
whatever the lengths, and a program finds its sequence by halving. A tile past its sequence's last
row ends at once.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _first_tile(starts_ptr, seq, first, last, rows_per, TILE: tl.constexpr, PADDED: tl.constexpr):
    """The first tile of a sequence; rows are those of the queries `first` to `last`."""
    start = tl.minimum(tl.maximum(tl.load(starts_ptr + seq), first), last) - first
    tile = start * rows_per // TILE
    if PADDED:
        tile += seq
    return tile


@triton.jit
@no_type_check
def sequence_of(
    tile, starts_ptr, n_seqs, first, last, rows_per, TILE: tl.constexpr, PADDED: tl.constexpr
):
    """The last of the sequences that begin no later than this tile."""
    low, high = 0, n_seqs
    while low < high:
        middle = (low + high) // 2
        begun = _first_tile(starts_ptr, middle, first, last, rows_per, TILE, PADDED) <= tile
        low = tl.where(begun, middle + 1, low)
        high = tl.where(begun, high, middle)
    return low - 1


@triton.jit
@no_type_check
def tile_of(tile, starts_ptr, n_seqs, first, last, rows_per, TILE: tl.constexpr):
    """This tile's sequence, its queries of `first` to `last`, where it ends, and the tile in it.

    Each query has `rows_per` rows, of which a tile holds TILE.
    """
    seq = sequence_of(tile, starts_ptr, n_seqs, first, last, rows_per, TILE, True)
    end = tl.load(starts_ptr + seq + 1)
    begin = tl.maximum(tl.load(starts_ptr + seq), first)
    within = tile - _first_tile(starts_ptr, seq, first, last, rows_per, TILE, True)
    return seq, begin, tl.minimum(end, last), end, within


@triton.jit
@no_type_check
def keys_of(lens_ptr, seq, longest, PACKED: tl.constexpr):
    """The row of a sequence's first key where packed, else 0, and the number of its keys."""
    start = 0
    m = tl.load(lens_ptr + seq)
    if PACKED:
        start = m
        m = tl.load(lens_ptr + seq + 1) - start
    return start, tl.minimum(m, longest)


@triton.jit
@no_type_check
def place_of(key, seq, start, table_ptr, stride_table, PACKED: tl.constexpr, PAGE: tl.constexpr):
    """Page and row in it of keys; PAGE is the size of a page, 0 where a sequence lies in one."""
    if PAGE > 0:
        table_ptr += seq.to(tl.int64) * stride_table
        page = tl.load(table_ptr + key // PAGE)
        row = key % PAGE
    elif PACKED:
        page = key * 0
        row = start + key
    else:
        page = key * 0 + seq
        row = key
    return page, row


@triton.jit
@no_type_check
def pointer_to(ptr, page, row, stride_page, stride_row):
    """Address of a row, from a pointer to the first row of the first page."""
    return ptr + page.to(tl.int64) * stride_page + row.to(tl.int64) * stride_row
