"""Memory that moves: the table of cells, and the same tokens as masking, whatever happens."""

import dataclasses

import pytest
import torch
from lsa_layers import SMALL, draw_tokens, make_decoder

from intuitive.common.decoder import generate
from intuitive.common.runtime import Cancelled, seeded
from intuitive.lsa import cost
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.residency import CellPool, LookaheadDecoding, PoolFull
from intuitive.lsa.selection import resident_sets

CONFIG = dataclasses.replace(
    SMALL,
    layers=("window", "csa", "hca", "csa", "csa"),
    memory_layers=(0, 2),
    lookahead=8,
    tail=12,
    page_size=4,
)

# -------------------------------------------------------------------------- the table of cells


def make_pool(n_cells, reserve=0):
    return CellPool(CONFIG, n_cells, reserve=reserve)


def test_only_the_difference_is_copied():
    pool = make_pool(4)
    request = pool.open()
    assert list(pool.place(request, [3, 5, 9])) == [3, 5, 9]
    before = pool.table(request)
    copies = pool.place(request, [3, 9, 12])
    assert list(copies) == [12]
    after = pool.table(request)
    assert list(after) == [3, 9, 12]
    assert (after[3], after[9]) == (before[3], before[9])
    assert len(set(after.values())) == 3
    assert pool.n_free == 1


def test_cells_may_change_hands_within_one_call():
    pool = make_pool(2)
    request = pool.open()
    pool.place(request, [0, 1])
    assert list(pool.place(request, [2, 3])) == [2, 3]
    assert list(pool.table(request)) == [2, 3]


def test_reserve_cells_save_a_copy_and_the_oldest_goes_first():
    pool = make_pool(4, reserve=2)
    request = pool.open()
    pool.place(request, [0, 1])
    cell = pool.table(request)[0]
    pool.place(request, [1])
    pool.place(request, [2])  # now 0 and 1 are in reserve, 0 the older
    assert (pool.n_reserved, pool.n_free) == (2, 1)
    assert list(pool.place(request, [0, 2])) == []
    assert pool.table(request)[0] == cell
    pool.place(request, [2])  # 0 is the younger now
    assert list(pool.place(request, [2, 4, 5])) == [4, 5]
    assert list(pool.place(request, [0, 2, 5])) == []
    assert list(pool.place(request, [1, 2, 5])) == [1]


def test_a_reserve_holds_no_more_than_it_may():
    pool = make_pool(8, reserve=1)
    request = pool.open()
    pool.place(request, [0, 1, 2])
    pool.place(request, [])
    assert (pool.n_reserved, pool.n_free) == (1, 7)
    assert list(pool.place(request, [0, 1, 2])) == [0, 1]  # the youngest was 2


def test_a_reserve_is_never_in_the_way():
    pool = make_pool(3, reserve=3)
    first, second = pool.open(), pool.open()
    pool.place(first, [0, 1, 2])
    pool.place(first, [])
    assert list(pool.place(second, [0, 1, 2])) == [0, 1, 2]
    assert pool.n_reserved == 0
    pool.place(second, [])
    pool.add(first, 7)
    assert (pool.n_reserved, pool.n_free) == (2, 0)


def test_a_full_pool_says_so_and_changes_nothing():
    pool = make_pool(3)
    first, second = pool.open(), pool.open()
    pool.place(first, [0, 1])
    pool.place(second, [0])
    before = pool.table(first), pool.table(second)
    with pytest.raises(PoolFull, match="3 chunks must be resident, 2 of them new, and 1 of 3"):
        pool.place(first, [1, 2, 3])
    with pytest.raises(PoolFull, match="closed chunk 5 and all 3 cells"):
        pool.add(second, 5)
    assert (pool.table(first), pool.table(second)) == before


def test_requests_do_not_meet_and_a_released_one_leaves_nothing():
    pool = make_pool(6, reserve=2)
    first, second = pool.open(), pool.open()
    pool.place(first, [0, 1, 2])
    pool.place(second, [0, 1])
    pool.place(first, [0])
    kept = pool.table(second)
    pool.release(first)
    pool.release(first)
    assert pool.table(second) == kept
    assert (pool.n_free, pool.n_reserved) == (4, 0)
    third = pool.open()
    assert third not in (first, second)
    assert list(pool.place(third, [1, 2])) == [1, 2]  # what the first had there is not reused


