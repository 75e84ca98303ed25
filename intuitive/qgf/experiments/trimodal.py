"""Particles of the tri-modal flow under one or two estimators, beside the exact answer.

Arrays in results are read-only numpy arrays.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache, cached
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.arrays import read_only
from intuitive.common.runtime import check, never
from intuitive.common.training import Progress, silent

from ..critics import Critic
from ..guidance import Quadratures, Stale
from ..mixture import GaussianMixture
from ..sampling import guided_velocity
from ..sweep import Sweep, sweep_weights
from ..tilting import Posterior, sample_kl, tilt, wasserstein1
from ..trimodal import MEANS, STDS, VIEWS, TrimodalParams, modes, sample

SWEPT = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
SWEPT_PARTICLES = 1_000
N_SHOWN = 300  # particles whose paths are kept
N_FRAMES = 21  # at most so many times are shown
N_COLUMNS = 40  # at most so many steps in the map of velocities
N_MAP = 61  # positions in that map
N_BINS = 80  # of the marginals; the final histogram has twice as many
N_GRID = 161  # positions of densities in time
N_FINE = 1201  # positions of the final densities


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One estimator's particles. n_frames counts `TrimodalResult.frames`."""

    estimator: str
    trajectory: Float[np.ndarray, "n_times n_shown"]  # the first particles, at `times`
    query_times: Float[np.ndarray, " n_asked"]
    queries: Float[np.ndarray, "n_asked n_shown"]  # where the critic was asked
    asks_itself: bool  # about the particle as it is, noisy or not
    final_mode: Int[np.ndarray, " n_shown"]  # counted from the left; -1 is off every mode
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
    _map: Callable[[], tuple[Tensor, Tensor]]  # velocity and guidance, worked out when looked at

    @property
    def velocity(self) -> Float[np.ndarray, "n_map n_columns"]:
        """Field plus guidance, at map_x and map_times."""
        return self._maps[0]

    @property
    def guidance(self) -> Float[np.ndarray, "n_map n_columns"]:
        """Of the velocity, the guidance."""
        return self._maps[1]

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        field, push = self._map()
        return read_only((field + push).T), read_only(push.T)


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
    frames: tuple[int, ...]  # the Euler steps that are shown, 0 and T among them
    x: Float[np.ndarray, " n_grid"]
    tilted: Float[np.ndarray, "n_frames n_grid"]  # p*_t, whose end is the exact tilt
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


