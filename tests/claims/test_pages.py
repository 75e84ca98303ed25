"""The papers' pages and the first page of the book say what the ledger says, and what was read."""

import re
from pathlib import Path

import pytest

from intuitive import claims

ROOT = Path(__file__).parents[2]
HOME = ROOT / "tools" / "book" / "home.md"
FIRST = claims.paper_names()[0]
each_paper = pytest.mark.parametrize("paper", claims.paper_names())


def page(paper: str) -> str:
    return (ROOT / "docs" / "papers" / f"{paper}.md").read_text("utf-8")


def verdict_cells(text: str) -> list[str]:
    """The third cell of each row under "Claims"."""
    table = re.search(r"^## Claims\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return [cells[2] for cells in rows[2:]]


def told(cell: str) -> list[tuple[str, str]]:
    """Verdicts of a cell, each with the row of the ledger that it leads to."""
    return re.findall(r"\[([^]]+)\]\(\.\./claims\.md#([\w-]+)\)", cell)


def wrong(text: str, rows: tuple[claims.Row, ...]) -> list[str]:
    """What a page says otherwise than the ledger, says twice, or leaves out."""
    cells = verdict_cells(text)
    said = [one for cell in cells for one in told(cell)]
    lacks = [f"no verdict: {cell}" for cell in cells if cell != "–" and not told(cell)]
    lacks += [
        f"{row.id}: {row.verdict}, {said.count((row.verdict, row.id))} times"
        for row in rows
        if said.count((row.verdict, row.id)) != 1
    ]
    ids = {row.id for row in rows}
    return lacks + [f"{id}: {verdict}" for verdict, id in said if id not in ids]


@each_paper
def test_a_paper_page_gives_the_ledger_s_verdicts(paper):
    assert wrong(page(paper), claims.ledger(paper)) == []


def test_another_verdict_a_missing_row_and_another_word_are_found():
    rows = claims.ledger(FIRST)
    first = f"[{rows[0].verdict}](../claims.md#{rows[0].id})"
    text = page(FIRST)
    assert len(wrong(text.replace(first, first.replace(rows[0].verdict, "seen")), rows)) == 1
    assert len(wrong(text.replace(first, "–"), rows)) == 1
    assert len(wrong(text.replace(first, "holds"), rows)) == 2
    assert wrong(text, rows[1:]) == [f"{rows[0].id}: {rows[0].verdict}"]


@each_paper
def test_how_far_a_paper_was_read_is_said_wherever_it_is_judged(paper):
    """In the ledger too: `test_rows.py` compares that page with what is printed."""
    read = f"Read {claims.paper_of(paper).read}."
    assert read in page(paper).split("## In short")[0]
    assert claims.paper_of(paper).link in page(paper).split("## In short")[0]
    assert read in claims.as_page(claims.ledger(paper))
    assert re.search(rf"^\| {paper.upper()} \| .*{re.escape(read)}", HOME.read_text(), re.MULTILINE)
