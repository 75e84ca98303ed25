"""Read a prompt, score what was read, and keep the best of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..checks import whole
from ..decoder import Decoder, DecoderCache, Probe, Seen, TensorCache
from ..inputs import public
from ..runtime import check, never
from .cache import EvictedCache
from .methods import (
    METHODS,
    KVzip,
    Method,
    Raw,
    SnapKV,
    Truncation,
    attention_expected,
    attention_of_last_queries,
    attention_while_repeating,
)


@dataclass(frozen=True, eq=False)
class Evicted:
    """A prompt that was read, and what is kept of it."""

    cache: DecoderCache  # decoding goes on from here, at the position after the prompt
    logits: Float[Tensor, "b v"]  # of the first token after the prompt, before anything was evicted
    kept: tuple[Int[Tensor, "b h_kv budget"], ...]  # positions kept, in order, by layer
    method: Method


@public
@torch.no_grad()
def evict(
    decoder: Decoder,
    tokens: Tensor,
    *,
    method: str | Method,
    budget: int,
    room: int = 256,
    on_prefilled: Callable[[], None] | None = None,
    stale: Callable[[], bool] = never,
) -> Evicted:
    """Read a prompt with every layer's full attention, then keep `budget` entries per head.

        evicted = evict(decoder, tokens, method="snapkv", budget=64)
        logits = decoder(evicted.logits.argmax(-1, keepdim=True), cache=evicted.cache)

    Args:
        decoder: with `DenseAttention` or another kind whose cache holds keys and values.
        tokens: [b, n] ids of the prompt.
        method: settings, or a name for the usual ones: "raw", "truncation", "snapkv", "kvzip" or
            "expected".
        budget: entries kept per layer and key/value head; a prompt of no more stays whole. "raw"
            keeps all, whatever the budget.
        room: tokens that can follow.
        on_prefilled: called once the first token's logits are there.
        stale: turns true when nobody waits for the result any more.

    Returns:
        The small cache. Truncation alone has read `budget` tokens only; all others read
        everything first, so that they cannot be sooner than raw.

    Raises:
        ValueError: an unknown method, a size below 1, a prompt that is too long, or a decoder
            whose caches hold other things.
        Cancelled: `stale()` became true between two passes.
    """
    method = _method(method)
    budget, room = whole("budget", budget, low=1), whole("room", room, low=1)
    if tokens.dim() != 2 or not tokens.numel():
        raise ValueError(
            f"the prompt has shape {tuple(tokens.shape)}: [b, n] with at least one token is needed."
        )
    n = tokens.shape[1]
    budget = n if isinstance(method, Raw) else min(budget, n)
    for always_kept in {"window", "n_sink"} & {field.name for field in fields(method)}:
        most = min(getattr(method, always_kept), budget)
        method = replace(method, **{always_kept: most})
    check(stale)
    if isinstance(method, Truncation) or budget == n:  # nothing that was read is dropped
        return _newest(decoder, tokens, method, budget, room, on_prefilled)
    read = scored(decoder, tokens, method=method, on_prefilled=on_prefilled, stale=stale)
    check(stale)
    return read.keep(budget, room=room)


@dataclass(frozen=True, eq=False)
class Scored:
    """A prompt that was read whole, and what each entry is worth: caches of any size come of it."""

    full: DecoderCache  # of the whole prompt
    logits: Float[Tensor, "b v"]  # of the first token after the prompt
    scores: tuple[Float[Tensor, "b h_kv n"], ...]  # by layer
    method: Method

    def keep(self, budget: int, *, room: int = 256) -> Evicted:
        """The small cache of the `budget` best entries per layer and head."""
        best = [score.topk(budget, dim=-1).indices.sort(-1).values for score in self.scores]
        return Evicted(
            keep_places(self.full, best, room=room), self.logits, tuple(best), self.method
        )


@public
@torch.no_grad()
def scored(
    decoder: Decoder,
    tokens: Tensor,
    *,
    method: str | Method,
    on_prefilled: Callable[[], None] | None = None,
    stale: Callable[[], bool] = never,
) -> Scored:
    """Read a prompt whole and score its entries; arguments and errors as in `evict`.

    Raises:
        ValueError: also for "raw" and "truncation", which score nothing.
    """
    method = _method(method)
    if isinstance(method, Raw | Truncation):
        raise ValueError(f"{method.name} scores nothing: call evict.")
    b, n = tokens.shape
    longest = _longest_repetition(method, n)
    if longest and n + longest > decoder.config.max_positions:
        raise ValueError(
            f"{n} tokens and a repetition of {longest} exceed max_positions="
            f"{decoder.config.max_positions}: shorten the prompt, or repeat less at once with "
            f"KVzip(chunk=...) below {method.chunk}."
        )
    full = decoder.make_cache(b, n + longest)
    _check_parts(full)
    scores: list[Tensor] = [tokens] * len(full.layers)  # [b, h_kv, n] each, replaced below

    def receive(seen: Seen) -> None:
        scores[seen.layer] = torch.stack([_scores(decoder, method, seen, i) for i in range(b)])

    probe = None if isinstance(method, KVzip) else Probe(tuple(range(len(scores))), receive)
    logits = decoder(tokens, cache=full, probe=probe, last_only=True)[:, -1]
    if on_prefilled is not None:
        on_prefilled()
    if isinstance(method, KVzip):
        _repeat(decoder, full, tokens, method, scores, stale)
    return Scored(full, logits, tuple(scores), method)


def keep_places(
    full: DecoderCache, places: Sequence[Int[Tensor, "b h_kv kept"]], *, room: int
) -> DecoderCache:
    """A cache of some entries only, counted as if all were there.

    Args:
        full: plain caches of keys and values.
        places: of the entries kept in each layer and head, ascending.
        room: tokens that can follow.
    """
    layers = []
    for layer, kept in zip(full.layers, places, strict=True):
        small = {}
        for name, part in layer.held().items():
            rows = kept.transpose(1, 2)[..., None].expand(-1, -1, -1, part.shape[-1])
            small[name] = part.gather(1, rows)
        layers.append(_filled(small, full.length, room))
    return DecoderCache(layers)


def _method(method: str | Method) -> Method:
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}.")
        return METHODS[method]()
    if not isinstance(method, Method):
        raise ValueError(f"method={method!r} must be a name or settings, such as SnapKV().")
    return method


def _longest_repetition(method: Method, n: int) -> int:
    if not isinstance(method, KVzip):
        return 0
    lead = method.lead if n > method.chunk else 0
    return len(method.request) + lead + min(method.chunk, n)


def _check_parts(cache: DecoderCache) -> None:
    for layer in cache.layers:
        held = layer.held().keys() if isinstance(layer, TensorCache) else set()
        if held != {"keys", "values"}:
            raise ValueError(
                f"{type(layer).__name__} is no plain cache of keys and values, which eviction "
                "gathers from: use a decoder with DenseAttention."
            )


def _newest(
    decoder: Decoder,
    tokens: Tensor,
    method: Method,
    budget: int,
    room: int,
    on_prefilled: Callable[[], None] | None,
) -> Evicted:
    """Read the newest `budget` tokens, which may be all, and keep what was read."""
    b, n = tokens.shape
    cache = decoder.make_cache(b, budget + room)
    _check_parts(cache)
    places = torch.arange(n - budget, n, device=tokens.device)
    newest = tokens[:, n - budget :]
    positions = places.expand(b, budget)
    logits = decoder(newest, positions=positions, cache=cache, last_only=True)[:, -1]
    if on_prefilled is not None:
        on_prefilled()
    layers = [EvictedCache(layer, n) for layer in cache.layers]
    kept = [places.expand(b, layer.held()["keys"].shape[2], budget) for layer in layers]
    return Evicted(DecoderCache(layers), logits, tuple(kept), method)


def _filled(parts: dict[str, Tensor], n_read: int, room: int) -> EvictedCache:
    some = next(iter(parts.values()))
    entries = {name: tuple(part.shape[2:]) for name, part in parts.items()}
    cache = TensorCache(len(some), some.shape[1] + room, entries, some.device, some.dtype)
    cache.append(**parts)
    return EvictedCache(cache, n_read)


def _scores(decoder: Decoder, method: Method, seen: Seen, row: int) -> Float[Tensor, "h_kv m"]:
    """Scores that the prefill itself gives."""
    q, k, v = seen.q[row], seen.k[row], seen.v[row]
    if isinstance(method, SnapKV):
        return attention_of_last_queries(q, k, window=method.window, kernel=method.kernel)
    config = decoder.config
    return attention_expected(
        q,
        k,
        v,
        torch.arange(len(q), device=q.device),
        rope_base=config.rope_base if config.positions == "rope" else None,
        n_future=method.n_future,
        n_sink=method.n_sink,
    )


def _repeat(
    decoder: Decoder,
    full: DecoderCache,
    tokens: Tensor,
    method: KVzip,
    scores: list[Tensor],
    stale: Callable[[], bool],
) -> None:
    """Let the model repeat the prompt, chunk by chunk; fills in the scores of all layers."""
    b, n = tokens.shape
    request = torch.tensor(method.request, dtype=tokens.dtype, device=tokens.device).expand(b, -1)
    parts: list[list[Tensor]] = [[] for _ in scores]
    for start in range(0, n, method.chunk):
        check(stale)
        end = min(start + method.chunk, n)
        lead = tokens[:, max(0, start - method.lead) : start]
        repetition = torch.cat((request, lead, tokens[:, start:end]), 1)

        def receive(seen: Seen, start: int = start, end: int = end) -> None:
            keys = torch.cat((seen.k[:, start:end], seen.k[:, n:]), 1)
            rows = [attention_while_repeating(q, k) for q, k in zip(seen.q, keys, strict=True)]
            parts[seen.layer].append(torch.stack(rows))

        decoder.hidden(repetition, cache=full, probe=Probe(tuple(range(len(scores))), receive))
        full.crop(n)
    for layer, found in enumerate(parts):
        scores[layer] = torch.cat(found, -1)
        scores[layer][..., : method.n_sink] = torch.inf
