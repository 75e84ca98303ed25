"""Cases of LSA's kernels for `test_interpreter.py`, which starts them with TRITON_INTERPRET=1."""

import pytest
import torch
from chunk_inputs import draw_logits, draw_reading, draw_scoring
from torch.library import opcheck

from intuitive.kernels import (
    cell_attention,
    copy_cells,
    pack_cells,
    score_chunks,
    select_chunks,
    shared_memory,
    tuning,
)

HALF, FLOAT, BRAIN = torch.float16, torch.float32, torch.bfloat16
OLD = shared_memory.Card(80, 163 * 1024)
# Relative to the greatest logit: roundings of a float32 sum, or of the queries to float16.
SCORE_ERROR = {"plain": 2e-6, "fp8": 1e-3, "rows": 1e-3}


def both(operation, *args, **kwargs):
    """Results of the oracle and of the kernel."""
    return [operation(*args, impl=impl, **kwargs) for impl in ("reference", "triton")]


def relative(got, want):
    """Greatest difference, relative to the greatest value wanted."""
    return ((got.double() - want.double()).abs().max() / want.abs().max()).item()


@pytest.mark.parametrize("card", [shared_memory.H100, OLD], ids=["sm_90", "sm_80"])
@pytest.mark.parametrize("stored", ["plain", "fp8", "rows"])
@pytest.mark.parametrize(
    ("dtype", "b", "heads", "chunks", "d"),
    [
        (FLOAT, 1, 128, 70, 128),  # the Memory Indexer's heads, a ragged last tile
        (HALF, 2, 64, 130, 128),
        (HALF, 1, 5, 1, 32),  # padded heads, one chunk
        (FLOAT, 3, 16, 65, 16),
    ],
)
def test_logits(monkeypatch, card, stored, dtype, b, heads, chunks, d):
    monkeypatch.setattr(shared_memory, "H100", card)
    x = draw_scoring(b, heads, chunks, d, seed=0, stored=stored, dtype=dtype)
    want, got = both(score_chunks, *x)
    assert got.shape == (b, chunks) and got.dtype == FLOAT
    assert relative(got, want) < SCORE_ERROR[stored]


@pytest.mark.parametrize("card", [shared_memory.H100, OLD], ids=["sm_90", "sm_80"])
def test_rounded_queries(monkeypatch, card):
    """Queries that are e4m3 values already: the interpreter itself rounds some numbers wrongly."""
    monkeypatch.setattr(shared_memory, "H100", card)
    x = draw_scoring(1, 12, 100, 64, seed=1, stored="rows")
    exact = x.q.clamp(-400, 400).to(torch.float8_e4m3fn).float() * 2.0**-5
    want, got = both(score_chunks, exact, *x[1:], round_q=True)
    assert relative(got, want) < 2e-6
    plain = score_chunks(exact, *x[1:], impl="reference")
    assert torch.allclose(want, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())


def test_one_store_serves_the_whole_batch_and_prefixes_of_it():
    x = draw_scoring(2, 8, 90, 32, seed=2, stored="rows", dtype=HALF)
    want, got = both(score_chunks, x.q, x.weights, x.keys[0, :77])
    assert relative(got, want) < SCORE_ERROR["rows"]
    cut = score_chunks(x.q, x.weights, x.keys[:, :77], impl="triton")
    assert torch.equal(cut[0], got[0])
    apart = x.keys.new_zeros(2, 90, 40)  # rows farther apart than they are long
    apart[..., :36] = x.keys
    assert torch.equal(score_chunks(x.q, x.weights, apart[..., :36][:, :77], impl="triton"), cut)


