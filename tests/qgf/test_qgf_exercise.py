"""The reader's guided step: a right one passes, each wrong one fails where it is wrong."""

import pytest
import torch

from intuitive.common.runtime import Cancelled
from intuitive.qgf.exercise import StepFault, check_guided_step, follow
from intuitive.qgf.trimodal import PRESETS


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
    ("wrong", "rules", "said"),
    [
        (out_of_distribution, {2, 4}, "asked at the noisy x itself"),
        (subtracted, {1, 3, 4}, "your step goes down"),
        (without_the_step, {3, 4}, "the push should be 0.6000, not 3.0000"),
        (jumps_the_wrong_way, {2, 4}, "asked at -0.6309"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_step_fails_where_it_is_wrong_and_is_told_why(wrong, rules, said):
    assert failing(wrong) == rules
    findings = [check.finding for check in check_guided_step(wrong).checks if not check.passed]
    assert said in findings[0]


def test_a_step_that_asks_nothing_passes_the_first_check_only():
    assert failing(lambda x, t, dt, velocity, *_: x + velocity(x, t) * dt + 0.0) == {1, 2, 3, 4}


def test_unfinished_and_broken_functions_are_reported_not_raised():
    def unfinished(*_):
        raise NotImplementedError

    assert "Nothing is written yet." in repr(check_guided_step(unfinished))
    assert "raised ZeroDivisionError" in check_guided_step(lambda *_: 1 / 0).checks[0].finding
    assert "returns None: end it with `return`" in repr(check_guided_step(lambda *_: None))
    assert not any(check.passed for check in check_guided_step(lambda *_: "x").checks)


# ---------------------------------------------------------------------------- particles of a flow


def followed(step, start=(-0.5, 0.8), **more):
    flow = PRESETS["A"]
    x = torch.tensor(start, dtype=torch.float64)
    settings = {"field": flow.mixture, "critic": flow.q, "weight": 1.0, "n_steps": 5} | more
    return follow(step, x, **settings)


def test_a_step_moves_particles_as_numbers_and_as_tensors_alike():
    def of_numbers(x, t, dt, velocity, gradient, weight):
        return float(solution(x, t, dt, velocity, gradient, weight))

    together, apart = followed(solution), followed(of_numbers)
    assert together.shape == (6, 2)
    torch.testing.assert_close(together, apart, atol=1e-9, rtol=0)
    assert followed(of_numbers, n_few=1).shape == (6, 1)


def test_a_step_that_changes_its_argument_changes_nothing_else():
    def in_place(x, t, dt, velocity, gradient, weight):
        x += dt * velocity(x, t)
        return x

    def plain(x, t, dt, velocity, gradient, weight):
        return x + dt * velocity(x, t)

    torch.testing.assert_close(followed(in_place), followed(plain))
    assert followed(in_place)[0].tolist() == [-0.5, 0.8]


def test_a_fault_names_the_time_and_a_stale_request_stops():
    def breaks_late(x, t, dt, velocity, gradient, weight):
        return x if t < 0.5 else x / 0.0 if isinstance(x, float) else x * float("nan")

    with pytest.raises(StepFault, match=r"At t = 0.60 guided_step raised ZeroDivisionError"):
        followed(breaks_late)
    with pytest.raises(Cancelled):
        followed(solution, stale=lambda: True)


def test_a_notebooks_switch_changes_no_path():
    want = followed(solution)
    with torch.inference_mode():
        torch.testing.assert_close(followed(solution), want)
    with torch.set_grad_enabled(False):
        torch.testing.assert_close(followed(solution), want)
