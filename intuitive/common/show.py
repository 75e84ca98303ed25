"""Show tested code in a notebook, so that prose and package cannot drift apart."""

import ast
import importlib.util
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

UNSHOWN = re.compile(r"\A@public(\(.*\))?\n")  # checks arguments, and is no part of the matter


class Source:
    """Source code for a notebook to display.

    Its text is the source; JupyterLab shows it in colour.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}\n```"


def show_source(*objects: Callable | type | ModuleType) -> Source:
    """The source code of what is given, as the last value of a notebook cell.

    Raises:
        ValueError: nothing given, or something whose source is not Python, such as `len`.
    """
    if not objects:
        raise ValueError("show_source() needs a function, class or module to show.")
    return Source("\n\n".join(map(_source, objects)))


def show_part(module: str, *names: str) -> Source:
    """The source of functions of a module that is read and not imported, such as a kernel's.

    Raises:
        ValueError: there is no such module, or it defines no such function or class.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module {module!r} to show.")
    text = Path(spec.origin).read_text(encoding="utf-8")
    lines, parts = text.splitlines(), []
    found = {node.name: node for node in ast.parse(text).body if hasattr(node, "name")}
    for name in names:
        if name not in found:
            raise ValueError(f"{module} defines no {name}; there are {', '.join(found)}.")
        node = found[name]
        first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
        parts.append("\n".join(lines[first - 1 : node.end_lineno]))
    return Source("\n\n".join(parts))


def _source(thing: Callable | type | ModuleType) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(thing))).rstrip()
        return UNSHOWN.sub("", source)
    except (TypeError, OSError) as error:
        raise ValueError(
            f"{thing!r} has no Python source to show; pass a function, class or module of "
            "this package."
        ) from error
