"""The cost explorer's numbers: fits, what was read off the figure, and what was measured."""

import pytest

from intuitive.common.eviction import METHODS
from intuitive.lclm import cost
from intuitive.lclm.experiments.cost import ARMS, CostParams, run

K256 = 262_144


@pytest.fixture(scope="module")
def default():
    return run(CostParams())


def test_numbers_here_are_the_fits(default):
    assert tuple(default.here) == ARMS
    for arm, ratio in (("raw", 1), ("latents", 16)):
        assert default.here[arm].time.total == cost.ttft_seconds(K256, ratio=ratio)
        assert default.here[arm].memory.total == cost.memory_gib(K256, ratio=ratio)
    assert default.speedup == pytest.approx(30, rel=0.02)  # the paper's figure: 61.4 over 2.02 s
    assert default.memory_ratio == pytest.approx(4.6, rel=0.02)


def test_eviction_is_as_slow_as_raw_and_keeps_as_little_as_latents(default):
    raw, evicted, latents = (default.here[arm] for arm in ARMS)
    assert evicted.time.total > raw.time.total == evicted.time.decoder
    assert evicted.memory.total > raw.memory.total
    assert evicted.kept_kv_gib == latents.kept_kv_gib == raw.kept_kv_gib / 16
    for ratio in (4, 8):
        other = run(CostParams(ratio=ratio)).here["eviction"]
        assert (other.time, other.memory) == (evicted.time, evicted.memory)


def test_last_logits_change_memory_alone(default):
    last = run(CostParams(logits="last"))
    for arm in ARMS:
        assert last.here[arm].time == default.here[arm].time
    assert last.here["raw"].memory.total < default.here["raw"].memory.total / 2
    assert last.here["latents"].memory == default.here["latents"].memory  # the encoder's plateau
    assert last.memory_ratio < 2 < default.memory_ratio


def test_curves_pass_through_the_setting(default):
    contexts = list(default.curves.contexts)
    assert contexts[0] == 4096 and contexts[-1] == 1_048_576 and contexts == sorted(contexts)
    here = contexts.index(K256)
    for arm in ARMS:
        assert default.curves.ttft_s[arm][here] == default.here[arm].time.total
        assert default.curves.memory_gib[arm][here] == default.here[arm].memory.total


def test_what_was_read_off_the_figure_stands_beside(default):
    assert (K256, 2.02, 26.1) in default.figure["latents"]
    assert run(CostParams(ratio=2)).figure["latents"] == ()  # the paper has no such model


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"context": 0}, "context=0 must be at least 1"),
        ({"ratio": 1}, "ratio=1 must be at least 2"),
        ({"ratio": 12}, "ratio=12 must divide the window"),
    ],
)
def test_bad_settings_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        CostParams(**given)


def test_settings_are_text():
    params = CostParams(context=4096, ratio=4, logits="last")
    assert CostParams.from_text(params.to_text()) == params


@pytest.mark.parametrize("logits", ["all", "last"])
@pytest.mark.parametrize("ratio", [4, 8, 16])
def test_measured_points_stand_in_order_and_are_of_the_setting(ratio, logits):
    result = run(CostParams(ratio=ratio, logits=logits))
    for arm, points in result.measured_curves.items():
        contexts = [point.n_tokens for point in points]
        assert contexts == sorted(set(contexts)) and len(contexts) >= 4
        assert {point.ratio for point in points} == {1 if arm == "raw" else ratio}
        assert {(p.logits, p.way, p.backend) for p in points} == {(logits, "whole", "flash")}
    assert result.measured["latents"].n_tokens == K256
    assert (result.measured_speedup is None) == (logits == "all")  # raw did not fit with all


def test_evictions_of_the_decoder_come_along(default):
    assert {time.method for time in default.prefill_then_evict} == set(METHODS)
