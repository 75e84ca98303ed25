"""Through all steps, or one: a pair and its way back, a thousand pairs, and how they are shown."""

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.qgf.experiments import backprop
from intuitive.qgf.experiments.backprop import BackpropParams, follow_pair, jacobians, jitter
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.sampling import guided_velocity
from intuitive.qgf.trimodal import PRESETS
from intuitive.widgets.kit import Words
from intuitive.widgets.qgf import backprop as shown
from intuitive.widgets.qgf import backprop_scene as scene
from intuitive.widgets.qgf.labels import Box, text_box

SMALL = replace(PRESETS["B"], n_particles=1000)
RIDGE = {"place": -0.25, "time": 0.5}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


# -------------------------------------------------------------------------------------- the pair


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("first", "n_steps"), [(0, 10), (5, 10), (19, 20)])
def test_the_slope_comes_back_as_autograd_brings_it(preset, first, n_steps):
    flow = replace(PRESETS[preset], weight=1.0, n_steps=n_steps)
    places = (-0.25, 0.6)
    pair = follow_pair(flow, places, first)
    x = torch.tensor(places, dtype=torch.float64)
    for name, want in (("qgf", pair.qgf), ("bptt", pair.bptt)):
        _, push = guided_velocity(
            flow.mixture, flow.q, x, estimator=name, weight=1.0, n_steps=n_steps, steps=[first]
        )
        np.testing.assert_allclose(want, push[0], rtol=1e-9, atol=1e-12)
    assert len(pair.times) == n_steps - first + 1 and pair.times[-1] == 1
    for k, derivative in enumerate(pair.derivative):
        np.testing.assert_allclose(pair.back[k], derivative * pair.back[k + 1])
    np.testing.assert_array_equal(pair.back[-1], 1)


def test_on_a_ridge_the_chain_explodes_and_the_estimate_does_not():
    flow = BackpropParams().flow
    pair = follow_pair(flow, (-0.25, -0.23), 5)
    assert abs(pair.bptt[1] / pair.bptt[0]) > 1000 and abs(pair.qgf[1] / pair.qgf[0] - 1) < 0.02
    road = follow_pair(flow, (0.6, 0.62), 5)
    assert abs(road.bptt[1] / road.bptt[0] - 1) < 0.15
    start = follow_pair(flow, (-0.5, -0.48), 0)  # where all estimates are one
    np.testing.assert_allclose(start.qgf[0], start.qgf[1], rtol=1e-9)


# --------------------------------------------------------------------------------- a thousand pairs


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_typical_pair_is_alike_and_few_pairs_hold_the_length(seed):
    """Preset B, through all steps: the median pair differs little, 1% hold nearly all length."""
    whole = jitter(replace(SMALL, seed=seed), ("qgf", "bptt"))
    assert whole.same_sign[1].mean() > 0.97 and 0.1 < whole.difference[1].mean() < 0.2
    assert whole.top_share[1].mean() > 0.7 > 0.1 > whole.top_share[0].mean()
    assert whole.cosine[1].mean() < 0.5 < 0.99 < whole.cosine[0].mean()  # pooled: of those few
    assert whole.difference[0].mean() < 0.06


def test_passes_are_counted_and_where_no_guidance_is_nothing_agrees():
    whole = jitter(SMALL, ("qgf", "qgf_jacobian", "bptt"))
    assert whole.passes[0] < whole.passes[1] + 1 < whole.passes[2]
    assert (whole.cosine[1, 0], whole.same_sign[1, 0]) == (0, 0)  # J_1 is 0 at t = 0
    with pytest.raises(ValueError, match="distance=0"):
        jitter(SMALL, distance=0)
    with pytest.raises(ValueError, match="distance=0"):
        BackpropParams(distance=0.0)


def test_the_time_is_the_median_of_repeated_runs(monkeypatch):
    times = iter([5.0, 1.0, 9.0, 2.0, 100.0])
    monkeypatch.setattr(backprop, "_timed", lambda *_: next(times))
    assert jitter(replace(SMALL, n_particles=100), ("qgf",)).ms == (5.0,)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_chains_jacobian_is_the_slope_of_the_flow(preset):
    """By differences, where particles are; between modes it is too steep for them."""
    found = jacobians(preset, 0.5)
    slope = np.gradient(found.endpoint, found.x)
    some = found.density > 0.1
    assert np.quantile(np.abs(slope / found.chain - 1)[some], 0.8) < 0.02
    assert (found.chain > 0).all() and (found.one_step >= 0).all()
    assert np.trapezoid(found.density, found.x) == pytest.approx(1, abs=0.005)
    assert jacobians(preset, 1.0).t == 0.999
    with pytest.raises(ValueError, match="preset='D'"):
        jacobians("D", 0.5)
    with pytest.raises(ValueError, match=r"t=1.5 must lie in \[0, 1\]"):
        jacobians("B", 1.5)


# --------------------------------------------------------------------------- what is drawn and said


@pytest.fixture(scope="module")
def shaken():
    return backprop.run(BackpropParams(**RIDGE))


def height(position):
    share = (np.clip(position, -1.7, 1.7) + 1.7) / 3.4
    return scene.BOTTOM - (scene.BOTTOM - scene.TOP) * share


