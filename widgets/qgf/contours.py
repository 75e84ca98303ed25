"""Lines of equal value on a surface over the plane."""

import numpy as np


def crossings(x: np.ndarray, y: np.ndarray, z: np.ndarray, level: int | float) -> np.ndarray:
    """Where a surface z [y, x] has a value: pieces of lines [n, 2, 2], ends of (x, y).

    Every cell of the grid is cut into two triangles; in each the surface is flat.
    """
    rows, columns = np.mgrid[: len(y) - 1, : len(x) - 1]
    corners = np.array([[(0, 0), (0, 1), (1, 0)], [(1, 1), (0, 1), (1, 0)]])  # (row, column)
    row = (rows[..., None, None] + corners[:, :, 0]).reshape(-1, 3)
    column = (columns[..., None, None] + corners[:, :, 1]).reshape(-1, 3)
    values, places = z[row, column] - level, np.stack([x[column], y[row]], -1)
    above = values > 0
    count = above.sum(1)
    cut = (count == 1) | (count == 2)
    values, places, above, count = values[cut], places[cut], above[cut], count[cut]
    each = np.arange(len(values))
    alone = np.where(count == 1, above.argmax(1), (~above).argmax(1))
    ends = []
    for other in ((alone + 1) % 3, (alone + 2) % 3):
        v, w = values[each, alone], values[each, other]
        share = (v / (v - w))[:, None]
        ends.append(places[each, alone] * (1 - share) + places[each, other] * share)
    return np.stack(ends, 1)
