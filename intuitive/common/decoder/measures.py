"""Where attention goes: rows of its probabilities, and its mass on blocks of keys."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..inputs import public


@public
def attention_rows(
    q: Float[Tensor, "n h_q d"],
    k: Float[Tensor, "m h_kv d"],
    query_index: Int[Tensor, " r"],
    *,
    scale: float | None = None,
) -> Float[Tensor, "h_q r m"]:
    """Causal attention probabilities of a few queries, without the full n by m matrix.

    Args:
        q: queries of the last n tokens, positions already applied.
        k: keys of all m >= n tokens.
        query_index: which of the n queries, each in [0, n).
        scale: factor on the dot products; 1/sqrt(d) if None.

    Returns:
        Probabilities in float32 (float64 for float64 inputs); every row sums to 1 and is zero on
        the future.

    Raises:
        ValueError: a query index is out of range, or there are fewer keys than queries.
    """
    n, h_q, d = q.shape
    m, h_kv, _ = k.shape
    if m < n:
        raise ValueError(f"{m} keys for {n} queries: every query needs its own key among them.")
    if query_index.numel() and not 0 <= int(query_index.min()) <= int(query_index.max()) < n:
        raise ValueError(f"query_index={query_index.tolist()} must lie in [0, {n}).")
    dtype = torch.promote_types(q.dtype, torch.float32)
    chosen = q[query_index].to(dtype) * (d**-0.5 if scale is None else scale)
    chosen = chosen.unflatten(1, (h_kv, h_q // h_kv))  # [r, h_kv, group, d]
    scores = torch.einsum("rhgd,mhd->hgrm", chosen, k.to(dtype)).flatten(0, 1)  # [h_q, r, m]
    visible = torch.arange(m, device=q.device) <= (query_index + m - n)[:, None]  # [r, m]
    return scores.masked_fill_(~visible, -torch.inf).softmax(-1)


@public
def block_mass(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"], *, block_size: int
) -> Float[Tensor, "n h_kv n_blk"]:
    """Share of dense causal attention on each key block, averaged over the heads of a group.

    Queries are taken a few at a time, so memory grows with m, not with n * m.

    Args:
        q: queries of the last n tokens, positions already applied.
        k: keys of all m >= n tokens.
        block_size: tokens per block; the last block may be shorter.

    Returns:
        Shares in [0, 1]; every row sums to 1 over the blocks.

    Raises:
        ValueError: `block_size` below 1, or fewer keys than queries.
    """
    if block_size < 1:
        raise ValueError(f"block_size={block_size} must be at least 1 token.")
    n, m, h_kv = len(q), len(k), k.shape[1]
    n_blk = -(-m // block_size)
    mass = q.new_zeros(n, h_kv, n_blk, dtype=torch.promote_types(q.dtype, torch.float32))
    step = 128
    for first in range(0, n, step):
        queries = torch.arange(min(step, n - first), device=q.device)
        last = min(first + step, n)
        seen = m - n + last  # keys that these queries can see
        rows = attention_rows(q[first:last], k[:seen], queries)  # [h_q, r, seen]
        rows = F.pad(rows.unflatten(0, (h_kv, -1)).mean(1), (0, -seen % block_size))
        blocks = rows.unflatten(-1, (-1, block_size)).sum(-1)  # [h_kv, r, blocks seen]
        mass[first:last, :, : blocks.shape[-1]] = blocks.transpose(0, 1)
    return mass
