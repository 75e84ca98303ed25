"""A needle under two poolings: one strong token, and which number per block finds it."""

import dataclasses
from typing import Any

from intuitive.msa.experiments.needle import NeedleParams, NeedleResult, run

from ..kit import (
    Explorer,
    Hero,
    Predict,
    Range,
    Step,
    Table,
    Timeline,
    View,
    chosen,
    fixed,
)
from . import styles
from .needle_figures import Picture


def _which_finds_it() -> tuple[int, str]:
    result, lifted = run(NeedleParams()), run(NeedleParams(drag=0.0))
    found = {(True, False): 0, (False, True): 1, (True, True): 2}
    return found[result.found_by_max, result.found_by_mean], (
        f"By its largest score the needle's block ranks {result.rank_max}, by its mean "
        f"{result.rank_mean} of {len(result.block_max)}: the needle is one of "
        f"{result.params.block_size} in it. Did its neighbours score like all others, the mean's "
        f"rank would be {lifted.rank_mean}."
    )


PREDICT = Predict(
    question=(
        "The needle scores 8, its neighbours spread around -1, all other tokens around 0. You may "
        "read 4 of 32 blocks. Which number per block finds the needle: the largest score in it, "
        "or the mean?"
    ),
    choices=("only the largest", "only the mean", "both"),
    answer=_which_finds_it,
)


def present(result: NeedleResult) -> View:
    params, picture = result.params, Picture(result)
    blocks = len(result.block_max)
    summary = (
        f"A needle of score {chosen(params.strength)} in block {result.needle_block} of {blocks}: "
        f"{len(result.selected_max)} blocks of {params.block_size} tokens are read, the largest "
        "score of a block choosing in one row, the mean in the other."
    )
    return View(
        summary=summary,
        timeline=Timeline(frames=picture.frames(), axis="stage", pace_ms=1400),
        arithmetic=picture.arithmetic(),
        related={"needle": (f"block:{result.needle_block}",)},
        bounds={"n_selected": (1, min(blocks, 32))},
        readouts=picture.readouts("keep"),
        table=Table(
            ("pooling", "blocks read", "rank of the needle's block", "mass captured"),
            (
                (
                    "max",
                    ", ".join(map(str, result.selected_max)),
                    str(result.rank_max),
                    fixed(result.captured_max, 3),
                ),
                (
                    "mean",
                    ", ".join(map(str, result.selected_mean)),
                    str(result.rank_mean),
                    fixed(result.captured_mean, 3),
                ),
            ),
        ),
        code=(
            "from intuitive.msa.experiments.needle import NeedleParams, run\n\n"
            f'result = run(NeedleParams.from_text(\n    "{params.to_text()}"\n))\n'
            "result.found_by_max, result.found_by_mean"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """One strong token among ordinary ones: does its block win a place?

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `n_selected=8`.
    """
    first = dataclasses.asdict(NeedleParams())
    del first["n"], first["seed"]
    controls = (
        Range(name="n_selected", label="Blocks read, k", min=1, max=32),
        Range(name="strength", label="Needle's score", min=0, max=12, step=0.5),
        Range(name="block_size", label="Block size", values=styles.BLOCK_SIZES),
        Range(name="needle", label="Place of the needle", min=0, max=1023, more=True),
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
        compute=run,
        present=present,
        controls=controls,
        hero=Hero(label="Scores of tokens, and two numbers for each block of them"),
        steps=(
            Step(
                title="Ask two ways",
                text="Play: 1,024 scores become one number per block, in two ways. In which row "
                "is the needle's block lit?",
                frame="play",
            ),
            Step(
                title="Read half",
                text="Now 16 of 32 blocks are read, half of all tokens. Does that help the lower "
                "row?",
                sets={"n_selected": 16},
                frame="last",
            ),
            Step(
                title="Lift the neighbours",
                text="The needle's neighbours now score like all others. Its block climbs in the "
                "lower row: far enough for 4 places?",
                sets={"drag": 0.0},
                frame="last",
            ),
            Step(
                title="Weaken the needle",
                text="At a score of 2 the needle is one of many: other blocks hold a larger score "
                "by chance. Which row finds it now?",
                sets={"strength": 2.0},
                frame="last",
            ),
            Step(
                title="Drag it",
                text="In the newest block the needle is read whatever its rank, even as the last. "
                "Drag it to the left, then up and down.",
                sets={"needle": 1010},
                frame="last",
            ),
        ),
        predict=predict,
        defaults={**first, **values},
    )
