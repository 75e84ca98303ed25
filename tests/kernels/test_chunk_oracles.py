"""Facts about the oracles of LSA's kernels, which hold on any machine."""

import math

import pytest
import torch
from chunk_inputs import draw_reading, draw_scoring, stored_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from intuitive.kernels import (
    cell_attention,
    copy_cells,
    dispatch,
    pack_cells,
    score_chunks,
    select_chunks,
    tuning,
    unpack_cells,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


# --------------------------------------------------------------------------------- scores


def test_scores_are_the_formula_head_by_head():
    q, weights, keys, _ = draw_scoring(2, 3, 5, 4, seed=0)
    got = score_chunks(q, weights, keys)
    for b in range(2):
        for s in range(5):
            agreements = [max(float(q[b, h] @ keys[b, s]), 0.0) for h in range(3)]
            want = sum(
                float(w) * agreement for w, agreement in zip(weights[b], agreements, strict=True)
            )
            assert abs(float(got[b, s]) - want) < 1e-4 * max(1, abs(want))


def test_the_three_forms_of_keys_agree():
    q, weights, codes, scales = draw_scoring(2, 6, 20, 12, seed=2, stored="fp8")
    want = score_chunks(q, weights, codes.float() * scales[..., None])
    close = {"rtol": 1e-5, "atol": 1e-5 * want.abs().max().item()}
    torch.testing.assert_close(score_chunks(q, weights, codes, scales), want, **close)
    rows = stored_rows(codes, scales)
    assert rows.shape == (2, 20, 16) and rows.dtype == torch.uint8
    torch.testing.assert_close(score_chunks(q, weights, rows), want, **close)
    shared = score_chunks(q, weights, rows[0])
    torch.testing.assert_close(shared[0], want[0], **close)


def test_keys_of_odd_sizes_and_gradients_are_served_by_the_oracle():
    q, weights, codes, scales = draw_scoring(1, 3, 9, 5, seed=3, stored="fp8")
    got = score_chunks(q, weights, stored_rows(codes, scales))
    torch.testing.assert_close(got, score_chunks(q, weights, codes, scales))
    q.requires_grad_()
    score_chunks(q, weights, codes, scales).sum().backward()
    assert q.grad.abs().sum() > 0


def test_rounding_queries_costs_little_and_nothing_where_they_are_codes_already():
    x = draw_scoring(1, 64, 200, 64, seed=4, stored="fp8")
    exact, rounded = (score_chunks(*x, round_q=r) for r in (False, True))
    error = ((rounded - exact).norm() / exact.norm()).item()
    assert 1e-4 < error < 0.05  # a 16th of each number at most, and independent
    codes = (x.q / x.q.abs().amax() * 200).to(torch.float8_e4m3fn).float()
    for factor in (1.0, 2.0**-20, 2.0**20):
        exact, rounded = (score_chunks(codes * factor, *x[1:], round_q=r) for r in (False, True))
        # one head's power of two can push its smallest numbers out of e4m3's range
        assert ((rounded - exact).norm() / exact.norm()).item() < 1e-3


# ------------------------------------------------------------------------------ selection


@settings(max_examples=100, deadline=None)
@given(
    logits=st.lists(
        st.lists(
            st.sampled_from([-torch.inf, -2.0, -0.0, 0.0, 1e-30, 3.0]), min_size=4, max_size=4
        ),
        min_size=1,
        max_size=3,
    ),
    threshold=st.sampled_from([0.1, 0.5, 0.9]),
    forced_from=st.sampled_from([None, 0, 2, 3, 4, 9]),
)
def test_the_selection_obeys_every_rule(logits, threshold, forced_from):
    ids, count = select_chunks(torch.tensor(logits), threshold=threshold, forced_from=forced_from)
    cut = math.log(threshold / (1 - threshold))
    want = [
        chunk
        for chunk in range(4)
        if any(row[chunk] > cut for row in logits)
        or (forced_from is not None and chunk >= forced_from)
    ]
    assert ids.tolist() == want + [-1] * (4 - len(want))
    assert int(count) == len(want) and count.shape == ()


# --------------------------------------------------------------------------------- packing


def test_packed_cells_hold_what_they_promise():
    cells = torch.randn(7, 512, generator=torch.Generator().manual_seed(0))
    cells[:, :64] *= 1e4  # groups of very different sizes
    cells[:, 64:128] *= 1e-6
    packed = pack_cells(cells)
    assert packed.shape == (7, 584) and packed.dtype == torch.uint8
    assert (packed[:, -1] == 0).all()
    found = unpack_cells(packed)
    assert torch.equal(found[:, 448:], cells[:, 448:].bfloat16().float())
    # half a step of a 16th of the number, or of the smallest steps of its group
    group = cells[:, :448].unflatten(-1, (7, 64)).abs().amax(-1).repeat_interleave(64, dim=-1)
    slack = cells[:, :448].abs() / 16 + group * 2.0**-17
    assert ((found[:, :448] - cells[:, :448]).abs() <= slack).all()
    assert torch.equal(found.bfloat16().float(), found)


def test_packing_what_was_packed_changes_nothing():
    packed = pack_cells(torch.randn(5, 512, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(unpack_cells(pack_cells(unpack_cells(packed))), unpack_cells(packed))


@pytest.mark.parametrize("factor", [0.0, 448.0, 2.0**-140, 2.0**100])
def test_packing_extreme_cells(factor):
    cells = torch.ones(1, 512) * factor
    found = unpack_cells(pack_cells(cells))
    if factor < 2.0**-120:
        assert (found[:, :448] == 0).all()
    else:
        torch.testing.assert_close(found, cells, rtol=1 / 16, atol=0)


# ------------------------------------------------------------------------------- attention


def test_attention_is_softmax_with_a_sink_cell_by_cell():
    x = draw_reading(2, 3, 8, 10, 6, 4, seed=0, empty=0.3)
    got = cell_attention(*x, 0.5)
    for b in range(2):
        listed = [x.cells[i] for i in x.slots[b].tolist() if i >= 0]
        kv = torch.stack([*listed, *x.window[b]])
        for h in range(3):
            logits = torch.cat((kv @ x.q[b, h] * 0.5, x.sinks[h : h + 1]))
            p = logits.softmax(0)[:-1]
            torch.testing.assert_close(got[b, h], p @ kv)


def test_empty_slots_order_and_an_empty_query():
    x = draw_reading(2, 3, 8, 10, 6, 4, seed=1, empty=0.3)
    want = cell_attention(*x)
    for order in (torch.tensor([5, 3, 1, 0, 2, 4]), torch.arange(6).flip(0)):
        got = cell_attention(x.q, x.cells, x.slots[:, order], x.window, x.sinks)
        torch.testing.assert_close(got, want)
    slots = x.slots.clone()
    slots[0] = -1
    assert (cell_attention(x.q, x.cells, slots)[0] == 0).all()
    assert (cell_attention(x.q, x.cells, slots, None, x.sinks)[0] == 0).all()


def test_a_sink_far_below_changes_nothing_and_far_above_takes_all():
    x = draw_reading(1, 3, 8, 10, 6, 4, seed=2)
    want = cell_attention(*x[:4])
    low, high = (cell_attention(*x[:4], torch.full((3,), value)) for value in (-1e4, 1e4))
    torch.testing.assert_close(low, want)
    assert (high == 0).all()


def test_everything_resident_equals_dense_attention():
    x = draw_reading(1, 4, 16, 30, 30, 5, seed=3, empty=0.0)
    kv = torch.cat((x.cells[None], x.window), dim=1)
    want = torch.nn.functional.scaled_dot_product_attention(x.q[:, None], kv[:, None], kv[:, None])
    torch.testing.assert_close(cell_attention(*x[:4]), want[:, 0])


def test_attention_over_packed_cells_is_that_over_their_numbers():
    x = draw_reading(2, 3, 512, 10, 6, 4, seed=4)
    packed = pack_cells(x.cells)
    want = cell_attention(x.q, unpack_cells(packed), *x[2:])
    torch.testing.assert_close(cell_attention(x.q, packed, *x[2:]), want)


# ---------------------------------------------------------------------------------- copies


def test_copies_go_where_they_belong_and_nowhere_else():
    source = torch.arange(20).view(5, 4)
    target = torch.full((6, 4), -1)
    copy_cells(source, target, torch.tensor([4, -1, 0, 2]), torch.tensor([1, 3, 5, -1]))
    assert torch.equal(target[1], source[4]) and torch.equal(target[5], source[0])
    assert (target[[0, 2, 3, 4]] == -1).all()


# ------------------------------------------------------------------------------- messages

ROWS = {
    "q": torch.ones(1, 2, 4),
    "weights": torch.ones(1, 2),
    "keys": torch.ones(1, 3, 4),
    "scales": None,
}
CODES = torch.ones(1, 3, 4).to(torch.float8_e4m3fn)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": torch.ones(1, 3)}, r"weights has shape \(1, 3\): axis 'heads'.* 3, but q has"),
        ({"keys": torch.ones(1, 3, 5)}, r"keys has shape \(1, 3, 5\): axis 'd'"),
        ({"keys": torch.ones(1, 3, 4).half()}, "keys has dtype torch.float16, but q has"),
        ({"keys": CODES}, "scales is missing.*float8_e4m3fn keys come with one"),
        ({"scales": torch.ones(1, 3)}, "torch.float32 and scales is given"),
        ({"keys": CODES, "scales": torch.ones(1, 2)}, r"scales has shape \(1, 2\): axis 'chunks'"),
        ({"keys": CODES, "scales": torch.ones(1, 3).half()}, "scales has dtype torch.float16"),
        ({"keys": torch.ones(3, 7).byte()}, r"shape \(3, 7\), but stored rows.*\[chunks, 8\]"),
        ({"keys": torch.ones(2, 3, 8).byte()}, r"shape \(2, 3, 8\), but q has b=1"),
        ({"keys": torch.ones(3, 8).byte(), "scales": torch.ones(1, 3)}, "rows hold their own"),
        ({"q": torch.ones(1, 2, 4).int()}, "q has dtype torch.int32, but must be float16"),
        ({"q": torch.full((1, 2, 4), torch.nan)}, "q holds 8 values that are NaN"),
        ({"round_q": True}, "round_q=True goes with 8-bit keys only"),
        ({"impl": "cuda"}, "impl='cuda' must be one of"),
    ],
)
def test_scores_refuse_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        score_chunks(**(ROWS | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.0}, "threshold=0.0 must lie between 0 and 1, both excluded"),
        ({"threshold": 1.0}, "threshold=1.0 must lie"),
        ({"forced_from": -1}, "forced_from=-1 must be at least 0"),
        ({"forced_from": 1.5}, "forced_from=1.5 must be an integer"),
        ({"logits": torch.ones(3)}, r"logits has shape \(3,\), but its axes must be"),
        ({"logits": torch.ones(1, 3).half()}, "logits has dtype torch.float16"),
        ({"logits": torch.full((2, 3), torch.nan)}, "logits holds 6 values that are NaN, of 6"),
    ],
)  # fmt: skip
def test_selection_refuses_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        select_chunks(**({"logits": torch.ones(1, 3), "threshold": 0.5} | change))


