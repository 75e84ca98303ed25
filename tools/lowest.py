"""The lowest versions that pyproject.toml allows of what this package asks for itself.

    python tools/lowest.py [test ...] > lowest.txt

Prints one pin per direct dependency, and per dependency of the extras that are named: `>=` made
`==`. What those bring along is left to the installer.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest(requirements: Iterable[str]) -> list[str]:
    """Every requirement pinned to its lower bound; markers stay.

    Raises:
        ValueError: a requirement without a lower bound.
    """
    pins = []
    for requirement in requirements:
        name, bound, rest = re.fullmatch(r"([\w.-]+)(?:>=([\w.]+))?(.*)", requirement).groups()
        if bound is None:
            raise ValueError(f"{requirement!r} names no lowest version: write it as {name}>=1.2.")
        pins.append(f"{name}=={bound}{rest}")
    return pins


def main(extras: Sequence[str]) -> None:
    """Print the pins."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"]
    for extra in extras:
        asked = [*asked, *project["optional-dependencies"][extra]]
    print("\n".join(lowest(asked)))


if __name__ == "__main__":
    main(sys.argv[1:])
