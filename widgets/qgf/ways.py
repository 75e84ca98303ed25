"""Ways through a scene that are drawn as far as they have been walked."""

import numpy as np


def strokes(out: np.ndarray) -> np.ndarray:
    """Of every piece of paths whether it is drawn, "l", or passed over, "m".

    Args:
        out: [corners, ...] whether a corner is out of sight; a piece between two that are would
            run along the frame, where nothing goes.
    """
    return np.where(out[1:] & out[:-1], "m", "l")


def beyond(
    positions: np.ndarray, sight: tuple[tuple[float, float], tuple[float, float]]
) -> np.ndarray:
    """Whether positions [..., 2] are out of sight, given as the ends of x and of y."""
    low, high = np.array(sight).T
    return ((positions < low) | (positions > high)).any(-1)


class Way:
    """A path of straight pieces; what is not walked yet lies folded at its end, so that two
    moments have the same commands and blend.

    Args:
        xs, ys: its corners, in the units of the scene; drawn at whole ones.
        out: whether a corner is out of sight, and stands at the edge.
    """

    def __init__(self, xs: np.ndarray, ys: np.ndarray, out: np.ndarray) -> None:
        places = np.rint(np.stack([xs, ys], -1)).astype(int)
        self.start = f"M{places[0, 0]},{places[0, 1]}"
        self.strokes = strokes(out).tolist()
        self.moves = [f"{x},{y}" for x, y in np.diff(places, axis=0).tolist()]

    def upto(self, corner: int) -> str:
        """As an SVG path, up to a corner counted from 0."""
        walked = self.moves[:corner]
        moves = walked + ["0,0"] * (len(self.moves) - len(walked))
        return self.start + "".join(map(str.__add__, self.strokes, moves))
