"""The two fits against the paper's figure, and the arithmetic against models that exist."""

import dataclasses

import pytest

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.lclm import cost

QWEN = DecoderConfig(
    vocab_size=151_936, d_model=2560, n_layers=36, n_q_heads=32, n_kv_heads=8, d_head=128, d_ff=9728
)
ENCODER = dataclasses.replace(QWEN, d_model=1024, n_layers=28, n_q_heads=16, d_ff=3072)

K64, K256, M1 = 65_536, 262_144, 1_048_576


def points():
    for ratio, decoded in {1: cost.DECODED_RAW, **cost.DECODED_LCLM}.items():
        for n_tokens, seconds, gib in decoded:
            yield pytest.param(ratio, n_tokens, seconds, gib, id=f"{ratio}x-{n_tokens}")


@pytest.mark.parametrize(("ratio", "n_tokens", "seconds", "gib"), list(points()))
def test_the_fits_meet_the_figure(ratio, n_tokens, seconds, gib):
    off = cost.ttft_seconds(n_tokens, ratio=ratio) / seconds - 1
    if ratio == 1:
        assert off == pytest.approx(0, abs=1e-9)
    elif n_tokens >= K64:
        low, high = {4: (-0.12, -0.04), 8: (-0.05, 0.05), 16: (-0.022, 0.022)}[ratio]
        assert low <= off <= high
    else:  # below the stated range: what the floor was chosen for
        assert abs(off) < 0.15
    printed = 0.5 if gib >= 100 else 0.05  # half of the last printed digit
    assert abs(cost.memory_gib(n_tokens, ratio=ratio) - gib) <= 0.2 + printed * (gib >= 100)


def test_256k_tokens_hold_36_gib_of_keys_and_values_and_a_sixteenth_as_latents():
    assert cost.memory_terms(K256, ratio=1).kv == 36
    assert cost.kept_kv_gib(K256, ratio=16) == 2.25


@pytest.mark.parametrize("logits", ["all", "last"])
@pytest.mark.parametrize("ratio", [1, 2, 4, 8, 16, 64])
@pytest.mark.parametrize("n_tokens", [1, 1000, K64, K256, M1])
def test_the_terms_are_all_of_the_peak(n_tokens, ratio, logits):
    terms = cost.memory_terms(n_tokens, ratio=ratio, logits=logits)
    total = terms.weights + terms.kv + terms.logits + terms.activations
    assert total == cost.memory_gib(n_tokens, ratio=ratio, logits=logits)
    assert min(dataclasses.astuple(terms)) >= 0
    time = cost.ttft_terms(n_tokens, ratio=ratio)
    assert time.encoder + time.decoder == cost.ttft_seconds(n_tokens, ratio=ratio)
    assert (time.encoder == 0) == (ratio == 1)


def test_only_the_logits_differ_between_the_two_ways_of_counting():
    full, one = (cost.memory_terms(K64, ratio=1, logits=logits) for logits in ("all", "last"))
    assert dataclasses.replace(full, logits=one.logits) == one
    assert full.logits == K64 * one.logits
    # Two thirds of what the uncompressed curve grows by are logits.
    assert full.logits / (full.kv + full.logits) == pytest.approx(2 / 3, abs=0.01)
    # The plateau is the encoder's, which keeps no logits.
    assert cost.memory_gib(K256, ratio=16) == cost.memory_gib(K256, ratio=16, logits="last")


def test_of_one_token_all_logits_are_the_last():
    assert cost.memory_gib(1, ratio=1) == cost.memory_gib(1, ratio=1, logits="last")


def test_a_longer_prompt_never_takes_less():
    for ratio in (1, 4, 16):
        for measure in (cost.ttft_seconds, cost.memory_gib):
            values = [measure(2**power, ratio=ratio) for power in range(22)]
            assert values == sorted(values)


def test_beyond_the_points_the_last_piece_goes_on_and_below_them_the_floor_holds():
    (*_, (n_low, low, _), (n_high, high, _)) = cost.DECODED_RAW
    assert n_high == 4 * n_low
    assert cost.ttft_seconds(4 * n_high, ratio=1) == pytest.approx(high * high / low)
    assert cost.ttft_seconds(1, ratio=1) == cost.FLOOR_S == cost.ttft_seconds(64, ratio=1)


