"""The tabs of the arena: accuracy against bytes, against time, and who fails where."""

import math
import textwrap
from collections.abc import Mapping

from intuitive.arena import results
from intuitive.arena.methods import METHODS, RATIOS
from intuitive.arena.results import ENOUGH, NAMES, Contest

from .. import theme
from ..kit import number, percent
from .styles import DRAWN, label, trace

SHARE = (-0.03, 1.1)
NAME = 0.042  # of the axis, from one name to the next
LINE = 92  # signs in a line of the sentences below the map


def shown_length(contest: Contest) -> int:
    """The longest texts on which there is something to rank."""
    return max(n for n in contest.lengths if contest.ranked(n))


def _points(
    contest: Contest, method: str, n: int, task: str | None
) -> list[tuple[int, float, tuple]]:
    """Budget, share right and bytes: of one task, or the mean of all that are ranked."""
    ratios = RATIOS[:1] if METHODS[method].own_size else RATIOS
    found = []
    for ratio in ratios:
        score, size = contest.score(method, ratio, n=n), contest.bytes_of(method, ratio, n=n)
        share = score and score.mean if task is None else contest.share(task, n, method, ratio)
        if share is not None and size is not None:
            found.append((ratio, share, size))
    return found


def _words(method: str, ratio: int, score: float, size: tuple) -> str:
    resident, read, elsewhere = size
    away = f", {percent(elsewhere)} elsewhere" * bool(elsewhere)
    return (
        f"{label(method)}, 1 in {ratio}: {percent(score)} right, holds {percent(resident)}, reads "
        f"{percent(read)}{away}"
    )


def memory_figure(
    which: int = 0, *, task: str | None = None, ratio: int = RATIOS[0]
) -> theme.Figure:
    """Share right against bytes: resident ones (0) or those read by each token (1).

    Args:
        which: place of these bytes in `Contest.bytes_of`.
        task: whose share, or None for the mean of all.
        ratio: the budget whose marks are strong.
    """
    contest = results.contest()
    n = shown_length(contest)
    traces, ends, notes = [], {}, []
    for method in DRAWN:
        points = _points(contest, method, n, task)
        if points:
            words = [_words(method, *point) for point in points]
            xs, ys = [size[which] for *_, size in points], [score for _, score, _ in points]
            strong = [METHODS[method].own_size or of == ratio for of, *_ in points]
            drawn = trace(method, xs, ys, words, strong)
            if method == "msa":  # no tick of the axis says its budgets
                drawn |= {"mode": "lines+markers+text", "text": _rooms(points, which)}
                above = ["top right", *["top center"] * (len(points) - 1)]  # clear of dense
                drawn |= {"textposition": above if which else "middle right"}
                drawn |= {"textfont": {"size": 12}}
                notes = [] if which else [_whole(points)]
            elif method == "dense" or not which:  # else as in the other plot, and named there
                ends[method] = max(zip(xs, ys, strict=True))
            traces.append(drawn)
    titles = (
        "bytes in memory, share of the dense cache (log)",
        "bytes read by each token, share (log)",
    )
    tasks = contest.ranked(n) if task is None else (task,)
    mean = "mean of " * (task is None)
    return theme.figure(
        traces,
        y=f"share right, {mean}{', '.join(NAMES[name] for name in tasks)}",
        y_range=SHARE,
        annotations=[*named(ends, whole="left" if which else "right"), *notes],
        xaxis={
            "type": "log", "title": {"text": titles[which], "standoff": 6},
            "tickvals": [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1], "range": [-1.35, 0.6],
            "ticktext": ["1/16", "1/8", "1/4", "1/2", "1"],
        },
    )  # fmt: skip


def _rooms(points: list[tuple[int, float, tuple]], which: int) -> list[str]:
    """MSA's name and the budget of each mark, written once for those that nearly coincide."""
    texts: list[str] = []
    first, name = 0, f"{label('msa')} "
    for place, (ratio, share, size) in enumerate(points):
        _, top, there = points[first]
        if place and size[which] == there[which] and abs(top - share) < NAME + 0.01:
            texts[first] += f", 1/{ratio}"
            texts.append("")
        else:
            first = place
            texts.append(f"{name * (not place)}1/{ratio}")
    return texts


