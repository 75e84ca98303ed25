"""Plans beside the general one, for `test_interpreter.py`, which sets TRITON_INTERPRET=1."""

import pytest
import torch
from kernel_inputs import draw_inputs

from intuitive.kernels import block_sparse_attention, limits
from intuitive.kernels.block_sparse_attention import (
    triton_backward,
    triton_edges,
    triton_forward,
    triton_scattered,
)

HALF = torch.float16
#   b, n, m, h_kv, group, d, block_size, n_selected
SHAPES = [
    (2, 5, 150, 2, 3, 64, 64, 2),  # padded heads, a ragged last block
    (1, 9, 150, 1, 16, 128, 64, 3),
    (1, 6, 300, 1, 5, 64, 128, 4),
    (1, 3, 70, 2, 2, 64, 16, 3),
]


def results(x, plan, block_size, impl="triton"):
    """Output, log-sum-exp and gradients of both."""
    generator = torch.Generator().manual_seed(1)
    dout = torch.randn(x.q.shape, generator=generator).to(x.q.dtype)
    dlse = torch.randn(x.q.shape[:3], generator=generator)
    leaves = [y.detach().clone().requires_grad_() for y in x[:3]]
    out, lse = block_sparse_attention(
        *leaves, x.block_idx, block_size=block_size, return_lse=True, impl=impl, plan=plan
    )
    loss = (out.float() * dout).sum() + (lse.masked_fill(lse.isneginf(), 0) * dlse).sum()
    return out, lse, *torch.autograd.grad(loss, leaves)


def count(monkeypatch, module, name):
    """Calls of a launcher from here on."""
    calls, launch = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *x: calls.append(1) or launch(*x))
    return calls


@pytest.mark.parametrize("plan", ["hopper", "scattered"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_plan_computes_the_same(monkeypatch, plan, shape):
    *sizes, block_size, n_selected = shape
    monkeypatch.setattr(limits, "STRETCH", 2)
    monkeypatch.setattr(triton_edges, "LONGEST", 3)  # so that blocks have several stretches
    monkeypatch.setattr(triton_scattered, "LONGEST", 3)
    monkeypatch.setattr(triton_scattered, "PART_BYTES", 20_000)  # and queries several chunks
    edges = count(monkeypatch, triton_backward, "write_edges")
    x = draw_inputs(*sizes, block_size=block_size, n_selected=n_selected, seed=0, dtype=HALF)
    x.block_idx[:, -1] = -1  # nothing to read
    for got, want in zip(
        results(x, plan, block_size),
        results(x, None, block_size, "reference"),
        strict=True,
    ):
        torch.testing.assert_close(got, want, atol=2e-3, rtol=2e-3)
    assert len(edges) == (plan == "hopper" and block_size >= triton_edges.KEYS)


def test_the_plan_is_taken(monkeypatch):
    x = draw_inputs(1, 3, 70, 1, 2, 64, block_size=16, n_selected=2, seed=0, dtype=HALF)
    descriptors = count(monkeypatch, triton_forward.TensorDescriptor, "from_tensor")
    attend = {"block_size": 16, "impl": "triton"}
    block_sparse_attention(*x, **attend, plan="hopper")
    assert len(descriptors) == 2
    block_sparse_attention(*x, **attend)
    odd = torch.zeros(1, 70, 1, 65, dtype=HALF)[..., :64]  # rows begin at no multiple of 16 bytes
    block_sparse_attention(x.q, odd, odd, x.block_idx, **attend, plan="hopper")
    block_sparse_attention(*x, **attend, plan="hopper", scale=-0.1)
    assert len(descriptors) == 2


@pytest.mark.parametrize("plan", ["hopper", "scattered"])
def test_rows_are_sets_and_bad_ids_are_skipped(plan):
    x = draw_inputs(1, 6, 140, 1, 2, 64, block_size=64, n_selected=2, seed=0, dtype=HALF)
    attend = {"block_size": 64, "impl": "triton", "plan": plan}
    want = block_sparse_attention(*x, **attend)
    noise = torch.tensor([3, 2**30, -7]).int().expand(1, 6, 1, 3)
    messy = torch.cat((noise, x.block_idx.flip(-1), x.block_idx), dim=-1)
    got = block_sparse_attention(*x[:3], messy, **attend, validate=False)
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)
