"""Rules that make a verdict of numbers, each with the words that say how.

A figure has two sides. Ours may fall short of the paper's, and it may lie beyond it: then something
else is at work than what the paper measured, and the claim is reproduced in part at the most.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Verdict = Literal["reproduced", "in part", "not reproduced", "not testable here"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

BEYOND = 1.1  # times a paper's figure: more is no longer that figure
FACTOR = 2.0  # times the size that a paper gives of an effect: more is another effect


@dataclass(frozen=True)
class Judged:
    """A verdict and why."""

    verdict: Verdict
    why: str


def beyond(ours: int | float, theirs: int | float, why: str, *, most: int | float = FACTOR) -> str:
    """Why ours, of which more is better, is more than the paper's; empty where it is not.

    Args:
        ours: measured here.
        theirs: the paper's, above 0.
        why: the reason, in words.
        most: times the paper's figure that count as this figure.
    """
    share = ours / theirs
    return f"{share:.0%} of the paper's figure, beyond {most:.0%}: {why}" if share > most else ""


def reached(
    ours: int | float,
    theirs: int | float,
    *,
    whole: int | float = 0.9,
    part: int | float = 0.5,
    why: str = "the settings differ",
) -> Judged:
    """Enough of a figure of which more is better.

    Args:
        ours: measured here.
        theirs: the paper's, above 0.
        whole: share of the paper's figure from which on it is reproduced, up to `BEYOND`.
        part: from which on it is so in part.
        why: the reason where it is more than that.
    """
    share = ours / theirs
    if more := beyond(ours, theirs, why, most=BEYOND):
        return Judged("in part", more)
    return Judged(
        _graded(share >= whole, share >= part),
        f"{share:.0%} of the paper's figure; reproduced from {whole:.0%} to {BEYOND:.0%}, "
        f"in part from {part:.0%}",
    )


def at_most(
    ours: int | float,
    theirs: int | float,
    *,
    whole: int | float = 1.1,
    part: int | float = 2.0,
    why: str = "the settings differ",
) -> Judged:
    """Little enough of a figure of which less is better; the arguments are those of `reached`."""
    share = ours / theirs
    if beyond(theirs, ours, why, most=BEYOND):
        return Judged(
            "in part", f"{share:.0%} of the paper's figure, less than {1 / BEYOND:.0%}: {why}"
        )
    return Judged(
        _graded(share <= whole, share <= part),
        f"{share:.0%} of the paper's figure; reproduced from {1 / BEYOND:.0%} to {whole:.0%}, "
        f"in part up to {part:.0%}",
    )


def alike(
    ours: int | float, theirs: int | float, *, whole: int | float, part: int | float
) -> Judged:
    """As near to the paper's figure as this, relatively, to either side."""
    apart = abs(ours / theirs - 1)
    return Judged(
        _graded(apart <= whole, apart <= part),
        f"{apart:.1%} from the paper's figure; reproduced within {whole:.1%}, "
        f"in part within {part:.1%}",
    )


def held(*conditions: tuple[str, bool], limit: str = "") -> Judged:
    """All of the conditions that a claim makes, some, or none.

    Args:
        conditions: each in words, and whether it holds.
        limit: why it can be reproduced in part at the most, where it can.
    """
    yes = [words for words, holds in conditions if holds]
    no = [words for words, holds in conditions if not holds]
    told = ["holds: " + ", ".join(yes)] if yes else []
    told += ["does not hold: " + ", ".join(no)] if no else []
    told += [limit] if limit else []
    return Judged(_graded(not no and not limit, bool(yes)), "; ".join(told))


def most(wins: int, pairs: int, *, whole: int | float = 0.95, part: int | float = 0.75) -> Judged:
    """One way ahead of another in nearly all pairs of runs that are alike in all else."""
    share = wins / pairs
    return Judged(
        _graded(share >= whole, share >= part),
        f"ahead in {wins} of {pairs} pairs; reproduced from {whole:.0%} on, "
        f"in part from {part:.0%}",
    )


def _graded(whole: bool, part: bool) -> Verdict:
    return "reproduced" if whole else "in part" if part else "not reproduced"
