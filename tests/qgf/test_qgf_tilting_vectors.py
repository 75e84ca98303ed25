"""The exact optimum for vectors: the ring against a grid of the plane, and other dimensions."""

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.qgf import GaussianMixture, QuadraticCritic, sample_guided, tilt
from intuitive.qgf.ring import RewardBump, ring_mixture
from intuitive.qgf.sampling import guided_velocity
from intuitive.qgf.tilting import Posterior
from intuitive.qgf.tilting_vectors import VectorPosterior

RING, REWARD = ring_mixture(6), RewardBump(0.9, 0.6)
AXIS = torch.linspace(-2, 2, 601, dtype=torch.float64)
PLANE = torch.cartesian_prod(AXIS, AXIS)
CELL = (4 / 600) ** 2
X = torch.tensor([[0.0, 0.0], [0.5, 0.3], [-0.9, 0.1], [1.5, -1.0]], dtype=torch.float64)


def tilted(weight):
    """p_1 e^{wR} on the grid of the plane, normalised by summing."""
    p = (RING.log_prob(PLANE) + weight * REWARD(PLANE)).exp()
    return p / (p.sum() * CELL)


@pytest.mark.parametrize("weight", [0.0, 2.0, 16.0])
def test_the_tilt_of_the_ring_is_that_of_the_grid(weight):
    got = tilt(RING, REWARD, weight, PLANE)
    want = tilted(weight)
    torch.testing.assert_close(got, want, atol=1e-4 * float(want.max()), rtol=1e-4)
    assert float(got.sum() * CELL) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("step", [0, 3, 8])
def test_exact_guidance_on_the_ring_is_that_of_the_grid(step):
    """v* - v = (D* - D)/(1 - t), both means summed over the plane."""
    t, weight = step / 10, 4.0

    def mean(density):
        logits = density.log() - 0.5 * ((X[:, None] - t * PLANE) / (1 - t)).square().sum(-1)
        return logits.softmax(1) @ PLANE

    velocity, got = guided_velocity(
        RING, REWARD, X, estimator="exact", weight=weight, n_steps=10, steps=[step]
    )
    torch.testing.assert_close(velocity[0], (mean(tilted(0.0)) - X) / (1 - t), atol=1e-5, rtol=0)
    want = (mean(tilted(weight)) - mean(tilted(0.0))) / (1 - t)
    torch.testing.assert_close(got[0], want, atol=1e-4, rtol=0)
    assert want.norm(dim=1).max() > 0.1


def test_exact_guidance_samples_the_tilt_of_the_ring():
    """Mean reward of 1,000 particles after 50 steps, within four standard errors."""
    got = sample_guided(
        RING,
        REWARD,
        estimator="exact",
        weight=2.0,
        n_steps=50,
        n_particles=1000,
        generator=seeded(0),
    )
    rewards = REWARD(got.actions.double())
    want = float((tilted(2.0) * REWARD(PLANE)).sum() * CELL)
    assert float(rewards.mean()) == pytest.approx(want, abs=4 * float(rewards.std()) / 1000**0.5)


def test_rows_of_a_batch_have_their_own_weight():
    x = X.expand(2, 4, 2).clone()
    options = {"estimator": "exact", "n_steps": 4, "n_particles": (2, 4), "start": x}
    both = sample_guided(
        RING, REWARD, weight=torch.tensor([[0.0], [3.0]]), generator=seeded(0), **options
    )
    alone = sample_guided(
        *(RING, REWARD),
        **{**options, "n_particles": 4, "start": x[1]},
        weight=3.0,
        generator=seeded(0),
    )
    torch.testing.assert_close(both.actions[1], alone.actions)
    assert (both.guidance[:, 0] == 0).all()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_a_gaussian_tilted_by_a_square_is_a_gaussian_in_any_dimension(size):
    """N(0, σ²) with -(a - b)²: variance 1/(σ⁻² + 2w), mean 2wb times that."""
    std, peak, weight = 0.5, 0.4, 1.0
    variance = 1 / (std**-2 + 2 * weight)
    one = GaussianMixture([[0.0] * size], [std])
    critic = QuadraticCritic(peak)
    known = GaussianMixture([[2 * weight * peak * variance] * size], [variance**0.5])
    a = torch.randn(5, size, generator=seeded(0)).double() / 2
    close = {"atol": 0.02, "rtol": 0.02} if size > 4 else {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(tilt(one, critic, weight, a).log(), known.log_prob(a), **close)
    found = VectorPosterior(one, lambda actions: weight * critic(actions))
    for t in (0.0, 0.4, 0.9):
        torch.testing.assert_close(found.mean(a, t), known.posterior_mean(a, t), **close)
        torch.testing.assert_close(found.log_prob_t(a, t), known.log_prob_t(a, t), **close)


def test_vectors_of_one_number_are_numbers():
    means, stds, shares = [-0.8, 0.3, 0.8], [0.1, 0.06, 0.2], [0.2, 0.5, 0.3]
    numbers = GaussianMixture(means, stds, shares)
    vectors = GaussianMixture([[mean] for mean in means], stds, shares)
    x = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)
    q = QuadraticCritic(0.5)
    for t in (0.0, 0.5, 0.9):
        want = Posterior(numbers, lambda a: 3 * q(a)).mean(x, t)
        got = VectorPosterior(vectors, lambda a: 3 * q(a)).mean(x[:, None], t)[:, 0]
        torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_a_critic_too_steep_for_the_nodes_is_refused():
    with pytest.raises(ValueError, match="too steep for this quadrature"):
        tilt(RING, REWARD, 3000.0, X)
    with pytest.raises(ValueError, match=r"shape \(4, 3\), but this mixture has d=2"):
        tilt(RING, QuadraticCritic(), 1.0, torch.zeros(4, 3))
