"""Calls of QGF's public functions, with plain answers in numpy."""

import math

import numpy as np
import torch
from draws import near
from fuzzing import Case, calls, drawn, numbers
from hypothesis import strategies as st
from qgf_inputs import mixtures

from intuitive.qgf import ESTIMATORS, GaussianMixture, QuadraticCritic

ROOMS = ("tilting",)
LEFT_OUT = {
    "GuidedSample": "a record that sample_guided makes",
    "critics": "QuadraticCritic and GaussianBumps are tried",
    "exercise": "checks what a reader writes; test_qgf_exercise.py",
    "experiments": "each is run over every control by tests/widgets/test_every_explorer.py",
    "fork": "a world and its episodes; test_qgf_fork.py",
    "guidance": "the estimators, each of which sample_guided is tried with",
    "iql": "trains; test_qgf_iql.py",
    "learn": "trains; test_qgf_learn.py",
    "mixture": "GaussianMixture is tried",
    "model": "networks that are trained; test_qgf_model.py",
    "ogbench_tasks": "needs another package's simulator; test_qgf_ogbench.py",
    "policies": "rolls out trained agents; test_policies.py",
    "results": "reads committed files; test_qgf_results.py",
    "ring": "the ring's data and networks; test_ring.py",
    "sampling": "sample_guided is tried",
    "sweep": "samples for seconds; test_qgf_sweep.py",
    "tilting_vectors": "reached by tilt; test_qgf_tilting_vectors.py",
    "trimodal": "TrimodalParams is tried",
}
MIXTURE = GaussianMixture([-1.0, 0.5], [0.3, 0.4], [0.5, 0.5])
few = st.integers(1, 4)
GRID = torch.linspace(-6, 6, 241)


def draw_mixture(draw) -> dict:
    k = draw(few)
    means = draw(st.sampled_from([numbers(draw, k), numbers(draw, k).tolist()]))
    return {
        "means": means,
        "stds": (numbers(draw, k).abs() + 0.1).tolist(),
        "weights": draw(st.sampled_from([None, [1 / k] * k])),
    }


def density(mixture, positions):
    x = np.asarray(positions, dtype=float)[:, None]
    m, s, w = (v.double().numpy() for v in (mixture.means, mixture.stds, mixture.weights))
    return (w / (s * math.sqrt(2 * math.pi)) * np.exp(-((x - m) ** 2) / (2 * s * s))).sum(1)


def check_mixture(answer, **_):
    assert math.isclose(float(answer.weights.sum()), 1, abs_tol=1e-9)
    positions = torch.linspace(-2, 2, 5)
    if answer.action_size is not None:
        return
    np.testing.assert_allclose(
        answer.log_prob(positions).double().exp().numpy(), density(answer, positions), rtol=2e-4
    )


def check_tilt(answer, *, mixture, critic, weight, grid):
    p = density(mixture, grid.double()) * np.exp(
        float(weight) * (q := critic(grid.double()).numpy()) - float(weight) * q.max()
    )
    want = p / np.trapezoid(p, grid.double().numpy())
    peak = want.max()
    np.testing.assert_allclose(answer.double().numpy() / peak, want / peak, atol=near(grid)["atol"])


def draw_tilt(draw) -> dict:
    return {
        "mixture": draw(mixtures()),
        "critic": QuadraticCritic(draw(st.sampled_from([0.8, -1.0]))),
        "weight": draw(st.sampled_from([0.0, 1.0, 4.0])),
        "grid": GRID,
    }


def densities(draw):
    width = draw(st.sampled_from([0.5, 1.0]))
    p = (-(GRID**2) / (2 * width**2)).exp()
    return p / torch.trapezoid(p, GRID)


def check_distance(answer, **_):
    assert 0 <= answer < math.inf


def check_kl(answer, *, p, q, grid):
    a, b, x = (v.double().numpy() for v in (p, q, grid))
    a, b = a / np.trapezoid(a, x), b / np.trapezoid(b, x)
    tiny = np.finfo(np.float64).tiny
    want = np.trapezoid(a * (np.log(np.maximum(a, tiny)) - np.log(np.maximum(b, tiny))), x)
    assert math.isclose(answer, want, abs_tol=1e-3, rel_tol=1e-3)


