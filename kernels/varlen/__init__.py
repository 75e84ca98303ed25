"""Selection and attention of many sequences of unequal lengths, as servers have them.

Queries stand one after another, [t_q, ...], sequence s from cu_seqlens_q[s] to cu_seqlens_q[s+1];
without `cu_seqlens_q` each sequence has one, which is a decode step. Keys lie in one of three ways:

    packed  [t_k, ...]           with cu_seqlens_k [b + 1], as the queries
    cache   [b, m, ...]          with seq_lens [b], of which sequence s has the first seq_lens[s]
    pages   [pages, page, ...]   with seq_lens [b] and block_table [b, pages of one sequence], whose
                                 row s lists the pages of sequence s in order

A sequence's queries stand at the last of its keys. Lengths and tables are int32 on the device of
the keys and are read there: launches depend on shapes and `max_seqlen_k` alone, so that a captured
graph serves other lengths. What lies behind a sequence's end is never read.
"""

from typing import SupportsIndex, no_type_check

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from .. import checks, dispatch, plans
from ..block_sparse_attention import check_blocks
from ..dispatch import Impl
from ..index_codes import CODES
from ..plans import Plan
from ..select_blocks import budget
from .layout import axes_of_keys, layout_of, with_pages


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def select_varlen(
    q_idx: Float[Tensor, "t_q h_kv d_idx"],
    k_idx: Float[Tensor, "t_k d_idx"] | Float[Tensor, "pages rows d_idx"],
    *,
    cu_seqlens_q: Int32[Tensor, " starts"] | None = None,
    cu_seqlens_k: Int32[Tensor, " starts"] | None = None,
    seq_lens: Int32[Tensor, " b"] | None = None,
    block_table: Int32[Tensor, "b n_pages"] | None = None,
    max_seqlen_k: SupportsIndex | None = None,
    n_selected: SupportsIndex,
    block_size: SupportsIndex,
    n_local: SupportsIndex = 1,
    n_init: SupportsIndex = 0,
    impl: Impl = "auto",
    plan: Plan | None = None,
    validate: bool | None = None,
) -> Int32[Tensor, "t_q h_kv n_selected"]:
    """`score_and_select` of every sequence.

    Args:
        q_idx: one index query per GQA group.
        k_idx: one index key per token, shared by all groups.
        cu_seqlens_q, cu_seqlens_k, seq_lens, block_table: the batch; see above. A page holds a
            multiple of block_size keys.
        max_seqlen_k: keys of the longest sequence, which bounds the memory for scores; None takes
            what the keys or the table can hold.
        n_selected, block_size, n_local, n_init: as for `score_and_select`; blocks are counted
            from the start of each sequence.
        impl: which implementation; see `dispatch.choose`.
        plan: "general" or "hopper", which reads keys by TMA; see `plans.py`.
        validate: whether to look at values: finite queries and packed keys, lengths and pages that
            exist; None looks on CPU only. Unchecked, they must be right.

    Returns:
        Block ids within the query's own sequence, ascending and left-packed, then -1. A sequence
        without keys has none.

    Raises:
        ValueError: as `score_and_select`, or the batch does not fit the tensors.
        RuntimeError: impl="triton" cannot run here.
    """
    rows = axes_of_keys(cu_seqlens_k, block_table)
    size = checks.axes(q_idx=(q_idx, "t_q h_kv d_idx"), k_idx=(k_idx, f"{rows} d_idx"))
    n_selected, block_size, n_local, n_init = budget(n_selected, block_size, n_local, n_init)
    device = checks.same_device(q_idx=q_idx, k_idx=k_idx)
    checks.same_float_dtype(q_idx=q_idx, k_idx=k_idx)
    if q_idx.dtype == CODES:
        raise ValueError(
            f"q_idx has dtype {CODES}, but batches of sequences take no codes. Pass the index "
            "vectors themselves, or score_and_select for one sequence."
        )
    chosen, plan = dispatch.choose(impl, device), plans.named(plan, plans.PLANS[:2])
    look = checks.wants_values(validate, device)
    layout = layout_of(
        q_idx, k_idx, cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, seq_lens=seq_lens,
        block_table=block_table, max_seqlen_k=max_seqlen_k, block_size=block_size, look=look,
    )  # fmt: skip
    if look:
        checks.finite(q_idx=q_idx, **({"k_idx": k_idx} if layout.packed else {}))
    k_idx = with_pages(k_idx, layout.packed)
    rule = (n_selected, block_size, n_local, n_init)
    if chosen == "reference":
        from .reference import select_varlen as compute

        return compute(q_idx, k_idx, layout, *rule)
    checks.triton_limits(block_size=block_size, index_width=size["d_idx"], dtype=q_idx.dtype)
    checks.triton_slots(n_selected)
    from .triton_kernel import select_varlen as compute

    return compute(q_idx, k_idx, *layout, *rule, plan)


