"""Loop orders: four orders of the same work, played step by step, with bytes and a clock."""

import dataclasses
from typing import Any

from intuitive.msa.experiments.loop_orders import (
    ORDER_NAMES,
    LoopParams,
    LoopResult,
    pair_flops,
    run,
)

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
from .loop_orders_scene import Picture, microseconds

SHARING = (0.0, 0.05, 0.15, 0.4, 1.0)  # chances that a far block changes from query to query


def _who_is_first() -> tuple[int, str]:
    traces = run(LoopParams()).traces
    all_of_it, chosen = traces["everything"], traces["query_outer"]
    ratio = chosen.total_s / all_of_it.total_s
    return 0 if ratio < 0.9 else 1 if ratio > 1.1 else 2, (
        f"At these sizes everything, masked, is done after {microseconds(all_of_it.total_s)}, "
        f"query by query after {microseconds(chosen.total_s)}. The tensor cores wait for memory in "
        f"both, and {all_of_it.n_steps} fetches that eight queries share are fewer than "
        f"{chosen.n_steps} that nobody shares. Shorter selections or smaller tiles would turn it."
    )


PREDICT = Predict(
    question=(
        "24 queries read 6 of 32 blocks each. One program fetches, for every query, just its six "
        "blocks. Another takes eight queries at a time, fetches all 32 blocks for them, and throws "
        "away what nobody chose. Which is done first?"
    ),
    choices=(
        "the one that fetches six blocks a query",
        "the one that computes everything",
        "both at about the same time",
    ),
    answer=_who_is_first,
)


def present(result: LoopResult) -> View:
    picture, now = Picture(result), result.traces[result.params.order]
    useful = result.useful_pairs * pair_flops(result.config)
    rows = tuple(
        (
            ORDER_NAMES[one.order],
            fixed(1e6 * one.total_s),
            f"{one.n_steps}",
            *(
                fixed(int(part[-1]) / 2**20)
                for part in (one.key_value_bytes, one.query_bytes, one.partial_bytes)
            ),
            fixed(one.total_bytes / 2**20),
            fixed(useful / one.total_bytes, 0),
            f"{int((one.step_of >= 0).sum())}",
            f"{result.useful_pairs}",
        )
        for one in result.traces.values()
    )
    return View(
        summary=(
            f"{ORDER_NAMES[now.order].capitalize()}: {int((now.step_of >= 0).sum())} pairs "
            f"computed, {result.useful_pairs} useful; {now.n_steps} steps, "
            f"{fixed(now.total_bytes / 2**20)} MiB, {microseconds(now.total_s)}. From one query "
            f"to the next, {percent(result.params.drift)} of the far blocks change: of all but "
            "the first and the newest."
        ),
        timeline=Timeline(frames=picture.frames(), axis="step", pace_ms=220),
        arithmetic=picture.arithmetic(),
        readouts=picture.readouts(0),
        table=Table(
            (
                "order",
                "clock (µs)",
                "steps",
                "K, V (MiB)",
                "Q, O (MiB)",
                "partials (MiB)",
                "total (MiB)",
                "useful FLOP per byte",
                "pairs computed",
                "useful pairs",
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
    """Four orders of the loops, step by step, with the bytes that they move and a clock.

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
            texts=("never", "rarely", "at times", "often", "always"),
        ),
        Range(name="n_queries", label="Queries", min=4, max=32, more=True),
        Range(name="n_selected", label="Blocks read, k", min=2, max=16, more=True),
        Range(name="tile", label="Queries of a tile", values=(2, 4, 8, 16), more=True),
    )
    return Explorer(
        name="msa_loop_orders",
        title="The same work, four orders of its loops",
        params=LoopParams,
        compute=run,
        present=present,
        controls=controls,
        hero=Hero(
            label="Pairs of query and block in the order of the loops, and the bytes they move",
            caption="A bar of the race is as long as all that its order has to move. Press a name "
            "to see its loops.",
        ),
        steps=(
            Step(
                title="Everything, masked",
                text="A tile of queries at a time fetches every block. Pink pairs nobody asked "
                "for. At the end look at the race: who has its ✓, and who is still at it?",
                sets={"order": "everything", "drift": 0.15},
                frame="play",
            ),
            Step(
                title="Query by query",
                text="Now each query fetches just its own blocks. No pair is pink, and block 0 "
                "is fetched for every query again.",
                sets={"order": "query_outer", "drift": 0.15},
                frame="play",
            ),
            Step(
                title="Tile by tile",
                text="The neighbours of a tile share a walk over the blocks that any of them "
                "chose. When is it done, and which pairs are pink?",
                sets={"order": "union_tile", "drift": 0.15},
                frame="play",
            ),
            Step(
                title="Block by block",
                text="Each block is fetched once, for all queries that chose it. What travels "
                "instead are queries and unfinished outputs.",
                sets={"order": "kv_outer", "drift": 0.15},
                frame="play",
            ),
            Step(
                title="Nobody agrees",
                text="Where neighbours never agree, a tile's walk is long and many pairs are "
                "pink. Look at the bars: whose is the shortest now?",
                sets={"order": "union_tile", "drift": 1.0},
                frame="play",
            ),
        ),
        predict=predict,
        defaults={**first, **values},
    )
