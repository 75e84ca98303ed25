"""Pages of the book: Markdown and executed notebooks as HTML, with explorers in their places.

Nothing here computes: what a lesson printed is what its saved copy holds. An explorer's cell
becomes its poster until the page has loaded its recording (`widgets/kit/front/recorded.js`).
"""

import ast
import base64
import functools
import html
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mistune
import nbformat
import numpy as np
from book_frame import headings
from mistune.plugins.math import math as mistune_math
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from intuitive.widgets import catalogue

Relink = Callable[[str], str]  # a link of the source as it is written on the page
Keep = Callable[[str, bytes], str]  # stores a picture by name, and says its address

FORMAT = HtmlFormatter(nowrap=True)
RUN_THIS = "Run this cell"  # how the line beside a poster begins
RULE = (0, 114, 178), slice(18, 20), 8  # what marks that line on a poster: colour, columns, room


@dataclass(frozen=True)
class Shown:
    """An explorer or a question in a cell of a lesson.

    `given` are values that the cell passes. One that passes a function of the reader's own is not
    recorded: `recorded` is False.
    """

    module: str  # its full name
    function: str  # "explorer", or the function of a question
    given: tuple[tuple[str, Any], ...] = ()
    asks: bool = False  # its prediction stands before it
    recorded: bool = True

    @property
    def name(self) -> str:
        """The explorer's name, or the question's; values that the cell passes are part of it."""
        paper, module = self.module.split(".")[-2:]
        stem = f"{paper}_{module if self.function == 'explorer' else self.function}"
        given = "-".join(f"{name}-{value}" for name, value in self.given)
        return re.sub(r"[^\w.-]", "_", f"{stem}-{given}" if given else stem)

    @property
    def call(self) -> str:
        """Python that shows it, without the question before it."""
        package, module = self.module.rsplit(".", 1)
        given = ", ".join(f"{name}={value!r}" for name, value in self.given)
        return f"from {package} import {module}\n\n{module}.{self.function}({given})"

    def make(self) -> Any:
        import importlib

        module = importlib.import_module(self.module)
        given = dict(self.given)
        if self.asks:
            given["predict"] = module.PREDICT
        return getattr(module, self.function)(**given)


