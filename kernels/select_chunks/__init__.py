"""The chunks above a threshold in any layer, and the newest ones, as a compact list."""

import math
from typing import SupportsIndex, no_type_check

import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from .. import checks, dispatch
from ..dispatch import Impl


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def select_chunks(
    logits: Float32[Tensor, "layers chunks"],
    *,
    threshold: float,
    forced_from: SupportsIndex | None = None,
    impl: Impl = "auto",
    validate: bool | None = None,
) -> tuple[Int32[Tensor, " chunks"], Int32[Tensor, ""]]:
    """Ids of the chunks whose probability exceeds the threshold in at least one layer.

    The result stays on the device of the logits, and nothing waits for it. It is the same on
    every run.

    Args:
        logits: float32, -inf where a chunk does not exist.
        threshold: a probability in (0, 1). Logits are compared with its logit, strictly: near 0
            the sigmoid rounds to 0.5 exactly.
        forced_from: chunks from this one on are selected whatever their logits; None forces none.
        impl: which implementation; see `dispatch.choose`.
        validate: whether to look for NaN; None looks on CPU only. Unchecked, NaN is no vote.

    Returns:
        (ids, count): as many slots as chunks, the `count` selected ids in ascending order, then
        -1; and how many there are, a tensor without axes.

    Raises:
        ValueError: the threshold or `forced_from` is out of range, the shape or dtype is wrong,
            or a logit is NaN.
        RuntimeError: impl="triton" cannot run here.

    Source: arXiv:2606.09079v2, sections 2.1 and 2.4.
    Differs: strictly above the threshold, as in the repository's code.
    """
    size = checks.axes(logits=(logits, "layers chunks"))
    if logits.dtype != torch.float32:
        raise ValueError(
            f"logits has dtype {logits.dtype}, but must be torch.float32, as score_chunks "
            "returns. Convert with logits.float()."
        )
    threshold = checks.number("threshold", threshold)
    if not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold} must lie between 0 and 1, both excluded.")
    chunks = size["chunks"]
    forced_from = chunks if forced_from is None else checks.whole("forced_from", forced_from, low=0)
    chosen = dispatch.choose(impl, logits.device)
    if checks.wants_values(validate, logits.device):
        bad = int(torch.isnan(logits).sum())
        if bad:
            raise ValueError(
                f"logits holds {bad} values that are NaN, of {logits.numel()}. Find where they "
                "arise, or pass validate=False to count them as no votes."
            )
    cut = math.log(threshold) - math.log1p(-threshold)
    if chosen == "reference":
        from .reference import select_chunks as compute
    else:
        from .triton_kernel import select_chunks as compute
    return compute(logits, cut, min(forced_from, chunks))
