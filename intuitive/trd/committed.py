"""What ships with the package: trained teachers and students, and the results of the benchmarks.

Weights are kept as float16; whoever loads them gets the rounded values as float32, and so did the
benchmark. Results are those of `benchmarks/trd_methods.py` and `benchmarks/trd_real_text.py`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from intuitive.common import records
from intuitive.common.weights import load_weights, save_weights

from .metrics import Interval
from .model import StackedDecoder
from .real_text import Estimate, Item, KeptItem, RealText, RealTextParams, Trajectory
from .task import LearnedTeacher, SettingConfig, student_decoder, teacher_decoder

SETTINGS = {"small": SettingConfig(), "late": SettingConfig.late()}
WEIGHTS = Path(__file__).parent / "weights"
REAL_TEXT = "trd_real_text.json"


def setting_config(name: str) -> SettingConfig:
    """A setting by name: "small" (4 digits modulo 7) or "late" (8 modulo 23, with a plan).

    Raises:
        ValueError: no such setting.
    """
    if name not in SETTINGS:
        raise ValueError(f"setting={name!r} must be one of {', '.join(SETTINGS)}.")
    return SETTINGS[name]


# ------------------------------------------------------------------------------------- weights


@dataclass(frozen=True, eq=False)
class Shipped:
    """A setting with its trained models."""

    name: str
    config: SettingConfig
    teacher: LearnedTeacher
    students: StackedDecoder  # one first student per seed
    made: Mapping[str, str]


def save_shipped(
    folder: Path,
    name: str,
    teacher: StackedDecoder,
    students: StackedDecoder,
    made: Mapping[str, str],
) -> Path:
    """Write a setting's models as float16, with the hash of their config."""
    weights = {"teacher": teacher.weights.half(), "students": students.weights.half()}
    made = dict(made) | {"config_hash": records.config_hash(setting_config(name))}
    return save_weights(folder / f"{name}.safetensors", weights, made)


def load_shipped(
    name: str, *, folder: Path = WEIGHTS, device: torch.device | str = "cpu"
) -> Shipped:
    """A setting's models, in float32.

    Raises:
        ValueError: no such setting, or its weights were trained with another config.
        FileNotFoundError: no weights yet.
    """
    config = setting_config(name)
    weights, made = load_weights(folder / f"{name}.safetensors")
    if made.get("config_hash") != records.config_hash(config):
        raise ValueError(
            f"the weights of setting={name!r} were trained with another config: run "
            f"benchmarks/trd_methods.py --setting {name} --stage train."
        )
    rows = {key: weight.float().to(device) for key, weight in weights.items()}
    teacher = StackedDecoder(teacher_decoder(config), rows["teacher"]).decoder()
    students = StackedDecoder(student_decoder(config), rows["students"])
    for module in (teacher, students):
        module.requires_grad_(False)
    return Shipped(name, config, LearnedTeacher(config.sums, teacher), students, made)


@functools.lru_cache(maxsize=2)
def shipped(name: str) -> Shipped:
    """The models of this package, loaded once; not to be changed, `copies` of them may be."""
    return load_shipped(name)


# ------------------------------------------------------------------------------------- results


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


def methods_file(setting: str) -> str:
    """Name of a setting's result file."""
    return f"trd_methods_{setting}.json"


@functools.lru_cache(maxsize=2)
def methods(setting: str) -> Methods:
    """The committed results of a setting.

    Raises:
        ValueError: no such setting.
        FileNotFoundError: the package was installed without its results.
    """
    setting_config(setting)
    return methods_from(_values(methods_file(setting)))


def methods_from(values: Mapping[str, Any]) -> Methods:
    """`Methods` from the values of a result file."""
    rows = {part: tuple(map(_row, values[part])) for part in ("rows", "ablations", "dose")}
    return Methods(
        setting=values["setting"],
        seeds=values["seeds"],
        first_accuracy=tuple(values["first_accuracy"]),
        first_order=values["first_order"],
        rewrites=tuple(Rewrites(**one) for one in values["rewrites"]),
        wait_maps=tuple(
            WaitMap(
                **one
                | {
                    "by_error": {name: tuple(p) for name, p in one["by_error"].items()},
                    "clean": tuple(one["clean"]),
                }
            )
            for one in values["wait_maps"]
        ),
        **rows,
    )


def _row(values: Mapping[str, Any]) -> MethodRow:
    return MethodRow(
        **values
        | {
            "accuracy": Interval(**values["accuracy"]),
            "accuracy_by_seed": tuple(values["accuracy_by_seed"]),
            "curve": tuple(Point(**point) for point in values["curve"]),
        }
    )


@functools.cache
def real_text() -> RealText:
    """The committed measurement of SmolLM2.

    Raises:
        FileNotFoundError: the package was installed without its results.
    """
    return real_text_from(_values(REAL_TEXT))


def real_text_from(values: Mapping[str, Any]) -> RealText:
    """`RealText` from the values of its result file."""

    def estimates(found: Any) -> Any:
        if set(found) == {"mean", "low", "high", "n"}:
            return Estimate(**found)
        return {name: estimates(part) for name, part in found.items()}

    def trajectory(found: Mapping[str, Any]) -> Trajectory:
        return Trajectory(**{name: tuple(part) for name, part in found.items()})

    estimated = ("onset_by_delay", "onset_difference", "onset_per_token", "surprise",
                 "perplexity_gap", "surprise_at_error", "error_preferred")  # fmt: skip
    kept = tuple(
        KeptItem(
            item=Item(
                **one["item"] | {name: tuple(one["item"][name]) for name in ("right", "wrong")}
            ),
            right=trajectory(one["right"]),
            wrong=trajectory(one["wrong"]),
        )
        for one in values["kept"]
    )
    return RealText(
        params=RealTextParams(**values["params"]),
        onset_words=tuple(values["onset_words"]),
        largest_onset=values["largest_onset"],
        kept=kept,
        **{name: estimates(values[name]) for name in estimated},
    )


def _values(name: str) -> dict[str, Any]:
    with resources.as_file(resources.files("intuitive.results").joinpath(name)) as path:
        return records.load(path)[0]
