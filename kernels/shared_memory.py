"""The largest tile whose operands fit the shared memory of the device at hand.

A program keeps the operands of its matrix products in shared memory, of which an H100 has 227 KiB
per program, an A100 163 KiB, most other cards 99 KiB and a Turing card 64 KiB. Each launcher lists
its tiles from the one that was timed on an H100 to the smallest, with a bound on the bytes that
each takes; `tests/kernels/test_compile.py` compiles the choice for every size and compares.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple, TypeVar

import torch
from triton.runtime import driver

from .dispatch import interpreting

SPARE_BYTES = 2048  # beside the operands: reductions, barriers

Tile = TypeVar("Tile")


class Card(NamedTuple):
    """What the choice of a tile depends on."""

    arch: int  # compute capability, such as 90
    shared: int  # bytes of shared memory that one program may take


H100 = Card(arch=90, shared=227 * 1024)
INTERPRETING = interpreting()  # decided once, as Triton does when a kernel is defined


@cache  # the driver takes up to a millisecond to answer
def _ask(device: int) -> Card:
    """The card with this number, which is the current one."""
    properties = driver.active.utils.get_device_properties(device)
    return Card(driver.active.get_current_target().arch, properties["max_shared_mem"])


def card() -> Card:
    """The current card; Triton's interpreter plays an H100."""
    return H100 if INTERPRETING else _ask(driver.active.get_current_device())


def operand_bytes(arch: int, dtype: torch.dtype) -> int:
    """Bytes a number takes in a product.

    Triton uses tensor cores from Ampere on; before, it widens half precision to float32.

    Raises:
        ValueError: bfloat16 before Ampere.
    """
    if dtype == torch.bfloat16 and arch < 80:
        raise ValueError(
            f"dtype=torch.bfloat16 needs a card from Ampere (sm_80) on, but this one is sm_{arch}. "
            "Convert to float16 or float32, or pass impl='reference'."
        )
    return dtype.itemsize if arch >= 80 else 4


@cache  # by sizes that have few values each: every launch asks
def first_fit(
    tiles: Callable[[int, int, int], Iterable[Tile]],
    bound: Callable[[Tile, int, int], int],
    card: Card,
    dtype: torch.dtype,
    width: int,
    block_size: int,
    d: int,
) -> Tile:
    """The first of `tiles` whose `bound` in bytes the card can give to one program.

    Args:
        tiles: of width, block size and bytes a number.
        bound: of tile, head size and bytes a number.
        card: where it shall run.
        dtype: of the operands.
        width: whatever `tiles` takes first: the heads of a group, or few rows or many.
        block_size: tokens per key block.
        d: head size.

    Raises:
        ValueError: none fits, or the card does not serve the dtype.
    """
    itemsize, least = operand_bytes(card.arch, dtype), 0
    for tile in tiles(width, block_size, itemsize):
        least = bound(tile, d, itemsize)
        if least <= card.shared:
            return tile
    raise ValueError(
        f"the device gives a program {card.shared} bytes of shared memory, but the smallest tile "
        f"of impl='triton' takes {least} here. Pass impl='reference'."
    )
