"""Every explorer and question of the lessons, found by looking and listed nowhere.

A paper's folder `widgets/<paper>/` holds one module per explorer, whose function `explorer` makes
it, and `checks.py`, whose functions make the check-yourself questions. An explorer is called
`<paper>_<module>`: so are its stored answers, and its poster is `posters/<module>.png` beside it.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from .kit import CheckYourself, Explorer

KIT, CHECKS = "kit", "checks"


def _folders(package: str) -> list[str]:
    found = importlib.import_module(package)
    return sorted(name for _, name, is_folder in pkgutil.iter_modules(found.__path__) if is_folder)


@functools.cache
def papers() -> tuple[str, ...]:
    """Names of the papers that have explorers."""
    return tuple(name for name in _folders(__package__) if name != KIT)


@functools.cache
def explorers() -> Mapping[str, Callable[..., Explorer]]:
    """The maker of every explorer by its name."""
    found = {}
    for paper in papers():
        package = importlib.import_module(f"{__package__}.{paper}")
        for _, module, _ in pkgutil.iter_modules(package.__path__):
            make = getattr(
                importlib.import_module(f"{package.__name__}.{module}"), "explorer", None
            )
            if make is not None:
                found[f"{paper}_{module}"] = make
    return MappingProxyType(found)


@functools.cache
def questions() -> Mapping[str, Callable[[], CheckYourself]]:
    """The maker of every check-yourself question by its name, `<paper>_<function>`."""
    found = {}
    for paper in papers():
        try:
            checks = importlib.import_module(f"{__package__}.{paper}.{CHECKS}")
        except ModuleNotFoundError:
            continue
        for name, make in inspect.getmembers(checks, inspect.isfunction):
            if make.__module__ == checks.__name__ and not name.startswith("_"):
                found[f"{paper}_{name}"] = make
    return MappingProxyType(found)


def poster(name: str) -> Path:
    """Where the picture of the explorer `name` lies for readers without a kernel."""
    paper, _, module = name.partition("_")
    return Path(str(resources.files(__package__).joinpath(paper, "posters", f"{module}.png")))
