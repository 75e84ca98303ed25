"""Optimiser or sampler: the front, what is drawn and said of it, and the explorer."""

import re
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.qgf.experiments import frontier
from intuitive.qgf.experiments.frontier import Compared, FrontierParams
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.sweep import COMPARED, best_at, least_kl, sweep_weights
from intuitive.qgf.trimodal import PRESETS
from intuitive.widgets.kit import Words
from intuitive.widgets.qgf import frontier as shown
from intuitive.widgets.qgf import frontier_scene as scene
from intuitive.widgets.qgf.frontier_scene import Picture
from intuitive.widgets.qgf.labels import Box, text_box
from intuitive.widgets.qgf.styles import distance

SMALL = {"n_particles": 400, "n_steps": 10}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


def compared(sweep, place):
    return frontier.Compared(params=FrontierParams(), sweep=sweep, place=place)


@pytest.fixture(scope="module")
def sweep():
    params = replace(PRESETS["B"], **SMALL)
    return sweep_weights(params, (0.1, 1.0, 30.0), ("ood", "qgf"))


def test_the_front_is_crossed_neither_by_tilts_nor_by_interpolation(sweep):
    front = sweep.by_return
    got = [best_at(front, kl) for kl in sweep.by_critic.kl]
    assert (np.array(got) >= sweep.by_critic.true_return - 1e-3).all()
    for kl in (0.1, 0.5, 1.0):
        assert least_kl(front, best_at(front, kl)) == pytest.approx(kl)
    assert least_kl(front, float(front.true_return[-1]) + 0.1) == float("inf")
    assert least_kl(front, float(front.true_return[0]) - 0.1) <= front.kl[0]


def spot(picture, curve, place):
    kl, earned = curve.kl_to_bc[place], curve.true_return[place]
    return picture.x(kl), picture.y(earned)


def test_every_frame_is_a_weight_and_every_method_a_point_on_its_curve(sweep):
    found = compared(sweep, 1)
    picture, frames = Picture(found), shown.present(found).timeline.frames
    assert [frame.label for frame in frames] == ["w = 0.1", "w = 1", "w = 30"]
    for place, frame in enumerate(frames):
        for curve in sweep.curves:
            point = frame.scene[f"point:{curve.estimator}"]
            assert (point.x, point.y) == pytest.approx(spot(picture, curve, place))
            assert point.click == {"estimator": curve.estimator}
            way = frame.scene[f"way:{curve.estimator}"].d
            points = [tuple(map(float, p.split(","))) for p in way[1:].split("L")]
            assert points[-1] == pytest.approx(spot(picture, curve, place), abs=0.06)
            assert points[0] == pytest.approx(spot(picture, curve, 0), abs=0.06)
        tilt = frame.scene["tilt"]
        assert tilt.x == pytest.approx(picture.x(sweep.by_critic.kl[place]))
        assert tilt.y == pytest.approx(picture.y(sweep.by_critic.true_return[place]))


def test_the_chosen_is_strong_and_named_and_the_others_are_faded(sweep):
    for frame in shown.present(compared(sweep, 0)).timeline.frames:
        qgf, ood = frame.scene["way:qgf"], frame.scene["way:ood"]
        assert qgf.width > 2 * ood.width and qgf.opacity > ood.opacity
        assert (qgf.stroke, ood.stroke) == ("ink", "grey")
        assert frame.scene["chosen's name"].text.startswith("QGF")


def test_what_leaves_the_picture_stays_at_its_edge_with_its_value(sweep):
    ood = next(curve for curve in sweep.curves if curve.estimator == "ood")
    assert ood.kl_to_bc[2] > scene.FARTHEST  # w = 30 throws particles out
    found = compared(sweep, 2)
    view = shown.present(found)
    last = view.timeline.frames[-1].scene
    assert last["point:ood"].x == scene.RIGHT
    assert "→" in last["name:ood"].text and "nats" in last["name:ood"].text
    row = next(r for r in view.table.rows if r[:2] == ("30", ESTIMATOR_NAMES["ood"]))
    assert row[4] == distance(float(ood.kl_to_bc[2]))
    for frame in view.timeline.frames:
        for mark in frame.scene.marks:
            if mark.key.startswith("point"):
                assert scene.LEFT <= mark.x <= scene.RIGHT and scene.TOP <= mark.y <= scene.BOTTOM


