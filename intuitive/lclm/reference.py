"""The arithmetic and the pooling of latent tokens, as plain functions.

A span of T tokens is read in windows of W, each of them on its own; every N states of a window
become one latent. Around the latents stand two tags.

Source: arXiv:2606.09659v1, section 3 (Eqs. 1-6); the official repository for what the formulas
leave open (padding of a short last group, tags).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.inputs import public

from .config import check_ratio

Kind = Literal["raw", "start", "latent", "end"]
KINDS = ("raw", "start", "latent", "end")
N_TAGS = 2  # memory_start and memory_end


@public
def latent_count(n_tokens: int, *, ratio: int, window: int) -> int:
    """Latents of a span: over its windows, the sum of ⌈|w|/N⌉, which is ⌈T/N⌉.

    Args:
        n_tokens: tokens of the span, T; 0 gives 0, though a model refuses to encode an empty span.
        ratio: tokens per latent, N.
        window: tokens per encoder pass, W.

    Raises:
        ValueError: the ratio does not divide the window, or a number out of range.
    """
    ratio = check_ratio(ratio, window)
    return -(-whole("n_tokens", n_tokens, low=0) // ratio)


@public
def effective_ratio(n_tokens: int, *, ratio: int) -> float:
    """Tokens of a span per decoder position that it takes, its two tags counted.

    Raises:
        ValueError: fewer than one token, or a ratio below 1.
    """
    n_tokens, ratio = whole("n_tokens", n_tokens, low=1), whole("ratio", ratio, low=1)
    return n_tokens / (-(-n_tokens // ratio) + N_TAGS)


@dataclass(frozen=True)
class Window:
    """What one encoder pass reads and what it owns; token indices in the span, ends excluded."""

    read_start: int
    start: int  # of the tokens that are pooled
    stop: int
    read_stop: int


@public
def windows(
    n_tokens: int, *, window: int, overlap: int = 0, causal: bool = True
) -> tuple[Window, ...]:
    """The encoder passes over a span of `n_tokens`; the last window may be shorter.

    Args:
        n_tokens: tokens of the span.
        window: tokens per pass, W.
        overlap: neighbours read on the left, and on the right too unless causal.
        causal: whether a state sees only what came before it, so that no right neighbour counts.
    """
    n_tokens, window = whole("n_tokens", n_tokens, low=0), whole("window", window, low=1)
    overlap = whole("overlap", overlap, low=0)
    passes = []
    for start in range(0, n_tokens, window):
        stop = min(start + window, n_tokens)
        right = stop if causal else min(stop + overlap, n_tokens)
        passes.append(Window(max(start - overlap, 0), start, stop, right))
    return tuple(passes)


@public
def group_spans(n_tokens: int, *, ratio: int, window: int) -> tuple[tuple[int, int], ...]:
    """The tokens that make each latent: first index and end (excluded), in the span."""
    check_ratio(ratio, window)
    return tuple((i, min(i + ratio, n_tokens)) for i in range(0, n_tokens, ratio))


@public
def mean_pool(states: Float[Tensor, "*b n d"], ratio: int) -> Float[Tensor, "*b m d"]:
    """Mean of every `ratio` states; the last group is divided by its true size.

    Args:
        states: of one window, or of a span whose windows are multiples of `ratio`.
        ratio: states per latent, N.

    Returns:
        m = ⌈n/N⌉ pooled states.

    Source: Eq. 2.
    """
    n, ratio = states.shape[-2], whole("ratio", ratio, low=1)
    whole_groups = n // ratio * ratio
    pooled = states[..., :whole_groups, :].unflatten(-2, (-1, ratio)).mean(-2)
    if whole_groups == n:
        return pooled
    return torch.cat((pooled, states[..., whole_groups:, :].mean(-2, keepdim=True)), dim=-2)


@public
def concat_pool(states: Float[Tensor, "*b n d"], ratio: int) -> Float[Tensor, "*b m wide"]:
    """Every `ratio` states one after the other, [m, N * d]; a short last group ends in zeros.

    Source: Eq. 3; the zeros are the official repository's.
    """
    n, ratio = states.shape[-2], whole("ratio", ratio, low=1)
    return F.pad(states, (0, 0, 0, -n % ratio)).unflatten(-2, (-1, ratio)).flatten(-2)


@public
def last_pool(states: Float[Tensor, "*b n d"], ratio: int) -> Float[Tensor, "*b m d"]:
    """The last state of every group of `ratio`.

    Differs: not among the paper's poolings; it shows what a causal state holds of its group.
    """
    n, ratio = states.shape[-2], whole("ratio", ratio, low=1)
    ends = torch.arange(ratio - 1, n - 1 + ratio, ratio, device=states.device).clamp(max=n - 1)
    return states.index_select(-2, ends)


POOL = {"mean": mean_pool, "concat": concat_pool, "last": last_pool}


@public
def pool_ragged(
    pooling: str, states: Float[Tensor, "r w d"], ratio: int, lengths: Int[Tensor, " r"]
) -> Float[Tensor, "r m wide"]:
    """Pooling of windows that are padded at the end, all at once.

    Args:
        pooling: "mean", "concat" or "last".
        states: of r windows; row i holds `lengths[i]` states, what follows is ignored.
        ratio: states per latent.
        lengths: at least 1 each.

    Returns:
        Row i begins with its own ⌈length/N⌉ latents; the rest is of no use.

    Raises:
        ValueError: another pooling, or a number out of range.
    """
    w = states.shape[1]
    if pooling not in POOL:
        raise ValueError(f"pooling={pooling!r} is unknown; choose one of {', '.join(POOL)}.")
    ratio = whole("ratio", ratio, low=1)
    if not 1 <= int(lengths.min()) <= int(lengths.max()) <= w:
        raise ValueError(f"lengths={lengths.tolist()} must lie in [1, {w}], the states there are.")
    index = torch.arange(w, device=states.device)
    if pooling == "last":
        ends = torch.arange(ratio - 1, w - 1 + ratio, ratio, device=states.device)
        ends = torch.minimum(ends[None], lengths[:, None] - 1)  # [r, m]
        return states.gather(1, ends[..., None].expand(-1, -1, states.shape[-1]))
    there = index[None] < lengths[:, None]  # [r, w]
    stacked = concat_pool(states.masked_fill(~there[..., None], 0), ratio)  # [r, m, N * d]
    if pooling == "concat":
        return stacked
    sizes = F.pad(there, (0, -w % ratio)).unflatten(1, (-1, ratio)).sum(-1).clamp(min=1)
    return stacked.unflatten(-1, (ratio, -1)).sum(-2) / sizes[..., None].to(states.dtype)


@public
def label_mask(kinds: Sequence[str]) -> Bool[Tensor, " n"]:
    """True where a raw token stands that something precedes: those are the trained ones.

    Latents and tags are given, never predicted. The raw token after `memory_end` is predicted
    from that tag and is trained; the first token of a sequence has nothing before it.

    Args:
        kinds: of each decoder position, "raw", "start", "latent" or "end".

    Raises:
        ValueError: another kind.

    Source: arXiv:2606.09659v1, section 4 (next-token loss on raw tokens only).
    """
    unknown = sorted({*kinds} - {*KINDS})
    if unknown:
        raise ValueError(f"kinds {unknown} are unknown; a position is one of {', '.join(KINDS)}.")
    return torch.tensor(
        [i > 0 and kind == "raw" for i, kind in enumerate(kinds)], dtype=torch.bool, device="cpu"
    )