def run(
    params: TrimodalParams, *, stale: Stale = never, progress: Progress = silent
) -> TrimodalResult:
    """Sample with the chosen estimators and set the exact answer beside them.

    Args:
        params: the setting.
        stale: turns true when nobody waits; asked at every Euler step.
        progress: called with a share in [0, 1] and a sentence before each estimator.

    Raises:
        Cancelled: `stale()` became true.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _sampled(params, stale, progress)


@dataclass(frozen=True, kw_only=True)
class FlowSetting:
    """A setting of the flow, and whether the weight is swept as well."""

    flow: TrimodalParams
    sweep: bool

    @classmethod
    def of(cls, *, sweep: bool = False, **settings: Any) -> "FlowSetting":
        return cls(flow=TrimodalParams(**settings), sweep=sweep)


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """The flow at one weight, and over all of them where that was asked for."""

    at: TrimodalResult
    over_weights: Sweep | None


def run_and_sweep(
    setting: FlowSetting, *, stale: Stale = never, progress: Progress = silent
) -> Flow:
    """`run`, and a sweep over `SWEPT` with at most `SWEPT_PARTICLES`, kept for other weights."""
    flow = setting.flow
    at = run(flow, stale=stale, progress=progress)
    if not setting.sweep:
        return Flow(at=at, over_weights=None)
    fewer = min(flow.n_particles, SWEPT_PARTICLES)
    timeless = replace(flow, n_particles=fewer, weight=1.0)
    return Flow(at=at, over_weights=_swept(timeless, stale, progress))


def _first(params: TrimodalParams, *_: object) -> TrimodalParams:
    """What slow results are kept by: the setting, not who waits for it."""
    return params


@cached(cache=LRUCache(2), key=_first, lock=threading.Lock())
def _swept(params: TrimodalParams, stale: Stale, progress: Progress) -> Sweep:
    return sweep_weights(params, SWEPT, _names(params), stale=stale, progress=progress)


def _names(params: TrimodalParams) -> tuple[str, ...]:
    second = () if params.second == "none" else (params.second,)
    return tuple(dict.fromkeys((params.estimator, *second)))


@cached(cache=LRUCache(8), lock=threading.Lock())
def _exact(mixture: GaussianMixture, critic: Critic, weight: float) -> Posterior:
    """The exact tilt as a flow."""
    return Posterior(mixture, lambda a: weight * critic(a))


@cached(cache=LRUCache(8), lock=threading.Lock())
def _exact_densities(exact: Posterior, view: tuple[float, float], times: tuple[float, ...]):
    """p*_t at `N_GRID` positions in view [n_times, n_grid]."""
    x = torch.linspace(*view, N_GRID, dtype=torch.float64)
    return read_only(torch.stack([exact.log_prob_t(x, t).exp() for t in times]))


@cached(cache=LRUCache(8), key=_first, lock=threading.Lock())
def _sampled(params: TrimodalParams, stale: Stale, progress: Progress) -> TrimodalResult:
    mixture, q, r = params.mixture, params.q, params.true_return
    low, high = VIEWS[params.preset]
    x = torch.linspace(low, high, N_GRID, dtype=torch.float64)
    fine = torch.linspace(low, high, N_FINE, dtype=torch.float64)
    frames = _spread(params.n_steps + 1, N_FRAMES)
    exact = _exact(mixture, q, params.weight)
    tilted, density = tilt(mixture, q, params.weight, fine), mixture.log_prob(fine).exp()
    names = [params.estimator] + [params.second] * (params.second != "none")
    runs = []
    for i, name in enumerate(names):
        check(stale)
        progress(i / len(names), f"Sampling with {name}")
        alone = replace(params, estimator=name, second="none")
        runs.append(_run(alone, exact, tilted, fine, frames, stale))
    check(stale)
    return TrimodalResult(
        params=params,
        runs=tuple(runs),
        view=(low, high),
        means=MEANS[params.preset],
        std=STDS[params.preset],
        times=read_only(torch.arange(params.n_steps + 1, dtype=torch.float32) / params.n_steps),
        stability=params.stability,
        frames=tuple(frames),
        x=read_only(x),
        tilted=_exact_densities(exact, (low, high), tuple(k / params.n_steps for k in frames)),
        bin_edges=read_only(torch.linspace(low, high, N_BINS + 1, dtype=torch.float64)),
        final_edges=read_only(torch.linspace(low, high, 2 * N_BINS + 1, dtype=torch.float64)),
        map_x=read_only(_map_x(params)),
        map_times=np.array(_spread(params.n_steps, N_COLUMNS)) / params.n_steps,
        fine=read_only(fine),
        fine_density=read_only(density),
        fine_tilted=read_only(tilted),
        fine_critic=read_only(q(fine)),
        fine_return=read_only(r(fine)),
        tilt_critic=float(torch.trapezoid(tilted * q(fine), fine)),
        tilt_return=float(torch.trapezoid(tilted * r(fine), fine)),
        bc_critic=float(torch.trapezoid(density * q(fine), fine)),
        bc_return=float(torch.trapezoid(density * r(fine), fine)),
    )


@cached(cache=LRUCache(16), key=_first, lock=threading.Lock())
def _run(
    params: TrimodalParams,
    exact: Posterior,
    tilted: Tensor,
    fine: Tensor,
    frames: list[int],
    stale: Stale,
) -> Run:
    low, high = VIEWS[params.preset]
    quadratures: Quadratures = {params.weight: exact}
    begin = time.perf_counter()
    drawn = sample(
        params, params.estimator, params.weight, params.n_particles, stale, quadratures=quadratures
    )
    ms = 1e3 * (time.perf_counter() - begin)
    on_the_map = partial(
        guided_velocity,
        params.mixture,
        params.q,
        _map_x(params),
        estimator=params.estimator,
        weight=params.weight,
        n_steps=params.n_steps,
        schedule=params.schedule,
        steps=_spread(params.n_steps, N_COLUMNS),
        quadratures=quadratures,
    )
    a = drawn.actions
    check(stale)
    mode = modes(params, a)
    queries = drawn.queries[:, :N_SHOWN]
    bin_width = STDS[params.preset] / 3
    # the flow ends before grad_step climbs; the last frame shows the actions themselves
    path = torch.cat((drawn.trajectory[:-1], a[None]))
    return Run(
        estimator=params.estimator,
        trajectory=read_only(path[:, :N_SHOWN]),
        query_times=read_only(drawn.query_times),
        queries=read_only(queries),
        asks_itself=len(drawn.queries) == params.n_steps
        and bool(torch.equal(drawn.queries, drawn.trajectory[:-1])),
        final_mode=read_only(mode[:N_SHOWN]),
        marginals=read_only(_histograms(path[frames], low, high, N_BINS)),
        histogram=read_only(_histograms(a[None], low, high, 2 * N_BINS)[0]),
        actions=read_only(a),
        w1=wasserstein1(a, tilted, fine),
        kl_to_tilt=sample_kl(a, lambda x: exact.log_prob_t(x, 1), bin_width=bin_width),
        kl_to_bc=sample_kl(a, params.mixture.log_prob, bin_width=bin_width),
        critic_mean=float(params.q(a).mean()),
        return_mean=float(params.true_return(a).mean()),
        mode_masses=tuple(float((mode == k).double().mean()) for k in range(3)),
        off_mode=float((mode < 0).double().mean()),
        outside=float(((a < low) | (a > high)).double().mean()),
        passes=drawn.passes.total,
        ms=ms,
        _map=on_the_map,
    )


def _map_x(params: TrimodalParams) -> Tensor:
    return torch.linspace(*VIEWS[params.preset], N_MAP, dtype=torch.float64)


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
