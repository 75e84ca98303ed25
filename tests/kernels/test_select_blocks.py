"""Facts about block selection that hold for any scores."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intuitive.kernels import select_blocks

INF = float("inf")


def select(*scores, n_selected, **rule):
    """Ids selected from one row of scores."""
    row = torch.tensor(scores, dtype=torch.float32).view(1, 1, 1, -1)
    return select_blocks(row, n_selected=n_selected, block_size=4, **rule).flatten().tolist()


scores = st.lists(st.sampled_from([-INF, -2.0, -1.0, -0.0, 0.0, 1.0, 2.0]), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(scores=scores, free=st.integers(1, 6), n_local=st.integers(0, 3), n_init=st.integers(0, 3))
def test_the_selection_obeys_every_rule(scores, free, n_local, n_init):
    n_selected = free + n_local + n_init
    got = select(*scores, n_selected=n_selected, n_local=n_local, n_init=n_init)
    readable = [i for i, s in enumerate(scores) if s > -INF]
    valid = [i for i in got if i >= 0]
    assert len(got) == n_selected
    assert got == valid + [-1] * (n_selected - len(valid))  # left-packed
    assert valid == sorted(set(valid))  # ascending, each once
    assert len(valid) == min(n_selected, len(readable))
    assert set(valid) <= set(readable)
    local = max(readable, default=-1)
    forced = {i for i in readable if i < n_init or local - n_local < i <= local}
    assert forced <= set(valid)
    for kept in set(valid) - forced:  # no block left out beats one that was kept
        for left in set(readable) - set(valid):
            assert (scores[kept], -kept) > (scores[left], -left)


def test_ties_go_to_the_lower_block_and_zero_has_no_sign():
    assert select(1, 1, 1, 1, n_selected=2, n_local=0) == [0, 1]
    assert select(-0.0, 0.0, -0.0, 0.0, n_selected=2, n_local=0) == [0, 1]
    assert select(0.0, -0.0, 0.0, -0.0, n_selected=3, n_local=0) == [0, 1, 2]


def test_the_local_block_takes_one_of_the_slots():
    assert select(3, 2, 1, 0, n_selected=2) == [0, 3]
    assert select(3, 2, 1, 0, -INF, n_selected=2) == [0, 3]  # the last finite score is local
    assert select(3, 2, 1, 0, n_selected=1) == [3]
    assert select(3, 2, 1, 0, n_selected=2, n_local=0) == [0, 1]


def test_initial_blocks_are_forced_where_they_can_be_read():
    assert select(0, 5, 5, 5, 1, n_selected=3, n_init=1) == [0, 1, 4]
    assert select(-INF, 5, 4, 3, n_selected=3, n_init=1) == [1, 2, 3]


def test_rows_with_nothing_to_read_stay_empty():
    assert select(-INF, -INF, n_selected=3) == [-1, -1, -1]
    assert select(7, n_selected=3) == [0, -1, -1]


def test_unchecked_nan_and_infinity_are_never_selected():
    row = torch.tensor([[[[1.0, float("nan"), INF, 0.0]]]])
    got = select_blocks(row, n_selected=4, block_size=4, validate=False)
    assert got.flatten().tolist() == [0, 3, -1, -1]


def test_only_the_order_of_scores_matters():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 5, 3, 20, generator=generator)
    rule = {"n_selected": 6, "block_size": 4, "n_init": 1}
    assert torch.equal(select_blocks(scores, **rule), select_blocks(scores.exp() * 3 - 1, **rule))
