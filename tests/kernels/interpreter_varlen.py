"""Batches of sequences, for `test_interpreter.py`, which sets TRITON_INTERPRET=1."""

import pytest
import torch
from torch.library import opcheck
from triton.tools.tensor_descriptor import TensorDescriptor
from varlen_inputs import LAYOUTS, draw_batch, one_by_one

from intuitive.kernels import attend_varlen, limits, plans, select_varlen
from intuitive.kernels.measuring import varlen_select

HALF, FLOAT = torch.float16, torch.float32
TOLERANCE = {FLOAT: {"atol": 2e-6, "rtol": 2e-6}, HALF: {"atol": 2e-3, "rtol": 2e-3}}
RAGGED = [(3, 37), (0, 20), (1, 1), (2, 0), (18, 18), (5, 70)]
#   dtype, h_kv, group, d, block_size, page, n_selected, lengths
SHAPES = [
    (FLOAT, 2, 3, 64, 16, 16, 2, RAGGED),
    (HALF, 1, 16, 128, 64, 64, 2, [(9, 150), (1, 64), (0, 5), (2, 130)]),
    (HALF, 2, 5, 64, 16, 48, 3, RAGGED),  # three blocks a page
    (HALF, 1, 2, 64, 16, 256, 17, [(4, 300), (7, 9)]),  # pages longer than a product
    (HALF, 1, 128, 64, 128, 128, 1, [(2, 130), (1, 129)]),  # the widest group
]
layouts = pytest.mark.parametrize("layout", LAYOUTS)
# every size in pages, some in the other layouts
CASES = [("pages", shape) for shape in SHAPES]
CASES += [("packed", SHAPES[0]), ("packed", SHAPES[1]), ("cache", SHAPES[2])]
cases = pytest.mark.parametrize(
    ("layout", "shape"), CASES, ids=lambda x: x if isinstance(x, str) else f"{x[0]}-{x[1:7]}"
)


def check(batch, block_size, n_selected, dtype, plan, **rule):
    rule = {"n_selected": n_selected, "block_size": block_size} | rule
    want_ids, want, want_lse = one_by_one(batch, rule, impl="reference")
    how = {"impl": "triton", "plan": plan}
    got = select_varlen(batch.q_idx, batch.k_idx, **batch.where, **rule, **how)
    assert torch.equal(got, want_ids)
    out, lse = attend_varlen(
        batch.q, batch.k, batch.v, batch.block_idx, **batch.where,
        block_size=block_size, return_lse=True, **how,
    )  # fmt: skip
    torch.testing.assert_close(out, want, **TOLERANCE[dtype])
    torch.testing.assert_close(lse, want_lse, **TOLERANCE[dtype])


@pytest.fixture(autouse=True)
def few_shares(monkeypatch):
    """Programs that share out the keys of a batch, which the interpreter runs one by one."""
    monkeypatch.setattr(varlen_select, "SHARES", 5)


@cases
def test_many_queries(layout, shape):
    dtype, h_kv, group, d, block_size, page, n_selected, lengths = shape
    batch = draw_batch(
        layout, lengths, h_kv, group, d, block_size=block_size, n_selected=n_selected, seed=0,
        page=page, dtype=dtype,
    )  # fmt: skip
    check(batch, block_size, n_selected, dtype, "general" if layout == "cache" else "hopper")


@cases
def test_one_query_each(layout, shape):
    dtype, h_kv, group, d, block_size, page, n_selected, lengths = shape
    lengths = [(1, m) for _, m in lengths]
    batch = draw_batch(
        layout, lengths, h_kv, group, d, block_size=block_size, n_selected=n_selected, seed=1,
        page=page, dtype=dtype, single=True,
    )  # fmt: skip
    check(batch, block_size, n_selected, dtype, None, n_local=0)


@pytest.mark.parametrize("layout", ["packed", "pages"])
@pytest.mark.parametrize("shares", [1, 100])
def test_shares_of_any_size(monkeypatch, layout, shares):
    """Programs share out the keys of the batch: few, whose shares are long, or many."""
    monkeypatch.setattr(varlen_select, "SHARES", shares)
    lengths = [(1, m) for m in (300, 0, 5, 170, 1)]
    batch = draw_batch(
        layout, lengths, 2, 2, 64, block_size=16, n_selected=3, seed=2, dtype=HALF, d_idx=32,
        single=True,
    )  # fmt: skip
    check(batch, 16, 3, HALF, None)


