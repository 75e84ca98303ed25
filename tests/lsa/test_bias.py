"""A bias spares fetches where heads are few; both indexers find what is needed."""

import pytest

from intuitive.lsa.experiments.bias import run


@pytest.mark.parametrize("seed", range(2))
def test_without_a_bias_more_is_fetched_to_find_as_much(seed, as_installed):
    with_bias, without = (run(bias=bias, seed=seed) for bias in (True, False))
    assert min(with_bias.golden_recall, without.golden_recall) > 0.8
    assert abs(with_bias.golden_recall - without.golden_recall) < 0.05
    assert without.fetched > 1.5 * with_bias.fetched > 4.5 * with_bias.needed


def test_more_heads_can_do_without(as_installed):
    few, many = (
        run(bias=False, heads=heads).fetched / run(bias=True, heads=heads).fetched
        for heads in (4, 12)
    )
    assert 1 < many < 0.85 * few
