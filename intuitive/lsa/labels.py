"""Label factory: from the native index logits of a frozen model to what a window will need.

    softmax over a layer's best chunks -> the fewest that reach top_p -> votes of the layers
    -> golden chunks of a step -> their union over the steps that a trigger serves

`make_labels` keeps the result of every stage. Nothing here is learned.

Source: arXiv:2606.09079v2, section 2.2, Eqs. 7-11, and the repository.
Differs: a label names only chunks that exist at the trigger. The repository does not filter, so
that a chunk written inside the window may count for or against a prediction made before it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.inputs import public

from .config import LSAConfig

ROUNDING = 1e-9  # of a sum of probabilities: six of ten equal chunks do reach 0.6
NUMBERS_AT_A_TIME = 2**22  # logits that are ranked together: memory does not follow the steps


@dataclass(frozen=True, eq=False)
class Labels:
    """What each stage of the label factory made of one document."""

    probabilities: Float[Tensor, "steps layers chunks"]  # 0 outside a layer's best top_k
    nucleus: Bool[Tensor, "steps layers chunks"]  # the fewest chunks that reach top_p
    votes: Int[Tensor, "steps chunks"]  # layers whose nucleus holds the chunk
    golden: Bool[Tensor, "steps chunks"]  # enough votes
    naive: Bool[Tensor, "windows chunks"]  # union of every layer's top_k: no filter at all
    windows: Bool[Tensor, "windows chunks"]  # the labels


@public(empty="*")
def top_k_softmax(
    logits: Float[Tensor, "*rows chunks"], top_k: int
) -> tuple[Float[Tensor, "*rows k"], Int[Tensor, "*rows k"]]:
    """Softmax over the `top_k` greatest logits of every row, the lower chunk first on a tie.

    Args:
        logits: -inf marks chunks that do not exist.
        top_k: how many compete; fewer where fewer exist.

    Returns:
        Probabilities in float64, falling along a row, and their chunks. A row without chunks has
        probability 0 everywhere.

    Raises:
        ValueError: `top_k` below 1; a logit is NaN or +inf.
    """
    top_k = whole("top_k", top_k, low=1)
    if bool((logits.isnan() | (logits == torch.inf)).any()):
        raise ValueError("logits hold NaN or +inf: only -inf has a meaning, a missing chunk.")
    ranked, chunks = logits.double().sort(dim=-1, descending=True, stable=True)
    ranked, chunks = ranked[..., :top_k], chunks[..., :top_k]
    return ranked.softmax(-1).nan_to_num(0.0), chunks  # NaN: a row of -inf


@public(empty="*")
def nucleus(probabilities: Float[Tensor, "*rows k"], top_p: float | int) -> Bool[Tensor, "*rows k"]:
    """The first entries of rows that fall, up to and with the one that brings the sum to `top_p`.

    Raises:
        ValueError: `top_p` outside (0, 1].
    """
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must lie in (0, 1]: it is a share of probability.")
    before = probabilities.cumsum(-1) - probabilities
    short = before < top_p - ROUNDING if top_p < 1 else torch.ones_like(before, dtype=torch.bool)
    return short & (probabilities > 0)


@public(empty="*")
def golden_chunks(
    logits: Float[Tensor, "steps layers chunks"], *, top_k: int, top_p: float | int, votes: int
) -> Bool[Tensor, "steps chunks"]:
    """Chunks that enough layers need at each step.

    Args:
        logits: native index logits; -inf marks chunks that do not exist yet.
        top_k: chunks over which a layer's softmax is taken; ties go to the lower chunk.
        top_p: a layer votes for the fewest of these whose probabilities reach so much.
        votes: layers that must vote for a chunk.

    Raises:
        ValueError: a setting out of range; a logit is NaN or +inf.

    Source: arXiv:2606.09079v2, Eqs. 7-10; softmax over the top k as in the repository.
    """
    return count_votes(logits, top_k=top_k, top_p=top_p) >= _check_votes(votes, logits.shape[1])


@public(empty="*")
def count_votes(
    logits: Float[Tensor, "steps layers chunks"], *, top_k: int, top_p: float | int
) -> Int[Tensor, "steps chunks"]:
    """How many layers' nuclei hold each chunk; arguments and errors as in `golden_chunks`."""
    at_a_time = max(NUMBERS_AT_A_TIME // max(logits[:1].numel(), 1), 1)  # steps
    counted = [
        _spread(nucleus(p, top_p), chunks, logits.shape[-1]).sum(1)
        for part in logits.split(at_a_time)
        for p, chunks in (top_k_softmax(part, top_k),)
    ]
    if not counted:
        return torch.zeros(0, logits.shape[-1], dtype=torch.int64, device=logits.device)
    return torch.cat(counted)


@public(empty="*")
def window_labels(
    golden: Bool[Tensor, "steps chunks"],
    closed: Int[Tensor, " steps"],
    *,
    lookahead: int,
    stride: int | None = None,
) -> Bool[Tensor, "windows chunks"]:
    """What the steps after each trigger will need, of the chunks that exist at the trigger.

    Args:
        golden: golden chunks of each decode step.
        closed: `closed[t]` chunks exist at step t: chunks 0 … closed[t] - 1.
        lookahead: steps that one trigger serves, its own included.
        stride: steps between triggers; `lookahead` if None, as in decoding. With 1 every step is
            a trigger, as in training.

    Returns:
        One row per trigger, at t = 0, stride, …; a last window may be shorter.

    Raises:
        ValueError: `lookahead` or `stride` below 1; `closed` of another length, or out of range.

    Source: arXiv:2606.09079v2, Eq. 11. Differs: causal, see above.
    """
    lookahead = whole("lookahead", lookahead, low=1, why="the trigger's own step is served too")
    stride = lookahead if stride is None else whole("stride", stride, low=1)
    steps, chunks = golden.shape
    if steps and not 0 <= int(closed.min()) <= int(closed.max()) <= chunks:
        raise ValueError(f"closed={closed.tolist()} must lie in [0, {chunks}], the chunks there.")
    # Sums over steps make the union of any stretch a difference of two rows.
    seen = torch.zeros(steps + 1, chunks, dtype=torch.int64, device=golden.device)
    torch.cumsum(golden.long(), 0, out=seen[1:])
    triggers = torch.arange(0, steps, stride, device=golden.device)
    needed = seen[(triggers + lookahead).clamp(max=steps)] > seen[triggers]
    exists = torch.arange(chunks, device=golden.device) < closed[triggers, None]
    return needed & exists


@public(empty="*")
def make_labels(
    logits: Float[Tensor, "steps layers chunks"],
    closed: Int[Tensor, " steps"],
    config: LSAConfig,
    *,
    lookahead: int | None = None,
) -> Labels:
    """Run the factory on one document and keep every stage, to be looked at.

    Args:
        logits: native index logits of all CSA layers; -inf marks chunks that do not exist yet.
        closed: chunks that exist at each step.
        config: `label_top_k`, `label_top_p`, `label_votes` and `lookahead`.
        lookahead: another one than the config's.

    Raises:
        ValueError: as in `golden_chunks` and `window_labels`.
    """
    lookahead = config.lookahead if lookahead is None else lookahead
    chunks = logits.shape[-1]
    p, order = top_k_softmax(logits, config.label_top_k)
    probabilities = torch.zeros(logits.shape, dtype=p.dtype, device=p.device).scatter(-1, order, p)
    kept = _spread(nucleus(p, config.label_top_p), order, chunks)
    votes = kept.sum(1)
    golden = votes >= _check_votes(config.label_votes, logits.shape[1])
    picked = _spread(p > 0, order, chunks).any(1)
    return Labels(
        probabilities=probabilities.float(),
        nucleus=kept,
        votes=votes,
        golden=golden,
        naive=window_labels(picked, closed, lookahead=lookahead),
        windows=window_labels(golden, closed, lookahead=lookahead),
    )


@public(empty="*")
def positive_weights(
    golden: Bool[Tensor, "steps chunks"], *, common: float = 0.8, weight: float = 0.5
) -> Float[Tensor, " chunks"]:
    """Loss weight of each chunk as a positive: `weight` if golden in over `common` of all steps.

    Raises:
        ValueError: no steps.

    Source: the repository's training code.
    """
    if not len(golden):
        raise ValueError("golden has no steps: there is nothing to weigh.")
    often = golden.float().mean(0) > common
    ones = torch.ones_like(often, dtype=torch.float64)
    return torch.where(often, weight * ones, ones).float()


def _check_votes(votes: int, layers: int) -> int:
    return whole("votes", votes, low=1, high=layers, why="they are votes of the layers given")


def _spread(
    chosen: Bool[Tensor, "*rows k"], chunks: Int[Tensor, "*rows k"], n: int
) -> Bool[Tensor, "*rows n"]:
    """True at the chosen chunks."""
    rows = torch.zeros(*chosen.shape[:-1], n, dtype=torch.bool, device=chosen.device)
    return rows.scatter(-1, chunks, chosen)