@pytest.mark.parametrize("stored", ["plain", "fp8", "rows"])
@pytest.mark.parametrize("begins", [0, 4, 40])  # bytes into a cell
def test_keys_are_scored_where_they_lie(stored, begins):
    """In cells that hold more than a key, in any order; an empty slot scores -inf."""
    x = draw_scoring(2, 8, 90, 32, seed=2, stored=stored, dtype=HALF)
    keys, scales = x.keys[0], None if x.scales is None else x.scales[:1].expand(2, -1)
    cells = torch.zeros(90, 176, dtype=torch.uint8)
    width = keys.shape[1] * keys.element_size()
    inside = cells[:, begins : begins + width]
    inside.copy_(keys.contiguous().view(torch.uint8))
    inside = inside.view(keys.dtype)
    if stored == "fp8":
        inside = inside.expand(2, -1, -1)
    slots = torch.randint(-1, 90, (2, 70), generator=torch.Generator().manual_seed(0)).int()
    slots[:, 3], slots[1, 5] = -1, 89
    results = both(score_chunks, x.q, x.weights, inside, scales, slots=slots, gather=True)
    every = score_chunks(x.q, x.weights, keys.expand(2, -1, -1), scales, impl="reference")
    want = every.gather(1, slots.clamp(min=0).long()).masked_fill(slots < 0, -torch.inf)
    there = slots >= 0
    for got in results:
        assert torch.equal(got == -torch.inf, ~there)
        assert relative(got[there], want[there]) < SCORE_ERROR[stored]
    marks = torch.where(torch.arange(90) % 3 == 0, -1, 7).int().expand(2, -1)
    want = every.masked_fill(marks < 0, -torch.inf)
    for got in both(score_chunks, x.q, x.weights, keys.expand(2, -1, -1), scales, slots=marks):
        assert torch.equal(got == -torch.inf, marks < 0)
        assert relative(got[marks >= 0], want[marks >= 0]) < SCORE_ERROR[stored]
    far = torch.tensor([[90, 2**30, -7]]).int().expand(2, -1)
    for got in both(
        score_chunks, x.q, x.weights, inside, scales, slots=far, gather=True, validate=False
    ):
        assert (got == -torch.inf).all()


def test_a_head_of_zeros_and_dead_heads_give_zero():
    x = draw_scoring(1, 4, 40, 32, seed=3, stored="fp8")
    q = torch.zeros_like(x.q)
    assert (score_chunks(q, *x[1:], impl="triton") == 0).all()
    q[:, 1] = x.q[:, 1]
    alone = score_chunks(q[:, 1:2], x.weights[:, 1:2], *x[2:], impl="triton")
    torch.testing.assert_close(score_chunks(q, *x[1:], impl="triton"), alone)


def test_several_tiles_of_chunks_per_program():
    x = draw_scoring(1, 16, 300, 32, seed=4, stored="rows", dtype=HALF)
    want = score_chunks(*x, impl="triton")
    few = tuning.ScoreTile(chunks=32, num_warps=4, num_stages=2, programs=3)
    with tuning.force(score_chunks=few):
        got = score_chunks(*x, impl="triton")
    assert relative(got, want) < 1e-6
    assert tuning.forced("score_chunks") is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.999])
@pytest.mark.parametrize("chunks", [1, 1000, 1024, 5000])
@pytest.mark.parametrize("layers", [1, 3])
def test_selection(layers, chunks, share):
    logits = draw_logits(layers, chunks, seed=chunks, share=share)
    for threshold, forced_from in ((0.5, None), (0.9, 0), (0.2, chunks - 1), (0.5, 10 * chunks)):
        (want, n), (got, count) = both(
            select_chunks, logits, threshold=threshold, forced_from=forced_from
        )
        assert torch.equal(got, want) and torch.equal(count, n)
        assert got.dtype == count.dtype == torch.int32


def test_selection_over_more_tiles_than_are_counted_at_a_time(monkeypatch):
    from intuitive.kernels import select_chunks as operation  # the function; its module is below

    kernel = __import__("sys").modules[operation.__module__ + ".triton_kernel"]
    monkeypatch.setattr(kernel, "TILE", 16)
    monkeypatch.setattr(kernel, "COUNTS", 16)
    logits = draw_logits(2, 1003, seed=0, share=0.3)
    (want, n), (got, count) = both(select_chunks, logits, threshold=0.5, forced_from=990)
    assert torch.equal(got, want) and torch.equal(count, n)


