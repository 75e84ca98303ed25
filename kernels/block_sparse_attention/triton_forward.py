"""Forward pass of a tile of queries over the union of its blocks, by online softmax in base 2."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..addressing import (
    group_and_batch,
    head_start,
    load_keys,
    load_rows,
    row_of,
    through_registers,
    tile_rows,
    vectors,
)
from ..plans import WIDEST_GROUP, copies_in_bulk, on_hopper
from ..shared_memory import SPARE_BYTES, card, first_fit
from .triton_tiles import Tile, attention_tiles, list_blocks

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
HOPPER_REGISTERS = 168  # of a thread, so that three programs of four warps share a multiprocessor
HOPPER = {"maxnreg": HOPPER_REGISTERS, "num_stages": 2}


@triton.jit
@no_type_check
def add_keys(
    q,
    k,
    v,
    top,
    total,
    acc,
    reads,
    position,
    first_key,
    scale,
    KEYS: tl.constexpr,
    FULL: tl.constexpr,
    SHIFTED: tl.constexpr,
):
    """Add KEYS keys from `first_key` on to the running maximum, sum and weighted values.

    FULL means that every query which reads the keys sees all of them. SHIFTED leaves out rows that
    do not read them by their shift, one operation a row instead of one a number; that takes a
    scale above 0.
    """
    s = tl.dot(q, tl.trans(k), input_precision="ieee")  # [ROWS, KEYS]
    if not SHIFTED:
        s = s * scale + tl.where(reads, 0.0, float("-inf"))[:, None]
    if not FULL:
        key = first_key + tl.arange(0, KEYS)
        s = tl.where(key[None, :] <= position[:, None], s, float("-inf"))
    largest = tl.max(s, axis=1)
    if SHIFTED:
        largest = tl.where(reads, largest * scale, float("-inf"))
    new_top = tl.maximum(top, largest)
    shift = tl.where(new_top == float("-inf"), 0.0, new_top)  # rows that have read nothing yet
    if SHIFTED:
        p = tl.exp2(s * scale - tl.where(reads, shift, float("inf"))[:, None])
    else:
        p = tl.exp2(s - shift[:, None])
    decay = tl.exp2(top - shift)
    total = total * decay + tl.sum(p, axis=1)
    acc = tl.dot(p.to(v.dtype), v, acc * decay[:, None], input_precision="ieee")  # [ROWS, D]
    return new_top, total, acc


@triton.jit
@no_type_check
def store_rows(out_ptr, lse_ptr, row, exists, top, total, acc, D: tl.constexpr):
    """Outputs, and log-sum-exps in base e; 0 and -inf for rows that have read nothing."""
    out = acc / tl.where(total > 0, total, 1.0)[:, None]
    lse = (top + tl.log2(tl.where(total > 0, total, 1.0))) * LN_2
    tl.store(vectors(out_ptr, row, D, D), out.to(out_ptr.dtype.element_ty), mask=exists[:, None])
    tl.store(lse_ptr + row, lse, mask=exists)


@triton.jit
@no_type_check
def _step(
    q,
    top,
    total,
    acc,
    step,
    blocks_ptr,
    members_ptr,
    k_src,
    v_src,
    stride_km,
    stride_vm,
    batch,
    group,
    query,
    position,
    m,
    scale,
    BLOCK_SIZE: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    FULL: tl.constexpr,
    HOPPER: tl.constexpr,
):
    """`add_keys` of KEYS keys of one listed block.

    With HOPPER, `k_src` and `v_src` are descriptors instead of pointers, and rows are shifted.
    """
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    block = tl.load(blocks_ptr + step // PARTS)
    members = tl.load(members_ptr + step // PARTS)
    first_key = block * BLOCK_SIZE + (step % PARTS) * KEYS
    if HOPPER:
        k = k_src.load([batch.to(tl.int32), first_key, group.to(tl.int32), 0]).reshape(KEYS, D)
        v = v_src.load([batch.to(tl.int32), first_key, group.to(tl.int32), 0]).reshape(KEYS, D)
    else:
        k = load_keys(k_src, first_key, m, stride_km, KEYS, D, FULL)  # [KEYS, D]
        v = load_keys(v_src, first_key, m, stride_vm, KEYS, D, FULL)  # [KEYS, D]
    reads = ((members >> query) & 1) == 1  # [ROWS]
    return add_keys(q, k, v, top, total, acc, reads, position, first_key, scale, KEYS, FULL, HOPPER)


@triton.jit(do_not_specialize=["n", "m", "h_kv", "group_size", "capacity"])
@no_type_check
def attend_kernel(
    q_ptr,
    k_src,
    v_src,
    out_ptr,
    lse_ptr,
    blocks_ptr,
    members_ptr,
    ends_ptr,
    n,
    m,
    h_kv,
    group_size,
    capacity,
    scale,
    stride_kb,
    stride_km,
    stride_kh,
    stride_vb,
    stride_vm,
    stride_vh,
    BLOCK_SIZE: tl.constexpr,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    SPLIT: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    HOPPER: tl.constexpr,
):
    """Attention of one tile of queries times HEADS heads of one group.

    HOPPER: `k_src` and `v_src` are descriptors of [1, KEYS, 1, D], and the queries are multiplied
    from registers, which leaves shared memory to the keys.
    """
    tile = tl.program_id(0)
    group, batch = group_and_batch(SPLIT)
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    local_query, query, position, head, exists = tile_rows(
        tile, m, n, group_size, tl.program_id(1) % SPLIT, QUERIES, HEADS
    )
    row = row_of(batch, n, query, h_kv, group, group_size, head)
    q = load_rows(q_ptr, row, D, exists, D)  # [ROWS, D]
    if HOPPER:
        q = through_registers(q, D)

    list_id = (batch * h_kv + group) * tl.num_programs(0) + tile
    blocks_ptr += list_id * capacity
    members_ptr += list_id * capacity
    n_full = tl.load(ends_ptr + list_id * 2)
    n_all = tl.load(ends_ptr + list_id * 2 + 1)
    if not HOPPER:
        k_src = head_start(k_src, batch, group, stride_kb, stride_kh)
        v_src = head_start(v_src, batch, group, stride_vb, stride_vh)

    top = tl.full((QUERIES * HEADS,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES * HEADS,), tl.float32)
    acc = tl.zeros((QUERIES * HEADS, D), tl.float32)
    for step in range(0, n_full * PARTS):
        top, total, acc = _step(
            q, top, total, acc, step, blocks_ptr, members_ptr, k_src, v_src, stride_km, stride_vm,
            batch, group, local_query, position, m, scale, BLOCK_SIZE, KEYS, D, True, HOPPER,
        )  # fmt: skip
    for step in range(n_full * PARTS, n_all * PARTS):
        top, total, acc = _step(
            q, top, total, acc, step, blocks_ptr, members_ptr, k_src, v_src, stride_km, stride_vm,
            batch, group, local_query, position, m, scale, BLOCK_SIZE, KEYS, D, False, HOPPER,
        )  # fmt: skip

    store_rows(out_ptr, lse_ptr, row, exists, top, total, acc, D)


def forward_bytes(tile: Tile, d: int, itemsize: int) -> int:
    """Bound on the shared memory of `attend_kernel`."""
    if itemsize == 4:  # no tensor cores, no loads ahead; the weights go through shared memory too
        return 4 * d * (tile.rows + 2 * tile.keys) + 4 * tile.rows * tile.keys + SPARE_BYTES
    return 2 * d * (tile.rows + 4 * tile.keys) + SPARE_BYTES  # k and v twice: one loads ahead


def hopper_serves(
    arch: int, q: Tensor, k: Tensor, v: Tensor, block_size: int, scale: float
) -> bool:
    """Whether `attend_kernel` can run with HOPPER."""
    keys = min(block_size, 64)
    return (
        on_hopper(arch, q.dtype)
        and q.shape[2] // k.shape[2] <= WIDEST_GROUP
        and k.shape[1] >= keys
        and scale > 0
        and copies_in_bulk(k, v)
    )


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_idx: Tensor,
    block_size: int,
    scale: float,
    plan: str = "general",
) -> tuple[Tensor, Tensor]:
    """Launch: output [b, n, h_q, d] and log-sum-exp [b, n, h_q] of contiguous q and block_idx."""
    (b, n, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    tile = first_fit(attention_tiles, forward_bytes, card(), q.dtype, h_q // h_kv, block_size, d)
    hopper = plan == "hopper" and hopper_serves(card().arch, q, k, v, block_size, scale)
    lists = list_blocks(block_idx, m, block_size, tile.queries)
    out = torch.empty_like(q)
    lse = q.new_empty((b, n, h_q), dtype=torch.float32)
    options, sources = {"num_stages": tile.num_stages}, (k, v)
    if hopper:
        sources = tuple(TensorDescriptor.from_tensor(x, [1, tile.keys, 1, d]) for x in (k, v))
        options |= HOPPER if tile.num_warps == 4 else {}
    attend_kernel[(triton.cdiv(n, tile.queries), h_kv * tile.split, b)](
        q, *sources, out, lse, lists.blocks, lists.members, lists.ends,
        n, m, h_kv, h_q // h_kv, lists.capacity, scale * LOG2_E.value,
        *k.stride()[:3], *v.stride()[:3],
        BLOCK_SIZE=block_size, QUERIES=tile.queries, HEADS=tile.heads, SPLIT=tile.split,
        KEYS=tile.keys, D=d, HOPPER=hopper, num_warps=tile.num_warps, **options,
    )  # fmt: skip
    return out, lse
