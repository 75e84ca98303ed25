"""Acting on the fork world: decisions of untrained nets, the choice of weights, what is shipped."""

import dataclasses
import re

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
from intuitive.widgets.kit import fixed, percent
from intuitive.widgets.qgf import policies as shown
from intuitive.widgets.qgf.policies_figures import Picture

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
        acting.run(PolicyParams(n_episodes=2, seed=19), stale=lambda: True)


def test_the_shipped_policy_imitates_and_guidance_improves_it():
    """Seed 0, 100 episodes: BC wins about the quarter of episodes that the data do (four standard
    deviations); QGF with its chosen weight wins more and pleases the critic more."""
    assert shipped_agent().seeds == (0,)
    weight = results.fork().values.chosen["qgf"]
    bc, qgf = acting.run(PolicyParams(ways="bc,qgf", weight=weight, n_episodes=100)).ways
    assert abs(bc.success - 0.25) < 0.18
    assert qgf.success > bc.success + 0.2
    assert qgf.first_q > bc.first_q


@pytest.mark.parametrize("seed", (0, 1, 2))
def test_what_is_said_of_the_live_episodes_holds_for_three_seeds(seed):
    """60 episodes of the shipped agent: imitation wins the fewest; RobustQ wins more than QGF; at
    w = 30 QGF's critic promises more than at w = 3, and less is earned than at w = 3 and than
    promised; both as the critic counts."""
    chosen = results.fork().values.chosen

    def way(name, weight=None):
        weight = chosen[name] if weight is None else weight
        (found,) = acting.run(PolicyParams(ways=name, weight=weight, seed=seed)).ways
        return found

    bc, qgf, robust, best = (way(name) for name in ("bc", "qgf", "robust_q", "best_of_n_16"))
    much = way("qgf", 30.0)
    assert bc.success < 0.4 < much.success < 0.7 < best.success
    assert 0.8 < qgf.success < robust.success
    assert much.first_q > qgf.first_q and much.first_q > much.discounted + 5
    assert much.discounted < qgf.discounted - 5
    assert much.mean_return < qgf.mean_return - 10


def test_robust_q_earns_more_than_qgf_on_every_scored_seed_in_less_time():
    """The committed runs, each at the weight that was chosen on other seeds."""
    runs = results.fork().values
    assert runs.count_better("robust_q", "qgf") == len(runs.scored) == 5
    assert runs.relative_time("robust_q") < runs.relative_time("qgf")


def test_the_lesson_says_of_the_fork_what_the_committed_runs_say():
    """Its Explain, sentence by sentence; averages over the scored seeds."""
    runs = results.fork().values

    def mean(way, weight, measure="returns"):
        return np.mean(runs.curve(way).at(weight, runs.scored, measure))

    won = {way: np.mean(runs.score(way)) for way in WAYS}
    assert won["bc"] == pytest.approx(0.25, abs=0.05) and won["qgf"] > 0.9
    assert runs.relative_time("qgf") == pytest.approx(3, abs=0.25)
    assert runs.chosen["ood"] == 1.0 and runs.count_better("ood", "qgf") == 5
    assert mean("ood", 30.0) < mean("qgf", 30.0) < mean("qgf", 3.0)
    assert all(runs.count_better("qgf", f"best_of_n_{n}") == 5 for n in (4, 16))
    for weight in (0.1, 0.3, 1.0, 3.0):
        for other in ("chain", "bptt", "qgf_jacobian"):
            assert mean(other, weight) < mean("qgf", weight), (other, weight)
    for weight in (10.0, 30.0, 100.0):
        assert mean("qgf_jacobian", weight, "success") > mean("qgf", weight, "success")
    gap = np.mean(runs.score("qgf", "returns")) - np.mean(runs.score("qgf_jacobian", "returns"))
    assert abs(gap) < 0.5
    assert mean("qgf", 30.0, "first_q") == pytest.approx(mean("qgf", 3.0, "first_q"), abs=0.5)
    assert mean("qgf", 30.0) < 2 * mean("qgf", 3.0)
    four, sixteen, qgf = map(runs.relative_time, ("best_of_n_4", "best_of_n_16", "qgf"))
    assert 1 < four / qgf < 1.4 and sixteen / qgf == pytest.approx(4, abs=0.3)


