"""Checks for the lesson's "your turn": the reader writes one step of Q-Guided Flow.

    def guided_step(x, t, dt, velocity, gradient, weight):
        '''Where a particle at x stands at time t + dt.'''

    check_guided_step(guided_step)

`velocity(x, t)` is the flow's velocity, `gradient(a)` the critic's derivative at an action.
`follow` lets the same function move particles of a flow.

Source: Zhou et al. 2026, arXiv:2606.11087, Algorithm 1.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from intuitive.common.exercise import Check, ExerciseReport, Tried
from intuitive.common.runtime import check, never

from .critics import Critic
from .guidance import Field, Oracles, Stale

Velocity = Callable[[float, float], float]
Gradient = Callable[[float], float]
GuidedStep = Callable[[float, float, float, Velocity, Gradient, float], float]


WHERE = "The critic is asked at the estimate of the clean action."
WRITE_FIRST = (
    "guided_step goes along the flow alone. Compute first the estimate of the clean action, and "
    "ask `gradient` there."
)


class StepFault(Exception):
    """What is wrong with a reader's step, in words for the reader."""


# --------------------------------------------------------------------------------- the checks


def check_guided_step(step: GuidedStep) -> ExerciseReport:
    """Try the reader's `guided_step(x, t, dt, velocity, gradient, weight)` against Algorithm 1.

    One rule at a time: with a critic of constant slope it does not matter where it is asked, and
    where it is asked is seen by the critic itself. Whatever the function does, nothing is raised;
    what goes wrong stands in the report.

    Args:
        step: gets position, time, step length, the two functions and the weight; returns the
            next position.
    """
    rules = (
        ("With weight 0 it is an Euler step along the flow.", _euler),
        ("Guidance points up the critic: it is added.", _upwards),
        (WHERE, _where),
        ("The gradient is scaled by weight and step, by nothing else.", _scaled),
        ("The last step is one step of ascent from that estimate.", _last),
    )
    tried = Tried(step, lambda x, t, dt, velocity, *_: x + dt * velocity(x, t))
    return tried.report(tuple(_checked(rule, find, tried) for rule, find in rules), WRITE_FIRST)


def _checked(rule: str, find: Callable[[GuidedStep], str], step: GuidedStep) -> Check:
    try:
        finding = find(step)
    except StepFault as fault:
        finding = f"{fault}"
    return Check(rule, not finding, finding)


def _euler(step: GuidedStep) -> str:
    x, t, dt = 0.4, 0.3, 0.1
    return _compared(_called(step, x, t, dt, _gradient, 0.0), x + dt * _velocity(x, t), "weight 0")


def _upwards(step: GuidedStep) -> str:
    x, t, dt = 0.4, 0.0, 0.5
    alone = x + dt * _velocity(x, t)
    up = _called(step, x, t, dt, lambda a: 1.0, 1.0) - alone
    if up > 1e-9:
        return ""
    side = "nowhere" if abs(up) <= 1e-9 else "down"
    return f"The critic rises by 1 everywhere, and your step goes {side} from the flow's own step."


def _where(step: GuidedStep) -> str:
    x, t, dt, asked = -0.7, 0.2, 0.25, []

    def spy(a: float) -> float:
        asked.append(float(a))
        return _gradient(a)

    _called(step, x, t, dt, spy, 2.0)
    clean = x + (1 - t) * _velocity(x, t)
    if not asked:
        return (
            f"It is not asked at all: ask gradient(a) at a = {clean:.4f}, where x = {x}, t = {t}."
        )
    wrong = [a for a in asked if not math.isclose(a, clean, rel_tol=1e-9)]
    if not wrong:
        return ""
    place = "the noisy x itself" if math.isclose(wrong[0], x) else f"{wrong[0]:.4f}"
    return f"It is asked at {place}; where x = {x} and t = {t} the estimate is {clean:.4f}."


def _scaled(step: GuidedStep) -> str:
    x, t, dt, weight = 1.5, 0.6, 0.2, 3.0
    alone = x + dt * _velocity(x, t)
    push = _called(step, x, t, dt, lambda a: 1.0, weight) - alone
    want = weight * dt
    if math.isclose(push, want, rel_tol=1e-9):
        return ""
    return (
        f"The critic's slope is 1, weight = {weight:g} and dt = {dt:g}: the push should be "
        f"{want:.4f}, not {push:.4f}."
    )


