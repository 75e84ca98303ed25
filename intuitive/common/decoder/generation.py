"""Continue a prompt token by token."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..checks import whole
from ..runtime import check, never
from .model import Decoder


def sample(
    logits: Float[Tensor, "b v"],
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " b"]:
    """Draw the next token of each row.

    Args:
        logits: of the next token.
        temperature: divides the logits; 0 takes the likeliest token, the lower id on a tie.
        top_k: keep only the k likeliest tokens.
        top_p: then keep the fewest likeliest tokens whose probabilities reach p, in (0, 1].
        generator: the source of randomness; torch's global one if None.

    Raises:
        ValueError: a setting out of range.

    Source: top-p is nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"temperature={temperature} must be a finite number, not negative; 0 means greedy."
        )
    if top_k is not None:
        top_k = whole("top_k", top_k, low=1, why="or None to keep all tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must lie in (0, 1], or None to keep all tokens.")
    if temperature == 0:
        return logits.argmax(-1)
    if temperature < 1e-6:  # the division would leave float32's range: count from the likeliest
        ranked, ids = logits.double().sort(dim=-1, descending=True, stable=True)
        ranked = (ranked - ranked[:, :1]) / temperature
    else:
        ranked, ids = (logits.float() / temperature).sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ranked[:, top_k:] = -torch.inf
    p = ranked.softmax(-1)  # [b, v]
    if top_p is not None:
        p = p.masked_fill(p.cumsum(-1) - p >= top_p, 0.0)  # a token stays if those before lack p
    return ids.gather(-1, torch.multinomial(p, 1, generator=generator)).squeeze(-1)


@torch.no_grad()
def generate(
    decoder: Decoder,
    prompt: Tensor,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    stop_tokens: Sequence[int] = (),
    on_token: Callable[[Tensor], None] | None = None,
    stale: Callable[[], bool] = never,
) -> Int[Tensor, "b n_new"]:
    """Continue a prompt token by token.

    Args:
        decoder: the model.
        prompt: [b, n] token ids or [b, n, d_model] embeddings; rows of equal length.
        max_new_tokens: how many at most, at least 1.
        temperature: 0 is greedy; this and the next three as in `sample`.
        stop_tokens: a row ends with the first of these it produces; if other rows go on, it is
            filled up with that token.
        on_token: called with the [b] new tokens of each step.
        stale: turns true when nobody waits for the result any more.

    Returns:
        The new tokens alone.

    Raises:
        ValueError: as in `Decoder.hidden` and `sample`, or the result would exceed max_positions.
        Cancelled: `stale()` became true between two tokens.
    """
    max_new_tokens = whole("max_new_tokens", max_new_tokens, low=1)
    if prompt.dim() < 2:
        raise ValueError(
            f"the prompt has shape {tuple(prompt.shape)}; [b, n] token ids or "
            "[b, n, d_model] embeddings are needed."
        )
    b, n = prompt.shape[:2]
    if n + max_new_tokens > decoder.config.max_positions:
        raise ValueError(
            f"{n} prompt tokens and {max_new_tokens} new ones exceed "
            f"max_positions={decoder.config.max_positions}: shorten one of them."
        )
    given = "embeddings" if prompt.is_floating_point() else "tokens"
    cache = decoder.make_cache(max(b, 1), n + max_new_tokens)
    check(stale)
    logits = decoder(**{given: prompt}, cache=cache, last_only=True)[:, -1]
    stops = torch.tensor(tuple(stop_tokens), dtype=torch.int64, device=prompt.device)
    ended = torch.zeros(b, dtype=torch.bool, device=prompt.device)
    new = []
    for step in range(max_new_tokens):
        token = sample(
            logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator
        )
        if new:
            token = torch.where(ended, new[-1], token)
        new.append(token)
        ended = ended | torch.isin(token, stops)
        if on_token is not None:
            on_token(token)
        if ended.all() or step == max_new_tokens - 1:
            break
        check(stale)
        logits = decoder(token[:, None], cache=cache)[:, -1]
    return torch.stack(new, dim=1)
