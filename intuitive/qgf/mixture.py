"""Gaussian mixtures and their flow from noise, all in closed form.

A flow path is x_t = (1 - t) x_0 + t x_1 with x_0 ~ N(0, I) and x_1 from the mixture. A component
N(μ, σ²I) is seen at time t as N(tμ, cI), c = t²σ² + (1 - t)², and given x_t = x it has

    D = E[x_1 | x] = μ + (tσ²/c) (x - tμ)
    v = E[x_1 - x_0 | x] = μ + ((tσ² - (1 - t))/c) (x - tμ)

Averaging over the components' responsibilities gives the posterior mean and the velocity. The
velocity is averaged directly, never divided by 1 - t, so that nothing cancels near t = 1.

Source: Zhou et al. 2026, arXiv:2606.11087, Section 4 (a flow to three modes), in closed form.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from intuitive.common.checks import whole

from .checks import check_generator

Scalar = int | float | Tensor  # a number, or a tensor of shape []
NARROWEST = 1e-150  # narrower modes are as wide as that: their squares vanish in float64
KEPT_TIMES = 1024  # of one mixture
SMALL = 1e-12  # variances below it are divided by in float64, whatever the positions' dtype
WEIGHT_TOLERANCE = 1e-5  # how far the weights' sum may be from one


class GaussianMixture:
    """A mixture of k Gaussians, in one dimension or isotropic in d, and its flow from noise.

    Positions follow the means: with means [k] they have any shape [...], with means [k, d] shape
    [..., d]. Results have the dtype and device of the positions. Times t are numbers from 0
    (noise) to 1 (data).

    Half precision is computed in float32, and modes that single precision cannot hold in float64.

    Args:
        means: μ, [k] or [k, d].
        stds: σ > 0, [k].
        weights: shares of the components, [k]; they sum to one. Equal ones if None.

    Raises:
        ValueError: no component, σ ≤ 0, weights negative or not summing to one, NaN, or shapes
            that do not fit.
    """

    def __init__(
        self,
        means: Sequence | np.ndarray | Tensor,
        stds: Sequence | np.ndarray | Tensor,
        weights: Sequence | np.ndarray | Tensor | None = None,
    ) -> None:
        if weights is None:
            weights = [1 / max(len(stds), 1)] * len(stds)
        given = {"means": means, "stds": stds, "weights": weights}
        with torch.inference_mode(False):  # autograd refuses tensors born in inference mode
            self.means, self.stds, self.weights = (
                _numbers(name, values) for name, values in given.items()
            )
            _check(self.means, self.stds, self.weights)
            self.weights = self.weights / self.weights.sum()
        dtypes = {
            v.dtype for v in given.values() if isinstance(v, Tensor) and v.is_floating_point()
        }
        self.dtype = torch.float64 if torch.float64 in dtypes else torch.float32  # of samples
        self._parameters: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}
        self._times: dict[tuple, _At] = {}  # what hangs on the time alone, for times asked before

    @property
    def action_size(self) -> int | None:
        """Dimensions of a position: None for plain numbers, else d."""
        return None if self.means.ndim == 1 else self.means.shape[1]

    @property
    def n_components(self) -> int:
        """Components k."""
        return len(self.stds)

    def __repr__(self) -> str:
        parts = (f"{name}={getattr(self, name).tolist()}" for name in ("means", "stds", "weights"))
        return f"GaussianMixture({', '.join(parts)})"

    def log_prob_t(self, x: Float[Tensor, "..."], t: Scalar) -> Float[Tensor, "..."]:
        """log p_t(x), the density of x_t, in nats; finite far into the tails.

        Args:
            x: positions, [...] or [..., d].
            t: time in [0, 1].

        Raises:
            ValueError: t outside [0, 1], or positions that are NaN or of another dimension.
        """
        return torch.logsumexp(self._seen(x, t).log_joint, 0).to(x.dtype)

    def log_prob(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """log p_1(x), the density of the mixture itself, in nats."""
        return self.log_prob_t(x, 1.0)

    def velocity(self, x: Float[Tensor, "..."], t: Scalar) -> Float[Tensor, "..."]:
        """The marginal velocity E[x_1 - x_0 | x_t = x]; shape, arguments and errors as above.

        At t = 1, where x_1 = x, it is its limit x.
        """
        seen = self._seen(x, t)
        velocities = seen.at.means + seen.slope(seen.at.velocity_slopes) * seen.offset
        return seen.average(velocities).to(x.dtype)

    def posterior_mean(self, x: Float[Tensor, "..."], t: Scalar) -> Float[Tensor, "..."]:
        """D(x, t) = E[x_1 | x_t = x] = x + (1 - t) velocity(x, t), the one-step estimate of x_1.

        At t = 1 it is x. Shape, arguments and errors as in `log_prob_t`.
        """
        seen = self._seen(x, t)
        means = seen.at.means + seen.slope(seen.at.mean_slopes) * seen.offset
        return seen.average(means).to(x.dtype)

    def posterior_mean_jacobian(self, x: Float[Tensor, "..."], t: Scalar) -> Float[Tensor, "..."]:
        """J_1 = ∂D/∂x = t Cov[x_1 | x_t = x] / (1 - t)², positive semidefinite, 0 at t = 0.

        Computed as the components' own slopes plus t times the variance of their velocities,
        which needs no division by 1 - t.

        Args:
            x: positions, [...] or [..., d].
            t: time in [0, 1].

        Returns:
            [...] in one dimension, else [..., d, d].

        Raises:
            ValueError: as in `log_prob_t`.
        """
        seen, t = self._seen(x, t), float(t)
        own = (seen.responsibilities * seen.at.lift(seen.at.mean_slopes)).sum(0)  # [...]
        velocities = seen.at.means + seen.slope(seen.at.velocity_slopes) * seen.offset
        spread = velocities - seen.average(velocities)  # [k, ...] or [k, ..., d]
        if self.action_size is None:
            return (own + t * (seen.responsibilities * spread.square()).sum(0)).to(x.dtype)
        between = torch.einsum("k...,k...i,k...j->...ij", seen.responsibilities, spread, spread)
        eye = torch.eye(self.action_size, dtype=own.dtype, device=x.device)
        return (own[..., None, None] * eye + t * between).to(x.dtype)

    def posterior_parts(
        self, x: Float[Tensor, "..."], t: Scalar
    ) -> tuple[Float[Tensor, "k ..."], Float[Tensor, "k ..."], Float[Tensor, " k"]]:
        """x_1 given x_t = x, a mixture as well: log shares [k, ...], means [k, ...] and widths [k].

        Arguments and errors as in `log_prob_t`; computed in at least float32.
        """
        seen, t = self._seen(x, t), float(t)
        means = seen.at.means + seen.slope(seen.at.mean_slopes) * seen.offset
        return seen.log_joint.log_softmax(0), means, ((1 - t) * seen.at.spreads).to(means.dtype)

    def sample(self, n: SupportsIndex, generator: torch.Generator) -> Float[Tensor, "n ..."]:
        """Draws from the mixture, [n] or [n, d], on the generator's device, in `self.dtype`.

        Raises:
            ValueError: n below 1.
        """
        n = whole("n", n, low=1, why="draw at least one sample")
        check_generator(generator)
        where = {"device": generator.device}
        means, stds, weights = self._on(generator.device)
        which = torch.multinomial(weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, *means.shape[1:], generator=generator, dtype=torch.float32, **where)
        stds = stds[which] if means.ndim == 1 else stds[which, None]
        return (means[which] + stds * noise).to(self.dtype)

    # ------------------------------------------------------------------------------- insides

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        if device not in self._parameters:
            with torch.inference_mode(False):
                self._parameters[device] = tuple(
                    values.to(device, copy=True) for values in (self.means, self.stds, self.weights)
                )
        return self._parameters[device]

    def _seen(self, x: Tensor, t: Scalar) -> "_Seen":
        size, t = self.action_size, float(t)
        if not 0 <= t <= 1:
            raise ValueError(f"t={t} must lie in [0, 1]: 0 is noise, 1 is data.")
        if not x.is_floating_point():
            raise ValueError(f"positions have dtype {x.dtype}: convert them with x.float().")
        if size is not None and (x.ndim == 0 or x.shape[-1] != size):
            raise ValueError(
                f"positions have shape {tuple(x.shape)}, but this mixture has d={size}: "
                f"the last axis must have size {size}."
            )
        if x.isnan().any():
            raise ValueError(
                f"{int(x.isnan().sum())} of {x.numel()} positions are NaN, where no density is "
                "defined: look for the step that made them."
            )
        n_axes = x.ndim - (size is not None)
        key = (t, x.dtype, n_axes, x.device)
        at = self._times.get(key)
        if at is None:
            if len(self._times) >= KEPT_TIMES:
                self._times.clear()
            with torch.inference_mode(False):
                at = self._times[key] = self._at(*key)
        offset = x.to(at.dtype) - at.centres  # [k, ...] or [k, ..., d]
        square = offset.clamp(-at.far, at.far).square()
        if size is not None:
            square = square.sum(-1)
        return _Seen(at=at, offset=offset, log_joint=at.heights - square * at.steepness)

    def _at(self, t: float, dtype: torch.dtype, n_axes: int, device: torch.device) -> "_At":
        """What hangs on the time alone, for positions of a dtype and so many axes."""
        size, (means, stds, weights) = self.action_size, self._on(device)
        variance = stds.clamp(min=NARROWEST).square()
        c = t * t * variance + (1 - t) ** 2  # [k]
        if float(c.min()) < SMALL:
            dtype = torch.float64
        elif torch.finfo(dtype).bits < 32:
            dtype = torch.float32

        lift = partial(_lift, dtype=dtype, n_axes=n_axes)
        heights = weights.log() - 0.5 * (size or 1) * torch.log(2 * math.pi * c)
        return _At(
            dtype=dtype,
            lift=lift,
            vector=size is not None,
            # Squares of positions beyond this overflow; the answer no longer depends on them.
            far=1e-2 * math.sqrt(torch.finfo(dtype).max * float(c.min()) / (size or 1)),
            centres=lift(t * means),
            means=lift(means),
            heights=lift(heights),
            steepness=lift(0.5 / c),
            mean_slopes=t * variance / c,
            velocity_slopes=(t * variance - (1 - t)) / c,
            spreads=(variance / c).sqrt(),
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


def _lift(values: Tensor, *, dtype: torch.dtype, n_axes: int) -> Tensor:
    return values.to(dtype).reshape(-1, *[1] * n_axes, *values.shape[1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class _At:
    """The components at one time; tensors of positions have the component axis first."""

    dtype: torch.dtype  # in which positions are computed
    lift: Callable[[Tensor], Tensor]  # [k] -> [k, 1, ...] in that dtype
    vector: bool  # positions are vectors [..., d]
    far: float  # where squares are cut
    centres: Tensor  # tμ
    means: Tensor
    heights: Tensor  # log weight + log density at the centre
    steepness: Tensor  # half an inverse variance
    mean_slopes: Tensor  # [k], of each component's posterior mean
    velocity_slopes: Tensor  # [k]
    spreads: Tensor  # [k], widths of each component's posterior over 1 - t


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """Every component's view of the positions at one time; the component axis stands first."""

    at: _At
    offset: Tensor  # x - tμ
    log_joint: Tensor  # log weight + log density

    @property
    def responsibilities(self) -> Tensor:
        return self.log_joint.softmax(0)

    def slope(self, slopes: Tensor) -> Tensor:
        lifted = self.at.lift(slopes)
        return lifted[..., None] if self.at.vector else lifted

    def average(self, values: Tensor) -> Tensor:
        shares = self.responsibilities
        return ((shares[..., None] if self.at.vector else shares) * values).sum(0)


