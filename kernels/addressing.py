"""Where a program's rows lie in memory: the arithmetic that the Triton files share.

Queries, outputs and log-sum-exps are contiguous, and a *row* is one query head of them: row
((batch * n + query) * h_kv + group) * group_size + head. Keys and values have strides of their own
along every axis but the last. Offsets are int64, since a cache can hold more than 2^31 elements;
positions and block ids fit 32 bits.
"""

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

WIDEST = 16  # bytes that a thread loads at a time


def begun_before(tensor: Tensor, unit: int) -> tuple[Tensor, int]:
    """The same strides from an address that the compiler may take as aligned, and what to skip.

    A view that begins in the middle of a row is aligned to `unit` bytes, which the compiler cannot
    see: it would load byte by byte. Told the aligned address before it and a number of units to
    skip, it loads units.

    Returns:
        The tensor, or a view that begins up to 15 bytes earlier; and the units to skip.
    """
    bytes_before = tensor.data_ptr() % WIDEST
    items, left = divmod(bytes_before, tensor.element_size())
    if bytes_before % unit or left or tensor.storage_offset() < items:
        return tensor, 0
    start = tensor.storage_offset() - items
    return tensor.as_strided(tensor.shape, tensor.stride(), start), bytes_before // unit


@triton.jit
@no_type_check
def group_and_batch(SPLIT: tl.constexpr):
    """The GQA group and the batch entry of this program, of which SPLIT share each group."""
    return (tl.program_id(1) // SPLIT).to(tl.int64), tl.program_id(2).to(tl.int64)


@triton.jit
@no_type_check
def tile_rows(tile, m, n, group_size, part, QUERIES: tl.constexpr, HEADS: tl.constexpr):
    """Rows of a tile of QUERIES queries times HEADS heads, of which `part` counts the HEADS.

    Returns, each [QUERIES * HEADS]: the query counted from the tile's first and from the first of
    all, its key position, its head within the group, and whether both exist.
    """
    local_row = tl.arange(0, QUERIES * HEADS)
    local_query, head = local_row // HEADS, part * HEADS + local_row % HEADS
    query = tile * QUERIES + local_query
    return local_query, query, m - n + query, head, (query < n) & (head < group_size)


@triton.jit
@no_type_check
def row_of(batch, n, query, h_kv, group, group_size, head):
    """Number of the row of a query head; int64, since `batch` is."""
    return ((batch * n + query) * h_kv + group) * group_size + head


@triton.jit
@no_type_check
def vectors(ptr, row, stride, D: tl.constexpr):
    """Pointers [rows, D] to vectors of D elements that lie `stride` apart.

    Each vector's address first, then the place within it: summed the other way, the assembler
    saves registers by waiting for one load before it issues the next.
    """
    return ptr + row[:, None] * stride + tl.arange(0, D)


@triton.jit
@no_type_check
def load_rows(ptr, row, stride, exists, D: tl.constexpr):
    """Vectors [rows, D], zero where the row does not exist."""
    return tl.load(vectors(ptr, row, stride, D), mask=exists[:, None], other=0.0)


@triton.jit
@no_type_check
def head_start(ptr, batch, group, stride_b, stride_h):
    """Where the keys or values of one head of one batch entry begin."""
    return ptr + batch * stride_b + group * stride_h


@triton.jit
@no_type_check
def load_keys(ptr, first_key, m, stride_m, KEYS: tl.constexpr, D: tl.constexpr, FULL: tl.constexpr):
    """KEYS consecutive vectors [KEYS, D] of one head, zero after the last of m keys.

    The same as `load_rows` of these keys, in fewer registers where loads are pipelined. FULL
    promises that all keys exist, and spares the mask.
    """
    within = tl.arange(0, KEYS)
    ptrs = ptr + tl.cast(first_key, tl.int64) * stride_m + within[:, None] * stride_m
    if FULL:
        return tl.load(ptrs + tl.arange(0, D))
    else:
        exists = (first_key + within < m)[:, None]
        return tl.load(ptrs + tl.arange(0, D), mask=exists, other=0.0)


@triton.jit
@no_type_check
def through_registers(x, D: tl.constexpr):
    """The same rows [rows, D] as the result of a product with the identity.

    Hopper's products take their first operand from registers if it lies there as a result does;
    loaded from memory it would go through shared memory in every product.
    """
    lane = tl.arange(0, D)
    return tl.dot(x, (lane[:, None] == lane[None, :]).to(x.dtype)).to(x.dtype)
