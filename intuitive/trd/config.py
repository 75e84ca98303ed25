"""Every size and choice of the two settings: problem, student, learned teacher."""

from dataclasses import dataclass, field

from intuitive.common.checks import whole
from intuitive.common.decoder import DecoderConfig

from .model import decoder_config
from .sums import SumsConfig


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """The first student: its sizes, habits and training."""

    width: int = 32
    n_layers: int = 2
    right_to_left: float = 0.8  # share of traces in this order; the others are in any
    wrong_total: float = 0.15  # chance that a total is wrong, in what it learns from
    wrong_plan: float = 0.4  # likewise for the plan, where there is one
    n_steps: int = 6000
    batch: int = 96
    lr: float = 3e-3

    def __post_init__(self) -> None:
        _check_sizes(self)


@dataclass(frozen=True, kw_only=True)
class LearnedTeacherConfig:
    """The learned teacher: its sizes, what it sees and its training. Shares add up to 1."""

    width: int = 64
    n_layers: int = 4
    clean: float = 0.4  # share of right solutions from x
    planted: float = 0.3  # of solutions with one planted wrong total
    revise: float = 0.3  # of drafts that are rewritten
    repair: float = 0.3  # chance of WAIT at a boundary after an error: the ideal λ
    at_once: float = 0.25  # first share of the steps: every error is repaired at once
    spread: float = 0.3  # next share: at any later boundary; then with `repair` as its chance
    left_to_right: float = 0.5  # orders of its own; the others are uniform
    wrong_plan: float = 0.4  # how often it guesses a wrong plan from x
    n_steps: int = 14_000
    batch: int = 128
    lr: float = 1.5e-3

    def __post_init__(self) -> None:
        _check_sizes(self)
        if abs(self.clean + self.planted + self.revise - 1) > 1e-6:
            raise ValueError(
                f"clean={self.clean}, planted={self.planted} and revise={self.revise} are shares "
                "of a batch: they must add up to 1."
            )


def _check_sizes(config: StudentConfig | LearnedTeacherConfig) -> None:
    for name in ("width", "n_layers", "n_steps", "batch"):
        object.__setattr__(config, name, whole(name, getattr(config, name), low=1))


@dataclass(frozen=True, kw_only=True)
class SettingConfig:
    """A problem with its teacher and student."""

    sums: SumsConfig = field(default_factory=SumsConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    teacher: LearnedTeacherConfig = field(default_factory=LearnedTeacherConfig)

    @classmethod
    def late(cls) -> "SettingConfig":
        """Eight digits, errors that show late: the student errs in the plan, rarely in a total.

        The teacher sees more errors than in the small setting: with fewer it does not learn to
        check an addition modulo 23.
        """
        return cls(
            sums=SumsConfig.late(),
            student=StudentConfig(width=64, wrong_total=0.03),
            teacher=LearnedTeacherConfig(
                width=96, clean=0.28, planted=0.42, n_steps=16_000, batch=160
            ),
        )


SETTINGS = {"small": SettingConfig(), "late": SettingConfig.late()}


def setting_config(name: str) -> SettingConfig:
    """A setting by name: "small" (4 digits modulo 7) or "late" (8 modulo 23, with a plan).

    Raises:
        ValueError: no such setting.
    """
    if name not in SETTINGS:
        raise ValueError(f"setting={name!r} must be one of {', '.join(SETTINGS)}.")
    return SETTINGS[name]


def student_decoder(config: SettingConfig) -> DecoderConfig:
    """Sizes of a student: its context is the problem and one trace."""
    sums, sizes = config.sums, config.student
    return decoder_config(
        vocab_size=sums.vocab_size,
        width=sizes.width,
        n_layers=sizes.n_layers,
        max_positions=sums.prompt_length + sums.trace_length,
    )


def teacher_decoder(config: SettingConfig) -> DecoderConfig:
    """Sizes of a learned teacher: its context has room for a draft too."""
    sums, sizes = config.sums, config.teacher
    return decoder_config(
        vocab_size=sums.vocab_size,
        width=sizes.width,
        n_layers=sizes.n_layers,
        max_positions=sums.refine_length + sums.trace_length,
    )