READ = {
    "q": torch.ones(1, 2, 8),
    "cells": torch.ones(5, 8),
    "slots": torch.zeros(1, 3, dtype=torch.int32),
    "window": torch.ones(1, 4, 8),
    "sinks": torch.ones(2),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": torch.ones(5, 9)}, r"cells has shape \(5, 9\): axis 'd'"),
        ({"cells": torch.ones(5, 8).half()}, "cells has dtype torch.float16, but q has"),
        ({"cells": torch.ones(5, 584).byte()}, r"\(5, 584\) for queries of d=8, but packed cells"),
        ({"slots": torch.zeros(1, 3)}, "slots has dtype torch.float32, but must be torch.int32"),
        ({"slots": torch.full((1, 3), 5).int()}, "slots holds 5, but there are the cells 0 to 4"),
        ({"slots": torch.full((1, 3), -2).int()}, "slots holds -2, but"),
        ({"window": torch.ones(2, 4, 8)}, r"window has shape \(2, 4, 8\): axis 'b'"),
        ({"window": torch.ones(1, 4, 8).half()}, "window has dtype torch.float16"),
        ({"sinks": torch.ones(3)}, r"sinks has shape \(3,\): axis 'h'"),
        ({"sinks": torch.full((2,), torch.inf)}, "sinks holds 2 values that are NaN or infinite"),
    ],
)
def test_attention_refuses_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        cell_attention(**(READ | change))


