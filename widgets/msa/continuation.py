"""What the sparse model writes: dense and sparse SmolLM2 continue one text."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from intuitive.msa.experiments.continuation import (
    ALL_READERS,
    TRAINED,
    UNTRAINED,
    Continuation,
    ContinueParams,
    readers,
    run,
)

from ..kit import (
    Choice,
    Explorer,
    Hero,
    Predict,
    Range,
    Step,
    Text,
    Timeline,
    View,
)
from . import styles
from .continuation_scene import Picture

READER_NAMES = {name: styles.SELECTOR_NAMES[name] for name in ALL_READERS}


@dataclass(frozen=True, kw_only=True)
class Continued:
    """A text and how it is continued; no text means the lesson's own."""

    text: str
    params: ContinueParams

    @classmethod
    def of(cls, *, text: str, **settings: Any) -> "Continued":
        return cls(text=text, params=ContinueParams(**settings))


def compute(continued: Continued, *, stale: Any, progress: Any) -> Continuation:
    """`run`, on the reader's text or the lesson's."""
    return run(continued.params, text=continued.text, stale=stale, progress=progress)


def present(result: Continuation) -> View:
    picture = Picture(result)
    params = result.params
    return View(
        summary=(
            f"Both write {len(result.dense)} tokens after the same prompt, the sparse model "
            f"reading {params.n_selected} blocks of {params.block_size} tokens chosen by "
            f"{READER_NAMES[params.reader]}."
        ),
        timeline=Timeline(frames=picture.frames(), axis="token", pace_ms=350),
        readouts=picture.readouts(0),
        code=(
            "from intuitive.common import corpus, smollm\n"
            "from intuitive.msa.experiments.continuation import ContinueParams, continue_text\n\n"
            f'params = ContinueParams.from_text(\n    "{params.to_text()}"\n)\n'
            "result = continue_text(corpus.DEFAULT_TEXT, params, model=smollm.load_smollm2())\n"
            '"".join(result.dense), "".join(result.sparse)'
        ),
    )


def explorer(text: str = "", *, predict: Predict | None = None, **values: Any) -> Explorer:
    """What the model writes when it may read only a few blocks.

    Args:
        text: the reader's own text; the lesson's by default.
        predict: a question asked before the sliders unlock.
        values: first control values, such as `n_selected=8`.
    """
    here = readers()
    first = dataclasses.asdict(ContinueParams(reader=TRAINED if TRAINED in here else "main_max"))
    controls = (
        Range(name="n_selected", label="Blocks read, k", min=1, max=16, live=False, heavy=True),
        Choice(
            name="reader",
            label="Blocks chosen by",
            options={name: READER_NAMES[name] for name in here},
            heavy=True,
        ),
        Range(
            name="block_size",
            label="Block size",
            values=(16, 32, 64),
            unit="tokens",
            live=False,
            more=True,
            heavy=True,
        ),
        Range(
            name="n_prompt",
            label="Prompt",
            min=128,
            max=896,
            step=32,
            unit="tokens",
            live=False,
            more=True,
            heavy=True,
        ),
        Range(
            name="n_new",
            label="Tokens to write",
            min=8,
            max=96,
            step=8,
            live=False,
            more=True,
            heavy=True,
        ),
        Text(
            name="text",
            label="Your own text (empty for the lesson's)",
            more=True,
            heavy=True,
            opens=0 if values else 1024,
        ),
    )
    return Explorer(
        name="msa_continuation",
        title="What the sparse model writes",
        params=Continued.of,
        compute=compute,
        present=present,
        controls=controls,
        hero=Hero(label="One prompt, continued by the dense and by the sparse model"),
        steps=(
            Step(
                title="Write",
                text="Play: both write, the sparse model reading 3 blocks only. Watch where "
                "they part, and whether the marks agree again afterwards.",
                frame="play",
            ),
            Step(
                title="More blocks",
                text="With 4 blocks it reads less than half of the text. Both models "
                "write anew, which takes some seconds.",
                sets={"n_selected": 4},
                frame="last",
            ),
            Step(
                title="Picked at random",
                text="The same 3 blocks, chosen by an index that nobody has trained: read what it "
                "writes.",
                sets={"reader": UNTRAINED},
                frame="last",
            ),
        ),
        predict=predict,
        defaults={**first, "text": text, **values},
    )
