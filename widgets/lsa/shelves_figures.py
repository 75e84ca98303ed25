"""The tabs of "Two shelves": residency over time, the arms compared, and copying against time."""

from itertools import pairwise

import numpy as np

from intuitive.lsa.cost import transfer_ms
from intuitive.lsa.experiments.measures import Measures
from intuitive.lsa.experiments.memory import wait_ms

from .. import theme
from ..kit import fixed, number, percent
from . import styles
from .shelves_words import counted, size_text

CLEAR, ALWAYS, LIFTED = "rgba(0,0,0,0)", "rgba(47,148,204,0.30)", "rgba(26,128,192,0.8)"
COMPARED = ("oracle", "lsa", "quest", "random", "recency", "reactive", "everything")
FADED = 0.45
LAYERS = 30  # of SmolLM2
LEAST_MS = 1e-3  # of the axis of times
MOST_TOLD = 6  # cycles that have their time over their bars, or their steps below


def residency_figure(measures: Measures) -> theme.Figure:
    """What is on the GPU at each step, and which of it was needed."""
    residency, recording = measures.residency, measures.recording
    resident, evictable = residency.resident.numpy(), residency.evictable.numpy()
    levels = resident.astype(np.uint8) + (resident & evictable)
    traces: list[dict] = [
        {
            "type": "heatmap",
            "z": levels.T,
            "x0": 0,
            "dx": 1,
            "y0": 0,
            "dy": 1,
            "zmin": 0,
            "zmax": 2,
            "colorscale": [
                *([0, CLEAR], [0.33, CLEAR], [0.34, ALWAYS]),
                *([0.66, ALWAYS], [0.67, LIFTED], [1, LIFTED]),
            ],
            "showscale": False,
            "hoverinfo": "skip",
        }
    ]
    marks = (
        ("found", residency.hit.numpy() & evictable, styles.FOUND, "circle", 5),
        ("missed", residency.missed.numpy() & evictable, styles.MISSED, "x", 6),
    )
    for name, at, colour, symbol, size in marks:
        steps, chunks = np.nonzero(at)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": steps.astype(np.int32),
                "y": chunks.astype(np.int32),
                "marker": {"color": colour, "symbol": symbol, "size": size},
                "hovertemplate": f"step %{{x}}, chunk %{{y}}: needed, {name}<extra></extra>",
            }
        )
    without = measures.policy.arm in ("reactive", "everything")
    triggers = [] if without else residency.triggers.tolist()
    notes = [
        ("triggers", triggers[0] if triggers else 0, 1.0, styles.SCORE),
        ("newest, always here", recording.n_steps, None, "#2F94CC"),
    ]
    top = recording.n_chunks
    return theme.figure(
        traces,
        x="step (one token each)",
        y="chunk, oldest at the bottom",
        x_range=(-0.5, recording.n_steps - 0.5),
        y_range=(-0.5, top + 0.5),
        shapes=[theme.line(x=step - 0.5, colour=styles.SCORE) for step in triggers],
        annotations=[
            {
                "text": text,
                "x": x,
                "y": 1.0 if y else top - 2,
                "yref": "paper" if y else "y",
                "xanchor": "left" if y else "right",
                "yanchor": "bottom" if y else "top",
                "showarrow": False,
                "font": {"color": colour, "size": 13},
            }
            for text, x, y, colour in (notes if triggers else notes[1:])
        ],
    )


def residency_until(measures: Measures, step: int, *, waits: bool) -> theme.Figure:
    """What lies over the residency while the hero is at a step: the steps that it has not shown."""
    edge, last = step - 0.5 if waits else step + 0.5, measures.recording.n_steps - 0.5
    cover = {"type": "rect", "x0": edge, "x1": last, "yref": "paper", "y0": 0, "y1": 1}
    cover |= {"fillcolor": "page", "line": {"width": 0}}
    now = {"type": "line", "x0": edge, "x1": edge, "yref": "paper", "y0": 0, "y1": 1}
    now |= {"line": {"width": 2, "color": theme.GREY}}
    return {"layout": {"shapes": [cover, now]}}


