"""The Euler loop: what every estimator shares, exact guidance against the tilt, errors."""

import math

import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.qgf import GaussianMixture, QuadraticCritic, sample_guided, tilt, wasserstein1
from intuitive.qgf.critics import GaussianBumps
from intuitive.qgf.guidance import ESTIMATORS
from intuitive.qgf.trimodal import PRESETS

SPEC_A, SPEC_B = PRESETS["A"].mixture, PRESETS["B"].mixture
PLANE = GaussianMixture([[0.8, 0.0], [-0.4, 0.7], [-0.4, -0.7]], [0.1] * 3, [0.2, 0.3, 0.5])
ONE_DIMENSION = {"robust_q", "cfgrl"}


def sample(estimator, field=SPEC_B, critic=PRESETS["B"].q, **options):
    setting = {"weight": 1.0, "n_steps": 10, "n_particles": 300, "generator": seeded(0)}
    return sample_guided(field, critic, estimator=estimator, **(setting | options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_weight_all_are_the_same_policy(estimator, dtype):
    start = torch.randn(300, generator=seeded(0)).to(dtype)
    got, bc = (sample(e, weight=0.0, start=start) for e in (estimator, "bc"))
    assert got.actions.dtype == dtype
    assert torch.equal(got.actions, bc.actions)
    assert torch.equal(got.trajectory, bc.trajectory)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_shapes_and_that_a_seed_repeats(estimator):
    got = sample(estimator)
    assert got.actions.shape == (300,)
    assert got.trajectory.shape == (11, 300) and got.guidance.shape == (10, 300)
    assert got.queries.ndim == 2 and got.queries.shape[1] == 300
    assert got.times[0] == 0 and got.times[-1] == 1
    assert torch.equal(got.actions, sample(estimator).actions)
    if estimator not in ("grad_step", "best_of_n"):
        assert torch.equal(got.trajectory[-1], got.actions)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_of_a_batch_are_samples_of_their_own_weight(estimator):
    start = torch.randn(2, 3, 40, generator=seeded(1), dtype=torch.float64)
    weights = torch.tensor([0.5, 2.0])
    options = {"n_particles": (2, 3, 40), "n_candidates": 1, "n_steps": 5}
    both = sample(estimator, weight=weights[:, None, None], start=start, **options)
    for i, w in enumerate(weights.tolist()):
        alone = sample(estimator, weight=w, start=start[i], **(options | {"n_particles": (3, 40)}))
        torch.testing.assert_close(both.actions[i], alone.actions, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if e not in ONE_DIMENSION])
def test_two_dimensions(estimator):
    got = sample(estimator, PLANE, QuadraticCritic(0.6), n_particles=(2, 50))
    assert got.actions.shape == (2, 50, 2) and got.trajectory.shape == (11, 2, 50, 2)
    still = sample(estimator, PLANE, QuadraticCritic(0.6), n_particles=(2, 50), weight=0.0)
    assert torch.equal(
        still.actions, sample("bc", PLANE, QuadraticCritic(0.6), n_particles=(2, 50)).actions
    )
    if estimator != "bc":
        q = QuadraticCritic(0.6)
        assert float(q(got.actions.reshape(-1, 2)).mean()) > float(
            q(still.actions.reshape(-1, 2)).mean()
        )


def test_the_last_step_of_qgf_is_one_step_of_ascent():
    """a_1 = x̂_1 + (w/T) ∇Q(x̂_1): sign and time as in trap 1."""
    w, n_steps = 3.0, 7
    critic = GaussianBumps((0.3,), (0.35,), (1.0,))
    got = sample("qgf", critic=critic, weight=w, n_steps=n_steps, n_particles=50)
    before, t = got.trajectory[-2].double(), (n_steps - 1) / n_steps
    estimate = before + (1 - t) * SPEC_B.velocity(before, t)
    torch.testing.assert_close(got.queries[-1].double(), estimate, atol=1e-6, rtol=1e-5)
    estimate.requires_grad_()
    (gradient,) = torch.autograd.grad(critic(estimate).sum(), estimate)
    want = (estimate + w / n_steps * gradient).detach()
    torch.testing.assert_close(got.actions.double(), want, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------- exact guidance and the tilt

CASES = {
    "Spec A": (SPEC_A, QuadraticCritic(0.8), 1.0),
    "Spec C": (PRESETS["C"].mixture, PRESETS["C"].q, 4.0),
    "one wide mode, far peak": (GaussianMixture([0.2], [0.3], [1.0]), QuadraticCritic(2.0), 20.0),
    "uneven": (
        GaussianMixture([-1.0, 0.0, 0.7, 1.5], [0.02, 0.4, 0.1, 0.25], [0.2, 0.4, 0.1, 0.3]),
        GaussianBumps((0.8,), (0.2,), (1.0,)),
        2.0,
    ),
    "roof": (GaussianMixture([-0.5, 0.6], [0.3, 0.1], [0.7, 0.3]), lambda a: -(a - 0.2).abs(), 5.0),
    "jump": (GaussianMixture([-0.5, 0.6], [0.3, 0.1], [0.7, 0.3]), lambda a: (a > -0.4) * 1.0, 3.0),
}


@pytest.mark.parametrize("case", CASES)
def test_exact_guidance_samples_the_tilt(case):
    """W1 < 0.02 at T = 100, from evenly spaced quantiles of the noise, free of sampling error."""
    mixture, critic, weight = CASES[case]
    n = 600
    noise = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    grid = torch.linspace(-5, 5, 10_001, dtype=torch.float64)
    options = {"weight": weight, "n_steps": 100, "n_particles": n, "start": noise}
    got = sample("exact", mixture, critic, **options)
    assert wasserstein1(got.actions, tilt(mixture, critic, weight, grid), grid) < 0.02


def test_exact_guidance_from_random_noise_at_the_sampling_floor():
    grid = torch.linspace(-4, 4, 8001)
    start = torch.randn(4000, generator=seeded(0))
    got = sample("exact", n_steps=100, n_particles=4000, start=start)
    assert got.actions.dtype == torch.float32
    density = tilt(SPEC_B, PRESETS["B"].q, 1.0, grid)
    assert wasserstein1(got.actions, density, grid) < 0.02


def test_modes_of_the_unguided_flow_even_out_with_more_steps():
    """Spec A at T = 10: .31/.38/.29, an effect of Euler's steps; one third each at T = 200."""

    def masses(n_steps):
        a = sample("bc", SPEC_A, n_steps=n_steps, n_particles=20_000).actions
        return torch.stack([((a - m).abs() < 0.45).double().mean() for m in (-2.0, 0.8, 2.0)])

    coarse = torch.tensor([0.31, 0.38, 0.29]).double()
    torch.testing.assert_close(masses(10), coarse, atol=0.015, rtol=0)
    torch.testing.assert_close(masses(200), torch.full((3,), 1 / 3).double(), atol=0.015, rtol=0)


# ------------------------------------------------------------------------------------ the rest


def test_ascent_and_choice_act_on_finished_samples():
    bc = sample("bc")
    q = PRESETS["B"].q
    for estimator in ("grad_step", "best_of_n"):
        got = sample(estimator)
        assert (q(got.actions) >= q(bc.actions) - 1e-6).all()
    climbed = sample("grad_step", ascent_steps=5)
    assert torch.equal(climbed.trajectory, bc.trajectory)
    assert climbed.queries.shape == (5, 300) and torch.equal(climbed.queries[0], bc.actions)
    chosen = sample("best_of_n", n_candidates=6)
    assert torch.equal(chosen.queries[0], bc.actions)  # the first candidate
    best = q(chosen.queries.flatten()).reshape(6, 300).amax(0)
    torch.testing.assert_close(q(chosen.actions), best)
    assert torch.equal(chosen.trajectory[-1], chosen.actions)


def test_clip_bounds_actions_and_questions_but_not_the_way():
    got = sample("qgf", clip=(-0.5, 0.5), weight=3.0)
    assert float(got.actions.abs().max()) <= 0.5 and float(got.queries.abs().max()) <= 0.5
    assert float(got.trajectory.abs().max()) > 1


def test_passes_are_counted():
    """Per action, T = 10: what each method pays; chain walks 10 + 9 + ... + 1 steps."""

    def passes(estimator, **options):
        p = sample(estimator, n_particles=3, **options).passes
        return p.field_forward, p.field_backward, p.critic_forward, p.critic_backward

    assert passes("bc") == (10, 0, 0, 0)
    assert passes("ood") == passes("qgf") == (10, 0, 10, 10)
    assert passes("chain") == (55, 0, 10, 10)
    assert passes("bptt") == (65, 55, 10, 10)
    assert passes("best_of_n", n_candidates=16) == (160, 0, 16, 0)
    assert passes("grad_step") == (10, 0, 3, 3)
    assert passes("qgf", critic=[QuadraticCritic(0.1)] * 2) == (10, 0, 20, 20)


@pytest.mark.parametrize("estimator", ["qgf", "bptt", "qgf_jacobian", "exact", "robust_q"])
def test_works_inside_inference_mode(estimator):
    want = sample(estimator, n_steps=3)
    with torch.inference_mode():
        start = torch.randn(300, generator=seeded(0)).double()
        got = sample(estimator, n_steps=3, start=start, weight=torch.tensor(1.0))
    assert torch.equal(want.actions, got.actions)


def test_stops_when_stale():
    with pytest.raises(Cancelled):
        sample("qgf", stale=lambda: True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_steps": 0}, "n_steps=0 must be at least 1: the paper takes 10"),
        ({"n_steps": -3}, "n_steps=-3"),
        ({"weight": math.nan}, "weight=nan must be finite and at least 0"),
        ({"weight": -0.5}, "weight=-0.5"),
        ({"weight": torch.ones(7)}, r"shape \(7,\).*broadcast"),
        ({"n_particles": 0}, "n_particles=0"),
        ({"schedule": "cosine"}, "schedule='cosine' is unknown; choose one of"),
        ({"clip": (1.0, -1.0)}, "low < high"),
        ({"gradient_norm": 0.0}, "gradient_norm=0.0 must be above 0"),
        ({"n_candidates": 0}, "n_candidates=0"),
        ({"ascent_steps": 0}, "ascent_steps=0"),
        ({"start": torch.zeros(4)}, r"start has shape \(4,\).*300"),
        ({"start": torch.full((300,), math.nan)}, "start has entries that are not finite"),
        ({"critic": lambda a: a[:, None]}, r"\(300, 1\).*one value per action"),
        ({"critic": lambda a: a.sum()}, r"returned \(\)"),
        ({"critic": lambda a: a * math.nan}, "returned nan at the action"),
        ({"critic": []}, "at least one"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sample("qgf", **change)


def test_an_unknown_estimator_names_the_known():
    with pytest.raises(ValueError, match="estimator='dps' is unknown; choose one of bc, ood, qgf"):
        sample("dps")


def test_particles_that_run_away_are_named():
    """Beyond Euler's limit OOD leaves every bound; the message says what to change."""
    with pytest.raises(ValueError, match="lower the weight or take more steps"):
        sample("ood", SPEC_A, QuadraticCritic(0.8), weight=1e6, n_steps=100)


def test_particles_beyond_all_numbers_are_named():
    with pytest.raises(ValueError, match=r"no longer finite after step \d+ of 10: lower"):
        sample("cfgrl", weight=1e30)
