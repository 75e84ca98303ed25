"""The paper's published cost figures, and the tables derived from its formulas."""

import dataclasses

import pytest

from intuitive.msa import cost
from intuitive.msa.config import MSAConfig

PAPER = MSAConfig.paper()
K = 1024


def test_headline_ratio_at_one_million_tokens():
    assert cost.flop_ratio(PAPER, 2**20) == pytest.approx(28.45, abs=0.005)
    assert cost.flop_ratio(PAPER, 10**6) == pytest.approx(28.30, abs=0.005)


def test_flops_per_token_at_one_million_tokens():
    assert cost.dense_flops(PAPER, 2**20) / 1e9 == pytest.approx(17.18, abs=0.005)
    assert cost.index_flops(PAPER, 2**20) / 1e9 == pytest.approx(0.537, abs=0.0005)
    assert cost.main_flops(PAPER, 2**20) / 1e9 == pytest.approx(0.067, abs=0.0005)


@pytest.mark.parametrize(
    ("context", "ratio", "share"),
    [
        (8 * K, 2.13, 0.07),
        (32 * K, 6.56, 0.205),
        (64 * K, 10.78, 0.34),
        (128 * K, 16.06, 0.50),
        (256 * K, 21.39, 0.67),
        (512 * K, 25.6, 0.80),
        (1024 * K, 28.4, 0.89),
    ],
)
def test_flop_ratio_and_index_share(context, ratio, share):
    assert cost.flop_ratio(PAPER, context) == pytest.approx(ratio, abs=0.05)
    assert cost.index_flop_share(PAPER, context) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(
    ("context", "ratio"),
    [(32 * K, 5.3), (128 * K, 7.1), (256 * K, 7.5), (512 * K, 7.8), (1024 * K, 7.9)],
)
def test_decode_byte_ratio(context, ratio):
    assert cost.decode_byte_ratio(PAPER, context) == pytest.approx(ratio, abs=0.05)


def test_ceilings_are_never_reached_but_approached():
    assert cost.flop_ceiling(PAPER) == 32
    assert cost.decode_byte_ceiling(PAPER) == 8
    for context in (8 * K, 1024 * K, 2**40):
        assert cost.flop_ratio(PAPER, context) < 32
        assert cost.decode_byte_ratio(PAPER, context) < 8
    assert cost.flop_ratio(PAPER, 2**40) == pytest.approx(32, rel=1e-5)
    assert cost.decode_byte_ratio(PAPER, 2**40) == pytest.approx(8, rel=1e-5)


def test_cache_grows_by_an_eighth():
    held = cost.kv_memory(PAPER, 1)
    assert held == {"keys": 1024, "values": 1024, "index_keys": 256}
    assert cost.cache_growth(PAPER) == 0.125


def test_decode_bytes_at_32k_and_1m():
    mib = 2**20
    assert cost.index_decode_bytes(PAPER, 32 * K) == 8 * mib
    assert cost.msa_decode_bytes(PAPER, 32 * K) == 12 * mib
    assert cost.index_decode_bytes(PAPER, 1024 * K) == 256 * mib
    assert cost.msa_decode_bytes(PAPER, 1024 * K) == 260 * mib
    main_share = cost.main_decode_bytes(PAPER, 1024 * K) / cost.msa_decode_bytes(PAPER, 1024 * K)
    assert main_share == pytest.approx(0.015, abs=0.0005)


def test_msa_reads_no_more_main_keys_than_there_are():
    assert cost.main_decode_bytes(PAPER, 100) == cost.dense_decode_bytes(PAPER, 100)


def test_a_query_is_charged_for_the_tokens_it_reads_and_no_more():
    """The mean over a causal context, summed query by query in the middle of each step."""
    for n_selected, context in ((16, 1024), (16, 2048), (16, 5000), (64, 4096), (2, 8192)):
        config = dataclasses.replace(PAPER, n_selected=n_selected)
        reads = [min(i + 0.5, config.n_selected_tokens) for i in range(context)]
        want = 4 * 64 * 128 * sum(reads) / context
        assert cost.main_flops(config, context) == pytest.approx(want)
        assert cost.main_flops(config, context) <= cost.dense_flops(config, context)


