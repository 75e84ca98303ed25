"""A dense model made sparse: what each selector costs, from the committed run on a GPU."""

import dataclasses
from functools import partial
from typing import Any

from intuitive.msa.experiments.conversion import (
    READERS,
    ConversionParams,
    ConversionResult,
    run,
)

from .. import theme
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
from . import styles
from .conversion_scene import Picture, value_text

STYLES = {  # of the selectors drawn by layer: colour and dash
    "oracle": (theme.GREY, "solid"),
    "trained_index": (theme.BLUE, "solid"),
    "main_max": (theme.VERMILION, "dash"),
    "window_sink": (theme.GREEN, "dash"),
}
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


def _whose_is_lower() -> tuple[int, str]:
    found = run(ConversionParams(measure="perplexity", n_selected=8))
    window, index = (
        next(point.mean for point in found.curves[name] if point.n_selected == 8)
        for name in ("window_sink", "trained_index")
    )
    right = 2 if abs(index / window - 1) < LEVEL else 0 if window < index else 1
    return right, (
        f"The window's is {number(window)}, the trained index's {number(index)}; the dense model's "
        f"is {number(found.dense)}. In attention mass they differ more, and most text can be "
        "predicted from what stands near."
    )


PREDICT = Predict(
    question=(
        "A window of the same budget needs no index and no training. With 8 of 64 blocks, "
        "64 tokens each, whose perplexity is lower?"
    ),
    choices=("the window's, clearly", "the trained index's, clearly", "about the same"),
    answer=_whose_is_lower,
)


def layers_figure(found: ConversionResult) -> theme.Figure:
    """Attention mass captured in every layer at the chosen budget."""
    traces, ends, colours = [], {}, {}
    for name, (colour, dash) in STYLES.items():
        mass, title = found.mass_by_layer[name], styles.SELECTOR_NAMES[name]
        ends[title], colours[title] = mass[-1], colour
        traces.append(
            {
                "type": "scatter",
                "x": list(range(len(mass))),
                "y": list(mass),
                "mode": "lines",
                "name": title,
                "line": {"color": colour, "dash": dash, "width": 2},
            }
        )
    return theme.figure(
        traces,
        x="layer",
        y=f"mass, k = {found.params.n_selected}, {found.mass_context:,} tokens",
        x_range=(0, len(found.mass_by_layer["oracle"]) - 1),
        y_range=(0.0, 1.02),
        margin={"r": 150},
        annotations=styles.end_names(ends, colours, gap=0.08, low=0.0, high=1.0),
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
        (styles.SELECTOR_NAMES[selector], *(cell(selector, budget) for budget in budgets))
        for selector in found.curves
    ]
    for speed in found.decode:
        who = "dense" if speed.selector == "dense" else styles.SELECTOR_NAMES[speed.selector]
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
        f"{styles.SELECTOR_NAMES[selector]} {number(chosen[selector].mean)}"
        for selector in ("trained_index", "window_sink", "main_max", "oracle")
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
            styles.SELECTOR_NAMES[selector],
            value_text(chosen[selector].mean, params.measure),
            link=selector,
        )
        for selector in ("trained_index", "window_sink", "main_max")
        if selector in chosen
    ]
    picture = Picture(found, name)
    return View(
        summary=summary,
        scene=picture.scene(),
        arithmetic=picture.arithmetic(),
        figures={"layers": partial(layers_figure, found)},
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
            options={name: styles.SELECTOR_NAMES[name] for name in READERS},
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
                text="Held-out prose and code, 8 of 64 blocks read. Compare the blue curve, our "
                "index, with the green one, a window.",
            ),
            Step(
                title="Attention captured",
                text="The same selections, counted in the dense model's attention: here the blue "
                "curve lies above the green one at every k.",
                sets={"measure": "mass_captured"},
            ),
            Step(
                title="A passage returns",
                text="512 tokens from the second quarter come back at the end. One has only to "
                "look where they stood: who does?",
                sets={"measure": "returning_passage", "selector": "main_max"},
            ),
            Step(
                title="Two blocks only",
                text="The oracle knows the true attention, and at 2 blocks it still falls behind "
                "the main scores' max: most mass is not the best next word.",
                sets={"measure": "returning_passage", "n_selected": 2, "selector": "oracle"},
            ),
        ),
        plots=(
            Plot(
                name="layers",
                label="Attention mass captured in every layer at the chosen k",
                caption="Of the dense model's own attention; the index of the first seed.",
                tab="Layers",
                height=320,
            ),
        ),
        predict=predict,
        poster={"measure": "mass_captured"},
        defaults={**dataclasses.asdict(ConversionParams()), **values},
    )
