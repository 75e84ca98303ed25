"""Every estimator's guidance, against finite differences, closed forms and the equations."""

import numpy as np
import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.qgf import GaussianMixture, QuadraticCritic, sample_guided
from intuitive.qgf.critics import GaussianBumps
from intuitive.qgf.guidance import ESTIMATOR_NAMES, ESTIMATORS
from intuitive.qgf.sampling import guided_velocity

MIXTURE = GaussianMixture(
    torch.tensor([-1.2, 0.1, 0.9], dtype=torch.float64), [0.3, 0.1, 0.2], [0.5, 0.2, 0.3]
)
HILL = GaussianBumps((0.4, -0.8), (0.5, 0.3), (1.0, 0.6))
X = torch.linspace(-1.5, 1.5, 11, dtype=torch.float64)
T = 10


class Net:
    """The mixture's velocity without its closed-form Jacobian, as a network would offer it."""

    action_size = None

    def velocity(self, x, t):
        return MIXTURE.velocity(x, t)


def guidance(estimator, step, x=X, critic=HILL, field=MIXTURE, **options):
    setting = {"estimator": estimator, "weight": 1.0, "n_steps": T, "steps": [step]}
    return guided_velocity(field, critic, x, **(setting | options))[1][0]


def slope(critic, a):
    a = a.clone().requires_grad_()
    return torch.autograd.grad(critic(a).sum(), a)[0]


def ode(x, step):
    for i in range(step, T):
        x = x + MIXTURE.velocity(x, i / T) / T
    return x


def central(function, h=1e-5):
    return (function(X + h) - function(X - h)) / (2 * h)


def test_every_estimator_has_a_name():
    assert ESTIMATORS.keys() == ESTIMATOR_NAMES.keys()
    assert set(ESTIMATORS) == {
        *("bc", "ood", "qgf", "qgf_jacobian", "flow_dps", "chain"),
        *("bptt", "robust_q", "grad_step", "best_of_n", "cfgrl", "exact"),
    }


@pytest.mark.parametrize("step", [0, 3, 9])
def test_gradients_are_asked_where_the_equations_say(step):
    t = step / T
    torch.testing.assert_close(guidance("ood", step), slope(HILL, X))
    estimate = MIXTURE.posterior_mean(X, t)
    torch.testing.assert_close(guidance("qgf", step), slope(HILL, estimate))
    torch.testing.assert_close(guidance("chain", step), slope(HILL, ode(X, step)))
    assert (guidance("bc", step) == 0).all()


@pytest.mark.parametrize("field", [MIXTURE, Net()], ids=["closed form", "autograd"])
@pytest.mark.parametrize("step", [1, 5, 9])
def test_jacobian_guidance_is_the_slope_of_q_at_the_estimate(step, field):
    want = central(lambda x: HILL(MIXTURE.posterior_mean(x, step / T)))
    got = guidance("qgf_jacobian", step, field=field)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)
    dps = guidance("flow_dps", step, field=field)
    torch.testing.assert_close(dps, got * (T - step) / step)


@pytest.mark.parametrize("step", [0, 4, 9])
def test_bptt_is_the_slope_of_q_at_the_end_of_the_chain(step):
    want = central(lambda x: HILL(ode(x, step)))
    torch.testing.assert_close(guidance("bptt", step), want, atol=1e-5, rtol=1e-4)


def test_at_noise_the_jacobian_is_exactly_zero():
    for dtype in (torch.float32, torch.float64):
        for name in ("qgf_jacobian", "flow_dps"):
            assert (guidance(name, 0, x=X.to(dtype)) == 0).all()


def test_at_the_last_step_chain_is_qgf_and_bptt_is_jacobian():
    torch.testing.assert_close(guidance("chain", T - 1), guidance("qgf", T - 1))
    torch.testing.assert_close(guidance("bptt", T - 1), guidance("qgf_jacobian", T - 1))


