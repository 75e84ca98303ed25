"""Block selection: the text as a strip of blocks, and which of them one word reads."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from intuitive.common.checks import whole
from intuitive.msa import shipped_index
from intuitive.msa.experiments import block_selection as experiment
from intuitive.msa.experiments.block_selection import SelectionParams, SelectionResult
from intuitive.msa.texts import INDEXES

from ..kit import (
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Table,
    Text,
    Timeline,
    View,
    fixed,
    percent,
)
from . import styles
from .block_selection_figures import groups_figure, map_figure, selectors_figure
from .block_selection_scene import Picture
from .block_selection_steps import BREAKS, BROKEN, QUERIES, READ_ON, STAGES, STEPS
from .strip import quoted

PLAYS = {STAGES: "this query, stage by stage", QUERIES: f"the last {READ_ON} queries"}
LESSON, OWN = "lesson", "own"
PACE_MS = {STAGES: 1300, QUERIES: 1200}
PASTE = "Paste your text below and press Use this text; until then this is A Mad Tea-Party. "
SOURCES = {LESSON: "A Mad Tea-Party", OWN: "your own, pasted below"}


def _mean_held() -> tuple[int, str]:
    result = experiment.run(experiment.FIRST)
    group = result.params.group
    held, best, window = (
        float(result.captured_mean[name][group]) for name in ("main_max", "oracle", "window_sink")
    )
    return 0 if held < 0.375 else 1 if held < 0.75 else 2, (
        f"They hold {percent(held)} of it on average. The choice of blocks that holds most has "
        f"{percent(best)}, and the first block with the newest {percent(window)}: most tokens "
        "park their attention on the first one. What an average hides is below."
    )


PREDICT = Predict(
    question=(
        "The text has 64 blocks of 16 tokens. Every token may read four of those that it sees: "
        "its own, and the three in which one token scores highest. How much of its attention do "
        "they hold, averaged over the text?"
    ),
    choices=("about a quarter", "about half", "nearly all"),
    answer=_mean_held,
)


# ------------------------------------------------------------------------------- record → view


@dataclass(frozen=True, kw_only=True)
class TextSelection:
    """A text and the sliders over it; no text means the lesson's own.

    Attributes:
        text: the reader's own, or empty.
        source: which text is meant; a text of the reader's own counts for more.
        play: what the hero's frames run over, the stages of one query or several queries.
        selection: the sliders.
    """

    text: str
    source: str
    play: str
    selection: SelectionParams

    @classmethod
    def of(
        cls, *, text: str = "", source: str = LESSON, play: str = STAGES, **settings: Any
    ) -> "TextSelection":
        selection = dataclasses.replace(experiment.FIRST, **settings)
        whole("query", selection.query, low=0)
        return cls(text=text, source=source, play=play, selection=selection)


@dataclass(frozen=True, eq=False)
class Selections:
    """The chosen query, and those before it where they are played too."""

    params: TextSelection
    results: tuple[SelectionResult, ...]  # the last is the one that was chosen

    @property
    def result(self) -> SelectionResult:
        return self.results[-1]


def compute(params: TextSelection, *, stale: Any, progress: Any) -> Selections:
    """Selections in the reader's text or the lesson's."""
    sample = experiment.read(params.text, stale=stale, progress=progress)
    fitting = experiment.fitting(params.selection, sample)
    first = max(fitting.query - READ_ON + 1, 0) if params.play == QUERIES else fitting.query
    each = (dataclasses.replace(fitting, query=query) for query in range(first, fitting.query + 1))
    results = tuple(experiment.select_in_text(sample, one, stale=stale) for one in each)
    return Selections(params, results)


def present(found: Selections) -> View:
    result = found.result
    params, group, plays = result.params, result.params.group, found.params.play
    picture = Picture(found.results)
    say = picture.accounts[result.query]
    note = f"{result.note} " if result.note else ""
    riddle = say.riddle & set(range(result.local_block + 1))
    told = ""
    read = riddle & set(say.read)
    if params.block_size <= 32 and (read or riddle & set(say.missed)):
        told = f" The riddle is {'read' if read else 'not read'}."
    summary = (
        f"{note}Layer {params.layer}, token {result.query} ({quoted(result.tokens[result.query])}"
        f"), group {group}: {styles.SELECTOR_NAMES[params.selector]}, "
        f"{len(say.read)} of {result.local_block + 1} visible blocks."
    )
    source = OWN if found.params.text else found.params.source
    hint = PASTE if source == OWN and not found.params.text else ""
    frames = [
        dataclasses.replace(frame, sentence=hint + frame.sentence) for frame in picture.frames()
    ]
    frames[-1] = dataclasses.replace(
        frames[-1], sentence=f"{frames[-1].sentence} {say.captures()}{told}"
    )
    related = {f"t:{token}": (f"b:{token // params.block_size}",) for token in picture.strip.words}
    related |= {f"b:{block}": (f"t:{say.best(block)}",) for block in say.ranks}
    return View(
        summary=hint + summary,
        timeline=Timeline(
            frames=tuple(frames),
            axis="query" if plays == QUERIES else "stage",
            pace_ms=PACE_MS[plays],
        ),
        related=related,
        arithmetic=say.arithmetic() if plays == STAGES else {},
        figures={
            "map": partial(map_figure, result),
            "selectors": partial(selectors_figure, result),
            "groups": partial(groups_figure, result),
        },
        readouts=say.readouts(),
        table=_table(result),
        code=_selection_code(params),
        bounds={
            "layer": (0, result.n_layers - 1),
            "query": (0, result.n_tokens - 1),
            "group": (0, len(result.overlap) - 1),
        },
        values={
            "layer": params.layer,
            "query": result.query,
            "group": group,
            "source": source,
        },
    )


def _table(result: SelectionResult) -> Table:
    groups = range(len(result.overlap))
    rows = [
        (styles.SELECTOR_NAMES[selector], *(fixed(float(share), 3) for share in shares))
        for selector, shares in result.captured.items()
    ]
    shared = [
        [float(result.overlap[group, other]) for other in groups if other != group]
        for group in groups
    ]
    visible = f"{result.local_visible} of {result.params.block_size}"
    about = {
        "block recall: share of the best blocks read": [
            fixed(float(recall), 3) for recall in result.block_recall
        ],
        "blocks shared with other groups": [fixed(sum(s) / len(s), 3) for s in shared],
        "tokens visible in the local block": [visible for _ in groups],
    }
    header = ("attention captured, this query", *(f"group {r}" for r in groups))
    return Table(header, (*rows, *((name, *values) for name, values in about.items())))


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
    names = styles.SELECTOR_NAMES.items()
    return {name: text.removesuffix(" block") for name, text in names if name not in lacking}


def _to_query(event: Mapping[str, Any]) -> dict[str, int]:
    return {"query": max(0, round(event["y"]))}


def explorer(
    text: str = "",
    *,
    predict: Predict | None = None,
    steps: Sequence[Step] = STEPS,
    **values: Any,
) -> Explorer:
    """Which key blocks a real model's queries would read, under every selector.

    Args:
        text: the reader's own text; the lesson's by default.
        predict: a question asked before the sliders unlock.
        steps: those of "Block selection"; `broken` has others.
        values: first control values, such as `layer=3`.
    """
    first = dataclasses.asdict(experiment.FIRST)
    here = {"query": experiment.FIRST.query}
    controls = (
        Range(name="n_selected", label="Blocks read, k", min=1, max=16),
        Choice(name="selector", label="Selector", options=_selectors()),
        Range(name="query", label="Query position", min=0, max=1023),
        Choice(name="play", label="Play", options=PLAYS, more=True),
        Range(name="layer", label="Layer", min=0, max=29, more=True),
        Range(name="group", label="Group of heads", min=0, max=2, more=True),
        Range(
            name="block_size",
            label="Block size",
            values=styles.BLOCK_SIZES,
            unit="tokens",
            more=True,
        ),
        Range(
            name="n_local",
            label="Forced local blocks",
            min=0,
            max=4,
            more=True,
            help="The query's own block and those before it. They count among the k; MSA forces 1.",
        ),
        Range(
            name="n_init",
            label="Forced first blocks",
            min=0,
            max=2,
            more=True,
            help="The text's first blocks, where the attention sink is. They count among the k; "
            "MSA forces none.",
        ),
        Choice(
            name="source",
            label="Text",
            options=SOURCES,
            sets={LESSON: {"text": "", **here}},
            more=True,
        ),
        Text(
            name="text",
            label="Your own text (64 to 1,024 tokens)",
            more=True,
            heavy=True,
            opens=0 if values else 1024,  # a cell that asks for a state of its own gets it
        ),
    )
    return Explorer(
        name="msa_block_selection",
        title="Which blocks does this word read?",
        params=TextSelection.of,
        compute=compute,
        present=present,
        hero=Hero(
            label="The text as a strip of blocks: scores of one word, the blocks it reads, and "
            "where its attention goes"
        ),
        controls=controls,
        steps=steps,
        plots=(
            Plot(
                name="groups",
                label="Attention of each group by block, and the blocks it reads",
                caption="The same query, three groups of heads: coloured bars are read, grey ones "
                "missed. Each group chooses for itself.",
                tab="Groups",
                height=240,
            ),
            Plot(
                name="map",
                label="Blocks read by every query, for each group",
                caption="Every row is a query: blue blocks are read, grey ones are skipped. Choose "
                "a row to make it the query.",
                tab="Map",
                height=330,
                on_click=_to_query,
            ),
            Plot(
                name="selectors",
                label="Attention captured by each selector, for this query and on average",
                caption="All read the same number of blocks. The mean is over the queries that "
                "have to leave some out.",
                tab="Selectors",
                height=300,
            ),
        ),
        predict=predict,
        defaults={**first, "play": STAGES, "source": LESSON, "text": text, **values},
    )


def broken() -> Explorer:
    """The same explorer in the state that the lesson breaks, with steps of its own."""
    return explorer(steps=BREAKS, **BROKEN)
