"""Arrays of results, which their readers draw and never change."""

import numpy as np
from torch import Tensor


def read_only(values: Tensor) -> np.ndarray:
    """The values on the CPU, as a numpy array that cannot be written to."""
    array = values.numpy(force=True)
    array.setflags(write=False)
    return array
