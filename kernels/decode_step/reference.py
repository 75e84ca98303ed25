"""The oracle: the two oracles, one after the other."""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from ..block_sparse_attention.reference import block_sparse_attention
from ..score_and_select.reference import score_and_select


def decode_step(
    q: Float[Tensor, "b 1 h_q d"],
    k: Float[Tensor, "b m h_kv d"],
    v: Float[Tensor, "b m h_kv d"],
    q_idx: Float[Tensor, "b 1 h_kv d_idx"],
    k_idx: Float[Tensor, "b m d_idx"],
    n_selected: int,
    block_size: int,
    n_local: int,
    n_init: int,
    scale: float,
) -> tuple[
    Float[Tensor, "b 1 h_q d"], Float[Tensor, "b 1 h_q"], Int32[Tensor, "b 1 h_kv n_selected"]
]:
    """Output, log-sum-exp and selected blocks; codes are taken as the numbers they stand for."""
    inner = torch.promote_types(q_idx.dtype, torch.float32)
    ids = score_and_select(
        q_idx.to(inner), k_idx.to(inner), n_selected, block_size, n_local, n_init
    )
    return *block_sparse_attention(q, k, v, ids, block_size, scale), ids
