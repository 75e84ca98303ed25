"""The three steps of MSA's attention, each a plain-torch oracle beside a Triton kernel.

    block_scores            q_idx, k_idx -> one score per query, group and key block
    select_blocks           scores -> the block ids each query and group reads
    score_and_select        both at once, without ever holding all scores
    block_sparse_attention  q, k, v, block ids -> exact attention over those blocks

Every function takes `impl="auto" | "reference" | "triton"`; `dispatch.py` resolves it, and the
Triton file of an operation is imported only when chosen. `limits.py` says what Triton serves.
`docs/kernels.md` holds the derivations.
"""

from .block_scores import block_scores
from .block_sparse_attention import block_sparse_attention
from .dispatch import Impl
from .score_and_select import score_and_select
from .select_blocks import select_blocks

__all__ = ["Impl", "block_scores", "block_sparse_attention", "score_and_select", "select_blocks"]
