"""What the committed run on SmolLM2 shows, and that a little of it comes out again.

It measured one held-out text with the indexers of three seeds: ranges below are over these seeds,
and say nothing of other texts.
"""

import copy

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
def test_the_held_out_text_read_again_gives_the_committed_numbers(values):
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


def test_one_text_was_measured_of_twelve():
    assert {point.texts for point in found().arms} == {1}
    assert results.smollm().made.config["n_heldout"] == 12
    assert {point.seed for point in found().select(arm="lsa")} == {0, 1, 2}
    assert found().from_random is None  # the time was over


def test_returning_passages_at_a_budget_of_eight_chunks():
    at = {"rule": "budget", "size": 8, **PLAIN}
    assert perplexity(arm="everything") == (1.30, 1.30)
    assert perplexity(arm="oracle", **at) == (1.34, 1.34)
    assert perplexity(arm="lsa", **at) == (1.85, 2.13)
    assert perplexity(arm="recency", **at) == (2.27, 2.27)
    assert perplexity(arm="quest", **at) == (2.40, 2.40)
    assert perplexity(arm="random", **at) == (2.46, 2.69)


@pytest.mark.parametrize("size", [4, 8, 16])
def test_each_seed_beats_recency_quest_and_random_and_stays_far_from_the_oracle(size):
    def of(arm):
        return found().extent("perplexity_returned", arm=arm, rule="budget", size=size, **PLAIN)

    least, most = of("lsa")
    assert most < min(of(arm)[0] for arm in ("recency", "quest", "random"))
    assert least > 1.28 * of("oracle")[1]


def test_page_bounds_hold_most_attention_and_help_least_with_what_returns():
    """Attention that is there and attention that is needed are two things."""
    at = {"rule": "budget", "size": 8, **PLAIN}
    mass = {arm: found().extent("mass_recall", arm=arm, **at)[1] for arm in ("lsa", "quest")}
    golden = {arm: found().extent("golden_recall", arm=arm, **at) for arm in ("lsa", "quest")}
    assert mass["quest"] > mass["lsa"] + 0.04
    assert golden["quest"][1] < golden["lsa"][0]


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


@pytest.mark.parametrize(
    ("lookahead", "least", "most", "copied"),
    [(8, 1.62, 1.85, 15.7), (16, 1.61, 1.75, 10.1), (32, 1.71, 1.92, 5.4), (64, 1.85, 2.13, 3.5),
     (128, 2.31, 2.61, 1.8)],
)  # fmt: skip
def test_longer_windows_copy_less_and_find_less(lookahead, least, most, copied):
    at = LSA | {"lookahead": lookahead}
    assert perplexity(**at) == (least, most)
    points = found().select(**at)
    mean = sum(point.chunks_copied_per_64_steps for point in points) / len(points)
    assert mean == pytest.approx(copied, abs=0.06)


def test_a_decision_one_window_late_is_worth_no_more_than_chance():
    late = found().extent("perplexity_returned", **LSA | {"lookahead": 64, "lag": 1})
    chance = found().extent("perplexity_returned", arm="random", size=8)
    assert late == pytest.approx((2.47, 2.70), abs=0.006)
    assert late[0] > chance[0] and late[1] > chance[1]
    assert found().extent("golden_recall", **LSA | {"lookahead": 64, "lag": 1})[1] < 0.14


@pytest.mark.parametrize(
    ("threshold", "kept", "least", "most"),
    [
        (0.3, (0.61, 0.64), 1.30, 1.46),
        (0.5, (0.29, 0.33), 1.50, 1.72),
        (0.7, (0.09, 0.13), 1.80, 2.10),
    ],
)
def test_thresholds(threshold, kept, least, most):
    at = {"arm": "lsa", "rule": "threshold", "threshold": threshold, **PLAIN}
    assert perplexity(**at) == (least, most)
    assert found().extent("kept", **at) == pytest.approx(kept, abs=0.006)


def test_one_layer_does_as_well_as_three():
    ranges = {
        layers: found().extent("perplexity_returned", **LSA | {"lookahead": 64, "layers": layers})
        for layers in (1, 2, None)
    }
    assert ranges[1] == pytest.approx((1.83, 2.22), abs=0.006)
    assert ranges[2] == pytest.approx((1.88, 2.20), abs=0.006)
    for least, most in ranges.values():  # each range meets each other one
        assert all(least < other[1] and most > other[0] for other in ranges.values())


def test_fetching_on_demand_loses_nothing_and_copies_three_times_as_much():
    (exact,) = found().select(arm="reactive")
    assert exact.perplexity_returned == found().select(arm="everything")[0].perplexity_returned
    copied = found().extent("chunks_copied_per_64_steps", **LSA | {"lookahead": 64})
    assert 3.1 < exact.chunks_copied_per_64_steps / copied[1] < 3.5


def test_settings_that_are_not_one_are_refused():
    with pytest.raises(ValueError, match="fits 0 settings"):
        found().extent("kept", arm="magic")
    with pytest.raises(ValueError, match="fits 3 settings"):
        found().extent("kept", arm="random")
