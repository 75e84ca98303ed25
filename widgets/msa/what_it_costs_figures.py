"""The cost curves, memory and measured times as figures."""

import math

import numpy as np

from intuitive.msa.experiments import what_it_costs as experiment
from intuitive.msa.experiments.what_it_costs import CostResult, Measured
from intuitive.msa.results import KernelTime, KernelTimes

from .. import theme
from ..kit import fixed
from . import styles

CONTEXT_AXIS = {
    **theme.AXIS,
    "type": "log",
    "tickvals": [4096, 16384, 65536, 262144, 1048576],
    "ticktext": ["4K", "16K", "64K", "256K", "1M"],
    "range": [math.log10(3500), math.log10(1.3e6)],
    "title": {"text": "context (tokens)", "standoff": 6},
}


def _curve(x: np.ndarray, y: np.ndarray, name: str, colour: str, dash: str) -> dict:
    style = {"color": colour, "dash": dash, "width": 2.5}
    return {"type": "scatter", "x": x, "y": y, "name": name, "mode": "lines", "line": style}


def _against_context(
    result: CostResult,
    parts: dict[str, np.ndarray],
    *,
    y: str,
    exponents: tuple[int | float, int | float],
) -> theme.Figure:
    """Costs against the context, both axes logarithmic; `parts` maps a legend to a curve."""
    looks = (
        (theme.GREY, "solid"),
        (theme.BLUE, "solid"),
        (theme.VERMILION, "dash"),
        (theme.BLUE, "dot"),
    )
    ends = {name: math.log10(values[-1]) for name, values in parts.items()}
    low, high = exponents
    return theme.figure(
        [
            _curve(result.curves.contexts, values, name, *look)
            for (name, values), look in zip(parts.items(), looks, strict=False)
        ],
        y=y,
        y_range=exponents,
        xaxis=CONTEXT_AXIS,
        yaxis={"type": "log", "dtick": 1, "exponentformat": "power"},
        margin={"l": 62, "r": 84},
        shapes=[theme.line(x=result.params.context, colour=theme.GREY)],
        annotations=styles.end_names(
            ends,
            {name: colour for name, (colour, _) in zip(parts, looks, strict=False)},
            gap=0.08 * (high - low),
            low=low,
            high=high,
        ),
    )


def flops_figure(result: CostResult) -> theme.Figure:
    """FLOPs per token of one layer."""
    curves = result.curves
    parts = {
        "dense": curves.dense_flops,
        "MSA": curves.index_flops + curves.main_flops,
        "index": curves.index_flops,
        "selected": curves.main_flops,
    }
    return _against_context(result, parts, y="FLOPs per token", exponents=(6, 10.8))


def bytes_figure(result: CostResult) -> theme.Figure:
    """Bytes of the cache that one decoded token reads in one layer."""
    curves = result.curves
    parts = {
        "dense": curves.dense_bytes,
        "MSA": curves.index_bytes + curves.main_bytes,
        "index": curves.index_bytes,
        "selected": curves.main_bytes,
    }
    return _against_context(result, parts, y="bytes per token", exponents=(5, 10.3))


MEMORY_PARTS = {  # category: legend, colour, pattern
    "weights": ("weights", theme.GREY, ""),
    "keys_values": ("keys, values", theme.BLUE, ""),
    "index_keys": ("index keys", theme.VERMILION, "x"),
    "scratch": ("scratch", theme.GREEN, "/"),
}


def memory_figure(result: CostResult) -> theme.Figure:
    """Bytes that one layer holds while it prefills, by category: MSA holds more, not less.

    Diamonds stand where the bars end by what was measured at this context and k, with the
    weights of the model.
    """
    methods = {"dense": "dense", "MSA": "msa"}
    traces = [
        {
            "type": "bar",
            "x": [result.memory[method][category] / 2**30 for method in methods.values()],
            "y": list(methods),
            "orientation": "h",
            "name": name,
            "marker": {
                "color": colour,
                "pattern": {"shape": pattern, "size": 6, "fillmode": "overlay", "solidity": 0.2},
            },
            "hovertemplate": "%{x:.3f} GiB",
        }
        for category, (name, colour, pattern) in MEMORY_PARTS.items()
    ]
    measured = experiment.memory_measured(result.params)
    if measured:
        ends = [
            result.memory[method]["weights"]
            + measured[method].keys_values
            + measured[method].index_keys
            + measured[method].prefill_scratch
            for method in methods.values()
        ]
        traces.append(
            {
                "type": "scatter",
                "x": [end / 2**30 for end in ends],
                "y": list(methods),
                "mode": "markers",
                "marker": {
                    "symbol": "diamond-open",
                    "size": 13,
                    "color": theme.PURPLE,
                    "line": {"width": 2},
                },
                "showlegend": False,
                "hovertemplate": "measured: %{x:.3f} GiB",
            }
        )
    return theme.figure(
        traces,
        x="GiB in one layer",
        x_range=(0, 1.05 * result.largest_memory / 2**30),
        yaxis={"autorange": "reversed"},
        barmode="stack",
        showlegend=True,
        legend={"traceorder": "normal"},
    )


