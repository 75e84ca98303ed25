"""MiniMax Sparse Attention as plain functions: slow, obvious, and in the order of the paper.

Index Branch: one small head per GQA group scores every visible token (`index_branch`,
`token_scores`), the scores shrink to one number per key block (`block_max`), and
`intuitive.kernels.select_blocks` keeps a few blocks. Main Branch: exact softmax attention over
the tokens of those blocks (`masked_attention`, or either loop order). Selectors that need no
training, and the measures that compare them, follow.

Batched functions take `b n h d`; the selectors and measures work on one sequence, `n h d`. Query
heads r·G to r·G+G-1 form GQA group r and read KV head r. When there are more keys than queries,
the queries are the last ones: query i stands at position m - n + i.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad, rms_norm

from intuitive.common.decoder import block_mass, causal_mask, rotate
from intuitive.common.inputs import public
from intuitive.common.runtime import seeded
from intuitive.kernels import select_blocks

from .config import MSAConfig

# ---------------------------------------------------------------------------- Index Branch


@public
def index_branch(
    hidden: Float[Tensor, "b n d_model"],
    w_q: Float[Tensor, "h_kv_d_idx d_model"],
    w_k: Float[Tensor, "d_idx d_model"],
    norm_q: Float[Tensor, " d_idx"],
    norm_k: Float[Tensor, " d_idx"],
    positions: Int[Tensor, "b n"],
    *,
    rope_base: float | None,
    d_rotary: int | None = None,
    norm_eps: float = 1e-6,
) -> tuple[Float[Tensor, "b n h_kv d_idx"], Float[Tensor, "b n d_idx"]]:
    """Index queries, one head per GQA group, and index keys, one head shared by all groups.

    Args:
        hidden: input of the attention layer. It is detached: the KL that trains this branch
            must send nothing into the residual stream.
        w_q: index query projection, the heads stacked.
        w_k: index key projection.
        norm_q: weight of the per-head RMSNorm on queries; likewise `norm_k` on keys.
        positions: token positions for RoPE.
        rope_base: the main heads' RoPE base; None leaves positions out, as they do.
        d_rotary: RoPE turns the first so many channels of every head; all if None. A channel that
            it does not turn compares what tokens say, however far apart they stand.

    Returns:
        Index queries and index keys of these tokens.

    Raises:
        ValueError: the rows of `w_q` are no multiple of d_idx; RoPE's base is not above 1, or its
            channels are odd or not there.

    Source: arXiv:2606.13392v2, Eqs. 5-6; norms and RoPE follow the public reference code.
    There RoPE turns half of the channels.
    Differs: plain RMSNorm weights instead of the Gemma form (1 + w), as in the model whose main
    heads it serves.
    """
    b, n, _ = hidden.shape
    d_idx = w_k.shape[0]
    _check_index_heads(len(w_q), d_idx, rope_base, d_rotary)
    hidden = hidden.detach()
    q_idx = rms_norm((hidden @ w_q.T).view(b, n, -1, d_idx), (d_idx,), norm_q, norm_eps)
    k_idx = rms_norm((hidden @ w_k.T).view(b, n, 1, d_idx), (d_idx,), norm_k, norm_eps)
    if rope_base is not None:
        q_idx = _rotate_first(q_idx, positions, rope_base, d_rotary)
        k_idx = _rotate_first(k_idx, positions, rope_base, d_rotary)
    return q_idx, k_idx.squeeze(2)


def _check_index_heads(
    rows: int, d_idx: int, rope_base: float | None, d_rotary: int | None
) -> None:
    if rows % d_idx:
        raise ValueError(
            f"w_q has {rows} rows, not a multiple of d_idx={d_idx}: stack one index head "
            "per GQA group."
        )
    if rope_base is None:
        return
    if not 1 < rope_base < math.inf:
        raise ValueError(f"rope_base={rope_base} must be above 1 and finite.")
    if d_rotary is not None and not 0 <= d_rotary <= d_idx:
        raise ValueError(f"d_rotary={d_rotary} must lie in [0, d_idx={d_idx}].")
    if (d_idx if d_rotary is None else d_rotary) % 2:
        raise ValueError(f"d_idx={d_idx} with d_rotary={d_rotary}: RoPE turns pairs.")


def _rotate_first(
    x: Float[Tensor, "b n h d"], positions: Int[Tensor, "b n"], base: float, d_rotary: int | None
) -> Float[Tensor, "b n h d"]:
    if d_rotary is None or d_rotary == x.shape[-1]:
        return rotate(x, positions, base)
    turned = rotate(x[..., :d_rotary], positions, base)
    return torch.cat((turned, x[..., d_rotary:]), -1)


@public
def token_scores(
    q_idx: Float[Tensor, "b n h_kv d_idx"], k_idx: Float[Tensor, "b m d_idx"]
) -> Float[Tensor, "b n h_kv m"]:
    """Index score of every visible token, -inf for tokens in the future (Eq. 7).

    The scale 1/√d_idx changes no selection; it matters to the probabilities that the KL compares.
    """
    n, m = q_idx.shape[1], k_idx.shape[1]
    if m < n:
        raise ValueError(f"{m} keys for {n} queries: the queries must be the last of the tokens.")
    scores = torch.einsum("bnhd,bmd->bnhm", q_idx, k_idx) / math.sqrt(q_idx.shape[-1])
    visible = causal_mask(n, m, q_idx.device)
    return scores.masked_fill(~visible[:, None], -math.inf)


@public
def split_blocks(
    rows: Float[Tensor, "*rows m"], block_size: int, *, fill: float
) -> Float[Tensor, "*rows n_blk block_size"]:
    """Cut the last axis into blocks; a ragged last block is filled up with `fill`."""
    if block_size < 1:
        raise ValueError(f"block_size={block_size} must be at least 1 token.")
    rows = pad(rows, (0, -rows.shape[-1] % block_size), value=fill)
    return rows.unflatten(-1, (-1, block_size))


@public
def block_max(scores: Float[Tensor, "*rows m"], block_size: int) -> Float[Tensor, "*rows n_blk"]:
    """Greatest visible score in each block; -inf where no token is visible.

    Invisible tokens must already be -inf, or the block in progress would leak the future.
    """
    return split_blocks(scores, block_size, fill=-math.inf).amax(-1)


@public
def block_mean(scores: Float[Tensor, "*rows m"], block_size: int) -> Float[Tensor, "*rows n_blk"]:
    """Mean of the visible scores in each block; -inf where no token is visible."""
    blocks = split_blocks(scores, block_size, fill=-math.inf)
    visible = blocks > -math.inf
    mean = blocks.masked_fill(~visible, 0).sum(-1) / visible.sum(-1).clamp(min=1)
    return mean.masked_fill(~visible.any(-1), -math.inf)


# ----------------------------------------------------------------------------- Main Branch


@public(m=1, block_size=1)
def block_sparse_mask(
    block_idx: Int[Tensor, "b n h_kv n_sel"], m: int, block_size: int
) -> Bool[Tensor, "b n h_kv m"]:
    """True where a query may read: the visible tokens of its selected blocks."""
    block_of = torch.arange(m, device=block_idx.device) // block_size
    chosen = (block_idx[..., None] == block_of).any(-2)  # -1 equals no block
    return chosen & causal_mask(block_idx.shape[1], m, block_idx.device)[:, None]


@public
def masked_attention(
    q: Float[Tensor, "b n h_q d"],
    k: Float[Tensor, "b m h_kv d"],
    v: Float[Tensor, "b m h_kv d"],
    mask: Bool[Tensor, "b n h_kv m"],
) -> Float[Tensor, "b n h_q d"]:
    """Softmax attention over the tokens that the mask allows (Eq. 8); 0 where it allows none."""
    grouped = group_queries(q, k.shape[2])
    scores = torch.einsum("bnhgd,bmhd->bnhgm", grouped, k) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~mask[:, :, :, None], -math.inf)
    probabilities = scores.softmax(-1).masked_fill(~mask[:, :, :, None], 0)
    return torch.einsum("bnhgm,bmhd->bnhgd", probabilities, v).flatten(2, 3)


@public
def dense_attention(
    q: Float[Tensor, "b n h_q d"], k: Float[Tensor, "b m h_kv d"], v: Float[Tensor, "b m h_kv d"]
) -> Float[Tensor, "b n h_q d"]:
    """Causal grouped-query attention over everything visible."""
    b, n, m, h_kv = q.shape[0], q.shape[1], k.shape[1], k.shape[2]
    mask = causal_mask(n, m, q.device)[None, :, None].expand(b, n, h_kv, m)
    return masked_attention(q, k, v, mask)


@public
def msa_attention(
    q: Float[Tensor, "b n h_q d"],
    k: Float[Tensor, "b m h_kv d"],
    v: Float[Tensor, "b m h_kv d"],
    q_idx: Float[Tensor, "b n h_kv d_idx"],
    k_idx: Float[Tensor, "b m d_idx"],
    config: MSAConfig,
) -> Float[Tensor, "b n h_q d"]:
    """The whole method on one page: score tokens, take block maxima, select, attend."""
    scores = block_max(token_scores(q_idx, k_idx), config.block_size)  # [b, n, h_kv, n_blk]
    block_idx = select_blocks(scores.float(), **config.selection)
    return masked_attention(q, k, v, block_sparse_mask(block_idx, k.shape[1], config.block_size))


@public(block_size=1)
def attend_query_outer(
    q: Float[Tensor, "b n h_q d"],
    k: Float[Tensor, "b m h_kv d"],
    v: Float[Tensor, "b m h_kv d"],
    block_idx: Int[Tensor, "b n h_kv n_sel"],
    *,
    block_size: int,
) -> Float[Tensor, "b n h_q d"]:
    """The same attention, one query and group at a time: gather its blocks, then softmax.

    Each gathered key feeds only the G heads of one group (section 4, Eq. 13).
    """
    grouped = group_queries(q, k.shape[2])
    n, m = q.shape[1], k.shape[1]
    out = torch.zeros_like(grouped)
    for b, i, r in itertools.product(*map(range, block_idx.shape[:3])):
        tokens = [
            token
            for block in block_idx[b, i, r].tolist()
            if block >= 0
            for token in range(block * block_size, min((block + 1) * block_size, m))
            if token <= m - n + i
        ]
        if tokens:
            scores = grouped[b, i, r] @ k[b, tokens, r].T / math.sqrt(q.shape[-1])  # [g, tokens]
            out[b, i, r] = scores.softmax(-1) @ v[b, tokens, r]
    return out.flatten(2, 3)


@public(block_size=1)
def attend_kv_outer(
    q: Float[Tensor, "b n h_q d"],
    k: Float[Tensor, "b m h_kv d"],
    v: Float[Tensor, "b m h_kv d"],
    block_idx: Int[Tensor, "b n h_kv n_sel"],
    *,
    block_size: int,
) -> Float[Tensor, "b n h_q d"]:
    """The same attention, one key block and KV head at a time: gather the queries that chose it.

    A query's partial output for its s-th block goes to slot s, so no two blocks write to the same
    place; `merge_partials` joins the slots (section 4, Eq. 15).
    """
    grouped = group_queries(q, k.shape[2])
    n, m = q.shape[1], k.shape[1]
    slots = block_idx.shape[-1]
    partial = grouped.new_zeros(*grouped.shape[:4], slots, q.shape[-1])
    lse = grouped.new_full((*grouped.shape[:4], slots), -math.inf)
    for start in range(0, m, block_size):
        tokens = torch.arange(start, min(start + block_size, m), device=q.device)
        for r in range(k.shape[2]):
            b, i, s = (block_idx[:, :, r] == start // block_size).nonzero().unbind(1)
            sees = start <= m - n + i  # a block wholly in a query's future adds nothing
            b, i, s = b[sees], i[sees], s[sees]
            scores = torch.einsum("egd,etd->egt", grouped[b, i, r], k[b][:, tokens, r])
            future = tokens > m - n + i[:, None]  # [edges, tokens]
            scores = (scores / math.sqrt(q.shape[-1])).masked_fill(future[:, None], -math.inf)
            partial[b, i, r, :, s] = scores.softmax(-1) @ v[b][:, tokens, r]
            lse[b, i, r, :, s] = scores.logsumexp(-1)
    return merge_partials(partial.flatten(2, 3), lse.flatten(2, 3))


@public
def merge_partials(
    partial: Float[Tensor, "b n h_q n_sel d"], lse: Float[Tensor, "b n h_q n_sel"]
) -> Float[Tensor, "b n h_q d"]:
    """Join locally normalised outputs: weight each by exp(its LSE - the LSE of all).

    An empty slot holds zeros and LSE -inf; a query with empty slots only gets 0.
    """
    total = lse.logsumexp(-1, keepdim=True)
    weight = (lse - total.masked_fill(total == -math.inf, 0)).exp()
    return (weight[..., None] * partial).sum(-2)


@public(n_groups=1)
def group_queries(
    per_head: Float[Tensor, "*rows h_q d"], n_groups: int
) -> Float[Tensor, "*rows h_kv group d"]:
    """Split query heads, or anything held per query head, into the groups that share a KV head.

    Raises:
        ValueError: the heads do not divide into that many groups.
    """
    if per_head.shape[-2] % n_groups:
        raise ValueError(
            f"{per_head.shape[-2]} query heads do not form {n_groups} equal groups, one per KV "
            "head."
        )
    return per_head.unflatten(-2, (n_groups, -1))


# -------------------------------------------------------------- selectors without training


@public
def main_scores(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"]
) -> Float[Tensor, "n h_q m"]:
    """Scaled scores of the main heads, -inf for tokens in the future."""
    if len(k) < len(q):
        raise ValueError(
            f"{len(k)} keys for {len(q)} queries: the queries must be the last of the tokens."
        )
    grouped = group_queries(q, k.shape[1])
    scores = torch.einsum("nhgd,mhd->nhgm", grouped, k).flatten(1, 2) / math.sqrt(q.shape[-1])
    return scores.masked_fill(~causal_mask(len(q), len(k), q.device)[:, None], -math.inf)


def _main_score_chunks(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"]
) -> Iterator[tuple[slice, Float[Tensor, "rows h_q seen"]]]:
    """`main_scores` for a few queries at a time, over the keys that these queries can see.

    About 16 million scores are alive at once, whatever the context.
    """
    n, m = len(q), len(k)
    rows = min(128, max(1, 2**24 // (q.shape[1] * m)))
    for start in range(0, n, rows):
        end = min(start + rows, n)
        yield slice(start, end), main_scores(q[start:end], k[: m - n + end])


@public
def oracle_scores(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"], *, block_size: int
) -> Float[Tensor, "n h_kv n_blk"]:
    """The block masses themselves: the selection that keeps most of dense attention."""
    mass = block_mass(q, k, block_size=block_size)
    return mass.masked_fill(_future_blocks(len(q), len(k), block_size, q.device), -math.inf)


def _future_blocks(
    n: int, m: int, block_size: int, device: torch.device
) -> Bool[Tensor, "n 1 n_blk"]:
    """True for blocks that begin after the query."""
    start = torch.arange(0, m, block_size, device=device)
    return (start > torch.arange(m - n, m, device=device)[:, None])[:, None]


@public(block_size=1)
def max_pooled_scores(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"], *, block_size: int
) -> Float[Tensor, "n h_kv n_blk"]:
    """Greatest main score of a block, over its visible tokens and over the group's heads."""
    return _pooled_scores(q, k, block_size, block_max)


