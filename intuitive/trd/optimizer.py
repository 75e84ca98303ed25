"""AdamW for a stack of models, its schedule, and steps that a CUDA device replays.

Every model of the stack has a learning rate and a gradient clip of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from .model import StackedDecoder


@dataclass(frozen=True, kw_only=True)
class AdamWSettings:
    """What the learning rate leaves open."""

    beta_1: float = 0.9
    beta_2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.005
    clip: float = 1.0  # largest norm of one model's gradient


class StackedAdamW(Optimizer):
    """AdamW with a learning rate and a gradient clip for every model of a stack.

    All of a step's work stays on the device.

    Args:
        stack: its `weights` are trained.
        lr: [m] learning rates.
        schedule: factor on them by step; constant if None.
        settings: the rest.

    Source: Loshchilov and Hutter 2017, arXiv:1711.05101.
    """

    def __init__(
        self,
        stack: StackedDecoder,
        lr: Float[Tensor, " m"],
        *,
        schedule: Float[Tensor, " steps"] | None = None,
        settings: AdamWSettings | None = None,
    ) -> None:
        if lr.shape != (stack.n_models,) or bool((lr <= 0).any()):
            raise ValueError(
                f"lr={lr.tolist()} must be {stack.n_models} learning rates above 0, one per model."
            )
        super().__init__([stack.weights], {})
        self.stack, self.settings = stack, settings or AdamWSettings()
        weights = stack.weights
        self._lr = lr.to(weights)[:, None]
        self._schedule = None if schedule is None else schedule.to(weights)
        self._first = torch.zeros_like(weights)
        self._second = torch.zeros_like(weights)
        self._taken = torch.zeros((), device=weights.device, dtype=torch.int64)

    @torch.no_grad()
    def step(self) -> None:
        s, weights = self.settings, self.stack.weights
        grad = weights.grad
        norm = grad.norm(dim=1, keepdim=True)  # [m, 1]
        grad = grad * (s.clip / norm.clamp(min=1e-12)).clamp(max=1.0)
        lr = self._lr
        if self._schedule is not None:
            lr = lr * self._schedule.index_select(
                0, self._taken.clamp(max=len(self._schedule) - 1)[None]
            )
        self._taken += 1
        taken = self._taken.to(weights.dtype)
        self._first.lerp_(grad, 1 - s.beta_1)
        self._second.lerp_(grad.square(), 1 - s.beta_2)
        first = self._first / (1 - s.beta_1**taken)
        second = self._second / (1 - s.beta_2**taken)
        weights.mul_(1 - lr * s.weight_decay)
        weights.sub_(lr * first / (second.sqrt() + s.eps))


def cosine(n_steps: int, *, warmup: int | float = 0.1, end: int | float = 0.1) -> Tensor:
    """Factors [n_steps] that rise to 1 over a share `warmup` and fall to `end` along a cosine."""
    step = torch.arange(1, n_steps + 1, dtype=torch.float32)
    rising = (step / max(1.0, warmup * n_steps)).clamp(max=1.0)
    fallen = ((step - warmup * n_steps) / max(1.0, (1 - warmup) * n_steps)).clamp(0.0, 1.0)
    return rising * (end + (1 - end) * 0.5 * (1 + (math.pi * fallen).cos()))


class GraphedStep:
    """A loss and its gradient that a CUDA device replays as one graph, without waiting for Python.

    On the CPU the step just runs. On CUDA so do the first three calls; the fourth records, and from
    then on every call writes into the tensors that the fourth returned.

    Args:
        step: takes tensors and returns some; it must not wait for the device, and every call must
            bring tensors of the same shapes.
        device: where the tensors are.
    """

    def __init__(self, step: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self._step, self._device, self._calls = step, device, 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if self._device.type != "cuda":
            return self._step(*tensors)
        self._calls += 1
        if self._calls <= 3:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                out = self._step(*tensors)
            torch.cuda.current_stream().wait_stream(stream)
            return out
        if self._graph is None:
            self._held = [tensor.clone() for tensor in tensors]
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._out = self._step(*self._held)
        for held, tensor in zip(self._held, tensors, strict=True):
            held.copy_(tensor)
        self._graph.replay()
        return self._out
