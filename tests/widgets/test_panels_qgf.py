"""The tri-modal flow without a browser: it draws and says what its result says."""

import dataclasses

import numpy as np
import pytest

from intuitive.qgf.guidance import ESTIMATOR_NAMES, ESTIMATORS
from intuitive.qgf.trimodal import PRESETS, trimodal
from intuitive.widgets.figures import qgf as figures
from intuitive.widgets.kit.controls import Choice, Range
from intuitive.widgets.panels import EXPLORERS
from intuitive.widgets.panels import qgf as panel

FEW = 500  # particles


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def explorer():
    made = panel.trimodal_flow(n_particles=FEW)
    yield made
    made.close()


@pytest.fixture(scope="module")
def pinned():
    """Preset B under OOD and QGF."""
    params = dataclasses.replace(PRESETS["B"], estimator="ood", second="qgf", time=0.5)
    return trimodal(params)


def result_of(**changes):
    return trimodal(dataclasses.replace(PRESETS["B"], n_particles=FEW, **changes))


def view_of(result, sweep=None):
    return panel.present_flow(panel.Flow(at=result, over_weights=sweep))


def settle(explorer, **values):
    assert explorer.set(**values).wait(30)
    assert explorer.status["state"] == "done", explorer.status["text"]
    return explorer


def traces(figure, **wanted):
    data = [trace.to_plotly_json() for trace in figure.data]
    return [trace for trace in data if all(trace.get(key) == wanted[key] for key in wanted)]


# ----------------------------------------------------------------------------------- figures


def test_every_shown_particle_is_one_line_in_the_colour_of_its_mode(pinned):
    run = pinned.runs[0]
    drawn = min(figures.N_PATHS, run.trajectory.shape[1])
    ends = run.final_mode[:drawn]
    for mode, colour in ((-1, figures.theme.GREY), *enumerate(figures.MODES)):
        lines = [
            trace
            for trace in traces(figures.flow_figure(pinned), xaxis="x2", name="")
            if trace["line"]["color"] == colour
        ]
        (line,) = lines
        paths = line["y"].reshape(-1, len(pinned.times) + 1)
        assert np.isnan(paths[:, -1]).all()  # the pen is lifted
        want = run.trajectory[:, :drawn][:, ends == mode].T
        np.testing.assert_allclose(paths[:, :-1], want, rtol=1e-6)
    assert len(set(ends.tolist())) > 2  # a picture of one mode would prove little


def test_marks_stand_where_the_critic_was_asked(pinned):
    for axis, run in zip(("x2", "x3"), pinned.runs, strict=True):
        (marks,) = traces(figures.flow_figure(pinned), name="critic asked here", xaxis=axis)
        at = marks["y"].reshape(-1, 3)
        asked = run.queries[:, : figures.N_ASKED].ravel()
        np.testing.assert_allclose(at, np.repeat(asked[:, None], 3, 1), rtol=1e-6)
        middle = np.nanmean(marks["x"].reshape(-1, 3), axis=1)
        repeated = np.repeat(run.query_times, min(figures.N_ASKED, run.queries.shape[1]))
        np.testing.assert_allclose(middle, repeated, atol=1e-6)


def test_many_steps_draw_fewer_paths():
    result = result_of(n_steps=100)
    points = sum(len(trace["x"]) for trace in traces(figures.flow_figure(result), name=""))
    assert points <= figures.N_POINTS + figures.N_PATHS


def test_the_handle_stands_on_axes_of_fixed_range(explorer):
    (handle,) = explorer.spec["plots"][0]["drag"]
    assert handle["sets"] == ("peak",)
    layout = explorer.view.figures["flow"].to_dict()["layout"]
    before = [tuple(layout[name]["range"]) for name in ("xaxis", "yaxis")]
    assert before[0][0] < handle["x"] < before[0][1]
    control = explorer.declaration.by_name["peak"]
    assert before[1][0] <= control.min < control.max <= before[1][1]
    settle(explorer, peak=-1.0)
    layout = explorer.view.figures["flow"].to_dict()["layout"]
    assert [tuple(layout[name]["range"]) for name in ("xaxis", "yaxis")] == before
    settle(explorer, peak=0.3)


def test_the_critics_curve_is_highest_at_its_peak():
    result = result_of(peak=0.7, bump_height=0.0)
    (curve,) = traces(figures.flow_figure(result), name="critic Q")
    assert curve["y"][curve["x"].argmax()] == pytest.approx(0.7, abs=0.01)
    assert curve["x"].min() == 0 and curve["x"].max() == 1


