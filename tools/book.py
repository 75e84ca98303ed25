"""Build the book: lessons, papers and documentation as static files, with explorers that move.

    python tools/book.py [--out FOLDER] [--lesson NAME ...] [--workers N]

The pages need no Python and ask nothing of another host; any server of files will do, such as
`python -m http.server --directory FOLDER`. Explorers answer from recorded states
(`widgets/kit/recording.py`); recording all of them takes some minutes the first time, and what is
unchanged is kept (`book_recordings.py`). What a lesson printed is what its saved copy holds.
"""

import argparse
import functools
import gzip
import html
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import book_frame
import book_links
import book_recordings
import book_reference
from book_frame import climb, plain
from book_pages import Shown, coloured, explorers_of, lesson, markdown, place, still
from book_recordings import Kept
from book_search import Index
from pygments.formatters import HtmlFormatter

from intuitive import claims
from intuitive.widgets import catalogue
from intuitive.widgets.kit import assets, runtime

ROOT = Path(__file__).resolve().parent.parent
LOOKS = Path(__file__).with_name("book")
DOCS, NOTEBOOKS = ROOT / "docs", ROOT / "notebooks"
STORE = ROOT / "build" / "recordings"
IN_SHORT = re.compile(r"## In short\n\n((?:- \*\*\w+:\*\* .+\n)+)")
COPY = (
    '<p class="copy">This is the book\'s copy of the lesson: its pictures answer from recordings, '
    "and no cell runs here. “Run All Cells” and “Your turn” need JupyterLab: "
    '<a href="{root}index.html#run-it-yourself">how to run it</a>.</p>\n'
)
DARK = 'body[data-jp-theme-light="false"] pre'