def test_returns_are_discounted_as_the_critic_counts():
    """A way that never wins pays 1 at every step, discounted: (1 - γ^50)/(1 - γ)."""
    agent = make_agent(SMALL, (0,))
    (way,) = acting.run(PolicyParams(ways="bc", n_episodes=30, n_steps=1), agent=agent).ways
    gamma = SMALL.gamma
    steps = np.where(way.won, np.nan, 50)
    assert np.isnan(steps).mean() < 1  # an untrained agent loses some
    gap = np.linalg.norm(way.paths[:, 1:] - ForkWorld().goals()[0].numpy(), axis=-1)
    paid = (gap >= ForkWorld().reach).sum(1)
    assert way.mean_return == pytest.approx(-paid.mean())
    assert way.discounted == pytest.approx(-((1 - gamma**paid) / (1 - gamma)).mean(), rel=1e-4)


# --------------------------------------------------------------------------- what is drawn and said


@pytest.fixture(scope="module")
def acted():
    """An untrained agent: what it wins does not matter here."""
    agent = make_agent(IQLConfig(width=16, depth=2), (0,))
    params = PolicyParams(ways="bc,qgf", n_episodes=12, n_steps=2)
    live = acting.run(params, agent=agent, stale=never)
    return shown.Policies(live=live, runs=results.fork().values)


