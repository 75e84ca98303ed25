"""What the interpreted kernel fetches is what the model of its loops counts."""

from collections import Counter

import pytest

from intuitive.kernels import dispatch
from intuitive.msa import interpreted
from intuitive.msa.experiments.loop_orders import block_bytes, run
from intuitive.msa.interpreted import BLOCK, WALKED, D

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dispatch.TRITON_INSTALLED, reason="Triton is not installed"),
]


@pytest.fixture(scope="module")
def fetches():
    return interpreted.walk()


def test_each_tile_fetches_the_union_of_its_blocks_in_order(fetches):
    chosen, keys = interpreted.walked_selection(), {}
    for fetch in fetches:
        keys.setdefault((fetch.program, fetch.what), []).append(fetch.block)
    for program in range(2):
        rows = chosen[4 * program : 4 * program + 4]
        want = rows.any(0).nonzero()[0].tolist()
        assert keys[program, "keys"] == keys[program, "values"] == want


def test_the_kernel_moves_the_bytes_of_the_model(fetches):
    result = run(WALKED)
    want = int(result.traces["union_tile"].key_value_bytes[-1])
    smaller = block_bytes(result.config) / (2 * BLOCK * D * 2)  # the paper's blocks are larger
    assert sum(fetch.bytes for fetch in fetches) * smaller == want


def test_a_block_comes_once_for_its_tile_and_again_for_the_next(fetches):
    counts = Counter((fetch.program, fetch.what, fetch.block) for fetch in fetches)
    assert set(counts.values()) == {1}
    assert {p for p, what, block in counts if (what, block) == ("keys", 0)} == {0, 1}


def test_the_words_name_the_queries_that_chose_the_block():
    *lines, totals, size = interpreted.walk_in_words().splitlines()
    chosen = interpreted.walked_selection()
    for line in lines:
        block = int(line.split("block ")[1].split(",")[0])
        tile = int(line.split("program ")[1].split(":")[0])
        named = line.split("queries ")[1].split("  ")[0].split()
        readers = [q for q in range(4 * tile, 4 * tile + 4) if chosen[q, block]]
        assert [int(q) for q in named if len(q) < 3] == readers
    total = sum(chosen[4 * t : 4 * t + 4].any(0).sum() for t in range(2)) * 2 * BLOCK * D * 2
    assert f"{total:,} bytes so far" in lines[-1]
    block, pairs = 2 * BLOCK * D * 2, int(chosen.sum())
    assert f"tile by tile: {len(lines)} blocks, {total:,} bytes;" in totals
    assert totals.endswith(f"{pairs} blocks, {pairs * block:,} bytes")
    assert f"{BLOCK} tokens × {D} numbers × 2 bytes each = {block:,} bytes" in size