def test_nan_is_no_vote_and_equal_is_not_above():
    nan = float("nan")
    logits = torch.tensor([[nan, nan, 0.0, -0.0, 1e-30], [1.0, -1.0, -1.0, 0.0, -1.0]])
    for impl in ("reference", "triton"):
        ids, count = select_chunks(logits, threshold=0.5, impl=impl, validate=False)
        assert ids.tolist() == [0, 4, -1, -1, -1] and count == 2


READINGS = [
    # dtype, b, h, d, n_cells, k, w
    (FLOAT, 1, 3, 64, 40, 20, 7),
    (HALF, 2, 18, 64, 100, 70, 33),  # two groups of heads, ragged tiles
    (HALF, 1, 4, 512, 50, 40, 8),
    (FLOAT, 1, 1, 16, 1, 1, 1),
]


@pytest.mark.parametrize(("dtype", "b", "h", "d", "n_cells", "k", "w"), READINGS)
@pytest.mark.parametrize("programs", [528, 1])
def test_attention(dtype, b, h, d, n_cells, k, w, programs):
    x = draw_reading(b, h, d, n_cells, k, w, seed=0, dtype=dtype)
    tile = tuning.CellTile(heads=16, keys=16, num_warps=4, num_stages=2, programs=programs)
    close = {"atol": 2e-6, "rtol": 2e-6} if dtype == FLOAT else {"atol": 2e-3, "rtol": 2e-3}
    with tuning.force(cell_attention=tile):
        for window in (x.window, None):
            for sinks in (x.sinks, None):
                want, got = both(cell_attention, x.q, x.cells, x.slots, window, sinks, 0.1)
                assert got.dtype == dtype
                torch.testing.assert_close(got, want, **close)


