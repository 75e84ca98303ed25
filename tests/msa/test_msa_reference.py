"""Facts of MiniMax Sparse Attention, checked on its plain functions."""

import dataclasses
import math

import pytest
import torch

from intuitive.kernels import select_blocks
from intuitive.msa import reference as ref
from intuitive.msa.config import MSAConfig

INF = math.inf


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def draw_qkv(n, m, *, b=2, h_q=4, h_kv=2, d=8, seed=0):
    return (
        draw(b, n, h_q, d, seed=seed),
        draw(b, m, h_kv, d, seed=seed + 1),
        draw(b, m, h_kv, d, seed=seed + 2),
    )


def select(scores, n_selected, block_size, **forced):
    """Select for one sequence, without the batch axis."""
    scores = scores[None].float()
    return select_blocks(scores, n_selected=n_selected, block_size=block_size, **forced)[0]


# Index Branch


def draw_index(b=2, n=12, d_model=16, h_kv=2, d_idx=8):
    return {
        "hidden": draw(b, n, d_model, seed=1),
        "w_q": draw(h_kv * d_idx, d_model, seed=2),
        "w_k": draw(d_idx, d_model, seed=3),
        "norm_q": 1 + 0.1 * draw(d_idx, seed=4),
        "norm_k": 1 + 0.1 * draw(d_idx, seed=5),
        "positions": torch.arange(n).expand(b, n),
    }


def test_index_branch_sends_nothing_into_the_residual_stream():
    inputs = draw_index()
    learned = {name: inputs[name].requires_grad_() for name in ("w_q", "w_k", "norm_q", "norm_k")}
    inputs["hidden"].requires_grad_()
    q_idx, k_idx = ref.index_branch(**inputs, rope_base=10_000.0)
    ref.token_scores(q_idx, k_idx).clamp(min=-9).square().sum().backward()
    assert inputs["hidden"].grad is None
    for name, weight in learned.items():
        assert weight.grad.abs().max() > 0, name


def test_index_scores_depend_on_distance_not_on_position():
    inputs = draw_index()
    shifted = {**inputs, "positions": inputs["positions"] + 100}
    near, far = (
        ref.token_scores(*ref.index_branch(**x, rope_base=10_000.0)) for x in (inputs, shifted)
    )
    torch.testing.assert_close(near, far, atol=1e-9, rtol=1e-9)
    without = ref.token_scores(*ref.index_branch(**inputs, rope_base=None))
    assert (without - near)[without > -INF].abs().max() > 0.1


