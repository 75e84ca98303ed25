"""The reference: every public name of the package, from its source and its docstring.

Griffe reads the sources and their docstrings; nothing is imported but the front doors, which say
what can be had from a package itself. Signatures and fields stand as they are written in the
source, with the comments behind them.
"""

import functools
import html
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import griffe
from book_pages import coloured, markdown

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"intuitive": "intuitive", "kernels": "intuitive.kernels", "widgets": "intuitive.widgets"}
TEXTS = ROOT / "intuitive" / "common" / "text"  # for the model to read; some are Python
INDEX = "api/index.html"

Refer = Callable[[str], str]  # a name in code as a link to it, empty where it is not known


@dataclass(frozen=True)
class Module:
    """A module, and what it defines that is public."""

    name: str
    file: Path
    is_package: bool
    source: tuple[str, ...]  # its lines
    tree: griffe.Module

    @property
    def address(self) -> str:
        return f"api/{self.name}.html"

    @property
    def docstring(self) -> str:
        return self.tree.docstring.value if self.tree.docstring else ""

    @property
    def summary(self) -> str:
        return self.docstring.split("\n\n")[0].replace("\n", " ")

    def members(self, kind: type[griffe.Object]) -> list[griffe.Object]:
        return _public(self.tree, kind)


def _public(owner: griffe.Object, kind: type[griffe.Object]) -> list[griffe.Object]:
    return [
        member
        for name, member in owner.members.items()
        if isinstance(member, kind) and not name.startswith("_")
    ]


def _is_of_a_paper(name: str) -> bool:
    """Whether a module draws one paper's explorers, which have pages of their own."""
    parts = name.split(".")
    return parts[1:2] == ["widgets"] and (ROOT / "widgets" / parts[2] / "posters").is_dir()


@functools.cache
def modules() -> Mapping[str, Module]:
    """All that the reference tells of, by name."""
    found = {}
    for folder, package in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            inside = file.relative_to(ROOT / folder).with_suffix("").parts
            is_package = inside[-1] == "__init__"
            parts = inside[:-1] if is_package else inside
            name = ".".join((package, *parts))
            private = any(part.startswith("_") or part == "__pycache__" for part in parts)
            paper = len(name.split(".")) > 2 and _is_of_a_paper(name)
            if private or paper or file.is_relative_to(TEXTS):
                continue
            code = file.read_text("utf-8")
            tree = griffe.visit(name, filepath=file, code=code)
            found[name] = Module(name, file, is_package, tuple(code.splitlines()), tree)
    return dict(sorted(found.items()))


@functools.cache
def names() -> Mapping[str, str]:
    """Where each public name stands, from the book's root, by its full name."""
    found = {name: module.address for name, module in modules().items()}
    for name, module in modules().items():
        for member in module.members(griffe.Object):
            at = f"{module.address}#{member.name}"
            found.setdefault(f"{name}.{member.name}", at)
            if isinstance(member, griffe.Class):
                for inner in _methods(member):
                    found.setdefault(f"{name}.{member.name}.{inner.name}", at + f".{inner.name}")
    for name, module in modules().items():
        for door in doors(module):
            if home := _home(name, door, found):
                found.setdefault(f"{name}.{door}", home)
    return found


def doors(module: Module) -> list[str]:
    """Names that a package offers itself, though they are defined in a room of it."""
    if not module.is_package:
        return []
    loaded = importlib.import_module(module.name)
    offered = getattr(loaded, "__all__", ())
    return [
        name
        for name in offered
        if not name.startswith("_")
        and not isinstance(getattr(loaded, name), ModuleType)
        and name not in {member.name for member in module.members(griffe.Object)}
    ]


def _home(package: str, name: str, found: Mapping[str, str]) -> str:
    thing = getattr(importlib.import_module(package), name)
    sure = f"{getattr(thing, '__module__', '')}.{name}"
    inside = (
        full for full in found if full.startswith(f"{package}.") and full.endswith(f".{name}")
    )
    return found.get(sure) or found.get(min(inside, key=len, default=""), "")


# ---------------------------------------------------------------------------------- pages


@functools.cache
def pages() -> Mapping[str, tuple[str, str]]:
    """Title and body of every page of the reference, by its address."""
    found = {
        module.address: (module.name, _page(module, _near(module))) for module in modules().values()
    }
    return found | {INDEX: ("Reference", _index(_refer))}


def _refer(name: str) -> str:
    """Where a name stands, from a page of the reference."""
    found = names().get(name, "")
    return found and f"../{found}"


def _near(module: Module) -> Refer:
    """With the module's own names, as its docstrings write them."""
    own = {one.name for one in module.members(griffe.Object)}
    return lambda name: f"#{name}" if name in own else _refer(name)


def _index(refer: Refer) -> str:
    text = (
        "# Reference\n\nEvery public name of the package, from the source. Begin at a room's door."
    )
    rows = [
        (module, len(module.name.split("."))) for module in modules().values() if module.is_package
    ]
    for module, depth in rows:
        if depth <= 2:
            text += f"\n\n## {module.name}\n\n{module.summary}\n\nDoor: `{module.name}`"
        else:
            text += f", `{module.name}`"
    return markdown(text, refer=refer)


