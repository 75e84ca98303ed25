"""Block selection: which key blocks a real model's queries would read, under every selector."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from intuitive.msa import shipped_index
from intuitive.msa.experiments import block_selection as experiment
from intuitive.msa.experiments.block_selection import SelectionParams, SelectionResult
from intuitive.msa.texts import INDEXES

from .. import theme
from ..kit import (
    Choice,
    Explorer,
    Plot,
    Predict,
    Range,
    Readout,
    Table,
    Text,
    TokenMarks,
    Tokens,
    View,
    fixed,
    percent,
)
from . import styles

FUTURE, SKIPPED, READ, LOCAL, HERE = range(5)
TOKEN_CLASSES = (
    ("future", "after the query: not visible"),
    ("skipped", "visible, not read"),
    ("read", "in a block that is read"),
    ("local", "in the local block"),
    ("here", "the query"),
)


def _mass_held() -> tuple[int, str]:
    result = experiment.run(experiment.FIRST)
    group = result.params.group
    held, best, window = (
        float(result.captured[name][group]) for name in ("main_max", "oracle", "window_sink")
    )
    return 0 if held < 0.375 else 1 if held < 0.75 else 2, (
        f"They hold {percent(held)} of its attention; the choice of blocks that holds most, "
        f"{percent(best)}, and a window of as many blocks {percent(window)}."
    )


PREDICT = Predict(
    question=(
        "The query may read 6 of the 22 blocks it sees: one is its own, five are chosen by "
        "the largest score in each block. How much of the group's attention do they hold?"
    ),
    choices=("about a quarter", "about half", "nearly all"),
    answer=_mass_held,
)


# ------------------------------------------------------------------------------- record → figures


LOWEST, HIGHEST = -14.0, 4.0  # of scores below the strongest token, in nats
MAP_ROWS = 256  # rows of the selected map that are drawn


def scores_figure(result: SelectionResult) -> theme.Figure:
    """Token scores of one query, their block values, and the blocks chosen, by group."""
    seen, blocks = result.n_visible, result.local_block + 1
    pools_mass = result.params.selector in ("oracle", "window_sink")
    headings, traces, shapes = [], [], []
    for group in range(len(result.token_scores)):
        tokens = result.token_scores[group, :seen]
        pooled = (result.block_mass if pools_mass else result.block_scores)[group, :blocks]
        if pools_mass:
            with np.errstate(divide="ignore"):
                tokens, pooled = np.log(tokens), np.log(pooled)
        top = tokens.max()
        axis = theme.x_axis(group)
        traces += [
            styles.block_bars(
                np.clip(pooled - top, LOWEST, HIGHEST),
                result.selected[group, result.query, :blocks],
                floor=LOWEST,
                size=result.params.block_size,
                axis=axis,
            ),
            styles.token_line(np.clip(tokens - top, LOWEST, HIGHEST), axis=axis),
        ]
        shapes.append(theme.line(x=result.query, axis=axis, colour=theme.PURPLE))
        heading = f"group {group}"
        headings.append(f"<b>{heading}</b>" if group == result.params.group else heading)
    return theme.figure(
        traces,
        barmode="overlay",
        y="score below strongest (nats)",
        y_range=(LOWEST, HIGHEST),
        shapes=shapes,
        **theme.columns(headings, x="token position", x_range=(0, result.n_tokens)),
    )


CLEAR, VISIBLE = "rgba(0,0,0,0)", "rgba(150,150,150,0.28)"
MAP_COLOURS = [
    [0, CLEAR],
    [0.33, CLEAR],
    [0.34, VISIBLE],
    [0.66, VISIBLE],
    [0.67, styles.READ],
    [1, styles.READ],
]


def map_figure(result: SelectionResult) -> theme.Figure:
    """Which blocks every query of the layer reads, by group; the future is left clear."""
    step = math.ceil(result.n_tokens / MAP_ROWS)
    rows = np.arange(step - 1, result.n_tokens, step)
    visible = np.arange(result.n_blocks) <= rows[:, None] // result.params.block_size
    traces, shapes = [], []
    for group in range(len(result.selected)):
        axis = theme.x_axis(group)
        traces.append(
            {
                "type": "heatmap",
                "z": visible.astype(np.uint8) + (result.selected[group, rows] & visible),
                "y0": int(rows[0]),
                "dy": step,
                "zmin": 0,
                "zmax": 2,
                "colorscale": MAP_COLOURS,
                "showscale": False,
                "xaxis": axis,
                "hovertemplate": "query %{y}, block %{x}<extra></extra>",
            }
        )
        shapes.append(theme.line(y=result.query, axis=axis, colour=theme.PURPLE, dash="solid"))
    headings = [f"group {group}" for group in range(len(result.selected))]
    return theme.figure(
        traces,
        y="query position",
        y_range=(result.n_tokens, 0),
        yaxis={"showgrid": False},
        shapes=shapes,
        **theme.columns(headings, x="key block", x_range=(-0.5, result.n_blocks - 0.5)),
    )


def captured_figure(result: SelectionResult) -> theme.Figure:
    """Attention mass captured by every selector at the same budget."""
    group = result.params.group
    names = list(result.captured)[::-1]
    labels = [styles.SELECTOR_NAMES[name] for name in names]
    labels[names.index(result.params.selector)] = (
        f"<b>{styles.SELECTOR_NAMES[result.params.selector]}</b>"
    )
    mean = [float(result.captured_mean[name][group]) for name in names]
    traces = [
        {
            "type": "bar",
            "x": mean,
            "y": labels,
            "orientation": "h",
            "marker": {"color": styles.READ},
            "text": [fixed(value) for value in mean],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textfont": {"color": "white"},
            "name": "mean over queries",
        },
        {
            "type": "scatter",
            "x": [float(result.captured[name][group]) for name in names],
            "y": labels,
            "mode": "markers",
            "marker": {
                "symbol": "diamond",
                "size": 12,
                "color": theme.VERMILION,
                "line": {"color": "white", "width": 1},
            },
            "name": "this query",
        },
    ]
    return theme.figure(
        traces,
        x="attention mass",
        x_range=(0, 1.02),
        showlegend=True,
        margin={"l": 158},
    )


# ------------------------------------------------------------------------------- record → view


@dataclass(frozen=True, kw_only=True)
class TextSelection:
    """A text and the sliders over it; no text means the lesson's own."""

    text: str
    selection: SelectionParams

    @classmethod
    def of(cls, *, text: str = "", **settings: Any) -> "TextSelection":
        return cls(text=text, selection=dataclasses.replace(experiment.FIRST, **settings))


