"""Scores by hand, the strict threshold, the rules beside it, and what is always resident."""

import math

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.lsa import LSAConfig, memory_logits, rotary, selection

SMALL = LSAConfig(chunk_size=4, tail=8, page_size=4)


def test_memory_logits_by_hand():
    draw = seeded(0)
    q, w, keys = (torch.randn(*shape, generator=draw) for shape in ((5, 7), (5,), (11, 7)))
    want = [
        sum(
            float(w[h]) * max(0.0, sum(float(q[h, c] * keys[s, c]) for c in range(7)))
            for h in range(5)
        )
        for s in range(11)
    ]
    got = memory_logits(q, w, keys)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.tensor(want), atol=1e-5, rtol=1e-5)
    assert (got < 0).any()  # weights of either sign


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_memory_logits_are_float32_whatever_comes_in(dtype):
    q, w, keys = (torch.ones(*shape, dtype=dtype) for shape in ((2, 3), (2,), (4, 3)))
    got = memory_logits(q, w, keys)
    assert got.dtype == torch.float32
    assert got.tolist() == [6.0] * 4


def test_bfloat16_is_multiplied_in_float32():
    q = torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16)
    keys = torch.tensor([[256.0, 1.0]], dtype=torch.bfloat16)  # 257 has no place in bfloat16
    assert memory_logits(q, torch.ones(1, dtype=torch.bfloat16), keys).item() == 257.0


def test_a_chunk_for_which_no_head_fires_stays_away():
    """Logit 0, probability 0.5: "at least 0.5" would keep the whole history."""
    logits = memory_logits(torch.ones(2, 3), torch.ones(2), -torch.ones(4, 3))
    assert logits.tolist() == [0.0] * 4
    assert not selection.above(logits[None], 0.5).any()


def test_threshold_is_strict_where_the_sigmoid_rounds():
    logits = torch.tensor([[0.0, 1e-9, -1e-9]])
    assert (logits.sigmoid() == 0.5).all()
    assert selection.above(logits, 0.5).tolist() == [False, True, False]


def test_layers_are_joined_by_union():
    logits = torch.tensor([[1.0, -5.0, -5.0], [-5.0, 1.0, -5.0]])
    assert selection.above(logits, 0.5).tolist() == [True, True, False]


def test_threshold_is_a_probability():
    logits = torch.linspace(-3, 3, 50)[None]
    for threshold in (0.2, 0.5, 0.9):
        assert torch.equal(selection.above(logits, threshold), logits[0].sigmoid() > threshold)


def test_stored_keys_lose_a_16th_at_most():
    keys = torch.randn(50, 32, generator=seeded(2)) * torch.logspace(-4, 4, 50)[:, None]
    stored, scale = selection.quantise_keys(keys)
    assert stored.dtype == torch.float8_e4m3fn
    back = selection.dequantise_keys(stored, scale)
    near_zero = keys.abs().amax(-1, keepdim=True) / 448 / 64  # below fp8's normal numbers
    assert ((back - keys).abs() <= keys.abs() / 16 + near_zero).all()
    assert (
        selection.dequantise_keys(*selection.quantise_keys(torch.zeros(2, 4))).tolist()
        == [[0.0] * 4] * 2
    )


def test_best_takes_the_lower_chunk_on_a_tie_and_nothing_that_is_not_there():
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0, -math.inf]])
    assert selection.best(logits, 2).tolist() == [False, True, True, False, False]
    assert selection.best(logits, 9).tolist() == [True] * 4 + [False]
    assert not selection.best(logits, 0).any()


def test_densest_pages():
    chosen = torch.tensor([1, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0]).bool()
    forced = torch.zeros(14, dtype=torch.bool)

    def take(n, forced=forced):
        return (
            selection.densest_pages(chosen, page_size=4, n_pages=n, forced=forced)
            .nonzero()
            .flatten()
            .tolist()
        )

    assert take(0) == []
    assert take(1) == [4, 5, 6, 7]
    assert take(2) == [0, 1, 2, 3, 4, 5, 6, 7]  # a tie of pages 0 and 2
    assert take(9) == list(range(12))  # the last page holds nothing chosen
    last = forced.clone()
    last[13] = True
    assert take(1, last) == [12, 13]
    assert take(2, last) == [4, 5, 6, 7, 12, 13]


def test_sink_tail_and_decoded_chunks_are_always_resident():
    config = LSAConfig(chunk_size=4, tail=9, sink=2)
    assert config.tail_chunks == 3

    def take(**given):
        return selection.always_resident(10, 12, config, **given).nonzero().flatten().tolist()

    assert take() == [0, 1, 7, 8, 9]
    assert take(decoded_from=5) == [0, 1, 5, 6, 7, 8, 9]
    assert selection.always_resident(2, 12, config).sum() == 2


def windows_of(*chosen, n=12):
    """Logits of one layer: +1 at the chosen chunks of each window, -1 elsewhere."""
    logits = -torch.ones(len(chosen), 1, n)
    for row, chunks in zip(logits, chosen, strict=True):
        row[0, list(chunks)] = 1
    return logits


def sets(resident):
    return [row.nonzero().flatten().tolist() for row in resident]


