"""A dense model made sparse: what each selector costs, from the committed run on a GPU."""

import dataclasses
from functools import partial
from typing import Any

from intuitive.msa.experiments.conversion import (
    EARLIER,
    READERS,
    ConversionParams,
    ConversionResult,
    run,
)

from ..kit import (
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Readout,
    Step,
    Table,
    View,
    fixed,
    number,
)
from .conversion_figures import adapted_figure, layers_figure, learning_figure, sizes_figure
from .conversion_scene import NAMES, Picture, value_text

MEASURE_NAMES = {
    "perplexity": "perplexity, all texts",
    "perplexity_prose": "perplexity, prose",
    "perplexity_code": "perplexity, code",
    "returning_passage": "perplexity, returning passage",
    "mass_captured": "attention mass captured",
    "block_recall": "block recall",
    "group_overlap": "blocks shared between groups",
}
LEVEL = 0.03  # relative; perplexities closer than this count as the same


def _at(found: ConversionResult, name: str) -> float:
    """A selector's value at the budget of the setting."""
    k = found.params.n_selected
    return next(point.mean for point in found.curves[name] if point.n_selected == k)


def _whose_is_lower() -> tuple[int, str]:
    found = run(ConversionParams(measure="returning_passage", n_selected=8))
    index, window = _at(found, EARLIER), _at(found, "window_sink")
    right = 2 if abs(index / window - 1) < LEVEL else 0 if index < window else 1
    return right, (
        f"The index's is {number(index)}, the window's {number(window)}; the dense model's is "
        f"{number(found.dense)}. Most attention lies nearby and on the first block, and there it "
        "had learned to look. The trained index below had longer training, where passages return: "
        f"{number(_at(found, 'trained_index'))}."
    )


PREDICT = Predict(
    question=(
        "The earlier index was trained to imitate the model's attention, and its blocks hold more "
        "of it than a window's. Now 512 tokens come back that the model read long ago. With 8 of "
        "64 blocks, whose perplexity on them is lower?"
    ),
    choices=("that index's, clearly", "the window's, clearly", "about the same"),
    answer=_whose_is_lower,
)


