"""Cancelling, seeds and timing."""

import time

import pytest
import torch

from intuitive.common.runtime import (
    Cancelled,
    best_device,
    check,
    device_name,
    measure,
    never,
    seeded,
)


def test_check_raises_only_when_nobody_waits():
    check(never)
    with pytest.raises(Cancelled, match="newer request"):
        check(lambda: True)


def test_seeded_draws_repeat():
    draws = [torch.randn(3, generator=seeded(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_measure_counts_and_orders_runs():
    calls = []

    def work():
        calls.append(1)
        time.sleep(0.01)

    cost = measure(work, repeats=3, warmup=2)
    assert len(calls) == 5
    assert cost.repeats == 3
    assert 10 <= cost.fastest_ms <= cost.median_ms <= cost.slowest_ms < 1000
    assert cost.peak_bytes is None  # unknown on CPU
    assert cost.device == device_name("cpu") == f"cpu, {torch.get_num_threads()} threads"


def test_measure_stops_and_refuses():
    with pytest.raises(Cancelled):
        measure(lambda: None, stale=lambda: True)
    with pytest.raises(ValueError, match="repeats=0 must be at least 1"):
        measure(lambda: None, repeats=0)


@pytest.mark.gpu
def test_measure_sees_peak_memory_on_cuda():
    cost = measure(lambda: torch.empty(2**20, device="cuda"), device="cuda")
    assert cost.peak_bytes >= 4 * 2**20
    assert best_device().type == "cuda"
