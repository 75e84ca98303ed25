"""What the benchmark scripts share."""

import dataclasses

import helpers
import pytest
import torch


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
