"""Explorers 2 to 5 of the QGF lesson and its questions: they show what was computed."""

import dataclasses
import json
import threading

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.common.runtime import never
from intuitive.qgf import policies as fork
from intuitive.qgf.guidance import ESTIMATOR_NAMES, ESTIMATORS
from intuitive.qgf.iql import IQLConfig, make_agent
from intuitive.qgf.ring import RingParams, ring
from intuitive.qgf.trimodal import PRESETS, frontier, jacobians, jitter
from intuitive.widgets import panels
from intuitive.widgets.figures import qgf_backprop as backprop_figures
from intuitive.widgets.figures import qgf_frontier as frontier_figures
from intuitive.widgets.figures import qgf_policies as policy_figures
from intuitive.widgets.figures import qgf_ring as ring_figures
from intuitive.widgets.figures.qgf_styles import ESTIMATOR_STYLES
from intuitive.widgets.panels import qgf_backprop, qgf_frontier, qgf_policies, qgf_ring

SMALL = {"n_particles": 400, "n_steps": 10}


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def readouts(view):
    return {readout.label: readout.value for readout in view.readouts}


def test_every_estimator_has_a_look_of_its_own():
    assert set(ESTIMATOR_STYLES) == set(ESTIMATORS)
    assert len({(look.colour, look.dash) for look in ESTIMATOR_STYLES.values()}) == len(ESTIMATORS)


# -------------------------------------------------------------------------------------- frontier


@pytest.fixture(scope="module")
def sweep():
    params = dataclasses.replace(PRESETS["B"], **SMALL)
    return frontier(params, (0.1, 1.0, 30.0), ("ood", "qgf"))


def test_the_front_is_crossed_neither_by_tilts_nor_by_interpolation(sweep):
    front = sweep.by_return
    got = [qgf_frontier.best_at(front, kl) for kl in sweep.by_critic.kl]
    assert (np.array(got) >= sweep.by_critic.true_return - 1e-3).all()
    for kl in (0.1, 0.5, 1.0):
        assert qgf_frontier.least_kl(front, qgf_frontier.best_at(front, kl)) == pytest.approx(kl)
    assert qgf_frontier.least_kl(front, float(front.true_return[-1]) + 0.1) == float("inf")
    assert qgf_frontier.least_kl(front, float(front.true_return[0]) - 0.1) <= front.kl[0]


def test_frontier_marks_the_estimator_beside_the_tilt_of_the_same_weight(sweep):
    figure = frontier_figures.front_figure(sweep, "qgf", 1)
    mark = figure.data[-1]
    qgf = next(curve for curve in sweep.curves if curve.estimator == "qgf")
    np.testing.assert_allclose(mark.x, [sweep.by_critic.kl[1], qgf.kl_to_bc[1]])
    np.testing.assert_allclose(mark.y, [sweep.by_critic.true_return[1], qgf.true_return[1]])
    widths = {n: named(figure, ESTIMATOR_NAMES[n]).line.width for n in ("ood", "qgf")}
    assert widths["qgf"] > widths["ood"]


def test_points_far_from_the_data_are_left_to_the_table(sweep):
    ood = next(curve for curve in sweep.curves if curve.estimator == "ood")
    assert ood.kl_to_bc[2] > frontier_figures.FARTHEST  # w = 30 throws particles out
    figure = frontier_figures.front_figure(sweep, "qgf", 2)
    assert named(figure, ESTIMATOR_NAMES["ood"]).x[2] is None
    found = qgf_frontier.Compared(sweep=sweep, estimator="qgf", place=2)
    view = qgf_frontier.present_frontier(found)
    row = next(row for row in view.table.rows if row[0] == ESTIMATOR_NAMES["ood"])
    assert float(row[3]) == pytest.approx(ood.kl_to_bc[2], rel=0.01)


def test_a_weight_beyond_the_stability_limit_raises_an_alarm(sweep):
    for place in range(3):
        found = qgf_frontier.Compared(sweep=sweep, estimator="qgf", place=place)
        view = qgf_frontier.present_frontier(found)
        (alarm,) = (r.alarm for r in view.readouts if r.label == "stability number")
        assert alarm == (sweep.stability[place] > 2)


def test_a_return_below_the_data_is_called_worse_than_nothing():
    params = dataclasses.replace(PRESETS["C"], n_particles=400)
    found = qgf_frontier.Compared(
        sweep=frontier(params, (4.0,), ("qgf",)), estimator="qgf", place=0
    )
    assert "doing nothing has 0.59" in qgf_frontier.present_frontier(found).summary


