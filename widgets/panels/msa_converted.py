"""SmolLM2 made sparse: what each selector costs, from the committed run on a GPU."""

import dataclasses
from typing import Any

from intuitive.msa.converted import (
    Converted,
    ConvertedParams,
    converted,
    measured_contexts,
)

from ..figures import msa_converted as figures
from ..figures.msa import SELECTOR_NAMES
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View


def look_up(params: ConvertedParams, *, stale: Any, progress: Any) -> Converted:
    """`converted` at the nearest context at which the measure was taken."""
    nearest = min(measured_contexts(params.measure), key=lambda c: abs(c - params.context))
    return converted(dataclasses.replace(params, context=nearest))


def present_converted(found: Converted) -> View:
    params = found.params
    name = figures.MEASURE_NAMES[params.measure]
    chosen = {
        selector: point
        for selector, points in found.curves.items()
        for point in points
        if point.n_selected == params.n_selected
    }
    budgets = sorted({p.n_selected for points in found.curves.values() for p in points})

    def number(value: float) -> str:
        return f"{value:.3g}"

    def cell(selector: str, budget: int) -> str:
        for point in found.curves[selector]:
            if point.n_selected == budget:
                mean, least, most = point.mean, min(point.by_seed), max(point.by_seed)
                return number(mean) + (
                    f" ({number(least)} to {number(most)})" if len(point.by_seed) > 1 else ""
                )
        return "–"

    rows = [
        (SELECTOR_NAMES[selector], *(cell(selector, budget) for budget in budgets))
        for selector in found.curves
    ]
    for speed in found.decode:
        who = "dense" if speed.selector == "dense" else SELECTOR_NAMES[speed.selector]
        rows.append(
            (
                f"decoding after {speed.prompt_tokens:,} tokens, {who}",
                f"{speed.tokens_per_s:.1f} tokens/s",
                f"{speed.ms_per_token:.0f} ms each",
                f"GPU busy {speed.gpu_busy_ms:.1f} ms",
                f"{speed.kernels:.0f} kernels",
            )[: len(budgets) + 1]
        )
    dense = "" if found.dense is None else f"; dense {number(found.dense)}"
    told = ", ".join(
        f"{SELECTOR_NAMES[selector]} {number(chosen[selector].mean)}"
        for selector in ("oracle", "trained_index", "window_sink")
        if selector in chosen
    )
    summary = (
        f"{name[0].upper()}{name[1:]} at {params.context:,} tokens with k = {params.n_selected}: "
        f"{told}{dense}."
        if chosen
        else f"At {params.context:,} tokens {name} was measured at k = "
        f"{', '.join(map(str, budgets))}, not at {params.n_selected}."
    )
    readouts = [] if found.dense is None else [Readout("dense model", number(found.dense))]
    readouts += [
        Readout(SELECTOR_NAMES[selector], number(point.mean)) for selector, point in chosen.items()
    ]
    return View(
        summary=summary,
        figures={
            "curves": figures.curves_figure(found, SELECTOR_NAMES),
            "layers": figures.layers_figure(found, SELECTOR_NAMES),
        },
        readouts=tuple(readouts),
        table=Table((name, *(f"k = {budget}" for budget in budgets)), tuple(rows)),
        code=(
            "from intuitive.msa.converted import ConvertedParams, converted\n\n"
            f'result = converted(ConvertedParams.from_text(\n    "{params.to_text()}"\n))\n'
            "{name: [point.mean for point in points] for name, points in result.curves.items()}"
        ),
    )


def conversion(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """SmolLM2 with all layers sparse: perplexity, mass and recall against the blocks read.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `measure="returning_passage"`.
    """
    controls = (
        Choice(name="measure", label="Measure", options=figures.MEASURE_NAMES),
        Range(name="n_selected", label="Blocks read, k", values=(2, 4, 8, 16)),
        Range(name="context", label="Context", values=(2048, 4096, 8192), unit="tokens"),
    )
    return Explorer(
        name="msa_conversion",
        title="A dense model made sparse",
        params=ConvertedParams,
        compute=look_up,
        present=present_converted,
        controls=controls,
        plots=(
            Plot(
                name="curves",
                label="The measure against the blocks read, for every selector",
                caption="Held-out prose and code. The grey level is the dense model; bars at the "
                "trained index span its three seeds.",
                span=7,
                height=360,
            ),
            Plot(
                name="layers",
                label="Attention mass captured in every layer at the chosen k",
                caption="Of the dense model's own attention.",
                span=5,
                height=360,
            ),
        ),
        predict=predict,
        defaults={**dataclasses.asdict(ConvertedParams()), **values},
    )
