"""Attention over cells, split over multiprocessors: parts of the list, then a merge.

One query reads a few hundred cells, far too little for one program. Each program takes some heads
and a stretch of slots, or of the window, and writes a normalised output with its log-sum-exp; a
second kernel merges them and adds the sink. A cell is loaded once and serves as key and as value.
The number of parts depends on shapes alone.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import tuning
from ..addressing import begun_before, load_rows, vectors
from ..fp8 import FIRST_ARCH, decode_fp8
from ..merging import merge_parts
from ..shared_memory import SPARE_BYTES, card, first_fit
from ..tuning import CellTile
from .packing import CELL_BYTES, CODES, GROUP, GROUPS, ROTATED

UNIT = 8  # bytes: packed cells begin at multiples of it, and lie multiples of it apart

LOG2_E = 1.4426950408889634
MULTIPROCESSORS = 132  # of an H100
MERGED = 16  # parts merged at a time
SLICE = 128  # numbers of a row that one program merges

PLAIN, SHIFTED, DECODED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # how cells are stored
WORD = tl.constexpr(UNIT)
N_CODES = tl.constexpr(CODES)
SCALES = tl.constexpr(CELL_BYTES - GROUPS - 1)  # where they begin
PER_SCALE = tl.constexpr(GROUP)


@triton.jit
@no_type_check
def _codes(packed_ptr, at, visible, KEYS: tl.constexpr, D: tl.constexpr, NATIVE: tl.constexpr):
    """The coded numbers of packed cells, [KEYS, D] in float32: 0 where not visible or not coded."""
    dim, group = tl.arange(0, D), tl.arange(0, D // PER_SCALE)
    row = packed_ptr + at
    code = tl.load(
        row[:, None] + dim[None, :], mask=visible[:, None] & (dim < N_CODES)[None, :], other=0
    )  # [KEYS, D]
    exponent = tl.load(
        row[:, None] + SCALES + group[None, :],
        mask=visible[:, None] & (group < N_CODES // PER_SCALE)[None, :],
        other=0,
    )  # [KEYS, D // PER_SCALE]
    scale = (exponent.to(tl.int32) << 23).to(tl.float32, bitcast=True)
    value = tl.reshape(decode_fp8(code, NATIVE).to(tl.float32), (KEYS, D // PER_SCALE, PER_SCALE))
    return tl.reshape(value * scale[:, :, None], (KEYS, D))


@triton.jit
@no_type_check
def _rotated(packed_ptr, at, visible, SIDE: tl.constexpr):
    """The other numbers of packed cells, [KEYS, SIDE] in float32."""
    words = (packed_ptr + at).to(tl.pointer_type(tl.uint16)) + N_CODES // 2
    bits = tl.load(words[:, None] + tl.arange(0, SIDE)[None, :], mask=visible[:, None], other=0)
    return (bits.to(tl.uint32) << 16).to(tl.float32, bitcast=True)  # its upper half


@triton.jit
@no_type_check
def _absorb(q, q_side, kv, side, visible, scale, top, total, acc, acc_side, SPLIT: tl.constexpr):
    """One tile of the online softmax: kv [KEYS, D] is key and value, and so is `side` [KEYS, SIDE].

    Without SPLIT there is no side.
    """
    s = tl.dot(q, tl.trans(kv), input_precision="ieee")  # [HEADS, KEYS]
    if SPLIT:
        s = tl.dot(q_side, tl.trans(side), acc=s, input_precision="ieee")
    s = tl.where(visible[None, :], s * scale, float("-inf"))
    new_top = tl.maximum(top, tl.max(s, axis=1))
    shift = tl.where(new_top == float("-inf"), 0.0, new_top)
    p = tl.exp2(s - shift[:, None])
    decay = tl.exp2(top - shift)
    total = total * decay + tl.sum(p, axis=1)
    p = p.to(kv.dtype)
    acc = tl.dot(p, kv, acc=acc * decay[:, None], input_precision="ieee")
    if SPLIT:
        acc_side = tl.dot(p, side, acc=acc_side * decay[:, None], input_precision="ieee")
    return new_top, total, acc, acc_side


@triton.jit
@no_type_check
def _load_split(ptr, row, stride, exists, D: tl.constexpr, SIDE: tl.constexpr):
    """Vectors as packed cells divide them: [rows, D], 0 behind the coded part, and [rows, SIDE]."""
    dim = tl.arange(0, D)
    ptr += row[:, None] * stride
    wide = tl.load(ptr + dim, mask=exists[:, None] & (dim < N_CODES)[None, :], other=0.0)
    return wide, tl.load(ptr + N_CODES + tl.arange(0, SIDE), mask=exists[:, None], other=0.0)


@triton.jit(do_not_specialize=["h", "n_cells", "k", "w", "tiles", "cell_parts", "skipped"])
@no_type_check
def attend_cells_kernel(
    q_ptr,
    cells_ptr,
    slots_ptr,
    window_ptr,
    part_out_ptr,
    part_lse_ptr,
    h,
    n_cells,
    k,
    w,
    scale,
    tiles,
    cell_parts,
    skipped,
    stride_c,
    stride_wb,
    stride_ww,
    STORED: tl.constexpr,
    HEADS: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    SIDE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A part is `tiles` tiles of KEYS slots, or of the window; an empty one has lse -inf.

    Packed cells are multiplied in their two parts, and everything else with them: D numbers, of
    which the coded ones are not zero, and SIDE rotated ones. For them `skipped` and `stride_c`,
    before the first cell and from one to the next, count 8 bytes.
    """
    SPLIT: tl.constexpr = STORED != PLAIN
    part, batch = tl.program_id(0), tl.program_id(2).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    exists = head < h
    row = batch * h + head
    q, q_side = load_rows(q_ptr, row, D, exists, D), 0  # [HEADS, D]
    if SPLIT:
        q, q_side = _load_split(q_ptr, row, D, exists, D, SIDE)
    within = tl.arange(0, KEYS)
    top = tl.full((HEADS,), float("-inf"), tl.float32)
    total = tl.zeros((HEADS,), tl.float32)
    acc = tl.zeros((HEADS, D), tl.float32)
    acc_side = tl.zeros((HEADS, SIDE), tl.float32)
    if part < cell_parts:
        slots_ptr += batch * k
        stop = tl.minimum((part + 1) * tiles, tl.cdiv(k, KEYS))
        for tile in tl.range(part * tiles, stop, num_stages=STAGES):
            slot = tile * KEYS + within
            cell = tl.load(slots_ptr + slot, mask=slot < k, other=-1).to(tl.int64)
            visible = (cell >= 0) & (cell < n_cells)
            if SPLIT:
                at = (skipped + cell * stride_c) * WORD
                kv = _codes(cells_ptr, at, visible, KEYS, D, STORED == DECODED).to(q.dtype)
                side = _rotated(cells_ptr, at, visible, SIDE).to(q.dtype)
            else:
                kv = load_rows(cells_ptr, cell, stride_c, visible, D)  # [KEYS, D]
                side = 0
            top, total, acc, acc_side = _absorb(
                q, q_side, kv, side, visible, scale, top, total, acc, acc_side, SPLIT
            )
    else:
        window_ptr += batch * stride_wb
        first = (part - cell_parts) * tiles
        for tile in tl.range(first, tl.minimum(first + tiles, tl.cdiv(w, KEYS)), num_stages=STAGES):
            token = (tile * KEYS + within).to(tl.int64)
            visible = token < w
            if SPLIT:
                kv, side = _load_split(window_ptr, token, stride_ww, visible, D, SIDE)
            else:
                kv = load_rows(window_ptr, token, stride_ww, visible, D)  # [KEYS, D]
                side = 0
            top, total, acc, acc_side = _absorb(
                q, q_side, kv, side, visible, scale, top, total, acc, acc_side, SPLIT
            )
    safe = tl.where(total > 0, total, 1.0)
    place = row * tl.num_programs(0) + part
    out_ptr = vectors(part_out_ptr, place, D, D)
    if SPLIT:
        coded = exists[:, None] & (tl.arange(0, D) < N_CODES)[None, :]
        tl.store(out_ptr, acc / safe[:, None], mask=coded)
        side_ptr = vectors(part_out_ptr + N_CODES, place, D, SIDE)
        tl.store(side_ptr, acc_side / safe[:, None], mask=exists[:, None])
    else:
        tl.store(out_ptr, acc / safe[:, None], mask=exists[:, None])
    tl.store(part_lse_ptr + place, top + tl.log2(safe), mask=exists)


