"""What compressing a prompt costs and saves: the paper's figure in two fits, and plain arithmetic.

The fits reproduce Figure 4 (Qwen3-4B alone, and behind a 0.6B encoder, on one H200, plain forward
passes): time to first token, and peak memory by term. They are fits to points read off a figure,
by us; the paper gives neither. The arithmetic below them holds for any pair of models.

Memory is in GiB, times are in seconds, `n_tokens` counts tokens before compression, and a ratio of
1 means no compression: no encoder is there.

Source: arXiv:2606.09659v1, Figure 4 and sections 3 and 6.
"""

import bisect
import math
from dataclasses import dataclass

from intuitive.common.checks import whole
from intuitive.common.decoder import DecoderConfig
from intuitive.common.inputs import public

GIB = 2**30
WINDOW = 1024  # tokens per encoder pass
ENCODER_BATCH = 128 * WINDOW  # tokens that the encoder reads at once
WEIGHTS_GIB = 7.49  # the decoder in bf16
PAIR_WEIGHTS_GIB = 8.60  # decoder, encoder and adapter
REST_GIB = 0.08  # whatever the length
KV_BYTES = 147_456  # of one decoder position: 2 · 36 layers · 8 heads · 128 · 2
LOGIT_BYTES = 303_872  # one row of the vocabulary: 151,936 · 2
RAW_BYTES = 5_120  # activations per token without compression: one row of 2,560 · 2
LATENT_BYTES = 10_240  # activations per latent
ENCODER_KV_BYTES = 114_688  # an encoder position's keys and values, which nobody reads again
ENCODER_BYTES = 142_000 - ENCODER_KV_BYTES  # what else the encoder holds per token of its batch

ALPHA_S = 5.9e-6  # encoder, per token
FLOOR_S = 0.035  # the least that a forward pass takes, however short; from the LCLM points at 4K

# Figure 4, read off: tokens, seconds, GiB.
DECODED_RAW = ((4096, 0.100, 9.3), (16384, 0.509, 14.5), (65536, 4.47, 35.4), (262144, 61.4, 119.0))
DECODED_EVICTION = (  # FastKVzip
    (4096, 0.605, 9.5),
    (16384, 1.05, 14.8),
    (65536, 5.19, 36.1),
    (262144, 63.1, 121.0),
)
DECODED_LCLM = {
    4: (
        (4096, 0.069, 9.3),
        (16384, 0.223, 10.9),
        (65536, 1.00, 17.4),
        (262144, 6.49, 36.8),
        (1048576, 70.6, 121.0),
    ),
    8: (
        (4096, 0.061, 9.2),
        (16384, 0.155, 10.9),
        (65536, 0.633, 17.4),
        (262144, 3.13, 26.2),
        (1048576, 22.9, 65.0),
    ),
    16: (
        (4096, 0.063, 9.2),
        (16384, 0.130, 10.9),
        (65536, 0.478, 17.4),
        (262144, 2.02, 26.1),
        (1048576, 10.6, 36.8),
    ),
}


@dataclass(frozen=True, kw_only=True)
class MemoryTerms:
    """Peak memory by what it is spent on, at the moment of the peak; GiB."""

    weights: float
    kv: float  # keys and values held; of the encoder too, while it is what peaks
    logits: float
    activations: float

    @property
    def total(self) -> float:
        """The peak."""
        return self.weights + self.kv + self.logits + self.activations


@dataclass(frozen=True, kw_only=True)
class TimeTerms:
    """Time to first token by who takes it; seconds."""

    encoder: float
    decoder: float
    eviction: float = 0.0  # choosing what to drop, after the decoder has read everything

    @property
    def total(self) -> float:
        """The time to the first token."""
        return self.encoder + self.decoder + self.eviction


# --------------------------------------------------------------------------------------- memory


@public
def memory_terms(n_tokens: int, *, ratio: int, logits: str = "all") -> MemoryTerms:
    """Peak memory of reading a prompt, by term, as Figure 4 has it.

    With an encoder the peak lies where it reads its batch of 131,072 tokens, or where the decoder
    reads the latents, whichever is higher: the terms are those of that moment.

    Args:
        n_tokens: of the prompt, before compression.
        ratio: tokens per latent; 1: no compression.
        logits: "all" keeps a row of the vocabulary for every position, as the figure's runs seem
            to; "last" keeps one, which is all that the first token needs.

    Raises:
        ValueError: `n_tokens` below 1, a ratio that does not divide the window, or other logits.
    """
    n_tokens, ratio = _sizes(n_tokens, ratio)
    rows = _rows(n_tokens / ratio, logits)
    if ratio == 1:
        return MemoryTerms(
            weights=WEIGHTS_GIB,
            kv=n_tokens * KV_BYTES / GIB,
            logits=rows * LOGIT_BYTES / GIB,
            activations=REST_GIB + n_tokens * RAW_BYTES / GIB,
        )
    return max(latent_moments(n_tokens, ratio=ratio, logits=logits), key=lambda terms: terms.total)


