"""The questions of the lesson, and looks that its explorers share."""

import dataclasses

import pytest
import torch

from intuitive.trd.canonical import CanonicalParams
from intuitive.trd.divergences import WHOLE
from intuitive.trd.experiments import trajectory
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
def test_questions_are_answered_by_computing(make, right, words, failures, monkeypatch):
    twice = {
        name: torch.cat([getattr(failures, name)] * 2) for name in ("digits", "y_o", "first_error")
    }
    more = dataclasses.replace(failures, **twice)
    monkeypatch.setattr(trajectory, "failed_rollouts", lambda setting, seed: more)
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
    for params in (TwoModesParams(repair=0.5), TrajectoryParams(item=2), TrainParams(rounds=2),
                   ModeMapParams(), CanonicalParams()):  # fmt: skip
        assert type(params).from_text(params.to_text()) == params
