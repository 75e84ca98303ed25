"""What a student is charged for at one position: divergences between next-token distributions.

Every function takes logits [..., v] of the teacher and of the student, any number of leading
axes, and returns one value per position [...] in nats, computed in float32 or wider. The teacher
is a constant: gradients reach the student's logits alone, also where the teacher's require them.

A logit of -inf is a token of probability zero. Such tokens follow 0 log 0 = 0: a value is finite
where the mathematics is finite and +inf where it is infinite, and nothing is ever NaN. Where a
value is +inf its gradient is that of the finite terms.

All raise ValueError for shapes that disagree, integers, an empty vocabulary, NaN or +inf among
the logits, or a row without any possible token. `check=False` skips the look at the values, which
on a GPU waits for the device.

Source: Jiang et al. 2026, arXiv:2606.08432, sections 3 to 5; Agarwal et al. 2023,
arXiv:2306.13649 (generalised Jensen-Shannon).
"""

import math
from typing import SupportsIndex

import torch
from torch import Tensor

# Shapes are checked here, not by annotations: these are inputs that learners supply.

# ------------------------------------------------------------------------------ distributions


def check_distribution(p: Tensor, *, name: str = "p") -> None:
    """Do nothing if p [..., v] holds probabilities that sum to one over its last axis.

    Raises:
        ValueError: no tensor, not floating, empty, NaN, below 0, or a sum further from 1 than 1e-4
            or the dtype's rounding.
    """
    _check_tensor(name, p)
    if not p.is_floating_point() or p.dim() == 0 or p.shape[-1] == 0:
        raise ValueError(
            f"{name} is {p.dtype} of shape {tuple(p.shape)}: floating probabilities [..., v] with "
            "at least one entry are needed."
        )
    if p.isnan().any():
        raise ValueError(f"{name} holds NaN: look for the step that made it.")
    if (p < 0).any():
        raise ValueError(f"{name} holds {float(p.min()):g}: probabilities are not negative.")
    off = (p.double().sum(-1) - 1).abs()
    if (off > max(1e-4, torch.finfo(p.dtype).eps)).any():
        worst = float(p.double().sum(-1).flatten()[off.argmax()])
        raise ValueError(
            f"{name} sums to {worst:g} over its last axis, not to 1: divide it by its sum."
        )


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}: pass torch.tensor(...) instead.")


def as_logits(p: Tensor) -> Tensor:
    """Logits of probabilities [..., v], log p; zero becomes -inf. Errors as `check_distribution`.

    The gradient of a zero entry is left out rather than infinite.
    """
    check_distribution(p)
    possible = p > 0
    return torch.where(possible, p, 1.0).log().masked_fill(~possible, -torch.inf)


