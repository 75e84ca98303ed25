"""What the pages say is so: examples run, links lead somewhere, named code and commands exist.

A fence that opens with ```python run is executed, all such blocks of a page as one program;
```python run model needs the model file. A ```text output fence holds what the block before it
prints.
"""

import ast
import contextlib
import io
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path

import films
import pytest

from intuitive import cli
from intuitive.widgets import catalogue

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@dataclass(frozen=True)
class Fence:
    info: str  # the words after the opening backticks
    text: str
    line: int  # number of its first line


def fences(text: str) -> list[Fence]:
    return [
        Fence(hit[1], hit[2], text[: hit.start(2)].count("\n") + 1)
        for hit in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    ]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*\n(?:.*\n)*?```$", "", text, flags=re.MULTILINE)


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(text))


# ------------------------------------------------------------------------------ examples


def run_page(text: str, *, name: str = "page") -> None:
    """Execute a page's runnable fences in order; what they print must be what the page says."""
    namespace: dict = {"__name__": "docs"}
    printed = ""
    for fence in fences(text):
        if fence.info.startswith("python run"):
            code = compile("\n" * (fence.line - 1) + fence.text, name, "exec")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, namespace)
            printed = out.getvalue()
        elif fence.info == "text output":
            assert printed == fence.text, f"{name}, line {fence.line}: it prints\n{printed}"


def runnable(page: Path) -> list[str]:
    return [f.info for f in fences(page.read_text("utf-8")) if f.info.startswith("python run")]


RUNNABLE = [
    pytest.param(
        page,
        id=str(page.relative_to(ROOT)),
        marks=[pytest.mark.model] if "python run model" in runnable(page) else [],
    )
    for page in PAGES
    if runnable(page)
]


@pytest.mark.parametrize("page", RUNNABLE)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    run_page(page.read_text("utf-8"), name=str(page))


@pytest.mark.parametrize("name", ["README.md", "docs/explorers.md", "docs/decoder.md"])
def test_pages_with_examples(name):
    assert runnable(ROOT / name)


def test_a_failing_example_and_a_wrong_output_are_found():
    right = "```python run\nprint(1 + 1)\n```\n\n```text output\n2\n```\n"
    run_page(right)
    with pytest.raises(AssertionError, match="line 6: it prints"):
        run_page(right.replace("\n2\n", "\n3\n"))
    with pytest.raises(ZeroDivisionError):
        run_page("```python run\nx = 1\n```\n\n```python run\nx / 0\n```\n")
    run_page("```python\nnot for running\n```\n")


# --------------------------------------------------------------------------------- links


def anchors(text: str) -> set[str]:
    """The names by which a code host lets links point at a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    named = re.findall(r'<a id="([^"]+)">', prose(text))
    return {heading.strip().replace(" ", "-") for heading in plain} | set(named)


def broken_links(page: Path, text: str) -> list[str]:
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"\w+:", target):
            continue  # another host
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        here = file.exists() and file.is_relative_to(ROOT)
        there = file.read_text("utf-8") if path and anchor and here else text
        if not here or (anchor and anchor not in anchors(there)):
            found.append(target)
    return found


@each_page
def test_links_lead_somewhere(page):
    assert broken_links(page, page.read_text("utf-8")) == []


def test_a_broken_link_is_found():
    text = "# Two Words!\n[a](README.md) [b](#two-words) [c](no.md) [d](#three) [e](https://x.org)"
    text += '\n<a id="row-1"></a>a row, [f](#row-1)'
    assert broken_links(ROOT / "README.md", text) == ["no.md", "#three"]


@each_page
def test_every_page_can_be_reached_from_the_index(page):
    index = ROOT / "docs" / "index.md"
    if page in (index, ROOT / "README.md"):
        return
    assert f"]({page.relative_to(index.parent)})" in index.read_text("utf-8")


# ------------------------------------------------------------------------- commands, code


def commands(text: str) -> list[str]:
    """Every `make ...` and `intuitive ...` in a code span or on a line of a shell fence."""
    shell = [line for f in fences(text) if f.info in ("sh", "text") for line in f.text.split("\n")]
    return [code for code in (*code_spans(text), *shell) if re.match(r"(make|intuitive) \w", code)]


def unknown_command(command: str) -> bool:
    program, word, *rest = command.split("#")[0].split()
    if program == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        return not re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            cli.main([word, "--help"])
        except SystemExit as stopped:
            options = [option for option in rest if option.startswith("-")]
            return stopped.code != 0 or any(option not in out.getvalue() for option in options)
    return True


@each_page
def test_commands_exist(page):
    assert [c for c in commands(page.read_text("utf-8")) if unknown_command(c)] == []


def test_an_unknown_command_is_found():
    text = "`make lab` `make tea` `intuitive lab --folder here` `intuitive lab --tea`\n```sh\n"
    text += "intuitive tea   # no such thing\n```\n"
    assert [c.split("#")[0].strip() for c in commands(text) if unknown_command(c)] == [
        "make tea",
        "intuitive lab --tea",
        "intuitive tea",
    ]


