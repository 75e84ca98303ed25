"""What the committed runs of the pair around SmolLM2 found: it spells, and it does not go on.

Text is read back from its latents, exactly where they are asked for something; a text that goes on
without asking hardly uses them.
"""

import dataclasses

import pytest

from intuitive.lclm import results

RATIOS = (4, 8, 16)
PAIR_SECONDS = 195
SHARED = {"texts": "prose", "adaptation": "shared"}


@pytest.fixture(scope="module")
def found() -> results.Smol:
    return results.smollm().values


def spread(found, table, measure, **fields):
    """Least and greatest value over the three seeds."""
    rows = getattr(found, table)
    seeds = {r.seed for r in rows if all(getattr(r, k) == v for k, v in fields.items())}
    assert seeds == {0, 1, 2}
    return found.extent(table, measure, **fields)[1:]


def test_three_seeds_of_three_minutes_and_a_control_of_as_many_steps(found):
    made = [(run.control, run.seed) for run in found.training]
    assert sorted(made) == [(False, 0), (False, 1), (False, 2), (True, 0)]
    pairs = [run for run in found.training if not run.control]
    assert all(run.seconds == pytest.approx(PAIR_SECONDS, abs=1) for run in pairs)
    assert {run.seed: run.steps for run in pairs} == {0: 1473, 1: 862, 2: 1484}
    (control,) = (run for run in found.training if run.control)
    assert control.steps == 1473


def test_how_each_part_was_made_is_told(found):
    assert set(found.parts) == {"pair", "control", "longer"}
    made = results.smollm().made
    assert found.parts["pair"].command == " ".join(made.command)
    assert (found.parts["pair"].commit, found.parts["pair"].device) == (made.commit, made.device)
    assert " --control --steps 1473 " in found.parts["control"].command


def test_a_longer_training_of_the_first_seed_stands_apart(found):
    slow, first, third, longer = found.by_steps()
    assert [one.steps for one in (slow, first, third, longer)] == [862, 1473, 1484, 1824]
    assert longer.seed == first.seed == found.longer.training.seed == 0
    rows = [row for row in found.reconstruction if (row.seed, row.texts) == (0, "prose")]
    assert {row.ratio: row.right for row in rows} == first.right != longer.right


def test_more_steps_help_at_first_and_then_hardly(found):
    """To go on; what is said again at 4 still gains a little."""
    slow, first, _, longer = found.by_steps()
    for ratio in RATIOS:
        assert first.gap[ratio] > slow.gap[ratio] + 0.05
        assert abs(longer.gap[ratio] - first.gap[ratio]) < 0.02
        assert abs(longer.over_cut[ratio] - first.over_cut[ratio]) < 0.01
        assert first.right[ratio] + 0.01 < longer.right[ratio] < first.right[ratio] + 0.03


def test_without_a_longer_training_there_is_none_to_ask_for(found):
    with pytest.raises(ValueError, match="no longer training"):
        dataclasses.replace(found, longer=None).gap_closed(4, longer=True)


def test_latents_are_as_long_as_word_embeddings(found):
    for run in found.training:
        if not run.control:
            last = run.curve[-1]
            assert 0.7 < last["latent rms"] / last["token rms"] < 1


@pytest.mark.parametrize(("ratio", "low", "high"), [(4, 0.79, 0.86), (8, 0.53, 0.62)])
def test_words_are_read_back(found, ratio, low, high):
    least, most = spread(found, "reconstruction", "right", texts="prose", ratio=ratio)
    assert low < least < most < high


def test_less_is_read_back_the_more_go_into_a_latent(found):
    shares = [spread(found, "reconstruction", "right", texts="prose", ratio=r) for r in RATIOS]
    assert shares[0][0] > shares[1][1] + 0.1 and shares[1][0] > shares[2][1] + 0.05
    assert 0.39 < shares[2][0] < shares[2][1] < 0.45
    assert shares[0][1] < 0.95, "the goal of 95% of the tokens is missed"


def test_what_is_read_back_comes_from_the_texts_own_latents(found):
    """With the latents of another text a fifth of the tokens is right."""
    for run in found.training:
        if not run.control:
            last = run.curve[-1]
            assert last["256/4 right"] > 0.8 and 0.19 < last["256/4 other right"] < 0.22


def test_names_and_numbers_are_read_back_as_words_are(found):
    for row in found.reconstruction:
        if row.texts == "docs" and row.ratio < 16:
            word = row.by_kind["word"].share
            assert row.by_kind["number"].tokens > 600
            assert row.by_kind["number"].share > word
            assert row.by_kind["name"].share > word - 0.02


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_fact_that_is_asked_for_is_found(found, ratio):
    asked = {"what": "fact", **SHARED}
    beads = spread(found, "far", "perplexity", arm=f"compressed {ratio}", **asked)
    cut = spread(found, "far", "perplexity", arm=f"truncated to {ratio}", **asked)
    assert beads[1] < {4: 0.12, 8: 0.45, 16: 0.85}[ratio] * cut[0]
    right = spread(found, "far", "all_right", arm=f"compressed {ratio}", **asked)
    none = spread(found, "far", "all_right", arm=f"truncated to {ratio}", **asked)
    assert right[0] > {4: 0.75, 8: 0.35, 16: 0.14}[ratio] and none[1] < 0.06


