"""The strip of "A dense model made sparse": which blocks a selector reads, as was recorded."""

from intuitive.msa.experiments.conversion import (
    EARLIER,
    PASSAGE,
    ConversionResult,
    Reads,
    passages,
)

from ..kit import Mark, Rectangle, Words, percent
from . import styles

LEFT, RIGHT, TOP, TALL = 24, 976, 40, 42
COLOURS = {  # one selector, one colour
    "trained_index": "blue",
    EARLIER: "blue",
    "window_sink": "green",
    "main_max": "vermilion",
    "oracle": "ink",
    "main_mean": "purple",
    "block_mean_keys": "gold",
}
NAMES = {**styles.SELECTOR_NAMES, EARLIER: "earlier index"}
PLACES = {"first": "a passage", "again": "the passage again"}


def strip(found: ConversionResult) -> list[Mark]:
    """What the chosen selector reads for the tokens of one block, as the height of every block."""
    reads, name = found.reads, found.params.selector
    pitch = (RIGHT - LEFT) * found.block_size / reads.context
    n_blocks, shares = reads.context // found.block_size, reads.shares[name]
    returns = found.params.measure == "returning_passage"
    marks: list[Mark] = [
        Words(
            key="strip:name",
            x=LEFT,
            y=TOP - 14,
            text=f"lit: how often {NAMES[name]}, k = {found.params.n_selected}, reads a block for "
            f"the tokens of block {reads.block}; {reads.context:,} tokens in {n_blocks} blocks",
            size=14,
            bold=True,
        )
    ]
    for block in range(n_blocks):
        share = shares[block] if block < len(shares) else None
        told = (
            f"comes after block {reads.block}, which asks."
            if share is None
            else f"{NAMES[name]} reads it in {percent(share)} of the choices."
        )
        place = {"x": LEFT + pitch * block + 0.5, "w": pitch - 1, "link": name}
        words = f"Block {block}{_role(block, reads, returns)}: {told}"
        tall = TALL * (share or 0.0)
        marks += [
            Rectangle(
                key=f"block:{block}",
                y=TOP,
                h=TALL,
                fill="grey",
                opacity=0.22 if share is not None else 0.08,
                words=words,
                **place,
            ),
            Rectangle(
                key=f"read:{block}",
                y=TOP + TALL - tall,
                h=tall,
                fill=COLOURS[name],
                layer=1,
                words=words,
                **place,
            ),
        ]
    asks = f"block {reads.block} asks"
    marks.append(_frame("asks", reads.block, pitch, "purple", f"The {asks}."))
    low = TOP + TALL
    label = {"y": low + 19, "size": 13, "bold": True}
    if not returns:
        return [*marks, Words(key="asks:name", x=RIGHT, text=asks, anchor="end", **label)]
    wide = pitch * PASSAGE / found.block_size
    first, again = (LEFT + pitch * start / found.block_size for start in passages(reads.context))
    for place, left in (("first", first), ("again", again)):
        marks.append(
            Rectangle(
                key=f"passage:{place}",
                x=left,
                y=TOP - 3,
                w=wide,
                h=TALL + 6,
                stroke="gold",
                width=3,
                corner=4,
                words=f"The passage of {PASSAGE} tokens, {PLACES[place]}.",
                layer=2,
            )
        )
    stood = percent(shares[reads.stood])
    return [
        *marks,
        _frame("stood:frame", reads.stood, pitch, "gold", "Here the same words stood."),
        Words(
            key="stood",
            x=first + wide / 2,
            text=f"{PLACES['first']}; block {reads.stood}, where it stood: {stood}",
            anchor="middle",
            **label,
        ),
        Words(
            key="asks:name",
            x=RIGHT,
            text=f"{PLACES['again']}; {asks}",
            anchor="end",
            **label,
        ),
    ]


def _frame(key: str, block: int, pitch: float, colour: str, words: str) -> Rectangle:
    place = {"x": LEFT + pitch * block - 1, "y": TOP - 1.5, "w": pitch + 2, "h": TALL + 3}
    look = {"stroke": colour, "width": 2, "corner": 2, "layer": 2}
    return Rectangle(key=key, words=words, **place, **look)


def _role(block: int, reads: Reads, returns: bool) -> str:
    if block == reads.block:
        return ", which asks"
    return ", where its words stood" if returns and block == reads.stood else ""
