"""Reports of the lessons' exercises: which rules a reader's own function keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One rule, and whether the reader's function keeps it."""

    rule: str
    passed: bool
    finding: str  # what was given, expected and returned; empty if passed


@dataclass(frozen=True)
class ExerciseReport:
    """The outcome of all checks; its text is stable.

    Of an exercise that is still as the lesson gives it no check has failed: they wait. `first` then
    says what the function does so far and what to write first; else it is empty.
    """

    checks: tuple[Check, ...]
    first: str = ""

    @property
    def begun(self) -> bool:
        """Whether the function does anything else than the lesson's."""
        return not self.first

    @property
    def n_passed(self) -> int:
        return sum(check.passed for check in self.checks)

    def __repr__(self) -> str:
        if not self.begun:
            waiting = [f"  {check.rule}" for check in self.checks]
            return "\n".join([f"Not begun: {self.first}", f"{len(waiting)} checks wait:", *waiting])
        lines = [f"{self.n_passed} of {len(self.checks)} checks pass"]
        for check in self.checks:
            mark = "pass" if check.passed else "not yet"
            lines.append(f"  {mark}: {check.rule}" + (f" {check.finding}" if check.finding else ""))
        return "\n".join(lines)


class Tried:
    """A reader's function, and whether it has answered so far as the lesson's own does.

    Args:
        function: the reader's.
        given: does what the function does before the reader has written anything.
    """

    def __init__(self, function: Callable[..., Any], given: Callable[..., Any]) -> None:
        self.function, self.given, self.untouched = function, given, True

    def __call__(self, *arguments: Any) -> Any:
        before, was, self.untouched = self.given(*arguments), self.untouched, False
        returned = self.function(*arguments)
        self.untouched = was and repr(returned) == repr(before)  # whatever it is, this compares
        return returned

    def report(self, checks: tuple[Check, ...], first: str) -> ExerciseReport:
        """Of checks that have called it; `first` is told of a function that is untouched."""
        return ExerciseReport(checks, first=first if self.untouched else "")