def test_resident_sets_follow_the_triggers():
    logits, closed = windows_of([0, 1], [3], [0]), torch.tensor([8, 9, 10])

    def take(**given):
        return sets(selection.resident_sets(logits, closed, SMALL, **given))

    # Chunk 8 was decoded, and stays.
    assert take() == [[0, 1, 6, 7], [3, 7, 8], [0, 8, 9]]
    assert take(lag=1) == [[6, 7], [0, 1, 7, 8], [3, 8, 9]]
    assert take(sticky=True) == [[0, 1, 6, 7], [0, 1, 3, 6, 7, 8], [0, 1, 3, 6, 7, 8, 9]]
    assert take(rule="budget", size=1) == [[0, 6, 7], [3, 7, 8], [0, 8, 9]]
    assert take(rule="pages", size=2)[0] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert take(rule="pages", size=1)[0] == [4, 5, 6, 7]  # the tail's page is all there is room for


def test_a_budget_is_not_spent_on_what_is_resident_anyhow():
    config = LSAConfig(chunk_size=4, tail=8, sink=1, page_size=4)
    logits = torch.arange(12.0)[None, None].repeat(2, 1, 1)  # the newest score highest
    logits[:, :, 0] = 99  # and the sink above all
    for size in (0, 1, 3, 99):
        first, second = sets(
            selection.resident_sets(logits, torch.tensor([8, 10]), config, rule="budget", size=size)
        )
        assert first == [0, *range(max(6 - size, 1), 6), 6, 7]
        assert second == [0, *range(max(8 - size, 1), 8), 8, 9]


def test_a_late_budget_was_not_spent_on_what_was_resident_when_it_was_decided():
    logits = torch.arange(12.0)[None, None].repeat(2, 1, 1)
    config = LSAConfig(chunk_size=4, tail=4, page_size=4)
    given = {"rule": "budget", "size": 2, "lag": 1}
    late = selection.resident_sets(logits, torch.tensor([8, 9]), config, **given)
    assert sets(late) == [[7], [5, 6, 8]]


def test_decoded_chunks_stay_when_the_tail_has_left_them():
    logits, closed = windows_of([], [], n=30), torch.tensor([8, 20])
    assert sets(selection.resident_sets(logits, closed, SMALL))[1] == list(range(8, 20))


def test_a_chunk_that_does_not_exist_is_never_resident():
    logits = torch.full((1, 1, 12), 9.0)
    assert sets(selection.resident_sets(logits, torch.tensor([5]), SMALL)) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rule": "best"}, "unknown"),
        ({"rule": "budget"}, "have a size"),
        ({"size": 3}, "threshold has none"),
        ({"lag": 2}, "lag=2 must be 0 or 1"),
        ({"closed": torch.tensor([1, 2])}, "windows of .* is 2, but 1 in logits"),
    ],
)
def test_wrong_rules_are_refused(given, words, as_installed):
    closed = given.pop("closed", torch.tensor([8]))
    with pytest.raises(ValueError, match=words):
        selection.resident_sets(windows_of([0]), closed, SMALL, **given)


def test_hadamard_by_its_matrix():
    matrix = torch.tensor([[1.0]])
    for _ in range(3):
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    x, y = torch.randn(2, 5, 8, generator=seeded(3))
    torch.testing.assert_close(rotary.hadamard(x), x @ matrix / 8**0.5)
    torch.testing.assert_close(rotary.hadamard(rotary.hadamard(x)), x)
    torch.testing.assert_close((rotary.hadamard(x) * rotary.hadamard(y)).sum(-1), (x * y).sum(-1))
    with pytest.raises(ValueError, match="power of two"):
        rotary.hadamard(torch.ones(6))


def test_turning_depends_on_distance_alone_and_can_be_undone():
    rates = rotary.rates(8, 100.0)
    q, k = torch.randn(2, 1, 1, 12, generator=seeded(4))
    products = [
        (rotary.turn(q, torch.tensor([[a]]), rates) * rotary.turn(k, torch.tensor([[b]]), rates))
        .sum()
        .item()
        for a, b in ((3, 1), (52, 50), (3, 2))
    ]
    assert products[0] == pytest.approx(products[1], abs=1e-4)
    assert products[0] != pytest.approx(products[2], abs=1e-2)
    turned = rotary.turn(q, torch.tensor([[7]]), rates)
    assert torch.equal(turned[..., :4], q[..., :4])
    assert (turned[..., 4:] - q[..., 4:]).abs().max() > 0.1
    torch.testing.assert_close(rotary.turn(turned, torch.tensor([[7]]), rates, back=True), q)


def test_yarn_leaves_fast_pairs_and_stretches_slow_ones():
    plain = rotary.rates(64, 160_000.0)
    yarn = rotary.rates(64, 160_000.0, yarn_factor=16.0, yarn_length=65_536)
    turns = plain * 65_536 / (2 * math.pi)
    assert torch.equal(yarn[turns > 40], plain[turns > 40])
    slow = turns < 0.7
    assert slow.any()
    torch.testing.assert_close(yarn[slow], plain[slow] / 16)
    assert ((yarn <= plain) & (yarn >= plain / 16 - 1e-12)).all()
