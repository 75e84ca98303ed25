"""Plans beside the general one on a GPU, against float64 oracles; see `test_gpu.py`."""

import pytest
import torch
from kernel_inputs import draw_index, draw_inputs
from test_gpu import BRAIN, GRADIENT_ERROR, HALF, error, gathered_sdpa, poison, random_shapes

from intuitive.kernels import (
    block_sparse_attention,
    decode_step,
    distinct_blocks,
    index_codes,
    score_and_select,
)
from intuitive.kernels.index_codes import shared_blocks

pytestmark = pytest.mark.gpu

plans = pytest.mark.parametrize("plan", ["hopper", "scattered"])
combinations = pytest.mark.parametrize(
    ("dtype", "block_size", "d", "group", "n_selected"),
    [(BRAIN, 128, 128, 16, 16), (HALF, 64, 64, 3, 5), (BRAIN, 16, 64, 8, 6)],
    ids=str,
)


@plans
@combinations
def test_attention_error_is_at_most_twice_that_of_sdpa(
    plan, dtype, block_size, d, group, n_selected
):
    for seed, (b, n, m, h_kv) in enumerate(random_shapes(block_size + d, 9)):
        x = draw_inputs(
            b, n, m, h_kv, group, d, block_size=block_size, n_selected=n_selected, seed=seed,
            dtype=dtype, device="cuda",
        )  # fmt: skip
        poison()
        got = block_sparse_attention(*x, block_size=block_size, plan=plan)
        want, lse = block_sparse_attention(
            x.q.double(), x.k.double(), x.v.double(), x.block_idx,
            block_size=block_size, return_lse=True, impl="reference",
        )  # fmt: skip
        idle = lse.isneginf()
        assert (got[idle] == 0).all()
        if not idle.all():
            theirs = error(gathered_sdpa(*x, block_size)[~idle], want[~idle])
            assert error(got[~idle], want[~idle]) <= 2 * theirs, (b, n, m, h_kv)


@combinations
def test_gradients_match_the_oracle(dtype, block_size, d, group, n_selected):
    for seed, (b, n, m, h_kv) in enumerate(random_shapes(block_size * d, 6, longest=700)):
        x = draw_inputs(
            b, n, m, h_kv, group, d, block_size=block_size, n_selected=n_selected, seed=seed,
            dtype=dtype, device="cuda",
        )  # fmt: skip
        grads = []
        for plan, inner in (("hopper", dtype), (None, torch.float64)):
            leaves = [y.detach().to(inner).requires_grad_() for y in x[:3]]
            out = block_sparse_attention(
                *leaves, x.block_idx, block_size=block_size, plan=plan,
                impl="reference" if plan is None else "triton",
            )  # fmt: skip
            poison()
            grads.append(torch.autograd.grad((out * x.q.to(inner)).sum(), leaves))
        for got, want in zip(*grads, strict=True):
            assert want.norm() == 0 or error(got, want) < GRADIENT_ERROR[dtype]


@plans
def test_strided_caches_are_read_in_place(plan):
    x = draw_inputs(
        2, 3, 300, 2, 4, 64, block_size=64, n_selected=4, seed=0, dtype=HALF, device="cuda"
    )
    want = block_sparse_attention(*x, block_size=64, plan=plan)
    cache = torch.full((2, 2, 2, 512, 64), float("nan"), dtype=HALF, device="cuda")
    cache[:, :, :, :300] = torch.stack((x.k, x.v)).transpose(2, 3)  # heads first, and too long
    k, v = cache[:, :, :, :300].transpose(2, 3)
    assert torch.equal(
        block_sparse_attention(x.q, k, v, x.block_idx, block_size=64, plan=plan), want
    )


@plans
def test_a_layer_in_a_cuda_graph_and_under_compile(plan):
    x = draw_inputs(
        1, 9000, 9000, 4, 16, 128, block_size=128, n_selected=16, seed=0, dtype=BRAIN, device="cuda"
    )
    q_idx, k_idx = draw_index(1, 9000, 9000, 4, 128, seed=1, dtype=BRAIN, device="cuda")
    other, _ = draw_index(1, 9000, 1, 4, 128, seed=2, dtype=BRAIN, device="cuda")
    rule = {"n_selected": 16, "block_size": 128}

    def layer():
        chosen = score_and_select(q_idx, k_idx, plan="hopper", **rule)
        return block_sparse_attention(*x[:3], chosen, block_size=128, plan=plan)

    first = layer()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True)(), first, atol=0, rtol=0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = layer()
    q_idx.copy_(other)  # new contents at the captured addresses
    graph.replay()
    torch.cuda.synchronize()
    assert not torch.equal(out, first)
    torch.testing.assert_close(out, layer(), atol=0, rtol=0)


@pytest.mark.parametrize("codes", [False, True], ids=["numbers", "codes"])
@pytest.mark.parametrize("block_size", [16, 128])
def test_selection_and_decoding_agree_with_the_oracle(block_size, codes):
    for seed, (b, n, m, h_kv) in enumerate([(1, 9000, 9001, 4), (2, 17000, 17000, 1)]):
        q_idx, k_idx = draw_index(b, n, m, h_kv, 128, seed=seed, dtype=BRAIN, device="cuda")
        keys = index_codes(k_idx, unit=1.0) if codes else k_idx
        rule = {"n_selected": 16, "block_size": block_size, "n_init": seed}
        queries = index_codes(q_idx) if codes else q_idx
        poison()
        got = score_and_select(queries, keys, plan="hopper", **rule)[:, -200:]
        want = score_and_select(queries[:, -200:].float(), keys.float(), impl="reference", **rule)
        assert shared_blocks(got, want) > 0.99  # sums round differently: near ties may flip
        q = torch.randn(b, 1, 8 * h_kv, 128, device="cuda").to(BRAIN)
        k, v = (torch.randn(b, m, h_kv, 128, device="cuda").to(BRAIN) for _ in range(2))
        poison()
        step = decode_step(q, k, v, q_idx[:, -1:], keys, plan="hopper", **rule)
        want = decode_step(q, k, v, q_idx[:, -1:], keys, impl="reference", **rule)
        assert (step.block_idx == want.block_idx).float().mean() > 0.9
        same = block_sparse_attention(q, k, v, step.block_idx, block_size=block_size)
        torch.testing.assert_close(step.out, same, atol=4e-3, rtol=2e-2)
    assert distinct_blocks(got).item() >= rule["n_selected"]
