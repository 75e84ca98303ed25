"""Index scores reduced to one number per key block."""

from typing import SupportsIndex, no_type_check

from jaxtyping import Float, Float32
from torch import Tensor

from .. import checks, dispatch
from ..dispatch import Impl


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def block_scores(
    q_idx: Float[Tensor, "b n h_kv d_idx"],
    k_idx: Float[Tensor, "b m d_idx"],
    *,
    block_size: SupportsIndex,
    impl: Impl = "auto",
    validate: bool | None = None,
) -> Float32[Tensor, "b n h_kv n_blk"]:
    """Largest index score of each key block, per query and GQA group.

    The score of query i and key j is the plain dot product of their index vectors, without the
    factor 1/sqrt(d_idx), which changes no order. The n queries stand at the last n of the m key
    positions; keys after a query are hidden from it *before* the maximum is taken.

    Args:
        q_idx: one index query per GQA group.
        k_idx: one index key per token, shared by all groups.
        block_size: tokens per key block; the last block may be shorter.
        impl: which implementation; see `dispatch.choose`.
        validate: whether to look for NaN and infinities; None looks on CPU only.

    Returns:
        float32 maxima, -inf where a block has no visible token. The reference is differentiable;
        the Triton kernel is not, since block selection passes no gradient.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, n > m, a value is not finite, or Triton
            does not serve these sizes.
        RuntimeError: impl="triton" cannot run here.

    Source: arXiv:2606.13392v2, Eqs. 5-6.
    """
    size = checks.axes(q_idx=(q_idx, "b n h_kv d_idx"), k_idx=(k_idx, "b m d_idx"))
    block_size = checks.whole("block_size", block_size)
    checks.causal(size["n"], size["m"])
    device = checks.same_device(q_idx=q_idx, k_idx=k_idx)
    checks.same_float_dtype(q_idx=q_idx, k_idx=k_idx)
    chosen = dispatch.choose(impl, device)
    if checks.wants_values(validate, device):
        checks.finite(q_idx=q_idx, k_idx=k_idx)
    if chosen == "reference":
        from .reference import block_scores as compute
    else:
        checks.triton_limits(block_size=block_size, index_width=size["d_idx"], dtype=q_idx.dtype)
        from .triton_kernel import block_scores as compute
    return compute(q_idx, k_idx, block_size)
