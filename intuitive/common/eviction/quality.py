"""What a small cache is worth: how well the text is predicted that follows a prompt."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..checks import whole
from ..decoder import Decoder
from .methods import Method
from .prefill import evict


@torch.no_grad()
def continuation_losses(
    decoder: Decoder,
    tokens: Int[Tensor, "b n"],
    *,
    context: int,
    method: str | Method,
    budget: int,
    skip: int = 1,
) -> Float[Tensor, "b scored"]:
    """Negative log-likelihood of each token that follows the prompt, read from the small cache.

    Args:
        decoder: the model.
        tokens: prompt and what follows it.
        context: tokens of the prompt.
        method: as in `evict`; evicts once, when the prompt has been read.
        budget: entries kept per layer and key/value head.
        skip: tokens after the prompt that are not scored; at least the first, whose logits come
            from before the eviction.

    Returns:
        Nats, [b, n - context - skip].

    Raises:
        ValueError: as in `evict`, or nothing is left to score.
    """
    n = tokens.shape[1]
    skip = whole("skip", skip, low=1)
    if not 1 <= context < n - skip:
        raise ValueError(
            f"context={context} and skip={skip} leave nothing to score of {n} tokens: give a "
            "longer text."
        )
    prompt, rest = tokens[:, :context], tokens[:, context:]
    evicted = evict(decoder, prompt, method=method, budget=budget, room=n - context)
    logits = decoder(rest[:, :-1], cache=evicted.cache)[:, skip - 1 :]
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    return -wide.gather(-1, rest[:, skip:, None])[..., 0]
