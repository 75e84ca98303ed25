"""A flow and a critic learned from samples, without states: seconds on a CPU.

    field = fit_velocity(mixture.sample(5000, generator), seed=0)
    critic = fit_critic(actions, values, seed=0)
    sample_guided(field, critic, ...)

The critic sees the data's actions only, so that what it says elsewhere is honest extrapolation.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from intuitive.common.runtime import never, seeded
from intuitive.common.training import Progress, one_thread, silent, train

from .model import BoundCritic, CriticNet, Field, VelocityNet

LEARNING_RATE = 1e-2  # of Adam, falling to zero as a cosine


def fit_velocity(
    samples: Float[Tensor, "n ..."],
    *,
    seed: int,
    n_steps: int = 2500,
    batch_size: int = 256,
    width: int = 64,
    depth: int = 2,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Field:
    """Behaviour cloning by flow matching, with times drawn from [0, 1].

    Args:
        samples: actions [n], or [n, a].
        seed: of first weights and batches.
        n_steps, batch_size: of training.
        width, depth: of the velocity net's hidden layers.
        stale: turns true when nobody waits; asked before every step.
        progress: called after every step.

    Returns:
        The learned field, on positions of the samples' kind.

    Raises:
        ValueError: no samples, or values that are not finite.
        Cancelled: `stale()` became true.

    Source: arXiv:2606.11087v1, Eq. 2: v(x_t, t) regresses x_1 - x_0.
    """
    scalar = samples.ndim == 1
    with torch.inference_mode(False), torch.enable_grad():
        actions = _checked(samples, "samples").reshape(len(samples), -1)
        net = VelocityNet(actions.shape[1], seeds=(seed,), width=width, depth=depth)
        generator = seeded(seed)

        def loss() -> Tensor:
            rows = torch.randint(len(actions), (batch_size,), generator=generator)
            x_1 = actions[rows][None]
            x_0 = torch.randn(x_1.shape, generator=generator, dtype=torch.float32)
            t = torch.rand(1, batch_size, 1, generator=generator, dtype=torch.float32)
            return (net((1 - t) * x_0 + t * x_1, t) - (x_1 - x_0)).square().mean()

        _fit(net, loss, n_steps, stale, progress)
        return Field(net, scalar=scalar)


def fit_critic(
    actions: Float[Tensor, "n ..."],
    values: Float[Tensor, " m"],
    *,
    seed: int,
    n_steps: int = 600,
    batch_size: int = 256,
    width: int = 64,
    depth: int = 2,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> BoundCritic:
    """Regress a critic on the values of the data's actions, and on nothing else.

    Args:
        actions: [n], or [n, a].
        values: of the actions.
        seed, n_steps, batch_size, width, depth, stale, progress: as in `fit_velocity`.

    Returns:
        The critic, from flat actions [n] or [n, a] to values [n].

    Raises:
        ValueError: no actions, another number of values, or values that are not finite.
        Cancelled: `stale()` became true.
    """
    if len(actions) != len(values):
        raise ValueError(f"{len(values)} values for {len(actions)} actions: give one each.")
    with torch.inference_mode(False), torch.enable_grad():
        inputs = _checked(actions, "actions").reshape(len(actions), -1)
        wanted = _checked(values, "values")
        net = CriticNet(inputs.shape[1], seeds=(seed,), width=width, depth=depth)
        generator = seeded(seed)

        def loss() -> Tensor:
            rows = torch.randint(len(inputs), (batch_size,), generator=generator)
            return (net(inputs[rows][None])[0] - wanted[rows]).square().mean()

        _fit(net, loss, n_steps, stale, progress)
        return BoundCritic(net)


def _checked(data: Tensor, name: str) -> Tensor:
    """A float32 copy that may take part in gradients."""
    if not len(data) or not data.isfinite().all():
        raise ValueError(
            f"{name} of shape {tuple(data.shape)} must be finite and at least one: clean them "
            "first."
        )
    return data.detach().to(torch.float32, copy=True)


@one_thread()
def _fit(
    net: nn.Module,
    loss: Callable[[], Tensor],
    n_steps: int,
    stale: Callable[[], bool],
    progress: Progress,
) -> None:
    """Adam with a cosine rate; the net takes no gradients afterwards."""
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)

    def gradients(step: int) -> dict[str, float]:
        rate = 0.5 * LEARNING_RATE * (1 + math.cos(math.pi * step / n_steps))
        optimizer.param_groups[0]["lr"] = rate
        error = loss()
        error.backward()
        return {"loss": error.item()}

    train(gradients, optimizer, n_steps=n_steps, stale=stale, progress=progress)
    net.requires_grad_(False)