def test_chunks_can_be_forgotten():
    pool = make_pool(4, reserve=4)
    request = pool.open()
    pool.place(request, [0, 1, 2, 3])
    pool.place(request, [0, 2])
    pool.forget(request, 2)
    assert list(pool.table(request)) == [0]
    assert (pool.n_free, pool.n_reserved) == (2, 1)
    assert pool.add(request, 5) == pool.add(request, 5)


def test_a_cell_has_the_bytes_of_the_cost_model():
    assert make_pool(1).cell_bytes == cost.transfer_bytes(CONFIG, 1, index_keys=True)


# -------------------------------------------------------------------------------- decoding


@pytest.fixture(scope="module")
def decoder():
    return make_decoder(CONFIG, max_positions=800)


@pytest.fixture(scope="module")
def indexers():
    """Untrained, with a bias: some chunks pass the threshold and the sets change."""
    made = MemoryIndexers(CONFIG, generator=seeded(3)).requires_grad_(False)
    for layer in made.layers:
        layer.bias.fill_(-0.5)
    return made


def begin(decoder, indexers, prompt, **given):
    decoding = LookaheadDecoding(decoder, indexers, **{"capacity": 700} | given)
    decoding.prefill(prompt)
    return decoding


def test_moving_gives_the_tokens_of_masking(decoder, indexers):
    prompt = draw_tokens(1, 97)[0]
    moving = begin(decoder, indexers, prompt, pool=make_pool(80))
    masked = begin(decoder, indexers, prompt)
    assert moving.generate(44) == masked.generate(44)
    torch.testing.assert_close(moving._next, masked._next, atol=1e-5, rtol=1e-5)
    assert len(set(moving.tokens)) > 20  # the text wanders
    assert len(moving.cycles) == 6
    for one, other in zip(moving.cycles, masked.cycles, strict=True):
        assert torch.equal(one.resident, other.resident)
        assert one.moved_bytes == one.fetched * moving.pool.cell_bytes
        assert other.moved_bytes == other.fetched == 0
        assert not one.resident.all()
    fetched = [cycle.fetched for cycle in moving.cycles]
    assert fetched[0] == moving.cycles[0].resident.sum()
    assert 0 < sum(fetched[1:]) < sum(int(c.resident.sum()) for c in moving.cycles[1:]) / 2
    assert sum(cycle.refetched for cycle in moving.cycles) > 0
    unrestricted = generate(decoder, prompt[None], max_new_tokens=44)[0].tolist()
    assert moving.tokens != unrestricted  # these sets do leave something out


@pytest.mark.sweep
def test_512_steps_of_two_requests_at_once_with_slots_reused():
    """One pool; a third request takes over the cells of the first, while the second goes on."""
    config = dataclasses.replace(CONFIG, layers=("csa", "hca", "csa"), memory_layers=(0,))
    decoder = make_decoder(config, max_positions=900)
    indexers = MemoryIndexers(config, generator=seeded(3)).requires_grad_(False)
    prompts = [draw_tokens(1, n, seed=n)[0] for n in (161, 303, 145)]

    def draw(logits, always):
        """Another tenth of the chunks at every trigger."""
        return torch.rand(len(always), generator=seeded(len(always))) < 0.1

    given = {"choose": draw, "capacity": 900}
    runs = zip(prompts, (64, 512, 64), strict=True)
    want = [begin(decoder, indexers, prompt, **given).generate(n) for prompt, n in runs]
    pool = CellPool(config, 200, reserve=10)
    given["pool"] = pool
    first, second = (begin(decoder, indexers, prompt, **given) for prompt in prompts[:2])
    for _ in range(4):
        first.generate(16)
        second.generate(9)
    first.close()
    third = begin(decoder, indexers, prompts[2], **given)
    for _ in range(4):
        third.generate(16)
        second.generate(9)
    second.generate(512 - 72)
    assert [first.tokens, second.tokens, third.tokens] == want
    assert len(set(second.tokens)) > 50
    assert sum(cycle.fetched for cycle in second.cycles) > pool.n_cells  # cells change hands
    assert sum(cycle.refetched for cycle in second.cycles) > 0
    assert not any(bool(cycle.resident.all()) for cycle in second.cycles)


