"""The hero of "What it costs": dense attention and MSA as areas to scale, as the context grows.

Left, one token: a box as long as the tokens that are touched and as high as one of them costs, so
that its area is the cost. Dense attention touches all at the full price. MSA's index touches all at
a small price, a thin strip; the selected blocks are few at the full price. This side is zoomed so
that the context always fills the width. Right, the same three costs as columns on one scale for
all contexts.
"""

from dataclasses import dataclass
from functools import cached_property

from intuitive.msa.experiments.what_it_costs import MOMENTS, CostCurves, CostResult

from ..kit import Arithmetic, Frame, Line, Mark, Readout, Rectangle, Scene, Words, fixed, percent

Number = int | float

WIDTH, HEIGHT = 1000, 372
LEFT, RIGHT = 24, 640  # the zoomed side
PRICE = 88  # height of the full price
DENSE_TOP, MAIN_TOP = 62, 196
STRIP_TOP = MAIN_TOP + PRICE + 8
COLUMNS = {"dense": (722, 84), "msa": (858, 84)}  # left edge and width
FLOOR, TALLEST = 344, 286  # of the columns
PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
COLOURS = {"dense": "sky", "index": "vermilion", "main": "blue"}


def tokens_text(count: Number) -> str:
    """A number of tokens as sliders say it: 2.5K, 64K, 1M."""
    if count >= 2**20:
        return f"{fixed(count / 2**20, 1).removesuffix('.0')}M"
    return f"{fixed(count / 2**10, 1).removesuffix('.0')}K" if count >= 1024 else str(round(count))


def apart(count: Number, other: Number) -> str:
    """The same, in full where it would read as another number of tokens does."""
    if tokens_text(count) == tokens_text(other) and round(count) != round(other):
        return whole(count)
    return tokens_text(count)