def test_eviction_reads_everything_first():
    for n_tokens, seconds, gib in cost.DECODED_EVICTION:
        time, memory = cost.eviction_terms(n_tokens, ratio=16)
        assert time.total == pytest.approx(seconds)
        assert memory.total == pytest.approx(gib, abs=0.2)
        assert time.decoder == cost.ttft_seconds(n_tokens, ratio=1)
        assert cost.eviction_terms(n_tokens, ratio=4) == (time, memory)  # whatever is kept
    assert cost.eviction_terms(K64, ratio=1)[0].eviction == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_tokens": 0, "ratio": 16}, "n_tokens=0 must be at least 1"),
        ({"n_tokens": -5, "ratio": 16}, "n_tokens=-5"),
        ({"n_tokens": 10, "ratio": 0}, "ratio=0 must be at least 1: 1 means no compression"),
        ({"n_tokens": 10, "ratio": 3}, "ratio=3 must divide the window of 1,024"),
        ({"n_tokens": 10, "ratio": 2048}, "ratio=2048 must divide"),
    ],
)
def test_bad_sizes_are_refused(given, message):
    for measure in (cost.ttft_seconds, cost.memory_gib, cost.kept_kv_gib, cost.eviction_terms):
        with pytest.raises(ValueError, match=message.replace(".", r"\.")):
            measure(**given)


def test_unknown_logits_are_refused():
    for measure in (cost.memory_gib, cost.latent_moments, cost.eviction_terms):
        with pytest.raises(ValueError, match="logits='some' is unknown: 'all' keeps"):
            measure(10, ratio=4, logits="some")


# ------------------------------------------------------------------------- any pair of models


def test_the_constants_of_the_fits_are_those_of_the_models():
    assert cost.kv_bytes_per_position(QWEN) == cost.KV_BYTES
    assert cost.kv_bytes_per_position(ENCODER) == cost.ENCODER_KV_BYTES
    assert 2 * QWEN.vocab_size == cost.LOGIT_BYTES
    assert cost.n_adapter_weights(1024, 2560) == pytest.approx(9.18e6, rel=1e-3)
    assert cost.n_adapter_weights(1024, 2560, pooled=16) == pytest.approx(48.5e6, rel=1e-3)
    decoder = 2 * cost.n_weights(QWEN) / cost.GIB
    assert decoder == pytest.approx(cost.WEIGHTS_GIB, abs=0.01)
    pair = decoder + 2 * (cost.n_weights(ENCODER) + cost.n_adapter_weights(1024, 2560)) / cost.GIB
    assert pair == pytest.approx(cost.PAIR_WEIGHTS_GIB, abs=0.03)


@pytest.mark.parametrize("tied_embeddings", [True, False])
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_weights_are_counted_as_the_decoder_has_them(positions, tied_embeddings):
    config = DecoderConfig(positions=positions, tied_embeddings=tied_embeddings)
    assert cost.n_weights(config) == sum(w.numel() for w in Decoder(config).parameters())


def test_attention_is_quadratic_without_windows_and_linear_with_them():
    linear = cost.prefill_flops(QWEN, 1) - 4 * 36 * 32 * 128
    n = 4096
    pairs = n * (n + 1) // 2
    assert cost.prefill_flops(QWEN, n) == n * linear + pairs * 4 * 36 * 32 * 128
    once = cost.prefill_flops(ENCODER, 1024)
    assert cost.prefill_flops(ENCODER, 8192, window=1024) == 8 * once
    ragged = once + cost.prefill_flops(ENCODER, 100)
    assert cost.prefill_flops(ENCODER, 1124, window=1024) == ragged


def test_a_pair_computes_less_than_the_decoder_alone_by_more_the_longer_the_prompt():
    shares = []
    for n in (4096, K64, M1):
        encoder, decoder = cost.pair_flops(ENCODER, QWEN, n, ratio=16)
        assert cost.pair_flops(ENCODER, QWEN, n, ratio=1) == (0, cost.prefill_flops(QWEN, n))
        assert decoder == cost.prefill_flops(QWEN, n // 16)
        shares.append((encoder + decoder) / cost.prefill_flops(QWEN, n))
    assert shares == sorted(shares, reverse=True)
    with pytest.raises(ValueError, match="ratio=3 must divide window=1024"):
        cost.pair_flops(ENCODER, QWEN, 10, ratio=3)