def test_looking_at_another_weight_does_not_sweep_again(monkeypatch):
    swept = []

    def counted(params, weights, *, stale, progress):
        swept.append(params)
        small = dataclasses.replace(params, **SMALL)
        return frontier(small, weights, ("qgf",), stale=stale, progress=progress)

    monkeypatch.setattr(qgf_frontier, "frontier", counted)
    explorer = panels.optimiser_or_sampler()
    first = explorer.summary
    explorer.set(weight=qgf_frontier.SWEPT[-1])
    assert explorer.wait() and explorer.summary != first and len(swept) == 1
    explorer.set(preset="C")  # brings the peak along
    assert explorer.wait() and len(swept) == 2 and swept[-1].peak == PRESETS["C"].peak
    explorer.close()


# ---------------------------------------------------------------------------------- backpropagation


@pytest.fixture(scope="module")
def shaken():
    params = dataclasses.replace(PRESETS["B"], time=0.5, weight=1.0, **SMALL)
    return qgf_backprop.Shaken(params=params, whole=jitter(params), here=jacobians("B", 0.5))


def test_jacobians_are_drawn_as_computed(shaken):
    figure = backprop_figures.jacobians_figure(shaken.here)
    drawn = named(figure, "pₜ/p₁, whole chain")
    np.testing.assert_allclose(drawn.y, shaken.here.chain, rtol=1e-3)
    view = qgf_backprop.present_jitter(shaken)
    most = shaken.here.one_step.max()
    assert readouts(view)["J₁, from least to greatest"].endswith(f"{most:.2g}")


def test_where_there_is_no_guidance_no_cosine_is_drawn_or_averaged(shaken):
    whole = shaken.whole
    place = whole.estimators.index("qgf_jacobian")
    assert whole.same_sign[place, 0] == 0  # J_1 is 0 at t = 0
    drawn = named(backprop_figures.cosine_figure(whole, 0.5), ESTIMATOR_NAMES["qgf_jacobian"])
    assert drawn.y[0] is None and drawn.y[1] is not None
    row = qgf_backprop.present_jitter(shaken).table.rows[place]
    assert float(row[1]) == pytest.approx(whole.cosine[place, 1:].mean(), abs=1e-3)


def test_neighbours_agree_under_qgf_more_than_under_bptt(shaken):
    told = readouts(qgf_backprop.present_jitter(shaken))
    assert float(told["mean cosine, QGF"]) > 0.9 > float(told["mean cosine, BPTT"])


# ------------------------------------------------------------------------------------------ ring


def test_arrows_point_along_the_field_and_stop_short_of_the_next():
    result = ring(RingParams(field="closed_form", n_particles=50, n_steps=5))
    figure = ring_figures.field_figure(result)
    flow = named(figure, "flow")
    length = np.hypot(flow.u, flow.v)
    spacing = result.grid[ring_figures.THIN] - result.grid[0]
    assert 0 < length.max() <= spacing + 1e-3
    columns = np.abs(np.asarray(flow.x)[:, None] - result.grid).argmin(1)
    rows = np.abs(np.asarray(flow.y)[:, None] - result.grid).argmin(1)
    along = result.velocity[rows, columns]
    cosine = (along[:, 0] * flow.u + along[:, 1] * flow.v) / (
        np.linalg.norm(along, axis=1) * length
    )
    assert cosine.min() > 0.999


def test_without_guidance_no_guidance_arrow_is_drawn():
    result = ring(RingParams(field="closed_form", weight=0.0, n_particles=50, n_steps=5))
    assert len(named(ring_figures.field_figure(result), "guidance").x) == 0


def test_queries_are_drawn_only_where_every_step_asks():
    for estimator, asked in (("qgf", True), ("best_of_n", False), ("bc", False)):
        params = RingParams(field="closed_form", estimator=estimator, n_particles=50, n_steps=5)
        names = {trace.name for trace in ring_figures.field_figure(ring(params)).data}
        assert ("Q asked" in names) == asked, estimator


def test_pressing_train_trains_and_pressing_again_takes_the_next_seed():
    settings = {**dataclasses.asdict(RingParams()), "closed_form": False}
    del settings["field"]
    of = qgf_ring.RingSettings.of
    assert of(train=0, **settings).params.field == "closed_form"
    once, twice = (of(train=n, **settings).params for n in (1, 2))
    assert once.field == twice.field == "learned" and twice.seed == once.seed + 1
    assert of(train=2, **{**settings, "closed_form": True}).params.field == "closed_form"


def test_both_sliders_of_the_reward_are_moved_by_its_handle():
    explorer = panels.guided_ring(n_particles=200, n_steps=5)
    (handle,) = explorer.declaration.plots[0].drag
    assert handle.sets == ("peak_x", "peak_y")
    explorer.set(peak_x=-1.0, peak_y=0.0)
    assert explorer.wait()
    cross = explorer.view.figures["samples"].data[-1]
    assert (cross.x[0], cross.y[0]) == (-1.0, 0.0)
    assert f"{explorer.result.mean_reward:.2f}" in explorer.summary
    explorer.close()


