"""Two shelves: which chunks of a text are on the GPU, token by token, and which were needed."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from intuitive.lsa.experiments import shelves as experiment
from intuitive.lsa.experiments import written
from intuitive.lsa.experiments.measures import Measures
from intuitive.lsa.experiments.memory import wait_ms
from intuitive.lsa.experiments.shelves import TEXTS, TOP_K, ShelvesParams
from intuitive.lsa.recording import Recording

from ..kit import (
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Timeline,
    Toggle,
    View,
    number,
    percent,
)
from . import styles
from .shelves_figures import arms_figure, copies_figure, residency_figure
from .shelves_scene import Picture
from .shelves_summary import summary, table, two_counts

PACE_MS = 800
LOOKAHEADS = (8, 16, 32, 64, 128, 256)
LINKS = (1.0, 5.0, 10.0, 25.0, 55.0)
STEP_MS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
TEXT = "letter"  # the one that the steps speak of

RECORDED, MASKED, LIVE = "recorded", "masked", "live"
DECODES = {
    RECORDED: "recorded, all at hand",
    MASKED: "recorded, the rest masked",
    LIVE: "written now, the rest masked",
}
INSTEAD = (
    " This setting was not recorded with the rest masked, so the text is the one recorded with all "
    f"at hand. To have it written anew, choose “{DECODES[LIVE]}” in the menu “The text is” (More "
    "controls)."
)
N_LIVE = 96  # tokens that the model writes
TOLD = 60  # letters of these that are seen while it does


@dataclass(frozen=True, kw_only=True)
class Page:
    """The controls: a policy over a text, and what the tab "Copies" assumes.

    Attributes:
        shelves: text and policy.
        decode: whether a recorded decode is replayed or the model writes now.
        link: GB/s from CPU to GPU.
        step_ms: milliseconds that one token computes for.
    """

    shelves: ShelvesParams
    decode: str
    link: float
    step_ms: float

    @classmethod
    def of(
        cls, *, decode: str = RECORDED, link: float = 25.0, step_ms: float = 5.0, **settings: Any
    ) -> "Page":
        if decode not in DECODES:
            raise ValueError(f"decode={decode!r} is unknown; choose one of {', '.join(DECODES)}.")
        for name, value in (("link", link), ("step_ms", step_ms)):
            if not value > 0:
                raise ValueError(f"{name}={value} must be above 0.")
        return cls(shelves=ShelvesParams(**settings), decode=decode, link=link, step_ms=step_ms)


@dataclass(frozen=True, eq=False)
class Shown:
    """What the page shows.

    Attributes:
        page: the controls.
        measures: of the decode under the page's policy.
        whole: the decode with everything at hand, where this one is another.
        instead: whether a text written with the rest masked was asked for, and not recorded.
    """

    page: Page
    measures: Measures
    whole: Recording | None = None
    instead: bool = False

    @cached_property
    def comparable(self) -> Measures:
        """The same policy over the text that all policies can be compared on."""
        if self.whole is None:
            return self.measures
        return Measures.of(self.whole, self.measures.policy)


def compute(page: Page, *, stale: Any, progress: Any) -> Shown:
    """The policy, replayed over the recorded decode, or followed by the model now."""

    def told(fraction: float, sentence: str, written: str = "") -> None:
        progress(fraction, f"{sentence}: …{written[-TOLD:]}" if written else sentence)

    if page.decode == LIVE:
        result = experiment.run_live(page.shelves, n_new=N_LIVE, stale=stale, progress=told)
    else:
        masked = page.decode == MASKED and written.has(page.shelves)
        run = written.run if masked else experiment.run
        result = run(page.shelves, stale=stale, progress=progress)
    whole = experiment.recorded(page.shelves.text) if result.live else None
    instead = page.decode == MASKED and not result.live
    if instead:
        page = dataclasses.replace(page, decode=RECORDED)
    return Shown(page, Measures(result.recording, result.residency), whole, instead)


def shipped(**settings: Any) -> Measures:
    """The steps' text under the trained indexer, or with other settings."""
    result = experiment.run(ShelvesParams(**{"text": TEXT, **settings}))
    return Measures(result.recording, result.residency)


