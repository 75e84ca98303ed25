"""The hero of "What stays on the GPU": the cache as areas to scale, as the text grows.

Left, one picture per row: a box as long as the context and as high as the bytes that one token
costs, so that its area is memory. Above, everything is resident, and a gold sliver is what one
layer reads in one step. Below, LSA: the same box with most of it cut out; what is left is a strip
along the whole length and upright slices, the chunks that are kept. This side is zoomed so that
the context fills the width. Right, both totals as columns on one scale for all contexts.
"""

from intuitive.lsa.experiments.memory import GIB, Held, MemoryResult

from ..kit import Arithmetic, Frame, Line, Mark, Readout, Rectangle, Scene, Words, fixed, percent

Number = int | float

WIDTH, HEIGHT = 1000, 384
LEFT, RIGHT = 24, 648  # of the zoomed side
TALL = 118  # height of a token's bytes with everything resident
FLOORS = {"all": 176, "lsa": 344}  # base lines of the two boxes
SLICES = 23  # into which the fetched chunks are drawn
COLUMNS = {"all": (726, 88), "lsa": (866, 88)}  # left edge and width
GROUND, TALLEST = 344, 282  # of the columns
COLOURS = {"hca": "grey", "keys": "purple", "entries": "blue", "tail": "sky"}
THIN = "\u202f"  # and no line breaks there


def tokens_text(count: int) -> str:
    """A number of tokens as sliders say it: 32K, 1M."""
    return f"{count // 2**20}M" if count >= 2**20 else f"{count // 1024}K"


def whole(value: Number) -> str:
    """A whole number, a thin space between thousands."""
    return f"{round(value):,}".replace(",", THIN)


def size(n_bytes: Number) -> str:
    """Bytes in the unit that fits."""
    if n_bytes >= GIB:
        return f"{fixed(n_bytes / GIB)} GiB"
    return f"{fixed(n_bytes / 2**20, 0)} MiB"


