"""One plain training loop for every method here.

The caller's `gradients(step)` draws a batch and calls `backward`; the loop does the rest.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol, runtime_checkable

import torch

from .checks import whole
from .runtime import check, never

# `progress(fraction, sentence)`; an explorer also takes the result so far, and draws it.
Progress = Callable[..., None]


@runtime_checkable
class Steps(Protocol):
    """What the loop asks of an optimiser: one of torch's, or a paper's own."""

    def zero_grad(self) -> None: ...

    def step(self) -> object: ...


def silent(fraction: float, sentence: str, so_far: object = None) -> None:
    """The `progress` of a caller who does not ask."""


# torch counts per thread, but a new thread begins with what was last set anywhere: the number to
# go back to is the one before the first of all overlapping blocks.
_counting = threading.Lock()
_depth = threading.local()
_before, _inside = 0, 0


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one CPU thread in this block: for models whose matrices are small.

    More threads gain nothing there, and where other programs hold a core they wait for each other
    after every operation: a step was seen to take fifty times as long.
    """
    global _before, _inside
    with _counting:
        here = torch.get_num_threads()  # asked in every thread: it also makes torch begin there
        if _inside == 0:
            _before = here
        _inside += 1
        _depth.here = getattr(_depth, "here", 0) + 1
        torch.set_num_threads(1)
        # A thread that begins meanwhile takes what was set last, and would keep it.
        other = threading.Thread(target=torch.set_num_threads, args=(_before,))
        other.start()
        other.join()
    try:
        yield
    finally:
        with _counting:
            _inside -= 1
            _depth.here -= 1
            if _depth.here == 0:
                torch.set_num_threads(_before)  # this thread's, and what new threads begin with


def train(
    gradients: Callable[[int], Mapping[str, float]],
    optimizer: Steps,
    *,
    n_steps: int,
    observe: Callable[[int], object] | None = None,
    observe_at: Collection[int] = (),
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> dict[str, list[float]]:
    """Take optimiser steps and keep the losses.

    Args:
        gradients: called with the step's number, from 0; adds gradients to the parameters and
            returns losses by name, or none in steps where reading them would make a device wait.
            Parameters that it gives no gradient stay as they are.
        optimizer: holds the parameters to train.
        n_steps: at least 1.
        observe: called with the number of steps taken so far.
        observe_at: the numbers at which it is called: 0 is before training, `n_steps` after it.
        stale: turns true when nobody waits for the result; asked before every step.
        progress: called after every step with a share in [0, 1] and a sentence that holds the
            losses returned last.

    Returns:
        The losses of every step by name, one value per step that returned it.

    Raises:
        ValueError: a count is out of range.
        RuntimeError: a loss is no longer finite.
        Cancelled: `stale()` became true.
    """
    n_steps = whole("n_steps", n_steps, low=1)
    if observe_at and not 0 <= min(observe_at) <= max(observe_at) <= n_steps:
        raise ValueError(
            f"observe_at={sorted(observe_at)} must lie in [0, n_steps={n_steps}]: name steps that "
            "are taken."
        )
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has switched off
        return _steps(gradients, optimizer, n_steps, observe, observe_at, stale, progress)


def step_once(
    gradients: Callable[[int], Mapping[str, float]], optimizer: Steps, step: int = 0
) -> Mapping[str, float]:
    """One step, which `train` repeats; by itself only where a recorded graph holds it whole.

    Raises:
        RuntimeError: a loss is no longer finite.
    """
    optimizer.zero_grad()
    losses = gradients(step)
    for name, value in losses.items():
        if not math.isfinite(value):
            raise RuntimeError(
                f"{name} is {value} at step {step}: training diverged. Lower the learning rate."
            )
    optimizer.step()
    return losses


def _steps(
    gradients: Callable[[int], Mapping[str, float]],
    optimizer: Steps,
    n_steps: int,
    observe: Callable[[int], object] | None,
    observe_at: Collection[int],
    stale: Callable[[], bool],
    progress: Progress,
) -> dict[str, list[float]]:
    losses: dict[str, list[float]] = {}
    latest: Mapping[str, float] = {}
    for step in range(n_steps):
        check(stale)
        if observe is not None and step in observe_at:
            observe(step)
        returned = step_once(gradients, optimizer, step)
        for name, value in returned.items():
            losses.setdefault(name, []).append(value)
        latest = returned or latest
        summary = ", ".join(f"{name} {value:.3f}" for name, value in latest.items())
        words = f"Step {step + 1} of {n_steps}"
        progress((step + 1) / n_steps, f"{words}: {summary}" if summary else words)
    if observe is not None and n_steps in observe_at:
        check(stale)
        observe(n_steps)
    return losses
