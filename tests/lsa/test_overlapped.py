"""Copies beside the decoding: the same tokens as masking by the same schedule, whatever fails."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from lsa_layers import SMALL, draw_tokens, make_decoder

from intuitive.common.decoder import generate
from intuitive.common.runtime import seeded
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.residency import (
    CellPool,
    CellTable,
    HostMirror,
    LookaheadDecoding,
    NoRoomOnDevice,
    PoolFull,
    RequestMemory,
    reactive_cache,
)
from intuitive.lsa.residency.mover import Mover

CONFIG = dataclasses.replace(
    SMALL, layers=("csa", "hca", "csa"), memory_layers=(0,), lookahead=8, tail=12, page_size=4
)
PACKED = dataclasses.replace(CONFIG, layout="v4")


def tenth(logits, always):
    """Another tenth of the chunks at every trigger."""
    return torch.rand(len(always), generator=seeded(len(always))) < 0.1


@pytest.fixture(scope="module")
def decoder():
    return make_decoder(CONFIG, max_positions=900)


@pytest.fixture(scope="module")
def indexers():
    return MemoryIndexers(CONFIG, generator=seeded(3)).requires_grad_(False)


def begin(decoder, indexers, prompt, **given):
    decoding = LookaheadDecoding(decoder, indexers, **{"capacity": 900, "choose": tenth} | given)
    decoding.prefill(prompt)
    return decoding


def packed_decoder(max_positions=900):
    return make_decoder(PACKED, max_positions=max_positions)


# ---------------------------------------------------------------------------- the schedules

SCHEDULES = [
    {"mode": "sync"},
    {"mode": "sync", "delay": 5},
    {"mode": "overlapped", "delay": 5},
    {"mode": "overlapped", "lag": 1},
    {"mode": "overlapped", "delay": 3, "sticky": True},
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_moving_gives_the_tokens_of_masking_by_the_same_schedule(decoder, indexers, schedule):
    prompt = draw_tokens(1, 203)[0]
    pool = CellPool(CONFIG, 60, reserve=2)
    moving = begin(decoder, indexers, prompt, pool=pool, **schedule)
    masked = begin(decoder, indexers, prompt, **schedule)
    assert moving.generate(34) == masked.generate(34)
    assert len(set(moving.tokens)) > 12
    for one, other in zip(moving.cycles, masked.cycles, strict=True):
        assert torch.equal(one.resident, other.resident)
        assert (one.step, one.applied) == (other.step, other.applied)
    applied = [cycle.applied - cycle.step for cycle in moving.cycles]
    assert applied == [0] + [schedule.get("delay", 0)] * (len(applied) - 1)
    assert sum(cycle.fetched for cycle in moving.cycles[1:]) > 0
    if schedule["mode"] == "overlapped":  # cells are enough, so that nothing comes late
        assert all(cycle.late == 0 for cycle in moving.cycles[1:])
    else:
        assert all(cycle.late == cycle.fetched for cycle in moving.cycles)


def test_a_delay_changes_the_tokens(decoder, indexers):
    """Else the test above could not tell one schedule from another."""
    prompt = draw_tokens(1, 203)[0]
    runs = [{}, {"delay": 1}, {"delay": 8}, {"lag": 1}]
    texts = [begin(decoder, indexers, prompt, **given).generate(26) for given in runs]
    assert len({tuple(text) for text in texts}) == len(texts)


def test_a_delay_of_a_whole_cycle_is_the_lag_of_the_server_but_for_the_first(decoder, indexers):
    prompt = draw_tokens(1, 203)[0]
    delayed = begin(decoder, indexers, prompt, delay=8)
    late = begin(decoder, indexers, prompt, lag=1)
    delayed.generate(26), late.generate(26)
    for one, other in zip(delayed.cycles[1:], late.cycles[2:], strict=False):
        assert one.applied == other.applied
        asked = one.asked | ~torch.ones_like(one.asked)
        assert torch.equal(asked & one.resident, asked)


def test_decoding_goes_on_while_copies_travel(decoder, indexers, monkeypatch):
    """The copy cannot end before five more tokens are there."""
    prompt = draw_tokens(1, 203)[0]
    want = begin(decoder, indexers, prompt, delay=5).generate(20)
    decoding = begin(
        decoder, indexers, prompt, delay=5, mode="overlapped", pool=CellPool(CONFIG, 60)
    )
    decoding.generate(8)
    may_end, copied, copy = threading.Event(), [], Mover._copy_on_host

    def wait_then_copy(self, mirror, chunks, cells):
        assert may_end.wait(60)
        copy(self, mirror, chunks, cells)
        copied.append(len(chunks))

    monkeypatch.setattr(Mover, "_copy_on_host", wait_then_copy)
    decoding.generate(5)
    assert copied == []
    assert len(decoding.cycles) == 1
    may_end.set()
    decoding.generate(7)
    assert decoding.cycles[1].late == 0 < decoding.cycles[1].fetched
    assert decoding.tokens == want


SYNC, OVERLAPPED = {"mode": "sync"}, {"mode": "overlapped", "delay": 3}


def two_requests(layout, schedule, n, device="cpu"):
    """One pool; a third request takes over the cells of the first, while the second goes on."""
    config = dataclasses.replace(CONFIG, layout=layout)
    decoder = make_decoder(config, max_positions=900).to(device)
    indexers = MemoryIndexers(config, generator=seeded(3)).requires_grad_(False).to(device)
    prompts = [draw_tokens(1, size, seed=size)[0].to(device) for size in (161, 303, 145)]
    times = {key: value for key, value in schedule.items() if key != "mode"}
    runs = zip(prompts, (16, n, 16), strict=True)
    want = [begin(decoder, indexers, prompt, **times).generate(size) for prompt, size in runs]
    pool = CellPool(config, 260, reserve=10, device=device)
    given = {"pool": pool} | schedule
    first, second = (begin(decoder, indexers, prompt, **given) for prompt in prompts[:2])
    for _ in range(4):
        first.generate(4)
        second.generate(3)
    freed = set(pool.table(first.request).values())
    first.close()
    third = begin(decoder, indexers, prompts[2], **given)
    for _ in range(4):
        third.generate(4)
        second.generate(3)
    assert freed & set(pool.table(third.request).values())
    second.generate(n - 24)
    assert [first.tokens, second.tokens, third.tokens] == want
    assert len(set(second.tokens)) > min(n, 200) / 4
    assert sum(cycle.fetched for cycle in second.cycles[1:]) > 0
    assert not any(bool(cycle.resident.all()) for cycle in second.cycles)
    return second


@pytest.mark.parametrize(
    ("layout", "schedule"), [("float32", SYNC), ("v4", OVERLAPPED)], ids=["sync", "overlapped"]
)
def test_two_requests_at_once_with_cells_reused(layout, schedule):
    two_requests(layout, schedule, n=34)


@pytest.mark.sweep
@pytest.mark.parametrize("schedule", [SYNC, OVERLAPPED], ids=str)
def test_512_steps(schedule):
    second = two_requests("v4", schedule, n=512)
    assert sum(cycle.refetched for cycle in second.cycles) > 0
    assert sum(cycle.fetched for cycle in second.cycles) > second.pool.n_cells


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["float32", "v4"])
@pytest.mark.parametrize("schedule", [SYNC, OVERLAPPED], ids=str)
def test_512_steps_on_the_gpu(layout, schedule):
    second = two_requests(layout, schedule, n=512, device="cuda")
    assert second.memory.mirror.pinned
    assert sum(cycle.refetched for cycle in second.cycles) > 0


@pytest.mark.gpu
def test_rows_gathered_on_the_host_and_rows_read_in_place_are_the_same_on_the_gpu():
    pool = CellPool(PACKED, 700, device="cuda")
    memory = RequestMemory(pool, 4000)
    memory.mirror.rows.random_(generator=seeded(1))
    found = []
    for direct in (True, False):
        pool.mover.direct = direct
        chunks = torch.randperm(1000, generator=seeded(2))[:700].numpy()
        cells = torch.randperm(700, generator=seeded(3)).numpy()
        pool.cells.zero_()
        pool.mover.copy(memory.mirror, chunks, cells)
        found.append(pool.cells.cpu())
        assert torch.equal(found[-1][cells], memory.mirror.rows[chunks])
    assert torch.equal(*found)


# -------------------------------------------------------------------------------- V4's bytes


def test_packed_memory_moves_as_it_is_masked(indexers):
    decoder = packed_decoder()
    prompt = draw_tokens(1, 161)[0]
    moving = begin(decoder, indexers_of(PACKED), prompt, pool=CellPool(PACKED, 60))
    masked = begin(decoder, indexers_of(PACKED), prompt)
    assert moving.generate(30) == masked.generate(30)
    full = make_decoder(CONFIG, max_positions=900)
    assert (
        begin(full, indexers, prompt).generate(30) != moving.tokens
    )  # packing does lose something
    cache = moving.csa_caches[1]
    assert cache.mirror.part("entries", 1).shape[1] == PACKED.entry_bytes
    assert cache.nbytes()["entries"] == moving.pool.places(0).n * PACKED.entry_bytes
    per_chunk = 2 * PACKED.entry_bytes + PACKED.index_key_bytes  # layer 0 votes
    assert moving.pool.cell_bytes == per_chunk


def indexers_of(config):
    return MemoryIndexers(config, generator=seeded(3)).requires_grad_(False)


def test_a_packed_model_stays_close_to_the_one_that_it_packs():
    """fp8 has three binary digits: what a layer reads moves by some percent, no more."""
    prompt = draw_tokens(1, 120)[0]
    outs = []
    for config in (CONFIG, PACKED):
        decoder = make_decoder(config, max_positions=900)
        cache = decoder.make_cache(1, 200)
        with torch.no_grad():
            outs.append(decoder.hidden(prompt[None], cache=cache))
    error = (outs[0] - outs[1]).norm() / outs[0].norm()
    assert 0 < error < 0.3


# ---------------------------------------------------------------------------- when it fails


def test_a_copy_that_fails_beside_the_decoding_is_made_again(decoder, indexers, monkeypatch):
    prompt = draw_tokens(1, 203)[0]
    want = begin(decoder, indexers, prompt, delay=3).generate(40)
    decoding = begin(
        decoder, indexers, prompt, delay=3, mode="overlapped", pool=CellPool(CONFIG, 60)
    )
    copy = Mover._copy_on_host

    def fail_in_the_worker(self, mirror, chunks, cells):
        if threading.current_thread() is not threading.main_thread():
            self.cells[cells] = 255  # what had arrived is of no use
            raise MemoryError("no staging buffer")
        copy(self, mirror, chunks, cells)

    monkeypatch.setattr(Mover, "_copy_on_host", fail_in_the_worker)
    assert decoding.generate(40) == want
    assert all(cycle.late == cycle.fetched for cycle in decoding.cycles)
    assert sum(cycle.fetched for cycle in decoding.cycles[1:]) > 0


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
@pytest.mark.parametrize("delay", [0, 3])
def test_a_copy_that_fails_loses_no_text(decoder, indexers, monkeypatch, error, delay):
    prompt = draw_tokens(1, 203)[0]
    want = begin(decoder, indexers, prompt, delay=delay).generate(40)
    decoding = begin(decoder, indexers, prompt, delay=delay, pool=CellPool(CONFIG, 60))
    decoding.generate(10)
    copy = Mover.copy

    def fail(self, mirror, chunks, cells):
        self.cells[cells] = 255
        raise error("no room")

    monkeypatch.setattr(Mover, "copy", fail)
    for _ in range(2):
        with pytest.raises(error, match="no room"):
            decoding.generate(30)
        assert 10 <= len(decoding.tokens) < 40
        assert decoding.tokens == want[: len(decoding.tokens)]
    monkeypatch.setattr(Mover, "copy", copy)
    decoding.generate(41 - len(decoding.tokens))
    assert decoding.tokens == want


def test_a_layer_out_of_memory_loses_no_text(decoder, indexers):
    prompt = draw_tokens(1, 203)[0]
    want = begin(decoder, indexers, prompt, delay=3).generate(30)
    decoding = begin(
        decoder, indexers, prompt, delay=3, mode="overlapped", pool=CellPool(CONFIG, 60)
    )
    last = decoder.layers[-1].attention

    def fail(look):
        raise torch.OutOfMemoryError("CUDA out of memory")

    for n in (9, 11, 13):  # a trigger, copies on their way, a chunk that closes
        decoding.generate(n - len(decoding.tokens))
        last.watch = fail
        try:
            with pytest.raises(torch.OutOfMemoryError):
                decoding.generate(1)
        finally:
            last.watch = None
        assert decoding.tokens == want[: n + 1]
        decoding.generate(1)
    decoding.generate(30 - len(decoding.tokens))
    assert decoding.tokens == want


def test_copies_that_find_no_cell_come_late(decoder, indexers):
    """Room for either set and not for both: the rest is copied when the new set is applied."""
    prompt = draw_tokens(1, 203)[0]

    def halves(logits, always):
        """The first quarter of the prompt's chunks, or the second, in turn."""
        asked = torch.zeros_like(always)
        asked[12 * (len(always) // 2 % 2) :][:12] = True
        return asked

    want = begin(decoder, indexers, prompt, choose=halves, delay=3).generate(40)
    pool = CellPool(CONFIG, 24)
    given = {"choose": halves, "delay": 3, "mode": "overlapped", "pool": pool}
    decoding = begin(decoder, indexers, prompt, **given)
    assert decoding.generate(40) == want
    assert any(0 < cycle.late < cycle.fetched for cycle in decoding.cycles[1:])


def test_a_full_pool_keeps_a_delayed_set_for_later(decoder, indexers):
    prompt, other = draw_tokens(1, 203)[0], draw_tokens(1, 203, seed=5)[0]
    want = begin(decoder, indexers, prompt, delay=3).generate(40)
    pool = CellPool(CONFIG, 20)
    blocker = begin(decoder, indexers, other, pool=pool)
    blocker.generate(1)
    decoding = begin(decoder, indexers, prompt, pool=pool, delay=3, mode="overlapped")
    with pytest.raises(PoolFull):
        decoding.generate(40)
    n = len(decoding.tokens)
    assert 0 < n < 40
    assert decoding.tokens == want[:n]
    blocker.close()
    decoding.generate(41 - n)
    assert decoding.tokens == want


def test_memory_that_cannot_be_pinned_serves_as_it_is(monkeypatch):
    room = HostMirror._room

    def refuse(self, n, width):
        if self.pinned:
            raise RuntimeError("CUDA error: out of lockable memory\nmore words")
        return room(self, n, width)

    monkeypatch.setattr(HostMirror, "_room", refuse)
    pool = CellPool(CONFIG, 4)
    mirror = HostMirror(pool.layout, 7, (0,), torch.device("cuda"))
    assert (mirror.pinned, mirror.why) == (False, "CUDA error: out of lockable memory")
    assert mirror.rows.shape == (7, pool.cell_bytes)


def test_a_pool_that_the_device_cannot_hold_says_so(monkeypatch):
    def refuse(*size, **given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "zeros", refuse)
    with pytest.raises(NoRoomOnDevice, match=r"take 167772160\.0 MiB, which cpu does not"):
        CellPool(CONFIG, 2**40)  # whose list of free cells would not fit on the host either


@pytest.mark.gpu
def test_a_pool_that_the_gpu_cannot_hold_says_so():
    with pytest.raises(NoRoomOnDevice, match="MiB are free"):
        CellPool(CONFIG, 2**33, device="cuda")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mode": "overlapped"}, "give a delay, such as delay=8, or lag=1"),
        ({"mode": "later"}, "mode='later' is unknown"),
        ({"delay": 9}, r"delay=9 must lie in \[0, 8\]"),
        ({"delay": 2, "lag": 1}, "a delay of a whole cycle"),
    ],
)
def test_wrong_schedules_are_refused(decoder, indexers, given, words):
    with pytest.raises(ValueError, match=words):
        begin(decoder, indexers, draw_tokens(1, 20)[0], **given)


