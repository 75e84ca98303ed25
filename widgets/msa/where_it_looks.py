"""Where one attention group looks: the lesson's first picture."""

import dataclasses
from typing import Any

import numpy as np

from intuitive.msa.experiments.where_it_looks import LookParams, LookResult, run

from .. import theme
from ..kit import Explorer, Plot, Predict, Range, TokenMarks, Tokens, View, percent
from . import styles

AROUND = 24  # tokens shown before the block and after the query
CLASSES = (
    ("future", "after the query"),
    ("skipped", "before it"),
    ("read", "the block with the most attention"),
    ("here", "the query"),
)


def mass_figure(look: LookResult) -> theme.Figure:
    """Share of one query's attention in every key block, by group."""
    result = look.selection
    traces, headings = [], []
    for group, mass in enumerate(result.block_mass):
        traces.append(
            {
                "type": "bar",
                "x": np.arange(result.n_blocks),
                "y": mass.astype(np.float32),
                "marker": {"color": styles.READ if group == look.group else theme.GREY},
                "xaxis": theme.x_axis(group),
                "hovertemplate": "block %{x}: %{fixed(y)}<extra></extra>",
            }
        )
        headings.append(f"group {group}")
    return theme.figure(
        traces,
        y="share of attention",
        y_range=(0, 1),
        **theme.columns(headings, x="key block", x_range=(-0.5, result.n_blocks - 0.5)),
    )


def present(look: LookResult) -> View:
    future, skipped, read, here = range(len(CLASSES))
    result, size = look.selection, look.selection.params.block_size
    first = look.block * size
    marks = bytearray([skipped] * result.query + [here])
    marks += bytes([future] * (result.n_tokens - len(marks)))
    for token in range(first, min(first + size, result.query)):
        marks[token] = read
    shown = slice(max(0, first - AROUND), result.query + AROUND)
    texts = ["¶ " if token == "\n" else token for token in result.tokens[shown]]
    texts[0] = f"…{texts[0]}" if shown.start else texts[0]
    note = f"{result.note} " if result.note else ""
    return View(
        summary=(
            f"{note}At token {result.query} ({styles.token_name(result.tokens[result.query])}) "
            f"group {look.group} of layer {result.params.layer} puts {percent(look.share)} of its "
            f"attention on one block of {size} tokens, which begins {look.distance} tokens "
            "earlier."
        ),
        figures={"mass": mass_figure(look)},
        tokens=TokenMarks(tuple(texts), bytes(marks[shown])),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """The lesson's first picture: one query of a real model, and where its attention goes.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `group=0`.
    """
    return Explorer(
        name="msa_where_it_looks",
        title="Where one attention group looks",
        params=LookParams,
        compute=run,
        present=present,
        controls=(Range(name="group", label="Group shown", min=0, max=2),),
        plots=(
            Plot(
                name="mass",
                label="Attention mass of one query by key block, for each group",
                height=220,
            ),
        ),
        tokens=Tokens(
            label="The text: Lewis Carroll, A Mad Tea-Party", classes=CLASSES, height=480
        ),
        predict=predict,
        defaults={**dataclasses.asdict(LookParams()), **values},
    )
