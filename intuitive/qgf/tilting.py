"""The exact optimum p*(a) ∝ p_1(a) e^{wQ(a)}, and how far samples of numbers are from it.

`tilt` gives it on a grid. As the end of a flow, its velocity follows from the posterior mean D* of
x_1 under p* in the place of p_1:

    v* = (D* - x)/(1 - t) = v + ((1 - t)/t) ∇_x log E[e^{wQ(x_1)} | x_t = x]

`Posterior` computes D*, and other expectations given x_t, by quadrature for any t below 1; for
actions that are vectors so does tilting_vectors.py.

Source: Zhou et al. 2026, arXiv:2606.11087, Section 4 (closed-form optimum of KL-regularised RL).
"""

import math
from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from intuitive.common.checks import number
from intuitive.common.inputs import public

from .critics import Critic
from .mixture import GaussianMixture, Scalar
from .tilting_vectors import VectorPosterior

LogFactor = Callable[[Tensor], Tensor]

# Nodes of the quadrature. Every component brings its own, so that each mode is met at its scale.
N_REACH = 40  # standard deviations on either side of a mean
N_PER_STD = 2  # cells per standard deviation
BEND = 0.07  # nats by which a log-density may leave its chord's middle, twice over
Q_BEND = 2e-3  # the same for a function that is averaged, as a share of its range
FINEST = 1e-6  # narrowest cell, as a share of all nodes' range
NEGLIGIBLE = 200.0  # nats below the maximum: nodes left out
MAX_CELLS = 10_000  # where the kernel needs more, nodes around each position serve instead
N_KNOTS = 257  # positions computed; the others are interpolated between their neighbours
CHUNK = {"cpu": 1 << 14}  # numbers held at once: 128 kB stay in a core's cache and on the heap, …
WIDE = 1 << 21  # … and a GPU wants many


# ------------------------------------------------------------------------------------ on a grid


@public
def tilt(
    mixture: GaussianMixture, critic: Critic, weight: Scalar, grid: Tensor
) -> Float[Tensor, " m"]:
    """Density of p*(a) ∝ p_1(a) e^{wQ(a)}: of numbers on a grid, of vectors at any points.

    Numbers are normalised by the trapezoid rule, vectors by a quadrature over the mixture's
    components (tilting_vectors.py). Computed in logarithms and float64, so that large weights
    neither overflow nor underflow.

    Args:
        mixture: p_1.
        critic: Q, from actions [m] or [m, d] to values [m].
        weight: w = 1/β, at least 0.
        grid: [m], increasing positions that hold the mass of p*; unequal steps are welcome. For
            vectors any points [m, d].

    Returns:
        Densities [m] in the grid's dtype.

    Raises:
        ValueError: a weight that is negative or NaN, a grid that does not increase or is of
            another dimension, a critic that returns another shape or values that are not finite,
            or one too steep for the quadrature over vectors.
    """
    check_weight(weight)
    weight = float(number("weight", weight))
    if isinstance(mixture, GaussianMixture) and mixture.action_size is not None:

        def log_factor(actions: Tensor) -> Tensor:
            return weight * critic_values(critic, actions.to(grid.dtype)).double()

        with torch.no_grad():
            return VectorPosterior(mixture, log_factor, device=grid.device).log_prob(grid).exp()
    check_grid(grid)
    one_dimension(mixture)
    with torch.no_grad():
        wide = grid.double()
        log_p = mixture.log_prob(wide) + weight * critic_values(critic, grid).double()
        p = (log_p - log_p.max()).exp()
        return (p / torch.trapezoid(p, wide)).to(grid.dtype)