def present(shown: Shown) -> View:
    page, measures = shown.page, shown.measures
    picture = Picture(measures, shown.whole)
    return View(
        summary=summary(measures, picture.say.parted) + INSTEAD * shown.instead,
        values={"decode": page.decode},
        timeline=Timeline(
            frames=picture.frames(),
            axis="token",
            pace_ms=PACE_MS,
            told_last=picture.say.parted is not None,  # the steps ask how far the letter gets
        ),
        arithmetic=picture.say.always(),
        figures={
            "residency": partial(residency_figure, measures),
            "arms": partial(arms_figure, shown.comparable),
            "copies": partial(copies_figure, measures, page.link, page.step_ms),
        },
        table=table(shown.comparable),
        code=(
            "from intuitive.lsa.experiments import shelves\n"
            "from intuitive.lsa.experiments.measures import Measures\n\n"
            f'params = shelves.ShelvesParams.from_text(\n    "{page.shelves.to_text()}"\n)\n'
            "result = shelves.run(params)\n"
            "measures = Measures(result.recording, result.residency)\n"
            "measures.found_share, measures.memory_share, measures.bytes_per_token"
        ),
    )


# ------------------------------------------------------------------------------- the question


def _found_by_the_indexer() -> tuple[int, str]:
    measures = shipped()
    others = {shipped(text=text).recording.name: shipped(text=text) for text in TEXTS}
    del others[measures.recording.name]
    rest = " and ".join(f"{percent(it.found_share)} in “{name}”" for name, it in others.items())
    right = 0 if measures.found_share < 0.3 else 1 if measures.found_share < 0.7 else 2
    return right, (
        f"It finds {percent(measures.found_share)}, with {percent(measures.memory_share)} of the "
        f"memory: this text suits it best of three, it is {rest} (More controls). Who finds less "
        "with as much room, who finds all, and at what price, the steps show."
    )


PREDICT = Predict(
    question=(
        "Early in a story Martha finds a letter. Long after, she reads it out, word for word, and "
        "SmolLM2 writes that. The story so far lies in CPU memory, in chunks of 16 tokens. Before "
        "every 64 tokens a small network guesses which old chunks they will need; only those come "
        "to the GPU. Of the attention that these tokens pay to old chunks they need, how much will "
        "find them there?"
    ),
    choices=("about a tenth", "about half", "about nine tenths"),
    answer=_found_by_the_indexer,
)


# ------------------------------------------------------------------------------- the page


def _waited() -> str:
    """What a wait is taken to cost, in a sentence."""
    wait = wait_ms()
    if wait is None:
        return ""
    return (
        f" A wait counts {number(wait, 2, unit='ms')} here, the least that it took at true sizes, "
        "asking and going on included (recorded on another model: “Go further”)."
    )


