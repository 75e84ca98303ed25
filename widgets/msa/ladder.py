"""The ladder: FLOPs, bytes and measured time of every rung, against the floor of an H100."""

import dataclasses
from typing import Any

from intuitive.msa.experiments.ladder import LadderParams, LadderResult, run
from intuitive.msa.results import kernel_profile

from ..kit import (
    Choice,
    Explorer,
    Hero,
    Predict,
    Step,
    Table,
    Timeline,
    View,
    fixed,
    number,
)
from .ladder_scene import LAST, LAUNCHES, Picture, place_text, time_text

FUNCTIONS = {
    "attend": "attend to the blocks",
    "select": "select the blocks",
    "decode": "decode one token",
}
SHARINGS = {"near": "mostly the same blocks", "random": "blocks at random"}
QUERIES = {"prompt": "all of a prompt, to 128K", "last": "the last 8K, of up to 1M"}
IDLE = {  # controls that change nothing, and why
    "attend": {},
    "select": {"sharing": "not here: it reads all"},
    "decode": {
        "queries": "not here: one query",
        "sharing": "not here: no neighbours",
    },
}


def _short_decode() -> tuple[int, str]:
    landing = run(LadderParams(function="decode")).at(8192)
    dense, step = landing["everything"], landing["step"]
    ratio = dense.ms / step.ms
    profile = kernel_profile()
    found, card = profile.values, profile.made.device.removeprefix("NVIDIA ")
    empty = time_text(found.empty_us(LAUNCHES) / 1e3)
    whole, scores, attend, merge = (
        time_text(found.decode_us("8K", part) / 1e3)
        for part in ("whole", "scores", "attend", "merge")
    )
    return 0 if ratio > 1.25 else 1 if ratio > 0.95 else 2, (
        f"It takes {time_text(step.ms)} instead of {time_text(dense.ms)}. Neither waits for its "
        f"bytes: the floor of MSA's step is {time_text(step.least.floor_ms)}. Where the time goes "
        f"was profiled on another card, an {card}, with a later version: {whole} for the step; "
        f"each alone, {scores} for the scores, {attend} for searching and attending, {merge} for "
        f"the merge. Starting {LAUNCHES} kernels that do nothing takes {empty}."
    )


PREDICT = Predict(
    question=(
        "After 8K tokens, MSA's decode step reads 2.7 times fewer bytes than dense attention. On "
        "an H100, how long does it take?"
    ),
    choices=("less time than the dense one", "as long, within 5%", "more time than the dense one"),
    answer=_short_decode,
)


def present(result: LadderResult) -> View:
    picture, function = Picture(result), result.params.function
    shortest, longest = result.shown[0], result.shown[-1]
    last = LAST[function]
    rows = tuple(
        (
            label,
            picture.name(rung),
            number(rung.work.flops / 1e12),
            number(rung.work.bytes / 1e9),
            number(rung.work.intensity),
            number(rung.least.floor_ms),
            number(rung.work.floor_ms),
            "not measured" if rung.measured_ms is None else number(rung.measured_ms),
        )
        for landing, label in zip(result.shown, picture.labels, strict=True)
        for rung in landing.rungs
    )
    return View(
        summary=(
            f"{FUNCTIONS[function].capitalize()}, {picture.name(shortest[last])}: "
            + "; ".join(
                f"{time_text(landing[last].ms)} for {place_text(landing)} tokens, "
                f"{fixed(landing[last].over_floor, 1)} times the floor"
                for landing in (shortest, longest)
            )
            + f". Times were recorded on one {result.device}."
        ),
        timeline=Timeline(
            frames=picture.frames(), axis="context", start=picture.start, pace_ms=1100
        ),
        readouts=picture.readouts(result.shown[picture.start]),
        table=Table(
            (
                "context",
                "rung",
                "TFLOP",
                "GB asked for",
                "FLOP per byte",
                "floor (ms)",
                "for its own work, if every byte came from memory (ms)",
                "measured (ms)",
            ),
            rows,
        ),
        code=(
            "from intuitive.msa.experiments.ladder import LadderParams, run\n\n"
            f'result = run(LadderParams.from_text(\n    "{result.params.to_text()}"\n))\n'
            "{rung.name: rung.ms for rung in result.at(131072).rungs}"
        ),
        idle=IDLE[function],
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Every rung of a function on a roofline and in time, from 8K to 1M tokens.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `function="decode"`.
    """
    return Explorer(
        name="msa_ladder",
        title="The ladder, against the floor",
        params=LadderParams,
        compute=run,
        present=present,
        controls=(
            Choice(name="function", label="Function", options=FUNCTIONS),
            Choice(name="queries", label="Queries of a prompt", options=QUERIES),
            Choice(name="sharing", label="Attend: neighbours choose", options=SHARINGS),
        ),
        hero=Hero(
            label="A roofline with the rungs as points, and their times above the floor",
            caption="Left, useless FLOPs count too; right, a floor is of the useful ones. Open "
            "points are counted, as if no byte came from the card's cache.",
        ),
        steps=(
            Step(
                title="Busy is not fast",
                text="128K tokens. Everything, masked, stands nearest to the flat roof and takes "
                "longest by far.",
                sets={"function": "attend"},
                frame="128K",
            ),
            Step(
                title="Down to 8K",
                text="At 8K query by query would take longer than computing everything, were "
                "every block fetched from memory.",
                sets={"function": "attend"},
                frame="8K",
            ),
            Step(
                title="Neighbours disagree",
                text="At 128K tokens, with blocks at random, the tile computes more than three "
                "times as much as is useful.",
                sets={"function": "attend", "sharing": "random"},
                frame="128K",
            ),
            Step(
                title="Never write scores",
                text="A score for every token, written and read back, costs more than all the "
                "products that made it.",
                sets={"function": "select"},
                frame="128K",
            ),
            Step(
                title="Decode one token",
                text="MSA's attend takes no longer at 1M than at 8K: it reads as many blocks. Its "
                "floor, the upright tick, is far below at both.",
                sets={"function": "decode"},
                frame="play",
            ),
        ),
        predict=predict,
        defaults={**dataclasses.asdict(LadderParams()), **values},
    )
