"""Checks for the lesson's "your turn": the reader writes the block selection themselves.

    def select(scores, n_selected, n_local):
        '''Ids of at most n_selected blocks, in ascending order.'''

    check_select(select)

`scores` is a list of numbers, one per key block, -inf where a block lies in the future; `n_local`
may be 0. Each check has a case in which its own rule decides.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from intuitive.common.exercise import Check, ExerciseReport, Tried
from intuitive.kernels import select_blocks

Select = Callable[[list[float], int, int], list[int]]


_INF = math.inf
FUTURE = "Blocks in the future, scored -inf, are never chosen."
_CASES = (
    (
        "The blocks with the highest scores are chosen, in ascending order.",
        [0.5, 3.0, -1.0, 2.0, 2.5],
        3,
        1,
    ),
    (
        FUTURE,
        [1.0, -2.0, 0.5, -_INF, -_INF],
        4,
        1,
    ),
    (
        "The local block is always in, and counts as one of the n_selected.",
        [4.0, 3.0, 2.0, -5.0, -_INF],
        2,
        1,
    ),
    (
        "Fewer visible blocks than places: all visible ones are chosen, and nothing else.",
        [0.0, -1.0, -_INF, -_INF],
        4,
        1,
    ),
    (
        "Equal scores: the lower block goes first.",
        [1.0, 2.0, 2.0, 2.0, 5.0],
        3,
        1,
    ),
    (
        "With n_local = 0 no block is forced.",
        [4.0, 3.0, 2.0, -5.0],
        2,
        0,
    ),
)


NOTHING_RETURNED = "select returned None; return a list of block ids, such as [0, 3]."
WRITE_FIRST = (
    "select chooses no block. Return first the `n_selected` blocks with the highest scores, in "
    "ascending order."
)


def check_select(select: Select) -> ExerciseReport:
    """Try the reader's `select(scores, n_selected, n_local)` against the real selection.

    Whatever the function does, nothing is raised: what goes wrong stands in the report.

    Args:
        select: gets a list of block scores, the number of blocks to choose and the number of
            local blocks to force; returns the chosen ids.
    """
    tried = Tried(select, lambda scores, n_selected, n_local: [])
    checks = [_check(tried, *case) for case in _CASES]
    if all(check.finding == NOTHING_RETURNED for check in checks):  # said once is enough
        checks[1:] = [replace(check, finding="") for check in checks[1:]]
    return tried.report(tuple(checks), WRITE_FIRST)


def _check(select: Select, rule: str, scores: list[float], n_selected: int, n_local: int) -> Check:
    expected = select_blocks(
        torch.tensor(scores, dtype=torch.float32, device="cpu")[None, None, None],
        n_selected=n_selected,
        block_size=1,
        n_local=n_local,
    ).flatten()
    want = [block for block in expected.tolist() if block >= 0]
    given = f"select({scores}, {n_selected}, {n_local})"
    try:
        returned = select(list(scores), n_selected, n_local)
        if returned is None:
            return Check(rule, False, NOTHING_RETURNED)
        got = [int(block) for block in returned]
    except NotImplementedError:
        return Check(rule, False, "Nothing is written yet.")
    except Exception as error:  # a reader's function may fail in any way
        return Check(rule, False, f"{given} raised {type(error).__name__}: {error}")
    if got == want:
        return Check(rule, True, "")
    if rule == FUTURE:  # of which blocks else are missing, another check tells
        future = [block for block in got if not 0 <= block < len(scores) or scores[block] == -_INF]
        if got and not future:
            return Check(rule, True, "")
        told = f"has {future}" if got else "is empty"
        return Check(rule, False, f"{given} should be of {want} only; {got} {told}.")
    forced = "" if n_local else " Here n_local is 0, and scores[-0:] is the whole list."
    return Check(rule, False, f"{given} should be {want}, not {got}.{forced}")
