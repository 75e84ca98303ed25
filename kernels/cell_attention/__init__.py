"""One query's attention over chosen cells, its window and a sink; key and value are one vector."""

from typing import no_type_check

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from .. import checks, dispatch, limits
from ..dispatch import Impl
from .packing import CELL_BYTES, D, pack_cells, unpack_cells

__all__ = ["CELL_BYTES", "CELL_NUMBERS", "cell_attention", "pack_cells", "unpack_cells"]

CELL_NUMBERS = D  # of a packed cell


@no_type_check
def _check_cells(cells: Tensor, q: Tensor, d: int) -> None:
    """Raise ValueError unless cells are [n_cells, d] as the queries, or packed."""
    if cells.dtype == torch.uint8:
        if cells.ndim != 2 or cells.shape[1] != CELL_BYTES or d != D or not len(cells):
            raise ValueError(
                f"cells has dtype torch.uint8 and shape {tuple(cells.shape)} for queries of d={d}, "
                f"but packed cells have shape [n_cells, {CELL_BYTES}] and hold d={D} numbers. "
                "Pack with pack_cells."
            )
    else:
        checks.axes(q=(q, "b h d"), cells=(cells, "n_cells d"))
        checks.same_float_dtype(q=q, cells=cells)


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def cell_attention(
    q: Float[Tensor, "b h d"],
    cells: Tensor,
    slots: Int32[Tensor, "b k"],
    window: Float[Tensor, "b w d"] | None = None,
    sinks: Float[Tensor, " h"] | None = None,
    scale: float | None = None,
    *,
    impl: Impl = "auto",
    validate: bool | None = None,
) -> Float[Tensor, "b h d"]:
    """Softmax attention of one query per batch entry over its cells, its window and a sink.

    All heads share the cells, and a cell is key and value at once. The sink is a logit of its own
    in each head's denominator, which takes weight and gives nothing. A query with nothing to read
    gets 0.

    Args:
        q: queries, positions already applied.
        cells: the pool that all batch entries share: [n_cells, d] in the dtype of `q`, or packed,
            uint8 [n_cells, 584], as `pack_cells` makes them for d = 512.
        slots: int32, which cells each entry reads; -1 marks an empty slot. A cell listed twice is
            read twice.
        window: recent vectors in the dtype of `q`; None for no window.
        sinks: logits of the sinks, not scaled, any floating dtype; None for no sink.
        scale: factor on the dot products; None means 1/sqrt(d).
        impl: which implementation; see `dispatch.choose`. "auto" takes the oracle for sizes that
            Triton does not serve.
        validate: whether to look for NaN, infinities and cells that do not exist; None looks on
            CPU only. Unchecked, cells that do not exist are skipped.

    Returns:
        The output in q's dtype. The oracle is differentiable, Triton is not.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, a value is not finite, a slot names no
            cell, or Triton was asked for and does not serve these sizes.
        RuntimeError: impl="triton" cannot run here.

    Source: arXiv:2606.09079v2, section 2; the attention is DeepSeek-V4's, with shared key and
        value. Undoing the rotation of the output is left to the caller.
    """
    named = {"q": (q, "b h d"), "slots": (slots, "b k")}
    if window is not None:
        named["window"] = (window, "b w d")
    if sinks is not None:
        named["sinks"] = (sinks, "h")
    size = checks.axes(**named)
    checks.tensors(cells=cells)
    if slots.dtype != torch.int32:
        raise ValueError(
            f"slots has dtype {slots.dtype}, but must be torch.int32. Convert with slots.int()."
        )
    _check_cells(cells, q, size["d"])
    floats = {"q": q} | ({} if window is None else {"window": window})
    checks.same_float_dtype(**floats)
    if sinks is not None:
        checks.same_float_dtype(sinks=sinks)
        floats["sinks"] = sinks
    device = checks.same_device(**floats, cells=cells, slots=slots)
    unserved = limits.unserved_cells(d=size["d"], dtype=q.dtype)
    chosen = dispatch.choose_served(impl, device, unserved)
    if checks.wants_values(validate, device):
        checks.finite(**floats)
        low, high = int(slots.min()), int(slots.max())
        if low < -1 or high >= len(cells):
            raise ValueError(
                f"slots holds {low if low < -1 else high}, but there are the cells 0 to "
                f"{len(cells) - 1}, and -1 marks an empty slot."
            )
    scale = size["d"] ** -0.5 if scale is None else checks.number("scale", scale)
    if chosen == "reference":
        from .reference import cell_attention as compute
    else:
        from .triton_kernel import cell_attention as compute
    return compute(q, cells, slots, window, sinks, scale)
