"""What the committed runs of the pair around SmolLM2 found: a training that failed, and how.

The decoder of these runs ignores the latents. What reads text as it is, and what takes time and
memory, was measured all the same.
"""

import pytest

from intuitive.lclm import results

RATIOS = (4, 8, 16)


@pytest.fixture(scope="module")
def found() -> results.Smol:
    return results.smollm().values


def test_three_seeds_and_a_control(found):
    made = [(run.control, run.seed) for run in found.training]
    assert sorted(made) == [(False, 0), (False, 1), (False, 2), (True, 0)]
    assert min(run.steps for run in found.training if not run.control) > 2000


def test_the_decoder_ignores_the_latents(found):
    """It reads back as much at 16 tokens per latent as at 4: what it guesses without them."""
    shares = [found.extent("reconstruction", "right", texts="prose", ratio=r) for r in RATIOS]
    means = [mean for mean, *_ in shares]
    assert max(means) - min(means) < 0.01
    assert all(0.35 < mean < 0.37 for mean in means)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("texts", ["prose", "docs", "code"])
def test_truncation_is_better_at_equal_positions(found, texts, ratio):
    for tail in ("", " + tail"):
        compressed = found.extent(
            "continuations", "perplexity", texts=texts, arm=f"compressed {ratio}{tail}"
        )
        truncated = found.extent(
            "continuations",
            "perplexity",
            texts=texts,
            arm=f"truncated to {ratio}{tail}",
            adaptation="shared",
        )
        assert truncated[2] < compressed[1]


def test_little_of_the_gap_is_closed(found):
    assert all(0.05 < share < 0.3 for share in found.gap_closed(4).values())


def test_the_raw_chunk_answers_and_the_latents_do_not(found):
    for row in found.maps:
        if row.ratio > 1:
            assert row.value["oracle"] > 0.95
            assert row.value["alone"] < 0.2
            assert row.where < 0.3 < row.where_lexical


def test_a_long_prompt_is_read_sooner_and_in_less_memory(found):
    rows = {(row.arm, row.tokens): row for row in found.costs}
    raw = rows["raw", 8192]
    faster = [rows[f"compressed {ratio}", 8192].times_faster for ratio in RATIOS]
    assert faster == sorted(faster)
    assert faster[0] > 2
    assert faster[-1] > 4
    for ratio in RATIOS:
        row = rows[f"compressed {ratio}", 8192]
        assert row.ttft_ms * row.times_faster == pytest.approx(raw.ttft_ms, rel=1e-3)
        assert row.peak_mib < 0.5 * raw.peak_mib
        assert rows[f"compressed {ratio}", 1024].times_faster < 1


def test_one_setting_is_asked_for_at_a_time(found):
    with pytest.raises(ValueError, match="fits 9 rows of continuations"):
        found.extent("continuations", "perplexity", arm="compressed 4")
