"""The label factory against a plain loop, its stages, ties, missing chunks and causality."""

import math

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.lsa import LSAConfig, golden_chunks, labels, window_labels


def draw_logits(steps, layers, chunks, *, seed=0, growing=True, levels=None):
    """Random logits, chunks missing at first; few levels make many ties."""
    logits = 3 * torch.randn(steps, layers, chunks, generator=seeded(seed))
    if levels is not None:
        logits = (logits * levels).round() / levels
    if growing:
        closed = torch.arange(steps) * chunks // steps
        logits = logits.masked_fill((torch.arange(chunks) >= closed[:, None])[:, None], -math.inf)
    return logits


def golden_by_hand(logits, top_k, top_p, votes):
    steps, layers, chunks = logits.shape
    counted = [[0] * chunks for _ in range(steps)]
    for t in range(steps):
        for layer in range(layers):
            row = logits[t, layer].tolist()
            there = [s for s in range(chunks) if row[s] > -math.inf]
            best = sorted(there, key=lambda s: (-row[s], s))[:top_k]
            weights = [math.exp(row[s] - row[best[0]]) for s in best]
            mass = 0.0
            for s, weight in zip(best, weights, strict=True):
                counted[t][s] += 1
                mass += weight / sum(weights)
                if mass >= top_p - 1e-9:
                    break
    return torch.tensor([[count >= votes for count in row] for row in counted])


@pytest.mark.parametrize("levels", [None, 1], ids=["distinct", "ties"])
@pytest.mark.parametrize("top_k", [1, 5, 100])
@pytest.mark.parametrize("top_p", [0.1, 0.6, 1.0])
def test_golden_chunks_by_hand(levels, top_k, top_p):
    logits = draw_logits(37, 5, 40, levels=levels)
    for votes in (1, 3):
        got = golden_chunks(logits, top_k=top_k, top_p=top_p, votes=votes)
        assert torch.equal(got, golden_by_hand(logits, top_k, top_p, votes))
        assert votes > 1 or got.any()


def one_step(*rows):
    return torch.tensor(rows)[None]


def chunks_of(golden):
    return golden[0].nonzero().flatten().tolist()


def test_the_crossing_element_is_included():
    logits = one_step([math.log(0.5), math.log(0.3), math.log(0.2)])
    for top_p, want in ((0.4, [0]), (0.6, [0, 1]), (0.79, [0, 1]), (0.81, [0, 1, 2])):
        assert chunks_of(golden_chunks(logits, top_k=3, top_p=top_p, votes=1)) == want


def test_a_sum_that_meets_top_p_exactly_has_reached_it():
    equal = torch.zeros(1, 1, 10)
    assert chunks_of(golden_chunks(equal, top_k=10, top_p=0.6, votes=1)) == [0, 1, 2, 3, 4, 5]


def test_ties_go_to_the_lower_chunk():
    equal = torch.zeros(1, 1, 300)
    assert chunks_of(golden_chunks(equal, top_k=4, top_p=1.0, votes=1)) == [0, 1, 2, 3]


def test_softmax_is_taken_over_the_best_only():
    """All 100 others together outweigh the first; among the best two it holds 73 %."""
    logits = one_step([1.0, *[0.0] * 100])
    assert chunks_of(golden_chunks(logits, top_k=2, top_p=0.6, votes=1)) == [0]
    assert len(chunks_of(golden_chunks(logits, top_k=101, top_p=0.6, votes=1))) > 50


def test_chunks_that_do_not_exist_are_never_golden():
    logits = one_step([-math.inf, 1.0, -math.inf], [-math.inf] * 3)
    assert chunks_of(golden_chunks(logits, top_k=3, top_p=1.0, votes=1)) == [1]
    assert chunks_of(golden_chunks(logits, top_k=3, top_p=1.0, votes=2)) == []


def test_votes_are_counted_over_layers():
    logits = one_step([5.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 5.0, 0.0])
    for votes, want in ((1, [0, 1]), (2, [0]), (3, [])):
        assert chunks_of(golden_chunks(logits, top_k=3, top_p=0.6, votes=votes)) == want


