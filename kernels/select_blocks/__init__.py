"""The best key blocks per query and GQA group, forced ones among them."""

from typing import SupportsIndex, no_type_check

import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from .. import checks, dispatch
from ..dispatch import Impl


@no_type_check  # this is the type check
def budget(
    n_selected: SupportsIndex,
    block_size: SupportsIndex,
    n_local: SupportsIndex,
    n_init: SupportsIndex,
) -> tuple[int, int, int, int]:
    """The four counts as Python's integers.

    Raises:
        ValueError: one is no whole number or too small, or the forced blocks exceed the slots.
    """
    n_selected = checks.whole("n_selected", n_selected)
    block_size = checks.whole("block_size", block_size)
    n_local = checks.whole("n_local", n_local, low=0)
    n_init = checks.whole("n_init", n_init, low=0)
    if n_local + n_init > n_selected:
        raise ValueError(
            f"n_selected={n_selected} cannot hold n_local={n_local} and n_init={n_init}: forced "
            "blocks count among the selected ones. Raise n_selected or force fewer blocks."
        )
    return n_selected, block_size, n_local, n_init


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def select_blocks(
    scores: Float32[Tensor, "b n h_kv n_blk"],
    *,
    n_selected: SupportsIndex,
    block_size: SupportsIndex,
    n_local: SupportsIndex = 1,
    n_init: SupportsIndex = 0,
    impl: Impl = "auto",
    validate: bool | None = None,
) -> Int32[Tensor, "b n h_kv n_selected"]:
    """Ids of the n_selected best-scored blocks, in ascending order.

    Only blocks with a finite score can be selected. The local block is the last of them; forced
    blocks (the first n_init ids, the n_local ids up to the local block) count among the
    n_selected. Equal scores go to the lower id, and -0 equals +0.

    Args:
        scores: block maxima, -inf where a block cannot be read.
        n_selected: slots per query and group.
        block_size: tokens per key block, as given to `block_scores`. The choice reads the scores
            alone; the size is checked so that one set of arguments serves every operation.
        n_local: forced blocks that end with the local one.
        n_init: forced blocks at the start of the sequence.
        impl: which implementation; see `dispatch.choose`.
        validate: whether to refuse NaN and +inf; None looks on CPU only. Unchecked, such scores
            are never selected.

    Returns:
        Block ids, ascending, so that the local block is the last valid one; slots that no block
        fills hold -1 and come after the valid ones.

    Raises:
        ValueError: a count does not fit, the shape or dtype is wrong, or a score is NaN or +inf.
        RuntimeError: impl="triton" cannot run here.

    Source: arXiv:2606.13392v2, Eq. 7; the order of ties follows the official training kernel.
    """
    checks.axes(scores=(scores, "b n h_kv n_blk"))
    n_selected, _, n_local, n_init = budget(n_selected, block_size, n_local, n_init)
    if scores.dtype != torch.float32:
        raise ValueError(
            f"scores has dtype {scores.dtype}, but must be torch.float32, as block_scores "
            "returns. Convert with scores.float()."
        )
    chosen = dispatch.choose(impl, scores.device)
    if checks.wants_values(validate, scores.device):
        bad = int((torch.isnan(scores) | torch.isposinf(scores)).sum())
        if bad:
            raise ValueError(
                f"scores holds {bad} values that are NaN or +inf, of {scores.numel()}. Scores are "
                "finite, or -inf where a block cannot be read; find where the others arise, or "
                "pass validate=False to leave such blocks out."
            )
    if chosen == "reference":
        from .reference import select_blocks as compute
    else:
        checks.triton_slots(n_selected)
        from .triton_kernel import select_blocks as compute
    return compute(scores, n_selected, n_local, n_init)
