"""Stand-ins for what ships: untrained models and made-up results.

With them an explorer's test says what stands where, whatever was trained.
"""

import dataclasses

import pytest

from intuitive.trd import canonical, trained
from intuitive.trd.config import SETTINGS, setting_config, student_decoder, teacher_decoder
from intuitive.trd.experiments import mode_map, results, train, trajectory
from intuitive.trd.learned import LearnedTeacher
from intuitive.trd.methods import ABLATIONS, METHODS
from intuitive.trd.metrics import Interval
from intuitive.trd.model import StackedDecoder
from intuitive.trd.results import MethodRow, Methods, Point, Rewrites
from intuitive.trd.trained import Shipped
from intuitive.widgets.trd import results as results_widget


@pytest.fixture(autouse=True)
def no_home_of_the_user(tmp_path, monkeypatch):
    """Answers and the like are written here."""
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def both_models():
    """Untrained models of either setting."""
    return {name: untrained(name) for name in SETTINGS}


def untrained(name):
    config = setting_config(name)
    teacher = StackedDecoder.fresh(teacher_decoder(config), [0]).decoder()
    students = StackedDecoder.fresh(student_decoder(config), range(2))
    for module in (teacher, students):
        module.requires_grad_(False)
    return Shipped(name, config, LearnedTeacher(config.sums, teacher), students, {})


@pytest.fixture(scope="session")
def models(both_models):
    return both_models["small"]


@pytest.fixture
def stand_ins(monkeypatch, both_models, measured):
    """Explorers meet these instead of what ships."""
    for room in (canonical, train, trained, trajectory):
        monkeypatch.setattr(room, "shipped", both_models.__getitem__)
    for room in (results, results_widget):
        monkeypatch.setattr(room, "methods", lambda setting: measured)
    forget()
    yield
    forget()


def forget():
    """What is kept belongs to other models."""
    for room, names in ((trajectory, ("_seen", "first_student")),
                        (mode_map, ("learned_map", "program_map"))):  # fmt: skip
        for name in names:
            getattr(room, name).cache_clear()


def row(name, *, rounds=1, teacher="exact", repair=0.3, **changed):
    """A made-up row; its numbers differ from method to method."""
    place = (list(METHODS) + list(ABLATIONS)).index(name)
    accuracy = 0.3 + 0.02 * place
    values = {
        "lr": 1e-3,
        "validation": {"0.001": 0.5},
        "accuracy": Interval(accuracy, accuracy - 0.04, accuracy + 0.03),
        "accuracy_by_seed": (accuracy,),
        "pass_at": {"1": accuracy, "4": accuracy + 0.1, "16": 0.99},
        "wait": 0.4,
        "correct_after_wait": 0.1,
        "idle_wait": 0.01,
        "plan_right": None,
        "order_kept": 0.2 + 0.01 * place,
        "distinct_orders": 2.5,
        "well_formed": 0.9,
        "length": 11.0,
        "teacher_generated": 2000.0,
        "teacher_scored": 7000.0,
        "student_generated": 5000.0,
        "curve": tuple(
            Point(step=step, teacher_tokens=9000.0 * share, student_tokens=1.0,
                  accuracy=0.2 + share / 10, pass_at_4=0.5)
            for step, share in ((0, 0.5), (240, 1.0))
        ),
    }  # fmt: skip
    return MethodRow(
        name=name, teacher=teacher, repair=repair, rounds=rounds, **{**values, **changed}
    )


@pytest.fixture(scope="session")
def measured():
    numbers = {field.name: 0.25 for field in dataclasses.fields(Rewrites)}
    return Methods(
        setting="small",
        seeds=2,
        first_accuracy=(0.5, 0.6),
        first_order=0.8,
        rewrites=(
            Rewrites(**numbers | {"teacher": "exact", "fail_pass": 0.4, "pass_fail": 0.01}),
            Rewrites(**numbers | {"teacher": "learned"}),
        ),
        wait_maps=(),
        rows=tuple(
            row(name, rounds=rounds, teacher=teacher)
            for rounds in (1, 8)
            for teacher in ("exact", "learned")
            for name in METHODS
        ),
        ablations=tuple(row(name) for name in ABLATIONS),
        dose=tuple(
            row(name, repair=repair, wait=repair / 2)
            for name in ("opd_forward", "trd")
            for repair in (0.0, 0.3, 0.6)
        ),
    )
