"""Divergences over the whole vocabulary, or over the teacher's likeliest tokens."""

import math
from typing import SupportsIndex

import torch
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.inputs import public

from .inputs import check_logits
from .pieces import charged


@public
def forward_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """KL(teacher ‖ student); gradient on the student's logits: (student − teacher) / T.

    Logits [..., v]; returns nats [...]. Options and errors as in `divergences`' opening lines.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        return total(kl_terms(log_t, log_s))

    return charged(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


@public
def reverse_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """KL(student ‖ teacher); gradient: student · (log student − log teacher − its value) / T.

    Logits [..., v]; returns nats [...]. Options and errors as in `divergences`' opening lines.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        return total(kl_terms(log_s, log_t))

    return charged(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


@public
def jensen_shannon(
    teacher_logits: Tensor,
    student_logits: Tensor,
    beta: int | float,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """β KL(teacher ‖ mix) + (1 − β) KL(student ‖ mix), mix = β teacher + (1 − β) student.

    Never above the entropy of (β, 1 − β), ln 2 at β = 1/2. At β = 0 and β = 1 it is 0, as the
    formula says; divided by β it tends to the forward KL as β → 0, divided by 1 − β to the
    reverse KL as β → 1.

    Args:
        teacher_logits: [..., v].
        student_logits: [..., v].
        beta: the teacher's share of the mix, in [0, 1].
        check, mask, temperature: as in `divergences`' opening lines.

    Returns:
        Nats, [...].

    Raises:
        ValueError: `beta` out of range, or as in `divergences`' opening lines.

    Source: arXiv:2306.13649, section 2.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta={beta} must lie in [0, 1]: it is the teacher's share of the mix.")

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        if beta in (0, 1):
            return 0.0 * (log_s.exp().sum(-1) + log_t.exp().sum(-1))
        neither = (log_t == -torch.inf) & (log_s == -torch.inf)
        log_mix = torch.logaddexp(
            torch.where(neither, 0.0, log_t) + math.log(beta),
            torch.where(neither, 0.0, log_s) + math.log1p(-beta),
        )
        parts = beta * kl_terms(log_t, log_mix) + (1 - beta) * kl_terms(log_s, log_mix)
        return total(parts)

    return charged(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


@public
def clipped_forward_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    cap: int | float,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """Forward KL, held at `cap` nats after the sum over the vocabulary.

    A gate rather than a brake: above the cap the position's whole gradient is zero.

    Args:
        teacher_logits: [..., v].
        student_logits: [..., v].
        cap: nats, above 0; the paper's release uses 0.1.
        check, mask, temperature: as in `divergences`' opening lines.

    Returns:
        Nats in [0, cap], [...].

    Raises:
        ValueError: `cap` is not above 0, or as in `divergences`' opening lines.
    """
    cap = _check_cap(cap)
    nats = forward_kl(
        teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )
    return nats.clamp(max=cap)


@public
def entrywise_clipped_forward_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    cap: int | float,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """Forward KL with every token's term held at `cap` nats before the sum.

    Only the tokens above the cap lose their gradient. Terms may be negative, so the sum may be
    too. Arguments and errors as in `clipped_forward_kl`.
    """
    cap = _check_cap(cap)

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        return kl_terms(log_t, log_s).clamp(max=cap).sum(-1)

    return charged(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


def _check_cap(cap: int | float) -> int | float:
    if not cap > 0:
        raise ValueError(f"cap={cap} must be above 0 nats: at 0 nothing would be learned.")
    return cap if cap < torch.finfo(torch.float32).max else math.inf  # whatever the logits' dtype


@public
def entropy_weighted_forward_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """Forward KL times 1 − H(teacher) / ln v: positions where the teacher is sure count more.

    Differs: the weight is a choice of ours in [0, 1]; the paper names reweighting by entropy as
    one of the fixes at the level of tokens, and its exact weight was not at hand.

    Logits [..., v]; returns nats [...]. Options and errors as in `divergences`' opening lines.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        entropy = -(log_t.exp() * log_t.masked_fill(log_t == -torch.inf, 0.0)).sum(-1)
        v = log_t.shape[-1]
        weight = 1 - entropy / math.log(v) if v > 1 else torch.ones_like(entropy)
        kl = total(kl_terms(log_t, log_s))
        return torch.where(weight <= 0, 0.0, weight.clamp(min=0) * kl)

    return charged(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


@public
def topk_reverse_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    k: SupportsIndex | float,
    tail: bool = False,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """Reverse KL on the teacher's k likeliest tokens; of equal ones the lower ids are taken.

    Without `tail` both sides are renormalised on those k, so what the student puts elsewhere
    costs nothing. With it neither is: the rest of the vocabulary is one more token.

    Args:
        teacher_logits: [..., v].
        student_logits: [..., v].
        k: tokens kept, a whole number in [1, v]; at v this is `reverse_kl`.
        tail: keep the rest as one bucket.
        check, mask, temperature: as in `divergences`' opening lines.

    Returns:
        Nats, [...]; +inf where the student gives all k tokens probability zero.

    Raises:
        ValueError: `k` not whole or out of range, or as in `divergences`' opening lines.
    """
    check_logits(teacher_logits, student_logits, mask, check=False)
    v = teacher_logits.shape[-1]
    n_kept = whole("k", k, low=1, high=v, why=f"{v} tokens are there")

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        best = _likeliest(log_t, n_kept)
        top_t, top_s = log_t.gather(-1, best), log_s.gather(-1, best)  # [..., k]
        if tail:
            rest = torch.ones_like(log_t, dtype=torch.bool).scatter(-1, best, False)
            top_t = torch.cat((top_t, _log_mass(log_t, rest)[..., None]), dim=-1)
            top_s = torch.cat((top_s, _log_mass(log_s, rest)[..., None]), dim=-1)
            return total(kl_terms(top_s, top_t))
        lost = (top_s == -torch.inf).all(-1)
        top_s = torch.where(lost[..., None], 0.0, top_s)
        kl = total(kl_terms(top_s.log_softmax(-1), top_t.log_softmax(-1)))
        return kl.masked_fill(lost, torch.inf)

    return charged(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


def _likeliest(log_p: Tensor, k: int) -> Tensor:
    """Ids of the k likeliest tokens, [..., k]; of equal ones the lower ids.

    `torch.topk` takes any of those that equal the last one, so their places are filled anew.
    """
    v = log_p.shape[-1]
    values, best = log_p.topk(k)
    last = values[..., -1:]
    ids = torch.arange(v, device=log_p.device, dtype=torch.int32)
    equal = torch.where(log_p == last, ids, v).topk(k, largest=False).values  # the lowest ids
    place = torch.arange(k, device=log_p.device) - (values > last).sum(-1, keepdim=True)
    filled = equal.gather(-1, place.clamp(min=0)).clamp(max=v - 1).long()  # v only in rows of NaN
    return torch.where(place < 0, best, filled)


def _log_mass(log_p: Tensor, chosen: Tensor) -> Tensor:
    """Log of the probability of the chosen tokens together, [...]; -inf for none."""
    chosen = chosen & (log_p != -torch.inf)
    none = ~chosen.any(-1)
    kept = log_p.masked_fill(~chosen, -torch.inf)
    return torch.where(none[..., None], 0.0, kept).logsumexp(-1).masked_fill(none, -torch.inf)


def kl_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """p log(p/q) per token, [..., v]; NaN stays NaN."""
    in_p, in_q = log_p != -torch.inf, log_q != -torch.inf
    both = in_p & in_q
    log_p, log_q = torch.where(both, log_p, 0.0), torch.where(both, log_q, 0.0)
    return (log_p.exp() * (log_p - log_q)).masked_fill(in_p & ~in_q, torch.inf)


def total(terms: Tensor) -> Tensor:
    """The sum over tokens, [...], of which rounding shall not make anything below 0."""
    summed = terms.sum(-1)
    return summed + (-summed).clamp(min=0).detach()  # a plain clamp would cut the gradient