class Book:
    """Where every source file stands in the book, and what is written there."""

    def __init__(self, out: Path, lessons: Iterable[str] | None = None) -> None:
        self.out = out
        files = sorted(NOTEBOOKS.glob("*.ipynb"))
        wanted = None if lessons is None else set(lessons)
        self.lessons = [file for file in files if wanted is None or file.stem in wanted]
        order = [file.stem.partition("_")[2] for file in files]  # papers stand as lessons do
        self.papers = sorted(
            (DOCS / "papers").glob("*.md"), key=lambda file: order.index(file.stem)
        )
        self.docs = [file for file in sorted(DOCS.glob("*.md")) if file != DOCS / "index.md"]
        self.docs += self.papers
        self.addresses = {file: f"lessons/{file.stem}.html" for file in self.lessons}
        for file in self.docs:
            self.addresses[file] = f"{file.relative_to(DOCS).with_suffix('.html')}"
        self.addresses[DOCS / "index.md"] = "index.html"
        self.titles = {file: _title(file) for file in (*self.lessons, *self.docs)}
        self.to_record: dict[str, Shown] = {}
        self.recorded: dict[str, Kept] = {}
        self.sections: dict[str, tuple[Path, str, str]] = {}  # of explorers: lesson and heading
        self.index = Index()

    # ------------------------------------------------------------------------------ pages

    def relink(self, source: Path, address: str):
        """How links of `source` are written on the page at `address`."""

        def relinked(url: str) -> str:
            path, _, anchor = url.partition("#")
            if not path or re.match(r"\w+:", url):
                return url
            file = (source.parent / path).resolve()
            if file in self.addresses:
                return climb(address) + self.addresses[file] + (f"#{anchor}" if anchor else "")
            if path == "REFERENCE":
                return climb(address) + book_reference.INDEX
            if file.suffix in (".gif", ".png") and file.is_file():
                return climb(address) + self.keep(file.name, file.read_bytes())
            return f"#missing:{url}"  # a file of the repository that the book leaves out

        return relinked

    def refer(self, address: str):
        """Where a name in code stands in the reference, from the page at `address`."""

        def referred(name: str) -> str:
            found = book_reference.names().get(name.removesuffix("()"), "")
            if not found and name in _claims():
                found = f"{self.addresses[DOCS / 'claims.md']}#{name}"
            return found and climb(address) + found

        return referred

    def keep(self, name: str, data: bytes) -> str:
        """Store a picture; its address from the book's root."""
        self.write(f"pictures/{name}", data)
        return f"pictures/{name}"

    def write(self, address: str, content: str | bytes) -> None:
        file = self.out / address
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def page(self, address: str, title: str, body: str) -> None:
        body = re.sub(r'<a href="#missing:[^"]*">(.*?)</a>', r"\1", body, flags=re.DOTALL)
        made_on = book_recordings.machine()
        whole = book_frame.page(
            title, body, root=climb(address), nav=self.nav(address), made_on=made_on
        )
        self.write(address, whole)

    def nav(self, here: str) -> str:
        groups = {
            "Lessons": [(self.titles[file], self.addresses[file]) for file in self.lessons],
            "Papers": [(self.titles[file], self.addresses[file]) for file in self.papers],
            "Everything": [
                ("All explorers", "explorers/index.html"),
                ("Reference", book_reference.INDEX),
            ],
            "Beside them": [
                (self.titles[file], self.addresses[file])
                for file in self.docs
                if file.parent == DOCS
            ],
        }
        return book_frame.pages(groups, here)

    def turn(self, files: Iterable[Path], here: str) -> str:
        return book_frame.turn([(self.titles[one], self.addresses[one]) for one in files], here)

    def build_lessons(self) -> None:
        for file in self.lessons:
            address = self.addresses[file]
            root = climb(address)
            found = lesson(
                file,
                root,
                self.relink(file, address),
                lambda name, data, root=root: root + self.keep(name, data),
                self.refer(address),
            )
            self.to_record |= {shown.name: shown for shown in found.shown}
            for name, section in found.sections.items():
                if name not in self.sections or file.stem.endswith(f"_{name.partition('_')[0]}"):
                    self.sections[name] = (file, *section)
            self.index.page(found.title, address, found.body)
            body = book_frame.with_contents(found.body, COPY.format(root=root))
            self.page(address, found.title, body + self.turn(self.lessons, address))

    def build_pages(self) -> None:
        for file in self.docs:
            address = self.addresses[file]
            text, refer = file.read_text("utf-8"), self.refer(address)
            body = markdown(text, self.relink(file, address), refer=refer)
            if file.parent.name == "papers":
                body += self._moving(file.stem, climb(address))
                body += self.turn(self.papers, address)
            self.index.page(self.titles[file], address, body)
            if file == DOCS / "notation.md":
                self.index.words(self.titles[file], address, body)
            self.page(address, self.titles[file], book_frame.with_contents(body))
        self._explorer_pages()
        for address, (title, text) in book_reference.pages().items():
            self.page(address, title, text)
        self._home()
        self.write("assets/search.json", self.index.packed(book_reference.names()))

    def _moving(self, paper: str, root: str) -> str:
        links = "".join(
            f'<li><a href="{root}explorers/{name}.html">{plain(self._heading(name))}</a></li>'
            for name in explorers_of(paper)
            if name in self.to_record
        )
        return f"<h2>What moves here</h2><ul>{links}</ul>" if links else ""

    def _heading(self, name: str) -> str:
        return self.recorded[name].title

    def _explorer_pages(self) -> None:
        cards: dict[Path, list[str]] = {file: [] for file in self.lessons}
        for name in self.sections:
            if name in catalogue.explorers():
                cards[self.sections[name][0]].append(self._explorer_page(name))
        body = "<h1>All explorers</h1><p>Each moves here, between recorded states.</p>"
        for file, own in cards.items():
            if own:
                body += f'<h2 id="{file.stem}">{plain(self.titles[file])}</h2>'
                body += f'<ul class="cards">{"".join(own)}</ul>'
        address = "explorers/index.html"
        self.index.page("All explorers", address)
        self.page(address, "All explorers", body)

    def _explorer_page(self, name: str) -> str:
        """Write it; its card for the page of all."""
        shown, address = self.to_record[name], f"explorers/{name}.html"
        poster, title = catalogue.poster(name), self._heading(name)
        kept = poster.is_file() and self.keep(f"{name}.png", still(poster.read_bytes()))
        picture = f"../{kept}" if kept else ""
        file, anchor, section = self.sections[name]
        stands = ": ".join(filter(None, (self.titles[file], section)))
        at = f"../{self.addresses[file]}{anchor and f'#{anchor}'}"
        body = f'<h1 class="unseen">{plain(title)}</h1>\n{place(shown, "../", picture, title)}'
        body += f'<p>In its lesson: <a href="{at}">{plain(stands)}</a></p>'
        body += f"<p>In JupyterLab:</p>{coloured(shown.call, 'python')}"
        self.index.add("explorer", title, address, stands)
        self.page(address, title, body)
        image = f'<img src="{picture}" alt="" loading="lazy">' if picture else ""
        told = f"{plain(title)}<span>{plain(section)}</span>"
        return f'<li><a href="{name}.html">{image}{told}</a></li>'

    def _home(self) -> None:
        source = LOOKS / "home.md"
        rows = "".join(
            f"- [{self.titles[file]}]({os.path.relpath(file, LOOKS)})\n" for file in self.lessons
        )
        listed = ", ".join(
            f"[{self.titles[file]}]({os.path.relpath(file, LOOKS)})" for file in self.papers
        )
        text = source.read_text("utf-8").replace("PAPERS", listed)
        text = text.replace("LESSONS", rows)
        body = markdown(text, self.relink(source, "index.html"), refer=self.refer("index.html"))
        cards = "".join(self._card(file) for file in self.papers)
        body = body.replace("<p>CARDS</p>", f'<ul class="cards methods">{cards}</ul>')
        self.index.page("First page", "index.html", body)
        self.page("index.html", "intuitive", body)

    def _card(self, file: Path) -> str:
        """A paper in short: its film, what it changes, costs and where it fails, its verdicts."""
        paper, relink = file.stem, self.relink(file, "index.html")
        text = file.read_text("utf-8")
        found = IN_SHORT.search(text)
        film = re.search(r"!\[(.+?)\]\((\S+\.gif)\)", text)
        if found is None or film is None:
            raise ValueError(f"{file.name}: a page needs a film and the part 'In short'.")
        short = markdown(found[1], relink, refer=self.refer("index.html"))
        rows = [row for row in claims.ledger() if row.paper.lower() == paper]
        whole, part = (sum(row.verdict == one for row in rows) for one in claims.VERDICTS[:2])
        ledger = relink(os.path.relpath(DOCS / "claims.md", file.parent))
        lessons = "".join(
            f'<a href="{self.addresses[one]}">the lesson</a> · '
            for one in self.lessons
            if one.stem.endswith(f"_{paper}")
        )
        poster = catalogue.poster(Path(film[2]).stem.rpartition("_")[0])
        calm = self.keep(poster.name, still(poster.read_bytes()))
        return (
            f'<li><h3><a href="{self.addresses[file]}">{self.titles[file]}</a></h3>'
            f'<picture><source srcset="{calm}" media="(prefers-reduced-motion: reduce)">'
            f'<img src="{relink(film[2])}" alt="{html.escape(film[1])}" loading="lazy"></picture>'
            f'{short}<p>{lessons}<a href="{ledger}#{paper}">{whole} of {len(rows)} claims '
            f"reproduced, {part} in part</a></p></li>"
        )

    # ------------------------------------------------------------------- scripts, recordings

    def build_assets(self) -> None:
        library, motion = (gzip.decompress(part) for part in (runtime.library(), runtime.motion()))
        self.write("assets/plotly.js.gz", gzip.compress(library, mtime=0))
        self.write("assets/motion.js.gz", gzip.compress(motion, mtime=0))
        self.write("assets/explorer.js", assets.EXPLORER_JS)
        self.write("assets/question.js", assets.QUESTION_JS)
        self.write("assets/recorded.js", assets.RECORDED_JS)
        self.write("assets/kit.css", assets.CSS)
        for name in ("book.css", "book.js", "search.js"):
            text = (LOOKS / name).read_text("utf-8")
            if name == "book.css":
                text += HtmlFormatter(style="xcode").get_style_defs("pre") + "\n"
                text += HtmlFormatter(style="monokai").get_style_defs(DARK) + "\n"
            self.write(f"assets/{name}", text)

    def build_recordings(self, store: Path, *, workers: int = 2) -> None:
        """Record what the pages show, save what stands in the store."""
        wanted = self.to_record.values()
        for kept, made in book_recordings.recordings(wanted, store, workers=workers):
            self.recorded[kept.name] = kept
            self.write(f"recorded/{kept.name}.json.gz", kept.packed)
            if made:
                left_out = ", ".join(f"{len(v)} of {name}" for name, v in kept.dropped.items())
                told = f"  {kept.name}: {len(kept.packed) / 1e6:.2f} MB, {kept.seconds:.0f} s"
                print(f"{told}; left out: {left_out}" if left_out else told, flush=True)