COPY = {
    "source": torch.ones(5, 8),
    "target": torch.ones(6, 8),
    "rows": torch.tensor([0, 1]),
    "cells": torch.tensor([0, 1]),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.ones(6, 9)}, r"target has shape \(6, 9\): axis 'width'"),
        ({"target": torch.ones(6, 8).half()}, "source has dtype torch.float32, but target has"),
        ({"rows": torch.tensor([0, 1]).int()}, "rows has dtype torch.int32, but must be"),
        ({"rows": torch.tensor([0, 5])}, "rows holds 5, but source has the places 0 to 4"),
        ({"cells": torch.tensor([0, -2])}, "cells holds -2, but target has the places 0 to 5"),
        ({"cells": torch.tensor([1, 1])}, "cells names a place twice"),
        ({"cells": torch.tensor([1])}, r"cells has shape \(1,\): axis 'm'"),
        ({"target": torch.ones(8, 6).T}, r"target has strides \(1, 6\), but its rows must follow"),
    ],
)  # fmt: skip
def test_copies_refuse_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        copy_cells(**(COPY | change))


def test_packing_refuses_in_words():
    with pytest.raises(ValueError, match="cells has d=8, but a packed cell holds d=512"):
        pack_cells(torch.ones(2, 8))
    with pytest.raises(ValueError, match="cells holds NaN or an infinity"):
        pack_cells(torch.full((2, 512), torch.inf))
    with pytest.raises(ValueError, match=r"shape \(2, 8\), but a packed cell has 584 bytes"):
        unpack_cells(torch.ones(2, 8).byte())