@public(block_size=1)
def mean_pooled_scores(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"], *, block_size: int
) -> Float[Tensor, "n h_kv n_blk"]:
    """Mean over a block's visible tokens of the greatest main score among the group's heads.

    It differs from `max_pooled_scores` in nothing but the pooling over tokens.
    """
    return _pooled_scores(q, k, block_size, block_mean)


def _pooled_scores(
    q: Tensor, k: Tensor, block_size: int, pool: Callable[[Tensor, int], Tensor]
) -> Tensor:
    pooled = q.new_full((len(q), k.shape[1], math.ceil(len(k) / block_size)), -math.inf)
    for rows, scores in _main_score_chunks(q, k):
        blocks = pool(group_queries(scores, k.shape[1]).amax(2), block_size)
        pooled[rows, :, : blocks.shape[-1]] = blocks
    return pooled


@public
def mean_key_scores(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"], *, block_size: int
) -> Float[Tensor, "n h_kv n_blk"]:
    """Scaled product of the group's mean query with the mean of a block's visible keys.

    One product per block in place of one per token: the cheap selector of MoBA. A dot product is
    linear, so this equals the mean of the scores themselves.
    """
    n, m, d = len(q), len(k), q.shape[-1]
    query = group_queries(q, k.shape[1]).mean(2)  # [n, h_kv, d]
    blocks = split_blocks(k.movedim(0, -1), block_size, fill=0.0)  # [h_kv, d, n_blk, block_size]
    running = blocks.cumsum(-1) / torch.arange(1, block_size + 1, device=q.device)
    scores = torch.einsum("nhd,hdj->nhj", query, running[..., -1])  # right for whole blocks

    position = torch.arange(m - n, m, device=q.device)
    local = position // block_size
    seen_part = running.flatten(-2)[..., position]  # [h_kv, d, n] mean of local keys up to each
    scores[torch.arange(n, device=q.device), :, local] = torch.einsum(
        "nhd,hdn->nh", query, seen_part
    )
    return scores.masked_fill(_future_blocks(n, m, block_size, q.device), -math.inf) / math.sqrt(d)


