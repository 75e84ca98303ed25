"""Checks for the lesson's "your turn": the reader writes the loss of one position.

    def position_loss(teacher, student, on_refined):
        '''Nats at one position: KL(teacher || student) on y_r, 0 on y_o.'''

    check_position_loss(position_loss)

`teacher` and `student` are lists of probabilities, one per token.
"""

import math
from collections.abc import Callable

import torch

from intuitive.common.exercise import Check, ExerciseReport

from .divergences import as_logits, forward_kl

PositionLoss = Callable[[list[float], list[float], bool], float]

_CASES = (
    ("Equal distributions cost nothing.", [0.5, 0.25, 0.25], [0.5, 0.25, 0.25], True),
    ("The teacher's probabilities weigh the terms.", [0.7, 0.3], [0.9, 0.1], True),
    ("A token that the teacher never says costs nothing.", [1.0, 0.0], [0.75, 0.25], True),
    ("All tokens count, with natural logarithms.", [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], True),
    ("Positions of the failed rollout are not trained on.", [0.7, 0.3], [0.9, 0.1], False),
)


def check_position_loss(position_loss: PositionLoss) -> ExerciseReport:
    """Try the reader's `position_loss(teacher, student, on_refined)` against the real one.

    Whatever the function does, nothing is raised: what goes wrong stands in the report.

    Args:
        position_loss: gets two lists of probabilities and whether the position lies on the
            refined trajectory; returns nats.
    """
    return ExerciseReport(tuple(_check(position_loss, *case) for case in _CASES))


def _check(
    position_loss: PositionLoss,
    rule: str,
    teacher: list[float],
    student: list[float],
    on_refined: bool,
) -> Check:
    exact = forward_kl(
        as_logits(torch.tensor(teacher, dtype=torch.float64)),
        as_logits(torch.tensor(student, dtype=torch.float64)),
    )
    want = float(exact) if on_refined else 0.0
    given = f"position_loss({teacher}, {student}, {on_refined})"
    try:
        got = position_loss(list(teacher), list(student), on_refined)
        if got is not None and math.isclose(float(got), want, rel_tol=1e-6, abs_tol=1e-9):
            return Check(rule, True, "")
    except NotImplementedError:
        return Check(rule, False, "Nothing is written yet.")
    except Exception as error:  # a reader's function may fail in any way
        return Check(rule, False, f"{given} raised {type(error).__name__}: {error}")
    told = got if got is None else f"{float(got):.4f}"
    return Check(rule, False, f"{given} should be {want:.4f}, not {told}.")
