"""Estimators over the guidance weight, and the front that no distribution crosses.

Of all distributions with the same KL from the data, the exact tilt of the data by the return has
the highest mean return: the tilts of all weights are the front.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from intuitive.common.arrays import read_only
from intuitive.common.runtime import check, never
from intuitive.common.training import Progress, silent

from .critics import Critic
from .guidance import Stale
from .tilting import kl_divergence, sample_kl, tilt
from .trimodal import STDS, VIEWS, TrimodalParams, modes, sample

WEIGHTS = tuple(round(10 ** (i / 6 - 1), 4) for i in range(16))  # 0.1 to 31.6
COMPARED = ("ood", "qgf", "qgf_jacobian", "flow_dps", "chain", "bptt", "best_of_n", "exact")
STEEP = tuple(10 ** (i / 20 - 2) for i in range(241))  # of the front: 0.01 to 10 billion
NARROW = 1e4  # a tilt steeper than that has a grid of its own around the summit
N_GRID = 4804  # positions of the front's densities
N_NEAR = 400  # on either side of the summit, closer and closer


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
    most: float  # of the mean of f, in the limit of an infinite KL


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
            a = sample(params, name, w[:, None], shape, stale).actions
            curves.append(_curve(params, name, a))
        return Sweep(
            params=params,
            weights=tuple(w.tolist()),
            curves=tuple(curves),
            by_critic=_front(params, params.q, w),
            by_return=_front(params, params.true_return, torch.tensor(STEEP, dtype=torch.float64)),
            stability=read_only(w * replace(params, weight=1.0).stability),
        )


def _curve(params: TrimodalParams, name: str, actions: Tensor) -> Curve:
    bin_width = STDS[params.preset] / 3
    flat = actions.flatten()
    kl = [sample_kl(row, params.mixture.log_prob, bin_width=bin_width) for row in actions]
    off = (modes(params, flat) < 0).double().reshape(actions.shape)
    return Curve(
        estimator=name,
        critic=read_only(params.q(flat).reshape(actions.shape).mean(1)),
        true_return=read_only(params.true_return(flat).reshape(actions.shape).mean(1)),
        kl_to_bc=np.array(kl),
        off_mode=read_only(off.mean(1)),
    )


def _front(params: TrimodalParams, by: Critic, weights: Tensor) -> Front:
    low, high = VIEWS[params.preset]
    coarse = torch.linspace(low, high, N_GRID, dtype=torch.float64)
    top = _summit(by, coarse)
    near = torch.logspace(-10, 0, N_NEAR, dtype=torch.float64)
    fine = torch.unique(torch.cat((coarse, top, top - near, top + near)))
    fine = fine[(fine >= low) & (fine <= high)]
    grids = [_Grid.of(params, grid) for grid in (coarse, fine)]
    found = [_tilted(params, by, w, grids[w > NARROW]) for w in weights.tolist()]
    kl, critic, true_return = map(np.array, zip(*found, strict=True))
    return Front(
        weights=read_only(weights),
        kl=kl,
        critic=critic,
        true_return=true_return,
        most=float(by(top)[0]),
    )


@dataclass(frozen=True, eq=False)
class _Grid:
    """Positions, and on them what all tilts share."""

    x: Float[Tensor, " n"]
    p_1: Float[Tensor, " n"]
    critic: Float[Tensor, " n"]
    true_return: Float[Tensor, " n"]

    @classmethod
    def of(cls, params: TrimodalParams, x: Tensor) -> "_Grid":
        p_1 = tilt(params.mixture, params.q, 0.0, x)
        return cls(x, p_1, params.q(x), params.true_return(x))


def _tilted(
    params: TrimodalParams, by: Critic, weight: float, grid: _Grid
) -> tuple[float, float, float]:
    """KL from the data, mean critic and mean return of one tilt."""
    p = tilt(params.mixture, by, weight, grid.x)
    means = (torch.trapezoid(p * f, grid.x).item() for f in (grid.critic, grid.true_return))
    return kl_divergence(p, grid.p_1, grid.x), *means


def _summit(by: Critic, grid: Tensor) -> Float[Tensor, "1"]:
    """Where a function is highest, by looking closer and closer."""
    for _ in range(5):
        place = int(by(grid).argmax())
        ends = grid[[max(place - 1, 0), min(place + 1, len(grid) - 1)]].tolist()
        grid = torch.linspace(*ends, 101, dtype=torch.float64)
    return grid[by(grid).argmax()][None]


def best_at(front: Front, kl: float) -> float:
    """The highest mean return of any distribution at some KL from the data, in nats."""
    return float(np.interp(kl, front.kl, front.true_return))


def least_kl(front: Front, true_return: float) -> float:
    """The KL from the data, in nats, that a mean return takes at least.

    Infinite if no distribution has that return. A return between the front's last and the most
    there is gets the KL of the last, which is less than it takes.
    """
    if true_return > front.most:
        return float("inf")
    return float(np.interp(true_return, front.true_return, front.kl))
