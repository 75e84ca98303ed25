"""The tabs of the arena: accuracy against bytes, against time, and who fails where."""

import textwrap

from intuitive.arena import results
from intuitive.arena.methods import METHODS, RATIOS
from intuitive.arena.results import ENOUGH, NAMES, Contest

from .. import theme
from ..kit import number, percent
from .styles import DRAWN, label, trace

SHARE = (-0.03, 1.1)
BELOW = {"showlegend": True, "legend": {"orientation": "h", "x": 0, "y": -0.24, "yanchor": "top"}}
LINE = 92  # signs in a line of the sentences below the map


def shown_length(contest: Contest) -> int:
    """The longest texts on which there is something to rank."""
    return max(n for n in contest.lengths if contest.ranked(n))


def _points(contest: Contest, method: str, n: int) -> list[tuple[int, float, tuple]]:
    ratios = RATIOS[:1] if METHODS[method].own_size else RATIOS
    found = []
    for ratio in ratios:
        score, size = contest.score(method, ratio, n=n), contest.bytes_of(method, ratio, n=n)
        if score is not None and size is not None:
            found.append((ratio, score.mean, size))
    return found


def _words(method: str, ratio: int, score: float, size: tuple) -> str:
    resident, read, elsewhere = size
    away = f", {percent(elsewhere)} elsewhere" * bool(elsewhere)
    return (
        f"{label(method)}, 1 in {ratio}: {percent(score)} right, holds {percent(resident)}, reads "
        f"{percent(read)}{away}"
    )


def memory_figure(which: int = 0) -> theme.Figure:
    """Share right against bytes: resident ones (0) or those read by each token (1)."""
    contest = results.contest()
    n = shown_length(contest)
    traces = []
    for method in DRAWN:
        points = _points(contest, method, n)
        if points:
            words = [_words(method, *point) for point in points]
            xs, ys = [size[which] for *_, size in points], [score for _, score, _ in points]
            traces.append(trace(method, xs, ys, words))
    titles = (
        "bytes in memory, share of the dense cache (log)",
        "bytes read by each token, share (log)",
    )
    return theme.figure(
        traces,
        y="share right",
        y_range=SHARE,
        xaxis={
            "type": "log", "title": {"text": titles[which], "standoff": 6},
            "tickvals": [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1], "range": [-1.35, 0.2],
            "ticktext": ["1/16", "1/8", "1/4", "1/2", "1"],
        },
        **BELOW,
    )  # fmt: skip


def read_figure() -> theme.Figure:
    """Share right against the bytes that each token reads."""
    return memory_figure(1)


def time_figure(name: str = "ttft_ms") -> theme.Figure:
    """Share right against time to the first token, or per token after it."""
    contest = results.contest()
    n = shown_length(contest)
    traces = []
    for method in DRAWN:
        points = [
            (ratio, score, getattr(time, name))
            for ratio, score, _ in _points(contest, method, n)
            if (time := contest.time(method, ratio, n=n)) is not None
        ]
        if points:
            words = [
                f"{label(method)}, 1 in {ratio}: {percent(score)} right, {number(ms)} ms"
                for ratio, score, ms in points
            ]
            xs, ys = [ms for *_, ms in points], [score for _, score, _ in points]
            traces.append(trace(method, xs, ys, words))
    titles = {
        "ttft_ms": "ms until the first token (log)",
        "token_ms": "ms for each token after it (log)",
    }
    return theme.figure(
        traces,
        y="share right",
        y_range=SHARE,
        xaxis={"type": "log", "title": {"text": titles[name], "standoff": 6}},
        **BELOW,
    )


def token_figure() -> theme.Figure:
    """Share right against the time of one token."""
    return time_figure("token_ms")


def fails_figure(ratio: int) -> theme.Figure:
    """Share right by method and task at one budget, a number in each cell."""
    contest = results.contest()
    n = shown_length(contest)
    tasks = contest.ranked(n)
    methods = taking_part(contest, ratio)[::-1]
    shares = [[contest.share(task, n, method, ratio) for task in tasks] for method in methods]
    texts = [["–" if s is None else percent(s) for s in row] for row in shares]
    heat = {
        "type": "heatmap",
        "z": shares,
        "x": [NAMES[task] for task in tasks],
        "y": [label(method) for method in methods],
        "text": texts,
        "texttemplate": "%{text}",
        "hoverinfo": "text",
        "zmin": 0,
        "zmax": 1,
        "colorscale": theme.ORDERED,
        "colorbar": {"title": {"text": "share right"}, "thickness": 12},
    }
    told = [f"<b>With room for one entry in {ratio}</b>"]
    for sentence in sentences(contest, ratio):
        told += textwrap.wrap(sentence, LINE)
    words = {
        "text": "<br>".join(told), "align": "left", "showarrow": False, "font": {"size": 12},
        "xref": "paper", "x": 0, "xanchor": "left", "xshift": -136,
        "yref": "paper", "y": 0, "yanchor": "top", "yshift": -34,
    }  # fmt: skip
    return theme.figure([heat], annotations=[words], margin={"l": 140, "r": 20, "t": 12, "b": 350})


def taking_part(contest: Contest, ratio: int) -> list[str]:
    """Methods that were measured at this budget."""
    n = shown_length(contest)
    tasks = contest.ranked(n)
    return [m for m in DRAWN if any(contest.of(t, n, m, ratio) for t in tasks)]


def about(contest: Contest) -> str:
    """Which tasks and texts the tabs speak of, from the record itself."""
    n = shown_length(contest)
    made = results.committed().made
    tasks = ", ".join(NAMES[task] for task in contest.ranked(n))
    out = ", ".join(NAMES[task] for task in contest.left_out(n))
    count = contest.questions(contest.ranked(n)[0], n)
    left = (
        f" Left out, since the dense model stays under {percent(ENOUGH)} there: {out}."
        if out
        else ""
    )
    return (
        f"Recorded by python {' '.join(made.command[:1])} on {made.device}: texts of {n} tokens, "
        f"{count} of each task ({tasks}).{left}"
    )


def sentences(contest: Contest, ratio: int) -> list[str]:
    """Who fails where and why, a sentence for each method of the map but dense."""
    n = shown_length(contest)
    return [contest.failing(m, ratio, n=n) for m in taking_part(contest, ratio) if m != "dense"]
