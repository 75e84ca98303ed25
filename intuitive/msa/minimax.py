"""MiniMax-M3's indexers in `transformers`, without a score for every pair of tokens.

As shipped, an indexer holds every query's float32 score of every key: 16 GiB for 32K tokens and
four heads, and a copy. `score_and_select` takes bounded memory and chooses the same blocks.

Source: `MiniMaxM3VLIndexer` of the `transformers` package, read in 5.23.
"""

import functools
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from intuitive.kernels import Impl, score_and_select


def quick_indexers(model: nn.Module, *, impl: Impl = "auto") -> int:
    """Let the indexers of a MiniMax-M3 select with our kernels; returns how many there are.

    Where positions are not those of the cache (padding on the left, static caches) an indexer goes
    on as before.

    Args:
        model: a model of `transformers`, or one of its layers.
        impl: which kernels; see `intuitive.kernels.dispatch.choose`.

    Raises:
        ValueError: the model has no such indexer, or one forces more blocks than it selects.
    """
    found = [m for m in model.modules() if type(m).__name__ == "MiniMaxM3VLIndexer"]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no MiniMaxM3VLIndexer: only MiniMax-M3's sparse layers do."
        )
    for indexer in found:
        if indexer.local_blocks > indexer.topk_blocks:
            raise ValueError(
                f"index_local_blocks={indexer.local_blocks} exceeds "
                f"index_topk_blocks={indexer.topk_blocks}: forced blocks count among the selected."
            )
        indexer.forward = functools.partial(_select, indexer, impl=impl)
    return len(found)


def _select(
    indexer: nn.Module,
    hidden_states: Float[Tensor, "b n d_model"],
    position_embeddings: tuple[Tensor, Tensor],
    past_key_values: Any,
    position_ids: Int[Tensor, "b n"],
    *,
    impl: Impl,
) -> Int[Tensor, "b h_idx n n_sel"]:
    """What the indexer's own `forward` returns, with empty slots up to the whole budget."""
    n, held = hidden_states.shape[1], None
    if past_key_values is not None:
        held = past_key_values.layers[indexer.layer_idx]
    before = 0 if held is None or held.idx_keys is None else held.idx_keys.shape[2]
    own = torch.arange(before, before + n, device=position_ids.device)
    if hasattr(held, "max_cache_len") or not bool((position_ids == own).all()):
        return type(indexer).forward(
            indexer, hidden_states, position_embeddings, past_key_values, position_ids
        )
    from transformers.models.minimax_m3_vl.modeling_minimax_m3_vl import apply_rotary_pos_emb

    d = indexer.head_dim
    q_idx, k_idx = (
        norm(project(hidden_states).unflatten(-1, (-1, d))).transpose(1, 2)
        for norm, project in (
            (indexer.q_norm, indexer.q_proj),
            (indexer.k_norm, indexer.k_proj),
        )
    )
    cos, sin = (x[..., :d] for x in position_embeddings)
    q_idx, k_idx = apply_rotary_pos_emb(q_idx, k_idx, cos, sin)
    if held is not None:
        k_idx = held.update_index(k_idx)
    chosen = score_and_select(
        q_idx.transpose(1, 2),
        k_idx[:, 0],
        n_selected=indexer.topk_blocks,
        block_size=indexer.block_size,
        n_local=indexer.local_blocks,
        impl=impl,
    )
    return chosen.transpose(1, 2).long()
