"""What the committed runs of the untrained pair and of SmolLM2's evictions say."""

import dataclasses

import lclm_eviction
import pytest

from intuitive.common.eviction import METHODS
from intuitive.common.smollm import load_smollm2
from intuitive.lclm import LCLMConfig, cost
from intuitive.lclm.experiments.cost import CostParams, run
from intuitive.lclm.results import eviction, pair, pair_part

K64, K256 = 65_536, 262_144
PAIR = pair().values
QUALITY = {(q.method, q.texts, q.budget): q.perplexity for q in eviction().values.quality}


def one(**fields):
    (point,) = PAIR.select(**fields)
    return point


def test_goals_at_256k_and_ratio_16_are_met_in_one_pass():
    last = run(CostParams(logits="last"))
    assert last.measured_speedup >= 28
    assert last.measured_memory_ratio >= 4
    assert last.measured["raw"].logits == last.measured["latents"].logits == "last"


def test_in_pieces_memory_comes_close_to_what_arithmetic_allows():
    """Weights and cache alone differ by a factor of four; the encoder's weights take the rest."""
    raw, latents = (
        one(arm=arm, n_tokens=K256, ratio=ratio, way="pieces")
        for arm, ratio in (("raw", 1), ("lclm", 16))
    )
    bound = (raw.weights_gib + raw.kv_gib) / (latents.weights_gib + latents.kv_gib)
    assert bound == pytest.approx(4.0, abs=0.01)
    assert 0.95 * bound < raw.peak_gib / latents.peak_gib < bound
    assert raw.ttft_s / latents.ttft_s >= 28


def test_terms_follow_the_arithmetic():
    config = LCLMConfig.paper()
    decoder = 2 * cost.n_weights(config.decoder) / cost.GIB
    for point in PAIR.points:
        positions = point.n_tokens if point.arm == "raw" else point.n_tokens // point.ratio + 2
        assert point.kv_gib == pytest.approx(positions * cost.KV_BYTES / cost.GIB, rel=1e-3)
        rows = positions if point.logits == "all" else 1
        assert point.logits_gib == pytest.approx(rows * cost.LOGIT_BYTES / cost.GIB, rel=2e-3)
        assert point.activations_gib > 0
        if point.arm == "raw":
            assert point.weights_gib == pytest.approx(decoder, rel=1e-4)
        else:
            assert point.weights_gib == pytest.approx(cost.PAIR_WEIGHTS_GIB, abs=0.03)
            assert point.encoder_peak_gib <= point.peak_gib


def test_all_logits_are_what_the_papers_raw_curve_holds():
    """The figure's uncompressed memory is met when every position keeps its row."""
    for n_tokens, _, gib in cost.DECODED_RAW[:3]:
        point = one(arm="raw", n_tokens=n_tokens, logits="all")
        assert point.peak_gib == pytest.approx(gib, abs=0.4)
        without = one(arm="raw", n_tokens=n_tokens, logits="last", way="whole")
        assert without.peak_gib < point.peak_gib


def test_without_an_encoder_cache_the_papers_plateau_is_gone():
    for ratio, plateau in ((16, True), (8, True), (4, False)):
        point = one(arm="lclm", n_tokens=K256, ratio=ratio, logits="all")
        figure = cost.memory_gib(K256, ratio=ratio)
        assert (figure - point.peak_gib > 3) is plateau
        if not plateau:  # the decoder peaks there, in both
            assert point.peak_gib == pytest.approx(figure, abs=0.5)


def test_the_encoder_is_linear_and_the_decoder_is_not():
    last = {"logits": "last", "way": "whole"}
    for ratio in (4, 8, 16):
        near, far = (one(arm="lclm", n_tokens=n, ratio=ratio, **last) for n in (K64, K256))
        assert far.encoder_s / near.encoder_s == pytest.approx(4, rel=0.1)
    near, far = (one(arm="raw", n_tokens=n, **last) for n in (K64, K256))
    assert far.decoder_s / near.decoder_s > 12


