"""Facts about attention over selected blocks that hold for any input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_inputs import draw_index, draw_inputs
from torch.nn import functional as F

from intuitive.kernels import block_sparse_attention, score_and_select

DOUBLE = torch.float64


def draw(b=2, n=9, m=14, h_kv=2, group=3, d=4, block_size=4, n_selected=3, seed=0, dtype=DOUBLE):
    return draw_inputs(
        b, n, m, h_kv, group, d, block_size=block_size, n_selected=n_selected, seed=seed,
        dtype=dtype,
    )  # fmt: skip


def dense(q, k, v, mask):
    """SDPA with a mask [b, n, h_q, m] over inputs [b, n, h, d]."""
    q, k, v, mask = (x.transpose(1, 2) for x in (q, k, v, mask))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return out.transpose(1, 2)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 12),
    past=st.integers(0, 20),
    h_kv=st.integers(1, 3),
    group=st.integers(1, 3),
    block_size=st.integers(1, 9),
    n_selected=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_equals_masked_dense_attention(n, past, h_kv, group, block_size, n_selected, seed):
    m = n + past
    x = draw(1, n, m, h_kv, group, 4, block_size, n_selected, seed)
    out, lse = block_sparse_attention(*x, block_size=block_size, return_lse=True)
    key = torch.arange(m)
    mask = torch.zeros(1, n, h_kv, m, dtype=torch.bool)
    for slot in x.block_idx.unbind(-1):  # [b, n, h_kv]
        mask |= (key // block_size == slot[..., None]) & (slot[..., None] >= 0)
    mask = (mask & (key <= key[past:, None])[:, None]).repeat_interleave(group, 2)
    reads = mask.any(-1)
    torch.testing.assert_close(out[reads], dense(*x[:3], mask)[reads], atol=1e-12, rtol=1e-12)
    assert (out[~reads] == 0).all()
    assert torch.equal(lse.isneginf(), ~reads)


def test_lse_is_the_log_of_the_softmax_denominator():
    q, k, v, _ = draw(1, 3, 3, 1, 1, 4)
    everything = torch.zeros(1, 3, 1, 1, dtype=torch.int32)
    _, lse = block_sparse_attention(q, k, v, everything, block_size=4, return_lse=True)
    scores = (q[0, :, 0] @ k[0, :, 0].T) / 2
    want = torch.stack([scores[i, : i + 1].exp().sum().log() for i in range(3)])
    torch.testing.assert_close(lse[0, :, 0], want)


@pytest.mark.parametrize("tokens", [1, 7, 16, 24], ids="N={}".format)
def test_contexts_within_the_budget_equal_dense_attention(tokens):
    q, k, v, _ = draw(2, tokens, tokens, 2, 3, 4)
    q_idx, k_idx = draw_index(2, tokens, tokens, 2, 4, seed=1)
    blocks = score_and_select(q_idx, k_idx, n_selected=4, block_size=6)
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()[None, :, None]
    want = dense(q, k, v, causal.expand(2, -1, 6, -1))
    got = block_sparse_attention(q, k, v, blocks, block_size=6)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)


def test_a_row_of_slots_is_a_set():
    x = draw()
    want = block_sparse_attention(*x, block_size=4)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(0))
    shuffled = x.block_idx[..., order]
    doubled = torch.cat((x.block_idx, shuffled), dim=-1)  # every block listed twice
    for blocks in (shuffled, doubled, doubled.long()):
        assert torch.equal(block_sparse_attention(*x[:3], blocks, block_size=4), want)


def test_queries_with_nothing_to_read_give_zero_and_pass_no_gradient():
    q, k, v, blocks = draw()
    blocks[:, 4] = -1
    blocks[:, 0] = 3  # in the future of the first query
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out, lse = block_sparse_attention(*leaves, blocks, block_size=4, return_lse=True)
    assert (out[:, [0, 4]] == 0).all()
    assert lse[:, [0, 4]].isneginf().all()
    grads = torch.autograd.grad(out.sum() + lse.nan_to_num(neginf=0).sum(), leaves)
    assert all(g.isfinite().all() for g in grads)
    assert (grads[0][:, [0, 4]] == 0).all()


def test_the_future_never_leaks():
    q, k, v, blocks = draw(1, 12, 12, 2, 2, 4)
    blocks[:] = torch.arange(3)
    before = block_sparse_attention(q, k, v, blocks, block_size=4)
    k[:, 6:], v[:, 6:] = 9.0, 1e6
    after = block_sparse_attention(q, k, v, blocks, block_size=4)
    assert torch.equal(after[:, :6], before[:, :6])


def test_queries_are_aligned_with_the_last_keys():
    q, k, v, blocks = draw(1, 14, 14)
    whole = block_sparse_attention(q, k, v, blocks, block_size=4)
    tail = block_sparse_attention(q[:, 9:], k, v, blocks[:, 9:], block_size=4)
    torch.testing.assert_close(tail, whole[:, 9:])


def test_parts_over_disjoint_blocks_merge_by_their_lse():
    q, k, v, _ = draw(1, 1, 16)
    parts = [torch.tensor(ids).int().expand(1, 1, 2, -1) for ids in ([0, 3], [1], [2])]
    outs, lses = zip(
        *(block_sparse_attention(q, k, v, ids, block_size=4, return_lse=True) for ids in parts),
        strict=True,
    )
    weight = torch.stack(lses).softmax(0)[..., None]
    every = torch.arange(4).int().expand(1, 1, 2, -1)
    want = block_sparse_attention(q, k, v, every, block_size=4)
    torch.testing.assert_close((weight * torch.stack(outs)).sum(0), want)


def test_scale_defaults_to_the_root_of_the_head_size():
    x = draw()
    default = block_sparse_attention(*x, block_size=4)
    assert torch.equal(block_sparse_attention(*x, block_size=4, scale=0.5), default)
    doubled = block_sparse_attention(x.q * 2, *x[1:], block_size=4, scale=0.25)
    torch.testing.assert_close(doubled, default)


def test_gradients_of_output_and_lse_against_finite_differences():
    q, k, v, blocks = draw(1, 4, 6, 2, 2, 3, block_size=2, n_selected=2)
    blocks[:, 1] = -1

    def function(q, k, v):
        out, lse = block_sparse_attention(q, k, v, blocks, block_size=2, return_lse=True)
        return out, lse.masked_fill(lse.isneginf(), 0.0)

    assert torch.autograd.gradcheck(function, [x.requires_grad_() for x in (q, k, v)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_dtypes_of_the_results(dtype):
    out, lse = block_sparse_attention(*draw(dtype=dtype), block_size=4, return_lse=True)
    assert (out.dtype, lse.dtype) == (dtype, torch.float32)
