"""Records come back as they went, and tell how they were made."""

import json
from dataclasses import dataclass, field

import pytest
import torch

from intuitive.common.records import LATER, config_hash, load, save


@dataclass(frozen=True)
class Curve:
    n_selected: tuple[int, ...]
    recall: tuple[float, ...]
    seed: int


CURVE = Curve(n_selected=(1, 2), recall=(0.5, 0.75), seed=0)


def test_a_record_comes_back(tmp_path):
    path = save(tmp_path / "deep" / "curve.json", CURVE, config={"width": 3}, device="cpu, 1")
    values, made = load(path)
    assert values == {"n_selected": [1, 2], "recall": [0.5, 0.75], "seed": 0}
    assert made["record"] == "Curve"
    assert made["config"] == {"width": 3}
    assert made["torch"] == torch.__version__
    assert made["device"] == "cpu, 1"
    assert made["command"]
    assert [file.name for file in path.parent.iterdir()] == ["curve.json"]


def test_the_command_names_no_place_on_this_machine(tmp_path, monkeypatch):
    words = ["--out", str(tmp_path / "a.json"), f"--folder={tmp_path / 'found'}", "-n", "3", "a/b"]
    monkeypatch.setattr("sys.argv", [str(tmp_path / "run.py"), *words, "x=1"])
    _, made = load(save(tmp_path / "x.json", CURVE))
    want = ["run.py", "--out", "a.json", "--folder=found", "-n", "3", "a/b", "x=1"]
    assert made["command"] == want


def test_the_hash_follows_the_values_only():
    assert config_hash(CURVE) == config_hash(
        {"seed": 0, "recall": (0.5, 0.75), "n_selected": [1, 2]}
    )
    assert config_hash({"width": 3}) != config_hash({"width": 4})


@pytest.mark.parametrize("value", [float("nan"), torch.zeros(2), {1, 2}], ids=str)
def test_what_json_cannot_hold_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"plain numbers.*Convert tensors"):
        save(tmp_path / "x.json", {"value": value})
    assert list(tmp_path.iterdir()) == []


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"x.txt' must end in .json"):
        save(tmp_path / "x.txt", CURVE)
    with pytest.raises(FileNotFoundError, match="run the experiment that writes it"):
        load(tmp_path / "none.json")
    (tmp_path / "odd.json").write_text("[1]")
    with pytest.raises(ValueError, match="is not a saved record"):
        load(tmp_path / "odd.json")
    path = save(tmp_path / "edited.json", CURVE, config={"width": 3})
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {}).replace('"width": 3', '"width": 4')
    )
    with pytest.raises(ValueError, match="it was changed after the run"):
        load(path)


def test_the_seed_is_kept_with_how_it_was_made(tmp_path, as_installed):
    for seed, kept in ((3, 3), ((0, 1), [0, 1])):
        _, made = load(save(tmp_path / "x.json", {"a": 1}, seed=seed))
        assert made["seed"] == kept
    with pytest.raises(ValueError, match=r"seed=0\.5 must be a whole number"):
        save(tmp_path / "x.json", {"a": 1}, seed=[0.5])


@dataclass(frozen=True)
class Grown(Curve):
    width: int | None = field(default=None, metadata={LATER: True})


def test_a_setting_that_came_later_changes_the_hash_only_where_it_is_used():
    same = {"n_selected": CURVE.n_selected, "recall": CURVE.recall, "seed": CURVE.seed}
    assert config_hash({"in": [Grown(**same)]}) == config_hash({"in": [CURVE]})
    assert config_hash(Grown(**same, width=3)) != config_hash(CURVE)
