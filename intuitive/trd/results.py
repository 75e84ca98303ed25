"""What committed runs found, as typed records.

They are the results of `benchmarks/trd_methods.py`, `benchmarks/trd_controls.py` and
`benchmarks/trd_real_text.py`.
"""

from dataclasses import dataclass

from intuitive.common import results

from .config import setting_config
from .metrics import Interval
from .real_text import RealText

REAL_TEXT = "trd_real_text"
CONTROLS = "trd_controls"


@dataclass(frozen=True, kw_only=True)
class Point:
    """How students of one method did after some steps, averaged over seeds."""

    step: int
    teacher_tokens: float  # generated and scored so far
    student_tokens: float
    accuracy: float
    pass_at_4: float


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One method with one teacher; shares are over rollouts of all seeds."""

    name: str
    teacher: str  # "learned" or "exact"
    repair: float  # λ of the exact teacher; the ideal one of the learned
    rounds: int
    lr: float
    validation: dict[str, float]  # accuracy on validation problems by learning rate
    accuracy: Interval  # Avg@16, over problems and seeds
    accuracy_by_seed: tuple[float, ...]
    pass_at: dict[str, float]  # by k
    wait: float  # share of rollouts that say WAIT
    correct_after_wait: float | None  # of those; None if there are none
    idle_wait: float  # share that says WAIT while no error stands
    plan_right: float | None  # share with the right plan at the end; None without a plan
    order_kept: float  # share in the first student's order, right to left
    distinct_orders: float  # correct ones per problem, of 16 rollouts
    well_formed: float
    length: float  # tokens
    teacher_generated: float  # tokens per student trained
    teacher_scored: float
    student_generated: float
    curve: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Rewrites:
    """A teacher's rewrites of the first students' rollouts; shares, and nats per token."""

    teacher: str
    fail_fail: float
    fail_pass: float
    pass_fail: float
    pass_pass: float
    order_kept: float  # of rollouts that came to their end
    solve_accuracy: float  # of the teacher's own solutions
    nll_y_o: float  # to the first student
    nll_y_r: float
    nll_y_t: float
    wait_mass_y_o: float  # per token, from x
    wait_mass_y_r: float  # per token, in the refine context
    wait_mass_y_r_from_x: float
    forward_before: float  # nats, on failed rollouts: before, at, after the first error
    forward_at: float
    forward_after: float
    reverse_before: float
    reverse_at: float
    reverse_after: float
    tokens_after_error: float  # share of a failed rollout's tokens


@dataclass(frozen=True, kw_only=True)
class WaitMap:
    """A teacher's probability of WAIT at the boundaries of traces with and without an error."""

    teacher: str
    by_error: dict[str, tuple[float, ...]]  # error: "0" ... step of a wrong total, "plan";
    # then by the number of steps written since, 0 first
    clean: tuple[float, ...]  # false alarms after 1, 2, ... right steps
    worst_clean: float  # the largest of these
    consistent: float  # probability of going on from the error at the next total
    repaired: float  # probability of silently repairing it there


@dataclass(frozen=True, kw_only=True)
class Methods:
    """All that `benchmarks/trd_methods.py` measured in one setting."""

    setting: str
    seeds: int
    first_accuracy: tuple[float, ...]  # of the first students, by seed
    first_order: float  # share from right to left
    rewrites: tuple[Rewrites, ...]
    wait_maps: tuple[WaitMap, ...]
    rows: tuple[MethodRow, ...]  # the table
    ablations: tuple[MethodRow, ...]
    dose: tuple[MethodRow, ...]  # the exact teacher at several λ, one round

    def row(self, name: str, *, teacher: str = "exact", rounds: int = 1) -> MethodRow:
        """One row of the table or of the ablations.

        Raises:
            ValueError: it was not measured.
        """
        for row in (*self.rows, *self.ablations):
            if (row.name, row.teacher, row.rounds) == (name, teacher, rounds):
                return row
        raise ValueError(
            f"name={name!r} with teacher={teacher!r} and rounds={rounds} was not measured: "
            f"choose among {', '.join(sorted({row.name for row in self.rows}))}."
        )


@dataclass(frozen=True, kw_only=True)
class Control:
    """One method with the program as teacher, λ = 0.3, by first student."""

    setting: str
    name: str
    rounds: int
    slips: bool  # whether the program now and then draws a token at random
    accuracy_by_seed: tuple[float, ...]
    wait_by_seed: tuple[float, ...]  # share of rollouts that say WAIT
    idle_first: float | None  # of those: the first WAIT stands where nothing is wrong
    correct_after_wait: float | None  # of those
    order_kept: float

    @property
    def accuracy(self) -> float:
        """Over all students."""
        return sum(self.accuracy_by_seed) / len(self.accuracy_by_seed)

    @property
    def wait(self) -> float:
        """Over all students."""
        return sum(self.wait_by_seed) / len(self.wait_by_seed)


@dataclass(frozen=True, kw_only=True)
class Controls:
    """All that `benchmarks/trd_controls.py` measured."""

    rows: tuple[Control, ...]

    def row(
        self, name: str, *, setting: str = "small", slips: bool = True, rounds: int = 1
    ) -> Control:
        """One of them."""
        asked = (setting, name, slips, rounds)
        return next(r for r in self.rows if (r.setting, r.name, r.slips, r.rounds) == asked)


def methods_name(setting: str) -> str:
    """Under which name a setting's results are kept."""
    return f"trd_methods_{setting}"


def methods(setting: str) -> Methods:
    """The committed results of a setting.

    Raises:
        ValueError: no such setting.
        FileNotFoundError: the package was installed without its results.
    """
    setting_config(setting)
    return results.load(methods_name(setting), Methods).values


def real_text() -> RealText:
    """The committed measurement of SmolLM2.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load(REAL_TEXT, RealText).values


def controls() -> Controls:
    """The committed controls.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return results.load(CONTROLS, Controls).values
