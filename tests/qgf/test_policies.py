"""Acting on the fork world: decisions of untrained nets, the choice of weights, what is shipped."""

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.common.runtime import Cancelled, never, seeded
from intuitive.qgf import results
from intuitive.qgf.experiments import policies as acting
from intuitive.qgf.experiments.policies import PolicyParams
from intuitive.qgf.fork import ForkWorld
from intuitive.qgf.iql import IQLConfig, make_agent, train
from intuitive.qgf.policies import (
    WAYS,
    WEIGHTS,
    Curve,
    Way,
    critic_at,
    decide,
    evaluate,
    fork_chunks,
    shipped_agent,
)
from intuitive.widgets.qgf import policies as shown

SMALL = IQLConfig(width=16, depth=2)
AGENT = make_agent(SMALL, (0, 1))
STATES = torch.randn(2, 3, 4, 2, generator=seeded(0))  # [s, n_w, b, d]


@pytest.mark.parametrize("name", WAYS)
def test_every_way_decides_a_clipped_chunk_per_state(name):
    chunks = decide(AGENT, STATES, WAYS[name], 1.0, seeded(1), n_steps=3).actions
    assert chunks.shape == (2, 3, 4, SMALL.chunk_size)
    assert chunks.abs().max() <= 1 and chunks.isfinite().all()


@pytest.mark.parametrize("name", [n for n in WAYS if WAYS[n].estimator != "best_of_n"])
def test_weight_zero_is_behaviour_cloning(name):
    bc = decide(AGENT, STATES, WAYS["bc"], 0.0, seeded(1), n_steps=3).actions
    got = decide(AGENT, STATES, WAYS[name], 0.0, seeded(1), n_steps=3).actions
    torch.testing.assert_close(got, bc)


def test_weights_along_an_axis_act_on_their_own_rows():
    weight = torch.tensor([0.0, 1.0, 5.0])[:, None]
    together = decide(AGENT, STATES, WAYS["qgf"], weight, seeded(1), n_steps=3).actions
    for row, w in enumerate((0.0, 1.0, 5.0)):
        alone = decide(AGENT, STATES, WAYS["qgf"], w, seeded(1), n_steps=3).actions
        torch.testing.assert_close(together[:, row], alone[:, row])


def test_best_of_more_candidates_pleases_the_critic_more():
    critic = critic_at(AGENT, STATES)
    values = []
    for n in (1, 4, 16):
        way = Way("best_of_n", (1.0,), n)
        chunks = decide(AGENT, STATES, way, 1.0, seeded(1), n_steps=3).actions
        values.append(critic(chunks.reshape(-1, SMALL.chunk_size)))
    assert (values[1] >= values[0]).all()  # the first candidate is the same
    assert values[2].mean() > values[1].mean() > values[0].mean()


def test_training_data_are_chunks_of_the_scripted_episodes():
    chunks = fork_chunks(ForkWorld(), SMALL, 10, seed=0)
    assert chunks.states.shape == (1, 10 * 50, 2)
    assert chunks.complete.sum() == 10 * 46
    assert chunks.rewards.min() == pytest.approx(-sum(0.98**i for i in range(5)))


def test_a_weight_is_chosen_on_the_seeds_that_are_named():
    curve = Curve(
        way="qgf",
        weights=(1.0, 3.0),
        seeds=(0, 5),
        success=((0.1, 0.2), (0.4, 0.3)),
        returns=((-40.0, -10.0), (-20.0, -30.0)),
        first_q=((0.0, 0.0), (0.0, 0.0)),
    )
    assert curve.best_weight((0,)) == 3.0
    assert curve.best_weight((5,)) == 1.0
    assert curve.at(3.0, (5, 0)) == [0.3, 0.2]
    with pytest.raises(ValueError, match=r"weight=2.0 and seeds=\(0,\) must be among"):
        curve.at(2.0, (0,))


def test_seeds_and_weights_are_evaluated_together():
    agent = train(
        dataclasses.replace(SMALL, n_steps=3),
        fork_chunks(ForkWorld(), SMALL, 10, seed=0),
        seeds=(4,),
    )
    curve = evaluate(agent, ForkWorld(), "qgf", n_episodes=5, n_steps=2)
    assert (curve.seeds, len(curve.success), len(curve.success[0])) == ((4,), 1, len(WEIGHTS))
    assert all(-50 <= value <= 0 for value in curve.returns[0])
    with pytest.raises(ValueError, match="way 'dsrl' is unknown: choose among bc, ood"):
        evaluate(agent, ForkWorld(), "dsrl")


