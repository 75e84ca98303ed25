"""The explorers of the MSA lesson: block selection, what it costs, and the needle."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from intuitive.common import corpus, smollm
from intuitive.msa import MSAConfig, experiment, shipped_index
from intuitive.msa.experiment import (
    CostParams,
    CostResult,
    Measured,
    NeedleParams,
    NeedleResult,
    SelectionParams,
    SelectionResult,
)
from intuitive.msa.measured import KernelTimes, kernel_times

from ..figures import msa as figures
from ..kit import (
    Action,
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
)

FUTURE, SKIPPED, READ, LOCAL, HERE = range(5)
TOKEN_CLASSES = (
    ("future", "after the query: not visible"),
    ("skipped", "visible, not read"),
    ("read", "in a block that is read"),
    ("local", "in the local block"),
    ("here", "the query"),
)
BLOCK_SIZES = (16, 32, 64, 128)

# Layer 17 at “writing-desks”: group 1 looks back 300 tokens, to where the riddle was asked.
FIRST_SELECTION = SelectionParams(
    layer=17, query=681, block_size=32, n_selected=6, selector="main_max", group=1
)


# ------------------------------------------------------------------------------ block selection


@dataclass(frozen=True, kw_only=True)
class TextSelection:
    """A text and the sliders over it; no text means the lesson's own."""

    text: str
    selection: SelectionParams

    @classmethod
    def of(cls, *, text: str = "", **settings: Any) -> "TextSelection":
        return cls(text=text, selection=dataclasses.replace(FIRST_SELECTION, **settings))


def select(params: TextSelection, *, stale: Any, progress: Any) -> SelectionResult:
    """Read the text with SmolLM2 (made-up heads where the model is absent) and select blocks.

    Layer, query and group are brought into the range that the text and the model have.
    """
    if smollm.find_model() is None and not params.text:
        sample = experiment.synthetic_sample()
    else:
        sample = experiment.read_text(
            params.text or corpus.DEFAULT_TEXT,
            model=smollm.load_smollm2(),
            index=shipped_index(),
            title="Your text" if params.text else corpus.DEFAULT_TITLE,
            stale=stale,
            progress=progress,
        )
    fitting = dataclasses.replace(
        params.selection,
        layer=min(params.selection.layer, sample.n_layers - 1),
        query=min(params.selection.query, sample.n_tokens - 1),
        group=min(params.selection.group, sample.n_groups - 1),
    )
    return experiment.select_in_text(sample, fitting, stale=stale)


def token_name(text: str) -> str:
    """A token as a sentence shows it; white space in words."""
    names = {" ": "a space", "\n": "a line break", "\t": "a tab"}
    return repr(text.strip()) if text.strip() else names.get(text, "white space")