@public(block_size=1)
def window_scores(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"], *, block_size: int
) -> Float[Tensor, "n h_kv n_blk"]:
    """Block 0 first, then the most recent blocks: a sliding window with a sink (App. B.6)."""
    n, m = len(q), len(k)
    recency = torch.arange(math.ceil(m / block_size), dtype=q.dtype, device=q.device)
    recency[0] = len(recency)
    rows = recency.masked_fill(_future_blocks(n, m, block_size, q.device), -math.inf)
    return rows.repeat(1, k.shape[1], 1)


Selector = Callable[..., Float[Tensor, "n h_kv n_blk"]]

SELECTORS: dict[str, Selector] = {
    "oracle": oracle_scores,
    "main_max": max_pooled_scores,
    "main_mean": mean_pooled_scores,
    "block_mean_keys": mean_key_scores,
    "window_sink": window_scores,
}


@public
def selector_scores(
    selector: str,
    q: Float[Tensor, "n h_q d"],
    k: Float[Tensor, "m h_kv d"],
    *,
    block_size: int,
) -> Float[Tensor, "n h_kv n_blk"]:
    """Block scores of one of the `SELECTORS`, -inf where nothing is visible.

    Raises:
        ValueError: there is no selector of that name.
    """
    if selector not in SELECTORS:
        raise ValueError(f"selector={selector!r} is unknown; choose one of {', '.join(SELECTORS)}.")
    return SELECTORS[selector](q, k, block_size=block_size)