def _speedups(rows: tuple[KernelTime, ...], name: str, colour: str, symbol: str) -> dict:
    return {
        "type": "scatter",
        "x": [row.context for row in rows],
        "y": [row.speedup for row in rows],
        "mode": "markers",
        "marker": {"size": 10, "color": colour, "symbol": symbol},
        "name": name,
    }


def ceiling_text(ceiling: float) -> str:
    """A limit of a ratio: whole where it is whole."""
    return fixed(ceiling, 0 if float(ceiling).is_integer() else 1)


def ratio_figure(
    result: CostResult,
    measured: tuple[Measured, ...] = (),
    recorded: KernelTimes | None = None,
) -> theme.Figure:
    """How many times less MSA computes and reads, under its ceilings, and how much faster it was.

    `measured` was timed on this machine, `recorded` is the committed run of the same layer.
    """
    curves = result.curves
    kinds = (
        ("FLOP", "prefill", curves.flop_ratio, result.flop_ceiling, theme.GREEN, "solid", "circle"),
        (
            "byte",
            "decode",
            curves.byte_ratio,
            result.byte_ceiling,
            theme.PURPLE,
            "dash",
            "square",
        ),
    )
    traces, notes, ends, colours = [], [], {}, {}
    shapes = [theme.line(x=result.params.context, colour=theme.GREY)]
    for unit, phase, ratio, ceiling, colour, dash, symbol in kinds:
        name = f"{unit}s of a {'prompt' if phase == 'prefill' else 'token'}"
        traces.append(_curve(curves.contexts, ratio, name, colour, dash) | {"showlegend": False})
        ends[name], colours[name] = float(ratio[-1]), colour
        if measured:
            traces.append(
                {
                    "type": "scatter",
                    "x": [point.context for point in measured],
                    "y": [getattr(point, f"{phase}_speedup") for point in measured],
                    "mode": "markers",
                    "marker": {"size": 11, "color": colour, "symbol": symbol},
                    "name": f"measured {phase}",
                }
            )
        shapes.append(theme.line(y=ceiling, colour=colour))
        notes.append(
            {
                "text": f"{unit} ceiling {ceiling_text(ceiling)}×",
                "xref": "paper",
                "x": 0.02 if unit == "FLOP" else 0.28,  # side by side: both may be the same
                "y": ceiling,
                "yanchor": "bottom",
                "showarrow": False,
            }
        )
    if recorded is not None:
        whole, last = recorded.of("prefill"), recorded.of("last queries")
        traces += [
            _speedups(whole, "H100, whole prompt", theme.GREEN, "circle-open"),
            _speedups(last, "H100, last 8\u2009192 tokens", theme.GREEN, "diamond-open"),
            _speedups(recorded.of("decode"), "H100, one new token", theme.PURPLE, "square-open"),
        ]
    top = 1.15 * max(40.0, result.flop_ceiling, result.byte_ceiling)
    return theme.figure(
        traces,
        y="dense ÷ MSA",
        y_range=(0, top),
        xaxis=CONTEXT_AXIS,
        showlegend=True,
        margin={"r": 128},
        shapes=shapes,
        annotations=notes + styles.end_names(ends, colours, gap=0.07 * top, low=0.0, high=top),
    )


TIME_EXPONENTS = {"prefill": (-1, 3), "decode": (-3, 0.2)}  # limits in powers of ten, ms


def times_figure(result: CostResult, recorded: KernelTimes, task: str) -> theme.Figure:
    """Measured milliseconds against context: dense, MSA, and MSA's two steps."""
    rows = recorded.of(task)
    contexts = np.array([row.context for row in rows])
    parts = (
        ("dense", "dense_ms", theme.GREY, "solid", "circle"),
        ("MSA", "msa_ms", theme.BLUE, "solid", "square"),
        ("select", "select_ms", theme.VERMILION, "dash", "diamond"),
        ("attend", "attend_ms", theme.BLUE, "dot", "cross"),
    )
    low, high = TIME_EXPONENTS[task]
    traces, ends, colours = [], {}, {}
    for name, field, colour, dash, symbol in parts:
        values = np.array([getattr(row, field) for row in rows])
        marker = {"size": 8, "color": colour, "symbol": symbol}
        ends[name], colours[name] = math.log10(values[-1]), colour
        trace = _curve(contexts, values, name, colour, dash)
        traces.append(trace | {"mode": "lines+markers", "marker": marker})
    return theme.figure(
        traces,
        y_range=TIME_EXPONENTS[task],
        xaxis=CONTEXT_AXIS,
        yaxis={
            "type": "log",
            "dtick": 1,
            "exponentformat": "power",
            "title": {"text": f"{task}, milliseconds", "standoff": 14},  # beyond the exponents
        },
        margin={"l": 72, "r": 64},
        shapes=[theme.line(x=result.params.context, colour=theme.GREY)],
        annotations=styles.end_names(
            ends,
            colours,
            gap=0.08 * (high - low),
            low=low,
            high=high,
            x=math.log10(contexts[-1]),
        ),
    )
