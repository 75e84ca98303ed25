"""Three modes in one dimension: presets A, B, C and the numbers behind the explorers.

`trimodal` follows particles through the flow under one or two estimators, beside the exact
answer; `sweep_weights` and `frontier` compare estimators over the guidance weight; `jacobians` and
`jitter` ask how much the flow and the estimators' gradients change from a point to its neighbour.

A: the critic is perfect, and only the scale of noisy actions misleads. B: a bump of the critic,
outside the data but inside the noise, that no return pays. C: the mean of the data deceives QGF.
Presets and numbers are ours: the paper's figure gives neither positions nor weights.

Arrays in results are read-only numpy arrays. Everything is computed in float64, in which even
guidance beyond the stability limit stays finite.

Source: Zhou et al. 2026, arXiv:2606.11087, Section 4 (a flow to three modes).
"""

import functools
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from .critics import (
    Critic,
    GaussianBumps,
    QuadraticCritic,
    Sum,
    largest_curvature,
    stability_number,
)
from .guidance import ESTIMATORS, SCHEDULES
from .mixture import GaussianMixture
from .sampling import GuidedSample, guided_velocity, sample_guided
from .tilting import Posterior, kl_divergence, sample_kl, tilt, wasserstein1

Stale = Callable[[], bool]

MEANS = {"A": (-2.0, 0.8, 2.0), "B": (-0.8, 0.3, 0.8), "C": (-0.8, 0.3, 0.8)}
STDS = {"A": 0.15, "B": 0.06, "C": 0.06}
VIEWS = {"A": (-4.0, 4.0), "B": (-3.0, 3.0), "C": (-3.0, 3.0)}
CRITICS = ("gaussian", "quadratic")
WEIGHTS = tuple(round(10 ** (i / 6 - 1), 4) for i in range(16))  # 0.1 to 31.6
COMPARED = ("ood", "qgf", "qgf_jacobian", "flow_dps", "chain", "bptt", "best_of_n", "exact")

N_SHOWN = 300  # particles whose paths are kept
N_FRAMES = 21  # at most so many times carry marginals
N_COLUMNS = 40  # at most so many steps in the map of velocities
N_MAP = 61  # positions in that map
N_BINS = 80  # of the marginals; the final histogram has twice as many
N_GRID = 161  # positions of densities in time
N_FINE = 1201  # positions of the final densities
OFF_MODE = 3.0  # standard deviations from every mean