@public
def wasserstein1(samples: Tensor, density: Tensor, grid: Tensor) -> float:
    """W1 between samples and a density on a grid: the area between their distribution functions.

    Exact for the density that is linear between grid points and zero outside. Even perfect
    samples are at a distance of about the spread over √n.

    Args:
        samples: [n], finite positions, inside the grid or out of it.
        density: [m], not negative, with integral one (1% is forgiven and divided out).
        grid: [m], increasing positions.

    Returns:
        A distance in the unit of the positions.

    Raises:
        ValueError: no samples, shapes that differ, NaN, or a density that is none.
    """
    _check_samples(samples)
    check_grid(grid)
    density = _check_density(density, grid)
    x = samples.double().sort().values
    grid = grid.double()
    steps = torch.cumulative_trapezoid(density, grid)
    reached = torch.cat((steps.new_zeros(1), steps))  # F at the grid points, [m]
    knots = torch.cat((x, grid)).sort().values
    cell = (torch.searchsorted(grid, knots, right=True) - 1).clamp(0, len(grid) - 2)
    u = (knots - grid[cell]).clamp(min=0)
    width = grid[cell + 1] - grid[cell]
    u = torch.minimum(u, width)
    slope = (density[cell + 1] - density[cell]) / width
    exact = reached[cell] + density[cell] * u + 0.5 * slope * u.square()
    below = torch.searchsorted(x, knots[:-1], right=True).double() / len(x)  # between two knots
    left, right = below - exact[:-1], below - exact[1:]
    size = left.abs() + right.abs()
    crossing = (left.square() + right.square()) / (2 * size).clamp(min=1e-300)
    area = torch.where(left * right >= 0, size / 2, crossing)
    return float((area * knots.diff()).sum())


@public
def kl_divergence(p: Tensor, q: Tensor, grid: Tensor) -> float:
    """KL(p || q) in nats of two densities [m] on one grid [m], by the trapezoid rule.

    Where a density is 0, the least normal float64 stands in its place, so that a q that ends before
    p gives hundreds of nats rather than infinity.

    Raises:
        ValueError: shapes that differ, NaN, or densities that do not integrate to one.
    """
    check_grid(grid)
    p, q = _check_density(p, grid), _check_density(q, grid)
    tiny = torch.finfo(torch.float64).tiny
    integrand = p * (p.clamp(min=tiny).log() - q.clamp(min=tiny).log())
    return float(torch.trapezoid(integrand, grid.double()))


@public
def sample_kl(
    samples: Tensor,
    log_prob: Callable[[Tensor], Tensor],
    *,
    bin_width: int | float,
) -> float:
    """KL(samples || density) in nats, estimated by a histogram of the samples.

    Each bin compares its share of the samples with the density's mass in it (Simpson's rule).
    Finite samples raise the estimate by about (occupied bins - 1)/(2n), which is subtracted
    (Miller and Madow); what varies inside a bin is lost and lowers it, so that samples collapsed
    into one bin read no more than minus the logarithm of that bin's mass.

    Args:
        samples: [n], finite positions.
        log_prob: log-density at positions [m], normalised.
        bin_width: of the histogram, about a third of the narrowest mode.

    Raises:
        ValueError: no samples, NaN, or a width that is not above 0.
    """
    _check_samples(samples)
    if not bin_width > 0:
        raise ValueError(f"bin_width={bin_width} must be above 0: take a third of a mode's σ.")
    cells, counts = torch.unique((samples.double() / bin_width).floor(), return_counts=True)
    share = counts.double() / len(samples)
    nodes = cells[:, None] + torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, device=cells.device)
    simpson = torch.tensor([1 / 6, 4 / 6, 1 / 6], dtype=torch.float64, device=cells.device).log()
    log_mass = torch.logsumexp(
        log_prob((nodes * bin_width).flatten()).reshape(nodes.shape).double() + simpson, 1
    ) + math.log(bin_width)
    bias = (len(cells) - 1) / (2 * len(samples))
    return float((share * (share.log() - log_mass)).sum()) - bias


# ------------------------------------------------------------------------------------- as a flow