def test_everything_resident_gives_the_tokens_of_the_unrestricted_model(decoder, indexers):
    prompt = draw_tokens(1, 50)[0]
    want = generate(decoder, prompt[None], max_new_tokens=18)[0].tolist()

    def everything(logits, always):
        return torch.ones_like(always)

    for pool in (None, make_pool(40)):
        decoding = begin(decoder, indexers, prompt, pool=pool, choose=everything)
        assert decoding.generate(18) == want


@pytest.mark.parametrize(
    "given",
    [
        {"lag": 1},
        {"sticky": True},
        {"rule": "budget", "size": 5},
        {"rule": "pages", "size": 4},
        {"rule": "budget", "size": 5, "lag": 1, "sticky": True},
    ],
    ids=str,
)
def test_decoding_follows_the_rules_of_selection(decoder, indexers, given):
    prompt = draw_tokens(1, 90)[0]
    decoding = begin(decoder, indexers, prompt, pool=make_pool(80), **given)
    decoding.generate(40)
    closed = torch.tensor([len(cycle.resident) for cycle in decoding.cycles])
    assert closed.tolist() == [22, 24, 26, 28, 30]
    logits = torch.full((5, 2, 30), 99.0)  # above any threshold, for chunks not there
    for row, cycle in zip(logits, decoding.cycles, strict=True):
        row[:, : len(cycle.resident)] = cycle.logits
    want = resident_sets(logits, closed, CONFIG, **given)
    for row, cycle in zip(want, decoding.cycles, strict=True):
        assert torch.equal(cycle.resident, row[: len(cycle.resident)])
    assert not decoding.cycles[0].resident.all()


