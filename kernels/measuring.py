"""What benchmarks and compile tests of these kernels reach for, and no lesson does.

    write_scores      the scores alone, as the selection's kernel writes them
    decode_kernels    the launches of a decode step; CHANGED there is how they differ
    edge_kernels      dk and dv from pairs of queries; TILE there is how they are cut
    varlen_select     the selection of batches; SHARES there is how many programs decode

This imports Triton.
"""

from .block_scores.triton_kernel import write_scores
from .block_sparse_attention import triton_edges as edge_kernels
from .decode_step import triton_kernel as decode_kernels
from .varlen import triton_select as varlen_select

__all__ = ["decode_kernels", "edge_kernels", "varlen_select", "write_scores"]
