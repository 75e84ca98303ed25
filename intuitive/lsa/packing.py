"""How entries and index keys lie in memory: as numbers of the model's dtype, or as V4's bytes.

A packed entry is one row of bytes: the channels without RoPE in fp8 (e4m3), the channels with
RoPE in bfloat16, and for each 64 of the former a byte e that scales them by 2^(e - 127), filled up
to a multiple of eight. A packed index key is fp8 throughout, with one float32 scale behind it. At
the paper's sizes that is 448 + 128 + 8 = 584 and 128 + 4 = 132 bytes.

Source: DeepSeek-V4's cache layout, as the LSA repository's swap engine reads it.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import pad

from .config import SCALE_ALIGNMENT, SCALED_TOGETHER, LSAConfig
from .selection import FP8_MAX, dequantise_keys, quantise_keys

Part = Literal["entries", "index_keys"]

SCALE_BIAS = 127  # a scale byte e stands for 2^(e - 127), the exponent of a float32
KEY_SCALE_BYTES = 4


def scale_bytes(fp8_channels: int) -> int:
    """Bytes that the scales of so many fp8 channels take, the filling included."""
    groups = -(-fp8_channels // SCALED_TOGETHER)
    return SCALE_ALIGNMENT * -(-groups // SCALE_ALIGNMENT)


def pack_entries(entries: Float[Tensor, "*axes d"], d_rope: int) -> UInt8[Tensor, "*axes bytes"]:
    """Entries as packed rows.

    A group's scale is the least power of two that brings its largest value to 448 or less. Values
    lose at most 1/16 of their size, or 2^-10 of the scale where they are small; bfloat16 loses at
    most 1/256.

    Args:
        entries: whose last `d_rope` channels carry RoPE.
    """
    still, turned = entries.float().split((entries.shape[-1] - d_rope, d_rope), -1)
    n = still.shape[-1]
    groups = pad(still, (0, -n % SCALED_TOGETHER)).unflatten(-1, (-1, SCALED_TOGETHER))
    mantissa, exponent = torch.frexp(groups.abs().amax(-1) / FP8_MAX)
    exponent = exponent - (mantissa == 0.5).to(exponent.dtype)  # the least that is enough
    exponent = (exponent + SCALE_BIAS).clamp(1, 2 * SCALE_BIAS)
    codes = (groups / _power(exponent)[..., None]).clamp(-FP8_MAX, FP8_MAX)
    codes = codes.to(torch.float8_e4m3fn).view(torch.uint8).flatten(-2)[..., :n]
    scales = pad(exponent.to(torch.uint8), (0, scale_bytes(n) - exponent.shape[-1]))
    turned = turned.to(torch.bfloat16).contiguous().view(torch.uint8)
    return torch.cat((codes, turned, scales), -1)


def unpack_entries(
    rows: UInt8[Tensor, "*axes bytes"],
    d: int,
    d_rope: int,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*axes d"]:
    """The entries of d channels, the last `d_rope` of them with RoPE, in packed rows.

    Raises:
        ValueError: rows of another length.
    """
    n = d - d_rope
    if rows.shape[-1] != n + 2 * d_rope + scale_bytes(n):
        raise ValueError(
            f"{rows.shape[-1]} bytes are no packed entry of {d} channels, {d_rope} of them with "
            f"RoPE: it takes {n + 2 * d_rope + scale_bytes(n)}."
        )
    codes, turned, scales = rows.split((n, 2 * d_rope, rows.shape[-1] - n - 2 * d_rope), -1)
    groups = -(-n // SCALED_TOGETHER)
    scale = _power(scales[..., :groups]).repeat_interleave(SCALED_TOGETHER, -1)[..., :n]
    still = codes.contiguous().view(torch.float8_e4m3fn).to(torch.float32) * scale
    turned = turned.contiguous().view(torch.bfloat16)
    return torch.cat((still.to(dtype), turned.to(dtype)), -1)


def _power(byte: Tensor) -> Tensor:
    """2^(e - 127) of scale bytes e, exactly: they are a float32's exponent."""
    return (byte.to(torch.int32) << 23).view(torch.float32)


def pack_keys(keys: Float[Tensor, "*axes d"]) -> UInt8[Tensor, "*axes bytes"]:
    """Index keys as packed rows, d + 4 bytes each."""
    codes, scale = quantise_keys(keys)
    return torch.cat((codes.view(torch.uint8), scale[..., None].view(torch.uint8)), -1)


def unpack_keys(
    rows: UInt8[Tensor, "*axes bytes"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*axes d"]:
    """The index keys in packed rows."""
    codes, scale = rows.split((rows.shape[-1] - KEY_SCALE_BYTES, KEY_SCALE_BYTES), -1)
    scale = scale.contiguous().view(torch.float32)[..., 0]
    return dequantise_keys(codes.contiguous().view(torch.float8_e4m3fn), scale).to(dtype)


def gathered(
    rows: Shaped[Tensor, "rows width"], numbers: Int[Tensor, " n"]
) -> Shaped[Tensor, "n width"]:
    """Rows of these numbers, one after the other.

    A GPU's gather takes as long for a byte as for a word: bytes go in the widest words that their
    rows divide into.
    """
    if rows.dtype == torch.uint8 and rows.stride(1) == 1:
        apart = (rows.shape[1], rows.stride(0), rows.storage_offset())
        for word in (torch.int64, torch.int32):
            if not any(n % word.itemsize for n in apart):
                return rows.view(word).index_select(0, numbers).view(torch.uint8)
    return rows.index_select(0, numbers)


@dataclass(frozen=True)
class Storage:
    """How one cache stores: packed where the config's layout is "v4", else in the model's dtype."""

    config: LSAConfig
    model_dtype: torch.dtype = torch.float32

    @property
    def packed(self) -> bool:
        """Whether rows are V4's bytes."""
        return self.config.layout == "v4"

    @property
    def dtype(self) -> torch.dtype:
        """Of the stored rows."""
        return torch.uint8 if self.packed else self.model_dtype

    def width(self, part: Part) -> int:
        """Numbers, or bytes where packed, in a row."""
        config = self.config
        if self.packed:
            return {"entries": config.entry_bytes, "index_keys": config.index_key_bytes}[part]
        return {"entries": config.d_head, "index_keys": config.d_index}[part]

    def row_bytes(self, part: Part) -> int:
        """Bytes of a row."""
        return self.width(part) * self.dtype.itemsize

    def store(self, part: Part, vectors: Tensor) -> Tensor:
        """Vectors [*axes, d] as rows [*axes, width]; rows that are stored already stay as they are.

        Raises:
            ValueError: rows of another length.
        """
        if self.packed and vectors.dtype != torch.uint8:
            if part == "entries":
                vectors = pack_entries(vectors, self.config.d_rope)
            else:
                vectors = pack_keys(vectors)
        if vectors.shape[-1] != self.width(part):
            raise ValueError(
                f"{part} have {vectors.shape[-1]} numbers each, a stored row has "
                f"{self.width(part)}: pass vectors, or rows of this layout."
            )
        return vectors

    def load(self, part: Part, rows: Tensor) -> Tensor:
        """The vectors in stored rows, in the model's dtype."""
        if not self.packed:
            return rows
        if part == "entries":
            return unpack_entries(rows, self.config.d_head, self.config.d_rope, self.model_dtype)
        return unpack_keys(rows, self.model_dtype)
