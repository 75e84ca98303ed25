"""The three kinds of training data keep the paper's rules at every length and seed."""

import inspect

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from latent_models import VOCABULARY, model_of, text

from intuitive.common.runtime import seeded
from intuitive.lclm import latent_count
from intuitive.lclm.documents import (
    REQUESTS,
    Mixture,
    compressed_prompt,
    interleaved,
    message,
    reconstruction,
    regions,
    request,
    segment_lengths,
    trained_tokens,
)
from intuitive.lclm.splice import NOT_TRAINED, Latents, Raw, Span

SEEDS = st.integers(0, 2**32)
# Every rule's limits, and whatever hypothesis finds between and beyond them.
EDGES = (256, 257, 2047, 2048, 4096, 4097, 8192, 8193, 16_384, 16_385)
PAIRS = ((2047, 1, 1), (4096, 1, 2), (8192, 2, 4), (16_384, 4, 6), (40_000, 4, 8))
DOCUMENTS = st.one_of(st.sampled_from(EDGES), st.integers(256, 40_000))


def within(n, low, high, total, slack=1):
    """Whether a whole number is a share of a total within limits, up to its rounding."""
    return low * total - slack <= n <= high * total + slack


# ------------------------------------------------------------------------------- interleaved


@settings(max_examples=400, deadline=None)
@given(n=DOCUMENTS, seed=SEEDS)
@example(n=16_385, seed=2735)  # a segment at the limit, rounded away from it
def test_segments_keep_the_rules(n, seed):
    pairs = segment_lengths(n, seeded(seed))
    wrapped, raw = ([one[i] for one in pairs] for i in (0, 1))
    assert sum(raw) == (8192 if n > 16_384 else n // 2)
    assert sum(wrapped) + sum(raw) == n
    assert min(wrapped + raw) >= 128
    fewest, most = next((a, b) for limit, a, b in PAIRS if n <= limit)
    assert fewest <= len(pairs) <= most
    if len(pairs) == 1:
        return
    assert within(wrapped[0], 0.3, 0.4, sum(wrapped))
    assert within(raw[-1], 0.4, 0.5, sum(raw))
    for others in (wrapped[1:], raw[:-1]):
        even = sum(others) / len(others)
        slack = 1 + 1.2 / len(others)  # both ends of a segment are rounded, and all of them
        assert all(within(length, 0.8, 1.2, even, slack) for length in others)


@pytest.mark.parametrize(
    ("n", "counts"),
    [(2047, {1}), (2048, {1, 2}), (4097, {2, 3, 4}), (8193, {4, 5, 6}), (16_385, {4, 5, 6, 7, 8})],
)
def test_every_number_of_pairs_occurs(n, counts):
    generator = seeded(0)
    assert {len(segment_lengths(n, generator)) for _ in range(100)} == counts


def test_shares_fill_their_ranges():
    drawn = [segment_lengths(16_384, seeded(seed)) for seed in range(200)]
    first = [pairs[0][0] / 8192 for pairs in drawn]
    last = [pairs[-1][1] / 8192 for pairs in drawn]
    second = [pairs[1][0] / sum(a for a, _ in pairs[1:]) * (len(pairs) - 1) for pairs in drawn]
    assert min(first) < 0.31 and max(first) > 0.39
    assert min(last) < 0.41 and max(last) > 0.49
    assert min(second) < 0.85 and max(second) > 1.15


@settings(max_examples=100, deadline=None)
@given(n=DOCUMENTS, seed=SEEDS)
def test_interleaved_is_the_document_in_order(n, seed):
    tokens = torch.arange(n)
    pieces = interleaved(tokens, seeded(seed))
    assert [type(piece) for piece in pieces] == [Span, Raw] * (len(pieces) // 2)
    assert torch.equal(torch.cat([piece.tokens for piece in pieces]), tokens)
    assert all(piece.trained is True for piece in pieces[1::2])
    assert trained_tokens(pieces) == (8192 if n > 16_384 else n // 2)


def test_what_is_no_document_is_refused():
    with pytest.raises(ValueError, match=r"n_tokens=255 .*128 tokens; join documents"):
        interleaved(torch.arange(255), seeded(0))
    with pytest.raises(ValueError, match=r"shape \(300, 300\).*one text at a time"):
        interleaved(torch.zeros(300, 300, dtype=torch.int64), seeded(0))


def test_a_seed_draws_the_same_again():
    assert segment_lengths(9000, seeded(5)) == segment_lengths(9000, seeded(5))
    assert segment_lengths(9000, seeded(5)) != segment_lengths(9000, seeded(6))


# ------------------------------------------------------------------------------- instructions

MESSAGES = st.one_of(st.sampled_from((1, 31, 32, 200, 201, 600, 601)), st.integers(1, 3000))


def covered(found):
    return sum(end - start for start, end in found)


@settings(max_examples=400, deadline=None)
@given(n=MESSAGES, seed=SEEDS)
def test_regions_keep_the_rules(n, seed):
    found = regions(n, seeded(seed))
    flat = [edge for region in found for edge in region]
    assert flat == sorted(set(flat)) and flat[0] >= 0 and flat[-1] <= n
    assert covered(found) >= 0.8 * n
    assert len(found) <= (1 if n <= 200 else 2 if n <= 600 else 3)
    if n < 32:
        assert found == ((0, n),)


@pytest.mark.parametrize(
    ("n", "most"), [(32, 1), (200, 1), (201, 2), (600, 2), (601, 3), (5000, 3)]
)
def test_half_are_whole_and_the_others_vary(n, most):
    generator = seeded(2)
    drawn = [regions(n, generator) for _ in range(600)]
    whole = sum(one == ((0, n),) for one in drawn)
    by_chance = 300 / (n / 5 + 1)  # coverage happens to be all
    assert abs(whole - 300 - by_chance) < 60  # five standard deviations
    assert {len(one) for one in drawn} == set(range(1, most + 1))
    shares = [covered(one) / n for one in drawn if one != ((0, n),)]
    assert min(shares) < 0.85 and max(shares) > 0.95


@settings(max_examples=300, deadline=None)
@given(
    n=st.integers(32, 2000),
    ends=st.sets(st.integers(0, 2000), max_size=30),
    seed=SEEDS,
)
def test_regions_begin_and_end_where_they_may(n, ends, seed):
    found = regions(n, seeded(seed), ends=ends)
    assert {edge for region in found for edge in region} <= ends | {0, n}
    assert covered(found) >= 0.7 * n


def test_where_lines_leave_too_little_the_whole_is_one_region():
    n, generator = 1000, seeded(1)
    free = [regions(n, generator) for _ in range(100)]
    assert sum(one == ((0, n),) for one in free) < 80
    # No region but the message itself can end in the middle, and half of it is too little.
    assert {regions(n, generator, ends=(500,)) for _ in range(100)} == {((0, n),)}
    often = {regions(n, generator, ends=range(0, n, 10)) for _ in range(100)}
    assert len(often) > 20 and all(edge % 10 == 0 for one in often for pair in one for edge in pair)


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    asked=st.integers(0, 3),
    seed=SEEDS,
)
def test_only_the_reply_is_trained(lengths, asked, seed):
    messages = [torch.arange(n) for n in lengths]
    instruction, reply = torch.full((asked,), 7), torch.tensor([5, 6, 9])
    *before, last = compressed_prompt(messages, reply, seeded(seed), instruction=instruction)
    assert torch.equal(last.tokens, reply) and last.trained is True
    said = torch.cat([*messages, instruction])
    assert torch.equal(torch.cat([piece.tokens for piece in before]), said)
    assert all(piece.trained is False for piece in before if isinstance(piece, Raw))
    spans = sum(len(piece.tokens) for piece in before if isinstance(piece, Span))
    assert spans >= 0.8 * sum(lengths)
    assert trained_tokens([*before, last]) == 3


def test_each_message_has_a_draw_of_its_own():
    messages = [torch.zeros(100, dtype=torch.int64)] * 40
    generator = seeded(0)
    each = {tuple(len(piece.tokens) for piece in message(one, generator)) for one in messages}
    assert len(each) > 10


@pytest.mark.parametrize(
    ("messages", "reply", "told"),
    [
        ([], [1], "0 messages and a reply of 1 tokens"),
        ([[1]], [], "1 messages and a reply of 0 tokens"),
        ([[1], []], [1], "n_tokens=0 must be at least 1: an empty message"),
    ],
)
def test_what_is_no_prompt_is_refused(messages, reply, told):
    with pytest.raises(ValueError, match=told):
        compressed_prompt(messages, reply, seeded(0))


@pytest.mark.parametrize("messages", [[1, 2], torch.tensor([1, 2])])
def test_one_text_in_the_place_of_a_list_is_refused(messages):
    unchecked = inspect.unwrap(compressed_prompt)  # shapes are checked in tests alone
    with pytest.raises(ValueError, match=r"messages is one text; give a list.*\[tokens\]"):
        unchecked(messages, [1], seeded(0))


# ------------------------------------------------------------------------------- reconstruction


def test_reconstruction_trains_the_text_again():
    span, asked, again = reconstruction([3, 1, 2], [9])
    assert isinstance(span, Span) and torch.equal(span.tokens, again.tokens)
    assert asked.tokens.tolist() == [9] and asked.trained is False and again.trained is True
    assert trained_tokens([span, asked, again]) == 3
    with pytest.raises(ValueError, match="an empty span"):
        reconstruction([], [9])


def test_every_request_is_drawn_for_its_kind():
    generator = seeded(0)
    for kind, wordings in REQUESTS.items():
        assert len(set(wordings)) == len(wordings) >= 4
        assert {request(kind, generator) for _ in range(100)} == set(wordings)
    with pytest.raises(ValueError, match="kind='music' is unknown; a text is one of text, code"):
        request("music", generator)


# ------------------------------------------------------------------------------------- the mix


def row_of(n_prompt, n_trained):
    return [Span(torch.zeros(n_prompt, dtype=torch.int64)), Raw([1] * n_trained)]


@settings(max_examples=100, deadline=None)
@given(
    kinds=st.lists(st.tuples(st.floats(0.01, 1), st.integers(1, 500)), min_size=1, max_size=5),
    n=st.integers(1, 60),
    seed=SEEDS,
)
def test_trained_tokens_follow_their_shares(kinds, n, seed):
    def draw(most):
        return lambda g: row_of(3, int(torch.randint(1, most + 1, (), generator=g)))

    shares = {str(i): share for i, (share, _) in enumerate(kinds)}
    longest = {str(i): most for i, (_, most) in enumerate(kinds)}
    mixture = Mixture({kind: draw(longest[kind]) for kind in shares}, shares)
    rows = mixture.rows(n, seeded(seed))
    total = sum(map(trained_tokens, rows))
    assert len(rows) == n and total == sum(mixture.trained.values())
    for kind, share in mixture.shares.items():
        assert share == pytest.approx(shares[kind] / sum(shares.values()))
        assert mixture.trained[kind] - share * total <= longest[kind] + 1e-6


def test_the_papers_shares_are_met_over_real_rules():
    generator = seeded(0)
    draws = {
        "reconstruction": lambda _: reconstruction(text(300), text(5)),
        "next_token": lambda g: interleaved(text(2500), g),
        "instruction": lambda g: compressed_prompt([text(400)], text(60), g),
    }
    shares = {"reconstruction": 0.172, "next_token": 0.573, "instruction": 0.255}
    mixture = Mixture(draws, shares)
    mixture.rows(400, generator)
    total = sum(mixture.trained.values())
    for kind, share in shares.items():
        assert mixture.trained[kind] / total == pytest.approx(share, abs=0.01)


def test_a_kind_without_a_share_is_never_drawn():
    draws = {"a": lambda _: row_of(1, 4), "b": lambda _: pytest.fail("drawn")}
    assert set(Mixture(draws, {"a": 3.0, "b": 0.0}).trained) == {"a"}
    mixture = Mixture(draws, {"a": 3.0, "b": 0.0})
    assert [mixture.row(seeded(0))[0] for _ in range(5)] == ["a"] * 5


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"b": 1.0}, "shares are given for b and rows for a"),
        ({"a": -1.0}, "must not be below 0"),
        ({"a": 0.0}, "one must be above"),
    ],
)
def test_bad_shares_are_refused(shares, told):
    with pytest.raises(ValueError, match=told):
        Mixture({"a": lambda _: row_of(1, 1)}, shares)