def shown_in(source: str, imported: dict[str, str]) -> Shown | None:
    """What the last line of a cell shows; `imported` is kept from cell to cell."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic
        return None
    for line in body:
        if isinstance(line, ast.ImportFrom) and line.module:
            for alias in line.names:
                imported[alias.asname or alias.name] = f"{line.module}.{alias.name}"
    last = body[-1].value if body and isinstance(body[-1], ast.Expr) else None
    if not (isinstance(last, ast.Call) and isinstance(last.func, ast.Attribute)):
        return None
    owner = last.func.value
    module = imported.get(owner.id, "") if isinstance(owner, ast.Name) else ""
    if not module.startswith("intuitive.widgets."):
        return None
    given, asks, recorded = [], False, not last.args
    for keyword in last.keywords:
        if keyword.arg == "predict":
            asks = True
        elif isinstance(keyword.value, ast.Constant):
            given.append((keyword.arg, keyword.value.value))
        else:
            recorded = False
    return Shown(module, last.func.attr, tuple(given), asks, recorded)


# ------------------------------------------------------------------------------- Markdown


def slug(heading: str) -> str:
    """The name by which a code host lets links point at a heading."""
    plain = re.sub(r"<[^>]*>", "", heading)
    return re.sub(r"[^\w\- ]", "", html.unescape(plain).lower()).strip().replace(" ", "-")


def coloured(code: str, language: str) -> str:
    try:
        lexer = get_lexer_by_name(language or "text")
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    inner = f"<code>{highlight(code, lexer, FORMAT)}</code>"
    return (
        f'<pre tabindex="0" role="region" aria-label="Code: {language or "text"}">{inner}</pre>\n'
    )


class _Renderer(mistune.HTMLRenderer):
    def __init__(self, relink: Relink, refer: Relink, escape: bool) -> None:
        super().__init__(escape=escape)
        self._relink, self._refer = relink, refer

    def heading(self, text: str, level: int, **_: Any) -> str:
        return f'<h{level} id="{slug(text)}">{text}</h{level}>\n'

    def block_code(self, code: str, info: str | None = None) -> str:
        return coloured(code, (info or "").split(" ")[0])

    def link(self, text: str, url: str, title: str | None = None) -> str:
        text = re.sub(r"</?a\b[^>]*>", "", text)  # no link inside a link
        return super().link(text, self._relink(url), title)

    def codespan(self, text: str) -> str:
        code, address = super().codespan(text), self._refer(text)
        return f'<a href="{address}">{code}</a>' if address else code

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return super().image(text, self._relink(url), title)

    def table(self, text: str) -> str:
        scrolls = 'class="wide" tabindex="0" role="region" aria-label="Table"'
        return f"<div {scrolls}><table>{text}</table></div>\n"

    def block_math(self, text: str) -> str:
        return f'<div class="tex" data-display>{html.escape(text)}</div>\n'

    def inline_math(self, text: str) -> str:
        return f'<span class="tex">{html.escape(text)}</span>'


def markdown(
    text: str,
    relink: Relink = lambda url: url,
    *,
    refer: Relink = lambda name: "",
    escape: bool = False,
) -> str:
    """A page's Markdown as HTML; formulas stay TeX, for the page to set.

    Args:
        text: the Markdown.
        relink: what a link is on the page.
        refer: where a name in code stands in the reference; empty where it does not.
        escape: whether HTML in it is text.
    """
    renderer = _Renderer(relink, refer, escape)
    turn = mistune.create_markdown(renderer=renderer, plugins=["table", "strikethrough"])
    mistune_math(turn)
    # The plugin's own renderers would hide ours.
    for name in ("block_math", "inline_math"):
        renderer.register(name, lambda _, text, name=name: getattr(_Renderer, name)(renderer, text))
    return turn(text)


# ------------------------------------------------------------------------------ notebooks


@dataclass
class Lesson:
    """A notebook as the body of a page, and what it shows that has to be recorded."""

    title: str
    body: str
    shown: list[Shown]
    sections: dict[str, tuple[str, str]]  # where each stands: name and text of the heading


def place(shown: Shown, root: str, picture: str, words: str) -> str:
    """Where the page puts an explorer; until then, or without scripts, its poster."""
    still = _image(picture, words) if picture else f"<p>{html.escape(words)}</p>"
    file = f"{root}recorded/{shown.name}.json.gz"
    return f'<div class="explorer" id="{shown.name}" data-recorded="{file}">{still}</div>\n'


def lesson(
    file: Path, root: str, relink: Relink, keep: Keep, refer: Relink = lambda name: ""
) -> Lesson:
    """Read an executed notebook.

    Args:
        file: the notebook.
        root: from the page to the book's root, such as "../".
        relink: what a link of the notebook is on the page.
        keep: stores a file of the book by name, and says its address on the page.
        refer: where a name in code stands in the reference.
    """
    notebook = nbformat.read(file, as_version=4)
    imported: dict[str, str] = {}
    parts: list[str] = []
    found: list[Shown] = []
    title, under, sections = file.stem, ("", ""), {}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            heading = re.match(r"# (.+)", cell.source)
            title = heading[1] if heading and title == file.stem else title
            parts.append(markdown(cell.source, relink, refer=refer))
            for _, *section in headings(parts[-1])[-1:]:
                under = tuple(section)
        elif cell.cell_type == "code":
            shown = shown_in(cell.source, imported)
            parts.append(_source(cell, shown))
            if shown is not None and shown.recorded:
                found.append(shown)
                sections[shown.name] = under
                data = next((out.data for out in cell.outputs if "data" in out), {})
                picture = _kept(data, f"{shown.name}.png", keep)
                parts.append(place(shown, root, picture, data.get("text/plain", shown.name)))
            else:
                outs = [
                    _output(out, f"{file.stem}-{number}-{i}.png", keep, relink)
                    for i, out in enumerate(cell.outputs)
                ]
                parts.append(f'<div class="output">{"".join(outs)}</div>\n' if any(outs) else "")
    return Lesson(title, "".join(parts), found, sections)


def _source(cell: Mapping[str, Any], shown: Shown | None) -> str:
    code = coloured(cell["source"], "python")
    hidden = shown is not None or cell["metadata"].get("jupyter", {}).get("source_hidden")
    if hidden:
        return f"<details class='cell'><summary>Code of this cell</summary>{code}</details>\n"
    return f'<div class="cell">{code}</div>\n'


def _kept(data: Mapping[str, Any], name: str, keep: Keep) -> str:
    if "image/png" not in data:
        return ""
    return keep(name, still(base64.b64decode(data["image/png"])))


def still(poster: bytes) -> bytes:
    """A poster without the line below it that says to run its cell: here, no cell runs."""
    picture = Image.open(io.BytesIO(poster))
    colour, columns, room = RULE
    pixels = np.asarray(picture.convert("RGB"), dtype=np.int16)[:, columns]
    marked = (abs(pixels - colour).sum(-1) < 40).all(1)  # [rows]
    at = len(marked)
    while at and not marked[at - 1]:
        at -= 1
    if not at or len(marked) - at > 40:  # no rule near the lower edge
        return poster
    while at and marked[at - 1]:
        at -= 1
    kept = io.BytesIO()
    picture.crop((0, 0, picture.width, at - room)).save(kept, "PNG", optimize=True)
    return kept.getvalue()


def _output(
    out: Mapping[str, Any],
    name: str,
    keep: Keep,
    relink: Relink,
) -> str:
    if out["output_type"] == "stream":
        return _printed(out["text"])
    if out["output_type"] == "error":
        return _printed(out["evalue"])
    data = out["data"]
    words = data.get("text/plain", "")
    if words.startswith(RUN_THIS):
        return ""
    if picture := _kept(data, name, keep):
        return _image(picture, words) + "\n"
    if "text/markdown" in data:
        return markdown(data["text/markdown"], relink)
    return _printed(words) if words else ""


def _image(address: str, words: str) -> str:
    return f'<img src="{address}" alt="{html.escape(words)}">'


def _printed(text: str) -> str:
    scrolls = 'tabindex="0" role="region" aria-label="Output"'
    return f"<pre {scrolls}>{html.escape(text)}</pre>\n"


@functools.cache
def explorers_of(paper: str) -> tuple[str, ...]:
    return tuple(name for name in catalogue.explorers() if name.startswith(f"{paper}_"))
