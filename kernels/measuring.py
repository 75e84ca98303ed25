"""What benchmarks and compile tests of these kernels reach for, and no lesson does.

    write_scores      the scores alone, as the selection's kernel writes them
    decode_kernels    the launches of a decode step; OVERLAP there lets them overlap

This imports Triton.
"""

from .block_scores.triton_kernel import write_scores
from .decode_step import triton_kernel as decode_kernels

__all__ = ["decode_kernels", "write_scores"]
