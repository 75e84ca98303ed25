"""One query in three launches: scores, attention that finds its own blocks, merge.

Each program of the attention serves one slot of one group. It reads all scores of the group, a
few kilobytes, and takes the best of them until it knows which block its slot holds: that costs
less than one more launch as long as a row has few blocks.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import cuda

from .. import limits
from ..addressing import group_and_batch, head_start, load_rows, row_of, vectors
from ..block_sparse_attention.triton_decode import MERGED, merge_kernel
from ..block_sparse_attention.triton_forward import LOG2_E
from ..block_sparse_attention.triton_kernel import block_sparse_attention
from ..fp8 import FIRST_ARCH, decode_fp8, power_of_two
from ..index_codes import CODES
from ..plans import HOPPER_BLOCKS, WIDEST_GROUP, on_hopper
from ..score_and_select.triton_kernel import score_and_select
from ..select_blocks.triton_kernel import FORCED, LOW_WORD, TOP_ID, UNREADABLE
from ..shared_memory import INTERPRETING, SPARE_BYTES, card

PROGRAMS = 396  # of the scores: 3 for each of the 132 multiprocessors of an H100
STAGES = 3  # tiles of index keys in memory at a time
KEYS = 128  # index keys of one product, and keys that one program attends to at most
MOST_BLOCKS = 8192  # of a row, whose scores each program holds in registers
MOST_GROUPS = 16  # rows of one product of scores
MOST_SLOTS = 16
OVERLAP = False  # whether a Hopper card begins each launch while the one before it ends
LIFTED = tl.constexpr(256.0)  # a query's greatest number beside codes: float16 has room below


@triton.jit(do_not_specialize=["m", "h_kv", "n_blk", "steps"])
@no_type_check
def decode_scores_kernel(
    q_ptr,
    k_ptr,
    scores_ptr,
    m,
    h_kv,
    n_blk,
    steps,
    stride_kb,
    stride_km,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    CODED: tl.constexpr,
    NATIVE: tl.constexpr,
    STAGES: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Write scores[b, group, block] of the last position, `steps` steps of KEYS keys each.

    CODED: keys come as bytes, and scores as multiples of a positive number per row. OVERLAP: the
    next launch may begin, up to where it waits for this one.
    """
    if OVERLAP:
        cuda.gdc_launch_dependents()
    BLOCKS: tl.constexpr = KEYS // BLOCK_SIZE
    batch = tl.program_id(1).to(tl.int64)
    row = tl.arange(0, ROWS)
    real = row < h_kv
    q = load_rows(q_ptr, batch * h_kv + row, D, real, D)  # [ROWS, D]
    if CODED:
        q = q.to(tl.float32)
        unit = power_of_two(tl.max(tl.abs(q), axis=1)) / LIFTED
        q = (q / unit[:, None]).to(tl.float16)
    first = tl.program_id(0) * steps
    stop = tl.minimum(first + steps, tl.cdiv(m, KEYS))
    k_ptr += batch * stride_kb
    within = tl.arange(0, KEYS)
    for step in tl.range(first, stop, num_stages=STAGES):
        key = tl.cast(step, tl.int64) * KEYS + within
        k = tl.load(
            k_ptr + key[:, None] * stride_km + tl.arange(0, D), mask=(key < m)[:, None], other=0
        )  # [KEYS, D]
        if CODED:
            k = decode_fp8(k, NATIVE)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")  # [ROWS, KEYS]
        s = tl.where((key < m)[None, :], s, float("-inf"))
        best = tl.max(tl.reshape(s, (ROWS, BLOCKS, BLOCK_SIZE)), axis=2)
        block = step * BLOCKS + tl.arange(0, BLOCKS)
        place = (batch * h_kv + row)[:, None] * n_blk + block[None, :]
        tl.store(scores_ptr + place, best, mask=real[:, None] & (block < n_blk)[None, :])


@triton.jit
@no_type_check
def _keys(score, block, n_blk, local, n_local, n_init):
    """One integer per block, in the order wanted; see `select_blocks`."""
    readable = (tl.abs(score) < float("inf")) & (block < n_blk)
    bits = tl.where(score == 0, 0.0, score).to(tl.int32, bitcast=True)  # -0 becomes +0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    forced = (block < n_init) | ((block > local - n_local) & (block <= local))
    ordered = tl.where(forced, FORCED, ordered)
    key = (ordered.to(tl.int64) << 32) | (block ^ TOP_ID).to(tl.int64)
    return tl.where(readable, key, UNREADABLE)


@triton.jit
@no_type_check
def _greatest(key, count, SLOTS: tl.constexpr):
    """The `count` greatest of unique keys, descending, then UNREADABLE."""
    slot = tl.arange(0, SLOTS)
    taken = tl.full((SLOTS,), UNREADABLE, tl.int64)
    for i in range(count):
        largest = tl.max(key)
        taken = tl.where(slot == i, largest, taken)
        key = tl.where(key == largest, UNREADABLE, key)
    return taken


