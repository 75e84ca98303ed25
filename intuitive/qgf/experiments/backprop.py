"""How much the flow and the estimators' gradients change from a point to its neighbour."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from cachetools import LRUCache, cached
from jaxtyping import Float
from torch import Tensor

from intuitive.common.arrays import read_only
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..checks import settle
from ..guidance import Stale
from ..mixture import flow_endpoint
from ..sampling import guided_velocity
from ..trimodal import PRESETS, VIEWS, TrimodalParams, sample

N_PARTICLES = 1000
N_GRID = 644  # positions of the Jacobians


@dataclass(frozen=True, kw_only=True)
class BackpropParams(Settings):
    """A preset at a time, and how far apart neighbours stand."""

    preset: str = "B"
    time: float = 0.5
    distance: float = 0.02
    n_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset!r}: choose one of {', '.join(PRESETS)}.")
        settle(self, {"time": (0, 1), "n_steps": (1, 200)})

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
    """Neighbours at all times, and the Jacobians at one."""

    params: BackpropParams
    whole: "Jitter"
    here: "Jacobians"


def run(params: BackpropParams, *, stale: Stale = never, progress: Progress = silent) -> Shaken:
    """Gradients of neighbours at every step, once for every flow and distance; Jacobians anew.

    Args:
        params: the setting.
        stale: turns true when nobody waits; asked at every Euler step.
        progress: called with a share in [0, 1] and a sentence before each estimator.

    Raises:
        ValueError: a distance that is not above 0.
        Cancelled: `stale()` became true.
    """
    whole = _neighbours(params.flow, params.distance, stale, progress)
    return Shaken(params=params, whole=whole, here=jacobians(params.preset, params.time))


@cached(cache=LRUCache(8), key=lambda flow, distance, *_: (flow, distance), lock=threading.Lock())
def _neighbours(
    flow: TrimodalParams, distance: float, stale: Stale, progress: Progress
) -> "Jitter":
    jitter(flow, ("ood",), stale=stale)  # warms up what is timed next
    return jitter(flow, distance=distance, stale=stale, progress=progress)


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
    mixture, t = TrimodalParams(preset=preset, time=t).mixture, min(t, 0.999)
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
    same_sign: Float[np.ndarray, "n_estimators n_steps"]  # share of particles; in 1D a cosine too
    difference: Float[np.ndarray, "n_estimators n_steps"]  # of a typical pair, over the larger one
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
        base = sample(params, "bc", 0.0, params.n_particles, stale)
        side = torch.randint(0, 2, base.actions.shape, generator=seeded(params.seed + 1)) * 2 - 1
        cosine, same, apart, passes, ms = [], [], [], [], []
        for i, name in enumerate(estimators):
            check(stale)
            progress(i / len(estimators), f"Neighbours under {name}")
            begin = time.perf_counter()
            passes.append(sample(params, name, 1.0, params.n_particles, stale).passes.total)
            ms.append(1e3 * (time.perf_counter() - begin))
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
    return Jitter(
        params=params,
        distance=distance,
        times=read_only(base.times[:-1]),
        estimators=tuple(estimators),
        cosine=read_only(torch.stack(cosine)),
        same_sign=read_only(torch.stack(same)),
        difference=read_only(torch.stack(apart)),
        passes=tuple(passes),
        ms=tuple(ms),
    )


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
