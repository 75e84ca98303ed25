"""Every prediction of the lessons: each choice gets its verdict, and nothing above tells it."""

import importlib
import json
import pkgutil
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from looking import BADLY_WRITTEN

from intuitive.widgets import catalogue
from intuitive.widgets.kit import Explorer, Predict

pytestmark = pytest.mark.model  # some read a text with the language model

LESSONS = sorted(Path(__file__).parents[2].joinpath("notebooks").glob("*.ipynb"))
TELLING = re.compile(r"\d+(?:\.\d+)?%|\d+\.\d+|\d+ of \d+")  # numbers that are nobody's setting


@cache
def predictions() -> dict[tuple[str, str], Predict]:
    """Every `Predict` of a paper's widgets, by (explorer's name, its own name)."""
    found = {}
    for paper in catalogue.papers():
        package = importlib.import_module(f"intuitive.widgets.{paper}")
        for _, module, _ in pkgutil.iter_modules(package.__path__):
            room = importlib.import_module(f"{package.__name__}.{module}")
            for name, value in vars(room).items():
                if isinstance(value, Predict):
                    found[f"{paper}_{module}", name] = value
    return found


@cache
def answer(key: tuple[str, str]) -> tuple[int, str]:
    return predictions()[key].answer()


@pytest.fixture(params=predictions(), ids="-".join)
def key(request) -> tuple[str, str]:
    return request.param


def test_every_choice_gets_its_verdict(key, monkeypatch):
    monkeypatch.setattr(Explorer, "_first_picture", lambda self: None)
    right, why = answer(key)
    assert 0 <= right < len(predictions()[key].choices)
    assert why.endswith((".", "!")) and not BADLY_WRITTEN.search(why), why
    assert why not in predictions()[key].question
    predict = replace(predictions()[key], answer=lambda: answer(key))
    shown = catalogue.explorers()[key[0]](predict=predict)
    try:
        for place, choice in enumerate(predict.choices):
            shown.predict(choice)
            assert shown.wait()
            verdict = shown.verdict
            assert verdict["right"] == right
            assert verdict["state"] == ("right" if place == right else "wrong")
            assert choice in verdict["text"] and predict.choices[right] in verdict["text"]
            assert verdict["text"].endswith(why)
        shown.predict(None)
        assert shown.wait()
        assert shown.verdict["state"] == "told" and shown.verdict["text"] == why
    finally:
        shown.close()


def above(lesson: Path, explorer: str, own: str) -> tuple[list[str], list[str]]:
    """Prose and printed lines of a lesson above a prediction's question: all, and its section's."""
    module = explorer.partition("_")[2]
    read: list[str] = []
    section = 0
    for cell in json.loads(lesson.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if f"predict={module}.{own}" in source:
            return read, read[section:]
        if cell["cell_type"] == "markdown":
            section = len(read) if source.startswith("## ") else section
            read.append(source)
        for output in cell.get("outputs", ()):
            plain = output.get("text") or output.get("data", {}).get("text/plain", "")
            read.append("".join(plain))
    return [], []


def test_nothing_above_gives_the_answer_away(key):
    """Neither its phrase anywhere above, nor its numbers in the same section."""
    explorer, own = key
    predict = predictions()[key]
    right, why = answer(key)
    choice = predict.choices[right]
    given = predict.question + " ".join(predict.choices)
    numbers = {number for number in TELLING.findall(why) if number not in given}
    found = []
    for lesson in LESSONS:
        everything, section = above(lesson, explorer, own)
        if len(choice.split()) > 2:
            found += [(choice, text) for text in everything if choice in text]
        for number in numbers:
            whole = re.compile(rf"(?<![\d.]){re.escape(number)}")
            found += [(number, text) for text in section if whole.search(text)]
    assert found == []


def test_every_lesson_asks():
    for lesson in LESSONS:
        assert "predict=" in lesson.read_text(encoding="utf-8"), lesson.name