@public
def latent_moments(
    n_tokens: int, *, ratio: int, logits: str = "all"
) -> tuple[MemoryTerms, MemoryTerms]:
    """Memory by term where the encoder holds most, and where the decoder has read all latents.

    Arguments and errors as in `memory_terms`, but for the ratio, which is at least 2.
    """
    n_tokens, ratio = _sizes(n_tokens, whole("ratio", ratio, low=2))
    positions = n_tokens / ratio
    rows = _rows(positions, logits)
    batch = min(n_tokens, ENCODER_BATCH)
    encoding = MemoryTerms(
        weights=PAIR_WEIGHTS_GIB,
        kv=batch * ENCODER_KV_BYTES / GIB,
        logits=0.0,
        activations=REST_GIB + batch * ENCODER_BYTES / GIB,
    )
    decoding = MemoryTerms(
        weights=PAIR_WEIGHTS_GIB,
        kv=positions * KV_BYTES / GIB,
        logits=rows * LOGIT_BYTES / GIB,
        activations=REST_GIB + positions * LATENT_BYTES / GIB,
    )
    return encoding, decoding


def _rows(positions: float, logits: str) -> float | int:
    """Rows of the vocabulary that are held."""
    if logits not in ("all", "last"):
        raise ValueError(
            f"logits={logits!r} is unknown: 'all' keeps a row for every position, 'last' keeps "
            "one; choose one of the two."
        )
    return positions if logits == "all" else 1


@public
def memory_gib(n_tokens: int, *, ratio: int, logits: str = "all") -> float:
    """Peak memory of reading a prompt, in GiB, as Figure 4 has it: the sum of `memory_terms`.

    Within 0.2 GiB of the figure where it prints tenths. Arguments and errors as there.
    """
    return memory_terms(n_tokens, ratio=ratio, logits=logits).total


# ----------------------------------------------------------------------------------------- time


@public
def ttft_terms(n_tokens: int, *, ratio: int) -> TimeTerms:
    """Time to first token by term, as Figure 4 has it: 5.9 µs a token, and a prefill on T/N.

    The decoder's part is the figure's uncompressed curve. Between its points (4K, 16K, 64K and
    256K tokens) both axes are logarithmic and the line straight. Beyond 256K the last piece goes
    on (a power of 1.9). Below 4K the first piece does (a power of 1.2), until 35 ms, the floor
    that the figure's LCLM curves show at 4K.

    Args:
        n_tokens: of the prompt, before compression.
        ratio: tokens per latent; 1: no compression, and no encoder.

    Raises:
        ValueError: `n_tokens` below 1, or a ratio that does not divide the window.
    """
    n_tokens, ratio = _sizes(n_tokens, ratio)
    return TimeTerms(
        encoder=0.0 if ratio == 1 else ALPHA_S * n_tokens,
        decoder=max(_log_line(n_tokens / ratio, DECODED_RAW), FLOOR_S),
    )


@public
def ttft_seconds(n_tokens: int, *, ratio: int) -> float:
    """Time to first token in seconds, as Figure 4 has it: the sum of `ttft_terms`.

    From 64K to 1M tokens 2.2 % off the figure at the most at ratio 16, 5 % at ratio 8, and 4 to
    12 % low at ratio 4. Arguments and errors as there.
    """
    return ttft_terms(n_tokens, ratio=ratio).total


@public
def eviction_terms(
    n_tokens: int, *, ratio: int, logits: str = "all"
) -> tuple[TimeTerms, MemoryTerms]:
    """Time to first token and peak memory of "prefill, then evict", as Figure 4 has FastKVzip.

    All that is read is prefilled first, so neither falls below the uncompressed one, whatever the
    ratio; what eviction adds to both is interpolated as the curves are. What it leaves behind is
    `kept_kv_gib`.

    Arguments and errors as in `memory_terms`; nothing is added at ratio 1.
    """
    raw = memory_terms(n_tokens, ratio=1, logits=logits)
    time = ttft_terms(n_tokens, ratio=1)
    n_tokens, ratio = _sizes(n_tokens, ratio)
    if ratio == 1:
        return time, raw
    more = [
        (n, evicted_s - raw_s, evicted_gib - raw_gib)
        for (n, evicted_s, evicted_gib), (_, raw_s, raw_gib) in zip(
            DECODED_EVICTION, DECODED_RAW, strict=True
        )
    ]
    return (
        TimeTerms(encoder=0.0, decoder=time.decoder, eviction=_log_line(n_tokens, more)),
        MemoryTerms(
            weights=raw.weights,
            kv=raw.kv,
            logits=raw.logits,
            activations=raw.activations + _log_line(n_tokens, more, column=2),
        ),
    )