def present(found: ConversionResult) -> View:
    params = found.params
    name = MEASURE_NAMES[params.measure]
    chosen = {
        selector: point
        for selector, points in found.curves.items()
        for point in points
        if point.n_selected == params.n_selected
    }
    budgets = sorted({p.n_selected for points in found.curves.values() for p in points})

    def cell(selector: str, budget: int) -> str:
        for point in found.curves[selector]:
            if point.n_selected == budget:
                mean, least, most = point.mean, min(point.by_seed), max(point.by_seed)
                return number(mean) + (
                    f" ({number(least)} to {number(most)})" if len(point.by_seed) > 1 else ""
                )
        return "–"

    rows = [
        (NAMES[selector], *(cell(selector, budget) for budget in budgets))
        for selector in found.curves
    ]
    for speed in found.decode:
        who = "dense" if speed.selector == "dense" else NAMES[speed.selector]
        rows.append(
            (
                f"decoding after {speed.prompt_tokens:,} tokens, {who}",
                f"{fixed(speed.decode_tokens_per_s, 1)} tokens/s",
                f"{fixed(speed.decode_ms_per_token, 0)} ms each",
                f"GPU busy {fixed(speed.gpu_busy_ms_per_token, 1)} ms",
                f"{fixed(speed.kernels_per_token, 0)} kernels",
            )[: len(budgets) + 1]
        )
    dense = "" if found.dense is None else f"; dense {number(found.dense)}"
    told = ", ".join(
        f"{NAMES[selector]} {number(chosen[selector].mean)}"
        for selector in ("trained_index", EARLIER, "window_sink", "main_max", "oracle")
        if selector in chosen
    )
    summary = (
        f"{name[0].upper()}{name[1:]} at {params.context:,} tokens with k = {params.n_selected}: "
        f"{told}{dense}."
        if chosen
        else f"At {params.context:,} tokens {name} was measured at k = "
        f"{', '.join(map(str, budgets))}, not at {params.n_selected}."
    )
    readouts = [
        Readout(
            NAMES[selector],
            value_text(chosen[selector].mean, params.measure),
            link=selector,
        )
        for selector in ("trained_index", EARLIER, "window_sink")
        if selector in chosen
    ]
    picture = Picture(found, name)
    return View(
        summary=summary,
        scene=picture.scene(),
        arithmetic=picture.arithmetic(),
        figures={
            "layers": partial(layers_figure, found),
            "learning": partial(learning_figure, found),
            "sizes": partial(sizes_figure, found),
            "adapted": partial(adapted_figure, found),
        },
        readouts=tuple(readouts),
        values={"context": params.context},
        table=Table((name, *(f"k = {budget}" for budget in budgets)), tuple(rows)),
        code=(
            "from intuitive.msa.experiments.conversion import ConversionParams, run\n\n"
            f'result = run(ConversionParams.from_text(\n    "{params.to_text()}"\n))\n'
            "{name: [point.mean for point in points] for name, points in result.curves.items()}"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """SmolLM2 with all layers sparse: perplexity, mass and recall against the blocks read.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `measure="returning_passage"`.
    """
    controls = (
        Choice(name="measure", label="Measure", options=MEASURE_NAMES),
        Range(name="n_selected", label="Blocks read, k", values=(2, 4, 8, 16)),
        Choice(
            name="selector",
            label="Look at",
            options={name: NAMES[name] for name in READERS},
        ),
        Range(name="context", label="Context", values=(2048, 4096, 8192), unit="tokens", more=True),
    )
    return Explorer(
        name="msa_conversion",
        title="A dense model made sparse",
        params=ConversionParams,
        compute=run,
        present=present,
        controls=controls,
        hero=Hero(label="The text as blocks, and what each selector costs against the blocks read"),
        steps=(
            Step(
                title="Ordinary text",
                text="Held-out prose and code, 8 of 64 blocks read. Look at the earlier index: it "
                "is no better than a window. The trained one does what the main scores do.",
                sets={"selector": EARLIER},
            ),
            Step(
                title="Attention captured",
                text="The same selections, counted in the dense model's attention: the dashed "
                "curve of the earlier index lies above the window's, close below the trained one.",
                sets={"measure": "mass_captured", "selector": EARLIER},
            ),
            Step(
                title="A passage returns",
                text="512 tokens from the second quarter come back. Block 60 has only to look "
                "where its words stood, in block 20. Who does? Look at the trained index, then at "
                "the earlier one.",
                sets={"measure": "returning_passage", "selector": "trained_index"},
            ),
            Step(
                title="Two blocks only",
                text="The oracle knows the true attention, and at 2 blocks it falls far behind "
                "the main scores' max, as does the index: most mass is not the best next word.",
                sets={"measure": "returning_passage", "n_selected": 2, "selector": "oracle"},
            ),
        ),
        plots=(
            Plot(
                name="layers",
                label="Attention mass captured in every layer at the chosen k",
                caption="Of the dense model's own attention; indexes of the first seed.",
                tab="Layers",
                height=320,
            ),
            Plot(
                name="learning",
                label="How the KL of both indexes fell with training",
                caption="Each on its own training texts, mean of three seeds; both axes are "
                "logarithmic. The trained index starts from the heads' own projections, the "
                "earlier one from random numbers. In the last fifth of its time the model reads "
                "through the trained one's own choice.",
                tab="Training",
                height=320,
            ),
            Plot(
                name="sizes",
                label="Perplexity against the bytes of an index key, at the chosen k",
                caption="Index heads of 128 channels (three seeds), 64 and 32 (one seed each), all "
                "trained in the same way. Bytes are of half precision, shares of the keys and "
                "values.",
                tab="Index size",
                height=320,
            ),
            Plot(
                name="adapted",
                label="The index trained on with 4 blocks read, the model frozen or trained along",
                caption="Not the index of the chart above: that one after some 275 more steps at 4 "
                "blocks read, measured on the same held-out texts, mean of three seeds. Adapted: "
                "the attention changes too, by low rank. What was trained without an index has "
                "seen the same texts: it, not the frozen model, is what it has to reach.",
                tab="Adapted",
                height=320,
            ),
        ),
        predict=predict,
        poster={"measure": "mass_captured"},
        defaults={**dataclasses.asdict(ConversionParams()), **values},
    )
