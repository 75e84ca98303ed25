"""Reports of the lessons' exercises: which rules a reader's own function keeps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One rule, and whether the reader's function keeps it."""

    rule: str
    passed: bool
    finding: str  # what was given, expected and returned; empty if passed


@dataclass(frozen=True)
class ExerciseReport:
    """The outcome of all checks; its text is stable.

    Of an exercise that is still as the lesson gives it (`begun` is False) no check has failed: they
    wait.
    """

    checks: tuple[Check, ...]
    begun: bool = True

    @property
    def n_passed(self) -> int:
        return sum(check.passed for check in self.checks)

    def __repr__(self) -> str:
        if not self.begun:
            waiting = [f"  {check.rule}" for check in self.checks]
            return "\n".join([f"Not begun: {len(self.checks)} checks wait for your code", *waiting])
        lines = [f"{self.n_passed} of {len(self.checks)} checks pass"]
        for check in self.checks:
            mark = "pass" if check.passed else "not yet"
            lines.append(f"  {mark}: {check.rule}" + (f" {check.finding}" if check.finding else ""))
        return "\n".join(lines)
