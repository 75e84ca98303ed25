"""The script of the miniatures: its arms, its files, and what its committed run found."""

import json
import sys

import lclm_miniature
import msgspec
import pytest

from intuitive.common import records
from intuitive.lclm import results


@pytest.fixture(scope="module")
def found():
    return results.miniatures().values


# ------------------------------------------------------------------------------- the script


def test_arms_of_a_part_differ_and_seeds_have_the_same_arms():
    plan = lclm_miniature.Plan()
    for name, arms in lclm_miniature.PARTS.items():
        first, second = (list(arms(plan, seed)) for seed in (0, 1))
        assert len(first) == len(set(first)) == len(second), name
        assert {arm.seed for arm in first} == {0} and {arm.seed for arm in second} == {1}


@pytest.mark.slow
def test_all_parts_at_a_tiny_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks/lclm_miniature.py", "--small"])
    assert lclm_miniature.main(["--small", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "FAILED" not in said
    for part in lclm_miniature.PARTS:
        assert f"{part}: " in said and (tmp_path / f"lclm_miniature_{part}.json").is_file()
    assert lclm_miniature.main(["--collect", str(tmp_path), "--out", str(tmp_path)]) == 0
    values, made = records.load(tmp_path / "lclm_miniature.json")
    kept = msgspec.convert(values, results.Miniatures)
    assert set(kept.parts) == set(lclm_miniature.PARTS) == {point.part for point in kept.points}
    assert kept.parts["small"].command == "lclm_miniature.py --small"
    small = json.loads(
        json.dumps(lclm_miniature.helpers.rounded(lclm_miniature.small_plan(), digits=6))
    )
    assert made["config"]["sweep"] == small
    (raw, *_) = kept.select(study="raw")
    assert raw.training == "scratch" and raw.reader == "raw"


def test_time_that_is_up_leaves_arms_out_and_still_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks/lclm_miniature.py", "--small"])
    options = ["--small", "--part", "plateau", "--seconds", "0", "--out", str(tmp_path)]
    assert lclm_miniature.main(options) == 0
    values, _ = records.load(tmp_path / "lclm_miniature_plateau.json")
    assert "left out" in capsys.readouterr().out
    arms = list(lclm_miniature.PARTS["plateau"](lclm_miniature.small_plan(), 0))
    assert len(values["points"]) < len(arms)


def test_collecting_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no lclm_miniature_\*.json"):
        lclm_miniature.collect([tmp_path], tmp_path)
