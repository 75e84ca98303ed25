"""The one Euler loop that samples a flow under guidance, for every estimator.

x_0 ~ N(0, I); for t = 0, δ, ..., 1 - δ with δ = 1/T: x ← x + δ (v(x, t) + guidance).

Source: Zhou et al. 2026, arXiv:2606.11087, Algorithm 1.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex

import torch
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.inputs import public
from intuitive.common.runtime import check, never

from .checks import check_field, check_generator
from .critics import Critic
from .guidance import (
    ESTIMATORS,
    SCHEDULES,
    Ending,
    Estimator,
    Field,
    Flown,
    Guidance,
    Oracles,
    Passes,
    Quadratures,
    Stale,
    Step,
)
from .tilting import check_weight

MOST = 2**31 - 1  # particles


@dataclass(frozen=True, kw_only=True, eq=False)
class GuidedSample:
    """Samples and the way to them. A position has shape [] or [d], a batch [...] of them is n."""

    actions: Tensor  # [n]
    trajectory: Tensor  # [T + 1, n], noise first, as left by the flow
    queries: Tensor  # [T', n] where the critic was asked for gradients or values; T' may be 0
    query_times: Tensor  # [T'], when each of them was asked
    times: Tensor  # [T + 1], of the trajectory
    guidance: Tensor  # [T, n], added to the velocity
    passes: Passes  # network passes per action


@public
def sample_guided(
    field: Field,
    critic: Critic | Sequence[Critic],
    *,
    estimator: str,
    weight: int | float | Tensor,
    n_steps: SupportsIndex,
    n_particles: SupportsIndex | Sequence[SupportsIndex],
    generator: torch.Generator,
    schedule: str = "constant",
    clip: tuple[float, float] | None = None,
    gradient_norm: int | float | None = None,
    n_candidates: SupportsIndex = 4,
    ascent_steps: SupportsIndex = 3,
    step_size: int | float = 0.05,
    robust_critic: Callable[[Tensor, float], Tensor] | None = None,
    positive_field: Field | None = None,
    start: Tensor | None = None,
    observe: Callable[[Step, Guidance], None] | None = None,
    quadratures: Quadratures | None = None,
    stale: Stale = never,
) -> GuidedSample:
    """Sample a flow with one of the `ESTIMATORS`; weight 0 gives the same BC samples by all.

    Args:
        field: `velocity(x, t)` and `action_size`: a GaussianMixture, or a network with states.
        critic: differentiable, from actions [N] (or [N, d]) to values [N]; of several critics
            the least value counts.
        estimator: a name in `ESTIMATORS`.
        weight: w at least 0, a number or a tensor that broadcasts against the batch shape.
            It multiplies gradients; in best_of_n the values; in grad_step the step size.
        n_steps: Euler steps T.
        n_particles: samples n, or a batch shape such as (n_weights, n_seeds, n).
        generator: source of the noise; its device is where the work is done.
        schedule: "constant", or "score": gradients times (1 - t)/t, none at t = 0. Of flow_dps
            the factor is part already; exact and cfgrl have no use for it.
        clip: bounds of actions. Estimates of x_1 are clipped before the critic sees them, with
            the gradient taken at the clipped point, and so is the result; x_t never is.
        gradient_norm: longer gradients are shortened to this length.
        n_candidates: N of best_of_n; the first is the BC sample.
        ascent_steps: steps of grad_step.
        step_size: of each, times the weight.
        robust_critic: Q_r for robust_q, from noisy actions [N] and t to values [N].
        positive_field: v_+ for cfgrl.
        start: x_0 in the place of noise, of the batch shape; its dtype is used throughout.
        observe: called at every Euler step with what the estimator saw and what it answered.
        quadratures: of estimators in closed form, kept for further calls with the same field and
            critic; what is missing is added.
        stale: turns true when nobody waits for the result any more.

    Returns:
        Positions in the dtype of `start`, else of the field (float32 if it has none).

    Raises:
        ValueError: an argument out of range, a critic that returns another shape than [N],
            numbers that are not finite or no gradient, an estimator that cannot serve this field,
            or particles that run away beyond all numbers.
        Cancelled: `stale()` became true between two steps.
    """
    n_steps = _check(field, estimator, n_steps, schedule, clip, gradient_norm)
    check_weight(weight)
    check_generator(generator)
    n_candidates = whole("n_candidates", n_candidates, low=1)
    ascent_steps = whole("ascent_steps", ascent_steps, low=1)
    chosen = ESTIMATORS[estimator]
    oracles = Oracles(
        field=field,
        critics=_critics(critic),
        robust_critic=robust_critic,
        positive_field=positive_field,
        kept={} if quadratures is None else quadratures,
    )
    # Autograd refuses tensors of inference mode, in which a caller may be.
    with torch.inference_mode(False), torch.no_grad():
        starts = _starts(
            field, n_particles, generator, start, n_candidates if chosen.chooses else 1
        )
        w = torch.as_tensor(weight, dtype=starts.dtype, device=starts.device).clone()
        _check_broadcast(w, oracles.batch(starts[0]))
        if field.action_size is not None and w.ndim:
            w = w[..., None]
        first = Step(
            x=starts[0],
            velocity=starts[0],  # of no step yet
            times=[i / n_steps for i in range(n_steps + 1)],
            weight=w,
            oracles=oracles,
            schedule=schedule,
            clip=clip,
            gradient_norm=gradient_norm,
        )
        # Candidates flow one by one: the first is the BC sample to the last bit.
        flows = [_flow(replace(first, x=x), chosen, observe, stale) for x in starts]
        ending = Ending(
            oracles=oracles,
            weight=w,
            clip=clip,
            ascent_steps=ascent_steps,
            step_size=step_size,
            stale=stale,
        )
        end = chosen.finish(flows, ending)
        like = {"dtype": starts.dtype, "device": starts.device}
        return GuidedSample(
            actions=end.actions,
            trajectory=end.trajectory,
            queries=torch.stack(end.queries) if end.queries else end.trajectory[:0],
            query_times=torch.tensor(end.query_times, **like),
            times=torch.arange(n_steps + 1, **like) / n_steps,
            guidance=end.guidance,
            passes=oracles.passes,
        )


def _flow(
    first: Step,
    estimator: Estimator,
    observe: Callable[[Step, Guidance], None] | None,
    stale: Stale,
) -> Flown:
    """Euler's steps from noise; `first` says where they begin, and all that stays the same."""
    x, times = first.x, first.times
    path, push, queries, asked = [x], [], [], []
    for i, (t, later) in enumerate(itertools.pairwise(times)):
        check(stale)
        step = replace(first, x=x, velocity=first.oracles.velocity(x, t), times=times[i:])
        found = estimator(step)
        if observe is not None:
            observe(step, found)
        x = x + (later - t) * (step.velocity + found.velocity)
        if not x.isfinite().all():
            raise ValueError(
                f"{int((~x.isfinite()).sum())} of {x.numel()} coordinates are no longer finite "
                f"after step {i + 1} of {len(times) - 1}: lower the weight or take more steps."
            )
        path.append(x)
        push.append(found.velocity)
        if found.queries is not None:
            queries.append(found.queries)
            asked.append(t)
    return Flown(
        actions=x if first.clip is None else x.clamp(*first.clip),
        trajectory=torch.stack(path),
        guidance=torch.stack(push),
        queries=tuple(queries),
        query_times=tuple(asked),
    )