@triton.jit(
    do_not_specialize=["m", "h_kv", "group_size", "n_blk", "n_selected", "n_local", "n_init"]
)
@no_type_check
def select_and_attend_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    scores_ptr,
    ids_ptr,
    part_out_ptr,
    part_lse_ptr,
    m,
    h_kv,
    group_size,
    n_blk,
    n_selected,
    n_local,
    n_init,
    scale,
    stride_kb,
    stride_km,
    stride_kh,
    stride_vb,
    stride_vm,
    stride_vh,
    BLOCK_SIZE: tl.constexpr,
    SLOTS: tl.constexpr,
    HEADS: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    PIECES: tl.constexpr,
    PER: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Attention to KEYS keys of the block in one slot; the last program writes the ids.

    A row of scores is searched in PIECES pieces of PER blocks: the best blocks lie in the pieces
    whose own best are greatest.
    """
    part, n_parts = tl.program_id(0), tl.num_programs(0)
    group, batch = group_and_batch(1)
    PARTS: tl.constexpr = BLOCK_SIZE // KEYS
    this_slot = part // PARTS
    head = tl.arange(0, HEADS)
    exists = head < group_size
    row = row_of(batch, 1, 0, h_kv, group, group_size, head)
    q = load_rows(q_ptr, row, D, exists, D)  # [HEADS, D]
    if OVERLAP:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()
    scores_ptr += (batch * h_kv + group) * n_blk
    count = tl.minimum(this_slot + 1, n_selected)
    block = tl.arange(0, PIECES)[:, None] * PER + tl.arange(0, PER)[None, :]
    score = tl.load(scores_ptr + block, mask=block < n_blk, other=float("-inf"))
    local = tl.max(tl.where(tl.abs(score) < float("inf"), block, -1))
    key = tl.max(_keys(score, block, n_blk, local, n_local, n_init), axis=1)  # [PIECES]
    taken = _greatest(key, count, SLOTS)
    if PER > 1:
        piece = ((taken & LOW_WORD).to(tl.int32) ^ TOP_ID) // PER
        block = piece[:, None] * PER + tl.arange(0, PER)[None, :]
        block = tl.where((taken > UNREADABLE)[:, None], block, n_blk)
        score = tl.load(scores_ptr + block, mask=block < n_blk, other=float("-inf"))
        key = _keys(score, block, n_blk, local, n_local, n_init)
        taken = _greatest(tl.reshape(key, (SLOTS * PER,)), count, SLOTS)
    slot = tl.arange(0, SLOTS)
    mine = tl.max(tl.where(slot == this_slot, taken, UNREADABLE))
    readable = mine > UNREADABLE
    block = (mine & LOW_WORD).to(tl.int32) ^ TOP_ID
    if part == n_parts - 1:
        valid = taken > UNREADABLE
        ids = tl.where(valid, (taken & LOW_WORD).to(tl.int32) ^ TOP_ID, TOP_ID)
        place = tl.sum((ids[None, :] < ids[:, None]).to(tl.int32), axis=1)
        n_valid = tl.sum(valid.to(tl.int32))
        ids_ptr += (batch * h_kv + group) * n_selected
        unused = (slot >= n_valid) & (slot < n_selected)
        tl.store(ids_ptr + place, ids, mask=valid)
        tl.store(ids_ptr + slot, tl.full((SLOTS,), -1, tl.int32), mask=unused)

    key_id = tl.where(readable, block, 0) * BLOCK_SIZE + (part % PARTS) * KEYS + tl.arange(0, KEYS)
    visible = readable & (key_id < m)
    k_ptr = head_start(k_ptr, batch, group, stride_kb, stride_kh)
    v_ptr = head_start(v_ptr, batch, group, stride_vb, stride_vh)
    k = load_rows(k_ptr, key_id.to(tl.int64), stride_km, visible, D)  # [KEYS, D]
    v = load_rows(v_ptr, key_id.to(tl.int64), stride_vm, visible, D)  # [KEYS, D]
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [HEADS, KEYS]
    s = tl.where(visible[None, :], s, float("-inf"))
    top = tl.max(s, axis=1)
    p = tl.exp2(s - tl.where(top == float("-inf"), 0.0, top)[:, None])
    total = tl.sum(p, axis=1)
    safe = tl.where(total > 0, total, 1.0)
    out = tl.dot(p.to(v.dtype), v, input_precision="ieee") / safe[:, None]  # [HEADS, D]
    place = row * n_parts + part
    tl.store(vectors(part_out_ptr, place, D, D), out, mask=exists[:, None])
    tl.store(part_lse_ptr + place, top + tl.log2(safe), mask=exists)


def fits(q: Tensor, k: Tensor, k_idx: Tensor, n_selected: int, block_size: int) -> bool:
    """Whether the kernels here take these sizes on this card."""
    (_, _, h_q, d), (_, m, h_kv, _), d_idx = q.shape, k.shape, k_idx.shape[-1]
    decoded = KEYS if k_idx.dtype == CODES else 0  # keys that stand beside those that come
    scored = 2 * d_idx * (MOST_GROUPS + decoded) + k_idx.element_size() * d_idx * STAGES * KEYS
    attended = 2 * d * (WIDEST_GROUP + 2 * min(block_size, KEYS))
    return (
        q.dtype in (torch.float16, torch.bfloat16)
        and card().arch >= 80
        and h_q // h_kv <= WIDEST_GROUP
        and h_kv <= MOST_GROUPS
        and n_selected <= MOST_SLOTS
        and triton.cdiv(m, block_size) <= MOST_BLOCKS
        and max(scored, attended) + SPARE_BYTES <= card().shared
    )


def launch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_idx: Tensor,
    k_idx: Tensor,
    n_selected: int,
    block_size: int,
    n_local: int,
    n_init: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The three launches; see `decode_step`."""
    (b, _, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
    n_blk, coded = triton.cdiv(m, block_size), k_idx.dtype == CODES
    overlap = OVERLAP and card().arch >= 90 and not INTERPRETING
    scores = q.new_empty((b, h_kv, n_blk), dtype=torch.float32)
    n_steps = triton.cdiv(m, KEYS)
    steps = triton.cdiv(n_steps, min(PROGRAMS, n_steps))
    decode_scores_kernel[(triton.cdiv(n_steps, steps), b)](
        q_idx, k_idx.view(torch.uint8) if coded else k_idx, scores,
        m, h_kv, n_blk, steps, k_idx.stride(0), k_idx.stride(1),
        BLOCK_SIZE=block_size, ROWS=MOST_GROUPS, KEYS=KEYS, D=k_idx.shape[-1],
        CODED=coded, NATIVE=card().arch >= FIRST_ARCH and not INTERPRETING,
        STAGES=STAGES, OVERLAP=overlap, num_warps=4,
    )  # fmt: skip
    keys = min(block_size, KEYS)
    n_parts = n_selected * (block_size // keys)
    ids = q.new_empty((b, 1, h_kv, n_selected), dtype=torch.int32)
    part_out = q.new_empty((b, h_q, n_parts, d), dtype=torch.float32)
    part_lse = q.new_empty((b, h_q, n_parts), dtype=torch.float32)
    per = triton.next_power_of_2(triton.cdiv(n_blk, limits.SEARCHED))
    select_and_attend_kernel[(n_parts, h_kv, b)](
        q, k, v, scores, ids, part_out, part_lse,
        m, h_kv, h_q // h_kv, n_blk, n_selected, n_local, n_init, scale * LOG2_E.value,
        *k.stride()[:3], *v.stride()[:3],
        BLOCK_SIZE=block_size, SLOTS=MOST_SLOTS, HEADS=WIDEST_GROUP, KEYS=keys, D=d,
        PIECES=max(triton.next_power_of_2(triton.cdiv(n_blk, per)), 16), PER=per, OVERLAP=overlap,
        num_warps=4, launch_pdl=overlap,
    )  # fmt: skip
    out, lse = torch.empty_like(q), q.new_empty((b, 1, h_q), dtype=torch.float32)
    merge_kernel[(b * h_q,)](
        part_out, part_lse, out, lse, n_parts, MERGED=MERGED, D=d, OVERLAP=overlap,
        num_warps=4, launch_pdl=overlap,
    )  # fmt: skip
    return out, lse, ids


@torch.library.custom_op("intuitive::decode_step", mutates_args=())
def decode_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_idx: Tensor,
    k_idx: Tensor,
    n_selected: int,
    block_size: int,
    n_local: int,
    n_init: int,
    scale: float,
    plan: str = "general",
) -> tuple[Tensor, Tensor, Tensor]:
    """Custom operator behind the public function: output, log-sum-exp, block ids."""
    k, v, k_idx = (x if x.stride(-1) == 1 else x.contiguous() for x in (k, v, k_idx))
    q, q_idx, coded = q.contiguous(), q_idx.contiguous(), k_idx.dtype == CODES
    rule = (n_selected, block_size, n_local, n_init)
    with torch.cuda.device_of(q):
        short = triton.cdiv(k.shape[1], block_size) <= HOPPER_BLOCKS
        wanted = coded or (plan == "hopper" and on_hopper(card().arch, q.dtype) and short)
        if wanted and fits(q, k, k_idx, n_selected, block_size):
            return launch(q, k, v, q_idx, k_idx, *rule, scale)
    if coded:  # sizes that no launch here takes: the same numbers, wider
        k_idx = k_idx.to(q_idx.dtype)
    ids = score_and_select(q_idx, k_idx, *rule)
    return *block_sparse_attention(q, k, v, ids, block_size, scale), ids


@decode_step.register_fake
def _(q, k, v, q_idx, k_idx, n_selected, block_size, n_local, n_init, scale, plan="general"):
    ids = q.new_empty((q.shape[0], 1, k.shape[2], n_selected), dtype=torch.int32)
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32), ids
