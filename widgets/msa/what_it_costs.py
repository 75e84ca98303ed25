"""What it costs: FLOPs, bytes and memory of one layer against the context, dense and MSA."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from intuitive.common.runtime import Cancelled
from intuitive.msa import MSAConfig
from intuitive.msa.experiments import what_it_costs as experiment
from intuitive.msa.experiments.what_it_costs import CostParams, CostResult, Measured
from intuitive.msa.results import KernelTimes, kernel_times

from ..kit import (
    Action,
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Table,
    Timeline,
    View,
    fixed,
    number,
    percent,
)
from .what_it_costs_figures import (
    MEMORY_PARTS,
    bytes_figure,
    ceiling_text,
    flops_figure,
    memory_figure,
    ratio_figure,
    times_figure,
)
from .what_it_costs_scene import Picture, whole


def _dearest_part() -> tuple[int, str]:
    share = float(experiment.run(CostParams(context=2**20)).here.index_share[0])
    return 0 if share < 0.4 else 1 if share > 0.6 else 2, (
        f"The index does {percent(share)} of MSA's computing there: it scores every visible token, "
        "while the selected blocks are as many at any length."
    )


PREDICT = Predict(
    question=(
        "The index is small: one head per group where the model has sixteen. At a million "
        "tokens, which part of MSA does most of the computing?"
    ),
    choices=(
        "attention over the selected blocks",
        "the index that selects them",
        "half and half",
    ),
    answer=_dearest_part,
)

CONTEXTS = tuple(2**power for power in range(12, 21))
CONTEXT_TEXTS = tuple(f"{c // 1024}K" if c < 2**20 else "1M" for c in CONTEXTS)
COUNTS = {"flops": "FLOPs of a prompt", "bytes": "bytes of one token"}


@dataclass(frozen=True, kw_only=True)
class CostRequest:
    """The cost sliders, and how often "measure" was pressed."""

    params: CostParams
    counts: str = "flops"  # or "bytes"
    presses: int = 0

    @classmethod
    def of(cls, *, measure: int, counts: str, **settings: Any) -> "CostRequest":
        return cls(params=CostParams(**settings), counts=counts, presses=measure)


@dataclass(frozen=True, kw_only=True, eq=False)
class Costs:
    """The curves, what was measured here with the same layer, and the committed H100 run."""

    curves: CostResult
    recorded: KernelTimes  # of the paper's layer, whatever the sliders say
    measured: tuple[Measured, ...] = ()
    counts: str = "flops"  # what the areas show

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
        curves = experiment.run(request.params)
        config = request.params.config
        if request.presses > self._presses:
            answered, self._presses = self._presses, request.presses  # answered even by an error
            try:
                point = experiment.measure_here(
                    config, request.params.context, stale=stale, progress=progress
                )
            except Cancelled:
                self._presses = answered
                raise
            self._measured.append(point)
        same = tuple(point for point in self._measured if point.config == config)
        recorded, counts = kernel_times(), request.counts
        return Costs(curves=curves, recorded=recorded, measured=same, counts=counts)


def _times(ratio: float, below: str, above: str) -> str:
    """How many times less dense ÷ MSA says that MSA takes; where it takes more, how many more."""
    if ratio >= 1:
        return f"{fixed(ratio, 1)} times {below}"
    return f"{fixed(1 / ratio)} times {above}"


def present(costs: Costs) -> View:
    result, params, here = costs.curves, costs.curves.params, costs.curves.here
    context = f"{whole(params.context)} tokens"
    index_bytes = here.index_bytes[0] / (here.index_bytes[0] + here.main_bytes[0])
    computes = _times(here.flop_ratio[0], "less", "more")
    reads = _times(here.byte_ratio[0], "fewer", "more")
    summary = (
        f"In the tabs, at {context}, MSA computes {computes} than dense attention (ceiling "
        f"{ceiling_text(result.flop_ceiling)}) and reads {reads} bytes per decoded token (ceiling "
        f"{ceiling_text(result.byte_ceiling)}); {percent(here.index_share[0])} of MSA's FLOPs go "
        f"to the index, and its cache is {percent(result.cache_growth, 1)} larger."
    )
    summary += "".join(
        f" Measured here at {whole(point.context)} tokens: prefill "
        f"{fixed(point.prefill_speedup, 1)}× as fast, decoding {fixed(point.decode_speedup, 1)}×."
        for point in costs.measured[-1:]
    )
    rows = [
        ("FLOPs per token, dense", number(here.dense_flops[0])),
        ("FLOPs per token, MSA index", number(here.index_flops[0])),
        ("FLOPs per token, MSA main", number(here.main_flops[0])),
        ("bytes per decoded token, dense", number(here.dense_bytes[0])),
        ("bytes per decoded token, MSA index", number(here.index_bytes[0])),
        ("bytes per decoded token, MSA main", number(here.main_bytes[0])),
        ("index share of MSA's FLOPs", percent(here.index_share[0])),
        ("index share of MSA's bytes per decoded token", percent(index_bytes)),
    ]
    rows += [
        (
            f"MiB held, {name}, dense and MSA",
            ", ".join(f"{result.memory[method][part] / 2**20:,.0f}" for method in ("dense", "msa")),
        )
        for part, (name, *_) in MEMORY_PARTS.items()
    ]
    measured_here = experiment.memory_measured(params)
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
            else f"; peak MiB beyond inputs {fixed(row.dense_peak_bytes / 2**20, 0)}, "
            f"{fixed(row.msa_peak_bytes / 2**20, 0)}"
        )
        rows.append(
            (
                f"{costs.recorded.device}: {row.task} at {whole(row.context)}, ms dense, MSA",
                f"{number(row.dense_ms)}, {number(row.msa_ms)}{peak}",
            )
        )
    for point in costs.measured:
        select, attend = point.select_prefill, point.attend_prefill
        where = f"at {whole(point.context)} on {point.device}"
        rows += [
            (
                f"measured ms {where}: prefill dense; select + attend",
                f"{number(point.dense_prefill.median_ms)}; "
                f"{number(select.median_ms)} + {number(attend.median_ms)}",
            ),
            (
                f"measured ms {where}: decode dense; select + attend",
                f"{number(point.dense_decode.median_ms)}; "
                f"{number(point.select_decode.median_ms)} + "
                f"{number(point.attend_decode.median_ms)}",
            ),
            (
                f"measured peak MiB {where}: prefill dense; select; attend",
                "; ".join(
                    "unknown" if part.peak_bytes is None else fixed(part.peak_bytes / 2**20, 0)
                    for part in (point.dense_prefill, select, attend)
                ),
            ),
        ]
    picture = Picture(result, costs.counts)
    return View(
        summary=summary,
        timeline=Timeline(
            frames=picture.frames(), axis="context", start=picture.start, pace_ms=900
        ),
        figures={
            "ratio": partial(ratio_figure, result, costs.measured, recorded),
            "flops": partial(flops_figure, result),
            "bytes": partial(bytes_figure, result),
            "memory": partial(memory_figure, result),
            "prefill": partial(times_figure, result, costs.recorded, "prefill"),
            "decode": partial(times_figure, result, costs.recorded, "decode"),
        },
        readouts=picture.readouts(picture.start),
        table=Table(("quantity, one layer", "value"), tuple(rows)),
        code=(
            "from intuitive.msa.experiments.what_it_costs import CostParams, run\n\n"
            f'result = run(CostParams.from_text(\n    "{params.to_text()}"\n))\n'
            "result.here.flop_ratio, result.here.byte_ratio, result.here.index_share"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """What one layer costs as its context grows, dense and MSA as areas to scale.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `context=1048576`.
    """
    first = dataclasses.asdict(CostParams(context=2**20))
    usual = Picture(experiment.run(CostParams()), "flops")
    even = next(usual.label(i) for i in range(len(usual.costs.contexts)) if usual.ratio(i) >= 0.999)
    no_gpu = "" if torch.cuda.is_available() else "Needs a CUDA device; this machine has none."
    controls = (
        Choice(name="counts", label="What is counted", options=COUNTS),
        Range(name="n_selected", label="Blocks read, k", values=(2, 4, 8, 16, 32, 64)),
        Range(name="d_index", label="Index head size", values=(16, 32, 64, 128)),
        Range(
            name="context",
            label="Context in the tabs",
            values=CONTEXTS,
            texts=CONTEXT_TEXTS,
            unit="tokens",
            more=True,
        ),
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
            heavy=True,
        ),
    )
    return Explorer(
        name="msa_what_it_costs",
        title="What it costs",
        params=CostRequest.of,
        compute=CostMeter(),
        present=present,
        controls=controls,
        hero=Hero(label="Dense attention and MSA as areas to scale, from 1K to 1M tokens"),
        steps=(
            Step(
                title="Let the text grow",
                text="Play from 1K to 1M tokens. Dense attention pays the full price for every "
                "token; MSA pays it for its selected blocks only.",
                frame="play",
            ),
            Step(
                title="Where it pays",
                text="Here both cost the same. One step to the left the blocks cover nearly all "
                "that a token sees, and the index comes on top.",
                frame=even,
            ),
            Step(
                title="A smaller index",
                text="At a million tokens, with an index head of 64 channels instead of 128: "
                "watch the strip and the ratio.",
                sets={"d_index": 64},
                frame="1M",
            ),
            Step(
                title="Write one token",
                text="Decoding waits for bytes, not for FLOPs. The strip is thicker here, and the "
                "ratio smaller.",
                sets={"counts": "bytes"},
                frame="1M",
            ),
        ),
        plots=(
            Plot(
                name="ratio",
                label="How many times cheaper MSA is, against context",
                caption="Dotted: what the ratio cannot exceed, however long the context. Open "
                "markers: speed-ups measured on an H100 for the paper's layer. The upright line "
                "stands at “Context in the tabs” (More controls), wherever the picture above is.",
                tab="How many times",
                height=300,
            ),
            Plot(
                name="flops",
                label="FLOPs per token against context",
                caption="Computing a prompt. The index still looks at every token.",
                span=6,
                tab="Computing",
                height=280,
            ),
            Plot(
                name="prefill",
                label="Measured prefill time against context, dense and MSA",
                caption="Measured on an H100 with this package's kernels: a whole prompt in one "
                "layer of the paper's sizes. Select is the index, attend the main branch.",
                span=6,
                tab="Computing",
                height=320,
            ),
            Plot(
                name="bytes",
                label="Bytes read per decoded token against context",
                caption="Writing one token. All index keys are read, few keys and values.",
                span=6,
                tab="Reading",
                height=280,
            ),
            Plot(
                name="decode",
                label="Measured decode time against context, dense and MSA",
                caption="The same for one decoded token. At short contexts launching kernels "
                "takes longer than reading.",
                span=6,
                tab="Reading",
                height=320,
            ),
            Plot(
                name="memory",
                label="Memory by category while a prompt is read, dense and MSA",
                caption="Nothing is thrown away, and the index keys come on top. Scratch is what "
                "the last 8\u2009192 tokens need at once, weights are the attention's in a model "
                "3\u2009072 wide. Diamonds: measured on an H100, at k of 4, 16 and 64.",
                tab="Memory",
                height=300,
            ),
        ),
        predict=predict,
        defaults={**first, "counts": "flops", "measure": 0, **values},
    )
