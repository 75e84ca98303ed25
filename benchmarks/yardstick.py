"""A fixed piece of work, over which the speed budget's times are taken (budget.py)."""

import json
import time

import numpy as np
import torch


def yardstick() -> float:
    """Processor seconds that this process takes for objects, text and small tensors."""
    begun = time.process_time()
    for turn in range(3):
        rows = [{"key": f"mark:{i}", "x": i * 0.37, "words": f"at {i}"} for i in range(6000)]
        rows.sort(key=lambda row: -row["x"] % 7)
        json.loads(json.dumps(rows))
        state = torch.full((64, 64), 0.01 * (turn + 1), dtype=torch.float64)
        for _ in range(400):
            state = (state @ state).tanh() + 0.01
        np.sort(np.sin(np.arange(100_000) * 1.7))
    return time.process_time() - begun
