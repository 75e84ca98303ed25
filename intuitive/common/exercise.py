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
    """The outcome of all checks; its text is stable."""

    checks: tuple[Check, ...]

    @property
    def n_passed(self) -> int:
        return sum(check.passed for check in self.checks)

    def __repr__(self) -> str:
        lines = [f"{self.n_passed} of {len(self.checks)} checks pass"]
        for check in self.checks:
            mark = "pass" if check.passed else "not yet"
            lines.append(f"  {mark}: {check.rule}" + (f" {check.finding}" if check.finding else ""))
        return "\n".join(lines)
