"""Rows of one array into chosen places of another, on the device or onto it."""

from typing import no_type_check

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from .. import checks, dispatch
from ..dispatch import Impl


def _check_places(name: str, places: Tensor, n: int, of: str) -> None:
    """Raise ValueError if a place holds neither -1 nor one of n."""
    low, high = int(places.min()), int(places.max())
    if low < -1 or high >= n:
        raise ValueError(
            f"{name} holds {low if low < -1 else high}, but {of} has the places 0 to {n - 1}, and "
            "-1 skips an entry."
        )


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def copy_cells(
    source: Shaped[Tensor, "n width"],
    target: Shaped[Tensor, "cells width"],
    rows: Int[Tensor, " m"],
    cells: Int[Tensor, " m"],
    *,
    impl: Impl = "auto",
    validate: bool | None = None,
) -> None:
    """target[cells[i]] = source[rows[i]] for every i, in one launch.

    Args:
        source: contiguous rows: on the device of `target`, or in the host's memory. Triton reads
            the host's memory over the bus and needs it pinned; from memory that is not, "auto"
            takes the oracle, which gathers on the host.
        target: contiguous rows of the same dtype; changed in place.
        rows: int64, which rows of `source`; -1 skips an entry.
        cells: int64, where they go, each place once; -1 skips an entry.
        impl: which implementation; see `dispatch.choose`.
        validate: whether to look for places that do not exist or occur twice; None looks on CPU
            only. Unlooked-at, Triton skips places that do not exist.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, an array is not contiguous, a place does
            not exist or is written twice, or Triton was asked for and cannot read the source.
        RuntimeError: impl="triton" cannot run here.
    """
    checks.tensors(source=source, target=target, rows=rows, cells=cells)
    if rows.ndim == cells.ndim == 1 and not len(rows) and not len(cells):
        return
    size = checks.axes(
        source=(source, "n width"),
        target=(target, "cells width"),
        rows=(rows, "m"),
        cells=(cells, "m"),
    )
    if source.dtype != target.dtype:
        raise ValueError(
            f"source has dtype {source.dtype}, but target has {target.dtype}: bytes are copied, "
            "not converted."
        )
    for name, tensor in (("rows", rows), ("cells", cells)):
        if tensor.dtype != torch.int64:
            raise ValueError(
                f"{name} has dtype {tensor.dtype}, but must be torch.int64. Convert with "
                f"{name}.long()."
            )
    for name, tensor in (("source", source), ("target", target)):
        if not tensor.is_contiguous():
            raise ValueError(
                f"{name} has strides {tensor.stride()}, but its rows must follow each other. Pass "
                "the whole array, or rows of it."
            )
    frozen = not torch.compiler.is_compiling() and (
        target.is_inference() and not torch.is_inference_mode_enabled()
    )
    if target.requires_grad or frozen:
        raise ValueError(
            "target carries a gradient or was made in inference mode, so that nothing can be "
            "written into it. Pass target.detach(), or a clone."
        )
    device = checks.same_device(target=target, rows=rows, cells=cells)
    if source.device != device and source.device.type != "cpu":
        raise ValueError(
            f"source is on {str(source.device)!r}, but target is on {str(device)!r}: the source "
            "lies there too, or on the host."
        )
    unserved = None
    if device.type == "cuda" and source.device.type == "cpu" and not source.is_pinned():
        unserved = "source lies in the host's memory and is not pinned: use source.pin_memory()."
    chosen = dispatch.choose_served(impl, device, unserved)
    if checks.wants_values(validate, device):
        _check_places("rows", rows, size["n"], "source")
        _check_places("cells", cells, size["cells"], "target")
        written = cells[(cells >= 0) & (rows >= 0)]
        if len(written.unique()) < len(written):
            raise ValueError("cells names a place twice: which row would stay there is left open.")
    if chosen == "reference":
        from .reference import copy_cells as compute
    else:
        from .triton_kernel import copy_cells as compute
    compute(source, target, rows, cells)