class Picture:
    """All frames of one result."""

    def __init__(self, result: MemoryResult) -> None:
        self.result, self.config = result, result.config
        self.paper = result.params.accounting == "paper"
        self.top = max(held.all_bytes for held in result.at)

    def frames(self) -> tuple[Frame, ...]:
        return tuple(
            Frame(
                scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(self._marks(held))),
                label=tokens_text(held.context),
                sentence=self._sentence(held),
                readouts=self.readouts(held),
                arithmetic=self._arithmetic(held),
            )
            for held in self.result.at
        )

    def readouts(self, held: Held) -> tuple[Readout, ...]:
        return (
            Readout("everything resident", size(held.all_bytes), link="all"),
            Readout("LSA", size(held.lsa_bytes), link="lsa"),
            Readout("share left", percent(held.left, 1)),
        )

    def _sentence(self, held: Held) -> str:
        at = f"At {whole(held.context)} tokens"
        few = held.kept == held.tail
        keeps = "the tail alone" if few else f"{percent(held.kept / held.chunks)} of the chunks"
        said = f"{at} LSA keeps {keeps} and needs {percent(held.left, 1)} of the memory"
        if self.paper:
            return f"{said}, if kept chunks are all that is counted."
        return f"{said}; {percent(held.floor / held.all_bytes, 1)} are there whatever is kept."

    # -------------------------------------------------------------------------------- places

    def _heights(self, held: Held) -> dict[str, float]:
        """Height of a token's bytes by category, to scale; kept ones as if all were kept."""
        unit = TALL / held.all_bytes
        per = {name: n * unit for name, n in held.everything.items()}
        return per | {
            "floor_keys": held.lsa["floor_keys"] * unit,
            "slice": (held.lsa["tail"] + held.lsa["fetched"]) * unit * held.chunks / held.kept,
        }

    def _box(self, key: str, link: str, held: Held, colour: str, **place) -> Rectangle:
        return Rectangle(
            key=key, link=link, words=self._words(link, held), fill=COLOURS[colour], **place
        )

    def _words(self, link: str, held: Held) -> str:
        config, chunks = self.config, whole(held.chunks)
        told = {
            "entries": f"CSA entries: {chunks} chunks in {config.n_csa} layers, "
            f"{config.entry_bytes} bytes each: {size(held.everything['entries'])}.",
            "index_keys": f"Index keys of all {config.n_csa} CSA layers, {config.index_key_bytes} "
            f"bytes each: {size(held.everything['index_keys'])}.",
            "hca": f"HCA entries, one for {config.hca_size} tokens: "
            f"{size(held.everything['hca'])}.",
            "read": f"What one CSA layer reads in one step: {config.top_k} of {chunks} entries, "
            f"{percent(config.top_k / held.chunks, 1)}.",
            "floor_keys": f"Index keys that stay for all {chunks} chunks: "
            f"{size(held.lsa['floor_keys'])}.",
            "fetched": f"Chunks that were fetched: {whole(held.kept - held.tail)} of {chunks}, "
            f"{size(held.lsa['fetched'])}.",
            "tail": f"The tail, the newest {whole(held.tail * config.chunk_size)} tokens: "
            f"{size(held.lsa['tail'])}.",
            "cpu": f"On the CPU: {whole(held.chunks - held.kept)} chunks.",
        }
        return told[link]

    # -------------------------------------------------------------------------------- marks

    def _marks(self, held: Held) -> list[Mark]:
        return [*self._all(held), *self._lsa(held), *self._columns(held)]

    def _all(self, held: Held) -> list[Mark]:
        span, floor, heights = RIGHT - LEFT, FLOORS["all"], self._heights(held)
        wide = max(span * self.config.top_k / held.chunks, 1.2)
        keys_top = floor - heights["hca"] - heights["index_keys"]
        read_x = LEFT + 0.37 * span
        return [
            Words(
                key="zoomed",
                x=LEFT,
                y=16,
                text="Length: tokens of the text. Height: bytes of each. Area: GPU memory.",
                size=14,
                bold=True,
            ),
            Words(
                key="name:all",
                x=LEFT,
                y=48,
                text=f"everything resident: {size(held.all_bytes)}",
                bold=True,
                size=15,
                link="all",
            ),
            Words(
                key="ruler:text",
                x=RIGHT,
                y=48,
                text=f"{tokens_text(held.context)} tokens",
                anchor="end",
                size=13,
            ),
            self._box(
                "entries",
                "entries",
                held,
                "entries",
                x=LEFT,
                w=span,
                y=floor - TALL,
                h=heights["entries"],
                opacity=0.55,
            ),
            self._box(
                "keys",
                "index_keys",
                held,
                "keys",
                x=LEFT,
                w=span,
                y=keys_top,
                h=heights["index_keys"],
                opacity=0.8,
            ),
            self._box(
                "hca",
                "hca",
                held,
                "hca",
                x=LEFT,
                w=span,
                y=floor - heights["hca"],
                h=heights["hca"],
            ),
            Words(
                key="entries:name",
                x=LEFT + 10,
                y=floor - TALL + 22,
                text="CSA entries",
                size=13,
                layer=2,
            ),
            Words(
                key="keys:name", x=LEFT + 10, y=keys_top + 15, text="index keys", size=12, layer=2
            ),
            Words(key="hca:name", x=RIGHT, y=floor + 14, text="HCA entries", size=12, anchor="end"),
            Rectangle(
                key="read",
                link="read",
                words=self._words("read", held),
                x=read_x,
                y=floor - TALL,
                w=wide,
                h=heights["entries"],
                fill="gold",
                layer=2,
            ),
            Words(
                key="read:name",
                x=read_x + wide + 8,
                y=floor - TALL + 50,
                text=f"gold: the {self.config.top_k} entries that one layer reads now",
                size=13,
                layer=2,
            ),
        ]

    def _lsa(self, held: Held) -> list[Mark]:
        span, floor, heights = RIGHT - LEFT, FLOORS["lsa"], self._heights(held)
        few = held.kept == held.tail
        text = "the tail" if few else f"{whole(held.kept - held.tail)} fetched chunks and the tail"
        text += "; grey: on the CPU"
        marks: list[Mark] = [
            Words(
                key="name:lsa",
                x=LEFT,
                y=216,
                text=f"LSA: {size(held.lsa_bytes)}",
                bold=True,
                size=15,
                link="lsa",
            ),
            Words(key="kept:text", x=RIGHT, y=216, text=text, anchor="end", size=13),
            Rectangle(
                key="cpu",
                link="cpu",
                words=self._words("cpu", held),
                x=LEFT,
                w=span,
                y=floor - TALL,
                h=TALL,
                stroke="faint",
                dash="4 4",
                fill="grey",
                opacity=0.12,
                layer=-2,
            ),
        ]
        base = floor - heights["hca"] - heights["floor_keys"]
        if self.paper:
            base = floor
            marks.append(
                Rectangle(
                    key="uncounted",
                    link="uncounted",
                    x=LEFT,
                    w=span,
                    y=floor,
                    h=6,
                    stroke="ink",
                    dash="3 3",
                    width=1,
                    words="The strip that the paper's figures leave out.",
                )
            )
            under = "not counted: HCA entries and index keys of the whole text"
        else:
            marks += [
                self._box(
                    "floor:hca",
                    "hca",
                    held,
                    "hca",
                    x=LEFT,
                    w=span,
                    y=floor - heights["hca"],
                    h=heights["hca"],
                ),
                self._box(
                    "floor:keys",
                    "floor_keys",
                    held,
                    "keys",
                    x=LEFT,
                    w=span,
                    y=base,
                    h=heights["floor_keys"],
                    opacity=0.8,
                ),
            ]
            under = f"the floor, held for every token: {size(held.floor)}"
        marks.append(Words(key="floor:name", x=LEFT, y=floor + 20, text=under, size=13))
        top, height = base - heights["slice"], heights["slice"]
        tail_w = max(span * held.tail / held.chunks, 1.2)
        marks.append(
            self._box("tail", "tail", held, "tail", x=RIGHT - tail_w, w=tail_w, y=top, h=height)
        )
        fetched = held.kept - held.tail
        if fetched:
            room = span - tail_w
            pitch, wide = room / SLICES, room * fetched / (held.chunks - held.tail) / SLICES
            for i in range(SLICES):
                shift = (pitch - wide) * ((i * 0.618034) % 1)  # scattered, and the same always
                marks.append(
                    self._box(
                        f"slice:{i}",
                        "fetched",
                        held,
                        "entries",
                        x=LEFT + i * pitch + shift,
                        w=max(wide, 0.8),
                        y=top,
                        h=height,
                    )
                )
        return marks

    def _columns(self, held: Held) -> list[Mark]:
        unit = TALLEST / self.top
        marks: list[Mark] = [
            Line(key="divider", x=684, x2=684, y=10, y2=HEIGHT - 8, stroke="faint", width=1),
            Words(key="columns", x=704, y=16, text="One scale for all lengths", bold=True, size=14),
            Line(key="ground", x=704, x2=976, y=GROUND, y2=GROUND, stroke="ink", width=1),
        ]
        stacks = {
            "all": (
                ("hca", "hca", held.everything["hca"]),
                ("index_keys", "keys", held.everything["index_keys"]),
                ("entries", "entries", held.everything["entries"]),
            ),
            "lsa": (
                ("hca", "hca", held.lsa["hca"]),
                ("floor_keys", "keys", held.lsa["floor_keys"]),
                ("tail", "tail", held.lsa["tail"]),
                ("fetched", "entries", held.lsa["fetched"]),
            ),
        }
        for which, parts in stacks.items():
            x, w = COLUMNS[which]
            y = GROUND
            for link, colour, n_bytes in parts:
                y -= n_bytes * unit
                marks.append(
                    self._box(
                        f"column:{which}:{link}",
                        link,
                        held,
                        colour,
                        x=x,
                        w=w,
                        y=y,
                        h=n_bytes * unit,
                        opacity=0.55 if which == "all" else 1.0,
                    )
                )
            total = held.all_bytes if which == "all" else held.lsa_bytes
            name = "everything" if which == "all" else "LSA"
            style = {"anchor": "middle", "size": 14, "bold": True, "x": x + w / 2}
            marks += [
                Words(key=f"total:{which}", y=y - 8, text=size(total), link=which, **style),
                Words(key=f"under:{which}", y=GROUND + 18, text=name, **style),
            ]
        x, w = COLUMNS["lsa"]
        if held.context >= 2**18:
            marks.append(
                Words(
                    key="left",
                    x=x + w / 2,
                    y=GROUND - held.lsa_bytes * unit - 36,
                    text=percent(held.left, 1),
                    anchor="middle",
                    size=26,
                    bold=True,
                )
            )
        return marks

    # --------------------------------------------------------------------------- arithmetic

    def _arithmetic(self, held: Held) -> dict[str, Arithmetic]:
        config, chunks = self.config, whole(held.chunks)
        lines = {
            "entries": f"{chunks} chunks × {config.n_csa} layers × {config.entry_bytes} B = "
            f"{size(held.everything['entries'])}",
            "index_keys": f"{chunks} chunks × {config.n_csa} layers × {config.index_key_bytes} B = "
            f"{size(held.everything['index_keys'])}",
            "hca": f"{whole(held.context // config.hca_size)} entries × {config.n_hca} layers × "
            f"{config.entry_bytes} B = {size(held.everything['hca'])}",
            "read": f"{config.top_k} ÷ {chunks} = {percent(config.top_k / held.chunks, 2)}",
        }
        full = self.result.params.all_index_keys
        layers = config.n_csa if full else len(config.memory_layers)
        rest = 0 if full else config.n_csa - layers
        if self.paper:
            layers, rest = 0, config.n_csa
        else:
            lines["floor_keys"] = (
                f"{chunks} chunks × {layers} layers × {config.index_key_bytes} B = "
                f"{size(held.lsa['floor_keys'])}"
            )
        for name, count in (("tail", held.tail), ("fetched", held.kept - held.tail)):
            keys = f" + {rest} × {config.index_key_bytes} B" if rest else ""
            lines[name] = (
                f"{whole(count)} chunks × ({config.n_csa} × {config.entry_bytes} B{keys}) = "
                f"{size(held.lsa[name])}"
            )
        return {link: Arithmetic(text=text) for link, text in lines.items()}
