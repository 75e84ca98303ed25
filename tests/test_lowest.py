"""The pins of `make lowest`."""

import lowest
import pytest


def test_lower_bounds_become_pins_and_markers_stay():
    asked = ["torch>=2.9", "triton>=3.5; platform_system == 'Linux'"]
    assert lowest.lowest(asked) == ["torch==2.9", "triton==3.5; platform_system == 'Linux'"]


def test_a_requirement_without_a_lower_bound_is_refused():
    with pytest.raises(ValueError, match="'numpy' names no lowest version"):
        lowest.lowest(["numpy"])


def test_every_direct_dependency_is_pinned(capsys):
    lowest.main(["test"])
    pins = capsys.readouterr().out.splitlines()
    assert {"numpy", "torch", "pytest"} <= {pin.partition("==")[0] for pin in pins}
    assert all("==" in pin for pin in pins)
