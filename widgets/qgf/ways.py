"""Ways through a scene that are drawn as far as they have been walked."""

import numpy as np


class Way:
    """A path of straight pieces; what is not walked yet lies folded at its end, so that two
    moments have the same commands and blend.

    Args:
        xs, ys: its corners, in the units of the scene; drawn at whole ones.
    """

    def __init__(self, xs: np.ndarray, ys: np.ndarray) -> None:
        places = np.rint(np.stack([xs, ys], -1)).astype(int)
        self.start = f"M{places[0, 0]},{places[0, 1]}l"
        self.moves = [f"{x},{y}" for x, y in np.diff(places, axis=0).tolist()]

    def upto(self, corner: int) -> str:
        """As an SVG path, up to a corner counted from 0."""
        walked = self.moves[:corner]
        return self.start + " ".join(walked + ["0,0"] * (len(self.moves) - len(walked)))
