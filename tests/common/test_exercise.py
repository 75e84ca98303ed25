"""What is still as the lesson gives it has failed nothing, and is told what to write first."""

import itertools
import json
import re
from pathlib import Path

import pytest

from intuitive.common.exercise import Check, ExerciseReport, Tried

CHECKS = (Check("It adds.", False, "2, not 0."), Check("It halts.", True, ""))
LESSONS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def given(lesson):
    """Of a lesson's exercises: code that defines the function, and the call that checks it."""
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "exercise" in cell["metadata"].get("tags", ())]
    sources = ["".join(cell["source"]) for cell in tagged]
    imports = re.findall(r"^from .* import .*check_.*$", "\n".join(sources), re.MULTILINE)
    for function, check in itertools.pairwise(sources):
        call = check.splitlines()[-1]
        if call.startswith("check_") and "@triton" not in function:
            yield "\n".join([*imports, function]), call


def test_a_report_counts_or_waits():
    assert repr(ExerciseReport(CHECKS)) == (
        "1 of 2 checks pass\n  not yet: It adds. 2, not 0.\n  pass: It halts."
    )
    waiting = ExerciseReport(CHECKS, first="add answers nothing. Return first the sum.")
    assert not waiting.begun
    assert repr(waiting) == (
        "Not begun: add answers nothing. Return first the sum.\n2 checks wait:\n"
        "  It adds.\n  It halts."
    )


@pytest.mark.parametrize(
    ("function", "begun"),
    [
        (lambda a, b: [], False),
        (lambda a, b: None, True),
        (lambda a, b: (), True),
        (lambda a, b: [a] if a > 1 else [], True),
        (lambda a, b: 1 / (a - 2), True),
    ],
)
def test_a_function_is_untouched_while_it_answers_as_the_lesson_s(function, begun):
    tried = Tried(function, lambda a, b: [])
    for a in (1, 2, 3):
        try:
            assert tried(a, 0) == function(a, 0)
        except ZeroDivisionError:
            assert a == 2
    assert tried.report(CHECKS, "Begin.").begun == begun


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_the_lesson_s_own_function_is_not_begun(lesson):
    found = list(given(lesson))
    assert found or lesson.stem.startswith("00")
    for code, call in found:
        space = {}
        exec(code, space)
        report = eval(call, space)
        assert not report.begun and " first " in report.first, report
        assert "not yet" not in repr(report)
