"""Batches of sequences: the oracle equals the functions of one sequence, and errors speak."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from varlen_inputs import LAYOUTS, draw_batch, ints, one_by_one

from intuitive.kernels import attend_varlen, select_varlen

layouts = pytest.mark.parametrize("layout", LAYOUTS)
SEQUENCE = st.integers(1, 90).flatmap(lambda m: st.tuples(st.integers(0, m), st.just(m)))
EMPTY = st.tuples(st.integers(0, 2), st.just(0))  # no keys: its queries have nothing to read
SEQUENCES = st.lists(st.one_of(SEQUENCE, EMPTY), min_size=1, max_size=5).filter(
    lambda x: sum(n for n, _ in x) > 0 and sum(m for _, m in x) > 0
)


def check(batch, rule):
    """Selection and attention against the loop, bit by bit: the oracle computes the same."""
    want_ids, want, want_lse = one_by_one(batch, rule, impl="reference")
    got_ids = select_varlen(batch.q_idx, batch.k_idx, **batch.where, **rule)
    assert torch.equal(got_ids, want_ids)
    got, lse = attend_varlen(
        batch.q, batch.k, batch.v, batch.block_idx, **batch.where,
        block_size=rule["block_size"], return_lse=True,
    )  # fmt: skip
    assert torch.equal(got, want)
    assert torch.equal(lse, want_lse)


@layouts
@settings(deadline=None, max_examples=12, derandomize=True)
@given(lengths=SEQUENCES, seed=st.integers(0, 99))
def test_equals_one_sequence_at_a_time(layout, lengths, seed):
    rule = {"n_selected": 3, "block_size": 16, "n_local": 1 + seed % 2, "n_init": seed % 2}
    batch = draw_batch(
        layout, lengths, 2, 2, 8, block_size=16, n_selected=3, seed=seed, page=16 * (1 + seed % 3)
    )
    check(batch, rule)


@layouts
def test_one_query_each_needs_no_starts(layout):
    lengths = [(1, 40), (1, 1), (1, 0), (1, 33)]
    batch = draw_batch(layout, lengths, 2, 2, 8, block_size=16, n_selected=2, seed=0, single=True)
    assert "cu_seqlens_q" not in batch.where
    check(batch, {"n_selected": 2, "block_size": 16})
    assert (one_by_one(batch, {"n_selected": 2, "block_size": 16})[1][2] == 0).all()


def test_the_oracle_is_differentiable():
    batch = draw_batch("packed", [(3, 20), (2, 9)], 1, 2, 8, block_size=16, n_selected=2, seed=0)
    leaves = [x.clone().requires_grad_() for x in batch[:3]]
    attend_varlen(*leaves, batch.block_idx, **batch.where, block_size=16).sum().backward()
    assert all(x.grad.isfinite().all() for x in leaves)
    assert leaves[2].grad.abs().sum() > 0


def good():
    return draw_batch("pages", [(2, 20), (1, 9)], 1, 2, 8, block_size=16, n_selected=2, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seq_lens": None}, r"one of cu_seqlens_k and seq_lens must be given"),
        ({"seq_lens": torch.tensor([20, 9])}, r"seq_lens has dtype torch.int64.*seq_lens.int\(\)"),
        ({"seq_lens": ints([20, 99])}, r"sequence 1 has 99 keys, but lengths must be 0 to 20"),
        ({"seq_lens": ints([20, -1])}, r"sequence 1 has -1 keys"),
        ({"seq_lens": ints([1, 9])}, r"sequence 0 has 2 queries but only 1 keys"),
        ({"seq_lens": ints([20])}, r"cu_seqlens_q has 3 entries, but b=1 sequences"),
        ({"cu_seqlens_q": None}, r"3 queries of b=2 sequences without cu_seqlens_q"),
        ({"cu_seqlens_q": ints([0, 2])}, r"cu_seqlens_q has 2 entries, but b=2"),
        ({"cu_seqlens_q": ints([0, 2, 4])}, r"must begin with 0, never fall and end with 3"),
        ({"cu_seqlens_q": ints([0, 9, 3])}, r"must begin with 0, never fall and end with 3"),
        ({"block_table": ints([[0, 1]])}, r"block_table has shape \(1, 2\), but b=2"),
        ({"block_table": ints([[0, 77], [1, 2]])}, r"pages \[0, 77\] for sequence 0, but there"),
        ({"block_table": None}, r"the cache holds \d sequences, but seq_lens has b=2"),
        ({"max_seqlen_k": 19}, r"sequence 0 has 20 keys, but lengths must be 0 to 19"),
        ({"max_seqlen_k": 0}, r"max_seqlen_k=0 must be at least 1"),
        ({"block_size": 32}, r"pages hold 16 keys, which must be a multiple of block_size=32"),
    ],
)
def test_messages_hold_the_value_the_rule_and_the_next_step(change, message):
    batch = good()
    where = batch.where | {"block_size": 16} | change
    with pytest.raises(ValueError, match=message):
        attend_varlen(*batch[:3], batch.block_idx, **where)
    with pytest.raises(ValueError, match=message):
        select_varlen(batch.q_idx, batch.k_idx, n_selected=2, **where)


def test_messages_of_the_tensors():
    batch = good()
    rule = batch.where | {"block_size": 16}
    with pytest.raises(ValueError, match=r"h_q=3 must be a multiple of h_kv=2"):
        odd = torch.zeros(3, 3, 8), *[batch.k.expand(-1, -1, 2, -1)] * 2
        attend_varlen(*odd, batch.block_idx.expand(-1, 2, -1), **rule)
    with pytest.raises(ValueError, match=r"k has shape .* axes must be \[pages, page, h_kv, d\]"):
        attend_varlen(batch.q, batch.k[0], batch.v, batch.block_idx, **rule)
    with pytest.raises(ValueError, match=r"q_idx holds 24 values that are NaN"):
        select_varlen(batch.q_idx * float("nan"), batch.k_idx, n_selected=2, **rule)
    codes = (x.to(torch.float8_e4m3fn) for x in (batch.q_idx, batch.k_idx))
    with pytest.raises(ValueError, match=r"take no codes"):
        select_varlen(*codes, n_selected=2, **rule)
    with pytest.raises(ValueError, match=r"block_idx holds 2, but m=20 keys"):
        attend_varlen(*batch[:3], batch.block_idx * 0 + 2, **rule)
    packed = draw_batch("packed", [(2, 20)], 1, 2, 8, block_size=16, n_selected=2, seed=0)
    for extra, message in (
        ({"block_table": ints([[0]])}, r"packed keys have no pages"),
        ({"seq_lens": ints([20])}, r"one of cu_seqlens_k and seq_lens must be given"),
    ):
        with pytest.raises(ValueError, match=message):
            attend_varlen(*packed[:3], packed.block_idx, **packed.where, block_size=16, **extra)