@triton.jit(do_not_specialize=["h", "n_parts"])
@no_type_check
def merge_cells_kernel(
    part_out_ptr,
    part_lse_ptr,
    sinks_ptr,
    out_ptr,
    h,
    n_parts,
    factor,
    SINK: tl.constexpr,
    MERGED: tl.constexpr,
    SLICE: tl.constexpr,
    D: tl.constexpr,
):
    """SLICE numbers of one head's output from its parts and its sink; `factor` is log2(e)."""
    row = tl.program_id(0).to(tl.int64)
    dim = tl.program_id(1) * SLICE
    if SINK:
        top = tl.load(sinks_ptr + row % h).to(tl.float32) * factor
        total = tl.full((), 1.0, tl.float32)
    else:
        top = tl.full((), float("-inf"), tl.float32)
        total = tl.full((), 0.0, tl.float32)
    acc, total, top = merge_parts(
        part_out_ptr + row * n_parts * D + dim, part_lse_ptr + row * n_parts, top, total, n_parts,
        D, MERGED, SLICE,
    )  # fmt: skip
    safe = tl.where(total > 0, total, 1.0)
    out = (acc / safe).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * D + dim + tl.arange(0, SLICE), out)


def cell_tiles(alone: bool, slots: int, itemsize: int) -> Iterator[CellTile]:
    """Tiles for so many slots, from the one meant for an H100 to the smallest.

    `alone` says that each program decodes packed cells on a multiprocessor of its own: that is
    wide work, and eight warps do it faster. Otherwise four do, two programs to a multiprocessor.
    """
    keys = 16 if itemsize == 4 or slots <= 16 else 32
    num_warps, programs = (8, MULTIPROCESSORS) if alone else (4, 2 * MULTIPROCESSORS)
    while keys >= 16:
        yield CellTile(heads=16, keys=keys, num_warps=num_warps, num_stages=2, programs=programs)
        keys //= 2


