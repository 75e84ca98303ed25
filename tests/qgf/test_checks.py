"""The lesson's questions and predictions: every answer is computed."""

import pytest

from intuitive.qgf.guidance import ESTIMATORS
from intuitive.widgets.qgf import backprop, checks, frontier, policies, trimodal
from intuitive.widgets.qgf.styles import ESTIMATOR_STYLES


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


def test_every_estimator_has_a_look_of_its_own():
    assert set(ESTIMATOR_STYLES) == set(ESTIMATORS)
    assert len({(look.colour, look.dash) for look in ESTIMATOR_STYLES.values()}) == len(ESTIMATORS)


@pytest.mark.parametrize(
    ("make", "right", "words"),
    [
        (checks.missing_peak, 1, "too far out"),
        (checks.optimiser, 2, "also the farthest"),
        (checks.two_peaks, 1, "end in that mode"),
    ],
    ids=["missing peak", "optimiser", "worse than nothing"],
)
def test_questions_are_answered_by_computing(make, right, words):
    question = make()
    feedback = question.choose(right)
    assert feedback["verdict"] == "right" and words in feedback["text"]
    assert question.choose(0)["verdict"] == "wrong"


@pytest.mark.parametrize(
    ("lesson", "right", "words"),
    [
        (trimodal, "nearly all", "QGF puts 98% there, where the exact tilt asks for 52%"),
        (frontier, "less than half as far", "1.02 nats would do"),
        (backprop, "2% to 30%, of one sign", "98.7% of the pairs have one sign"),
        (policies, "to nine out of ten", "Imitation wins 27%, QGF 94%"),
    ],
    ids=["trimodal", "frontier", "backprop", "policies"],
)
def test_predictions_are_answered_by_computing(lesson, right, words):
    index, explanation = lesson.PREDICT.answer()
    assert lesson.PREDICT.choices[index] == right and words in explanation
