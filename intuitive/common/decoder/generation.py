"""Continue a prompt token by token."""

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..checks import whole
from ..inputs import public
from ..runtime import check, never
from .cache import DecoderCache
from .fixed import FixedStep, unfit
from .model import Decoder

FEW = 8  # tokens; for fewer, capturing a graph, as long as about three ordinary steps, hardly pays


@public
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
        reached = p.cumsum(-1) - p >= top_p  # a token stays if those before it lack p
        reached[:, 0] = False  # however small p is
        p = p.masked_fill(reached, 0.0)
    return ids.gather(-1, torch.multinomial(p, 1, generator=generator)).squeeze(-1)


@public
@torch.no_grad()
def generate(
    decoder: Decoder,
    prompt: Tensor | None = None,
    *,
    max_new_tokens: int,
    cache: DecoderCache | None = None,
    logits: Tensor | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    stop_tokens: Sequence[int] = (),
    on_token: Callable[[Tensor], None] | None = None,
    stale: Callable[[], bool] = never,
    graph: bool | None = None,
) -> Int[Tensor, "b n_new"]:
    """Continue a prompt token by token.

    Args:
        decoder: the model.
        prompt: [b, n] token ids or [b, n, d_model] embeddings; rows of equal length. Left out
            where `logits` say how the text goes on.
        max_new_tokens: how many at most, at least 1.
        cache: what was read before the prompt. It goes on: afterwards it holds the prompt and all
            new tokens but the last, which is never read. Made for this call if None.
        logits: [b, v] of the token after the cache, in the place of a prompt.
        temperature: 0 is greedy; this and the next three as in `sample`.
        stop_tokens: a row ends with the first of these it produces; if other rows go on, it is
            filled up with that token.
        on_token: called with the [b] new tokens of each step.
        stale: turns true when nobody waits for the result any more.
        graph: whether the steps are replayed as a CUDA graph, which takes Python out of the loop.
            None does so on CUDA where at least 8 tokens are asked for, and warns where an attention
            module, a cache or a hook does not allow it; on a CPU there are no graphs.

    Returns:
        The new tokens alone.

    Raises:
        ValueError: as in `Decoder.hidden` and `sample`; the result would exceed max_positions or
            the cache's capacity; not exactly one of `prompt` and `logits`, or logits without
            cache; graph=True where no graph can be made.
        Cancelled: `stale()` became true between two tokens.
    """
    max_new_tokens = whole("max_new_tokens", max_new_tokens, low=1)
    n = _new_to_read(prompt, logits, cache)
    _check_room(decoder, cache, n, max_new_tokens)
    check(stale)
    if logits is None:
        if cache is None:
            cache = decoder.make_cache(max(len(prompt), 1), n + max_new_tokens)
        given = "embeddings" if prompt.is_floating_point() else "tokens"
        logits = decoder(**{given: prompt}, cache=cache, last_only=True)[:, -1]
    read = _reader(decoder, cache, cache.length + max_new_tokens - 1, graph)
    stops = torch.tensor(tuple(stop_tokens), dtype=torch.int64, device=logits.device)
    ended = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    new = []
    for step in range(max_new_tokens):
        token = sample(
            logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator
        )
        if len(stops):
            token = torch.where(ended, new[-1], token) if new else token
            ended = ended | (token[:, None] == stops).any(-1)
        new.append(token)
        if on_token is not None:
            on_token(token)
        if step == max_new_tokens - 1 or (len(stops) and ended.all()):
            break
        check(stale)
        logits = read(token)
    return torch.stack(new, dim=1)


def _reader(
    decoder: Decoder, cache: DecoderCache, limit: int, graph: bool | None
) -> Callable[[Tensor], Tensor]:
    """What reads [b] new tokens into the cache and returns the logits [b, v] after them."""

    def ordinary(token: Tensor) -> Tensor:
        return decoder(token[:, None], cache=cache)[:, -1]

    device = decoder.embedding.weight.device
    asked = limit - cache.length + 1
    if graph is False or (graph is None and (device.type != "cuda" or asked < FEW)):
        return ordinary
    why = unfit(decoder, cache)
    if device.type != "cuda":
        why = f"CUDA graphs need a CUDA device, the decoder is on {device}."
    elif torch.cuda.is_current_stream_capturing():
        why = "another graph is being captured."
    if not why:
        try:
            step = FixedStep(decoder, cache, limit)
            step.capture()
            return step
        except RuntimeError as error:
            why = f"capturing failed ({str(error).splitlines()[0]})."
    if graph:
        raise ValueError(f"graph=True cannot be had: {why} Leave it out for the ordinary loop.")
    warnings.warn(
        f"generate() takes the ordinary loop, which Python slows down: {why} Pass graph=False to "
        "choose it.",
        stacklevel=3,
    )
    return ordinary


def _new_to_read(prompt: Tensor | None, logits: Tensor | None, cache: DecoderCache | None) -> int:
    """Tokens of the prompt, 0 where logits stand in its place."""
    if (prompt is None) == (logits is None):
        given = "neither" if prompt is None else "both"
        raise ValueError(
            f"got {given} of prompt and logits; pass a prompt, or the logits of the token that "
            "follows a filled cache."
        )
    if prompt is None:
        if cache is None:
            raise ValueError("logits say what follows a cache: pass that cache too.")
        if logits.dim() != 2:
            raise ValueError(f"logits have shape {tuple(logits.shape)}; [b, v] is needed.")
        return 0
    if prompt.dim() < 2:
        raise ValueError(
            f"the prompt has shape {tuple(prompt.shape)}; [b, n] token ids or "
            "[b, n, d_model] embeddings are needed."
        )
    return prompt.shape[1]


def _check_room(decoder: Decoder, cache: DecoderCache | None, n: int, new: int) -> None:
    """ValueError where n tokens to read and so many new ones do not fit."""
    limit = decoder.config.max_positions
    if cache is None:
        if n + new > limit:
            raise ValueError(
                f"{n} prompt tokens and {new} new ones exceed max_positions={limit}: shorten one "
                "of them."
            )
    elif cache.length + n + new - 1 > min(limit, cache.capacity):  # the last is never read
        raise ValueError(
            f"{cache.length} positions held, {n} prompt tokens and {new} new ones exceed the "
            f"{min(limit, cache.capacity)} that fit: make a larger cache, or ask for fewer tokens."
        )
