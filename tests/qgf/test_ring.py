"""The ring: what guidance does to samples in the plane, with learned nets and without."""

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.common.runtime import Cancelled
from intuitive.qgf import ring as rooms
from intuitive.qgf.experiments import ring
from intuitive.qgf.experiments.ring import RingParams
from intuitive.qgf.ring import RewardBump, ring_mixture
from intuitive.widgets.qgf import ring as shown

CLOSED = RingParams(field="closed_form", n_particles=500, n_steps=10)


def test_settings_survive_as_text_and_refuse_what_is_out_of_range():
    params = RingParams(n_modes=7, peak_x=-0.5, critic="fitted")
    assert RingParams.from_text(params.to_text()) == params
    with pytest.raises(ValueError, match=r"n_modes=9 must lie in \[5, 8\]"):
        RingParams(n_modes=9)
    with pytest.raises(ValueError, match="estimator='exact' is unknown: choose among bc, ood"):
        RingParams(estimator="exact")
    with pytest.raises(ValueError, match="weight=nan"):
        RingParams(weight=float("nan"))


def test_the_ring_has_equal_modes_on_the_unit_circle():
    mixture = ring_mixture(5)
    torch.testing.assert_close(mixture.means.norm(dim=-1), torch.ones(5, dtype=torch.float64))
    assert len(set(mixture.weights.tolist())) == 1
    torch.testing.assert_close(
        mixture.means[0].float(), torch.tensor([1.0, 0.0])
    )  # the first at the right


def test_no_weight_is_behaviour_cloning_and_weight_raises_the_reward():
    """Seed 0. Unguided samples take every mode; guided ones crowd near the peak."""
    bc = ring.run(dataclasses.replace(CLOSED, estimator="bc"))
    none = ring.run(dataclasses.replace(CLOSED, weight=0.0))
    some = ring.run(CLOSED)
    assert np.array_equal(bc.samples, none.samples)
    assert bc.mode_shares.min() > 0.1
    assert some.mean_reward > bc.mean_reward + 0.2
    peak = np.array([CLOSED.peak_x, CLOSED.peak_y])
    assert some.mode_shares.argmax() == np.linalg.norm(some.modes - peak, axis=1).argmin()
    assert np.array_equal(none.guidance, np.zeros_like(none.guidance))
    assert none.tilt_reward == pytest.approx(none.bc_reward)


def test_the_tilt_gains_reward_with_the_weight():
    """d/dw of the tilt's mean reward is the reward's variance under it, which is positive."""
    gains = [ring.run(dataclasses.replace(CLOSED, weight=w)).tilt_reward for w in (0.0, 1.0, 4.0)]
    assert gains == sorted(gains) and gains[0] < gains[-1] - 0.1


def test_guidance_points_up_the_reward_it_is_asked_at():
    """OOD guidance at the arrows is w times the reward's gradient there, by differences."""
    found = ring.run(dataclasses.replace(CLOSED, estimator="ood", t=0.3))
    reward, eps = RewardBump(CLOSED.peak_x, CLOSED.peak_y), 1e-3
    at = torch.tensor([found.grid[12], found.grid[8]])  # column 12, row 8
    for axis in range(2):
        step = eps * torch.eye(2)[axis]
        slope = (reward((at + step)[None]) - reward((at - step)[None])) / (2 * eps)
        assert found.guidance[8, 12, axis] == pytest.approx(CLOSED.weight * slope.item(), abs=2e-3)
    assert found.arrow_time == pytest.approx(0.3)
    assert found.field_error == 0 and np.array_equal(found.velocity, found.closed_form)


def test_learned_nets_come_near_what_they_learn(monkeypatch):
    """A ring that no other test has trained for, seed 0, a shortened training: the field explains
    most of the velocity, the critic most of the reward; a second call trains nothing; inference
    mode does not matter."""
    fit_velocity, fit_critic, fits = rooms.fit_velocity, rooms.fit_critic, []

    def quick_velocity(*arguments, **options):
        fits.append("velocity")
        return fit_velocity(*arguments, n_steps=500, **options)

    def counted_critic(*arguments, **options):
        fits.append("critic")
        return fit_critic(*arguments, **options)

    monkeypatch.setattr(rooms, "fit_velocity", quick_velocity)
    monkeypatch.setattr(rooms, "fit_critic", counted_critic)
    params = RingParams(critic="fitted", n_particles=300, n_steps=10, peak_y=0.61, n_modes=8)
    with torch.inference_mode():
        found = ring.run(params)
    assert 0 < found.field_error < 0.3
    assert found.mean_reward > found.bc_reward + 0.2
    again = ring.run(params)
    assert np.array_equal(found.samples, again.samples)
    ring.run(dataclasses.replace(params, peak_x=-0.9))
    assert fits == ["velocity", "critic", "critic"]


def test_training_for_the_ring_can_be_stopped():
    with pytest.raises(Cancelled):
        ring.run(RingParams(n_modes=7, seed=17), stale=lambda: True)


# --------------------------------------------------------------------------- what is drawn and said


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_arrows_point_along_the_field_and_stop_short_of_the_next():
    result = ring.run(RingParams(field="closed_form", n_particles=50, n_steps=5))
    figure = go.Figure(shown.field_figure(result))
    flow = named(figure, "flow")
    length = np.hypot(flow.u, flow.v)
    spacing = result.grid[shown.THIN] - result.grid[0]
    assert 0 < length.max() <= spacing + 1e-3
    columns = np.abs(np.asarray(flow.x)[:, None] - result.grid).argmin(1)
    rows = np.abs(np.asarray(flow.y)[:, None] - result.grid).argmin(1)
    along = result.velocity[rows, columns]
    cosine = (along[:, 0] * flow.u + along[:, 1] * flow.v) / (
        np.linalg.norm(along, axis=1) * length
    )
    assert cosine.min() > 0.999


def test_without_guidance_no_guidance_arrow_is_drawn():
    result = ring.run(RingParams(field="closed_form", weight=0.0, n_particles=50, n_steps=5))
    assert len(named(go.Figure(shown.field_figure(result)), "guidance").x) == 0


def test_queries_are_drawn_only_where_every_step_asks():
    for estimator, asked in (("qgf", True), ("best_of_n", False), ("bc", False)):
        params = RingParams(field="closed_form", estimator=estimator, n_particles=50, n_steps=5)
        names = {trace.name for trace in go.Figure(shown.field_figure(ring.run(params))).data}
        assert ("Q asked" in names) == asked, estimator


def test_pressing_train_trains_and_pressing_again_takes_the_next_seed():
    settings = {**dataclasses.asdict(RingParams()), "closed_form": False}
    del settings["field"]
    of = shown.RingSettings.of
    assert of(train=0, **settings).params.field == "closed_form"
    once, twice = (of(train=n, **settings).params for n in (1, 2))
    assert once.field == twice.field == "learned" and twice.seed == once.seed + 1
    assert of(train=2, **{**settings, "closed_form": True}).params.field == "closed_form"


def test_both_sliders_of_the_reward_are_moved_by_its_handle():
    explorer = shown.explorer(n_particles=200, n_steps=5)
    (handle,) = explorer.declaration.plots[0].drag
    assert handle.sets == ("peak_x", "peak_y")
    explorer.set(peak_x=-1.0, peak_y=0.0)
    assert explorer.wait()
    cross = go.Figure(explorer.view.figure("samples")).data[-1]
    assert (cross.x[0], cross.y[0]) == (-1.0, 0.0)
    assert f"{explorer.result.mean_reward:.2f}" in explorer.summary
    explorer.close()
