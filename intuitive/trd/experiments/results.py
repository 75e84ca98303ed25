"""What the benchmark measured: the numbers of two explorers, `results` and `results_late`.

Both look at the same kind of table; they differ in the setting and in what is shown first.
"""

from dataclasses import dataclass

from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..methods import ABLATIONS, METHODS
from ..results import MethodRow, Methods, methods
from ..signals import Stale

MAIN = ("opd_forward", "opd_forward_clip", "opd_reverse", "sft_teacher", "sft_refined", "trd")
GROUPS = {
    "main": ("six methods", MAIN),
    "methods": ("all methods", tuple(METHODS)),
    "seen": (
        "by what the teacher sees",
        (
            "opd_forward",
            "opd_reverse",
            "opsd_reverse",
            "sft_teacher",
            "sft_refined",
            "trd",
            "trd_from_x",
        ),
    ),
    "ablations": ("variations", ("opd_forward", "opd_reverse", "trd", *ABLATIONS)),
}


@dataclass(frozen=True, kw_only=True)
class ResultParams(Settings):
    """Which part of the results is looked at."""

    setting: str = "small"
    teacher: str = "exact"
    method: str = "opd_forward"  # drawn thick
    group: str = "main"
    measure: str = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Results:
    """The committed results, and the rows looked at."""

    params: ResultParams
    found: Methods
    rows: tuple[MethodRow, ...]


def run(params: ResultParams, *, stale: Stale = never, progress: Progress = silent) -> Results:
    """Look up rows of `results.methods`.

    Raises:
        ValueError: nothing was measured with this teacher.
        FileNotFoundError: the results are not there.
        Cancelled: `stale()` became true.
    """
    check(stale)
    found = methods(params.setting)
    rows = chosen_rows(found, params.teacher, (*GROUPS[params.group][1], params.method))
    if not rows:
        raise ValueError(f"teacher={params.teacher!r}: nothing was measured with it; take another.")
    return Results(params=params, found=found, rows=rows)


def chosen_rows(found: Methods, teacher: str, names: tuple[str, ...]) -> tuple[MethodRow, ...]:
    """Rows of some methods with one teacher, in the order of the methods."""
    order = (*METHODS, *ABLATIONS)
    rows = [
        row
        for row in (*found.rows, *found.ablations)
        if row.teacher == teacher and row.name in names
    ]
    return tuple(sorted(rows, key=lambda row: (order.index(row.name), row.rounds)))
