"""The ring: what a critic promises and what is earned, with learned nets and without."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch

from intuitive.common.runtime import Cancelled
from intuitive.qgf import ring as rooms
from intuitive.qgf.critics import STABILITY_LIMIT, stability_number
from intuitive.qgf.experiments import ring
from intuitive.qgf.experiments.ring import ESTIMATORS, UNPUSHED, WEIGHTS, RingParams
from intuitive.qgf.ring import REWARD_WIDTH, RewardBump, ring_mixture, sharpest_bend
from intuitive.qgf.sampling import guided_velocity
from intuitive.widgets.qgf import ring as shown
from intuitive.widgets.qgf.contours import crossings
from intuitive.widgets.qgf.ring_curves import Curves
from intuitive.widgets.qgf.ring_figures import BELIEVED, Picture

CLOSED = RingParams(field="closed_form", critic="reward", n_particles=100, n_steps=10)


def at(params: RingParams, **changes):
    return ring.run(dataclasses.replace(params, **changes))


def test_settings_survive_as_text_and_refuse_what_is_out_of_range():
    params = RingParams(n_modes=7, peak_x=-0.5, critic="long")
    assert RingParams.from_text(params.to_text()) == params
    with pytest.raises(ValueError, match=r"n_modes=9 must lie in \[5, 8\]"):
        RingParams(n_modes=9)
    with pytest.raises(ValueError, match="estimator='exact' is unknown: choose among bc, ood"):
        RingParams(estimator="exact")
    with pytest.raises(ValueError, match="critic='fitted' is unknown: choose among reward, brief"):
        RingParams(critic="fitted")
    with pytest.raises(ValueError, match="weight=nan"):
        RingParams(weight=float("nan"))


def test_the_ring_has_equal_modes_on_the_unit_circle():
    mixture = ring_mixture(5)
    torch.testing.assert_close(mixture.means.norm(dim=-1), torch.ones(5, dtype=torch.float64))
    assert len(set(mixture.weights.tolist())) == 1
    torch.testing.assert_close(mixture.means[0].float(), torch.tensor([1.0, 0.0]))


def test_no_weight_is_behaviour_cloning_and_weight_raises_the_reward():
    """Seed 0. Unguided samples take every mode; guided ones crowd near the peak."""
    bc, none, some = (
        at(CLOSED, **change)
        for change in ({"estimator": "bc", "weight": 2.0}, {"weight": 0.0}, {"weight": 2.0})
    )
    assert np.array_equal(bc.path, none.path)
    assert bc.sampled.shares[bc.place].min() > 0.08
    assert some.earned > bc.earned + 0.2
    assert some.sampled.shares[some.place].argmax() == 0  # the mode at the peak
    assert none.tilt_reward == pytest.approx(none.bc_reward)


def test_a_weight_between_the_listed_ones_joins_them():
    found = at(CLOSED, weight=3.0)
    assert found.sampled.weights == tuple(sorted({*WEIGHTS, 3.0}))
    assert found.sampled.weights[found.place] == 3.0
    other = at(CLOSED, weight=2.0)
    place = found.sampled.weights.index(2.0)
    np.testing.assert_allclose(
        found.sampled.trajectories[:, place], other.path, atol=1e-5
    )  # same noise


def test_the_tilt_gains_reward_with_the_weight():
    """d/dw of the tilt's mean reward is the reward's variance under it, which is positive."""
    gains = [at(CLOSED, weight=w).tilt_reward for w in (0.0, 1.0, 4.0)]
    assert gains == sorted(gains) and gains[0] < gains[-1] - 0.1


def test_guidance_points_up_the_reward_it_is_asked_at():
    """OOD guidance at the arrows is the reward's gradient there, by differences."""
    found = at(CLOSED, estimator="ood").sampled
    reward, eps = RewardBump(CLOSED.peak_x, CLOSED.peak_y), 1e-3
    here = torch.tensor([found.arrows_x[8], found.arrows_y[5]])
    for axis in range(2):
        step = eps * torch.eye(2)[axis]
        slope = (reward((here + step)[None]) - reward((here - step)[None])) / (2 * eps)
        assert found.slopes[3, 5, 8, axis] == pytest.approx(slope.item(), abs=2e-3)
    assert found.field_error == 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_guidance_at_a_place_is_proportional_to_the_weight(estimator):
    """So that one set of arrows serves every weight."""
    mixture, reward = ring_mixture(6), RewardBump(1.0, 0.0)
    x = torch.tensor([[0.3, -0.4], [1.1, 0.2]])
    one, four = (
        guided_velocity(mixture, reward, x, estimator=estimator, weight=w, n_steps=4)[1]
        for w in (1.0, 4.0)
    )
    torch.testing.assert_close(4 * one, four, atol=1e-5, rtol=1e-4)
    assert (one.abs().max() == 0) == (estimator in UNPUSHED)