def test_equation_12_charges_full_selections_and_is_met_at_long_contexts():
    full = 4 * 64 * 128 * 2048
    assert cost.main_flops(PAPER, 2**20) == pytest.approx(full, rel=1e-3)
    assert cost.main_flops(PAPER, 2048) == full / 2 == cost.dense_flops(PAPER, 2048)


def test_break_even_is_about_2500_tokens():
    even = cost.break_even_context(PAPER)
    assert even == pytest.approx(2488, abs=1)
    assert cost.flop_ratio(PAPER, int(even)) < 1 < cost.flop_ratio(PAPER, int(even) + 1)


def test_the_index_adds_two_million_weights_to_a_layer():
    weights = cost.attention_weights(PAPER, cost.PAPER_D_MODEL)
    assert weights["index"] == pytest.approx(1.97e6, rel=0.005)
    assert weights["index"] / weights["main"] == pytest.approx(0.037, abs=0.0005)
    assert cost.attention_weights(PAPER, 1) == {"main": 2 * (64 + 4) * 128, "index": 5 * 128}


@pytest.mark.parametrize("context", [8 * K, 128 * K, 1024 * K])
@pytest.mark.parametrize("n_selected", [4, 64])
def test_msa_holds_more_by_its_index(context, n_selected):
    config = dataclasses.replace(PAPER, n_selected=n_selected)
    held = cost.prefill_memory(config, context, 8 * K)
    dense, msa = held["dense"], held["msa"]
    assert msa["keys_values"] == dense["keys_values"] == 2048 * context
    assert msa["index_keys"] == 256 * context and dense["index_keys"] == 0
    assert msa["weights"] - dense["weights"] == 2 * 5 * 128 * cost.PAPER_D_MODEL
    assert all(msa[category] >= dense[category] for category in dense)


def test_scratch_keeps_no_score_per_token():
    mib = 2**20
    assert cost.dense_scratch(PAPER, 8 * K) == 130 * mib  # outputs and log-sum-exps
    more = cost.attend_scratch(PAPER, 8 * K) - cost.dense_scratch(PAPER, 8 * K)
    assert more == 3 * 8 * K * 4 * 16 * 4  # three lists of 32-bit numbers
    assert cost.selection_scratch(PAPER, 8 * K, 8 * K) == (8 + 2) * mib  # scores, ids
    for context in (256 * K, 1024 * K):  # scores stop growing
        assert cost.selection_scratch(PAPER, context, 8 * K) == (256 + 2) * mib
    assert cost.selection_scratch(PAPER, 2**30, 1) == 2**27 + 256  # one query has to fit


def test_loop_orders_move_about_16_and_85_flops_per_byte():
    context = 128 * K
    query_outer = cost.query_outer_bytes(PAPER, context)
    kv_outer = cost.kv_outer_bytes(PAPER, context)
    assert cost.loop_intensity(PAPER, context, query_outer) == pytest.approx(16, rel=0.02)
    assert cost.loop_intensity(PAPER, context, kv_outer) == pytest.approx(85, rel=0.03)
    # Eq. 13: 4·H_q·N·d + 4·H_kv·N·k·B_k·d, at one token
    assert cost.query_outer_bytes(PAPER, 1) == 4 * 64 * 128 + 4 * 4 * 2048 * 128
    # Eq. 15: 4·H_kv·N·d + 4·H_q·N·k·d + 2·H_q·N·(k+1)·d, at one token
    assert cost.kv_outer_bytes(PAPER, 1) == 4 * 4 * 128 + 4 * 64 * 16 * 128 + 2 * 64 * 17 * 128


def test_messages():
    with pytest.raises(ValueError, match="context=0 must be at least 1 token"):
        cost.flop_ratio(PAPER, 0)
    with pytest.raises(ValueError, match="d_model=0 must be at least 1 channel"):
        cost.attention_weights(PAPER, 0)
    for n_queries in (0, 101):
        with pytest.raises(ValueError, match=f"n_queries={n_queries} must lie from 1 to 100"):
            cost.prefill_memory(PAPER, 100, n_queries)
    wide = dataclasses.replace(PAPER, d_index=64 * 128)
    with pytest.raises(ValueError, match="choose a smaller d_index"):
        cost.break_even_context(wide)
