"""The teachers' sheets hold every question of the lessons.

`tests/widgets/test_every_prediction.py` and `test_every_explorer.py`, which compute the answers,
hold the right ones against the sheets.
"""

import importlib
from pathlib import Path

import book_pages
import nbformat
import pytest
from sheets import PAGE, listed

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
SHORTEST = 30  # characters of a sentence to say


def sheet(lesson: Path) -> str:
    return PAGE.split(f"\n## {lesson.stem}\n")[1].split("\n## ")[0]


def asked(lesson: Path) -> dict[str, book_pages.Shown]:
    """Predictions and questions of a lesson by name, in its order."""
    imported: dict[str, str] = {}
    shown = [
        book_pages.shown_in(cell.source, imported)
        for cell in nbformat.read(lesson, as_version=4).cells
        if cell.cell_type == "code"
    ]
    return {s.name: s for s in shown if s is not None and (s.asks or is_question(s))}


def is_question(shown: book_pages.Shown) -> bool:
    return shown.module.endswith(".checks")


def module(shown: book_pages.Shown):
    return importlib.import_module(shown.module)


@each_lesson
def test_a_sheet_lists_every_question_of_its_lesson(lesson):
    rows, questions = listed(sheet(lesson)), asked(lesson)
    predictions = [name for name, shown in questions.items() if shown.asks]
    checks = [name for name, shown in questions.items() if not shown.asks]
    assert predictions and list(rows) == predictions + checks
    assert all(f"**{part}:**" in sheet(lesson) for part in ("Aims", "Before it", "Minutes"))


@each_lesson
def test_a_tempting_answer_is_one_of_the_wrong_ones(lesson):
    for name, shown in asked(lesson).items():
        if shown.asks:
            right, tempting, say = listed(sheet(lesson))[name]
            assert {right, tempting} <= set(module(shown).PREDICT.choices), name
            assert right != tempting and len(say) > SHORTEST, name
