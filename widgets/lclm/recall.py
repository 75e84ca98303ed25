"""How much fits into a bead: recall and reconstruction against the ratio, while it is learned."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from intuitive.common.results import names
from intuitive.common.settings import Settings
from intuitive.common.training import Progress
from intuitive.lclm.experiments import recall as experiment
from intuitive.lclm.experiments.recall import RecallParams, RecallResult
from intuitive.lclm.results import MINIATURE, miniatures

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
from .recall_scene import READERS, Picture, name_of, spread

FIRST = "recall-small-equal-4"
RATIOS = (1, 2, 4, 8, 16)
KINDS = {"symbols": "random symbols", "bytes": "bytes of real text"}


@dataclass(frozen=True, kw_only=True)
class Shown(Settings):
    """The controls: which miniatures, and the ratio in the light.

    Attributes:
        what: a key of `sets()`.
        ratio: tokens per bead; the nearest that was trained is taken.
    """

    what: str = FIRST
    ratio: int = 8


@cache
def sets() -> dict[str, RecallParams]:
    """What was trained, by the name of its option; the first alone before anything is committed.

    What has one seed alone is left out: nobody can say what of it is luck.
    """
    if MINIATURE not in names():
        return {FIRST: RecallParams()}
    found = {
        "-".join(map(str, (one.task, one.scale, one.budget, one.n_records))): one
        for one in experiment.options(miniatures().values)
        if len(experiment.run(one).chosen.seeds) > 1
    }
    return {name: found[name] for name in sorted(found, key=lambda n: (n != FIRST, n))}


def title(one: RecallParams) -> str:
    """An option in words."""
    context = {"small": 32, "large": 256}[one.scale]
    if one.task == "recall":
        told = f"recall, {one.n_records} records in {context} tokens"
    else:
        told = f"say it again: {context} {KINDS[one.task]}"
    return told + ", longer" * (one.budget == "plateau")


def compute(
    shown: Shown,
    *,
    stale: Callable[[], bool],
    progress: Progress,
) -> RecallResult:
    """Look up the set and the nearest ratio that was trained.

    Raises:
        ValueError: an unknown set.
    """
    if shown.what not in sets():
        raise ValueError(f"{shown.what!r} was not trained; there are {', '.join(sets())}.")
    params = sets()[shown.what]
    found = experiment.run(params, stale=stale, progress=progress)
    near = min(found.points, key=lambda one: abs(one.ratio - shown.ratio)).ratio
    return experiment.run(replace(params, ratio=near), stale=stale, progress=progress)


def _who_learns() -> tuple[int, str]:
    found = experiment.run(sets()[FIRST])
    raw = next(one for one in found.controls if name_of(one) == READERS["raw"])
    beads, guess = found.chosen, found.guess or 0.0
    ahead = beads.mean - raw.mean
    right = 0 if ahead < -0.1 else 1 if ahead < 0.1 else 2
    smeared = [one for one in found.controls if one.reader == "smeared"]
    longer = [one for one in found.controls if (one.reader, one.budget) == ("raw", "plateau")]
    told = (
        " Given with each token a learned share of the one before, the smear, it has "
        f"{spread(smeared[0].accuracy)}."
        if smeared
        else ""
    )
    on = f" (trained longer, {spread(longer[0].accuracy)})" if longer else ""
    return right, (
        f"Beads of {beads.ratio}: {spread(beads.accuracy)} by seed, raw text "
        f"{spread(raw.accuracy)}{on}, a guess {percent(guess)}. A bead holds a key and its value "
        "together. The raw reader must first learn which token stood before which, and then to "
        f"match: two steps, which two layers do not find in this time.{told}"
    )


PREDICT = Predict(
    question=(
        "Two tiny decoders learn the same recall for the same number of steps. One reads the 32 "
        "tokens of the text as they are, the other 4 beads of 8 tokens, each with one record. Who "
        "answers better then?"
    ),
    choices=("the one that reads raw text", "both alike", "the one that reads beads"),
    answer=_who_learns,
)


def present(result: RecallResult) -> View:
    picture, params = Picture(result), result.params
    frames = picture.frames()
    chosen = result.chosen
    told = ", ".join(f"{name_of(one)} {spread(one.accuracy)}" for one in picture.columns)
    guess = f"; a guess has {percent(result.guess)}" if result.guess is not None else ""
    summary = (
        f"{title(params)}: with beads of {chosen.ratio} {spread(chosen.accuracy)} of the "
        f"{result.measure} are right; by reader {told}{guess}."
    )
    seeds = max((one.seeds for one in picture.columns), key=len)
    rows = []
    for one in picture.columns:
        by_seed = dict(zip(one.seeds, one.accuracy, strict=True))
        rows.append(
            (
                name_of(one),
                (one.reader == "latents" and picture.packed(one.ratio)) or "–",
                *(percent(by_seed[s], 1) if s in by_seed else "–" for s in seeds),
                ", ".join(dict.fromkeys(map(str, one.steps))),
                "yes" if all(one.reached) else "no",
            )
        )
    return View(
        summary=summary[:1].upper() + summary[1:],
        timeline=Timeline(frames=frames, axis="training", pace_ms=600, told_last=True),
        figures={
            "curves": partial(curves_figure, result),
        },
        readouts=frames[0].readouts,
        values={"ratio": chosen.ratio},
        table=Table(
            (
                "reader",
                "records in a bead",
                *(f"seed {seed}" for seed in seeds),
                "steps",
                "nothing more gained",
            ),
            tuple(rows),
        ),
        code=(
            "from intuitive.lclm.experiments.recall import RecallParams, run\n\n"
            f'result = run(RecallParams.from_text(\n    "{params.to_text()}"\n))\n'
            "[(one.ratio, one.accuracy) for one in result.points]"
        ),
    )


def curves_figure(result: RecallResult) -> theme.Figure:
    """Accuracy against steps: the chosen ratio and the raw readers, every seed."""
    styles = {
        "latents": (theme.BLUE, "solid"),
        "raw": (theme.GREY, "solid"),
        "smeared": (theme.GREY, "dot"),
    }
    traces = []
    for one in (result.chosen, *result.controls):
        colour, dash = styles[one.reader]
        for i, curve in enumerate(one.curves):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": name_of(one),
                    "showlegend": i == 0,
                    "x": curve.steps,
                    "y": curve.accuracy,
                    "line": {"color": colour, "dash": dash, "width": 2},
                    "opacity": 0.6 if one.budget != result.params.budget else 1.0,
                }
            )
    shapes = []
    if result.guess is not None:
        shapes.append(theme.line(y=result.guess, colour=theme.GREY, dash="dash"))
    return theme.figure(
        traces,
        x="training step",
        y=f"right {result.measure}",
        y_range=(0, 1.03),
        yaxis={"tickformat": ".0%"},
        shapes=shapes,
        showlegend=True,
        legend={"font": {"size": 12}},
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Recall and reconstruction against the ratio, as committed miniatures learned them.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `ratio=16`.
    """
    return Explorer(
        name="lclm_recall",
        title="What fits into a bead",
        params=Shown,
        compute=compute,
        present=present,
        hero=Hero(label="A text with its beads, and right answers by ratio while they are learned"),
        controls=(
            Choice(
                name="what",
                label="Task",
                options={name: title(one) for name, one in sets().items()},
            ),
            Range(name="ratio", label="Tokens per bead", values=RATIOS),
        ),
        steps=_steps(),
        plots=(
            Plot(
                name="curves",
                label="Right answers against training steps",
                caption="Every line is a seed. Dashed: the guess.",
                tab="Learning",
                height=320,
            ),
        ),
        predict=predict,
        defaults={"what": next(iter(sets())), "ratio": 8, **values},
    )


def _steps() -> tuple[Step, ...]:
    return (
        Step(
            title="Watch them learn",
            text="Play. Each dot is a seed. Who leaves the dashed line, and when?",
            frame="play",
        ),
        Step(
            title="Two in a bead",
            text="Beads of 16: two records share each. Does a seed leave the dashed line? On it, "
            "which values occur is known, and not which key has which.",
            sets={"ratio": 16},
            frame="last",
        ),
        Step(
            title="One token each",
            text="Beads of 1: a key and its value lie in two beads, as in raw text. Is it as hard "
            "as raw text?",
            sets={"ratio": 1},
            frame="last",
        ),
        Step(
            title="Fewer in a bead",
            text="Beads of 4: one record in every other bead, nothing in the rest. Does that hurt?",
            sets={"ratio": 4},
            frame="last",
        ),
    )