@layouts
def test_chunks_of_queries_that_cut_sequences(monkeypatch, layout):
    lengths = [(3, 37), (0, 4), (20, 70), (1, 1), (4, 0), (6, 90)]
    batch = draw_batch(layout, lengths, 3, 1, 64, block_size=16, n_selected=2, seed=3, dtype=HALF)
    monkeypatch.setattr(limits, "SCORE_BYTES", 4 * 3 * 6 * 7)  # seven queries at a time
    check(batch, 16, 2, HALF, "hopper", n_init=1)


@pytest.mark.parametrize("layout", ["packed", "pages"])
def test_bulk_copies_are_made_of_what_all_see(monkeypatch, layout):
    made, descriptor = [], TensorDescriptor.from_tensor
    monkeypatch.setattr(
        TensorDescriptor, "from_tensor", lambda *y: made.append(1) or descriptor(*y)
    )
    batch = draw_batch(
        layout, [(3, 90), (2, 150)], 1, 2, 64, block_size=16, n_selected=4, seed=4, dtype=HALF,
        page=128,
    )  # fmt: skip
    check(batch, 16, 4, HALF, "hopper")
    assert len(made) == 3
    check(batch, 16, 4, HALF, "general")
    assert len(made) == 3


def test_rows_are_sets_and_bad_ids_are_skipped():
    for single in (False, True):
        lengths = [(1, 40), (1, 100)] if single else [(6, 40), (3, 100)]
        batch = draw_batch(
            "pages", lengths, 1, 2, 64, block_size=16, n_selected=2, seed=5, dtype=HALF,
            single=single,
        )  # fmt: skip
        rule = batch.where | {"block_size": 16, "impl": "triton", "validate": False}
        want = attend_varlen(*batch[:3], batch.block_idx, **rule)
        noise = torch.tensor([6, 2**30, -7]).int().expand(len(batch.q), 1, 3)
        noise = torch.where(
            (noise == 6) & (torch.arange(len(batch.q)) > 0)[:, None, None], 7, noise
        )
        messy = torch.cat((noise, batch.block_idx.flip(-1), batch.block_idx), dim=-1)
        got = attend_varlen(*batch[:3], messy, **rule)
        torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)


def test_gradients_are_refused_in_words():
    batch = draw_batch("packed", [(2, 20)], 1, 2, 64, block_size=16, n_selected=2, seed=0)
    rule = batch.where | {"block_size": 16, "impl": "triton"}
    leaf = batch.q.clone().requires_grad_()
    with pytest.raises(ValueError, match=r"gradients are wanted.*torch.no_grad\(\)"):
        attend_varlen(leaf, *batch[1:3], batch.block_idx, **rule)
    with torch.no_grad():
        attend_varlen(leaf, *batch[1:3], batch.block_idx, **rule)


def test_operators_are_registered_soundly_and_compile_in_one_graph():
    cheap = ("test_schema", "test_faketensor")
    ops = torch.ops.intuitive
    for layout in LAYOUTS:
        batch = draw_batch(
            layout, [(2, 20), (1, 40)], 1, 2, 64, block_size=16, n_selected=2, seed=0, dtype=HALF
        )
        rule = batch.where | {"block_size": 16, "impl": "triton", "plan": plans.DEFAULT}

        def layer(q, k, v, q_idx, k_idx, rule=rule):
            ids = select_varlen(q_idx, k_idx, n_selected=2, **rule)
            return attend_varlen(q, k, v, ids, **rule, return_lse=True)

        args = (*batch[:3], batch.q_idx, batch.k_idx)
        want = layer(*args)
        got = torch.compile(layer, backend="aot_eager", fullgraph=True)(*args)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        given = batch.where
        starts = given["cu_seqlens_q"]
        packed = layout == "packed"
        lens = given["cu_seqlens_k"] if packed else given["seq_lens"]
        q, k, v, q_idx, k_idx = (
            x[None] if packed and i in (1, 2, 4) else x for i, x in enumerate(args)
        )
        batched = (starts, lens, given.get("block_table"), packed, 40)
        opcheck(
            ops.select_varlen, (q_idx, k_idx, *batched, 2, 16, 1, 0, "hopper"), test_utils=cheap
        )
        opcheck(
            ops.attend_varlen, (q, k, v, batch.block_idx, *batched, 16, 0.1, "general"),
            test_utils=cheap,
        )  # fmt: skip
