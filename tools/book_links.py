"""The links of a folder of pages: where they lead, and whether a page asks another host.

python tools/book_links.py FOLDER
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADED = {"src", "srcset", "data-recorded", "data-film"}  # fetched without being asked for
OUTSIDE = re.compile(r"(\w+:)?//|data:|mailto:")


class Links(HTMLParser):
    """Names on a page, the addresses that it names, and those that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.asked: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.names.append(value)
            elif name in LOADED or (name == "href" and tag == "link"):
                self.loaded.append(value)
            elif name == "href":
                self.asked.append(value)


def broken(folder: Path) -> list[str]:
    """Addresses on a folder's pages that lead nowhere in it, or load from another host."""
    folder = folder.resolve()
    pages = {file: Links(file.read_text("utf-8")) for file in folder.rglob("*.html")}
    found = []
    for page, links in pages.items():
        for address in (*links.asked, *links.loaded):
            if OUTSIDE.match(address):
                lost = address in links.loaded and not address.startswith("data:")
            else:
                path, _, anchor = address.partition("#")
                file = (page.parent / path).resolve() if path else page
                inside = file.is_file() and file.is_relative_to(folder)
                lost = not inside or (
                    bool(anchor) and file in pages and anchor not in pages[file].names
                )
            if lost:
                found.append(f"{page.relative_to(folder)}: {address}")
    return sorted(set(found))


def main() -> int:
    found = broken(Path(sys.argv[1]))
    print("\n".join(found) or "every link leads somewhere")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