def compute(params: TextSelection, *, stale: Any, progress: Any) -> SelectionResult:
    """`run`, on the reader's text or the lesson's."""
    return experiment.run(params.selection, text=params.text, stale=stale, progress=progress)


def present(result: SelectionResult) -> View:
    params, group = result.params, result.params.group
    position, read = result.query, result.tokens_read[group]
    captured = float(result.captured[params.selector][group])
    best = float(result.captured["oracle"][group])
    window = float(result.captured["window_sink"][group])
    marks = bytearray([SKIPPED] * (position + 1) + [FUTURE] * (result.n_tokens - position - 1))
    for token in read.nonzero()[0]:
        marks[token] = LOCAL if token // params.block_size == result.local_block else READ
    marks[position] = HERE
    name = styles.SELECTOR_NAMES[params.selector]
    note = f"{result.note} " if result.note else ""
    token = styles.token_name(result.tokens[position])
    summary = (
        f"{note}Layer {params.layer}, token {position} ({token}), "
        f"group {group}: {name} reads {result.n_read[group]} of {result.n_visible} visible tokens "
        f"and captures {fixed(captured)} of the attention mass; the best possible choice of "
        f"blocks captures {fixed(best)}, the window {fixed(window)}."
    )
    rows = tuple(
        (
            styles.SELECTOR_NAMES[selector],
            *(fixed(float(share), 3) for share in shares),
            *(fixed(float(share), 3) for share in result.captured_mean[selector]),
        )
        for selector, shares in result.captured.items()
    )
    groups = range(len(result.overlap))
    return View(
        summary=summary,
        figures={
            "scores": scores_figure(result),
            "map": partial(map_figure, result),
            "captured": partial(captured_figure, result),
        },
        readouts=(
            Readout("tokens read", f"{result.n_read[group]} of {result.n_visible}"),
            Readout("mass captured", fixed(captured, 3)),
            Readout("block recall", fixed(float(result.block_recall[group]))),
        ),
        table=Table(
            (
                "attention mass captured by",
                *(f"group {r}, here" for r in groups),
                *(f"group {r}, mean" for r in groups),
            ),
            (*rows, *_about_blocks(result)),
        ),
        code=_selection_code(params),
        tokens=TokenMarks(result.tokens, bytes(marks), focus=position),
        bounds={
            "layer": (0, result.n_layers - 1),
            "query": (0, result.n_tokens - 1),
            "group": (0, len(result.overlap) - 1),
        },
        values={"layer": params.layer, "query": position, "group": group},
    )


