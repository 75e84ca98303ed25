"""Reading with latents: encode ahead, prefill, decode, and keep latents on disk.

The decoder's cache is an ordinary one with fewer positions, so decoding needs nothing new. Prefill
makes the last position's logits only; a row of logits per prompt token would cost twice what the
cache costs (section 4 of the notes on memory).

Source: arXiv:2606.09659v1, section 4; the official repository (encoding apart from decoding).
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.decoder import DecoderCache, generate
from intuitive.common.runtime import check, never
from intuitive.common.weights import load_weights, save_weights

from .config import LCLMConfig
from .model import LatentContextModel
from .splice import Latents, Piece

ENCODER_BATCH = 128  # windows per pass, as in the paper's measurements


@torch.no_grad()
def encode_ahead(
    model: LatentContextModel,
    spans: Sequence[Tensor],
    *,
    ratio: int | None = None,
    batch_size: int = ENCODER_BATCH,
    on_pass: Callable[[int, int], None] | None = None,
    stale: Callable[[], bool] = never,
) -> tuple[Latents, ...]:
    """Latents of texts that questions will be asked about, each encoded once.

    Args:
        model: the model.
        spans: [n] token ids each, n >= 1.
        ratio: tokens per latent, the config's if None.
        batch_size: windows per encoder pass.
        on_pass: called after each pass with (windows done, windows in all).
        stale: turns true when nobody waits for the result any more.

    Raises:
        ValueError: as in `LatentContextModel.encode`.
        Cancelled: `stale()` became true between two passes.
    """

    def passed(done: int, total: int) -> None:
        if on_pass is not None:
            on_pass(done, total)
        check(stale)

    check(stale)
    encoded = model.encode_spans(spans, ratio=ratio, batch_size=batch_size, on_pass=passed)
    return tuple(Latents(values.clone()) for values in encoded)  # each its own memory


@dataclass(frozen=True, eq=False)
class Prefilled:
    """What the decoder holds after reading a prompt."""

    cache: DecoderCache
    logits: Float[Tensor, " v"]  # of the next token
    n_positions: int  # decoder positions read


@torch.no_grad()
def prefill(
    model: LatentContextModel,
    pieces: Sequence[Piece],
    *,
    ratio: int | None = None,
    room: int = 256,
    after: Prefilled | None = None,
) -> Prefilled:
    """Read a prompt into an ordinary cache; logits of its last position only.

    Args:
        model: the model.
        pieces: raw text, spans, latents from before.
        ratio: tokens per latent of the spans, the config's if None.
        room: positions that the cache has left for what follows.
        after: what was read before; its cache goes on, and whatever followed it there is
            forgotten. `room` is then what that cache has left.

    Raises:
        ValueError: as in `LatentContextModel.spliced`, or the prompt is too long.
    """
    prompt = model.spliced(pieces, ratio=ratio)
    n = len(prompt.kinds)
    if after is None:
        cache, start = model.decoder.make_cache(1, n + whole("room", room, low=0)), 0
    else:
        cache, start = after.cache, after.n_positions
        cache.crop(start)
    logits = model.decoder(embeddings=prompt.embeddings, cache=cache, last_only=True)
    return Prefilled(cache, logits[0, -1], start + n)


@torch.no_grad()
def decode(
    model: LatentContextModel,
    prefilled: Prefilled,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    stop_tokens: Sequence[int] = (),
    on_token: Callable[[int], None] | None = None,
    stale: Callable[[], bool] = never,
) -> Int[Tensor, " n_new"]:
    """Continue what was read, token by token; afterwards the cache is as it was.

    Args:
        model: the model.
        prefilled: from `prefill`.
        max_new_tokens: how many at most, at least 1.
        temperature: 0 is greedy; this and the next three as in `sample`.
        stop_tokens: the text ends with the first of these.
        on_token: called with each new token.
        stale: turns true when nobody waits for the result any more.

    Raises:
        ValueError: as in `sample`, or the cache has too little room.
        Cancelled: `stale()` became true between two tokens.
    """
    max_new_tokens = whole("max_new_tokens", max_new_tokens, low=1)
    cache, n = prefilled.cache, prefilled.n_positions
    limit = min(cache.capacity, model.decoder.config.max_positions)
    if n + max_new_tokens - 1 > limit:  # the last token is never read
        raise ValueError(
            f"{n} positions and {max_new_tokens} new tokens exceed the {limit} that fit: prefill "
            "with more room, or ask for fewer tokens."
        )
    cache.crop(n)
    try:
        return generate(
            model.decoder,
            cache=cache,
            logits=prefilled.logits[None],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=generator,
            stop_tokens=stop_tokens,
            on_token=None if on_token is None else lambda token: on_token(int(token)),
            stale=stale,
        )[0]
    finally:
        cache.crop(n)


def answer(
    model: LatentContextModel,
    context: Prefilled,
    question: Sequence[Piece],
    *,
    max_new_tokens: int,
    **settings,
) -> Int[Tensor, " n_new"]:
    """Answer one question about a context that was read once; the context stays for the next.

    Args:
        model: the model.
        context: from `prefill`, with room for the question and the answer.
        question: what is read after it.
        max_new_tokens: and `settings`: as in `decode`.

    Raises:
        ValueError: as in `prefill` and `decode`.
    """
    try:
        asked = prefill(model, question, after=context)
        return decode(model, asked, max_new_tokens=max_new_tokens, **settings)
    finally:
        context.cache.crop(context.n_positions)


# ------------------------------------------------------------------------------- latents on disk


def save_latents(
    path: str | Path,
    latents: Sequence[Latents],
    model: LatentContextModel,
    *,
    ratio: int | None = None,
    made: Mapping[str, str] | None = None,
) -> Path:
    """Write encoded spans, with the config and a sample of what these weights encode.

    Args:
        path: a file ending in .safetensors.
        latents: one or more spans, from `encode_ahead`.
        model: that encoded them.
        ratio: at which; the config's if None.
        made: short texts about where the spans come from.

    Raises:
        ValueError: another ending, or no spans.
    """
    if not len(latents):
        raise ValueError("there are no latents to save: encode at least one span.")
    ratio = model.config.ratio if ratio is None else ratio
    held = {f"span.{i}": span.values for i, span in enumerate(latents)}
    about = {**(made or {}), "config": config_text(model.config), "ratio": str(ratio)}
    return save_weights(path, held | {"sample": _sample(model, ratio)}, about)


def load_latents(
    path: str | Path, model: LatentContextModel, *, ratio: int | None = None
) -> tuple[Latents, ...]:
    """Read encoded spans, if this model would have encoded them so.

    Args:
        path: from `save_latents`.
        model: that will read them.
        ratio: that is wanted; the config's if None.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or of another config, ratio or training.
    """
    held, about = load_weights(path)
    if "config" not in about or "ratio" not in about or "sample" not in held:
        raise ValueError(f"{path} holds no latents: write it with save_latents.")
    theirs, ours = json.loads(about["config"]), json.loads(config_text(model.config))
    differing = [
        f"{name}={theirs.get(name)!r} there and {ours.get(name)!r} here"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    ]
    ratio = model.config.ratio if ratio is None else ratio
    if about["ratio"] != str(ratio):
        differing.append(f"ratio={about['ratio']} there and {ratio} here")
    if differing:
        raise ValueError(
            f"{path} holds latents of another config: {'; '.join(differing)}. Encode the text anew."
        )
    fresh = _sample(model, ratio).cpu().double()
    kept = held.pop("sample")
    # Devices and precisions round differently; another training is far beyond that.
    exact = kept.dtype in (torch.float32, torch.float64) and model.tags.dtype != torch.bfloat16
    distance = float((kept.double() - fresh).norm() / fresh.norm().clamp(min=1e-12))
    if not distance < (1e-3 if exact else 5e-2):
        raise ValueError(
            f"{path} holds latents of other weights: a sample text is encoded {distance:.3g} of "
            "its length away from there. Encode the text anew."
        )
    spans = (held[f"span.{i}"] for i in range(len(held)))
    return tuple(Latents(values.to(model.tags)) for values in spans)


def config_text(config: LCLMConfig) -> str:
    """A config as JSON with sorted names, for a file's metadata."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


@torch.no_grad()
def _sample(model: LatentContextModel, ratio: int) -> Float[Tensor, "m d"]:
    """What the model makes of a fixed short text."""
    n = min(model.config.window, 16)
    tokens = (
        torch.arange(1, n + 1, device=model.tags.device) * 7919 % model.config.decoder.vocab_size
    )
    return model.encode(tokens[None], ratio=ratio)[0].detach()