def test_the_bend_of_the_reward_is_that_of_its_peak():
    """-∇²R at the peak is 1/width² in every direction, and nowhere larger."""
    for peak in ((0.0, 0.0), (0.75, -0.3)):
        bend = sharpest_bend(RewardBump(*peak))
        assert bend == pytest.approx(REWARD_WIDTH**-2, rel=0.02)
    found = at(CLOSED, weight=8.0, peak_x=0.0)
    assert found.stability == pytest.approx(8 / 10 * found.sampled.bend)
    assert at(CLOSED, weight=8.0, estimator="best_of_n").stability == 0


def test_learned_nets_come_near_what_they_learn(monkeypatch):
    """A ring that no other test has trained for, seed 0, a shortened training: the field explains
    most of the velocity; a second call trains nothing; a moved peak trains a critic alone;
    inference mode does not matter."""
    fit_velocity, fit_critic, fits = rooms.fit_velocity, rooms.fit_critic, []

    def quick_velocity(*arguments, **options):
        fits.append("velocity")
        return fit_velocity(*arguments, n_steps=500, **options)

    def counted_critic(*arguments, **options):
        fits.append(f"critic of {len(arguments[0])}")
        return fit_critic(*arguments, **options)

    monkeypatch.setattr(rooms, "fit_velocity", quick_velocity)
    monkeypatch.setattr(rooms, "fit_critic", counted_critic)
    params = RingParams(n_particles=100, n_steps=10, peak_y=0.61, n_modes=8)
    with torch.inference_mode():
        found = ring.run(params)
    assert 0 < found.sampled.field_error < 0.4
    assert at(params, weight=4.0).sampled is found.sampled
    at(params, peak_x=-0.9)
    assert fits == ["velocity", "critic of 200", "critic of 200"]


def test_training_for_the_ring_can_be_stopped():
    with pytest.raises(Cancelled):
        ring.run(RingParams(n_modes=7, seed=17), stale=lambda: True)


# ------------------------------------------------------------------------------- exploitation


OTHER_SEEDS = [pytest.param(seed, marks=pytest.mark.sweep) for seed in (1, 2)]


@pytest.fixture(scope="module", params=[0, *OTHER_SEEDS], ids="seed {}".format)
def taught(request):
    """Promised, earned and off-mode share by weight, for a brief and a long teaching."""
    made = {
        name: ring.run(RingParams(critic=name, seed=request.param)) for name in ("brief", "long")
    }
    return {
        name: (
            dict(zip(WEIGHTS, found.sampled.promised.mean(1), strict=True)),
            dict(zip(WEIGHTS, found.sampled.earned.mean(1), strict=True)),
            dict(zip(WEIGHTS, found.sampled.off_mode, strict=True)),
            found.bc_reward,
            found.sampled.bend,
        )
        for name, found in made.items()
    }


def test_a_briefly_taught_critic_helps_at_a_small_weight_and_is_exploited_at_a_large_one(taught):
    """At the setting shown, for each of three seeds: what is promised rises on and on, what is
    earned rises and then falls below imitation."""
    promised, earned, off, imitation, bend = taught["brief"]
    assert earned[1.0] > 1.5 * imitation
    assert promised[1.0] < earned[1.0] + 0.15
    assert earned[4.0] < earned[2.0] and earned[8.0] < 0.25 * imitation
    assert promised[1.0] < promised[2.0] < promised[4.0] < promised[8.0]
    assert promised[8.0] > 1.3  # no action earns more than 1
    assert off[8.0] > 0.9 > 0.3 > off[1.0]
    assert stability_number(bend, 8.0, RingParams().n_steps) < STABILITY_LIMIT  # no long steps


def test_a_critic_taught_longer_keeps_its_promise(taught):
    promised, earned, off, *_ = taught["long"]
    for weight in (1.0, 2.0, 4.0, 8.0):
        assert promised[weight] == pytest.approx(earned[weight], abs=0.05)
    assert earned[8.0] > 0.9 and off[8.0] < 0.05


