"""A dense model made sparse: what each selector costs, from the committed run on a GPU."""

import dataclasses
import math
from typing import Any

from intuitive.msa.experiments.conversion import (
    PERPLEXITIES,
    ConversionParams,
    ConversionResult,
    run,
)

from .. import theme
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View, fixed, number
from . import styles

STYLES = {  # one selector, one colour, one dash, one marker
    "oracle": (theme.GREY, "solid", "circle"),
    "trained_index": (theme.BLUE, "solid", "square"),
    "main_max": (theme.GREEN, "dash", "diamond"),
    "main_mean": (theme.PURPLE, "dashdot", "cross"),
    "block_mean_keys": ("#8A5A78", "dot", "x"),
    "window_sink": (theme.VERMILION, "dash", "triangle-up"),
}
MEASURE_NAMES = {
    "perplexity": "perplexity, all texts",
    "perplexity_prose": "perplexity, prose",
    "perplexity_code": "perplexity, code",
    "returning_passage": "perplexity of a passage read before",
    "mass_captured": "attention mass captured",
    "block_recall": "block recall",
    "group_overlap": "blocks shared between groups",
}
MAPPED = ("oracle", "trained_index", "main_max", "window_sink")  # drawn by layer
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
        "A window of the same budget needs no index and no training. With 8 blocks of 64 out "
        "of 64, whose perplexity is lower?"
    ),
    choices=("the window's, clearly", "the trained index's, clearly", "about the same"),
    answer=_whose_is_lower,
)


def curves_figure(found: ConversionResult) -> theme.Figure:
    """One measure against the blocks read, for every selector."""
    perplexity = found.params.measure in PERPLEXITIES
    traces, budgets = [], sorted({p.n_selected for curve in found.curves.values() for p in curve})
    for name, points in found.curves.items():
        colour, dash, symbol = STYLES[name]
        means = [point.mean for point in points]
        spread = any(len(point.by_seed) > 1 for point in points)
        traces.append(
            {
                "type": "scatter",
                "x": [point.n_selected for point in points],
                "y": means,
                "mode": "lines+markers",
                "name": styles.SELECTOR_NAMES[name],
                "line": {"color": colour, "dash": dash, "width": 2},
                "marker": {"symbol": symbol, "size": 8},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [max(point.by_seed) - point.mean for point in points],
                    "arrayminus": [point.mean - min(point.by_seed) for point in points],
                    "visible": spread,
                },
            }
        )
    values = [point.mean for curve in found.curves.values() for point in curve]
    shapes = [theme.line(x=found.params.n_selected, colour=theme.PURPLE)]
    if perplexity:
        low = found.dense if found.dense is not None else min(values)
        limits = (math.log10(low) - 0.03, math.log10(max(values)) + 0.05)
        shapes.append(theme.line(y=low, colour=theme.GREY, dash="solid"))
    else:
        limits = (0.0, 1.05)
    return theme.figure(
        traces,
        xaxis={
            "type": "log",
            "title": {"text": f"blocks of {found.block_size} tokens that may be read, k"},
            "tickvals": budgets,
            "range": (math.log10(budgets[0]) - 0.1, math.log10(budgets[-1]) + 0.1),
        },
        yaxis={
            "type": "log" if perplexity else "linear",
            "title": {"text": MEASURE_NAMES[found.params.measure]},
            "range": limits,
            **({"dtick": "D2"} if perplexity else {}),
        },
        showlegend=True,
        margin={"t": 76},
        shapes=shapes,
    )


def layers_figure(found: ConversionResult) -> theme.Figure:
    """Attention mass captured in every layer at the chosen budget."""
    traces = []
    for name in MAPPED:
        colour, dash, _ = STYLES[name]
        mass = found.mass_by_layer[name]
        traces.append(
            {
                "type": "scatter",
                "x": list(range(len(mass))),
                "y": list(mass),
                "mode": "lines",
                "name": styles.SELECTOR_NAMES[name],
                "line": {"color": colour, "dash": dash, "width": 2},
            }
        )
    return theme.figure(
        traces,
        x="layer",
        y=f"mass captured, k = {found.params.n_selected}",
        x_range=(0, len(found.mass_by_layer["oracle"]) - 1),
        y_range=(0.0, 1.02),
        showlegend=True,
        margin={"t": 76},
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
        Readout(styles.SELECTOR_NAMES[selector], number(chosen[selector].mean))
        for selector in ("trained_index", "window_sink", "oracle")
        if selector in chosen
    ]
    return View(
        summary=summary,
        figures={
            "curves": curves_figure(found),
            "layers": layers_figure(found),
        },
        readouts=tuple(readouts[:3]),
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
        Range(name="context", label="Context", values=(2048, 4096, 8192), unit="tokens"),
    )
    return Explorer(
        name="msa_conversion",
        title="A dense model made sparse",
        params=ConversionParams,
        compute=run,
        present=present,
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
        defaults={**dataclasses.asdict(ConversionParams()), **values},
    )