@cache
def cell_bytes(row_bytes: int) -> Callable[[CellTile, int, int], int]:
    """Bound on the shared memory of `attend_cells_kernel`, as a function of tile and sizes."""

    def bound(tile: CellTile, d: int, itemsize: int) -> int:
        ahead = tile.num_stages * tile.keys * row_bytes
        kept = itemsize * d * (tile.heads + tile.keys) + 4 * tile.heads * tile.keys
        return max(kept + ahead, 4 * d * tile.heads) + SPARE_BYTES

    return bound


def _tile(q: Tensor, row_bytes: int, slots: int, window: int) -> CellTile:
    """What `tuning.force` says, or the first tile that fits the card."""
    forced = tuning.forced("cell_attention")
    if forced is not None:
        return forced
    b, h, d = q.shape
    products = b * triton.cdiv(h, 16) * (triton.cdiv(slots, 32) + triton.cdiv(window, 32))
    alone = row_bytes == CELL_BYTES and products <= MULTIPROCESSORS
    slots = min(triton.next_power_of_2(slots), 64)  # few values, since the choice is kept
    return first_fit(cell_tiles, cell_bytes(row_bytes), card(), q.dtype, alone, slots, d)


@torch.library.custom_op("intuitive::cell_attention", mutates_args=())
def cell_attention(
    q: Tensor,
    cells: Tensor,
    slots: Tensor,
    window: Tensor | None,
    sinks: Tensor | None,
    scale: float,
) -> Tensor:
    """Custom operator behind the public function: [b, h, d] in q's dtype."""
    (b, h, d), k = q.shape, slots.shape[1]
    w = 0 if window is None else window.shape[1]
    q, slots = q.contiguous(), slots.contiguous()
    packed = cells.dtype == torch.uint8
    apart = (cells.stride(0), cells.data_ptr()) if packed else ()
    if cells.stride(-1) != 1 or any(n % UNIT for n in apart):
        cells = cells.clone(memory_format=torch.contiguous_format)
    skipped, stride_c = 0, cells.stride(0)
    if packed:
        cells, skipped = begun_before(cells, UNIT)
        stride_c //= UNIT
    if window is None:
        window = q[:, :0]
    elif window.stride(-1) != 1:
        window = window.contiguous()
    out = torch.empty_like(q)
    with torch.cuda.device_of(q):
        stored = PLAIN.value
        if packed:
            stored = DECODED.value if card().arch >= FIRST_ARCH else SHIFTED.value
        tile = _tile(q, CELL_BYTES if packed else d * q.element_size(), k, w)
        cell_tiles_, window_tiles = triton.cdiv(k, tile.keys), triton.cdiv(w, tile.keys)
        groups = triton.cdiv(h, tile.heads)
        tiles = triton.cdiv((cell_tiles_ + window_tiles) * groups * b, tile.programs)
        cell_parts, window_parts = triton.cdiv(cell_tiles_, tiles), triton.cdiv(window_tiles, tiles)
        n_parts = cell_parts + window_parts
        part_out = q.new_empty((b, h, n_parts, d), dtype=torch.float32)
        part_lse = q.new_empty((b, h, n_parts), dtype=torch.float32)
        attend_cells_kernel[(n_parts, groups, b)](
            q, cells, slots, window, part_out, part_lse,
            h, len(cells), k, w, scale * LOG2_E, tiles, cell_parts, skipped,
            stride_c, window.stride(0), window.stride(1),
            STORED=stored, HEADS=tile.heads, KEYS=tile.keys, D=d, SIDE=ROTATED,
            STAGES=tile.num_stages, num_warps=tile.num_warps,
        )  # fmt: skip
        width = min(d, SLICE)
        merge_cells_kernel[(b * h, d // width)](
            part_out, part_lse, out if sinks is None else sinks.contiguous(), out, h, n_parts,
            LOG2_E, SINK=sinks is not None, MERGED=MERGED, SLICE=width, D=d, num_warps=4,
        )  # fmt: skip
    return out


@cell_attention.register_fake
def _(q, cells, slots, window, sinks, scale):
    return q.new_empty(q.shape)
