"""One question on one text, a row for each way of shortening attention."""

import dataclasses
from functools import partial
from typing import Any

from intuitive.arena import results
from intuitive.arena.exercise import Keep
from intuitive.arena.experiments import one_question as experiment
from intuitive.arena.experiments.one_question import OWN, WHOLE, OneQuestion, QuestionParams
from intuitive.arena.memories import budget_of
from intuitive.arena.methods import RATIOS
from intuitive.arena.methods import about as about_method
from intuitive.arena.tasks import TOPICS
from intuitive.arena.words import blocks_and_index, reason, said

from ..kit import (
    Arithmetic,
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Table,
    Text,
    Timeline,
    View,
    percent,
)
from .one_question_figures import (
    about,
    fails_figure,
    length_figure,
    memory_figure,
    shown_length,
    time_figure,
)
from .one_question_scene import PER_DOT, Picture, elsewhere
from .styles import label

FEW = 3  # tokens of an answer that is over soon, and plays slowly
ASKED_AT = 4  # tokens for one entry, in the question
ASK = "This text is about"  # what a text of the reader's own is asked if they ask nothing
WHO = {
    "snapkv": "SnapKV: asked before, it keeps single entries, those the question attends to",
    "lsa": "LSA: asked before, it fetches a few whole chunks of the text",
    "lclm": "LCLM: asked after, it has folded all of the text into latents",
}


def _exact() -> tuple[int, str]:
    """Who repeats a code best, by the committed contest."""
    contest = results.contest()
    n = shown_length(contest)
    shares = [contest.share("exact", n, method, ASKED_AT) or 0.0 for method in WHO]
    told = "; ".join(f"{label(m)} {percent(s)}" for m, s in zip(WHO, shares, strict=True))
    right = max(range(len(shares)), key=shares.__getitem__)
    held = [
        f"{label(m)} {percent(contest.held('exact', n, m, ASKED_AT))}" for m in ("snapkv", "lsa")
    ]
    return right, (
        f"Codes of eight signs in texts of {n} tokens, room for one entry in {ASKED_AT}: {told}. "
        f"Of the code's place is held, on average: {'; '.join(held)}. What LSA holds is whole, in "
        "all layers and heads."
    )


PREDICT = Predict(
    question=(
        "A code of eight signs stands somewhere in a long text. There is room for one entry in "
        "four, and then the code is asked for. Which of these three says it most often?"
    ),
    choices=tuple(WHO.values()),
    answer=_exact,
)


def present(result: OneQuestion) -> View:
    """The frames, and every method's numbers and sentence."""
    picture = Picture(result)
    taking = sum(not row.absent for row in result.rows)
    outcome = (
        f"{taking} methods answer “{result.ask} …”"
        if result.answer
        else "; ".join(f"{label(row.method)}: “{said(row)}”" for row in result.rows if row.said)
    )
    params = QuestionParams(
        question=result.question, ratio=result.ratio, ask=result.ask if not result.answer else ""
    )
    rows = tuple(
        (
            label(row.method),
            about_method(row.method).asked,
            *_sizes(row),
            said(row) or "–",
            {True: "right", False: "wrong", None: "–"}[row.right],
            reason(row, result),
        )
        for row in result.rows
    )
    return View(
        summary=f"With room for one entry in {result.ratio} of {result.n} tokens: {outcome}",
        timeline=Timeline(
            frames=picture.frames(),
            axis="answer",
            start=0,
            pace_ms=1100 if picture.steps > FEW else 2200,
        ),
        arithmetic={f"method:{row.method}": _line(result, row) for row in result.rows},
        figures=_figures(result) if recorded() else {},
        readouts=picture.readouts(-1),
        table=Table(_COLUMNS, rows),
        code=experiment.code(params),
        values={"question": OWN, "ask": result.ask} if result.question == OWN else {},
    )


def _figures(result: OneQuestion) -> dict[str, partial]:
    """What the tabs show: of the task of the menu, at the budget of the slider."""
    task = None if result.question == OWN else result.question
    chosen = {"ratio": result.ratio}
    return {
        "memory": partial(memory_figure, 0, task=task, **chosen),
        "read": partial(memory_figure, 1, task=task, **chosen),
        "time": partial(time_figure, "ttft_ms", **chosen),
        "token": partial(time_figure, "token_ms", **chosen),
        "length": partial(length_figure, result.ratio, task=task),
        "fails": partial(fails_figure, result.ratio),
    }


_COLUMNS = ("method", "asked", "holds", "elsewhere", "reads", "says", "verdict", "why")


def _sizes(row: experiment.Row) -> tuple[str, str, str]:
    """What a method holds, keeps elsewhere and reads; of MSA's reading both parts."""
    if row.absent:
        return "–", "–", "–"
    read = percent(row.read)
    if row.method == "msa":
        blocks, index = map(percent, blocks_and_index(row))
        read = f"{read}: {blocks} blocks, {index} index keys"
    return percent(row.resident), elsewhere(row), read


def _line(result: OneQuestion, row: experiment.Row) -> Arithmetic:
    budget = budget_of(result.n, result.ratio)
    name = about_method(row.method)
    told = [f"{name.label} {name.does}."]
    if row.method not in WHOLE:
        told.append(
            f"Room: {result.n}/{result.ratio} + 2 = {budget} entries, "
            f"{percent(budget / result.n, 1)} of {result.n}."
        )
    if not row.absent:
        told.append(
            f"It holds {percent(row.resident, 1)} and reads {percent(row.read, 1)} for each token"
            f"{_more(row)}."
        )
    return Arithmetic(text=" ".join([*told, reason(row, result, verdict=False)]))