def log_normal(x):
    return -0.5 * x.square() - 0.5 * math.log(2 * math.pi)


def draw_sampling(draw) -> dict:
    closed = [name for name in ESTIMATORS if name not in ("robust_q", "cfgrl")]
    return {
        "field": MIXTURE,
        "critic": QuadraticCritic(),
        "estimator": draw(st.sampled_from(closed)),
        "weight": draw(st.sampled_from([0.0, 0.5])),
        "n_steps": draw(st.integers(1, 4)),
        "n_particles": draw(st.integers(1, 5)),
        "generator": torch.Generator().manual_seed(draw(st.integers(0, 9))),
        "schedule": draw(st.sampled_from(["constant", "score"])),
        "clip": draw(st.sampled_from([None, (-2.0, 2.0)])),
        "gradient_norm": draw(st.sampled_from([None, 1.0])),
        "n_candidates": draw(st.integers(1, 3)),
        "ascent_steps": draw(st.integers(1, 3)),
        "step_size": 0.05,
    }


def check_sampling(answer, *, n_steps, n_particles, clip, **_):
    shape = tuple(np.atleast_1d(n_particles))
    assert answer.actions.shape == shape and len(answer.trajectory) == int(n_steps) + 1
    assert bool(answer.actions.isfinite().all())
    if clip is not None:
        assert bool(((answer.actions >= clip[0]) & (answer.actions <= clip[1])).all())


def check_nothing(answer, **_):
    assert answer is None


def check_values(answer, *, critic, actions):
    want = -(actions.double() - critic.peak).square()
    want = want if want.ndim == 1 else want.flatten(1).sum(1)
    torch.testing.assert_close(answer.double(), want, **near(actions))


SORTED = drawn(lambda draw: {"grid": numbers(draw, draw(st.integers(2, 6))).sort().values})
some = st.sampled_from

TABLE = {
    "GaussianMixture": Case(drawn(draw_mixture), check_mixture),
    "GaussianBumps": Case(
        calls(peaks=some([(0.3,), (1.0,)]), widths=some([(0.35,), (1.0,)]), heights=some([(1.0,)]))
    ),
    "QuadraticCritic": Case(calls(peak=some([0.8, -1.0]))),
    "tilt": Case(drawn(draw_tilt), check_tilt),
    "wasserstein1": Case(
        drawn(
            lambda draw: {
                "samples": numbers(draw, draw(few)),
                "density": densities(draw),
                "grid": GRID,
            }
        ),
        check_distance,
    ),
    "sample_guided": Case(
        drawn(draw_sampling), check_sampling, spared=("n_steps: beyond 64 bits",)
    ),
    "TrimodalParams": Case(
        calls(
            preset=some(["A", "B", "C"]),
            peak=some([0.3, -0.8]),
            critic=some(["gaussian", "quadratic"]),
            width=some([0.35]),
            bump_height=some([0.5, 2.0]),
            bump_real=st.booleans(),
            weight=some([0.5, 4.0]),
            n_steps=st.integers(1, 200),
            estimator=some(sorted(ESTIMATORS)),
            second=some(["none", "ood"]),
            n_particles=st.integers(100, 4000),
            seed=few,
            schedule=some(["constant", "score"]),
            time=some([0.5, 1.0]),
        )
    ),
    "tilting.kl_divergence": Case(
        drawn(lambda draw: {"p": densities(draw), "q": densities(draw), "grid": GRID}), check_kl
    ),
    "tilting.sample_kl": Case(
        drawn(
            lambda draw: {
                "samples": numbers(draw, draw(few)),
                "log_prob": log_normal,
                "bin_width": draw(some([0.1, 0.5])),
            }
        ),
    ),
    "tilting.one_dimension": Case(calls(mixture=some([MIXTURE])), check_nothing),
    "tilting.check_weight": Case(calls(weight=some([0.0, 1.5])), check_nothing),
    "tilting.critic_values": Case(
        drawn(lambda draw: {"critic": QuadraticCritic(), "actions": numbers(draw, draw(few))}),
        check_values,
    ),
    "tilting.check_grid": Case(SORTED, check_nothing),
}
