"""The book's index for its search: what each page, heading, word, claim and name is called.

The page loads it when somebody goes to the search (`book/search.js`), and matches beginnings of
words there; nothing is asked of another host.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping

from book_frame import headings

KINDS = ("page", "explorer", "section", "claim", "word", "reference")  # as they are ranked
CLAIM = re.compile(r'<td><a id="([^"]+)"></a>(.*?)</td>', re.DOTALL)
ROW = re.compile(r"<tr>\s*<td>(.*?)</td>(.*?)</tr>", re.DOTALL)
CELL = re.compile(r"<td>(.*?)</td>", re.DOTALL)
LONGEST = 160  # of what a row says


def plain_text(part: str) -> str:
    """HTML as the text that is read."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", part)).split())


class Index:
    """Rows of kind, what it is called, where it stands, and what else it is found by."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, str, str, str]] = []

    def add(self, kind: str, title: str, address: str, beside: str = "") -> None:
        row = (KINDS.index(kind), title, address, beside[:LONGEST])
        if row not in self.rows[-1:]:
            self.rows.append(row)

    def page(self, title: str, address: str, body: str = "") -> None:
        """A page, its headings, and the claims of its rows."""
        self.add("page", title, address)
        for _, name, text in headings(body):
            self.add("section", text, f"{address}#{name}", title)
        for name, text in CLAIM.findall(body):
            self.add("claim", plain_text(text), f"{address}#{name}", title)

    def words(self, title: str, address: str, body: str) -> None:
        """A glossary: rows of tables, each under its heading."""
        parts = re.split(r'(?=<h2 id=")', body)
        for part in parts:
            found = headings(part)[:1]
            at, name = (f"{address}#{found[0][1]}", found[0][2]) if found else (address, title)
            for word, rest in ROW.findall(part):
                told = "; ".join(filter(None, map(plain_text, CELL.findall(rest))))
                self.add("word", f"{plain_text(word)}: {told}"[:LONGEST], at, name)

    def packed(self, names: Mapping[str, str]) -> str:
        """As JSON.

        Args:
            names: of the reference, with their places, which are written by page.
        """
        reference: dict[str, list[str]] = {}
        for page, name in sorted(_places(names.values())):
            reference.setdefault(page, []).append(name)
        whole = {"kinds": KINDS, "rows": self.rows, "reference": reference}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def _places(addresses: Iterable[str]) -> set[tuple[str, str]]:
    """Page and name on it, from addresses such as `api/a.b.html#C.d`."""
    found = set()
    for address in addresses:
        page, _, name = address.partition("#")
        found.add((page.removeprefix("api/").removesuffix(".html"), name))
    return found