def test_the_velocity_map_is_centred_on_rest(pinned):
    top = figures.TOP_SPEED["B"]
    for run, map_ in zip(
        pinned.runs, traces(figures.velocity_figure(pinned), type="heatmap"), strict=True
    ):
        assert map_["z"].dtype == np.uint8 and map_["zmin"] == 0
        middle = (map_["zmin"] + map_["zmax"]) / 2
        shown = (map_["z"].astype(float) - middle) / middle * top
        step = top / middle
        np.testing.assert_allclose(shown, run.velocity.clip(-top, top), atol=0.51 * step)


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_the_marginal_is_that_of_the_time_looked_at(t):
    result = result_of(time=t)
    (bars,) = traces(figures.marginal_figure(result), type="bar")
    frame = result.frame(t)
    assert result.frame_times[frame] == pytest.approx(t)
    np.testing.assert_allclose(bars["y"], result.runs[0].marginals[frame], rtol=1e-6)
    (exact,) = traces(figures.marginal_figure(result), name="exact tilt")
    drawn = np.interp(result.x, exact["x"], exact["y"])  # at t = 1 on another grid
    np.testing.assert_allclose(drawn, result.tilted[frame], atol=3e-3)


def test_final_bars_have_the_colours_of_the_paths(pinned):
    bars = traces(figures.final_figure(pinned), type="bar")[0]
    for mean, colour in zip(pinned.means, figures.MODES, strict=True):
        nearest = np.abs(bars["x"] - mean).argmin()
        assert bars["marker"]["color"][nearest] == colour
    assert bars["marker"]["color"][0] == figures.theme.GREY


def test_densities_keep_the_tilt_in_sight_when_particles_collapse():
    result = result_of(weight=2.0)
    layout = figures.final_figure(result).to_dict()["layout"]
    top = layout["yaxis"]["range"][1]
    assert result.fine_tilted.max() < top < 5 * result.fine_tilted.max()
    assert result.runs[0].histogram.max() > result.fine_tilted.max()


def test_the_gap_is_named_and_the_limit_of_steps_drawn(pinned):
    layout = figures.weight_figure(pinned, None).to_dict()["layout"]
    said = [note["text"] for note in layout["annotations"]]
    gap = pinned.runs[0].critic_mean - pinned.runs[0].return_mean
    assert said[0] == f"{ESTIMATOR_NAMES['ood']}: exploitation {gap:+.2f}"
    red = [s for s in layout["shapes"] if s["line"]["color"] == figures.theme.VERMILION]
    limit = {shape["x0"] for shape in red}
    assert len(red) == 2 and len(limit) == 1
    at_limit = dataclasses.replace(pinned.params, weight=limit.pop())
    assert at_limit.stability == pytest.approx(figures.STABILITY_LIMIT)


def test_a_mean_below_the_plot_is_drawn_at_its_edge():
    result = trimodal(
        dataclasses.replace(PRESETS["A"], estimator="ood", weight=12.0, n_particles=FEW)
    )
    figure = figures.weight_figure(result, None)
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
    view = view_of(pinned)
    names = {}
    body, last = view.code.rsplit("\n", 1)
    exec(body, names)
    w1, critic, earned = eval(last, names)
    run = pinned.runs[0]
    assert (w1, critic, earned) == (run.w1, run.critic_mean, run.return_mean)


def test_the_sweep_passes_through_what_is_drawn_at_one_weight():
    flow = swept(weight=1.0)
    at = flow.over_weights.weights.index(1.0)
    for run, curve in zip(flow.at.runs, flow.over_weights.curves, strict=True):
        assert curve.estimator == run.estimator
        error = 5 * np.std(run.actions) / FEW**0.5  # other noise at the same weight
        assert curve.critic[at] == pytest.approx(run.critic_mean, abs=error)
    (line,) = traces(figures.weight_figure(flow.at, flow.over_weights), name="critic Q", xaxis="x2")
    np.testing.assert_allclose(line["y"], flow.over_weights.curves[1].critic, rtol=1e-6)


def test_moving_the_weight_sweeps_only_once():
    first, second, other = swept(weight=1.0), swept(weight=2.0, time=0.2), swept(peak=0.5)
    assert first.over_weights is second.over_weights is not other.over_weights


def swept(**changes):
    settings = {"n_particles": FEW, "second": "ood", "sweep": True}
    setting = panel.FlowSetting.of(**(settings | changes))
    return panel.flow_and_sweep(setting, stale=lambda: False, progress=lambda *_: None)


# ------------------------------------------------------------------------------- the controls


def test_it_is_among_the_explorers():
    assert EXPLORERS["qgf_trimodal"] is panel.trimodal_flow


def test_presets_bring_their_settings(explorer):
    for name, preset in PRESETS.items():
        settle(explorer, preset=name)
        shown = explorer.result.at.params
        kept = {"time": 0.5, "n_particles": FEW}
        assert shown == dataclasses.replace(preset, **kept)
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
        panel.trimodal_flow("D")