# --------------------------------------------------------------------- the table, arriving


def test_arriving_chunks_have_cells_of_their_own():
    table = CellTable(6)
    request = table.open()
    table.place(request, [0, 1, 2])
    before = table.resident(request)[1]
    chunks, cells = table.prefetch(request, [2, 3, 4])
    assert chunks.tolist() == [3, 4]
    assert not set(cells.tolist()) & set(before.tolist())
    assert table.resident(request)[0].tolist() == [0, 1, 2]
    chunks, _ = table.place(request, [2, 3, 4])
    assert chunks.tolist() == []
    assert table.resident(request)[0].tolist() == [2, 3, 4]
    assert table.n_free == 3


def test_only_as_many_chunks_arrive_as_there_are_cells():
    table = CellTable(4, reserve=1)
    request = table.open()
    table.place(request, [0, 1])
    table.place(request, [1])  # 0 is in reserve
    assert table.prefetch(request, [0, 5, 6, 7])[0].tolist() == [5, 6]
    assert (table.n_free, table.n_reserved) == (0, 0)
    assert table.place(request, [0, 5, 6])[0].tolist() == []
    assert (table.n_free, table.n_reserved) == (0, 1)
    assert table.prefetch(request, [7, 8], spare=1)[0].tolist() == []


def test_arriving_chunks_that_are_not_wanted_after_all_are_let_go():
    table = CellTable(4)
    request = table.open()
    table.place(request, [0, 1])
    table.prefetch(request, [2, 3])
    assert table.place(request, [0, 2])[0].tolist() == []
    assert table.n_free == 2
    table.prefetch(request, [7, 8])
    table.drop(request, np.array([7, 8]))
    assert table.n_free == 2
    assert table.place(request, [0, 2, 7])[0].tolist() == [7]


