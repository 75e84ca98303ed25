"""The contest of residency policies: what was at hand, and what was moved for it."""

import dataclasses
import math
from functools import partial
from typing import Any

from intuitive.lsa.exercise import Choose
from intuitive.lsa.experiments import contest as experiment
from intuitive.lsa.experiments import threshold
from intuitive.lsa.experiments.contest import ROOMS, SHOWN, ContestParams, ContestResult

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
    fixed,
    percent,
)
from .contest_scene import MEASURES, NAMES, Picture
from .threshold import first_text

LOOKAHEADS = (8, 16, 32, 64, 128)
ROOM = ROOMS.index(16)  # at which the prediction is judged
LINES = {
    "lsa": (theme.PURPLE, "solid", 3),
    "reactive": (theme.VERMILION, "solid", 3),
    "oracle": (theme.GREEN, "dash", 1.5),
    "quest": (theme.BLUE, "dash", 1.5),
    "recency": ("#B58100", "dot", 1.5),
    "random": (theme.GREY, "dot", 1.5),
    "yours": (theme.GREEN, "solid", 3),
}


def _who_moves_more() -> tuple[int, str]:
    result = experiment.run(ContestParams(text=first_text()))
    lsa, reactive = (result.entries[arm][ROOM] for arm in ("lsa", "reactive"))
    more = Picture(result).times_more(ROOM)
    return 0 if more < 2 else 1 if more < 8 else 2, (
        f"It copies {fixed(reactive.copied, 1)} chunks per step, LSA {fixed(lsa.copied, 2)}: "
        f"{fixed(more, 0 if more >= 10 else 1)} times as many. In return it has everything that is "
        f"needed, and LSA {percent(lsa.needed)}."
    )


PREDICT = Predict(
    question=(
        f"Both have room for {ROOMS[ROOM]} old chunks. LSA decides once in 64 steps and misses "
        "some; the other fetches in every step whatever its selector asks for, and misses "
        "nothing. How much more does the other copy?"
    ),
    choices=("hardly more than LSA", "about four times as much", "ten times as much, or more"),
    answer=_who_moves_more,
)


def windows_figure(result: ContestResult) -> theme.Figure:
    """What is found against the window's length, with room for `ROOMS[ROOM]` chunks."""
    measure = result.params.measure
    traces = []
    for arm in SHOWN:
        colour, dash, width = LINES[arm]
        shares = []
        for lookahead in LOOKAHEADS:
            params = dataclasses.replace(result.params, lookahead=lookahead, measure="needed")
            shares.append(experiment.entry(params, arm, ROOMS[ROOM]).share(measure))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": NAMES[arm],
                "x": LOOKAHEADS,
                "y": shares,
                "line": {"color": colour, "dash": dash, "width": width},
            }
        )
    return theme.figure(
        traces,
        x="steps between two decisions, τ",
        y=MEASURES[measure],
        x_range=(math.log10(7), math.log10(150)),
        y_range=(0, 1.05),
        xaxis={"type": "log", "tickvals": LOOKAHEADS, "ticktext": [str(t) for t in LOOKAHEADS]},
        showlegend=True,
        legend={"font": {"size": 12}},
    )


def rooms_figure(result: ContestResult) -> theme.Figure:
    """What is found against the share of old chunks that is on the GPU."""
    measure = result.params.measure
    traces = []
    for arm in result.entries:
        colour, dash, width = LINES[arm]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": NAMES[arm],
                "x": [e.kept for e in result.entries[arm]],
                "y": [e.share(measure) for e in result.entries[arm]],
                "line": {"color": colour, "dash": dash, "width": width},
            }
        )
    return theme.figure(
        traces,
        x="share of the old chunks on the GPU",
        y=MEASURES[measure],
        x_range=(0, 0.65),
        y_range=(0, 1.05),
        showlegend=True,
        legend={"font": {"size": 12}},
    )