# ------------------------------------------------------------------------------- dispatch


def test_auto_takes_the_oracle_for_what_triton_does_not_serve(monkeypatch):
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert dispatch.choose_served("auto", CUDA, None) == "triton"
    assert dispatch.choose_served("auto", CUDA, "d=5.") == "reference"
    assert dispatch.choose_served("reference", CUDA, "d=5.") == "reference"
    assert dispatch.choose_served("auto", CPU, None) == "reference"
    with pytest.raises(ValueError, match=r"d=5\. Pass impl='reference'"):
        dispatch.choose_served("triton", CUDA, "d=5.")
    with pytest.raises(RuntimeError, match="needs a CUDA tensor"):
        dispatch.choose_served("triton", CPU, "d=5.")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score_chunks(*draw_scoring(1, 129, 3, 32, seed=0), impl="triton"), "heads=129"),
        (lambda: score_chunks(*draw_scoring(1, 4, 3, 24, seed=0), impl="triton"), "d=24, but"),
        (
            lambda: score_chunks(
                *draw_scoring(1, 4, 3, 32, seed=0, dtype=torch.float64), impl="triton"
            ),
            "q has dtype torch.float64",
        ),
        (lambda: cell_attention(*draw_reading(1, 2, 24, 4, 3, 2, seed=0), impl="triton"), "d=24"),
        (
            lambda: cell_attention(*draw_reading(1, 2, 512, 4, 3, 2, seed=0), impl="triton"),
            "d=512 numbers in float32.*at most 128",
        ),
    ],
)
def test_a_request_that_triton_does_not_serve_is_refused(monkeypatch, call, message):
    monkeypatch.setattr(dispatch, "choose", lambda impl, device: impl)
    with pytest.raises(ValueError, match=message + ".*Pass impl='reference'"):
        call()


def test_tiles_are_forced_inside_only():
    tile = tuning.CopyTile(words=16, num_warps=1, programs=1)
    with tuning.force(copy_cells=tile):
        with tuning.force(score_chunks=None):
            assert tuning.forced("copy_cells") is tile
        assert tuning.forced("copy_cells") is tile
    assert tuning.forced("copy_cells") is None
