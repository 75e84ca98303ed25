"""Estimators of the guidance: every one a function from a `Step` to a `Guidance`.

All but two steer every step of the flow by adding w g to its velocity; they differ in where they
ask the critic and in what they do with its gradient:

    ood            ∇Q(x_t)                               the noisy action, as if it were clean
    qgf            ∇Q(x̂_1), x̂_1 = x_t + (1 - t) v        one Euler jump, Jacobian left out
    qgf_jacobian   J_1ᵀ ∇Q(x̂_1), J_1 = ∂x̂_1/∂x_t
    flow_dps       ((1 - t)/t) J_1ᵀ ∇Q(x̂_1), 0 at t = 0
    chain          ∇Q(ODE(x_t))                          all remaining Euler steps, no Jacobian
    bptt           (∂ODE/∂x_t)ᵀ ∇Q(ODE(x_t))
    robust_q       ∇Q_r(x_t, t), Q_r the regression of Q on noisy actions
    cfgrl          v_+ - v, v_+ the flow of the actions with an advantage
    exact          v* - v, v* the flow of p_1 e^{wQ}; no w in front

The other two let the flow run and act on its samples: `grad_step` climbs Q from them,
`best_of_n` chooses among them. That last step is the estimator's own: `Estimator.finish`.

Source: Zhou et al. 2026, arXiv:2606.11087, Sections 4 and 5, Eq. 8 and 9; Chung et al. 2023,
arXiv:2209.14687 (DPS); Frans et al. 2025, arXiv:2505.23458 (CFGRL).
Differs: the released code of BPTT and RobustQ does not run; these follow the equations.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from intuitive.common.runtime import check

from .critics import Critic
from .mixture import GaussianMixture
from .tilting import Posterior, critic_values
from .tilting_vectors import VectorPosterior

Stale = Callable[[], bool]
Quadratures = dict[str | float, Posterior | VectorPosterior]  # exact's by weight, others by name

NUDGE = 1e-3  # by which a slope is looked for where autograd finds none
SCHEDULES = ("constant", "score")  # factor 1, or (1 - t)/t and 0 at t = 0


@runtime_checkable
class Field(Protocol):
    """A velocity field: a closed form, or a network bound to its states."""

    action_size: int | None  # None: positions are numbers

    def velocity(self, x: Tensor, t: float) -> Tensor: ...


@dataclass
class Passes:
    """Network passes per sampled action; a backward pass is one reverse sweep through a network."""

    field_forward: int = 0
    field_backward: int = 0
    critic_forward: int = 0
    critic_backward: int = 0

    @property
    def total(self) -> int:
        """All passes; members of a critic ensemble count one each."""
        return self.field_forward + self.field_backward + self.critic_forward + self.critic_backward


@dataclass(kw_only=True, eq=False)
class Oracles:
    """What an estimator may ask: the field and the critics, with a count of the passes."""

    field: Field
    critics: tuple[Critic, ...]
    robust_critic: Callable[[Tensor, float], Tensor] | None = None
    positive_field: Field | None = None
    passes: Passes = field(default_factory=Passes)
    kept: Quadratures = field(default_factory=dict)  # each is made once per run

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """Velocity at positions, one forward pass."""
        self.passes.field_forward += 1
        velocity = self.field.velocity(x, t)
        if velocity.shape != x.shape:
            raise ValueError(
                f"the field returned velocities of shape {tuple(velocity.shape)} for positions "
                f"{tuple(x.shape)}: it must return one velocity per position."
            )
        return velocity

    def values(self, actions: Tensor) -> Tensor:
        """Q, the minimum over the ensemble, at actions of any batch shape."""
        self.passes.critic_forward += len(self.critics)
        flat = self.flat(actions)
        return self._least(flat).reshape(self.batch(actions))

    def quadrature_values(self, actions: Tensor, dtype: torch.dtype) -> Tensor:
        """Q at the nodes [m] or [m, d] of a quadrature, in float64; no action pays for it."""
        return self._least(actions.to(dtype)).double()

    def gradient(self, actions: Tensor) -> Tensor:
        """∇Q at actions; through the least member alone, one backward pass each.

        A critic that does not depend on the actions, or only by jumps, has gradient zero.

        Raises:
            ValueError: its values change smoothly with the actions, but autograd cannot see how.
        """
        self.passes.critic_forward += len(self.critics)
        self.passes.critic_backward += len(self.critics)
        return self._gradient(self._least, self.flat(actions)).reshape(actions.shape)

    def robust_gradient(self, x: Tensor, t: float) -> Tensor:
        """∇_x Q_r(x, t) of the critic learned on noisy actions."""
        self.passes.critic_forward += 1
        self.passes.critic_backward += 1

        def values(actions: Tensor) -> Tensor:
            return critic_values(lambda noisy: self.robust_critic(noisy, t), actions)

        return self._gradient(values, self.flat(x)).reshape(x.shape)

    def batch(self, x: Tensor) -> torch.Size:
        """The shape of positions without their own axis."""
        return x.shape if self.field.action_size is None else x.shape[:-1]

    def flat(self, x: Tensor) -> Tensor:
        """Positions as [n] or [n, d]."""
        size = self.field.action_size
        return x.reshape(-1) if size is None else x.reshape(-1, size)

    def _least(self, flat: Tensor) -> Tensor:
        values = [critic_values(critic, flat) for critic in self.critics]
        return values[0] if len(values) == 1 else torch.stack(values).amin(0)

    @staticmethod
    def _gradient(critic: Critic, actions: Tensor) -> Tensor:
        with torch.enable_grad():
            flat = actions.detach().clone().requires_grad_()
            try:
                values = critic(flat)
            except RuntimeError as error:
                if "numpy() on Tensor that requires grad" in str(error):
                    raise ValueError(NO_GRADIENT) from error
                raise
            gradient = None
            if values.requires_grad:
                (gradient,) = torch.autograd.grad(values.sum(), flat, allow_unused=True)
        if gradient is None:
            _check_no_slope(critic, flat.detach(), values.detach())
            return torch.zeros_like(flat)
        if not gradient.isfinite().all():
            bad = flat[~gradient.isfinite().reshape(len(flat), -1).all(1)]
            raise ValueError(
                f"the critic's gradient is not finite at the action {bad[0].tolist()}: if "
                "positions have run away, lower the weight or take more steps; else smooth the "
                "critic there."
            )
        return gradient


NO_GRADIENT = (
    "the critic's values change with the actions, but it has no gradient, so guidance would do "
    "nothing: compute it in torch from the actions, without detach(), item(), numpy() or "
    "torch.no_grad(). Of such a critic best_of_n alone makes use."
)


def _check_no_slope(critic: Critic, actions: Tensor, values: Tensor) -> None:
    """Raise if a critic without gradient slopes: most values change with a nudge of the actions."""
    with torch.no_grad():
        nudged = critic(actions + NUDGE * (1 + actions.abs()))
    if (nudged != values).double().mean() > 0.5:
        raise ValueError(NO_GRADIENT)


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One Euler step as an estimator sees it."""

    x: Tensor  # positions [..., n] or [..., n, d]
    velocity: Tensor  # of the field, there and now
    times: Sequence[float]  # now, and what remains of the grid, 1 included
    weight: Tensor  # w, broadcasts against positions
    oracles: Oracles
    schedule: str = "constant"
    clip: tuple[float, float] | None = None  # bounds of actions where the critic is asked
    gradient_norm: float | None = None  # longer gradients are shortened to it

    @property
    def t(self) -> float:
        return self.times[0]

    @property
    def estimate(self) -> Tensor:
        """x̂_1 = x + (1 - t) v, before any clipping."""
        return self.x + (1 - self.t) * self.velocity

    def clipped(self, actions: Tensor) -> Tensor:
        return actions if self.clip is None else actions.clamp(*self.clip)

    def inside(self, actions: Tensor) -> Tensor | float:
        """The derivative of clipping: 0 at clipped coordinates, else 1."""
        if self.clip is None:
            return 1.0
        return ((actions >= self.clip[0]) & (actions <= self.clip[1])).to(actions.dtype)

    def along(
        self,
        gradient: Tensor,
        queries: Tensor,
        *,
        slope: Tensor | None = None,
        schedule: str | None = None,
    ) -> "Guidance":
        """Guidance by w times a gradient, shortened and scheduled as the step asks.

        `slope` is ∇Q at the queries, where a Jacobian has made another gradient of it.
        """
        slope = gradient if slope is None else slope
        if self.gradient_norm is not None:
            size = gradient.abs()
            if self.oracles.field.action_size is not None:
                size = gradient.norm(dim=-1, keepdim=True)
            gradient = gradient * (self.gradient_norm / size.clamp(min=1e-30)).clamp(max=1)
        factor = 1.0
        if (schedule or self.schedule) == "score":
            factor = (1 - self.t) / self.t if self.t > 0 else 0.0
        return Guidance(
            velocity=factor * self.weight * gradient,
            queries=queries,
            slope=slope,
            carried=factor * gradient,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Guidance:
    """What an estimator adds to the velocity, and where it asked the critic."""

    velocity: Tensor  # as the positions
    queries: Tensor | None = None  # None: at no single point
    slope: Tensor | None = None  # ∇Q there, before any Jacobian, weight or schedule
    carried: Tensor | None = None  # what Jacobian and schedule have made of it; w is still missing


# ---------------------------------------------------------------------------------- estimators


def bc(step: Step) -> Guidance:
    """No guidance: the behaviour-cloned policy; also where a method acts on finished samples."""
    return Guidance(velocity=torch.zeros_like(step.x))


def ood(step: Step) -> Guidance:
    """∇Q(x_t): asks about noisy actions, on which no critic was trained."""
    return step.along(step.oracles.gradient(step.x), step.x)


def qgf(step: Step) -> Guidance:
    """∇Q(x̂_1), as if x̂_1 moved with x_t one to one (Eq. 9)."""
    queries = step.clipped(step.estimate)
    return step.along(step.oracles.gradient(queries), queries)


def qgf_jacobian(step: Step) -> Guidance:
    """J_1ᵀ∇Q(x̂_1): the gradient of Q(x̂_1(x_t)) itself (Eq. 8)."""
    gradient, slope, queries = _one_step_gradient(step)
    return step.along(gradient, queries, slope=slope)


def flow_dps(step: Step) -> Guidance:
    """((1 - t)/t) J_1ᵀ∇Q(x̂_1), and 0 at t = 0: DPS, its score guidance turned into velocity."""
    gradient, slope, queries = _one_step_gradient(step)
    return step.along(gradient, queries, slope=slope, schedule="score")


def chain(step: Step) -> Guidance:
    """∇Q(ODE(x_t)): follows all remaining Euler steps, but leaves their Jacobian out."""
    queries = step.clipped(_endpoint(step, step.x, step.velocity))
    return step.along(step.oracles.gradient(queries), queries)


def bptt(step: Step) -> Guidance:
    """(∂ODE/∂x_t)ᵀ∇Q(ODE(x_t)): backpropagation through all remaining Euler steps."""
    with torch.enable_grad():
        x = step.x.detach().clone().requires_grad_()
        end = _endpoint(step, x, step.oracles.velocity(x, step.t))
    queries = step.clipped(end.detach())
    slope = step.oracles.gradient(queries)
    (gradient,) = torch.autograd.grad(end, x, slope * step.inside(end.detach()))
    step.oracles.passes.field_backward += len(step.times) - 1
    return step.along(gradient, queries, slope=slope)


def robust_q(step: Step) -> Guidance:
    """∇Q_r(x_t, t), Q_r learned by regression; without one the ideal E[Q(x_1) | x_t]."""
    oracles = step.oracles
    if oracles.robust_critic is not None:
        return step.along(oracles.robust_gradient(step.x, step.t), step.x)
    mixture = _closed_form(step, "robust_q", "robust_critic=Q_r, a function of (x_t, t)")
    if "robust_q" not in oracles.kept:
        oracles.kept["robust_q"] = Posterior(
            mixture,
            torch.zeros_like,
            function=lambda actions: oracles.quadrature_values(actions, step.x.dtype),
            device=step.x.device,
        )
    return step.along(oracles.kept["robust_q"].mean_gradient(step.x, step.t), step.x)


def cfgrl(step: Step) -> Guidance:
    """w (v_+ - v); without a learned v_+ the flow of the data with Q above its mean."""
    oracles = step.oracles
    if oracles.positive_field is not None:
        oracles.passes.field_forward += 1
        positive = oracles.positive_field.velocity(step.x, step.t)
        return Guidance(velocity=step.weight * (positive - step.velocity))
    mixture = _closed_form(step, "cfgrl", "positive_field=v_+")
    if "cfgrl" not in oracles.kept:
        oracles.kept["cfgrl"] = Posterior(mixture, _advantage(mixture, step), device=step.x.device)
    positive = oracles.kept["cfgrl"].mean(step.x, step.t)
    return Guidance(velocity=step.weight * (positive - step.estimate) / (1 - step.t))


def exact(step: Step) -> Guidance:
    """v* - v of the exact optimum p_1 e^{wQ}, by quadrature; closed form only, any dimension."""
    mixture = _closed_form(step, "exact", "another estimator", vectors=True)
    oracles, x = step.oracles, step.x
    vectors = mixture.action_size is not None
    posterior = VectorPosterior if vectors else Posterior
    weight = step.weight.expand(x.shape)
    weight = weight[..., 0] if vectors else weight  # one per position
    change = torch.zeros_like(x)
    for w in torch.unique(step.weight).tolist():
        if w == 0:
            continue
        if w not in oracles.kept:
            oracles.kept[w] = posterior(
                mixture,
                lambda actions, w=w: w * oracles.quadrature_values(actions, x.dtype),
                device=x.device,
            )
        mean = oracles.kept[w].mean
        if step.weight.numel() == 1:
            return Guidance(velocity=(mean(x, step.t) - step.estimate) / (1 - step.t))
        here = weight == w
        change[here] = (mean(x[here], step.t) - step.estimate[here]) / (1 - step.t)
    return Guidance(velocity=change)


def _one_step_gradient(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """J_1ᵀ∇Q at the clipped estimate, ∇Q, and that point; clipped coordinates carry no gradient."""
    estimate = step.estimate
    queries = step.clipped(estimate)
    slope = step.oracles.gradient(queries)
    gradient = slope * step.inside(estimate)
    source = step.oracles.field
    if isinstance(source, GaussianMixture):  # exact where autograd rounds: 0 at t = 0
        jacobian = source.posterior_mean_jacobian(step.x, step.t)
        if source.action_size is None:
            return jacobian * gradient, slope, queries
        return torch.einsum("...ji,...j->...i", jacobian, gradient), slope, queries
    with torch.enable_grad():
        x = step.x.detach().clone().requires_grad_()
        moved = x + (1 - step.t) * step.oracles.velocity(x, step.t)
    (gradient,) = torch.autograd.grad(moved, x, gradient)
    step.oracles.passes.field_backward += 1
    return gradient, slope, queries


def _endpoint(step: Step, x: Tensor, velocity: Tensor) -> Tensor:
    """Where the unguided Euler steps that remain lead."""
    for t, later in itertools.pairwise(step.times):
        if t != step.t:
            velocity = step.oracles.velocity(x, t)
        x = x + (later - t) * velocity
    return x


def _advantage(mixture: GaussianMixture, step: Step) -> Callable[[Tensor], Tensor]:
    """Log of the indicator that Q is at least its mean over the data."""

    def values(actions: Tensor) -> Tensor:
        return step.oracles.quadrature_values(actions, step.x.dtype)

    spread = torch.linspace(-8, 8, 801, dtype=torch.float64)
    share = (-0.5 * spread.square()).exp()
    share = share / share.sum()
    nodes = mixture.means[:, None] + mixture.stds[:, None] * spread
    at_nodes = values(nodes.to(step.x.device).flatten()).reshape(nodes.shape).cpu()
    mean = float((mixture.weights[:, None] * share * at_nodes).sum())
    mean -= 1e-6 * (abs(mean) + float(at_nodes.max() - at_nodes.min()))  # rounding of a constant Q
    return lambda actions: (values(actions) >= mean).double().log()


def _closed_form(step: Step, name: str, instead: str, *, vectors: bool = False) -> GaussianMixture:
    source = step.oracles.field
    if isinstance(source, GaussianMixture) and (vectors or source.action_size is None):
        return source
    raise ValueError(
        f"estimator={name!r} is computed by quadrature and needs a "
        f"{'' if vectors else 'one-dimensional '}GaussianMixture, but the field is a "
        f"{type(source).__name__} with action_size={source.action_size}: pass {instead}."
    )


# ---------------------------------------------------------------------------- the finishing step


@dataclass(frozen=True, kw_only=True, eq=False)
class Flown:
    """What the flow has left, as the last step of an estimator sees it."""

    actions: Tensor  # [n], clipped as the caller asks
    trajectory: Tensor  # [T + 1, n]
    guidance: Tensor  # [T, n]
    queries: tuple[Tensor, ...]  # each [n]
    query_times: tuple[float, ...]  # when each was asked


@dataclass(frozen=True, kw_only=True, eq=False)
class Ending:
    """What the last step of an estimator may use."""

    oracles: Oracles
    weight: Tensor
    clip: tuple[float, float] | None
    ascent_steps: int
    step_size: int | float
    stale: Stale


def as_flown(flows: Sequence[Flown], ending: Ending) -> Flown:
    """The flow's own actions."""
    return flows[0]


def climb(flows: Sequence[Flown], ending: Ending) -> Flown:
    """a ← a + α w ∇Q(a), some times over, from where the flow ends."""
    actions, queries = flows[0].actions, []
    for _ in range(ending.ascent_steps):
        check(ending.stale)
        queries.append(actions)
        actions = actions + ending.step_size * ending.weight * ending.oracles.gradient(actions)
        actions = actions if ending.clip is None else actions.clamp(*ending.clip)
    times = (1.0,) * len(queries)
    return replace(flows[0], actions=actions, queries=tuple(queries), query_times=times)


def choose(flows: Sequence[Flown], ending: Ending) -> Flown:
    """Of several flows from other noise, the one of the largest w Q; the first of equals."""
    candidates = torch.stack([flow.actions for flow in flows])
    values = torch.stack([ending.oracles.values(actions) for actions in candidates])
    if ending.oracles.field.action_size is not None:
        values = values[..., None]
    best = (ending.weight * values).argmax(0)[None]
    paths, pushes = (
        torch.stack([getattr(flow, part) for flow in flows]).take_along_dim(best[None], 0)[0]
        for part in ("trajectory", "guidance")
    )
    return Flown(
        actions=candidates.take_along_dim(best, 0)[0],
        trajectory=paths,
        guidance=pushes,
        queries=tuple(candidates),
        query_times=(1.0,) * len(flows),
    )


# ------------------------------------------------------------------------------------- by name


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimator:
    """One way of guiding: what it adds at every step, and what it does where the flow ends."""

    label: str
    guide: Callable[[Step], Guidance]
    finish: Callable[[Sequence[Flown], Ending], Flown] = as_flown
    chooses: bool = False  # among flows from several draws of noise
    ascends: bool = False  # by steps of w/T along a gradient of Q: Euler's limit is theirs

    def __call__(self, step: Step) -> Guidance:
        return self.guide(step)


ESTIMATORS: dict[str, Estimator] = {
    "bc": Estimator(label="BC (no guidance)", guide=bc),
    "ood": Estimator(label="OOD gradient", guide=ood, ascends=True),
    "qgf": Estimator(label="QGF", guide=qgf, ascends=True),
    "qgf_jacobian": Estimator(label="QGF-Jacobian", guide=qgf_jacobian, ascends=True),
    "flow_dps": Estimator(label="flow-DPS", guide=flow_dps, ascends=True),
    "chain": Estimator(label="QGF-chain", guide=chain, ascends=True),
    "bptt": Estimator(label="BPTT", guide=bptt, ascends=True),
    "robust_q": Estimator(label="RobustQ", guide=robust_q, ascends=True),
    "grad_step": Estimator(label="GradStep", guide=bc, finish=climb),
    "best_of_n": Estimator(label="best of N", guide=bc, finish=choose, chooses=True),
    "cfgrl": Estimator(label="CFGRL", guide=cfgrl),
    "exact": Estimator(label="exact guidance", guide=exact),
}

ESTIMATOR_NAMES = {name: estimator.label for name, estimator in ESTIMATORS.items()}
