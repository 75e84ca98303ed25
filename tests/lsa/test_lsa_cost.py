"""The paper's memory figures, and those that its formulas give."""

import pytest

from intuitive.lsa import LSAConfig, cost, kv_bytes, resident_bytes

PAPER = LSAConfig.paper()
K, GIB = 1024, 2**30


def total(bytes_by_category):
    return sum(bytes_by_category.values())


@pytest.mark.parametrize(
    ("context", "gib"),
    [(64 * K, 0.235), (128 * K, 0.470), (256 * K, 0.940), (512 * K, 1.880), (1024 * K, 3.760)],
)
def test_everything_resident(context, gib):
    assert total(kv_bytes(PAPER, context)) / GIB == pytest.approx(gib, abs=0.0005)


def test_bytes_per_token_by_category():
    held = kv_bytes(PAPER, 128)
    assert held == {
        "csa_entries": 21 * 32 * 584,
        "index_keys": 21 * 32 * 132,
        "hca_entries": 20 * 584,
    }
    assert total(held) / 128 == pytest.approx(3850, abs=0.5)


def test_open_chunks_hold_nothing():
    assert total(kv_bytes(PAPER, 3)) == 0
    assert kv_bytes(PAPER, 7) == kv_bytes(PAPER, 4)
    assert kv_bytes(PAPER, 127)["hca_entries"] == 0


@pytest.mark.parametrize("context", [64 * K, 512 * K, 1024 * K])
@pytest.mark.parametrize(("kept", "share"), [(0.10, 0.144), (0.0, 0.049), (1.0, 1.0)])
def test_share_that_stays_when_everything_is_counted(context, kept, share):
    held = total(resident_bytes(PAPER, context, kept=kept))
    assert held / total(kv_bytes(PAPER, context)) == pytest.approx(share, abs=0.0005)


def test_without_the_three_layers_rule_index_keys_weigh_more():
    held = total(resident_bytes(PAPER, K * K, kept=0.10, all_index_keys=True))
    assert held / total(kv_bytes(PAPER, K * K)) == pytest.approx(0.283, abs=0.0005)


def test_everything_kept_is_everything_resident():
    for config in (PAPER, LSAConfig()):
        for n in (0, 5, 1000):
            assert resident_bytes(config, n, kept=1.0) == kv_bytes(config, n)


@pytest.mark.parametrize(
    ("context", "gib"), [(64 * K, 0.05), (128 * K, 0.08), (256 * K, 0.12), (512 * K, 0.22)]
)
def test_paper_accounting_gives_the_random_arm(context, gib):
    """The 8K tail and a tenth of the baseline: Table 1's "Random 10%"."""
    tail = PAPER.tail_chunks / cost.n_chunks(PAPER, context)
    held = total(resident_bytes(PAPER, context, kept=tail, accounting="paper"))
    assert held / GIB == pytest.approx(0.029, abs=0.0005)
    random = held + 0.1 * total(kv_bytes(PAPER, context))
    assert random / GIB == pytest.approx(gib, abs=0.005)


def test_paper_accounting_leaves_out_hca_and_full_index_keys():
    paper = resident_bytes(PAPER, K * K, kept=0.1, accounting="paper")
    everything = resident_bytes(PAPER, K * K, kept=0.1)
    assert paper["hca_entries"] == 0 < everything["hca_entries"]
    assert paper["csa_entries"] == everything["csa_entries"]
    assert paper["index_keys"] < everything["index_keys"]


def test_a_full_refresh_takes_milliseconds():
    moved = cost.transfer_bytes(PAPER, 12_288)
    assert moved / 1e6 == pytest.approx(151, abs=0.5)
    slow, fast = (cost.transfer_ms(moved, rate) for rate in cost.LINK_GB_PER_S)
    assert slow == pytest.approx(6.03, abs=0.005)
    assert fast == pytest.approx(2.74, abs=0.005)


def test_index_keys_travel_only_for_layers_that_do_not_keep_them():
    assert cost.transfer_bytes(PAPER, 1, index_keys=True) == 21 * 584 + 18 * 132


@pytest.mark.parametrize(
    ("context", "dense", "kept_tenth"),
    [(256 * K, 50.8, 28.8), (512 * K, 73.5, 31.0), (1024 * K, 118.9, 35.4)],
)
def test_flops_per_token(context, dense, kept_tenth):
    """The published figures; the constant was read off the LSA column, so that fits closer."""
    assert cost.gflop_per_token(PAPER, context) == pytest.approx(dense, rel=0.04)
    assert cost.gflop_per_token(PAPER, context, kept=0.1) == pytest.approx(kept_tenth, rel=0.01)


def test_the_memory_indexer_is_cheap_and_small():
    assert cost.memory_scoring_flops(PAPER, K * K // 4) / 1e9 == pytest.approx(0.40, abs=0.005)
    assert cost.memory_indexer_weights(PAPER) / 1e6 == pytest.approx(42.47, abs=0.005)
    assert 3 * 4 * cost.memory_indexer_weights(PAPER) / 1e6 == pytest.approx(510, abs=0.5)


def test_the_window_does_not_grow():
    assert cost.window_bytes(PAPER) == 43 * 128 * 584


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kv_bytes(PAPER, -1), "n_tokens=-1 must be at least 0"),
        (lambda: kv_bytes(PAPER, 1.5), "whole number"),
        (lambda: resident_bytes(PAPER, 8, kept=1.1), "share of all chunks"),
        (lambda: resident_bytes(PAPER, 8, kept=float("nan")), "share of all chunks"),
        (lambda: resident_bytes(PAPER, 8, kept=0.1, accounting="mine"), "unknown"),
        (lambda: cost.transfer_ms(1, 0), "above 0"),
        (lambda: cost.gflop_per_token(PAPER, 8, kept=-0.1), "share of all chunks"),
    ],
)
def test_wrong_input_is_refused(call, words, as_installed):
    with pytest.raises(ValueError, match=words):
        call()