def _numbers(name: str, values: Sequence | np.ndarray | Tensor) -> Tensor:
    try:
        found = torch.as_tensor(values, device="cpu")
    except (TypeError, ValueError, RuntimeError):  # no numbers, or ragged
        found = None
    if found is None or found.is_complex():
        raise ValueError(f"{name}={values!r} must be numbers: give a list or a tensor of them.")
    return torch.as_tensor(values, dtype=torch.float64, device="cpu").detach().clone()


def _check(means: Tensor, stds: Tensor, weights: Tensor) -> None:
    named = {"means": means, "stds": stds, "weights": weights}
    if means.ndim not in (1, 2) or means.numel() == 0:
        raise ValueError(
            f"means have shape {tuple(means.shape)}, but must be [k] or [k, d] with at least one "
            "component: an empty mixture has no density. Give one mean per mode."
        )
    k = len(means)
    for name, values in named.items():
        if name != "means" and tuple(values.shape) != (k,):
            raise ValueError(
                f"{name} have shape {tuple(values.shape)}, but there are {k} means: give one "
                f"number per component, shape ({k},)."
            )
        if not values.isfinite().all():
            raise ValueError(f"{name}={values.tolist()} must be finite: remove NaN and infinity.")
    if (stds <= 0).any():
        raise ValueError(
            f"stds={stds.tolist()} must all be above 0: give every mode a width σ > 0."
        )
    if (weights < 0).any() or abs(float(weights.sum()) - 1) > WEIGHT_TOLERANCE:
        raise ValueError(
            f"weights={weights.tolist()} must be at least 0 and sum to one, but sum to "
            f"{float(weights.sum()):.6g}: divide them by their sum."
        )