def present(result: ContestResult) -> View:
    params, frames = result.params, Picture(result).frames()
    lsa, reactive = (result.entries[arm][ROOM] for arm in ("lsa", "reactive"))
    late = ", one window late" if params.lag else ""
    what = "needed chunks" if params.measure == "needed" else "attention"
    summary = (
        f"With room for {ROOMS[ROOM]} old chunks and a decision every {params.lookahead} steps"
        f"{late}, LSA has {percent(lsa.share(params.measure))} of the {what} at hand and copies "
        f"{fixed(lsa.copied)} chunks per step; fetching on demand has "
        f"{percent(reactive.share(params.measure))} and copies {fixed(reactive.copied)}."
    )
    rows = tuple(
        (
            NAMES[arm],
            str(e.room),
            percent(e.needed),
            percent(e.attention),
            percent(e.kept, 1),
            fixed(e.copied),
            percent(e.refetched),
        )
        for arm in result.entries
        for e in result.entries[arm]
    )
    return View(
        summary=summary,
        timeline=Timeline(frames=frames, axis="room on the GPU", pace_ms=1000),
        figures={
            "rooms": partial(rooms_figure, result),
            "windows": partial(windows_figure, result),
        },
        readouts=frames[0].readouts,
        table=Table(
            (
                "policy",
                "room",
                "needed",
                "attention",
                "of old chunks",
                "copied per step",
                "seen before",
            ),
            rows,
        ),
        code=(
            "from intuitive.lsa.experiments.contest import ContestParams, run\n\n"
            f'result = run(ContestParams.from_text(\n    "{params.to_text()}"\n))\n'
            'result.entries["lsa"][2].needed, result.entries["reactive"][2].copied'
        ),
    )


def explorer(
    *, predict: Predict | None = None, choose: Choose | None = None, **values: Any
) -> Explorer:
    """Every residency policy by what it moves and what it has at hand.

    Args:
        predict: a question asked before the sliders unlock.
        choose: a rule of the reader's own (`intuitive.lsa.exercise`), shown beside the others.
        values: first control values, such as `lookahead=16`.
    """
    first = dataclasses.asdict(ContestParams(text=first_text()))
    del first["tail"]
    options = {name: name.replace("_", " ") for name in threshold.recordings()}
    return Explorer(
        name="lsa_contest",
        title="The contest",
        params=ContestParams,
        compute=partial(experiment.run, choose=choose),
        present=present,
        hero=Hero(label="Policies by what they copy and what they have at hand"),
        controls=(
            Range(name="lookahead", label="Window, τ steps", values=LOOKAHEADS, heavy=True),
            Choice(name="text", label="Recording", options=options, heavy=True),
            Choice(
                name="measure",
                label="What counts",
                options={"needed": "needed chunks", "attention": "attention"},
            ),
            Range(
                name="lag",
                label="Decisions come late by",
                min=0,
                max=1,
                unit="windows",
                more=True,
                heavy=True,
            ),
            Range(name="layers", label="Layers joined", min=1, max=3, more=True, heavy=True),
        ),
        steps=(
            Step(
                title="Give them room",
                text="Play. All get room for more and more old chunks, the same for all. Who "
                "climbs first, and who moves to the right?",
                frame="play",
            ),
            Step(
                title="One window late",
                text="The copy runs beside the computing, so each decision is one window old. LSA "
                "sinks; fetching on demand does not care.",
                sets={"lag": 1},
                frame="16 chunks",
            ),
            Step(
                title="Ask more often",
                text="A decision every 8 steps: LSA is as good or better, and moves to the right, "
                "since it copies more often.",
                sets={"lookahead": 8},
                frame="16 chunks",
            ),
        ),
        plots=(
            Plot(
                name="rooms",
                label="What is found against the share of chunks on the GPU",
                caption="All but fetching on demand have the same number of chunks. The oracle "
                "knows what the window will need.",
                tab="Room",
                height=320,
            ),
            Plot(
                name="windows",
                label="What is found against the steps between two decisions",
                caption=f"With room for {ROOMS[ROOM]} old chunks.",
                tab="Windows",
                height=320,
            ),
        ),
        predict=predict,
        defaults={**first, **values},
    )