@pytest.mark.parametrize("seed", (0, 1, 2))
def test_too_long_steps_zigzag_and_shorter_ones_do_not(seed):
    """Perfect critic, peak between two modes, w = 16: at T = 20 the stability number is above its
    limit and the last steps jump far, to and fro; at T = 50 neither."""
    params = RingParams(
        field="closed_form", critic="reward", weight=16.0, seed=seed, **shown.BETWEEN
    )
    long, short = (at(params, n_steps=n) for n in (20, 50))
    assert long.stability > STABILITY_LIMIT > short.stability
    assert long.earned < 0.75 < 0.95 < short.earned

    def last_step(found):
        """Mean length of the last step, and the mean cosine between it and the one before."""
        one, other = np.diff(found.path[-3:], axis=0)
        lengths = np.linalg.norm(one, axis=-1), np.linalg.norm(other, axis=-1)
        return float(lengths[1].mean()), float(((one * other).sum(-1) / np.prod(lengths, 0)).mean())

    length, cosine = last_step(long)
    assert length > 0.5 and cosine < -0.9
    assert last_step(short)[0] < 0.1


# --------------------------------------------------------------------------- what is drawn and said


def test_crossings_lie_where_the_surface_has_the_value():
    x, y = np.linspace(-1, 1, 21), np.linspace(-2, 2, 31)
    z = x[None] ** 2 + y[:, None] ** 2
    found = crossings(x, y, z, 0.8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), math.sqrt(0.8), atol=0.02)
    length = np.linalg.norm(found[:, 0] - found[:, 1], axis=-1).sum()
    assert length == pytest.approx(2 * math.pi * math.sqrt(0.8), rel=0.02)
    assert len(crossings(x, y, z, 9.0)) == 0


def frames(params: RingParams):
    return shown.present(ring.run(params)).timeline.frames


def test_particles_and_peak_stand_where_they_are():
    result = at(CLOSED, peak_x=-0.5, peak_y=0.25)
    picture = Picture(result)
    last = picture.frames()[-1].scene
    x, y = picture.at(result.path[-1])
    np.testing.assert_allclose(last["swarm"].xs, x)
    np.testing.assert_allclose(last["swarm"].ys, y)
    dark = last["swarm"].shades == 1
    np.testing.assert_array_equal(dark, result.sampled.nearest[result.place] > 0.3)
    drag, peak = last["peak"].drag, last["peak"]
    for name, scale, place, value in (
        ("x", drag.x_scale, peak.x, -0.5),
        ("y", drag.y_scale, peak.y, 0.25),
    ):
        (v0, p0), (v1, p1) = scale
        assert v0 + (place - p0) * (v1 - v0) / (p1 - p0) == pytest.approx(value), name


def test_arrows_point_along_the_guidance_and_vanish_without_weight():
    result = at(CLOSED, weight=2.0, estimator="ood")
    picture = Picture(result)
    arrows = picture.frames()[4].scene["guidance"].d
    numbers = np.array(
        [list(map(int, re.findall(r"-?\d+", part))) for part in arrows.split("M")[1:]]
    )
    way, want = numbers[:, 2:4], result.sampled.slopes[4].reshape(-1, 2)
    seen = np.linalg.norm(way, axis=1) > 8  # pixels are whole
    cosine = (way * want * [1, -1]).sum(1)[seen]
    cosine /= np.linalg.norm(way[seen], axis=1) * np.linalg.norm(want[seen], axis=1)
    assert seen.sum() > 10 and cosine.min() > 0.98
    keys = {mark.key for mark in frames(dataclasses.replace(CLOSED, weight=0.0))[3].scene.marks}
    assert "guidance" not in keys and "asked" not in keys


def test_the_critic_is_asked_at_the_clean_estimate():
    result = at(CLOSED, weight=2.0)
    picture = Picture(result)
    field = ring_mixture(6)
    for k in (0, 5, 9):
        x = torch.from_numpy(result.path[k, picture.one].copy())[None]
        want = field.posterior_mean(x, k / CLOSED.n_steps)[0]
        np.testing.assert_allclose(picture._asked(k), want, atol=1e-4)
    assert picture._asked(CLOSED.n_steps) is None


def test_the_shade_is_where_the_critic_promises_more_than_there_is():
    assert Picture(ring.run(CLOSED)).frames()[0].scene["believed"].d == ""
    result = ring.run(RingParams(seed=0))
    picture = Picture(result)
    d = picture.frames()[0].scene["believed"].d
    boxes = re.findall(r"M(\d+),([\d.]+)H(\d+)v([\d.]+)", d)
    area = sum((int(b) - int(a)) * float(h) for a, _, b, h in boxes)
    sampled = result.sampled
    share = (sampled.critic > BELIEVED).mean()
    whole = (picture.at(np.array([9.0, 0]))[0] - picture.at(np.array([-9.0, 0]))[0]) * 3.6 * 121
    assert share > 0.02 and area == pytest.approx(share * whole, rel=0.25)


