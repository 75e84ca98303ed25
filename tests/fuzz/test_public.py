"""Every public function, called as a learner may: a documented error or a right answer.

A package's table of calls stands beside its other tests, in `<package>_fuzz.py`: `TABLE` holds a
`Case` for each name, and `LEFT_OUT` the reasons why others have none.
"""

import importlib
import inspect
import types
from collections.abc import Callable

import pytest
from fuzzing import try_out
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import intuitive

PACKAGES = tuple(sorted({*intuitive.__all__} - {"__version__", "claims", "widgets"}))


def table(package: str) -> types.ModuleType:
    return importlib.import_module(f"{package}_fuzz")


def public(package: str) -> dict[str, Callable]:
    """What can be called: by the package's own names, and in the rooms that its table tries."""
    module, found = importlib.import_module(f"intuitive.{package}"), {}
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType) and name in table(package).ROOMS:
            found |= {
                f"{name}.{inner}": function
                for inner, function in vars(value).items()
                if inspect.isfunction(function)
                and not inner.startswith("_")
                and function.__module__ == value.__name__
                and f"{value.__name__}.{inner}" not in homes(package)
            }
        elif isinstance(value, types.ModuleType) or callable(value):
            found[name] = value
    return found


def homes(package: str) -> set[str]:
    """Full names of what the package offers by itself, so that it is tried once."""
    module = importlib.import_module(f"intuitive.{package}")
    values = [getattr(module, name) for name in module.__all__]
    return {
        f"{value.__module__}.{value.__qualname__}"
        for value in values
        if callable(value) and hasattr(value, "__qualname__")
    }


CASES = [(package, name) for package in PACKAGES for name in table(package).TABLE]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_tried_or_left_out_with_a_reason(package):
    names, tried = public(package), table(package)
    assert set(tried.ROOMS) <= set(importlib.import_module(f"intuitive.{package}").__all__)
    assert sorted(names) == sorted([*tried.TABLE, *tried.LEFT_OUT])
    assert all(len(reason) > 12 for reason in tried.LEFT_OUT.values())


def run(package: str, name: str, examples: int, *, derandomize: bool) -> None:
    function, case = public(package)[name], table(package).TABLE[name]

    @settings(
        max_examples=examples,
        derandomize=derandomize,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # every fault is listed: there is nothing to shrink
        suppress_health_check=list(HealthCheck),
    )
    @given(case.arguments, st.integers(0, 2**16))
    def tried(arguments, seed) -> None:
        faults = try_out(function, case, arguments, seed)
        assert not faults, "\n".join(faults)

    tried()


@pytest.mark.parametrize(("package", "name"), CASES, ids=str)
def test_a_documented_error_or_a_right_answer(package, name, as_installed):
    run(package, name, 2, derandomize=True)


@pytest.mark.sweep
@pytest.mark.parametrize(("package", "name"), CASES, ids=str)
def test_the_same_at_length(package, name, as_installed):
    run(package, name, 100, derandomize=False)
