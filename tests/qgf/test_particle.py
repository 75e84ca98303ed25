"""One particle and its swarm: it goes as the sampler does, and the hero shows just that."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from steps import seen_after

from intuitive.common.runtime import Cancelled, seeded
from intuitive.qgf import GaussianMixture, sample_guided
from intuitive.qgf.experiments import particle
from intuitive.qgf.experiments.particle import ASKING, ParticleParams
from intuitive.qgf.guidance import ESTIMATORS
from intuitive.widgets.kit import Circle, Range, Swarm, Words
from intuitive.widgets.qgf import particle as shown
from intuitive.widgets.qgf import particle_figures as figures
from intuitive.widgets.qgf.particle_figures import STAGES
from intuitive.widgets.qgf.particle_words import REACH, UNKNOWN


def slope(critic, a):
    a = torch.tensor(a, requires_grad=True)
    return torch.autograd.grad(critic(a).sum(), a)[0].numpy()


@pytest.mark.parametrize("preset", ["A", "B", "C"])
@pytest.mark.parametrize("estimator", ASKING)
def test_particle_and_swarm_go_where_the_sampler_takes_them(estimator, preset):
    params = ParticleParams(preset=preset, estimator=estimator, n_particles=40, start=0.7, seed=3)
    found = particle.run(params)
    noise = torch.randn(40, generator=seeded(3)).double()
    want = sample_guided(
        params.flow.mixture,
        params.flow.q,
        estimator=estimator,
        weight=params.weight,
        n_steps=10,
        n_particles=41,
        generator=seeded(3),
        start=torch.cat((noise.new_tensor([0.7]), noise)),
    )
    np.testing.assert_allclose(found.walk.x, want.trajectory[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.swarm.x, want.trajectory[:, 1:], atol=1e-6)
    np.testing.assert_allclose(found.walk.push[:-1], want.guidance[:, 0], atol=1e-6)
    assert sum(found.swarm.shares) + found.swarm.off_mode == pytest.approx(1)


@pytest.mark.parametrize("estimator", ASKING)
def test_a_step_is_flow_and_push_and_the_last_one_stands_still(estimator):
    walk = particle.run(ParticleParams(estimator=estimator, n_particles=5, weight=2.0)).walk
    np.testing.assert_allclose(walk.step[:-1], (walk.velocity + walk.push)[:-1] / 10, atol=1e-12)
    np.testing.assert_allclose(walk.x[1:], (walk.x + walk.step)[:-1], atol=1e-12)
    assert walk.step[-1] == 0 and walk.estimate[-1] == walk.x[-1]


def test_the_critic_is_asked_at_the_particle_or_at_its_estimate():
    for estimator, place in (("ood", "x"), ("qgf", "estimate"), ("qgf_jacobian", "estimate")):
        params = ParticleParams(preset="B", peak=0.3, estimator=estimator, n_particles=5)
        walk = particle.run(params).walk
        np.testing.assert_allclose(walk.asked, getattr(walk, place), atol=1e-12)
        np.testing.assert_allclose(walk.slope, slope(params.flow.q, walk.asked), atol=1e-12)
        if estimator != "qgf_jacobian":  # the identity in the place of the Jacobian
            np.testing.assert_array_equal(walk.carried, walk.slope)
    jacobian = params.flow.mixture.posterior_mean_jacobian
    for t, x, s, carried in zip(np.arange(11) / 10, walk.x, walk.slope, walk.carried, strict=True):
        one = jacobian(torch.tensor([x]), float(t))
        np.testing.assert_allclose(carried, s * one.item(), atol=1e-12)
    nobody = particle.run(replace(params, estimator="bc")).walk
    assert np.isnan(nobody.asked).all() and (nobody.push == 0).all()


def test_without_weight_the_slope_is_told_and_pushes_nothing():
    walk = particle.run(ParticleParams(weight=0.0, n_particles=5)).walk
    assert (walk.push == 0).all() and np.abs(walk.carried).min() > 0


def test_the_arrow_of_ood_aims_at_the_ray_and_the_ray_decodes_too_far_out():
    """The quadratic critic's slope is 2 (a* - x): half of it ends at height a*, on the ray through
    the origin that reaches a*/t at t = 1. A flow to one narrow mode at a*/t passes through there,
    so that the clean estimate of a particle at height a* is a*/t."""
    found = particle.run(ParticleParams(n_particles=5))
    ood = found.ghosts["ood"]
    on_ray = found.ray[1:] * found.times[1:]
    np.testing.assert_allclose((ood.x + ood.slope / 2)[1:], on_ray, atol=1e-12)
    np.testing.assert_allclose(on_ray, 0.8, atol=1e-12)
    for t, decoded in zip(found.times[1:-1], found.ray[1:-1], strict=True):
        mode = GaussianMixture([decoded], [1e-3], [1.0])
        at = torch.tensor([0.8], dtype=torch.float64)
        assert mode.posterior_mean(at, float(t)).item() == pytest.approx(decoded, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_half_of_the_swarm_finds_the_peak_under_ood_and_nearly_all_under_qgf(seed):
    """Preset A, w = 1, 4,000 particles: 52% and 98%, give or take three standard deviations."""
    found = particle.run(ParticleParams(n_particles=4000, seed=seed))
    assert found.means[found.peak_mode] == 0.8
    assert found.swarm.shares[found.peak_mode] == pytest.approx(0.98, abs=0.01)
    ood = found.ghost_swarms["ood"]
    assert ood.shares[found.peak_mode] == pytest.approx(0.52, abs=0.025)


def test_ghosts_are_the_same_particle_under_ood_and_unguided():
    found = particle.run(ParticleParams(n_particles=5))
    for name, ghost in found.ghosts.items():
        alone = particle.run(ParticleParams(estimator=name, n_particles=5))
        np.testing.assert_array_equal(ghost.x, alone.walk.x)
        np.testing.assert_array_equal(found.ghost_swarms[name].x, alone.swarm.x)
    assert found.ghosts["bc"].x[0] == found.walk.x[0] == -0.6


def test_hills_are_densities_at_every_time():
    found = particle.run(ParticleParams(preset="C", n_particles=5))
    assert found.hills.shape == (11, len(found.grid))
    np.testing.assert_allclose(np.trapezoid(found.hills, found.grid), 1, atol=0.005)
    np.testing.assert_allclose(found.hills[-1], found.density)
    assert np.trapezoid(found.tilted, found.grid) == pytest.approx(1)
    assert np.trapezoid(found.tilted * found.critic, found.grid) > np.trapezoid(
        found.density * found.critic, found.grid
    )


def test_settings_survive_as_text_and_refuse_what_is_out_of_range():
    params = ParticleParams(preset="C", peak=-0.8, weight=4.0, n_steps=20)
    assert ParticleParams.from_text(params.to_text()) == params
    assert set(ASKING) < set(ESTIMATORS)
    for change, message in (
        ({"preset": "D"}, "preset='D'"),
        ({"estimator": "best_of_n"}, "estimator='best_of_n': choose one of bc, ood, qgf"),
        ({"start": float("nan")}, r"start=nan must lie in \[-5, 5\]"),
        ({"n_steps": 0}, "n_steps=0"),
    ):
        with pytest.raises(ValueError, match=message):
            ParticleParams(**change)


def test_a_stale_request_stops():
    with pytest.raises(Cancelled):
        particle.run(ParticleParams(seed=99), stale=lambda: True)


# ------------------------------------------------------------------------------------- the hero

EDGES = {  # of the controls, beside the defaults
    "peak": (-2.4, -0.6, 2.4),
    "weight": (0.0, 8.0),
    "start": (-2.4, 0.0, 2.4),
    "n_steps": (5, 30),
    "bump": (-2.4, 0.3),
    "preset": ("B", "C"),
}
PRESET_VALUES = {"B": {"peak": 0.3}, "C": {"peak": -0.8, "bump": 0.8, "weight": 4.0, "n_steps": 20}}
SETTINGS = [
    {"estimator": estimator, "start": 0.8, "n_particles": 30, name: value}
    | PRESET_VALUES.get(value, {})
    for estimator in shown.METHODS
    for name, values in EDGES.items()
    for value in values
    if estimator != "bc" or name not in ("weight", "peak")
] + [{"estimator": estimator, "start": 0.8, "n_particles": 30} for estimator in shown.METHODS]


def hero(**settings):
    result = particle.run(ParticleParams(**({"start": 0.8} | settings)))
    return result, shown.present(result)


def frame_of(view, label, stage):
    return next(f for f in view.timeline.frames if (f.label, f.stage) == (label, stage))


def height(position, preset="A"):
    """Where a position stands in the scene."""
    reach = REACH[preset]
    share = (np.clip(position, -reach, reach) + reach) / (2 * reach)
    return figures.BOTTOM - (figures.BOTTOM - figures.TOP) * share


def text_boxes(scene):
    """(text, left, top, right, bottom) of every text of a scene, 0.56 em for a character."""
    boxes = []
    for mark in scene.marks:
        if isinstance(mark, Words):
            text, anchor, x, y = mark.text, mark.anchor, mark.x, mark.y
        elif mark.label and isinstance(mark, Circle) and mark.place == "center":
            text, anchor, x, y = mark.label, "middle", mark.x, mark.y + 0.35 * mark.size
        else:
            assert not mark.label, f"{mark.key}: this test does not know where its label stands"
            continue
        wide = 0.56 * mark.size * len(text)
        left = x - wide * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        boxes.append((text, left, y - 0.75 * mark.size, left + wide, y + 0.2 * mark.size))
    return boxes


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: str(list(settings.values())))
def test_no_text_lies_over_another_or_leaves_the_scene(settings):
    _, view = hero(**settings)
    for frame in view.timeline.frames:
        boxes = text_boxes(frame.scene)
        for i, (text, left, top, right, bottom) in enumerate(boxes):
            assert left >= 0 and top >= 0 and right <= frame.scene.width, text
            assert bottom <= frame.scene.height, text
            for other, left2, top2, right2, bottom2 in boxes[:i]:
                across = left < right2 and left2 < right
                assert not (across and top < bottom2 and top2 < bottom), (
                    f"{frame.label} {frame.stage}: {text!r} over {other!r}"
                )


@pytest.mark.parametrize("estimator", shown.METHODS)
@pytest.mark.parametrize("n_steps", [5, 10, 20])
def test_frames_follow_time_and_within_a_step_the_stages(estimator, n_steps):
    _, view = hero(estimator=estimator, n_steps=n_steps, n_particles=20)
    frames = view.timeline.frames
    told = {"bc": ("jump", "step"), "ood": ("stay", *STAGES[1:])}.get(estimator, STAGES)
    want = [("t = 0.00", "start")]
    for k in range(n_steps):
        stages = told if k in (0, round(0.4 * n_steps)) else ("step",)
        want += [(f"t = {k / n_steps:.2f}", stage) for stage in stages]
    assert [(f.label, f.stage) for f in frames] == [*want, ("t = 1.00", "actions")]
    assert all(frame.sentence and len(frame.sentence) <= 112 for frame in frames)
    assert all(len(frame.readouts) == 3 for frame in frames)


def test_the_scene_holds_the_numbers_of_the_result():
    result, view = hero(estimator="qgf", n_particles=60)
    walk, (left, right) = result.walk, (figures.LEFT, figures.RIGHT)
    for k in range(10):
        t = f"t = {k / 10:.2f}"
        step = frame_of(view, t, "step").scene
        assert step["particle"].y == pytest.approx(height(walk.x[k + 1]))
        np.testing.assert_allclose(step["swarm"].ys, height(result.swarm.x[k + 1]))
        for name, ghost in result.ghosts.items():
            assert step[f"ghost:{name}:now"].y == pytest.approx(height(ghost.x[k + 1]))
    for k in (0, 4):
        carry = frame_of(view, f"t = {k / 10:.2f}", "carry").scene
        x = left + (right - left) * k / 10
        assert carry["particle"].x == pytest.approx(x)
        assert carry["particle"].y == pytest.approx(height(walk.x[k]))
        assert carry["jump"].y2 == pytest.approx(height(walk.estimate[k]))
        assert carry["query"].y == carry["answer"].y == pytest.approx(height(walk.asked[k]))
        reached = walk.estimate[k] + (1 - k / 10) * walk.push[k]
        assert (carry["push"].y, carry["push"].y2) == pytest.approx(
            (height(walk.estimate[k]), height(reached))
        )
    end = view.timeline.frames[-1].scene
    np.testing.assert_array_equal(end["swarm"].shades, result.swarm.final_mode + 1)
    for mode, share in enumerate(result.swarm.shares):
        if share:
            assert end[f"share:{mode}"].w == pytest.approx(max(3 * figures.HILL * share, 3))


def test_the_first_slice_of_the_wedge_is_the_step():
    """At t + 1/T the wedge is as tall as what the push adds to the step."""
    result, view = hero(estimator="qgf", weight=2.0, n_particles=20)
    scene, walk = frame_of(view, "t = 0.40", "carry").scene, result.walk
    tall = (scene["push"].y2 - scene["push"].y) * (1 / 10) / (1 - 0.4)
    without = height(walk.x[4] + walk.velocity[4] / 10)
    assert tall == pytest.approx(height(walk.x[5]) - without)


def test_ood_asks_at_the_particle_and_its_ray_goes_through_the_peak():
    result, view = hero(estimator="ood", n_particles=20)
    assert all(
        "ray" not in {mark.key for mark in frame.scene.marks}
        for frame in view.timeline.frames
        if frame.label == "t = 0.00"
    )
    for k in (4,):
        scene = frame_of(view, f"t = {k / 10:.2f}", "ask").scene
        assert scene["asked here"].y == scene["query"].y == pytest.approx(height(result.walk.x[k]))
        ray, now = scene["ray"], scene["ray now"]
        assert ray.y == pytest.approx(height(0))
        assert ray.y2 == pytest.approx(height(0.8 / (k / 10)))
        share = (now.x - ray.x) / (ray.x2 - ray.x)
        assert ray.y + share * (ray.y2 - ray.y) == pytest.approx(now.y) == height(0.8)
    _, early = hero(estimator="ood", n_steps=5, peak=2.4, n_particles=20)
    ray = frame_of(early, "t = 0.40", "ask").scene["ray"]  # a*/t = 6 is out of sight
    assert ray.y2 == figures.TOP and ray.x2 < figures.RIGHT


def test_nothing_tells_the_end_before_the_last_frame():
    for estimator in shown.METHODS:
        result, view = hero(estimator=estimator, n_particles=60)
        share = figures.percent(result.swarm.shares[result.peak_mode])
        first, *middle, last = view.timeline.frames
        assert set(first.scene["swarm"].shades) == {0}
        share = share.removesuffix("%")
        assert share in last.sentence and share in last.readouts[0].value
        for frame in (first, *middle):
            assert frame.readouts[0].value == UNKNOWN
            assert not any(mark.key.startswith("share") for mark in frame.scene.marks)
        assert f"{share}%" not in view.summary


def test_the_outline_on_the_hills_is_the_exact_tilt():
    result, view = hero(n_particles=20, weight=2.0)
    outline = view.timeline.frames[0].scene["tilt"].d
    points = np.array([p.split(",") for p in outline[1:].split("L")], float)
    near = np.abs(points[:, 1] - height(0.8)) < 0.5
    want = np.interp(0.8, result.grid, result.tilted) / result.density.max()
    want = 1 + figures.HILL * min(want, figures.TALLEST)
    assert points[near, 0].max() - figures.RIGHT == pytest.approx(want, abs=0.5)
    assert sum(result.tilt_shares) == pytest.approx(1)
    assert view.timeline.frames[0].readouts[1].value == f"{result.tilt_shares[1]:.0%}"
    middle = (0.8 + 2.0) / 2
    above = (result.grid > -0.6) & (result.grid < middle)
    mass = np.trapezoid(result.tilted[above], result.grid[above])
    assert result.tilt_shares[1] == pytest.approx(mass, abs=0.01)


def test_unguided_there_is_no_critic_to_see():
    _, view = hero(estimator="bc", n_particles=20)
    keys = {mark.key for frame in view.timeline.frames for mark in frame.scene.marks}
    assert not keys & {"critic", "peak", "tilt", "bump", "level"}
    guided = {mark.key for mark in hero(n_particles=20)[1].timeline.frames[0].scene.marks}
    assert {"critic", "peak", "tilt"} <= guided and "bump" not in guided  # preset A has none


def test_peak_start_and_bump_are_dragged_by_their_ranges():
    explorer = shown.explorer(preset="B", peak=0.3, bump=-1.8)
    ranges = {c.name: c for c in explorer.declaration.controls if isinstance(c, Range)}
    for key in ("peak", "start", "bump"):
        for frame in explorer.view.timeline.frames:
            mark = frame.scene[key]
            assert mark.drag.y == key and key in ranges
            (v0, p0), (v1, p1) = mark.drag.y_scale
            value = v0 + (mark.y - p0) * (v1 - v0) / (p1 - p0)
            assert value == pytest.approx(explorer.values[key])
            assert v0 <= ranges[key].min and ranges[key].max <= v1
    explorer.close()


def test_modes_methods_and_critic_share_no_colour():
    used = {"mode": set(), "method": set(), "critic": set()}
    for estimator in shown.METHODS:
        for frame in hero(estimator=estimator, n_particles=30)[1].timeline.frames:
            for mark in frame.scene.marks:
                kind = {"hill": "mode", "trail": "mode", "road": "mode", "share": "mode"}.get(
                    mark.key.split(":")[0]
                )
                if mark.key in ("jump", "path", "stride") or mark.link.startswith("ghost"):
                    kind = "method"
                if mark.key in ("critic", "query", "push", "wedge", "peak", "level"):
                    kind = "critic"
                if kind and not isinstance(mark, Swarm):
                    used[kind] |= {mark.stroke, mark.fill} - {"", "page"}
                    if mark.key == "trail:-1":  # of those that end in no mode
                        used[kind].remove("grey")
    assert used == {
        "mode": {"blue", "vermilion", "purple"},
        "method": {"ink", "grey"},
        "critic": {"gold"},
    }


@pytest.mark.parametrize("settings", SETTINGS[::7], ids=lambda s: str(list(s.values())))
def test_a_result_travels_in_under_400_kilobytes(settings):
    explorer = shown.explorer(**(settings | {"n_particles": 400}))
    assert explorer.status["state"] == "done"
    assert len(explorer.picture) + len(explorer.swarm) < 400_000
    explorer.close()


def test_every_live_mark_has_its_words_and_the_construction_its_arithmetic():
    for estimator in shown.METHODS:
        _, view = hero(estimator=estimator, n_particles=20)
        for frame in view.timeline.frames:
            links = {mark.link for mark in frame.scene.marks if mark.link}
            assert all(mark.words for mark in frame.scene.marks if mark.link)
            want = links & {"estimate", "asked", "slope", "ray"}
            assert want <= set(frame.arithmetic), (estimator, frame.label, frame.stage)
    line = frame_of(hero(n_particles=20)[1], "t = 0.40", "carry").arithmetic
    walk = particle.run(ParticleParams(start=0.8, n_particles=20)).walk
    for link, value in (("estimate", walk.estimate[4]), ("slope", walk.push[4])):
        assert line[link].tex.endswith(f"= {value:.2f}")
    assert line["particle"].tex.endswith(f"= {walk.x[5]:.2f}")
    last = hero(n_particles=20)[1].timeline.frames[-1].arithmetic
    assert last["particle"].tex.endswith(f"= {walk.x[-1]:.2f}")
    assert r"Q(a^\ast) = 0.00" in last["critic"].tex and "third" in last["mode:0"].text


def test_the_verdict_is_computed():
    explorer = shown.explorer(predict=shown.PREDICT)
    explorer.predict("nearly all").wait()
    share = particle.run(ParticleParams(start=0.8, estimator="ood")).swarm.shares[1]
    assert 0.25 < share < 0.75
    assert explorer.verdict["state"] == "wrong" and "it is “about half”" in explorer.verdict["text"]
    assert f"{share:.0%}" in explorer.verdict["text"]
    assert explorer.values["estimator"] == "ood"  # what was asked about stands there
    told = [f.readouts[0].value for f in explorer.view.timeline.frames]
    assert told[-1] == f"{share:.0%}"
    explorer.predict(None)
    explorer.close()


def test_the_bump_moves_the_critic():
    near, far = (particle.run(ParticleParams(preset="B", peak=0.3, bump=b)) for b in (-1.0, -1.8))
    for found, bump in ((near, -1.0), (far, -1.8)):
        low = found.grid < -0.5
        top = found.grid[low][found.critic[low].argmax()]
        assert top == pytest.approx(bump, abs=0.05)
    np.testing.assert_array_equal(near.ghosts["bc"].x, far.ghosts["bc"].x)


# ------------------------------------------------------------------------------ steps and claims


def the_ray_tells_where_the_peaks_height_leads(seen) -> None:
    assert any("at t = 0.40 height 0.80 is on the ray to 2" in said for said in seen.sentences)
    assert "in the mode at 2" in seen.sentences[-1]
    share = int(re.search(r"(\d+)% of the swarm", seen.sentences[-1])[1])
    assert 45 <= share <= 60


def finds_the_mode_of_the_peak(seen) -> None:
    assert seen.number("swarm in the peak's mode") >= 95
    assert "in the mode at 0.8" in seen.sentences[-1]


def the_peak_lies_in_a_gap(seen) -> None:
    assert seen.values["peak"] == -0.6
    assert seen.readouts["swarm in no mode"] == UNKNOWN  # guess first, then play
    assert "the push wins" in seen.sentences[-1]


def the_gap_is_where_the_swarm_ends(seen) -> None:
    assert seen.values["peak"] == -0.6
    assert seen.readouts["swarm in no mode"] == UNKNOWN  # guess first, then play
    assert "in no mode" in seen.sentences[-1] and "yours" in seen.sentences[-1]


STEPS = (
    the_ray_tells_where_the_peaks_height_leads,
    finds_the_mode_of_the_peak,
    the_peak_lies_in_a_gap,
)
STEPS_AGAIN = (finds_the_mode_of_the_peak, the_gap_is_where_the_swarm_ends)  # beside a reader's own


def unguided_step(x, t, dt, velocity, gradient, weight):
    """As the lesson gives it."""
    return x + dt * velocity(x, t)


@pytest.mark.parametrize("place", range(len(STEPS_AGAIN)))
def test_the_steps_beside_a_step_of_the_readers_own(place):
    explorer = shown.explorer(yours=unguided_step)
    assert len(explorer.declaration.steps) == len(STEPS_AGAIN)
    STEPS_AGAIN[place](seen_after(explorer, place))


def taken(explorer, step):
    assert explorer.take(step).wait()
    assert explorer.status["state"] == "done", explorer.status["text"]
    return explorer.result, explorer.view.timeline.frames[-1]


def test_a_peak_in_a_gap_draws_them_to_where_no_data_are():
    explorer = shown.explorer()
    result, last = taken(explorer, 2)
    assert result.swarm.off_mode > 0.9 and "in no mode" in last.sentence
    lost = last.readouts[0]
    assert (lost.label, lost.value) == ("swarm in no mode", "100%")
    assert last.readouts[1].value == "under 1%"  # where a sampler would put hardly anything
    assert last.scene["trail:-1"].stroke == "grey"  # the paths stay in sight
    explorer.set(peak=0.7).wait()  # off the mode's middle, and in it
    assert explorer.view.readouts[0].label == "swarm in the peak's mode"
    explorer.close()


# ---------------------------------------------------------------------------- the reader's own step


def right_step(x, t, dt, velocity, gradient, weight):
    v = velocity(x, t)
    return x + dt * (v + weight * gradient(x + (1 - t) * v))


def step_of_numbers(x, t, dt, velocity, gradient, weight):
    v = velocity(x, t)
    return math.fsum((x, dt * v, dt * weight * gradient(x + (1 - t) * v)))


def unfinished_step(x, t, dt, velocity, gradient, weight):
    return x + dt * velocity(x, t)


@pytest.mark.parametrize("step", [right_step, step_of_numbers])
def test_the_readers_step_goes_the_way_of_the_package(step):
    result = particle.run(ParticleParams(start=0.8, n_particles=150), yours=step)
    np.testing.assert_allclose(result.yours.x, result.walk.x, atol=1e-6)
    n = result.yours.swarm.shape[1]
    assert n == (150 if step is right_step else 99)  # one after another: only some
    np.testing.assert_allclose(result.yours.swarm, result.swarm.x[:, :n], atol=1e-6)
    assert result.yours.same_as == "qgf"
    last = shown.present(result).timeline.frames[-1]
    assert "yours goes the way of QGF" in last.sentence and "yours" in last.readouts[0].value


def test_an_unfinished_step_is_drawn_as_what_it_is():
    result = particle.run(ParticleParams(start=0.8, n_particles=60), yours=unfinished_step)
    assert result.yours.same_as == "bc"
    np.testing.assert_allclose(result.yours.x, result.ghosts["bc"].x, atol=1e-6)
    view = shown.present(result)
    for k, frame in enumerate(f for f in view.timeline.frames if f.stage == "step"):
        assert frame.scene["yours:now"].y == pytest.approx(height(result.yours.x[k + 1]))
    *before, last = view.timeline.frames
    assert any(mark.key == "your name" for mark in last.scene.marks)
    for mode, share in enumerate(result.yours.shares):
        bar = last.scene[f"your share:{mode}"]
        assert bar.w == pytest.approx(3 * figures.HILL * share) and f"{share:.0%}" in bar.words
    assert not any(m.key.startswith("your share") for f in before for m in f.scene.marks)
    assert "Dotted" in view.summary


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda *_: 1 / 0, "guided_step raised ZeroDivisionError: division by zero"),
        (lambda *_: None, "guided_step returns None: end it with `return`"),
        (lambda *_: "0.3", "must return one number, not a str: '0.3'"),
        (lambda *_: float("nan"), "guided_step returns nan: a finite number is needed"),
        (lambda *_: [1, 2], "must return one number, not a list"),
        (lambda x: x, "guided_step raised TypeError"),
    ],
    ids=["raises", "none", "text of a number", "nan", "list", "arguments"],
)
def test_what_is_wrong_with_the_readers_step_is_told_in_words(step, said):
    explorer = shown.explorer(yours=step, n_particles=50)
    assert explorer.status["state"] == "done"  # the package's own particle goes its way
    assert explorer.result.walk.final_mode == 1
    first = explorer.view.timeline.frames[0].sentence
    assert said in first and said in explorer.summary
    assert not any(m.key == "yours" for m in explorer.view.timeline.frames[-1].scene.marks)
    explorer.close()


def test_the_code_makes_the_result_again():
    result, view = hero(n_particles=30)
    names = {}
    body, last = view.code.rsplit("\n", 1)
    exec(body, names)
    assert eval(last, names) == (result.walk.x[-1], result.swarm.shares)
