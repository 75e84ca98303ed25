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


def shared_bytes() -> int:
    """Bytes of shared memory one program may take on the current device."""
    if interpreting():  # which plays an H100
        return H100_BYTES
    from triton.runtime import driver

    index = driver.active.get_current_device()
    return driver.active.utils.get_device_properties(index)["max_shared_mem"]


def operand_bytes(dtype: torch.dtype) -> int:
    """Bytes a number takes in a product on the current device.

    Triton uses tensor cores from Ampere on; before, it widens half precision to float32.

    Raises:
        ValueError: bfloat16 before Ampere.
    """
    if interpreting():
        return dtype.itemsize
    from triton.runtime import driver

    arch = driver.active.get_current_target().arch
    if dtype == torch.bfloat16 and arch < 80:
        raise ValueError(
            f"dtype=torch.bfloat16 needs a card from Ampere (sm_80) on, but this one is sm_{arch}. "
            "Convert to float16 or float32, or pass impl='reference'."
        )
    return dtype.itemsize if arch >= 80 else 4


def first_fit(tiles: Iterable[Tile], bound: Callable[[Tile], int]) -> Tile:
    """The first of `tiles` whose `bound` in bytes the current device can give to one program.

    Raises:
        ValueError: none fits.
    """
    limit, least = shared_bytes(), 0
    for tile in tiles:
        least = bound(tile)
        if least <= limit:
            return tile
    raise ValueError(
        f"the device gives a program {limit} bytes of shared memory, but the smallest tile of "
        f"impl='triton' takes {least} here. Pass impl='reference'."
    )
