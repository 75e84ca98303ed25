"""The exercise: a right function passes, and each fault is found."""

import re
from pathlib import Path

import pytest

from intuitive.lclm.exercise import best_that_fit, check_choose, ids_of


def solution(shares, lengths, room):
    taken = []
    for i in sorted(range(len(shares)), key=lambda i: (-shares[i], i)):
        if lengths[i] <= room:
            taken.append(i + 1)
            room -= lengths[i]
    return taken


def first_that_does_not_fit_ends_it(shares, lengths, room):
    taken = []
    for i in sorted(range(len(shares)), key=lambda i: (-shares[i], i)):
        if lengths[i] > room:
            break
        taken.append(i + 1)
        room -= lengths[i]
    return taken


def last_of_equals(shares, lengths, room):
    n = len(shares)
    return [n + 1 - i for i in solution(shares[::-1], lengths[::-1], room)]


def test_a_right_function_passes_everything():
    report = check_choose(solution)
    assert report.n_passed == len(report.checks) == 5


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (lambda s, n, room: [x - 1 for x in solution(s, n, room)], "likeliest"),
        (lambda s, n, room: solution(s, n, room)[:1], "second chunk"),
        (first_that_does_not_fit_ends_it, "passed over"),
        (lambda s, n, room: solution([-i for i, _ in enumerate(s)], n, room), "likeliest"),
        (lambda s, n, room: solution(s, [x - 1 for x in n], room), "nothing more fits"),
        (last_of_equals, "lower id"),
    ],
)
def test_each_fault_is_found(wrong, rule):
    failed = [check.rule for check in check_choose(wrong).checks if not check.passed]
    assert any(rule in text for text in failed)


def test_an_unfinished_function_is_told_once():
    report = check_choose(lambda *_: None)
    assert report.n_passed == 0
    assert sum("returned None" in check.finding for check in report.checks) == 1


def test_a_function_that_fails_is_told():
    def unwritten(*_):
        raise NotImplementedError

    assert check_choose(unwritten).checks[0].finding == "Nothing is written yet."
    told = check_choose(lambda *_: "12").checks[0].finding
    assert "return a list of ids" in told and "choose([0.1, 0.7, 0.2]" in told
    assert "ZeroDivisionError" in check_choose(lambda *_: 1 / 0).checks[0].finding


@pytest.mark.parametrize("room", [0, 10, 35, 100])
def test_what_comes_back_fits_and_nothing_likelier_would(room):
    shares, lengths = [0.1, 0.4, 0.2, 0.3], [10, 30, 20, 40]
    taken = best_that_fit(shares, lengths, room)
    assert taken == solution(shares, lengths, room)
    assert sum(lengths[i - 1] for i in taken) <= room


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned None"),
        ("12", "return a list of ids"),
        ([1.5], "return a list of ids"),
        ([0], "ids go from 1 to 2"),
        ([1, 1], "chosen twice"),
        ([1, 2], "only 50 fit"),
    ],
)
def test_odd_ids_are_refused(returned, message):
    with pytest.raises(ValueError, match=message):
        ids_of(returned, [30, 30], 50)


def test_the_solution_in_the_lesson_passes():
    lesson = Path(__file__).parents[2] / "notebooks" / "04_lclm.ipynb"
    text = lesson.read_text(encoding="utf-8").replace('\\n",\n    "', "\\n")
    (code,) = re.findall(r"```python\\n(def choose.*?)```", text)
    space = {}
    exec(code.replace("\\n", "\n").replace('\\"', '"'), space)
    assert check_choose(space["choose"]).n_passed == 5


def test_a_function_that_returns_nothing_passes_nothing():
    assert check_choose(lambda *_: []).n_passed == 0
