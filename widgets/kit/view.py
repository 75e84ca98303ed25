"""What `present(result)` returns: plain data, ready to draw and to read aloud."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go


@dataclass(frozen=True)
class Readout:
    """One number beside the plots, already formatted with its unit.

    `alarm` marks it red; its text says what is wrong as well.
    """

    label: str
    value: str
    alarm: bool = False


@dataclass(frozen=True)
class Table:
    """The numbers behind the plots, for readers who cannot or will not see them."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
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
        figures: one figure per declared plot.
        readouts: numbers beside the plots.
        table: the values behind the plots.
        code: the call that makes this result again.
        tokens: the text and which of its tokens are read, if the explorer shows text.
        bounds: new `(min, max)` of controls whose range depends on the data.
        values: control values the computation settled on, where they differ from those asked.
    """

    summary: str
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    readouts: tuple[Readout, ...] = ()
    table: Table | None = None
    code: str = ""
    tokens: TokenMarks | None = None
    bounds: Mapping[str, tuple[int | float, int | float]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
