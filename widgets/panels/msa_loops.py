"""The loop-order explorer of the MSA lesson: a scrubber over three orders of the same work."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from intuitive.msa.loops import LoopParams, LoopResult, loop_orders

from ..figures import msa_loops as figures
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View

SHARING = (0.0, 0.05, 0.15, 0.4, 1.0)  # chances that a far block changes from query to query


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
    """`loop_orders`, in an explorer's signature; it is too quick to be cancelled."""
    return scrubbed, loop_orders(scrubbed.params)


def present_loops(traced: tuple[Scrubbed, LoopResult]) -> View:
    scrubbed, result = traced
    order = scrubbed.params.order
    now = result.traces[order]
    step = round(scrubbed.share * (now.n_steps - 1))
    moved = int(now.key_value_bytes[step] + now.query_bytes[step] + now.partial_bytes[step])
    wasted = int((now.masked & (now.step_of <= step)).sum())
    name = figures.ORDER_NAMES[order]
    least = min(result.traces.values(), key=lambda one: one.total_bytes)
    pair_flops = 4 * result.config.group_size * result.config.block_size * result.config.d_head
    rows = tuple(
        (
            figures.ORDER_NAMES[one.order],
            f"{one.n_steps}",
            *(
                f"{int(part[-1]) / 2**20:.2f}"
                for part in (one.key_value_bytes, one.query_bytes, one.partial_bytes)
            ),
            f"{one.total_bytes / 2**20:.2f}",
            f"{result.useful_pairs * pair_flops / one.total_bytes:.0f}",
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
            f"{name}, step {step + 1} of {now.n_steps}: {moved / 2**20:.2f} of "
            f"{now.total_bytes / 2**20:.2f} MiB moved; {figures.ORDER_NAMES[least.order]} needs "
            f"least in the end, {least.total_bytes / 2**20:.2f} MiB."
        ),
        figures={
            "pairs": figures.pairs_figure(result, step),
            "traffic": figures.traffic_figure(result, scrubbed.share),
        },
        readouts=(
            Readout("moved so far", f"{moved / 2**20:.2f} MiB"),
            Readout("useful pairs", f"{result.useful_pairs}"),
            Readout("computed in vain", f"{wasted}"),
            Readout("distinct blocks of a tile", f"{distinct:.1f}"),
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
                "pairs in vain",
            ),
            rows,
        ),
        code=(
            "from intuitive.msa.loops import LoopParams, loop_orders\n\n"
            f'result = loop_orders(LoopParams.from_text(\n    "{scrubbed.params.to_text()}"\n))\n'
            "{name: trace.total_bytes for name, trace in result.traces.items()}"
        ),
    )


def loop_scrubber(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Query-outer, union-tile and KV-outer, step by step, with a counter of bytes.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `order="kv_outer"`.
    """
    first = dataclasses.asdict(LoopParams())
    for fixed in ("n_blocks", "seed"):
        del first[fixed]
    controls = (
        Choice(name="order", label="Loop order", options=figures.ORDER_NAMES),
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
        present=present_loops,
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