_recent: dict["TrimodalParams", "TrimodalResult"] = {}
_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class TrimodalParams(Settings):
    """One setting of the tri-modal flow; `PRESETS` holds the three to start from."""

    preset: str = "B"  # decides the mixture
    peak: float = 0.3  # a*, where the main part of the critic is highest
    critic: str = "gaussian"  # or "quadratic": the main part
    width: float = 0.35  # of the Gaussian main part
    bump_position: float = -1.8
    bump_height: float = 2.0
    bump_width: float = 0.35
    bump_real: bool = False  # does the return pay for the bump?
    weight: float = 1.0  # w
    n_steps: int = 10  # Euler steps T
    estimator: str = "qgf"
    second: str = "none"  # another estimator beside it
    n_particles: int = 4000
    n_candidates: int = 4  # of best_of_n
    seed: int = 0
    schedule: str = "constant"  # or "score", the factor (1 - t)/t
    time: float = 1.0  # t, at which the reader looks

    def __post_init__(self) -> None:
        for name, known in (
            ("preset", tuple(MEANS)),
            ("critic", CRITICS),
            ("estimator", tuple(ESTIMATORS)),
            ("second", ("none", *ESTIMATORS)),
            ("schedule", SCHEDULES),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {known}.")
        for name, low, high in (
            ("peak", -4, 4),
            ("width", 0.05, 4),
            ("bump_position", -6, 6),
            ("bump_height", -10, 10),
            ("bump_width", 0.05, 4),
            ("weight", 0, 100),
            ("n_steps", 1, 200),
            ("n_particles", 100, 100_000),
            ("n_candidates", 1, 64),
            ("time", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:  # NaN included
                raise ValueError(f"{name}={value} must lie in [{low}, {high}]: move it inside.")

    @property
    def mixture(self) -> GaussianMixture:
        """The behaviour-cloned policy's distribution of actions."""
        means = MEANS[self.preset]
        third = torch.full((3,), 1 / 3, dtype=torch.float64)
        return GaussianMixture(means, [STDS[self.preset]] * 3, third)

    @property
    def main(self) -> Critic:
        """The critic without its bump."""
        if self.critic == "quadratic":
            return QuadraticCritic(self.peak)
        return GaussianBumps((self.peak,), (self.width,), (1.0,))

    @property
    def q(self) -> Critic:
        """The critic: main part and bump."""
        bump = GaussianBumps((self.bump_position,), (self.bump_width,), (self.bump_height,))
        return Sum((self.main, bump)) if self.bump_height else self.main

    @property
    def true_return(self) -> Critic:
        """What an action really earns."""
        return self.q if self.bump_real else self.main

    @property
    def stability(self) -> float:
        """(w/T) times the critic's largest curvature on the data; Euler's limit is 2."""
        means, reach = MEANS[self.preset], OFF_MODE * STDS[self.preset]
        curvature = largest_curvature(self.q, means[0] - reach, means[-1] + reach)
        return stability_number(curvature, self.weight, self.n_steps)


PRESETS = {
    "A": TrimodalParams(preset="A", peak=0.8, critic="quadratic", bump_height=0.0),
    "B": TrimodalParams(),
    "C": TrimodalParams(
        preset="C",
        peak=-0.8,
        width=0.12,
        bump_position=0.8,
        bump_height=0.5,
        bump_width=0.6,
        bump_real=True,
        weight=4.0,
        n_steps=20,
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One estimator's particles. n_frames counts the times of `TrimodalResult.frame_times`."""

    estimator: str
    trajectory: Float[np.ndarray, "n_times n_shown"]  # the first particles, at `times`
    query_times: Float[np.ndarray, " n_asked"]
    queries: Float[np.ndarray, "n_asked n_shown"]  # where the critic was asked
    final_mode: Int[np.ndarray, " n_shown"]  # counted from the left; -1 is off every mode
    velocity: Float[np.ndarray, "n_map n_columns"]  # field plus guidance, at map_x and map_times
    guidance: Float[np.ndarray, "n_map n_columns"]  # of it, the guidance
    marginals: Float[np.ndarray, "n_frames n_bins"]  # densities of all particles
    histogram: Float[np.ndarray, " n_final_bins"]  # density of the actions
    actions: Float[np.ndarray, " n"]
    w1: float  # to the exact tilt
    kl_to_tilt: float  # nats, by histogram (`sample_kl`)
    kl_to_bc: float
    critic_mean: float
    return_mean: float
    mode_masses: tuple[float, ...]
    off_mode: float  # share of particles farther than 3σ from every mean
    outside: float  # share of particles outside the view
    passes: int  # of networks, per action, had these been networks
    ms: float  # of sampling, all particles


@dataclass(frozen=True, kw_only=True, eq=False)
class TrimodalResult:
    """The flow under one or two estimators, beside the exact answer."""

    params: TrimodalParams
    runs: tuple[Run, ...]  # the estimator, then the second if there is one
    view: tuple[float, float]  # positions worth drawing
    means: tuple[float, ...]
    std: float
    times: Float[np.ndarray, " n_times"]
    stability: float  # (w/T) λ_max(-Q''); above 2 steps overshoot
    frame_times: Float[np.ndarray, " n_frames"]
    x: Float[np.ndarray, " n_grid"]
    density: Float[np.ndarray, " n_grid"]  # p_t of the unguided flow, at the frame looked at
    tilted: Float[np.ndarray, " n_grid"]  # p*_t, whose end is the exact tilt, likewise
    bin_edges: Float[np.ndarray, " n_edges"]
    final_edges: Float[np.ndarray, " n_final_edges"]
    map_x: Float[np.ndarray, " n_map"]
    map_times: Float[np.ndarray, " n_columns"]  # when each column's Euler step begins
    fine: Float[np.ndarray, " n_fine"]
    fine_density: Float[np.ndarray, " n_fine"]  # p_1
    fine_tilted: Float[np.ndarray, " n_fine"]  # p*
    fine_critic: Float[np.ndarray, " n_fine"]
    fine_return: Float[np.ndarray, " n_fine"]
    tilt_critic: float  # means under the exact tilt
    tilt_return: float
    bc_critic: float  # means under the data
    bc_return: float

    @property
    def frame(self) -> int:
        """The frame looked at, nearest to `params.time`."""
        return _nearest(self.frame_times, self.params.time)


def trimodal(
    params: TrimodalParams, *, stale: Stale = never, progress: Progress = silent
) -> TrimodalResult:
    """Sample with the chosen estimators and set the exact answer beside them.

    Settings that differ in `time` alone share one sample; only the exact densities at that time
    are computed anew.

    Args:
        params: the setting.
        stale: turns true when nobody waits; asked at every Euler step.
        progress: called with a share in [0, 1] and a sentence before each estimator.

    Raises:
        Cancelled: `stale()` became true.
    """
    timeless = replace(params, time=1.0)
    with torch.inference_mode(False), torch.no_grad():
        with _lock:
            found = _recent.get(timeless)
        if found is None:
            found = _trimodal(timeless, stale, progress)
            with _lock:
                _recent[timeless] = found
                while len(_recent) > 8:
                    _recent.pop(next(iter(_recent)))
        return replace(found, params=params, **_densities(params, found.frame_times))


def _densities(params: TrimodalParams, frame_times: np.ndarray) -> dict[str, np.ndarray]:
    """What of `TrimodalResult` depends on the time looked at."""
    t = float(frame_times[_nearest(frame_times, params.time)])
    x = torch.linspace(*VIEWS[params.preset], N_GRID, dtype=torch.float64)
    exact = _exact(replace(params, time=1.0))
    return {
        "density": _array(params.mixture.log_prob_t(x, t).exp()),
        "tilted": _array(exact.log_prob_t(x, t).exp()),
    }


@functools.lru_cache(maxsize=8)
def _exact(params: TrimodalParams) -> Posterior:
    """The exact tilt as a flow."""
    return Posterior(params.mixture, lambda a: params.weight * params.q(a))


def _nearest(times: np.ndarray, t: int | float) -> int:
    return int(np.abs(times - t).argmin())


def _trimodal(params: TrimodalParams, stale: Stale, progress: Progress) -> TrimodalResult:
    mixture, q, r = params.mixture, params.q, params.true_return
    low, high = VIEWS[params.preset]
    x = torch.linspace(low, high, N_GRID, dtype=torch.float64)
    fine = torch.linspace(low, high, N_FINE, dtype=torch.float64)
    frames = _spread(params.n_steps + 1, N_FRAMES)
    frame_times = np.array(frames) / params.n_steps
    exact = _exact(params)
    tilted, density = tilt(mixture, q, params.weight, fine), mixture.log_prob(fine).exp()
    names = [params.estimator] + [params.second] * (params.second != "none")
    runs = []
    for i, name in enumerate(names):
        check(stale)
        progress(i / len(names), f"Sampling with {name}")
        runs.append(_run(params, name, exact, tilted, fine, frames, stale))
    check(stale)
    return TrimodalResult(
        params=params,
        runs=tuple(runs),
        view=(low, high),
        means=MEANS[params.preset],
        std=STDS[params.preset],
        times=_array(torch.arange(params.n_steps + 1) / params.n_steps),
        stability=params.stability,
        frame_times=frame_times,
        x=_array(x),
        **_densities(params, frame_times),
        bin_edges=_array(torch.linspace(low, high, N_BINS + 1, dtype=torch.float64)),
        final_edges=_array(torch.linspace(low, high, 2 * N_BINS + 1, dtype=torch.float64)),
        map_x=_array(_map_x(params)),
        map_times=np.array(_spread(params.n_steps, N_COLUMNS)) / params.n_steps,
        fine=_array(fine),
        fine_density=_array(density),
        fine_tilted=_array(tilted),
        fine_critic=_array(q(fine)),
        fine_return=_array(r(fine)),
        tilt_critic=float(torch.trapezoid(tilted * q(fine), fine)),
        tilt_return=float(torch.trapezoid(tilted * r(fine), fine)),
        bc_critic=float(torch.trapezoid(density * q(fine), fine)),
        bc_return=float(torch.trapezoid(density * r(fine), fine)),
    )


def _run(
    params: TrimodalParams,
    name: str,
    exact: Posterior,
    tilted: Tensor,
    fine: Tensor,
    frames: list[int],
    stale: Stale,
) -> Run:
    low, high = VIEWS[params.preset]
    begin = time.perf_counter()
    sample = _sample(params, name, params.weight, params.n_particles, stale)
    ms = 1e3 * (time.perf_counter() - begin)
    field, push = guided_velocity(
        params.mixture,
        params.q,
        _map_x(params),
        estimator=name,
        weight=params.weight,
        n_steps=params.n_steps,
        schedule=params.schedule,
        steps=_spread(params.n_steps, N_COLUMNS),
        stale=stale,
    )
    a = sample.actions
    check(stale)
    mode = _modes(params, a)
    queries = sample.queries[:, :N_SHOWN]
    at_steps = len(queries) == params.n_steps and name not in ("grad_step", "best_of_n")
    bin_width = STDS[params.preset] / 3
    # the flow ends before grad_step climbs; the last frame shows the actions themselves
    path = torch.cat((sample.trajectory[:-1], a[None]))
    return Run(
        estimator=name,
        trajectory=_array(path[:, :N_SHOWN]),
        query_times=_array(sample.times[:-1] if at_steps else torch.ones(len(queries))),
        queries=_array(queries),
        final_mode=_array(mode[:N_SHOWN]),
        velocity=_array((field + push).T),
        guidance=_array(push.T),
        marginals=_array(_histograms(path[frames], low, high, N_BINS)),
        histogram=_array(_histograms(a[None], low, high, 2 * N_BINS)[0]),
        actions=_array(a),
        w1=wasserstein1(a, tilted, fine),
        kl_to_tilt=sample_kl(a, lambda x: exact.log_prob_t(x, 1), bin_width=bin_width),
        kl_to_bc=sample_kl(a, params.mixture.log_prob, bin_width=bin_width),
        critic_mean=float(params.q(a).mean()),
        return_mean=float(params.true_return(a).mean()),
        mode_masses=tuple(float((mode == k).double().mean()) for k in range(3)),
        off_mode=float((mode < 0).double().mean()),
        outside=float(((a < low) | (a > high)).double().mean()),
        passes=sample.passes.total,
        ms=ms,
    )


def _sample(
    params: TrimodalParams,
    name: str,
    weight: float | Tensor,
    n_particles: int | tuple[int, ...],
    stale: Stale,
) -> GuidedSample:
    return sample_guided(
        params.mixture,
        params.q,
        estimator=name,
        weight=weight,
        n_steps=params.n_steps,
        n_particles=n_particles,
        generator=seeded(params.seed),
        schedule=params.schedule,
        n_candidates=params.n_candidates,
        stale=stale,
    )


# ------------------------------------------------------------------- over the guidance weight


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One estimator over the guidance weight."""

    estimator: str
    critic: Float[np.ndarray, " n_weights"]  # mean Q of the actions
    true_return: Float[np.ndarray, " n_weights"]  # the gap to `critic` is exploitation
    kl_to_bc: Float[np.ndarray, " n_weights"]  # nats, by histogram
    off_mode: Float[np.ndarray, " n_weights"]  # share farther than 3σ from every mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Front:
    """The tilt family p_1 e^{wf}: no distribution has a larger mean of f at its KL from p_1."""

    weights: Float[np.ndarray, " n"]
    kl: Float[np.ndarray, " n"]  # nats, by quadrature
    critic: Float[np.ndarray, " n"]
    true_return: Float[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """Estimators over the weight, with the exact tilts by critic and by true return."""

    params: TrimodalParams
    weights: tuple[float, ...]
    curves: tuple[Curve, ...]
    by_critic: Front  # at the same weights
    by_return: Front  # the front for the return, on a denser range of weights
    stability: Float[np.ndarray, " n_weights"]


def sweep_weights(
    params: TrimodalParams,
    weights: Sequence[int | float] = WEIGHTS,
    estimators: Sequence[str] = ("ood", "qgf"),
    *,
    stale: Stale = never,
    progress: Progress = silent,
) -> Sweep:
    """Critic, true return and KL to BC of some estimators over the weight, all else as in params.

    Every weight meets particles of its own noise. KL is estimated as in `sample_kl` with bins of
    σ/3: a sample collapsed inside one bin reads too low.

    Args:
        params: the setting; its weight, estimator and second are not used.
        weights: at least 0.
        estimators: names in `ESTIMATORS`.
        stale: turns true when nobody waits; asked at every Euler step.
        progress: called with a share in [0, 1] and a sentence before each estimator.

    Raises:
        ValueError: no weights, or an unknown estimator.
        Cancelled: `stale()` became true.
    """
    if not weights:
        raise ValueError("weights=() is empty: sweep at least one guidance weight.")
    w = torch.tensor(list(weights), dtype=torch.float64)
    curves = []
    with torch.inference_mode(False), torch.no_grad():
        for i, name in enumerate(estimators):
            check(stale)
            progress(i / len(estimators), f"Sweeping {name} over {len(weights)} weights")
            shape = (len(weights), params.n_particles)
            a = _sample(params, name, w[:, None], shape, stale).actions
            curves.append(_curve(params, name, a))
        steep = torch.logspace(-2, 4, 121, dtype=torch.float64)
        return Sweep(
            params=params,
            weights=tuple(w.tolist()),
            curves=tuple(curves),
            by_critic=_front(params, params.q, w),
            by_return=_front(params, params.true_return, steep),
            stability=_array(w * replace(params, weight=1.0).stability),
        )


def _curve(params: TrimodalParams, name: str, actions: Tensor) -> Curve:
    bin_width = STDS[params.preset] / 3
    flat = actions.flatten()
    kl = [sample_kl(row, params.mixture.log_prob, bin_width=bin_width) for row in actions]
    off = (_modes(params, flat) < 0).double().reshape(actions.shape)
    return Curve(
        estimator=name,
        critic=_array(params.q(flat).reshape(actions.shape).mean(1)),
        true_return=_array(params.true_return(flat).reshape(actions.shape).mean(1)),
        kl_to_bc=np.array(kl),
        off_mode=_array(off.mean(1)),
    )


def _front(params: TrimodalParams, by: Critic, weights: Tensor) -> Front:
    low, high = VIEWS[params.preset]
    grid = torch.linspace(low, high, 4 * N_FINE, dtype=torch.float64)
    p_1 = tilt(params.mixture, by, 0, grid)
    tilts = torch.stack([tilt(params.mixture, by, w, grid) for w in weights.tolist()])
    return Front(
        weights=_array(weights),
        kl=np.array([kl_divergence(p, p_1, grid) for p in tilts]),
        critic=_array(torch.trapezoid(tilts * params.q(grid), grid)),
        true_return=_array(torch.trapezoid(tilts * params.true_return(grid), grid)),
    )


def frontier(
    params: TrimodalParams,
    weights: Sequence[int | float] = WEIGHTS,
    estimators: Sequence[str] = COMPARED,
    *,
    stale: Stale = never,
    progress: Progress = silent,
) -> Sweep:
    """Return against KL(π || π̂): the provable front `by_return`, and each estimator's curve.

    It is `sweep_weights` of the estimators worth comparing.
    """
    return sweep_weights(params, weights, estimators, stale=stale, progress=progress)


# --------------------------------------------------------------- from a point to its neighbour


@dataclass(frozen=True, kw_only=True, eq=False)
class Jacobians:
    """How far one Euler step, and the exact flow, move their estimate of x_1 with x."""

    t: float
    x: Float[np.ndarray, " n_grid"]
    density: Float[np.ndarray, " n_grid"]  # p_t(x)
    one_step: Float[np.ndarray, " n_grid"]  # J_1
    chain: Float[np.ndarray, " n_grid"]  # p_t(x)/p_1(ODE(x)), Jacobian of the exact flow
    endpoint: Float[np.ndarray, " n_grid"]  # ODE(x)


@functools.lru_cache(maxsize=64)
def jacobians(preset: str, t: int | float) -> Jacobians:
    """Jacobians of the unguided flow of a preset at one time.

    Args:
        preset: decides the mixture.
        t: in [0, 1]; later than 0.999 counts as that.

    Raises:
        ValueError: an unknown preset, or a time outside [0, 1].
    """
    mixture, t = TrimodalParams(preset=preset, time=t).mixture, min(t, 0.999)
    with torch.inference_mode(False), torch.no_grad():
        x = torch.linspace(*VIEWS[preset], 4 * N_GRID, dtype=torch.float64)
        end = flow_endpoint(mixture, x, t)
        log_density = mixture.log_prob_t(x, t)
        return Jacobians(
            t=t,
            x=_array(x),
            density=_array(log_density.exp()),
            one_step=_array(mixture.posterior_mean_jacobian(x, t)),
            chain=_array((log_density - mixture.log_prob(end)).exp()),
            endpoint=_array(end),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Jitter:
    """How estimators' guidance changes over a small distance, and what it costs."""

    params: TrimodalParams
    distance: float  # ε between neighbours
    times: Float[np.ndarray, " n_steps"]
    estimators: tuple[str, ...]
    cosine: Float[np.ndarray, "n_estimators n_steps"]  # of all particles' guidance as one vector
    same_sign: Float[np.ndarray, "n_estimators n_steps"]  # share of particles; in 1D a cosine too
    passes: tuple[int, ...]  # per action
    ms: tuple[float, ...]  # sampling n_particles


def jitter(
    params: TrimodalParams,
    estimators: Sequence[str] = ("ood", "qgf", "qgf_jacobian", "chain", "bptt"),
    *,
    distance: int | float = 0.02,
    stale: Stale = never,
    progress: Progress = silent,
) -> Jitter:
    """The agreement of guidance at x_t and x_t ± ε, at every Euler step.

    Particles stand on unguided paths, so that every estimator is asked at the same points. Where
    both guidances vanish they agree in no direction: cosine and share are then 0.

    Args:
        params: the setting; weight 0 would leave no guidance to compare, so 1 is used.
        estimators: those with a gradient.
        distance: ε, from each particle to its neighbour, to either side at random.
        stale: turns true when nobody waits; asked at every Euler step.
        progress: called with a share in [0, 1] and a sentence before each estimator.

    Raises:
        ValueError: a distance that is not above 0, or an unknown estimator.
        Cancelled: `stale()` became true.
    """
    if not distance > 0:
        raise ValueError(f"distance={distance} must be above 0: neighbours stand apart.")
    with torch.inference_mode(False), torch.no_grad():
        base = _sample(params, "bc", 0.0, params.n_particles, stale)
        side = torch.randint(0, 2, base.actions.shape, generator=seeded(params.seed + 1)) * 2 - 1
        cosine, same, passes, ms = [], [], [], []
        for i, name in enumerate(estimators):
            check(stale)
            progress(i / len(estimators), f"Neighbours under {name}")
            begin = time.perf_counter()
            passes.append(_sample(params, name, 1.0, params.n_particles, stale).passes.total)
            ms.append(1e3 * (time.perf_counter() - begin))
            pairs = []
            for step in range(params.n_steps):
                here = base.trajectory[step]
                both = torch.stack((here, here + distance * side))
                pairs.append(_push(params, name, both, step, stale))
            g, neighbour = torch.stack(pairs, 1)  # each [T, n]
            size = g.norm(dim=1) * neighbour.norm(dim=1)
            cosine.append((g * neighbour).sum(1) / size.clamp(min=1e-300))
            same.append((g * neighbour > 0).double().mean(1))
    return Jitter(
        params=params,
        distance=distance,
        times=_array(base.times[:-1]),
        estimators=tuple(estimators),
        cosine=_array(torch.stack(cosine)),
        same_sign=_array(torch.stack(same)),
        passes=tuple(passes),
        ms=tuple(ms),
    )


def flow_endpoint(
    mixture: GaussianMixture, x: Float[Tensor, "..."], t: int | float, n_steps: int = 100
) -> Float[Tensor, "..."]:
    """Where the unguided flow takes positions from time t to 1, by Runge and Kutta's fourth order.

    Args:
        mixture: whose flow.
        x: positions at time t.
        t: in [0, 1].
        n_steps: from t to 1, shorter towards 1, where modes are sharp.
    """
    left = (1 - t) * torch.linspace(1, 0, n_steps + 1, dtype=torch.float64).square()
    times = (1 - left).tolist()
    for now, later in itertools.pairwise(times):
        h, middle = later - now, (now + later) / 2
        k_1 = mixture.velocity(x, now)
        k_2 = mixture.velocity(x + h / 2 * k_1, middle)
        k_3 = mixture.velocity(x + h / 2 * k_2, middle)
        k_4 = mixture.velocity(x + h * k_3, later)
        x = x + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    return x


def _push(params: TrimodalParams, name: str, x: Tensor, step: int, stale: Stale) -> Tensor:
    return guided_velocity(
        params.mixture,
        params.q,
        x,
        estimator=name,
        weight=1.0,
        n_steps=params.n_steps,
        schedule=params.schedule,
        steps=[step],
        stale=stale,
    )[1][0]


# --------------------------------------------------------------------------------------- parts


def _map_x(params: TrimodalParams) -> Tensor:
    return torch.linspace(*VIEWS[params.preset], N_MAP, dtype=torch.float64)


def _modes(params: TrimodalParams, actions: Tensor) -> Tensor:
    """The nearest mode of each action, -1 beyond `OFF_MODE` standard deviations."""
    means = torch.tensor(MEANS[params.preset], dtype=torch.float64)
    away, mode = (actions[:, None] - means).abs().min(1)
    return torch.where(away <= OFF_MODE * STDS[params.preset], mode, -1)


def _histograms(rows: Tensor, low: float, high: float, n_bins: int) -> Tensor:
    """Densities [n_rows, n_bins]; what lies outside the range is left out of the bins alone."""
    n_rows, n = rows.shape
    cell = ((rows - low) * (n_bins / (high - low))).floor().clamp(-1, n_bins).long() + 1
    cell += (n_bins + 2) * torch.arange(n_rows)[:, None]
    counts = torch.bincount(cell.flatten(), minlength=n_rows * (n_bins + 2))
    inside = counts.reshape(n_rows, n_bins + 2)[:, 1:-1]
    return inside.double() * (n_bins / ((high - low) * n))


def _spread(n: int, at_most: int) -> list[int]:
    """At most so many of the numbers 0 ... n - 1, first and last among them."""
    if n <= at_most:
        return list(range(n))
    return [round(i * (n - 1) / (at_most - 1)) for i in range(at_most)]


def _array(values: Tensor) -> np.ndarray:
    array = values.numpy(force=True)
    array.setflags(write=False)
    return array
