"""The three kinds of training data keep the paper's rules at every length."""

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.lclm.documents import (
    LEAST,
    LONG,
    LONG_RAW,
    compressed_prompt,
    interleaved,
    reconstruction,
    regions,
    segment_lengths,
)
from intuitive.lclm.splice import Raw, Span

PAIRS = [(256, 1, 1), (2047, 1, 1), (2048, 1, 2), (4096, 1, 2), (4097, 2, 4), (8192, 2, 4)]
PAIRS += [(8193, 4, 6), (16384, 4, 6), (16385, 4, 8), (50_000, 4, 8)]


@pytest.mark.parametrize(("n", "fewest", "most"), PAIRS)
def test_segments_keep_the_rules(n, fewest, most):
    generator, counts = seeded(0), set()
    for _ in range(60):
        pairs = segment_lengths(n, generator)
        counts.add(len(pairs))
        wrapped, raw = [a for a, _ in pairs], [b for _, b in pairs]
        assert sum(raw) == (LONG_RAW if n > LONG else n // 2)
        assert sum(wrapped) + sum(raw) == n
        assert min(wrapped + raw) >= LEAST
        if len(pairs) > 1 and min(wrapped + raw) > LEAST:
            assert 0.29 < wrapped[0] / sum(wrapped) < 0.41
            assert 0.39 < raw[-1] / sum(raw) < 0.51
        if len(pairs) > 2 and min(wrapped) > LEAST:
            even = (sum(wrapped) - wrapped[0]) / (len(pairs) - 1)
            assert all(0.65 * even < x < 1.5 * even for x in wrapped[1:])
    assert counts == set(range(fewest, most + 1))


@pytest.mark.parametrize("n", [300, 3000, 9000])
def test_interleaved_is_the_document_in_order(n):
    tokens = torch.arange(n)
    pieces = interleaved(tokens, seeded(1))
    assert [type(piece) for piece in pieces] == [Span, Raw] * (len(pieces) // 2)
    assert torch.equal(torch.cat([piece.tokens for piece in pieces]), tokens)
    assert all(piece.trained is True for piece in pieces if isinstance(piece, Raw))


def test_a_short_document_is_refused():
    with pytest.raises(ValueError, match=r"n_tokens=255 .*128 tokens; join documents"):
        interleaved(torch.arange(255), seeded(0))


def test_regions_keep_the_rules():
    generator = seeded(2)
    assert {regions(31, generator) for _ in range(50)} == {((0, 31),)}
    for n, most in ((32, 1), (200, 1), (201, 2), (600, 2), (601, 3), (5000, 3)):
        drawn = [regions(n, generator) for _ in range(200)]
        whole = sum(one == ((0, n),) for one in drawn)
        assert 70 < whole < 145  # half, and those that happen to cover everything
        assert {len(one) for one in drawn} == set(range(1, most + 1))
        for one in drawn:
            flat = [edge for region in one for edge in region]
            assert flat == sorted(flat)
            assert flat[0] >= 0
            assert flat[-1] <= n
            assert sum(b - a for a, b in one) >= 0.7 * n


@pytest.mark.parametrize("n", [1, 31, 90, 1000])
def test_only_the_reply_is_trained(n):
    generator = seeded(3)
    prompt, asked, reply = torch.arange(n), torch.tensor([7, 8]), torch.tensor([5, 6, 9])
    for _ in range(20):
        *given, last = compressed_prompt(prompt, reply, generator, instruction=asked)
        assert torch.equal(last.tokens, reply)
        assert last.trained is True
        assert torch.equal(given[-1].tokens, asked)
        assert torch.equal(torch.cat([piece.tokens for piece in given[:-1]]), prompt)
        assert all(piece.trained is False for piece in given if isinstance(piece, Raw))


def test_an_empty_reply_is_refused():
    with pytest.raises(ValueError, match="a reply of 0: both need at least one"):
        compressed_prompt(torch.arange(5), [], seeded(0))


def test_reconstruction_trains_the_text_again():
    span, request, again = reconstruction([3, 1, 2], [9])
    assert isinstance(span, Span)
    assert torch.equal(span.tokens, again.tokens)
    assert request.trained is False
    assert again.trained is True
