"""The cost meter: when the first token comes, and what the GPU must hold until then."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from intuitive.common.training import Progress
from intuitive.lclm.experiments import cost as experiment
from intuitive.lclm.experiments.cost import RATIOS, CostParams, CostResult

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
from .cost_figures import (
    eviction_quality_figure,
    measured_memory_figure,
    measured_time_figure,
    memory_figure,
    time_figure,
)
from .cost_lanes import Lane, gib, lanes, seconds, tokens_text, whole
from .cost_scene import Picture

CONTEXTS = tuple(2**power for power in range(12, 21))  # tokens: 4K to 1M
LOGITS = {"all": "of every token", "last": "of the last token"}
ASKED = CostParams()  # the setting of the prediction


def _what_eviction_saves() -> tuple[int, str]:
    raw, evict, lclm = lanes(experiment.run(ASKED))
    share = evict.seconds / raw.seconds
    right = 0 if share < 0.2 else 1 if share < 0.75 else 2
    return right, (
        f"Raw text takes {seconds(raw.seconds)}, eviction {seconds(evict.seconds)}: it cannot "
        "know what to throw away before all has been read. The latents take "
        f"{seconds(lclm.seconds)}, {fixed(raw.seconds / lclm.seconds, 0)} times less, since the "
        f"decoder reads {whole(ASKED.context / ASKED.ratio)} positions instead of "
        f"{whole(ASKED.context)}."
    )


PREDICT = Predict(
    question=(
        "A model reads 256K tokens and then evicts 94% of its cache. When does the first token "
        "come, compared with keeping everything?"
    ),
    choices=("after a sixteenth of the time", "after about half the time", "no sooner"),
    answer=_what_eviction_saves,
)


def present(result: CostResult) -> View:
    params, found = result.params, lanes(result)
    picture = Picture(found, n_tokens=params.context, most=result.most_gib)
    raw, evict, lclm = found
    summary = (
        f"At {tokens_text(params.context)} tokens the first token comes after "
        f"{seconds(raw.seconds)} with raw text, {seconds(evict.seconds)} with eviction and "
        f"{seconds(lclm.seconds)} at {params.ratio} tokens per latent; at most {gib(raw.peak)}, "
        f"{gib(evict.peak)} and {gib(lclm.peak)} are held."
    )
    frames = picture.frames()
    return View(
        summary=summary,
        timeline=Timeline(frames=frames, axis="clock", pace_ms=700),
        arithmetic=picture.arithmetic(),
        related={lane.key: tuple(f"{lane.key}:{part}" for part in lane.rests) for lane in found},
        figures={
            "times": partial(time_figure, result),
            "memories": partial(memory_figure, result),
            "measured_times": partial(measured_time_figure, result),
            "measured_memories": partial(measured_memory_figure, result),
            "evicted": partial(eviction_quality_figure, result, "prose"),
            "returning": partial(eviction_quality_figure, result, "returning"),
        },
        readouts=frames[0].readouts,
        table=_table(found),
        code=(
            "from intuitive.lclm.experiments.cost import CostParams, run\n\n"
            f'result = run(CostParams.from_text("{params.to_text()}"))\n'
            "result.speedup, result.memory_ratio"
        ),
    )


def _table(found: tuple[Lane, ...]) -> Table:
    header = ("", *(lane.title for lane in found))
    terms = ("encode", "prefill", "evict")
    names = ("encoder", "decoder reads", "eviction")
    rows = []
    for name, term in zip(names, terms, strict=True):
        spent = [sum(p.seconds for p in lane.phases if p.kind == term) for lane in found]
        rows.append((name, *(seconds(s) if s else "–" for s in spent)))
    rows.append(("first token", *(seconds(lane.seconds) for lane in found)))
    for name, title in (
        ("weights", "at the peak: weights"),
        ("kv", "KV cache"),
        ("logits", "logits"),
        ("activations", "working memory"),
    ):
        rows.append((title, *(gib(lane.at_peak[name]) for lane in found)))
    rows.append(("peak", *(gib(lane.peak) for lane in found)))
    rows.append(("KV cache that stays", *(gib(lane.rests["kv"]) for lane in found)))
    share = [lane.seconds / found[0].seconds for lane in found]
    rows.append(("time, of raw text", *(percent(s, 1) for s in share)))
    return Table(header, tuple(rows))


def _compute(params: CostParams, *, stale: Callable[[], bool], progress: Progress) -> CostResult:
    return experiment.run(params, stale=stale)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Time to first token and memory, raw, evicted and as latents, on one clock.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `context=65536`.
    """
    return Explorer(
        name="lclm_cost",
        title="The cost meter",
        params=CostParams,
        compute=_compute,
        present=present,
        hero=Hero(label="Three ways to read a long prompt: time left, memory right, on one clock"),
        controls=(
            Range(
                name="context",
                label="Prompt",
                values=CONTEXTS,
                texts=tuple(map(tokens_text, CONTEXTS)),
                unit="tokens",
            ),
            Range(name="ratio", label="Tokens per latent", values=RATIOS),
            Choice(name="logits", label="Vocabulary scores", options=LOGITS),
        ),
        steps=(
            Step(
                title="Start the clock",
                text="Play. Who has read everything, and when? Who may drop what? Right: scores of "
                "the vocabulary, the logits, come and go with the reading.",
                frame="play",
            ),
            Step(
                title="Count one row",
                text="A plain pass keeps a row of logits for every token of the prompt, orange. "
                "Only the last row is needed. What happens to the three peaks without the rest? "
                "Pale is what made each peak.",
                sets={"logits": "last"},
                frame="last",
            ),
            Step(
                title="A short prompt",
                text="4K tokens. What outweighs everything now? And what does eviction spend its "
                "time on, pink?",
                sets={"context": CONTEXTS[0], "logits": "last"},
                frame="last",
            ),
            Step(
                title="A million tokens",
                text="Only one row of logits is kept. Who still fits on the card?",
                sets={"context": CONTEXTS[-1], "logits": "last"},
                frame="last",
            ),
        ),
        plots=(
            Plot(
                name="times",
                label="Time to first token against the length of the prompt",
                caption="Lines: the fits. Rings: the paper's Figure 4 as read off, one H200. Both "
                "axes are logarithmic.",
                span=6,
                tab="Every length",
                height=320,
            ),
            Plot(
                name="memories",
                label="Peak memory against the length of the prompt",
                caption="The figure's runs keep scores for every token of the prompt; with the "
                "last row only, the lines leave the rings.",
                span=6,
                tab="Every length",
                height=320,
            ),
            *_measured_plots(),
        ),
        predict=predict,
        defaults={**dataclasses.asdict(CostParams()), **values},
    )


