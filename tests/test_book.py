"""The book's pages: what they say of the lessons, and that every link on them leads somewhere."""

import functools
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from book import Book, build
from book_frame import foot, headings
from book_links import Links, broken
from book_pages import Shown, lesson, markdown, shown_in, still
from book_recordings import Kept
from PIL import Image

import intuitive
from intuitive import claims
from intuitive.widgets import catalogue
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


@functools.cache
def read(book, address):
    return (book.out / address).read_text("utf-8")


def test_next_leads_through_all_lessons_and_previous_back(book):
    addresses = [f"lessons/{file.stem}.html" for file in LESSONS]
    for before, here in zip([None, *addresses], [*addresses, None], strict=True):
        if here:
            back = re.findall(r'<a rel="prev" href="\.\./([^"]+)"', read(book, here))
            assert back == [before] * bool(before)
        if before:
            on = re.findall(r'<a rel="next" href="\.\./([^"]+)"', read(book, before))
            assert on == [here] * bool(here)


def test_a_lesson_lists_its_sections_and_says_what_does_not_run_here(book):
    for file in LESSONS:
        text = read(book, f"lessons/{file.stem}.html")
        sections = [name for level, name, _ in headings(text) if level == 2]
        (listed,) = re.findall(r'(?s)<details class="contents">(.*?)</details>', text)
        assert re.findall(r'href="#([^"]+)"', listed) == sections
        top = text[text.index("</h1>") : text.index('<details class="contents">')]
        assert "book's copy" in top and "no cell runs here" in top
        assert 'href="../index.html#run-it-yourself"' in top


def test_every_row_of_the_ledger_has_an_anchor(book):
    names = Links(read(book, "claims.html")).names
    assert [row.id for row in claims.ledger() if row.id not in names] == []


def test_the_index_of_the_search_leads_to_titles_headings_words_claims_and_names(book):
    whole = json.loads((book.out / "assets" / "search.json").read_text("utf-8"))
    rows = [(whole["kinds"][kind], title, address) for kind, title, address, _ in whole["rows"]]
    for name, inside in whole["reference"].items():
        rows += [("reference", one or name, f"api/{name}.html#{one}") for one in inside]
    anchors = {}
    for _, title, address in rows:
        page, _, anchor = address.partition("#")
        if page not in anchors:
            anchors[page] = Links(read(book, page)).names
        assert not anchor or anchor in anchors[page], (title, address)
    named = {kind: {title for one, title, _ in rows if one == kind} for kind in whole["kinds"]}
    assert set(book.titles.values()) <= named["page"]
    assert {address for kind, _, address in rows if kind == "claim"} == {
        f"claims.html#{row.id}" for row in claims.ledger()
    }
    assert "intuitive.msa.reference" in named["reference"] and "MSAConfig" in named["reference"]
    assert any(word.startswith("h_q") for word in named["word"])
    cards = [name for name in book.to_record if name in catalogue.explorers()]
    assert len([row for row in rows if row[0] == "explorer"]) == len(cards)
    assert any("Honest limits" in title for title in named["section"])


def test_all_explorers_stand_under_their_lessons_in_their_order(book):
    text = read(book, "explorers/index.html")
    groups = re.findall(r'<h2 id="([^"]+)">.*?</h2><ul class="cards">(.*?)</ul>', text)
    names = [name for name, _ in groups]
    assert names == sorted(names) and len(names) > 4
    found = []
    for lesson_name, cards in groups:
        order = re.findall(r'id="(\w+)" data-recorded', read(book, f"lessons/{lesson_name}.html"))
        inside = re.findall(r'href="(\w+)\.html"', cards)
        assert inside == [name for name in order if name in inside]
        assert all(f"Title of {name}<span>" in cards for name in inside)
        found += inside
    assert sorted(found) == sorted(set(found)) == sorted(set(catalogue.explorers()) & set(found))
    assert set(found) == {name for name in book.to_record if name in catalogue.explorers()}
    paper = dict(groups)["06_qgf"]
    assert 'href="qgf_particle.html"' in paper and 'href="msa_' not in paper


def test_pictures_of_the_book_ask_nobody_to_run_a_cell(book):
    for name in catalogue.explorers():
        before = Image.open(catalogue.poster(name))
        after = Image.open(book.out / "pictures" / f"{name}.png")
        assert after.width == before.width and 0 < before.height - after.height < 150, name
        blue = abs(np.asarray(after.convert("RGB"), dtype=int)[:, 18] - (0, 114, 178)).sum(-1) < 40
        assert not blue[-60:].any(), name
    plain = io.BytesIO()
    Image.new("RGB", (60, 60), "white").save(plain, "PNG")
    assert still(plain.getvalue()) == plain.getvalue()


def test_every_page_says_its_version_and_licence_and_a_commit_where_there_is_git(book, tmp_path):
    for file in book.out.rglob("*.html"):
        text = file.read_text("utf-8")
        assert re.search(rf"<footer>intuitive {intuitive.__version__} .*MIT licence", text), file
    assert "built from" not in foot(tmp_path)
    if (ROOT / ".git").exists():
        assert re.search(r"built from <code>\S+</code> of <time datetime=\"20\d\d-", foot())