def test_episodes_walk_where_they_went(acted):
    picture = Picture(acted.live, acted.runs)
    frames = picture.frames()
    assert [frame.label for frame in frames] == [f"step {k}" for k in range(0, 51, 2)]
    for k in (0, 10, 50):
        scene = frames[k // 2].scene
        for strong, way in ((True, acted.live.ways[1]), (False, acted.live.ways[0])):
            x, y = picture.at(way.paths[:, k])
            crowd = scene[f"crowd:{strong}"]
            lost = ~way.won  # the others are spread over the goal
            np.testing.assert_allclose(crowd.xs[lost], x[lost])
            np.testing.assert_allclose(crowd.ys[lost], y[lost])
            walker = scene[f"walker:{strong}"]
            assert (walker.x, walker.y) == (x[picture.one], y[picture.one])


def test_the_share_that_has_arrived_ends_at_what_is_won(acted):
    picture = Picture(acted.live, acted.runs)
    for way in acted.live.ways:
        arrived = picture.arrived[way.name]
        assert arrived[-1] == pytest.approx(way.success) and (np.diff(arrived) >= 0).all()


def test_imitation_stands_alone_where_it_is_chosen():
    assert shown.settings(way="bc").names == ("bc",)
    assert shown.settings(way="robust_q", weight=1.0).names == ("bc", "robust_q")


def test_numbers_of_these_episodes_wait_for_their_end(acted):
    frames = shown.present(acted).timeline.frames
    way = acted.live.ways[1]
    for frame in frames[:-1]:
        assert [readout.value for readout in frame.readouts[:2]] == ["?", "?"]
    won, earned, time = (readout.value for readout in frames[-1].readouts)
    assert won == percent(way.success)
    assert earned == fixed(way.mean_return, 1)
    assert time == fixed(acted.runs.relative_time("qgf"), 1)


def test_summary_tells_these_episodes_and_the_average_of_agents_apart(acted):
    cut = " Recorded average of 5 trained agents, each at w = 3: "
    live, averaged = shown.present(acted).summary.split(cut)
    runs = acted.runs
    assert "12 episodes of one agent, walked here and now" in live
    assert "%" not in live  # that is to be counted
    assert averaged.startswith(f"{percent(np.mean(runs.score('qgf')))} won")


def test_summary_tells_the_record_of_the_weight_in_sight(acted):
    runs = acted.runs
    for weight, recorded in ((30.0, 30.0), (2.5, runs.chosen["qgf"])):
        params = dataclasses.replace(acted.live.params, weight=weight)
        live = dataclasses.replace(acted.live, params=params)
        summary = shown.present(shown.Policies(live=live, runs=runs)).summary
        won = np.mean(runs.curve("qgf").at(recorded, runs.scored, "success"))
        assert f"each at w = {recorded:g}: {percent(won)} won" in summary
    # what the lesson says of the two: fewer arrive, and steps more than double
    worst, best = (runs.curve("qgf").at(w, runs.scored, "returns") for w in (30.0, 3.0))
    assert np.mean(worst) < 2 * np.mean(best)


def test_of_the_chosen_way_those_turn_green_that_have_arrived(acted):
    picture = Picture(acted.live, acted.runs)
    for frame, k in zip(picture.frames(), picture.told, strict=True):
        for strong, way in ((True, picture.way), (False, picture.beside)):
            crowd = frame.scene[f"crowd:{strong}"]
            gap = np.linalg.norm(way.paths[:, k] - acted.live.goals[0], axis=-1)
            there = (gap < acted.live.reach) & strong
            assert crowd.colours[1] == "green"
            np.testing.assert_array_equal(np.asarray(crowd.shades), there)


def test_curves_are_of_the_scored_seeds_and_mark_the_chosen_weight(acted):
    runs = acted.runs
    figure = go.Figure(shown.curves_figure(runs, "returns", "qgf", 3.0))
    line = named(figure, "QGF")
    curve = runs.curve("qgf")
    want = [np.mean(curve.at(w, runs.scored, "returns")) for w in curve.weights]
    np.testing.assert_allclose(line.y, want)
    mark = named(figure, "QGF, weight chosen on other seeds")
    assert mark.x[0] == runs.chosen["qgf"] and mark.x[0] in curve.weights
    assert set(runs.scored).isdisjoint(runs.tuning)
    assert len(set(named(figure, "BC").y)) == 1  # a level line: it takes no weight
    strong = [trace.name for trace in figure.data if trace.line.width == 3]
    assert strong == ["QGF"]


def test_methods_stand_at_their_means_and_times(acted):
    runs = acted.runs
    figure = go.Figure(shown.methods_figure(runs, "robust_q"))
    assert {trace.name for trace in figure.data} == {WAYS[c.way].label for c in runs.curves}
    for way in ("robust_q", "best_of_n_16"):
        point = named(figure, WAYS[way].label)
        earned = runs.score(way, "returns")
        assert point.y[0] == pytest.approx(np.mean(earned))
        assert point.y[0] + point.error_y.array[0] == pytest.approx(max(earned))
        assert point.x[0] == pytest.approx(runs.relative_time(way))


def test_the_table_holds_every_method(acted):
    view = shown.present(acted)
    times = {row[0]: row[-2] for row in view.table.rows}
    assert times["BC"] == "1.0" and "RobustQ" in times
    here = {row[0]: row[-1] for row in view.table.rows}
    for way in acted.live.ways:
        assert here[way.label] == fixed(way.mean_return, 1)
    assert here["RobustQ"] == "–"


def test_a_way_brings_its_chosen_weight():
    runs = results.fork().values
    explorer = shown.explorer(n_episodes=10, n_steps=5)
    explorer.set(way="ood")
    assert explorer.values["weight"] == runs.chosen["ood"]
    explorer.set(way="qgf", weight=30.0)
    assert explorer.values["weight"] == 30.0
    assert set(shown.OFFERED) == set(WAYS)
    explorer.close()


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


# ------------------------------------------------------------------------------- what steps claim


def promised_and_earned(seen) -> tuple[float, float]:
    """As the critic counts, from the last frame's sentence."""
    said = r"promised (−[\d.]+) at the start; as it counts, (−[\d.]+)"
    found = re.search(said, seen.sentences[-1])
    promised, earned = (float(number.replace("−", "-")) for number in found.groups())
    return promised, earned


def imitation_reaches_the_goal_that_pays_about_one_time_in_four(seen) -> None:
    assert 15 < seen.number("won of these 60") < 40
    assert seen.number("time, imitation = 1") == 1


def guidance_lifts_the_curve(seen) -> None:
    assert seen.number("won of these 60") > 80
    assert "imitation 17" in seen.sentences[-1]


def robust_q_wins_more_in_less_time(seen) -> None:
    """Than QGF in the step before, whose claims are 88% and 3.0."""
    runs = results.fork().values
    (qgf,) = acting.run(PolicyParams(ways="qgf", weight=runs.chosen["qgf"])).ways
    assert seen.number("won of these 60") > 100 * qgf.success
    assert seen.number("time, imitation = 1") < runs.relative_time("qgf")


def the_critic_promises_more_and_less_is_earned(seen) -> None:
    promised, earned = promised_and_earned(seen)
    (qgf,) = acting.run(PolicyParams(ways="qgf", weight=3.0)).ways
    assert promised > qgf.first_q and earned < qgf.discounted
    assert seen.number("return here") < qgf.mean_return


def choosing_among_sixteen_takes_long(seen) -> None:
    assert seen.number("time, imitation = 1") > 10
    assert seen.number("won of these 60") > 80


STEPS = (
    imitation_reaches_the_goal_that_pays_about_one_time_in_four,
    guidance_lifts_the_curve,
    robust_q_wins_more_in_less_time,
    the_critic_promises_more_and_less_is_earned,
    choosing_among_sixteen_takes_long,
)