def test_settings_survive_as_text_and_refuse_what_is_out_of_range():
    params = PolicyParams(ways="bc,chain", weight=0.3)
    assert PolicyParams.from_text(params.to_text()) == params
    with pytest.raises(ValueError, match="way '' is unknown"):
        PolicyParams(ways="bc,")
    with pytest.raises(ValueError, match="weight=-1"):
        PolicyParams(weight=-1.0)
    with pytest.raises(ValueError, match=r"n_episodes=0 must lie in \[1, 1000\]"):
        PolicyParams(n_episodes=0)


def test_rollouts_start_together_and_stop_when_nobody_waits():
    with torch.inference_mode():
        found = acting.run(PolicyParams(ways="bc,qgf,best_of_n_4", n_episodes=6))
    first = found.ways[0].paths[:, 0]
    assert all((way.paths[:, 0] == first).all() for way in found.ways)
    assert [way.weight for way in found.ways] == [0.0, 3.0, 1.0]
    for way in found.ways:
        assert way.success == pytest.approx(way.won.mean())
    with pytest.raises(Cancelled):
        acting.run(PolicyParams(n_episodes=2), stale=lambda: True)


def test_the_shipped_policy_imitates_and_guidance_improves_it():
    """Seed 0, 100 episodes: BC wins about the quarter of episodes that the data do (four standard
    deviations); QGF with its chosen weight wins more and pleases the critic more."""
    assert shipped_agent().seeds == (0,)
    weight = results.fork().values.chosen["qgf"]
    bc, qgf = acting.run(PolicyParams(ways="bc,qgf", weight=weight, n_episodes=100)).ways
    assert abs(bc.success - 0.25) < 0.18
    assert qgf.success > bc.success + 0.2
    assert qgf.first_q > bc.first_q


# --------------------------------------------------------------------------- what is drawn and said


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


@pytest.fixture(scope="module")
def acted():
    """An untrained agent: what it wins does not matter here."""
    agent = make_agent(IQLConfig(width=16, depth=2), (0,))
    params = PolicyParams(ways="bc,qgf,best_of_n_4", n_episodes=6, n_steps=2)
    live = acting.run(params, agent=agent, stale=never)
    return shown.Policies(live=live, runs=results.fork().values)


def test_paths_are_drawn_from_start_to_end(acted):
    figure = go.Figure(shown.paths_figure(acted.live))
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
    figure = go.Figure(shown.curves_figure(runs, "returns", ("bc", "qgf"), 3.0))
    line = named(figure, "QGF")
    curve = runs.curve("qgf")
    want = [np.mean(curve.at(w, runs.scored, "returns")) for w in curve.weights]
    np.testing.assert_allclose(line.y, want)
    mark = named(figure, "QGF, weight chosen on other seeds")
    assert mark.x[0] == runs.chosen["qgf"] and mark.x[0] in curve.weights
    assert set(runs.scored).isdisjoint(runs.tuning)
    assert len(set(named(figure, "BC").y)) == 1  # a level line: it takes no weight


def test_policies_tell_live_wins_and_committed_times(acted):
    view = shown.present(acted)
    for way in acted.live.ways:
        assert f"{way.label} {way.success:.0%}" in view.summary
    times = {row[0]: row[-1] for row in view.table.rows}
    assert times["BC"] == "1.0"
    here = {row[0]: row[-2] for row in view.table.rows}
    earned = sorted(way.mean_return for way in acted.live.ways)
    assert [here[way.label] for way in acted.live.ways] == [
        f"{way.mean_return:.1f}".replace("-", "−") for way in acted.live.ways
    ]
    assert [readout.value for readout in view.readouts] == [
        f"{value:.1f}".replace("-", "−") for value in (earned[-1], earned[0])
    ]
    assert times["QGF"] == f"{acted.runs.relative_time('qgf'):.1f}"
    assert all(set(names.split(",")) <= set(WAYS) for names in shown.SETS)