def test_half_precision_logits_are_taken():
    logits = draw_logits(5, 3, 20).bfloat16()
    got = golden_chunks(logits, top_k=8, top_p=0.6, votes=2)
    assert torch.equal(got, golden_by_hand(logits.double(), 8, 0.6, 2))


def windows_by_hand(golden, closed, lookahead, stride):
    rows = []
    for t in range(0, len(golden), stride):
        union = golden[t : t + lookahead].any(0)
        union[int(closed[t]) :] = False
        rows.append(union)
    return torch.stack(rows)


@pytest.mark.parametrize("lookahead", [1, 4, 7, 100])
@pytest.mark.parametrize("stride", [None, 1, 3])
def test_window_labels_by_hand(lookahead, stride):
    golden = torch.rand(23, 30, generator=seeded(1)) < 0.1
    closed = 10 + torch.arange(23) // 4
    got = window_labels(golden, closed, lookahead=lookahead, stride=stride)
    assert torch.equal(got, windows_by_hand(golden, closed, lookahead, stride or lookahead))
    assert got.any()


def test_labels_are_causal():
    """A chunk written inside the window is no label, though a later step of it needs the chunk."""
    golden = torch.zeros(8, 3, dtype=torch.bool)
    golden[2, 1] = golden[5, 1] = True
    closed = torch.tensor([1, 1, 2, 2, 2, 2, 2, 2])
    assert window_labels(golden, closed, lookahead=4).tolist() == [
        [False, False, False],
        [False, True, False],
    ]


def test_the_last_window_may_be_short():
    golden = torch.ones(5, 2, dtype=torch.bool)
    got = window_labels(golden, torch.full((5,), 2), lookahead=4)
    assert got.shape == (2, 2)
    assert got.all()


def test_every_stage_can_be_looked_at():
    config = LSAConfig(label_top_k=8, label_votes=2, lookahead=8)
    logits = draw_logits(20, 4, 30, growing=False)
    closed = torch.full((20,), 30)
    made = labels.make_labels(logits, closed, config)
    torch.testing.assert_close(made.probabilities.sum(-1), torch.ones(20, 4))
    assert ((made.probabilities > 0).sum(-1) == 8).all()
    assert (made.nucleus <= (made.probabilities > 0)).all()
    assert torch.equal(made.votes, made.nucleus.sum(1))
    golden = golden_chunks(logits, top_k=8, top_p=0.6, votes=2)
    assert torch.equal(made.golden, golden)
    assert torch.equal(made.windows, window_labels(golden, closed, lookahead=8))
    assert (made.windows <= made.naive).all()
    assert made.windows.sum() < made.naive.sum()


def test_positives_that_are_always_needed_weigh_half():
    golden = torch.tensor([[True, True, False]] * 4 + [[True, False, True]])
    assert labels.positive_weights(golden).tolist() == [0.5, 1.0, 1.0]  # 100 %, 80 %, 20 %


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top_k": 0}, "top_k=0 must be at least 1"),
        ({"top_p": 0.0}, "top_p=0.0 must lie in"),
        ({"top_p": 1.5}, "top_p=1.5 must lie in"),
        ({"votes": 0}, r"votes=0 must lie in \[1, 2\]"),
        ({"votes": 3}, r"votes=3 must lie in \[1, 2\]"),
        ({"logits": torch.full((1, 2, 3), math.nan)}, "NaN"),
        ({"logits": torch.full((1, 2, 3), math.inf)}, "NaN or [+]inf"),
    ],
)
def test_wrong_input_is_refused(changes, words):
    given = {"logits": torch.zeros(1, 2, 3), "top_k": 2, "top_p": 0.5, "votes": 1} | changes
    with pytest.raises(ValueError, match=words):
        golden_chunks(given.pop("logits"), **given)


@pytest.mark.parametrize(
    ("closed", "lookahead", "words"),
    [
        ([0, 1], 1, "closed has shape"),
        ([0, 1, 9], 1, r"must lie in \[0, 4\]"),
        ([0, 1, 2], 0, "lookahead=0 must be at least 1"),
    ],
)
def test_wrong_windows_are_refused(closed, lookahead, words, as_installed):
    with pytest.raises(ValueError, match=words):
        window_labels(
            torch.zeros(3, 4, dtype=torch.bool), torch.tensor(closed), lookahead=lookahead
        )
