"""LSA's kernels on a GPU, against float64 oracles and against plain torch."""

import chunk_checks
import pytest
import torch
from chunk_inputs import draw_logits, draw_reading, draw_scoring, stored_rows

from intuitive.kernels import (
    cell_attention,
    copy_cells,
    pack_cells,
    score_chunks,
    select_chunks,
    shared_memory,
)

pytestmark = pytest.mark.gpu

HALF, BRAIN = torch.float16, torch.bfloat16


@pytest.fixture(scope="module")
def done():
    """The checks that the benchmark makes before it times."""
    checks = chunk_checks.Checks(torch.device("cuda"), "auto", shapes=12, longest=5000)
    checks.everything()
    return checks.from_the_host()


def test_every_check_of_the_benchmark_passes(done):
    assert len(done) > 15
    assert [check for check in done if not check.ok] == []


def test_bfloat16_attention_is_as_exact_as_plain_torch():
    x = draw_reading(4, 64, 512, 900, 512, 128, seed=0, dtype=BRAIN, device="cuda")
    got = cell_attention(*x)
    q, cells, window, sinks = (y.double() for y in (x.q, x.cells, x.window, x.sinks))
    want = cell_attention(q, cells, x.slots, window, sinks)
    kv = torch.cat((x.cells[x.slots.long().clamp(min=0)], x.window), dim=1)
    hidden = torch.cat((x.slots < 0, x.slots.new_zeros(4, 128).bool()), dim=1)
    s = (x.q @ kv.mT * 512**-0.5).masked_fill(hidden[:, None], -torch.inf)
    s = torch.cat((s, x.sinks.to(BRAIN)[None, :, None].expand(4, -1, 1)), dim=-1)
    plain = s.softmax(-1)[..., :-1] @ kv
    assert chunk_checks.rms(got, want) <= chunk_checks.rms(plain, want)


def test_small_cards_and_cards_without_8_bit_numbers_get_the_same(monkeypatch):
    rows = draw_scoring(1, 128, 3000, 128, seed=1, stored="rows", dtype=BRAIN, device="cuda")
    read = draw_reading(2, 64, 512, 900, 400, 128, seed=1, dtype=BRAIN, device="cuda")
    packed = pack_cells(read.cells)

    def results():
        return (
            score_chunks(*rows),
            score_chunks(*rows, round_q=True),
            cell_attention(read.q, packed, *read[2:]),
        )

    want = results()
    old = shared_memory.card()._replace(arch=80, shared=96 * 1024)
    monkeypatch.setattr(shared_memory, "_ask", lambda device: old)
    for got, expected, bound in zip(results(), want, (2e-5, 1e-3, 5e-3), strict=True):
        assert chunk_checks.rms(got, expected) < bound


def test_selection_of_a_million_tokens_is_the_same_on_every_run():
    logits = draw_logits(3, 262_144, seed=0, device="cuda")
    first, count = select_chunks(logits, threshold=0.5, forced_from=260_000)
    want, n = select_chunks(logits, threshold=0.5, forced_from=260_000, impl="reference")
    assert torch.equal(first, want) and torch.equal(count, n)
    for _ in range(5):
        again, _ = select_chunks(logits, threshold=0.5, forced_from=260_000)
        assert torch.equal(again, first)


def test_nothing_waits_for_the_device():
    """A step of all four operations is captured, so none of them looks at a value."""
    rows = draw_scoring(1, 64, 4000, 128, seed=2, stored="rows", dtype=BRAIN, device="cuda")
    read = draw_reading(1, 64, 512, 4000, 16, 128, seed=2, dtype=BRAIN, device="cuda")
    source = pack_cells(read.cells).cpu().pin_memory()
    pool = torch.zeros(4000, 584, dtype=torch.uint8, device="cuda")

    def step():
        logits = score_chunks(*rows)
        ids, count = select_chunks(logits, threshold=0.9, forced_from=3900)
        copy_cells(source, pool, ids.long(), ids.long())
        return cell_attention(read.q, pool, ids[None], read.window, read.sinks), ids, count

    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, ids, count = step()
    pool.zero_()
    graph.replay()
    torch.cuda.synchronize()
    chosen = ids[: int(count)].long().cpu()
    assert 100 <= len(chosen) < 4000
    assert torch.equal(pool.cpu()[chosen], source[chosen])
    packed = source.cuda()
    want = cell_attention(
        read.q.double(), packed, ids[None], read.window.double(), read.sinks.double()
    )
    assert chunk_checks.rms(out, want) < 5e-3


def test_pageable_memory_is_gathered_by_the_oracle():
    source = torch.arange(40, dtype=torch.uint8).view(10, 4)
    target = torch.zeros(6, 4, dtype=torch.uint8, device="cuda")
    rows, cells = torch.tensor([9, 1], device="cuda"), torch.tensor([0, 5], device="cuda")
    copy_cells(source, target, rows, cells)
    assert torch.equal(target.cpu()[[0, 5]], source[[9, 1]])
    with pytest.raises(ValueError, match=r"not pinned: use source.pin_memory\(\)"):
        copy_cells(source, target, rows, cells, impl="triton")


def test_compile_takes_every_operation_in_one_graph():
    rows = draw_scoring(1, 64, 500, 128, seed=3, stored="rows", dtype=BRAIN, device="cuda")
    read = draw_reading(1, 64, 512, 500, 16, 128, seed=3, dtype=BRAIN, device="cuda")

    def step(pool):
        ids, count = select_chunks(score_chunks(*rows), threshold=0.5, forced_from=480)
        copy_cells(read.cells, pool, ids.long(), ids.long())
        return cell_attention(read.q, pool, ids[None], read.window, read.sinks), count

    want, n = step(torch.zeros_like(read.cells))
    got, count = torch.compile(step, fullgraph=True)(torch.zeros_like(read.cells))
    torch.testing.assert_close(got, want)
    assert torch.equal(count, n)


def needs_memory(gib):
    free = torch.cuda.mem_get_info()[0] / 2**30 if torch.cuda.is_available() else 0
    return pytest.mark.skipif(free < gib, reason=f"needs {gib} GiB of free GPU memory")


@needs_memory(12)
def test_addresses_beyond_32_bits():
    chunks = 2**31 // 132 + 5000  # rows of more than 2^31 bytes
    x = draw_scoring(1, 64, 5000, 128, seed=4, stored="fp8", dtype=BRAIN, device="cuda")
    rows = torch.zeros(chunks, 132, dtype=torch.uint8, device="cuda")
    rows[-5000:] = stored_rows(x.keys, x.scales)[0]
    got = score_chunks(x.q, x.weights, rows)
    want = score_chunks(x.q.double(), x.weights.double(), x.keys, x.scales, impl="reference")
    assert (got[0, :-5000] == 0).all()
    assert chunk_checks.greatest(got[:, -5000:], want) < 2e-5
    del rows
    n = 2**31 // 584 + 100
    pool = torch.zeros(n, 584, dtype=torch.uint8, device="cuda")
    read = draw_reading(1, 64, 512, 64, 64, 5, seed=5, empty=0.0, dtype=HALF, device="cuda")
    packed, places = pack_cells(read.cells), torch.arange(64, device="cuda")
    copy_cells(packed, pool, places, places + n - 64)
    assert torch.equal(pool[-64:], packed)
    far = cell_attention(read.q, pool, read.slots + n - 64, read.window)
    assert torch.equal(far, cell_attention(read.q, packed, read.slots, read.window))
