"""The three texts of one attempt under one another: y_o, its rewrite, the teacher's own."""

from typing import Any

from intuitive.trd.experiments.trajectory import Path, TrajectoryResult

from .. import theme
from ..kit import fixed
from .styles import CONTINUE, REPAIR, TEACHER, fade

MARKS = {  # colour and how the token is written, so that colour alone tells nothing
    "kept": (theme.GREY, "{}"),
    "wrong": (CONTINUE, "<s>{}</s>"),
    "follows": (CONTINUE, "<u>{}</u>"),
    "fixed": (REPAIR, "<b>{}</b>"),
    "moved": (TEACHER, "<i>{}</i>"),
}
MARK_NAMES = {"kept": "kept", "wrong": "wrong (struck)",
              "follows": "follows (underlined)", "fixed": "fixed (bold)",
              "moved": "moved (italic)"}  # fmt: skip


def diff_figure(result: TrajectoryResult) -> theme.Figure:
    """The three trajectories under one another, marked by what became of y_o's steps."""
    paths = (result.y_o, result.y_r, result.y_t)
    longest = max(len(path.tokens) for path in paths)
    size = 34 if longest <= 16 else 19
    traces = []
    for mark, (colour, form) in MARKS.items():
        found = [
            (place, row, form.format(path.tokens[place]))
            for row, path in enumerate(paths)
            for place, given in enumerate(path.marks)
            if given == mark
        ]
        traces.append(_squares(found, colour, MARK_NAMES[mark], size))
    rest = [
        (place, row, path.tokens[place])
        for row, path in enumerate(paths)
        for place, given in enumerate(path.marks)
        if not given
    ]
    traces.append(_squares(rest, "", "", size))
    return theme.figure(
        traces,
        x_range=(-0.7, longest - 0.3),
        y_range=(2.5, -0.5),
        showlegend=True,
        legend={"itemsizing": "constant"},
        margin={"l": 190, "b": 10, "t": 64},
        xaxis={"visible": False},
        yaxis={
            "tickvals": [0, 1, 2],
            "ticktext": [_row(path) for path in paths],
            "showgrid": False,
            "showline": False,
            "zeroline": False,
            "ticks": "",
        },
    )


def _row(path: Path) -> str:
    end = "right" if path.correct else "wrong"
    return f"<b>{path.name.replace('y_t', 'y_T')}</b> {end}, NLL {fixed(path.mean_nll)}"


def _squares(
    found: list[tuple[int, int, str]], colour: str, name: str, size: int
) -> dict[str, Any]:
    outline = {"color": colour, "width": 2} if colour else {"width": 0}
    return {
        "type": "scatter",
        "x": [x for x, _, _ in found],
        "y": [y for _, y, _ in found],
        "text": [text for _, _, text in found],
        "mode": "markers+text",
        "textposition": "middle center",
        "textfont": {"size": 14 if size > 20 else 11},
        "marker": {
            "symbol": "square",
            "size": size,
            "color": fade(colour, 0.25) if colour else "rgba(0,0,0,0)",
            "line": outline,
        },
        "name": name,
        "showlegend": bool(name),
        "hoverinfo": "skip",
    }
