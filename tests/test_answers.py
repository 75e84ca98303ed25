"""The teachers' sheets hold every question of the lessons, with the answer that is computed."""

import importlib
import re
from pathlib import Path

import book_pages
import nbformat
import pytest

from intuitive.widgets.kit import CheckYourself

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "teaching_answers.md").read_text("utf-8")
LESSONS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
SHORTEST = 30  # characters of a sentence to say


def sheet(lesson: Path) -> str:
    return PAGE.split(f"\n## {lesson.stem}\n")[1].split("\n## ")[0]


def listed(text: str) -> dict[str, list[str]]:
    """The cells of every row after the name of its question."""
    rows = re.findall(r"^\| [^|]+ \| `([\w-]+)` \| (.+) \|$", text, re.MULTILINE)
    return {name: rest.split(" | ") for name, rest in rows}


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


@pytest.fixture(autouse=True)
def own_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


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


@pytest.mark.slow
@pytest.mark.model
@each_lesson
def test_the_right_answers_are_those_that_are_computed(lesson):
    rows = listed(sheet(lesson))
    for name, shown in asked(lesson).items():
        if shown.asks:
            predict = module(shown).PREDICT
            right = predict.choices[predict.answer()[0]]
        else:
            question = getattr(module(shown), shown.function)()
            assert isinstance(question, CheckYourself), name
            right = question.spec["choices"][question.choose(0)["right"]]
            question.close()
        assert rows[name][0] == right, name