def missing(span: str) -> bool:
    """True for a code span that names a module, function, test or file that is not there."""
    if re.fullmatch(r"intuitive(\.\w+)+", span):
        try:
            pkgutil.resolve_name(span)
        except (ImportError, AttributeError):
            return True
    if test := re.fullmatch(r"(tests/[\w/]+\.py)::(test_\w+)", span):
        file = ROOT / test[1]
        return not file.exists() or f"def {test[2]}(" not in file.read_text("utf-8")
    top = {path.name for path in ROOT.iterdir()} - {"build", "dist"}  # what commands make
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", span) and "/" in span and span.split("/")[0] in top:
        return not (ROOT / span).exists()
    return False


@each_page
def test_named_code_exists(page):
    assert [span for span in code_spans(page.read_text("utf-8")) if missing(span)] == []


def test_missing_names_are_found():
    right = ["intuitive.common.records.save", "tests/test_docs.py", "docs/", "a/b", "kernels"]
    right += ["tests/test_docs.py::test_missing_names_are_found"]
    wrong = ["intuitive.common.records.tea", "tests/test_tea.py", "tests/test_docs.py::test_tea"]
    assert [span for span in right + wrong if missing(span)] == wrong


PAPERS = [path.name for path in (ROOT / "widgets").iterdir() if (path / "posters").is_dir()]
ANY_PAPER = "PAPER"  # stands for each of them in the tree


def entries(tree: str) -> set[str]:
    """The paths that an annotated tree lists."""
    folders, listed = [], set()
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], line.split()[0]]
        listed.add("/".join(name.strip("/") for name in folders))
    return listed


def nowhere(entry: str) -> bool:
    """True where no paper has what the entry names; an entry without PAPER has one reading."""
    return not any((ROOT / entry.replace(ANY_PAPER, paper)).exists() for paper in PAPERS)


def mapped(package: str) -> bool:
    """Whether the map in the front door of intuitive/NAME lists this folder of it."""
    folder, name = (ROOT / package).parent, Path(package).name
    if folder.parent != ROOT / "intuitive":
        return False
    door = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    return any(line.split()[:1] == [f"{name}/"] for line in door.splitlines())


def test_the_tree_in_the_readme_is_the_repository():
    """Every entry exists, and no folder of the package is left out, nor any paper."""
    tree = next(f for f in fences((ROOT / "README.md").read_text("utf-8")) if f.info == "text tree")
    listed = entries(tree.text)
    assert [entry for entry in sorted(listed) if nowhere(entry)] == []
    packages = {
        str(init.parent.relative_to(ROOT))
        for folder in ("intuitive", "kernels", "widgets")
        for init in (ROOT / folder).rglob("__init__.py")
    }
    # A paper's own folders are mapped by its front door, also before it has pictures.
    own = {name for name in packages if set(name.split("/")[1:2]) & set(PAPERS) or mapped(name)}
    assert sorted(packages - own - listed - {"intuitive/common/text"}) == []
    assert [paper for paper in PAPERS if f"intuitive/{paper}" not in listed] == []


