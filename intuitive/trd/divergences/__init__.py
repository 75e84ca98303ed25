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

Large inputs are worked through in pieces of `pieces.CHUNK` logits, and so is their gradient, which
computes every piece again: beyond the inputs, memory holds one piece and, for the gradient, the
gradient. Such a gradient cannot be differentiated again.

Map of the rooms:
    inputs.py      what is wrong with logits, masks and probabilities
    pieces.py      from logits to nats, piece by piece
    vocabulary.py  over the whole vocabulary, or the teacher's likeliest tokens
    sampled.py     on one sampled token
    registry.py    all by name

Source: Jiang et al. 2026, arXiv:2606.08432, sections 3 to 5; Agarwal et al. 2023,
arXiv:2306.13649 (generalised Jensen-Shannon).
"""

from .inputs import as_logits, check_distribution
from .registry import DIVERGENCES, WHOLE, Divergence, Knobs, divergence
from .sampled import k3, monte_carlo_forward_kl, policy_gradient_loss
from .vocabulary import (
    clipped_forward_kl,
    entropy_weighted_forward_kl,
    entrywise_clipped_forward_kl,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    topk_reverse_kl,
)

__all__ = [
    "DIVERGENCES",
    "WHOLE",
    "Divergence",
    "Knobs",
    "as_logits",
    "check_distribution",
    "clipped_forward_kl",
    "divergence",
    "entropy_weighted_forward_kl",
    "entrywise_clipped_forward_kl",
    "forward_kl",
    "jensen_shannon",
    "k3",
    "monte_carlo_forward_kl",
    "policy_gradient_loss",
    "reverse_kl",
    "topk_reverse_kl",
]