@pytest.mark.parametrize("card", [shared_memory.H100, OLD], ids=["sm_90", "sm_80"])
def test_attention_over_packed_cells(monkeypatch, card):
    monkeypatch.setattr(shared_memory, "H100", card)
    x = draw_reading(2, 5, 512, 60, 50, 20, seed=0, dtype=HALF)
    packed = pack_cells(x.cells)
    for window in (x.window, None):
        want, got = both(cell_attention, x.q, packed, x.slots, window, x.sinks)
        torch.testing.assert_close(got, want, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(("begins", "apart"), [(8, 1184), (584, 1168), (3, 592), (0, 590)])
def test_packed_cells_are_read_where_they_lie(begins, apart):
    """Inside larger cells; where bytes are not aligned, from a copy."""
    x = draw_reading(2, 5, 512, 60, 50, 20, seed=1, dtype=HALF)
    packed = pack_cells(x.cells)
    pool = torch.full((60, apart), 255, dtype=torch.uint8)
    inside = pool[:, begins : begins + 584]
    inside.copy_(packed)
    want = cell_attention(x.q, packed, *x[2:], impl="triton")
    assert torch.equal(cell_attention(x.q, inside, *x[2:], impl="triton"), want)


def test_nothing_to_read_and_cells_that_do_not_exist():
    x = draw_reading(2, 4, 64, 30, 20, 5, seed=0)
    slots = x.slots.clone()
    slots[0] = -1
    for sinks in (None, x.sinks):
        out = cell_attention(x.q, x.cells, slots, None, sinks, impl="triton")
        assert (out[0] == 0).all() and out.isfinite().all()
    slots[0, :3] = torch.tensor([30, 2**30, -7])
    out = cell_attention(x.q, x.cells, slots, impl="triton", validate=False)
    assert (out[0] == 0).all()


def test_strided_windows_are_read_in_place():
    x = draw_reading(2, 4, 64, 30, 20, 9, seed=0)
    ring = torch.full((16, 2, 64), float("nan"))
    ring[:9] = x.window.transpose(0, 1)
    want = cell_attention(*x, impl="triton")
    got = cell_attention(*x[:3], ring[:9].transpose(0, 1), x.sinks, impl="triton")
    assert torch.equal(got, want)


@pytest.mark.parametrize("width", [584, 132, 6, 7, 16])
@pytest.mark.parametrize("m", [1, 50])
def test_copies(width, m):
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(256, (70, width), generator=generator).to(torch.uint8)
    rows = torch.randint(-1, 70, (m,), generator=generator)
    cells = torch.randperm(90, generator=generator)[:m]
    cells = torch.where(torch.rand(m, generator=generator) < 0.1, -1, cells)
    want, got = (torch.full((90, width), 9, dtype=torch.uint8) for _ in range(2))
    copy_cells(source, want, rows, cells, impl="reference")
    copy_cells(source, got, rows, cells, impl="triton")
    assert torch.equal(got, want)
    assert m == 1 or not torch.equal(want, torch.full_like(want, 9))


def test_copies_of_floats_by_one_program_and_of_places_that_do_not_exist():
    source, target = torch.randn(20, 12), torch.zeros(9, 12)
    rows, cells = torch.tensor([3, 25, 5, -1, 7]), torch.tensor([8, 0, 9, 1, 2])
    with tuning.force(copy_cells=tuning.CopyTile(words=16, num_warps=1, programs=2)):
        copy_cells(source, target, rows, cells, impl="triton", validate=False)
    assert torch.equal(target[8], source[3]) and torch.equal(target[2], source[7])
    assert (target[[0, 1, 3, 4, 5, 6, 7]] == 0).all()
    copy_cells(source, target, rows[:0], cells[:0], impl="triton")


def test_bfloat16_products_are_refused_here():
    x = draw_scoring(1, 4, 20, 32, seed=0, dtype=BRAIN)
    with pytest.raises(ValueError, match=r"wrong products.*Pass impl='reference'"):
        score_chunks(*x, impl="triton")
    y = draw_reading(1, 4, 64, 20, 8, 4, seed=0, dtype=BRAIN)
    with pytest.raises(ValueError, match=r"wrong products.*Pass impl='reference'"):
        cell_attention(*y, impl="triton")


def test_operators_are_registered_soundly():
    cheap = {"test_utils": ("test_schema", "test_autograd_registration", "test_faketensor")}
    ops = torch.ops.intuitive
    x = draw_scoring(1, 4, 20, 32, seed=0)  # opcheck cannot compute with float8
    score_chunks(*x, impl="triton")
    opcheck(ops.score_chunks, (*x, None, False, False), **cheap)
    slots = torch.zeros(1, 7, dtype=torch.int32)
    opcheck(ops.score_chunks, (*x, slots, True, False), **cheap)
    logits = draw_logits(2, 30, seed=0)
    select_chunks(logits, threshold=0.5, impl="triton")
    opcheck(ops.select_chunks, (logits, 0.0, 28), **cheap)
    y = draw_reading(1, 4, 64, 20, 8, 4, seed=0)
    cell_attention(*y, impl="triton")
    opcheck(ops.cell_attention, (*y, 0.1), **cheap)
    places = torch.arange(3)
    copy_cells(torch.ones(5, 8), torch.zeros(5, 8), places, places, impl="triton")
    opcheck(ops.copy_cells, (torch.ones(5, 8), torch.zeros(5, 8), places, places), **cheap)


def test_compile_takes_every_operation_in_one_graph():
    x = draw_scoring(1, 4, 40, 64, seed=0)
    y = draw_reading(1, 4, 64, 40, 8, 4, seed=0)

    def step(target):
        logits = score_chunks(*x, impl="triton")
        ids, count = select_chunks(logits, threshold=0.5, forced_from=36, impl="triton")
        copy_cells(y.cells, target, ids.long(), ids.long(), impl="triton")
        out = cell_attention(y.q, target, ids[None], y.window, y.sinks, impl="triton")
        return out, count

    want_target, got_target = torch.zeros(2, 40, 64)
    want, n = step(want_target)
    got, count = torch.compile(step, backend="aot_eager", fullgraph=True)(got_target)
    assert torch.equal(got, want) and n == count > 4
    assert torch.equal(got_target, want_target) and (want_target != 0).any()
