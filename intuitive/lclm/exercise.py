"""The lesson's exercise: which chunks come back as raw text, where only so many tokens fit.

`check_choose` tries the reader's function against `best_that_fit`; the trace stepper
(`experiments.expand`) lets it decide.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from intuitive.common.exercise import Check, ExerciseReport, Tried

Choose = Callable[[list[float], list[int], int], Sequence[int]]

_CASES = (
    ("The likeliest id goes first.", [0.1, 0.7, 0.2], [50, 50, 50], 50),
    ("A second chunk comes along where there is room.", [0.1, 0.7, 0.2], [50, 50, 50], 120),
    (
        "A chunk that does not fit is passed over; a later one may fit.",
        [0.2, 0.5, 0.3],
        [30, 90, 60],
        70,
    ),
    ("Of equal shares the lower id goes first.", [0.25, 0.25, 0.25, 0.25], [10, 10, 10, 10], 25),
    ("Where nothing more fits, no more comes back.", [0.6, 0.4], [64, 32], 63),
)
NOTHING_RETURNED = "choose returned None; return a list of ids, such as [2]."
WRITE_FIRST = (
    "choose brings nothing back. Return first the id with the greatest share; ids count from 1."
)


def best_that_fit(shares: Sequence[float], lengths: Sequence[int], room: int) -> list[int]:
    """Ids to expand, likeliest first, each taken if it still fits; ids count from 1.

    Args:
        shares: probability of each id, in [0, 1].
        lengths: raw tokens of each chunk.
        room: most raw tokens that may come back.
    """
    taken, left = [], room
    for i in sorted(range(len(shares)), key=lambda i: (-shares[i], i)):
        if lengths[i] <= left:
            taken.append(i + 1)
            left -= lengths[i]
    return taken


def ids_of(returned: Any, lengths: Sequence[int], room: int) -> tuple[int, ...]:
    """What a reader's function returned, as ids that may be expanded.

    Raises:
        ValueError: no list of whole numbers, an id that there is not, one named twice, or more
            tokens than fit.
    """
    if returned is None:
        raise ValueError(NOTHING_RETURNED)
    try:
        if isinstance(returned, str):
            raise TypeError
        ids = tuple(operator.index(one) for one in returned)
    except TypeError:
        raise ValueError(
            f"choose returned {returned!r}; return a list of ids, whole numbers such as [2]."
        ) from None
    for one in ids:
        if not 1 <= one <= len(lengths):
            raise ValueError(f"id {one} was chosen; ids go from 1 to {len(lengths)}.")
        if ids.count(one) > 1:
            raise ValueError(f"id {one} was chosen twice; name each one once.")
    spent = sum(lengths[one - 1] for one in ids)
    if spent > room:
        raise ValueError(f"ids {list(ids)} have {spent} tokens; only {room} fit.")
    return ids


def check_choose(choose: Choose) -> ExerciseReport:
    """Try the reader's `choose(shares, lengths, room)` against `best_that_fit`.

    Whatever the function does, nothing is raised: what goes wrong stands in the report.
    """
    tried = Tried(choose, lambda shares, lengths, room: [])
    checks = [_check(tried, *case) for case in _CASES]
    if all(check.finding == NOTHING_RETURNED for check in checks):  # said once is enough
        checks[1:] = [Check(check.rule, False, "") for check in checks[1:]]
    return tried.report(tuple(checks), WRITE_FIRST)


def _check(choose: Choose, rule: str, shares: list[float], lengths: list[int], room: int) -> Check:
    want, given = best_that_fit(shares, lengths, room), f"choose({shares}, {lengths}, {room})"
    try:
        returned = choose(list(shares), list(lengths), room)
        if returned is None:
            return Check(rule, False, NOTHING_RETURNED)
        got = list(ids_of(returned, lengths, room))
    except NotImplementedError:
        return Check(rule, False, "Nothing is written yet.")
    except ValueError as error:
        return Check(rule, False, f"{given}: {error}")
    except Exception as error:  # a reader's function may fail in any way
        return Check(rule, False, f"{given} raised {type(error).__name__}: {error}")
    if got == want:
        return Check(rule, True, "")
    return Check(rule, False, f"{given} should be {want}, not {got}.")
