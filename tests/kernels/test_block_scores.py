"""Facts about block scores that hold for any input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_inputs import draw_index

from intuitive.kernels import block_scores

shapes = given(
    b=st.integers(1, 2),
    m=st.integers(1, 24),
    past=st.integers(0, 24),
    block_size=st.integers(1, 9),
    seed=st.integers(0, 99),
)


@settings(max_examples=40, deadline=None)
@shapes
def test_each_score_is_the_largest_visible_dot_product(b, m, past, block_size, seed):
    n, m = m, m + past
    q_idx, k_idx = draw_index(b, n, m, 2, 3, seed=seed, dtype=torch.float64)
    scores = block_scores(q_idx, k_idx, block_size=block_size)
    assert scores.shape == (b, n, 2, -(-m // block_size))
    assert scores.dtype == torch.float32
    for i in range(n):
        for block in range(scores.shape[-1]):
            keys = range(block * block_size, min((block + 1) * block_size, past + i + 1))
            products = [(q_idx[:, i] * k_idx[:, None, j]).sum(-1) for j in keys]  # [b, h_kv]
            want = torch.stack(products).amax(0) if products else torch.full((b, 2), -torch.inf)
            torch.testing.assert_close(scores[:, i, :, block], want.float(), atol=1e-6, rtol=1e-6)


def test_the_future_never_leaks():
    q_idx, k_idx = draw_index(1, 12, 12, 2, 4, seed=0)
    before = block_scores(q_idx, k_idx, block_size=4)
    k_idx[:, 6:] = 1e6
    after = block_scores(q_idx, k_idx, block_size=4)
    assert torch.equal(after[:, :6], before[:, :6])


def test_blocks_of_one_token_are_plain_dot_products():
    q_idx, k_idx = draw_index(2, 5, 9, 3, 4, seed=0)
    scores = block_scores(q_idx, k_idx, block_size=1)
    products = torch.einsum("bnhd,bmd->bnhm", q_idx, k_idx)
    assert torch.equal(scores[:, -1], products[:, -1])  # the last query sees everything


def test_queries_are_aligned_with_the_last_keys():
    q_idx, k_idx = draw_index(1, 20, 20, 2, 4, seed=0)
    whole = block_scores(q_idx, k_idx, block_size=3)
    torch.testing.assert_close(block_scores(q_idx[:, 13:], k_idx, block_size=3), whole[:, 13:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_accumulated_in_float32(dtype):
    q_idx, k_idx = draw_index(1, 4, 8, 1, 64, seed=0, dtype=dtype)
    scores = block_scores(q_idx, k_idx, block_size=4)
    want = block_scores(q_idx.double(), k_idx.double(), block_size=4)
    torch.testing.assert_close(scores, want, atol=1e-5, rtol=1e-5)


def test_gradient_reaches_the_best_visible_token_alone():
    q_idx, k_idx = draw_index(1, 1, 6, 1, 4, seed=0)
    k_idx.requires_grad_()
    block_scores(q_idx, k_idx, block_size=6).sum().backward()
    best = (k_idx @ q_idx[0, 0, 0]).argmax(-1)
    assert k_idx.grad[0].any(-1).nonzero().flatten().tolist() == best.tolist()
