"""What is still as the lesson gives it has failed nothing, and is told what to write first."""

import json
from pathlib import Path

import pytest

from intuitive.common.exercise import Check, ExerciseReport, Tried

CHECKS = (Check("It adds.", False, "2, not 0."), Check("It halts.", True, ""))
LESSONS = Path(__file__).parents[2] / "notebooks"
GIVEN = {  # cells of a lesson: the function, and the report on it
    "01_msa": ("01-28", "01-29"),
    "02_kernels": ("02-28", "02-29"),
    "03_lsa": ("03-39", "03-40"),
    "04_lclm": ("04-35", "04-36"),
    "05_arena": ("05-16", "05-17"),
    "06_qgf": ("qgf-22", "qgf-23"),
    "07_trd": ("trd-24", "trd-25"),
}


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


@pytest.mark.parametrize("lesson", GIVEN)
def test_the_lesson_s_own_function_is_not_begun(lesson):
    cells = json.loads((LESSONS / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]
    source = {cell["id"]: "".join(cell["source"]) for cell in cells}
    function, check = (source[name] for name in GIVEN[lesson])
    if lesson == "02_kernels":
        check = "from intuitive.msa.kernel_exercise import check_merge\n" + check
    *setting, asked = check.splitlines()
    space = {}
    exec("\n".join([function, *setting]), space)
    report = eval(asked, space)
    assert not report.begun and "First" not in report.first and " first " in report.first
    assert "not yet" not in repr(report)