def _title(file: Path) -> str:
    text = file.read_text("utf-8")
    if file.suffix == ".ipynb":
        found = re.search(r'"# (.+?)(?:\\n)?"', text)
    else:
        found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found[1] if found else file.stem


@functools.cache
def _claims() -> frozenset[str]:
    return frozenset(row.id for row in claims.ledger())


def build(
    out: Path, *, lessons: Iterable[str] | None = None, store: Path = STORE, workers: int = 2
) -> Book:
    """Write the book into a folder.

    Args:
        out: made when missing; pages that stand there are replaced.
        lessons: names of the lessons; all by default.
        store: where recordings are kept from build to build.
        workers: processes that record at the same time.
    """
    book = Book(out, lessons)
    book.build_assets()
    book.build_lessons()
    book.build_recordings(store, workers=workers)
    book.build_pages()
    return book


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "book")
    parser.add_argument("--store", type=Path, default=STORE, help="where recordings are kept")
    parser.add_argument("--lesson", action="append", help="only this one; may be given again")
    parser.add_argument("--workers", type=int, default=2, help="that record at the same time")
    chosen = parser.parse_args()
    if chosen.out.exists():
        shutil.rmtree(chosen.out)
    begun = time.monotonic()
    book = build(chosen.out, lessons=chosen.lesson, store=chosen.store, workers=chosen.workers)
    files = [file for file in chosen.out.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"{len(book.to_record)} explorers and questions; {len(files)} files, {size:.0f} MB")
    print(f"built in {time.monotonic() - begun:.0f} s")
    if lost := book_links.broken(chosen.out):
        print(f"{len(lost)} links lead nowhere:", *lost, sep="\n  ")
        return 1
    print(f"{chosen.out}: serve it with: python -m http.server --directory {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
