"""KL alignment: the Index Branch learns to imitate the main attention, and sends nothing back.

    support = causal_support(...)                    # warm-up: the whole causal row
    support = block_sparse_mask(block_idx, m, size)  # sparse phase: the selected tokens
    teacher = teacher_probabilities(main_scores, support)
    loss = index_kl(token_scores(q_idx, k_idx), teacher, support)

`layer_kl` is these lines for one layer of a decoder. Selection passes no gradient, so this loss is
all that ever trains the Index Branch. Scores come as `[..., h, m]`, as from
`reference.token_scores` and `reference.main_scores`; a `support` is True where a distribution may
put probability.

Source: arXiv:2606.13392v2, section 3.2, Eqs. 9-10.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.decoder import Seen, causal_mask
from intuitive.kernels import select_blocks

from .config import MSAConfig
from .model import MSAAttention
from .reference import (
    _future_blocks,
    block_recall,
    block_sparse_mask,
    group_queries,
    main_scores,
    mass_captured,
    score_recall,
    split_blocks,
    token_scores,
)


def causal_support(
    n: int, m: int, n_kv_heads: int, device: torch.device | str = "cpu"
) -> Bool[Tensor, "n h_kv m"]:
    """The support of warm-up: every token that the last n of m tokens can see, in every group."""
    return causal_mask(n, m, device)[:, None].expand(n, n_kv_heads, m)


def teacher_probabilities(
    scores: Float[Tensor, "*rows h_q m"],
    support: Bool[Tensor, "*rows h_kv m"],
    *,
    detach: bool = True,
) -> Float[Tensor, "*rows h_kv m"]:
    """What the main heads of a group read on average: the target of the index scores.

    Every head's scores become probabilities over the support first and are averaged then. A mean
    of scores followed by one softmax would be another, usually sharper, distribution.

    Args:
        scores: scaled scores of the main heads; values outside the support do not matter.
        support: the whole causal row in warm-up, the selected tokens in the sparse phase.
        detach: False lets the KL move the main heads as well, the ablation of App. B.3.

    Returns:
        Probabilities that sum to 1 over the support and are 0 outside it; a row without support
        is 0 throughout.

    Raises:
        ValueError: the query heads form no equal groups.

    Source: arXiv:2606.13392v2, Eq. 9.
    """
    grouped = group_queries(scores.detach() if detach else scores, support.shape[-2])
    allowed = support[..., None, :]  # [..., h_kv, group, m], as grouped
    return _confine(grouped, allowed).softmax(-1).masked_fill(~allowed, 0).mean(-2)


def index_kl(
    index_scores: Float[Tensor, "*rows h_kv m"],
    teacher: Float[Tensor, "*rows h_kv m"],
    support: Bool[Tensor, "*rows h_kv m"],
) -> Float[Tensor, ""]:
    """KL(teacher‖index) in nats, averaged over queries and groups.

    The gradient on an index score inside the support is (P_idx - P) / (N·H_kv), with N queries in
    all; outside it is 0, so a token that is never selected is never corrected.

    Args:
        index_scores: scaled by 1/√d_idx, from `reference.token_scores`.
        teacher: from `teacher_probabilities` with the same support.
        support: where both distributions live.

    Source: arXiv:2606.13392v2, Eq. 10.
    """
    log_student = _confine(index_scores, support).log_softmax(-1).masked_fill(~support, 0)
    log_teacher = teacher.clamp(min=torch.finfo(teacher.dtype).tiny).log()
    return (teacher * (log_teacher - log_student)).sum(-1).mean()


def _confine(scores: Tensor, support: Tensor) -> Tensor:
    """Scores that softmax turns into 0 outside the support, without NaN in rows that have none."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return wide.masked_fill(~support, torch.finfo(wide.dtype).min)


def layer_kl(
    attention: MSAAttention, seen: Seen, stretch: slice | None = None, *, detach: bool = True
) -> Float[Tensor, ""]:
    """`index_kl` of one layer on what its attention worked on, over the support of its phase.

    Args:
        attention: where it is `sparse`, the support is the selected tokens, else the causal row.
        seen: from a `Probe` on that layer, of a text read from its beginning.
        stretch: average over these queries only; over all of them if None.
        detach: as in `teacher_probabilities`.

    Source: arXiv:2606.13392v2, Eqs. 9-10.
    """
    start, end, _ = (stretch or slice(None)).indices(seen.q.shape[1])
    b, h_kv, device = len(seen.q), seen.k.shape[2], seen.q.device
    hidden = seen.hidden[:, :end]  # later tokens are in the future of all these queries
    q_idx, k_idx = attention.index(hidden, torch.arange(end, device=device).expand(b, end))
    q_idx = q_idx[:, start:]
    if attention.sparse:
        block_idx = attention.select(q_idx, k_idx)
        support = block_sparse_mask(block_idx, end, attention.msa.block_size)
    else:
        support = causal_support(end - start, end, h_kv, device).expand(b, -1, -1, -1)
    main = batch_main_scores(seen.q[:, start:end], seen.k[:, :end])
    teacher = teacher_probabilities(main, support, detach=detach)
    return index_kl(token_scores(q_idx, k_idx), teacher, support)


def batch_main_scores(
    q: Float[Tensor, "b n h_q d"], k: Float[Tensor, "b m h_kv d"]
) -> Float[Tensor, "b n h_q m"]:
    """`reference.main_scores` of every sequence of a batch."""
    return torch.stack([main_scores(*pair) for pair in zip(q, k, strict=True)])


@dataclass(frozen=True, eq=False)
class Agreement:
    """How well selected blocks serve the main attention, per query and group."""

    mass_captured: Float[Tensor, "b n h_kv"]  # share of dense attention on the selected blocks
    block_recall: Float[Tensor, "b n h_kv"]  # share of the heaviest blocks selected
    score_recall: Float[Tensor, "b n h_kv"]  # share of dense attention on the blocks in both
    teacher_entropy: Float[Tensor, "b n h_kv"]  # nats


def agreement(
    teacher: Float[Tensor, "b n h_kv m"], block_idx: Int[Tensor, "b n h_kv n_sel"], msa: MSAConfig
) -> Agreement:
    """Compare a selection with the best one at the same budget, forced blocks included.

    Args:
        teacher: `teacher_probabilities` over the whole causal row.
        block_idx: selected blocks; -1 marks an empty slot.
        msa: block size and budget of the selection.

    Source: arXiv:2606.13392v2, Fig. 3, for the two recalls.
    """
    n, m = teacher.shape[1], teacher.shape[-1]
    mass = split_blocks(teacher, msa.block_size, fill=0.0).sum(-1)  # [b, n, h_kv, n_blk]
    best = select_blocks(
        mass.float().masked_fill(_future_blocks(n, m, msa.block_size, mass.device), -torch.inf),
        **msa.selection,
    )
    return Agreement(
        mass_captured=mass_captured(mass, block_idx),
        block_recall=block_recall(block_idx, best),
        score_recall=score_recall(mass, block_idx, best),
        teacher_entropy=-torch.xlogy(teacher, teacher).sum(-1),
    )


def choosing(n: int, m: int, msa: MSAConfig) -> Bool[Tensor, " n"]:
    """True for those of the last n of m queries that see more blocks than they may read.

    Before them every selection is complete, so measures are averaged over these queries only.
    """
    return torch.arange(m - n, m) // msa.block_size >= msa.n_selected