def _measured_plots() -> tuple[Plot, ...]:
    """Plots of the committed runs."""
    pair = f"Recorded on one {experiment.pair_device()} by python benchmarks/lclm_pair.py"
    smollm = f"Recorded on one {experiment.eviction_device()} by python "
    return (
        Plot(
            name="measured_times",
            label="Measured time to first token of an untrained pair",
            caption=f"{pair}: Qwen3-shaped models without training, since weights are irrelevant "
            "to time. Dotted: the fits to the paper's H200.",
            span=6,
            tab="Measured",
            height=320,
        ),
        Plot(
            name="measured_memories",
            label="Measured peak memory of the same pair",
            caption="In the way of counting chosen above. Ours keeps no cache of the encoder, so "
            "that its plateau is gone.",
            span=6,
            tab="Measured",
            height=320,
        ),
        Plot(
            name="evicted",
            label="Perplexity of held-out prose after eviction, SmolLM2",
            caption=f"{smollm}benchmarks/lclm_eviction.py: SmolLM2 reads a text, keeps so many "
            "entries of its cache and goes on. Lower is better; prose needs its last words most.",
            span=6,
            tab="Eviction",
            height=320,
        ),
        Plot(
            name="returning",
            label="Perplexity of a passage that returns, after eviction, SmolLM2",
            caption="Here what follows is a passage of the text itself: most of it is gone with "
            "what was evicted. Beads are put to such questions in section 5, on other texts.",
            span=6,
            tab="Eviction",
            height=320,
        ),
    )
