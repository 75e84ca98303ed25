"""The same methods where errors show late: `results` in the other setting, its table in sight."""

from typing import Any

from intuitive.trd.experiments.results import ResultParams
from intuitive.trd.results import methods

from ..kit import Explorer, Predict, percent
from .results import declare
from .styles import told


def _answer() -> tuple[int, str]:
    with told("results"):
        found = methods("late")
    reverse, trd = (found.row(name).accuracy.estimate for name in ("opd_reverse", "trd"))
    high = 0.8
    right = {(True, True): 0, (False, True): 1, (False, False): 2}[reverse > high, trd > high]
    return right, (
        f"Reverse KL comes to {percent(reverse)}, TRD to {percent(trd)}: from x the teacher only "
        "guesses the plan, and after a finished attempt it knows it."
    )


PREDICT = Predict(
    question=(
        "The first students are right in 37 % of their attempts. One round of reverse KL on "
        "their own attempts, or one round of TRD: how far do they get?"
    ),
    choices=(
        "both to about 95 %",
        "reverse KL to about 60 %, TRD to about 95 %",
        "both to about 60 %",
    ),
    answer=_answer,
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Methods by what the teacher sees, in the task with a plan.

    Args:
        predict: a question asked before the controls unlock.
        values: first control values, such as `teacher="learned"`.
    """
    first = ResultParams(setting="late", group="seen", method="trd")
    title = "The same methods where errors show late"
    return declare("trd_results_late", title, first, predict, values)
