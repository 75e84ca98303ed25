"""EXPAND, step by step: the model reads latents, names a chunk, gets its words back, answers."""

import dataclasses
from functools import partial
from typing import Any

from intuitive.lclm.exercise import Choose
from intuitive.lclm.experiments import expand as experiment
from intuitive.lclm.experiments.expand import RATIOS, ExpandParams, ExpandResult
from intuitive.lclm.experiments.expand_texts import TEXTS

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
    Toggle,
    View,
    percent,
)
from . import beads_many
from .expand_figures import paper_figure, value_figure, where_figure
from .expand_scene import Picture, matching

ROOMS = (0, 64, 192, 384)  # raw tokens that may come back


PAPER_RATIO = 16
ALONE = (0.05, 1 / 3, 0.95)  # of the answers right from latents alone, by choice of the question


def _alone_and_raw() -> tuple[int, str]:
    """From the committed run; from the texts of the menu where there is none."""
    many = {one.ratio: one for one in experiment.asked()}.get(PAPER_RATIO)
    if many is None:
        found = [experiment.run(ExpandParams(text=text, ratio=PAPER_RATIO)) for text in TEXTS]
        n = len(found)
        alone = sum(one.before == one.answer for one in found) / n
        oracle = sum(one.oracle == one.answer for one in found) / n
        own, over, more = None, f"{n} texts", ""
    else:
        alone, oracle, own = (many.value[name][0] for name in ("alone", "oracle", "own"))
        over = f"{many.questions} questions per seed"
        where = {name: percent(shares[0]) for name, shares in many.where.items()}
        more = (
            f" But it names that chunk in {where['model']} only of the questions, chance is "
            f"{percent(many.where['chance'][0], 1)} and word search "
            f"{where['search']}; with what it names itself {percent(own)} are right."
        )
        if many.where["model"][0] > 0.6:
            more = more.replace(" But it", " It").replace(" only", "")
    right = min(range(len(ALONE)), key=lambda i: abs(ALONE[i] - alone))
    return right, (
        f"Over {over} {percent(alone)} are right from latents alone and {percent(oracle)} with the "
        f"right chunk raw.{more}"
    )


PREDICT = Predict(
    question=(
        "SmolLM2 reads a text as latents of 16 tokens each and is asked for a fact in it, such as "
        "a code of four digits. How often is it right from the latents alone, and how often if the "
        "right chunk comes back as words?"
    ),
    choices=(
        "alone hardly ever, with the words nearly always",
        "alone one time in three, with the words nearly always",
        "nearly always in both cases",
    ),
    answer=_alone_and_raw,
)


def present(result: ExpandResult) -> View:
    picture, params = Picture(result), result.params
    right = result.chosen == result.holder
    named = "the chunk that holds the answer" if right else "a chunk that does not hold it"
    n = len(result.answer)
    before, after = (matching(said, result.answer) for said in (result.before, result.after))
    shuffled = " with the latents shuffled" * params.shuffled
    untrained = (
        "" if result.trained else " The trained weights are missing: this pair is untrained."
    )
    finding = f" Your rule did not decide: {result.finding}" if result.finding else ""
    summary = (
        f"At {params.ratio} tokens per latent{shuffled} the model names {named}; it has {before} "
        f"of {n} characters right from latents alone and {after} once {len(result.expanded)} of "
        f"{len(result.chunks)} chunks came back as raw text, for {result.positions_after} instead "
        f"of {result.positions_before} decoder positions.{untrained}{finding}"
    )
    rows = tuple(
        (
            f"[{chunk.id}]",
            str(chunk.n_tokens),
            str(chunk.n_latents),
            percent(chunk.share, 1),
            "yes" if chunk.id == result.holder else "no",
            "yes" if chunk.id in result.expanded else "no",
        )
        for chunk in result.chunks
    )
    return View(
        summary=summary,
        timeline=Timeline(frames=picture.frames(), axis="stage", pace_ms=1500, told_last=True),
        arithmetic=picture.arithmetic(),
        figures={"where": where_figure, "value": value_figure, "paper": paper_figure}
        | beads_many.FIGURES,
        readouts=picture.frames()[0].readouts,
        table=Table(
            ("chunk", "raw tokens", "latents", "probability", "holds it", "came back"), rows
        ),
        code=(
            "from intuitive.lclm.experiments.expand import ExpandParams, run\n\n"
            f'result = run(ExpandParams.from_text("{params.to_text()}"))\n'
            "result.chosen, result.holder, result.before, result.after"
        ),
    )