def test_a_passage_that_returns_is_known_again_at_four(found):
    again = {"what": "passage", **SHARED}
    beads, cut = (
        {
            ratio: spread(found, "far", "perplexity", arm=arm.format(ratio), **again)
            for ratio in RATIOS
        }
        for arm in ("compressed {}", "truncated to {}")
    )
    assert beads[4][1] < cut[4][0] / 3
    assert 0.75 * cut[8][0] < beads[8][0] < beads[8][1] < cut[8][0]
    assert beads[16][1] > cut[16][0]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("texts", ["prose", "docs", "code"])
def test_truncation_is_better_at_going_on(found, texts, ratio):
    fields = {"texts": texts, "adaptation": "shared"}
    for tail in ("", " + tail"):
        beads = spread(
            found, "continuations", "perplexity", arm=f"compressed {ratio}{tail}", **fields
        )
        cut = spread(
            found, "continuations", "perplexity", arm=f"truncated to {ratio}{tail}", **fields
        )
        assert cut[1] < beads[0]


def test_beads_before_raw_words_do_not_help_to_go_on_with_prose(found):
    """At 4 and 8 they cost: the 128 raw tokens alone are better, with every seed."""
    tail = {r.seed: r.perplexity for r in rows_of(found, "tail")}
    for ratio in RATIOS:
        for row in rows_of(found, f"compressed {ratio} + tail"):
            over = row.perplexity / tail[row.seed]
            assert 1 < over < 1.04 if ratio < 16 else 0.99 < over < 1.01


def rows_of(found, arm):
    return [
        row
        for row in found.continuations
        if (row.texts, row.adaptation, row.arm) == ("prose", "shared", arm)
    ]


def test_a_tenth_to_a_fifth_of_the_gap_is_closed_at_any_ratio(found):
    for ratio in RATIOS:
        gap = found.gap_closed(ratio)
        assert all(0.09 < share < 0.2 for share in gap.values())
        assert gap[1] < 0.7 * min(gap[0], gap[2]), "the seed of fewest steps has the least"


@pytest.mark.parametrize(
    ("ratio", "named", "alone", "own"),
    [
        (4, (0.67, 0.83), (0.86, 0.9), (0.85, 0.92)),
        (8, (0.45, 0.71), (0.4, 0.64), (0.63, 0.83)),
        (16, (0.19, 0.48), (0.14, 0.4), (0.28, 0.62)),
    ],
)
def test_chunks_are_named_and_words_that_come_back_are_read(found, ratio, named, alone, own):
    rows = [row for row in found.maps if row.ratio == ratio]
    assert {row.seed for row in rows} == {0, 1, 2}
    for row in rows:
        assert (row.questions, row.chunks) == (256, 8)
        assert named[0] < row.where < named[1]
        assert 0.11 < row.where_shuffled < 0.15, "shuffled latents fall to chance"
        assert alone[0] < row.value["alone"] < alone[1]
        assert own[0] < row.value["own"] < own[1]
        assert row.value["oracle"] > 0.9
        assert row.where_lexical == pytest.approx(0.82, abs=0.01)


def test_expand_adds_nothing_at_four_and_a_fifth_at_eight_and_sixteen(found):
    """The more is folded, the more the right words would add, and the harder they are to find."""

    def gained(ratio, what):
        rows = [row for row in found.maps if row.ratio == ratio]
        return sum(row.value[what] - row.value["alone"] for row in rows) / len(rows)

    assert abs(gained(4, "own")) < 0.03
    assert all(0.17 < gained(ratio, "own") < 0.22 for ratio in (8, 16))
    assert gained(4, "oracle") < 0.1 < 0.4 < gained(8, "oracle") < 0.5 < 0.65 < gained(16, "oracle")


def test_a_long_prompt_is_read_sooner_and_in_less_memory(found):
    rows = {(row.arm, row.tokens): row for row in found.costs}
    raw = rows["raw", 8192]
    faster = [rows[f"compressed {ratio}", 8192].times_faster for ratio in RATIOS]
    assert [round(times, 1) for times in faster] == [2.6, 3.7, 4.5]
    for ratio in RATIOS:
        row = rows[f"compressed {ratio}", 8192]
        assert row.ttft_ms * row.times_faster == pytest.approx(raw.ttft_ms, rel=1e-3)
        assert row.peak_mib < 0.5 * raw.peak_mib
        assert rows[f"compressed {ratio}", 1024].times_faster < 1


def test_one_setting_is_asked_for_at_a_time(found):
    with pytest.raises(ValueError, match="fits 9 rows of continuations"):
        found.extent("continuations", "perplexity", arm="compressed 4")