def arms_figure(measures: Measures) -> theme.Figure:
    """Attention found by two counts, memory and bytes by every arm; the chosen one is strong."""
    names = [styles.SHORT_NAMES[arm] for arm in COMPARED]
    arms = [measures.arms[arm] for arm in COMPARED]
    found = [100 * arm.found_share for arm in arms]
    of_all = [100 * arm.residency.mass_recall for arm in arms]
    moved = [arm.bytes_per_token for arm in arms]
    memory = [100 * arm.memory_share for arm in arms]
    strong = [1.0 if arm == measures.policy.arm else FADED for arm in COMPARED]
    parts = (
        (found, styles.FOUND, [percent(value / 100) for value in found]),
        (of_all, styles.FOUND, [percent(value / 100) for value in of_all]),
        (memory, styles.RESIDENT, [percent(value / 100) for value in memory]),
        ([value / 1e6 for value in moved], styles.MOVED, [size_text(value) for value in moved]),
    )
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "x": values,
            "y": names,
            "text": texts,
            "textposition": "outside",
            "cliponaxis": False,
            "marker": {"color": colour, "opacity": strong},
            "xaxis": theme.x_axis(place),
            "hoverinfo": "skip",
        }
        for place, (values, colour, texts) in enumerate(parts)
    ]
    headings = [
        "found, of what<br>is needed",
        "found, of all<br>attention",
        "memory<br>on the GPU",
        "copied<br>per token",
    ]
    columns = theme.columns(headings, x="", x_range=(0, 140), gap=0.04)
    columns["xaxis4"]["range"] = (0, 1.6 * max(*(value / 1e6 for value in moved), 1e-6))
    for place, title in enumerate(("%", "%", "%", "MB")):
        columns[theme.x_axis(place).replace("x", "xaxis")]["title"] = {"text": title, "standoff": 6}
    return theme.figure(
        traces,
        margin={"l": 132, "t": 48},
        yaxis={"autorange": "reversed", "type": "category"},
        **columns,
    )


def copies_figure(measures: Measures, link: float, step_ms: float) -> theme.Figure:
    """Time on the link in each cycle, beside the time that the cycle computes for."""
    policy, moved = measures.policy, measures.moved
    edges = [*range(0, measures.recording.n_steps, policy.lookahead), measures.recording.n_steps]
    copied = [int(moved[a:b].sum()) * measures.chunk_bytes for a, b in pairwise(edges)]
    times = [transfer_ms(size, link) for size in copied]
    compute = [(b - a) * step_ms for a, b in pairwise(edges)]
    n_waits = sum(size > 0 for size in copied)
    told_of = counted(n_waits, "wait")
    names = [f"{a}–{b - 1}" for a, b in pairwise(edges)]
    every = -(-len(names) // MOST_TOLD)
    worst = max(share for share in (t / c for t, c in zip(times, compute, strict=True)))
    told = f"copying takes {percent(worst, 1)} of the computing at most, {told_of} at most"
    bars = [
        (
            f"copying at {fixed(link, 0)} GB/s",
            [max(value, LEAST_MS) for value in times],
            [number(time, 2, unit="ms") if time else "nothing" for time in times],
            styles.MOVED,
        ),
        (
            "computing" if every == 1 else f"computing, {number(compute[0], unit='ms')} a cycle",
            compute,
            [number(value, unit="ms") for value in compute],
            styles.AWAY,
        ),
    ]
    if policy.arm == "reactive":
        n_waits = measures.recording.n_steps * LAYERS
        told = (
            f"{n_waits:,} waits, one for each token and layer; "
            f"the copying takes {percent(worst, 1)} of the computing"
        )
        if (wait := wait_ms()) is not None:
            stands = [(b - a) * LAYERS * wait for a, b in pairwise(edges)]
            texts = [number(value, 2, unit="ms") for value in stands]
            bars.insert(1, ("waiting", stands, texts, styles.MISSED))
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": names,
            "y": values,
            "text": texts if every == 1 else None,
            "textposition": "outside",
            "textangle": 0,
            "constraintext": "none",
            "cliponaxis": False,
            "marker": {"color": colour},
            "hoverinfo": "skip",
        }
        for name, values, texts, colour in bars
    ]
    top = max(max(values) for _, values, _, _ in bars)
    return theme.figure(
        traces,
        x="steps of the cycle",
        y="milliseconds",
        y_range=(np.log10(LEAST_MS), np.log10(top) + 0.8),
        yaxis={"type": "log", "dtick": 1},
        xaxis={"type": "category", "tickvals": names[::every], "tickangle": 0},
        barmode="group",
        showlegend=True,
        title={"text": told, "x": 0, "xref": "paper", "font": {"size": 14}},
        margin={"t": 62},
    )
