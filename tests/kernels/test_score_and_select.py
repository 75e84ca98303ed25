"""Scoring and selecting in chunks changes nothing but memory."""

import pytest
import torch
from kernel_inputs import draw_index

from intuitive.kernels import block_scores, limits, score_and_select, select_blocks


@pytest.mark.parametrize("bytes_at_a_time", [1, 1000, 2**28], ids="bytes={}".format)
@pytest.mark.parametrize(("n", "m"), [(1, 30), (17, 17), (13, 40)])
def test_equals_the_two_steps(monkeypatch, n, m, bytes_at_a_time):
    monkeypatch.setattr(limits, "SCORE_BYTES", bytes_at_a_time)
    q_idx, k_idx = draw_index(2, n, m, 3, 8, seed=0)
    rule = {"n_selected": 4, "block_size": 5, "n_local": 1, "n_init": 1}
    want = select_blocks(block_scores(q_idx, k_idx, block_size=5), **rule)
    assert torch.equal(score_and_select(q_idx, k_idx, **rule), want)


def test_the_local_block_is_the_querys_own():
    q_idx, k_idx = draw_index(1, 40, 40, 2, 8, seed=0)
    got = score_and_select(q_idx, k_idx, n_selected=3, block_size=4)
    own = torch.arange(40)[:, None] // 4
    assert torch.equal(got.amax(-1)[0], own.expand(-1, 2).int())


def test_short_contexts_select_every_visible_block():
    q_idx, k_idx = draw_index(1, 12, 12, 1, 8, seed=0)
    got = score_and_select(q_idx, k_idx, n_selected=4, block_size=4)[0, :, 0].tolist()
    assert got == [[0, -1, -1, -1]] * 4 + [[0, 1, -1, -1]] * 4 + [[0, 1, 2, -1]] * 4


@pytest.mark.parametrize(
    ("n", "bytes_per_query", "want"),
    [
        (10, 40, [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]),
        (5, 40, [(0, 2), (2, 4), (4, 5)]),
        (3, 1000, [(0, 1), (1, 2), (2, 3)]),  # one query always fits
        (3, 1, [(0, 3)]),
    ],
)
def test_chunks_cover_the_queries_within_the_budget(monkeypatch, n, bytes_per_query, want):
    monkeypatch.setattr(limits, "SCORE_BYTES", 99)
    assert list(limits.query_chunks(n, bytes_per_query)) == want
