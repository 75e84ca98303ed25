"""What the committed run on SmolLM2 shows, and that a little of it comes out again.

It measured ten held-out texts, two of each of five files, with the indexers of three seeds. Ranges
of means are over these seeds; what holds in every text is said so.
"""

import copy
import math

import lsa_smollm
import pytest
import smollm_slice

from intuitive.common import records
from intuitive.common.smollm import load_smollm2
from intuitive.lsa import results

PLAIN = {"lookahead": 64, "lag": 0, "layers": None}
LSA = {"arm": "lsa", "rule": "budget", "size": 8, "lag": 0, "layers": None}


@pytest.fixture(scope="module")
def values():
    return records.load(lsa_smollm.helpers.RESULTS / "lsa_smollm.json")[0]


def found():
    return results.smollm().values


def perplexity(**fields):
    return pytest.approx(found().extent("perplexity_returned", **fields), abs=0.006)


# ------------------------------------------------------------------------------- it is ours


def test_the_shipped_recordings_give_the_committed_numbers(values):
    assert smollm_slice.recordings_differ(values) == []
    assert results.smollm().made.config_hash == records.config_hash(lsa_smollm.Plan())


def test_a_difference_is_found(values):
    other = copy.deepcopy(values)
    other["recordings"]["alice"]["kept"] += 0.02
    other["recordings"]["lease"]["steps"] += 1
    about_alice, about_lease = smollm_slice.recordings_differ(other)
    assert (
        about_alice.startswith("alice: kept 0.22")
        and about_lease == "lease: 212 steps and 101 chunks"
    )


@pytest.mark.model
@pytest.mark.slow
def test_a_lesson_text_recorded_again_gives_the_committed_numbers(values):
    assert smollm_slice.lease_differs(values, load_smollm2()) == []


@pytest.mark.model
@pytest.mark.sweep
def test_the_first_held_out_text_read_again_gives_the_committed_numbers(values):
    assert smollm_slice.heldout_differs(values, lsa_smollm.Plan(), load_smollm2()) == []


def test_policies_of_the_rows_are_those_of_the_script(values):
    """The slice reads back from the file what the script measured."""
    indexers = smollm_slice.load_indexers()
    bench = object.__new__(lsa_smollm.Bench)
    bench.plan, bench.targets = lsa_smollm.Plan(), indexers.config.memory_layers
    rows = [row for row in values["arms"] if row["seed"] == 0]
    of_rows = [smollm_slice.policy_in(row, indexers) for row in rows]
    assert of_rows == bench.policies(indexers, 0, 0)


# ------------------------------------------------------------------------------- the findings


def test_ten_texts_of_five_files_were_measured():
    assert {point.texts for point in found().arms} == {10}
    assert len(found().heldout) == 10 == results.smollm().made.config["n_heldout"]
    assert len(set(found().heldout)) == 5 and found().heldout[:5] == found().heldout[5:]
    assert {point.seed for point in found().select(arm="lsa")} == {0, 1, 2}
    for point in found().arms:
        logs = [math.log(each) for each in point.perplexity_returned_each]
        mean = math.exp(sum(logs) / len(logs))
        assert len(logs) == 10 and mean == pytest.approx(point.perplexity_returned, rel=1e-3)


AT_EIGHT = {"rule": "budget", "size": 8, **PLAIN}


def test_returning_passages_at_a_budget_of_eight_chunks():
    assert perplexity(arm="everything") == (1.29, 1.29)
    assert perplexity(arm="oracle", **AT_EIGHT) == (1.31, 1.31)
    assert perplexity(arm="lsa", **AT_EIGHT) == (1.88, 1.92)
    assert perplexity(arm="recency", **AT_EIGHT) == (3.28, 3.28)
    assert perplexity(arm="quest", **AT_EIGHT) == (2.77, 2.77)
    assert perplexity(arm="random", **AT_EIGHT) == (3.04, 3.11)


@pytest.mark.parametrize(
    ("arm", "least", "most"),
    [("everything", 1.18, 1.46), ("oracle", 1.22, 1.51), ("lsa", 1.56, 2.58),
     ("recency", 2.75, 5.38), ("quest", 2.29, 4.20), ("random", 2.47, 4.93)],
)  # fmt: skip
def test_how_far_texts_differ(arm, least, most):
    at = {} if arm == "everything" else AT_EIGHT
    lows, highs = zip(*found().by_text(arm=arm, **at), strict=True)
    assert (min(lows), max(highs)) == pytest.approx((least, most), abs=0.006)


@pytest.mark.parametrize("size", [4, 8, 16])
def test_each_seed_beats_recency_quest_and_random_in_every_text(size):
    """And stays far from the oracle on the mean."""

    def of(arm):
        return {"arm": arm, "rule": "budget", "size": size, **PLAIN}

    for arm in ("recency", "quest", "random"):
        pairs = zip(found().by_text(**of("lsa")), found().by_text(**of(arm)), strict=True)
        assert all(ours[1] < theirs[0] for ours, theirs in pairs), arm
    least = found().extent("perplexity_returned", **of("lsa"))[0]
    assert least > 1.28 * found().extent("perplexity_returned", **of("oracle"))[1]