class Posterior:
    """What is known of x_1 given x_t, where x_1 ~ p_1 times a factor.

    With the factor e^{wQ} this is p*; with the indicator of an advantage it is the distribution
    that CFGRL's positive velocity learns; with the factor 1 it is p_1. Cells between nodes are
    halved until the factor's bends are met, and for each time t until they resolve the kernel
    N(x; t x_1, (1 - t)²) as well. Computed in float64 throughout.

    Args:
        mixture: p_1, in one dimension.
        log_factor: log of the factor at actions [m], float64; -inf where it is zero.
        function: another function of actions to resolve, for `mean_gradient`.
        device: where to compute.

    Raises:
        ValueError: a mixture of vectors, or a factor that is zero everywhere.
    """

    def __init__(
        self,
        mixture: GaussianMixture,
        log_factor: LogFactor,
        *,
        function: LogFactor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        one_dimension(mixture)
        self._mixture, self._log_factor, self._function = mixture, log_factor, function
        reach = torch.linspace(-N_REACH, N_REACH, 2 * N_REACH * N_PER_STD + 1, dtype=torch.float64)
        nodes = (mixture.means[:, None] + mixture.stds[:, None] * reach).flatten()
        nodes = torch.unique(nodes.to(device))
        finest = FINEST * float(nodes[-1] - nodes[0])
        log_density = self._log_density(nodes)
        if log_density.max() == -math.inf:
            raise ValueError(
                "the factor is zero at every node, so nothing is left of the mixture: "
                "choose a critic that favours some actions of the data."
            )
        kept = log_density > log_density.max() - NEGLIGIBLE
        nodes = nodes[kept | torch.roll(kept, 1) | torch.roll(kept, -1)]
        split = torch.ones(1, dtype=torch.bool, device=nodes.device)
        while split.any():
            middle = (nodes[:-1] + nodes[1:]) / 2
            ends, inner = self._log_density(nodes), self._log_density(middle)
            top = torch.maximum(ends.max(), inner.max())
            ends, inner = (part.clamp(min=top - 2 * NEGLIGIBLE) for part in (ends, inner))
            split = _bend(ends, inner) > BEND
            if function is not None:
                values, between = function(nodes), function(middle)
                split |= _bend(values, between) > Q_BEND * (values.max() - values.min())
            split &= torch.maximum(torch.maximum(ends[1:], ends[:-1]), inner) > top - NEGLIGIBLE
            split &= nodes.diff() > finest
            nodes = torch.cat((nodes, middle[split])).sort().values
        self._edges = nodes
        nodes, log_steps = _simpson(nodes)
        self._log_total = float(torch.logsumexp(self._log_density(nodes) + log_steps, 0))

    def log_prob_t(self, x: Float[Tensor, "..."], t: int | float) -> Float[Tensor, "..."]:
        """Log-density of x_t in nats, t in [0, 1]."""
        if t == 1:
            return (self._log_density(x.double()) - self._log_total).to(x.dtype)
        parts = [logits.logsumexp(1) for logits, _ in self._terms(x.double().flatten(), t)]
        scale = math.log(math.sqrt(2 * math.pi) * (1 - t)) + self._log_total
        return (torch.cat(parts) - scale).reshape(x.shape).to(x.dtype)

    def mean(self, x: Float[Tensor, "..."], t: int | float) -> Float[Tensor, "..."]:
        """E[x_1 | x_t = x] for t in [0, 1); it never falls as x rises."""
        if t == 0 and x.numel() > 1:  # noise tells nothing
            return self.mean(x.flatten()[:1], t).expand(x.shape).clone()

        def compute(x: Tensor) -> tuple[Tensor, Tensor]:
            means, variances, powers = [], [], None
            for logits, nodes in self._terms(x, t):
                if len(nodes) > 1:  # so near each other that their squares would cancel
                    share = logits.softmax(1)
                    means.append((share * nodes).sum(1))
                    spread = (nodes - means[-1][:, None]).square_().mul_(share)
                    variances.append(spread.sum(1))
                    continue
                if powers is None:  # the nodes are the same for all
                    (row,) = nodes
                    powers = torch.stack((torch.ones_like(row), row, row.square()), 1)
                sums = logits.sub_(logits.amax(1, keepdim=True)).exp_() @ powers
                total, first, second = sums.unbind(1)
                means.append(first / total)
                variances.append((second / total - means[-1].square()).clamp(min=0))
            return torch.cat(means), torch.cat(variances) * t / (1 - t) ** 2

        return _interpolated(compute, x, rising=True)

    def mean_gradient(self, x: Float[Tensor, "..."], t: int | float) -> Float[Tensor, "..."]:
        """∇_x E[f(x_1) | x_t = x] of the function given, for t in [0, 1).

        It is t Cov[f, x_1 | x] / (1 - t)², so that f itself is never differentiated.
        """
        rate = t / (1 - t) ** 2

        def compute(x: Tensor) -> tuple[Tensor, Tensor]:
            first, second = [], []
            for logits, nodes in self._terms(x, t):
                share = logits.softmax(1)
                values = self._function(nodes.flatten()).reshape(nodes.shape)
                from_mean = nodes - (share * nodes).sum(1, keepdim=True)
                values = share * (values - (share * values).sum(1, keepdim=True))
                first.append(rate * (values * from_mean).sum(1))
                second.append(rate**2 * (values * from_mean.square()).sum(1))
            return torch.cat(first), torch.cat(second)

        return _interpolated(compute, x, rising=False)

    def _log_density(self, a: Tensor) -> Tensor:
        return self._mixture.log_prob(a) + self._log_factor(a.flatten()).reshape(a.shape)

    @cached_property
    def _whole_cells(self) -> tuple[Tensor, Tensor]:
        steps = self._edges.diff()
        return self._cells(steps, torch.ones_like(steps, dtype=torch.long))

    def _cells(self, steps: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes of cells cut into parts, and the logarithms of density times weight there."""
        place = torch.arange(int(parts.sum()), device=steps.device)
        place = place - (parts.cumsum(0) - parts).repeat_interleave(parts)
        begins = self._edges[:-1].repeat_interleave(parts)
        edges = begins + (steps / parts).repeat_interleave(parts) * place
        nodes, log_steps = _simpson(torch.cat((edges, self._edges[-1:])))
        return nodes, self._log_density(nodes) + log_steps

    def _terms(self, x: Tensor, t: int | float):
        """Logarithms of the posterior's terms [n, m] and their nodes [1 or n, m], in chunks."""
        kernel = (1 - t) / t if t > 0 else math.inf  # its standard deviation over x_1
        steps = self._edges.diff()
        parts = (steps / kernel).ceil().clamp(min=1).long()
        if int(parts.sum()) <= MAX_CELLS:
            nodes, fixed = self._whole_cells if parts.max() == 1 else self._cells(steps, parts)
            scale = math.sqrt(0.5) / (1 - t)
            centres = nodes * (t * scale)
            for some in _chunks(x * scale, len(nodes)):
                away = (some[:, None] - centres).square_()
                yield torch.sub(fixed, away, out=away), nodes[None]
            return
        around = torch.linspace(-8, 8, 97, dtype=x.dtype, device=x.device)
        for some in _chunks(x, len(around)):
            nodes = some[:, None] / t + kernel * around
            log_density = self._log_density(nodes) + math.log(kernel / 6)
            yield log_density - 0.5 * around.square(), nodes


def _chunks(x: Tensor, n_nodes: int) -> tuple[Tensor, ...]:
    return x.split(max(1, CHUNK.get(x.device.type, WIDE) // n_nodes))


def _bend(ends: Tensor, middle: Tensor) -> Tensor:
    return (ends[:-1] + ends[1:] - 2 * middle).abs()


def _simpson(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes of Simpson's rule on every cell, and the logarithms of their weights."""
    middle, sixth = (edges[:-1] + edges[1:]) / 2, edges.diff() / 6
    ends = torch.nn.functional.pad(sixth, (1, 0)) + torch.nn.functional.pad(sixth, (0, 1))
    return torch.cat((edges, middle)), torch.cat((ends, 4 * sixth)).log()


def _interpolated(compute: Callable, x: Tensor, *, rising: bool) -> Tensor:
    """A function of positions through cubics between `N_KNOTS` of them, taken by rank.

    Where positions are dense so are the knots. `compute` gives value and slope.
    """
    if x.numel() <= N_KNOTS:
        return compute(x.double().flatten())[0].reshape(x.shape).to(x.dtype)
    ordered, order = x.double().flatten().sort()
    rank = torch.linspace(0, len(ordered) - 1, N_KNOTS, dtype=torch.float64).round().long()
    knots = ordered[rank.to(x.device)]
    value, slope = compute(knots)
    cell = (torch.searchsorted(knots, ordered, right=True) - 1).clamp(0, N_KNOTS - 2)
    width = knots.diff()[cell]
    u = ((ordered - knots[cell]) / width.clamp(min=1e-300)).clamp(0, 1)
    begin, end = value[cell], value[cell + 1]
    lift = u * (1 - u) * width * ((1 - u) * slope[cell] - u * slope[cell + 1])
    found = begin + (end - begin) * u.square() * (3 - 2 * u) + lift
    if rising:
        found = torch.minimum(torch.maximum(found, begin), end)
    result = torch.empty_like(found)
    result[order] = found
    return result.reshape(x.shape).to(x.dtype)


# --------------------------------------------------------------------------------------- checks


def one_dimension(mixture: GaussianMixture) -> None:
    """Raise unless the mixture is one of numbers."""
    if not isinstance(mixture, GaussianMixture) or mixture.action_size is not None:
        size = getattr(mixture, "action_size", None)
        raise ValueError(
            f"the exact optimum is computed in one dimension, for a GaussianMixture, but this is "
            f"a {type(mixture).__name__} with action_size={size}: pass a mixture with means [k]."
        )


def check_weight(weight: int | float | Tensor) -> None:
    """Raise unless every weight is a finite number of at least 0."""
    if not isinstance(weight, Tensor):
        weight = number("weight", weight)
    values = weight if isinstance(weight, Tensor) else torch.tensor(weight, device="cpu")
    if values.is_complex() or not bool(((values >= 0) & values.isfinite()).all()):
        raise ValueError(
            f"weight={weight} must be finite and at least 0: 0 samples the behaviour-cloned "
            "policy, larger weights follow the critic more."
        )


@public
def critic_values(critic: Critic, actions: Tensor) -> Tensor:
    """Q at actions [n] or [n, d], checked.

    Raises:
        ValueError: the critic returns no tensor of shape [n], or values that are not finite.
    """
    if not actions.is_floating_point() or not actions.ndim:
        raise ValueError(
            f"actions are {actions.dtype} of shape {tuple(actions.shape)}, but must be floating "
            "numbers [n] or [n, d]."
        )
    values = critic(actions)
    n = len(actions)
    if not isinstance(values, Tensor) or tuple(values.shape) != (n,):
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"the critic returned {got} for actions of shape {tuple(actions.shape)}, but must "
            f"return one value per action, shape ({n},): drop further axes, for instance with "
            "squeeze(-1)."
        )
    if not values.isfinite().all():
        bad = actions[~values.isfinite()]
        raise ValueError(
            f"the critic returned {values[~values.isfinite()][0].item()} at the action "
            f"{bad[0].tolist()}: if positions have run away, lower the weight or take more "
            "steps; else mend the critic there."
        )
    return values


@public
def check_grid(grid: Tensor) -> None:
    """Raise unless a grid [m] is finite and increasing."""
    if grid.ndim != 1 or len(grid) < 2 or not grid.isfinite().all() or (grid.diff() <= 0).any():
        raise ValueError(
            f"the grid has shape {tuple(grid.shape)} and must be at least two finite, increasing "
            "positions: make it with torch.linspace(low, high, m)."
        )


def _check_density(density: Tensor, grid: Tensor) -> Tensor:
    if density.shape != grid.shape:
        raise ValueError(
            f"the density has shape {tuple(density.shape)}, the grid {tuple(grid.shape)}: "
            "give one density per grid point."
        )
    wide = density.double()
    total = float(torch.trapezoid(wide, grid.double()))
    if not wide.isfinite().all() or (wide < 0).any() or abs(total - 1) > 0.01:
        raise ValueError(
            f"the density must be finite, at least 0 and integrate to one over the grid, but "
            f"integrates to {total:.4g}: widen the grid, or divide by the integral."
        )
    return wide / total


def _check_samples(samples: Tensor) -> None:
    if samples.ndim != 1 or len(samples) == 0 or not samples.isfinite().all():
        raise ValueError(
            f"the samples have shape {tuple(samples.shape)} and must be a list [n] of at least "
            "one finite position: flatten them, and look for NaN."
        )
