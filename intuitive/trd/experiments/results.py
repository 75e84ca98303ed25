"""What the benchmark measured: one method among the others, and what a teacher's λ does to it.

`results_late` looks at the same kind of table in the other setting.
"""

from dataclasses import dataclass

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..methods import ABLATIONS, METHODS
from ..results import MethodRow, Methods, methods
from ..signals import Stale

BESIDE = (  # drawn faded in every plot, whatever is followed
    "opd_forward", "opd_reverse", "opsd_reverse", "sft_teacher", "sft_refined", "trd",
    "trd_from_x", "trd_reverse",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ResultParams(Settings):
    """Which of the results is looked at."""

    setting: str = "small"
    teacher: str = "exact"
    method: str = "opd_forward"  # the one that is followed
    rounds: int = 1  # how often rollouts were drawn anew

    def __post_init__(self) -> None:
        whole_fields(self, rounds=1)


@dataclass(frozen=True, kw_only=True)
class Results:
    """The committed results, and the one looked at."""

    params: ResultParams
    found: Methods
    row: MethodRow
    doses: tuple[MethodRow, ...]  # the same method at several λ, where that was measured

    @property
    def beside(self) -> tuple[MethodRow, ...]:
        """Rows of the methods in `BESIDE` and of the one looked at, with the same teacher."""
        return chosen_rows(self.found, self.params.teacher, (*BESIDE, self.params.method))


def run(params: ResultParams, *, stale: Stale = never, progress: Progress = silent) -> Results:
    """Look up one row of `results.methods`.

    Raises:
        ValueError: it was not measured; the message says what was.
        FileNotFoundError: the results are not there.
        Cancelled: `stale()` became true.
    """
    check(stale)
    found = methods(params.setting)
    name, teacher, rounds = params.method, params.teacher, params.rounds
    known = [row for row in chosen_rows(found, teacher, (name,)) if row.rounds == rounds]
    if not known:
        others = sorted(
            f"{row.teacher} with rounds={row.rounds}"
            for row in (*found.rows, *found.ablations)
            if row.name == name
        )
        raise ValueError(
            f"method={name} was not measured with teacher={teacher} and rounds={rounds}; it was "
            f"with {', '.join(others) or 'no teacher'}. Take one of these, or another method."
        )
    one_round = rounds == 1 and teacher == "exact"
    doses = tuple(row for row in found.dose if row.name == name and one_round)
    return Results(params=params, found=found, row=known[0], doses=doses)


def chosen_rows(found: Methods, teacher: str, names: tuple[str, ...]) -> tuple[MethodRow, ...]:
    """Rows of some methods with one teacher, in the order of the methods."""
    order = (*METHODS, *ABLATIONS)
    rows = [
        row
        for row in (*found.rows, *found.ablations)
        if row.teacher == teacher and row.name in names
    ]
    return tuple(sorted(rows, key=lambda row: (order.index(row.name), row.rounds)))