# ---------------------------------------------------------------------- fetching on demand


@pytest.mark.parametrize("config", [CONFIG, PACKED], ids=["plain", "packed"])
def test_fetching_on_demand_gives_the_tokens_of_the_unrestricted_model(config):
    decoder = make_decoder(config, max_positions=400)
    prompt = draw_tokens(1, 203)[0]
    want = generate(decoder, prompt[None], max_new_tokens=50)[0].tolist()
    cache = reactive_cache(decoder, config, 300, n_cells=8)
    with torch.no_grad():
        got = [int(decoder(prompt[None], cache=cache)[0, -1].argmax())]
        while len(got) < 50:
            got.append(int(decoder(torch.tensor([[got[-1]]]), cache=cache)[0, -1].argmax()))
    assert got == want
    for layer in (cache.layers[0], cache.layers[2]):
        assert layer.asked == 49 * config.top_k
        assert config.top_k <= layer.fetched < layer.asked
        held = layer.device_bytes()
        assert held["entries"] == 8 * config.entry_bytes
        assert held["index_keys"] == 75 * config.index_key_bytes


def test_fetching_on_demand_needs_cells_for_one_step():
    with pytest.raises(ValueError, match=r"n_cells=2 must be at least 3: one step reads so many"):
        reactive_cache(make_decoder(CONFIG), CONFIG, 40, n_cells=2)
