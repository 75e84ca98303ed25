"""A needle under two poolings: one strong token among ordinary ones."""

import dataclasses
from typing import Any

import numpy as np

from intuitive.msa.experiments.needle import NeedleParams, NeedleResult, run

from .. import theme
from ..kit import (
    Explorer,
    Plot,
    Predict,
    Range,
    Readout,
    Table,
    View,
    fixed,
)
from . import styles


def _which_finds_it() -> tuple[int, str]:
    result = run(NeedleParams())
    found = {(True, False): 0, (False, True): 1, (True, True): 2}
    return found[result.found_by_max, result.found_by_mean], (
        f"By its largest score the needle's block ranks {result.rank_max}, by its mean "
        f"{result.rank_mean} of {len(result.block_max)}: the needle's neighbours score low, and "
        "they are many."
    )


PREDICT = Predict(
    question=(
        "The needle scores 8, ordinary tokens spread around 0. You may read 4 of 32 blocks. "
        "Which number per block finds the needle: the largest score in it, or the mean?"
    ),
    choices=("only the largest", "only the mean", "both"),
    answer=_which_finds_it,
)


def needle_figure(result: NeedleResult) -> theme.Figure:
    """Token scores, and the same blocks under max- and under mean-pooling."""
    params, floor, top = result.params, -6.0, 15.0  # above the needle stands its name
    layout = theme.columns(
        ["max of each block", "mean of each block"], x="token position", x_range=(0, params.n)
    )
    traces = []
    for column, (pooled, selected) in enumerate(
        ((result.block_max, result.selected_max), (result.block_mean, result.selected_mean))
    ):
        axis = theme.x_axis(column)
        chosen = np.isin(np.arange(len(pooled)), selected)
        traces += [
            styles.block_bars(pooled, chosen, floor=floor, size=params.block_size, axis=axis),
            styles.token_line(result.token_scores, axis=axis),
        ]
        layout["annotations"].append(
            {
                "text": "needle",
                "xref": axis,
                "x": params.needle,
                "yref": "y",
                "y": float(result.token_scores[params.needle]),
                "ax": 34,
                "ay": -14,
                "arrowwidth": 1.5,
                "showarrow": True,
            }
        )
    return theme.figure(traces, barmode="overlay", y="score", y_range=(floor, top), **layout)


def present(result: NeedleResult) -> View:
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
        figures={"pooled": needle_figure(result)},
        readouts=(
            Readout("tokens read", f"{reads} of {params.n}"),
            Readout("max pooling", outcome(result.found_by_max, result.rank_max)),
            Readout("mean pooling", outcome(result.found_by_mean, result.rank_mean)),
        ),
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
        Range(name="strength", label="Score of the needle", min=0, max=12, step=0.5),
        Range(name="block_size", label="Block size", values=styles.BLOCK_SIZES, unit="tokens"),
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
        compute=run,
        present=present,
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
