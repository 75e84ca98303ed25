"""The largest tile whose operands fit the shared memory of the device at hand.

A program keeps the operands of its matrix products in shared memory, of which an H100 has 227 KiB
per program, an A100 163 KiB, most other cards 99 KiB and a Turing card 64 KiB. Each launcher lists
its tiles from the one that was timed on an H100 to the smallest, with a bound on the bytes that
each takes; `tests/kernels/test_compile.py` compiles the choice for every size and compares.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch

from .dispatch import interpreting

H100_BYTES = 227 * 1024
SPARE_BYTES = 2048  # beside the operands: reductions, barriers

Tile = TypeVar("Tile")


def shared_bytes(device: torch.device) -> int:
    """Bytes of shared memory that one program may take; the interpreter plays an H100."""
    if interpreting():
        return H100_BYTES
    from triton.runtime import driver

    index = driver.active.get_current_device() if device.index is None else device.index
    return driver.active.utils.get_device_properties(index)["max_shared_mem"]


def operand_bytes(dtype: torch.dtype, device: torch.device) -> int:
    """Bytes a number takes in a product: 2 where tensor cores multiply it, else 4.

    Triton widens half precision to float32 on cards before Ampere.
    """
    if interpreting():
        return dtype.itemsize
    from triton.runtime import driver

    return dtype.itemsize if driver.active.get_current_target().arch >= 80 else 4


def first_fit(tiles: Iterable[Tile], bound: Callable[[Tile], int], device: torch.device) -> Tile:
    """The first of `tiles` whose `bound` in bytes the device can give to one program.

    Raises:
        ValueError: none fits.
    """
    limit, least = shared_bytes(device), None
    for tile in tiles:
        least = bound(tile)
        if least <= limit:
            return tile
    raise ValueError(
        f"device {str(device)!r} gives a program {limit} bytes of shared memory, but the smallest "
        f"tile of impl='triton' takes {least} here. Pass impl='reference'."
    )
