"""The exact optimum p*(a) ∝ p_1(a) e^{wQ(a)} for actions that are vectors, of any dimension.

Given x_t = x, x_1 is a mixture of Gaussians again, one per component of p_1, with shares, means and
widths in closed form (mixture.py). Expectations under p* are sums over nodes of each of them:

    D* = E[x_1 e^{wQ(x_1)} | x] / E[e^{wQ(x_1)} | x]

The nodes are Gauss and Hermite's along every axis in up to four dimensions, and evenly spread
points of a Sobol sequence beyond.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .mixture import GaussianMixture

PER_AXIS = {1: 40, 2: 20, 3: 12, 4: 8}  # nodes along an axis, by dimension
N_SPREAD = 4096  # nodes in more dimensions
AGREE = 0.02  # nats by which the normaliser may change with other nodes
CHUNK = 1 << 21  # numbers held at once


class VectorPosterior:
    """What is known of x_1 given x_t, where x_1 ~ p_1 times a factor, for positions [..., d].

    Computed in float64 throughout.

    Args:
        mixture: p_1, with means [k, d].
        log_factor: log of the factor at actions [m, d], float64.
        device: where to compute.

    Raises:
        ValueError: the factor is so steep that the nodes miss where p* lies.
    """

    def __init__(
        self, mixture: GaussianMixture, log_factor, *, device: torch.device | str = "cpu"
    ) -> None:
        self._mixture, self._log_factor = mixture, log_factor
        nodes, log_weights = normal_nodes(mixture.action_size)
        self._nodes, self._log_weights = nodes.to(device), log_weights.to(device)
        fewer = [part.to(device) for part in normal_nodes(mixture.action_size, coarser=True)]
        self._log_total, rough = (
            self._normaliser(*given) for given in ((self._nodes, self._log_weights), fewer)
        )
        if not abs(self._log_total - rough) < AGREE:  # NaN included
            raise ValueError(
                f"log E[factor] is {self._log_total:.4g} with some nodes and {rough:.4g} with "
                "others: the factor is too steep for this quadrature. Lower the weight, or smooth "
                "the critic."
            )

    def log_prob(self, a: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """Log-density of p* at actions, in nats."""
        wide = a.double()
        log_factor = self._log_factor(wide.reshape(-1, wide.shape[-1])).reshape(wide.shape[:-1])
        return (self._mixture.log_prob(wide) + log_factor - self._log_total).to(a.dtype)

    def log_prob_t(self, x: Float[Tensor, "... d"], t: int | float) -> Float[Tensor, "..."]:
        """Log-density of x_t in nats, t in [0, 1]."""
        wide = x.double().reshape(-1, x.shape[-1])
        gained = torch.cat([logits.flatten(1).logsumexp(1) for logits, _ in self._terms(wide, t)])
        found = self._mixture.log_prob_t(wide, t) + gained - self._log_total
        return found.reshape(x.shape[:-1]).to(x.dtype)

    def mean(self, x: Float[Tensor, "... d"], t: int | float) -> Float[Tensor, "... d"]:
        """E[x_1 | x_t = x] under p*, t in [0, 1]."""
        wide, means = x.double().reshape(-1, x.shape[-1]), []
        for logits, actions in self._terms(wide, t):
            share = logits.flatten(1).softmax(1).reshape(logits.shape)  # [n, k, j]
            means.append(torch.einsum("nkj,nkjd->nd", share, actions))
        return torch.cat(means).reshape(x.shape).to(x.dtype)

    def _terms(self, x: Tensor, t: int | float):
        """Logarithms of the posterior's terms [n, k, j] and their actions, in chunks."""
        per_point = self._mixture.n_components * self._nodes.numel()
        for some in x.split(max(1, CHUNK // per_point)):
            log_shares, means, stds = self._mixture.posterior_parts(some, t)
            # [n, k, j, d]
            actions = means.movedim(0, 1)[:, :, None] + stds[:, None, None] * self._nodes
            values = self._log_factor(actions.flatten(0, 2)).reshape(actions.shape[:3])
            yield log_shares.T[..., None] + self._log_weights + values, actions

    def _normaliser(self, nodes: Tensor, log_weights: Tensor) -> float:
        means, stds = (part.to(nodes.device) for part in (self._mixture.means, self._mixture.stds))
        actions = means[:, None] + stds[:, None, None] * nodes  # [k, j, d]
        values = self._log_factor(actions.flatten(0, 1)).reshape(actions.shape[:2])
        log_shares = self._mixture.weights.to(nodes.device).log()
        return float((log_shares[:, None] + log_weights + values).flatten().logsumexp(0))


def normal_nodes(
    size: int, *, coarser: bool = False
) -> tuple[Float[Tensor, "m d"], Float[Tensor, " m"]]:
    """Nodes of the standard normal distribution in `size` dimensions, and log weights.

    `coarser` takes about three quarters of them along an axis, or half of the spread ones.
    """
    if size in PER_AXIS:
        n = PER_AXIS[size] * 3 // 4 if coarser else PER_AXIS[size]
        at, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(n))
        log_weights = weights.log() - 0.5 * math.log(2 * math.pi)
        axes = torch.meshgrid(*[at] * size, indexing="ij")
        heights = torch.meshgrid(*[log_weights] * size, indexing="ij")
        return torch.stack(axes, -1).reshape(-1, size), sum(heights).reshape(-1)
    n = N_SPREAD // 2 if coarser else N_SPREAD
    points = torch.quasirandom.SobolEngine(size).draw(n, dtype=torch.float64)
    nodes = torch.special.ndtri(points.clamp(0.5 / n, 1 - 0.5 / n))
    return nodes, torch.full((n,), -math.log(n), dtype=torch.float64)
