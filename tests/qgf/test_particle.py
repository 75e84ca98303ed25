"""One particle and its swarm: what it sees is what the sampler does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.qgf import GaussianMixture, sample_guided
from intuitive.qgf.experiments import particle
from intuitive.qgf.experiments.particle import ASKING, ParticleParams
from intuitive.qgf.guidance import ESTIMATORS


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
