"""A package's front door that loads a room only when somebody asks for it."""

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any


def front_door(
    package: str, *, rooms: Collection[str], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose modules are imported when first used.

    Args:
        package: its `__name__`.
        rooms: its modules.
        homes: what can be had from the package itself, each name with the module it lives in.
    """

    def load(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(f".{homes[name]}", package), name)
        if name in rooms:
            return importlib.import_module(f".{name}", package)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted({*homes, *rooms})
