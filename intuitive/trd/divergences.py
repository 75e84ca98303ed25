"""What a student is charged for at one position: divergences between next-token distributions.

Every function takes logits [..., v] of the teacher and of the student, any number of leading
axes, and returns one value per position [...] in nats, computed in float32 or wider. The teacher
is a constant: gradients reach the student's logits alone, also where the teacher's require them.
`DIVERGENCES` lists them all by name, for whoever lets one choose.

A logit of -inf is a token of probability zero. Such tokens follow 0 log 0 = 0: a value is finite
where the mathematics is finite and +inf where it is infinite, and of valid logits nothing is ever
NaN. Where a value is +inf its gradient is that of the finite terms.

All take these too:

    check        False skips the look at the values, which on a GPU waits for the device; NaN among
                 the logits then comes out as NaN
    mask         [...], True where a position counts; the others are 0, get no gradient, and may
                 hold anything
    temperature  T divides both sides' logits before they are compared. The value is that of the two
                 tempered distributions, not multiplied by T or T²; the gradient on the student's
                 own logits therefore carries a factor 1/T

All raise ValueError for shapes that disagree, integers, an empty vocabulary, a mask that is none, a
temperature that is not finite and above 0, NaN or +inf among the logits, or a row without any
possible token.

Large inputs are worked through in pieces of CHUNK logits, and so is their gradient, which computes
every piece again: beyond the inputs, memory holds one piece and, for the gradient, the gradient.
Such a gradient cannot be differentiated again.

Source: Jiang et al. 2026, arXiv:2606.08432, sections 3 to 5; Agarwal et al. 2023,
arXiv:2306.13649 (generalised Jensen-Shannon).
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Shapes are checked here, not by annotations: these are inputs that learners supply.

CHUNK = 1 << 22  # logits that are worked on at once: 16 MiB in float32

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


Terms = Callable[..., Tensor]  # (log teacher, log student[, tokens]) of some rows -> nats


def _charge(
    terms: Terms,
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    check: bool,
    mask: Tensor | None,
    temperature: int | float,
    tokens: Tensor | None = None,
) -> Tensor:
    """`terms` of the normalised distributions, [...], in pieces where they are many."""
    _check_logits(teacher_logits, student_logits, mask, check)
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature={temperature} must be finite and above 0: it divides the logits."
        )
    teacher_logits = teacher_logits.detach()

    def charge(teacher: Tensor, student: Tensor, *rest: Tensor | None) -> Tensor:
        """Nats of some rows; `rest` are their mask and tokens."""
        counts, ids = rest
        if counts is not None:
            teacher, student = (torch.where(counts[..., None], x, 0.0) for x in (teacher, student))
            ids = None if ids is None else torch.where(counts, ids, 0)
        log_t, log_s = (_normalised(x, dtype, temperature) for x in (teacher, student))
        nats = terms(log_t, log_s) if ids is None else terms(log_t, log_s, ids)
        return nats if counts is None else torch.where(counts, nats, 0.0)

    dtype = torch.promote_types(teacher_logits.dtype, student_logits.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    rest = (mask, tokens)
    if student_logits.numel() <= CHUNK:
        return charge(teacher_logits, student_logits, *rest)
    return _InPieces.apply(student_logits, teacher_logits, charge, dtype, *rest)


def _normalised(logits: Tensor, dtype: torch.dtype, temperature: int | float) -> Tensor:
    logits = logits.to(dtype)
    return (logits if temperature == 1 else logits / temperature).log_softmax(-1)


class _InPieces(torch.autograd.Function):
    """A charge of many rows, piece by piece, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, charge: Terms, dtype: torch.dtype,
                *rest: Tensor | None) -> Tensor:  # fmt: skip
        ctx.charge = charge
        ctx.save_for_backward(student, teacher, *rest)
        nats = student.new_empty(student.shape[:-1], dtype=dtype)
        for piece in _pieces(student.shape):
            nats[piece] = charge(teacher[piece], student[piece], *_cut(rest, piece))
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        student, teacher, *rest = ctx.saved_tensors
        gradient = torch.empty_like(student)
        for piece in _pieces(student.shape):
            with torch.enable_grad():
                rows = student[piece].detach().requires_grad_()
                nats = ctx.charge(teacher[piece], rows, *_cut(rest, piece))
            (gradient[piece],) = torch.autograd.grad(nats, rows, upstream[piece])
        return (gradient, None, None, None, *(None for _ in rest))


def _cut(tensors: Any, piece: tuple[int | slice, ...]) -> Iterator[Tensor | None]:
    return (None if one is None else one[piece] for one in tensors)


