"""The lesson's exercise: which tokens a cache keeps, where only so many fit.

`check_keep` tries the reader's function against `kept_places`; the explorer of one question
(`experiments.one_question`) gives it a row of its own.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from intuitive.common.exercise import Check, ExerciseReport, Tried

Keep = Callable[[list[float], int], Sequence[int]]

ORDER = "Places come in order, each once."
FIRST, NEWEST = 4, 32  # tokens that stay whatever they score
_CASES = (
    ("The highest scores stay.", [0.0] * 4 + [0.1, 0.9, 0.3, 0.8] * 10 + [0.0] * 32, 38),
    ("The first four and the newest 32 stay, whatever they score.", [1.0] * 60, 36),
    ("Of equal scores the earlier one stays.", [0.5] * 60, 40),
    (ORDER, [float(i % 7) for i in range(80)], 50),
    ("A text that fits stays whole.", [0.2] * 40, 64),
)
NOTHING_RETURNED = "keep returned None; return a list of places, such as [0, 1, 2]."
WRITE_FIRST = (
    "keep returns nothing. Return first the places of the `budget` highest scores, in order."
)


def kept_places(scores: Sequence[float], budget: int) -> list[int]:
    """Places that stay: the first tokens, the newest, and those with the highest scores.

    Args:
        scores: of each token, all at least 0.
        budget: tokens that fit, at least `FIRST + NEWEST`.
    """
    n = len(scores)
    always = {i for i in range(n) if i < FIRST or i >= n - NEWEST}
    others = sorted((i for i in range(n) if i not in always), key=lambda i: (-scores[i], i))
    return sorted(always | set(others[: max(budget - len(always), 0)]))


def places_of(returned: Any, n: int, budget: int) -> list[int]:
    """What a reader's function returned, as places that can be kept.

    Raises:
        ValueError: no list of whole numbers, a place that there is not, one named twice, none, or
            more than fit.
    """
    if returned is None:
        raise ValueError(NOTHING_RETURNED)
    try:
        if isinstance(returned, str):
            raise TypeError
        places = [operator.index(one) for one in returned]
    except TypeError:
        raise ValueError(f"keep returned {returned!r}; return a list of whole numbers.") from None
    if not places:
        raise ValueError("keep returned no places: a cache needs at least one token.")
    for place in places:
        if not 0 <= place < n:
            raise ValueError(f"place {place} was kept; places go from 0 to {n - 1}.")
    if len(set(places)) < len(places):
        raise ValueError("a place was named twice; name each one once.")
    if len(places) > budget:
        raise ValueError(f"{len(places)} places were kept; only {budget} fit.")
    return places


def check_keep(keep: Keep) -> ExerciseReport:
    """Try the reader's `keep(scores, budget)` against `kept_places`.

    Whatever the function does, nothing is raised: what goes wrong stands in the report.
    """
    tried = Tried(keep, lambda scores, budget: None)
    return tried.report(tuple(_check(tried, *case) for case in _CASES), WRITE_FIRST)


def _check(keep: Keep, rule: str, scores: list[float], budget: int) -> Check:
    given = f"keep(…{len(scores)} scores, {budget})"
    try:
        returned = keep(list(scores), budget)
        if returned is None:
            return Check(rule, False, NOTHING_RETURNED)
        got = places_of(returned, len(scores), budget)
    except NotImplementedError:
        return Check(rule, False, "Nothing is written yet.")
    except ValueError as error:
        return Check(rule, False, f"{given}: {error}")
    except Exception as error:  # a reader's function may fail in any way
        return Check(rule, False, f"{given} raised {type(error).__name__}: {error}")
    want = sorted(got) if rule == ORDER else kept_places(scores, budget)
    if got == want:
        return Check(rule, True, "")
    lacking = [place for place in want if place not in got]
    told = f"lacks {lacking[:3]}" if lacking else "is not in order"
    return Check(rule, False, f"{given} {told}.")
