"""One failed rollout as figures: its loss by token, the pair ladder, the three-way comparison."""

from typing import Any

from intuitive.trd.experiments.trajectory import LEAST_MASS, Path, Rung, TrajectoryResult

from .. import theme
from ..kit import fixed
from .styles import CONTINUE, REPAIR, STUDENT, TEACHER, TRAJECTORY_NAMES, fade

TOPS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
MARKS = {  # colour and how the token is written, so that colour alone tells nothing
    "kept": (theme.GREY, "{}"),
    "wrong": (CONTINUE, "<s>{}</s>"),
    "follows": (CONTINUE, "<u>{}</u>"),
    "fixed": (REPAIR, "<b>{}</b>"),
    "moved": (TEACHER, "<i>{}</i>"),
}
MARK_NAMES = {"kept": "kept", "wrong": "wrong (struck)",
              "follows": "follows from it (underlined)", "fixed": "fixed (bold)",
              "moved": "in another place (italic)"}  # fmt: skip
CONTEXT_SHOWN = 5  # tokens of a rung's context that are written out


def loss_figure(result: TrajectoryResult, place: int, divergence: str) -> theme.Figure:
    """The charge of every token along y_o and along y_r; the first error and the place marked."""
    paths = (result.y_o, result.y_r)
    most = max(max(path.nats) for path in paths)
    top = next((top for top in TOPS if top > 1.02 * most), 1.05 * most)
    low = min(0.0, *(min(path.nats) for path in paths))
    longest = max(len(path.nats) for path in paths)
    layout = theme.columns(
        [TRAJECTORY_NAMES[path.name] for path in paths], x="", x_range=(-0.6, longest - 0.4)
    )
    traces = []
    for column, path in enumerate(paths):
        error = result.y_o.first_error
        colour = CONTINUE if path.name == "y_o" else REPAIR
        faded = path.name == "y_o" and error is not None
        traces.append(
            {
                "type": "bar",
                "x": list(range(len(path.nats))),
                "y": list(path.nats),
                "marker": {
                    "color": [
                        fade(colour, 0.45 if faded and i <= error else 1)
                        for i in range(len(path.nats))
                    ]
                },
                "width": 0.72,
                "xaxis": theme.x_axis(column),
                "hovertemplate": "%{y:.3f} nats<extra></extra>",
            }
        )
        axis = layout[theme.x_axis(column).replace("x", "xaxis")]
        axis |= {
            "tickvals": list(range(len(path.tokens))),
            "ticktext": list(path.tokens),
            "tickangle": 0 if longest <= 13 else -60,
            "ticklabeloverflow": "allow",
            "showgrid": False,
            "zeroline": False,
        }
    shapes = [theme.line(x=place, colour=STUDENT, dash="dash")]
    if result.y_o.first_error is not None:
        shapes.append(theme.line(x=result.y_o.first_error, colour=CONTINUE))
        layout["annotations"].append(
            {
                "text": "first error",
                "x": result.y_o.first_error,
                "xref": "x",
                "xanchor": "right" if result.y_o.first_error > 1 else "left",
                "y": 0.98,
                "yref": "paper",
                "yanchor": "top",
                "showarrow": False,
            }
        )
    return theme.figure(
        traces,
        y=f"{divergence}, nats",
        y_range=(low * 1.05, top),
        shapes=shapes,
        margin={"b": 40 if longest <= 13 else 60},
        **layout,
    )


def ladder_figure(result: TrajectoryResult, place: int) -> theme.Figure:
    """What a repair needs and what OPD supplies, one rung under the other; shared ones are lit."""
    rungs = result.ladder
    shapes, notes = [], []
    headings = (
        "the repair needs:<br>context → next token",
        "OPD supplies:<br>context → teacher's token",
    )
    for row, rung in enumerate(rungs):
        for column, (context, target) in enumerate(
            ((rung.context, rung.target), (rung.opd_context, rung.opd_target))
        ):
            colour = REPAIR if rung.shared or column == 0 else CONTINUE
            here = column == 1 and result.onset_at + row == place
            shapes.append(
                {
                    "type": "rect",
                    "x0": column + 0.01,
                    "x1": column + 0.93,
                    "y0": row - 0.42,
                    "y1": row + 0.42,
                    "fillcolor": fade(colour, 0.5 if rung.shared else 0.1),
                    "line": {
                        "color": STUDENT if here else colour,
                        "width": 2.5 if here else 1,
                        "dash": "dash" if here else "solid",
                    },
                }
            )
            text = f"{_context(context)} → <b>{target}</b>"
            if column == 1 and not target:
                text = "the rollout has ended"
            if column == 1 and rung.onset_mass >= LEAST_MASS:
                text = f"{_context(context)}<br>→ <b>WAIT</b> {fixed(rung.onset_mass)}"
                text += "" if target == "WAIT" else f", else {target}"
            notes.append(_text(text, column + 0.04, row, xanchor="left", align="left"))
        notes.append(_text("=" if rung.shared else "≠", 0.97, row, xanchor="center"))
    notes += [
        _text(f"<b>{heading}</b>", column + 0.02, -0.9, xanchor="left", align="left")
        for column, heading in enumerate(headings)
    ]
    hidden = {"visible": False}
    return theme.figure(
        [{"type": "scatter", "x": [0], "y": [0], "mode": "markers", "marker": {"opacity": 0},
          "hoverinfo": "skip"}],
        x_range=(0, 1.95),
        y_range=(len(rungs) - 0.4, -1.3),
        shapes=shapes,
        annotations=notes,
        margin={"l": 8, "r": 8, "t": 6, "b": 6},
        xaxis=hidden,
        yaxis=hidden,
    )  # fmt: skip


def _context(tokens: tuple[str, ...]) -> str:
    """c is the rollout up to the onset; long contexts lose their middle."""
    if len(tokens) > CONTEXT_SHOWN:
        tokens = (tokens[0], "…", *tokens[-CONTEXT_SHOWN + 1 :])
    return " ".join(("c", *tokens))


def _text(text: str, x: int | float, y: int | float, **where: Any) -> dict[str, Any]:
    return {
        "text": text,
        "x": x,
        "y": y,
        "xref": "x",
        "yref": "y",
        "showarrow": False,
        "font": {"size": 13},
        **where,
    }


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
        margin={"l": 190, "b": 10, "t": 40},
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


def shared_rungs(ladder: tuple[Rung, ...]) -> int:
    """How many of the pairs that a repair needs stand in OPD's data as well."""
    return sum(rung.shared for rung in ladder)