def _pieces(shape: torch.Size) -> Iterator[tuple[int | slice, ...]]:
    """Indices that cut the leading axes of [..., v] into parts of at most CHUNK entries.

    One row is never cut, and no axis is merged with another: that could copy the input.
    """
    *axes, entries = shape
    axis = len(axes)
    while axis and entries * axes[axis - 1] <= CHUNK:
        axis -= 1
        entries *= axes[axis]
    if axis == 0:
        yield ()
        return
    rows = max(1, CHUNK // entries)
    for outer in itertools.product(*map(range, axes[: axis - 1])):
        for first in range(0, axes[axis - 1], rows):
            yield (*outer, slice(first, first + rows))


def _check_logits(teacher: Tensor, student: Tensor, mask: Tensor | None, check: bool) -> None:
    """Errors as in this file's opening lines."""
    named = {"teacher_logits": teacher, "student_logits": student}
    for name, logits in named.items():
        _check_tensor(name, logits)
    if teacher.shape != student.shape:
        raise ValueError(
            f"teacher_logits have shape {tuple(teacher.shape)} and student_logits "
            f"{tuple(student.shape)}: both need one shape [..., v]."
        )
    for name, logits in named.items():
        if not logits.is_floating_point() or logits.dim() == 0 or logits.shape[-1] == 0:
            raise ValueError(
                f"{name} are {logits.dtype} of shape {tuple(logits.shape)}: floating numbers "
                "[..., v] with at least one token are needed."
            )
    if mask is not None:
        _check_tensor("mask", mask)
        if mask.dtype != torch.bool or mask.shape != teacher.shape[:-1]:
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}: booleans of shape "
                f"{tuple(teacher.shape[:-1])}, one per position, are needed."
            )
    if check:
        for name, logits in named.items():
            _check_values(name, logits.detach(), mask)


def _check_values(name: str, logits: Tensor, mask: Tensor | None) -> None:
    largest = logits.amax(-1)  # [...]: NaN where any is
    if mask is not None:
        largest = torch.where(mask, largest, 0.0)
    if largest.isnan().any():
        raise ValueError(f"{name} hold NaN: look for the step that made it.")
    if (largest == torch.inf).any():
        raise ValueError(f"{name} hold +inf: make it the only finite logit of its row instead.")
    empty = largest == -torch.inf
    if empty.any():
        raise ValueError(
            f"{name} are all -inf in {int(empty.sum())} of {empty.numel()} rows: every row needs "
            "at least one possible token."
        )


def _kl_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """p log(p/q) per token, [..., v]; NaN stays NaN."""
    in_p, in_q = log_p != -torch.inf, log_q != -torch.inf
    both = in_p & in_q
    log_p, log_q = torch.where(both, log_p, 0.0), torch.where(both, log_q, 0.0)
    return (log_p.exp() * (log_p - log_q)).masked_fill(in_p & ~in_q, torch.inf)


def _total(terms: Tensor) -> Tensor:
    """The sum over tokens, [...], of which rounding shall not make anything below 0."""
    total = terms.sum(-1)
    return total + (-total).clamp(min=0).detach()  # a plain clamp would cut the gradient


# ------------------------------------------------------------------- over the whole vocabulary


