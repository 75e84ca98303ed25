"""The contest of residency policies: what was at hand, and what was moved for it."""

import dataclasses
from functools import partial
from typing import Any

from intuitive.lsa.exercise import Choose
from intuitive.lsa.experiments import contest as experiment
from intuitive.lsa.experiments.contest import ROOMS, ContestParams, ContestResult, Entry
from intuitive.lsa.experiments.threshold import recordings

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
from . import styles
from .contest_figures import (
    LOOKAHEADS,
    ROOM,
    answers_by_bytes,
    answers_by_length,
    answers_by_room,
    answers_by_window,
    perplexity_by_copies,
    perplexity_by_window,
    rooms_figure,
    windows_figure,
)
from .contest_scene import NAMES, Picture


def texts() -> dict[str, str]:
    """Recordings of the menu: the small model's first, then SmolLM2's with everything at hand."""
    known = recordings()
    return {name: title for name, title in styles.RECORDINGS.items() if name in known}


def first_text() -> str:
    """The recording that opens the explorer."""
    return next(iter(texts()), "topical")


LSA_NOW = ("lsa", 0)  # the arm, and windows by which it is late
SMOLLM_ROOM = 8  # old chunks, of the run on SmolLM2 that is told in words


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


def present(result: ContestResult) -> View:
    params, frames = result.params, Picture(result).frames()
    lsa, reactive = (result.entries[arm][ROOM] for arm in ("lsa", "reactive"))
    late = ", one window late" if params.lag else ""
    yours = ""
    if experiment.YOURS in result.entries:
        mine = result.entries[experiment.YOURS][ROOM]
        yours = f" Yours has {_both(mine)} and copies {fixed(mine.copied)}."
    summary = (
        f"With room for {ROOMS[ROOM]} old chunks and a decision every {params.lookahead} steps"
        f"{late}, LSA has {_both(lsa)} at hand and copies {fixed(lsa.copied)} chunks per step; "
        f"fetching on demand has {_both(reactive)} and copies {fixed(reactive.copied)}"
        f"{Picture(result).excess(ROOM)}.{yours} Needed chunks hold only part of the attention; "
        "the rest is spread thinly over all others."
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
            "by_bytes": answers_by_bytes,
            "by_room": answers_by_room,
            "by_window": answers_by_window,
            "by_length": answers_by_length,
            "perplexity": perplexity_by_copies,
            "perplexity_window": perplexity_by_window,
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
            f'result.entries["lsa"][{ROOM}].needed, result.entries["reactive"][{ROOM}].copied'
        ),
    )