def test_full_attention_is_a_fallback_that_stays(decoder, indexers):
    prompt = draw_tokens(1, 80)[0]
    calls = []

    def ask(logits, always):
        """Little, then half of what may be fetched, then nothing."""
        calls.append(len(always))
        asked = torch.zeros_like(always)
        asked[: {1: 1, 2: len(always) // 2}.get(len(calls), 0)] = True
        return asked

    decoding = begin(decoder, indexers, prompt, pool=make_pool(60), choose=ask, full_limit=0.4)
    decoding.generate(32)
    assert [cycle.full for cycle in decoding.cycles] == [False, True, True, True]
    assert [bool(cycle.resident.all()) for cycle in decoding.cycles] == [False, True, True, True]
    calls.clear()
    never = begin(decoder, indexers, prompt, pool=make_pool(60), choose=ask)
    never.generate(32)
    assert not any(cycle.full or cycle.resident.all() for cycle in never.cycles)


def test_misses_are_told_by_a_shadow_of_the_selector(decoder, indexers):
    prompt = draw_tokens(1, 80)[0]
    given = {"shadow": True, "rule": "budget", "size": 4}
    some = begin(decoder, indexers, prompt, **given)
    some.generate(16)
    assert len(some.misses) == 16
    assert {len(row) for row in some.misses} == {3}
    misses = torch.tensor(some.misses)
    assert 0 <= misses.min() <= misses.max() <= CONFIG.top_k
    assert (misses > 0).any()
    everything = begin(decoder, indexers, prompt, shadow=True, rule="budget", size=99)
    everything.generate(16)
    assert everything.misses == [[0, 0, 0]] * 16
    with pytest.raises(ValueError, match="shadow=True needs all index keys"):
        begin(decoder, indexers, prompt, shadow=True, pool=make_pool(50))


def test_a_trigger_reads_the_last_token_that_was_read(decoder, indexers):
    """The hidden states are those of a plain run over the text so far, at its last token."""
    prompt = draw_tokens(1, 60)[0]
    masked = begin(decoder, indexers, prompt, choose=lambda logits, always: torch.ones_like(always))
    masked.generate(9)
    text = torch.cat((prompt, torch.tensor(masked.tokens)))
    for cycle, n in zip(masked.cycles, (60, 68), strict=True):
        looks = {}
        for i in CONFIG.csa_layers:
            decoder.layers[i].attention.watch = lambda look, i=i, looks=looks: looks.update(
                {i: look}
            )
        with torch.no_grad():
            decoder(text[None, :n])
        for i in CONFIG.csa_layers:
            decoder.layers[i].attention.watch = None
        read = [looks[CONFIG.csa_layers[i]] for i in CONFIG.memory_layers]
        hidden = torch.stack([look.hidden[0, -1:] for look in read])
        keys = torch.stack([look.index_keys[0] for look in read])
        want = indexers(hidden, torch.tensor([n - 1]), keys)[0]
        torch.testing.assert_close(cycle.logits, want, atol=1e-4, rtol=1e-4)


def test_bytes_on_the_device_are_those_of_the_cost_model(decoder, indexers):
    prompt = draw_tokens(1, 96)[0]
    pool = make_pool(60)
    decoding = begin(decoder, indexers, prompt, pool=pool)
    decoding.generate(1)
    held = decoding.cache.nbytes()
    resident = int(decoding.cycles[0].resident.sum())
    want = cost.resident_bytes(CONFIG, 96, kept=resident / 24)
    hca = want["hca_entries"]
    assert held["entries"] == want["csa_entries"] + hca
    assert held["index_keys"] == want["index_keys"]
    full = cost.kv_bytes(CONFIG, 96)
    host = sum(cache.host_nbytes() for cache in decoding.csa_caches)
    assert host == full["csa_entries"] + full["index_keys"]
    masked = begin(decoder, indexers, prompt)
    masked.generate(1)
    assert masked.cache.nbytes()["entries"] == full["csa_entries"] + hca


@pytest.mark.gpu
def test_moving_gives_the_tokens_of_masking_on_the_gpu():
    decoder = make_decoder(CONFIG, max_positions=800).cuda()
    indexers = MemoryIndexers(CONFIG, generator=seeded(3)).requires_grad_(False).cuda()
    prompt = draw_tokens(1, 297)[0].cuda()
    pool = CellPool(CONFIG, 160, reserve=9, device="cuda")
    masked, moving = (
        begin(decoder, indexers, prompt, pool=given, rule="budget", size=9)
        for given in (None, pool)
    )
    assert moving.generate(100) == masked.generate(100)
    assert all(cache.pinned for cache in moving.csa_caches)
    assert sum(cycle.fetched for cycle in moving.cycles) > moving.cycles[0].fetched > 0
    assert moving.csa_caches[0].readable().entries.is_cuda
    assert moving.cache.nbytes() | {"entries": 0, "index_keys": 0} == (
        masked.cache.nbytes() | {"entries": 0, "index_keys": 0}
    )


# --------------------------------------------------------------------------- when it fails


def test_a_full_pool_loses_no_text_and_the_request_goes_on(decoder, indexers):
    prompt, other = draw_tokens(1, 64)[0], draw_tokens(1, 64, seed=9)[0]
    want = begin(decoder, indexers, prompt).generate(60)
    pool = make_pool(34)
    blocker = begin(decoder, indexers, other, pool=pool)
    blocker.generate(1)
    decoding = begin(decoder, indexers, prompt, pool=pool)
    with pytest.raises(PoolFull):
        decoding.generate(60)
    assert 0 < len(decoding.tokens) < 60
    n = len(decoding.tokens)
    assert decoding.tokens == want[:n]
    with pytest.raises(PoolFull):
        decoding.generate(60)
    assert decoding.tokens == want[:n]
    blocker.close()
    decoding.generate(61 - n)
    assert decoding.tokens == want


def test_an_error_within_a_step_leaves_no_stale_cell(decoder, indexers):
    prompt = draw_tokens(1, 62)[0]
    want = begin(decoder, indexers, prompt).generate(20)
    decoding = begin(decoder, indexers, prompt, pool=make_pool(60))
    last = decoder.layers[CONFIG.csa_layers[-1]].attention

    def fail(look):
        raise MemoryError("no room")

    free = []
    for n in range(8):  # every second step closes a chunk, and one comes after a trigger
        decoding.generate(1)
        free.append(decoding.pool.n_free)
        last.watch = fail
        try:
            with pytest.raises(MemoryError, match="no room"):
                decoding.generate(1)
        finally:
            last.watch = None
        table = decoding.pool.table(decoding.request)
        assert max(table, default=-1) < decoding.csa_caches[0].n_entries
        assert decoding.tokens == want[: n * 2 + 2]
        decoding.generate(1)
    assert decoding.tokens == want[:16]
    assert len(set(free)) > 1
    assert len(decoding.cycles) == 2


def test_decoding_can_be_given_up_and_goes_on(decoder, indexers):
    prompt = draw_tokens(1, 40)[0]
    decoding = begin(decoder, indexers, prompt)
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        decoding.generate(10, stale=lambda: next(asked))
    assert len(decoding.tokens) == 2
    decoding.generate(8)
    assert decoding.tokens == begin(decoder, indexers, prompt).generate(10)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rule": "budget", "size": 9, "pool": 8}, "budget of 9 chunks is larger than the pool"),
        ({"rule": "pages", "size": 3, "pool": 8}, "budget of 12 chunks is larger"),
        ({"rule": "budget"}, "have a size"),
        ({"lag": 2}, "lag=2 must be 0 or 1"),
        ({"full_limit": 1.5}, "must lie in"),
        ({"capacity": 801}, r"capacity=801 must lie in \[1, 800\]"),
        ({"capacity": 0}, r"capacity=0 must lie in \[1, 800\]"),
    ],
)
def test_wrong_settings_are_refused(decoder, indexers, given, words):
    if "pool" in given:
        given = given | {"pool": make_pool(given["pool"])}
    with pytest.raises(ValueError, match=words):
        LookaheadDecoding(decoder, indexers, **{"capacity": 100} | given)


