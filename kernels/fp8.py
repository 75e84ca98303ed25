"""Numbers of eight bits (e4m3) inside the Triton files, on cards with and without them.

Every e4m3 value is a float16 value, so decoding rounds nothing and products of decoded keys run on
the tensor cores of any card. From sm_89 on one instruction decodes two codes; before, Triton has
no such type, and shifts do the same.
"""

from typing import no_type_check

import triton
import triton.language as tl

FIRST_ARCH = 89  # Ada and Hopper know e4m3


@triton.jit
@no_type_check
def decode_fp8(code, NATIVE: tl.constexpr):
    """float16 values of e4m3 codes, given as uint8.

    Sign, exponent and mantissa move into float16's places; the bias differs by 8. Code 127 of
    either sign is NaN.
    """
    if NATIVE:
        return code.to(tl.float8e4nv, bitcast=True).to(tl.float16)
    else:
        body = (code & 0x7F).to(tl.uint16)
        bits = ((code & 0x80).to(tl.uint16) << 8) | (body << 7)
        value = bits.to(tl.float16, bitcast=True) * 256.0
        return tl.where(body == 0x7F, float("nan"), value).to(tl.float16)


@triton.jit
@no_type_check
def power_of_two(x):
    """The greatest power of two up to x >= 0 in float32; 1 where that is no normal number."""
    exponent = x.to(tl.int32, bitcast=True) & 0x7F800000
    unit = exponent.to(tl.float32, bitcast=True)
    return tl.where((exponent == 0) | (exponent == 0x7F800000), 1.0, unit)
