"""Gradients that a CUDA device replays as one graph, without waiting for Python."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class Replayed:
    """The gradients of a training step, on CUDA recorded once and replayed from then on.

    On the CPU the function just runs. On CUDA so do its first three calls; the fourth is recorded.
    Made for `training.train`, which clears the gradients before every step.

    Args:
        gradients: takes tensors, adds gradients to the parameters, returns a tensor without a
            gradient of its own. It must not wait for the device nor draw at random, and every call
            must bring tensors of the same shapes.
        parameters: those that it gives gradients.
        device: where the tensors are.

    Differs between devices: on CUDA the next call overwrites what the last one returned.
    """

    def __init__(
        self,
        gradients: Callable[..., Tensor],
        parameters: Iterable[nn.Parameter],
        device: torch.device | str,
    ) -> None:
        self._gradients, self._parameters = gradients, list(parameters)
        self._on_cuda, self._calls = torch.device(device).type == "cuda", 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *tensors: Tensor) -> Tensor:
        if not self._on_cuda:
            return self._gradients(*tensors)
        self._calls += 1
        if self._calls <= 3:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                out = self._gradients(*tensors)
            torch.cuda.current_stream().wait_stream(stream)
            return out
        if self._graph is None:
            self._held = [tensor.clone() for tensor in tensors]
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._out = self._gradients(*self._held)
            self._kept = [parameter.grad for parameter in self._parameters]
        for held, tensor in zip(self._held, tensors, strict=True):
            held.copy_(tensor)
        self._graph.replay()
        for parameter, grad in zip(self._parameters, self._kept, strict=True):
            parameter.grad = grad
        return self._out
