"""The tri-modal flow: settings, the record behind the explorer, what is drawn and said."""

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.common.runtime import Cancelled
from intuitive.qgf.critics import STABILITY_LIMIT
from intuitive.qgf.experiments import trimodal
from intuitive.qgf.guidance import ESTIMATOR_NAMES, ESTIMATORS
from intuitive.qgf.trimodal import PRESETS, TrimodalParams
from intuitive.widgets.kit.controls import Choice, Range
from intuitive.widgets.qgf import styles
from intuitive.widgets.qgf import trimodal as shown
from intuitive.widgets.qgf import trimodal_figures as figures

SMALL = replace(PRESETS["B"], n_particles=1000)


# ------------------------------------------------------------------------------- the settings


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_as_text(preset):
    assert TrimodalParams.from_text(PRESETS[preset].to_text()) == PRESETS[preset]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "D"}, "preset='D': choose one of"),
        ({"critic": "cubic"}, "critic='cubic'"),
        ({"estimator": "dps"}, "estimator='dps'"),
        ({"second": "dps"}, "second='dps'.*none"),
        ({"schedule": "linear"}, "schedule='linear'"),
        ({"peak": 9.0}, r"peak=9.0 must lie in \[-4, 4\]"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"width": 0.0}, "width=0.0"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"n_particles": 5}, "n_particles=5"),
        ({"time": 1.5}, "time=1.5"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrimodalParams(**change)


def test_stability_number_of_spec_b():
    """The bump bends the critic too, but not where the data is."""
    number = replace(PRESETS["B"], weight=2.0).stability
    assert number == pytest.approx(2 / 10 / 0.35**2, rel=0.01)
    assert replace(PRESETS["A"], weight=10.0).stability == pytest.approx(2.0, rel=1e-3)


# --------------------------------------------------------------------------------- the record


@pytest.mark.parametrize("preset", PRESETS)
def test_the_exact_answer_is_a_density_at_every_time(preset):
    setting = replace(PRESETS[preset], n_particles=500, estimator="bc")
    for t in (0.0, 0.3, 0.8, 1.0):
        result = trimodal.run(replace(setting, time=t))
        assert result.frame_times[result.frame] == pytest.approx(t)
        for density in (result.density, result.tilted):
            # a little of the noise lies beyond the view
            assert np.trapezoid(density, result.x) == pytest.approx(1, abs=0.005)
    np.testing.assert_allclose(np.trapezoid(result.fine_tilted, result.fine), 1, atol=1e-6)
    at_fine = np.interp(result.x, result.fine, result.fine_tilted)
    np.testing.assert_allclose(result.tilted, at_fine, atol=0.02 * at_fine.max())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_run_counts_all_its_particles(estimator):
    result = trimodal.run(replace(SMALL, estimator=estimator))
    (run,) = result.runs
    assert sum(run.mode_masses) + run.off_mode == pytest.approx(1)
    width = np.diff(result.final_edges)[0]
    assert run.histogram.sum() * width == pytest.approx(1 - run.outside, abs=1e-9)
    assert run.trajectory.shape == (11, 300) and len(run.query_times) == len(run.queries)
    assert run.velocity.shape == run.guidance.shape == (len(result.map_x), 10)
    assert run.marginals.shape == (11, len(result.bin_edges) - 1)
    np.testing.assert_array_equal(run.trajectory[-1], run.actions[:300])
    assert run.ms > 0 and run.passes >= 10
    assert not run.actions.flags.writeable


def test_two_estimators_stand_side_by_side_on_the_same_noise():
    result = trimodal.run(replace(SMALL, estimator="qgf", second="ood"))
    qgf, ood = result.runs
    assert (qgf.estimator, ood.estimator) == ("qgf", "ood")
    np.testing.assert_array_equal(qgf.trajectory[0], ood.trajectory[0])
    np.testing.assert_array_equal(ood.queries, ood.trajectory[:-1])


def test_without_weight_the_map_is_the_field_and_the_tilt_the_data():
    result = trimodal.run(replace(SMALL, weight=0.0))
    assert (result.runs[0].guidance == 0).all()
    np.testing.assert_allclose(result.fine_tilted, result.fine_density, atol=1e-6)
    assert result.tilt_return == pytest.approx(result.bc_return)
    assert abs(result.runs[0].kl_to_bc - result.runs[0].kl_to_tilt) < 1e-6


def test_looking_at_another_time_samples_nothing_anew():
    first, later = (trimodal.run(replace(SMALL, time=t)) for t in (0.2, 0.8))
    assert first.runs is later.runs and later.params.time == 0.8
    assert later.tilted.max() > 1.5 * first.tilted.max()  # noise is wider than the modes


def test_many_steps_are_shown_by_few():
    result = trimodal.run(replace(SMALL, n_steps=60, n_particles=200))
    assert len(result.frame_times) == 21 and len(result.map_times) == 40
    assert result.frame_times[0] == 0 and result.frame_times[-1] == 1


def test_a_stale_request_stops():
    with pytest.raises(Cancelled):
        trimodal.run(replace(SMALL, seed=99), stale=lambda: True)


# -------------------------------------------------------------- the explorer without a browser

FEW = 500  # particles


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def explorer():
    made = shown.explorer(n_particles=FEW)
    yield made
    made.close()


@pytest.fixture(scope="module")
def pinned():
    """Preset B under OOD and QGF."""
    params = replace(PRESETS["B"], estimator="ood", second="qgf", time=0.5)
    return trimodal.run(params)


def result_of(**changes):
    return trimodal.run(replace(PRESETS["B"], n_particles=FEW, **changes))


def view_of(result, sweep=None):
    return shown.present(trimodal.Flow(at=result, over_weights=sweep))


def settle(explorer, **values):
    assert explorer.set(**values).wait(30)
    assert explorer.status["state"] == "done", explorer.status["text"]
    return explorer


def traces(figure, **wanted):
    data = [trace.to_plotly_json() for trace in figure.data]
    return [trace for trace in data if all(trace.get(key) == wanted[key] for key in wanted)]


# ----------------------------------------------------------------------------------- figures


def paths(figure, axis, colour):
    """Points [n, 2] of every stroke of the shape in one colour."""
    found = [
        shape["path"]
        for shape in figure.to_dict()["layout"]["shapes"]
        if shape["type"] == "path" and (shape["xref"], shape["line"]["color"]) == (axis, colour)
    ]
    strokes = [stroke for path in found for stroke in path.split("M")[1:]]
    return [np.array([point.split(",") for point in s.split("L")], float) for s in strokes]


def test_every_shown_particle_is_one_stroke_in_the_colour_of_its_mode(pinned):
    run = pinned.runs[0]
    drawn = min(figures.N_PATHS, run.trajectory.shape[1])
    ends = run.final_mode[:drawn]
    figure = go.Figure(figures.flow_figure(pinned))
    for mode, colour in ((-1, "#7F7F7F"), *enumerate(styles.MODES)):
        want = run.trajectory[:, :drawn][:, ends == mode].T
        strokes = paths(figure, "x2", colour)
        assert len(strokes) == len(want)
        for stroke, path in zip(strokes, want, strict=True):
            np.testing.assert_allclose(stroke, np.stack((pinned.times, path), 1), atol=6e-4)
    assert len(set(ends.tolist())) > 2  # a picture of one mode would prove little


def test_marks_stand_where_the_critic_was_asked(pinned):
    for axis, run in zip(("x2", "x3"), pinned.runs, strict=True):
        marks = np.array(paths(go.Figure(figures.flow_figure(pinned)), axis, styles.CRITIC)).mean(1)
        asked = run.queries[:, : figures.N_ASKED]
        times = np.repeat(run.query_times, asked.shape[1])
        np.testing.assert_allclose(marks, np.stack((times, asked.ravel()), 1), atol=6e-4)


def test_particles_far_away_keep_the_page_small():
    result = trimodal.run(replace(PRESETS["A"], estimator="ood", weight=32.0, n_particles=FEW))
    assert np.abs(result.runs[0].trajectory).max() > 1e6
    shapes = go.Figure(figures.flow_figure(result)).to_dict()["layout"]["shapes"]
    points = [shape["path"].count(",") for shape in shapes if shape["type"] == "path"]
    assert sum(len(shape.get("path", "")) for shape in shapes) < 14 * sum(points)


def test_many_steps_draw_fewer_paths():
    result = result_of(n_steps=100)
    strokes = [
        stroke
        for colour in (*styles.MODES, figures.theme.GREY)
        for stroke in paths(go.Figure(figures.flow_figure(result)), "x2", colour)
    ]
    assert 20 < len(strokes) < 50
    assert sum(map(len, strokes)) <= figures.N_POINTS


def test_the_handle_stands_on_axes_of_fixed_range(explorer):
    (handle,) = explorer.spec["plots"][0]["drag"]
    assert handle["sets"] == ("peak",)
    layout = explorer.view.figure("flow")["layout"]
    before = [tuple(layout[name]["range"]) for name in ("xaxis", "yaxis")]
    assert before[0][0] < handle["x"] < before[0][1]
    control = explorer.declaration.by_name["peak"]
    assert before[1][0] <= control.min < control.max <= before[1][1]
    settle(explorer, peak=-1.0)
    layout = explorer.view.figure("flow")["layout"]
    assert [tuple(layout[name]["range"]) for name in ("xaxis", "yaxis")] == before
    settle(explorer, peak=0.3)


def test_the_critics_curve_is_highest_at_its_peak():
    result = result_of(peak=0.7, bump_height=0.0)
    (curve,) = traces(go.Figure(figures.flow_figure(result)), name="critic Q")
    assert curve["y"][curve["x"].argmax()] == pytest.approx(0.7, abs=0.01)
    assert curve["x"].min() == 0 and curve["x"].max() == 1


def test_the_velocity_map_is_centred_on_rest(pinned):
    top = figures.TOP_SPEED["B"]
    maps = traces(go.Figure(figures.velocity_figure(pinned)), type="heatmap")
    for run, drawn in zip(pinned.runs, maps, strict=True):
        assert drawn["z"].dtype == np.uint8 and drawn["zmin"] == 0
        middle = drawn["zmax"] / 2
        velocity = (drawn["z"].astype(float) - middle) / middle * top
        rounding = 0.51 * top / middle
        np.testing.assert_allclose(velocity, run.velocity.clip(-top, top), atol=rounding)


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_the_upper_density_is_that_of_the_time_looked_at(t):
    result = result_of(time=t)
    figure, frame = go.Figure(figures.density_figure(result)), result.frame
    assert result.frame_times[frame] == pytest.approx(t)
    assert figure.layout.yaxis.title.text == f"density at t = {t:g}"
    (particles,) = traces(figure, name="particles", yaxis="y")
    heights = particles["y"][1:-1:2]
    np.testing.assert_allclose(heights, result.runs[0].marginals[frame], rtol=1e-6)
    (exact,) = traces(figure, name="exact tilt", yaxis="y")
    drawn = np.interp(result.x, exact["x"], exact["y"])  # at t = 1 on another grid
    np.testing.assert_allclose(drawn, result.tilted, atol=3e-3)


def test_the_parts_of_the_final_histogram_have_the_colours_of_the_paths(pinned):
    run = pinned.runs[0]
    parts = traces(
        go.Figure(figures.density_figure(pinned)), name="particles", yaxis="y2", xaxis="x"
    )
    heights = {part["fillcolor"]: part["y"][1:-1:2] for part in parts}
    width = np.diff(pinned.final_edges)
    for colour, mass in zip(styles.MODES, run.mode_masses, strict=True):
        assert heights.pop(colour) @ width == pytest.approx(mass, abs=0.02)  # bins cross 3σ
    (off,) = heights.values()
    assert off @ width == pytest.approx(run.off_mode - run.outside, abs=0.02)
    assert run.off_mode > 0.1


def test_densities_keep_the_tilt_in_sight_when_particles_collapse():
    result = result_of(weight=2.0)
    top = go.Figure(figures.density_figure(result)).layout.yaxis2.range[1]
    assert result.fine_tilted.max() < top < 5 * result.fine_tilted.max()
    assert result.runs[0].histogram.max() > result.fine_tilted.max()


def test_the_gap_is_named_and_the_limit_of_steps_drawn(pinned):
    layout = go.Figure(figures.weight_figure(pinned, None)).to_dict()["layout"]
    said = [note["text"] for note in layout["annotations"]]
    gap = pinned.runs[0].critic_mean - pinned.runs[0].return_mean
    assert said[0] == f"{ESTIMATOR_NAMES['ood']}: exploitation {gap:+.2f}"
    red = [s for s in layout["shapes"] if s["line"]["color"] == figures.theme.VERMILION]
    limit = {shape["x0"] for shape in red}
    assert len(red) == 2 and len(limit) == 1
    at_limit = replace(pinned.params, weight=limit.pop())
    assert at_limit.stability == pytest.approx(STABILITY_LIMIT)
    chosen = go.Figure(figures.weight_figure(result_of(estimator="best_of_n"), None)).layout.shapes
    assert all(shape.line.color != figures.theme.VERMILION for shape in chosen)  # no such steps


def test_a_mean_below_the_plot_is_drawn_at_its_edge():
    result = trimodal.run(replace(PRESETS["A"], estimator="ood", weight=12.0, n_particles=FEW))
    figure = go.Figure(figures.weight_figure(result, None))
    low, high = figure.layout.yaxis.range
    (mark,) = traces(figure, type="scatter")
    assert result.runs[0].critic_mean < low < result.bc_return < high
    assert mark["marker"]["symbol"][1] == "triangle-down" and min(mark["y"]) == pytest.approx(low)


# ------------------------------------------------------------------------------ what is said


def test_the_view_says_what_the_result_says(pinned):
    view = view_of(pinned)
    for run in pinned.runs:
        share = max(run.mode_masses)
        assert f"{ESTIMATOR_NAMES[run.estimator]}: {share:.0%} of the particles" in view.summary
        assert f"the true return is {run.return_mean:.3f}" in view.summary
    assert f"The exact tilt earns {pinned.tilt_return:.3f}" in view.summary
    rows = {row[0]: row for row in view.table.rows}
    assert rows["QGF"][1] == f"{pinned.runs[1].return_mean:.3f}"
    assert rows["exact tilt"][2] == f"{pinned.tilt_critic:.3f}"
    assert "above" not in view.summary and not any(readout.alarm for readout in view.readouts)


@pytest.mark.parametrize(
    ("changes", "alarm", "words"),
    [
        ({"weight": 4.0}, True, "▲ above 2"),
        ({"weight": 4.0, "n_steps": 20}, False, "below 2"),
        ({"weight": 4.0, "estimator": "best_of_n"}, False, "no gradient steps"),
    ],
    ids=["few steps", "enough steps", "no steps"],
)
def test_overshooting_steps_are_marked(changes, alarm, words):
    view = view_of(result_of(**changes))
    stability = view.readouts[0]
    assert stability.alarm is alarm and words in stability.value
    assert ("raise T before blaming the guidance" in view.summary) is alarm


def test_the_code_makes_the_result_again(pinned):
    names = {}
    body, last = view_of(pinned).code.rsplit("\n", 1)
    exec(body, names)
    want = [(run.w1, run.critic_mean, run.return_mean) for run in pinned.runs]
    assert eval(last, names) == want


def test_the_sweep_passes_through_what_is_drawn_at_one_weight():
    flow = swept(weight=1.0)
    at = flow.over_weights.weights.index(1.0)
    for run, curve in zip(flow.at.runs, flow.over_weights.curves, strict=True):
        assert curve.estimator == run.estimator
        error = 5 * np.std(run.actions) / FEW**0.5  # other noise at the same weight
        assert curve.critic[at] == pytest.approx(run.critic_mean, abs=error)
    (line,) = traces(
        go.Figure(figures.weight_figure(flow.at, flow.over_weights)), name="critic Q", xaxis="x2"
    )
    np.testing.assert_allclose(line["y"], flow.over_weights.curves[1].critic, rtol=1e-6)


def test_moving_the_weight_sweeps_only_once():
    first, second, other = swept(weight=1.0), swept(weight=2.0, time=0.2), swept(peak=0.5)
    assert first.over_weights is second.over_weights is not other.over_weights


def swept(**changes):
    settings = {"n_particles": FEW, "second": "ood", "sweep": True}
    setting = trimodal.FlowSetting.of(**(settings | changes))
    return trimodal.run_and_sweep(setting, stale=lambda: False, progress=lambda *_: None)


# ------------------------------------------------------------------------------- the controls


def test_presets_bring_their_settings(explorer):
    for name, preset in PRESETS.items():
        settle(explorer, preset=name)
        shown = explorer.result.at.params
        kept = {"time": 0.5, "n_particles": FEW}
        assert shown == replace(preset, **kept)
    settle(explorer, preset="B", weight=2.0)
    assert explorer.values["weight"] == 2.0 and explorer.values["peak"] == 0.3


@pytest.mark.parametrize("name", PRESETS)
def test_sliders_reach_every_preset(explorer, name):
    for control in explorer.declaration.controls:
        value = getattr(PRESETS[name], control.name, None)
        if isinstance(control, Range) and value is not None:
            if control.values:
                assert value in control.values, control.name
            else:
                steps = (value - control.min) / control.step
                assert control.min <= value <= control.max, control.name
                assert steps == pytest.approx(round(steps), abs=1e-6), control.name
        if isinstance(control, Choice) and value is not None:
            assert value in control.options, control.name


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_is_drawn(explorer, estimator):
    settle(explorer, preset="B", estimator=estimator, weight=1.0)
    assert explorer.result.at.runs[0].estimator == estimator
    assert ESTIMATOR_NAMES[estimator] in explorer.summary


def test_no_weight_is_the_data_for_all(explorer):
    settle(explorer, preset="B", estimator="qgf", second="bptt", weight=0.0)
    first, second = explorer.result.at.runs
    np.testing.assert_array_equal(first.actions, second.actions)
    settle(explorer, second="none")


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="preset='D': choose one of A, B, C"):
        shown.explorer("D")
