"""Where one attention group looks: the lesson's first picture, the text with bands of attention."""

import dataclasses
from typing import Any

import numpy as np

from intuitive.msa.experiments.where_it_looks import LookParams, LookResult, run

from ..kit import (
    Explorer,
    Frame,
    Hero,
    Mark,
    Predict,
    Range,
    Readout,
    Rectangle,
    Scene,
    Step,
    Timeline,
    View,
    Words,
    percent,
)
from . import strip
from .block_selection_scene import RIDDLE
from .block_selection_words import WAITING
from .strip import Strip, heading, quoted

HEIGHT = 232  # of the strip, whose foot has room for an axis that is not needed here
CROPPED = HEIGHT - strip.BOTTOM + 1
PACE_MS = 1400
SHOWN = 3  # blocks of every group that are kept in sight


def scene(look: LookResult, *, open_: bool = True) -> Scene:
    """The text, and once `open_` a band from the query to every token its attention goes to."""
    result, group = look.selection, look.group
    size, mass = result.params.block_size, result.token_mass[group]
    strongest = result.token_mass.max(0)  # of all groups, so that lines are cut alike for each
    riddle = sorted({token // size for token in result.riddle})
    largest = {
        block
        for of in result.block_mass
        for block in np.argsort(-of, kind="stable")[:SHOWN].tolist()
    }
    tags = dict.fromkeys(riddle, (RIDDLE, "gold"))
    tags |= {result.local_block: ("looks back", "purple")}
    anchors = {
        block: block * size + int(strongest[block * size : (block + 1) * size].argmax())
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
    told = {token: _token(look, token) for token in text.words} if open_ else {}
    blocks = {block: _block(look, block) for block in range(result.n_blocks)} if open_ else {}
    marks: list[Mark] = [
        *text.grounds(blocks),
        *text.numbers({look.block: "blue"} if open_ else {}),
        *text.folded(result.block_mass[group] if open_ else None, result.local_block),
        *text.bands(
            mass,
            result.query,
            range(result.local_block + 1),
            open_=open_,
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
        share = float(result.block_mass[group, block]) if open_ else 0.0
        strong = block == look.block
        own = {"link": f"b:{block}", "words": blocks.get(block, ""), "layer": strip.FRONT}
        wide = (strip.LANE_END - strip.LANE) * share
        size_ = {"w": max(wide, 0.4), "h": strip.PITCH - 4, "fill": "blue", "corner": 1}
        opacity = 1.0 if strong else 0.5
        place = {"x": strip.LANE, "y": row.y + 1.5, "opacity": opacity}
        marks.append(Rectangle(key=f"share:{block}", **place, **size_, **own))
        if share >= 0.01:
            place = {"x": strip.LANE + wide + 4, "y": row.y + 8.2, "size": strip.SMALL}
            look_ = {"fill": "blue" if strong else "faint", "bold": strong, "layer": strip.FRONT}
            marks.append(Words(key=f"held:{block}", text=percent(share), **place, **look_))
    return Scene(width=strip.WIDTH, height=CROPPED, marks=tuple(marks))


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
    found = (
        f"At token {result.query} ({token}) group {look.group} of layer "
        f"{result.params.layer} puts {percent(look.share)} of its attention on one block of "
        f"{size} tokens, {_named(look, look.block)}, which begins {look.distance} tokens "
        f"earlier; most of it on {quoted(result.tokens[best])}."
    )
    asked = (
        f"The model has just read {token}, token {result.query}. Where will group {look.group} "
        "look for what comes next? Play."
    )
    link = f"b:{look.block}"
    frames = (
        Frame(
            scene=scene(look, open_=False),
            stage="read",
            sentence=asked,
            readouts=(Readout("on one block", WAITING), Readout("how far back", WAITING)),
        ),
        Frame(scene=scene(look), stage="look", sentence=found),
    )
    return View(
        summary=(
            f"{note}Group {look.group} of layer {result.params.layer} at token {result.query} "
            f"({token}). Each line is a block of {size} tokens; a band is as wide as its share of "
            "the attention."
        ),
        timeline=Timeline(frames=frames, axis="stage", pace_ms=PACE_MS),
        related={f"b:{look.block}": (f"t:{best}",), f"t:{best}": (f"b:{look.block}",)},
        readouts=(
            Readout(f"on {_named(look, look.block)}", percent(look.share), link=link),
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
                text="Play, and follow the thick band up from “-”. Which word stood before it "
                "there, and which one came next?",
                sets={"group": 1},
                frame="play",
            ),
            Step(
                title="Ask another group",
                text="The same word in the same text, read by other heads. Do they go back to the "
                "riddle as well?",
                sets={"group": 2},
                frame="last",
            ),
        ),
        predict=predict,
        defaults={**dataclasses.asdict(LookParams()), **values},
    )