# -------------------------------------------------------------------------------- measures


@public
def mass_captured(
    mass: Float[Tensor, "*rows n_blk"], block_idx: Int[Tensor, "*rows n_sel"]
) -> Float[Tensor, "*rows"]:
    """Share of dense attention that the selected blocks hold, in [0, 1].

    Args:
        mass: from `block_mass`; `block_idx`: selected ids, where -1 marks an empty slot.

    Raises:
        ValueError: an id of no block.
    """
    if (
        block_idx.numel()
        and not -1 <= int(block_idx.min()) <= int(block_idx.max()) < mass.shape[-1]
    ):
        raise ValueError(f"block_idx must lie in [-1, {mass.shape[-1]}), the blocks of mass.")
    held = mass.gather(-1, block_idx.clamp(min=0).long())
    return held.masked_fill(block_idx < 0, 0).sum(-1)


def _shared(
    selected: Int[Tensor, "*rows n_sel"], best: Int[Tensor, "*rows n_best"]
) -> Bool[Tensor, "*rows n_best"]:
    """True for the entries of `best` that `selected` also holds."""
    if selected.shape != best.shape:
        raise ValueError(f"budgets differ: {tuple(selected.shape)} and {tuple(best.shape)}.")
    return (best[..., :, None] == selected[..., None, :]).any(-1) & (best >= 0)


