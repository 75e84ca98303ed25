"""Words fold into beads: what is left of a text when N tokens become one position."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from intuitive.lclm.experiments import beads as experiment
from intuitive.lclm.experiments.beads import (
    EXPANDS,
    LONGEST,
    MOST_CHUNKS,
    Beads,
    BeadsParams,
    counted,
)
from intuitive.lclm.experiments.passages import PASSAGES
from intuitive.lclm.experiments.reading import NAMED, NOTHING, PairLike
from intuitive.lclm.smollm import RATIOS

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
    Text,
    Timeline,
    View,
    fixed,
    percent,
)
from .beads_figures import kinds_figure, labels_figure, map_figure, place_figure
from .beads_scene import Picture
from .beads_words import Account, label
from .styles import KIND_NAMES

PACE_MS = 1100
OWN = "own"
SOURCES = {name: passage.title for name, passage in PASSAGES.items()} | {OWN: "your own, pasted"}
PASTE = "Paste your text below and press Use this text; until then this is the letter. "
WORDS_BACK = {
    NOTHING: "nothing",
    NAMED: "the chunk that it names",
    **{str(i): f"chunk {i}" for i in range(1, MOST_CHUNKS + 1)},
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """The controls; a text or question of the reader's own counts for more than the chosen one."""

    source: str
    text: str
    question: str
    beads: BeadsParams

    @classmethod
    def of(
        cls, *, source: str = "letter", text: str = "", question: str = "", **settings: Any
    ) -> "Page":
        if source not in SOURCES:
            raise ValueError(f"source={source!r} is unknown; choose one of {', '.join(SOURCES)}.")
        passage = "letter" if source == OWN else source
        beads = BeadsParams(passage=passage, **settings)
        return cls(source=source, text=text, question=question, beads=beads)


@dataclass(frozen=True, eq=False)
class Shown:
    """A result and the controls that it belongs to."""

    page: Page
    found: Beads


def compute(page: Page, *, stale: Any, progress: Any, pair: PairLike | None = None) -> Shown:
    """The text of the page, folded and read."""

    def told(fraction: float, sentence: str, so_far: Beads | None = None) -> None:
        progress(fraction, sentence, None if so_far is None else Shown(page, so_far))

    own = {"text": page.text, "question": page.question}
    found = experiment.run(page.beads, **own, pair=pair, stale=stale, progress=told)
    return Shown(page, found)


def present(shown: Shown) -> View:
    page, found = shown.page, shown.found
    picture, read = Picture(found), found.reading is not None
    source = OWN if page.text else page.source
    hint = PASTE if source == OWN and not page.text else ""
    return View(
        summary=hint + summary_of(found),
        timeline=Timeline(frames=picture.frames(), axis="stage", pace_ms=PACE_MS, told_last=True),
        arithmetic=picture.say.arithmetic(),
        related={f"reading:{i}": (f"bead:{found.opened}",) for i in range(found.params.ratio)},
        figures={
            "map": partial(map_figure, found) if read else theme.figure([]),
            "places": partial(place_figure, found) if read else theme.figure([]),
            "kinds": partial(kinds_figure, found) if read else theme.figure([]),
            "labels": partial(labels_figure, found),
        },
        table=_table(found) if read else None,
        code=_code(page),
        bounds={"token": (-1, found.n_tokens - 1), "expand": _words_back(found)},
        values={"source": source},
    )


def _words_back(found: Beads) -> tuple[str, ...]:
    """What EXPAND can bring back of this text: what its question asks for, and chunks it has."""
    named = (NAMED,) if found.passage.question else ()
    return (NOTHING, *named, *(str(i + 1) for i in range(len(found.chunks))))


def summary_of(found: Beads) -> str:
    """The outcome in words."""
    say = Account(found)
    counts = (
        f"{found.passage.title}, {found.params.ratio} tokens per bead: "
        f"{counted(found.n_tokens, 'token')} take {found.n_positions} decoder positions, "
        f"{fixed(found.effective_ratio, 1)} tokens per position."
    )
    if found.reading is None:
        return counts
    right = int(say.reads_right.sum())
    kinds = say.kept_text()
    told = f"{counts} {right} of {found.n_tokens} tokens can be read back"
    guessed = int((found.guessed & found.reads_right).sum())
    told += (
        f", {guessed} of these without any bead: the beads tell {right - guessed}. "
        f"{kinds}{'.' * bool(kinds)}"
    )
    if found.expanded is not None:
        who = "The model named" if found.params.expand == NAMED else "Raw again:"
        told += f" {who} chunk {found.expanded + 1}."
    if found.passage.secret and found.answer:
        n = len(found.passage.secret)
        told += f" Its answer has the first {found.right_letters} of {n} characters right."
    elif found.answer:
        told += say.unjudged()
    return told


def _table(found: Beads) -> Table:
    rows = [
        (
            str(token),
            label(word),
            KIND_NAMES[kind],
            f"{found.groups.index(group) + 1}",
            fixed(float(found.reading.log_probability[token])),
            *_likeliest(found, token),
        )
        for group in found.groups
        for token, word, kind in ((i, found.words[i], found.kinds[i]) for i in group)
    ]
    header = ("token", "was", "kind", "bead", "ln p", "likeliest", "second", "third")
    return Table(header, tuple(rows))


def _likeliest(found: Beads, token: int) -> tuple[str, ...]:
    tops, ps = found.reading.top_words[token], found.reading.top_probability[token].tolist()
    return tuple(f"{label(top)} {percent(p)}" for top, p in zip(tops, ps, strict=True))


