"""What `present(result)` returns: plain data, ready to draw and to read aloud."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .scene import Arithmetic, Scene, Timeline

Figure = Mapping[str, Any]  # {"data": [trace, …], "layout": {…}}
Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Readout:
    """One number beside the plots, already formatted with its unit.

    `alarm` marks it red; its text says what is wrong as well. `link` names the thing that the
    number speaks of, so that both light together.
    """

    label: str
    value: str
    alarm: bool = False
    link: str = ""


@dataclass(frozen=True)
class Table:
    """The numbers behind the plots, for readers who cannot or will not see them.

    Rows are cells, or a function that makes them once the fold is open: for what takes long.
    """

    header: tuple[str, ...]
    rows: Rows | Callable[[], Rows]

    def __post_init__(self) -> None:
        if not callable(self.rows):
            self._check(self.rows)

    def cells(self) -> Rows:
        """The rows, made now where they were given as a function."""
        if not callable(self.rows):
            return self.rows
        rows = self.rows()
        self._check(rows)
        return rows

    def _check(self, rows: Rows) -> None:
        for row in rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"row {row} has {len(row)} cells, the header has {len(self.header)}: "
                    "give every row one cell per column."
                )


@dataclass(frozen=True)
class TokenMarks:
    """A text as tokens, each with the number of its class in `Tokens.classes`.

    `focus` is the token that the page keeps in sight.
    """

    texts: tuple[str, ...]
    marks: bytes
    focus: int = 0

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.marks):
            raise ValueError(
                f"{len(self.texts)} tokens and {len(self.marks)} marks: give one mark per token."
            )


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything one explorer shows for one result.

    Attributes:
        summary: one sentence, stable text; read aloud and compared by nbval.
        scene: what the hero shows, where it does not move in time.
        timeline: what the hero shows, frame by frame.
        arithmetic: by link, the equation with its numbers that a click on the thing opens.
        related: by link, other links that light along with it.
        figures: one figure per declared plot, or a function that builds it: for plots in tabs.
        readouts: numbers beside the plots.
        table: the values behind the plots.
        code: the call that makes this result again.
        tokens: the text and which of its tokens are read, if the explorer shows text.
        bounds: new `(min, max)` of controls whose range depends on the data; of a `Choice`, the
            options that it offers.
        values: control values the computation settled on, where they differ from those asked.
        idle: by name of a `Choice` that leaves this picture as it is: why, in a few words. It is
            disabled and shows them.
    """

    summary: str
    scene: Scene | None = None
    timeline: Timeline | None = None
    arithmetic: Mapping[str, Arithmetic] = field(default_factory=dict)
    related: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    figures: Mapping[str, Figure | Callable[[], Figure]] = field(default_factory=dict)
    readouts: tuple[Readout, ...] = ()
    table: Table | None = None
    code: str = ""
    tokens: TokenMarks | None = None
    bounds: Mapping[str, tuple[int | float | str, ...]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    idle: Mapping[str, str] = field(default_factory=dict)

    def figure(self, name: str) -> Figure:
        """The figure of one plot, built now where it was given as a function."""
        figure = self.figures[name]
        return figure() if callable(figure) else figure
