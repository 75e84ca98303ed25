"""Counts, windows, pooling and the label mask."""

import pytest
import torch

from intuitive import lclm
from intuitive.lclm.reference import (
    concat_pool,
    group_spans,
    last_pool,
    pool_ragged,
    windows,
)


@pytest.mark.parametrize(("ratio", "window"), [(1, 1), (4, 8), (8, 8), (16, 64), (3, 9)])
def test_counts_equal_the_sum_over_windows_for_every_length(ratio, window):
    for n in range(201):
        passes = windows(n, window=window)
        total = sum(-(-(place.stop - place.start) // ratio) for place in passes)
        assert lclm.latent_count(n, ratio=ratio, window=window) == total
        assert len(group_spans(n, ratio=ratio, window=window)) == total


def test_a_ratio_that_does_not_divide_the_window_is_refused():
    with pytest.raises(ValueError, match="ratio=6 must divide window=32"):
        lclm.latent_count(100, ratio=6, window=32)
    # for good reason: over its windows the span would have more latents than by its own length
    passes = windows(64, window=32)
    assert sum(-(-(place.stop - place.start) // 6) for place in passes) > -(-64 // 6)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("bad", [-1, 2.5, True, None])
def test_a_count_takes_whole_numbers(bad):
    with pytest.raises(ValueError, match="n_tokens="):
        lclm.latent_count(bad, ratio=4, window=8)


def test_the_effective_ratio_counts_both_tags():
    assert lclm.effective_ratio(512, ratio=16) == 512 / 34
    assert lclm.effective_ratio(1, ratio=16) == 1 / 3  # a tiny span costs more than it saves
    with pytest.raises(ValueError, match="n_tokens=0"):
        lclm.effective_ratio(0, ratio=16)


def test_a_mean_is_divided_by_the_true_size_of_the_group():
    states = torch.arange(10.0).unflatten(0, (5, 2))
    pooled = lclm.mean_pool(states, 2)
    assert torch.equal(pooled, torch.tensor([[1.0, 2.0], [5.0, 6.0], [8.0, 9.0]]))
    rows = lclm.mean_pool(torch.stack((states, -states)), 2)
    assert torch.equal(rows, torch.stack((pooled, -pooled)))
    assert torch.equal(lclm.mean_pool(states, 1), states)
    assert torch.equal(lclm.mean_pool(states, 100), states.mean(0, keepdim=True))


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("bad", [0, -2, 1.5])
def test_a_ratio_is_a_whole_number_from_one(bad):
    with pytest.raises(ValueError, match="ratio="):
        lclm.mean_pool(torch.zeros(4, 2), bad)


def test_a_short_last_group_is_filled_with_zeros_when_concatenated():
    states = torch.arange(1.0, 11.0).unflatten(0, (5, 2))
    want = torch.tensor([[1.0, 2, 3, 4, 5, 6], [7, 8, 9, 10, 0, 0]])
    assert torch.equal(concat_pool(states, 3), want)


def test_the_last_state_of_each_group():
    states = torch.arange(7.0)[:, None]
    assert last_pool(states, 3)[:, 0].tolist() == [2.0, 5.0, 6.0]


@pytest.mark.parametrize("pooling", ["mean", "concat", "last"])
def test_padded_windows_pool_as_each_alone(pooling):
    pool = {"mean": lclm.mean_pool, "concat": concat_pool, "last": last_pool}[pooling]
    states = torch.randn(9, 9, 5, generator=torch.Generator().manual_seed(0))
    lengths = torch.arange(1, 10)
    for ratio in (1, 2, 4, 9, 20):
        together = pool_ragged(pooling, states, ratio, lengths)
        for row, n in enumerate(lengths.tolist()):
            alone = pool(states[row, :n], ratio)
            torch.testing.assert_close(together[row, : len(alone)], alone)


def test_windows_read_neighbours_on_the_left_only_if_causal():
    causal = windows(10, window=4, overlap=2)
    assert [(w.read_start, w.start, w.stop, w.read_stop) for w in causal] == [
        (0, 0, 4, 4),
        (2, 4, 8, 8),
        (6, 8, 10, 10),
    ]
    both = windows(10, window=4, overlap=3, causal=False)
    assert [(w.read_start, w.read_stop) for w in both] == [(0, 7), (1, 10), (5, 10)]


def test_the_raw_token_after_memory_end_is_trained_and_the_first_of_a_text_is_not():
    kinds = ["raw", "raw", "start", "latent", "latent", "end", "raw", "raw"]
    assert lclm.label_mask(kinds).tolist() == [False, True, *4 * [False], True, True]
    assert lclm.label_mask(["start", "latent", "end", "raw"]).tolist() == [*3 * [False], True]
    assert lclm.label_mask([]).tolist() == []
    with pytest.raises(ValueError, match="'tag'"):
        lclm.label_mask(["raw", "tag"])


def test_the_names_that_others_rely_on_stand_at_the_front_door():
    for name in ("latent_count", "effective_ratio", "mean_pool", "label_mask", "memory_gib"):
        assert callable(getattr(lclm, name))
    assert lclm.ttft_seconds(4096, ratio=16) < lclm.ttft_seconds(4096, ratio=1)
