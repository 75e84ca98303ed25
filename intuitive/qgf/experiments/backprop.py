"""How much the flow and the estimators' gradients change from a point to its neighbour.

A pair of neighbours is followed to the end and back: what backpropagation multiplies, step by step.
Beside it stand statistics of a thousand pairs, as medians: pooled numbers are those of a few pairs.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from cachetools import LRUCache, cached
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.arrays import read_only
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..checks import settle
from ..guidance import Oracles, Stale
from ..mixture import flow_endpoint
from ..sampling import guided_velocity
from ..trimodal import PRESETS, VIEWS, TrimodalParams, modes, sample

N_PARTICLES = 1000
N_GRID = 644  # positions of the Jacobians
N_ROADS = 90  # unguided paths beside a pair
N_TIMED = 5  # times that sampling is timed; the median counts
TOP = 0.01  # share of the pairs with the largest gradients


@dataclass(frozen=True, kw_only=True)
class BackpropParams(Settings):
    """A preset, where two neighbours stand at a time, and how far apart."""

    preset: str = "B"
    time: float = 0.5  # the nearest Euler step is taken
    place: float = 0.6  # of the lower of the two
    distance: float = 0.02
    n_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset!r}: choose one of {', '.join(PRESETS)}.")
        settle(self, {"time": (0, 1), "place": (-5, 5), "n_steps": (1, 200)})
        if not self.distance > 0:
            raise ValueError(f"distance={self.distance} must be above 0: neighbours stand apart.")

    @property
    def flow(self) -> TrimodalParams:
        """The setting whose gradients are compared, at no time yet."""
        return replace(
            PRESETS[self.preset],
            weight=1.0,
            n_particles=N_PARTICLES,
            n_steps=self.n_steps,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Shaken:
    """One pair of neighbours, a thousand at all times, and the Jacobians at one."""

    params: BackpropParams
    pair: "Pair"
    roads: Float[np.ndarray, "n_times n"]  # unguided particles, at all Euler times
    modes: Int[np.ndarray, " n"]  # in which they end, -1 in none
    whole: "Jitter"
    here: "Jacobians"


def run(params: BackpropParams, *, stale: Stale = never, progress: Progress = silent) -> Shaken:
    """Gradients of neighbours at every step, once for every flow and distance; one pair anew.

    Args:
        params: the setting.
        stale: turns true when nobody waits; asked at every Euler step.
        progress: called with a share in [0, 1] and a sentence before each estimator.

    Raises:
        Cancelled: `stale()` became true.
    """
    whole = _neighbours(params.flow, params.distance, stale, progress)
    flow, first = params.flow, min(round(params.time * params.n_steps), params.n_steps - 1)
    pair = follow_pair(flow, (params.place, params.place + params.distance), first)
    roads, ends = _roads(flow)
    return Shaken(
        params=params,
        pair=pair,
        roads=roads,
        modes=ends,
        whole=whole,
        here=jacobians(params.preset, float(pair.times[0])),
    )


@cached(cache=LRUCache(8), lock=threading.Lock())
def _roads(flow: TrimodalParams) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode(False), torch.no_grad():
        drawn = sample(flow, "bc", 0.0, N_ROADS)
        return read_only(drawn.trajectory), read_only(modes(flow, drawn.actions))


@cached(cache=LRUCache(8), key=lambda flow, distance, *_: (flow, distance), lock=threading.Lock())
def _neighbours(
    flow: TrimodalParams, distance: float, stale: Stale, progress: Progress
) -> "Jitter":
    jitter(flow, ("ood",), stale=stale)  # warms up what is timed next
    return jitter(flow, distance=distance, stale=stale, progress=progress)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Two particles from a time on, unguided, and the critic's slope on its way back."""

    times: Float[np.ndarray, " n"]  # from theirs to 1
    x: Float[np.ndarray, "n 2"]
    derivative: Float[np.ndarray, "n_steps 2"]  # of every Euler step, 1 + (∂v/∂x)/T
    back: Float[np.ndarray, "n 2"]  # ∂x_1/∂x at every time: the product of those to come
    slope: Float[np.ndarray, " 2"]  # the critic's at the end of the path
    bptt: Float[np.ndarray, " 2"]  # that times the first of `back`
    estimate: Float[np.ndarray, " 2"]  # x̂_1 where they stand first
    qgf: Float[np.ndarray, " 2"]  # the critic's slope there