@public
def block_recall(
    selected: Int[Tensor, "*rows n_sel"], best: Int[Tensor, "*rows n_best"]
) -> Float[Tensor, "*rows"]:
    """Share of the main attention's best blocks that were selected, in [0, 1].

    Args:
        selected: block ids from the selector; -1 marks an unused slot.
        best: block ids from the main attention mass, same budget, same padding.

    Raises:
        ValueError: the two budgets differ.

    Source: arXiv:2606.13392v2, Fig. 3 ("block recall").
    """
    return _shared(selected, best).sum(-1) / (best >= 0).sum(-1).clamp(min=1)


@public
def score_recall(
    mass: Float[Tensor, "*rows n_blk"],
    selected: Int[Tensor, "*rows n_sel"],
    best: Int[Tensor, "*rows n_best"],
) -> Float[Tensor, "*rows"]:
    """Main attention mass on the best blocks that were also selected, in [0, 1].

    Arguments and errors as in `mass_captured` and `block_recall`.

    Source: arXiv:2606.13392v2, Fig. 3 ("score recall").
    """
    return mass_captured(mass, best.masked_fill(~_shared(selected, best), -1))


@public
def group_overlap(block_idx: Int[Tensor, "n h_kv n_sel"]) -> Float[Tensor, "n h_kv h_kv"]:
    """Share of one group's blocks that another group also chose, for every pair of groups.

    Symmetric, as every group of a query selects equally many blocks; 1 on the diagonal.
    """
    same = block_idx[:, :, None, :, None] == block_idx[:, None, :, None, :]
    same &= block_idx[:, :, None, :, None] >= 0  # [n, h_kv, h_kv, n_sel, n_sel]
    return same.sum((-1, -2)) / (block_idx >= 0).sum(-1).clamp(min=1)[:, :, None]


