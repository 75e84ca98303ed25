"""The book's pages: what they say of the lessons, and that every link on them leads somewhere."""

import re
from pathlib import Path

import nbformat
import pytest
from book import Book, build
from book_links import Links, broken
from book_pages import Shown, lesson, markdown, shown_in
from book_recordings import Kept

from intuitive.widgets.kit import assets

ROOT = Path(__file__).parents[1]
HEADS = ("body", 'body[data-jp-theme-light="false"]')  # of the style sheet, one per theme
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """All pages; what they would show is named, and not recorded."""
    book = Book(tmp_path_factory.mktemp("book"))
    book.build_assets()
    book.build_lessons()
    for name in book.to_record:
        book.recorded[name] = Kept(name, f"Title of {name}", {}, b"", 0)
        book.write(f"recorded/{name}.json.gz", b"")
    book.build_pages()
    return book


def test_every_link_leads_somewhere(book):
    assert broken(book.out) == []


def test_a_broken_link_is_found(tmp_path):
    page = '<a href="a.html#no">x</a><a href="b.html">y</a><a href="#here">z</a><p id="here">'
    tmp_path.joinpath("a.html").write_text(page)
    assert [line.split(": ")[1] for line in broken(tmp_path)] == ["a.html#no", "b.html"]


def test_what_a_page_loads_from_another_host_is_found(tmp_path):
    page = '<img src="https://x.org/a.png"><link href="//x.org/b.css"><a href="https://x.org">x</a>'
    tmp_path.joinpath("a.html").write_text(page + '<img src="data:image/png,">')
    assert broken(tmp_path) == ["a.html: //x.org/b.css", "a.html: https://x.org/a.png"]


def test_every_lesson_paper_and_page_of_the_docs_is_there(book):
    made = {str(file.relative_to(book.out)) for file in book.out.rglob("*.html")}
    for file in LESSONS:
        assert f"lessons/{file.stem}.html" in made
    for file in (ROOT / "docs").rglob("*.md"):
        assert str(file.relative_to(ROOT / "docs").with_suffix(".html")) in made


def test_every_explorer_of_the_lessons_has_its_place_and_its_page(book):
    for file in LESSONS:
        text = (book.out / "lessons" / f"{file.stem}.html").read_text("utf-8")
        cells = nbformat.read(file, as_version=4).cells
        calls = [c for c in cells if c.cell_type == "code" and ".explorer(" in c.source]
        own = [c for c in calls if "exercise" in c.metadata.get("tags", [])]
        places = re.findall(r'data-recorded="\.\./recorded/([\w.-]+)\.json\.gz"', text)
        assert len([n for n in places if not is_question(book.to_record[n])]) == len(calls) - len(
            own
        )
    explorers = [name for name, shown in book.to_record.items() if not is_question(shown)]
    plain = [name for name in explorers if not book.to_record[name].given]
    assert len(plain) > 25
    for name in plain:
        assert (book.out / "explorers" / f"{name}.html").is_file(), name


def is_question(shown: Shown) -> bool:
    return shown.function != "explorer"


def test_ids_of_a_page_are_its_own(book):
    for file in book.out.rglob("*.html"):
        names = Links(file.read_text("utf-8")).names
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, (file.name, twice)


def test_what_a_cell_shows_is_read_from_its_source():
    imported = {}
    source = "from intuitive.widgets.one import two as also\n\nalso.explorer(predict=also.PREDICT)"
    shown = shown_in(source, imported)
    assert shown.name == "one_two" and shown.asks and shown.recorded
    assert shown.call == "from intuitive.widgets.one import two\n\ntwo.explorer()"
    moved = shown_in('also.explorer(how="mean", k=3)', imported)
    assert moved.name == "one_two-how-mean-k-3" and not moved.asks
    assert moved.call.endswith("two.explorer(how='mean', k=3)")
    assert not shown_in("also.explorer(yours=mine)", imported).recorded
    assert shown_in("print(1)", imported) is None
    assert shown_in("%matplotlib", imported) is None


def test_formulas_stay_tex_and_code_stays_code():
    text = markdown("# A `b` c\n\nIf $x_i < 1$ then\n\n$$y^2$$\n\n```python\nx = '$1$'\n```\n")
    assert '<h1 id="a-b-c">' in text
    assert '<span class="tex">x_i &lt; 1</span>' in text
    assert re.search(r'<div class="tex" data-display>\s*y\^2\s*</div>', text)
    assert text.count('class="tex') == 2


def test_an_exercise_keeps_its_poster_and_asks_for_no_recording(book):
    file = next(f for f in LESSONS if "yours=" in f.read_text("utf-8"))
    found = lesson(file, "../", lambda url: url, lambda name, data: name)
    assert "yours" in found.body
    assert found.body.count("<img") == 1 + len([s for s in found.shown if not is_question(s)])
    assert all("yours" not in shown.name for shown in found.shown)


def test_a_whole_book_of_no_lessons_is_built(tmp_path):
    built = build(tmp_path, lessons=[])
    assert built.to_record == {} and (tmp_path / "index.html").is_file()


def test_every_colour_of_jupyterlab_that_the_kit_asks_for_is_the_pages_own():
    """In both themes; what is missing in the dark one would be written light on light."""
    text = (ROOT / "tools" / "book" / "book.css").read_text("utf-8")
    light, dark = (
        re.search(rf"^{re.escape(head)} \{{(.*?)\n\}}", text, re.MULTILINE | re.DOTALL)[1]
        for head in HEADS
    )
    asked = set(re.findall(r"--jp-[\w-]*color[\w-]*", assets.CSS + assets.EXPLORER_JS))
    assert len(asked) > 4
    for block in (light, dark):
        assert asked - set(re.findall(r"(--jp-[\w-]+):", block)) == set()
