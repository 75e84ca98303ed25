"""Learned flow and critic: close to what they learn from, in one dimension and in two."""

import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.qgf.learn import fit_critic, fit_velocity
from intuitive.qgf.mixture import GaussianMixture
from intuitive.qgf.sampling import sample_guided

MIXTURE = GaussianMixture([-0.8, 0.3, 0.8], [0.1, 0.1, 0.1], [1 / 3, 1 / 3, 1 / 3])


def test_a_learned_flow_comes_near_the_closed_form():
    """Seed 0, 700 steps: the velocity error is small against the velocity's own spread."""
    samples = MIXTURE.sample(4000, seeded(0))
    with torch.inference_mode():  # as in an explorer
        field = fit_velocity(samples, seed=0, n_steps=700)
    assert field.action_size is None
    for t in (0.1, 0.5, 0.8):
        x = (1 - t) * torch.randn(4000, generator=seeded(1)) + t * MIXTURE.sample(4000, seeded(2))
        want = MIXTURE.velocity(x, t)
        error = (field.velocity(x, t) - want).square().mean().sqrt()
        assert error < 0.4 * want.std(), t  # more than 84% of the variance is explained


def test_a_learned_critic_is_right_on_the_data_and_unknown_elsewhere():
    """Seed 0: a quadratic within its data; far outside a net cannot know of the square."""
    actions = 2 * torch.rand(2000, 2, generator=seeded(0)) - 1
    critic = fit_critic(actions, -actions.square().sum(-1), seed=0)
    assert (critic(actions) + actions.square().sum(-1)).abs().mean() < 0.05
    far = torch.tensor([[8.0, 8.0]])
    assert critic(far).item() > -100  # the truth is -128
    point = actions[:5].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(point).sum(), point)
    assert (gradient + 2 * actions[:5]).abs().max() < 0.6


def test_learned_nets_guide_samples_as_closed_forms_do():
    """Seed 0, 300 steps, T = 10: QGF with both nets learned brings most of three equal modes'
    samples to the mode that the critic was fitted to prefer."""
    actions = MIXTURE.sample(2000, seeded(0))
    field = fit_velocity(actions, seed=0, n_steps=300)
    critic = fit_critic(actions, -(actions - 0.3).square(), seed=0, n_steps=300)
    shares = {}
    for estimator in ("bc", "qgf"):
        sample = sample_guided(
            field,
            critic,
            estimator=estimator,
            weight=3.0,
            n_steps=10,
            n_particles=500,
            generator=seeded(1),
        )
        shares[estimator] = ((sample.actions - 0.3).abs() < 0.3).float().mean().item()
    assert shares["bc"] < 0.6
    assert shares["qgf"] > 0.9


def test_fitting_is_reproducible_and_can_be_stopped():
    samples = MIXTURE.sample(100, seeded(0))
    one, two, other = (fit_velocity(samples, seed=s, n_steps=5) for s in (3, 3, 4))
    x = torch.linspace(-1, 1, 5)
    assert torch.equal(one.velocity(x, 0.5), two.velocity(x, 0.5))
    assert not torch.equal(one.velocity(x, 0.5), other.velocity(x, 0.5))
    with pytest.raises(Cancelled):
        fit_velocity(samples, seed=0, stale=lambda: True)


def test_data_that_cannot_be_learned_from_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        fit_velocity(torch.tensor([0.0, float("nan")]), seed=0)
    with pytest.raises(ValueError, match="at least one"):
        fit_velocity(torch.zeros(0), seed=0)
    with pytest.raises(ValueError, match="3 values for 2 actions"):
        fit_critic(torch.zeros(2), torch.zeros(3), seed=0)
