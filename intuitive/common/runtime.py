"""Where and how long: cancelling, devices, seeds, time and peak memory.

Long work takes an argument `stale`, a function that turns true when nobody waits for the result
any more, and calls `check(stale)` between its steps.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .checks import whole


class Cancelled(Exception):
    """The work was given up because nobody waits for its result any more."""


def never() -> bool:
    """The `stale` of a caller who always waits."""
    return False


def check(stale: Callable[[], bool]) -> None:
    """Stop here if nobody waits any more.

    Raises:
        Cancelled: `stale()` is true.
    """
    if stale():
        raise Cancelled("A newer request has replaced this one.")


def best_device() -> torch.device:
    """The CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device | str) -> str:
    """A device in words for records and figure captions, such as "cpu, 2 threads"."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh random generator; the only way randomness enters a computation here."""
    return torch.Generator(device=device).manual_seed(whole("seed", seed))


@dataclass(frozen=True)
class Measurement:
    """What one call cost on one device."""

    median_ms: float
    fastest_ms: float
    slowest_ms: float
    repeats: int
    peak_bytes: int | None  # beyond what was held before the call; None where it cannot be known
    device: str


def measure(
    call: Callable[[], object],
    *,
    device: torch.device | str = "cpu",
    repeats: int = 5,
    warmup: int = 1,
    stale: Callable[[], bool] = never,
) -> Measurement:
    """Time a call and, on CUDA, its peak memory.

    Args:
        call: the work; its result is thrown away.
        device: where the work runs; on CUDA each run is waited for.
        repeats: timed runs, at least 1.
        warmup: untimed runs before them.
        stale: turns true when nobody waits for the result any more.

    Raises:
        ValueError: `repeats` below 1.
        Cancelled: `stale()` became true between two runs.
    """
    repeats = whole("repeats", repeats, low=1)
    device = torch.device(device)
    on_cuda = device.type == "cuda"
    for _ in range(warmup):
        check(stale)
        call()
    if on_cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
    times_ms = []
    for _ in range(repeats):
        check(stale)
        start = time.perf_counter()
        call()
        if on_cuda:
            torch.cuda.synchronize(device)
        times_ms.append((time.perf_counter() - start) * 1e3)
    return Measurement(
        median_ms=statistics.median(times_ms),
        fastest_ms=min(times_ms),
        slowest_ms=max(times_ms),
        repeats=repeats,
        peak_bytes=torch.cuda.max_memory_allocated(device) - held if on_cuda else None,
        device=device_name(device),
    )