def guided_velocity(
    field: Field,
    critic: Critic | Sequence[Critic],
    x: Tensor,
    *,
    estimator: str,
    weight: int | float,
    n_steps: SupportsIndex,
    schedule: str = "constant",
    clip: tuple[float, float] | None = None,
    gradient_norm: int | float | None = None,
    steps: Sequence[SupportsIndex] | None = None,
    quadratures: Quadratures | None = None,
    stale: Stale = never,
) -> tuple[Tensor, Tensor]:
    """Velocity and guidance that Euler steps would see at the same positions.

    Args:
        field, critic, estimator, weight, n_steps, schedule, clip, gradient_norm, quadratures: as
            in `sample_guided`.
        x: positions, [...] or [..., d].
        steps: which of the T steps, counted from 0; all if None.
        stale: turns true when nobody waits.

    Returns:
        The field's velocity [n_steps asked, ...] and what the estimator adds to it, likewise.

    Raises:
        ValueError, Cancelled: as in `sample_guided`.
    """
    n_steps = _check(field, estimator, n_steps, schedule, clip, gradient_norm)
    check_weight(weight)
    kept = {} if quadratures is None else quadratures
    oracles = Oracles(field=field, critics=_critics(critic), kept=kept)
    velocities, pushes = [], []
    with torch.inference_mode(False), torch.no_grad():
        x = x.clone()
        for i in range(n_steps) if steps is None else steps:
            check(stale)
            step = Step(
                x=x,
                velocity=oracles.velocity(x, i / n_steps),
                times=[j / n_steps for j in range(i, n_steps + 1)],
                weight=torch.as_tensor(weight, dtype=x.dtype, device=x.device),
                oracles=oracles,
                schedule=schedule,
                clip=clip,
                gradient_norm=gradient_norm,
            )
            velocities.append(step.velocity)
            pushes.append(ESTIMATORS[estimator](step).velocity)
        return torch.stack(velocities), torch.stack(pushes)


