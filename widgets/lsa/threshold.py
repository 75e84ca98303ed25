"""Threshold or budget: the scores of one trigger, and what a longer text does to both rules."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from intuitive.common.runtime import never
from intuitive.common.training import Progress, silent
from intuitive.lsa.experiments import threshold as experiment
from intuitive.lsa.experiments.threshold import LENGTHS, ThresholdParams, ThresholdResult

from .. import theme
from ..kit import (
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
    percent,
)
from .styles import RECORDINGS, RESIDENT
from .threshold_scene import Picture, whole

MOST_WIDE = 20  # pixels of a point of the calibration


def texts() -> dict[str, str]:
    """What a list of recordings says of each; the task's come first."""
    names = experiment.recordings()
    ours = {name: title for name, title in RECORDINGS.items() if name in names}
    return ours | {name: name for name in names if name not in ours}


def first_text() -> str:
    """The recording that opens the explorer."""
    known = texts()
    return next((name for name in ("topical", "letter") if name in known), "topical")


def compute(
    params: ThresholdParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> ThresholdResult:
    """The trigger that is asked for, or the last one where a recording has fewer."""
    last = experiment.n_triggers(experiment.load(params.text), params.lookahead) - 1
    params = dataclasses.replace(params, trigger=min(params.trigger, last))
    return experiment.run(params, stale=stale, progress=progress)


def _eight_times_as_long() -> tuple[int, str]:
    result = experiment.run(ThresholdParams(text=first_text()))
    short, long = result.longer[0], result.longer[-1]
    ratio = long.false / short.false if short.false else 1.0
    right = 0 if ratio < 1.5 else 1 if ratio < 4 else 2
    return right, (
        f"The threshold lets {percent(result.false_rate, 1)} of the chunks pass that nobody needs: "
        f"{whole(short.false)} of them as recorded, {whole(long.false)} in a text "
        f"{long.times} times as long."
    )


PREDICT = Predict(
    question=(
        "At one trigger a threshold fetches what is needed, and some chunks that nobody needs. Now "
        "the text is eight times as long, and what is needed lies in the same few chunks. How many "
        "that nobody needs does the same threshold fetch then?"
    ),
    choices=("as many as before", "about three times as many", "about eight times as many"),
    answer=_eight_times_as_long,
)


def lengths_figure(result: ThresholdResult) -> theme.Figure:
    """Fetched chunks against the length of the text, by rule."""
    times = list(LENGTHS)
    lines = {
        "threshold": ([at.fetched for at in result.longer], theme.PURPLE),
        "budget": ([float(at.budget) for at in result.longer], RESIDENT),
        "needed": ([float(result.n_needed)] * len(times), theme.GREEN),
    }
    top = max(max(heights) for heights, _ in lines.values())
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": times,
            "y": heights,
            "line": {"color": colour},
            "marker": {"size": 7},
        }
        for name, (heights, colour) in lines.items()
    ]
    return theme.figure(
        traces,
        x="length of the text, times the recorded one",
        y="chunks fetched",
        x_range=(0.5, 8.5),
        y_range=(0, 1.1 * max(top, 1.0)),
        showlegend=True,
        margin={"l": 72},
    )


def calibration_figure(result: ThresholdResult) -> theme.Figure:
    """How often chunks of a given probability were needed."""
    found = experiment.calibrate(result.recording, result.params)
    said = [i / 50 for i in range(50)]
    meant = [experiment.meant(p, found.base_rate) for p in said]
    sizes = [min(4 + math.sqrt(count), MOST_WIDE) for count in found.count.tolist()]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "taken at its word",
            "x": [0, 1],
            "y": [0, 1],
            "line": {"color": theme.GREY, "dash": "dot"},
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "after three negatives to one",
            "x": said,
            "y": meant,
            "line": {"color": theme.PURPLE, "dash": "dash"},
        },
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "needed, at its triggers",
            "x": found.said,
            "y": found.needed,
            "line": {"color": theme.GREEN},
            "marker": {"size": sizes},
            "customdata": found.count.tolist(),
            "hovertemplate": "%{y:.0%} of %{customdata} chunks<extra></extra>",
        },
    ]
    return theme.figure(
        traces,
        x="probability that the indexer gives",
        y="share that was needed",
        x_range=(0, 1),
        y_range=(0, 1.04),
        showlegend=True,
    )


