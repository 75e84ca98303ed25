"""What stands around a page of the book: its head, the list of pages, contents, and the foot."""

import functools
import html
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import intuitive

ROOT = Path(__file__).resolve().parent.parent
FEW = 4  # headings from which on a page lists them
HEADING = re.compile(r'<h([23]) id="([^"]+)">(.*?)</h\1>', re.DOTALL)
LICENCE = re.compile(r"^license: (.+)$", re.MULTILINE)

Links = Iterable[tuple[str, str]]  # title and address from the book's root

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title} · intuitive</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}assets/kit.css">
<link rel="stylesheet" href="{root}assets/book.css">
<script type="module" src="{root}assets/book.js"></script>
</head>
<body data-jp-theme-light="true" data-root="{root}"{made}>
<a class="skip" href="#content">To the content</a>
<header><a class="home" href="{root}index.html">intuitive</a>
<button type="button" class="in-head" id="book-menu" aria-expanded="false" \
aria-controls="book-pages" hidden>Menu</button>
<search><input type="search" id="book-search" placeholder="Search" aria-label="Search the book" \
autocomplete="off" hidden><div id="book-found" hidden></div></search>
<button type="button" class="in-head" id="theme" hidden>Dark</button></header>
<div class="frame">
<nav id="book-pages" aria-label="Pages">{nav}</nav>
<main id="content">
{body}
</main>
</div>
<footer>{foot}</footer>
</body>
</html>
"""


def page(title: str, body: str, *, root: str, nav: str, made_on: str = "") -> str:
    """A whole page.

    Args:
        title: of its tab.
        body: what it says.
        root: from the page to the book's root, such as "../".
        nav: the list of pages.
        made_on: with what was computed what moves on it.
    """
    made = f' data-made-on="{html.escape(made_on)}"' if made_on else ""
    return PAGE.format(
        title=html.escape(title), body=body, root=root, nav=nav, made=made, foot=foot()
    )


def climb(address: str) -> str:
    """From a page to the book's root."""
    return "../" * (len(PurePosixPath(address).parts) - 1)


def plain(title: str) -> str:
    return html.escape(title.replace("`", ""))


def pages(groups: Mapping[str, Links], here: str) -> str:
    """The list of pages, with the one at `here` marked."""
    parts = []
    for name, links in groups.items():
        items = "".join(
            f'<li><a href="{climb(here)}{address}"'
            f"{' aria-current=page' if address == here else ''}>{plain(title)}</a></li>"
            for title, address in links
        )
        parts.append(f"<div><h2>{name}</h2><ul>{items}</ul></div>")
    return "".join(parts)


def headings(body: str) -> list[tuple[int, str, str]]:
    """Level, name and text of the headings of a page that a link can point at."""
    return [
        (int(level), name, html.unescape(re.sub(r"<[^>]*>", "", text)).strip())
        for level, name, text in HEADING.findall(body)
    ]


def with_contents(body: str, note: str = "") -> str:
    """With a list of its sections under its title, and before it a note."""
    sections = [(name, text) for level, name, text in headings(body) if level == 2]
    listed = ""
    if len(sections) >= FEW:
        items = "".join(
            f'<li><a href="#{name}">{html.escape(text)}</a></li>' for name, text in sections
        )
        listed = f'<details class="contents"><summary>On this page</summary><ul>{items}</ul>'
        listed += "</details>\n"
    return body.replace("</h1>", f"</h1>\n{note}{listed}", 1)


def turn(pages: Iterable[tuple[str, str]], here: str) -> str:
    """Links to the pages before and after the one at `here`."""
    row = list(pages)
    at = next(i for i, (_, address) in enumerate(row) if address == here)
    parts = []
    for step, name, rel in ((-1, "Previous", "prev"), (1, "Next", "next")):
        if 0 <= at + step < len(row):
            title, address = row[at + step]
            link = f'<a rel="{rel}" href="{climb(here)}{address}">'
            parts.append(f"{link}<span>{name}</span> {plain(title)}</a>")
    return f'<nav class="turn" aria-label="Before and after">{"".join(parts)}</nav>\n'


@functools.cache
def foot(folder: Path = ROOT) -> str:
    """Version, commit and its day where git knows them, and the licence."""
    parts = [f"intuitive {intuitive.__version__}"]
    commit = _git(folder, "describe", "--always", "--tags", "--dirty")
    day = _git(folder, "log", "-1", "--format=%cs")
    if commit and day:
        parts.append(f'built from <code>{commit}</code> of <time datetime="{day}">{day}</time>')
    licence = LICENCE.search((ROOT / "CITATION.cff").read_text("utf-8"))
    parts.append(f"{licence[1]} licence" if licence else "")
    return " · ".join(filter(None, (*parts, '<a href="#content">To the top</a>')))


def _git(folder: Path, *command: str) -> str:
    """What git says of a repository; nothing where there is none."""
    if not (folder / ".git").exists():
        return ""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return html.escape(found.stdout.strip())
