"""Show tested code in a notebook, so that prose and package cannot drift apart."""

import ast
import importlib.util
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

WIDE = 88  # characters that a page shows on one line
UNSHOWN = re.compile(r"\A@public(\(.*\))?\n")  # checks arguments, and is no part of the matter


class Source:
    """Source code, or what a program printed, for a notebook to display.

    Its text is just that; JupyterLab shows code in colour, under a title that opens if it has one.
    """

    def __init__(self, text: str, *, fold: str = "", language: str = "python") -> None:
        self.text, self.fold, self.language = text, fold, language

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        shown = f"```{self.language}\n{self.text}\n```"
        if not self.fold:
            return shown
        return f"<details>\n<summary>{self.fold}</summary>\n\n{shown}\n\n</details>"


def folded(title: str, text: str) -> Source:
    """Numbers that a reader opens when they want them: a text under a title, closed at first."""
    return Source(text, fold=title, language="text")


def show_source(*objects: Callable | type | ModuleType, bare: bool = False) -> Source:
    """The source code of what is given, as the last value of a notebook cell.

    Where `bare`, functions come without docstring, types and shapes.

    Raises:
        ValueError: nothing given, or something whose source is not Python, such as `len`.
    """
    if not objects:
        raise ValueError("show_source() needs a function, class or module to show.")
    parts = map(_source, objects)
    return Source("\n\n".join(map(_bare, parts) if bare else parts))


def show_part(module: str, *names: str, fold: str = "") -> Source:
    """The source of functions of a module that is read and not imported, such as a kernel's.

    Under `fold`, a title, it is closed at first, and the heads of its functions are left without
    the types and shapes of their parameters.

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
        part = lines[first - 1 : node.end_lineno]
        if fold and isinstance(node, ast.FunctionDef):
            part = [_head(node), *lines[node.body[0].lineno - 1 : node.end_lineno]]
        parts.append("\n".join(part))
    return Source("\n\n".join(parts), fold=fold)


def _bare(text: str) -> str:
    (node,) = ast.parse(text).body
    if not isinstance(node, ast.FunctionDef):
        return text
    first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
    head = textwrap.wrap(_head(node), WIDE, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join([*head, *text.splitlines()[first.lineno - 1 :]])


def _head(function: ast.FunctionDef) -> str:
    """The first line of a function, without decorators, types and shapes."""
    for each in ast.walk(function.args):
        if isinstance(each, ast.arg):
            each.annotation = None
    return f"def {function.name}({ast.unparse(function.args)}):"


def _source(thing: Callable | type | ModuleType) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(thing))).rstrip()
        return UNSHOWN.sub("", source)
    except (TypeError, OSError) as error:
        raise ValueError(
            f"{thing!r} has no Python source to show; pass a function, class or module of "
            "this package."
        ) from error
