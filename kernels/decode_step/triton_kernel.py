"""One query in three launches: scores, attention that finds its own blocks, merge.

Each program of the attention serves one slot of one group. It searches the scores of the group for
the block of its slot: that costs less than one more launch, see `search.py`.
"""

from dataclasses import dataclass, replace
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import cuda

from .. import limits
from ..addressing import group_and_batch, load_rows, row_of
from ..block_sparse_attention.triton_decode import merged, new_parts, write_part
from ..block_sparse_attention.triton_forward import LOG2_E
from ..block_sparse_attention.triton_kernel import block_sparse_attention
from ..fp8 import FIRST_ARCH, decode_fp8, power_of_two
from ..index_codes import CODES
from ..plans import HOPPER_BLOCKS, WIDEST_GROUP, on_hopper
from ..score_and_select.triton_kernel import score_and_select
from ..select_blocks.triton_kernel import UNREADABLE, block_of, write_ids
from ..shared_memory import INTERPRETING, SPARE_BYTES, card
from .search import PART, best_blocks, best_of_stretches

PROGRAMS = 396  # of the scores: 3 for each of the 132 multiprocessors of an H100
STAGES = 3  # tiles of index keys in memory at a time
KEYS = 128  # index keys of one product
MOST_GROUPS = 16  # rows of one product of scores
MOST_SLOTS = 16
MOST_COUNTED = 16  # scores of a piece, where a search counts
LIFTED = tl.constexpr(256.0)  # a query's greatest number beside codes: float16 has room below


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the launches are made; results differ by rounding at most."""

    overlap: int = 0  # on Hopper cards: 1 launches each kernel as soon as the one before has begun,
    # 2 once that one has its own inputs, and the scores are nearly written; it then waits
    chained: bool = False  # whether the first one is launched like that, too
    ranked: bool = False  # whether a search counts, or takes one greatest after the other
    stretches: bool = False  # whether a search begins with the best of each program's scores
    keys: int = 128  # that one program attends to at most
    num_warps: int = 4  # of a program that attends


WAYS = (  # by the most blocks of a row
    (2048, Way(overlap=2, ranked=True)),
    (HOPPER_BLOCKS, Way(overlap=2, ranked=True, stretches=True)),
)
CHANGED: dict = {}  # fields of these ways that are to be tried otherwise


def way_of(n_blk: int) -> Way:
    """The way for a row of so many blocks."""
    return replace(next(way for most, way in WAYS if n_blk <= most), **CHANGED)


@triton.jit(do_not_specialize=["m", "h_kv", "n_blk", "steps"])
@no_type_check
def decode_scores_kernel(
    q_ptr,
    k_ptr,
    scores_ptr,
    best_ptr,
    last_ptr,
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
    STRETCHES: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Write scores[b, group, block] of the last position, `steps` steps of KEYS keys each.

    CODED: keys come as bytes, and scores as multiples of a positive number per row. STRETCHES: also
    write this program's best finite score and the last block that has one. OVERLAP: the next launch
    may begin, up to where it waits for this one.
    """
    if OVERLAP == 1:
        cuda.gdc_launch_dependents()
    if OVERLAP > 0:
        cuda.gdc_wait()
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
    top = tl.full((ROWS, BLOCKS), float("-inf"), tl.float32)
    last = tl.full((ROWS, BLOCKS), -1, tl.int32)
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
        if STRETCHES:
            finite = tl.abs(best) < float("inf")
            top = tl.maximum(top, tl.where(finite, best, float("-inf")))
            last = tl.where(finite, block[None, :], last)
    if OVERLAP == 2:
        cuda.gdc_launch_dependents()
    if STRETCHES:
        place = (batch * h_kv + row) * tl.num_programs(0) + tl.program_id(0)
        tl.store(best_ptr + place, tl.max(top, axis=1), mask=real)
        tl.store(last_ptr + place, tl.max(last, axis=1), mask=real)


