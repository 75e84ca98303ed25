"""Attention of many sequences: tiles of queries over lists of blocks, or one query a sequence.

The lists hold beside each block's number where it lies, so that pages cost the attention nothing:
it reads a place where it would have computed one.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..addressing import load_keys, load_rows, row_of, through_registers
from ..block_sparse_attention.triton_decode import (
    attend_part,
    decode_bytes,
    decode_tiles,
    merged,
    new_parts,
    slot_block,
)
from ..block_sparse_attention.triton_forward import (
    HOPPER_REGISTERS,
    LOG2_E,
    add_keys,
    forward_bytes,
    store_rows,
)
from ..block_sparse_attention.triton_tiles import attention_tiles, write_list
from ..plans import WIDEST_GROUP, copies_in_bulk, on_hopper
from ..shared_memory import card, first_fit
from .layout import Layout
from .triton_places import keys_of, place_of, pointer_to, tile_of
from .triton_select import pages_of

LANES = 32  # list entries whose places are looked up at a time


@triton.jit(
    do_not_specialize=["n_seqs", "t_q", "h_kv", "longest", "n_selected", "capacity", "stride_table"]
)
@no_type_check
def varlen_lists_kernel(
    block_idx_ptr,
    blocks_ptr,
    members_ptr,
    places_ptr,
    ends_ptr,
    starts_ptr,
    lens_ptr,
    table_ptr,
    n_seqs,
    t_q,
    h_kv,
    longest,
    n_selected,
    capacity,
    stride_table,
    BLOCK_SIZE: tl.constexpr,
    QUERIES: tl.constexpr,
    SLOTS: tl.constexpr,
    LANES: tl.constexpr,
    PACKED: tl.constexpr,
    PAGE: tl.constexpr,
):
    """One tile's list, as `BlockLists` has it, and the first row of each block in memory.

    Rows count through all pages where there are pages, through packed keys, or within a cache.
    """
    group = tl.program_id(1)
    seq, begin, stop, end, tile = tile_of(tl.program_id(0), starts_ptr, n_seqs, 0, t_q, 1, QUERIES)
    first = begin + tile * QUERIES
    if first >= stop:
        return
    start, m = keys_of(lens_ptr, seq, longest, PACKED)
    n_blk = tl.cdiv(m, BLOCK_SIZE)
    query = first + tl.arange(0, QUERIES)
    slot = tl.arange(0, SLOTS)
    row = query.to(tl.int64) * h_kv + group  # [QUERIES]
    mask = (query < stop)[:, None] & (slot < n_selected)[None, :]
    ids = tl.load(block_idx_ptr + row[:, None] * n_selected + slot[None, :], mask=mask, other=-1)
    position = m - end + query
    readable = (ids >= 0) & (ids < n_blk)
    readable &= tl.where(readable, ids, 0) * BLOCK_SIZE <= position[:, None]
    ids = tl.where(readable, ids, n_blk)  # [QUERIES, SLOTS]

    list_id = group.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    blocks_ptr += list_id * capacity
    members_ptr += list_id * capacity
    places_ptr += list_id * capacity
    n_full, n_all = write_list(
        ids, n_blk, m - end + first, BLOCK_SIZE, blocks_ptr, members_ptr, QUERIES
    )
    tl.store(ends_ptr + list_id * 2, n_full)
    tl.store(ends_ptr + list_id * 2 + 1, n_all)
    tl.debug_barrier()  # other threads read what one of them wrote
    for first_entry in range(0, n_all, LANES):
        entry = first_entry + tl.arange(0, LANES)
        listed = tl.load(blocks_ptr + entry, mask=entry < n_all, other=0)
        page, first_row = place_of(
            listed * BLOCK_SIZE, seq, start, table_ptr, stride_table, PACKED, PAGE
        )
        place = page * PAGE + first_row
        tl.store(places_ptr + entry, place, mask=entry < n_all)


@triton.jit
@no_type_check
def _listed(
    q,
    top,
    total,
    acc,
    step,
    blocks_ptr,
    members_ptr,
    places_ptr,
    k_src,
    v_src,
    k_ptr,
    v_ptr,
    stride_kp,
    stride_kr,
    stride_vp,
    stride_vr,
    seq,
    group,
    query,
    position,
    m,
    scale,
    BLOCK_SIZE: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    PACKED: tl.constexpr,
    PAGE: tl.constexpr,
    FULL: tl.constexpr,
    HOPPER: tl.constexpr,
):
    """`add_keys` of KEYS keys of one listed block."""
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    block = tl.load(blocks_ptr + step // PARTS)
    members = tl.load(members_ptr + step // PARTS)
    place = tl.load(places_ptr + step // PARTS)
    within = (step % PARTS) * KEYS
    first_key = block * BLOCK_SIZE + within
    if PAGE > 0:
        page = place // PAGE
        row = place % PAGE + within
    else:
        page = place * 0 if PACKED else place * 0 + seq
        row = place + within
    if HOPPER:
        k = k_src.load([page, row, group.to(tl.int32), 0]).reshape(KEYS, D)
    else:
        k_first = pointer_to(k_ptr, page, row - first_key, stride_kp, stride_kr)
        k = load_keys(k_first, first_key, m, stride_kr, KEYS, D, FULL)  # [KEYS, D]
    if HOPPER and FULL:
        v = v_src.load([page, row, group.to(tl.int32), 0]).reshape(KEYS, D)
    else:  # what lies behind the last key may be NaN, which no weight of 0 removes
        v_first = pointer_to(v_ptr, page, row - first_key, stride_vp, stride_vr)
        v = load_keys(v_first, first_key, m, stride_vr, KEYS, D, FULL)  # [KEYS, D]
    reads = ((members >> query) & 1) == 1  # [ROWS]
    return add_keys(q, k, v, top, total, acc, reads, position, first_key, scale, KEYS, FULL, HOPPER)


@triton.jit(do_not_specialize=["n_seqs", "t_q", "h_kv", "longest", "group_size", "capacity"])
@no_type_check
def varlen_attend_kernel(
    q_ptr,
    k_src,
    v_src,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    blocks_ptr,
    members_ptr,
    places_ptr,
    ends_ptr,
    starts_ptr,
    lens_ptr,
    n_seqs,
    t_q,
    h_kv,
    longest,
    group_size,
    capacity,
    scale,
    stride_kp,
    stride_kr,
    stride_kh,
    stride_vp,
    stride_vr,
    stride_vh,
    BLOCK_SIZE: tl.constexpr,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    SPLIT: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    PACKED: tl.constexpr,
    PAGE: tl.constexpr,
    HOPPER: tl.constexpr,
):
    """Attention of one tile of queries times HEADS heads of one group.

    HOPPER: blocks that all queries see in full come by descriptors of [1, KEYS, 1, D].
    """
    group = (tl.program_id(1) // SPLIT).to(tl.int64)
    seq, begin, stop, end, tile = tile_of(tl.program_id(0), starts_ptr, n_seqs, 0, t_q, 1, QUERIES)
    first = begin + tile * QUERIES
    if first >= stop:
        return
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    _, m = keys_of(lens_ptr, seq, longest, PACKED)
    local_row = tl.arange(0, QUERIES * HEADS)
    local_query = local_row // HEADS
    head = (tl.program_id(1) % SPLIT) * HEADS + local_row % HEADS
    query = first + local_query
    exists = (query < stop) & (head < group_size)
    position = m - end + query
    row = row_of(0, 0, query.to(tl.int64), h_kv, group, group_size, head)
    q = load_rows(q_ptr, row, D, exists, D)  # [ROWS, D]
    if HOPPER:
        q = through_registers(q, D)

    list_id = group * tl.num_programs(0) + tl.program_id(0)
    blocks_ptr += list_id * capacity
    members_ptr += list_id * capacity
    places_ptr += list_id * capacity
    n_full = tl.load(ends_ptr + list_id * 2)
    n_all = tl.load(ends_ptr + list_id * 2 + 1)
    k_ptr += group * stride_kh
    v_ptr += group * stride_vh

    top = tl.full((QUERIES * HEADS,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES * HEADS,), tl.float32)
    acc = tl.zeros((QUERIES * HEADS, D), tl.float32)
    for step in range(0, n_full * PARTS):
        top, total, acc = _listed(
            q, top, total, acc, step, blocks_ptr, members_ptr, places_ptr,
            k_src, v_src, k_ptr, v_ptr, stride_kp, stride_kr, stride_vp, stride_vr,
            seq, group, local_query, position, m, scale,
            BLOCK_SIZE, KEYS, D, PACKED, PAGE, True, HOPPER,
        )  # fmt: skip
    for step in range(n_full * PARTS, n_all * PARTS):
        top, total, acc = _listed(
            q, top, total, acc, step, blocks_ptr, members_ptr, places_ptr,
            k_src, v_src, k_ptr, v_ptr, stride_kp, stride_kr, stride_vp, stride_vr,
            seq, group, local_query, position, m, scale,
            BLOCK_SIZE, KEYS, D, PACKED, PAGE, False, HOPPER,
        )  # fmt: skip
    store_rows(out_ptr, lse_ptr, row, exists, top, total, acc, D)


@triton.jit(do_not_specialize=["h_kv", "longest", "group_size", "n_selected", "stride_table"])
@no_type_check
def varlen_part_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    block_idx_ptr,
    part_out_ptr,
    part_lse_ptr,
    lens_ptr,
    table_ptr,
    h_kv,
    longest,
    group_size,
    n_selected,
    scale,
    stride_kp,
    stride_kr,
    stride_kh,
    stride_vp,
    stride_vr,
    stride_vh,
    stride_table,
    BLOCK_SIZE: tl.constexpr,
    SLOTS: tl.constexpr,
    HEADS: tl.constexpr,
    SPLIT: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    PACKED: tl.constexpr,
    PAGE: tl.constexpr,
):
    """Attention of a sequence's last position to KEYS keys of one slot."""
    part, seq = tl.program_id(0), tl.program_id(2)
    group = (tl.program_id(1) // SPLIT).to(tl.int64)
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    start, m = keys_of(lens_ptr, seq, longest, PACKED)
    block_idx_ptr += (seq * h_kv + group) * n_selected
    block, readable = slot_block(block_idx_ptr, part // PARTS, tl.cdiv(m, BLOCK_SIZE), SLOTS)
    head = (tl.program_id(1) % SPLIT) * HEADS + tl.arange(0, HEADS)
    exists = head < group_size
    row = row_of(0, 0, seq, h_kv, group, group_size, head)
    q = load_rows(q_ptr, row, D, exists, D)  # [HEADS, D]
    first_key = tl.where(readable, block, 0) * BLOCK_SIZE + (part % PARTS) * KEYS
    within = tl.arange(0, KEYS)
    visible = readable & (first_key + within < m)  # all keys are in the past of the last position
    page, key_row = place_of(first_key, seq, start, table_ptr, stride_table, PACKED, PAGE)
    k_first = pointer_to(k_ptr + group * stride_kh, page, key_row, stride_kp, stride_kr)
    v_first = pointer_to(v_ptr + group * stride_vh, page, key_row, stride_vp, stride_vr)
    k = load_rows(k_first, within.to(tl.int64), stride_kr, visible, D)  # [KEYS, D]
    v = load_rows(v_first, within.to(tl.int64), stride_vr, visible, D)  # [KEYS, D]
    place = row * tl.num_programs(0) + part
    attend_part(q, k, v, visible, scale, part_out_ptr, part_lse_ptr, place, exists, D)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_idx: Tensor,
    layout: Layout,
    block_size: int,
    scale: float,
    plan: str,
) -> tuple[Tensor, Tensor]:
    """Launch: output [t_q, h_q, d] and log-sum-exp [t_q, h_q] of contiguous q and block_idx."""
    (t_q, h_q, d), h_kv, n_selected = q.shape, k.shape[2], block_idx.shape[-1]
    starts, lens, table, packed, longest = layout
    group, n_seqs, place = h_q // h_kv, lens.shape[0] - packed, pages_of(k, layout)
    table, stride_table = (lens, 0) if table is None else (table, table.stride(0))
    strides = (*k.stride()[:3], *v.stride()[:3])
    slots = triton.next_power_of_2(n_selected)
    if starts is None:
        tile = first_fit(decode_tiles, decode_bytes, card(), q.dtype, group, block_size, d)
        n_parts = n_selected * (block_size // tile.keys)
        part_out, part_lse = new_parts(q[:, None], n_parts)
        varlen_part_kernel[(n_parts, h_kv * tile.split, n_seqs)](
            q, k, v, block_idx, part_out, part_lse, lens, table,
            h_kv, longest, group, n_selected, scale * LOG2_E.value, *strides, stride_table,
            BLOCK_SIZE=block_size, SLOTS=slots, HEADS=tile.heads, SPLIT=tile.split,
            KEYS=tile.keys, D=d, **place, num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
        out, lse = merged(q[:, None], part_out, part_lse)
        return out[:, 0], lse[:, 0]

    tile = first_fit(attention_tiles, forward_bytes, card(), q.dtype, group, block_size, d)
    tiles = t_q // tile.queries + n_seqs
    capacity = min(tile.queries * n_selected, triton.cdiv(longest, block_size))
    blocks, members, places = (block_idx.new_empty((h_kv, tiles, capacity)) for _ in range(3))
    ends = block_idx.new_empty((h_kv, tiles, 2))
    varlen_lists_kernel[(tiles, h_kv)](
        block_idx, blocks, members, places, ends, starts, lens, table,
        n_seqs, t_q, h_kv, longest, n_selected, capacity, stride_table,
        BLOCK_SIZE=block_size, QUERIES=tile.queries, SLOTS=slots, LANES=LANES, **place, num_warps=1,
    )  # fmt: skip
    hopper = (
        plan == "hopper"
        and on_hopper(card().arch, q.dtype)
        and group <= WIDEST_GROUP
        and k.shape[1] >= tile.keys
        and scale > 0
        and copies_in_bulk(k, v)
    )
    out, lse = torch.empty_like(q), q.new_empty((t_q, h_q), dtype=torch.float32)
    options, sources = {}, (k, v)
    if hopper:
        sources = tuple(TensorDescriptor.from_tensor(x, [1, tile.keys, 1, d]) for x in (k, v))
        options = {"maxnreg": HOPPER_REGISTERS} if tile.num_warps == 4 else {}
    varlen_attend_kernel[(tiles, h_kv * tile.split)](
        q, *sources, k, v, out, lse, blocks, members, places, ends, starts, lens,
        n_seqs, t_q, h_kv, longest, group, capacity, scale * LOG2_E.value, *strides,
        BLOCK_SIZE=block_size, QUERIES=tile.queries, HEADS=tile.heads, SPLIT=tile.split,
        KEYS=tile.keys, D=d, HOPPER=hopper, **place,
        num_warps=tile.num_warps, num_stages=tile.num_stages, **options,
    )  # fmt: skip
    return out, lse