@pytest.mark.parametrize("step", [0, 3, 8])
def test_exact_guidance_is_the_score_of_the_log_expectation(step):
    """v* - v = ((1 - t)/t) ∇ log E[e^{wQ} | x_t], the expectation by a fine sum."""
    t, w = step / T, 3.0
    y = torch.linspace(-4, 4, 16_001, dtype=torch.float64)

    def log_expectation(x):
        logits = MIXTURE.log_prob(y) - 0.5 * ((x[:, None] - t * y) / (1 - t)).square()
        return (logits.log_softmax(1) + w * HILL(y)).logsumexp(1)

    got = guidance("exact", step, weight=w)
    if step:
        want = central(log_expectation) * (1 - t) / t
        torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)
    else:  # the limit: the same push everywhere, by how far the tilt moves the mean
        assert float(got.std()) < 1e-9 and float(got.mean().abs()) > 0.1


def test_robust_q_without_a_network_is_the_slope_of_the_conditional_mean():
    t = 0.6
    y = torch.linspace(-4, 4, 16_001, dtype=torch.float64)

    def expected(x):
        logits = MIXTURE.log_prob(y) - 0.5 * ((x[:, None] - t * y) / (1 - t)).square()
        return (logits.softmax(1) * HILL(y)).sum(1)

    torch.testing.assert_close(guidance("robust_q", 6), central(expected), atol=2e-3, rtol=2e-3)


def test_learned_parts_take_the_place_of_quadrature():
    options = {"n_steps": 4, "n_particles": 50, "weight": 0.5}
    linear = sample_guided(
        *(Net(), HILL),
        **(options | {"estimator": "robust_q", "generator": seeded(0)}),
        robust_critic=lambda x, t: 2.0 * x + t,
    )
    torch.testing.assert_close(linear.guidance, torch.ones(4, 50))
    same = sample_guided(
        *(Net(), HILL),
        **(options | {"estimator": "cfgrl", "generator": seeded(0)}),
        positive_field=Net(),
    )
    assert (same.guidance == 0).all()


def test_cfgrl_follows_the_data_above_the_mean():
    """With Q = a the positive flow knows actions above the mean alone."""
    plain = GaussianMixture([0.0], [1.0], [1.0])
    sample = sample_guided(
        *(plain, lambda a: a),
        **{"estimator": "cfgrl", "weight": 1.0, "n_steps": 100, "n_particles": 4000},
        generator=seeded(0),
    )
    assert float((sample.actions > 0).double().mean()) > 0.99
    assert float(sample.actions.mean()) == pytest.approx((2 / torch.pi) ** 0.5, abs=0.03)


def test_the_least_of_an_ensemble_counts():
    """Two roofs that cross at 0: the minimum falls away to both sides."""
    up, down = (lambda a: 2 * a), (lambda a: -3 * a)
    want = torch.where(X < 0, 2.0, -3.0).double()
    keep = X.abs() > 1e-9
    got = guidance("ood", 2, critic=[up, down])
    torch.testing.assert_close(got[keep], want[keep])
    once = sample_guided(
        *(MIXTURE, [up, down]),
        **{"estimator": "best_of_n", "weight": 1.0, "n_steps": 5, "n_particles": 500},
        **{"n_candidates": 16, "generator": seeded(0)},
    )
    assert float(once.actions.abs().median()) < 0.15


def test_score_schedule_is_nothing_at_noise_and_one_in_the_middle():
    for name in ("ood", "qgf", "bptt"):
        assert (guidance(name, 0, schedule="score") == 0).all()
        torch.testing.assert_close(guidance(name, 5, schedule="score"), guidance(name, 5))
        torch.testing.assert_close(guidance(name, 2, schedule="score"), 4 * guidance(name, 2))
    for name in ("flow_dps", "exact", "cfgrl"):  # the factor is theirs already
        assert torch.equal(guidance(name, 2, schedule="score"), guidance(name, 2))


