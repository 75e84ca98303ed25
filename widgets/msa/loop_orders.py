"""Loop orders: a scrubber over three orders of the same work, with a counter of bytes."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from intuitive.msa.experiments.loop_orders import LoopParams, LoopResult, LoopTrace, run

from .. import theme
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View, fixed

ORDER_NAMES = {
    "query_outer": "query-outer",
    "union_tile": "union tile",
    "kv_outer": "KV-outer",
}
WAITING, DONE, NOW, WASTED = "rgba(150,150,150,0.35)", theme.BLUE, theme.VERMILION, theme.PURPLE
KINDS = ("rgba(0,0,0,0)", WAITING, DONE, NOW, WASTED)  # of a (query, block) pair, by number
SHARING = (0.0, 0.05, 0.15, 0.4, 1.0)  # chances that a far block changes from query to query


def pair_kinds(result: LoopResult, trace: LoopTrace, step: int) -> np.ndarray:
    """Number in KINDS of every (query, block) pair after `step`: [n, n_blk] uint8."""
    kinds = np.where(result.chosen, 1, 0)
    kinds = np.where(result.chosen & (trace.step_of >= 0) & (trace.step_of < step), 2, kinds)
    kinds = np.where(trace.masked & (trace.step_of < step), 4, kinds)
    return np.where(trace.step_of == step, 3, kinds).astype(np.uint8)


def pairs_figure(result: LoopResult, step: int) -> theme.Figure:
    """Which pairs of query and block are done, in work, waiting, or computed in vain."""
    trace = result.traces[result.params.order]
    edges = np.linspace(0, 1, len(KINDS) + 1)
    scale = [
        stop
        for kind, colour in enumerate(KINDS)
        for stop in ([edges[kind], colour], [edges[kind + 1], colour])
    ]
    traces = [
        {
            "type": "heatmap",
            "z": pair_kinds(result, trace, step),
            "zmin": -0.5,
            "zmax": len(KINDS) - 0.5,
            "colorscale": scale,
            "showscale": False,
            "xgap": 1,
            "ygap": 1,
            "hovertemplate": "query %{y}, block %{x}<extra></extra>",
        }
    ]
    n, n_blk = result.chosen.shape
    return theme.figure(
        traces,
        x="key block",
        y="query",
        x_range=(-0.5, n_blk - 0.5),
        y_range=(n - 0.5, -0.5),
        xaxis={"showgrid": False},
        yaxis={"showgrid": False},
    )


def traffic_figure(result: LoopResult, share: int | float) -> theme.Figure:
    """Bytes moved by each order at the same share of its steps, and in the end."""
    names = list(result.traces)[::-1]
    labels = [
        f"<b>{ORDER_NAMES[name]}</b>" if name == result.params.order else ORDER_NAMES[name]
        for name in names
    ]
    parts = (
        ("keys and values", "key_value_bytes", theme.BLUE, ""),
        ("queries and outputs", "query_bytes", theme.GREEN, "/"),
        ("partial outputs", "partial_bytes", "#8A5A78", "x"),
    )
    traces = []
    for legend, field, colour, pattern in parts:
        moved = [
            getattr(result.traces[name], field)[round(share * (result.traces[name].n_steps - 1))]
            for name in names
        ]
        traces.append(
            {
                "type": "bar",
                "x": [float(value) / 2**20 for value in moved],
                "y": labels,
                "orientation": "h",
                "name": legend,
                "marker": {
                    "color": colour,
                    "pattern": {
                        "shape": pattern,
                        "size": 7,
                        "fillmode": "overlay",
                        "solidity": 0.15,
                    },
                },
            }
        )
    ends = [result.traces[name].total_bytes / 2**20 for name in names]
    traces.append(
        {
            "type": "scatter",
            "x": ends,
            "y": labels,
            "mode": "markers",
            "name": "in the end",
            "marker": {"symbol": "line-ns-open", "size": 22, "color": theme.VERMILION},
        }
    )
    return theme.figure(
        traces,
        x="MiB moved, one group",
        x_range=(0, 1.05 * max(ends)),
        barmode="stack",
        showlegend=True,
        legend={"traceorder": "normal"},
        margin={"l": 104, "t": 76},
    )


@dataclass(frozen=True, kw_only=True)
class Scrubbed:
    """Loop settings, and how far the work has come, in percent of its steps."""

    params: LoopParams
    percent: int

    @classmethod
    def of(cls, *, percent: int, **settings: Any) -> "Scrubbed":
        return cls(params=LoopParams(**settings), percent=percent)

    @property
    def share(self) -> float:
        return self.percent / 100


def trace(scrubbed: Scrubbed, *, stale: Any, progress: Any) -> tuple[Scrubbed, LoopResult]:
    """The three orders, whatever the progress: that only says how far to look."""
    return scrubbed, run(scrubbed.params, stale=stale, progress=progress)


def present(traced: tuple[Scrubbed, LoopResult]) -> View:
    scrubbed, result = traced
    order = scrubbed.params.order
    now = result.traces[order]
    step = round(scrubbed.share * (now.n_steps - 1))
    moved = int(now.key_value_bytes[step] + now.query_bytes[step] + now.partial_bytes[step])
    wasted = int((now.masked & (now.step_of <= step)).sum())
    name = ORDER_NAMES[order]
    least = min(result.traces.values(), key=lambda one: one.total_bytes)
    pair_flops = 4 * result.config.group_size * result.config.block_size * result.config.d_head
    rows = tuple(
        (
            ORDER_NAMES[one.order],
            f"{one.n_steps}",
            *(
                fixed(int(part[-1]) / 2**20)
                for part in (one.key_value_bytes, one.query_bytes, one.partial_bytes)
            ),
            fixed(one.total_bytes / 2**20),
            fixed(result.useful_pairs * pair_flops / one.total_bytes, 0),
            f"{result.useful_pairs}",
            f"{int(one.masked.sum())}",
        )
        for one in result.traces.values()
    )
    distinct = np.mean(
        [
            result.chosen[first : first + scrubbed.params.tile].any(0).sum()
            for first in range(0, len(result.chosen), scrubbed.params.tile)
        ]
    )
    return View(
        summary=(
            f"{name}, step {step + 1} of {now.n_steps}: {fixed(moved / 2**20)} of "
            f"{fixed(now.total_bytes / 2**20)} MiB moved; {ORDER_NAMES[least.order]} needs "
            f"least in the end, {fixed(least.total_bytes / 2**20)} MiB."
        ),
        figures={
            "pairs": pairs_figure(result, step),
            "traffic": traffic_figure(result, scrubbed.share),
        },
        readouts=(
            Readout("moved so far", f"{fixed(moved / 2**20)} MiB"),
            Readout("computed in vain", f"{wasted}"),
            Readout("distinct blocks of a tile", fixed(distinct, 1)),
        ),
        table=Table(
            (
                "order",
                "steps",
                "K, V (MiB)",
                "Q, O (MiB)",
                "partials (MiB)",
                "total (MiB)",
                "FLOP per byte",
                "useful pairs",
                "pairs in vain",
            ),
            rows,
        ),
        code=(
            "from intuitive.msa.experiments.loop_orders import LoopParams, run\n\n"
            f'result = run(LoopParams.from_text(\n    "{scrubbed.params.to_text()}"\n))\n'
            "{name: trace.total_bytes for name, trace in result.traces.items()}"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Query-outer, union-tile and KV-outer, step by step, with a counter of bytes.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `order="kv_outer"`.
    """
    first = dataclasses.asdict(LoopParams())
    for standing in ("n_blocks", "seed"):
        del first[standing]
    controls = (
        Choice(name="order", label="Loop order", options=ORDER_NAMES),
        Range(name="percent", label="Progress", min=0, max=100, unit="%"),
        Range(
            name="drift",
            label="Neighbours differ",
            values=SHARING,
            texts=("never", "rarely", "as in real models", "often", "always"),
        ),
        Range(name="n_queries", label="Queries", min=4, max=32, more=True),
        Range(name="n_selected", label="Blocks read, k", min=2, max=16, more=True),
        Range(name="tile", label="Queries of a tile", values=(2, 4, 8, 16), more=True),
    )
    return Explorer(
        name="msa_loop_orders",
        title="Loop orders",
        params=Scrubbed.of,
        compute=trace,
        present=present,
        controls=controls,
        plots=(
            Plot(
                name="pairs",
                label="Pairs of query and block: done, in work, waiting",
                caption="Grey pairs wait, orange ones are in work, blue ones are done; purple ones "
                "were computed for the tile's sake and thrown away.",
                span=7,
                height=330,
            ),
            Plot(
                name="traffic",
                label="Bytes moved by each order",
                caption="All orders at the same share of their steps; the vertical marks show "
                "where they end.",
                span=5,
                height=330,
            ),
        ),
        predict=predict,
        defaults={**first, "percent": 40, **values},
    )