def _page(module: Module, refer: Refer) -> str:
    above = module.name.split(".")
    path = " · ".join(f"`{'.'.join(above[:n])}`" for n in range(1, len(above)))
    parts = [
        f"<h1>{module.name}</h1>",
        markdown(f"{path}\n\n{_spaced(module.docstring)}", refer=refer),
    ]
    if offered := doors(module):
        listed = ", ".join(f"`{module.name}.{name}`" for name in offered)
        parts.append(markdown(f"From the package itself: {listed}.", refer=refer))
    inside = [one for one in modules().values() if one.name.rpartition(".")[0] == module.name]
    if inside:
        rows = "".join(f"| `{one.name}` | {_cell(one.summary)} |\n" for one in inside)
        parts.append(markdown(f"| module | |\n| --- | --- |\n{rows}", refer=refer))
    constants = "\n".join(
        _lines(module, one.lineno, one.endlineno) for one in module.members(griffe.Attribute)
    )
    if constants:
        marks = "".join(
            f'<span id="{one.name}"></span>' for one in module.members(griffe.Attribute)
        )
        parts.append(f"<h2>Constants</h2>{marks}{coloured(constants, 'python')}")
    for one in module.tree.members.values():
        if one.name.startswith("_"):
            continue
        if isinstance(one, griffe.Function):
            parts.append(_function(module, one, one.name, 2, refer))
        elif isinstance(one, griffe.Class):
            parts.append(_class(module, one, refer))
    return "\n".join(parts)


def _class(module: Module, one: griffe.Class, refer: Refer) -> str:
    fields = [
        _lines(module, field.lineno, field.endlineno)
        for field in _public(one, griffe.Attribute)
        if "property" not in field.labels
    ]
    shown = [line for line in fields if re.match(r" {4}\w", line)]  # others are set in methods
    code = "\n".join([_head(module, one), *shown])
    parts = [_heading(one.name, one.name, 2), coloured(code, "python"), _told(one, refer)]
    for method in _methods(one):
        parts.append(_function(module, method, f"{one.name}.{method.name}", 3, refer))
    return "\n".join(parts)


def _methods(one: griffe.Class) -> list[griffe.Object]:
    """With its properties."""
    return [
        member
        for member in _public(one, griffe.Object)
        if isinstance(member, griffe.Function) or "property" in member.labels
    ]


def _function(module: Module, one: griffe.Object, name: str, level: int, refer: Refer) -> str:
    mark = "@property\n" if "property" in one.labels else ""
    head = mark + "\n".join(_dedented(_head(module, one)))
    return "\n".join([_heading(name, name, level), coloured(head, "python"), _told(one, refer)])


def _heading(name: str, anchor: str, level: int) -> str:
    return f'<h{level} id="{anchor}"><code>{html.escape(name)}</code></h{level}>'


def _head(module: Module, one: griffe.Object) -> str:
    """The lines of a definition before its docstring or its body."""
    text = "\n".join(module.source[one.lineno - 1 : one.endlineno])
    found = re.match(
        r"(?s)(?:\s*@.*?\n)*\s*(?:async )?(?:def|class) .*?:[ \t]*(?:#[^\n]*)?\n", text
    )
    return found[0].rstrip() if found else text


def _lines(module: Module, first: int, last: int) -> str:
    return "\n".join(module.source[first - 1 : last])


def _dedented(text: str) -> Iterator[str]:
    lines = text.splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    return (line[margin:] for line in lines)


LISTS = {
    griffe.DocstringSectionKind.parameters: "Takes",
    griffe.DocstringSectionKind.attributes: "Fields",
    griffe.DocstringSectionKind.returns: "Returns",
    griffe.DocstringSectionKind.yields: "Yields",
    griffe.DocstringSectionKind.raises: "Raises",
}


def _told(one: griffe.Object, refer: Refer) -> str:
    """A docstring as HTML."""
    if one.docstring is None:
        return ""
    text = ""
    for section in one.docstring.parse("google", warnings=False, returns_named_value=False):
        if section.kind in LISTS:
            text += f"**{LISTS[section.kind]}**\n\n"
            for item in section.value:
                name = getattr(item, "name", "") or (
                    str(item.annotation) if section.kind.value == "raises" else ""
                )
                told = re.sub(r"\s*\n\s*", " ", item.description)
                text += f"- `{name}`: {told}\n" if name else f"- {told}\n"
            text += "\n"
        elif section.kind is griffe.DocstringSectionKind.text:
            text += _spaced(section.value) + "\n\n"
        else:
            text += f"**{section.title}** {section.value.description}\n\n"
    return markdown(text, refer=refer, escape=True)


def _spaced(text: str) -> str:
    """With an empty line before lines set in, so that Markdown takes them as they stand."""
    return re.sub(r"(?m)^(\S.*)\n(?= {4})", r"\1\n\n", text)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