# -------------------------------------------------------------------------------------- policies


@pytest.fixture(scope="module")
def acted():
    """An untrained agent: what it wins does not matter here."""
    agent = make_agent(IQLConfig(width=16, depth=2), (0,))
    params = fork.PolicyParams(ways="bc,qgf,best_of_n_4", n_episodes=6, n_steps=2)
    live = fork.rollouts(params, agent=agent, stale=never)
    return qgf_policies.Policies(live=live, runs=fork.committed_runs())


def test_paths_are_drawn_from_start_to_end(acted):
    figure = policy_figures.paths_figure(acted.live)
    for column, way in enumerate(acted.live.ways):
        axis = "x" if column == 0 else f"x{column + 1}"
        traces = [trace for trace in figure.data if trace.xaxis == axis]
        ends = np.array(
            [
                (trace.x[i - 1], trace.y[i - 1])
                for trace in traces
                for i, x in enumerate(trace.x)
                if x is None
            ]
        )
        want = way.paths[:, -1]
        gap = np.abs(ends[:, None] - want[None]).max(-1).min(0)
        assert len(ends) == len(want) and gap.max() < 1e-3


def test_curves_are_of_the_scored_seeds_and_mark_the_chosen_weight(acted):
    runs = acted.runs
    figure = policy_figures.curves_figure(runs, "returns", ("bc", "qgf"), 3.0)
    line = named(figure, "QGF")
    curve = runs.curve("qgf")
    want = [np.mean(curve.at(w, runs.scored, "returns")) for w in curve.weights]
    np.testing.assert_allclose(line.y, want)
    mark = named(figure, "QGF, weight chosen on other seeds")
    assert mark.x[0] == runs.chosen["qgf"] and mark.x[0] in curve.weights
    assert set(runs.scored).isdisjoint(runs.tuning)
    assert len(set(named(figure, "BC").y)) == 1  # a level line: it takes no weight


def test_policies_tell_live_wins_and_committed_times(acted):
    view = qgf_policies.present_policies(acted)
    for way in acted.live.ways:
        assert f"{way.label} {way.success:.0%}" in view.summary
    times = {row[0]: row[-1] for row in view.table.rows}
    assert times["BC"] == "1.0"
    assert times["QGF"] == f"{acted.runs.relative_time('qgf'):.1f}"
    assert all(set(names.split(",")) <= set(fork.WAYS) for names in qgf_policies.SETS)


# ------------------------------------------------------------------------- moved by their readers

MOVES = {
    "qgf_backprop": ("time", (0.3, 0.9)),
    "qgf_ring": ("weight", (8.0, 0.5)),
    "qgf_policies": ("weight", (0.1, 30.0)),
}


@pytest.mark.parametrize("name", MOVES)
def test_events_from_another_thread_change_picture_and_summary(name):
    explorer = panels.EXPLORERS[name]()
    assert explorer.status["state"] == "done", explorer.status
    assert sum(not control.more for control in explorer.declaration.controls) <= 3
    control, values = MOVES[name]
    before, summary = explorer.view.figures, explorer.summary

    def fire():
        for value in values:
            explorer.set_state({"values": {**explorer.values, control: value}})

    thread = threading.Thread(target=fire)
    thread.start()
    thread.join()
    assert explorer.wait(60)
    assert explorer.status["state"] == "done" and explorer.status["values"] == explorer.values
    assert explorer.values[control] == values[-1] and explorer.summary != summary
    after = explorer.view.figures
    assert any(after[plot].to_dict() != figure.to_dict() for plot, figure in before.items())
    for figure in after.values():  # plotly's own check leaves them as they are
        sent = json.loads(figure.to_json())
        assert json.loads(go.Figure(sent).to_json()) == sent
    explorer.set(**{control: explorer.defaults[control]})
    assert explorer.wait(60) and explorer.summary == summary  # nbval compares it
    explorer.close()


# ------------------------------------------------------------------------------------- questions


@pytest.mark.parametrize(
    ("make", "right", "words"),
    [
        (panels.missing_peak, 1, "too far out"),
        (panels.optimiser, 2, "also the farthest"),
        (panels.worse_than_nothing, 1, "end in that mode"),
    ],
    ids=["missing peak", "optimiser", "worse than nothing"],
)
def test_questions_are_answered_by_computing(make, right, words):
    question = make()
    feedback = question.choose(right)
    assert feedback["verdict"] == "right" and words in feedback["text"]
    assert question.choose(0)["verdict"] == "wrong"
