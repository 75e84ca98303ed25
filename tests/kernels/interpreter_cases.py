"""Cases for `test_interpreter.py`, which starts them with TRITON_INTERPRET=1."""

import pytest
import torch
from kernel_inputs import draw_index, draw_inputs
from torch.library import opcheck

from intuitive.kernels import (
    block_scores,
    block_sparse_attention,
    limits,
    plans,
    score_and_select,
    select_blocks,
    shared_memory,
)

HALF, FLOAT = torch.float16, torch.float32
TOLERANCE = {FLOAT: {"atol": 2e-6, "rtol": 2e-6}, HALF: {"atol": 2e-3, "rtol": 2e-3}}

#   dtype, b, n, m, h_kv, group, d, block_size, n_selected
SHAPES = [
    (FLOAT, 1, 3, 37, 2, 3, 64, 16, 2),  # ragged last block, padded heads
    (FLOAT, 1, 18, 18, 1, 1, 64, 16, 2),  # one head, several tiles of queries
    (HALF, 2, 3, 40, 2, 2, 64, 16, 3),
    (HALF, 1, 9, 150, 1, 16, 128, 64, 2),
    (HALF, 1, 6, 130, 1, 5, 64, 128, 2),
    (HALF, 1, 2, 20, 1, 128, 64, 16, 1),  # the widest group
    (FLOAT, 1, 1, 70, 2, 16, 128, 32, 3),  # decode
    (HALF, 2, 1, 300, 1, 5, 64, 128, 4),  # decode, with more slots than blocks
    (FLOAT, 1, 1, 1, 1, 1, 64, 16, 1),
]
shapes = pytest.mark.parametrize(
    ("dtype", "b", "n", "m", "h_kv", "group", "d", "block_size", "n_selected"), SHAPES
)


@pytest.fixture(autouse=True)
def general(monkeypatch):
    """The general kernels, whatever is the default."""
    monkeypatch.setattr(plans, "DEFAULT", "general")


@shapes
def test_scores_and_selection(dtype, b, n, m, h_kv, group, d, block_size, n_selected):
    q_idx, k_idx = draw_index(b, n, m, h_kv, d, seed=0, dtype=dtype)
    want, got = (
        block_scores(q_idx, k_idx, block_size=block_size, impl=impl)
        for impl in ("reference", "triton")
    )
    torch.testing.assert_close(got, want, atol=2e-5, rtol=2e-6)
    rule = {"n_selected": n_selected, "block_size": block_size}
    chosen = select_blocks(got, impl="triton", **rule)
    assert torch.equal(chosen, select_blocks(got, impl="reference", **rule))
    assert torch.equal(score_and_select(q_idx, k_idx, impl="triton", **rule), chosen)


@pytest.mark.parametrize("dtype", [FLOAT, HALF], ids=str)
@pytest.mark.parametrize("n", [1, 20])
def test_narrow_index_vectors(dtype, n):
    q_idx, k_idx = draw_index(1, n, 300, 2, 32, seed=0, dtype=dtype)
    rule = {"n_selected": 5, "block_size": 16}
    want, got = (score_and_select(q_idx, k_idx, impl=i, **rule) for i in ("reference", "triton"))
    assert torch.equal(got, want)


@pytest.mark.parametrize("n_local", [0, 1, 2])
@pytest.mark.parametrize("n_init", [0, 2])
def test_selection_with_ties_gaps_and_forced_blocks(n_local, n_init):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-2, 3, (1, 6, 2, 30), generator=generator) * 0.5
    scores = torch.where(torch.rand(scores.shape, generator=generator) < 0.3, -torch.inf, scores)
    scores[0, 0] = -torch.inf
    scores[0, 1] = torch.where(scores[0, 1] > 0, 0.0, -0.0)
    rule = {"n_selected": 7, "block_size": 16, "n_local": n_local, "n_init": n_init}
    want, got = (select_blocks(scores, impl=impl, **rule) for impl in ("reference", "triton"))
    assert torch.equal(got, want)