def test_page_bounds_hold_most_attention_and_fewer_of_the_needed_chunks():
    """Attention that is there and attention that is needed are two things."""
    mass = {arm: found().extent("mass_recall", arm=arm, **AT_EIGHT) for arm in ("lsa", "quest")}
    golden = {arm: found().extent("golden_recall", arm=arm, **AT_EIGHT) for arm in ("lsa", "quest")}
    assert mass["quest"][0] == pytest.approx(0.91, abs=0.005)
    assert mass["lsa"] == pytest.approx((0.86, 0.86), abs=0.005)
    assert golden["quest"][1] == pytest.approx(0.22, abs=0.005)
    assert golden["lsa"] == pytest.approx((0.46, 0.47), abs=0.005)


def test_training_hardly_raises_recall_over_its_start():
    """The start is the layer's own key projection, so that alike chunks score high."""
    trained = found().training
    assert [one.from_random for one in trained] == [False] * 3
    assert [one.recall_at_start for one in trained] == pytest.approx([0.437] * 3, abs=5e-4)
    best = sorted(one.best_recall for one in trained)
    assert best == pytest.approx([0.439, 0.441, 0.450], abs=5e-4)
    for one in trained:
        assert 0 < one.best_recall - one.recall_at_start < 0.014
        assert one.loss_last < 0.3 * one.loss_first  # though the loss falls


def test_from_random_weights_training_does_not_get_as_far_as_the_start():
    one = found().from_random
    assert one.from_random and one.best_step == 400  # it was still rising
    assert one.recall_at_start == pytest.approx(0.090, abs=5e-4)
    assert one.best_recall == pytest.approx(0.333, abs=5e-4)
    assert one.best_recall < found().training[0].recall_at_start - 0.1


@pytest.mark.parametrize(
    ("lookahead", "least", "most", "copied"),
    [(8, 1.50, 1.61, 30.4), (16, 1.50, 1.58, 20.0), (32, 1.62, 1.67, 11.6), (64, 1.88, 1.92, 6.8),
     (128, 2.43, 2.46, 3.7)],
)  # fmt: skip
def test_longer_windows_copy_less_and_find_less(lookahead, least, most, copied):
    at = LSA | {"lookahead": lookahead}
    assert perplexity(**at) == (least, most)
    points = found().select(**at)
    mean = sum(point.chunks_copied_per_64_steps for point in points) / len(points)
    assert mean == pytest.approx(copied, abs=0.06)


def test_a_decision_one_window_late_is_worth_hardly_more_than_chance():
    late = found().extent("perplexity_returned", **LSA | {"lookahead": 64, "lag": 1})
    chance = found().extent("perplexity_returned", arm="random", size=8)
    assert late == pytest.approx((3.01, 3.05), abs=0.006)
    assert chance[0] - 0.04 < late[0] and late[1] < chance[1]
    golden = found().extent("golden_recall", **LSA | {"lookahead": 64, "lag": 1})
    assert golden == pytest.approx((0.17, 0.19), abs=0.006)


@pytest.mark.parametrize(
    ("threshold", "kept", "least", "most"),
    [
        (0.3, (0.60, 0.61), 1.39, 1.41),
        (0.5, (0.29, 0.30), 1.56, 1.63),
        (0.7, (0.10, 0.11), 1.95, 2.04),
    ],
)
def test_thresholds(threshold, kept, least, most):
    at = {"arm": "lsa", "rule": "threshold", "threshold": threshold, **PLAIN}
    assert perplexity(**at) == (least, most)
    assert found().extent("kept", **at) == pytest.approx(kept, abs=0.006)


def test_one_layer_does_nearly_as_well_as_three():
    ranges = {
        layers: found().extent("perplexity_returned", **LSA | {"lookahead": 64, "layers": layers})
        for layers in (1, 2, None)
    }
    assert ranges[1] == pytest.approx((1.93, 2.00), abs=0.006)
    assert ranges[2] == pytest.approx((1.92, 1.93), abs=0.006)
    assert ranges[None][1] < ranges[1][0] < 1.05 * ranges[None][0]


def test_fetching_on_demand_loses_nothing_and_copies_twice_as_much():
    (exact,) = found().select(arm="reactive")
    assert exact.perplexity_returned == found().select(arm="everything")[0].perplexity_returned
    assert exact.chunks_copied_per_64_steps == pytest.approx(13.7, abs=0.06)
    copied = found().extent("chunks_copied_per_64_steps", **LSA | {"lookahead": 64})
    assert 1.9 < exact.chunks_copied_per_64_steps / copied[1] < 2.1


def test_settings_that_are_not_one_are_refused():
    with pytest.raises(ValueError, match="fits 0 settings"):
        found().extent("kept", arm="magic")
    with pytest.raises(ValueError, match="fits 3 settings"):
        found().extent("kept", arm="random")