def log_distributions(
    teacher_logits: Tensor, student_logits: Tensor, *, check: bool = True
) -> tuple[Tensor, Tensor]:
    """(log teacher, log student), each [..., v], normalised; the teacher detached.

    Errors as in this file's opening lines.
    """
    _check_tensor("teacher_logits", teacher_logits)
    _check_tensor("student_logits", student_logits)
    if teacher_logits.shape != student_logits.shape:
        raise ValueError(
            f"teacher_logits have shape {tuple(teacher_logits.shape)} and student_logits "
            f"{tuple(student_logits.shape)}: both need one shape [..., v]."
        )
    for name, logits in (("teacher_logits", teacher_logits), ("student_logits", student_logits)):
        if not logits.is_floating_point() or logits.dim() == 0 or logits.shape[-1] == 0:
            raise ValueError(
                f"{name} are {logits.dtype} of shape {tuple(logits.shape)}: floating numbers "
                "[..., v] with at least one token are needed."
            )
        if check:
            _check_values(name, logits.detach())
    dtype = torch.promote_types(teacher_logits.dtype, student_logits.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    return (
        teacher_logits.detach().to(dtype).log_softmax(-1),
        student_logits.to(dtype).log_softmax(-1),
    )


def _check_values(name: str, logits: Tensor) -> None:
    if logits.isnan().any():
        raise ValueError(f"{name} hold NaN: look for the step that made it.")
    if (logits == torch.inf).any():
        raise ValueError(f"{name} hold +inf: make it the only finite logit of its row instead.")
    empty = (logits == -torch.inf).all(-1)
    if empty.any():
        raise ValueError(
            f"{name} are all -inf in {int(empty.sum())} of {empty.numel()} rows: every row needs "
            "at least one possible token."
        )


def _kl_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """p log(p/q) per token, [..., v]."""
    in_p, in_q = log_p > -torch.inf, log_q > -torch.inf
    both = in_p & in_q
    log_p, log_q = torch.where(both, log_p, 0.0), torch.where(both, log_q, 0.0)
    return (log_p.exp() * (log_p - log_q)).masked_fill(in_p & ~in_q, torch.inf)


def _total(terms: Tensor) -> Tensor:
    """The sum over tokens, [...], of which rounding shall not make anything below 0."""
    total = terms.sum(-1)
    return total + (-total).clamp(min=0).detach()  # a plain clamp would cut the gradient


# ------------------------------------------------------------------- over the whole vocabulary


def forward_kl(teacher_logits: Tensor, student_logits: Tensor, *, check: bool = True) -> Tensor:
    """KL(teacher ‖ student); gradient on the student's logits: student − teacher.

    Logits [..., v]; returns nats [...]. Errors as in this file's opening lines.
    """
    log_t, log_s = log_distributions(teacher_logits, student_logits, check=check)
    return _total(_kl_terms(log_t, log_s))


def reverse_kl(teacher_logits: Tensor, student_logits: Tensor, *, check: bool = True) -> Tensor:
    """KL(student ‖ teacher); gradient: student · (log student − log teacher − its value).

    Logits [..., v]; returns nats [...]. Errors as in this file's opening lines.
    """
    log_t, log_s = log_distributions(teacher_logits, student_logits, check=check)
    return _total(_kl_terms(log_s, log_t))


def jensen_shannon(
    teacher_logits: Tensor, student_logits: Tensor, beta: int | float, *, check: bool = True
) -> Tensor:
    """β KL(teacher ‖ mix) + (1 − β) KL(student ‖ mix), mix = β teacher + (1 − β) student.

    Never above the entropy of (β, 1 − β), ln 2 at β = 1/2. At β = 0 and β = 1 it is 0, as the
    formula says; divided by β it tends to the forward KL as β → 0, divided by 1 − β to the
    reverse KL as β → 1.

    Args:
        teacher_logits: [..., v].
        student_logits: [..., v].
        beta: the teacher's share of the mix, in [0, 1].
        check: as in this file's opening lines.

    Returns:
        Nats, [...].

    Raises:
        ValueError: `beta` out of range, or as in this file's opening lines.

    Source: arXiv:2306.13649, section 2.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta={beta} must lie in [0, 1]: it is the teacher's share of the mix.")
    log_t, log_s = log_distributions(teacher_logits, student_logits, check=check)
    if beta in (0, 1):
        return 0.0 * log_s.exp().sum(-1)
    neither = (log_t == -torch.inf) & (log_s == -torch.inf)
    log_mix = torch.logaddexp(
        torch.where(neither, 0.0, log_t) + math.log(beta),
        torch.where(neither, 0.0, log_s) + math.log1p(-beta),
    )
    terms = beta * _kl_terms(log_t, log_mix) + (1 - beta) * _kl_terms(log_s, log_mix)
    return _total(terms)


def clipped_forward_kl(
    teacher_logits: Tensor, student_logits: Tensor, cap: int | float, *, check: bool = True
) -> Tensor:
    """Forward KL, held at `cap` nats after the sum over the vocabulary.

    A gate rather than a brake: above the cap the position's whole gradient is zero.

    Args:
        teacher_logits: [..., v].
        student_logits: [..., v].
        cap: nats, above 0; the paper's release uses 0.1.
        check: as in this file's opening lines.

    Returns:
        Nats in [0, cap], [...].

    Raises:
        ValueError: `cap` is not above 0, or as in this file's opening lines.
    """
    _check_cap(cap)
    return forward_kl(teacher_logits, student_logits, check=check).clamp(max=cap)


def entrywise_clipped_forward_kl(
    teacher_logits: Tensor, student_logits: Tensor, cap: int | float, *, check: bool = True
) -> Tensor:
    """Forward KL with every token's term held at `cap` nats before the sum.

    Only the tokens above the cap lose their gradient. Terms may be negative, so the sum may be
    too. Arguments and errors as in `clipped_forward_kl`.
    """
    _check_cap(cap)
    log_t, log_s = log_distributions(teacher_logits, student_logits, check=check)
    return _kl_terms(log_t, log_s).clamp(max=cap).sum(-1)


def _check_cap(cap: int | float) -> None:
    if not cap > 0:
        raise ValueError(f"cap={cap} must be above 0 nats: at 0 nothing would be learned.")


def entropy_weighted_forward_kl(
    teacher_logits: Tensor, student_logits: Tensor, *, check: bool = True
) -> Tensor:
    """Forward KL times 1 − H(teacher) / ln v: positions where the teacher is sure count more.

    Differs: the weight is a choice of ours in [0, 1]; the paper names reweighting by entropy as
    one of the fixes at the level of tokens, and its exact weight was not at hand.

    Logits [..., v]; returns nats [...]. Errors as in this file's opening lines.
    """
    log_t, log_s = log_distributions(teacher_logits, student_logits, check=check)
    entropy = -(log_t.exp() * log_t.masked_fill(log_t == -torch.inf, 0.0)).sum(-1)
    v = log_t.shape[-1]
    weight = 1 - entropy / math.log(v) if v > 1 else torch.ones_like(entropy)
    kl = _total(_kl_terms(log_t, log_s))
    return torch.where(weight > 0, weight.clamp(min=0) * kl, 0.0)


# ------------------------------------------------------------------------- on the teacher's best


def topk_reverse_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    k: SupportsIndex | float,
    tail: bool = False,
    *,
    check: bool = True,
) -> Tensor:
    """Reverse KL on the teacher's k likeliest tokens; of equal ones the lower ids are taken.

    Without `tail` both sides are renormalised on those k, so what the student puts elsewhere
    costs nothing. With it neither is: the rest of the vocabulary is one more token.

    Args:
        teacher_logits: [..., v].
        student_logits: [..., v].
        k: tokens kept, a whole number in [1, v]; at v this is `reverse_kl`.
        tail: keep the rest as one bucket.
        check: as in this file's opening lines.

    Returns:
        Nats, [...]; +inf where the student gives all k tokens probability zero.

    Raises:
        ValueError: `k` not whole or out of range, or as in this file's opening lines.
    """
    log_t, log_s = log_distributions(teacher_logits, student_logits, check=check)
    v = log_t.shape[-1]
    if not (hasattr(k, "__index__") and 1 <= k <= v) or isinstance(k, bool):
        raise ValueError(f"k={k} must lie in [1, {v}], a whole number of the {v} tokens there are.")
    best = log_t.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    top_t, top_s = log_t.gather(-1, best), log_s.gather(-1, best)  # [..., k]
    if tail:
        rest = torch.ones_like(log_t, dtype=torch.bool).scatter(-1, best, False)
        top_t = torch.cat((top_t, _log_mass(log_t, rest)[..., None]), dim=-1)
        top_s = torch.cat((top_s, _log_mass(log_s, rest)[..., None]), dim=-1)
        return _total(_kl_terms(top_s, top_t))
    lost = (top_s == -torch.inf).all(-1)
    top_s = torch.where(lost[..., None], 0.0, top_s)
    kl = _total(_kl_terms(top_s.log_softmax(-1), top_t.log_softmax(-1)))
    return kl.masked_fill(lost, torch.inf)


def _log_mass(log_p: Tensor, chosen: Tensor) -> Tensor:
    """Log of the probability of the chosen tokens together, [...]; -inf for none."""
    chosen = chosen & (log_p > -torch.inf)
    none = ~chosen.any(-1)
    kept = log_p.masked_fill(~chosen, -torch.inf)
    return torch.where(none[..., None], 0.0, kept).logsumexp(-1).masked_fill(none, -torch.inf)


# ------------------------------------------------------------------------- on one sampled token


def policy_gradient_loss(
    teacher_logits: Tensor, student_logits: Tensor, tokens: Tensor, *, check: bool = True
) -> Tensor:
    """−A log student(y), with the advantage A = log teacher(y) − log student(y) held constant.

    On the student's own samples its expected gradient is that of the reverse KL. Only the
    gradient has a meaning, the value has none.

    Args:
        teacher_logits: [..., v].
        student_logits: [..., v].
        tokens: sampled token ids [...], in [0, v).
        check: as in this file's opening lines.

    Returns:
        [...].

    Raises:
        ValueError: tokens of another shape or out of range; a token that the teacher or the
            student calls impossible; or as in this file's opening lines.

    Source: arXiv:2606.08432, appendix A, without the future terms.
    """
    log_t, log_s = _at_tokens(teacher_logits, student_logits, tokens, check)
    return -(log_t - log_s.detach()) * log_s


def monte_carlo_forward_kl(
    teacher_logits: Tensor, student_logits: Tensor, tokens: Tensor, *, check: bool = True
) -> Tensor:
    """log teacher(y) − log student(y): as a loss a trap.

    In expectation over the teacher's samples this is the forward KL, but its gradient,
    −∇ log student(y), knows nothing of the teacher: on the student's own samples it imitates
    itself, on others it is plain SFT. Arguments and errors as in `policy_gradient_loss`.
    """
    log_t, log_s = _at_tokens(teacher_logits, student_logits, tokens, check)
    return log_t - log_s


def k3(
    teacher_logits: Tensor, student_logits: Tensor, tokens: Tensor, *, check: bool = True
) -> Tensor:
    """e^r − 1 − r with r = log teacher(y) − log student(y), on the student's samples.

    An estimate of the reverse KL, never negative; differentiated as a loss, its expected
    gradient is that of the *forward* KL. Arguments and errors as in `policy_gradient_loss`.
    """
    log_t, log_s = _at_tokens(teacher_logits, student_logits, tokens, check)
    r = log_t - log_s
    return r.expm1() - r


def _at_tokens(
    teacher_logits: Tensor, student_logits: Tensor, tokens: Tensor, check: bool
) -> tuple[Tensor, Tensor]:
    """(log teacher, log student) of the tokens, each [...]."""
    log_t, log_s = log_distributions(teacher_logits, student_logits, check=check)
    v = log_t.shape[-1]
    if tokens.shape != log_t.shape[:-1] or tokens.is_floating_point():
        raise ValueError(
            f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}: integers of shape "
            f"{tuple(log_t.shape[:-1])}, one per position, are needed."
        )
    if check and tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < v:
        raise ValueError(
            f"tokens from {int(tokens.min())} to {int(tokens.max())} must lie in [0, {v})."
        )
    at = tokens.long()[..., None]
    log_t, log_s = log_t.gather(-1, at)[..., 0], log_s.gather(-1, at)[..., 0]
    if check:
        for name, log_p in (("teacher", log_t), ("student", log_s)):
            if (log_p == -torch.inf).any():
                raise ValueError(
                    f"the {name} gives {int((log_p == -torch.inf).sum())} of the tokens "
                    "probability zero: smooth it, or use a divergence over the whole vocabulary."
                )
    return log_t, log_s
