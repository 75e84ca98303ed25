"""Loop orders: three orders of the same work, played step by step, with a counter of bytes."""

import dataclasses
from typing import Any

from intuitive.msa.experiments.loop_orders import LoopParams, LoopResult, run

from ..kit import (
    Choice,
    Explorer,
    Hero,
    Predict,
    Range,
    Step,
    Table,
    Timeline,
    View,
    fixed,
    percent,
)
from .loop_orders_scene import ORDER_NAMES, Picture

SHARING = (0.0, 0.05, 0.15, 0.4, 1.0)  # chances that a far block changes from query to query


def present(result: LoopResult) -> View:
    picture, now = Picture(result), result.traces[result.params.order]
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
    return View(
        summary=(
            f"{ORDER_NAMES[now.order]}: {result.useful_pairs} pairs of query and block in "
            f"{now.n_steps} steps, {fixed(now.total_bytes / 2**20)} MiB in the end. From one query "
            f"to the next, {percent(result.params.drift)} of the far blocks change."
        ),
        timeline=Timeline(frames=picture.frames(), axis="step", pace_ms=220),
        arithmetic=picture.arithmetic(),
        readouts=picture.readouts(0),
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
            f'result = run(LoopParams.from_text(\n    "{result.params.to_text()}"\n))\n'
            "{name: trace.total_bytes for name, trace in result.traces.items()}"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Query-outer, union-tile and KV-outer, step by step, with the bytes that they move.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `order="kv_outer"`.
    """
    first = dataclasses.asdict(LoopParams())
    for standing in ("n_blocks", "seed"):
        del first[standing]
    controls = (
        Choice(name="order", label="Loop order", options=ORDER_NAMES),
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
        title="The same work, three orders of its loops",
        params=LoopParams,
        compute=run,
        present=present,
        controls=controls,
        hero=Hero(
            label="Pairs of query and block in the order of the loops, and the bytes they move"
        ),
        steps=(
            Step(
                title="Query by query",
                text="Each query fetches its own blocks. Play, and watch how often block 0 has to "
                "come, which everybody reads.",
                frame="play",
            ),
            Step(
                title="Block by block",
                text="Now each block comes once, for all queries that chose it. What travels "
                "instead are queries and unfinished outputs.",
                sets={"order": "kv_outer"},
                frame="play",
            ),
            Step(
                title="Tile by tile",
                text="Eight neighbours share their fetches. Pink pairs are the price: computed "
                "for one, thrown away by another.",
                sets={"order": "union_tile"},
                frame="play",
            ),
            Step(
                title="Neighbours agree",
                text="If neighbours always choose the same blocks, the tile wastes nothing: no "
                "pair turns pink.",
                sets={"order": "union_tile", "drift": 0.0},
                frame="play",
            ),
            Step(
                title="Nobody agrees",
                text="If they never do, most of the tile's pairs are in vain. Play, and compare "
                "the three bars on the right: which order moves the fewest bytes now?",
                sets={"order": "union_tile", "drift": 1.0},
                frame="play",
            ),
        ),
        predict=predict,
        defaults={**first, **values},
    )
