"""The hero of "What the sparse model writes": two continuations of one prompt, token by token.

The dense model's text stands above the sparse model's; both are written together, and where they
part the tokens change their colour. Under each token of the dense text stands a mark: whether the
sparse model, asked at this place, would have written the same.
"""

from functools import cached_property

from intuitive.msa.experiments.continuation import Continuation

from ..kit import Circle, Frame, Line, Mark, Readout, Rectangle, Scene, Words, percent

Number = int | float

WIDTH = 1000
LEFT, RIGHT = 128, 988
SIZE, PITCH = 15, 9.1  # of the type, and width of a character
LINE = 40  # from line to line
TOP = 84  # of the first line that is written
SHOWN = 92  # characters of the prompt
BREAKS = {"\n": "↵", "\t": "⇥"}


def shown(piece: str) -> str:
    """A token as the picture shows it: line breaks as signs."""
    for sign, told in BREAKS.items():
        piece = piece.replace(sign, told)
    return piece


class Picture:
    """All frames of one result."""

    def __init__(self, result: Continuation) -> None:
        self.result = result
        self.n_new = len(result.dense)
        parted = result.first_difference
        self.parted = self.n_new if parted is None else parted
        self.dense = self._places(result.dense, TOP)
        self.gap = self._lines(self.dense)
        self.sparse_top = TOP + LINE * self.gap + 26
        self.sparse = self._places(result.sparse, self.sparse_top)
        self.height = self.sparse_top + LINE * self._lines(self.sparse) - 12

    def _lines(self, places: list[tuple[Number, Number, Number]]) -> int:
        return 1 + round((places[-1][1] - places[0][1]) / LINE)

    @staticmethod
    def _places(pieces: tuple[str, ...], top: Number) -> list[tuple[Number, Number, Number]]:
        """Left edge, base line and width of each token; a new line where one is full."""
        places, x, y = [], float(LEFT), top
        for piece in pieces:
            wide = PITCH * max(len(shown(piece)), 1)
            if x + wide > RIGHT:
                x, y = float(LEFT), y + LINE
            places.append((x, y, wide))
            x += wide
        return places

    def frames(self) -> tuple[Frame, ...]:
        return tuple(
            Frame(
                scene=Scene(
                    width=WIDTH, height=self.height, marks=(*self._still, *self._written(count))
                ),
                label=f"{count} of {self.n_new} tokens",
                sentence=self._sentence(count),
                readouts=self.readouts(count),
            )
            for count in range(self.n_new + 1)
        )

    def readouts(self, count: int) -> tuple[Readout, ...]:
        """What is read, and how far both agree after `count` tokens."""
        asked = self.result.agrees[:count]
        same = f"{min(count, self.parted)} of {count}" if count else "–"
        return (
            Readout("tokens read", f"at most {percent(self.result.read_share)}"),
            Readout("same tokens in a row", same),
            Readout("agreement along dense", percent(sum(asked) / count) if count else "–"),
        )

    def _sentence(self, count: int) -> str:
        if count == 0:
            return "The prompt ends here; both models go on from the same words."
        if self.parted >= count:
            return f"After {count} tokens both have written the same."
        dense, sparse = (
            shown(part[self.parted]).strip() for part in (self.result.dense, self.result.sparse)
        )
        asked = sum(self.result.agrees[:count])
        return (
            f"They parted at token {self.parted + 1}: “{dense}” and “{sparse}”. Asked along the "
            f"dense text, the sparse model agrees at {asked} of {count} places."
        )

    @cached_property
    def _still(self) -> tuple[Mark, ...]:
        prompt = shown("".join(self.result.prompt))
        end = "…" + prompt[-SHOWN:] if len(prompt) > SHOWN else prompt
        name = {"size": 15, "bold": True}
        return (
            Words(key="name:prompt", x=8, y=34, text="prompt ends", **name),
            Words(key="prompt", x=LEFT, y=34, text=end, size=SIZE, mono=True, opacity=0.75),
            Words(key="name:dense", x=8, y=TOP, text="dense", **name),
            Words(key="name:agrees", x=8, y=TOP + 18, text="sparse agrees?", size=13),
            Words(key="name:sparse", x=8, y=self.sparse_top, text="sparse", **name),
        )

    def _written(self, count: int) -> list[Mark]:
        marks: list[Mark] = []
        for name, pieces, places in (
            ("dense", self.result.dense, self.dense),
            ("sparse", self.result.sparse, self.sparse),
        ):
            for i in range(count):
                marks += self._token(name, i, pieces[i], places[i])
        for i in range(count):
            marks.append(self._agreement(i))
        if self.parted < count:
            marks += self._fork()
        return marks

    def _token(
        self, name: str, i: int, piece: str, place: tuple[Number, Number, Number]
    ) -> list[Mark]:
        x, y, wide = place
        same = i < self.parted
        fill = "blue" if same else "grey" if name == "dense" else "vermilion"
        told = "the same in both" if same else f"of the {name} model alone"
        link = f"token:{i}" if same else f"{name}:{i}"
        return [
            Rectangle(
                key=f"ground:{name}:{i}",
                link=link,
                x=x,
                y=y - 18,
                w=wide - 1,
                h=25,
                fill=fill,
                opacity=0.26,
                corner=3,
                layer=-1,
                words=f"Token {i + 1}, “{shown(piece).strip()}”: {told}.",
            ),
            Words(
                key=f"text:{name}:{i}",
                link=link,
                x=x,
                y=y,
                text=shown(piece).replace(" ", "\u00a0"),
                size=SIZE,
                mono=True,
            ),
        ]

    def _agreement(self, i: int) -> Circle:
        x, y, wide = self.dense[i]
        agrees, guess = self.result.agrees[i], shown(self.result.guesses[i]).strip()
        link = f"token:{i}" if i < self.parted else f"dense:{i}"
        told = "the same" if agrees else f"“{guess}” instead"
        return Circle(
            key=f"agrees:{i}",
            link=link,
            x=x + wide / 2,
            y=y + 14,
            r=4 if agrees else 5,
            fill="blue" if agrees else "page",
            stroke="blue" if agrees else "vermilion",
            width=2,
            words=f"Asked at this place, the sparse model would write {told}.",
        )

    def _fork(self) -> list[Mark]:
        """A line down through both texts where they part."""
        (x, y, _), (x2, y2, _) = self.dense[self.parted], self.sparse[self.parted]
        return [
            Line(
                key="fork",
                x=x - 1,
                y=y - 24,
                x2=x2 - 1,
                y2=y2 + 10,
                stroke="vermilion",
                width=2,
                dash="4 3",
                layer=1,
            ),
            Words(
                key="fork:name",
                x=x - 1,
                y=TOP - 28,
                text=f"they part at token {self.parted + 1}",
                anchor="start" if x < WIDTH / 2 else "end",
                size=13,
                bold=True,
            ),
        ]