def amount(value: Number, unit: str) -> str:
    """A cost with three digits and its prefix."""
    size, prefix = next((pair for pair in PREFIXES if value >= pair[0]), (1, ""))
    scaled = value / size
    return f"{fixed(scaled, 0 if scaled >= 100 else 1 if scaled >= 10 else 2)} {prefix}{unit}"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What is counted, at several contexts.

    Attributes:
        unit: "FLOP" or "B".
        dense, index, main: cost of one token.
        price: of one token that is touched at full price.
        seen, read: tokens that one token sees, and reads at full price.
    """

    unit: str
    contexts: tuple[int, ...]
    dense: tuple[Number, ...]
    index: tuple[Number, ...]
    main: tuple[Number, ...]
    price: Number
    seen: tuple[Number, ...]
    read: tuple[Number, ...]


def counted(result: CostResult, counts: str) -> Counted:
    """FLOPs per token of a whole prompt, or bytes read for one new token."""
    costs: CostCurves = result.moments[counts]
    params, contexts = result.params, tuple(costs.contexts.tolist())
    if counts == "flops":
        price = 4 * params.n_q_heads * params.d_head
        dense, index, main = costs.dense_flops, costs.index_flops, costs.main_flops
    else:
        price = 2 * params.n_kv_heads * params.d_head * params.element_bytes
        dense, index, main = costs.dense_bytes, costs.index_bytes, costs.main_bytes
    return Counted(
        unit="FLOP" if counts == "flops" else "B",
        contexts=contexts,
        dense=tuple(dense.tolist()),
        index=tuple(index.tolist()),
        main=tuple(main.tolist()),
        price=price,
        seen=tuple((dense / price).tolist()),
        read=tuple((main / price).tolist()),
    )


class Picture:
    """All frames of one result; `counts` is "flops" or "bytes"."""

    def __init__(self, result: CostResult, counts: str) -> None:
        self.result, self.counts = result, counts
        self.costs = counted(result, counts)
        self.unit = self.costs.unit
        self.top = max(max(self.costs.dense), self.costs.index[-1] + self.costs.main[-1])

    def label(self, moment: int) -> str:
        """Name of a frame: its context, and whether both cost the same there."""
        context = self.costs.contexts[moment]
        if context in MOMENTS:
            return tokens_text(context)
        return f"{whole(context)}: break-even"

    @cached_property
    def start(self) -> int:
        """The frame that opens: the shortest of the lesson's contexts."""
        return self.costs.contexts.index(4096)

    def ratio(self, moment: int) -> float:
        return self.costs.dense[moment] / (self.costs.index[moment] + self.costs.main[moment])

    def share(self, moment: int) -> float:
        """The index's share of MSA's cost."""
        return self.costs.index[moment] / (self.costs.index[moment] + self.costs.main[moment])

    def frames(self) -> tuple[Frame, ...]:
        return tuple(
            Frame(
                scene=Scene(
                    width=WIDTH,
                    height=HEIGHT,
                    marks=(*self._zoomed(moment), *self._columns(moment)),
                ),
                label=self.label(moment),
                sentence=self._sentence(moment),
                readouts=self.readouts(moment),
                arithmetic=self._arithmetic(moment),
            )
            for moment in range(len(self.costs.contexts))
        )

    def readouts(self, moment: int) -> tuple[Readout, ...]:
        what = "FLOPs" if self.counts == "flops" else "bytes"
        return (
            Readout(f"{what}, dense ÷ MSA", f"{fixed(self.ratio(moment), 1)}×"),
            Readout("the index's part", percent(self.share(moment)), link="index"),
            Readout("cache", f"+{percent(self.result.cache_growth, 1)}"),
        )

    def _sentence(self, moment: int) -> str:
        context, ratio = self.costs.contexts[moment], self.ratio(moment)
        does = "computes" if self.counts == "flops" else "reads"
        at = f"At {whole(context)} tokens "
        part = f"; the index makes {percent(self.share(moment))} of what MSA {does}"
        if context not in MOMENTS:
            return f"{at}both cost the same: from here on MSA is the cheaper one."
        if ratio >= 1:
            on = " Play on to a million tokens." if moment == self.start else ""
            return f"{at}MSA {does} {fixed(ratio, 1)} times less{part}.{on}"
        return f"{at}MSA {does} {fixed(1 / ratio)} times more: the index comes on top{part}."

    # -------------------------------------------------------------------------------- marks

    def _words(self, part: str, moment: int) -> str:
        costs = self.costs
        told = {
            "dense": (
                f"Dense attention: {tokens_text(costs.seen[moment])} tokens at the full price of "
                f"{amount(costs.price, self.unit)}, together "
                f"{amount(costs.dense[moment], self.unit)}."
            ),
            "index": (
                f"MSA's index: the same {tokens_text(costs.seen[moment])} tokens at "
                f"1/{fixed(costs.dense[moment] / costs.index[moment], 0)} of the price, together "
                f"{amount(costs.index[moment], self.unit)}."
            ),
            "main": (
                f"MSA's selected blocks: {tokens_text(costs.read[moment])} tokens at the full "
                f"price, together {amount(costs.main[moment], self.unit)}."
            ),
        }
        return told[part]

    def _box(self, part: str, key: str, moment: int, **place: Number) -> Rectangle:
        return Rectangle(
            key=key,
            link=part,
            words=self._words(part, moment),
            fill=COLOURS[part],
            opacity=0.45 if part == "dense" else 1.0,
            **place,
        )

    def _zoomed(self, moment: int) -> list[Mark]:
        costs, span = self.costs, RIGHT - LEFT
        seen, read = costs.seen[moment], costs.read[moment]
        thin = PRICE * costs.index[moment] / costs.dense[moment]
        wide = max(span * min(read / seen, 1.0), 1.0)
        who = "An average token" if self.counts == "flops" else "One new token"
        size = {"size": 14}
        small = {"size": 13}
        inside = wide > 300
        main_text = (
            f"selected blocks: {apart(read, seen)} tokens at full price = "
            f"{amount(costs.main[moment], self.unit)}"
        )
        return [
            Words(
                key="zoomed",
                x=LEFT,
                y=20,
                text=f"{who}: length = tokens touched, height = price of each",
                bold=True,
                size=14,
            ),
            Line(key="ruler", x=LEFT, x2=RIGHT, y=50, y2=50, stroke="ink", width=1),
            Line(key="ruler:left", x=LEFT, x2=LEFT, y=46, y2=54, stroke="ink", width=1),
            Line(key="ruler:right", x=RIGHT, x2=RIGHT, y=46, y2=54, stroke="ink", width=1),
            Words(
                key="ruler:text",
                x=RIGHT,
                y=42,
                text=f"{tokens_text(seen)} tokens seen",
                anchor="end",
                **small,
            ),
            self._box("dense", "dense", moment, x=LEFT, y=DENSE_TOP, w=span, h=PRICE),
            Words(
                key="dense:name", x=LEFT + 14, y=DENSE_TOP + 38, text="dense", bold=True, size=16
            ),
            Words(
                key="dense:text",
                x=LEFT + 14,
                y=DENSE_TOP + 60,
                text=f"{apart(seen, read)} tokens at full price, "
                f"{amount(costs.price, self.unit)} = {amount(costs.dense[moment], self.unit)}",
                **size,
            ),
            Words(key="msa:name", x=LEFT, y=MAIN_TOP - 14, text="MSA", bold=True, size=16),
            self._box("main", "main", moment, x=LEFT, y=MAIN_TOP, w=wide, h=PRICE),
            Words(
                key="main:text",
                x=LEFT + 14 if inside else LEFT + wide + 12,
                y=MAIN_TOP + PRICE / 2 + 5,
                text=main_text,
                fill="#ffffff" if inside else "ink",  # on blue, in both themes
                layer=2,
                **size,
            ),
            self._box("index", "index", moment, x=LEFT, y=STRIP_TOP, w=span, h=max(thin, 1)),
            Words(
                key="index:text",
                x=LEFT,
                y=min(STRIP_TOP + thin + 20, HEIGHT - 4),
                text=(
                    f"index: all {tokens_text(seen)} at "
                    f"1/{fixed(costs.dense[moment] / costs.index[moment], 0)} of the price = "
                    f"{amount(costs.index[moment], self.unit)}"
                ),
                layer=2,
                **size,
            ),
        ]

    def _columns(self, moment: int) -> list[Mark]:
        costs = self.costs
        heights = {
            part: TALLEST * getattr(costs, part)[moment] / self.top
            for part in ("dense", "index", "main")
        }
        (dense_x, dense_w), (msa_x, msa_w) = COLUMNS["dense"], COLUMNS["msa"]
        msa = heights["index"] + heights["main"]
        total = costs.index[moment] + costs.main[moment]
        bold = {"anchor": "middle", "size": 14, "bold": True}
        return [
            Line(key="divider", x=676, x2=676, y=10, y2=HEIGHT - 8, stroke="faint", width=1),
            Words(key="columns", x=700, y=20, text="One scale for all lengths", bold=True, size=14),
            Line(key="floor", x=700, x2=964, y=FLOOR, y2=FLOOR, stroke="ink", width=1),
            self._box(
                "dense",
                "column:dense",
                moment,
                x=dense_x,
                y=FLOOR - heights["dense"],
                w=dense_w,
                h=heights["dense"],
            ),
            self._box(
                "index",
                "column:index",
                moment,
                x=msa_x,
                y=FLOOR - heights["index"],
                w=msa_w,
                h=heights["index"],
            ),
            self._box(
                "main",
                "column:main",
                moment,
                x=msa_x,
                y=FLOOR - msa,
                w=msa_w,
                h=heights["main"],
            ),
            Words(
                key="total:dense",
                x=dense_x + dense_w / 2,
                y=FLOOR - heights["dense"] - 7,
                text=amount(costs.dense[moment], self.unit),
                **bold,
            ),
            Words(
                key="total:msa",
                x=msa_x + msa_w / 2,
                y=FLOOR - msa - 7,
                text=amount(total, self.unit),
                **bold,
            ),
            *self._ratio(moment, msa_x + msa_w / 2, FLOOR - msa),
            Words(key="under:dense", x=dense_x + dense_w / 2, y=FLOOR + 18, text="dense", **bold),
            Words(key="under:msa", x=msa_x + msa_w / 2, y=FLOOR + 18, text="MSA", **bold),
        ]

    def _ratio(self, moment: int, x: Number, top: Number) -> list[Mark]:
        """The ratio in large figures above the shorter column, where it is one."""
        ratio = self.ratio(moment)
        if self.top > 100 * self.costs.dense[moment]:  # columns of less than three pixels
            note = {"x": 832, "anchor": "middle", "size": 13, "opacity": 0.75}
            return [
                Words(key="thin:1", y=FLOOR - 140, text="hardly to be seen yet:", **note),
                Words(
                    key="thin:2",
                    y=FLOOR - 120,
                    text=f"the highest column will hold {amount(self.top, self.unit)}",
                    **note,
                ),
            ]
        if ratio < 1.5:
            return []
        text = f"1/{fixed(ratio, 1)}"
        y = min(top - 40, FLOOR - 90)
        return [Words(key="ratio", x=x, y=y, text=text, anchor="middle", size=26, bold=True)]

    # --------------------------------------------------------------------------- arithmetic

    def _arithmetic(self, moment: int) -> dict[str, Arithmetic]:
        """The three areas as length times height."""
        costs = self.costs
        index_price = costs.index[moment] / costs.seen[moment]
        areas = {
            "dense": (costs.seen[moment], costs.price, costs.dense[moment]),
            "index": (costs.seen[moment], index_price, costs.index[moment]),
            "main": (costs.read[moment], costs.price, costs.main[moment]),
        }
        return {
            part: Arithmetic(
                text=(
                    f"{whole(length)} tokens × {whole(price)} {self.unit} = "
                    f"{amount(area, self.unit)}; {FORMULAS[self.counts][part]}"
                )
            )
            for part, (length, price, area) in areas.items()
        }


FORMULAS = {
    "flops": {
        "dense": "N/2 tokens are seen on average, each costs 4·heads·head size (Eq. 12).",
        "index": "each costs 2·groups·index head size (Eq. 12).",
        "main": "k blocks, fewer near the beginning; each token costs 4·heads·head size.",
    },
    "bytes": {
        "dense": "key and value of every group.",
        "index": "one index key, shared by the groups.",
        "main": "key and value of every group, in k blocks only.",
    },
}


def whole(value: Number) -> str:
    """A whole number as this picture writes it, a thin space between thousands."""
    return f"{round(value):,}".replace(",", "\u2009")