def _critics(critic: Critic | Sequence[Critic]) -> tuple[Critic, ...]:
    critics = tuple(critic) if isinstance(critic, list | tuple) else (critic,)
    if not critics:
        raise ValueError("critic=() is empty: pass a critic, or a list of at least one.")
    return critics


def _starts(
    field: Field,
    n_particles: SupportsIndex | Sequence[SupportsIndex],
    generator: torch.Generator,
    start: Tensor | None,
    n_candidates: int,
) -> Tensor:
    """Noise [n_candidates, ...]; the first candidate's is the same whatever their number.

    Drawn in float32 for every dtype, so that precision does not change the sample.
    """
    given = n_particles if isinstance(n_particles, Sequence) else (n_particles,)
    if not given:
        raise ValueError("n_particles=() is empty: ask for at least one particle.")
    batch = tuple(whole("n_particles", n, low=1, high=MOST) for n in given)
    shape = batch if field.action_size is None else (*batch, field.action_size)
    if start is not None and tuple(start.shape) != shape:
        raise ValueError(
            f"start has shape {tuple(start.shape)}, but n_particles={n_particles} asks for {shape}."
        )
    dtype = getattr(field, "dtype", torch.float32) if start is None else start.dtype
    device = generator.device if start is None else start.device
    first = start
    if first is None:
        first = torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(
            dtype
        )
    if not first.isfinite().all():
        raise ValueError("start has entries that are not finite: replace NaN and infinity.")
    more = torch.randn(
        n_candidates - 1, *shape, generator=generator, device=generator.device, dtype=torch.float32
    )
    return torch.cat((first.clone()[None], more.to(device, dtype)))


def _check(field, estimator, n_steps, schedule, clip, gradient_norm) -> int:
    """Raise unless the arguments fit; the number of steps as a Python int."""
    check_field(field)
    if estimator not in ESTIMATORS:
        raise ValueError(
            f"estimator={estimator!r} is unknown; choose one of {', '.join(ESTIMATORS)}."
        )
    n_steps = whole("n_steps", n_steps, low=1, why="the paper takes 10")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule={schedule!r} is unknown; choose one of {SCHEDULES}.")
    if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
        raise ValueError(f"clip={clip} must be (low, high) with low < high, or None.")
    if gradient_norm is not None and not 0 < gradient_norm < math.inf:
        raise ValueError(f"gradient_norm={gradient_norm} must be above 0 and finite, or None.")
    return n_steps


def _check_broadcast(weight: Tensor, batch: torch.Size) -> None:
    try:
        fits = torch.broadcast_shapes(weight.shape, batch) == batch
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, which does not broadcast against the batch "
            f"{tuple(batch)}: give one weight per row, such as shape ({batch[0]}, 1)."
        )