def present_selection(result: SelectionResult) -> View:
    params, group = result.params, result.params.group
    position, read = result.query, result.tokens_read[group]
    captured = float(result.captured[params.selector][group])
    best = float(result.captured["oracle"][group])
    marks = bytearray([SKIPPED] * (position + 1) + [FUTURE] * (result.n_tokens - position - 1))
    for token in read.nonzero()[0]:
        marks[token] = LOCAL if token // params.block_size == result.local_block else READ
    marks[position] = HERE
    others = [float(result.overlap[group, r]) for r in range(len(result.overlap)) if r != group]
    name = figures.SELECTOR_NAMES[params.selector]
    note = f"{result.note} " if result.note else ""
    summary = (
        f"{note}Layer {params.layer}, token {position} ({token_name(result.tokens[position])}), "
        f"group {group}: {name} reads {result.n_read[group]} of {result.n_visible} visible tokens "
        f"and captures {captured:.2f} of the attention mass; the best possible choice of blocks "
        f"captures {best:.2f}, the window {float(result.captured['window_sink'][group]):.2f}."
    )
    rows = tuple(
        (
            figures.SELECTOR_NAMES[selector],
            *(f"{float(share):.3f}" for share in shares),
            *(f"{float(share):.3f}" for share in result.captured_mean[selector]),
        )
        for selector, shares in result.captured.items()
    )
    groups = range(len(result.overlap))
    return View(
        summary=summary,
        figures={
            "scores": figures.scores_figure(result),
            "map": figures.map_figure(result),
            "captured": figures.captured_figure(result),
        },
        readouts=(
            Readout("tokens read", f"{result.n_read[group]} of {result.n_visible}"),
            Readout("mass captured", f"{captured:.3f}"),
            Readout(
                "mean over queries", f"{float(result.captured_mean[params.selector][group]):.3f}"
            ),
            Readout("block recall", f"{float(result.block_recall[group]):.2f}"),
            Readout("local block", f"{result.local_visible} of {params.block_size} visible"),
            Readout("shared with other groups", f"{sum(others) / len(others):.2f}"),
        ),
        table=Table(
            (
                "mass captured by",
                *(f"group {r}, here" for r in groups),
                *(f"group {r}, mean" for r in groups),
            ),
            rows,
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


def _selection_code(params: SelectionParams) -> str:
    return (
        "from intuitive.common import corpus, smollm\n"
        "from intuitive.msa import experiment, shipped_index\n\n"
        "model = smollm.load_smollm2()\n"
        "sample = experiment.read_text(corpus.DEFAULT_TEXT, model=model, index=shipped_index())\n"
        f'params = experiment.SelectionParams.from_text(\n    "{params.to_text()}"\n)\n'
        "result = experiment.select_in_text(sample, params)\n"
        "result.captured[params.selector][params.group]"
    )


def _selectors() -> dict[str, str]:
    """Selectors on offer; both indexes need the trained one's weights."""
    lacking = set(experiment.INDEXES) if shipped_index() is None else set()
    return {name: text for name, text in figures.SELECTOR_NAMES.items() if name not in lacking}


def _to_query(event: Mapping[str, Any]) -> dict[str, int]:
    return {"query": max(0, round(event["y"]))}


def block_selection(text: str = "", *, predict: Predict | None = None, **values: Any) -> Explorer:
    """Which key blocks a real model's queries would read, under every selector.

    Args:
        text: the reader's own text; the lesson's by default.
        predict: a question asked before the sliders unlock.
        values: first control values, such as `layer=3`.
    """
    first = dataclasses.asdict(FIRST_SELECTION)
    controls = (
        Range(name="n_selected", label="Blocks read, k", min=1, max=16),
        Range(name="query", label="Query position", min=0, max=1023),
        Choice(name="selector", label="Selector", options=_selectors()),
        Range(name="layer", label="Layer", min=0, max=29, more=True),
        Range(name="group", label="Group shown", min=0, max=2, more=True),
        Range(
            name="block_size",
            label="Block size",
            values=BLOCK_SIZES,
            unit="tokens",
            more=True,
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
        ),
    )
    return Explorer(
        name="msa_block_selection",
        title="Block selection",
        params=TextSelection.of,
        compute=select,
        present=present_selection,
        controls=controls,
        plots=(
            Plot(
                name="scores",
                label="Token scores of one query and the blocks chosen from them, for each group",
                caption="Orange: the score of every visible token. Bars: what the selector makes "
                "of each block; blue ones are read, the green one is the local block, narrow grey "
                "ones are skipped. The dotted line is the query.",
                height=270,
            ),
            Plot(
                name="map",
                label="Blocks read by every query, for each group",
                caption="Every row is a query: blue blocks are read, grey ones are skipped. Choose "
                "a row to look at that query.",
                span=7,
                height=330,
                on_click=_to_query,
            ),
            Plot(
                name="captured",
                label="Attention mass captured by each selector",
                caption="All selectors read the same number of blocks. Bars average over the "
                "queries that have to leave some out.",
                span=5,
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


LOOK_AROUND = 24  # tokens shown before the block and after the query
LOOK_CLASSES = (
    ("future", "after the query"),
    ("skipped", "before it"),
    ("read", "the block with the most attention"),
    ("here", "the query"),
)


def present_look(result: SelectionResult) -> View:
    future, skipped, read, here = range(len(LOOK_CLASSES))
    group, size = result.params.group, result.params.block_size
    mass = result.block_mass[group]
    best = int(mass.argmax())
    marks = bytearray([skipped] * result.query + [here])
    marks += bytes([future] * (result.n_tokens - len(marks)))
    for token in range(best * size, min((best + 1) * size, result.query)):
        marks[token] = read
    shown = slice(max(0, best * size - LOOK_AROUND), result.query + LOOK_AROUND)
    texts = ["¶ " if token == "\n" else token for token in result.tokens[shown]]
    texts[0] = f"…{texts[0]}" if shown.start else texts[0]
    note = f"{result.note} " if result.note else ""
    return View(
        summary=(
            f"{note}At token {result.query} ({token_name(result.tokens[result.query])}) group "
            f"{group} of layer {result.params.layer} puts {float(mass[best]):.0%} of its attention "
            f"on one block of {size} tokens, which begins {result.query - best * size} tokens "
            "earlier."
        ),
        figures={"mass": figures.mass_figure(result)},
        tokens=TokenMarks(tuple(texts), bytes(marks[shown])),
    )


def where_it_looks() -> Explorer:
    """The lesson's first picture: one query of a real model, and where its attention goes."""
    return Explorer(
        name="msa_where_it_looks",
        title="Where one attention group looks",
        params=TextSelection.of,
        compute=select,
        present=present_look,
        controls=(Range(name="group", label="Group shown", min=0, max=2),),
        plots=(
            Plot(
                name="mass",
                label="Attention mass of one query by key block, for each group",
                height=220,
            ),
        ),
        tokens=Tokens(
            label="The text: Lewis Carroll, A Mad Tea-Party", classes=LOOK_CLASSES, height=480
        ),
        defaults={"group": FIRST_SELECTION.group},
    )


# ------------------------------------------------------------------------------- what it costs

CONTEXTS = tuple(2**power for power in range(12, 21))
CONTEXT_TEXTS = tuple(f"{c // 1024}K" if c < 2**20 else "1M" for c in CONTEXTS)


@dataclass(frozen=True, kw_only=True)
class CostRequest:
    """The cost sliders, and how often "measure" was pressed."""

    params: CostParams
    presses: int = 0

    @classmethod
    def of(cls, *, measure: int, **settings: Any) -> "CostRequest":
        return cls(params=CostParams(**settings), presses=measure)


@dataclass(frozen=True, kw_only=True, eq=False)
class Costs:
    """The curves, what was measured here with the same layer, and the committed H100 run."""

    curves: CostResult
    recorded: KernelTimes  # of the paper's layer, whatever the sliders say
    measured: tuple[Measured, ...] = ()

    @property
    def recorded_layer(self) -> bool:
        """Whether the sliders show the layer of the committed run."""
        return self.curves.params.config == MSAConfig.paper()


class CostMeter:
    """Cost curves, with the measurements that the button has asked for so far."""

    def __init__(self) -> None:
        self._measured: list[Measured] = []
        self._presses = 0

    def __call__(self, request: CostRequest, *, stale: Any, progress: Any) -> Costs:
        curves = experiment.cost_curves(request.params)
        config = request.params.config
        if request.presses > self._presses:
            answered, self._presses = self._presses, request.presses  # answered even by an error
            try:
                point = experiment.measure_here(
                    config, request.params.context, stale=stale, progress=progress
                )
            except experiment.Cancelled:
                self._presses = answered
                raise
            self._measured.append(point)
        same = tuple(point for point in self._measured if point.config == config)
        return Costs(curves=curves, recorded=kernel_times(), measured=same)


def present_costs(costs: Costs) -> View:
    result, params, here = costs.curves, costs.curves.params, costs.curves.here
    context = f"{params.context:,} tokens"
    index_bytes = here.index_bytes[0] / (here.index_bytes[0] + here.main_bytes[0])
    summary = (
        f"At {context} MSA computes {here.flop_ratio[0]:.1f} times less than dense attention "
        f"(ceiling {result.flop_ceiling:.3g}) and reads {here.byte_ratio[0]:.1f} times fewer bytes "
        f"per decoded token (ceiling {result.byte_ceiling:.3g}); {here.index_share[0]:.0%} of its "
        f"FLOPs go to the index, and its cache is {result.cache_growth:.1%} larger."
    )
    measured = tuple(
        Readout(
            f"measured at {point.context:,}",
            f"prefill {point.prefill_speedup:.1f}×, decode {point.decode_speedup:.1f}×",
        )
        for point in costs.measured[-2:]
    )
    rows = [
        ("FLOPs per token, dense", f"{here.dense_flops[0]:.3g}"),
        ("FLOPs per token, MSA index", f"{here.index_flops[0]:.3g}"),
        ("FLOPs per token, MSA main", f"{here.main_flops[0]:.3g}"),
        ("bytes per decoded token, dense", f"{here.dense_bytes[0]:.3g}"),
        ("bytes per decoded token, MSA index", f"{here.index_bytes[0]:.3g}"),
        ("bytes per decoded token, MSA main", f"{here.main_bytes[0]:.3g}"),
    ]
    rows += [
        (
            f"MiB held, {name}, dense and MSA",
            ", ".join(f"{result.memory[method][part] / 2**20:,.0f}" for method in ("dense", "msa")),
        )
        for part, (name, *_) in figures.MEMORY_PARTS.items()
    ]
    measured_here = figures.measured_memory(result)
    if measured_here:
        parts = {
            "keys, values": "keys_values",
            "index keys": "index_keys",
            "scratch of a prefill step": "prefill_scratch",
            "scratch of a decode step": "decode_scratch",
        }
        rows += [
            (
                f"{costs.recorded.device}: MiB of {name} at {context}, dense and MSA",
                ", ".join(f"{getattr(use, part) / 2**20:,.1f}" for use in measured_here.values()),
            )
            for name, part in parts.items()
        ]
    recorded = costs.recorded if costs.recorded_layer else None
    for row in costs.recorded.rows:
        peak = (
            ""
            if row.msa_peak_bytes is None or row.dense_peak_bytes is None
            else f"; peak MiB beyond inputs {row.dense_peak_bytes / 2**20:.0f}, "
            f"{row.msa_peak_bytes / 2**20:.0f}"
        )
        rows.append(
            (
                f"{costs.recorded.device}: {row.task} at {row.context:,}, ms dense, MSA",
                f"{row.dense_ms:.3g}, {row.msa_ms:.3g}{peak}",
            )
        )
    for point in costs.measured:
        select, attend = point.select_prefill, point.attend_prefill
        where = f"at {point.context:,} on {point.device}"
        rows += [
            (
                f"measured ms {where}: prefill dense; select + attend",
                f"{point.dense_prefill.median_ms:.3g}; "
                f"{select.median_ms:.3g} + {attend.median_ms:.3g}",
            ),
            (
                f"measured ms {where}: decode dense; select + attend",
                f"{point.dense_decode.median_ms:.3g}; "
                f"{point.select_decode.median_ms:.3g} + {point.attend_decode.median_ms:.3g}",
            ),
            (
                f"measured peak MiB {where}: prefill dense; select; attend",
                "; ".join(
                    "unknown" if part.peak_bytes is None else f"{part.peak_bytes / 2**20:.0f}"
                    for part in (point.dense_prefill, select, attend)
                ),
            ),
        ]
    return View(
        summary=summary,
        figures={
            "flops": figures.flops_figure(result),
            "bytes": figures.bytes_figure(result),
            "memory": figures.memory_figure(result),
            "ratio": figures.ratio_figure(result, costs.measured, recorded),
            "prefill": figures.times_figure(result, costs.recorded, "prefill"),
            "decode": figures.times_figure(result, costs.recorded, "decode"),
        },
        readouts=(
            Readout("FLOPs, dense ÷ MSA", f"{here.flop_ratio[0]:.1f}×"),
            Readout("decode bytes, dense ÷ MSA", f"{here.byte_ratio[0]:.2f}×"),
            Readout("index share of FLOPs", f"{here.index_share[0]:.0%}"),
            Readout("index share of bytes", f"{index_bytes:.0%}"),
            Readout("cache", f"+{result.cache_growth:.1%}"),
            *measured,
        ),
        table=Table(("quantity, one layer", "value"), tuple(rows)),
        code=(
            "from intuitive.msa.experiment import CostParams, cost_curves\n\n"
            f'result = cost_curves(CostParams.from_text(\n    "{params.to_text()}"\n))\n'
            "result.here.flop_ratio, result.here.byte_ratio, result.here.index_share"
        ),
    )


def what_it_costs(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """FLOPs, bytes and memory of one layer against the context, dense and MSA.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `context=1048576`.
    """
    first = dataclasses.asdict(CostParams(context=2**20))
    no_gpu = "" if torch.cuda.is_available() else "Needs a CUDA device; this machine has none."
    controls = (
        Range(
            name="context",
            label="Context",
            values=CONTEXTS,
            texts=CONTEXT_TEXTS,
            unit="tokens",
        ),
        Range(name="n_selected", label="Blocks read, k", values=(2, 4, 8, 16, 32, 64)),
        Range(name="d_index", label="Index head size", values=(16, 32, 64, 128), unit="channels"),
        Range(
            name="block_size", label="Block size", values=(32, 64, 128), unit="tokens", more=True
        ),
        Range(name="n_q_heads", label="Query heads", values=(16, 32, 64), more=True),
        Range(name="n_kv_heads", label="KV heads (groups)", values=(1, 2, 4, 8), more=True),
        Range(name="d_head", label="Head size", values=(64, 128), unit="channels", more=True),
        Range(
            name="element_bytes",
            label="Bytes per number",
            values=(1, 2, 4),
            texts=("1 (fp8)", "2 (bf16)", "4 (fp32)"),
            more=True,
        ),
        Action(
            name="measure",
            label="Measure time and peak memory here",
            disabled=no_gpu,
            more=True,
        ),
    )
    return Explorer(
        name="msa_what_it_costs",
        title="What it costs",
        params=CostRequest.of,
        compute=CostMeter(),
        present=present_costs,
        controls=controls,
        plots=(
            Plot(
                name="flops",
                label="FLOPs per token against context",
                caption="Computing a prompt. The index still looks at every token.",
                span=6,
                height=280,
            ),
            Plot(
                name="bytes",
                label="Bytes read per decoded token against context",
                caption="Writing one token. All index keys are read, few keys and values.",
                span=6,
                height=280,
            ),
            Plot(
                name="ratio",
                label="How many times cheaper MSA is, against context",
                caption="Dotted: what the ratio cannot exceed, however long the context. Open "
                "markers: speed-ups measured on an H100 for the paper's layer; diamonds are the "
                "last 8,192 tokens of a prompt.",
                span=6,
                height=300,
            ),
            Plot(
                name="memory",
                label="Memory by category while a prompt is read, dense and MSA",
                caption="Nothing is thrown away, and the index keys come on top. Scratch is what "
                "the last 8,192 tokens need at once, weights are the attention's in a model 3,072 "
                "wide. Diamonds: measured on an H100, at k of 4, 16 and 64.",
                span=6,
                height=300,
            ),
            Plot(
                name="prefill",
                label="Measured prefill time against context, dense and MSA",
                caption="Measured on an H100 with this package's kernels: a whole prompt in one "
                "layer of the paper's sizes. Select is the index, attend the main branch.",
                span=6,
                height=320,
            ),
            Plot(
                name="decode",
                label="Measured decode time against context, dense and MSA",
                caption="The same for one decoded token. At short contexts launching kernels "
                "takes longer than reading.",
                span=6,
                height=320,
            ),
        ),
        predict=predict,
        defaults={**first, "measure": 0, **values},
    )


# ------------------------------------------------------------------------------------ the needle


def find_needle(params: NeedleParams, *, stale: Any, progress: Any) -> NeedleResult:
    """`experiment.needle`, in an explorer's signature; it is too quick to be cancelled."""
    return experiment.needle(params)


def present_needle(result: NeedleResult) -> View:
    params = result.params
    reads = min(params.n_selected * params.block_size, params.n)

    def outcome(found: bool, rank: int) -> str:
        return f"{'found' if found else 'lost'} (rank {rank})"

    summary = (
        f"A needle of score {params.strength:g}: reading {params.n_selected} blocks of "
        f"{params.block_size} tokens, max pooling {'finds' if result.found_by_max else 'loses'} it "
        f"(its block ranks {result.rank_max}) and mean pooling "
        f"{'finds' if result.found_by_mean else 'loses'} it (rank {result.rank_mean} of "
        f"{len(result.block_max)})."
    )
    return View(
        summary=summary,
        figures={"pooled": figures.needle_figure(result)},
        readouts=(
            Readout("tokens read", f"{reads} of {params.n}"),
            Readout("max pooling", outcome(result.found_by_max, result.rank_max)),
            Readout("mean pooling", outcome(result.found_by_mean, result.rank_mean)),
            Readout(
                "mass captured, max / mean",
                f"{result.captured_max:.2f} / {result.captured_mean:.2f}",
            ),
        ),
        table=Table(
            ("pooling", "blocks read", "rank of the needle's block", "mass captured"),
            (
                (
                    "max",
                    ", ".join(map(str, result.selected_max)),
                    str(result.rank_max),
                    f"{result.captured_max:.3f}",
                ),
                (
                    "mean",
                    ", ".join(map(str, result.selected_mean)),
                    str(result.rank_mean),
                    f"{result.captured_mean:.3f}",
                ),
            ),
        ),
        code=(
            "from intuitive.msa.experiment import NeedleParams, needle\n\n"
            f'result = needle(NeedleParams.from_text(\n    "{params.to_text()}"\n))\n'
            "result.found_by_max, result.found_by_mean"
        ),
    )


def needle_pooling(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """One strong token among ordinary ones: does its block win a place?"""
    first = dataclasses.asdict(NeedleParams())
    del first["n"], first["seed"]
    controls = (
        Range(name="n_selected", label="Blocks read, k", min=1, max=32),
        Range(name="strength", label="Score of the needle", min=0, max=12, step=0.5),
        Range(name="block_size", label="Block size", values=BLOCK_SIZES, unit="tokens"),
        Range(name="needle", label="Position of the needle", min=0, max=1023, more=True),
        Range(
            name="drag",
            label="How far its neighbours score lower",
            min=0,
            max=2,
            step=0.1,
            more=True,
        ),
    )
    return Explorer(
        name="msa_needle",
        title="A needle under two poolings",
        params=NeedleParams,
        compute=find_needle,
        present=present_needle,
        controls=controls,
        plots=(
            Plot(
                name="pooled",
                label="Token scores and block values",
                caption="Orange: token scores. Bars: blocks; blue ones are read, the green one is "
                "the local block, narrow grey ones are skipped.",
                height=300,
            ),
        ),
        predict=predict,
        defaults={**first, **values},
    )
