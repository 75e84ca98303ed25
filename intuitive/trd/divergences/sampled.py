"""Charges on one sampled token per position: cheap estimates, each with a trap of its own."""

import math

import torch
from torch import Tensor

from intuitive.common.inputs import public

from .inputs import check_logits, check_tensor
from .pieces import Terms, charged


@public
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
        check, mask, temperature: as in `divergences`' opening lines.

    Returns:
        [...].

    Raises:
        ValueError: tokens of another shape or out of range; a token that the teacher or the
            student calls impossible; or as in `divergences`' opening lines.

    Source: arXiv:2606.08432, appendix A, without the future terms.
    """

    def terms(log_t: Tensor, log_s: Tensor) -> Tensor:
        return -(log_t - log_s.detach()) * log_s

    return _sampled(terms, teacher_logits, student_logits, tokens, check, mask, temperature)


@public
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


@public
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
    check_logits(teacher_logits, student_logits, mask, check=False)
    check_tensor("tokens", tokens)
    v, shape = teacher_logits.shape[-1], teacher_logits.shape[:-1]
    if tokens.shape != shape or tokens.is_floating_point() or tokens.dtype == torch.bool:
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

    return charged(
        at_tokens,
        teacher_logits,
        student_logits,
        check=check,
        mask=mask,
        temperature=temperature,
        tokens=tokens,
    )