def follow_pair(flow: TrimodalParams, places: Sequence[float], first: int) -> Pair:
    """Follow particles from Euler step `first` to the end, and the critic's slope back.

    Args:
        flow: mixture, critic and T.
        places: where they stand then.
        first: in [0, T - 1].
    """
    mixture, n_steps = flow.mixture, flow.n_steps
    slopes = Oracles(field=mixture, critics=(flow.q,)).gradient
    with torch.inference_mode(False), torch.no_grad():
        x = torch.tensor(list(places), dtype=torch.float64)
        estimate = mixture.posterior_mean(x, first / n_steps)
        path, derivative = [x], []
        for k in range(first, n_steps):
            t = k / n_steps
            bend = (mixture.posterior_mean_jacobian(x, t) - 1) / (1 - t)  # ∂v/∂x
            derivative.append(1 + bend / n_steps)
            x = x + mixture.velocity(x, t) / n_steps
            path.append(x)
        steps = torch.stack((*derivative, torch.ones_like(x)))
        back = steps.flip(0).cumprod(0).flip(0)
        slope = slopes(x)
        return Pair(
            times=np.arange(first, n_steps + 1) / n_steps,
            x=read_only(torch.stack(path)),
            derivative=read_only(steps[:-1]),
            back=read_only(back),
            slope=read_only(slope),
            bptt=read_only(slope * back[0]),
            estimate=read_only(estimate),
            qgf=read_only(slopes(estimate)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Jacobians:
    """How far one Euler step, and the exact flow, move their estimate of x_1 with x."""

    t: float
    x: Float[np.ndarray, " n_grid"]
    density: Float[np.ndarray, " n_grid"]  # p_t(x)
    one_step: Float[np.ndarray, " n_grid"]  # J_1
    chain: Float[np.ndarray, " n_grid"]  # p_t(x)/p_1(ODE(x)), Jacobian of the exact flow
    endpoint: Float[np.ndarray, " n_grid"]  # ODE(x)


@cached(cache=LRUCache(64), lock=threading.Lock())
def jacobians(preset: str, t: int | float) -> Jacobians:
    """Jacobians of the unguided flow of a preset at one time.

    Args:
        preset: decides the mixture.
        t: in [0, 1]; later than 0.999 counts as that.

    Raises:
        ValueError: an unknown preset, or a time outside [0, 1].
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t={t} must lie in [0, 1]: choose a time in there.")
    mixture, t = TrimodalParams(preset=preset).mixture, min(t, 0.999)
    with torch.inference_mode(False), torch.no_grad():
        x = torch.linspace(*VIEWS[preset], N_GRID, dtype=torch.float64)
        end = flow_endpoint(mixture, x, t)
        log_density = mixture.log_prob_t(x, t)
        return Jacobians(
            t=t,
            x=read_only(x),
            density=read_only(log_density.exp()),
            one_step=read_only(mixture.posterior_mean_jacobian(x, t)),
            chain=read_only((log_density - mixture.log_prob(end)).exp()),
            endpoint=read_only(end),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Jitter:
    """How estimators' guidance changes over a small distance, and what it costs."""

    params: TrimodalParams
    distance: float  # ε between neighbours
    times: Float[np.ndarray, " n_steps"]
    estimators: tuple[str, ...]
    cosine: Float[np.ndarray, "n_estimators n_steps"]  # of all particles' guidance as one vector
    same_sign: Float[np.ndarray, "n_estimators n_steps"]  # share of the pairs
    difference: Float[np.ndarray, "n_estimators n_steps"]  # of the median pair, over the larger one
    top_share: Float[np.ndarray, "n_estimators n_steps"]  # of all squares, in the top 1% of pairs
    passes: tuple[int, ...]  # per action
    ms: tuple[float, ...]  # sampling n_particles, median of `N_TIMED`


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
        base = sample(params, "bc", 0.0, params.n_particles, stale)
        side = torch.randint(0, 2, base.actions.shape, generator=seeded(params.seed + 1)) * 2 - 1
        cosine, same, apart, top, passes, ms = [], [], [], [], [], []
        for i, name in enumerate(estimators):
            check(stale)
            progress(i / len(estimators), f"Neighbours under {name}")
            passes.append(sample(params, name, 1.0, params.n_particles, stale).passes.total)
            ms.append(median(_timed(params, name, stale) for _ in range(N_TIMED)))
            pairs = []
            for step in range(params.n_steps):
                here = base.trajectory[step]
                both = torch.stack((here, here + distance * side.to(torch.float32)))
                pairs.append(_push(params, name, both, step, stale))
            g, neighbour = torch.stack(pairs, 1)  # each [T, n]
            size = g.norm(dim=1) * neighbour.norm(dim=1)
            cosine.append((g * neighbour).sum(1) / size.clamp(min=1e-300))
            same.append((g * neighbour > 0).double().mean(1))
            larger = torch.maximum(g.abs(), neighbour.abs()).clamp(min=1e-300)
            apart.append(((g - neighbour).abs() / larger).median(1).values)
            squares = g.square().sort(1, descending=True).values
            most = squares[:, : max(round(TOP * g.shape[1]), 1)].sum(1)
            top.append(most / squares.sum(1).clamp(min=1e-300))
    return Jitter(
        params=params,
        distance=distance,
        times=read_only(base.times[:-1]),
        estimators=tuple(estimators),
        cosine=read_only(torch.stack(cosine)),
        same_sign=read_only(torch.stack(same)),
        difference=read_only(torch.stack(apart)),
        top_share=read_only(torch.stack(top)),
        passes=tuple(passes),
        ms=tuple(ms),
    )


def _timed(params: TrimodalParams, name: str, stale: Stale) -> float:
    """Milliseconds of sampling once."""
    begin = time.perf_counter()
    sample(params, name, 1.0, params.n_particles, stale)
    return 1e3 * (time.perf_counter() - begin)


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
