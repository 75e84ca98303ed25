"""One token's reading of stored rows against the layer's own, and against loops."""

import dataclasses

import pytest
import torch
from lsa_layers import CLOSE, SMALL, draw_hidden, make_layer, run

from intuitive import kernels
from intuitive.common.runtime import seeded
from intuitive.lsa import fast
from intuitive.lsa.config import LSAConfig
from intuitive.lsa.packing import Storage, pack_entries, unpack_entries

PACKED = dataclasses.replace(SMALL, layout="v4")


def test_best_places_are_those_of_a_loop():
    """Ties to the lower place; places not there come last."""
    scores = torch.randint(-2, 3, (20, 30), generator=seeded(0)).float()
    there = torch.rand(20, 30, generator=seeded(1)) < 0.6
    scores = scores.masked_fill(~there, -torch.inf)
    got = fast.best_places(scores, 9)
    for row in range(20):
        alive = [place for place in range(30) if there[row, place]]
        best = sorted(alive, key=lambda place: (-float(scores[row, place]), place))[:9]
        assert got[row].tolist() == sorted(best)
    few = torch.full((1, 30), -torch.inf)
    few[0, [4, 20]] = 0.0
    assert {4, 20} < set(fast.best_places(few, 5)[0].tolist())


@pytest.mark.parametrize("layout", ["float32", "v4"])
def test_scores_of_keys_where_they_lie(layout):
    """Keys in cells, named by slots, are scored as the same keys one after the other."""
    config = dataclasses.replace(SMALL, layout=layout)
    storage, d = Storage(config, torch.float32), config.d_index
    keys = storage.store("index_keys", torch.randn(30, d, generator=seeded(0)))
    q = torch.randn(1, 3, d, generator=seeded(1))
    weights = torch.randn(1, 3, generator=seeded(2))
    want = fast.score_rows(q, weights, keys[None], storage)
    assert not torch.equal(want.sign().abs(), want.sign())  # of both signs
    cells = torch.zeros(30, 3 * keys.shape[1], dtype=keys.dtype)
    place = torch.randperm(30, generator=seeded(3))
    cells[place, keys.shape[1] : 2 * keys.shape[1]] = keys
    slots = place.int()[None].clone()
    slots[0, [2, 7]] = -1
    inside = cells[:, keys.shape[1] : 2 * keys.shape[1]]
    got = fast.score_rows(q, weights, inside, storage, slots, gather=True)
    want[0, [2, 7]] = -torch.inf
    torch.testing.assert_close(got, want, **CLOSE)
    marked = fast.score_rows(q, weights, keys[None], storage, slots)
    torch.testing.assert_close(marked, want, **CLOSE)


@pytest.mark.parametrize("kind", ["csa", "hca"])
@pytest.mark.parametrize("n", [3, 30, 47])
def test_one_token_reads_what_the_layer_reads_without_a_cache(kind, n):
    """The last token of a text, after a prefill of all others."""
    attention, hidden = make_layer(kind), draw_hidden(2, n)
    whole = run(attention, hidden)
    cache = attention.make_cache(2, 60, "cpu", torch.float32)
    run(attention, hidden[:, :-1], pieces=n, cache=cache)
    last = run(attention, hidden[:, -1:], pieces=1, cache=cache)
    torch.testing.assert_close(last[:, 0], whole[:, -1], **CLOSE)


def test_packed_rows_are_read_as_what_they_hold():
    """The same entries unpacked beforehand, packed, and in rows that lie apart."""
    config = LSAConfig.paper()
    storage = Storage(config, torch.float32)
    draw = seeded(0)
    rows = pack_entries(torch.randn(40, 512, generator=draw), 64)
    q, window = (torch.randn(1, n, 512, generator=draw) for n in (5, 7))
    sinks = torch.randn(5, generator=draw)
    slots = torch.tensor([[3, 17, -1, 39, 0]], dtype=torch.int32)
    plain = unpack_entries(rows, 512, 64)
    far = torch.cat((plain[[3, 17, 39, 0]], window[0]))
    logits = torch.cat((q[0] @ far.T * 512**-0.5, sinks[:, None]), 1)
    want = logits.softmax(-1)[:, :-1] @ far
    apart = torch.zeros(40, 700, dtype=torch.uint8)
    apart[:, 8:592] = rows
    for cells in (rows, apart[:, 8:592]):
        got = fast.read_cells(q, cells, slots, window, sinks, storage)
        torch.testing.assert_close(got[0], want, **CLOSE)


def test_rows_are_packed_as_the_kernels_read_them():
    entries = torch.randn(50, 512, generator=seeded(2)) * 9
    assert torch.equal(pack_entries(entries, 64), kernels.pack_cells(entries))


def test_nothing_to_read_leaves_the_window():
    storage = Storage(PACKED, torch.float32)
    q, window = torch.randn(2, 3, 16, generator=seeded(0)), torch.randn(2, 4, 16)
    sinks = torch.zeros(3)
    none = torch.zeros(2, 0, dtype=torch.int32)
    empty = torch.full((2, 3), -1, dtype=torch.int32)
    cells = torch.zeros(1, PACKED.entry_bytes, dtype=torch.uint8)
    a, b = (fast.read_cells(q, cells, slots, window, sinks, storage) for slots in (none, empty))
    torch.testing.assert_close(a, b, **CLOSE)
    assert a.abs().min() > 0
