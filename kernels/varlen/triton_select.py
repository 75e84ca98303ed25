"""Scores of many sequences, then selection: a program a row.

Many queries: tiles of rows times stretches of keys, as in `block_scores`. One query a sequence:
programs share out all keys of the batch evenly, whatever the lengths, which each reads off
`seq_lens`.
"""

from collections.abc import Iterator
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..addressing import load_rows, through_registers
from ..block_scores.triton_kernel import (
    LONGEST,
    PROGRAMS,
    ScoreTile,
    maxima,
    score_bytes,
    score_tiles,
)
from ..limits import query_chunks
from ..plans import copies_in_bulk, on_hopper
from ..select_blocks.triton_kernel import select_row
from ..shared_memory import SPARE_BYTES, card, first_fit
from .layout import Layout
from .triton_places import keys_of, place_of, pointer_to, sequence_of, tile_of

SHARES = 396  # of all keys of a batch: 3 for each of the 132 multiprocessors of an H100
LONGEST_KEYS = 128  # of one product
AHEAD = 2  # tiles of keys that load ahead of the products


@triton.jit
@no_type_check
def _span(
    q,
    k_src,
    scores_ptr,
    rows,
    exists,
    seq,
    start,
    table_ptr,
    stride_table,
    position,
    step,
    m,
    n_blk,
    stride_kp,
    stride_kr,
    BLOCK_SIZE: tl.constexpr,
    SPAN: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    PACKED: tl.constexpr,
    PAGE: tl.constexpr,
    FULL: tl.constexpr,
    BULK: tl.constexpr,
):
    """Score SPAN keys, KEYS at a time, and store the maxima of their blocks.

    FULL means that all rows see all keys; with BULK `k_src` is a descriptor of [1, KEYS, D].
    """
    BLOCKS: tl.constexpr = SPAN // BLOCK_SIZE
    best = tl.full((q.shape[0], BLOCKS), float("-inf"), tl.float32)
    for part in tl.static_range(SPAN // KEYS):  # several where they are part of one block
        first_key = tl.cast(step, tl.int32) * SPAN + part * KEYS
        page, row = place_of(first_key, seq, start, table_ptr, stride_table, PACKED, PAGE)
        src = k_src
        if not BULK:
            src = pointer_to(k_src, page, row - first_key, stride_kp, stride_kr)
        more = maxima(
            q, src, page, row, position, first_key, m, stride_kr, BLOCKS, KEYS, D, FULL, BULK
        )
        best = tl.maximum(best, more)
    block = step * BLOCKS + tl.arange(0, BLOCKS)
    mask = exists[:, None] & (block < n_blk)[None, :]
    tl.store(scores_ptr + rows[:, None] * n_blk + block[None, :], best, mask=mask)


SIZES = ["n_seqs", "first", "last", "h_kv", "longest", "n_blk"]


@triton.jit(do_not_specialize=[*SIZES, "steps", "stride_table"])
@no_type_check
def varlen_scores_kernel(
    q_ptr,
    k_src,
    scores_ptr,
    starts_ptr,
    lens_ptr,
    table_ptr,
    n_seqs,
    first,
    last,
    h_kv,
    longest,
    n_blk,
    steps,
    stride_kp,
    stride_kr,
    stride_table,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    SPAN: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    PACKED: tl.constexpr,
    PAGE: tl.constexpr,
    BULK: tl.constexpr,
):
    """Write scores[row, block] of the queries `first` to `last`, whose rows are (query, group).

    Blocks that lie wholly after the last query of a tile of rows are left as they are.
    """
    seq, begin, stop_query, end, tile = tile_of(
        tl.program_id(0), starts_ptr, n_seqs, first, last, h_kv, ROWS
    )
    first_row = tile * ROWS
    start, m = keys_of(lens_ptr, seq, longest, PACKED)
    last_row = tl.minimum(first_row + ROWS, (stop_query - begin) * h_kv) - 1
    if last_row < first_row:
        return
    seen = tl.maximum(m - end + begin + last_row // h_kv + 1, 0)  # keys, by the last row
    seen_by_all = tl.maximum(m - end + begin + first_row // h_kv + 1, 0)
    first_step = tl.program_id(1) * steps
    stop = tl.minimum(first_step + steps, tl.cdiv(seen, SPAN))
    full_stop = tl.minimum(stop, seen_by_all // SPAN)

    local = first_row + tl.arange(0, ROWS)
    exists = local <= last_row
    rows = ((begin - first).to(tl.int64)) * h_kv + local
    q = load_rows(q_ptr + tl.cast(first, tl.int64) * h_kv * D, rows, D, exists, D)  # [ROWS, D]
    position = m - end + begin + local // h_kv  # [ROWS]
    if BULK:
        q = through_registers(q, D)
    for step in range(first_step, full_stop):
        _span(
            q, k_src, scores_ptr, rows, exists, seq, start, table_ptr, stride_table,
            position, step, m, n_blk, stride_kp, stride_kr,
            BLOCK_SIZE, SPAN, KEYS, D, PACKED, PAGE, True, BULK,
        )  # fmt: skip
    for step in range(tl.maximum(first_step, full_stop), stop):
        _span(
            q, k_src, scores_ptr, rows, exists, seq, start, table_ptr, stride_table,
            position, step, m, n_blk, stride_kp, stride_kr,
            BLOCK_SIZE, SPAN, KEYS, D, PACKED, PAGE, False, BULK,
        )  # fmt: skip


@triton.jit(do_not_specialize=["n_seqs", "h_kv", "longest", "n_blk", "programs", "stride_table"])
@no_type_check
def share_scores_kernel(
    q_ptr,
    k_ptr,
    scores_ptr,
    lens_ptr,
    table_ptr,
    n_seqs,
    h_kv,
    longest,
    n_blk,
    programs,
    stride_kp,
    stride_kr,
    stride_table,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    SPAN: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    PACKED: tl.constexpr,
    PAGE: tl.constexpr,
    SEQS: tl.constexpr,
):
    """Write scores[seq, group, block] of each sequence's last position.

    Every program takes an equal share of the batch's keys within one sequence: with `steps` spans
    a share there are at most `programs` whole shares, and one cut short for each sequence.
    """
    every = tl.arange(0, SEQS)
    lens = tl.load(lens_ptr + every, mask=every < n_seqs, other=0)
    if PACKED:
        lens = tl.load(lens_ptr + every + 1, mask=every < n_seqs, other=0) - lens
    lens = tl.minimum(lens, longest)
    spans = tl.cdiv(lens, SPAN)
    steps = tl.maximum(tl.cdiv(tl.sum(spans), programs), 1)
    shares = tl.cumsum(tl.cdiv(spans, steps))  # [SEQS], up to and with each sequence
    share = tl.program_id(0)
    seq = tl.sum((shares <= share).to(tl.int32))
    if seq >= n_seqs:
        return
    first_step = (share - tl.max(tl.where(shares <= share, shares, 0))) * steps
    start, m = keys_of(lens_ptr, seq, longest, PACKED)
    stop = tl.minimum(first_step + steps, tl.cdiv(m, SPAN))
    full_stop = tl.minimum(stop, m // SPAN)

    group = tl.arange(0, ROWS)
    exists = group < h_kv
    rows = seq.to(tl.int64) * h_kv + group
    q = load_rows(q_ptr, rows, D, exists, D)  # [ROWS, D]
    position = group * 0 + m - 1
    for step in range(first_step, full_stop):
        _span(
            q, k_ptr, scores_ptr, rows, exists, seq, start, table_ptr, stride_table,
            position, step, m, n_blk, stride_kp, stride_kr,
            BLOCK_SIZE, SPAN, KEYS, D, PACKED, PAGE, True, False,
        )  # fmt: skip
    for step in range(tl.maximum(first_step, full_stop), stop):
        _span(
            q, k_ptr, scores_ptr, rows, exists, seq, start, table_ptr, stride_table,
            position, step, m, n_blk, stride_kp, stride_kr,
            BLOCK_SIZE, SPAN, KEYS, D, PACKED, PAGE, False, False,
        )  # fmt: skip


@triton.jit(do_not_specialize=[*SIZES, "n_selected", "n_local", "n_init"])
@no_type_check
def varlen_select_kernel(
    scores_ptr,
    out_ptr,
    starts_ptr,
    lens_ptr,
    n_seqs,
    first,
    last,
    h_kv,
    longest,
    n_blk,
    n_selected,
    n_local,
    n_init,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    SLOTS: tl.constexpr,
    PACKED: tl.constexpr,
    SINGLE: tl.constexpr,
):
    """`select_row` of every row, which looks at the blocks that its query sees part of.

    SINGLE: one query a sequence, and no `starts_ptr`.
    """
    row = tl.program_id(0)
    query = first + row // h_kv
    if SINGLE:
        seq = query
        end = query + 1
    else:
        seq = sequence_of(query, starts_ptr, n_seqs, 0, last, 1, 1, False)
        end = tl.load(starts_ptr + seq + 1)
    _, m = keys_of(lens_ptr, seq, longest, PACKED)
    n_visible = tl.cdiv(tl.maximum(m - end + query + 1, 0), BLOCK_SIZE)
    scores_ptr += row.to(tl.int64) * n_blk
    out_ptr += row.to(tl.int64) * n_selected
    select_row(scores_ptr, out_ptr, n_visible, n_selected, n_local, n_init, TILE, SLOTS)


def share_tiles(rows: int, block_size: int, itemsize: int) -> Iterator[ScoreTile]:
    """Tiles for one query of each sequence, from the largest to the smallest."""
    if itemsize == 4:  # no tensor cores, and no loads ahead
        shapes, num_warps, ahead = (64, 32, 16), 8, 0
    else:
        shapes, num_warps, ahead = (128, 64, 32, 16), 4, AHEAD
    for keys in shapes:
        num_stages = ahead + 1 if keys >= block_size else 1
        yield ScoreTile(rows=rows, keys=keys, num_warps=num_warps, num_stages=num_stages)


def share_bytes(tile: ScoreTile, d: int, itemsize: int) -> int:
    """Bound on the shared memory of `share_scores_kernel`."""
    return itemsize * d * (tile.rows + max(tile.num_stages - 1, 1) * tile.keys) + SPARE_BYTES


def staged(num_stages: int, layout: Layout) -> int:
    """Stages of a loop that looks its keys up in a table: each load ahead takes one more."""
    return num_stages if layout.table is None else 2 * num_stages - 1


def pages_of(keys: Tensor, layout: Layout) -> dict[str, bool | int]:
    """What the kernels are told of where keys lie."""
    return {"PACKED": layout.packed, "PAGE": 0 if layout.table is None else keys.shape[1]}


def write_varlen_scores(
    q_idx: Tensor, k_idx: Tensor, scores: Tensor, layout: Layout, block_size: int, first: int,
    last: int, bulk: bool,
) -> None:  # fmt: skip
    """Launch: the scores of the queries `first` to `last`, as far as they see keys."""
    (_, h_kv, d_idx), n_blk = q_idx.shape, scores.shape[-1]
    starts, lens, table, packed, longest = layout
    n_seqs, rows = lens.shape[0] - packed, (last - first) * h_kv
    place = pages_of(k_idx, layout)
    in_page = place["PAGE"] & -place["PAGE"] or LONGEST_KEYS  # the greatest power of two in a page
    table, stride_table = (lens, 0) if table is None else (table, table.stride(0))
    sizes = (card(), q_idx.dtype)
    if starts is None:
        width = max(triton.next_power_of_2(h_kv), 16)
        tile = first_fit(share_tiles, share_bytes, *sizes, width, block_size, d_idx)
        keys = min(tile.keys, in_page)
        share_scores_kernel[(SHARES + n_seqs,)](
            q_idx, k_idx, scores, lens, table, n_seqs, h_kv, longest, n_blk, SHARES,
            k_idx.stride(0), k_idx.stride(1), stride_table,
            BLOCK_SIZE=block_size, ROWS=tile.rows, SPAN=max(keys, block_size), KEYS=keys, D=d_idx,
            SEQS=max(triton.next_power_of_2(n_seqs), 16), **place,
            num_warps=tile.num_warps, num_stages=staged(tile.num_stages, layout),
        )  # fmt: skip
        return
    tile = first_fit(score_tiles, score_bytes, *sizes, rows <= 16, block_size, d_idx)
    keys = min(tile.keys, in_page)
    bulk = bulk and copies_in_bulk(k_idx) and k_idx.shape[1] >= keys
    source = TensorDescriptor.from_tensor(k_idx, [1, keys, d_idx]) if bulk else k_idx
    span = max(keys, block_size)
    tiles, key_steps = rows // tile.rows + n_seqs, triton.cdiv(longest, span)
    steps = min(max(tiles * key_steps // PROGRAMS, 1), LONGEST)
    varlen_scores_kernel[(tiles, triton.cdiv(key_steps, steps))](
        q_idx, source, scores, starts, lens, table,
        n_seqs, first, last, h_kv, longest, n_blk, steps,
        k_idx.stride(0), k_idx.stride(1), stride_table,
        BLOCK_SIZE=block_size, ROWS=tile.rows, SPAN=span, KEYS=keys, D=d_idx, BULK=bulk, **place,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip


def select(
    q_idx: Tensor,
    k_idx: Tensor,
    layout: Layout,
    n_selected: int,
    block_size: int,
    n_local: int,
    n_init: int,
    plan: str,
) -> Tensor:
    """Both launches, over chunks of queries whose scores fit the memory allowed."""
    (t_q, h_kv, _), n_blk = q_idx.shape, triton.cdiv(layout.longest, block_size)
    single = layout.starts is None
    bulk = plan == "hopper" and on_hopper(card().arch, q_idx.dtype)
    out = q_idx.new_empty((t_q, h_kv, n_selected), dtype=torch.int32)
    # one query a sequence goes in one piece: its launch shares out the whole batch
    chunks = [(0, t_q)] if single else query_chunks(t_q, 4 * h_kv * n_blk)
    for first, last in chunks:
        rows = (last - first) * h_kv
        scores = q_idx.new_empty((rows, n_blk), dtype=torch.float32)
        write_varlen_scores(q_idx, k_idx, scores, layout, block_size, first, last, bulk)
        # many rows: one warp each, in short tiles; a few, as in decoding: wide tiles, several warps
        tile = min(max(triton.next_power_of_2(n_blk), 256), 256 if rows > 1024 else 8192)
        varlen_select_kernel[(rows,)](
            scores, out[first:], layout.lens if single else layout.starts, layout.lens,
            layout.lens.shape[0] - layout.packed, first, t_q, h_kv, layout.longest, n_blk,
            n_selected, n_local, n_init,
            BLOCK_SIZE=block_size, TILE=tile, SLOTS=max(triton.next_power_of_2(n_selected), 16),
            PACKED=layout.packed, SINGLE=single, num_warps=min(tile // 256, 8),
        )  # fmt: skip
        del scores  # before the next chunk's, so that one buffer exists at a time
    return out