def _last(step: GuidedStep) -> str:
    x, t, dt, weight = 0.8, 0.9, 0.1, 4.0
    clean = x + (1 - t) * _velocity(x, t)
    want = clean + dt * weight * _gradient(clean)
    return _compared(
        _called(step, x, t, dt, _gradient, weight), want, f"t = {t:g}, dt = {dt:g}, x = {x:g}"
    )


def _compared(got: float, want: float, given: str) -> str:
    if math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-12):
        return ""
    return f"With {given} it should be {want:.4f}, not {got:.4f}."


def _velocity(x: float, t: float) -> float:
    """A field that tells positions and times apart."""
    return math.sin(2 * x) + 0.5 - t * x


def _gradient(a: float) -> float:
    return math.cos(a) + 0.25 * a


def _called(
    step: GuidedStep, x: float, t: float, dt: float, gradient: Gradient, weight: float
) -> float:
    """What a reader's step returns for numbers.

    Raises:
        StepFault: it fails, or returns no finite number.
    """
    return _number(_attempted(step, x, t, dt, _velocity, gradient, weight), t)


def _attempted(step: GuidedStep, x: object, t: float, *rest: object) -> object:
    try:
        return step(x, t, *rest)
    except NotImplementedError:
        raise StepFault("Nothing is written yet.") from None
    except Exception as error:  # a reader's function may fail in any way
        told = f"{type(error).__name__}: {error}"
        raise StepFault(f"At t = {t:.2f} guided_step raised {told}") from error


def _number(got: object, t: float) -> float:
    if got is None:
        raise StepFault("guided_step returns None: end it with `return` and the next position.")
    try:
        value = float(None if isinstance(got, str) else got)
    except (TypeError, ValueError, RuntimeError):
        kind = type(got).__name__
        raise StepFault(f"guided_step must return one number, not a {kind}: {got!r}.") from None
    if not math.isfinite(value):
        raise StepFault(f"At t = {t:.2f} guided_step returns {value}: a finite number is needed.")
    return value


# ---------------------------------------------------------------------------- particles of a flow


def follow(
    step: GuidedStep,
    start: Tensor,
    *,
    field: Field,
    critic: Critic,
    weight: float,
    n_steps: int,
    n_few: int = 100,
    stale: Stale = never,
) -> Tensor:
    """Particles moved by a reader's step.

    All move at once where the step takes tensors as it takes numbers, else the first few of them
    one after another.

    Args:
        step: the reader's `guided_step`.
        start: positions at t = 0, [n].
        field: the flow.
        critic: of actions [n].
        weight: handed to the step.
        n_steps: Euler steps T.
        n_few: so many of them where they move one after another.
        stale: turns true when nobody waits; asked at every step.

    Returns:
        Positions [n_steps + 1, n or n_few] in float64.

    Raises:
        StepFault: the step fails, or returns something else than a finite position.
        Cancelled: `stale()` became true.
    """
    velocity, slope = field.velocity, Oracles(field=field, critics=(critic,)).gradient

    def one(x: Tensor, t: float) -> float:
        def at(action: object, ask: Callable[[Tensor], Tensor]) -> float:
            return float(ask(torch.tensor([float(action)], dtype=torch.float64))[0])

        got = _attempted(
            step,
            float(x),
            t,
            1 / n_steps,
            lambda place, time: at(place, lambda a: velocity(a, float(time))),
            lambda action: at(action, slope),
            weight,
        )
        return _number(got, t)

    with torch.inference_mode(False), torch.no_grad():
        start = start.double().clone()
        together = _moved(step, start, 0.0, 1 / n_steps, velocity, slope, weight)
        if together is None or not math.isclose(
            one(start[0], 0.0), float(together[0]), abs_tol=1e-9
        ):
            start = start[:n_few]
            together = None
        path = [start]
        for k in range(n_steps):
            check(stale)
            x, t, moved = path[-1], k / n_steps, None
            if together is not None:
                moved = _moved(step, x, t, 1 / n_steps, velocity, slope, weight)
            if moved is None:
                moved = torch.tensor([one(at, t) for at in x], dtype=torch.float64)
            path.append(moved)
        return torch.stack(path)


def _moved(step: GuidedStep, x: Tensor, t: float, *rest: object) -> Tensor | None:
    """All particles at once; None where a reader's step takes one number at a time."""
    try:
        got = step(x.clone(), t, *rest)
    except Exception:  # `one` says what is wrong with it, if anything is
        return None
    fits = isinstance(got, Tensor) and got.shape == x.shape and bool(got.isfinite().all())
    return got.detach().double() if fits else None
