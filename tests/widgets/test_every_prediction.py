"""Every prediction of the lessons: each choice gets its verdict, and nothing above tells it."""

import importlib
import itertools
import json
import math
import pkgutil
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from looking import BADLY_WRITTEN
from sheets import listed

from intuitive.widgets import catalogue
from intuitive.widgets.kit import Explorer, Predict

pytestmark = pytest.mark.model  # some read a text with the language model

LESSONS = sorted(Path(__file__).parents[2].joinpath("notebooks").glob("*.ipynb"))
TELLING = re.compile(r"\d+(?:\.\d+)?%|\d+\.\d+|\d+ of \d+")  # numbers that are nobody's setting
ANSWERS = re.compile(r"(?<! of )(?<![\d.])(?!100%)\d+(?:\.\d+|(?=%))%?")  # no whole of a share
MEASURED = re.compile(r"(?<![\d.,])\d+(?:\.\d+)?%?(?![\d.]*\d)")
PICTURE = re.compile(r"\.(explorer|broken)\(")  # the next explorer, which has what it has to say


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


def test_the_teachers_sheet_has_the_right_answer(key):
    explorer, own = key
    if own == "PREDICT" and explorer in listed():
        assert listed()[explorer][0] == predictions()[key].choices[answer(key)[0]]


def cells(lesson: Path) -> list[tuple[dict, str]]:
    """A lesson's cells, each with its source."""
    found = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    return [(cell, "".join(cell["source"])) for cell in found]


def printed(cell: dict) -> list[str]:
    """What stands below a cell, in words, folded or not."""
    outputs = cell.get("outputs", ())
    return ["".join(o.get("text") or o.get("data", {}).get("text/plain", "")) for o in outputs]


def unfolded(cell: dict) -> list[str]:
    """What is printed below a cell and read without opening anything."""
    folds = ["".join(o.get("data", {}).get("text/markdown", "")) for o in cell.get("outputs", ())]
    return [
        text for text, fold in zip(printed(cell), folds, strict=True) if "<details>" not in fold
    ]


def above(lesson: Path, explorer: str, own: str) -> tuple[list[str], list[str]]:
    """Prose and printed lines of a lesson above a prediction's question: all, and its section's."""
    module = explorer.partition("_")[2]
    read: list[str] = []
    section = 0
    for cell, source in cells(lesson):
        if f"predict={module}.{own}" in source:
            return read, read[section:]
        if cell["cell_type"] == "markdown":
            section = len(read) if source.startswith("## ") else section
            read.append(source)
        read += printed(cell)
    return [], []


def below(lesson: Path, explorer: str, own: str) -> list[str]:
    """What is printed openly from a prediction's question to the next explorer."""
    module = explorer.partition("_")[2]
    found = cells(lesson)
    asked = [i for i, (_, source) in enumerate(found) if f"predict={module}.{own}" in source]
    if not asked:
        return []
    after = itertools.takewhile(lambda one: not PICTURE.search(one[1]), found[asked[0] + 1 :])
    return [text for cell, _ in after for text in unfolded(cell)]


def said(number: str) -> tuple[float, float, int]:
    """A number's value, half of its last place, and how many digits it was measured to."""
    share = 100 if number.endswith("%") else 1
    digits = number.rstrip("%")
    places = len(digits.partition(".")[2])
    measured = digits.replace(".", "").lstrip("0")
    return float(digits) / share, 0.5 * 10**-places / share, len(measured)


def same(one: str, other: str) -> bool:
    """Whether two numbers are one, told to different places or as a share: 99% and 0.990."""
    (a, off, n), (b, off_too, n_too) = said(one), said(other)
    return min(n, n_too) >= 2 and math.isclose(a, b, rel_tol=1e-9, abs_tol=max(off, off_too))


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


def test_nothing_printed_below_gives_the_answer_away(key):
    """The numbers of the answer's first sentence wait in folds, up to the next explorer."""
    explorer, own = key
    _, why = answer(key)
    given = predictions()[key].question + " ".join(predictions()[key].choices)
    sentence = re.split(r"(?<=[.!]) (?=[A-Z])", why)[0]  # what comes after it gives the reasons
    numbers = [n for n in ANSWERS.findall(sentence) if n not in given]
    found = [
        (number, text)
        for lesson in LESSONS
        for text in below(lesson, explorer, own)
        for number in numbers
        if any(same(number, other) for other in MEASURED.findall(text))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("0.300", "0.29990", True),
        ("0.000836", "0.00084", True),
        ("99%", "0.99", True),
        ("58%", "0.59", False),
        ("2.06", "2.0", False),
        ("8%", "0.08", False),  # one digit is met by chance
    ],
)
def test_a_number_is_known_again_in_other_places(one, other, equal):
    assert same(one, other) == equal


def test_every_lesson_asks():
    for lesson in LESSONS:
        assert "predict=" in lesson.read_text(encoding="utf-8"), lesson.name
