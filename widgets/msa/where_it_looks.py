"""Where one attention group looks: the lesson's first picture, the text with bands of attention."""

import dataclasses
from typing import Any

import numpy as np

from intuitive.msa.experiments.where_it_looks import LookParams, LookResult, run

from ..kit import (
    Explorer,
    Hero,
    Mark,
    Predict,
    Range,
    Readout,
    Rectangle,
    Scene,
    Step,
    View,
    Words,
    percent,
)
from . import strip
from .block_selection_scene import RIDDLE
from .strip import Strip, heading, quoted

HEIGHT = 232
SHOWN = 3  # blocks of every group that are kept in sight


def scene(look: LookResult) -> Scene:
    """The text, and from the query's line a band to every token that its attention goes to."""
    result, group = look.selection, look.group
    size, mass = result.params.block_size, result.token_mass[group]
    riddle = sorted({token // size for token in result.riddle})
    largest = {
        block
        for of in result.block_mass
        for block in np.argsort(-of, kind="stable")[:SHOWN].tolist()
    }
    tags = dict.fromkeys(riddle, (RIDDLE, "gold"))
    tags |= {result.local_block: ("looks back", "purple")}
    anchors = {
        block: block * size + int(mass[block * size : (block + 1) * size].argmax())
        for block in range(result.local_block)
    }
    text = Strip(
        result.tokens,
        size,
        height=HEIGHT,
        wanted=([result.local_block, look.block, 0, *riddle], sorted(largest)),
        last=result.local_block,
        anchors=anchors | {result.local_block: result.query},
        tags=tags,
    )
    told = {token: _token(look, token) for token in text.words}
    blocks = {block: _block(look, block) for block in range(result.n_blocks)}
    marks: list[Mark] = [
        *text.grounds(blocks),
        *text.numbers({look.block: "blue"}),
        *text.folded(result.block_mass[group], result.local_block),
        *text.bands(
            mass,
            result.query,
            range(result.local_block + 1),
            open_=True,
            told=told,
            blocks_told=blocks,
        ),
        *text.around(result.riddle, key="riddle", colour="gold"),
        *text.texts(result.query, told, click=""),
        *text.tagged(),
        heading("attention", "attention", strip.LEFT - 6, anchor="end"),
        heading("text", f"the text, {size} tokens a line", strip.LEFT + 2),
        heading("number", "block", strip.NUMBER, anchor="end"),
        heading("share", "its share of the attention", strip.LANE),
    ]
    if result.query in text.words:
        word, line = text.words[result.query], text.lines[result.local_block]
        place = {"x": word.x - 1.5, "y": line.y - 0.5, "w": max(word.w, strip.CELL) + 3}
        look_ = {"h": strip.PITCH, "corner": 2, "fill": "purple", "opacity": 0.5}
        marks.append(Rectangle(key="query", layer=strip.TAGS, **place, **look_))
    for block, row in text.lines.items():
        if block > result.local_block:
            continue
        share = float(result.block_mass[group, block])
        strong = block == look.block
        own = {"link": f"b:{block}", "words": blocks[block], "layer": strip.FRONT}
        wide = (strip.LANE_END - strip.LANE) * share
        size_ = {"w": max(wide, 0.4), "h": strip.PITCH - 4, "fill": "blue", "corner": 1}
        opacity = 1.0 if strong else 0.5
        place = {"x": strip.LANE, "y": row.y + 1.5, "opacity": opacity}
        marks.append(Rectangle(key=f"share:{block}", **place, **size_, **own))
        if share >= 0.01:
            place = {"x": strip.LANE + wide + 4, "y": row.y + 8.2, "size": strip.SMALL}
            look_ = {"fill": "blue" if strong else "faint", "bold": strong, "layer": strip.FRONT}
            marks.append(Words(key=f"held:{block}", text=percent(share), **place, **look_))
    return Scene(width=strip.WIDTH, height=HEIGHT, marks=tuple(marks))


def _block(look: LookResult, block: int) -> str:
    result = look.selection
    if block > result.local_block:
        return f"Block {block} comes after {quoted(result.tokens[result.query])}: not visible."
    share = percent(float(result.block_mass[look.group, block]), 1)
    return (
        f"{_named(look, block).capitalize()} holds {share} of the attention of group {look.group}."
    )


def _token(look: LookResult, token: int) -> str:
    result = look.selection
    name = f"{quoted(result.tokens[token])}, token {token}"
    if token > result.query:
        return f"{name}, comes later."
    return f"{name}: {percent(float(result.token_mass[look.group, token]), 1)} of the attention."


def _named(look: LookResult, block: int) -> str:
    size = look.selection.params.block_size
    riddle = {token // size for token in look.selection.riddle}
    extra = ", the riddle" if block in riddle else ", the first" if block == 0 else ""
    return f"block {block}{extra}"


def present(look: LookResult) -> View:
    result, size = look.selection, look.selection.params.block_size
    note = f"{result.note} " if result.note else ""
    token = quoted(result.tokens[result.query])
    best = int(result.token_mass[look.group].argmax())
    return View(
        summary=(
            f"{note}At token {result.query} ({token}) group {look.group} of layer "
            f"{result.params.layer} puts {percent(look.share)} of its attention on one block of "
            f"{size} tokens, {_named(look, look.block)}, which begins {look.distance} tokens "
            f"earlier; most of it on {quoted(result.tokens[best])}."
        ),
        scene=scene(look),
        related={f"b:{look.block}": (f"t:{best}",), f"t:{best}": (f"b:{look.block}",)},
        readouts=(
            Readout(f"on {_named(look, look.block)}", percent(look.share), link=f"b:{look.block}"),
            Readout("how far back", f"{look.distance} tokens"),
        ),
        code=(
            "from intuitive.msa.experiments import where_it_looks\n\n"
            f"look = where_it_looks.run(where_it_looks.LookParams(group={look.group}))\n"
            "look.block, look.share, look.distance"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """The lesson's first picture: one query of a real model, and where its attention goes.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `group=0`.
    """
    return Explorer(
        name="msa_where_it_looks",
        title="Where does “-” look?",
        params=LookParams,
        compute=run,
        present=present,
        hero=Hero(label="The text, and bands from one token to those that its attention goes to"),
        controls=(Range(name="group", label="Group of heads", min=0, max=2),),
        steps=(
            Step(
                title="Why so far back?",
                text="Follow the thick band up from “-”. Which word stood before it there, and "
                "which one came next?",
                sets={"group": 1},
            ),
            Step(
                title="Ask another group",
                text="The same word in the same text, read by other heads. Do they go back to the "
                "riddle as well?",
                sets={"group": 2},
            ),
        ),
        predict=predict,
        defaults={**dataclasses.asdict(LookParams()), **values},
    )