def test_index_heads_are_normalised():
    inputs = draw_index()
    loud = {**inputs, "hidden": 1000 * inputs["hidden"]}
    for one, other in zip(
        ref.index_branch(**inputs, rope_base=None),
        ref.index_branch(**loud, rope_base=None),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_index_branch_refuses_uneven_heads():
    inputs = draw_index()
    inputs["w_q"] = inputs["w_q"][:-1]
    with pytest.raises(ValueError, match=r"w_q has 15 rows, not a multiple of d_idx=8"):
        ref.index_branch(**inputs, rope_base=None)


def test_token_scores_share_one_key_head():
    q_idx, k_idx = draw(1, 3, 2, 4, seed=0), draw(1, 5, 4, seed=1)
    scores = ref.token_scores(q_idx, k_idx)
    # the last of three queries over five keys stands at position 4, the first at position 2
    assert scores[0, 0, 1, 2] == pytest.approx(float(q_idx[0, 0, 1] @ k_idx[0, 2]) / 2)
    assert (scores[0, 0, :, 3:] == -INF).all() and (scores[0, 2] > -INF).all()


@pytest.mark.parametrize("pool", ["block_max", "block_mean"])
def test_pooling_sees_visible_tokens_only(pool):
    scores = draw(7, 10)
    scores = scores.masked_fill(~torch.ones(7, 10, dtype=torch.bool).tril(3), -INF)
    got = getattr(ref, pool)(scores, 4)
    assert got.shape == (7, 3)
    for i in range(7):
        for block in range(3):
            seen = [float(s) for s in scores[i, block * 4 : block * 4 + 4] if s > -INF]
            want = -INF
            if seen:
                want = max(seen) if pool == "block_max" else sum(seen) / len(seen)
            assert float(got[i, block]) == pytest.approx(want)


def test_pooling_refuses_empty_blocks():
    with pytest.raises(ValueError, match="block_size=0 must be at least 1 token"):
        ref.block_max(draw(4), 0)


# Main Branch


def test_equals_dense_while_the_budget_covers_the_context():
    config = MSAConfig(d_head=8, d_index=8, block_size=4, n_selected=5)
    n = config.n_selected_tokens  # the longest context for which every block is selected
    q, k, v = draw_qkv(n, n)
    index = draw(2, n, 2, 8, seed=3), draw(2, n, 8, seed=4)
    torch.testing.assert_close(
        ref.msa_attention(q, k, v, *index, config), ref.dense_attention(q, k, v)
    )
    short = dataclasses.replace(config, n_selected=4)
    got = ref.msa_attention(q, k, v, *index, short)
    dense = ref.dense_attention(q, k, v)
    torch.testing.assert_close(got[:, : n - 4], dense[:, : n - 4])
    assert (got - dense)[:, n - 4 :].abs().amax(-1).min() > 1e-6  # one block left out hurts


def test_dense_attention_equals_repeated_heads():
    q, k, v = draw_qkv(6, 9)
    want = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.repeat_interleave(2, 2).transpose(1, 2),
        v.repeat_interleave(2, 2).transpose(1, 2),
        attn_mask=torch.ones(6, 9, dtype=torch.bool).tril(3),
    )
    torch.testing.assert_close(ref.dense_attention(q, k, v), want.transpose(1, 2))


def draw_block_idx(b, n, h_kv, n_blk, m, *, n_selected, block_size, seed=7):
    scores = draw(b, n, h_kv, n_blk, seed=seed)
    start = torch.arange(0, m, block_size)
    future = start > torch.arange(m - n, m)[:, None]
    scores = scores.masked_fill(future[:, None], -INF).float()
    return select_blocks(scores, n_selected=n_selected, block_size=block_size)


@pytest.mark.parametrize(("n", "m"), [(14, 14), (5, 14), (1, 13)])
def test_loop_orders_agree_in_float64(n, m):
    q, k, v = draw_qkv(n, m)
    block_idx = draw_block_idx(2, n, 2, 4, m, n_selected=3, block_size=4)
    masked = ref.masked_attention(q, k, v, ref.block_sparse_mask(block_idx, m, 4))
    for order in (ref.attend_query_outer, ref.attend_kv_outer):
        got = order(q, k, v, block_idx, block_size=4)
        torch.testing.assert_close(got, masked, atol=1e-12, rtol=1e-12)


def test_a_query_without_blocks_gets_zeros():
    q, k, v = draw_qkv(4, 4)
    nothing = torch.full((2, 4, 2, 3), -1, dtype=torch.int32)
    mask = ref.block_sparse_mask(nothing, 4, 2)
    assert not mask.any()
    assert not ref.masked_attention(q, k, v, mask).any()
    assert not ref.attend_kv_outer(q, k, v, nothing, block_size=2).any()
    assert not ref.attend_query_outer(q, k, v, nothing, block_size=2).any()


def test_the_future_never_leaks():
    n, i = 16, 9
    config = MSAConfig(d_head=8, d_index=8, block_size=4, n_selected=2)
    q, k, v = draw_qkv(n, n)
    q_idx, k_idx = draw(2, n, 2, 8, seed=3), draw(2, n, 8, seed=4)
    before = ref.msa_attention(q, k, v, q_idx, k_idx, config)
    for later in (k, v, k_idx):
        later[:, i + 1 :] = 50 * draw(*later[:, i + 1 :].shape, seed=9)
    after = ref.msa_attention(q, k, v, q_idx, k_idx, config)
    torch.testing.assert_close(after[:, : i + 1], before[:, : i + 1], atol=0, rtol=0)
    assert (after - before)[:, i + 1 :].abs().amax() > 1e-3


