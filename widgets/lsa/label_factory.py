"""The label factory: softmax, top-p, votes and union, step by step over one window."""

import dataclasses
from functools import partial
from typing import Any

from intuitive.lsa.experiments import label_factory as experiment
from intuitive.lsa.experiments.label_factory import LAYERS, LabelParams, LabelResult

from .. import theme
from ..kit import (
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
from .label_factory_scene import Picture

GOLD = "#B58100"  # the gold of scenes


def _how_many_are_left() -> tuple[int, str]:
    result = experiment.run(LabelParams())
    found, naive = int(result.found[-1].sum()), int(result.naive[-1].sum())
    share = found / result.at_trigger
    return 0 if share > 0.42 else 1 if share > 0.2 else 2, (
        f"{found} of {result.at_trigger} chunks are labels; every layer's best together are "
        f"{naive}. One step needs little, layers that agree are rare, and neighbouring steps "
        "need the same again."
    )


PREDICT = Predict(
    question=(
        "In each of 64 steps each of 8 layers marks its best 32 of 96 chunks. Kept are the fewest "
        "that reach 60% of a layer's softmax, and of those only what 3 layers agree on. How much "
        "of the text is marked after all 64 steps?"
    ),
    choices=("about half of it", "about a third of it", "about a tenth of it"),
    answer=_how_many_are_left,
)


def strictness_figure(result: LabelResult) -> theme.Figure:
    """Labels of the window against the votes needed, by top-p, and the setting shown."""
    votes = list(range(1, LAYERS + 1))
    styled = zip(experiment.STRICT, theme.SEQUENCE, theme.DASHES, strict=False)
    curves = experiment.strictness(result.params)
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": f"top-p {percent(top_p)}",
            "x": votes,
            "y": curves[top_p],
            "line": {"color": colour, "dash": dash},
        }
        for top_p, colour, dash in styled
    ]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "shown above",
            "x": [result.params.votes],
            "y": [int(result.found[-1].sum())],
            "marker": {"color": GOLD, "size": 13, "symbol": "diamond"},
        }
    )
    return theme.figure(
        traces,
        x="votes needed, of eight layers",
        y="labels of the window",
        x_range=(0.7, LAYERS + 0.3),
        y_range=(0, 1.05 * result.at_trigger),
        showlegend=True,
    )


def present(result: LabelResult) -> View:
    params, picture = result.params, Picture(result)
    found, naive = int(result.found[-1].sum()), int(result.naive[-1].sum())
    late = int(result.late[-1].sum())
    voices = "vote" if params.votes == 1 else "votes"
    summary = (
        f"A window of {params.lookahead} {'step' if params.lookahead == 1 else 'steps'}: every "
        f"layer's best {params.top_k} together are {naive} of {result.at_trigger} chunks; top-p "
        f"{percent(params.top_p)} and {params.votes} {voices} of {LAYERS} leave {found} labels."
    )
    rows = []
    for step in picture.steps:
        golden, labels, best = picture.counts(step)
        cast = int(result.labels.nucleus[step].sum())
        rows.append(tuple(map(str, (step + 1, cast, golden, labels, best))))
    return View(
        summary=summary,
        timeline=Timeline(frames=picture.frames(), axis="step", pace_ms=800),
        readouts=picture.readouts(0, "logits"),
        figures={"strictness": partial(strictness_figure, result)},
        table=Table(
            ("step", "votes cast", "golden", "labels so far", "every layer's best so far"),
            (*rows, ("written inside the window", "", "", str(late), "")),
        ),
        code=(
            "from intuitive.lsa.experiments.label_factory import LabelParams, run\n\n"
            f'result = run(LabelParams.from_text("{params.to_text()}"))\n'
            "int(result.found[-1].sum()), int(result.naive[-1].sum())"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """How the answers are made that the Memory Indexer learns from.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `votes=1`.
    """
    first = dataclasses.asdict(LabelParams())
    del first["seed"]
    return Explorer(
        name="lsa_label_factory",
        title="The label factory",
        params=LabelParams,
        compute=experiment.run,
        present=present,
        hero=Hero(label="Logits of eight layers, their votes, and the labels of one window"),
        controls=(
            Range(
                name="top_p",
                label="Top-p of a layer",
                values=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
                texts=("20%", "30%", "40%", "50%", "60%", "70%", "80%", "90%", "95%"),
            ),
            Range(name="votes", label="Votes needed", min=1, max=LAYERS),
            Range(name="lookahead", label="Window, τ steps", values=(4, 8, 16, 32, 64, 128)),
            Range(name="top_k", label="Chunks that compete", values=(4, 8, 16, 32, 64), more=True),
        ),
        steps=(
            Step(
                title="Run the factory",
                text="Play. The first step goes through the factory, from logits to labels; then "
                "the steps of the window pass, and the two rows at the bottom fill.",
                frame="play",
            ),
            Step(
                title="One vote is enough",
                text="Now every layer's own favourites count. Each layer has other ones, and they "
                "change from step to step. How much of the text is marked?",
                sets={"votes": 1},
                frame="last",
            ),
            Step(
                title="Nearly all the mass",
                text="Top-p at 90%: layers that look everywhere vote for nearly everything. Are "
                "the new labels of the topic, or do votes meet by chance?",
                sets={"top_p": 0.9},
                frame="last",
            ),
            Step(
                title="A longer window",
                text="Twice as many steps. After 64 of them a new topic begins. What becomes "
                "of the labels of the first?",
                sets={"lookahead": 128},
                frame="play",
            ),
        ),
        plots=(
            Plot(
                name="strictness",
                label="Labels of the window against the votes needed",
                caption="One vote keeps what any layer likes; all eight keep only what every layer "
                "looks for.",
                tab="How strict",
                height=300,
            ),
        ),
        predict=predict,
        defaults={**first, **values},
    )