def test_the_encoder_in_windows_is_as_fast_as_a_plain_pass():
    points = pair_part("beside").values.encoder
    assert {point.windows for point in points} == {8, 32, 128}
    assert all(point.share >= 0.7 for point in points)  # the goal
    assert all(0.95 < point.share < 1.1 for point in points)


@pytest.mark.parametrize("n_tokens", [8192, K64])
def test_eviction_does_not_help_prefill_and_truncation_does(n_tokens):
    """The 4B decoder alone; at 64K the time for KVzip's repetition was not there."""
    times = {
        time.method: time
        for time in pair_part("evictions").values.evictions
        if time.n_tokens == n_tokens
    }
    raw = times.pop("raw")
    truncated = times.pop("truncation")
    assert truncated.ready_s < raw.ready_s / 6
    assert set(times) >= {"snapkv", "expected"}
    for time in times.values():
        assert time.ready_s > raw.ready_s
        assert time.peak_mib > 0.95 * raw.peak_mib  # the cache is small only afterwards
        assert time.cache_mib == truncated.cache_mib == pytest.approx(raw.cache_mib / 16)
    if "kvzip" in times:
        assert times["kvzip"].ready_s > 8 * raw.ready_s


def test_what_did_not_run_ran_out_of_time():
    assert all("TimeoutError" in fault["error"] for fault in PAIR.faults)


def test_parts_are_named():
    with pytest.raises(ValueError, match="part='all' is unknown; choose one of beside"):
        pair_part("all")


# -------------------------------------------------------------------------------------- SmolLM2


def test_no_eviction_is_ready_before_the_prefill_that_it_follows():
    for time in eviction().values.times:
        assert time.ready_s >= time.prefill_s
        if time.method == "kvzip":  # the prompt is read once more
            assert time.ready_s > 2 * time.prefill_s


@pytest.mark.parametrize("budget", [256, 128, 64])
def test_everything_evicted_predicts_worse_than_raw(budget):
    for texts in ("prose", "code", "returning"):
        for name in set(METHODS) - {"raw"}:
            assert QUALITY[name, texts, budget] > QUALITY["raw", texts, 1024]


@pytest.mark.parametrize("budget", [256, 128, 64])
def test_what_returns_is_kept_best_by_kvzip_and_lost_by_truncation(budget):
    by_method = {name: QUALITY[name, "returning", budget] for name in METHODS if name != "raw"}
    assert min(by_method, key=by_method.get) == "kvzip"
    assert by_method["kvzip"] < 0.7 * by_method["truncation"]


@pytest.mark.parametrize("budget", [256, 128, 64])
def test_ordinary_prose_needs_its_last_words_most(budget):
    """Truncation is within a few percent of every method that has read everything."""
    truncated = QUALITY["truncation", "prose", budget]
    assert QUALITY["expected", "prose", budget] < truncated < QUALITY["kvzip", "prose", budget]
    for name in ("snapkv", "kvzip", "expected"):
        assert QUALITY[name, "prose", budget] == pytest.approx(truncated, rel=0.08)


@pytest.fixture(scope="module")
def first_piece():
    plan = dataclasses.replace(lclm_eviction.Plan(), pieces=1)
    return lclm_eviction.texts(load_smollm2(), plan, 1024)["prose"]


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["snapkv", "expected", pytest.param("kvzip", marks=pytest.mark.sweep)]
)
def test_a_first_piece_is_met_again_here(name, first_piece):
    """One text of 1,024 tokens and what follows it, on this machine."""
    plan, model, about = lclm_eviction.Plan(), load_smollm2(), (name, "prose", 1024, 128)
    want = next(
        row.loss
        for row in eviction().values.first_losses
        if (row.method, row.texts, row.context, row.budget) == about
    )
    method = lclm_eviction.methods(model)[name]
    (got,) = lclm_eviction.losses(model.decoder, first_piece, plan, 1024, "prose", method, 128)
    assert got == pytest.approx(want, abs=0.02)
