"""Joining the parts of one softmax, computed by several programs."""

from typing import no_type_check

import triton
import triton.language as tl

from .addressing import load_rows


@triton.jit
@no_type_check
def merge_parts(
    part_out_ptr, part_lse_ptr, top, total, n_parts, stride, MERGED: tl.constexpr, D: tl.constexpr
):
    """Sum of the parts of one row, weighted by their softmax denominators.

    A part brings its normalised output [D], `stride` numbers after the one before, and its
    log-sum-exp in base 2, -inf if it is empty. MERGED parts are read at a time.

    Args:
        top, total: what belongs to the softmax already, as its maximum (base 2) and the sum of
            powers of two relative to it; -inf and 0 for nothing.

    Returns:
        The weighted sum [D] and the sum of weights, both relative to the maximum that comes third.
    """
    within = tl.arange(0, MERGED)
    acc = tl.zeros((D,), tl.float32)
    for start in range(0, n_parts, MERGED):
        part = start + within
        exists = part < n_parts
        lse = tl.load(part_lse_ptr + part, mask=exists, other=float("-inf"))
        o = load_rows(part_out_ptr, part, stride, exists, D)  # [MERGED, D]
        new_top = tl.maximum(top, tl.max(lse))
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp2(lse - shift)
        decay = tl.exp2(top - shift)
        total = total * decay + tl.sum(weight)
        acc = acc * decay + tl.sum(weight[:, None] * o, axis=0)
        top = new_top
    return acc, total, top