def test_token_5000_reads_1929_tokens_in_the_papers_sizes():
    paper = MSAConfig.paper()
    scores = ref.block_max(draw(1, 1, 4, 5001, dtype=torch.float32), paper.block_size)
    block_idx = select_blocks(scores, n_selected=paper.n_selected, block_size=paper.block_size)
    mask = ref.block_sparse_mask(block_idx, 5001, paper.block_size)
    assert mask.sum(-1).unique().tolist() == [15 * 128 + 9]
    assert mask[..., 4992:].all()  # the 9 tokens of the local block up to and including 5000


def test_unequal_groups_are_refused():
    with pytest.raises(ValueError, match="4 query heads do not form 3 equal groups"):
        ref.group_queries(draw(4, 8), 3)


def test_more_queries_than_keys_are_refused():
    with pytest.raises(ValueError, match="3 keys for 5 queries"):
        ref.main_scores(draw(5, 4, 8), draw(3, 2, 8))
    with pytest.raises(ValueError, match="3 keys for 5 queries"):
        ref.token_scores(draw(1, 5, 2, 8), draw(1, 3, 8))


def test_left_padding_moves_block_boundaries_and_right_padding_does_not():
    n, block_size, pads = 32, 4, 3
    scores = draw(n, seed=3, dtype=torch.float32)
    invisible = torch.full((pads,), -INF)

    def tokens_read(row):
        blocks = select(ref.block_max(row[None, None], block_size), 3, block_size)
        mask = ref.block_sparse_mask(blocks[None], len(row), block_size)[0, 0, 0]
        return mask & (row > -INF)

    alone = tokens_read(scores)
    right = tokens_read(torch.cat([scores, invisible]))[:n]
    left = tokens_read(torch.cat([invisible, scores]))[pads:]
    assert torch.equal(right, alone)
    assert not torch.equal(left, alone)


# Masses and selectors; 300 queries take several chunks, and 16 leaves a ragged last block


@pytest.fixture(scope="module")
def sequence():
    return 2 * draw(300, 6, 8, seed=0), draw(310, 2, 8, seed=1)


def test_block_mass_is_the_mean_probability_per_block(sequence):
    q, k = sequence
    mass = ref.block_mass(q, k, block_size=16)
    assert mass.shape == (300, 2, 20)
    torch.testing.assert_close(mass.sum(-1), torch.ones(300, 2, dtype=mass.dtype))
    probabilities = ref.main_scores(q, k).softmax(-1)
    want = probabilities[250, 3:6, 32:48].sum(-1).mean()
    torch.testing.assert_close(mass[250, 1, 2], want)
    assert not mass[20, :, 2:].any()  # query 20 stands at position 30


def test_pooled_selectors_equal_pooled_scores(sequence):
    q, k = sequence
    scores = ref.main_scores(q, k)
    by_group = scores.unflatten(1, (2, 3))  # [n, h_kv, group, m]
    torch.testing.assert_close(
        ref.max_pooled_scores(q, k, block_size=16),
        ref.block_max(by_group.amax(2), 16),
    )
    torch.testing.assert_close(
        ref.mean_pooled_scores(q, k, block_size=16),
        ref.block_mean(by_group.amax(2), 16),
    )
    torch.testing.assert_close(
        ref.mean_key_scores(q, k, block_size=16), ref.block_mean(by_group.mean(2), 16)
    )


def test_window_keeps_block_0_and_the_most_recent(sequence):
    scores = ref.window_scores(*sequence, block_size=16)
    block_idx = select(scores, 4, 16)
    assert sorted(block_idx[299, 0].tolist()) == [0, 17, 18, 19]
    assert sorted(block_idx[20, 1].tolist()) == [-1, -1, 0, 1]


