"""A cell in 584 bytes: 448 numbers of 8 bits, 64 of 16, and a scale for every 64 of the former.

    bytes 0..447     dimensions 0..447 as e4m3 codes
    bytes 448..575   dimensions 448..511, the rotated ones, as bfloat16
    bytes 576..582   an exponent e for every 64 codes; they count 2^(e - 127) times their value
    byte 583         0

Powers of two change no digit, so that a decoded number is a bfloat16 number again.

Source: the byte counts are the repository's (FlashMemory-Deepseek-V4).
Differs: how the eight bytes of scales are used is defined here.
"""

from typing import no_type_check

import torch
from jaxtyping import BFloat16, Float, Float32, UInt8
from torch import Tensor

from .. import checks

CODES, ROTATED, GROUP = 448, 64, 64
D = CODES + ROTATED
GROUPS = CODES // GROUP
CELL_BYTES = CODES + 2 * ROTATED + GROUPS + 1
BIAS = 127  # an exponent byte is that of a float32
FP8_MAX = 448.0


@no_type_check  # checked below, with the same message under pytest and outside it
def pack_cells(cells: Float[Tensor, "*n d"]) -> UInt8[Tensor, "*n bytes"]:
    """Cells of 512 numbers as 584 bytes.

    Codes are off by at most a 16th of their value, rotated numbers by a 256th. Each group of 64
    takes the smallest power of two that leaves its greatest number at 448 or below.

    Raises:
        ValueError: cells of another size, or numbers that are NaN or infinite.
    """
    checks.tensors(cells=cells)
    checks.same_float_dtype(cells=cells)
    if not cells.ndim:
        raise ValueError("cells has no axes, but its last one must hold the numbers of a cell.")
    if cells.shape[-1] != D:
        raise ValueError(f"cells has d={cells.shape[-1]}, but a packed cell holds d={D} numbers.")
    if not bool(torch.isfinite(cells).all()):
        raise ValueError("cells holds NaN or an infinity: find it with torch.isfinite.")
    groups = cells[..., :CODES].float().unflatten(-1, (GROUPS, GROUP))
    mantissa, exponent = torch.frexp(groups.abs().amax(-1) / FP8_MAX)  # mantissa in [0.5, 1)
    exponent = torch.where(mantissa > 0.5, exponent, exponent - 1) + BIAS
    exponent = exponent.clamp(1, 254)
    values = groups / exp2_of(exponent)[..., None]
    codes = values.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn).flatten(-2).view(torch.uint8)
    rotated = cells[..., CODES:].bfloat16().contiguous().view(torch.uint8)
    scales = torch.nn.functional.pad(exponent.to(torch.uint8), (0, 1))
    return torch.cat((codes, rotated, scales), dim=-1)


def exp2_of(exponent: Tensor) -> Float32[Tensor, "..."]:
    """2^(e - 127) of exponent bytes, exactly; 0 for e = 0."""
    return (exponent.int() << 23).view(torch.float32)


def parts(
    packed: UInt8[Tensor, "*n bytes"],
) -> tuple[UInt8[Tensor, "*n 448"], BFloat16[Tensor, "*n 64"], UInt8[Tensor, "*n 7"]]:
    """Codes, rotated numbers and exponents of packed cells."""
    rotated = packed[..., CODES : CODES + 2 * ROTATED].contiguous().view(torch.bfloat16)
    return packed[..., :CODES], rotated, packed[..., CELL_BYTES - GROUPS - 1 : CELL_BYTES - 1]


@no_type_check
def unpack_cells(packed: UInt8[Tensor, "*n bytes"]) -> Float32[Tensor, "*n d"]:
    """The 512 numbers of each packed cell, in float32; all of them are bfloat16 numbers.

    Raises:
        ValueError: rows of another length or dtype.
    """
    checks.tensors(packed=packed)
    if packed.dtype != torch.uint8 or not packed.ndim or packed.shape[-1] != CELL_BYTES:
        raise ValueError(
            f"packed has dtype {packed.dtype} and shape {tuple(packed.shape)}, but a packed cell "
            f"has {CELL_BYTES} bytes (torch.uint8). Pack with pack_cells."
        )
    codes, rotated, exponent = parts(packed)
    values = codes.contiguous().view(torch.float8_e4m3fn).float().unflatten(-1, (GROUPS, GROUP))
    values = (values * exp2_of(exponent)[..., None]).flatten(-2)
    return torch.cat((values, rotated.float()), dim=-1)
