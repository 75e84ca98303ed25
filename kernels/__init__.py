"""Operations with a plain-torch oracle beside a Triton kernel.

The steps of MSA's attention:

    block_scores            q_idx, k_idx -> one score per query, group and key block
    select_blocks           scores -> the block ids each query and group reads
    score_and_select        both at once, without ever holding all scores
    block_sparse_attention  q, k, v, block ids -> exact attention over those blocks
    decode_step             all three for one query
    select_varlen           the selection of many sequences of unequal lengths, packed or in pages
    attend_varlen           the attention to it

`index_codes` puts index vectors into eight bits, `code_recall` measures what that loses, and
`suggest_plan` looks at a selection and names the way to attend to it.

and those of a history that moves between host and device (LSA):

    score_chunks            queries, weights, keys -> one logit per chunk
    select_chunks           logits -> the chunks above a threshold, and how many
    copy_cells              rows of one array into cells of another
    cell_attention          queries, cells, slots, window, sinks -> attention over them

Every function takes `impl="auto" | "reference" | "triton"`; `dispatch.py` resolves it, and the
Triton file of an operation is imported only when chosen. `limits.py` says what Triton serves,
and `interpreting.py` runs kernels step by step on a CPU.
`docs/kernels.md` holds the derivations.
"""

from .block_scores import block_scores
from .block_sparse_attention import block_sparse_attention
from .cell_attention import CELL_BYTES, CELL_NUMBERS, cell_attention, pack_cells, unpack_cells
from .copy_cells import copy_cells
from .decode_step import decode_step
from .dispatch import Impl
from .index_codes import index_codes
from .plans import Plan, distinct_blocks, suggest_plan
from .score_and_select import code_recall, score_and_select
from .score_chunks import score_chunks
from .select_blocks import select_blocks
from .select_chunks import select_chunks
from .varlen import attend_varlen, select_varlen

__all__ = [
    "CELL_BYTES",
    "CELL_NUMBERS",
    "Impl",
    "Plan",
    "attend_varlen",
    "block_scores",
    "block_sparse_attention",
    "cell_attention",
    "code_recall",
    "copy_cells",
    "decode_step",
    "distinct_blocks",
    "index_codes",
    "pack_cells",
    "score_and_select",
    "score_chunks",
    "select_blocks",
    "select_chunks",
    "select_varlen",
    "suggest_plan",
    "unpack_cells",
]
