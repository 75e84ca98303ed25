"""The reader's guided step: a right one passes, each wrong one fails where it is wrong."""

import pytest

from intuitive.qgf.exercise import check_guided_step


def solution(x, t, dt, velocity, gradient, weight):
    v = velocity(x, t)
    return x + dt * (v + weight * gradient(x + (1 - t) * v))


def failing(step):
    return {i for i, check in enumerate(check_guided_step(step).checks) if not check.passed}


def test_a_right_solution_passes_every_check():
    assert failing(solution) == set()
    assert repr(check_guided_step(solution)).startswith("5 of 5 checks pass\n")


def out_of_distribution(x, t, dt, velocity, gradient, weight):
    return x + dt * (velocity(x, t) + weight * gradient(x))


def subtracted(x, t, dt, velocity, gradient, weight):
    return solution(x, t, dt, velocity, gradient, -weight)


def without_the_step(x, t, dt, velocity, gradient, weight):
    v = velocity(x, t)
    return x + dt * v + weight * gradient(x + (1 - t) * v)


def jumps_the_wrong_way(x, t, dt, velocity, gradient, weight):
    v = velocity(x, t)
    return x + dt * (v + weight * gradient(x - t * v))


@pytest.mark.parametrize(
    "wrong", [out_of_distribution, subtracted, without_the_step, jumps_the_wrong_way]
)
def test_guidance_that_is_wrong_fails_wherever_there_is_any(wrong):
    assert {2, 3, 4} <= failing(wrong) and 0 not in failing(wrong)


def test_no_guidance_passes_the_first_check_only():
    assert failing(lambda x, t, dt, velocity, *_: x + dt * velocity(x, t)) == {1, 2, 3, 4}


def test_unfinished_and_broken_functions_are_reported_not_raised():
    def unfinished(*_):
        raise NotImplementedError

    assert "Nothing is written yet." in repr(check_guided_step(unfinished))
    assert "raised ZeroDivisionError" in check_guided_step(lambda *_: 1 / 0).checks[0].finding
    assert check_guided_step(lambda *_: None).checks[0].finding.endswith("not None.")
    assert not any(check.passed for check in check_guided_step(lambda *_: "x").checks)
