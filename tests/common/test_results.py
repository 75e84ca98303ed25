"""Committed results: typed, kept, and refused in words."""

import json
import re
from dataclasses import dataclass

import pytest

from intuitive.common import records, results


@dataclass(frozen=True)
class Pair:
    left: int
    right: tuple[float, ...]


@pytest.fixture
def committed(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "path", lambda name: tmp_path / f"{name}.json")
    results.load.cache_clear()
    made = {"config": {"size": 2}, "commit": "0" * 40, "seed": 5}
    records.save(tmp_path / "pair.json", {"left": 1, "right": [0.5], "more": 0}, **made)
    yield tmp_path / "pair.json"
    results.load.cache_clear()


def test_values_are_typed_and_read_once(committed):
    found = results.load("pair", Pair)
    assert found.values == Pair(1, (0.5,))
    assert found.made.seed == 5
    assert results.load("pair", Pair) is found


def test_an_edited_config_is_refused(committed):
    saved = json.loads(committed.read_text())
    saved["made"]["config"]["size"] = 3
    committed.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match="changed after the run"):
        results.load("pair", Pair)


def test_an_unknown_name_lists_those_there_are(committed):
    with pytest.raises(FileNotFoundError, match="no committed result 'pear'; there are pair"):
        results.load("pear", Pair)


def test_another_type_names_the_command(committed):
    saved = json.loads(committed.read_text())
    saved["values"]["left"] = "one"
    committed.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"does not hold a Pair.*Run its command again: "):
        results.load("pair", Pair)


def test_a_run_named_by_its_card_is_found_and_there_is_one(committed):
    for name in ("run_small", "run_more_h100", "run_h200"):
        committed.with_name(f"{name}.json").write_bytes(committed.read_bytes())
    assert results.of_a_card("run") == "run_h200"
    committed.rename(committed.with_name("run_h100.json"))
    with pytest.raises(ValueError, match="run_h100, run_h200 are results of one run: keep the new"):
        results.of_a_card("run")
    with pytest.raises(FileNotFoundError, match="no committed result walk_<card>; there are run_"):
        results.of_a_card("walk")


NOTHING_DRAWN = {"generation_h200"}  # the likeliest tokens of a trained model after a given text


@pytest.mark.parametrize("name", results.names())
def test_every_committed_result_says_how_it_was_made(name):
    """Command, commit, config with its hash, and the seeds of all that was drawn."""
    found = results.load(name, dict)  # refuses a config that does not hash to what the file says
    made = found.made
    assert found.values
    assert re.fullmatch("[0-9a-f]{40}", made.commit)
    assert any(word.endswith(".py") for word in made.command)
    assert made.config_hash == records.config_hash(made.config)
    if name in NOTHING_DRAWN:
        assert made.seed is None
        return
    assert isinstance(made.seed, int) or (made.seed and all(isinstance(s, int) for s in made.seed))
