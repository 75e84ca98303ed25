"""Plans beside the general one, for `test_interpreter.py`, which sets TRITON_INTERPRET=1."""

import pytest
import torch
from kernel_inputs import draw_index, draw_inputs
from torch.library import opcheck
from triton.runtime.jit import KernelInterface
from triton.tools.tensor_descriptor import TensorDescriptor

from intuitive.kernels import (
    block_sparse_attention,
    code_recall,
    decode_step,
    index_codes,
    limits,
    score_and_select,
)
from intuitive.kernels.measuring import decode_kernels, edge_kernels

HALF, EdgeTile = torch.float16, edge_kernels.EdgeTile
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


@pytest.fixture
def ran(monkeypatch):
    """Names of the kernels that are launched."""
    names, launch = [], KernelInterface.__getitem__
    monkeypatch.setattr(
        KernelInterface,
        "__getitem__",
        lambda self, grid: names.append(self.__name__) or launch(self, grid),
    )
    return names


@pytest.mark.parametrize("plan", ["hopper", "scattered"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_plan_computes_the_same(monkeypatch, ran, plan, shape):
    *sizes, block_size, n_selected = shape
    monkeypatch.setattr(limits, "STRETCH", 2)
    monkeypatch.setattr(limits, "EDGE_STRETCH", 3)  # so that blocks have several stretches
    monkeypatch.setattr(limits, "SCATTER_STRETCH", 3)
    x = draw_inputs(*sizes, block_size=block_size, n_selected=n_selected, seed=0, dtype=HALF)
    x.block_idx[:, -1] = -1  # nothing to read
    parts = 2 * x.q[:, :1].numel() * n_selected * 2  # of two queries, so that there are chunks
    monkeypatch.setattr(limits, "PART_BYTES", parts)
    for got, want in zip(
        results(x, plan, block_size),
        results(x, None, block_size, "reference"),
        strict=True,
    ):
        torch.testing.assert_close(got, want, atol=2e-3, rtol=2e-3)
    assert ("dkv_edges_kernel" in ran) == (plan == "hopper" and block_size >= 64)
    assert (ran.count("attend_block_kernel") > 1) == (plan == "scattered")


def test_the_plan_is_taken(monkeypatch):
    x = draw_inputs(1, 3, 70, 1, 2, 64, block_size=16, n_selected=2, seed=0, dtype=HALF)
    made, descriptor = [], TensorDescriptor.from_tensor
    monkeypatch.setattr(
        TensorDescriptor, "from_tensor", lambda *y: made.append(1) or descriptor(*y)
    )
    attend = {"block_size": 16, "impl": "triton"}
    block_sparse_attention(*x, **attend, plan="hopper")
    assert len(made) == 2
    block_sparse_attention(*x, **attend, plan="general")
    odd = torch.zeros(1, 70, 1, 65, dtype=HALF)[..., :64]  # rows begin at no multiple of 16 bytes
    block_sparse_attention(x.q, odd, odd, x.block_idx, **attend, plan="hopper")
    block_sparse_attention(*x, **attend, plan="hopper", scale=-0.1)
    assert len(made) == 2


@pytest.mark.parametrize("plan", ["hopper", "scattered"])
def test_rows_are_sets_and_bad_ids_are_skipped(plan):
    x = draw_inputs(1, 6, 140, 1, 2, 64, block_size=64, n_selected=2, seed=0, dtype=HALF)
    attend = {"block_size": 64, "impl": "triton", "plan": plan}
    want = block_sparse_attention(*x, **attend)
    noise = torch.tensor([3, 2**30, -7]).int().expand(1, 6, 1, 3)
    messy = torch.cat((noise, x.block_idx.flip(-1), x.block_idx), dim=-1)
    got = block_sparse_attention(*x[:3], messy, **attend, validate=False)
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)


RULES = [  # n_selected, n_local, n_init
    (3, 1, 0),
    (16, 2, 1),
    (5, 0, 2),
]


@pytest.mark.parametrize("codes", [False, True], ids=["numbers", "codes"])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(
    "b, n, m, h_kv, d", [(1, 20, 300, 3, 64), (2, 5, 150, 2, 128), (1, 20, 300, 3, 32)]
)
def test_a_thread_a_row_selects_the_same(monkeypatch, ran, rule, codes, b, n, m, h_kv, d):
    monkeypatch.setattr(limits, "FEWEST_ROWS", 1)
    monkeypatch.setattr(limits, "SCORE_BYTES", 4 * b * h_kv * -(-m // 16) * 7)  # 7 queries
    q_idx, k_idx = draw_index(b, n, m, h_kv, d, seed=0, dtype=HALF)
    if codes:
        q_idx, k_idx = index_codes(q_idx), index_codes(k_idx, unit=1.0)
    given = dict(zip(("n_selected", "n_local", "n_init"), rule, strict=True)) | {"block_size": 16}
    want = score_and_select(q_idx, k_idx, **given, impl="reference")
    got = score_and_select(q_idx, k_idx, **given, impl="triton", plan="hopper")
    assert torch.equal(got, want)
    assert ran.count("select_rows_kernel") == -(-n // 7)


@pytest.mark.parametrize("codes", [False, True], ids=["numbers", "codes"])
def test_few_rows_have_a_program_each(ran, codes):
    q_idx, k_idx = draw_index(1, 9, 150, 2, 64, seed=0, dtype=HALF)
    if codes:
        q_idx, k_idx = index_codes(q_idx), index_codes(k_idx, unit=1.0)
    given = {"n_selected": 3, "block_size": 16}
    want = score_and_select(q_idx, k_idx, **given, impl="reference")
    got = score_and_select(q_idx, k_idx, **given, impl="triton", plan="hopper")
    assert torch.equal(got, want)
    assert ran == ["block_scores_kernel", "select_blocks_kernel"]


@pytest.mark.parametrize("tile", [EdgeTile(together=True), EdgeTile(queries=4, keys=128)], ids=str)
def test_another_cut_of_dk_and_dv_adds_the_same(monkeypatch, ran, tile):
    monkeypatch.setattr(limits, "EDGE_STRETCH", 3)
    monkeypatch.setattr(edge_kernels, "TILE", tile)
    x = draw_inputs(1, 6, 300, 1, 5, 64, block_size=128, n_selected=4, seed=0, dtype=HALF)
    got, want = results(x, "hopper", 128), results(x, None, 128, "reference")
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)
    assert "dkv_edges_kernel" in ran


def test_rows_with_ties_and_what_cannot_be_read(monkeypatch):
    monkeypatch.setattr(limits, "FEWEST_ROWS", 1)
    draw = torch.Generator().manual_seed(0)
    q_idx = torch.ones(1, 40, 1, 64, dtype=HALF)
    k_idx = torch.randint(-1, 2, (1, 300, 1), generator=draw).to(HALF).expand(-1, -1, 64)
    k_idx = k_idx.contiguous()
    k_idx[:, 272:] = float("nan")  # the local block is then an earlier one
    given = {"n_selected": 4, "block_size": 16, "validate": False}
    want = score_and_select(q_idx, k_idx, **given, impl="reference")
    got = score_and_select(q_idx, k_idx, **given, impl="triton", plan="hopper")
    assert torch.equal(got, want)


@pytest.mark.parametrize("codes", [False, True], ids=["numbers", "codes"])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("b, m, h_kv, group, d", [(2, 300, 2, 3, 64), (1, 130, 1, 16, 128)])
def test_a_decode_step_in_three_launches(monkeypatch, ran, rule, codes, b, m, h_kv, group, d):
    monkeypatch.setattr(limits, "COUNTED", 4)  # so that pieces hold several blocks
    x = draw_inputs(b, 1, m, h_kv, group, d, block_size=16, n_selected=1, seed=0, dtype=HALF)
    q_idx, k_idx = draw_index(b, 1, m, h_kv, d // 2, seed=1, dtype=HALF)
    if codes:
        q_idx, k_idx = q_idx * 3e4, index_codes(k_idx, unit=1.0)  # near the end of float16
        q_idx = q_idx.clamp(-6e4, 6e4)
    given = dict(zip(("n_selected", "n_local", "n_init"), rule, strict=True)) | {"block_size": 16}
    want = decode_step(*x[:3], q_idx, k_idx, **given, impl="reference")
    got = decode_step(*x[:3], q_idx, k_idx, **given, impl="triton", plan="hopper")
    assert ran == ["decode_scores_kernel", "select_and_attend_kernel", "merge_kernel"]
    assert torch.equal(got.block_idx, want.block_idx)
    torch.testing.assert_close(got[:2], want[:2], atol=2e-3, rtol=2e-3)
    got = decode_step(*x[:3], q_idx, k_idx, **given, impl="triton", plan="general")
    assert ran.count("select_and_attend_kernel") == 1 + codes
    assert torch.equal(got.block_idx, want.block_idx)


WAYS = {
    "counted": {},
    "counted, stretches": {"stretches": True, "keys": 8, "num_warps": 8},
    "one by one": {"ranked": False},
    "one by one, stretches": {"ranked": False, "stretches": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("rule", "m"), [((5, 0, 2), 40), ((6, 3, 3), 700)], ids=str)
def test_every_way_of_a_decode_step_finds_the_same(monkeypatch, way, rule, m):
    monkeypatch.setattr(decode_kernels, "CHANGED", WAYS[way])
    monkeypatch.setattr(decode_kernels, "KEYS", 32)  # two blocks a step, so that
    monkeypatch.setattr(decode_kernels, "PROGRAMS", 7)  # stretches have several
    monkeypatch.setattr(limits, "SEARCHED", 4)
    monkeypatch.setattr(limits, "COUNTED", 4)
    x = draw_inputs(1, 1, m, 2, 3, 64, block_size=16, n_selected=1, seed=0, dtype=HALF)
    draw = torch.Generator().manual_seed(m)
    q_idx = torch.ones(1, 1, 2, 64, dtype=HALF)
    k_idx = torch.randint(-9, 10, (1, m, 1), generator=draw).to(HALF).expand(-1, -1, 64)
    k_idx = k_idx.contiguous()  # many ties
    k_idx[:, (m - 1) // 16 * 16 :] = float("nan")  # the local block is then an earlier one
    k_idx[:, :16] = float("nan")  # and a forced one cannot be read
    given = dict(zip(("n_selected", "n_local", "n_init"), rule, strict=True)) | {"block_size": 16}
    given |= {"validate": False}
    want = decode_step(*x[:3], q_idx, k_idx, **given, impl="reference")
    got = decode_step(*x[:3], q_idx, k_idx, **given, impl="triton", plan="hopper")
    assert torch.equal(got.block_idx, want.block_idx)
    torch.testing.assert_close(got[:2], want[:2], atol=2e-3, rtol=2e-3)


def test_sizes_that_no_fused_launch_takes(ran):
    x = draw_inputs(1, 1, 300, 1, 2, 64, block_size=16, n_selected=1, seed=0, dtype=HALF)
    q_idx, k_idx = draw_index(1, 1, 300, 1, 64, seed=1, dtype=HALF)
    given = {"n_selected": 17, "block_size": 16}
    k_idx = index_codes(k_idx, unit=1.0)
    want = decode_step(*x[:3], q_idx, k_idx, **given, impl="reference")
    got = decode_step(*x[:3], q_idx, k_idx, **given, impl="triton", plan="hopper")
    assert torch.equal(got.block_idx, want.block_idx)
    assert "select_and_attend_kernel" not in ran


def test_recall_of_codes_is_the_same_with_both_implementations():
    q_idx, k_idx = draw_index(1, 20, 300, 2, 64, seed=0, dtype=HALF)
    rule = {"n_selected": 4, "block_size": 16}
    want, got = (code_recall(q_idx, k_idx, **rule, impl=i) for i in ("reference", "triton"))
    assert got == want
    assert 0.8 < got < 1


def test_operators_are_registered_soundly():
    x = draw_inputs(1, 2, 70, 1, 2, 64, block_size=64, n_selected=2, seed=0, dtype=HALF)
    q_idx, k_idx = draw_index(1, 2, 70, 1, 64, seed=0, dtype=HALF)
    ops = torch.ops.intuitive
    leaves = [y.requires_grad_() for y in x[:3]]
    step = [y.detach()[:, -n:] for y, n in zip(x[:3], (1, 70, 70), strict=True)]
    rule = {"n_selected": 2, "block_size": 64, "impl": "triton"}
    decode_step(*step, q_idx[:, -1:], k_idx, **rule)  # registers the operators
    cheap = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(ops.score_and_select, (q_idx, k_idx, 2, 64, 1, 0, "hopper"), test_utils=cheap)
    opcheck(
        ops.decode_step, (*step, q_idx[:, -1:], k_idx, 2, 64, 1, 0, 0.1, "hopper"), test_utils=cheap
    )
    for plan in ("hopper", "scattered"):
        opcheck(ops.block_sparse_attention, (*leaves, x.block_idx, 64, 0.1, plan))


def test_compile_takes_every_plan_in_one_graph():
    x = draw_inputs(1, 2, 70, 1, 2, 64, block_size=64, n_selected=2, seed=0, dtype=HALF)
    q_idx, k_idx = draw_index(1, 2, 70, 1, 64, seed=1, dtype=HALF)
    rule = {"block_size": 64, "impl": "triton", "plan": "hopper"}

    def layer(q, k, v, q_idx, k_idx):
        chosen = score_and_select(q_idx, k_idx, n_selected=2, **rule)
        out = block_sparse_attention(q, k, v, chosen, **rule)
        return out, decode_step(q[:, -1:], k, v, q_idx[:, -1:], k_idx, n_selected=2, **rule)

    want = layer(*x[:3], q_idx, k_idx)
    got = torch.compile(layer, backend="aot_eager", fullgraph=True)(*x[:3], q_idx, k_idx)
    assert torch.equal(got[0], want[0])
    assert all(torch.equal(a, b) for a, b in zip(got[1], want[1], strict=True))
    torch.testing.assert_close(got[1].out, got[0][:, -1:], atol=2e-3, rtol=2e-3)