def forward_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """KL(teacher ‖ student); gradient on the student's logits: (student − teacher) / T.

    Logits [..., v]; returns nats [...]. Options and errors as in this file's opening lines.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        return _total(_kl_terms(log_t, log_s))

    return _charge(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


def reverse_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """KL(student ‖ teacher); gradient: student · (log student − log teacher − its value) / T.

    Logits [..., v]; returns nats [...]. Options and errors as in this file's opening lines.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        return _total(_kl_terms(log_s, log_t))

    return _charge(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


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
        check, mask, temperature: as in this file's opening lines.

    Returns:
        Nats, [...].

    Raises:
        ValueError: `beta` out of range, or as in this file's opening lines.

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
        parts = beta * _kl_terms(log_t, log_mix) + (1 - beta) * _kl_terms(log_s, log_mix)
        return _total(parts)

    return _charge(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


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
        check, mask, temperature: as in this file's opening lines.

    Returns:
        Nats in [0, cap], [...].

    Raises:
        ValueError: `cap` is not above 0, or as in this file's opening lines.
    """
    _check_cap(cap)
    nats = forward_kl(
        teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )
    return nats.clamp(max=cap)


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
    _check_cap(cap)

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        return _kl_terms(log_t, log_s).clamp(max=cap).sum(-1)

    return _charge(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


def _check_cap(cap: int | float) -> None:
    if not cap > 0:
        raise ValueError(f"cap={cap} must be above 0 nats: at 0 nothing would be learned.")


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

    Logits [..., v]; returns nats [...]. Options and errors as in this file's opening lines.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        entropy = -(log_t.exp() * log_t.masked_fill(log_t == -torch.inf, 0.0)).sum(-1)
        v = log_t.shape[-1]
        weight = 1 - entropy / math.log(v) if v > 1 else torch.ones_like(entropy)
        kl = _total(_kl_terms(log_t, log_s))
        return torch.where(weight <= 0, 0.0, weight.clamp(min=0) * kl)

    return _charge(
        terms, teacher_logits, student_logits, check=check, mask=mask, temperature=temperature
    )


# ------------------------------------------------------------------------- on the teacher's best


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
        check, mask, temperature: as in this file's opening lines.

    Returns:
        Nats, [...]; +inf where the student gives all k tokens probability zero.

    Raises:
        ValueError: `k` not whole or out of range, or as in this file's opening lines.
    """
    _check_logits(teacher_logits, student_logits, mask, check=False)
    v = teacher_logits.shape[-1]
    if not (hasattr(k, "__index__") and 1 <= k <= v) or isinstance(k, bool):
        raise ValueError(f"k={k} must lie in [1, {v}], a whole number of the {v} tokens there are.")
    n_kept = int(k)

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        best = _likeliest(log_t, n_kept)
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

    return _charge(
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


# ------------------------------------------------------------------------- on one sampled token


def policy_gradient_loss(
    teacher_logits: Tensor,
    student_logits: Tensor,
    tokens: Tensor,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """−A log student(y), with the advantage A = log teacher(y) − log student(y) held constant.

    On the student's own samples its expected gradient is that of the reverse KL. Only the
    gradient has a meaning, the value has none.

    Args:
        teacher_logits: [..., v].
        student_logits: [..., v].
        tokens: sampled token ids [...], in [0, v); drawn at `temperature`.
        check, mask, temperature: as in this file's opening lines.

    Returns:
        [...].

    Raises:
        ValueError: tokens of another shape or out of range; a token that the teacher or the
            student calls impossible; or as in this file's opening lines.

    Source: arXiv:2606.08432, appendix A, without the future terms.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        return -(log_t - log_s.detach()) * log_s

    return _sampled(terms, teacher_logits, student_logits, tokens, check, mask, temperature)


def monte_carlo_forward_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    tokens: Tensor,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """log teacher(y) − log student(y): as a loss a trap.

    In expectation over the teacher's samples this is the forward KL, but its gradient,
    −∇ log student(y), knows nothing of the teacher: on the student's own samples it imitates
    itself, on others it is plain SFT. Arguments and errors as in `policy_gradient_loss`.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        return log_t - log_s

    return _sampled(terms, teacher_logits, student_logits, tokens, check, mask, temperature)


def k3(
    teacher_logits: Tensor,
    student_logits: Tensor,
    tokens: Tensor,
    *,
    check: bool = True,
    mask: Tensor | None = None,
    temperature: int | float = 1.0,
) -> Tensor:
    """e^r − 1 − r with r = log teacher(y) − log student(y), on the student's samples.

    An estimate of the reverse KL, never negative; differentiated as a loss, its expected
    gradient is that of the *forward* KL. Arguments and errors as in `policy_gradient_loss`.

    Differs: where e^r would leave the numbers there are, from r = 80 in float32, it goes on along
    its tangent, so that value and gradient stay finite.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        r = log_t - log_s
        most = math.floor(math.log(torch.finfo(r.dtype).max)) - 8
        beyond = math.exp(most) * (1 + r - most) - 1
        return torch.where(r <= most, r.clamp(max=most).expm1(), beyond) - r

    return _sampled(terms, teacher_logits, student_logits, tokens, check, mask, temperature)


def _sampled(
    terms: Terms,
    teacher_logits: Tensor,
    student_logits: Tensor,
    tokens: Tensor,
    check: bool,
    mask: Tensor | None,
    temperature: int | float,
) -> Tensor:
    """`terms` of the sampled tokens' log-probabilities."""
    _check_logits(teacher_logits, student_logits, mask, check=False)
    _check_tensor("tokens", tokens)
    v, shape = teacher_logits.shape[-1], teacher_logits.shape[:-1]
    if tokens.shape != shape or tokens.is_floating_point():
        raise ValueError(
            f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}: integers of shape "
            f"{tuple(shape)}, one per position, are needed."
        )
    counted = tokens if mask is None else torch.where(mask, tokens, 0)
    if check and tokens.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < v:
        raise ValueError(
            f"tokens from {int(counted.min())} to {int(counted.max())} must lie in [0, {v})."
        )

    def at_tokens(log_t: Tensor, log_s: Tensor, ids: Tensor) -> Tensor:
        at = ids.long()[..., None]
        log_t, log_s = log_t.gather(-1, at)[..., 0], log_s.gather(-1, at)[..., 0]
        if check:
            for name, log_p in (("teacher", log_t), ("student", log_s)):
                if (log_p == -torch.inf).any():
                    raise ValueError(
                        f"the {name} gives {int((log_p == -torch.inf).sum())} of the tokens "
                        "probability zero: smooth it, or use a divergence over the whole "
                        "vocabulary."
                    )
        return terms(log_t, log_s)

    return _charge(
        at_tokens,
        teacher_logits,
        student_logits,
        check=check,
        mask=mask,
        temperature=temperature,
        tokens=tokens,
    )


# ------------------------------------------------------------------------------------ by name


@runtime_checkable
class Knobs(Protocol):
    """The settings that some divergences take."""

    beta: float
    cap: float  # nats
    top_k: int


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """One of them, for whoever lets a reader or a table choose."""

    name: str
    label: str  # in words
    direction: str  # "forward" KL(teacher ‖ student), "reverse", or "between"
    function: Callable[..., Tensor]
    takes: str = ""  # "beta", "cap" or "top_k": its setting, after the logits
    sampled: bool = False  # it reads sampled tokens, not the whole vocabulary

    def __call__(
        self,
        teacher_logits: Tensor,
        student_logits: Tensor,
        knobs: Knobs,
        *,
        tokens: Tensor | None = None,
        check: bool = True,
        mask: Tensor | None = None,
        temperature: int | float = 1.0,
    ) -> Tensor:
        """Nats [...]; errors as the function's, and ValueError where it lacks `tokens`."""
        if self.sampled and tokens is None:
            raise ValueError(f"{self.label} reads sampled tokens: pass tokens=.")
        more = [tokens] if self.sampled else [getattr(knobs, self.takes)] if self.takes else []
        return self.function(
            teacher_logits,
            student_logits,
            *more,
            check=check,
            mask=mask,
            temperature=temperature,
        )


DIVERGENCES: dict[str, Divergence] = {
    one.name: one
    for one in (
        Divergence(name="forward_kl", label="forward KL", direction="forward", function=forward_kl),
        Divergence(name="reverse_kl", label="reverse KL", direction="reverse", function=reverse_kl),
        Divergence(
            name="jensen_shannon",
            label="Jensen–Shannon β",
            direction="between",
            function=jensen_shannon,
            takes="beta",
        ),
        Divergence(
            name="clipped_forward_kl",
            label="forward KL, clipped",
            direction="forward",
            function=clipped_forward_kl,
            takes="cap",
        ),
        Divergence(
            name="entrywise_clipped_forward_kl",
            label="forward KL, clipped per entry",
            direction="forward",
            function=entrywise_clipped_forward_kl,
            takes="cap",
        ),
        Divergence(
            name="entropy_weighted_forward_kl",
            label="forward KL, entropy-weighted",
            direction="forward",
            function=entropy_weighted_forward_kl,
        ),
        Divergence(
            name="topk_reverse_kl",
            label="reverse KL, top-k",
            direction="reverse",
            function=topk_reverse_kl,
            takes="top_k",
        ),
        Divergence(
            name="topk_reverse_kl_tail",
            label="reverse KL, top-k with tail",
            direction="reverse",
            function=functools.partial(topk_reverse_kl, tail=True),
            takes="top_k",
        ),
        Divergence(
            name="policy_gradient",
            label="reverse KL by policy gradient",
            direction="reverse",
            function=policy_gradient_loss,
            sampled=True,
        ),
        Divergence(
            name="monte_carlo_forward",
            label="forward KL, sampled",
            direction="forward",
            function=monte_carlo_forward_kl,
            sampled=True,
        ),
        Divergence(
            name="k3", label="reverse KL by k3", direction="reverse", function=k3, sampled=True
        ),
    )
}
WHOLE = tuple(name for name, one in DIVERGENCES.items() if not one.sampled)


def divergence(name: str) -> Divergence:
    """A divergence by name.

    Raises:
        ValueError: no such divergence.
    """
    if name not in DIVERGENCES:
        raise ValueError(f"divergence={name!r} must be one of {', '.join(DIVERGENCES)}.")
    return DIVERGENCES[name]