@triton.jit(
    do_not_specialize=[
        "m",
        "h_kv",
        "group_size",
        "n_blk",
        "n_stretches",
        "span",
        "n_selected",
        "n_local",
        "n_init",
    ]
)
@no_type_check
def select_and_attend_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    scores_ptr,
    best_ptr,
    last_ptr,
    ids_ptr,
    part_out_ptr,
    part_lse_ptr,
    m,
    h_kv,
    group_size,
    n_blk,
    n_stretches,
    span,
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
    SPAN: tl.constexpr,
    RANKED: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Attention to KEYS keys of the block in one slot; the last program writes the ids.

    SPAN: of stretches of scores, whose best are looked at first; 0 for none.
    """
    group, batch = group_and_batch(1)
    this_slot = tl.program_id(0) // (BLOCK_SIZE // KEYS)
    head = tl.arange(0, HEADS)
    exists = head < group_size
    row = row_of(batch, 1, 0, h_kv, group, group_size, head)
    q = load_rows(q_ptr, row, D, exists, D)  # [HEADS, D]
    if OVERLAP == 1:
        cuda.gdc_launch_dependents()
    if OVERLAP > 0:
        cuda.gdc_wait()
    if OVERLAP == 2:
        cuda.gdc_launch_dependents()
    line = batch * h_kv + group
    scores_ptr += line * n_blk
    count = tl.minimum(this_slot + 1, n_selected)
    if SPAN > 0:
        taken = best_of_stretches(
            scores_ptr, best_ptr + line * n_stretches, last_ptr + line * n_stretches,
            n_blk, n_stretches, span, n_local, n_init, count, PIECES, PER, SPAN, SLOTS, RANKED,
        )  # fmt: skip
    else:
        taken = best_blocks(
            scores_ptr, n_blk, None, n_local, n_init, count, PIECES, PER, SLOTS, RANKED
        )
    slot = tl.arange(0, SLOTS)
    mine = tl.max(tl.where(slot == this_slot, taken, UNREADABLE))
    if tl.program_id(0) == tl.num_programs(0) - 1:
        valid = (taken > UNREADABLE) & (slot < n_selected)
        write_ids(ids_ptr + line * n_selected, taken, valid, n_selected, SLOTS)
    write_part(
        q, k_ptr, v_ptr, part_out_ptr, part_lse_ptr, batch, group, row, exists,
        block_of(mine), mine > UNREADABLE, m, scale,
        stride_kb, stride_km, stride_kh, stride_vb, stride_vm, stride_vh, BLOCK_SIZE, KEYS, D,
    )  # fmt: skip


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
        and triton.cdiv(m, block_size) <= HOPPER_BLOCKS
        and max(scored, attended) + SPARE_BYTES <= card().shared
    )


def cut(n: int, ranked: bool) -> tuple[int, int]:
    """How many pieces of how many scores a row of n is searched in."""
    most = limits.COUNTED if ranked else limits.SEARCHED
    if ranked and n <= 2 * most:
        most //= 2
    per = triton.next_power_of_2(triton.cdiv(n, most))
    return max(triton.next_power_of_2(triton.cdiv(n, per)), 16), per


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
    way = way_of(n_blk)
    overlap = way.overlap if card().arch >= 90 and not INTERPRETING else 0
    scores = q.new_empty((b, h_kv, n_blk), dtype=torch.float32)
    n_steps = triton.cdiv(m, KEYS)
    steps = triton.cdiv(n_steps, min(PROGRAMS, n_steps))
    programs, span = triton.cdiv(n_steps, steps), steps * (KEYS // block_size)
    best, last = scores, scores  # not looked at
    if way.stretches:
        best = scores.new_empty((b, h_kv, programs))
        last = torch.empty_like(best, dtype=torch.int32)
    decode_scores_kernel[(programs, b)](
        q_idx, k_idx.view(torch.uint8) if coded else k_idx, scores, best, last,
        m, h_kv, n_blk, steps, k_idx.stride(0), k_idx.stride(1),
        BLOCK_SIZE=block_size, ROWS=MOST_GROUPS, KEYS=KEYS, D=k_idx.shape[-1],
        CODED=coded, NATIVE=card().arch >= FIRST_ARCH and not INTERPRETING,
        STAGES=STAGES, STRETCHES=way.stretches, OVERLAP=overlap,
        num_warps=4, launch_pdl=overlap > 0 and way.chained,
    )  # fmt: skip
    keys = min(block_size, way.keys)
    n_parts = n_selected * (block_size // keys)
    ids = q.new_empty((b, 1, h_kv, n_selected), dtype=torch.int32)
    part_out, part_lse = new_parts(q, n_parts)
    pieces, per = cut(programs if way.stretches else n_blk, way.ranked)
    select_and_attend_kernel[(n_parts, h_kv, b)](
        q, k, v, scores, best, last, ids, part_out, part_lse,
        m, h_kv, h_q // h_kv, n_blk, programs, span, n_selected, n_local, n_init,
        scale * LOG2_E.value, *k.stride()[:3], *v.stride()[:3],
        BLOCK_SIZE=block_size, SLOTS=MOST_SLOTS, HEADS=WIDEST_GROUP, KEYS=keys, D=d,
        PIECES=pieces, PER=per,
        SPAN=max(triton.next_power_of_2(span), PART.value) if way.stretches else 0,
        RANKED=way.ranked and per <= MOST_COUNTED, OVERLAP=overlap,
        num_warps=way.num_warps, launch_pdl=overlap > 0,
    )  # fmt: skip
    return *merged(q, part_out, part_lse, overlap=overlap), ids


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
        wanted = coded or (plan == "hopper" and on_hopper(card().arch, q.dtype))
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
