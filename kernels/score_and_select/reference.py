"""The oracle: the two oracles, one chunk of queries at a time."""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from ..block_scores.reference import block_scores
from ..limits import query_chunks
from ..select_blocks.reference import select_blocks


def score_and_select(
    q_idx: Float[Tensor, "b n h_kv d_idx"],
    k_idx: Float[Tensor, "b m d_idx"],
    n_selected: int,
    block_size: int,
    n_local: int,
    n_init: int,
) -> Int32[Tensor, "b n h_kv n_selected"]:
    """Each chunk of queries sees the keys up to its own last query, so it stays aligned."""
    (b, n, h_kv, _), m = q_idx.shape, k_idx.shape[1]
    selected = []
    for start, stop in query_chunks(n, 4 * b * h_kv * m):  # the oracle holds token scores
        scores = block_scores(q_idx[:, start:stop], k_idx[:, : m - n + stop], block_size)
        selected.append(select_blocks(scores, n_selected, n_local, n_init))
    return torch.cat(selected, dim=1)