def test_selection_over_several_tiles_of_a_row():
    scores = torch.randn(1, 1, 1, 9000, generator=torch.Generator().manual_seed(0))
    scores[..., 8500:] += 2
    rule = {"n_selected": 20, "block_size": 16, "n_init": 1}
    want, got = (select_blocks(scores, impl=impl, **rule) for impl in ("reference", "triton"))
    assert torch.equal(got, want)


def test_unchecked_nan_and_infinity_are_never_selected():
    scores = torch.tensor([[[[1.0, float("nan"), float("inf"), 0.0]]]])
    got = select_blocks(scores, n_selected=4, block_size=16, validate=False, impl="triton")
    assert got.flatten().tolist() == [0, 3, -1, -1]


def test_chunks_of_queries(monkeypatch):
    monkeypatch.setattr(limits, "SCORE_BYTES", 4 * 2 * 5 * 7)  # seven queries at a time
    q_idx, k_idx = draw_index(1, 20, 70, 2, 64, seed=0)
    want, got = (
        score_and_select(q_idx, k_idx, n_selected=3, block_size=16, impl=impl)
        for impl in ("reference", "triton")
    )
    assert torch.equal(got, want)


@shapes
def test_attention_and_gradients(
    monkeypatch, dtype, b, n, m, h_kv, group, d, block_size, n_selected
):
    monkeypatch.setattr(limits, "STRETCH", 2)  # so that blocks have several
    x = draw_inputs(
        b, n, m, h_kv, group, d, block_size=block_size, n_selected=n_selected, seed=0, dtype=dtype
    )
    generator = torch.Generator().manual_seed(1)
    dout = torch.randn(x.q.shape, generator=generator).to(dtype)
    dlse = torch.randn(x.q.shape[:3], generator=generator)
    results = []
    for impl in ("triton", "reference"):
        leaves = [y.requires_grad_() for y in x[:3]]
        out, lse = block_sparse_attention(
            *leaves, x.block_idx, block_size=block_size, return_lse=True, impl=impl
        )
        loss = (out.float() * dout).sum() + (lse.masked_fill(lse.isneginf(), 0) * dlse).sum()
        results.append((out, lse, *torch.autograd.grad(loss, leaves)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, **TOLERANCE[dtype])


@pytest.mark.parametrize("n", [1, 2])
def test_the_smallest_tiles_give_the_same(monkeypatch, n):
    """Tiles that split a group's heads, and products that split a block's keys."""
    monkeypatch.setattr(limits, "STRETCH", 2)
    monkeypatch.setattr(shared_memory, "H100", shared_memory.Card(90, 64 * 1024))
    q_idx, k_idx = draw_index(1, n, 150, 1, 128, seed=0)
    x = draw_inputs(1, n, 150, 1, 40, 128, block_size=128, n_selected=2, seed=0)
    leaves = [y.requires_grad_() for y in x[:3]]
    results = []
    for impl in ("triton", "reference"):
        scores = block_scores(q_idx, k_idx, block_size=128, impl=impl)
        out, lse = block_sparse_attention(
            *leaves, x.block_idx, block_size=128, return_lse=True, impl=impl
        )
        loss = out.square().sum() + lse.masked_fill(lse.isneginf(), 0).sum()
        results.append((scores, out, lse, *torch.autograd.grad(loss, leaves)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("n", [1, 6])
def test_rows_are_sets_and_bad_ids_are_skipped(n):
    q, k, v, blocks = draw_inputs(1, n, 40, 1, 2, 64, block_size=16, n_selected=2, seed=0)
    want = block_sparse_attention(q, k, v, blocks, block_size=16, impl="triton")
    noise = torch.tensor([3, 2**30, -7]).int().expand(1, n, 1, 3)
    messy = torch.cat((noise, blocks.flip(-1), blocks), dim=-1)
    got = block_sparse_attention(q, k, v, messy, block_size=16, impl="triton", validate=False)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 6])
def test_queries_with_nothing_to_read(n):
    q, k, v, blocks = draw_inputs(1, n, 40, 2, 2, 64, block_size=16, n_selected=2, seed=0)
    blocks[:, -1] = -1
    out, lse = block_sparse_attention(
        q, k, v, blocks, block_size=16, impl="triton", return_lse=True
    )
    assert (out[:, -1] == 0).all()
    assert lse[:, -1].isneginf().all()
    assert out.isfinite().all()


def test_strided_keys_and_values():
    x = draw_inputs(2, 5, 40, 2, 2, 64, block_size=16, n_selected=2, seed=0)
    cache = torch.full((2, 2, 2, 64, 64), float("nan"))  # heads first, and too long
    cache[:, :, :, :40] = torch.stack((x.k, x.v)).transpose(2, 3)
    k, v = cache[:, :, :, :40].transpose(2, 3)
    want = block_sparse_attention(*x, block_size=16, impl="triton")
    got = block_sparse_attention(x.q, k, v, x.block_idx, block_size=16, impl="triton")
    assert torch.equal(got, want)


def test_selection_passes_no_gradient():
    q_idx, k_idx = (x.requires_grad_() for x in draw_index(1, 3, 40, 2, 64, seed=0))
    rule = {"block_size": 16, "impl": "triton"}
    assert not score_and_select(q_idx, k_idx, n_selected=2, **rule).requires_grad
    scores = block_scores(q_idx, k_idx, **rule)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        scores.sum().backward()


def test_operators_are_registered_soundly():
    q, k, v, blocks = draw_inputs(1, 2, 40, 1, 2, 64, block_size=16, n_selected=2, seed=0)
    q_idx, k_idx = draw_index(1, 2, 40, 1, 64, seed=0)
    ops = torch.ops.intuitive
    scores = block_scores(q_idx, k_idx, block_size=16, impl="triton")
    chosen = select_blocks(scores, n_selected=2, block_size=16, impl="triton")
    score_and_select(q_idx, k_idx, n_selected=2, block_size=16, impl="triton")
    out, lse = block_sparse_attention(
        q, k, v, chosen, block_size=16, impl="triton", return_lse=True
    )
    cheap = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(ops.block_scores, (q_idx, k_idx, 16), test_utils=cheap)
    opcheck(ops.select_blocks, (scores, 2, 1, 0), test_utils=cheap)
    opcheck(ops.score_and_select, (q_idx, k_idx, 2, 16, 1, 0), test_utils=cheap)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    opcheck(ops.block_sparse_attention, (*leaves, blocks, 16, 0.1))
    tensors = (out, lse, *(x.detach() for x in leaves), out, lse)
    opcheck(ops.block_sparse_attention_backward, (*tensors, chosen, 16, 0.1), test_utils=cheap)


def test_compile_takes_every_operation_in_one_graph():
    q, k, v, _ = draw_inputs(1, 2, 40, 1, 2, 64, block_size=16, n_selected=2, seed=0)
    q_idx, k_idx = draw_index(1, 2, 40, 1, 64, seed=1)
    leaves = [x.requires_grad_() for x in (q, k, v)]

    def layer(q_idx, k_idx, q, k, v):
        scores = block_scores(q_idx, k_idx, block_size=16, impl="triton")
        chosen = select_blocks(scores, n_selected=2, block_size=16, impl="triton")
        fused = score_and_select(q_idx, k_idx, n_selected=2, block_size=16, impl="triton")
        out = block_sparse_attention(q, k, v, chosen, block_size=16, impl="triton")
        return out + block_sparse_attention(q, k, v, fused, block_size=16, impl="triton")

    want = layer(q_idx, k_idx, *leaves)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    got = compiled(q_idx, k_idx, *leaves)
    assert torch.equal(got, want)
    for a, b in zip(
        torch.autograd.grad(got.square().sum(), leaves),
        torch.autograd.grad(want.square().sum(), leaves),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_bfloat16_is_refused_here():
    x = draw_inputs(1, 2, 20, 1, 1, 64, block_size=16, n_selected=1, seed=0, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="wrong products in Triton's CPU interpreter"):
        block_sparse_attention(*x, block_size=16, impl="triton")
