"""One query's whole step: score every block, select, attend."""

from typing import NamedTuple, SupportsIndex, no_type_check

from jaxtyping import Float, Int32
from torch import Tensor

from .. import checks, dispatch, plans
from ..dispatch import Impl
from ..index_codes import CODES
from ..plans import Plan
from ..select_blocks import budget


class Step(NamedTuple):
    """What one query makes: its output, log-sum-exp, and the blocks that it read."""

    out: Float[Tensor, "b 1 h_q d"]
    lse: Float[Tensor, "b 1 h_q"]
    block_idx: Int32[Tensor, "b 1 h_kv n_selected"]


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def decode_step(
    q: Float[Tensor, "b 1 h_q d"],
    k: Float[Tensor, "b m h_kv d"],
    v: Float[Tensor, "b m h_kv d"],
    q_idx: Float[Tensor, "b 1 h_kv d_idx"],
    k_idx: Float[Tensor, "b m d_idx"],
    *,
    n_selected: SupportsIndex,
    block_size: SupportsIndex,
    n_local: SupportsIndex = 1,
    n_init: SupportsIndex = 0,
    scale: float | None = None,
    impl: Impl = "auto",
    plan: Plan | None = None,
    validate: bool | None = None,
) -> Step:
    """`score_and_select`, then `block_sparse_attention`, for the query at the last position.

    Args:
        q, k, v: as for `block_sparse_attention`, with one query.
        q_idx: one index query per GQA group, in a floating dtype.
        k_idx: one index key per token, in the dtype of `q_idx` or as e4m3 codes (`index_codes`
            with one unit for all of them). The query is not rounded.
        n_selected, block_size, n_local, n_init: as for `score_and_select`.
        scale: factor on the dot products; None means 1/sqrt(d).
        impl: which implementation; see `dispatch.choose`.
        plan: "general" or "hopper", which selects inside the attention, one launch less; see
            `plans.py`. Codes go that way on any card that it fits.
        validate: whether to look for NaN and infinities; None looks on CPU only.

    Returns:
        The output in q's dtype, its log-sum-exp, and the blocks that were read.

    Raises:
        ValueError: as `score_and_select` and `block_sparse_attention`, or several queries.
        RuntimeError: impl="triton" cannot run here.
    """
    size = checks.axes(
        q=(q, "b n h_q d"),
        k=(k, "b m h_kv d"),
        v=(v, "b m h_kv d"),
        q_idx=(q_idx, "b n h_kv d_idx"),
        k_idx=(k_idx, "b m d_idx"),
    )
    if size["n"] != 1:
        raise ValueError(
            f"q has n={size['n']} queries, but decode_step takes one. Use score_and_select and "
            "block_sparse_attention for several."
        )
    checks.whole_groups(size["h_q"], size["h_kv"])
    n_selected, block_size, n_local, n_init = budget(n_selected, block_size, n_local, n_init)
    device = checks.same_device(q=q, k=k, v=v, q_idx=q_idx, k_idx=k_idx)
    checks.same_float_dtype(q=q, k=k, v=v, q_idx=q_idx)
    if k_idx.dtype != CODES:
        checks.same_float_dtype(q_idx=q_idx, k_idx=k_idx)
    chosen, plan = dispatch.choose(impl, device), plans.named(plan, plans.PLANS[:2])
    if checks.wants_values(validate, device):
        checks.finite(q=q, k=k, v=v, q_idx=q_idx, k_idx=k_idx.float())
    scale = size["d"] ** -0.5 if scale is None else checks.number("scale", scale)
    rule = (n_selected, block_size, n_local, n_init)
    if chosen == "reference":
        from .reference import decode_step as compute

        return Step(*compute(q, k, v, q_idx, k_idx, *rule, scale))
    checks.triton_limits(
        block_size=block_size, head_size=size["d"], index_width=size["d_idx"], dtype=q.dtype
    )
    checks.triton_group(size["h_q"] // size["h_kv"])
    checks.triton_slots(n_selected)
    from .triton_kernel import decode_step as compute

    return Step(*compute(q, k, v, q_idx, k_idx, *rule, scale, plan))