def test_a_row_without_a_trained_token_is_refused():
    mixture = Mixture({"a": lambda _: [Raw([1, 2], trained=False)]}, {"a": 1.0})
    with pytest.raises(ValueError, match="kind 'a' trains no token"):
        mixture.row(seeded(0))


# ------------------------------------------------------------------------- what trains on them


@pytest.mark.parametrize("seed", range(4))
def test_a_model_trains_on_all_three_kinds_in_one_batch(seed):
    model, generator = model_of(seed=seed), seeded(seed)
    rows = [
        interleaved(text(300 + seed, seed), generator),
        compressed_prompt([text(40), text(90)], text(7), generator, instruction=text(3)),
        reconstruction(text(21), text(4)),
        [Raw(text(12))],
    ]
    batch = model.batch_rows(rows)
    for row, wanted in zip(rows, batch.targets, strict=True):
        assert int((wanted != NOT_TRAINED).sum()) == trained_tokens(row)
    loss = model.loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(float(VOCABULARY)).log().item(), abs=1.5)
    assert all(
        weight.grad is not None and weight.grad.isfinite().all()
        for weight in (model.tags, *model.encoder.parameters())
    )


def test_trained_tokens_are_the_label_masks():
    some = torch.tensor([True, False, True])
    assert trained_tokens([Raw([1, 2, 3])]) == 2  # nothing stands before the first
    assert trained_tokens([Raw([]), Raw([1, 2, 3], some)]) == 1
    assert trained_tokens([Raw([4], False), Raw([1, 2, 3], some)]) == 2
    assert trained_tokens([Latents(torch.zeros(1, 2)), Raw([1, 2, 3])]) == 3
    assert trained_tokens([Span([1]), Raw([5, 5], False)]) == 0


def test_decoder_positions_of_an_interleaved_document():
    model, pieces = model_of(), interleaved(text(2500), seeded(3))
    spans = [len(piece.tokens) for piece in pieces if isinstance(piece, Span)]
    raw = sum(len(piece.tokens) for piece in pieces if isinstance(piece, Raw))
    latents = sum(latent_count(n, ratio=4, window=8) for n in spans)
    assert len(model.spliced(pieces).kinds) == latents + 2 * len(spans) + raw