def test_a_decoder_of_other_layers_is_refused(indexers):
    with pytest.raises(ValueError, match="the decoder has the layers"):
        LookaheadDecoding(make_decoder(SMALL), indexers, capacity=100)


def test_a_pool_of_another_dtype_is_refused(decoder, indexers):
    pool = CellPool(CONFIG, 9, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"the pool holds torch.bfloat16 on cpu, the decoder"):
        LookaheadDecoding(decoder, indexers, capacity=60, pool=pool)


def test_a_model_in_half_precision_decodes(indexers):
    """Its Memory Indexer stays in float32."""
    decoder, prompt = make_decoder(CONFIG).bfloat16(), draw_tokens(1, 60)[0]
    pool = CellPool(CONFIG, 40, dtype=torch.bfloat16)
    moving = begin(decoder, indexers, prompt, pool=pool, capacity=90)
    assert moving.generate(12) == begin(decoder, indexers, prompt, capacity=90).generate(12)
    assert moving.cycles[0].logits.dtype == torch.float32
    assert moving.pool.cell_bytes == make_pool(1).cell_bytes // 2


def test_a_request_is_read_once_and_has_one_row(decoder, indexers):
    decoding = LookaheadDecoding(decoder, indexers, capacity=60, pool=make_pool(9))
    with pytest.raises(ValueError, match="call prefill first"):
        decoding.generate(1)
    decoding.prefill(draw_tokens(1, 20)[0])
    with pytest.raises(ValueError, match="20 tokens were read already"):
        decoding.prefill(draw_tokens(1, 20)[0])
    with pytest.raises(ValueError, match="one row"):
        decoding.csa_caches[0].reorder(torch.tensor([0]))
    with pytest.raises(ValueError, match="moves its entries"):
        decoding.csa_caches[0].confine(None)
    with pytest.raises(ValueError, match="not among memory_layers"):
        decoding.csa_caches[1].index_keys()


def test_a_prompt_shorter_than_a_chunk(decoder, indexers):
    prompt = draw_tokens(1, 2)[0]
    for pool in (None, make_pool(20)):
        got = begin(decoder, indexers, prompt, pool=pool).generate(12)
        assert got == generate(decoder, prompt[None], max_new_tokens=12)[0].tolist()
