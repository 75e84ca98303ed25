"""Both Triton kernels over chunks of queries, with one small buffer of scores."""

import torch
import triton
from torch import Tensor

from ..block_scores.triton_kernel import write_scores
from ..limits import query_chunks
from ..select_blocks.triton_kernel import write_selection


@torch.library.custom_op("intuitive::score_and_select", mutates_args=())
def score_and_select(
    q_idx: Tensor, k_idx: Tensor, n_selected: int, block_size: int, n_local: int, n_init: int
) -> Tensor:
    """Custom operator behind the public function: int32 [b, n, h_kv, n_selected]."""
    (b, n, h_kv, _), m = q_idx.shape, k_idx.shape[1]
    selected = []
    for start, stop in query_chunks(n, 4 * b * h_kv * triton.cdiv(m, block_size)):
        seen = m - n + stop  # keys up to the last query of this chunk
        shape = (b, stop - start, h_kv, triton.cdiv(seen, block_size))
        scores = q_idx.new_empty(shape, dtype=torch.float32)  # future blocks are never written
        write_scores(q_idx[:, start:stop], k_idx[:, :seen], scores, block_size)
        out = q_idx.new_empty((*shape[:3], n_selected), dtype=torch.int32)
        write_selection(
            scores, out, block_size=block_size, n_local=n_local, n_init=n_init,
            first_visible=m - n + start + 1,
        )  # fmt: skip
        selected.append(out)
        del scores  # before the next chunk's, so that one buffer exists at a time
    return torch.cat(selected, dim=1) if len(selected) > 1 else selected[0]


@score_and_select.register_fake
def _(q_idx, k_idx, n_selected, block_size, n_local, n_init):
    return q_idx.new_empty((*q_idx.shape[:3], n_selected), dtype=torch.int32)
