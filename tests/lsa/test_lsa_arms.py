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