def _about_blocks(result: SelectionResult) -> list[tuple[str, ...]]:
    """Rows on the blocks that the chosen selector reads here, by group."""
    groups = range(len(result.overlap))
    shared = [
        [float(result.overlap[group, other]) for other in groups if other != group]
        for group in groups
    ]
    visible = f"{result.local_visible} of {result.params.block_size}"
    told = {
        "block recall": [fixed(float(recall), 3) for recall in result.block_recall],
        "blocks shared with other groups": [fixed(sum(s) / len(s), 3) for s in shared],
        "tokens visible in the local block": [visible for _ in groups],
    }
    return [(name, *values, *("–" for _ in groups)) for name, values in told.items()]


def _selection_code(params: SelectionParams) -> str:
    return (
        "from intuitive.common import corpus, smollm\n"
        "from intuitive.msa import shipped_index, texts\n"
        "from intuitive.msa.experiments import block_selection\n\n"
        "model = smollm.load_smollm2()\n"
        "sample = texts.read_text(corpus.DEFAULT_TEXT, model=model, index=shipped_index())\n"
        f'params = block_selection.SelectionParams.from_text(\n    "{params.to_text()}"\n)\n'
        "result = block_selection.select_in_text(sample, params)\n"
        "result.captured[params.selector][params.group]"
    )


def _selectors() -> dict[str, str]:
    """Selectors on offer; both indexes need the trained one's weights."""
    lacking = set(INDEXES) if shipped_index() is None else set()
    return {name: text for name, text in styles.SELECTOR_NAMES.items() if name not in lacking}


def _to_query(event: Mapping[str, Any]) -> dict[str, int]:
    return {"query": max(0, round(event["y"]))}


def explorer(text: str = "", *, predict: Predict | None = None, **values: Any) -> Explorer:
    """Which key blocks a real model's queries would read, under every selector.

    Args:
        text: the reader's own text; the lesson's by default.
        predict: a question asked before the sliders unlock.
        values: first control values, such as `layer=3`.
    """
    first = dataclasses.asdict(experiment.FIRST)
    controls = (
        Range(name="n_selected", label="Blocks read, k", min=1, max=16),
        Range(name="query", label="Query position", min=0, max=1023),
        Choice(name="selector", label="Selector", options=_selectors()),
        Range(name="layer", label="Layer", min=0, max=29, more=True, heavy=True),
        Range(name="group", label="Group shown", min=0, max=2, more=True),
        Range(
            name="block_size",
            label="Block size",
            values=styles.BLOCK_SIZES,
            unit="tokens",
            more=True,
            heavy=True,
        ),
        Range(
            name="n_local",
            label="Forced local blocks",
            min=0,
            max=4,
            more=True,
            help="They count among the k. MSA forces 1.",
        ),
        Range(name="n_init", label="Forced first blocks", min=0, max=2, more=True),
        Text(
            name="text",
            label="Your own text (64 to 1,024 tokens; empty for the lesson's)",
            more=True,
            heavy=True,
        ),
    )
    return Explorer(
        name="msa_block_selection",
        title="Block selection",
        params=TextSelection.of,
        compute=compute,
        present=present,
        controls=controls,
        plots=(
            Plot(
                name="scores",
                label="Token scores of one query and the blocks chosen from them, for each group",
                caption="Orange: the score of every visible token. Bars: what the selector makes "
                "of each block; blue ones are read, the green one is the local block, narrow grey "
                "ones are skipped. The dotted line is the query. Bold: the group that the text "
                "shows.",
                height=270,
            ),
            Plot(
                name="map",
                label="Blocks read by every query, for each group",
                caption="Every row is a query: blue blocks are read, grey ones are skipped. Choose "
                "a row to look at that query.",
                tab="Every query",
                height=330,
                on_click=_to_query,
            ),
            Plot(
                name="captured",
                label="Attention mass captured by each selector",
                caption="All selectors read the same number of blocks. Bars average over the "
                "queries that have to leave some out.",
                tab="Selectors compared",
                height=330,
            ),
        ),
        tokens=Tokens(
            label="The text; choose a token to make it the query",
            classes=TOKEN_CLASSES,
            sets="query",
        ),
        predict=predict,
        defaults={**first, "text": text, **values},
    )