def test_clipping_moves_the_question_and_silences_jacobians():
    far = QuadraticCritic(5.0)
    clip = (-0.5, 0.5)
    estimate = MIXTURE.posterior_mean(X, 0.8)
    beyond = estimate.abs() > 0.5
    got = guidance("qgf", 8, critic=far, clip=clip)
    torch.testing.assert_close(got, -2 * (estimate.clamp(*clip) - 5.0))  # clipped ones as well
    for name in ("qgf_jacobian", "flow_dps"):
        got = guidance(name, 8, critic=far, clip=clip)
        assert (got[beyond] == 0).all() and (got[~beyond] > 0).all()
    torch.testing.assert_close(guidance("ood", 8, critic=far, clip=clip), -2 * (X - 5.0))


def test_long_gradients_are_shortened():
    steep = QuadraticCritic(50.0)
    got = guidance("ood", 3, critic=steep, gradient_norm=0.5, weight=2.0)
    torch.testing.assert_close(got, torch.full_like(X, 1.0))
    plane = GaussianMixture([[0.0, 0.0]], [1.0], [1.0])
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    got = guidance("ood", 3, x=x, field=plane, critic=QuadraticCritic(0.0), gradient_norm=1.0)
    torch.testing.assert_close(got, torch.tensor([[-0.6, -0.8]], dtype=torch.float64))


def test_a_critic_of_steps_has_no_gradient_but_can_be_tilted_by():
    step = lambda a: (a > 0.5).to(a.dtype)  # noqa: E731
    assert (guidance("qgf", 4, critic=step) == 0).all()
    assert float(guidance("exact", 4, critic=step, weight=5.0).max()) > 0.1


@pytest.mark.parametrize("name", ["exact", "robust_q", "cfgrl"])
def test_quadrature_needs_a_mixture(name):
    with pytest.raises(ValueError, match=f"{name}.*GaussianMixture, but the field is a Net.*pass"):
        guidance(name, 2, field=Net())


@pytest.mark.parametrize("name", ["robust_q", "cfgrl"])
def test_some_quadratures_need_numbers(name):
    plane = GaussianMixture([[0.0, 0.0]], [1.0], [1.0])
    with pytest.raises(ValueError, match=f"{name}.*one-dimensional GaussianMixture.*pass"):
        guidance(name, 2, field=plane, x=torch.zeros(3, 2, dtype=torch.float64))


def test_a_gradient_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="gradient is not finite at the action"):
        guidance("ood", 2, critic=lambda a: -(a.square().sqrt()), x=torch.zeros(3))


HIDDEN = {
    "detached": lambda a: HILL(a).detach(),
    "of a detached action": lambda a: HILL(a.detach()),
    "through numpy": lambda a: torch.from_numpy(np.sin(a.detach().numpy())),
    "numpy on a gradient": lambda a: torch.from_numpy(np.sin(a.numpy())),
}


@pytest.mark.parametrize("critic", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("estimator", ["ood", "qgf", "bptt", "qgf_jacobian"])
def test_a_critic_whose_gradient_is_hidden_is_refused(estimator, critic):
    """It would return unguided samples under the name of guidance."""
    with pytest.raises(ValueError, match=r"has no gradient.*without detach\(\)"):
        guidance(estimator, 4, critic=critic)


def test_choosing_asks_for_no_gradient():
    chosen = sample_guided(
        *(MIXTURE, HIDDEN["through numpy"]),
        **{"estimator": "best_of_n", "weight": 1.0, "n_steps": 3, "n_particles": 50},
        generator=seeded(0),
    )
    assert chosen.actions.isfinite().all()


@pytest.mark.parametrize(
    "critic",
    [lambda a: torch.zeros(len(a)), lambda a: (a > 0.5) * 1.0, lambda a: a.detach() * 0 + 2.0],
    ids=["constant", "step", "detached constant"],
)
def test_a_critic_that_does_not_slope_has_gradient_zero(critic):
    assert (guidance("qgf", 4, critic=critic) == 0).all()