def test_a_wrong_entry_of_the_tree_is_found():
    listed = entries(
        "widgets/     all\n  PAPER/     one\n    tea.py   none has it\n  kit/   is there"
    )
    assert [entry for entry in sorted(listed) if nowhere(entry)] == ["widgets/PAPER/tea.py"]


def test_the_map_of_a_front_door_is_read():
    rooms = (ROOT / "intuitive").glob("*/experiments/__init__.py")
    assert all(mapped(str(room.parent.relative_to(ROOT))) for room in rooms)
    assert not mapped("intuitive/common/tea") and not mapped("intuitive/common")


def test_every_paper_has_an_example_in_the_readme():
    run = [f.text for f in fences((ROOT / "README.md").read_text("utf-8")) if "run" in f.info]
    assert [p for p in PAPERS if not any(f"from intuitive.{p}" in text for text in run)] == []


WITH_ROOMS = [paper for paper in PAPERS if paper != "arena"]  # which stands above all papers


def missing_rooms(tree: str) -> list[str]:
    """Entries that some paper has not."""
    wanted = [entry.replace(ANY_PAPER, paper) for entry in entries(tree) for paper in WITH_ROOMS]
    return sorted({entry for entry in wanted if not (ROOT / entry).exists()})


def test_every_paper_has_the_rooms_that_contributors_are_told():
    page = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    tree = next(f for f in fences(page) if f.info == "text rooms").text
    assert len(entries(tree)) > 10
    assert missing_rooms(tree) == []


def test_a_room_that_one_paper_has_not_is_found():
    tree = "intuitive/\n  PAPER/\n    results.py   all\n    tea.py   none"
    assert missing_rooms(tree) == sorted(f"intuitive/{p}/tea.py" for p in WITH_ROOMS)


# What every paper's page has, in this order; the first page of the book shows what is in short.
SHORT = re.compile(
    r"^- \*\*Changes:\*\* .+\n- \*\*Costs:\*\* .*\$.+\$.*\n- \*\*Fails:\*\* .+$", re.MULTILINE
)
PAPER_PAGES = sorted((ROOT / "docs" / "papers").glob("*.md"))


def missing_parts(text: str, template: str) -> list[str]:
    """Headings of the template that a page has not, or not in that order, and other lacks."""
    wanted = re.findall(r"^## .+$", template, re.MULTILINE)
    found = [line for line in re.findall(r"^## .+$", text, re.MULTILINE) if line in wanted]
    lacks = [] if found == wanted else sorted(set(wanted) - set(found)) or ["another order"]
    for name, pattern in (("in short", SHORT), ("film", r"!\[.+\]\(\.\./films/\w+\.gif\)")):
        if re.search(pattern, text.split("## The method")[0]) is None:
            lacks.append(name)
    return lacks


def template() -> str:
    page = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    return next(f for f in fences(page) if f.info == "text page").text


@pytest.mark.parametrize("page", PAPER_PAGES, ids=lambda page: page.stem)
def test_every_paper_has_the_page_that_contributors_are_told(page):
    assert missing_parts(page.read_text("utf-8"), template()) == []


def test_the_template_of_a_page_is_whole_and_a_part_left_out_is_found():
    whole = template()
    assert missing_parts(whole, whole) == []
    assert missing_parts(whole.replace("- **Fails", "- **Falls"), whole) == ["in short"]
    assert missing_parts(whole.replace("## Claims\n", ""), whole) == ["## Claims"]
    assert missing_parts(whole.replace("films/", "gifs/"), whole) == ["film"]


def test_films_are_those_that_pages_show():
    assert films.wanted() == sorted(film.stem for film in films.FOLDER.glob("*.gif"))
    assert {name.rpartition("_")[0] for name in films.wanted()} <= set(catalogue.explorers())
