"""Checks for the lesson's "your turn": the reader writes one step of Q-Guided Flow.

    def guided_step(x, t, dt, velocity, gradient, weight):
        '''Where a particle at x stands at time t + dt.'''

    check_guided_step(guided_step)

`velocity(x, t)` is the flow's velocity, `gradient(a)` the critic's derivative at an action.

Source: Zhou et al. 2026, arXiv:2606.11087, Algorithm 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from intuitive.common.exercise import Check, ExerciseReport

Field = Callable[[float, float], float]
Gradient = Callable[[float], float]
GuidedStep = Callable[[float, float, float, Field, Gradient, float], float]


@dataclass(frozen=True)
class _Case:
    rule: str
    x: float
    t: float
    dt: float
    weight: float


_CASES = (
    _Case("With weight 0 it is an Euler step along the flow.", 0.4, 0.3, 0.1, 0.0),
    _Case("Guidance points up the critic: it is added.", 0.4, 0.0, 0.5, 1.0),
    _Case("The critic is asked at the estimate of the clean action.", -0.7, 0.2, 0.25, 2.0),
    _Case("The gradient is scaled by weight and step, by nothing else.", 1.5, 0.6, 0.2, 3.0),
    _Case("The last step is one step of ascent from that estimate.", 0.8, 0.9, 0.1, 4.0),
)


def _velocity(x: float, t: float) -> float:
    """A field that tells positions and times apart."""
    return math.sin(2 * x) + 0.5 - t * x


def _gradient(a: float) -> float:
    return math.cos(a) + 0.25 * a


def _expected(case: _Case) -> float:
    v = _velocity(case.x, case.t)
    clean = case.x + (1 - case.t) * v
    return case.x + case.dt * (v + case.weight * _gradient(clean))


def check_guided_step(step: GuidedStep) -> ExerciseReport:
    """Try the reader's `guided_step(x, t, dt, velocity, gradient, weight)` against Algorithm 1.

    Whatever the function does, nothing is raised: what goes wrong stands in the report.

    Args:
        step: gets position, time, step length, the two functions and the weight; returns the
            next position.
    """
    return ExerciseReport(tuple(_check(step, case) for case in _CASES))


def _check(step: GuidedStep, case: _Case) -> Check:
    want = _expected(case)
    given = (
        f"guided_step(x={case.x}, t={case.t}, dt={case.dt}, velocity, gradient, "
        f"weight={case.weight})"
    )
    try:
        got = step(case.x, case.t, case.dt, _velocity, _gradient, case.weight)
        if got is not None and math.isclose(float(got), want, rel_tol=1e-9, abs_tol=1e-12):
            return Check(case.rule, True, "")
    except NotImplementedError:
        return Check(case.rule, False, "Nothing is written yet.")
    except Exception as error:  # a reader's function may fail in any way
        return Check(case.rule, False, f"{given} raised {type(error).__name__}: {error}")
    told = got if isinstance(got, str) or got is None else f"{float(got):.4f}"
    return Check(case.rule, False, f"{given} should be {want:.4f}, not {told}.")