def test_the_pair_runs_to_the_end_and_the_slope_back(shaken):
    frames = shown.present(shaken).timeline.frames
    stages = [frame.stage for frame in frames]
    assert stages == ["pair", *["forward"] * 5, "slope", *["back"] * 5, "gradients"]
    for k, frame in enumerate(frames[:6]):
        for i in range(2):
            assert frame.scene[f"now:{i}"].y == pytest.approx(height(shaken.pair.x[k, i]))
    for k, frame in zip((4, 3, 2, 1, 0), frames[7:12], strict=True):
        bars = {m.key for m in frame.scene.marks if m.key.startswith("back:")}
        assert bars == {f"back:{j}:{i}" for j in range(k, 6) for i in range(2)}
    last = frames[-1].scene
    for j in range(5):
        bar = last[f"back:{j}:1"]
        decades = scene.DECADES[1] - scene.DECADES[0]
        tall = (scene.FLOOR - scene.CEILING) * np.log10(shaken.pair.back[j, 1]) / decades
        assert bar.h == pytest.approx(tall, rel=1e-6) or bar.h == 1.5


def test_both_gradients_stand_side_by_side_at_the_end_alone(shaken):
    *before, last = shown.present(shaken).timeline.frames
    assert not any(m.key.startswith("bptt") for f in before for m in f.scene.marks)
    texts = {m.key: m.text for m in last.scene.marks if isinstance(m, Words)}
    assert texts["qgf's value:0"] == f"+{shaken.pair.qgf[0]:.2f}"
    assert texts["bptt's value:1"] == f"+{shaken.pair.bptt[1]:.0f}"
    assert "times the other" in texts["bptt apart"] and "they differ by 1" in texts["qgf apart"]
    for i in range(2):
        assert last.scene[f"jump:{i}"].y2 == pytest.approx(height(shaken.pair.estimate[i]))
        line = last.arithmetic[f"gradient:bptt:{i}"]
        assert line.tex.endswith(f"= {shaken.pair.bptt[i]:.3g}")


def test_medians_are_told_beside_the_pair(shaken):
    told = {readout.label: readout.value for readout in shown.present(shaken).readouts}
    place = shaken.whole.estimators.index("bptt")
    assert told["median pair, BPTT"] == f"{shaken.whole.difference[place].mean():.0%}"
    assert told["median pair, BPTT"] not in shown.present(shaken).summary


@pytest.mark.parametrize(
    ("one", "two", "said"),
    [
        (1.0, 1.0, "they are equal"),
        (1.0, 0.9, "they differ by 10.0%"),
        (0.5, 5.0, "one is 10 times the other"),
        (0.5, -5.0, "opposite directions"),
        (0.0, 5.0, "one of them is nothing"),
        (0.0, 0.0, "both are nothing"),
    ],
)
def test_two_gradients_are_compared_in_words(one, two, said):
    assert said in scene.apart(np.array([one, two]))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("place", "time"), [(0.6, 0.5), (-0.25, 0.5), (-0.5, 0.0), (1.6, 0.9)])
def test_texts_keep_apart_and_inside(preset, place, time):
    view = shown.present(backprop.run(BackpropParams(preset=preset, place=place, time=time)))
    room = Box(0, 0, scene.WIDTH, scene.HEIGHT)
    for frame in view.timeline.frames[-3:]:
        boxes = [
            (m.text, text_box(m.text, 0.9 * m.size, m.x, m.y, m.anchor))
            for m in frame.scene.marks
            if isinstance(m, Words)
        ]
        for i, (text, box) in enumerate(boxes):
            assert box.inside(room), text
            assert not [other for other, o in boxes[:i] if o.meets(box)], text


def test_curves_of_typical_pairs_are_named_at_their_ends(shaken):
    figure = go.Figure(shown.pairs_figure(shaken.whole))
    names = {trace.name: trace for trace in figure.data}
    for name in shaken.whole.estimators:
        drawn = names[ESTIMATOR_NAMES[name]]
        want = 100 * shaken.whole.difference[shaken.whole.estimators.index(name)]
        np.testing.assert_allclose([y for y in drawn.y if y is not None][-3:], want[-3:])
    assert {note.text for note in figure.layout.annotations} == set(names)
    assert names["QGF-Jacobian"].y[0] is None  # no guidance at t = 0
    assert names["QGF"].line.width > names["OOD gradient"].line.width


def test_the_code_makes_the_result_again(shaken):
    names = {}
    body, last = shown.present(shaken).code.rsplit("\n", 1)
    exec(body, names)
    for got, want in zip(eval(last, names), (shaken.pair.qgf, shaken.pair.bptt), strict=True):
        np.testing.assert_array_equal(got, want)


# ------------------------------------------------------------------------------ steps and claims


def gradients(seen):
    """Both of QGF, both of BPTT."""
    qgf, bptt = seen.sentences[-1].removesuffix(".").split(". Through all steps: ")
    parts = f"{qgf.partition(': ')[2]} and {bptt}".split(" and ")
    return [float(part.replace("−", "-")) for part in parts]


def neighbours_on_a_road_are_alike(seen) -> None:
    one, two, three, four = gradients(seen)
    assert abs(one / two - 1) < 0.1 and abs(three / four - 1) < 0.2
    assert abs(three) < 0.3 * abs(one)  # every step's derivative is below 1


def on_a_ridge_one_explodes(seen) -> None:
    one, two, three, four = gradients(seen)
    assert abs(one / two - 1) < 0.02 and abs(four / three) > 1000


def at_the_start_estimates_are_one(seen) -> None:
    one, two, three, four = gradients(seen)
    assert one == two and abs(four / three) > 10


STEPS = (neighbours_on_a_road_are_alike, on_a_ridge_one_explodes, at_the_start_estimates_are_one)
