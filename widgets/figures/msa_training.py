"""Training runs as figures: curves of all arms, and what one arm selects at one step."""

import numpy as np
import plotly.graph_objects as go

from intuitive.msa.recall import RecallRun, Snapshot
from intuitive.msa.task import ARMS

from .. import theme
from .msa import READ

STYLES = {  # one arm, one colour, one dash
    "dense": (theme.GREY, "solid"),
    "msa_warmup": (theme.BLUE, "solid"),
    "msa": (theme.GREEN, "dash"),
    "msa_untrained": (theme.VERMILION, "dot"),
    "window": (theme.PURPLE, "dashdot"),
}
MEASURES = {  # of held-out sequences: label and limits of the axis
    "accuracy": ("accuracy", (0, 1.02)),
    "kl": ("KL to the main attention (nats)", (0, 1.5)),
    "mass_captured": ("mass captured, all tokens", (0, 1.02)),
    "mass_at_queries": ("mass captured, at questions", (0, 1.02)),
    "block_recall": ("block recall", (0, 1.02)),
    "needle_selected": ("answer's block selected", (0, 1.02)),
    "teacher_entropy": ("entropy of the main attention (nats)", (0, 5)),
    "loss": ("loss (nats)", (0, 4)),
}


def by_arm(runs: tuple[RecallRun, ...]) -> dict[str, list[RecallRun]]:
    """The runs of every arm, in the order of the arms."""
    return {arm: [run for run in runs if run.config.arm == arm] for arm in ARMS}


def curves_figure(runs: tuple[RecallRun, ...], measure: str, arm: str, step: int) -> go.Figure:
    """One measure over steps for every arm: mean over seeds, band from least to greatest."""
    label, limits = MEASURES[measure]
    traces = []
    for name, of_arm in by_arm(runs).items():
        if not of_arm or of_arm[0].curve(measure)[0] is None:
            continue
        colour, dash = STYLES[name]
        steps = of_arm[0].steps
        table = np.array([run.curve(measure) for run in of_arm], dtype=float)  # [seeds, steps]
        edge = np.concatenate([table.max(0), table.min(0)[::-1]])
        traces.append(
            {
                "type": "scatter",
                "x": [*steps, *steps[::-1]],
                "y": edge,
                "mode": "lines",
                "line": {"width": 0},
                "fill": "toself",
                "fillcolor": colour,
                "opacity": 0.15,
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
        traces.append(
            {
                "type": "scatter",
                "x": list(steps),
                "y": table.mean(0),
                "mode": "lines",
                "line": {"color": colour, "dash": dash, "width": 3.5 if name == arm else 2},
                "name": ARMS[name].title,
            }
        )
    return theme.figure(
        traces,
        x="training step",
        y=label,
        x_range=(0, max(runs[0].steps)),
        y_range=limits,
        showlegend=True,
        margin={"t": 76},
        shapes=[theme.line(x=step, colour=theme.PURPLE)],
    )


def maps_figure(snapshot: Snapshot) -> go.Figure:
    """Where the main attention lies and what is read, group beside group, on one sequence."""
    teacher, selected = snapshot.teacher(), snapshot.selected()
    traces, headings = [], []
    for group in range(len(teacher)):
        for kind, values, scale, top in (
            ("attention", teacher[group], theme.ORDERED, 0.5),
            (
                "read",
                selected[group].astype(np.uint8),
                [[0, "rgba(150,150,150,0.2)"], [1, READ]],
                1,
            ),
        ):
            traces.append(
                {
                    "type": "heatmap",
                    "z": values,
                    "zmin": 0,
                    "zmax": top,
                    "colorscale": scale,
                    "showscale": False,
                    "xaxis": theme.x_axis(len(headings)),
                    "hovertemplate": "query %{y}, block %{x}: %{z:.2f}<extra></extra>",
                }
            )
            headings.append(f"group {group}: {kind}")
    n, n_blk = teacher.shape[1:]
    return theme.figure(
        traces,
        y="query position",
        y_range=(n - 0.5, -0.5),
        yaxis={"showgrid": False},
        **theme.columns(headings, x="key block", x_range=(-0.5, n_blk - 0.5), gap=0.02),
    )
