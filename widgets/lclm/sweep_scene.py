"""The hero of the sweep: a grid of variants, seed by seed, and which differences are no luck.

Left, the grid: a row per pooling, a column per window and mask; in each cell a dot per seed on one
scale, whose ends stand below, and their mean. A ring marks the best mean so far, if no other reads
the same. Right, one line per comparison: in how
many pairs that differ in nothing else the first did better. All or none of them: decided.
"""

from ..kit import Circle, Frame, Line, Mark, Readout, Rectangle, Scene, Words, fixed
from .methods import LATENT, RIGHT
from .sweep_sheets import Sheet

Number = int | float

WIDTH, HEIGHT = 1000, 392
GRID_LEFT, GRID_TOP = 128, 74
LIST_LEFT, LIST_END = 706, 976
GAP = 8
LEAST = 0.1  # of a share or a nat, that a scale spans: seeds that hardly differ stand close


class Picture:
    """Frames that let one seed in after the other."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.wide = (LIST_LEFT - 30 - GRID_LEFT) / len(sheet.columns)
        self.tall = min(62.0, (HEIGHT - GRID_TOP - 20) / len(sheet.rows))
        self.limits: dict[str, tuple[float, float]] = {}
        for scale in sheet.scales:
            every = [
                value
                for (_, column), cell in sheet.cells.items()
                if column in scale.columns
                for value in cell.values()
            ]
            middle = (max(every) + min(every)) / 2
            reach = max(1.08 * (max(every) - min(every)), LEAST) / 2
            ends = (middle - reach, middle + reach)
            self.limits |= dict.fromkeys(scale.columns, ends)

    def frames(self) -> tuple[Frame, ...]:
        seeds = self.sheet.seeds
        return tuple(
            Frame(
                scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(self._marks(seeds[: n + 1]))),
                label=f"{n + 1} seed{'s' * (n > 0)}",
                sentence=self._sentence(seeds[: n + 1]),
                readouts=self.readouts(seeds[: n + 1]),
            )
            for n in range(len(seeds))
        )

    def mean(self, key: tuple[str, str], seeds: tuple[int, ...]) -> float | None:
        """Over these seeds; None where a cell has none of them."""
        values = [v for seed, v in self.sheet.cells.get(key, {}).items() if seed in seeds]
        return sum(values) / len(values) if values else None

    def best(self, seeds: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
        """The cell with the best mean of each scale, where no other's reads the same."""
        found = []
        for scale in self.sheet.scales:
            known = {
                key: mean
                for key in self.sheet.cells
                if key[1] in scale.columns and (mean := self.mean(key, seeds)) is not None
            }
            first = (max if scale.higher else min)(known, key=known.__getitem__)
            read = [fixed(mean) for mean in known.values()]
            found += [first] * (read.count(fixed(known[first])) == 1)
        return tuple(found)

    def decided(self, seeds: tuple[int, ...]) -> int:
        """How many comparisons come out alike in all pairs."""
        return sum(one.decided(seeds) for one in self.sheet.versus)

    def readouts(self, seeds: tuple[int, ...]) -> tuple[Readout, ...]:
        n = len(self.sheet.versus)
        return (
            *[
                Readout("best mean so far", fixed(self.mean(key, seeds) or 0.0), link=link_of(key))
                for key in self.best(seeds)[:1]
            ],
            Readout("same in all pairs", f"{self.decided(seeds)} of {n}", link="list"),
        )

    def _sentence(self, seeds: tuple[int, ...]) -> str:
        n, names = len(seeds), [f"“{self.sheet.name(key)}”" for key in self.best(seeds)]
        alike = f"{self.decided(seeds)} of {len(self.sheet.versus)}"
        best = f"the best mean is at {' and '.join(names)}" if names else "no mean stands out"
        return (
            f"With {n} seed{'s' * (n > 1)} {best}; {alike} comparisons come out alike in all pairs."
        )

    # ------------------------------------------------------------------------------- marks

    def _marks(self, seeds: tuple[int, ...]) -> list[Mark]:
        marks: list[Mark] = [
            Words(key="head", x=24, y=18, text=self.sheet.head, bold=True, size=14),
            Line(
                key="divider",
                x=LIST_LEFT - 16,
                x2=LIST_LEFT - 16,
                y=8,
                y2=HEIGHT - 8,
                stroke="faint",
                width=1,
            ),
        ]
        x = GRID_LEFT
        for title, span in self.sheet.groups:
            marks.append(
                Words(
                    key=f"group:{title}",
                    x=x + span * self.wide / 2 - GAP / 2,
                    y=42,
                    text=title,
                    anchor="middle",
                    size=13,
                    bold=True,
                )
            )
            x += span * self.wide
        for j, (column, title) in enumerate(self.sheet.columns.items()):
            marks.append(
                Words(
                    key=f"column:{column}",
                    x=GRID_LEFT + (j + 0.5) * self.wide - GAP / 2,
                    y=GRID_TOP - 12,
                    text=title,
                    anchor="middle",
                    size=12,
                )
            )
        best = self.best(seeds)
        for i, (row, title) in enumerate(self.sheet.rows.items()):
            y = GRID_TOP + i * self.tall
            marks.append(
                Words(
                    key=f"row:{row}",
                    x=GRID_LEFT - 12,
                    y=y + self.tall / 2 + 2,
                    text=title,
                    anchor="end",
                    size=13,
                    bold=any(row == key[0] for key in best),
                )
            )
            for j, column in enumerate(self.sheet.columns):
                key = (row, column)
                if key in self.sheet.cells:
                    marks += self._cell(key, GRID_LEFT + j * self.wide, y, seeds, key in best)
        return [*marks, *self._scales(), *self._list(seeds)]

    def _scales(self) -> list[Mark]:
        """What the dots' left and right ends are, under the columns that share them."""
        places, marks = list(self.sheet.columns), []
        for scale in self.sheet.scales:
            first = scale.columns[0]
            ends = " to ".join(fixed(end) for end in self.limits[first])
            marks.append(
                Words(
                    key=f"scale:{first}",
                    x=GRID_LEFT + places.index(first) * self.wide,
                    y=GRID_TOP + len(self.sheet.rows) * self.tall + 8,
                    text=f"dots: seeds, on {ends}",
                    size=12,
                )
            )
        return marks

    def _cell(
        self,
        key: tuple[str, str],
        x: Number,
        y: Number,
        seeds: tuple[int, ...],
        best: bool,
    ) -> list[Mark]:
        link, wide, tall = link_of(key), self.wide - GAP, self.tall - GAP
        mean = self.mean(key, seeds)
        told = "not trained" if mean is None else f"mean {fixed(mean)}"
        marks: list[Mark] = [
            Rectangle(
                key=f"cell:{link}",
                x=x,
                y=y,
                w=wide,
                h=tall,
                corner=4,
                fill="faint",
                opacity=0.35,
                link=link,
                words=f"{self.sheet.name(key)}: {told}.",
                layer=-1,
            )
        ]
        if best:  # a mark of its own: the cell is pale
            ring = {"key": f"ring:{link}", "x": x, "y": y, "w": wide, "h": tall}
            marks.append(Rectangle(corner=4, stroke=RIGHT, width=3, link=link, **ring))
        if mean is None:
            return marks
        marks.append(
            Words(
                key=f"mean:{link}",
                x=x + wide - 6,
                y=y + 15,
                text=fixed(mean),
                anchor="end",
                size=13,
                bold=best,
                link=link,
            )
        )
        for seed in seeds:
            value = self.sheet.cells[key].get(seed)
            if value is None:
                continue
            low, high = self.limits[key[1]]
            share = (value - low) / (high - low)
            marks.append(
                Circle(
                    key=f"dot:{link}:{seed}",
                    x=x + 8 + (wide - 16) * share,
                    y=y + tall - 11,
                    r=5,
                    fill=LATENT,
                    opacity=0.8,
                    link=link,
                    words=f"{self.sheet.name(key)}, seed {seed}: {fixed(value, 3)}.",
                )
            )
        return marks

    def _list(self, seeds: tuple[int, ...]) -> list[Mark]:
        marks: list[Mark] = [
            Words(
                key="list",
                x=LIST_LEFT,
                y=18,
                text="Pairs that the first wins",
                bold=True,
                size=14,
                link="list",
            )
        ]
        pitch = min(52.0, (HEIGHT - 60) / max(len(self.sheet.versus), 1))
        for i, one in enumerate(self.sheet.versus):
            key, title, (won, n) = str(i), one.title, one.count(seeds)
            y, decided = 44 + i * pitch, one.decided(seeds)
            wide = LIST_END - LIST_LEFT - 64
            marks += [
                Words(
                    key=f"versus:{key}",
                    x=LIST_LEFT,
                    y=y,
                    text=title,
                    size=13,
                    bold=decided,
                    opacity=1.0 if decided else 0.75,
                ),
                Rectangle(
                    key=f"pairs:{key}",
                    x=LIST_LEFT,
                    y=y + 6,
                    w=wide,
                    h=12,
                    fill="faint",
                    opacity=0.5,
                    link=f"versus:{key}",
                    words=f"{title}: {won} of {n} pairs.",
                ),
                Rectangle(
                    key=f"won:{key}",
                    x=LIST_LEFT,
                    y=y + 6,
                    w=max(wide * won / max(n, 1), 0.5),
                    h=12,
                    fill=RIGHT if decided else "grey",
                    opacity=1.0 if decided else 0.6,
                    link=f"versus:{key}",
                    words=f"{title}: {won} of {n} pairs.",
                ),
                Words(
                    key=f"count:{key}",
                    x=LIST_END,
                    y=y + 17,
                    text=f"{won} of {n}",
                    anchor="end",
                    size=13,
                    bold=decided,
                ),
            ]
        return marks


def link_of(key: tuple[str, str]) -> str:
    """The thing that a cell's marks stand for."""
    return "/".join(key)
