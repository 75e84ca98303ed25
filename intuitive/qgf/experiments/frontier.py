"""Optimiser or sampler? Return against the distance from the data, for every estimator."""

import threading
from dataclasses import dataclass, replace

import numpy as np
from cachetools import LRUCache, cached

from intuitive.common.runtime import never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..checks import settle
from ..guidance import Stale
from ..sweep import COMPARED, WEIGHTS, Curve, Sweep, sweep_weights
from ..trimodal import PRESETS, TrimodalParams

SWEPT = WEIGHTS[::2]
N_PARTICLES = 1000


@dataclass(frozen=True, kw_only=True)
class FrontierParams(Settings):
    """One sweep over `SWEPT`, and the estimator and weight looked at."""

    preset: str = "B"  # decides all that is not named here
    peak: float = 0.3
    bump_height: float = 2.0
    n_steps: int = 20  # Euler steps T
    seed: int = 0
    estimator: str = "qgf"
    weight: float = 1.0  # the nearest of `SWEPT` is taken

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset!r}: choose one of {', '.join(PRESETS)}.")
        if self.estimator not in COMPARED:
            raise ValueError(f"estimator={self.estimator!r}: choose one of {', '.join(COMPARED)}.")
        settle(self, {"weight": (0, 100), "peak": (-4, 4), "n_steps": (1, 200)})

    @property
    def flow(self) -> TrimodalParams:
        """The setting that is swept."""
        return replace(
            PRESETS[self.preset],
            weight=1.0,
            n_particles=N_PARTICLES,
            peak=self.peak,
            bump_height=self.bump_height,
            n_steps=self.n_steps,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """A sweep, and what is looked at in it."""

    params: FrontierParams
    sweep: Sweep
    place: int  # of the weight, in `sweep.weights`

    @property
    def estimator(self) -> str:
        """The estimator looked at."""
        return self.params.estimator

    @property
    def curve(self) -> Curve:
        """The curve of the estimator looked at."""
        return next(c for c in self.sweep.curves if c.estimator == self.estimator)


def run(params: FrontierParams, *, stale: Stale = never, progress: Progress = silent) -> Compared:
    """Sweep all of `COMPARED` over the weight, once for every flow.

    Args:
        params: the setting.
        stale: turns true when nobody waits; asked at every Euler step.
        progress: called with a share in [0, 1] and a sentence before each estimator.

    Raises:
        Cancelled: `stale()` became true.
    """
    place = int(np.abs(np.array(SWEPT) - params.weight).argmin())
    sweep = swept(params.flow, stale, progress)
    return Compared(params=params, sweep=sweep, place=place)


@cached(cache=LRUCache(4), key=lambda flow, *_: flow, lock=threading.Lock())
def swept(flow: TrimodalParams, stale: Stale = never, progress: Progress = silent) -> Sweep:
    """The estimators of `COMPARED` over `SWEPT`; kept for other weights and estimators."""
    return sweep_weights(flow, SWEPT, COMPARED, stale=stale, progress=progress)