def test_a_weight_beyond_the_stability_limit_raises_an_alarm(sweep):
    for place, frame in enumerate(shown.present(compared(sweep, 0)).timeline.frames):
        (alarm,) = (r.alarm for r in frame.readouts if r.label == "stability number")
        assert alarm == (sweep.stability[place] > 2)


def test_a_return_below_the_data_is_called_worse_than_nothing():
    params = replace(PRESETS["C"], n_particles=400)
    found = compared(sweep_weights(params, (4.0,), ("qgf",)), 0)
    assert "the data alone have 0.59" in shown.present(found).timeline.frames[0].sentence


def test_curves_over_the_weight_are_named_and_end_in_triangles(sweep):
    figure = go.Figure(shown.weight_figure(sweep, "qgf", 0.0, 1.05))
    drawn = {trace.name: trace for trace in figure.data}
    assert {note.text for note in figure.layout.annotations} == set(drawn)
    ood = next(curve for curve in sweep.curves if curve.estimator == "ood")
    symbols = drawn[ESTIMATOR_NAMES["ood"]].marker.symbol
    assert list(symbols) == ["triangle-down" if v < 0 else "circle" for v in ood.true_return]


@pytest.mark.parametrize("preset", PRESETS)
def test_names_keep_apart_and_inside(preset):
    params = replace(PRESETS[preset], **SMALL)
    many = sweep_weights(params, (0.1, 1.0, 10.0), COMPARED)
    found = Compared(params=FrontierParams(preset=preset), sweep=many, place=0)
    room = Box(0, 0, scene.WIDTH, scene.HEIGHT)
    for frame in shown.present(found).timeline.frames:
        words = [m for m in frame.scene.marks if isinstance(m, Words)]
        boxes = [(m.text, text_box(m.text, 0.9 * m.size, m.x, m.y, m.anchor)) for m in words]
        for i, (text, box) in enumerate(boxes):
            assert box.inside(room), text
            assert not [other for other, o in boxes[:i] if o.meets(box)], text
        assert sum(m.key.startswith("name:") for m in words) >= 4  # dots may coincide


def test_following_another_method_does_not_sweep_again(monkeypatch):
    swept = []

    def counted(params, weights, estimators, *, stale, progress):
        swept.append(params)
        small = replace(params, **SMALL)
        both = ("qgf", "ood")
        return sweep_weights(small, weights, both, stale=stale, progress=progress)

    monkeypatch.setattr(frontier, "sweep_weights", counted)
    explorer = shown.explorer(seed=17)
    first = explorer.summary
    explorer.set(estimator="ood")
    assert explorer.wait() and explorer.summary != first and len(swept) == 1
    explorer.set(preset="C")  # brings the peak along
    assert explorer.wait() and len(swept) == 2 and swept[-1].peak == PRESETS["C"].peak
    explorer.close()


def test_no_sample_needs_more_than_it_has():
    """Preset A, peak 0, T = 50, chain at w = 10 brings all particles to within 0.01 of the peak:
    its return is possible, at a distance that bins of σ/3 cannot count."""
    params = FrontierParams(
        preset="A", peak=0.0, bump_height=0.0, n_steps=50, estimator="chain", weight=10.0
    )
    sweep = sweep_weights(params.flow, (10.0,), ("chain",))
    found = Compared(params=params, sweep=sweep, place=0)
    got, front = float(found.curve.true_return[found.place]), found.sweep.by_return
    assert got > -1e-3
    assert np.isfinite(least_kl(front, got)) and got <= front.most == pytest.approx(0, abs=1e-12)
    view = shown.present(found)
    said = view.timeline.frames[0].sentence
    assert "inf" not in said and "∞" not in said
    assert "too narrow a sample for bins of σ/3" in said
    assert least_kl(front, 0.5) == float("inf")  # nothing earns that