@pytest.mark.parametrize("selector", ref.SELECTORS)
def test_every_selector_scores_exactly_the_visible_blocks(sequence, selector):
    scores = ref.selector_scores(selector, *sequence, block_size=16)
    start, position = torch.arange(0, 310, 16), torch.arange(10, 310)
    visible = (start <= position[:, None])[:, None].expand(300, 2, 20)
    assert torch.equal(scores > -INF, visible)


@pytest.mark.parametrize("forced", [{}, {"n_local": 0}, {"n_local": 2, "n_init": 1}])
def test_no_selector_captures_more_than_the_oracle(sequence, forced):
    mass = ref.block_mass(*sequence, block_size=16)
    captured = {
        name: ref.mass_captured(
            mass, select(ref.selector_scores(name, *sequence, block_size=16), 4, 16, **forced)
        )
        for name in ref.SELECTORS
    }
    for name, share in captured.items():
        assert (share <= captured["oracle"] + 1e-6).all(), name  # selection ranks in float32
        assert (share >= 0).all() and (share <= 1 + 1e-12).all()


def test_unknown_selector_lists_the_known_ones(sequence):
    with pytest.raises(ValueError, match="selector='best' is unknown; choose one of oracle, main"):
        ref.selector_scores("best", *sequence, block_size=16)


# Measures


def test_mass_captured_by_all_blocks_is_1_and_by_none_0():
    mass = torch.tensor([[0.5, 0.25, 0.25]])
    assert ref.mass_captured(mass, torch.tensor([[0, 1, 2]])).item() == 1
    assert ref.mass_captured(mass, torch.tensor([[-1, -1, -1]])).item() == 0
    assert ref.mass_captured(mass, torch.tensor([[2, -1, -1]])).item() == 0.25


def test_recalls():
    mass = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    best = torch.tensor([[0, 1, -1]])
    assert ref.block_recall(best, best).item() == 1
    assert ref.score_recall(mass, best, best).item() == pytest.approx(0.7)
    other = torch.tensor([[0, 3, -1]])
    assert ref.block_recall(other, best).item() == 0.5
    assert ref.score_recall(mass, other, best).item() == pytest.approx(0.4)
    assert ref.mass_captured(mass, other).item() == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"budgets differ: \(1, 3\) and \(1, 2\)"):
        ref.block_recall(best, best[:, :2])


def test_group_overlap():
    chosen = torch.tensor([[[0, 1, 2, -1], [0, 5, 6, -1], [0, 1, 2, -1]]])
    overlap = ref.group_overlap(chosen)[0]
    third = 1 / 3
    want = torch.tensor([[1, third, 1], [third, 1, third], [1, third, 1]])
    torch.testing.assert_close(overlap, want)


# The needle


@pytest.mark.parametrize("seed", range(5))
def test_max_pooling_finds_the_needle_and_mean_pooling_loses_it(seed):
    n, block_size, needle = 1024, 32, 300
    q, k = ref.planted_needle(n, block_size, 64, seed, needle=needle)
    scores = ref.main_scores(q, k)
    assert scores[0, 0].argmax() == needle
    found = select(ref.max_pooled_scores(q, k, block_size=block_size), 2, block_size)
    lost = select(ref.mean_pooled_scores(q, k, block_size=block_size), 8, block_size)
    assert needle // block_size in found.flatten().tolist()
    assert needle // block_size not in lost.flatten().tolist()


def test_needle_scores_are_what_was_asked_for():
    q, k = ref.planted_needle(64, 8, 32, 3, needle=20, strength=5.5)
    scores = ref.main_scores(q, k)[0, 0]
    assert scores[20].item() == pytest.approx(5.5, abs=1e-4)
    again = ref.planted_needle(64, 8, 32, 3, needle=20, strength=5.5)
    assert torch.equal(q, again[0]) and torch.equal(k, again[1])
    with pytest.raises(ValueError, match="needle=64 must be a position from 0 to 63"):
        ref.planted_needle(64, 8, 32, 3, needle=64)
