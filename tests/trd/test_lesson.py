"""What the lesson says of its ten texts and of the controls is what was recorded."""

import itertools
import json
from pathlib import Path

import pytest
from prose import FIGURE, cut

from intuitive.trd.experiments import train
from intuitive.trd.experiments.train import TrainParams
from intuitive.trd.methods import METHODS
from intuitive.trd.results import controls, methods
from intuitive.trd.teacher import TeacherConfig
from intuitive.widgets.kit import percent

ROOT = Path(__file__).parents[2]
N_TEXTS = 5 * 128 * 8  # that all students of a control wrote


@pytest.fixture(scope="module")
def found():
    return controls()


def prose(cell):
    """A markdown cell of the lesson."""
    lesson = json.loads((ROOT / "notebooks/07_trd.ipynb").read_text(encoding="utf-8"))
    return "".join(next(c["source"] for c in lesson["cells"] if c["id"] == cell))


def points(run, *steps):
    return [next(p for p in run.points if p.step == step) for step in steps]


def gaps(left, right):
    """From the smallest to the largest, in points."""
    each = sorted(100 * (a - b) for a, b in zip(left, right, strict=True))
    return f"{each[0]:.1f} to {each[-1]:.1f}"


def test_figures_below_the_ten_texts_are_those_recorded(found):
    text = prose("trd-12a")
    opd, follows = found.row("opd_forward"), found.row("opd_forward_in_order")
    points_more = 100 * (opd.accuracy - follows.accuracy)
    trd, from_x = found.row("trd"), found.row("trd_from_x")
    left = train.recorded(TrainParams()).runs[0]
    before, dive = points(left, 10, 15)
    pair = [run.points[-1] for run in train.recorded(TrainParams(methods="trd,trd_from_x")).runs]
    program = next(one for one in methods("small").rewrites if one.teacher == "exact")
    phrases = (
        f"{percent(opd.idle_first)} of the texts with WAIT say it first where nothing is wrong",
        f"still {percent(follows.idle_first)} say it first where nothing is wrong",
        f"with it {percent(follows.wait)} of the texts say WAIT, none of these comes out right, "
        f"and {percent(follows.accuracy)} of all texts are right",
        f"it is {percent(opd.wait)}, none, and {points_more:.0f} points more",
        f"falls from {percent(before.accuracy)} to {percent(dive.accuracy)}",
        f"({percent(before.order_kept)} keep it before, {percent(dive.order_kept)} after), and "
        f"WAIT goes from {percent(before.wait)} to {percent(dive.wait)}",
        f"in {percent(left.points[0].order_kept)} of these texts; five first students do in "
        f"{percent(methods('small').first_order)}",
        f"ends at {percent(pair[1].accuracy)} against {percent(pair[0].accuracy)}",
        f"comes to {percent(from_x.accuracy)} and {percent(trd.accuracy)}",
        f"{percent(program.fail_fail + program.pass_fail, 1)} of its rewrites are wrong",
    )
    text = cut(text, phrases)
    assert FIGURE.findall(text) == []
    assert opd.correct_after_wait == follows.correct_after_wait == 0
    assert f"by {gaps(trd.accuracy_by_seed, from_x.accuracy_by_seed)} points" in text
    said = [round(N_TEXTS * found.row("trd_from_x", slips=slips).wait) for slips in (False, True)]
    assert (
        f"{said[0]} of {N_TEXTS:,} texts still says WAIT after the training, and {said[1]} of"
    ) in text
    assert TeacherConfig().smoothing == 1e-3 and "one token in a thousand" in text


def test_the_control_follows_the_students_order_and_changes_little(found):
    opd, follows = found.row("opd_forward"), found.row("opd_forward_in_order")
    assert follows.order_kept > 0.5 > 0.1 > opd.order_kept
    assert abs(opd.accuracy - follows.accuracy) < 0.05
    for row in (opd, follows):
        assert max(row.accuracy_by_seed) < found.row("trd").accuracy - 0.2
        assert len(row.accuracy_by_seed) == 5 and row.wait > 0.15
    assert METHODS["opd_forward"].context == "x"


def test_all_three_recorded_trainings_dive_and_forward_kl_has_its_own_rate():
    for seed in (0, 1, 2):
        before, dive = points(train.recorded(TrainParams(seed=seed)).runs[0], 10, 15)
        assert dive.accuracy < before.accuracy - 0.2 and dive.order_kept < before.order_kept - 0.3
    assert methods("small").row("opd_forward").lr == TrainParams().lr == 0.001


def test_the_first_two_rows_say_wait_where_nothing_is_wrong():
    run, digits = train.recorded(TrainParams()).runs[0], train.recorded(TrainParams()).problems
    written = run.texts[-1]
    for text, row in itertools.islice(zip(written, digits, strict=True), 2):
        seen = train.read(text, row)
        assert seen.idle == (seen.tokens.index("WAIT"),)
    assert written[6] == "#0 4 #1 EOS"


def test_trd_scored_from_x_is_less_than_a_point_behind_after_240_steps():
    """Which the lesson says three times, once with numbers."""
    rows = [methods("small").row(name) for name in ("trd", "trd_from_x")]
    assert 0 < rows[0].accuracy.estimate - rows[1].accuracy.estimate < 0.01
    trd, from_x = (row.accuracy_by_seed for row in rows)
    assert all(a > b for a, b in zip(trd, from_x, strict=True))
    text = prose("trd-15")
    assert f"all five students, by {gaps(trd, from_x)} points" in text
    assert "less than a point of accuracy in section 4" in prose("trd-32")
    assert "less than a point is left" in prose("trd-12a")
