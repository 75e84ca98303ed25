"""The contest as text: a table by task, and one by length, who was asked after and before apart.

print(by_task(results.contest(), 1024))
"""

from collections.abc import Iterator, Mapping

from .methods import METHODS, RATIOS, About
from .results import Contest, Score

GROUPS = {
    "–": "of their own size, whatever the budget",
    "after": "asked after: what stays was chosen before the question came",
    "before": "asked before: the question is known when what stays, or is read, is chosen",
}


def by_task(contest: Contest, n: int) -> str:
    """Share right over the ranked tasks and on each, with what is held, kept elsewhere and read."""
    tasks = contest.ranked(n)
    lines = [
        f"{n} tokens; left out: {', '.join(contest.left_out(n)) or 'none'}",
        f"{'method':19s}{'room':>5s}{'holds':>7s}{'elsewhere':>11s}{'reads':>7s}"
        f"{'mean':>7s}{'over seeds':>14s}" + "".join(f"{task:>8s}" for task in tasks),
    ]
    for group, rows in _groups().items():
        lines += ["", group]
        for method, about, ratio in rows:
            score = contest.score(method, ratio, n=n)
            if score is not None:
                sizes = contest.bytes_of(method, ratio, n=n) or (0.0, 0.0, 0.0)
                held, read, away = (f"{share:.0%}" for share in sizes)
                shares = [contest.share(task, n, method, ratio) or 0.0 for task in tasks]
                lines.append(
                    f"{about.label:19s}{_room(about, ratio):>5s}{held:>7s}{away:>11s}{read:>7s}"
                    f"{score.mean:>7.0%}{f'{score.low:.0%} to {score.high:.0%}':>14s}"
                    + "".join(f"{share:>8.0%}" for share in shares)
                )
    return "\n".join(lines)


def by_length(contests: Mapping[int, Contest]) -> str:
    """Mean over the ranked tasks with its range over seeds, and the codes alone, at each length."""
    lines = [
        f"{'':24s}{'mean, and over seeds':^54s}{'codes alone':^18s}",
        f"{'method':19s}{'room':>5s}"
        + "".join(f"{n:>18d}" for n in contests)
        + "".join(f"{n:>6d}" for n in contests),
    ]
    for group, rows in _groups().items():
        lines += ["", group]
        for method, about, ratio in rows:
            scores = [contest.score(method, ratio, n=n) for n, contest in contests.items()]
            if all(scores):
                codes = [c.share("exact", n, method, ratio) or 0.0 for n, c in contests.items()]
                lines.append(
                    f"{about.label:19s}{_room(about, ratio):>5s}"
                    + "".join(f"{_with_range(score):>18s}" for score in scores if score)
                    + "".join(f"{share:>6.0%}" for share in codes)
                )
    return "\n".join(lines)


def _groups() -> dict[str, list[tuple[str, About, int]]]:
    return {
        words: [row for row in _rows() if row[1].asked == asked] for asked, words in GROUPS.items()
    }


def _rows() -> Iterator[tuple[str, About, int]]:
    for method, about in METHODS.items():
        for ratio in RATIOS[:1] if about.own_size else RATIOS:
            yield method, about, ratio


def _room(about: About, ratio: int) -> str:
    return "any" if about.own_size else f"1/{ratio}"


def _with_range(score: Score) -> str:
    return f"{score.mean:.0%} ({score.low:.0%}–{score.high:.0%})"
