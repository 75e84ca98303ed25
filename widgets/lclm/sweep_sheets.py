"""What the grids of the sweep show: variants by seed, and comparisons of one choice each."""

from collections.abc import Mapping
from dataclasses import dataclass

from intuitive.lclm.experiments.sweep import Comparison, MixRow, SweepResult

POOLINGS = {
    "mean": "mean",
    "concat": "side by side",
    "last": "last state",
    "eos": "one marker",
    "queries": "own markers",
}
MASKS = {"causal": "looks back", "bidirectional": "both ways"}
DIETS = {1.0: "say it again", 0.5: "both", 0.0: "go on"}  # by share of reconstruction
# What trains: all at once; part after part; all but the decoder; all, from untrained weights.
WAYS = {"joint": "all", "staged": "in stages", "frozen": "frozen", "scratch": "afresh"}
DIET_GROUPS = ("said again, right: more is better", "loss going on, nats: less is better")
# Title, measure, and (share, way) of both sides; * is whatever the other has.
DIET_PAIRS = (
    ("says again: both over “go on”", "again", ("0.5", "*"), ("0.0", "*")),
    ("goes on: both over “say it again”", "loss", ("0.5", "*"), ("1.0", "*")),
    ("goes on: both over “go on”", "loss", ("0.5", "*"), ("0.0", "*")),
    ("says again: all over frozen", "again", ("*", "joint"), ("*", "frozen")),
    ("goes on: all over frozen", "loss", ("*", "joint"), ("*", "frozen")),
    ("says again: all over in stages", "again", ("*", "joint"), ("*", "staged")),
)


Cells = Mapping[tuple[str, str], Mapping[int, float]]  # by (row, column), values by seed


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Columns that share one scale, on which the best is ringed.

    Attributes:
        columns: keys.
        higher: whether more is better.
    """

    columns: tuple[str, ...]
    higher: bool = True


@dataclass(frozen=True, kw_only=True)
class Versus:
    """One choice against another.

    Attributes:
        title: what is compared.
        gains: of every pair by seed; above 0 the first is better.
    """

    title: str
    gains: Mapping[int, tuple[float, ...]]

    def count(self, seeds: tuple[int, ...]) -> tuple[int, int]:
        """Pairs that the first wins, and pairs."""
        mine = [gain for seed in seeds for gain in self.gains.get(seed, ())]
        return sum(gain > 0 for gain in mine), len(mine)

    def decided(self, seeds: tuple[int, ...]) -> bool:
        """Whether all pairs agree."""
        won, n = self.count(seeds)
        return n > 0 and won in (0, n)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What a grid shows.

    Attributes:
        head: what is measured, with its unit.
        cells: values.
        rows, columns: keys and titles.
        groups: titles over neighbouring columns, and how many each spans.
        scales: every column is in one of them.
        versus: the comparisons.
    """

    head: str
    cells: Cells
    rows: Mapping[str, str]
    columns: Mapping[str, str]
    groups: tuple[tuple[str, int], ...]
    scales: tuple[Scale, ...]
    versus: tuple[Versus, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed of any cell."""
        return tuple(sorted({seed for cell in self.cells.values() for seed in cell}))

    def group(self, column: str) -> str:
        """The title over a column."""
        place = list(self.columns).index(column)
        for title, span in self.groups:
            if place < span:
                return title
            place -= span
        return ""

    def name(self, key: tuple[str, str]) -> str:
        """A cell in words."""
        row, column = key
        return ", ".join((self.rows[row], self.group(column), self.columns[column]))


def press_sheet(result: SweepResult, head: str) -> Sheet:
    """The grid of pooling, window and mask."""
    cells = result.cells
    windows = sorted({cell.window for cell in cells})
    masks = [mask for mask in MASKS if any(cell.mask == mask for cell in cells)]
    columns = {f"{window}:{mask}": MASKS[mask] for window in windows for mask in masks}
    shown = {name for name in POOLINGS if any(cell.pooling == name for cell in cells)}
    return Sheet(
        head=head,
        cells={
            (cell.pooling, f"{cell.window}:{cell.mask}"): _by_seed(cell.seeds, cell.values)
            for cell in cells
        },
        rows={name: title for name, title in POOLINGS.items() if name in shown},
        columns=columns,
        groups=tuple((f"window {window}", len(masks)) for window in windows),
        scales=(Scale(columns=tuple(columns), higher=result.higher_is_better),),
        versus=tuple(_versus(result, one) for one in result.comparisons),
    )


def _by_seed(seeds: tuple[int, ...], values: tuple[float, ...]) -> dict[int, float]:
    return dict(zip(seeds, values, strict=True))


def _versus(result: SweepResult, one: Comparison) -> Versus:
    """A comparison of the record, its pairs by seed."""
    place = ("pooling", "mask", "window").index(one.choice)
    sign, gains = (1 if result.higher_is_better else -1), {}
    by = {(c.pooling, c.mask, str(c.window)): _by_seed(c.seeds, c.values) for c in result.cells}
    for key, values in by.items():
        other = by.get((*key[:place], one.worse, *key[place + 1 :]), {})
        if key[place] == one.better:
            for seed in values.keys() & other.keys():
                gains[seed] = (*gains.get(seed, ()), sign * (values[seed] - other[seed]))
    names = POOLINGS | MASKS
    first, second = (names.get(name, f"window {name}") for name in (one.better, one.worse))
    return Versus(title=f"{first} over {second}", gains=gains)


def diet_sheet(mixes: tuple[MixRow, ...]) -> Sheet:
    """The grid of what is trained on and what trains, by both measures."""
    shares = [share for share in DIETS if any(row.share == share for row in mixes)]
    ways = [way for way in WAYS if any(row.training == way for row in mixes)]
    cells: dict[tuple[str, str], dict[int, float]] = {}
    for row in mixes:
        cells[str(row.share), f"again:{row.training}"] = _by_seed(row.seeds, row.reconstruction)
        cells[str(row.share), f"loss:{row.training}"] = _by_seed(row.seeds, row.continuation)
    versus = []
    for title, measure, better, worse in DIET_PAIRS:
        gains: dict[int, tuple[float, ...]] = {}
        for (share, column), values in cells.items():
            kind, way = column.split(":")
            first = share if better[0] == "*" else better[0]
            if kind != measure or share != first or (better[1] != "*" and way != better[1]):
                continue
            other = (worse[0] if worse[0] != "*" else share, f"{kind}:{worse[1]}".replace("*", way))
            for seed in values.keys() & cells.get(other, {}).keys():
                gain = (values[seed] - cells[other][seed]) * (1 if kind == "again" else -1)
                gains[seed] = (*gains.get(seed, ()), gain)
        if gains:
            versus.append(Versus(title=title, gains=gains))
    columns = {f"{kind}:{way}": WAYS[way] for kind in ("again", "loss") for way in ways}
    return Sheet(
        head="Rows: what it is trained on. Columns: what trains",
        cells=cells,
        rows={str(share): DIETS[share] for share in shares},
        columns=columns,
        groups=(
            (DIET_GROUPS[0], len(ways)),
            (DIET_GROUPS[1], len(ways)),
        ),
        scales=tuple(
            Scale(columns=tuple(c for c in columns if c.startswith(kind)), higher=kind == "again")
            for kind in ("again", "loss")
        ),
        versus=tuple(versus),
    )