def _steps() -> tuple[Step, ...]:
    tau = ShelvesParams(text=TEXT).lookahead
    return (
        Step(
            title="Few are read",
            text="A chunk is 16 tokens; all are on the GPU. Play: green threads show which ones "
            "each token needs. Which come next?",
            frame="play",
        ),
        Step(
            title="Only the newest",
            text="Now written with all else masked: a miss changes the words after it. Just the "
            "newest old chunks may rise. For how long is it the text with all at hand?",
            sets={"arm": "recency", "decode": MASKED},
            frame="play",
        ),
        Step(
            title="The trigger",
            text=f"Written so too. Every {tau} tokens a small network, the Memory Indexer, scores "
            "the old chunks. Go on (›): what is above the line rises. Then play: how far does "
            "the letter get?",
            sets={"arm": "lsa", "decode": MASKED},
            frame="step 0",
        ),
        Step(
            title="Fetch when needed",
            text=f"The first text again. Each token fetches the {TOP_K} chunks that might matter "
            "most: none that it needs is missed, and the link could carry more. But it waits, in "
            "every layer (tab Copies).",
            sets={"arm": "reactive"},
            frame="play",
        ),
        Step(
            title="One cycle late",
            text="The first text. In the released server a choice arrives one cycle late, so that "
            "nobody waits. Were those chunks chosen for these tokens?",
            sets={"arm": "lsa", "lag": 1},
            frame="play",
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """A text on two shelves while it is written, under any policy of residency.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `arm="recency"`.
    """
    texts = {name: experiment.recorded(name).name for name in TEXTS}
    n_layers = experiment.recorded(TEXT).scores.shape[1]
    controls = (
        Range(
            name="lookahead",
            label="Lookahead",
            values=LOOKAHEADS,
            texts=tuple(f"τ = {tokens}" for tokens in LOOKAHEADS),
        ),
        Range(name="threshold", label="Threshold", min=0.05, max=0.95, step=0.05),
        Choice(name="arm", label="Chosen by", options=styles.ARM_NAMES),
        Choice(name="text", label="Text", options=texts, more=True),
        Choice(
            name="rule",
            label="What rises",
            options=styles.RULES,
            more=True,
            help="A threshold bounds the score and not the memory; a budget bounds the memory, and "
            "so do pages, of which those with most chunks above the threshold come whole.",
        ),
        Range(name="budget", label="Budget", min=0, max=48, unit="chunks", more=True),
        Range(
            name="pages",
            label="Pages",
            min=0,
            max=36,
            unit=f"of {experiment.PAGE} chunks",
            more=True,
            help="The pages of what is always there are among them.",
        ),
        Range(
            name="lag",
            label="A choice arrives",
            values=(0, 1),
            texts=("at once", "one cycle late"),
            more=True,
        ),
        Range(
            name="layers",
            label="Layers with a say",
            min=1,
            max=n_layers,
            more=True,
            help="Each has an indexer of its own; a chunk rises if one of them wants it.",
        ),
        Range(
            name="tail",
            label="Newest, always there",
            min=0,
            max=512,
            step=16,
            unit="tokens",
            more=True,
        ),
        Range(
            name="link",
            label="Speed of the link",
            values=LINKS,
            texts=tuple(f"{speed:g}" for speed in LINKS),
            unit="GB/s",
            more=True,
        ),
        Range(
            name="step_ms",
            label="Computing a token",
            values=STEP_MS,
            texts=tuple(f"{time:g}" for time in STEP_MS),
            unit="ms",
            more=True,
            help="Assumed, for the tab Copies: it depends on the GPU.",
        ),
        Choice(
            name="decode",
            label="The text is",
            options=DECODES,
            more=True,
            heavy=True,
            help="With all at hand a miss does not change the words after it; with the rest masked "
            f"it does. Writing {N_LIVE} tokens now takes about a minute.",
        ),
        Toggle(name="sticky", label="Keep all that was fetched", more=True),
    )
    return Explorer(
        name="lsa_shelves",
        title="Two shelves: what must be on the GPU before it is needed?",
        params=Page.of,
        compute=compute,
        present=present,
        hero=Hero(
            label="The chunks of a text on a GPU and a CPU shelf, which of them rise at each "
            "trigger, and which the next tokens need",
            caption="A token needs a chunk when four of the five layers that look back give it "
            "much of their attention; percentages are means over all layers. Old chunks: all but "
            "the first, the newest and those written since, which are always there and count "
            "neither as found nor as copied. The numbers above run up to the step shown; the last "
            "line has the whole text. Click a chunk.",
        ),
        controls=controls,
        steps=_steps(),
        plots=(
            Plot(
                name="residency",
                label="Chunks on the GPU at each step, and those needed, found or missed",
                caption="Up to the step shown above. Dark blue: old chunks that were lifted; "
                "light blue: always there. A green dot is a needed chunk that was there, an orange "
                "cross one that was not.",
                tab="Residency",
                height=380,
            ),
            Plot(
                name="arms",
                label="Attention found by two counts, memory and bytes copied under every arm",
                caption="What is needed: attention on needed old chunks. All over the text that "
                "was written with all at hand. All but the last two keep equally many chunks, and "
                "differ in which; fetching on demand may keep as many, and more where one token "
                "asks for more. Quest bounds a chunk's score by the least and greatest of its "
                "keys; the oracle looks at the attention to come. "
                f"{two_counts(shipped())}",
                tab="Compared",
                height=320,
            ),
            Plot(
                name="copies",
                label="Time for copying and for computing in each cycle",
                caption=f"Each line of the scale is ten times the one below. A choice that is made "
                "ahead can be copied while the GPU computes. To fetch on demand, a layer asks and "
                f"stands still until the chunks are there.{_waited()}",
                tab="Copies",
                height=320,
            ),
        ),
        predict=predict,
        defaults={**_first(controls), "arm": "everything", **values},
        poster={"arm": "lsa"},
    )


def _first(controls: tuple[Choice | Range | Toggle, ...]) -> dict[str, Any]:
    page = Page.of(text=TEXT)
    first = dataclasses.asdict(page.shelves) | vars(page)
    return {control.name: first[control.name] for control in controls}
