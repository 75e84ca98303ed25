"""Block scores and selection in one pass over the queries, without the full score array."""

from typing import SupportsIndex, no_type_check

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from .. import checks, dispatch, plans
from ..dispatch import Impl
from ..index_codes import CODES, index_codes, shared_blocks
from ..plans import Plan
from ..select_blocks import budget


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def score_and_select(
    q_idx: Float[Tensor, "b n h_kv d_idx"],
    k_idx: Float[Tensor, "b m d_idx"],
    *,
    n_selected: SupportsIndex,
    block_size: SupportsIndex,
    n_local: SupportsIndex = 1,
    n_init: SupportsIndex = 0,
    impl: Impl = "auto",
    plan: Plan | None = None,
    validate: bool | None = None,
) -> Int32[Tensor, "b n h_kv n_selected"]:
    """`select_blocks(block_scores(q_idx, k_idx))`, in bounded memory.

    All scores of a context of N tokens would take N^2 * h_kv / block_size floats. Queries are
    taken in chunks instead, so that at most 256 MiB of scores (or those of one query) exist at a
    time; chunk sizes follow from shapes alone, which suits CUDA graphs.

    Args:
        q_idx: one index query per GQA group, standing at the last n of the m positions.
        k_idx: one index key per token, shared by all groups. Both may be e4m3 codes, from
            `index_codes`; `code_recall` says what that loses.
        n_selected: slots per query and group.
        block_size: tokens per key block; the last block may be shorter.
        n_local: forced blocks that end with the query's own.
        n_init: forced blocks at the start of the sequence.
        impl: which implementation; see `dispatch.choose`.
        plan: "general" or "hopper", which of Triton's ways; see `plans.py`.
        validate: whether to look for NaN and infinities; None looks on CPU only.

    Returns:
        Block ids, ascending and left-packed, -1 in slots that no block fills.

    Raises:
        ValueError: as `block_scores` and `select_blocks`.
        RuntimeError: impl="triton" cannot run here.

    Source: arXiv:2606.13392v2, Eqs. 5-7.
    """
    size = checks.axes(q_idx=(q_idx, "b n h_kv d_idx"), k_idx=(k_idx, "b m d_idx"))
    n_selected, block_size, n_local, n_init = budget(n_selected, block_size, n_local, n_init)
    checks.causal(size["n"], size["m"])
    device = checks.same_device(q_idx=q_idx, k_idx=k_idx)
    checks.same_float_dtype(q_idx=q_idx, k_idx=k_idx)
    chosen, plan = dispatch.choose(impl, device), plans.named(plan, plans.PLANS[:2])
    codes = q_idx.dtype == CODES
    if checks.wants_values(validate, device):
        checks.finite(q_idx=q_idx.float(), k_idx=k_idx.float())
    rule = (n_selected, block_size, n_local, n_init)
    if chosen == "reference":
        from .reference import score_and_select as compute

        if codes:
            q_idx, k_idx = q_idx.float(), k_idx.float()
        return compute(q_idx, k_idx, *rule)
    dtype = torch.float16 if codes else q_idx.dtype
    checks.triton_limits(block_size=block_size, index_width=size["d_idx"], dtype=dtype)
    checks.triton_slots(n_selected)
    from .triton_kernel import score_and_select as compute

    return compute(q_idx, k_idx, *rule, plan)


@no_type_check
def code_recall(
    q_idx: Float[Tensor, "b n h_kv d_idx"],
    k_idx: Float[Tensor, "b m d_idx"],
    *,
    unit: float = 1.0,
    **rule: object,
) -> Float[Tensor, ""]:
    """Share of the blocks chosen by these index vectors that their e4m3 codes choose too.

    Args:
        q_idx: index queries, as for `score_and_select`.
        k_idx: index keys.
        unit: what the keys are divided by; see `index_codes`.
        rule: the other arguments of `score_and_select`.

    Returns:
        A number in [0, 1] on the device of the inputs; forced blocks count as chosen.
    """
    coded = score_and_select(index_codes(q_idx), index_codes(k_idx, unit=unit), **rule)
    return shared_blocks(coded, score_and_select(q_idx, k_idx, **rule))
