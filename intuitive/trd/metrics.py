"""How well rollouts did: Avg@n, pass@k, orders, transitions, and how sure we may be of it.

`correct` is always [problems, n]: n rollouts of each problem, graded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import SupportsIndex

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.inputs import public
from intuitive.common.runtime import seeded

Count = SupportsIndex | float | Sequence  # a whole number, a list or a tensor of them; checked


@public(empty="*")
def pass_at_k(n: Count, c: Count, k: Count) -> float | Tensor:
    """Chance that at least one of k rollouts is correct, estimated from n of which c were.

    1 − C(n − c, k) / C(n, k), the unbiased estimate; exact in integers until the last division.

    Args:
        n: rollouts drawn, at least 1.
        c: correct ones among them, in [0, n].
        k: rollouts allowed, in [1, n].

    Returns:
        A float for three numbers, else a float64 tensor of their broadcast shape.

    Raises:
        ValueError: a count that is not whole or out of range; shapes that do not broadcast.

    Source: Chen et al. 2021, arXiv:2107.03374, Eq. 1.
    """
    tensors = [_counts(name, count) for name, count in (("n", n), ("c", c), ("k", k))]
    try:
        tensors = torch.broadcast_tensors(*tensors)
    except RuntimeError:
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise ValueError(f"n, c and k have shapes {shapes}, which do not fit together.") from None
    rows = zip(*(t.flatten().tolist() for t in tensors), strict=True)
    values = [_pass_at_k(*row) for row in rows]
    if tensors[0].dim() == 0:
        return values[0]
    return torch.tensor(values, dtype=torch.float64, device="cpu").reshape(tensors[0].shape)


def _counts(name: str, count: Count) -> Tensor:
    try:
        counts = count if isinstance(count, Tensor) else torch.as_tensor(count, device="cpu")
    except (TypeError, ValueError, RuntimeError):  # no numbers, ragged, beyond 64 bits
        counts = torch.tensor(torch.nan, device="cpu")
    if counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool:
        raise ValueError(
            f"{name}={count!r} must be a whole number, or a list or tensor of them: pass integers."
        )
    return counts.cpu()


def _pass_at_k(n: int, c: int, k: int) -> float:
    if n < 1:
        raise ValueError(f"n={n} must be at least 1: draw a rollout first.")
    if not 0 <= c <= n:
        raise ValueError(f"c={c} must lie in [0, n={n}]: of n rollouts c are correct.")
    if not 1 <= k <= n:
        raise ValueError(f"k={k} must lie in [1, n={n}]: draw more rollouts for a larger k.")
    c, k = max(c, k), min(c, k)  # C(n − c, k) / C(n, k) is the same for both ways: take the short
    total = math.comb(n, k)
    return (total - math.comb(n - c, k)) / total


@public(empty="*")
def avg_at_n(correct: Bool[Tensor, "problems n"]) -> float:
    """Share of correct rollouts, averaged over problems.

    Raises:
        ValueError: no rollouts at all.
    """
    if correct.numel() == 0:
        raise ValueError(f"correct has shape {tuple(correct.shape)}: there is nothing to average.")
    return float(correct.double().mean())


@public(empty="*")
def distinct_correct_orders(
    orders: Int[Tensor, "problems n k"], correct: Bool[Tensor, "problems n"]
) -> Int[Tensor, " problems"]:
    """How many different orders the correct rollouts of each problem took; 0 if none is correct."""
    return torch.tensor(
        [
            len({tuple(order) for order, good in zip(rows, goods, strict=True) if good})
            for rows, goods in zip(orders.tolist(), correct.tolist(), strict=True)
        ],
        dtype=torch.int64,
        device="cpu",
    )


@dataclass(frozen=True)
class Transitions:
    """Rollouts by whether they were correct before and after; counts."""

    fail_fail: int
    fail_pass: int
    pass_fail: int
    pass_pass: int


@public(empty="*")
def transitions(before: Bool[Tensor, " b"], after: Bool[Tensor, " b"]) -> Transitions:
    """The fail/pass table of a rewrite, such as y_o → y_r.

    Source: arXiv:2606.08432, section 6.5.
    """
    counts = torch.bincount(2 * before.long() + after.long(), minlength=4)
    return Transitions(*counts.tolist())


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


@public(empty="*")
def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share; its ends stay within [0, 1].

    Raises:
        ValueError: `n` below 1, `successes` outside [0, n], `level` outside (0, 1).

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes={successes} must lie in [0, n={n}], and n be at least 1.")
    z = _two_sided(level)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At 0 and at n the ends are 0 and 1 exactly; rounding would miss them by an ulp.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(share, low, high)


@public(empty="*")
def bootstrap_mean(
    values: Float[Tensor, "seeds problems"] | Float[Tensor, " problems"],
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean over problems, or over seeds and problems.

    With two axes both are drawn anew with replacement, problems alike for all seeds, so that the
    interval covers another set of problems and another set of seeds.

    Raises:
        ValueError: no values, NaN or infinite ones among them, `n_resamples` below 1, `level`
            outside (0, 1).

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    if values.numel() == 0 or not values.isfinite().all():
        raise ValueError(
            f"values of shape {tuple(values.shape)} are empty or hold NaN or infinity: "
            "there has to be one finite number per problem."
        )
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples} must be at least 1.")
    _two_sided(level)
    table = values.detach().cpu().double().reshape(-1, values.shape[-1])  # [seeds, problems]
    n_seeds, n_problems = table.shape
    generator = seeded(seed)
    drawn = {"generator": generator, "device": generator.device}
    means = []
    for _ in range(n_resamples):
        rows = torch.randint(n_seeds, (n_seeds,), **drawn)
        columns = torch.randint(n_problems, (n_problems,), **drawn)
        means.append(table[rows][:, columns].mean())
    ends = table.new_tensor([(1 - level) / 2, (1 + level) / 2])
    low, high = torch.stack(means).quantile(ends).tolist()
    return Interval(float(table.mean()), low, high)


def _two_sided(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie in (0, 1), such as 0.95.")
    return NormalDist().inv_cdf((1 + level) / 2)
