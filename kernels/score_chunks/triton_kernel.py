"""Chunk logits as one matrix product whose epilogue rectifies, weights and sums the heads.

Chunks are the rows of the product and heads its columns, so that a thread holds many heads of few
chunks: the sum over heads stays in registers but for two steps, and 8-bit keys go from memory
through registers, where they are decoded, into the product. The queries wait in shared memory.
Each program walks over tiles of chunks, and several programs share a multiprocessor: while one
sums, another multiplies.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import tuning
from ..addressing import begun_before, load_rows
from ..fp8 import FIRST_ARCH, decode_fp8, power_of_two
from ..shared_memory import INTERPRETING, SPARE_BYTES, card, first_fit
from ..tuning import ScoreTile
from .reference import LIFT, rounded_queries

PLAIN, SHIFTED, DECODED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # how keys are stored
ALL, MARKED, GATHERED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # what slots say
LIFTED = tl.constexpr(LIFT)
UNIT = 4  # bytes at a time where keys begin in the middle of a row
BULK_ARCH = 90  # Hopper sends for stretches of memory


@triton.jit
@no_type_check
def _send_for(keys_ptr, tile, chunks, ROW_BYTES: tl.constexpr, CHUNKS: tl.constexpr):
    """Have the keys of a whole tile brought into L2 by one thread, which waits for nothing."""
    first = tl.cast(tile, tl.int64) * CHUNKS
    address = (keys_ptr.to(tl.int64) + first * ROW_BYTES) & -16
    n_bytes = tl.where(first + CHUNKS <= chunks, CHUNKS * ROW_BYTES // 16 * 16, 0)
    tl.inline_asm_elementwise(
        """{
        .reg .pred p, q;
        .reg .u32 t;
        mov.u32 t, %tid.x;
        setp.eq.u32 p, t, 0;
        setp.ne.and.s32 q, $2, 0, p;
        @q cp.async.bulk.prefetch.L2.global [$1], $2;
        mov.u32 $0, 0;
        }""",
        "=r,l,r",
        [address, n_bytes.to(tl.int32)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


@triton.jit(do_not_specialize=["heads", "chunks", "n_keys", "skipped"])
@no_type_check
def score_chunks_kernel(
    q_ptr,
    weights_ptr,
    keys_ptr,
    scales_ptr,
    slots_ptr,
    out_ptr,
    heads,
    chunks,
    n_keys,
    skipped,
    stride_kb,
    stride_sb,
    ROW: tl.constexpr,
    SCALE_ROW: tl.constexpr,
    STORED: tl.constexpr,
    ROUND: tl.constexpr,
    CHUNKS: tl.constexpr,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    STAGES: tl.constexpr,
    AHEAD: tl.constexpr,
    KEY_BYTES: tl.constexpr,
    FULL: tl.constexpr,
    SLOTS: tl.constexpr,
    SKIP: tl.constexpr,
):
    """Write out[b, chunk]; keys lie ROW elements apart and scales SCALE_ROW.

    8-bit keys come as uint8. FULL says that there are CHUNKS of them at least. ROUND rounds the
    queries to e4m3 and multiplies codes by codes. The keys of AHEAD tiles, of KEY_BYTES a number,
    are sent for before they are loaded. The first key lies `skipped` times SKIP elements behind
    the pointer.
    """
    batch = tl.program_id(1).to(tl.int64)
    keys_ptr += batch * stride_kb
    if SKIP > 0:
        keys_ptr += skipped * SKIP
    for ahead in tl.static_range(AHEAD):
        tile = tl.program_id(0) + ahead * tl.num_programs(0)
        _send_for(keys_ptr, tile, chunks, ROW * KEY_BYTES, CHUNKS)
    head = tl.arange(0, HEADS)
    exists = head < heads
    q = load_rows(q_ptr, batch * heads + head, D, exists, D)  # [HEADS, D]
    weight = tl.load(weights_ptr + batch * heads + head, mask=exists, other=0.0).to(tl.float32)
    if STORED != PLAIN:
        unit = power_of_two(tl.max(tl.abs(q.to(tl.float32)), axis=1))  # [HEADS]
        unit = unit / LIFTED if ROUND else unit
        q = q.to(tl.float32) * (1.0 / unit)[:, None]  # exact: powers of two
        q = q.to(tl.float8e4nv if ROUND else tl.float16)
        weight *= unit  # ReLU(a x) = a ReLU(x) for a > 0
    q = tl.trans(q)  # [D, HEADS]

    scales_ptr += batch * stride_sb
    out_ptr += batch * chunks
    slots_ptr += batch * chunks
    within, dim = tl.arange(0, CHUNKS), tl.arange(0, D)
    n_tiles = tl.cdiv(chunks, CHUNKS)
    for tile in tl.range(tl.program_id(0), n_tiles, tl.num_programs(0), num_stages=STAGES):
        first = tile * CHUNKS
        if FULL:  # the last tile begins earlier instead of ending later: nothing is masked
            first, inside = tl.minimum(first, chunks - CHUNKS), None
        else:
            inside = first + within < chunks
        if AHEAD > 0:
            coming = tile + AHEAD * tl.num_programs(0)
            _send_for(keys_ptr, coming, chunks, ROW * KEY_BYTES, CHUNKS)
        if SLOTS != ALL:
            slot = tl.load(slots_ptr + first + within, mask=inside)
        if SLOTS == GATHERED:  # what is not there reads the last key, for nothing
            row = tl.minimum(slot.to(tl.uint32, bitcast=True), n_keys.to(tl.uint32) - 1)
            row = row.to(tl.int64)
            key_ptr, scale_ptr = keys_ptr + row[:, None] * ROW, scales_ptr + row * SCALE_ROW
        else:
            key_ptr = keys_ptr + tl.cast(first, tl.int64) * ROW + within[:, None] * ROW
            scale_ptr = scales_ptr + tl.cast(first, tl.int64) * SCALE_ROW + within * SCALE_ROW
        if FULL:
            keys = tl.load(key_ptr + dim[None, :])  # [CHUNKS, D]
        else:
            keys = tl.load(key_ptr + dim[None, :], mask=inside[:, None], other=0)
        if ROUND:
            keys = keys.to(tl.float8e4nv, bitcast=True)
        elif STORED != PLAIN:
            keys = decode_fp8(keys, STORED == DECODED)
        agreement = tl.dot(keys, q, input_precision="ieee")  # [CHUNKS, HEADS]
        agreement = tl.maximum(agreement, 0.0, propagate_nan=tl.PropagateNan.ALL)
        logit = tl.sum(agreement * weight[None, :], axis=1)  # [CHUNKS]
        if STORED != PLAIN:
            logit *= tl.load(scale_ptr, mask=inside)
        logit += 0.0  # no -0.0, which sorts below 0.0
        if SLOTS == MARKED:
            logit = tl.where(slot >= 0, logit, float("-inf"))
        if SLOTS == GATHERED:
            logit = tl.where((slot >= 0) & (slot < n_keys), logit, float("-inf"))
        tl.store(out_ptr + first + within, logit, mask=inside)


def score_tiles(heads: int, key_bytes: int, itemsize: int) -> Iterator[ScoreTile]:
    """Tiles for so many heads, from the one meant for an H100 to the smallest."""
    if itemsize == 4:  # no tensor cores, and wide keys
        shapes = ((16, 8, 2), (16, 4, 1))
    else:
        shapes = ((64, 4, 4 if key_bytes == 1 else 3), (64, 4, 2), (32, 4, 2), (16, 4, 1))
    fit = (528, 128) if heads <= 64 else (396, 168) if key_bytes == 1 else (264, 255)
    for chunks, num_warps, num_stages in shapes:
        yield ScoreTile(
            chunks=chunks, num_warps=num_warps, num_stages=num_stages, programs=fit[0],
            registers=None if itemsize == 4 else fit[1],
        )  # fmt: skip


@cache
def score_bytes(heads: int, key_bytes: int) -> Callable[[ScoreTile, int, int], int]:
    """Bound on the shared memory of `score_chunks_kernel`, as a function of tile and sizes."""

    def bound(tile: ScoreTile, d: int, itemsize: int) -> int:
        ahead = tile.num_stages * tile.chunks * key_bytes
        decoded = tile.chunks * itemsize  # on its way into the layout of the product
        return d * (itemsize * heads + ahead + decoded) + SPARE_BYTES

    return bound


def _tile(q: Tensor, heads: int, key_bytes: int, d: int) -> ScoreTile:
    """What `tuning.force` says, or the first tile that fits the card."""
    forced = tuning.forced("score_chunks")
    if forced is not None:
        return forced
    operand = torch.float16 if key_bytes == 1 else q.dtype
    bound = score_bytes(heads, key_bytes)
    return first_fit(score_tiles, bound, card(), operand, heads, key_bytes, d)


@torch.library.custom_op("intuitive::score_chunks", mutates_args=())
def score_chunks(
    q: Tensor,
    weights: Tensor,
    keys: Tensor,
    scales: Tensor | None,
    slots: Tensor | None,
    gather: bool,
    round_q: bool,
) -> Tensor:
    """Custom operator behind the public function: float32 [b, chunks or slots]."""
    (b, heads, d), chunks = q.shape, (slots if gather else keys).shape[1]
    out = q.new_empty((b, chunks), dtype=torch.float32)
    q, weights = q.contiguous(), weights.contiguous()
    if keys.stride(-1) != 1:
        keys = keys.contiguous()
    with torch.cuda.device_of(q):
        stored, native = PLAIN.value, card().arch >= FIRST_ARCH
        if scales is not None:
            stored = DECODED.value if native else SHIFTED.value
            keys = keys.view(torch.uint8)
        coded = native and d >= 32  # the shortest product of codes
        if round_q and not coded:  # e4m3 values are float16 values: the same products, slower
            q, unit = rounded_queries(q)
            q, weights = q.half(), weights.float() * unit
        padded = max(triton.next_power_of_2(heads), 16)
        tile = _tile(q, padded, keys.dtype.itemsize, d)
        grid = (min(triton.cdiv(chunks, tile.chunks), tile.programs), b)
        row_bytes, one = keys.stride(1) * keys.element_size(), keys.element_size()
        dense = row_bytes < 2 * d * one and not gather  # little lies between the keys
        keys, skipped = begun_before(keys, max(one, UNIT))
        said = ALL if slots is None else GATHERED if gather else MARKED
        ahead = tile.prefetch if dense and card().arch >= BULK_ARCH and not INTERPRETING else 0
        score_chunks_kernel[grid](
            q, weights, keys, out if scales is None else scales,
            out if slots is None else slots.contiguous(), out,
            heads, chunks, keys.shape[1], skipped,
            keys.stride(0), 0 if scales is None else scales.stride(0),
            ROW=keys.stride(1), SCALE_ROW=0 if scales is None else scales.stride(1),
            STORED=stored, ROUND=round_q and coded, CHUNKS=tile.chunks, HEADS=padded, D=d,
            STAGES=tile.num_stages, AHEAD=ahead, KEY_BYTES=one, FULL=chunks >= tile.chunks,
            SLOTS=said.value, SKIP=max(UNIT // one, 1) if skipped else 0,
            num_warps=tile.num_warps, maxnreg=tile.registers,
        )  # fmt: skip
    return out


@score_chunks.register_fake
def _(q, weights, keys, scales, slots, gather, round_q):
    places = (slots if gather else keys).shape[1]
    return q.new_empty((q.shape[0], places), dtype=torch.float32)