def _both(entry: Entry) -> str:
    """Both measures side by side."""
    return (
        f"{percent(entry.needed)} of the needed chunks ({percent(entry.attention)} of all "
        "attention)"
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
    return Explorer(
        name="lsa_contest",
        title="The contest",
        params=ContestParams,
        compute=partial(experiment.run, choose=choose),
        present=present,
        hero=Hero(label="Policies by what they copy and what they have at hand"),
        controls=(
            Range(name="lookahead", label="Window, τ steps", values=LOOKAHEADS, heavy=True),
            Choice(name="text", label="Recording", options=texts(), heavy=True),
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
                text="Play. All get more and more room; fetching on demand takes more if a step "
                "asks for it. Who climbs first?",
                frame="play",
            ),
            Step(
                title="One window late",
                text="Windows of 64 again, each decision one window old. In the first none has "
                "arrived, for the oracle neither. Fetching on demand is never late; its room is "
                "LSA's, so it changes a little.",
                sets={"lag": 1},
                frame=f"{ROOMS[ROOM]} chunks",
            ),
            Step(
                title="Ask more often",
                text="A decision every 8 steps. Does LSA have more of what is needed, and at what "
                "price? Then switch to attention, and look at the tab Late and long: what becomes "
                "of the answers?",
                sets={"lookahead": 8},
                frame=f"{ROOMS[ROOM]} chunks",
            ),
        ),
        plots=(
            Plot(
                name="rooms",
                label="What is found against the share of chunks on the GPU",
                caption="Up to the room shown above. All have the same number of chunks, but "
                "fetching on demand may take more than its room. LSA and those compared with it "
                "spend some of theirs on the newest, which are there anyhow; a rule of your own "
                "does not. The oracle knows what the window will need.",
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
            *_answered_plots(),
            *_predicted_plots(),
        ),
        predict=predict,
        defaults={**first, **values},
    )


def _kept_by_window() -> str:
    """What LSA's threshold keeps with short windows, and with those of its training."""
    found = {p.lookahead: p for p in experiment.answered("lookahead") if (p.arm, p.lag) == LSA_NOW}
    short, usual = LOOKAHEADS[0], experiment.trained_lookahead()
    return (
        f"LSA has {percent(found[short].kept)} of the old chunks there with {short} steps, "
        f"{percent(found[usual].kept)} with {usual}"
    )


def _answered_plots() -> tuple[Plot, ...]:
    """Plots of the committed run in which the model answers, if there is one."""
    if not experiment.is_answered():
        return ()
    recorded = (
        "Recorded by python benchmarks/lsa_arms.py: the small model answers with what is at "
        "hand, three seeds of the indexer and of held-out documents; bars are their range. Bytes "
        "count the chunks that are always there too, once."
    )
    return (
        Plot(
            name="by_bytes",
            label="Right answers against bytes copied per token",
            caption=f"{recorded} Each line is one policy with more and more room.",
            tab="Answers",
            height=320,
        ),
        Plot(
            name="by_room",
            label="Right answers against the share of old chunks on the GPU",
            caption="The same against the room. Fetching on demand and everything resident answer "
            "as the model does.",
            tab="Answers",
            height=320,
        ),
        Plot(
            name="by_window",
            label="Right answers against the steps between two decisions",
            caption="Whatever is set above: held-out texts, by the threshold of one half. So how "
            f"much is kept changes with the window: {_kept_by_window()}. Dotted: each decision "
            "comes one window late. The indexer was trained for windows of "
            f"{experiment.trained_lookahead()} steps.",
            tab="Late and long",
            height=320,
        ),
        Plot(
            name="by_length",
            label="Right answers against the length of the text",
            caption="In lengths of the longest text of the training; by the threshold, which keeps "
            "about the same share, so more and more chunks. With room that does not grow, answers "
            "fall: a question of section 5.",
            tab="Late and long",
            height=320,
        ),
    )


def _with_room() -> str:
    """What the run on SmolLM2 found with one room, and on how many texts."""
    rows = experiment.predicted()
    at = {
        row.arm: row
        for row in rows
        if row.rule == "budget" and (row.size, row.lookahead, row.lag) == (SMOLLM_ROOM, 64, 0)
        if row.layers is None
    }
    lsa, newest, quest = (
        f"{fixed(at[arm].perplexity_returned)} for {fixed(at[arm].chunks_copied_per_64_steps, 1)} "
        "copies"
        for arm in ("lsa", "recency", "quest")
    )
    n = max(row.texts for row in rows)
    return (
        f"Means of {n} held-out texts. With room for {SMOLLM_ROOM}: LSA {lsa}, the newest "
        f"{newest}, Quest {quest}."
    )


def _predicted_plots() -> tuple[Plot, ...]:
    """Plots of the committed run on SmolLM2, if there is one."""
    if not experiment.predicted():
        return ()
    return (
        Plot(
            name="perplexity",
            label="Perplexity of returning passages against chunks copied",
            caption="Recorded by python benchmarks/lsa_smollm.py: SmolLM2 predicts a passage that "
            "returns, what is not at hand masked; lower is better, as if it had to guess among so "
            f"many equally likely tokens. Means over the seeds of the indexers. {_with_room()}",
            tab="SmolLM2",
            height=320,
        ),
        Plot(
            name="perplexity_window",
            label="Perplexity of returning passages against the steps between two decisions",
            caption="With room for eight old chunks.",
            tab="SmolLM2",
            height=320,
        ),
    )
