"""Optimiser or sampler: the front, what is drawn and said of it, and the explorer."""

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.qgf.experiments import frontier
from intuitive.qgf.experiments.frontier import Compared, FrontierParams
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.sweep import best_at, least_kl, sweep_weights
from intuitive.qgf.trimodal import PRESETS
from intuitive.widgets.qgf import frontier as shown

SMALL = {"n_particles": 400, "n_steps": 10}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


def compared(sweep, place):
    return frontier.Compared(params=FrontierParams(), sweep=sweep, place=place)


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


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


def test_frontier_marks_the_estimator_beside_the_tilt_of_the_same_weight(sweep):
    figure = go.Figure(shown.front_figure(sweep, "qgf", 1))
    mark = figure.data[-1]
    qgf = next(curve for curve in sweep.curves if curve.estimator == "qgf")
    np.testing.assert_allclose(mark.x, [sweep.by_critic.kl[1], qgf.kl_to_bc[1]])
    np.testing.assert_allclose(mark.y, [sweep.by_critic.true_return[1], qgf.true_return[1]])
    widths = {n: named(figure, ESTIMATOR_NAMES[n]).line.width for n in ("ood", "qgf")}
    assert widths["qgf"] > widths["ood"]


def test_points_far_from_the_data_are_left_to_the_table(sweep):
    ood = next(curve for curve in sweep.curves if curve.estimator == "ood")
    assert ood.kl_to_bc[2] > shown.FARTHEST  # w = 30 throws particles out
    figure = go.Figure(shown.front_figure(sweep, "qgf", 2))
    assert named(figure, ESTIMATOR_NAMES["ood"]).x[2] is None
    found = compared(sweep, 2)
    view = shown.present(found)
    row = next(row for row in view.table.rows if row[0] == ESTIMATOR_NAMES["ood"])
    assert float(row[3]) == pytest.approx(ood.kl_to_bc[2], rel=0.01)


def test_a_weight_beyond_the_stability_limit_raises_an_alarm(sweep):
    for place in range(3):
        found = compared(sweep, place)
        view = shown.present(found)
        (alarm,) = (r.alarm for r in view.readouts if r.label.startswith("stability"))
        assert alarm == (sweep.stability[place] > 2)


def test_a_return_below_the_data_is_called_worse_than_nothing():
    params = replace(PRESETS["C"], n_particles=400)
    found = compared(sweep_weights(params, (4.0,), ("qgf",)), 0)
    assert "doing nothing has 0.59" in shown.present(found).summary


def test_looking_at_another_weight_does_not_sweep_again(monkeypatch):
    swept = []

    def counted(params, weights, estimators, *, stale, progress):
        swept.append(params)
        small = replace(params, **SMALL)
        return sweep_weights(small, weights, ("qgf",), stale=stale, progress=progress)

    monkeypatch.setattr(frontier, "sweep_weights", counted)
    explorer = shown.explorer(seed=17)
    first = explorer.summary
    explorer.set(weight=frontier.SWEPT[-1])
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
    assert "inf" not in view.summary and "∞" not in view.summary
    assert "too wide for so narrow a sample" in view.summary
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
