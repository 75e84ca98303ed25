"""Ways to choose what a cache keeps: their settings, and their scores as pure functions.

A score says how much an entry matters, per key/value head; the highest ones are kept. Queries are
[n, h_q, d], keys and values [m, h_kv, d], of one row of the batch and with positions applied; the
queries of a group read the same key/value head.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..checks import whole, whole_fields
from ..decoder import attention_rows, rotate

AT_A_TIME = 256  # queries whose attention is held at once


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Everything is kept."""

    name: ClassVar[str] = "raw"


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """Only the newest tokens are read at all, so that they know nothing of what was before them."""

    name: ClassVar[str] = "truncation"


@dataclass(frozen=True, kw_only=True)
class SnapKV:
    """Keep what the prompt's last queries attend to, and these last tokens themselves.

    Source: Li et al. 2024, arXiv:2404.14469, section 4.
    """

    name: ClassVar[str] = "snapkv"
    window: int = 32  # last tokens: their queries observe, they are always kept
    kernel: int = 5  # neighbouring keys whose scores are averaged, odd

    def __post_init__(self) -> None:
        whole_fields(self, window=1, kernel=1)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel} must be odd: it is centred on a key.")


@dataclass(frozen=True, kw_only=True)
class KVzip:
    """Keep what is attended to while the model repeats the prompt, whatever may be asked later.

    The prompt is repeated in chunks: behind the full cache comes `request`, from the second chunk
    on the last tokens of the chunk before, and then the chunk itself, as if the model wrote it.

    Source: Kim et al. 2025, arXiv:2505.23416, section 3.
    """

    name: ClassVar[str] = "kvzip"
    request: tuple[int, ...] = ()  # token ids that ask for a repetition
    chunk: int = 2048  # tokens repeated at once
    lead: int = 8  # tokens before the chunk that say where to go on
    n_sink: int = 4  # first tokens, always kept

    def __post_init__(self) -> None:
        whole_fields(self, chunk=1, lead=0, n_sink=0)
        object.__setattr__(self, "request", tuple(whole("request", i, low=0) for i in self.request))


@dataclass(frozen=True, kw_only=True)
class ExpectedAttention:
    """Keep what future queries are expected to attend to, weighed by the size of the values.

    Differs: the norm of the values is taken before the output projection, and nothing is added to
    the expected attention before it is multiplied.

    Source: Devoto et al. 2025, arXiv:2510.00636, section 3.
    """

    name: ClassVar[str] = "expected"
    n_future: int = 512  # positions over which RoPE is averaged
    n_sink: int = 4  # first tokens, always kept, and left out of the statistics

    def __post_init__(self) -> None:
        whole_fields(self, n_future=1, n_sink=0)


Method = Raw | Truncation | SnapKV | KVzip | ExpectedAttention
METHODS = {kind.name: kind for kind in (Raw, Truncation, SnapKV, KVzip, ExpectedAttention)}


