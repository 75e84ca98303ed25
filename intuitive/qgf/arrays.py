"""Tensors as the read-only arrays of the experiments' records."""

import numpy as np
from torch import Tensor


def read_only(values: Tensor) -> np.ndarray:
    """The values on the CPU, as an array that nobody can change."""
    array = values.numpy(force=True)
    array.setflags(write=False)
    return array
