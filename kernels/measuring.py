"""What benchmarks and compile tests of these kernels reach for, and no lesson does.

    write_scores      the scores alone, as the selection's kernel writes them
    attend_kernels    the attention; HOPPER there are options of its launch
    decode_kernels    the launches of a decode step; WAY there says how
    edge_kernels      dk and dv from pairs of queries; TILE there is how they are cut
    select_kernels    scores and selection; BULK_ROWS there is one of their choices

This imports Triton.
"""

from .block_scores.triton_kernel import write_scores
from .block_sparse_attention import triton_edges as edge_kernels
from .block_sparse_attention import triton_forward as attend_kernels
from .decode_step import triton_kernel as decode_kernels
from .score_and_select import triton_kernel as select_kernels

__all__ = ["attend_kernels", "decode_kernels", "edge_kernels", "select_kernels", "write_scores"]