def test_the_curves_tell_what_was_computed_and_set_weights_by_click():
    result = ring.run(RingParams(seed=0, weight=8.0))
    curves, scene = Curves(result), Picture(result).frames()[0].scene
    for place, weight in enumerate(WEIGHTS):
        mark = scene[f"promised:{place}"]
        assert mark.click == {"weight": weight}
        assert mark.y == curves.promise_y(float(result.sampled.promised[place].mean()))
        earned = scene[f"earned:{place}"].y
        assert earned == curves.promise_y(float(result.sampled.earned[place].mean()))
    texts = [mark.text for mark in scene.marks if mark.kind == "words"]
    assert any(text.startswith("↑") for text in texts)  # w = 16 leaves the scale


def test_numbers_wait_for_the_end():
    all_frames = frames(CLOSED)
    assert {r.value for frame in all_frames[:-1] for r in frame.readouts} == {"?"}
    result = ring.run(CLOSED)
    last = {r.label: r.value for r in all_frames[-1].readouts}
    assert last["critic promises"] == f"{result.promised:.2f}"
    assert last["earned"] == f"{result.earned:.2f}"


def test_the_arithmetic_of_a_step_comes_out():
    result = at(CLOSED, weight=2.0)
    picture = Picture(result)
    line = picture.arithmetic(4)["particle"]
    numbers = [float(n.replace("−", "-")) for n in re.findall(r"[-−]?\d+\.\d+", line.text)]
    x, v, push, after = np.array(numbers).reshape(4, 2)
    np.testing.assert_allclose(x + (v + push) / CLOSED.n_steps, after, atol=0.02)


def test_pressing_train_trains_and_pressing_again_takes_the_next_seed():
    settings = {**dataclasses.asdict(RingParams()), "closed_form": False, "taught": "long"}
    del settings["field"], settings["critic"]
    of = shown.RingSettings.of
    before = of(train=0, **settings).params
    assert (before.field, before.critic) == ("closed_form", "reward")
    once, twice = (of(train=n, **settings).params for n in (1, 2))
    assert once.field == twice.field == "learned" and once.critic == "long"
    assert twice.seed == once.seed + 1
    exact = of(train=2, **{**settings, "closed_form": True}).params
    assert (exact.field, exact.critic) == ("closed_form", "long")


def test_both_sliders_of_the_reward_are_moved_by_its_handle():
    explorer = shown.explorer(n_particles=100, n_steps=5)
    explorer.set(peak_x=-1.0, peak_y=0.5)
    assert explorer.wait()
    assert (explorer.result.params.peak_x, explorer.result.params.peak_y) == (-1.0, 0.5)
    assert f"{explorer.result.earned:.2f} is earned" in explorer.summary
    explorer.close()


# ------------------------------------------------------------------------------- what steps claim


def what_is_promised_is_earned(seen) -> None:
    assert seen.number("critic promises") == seen.number("earned") > 0.5


def a_learned_critic_helps_at_a_small_weight(seen) -> None:
    imitation = float(re.search(r"imitation (\d\.\d+)", seen.summary)[1])
    assert seen.number("earned") > 1.5 * imitation
    assert "a flow trained on samples, a critic taught briefly" in seen.summary


def more_weight_is_promised_more_and_earns_less(seen) -> None:
    imitation = float(re.search(r"imitation (\d\.\d+)", seen.summary)[1])
    assert seen.number("critic promises") > 1
    assert seen.number("earned") < imitation
    assert seen.number("off every mode") > 90


def a_longer_lesson_closes_the_lines(seen) -> None:
    assert seen.number("critic promises") == pytest.approx(seen.number("earned"), abs=0.05)
    assert seen.number("earned") > 0.9


def long_steps_overshoot(seen) -> None:
    """The critic is the reward, so what is lost is lost by the steps alone."""
    assert seen.number("critic promises") == seen.number("earned") < 0.75


STEPS = (
    what_is_promised_is_earned,
    a_learned_critic_helps_at_a_small_weight,
    more_weight_is_promised_more_and_earns_less,
    a_longer_lesson_closes_the_lines,
    long_steps_overshoot,
)
