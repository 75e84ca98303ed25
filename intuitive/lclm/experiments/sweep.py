"""Pooling, mask and window side by side, and what mix and stages do: committed miniatures.

The paper's sweep ranks variants by one run each. Here every cell has several seeds, and a
comparison counts as decided only if it comes out alike in all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from intuitive.common.results import Made
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..results import Part, Point, miniatures

SCALES = ("small", "large")
# What is measured, whether more is better, and what of an arm it is.
MEASURES = {
    "reconstruction": (True, "reconstruction accuracy"),
    "continuation": (False, "continuation loss"),
    "use": (True, None),  # what the right latents save in continuing, against another text's
}


@dataclass(frozen=True, kw_only=True)
class SweepParams(Settings):
    """The controls of the sweep explorer; which measures there are, `run` checks."""

    scale: str = "small"  # random symbols, d = 64; or "large": bytes of real text, d = 256
    measure: str = "reconstruction"  # or "continuation" (nats a byte), or "use" (nats saved)

    def __post_init__(self) -> None:
        for name, known in (("scale", SCALES), ("measure", tuple(MEASURES))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; choose from {', '.join(known)}."
                )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant, over seeds."""

    pooling: str
    mask: str
    window: int
    seeds: tuple[int, ...]
    values: tuple[float, ...]  # by seed

    @property
    def mean(self) -> float:
        """Over seeds."""
        return sum(self.values) / len(self.values)

    @property
    def extent(self) -> tuple[float, float]:
        """Least and greatest over seeds."""
        return min(self.values), max(self.values)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One choice against another, all else alike, seed by seed."""

    choice: str  # "pooling", "mask" or "window"
    better: str  # which is said to be better, by the paper or by us
    worse: str
    gains: tuple[float, ...]  # of the first over the second, each a pair of arms; above 0: better

    @property
    def wins(self) -> int:
        """Pairs in which the first is better."""
        return sum(gain > 0 for gain in self.gains)

    @property
    def decided(self) -> bool:
        """Whether all pairs agree."""
        return self.wins in (0, len(self.gains))


@dataclass(frozen=True, kw_only=True)
class MixRow:
    """One way to train on one mix, over seeds."""

    training: str  # "joint", "staged", "frozen" or "scratch"
    share: float  # of reconstruction in the mix; the rest goes on
    seeds: tuple[int, ...]
    reconstruction: tuple[float, ...]  # accuracy, by seed
    continuation: tuple[float, ...]  # nats a byte, by seed
    without: tuple[float, ...]  # the same behind another text's latents


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What the explorer draws."""

    params: SweepParams
    ratio: int
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    higher_is_better: bool
    steps: int  # of every cell
    mixes: tuple[MixRow, ...]  # on real text, whatever the scale
    part: Part  # how the cells were made
    made: Made

    def cell(self, *, pooling: str, mask: str, window: int) -> Cell:
        """One cell.

        Raises:
            KeyError: no such cell.
        """
        for cell in self.cells:
            if (cell.pooling, cell.mask, cell.window) == (pooling, mask, window):
                return cell
        raise KeyError(f"no cell {pooling}, {mask}, window {window}.")


def run(
    params: SweepParams,
    *,
    seed: int = 0,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> SweepResult:
    """Look up the sweep of one scale by one measure.

    Args:
        params: the controls.
        seed: not used; every committed seed is shown.
        stale: turns true when nobody waits for the result any more.
        progress: not used.

    Raises:
        ValueError: nothing of that scale, or it does not have this measure.
        Cancelled: `stale()` became true.
    """
    check(stale)
    committed = miniatures()
    points = committed.values.select(study="sweep", scale=params.scale)
    if not points:
        raise ValueError(f"no sweep of scale={params.scale!r} is committed.")
    if params.measure != "reconstruction" and "continuation loss" not in points[0].curve:
        raise ValueError(
            f"measure={params.measure!r} is not there at scale={params.scale!r}: random symbols "
            "cannot be continued. Choose measure=reconstruction, or scale=large."
        )
    cells = _cells(points, params.measure)
    higher, _ = MEASURES[params.measure]
    return SweepResult(
        params=params,
        ratio=points[0].ratio,
        cells=cells,
        comparisons=_comparisons(cells, 1 if higher else -1),
        higher_is_better=higher,
        steps=points[0].steps,
        mixes=_mixes(committed.values.select(study="stages")),
        part=committed.values.part_of(points[0]),
        made=committed.made,
    )


def value_of(point: Point, measure: str) -> float:
    """One of `MEASURES`, after training."""
    _, name = MEASURES[measure]
    if name is not None:
        return point.last(name)
    return point.last("without loss") - point.last("continuation loss")


def _cells(points: tuple[Point, ...], measure: str) -> tuple[Cell, ...]:
    variants: dict[tuple[str, str, int], list[Point]] = {}
    for point in points:
        variants.setdefault((point.pooling, point.mask, point.window), []).append(point)
    return tuple(
        Cell(
            pooling=pooling,
            mask=mask,
            window=window,
            seeds=tuple(point.seed for point in same),
            values=tuple(value_of(point, measure) for point in same),
        )
        for (pooling, mask, window), same in variants.items()
    )


def _comparisons(cells: tuple[Cell, ...], sign: int) -> tuple[Comparison, ...]:
    """The paper's orders: mean over the other poolings, causal, the widest window over the others.

    The mask is compared within each pooling and window, the window within each pooling and mask,
    and so on; every seed that both have gives one pair.
    """
    by = {
        (cell.pooling, cell.mask, cell.window, seed): value
        for cell in cells
        for seed, value in zip(cell.seeds, cell.values, strict=True)
    }
    windows = sorted({cell.window for cell in cells})
    poolings = list(dict.fromkeys(cell.pooling for cell in cells))
    wanted = [(0, "mean", other) for other in poolings if other != "mean"]
    wanted += [(1, "causal", "bidirectional")]
    wanted += [(2, windows[-1], other) for other in windows[:-1]]
    found = []
    for place, better, worse in wanted:
        gains = []
        for key, value in by.items():
            other = (*key[:place], worse, *key[place + 1 :])
            if key[place] == better and other in by:
                gains.append(sign * (value - by[other]))
        if gains:
            choice = ("pooling", "mask", "window")[place]
            found.append(
                Comparison(choice=choice, better=str(better), worse=str(worse), gains=tuple(gains))
            )
    return tuple(found)


def _mixes(points: tuple[Point, ...]) -> tuple[MixRow, ...]:
    rows: dict[tuple[str, float], list[Point]] = {}
    for point in points:
        rows.setdefault((point.training, point.reconstruction), []).append(point)
    return tuple(
        MixRow(
            training=training,
            share=share,
            seeds=tuple(point.seed for point in same),
            reconstruction=tuple(point.last("reconstruction accuracy") for point in same),
            continuation=tuple(point.last("continuation loss") for point in same),
            without=tuple(point.last("without loss") for point in same),
        )
        for (training, share), same in rows.items()
    )
