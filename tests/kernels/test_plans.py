"""Which plan is named, suggested and refused; what eight bits of an index lose."""

from pathlib import Path

import pytest
import torch
from kernel_inputs import draw_index, draw_inputs

from intuitive.kernels import (
    block_sparse_attention,
    code_recall,
    decode_step,
    distinct_blocks,
    index_codes,
    limits,
    plans,
    score_and_select,
    suggest_plan,
)


def test_distinct_blocks_of_neighbours():
    ids = torch.tensor([[0, 1, -1], [1, 2, -1], [5, 5, 5], [6, -1, 7]]).reshape(1, 4, 1, 3)
    assert distinct_blocks(ids, queries=1) == (2 + 2 + 1 + 2) / 4
    assert distinct_blocks(ids, queries=2) == (3 + 3) / 2
    assert distinct_blocks(ids, queries=4) == 6
    assert distinct_blocks(ids, queries=3) == (4 + 2) / 2  # the last tile holds one query


def test_scattered_is_suggested_where_neighbours_share_little():
    near = torch.arange(16).expand(1, 8, 2, 16)
    apart = torch.arange(8 * 16).reshape(1, 8, 1, 16)
    assert suggest_plan(near) == "hopper"
    assert distinct_blocks(apart) == 64
    assert suggest_plan(apart) == "scattered"


def test_a_plan_of_no_name_is_refused():
    x = draw_inputs(1, 2, 40, 1, 2, 64, block_size=16, n_selected=2, seed=0)
    q_idx, k_idx = draw_index(1, 2, 40, 1, 64, seed=0)
    assert plans.named(None) == plans.DEFAULT == "hopper"
    with pytest.raises(ValueError, match="plan='fast' must be one of 'general', 'hopper', 'scat"):
        block_sparse_attention(*x, block_size=16, plan="fast")
    with pytest.raises(ValueError, match="plan='scattered' must be one of 'general', 'hopper'\\."):
        score_and_select(q_idx, k_idx, n_selected=2, block_size=16, plan="scattered")


def test_a_decode_step_is_its_three_steps():
    x = draw_inputs(2, 1, 100, 2, 3, 64, block_size=16, n_selected=1, seed=0)
    q_idx, k_idx = draw_index(2, 1, 100, 2, 64, seed=1)
    rule = {"n_selected": 3, "block_size": 16, "n_init": 1}
    step = decode_step(*x[:3], q_idx, k_idx, **rule)
    assert torch.equal(step.block_idx, score_and_select(q_idx, k_idx, **rule))
    want, lse = block_sparse_attention(*x[:3], step.block_idx, block_size=16, return_lse=True)
    assert torch.equal(step.out, want)
    assert torch.equal(step.lse, lse)
    with pytest.raises(ValueError, match="q has n=2 queries, but decode_step takes one"):
        two = x.q.expand(-1, 2, -1, -1).reshape(2, 2, 6, 64)
        decode_step(two, *x[1:3], q_idx.expand(-1, 2, -1, -1), k_idx, **rule)
    with pytest.raises(ValueError, match=r"k_idx has dtype torch\.float16, but q_idx"):
        decode_step(*x[:3], q_idx, k_idx.half(), **rule)


def test_codes_keep_what_eight_bits_can_say():
    x = torch.tensor([[1.0, -0.5, 0.25, 1.75], [1e6, -2e6, 0, 1.5e6]])
    assert torch.equal(index_codes(x[:1], unit=1.0).float(), x[:1])
    assert index_codes(x, unit=1.0).float().max() == 448
    rows = index_codes(x).float()
    ratio = rows / x
    assert rows.abs().amax(-1).min() > 448 / 4  # each row fills the range
    torch.testing.assert_close(ratio[:, 0], ratio[:, 3], rtol=0.07, atol=0)
    assert torch.equal(index_codes(2 * x[:1], unit=2.0).float(), x[:1])


def test_recall_is_one_where_codes_are_exact_and_less_on_noise():
    draw = torch.Generator().manual_seed(0)
    q_idx = torch.randint(-4, 5, (1, 30, 2, 64), generator=draw).float()
    k_idx = torch.randint(-4, 5, (1, 300, 64), generator=draw).float()
    rule = {"n_selected": 4, "block_size": 16}
    assert code_recall(q_idx, k_idx, **rule) == 1
    q_idx, k_idx = draw_index(1, 30, 300, 2, 64, seed=0)
    assert 0.8 < code_recall(q_idx, k_idx, **rule) < 1
    far = code_recall(q_idx, k_idx, unit=1e4, **rule)  # keys that fall below the least code
    assert far < code_recall(q_idx, k_idx, **rule)


def test_the_page_says_when_a_plan_is_taken():
    page = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text("utf-8")
    for words in (
        f"From {limits.FEWEST_ROWS:,} rows at a time",
        f"at most {limits.PART_BYTES / 2**30:g} GiB",
        f"three launches, up to {plans.HOPPER_BLOCKS} blocks",
        f"compares that with {plans.SCATTERED}",
        f"at most {plans.WIDEST_GROUP} query heads a key head",
        f'`"{plans.DEFAULT}"`, the default',
    ):
        assert words in page
