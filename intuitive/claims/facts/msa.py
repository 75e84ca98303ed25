"""Exact facts of MiniMax Sparse Attention: equal outputs, FLOPs, bytes, gradients."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import seeded
from intuitive.kernels import select_blocks
from intuitive.msa import MSAConfig, cost, reference
from intuitive.msa.model import MSAAttention

SERVED = MSAConfig.paper()
MILLION = 2**20


def _drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def _blocks(config: MSAConfig, n: int) -> Tensor:
    """The blocks that a drawn index selects for each of n queries of two texts."""
    q_idx, k_idx = _drawn(2, n, 2, 8, seed=3), _drawn(2, n, 8, seed=4)
    scores = reference.block_max(reference.token_scores(q_idx, k_idx), config.block_size)
    return select_blocks(scores.float(), **config.selection)


def dense_within_budget() -> dict[str, int | float]:
    """How far sparse outputs are from dense ones, while all blocks are selected and beyond."""
    config = MSAConfig(d_head=8, d_index=8, block_size=4, n_selected=5)
    n = 2 * config.n_selected_tokens
    q, k, v = (_drawn(2, n, h, 8, seed=i) for i, h in enumerate((4, 2, 2)))
    sparse = reference.attend_query_outer(q, k, v, _blocks(config, n), block_size=4)
    apart = sparse - reference.dense_attention(q, k, v)
    within, beyond = apart.abs().split(n // 2, dim=1)
    return {"largest_error_within": float(within.max()), "largest_beyond": float(beyond.max())}


def flops_at_a_million() -> dict[str, int | float]:
    """The ratio of FLOPs at 2^20 tokens, and what it would be without end."""
    return {
        "ratio": cost.flop_ratio(SERVED, MILLION),
        "ceiling": cost.flop_ceiling(SERVED),
        "index_share": cost.index_flop_share(SERVED, MILLION),
    }


def loop_orders() -> dict[str, int | float]:
    """FLOP per byte of both loop orders, and how far their outputs are apart."""
    n, context = 24, 2**17
    q, k, v = (_drawn(2, n, h, 8, seed=i) for i, h in enumerate((4, 2, 2)))
    config = MSAConfig(d_head=8, d_index=8, block_size=4, n_selected=3)
    blocks = _blocks(config, n)
    query_outer, kv_outer = (
        order(q, k, v, blocks, block_size=4)
        for order in (reference.attend_query_outer, reference.attend_kv_outer)
    )
    moved = cost.query_outer_bytes(SERVED, context), cost.kv_outer_bytes(SERVED, context)
    query, kv = (cost.loop_intensity(SERVED, context, each) for each in moved)
    return {
        "query_outer": query,
        "kv_outer": kv,
        "largest_error": float((query_outer - kv_outer).abs().max()),
    }


def disjoint_losses() -> dict[str, int | float]:
    """Parameters that the language loss reaches, of the index branch and of all else."""
    torch.manual_seed(0)
    msa = MSAConfig(block_size=4, n_selected=2)
    decoder = Decoder(DecoderConfig(max_positions=64), lambda c: MSAAttention(c, msa)).train()
    tokens = torch.randint(256, (2, 20), generator=seeded(1))
    logits = decoder(tokens)
    cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    touched = [n for n, weight in decoder.named_parameters() if weight.grad is not None]
    every = [name for name, _ in decoder.named_parameters()]
    return {
        "index_reached": sum("index_" in name for name in touched),
        "index_parameters": sum("index_" in name for name in every),
        "others_reached": sum("index_" not in name for name in touched),
        "others": sum("index_" not in name for name in every),
    }
