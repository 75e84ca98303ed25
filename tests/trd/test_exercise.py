"""The reader's loss of one position: a right one passes, wrong ones fail where they are wrong."""

import math

import pytest

from intuitive.trd.exercise import check_position_loss


def solution(teacher, student, on_refined):
    if not on_refined:
        return 0.0
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True) if p > 0)


def failing(loss):
    return {i for i, check in enumerate(check_position_loss(loss).checks) if not check.passed}


def test_a_right_solution_passes_every_check():
    assert failing(solution) == set()


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (lambda p, q, r: solution(q, p, r) if 0 not in p else math.inf, {1, 2, 3}),
        (lambda p, q, r: solution(p, q, True), {4}),
        (lambda p, q, r: solution(p, q, r) / math.log(2), {1, 2, 3}),
        (lambda p, q, r: solution(p[:2], q[:2], r), {3}),
        (lambda p, q, r: r and sum(a * math.log(a / b) for a, b in zip(p, q)), {2}),  # noqa: B905
        (lambda *_: None, {0, 1, 2, 3, 4}),
    ],
    ids=["reversed", "on y_o", "in bits", "two tokens", "log of zero", "nothing"],
)
def test_wrong_solutions_fail_where_they_are_wrong(wrong, where):
    assert failing(wrong) == where


def test_an_unfinished_function_is_reported_not_raised():
    def unfinished(*_):
        raise NotImplementedError

    assert "Nothing is written yet." in repr(check_position_loss(unfinished))
