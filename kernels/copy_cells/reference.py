"""The oracle: gather, then put."""

from jaxtyping import Int, Shaped
from torch import Tensor


def copy_cells(
    source: Shaped[Tensor, "n width"],
    target: Shaped[Tensor, "cells width"],
    rows: Int[Tensor, " m"],
    cells: Int[Tensor, " m"],
) -> None:
    """target[cells] = source[rows], without the entries that hold -1; waits for the device."""
    wanted = (rows >= 0) & (cells >= 0)
    rows, cells = rows[wanted], cells[wanted]
    target[cells] = source[rows.to(source.device)].to(target.device)