def _more(row: experiment.Row) -> str:
    """What the two shares do not say: what lies elsewhere, what reading consists of."""
    more = ""
    if row.method == "msa":
        blocks, index = (percent(share, 1) for share in blocks_and_index(row))
        more = f": {blocks} of the entries in blocks, and all index keys, {index}"
    if row.elsewhere:
        more += f"; {percent(row.elsewhere)} lies elsewhere, on the CPU"
    if row.method == "lclm_expand":
        more += "; the text's own tokens lie elsewhere"
    if row.beads:
        more += f"; a latent stands for {row.beads} tokens"
    return more


def params_of(*, question: str, text: str = "", ask: str = "", ratio: int) -> QuestionParams:
    """A text or a question of the reader's own counts for more than the menu."""
    if text or ask:
        question = OWN
    ask = ask or (ASK if question == OWN else "")
    return QuestionParams(question=question, ratio=ratio, text=text, ask=ask)


def recorded() -> bool:
    """Whether there is a committed contest to draw."""
    return results.results.path(results.RESULT).is_file()


def explorer(
    *, predict: Predict | None = None, keep: Keep | None = None, **values: Any
) -> Explorer:
    """One question, every method, at one budget.

    Args:
        predict: a question asked before the sliders unlock.
        keep: the reader's own choice of what stays (`intuitive.arena.exercise`).
        values: first control values, such as `ratio=16`.
    """
    own = {"question": OWN}
    return Explorer(
        name="arena_one_question",
        title="One question, the same memory",
        params=params_of,
        compute=partial(experiment.run, keep=keep),
        present=present,
        hero=Hero(
            label="One text as a strip per method: what it kept, what it reads, what it says",
            caption="A faint green is a stretch of the text of which little is held: few of its "
            f"tokens, or in few layers and heads. A blue dot is {PER_DOT} latents. A bar's height "
            "is the share of the attention, under a square root. MSA holds its whole outline; "
            "green in it is what its answer's tokens read.",
        ),
        controls=(
            Choice(
                name="question",
                label="Question",
                options={
                    "needle": "a needle: one name",
                    "exact": "a code, sign by sign",
                    "topic": "what a passage is about",
                    OWN: "your own (More controls)",
                },
                sets={name: {"text": "", "ask": ""} for name in experiment.QUESTIONS},
                heavy=True,
            ),
            Range(
                name="ratio",
                label="Tokens per entry kept",
                values=RATIOS,
                heavy=True,
                live=False,
            ),
            Text(
                name="text",
                label="Your own text",
                sets=own,
                more=True,
                heavy=True,
                opens=0 if values else experiment.N,
            ),
            Text(
                name="ask",
                label="Your question: the beginning of a sentence that the text finishes",
                button="Ask this",
                sets=own,
                more=True,
                heavy=True,
            ),
        ),
        steps=_steps(),
        plots=_plots(),
        predict=predict,
        defaults={**dataclasses.asdict(QuestionParams()), **values},
    )


def _steps() -> tuple[Step, ...]:
    return (
        Step(
            title="One needle",
            text="Play: the text is read, shortened, and asked for a name. Click a method for its "
            "reckoning.",
            sets={"question": "needle"},
            frame="play",
        ),
        Step(
            title="A code",
            text="The same memory, and now eight signs that must all be right. Who holds all of "
            "the dashed box, who a part, and is a part enough?",
            sets={"question": "exact"},
            frame="play",
        ),
        Step(
            title="One in sixteen",
            text="One entry in sixteen, where it was one in four. Does anybody still hold all of "
            "the box? And MSA, which holds everything: does it read it?",
            sets={"question": "exact", "ratio": 16},
            frame="play",
        ),
        Step(
            title="A topic",
            text="Still one entry in sixteen. One sentence names the topic, five more speak of "
            f"it; there are {len(TOPICS)} topics to guess from. Are more right than with the code?",
            sets={"question": "topic", "ratio": 16},
            frame="play",
        ),
    )


def _plots() -> tuple[Plot, ...]:
    if not recorded():
        return ()
    contest = results.contest()
    told = about(contest)
    away = percent(contest.bytes_of("lsa", ASKED_AT, n=shown_length(contest))[2])
    large = "Large marks are the slider's budget, small ones the other two."
    return (
        Plot(name="memory", label="Share right against bytes in memory",
             caption=f"Bytes on the GPU: LSA keeps {away} elsewhere, on the CPU. The task is the "
             "menu's; with a question of your own it is the mean of all three, which measure "
             f"different things. {told}",
             span=6, tab="Memory", height=460),
        Plot(name="read", label="Share right against bytes read by each token",
             caption="MSA keeps everything and reads less, its index keys each time: this is its "
             f"plot. All others but dense stand as in the other one, and are named there. {large} "
             "MSA's say theirs.",
             span=6, tab="Memory", height=460),
        Plot(name="length", label="Share right against the length of the text, at this budget",
             caption="The same share of a longer text is more room: MSA chooses among more blocks, "
             "LSA fetches more chunks. A latent still folds as many tokens. Recorded as the other "
             "tabs, with as many texts of each length.", tab="Longer texts", height=480),
        Plot(name="fails", label="Share right by task at this budget",
             caption=told, tab="Who fails", height=720),
        Plot(name="time", label="Time to the first token, by method and budget",
             caption=f"{NO_RANK} {large} {told}", span=6, tab="Time", height=380),
        Plot(name="token", label="Time per token after it, by method and budget",
             caption=NO_RANK, span=6, tab="Time", height=380),
    )  # fmt: skip


NO_RANK = (
    "These times do not rank the methods: a small model is called from Python, one text at a time, "
    "and the GPU mostly waits. Methods that hold as much differ by chance."
)