def _code(page: Page) -> str:
    own = ", text=..." * bool(page.text) + ", question=..." * bool(page.question)
    return (
        "from intuitive.lclm.experiments import beads\n\n"
        f'params = beads.BeadsParams.from_text(\n    "{page.beads.to_text()}"\n)\n'
        f"found = beads.run(params{own})\n"
        'found.n_positions, found.reads_right.mean(), "".join(found.answer)'
    )


# ------------------------------------------------------------------------------- the question


def _digits_at_sixteen() -> tuple[int, str]:
    found = experiment.run(BeadsParams(ratio=16))
    right, n = found.read_of("number")
    words, n_words = found.read_of("word")
    digits_alone, alone = (
        int((found.is_kind(kind) & found.guessed).sum()) for kind in ("number", "word")
    )
    share = right / n
    return (0, 1, 2)[(share > 0.25) + (share > 0.75)], (
        f"{right} of its {n} digits are read right, and {words} of {n_words} pieces of ordinary "
        f"words. Without any bead it guesses {digits_alone} of the digits and {alone} of the "
        "pieces of words, since a word leans on the words before it and a digit leans on nothing."
    )


PREDICT = Predict(
    question=(
        "A letter of 256 tokens holds four numbers, a pass code among them: twelve digits. Sixteen "
        "tokens at a time fold into one vector, and SmolLM2 has to read the letter back from 16 "
        "such vectors. How many of the digits will it read right?"
    ),
    choices=("hardly any", "about half", "nearly all"),
    answer=_digits_at_sixteen,
)

STEPS = (
    Step(
        title="Fold by four",
        text="Four tokens become one bead, and the ruler shortens. Green words are told by "
        "their bead, black ones need none, orange ones are lost.",
        sets={"ratio": 4},
        frame="play",
    ),
    Step(
        title="Fold by sixteen",
        text="A ruler a quarter as long. What was kept at four and is lost now? Click a bead to "
        "open it, or walk along them with the arrow keys and press Enter.",
        sets={"ratio": 16},
        frame="play",
    ),
    Step(
        title="EXPAND",
        text="Eight to a bead, and digits are lost. But chunks have numbers: the model asks for "
        "one, and its raw words come back. Watch the answer, and the bill.",
        sets={"ratio": 8, "expand": NAMED},
        frame="play",
    ),
    Step(
        title="Too coarse to find",
        text="At sixteen it asks for a chunk again. Does that one hold the code? Click the name "
        "of the chunk that does.",
        sets={"ratio": 16, "expand": NAMED},
        frame="play",
    ),
    Step(
        title="Break it: keys",
        text="Random keys at sixteen, nothing to be guessed but their hyphens. Open a bead: what "
        "does it read instead? Then fold them by four.",
        sets={"ratio": 16, "source": "uuids"},
        frame="play",
    ),
)


def explorer(
    text: str = "", *, pair: PairLike | None = None, predict: Predict | None = None, **values: Any
) -> Explorer:
    """A text as beads: fold it, read what is left, ask about it, bring words back.

    Args:
        text: the reader's own, up to 512 tokens; the lesson's letter by default.
        pair: encoder and decoder; the shipped ones by default, loaded when first needed.
        predict: a question asked before the sliders unlock.
        values: first control values, such as `ratio=16`.
    """
    controls = (
        Range(
            name="ratio",
            label="Tokens per bead",
            values=RATIOS,
            heavy=True,
        ),
        Choice(
            name="source",
            label="Text",
            options=SOURCES,
            sets={name: {"text": "", "question": ""} for name in PASSAGES},
            heavy=True,
        ),
        Choice(name="expand", label="EXPAND", options=WORDS_BACK, heavy=True),
        Range(
            name="token",
            label="Open the bead of token",
            min=-1,
            max=LONGEST - 1,
            more=True,
            help="Counted from 0; −1 opens the bead in which the answer begins. A click on a bead "
            "does the same.",
        ),
        Text(
            name="text",
            label=f"Your own text (up to {LONGEST} tokens)",
            more=True,
            heavy=True,
            opens=0 if values else LONGEST,
        ),
        Text(
            name="question",
            label="Your own question",
            button="Ask this",
            more=True,
            heavy=True,
        ),
    )
    return Explorer(
        name="lclm_beads",
        title="Words fold into beads",
        params=Page.of,
        compute=partial(compute, pair=pair),
        present=present,
        hero=Hero(
            label="A text, the beads that its tokens fold into, the decoder's shortened ruler, and "
            "what can be read back",
            caption="Each token is read with the right ones before it. Recorded with SmolLM2 and "
            "its trained encoder; a text of your own is read here and now.",
        ),
        controls=controls,
        steps=STEPS,
        plots=(
            Plot(
                name="labels",
                label="Which decoder positions are trained, for the three kinds of data",
                caption="This text as the three kinds of training data. Beads and tags are given, "
                "raw tokens are predicted.",
                tab="What is trained",
                height=250,
            ),
            Plot(
                name="map",
                label="Log-probability of every token, read back from its bead",
                caption="Every cell is a token of the text, sixteen in a row: green is sure, "
                "vermilion lost. Hover for the three likeliest readings.",
                tab="Token by token",
                height=460,
            ),
            Plot(
                name="places",
                label="Tokens kept by their place in the bead",
                caption="First to last token of a bead, averaged over this text.",
                tab="Token by token",
                span=6,
                height=240,
            ),
            Plot(
                name="kinds",
                label="Tokens kept by kind",
                caption="Grey: what the decoder guesses from the right tokens before, without any "
                "bead.",
                tab="Token by token",
                span=6,
                height=240,
            ),
        ),
        defaults={
            "ratio": 4,
            "source": "letter",
            "expand": NOTHING,
            "token": -1,
            "text": text,
            "question": "",
            **values,
        },
        predict=predict,
    )


assert set(WORDS_BACK) == set(EXPANDS)
