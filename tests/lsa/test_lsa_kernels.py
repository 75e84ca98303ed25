"""The kernels compute what LSA's own functions do."""

import torch

from intuitive.common.runtime import seeded
from intuitive.kernels import score_chunks, select_chunks
from intuitive.lsa import selection


def test_scores_are_the_memory_indexers():
    q, weights, keys = (
        torch.randn(shape, generator=seeded(i))
        for i, shape in enumerate(((1, 16, 32), (1, 16), (1, 30, 32)))
    )
    want = selection.memory_logits(q[0], weights[0], keys[0])
    torch.testing.assert_close(score_chunks(q, weights, keys)[0], want)
    codes, scales = selection.quantise_keys(keys)
    found = selection.dequantise_keys(codes[0], scales[0])
    want = selection.memory_logits(q[0], weights[0], found)
    torch.testing.assert_close(score_chunks(q, weights, codes, scales)[0], want)


def test_selection_is_the_threshold_rule():
    logits = torch.randn(3, 500, generator=seeded(0)) - 1
    ids, count = select_chunks(logits, threshold=0.3)
    assert torch.equal(ids[:count].long(), selection.above(logits, 0.3).nonzero().flatten())
    assert 0 < count < 500
