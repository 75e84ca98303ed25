"""The comparison of residency policies: its script, and what its committed run found."""

import dataclasses
import sys

import lsa_arms
import lsa_sweeps
import msgspec
import pytest

from intuitive.common import records
from intuitive.lsa import results, shipped
from intuitive.lsa.arms import ARMS


@pytest.fixture(scope="module")
def found():
    return results.arms().values


def values(found, sweep, measure, **fields):
    """A measure of every seed of one setting."""
    points = found.select(sweep, **fields)
    assert [point.seed for point in points] == [0, 1, 2], fields
    return [getattr(point, measure) for point in points]


# ------------------------------------------------------------------------------- the script


def test_a_slice_of_the_committed_result_comes_out_again():
    assert lsa_arms.compare_slice(lsa_arms.helpers.RESULTS) == []


@pytest.mark.slow
def test_all_stages_at_a_tiny_size(tmp_path, monkeypatch, capsys):
    whole = lsa_sweeps.sweeps

    def few(plan):
        return {
            name: [(change, how) for change, how in pairs if how.arm in ("lsa", "random")][:3]
            for name, pairs in whole(plan).items()
            if name in ("arms", "length")
        }

    monkeypatch.setattr(lsa_sweeps, "sweeps", few)
    options = ["--small", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmarks/lsa_arms.py", *options])
    assert lsa_arms.main() == 0
    assert "Mean (range) over seeds" in capsys.readouterr().out
    kept, made = records.load(tmp_path / "lsa_arms.json")
    found = msgspec.convert(kept, results.LSAArms)
    assert msgspec.convert(made["config"], lsa_sweeps.Plan) == lsa_sweeps.small_plan()
    assert set(found.indexers.focal_loss) == {"0", "1"} and found.indexers.documents == 12
    assert {(p.seed, p.length) for p in found.points["length"]} == {(0, 2.0), (1, 2.0)}
    assert found.exactness.everything_resident_is_unrestricted
    assert found.training.made.command == "lsa_arms.py --small"  # without where files went
    back = shipped.load(tmp_path / shipped.TOPICAL)
    assert list(back.by_seed) == [0, 1]
    assert {file.stem for file in tmp_path.glob("*.npz")} == {
        "topical", "local", "dense", "topical_2x",
    }  # fmt: skip


def test_sweeps_differ_in_what_they_sweep_alone():
    plan = lsa_sweeps.Plan()
    found = lsa_sweeps.sweeps(plan)
    assert {how.arm for _, how in found["arms"]} == set(ARMS)
    for name, pairs in found.items():
        assert len({(tuple(change.items()), how) for change, how in pairs}) == len(pairs), name
    for name in ("threshold", "lookahead"):
        alike = {
            dataclasses.replace(how, **{name: 0.5 if name == "threshold" else 64}, arm="lsa", lag=0)
            for _, how in found[name]
        }
        assert alike == {plan.policy}
    assert {change.get("length") for change, _ in found["length"]} == {2, 4}


# ------------------------------------------------------------------------------ the findings

BLIND = ("recency", "random", "quest")  # arms that know nothing of what comes
THRESHOLD = {"rule": "threshold", "threshold": 0.5}


def test_the_decoder_knows_its_task_and_loses_nothing_to_selecting(found):
    assert found.training.accuracy["finetune"][-1] > 0.99  # CSA layers select by then
    exact = found.exactness
    assert exact.everything_resident_is_unrestricted
    assert exact.unrestricted_accuracy > 0.99
    assert exact.reactive_accuracy == exact.unrestricted_accuracy
    assert exact.live_sets_differ < 0.03
    assert abs(exact.live_accuracy - exact.replayed_accuracy) < 0.05


def test_every_seed_of_indexers_had_the_same_training(found):
    assert set(found.indexers.focal_loss) == {"0", "1", "2"}
    losses = found.indexers.focal_loss.values()
    assert len({len(loss) for loss in losses}) == 1
    assert all(sum(loss[-5:]) < 0.7 * 5 * loss[0] for loss in losses)
    assert list(shipped.topical().by_seed) == [0, 1, 2]


@pytest.mark.parametrize("size", [32, 48, 64, 96, 128, 192, 256])
def test_lsa_beats_what_knows_nothing_at_equal_room(found, size):
    """In every seed, by a factor of two while no more than a quarter of the old chunks is there."""
    ours = values(found, "budget", "accuracy", arm="lsa", size=size)
    shares = values(found, "budget", "kept", arm="lsa", size=size)
    for arm in BLIND:
        theirs = values(found, "budget", "accuracy", arm=arm, size=size)
        assert values(found, "budget", "kept", arm=arm, size=size) == shares
        factor = 2 if max(shares) < 0.26 else 1.4
        assert all(a > factor * b for a, b in zip(ours, theirs, strict=True)), arm


def test_lsa_is_far_from_what_its_room_would_allow(found):
    """At a threshold of 0.5 the indexer misses about half of what comes; here LSA costs answers."""
    assert min(values(found, "arms", "accuracy", arm="oracle")) == 1
    assert max(values(found, "arms", "kept", arm="lsa")) < 0.16
    assert min(values(found, "arms", "golden_recall", arm="lsa")) > 0.45
    assert max(values(found, "arms", "golden_recall", arm="lsa")) < 0.65
    assert 0.5 < found.mean("arms", "accuracy", arm="lsa") < 0.7
    assert min(values(found, "budget", "accuracy", arm="oracle", size=32)) > 0.99
    assert max(values(found, "budget", "accuracy", arm="lsa", size=192)) < 0.9


def test_quest_foresees_no_more_than_chance(found):
    """Bounds of the keys tell what the token before the window reads, not what the window will."""
    for size in (32, 64, 128):
        chance = found.mean("budget", "accuracy", arm="random", size=size)
        assert abs(found.mean("budget", "accuracy", arm="quest", size=size) - chance) < 0.03


def test_reactive_is_exact_and_moves_many_times_the_bytes(found):
    assert values(found, "arms", "accuracy", arm="reactive") == [1, 1, 1]
    ours = values(found, "arms", "bytes_per_token", arm="lsa")
    theirs = values(found, "arms", "bytes_per_token", arm="reactive")
    assert all(b > 25 * a for a, b in zip(ours, theirs, strict=True))


def test_a_decision_that_comes_a_window_late_is_worth_nothing(found):
    """Sections are as long as the lookahead: a late set serves the topic before."""
    how = {"arm": "lsa", "lookahead": 64}
    late = values(found, "lookahead", "accuracy", lag=1, **how)
    assert max(late) < min(values(found, "lookahead", "accuracy", lag=0, **how)) / 2
    assert max(late) < max(values(found, "arms", "accuracy", arm="random"))
    for tau, least in ((8, 0.9), (64, 0.7)):  # most of the oracle's loss is the first window
        late = found.mean("lookahead", "accuracy", arm="oracle", lookahead=tau, lag=1)
        assert least < late < 1


def test_the_lookahead_of_training_is_the_best(found):
    """At one threshold, of which shorter windows keep less.

    Between headers the tokens tell little of the topic; longer windows hold two topics.
    """
    how = {"arm": "lsa", "lag": 0}
    best = values(found, "lookahead", "accuracy", lookahead=64, **how)
    for tau in (8, 16, 32, 128):
        other = values(found, "lookahead", "accuracy", lookahead=tau, **how)
        assert all(a > b for a, b in zip(best, other, strict=True)), tau
    moved = [
        found.mean("lookahead", "bytes_per_token", lookahead=tau, **how)
        for tau in (8, 16, 32, 64, 128)
    ]
    assert moved == sorted(moved, reverse=True)


def test_pages_waste_room(found):
    pages = values(found, "pages", "accuracy", size=16)
    chunks = values(found, "budget", "accuracy", arm="lsa", size=64)
    assert all(a < 0.75 * b for a, b in zip(pages, chunks, strict=True))
    assert found.mean("pages", "kept", size=16) > found.mean("budget", "kept", arm="lsa", size=64)


def test_joined_layers_keep_more_and_find_more(found):
    one, two = ({"sweep": "layers", "layers": n} for n in (1, 2))
    three = {"sweep": "arms", "arm": "lsa"}
    for measure in ("kept", "golden_recall", "accuracy"):
        few, some, all_three = (values(found, measure=measure, **how) for how in (one, two, three))
        assert all(a < b < c for a, b, c in zip(few, some, all_three, strict=True)), measure


def test_probabilities_hardly_leave_the_middle(found):
    """Focal loss with labels that cannot be foreseen makes unsure indexers."""
    assert min(values(found, "threshold", "kept", arm="lsa", threshold=0.3)) > 0.95
    assert max(values(found, "threshold", "kept", arm="lsa", threshold=0.7)) < 0.01
    kept = [
        found.mean("threshold", "kept", arm="lsa", threshold=t) for t in (0.3, 0.4, 0.45, 0.55, 0.6)
    ]
    assert kept == sorted(kept, reverse=True)


def test_room_that_does_not_grow_with_the_text_is_soon_too_small_for_lsa(found):
    """Though not for the oracle: what a window needs stays the same."""
    one = values(found, "budget", "accuracy", arm="lsa", size=96)
    two, four = (
        values(found, "length", "accuracy", arm="lsa", rule="budget", length=n) for n in (2.0, 4.0)
    )
    assert all(a > b > c for a, b, c in zip(one, two, four, strict=True))
    assert found.mean("length", "accuracy", arm="lsa", rule="budget", length=4.0) < 0.3
    best = values(found, "length", "accuracy", arm="oracle", rule="budget", length=4.0)
    assert min(best) > 0.99


def test_a_threshold_keeps_a_share_so_that_room_and_bytes_grow_with_the_text(found):
    how = {"arm": "lsa", "rule": "threshold"}
    for n in (2.0, 4.0):
        assert found.mean("length", "kept", length=n, **how) > 0.1
        accuracy = found.mean("length", "accuracy", length=n, **how)
        assert abs(accuracy - found.mean("arms", "accuracy", arm="lsa")) < 0.12
    one = found.mean("arms", "bytes_per_token", arm="lsa")
    assert found.mean("length", "bytes_per_token", length=4.0, **how) > 2.5 * one


def test_where_any_record_may_be_asked_for_lsa_is_no_better_than_chance(found):
    """It still finds more golden chunks, which answer nothing: recall alone would mislead."""
    how = {"mode": "dense", "rule": "threshold"}
    ours, chance = (found.mean("mode", "accuracy", arm=arm, **how) for arm in ("lsa", "random"))
    assert abs(ours - chance) < 0.05
    ours, chance = (
        found.mean("mode", "golden_recall", arm=arm, **how) for arm in ("lsa", "random")
    )
    assert ours > 1.5 * chance
    how = {"mode": "dense", "rule": "budget"}
    for size in (32, 64, 128, 256):
        ours, newest = (
            found.mean("mode", "accuracy", arm=arm, size=size, **how) for arm in ("lsa", "recency")
        )
        assert abs(ours - newest) < 0.05


def test_where_the_history_is_not_needed_any_arm_answers(found):
    """However little of the golden chunks and of the mass it has."""
    points = found.select("mode", mode="local")
    assert min(point.accuracy for point in points) > 0.99
    assert min(point.golden_recall for point in points) < 0.1
    assert max(values(found, "mode", "golden_recall", mode="local", arm="lsa", size=None)) < 0.4


SURPRISES = [{"offset": 16}, {"offset": 32}, {"section": 32}, {"section": 16}]


@pytest.mark.parametrize("change", SURPRISES, ids=str)
def test_a_topic_that_changes_within_the_window_is_a_surprise(found, change):
    """To LSA, which then finds little more than chance does; not to the oracle."""
    how = {"section": 64, "offset": 0} | change
    ours, chance, best = (
        found.mean("surprise", "accuracy", arm=arm, **how) for arm in ("lsa", "random", "oracle")
    )
    assert ours < 0.65 * found.mean("arms", "accuracy", arm="lsa")
    assert chance < ours < chance + 0.2
    assert best == 1