@public
def kept_kv_gib(n_tokens: int, *, ratio: int) -> float:
    """Keys and values that decoding goes on from: those of T/N positions, evicted or compressed."""
    n_tokens, ratio = _sizes(n_tokens, ratio)
    return n_tokens / ratio * KV_BYTES / GIB


def _log_line(n: float | int, points: tuple | list, column: int = 1) -> float:
    """Straight between points on logarithmic axes; the first and the last piece go on."""
    places = [point[0] for point in points]
    right = min(max(bisect.bisect_left(places, n), 1), len(points) - 1)
    (low, y_low), (high, y_high) = ((p[0], p[column]) for p in points[right - 1 : right + 1])
    power = math.log(y_high / y_low) / math.log(high / low)
    return y_low * (n / low) ** power


def _sizes(n_tokens: int, ratio: int) -> tuple[int, int]:
    n_tokens = whole("n_tokens", n_tokens, low=1, why="a prompt has at least one token")
    ratio = whole("ratio", ratio, low=1, why="1 means no compression")
    if WINDOW % ratio:
        raise ValueError(
            f"ratio={ratio} must divide the window of {WINDOW:,} tokens: choose a power of two, "
            "such as 4, 8 or 16, or 1 for no compression."
        )
    return n_tokens, ratio


# ------------------------------------------------------------------------- any pair of models


@public
def n_weights(config: DecoderConfig) -> int:
    """Numbers in a decoder's weights, a tied output head counted once."""
    heads = config.n_q_heads + config.n_kv_heads
    layer = 2 * config.d_model * heads * config.d_head  # queries and output, keys and values
    layer += 3 * config.d_model * config.d_ff + 2 * config.d_model
    tables = config.vocab_size * config.d_model * (1 if config.tied_embeddings else 2)
    if config.positions == "learned":
        tables += config.max_positions * config.d_model
    return config.n_layers * layer + tables + config.d_model


@public(d_encoder=1, d_decoder=1, pooled=1)
def n_adapter_weights(d_encoder: int, d_decoder: int, *, pooled: int = 1) -> int:
    """Numbers in the MLP adapter (Eqs. 7-8): a norm, two layers of the decoder's width, biases.

    Args:
        d_encoder: channels of the encoder.
        d_decoder: channels of the decoder.
        pooled: states that are stacked in one latent: 1, or the ratio for "concat".
    """
    d_in = pooled * d_encoder
    return d_in + d_in * d_decoder + d_decoder + d_decoder * d_decoder + d_decoder


@public(element_bytes=1)
def kv_bytes_per_position(config: DecoderConfig, *, element_bytes: int = 2) -> int:
    """Bytes of keys and values that one position holds, over all layers."""
    return 2 * config.n_layers * config.n_kv_heads * config.d_head * element_bytes


@public
def prefill_flops(config: DecoderConfig, n: int, *, window: int | None = None) -> int:
    """FLOPs of reading n tokens, two per multiply-add, the output head left out.

    Args:
        config: the model.
        n: tokens.
        window: attention stays within windows of so many tokens, as an encoder's does; None: none.

    Returns:
        Weights are linear in n. Causal attention is quadratic in n without windows and linear with
        them: 4 · heads · size FLOPs for each pair of a query and a key that it sees.

    Raises:
        ValueError: `n` or `window` below 1.
    """
    n = whole("n", n, low=1)
    window = n if window is None else whole("window", window, low=1)
    full, rest = divmod(n, window)
    pairs = full * window * (window + 1) // 2 + rest * (rest + 1) // 2
    matrices = 2 * config.d_model * (config.n_q_heads + config.n_kv_heads) * config.d_head
    matrices += 3 * config.d_model * config.d_ff
    attention = 4 * config.n_q_heads * config.d_head * pairs
    return config.n_layers * (2 * matrices * n + attention)


@public
def pair_flops(
    encoder: DecoderConfig, decoder: DecoderConfig, n: int, *, ratio: int, window: int = WINDOW
) -> tuple[int, int]:
    """FLOPs of the encoder on n tokens and of the decoder on what they become; (0, all) at ratio 1.

    The adapter is left out: it is one layer of MLP, once per latent.

    Raises:
        ValueError: a size below 1, or a ratio that does not divide the window.
    """
    n, window = whole("n", n, low=1), whole("window", window, low=1)
    ratio = whole("ratio", ratio, low=1)
    if window % ratio:
        raise ValueError(f"ratio={ratio} must divide window={window}: groups fill the window.")
    if ratio == 1:
        return 0, prefill_flops(decoder, n)
    return prefill_flops(encoder, n, window=window), prefill_flops(decoder, -(-n // ratio))