def explorer(
    *, predict: Predict | None = None, choose: Choose | None = None, **values: Any
) -> Explorer:
    """A text in chunks, of which the model reads latents and gets raw text back.

    Args:
        predict: a question asked before the sliders unlock.
        choose: the reader's own rule for what comes back (`intuitive.lclm.exercise`).
        values: first control values, such as `ratio=16`.
    """
    return Explorer(
        name="lclm_expand",
        title="Look closer",
        params=ExpandParams,
        compute=partial(experiment.run, choose=choose),
        present=present,
        hero=Hero(label="A text in chunks, the model's probability of each id, and its answers"),
        controls=(
            Range(name="ratio", label="Tokens per latent", values=RATIOS, heavy=True, live=False),
            Range(
                name="room",
                label="Room for words",
                values=ROOMS,
                texts=("none", *map(str, ROOMS[1:])),
                heavy=True,
                live=False,
            ),
            Toggle(name="shuffled", label="Shuffle the latents", heavy=True),
            Choice(
                name="text",
                label="Text",
                options={name: text.title for name, text in TEXTS.items()},
                more=True,
                heavy=True,
            ),
        ),
        steps=_steps(),
        plots=_many_plots(),
        predict=predict,
        defaults={**dataclasses.asdict(ExpandParams()), **values},
    )


def _steps() -> tuple[Step, ...]:
    return (
        Step(
            title="One trace",
            text="Play. From latents it says the right digits in a wrong order. It names a chunk, "
            "gets its words back, and reads the code.",
            frame="play",
        ),
        Step(
            title="Fold less",
            text="4 tokens in each latent. Look at what it says from latents alone: what is left "
            "for EXPAND to do?",
            sets={"ratio": 4},
            frame="last",
        ),
        Step(
            title="Fold harder",
            text="16 tokens in each latent: now it names a chunk that does not hold the code. On "
            "the right, what it would say with the chunk that does.",
            sets={"ratio": 16},
            frame="last",
        ),
        Step(
            title="Shuffle the latents",
            text="Latents trade places among the ids, words do not; each row says whose it is. "
            "Which row does it name, and which words come back?",
            sets={"shuffled": True},
            frame="last",
        ),
        Step(
            title="More room",
            text="At 16, with room for all. The right chunk comes back among the others, and the "
            "bill is higher than for the raw text.",
            sets={"ratio": 16, "room": 384},
            frame="last",
        ),
    )


def _many_plots() -> tuple[Plot, ...]:
    """Plots of the committed run, if there is one, and of the paper's table."""
    paper = Plot(
        name="paper",
        label="The paper: right answers at 16 tokens per latent, alone and with EXPAND",
        caption="Needles in a haystack by the length of the text, Table 33: 4B decoder, 0.6B "
        "encoder. Dotted: from latents alone; solid: with EXPAND.",
        tab="The paper",
        height=320,
    )
    found = experiment.asked()
    if not found:
        return (paper,)
    return (
        Plot(
            name="where",
            label="How often the right chunk is named, by tokens per latent",
            caption=f"Recorded by python benchmarks/lclm_smollm.py: {found[0].questions} questions "
            f"per seed about texts of {found[0].chunks} chunks, of which nothing was trained on. "
            "Bars are the range of the seeds. At 1 all chunks are raw.",
            span=6,
            tab="Many texts",
            height=320,
        ),
        Plot(
            name="value",
            label="How often the whole answer is right, by tokens per latent",
            caption="Each line: which chunk came back as raw text before the answer.",
            span=6,
            tab="Many texts",
            height=320,
        ),
        paper,
        *beads_many.plots(),
    )