@pytest.mark.parametrize("preset", PRESETS)
def test_the_front_rises_to_the_most_there_is(preset):
    sweep = sweep_weights(replace(PRESETS[preset], n_particles=100), (1.0,), ("bc",))
    front = sweep.by_return
    assert (np.diff(front.kl) > 0).all() and (np.diff(front.true_return) > -1e-9).all()
    assert front.true_return[-1] == pytest.approx(front.most, abs=1e-8)


def test_the_code_makes_the_same_numbers_again():
    found = frontier.run(FrontierParams(preset="C", peak=-0.8, bump_height=0.5, seed=3, n_steps=10))
    names = {}
    body, last = shown.present(found).code.rsplit("\n", 1)
    frontier.swept.cache.clear()
    exec(body, names)
    kl, earned = eval(last, names)
    assert (kl, earned) == (
        found.curve.kl_to_bc[found.place],
        found.curve.true_return[found.place],
    )


# ------------------------------------------------------------------------------ steps and claims


def earned_at(sentence):
    """Return, distance and the distance that would do, as a frame's sentence tells them."""
    found = re.search(r"earns (−?[\d.]+) at ([\d.]+) nats(?:; ([\d.]+) nats would do)?", sentence)
    return [None if part is None else float(part.replace("−", "-")) for part in found.groups()]


def qgf_climbs_until_steps_are_too_long(seen) -> None:
    assert seen.sentences[-1].startswith("w = 21.54: QGF") and "▲" in seen.readouts[STABILITY]
    assert "the data alone have" in seen.sentences[-1]  # it has fallen below them


def qgf_spends_more_than_it_takes(seen) -> None:
    assert seen.number("return") > 0.9 and seen.number("nats from the data") > 2


def flow_dps_stays_nearer_to_the_edge(seen) -> None:
    assert seen.values["estimator"] == "flow_dps"
    assert 0.7 < seen.number("return") < 0.95 and seen.number("nats from the data") < 1.2


def ood_leaves_the_picture(seen) -> None:
    assert seen.number("nats from the data") > scene.FARTHEST


def without_an_error_ood_is_nearer_at_a_small_weight(seen) -> None:
    assert seen.values["preset"] == "A" and seen.number("nats from the data") < 0.9
    assert -2 < seen.number("return") < -1.5


STABILITY = "stability number"
STEPS = (
    qgf_climbs_until_steps_are_too_long,
    qgf_spends_more_than_it_takes,
    flow_dps_stays_nearer_to_the_edge,
    ood_leaves_the_picture,
    without_an_error_ood_is_nearer_at_a_small_weight,
)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_contrasts_of_the_steps_hold_on_every_seed(seed):
    names, weights = ("ood", "qgf", "flow_dps"), (0.2154, 1.0)
    params = FrontierParams(seed=seed)
    sweep = sweep_weights(params.flow, weights, names)
    ood, qgf, dps = sweep.curves
    assert qgf.true_return[1] > dps.true_return[1] + 0.1
    for one, other in ((dps, qgf), (qgf, ood)):
        assert one.kl_to_bc[1] + 1 < other.kl_to_bc[1]
    for curve in (qgf, dps):  # both could be had for less
        assert least_kl(sweep.by_return, curve.true_return[1]) < curve.kl_to_bc[1]
    perfect = FrontierParams(preset="A", peak=0.8, bump_height=0.0, seed=seed)
    ood, qgf, _ = sweep_weights(perfect.flow, weights, names).curves
    assert abs(ood.true_return[0] - qgf.true_return[0]) < 0.15
    assert ood.kl_to_bc[0] + 0.1 < qgf.kl_to_bc[0]
    assert qgf.true_return[1] > ood.true_return[1] + 0.2


def test_a_frames_sentence_tells_what_the_table_does(sweep):
    view = shown.present(compared(sweep, 0))
    kl, earned = (c[1] for c in (sweep.curves[1].kl_to_bc, sweep.curves[1].true_return))
    told = earned_at(view.timeline.frames[1].sentence)
    assert told[0] == pytest.approx(earned, abs=0.006) and told[1] == pytest.approx(kl, rel=0.006)
    assert told[2] == pytest.approx(least_kl(sweep.by_return, earned), abs=0.006)
    row = next(r for r in view.table.rows if r[:2] == ("1", "QGF"))
    assert float(row[6]) == told[2]
