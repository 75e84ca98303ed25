"""Parts of a run of the contest, put together."""

import arena as benchmark
import pytest

from intuitive.common import records


def part(tmp_path, n, *, seeds=(0,), commit="a" * 40):
    cell = {"task": "needle", "n": n, "seed": 0, "method": "dense", "ratio": 4, "hits": "10"}
    path = tmp_path / f"{n}-{len(seeds)}-{commit[0]}.json"
    plan = benchmark.replace(benchmark.Plan(), lengths=(n,), timed=(n,), seeds=seeds)
    values = {"cells": [cell | {"nats": 1.0}], "seconds": {f"needle {n}": 1.5}}
    records.save(path, values, config=plan, device="a card", commit=commit, seed=seeds)
    return path


def test_parts_become_one_result(tmp_path, capsys):
    out = tmp_path / "whole.json"
    benchmark.joined_files([part(tmp_path, 256), part(tmp_path, 512)], out)
    values, made = records.load(out)
    assert [cell["n"] for cell in values["cells"]] == [256, 512]
    assert values["seconds"] == {"needle 256": 1.5, "needle 512": 1.5}
    assert (made["config"]["lengths"], made["config"]["timed"]) == ([256, 512], [256, 512])
    assert (made["commit"], made["device"], made["seed"]) == ("a" * 40, "a card", [0])
    assert "0.50" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"n": 512, "commit": "b" * 40}, "of one tree, device and plan"),
        ({"n": 512, "seeds": (0, 1)}, "of one tree, device and plan"),
        ({"n": 256}, r"hold a length twice: \[256, 256\]"),
    ],
)
def test_parts_of_different_runs_are_refused(tmp_path, other, said):
    with pytest.raises(ValueError, match=said):
        benchmark.joined_files([part(tmp_path, 256), part(tmp_path, **other)], tmp_path / "o.json")
    assert not (tmp_path / "o.json").exists()
