"""The questions of the lesson, and looks that its explorers share."""

import subprocess
import sys

import pytest

from intuitive.trd.canonical import CanonicalParams
from intuitive.trd.divergences import WHOLE
from intuitive.trd.experiments.mode_map import ModeMapParams
from intuitive.trd.experiments.train import TrainParams
from intuitive.trd.experiments.trajectory import TrajectoryParams
from intuitive.trd.experiments.two_modes import TwoModesParams
from intuitive.trd.methods import ABLATIONS, METHODS
from intuitive.widgets.trd import checks
from intuitive.widgets.trd.styles import DIVERGENCE_NAMES, METHOD_STYLES


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("make", "right", "words"),
    [
        (checks.says_wait_and_fails, 2, "supplies 1 of them"),
        (checks.opposite_failures, 0, "invisible"),
        (checks.just_sft, 0, "100% of the rewrites equal y_T"),
    ],
    ids=["says WAIT", "opposite", "just SFT"],
)
def test_questions_are_answered_by_computing(make, right, words):
    question = make()
    feedback = question.choose(right)
    assert feedback["verdict"] == "right" and words in feedback["text"], feedback
    assert question.choose(1)["verdict"] == "wrong"


def test_every_method_has_a_look_of_its_own():
    assert set(METHOD_STYLES) == set(METHODS) | set(ABLATIONS)
    looks = [(style.colour, style.dash, style.symbol) for style in METHOD_STYLES.values()]
    assert len(set(looks)) == len(looks)
    assert set(DIVERGENCE_NAMES) == set(WHOLE)


def test_params_survive_their_text():
    for params in (TwoModesParams(repair=0.5), TrajectoryParams(step=3), TrainParams(rounds=2),
                   ModeMapParams(), CanonicalParams()):  # fmt: skip
        assert type(params).from_text(params.to_text()) == params


WHOLE_NUMBERS = """
import numpy as np, torch
from intuitive.trd.canonical import CanonicalParams
from intuitive.trd.config import LearnedTeacherConfig, StudentConfig
from intuitive.trd.experiments.mode_map import ModeMapParams
from intuitive.trd.experiments.real_text import RealParams
from intuitive.trd.experiments.train import TrainParams
from intuitive.trd.experiments.trajectory import TrajectoryParams
from intuitive.trd.experiments.two_modes import TwoModesParams
from intuitive.trd.distillation import Plan
from intuitive.trd.methods import Method
from intuitive.trd.real_text import RealTextParams
from intuitive.trd.sums import SumsConfig
for make in (CanonicalParams, LearnedTeacherConfig, StudentConfig, ModeMapParams, RealParams,
             TrainParams, TrajectoryParams, TwoModesParams, Method, Plan, RealTextParams,
             SumsConfig):
    default = make()
    names = [n for n, v in vars(default).items() if type(v) is int]
    for kind in (np.int64, np.uint8, torch.tensor):
        given = {n: kind(min(getattr(default, n), 200)) for n in names}
        if make in (TrainParams, Plan):
            given["n_steps"] = kind(120)
        made = make(**given)
        assert all(type(getattr(made, n)) is int for n in names), (make, kind)
    for n in names:
        for bad in (2.0, True, "2"):
            try:
                make(**{n: bad})
            except ValueError as error:
                assert f"{n}={bad!r} must be a whole number" in str(error), error
            else:
                raise AssertionError((make, n, bad))
"""


def test_settings_take_whole_numbers_of_any_kind():
    """In a process of its own: under pytest, annotations are checked before the settings look."""
    subprocess.run([sys.executable, "-c", WHOLE_NUMBERS], check=True)