def attention_of_last_queries(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"], *, window: int, kernel: int
) -> Float[Tensor, "h_kv m"]:
    """SnapKV's scores: mean attention of the last queries, averaged over neighbouring keys.

    Args:
        q: of the last n tokens, at least `window`.
        k: of all m tokens.
        window: last queries that observe; their own keys score infinity, since they are kept.
        kernel: keys that are averaged, centred; beyond the ends and in the window stands 0.

    Returns:
        Scores, averaged over the queries and heads of a group.
    """
    window = min(window, len(q))
    rows = attention_rows(q, k, torch.arange(len(q) - window, len(q), device=q.device))
    seen = rows[..., : len(k) - window].unflatten(0, (k.shape[1], -1)).mean((1, 2))
    if seen.shape[-1]:
        seen = F.avg_pool1d(seen, kernel, stride=1, padding=kernel // 2)
    return F.pad(seen, (0, window), value=torch.inf)


def attention_while_repeating(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"]
) -> Float[Tensor, "h_kv m_read"]:
    """KVzip's scores: the most attention that any query and head of a group gives to a key.

    Args:
        q: of the n tokens of a repetition.
        k: of the chunk that is repeated and, after it, of the n tokens themselves: attention is
            shared among these alone.

    Returns:
        Scores of the chunk's m - n keys.
    """
    n_read, h_kv = len(k) - len(q), k.shape[1]
    most = q.new_zeros(h_kv, n_read, dtype=torch.promote_types(q.dtype, torch.float32))
    for part in torch.arange(len(q), device=q.device).split(AT_A_TIME):
        rows = attention_rows(q, k, part)[..., :n_read].unflatten(0, (h_kv, -1))
        most = torch.maximum(most, rows.amax((1, 2)))
    return most


def attention_expected(
    q: Float[Tensor, "n h_q d"],
    k: Float[Tensor, "m h_kv d"],
    v: Float[Tensor, "m h_kv d"],
    positions: Int[Tensor, " n"],
    *,
    rope_base: float | int | None,
    n_future: int,
    n_sink: int,
) -> Float[Tensor, "h_kv m"]:
    """Expected Attention's scores: softmax of log E[exp(q·k/√d)] over the keys, times |v|.

    Queries before RoPE are taken as Gaussian with the prompt's mean and covariance, then turned by
    the mean rotation R of the next positions: with mean Rμ and covariance RΣRᵀ the expectation is
    exp(k·Rμ/√d + kᵀRΣRᵀk/2d).

    Args:
        q: of all n = m tokens, positions applied.
        k: likewise.
        v: values.
        positions: of the queries; the next ones follow the last.
        rope_base: as in `rotate`; None: queries carry no rotation.
        n_future: positions averaged over.
        n_sink: first tokens left out of statistics and softmax; they score infinity.

    Returns:
        Scores, averaged over the heads of a group.
    """
    d, h_kv = q.shape[-1], k.shape[1]
    wide = torch.promote_types(q.dtype, torch.float32)
    n_sink = min(n_sink, len(k) - 1)
    plain = q.to(wide)
    if rope_base is not None:
        plain = rotate(plain[None], -positions[None], rope_base)[0]
    plain = plain[n_sink:]
    mean = plain.mean(0)  # [h_q, d]
    centred = plain - mean
    covariance = torch.einsum("nhi,nhj->hij", centred, centred) / len(centred)
    if rope_base is not None:
        turn = mean_rotation(int(positions[-1]) + 1, n_future, d, rope_base, mean)
        mean = mean @ turn.T
        covariance = turn @ covariance @ turn.T
    keys = k[n_sink:].to(wide).repeat_interleave(q.shape[1] // h_kv, dim=1)  # [m, h_q, d]
    scores = torch.einsum("mhi,hi->hm", keys, mean) * d**-0.5
    scores = scores + torch.einsum("mhi,hij,mhj->hm", keys, covariance, keys) / (2 * d)
    shares = scores.softmax(-1).unflatten(0, (h_kv, -1)).mean(1)  # [h_kv, m - n_sink]
    sizes = v[n_sink:].to(wide).norm(dim=-1).T
    return F.pad(shares * sizes, (n_sink, 0), value=torch.inf)


def mean_rotation(
    first: int, count: int, d: int, base: float | int, like: Tensor
) -> Float[Tensor, "d d"]:
    """The mean of RoPE's rotations at `count` positions from `first` on, as a matrix.

    Args:
        first: position.
        count: positions.
        d: channels.
        base: as in `rotate`.
        like: gives device and dtype.
    """
    ones = (torch.arange(d, device=like.device) < d // 2).to(like.dtype)
    at = torch.arange(first, first + count, device=like.device)[None]
    turned = rotate(ones.expand(1, count, 1, d), at, base)  # cosines, then sines
    cos, sin = turned.mean((0, 1, 2)).chunk(2)
    upper = torch.cat((cos.diag(), -sin.diag()), 1)
    return torch.cat((upper, torch.cat((sin.diag(), cos.diag()), 1)))
