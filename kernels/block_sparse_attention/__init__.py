"""Exact attention over the key blocks each query and GQA group selected."""

from typing import SupportsIndex, no_type_check

from jaxtyping import Float, Int
from torch import Tensor

from .. import checks, dispatch, plans
from ..dispatch import Impl
from ..plans import Plan


def check_blocks(block_idx: Tensor, m: int, block_size: int) -> None:
    """Raise ValueError if a slot holds neither -1 nor the id of a block of the m keys."""
    n_blk = -(-m // block_size)
    low, high = int(block_idx.min()), int(block_idx.max())
    if low < -1 or high >= n_blk:
        raise ValueError(
            f"block_idx holds {low if low < -1 else high}, but m={m} keys in blocks of "
            f"block_size={block_size} have ids 0 to {n_blk - 1}, and -1 marks an empty slot. "
            "Select with the same block_size and keys."
        )


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def block_sparse_attention(
    q: Float[Tensor, "b n h_q d"],
    k: Float[Tensor, "b m h_kv d"],
    v: Float[Tensor, "b m h_kv d"],
    block_idx: Int[Tensor, "b n h_kv n_sel"],
    *,
    block_size: SupportsIndex,
    scale: float | None = None,
    return_lse: bool = False,
    impl: Impl = "auto",
    plan: Plan | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "b n h_q d"] | tuple[Float[Tensor, "b n h_q d"], Float[Tensor, "b n h_q"]]:
    """Softmax attention over the causally visible tokens of the selected blocks.

    Query heads r*G to r*G + G-1 share key head r and its selection, with G = h_q / h_kv. The n
    queries stand at the last n of the m key positions. A row of `block_idx` is a set: order does
    not matter, a block listed twice is read once, and -1 is skipped. Blocks wholly in a query's
    future add nothing, and a query with nothing to read gets output 0 and log-sum-exp -inf.

    Differentiable in q, k and v, through the output and the log-sum-exp alike.

    Args:
        q: queries.
        k: keys of every token; any strides, as long as the head axis d is contiguous.
        v: values, likewise.
        block_idx: block ids from `select_blocks`, int32 or int64; -1 marks an empty slot.
        block_size: tokens per key block; the last block may be shorter.
        scale: factor on the dot products; None means 1/sqrt(d).
        return_lse: also return the log-sum-exp of the scaled scores.
        impl: which implementation; see `dispatch.choose`.
        plan: which of Triton's ways; see `plans.py`. One query has one way.
        validate: whether to look for NaN, infinities and ids of no block; None looks on CPU
            only. Unchecked, ids of no block are skipped.

    Returns:
        The output in q's dtype, and if asked the natural log-sum-exp in float32 (float64 for
        float64 inputs), with which partial outputs over disjoint tokens can be merged.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, h_q is no multiple of h_kv, n > m, a
            value is not finite, an id names no block, or Triton does not serve these sizes.
        RuntimeError: impl="triton" cannot run here.

    Source: arXiv:2606.13392v2, Eq. 8.
    """
    size = checks.axes(
        q=(q, "b n h_q d"),
        k=(k, "b m h_kv d"),
        v=(v, "b m h_kv d"),
        block_idx=(block_idx, "b n h_kv n_sel"),
    )
    block_size = checks.whole("block_size", block_size)
    checks.causal(size["n"], size["m"])
    checks.whole_groups(size["h_q"], size["h_kv"])
    device = checks.same_device(q=q, k=k, v=v, block_idx=block_idx)
    checks.same_float_dtype(q=q, k=k, v=v)
    checks.id_dtype(block_idx)
    chosen, plan = dispatch.choose(impl, device), plans.named(plan)
    if checks.wants_values(validate, device):
        checks.finite(q=q, k=k, v=v)
        check_blocks(block_idx, size["m"], block_size)
    scale = size["d"] ** -0.5 if scale is None else checks.number("scale", scale)
    if chosen == "reference":
        from .reference import block_sparse_attention as compute

        out, lse = compute(q, k, v, block_idx, block_size, scale)
    else:
        checks.triton_limits(block_size=block_size, head_size=size["d"], dtype=q.dtype)
        checks.triton_group(size["h_q"] // size["h_kv"])
        checks.triton_slots(size["n_sel"])
        from .triton_kernel import block_sparse_attention as compute

        out, lse = compute(q, k, v, block_idx, block_size, scale, plan)
    return (out, lse) if return_lse else out