def present(result: ThresholdResult) -> View:
    picture, params = Picture(result), result.params
    first, last = result.longer[0], result.longer[-1]
    if result.n_needed:
        found = f"finds {result.n_found} of {result.n_needed} needed chunks"
    else:
        found = "has nothing to find"
    summary = (
        f"A threshold of {params.threshold:g} {found} at this trigger and fetches "
        f"{whole(first.fetched)} chunks; in a text {last.times} times as long it fetches "
        f"{whole(last.fetched)}, since {percent(result.false_rate, 1)} of the others pass at any "
        "length."
    )
    rows = tuple(
        (
            f"{at.times} ×",
            whole(at.chunks),
            whole(at.fetched),
            whole(at.false),
            str(at.budget),
            str(at.budget_found),
        )
        for at in result.longer
    )
    return View(
        summary=summary,
        timeline=Timeline(frames=picture.frames(), axis="length", pace_ms=1400),
        related={"needed": tuple(f"chunk:{c}" for c in result.chunks[result.needed].tolist())},
        figures={
            "lengths": partial(lengths_figure, result),
            "calibration": partial(calibration_figure, result),
        },
        readouts=picture.readouts(0),
        bounds={"trigger": (0, result.n_triggers - 1)},
        values={"trigger": params.trigger},
        table=Table(
            (
                "length",
                "old chunks",
                "threshold fetches",
                "of these not needed",
                "budget",
                "needed in the budget",
            ),
            rows,
        ),
        code=(
            "from intuitive.lsa.experiments.threshold import ThresholdParams, run\n\n"
            f'result = run(ThresholdParams.from_text(\n    "{params.to_text()}"\n))\n'
            "result.n_found, [at.fetched for at in result.longer]"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Scores at one trigger, the threshold as a handle, and the same on longer texts.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `threshold=0.7`.
    """
    first = dataclasses.asdict(ThresholdParams(text=first_text()))
    del first["lookahead"], first["tail"]
    return Explorer(
        name="lsa_threshold",
        title="Threshold or budget",
        params=ThresholdParams,
        compute=compute,
        present=present,
        hero=Hero(label="Old chunks over their scores, a threshold to drag, and longer texts"),
        controls=(
            Range(name="threshold", label="Threshold", min=0.02, max=0.98, step=0.02),
            Range(name="trigger", label="Trigger", min=0, max=7),
            Choice(name="text", label="Recording", options=texts()),
            Range(name="layers", label="Layers joined", min=1, max=3, more=True),
        ),
        steps=(
            Step(
                title="One trigger",
                text="Dots are old chunks over the score that they got. Right of the line they are "
                "fetched. Green ones are needed and were found.",
                frame="first",
            ),
            Step(
                title="A longer text",
                text="Play. The new chunks are not needed and score as the others do. The needed "
                "ones stay as many; what is fetched does not.",
                frame="play",
            ),
            Step(
                title="Be stricter",
                text="A threshold of 0.6. What is needed and scores less becomes an empty ring: it "
                "is lost for the whole window. How much is that, and how much less is fetched?",
                sets={"threshold": 0.6},
                frame="last",
            ),
            Step(
                title="Be generous",
                text="A threshold of 0.4 on a long text. How many needed ones are missed now, and "
                "how many strangers pass?",
                sets={"threshold": 0.4},
                frame="last",
            ),
        ),
        plots=(
            Plot(
                name="lengths",
                label="Chunks fetched against the length of the text",
                caption="The budget is what the threshold takes of the recorded text. It stays, "
                "and loses needed chunks to better-scored strangers.",
                tab="Longer texts",
                height=300,
            ),
            Plot(
                name="calibration",
                label="Share of chunks needed against the probability given",
                caption="The indexer learns from three negatives to one positive, while almost all "
                "chunks are not needed. So a half does not mean half: dashed, what follows from "
                "the sampling alone; green, the old chunks at all triggers of this recording, as "
                "above at one. Small points hold few chunks. It is steeper than the dashed line: "
                "this indexer is unsure, and small steps of its score mean much.",
                tab="What a half means",
                height=320,
            ),
        ),
        predict=predict,
        defaults={**first, **values},
    )