@no_type_check
def attend_varlen(
    q: Float[Tensor, "t_q h_q d"],
    k: Float[Tensor, "t_k h_kv d"] | Float[Tensor, "pages rows h_kv d"],
    v: Float[Tensor, "t_k h_kv d"] | Float[Tensor, "pages rows h_kv d"],
    block_idx: Int[Tensor, "t_q h_kv n_sel"],
    *,
    cu_seqlens_q: Int32[Tensor, " starts"] | None = None,
    cu_seqlens_k: Int32[Tensor, " starts"] | None = None,
    seq_lens: Int32[Tensor, " b"] | None = None,
    block_table: Int32[Tensor, "b n_pages"] | None = None,
    max_seqlen_k: SupportsIndex | None = None,
    block_size: SupportsIndex,
    scale: float | None = None,
    return_lse: bool = False,
    impl: Impl = "auto",
    plan: Plan | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "t_q h_q d"] | tuple[Float[Tensor, "t_q h_q d"], Float[Tensor, "t_q h_q"]]:
    """`block_sparse_attention` of every sequence.

    Args:
        q: queries.
        k, v: keys and values of every token; any strides, as long as the head axis d is contiguous.
        block_idx: block ids from `select_varlen`; rows are sets, -1 marks an empty slot.
        cu_seqlens_q, cu_seqlens_k, seq_lens, block_table, max_seqlen_k: as for `select_varlen`.
        block_size: tokens per key block.
        scale: factor on the dot products; None means 1/sqrt(d).
        return_lse: also return the log-sum-exp of the scaled scores.
        impl: which implementation; see `dispatch.choose`.
        plan: "general" or "hopper"; see `plans.py`.
        validate: as for `select_varlen`, and ids of no block.

    Returns:
        The output in q's dtype, and if asked the natural log-sum-exp in float32 (float64 for
        float64 inputs). A query with nothing to read gets 0 and -inf.

    Raises:
        ValueError: as `block_sparse_attention`, or the batch does not fit the tensors, or Triton is
            to give gradients, which it does not.
        RuntimeError: impl="triton" cannot run here.
    """
    rows = axes_of_keys(cu_seqlens_k, block_table)
    size = checks.axes(
        q=(q, "t_q h_q d"),
        k=(k, f"{rows} h_kv d"),
        v=(v, f"{rows} h_kv d"),
        block_idx=(block_idx, "t_q h_kv n_sel"),
    )
    block_size = checks.whole("block_size", block_size)
    checks.whole_groups(size["h_q"], size["h_kv"])
    device = checks.same_device(q=q, k=k, v=v, block_idx=block_idx)
    checks.same_float_dtype(q=q, k=k, v=v)
    checks.id_dtype(block_idx)
    chosen, plan = dispatch.choose(impl, device), plans.named(plan, plans.PLANS[:2])
    look = checks.wants_values(validate, device)
    layout = layout_of(
        q, k, cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, seq_lens=seq_lens,
        block_table=block_table, max_seqlen_k=max_seqlen_k, block_size=block_size, look=look,
    )  # fmt: skip
    if look:
        checks.finite(q=q, **({"k": k, "v": v} if layout.packed else {}))
        check_blocks(block_idx, layout.longest, block_size)
    k, v = with_pages(k, layout.packed), with_pages(v, layout.packed)
    scale = size["d"] ** -0.5 if scale is None else checks.number("scale", scale)
    if chosen == "reference":
        from .reference import attend_varlen as compute

        out, lse = compute(q, k, v, block_idx, layout, block_size, scale)
    else:
        checks.triton_limits(block_size=block_size, head_size=size["d"], dtype=q.dtype)
        checks.triton_group(size["h_q"] // size["h_kv"])
        checks.triton_slots(size["n_sel"])
        if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            raise ValueError(
                "gradients are wanted, but attend_varlen has none with impl='triton'. Call it "
                "under torch.no_grad(), block_sparse_attention for each sequence, or pass "
                "impl='reference'."
            )
        from .triton_kernel import attend_varlen as compute

        out, lse = compute(q, k, v, block_idx, *layout, block_size, scale, plan)
    return (out, lse) if return_lse else out
