"""A batched copy of rows, seen as words: lane after lane reads word after word.

Rows of any width divide into words of 8, 4, 2 or 1 bytes, and the words of all rows form one line
that programs walk over. From the host's memory a few programs suffice to fill the bus; more would
only keep multiprocessors from other streams while they wait.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import tuning
from ..tuning import CopyTile

WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}
HERE = CopyTile(words=1024, num_warps=4, programs=2112)  # 16 for each of 132 multiprocessors
OVER_THE_BUS = CopyTile(words=4096, num_warps=16, programs=32)


@triton.jit(do_not_specialize=["m", "n", "cells"])
@no_type_check
def copy_cells_kernel(
    source_ptr,
    target_ptr,
    rows_ptr,
    cells_ptr,
    m,
    n,
    cells,
    WIDTH: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Copy m rows of WIDTH words, WORDS at a time; places that do not exist are skipped."""
    total = tl.cast(m, tl.int64) * WIDTH
    step = tl.num_programs(0).to(tl.int64) * WORDS
    for start in range(tl.program_id(0).to(tl.int64) * WORDS, total, step):
        word = start + tl.arange(0, WORDS)
        entry, place = word // WIDTH, word % WIDTH
        listed = word < total
        row = tl.load(rows_ptr + entry, mask=listed, other=-1)
        cell = tl.load(cells_ptr + entry, mask=listed, other=-1)
        exists = (row >= 0) & (row < n) & (cell >= 0) & (cell < cells)
        value = tl.load(source_ptr + row * WIDTH + place, mask=exists)
        tl.store(target_ptr + cell * WIDTH + place, value, mask=exists)


@torch.library.custom_op("intuitive::copy_cells", mutates_args={"target"})
def copy_cells(source: Tensor, target: Tensor, rows: Tensor, cells: Tensor) -> None:
    """Custom operator behind the public function."""
    width = source.shape[1] * source.element_size()
    starts = source.data_ptr() | target.data_ptr() | width
    size = next(size for size in WORDS if starts % size == 0)
    source, target = (x.view(torch.uint8).view(WORDS[size]) for x in (source, target))
    rows, cells = rows.contiguous(), cells.contiguous()
    over_the_bus = source.device != target.device
    tile = tuning.forced("copy_cells") or (OVER_THE_BUS if over_the_bus else HERE)
    width //= size
    with torch.cuda.device_of(target):
        grid = (min(triton.cdiv(len(rows) * width, tile.words), tile.programs),)
        copy_cells_kernel[grid](
            source, target, rows, cells, len(rows), len(source), len(target),
            WIDTH=width, WORDS=tile.words, num_warps=tile.num_warps,
        )  # fmt: skip


@copy_cells.register_fake
def _(source, target, rows, cells):
    return None