# ------------------------------------------------------------------------------------- toy


@public(block_size=1, d=1)
def planted_needle(
    n: int,
    block_size: int,
    d: int,
    seed: int,
    *,
    needle: int,
    strength: float = 8.0,
    drag: float = 1.0,
) -> tuple[Float[Tensor, "1 1 d"], Float[Tensor, "n 1 d"]]:
    """One query, the last of `n` tokens, and keys among which a single one answers it strongly.

    Ordinary tokens score about 0 with standard deviation 1. The needle scores `strength`; its
    neighbours in the block score `drag` lower than ordinary ones, so that on average the needle's
    block looks poor while its best token is by far the best of all.

    Args:
        n: tokens; `block_size`: tokens per block; `d`: channels.
        seed: of a local generator.
        needle: position of the strong token.
        strength: score of the needle, in units of the ordinary scores' spread.
        drag: by how much its neighbours score lower.

    Returns:
        The query and the keys of one head.

    Raises:
        ValueError: the needle lies outside the sequence.
    """
    if not 0 <= needle < n:
        raise ValueError(f"needle={needle} must be a position from 0 to {n - 1}.")
    generator = seeded(seed)
    like = {"generator": generator, "dtype": torch.float32, "device": generator.device}
    scores = torch.randn(n, **like)
    first = needle // block_size * block_size
    scores[first : first + block_size] -= drag
    scores[needle] = strength
    direction = torch.randn(d, **like)
    direction /= direction.norm()
    sideways = torch.randn(n, d, **like)
    sideways -= (sideways @ direction)[:, None] * direction  # adds nothing to any score
    keys = scores[:, None] * direction + sideways
    query = math.sqrt(d) * direction  # undoes the 1/√d of the scores
    return query[None, None], keys[:, None]