def _whole(points: list[tuple[int, float, tuple]]) -> dict:
    """Why MSA stands to the right of everything."""
    heights = [share for _, share, _ in points]
    x = points[0][2][0]
    return {
        "text": f"holds {percent(x)}:<br>all entries, and<br>its index keys", "align": "left",
        "showarrow": False, "x": math.log10(x), "y": (min(heights) + max(heights)) / 2,
        "xanchor": "left", "xshift": 8, "font": {"size": 12},
    }  # fmt: skip


def named(ends: Mapping[str, tuple[float, float]], *, whole: str) -> list[dict]:
    """A name beside the end of each curve; names that would touch are moved apart.

    Args:
        ends: of the curves, by method.
        whole: the side of dense attention's name that its mark is on.
    """
    order = sorted(ends, key=lambda method: ends[method][1])
    heights, last = {}, -1.0
    for method in order:
        heights[method] = last = max(ends[method][1], last + NAME)
    last = SHARE[1]
    for method in order[::-1]:  # and none beyond the axis
        heights[method] = last = min(heights[method], last - NAME)
    return [
        {
            "text": label(method), "showarrow": False, "x": math.log10(x), "y": heights[method],
            **({"xanchor": "right", "xshift": -8} if (method, whole) == ("dense", "right") else
               {"xanchor": "left", "xshift": 8}),
            "font": {"size": 12},
        }
        for method, (x, _) in ends.items()
    ]  # fmt: skip


def time_figure(name: str = "ttft_ms", *, ratio: int = RATIOS[0]) -> theme.Figure:
    """Time to the first token ("ttft_ms"), or per token after it ("token_ms"), by method.

    Args:
        name: of the time.
        ratio: the budget whose marks are strong.
    """
    contest = results.contest()
    n = shown_length(contest)
    times = {
        method: [(r, t) for r in RATIOS if (t := contest.time(method, r, n=n)) is not None]
        for method in DRAWN[::-1]
    }
    traces = [
        trace(
            method,
            [getattr(time, name) for _, time in found],
            [label(method)] * len(found),
            [f"{label(method)}, 1 in {r}: {number(getattr(t, name))} ms" for r, t in found],
            [METHODS[method].own_size or r == ratio for r, _ in found],
        )
        for method, found in times.items()
        if found
    ]
    titles = {"ttft_ms": "ms until the first token", "token_ms": "ms for each token after it"}
    return theme.figure(
        traces,
        xaxis={"title": {"text": titles[name], "standoff": 6}, "rangemode": "tozero"},
        yaxis={"type": "category"},
        margin={"l": 140, "r": 20, "t": 12, "b": 50},
    )


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


def length_figure(ratio: int, *, task: str | None = None) -> theme.Figure:
    """Share right against the length of the texts, at one budget.

    Args:
        ratio: the budget.
        task: whose share, or None for the mean of all.
    """
    traces, ends = [], {}
    contests = results.by_length()
    for method in DRAWN:
        of = 4 if METHODS[method].own_size else ratio
        points = [(n, _points(contest, method, n, task)) for n, contest in contests.items()]
        found = [(float(n), share) for n, rows in points for r, share, _ in rows if r == of]
        if found:
            words = [f"{label(method)}, {number(n)} tokens: {percent(s)} right" for n, s in found]
            xs, ys = map(list, zip(*found, strict=True))
            traces.append(trace(method, xs, ys, words, [False] * len(xs)))
            ends[method] = found[-1]
    lengths = list(contests)
    tasks = contests[lengths[0]].ranked(lengths[0]) if task is None else (task,)
    mean = "mean of " * (task is None)
    return theme.figure(
        traces,
        y=f"share right, {mean}{', '.join(NAMES[name] for name in tasks)}",
        y_range=SHARE,
        annotations=named(ends, whole="left"),
        xaxis={
            "type": "log", "title": {"text": "tokens of the text (log)", "standoff": 6},
            "tickvals": lengths, "ticktext": [number(n) for n in lengths],
            "range": [math.log10(0.93 * lengths[0]), math.log10(1.75 * lengths[-1])],
        },
    )  # fmt: skip


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
