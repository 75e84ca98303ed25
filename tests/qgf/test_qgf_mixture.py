"""The closed-form flow of a mixture: densities, velocities and Jacobians against brute force."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qgf_inputs import mixtures

from intuitive.common.runtime import seeded
from intuitive.qgf import GaussianMixture
from intuitive.qgf.mixture import flow_endpoint
from intuitive.qgf.trimodal import PRESETS

WIDE = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
ONE = GaussianMixture([0.0], [1.0], [1.0])


some_mixtures = given(mixture=mixtures(), t=st.floats(0, 0.97))
few = settings(max_examples=25, deadline=None, derandomize=True)


def brute_moments(mixture, x, t):
    """Mean and variance of x_1 given x_t by summing over a fine grid."""
    y = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    logits = mixture.log_prob(y) - 0.5 * ((x[:, None] - t * y) / (1 - t)).square()
    share = logits.softmax(1)
    mean = (share * y).sum(1)
    return mean, (share * (y - mean[:, None]).square()).sum(1)


@few
@some_mixtures
def test_every_marginal_integrates_to_one(mixture, t):
    assert float(torch.trapezoid(mixture.log_prob_t(WIDE, t).exp(), WIDE)) == pytest.approx(
        1, abs=1e-6
    )


@few
@some_mixtures
def test_posterior_mean_and_jacobian_match_sums_over_the_posterior(mixture, t):
    x = torch.linspace(-2, 2, 7, dtype=torch.float64)
    mean, variance = brute_moments(mixture, x, t)
    torch.testing.assert_close(mixture.posterior_mean(x, t), mean, atol=1e-5, rtol=1e-5)
    want = t / (1 - t) ** 2 * variance
    torch.testing.assert_close(mixture.posterior_mean_jacobian(x, t), want, atol=1e-4, rtol=1e-4)


@few
@some_mixtures
def test_one_euler_jump_is_the_posterior_mean(mixture, t):
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    jump = x + (1 - t) * mixture.velocity(x, t)
    torch.testing.assert_close(jump, mixture.posterior_mean(x, t), atol=1e-10, rtol=0)


@few
@some_mixtures
def test_jacobian_is_the_finite_difference_of_the_mean(mixture, t):
    x, h = torch.linspace(-2, 2, 9, dtype=torch.float64), 1e-5
    ahead, behind = (mixture.posterior_mean(x + side * h, t) for side in (1, -1))
    got = mixture.posterior_mean_jacobian(x, t)
    torch.testing.assert_close(got, (ahead - behind) / (2 * h), atol=1e-4, rtol=1e-3)
    assert (got >= 0).all()


@few
@given(mixture=mixtures(), t=st.floats(0.05, 0.97))
def test_velocity_follows_from_the_score(mixture, t):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    (score,) = torch.autograd.grad(mixture.log_prob_t(x, t).sum(), x)
    want = x / t + (1 - t) / t * score
    torch.testing.assert_close(mixture.velocity(x, t), want, atol=1e-7, rtol=1e-7)


@few
@some_mixtures
def test_float32_agrees_with_float64(mixture, t):
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)
    for method in (mixture.velocity, mixture.posterior_mean):
        narrow = method(x.float(), t)
        assert narrow.dtype == torch.float32
        off = (narrow.double() - method(x.float().double(), t)).abs().max()
        assert off < 5e-3  # steepest where a ridge between sharp modes meets late times


@pytest.mark.parametrize("t", [0.3, 0.9])
def test_chain_jacobian_of_the_exact_flow_is_a_ratio_of_densities(t):
    mixture, h = PRESETS["B"].mixture, 1e-4
    x = torch.linspace(-1.1, 1.1, 23, dtype=torch.float64)
    ends = flow_endpoint(mixture, torch.stack((x - h, x, x + h)), t)
    slope = (ends[2] - ends[0]) / (2 * h)
    want = (mixture.log_prob_t(x, t) - mixture.log_prob(ends[1])).exp()
    torch.testing.assert_close(slope, want, atol=2e-3, rtol=2e-3)


def test_jacobian_spikes_between_modes_and_is_small_within():
    """Spec B at t = 0.9, over the marginal: a median near 1/4, a maximum far above 3."""
    mixture, t = PRESETS["B"].mixture, 0.9
    x = t * mixture.sample(50_000, seeded(0)).double()
    x += (1 - t) * torch.randn(50_000, generator=seeded(1))
    jacobian = mixture.posterior_mean_jacobian(x, t)
    assert float(jacobian.median()) == pytest.approx(0.25, abs=0.03)
    assert 2.5 < float(jacobian.quantile(0.99)) < 5
    assert float(jacobian.max()) > 10


def test_the_ends_of_the_flow():
    mixture, x = PRESETS["A"].mixture, torch.linspace(-3, 3, 13, dtype=torch.float64)
    torch.testing.assert_close(mixture.log_prob_t(x, 0), ONE.log_prob(x))
    mean = float((mixture.weights * mixture.means).sum())
    torch.testing.assert_close(mixture.posterior_mean(x, 0), torch.full_like(x, mean))
    assert (mixture.posterior_mean_jacobian(x, 0) == 0).all()
    torch.testing.assert_close(mixture.posterior_mean(x, 1), x)
    torch.testing.assert_close(mixture.velocity(x, 1), x)
    assert torch.equal(mixture.log_prob(x), mixture.log_prob_t(x, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [0.0, 0.5, 0.999, 1.0])
def test_far_tails_and_sharp_modes_stay_finite(dtype, t):
    mixture = GaussianMixture([-1.0, 0.0, 2.0], [1e-4, 0.5, 1e-3], [0.2, 0.3, 0.5])
    x = torch.tensor([-1e25, -1e6, -40.0, 0.3, 40.0, 1e6, 1e25], dtype=dtype)
    for method in (mixture.velocity, mixture.posterior_mean, mixture.log_prob_t):
        assert method(x, t).isfinite().all()
    assert mixture.posterior_mean_jacobian(x[1:-1], t).isfinite().all()


def test_in_the_tails_the_widest_component_answers():
    mixture, t = GaussianMixture([-1.0, 1.0], [0.1, 0.5], [0.9, 0.1]), 0.8
    x = torch.tensor([30.0], dtype=torch.float64)  # both densities underflow
    c = t**2 * 0.25 + 0.04
    torch.testing.assert_close(mixture.posterior_mean(x, t), 1 + t * 0.25 / c * (x - t))


def test_isotropic_mixture_on_an_axis_is_the_one_dimensional_one():
    line = GaussianMixture([-1.0, 0.5], [0.2, 0.4], [0.3, 0.7])
    plane = GaussianMixture([[-1.0, 0.0], [0.5, 0.0]], [0.2, 0.4], [0.3, 0.7])
    assert line.action_size is None and plane.action_size == 2
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    on_axis = torch.stack((x, torch.zeros_like(x)), -1)
    t = 0.0  # later the components' heights differ between dimensions
    torch.testing.assert_close(plane.velocity(on_axis, t)[:, 0], line.velocity(x, t))
    equal = (GaussianMixture(m, [0.3, 0.3], [0.3, 0.7]) for m in ([-1.0, 0.5], plane.means))
    line, plane = equal
    for t in (0.4, 0.9):
        torch.testing.assert_close(plane.velocity(on_axis, t)[:, 0], line.velocity(x, t))
        got = plane.posterior_mean_jacobian(on_axis, t)
        torch.testing.assert_close(got[:, 0, 0], line.posterior_mean_jacobian(x, t))
        torch.testing.assert_close(got, got.mT)


def test_jacobian_in_the_plane_is_that_of_autograd():
    mixture = GaussianMixture(
        [[-1.0, 0.3], [0.5, 1.0], [0.2, -0.9]], [0.2, 0.4, 0.1], [0.3, 0.5, 0.2]
    )
    x, t = torch.tensor([[0.1, 0.2], [0.4, -0.5]], dtype=torch.float64), 0.7
    for row, got in zip(x, mixture.posterior_mean_jacobian(x, t), strict=True):
        want = torch.autograd.functional.jacobian(lambda y: mixture.posterior_mean(y, t), row)
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("means", [[-1.0, 2.0], [[-1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]])
def test_samples_have_the_mixtures_mean_and_spread(means):
    mixture = GaussianMixture(means, [0.5, 0.1], [0.25, 0.75])
    x = mixture.sample(40_000, seeded(0))
    assert x.dtype == torch.float32
    share = mixture.weights.reshape(-1, *[1] * (mixture.means.ndim - 1))
    mean = (share * mixture.means).sum(0)
    square = (share * (mixture.means.square() + mixture.stds.square().reshape(share.shape))).sum(0)
    torch.testing.assert_close(x.double().mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(x.double().square().mean(0), square, atol=0.06, rtol=0)
    assert torch.equal(x, mixture.sample(40_000, seeded(0)))


def test_samples_of_float64_tensors_are_float64():
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert GaussianMixture([0, 1, 2], [1, 1, 1], third).sample(3, seeded(0)).dtype == torch.float64


def test_a_mixture_born_in_inference_mode_can_be_differentiated():
    with torch.inference_mode():
        mixture = GaussianMixture(torch.zeros(2), torch.ones(2), torch.full((2,), 0.5))
    x = torch.zeros(3, requires_grad=True)
    mixture.velocity(x, 0.5).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    ("means", "stds", "weights", "message"),
    [
        ([], [], [], r"\(0,\).*empty mixture.*Give one mean"),
        ([0.0], [0.0], [1.0], r"stds=\[0.0\].*above 0"),
        ([0.0, 1.0], [1.0, -0.5], [0.5, 0.5], "-0.5.*above 0"),
        ([0.0, 1.0], [1.0, 1.0], [0.5, 0.6], "sum to one, but sum to 1.1.*divide"),
        ([0.0, 1.0], [1.0, 1.0], [1.5, -0.5], "at least 0"),
        ([0.0, 1.0], [1.0, 1.0], [0.33, 0.66], "sum to 0.99"),
        ([math.nan], [1.0], [1.0], "means=.*finite"),
        ([0.0], [math.inf], [1.0], "stds=.*finite"),
        ([0.0, 1.0], [1.0], [0.5, 0.5], r"stds have shape \(1,\).*2 means"),
        ([0.0, 1.0], [1.0, 1.0], [1.0], r"weights have shape \(1,\)"),
        (0.0, 1.0, 1.0, r"\[k\] or \[k, d\]"),
    ],
)
def test_impossible_mixtures_are_refused(means, stds, weights, message):
    with pytest.raises(ValueError, match=message):
        if isinstance(means, float):
            means, stds, weights = map(torch.tensor, (means, stds, weights))
        GaussianMixture(means, stds, weights)


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        (torch.zeros(2), 1.5, r"t=1.5 must lie in \[0, 1\]"),
        (torch.zeros(2), math.nan, "t=nan"),
        (torch.tensor([0.0, math.nan]), 0.5, "1 of 2 positions are NaN"),
    ],
)
def test_impossible_questions_are_refused(x, t, message):
    with pytest.raises(ValueError, match=message):
        ONE.velocity(x, t)


def test_positions_of_another_dimension_are_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 3\).*d=2"):
        GaussianMixture([[0.0, 0.0]], [1.0], [1.0]).velocity(torch.zeros(4, 3), 0.5)
    with pytest.raises(ValueError, match="n=0"):
        ONE.sample(0, seeded(0))


# ------------------------------------------------------------------------------- few digits


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_and_nothing_else(dtype):
    """Also at t = 1, where v = x."""
    mixture = PRESETS["B"].mixture
    x = torch.linspace(-2, 2, 41).to(dtype)
    for t in (0.0, 0.5, 0.9, 1.0):
        for name in ("velocity", "posterior_mean", "posterior_mean_jacobian", "log_prob_t"):
            got = getattr(mixture, name)(x, t)
            want = getattr(mixture, name)(x.double(), t)
            assert got.dtype == dtype
            close = {"rtol": 0.02, "atol": 0.02}
            torch.testing.assert_close(got.double(), want.to(dtype).double(), **close)
    assert torch.equal(mixture.velocity(x, 1.0), x)


@pytest.mark.parametrize("std", [1e-20, 1e-150, 1e-300])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_modes_too_narrow_for_the_dtype_are_points(std, dtype):
    """σ² vanishes in the dtype: the flow still ends in x at t = 1, and aims at a mode before."""
    mixture = GaussianMixture([-1.0, 0.5], [std, std])
    x = torch.tensor([-1.0, -0.3, 0.5, 2.0], dtype=dtype)
    torch.testing.assert_close(mixture.velocity(x, 1.0), x)
    torch.testing.assert_close(mixture.posterior_mean(x, 1.0), x)
    aimed = mixture.posterior_mean(x, 0.99)
    torch.testing.assert_close(aimed, torch.tensor([-1.0, -1.0, 0.5, 0.5], dtype=dtype))
