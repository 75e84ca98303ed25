"""What the benchmark scripts share."""

import dataclasses

import budget
import helpers
import latency
import pytest
import redraws
import torch

from intuitive.widgets import catalogue


@dataclasses.dataclass(frozen=True)
class Pair:
    left: float
    right: tuple[float, ...]


def test_records_are_rounded_all_the_way_down():
    pair = Pair(1 / 3, (2e5 / 3, 1e-7))
    found = {
        "pair": pair,
        "t": torch.tensor([1 / 3]),
        "n": 123456,
        "b": True,
    }
    assert helpers.rounded(found, digits=3) == {
        "pair": {"left": 0.333, "right": [66700.0, 1e-7]}, "t": [0.333], "n": 123456, "b": True,
    }  # fmt: skip
    assert helpers.rounded(pair, decimals=2)["right"] == [66666.67, 0.0]


def test_columns_are_of_equal_width():
    rows = [["a", "wide"], ["long", "x"]]
    assert helpers.aligned(rows) == "a     wide\nlong  x"
    assert helpers.aligned(rows, right=True) == "   a  wide\nlong     x"


def test_spread_says_mean_and_range_of_what_is_known():
    assert helpers.spread([1.0, None, 2.0]) == "1.50 (1.00–2.00)"
    assert helpers.spread([1.0, 2.0], ".0f", to=" to ") == "2 (1 to 2)"
    assert helpers.spread([None]) == "–"


def test_options_are_those_asked_for():
    assert vars(helpers.options("Doc.").parse_args([])) == {
        "commit": None, "folder": helpers.RESULTS, "slice": False,
    }  # fmt: skip
    with pytest.raises(SystemExit):
        helpers.options("Doc.", slices=False).parse_args(["--slice"])


def test_faults_of_a_slice_fail(capsys):
    assert helpers.told([]) == 0
    assert helpers.told(["x differs"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "x differs"


def named(ending: str) -> str:
    """The explorer whose name ends so."""
    return next(name for name in catalogue.explorers() if name.endswith(ending))


def test_a_redraw_is_counted_in_processor_time_and_bytes():
    found = [one for one in redraws.of_explorer(named("_ladder"), 3) if not one.heavy]
    assert {"function", "sharing"} <= {one.control for one in found}
    for one in found:
        assert len(one.python_ms) == len(one.bytes) == 3
        assert 0 < min(one.python_ms) <= max(one.python_ms) < 5000
        assert min(one.bytes) > 100


def test_heavy_controls_are_named_and_left_out():
    found = {one.control: one for one in redraws.of_explorer(named("_trimodal"), 1)}
    assert found["estimator"].heavy and found["estimator"].python_ms == ()
    assert not found["weight"].heavy and len(found["weight"].python_ms) == 1


def test_the_95th_percentile_is_one_of_the_numbers():
    assert redraws.p95(list(range(20))) == 18
    assert redraws.p95([3.0, 1.0]) == 3.0


def test_the_table_of_explorers_names_the_slowest_and_the_heavy():
    timed = {"explorer": "a_b", "heavy": False, "moves": 2, "kilobytes": 7.0}
    rows = [
        timed | {"control": "x", "median_ms": 20.0, "p95_ms": 30.0, "python_ms": 4.0},
        timed | {"control": "y", "median_ms": 40.0, "p95_ms": 130.0, "python_ms": 9.0},
        {"explorer": "a_b", "control": "z", "heavy": True, "moves": 0, "skipped": "heavy"},
    ]
    (row,) = latency.of_explorers(rows)
    assert (row["median_ms"], row["p95_ms"], row["slowest"]) == (30.0, 130.0, "y")
    assert (row["python_ms"], row["kilobytes"], row["heavy"]) == (9.0, 7.0, ["z"])
    told = latency.tables({"explorers": [row], "moves": rows, "first_picture_s": {"01": 2.5}})
    assert "| a_b | 30.0 | 130.0 | y | 9.0 | 7.0 | z |" in told
    assert "- a_b y: median 40.0, p95 130.0 ms" in told and "a_b x:" not in told


def test_the_budget_tells_what_is_over_it_and_what_it_lacks():
    assert budget.over({"a": 1.49, "b": 0.2}, {"a": 1.0, "b": 1.0}) == []
    assert budget.over({"a": 1.6}, {"a": 1.0}) == ["a: 1.6, 1.60 times its budget"]
    assert budget.over({"new": 1.0}, {}) == ["new has no budget"]


def test_a_ratio_is_the_least_of_its_rounds():
    seconds, units = iter([3.0, 2.0, 8.0]), iter([1.0, 1.0, 1.0, 4.0])
    assert budget.ratio(lambda: next(seconds), lambda: next(units), rounds=3) == 2.0
