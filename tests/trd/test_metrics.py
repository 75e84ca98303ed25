"""pass@k against every subset, intervals against their definitions."""

import itertools
import math
import time

import numpy as np
import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.trd.metrics import (
    Transitions,
    avg_at_n,
    bootstrap_mean,
    distinct_correct_orders,
    pass_at_k,
    transitions,
    wilson,
)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_equals_counting_subsets(n):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        graded = [True] * c + [False] * (n - c)
        subsets = list(itertools.combinations(graded, k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_is_exact_for_large_counts():
    assert pass_at_k(10_000, 1, 5_000) == 0.5
    assert pass_at_k(5_000, 4_999, 2) == 1.0
    assert pass_at_k(16, 0, 16) == 0.0
    started = time.perf_counter()
    assert pass_at_k(1_000_000, 1, 500_000) == 0.5
    assert time.perf_counter() - started < 1  # by C(1,000,000, 500,000) it would be 16 seconds


def test_pass_at_k_is_unbiased():
    """Averaged over binomial c it is 1 − (1 − p)^k, exactly."""
    n, p = 12, 0.3
    for k in (1, 4, 12):
        weights = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
        mean = sum(w * pass_at_k(n, c, k) for c, w in enumerate(weights))
        assert mean == pytest.approx(1 - (1 - p) ** k)


def test_pass_at_k_takes_tensors_lists_and_arrays():
    c = torch.tensor([[0, 3], [8, 1]])
    want = [[pass_at_k(8, x, 4) for x in row] for row in c.tolist()]
    got = pass_at_k(8, c, 4)
    assert got.dtype == torch.float64
    assert got.tolist() == want
    assert pass_at_k(8, c.tolist(), 4).tolist() == want
    assert pass_at_k(8, c.numpy(), 4).tolist() == want
    assert isinstance(pass_at_k(np.int64(8), torch.tensor(3), 4), float)
    assert pass_at_k(8, 3, torch.arange(1, 9)).diff().min() >= 0  # more tries never hurt


@pytest.mark.parametrize(
    ("n", "c", "k", "says"),
    [
        (0, 0, 1, "n=0 must be at least 1"),
        (4, 5, 1, r"c=5 must lie in \[0, n=4\]"),
        (4, -1, 1, r"c=-1 must lie in \[0, n=4\]"),
        (4, 2, 5, r"k=5 must lie in \[1, n=4\]"),
        (4, 2, 0, r"k=0 must lie in \[1, n=4\]"),
        (4, torch.tensor([1, 9]), 2, "c=9"),
        (4, 2.5, 1, "c=2.5 must be a whole number"),
        (4, [1.5], 1, r"c=\[1.5\] must be a whole number"),
        (4, 2, True, "k=True must be a whole number"),
        ("4", 2, 1, "n='4' must be a whole number"),
        ([[4], [5, 6]], 2, 1, r"n=\[\[4\], \[5, 6\]\] must be a whole number"),
        (2**70, 2, 1, f"n={2**70} must be a whole number"),
        (torch.tensor([4, 4]), torch.tensor([1, 2, 3]), 1, "do not fit together"),
    ],
)
def test_pass_at_k_refuses(n, c, k, says):
    with pytest.raises(ValueError, match=says):
        pass_at_k(n, c, k)


def test_avg_orders_and_transitions():
    correct = torch.tensor([[True, True, True, False], [False, False, False, False]])
    assert avg_at_n(correct) == 3 / 8
    orders = torch.tensor([[[0, 1], [1, 0], [0, 1], [1, 0]]] * 2)
    assert distinct_correct_orders(orders, correct).tolist() == [2, 0]
    before = torch.tensor([True, True, False, False, False])
    after = torch.tensor([True, False, True, True, False])
    assert transitions(before, after) == Transitions(
        fail_fail=1, fail_pass=2, pass_fail=1, pass_pass=1
    )
    with pytest.raises(ValueError, match="nothing to average"):
        avg_at_n(torch.zeros(0, 4, dtype=torch.bool))


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (50, 100), (10, 10)])
def test_wilson_ends_solve_the_score_equation(successes, n):
    interval = wilson(successes, n)
    share, z = successes / n, 1.959963985
    for end in (interval.low, interval.high):
        assert abs(share - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-7) or (
            end in (0.0, 1.0) and end == share
        )
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_bootstrap_has_the_width_of_the_central_limit():
    values = torch.rand(400, generator=seeded(0))
    interval = bootstrap_mean(values, n_resamples=2000, seed=1)
    assert interval.estimate == pytest.approx(float(values.mean()))
    want = 2 * 1.96 * float(values.std()) / 20
    assert interval.high - interval.low == pytest.approx(want, rel=0.1)
    assert interval == bootstrap_mean(values, n_resamples=2000, seed=1)


def test_bootstrap_over_seeds_counts_how_they_differ():
    """Seeds that agree within and differ among themselves: problems alone would look certain."""
    values = torch.tensor([0.2, 0.4, 0.6])[:, None].expand(3, 50)
    assert bootstrap_mean(values[1]).low == pytest.approx(0.4)
    interval = bootstrap_mean(values)
    assert interval.low < 0.3 and interval.high > 0.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: wilson(3, 2), r"successes=3 must lie in \[0, n=2\]"),
        (lambda: wilson(0, 0), "n be at least 1"),
        (lambda: wilson(1, 2, level=1.0), r"level=1.0 must lie in \(0, 1\)"),
        (lambda: bootstrap_mean(torch.zeros(0)), "one finite number per problem"),
        (lambda: bootstrap_mean(torch.tensor([math.nan])), "hold NaN"),
        (lambda: bootstrap_mean(torch.tensor([1.0, math.inf])), "infinity"),
        (lambda: bootstrap_mean(torch.zeros(2), n_resamples=0), "n_resamples=0"),
    ],
)
def test_bad_settings(call, says):
    with pytest.raises(ValueError, match=says):
        call()
